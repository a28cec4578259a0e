"""Which candidates are duplicates: exact comparison with the documents that are kept.

    leader       a kept, passing document; every duplicate names one as its partner
    duplicate    has the content of a leader, or a Jaccard similarity J >= threshold with one
    near miss    no duplicate, but J >= near_miss with a leader: kept, and written down

Documents are visited in a total order, best first. Each is compared with the leaders that share a bucket with
it; it is a duplicate of the most similar one, or it becomes a leader itself. J is exact: the sets of the
documents' 64-bit shingles (``filters.words``), not an estimate from signatures.

    order   A  B  C        J(A, B) = 0.9   J(B, C) = 0.9   J(A, C) = 0.7   threshold 0.8
            A  leader
            B  duplicate of A
            C  leader: B is not kept, and A is not similar enough. Connected components would remove C

So every removed document has a kept partner with J >= threshold, whatever the buckets propose; what the
buckets do not propose is never compared. This is leader clustering (Hartigan 1975, "Clustering Algorithms",
chapter 3).

Price: 1.3 bytes of memory for each byte of text in the batch, since a shingle of 8 bytes stands for about 6
bytes of text, and about 60 bytes for each membership in a bucket while these are sorted. A comparison of
documents of 1,000 shingles takes 1 to 10 microseconds.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
from numba import njit

from curate import minhash
from curate.minhash import Memberships
from filters import words
from filters.column import Offsets, Texts, as_large_string
from filters.errors import ConfigError, DataError

PAIR_SCHEMA = pa.schema(
    [
        ("row", pa.int64()),
        ("partner", pa.int64()),
        ("similarity", pa.float64()),
        ("method", pa.string()),  # exact | minhash
        ("outcome", pa.string()),  # duplicate | near_miss
    ]
)

_Rows = npt.NDArray[np.int64]
_EXACT, _MINHASH = 0, 1


@dataclass(frozen=True, slots=True)
class Verification:
    """What ``leaders`` found.

    Attributes:
        pairs: one row of ``PAIR_SCHEMA`` for each duplicate and near miss, rows ascending.
        compared: pairs of a document and a leader that shared a bucket, without those of exact buckets.
        verified: pairs among them whose similarity was computed; the others are too different in length.
        capped_buckets: buckets that had more leaders than ``max_leaders``: duplicates may remain there.
    """

    pairs: pa.Table
    compared: int
    verified: int
    capped_buckets: int


# ---------------------------------------------------------------------------------------------------------
# A whole table
# ---------------------------------------------------------------------------------------------------------


def near_duplicates(texts: Texts, *, threshold: float = 0.8, ngram: int = 5) -> pa.Table:
    """Rows of a column that repeat an earlier row, with that row and the exact similarity of the two.

    Keep the others. The bands are those of ``minhash.choose_bands(threshold)``: 95 % of the pairs exactly at
    the threshold are found, and more above it; texts that are equal are always found.

    Args:
        texts: string column that fits into memory.
        threshold: Jaccard similarity in (0, 1] of the sets of shingles.
        ngram: words in a shingle.

    Returns:
        row int64, partner int64 (an earlier row that is kept), similarity float64, rows ascending.

    >>> texts = pa.array(["one two three four five six seven", "other", "One two three four five six, seven!", ""])
    >>> near_duplicates(texts).to_pylist()
    [{'row': 2, 'partner': 0, 'similarity': 1.0}]
    """
    column = as_large_string(texts)
    bands = minhash.choose_bands(threshold)
    signed = minhash.signatures(column, ngram=ngram, permutations=bands.permutations)
    keys, has_words = minhash.band_keys(signed, bands)
    rows = np.arange(len(column), dtype=np.int64)
    # Equal texts share all buckets, but texts without words are in none: these are told apart by number.
    wordless = rows[~has_words]
    content = pc.fill_null(column.take(pa.array(wordless)), "").dictionary_encode().indices.to_numpy()
    hashes = np.zeros((len(column), 2), np.int64)
    hashes[wordless, 0] = content
    found = leaders(
        column,
        content_hash=hashes.view(np.uint8),
        passing=np.ones(len(column), np.bool_),
        order=rows,
        buckets=minhash.buckets(keys, has_words),
        exact_buckets=Memberships(content.astype(np.int64), wordless),
        threshold=threshold,
        ngram=ngram,
    )
    return found.pairs.select(["row", "partner", "similarity"])


# ---------------------------------------------------------------------------------------------------------
# A batch of candidates
# ---------------------------------------------------------------------------------------------------------


def leaders(
    texts: Texts,
    *,
    content_hash: pa.Array | pa.ChunkedArray | npt.NDArray[np.uint8],
    passing: npt.NDArray[np.bool_],
    order: _Rows,
    buckets: Memberships,
    exact_buckets: Memberships,
    threshold: float = 0.8,
    ngram: int = 5,
    near_miss: float | None = None,
    max_leaders: int = 256,
) -> Verification:
    """Compares the documents of a batch with the leaders that share a bucket with them, in a total order.

    The result does not depend on how the rows are numbered or the memberships are listed, and so neither on
    how documents are divided into batches, as long as documents that share a bucket are in one batch
    (``components``) and the order is that of the same keys.

    1. Exact: a document whose content hash is that of a leader in one of its exact buckets is a duplicate of
       the leader that comes first in the order, with similarity 1. Documents without words are compared here
       only.
    2. Near: otherwise it is compared with the leaders in its other buckets. Its partner is the most similar
       one, and among equally similar ones that which comes first in the order.
    3. A document that is no duplicate becomes a leader, if it is passing. Others are compared so that it is
       known what they repeat, and never stand for another document.

    Args:
        texts: string column of the batch.
        content_hash: ``(rows,)`` fixed_size_binary(16) or ``(rows, 16) uint8``.
        passing: ``(rows,) bool``: whether the document may be kept by all other rules.
        order: ``(rows,) int64``, a permutation: the row that is visited first, the next one ...
        buckets: candidates, from ``minhash.buckets`` or a part of them.
        exact_buckets: documents whose content hashes may be equal.
        threshold: least Jaccard similarity of a duplicate, in (0, 1].
        ngram: words in a shingle.
        near_miss: least similarity that is written down, in (0, threshold), or None.
        max_leaders: the first so many leaders of a bucket are compared with; does not hold for exact buckets.

    >>> found = leaders(
    ...     pa.array(["a b c d e f", "a b c d e f g", "!", "!"]),
    ...     content_hash=pa.array([b"a" * 16, b"b" * 16, b"c" * 16, b"c" * 16], pa.binary(16)),
    ...     passing=np.array([True, True, True, True]),
    ...     order=np.array([1, 0, 2, 3]),
    ...     buckets=Memberships(np.array([7, 7]), np.array([0, 1])),
    ...     exact_buckets=Memberships(np.array([1, 1]), np.array([2, 3])),
    ...     threshold=0.6,
    ... )
    >>> found.pairs.select(["row", "partner", "method"]).to_pylist()
    [{'row': 0, 'partner': 1, 'method': 'minhash'}, {'row': 3, 'partner': 2, 'method': 'exact'}]
    """
    if not 0 < threshold <= 1:
        raise ConfigError(f"leaders: threshold is {threshold}; allowed is 0 < threshold <= 1")
    if near_miss is not None and not 0 < near_miss < threshold:
        raise ConfigError(
            f"leaders: near_miss is {near_miss}; allowed is 0 < near_miss < threshold ({threshold})"
        )
    if max_leaders < 1:
        raise ConfigError(f"leaders: max_leaders is {max_leaders}; allowed is 1 and more, usually 256")
    rows = len(texts)
    if len(order) != rows or not np.array_equal(np.bincount(order, minlength=rows), np.ones(rows, np.int64)):
        raise ValueError(f"order must hold each of the {rows} rows of texts once")
    if len(passing) != rows:
        raise ValueError(f"passing has {len(passing)} values for {rows} rows")
    hashes = _as_words(content_hash, rows)
    row_pointers, row_buckets, places = _by_row(buckets, rows, max_leaders)
    exact_pointers, exact_row_buckets, exact_places = _by_row(exact_buckets, rows, rows)
    pointers, sets = shingle_sets(texts, ngram=ngram, wanted=np.diff(row_pointers) > 0)
    row, partner, similarity, method, compared, verified, capped = _visit(
        np.array(order, np.int64),
        np.array(passing, np.bool_),
        hashes,
        exact_pointers,
        exact_row_buckets,
        exact_places,
        row_pointers,
        row_buckets,
        places,
        pointers,
        sets,
        float(threshold if near_miss is None else near_miss),
        float(threshold),
    )
    ascending = np.argsort(row)
    pairs = pa.table(
        [
            row[ascending],
            partner[ascending],
            similarity[ascending],
            pa.array(np.array(["exact", "minhash"])[method[ascending]], pa.string()),
            pa.array(np.where(similarity[ascending] >= threshold, "duplicate", "near_miss"), pa.string()),
        ],
        schema=PAIR_SCHEMA,
    )
    return Verification(pairs, compared, verified, capped)


def shingle_sets(
    texts: Texts, *, ngram: int = 5, wanted: npt.NDArray[np.bool_] | None = None
) -> tuple[Offsets, words.Hashes]:
    """Sets of shingles, each value once and in the order of its first occurrence.

    Args:
        texts: string column.
        ngram: words in a shingle.
        wanted: ``(rows,) bool``; documents that are not wanted get an empty set.

    Returns:
        pointers ``(rows + 1,) int64``: document r has ``values[pointers[r]:pointers[r + 1]]``.
        values ``(shingles,) uint64``.

    >>> pointers, values = shingle_sets(pa.array(["a b a b a b", "A-b", "c"]), ngram=3)
    >>> pointers.tolist(), values.dtype
    ([0, 2, 3, 4], dtype('uint64'))
    """
    if wanted is None:
        wanted = np.ones(len(texts), np.bool_)
    pointers = np.zeros(len(texts) + 1, np.int64)
    parts = [np.zeros(0, np.uint64)]
    table, stamps = _empty_table(0)
    for start, batch_pointers, values in words.shingle_batches(texts, ngram=ngram):
        stop = start + len(batch_pointers) - 1
        longest = int(np.diff(batch_pointers).max())
        if _table_size(longest) > len(table):
            table, stamps = _empty_table(longest)
        unique = np.empty(len(values), np.uint64)
        found = _unique_rows(start, stop, wanted, batch_pointers, values, table, stamps, pointers, unique)
        parts.append(unique[:found].copy())
    return pointers, np.concatenate(parts)


def components(
    bucket: _Rows, row: _Rows, rows: int, *, roots: npt.NDArray[np.int64] | None = None
) -> npt.NDArray[np.int64]:
    """Connected components of documents that share buckets: the smallest row of each row's component.

    Memberships may come in several calls, each with the result of the one before as ``roots``, as long as no
    bucket is divided between two calls; numbers of buckets may be used again. One call takes time
    proportional to its memberships if these are sorted by bucket, and otherwise sorts them.

    Args:
        bucket, row: ``(memberships,) int64``; see ``minhash.Memberships``.
        rows: number of documents.
        roots: components so far, ``(rows,) int64``; not changed.

    Returns:
        ``(rows,) int64``; 8 bytes a document. A row that is in no bucket with another is its own.

    >>> first = components(np.array([0, 0, 1, 1]), np.array([3, 1, 4, 2]), 6)
    >>> first.tolist(), components(np.array([0, 0]), np.array([4, 3]), 6, roots=first).tolist()
    ([0, 1, 2, 1, 2, 5], [0, 1, 1, 1, 1, 5])
    """
    bucket, row = (
        np.array(bucket, np.int64),
        np.array(row, np.int64),
    )  # Numba compiles again for read-only ones
    _check_rows(row, rows)
    if np.any(bucket[1:] < bucket[:-1]):
        by_bucket = np.argsort(bucket, kind="stable")
        bucket, row = bucket[by_bucket], row[by_bucket]
    parents = np.arange(rows, dtype=np.int64) if roots is None else np.array(roots, np.int64)
    if len(parents) != rows:
        raise ValueError(f"roots has {len(parents)} values for {rows} rows")
    _unite(bucket, row, parents)
    return parents


def _by_row(memberships: Memberships, rows: int, max_leaders: int) -> tuple[_Rows, _Rows, _Rows]:
    """Memberships by row ``(pointers, buckets)``, and pointers by bucket to places for its leaders."""
    names, bucket = np.unique(np.asarray(memberships.bucket, np.int64), return_inverse=True)
    row = np.asarray(memberships.row, np.int64)
    _check_rows(row, rows)
    ascending = np.lexsort((bucket, row))
    bucket, row = bucket[ascending], row[ascending]
    first = np.ones(len(row), np.bool_)  # not a membership that is listed twice
    first[1:] = (row[1:] != row[:-1]) | (bucket[1:] != bucket[:-1])
    bucket, row = bucket[first], row[first]
    pointers = np.searchsorted(row, np.arange(rows + 1)).astype(np.int64)
    places = np.minimum(np.bincount(bucket, minlength=len(names)), max_leaders)
    return pointers, bucket.astype(np.int64), np.concatenate([[0], np.cumsum(places)]).astype(np.int64)


def _check_rows(row: _Rows, rows: int) -> None:
    if len(row) and not (row.min() >= 0 and row.max() < rows):
        raise ValueError(f"memberships name rows {row.min()} to {row.max()}; allowed are 0 to {rows - 1}")


def _as_words(content_hash: pa.Array | pa.ChunkedArray | npt.NDArray[np.uint8], rows: int) -> words.Hashes:
    """128-bit hashes as ``(rows, 2) uint64``."""
    if isinstance(content_hash, np.ndarray):
        hashes = np.array(content_hash, order="C")
        if hashes.shape != (rows, 16) or hashes.dtype != np.uint8:
            raise ValueError(f"content_hash is {hashes.shape} {hashes.dtype}; allowed is ({rows}, 16) uint8")
        return hashes.view(np.uint64)
    if isinstance(content_hash, pa.ChunkedArray):
        content_hash = (
            pa.concat_arrays(content_hash.chunks) if content_hash.num_chunks else pa.array([], pa.binary(16))
        )
    if content_hash.type != pa.binary(16) or len(content_hash) != rows:
        raise ValueError(
            f"content_hash is {len(content_hash)} x {content_hash.type}; allowed is {rows} x binary(16)"
        )
    if content_hash.null_count:
        raise DataError(
            f"leaders: content_hash is null in {content_hash.null_count} of {rows} rows; every document needs one. "
            "Measure the documents again"
        )
    if rows == 0:
        return np.zeros((0, 2), np.uint64)
    buffer = np.frombuffer(content_hash.buffers()[1], np.uint8)
    start = 16 * content_hash.offset
    return buffer[start : start + 16 * rows].reshape(rows, 16).copy().view(np.uint64)


# ---------------------------------------------------------------------------------------------------------
# Kernels
# ---------------------------------------------------------------------------------------------------------
#
# A set of hashes is an open-addressing table whose places are stamped with the document that filled them: the
# next document writes over it and clears nothing. Hashes are mixed well, so their lowest bits are the place.


def _empty_table(longest: int) -> tuple[words.Hashes, _Rows]:
    size = _table_size(longest)
    return np.zeros(size, np.uint64), np.full(size, -1, np.int64)


@njit(nogil=True, cache=True, boundscheck=False)
def _table_size(members: int) -> int:
    """A power of two, at least twice the members."""
    size = 16
    while size < 2 * members:
        size *= 2
    return size


@njit(nogil=True, cache=True, boundscheck=False)
def _unique_rows(
    start: int,
    stop: int,
    wanted: npt.NDArray[np.bool_],
    batch_pointers: Offsets,
    values: words.Hashes,
    table: words.Hashes,
    stamps: _Rows,
    pointers: Offsets,
    unique: words.Hashes,
) -> int:
    """Sets of the rows start to stop, at ``unique`` and ``pointers``; returns the number of values."""
    filled = 0
    for row in range(start, stop):
        before = filled
        if wanted[row]:
            first, last = batch_pointers[row - start], batch_pointers[row - start + 1]
            mask = np.uint64(_table_size(last - first) - 1)
            for k in range(first, last):
                value = values[k]
                place = value & mask
                while stamps[place] == row and table[place] != value:
                    place = (place + np.uint64(1)) & mask
                if stamps[place] != row:
                    stamps[place] = row
                    table[place] = value
                    unique[filled] = value
                    filled += 1
        pointers[row + 1] = pointers[row] + (filled - before)
    return filled


@njit(nogil=True, cache=True, boundscheck=False)
def _visit(
    order: _Rows,
    passing: npt.NDArray[np.bool_],
    hashes: words.Hashes,
    exact_pointers: _Rows,
    exact_buckets: _Rows,
    exact_places: _Rows,
    near_pointers: _Rows,
    near_buckets: _Rows,
    near_places: _Rows,
    pointers: Offsets,
    sets: words.Hashes,
    least: float,
    threshold: float,
) -> tuple[_Rows, _Rows, npt.NDArray[np.float64], npt.NDArray[np.int8], int, int, int]:
    """The rules of ``leaders``. Leaders of bucket b are at ``places[b]`` and after, in the order of visits."""
    rows = len(order)
    position = np.empty(rows, np.int64)  # in the order
    longest = 0
    for z in range(rows):
        position[order[z]] = z
        longest = max(longest, pointers[z + 1] - pointers[z])
    table = np.empty(_table_size(longest), np.uint64)
    stamps = np.full(_table_size(longest), -1, np.int64)
    exact_leaders = np.empty(exact_places[-1], np.int64)
    exact_filled = exact_places[:-1].copy()
    near_leaders = np.empty(near_places[-1], np.int64)
    near_filled = near_places[:-1].copy()
    is_capped = np.zeros(len(near_filled), np.bool_)
    compared_with = np.full(rows, -1, np.int64)  # the last document that each leader was compared with
    row_found, partner_found = np.empty(rows, np.int64), np.empty(rows, np.int64)
    similarity_found, method_found = np.empty(rows, np.float64), np.empty(rows, np.int8)
    found = compared = verified = capped = 0

    for z in range(rows):
        row = order[z]
        partner, best, method = -1, 0.0, _EXACT
        for e in range(exact_pointers[row], exact_pointers[row + 1]):
            bucket = exact_buckets[e]
            for place in range(exact_places[bucket], exact_filled[bucket]):
                leader = exact_leaders[place]
                if hashes[leader, 0] == hashes[row, 0] and hashes[leader, 1] == hashes[row, 1]:
                    if partner < 0 or position[leader] < position[partner]:
                        partner, best = leader, 1.0
                    break  # the others of the bucket come later in the order
        size = pointers[row + 1] - pointers[row]
        if partner < 0 and size > 0:
            method = _MINHASH
            mask = np.uint64(_table_size(size) - 1)
            is_loaded = False
            for e in range(near_pointers[row], near_pointers[row + 1]):
                bucket = near_buckets[e]
                for place in range(near_places[bucket], near_filled[bucket]):
                    leader = near_leaders[place]
                    if compared_with[leader] == row:
                        continue
                    compared_with[leader] = row
                    compared += 1
                    leader_size = pointers[leader + 1] - pointers[leader]
                    needed = _least_common(size, leader_size, least)
                    if needed > min(size, leader_size):
                        continue
                    verified += 1
                    if not is_loaded:
                        _load_set(sets, pointers[row], pointers[row + 1], table, stamps, mask, row)
                        is_loaded = True
                    common = _count_common(
                        sets,
                        pointers[leader],
                        pointers[leader + 1],
                        table,
                        stamps,
                        mask,
                        row,
                        leader_size - needed,
                    )
                    if common < needed:
                        continue
                    similarity = common / (size + leader_size - common)
                    if similarity > best or (similarity == best and position[leader] < position[partner]):
                        partner, best = leader, similarity
        if partner >= 0:
            row_found[found], partner_found[found] = row, partner
            similarity_found[found], method_found[found] = best, method
            found += 1
        if passing[row] and (partner < 0 or best < threshold):
            for e in range(exact_pointers[row], exact_pointers[row + 1]):
                bucket = exact_buckets[e]
                exact_leaders[exact_filled[bucket]] = row
                exact_filled[bucket] += 1
            if size == 0:
                continue  # without words it resembles nothing
            for e in range(near_pointers[row], near_pointers[row + 1]):
                bucket = near_buckets[e]
                if near_filled[bucket] < near_places[bucket + 1]:
                    near_leaders[near_filled[bucket]] = row
                    near_filled[bucket] += 1
                elif not is_capped[bucket]:
                    is_capped[bucket] = True
                    capped += 1
    return (
        row_found[:found],
        partner_found[:found],
        similarity_found[:found],
        method_found[:found],
        compared,
        verified,
        capped,
    )


@njit(nogil=True, cache=True, boundscheck=False)
def _least_common(size: int, other_size: int, similarity: float) -> int:
    """How many values two sets must have in common for the similarity; by the very division that decides."""
    common = max(0, int(similarity * (size + other_size) / (1.0 + similarity)) - 1)  # one or two too low
    while common / (size + other_size - common) < similarity:
        common += 1
    return common


@njit(nogil=True, cache=True, boundscheck=False)
def _load_set(
    sets: words.Hashes, start: int, stop: int, table: words.Hashes, stamps: _Rows, mask: np.uint64, stamp: int
) -> None:
    for k in range(start, stop):
        place = sets[k] & mask
        while stamps[place] == stamp:
            place = (place + np.uint64(1)) & mask
        stamps[place] = stamp
        table[place] = sets[k]


@njit(nogil=True, cache=True, boundscheck=False)
def _count_common(
    sets: words.Hashes,
    start: int,
    stop: int,
    table: words.Hashes,
    stamps: _Rows,
    mask: np.uint64,
    stamp: int,
    max_missing: int,
) -> int:
    """How many of the values are in the loaded set; too few as soon as more than ``max_missing`` are not."""
    common = missing = 0
    for k in range(start, stop):
        value = sets[k]
        place = value & mask
        while stamps[place] == stamp and table[place] != value:
            place = (place + np.uint64(1)) & mask
        if stamps[place] == stamp:
            common += 1
        else:
            missing += 1
            if missing > max_missing:
                break
    return common


@njit(nogil=True, cache=True, boundscheck=False)
def _unite(bucket: _Rows, row: _Rows, parents: _Rows) -> None:
    """Joins neighbours in a bucket; at the end every row's parent is its root, the smallest row."""
    for k in range(1, len(bucket)):
        if bucket[k] != bucket[k - 1]:
            continue
        a, b = row[k - 1], row[k]
        while parents[a] != a:
            parents[a] = parents[parents[a]]
            a = parents[a]
        while parents[b] != b:
            parents[b] = parents[parents[b]]
            b = parents[b]
        if a < b:
            parents[b] = a
        elif b < a:
            parents[a] = b
    for k in range(len(parents)):  # ascending: the parent is smaller, so it has its root already
        parents[k] = parents[parents[k]]
