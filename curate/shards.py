"""Shards: files of rows, written a group at a time and read a group at a time, the same bytes for the same rows.

    .parquet  a group is a row group, zstd     public files, and what is kept for long
    .arrow    a group is a record batch, raw   private files of the next step: read by mapping memory, nothing is copied

Where a group ends follows from the rows alone, never from how they arrived: it is closed before a row that would make
it larger than ``GROUP_ROWS`` or ``GROUP_BYTES``. Memory: one group, and what ``write`` is given.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

COMPRESSION = "zstd"
COMPRESSION_LEVEL = 1
GROUP_ROWS = 4096
GROUP_BYTES = 8 << 20
"""A group ends before it would hold more rows or bytes than these; a single larger row is a group of its own."""

ARROW = ".arrow"


class ShardWriter:
    """Writes one shard; its suffix says which kind. A file without rows is one, too.

    Args:
        path: the file to make, ``.arrow`` for Arrow IPC, else Parquet.
        schema: its columns; a written table is cast to it.
    """

    def __init__(self, path: Path, schema: pa.Schema) -> None:
        self.path, self.schema, self.rows = path, schema, 0
        self._sink: pa.NativeFile | None = None
        self._writer: pq.ParquetWriter | pa.ipc.RecordBatchFileWriter
        if _is_arrow(path):
            self._sink = pa.OSFile(str(path), "wb")
            self._writer = pa.ipc.new_file(self._sink, schema)
        else:
            self._writer = pq.ParquetWriter(
                path, schema, compression=COMPRESSION, compression_level=COMPRESSION_LEVEL
            )
        self._held: list[pa.RecordBatch] = []
        self._held_rows = self._held_bytes = 0

    def write(self, table: pa.Table) -> None:
        """Append rows; an empty table adds nothing."""
        table = table.select(self.schema.names).cast(self.schema)
        self.rows += table.num_rows
        for batch in table.to_batches():
            if batch.num_rows:
                self._hold(batch)

    def _hold(self, batch: pa.RecordBatch) -> None:
        sizes = _bytes_before(batch)
        start, rows = 0, batch.num_rows
        while start < rows:
            room = sizes[start] + GROUP_BYTES - self._held_bytes
            fits = int(np.searchsorted(sizes, room, side="right")) - 1
            stop = max(start, min(rows, start + GROUP_ROWS - self._held_rows, fits))
            if stop == start and not self._held:
                stop += 1  # larger than a group may be
            if stop > start:
                self._held.append(batch.slice(start, stop - start))
                self._held_rows += stop - start
                self._held_bytes += int(sizes[stop] - sizes[start])
            if stop < rows:
                self._flush()
            start = stop

    def _flush(self) -> None:
        if self._held:
            group = self._held[0] if len(self._held) == 1 else pa.concat_batches(self._held)
            if self._sink is not None:
                self._writer.write_batch(_bare(group))
            else:
                self._writer.write_batch(group, row_group_size=group.num_rows)
        self._held, self._held_rows, self._held_bytes = [], 0, 0

    def __enter__(self) -> ShardWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if kind is None:
                self._flush()
            self._writer.close()
        finally:
            if self._sink is not None:
                self._sink.close()


def _is_arrow(path: Path | str) -> bool:
    return Path(path).suffix == ARROW


def _bytes_before(batch: pa.RecordBatch) -> npt.NDArray[np.int64]:
    """Running total of the bytes of a batch's values before each row, and behind the last: (rows + 1,)."""
    total = np.zeros(batch.num_rows + 1, np.int64)
    for column in batch.columns:
        total += _value_bytes(column)
    return total


def _value_bytes(column: pa.Array) -> npt.NDArray[np.int64]:
    kind, rows = column.type, len(column)
    if pa.types.is_struct(kind):
        return sum(
            (_value_bytes(column.field(i)) for i in range(kind.num_fields)), np.zeros(rows + 1, np.int64)
        )
    if _has_offsets(kind):
        bounds = _offsets(column).astype(np.int64)
        if pa.types.is_list(kind) or pa.types.is_large_list(kind):
            bounds = _value_bytes(column.values)[bounds]
        if not column.null_count:
            return bounds
        sizes = np.diff(bounds, prepend=0)
        sizes[1:][column.is_null().to_numpy(zero_copy_only=False)] = 0  # bytes may lie under a null
        return np.cumsum(sizes)
    try:
        width = max(1, kind.bit_width // 8)
    except ValueError:  # of no fixed width: views, unions, nulls
        width = 16
    return np.arange(rows + 1, dtype=np.int64) * width


def _has_offsets(kind: pa.DataType) -> bool:
    is_bytes = pa.types.is_string(kind) or pa.types.is_binary(kind) or pa.types.is_list(kind)
    return (
        is_bytes
        or pa.types.is_large_string(kind)
        or pa.types.is_large_binary(kind)
        or pa.types.is_large_list(kind)
    )


def _offsets(column: pa.Array) -> npt.NDArray[Any]:
    """Where each value begins, and behind the last one where that ends: (rows + 1,), into the column's whole data."""
    is_large = str(column.type).startswith("large_")
    found = column.buffers()[1]
    if not len(column) or found is None:
        return np.zeros(len(column) + 1, np.int64)
    return np.frombuffer(found, np.int64 if is_large else np.int32)[column.offset :][: len(column) + 1]


def _bare(batch: pa.RecordBatch) -> pa.RecordBatch:
    """The same rows in buffers that hold nothing else.

    Arrow pads the buffers of a slice with what follows it, and keeps what lies under a null: those bytes would depend
    on where the rows came from.
    """
    return pa.record_batch([_bare_column(column) for column in batch.columns], schema=batch.schema)


def _bare_column(column: pa.Array) -> pa.Array:
    kind, rows = column.type, len(column)
    is_plain = pa.types.is_primitive(kind) or pa.types.is_fixed_size_binary(kind)
    if rows and not column.null_count and not pa.types.is_nested(kind):
        if _has_offsets(kind):
            offsets = _offsets(column)
            first, last = int(offsets[0]), int(offsets[-1])
            data = column.buffers()[2]
            values = data.slice(first, last - first) if last > first else pa.py_buffer(b"")
            return pa.Array.from_buffers(
                kind, rows, [None, pa.py_buffer(np.ascontiguousarray(offsets - offsets[0])), values]
            )
        if is_plain and kind.bit_width % 8 == 0:
            width = kind.bit_width // 8
            return pa.Array.from_buffers(
                kind, rows, [None, column.buffers()[1].slice(column.offset * width, rows * width)]
            )
    return column.take(pa.array(np.arange(rows)))


def read_groups(path: Path | str, columns: Sequence[str] | None = None) -> Iterator[pa.Table]:
    """The groups of a shard as tables, one at a time: decoded from Parquet, mapped from Arrow."""
    for _, read in _groups(path, columns):
        yield read()


def read_rows(
    path: Path | str, rows: Sequence[int] | npt.NDArray[np.int64], columns: Sequence[str]
) -> pa.Table:
    """Some rows of a shard (ascending row numbers); only the groups that hold them are read.

    Raises:
        IndexError: the shard has fewer rows.
    """
    wanted = np.asarray(rows, np.int64)
    tables, first = [], 0
    for n_rows, read in _groups(path, columns):
        low, high = np.searchsorted(wanted, [first, first + n_rows])
        if low < high:
            tables.append(read().take(pa.array(wanted[low:high] - first)))
        first += n_rows
    if len(wanted) and wanted[-1] >= first:
        raise IndexError(f"{path}: row {wanted[-1]} of {first}")
    return pa.concat_tables(tables) if tables else read_schema(path).empty_table().select(list(columns))


def count_rows(path: Path | str) -> int:
    """Rows of a shard."""
    if not _is_arrow(path):
        return int(pq.read_metadata(path).num_rows)
    return sum(rows for rows, _ in _groups(path, None))


def _groups(path: Path | str, columns: Sequence[str] | None) -> Iterator[tuple[int, Callable[[], pa.Table]]]:
    """For each group its rows, and what reads it."""
    names = None if columns is None else list(columns)
    if _is_arrow(path):
        with pa.memory_map(str(path)) as file:
            reader = pa.ipc.open_file(file)
            for number in range(reader.num_record_batches):
                # views into the map, which they hold open
                table = pa.Table.from_batches([reader.get_batch(number)])
                chosen = list(range(table.num_columns)) if names is None else names
                yield table.num_rows, functools.partial(table.select, chosen)
        return
    with pq.ParquetFile(path) as parquet:
        for number in range(parquet.num_row_groups):
            read = functools.partial(parquet.read_row_group, number, columns=names, use_threads=False)
            yield parquet.metadata.row_group(number).num_rows, read


def read_schema(path: Path | str) -> pa.Schema:
    """The columns of a shard."""
    if not _is_arrow(path):
        return pq.read_schema(path)
    with pa.memory_map(str(path)) as file:
        return pa.ipc.open_file(file).schema
