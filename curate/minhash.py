"""MinHash signatures and locality-sensitive hashing: which documents are worth comparing.

    signature    the minimum of each of K random permutations of a document's shingles; two documents agree in
                 one of them with probability J, the Jaccard similarity of their shingle sets (Broder 1997)
    band         ``rows`` consecutive minima; two documents that agree in all of a band share a bucket
    candidates   documents that share a bucket in at least one of ``bands`` bands: with probability
                 P(J) = 1 - (1 - J ** rows) ** bands

    texts ── signatures ──▶ (documents, K) ── band_keys ──▶ (bands, documents) ── buckets ──▶ candidates

Candidates are only a proposal: ``curate.verify`` compares the documents themselves and decides. So the bands
are chosen to miss few pairs (``choose_bands``), and not, as is usual where nothing is verified, to balance
misses against false alarms; ``curate.datasketch.balanced_bands`` gives that choice for comparison.

Permutation k takes the upper 32 bits s of a shingle to ``a[k] * s + b[k] mod 2**32`` with a[k] odd, which is
a bijection. Everything is integer arithmetic: the same signatures on every machine. Signatures may be
compared where ``ALGORITHM``, ngram and seed are equal; K need not be, since a shorter signature is the longer
one's beginning. Price: 4 * K bytes a document; for K = 128 about 1.5 seconds a gigabyte of text on one core
with AVX-512.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from llvmlite import ir

from filters import words
from filters.column import Offsets, Texts
from filters.compiling import intrinsic, njit, types
from filters.errors import ConfigError

ALGORITHM = f"minhash-affine32-1/{words.ALGORITHM}"
SEED = 1

Signatures = npt.NDArray[np.uint32]
Keys = npt.NDArray[np.uint64]

_NO_SHINGLE = np.uint32(0xFFFFFFFF)  # in every place of the signature of a document without words
_LANES = 64  # permutations that are computed together


# ---------------------------------------------------------------------------------------------------------
# Bands
# ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Bands:
    """How a signature is cut: ``bands`` bands of ``rows`` minima each.

    >>> Bands(13, 7).permutations
    91
    """

    bands: int
    rows: int

    def __post_init__(self) -> None:
        if self.bands < 1 or self.rows < 1:
            raise ValueError(f"{self.bands} bands of {self.rows} rows; both must be at least 1")

    @property
    def permutations(self) -> int:
        """Length of the signatures that the bands need."""
        return self.bands * self.rows


def probability(similarity: float, bands: Bands) -> float:
    """Probability that two documents of this Jaccard similarity share a bucket.

    >>> round(probability(0.8, Bands(13, 7)), 3), round(probability(0.5, Bands(13, 7)), 3)
    (0.953, 0.097)
    """
    return 1.0 - (1.0 - similarity**bands.rows) ** bands.bands


def curve(bands: Bands) -> list[tuple[float, float]]:
    """``probability`` at 21 similarities from 0 to 1, for reports and manifests.

    >>> [(similarity, round(share, 3)) for similarity, share in curve(Bands(14, 8))[14:17]]
    [(0.7, 0.565), (0.75, 0.772), (0.8, 0.924)]
    """
    return [(step / 20, probability(step / 20, bands)) for step in range(21)]


def choose_bands(threshold: float, permutations: int | None = None, recall: float = 0.985) -> Bands:
    """The bands with the fewest false candidates that still find ``recall`` of the pairs at the threshold.

    Fewest false candidates means the smallest area under the curve P below the threshold. Pairs above it are
    found more often than those at it.

    Args:
        threshold: Jaccard similarity in (0, 1] from which two documents are duplicates.
        permutations: at most so many; None takes 64, and twice as many as long as more than three fifths of the
            pairs that are 0.2 less similar than the threshold would be candidates, up to 1,024.
        recall: smallest P(threshold), in (0, 1).

    Raises:
        ConfigError: no bands of so few permutations find that share.

    >>> choose_bands(0.8), choose_bands(0.7), choose_bands(0.7, 128)
    (Bands(bands=11, rows=5), Bands(bands=23, rows=5), Bands(bands=23, rows=5))
    """
    if not 0 < threshold <= 1:
        raise ConfigError(f"choose_bands: threshold is {threshold}; allowed is 0 < threshold <= 1")
    if not 0 < recall < 1:
        raise ConfigError(f"choose_bands: recall is {recall}; allowed is 0 < recall < 1, usually 0.985")
    limits = (64, 128, 256, 512, 1024) if permutations is None else (permutations,)
    best: Bands | None = None
    for limit in limits:
        enough = [bands for bands in _fewest_bands(threshold, recall) if bands.permutations <= limit]
        best = min(enough, key=lambda bands: _area(threshold, bands), default=None)
        if best and probability(max(threshold - 0.2, 0.0), best) <= 0.6:
            break
    if best is None:
        needed = min(bands.permutations for bands in _fewest_bands(threshold, recall))
        raise ConfigError(
            f"choose_bands: no bands of at most {limits[-1]} permutations find {recall:.1%} of the pairs at "
            f"threshold {threshold}; at least {needed} permutations do. Allow more, or ask for less recall"
        )
    return best


def _fewest_bands(threshold: float, recall: float) -> list[Bands]:
    """The fewest bands with P(threshold) >= recall for every number of rows, up to 1,024 permutations."""
    choices: list[Bands] = []
    for rows in range(1, 1025):
        agree = threshold**rows  # probability that two documents at the threshold agree in one band
        if agree < 1e-15 and choices:
            break
        needed = 1.0 if agree == 1 else math.log(1 - recall) / math.log1p(-agree)
        bands = max(1, math.ceil(min(needed, 2.0**53)))
        if bands * rows > 1024 and choices:
            break
        choices.append(Bands(bands, rows))
    return choices


def _area(threshold: float, bands: Bands) -> float:
    """Area under P from 0 to the threshold, by the midpoint rule."""
    steps = 1000
    similarities = (np.arange(steps) + 0.5) * (threshold / steps)
    return float(np.sum(1 - (1 - similarities**bands.rows) ** bands.bands) * (threshold / steps))


# ---------------------------------------------------------------------------------------------------------
# Signatures and candidates
# ---------------------------------------------------------------------------------------------------------


def signatures(texts: Texts, *, ngram: int = 5, permutations: int = 128, seed: int = SEED) -> Signatures:
    """MinHash signatures of a column, ``(rows, permutations) uint32``.

    Equal places of two rows estimate the Jaccard similarity J of the two sets of shingles: the mean is J, the
    standard deviation ``sqrt(J * (1 - J) / permutations)``. A document without words has 2**32 - 1
    everywhere.

    Args:
        texts: string column; a null is an empty text.
        ngram: words in a shingle; see ``filters.words``.
        permutations: length of a signature. Multiples of 64 are computed, and cut.
        seed: of the permutations; signatures with different seeds cannot be compared.

    >>> import pyarrow as pa
    >>> a, b, none = signatures(pa.array(["one two three four five six", "One, two: three four five six.", "?"]))
    >>> a.dtype, (a == b).all(), (none == 2**32 - 1).all()
    (dtype('uint32'), np.True_, np.True_)
    """
    if permutations < 1:
        raise ConfigError(f"signatures: permutations is {permutations}; allowed is 1 and more, usually 128")
    multipliers, increments = affine_permutations(-(-permutations // _LANES) * _LANES, seed)
    result = np.empty((len(texts), permutations), np.uint32)
    for start, pointers, values in words.shingle_batches(texts, ngram=ngram):
        _sign(pointers, values, multipliers, increments, result[start : start + len(pointers) - 1])
    return result


def affine_permutations(count: int, seed: int = SEED) -> tuple[Signatures, Signatures]:
    """Multipliers (odd) and increments of a seed's first permutations, each ``(count,) uint32``.

    Taken from PCG64's raw output, which NumPy promises never to change, two draws a permutation.

    >>> multipliers, increments = affine_permutations(2)
    >>> np.array_equal(affine_permutations(5)[0][:2], multipliers), multipliers % 2
    (True, array([1, 1], dtype=uint32))
    """
    if seed < 0:
        raise ConfigError(f"signatures: seed is {seed}; allowed is 0 and more")
    draws = (np.random.PCG64(seed).random_raw(2 * count) >> np.uint64(32)).astype(np.uint32)
    return draws[0::2] | np.uint32(1), draws[1::2].copy()


def band_keys(
    signatures: Signatures, bands: Bands, *, salt: Keys | int = 0
) -> tuple[Keys, npt.NDArray[np.bool_]]:
    """A 64-bit key of every band of every document: documents with equal keys share a bucket.

    Two documents that differ in a band have equal keys with probability 2**-63, which costs a comparison and
    never a document. The band's number is part of a key, so that keys of all bands may be put together; the
    lowest bit is 0 (``exact_keys`` have a 1 there).

    Args:
        signatures: ``(rows, K) uint32`` with K at least ``bands.permutations``; what lies beyond is not used.
        salt: one for all documents, or ``(rows,) uint64``: documents with different salts share no bucket.

    Returns:
        keys ``(rows, bands) uint64``; 0 for a document without words.
        has_words ``(rows,) bool``: whether a document has keys at all. One without words is in no bucket.

    >>> import pyarrow as pa
    >>> keys, has_words = band_keys(signatures(pa.array(["a b", "A b", "b a", "!"])), Bands(16, 8))
    >>> keys.shape, bool((keys[0] == keys[1]).all()), bool((keys[0] == keys[2]).any()), has_words.tolist()
    ((4, 16), True, False, [True, True, True, False])
    """
    if signatures.shape[1] < bands.permutations:
        raise ConfigError(
            f"band_keys: signatures of {signatures.shape[1]} permutations; {bands.bands} bands of {bands.rows} "
            f"rows need {bands.permutations}"
        )
    keys = np.zeros((len(signatures), bands.bands), np.uint64)
    has_words = np.zeros(len(signatures), np.bool_)
    _key_bands(np.ascontiguousarray(signatures), _salts(salt, len(keys)), bands.rows, keys, has_words)
    return keys, has_words


class Sketch(NamedTuple):
    """What the search for near duplicates needs to know of each document.

    Attributes:
        keys: ``(rows, bands) uint64``, see ``band_keys``.
        has_words: ``(rows,) bool``; a document without words has no keys, and zeros for bits.
        bits: ``(rows, 64) uint8``, the lowest byte of the first 64 minima: two documents agree in a place with
            probability J + (1 - J) / 256 (Li & König 2010, "b-bit minwise hashing", doi:10.1145/1772690.1772759).
    """

    keys: Keys
    has_words: npt.NDArray[np.bool_]
    bits: npt.NDArray[np.uint8]


def sketch(texts: Texts, *, bands: Bands, ngram: int = 5, seed: int = SEED, salt: Keys | int = 0) -> Sketch:
    """Keys and bits of a column in one pass that keeps no signature: 8 bytes a band and 65 more a document.

    Args:
        texts: string column; a null is an empty text.
        bands: from ``choose_bands``.
        ngram: words in a shingle.
        seed: of the permutations.
        salt: see ``band_keys``.

    >>> import pyarrow as pa
    >>> texts, bands = pa.array(["a b", "A b", "!"]), Bands(12, 5)
    >>> made = sketch(texts, bands=bands)
    >>> np.array_equal(made.keys, band_keys(signatures(texts), bands)[0]), made.bits.shape
    (True, (3, 64))
    """
    multipliers, increments = affine_permutations(-(-bands.permutations // _LANES) * _LANES, seed)
    keys = np.zeros((len(texts), bands.bands), np.uint64)
    has_words = np.zeros(len(texts), np.bool_)
    bits = np.zeros((len(texts), _LANES), np.uint8)
    salts = _salts(salt, len(keys))
    for start, pointers, values in words.shingle_batches(texts, ngram=ngram):
        stop = start + len(pointers) - 1
        own = salts if len(salts) == 1 else salts[start:stop]
        _sketch_rows(
            pointers,
            values,
            multipliers,
            increments,
            own,
            bands.rows,
            keys[start:stop],
            has_words[start:stop],
            bits[start:stop],
        )
    return Sketch(keys, has_words, bits)


def exact_keys(hashes: Keys, *, kind: int = 0, salt: Keys | int = 0) -> Keys:
    """Keys of documents whose 128-bit hashes may be equal, ``(rows,) uint64``; the lowest bit is 1.

    Args:
        hashes: ``(rows, 2) uint64``.
        kind: which property was hashed (0 the text, others its owner's choice); kinds share no bucket.
        salt: see ``band_keys``.

    >>> a, b = exact_keys(np.array([[1, 2], [1, 2]], np.uint64))
    >>> bool(a == b), int(a) & 1, bool(a == exact_keys(np.array([[1, 2]], np.uint64), kind=1)[0])
    (True, 1, False)
    """
    step = np.uint64(kind * int(_M) & 0xFFFFFFFFFFFFFFFF)  # NumPy warns of scalars that overflow
    mixed = (hashes[:, 0] ^ (hashes[:, 1] * _P) ^ _salts(salt, len(hashes))) + step
    mixed ^= mixed >> np.uint64(32)
    mixed *= _Q
    mixed ^= mixed >> np.uint64(29)
    return mixed | np.uint64(1)


def _salts(salt: Keys | int, rows: int) -> Keys:
    salts = np.atleast_1d(np.asarray(salt, np.uint64))
    if len(salts) not in (1, rows):
        raise ValueError(f"salt has {len(salts)} values for {rows} documents")
    return np.array(salts)  # a copy: Numba compiles again for read-only ones


class Memberships(NamedTuple):
    """Which documents are in which bucket, one entry for each pair of the two."""

    bucket: npt.NDArray[np.int64]  # equal numbers are the same bucket; what numbers is of no importance
    row: npt.NDArray[np.int64]


def group_keys(keys: Keys, documents: npt.NDArray[np.int64]) -> Memberships:
    """Buckets of at least two entries with the same key.

    A hash table, and no sort. Price: time proportional to the entries, and 40 to 56 bytes for each of them
    while it runs.

    Args:
        keys: ``(entries,) uint64``.
        documents: ``(entries,) int64``, whose key it is.

    Returns:
        memberships bucket by bucket: buckets from 0 in the order in which their keys first appear, documents of a
        bucket in the order of the entries.

    >>> found = group_keys(np.array([5, 9, 9, 7, 5], np.uint64), np.array([0, 0, 1, 2, 3]))
    >>> found.bucket.tolist(), found.row.tolist()
    ([0, 0, 1, 1], [0, 3, 0, 1])
    """
    keys, documents = np.array(keys, np.uint64), np.array(documents, np.int64)
    if len(keys) != len(documents):
        raise ValueError(f"{len(keys)} keys for {len(documents)} documents")
    table = np.full(1 << max(4, (2 * len(keys) - 1).bit_length()), -1, np.int64)
    first, sizes = np.empty(len(keys), np.int64), np.zeros(len(keys), np.int64)
    members = _group(keys, table, first, sizes)
    found = Memberships(np.empty(members, np.int64), np.empty(members, np.int64))
    _list_members(documents, first, sizes, found.bucket, found.row)
    return found


def buckets(keys: Keys, has_words: npt.NDArray[np.bool_]) -> Memberships:
    """Buckets with at least two documents, of band keys that fit into memory.

    One band after the other: 48 bytes a document besides keys and result.

    >>> import pyarrow as pa
    >>> texts = pa.array(["a b", "c", "A b", "a, b"])
    >>> found = buckets(*band_keys(signatures(texts), Bands(2, 8)))
    >>> found.bucket.tolist(), found.row.tolist()
    ([0, 0, 0, 1, 1, 1], [0, 2, 3, 0, 2, 3])
    """
    candidates = np.flatnonzero(has_words)
    bucket_parts: list[npt.NDArray[np.int64]] = [np.zeros(0, np.int64)]
    row_parts: list[npt.NDArray[np.int64]] = [np.zeros(0, np.int64)]
    first_bucket = 0
    for band in range(keys.shape[1]):
        found = group_keys(keys[candidates, band], candidates)
        bucket_parts.append(found.bucket + first_bucket)
        row_parts.append(found.row)
        first_bucket += int(found.bucket[-1]) + 1 if len(found.bucket) else 0
    return Memberships(np.concatenate(bucket_parts), np.concatenate(row_parts))


# Odd constants: 2**64 / golden ratio, a multiplier of MurmurHash3, the second prime of xxHash.
_P, _M, _Q = np.uint64(0x9E3779B97F4A7C15), np.uint64(0xFF51AFD7ED558CCD), np.uint64(0xC2B2AE3D27D4EB4F)


@njit(nogil=True, cache=True, boundscheck=False)
def _sign(
    pointers: Offsets,
    values: words.Hashes,
    multipliers: Signatures,
    increments: Signatures,
    result: Signatures,
) -> None:
    signature = np.empty(len(multipliers), np.uint32)
    for row in range(len(result)):
        start, stop = np.uint64(pointers[row]), np.uint64(pointers[row + 1])
        for lane in range(np.uint64(0), np.uint64(len(multipliers)), np.uint64(_LANES)):
            _minima(values, start, stop, multipliers, increments, signature, lane)
        for place in range(result.shape[1]):
            result[row, place] = signature[place]


@njit(nogil=True, cache=True, boundscheck=False)
def _sketch_rows(
    pointers: Offsets,
    values: words.Hashes,
    multipliers: Signatures,
    increments: Signatures,
    salt: Keys,
    rows: int,
    keys: Keys,
    has_words: npt.NDArray[np.bool_],
    bits: npt.NDArray[np.uint8],
) -> None:
    """``_sign`` and ``_key_bands`` in one go; ``salt`` has one value for all rows, or one for each."""
    signature = np.empty(len(multipliers), np.uint32)
    for row in range(len(keys)):
        start, stop = np.uint64(pointers[row]), np.uint64(pointers[row + 1])
        has_words[row] = start < stop
        if start == stop:
            continue
        for lane in range(np.uint64(0), np.uint64(len(multipliers)), np.uint64(_LANES)):
            _minima(values, start, stop, multipliers, increments, signature, lane)
        own = salt[row % len(salt)]
        for band in range(keys.shape[1]):
            keys[row, band] = _key(signature, band, rows, own)
        for place in range(_LANES):
            bits[row, place] = np.uint8(signature[place] & np.uint32(0xFF))


@njit(nogil=True, cache=True, boundscheck=False)
def _key_bands(
    signatures: Signatures, salt: Keys, rows: int, keys: Keys, has_words: npt.NDArray[np.bool_]
) -> None:
    for document in range(len(signatures)):
        signature = signatures[document]
        for place in range(keys.shape[1] * rows):
            if signature[place] != _NO_SHINGLE:
                has_words[document] = True
                break
        if has_words[document]:
            for band in range(keys.shape[1]):
                keys[document, band] = _key(signature, band, rows, salt[document % len(salt)])


@njit(nogil=True, cache=True, boundscheck=False)
def _key(signature: Signatures, band: int, rows: int, salt: np.uint64) -> np.uint64:
    key = (_P * np.uint64(band + 1)) ^ salt
    for place in range(band * rows, (band + 1) * rows):
        key = (key ^ np.uint64(signature[place])) * _M
        key ^= key >> np.uint64(32)
    return key & ~np.uint64(1)


@njit(nogil=True, cache=True, boundscheck=False)
def _group(
    keys: Keys, table: npt.NDArray[np.int64], first: npt.NDArray[np.int64], sizes: npt.NDArray[np.int64]
) -> int:
    """The first entry with the same key for every entry, and how many there are; returns the number of members.

    ``table`` is filled with -1, a power of two long and at most half full. Keys are mixed well, so their upper
    bits are the place.
    """
    shift = np.uint64(64)
    size = len(table)
    while size > 1:
        size >>= 1
        shift -= np.uint64(1)
    mask = np.uint64(len(table) - 1)
    members = 0
    for entry in range(len(keys)):
        place = (keys[entry] * _Q) >> shift
        while table[place] >= 0 and keys[table[place]] != keys[entry]:
            place = (place + np.uint64(1)) & mask
        if table[place] < 0:
            table[place] = entry
        found = table[place]
        first[entry] = found
        sizes[found] += 1
        if sizes[found] > 1:
            members += 2 if sizes[found] == 2 else 1
    return members


@njit(nogil=True, cache=True, boundscheck=False)
def _list_members(
    documents: npt.NDArray[np.int64],
    first: npt.NDArray[np.int64],
    sizes: npt.NDArray[np.int64],
    bucket: npt.NDArray[np.int64],
    row: npt.NDArray[np.int64],
) -> int:
    """Members of the groups of two or more, group by group; ``sizes`` becomes where the next member goes."""
    filled = buckets = 0
    for entry in range(len(first)):
        if first[entry] == entry and sizes[entry] > 1:
            size = sizes[entry]
            bucket[filled : filled + size] = buckets
            buckets += 1
            sizes[entry] = ~filled  # negative: a group of two or more, and its next place
            filled += size
    for entry in range(len(first)):
        leader = first[entry]
        if sizes[leader] < 0:
            row[~sizes[leader]] = documents[entry]
            sizes[leader] -= 1
    return buckets


_WORD32, _WORD64 = ir.IntType(32), ir.IntType(64)
_VECTOR = ir.VectorType(_WORD32, _LANES)


_instruction: Callable[[Callable[..., Any]], Callable[..., None]] = intrinsic


@_instruction
def _minima(
    typing: Any, values: Any, start: Any, stop: Any, multipliers: Any, increments: Any, result: Any, lane: Any
) -> Any:
    """Minima of 64 permutations p = lane to lane + 63 over the shingles k = start to stop - 1, at ``result[p]``.

    ``multipliers[p] * (values[k] >> 32) + increments[p]`` modulo 2**32; 2**32 - 1 if there is no shingle.

    One shingle is spread over all lanes, and the minima stay in registers: four of AVX-512. A loop over
    shingles for each permutation, left to the compiler, takes 2.5 times as long.
    """

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        def pointer(argument: int, index: Any, width: ir.Type, target: ir.Type) -> Any:
            array = context.make_array(signature.args[argument])(context, builder, arguments[argument])
            first = builder.bitcast(array.data, width.as_pointer())
            return builder.bitcast(builder.gep(first, [index]), target.as_pointer())

        def lanes(argument: int) -> Any:
            loaded = builder.load(pointer(argument, arguments[6], _WORD32, _VECTOR))
            loaded.align = 4
            return loaded

        undefined = ir.Constant(_VECTOR, ir.Undefined)
        to_all = ir.Constant(_VECTOR, [ir.Constant(_WORD32, 0)] * _LANES)
        largest = ir.Constant(_VECTOR, [ir.Constant(_WORD32, 0xFFFFFFFF)] * _LANES)
        factor, summand = lanes(3), lanes(4)

        before = builder.block
        loop = builder.function.append_basic_block("shingle")
        done = builder.function.append_basic_block("minima")
        builder.cbranch(builder.icmp_unsigned("<", arguments[1], arguments[2]), loop, done)
        builder.position_at_end(loop)
        index, smallest = builder.phi(_WORD64), builder.phi(_VECTOR)
        value = builder.load(pointer(0, index, _WORD64, _WORD64))
        upper = builder.trunc(builder.lshr(value, ir.Constant(_WORD64, 32)), _WORD32)
        spread = builder.insert_element(undefined, upper, ir.Constant(_WORD32, 0))
        spread = builder.shuffle_vector(spread, undefined, to_all)
        permuted = builder.add(builder.mul(factor, spread), summand)
        smaller = builder.select(builder.icmp_unsigned("<", permuted, smallest), permuted, smallest)
        following = builder.add(index, ir.Constant(_WORD64, 1))
        index.add_incoming(arguments[1], before)
        index.add_incoming(following, loop)
        smallest.add_incoming(largest, before)
        smallest.add_incoming(smaller, loop)
        builder.cbranch(builder.icmp_unsigned("<", following, arguments[2]), loop, done)

        builder.position_at_end(done)
        final = builder.phi(_VECTOR)
        final.add_incoming(largest, before)
        final.add_incoming(smaller, loop)
        builder.store(final, pointer(5, arguments[6], _WORD32, _VECTOR)).align = 4
        return context.get_dummy_value()

    signature = types.void(values, types.uint64, types.uint64, multipliers, increments, result, types.uint64)
    return signature, generate
