"""Files into batches of records: JSONL, Parquet, CSV, Arrow IPC and plain text, plain or compressed.

Also the directories that Hugging Face ``datasets`` saves, and the datasets of its hub: they are Arrow files, too.

A reader yields ``Records``: the good records of a stretch of a file as one table, and the bad ones as quarantine
rows. Nothing is lost silently: every record of the file is in one of the two, and a stream that breaks (a truncated
.gz, a corrupt block) keeps the records before the break and adds one row that says where it broke.

    row   number of the record in its file, from 0, bad ones counted
    line  line of the file, from 1, where the format has lines

JSONL is parsed by Arrow block by block; a block that Arrow refuses is read again line by line, so that one bad line
costs its own block only. Whatever Arrow lets pass and the line reader does not is looked for first: what becomes of a
line never depends on its neighbours. Lines end at "\\n" alone: U+2028 and U+0085 are text. CSV is read strictly (RFC
4180): text behind a closing quote, or a quote that is never closed, is a fault of its record and no guess. Memory: one
block (8 MiB of text) and its table; a line longer than 256 MiB is quarantined.

A large file may be read in stretches, by several workers: row groups of Parquet, record batches of Arrow, bytes of plain
JSONL. Rows keep their numbers. Where a stretch breaks, those behind it are still read.
"""

from __future__ import annotations

import csv
import dataclasses
import glob
import io
import itertools
import json
import os
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.json as pajson
import pyarrow.parquet as pq

from curate import huggingface
from curate.config import nearest
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
COLUMNAR: tuple[Format, ...] = ("parquet", "arrow")

CHUNK_BYTES = 1 << 20
BLOCK_BYTES = 8 << 20
MAX_LINE_BYTES = 256 << 20
MAX_JSON_DEPTH = 500
"""Far below where Python's own parser gives up, which depends on how deep the caller stands."""

BATCH_ROWS = 1 << 15
EXCERPT_CHARACTERS = 200


@dataclasses.dataclass(frozen=True, slots=True)
class Source:
    """One named source of documents, as a config states it.

    Attributes:
        path: glob patterns, relative to where the command runs. ``**`` descends into folders. Or a directory that
            ``datasets`` has saved, or ``hf://datasets/OWNER/NAME[@REVISION][/CONFIG]``.
        text: the field that holds the text (dots descend into nested objects and structs: ``data.text``).
        id: the field with the document's own id; without it the id is ``<relative path>#<row>``.
        meta: further fields to keep, as text.
        priority: which source's copy of a duplicate stays; the higher wins. A text names the field with the priority
            of each document; one without comes last.
        format: overrides what the file names say.
        split: which split of a saved DatasetDict or a dataset of the hub; needed where there are several.
    """

    path: str | tuple[str, ...]
    text: str = "text"
    id: str | None = None
    meta: tuple[str, ...] = ()
    priority: int | str = 0
    format: Format | None = None
    split: str | None = None

    def __post_init__(self) -> None:
        if not self.patterns or "" in self.patterns:
            raise ValueError(
                f"path: found {self.path!r}; allowed: a file, a glob pattern, or a list of them."
            )
        for pattern in self.patterns:
            if pattern.startswith(huggingface.HUB):
                huggingface.HubName.parse(pattern)
            elif "://" in pattern:
                raise ValueError(
                    f"path: found {pattern!r}; allowed: local files, or {huggingface.HUB_FORM}. Copy or mount other "
                    "remote files first."
                )
        if "" in (self.text, self.id, self.priority, *self.meta):
            raise ValueError("text, id, meta, priority: found an empty name; allowed: the name of a field.")
        if len(set(self.meta)) < len(self.meta):
            raise ValueError(f"meta: found {list(self.meta)}; allowed: each field once.")
        if isinstance(self.priority, int) and abs(self.priority) > 10**9:
            raise ValueError(f"priority: found {self.priority}; allowed: -10^9 to 10^9.")
        if self.split is not None and not huggingface.SPLIT.fullmatch(self.split):
            raise ValueError(f"split: found {self.split!r}; allowed: the name of a split, such as 'train'.")

    @property
    def patterns(self) -> tuple[str, ...]:
        return (self.path,) if isinstance(self.path, str) else self.path

    @property
    def columns(self) -> tuple[str, ...]:
        """The fields to read: text, id, meta, priority."""
        named = [name for name in (self.id, *self.meta, self.priority) if isinstance(name, str)]
        return tuple(dict.fromkeys([self.text, *named]))


@dataclasses.dataclass(frozen=True, slots=True)
class Stretch:
    """A part of a file: row groups, record batches or bytes ``start`` to ``stop``, the first record of which is ``row``."""

    start: int
    stop: int
    row: int


@dataclasses.dataclass(frozen=True, slots=True)
class SourceFile:
    """One file of a source, or a stretch of it: where it is, what the source calls it, and how to read it."""

    path: Path
    relative: str
    format: Format
    compression: str
    stretch: Stretch | None = None


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


def file_arguments(file: SourceFile) -> dict[str, Any]:
    """A file as JSON arguments of a part; the path is absolute, since workers need not stand where the driver does."""
    return {
        "path": str(file.path.absolute()),
        "relative": file.relative,
        "format": file.format,
        "compression": file.compression,
        **({"stretch": dataclasses.asdict(file.stretch)} if file.stretch else {}),
    }


def file_from(arguments: Mapping[str, Any]) -> SourceFile:
    """The inverse of ``file_arguments``."""
    stretch = arguments.get("stretch")
    return SourceFile(
        Path(arguments["path"]),
        arguments["relative"],
        arguments["format"],
        arguments["compression"],
        Stretch(**stretch) if stretch else None,
    )


def file_stamp(file: SourceFile) -> tuple[str, int, int]:
    """Name, size and time of change: what tells that a file has changed, and never enters a manifest."""
    status = file.path.stat()
    return file.relative, status.st_size, status.st_mtime_ns


def find_files(name: str, source: Source) -> list[SourceFile]:
    """The files of a source in the order of their relative paths, whatever order the file system lists them in.

    The files of a dataset stand in the order of its rows.

    Raises:
        ConfigError: a pattern that matches nothing, a suffix that names no format, two files of one name, one file
            under two names, or a dataset without the split.
    """
    found: dict[str, SourceFile] = {}
    order: dict[str, tuple[str, int]] = {}
    names: dict[Path, str] = {}
    faults = []
    for pattern in source.patterns:
        is_dataset = pattern.startswith(huggingface.HUB) or huggingface.is_saved(pattern)
        try:
            listed = _dataset_files(pattern, source.split) if is_dataset else _matching_files(pattern)
        except ValueError as error:
            faults += [f"$.sources.{name}.{line}" for line in str(error).split("\n")]
            continue
        if source.split is not None and not is_dataset:
            faults.append(f"$.sources.{name}.split: '{pattern}' is no saved dataset. Leave the split out.")
        for relative, path, place in listed:
            try:
                file = SourceFile(path, relative, *_format_of(path, "arrow" if is_dataset else source.format))
            except ValueError as error:
                faults.append(f"$.sources.{name}.path: {error}")
                continue
            other = found.get(relative)
            if other is not None and other.path != path:
                faults.append(
                    f"$.sources.{name}.path: '{other.path}' and '{path}' would both be called '{relative}'; "
                    "keys are <relative path>#<row>. Make them two sources, or one pattern with a common folder."
                )
            if names.setdefault(path.resolve(), relative) != relative:
                faults.append(
                    f"$.sources.{name}.path: '{path}' would be read twice, as '{names[path.resolve()]}' and as "
                    f"'{relative}'. Let only one pattern match it, and no link lead back into the folder."
                )
            found[relative], order[relative] = file, place
    if faults:
        raise ConfigError(faults)
    return [found[relative] for relative in sorted(found, key=lambda r: (order[r], r))]


_Place = tuple[str, int]
"""What files are ordered by: their names, and inside of a dataset their numbers."""


def _dataset_files(path: str, split: str | None) -> list[tuple[str, Path, _Place]]:
    """What the files of a dataset are called, where they are, and how they are ordered."""
    is_remote = path.startswith(huggingface.HUB)
    files = huggingface.hub_files(path, split) if is_remote else huggingface.saved_files(path, split)
    return [(files.folder + p.name, p, (files.folder, i)) for i, p in enumerate(files.paths)]


def _matching_files(pattern: str) -> list[tuple[str, Path, _Place]]:
    """The same for files that a pattern matches; ``ValueError`` for none, and for links that lead nowhere."""
    base = _fixed_part(pattern)
    listed = [pattern] if os.path.isfile(pattern) else sorted(glob.glob(pattern, recursive=True))
    faults = [
        f"path: '{p}' is a link that leads nowhere. Mend or remove it."
        for p in listed
        if os.path.islink(p) and not os.path.exists(p)
    ]
    paths = [Path(p) for p in listed if os.path.isfile(p)]
    if not paths:
        faults.append(f"path: '{pattern}' matches no file{_nearest_file(pattern)}")
    if faults:
        raise ValueError("\n".join(faults))
    relatives = [(p.relative_to(base).as_posix(), p) for p in paths]
    return [(relative, p, (relative, 0)) for relative, p in relatives]


def _fixed_part(pattern: str) -> Path:
    """The folder before the first wildcard: what file names are relative to."""
    parts = Path(pattern).parts
    fixed = next((i for i, p in enumerate(parts) if glob.has_magic(p)), len(parts) - 1)
    return Path(*parts[:fixed]) if fixed else Path()


def _nearest_file(pattern: str) -> str:
    if os.path.isdir(pattern):
        return f": it is a folder. Name its files: '{Path(pattern) / '**' / '*.jsonl'}'."
    folder = Path(pattern).parent
    while glob.has_magic(str(folder)) or not folder.is_dir():
        if folder == folder.parent:
            return ". Give an existing path."
        folder = folder.parent
    hint = nearest(Path(pattern).name, [p.name for p in folder.iterdir()][:1000])
    return hint or f". '{folder}' is the nearest folder that exists."


def _format_of(path: Path, given: Format | None) -> tuple[Format, str]:
    try:
        str(path).encode("utf-8")
    except UnicodeEncodeError:
        raise ValueError(f"{os.fsencode(path)!r}: the name is not UTF-8. Rename the file.") from None
    compression = path.suffix.lower() if path.suffix.lower() in COMPRESSIONS else ""
    name = path.stem if compression else path.name
    format_ = given or SUFFIXES.get(Path(name).suffix.lower())
    if format_ is None:
        raise ValueError(
            f"'{path}': the suffix names no format; allowed: {', '.join(SUFFIXES)}; those that hold lines or text also "
            f"with {' or '.join(COMPRESSIONS)}. Rename the file, or set the source's format."
        )
    if compression and format_ in COLUMNAR:
        raise ValueError(f"'{path}': {format_} files are compressed inside, not as a whole. Unpack the file.")
    return format_, compression


def split_file(file: SourceFile, size: int) -> list[SourceFile]:
    """A Parquet, Arrow or plain JSONL file larger than ``size`` bytes as stretches of about that size, others as they are.

    The stretches follow from the file alone: as many as it is times larger, cut between groups or lines so that each
    holds about the same share. A file that cannot be read stays whole, and its reader says why; so does JSONL with a
    line that is blank or begins like no object. JSONL is read once for that.
    """
    parts = -(-file.path.stat().st_size // size)
    is_lines = file.format == "jsonl" and not file.compression
    if parts < 2 or not (is_lines or file.format in COLUMNAR) or file.stretch is not None:
        return [file]
    try:
        stretches = _line_stretches(file.path, parts) if is_lines else _group_stretches(file, parts)
    except (pa.ArrowException, OSError):
        return [file]
    return [dataclasses.replace(file, stretch=s) for s in stretches] if len(stretches) > 1 else [file]


def _group_stretches(file: SourceFile, parts: int) -> list[Stretch]:
    rows, weights = _parquet_groups(file.path) if file.format == "parquet" else _arrow_groups(file.path)
    parts = min(parts, len(rows))
    ends = np.cumsum(weights)
    if parts < 2 or not sum(rows) or not ends[-1]:
        return []
    cuts = np.searchsorted(ends * parts, ends[-1] * np.arange(1, parts)) + 1
    bounds = sorted({0, *cuts.tolist(), len(rows)})
    firsts = np.cumsum([0, *rows])
    return [Stretch(a, b, int(firsts[a])) for a, b in itertools.pairwise(bounds)]


def _line_stretches(path: Path, parts: int) -> list[Stretch]:
    """Cut before lines; nothing where a line is no record, since rows would have to be counted as its reader does."""
    size = path.stat().st_size
    wanted = [size * part // parts for part in range(1, parts)][::-1]
    bounds: list[tuple[int, int]] = [(0, 0)]
    window = np.full(_WINDOW + 1, ord("\n"), np.uint8)  # the byte before the window, and the window
    row = 0
    with open(path, "rb", buffering=0) as file:
        position = len(_MARK) if file.read(len(_MARK)) == _MARK else 0
        file.seek(position)
        while count := file.readinto(window.data[1:]):
            begins = np.flatnonzero(window[:count] == ord("\n"))
            if not (window[begins + 1] == ord("{")).all():
                return []
            while wanted and (i := np.searchsorted(begins, wanted[-1] - position)) < begins.size:
                bounds.append((position + int(begins[i]), row + int(i)))
                wanted.pop()
            row, position = row + begins.size, position + count
            window[0] = window[count]
    # a cut before the first record would leave a stretch with nothing but the mark
    bounds = [*dict.fromkeys(b for b in bounds if b[1] or not b[0]), (size, row)]
    return [Stretch(a, b, first) for (a, first), (b, _) in itertools.pairwise(bounds)]


_MARK = b"\xef\xbb\xbf"
_WINDOW = 256 << 10
"""Small enough to stay in a core's cache."""


def _parquet_groups(path: Path) -> tuple[list[int], list[int]]:
    """Rows and bytes of each row group."""
    facts = pq.read_metadata(path)
    groups = [facts.row_group(i) for i in range(facts.num_row_groups)]
    return [g.num_rows for g in groups], [g.total_byte_size for g in groups]


def _arrow_groups(path: Path) -> tuple[list[int], list[int]]:
    """Rows of each record batch, twice: what one weighs in bytes would have to be unpacked to be known."""
    with pa.memory_map(str(path)) as source:
        rows = [batch.num_rows for batch in _arrow_batches(source, None, narrow=True)]
    return rows, rows


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
    """The bytes of a file in chunks of 1 MiB; what came before a break is always yielded before ``BrokenStreamError``.

    Chunks depend on the bytes alone, not on how a decompressor hands them out. Expansion is bounded: gzip by 1 MiB a
    step, zstd by what 4 KiB of input can hold (at most 128 MiB).
    """
    with open(path, "rb") as file:
        if compression == ".gz":
            yield from _even(_gunzip(file))
        elif compression == ".zst":
            yield from _even(_unzstd(file))
        else:
            while chunk := file.read(CHUNK_BYTES):
                yield chunk


def _even(chunks: Iterator[bytes]) -> Iterator[bytes]:
    held = b""
    try:
        for chunk in chunks:
            held += chunk
            whole = len(held) - len(held) % CHUNK_BYTES
            yield from (held[start : start + CHUNK_BYTES] for start in range(0, whole, CHUNK_BYTES))
            held = held[whole:]
    except BrokenStreamError:
        if held:
            yield held
        raise
    if held:
        yield held


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
        try:
            out = decoder.decompress(b"", 1 << 20)
        except zlib.error as error:
            raise BrokenStreamError(str(error)) from None
        if not out and not decoder.eof:
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


def _bad(
    reason: str, detail: str, *, row: int, line: int | None = None, excerpt: bytes = b""
) -> dict[str, Any]:
    shown = excerpt[: 4 * EXCERPT_CHARACTERS].decode("utf-8", "backslashreplace")[:EXCERPT_CHARACTERS]
    return {"row": row, "line": line, "reason": reason, "detail": detail, "excerpt": shown}


# -- lines -----------------------------------------------------------------------------------------------------------

Fault = tuple[str, str]
"""Why a record is not in the table: (reason, detail)."""


def _line_blocks(file: SourceFile) -> Iterator[tuple[bytes, Fault | None]]:
    """Blocks of whole lines in file order; where a line cannot be had, an empty block and the fault in its place.

    A last line without a newline is a line, except where the stream broke: there it is half a record. A line that is
    too long is passed over, and the file goes on behind it.
    """
    held: list[bytes] = []
    size, is_skipping = 0, False
    try:
        for chunk in _without_mark(_bytes_of(file)):
            if is_skipping:
                _, newline, chunk = chunk.partition(b"\n")
                is_skipping = not newline
            held.append(chunk)
            size += len(chunk)
            if size < BLOCK_BYTES or (b"\n" not in chunk and size <= MAX_LINE_BYTES):
                continue
            whole, newline, rest = b"".join(held).rpartition(b"\n")
            if newline:
                yield whole + newline, None
            if len(rest) > MAX_LINE_BYTES:
                yield b"", _too_long()
                rest, is_skipping = b"", True
            held, size = [rest], len(rest)
    except BrokenStreamError as error:
        whole, newline, _ = b"".join(held).rpartition(b"\n")
        if newline:
            yield whole + newline, None
        yield b"", ("broken_stream", str(error))
        return
    if size:
        yield b"".join(held), None


def _bytes_of(file: SourceFile) -> Iterator[bytes]:
    if file.stretch is None:
        yield from decompressed(file.path, file.compression)
        return
    with open(file.path, "rb") as raw:
        raw.seek(file.stretch.start)
        left = file.stretch.stop - file.stretch.start
        while chunk := raw.read(min(CHUNK_BYTES, left)):
            left -= len(chunk)
            yield chunk


def _without_mark(chunks: Iterator[bytes]) -> Iterator[bytes]:
    """The chunks without a byte order mark at the start, however they are cut."""
    head = b""
    for chunk in chunks:
        head += chunk
        if len(head) >= 3:
            break
    yield head.removeprefix(_MARK)
    yield from chunks


def _too_long() -> Fault:
    return "line_too_long", f"the line is longer than {MAX_LINE_BYTES:,} bytes"


# -- JSONL -----------------------------------------------------------------------------------------------------------


def _read_jsonl(file: SourceFile, columns: Sequence[str]) -> Iterator[Records]:
    row = file.stretch.row if file.stretch else 0
    line = row + 1  # every line before a stretch is a record
    for block, fault in _line_blocks(file):
        if row == 0 and fault is None and _is_json_array(block):
            remedy = "the file is one JSON array; allowed: one object a line. Rewrite it, for instance with jq -c '.[]'"
            yield _one_bad(_bad("json_array", remedy, row=0, line=1, excerpt=block), columns)
            return
        if fault is not None:
            yield _one_bad(_bad(*fault, row=row, line=line), columns)
            row, line = row + 1, line + 1
        else:
            records, row, line = _parse_block(block, columns, row, line)
            yield records


def _is_json_array(block: bytes) -> bool:
    """Whether a file that begins with this block is one array of objects and not lines of them.

    A file of one block is parsed to know; of a larger one the first line tells, as programs that indent write it.
    """
    if not block.lstrip().startswith(b"["):
        return False
    if len(block) >= BLOCK_BYTES:
        return block.lstrip().partition(b"\n")[0].strip() in (b"[", b"[{")
    try:
        value = json.loads(block)
    except ValueError:
        return False
    return isinstance(value, list) and any(isinstance(v, dict) for v in value)


def _parse_block(block: bytes, columns: Sequence[str], row: int, line: int) -> tuple[Records, int, int]:
    """One block by Arrow if every line of it is one plain object, else line by line."""
    if not block.endswith(b"\n"):
        block += b"\n"
    n_lines = block.count(b"\n")
    if not any("." in c for c in columns) and _is_plain(block):
        options = pajson.ParseOptions(
            explicit_schema=_guess_types(block, columns), unexpected_field_behavior="ignore"
        )
        try:
            table = pajson.read_json(
                pa.BufferReader(block),
                parse_options=options,
                read_options=pajson.ReadOptions(use_threads=False, block_size=len(block)),
            )
        except pa.ArrowInvalid:
            return _parse_lines(block, columns, row, line)
        if table.num_rows == n_lines:
            numbers = np.arange(n_lines)
            fields = {c: table[c].cast(pa.large_string()) for c in columns}
            records = Records(_string_table(row + numbers, line + numbers, fields), [], n_lines)
            return records, row + n_lines, line + n_lines
    return _parse_lines(block, columns, row, line)


def _guess_types(block: bytes, columns: Sequence[str]) -> pa.Schema:
    """Text, and whole numbers or truth values where the block's first record has them: both become text as in Python.

    Where a later record has another type Arrow refuses the block.
    """
    try:
        first = json.loads(block[: block.index(b"\n")])
    except (ValueError, RecursionError):
        first = {}
    types = {int: pa.int64(), bool: pa.bool_()}
    chosen = [types.get(type(first.get(c)), pa.large_string()) for c in columns[1:]]
    return pa.schema(zip(columns, [pa.large_string(), *chosen], strict=True))


def _is_plain(block: bytes) -> bool:
    """Whether every line looks like one object, and none has what Arrow lets pass and ``_parse_line`` refuses."""
    try:
        pa.LargeStringArray.from_buffers(
            1, pa.py_buffer(np.array([0, len(block)])), pa.py_buffer(block)
        ).validate(full=True)
    except pa.ArrowInvalid:
        return False  # not UTF-8, if only in a field that nobody reads
    data = np.frombuffer(block, np.uint8)
    ends = np.flatnonzero(data == 10)
    starts = np.concatenate([[0], ends[:-1] + 1])
    if (ends <= starts).any() or (ends - starts).max() > MAX_LINE_BYTES:
        return False
    last = ends - 1
    last = np.where((data[last] == 13) & (last > starts), last - 1, last)
    if not ((data[starts] == 123).all() and (data[last] == 125).all()):
        return False
    opening = np.flatnonzero((data & 0xDF) == 0x5B)  # { and [
    per_line = np.diff(np.searchsorted(opening, starts), append=opening.size)
    return not any(
        _is_too_deep(block[starts[i] : ends[i]]) for i in np.flatnonzero(per_line > MAX_JSON_DEPTH)
    )


def _is_too_deep(raw: bytes) -> bool:
    """Whether objects and lists are nested more than ``MAX_JSON_DEPTH`` deep; brackets inside of strings do not count."""
    if raw.count(b"{") + raw.count(b"[") <= MAX_JSON_DEPTH:
        return False
    shape = (
        raw.replace(b"\\\\", b"").replace(b'\\"', b"").translate(None, _NO_SHAPE)
    )  # quotes and brackets are left
    brackets = b"".join(shape.split(b'"')[::2])
    if brackets.count(b"{") + brackets.count(b"[") <= MAX_JSON_DEPTH:
        return False
    steps = np.frombuffer(brackets, np.uint8)
    opening = (steps & 0xDF) == 0x5B
    return int(np.cumsum(np.where(opening, 1, -1)).max()) > MAX_JSON_DEPTH


_NO_SHAPE = bytes(set(range(256)) - set(b'"[]{}'))


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


def _parse_line(raw: bytes, columns: Sequence[str]) -> tuple[dict[str, str | None], Fault | None]:
    """The fields of one line, or why it has none."""
    if len(raw) > MAX_LINE_BYTES:
        return {}, _too_long()
    if _is_too_deep(raw):
        return {}, ("malformed_json", f"nested more than {MAX_JSON_DEPTH} levels deep")
    try:
        value = json.loads(raw.decode("utf-8"), parse_int=_whole_number)
    except UnicodeDecodeError as error:
        return {}, ("invalid_utf8", f"byte {error.start} of the line is not UTF-8")
    except ValueError as error:
        return {}, ("malformed_json", str(error))
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


def _whole_number(digits: str) -> int | float:
    return int(digits) if len(digits) <= 4000 else float(digits)  # Python refuses int() above 4,300 digits


def _one_bad(bad: dict[str, Any], columns: Sequence[str]) -> Records:
    """A stretch that holds one record, which cannot be read."""
    return Records(_string_table([], [], {c: [] for c in columns}), [bad], 1)


def _string_table(rows: Any, lines: Any, fields: Mapping[str, Any]) -> pa.Table:
    columns = {"row": pa.array(rows, pa.int64()), "line": pa.array(lines, pa.int64())}
    for name, values in fields.items():
        columns[f"field:{name}"] = (
            values if isinstance(values, pa.Array | pa.ChunkedArray) else pa.array(values, pa.large_string())
        )
    return pa.table(columns)


# -- columnar formats --------------------------------------------------------------------------------------------------


def _read_batches(
    batches: Iterator[pa.RecordBatch], columns: Sequence[str], stretch: Stretch | None
) -> Iterator[Records]:
    """Records from batches of Arrow columns; a file that breaks keeps the batches before the break."""
    row = stretch.row if stretch else 0
    while True:
        try:
            batch = next(batches, None)
        except (pa.ArrowException, OSError) as error:
            yield _one_bad(_bad("broken_stream", (str(error).splitlines() or [""])[0], row=row), columns)
            return
        if batch is None:
            return
        step = max(1, min(BATCH_ROWS, batch.num_rows * BLOCK_BYTES // max(1, batch.nbytes)))
        for start in range(0, batch.num_rows, step):
            yield _checked(batch.slice(start, step), columns, row + start)
        row += batch.num_rows


def _checked(batch: pa.RecordBatch, columns: Sequence[str], first: int) -> Records:
    """String columns with valid UTF-8; rows that are not go to quarantine."""
    n_rows = batch.num_rows
    bad_rows: dict[int, Fault] = {}
    fields: dict[str, pa.Array] = {}
    for position, name in enumerate(columns):
        column = _find_column(batch, name)
        if isinstance(column, str) or (position == 0 and not _is_text(column.type)):
            fault = ("ambiguous_column", column) if isinstance(column, str) else ("missing_text", f"the column '{name}' is {column.type}, not text")  # fmt: skip
            bad_rows = {i: bad_rows.get(i, fault) for i in range(n_rows)}
            fields[name] = pa.nulls(n_rows, pa.large_string())
            continue
        column = (column if _is_text(column.type) else _as_text(column)).cast(pa.large_binary())
        valid = column.view(pa.large_string())
        try:
            valid.validate(full=True)
        except pa.ArrowInvalid:
            for i, value in enumerate(column.to_pylist()):
                try:
                    (value or b"").decode("utf-8")
                except UnicodeDecodeError as error:
                    bad_rows.setdefault(
                        i, ("invalid_utf8", f"byte {error.start} of the field '{name}' is not UTF-8")
                    )
            mask = pa.array([i in bad_rows for i in range(n_rows)])
            valid = pc.if_else(mask, pa.scalar(None, pa.large_binary()), column).view(pa.large_string())
        fields[name] = valid
    table = _string_table(np.arange(first, first + n_rows), pa.nulls(n_rows, pa.int64()), fields)
    if bad_rows:
        keep = np.ones(n_rows, bool)
        keep[list(bad_rows)] = False
        table = table.filter(pa.array(keep))
    return Records(table, [_bad(*bad_rows[i], row=first + i) for i in sorted(bad_rows)], n_rows)


def _find_column(batch: pa.RecordBatch, name: str) -> pa.Array | str:
    """The column, or the field inside of struct columns that a dotted name leads to; nulls where there is none.

    A text says why there is no single one.
    """
    names = batch.schema.names
    path = [name] if name in names else name.split(".")
    if names.count(path[0]) > 1:
        return f"the file has {names.count(path[0])} columns called '{path[0]}'"
    column = batch.column(path[0]) if path[0] in names else pa.nulls(batch.num_rows)
    for part in path[1:]:
        is_there = pa.types.is_struct(column.type) and column.type.get_field_index(part) >= 0
        column = pc.struct_field(column, part) if is_there else pa.nulls(batch.num_rows)
    return column.cast(column.type.value_type) if pa.types.is_dictionary(column.type) else column


def _is_text(kind: pa.DataType) -> bool:
    """Strings, and bytes that may hold UTF-8; also columns that hold nothing."""
    is_string = pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind)
    return is_string or pa.types.is_binary(kind) or pa.types.is_large_binary(kind) or pa.types.is_null(kind)


def _as_text(column: pa.Array) -> pa.Array:
    """Numbers, dates and nested values as text: plain casts where Arrow has them, else JSON."""
    try:
        return column.cast(pa.large_string())
    except (pa.ArrowNotImplementedError, pa.ArrowInvalid):
        texts = [
            None if v is None else json.dumps(v, ensure_ascii=False, sort_keys=True, default=str)
            for v in column.to_pylist()
        ]
        return pa.array(texts, pa.large_string())


def _roots(columns: Sequence[str], names: Sequence[str]) -> set[str]:
    """The top-level columns that are needed to find ``columns``."""
    return {c if c in names else c.split(".")[0] for c in columns}


def _read_parquet(file: SourceFile, columns: Sequence[str]) -> Iterator[Records]:
    def batches() -> Iterator[pa.RecordBatch]:
        with pq.ParquetFile(file.path) as parquet:
            names = parquet.schema_arrow.names
            needed = sorted(_roots(columns, names) & set(names))
            groups = range(parquet.num_row_groups)
            for group in groups[file.stretch.start : file.stretch.stop] if file.stretch else groups:
                facts = parquet.metadata.row_group(group)
                size = max(1, min(BATCH_ROWS, facts.num_rows * BLOCK_BYTES // max(1, facts.total_byte_size)))
                for batch in parquet.iter_batches(
                    size, row_groups=[group], columns=needed, use_threads=False
                ):
                    yield (
                        batch
                        if needed
                        else pa.RecordBatch.from_struct_array(pa.array([{}] * batch.num_rows, pa.struct([])))
                    )

    if file.path.stat().st_size == 0:
        return iter(())
    return _read_batches(batches(), columns, file.stretch)


def _read_arrow(file: SourceFile, columns: Sequence[str]) -> Iterator[Records]:
    def batches() -> Iterator[pa.RecordBatch]:
        with pa.memory_map(str(file.path)) as source:
            for batch in _arrow_batches(source, file.stretch):
                roots = _roots(columns, batch.schema.names)
                batch = batch.select([i for i, name in enumerate(batch.schema.names) if name in roots])
                for column in batch.columns:
                    _check_layout(column)
                yield batch

    if file.path.stat().st_size == 0:
        return iter(())
    return _read_batches(batches(), columns, file.stretch)


def _arrow_batches(
    source: pa.NativeFile, stretch: Stretch | None, *, narrow: bool = False
) -> Iterator[pa.RecordBatch]:
    """The record batches of Arrow IPC, file or stream; with ``narrow`` one column of them, which has their rows.

    A file without its footer is read as the stream that it holds.
    """
    options = pa.ipc.IpcReadOptions(included_fields=[0] if narrow else None)
    start, stop = (stretch.start, stretch.stop) if stretch else (0, None)
    is_file = source.read(6) == _ARROW_FILE
    source.seek(0)
    if is_file:
        try:
            reader = pa.ipc.open_file(source, options=options)
        except pa.ArrowInvalid:
            source.seek(8)
        else:
            yield from (reader.get_batch(i) for i in range(reader.num_record_batches)[start:stop])
            return
    yield from itertools.islice(pa.ipc.open_stream(source, options=options), start, stop)


_ARROW_FILE = b"ARROW1"


def _check_layout(column: pa.Array) -> None:
    """Refuse offsets that point outside of their buffers: nothing between the file and here has looked at them."""
    as_bytes = {
        pa.string(): pa.binary(),
        pa.large_string(): pa.large_binary(),
        pa.string_view(): pa.binary_view(),
    }
    column = column.view(as_bytes[column.type]) if column.type in as_bytes else column
    column.validate(full=True)


# -- CSV ---------------------------------------------------------------------------------------------------------------


class _Lines:
    """The lines of a file for ``csv.reader``, which takes them one by one: it ends at a fault, and can then go on."""

    def __init__(self, file: SourceFile) -> None:
        self._blocks = _line_blocks(file)
        self._lines: Iterator[str] = iter(())
        self.number = 0  # of the last line that was taken
        self.record: list[str] = []  # how the current record begins
        self.fault: Fault | None = None
        self.is_done = False

    def __iter__(self) -> _Lines:
        return self

    def __next__(self) -> str:
        while (line := next(self._lines, None)) is None:
            if self.fault is None:
                block, self.fault = next(self._blocks, (b"", None))
                self.is_done = not block and self.fault is None
            if self.fault is not None or self.is_done:
                raise StopIteration
            # Bytes that are not UTF-8 become lone surrogates, which no valid text holds.
            self._lines = iter(io.StringIO(block.decode("utf-8", "surrogateescape"), newline="\n"))
        self.number += 1
        if len(self.record) < 3:
            self.record.append(line[:EXCERPT_CHARACTERS])
        return line

    @property
    def excerpt(self) -> bytes:
        return "".join(self.record).rstrip("\r\n").encode("utf-8", "surrogateescape")


def _csv_rows(file: SourceFile) -> Iterator[tuple[int, list[str], Fault | None, bytes]]:
    """Line, fields, fault and excerpt of each record; the fields are empty where there is a fault.

    Python's reader, not Arrow's: that one takes a quote that is never closed for a field as long as the file, drops
    quotes from the middle of one, and stops at a record that is longer than its block.
    """
    csv.field_size_limit(MAX_LINE_BYTES)  # of the process; 128 KiB by default
    delimiter = "\t" if file.format == "tsv" else ","
    lines = _Lines(file)
    while not lines.is_done:
        reader = csv.reader(lines, delimiter=delimiter, strict=True)
        fields: list[str] | None = []
        line = 1
        while fields is not None:
            lines.record, line = [], lines.number + 1
            try:
                fields = next(reader, None)
            except csv.Error as error:
                if lines.fault is not None:
                    break  # the record was cut off by it
                yield line, [], ("malformed_csv", _explain_csv(str(error))), lines.excerpt
            else:
                if fields:  # an empty line has none
                    yield line, fields, None, lines.excerpt
        if lines.fault is not None:
            yield line, [], lines.fault, lines.excerpt
            lines.fault, lines.number = None, lines.number + 1


def _read_csv(file: SourceFile, columns: Sequence[str]) -> Iterator[Records]:
    """CSV with a header line. A record that is no well-formed row, or not as wide as the header, is quarantined."""
    records = _csv_rows(file)
    line, header, fault, excerpt = next(records, (1, [], None, b""))
    repeated = [c for c in columns if c and header.count(c) > 1]
    if repeated:
        fault = ("ambiguous_column", f"the header names '{repeated[0]}' {header.count(repeated[0])} times")
    if fault is not None:
        detail = f"the header: {fault[1]}; no record was read"
        yield _one_bad(_bad(fault[0], detail, row=0, line=line, excerpt=excerpt), columns)
        return
    places = {c: header.index(c) for c in columns if c in header}
    row, is_open = 0, True
    while is_open:
        first, size = row, 0
        rows: list[int] = []
        lines: list[int] = []
        fields: dict[str, list[str | None]] = {c: [] for c in columns}
        bad: list[dict[str, Any]] = []
        while size < BLOCK_BYTES and row - first < BATCH_ROWS:
            record = next(records, None)
            if record is None:
                is_open = False
                break
            line, values, fault, excerpt = record
            fault = fault or _row_fault(values, len(header), places)
            if fault is None:
                rows.append(row)
                lines.append(line)
                for c in columns:
                    fields[c].append(values[places[c]] if c in places else None)
            else:
                bad.append(_bad(*fault, row=row, line=line, excerpt=excerpt))
            size += sum(map(len, values))
            row += 1
        if row > first:
            yield Records(_string_table(rows, lines, fields), bad, row - first)


def _explain_csv(message: str) -> str:
    """What ``csv`` says, for those who do not call it themselves."""
    if message == "unexpected end of data":
        return "a quote opens a field and is never closed"
    return "a carriage return outside of quotes" if message.startswith("new-line") else message


def _row_fault(values: Sequence[str], width: int, places: Mapping[str, int]) -> Fault | None:
    if len(values) != width:
        return "ragged_row", f"the row has {len(values)} fields, the header {width}"
    for name, place in places.items():
        try:
            values[place].encode("utf-8")
        except UnicodeEncodeError as error:
            before = len(values[place][: error.start].encode("utf-8"))
            return "invalid_utf8", f"byte {before} of the field '{name}' is not UTF-8"
    return None


# -- plain text ---------------------------------------------------------------------------------------------------------


def _read_text(file: SourceFile, columns: Sequence[str]) -> Iterator[Records]:
    """A plain-text file is one document."""
    held: list[bytes] = []
    size, broken = 0, ""
    try:
        for chunk in decompressed(file.path, file.compression):
            held.append(chunk)
            size += len(chunk)
            if size > MAX_LINE_BYTES:
                raise DataError(
                    f"{file.path}: larger than {MAX_LINE_BYTES >> 20} MiB as one document. Split the file."
                )
    except BrokenStreamError as error:
        broken = str(error)
    raw = b"".join(held).removeprefix(_MARK)
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
