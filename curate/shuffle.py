"""Arrow files that are cut by a number, so that a later part reads its portion of each of them and nothing else.

    map part 0 ──▶ dealt.arrow  │ 0 │ 1 │ 2 │ 0 │ 1 │ 2 │     record batches: two rounds of three portions
    map part 1 ──▶ dealt.arrow  │ 0 │ 1 │ 2 │
                                      └───────── portion 1 of all files, in this order, is what part 1 reads

A file is written in *rounds*: what is held is cut and written as one record batch for each portion (empty ones, too)
as soon as there is enough of it. So a file of any size is dealt in bounded memory, rows keep their order inside
a portion, and a reader finds its record batches by their numbers. All reading goes through memory maps.

Price: one gather of what is dealt; ``ROUND_BYTES`` (or 64 KB for each portion, if that is more) in memory; and about
one kilobyte on disk for each portion and round, which is why the number of portions must not grow with the number of
files: ``portion_bytes``.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from types import TracebackType

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from filters.compiling import njit

Portions = npt.NDArray[np.int32]
Rows = npt.NDArray[np.int64]

ROUND_BYTES = 4 << 20
PORTION_BYTES = 64 << 10
"""What a record batch holds on the average, at least: below it the record batch's own kilobyte would count."""

MANY = 32
"""Portions that a corpus is cut into, unless they would be very small or larger than memory allows."""


def portion_bytes(total: int, *, least: int, most: int) -> int:
    """How large the portions of ``total`` bytes should be: a ``MANY``-th of it, but neither below ``least`` nor above
    ``most``. So a corpus is cut finely enough for all CPUs, and a huge one no finer than memory demands.

    >>> [portion_bytes(total << 20, least=32 << 20, most=128 << 20) >> 20 for total in (40, 4_096, 100_000)]
    [32, 128, 128]
    """
    return min(max(least, total // MANY), most)


class Dealer:
    """Writes rows into the portions that they belong to.

    Args:
        path: the file to make.
        schema: its columns.
        portions: how many there are.

    Example:
        with Dealer(out / "dealt.arrow", schema, portions=3) as dealer:
            dealer.add(table, portion)  # portion (rows,) int32
    """

    def __init__(self, path: Path, schema: pa.Schema, portions: int) -> None:
        self.rows = 0
        self._schema, self._portions = schema, portions
        self._sink = pa.OSFile(str(path), "wb")
        self._writer = pa.ipc.new_file(self._sink, schema)
        self._held: list[tuple[pa.RecordBatch, Rows]] = []  # cut already, with the bounds of the portions
        self._held_bytes = 0
        self._round_bytes = max(ROUND_BYTES, portions * PORTION_BYTES)
        self._is_written = False

    def add(self, table: pa.Table, portion: Portions, chosen: Rows | None = None) -> None:
        """Deal rows of a table.

        Args:
            table: has the columns of the schema.
            portion: ``(rows,) int32``, from 0, for each row that is dealt.
            chosen: ``(rows,) int64``, these rows of the table and no others.
        """
        if len(portion):
            order, bounds = in_portions(portion, self._portions)
            rows = pa.array(order if chosen is None else chosen[order])
            taken = table.select(self._schema.names).take(rows).cast(self._schema).combine_chunks()
            self._hold(taken.to_batches()[0], bounds)

    def add_pairs(self, first: npt.NDArray, second: npt.NDArray, portion: Portions) -> None:
        """Deal rows of a schema of two columns of 64-bit numbers; millions of them, scattered and not sorted."""
        step = self._round_bytes // 16
        for start in range(0, len(portion), step):
            own = portion[start : start + step]
            bounds = _bounds(own, self._portions)
            columns = np.empty((2, len(own)), np.int64)
            _scatter(
                frozen(first[start : start + step]),
                frozen(second[start : start + step]),
                frozen(own),
                bounds[:-1].copy(),
                columns,
            )
            typed = [
                column.view(field.type.to_pandas_dtype())
                for column, field in zip(columns, self._schema, strict=True)
            ]
            self._hold(pa.record_batch(typed, schema=self._schema), bounds)

    def _hold(self, batch: pa.RecordBatch, bounds: Rows) -> None:
        self.rows += batch.num_rows
        self._held.append((batch, bounds))
        self._held_bytes += batch.nbytes
        if self._held_bytes >= self._round_bytes:
            self._write_round()

    def _write_round(self) -> None:
        for number in range(self._portions):
            pieces = [batch.slice(b[number], b[number + 1] - b[number]) for batch, b in self._held]
            if len(pieces) > 1:
                pieces = [pa.concat_batches(pieces)]
            self._writer.write_batch(pieces[0] if pieces else _no_rows(self._schema))
        self._held, self._held_bytes, self._is_written = [], 0, True

    def __enter__(self) -> Dealer:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if kind is None and (self._held or not self._is_written):
                self._write_round()
            self._writer.close()
        finally:
            self._sink.close()


def in_portions(portion: Portions, portions: int) -> tuple[Rows, Rows]:
    """Rows by portion, in their order inside each, and where each portion begins, ``(portions + 1,)``.

    >>> order, bounds = in_portions(np.array([1, 0, 1], np.int32), 3)
    >>> order.tolist(), bounds.tolist()
    ([1, 0, 2], [0, 1, 3, 3])
    """
    return np.argsort(portion, kind="stable"), _bounds(portion, portions)


def _bounds(portion: Portions, portions: int) -> Rows:
    return np.concatenate([[0], np.cumsum(np.bincount(portion, minlength=portions))]).astype(np.int64)


def read_portion(paths: Iterable[Path | str], portion: int, portions: int) -> Iterator[pa.RecordBatch]:
    """The rows of one portion in the order of files and rounds, mapped; record batches without rows are left out."""
    for path in paths:
        with pa.memory_map(str(path)) as file:
            reader = pa.ipc.open_file(file)
            for number in range(portion, reader.num_record_batches, portions):
                batch = reader.get_batch(number)  # a view into the map, which outlives it
                if batch.num_rows:
                    yield batch


def read_mapped(path: Path | str) -> pa.Table:
    """A whole Arrow file as a table of views into a memory map: nothing is read before it is used."""
    with pa.memory_map(str(path)) as file:
        return pa.ipc.open_file(file).read_all()


def _no_rows(schema: pa.Schema) -> pa.RecordBatch:
    return pa.record_batch([pa.array([], field.type) for field in schema], schema=schema)


def frozen(array: npt.NDArray) -> npt.NDArray:
    """A read-only view as signed numbers: mapped arrays are read-only, and Numba would compile for both kinds."""
    view = array.view(np.int64 if array.dtype.itemsize == 8 else np.int32)
    view.flags.writeable = False
    return view


@njit(nogil=True, cache=True, boundscheck=False)
def _scatter(first: Rows, second: Rows, portion: Portions, places: Rows, columns: Rows) -> None:
    for row in range(len(portion)):
        place = places[portion[row]]
        columns[0, place] = first[row]
        columns[1, place] = second[row]
        places[portion[row]] = place + 1
