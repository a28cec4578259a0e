"""Our signatures as datasketch's LeanMinHash bytes and back, and datasketch's choice of bands.

datasketch 2's scheme "affine32" and ours are one family: the minimum of ``a * h + b mod 2**32`` with odd a.
What differs is h (ours are the upper bits of a shingle's hash, datasketch's a mixed SHA-1) and where a and b
come from. So our signatures are valid LeanMinHashes, which datasketch's LSH indexes and estimators take, but
must never be compared with signatures that datasketch computed itself. The seed that a LeanMinHash carries
prevents it: datasketch refuses to compare different seeds, and ours is made from the algorithm, ngram and
seed.

    >>> signed = minhash.signatures(pa.array(["one two three four five six", "one two three four five six seven"]))
    >>> a, b = (LeanMinHash.deserialize(row.as_py()) for row in to_lean_minhash(signed, ngram=5))
    >>> a.scheme, round(a.jaccard(b), 2)  # of three shingles, two are common
    ('affine32', 0.67)

Bytes of datasketch before 2.0 have another scheme ("legacy"), and are refused.
"""

from __future__ import annotations

import hashlib
import struct

import numpy as np
import pyarrow as pa
from datasketch import LeanMinHash, MinHash, MinHashLSH

from curate import minhash
from filters import words
from filters.column import Texts
from filters.errors import ConfigError, DataError


def to_lean_minhash(
    signatures: minhash.Signatures, *, ngram: int, seed: int = minhash.SEED
) -> pa.BinaryArray:
    """Each signature as the bytes that ``LeanMinHash.deserialize`` reads, ``(rows,)`` binary.

    Args:
        signatures: ``(rows, K) uint32`` of ``minhash.signatures``.
        ngram, seed: with which they were made; they become the LeanMinHash's own seed.
    """
    tag = lean_seed(ngram=ngram, seed=seed)
    rows = []
    for signature in signatures:
        lean = LeanMinHash(seed=tag, hashvalues=signature, scheme="affine32")
        buffer = bytearray(lean.bytesize())
        lean.serialize(buffer)
        rows.append(bytes(buffer))
    return pa.array(rows, pa.binary())


def from_lean_minhash(
    column: pa.Array | pa.ChunkedArray, *, ngram: int, seed: int = minhash.SEED
) -> minhash.Signatures:
    """Signatures ``(rows, K) uint32`` of what ``to_lean_minhash`` wrote with the same ngram and seed.

    Raises:
        DataError: not a LeanMinHash, or one of other hashes, which could not be compared with ours.

    >>> signed = minhash.signatures(pa.array(["a b c", "d"]), ngram=2)
    >>> np.array_equal(from_lean_minhash(to_lean_minhash(signed, ngram=2), ngram=2), signed)
    True
    """
    tag = lean_seed(ngram=ngram, seed=seed)
    rows: list[minhash.Signatures] = []
    for row, payload in enumerate(column.to_pylist()):
        try:
            lean = LeanMinHash.deserialize(payload)
        except (struct.error, ValueError, TypeError) as error:
            raise DataError(
                f"row {row} is no LeanMinHash of datasketch 2: {error}. Compute signatures again"
            ) from error
        if lean.scheme != "affine32" or lean.seed != tag:
            raise DataError(
                f"row {row} is a LeanMinHash with scheme {lean.scheme} and seed {lean.seed}; allowed is affine32 with "
                f"{tag}, that is {minhash.ALGORITHM}, ngram {ngram}, seed {seed}. Compute signatures again"
            )
        if rows and len(lean.hashvalues) != len(rows[0]):
            raise DataError(f"row {row} has {len(lean.hashvalues)} permutations; row 0 has {len(rows[0])}")
        rows.append(lean.hashvalues)
    return np.array(rows, np.uint32) if rows else np.zeros((0, 0), np.uint32)


def lean_seed(*, ngram: int, seed: int = minhash.SEED) -> int:
    """The seed that our LeanMinHashes carry, in [0, 2**32): other ones cannot be compared with them."""
    described = f"{minhash.ALGORITHM}/{ngram}/{seed}".encode()
    return int.from_bytes(hashlib.blake2b(described, digest_size=4).digest(), "little")


def balanced_bands(threshold: float, permutations: int = 128) -> minhash.Bands:
    """The bands that datasketch chooses: missed pairs and false candidates count alike.

    For comparison with ``minhash.choose_bands``, which lets false candidates be verified away.

    >>> for bands in balanced_bands(0.7), minhash.choose_bands(0.7):
    ...     print(bands, f"find {minhash.probability(0.7, bands):.0%} of the pairs at 0.7")
    Bands(bands=14, rows=9) find 44% of the pairs at 0.7
    Bands(bands=23, rows=5) find 99% of the pairs at 0.7
    """
    try:
        index = MinHashLSH(threshold=threshold, num_perm=permutations)
    except ValueError as error:
        raise ConfigError(
            f"balanced_bands: threshold {threshold} with {permutations} permutations: {error}"
        ) from error
    return minhash.Bands(index.b, index.r)


def sketch_with_datasketch(
    texts: Texts,
    *,
    bands: minhash.Bands,
    ngram: int = 5,
    seed: int = minhash.SEED,
    salt: minhash.Keys | int = 0,
) -> minhash.Sketch:
    """``minhash.sketch`` with datasketch's hashes, permutations and minima: a check of ours from end to end.

    The words are those of ``filters.words``; everything after them is datasketch's: SHA-1 of each n-gram's text and
    ``MinHash.bulk``. Its candidates differ from ours by chance, and what verification makes of them does not.
    Price: Python objects for every n-gram, a few MB/s.

    >>> made = sketch_with_datasketch(pa.array(["a b", "A b", "!"]), bands=minhash.Bands(12, 5))
    >>> bool((made.keys[0] == made.keys[1]).all()), made.has_words.tolist()
    (True, [True, True, False])
    """
    permutations = -(-bands.permutations // 64) * 64
    signed = np.full((len(texts), permutations), 2**32 - 1, np.uint32)
    for row, text in enumerate(texts):
        decoded = text.as_buffer().to_pybytes().decode("utf-8", "replace") if text.is_valid else ""
        found = [word for word, _, _ in words.split(decoded)]
        if found:
            grams = [found[k : k + ngram] for k in range(max(1, len(found) - ngram + 1))]
            tokens = {" ".join(gram).encode("utf-8", "surrogatepass") for gram in grams}
            (made,) = MinHash.bulk([tokens], num_perm=permutations, seed=seed, scheme="affine32")
            signed[row] = made.hashvalues
    keys, has_words = minhash.band_keys(signed, bands, salt=salt)
    return minhash.Sketch(keys, has_words, (signed[:, :64] & 0xFF).astype(np.uint8) * has_words[:, None])
