"""Rows of packs/ as batches of tensors, in the order in which they were written.

The Arrow files are memory-mapped and the tensors are views of them: nothing is copied, except for the rows of a batch
that spans two record batches. The tensors are therefore read-only; a write into one would end the process.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import torch
from torch import Tensor

from filters.errors import DataError
from mixtures.shards import read_shards

_COLUMNS = {
    "tokens": pa.list_(pa.int32()),
    "loss": pa.list_(pa.float32()),
    "segments": pa.list_(pa.int32()),
    "positions": pa.list_(pa.int32()),
}


@dataclass(frozen=True, slots=True, eq=False)
class Batch:
    """Packed rows.

    Attributes:
        tokens: (rows, length) int32 token ids.
        loss: (rows, length) float32; the weight with which the token at a position is predicted, 0 for input,
            padding and the first token of a segment.
        segments: (rows, length) int32; 0 = padding, else the number of the example in its row, from 1.
        positions: (rows, length) int32; from 0 in each segment.
    """

    tokens: Tensor
    loss: Tensor
    segments: Tensor
    positions: Tensor

    def rows(self, start: int, stop: int) -> Batch:
        """The rows from ``start`` to before ``stop``."""
        part = slice(start, stop)
        return Batch(self.tokens[part], self.loss[part], self.segments[part], self.positions[part])

    def to(self, device: torch.device) -> Batch:
        """The same rows on a device."""
        return Batch(*(x.to(device, non_blocking=True) for x in self._columns()))

    def _columns(self) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        return self.tokens, self.loss, self.segments, self.positions


def read_batches(
    packs: Path | str | pa.Table, *, tokens_per_step: int, steps: int, vocab_size: int, epochs: int = 1
) -> Iterator[Batch]:
    """Batch after batch of ``tokens_per_step // length`` rows, from the first row on; every row is checked.

    Args:
        packs: the packs/ directory of a mixture, or its table.
        tokens_per_step: tokens of a batch, padding included.
        steps: number of batches.
        vocab_size: token ids must be below it.
        epochs: how often a row may be used. After the last row comes the first again, also inside a batch.

    Raises:
        DataError: too few rows, rows of unequal length, or a row that breaks the contract of packs (at once for what
            concerns all rows, else when its batch is reached).
    """
    table = packs if isinstance(packs, pa.Table) else read_shards(Path(packs))
    length = pack_length(table)
    rows = tokens_per_step // length
    if rows == 0:
        raise DataError(
            f"packs: rows are {length} tokens long, a step is {tokens_per_step}; allowed: tokens_per_step of {length} "
            f"or more, or packs of shorter rows"
        )
    if steps * rows > table.num_rows * epochs:
        raise DataError(
            f"packs: {table.num_rows} rows of {length} tokens give {table.num_rows * epochs // rows} steps of {rows} "
            f"rows in {epochs} epochs; the recipe asks for {steps}. Build a larger mixture, or ask for fewer steps or "
            f"more epochs"
        )
    return _batches(table, rows=rows, steps=steps, length=length, vocab_size=vocab_size)


def pack_length(packs: pa.Table) -> int:
    """The number of tokens in every row.

    Raises:
        DataError: no rows, a missing column or another type, or rows of different lengths.
    """
    for name, expected in _COLUMNS.items():
        if name not in packs.column_names or packs.schema.field(name).type != expected:
            found = packs.schema.field(name).type if name in packs.column_names else "no such column"
            raise DataError(f"packs: column {name}: {found}; allowed: {expected}. Build the mixture again")
        if packs.column(name).null_count:
            raise DataError(f"packs: column {name}: {packs.column(name).null_count} nulls; allowed: none")
    if packs.num_rows == 0:
        raise DataError("packs: no rows; allowed: at least one. Build the mixture with a larger budget")
    length = len(packs.column("tokens")[0])
    for name in _COLUMNS:
        start = 0
        for chunk in packs.column(name).chunks:
            if len(chunk) == 0:
                continue
            lengths = torch.from_dlpack(chunk.value_lengths())
            if bool((lengths != length).any()):
                row = int((lengths != length).nonzero()[0])
                raise DataError(
                    f"packs: row {start + row}, column {name}: {int(lengths[row])} values; allowed: {length}, as in "
                    f"row 0. Build the mixture again with one pack length"
                )
            start += len(chunk)
    if length == 0:
        raise DataError("packs: rows of 0 tokens; allowed: 1 or more. Build the mixture again")
    return length


def _batches(table: pa.Table, *, rows: int, steps: int, length: int, vocab_size: int) -> Iterator[Batch]:
    for step in range(steps):
        start = step * rows % table.num_rows
        taken = table.slice(start, rows)
        while taken.num_rows < rows:  # the next epoch begins inside this batch
            taken = pa.concat_tables([taken, table.slice(0, rows - taken.num_rows)])
        batch = Batch(*(_tensor(taken.column(name), length) for name in _COLUMNS))
        _check(batch, first_row=start, rows_in_packs=table.num_rows, vocab_size=vocab_size)
        yield batch


def _tensor(column: pa.ChunkedArray, length: int) -> Tensor:
    chunks = [chunk.flatten() for chunk in column.chunks if len(chunk)]
    values = chunks[0] if len(chunks) == 1 else pa.concat_arrays(chunks)
    # DLPack hands over the mapped memory as it is; from_numpy would warn that it is read-only
    return torch.from_dlpack(values).view(-1, length)


def _check(batch: Batch, *, first_row: int, rows_in_packs: int, vocab_size: int) -> None:
    """Refuse rows that would train wrongly without an error: see each message."""
    tokens, loss, segments, positions = batch._columns()
    before, after = segments[:, :-1], segments[:, 1:]
    same = before == after
    first = torch.ones_like(segments, dtype=torch.bool)  # the first token of a segment
    first[:, 1:] = ~same
    follows = same | ((before > 0) & ((after == before + 1) | (after == 0)))
    expected = torch.zeros_like(positions)
    expected[:, 1:] = torch.where(same, positions[:, :-1] + 1, 0)
    faults = {
        f"its token id is outside the vocabulary of {vocab_size}": (tokens < 0) | (tokens >= vocab_size),
        "its segment is out of order; allowed: 1, 2, 3, ... and then padding (0)": torch.cat(
            [(segments[:, :1] != 0) & (segments[:, :1] != 1), ~follows], dim=1
        ),
        "its position does not count from 0 in its segment": (positions != expected) & (segments > 0),
        "its loss weight is not a finite number of 0 or more": ~(loss >= 0) | loss.isinf(),
        "it has a loss weight, but is padding or the first of its segment": (loss != 0)
        & (first | (segments == 0)),
    }
    for what, where in faults.items():
        if bool(where.any()):
            row, position = where.nonzero()[0].tolist()
            raise DataError(
                f"packs: row {(first_row + row) % rows_in_packs}, position {position}: {what}. Build the mixture again, "
                f"with the tokenizer of the model"
            )
