"""Whole examples packed into rows of a fixed length, window by window.

        tokens    b i i t t e | b i t e | b i i i t e | . .         b bos, i input, t target, e eos, . padding
        loss      0 0 0 1 1 1   0 0 1 1   0 0 0 0 1 1   0 0         weight with which the token AT a position is predicted
        segments  1 1 1 1 1 1   2 2 2 2   3 3 3 3 3 3   0 0
        positions 0 1 2 3 4 5   0 1 2 3   0 1 2 3 4 5   0 0

A *window* is 1,024 consecutive indices of the plan, and windows are packed apart from each other. So rows can be made in
parallel, any window can be made again on its own, and the state of a run is one number. Inside a window the algorithm
is best-fit decreasing (Johnson 1973): longest example first, each into the fullest row that still has room. On lengths
like those of instruction data it fills 99.7% of the tokens at this window, where packing in order of arrival fills 79%.
Rows, and the examples inside a row, are put back into the order of the plan. An example is never split, cut or dropped.
The refs of a row name its examples: of a piece of a document, ``source`` and ``id`` (``<id>@k``) lead to the document.

Price: about 0.6 microseconds an example to place, and one pass of NumPy over the tokens to fill the rows.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa

WINDOW = 1024

REFS = pa.list_(
    pa.struct(
        [
            pa.field("segment", pa.int32()),
            pa.field("leaf", pa.string()),
            pa.field("source", pa.string()),
            pa.field("id", pa.string()),
            pa.field("row", pa.int64()),
            pa.field("epoch", pa.int32()),
            pa.field("template", pa.string()),
            pa.field("variant", pa.string()),
            pa.field("index", pa.int64()),
        ]
    )
)
PACKS = pa.schema(
    [
        pa.field("tokens", pa.list_(pa.int32())),
        pa.field("loss", pa.list_(pa.float32())),
        pa.field("segments", pa.list_(pa.int32())),
        pa.field("positions", pa.list_(pa.int32())),
        pa.field("refs", REFS),
    ]
)


@dataclass(frozen=True, slots=True)
class Packed:
    """Rows of one length; every array is (rows, length), 0 where a row is empty.

    Attributes:
        tokens: int32.
        loss: float32, 0 on padding and on what is given rather than predicted.
        segments: int32, 1 for the first example of a row, 2 for the second; 0 is padding.
        positions: int32, from 0 in every segment.
        order: (examples,) int64, the examples in the order of rows and segments.
        row, segment: (examples,) int64 and int32, where each of ``order`` lies.
    """

    tokens: npt.NDArray[np.int32]
    loss: npt.NDArray[np.float32]
    segments: npt.NDArray[np.int32]
    positions: npt.NDArray[np.int32]
    order: npt.NDArray[np.int64]
    row: npt.NDArray[np.int64]
    segment: npt.NDArray[np.int32]


def assign_rows(lengths: Sequence[int] | npt.NDArray[np.integer], length: int) -> npt.NDArray[np.int64]:
    """The row of each example of one window, by best-fit decreasing; rows are numbered by their first example.

    Args:
        lengths: tokens of each example, each in [1, length].
        length: tokens of a row.

    Raises:
        ValueError: an example does not fit.

    >>> assign_rows([6, 5, 4, 2], 10).tolist()
    [0, 1, 0, 1]
    """
    sizes = np.asarray(lengths, dtype=np.int64)
    if len(sizes) and not 1 <= int(sizes.min()) <= int(sizes.max()) <= length:
        raise ValueError(
            f"examples of {sizes.min()} to {sizes.max()} tokens; a row holds 1 to {length}, never a part of one"
        )
    # A row with room is one integer, room * 2**32 + number, in a sorted list: the fullest that fits is one bisection.
    rooms: list[int] = []
    row_of = [0] * len(sizes)
    n_rows = 0
    by_size = np.argsort(-sizes, kind="stable")
    for example, size in zip(by_size.tolist(), sizes[by_size].tolist(), strict=True):
        at = bisect_left(rooms, size << 32)
        if at < len(rooms):
            room, row = divmod(rooms.pop(at), 1 << 32)
        else:
            room, row = length, n_rows
            n_rows += 1
        row_of[example] = row
        if room > size:
            insort(rooms, (room - size) << 32 | row)
    rows = np.array(row_of, dtype=np.int64)
    _, first = np.unique(rows, return_index=True)
    number = np.empty(n_rows, dtype=np.int64)
    number[np.argsort(first)] = np.arange(n_rows)
    return number[rows]


def pack(
    tokens: npt.NDArray[np.int32],
    loss: npt.NDArray[np.float32],
    offsets: npt.NDArray[np.integer],
    *,
    length: int,
    pad: int = 0,
    window: int = WINDOW,
) -> Packed:
    """Pack consecutive examples of the plan, the first of which begins a window.

    Args:
        tokens, loss: of all examples, end to end.
        offsets: (examples + 1,), where each example begins.
        length: tokens of a row.
        pad: the token id of padding.
        window: how many examples are packed together.

    >>> packed = pack(np.arange(1, 7, dtype=np.int32), np.ones(6, np.float32), np.array([0, 4, 6]), length=8)
    >>> packed.tokens.tolist(), packed.segments.tolist()
    ([[1, 2, 3, 4, 5, 6, 0, 0]], [[1, 1, 1, 1, 2, 2, 0, 0]])
    """
    starts = np.asarray(offsets, dtype=np.int64)
    lengths = np.diff(starts)
    rows = np.empty(len(lengths), dtype=np.int64)
    n_rows = 0
    for lo in range(0, len(lengths), window):
        placed = assign_rows(lengths[lo : lo + window], length)
        rows[lo : lo + window] = placed + n_rows
        n_rows += int(placed.max()) + 1

    order = np.argsort(rows, kind="stable")
    row, size = rows[order], lengths[order]
    ends = np.cumsum(size)
    first_of_row = np.searchsorted(row, np.arange(n_rows))
    segment = (np.arange(len(order)) - first_of_row[row] + 1).astype(np.int32)
    column = (ends - size) - (ends - size)[first_of_row][row]

    position = np.arange(int(size.sum())) - np.repeat(ends - size, size)
    source = np.repeat(starts[:-1][order], size) + position
    target = np.repeat(row * length + column, size) + position
    filled = Packed(
        tokens=np.full((n_rows, length), pad, dtype=np.int32),
        loss=np.zeros((n_rows, length), dtype=np.float32),
        segments=np.zeros((n_rows, length), dtype=np.int32),
        positions=np.zeros((n_rows, length), dtype=np.int32),
        order=order,
        row=row,
        segment=segment,
    )
    filled.tokens.reshape(-1)[target] = tokens[source]
    filled.loss.reshape(-1)[target] = loss[source]
    filled.segments.reshape(-1)[target] = np.repeat(segment, size)
    filled.positions.reshape(-1)[target] = position
    return filled


def pack_table(examples: pa.Table, *, length: int, pad: int = 0) -> pa.Table:
    """The packed rows, with the refs that say what lies in them.

    Args:
        examples: in the plan's order, the first beginning a window: tokens, loss, and the columns of a ref but segment.
        length: tokens of a row.
        pad: the token id of padding.

    Returns:
        a table of schema ``PACKS``.
    """
    tokens = _joined(examples.column("tokens"))
    packed = pack(
        tokens.flatten().to_numpy(),
        _joined(examples.column("loss")).flatten().to_numpy(),
        tokens.offsets.to_numpy() - tokens.offsets[0].as_py(),
        length=length,
        pad=pad,
    )
    in_order = examples.take(packed.order)
    names = [field.name for field in REFS.value_type]
    columns = [pa.array(packed.segment)] + [_joined(in_order.column(name)) for name in names[1:]]
    fields = [field.with_type(column.type) for field, column in zip(REFS.value_type, columns, strict=True)]
    refs = pa.StructArray.from_arrays(columns, fields=fields).cast(REFS.value_type)
    ref_offsets = np.searchsorted(packed.row, np.arange(len(packed.tokens) + 1)).astype(np.int32)
    return pa.table(
        [
            *(
                _fixed_lists(array)
                for array in (packed.tokens, packed.loss, packed.segments, packed.positions)
            ),
            pa.ListArray.from_arrays(ref_offsets, refs),
        ],
        schema=PACKS,
    )


def _fixed_lists(array: npt.NDArray[np.generic]) -> pa.ChunkedArray:
    """The rows as lists; in chunks, because the offsets of one are int32."""
    rows, length = array.shape
    step = np.iinfo(np.int32).max // max(1, length)
    chunks = [
        pa.ListArray.from_arrays(
            (np.arange(len(part) + 1) * length).astype(np.int32), pa.array(part.reshape(-1))
        )
        for part in (array[lo : lo + step] for lo in range(0, max(1, rows), step))
    ]
    return pa.chunked_array(chunks)


def _joined(column: pa.ChunkedArray) -> pa.Array:
    return column.combine_chunks() if column.num_chunks != 1 else column.chunk(0)
