"""One pass over documents: signals, language, quality score, content hash, and keys for duplicate search.

``measure(table)`` is the whole of it for a table in memory. As an engine step, one part is one documents shard; beside
its signals it writes, for the search for duplicates and read by its steps only:

    facts.arrow     what ranks a document, and what is equal in exact copies     one row a document
    sketch.arrow    64 bytes that estimate its similarity with others            one row a document
    keys.arrow      (key, document): who shares a key may be a duplicate         dealt by the highest bits of the key

so that part p of the next step reads portion p of every keys.arrow (``curate.shuffle``). How many portions there are
follows from the number of documents, never from the workers. Nothing is sorted.

Price, where nothing but duplicates is searched for: about a second of CPU for each gigabyte of text; 16 bytes on disk for
each key, 65 for a sketch and 40 and more for facts; in memory a row group and 4 MB of keys.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from curate.config import nearest
from curate.schema import documents_schema
from curate.shards import ShardWriter, read_groups
from filters.column import Bytes, Offsets, string_buffers
from filters.compiling import njit
from filters.errors import ConfigError, DataError
from filters.signals import text_signals

if TYPE_CHECKING:
    from curate.minhash import Sketch

Hashes = npt.NDArray[np.uint64]

HASH = pa.binary(16)
KEYS = pa.schema([pa.field("key", pa.uint64()), pa.field("doc", pa.int64())])
SKETCH = pa.schema([pa.field("bits", pa.binary(64)), pa.field("has_words", pa.bool_())])

_NO_DOCUMENTS = documents_schema([]).empty_table()


def facts_schema(by: Sequence[str]) -> pa.Schema:
    """Columns of facts.arrow: ``by_FIELD`` is null where the field is, ``quality`` where nothing measures it.

    ``priority`` is that of a source whose records have one, with minus infinity for those without a value; it is null
    where the configuration gives one priority to the whole source. ``length`` is in characters.
    """
    return pa.schema(
        [
            pa.field("content_hash", HASH, nullable=False),
            *(pa.field(f"by_{name}", HASH) for name in by),
            pa.field("priority", pa.float64()),
            pa.field("quality", pa.float64()),
            pa.field("length", pa.int64(), nullable=False),
            pa.field("text_bytes", pa.int64(), nullable=False),
        ]
    )


def content_hashes(texts: pa.Array | pa.ChunkedArray) -> pa.Array:
    """128-bit fingerprint of each text (``filters.fingerprint``), ``fixed_size_binary[16]``.

    Two documents with the same hash are taken for the same text, but for white space and Unicode form: at 10^9
    documents the chance of any accident is below 10^-20.

    >>> a, b = content_hashes(pa.array(["one  two", "one two"]))
    >>> a == b, len(a.as_py())
    (True, 16)
    """
    from filters.fingerprint import fingerprints

    return _as_binary(fingerprints(texts))


def measure(
    data: pa.Table,
    *,
    text: str = "text",
    signals: Sequence[str] = ("gopher", "gopher_repetition"),
    language: bool = True,
    quality_model: str | Path | None = None,
) -> pa.Table:
    """All signals of a table of documents, in its row order; id and source come along when the table has them.

    Args:
        data: a table with a column of texts.
        text: the name of that column.
        signals: groups of text signals (``filters.signals``); without any, only the number of characters.
        language: also detect the language (columns ``language`` and ``language_score``).
        quality_model: a model of ``filters.train_quality``; without one the column ``quality`` is null.

    Raises:
        ConfigError: no column of that name, or no group of signals of that name.

    >>> table = measure(pa.table({"text": ["one two three"]}), language=False)
    >>> table["word_count"].to_pylist()
    [3]
    """
    if text not in data.column_names:
        raise ConfigError(f"text: no column is called '{text}'{nearest(text, data.column_names) or '.'} Columns: {', '.join(data.column_names)}.")  # fmt: skip
    texts = data[text]
    columns: dict[str, Any] = {name: data[name] for name in ("id", "source") if name in data.column_names}
    if signals:
        measured = text_signals(texts, groups=tuple(signals))
        columns |= {name: measured[name] for name in measured.column_names}
    if "char_count" not in columns:
        columns["char_count"] = count_characters(texts)
    if language:
        from filters.language import detect_language

        found = detect_language(texts)
        columns |= {"language": found["language"], "language_score": found["language_score"]}
    if quality_model is not None:
        from filters.quality import score_quality

        columns["quality"] = score_quality(texts, Path(quality_model))
    elif signals or language:
        columns["quality"] = pa.nulls(len(data), pa.float64())
    columns["content_hash"] = content_hashes(texts)
    return pa.table(columns)


def measure_part(
    out: Path,
    *,
    documents: str,
    first: int,
    signals: Sequence[str],
    language: bool,
    quality_model: str | None,
    dedup: Mapping[str, Any],
    partitions: int,
) -> dict[str, Any]:
    """Signals of one documents shard, and what the search for duplicates needs to know of it.

    Args:
        documents: the shard; a priority.arrow beside it has the priorities of its records.
        first: the dense number of the shard's first document.
        dedup: ``curate.dedup_steps.search_settings``.
        partitions: P, a power of two.
    """
    from curate.shuffle import Dealer, read_mapped

    by = list(dedup["by"])
    options: dict[str, Any] = {"signals": signals, "language": language, "quality_model": quality_model}
    given = Path(documents).with_name("priority.arrow")
    priorities = read_mapped(given)["priority"] if given.exists() else None
    columns = [*_NO_DOCUMENTS.column_names, *(["meta"] if by else [])]
    facts, rows = facts_schema(by), 0
    with contextlib.ExitStack() as files:
        signals_file = files.enter_context(
            ShardWriter(out / "signals.parquet", measure(_NO_DOCUMENTS, **options).schema)
        )
        facts_file = files.enter_context(ShardWriter(out / "facts.arrow", facts))
        keys_file = files.enter_context(Dealer(out / "keys.arrow", KEYS, partitions))
        sketch_file = (
            files.enter_context(ShardWriter(out / "sketch.arrow", SKETCH)) if dedup["minhash"] else None
        )
        for group in read_groups(documents, columns):
            table = measure(group, **options)
            signals_file.write(table)
            own = priorities.slice(rows, group.num_rows) if priorities is not None else None
            known = _facts(group, table, by, own)
            facts_file.write(known)
            sketch = _sketch(group, dedup)
            if sketch_file is not None and sketch is not None:
                sketch_file.write(_sketch_table(sketch))
            for keys, docs in _search_keys(group, known, sketch, first + rows, dedup):
                keys_file.add_pairs(keys, docs, _portions(keys, partitions))
            rows += group.num_rows
    return {"rows": rows, "keys": keys_file.rows}


def _facts(
    group: pa.Table, measured: pa.Table, by: Sequence[str], priorities: pa.ChunkedArray | None
) -> pa.Table:
    n = group.num_rows
    columns: dict[str, Any] = {
        "content_hash": measured["content_hash"],
        "priority": pa.nulls(n, pa.float64())
        if priorities is None
        else pc.fill_null(priorities, -float("inf")),
        "quality": measured["quality"] if "quality" in measured.column_names else pa.nulls(n, pa.float64()),
        "length": measured["char_count"],
        "text_bytes": pc.fill_null(pc.binary_length(group["text"]), 0),
    }
    for name in by:
        values = pc.struct_field(group["meta"], name)
        is_given = pc.fill_null(pc.greater(pc.binary_length(values), 0), False)  # an empty field says nothing
        columns[f"by_{name}"] = pc.if_else(is_given, content_hashes(values), pa.scalar(None, HASH))
    return pa.table({field.name: columns[field.name] for field in facts_schema(by)})


def _sketch(group: pa.Table, dedup: Mapping[str, Any]) -> Sketch | None:
    settings = dedup["minhash"]
    if settings is None:
        return None
    from curate.minhash import Bands, sketch

    bands = Bands(settings["bands"], settings["rows"])
    options = {"bands": bands, "ngram": settings["ngram"], "seed": settings["seed"]}
    if settings["hash_family"] == "datasketch":
        from curate.datasketch import sketch_with_datasketch

        made = sketch_with_datasketch(group["text"], **options)
        salts = source_salts(group["source"], dedup["scope"])
        made.keys[:] ^= np.atleast_1d(salts)[:, None] & ~np.uint64(1)
        return made
    return sketch(group["text"], **options, salt=source_salts(group["source"], dedup["scope"]))


def _sketch_table(sketch: Sketch) -> pa.Table:
    bits = pa.Array.from_buffers(pa.binary(64), len(sketch.bits), [None, pa.py_buffer(sketch.bits)])
    return pa.table([bits, sketch.has_words], schema=SKETCH)


def _search_keys(
    group: pa.Table, facts: pa.Table, sketch: Sketch | None, first: int, dedup: Mapping[str, Any]
) -> Iterator[tuple[Hashes, npt.NDArray[np.int64]]]:
    """Keys and documents: of the content, of each field and of the bands, in the order of the documents each."""
    from curate.minhash import exact_keys

    docs = np.arange(first, first + group.num_rows, dtype=np.int64)
    salt = source_salts(group["source"], dedup["scope"])
    if dedup["exact"]:
        yield exact_keys(hash_words(facts["content_hash"]), salt=salt), docs
    for kind, name in enumerate(dedup["by"], 1):
        column = facts[f"by_{name}"]
        valid = column.is_valid().to_numpy()
        yield exact_keys(hash_words(column), kind=kind, salt=salt)[valid], docs[valid]
    if sketch is not None:
        keys = sketch.keys if sketch.has_words.all() else sketch.keys[sketch.has_words]
        yield keys.ravel(), np.repeat(docs[sketch.has_words], keys.shape[1])


def _portions(keys: Hashes, partitions: int) -> npt.NDArray[np.int32]:
    if partitions == 1:
        return np.zeros(len(keys), np.int32)
    return (keys >> np.uint64(65 - partitions.bit_length())).astype(np.int32)


@functools.cache
def _salt(source: str) -> int:
    return int.from_bytes(hashlib.blake2b(source.encode(), digest_size=8).digest(), "little")


def source_salts(source: pa.ChunkedArray, scope: str) -> Hashes:
    """What keeps the keys of documents apart whose sources are never compared, ``(rows,)`` or ``(1,) uint64``.

    >>> source_salts(pa.chunked_array([["a", "b"]]), "across").tolist()
    [0]
    """
    if scope == "across" or not len(source):
        return np.zeros(1, np.uint64)
    coded = source.cast(pa.large_string()).combine_chunks().dictionary_encode()
    salts = np.array([_salt(name) for name in coded.dictionary.to_pylist()], np.uint64)
    return salts if len(salts) == 1 else salts[coded.indices.to_numpy()]


def hash_words(column: pa.ChunkedArray) -> Hashes:
    """``(rows, 2) uint64`` of a column of 128-bit hashes; what stands for a null has no meaning.

    >>> hash_words(pa.chunked_array([[bytes(15) + b"\\1", b"\\2" + bytes(15)]], HASH)).tolist()
    [[0, 72057594037927936], [2, 0]]
    """
    found = [np.zeros((0, 2), np.uint64)]
    for chunk in column.chunks:
        values = chunk.buffers()[1]
        if values is None:  # nothing but nulls
            found.append(np.zeros((len(chunk), 2), np.uint64))
            continue
        words = np.frombuffer(values, np.uint8)[16 * chunk.offset :][: 16 * len(chunk)]
        found.append(words.view(np.uint64).reshape(-1, 2))
    return found[1] if len(found) == 2 else np.concatenate(found)


def count_characters(texts: pa.ChunkedArray) -> npt.NDArray[np.int64]:
    """Unicode characters of every text, ``(rows,)``; four times as fast as Arrow's utf8_length.

    Raises:
        DataError: the column does not hold strings.

    >>> count_characters(pa.chunked_array([["für", None], ["€"]])).tolist()
    [3, 0, 1]
    """
    kind = texts.type
    if not (pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind)):
        raise DataError(
            f"measure: the column of texts is of type {kind}; string, large_string or string_view are allowed. "
            "Cast it first: column.cast('string')"
        )
    counts = [np.zeros(0, np.int64)]
    for chunk in texts.chunks:
        counts.append(np.empty(len(chunk), np.int64))
        _count_characters(*string_buffers(chunk), counts[-1])
    return np.concatenate(counts)


def _as_binary(hashes: Hashes) -> pa.Array:
    return pa.Array.from_buffers(HASH, len(hashes), [None, pa.py_buffer(np.ascontiguousarray(hashes, "<u8"))])


@njit(nogil=True, cache=True, boundscheck=False)
def _count_characters(offsets: Offsets, data: Bytes, counts: npt.NDArray[np.int64]) -> None:
    for row in range(len(counts)):
        count = np.int64(0)
        for place in range(np.uint64(offsets[row]), np.uint64(offsets[row + 1])):
            count += np.int64(
                (data[place] & 0xC0) != 0x80
            )  # not the second byte of a character, or a later one
        counts[row] = count
