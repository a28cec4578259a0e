"""Parquet shards: written a row group at a time, read a row group at a time, the same bytes for the same rows."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from types import TracebackType

import pyarrow as pa
import pyarrow.parquet as pq

COMPRESSION = "zstd"


class ShardWriter:
    """Writes one Parquet file; each ``write`` is a row group. A file without rows is a file, too.

    Args:
        path: the file to make.
        schema: its columns; a written table is cast to it.
    """

    def __init__(self, path: Path, schema: pa.Schema) -> None:
        self.path, self.schema, self.rows = path, schema, 0
        self._writer = pq.ParquetWriter(path, schema, compression=COMPRESSION, compression_level=3)

    def write(self, table: pa.Table) -> None:
        """Append rows; an empty table adds nothing."""
        if table.num_rows:
            self._writer.write_table(table.select(self.schema.names).cast(self.schema), row_group_size=table.num_rows)
            self.rows += table.num_rows

    def __enter__(self) -> ShardWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._writer.close()


def read_groups(path: Path | str, columns: Sequence[str] | None = None) -> Iterator[pa.Table]:
    """The row groups of a Parquet file as tables, one in memory at a time."""
    with pq.ParquetFile(path) as file:
        for group in range(file.num_row_groups):
            yield file.read_row_group(group, columns=None if columns is None else list(columns), use_threads=False)


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


def count_rows(path: Path | str) -> int:
    """Rows of a Parquet file, from its footer."""
    return int(pq.read_metadata(path).num_rows)
