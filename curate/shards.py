"""Parquet shards: written a row group at a time, read a row group at a time, the same bytes for the same rows."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from types import TracebackType

import pyarrow as pa
import pyarrow.parquet as pq

COMPRESSION = "zstd"
GROUP_ROWS = 4096
GROUP_BYTES = 8 << 20
"""A row group ends before it would hold more rows or bytes than these; a single larger row is a group of its own."""


class ShardWriter:
    """Writes one Parquet file in row groups of about ``GROUP_BYTES``, however the rows come. A file without rows is one, too.

    Args:
        path: the file to make.
        schema: its columns; a written table is cast to it.
    """

    def __init__(self, path: Path, schema: pa.Schema) -> None:
        self.path, self.schema, self.rows = path, schema, 0
        self._writer = pq.ParquetWriter(path, schema, compression=COMPRESSION, compression_level=3)
        self._held: list[pa.Table] = []
        self._held_rows = self._held_bytes = 0

    def write(self, table: pa.Table) -> None:
        """Append rows; an empty table adds nothing."""
        table = table.select(self.schema.names).cast(self.schema)
        self.rows += table.num_rows
        step = max(1, min(GROUP_ROWS, table.num_rows * GROUP_BYTES // max(1, table.nbytes)))
        for start in range(0, table.num_rows, step):
            piece = table.slice(start, step)
            if self._held and (
                self._held_rows + piece.num_rows > GROUP_ROWS or self._held_bytes + piece.nbytes > GROUP_BYTES
            ):
                self._flush()
            self._held.append(piece)
            self._held_rows += piece.num_rows
            self._held_bytes += piece.nbytes

    def _flush(self) -> None:
        if self._held:
            self._writer.write_table(pa.concat_tables(self._held), row_group_size=self._held_rows)
        self._held, self._held_rows, self._held_bytes = [], 0, 0

    def __enter__(self) -> ShardWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            self._flush()
        self._writer.close()


def read_groups(path: Path | str, columns: Sequence[str] | None = None) -> Iterator[pa.Table]:
    """The row groups of a Parquet file as tables, one in memory at a time."""
    with pq.ParquetFile(path) as file:
        for group in range(file.num_row_groups):
            yield file.read_row_group(
                group, columns=None if columns is None else list(columns), use_threads=False
            )


def read_rows(path: Path | str, rows: Sequence[int], columns: Sequence[str]) -> pa.Table:
    """Some rows of a Parquet file (ascending row numbers); only the row groups that hold them are decoded."""
    tables, first, wanted = [], 0, list(rows)
    position = 0
    with pq.ParquetFile(path) as file:
        for group in range(file.num_row_groups):
            last = first + file.metadata.row_group(group).num_rows
            inside = []
            while position < len(wanted) and wanted[position] < last:
                inside.append(wanted[position] - first)
                position += 1
            if inside:
                table = file.read_row_group(group, columns=list(columns), use_threads=False)
                tables.append(table.take(pa.array(inside, pa.int64())))
            first = last
        if not tables:
            return file.schema_arrow.empty_table().select(list(columns))
    return pa.concat_tables(tables)
