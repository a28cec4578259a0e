"""One pass over documents: signals, language, quality score, content hash, and keys for duplicate search.

``measure(table)`` is the whole of it for a table in memory. As an engine step, one part is one documents shard; beside
its signals it writes the duplicate-search keys, cut into P record batches by the high bits of the key, so that reducer
p reads batch p of every part (P follows from the number of documents, never from the workers).
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from curate.config import nearest
from curate.schema import documents_schema
from curate.shards import ShardWriter, read_groups
from filters.column import string_buffers
from filters.errors import ConfigError
from filters.signals import text_signals

EXACT_BAND = 65535
"""Band number of the content hash among the duplicate-search keys."""

Keys = tuple[npt.NDArray[np.uint16], npt.NDArray[np.uint64], npt.NDArray[np.int64]]
"""Band, key and dense document number of some documents' duplicate-search keys."""

_NO_DOCUMENTS = documents_schema([]).empty_table()

KEYS = pa.schema([pa.field("band", pa.uint16()), pa.field("key", pa.uint64()), pa.field("doc", pa.int64())])


def content_hashes(texts: pa.Array | pa.ChunkedArray) -> pa.Array:
    """128-bit XXH3 of each text's UTF-8 bytes, ``fixed_size_binary[16]``.

    Two documents with the same hash are taken for the same text: at 10^9 documents the chance of any accident is
    below 10^-20.
    """
    import xxhash

    offsets, data = string_buffers(texts)
    view = data.data  # slices of it are not copied
    bounds = offsets.tolist()
    digests = [xxhash.xxh3_128_digest(view[a:b]) for a, b in itertools.pairwise(bounds)]
    return pa.array(digests, pa.binary(16))


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
        signals: groups of text signals (``filters.signals``).
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
    measured = text_signals(texts, groups=tuple(signals))
    columns |= {name: measured[name] for name in measured.column_names}
    if language:
        from filters.language import detect_language

        found = detect_language(texts)
        columns |= {"language": found["language"], "language_score": found["language_score"]}
    if quality_model is None:
        columns["quality"] = pa.nulls(len(data), pa.float64())
    else:
        from filters.quality import score_quality

        columns["quality"] = score_quality(texts, Path(quality_model))
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
    """Signals of one documents shard, and its duplicate-search keys.

    Args:
        first: the dense number of the shard's first document.
        dedup: ``exact`` and ``minhash`` (null, or ngram, permutations, bands, rows, seed).
        partitions: P, a power of two.
    """
    rows = 0
    keys: list[Keys] = []
    options: dict[str, Any] = {"signals": signals, "language": language, "quality_model": quality_model}
    with ShardWriter(out / "signals.parquet", measure(_NO_DOCUMENTS, **options).schema) as writer:
        for group in read_groups(documents, _NO_DOCUMENTS.column_names):
            table = measure(group, **options)
            writer.write(table)
            keys += _search_keys(group["text"], table["content_hash"], first + rows, dedup)
            rows += group.num_rows
    _write_partitions(out / "keys.arrow", keys, partitions)
    return {"rows": rows}


def _search_keys(
    texts: pa.ChunkedArray, hashes: pa.ChunkedArray, first: int, dedup: Mapping[str, Any]
) -> list[Keys]:
    documents = np.arange(first, first + len(texts), dtype=np.int64)
    found = []
    if dedup["exact"]:
        low = np.frombuffer(b"".join(hashes.to_pylist()), np.uint64).reshape(-1, 2)[:, 0]
        found.append((np.full(len(texts), EXACT_BAND, np.uint16), low, documents))
    if dedup["minhash"]:
        from curate.minhash import Bands, band_keys, signatures

        settings = dedup["minhash"]
        bands = Bands(settings["bands"], settings["rows"])
        sketch = signatures(
            texts, ngram=settings["ngram"], permutations=settings["permutations"], seed=settings["seed"]
        )
        keys, has_words = band_keys(sketch, bands)
        for band in range(bands.bands):
            found.append(
                (np.full(int(has_words.sum()), band, np.uint16), keys[band][has_words], documents[has_words])
            )
    return found


def _write_partitions(
    path: Path,
    keys: Sequence[Keys],
    partitions: int,
) -> None:
    """One Arrow IPC file with one record batch for each partition, each sorted by (band, key, document)."""
    band, key, doc = (np.concatenate([k[i] for k in keys]) if keys else np.zeros(0, t) for i, t in enumerate((np.uint16, np.uint64, np.int64)))  # fmt: skip
    shift = np.uint64(64 - partitions.bit_length() + 1)
    partition = (key >> shift).astype(np.int64) if partitions > 1 else np.zeros(len(key), np.int64)
    order = np.lexsort((doc, key, band, partition))
    bounds = np.searchsorted(partition[order], np.arange(partitions + 1))
    with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_file(sink, KEYS) as writer:
        for p in range(partitions):
            inside = order[bounds[p] : bounds[p + 1]]
            writer.write_batch(pa.record_batch([band[inside], key[inside], doc[inside]], schema=KEYS))
