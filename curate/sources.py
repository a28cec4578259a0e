"""Files into batches of records: JSONL, Parquet, CSV, Arrow IPC and plain text, plain or compressed.

A reader yields ``Records``: the good records of a stretch of a file as one table, and the bad ones as quarantine
rows. Nothing is lost silently: every record of the file is in one of the two, and a stream that breaks (a truncated
.gz, a corrupt block) keeps the records before the break and adds one row that says where it broke.

    row   number of the record in its file, from 0, bad ones counted
    line  line of the file, from 1, where the format has lines

JSONL is parsed by Arrow block by block; a block that Arrow refuses is read again line by line, so that one bad line
costs its own block only. Lines end at "\\n" alone: U+2028 and U+0085 are text. Memory: one block (8 MiB of text) and
its table; a line longer than 256 MiB is quarantined.
"""

from __future__ import annotations

import dataclasses
import glob
import json
import os
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO, Literal

import numpy as np
import pyarrow as pa
import pyarrow.csv as pacsv
import pyarrow.json as pajson
import pyarrow.parquet as pq

from curate.config import nearest
from filters.column import string_buffers
from filters.errors import ConfigError, DataError

Format = Literal["jsonl", "parquet", "csv", "tsv", "arrow", "text"]

SUFFIXES: dict[str, Format] = {
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".json": "jsonl",
    ".parquet": "parquet",
    ".csv": "csv",
    ".tsv": "tsv",
    ".arrow": "arrow",
    ".feather": "arrow",
    ".ipc": "arrow",
    ".txt": "text",
    ".text": "text",
    ".md": "text",
}
COMPRESSIONS = (".gz", ".zst")

BLOCK_BYTES = 8 << 20
MAX_LINE_BYTES = 256 << 20
BATCH_ROWS = 4096
EXCERPT_CHARACTERS = 200


@dataclasses.dataclass(frozen=True, slots=True)
class Source:
    """One named source of documents, as a config states it.

    Attributes:
        path: glob patterns, relative to where the command runs. ``**`` descends into folders.
        text: the field that holds the text (dots descend into nested JSON objects: ``data.text``).
        id: the field with the document's own id; without it the id is ``<relative path>#<row>``.
        meta: further fields to keep, as text.
        priority: which source's copy of a duplicate stays; the higher wins.
        format: overrides what the file names say.
    """

    path: str | tuple[str, ...]
    text: str = "text"
    id: str | None = None
    meta: tuple[str, ...] = ()
    priority: int = 0
    format: Format | None = None

    def __post_init__(self) -> None:
        for pattern in self.patterns:
            if "://" in pattern:
                raise ValueError(f"path: found {pattern!r}; allowed: local files. Copy or mount the remote files first.")
        if len(set(self.meta)) < len(self.meta):
            raise ValueError(f"meta: found {list(self.meta)}; allowed: each field once.")

    @property
    def patterns(self) -> tuple[str, ...]:
        return (self.path,) if isinstance(self.path, str) else self.path

    @property
    def columns(self) -> tuple[str, ...]:
        """The fields to read: text, id, meta."""
        return tuple(dict.fromkeys([self.text, *([self.id] if self.id else []), *self.meta]))


@dataclasses.dataclass(frozen=True, slots=True)
class SourceFile:
    """One file of a source: where it is, what it is called inside the source, and how to read it."""

    path: Path
    relative: str
    format: Format
    compression: str


@dataclasses.dataclass(frozen=True, slots=True)
class Records:
    """Consecutive records of a file.

    Attributes:
        table: columns ``row`` and ``line`` (int64) and one string column for each requested field; null where a
            record lacks the field.
        bad: quarantine rows (without source and path) of the records that are not in the table.
        read: records seen, good and bad; the half record at which a stream breaks is one.
    """

    table: pa.Table
    bad: list[dict[str, Any]]
    read: int


def find_files(name: str, source: Source) -> list[SourceFile]:
    """The files of a source in the order of their relative paths, whatever order the file system lists them in.

    Raises:
        ConfigError: a pattern that matches nothing, a suffix that names no format, or two files of the same name.
    """
    found: dict[str, SourceFile] = {}
    faults = []
    for pattern in source.patterns:
        base = _fixed_part(pattern)
        paths = [Path(p) for p in glob.glob(pattern, recursive=True) if os.path.isfile(p)]
        if not paths:
            faults.append(f"$.sources.{name}.path: '{pattern}' matches no file{_nearest_file(pattern)}")
        for path in paths:
            relative = path.relative_to(base).as_posix() if base != path else path.name
            try:
                format_, compression = _format_of(path, source.format)
            except ValueError as error:
                faults.append(f"$.sources.{name}.path: {error}")
                continue
            other = found.get(relative)
            if other is not None and other.path != path:
                faults.append(
                    f"$.sources.{name}.path: '{other.path}' and '{path}' would both be called '{relative}'; "
                    "keys are <relative path>#<row>. Make them two sources, or one pattern with a common folder."
                )
            found[relative] = SourceFile(path, relative, format_, compression)
    if faults:
        raise ConfigError(faults)
    return [found[relative] for relative in sorted(found)]


def _fixed_part(pattern: str) -> Path:
    """The folder before the first wildcard: what file names are relative to."""
    parts = Path(pattern).parts
    fixed = next((i for i, p in enumerate(parts) if glob.has_magic(p)), len(parts) - 1)
    return Path(*parts[:fixed]) if fixed else Path()


def _nearest_file(pattern: str) -> str:
    folder = Path(pattern).parent
    while glob.has_magic(str(folder)) or not folder.is_dir():
        if folder == folder.parent:
            return ". Give an existing path."
        folder = folder.parent
    hint = nearest(Path(pattern).name, [p.name for p in folder.iterdir()][:1000])
    return hint or f". '{folder}' is the nearest folder that exists."


def _format_of(path: Path, given: Format | None) -> tuple[Format, str]:
    compression = path.suffix if path.suffix in COMPRESSIONS else ""
    name = path.name.removesuffix(compression)
    format_ = given or SUFFIXES.get(Path(name).suffix.lower())
    if format_ is None:
        raise ValueError(f"'{path}': the suffix names no format; allowed: {', '.join(SUFFIXES)}, each also with .gz or .zst. Set format:")  # fmt: skip
    return format_, compression


def read_records(file: SourceFile, columns: Sequence[str]) -> Iterator[Records]:
    """The records of a file, in order. See the module's page for what a bad record is."""
    readers: Mapping[str, Callable[[SourceFile, Sequence[str]], Iterator[Records]]] = {
        "jsonl": _read_jsonl,
        "parquet": _read_parquet,
        "csv": _read_csv,
        "tsv": _read_csv,
        "arrow": _read_arrow,
        "text": _read_text,
    }
    return readers[file.format](file, columns)


# -- bytes -----------------------------------------------------------------------------------------------------------


class BrokenStreamError(Exception):
    """A compressed file ends or breaks in the middle."""


def decompressed(path: Path, compression: str) -> Iterator[bytes]:
    """The bytes of a file in chunks; what came before a break is always yielded before ``BrokenStreamError``.

    Expansion is bounded: gzip by 1 MiB a step, zstd by what 4 KiB of input can hold (at most 128 MiB).
    """
    with open(path, "rb") as file:
        if compression == ".gz":
            yield from _gunzip(file)
        elif compression == ".zst":
            yield from _unzstd(file)
        else:
            while chunk := file.read(1 << 20):
                yield chunk


def _gunzip(file: BinaryIO) -> Iterator[bytes]:
    decoder = zlib.decompressobj(wbits=31)
    pending, fed = b"", False
    while True:
        if not pending:
            pending = file.read(1 << 16)
            if not pending:
                break
        if decoder.eof:  # the next member of a multi-member file
            pending = pending.lstrip(b"\0") or b""
            if not pending:
                continue
            decoder, fed = zlib.decompressobj(wbits=31), False
        fed = True
        try:
            out = decoder.decompress(pending, 1 << 20)
        except zlib.error as error:
            raise BrokenStreamError(str(error)) from None
        pending = decoder.unused_data if decoder.eof else decoder.unconsumed_tail
        if out:
            yield out
    while fed and not decoder.eof:
        out = decoder.decompress(b"", 1 << 20)
        if not out:
            raise BrokenStreamError("the gzip stream ends before its end marker")
        yield out


def _unzstd(file: BinaryIO) -> Iterator[bytes]:
    import zstandard

    decoder = zstandard.ZstdDecompressor(max_window_size=1 << 27).decompressobj()
    fed, pending = False, b""
    while chunk := pending or file.read(4 << 10):
        pending = b""
        if decoder.eof:
            decoder, fed = zstandard.ZstdDecompressor(max_window_size=1 << 27).decompressobj(), False
        fed = True
        try:
            out = decoder.decompress(chunk)
        except zstandard.ZstdError as error:
            raise BrokenStreamError(str(error)) from None
        if decoder.eof:
            pending = decoder.unused_data
        if out:
            yield out
    if fed and not decoder.eof:
        raise BrokenStreamError("the zstd stream ends before its last frame does")


def _bad(reason: str, detail: str, *, row: int | None, line: int | None = None, excerpt: bytes | str = b"") -> dict[str, Any]:
    if isinstance(excerpt, bytes):
        excerpt = excerpt[: 4 * EXCERPT_CHARACTERS].decode("utf-8", "backslashreplace")
    excerpt = excerpt[:EXCERPT_CHARACTERS].encode("utf-8", "backslashreplace").decode()
    return {"row": row, "line": line, "reason": reason, "detail": detail, "excerpt": excerpt}


# -- JSONL -----------------------------------------------------------------------------------------------------------


def _read_jsonl(file: SourceFile, columns: Sequence[str]) -> Iterator[Records]:
    row, line = 0, 1
    for block, broken in _line_blocks(file):
        if block:
            records, row, line = _parse_block(block, columns, row, line)
            yield records
        if broken:
            bad = _bad("broken_stream", f"{broken}; records up to line {line - 1} were read", row=row, line=line)
            yield Records(_string_table([], [], {c: [] for c in columns}), [bad], 1)


def _line_blocks(file: SourceFile) -> Iterator[tuple[bytes, str]]:
    """Blocks of whole lines, and the reason for a break with the last of them.

    A last line without a newline is a line, except where the stream broke: there it is half a record.
    """
    held: list[bytes] = []
    size, first = 0, True
    try:
        for chunk in decompressed(file.path, file.compression):
            if first:
                chunk, first = chunk.removeprefix(b"\xef\xbb\xbf"), False
            held.append(chunk)
            size += len(chunk)
            if size < BLOCK_BYTES or b"\n" not in chunk:
                if size > MAX_LINE_BYTES:
                    raise BrokenStreamError(f"a line longer than {MAX_LINE_BYTES >> 20} MiB")
                continue
            whole, _, rest = b"".join(held).rpartition(b"\n")
            yield whole + b"\n", ""
            held, size = [rest], len(rest)
    except BrokenStreamError as error:
        whole, newline, _ = b"".join(held).rpartition(b"\n")
        yield whole + newline, str(error)
        return
    yield b"".join(held), ""


def _parse_block(block: bytes, columns: Sequence[str], row: int, line: int) -> tuple[Records, int, int]:
    """One block by Arrow if every line of it is one plain object, else line by line."""
    if not block.endswith(b"\n"):
        block += b"\n"
    n_lines = block.count(b"\n")
    if _one_object_a_line(block) and not any("." in c for c in columns):
        for types in ({}, {c: pa.int64() for c in columns[1:2]}):
            schema = pa.schema([(c, types.get(c, pa.large_string())) for c in columns])
            try:
                table = pajson.read_json(
                    pa.BufferReader(block),
                    parse_options=pajson.ParseOptions(explicit_schema=schema, unexpected_field_behavior="ignore"),
                    read_options=pajson.ReadOptions(use_threads=False, block_size=len(block)),
                )
                table.validate(full=True)
            except pa.ArrowInvalid:
                continue
            if table.num_rows == n_lines:
                numbers = np.arange(n_lines)
                fields = {c: table[c].cast(pa.large_string()) for c in columns}
                records = Records(_string_table(row + numbers, line + numbers, fields), [], n_lines)
                return records, row + n_lines, line + n_lines
    return _parse_lines(block, columns, row, line)


def _one_object_a_line(block: bytes) -> bool:
    data = np.frombuffer(block, np.uint8)
    ends = np.flatnonzero(data == 10)
    starts = np.concatenate([[0], ends[:-1] + 1])
    if (ends <= starts).any():
        return False  # an empty line
    last = ends - 1
    last = np.where((data[last] == 13) & (last > starts), last - 1, last)
    return bool((data[starts] == 123).all() and (data[last] == 125).all())


def _parse_lines(block: bytes, columns: Sequence[str], row: int, line: int) -> tuple[Records, int, int]:
    rows: list[int] = []
    lines: list[int] = []
    fields: dict[str, list[str | None]] = {c: [] for c in columns}
    bad: list[dict[str, Any]] = []
    first = row
    for raw in block[:-1].split(b"\n"):
        if raw.strip(b" \t\r"):
            record, fault = _parse_line(raw, columns)
            if fault is None:
                rows.append(row)
                lines.append(line)
                for c in columns:
                    fields[c].append(record[c])
            else:
                bad.append(_bad(*fault, row=row, line=line, excerpt=raw))
            row += 1
        line += 1
    return Records(_string_table(rows, lines, fields), bad, row - first), row, line


def _parse_line(raw: bytes, columns: Sequence[str]) -> tuple[dict[str, str | None], tuple[str, str] | None]:
    """The fields of one line, or (reason, detail)."""
    try:
        value = json.loads(raw.decode("utf-8"))
    except UnicodeDecodeError as error:
        return {}, ("invalid_utf8", f"byte {error.start} of the line is not UTF-8")
    except ValueError as error:
        return {}, ("malformed_json", str(error))
    except RecursionError:
        return {}, ("malformed_json", "nested too deeply")
    if not isinstance(value, dict):
        return {}, ("malformed_json", f"the line holds a {type(value).__name__}, not an object")
    record: dict[str, str | None] = {}
    for position, column in enumerate(columns):
        found: Any = value
        for part in [column] if column in value else column.split("."):
            found = found.get(part) if isinstance(found, dict) else None
        if position == 0 and found is not None and not isinstance(found, str):
            return {}, ("missing_text", f"the field '{column}' holds a {type(found).__name__}, not text")
        if found is not None and not isinstance(found, str):
            found = json.dumps(found, ensure_ascii=False, sort_keys=True)
        if found is not None:
            try:
                found.encode("utf-8")
            except UnicodeEncodeError:
                return {}, ("invalid_utf8", f"the field '{column}' holds half a surrogate pair")
        record[column] = found
    return record, None


def _string_table(rows: Any, lines: Any, fields: Mapping[str, Any]) -> pa.Table:
    columns = {"row": pa.array(rows, pa.int64()), "line": pa.array(lines, pa.int64())}
    for name, values in fields.items():
        columns[f"field:{name}"] = values if isinstance(values, pa.Array | pa.ChunkedArray) else pa.array(values, pa.large_string())
    return pa.table(columns)


# -- columnar formats --------------------------------------------------------------------------------------------------


def _read_batches(batches: Iterator[pa.RecordBatch], columns: Sequence[str], first: int = 0) -> Iterator[Records]:
    """Records from batches of Arrow columns; a file that breaks keeps the batches before the break."""
    row = first
    while True:
        try:
            batch = next(batches, None)
        except (pa.ArrowException, OSError) as error:
            yield Records(_string_table([], [], {c: [] for c in columns}), [_bad("broken_stream", str(error).splitlines()[0], row=None)], 1)  # fmt: skip
            return
        if batch is None:
            return
        yield _checked(batch, columns, np.arange(row, row + batch.num_rows))
        row += batch.num_rows


def _checked(batch: pa.RecordBatch | pa.Table, columns: Sequence[str], rows: np.ndarray, lines: np.ndarray | None = None) -> Records:
    """String columns with valid UTF-8; rows that are not go to quarantine."""
    names = batch.schema.names
    n_rows = batch.num_rows
    bad_rows: dict[int, tuple[str, str]] = {}
    fields: dict[str, pa.Array] = {}
    for position, name in enumerate(columns):
        if name not in names:
            fields[name] = pa.nulls(n_rows, pa.large_string())
            continue
        column = batch.column(name)
        column = column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
        if pa.types.is_dictionary(column.type):
            column = column.cast(column.type.value_type)
        is_string = pa.types.is_string(column.type) or pa.types.is_large_string(column.type) or pa.types.is_string_view(column.type)
        is_binary = pa.types.is_binary(column.type) or pa.types.is_large_binary(column.type)
        if position == 0 and not (is_string or is_binary or pa.types.is_null(column.type)):
            for i in range(n_rows):
                bad_rows.setdefault(i, ("missing_text", f"the column '{name}' is {column.type}, not text"))
            fields[name] = pa.nulls(n_rows, pa.large_string())
            continue
        if not is_string and not is_binary:
            column = _as_text(column)
        column = column.cast(pa.large_binary())
        valid = column.view(pa.large_string())
        try:
            valid.validate(full=True)
        except pa.ArrowInvalid:
            for i, value in enumerate(column.to_pylist()):
                try:
                    (value or b"").decode("utf-8")
                except UnicodeDecodeError as error:
                    bad_rows.setdefault(i, ("invalid_utf8", f"byte {error.start} of the field '{name}' is not UTF-8"))
            mask = pa.array([i in bad_rows for i in range(n_rows)])
            valid = pa.compute.if_else(mask, pa.scalar(None, pa.large_binary()), column).view(pa.large_string())
        fields[name] = valid
    table = _string_table(rows, rows + 1 if lines is None else lines, fields)
    if lines is None:
        table = table.set_column(1, "line", pa.nulls(n_rows, pa.int64()))
    bad = [_bad(*bad_rows[i], row=int(rows[i]), line=None if lines is None else int(lines[i])) for i in sorted(bad_rows)]
    if bad_rows:
        keep = np.ones(n_rows, bool)
        keep[list(bad_rows)] = False
        table = table.filter(pa.array(keep))
    return Records(table, bad, n_rows)


def _as_text(column: pa.Array) -> pa.Array:
    """Numbers, dates and nested values as text: plain casts where Arrow has them, else JSON."""
    try:
        return column.cast(pa.large_string())
    except (pa.ArrowNotImplementedError, pa.ArrowInvalid):
        texts = [None if v is None else json.dumps(v, ensure_ascii=False, sort_keys=True, default=str) for v in column.to_pylist()]
        return pa.array(texts, pa.large_string())


def _top_level(columns: Sequence[str], names: Sequence[str]) -> list[str]:
    return [c for c in columns if c in names]


def _read_parquet(file: SourceFile, columns: Sequence[str]) -> Iterator[Records]:
    def batches() -> Iterator[pa.RecordBatch]:
        with pq.ParquetFile(file.path) as parquet:
            names = _top_level(columns, parquet.schema_arrow.names)
            for batch in parquet.iter_batches(BATCH_ROWS, columns=names, use_threads=False):
                yield batch if names else pa.RecordBatch.from_struct_array(pa.array([{}] * batch.num_rows, pa.struct([])))

    if file.path.stat().st_size == 0:
        return iter(())
    return _read_batches(batches(), columns)


def _read_arrow(file: SourceFile, columns: Sequence[str]) -> Iterator[Records]:
    def batches() -> Iterator[pa.RecordBatch]:
        with pa.memory_map(str(file.path)) as source:
            try:
                reader = pa.ipc.open_file(source)
            except pa.ArrowInvalid:
                source.seek(0)
                stream = pa.ipc.open_stream(source)
                yield from (b.select(_top_level(columns, b.schema.names)) for b in stream)
                return
            for i in range(reader.num_record_batches):
                batch = reader.get_batch(i)
                yield batch.select(_top_level(columns, batch.schema.names))

    if file.path.stat().st_size == 0:
        return iter(())
    return _read_batches(batches(), columns)


class _ChunkReader:
    """File-like view of decompressed chunks, for Arrow's CSV reader."""

    def __init__(self, chunks: Iterator[bytes]) -> None:
        self._chunks, self._held, self.closed = chunks, b"", False
        self.broken: str | None = None

    def read(self, size: int = -1) -> bytes:
        while len(self._held) < size or size < 0:
            try:
                chunk = next(self._chunks, None)
            except BrokenStreamError as error:
                self.broken = str(error)
                self._held = self._held[: self._held.rfind(b"\n") + 1]
                chunk = None
            if chunk is None:
                self._chunks = iter(())
                break
            self._held += chunk
        size = len(self._held) if size < 0 else size
        out, self._held = self._held[:size], self._held[size:]
        return out

    def readable(self) -> bool:
        return True

    def close(self) -> None:
        self.closed = True


def _read_csv(file: SourceFile, columns: Sequence[str]) -> Iterator[Records]:
    """CSV with a header line; a row with too many or too few fields is quarantined with its row number."""
    chunks = _ChunkReader(decompressed(file.path, file.compression))
    refused: list[tuple[int, str, bytes]] = []

    def refuse(row: Any) -> str:
        refused.append((row.number, f"the row has {row.actual_columns} fields, the header {row.expected_columns}", row.text))
        return "skip"

    delimiter = "\t" if file.format == "tsv" else ","
    source = pa.PythonFile(chunks, mode="r")
    empty = _string_table([], [], {c: [] for c in columns})
    try:
        header = _csv_header(file, delimiter)
        if header is None:
            return
        reader = pacsv.open_csv(
            source,
            read_options=pacsv.ReadOptions(use_threads=False, block_size=BLOCK_BYTES, encoding="utf8"),
            parse_options=pacsv.ParseOptions(delimiter=delimiter, newlines_in_values=True, invalid_row_handler=refuse),
            convert_options=pacsv.ConvertOptions(
                check_utf8=False,
                column_types={name: pa.binary() for name in header},
                strings_can_be_null=False,
                quoted_strings_can_be_null=False,
            ),
        )
    except pa.ArrowInvalid as error:
        if chunks.broken is None:
            yield Records(empty, [_bad("broken_stream", str(error).splitlines()[0], row=None)], 1)
        else:
            yield Records(empty, [_bad("broken_stream", chunks.broken, row=None)], 1)
        return
    next_row, reported = 0, 0
    while True:
        try:
            batch = next(reader, None)
        except pa.ArrowInvalid as error:
            yield Records(empty, [_bad("broken_stream", str(error).splitlines()[0], row=None)], 1)
            return
        n_rows = 0 if batch is None else batch.num_rows
        skipped = {number - 2 for number, _, _ in refused}  # Arrow counts from 1 and counts the header
        rows = np.arange(next_row, next_row + n_rows)
        for number in sorted(s for s in skipped if s >= next_row):
            rows[rows >= number] += 1
        next_row = int(rows[-1]) + 1 if n_rows else next_row
        bad = [_bad("ragged_row", detail, row=number - 2, excerpt=text) for number, detail, text in refused[reported:]]
        reported = len(refused)
        if batch is None:
            if bad:
                yield Records(empty, bad, len(bad))
            break
        records = _checked(batch.select(_top_level(columns, batch.schema.names)), columns, rows) if n_rows else Records(empty, [], 0)
        yield Records(records.table, bad + records.bad, records.read + len(bad))
    if chunks.broken is not None:
        yield Records(empty, [_bad("broken_stream", chunks.broken, row=None)], 1)


def _csv_header(file: SourceFile, delimiter: str) -> list[str] | None:
    """The column names, or None for an empty file."""
    head = b""
    try:
        for chunk in decompressed(file.path, file.compression):
            head += chunk
            if b"\n" in head or len(head) > BLOCK_BYTES:
                break
    except BrokenStreamError:
        pass
    if not head.strip():
        return None
    line = head.removeprefix(b"\xef\xbb\xbf").split(b"\n")[0].rstrip(b"\r").decode("utf-8", "replace")
    import csv

    return next(csv.reader([line], delimiter=delimiter))


def _read_text(file: SourceFile, columns: Sequence[str]) -> Iterator[Records]:
    """A plain-text file is one document."""
    held: list[bytes] = []
    size, broken = 0, ""
    try:
        for chunk in decompressed(file.path, file.compression):
            held.append(chunk)
            size += len(chunk)
            if size > MAX_LINE_BYTES:
                raise DataError(f"{file.path}: larger than {MAX_LINE_BYTES >> 20} MiB as one document. Split the file.")
    except BrokenStreamError as error:
        broken = str(error)
    raw = b"".join(held).removeprefix(b"\xef\xbb\xbf")
    empty = _string_table([], [], {c: [] for c in columns})
    if broken:  # the text before the break is not the document
        yield Records(empty, [_bad("broken_stream", broken, row=0, line=1, excerpt=raw)], 1)
        return
    if not raw:
        return
    try:
        text = raw.decode("utf-8")
    except UnicodeDecodeError as error:
        line = raw[: error.start].count(b"\n") + 1
        yield Records(empty, [_bad("invalid_utf8", f"byte {error.start} of the file is not UTF-8", row=0, line=line, excerpt=raw[error.start :])], 1)  # fmt: skip
        return
    fields: dict[str, Any] = {c: [None] for c in columns}
    fields[columns[0]] = [text]
    yield Records(_string_table([0], [1], fields), [], 1)


def text_bytes(texts: pa.Array | pa.ChunkedArray) -> int:
    """UTF-8 bytes of a text column."""
    offsets, _ = string_buffers(texts)
    return int(offsets[-1] - offsets[0])
