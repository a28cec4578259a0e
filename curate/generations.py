"""The directory of a persistent index: generations of kept documents, how they are read, looked up and written.

    DIR/manifest.json                                   what all generations agree in, and which there are
        generations/000002-1f0c…/run-000000/keys.arrow        key uint64 ascending, row int64
                                           /documents.arrow   id, source, text, and what ranks a document
        lock                                            held by the one command that writes

    generation   what one command kept; it never changes
    run          two files of a generation: the documents of one table, or about a gigabyte of a curation run's

Look-up: search keys of new documents, ascending, are looked for in those of each run by binary search in a memory map;
then the rows that were found are read, and no others. Texts are checked against their content hashes.

Commit: a generation is written under a temporary name, synced and renamed; then ``manifest.json`` is replaced, and that
is the only commit. A kill at any point leaves the generations as they were, and the next writer removes what was left
behind. Readers need no lock: they read the manifest, and then files that never change.

Price on disk, each document: its text, id and source, 16 bytes for each search key (one for the content, one for each
field of ``by``, one for each band: 192 in all at the threshold 0.8) and about 70 besides (16 more for each field). A
look-up costs one binary search for each new key and run. Nothing old is rewritten.
"""

from __future__ import annotations

import contextlib
import dataclasses
import fcntl
import functools
import json
import os
import re
import shutil
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from curate.engine import digest_of, quick_digest, write_atomic
from curate.shards import ShardWriter
from filters.errors import ConfigError, DataError, RunError

FORMAT = 1
KIND = "dedup-index"
KEYS = pa.schema([pa.field("key", pa.uint64(), nullable=False), pa.field("row", pa.int64(), nullable=False)])

KEYS_FILE, DOCUMENTS_FILE = "keys.arrow", "documents.arrow"
_MANIFEST, _GENERATIONS, _LOCK = "manifest.json", "generations", "lock"
_TYPES = {
    "exact": bool, "by": list, "threshold": float | int | None,
    **dict.fromkeys(("ngram", "seed", "bands", "rows"), int | None),
}  # fmt: skip
_GENERATION_NAME, _RUN_NAME = re.compile(r"\d{6,}-[0-9a-f]{12}"), re.compile(r"run-\d{6,}")
_BATCH_KEYS = 1 << 19

Keys = npt.NDArray[np.uint64]
Rows = npt.NDArray[np.int64]


# ---------------------------------------------------------------------------------------------------------
# What an index directory is
# ---------------------------------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True, slots=True)
class IndexSettings:
    """What must be equal for two documents' search keys and hashes to be comparable.

    Attributes:
        content_algorithm: of the content hashes (``filters.fingerprint``).
        exact: whether equal contents are duplicates.
        by: fields whose equal values make duplicates.
        scope: ``across`` sources or ``within`` each.
        algorithm, ngram, seed, bands, rows, similarity, hash_family: of near duplicates; None where none are sought.
        threshold: new data may ask for a higher one: the keys find those pairs even more surely.
    """

    content_algorithm: str
    exact: bool = True
    by: tuple[str, ...] = ()
    scope: str = "across"
    algorithm: str | None = None
    ngram: int | None = None
    seed: int | None = None
    bands: int | None = None
    rows: int | None = None
    threshold: float | None = None
    similarity: str | None = None
    hash_family: str | None = None

    def differences(self, asked: IndexSettings) -> list[str]:
        """What keeps new data with the settings ``asked`` from being compared with an index of these; empty if nothing."""
        found = []
        for field in dataclasses.fields(self):
            has, wants = getattr(self, field.name), getattr(asked, field.name)
            is_threshold = field.name == "threshold" and has is not None and wants is not None
            if has != wants and not (is_threshold and wants > has):
                allowed = f"{_shown(has)}{' or more' if is_threshold else ''}, with which the index was built"
                found.append(f"{field.name}: found {_shown(wants)}; allowed: {allowed}.")
        return found


def _shown(value: object) -> str:
    return "null" if value is None else json.dumps(value, ensure_ascii=False)


@dataclasses.dataclass(frozen=True, slots=True)
class IndexRun:
    """Two files of a generation, with their sizes and hashes."""

    path: Path
    documents: int
    files: Mapping[str, str]
    bytes: Mapping[str, int]


@dataclasses.dataclass(frozen=True, slots=True)
class Generation:
    """What one command added. ``digest`` names its bytes, and those of all generations before it."""

    name: str
    digest: str
    runs: tuple[IndexRun, ...]

    @property
    def documents(self) -> int:
        return sum(run.documents for run in self.runs)


@dataclasses.dataclass(frozen=True, slots=True)
class Index:
    """What the manifest says; the oldest generation comes first."""

    directory: Path
    settings: IndexSettings
    generations: tuple[Generation, ...]

    @property
    def runs(self) -> tuple[IndexRun, ...]:
        return tuple(run for generation in self.generations for run in generation.runs)

    @property
    def documents(self) -> int:
        return sum(run.documents for run in self.runs)

    @property
    def bytes(self) -> int:
        """Size of all files on disk."""
        return sum(size for run in self.runs for size in run.bytes.values())

    def check(self, asked: IndexSettings) -> None:
        """Refuse to compare what cannot be compared.

        Raises:
            ConfigError: every setting that differs.
        """
        faults = self.settings.differences(asked)
        if faults:
            raise ConfigError([f"{self.directory}: {fault} Give that, or another index." for fault in faults])


def documents_schema(by: Sequence[str]) -> pa.Schema:
    """Columns of documents.arrow: what identifies, compares and ranks a document.

    A document without a text has an empty one, and no content hash.

    ``position`` ranks documents of a source without native ids; where ids are native it is 0 and the id ranks them.
    """
    return pa.schema(
        [
            pa.field("id", pa.string(), nullable=False),
            pa.field("source", pa.string(), nullable=False),
            pa.field("text", pa.large_string(), nullable=False),
            pa.field("content_hash", pa.binary(16)),
            *(pa.field(f"by_{field}", pa.binary(16)) for field in by),
            pa.field("priority", pa.float64()),
            pa.field("quality", pa.float64()),
            pa.field("length", pa.int64(), nullable=False),
            pa.field("position", pa.int64(), nullable=False),
        ]
    )


# ---------------------------------------------------------------------------------------------------------
# Reading
# ---------------------------------------------------------------------------------------------------------


def open_index(directory: str | Path) -> Index:
    """What an index holds. Reads its manifest and the sizes of its files, and nothing else.

    Raises:
        ConfigError: no index is there.
        DataError: the index is damaged, or of a newer format.
    """
    directory = Path(directory).absolute()
    while True:
        index = read_index(directory)
        damage = _damage_of(index)
        if damage is None:
            return index
        if read_index(directory).generations == index.generations:  # else a writer has replaced one meanwhile
            raise damage


def read_index(directory: Path) -> Index:
    """What the manifest says, whether or not its files are there."""
    path = directory / _MANIFEST
    try:
        text = path.read_text(encoding="utf-8")
    except (FileNotFoundError, NotADirectoryError):
        raise ConfigError(
            f"{directory}: no index is here (it has no {_MANIFEST}). Build one first, or give its directory."
        ) from None
    except (OSError, ValueError) as error:
        raise _damage(path, str(error)) from None
    try:
        manifest = json.loads(text)
    except ValueError as error:
        raise _damage(path, f"not readable as JSON ({error})") from None
    if not isinstance(manifest, dict) or manifest.get("kind") != KIND:
        kind = manifest.get("kind") if isinstance(manifest, dict) else None
        raise ConfigError(
            f"{path}: a directory of kind {_shown(kind)}; needed: '{KIND}'. Give the directory of an index."
        )
    if type(manifest.get("format")) is not int:
        raise _damage(path, "it names no format")
    if manifest["format"] > FORMAT:
        raise DataError(
            f"{path}: format {manifest['format']}; this version reads up to format {FORMAT}. Install a newer curate-mixtures."
        )
    try:
        return _parse(directory, manifest)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise _damage(path, f"{type(error).__name__}: {error}") from None


def _parse(directory: Path, manifest: Mapping[str, Any]) -> Index:
    values = {field.name: manifest[field.name] for field in dataclasses.fields(IndexSettings)}
    for name, value in values.items():
        if not isinstance(value, _TYPES.get(name, str | None)):
            raise ValueError(f"{name} is {_shown(value)}")
    generations = []
    for listed in manifest["generations"]:
        runs = []
        for run in listed["runs"]:
            if not (_GENERATION_NAME.fullmatch(listed["name"]) and _RUN_NAME.fullmatch(run["path"])):
                raise ValueError(f"a name that no index has: {listed['name']}/{run['path']}")
            if {*run["files"]} != {*run["bytes"]} or {*run["files"]} != {KEYS_FILE, DOCUMENTS_FILE}:
                raise ValueError(f"{run['path']} lists other files than {KEYS_FILE} and {DOCUMENTS_FILE}")
            path = directory / _GENERATIONS / listed["name"] / run["path"]
            sizes = {name: int(size) for name, size in run["bytes"].items()}
            runs.append(IndexRun(path, int(run["documents"]), dict(run["files"]), sizes))
        generations.append(Generation(listed["name"], str(listed["digest"]), tuple(runs)))
    return Index(directory, IndexSettings(**{**values, "by": tuple(values["by"])}), tuple(generations))


def _damage_of(index: Index) -> DataError | None:
    """What is wrong with the first file that is not there in its full size."""
    for run in index.runs:
        for name, size in run.bytes.items():
            try:
                found = (run.path / name).stat().st_size
            except OSError as error:
                return _damage(run.path / name, error.strerror or str(error))
            if found != size:
                return _damage(run.path / name, f"{found} bytes; the manifest says {size}")
    return None


def _damage(path: Path, what: str) -> DataError:
    return DataError(
        f"{path}: the index is damaged: {what}. Restore the file from a copy, or build the index again."
    )


def verify_index(directory: str | Path) -> int:
    """Hash every file of an index; returns how many there are. Opening an index looks at their sizes only.

    Raises:
        DataError: a file that is not what the manifest says.
    """
    files = [
        (run.path / name, digest) for run in open_index(directory).runs for name, digest in run.files.items()
    ]
    for path, digest in files:
        if quick_digest(path) != digest:
            raise _damage(path, "its bytes are not those that were written")
    return len(files)


class Matches(NamedTuple):
    """Entries of an index whose key is looked for."""

    key: Keys
    row: Rows


def matching_keys(path: str | Path, keys: Keys) -> Matches:
    """The entries of one keys.arrow whose key is among ``keys``, by key and row.

    Binary searches in the memory map: few of its pages are read when few keys are looked for.

    Args:
        keys: ``(n,) uint64``, ascending.

    Raises:
        DataError: the file is damaged.
    """
    found_keys, found_rows = [np.zeros(0, np.uint64)], [np.zeros(0, np.int64)]
    wanted = keys[np.concatenate([[True], keys[1:] != keys[:-1]])] if len(keys) else keys
    for batch in mapped_batches(Path(path), KEYS):
        own, rows = batch["key"].to_numpy(), batch["row"].to_numpy()
        if not len(own):
            continue
        inside = wanted[np.searchsorted(wanted, own[0]) : np.searchsorted(wanted, own[-1], "right")]
        first = np.searchsorted(own, inside)
        hit = own[np.minimum(first, len(own) - 1)] == inside
        inside, first = inside[hit], first[hit]
        counts = np.searchsorted(own, inside, "right") - first
        starts = np.cumsum(counts) - counts
        places = np.arange(counts.sum()) + np.repeat(first - starts, counts)
        found_keys.append(np.repeat(inside, counts))
        found_rows.append(rows[places])
    return Matches(np.concatenate(found_keys), np.concatenate(found_rows))


def read_documents(path: str | Path, rows: Rows, columns: Sequence[str]) -> pa.Table:
    """Some rows of one documents.arrow, ascending; other rows are not touched.

    Texts are checked against their content hashes when both are read, so damage is noticed where it would matter.

    Raises:
        DataError: the file is damaged.
    """
    path = Path(path)
    batches = mapped_batches(path)
    bounds = np.cumsum([0, *(batch.num_rows for batch in batches)])
    if len(rows) and (rows[0] < 0 or rows[-1] >= bounds[-1]):
        raise _damage(path.with_name(KEYS_FILE), f"it names row {rows[-1]} of {bounds[-1]}")
    known = batches[0].schema if batches else documents_schema([c.removeprefix("by_") for c in columns])
    missing = [name for name in columns if name not in known.names]
    if missing:
        raise _damage(path, f"it has no column '{missing[0]}'")
    cuts = np.searchsorted(rows, bounds)
    touched = [(batches[n], rows[cuts[n] : cuts[n + 1]] - bounds[n]) for n in np.flatnonzero(np.diff(cuts))]
    taken: dict[str, list[pa.Array]] = {name: [] for name in columns}
    for batch, local in touched:
        for name in columns:
            if pa.types.is_string(batch.schema.field(name).type):
                _string_bounds(path, batch[name], local)
            if name != "text":
                taken[name].append(batch[name].take(pa.array(local)))
    if "text" in columns:
        taken["text"] = [_read_texts(path, [(batch["text"], local) for batch, local in touched])]
    arrays = [pa.chunked_array(taken[name], known.field(name).type) for name in columns]
    table = pa.table(arrays, schema=pa.schema([known.field(name) for name in columns]))
    if "text" in columns and "content_hash" in columns:
        _check_contents(path, table)
    return table


def mapped_batches(path: Path, schema: pa.Schema | None = None) -> list[pa.RecordBatch]:
    """The record batches of an Arrow file, mapped: nothing is read but where they are. The last few files stay mapped."""
    batches = _mapped_file(path)[0]
    if schema is not None and batches and batches[0].schema != schema:
        raise _damage(path, f"its columns are {batches[0].schema.names}")
    return batches


def _mapped_file(path: Path) -> tuple[list[pa.RecordBatch], int]:
    try:
        status = path.stat()
        return _map(path, status.st_size, status.st_mtime_ns)
    except (OSError, pa.ArrowException) as error:
        raise _damage(path, str(error).splitlines()[0]) from None


@functools.lru_cache(maxsize=16)
def _map(path: Path, size: int, changed: int) -> tuple[list[pa.RecordBatch], int]:
    """Record batches, and the address at which the file begins in memory.

    Kept, since finding the record batches touches pages all over the file, which takes longer than most look-ups.
    """
    with pa.memory_map(str(path)) as source:
        address = source.read_buffer(1).address
        reader = pa.ipc.open_file(source)
        batches = [reader.get_batch(i) for i in range(reader.num_record_batches)]
    for batch in batches:
        batch.validate()  # that its buffers hold so many rows
    return batches, address


def _string_bounds(path: Path, column: pa.Array, rows: Rows) -> tuple[Rows, Rows]:
    """Where the values of some rows begin and end. Arrow trusts these offsets; those of a damaged file lead anywhere."""
    _, offsets, data = column.buffers()
    width = np.int64 if pa.types.is_large_string(column.type) else np.int32
    bounds = np.frombuffer(offsets, width)[column.offset : column.offset + len(column) + 1]
    start, stop = bounds[rows].astype(np.int64), bounds[rows + 1].astype(np.int64)
    if not ((start >= 0) & (start <= stop) & (stop <= (data.size if data else 0))).all():
        raise _damage(path, "offsets that lead outside of the file")
    return start, stop


def _read_texts(path: Path, touched: Sequence[tuple[pa.Array, Rows]]) -> pa.Array:
    """Texts of some rows of mapped columns, read from the file and not through the map.

    A system call for each stretch of texts costs half the CPU time of the page faults of a map that is touched here and
    there, and none of the memory: each of those faults maps what surrounds it, and with it most of a file.
    """
    base = _mapped_file(path)[1]
    starts, sizes = [np.zeros(0, np.int64)], [np.zeros(0, np.int64)]
    for column, rows in touched:
        start, stop = _string_bounds(path, column, rows)
        data = column.buffers()[2]
        starts.append(start + (data.address - base if data else 0))
        sizes.append(stop - start)
    start, size = np.concatenate(starts), np.concatenate(sizes)
    offsets = np.concatenate([[0], np.cumsum(size)]).astype(np.int64)
    texts = np.empty(int(offsets[-1]), np.uint8)
    first = (
        np.flatnonzero(np.concatenate([[True], start[1:] != start[:-1] + size[:-1]])) if len(start) else start
    )
    room = texts.data
    with open(path, "rb", buffering=0) as file:
        for place, a, b in zip(start[first].tolist(), offsets[first].tolist(), [*offsets[first[1:]].tolist(), len(texts)], strict=False):  # fmt: skip
            while a < b:
                read = os.preadv(file.fileno(), [room[a:b]], place)
                if not read:
                    raise _damage(path, "it ends before its texts do")
                a, place = a + read, place + read
    return pa.Array.from_buffers(
        pa.large_string(), len(size), [None, pa.py_buffer(offsets), pa.py_buffer(texts)]
    )


def _check_contents(path: Path, table: pa.Table) -> None:
    from filters.fingerprint import fingerprints

    hashes = table["content_hash"]
    has_text = pc.is_valid(hashes).to_numpy()
    if not np.array_equal(fingerprints(table["text"])[has_text], hash_words(hashes)[has_text]):
        raise _damage(path, "texts that do not have their content hashes")


def hash_words(column: pa.ChunkedArray | pa.Array) -> Keys:
    """``(rows, 2) uint64`` of a binary(16) column; zeros for nulls."""
    chunks = column.chunks if isinstance(column, pa.ChunkedArray) else [column]
    found = [np.zeros((0, 2), np.uint64)]
    for chunk in chunks:
        start = 16 * chunk.offset
        data = np.frombuffer(chunk.buffers()[1], np.uint8)[start : start + 16 * len(chunk)]
        words = np.array(data).view(np.uint64).reshape(-1, 2)
        if chunk.null_count:
            words[chunk.is_null().to_numpy(zero_copy_only=False)] = 0
        found.append(words)
    return np.concatenate(found)


# ---------------------------------------------------------------------------------------------------------
# Writing
# ---------------------------------------------------------------------------------------------------------


def write_keys(path: Path, parts: Iterable[tuple[Keys, Rows]]) -> int:
    """keys.arrow from parts of entries: the keys of a part are all below those of the next; returns the entries."""
    written = held_keys = 0
    held: list[tuple[Keys, Rows]] = []
    with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_file(sink, KEYS) as writer:

        def flush() -> None:
            key, row = (np.concatenate([part[i] for part in held]) for i in (0, 1))
            order = np.argsort(key, kind="stable")
            writer.write_batch(pa.record_batch([key[order], row[order]], schema=KEYS))

        for part in parts:
            held.append(part)
            held_keys += len(part[0])
            written += len(part[0])
            if held_keys >= _BATCH_KEYS:
                flush()
                held, held_keys = [], 0
        if held_keys:
            flush()
    return written


def write_documents(path: Path, tables: Iterable[pa.Table], by: Sequence[str]) -> int:
    """documents.arrow from tables with the columns of ``documents_schema``; returns the rows."""
    with ShardWriter(path, documents_schema(by)) as writer:
        for table in tables:
            writer.write(table)
    return writer.rows


@contextlib.contextmanager
def writing(directory: Path) -> Iterator[Index | None]:
    """Hold the lock of an index, and remove what a writer that was killed left behind.

    Yields:
        the index, or None where there is none yet.

    Raises:
        RunError: another command holds the lock.
        ConfigError: the directory holds something else, or cannot be written.
    """
    check_is_free(directory)
    try:
        (directory / _GENERATIONS).mkdir(parents=True, exist_ok=True)
        lock = os.open(directory / _LOCK, os.O_RDWR | os.O_CREAT, 0o644)
    except OSError as error:
        raise ConfigError(
            f"{directory}: cannot be written ({error.strerror}). Give a directory that you may write into."
        ) from None
    try:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise RunError(
                f"{directory}: another command is writing this index. Wait for it, and run this one again."
            ) from None
        index = open_index(directory) if holds_index(directory) else None
        _remove_leftovers(directory, index)
        yield index
    finally:
        os.close(lock)  # the kernel releases the lock with the descriptor


def check_is_free(directory: Path) -> None:
    """Refuse a directory that holds anything but an index, or what a killed writer left of one.

    Raises:
        ConfigError: what is there.
    """
    if directory.exists() and not directory.is_dir():
        raise ConfigError(f"{directory}: found a file; allowed: a directory. Give another one.")
    if not directory.exists() or holds_index(directory):
        return
    other = sorted(n for n in os.listdir(directory) if n not in (_LOCK, _GENERATIONS) and not _is_scratch(n))
    if other:
        raise ConfigError(
            f"{directory}: no index, and not empty (it holds '{other[0]}'). Give the directory of an index, or a new one."
        )


def holds_index(directory: Path) -> bool:
    """Whether an index was ever committed here (or anything else that has a manifest)."""
    return (directory / _MANIFEST).exists()


def _is_scratch(name: str) -> bool:
    """Whether a file is a manifest on its way: see ``curate.engine.write_atomic``."""
    return name.startswith(f".{_MANIFEST}.")


def _remove_leftovers(directory: Path, index: Index | None) -> None:
    named = {generation.name for generation in index.generations} if index else set()
    for path in (directory / _GENERATIONS).iterdir():
        if path.name not in named:
            shutil.rmtree(path)
    for path in directory.iterdir():
        if _is_scratch(path.name):
            path.unlink()


Written = tuple[int, Mapping[str, str]]
"""Documents of a run, and the hashes of its two files by name."""


def commit(
    directory: Path,
    before: Index | None,
    settings: IndexSettings,
    *,
    keep: int,
    write: Callable[[Path], Sequence[Written]],
) -> Index:
    """Put a generation after the first ``keep`` ones of ``before``, in place of those after them. Needs the lock.

    Args:
        write: makes ``run-000000`` and so on in a directory. Without any run there is no new generation.

    Raises:
        RunError: the disk is full, or fails otherwise; the index is as it was.
    """
    kept = before.generations[:keep] if before else ()
    scratch = directory / _GENERATIONS / f"tmp-{os.getpid()}-{time.time_ns()}"
    try:
        scratch.mkdir()
        written = write(scratch)
        listed = [_listed(generation) for generation in kept]
        if written:
            name, digest = name_of(kept, settings, written)
            runs = [
                {"path": path, "documents": documents, "files": dict(files), "bytes": {n: (scratch / path / n).stat().st_size for n in files}}
                for path, (documents, files) in ((run_path(number), run) for number, run in enumerate(written))
            ]  # fmt: skip
            listed.append({"name": name, "digest": digest, "runs": runs})
            for path in (*scratch.rglob("*"), scratch):
                _sync(path)
            os.rename(scratch, directory / _GENERATIONS / name)
            _sync(directory / _GENERATIONS)
        manifest = {"format": FORMAT, "kind": KIND, **dataclasses.asdict(settings), "generations": listed}
        write_atomic(directory / _MANIFEST, json.dumps(manifest, indent=1, ensure_ascii=False) + "\n")
    except OSError as error:
        with contextlib.suppress(OSError):
            _remove_leftovers(directory, before)
        raise RunError(
            f"{directory}: the new generation could not be written ({error.strerror or error}). The index is as it was. "
            "Make room on the disk, and run the same command again."
        ) from error
    _sync(directory)
    index = open_index(directory)
    with contextlib.suppress(OSError):
        _remove_leftovers(directory, index)  # what is replaced
    return index


def run_path(number: int) -> str:
    """The name of a generation's run.

    >>> run_path(2)
    'run-000002'
    """
    return f"run-{number:06d}"


def name_of(
    before: Sequence[Generation], settings: IndexSettings, written: Sequence[Written]
) -> tuple[str, str]:
    """Name and digest of a generation, which follow from its bytes and from those of all before it."""
    digest = digest_of(
        {
            "settings": dataclasses.asdict(settings),
            "before": [generation.digest for generation in before],
            "runs": [[documents, dict(files)] for documents, files in written],
        }
    )
    number = 1 + (int(before[-1].name.partition("-")[0]) if before else 0)
    return f"{number:06d}-{digest[:12]}", digest


def _listed(generation: Generation) -> dict[str, Any]:
    runs = [
        {
            "path": run.path.name,
            "documents": run.documents,
            "files": dict(run.files),
            "bytes": dict(run.bytes),
        }
        for run in generation.runs
    ]
    return {"name": generation.name, "digest": generation.digest, "runs": runs}


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
