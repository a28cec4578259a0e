"""Random draws without a generator: every draw is a hash of (key, counter), the same on every machine.

A *key* is a 64-bit number made from a seed and stable names (``key_of(17, "gsm8k", "template")``); a *counter* is
the number of the thing drawn for (a row, an ordinal). Nothing is consumed and nothing is remembered, so draws can be
made in any order, by any number of workers, and repeated.

The hash is the output function of SplitMix64 (Steele, Lea and Flood 2014, "Fast splittable pseudorandom number
generators", with Stafford's variant 13 of the mixer); ``permute`` is a four-round Feistel network over the next even
number of bits, walked along its cycles until it lands inside the range (Black and Rogaway 2002, "Ciphers with
arbitrary finite domains"). NumPy only: 10 million hashes take about 0.1 seconds, 1 million permuted rows 0.05.
"""

from __future__ import annotations

import hashlib

import numpy as np
import numpy.typing as npt

Counters = npt.ArrayLike
_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
_ROUNDS = 4


def key_of(*parts: str | int) -> int:
    """A 64-bit key of a seed and names; the boundaries and types of the parts matter.

    >>> key_of(17, "gsm8k") == key_of(17, "gsm8k"), key_of("a", "bc") == key_of("ab", "c"), key_of(1) == key_of("1")
    (True, False, False)
    """
    digest = hashlib.blake2b(digest_size=8)
    for part in parts:
        data = b"s" + part.encode() if isinstance(part, str) else b"i%d" % part
        digest.update(len(data).to_bytes(8, "little") + data)
    return int.from_bytes(digest.digest(), "little")


def draw(key: int, counters: Counters) -> npt.NDArray[np.uint64]:
    """64 uniform bits for each counter, in the shape of ``counters``.

    >>> draw(key_of(0, "demo"), [0, 1, 2]).dtype, bool((draw(1, [5]) == draw(1, [4, 5])[1:]).all())
    (dtype('uint64'), True)
    """
    x = np.atleast_1d(np.asarray(counters)).astype(np.uint64)
    return _mix(x * _GOLDEN + np.uint64(key))


def draw_below(key: int, counters: Counters, bound: Counters) -> npt.NDArray[np.int64]:
    """A uniform integer in [0, bound) for each counter; ``bound`` is one number or one for each, below 2**32.

    The 32 high bits are scaled (Lemire 2019), with a bias below bound / 2**32.

    >>> draw_below(3, range(5), 1).tolist()
    [0, 0, 0, 0, 0]
    """
    high = draw(key, counters) >> np.uint64(32)
    return ((high * np.asarray(bound).astype(np.uint64)) >> np.uint64(32)).astype(np.int64)


def permute(index: Counters, size: int, key: int) -> npt.NDArray[np.int64]:
    """Where a keyed shuffle of ``size`` things puts each index, without making the shuffled list.

    Args:
        index: numbers in [0, size), any shape that NumPy flattens to one dimension.
        size: how many things are shuffled, at least 1.
        key: which shuffle.

    Returns:
        int64, as long as ``index``; a bijection of [0, size).

    >>> sorted(permute(range(10), 10, key_of(7)).tolist()) == list(range(10))
    True
    """
    return _walk(index, size, _round_keys(key))


def unpermute(value: Counters, size: int, key: int) -> npt.NDArray[np.int64]:
    """The index that ``permute`` sends to each value: its inverse.

    >>> unpermute(permute([0, 4, 9], 10, 7), 10, 7).tolist()
    [0, 4, 9]
    """
    # A Feistel network with swapped halves and its round keys reversed undoes itself.
    return _walk(value, size, _round_keys(key)[::-1], inverse=True)


def _walk(
    index: Counters, size: int, keys: list[np.uint64], *, inverse: bool = False
) -> npt.NDArray[np.int64]:
    x = np.atleast_1d(np.asarray(index)).astype(np.uint64)
    if size < 1 or (len(x) and int(x.max()) >= size):
        raise ValueError(f"an index must lie in [0, {size})")
    half_bits = max(1, ((size - 1).bit_length() + 1) // 2)
    x = _feistel(x, half_bits, keys, inverse=inverse)
    outside = np.flatnonzero(x >= np.uint64(size))  # fewer than 3/4 of them, and fewer at each step
    while len(outside):
        x[outside] = _feistel(x[outside], half_bits, keys, inverse=inverse)
        outside = outside[x[outside] >= np.uint64(size)]
    return x.astype(np.int64)


def _feistel(
    x: npt.NDArray[np.uint64], half_bits: int, keys: list[np.uint64], *, inverse: bool
) -> npt.NDArray[np.uint64]:
    shift, mask = np.uint64(half_bits), np.uint64((1 << half_bits) - 1)
    left, right = x >> shift, x & mask
    if inverse:
        left, right = right, left
    for key in keys:
        left, right = right, left ^ (_mix(right * _GOLDEN + key) & mask)
    if inverse:
        left, right = right, left
    return (left << shift) | right


def _round_keys(key: int) -> list[np.uint64]:
    return list(draw(key, np.arange(_ROUNDS)))


def _mix(x: npt.NDArray[np.uint64]) -> npt.NDArray[np.uint64]:
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))
