"""Which candidates are duplicates: exact comparison with the documents that are kept.

    leader       a kept, passing document; every duplicate names one as its partner
    duplicate    equals a leader in an exact property, or has a similarity >= threshold with one
    near miss    no duplicate, but similarity >= near_miss with a leader: kept, and written down
    settled      kept by an earlier run (a persistent index): a leader from the start, compared with nothing

Documents are visited in a total order, best first. Each is compared with the leaders that share a bucket with
it; it is a duplicate of the most similar one, or it becomes a leader itself. Similarity is exact: Jaccard's
J = |A & B| / |A | B| of the sets of the documents' 64-bit shingles (``filters.words``), or the containment
|A & B| / |A| of the visited document A in the leader B; never an estimate from signatures.

    order   A  B  C        J(A, B) = 0.9   J(B, C) = 0.9   J(A, C) = 0.7   threshold 0.8
            A  leader
            B  duplicate of A
            C  leader: B is not kept, and A is not similar enough. Connected components would remove C

So every removed document has a kept partner with J >= threshold, whatever the buckets propose; what the
buckets do not propose is never compared. This is leader clustering (Hartigan 1975, "Clustering Algorithms",
chapter 3).

Documents are visited in chunks of ``chunk_bytes`` of text: the shingle sets of one chunk are in memory, and
those of the leaders of earlier chunks come back from a scratch file, chunk by chunk. So a cluster of any size
needs the same memory, and gives the same result, for the price of reading those files once a chunk.

Price: 1.3 bytes of memory for each byte of text in a chunk, since a shingle of 8 bytes stands for about 6
bytes of text, about 80 bytes a document and 30 for each membership in a bucket. A comparison of documents of
1,000 shingles takes 1 to 10 microseconds.
"""

from __future__ import annotations

import itertools
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from curate import minhash
from curate.minhash import Memberships
from filters import words
from filters.column import Offsets, Texts, as_arrow, as_large_string, as_strings, text_sizes
from filters.compiling import njit
from filters.errors import ConfigError, RunError

Similarity = Literal["jaccard", "containment"]

PAIR_SCHEMA = pa.schema(
    [
        ("row", pa.int64()),
        ("partner", pa.int64()),
        ("similarity", pa.float64()),
        ("method", pa.string()),  # exact | minhash
        ("rule", pa.string()),  # that of Exact, or minhash.jaccard | minhash.containment
        ("outcome", pa.string()),  # duplicate | near_miss
    ]
)

CHUNK_BYTES = 64 << 20
"""Text whose shingle sets are held at a time."""

_TAKE_BYTES = 1 << 19
_Rows = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Exact:
    """A property in which equal documents are duplicates.

    Attributes:
        rule: what a decision calls it, for instance ``exact.content_hash`` or ``exact.url``.
        hashes: ``(rows, 2) uint64``, a 128-bit hash of the property.
        valid: ``(rows,) bool``, which documents have it; None for all.
        same_text: whether documents that are equal in it mostly have the same text, whose shingles are made only once.
    """

    rule: str
    hashes: words.Hashes
    valid: npt.NDArray[np.bool_] | None = None
    same_text: bool = False


@dataclass(frozen=True, slots=True)
class Verification:
    """What ``leaders`` found.

    Attributes:
        pairs: one row of ``PAIR_SCHEMA`` for each duplicate and near miss, rows ascending.
        compared: pairs of a document and a leader that shared a bucket.
        verified: pairs among them whose similarity was computed; the others are too different in length to be better
            than what was found before, which depends on the order of the buckets' numbers.
        capped_buckets: buckets that had more leaders than ``max_leaders``: duplicates may remain there.
        largest_bucket: documents in the largest bucket, of those whose documents are not all equal.
    """

    pairs: pa.Table
    compared: int
    verified: int
    capped_buckets: int
    largest_bucket: int


def leaders(
    texts: Texts,
    *,
    order: _Rows,
    passing: npt.NDArray[np.bool_],
    buckets: Memberships,
    exact: Sequence[Exact] = (),
    settled: npt.NDArray[np.bool_] | None = None,
    rows_of_texts: _Rows | None = None,
    threshold: float = 0.8,
    ngram: int = 5,
    near_miss: float | None = None,
    similarity: Similarity = "jaccard",
    max_leaders: int = 256,
    chunk_bytes: int = CHUNK_BYTES,
    scratch: Path | None = None,
) -> Verification:
    """Compares documents with the leaders that share a bucket with them, in a total order.

    The result does not depend on how the rows are numbered, the memberships are listed or the order is cut into
    chunks, and so neither on how documents are divided into batches, as long as documents that share a bucket
    or an exact property are in one batch (``components``) and the order is that of the same keys.

    1. Exact: a document that equals a leader in an exact property is a duplicate of the leader that comes first
       in the order, with similarity 1; the first such property is its rule. Documents without words are compared
       here only.
    2. Near: otherwise it is compared with the leaders in its buckets. Its partner is the most similar one, and
       among equally similar ones that which comes first in the order.
    3. A document that is no duplicate becomes a leader, if it is passing. Others are compared so that it is
       known what they repeat, and never stand for another document.

    Args:
        texts: string column; may lie in a memory map, and is read in slices.
        order: ``(rows,) int64``, a permutation: the row that is visited first, the next one ...
        passing: ``(rows,) bool``: whether the document may be kept by all other rules.
        buckets: candidates, from ``minhash.group_keys`` or a part of them.
        exact: properties in which equal documents are duplicates.
        settled: ``(rows,) bool``: documents that stay whatever they resemble; they come first in the order.
        rows_of_texts: ``(rows,) int64``, ascending: the documents are these rows of ``texts``; None for all of them.
        threshold: least similarity of a duplicate, in (0, 1].
        ngram: words in a shingle.
        near_miss: least similarity that is written down, in (0, threshold), or None.
        similarity: of two sets, see above.
        max_leaders: the first so many leaders of a bucket are compared with; does not hold for exact properties.
        chunk_bytes: text that is worked on at a time.
        scratch: where a temporary folder is made if there are several chunks; None for the system's place.

    >>> found = leaders(
    ...     pa.array(["a b c d e f", "a b c d e f g", "!", "!"]),
    ...     order=np.array([1, 0, 2, 3]),
    ...     passing=np.array([True, True, True, True]),
    ...     buckets=Memberships(np.array([7, 7]), np.array([0, 1])),
    ...     exact=[Exact("exact.content_hash", np.array([[0, 1], [0, 2], [0, 3], [0, 3]], np.uint64))],
    ...     threshold=0.6,
    ... )
    >>> found.pairs.select(["row", "partner", "rule"]).to_pylist()
    [{'row': 0, 'partner': 1, 'rule': 'minhash.jaccard'}, {'row': 3, 'partner': 2, 'rule': 'exact.content_hash'}]
    """
    rows = len(texts) if rows_of_texts is None else len(rows_of_texts)
    settled = np.zeros(rows, np.bool_) if settled is None else np.array(settled, np.bool_)
    _check(rows, order, passing, settled, buckets, threshold, near_miss, similarity, max_leaders)
    order = np.array(order, np.int64)
    position = np.empty(rows, np.int64)
    position[order] = np.arange(rows)
    groups, n_groups = _exact_groups(exact, rows)
    twin = _first_twins(exact, groups, position)
    row_pointers, row_buckets, sizes = _by_row(buckets, groups)
    places = np.concatenate([[0], np.cumsum(np.minimum(sizes, max_leaders))]).astype(np.int64)
    state = (
        np.full(n_groups, -1, np.int64),  # leader of each exact group
        np.empty(places[-1], np.int64),  # leaders of each bucket, from places[bucket]
        places[:-1].copy(),  # where its next leader goes
        np.zeros(len(sizes), np.bool_),  # whether it had more than fit
    )
    best, partner = np.zeros(rows), np.full(rows, -1, np.int64)
    seen = np.full(rows, -1, np.int64)
    starts, stops, chunk_of = np.zeros(rows, np.int64), np.zeros(rows, np.int64), np.full(rows, -1, np.int64)
    least = float(threshold if near_miss is None else near_miss)
    is_containment = similarity == "containment"
    pieces = _Pieces(texts, rows_of_texts)
    found: list[tuple[_Rows, _Rows, npt.NDArray[np.float64], _Rows]] = []
    compared = verified = 0
    wanted = (np.diff(row_pointers) > 0) & ~_equal_settled(groups, settled)
    chunks = list(_chunks(order, pieces.sizes, wanted, chunk_bytes))
    spill = (
        tempfile.TemporaryDirectory(prefix="curate-leaders-", dir=scratch) if len(chunks) > 1 else _Nowhere()
    )
    with spill as folder:
        for chunk, visited in enumerate(chunks):
            loaded = np.sort(visited[wanted[visited]])
            chunk_of[loaded] = chunk
            copies = loaded[(twin[loaded] != loaded) & (chunk_of[twin[loaded]] == chunk)]
            copies = copies[pieces.are_equal(copies, twin[copies])]
            own = np.setdiff1d(loaded, copies, assume_unique=True)
            set_pointers, sets = pieces.shingle_sets(own, ngram)
            starts[own], stops[own] = set_pointers[:-1], set_pointers[1:]
            starts[copies], stops[copies] = starts[twin[copies]], stops[twin[copies]]
            near = (row_pointers, row_buckets, places)
            for earlier in range(chunk):
                other = np.fromfile(Path(folder) / str(earlier), np.uint64)
                counts = _compare_with_earlier(visited, position, settled, groups, state, near, starts, stops, sets, other, earlier, chunk_of, best, partner, seen, least, is_containment)  # fmt: skip
                compared, verified = compared + counts[0], verified + counts[1]
            *columns, newly_compared, newly_verified = _visit(visited, position, passing, settled, groups, state, near, starts, stops, sets, chunk, chunk_of, best, partner, seen, least, float(threshold), is_containment)  # fmt: skip
            found.append(tuple(columns))  # type: ignore[arg-type]
            compared, verified = compared + newly_compared, verified + newly_verified
            if chunk < len(chunks) - 1:
                stayed = loaded[_is_leader(loaded, state[1], state[2], places, rows)]
                kept = np.concatenate([[0], np.cumsum(stops[stayed] - starts[stayed])]).astype(np.int64)
                _spill(Path(folder) / str(chunk), sets, starts[stayed], stops[stayed])
                starts[stayed], stops[stayed] = kept[:-1], kept[1:]
    row, with_, score, kind = (np.concatenate(parts) for parts in zip(*found, strict=True))
    rules = [e.rule for e in exact] + [f"minhash.{similarity}"]
    ascending = np.argsort(row)
    row, with_, score, kind = row[ascending], with_[ascending], score[ascending], kind[ascending]
    is_near = kind == len(exact)
    pairs_table = pa.Table.from_arrays(
        [
            as_arrow(row),
            as_arrow(with_),
            as_arrow(score),
            _named(np.where(is_near, 1, 0), ["exact", "minhash"]),
            _named(kind, rules),
            _named(np.where(~is_near | (score >= threshold), 0, 1), ["duplicate", "near_miss"]),
        ],
        schema=PAIR_SCHEMA,
    )
    return Verification(pairs_table, compared, verified, int(state[3].sum()), int(sizes.max(initial=0)))


def _spill(path: Path, sets: words.Hashes, starts: _Rows, stops: _Rows) -> None:
    """Writes some sets one after the other."""
    try:
        with open(path, "wb") as file:
            for place in range(0, len(starts), 4096):
                ranges = zip(starts[place : place + 4096], stops[place : place + 4096], strict=True)
                file.write(np.concatenate([sets[start:stop] for start, stop in ranges]).data)
    except OSError as error:
        raise RunError(
            f"leaders: {path}: {error.strerror}; shingles of a batch that is larger than one chunk are kept there. "
            "Free space there; outside of a run, the variable TMPDIR may name another directory"
        ) from error


def _named(numbers: _Rows, names: Sequence[str]) -> pa.Array:
    return as_strings(names).take(as_arrow(numbers))


def _check(
    rows: int,
    order: _Rows,
    passing: npt.NDArray[np.bool_],
    settled: npt.NDArray[np.bool_],
    buckets: Memberships,
    threshold: float,
    near_miss: float | None,
    similarity: str,
    max_leaders: int,
) -> None:
    row = buckets.row
    if not 0 < threshold <= 1:
        raise ConfigError(f"leaders: threshold is {threshold}; allowed is 0 < threshold <= 1")
    if near_miss is not None and not 0 < near_miss < threshold:
        raise ConfigError(
            f"leaders: near_miss is {near_miss}; allowed is 0 < near_miss < threshold ({threshold})"
        )
    if similarity not in ("jaccard", "containment"):
        raise ConfigError(f"leaders: similarity is {similarity!r}; allowed are jaccard and containment")
    if max_leaders < 1:
        raise ConfigError(f"leaders: max_leaders is {max_leaders}; allowed is 1 and more, usually 256")
    if len(order) != rows or not np.array_equal(np.bincount(order, minlength=rows), np.ones(rows, np.int64)):
        raise ValueError(f"order must hold each of the {rows} rows of texts once")
    if len(passing) != rows or len(settled) != rows:
        raise ValueError(f"passing and settled have {len(passing)} and {len(settled)} values for {rows} rows")
    if np.any(np.diff(settled[order].astype(np.int8)) > 0):
        raise ValueError("settled documents must come first in the order")
    if len(buckets.bucket) != len(row):
        raise ValueError(f"memberships have {len(buckets.bucket)} buckets for {len(row)} rows")
    if len(row) and not (row.min() >= 0 and row.max() < rows):
        raise ValueError(f"memberships name rows {row.min()} to {row.max()}; allowed are 0 to {rows - 1}")


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
    if len(row) and not (row.min() >= 0 and row.max() < rows):
        raise ValueError(f"memberships name rows {row.min()} to {row.max()}; allowed are 0 to {rows - 1}")
    if np.any(bucket[1:] < bucket[:-1]):
        by_bucket = np.argsort(bucket, kind="stable")
        bucket, row = bucket[by_bucket], row[by_bucket]
    parents = np.arange(rows, dtype=np.int64) if roots is None else np.array(roots, np.int64)
    if len(parents) != rows:
        raise ValueError(f"roots has {len(parents)} values for {rows} rows")
    _unite(bucket, row, parents)
    return parents


class _Nowhere:
    """What a scratch directory is to a single chunk."""

    def __enter__(self) -> str:
        return ""

    def __exit__(self, *_: object) -> None:
        pass


def _chunks(order: _Rows, sizes: _Rows, wanted: npt.NDArray[np.bool_], chunk_bytes: int) -> Iterator[_Rows]:
    """The order, cut where the wanted texts of a piece reach ``chunk_bytes``; one piece when there are no rows."""
    weight = np.cumsum(np.where(wanted[order], sizes[order], 0))
    start = 0
    while start < len(order) or start == 0:
        before = weight[start - 1] if start else 0
        stop = max(start + 1, int(np.searchsorted(weight, before + chunk_bytes, side="right")))
        yield order[start:stop]
        start = stop


def _exact_groups(exact: Sequence[Exact], rows: int) -> tuple[_Rows, int]:
    """For each property and row, the number of the group of equal documents, or -1; and how many groups there are."""
    groups = np.full((len(exact), rows), -1, np.int64)
    total = 0
    for kind, property_ in enumerate(exact):
        hashes = np.asarray(property_.hashes, np.uint64)
        if hashes.shape != (rows, 2):
            raise ValueError(f"{property_.rule}: hashes are {hashes.shape}; allowed is ({rows}, 2)")
        chosen = np.arange(rows) if property_.valid is None else np.flatnonzero(property_.valid)
        shared = minhash.group_keys(hashes[chosen, 0], chosen).row
        by_hash = shared[np.lexsort((hashes[shared, 1], hashes[shared, 0]))]
        new = np.ones(len(by_hash), np.bool_)
        new[1:] = np.any(hashes[by_hash[1:]] != hashes[by_hash[:-1]], axis=1)
        groups[kind, by_hash] = np.cumsum(new) - 1 + total
        total += int(new.sum())
    return groups, total


def _equal_settled(groups: _Rows, settled: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
    """Which rows equal a settled one in an exact property: they are its duplicates before any shingle is looked at."""
    equal = np.zeros(len(settled), np.bool_)
    for group in groups:
        taken = group[settled]
        equal |= (group >= 0) & np.isin(group, taken[taken >= 0])
    return equal & ~settled


def _first_twins(exact: Sequence[Exact], groups: _Rows, position: _Rows) -> _Rows:
    """For each row the first one in the order that should have the same text, as an exact property tells."""
    twin = np.arange(len(position))
    for property_, group in zip(exact, groups, strict=True):
        if property_.same_text:
            members = np.flatnonzero(group >= 0)
            members = members[np.lexsort((position[members], group[members]))]
            is_first = np.ones(len(members), np.bool_)
            is_first[1:] = group[members[1:]] != group[members[:-1]]
            twin[members] = members[is_first][np.cumsum(is_first) - 1]
    return twin


def _by_row(memberships: Memberships, groups: _Rows) -> tuple[_Rows, _Rows, _Rows]:
    """Memberships by row ``(pointers, buckets)`` with buckets from 0, and the number of members of each.

    Without the buckets whose members are all equal in one exact property: where one of them is a leader, the others
    are its exact duplicates before buckets are looked at.
    """
    bucket, row = np.array(memberships.bucket, np.int64), np.array(memberships.row, np.int64)
    if len(bucket) and (bucket.min() < 0 or bucket.max() >= 2 * len(bucket)):
        bucket = np.unique(bucket, return_inverse=True)[1]
    sizes = np.bincount(bucket, minlength=0).astype(np.int64)
    is_mixed = np.ones(len(sizes), np.bool_)
    for group in groups:
        is_mixed &= _are_mixed(bucket, row, group, len(sizes))
    mixed = is_mixed[bucket]
    bucket, row = bucket[mixed], row[mixed]
    pointers, by_row = np.zeros(groups.shape[1] + 1, np.int64), np.empty(len(bucket), np.int64)
    _scatter(bucket, row, pointers, by_row)
    return pointers, by_row, np.where(is_mixed, sizes, 0)


class _Pieces:
    """Rows of a column as its chunks: slices are taken from each, and none is joined to another."""

    def __init__(self, texts: Texts, chosen: _Rows | None = None) -> None:
        chunks = texts.chunks if isinstance(texts, pa.ChunkedArray) else [texts]
        self.chunks = [as_large_string(chunk) for chunk in chunks]
        self.firsts = np.concatenate([[0], np.cumsum([len(chunk) for chunk in self.chunks])]).astype(np.int64)
        self.sizes = np.concatenate([np.zeros(0, np.int64), *map(text_sizes, self.chunks)])
        self.chosen = chosen
        if chosen is not None:
            self.sizes = self.sizes[chosen]

    def are_equal(self, rows: _Rows, others: _Rows) -> npt.NDArray[np.bool_]:
        """Whether the bytes of texts are equal, pair by pair. A loop in Python, but over copies only."""
        equal = self.sizes[rows] == self.sizes[others]
        pairs = np.flatnonzero(equal)
        sides = [self._places(rows[pairs]), self._places(others[pairs])]
        for pair, (a, i), (b, k) in zip(
            pairs.tolist(), *(zip(*side, strict=True) for side in sides), strict=True
        ):
            first, second = self.chunks[a][i].as_buffer(), self.chunks[b][k].as_buffer()
            equal[pair] = (first or b"") == (second or b"")  # a null is an empty text
        return equal

    def _places(self, rows: _Rows) -> tuple[list[int], list[int]]:
        """In which chunk rows are, and where in it."""
        places = rows if self.chosen is None else self.chosen[rows]
        chunk = np.searchsorted(self.firsts, places, side="right") - 1
        return chunk.tolist(), (places - self.firsts[chunk]).tolist()

    def shingle_sets(self, rows: _Rows, ngram: int) -> tuple[Offsets, words.Hashes]:
        """``shingle_sets`` of some rows, ascending."""
        pointers = np.zeros(len(rows) + 1, np.int64)
        room = (
            int(self.sizes[rows].sum() + len(rows)) // 2 + 1
        )  # a word takes two bytes, but for a text's last one
        values = np.empty(room, np.uint64)
        table, stamps = _empty_table(0)
        filled = 0
        for first, taken in self._slices(rows):
            for start, batch_pointers, batch_values in words.shingle_batches(taken, ngram=ngram):
                longest = int(np.diff(batch_pointers).max())
                if _table_size(longest) > len(table):
                    table, stamps = _empty_table(longest)
                filled = _unique_rows(first + start, batch_pointers, batch_values, table, stamps, pointers, values, filled)  # fmt: skip
        return pointers, values[:filled]

    def _slices(self, rows: _Rows) -> Iterator[tuple[int, pa.Array]]:
        """The texts of some rows, about half a megabyte at a time, with the place of the first one in ``rows``."""
        places = rows if self.chosen is None else self.chosen[rows]
        bounds = np.searchsorted(places, self.firsts)
        for chunk, (a, b) in enumerate(itertools.pairwise(bounds)):
            weight = np.cumsum(self.sizes[rows[a:b]])
            start = int(a)
            while start < b:
                before = weight[start - a - 1] if start > a else 0
                stop = int(max(start + 1, a + np.searchsorted(weight, before + _TAKE_BYTES, side="right")))
                yield start, self.chunks[chunk].take(as_arrow(places[start:stop] - self.firsts[chunk]))
                start = stop


def shingle_sets(texts: Texts, *, ngram: int = 5) -> tuple[Offsets, words.Hashes]:
    """Sets of shingles, each value once and in the order of its first occurrence.

    Args:
        texts: string column.
        ngram: words in a shingle.

    Returns:
        pointers ``(rows + 1,) int64``: document r has ``values[pointers[r]:pointers[r + 1]]``.
        values ``(shingles,) uint64``.

    >>> pointers, values = shingle_sets(pa.array(["a b a b a b", "A-b", "c"]), ngram=3)
    >>> pointers.tolist(), values.dtype
    ([0, 2, 3, 4], dtype('uint64'))
    """
    return _Pieces(texts).shingle_sets(np.arange(len(texts)), ngram)


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
def _are_mixed(bucket: _Rows, row: _Rows, group: _Rows, buckets: int) -> npt.NDArray[np.bool_]:
    """Which buckets hold members of several groups, or of none."""
    first = np.full(buckets, -2, np.int64)
    is_mixed = np.zeros(buckets, np.bool_)
    for k in range(len(row)):
        own = group[row[k]]
        if first[bucket[k]] == -2:
            first[bucket[k]] = own
        if own < 0 or first[bucket[k]] != own:
            is_mixed[bucket[k]] = True
    return is_mixed


@njit(nogil=True, cache=True, boundscheck=False)
def _scatter(bucket: _Rows, row: _Rows, pointers: _Rows, by_row: _Rows) -> None:
    for k in range(len(row)):
        pointers[row[k] + 1] += 1
    for k in range(1, len(pointers)):
        pointers[k] += pointers[k - 1]
    for k in range(len(row)):
        by_row[pointers[row[k]]] = bucket[k]
        pointers[row[k]] += 1
    for k in range(len(pointers) - 1, 0, -1):
        pointers[k] = pointers[k - 1]
    pointers[0] = 0


@njit(nogil=True, cache=True, boundscheck=False)
def _unique_rows(
    first: int,
    batch_pointers: Offsets,
    values: words.Hashes,
    table: words.Hashes,
    stamps: _Rows,
    pointers: Offsets,
    unique: words.Hashes,
    filled: int,
) -> int:
    """Sets of the documents of a batch, at ``unique`` and ``pointers``; returns the number of values so far."""
    for row in range(len(batch_pointers) - 1):
        start, stop, stamp = batch_pointers[row], batch_pointers[row + 1], first + row
        mask = np.uint64(_table_size(stop - start) - 1)
        for k in range(start, stop):
            value = values[k]
            place = value & mask
            while stamps[place] == stamp and table[place] != value:
                place = (place + np.uint64(1)) & mask
            if stamps[place] != stamp:
                stamps[place] = stamp
                table[place] = value
                unique[filled] = value
                filled += 1
        pointers[first + row + 1] = filled
    return filled


@njit(nogil=True, cache=True, boundscheck=False)
def _exact_leader(row: int, groups: _Rows, first_leaders: _Rows) -> tuple[int, int]:
    """The leader that equals a row in the first property that has one, and that property; or -1."""
    for kind in range(len(groups)):
        group = groups[kind, row]
        if group >= 0 and first_leaders[group] >= 0:
            return first_leaders[group], kind
    return -1, -1


@njit(nogil=True, cache=True, boundscheck=False)
def _compare(
    row: int,
    position: _Rows,
    leaders_: _Rows,
    filled: _Rows,
    row_pointers: _Rows,
    row_buckets: _Rows,
    places: _Rows,
    starts: _Rows,
    stops: _Rows,
    sets: words.Hashes,
    other: words.Hashes,
    chunk: int,
    chunk_of: _Rows,
    table: words.Hashes,
    stamps: _Rows,
    best: npt.NDArray[np.float64],
    partner: _Rows,
    seen: _Rows,
    least: float,
    is_containment: bool,
) -> tuple[int, int]:
    """Compares a row with the leaders of one chunk in its buckets; betters ``best`` and ``partner``."""
    size = stops[row] - starts[row]
    if size == 0:
        return 0, 0
    compared = verified = 0
    is_loaded = False
    mask = np.uint64(_table_size(size) - 1)
    for e in range(row_pointers[row], row_pointers[row + 1]):
        bucket = row_buckets[e]
        for k in range(places[bucket], filled[bucket]):
            leader = leaders_[k]
            if chunk_of[leader] != chunk or seen[leader] == row:
                continue
            seen[leader] = row
            compared += 1
            leader_size = stops[leader] - starts[leader]
            least_now = max(least, best[row])
            needed = (
                _least_part(size, least_now)
                if is_containment
                else _least_common(size, leader_size, least_now)
            )
            if min(size, leader_size) < needed:
                continue
            verified += 1
            if not is_loaded:
                _load_set(sets, starts[row], stops[row], table, stamps, mask, row)
                is_loaded = True
            common = _count_common(
                other, starts[leader], stops[leader], table, stamps, mask, row, leader_size - needed
            )
            if common < needed:
                continue
            score = common / size if is_containment else common / (size + leader_size - common)
            if (
                score > best[row]
                or partner[row] < 0
                or (score == best[row] and position[leader] < position[partner[row]])
            ):
                partner[row], best[row] = leader, score
    return compared, verified


@njit(nogil=True, cache=True, boundscheck=False)
def _room(visited: _Rows, starts: _Rows, stops: _Rows) -> int:
    longest = 0
    for z in range(len(visited)):
        longest = max(longest, stops[visited[z]] - starts[visited[z]])
    return _table_size(longest)


@njit(nogil=True, cache=True, boundscheck=False)
def _compare_with_earlier(
    visited: _Rows,
    position: _Rows,
    settled: npt.NDArray[np.bool_],
    groups: _Rows,
    state: tuple[_Rows, _Rows, _Rows, npt.NDArray[np.bool_]],
    near: tuple[_Rows, _Rows, _Rows],
    starts: _Rows,
    stops: _Rows,
    sets: words.Hashes,
    other: words.Hashes,
    earlier: int,
    chunk_of: _Rows,
    best: npt.NDArray[np.float64],
    partner: _Rows,
    seen: _Rows,
    least: float,
    is_containment: bool,
) -> tuple[int, int]:
    """What the rows of a chunk have in common with the leaders of an earlier one."""
    size = _room(visited, starts, stops)
    table, stamps = np.empty(size, np.uint64), np.full(size, -1, np.int64)
    compared = verified = 0
    for z in range(len(visited)):
        row = visited[z]
        if settled[row] or _exact_leader(row, groups, state[0])[0] >= 0:
            continue
        counts = _compare(
            row,
            position,
            state[1],
            state[2],
            near[0],
            near[1],
            near[2],
            starts,
            stops,
            sets,
            other,
            earlier,
            chunk_of,
            table,
            stamps,
            best,
            partner,
            seen,
            least,
            is_containment,
        )
        compared += counts[0]
        verified += counts[1]
    return compared, verified


@njit(nogil=True, cache=True, boundscheck=False)
def _visit(
    visited: _Rows,
    position: _Rows,
    passing: npt.NDArray[np.bool_],
    settled: npt.NDArray[np.bool_],
    groups: _Rows,
    state: tuple[_Rows, _Rows, _Rows, npt.NDArray[np.bool_]],
    near: tuple[_Rows, _Rows, _Rows],
    starts: _Rows,
    stops: _Rows,
    sets: words.Hashes,
    chunk: int,
    chunk_of: _Rows,
    best: npt.NDArray[np.float64],
    partner: _Rows,
    seen: _Rows,
    least: float,
    threshold: float,
    is_containment: bool,
) -> tuple[_Rows, _Rows, npt.NDArray[np.float64], _Rows, int, int]:
    """The rules of ``leaders`` for the rows of one chunk, whose best earlier leaders are known."""
    first_leaders, near_leaders, filled, is_capped = state
    size = _room(visited, starts, stops)
    table, stamps = np.empty(size, np.uint64), np.full(size, -1, np.int64)
    rows, partners = np.empty(len(visited), np.int64), np.empty(len(visited), np.int64)
    scores, kinds = np.empty(len(visited)), np.empty(len(visited), np.int64)
    found = compared = verified = 0
    for z in range(len(visited)):
        row = visited[z]
        if not settled[row]:
            leader, kind = _exact_leader(row, groups, first_leaders)
            if leader >= 0:
                rows[found], partners[found], scores[found], kinds[found] = row, leader, 1.0, kind
                found += 1
                continue
            counts = _compare(
                row,
                position,
                near_leaders,
                filled,
                near[0],
                near[1],
                near[2],
                starts,
                stops,
                sets,
                sets,
                chunk,
                chunk_of,
                table,
                stamps,
                best,
                partner,
                seen,
                least,
                is_containment,
            )
            compared += counts[0]
            verified += counts[1]
            if partner[row] >= 0:
                rows[found], partners[found], scores[found] = row, partner[row], best[row]
                kinds[found] = len(groups)
                found += 1
            if not passing[row] or (partner[row] >= 0 and best[row] >= threshold):
                continue
        for kind in range(len(groups)):
            group = groups[kind, row]
            if group >= 0 and first_leaders[group] < 0:
                first_leaders[group] = row
        if stops[row] == starts[row]:
            continue  # without words it resembles nothing
        for e in range(near[0][row], near[0][row + 1]):
            bucket = near[1][e]
            if filled[bucket] < near[2][bucket + 1]:
                near_leaders[filled[bucket]] = row
                filled[bucket] += 1
            else:
                is_capped[bucket] = True
    return rows[:found], partners[:found], scores[:found], kinds[:found], compared, verified


@njit(nogil=True, cache=True, boundscheck=False)
def _is_leader(
    loaded: _Rows, near_leaders: _Rows, filled: _Rows, places: _Rows, rows: int
) -> npt.NDArray[np.bool_]:
    """Which rows later ones may be compared with."""
    is_leader = np.zeros(rows, np.bool_)
    for bucket in range(len(filled)):
        for k in range(places[bucket], filled[bucket]):
            is_leader[near_leaders[k]] = True
    return is_leader[loaded]


@njit(nogil=True, cache=True, boundscheck=False)
def _least_common(size: int, other_size: int, similarity: float) -> int:
    """How many values two sets must have in common for the similarity; by the very division that decides."""
    common = max(0, int(similarity * (size + other_size) / (1.0 + similarity)) - 1)  # one or two too low
    while common / (size + other_size - common) < similarity:
        common += 1
    return common


@njit(nogil=True, cache=True, boundscheck=False)
def _least_part(size: int, share: float) -> int:
    """How many of ``size`` values make that share of them; by the very division that decides."""
    common = max(0, int(share * size) - 1)
    while common / size < share:
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
