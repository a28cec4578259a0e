"""Near-duplicate candidates of all documents: buckets of equal keys, clusters of buckets, and these dealt to batches.

    group         part = one portion of the keys    who shares a key: (bucket, document)           members.arrow
    cluster       one part                          connected buckets, put together to batches     clusters.arrow
    deal_texts    part = one shard of documents     the candidates' facts (and texts), by batch    dealt.arrow
    deal_members  part = one members.arrow          memberships, by batch                          dealt.arrow

Grouping knows no policy. A cluster is only the unit of work of the verification that follows: no document is removed
because it is in one. Documents of a persistent index take part where they share a key with a new document; they are
numbered after the new ones, and so a cluster's first document is always a new one.

Batches are numbered in the order of their first documents. A batch is a ``shuffle.MANY``-th of the candidates' text, but
no less than ``LEAST_BATCH_BYTES`` and no more than a quarter of the memory; only a single cluster may be larger.

Price, for each key: 16 bytes on disk, read once, and 80 bytes of memory while its portion is grouped. A portion that is
larger than its share of the memory (a text with millions of copies) is sorted on disk instead (``curate.sorted_runs``).
Of an index only what shares a key with a new document is read, and held.
For each document of the corpus ``cluster`` holds 16 bytes, and 12 more for each candidate; in files that are mapped into
memory where that is more than half of what is allowed. Of a candidate about 100 bytes are dealt, and its text if the
documents are Parquet; texts of Arrow files stay where they are, and are mapped.
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from curate import sorted_runs
from curate.measurement import HASH
from curate.minhash import group_keys
from curate.shards import ARROW, count_rows, read_groups
from curate.shuffle import Dealer, frozen, portion_bytes, read_mapped, read_portion
from filters.compiling import njit

KEY_BYTES = 16
GROUPING_BYTES = 80
"""Memory for one key while it is grouped."""

LEAST_PORTION_BYTES = 16 << 20
LEAST_BATCH_BYTES = 64 << 20
INDEX_BYTES = 16 << 20
"""Text of an index that is compared with its content hashes at a time."""

MEMBERSHIP_BYTES = 96
"""Memory for one membership while its batch is verified."""

MEMBERS = pa.schema([pa.field("bucket", pa.int64()), pa.field("doc", pa.int64())])
CLUSTERS = pa.schema([pa.field("doc", pa.int64()), pa.field("batch", pa.int32())])

Docs = npt.NDArray[np.int64]


def dealt_schema(by: Sequence[str], *, texts: bool = False) -> pa.Schema:
    """Columns of the candidates, with or without their texts.

    ``position`` ranks documents of a source without native ids; else it is 0. ``generation`` is that of a document of an
    index, and 0 for new ones.
    """
    return pa.schema(
        [
            pa.field("doc", pa.int64()),
            pa.field("generation", pa.int32()),
            pa.field("id", pa.string()),
            pa.field("source", pa.string()),
            *([pa.field("text", pa.large_string())] if texts else []),
            pa.field("content_hash", HASH),
            *(pa.field(f"by_{name}", HASH) for name in by),
            pa.field("priority", pa.float64()),
            pa.field("quality", pa.float64()),
            pa.field("length", pa.int64()),
            pa.field("position", pa.int64()),
        ]
    )


def count_partitions(documents: int, keys_per_document: int, memory: int) -> int:
    """P, a power of two: portions of the keys that can be grouped in a quarter of the memory.

    >>> [count_partitions(documents, 11, 1 << 30) for documents in (0, 10**6, 10**8)]
    [1, 16, 512]
    """
    total = documents * keys_per_document * KEY_BYTES
    most = memory // 4 * KEY_BYTES // GROUPING_BYTES
    size = portion_bytes(total, least=LEAST_PORTION_BYTES, most=most)
    return 1 << (max(1, -(-total // size)) - 1).bit_length()


# ---------------------------------------------------------------------------------------------------------
# Buckets
# ---------------------------------------------------------------------------------------------------------


def group_part(
    out: Path,
    *,
    keys: Sequence[str],
    partition: int,
    partitions: int,
    index: Sequence[Mapping[str, Any]],
    memory: int,
) -> dict[str, Any]:
    """Buckets of at least two documents in one portion of the keys, adjacent in members.arrow.

    A bucket's number is even where its key is that of a band, and odd where it is that of something exact.

    Args:
        keys: keys.arrow of every shard.
        index: runs of a persistent index: ``keys``, and ``first``, the number of its first document.
        memory: what may be held, in bytes.
    """
    batches = list(read_portion(keys, partition, partitions))
    rows = sum(batch.num_rows for batch in batches)
    is_large = rows * GROUPING_BYTES > memory // 2
    memberships = spilled = 0
    with pa.OSFile(str(out / "members.arrow"), "wb") as sink, pa.ipc.new_file(sink, MEMBERS) as writer:
        if is_large:
            chunk = max(1, memory // 4 // GROUPING_BYTES)
            runs = _sorted_runs(out, batches, index, chunk)
            spilled = len(runs)
            found = _buckets(sorted_runs.merge(runs, chunk))
        else:
            found = iter([_group(batches, index)])
        for number, docs in found:
            writer.write_batch(pa.record_batch([number + (partition << 41), docs], schema=MEMBERS))
            memberships += len(docs)
    for run in range(spilled):
        sorted_runs.remove_run(out / f"run-{run}")
    return {"rows": rows, "memberships": memberships, "spilled_runs": spilled}


def _group(batches: Sequence[pa.RecordBatch], index: Sequence[Mapping[str, Any]]) -> tuple[Docs, Docs]:
    """Bucket numbers and documents, all in memory."""
    found = [(_numbers(b, "key"), _numbers(b, "doc")) for b in batches]
    if index and found:
        wanted = np.sort(np.concatenate([k for k, _ in found]))
        found += list(_matches(index, wanted))
    keys, docs = _joined(found)
    members = group_keys(keys, np.arange(len(keys)))
    return 2 * members.bucket + (keys[members.row] & np.uint64(1)).astype(np.int64), docs[members.row]


def _matches(
    index: Sequence[Mapping[str, Any]], wanted: npt.NDArray[np.uint64]
) -> Iterator[tuple[npt.NDArray[np.uint64], Docs]]:
    """Entries of the index with one of these keys (ascending), run by run."""
    from curate.generations import matching_keys

    for run in index:
        matches = matching_keys(run["keys"], wanted)
        yield matches.key, matches.row + run["first"]


def _sorted_runs(
    out: Path, batches: Sequence[pa.RecordBatch], index: Sequence[Mapping[str, Any]], chunk: int
) -> list[sorted_runs.Run]:
    """The entries of a portion as sorted runs; then those of the index, so that no bucket begins with one of them."""
    runs: list[sorted_runs.Run] = []

    def write(entries: Iterable[tuple[npt.NDArray[np.uint64], Docs]]) -> None:
        held: list[tuple[npt.NDArray[np.uint64], Docs]] = []
        for keys, docs in entries:
            for start in range(0, len(keys), chunk):
                held.append((keys[start : start + chunk], docs[start : start + chunk]))
                if sum(len(k) for k, _ in held) >= chunk:
                    runs.append(sorted_runs.write_run(out / f"run-{len(runs)}", *_joined(held)))
                    held = []
        if held:
            runs.append(sorted_runs.write_run(out / f"run-{len(runs)}", *_joined(held)))

    write((_numbers(batch, "key"), _numbers(batch, "doc")) for batch in batches)
    if index:
        new = list(runs)
        write(found for wanted in _distinct(sorted_runs.merge(new, chunk)) for found in _matches(index, wanted))  # fmt: skip
    return runs


def _distinct(blocks: Iterable[sorted_runs.Run]) -> Iterator[npt.NDArray[np.uint64]]:
    """The keys of sorted blocks, each once."""
    last = None
    for keys, _ in blocks:
        new = np.ones(len(keys), np.bool_)
        new[1:] = keys[1:] != keys[:-1]
        new[0] = keys[0] != last
        last = keys[-1]
        yield keys[new]


def _buckets(blocks: Iterable[sorted_runs.Run]) -> Iterator[tuple[Docs, Docs]]:
    """Bucket numbers and documents of entries that come sorted by key; a bucket may go on in the next block."""
    count = 0  # buckets so far
    open_key = None  # of a bucket that may go on
    single: sorted_runs.Run | None = None  # a last entry that was alone with its key so far
    for keys, docs in blocks:
        if single is not None:
            keys, docs = _joined([single, (keys, docs)])
        new = np.ones(len(keys), np.bool_)
        new[1:] = keys[1:] != keys[:-1]
        goes_on = bool(keys[0] == open_key)
        new[0] = not goes_on
        of_entry = np.cumsum(new)  # 0 is the bucket that goes on
        is_bucket = np.bincount(of_entry) > 1
        is_bucket[0] = goes_on
        numbers = np.cumsum(is_bucket) - 1 + count - goes_on
        if is_bucket[-1]:
            open_key, single = keys[-1], None
        else:
            open_key, single = None, sorted_runs.Run(keys[-1:].copy(), docs[-1:].copy())
        count = int(numbers[-1]) + 1
        chosen = is_bucket[of_entry]
        exact = (keys[chosen] & np.uint64(1)).astype(np.int64)
        yield 2 * numbers[of_entry[chosen]] + exact, docs[chosen]


def _joined(entries: Sequence[tuple[npt.NDArray[np.uint64], Docs]]) -> tuple[npt.NDArray[np.uint64], Docs]:
    if len(entries) == 1:
        return entries[0]
    return (
        np.concatenate([np.zeros(0, np.uint64), *(keys for keys, _ in entries)]),
        np.concatenate([np.zeros(0, np.int64), *(docs for _, docs in entries)]),
    )


def _numbers(batch: pa.RecordBatch, column: str) -> npt.NDArray:
    return batch.column(column).to_numpy()


# ---------------------------------------------------------------------------------------------------------
# Clusters and batches
# ---------------------------------------------------------------------------------------------------------


def cluster_part(
    out: Path,
    *,
    members: Sequence[str],
    facts: Sequence[str],
    index: Sequence[Mapping[str, Any]],
    keys_per_document: int,
    memory: int,
) -> dict[str, Any]:
    """Connected clusters of documents that share buckets, put together to batches; candidates ascend in clusters.arrow.

    Args:
        facts: facts.arrow of every shard: sizes of the texts, in the order of the document numbers.
        index: runs of a persistent index: ``documents``, and ``first``, the number of its first document.
        keys_per_document: how many buckets a document may be in.
        memory: what may be held, in bytes.
    """
    total = sum(count_rows(path) for path in facts)
    total = max([total, *(run["first"] + count_rows(run["documents"]) for run in index)])
    with _Scratch(out, in_memory=16 * total <= memory // 2) as scratch:
        parents, weights = scratch.zeros(total, np.int64), scratch.zeros(total, np.int64)
        candidates = 0
        for path in members:
            last = np.full(2, -1, np.int64)  # a bucket may go on in the next record batch
            for batch in read_portion([path], 0, 1):
                candidates += _unite(frozen(_numbers(batch, "bucket")), frozen(_numbers(batch, "doc")), parents, last)  # fmt: skip
        weight = 0
        for first, sizes in _text_sizes(facts, index):
            weight += _weigh(frozen(sizes), first, MEMBERSHIP_BYTES * keys_per_document, parents, weights)
        size = portion_bytes(weight, least=LEAST_BATCH_BYTES, most=max(1, memory // 4))
        doc, batch_of = scratch.zeros(candidates, np.int64), scratch.zeros(candidates, np.int32)
        clusters, largest, batches = _number(parents, weights, size, doc, batch_of)
        with pa.OSFile(str(out / "clusters.arrow"), "wb") as sink, pa.ipc.new_file(sink, CLUSTERS) as writer:
            writer.write_batch(pa.record_batch([pa.array(doc), pa.array(batch_of)], schema=CLUSTERS))
    return {"rows": candidates, "clusters": clusters, "largest": largest, "batches": batches, "bytes": weight}


def _text_sizes(facts: Sequence[str], index: Sequence[Mapping[str, Any]]) -> Iterator[tuple[int, Docs]]:
    """Sizes of texts in bytes, with the number of the first of these documents."""
    first = 0
    for path in facts:
        for chunk in read_mapped(path)["text_bytes"].chunks:
            yield first, chunk.to_numpy()
            first += len(chunk)
    for run in index:
        first = run["first"]
        for group in read_groups(run["documents"], ["text"]):
            yield first, pc.binary_length(group["text"]).to_numpy()
            first += len(group)


class _Scratch:
    """Arrays of zeros, in memory or in mapped files that are deleted at the end."""

    def __init__(self, folder: Path, *, in_memory: bool) -> None:
        self._folder, self._in_memory, self._paths = folder, in_memory, list[Path]()

    def zeros(self, length: int, kind: type[np.generic]) -> npt.NDArray:
        """An array ``(length,)``.

        Raises:
            OSError: the disk is full. Its blocks are reserved here: a write to a mapped file could not say so.
        """
        if self._in_memory or not length:
            return np.zeros(length, kind)
        path = self._folder / f"scratch-{len(self._paths)}"
        self._paths.append(path)
        with open(path, "wb") as file:
            os.posix_fallocate(file.fileno(), 0, length * np.dtype(kind).itemsize)
        return np.asarray(np.memmap(path, kind, mode="r+", shape=(length,)))

    def __enter__(self) -> _Scratch:
        return self

    def __exit__(self, *_: object) -> None:
        for path in self._paths:
            path.unlink()


# ---------------------------------------------------------------------------------------------------------
# Dealing
# ---------------------------------------------------------------------------------------------------------


def deal_texts_part(
    out: Path,
    *,
    clusters: str,
    batches: int,
    by: Sequence[str],
    priorities: Mapping[str, float],
    first: int,
    documents: str,
    facts: str | None,
    native: bool = False,
    generation: int | None = None,
) -> dict[str, Any]:
    """The candidates among the documents of one shard, or of one run of an index, by batch.

    Texts come along from Parquet only; those of an index are compared with their content hashes on this occasion.

    Args:
        clusters: clusters.arrow.
        batches: how many there are.
        by: fields whose equal values make duplicates.
        priorities: of the sources that have one for all their documents.
        first: the number of the first document.
        documents: the shard, or documents.arrow of a run of an index.
        facts: facts.arrow of the shard; None for a run of an index.
        native: whether the ids are the source's own.
        generation: of the run of an index.
    """
    doc, batch = _clusters(clusters)
    start, stop = np.searchsorted(doc, [first, first + count_rows(facts or documents)])
    rows, portion = doc[start:stop] - first, batch[start:stop]
    dealt = 0
    schema = dealt_schema(by, texts=Path(documents).suffix != ARROW)
    with Dealer(out / "dealt.arrow", schema, batches) as dealer:
        tables = (
            _of_index(documents, rows, first, by, generation or 0)
            if facts is None
            else _of_shard(documents, facts, rows, first, native)
        )
        for table, chosen in tables if len(rows) else ():
            given = _filled(table["priority"], table["source"], priorities)
            table = table.set_column(table.schema.get_field_index("priority"), "priority", given)
            dealer.add(table, portion[dealt : dealt + len(chosen)], chosen)
            dealt += len(chosen)
    return {"rows": len(rows)}


def _of_shard(
    documents: str, facts: str, rows: Docs, first: int, native: bool
) -> Iterator[tuple[pa.Table, Docs]]:
    """The groups of a shard with all that is known of their documents, and which rows are candidates."""
    known, at = read_mapped(facts).drop_columns(["text_bytes"]), 0
    names = ["id", "source", *([] if Path(documents).suffix == ARROW else ["text"])]
    for group in read_groups(documents, names):
        n = group.num_rows
        low, high = np.searchsorted(rows, [at, at + n])
        numbers = np.arange(first + at, first + at + n)
        own = known.slice(at, n)
        columns = {name: group[name] for name in group.column_names}
        columns |= {name: own[name] for name in own.column_names}
        more = {
            "doc": numbers,
            "generation": np.zeros(n, np.int32),
            "position": np.zeros(n, np.int64) if native else numbers,
        }
        yield pa.table({**columns, **more}), rows[low:high] - at
        at += n


def _of_index(
    documents: str, rows: Docs, first: int, by: Sequence[str], generation: int
) -> Iterator[tuple[pa.Table, Docs]]:
    """The candidates of a run of an index, some megabytes of text at a time."""
    from curate.generations import read_documents

    sizes = np.concatenate([pc.binary_length(group["text"]).to_numpy() for group in read_groups(documents, ["text"])])  # fmt: skip
    piece = np.cumsum(sizes[rows]) // INDEX_BYTES
    names = [n for n in dealt_schema(by, texts=True).names if n not in ("doc", "generation")]
    for start, stop in itertools.pairwise(
        [0, *(np.flatnonzero(piece[1:] != piece[:-1]) + 1).tolist(), len(rows)]
    ):
        table = read_documents(documents, rows[start:stop], names)
        table = table.append_column("doc", pa.array(first + rows[start:stop]))
        yield (
            table.append_column("generation", pa.array(np.full(len(table), generation, np.int32))),
            np.arange(len(table)),
        )


def _filled(
    given: pa.ChunkedArray, source: pa.ChunkedArray, priorities: Mapping[str, float]
) -> pa.ChunkedArray:
    """Priorities with those of the sources in place of nulls; 0 for a source that has none."""
    if not given.null_count:
        return given
    names = pa.array(list(priorities), pa.string())
    values = pa.array([*map(float, priorities.values())], pa.float64())
    return pc.coalesce(given, values.take(pc.index_in(source, names)), pa.scalar(0.0))


def deal_members_part(out: Path, *, members: str, clusters: str, batches: int) -> dict[str, Any]:
    """The memberships of one members.arrow by the batch of their documents; a bucket's stay adjacent."""
    doc, batch = _clusters(clusters)
    doc, batch, rows = frozen(doc), frozen(batch), 0
    with Dealer(out / "dealt.arrow", MEMBERS, batches) as dealer:
        for found in read_portion([members], 0, 1):
            bucket, member = _numbers(found, "bucket"), _numbers(found, "doc")
            portion = np.empty(len(bucket), np.int32)
            _look_up(frozen(bucket), frozen(member), doc, batch, portion)
            dealer.add_pairs(bucket, member, portion)
            rows += len(bucket)
    return {"rows": rows}


def _clusters(path: str) -> tuple[Docs, npt.NDArray[np.int32]]:
    """Candidates, ascending, and their batches."""
    table = read_mapped(path)
    return table["doc"].chunk(0).to_numpy(), table["batch"].chunk(0).to_numpy()


# ---------------------------------------------------------------------------------------------------------
# Kernels
# ---------------------------------------------------------------------------------------------------------
#
# parents[d] is 0 for a document in no bucket, minus the size of its cluster for a cluster's first document, and
# otherwise one more than the number of a smaller document of the cluster. So untouched pages need no memory.


@njit(nogil=True, cache=True, boundscheck=False)
def _root(doc: int, parents: Docs) -> int:
    while parents[doc] > 0:
        above = parents[doc] - 1
        if parents[above] > 0:
            parents[doc] = parents[above]
        doc = above
    return doc


@njit(nogil=True, cache=True, boundscheck=False)
def _unite(bucket: Docs, docs: Docs, parents: Docs, last: Docs) -> int:
    """Joins neighbours in a bucket; ``last`` is the membership before the first one. Returns how many documents are new."""
    found = 0
    for k in range(len(docs)):
        if parents[docs[k]] == 0:
            parents[docs[k]] = -1
            found += 1
        if bucket[k] == last[0]:
            a, b = _root(last[1], parents), _root(docs[k], parents)
            if a > b:
                a, b = b, a
            if a < b:
                parents[a] += parents[b]
                parents[b] = a + 1
        last[0], last[1] = bucket[k], docs[k]
    return found


@njit(nogil=True, cache=True, boundscheck=False)
def _weigh(sizes: Docs, first: int, more: int, parents: Docs, weights: Docs) -> int:
    """Adds the documents' sizes, and ``more`` for each, to the weights of their clusters; returns what was added."""
    added = 0
    for k in range(len(sizes)):
        if parents[first + k] != 0:
            weights[_root(first + k, parents)] += sizes[k] + more
            added += sizes[k] + more
    return added


@njit(nogil=True, cache=True, boundscheck=False)
def _number(
    parents: Docs, weights: Docs, size: int, docs: Docs, batch_of: npt.NDArray[np.int32]
) -> tuple[int, int, int]:
    """Lists the candidates with their batches; the weights become these. Returns clusters, the largest, and batches."""
    found = clusters = largest = before = 0
    batch, place = -1, -1
    for doc in range(len(parents)):
        if parents[doc] == 0:
            continue
        root = _root(doc, parents)
        if root == doc:
            clusters += 1
            largest = max(largest, -parents[doc])
            if before // size != place:
                place = before // size
                batch += 1
            before += weights[doc]
            weights[doc] = batch
        docs[found], batch_of[found] = doc, weights[root]
        found += 1
    return clusters, largest, batch + 1


@njit(nogil=True, cache=True, boundscheck=False)
def _look_up(
    bucket: Docs,
    members: Docs,
    docs: Docs,
    batch_of: npt.NDArray[np.int32],
    portion: npt.NDArray[np.int32],
) -> None:
    """Batches of memberships by a search from where the last bucket was: buckets come mostly in the documents' order."""
    at = 0
    for k in range(len(members)):
        if k > 0 and bucket[k] == bucket[k - 1]:
            portion[k] = portion[k - 1]
            continue
        low, high, step = at, at, 1
        while low > 0 and docs[low] > members[k]:
            low = max(0, low - step)
            step *= 2
        while high < len(docs) - 1 and docs[high] < members[k]:
            high = min(len(docs) - 1, high + step)
            step *= 2
        while low < high:
            middle = (low + high) // 2
            if docs[middle] < members[k]:
                low = middle + 1
            else:
                high = middle
        at = low
        portion[k] = batch_of[at]
