"""Words and shingles of a text column as 64-bit hashes, which deduplication and decontamination compare.

    word      a run of letters, digits and underscores, exactly ``re.findall(r"\\w+", text)``, folded to lower
              case; but a character of a script that is written without spaces (Han, Kana, Bopomofo, Thai,
              Lao, Khmer, Myanmar) is a word of its own
    shingle   ``ngram`` consecutive words; a text of fewer words has one shingle, all of them; a text without
              words has none

    "The Café, 中文!"  ->  the | café | 中 | 文  ->  (n = 2)  the café | café 中 | 中 文

Folding is Unicode's simple lower-casing, one code point to one code point, and the final sigma is a sigma.
Words differ from those of ``text.lower()`` where that makes two characters of one: "İ" is "i" here, and "i"
with a combining dot there.

Trap: combining marks are no \\w, so they end a word: decomposed text ("e" and U+0301; normalise to NFC first)
and the vowel signs of Indic scripts, whose words are therefore shorter than a reader's.

What is a letter is fixed at Unicode 14 for planes 0 and 1 (see ``_LATER``), whatever Python runs; every code
point of planes 2 and 3 is Han, and above these there are no words. So hashes are the same on every machine.

The hashes (``ALGORITHM`` names them; change one and give it another name):

    word      its folded UTF-8 as little-endian 64-bit blocks y0 y1 ..., the last one filled up with zeros:
              h = y0, then h = (h * P) ^ (h >> 31) ^ y for every further block and h * P at the end (a word of
              at most eight bytes is y0), then three shifts and two multiplications to mix, as in MurmurHash3
    shingle   XOR of its words' hashes, the k-th from the end rotated left by 13 * k bits: a cyclic
              polynomial, so it can be rolled (Lemire & Kaser 2010, "Recursive n-gram hashing is pairwise
              independent, at best", doi:10.1016/j.csl.2009.12.001, with 13 in place of 1)

The scanner classifies 64 bytes at a time, as Langdale & Lemire do with JSON (2019, arXiv:1902.08318, stage
1), finds the ends of words as bits of one integer, and decodes UTF-8 only in runs that hold a byte that is
not ASCII. Price: about a second for each gigabyte of text on one core, and 13 bytes of working memory for
each byte of the longest document.

Trap for developers: Numba's file cache watches the file of the outermost kernel only. The kernels of other
modules therefore take the arrays that these functions return, and do not call the kernels here.
"""

from __future__ import annotations

import functools
import itertools
import re
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from llvmlite import ir
from numba import njit, types
from numba.extending import intrinsic

from filters.column import Bytes, Offsets, Texts, string_buffers
from filters.errors import ConfigError, DataError

ALGORITHM = "words-1"

Hashes = npt.NDArray[np.uint64]
LONGEST_NGRAM = 32  # rotations by 13 * k bits repeat at 64; long before that a shingle is a paragraph

_BATCH_BYTES = 1 << 19  # text whose shingles (1.3 bytes for each of its bytes) stay in a core's L2 cache
_LONGEST_DOCUMENT = 2**32 - 128  # the scanner's positions are 32 bits wide

# Code points that became letters or digits in planes 0 and 1 with Unicode 15.0 (15.1 added none there): Python
# 3.11 does not know them and 3.12 does, so they are separators until ALGORITHM changes.
_LATER = (
    (0x1123F, 0x11240),
    (0x11F02, 0x11F02),
    (0x11F04, 0x11F10),
    (0x11F12, 0x11F33),
    (0x11F50, 0x11F59),
    (0x1342F, 0x1342F),
    (0x13441, 0x13446),
    (0x1B132, 0x1B132),
    (0x1B155, 0x1B155),
    (0x1D2C0, 0x1D2D3),
    (0x1DF25, 0x1DF2A),
    (0x1E030, 0x1E06D),
    (0x1E4D0, 0x1E4EB),
    (0x1E4F0, 0x1E4F9),
)
# Blocks of scripts written without spaces, in planes 0 and 1; their letters and digits are words of their own.
_UNSPACED = (
    (0x0E00, 0x0EFF),  # Thai, Lao
    (0x1000, 0x109F),  # Myanmar
    (0x1780, 0x17FF),  # Khmer
    (0x2E80, 0x312F),  # CJK radicals and punctuation, Hiragana, Katakana, Bopomofo
    (0x3190, 0x9FFF),  # Kanbun, Bopomofo and Katakana extensions, enclosed and compatibility forms, Han
    (0xA9E0, 0xA9FF),  # Myanmar Extended-B
    (0xAA60, 0xAA7F),  # Myanmar Extended-A
    (0xF900, 0xFAFF),  # CJK compatibility ideographs
    (0xFF66, 0xFF9F),  # half-width Katakana
    (0x1AFF0, 0x1B16F),  # Kana extensions and supplement
)
_PLANES_0_AND_1 = 0x20000
_SEPARATOR = np.uint32(0)
_OWN_WORD = np.uint32(0xFFFFFFFF)

_U8, _U32, _U64 = np.uint8, np.uint32, np.uint64
_P = _U64(0x9E3779B97F4A7C15)  # 2**64 / golden ratio
_Q = _U64(0xC2B2AE3D27D4EB4F)  # the second prime of xxHash
_ONES = _U64(0xFFFFFFFFFFFFFFFF)
_NOT_ASCII = _U64(0x8080808080808080)


# ---------------------------------------------------------------------------------------------------------
# Columns
# ---------------------------------------------------------------------------------------------------------


def count_words(texts: Texts) -> npt.NDArray[np.int64]:
    """Number of words of every document, ``(rows,) int64``.

    >>> import pyarrow as pa
    >>> count_words(pa.array(["The Café, 中文!", "...", None])).tolist()
    [4, 0, 0]
    """
    counts = np.zeros(len(texts), np.int64)
    for start, pointers, _ in shingle_batches(texts, ngram=1):
        counts[start : start + len(pointers) - 1] = np.diff(pointers)
    return counts


def shingles(texts: Texts, *, ngram: int = 5) -> tuple[Offsets, Hashes]:
    """Shingles of every document in the order of its text, repeats included (a sequence, not a set).

    Args:
        texts: string column; a null is an empty text.
        ngram: words in a shingle, 1 to 32; with 1 the values are the words' hashes.

    Returns:
        pointers ``(rows + 1,) int64``: document r has ``values[pointers[r]:pointers[r + 1]]``.
        values ``(shingles,) uint64``.

    >>> import pyarrow as pa
    >>> pointers, values = shingles(pa.array(["a b a b a b", "", "A-b"]), ngram=3)
    >>> pointers.tolist(), len(np.unique(values[:4]))
    ([0, 4, 4, 5], 2)
    """
    all_pointers = np.zeros(len(texts) + 1, np.int64)
    parts: list[Hashes] = []
    total = 0
    for start, pointers, values in shingle_batches(texts, ngram=ngram):
        all_pointers[start + 1 : start + len(pointers)] = pointers[1:] + total
        parts.append(values.copy())
        total += len(values)
    return all_pointers, np.concatenate(parts) if parts else np.zeros(0, np.uint64)


def shingle_batches(
    texts: Texts, *, ngram: int = 5, batch_bytes: int = _BATCH_BYTES
) -> Iterator[tuple[int, Offsets, Hashes]]:
    """``shingles`` of consecutive rows, about ``batch_bytes`` of text at a time: they stay in the cache.

    Yields:
        start: the batch's first row.
        pointers ``(rows of the batch + 1,) int64`` into values, from 0.
        values ``(shingles,) uint64``: a view that the next batch overwrites.

    >>> import pyarrow as pa
    >>> [(start, pointers.tolist()) for start, pointers, _ in shingle_batches(pa.array(["a b", "c", "d e f"]), ngram=1)]
    [(0, [0, 2, 3, 6])]
    """
    if not 1 <= ngram <= LONGEST_NGRAM:
        raise ConfigError(
            f"shingles: ngram is {ngram}; allowed are 1 to {LONGEST_NGRAM}. 5 is usual for documents"
        )
    offsets, data = (_read_only(buffer) for buffer in string_buffers(texts))
    if len(offsets) == 1:
        return
    longest = int(np.diff(offsets).max())
    if longest > _LONGEST_DOCUMENT:
        raise DataError(
            f"shingles: row {int(np.diff(offsets).argmax())} holds {longest:,} bytes of text; at most "
            f"{_LONGEST_DOCUMENT:,} are possible. Split the document"
        )
    bounds = [0]  # first rows of the batches; each batch takes at least one row
    while bounds[-1] < len(offsets) - 1:
        reach = np.searchsorted(offsets, offsets[bounds[-1]] + batch_bytes, side="right") - 1
        bounds.append(max(bounds[-1] + 1, int(reach)))
    widest = max(int(offsets[stop] - offsets[start]) for start, stop in itertools.pairwise(bounds))
    most_rows = int(np.diff(bounds).max())
    values = np.empty((widest + most_rows) // 2 + _SLACK, np.uint64)
    pointers = np.empty(most_rows + 1, np.int64)
    room = scratch(longest)
    for start, stop in itertools.pairwise(bounds):
        found = _shingle_rows(offsets, data, start, stop, ngram, fold_table(), room, pointers, values)
        yield start, pointers[: stop - start + 1], values[:found]


# ---------------------------------------------------------------------------------------------------------
# One text, in Python: where its words are. The slow path of those who need the words themselves
# ---------------------------------------------------------------------------------------------------------


def split(text: str) -> list[tuple[str, int, int]]:
    """The words of one text, folded, and where they are: ``text[start:end]`` in Unicode characters.

    These are the words whose hashes the functions above return, in the same order.

    >>> split("The Café, 中文!")
    [('the', 0, 3), ('café', 4, 8), ('中', 10, 11), ('文', 11, 12)]
    """
    pattern, folds = _word_pattern()
    folded = text.translate(folds)  # one code point to one: positions stay
    return [(match.group(), match.start(), match.end()) for match in pattern.finditer(folded)]


@functools.cache
def _word_pattern() -> tuple[re.Pattern[str], dict[int, int]]:
    """A regular expression of one word of a folded text, and the folds for ``str.translate``."""
    table = fold_table()
    own = _ranges(table == _OWN_WORD) + f"\\U{_PLANES_0_AND_1:08x}-\\U0003ffff"
    spaced = _ranges((table != _SEPARATOR) & (table != _OWN_WORD))
    letters = np.flatnonzero((table != _SEPARATOR) & (table != _OWN_WORD)).tolist()
    folds = {code: _fold(code) for code in letters if _fold(code) != code}
    return re.compile(f"[{own}]|[{spaced}]+"), folds


def _ranges(members: npt.NDArray[np.bool_]) -> str:
    """The code points where ``members`` is true, as the inside of a regular expression's brackets."""
    edges = np.flatnonzero(np.diff(members.astype(np.int8), prepend=0, append=0)).tolist()
    return "".join(
        f"\\U{start:08x}-\\U{end - 1:08x}" for start, end in zip(edges[::2], edges[1::2], strict=True)
    )


def _fold(code: int) -> int:
    """Simple lower-casing of one code point; "ς" is "σ", as the upper case of both is "Σ"."""
    if code == ord("İ"):
        return ord("i")  # UnicodeData.txt; str.lower gives two characters
    if code == ord("ς"):
        return ord("σ")
    return ord(chr(code).lower())


@functools.cache
def fold_table() -> npt.NDArray[np.uint32]:
    """What each code point of planes 0 and 1 is to the scanner, ``(0x20000,) uint32``, shared and read-only.

    0 is a separator, 0xFFFFFFFF a word of its own, anything else part of a word: the UTF-8 of the folded
    character, first byte lowest. Price: 0.5 MB and about 0.05 s, once a process.

    >>> table = fold_table()
    >>> int(table[ord("É")]).to_bytes(2, "little").decode(), int(table[ord("-")]), hex(table[ord("中")])
    ('é', 0, '0xffffffff')
    """
    table = np.zeros(_PLANES_0_AND_1, np.uint32)
    for code in range(_PLANES_0_AND_1):
        if code == ord("_") or chr(code).isalnum():  # the two parts of \w, in Python's own definition
            table[code] = int.from_bytes(chr(_fold(code)).encode(), "little")
    for first, last in _UNSPACED:
        block = table[first : last + 1]
        block[block != _SEPARATOR] = _OWN_WORD
    for first, last in _LATER:
        table[first : last + 1] = _SEPARATOR
    table.setflags(write=False)
    return table


def _read_only(values: npt.NDArray) -> npt.NDArray:
    """A read-only view: Numba compiles a kernel once more for writable arrays, and Arrow has both kinds."""
    view = values.view()
    view.setflags(write=False)
    return view


# ---------------------------------------------------------------------------------------------------------
# Kernels. All arithmetic is in uint64: Numba makes a float64 of uint64 with int64, and tests a signed index
# for wrap-around
# ---------------------------------------------------------------------------------------------------------

_SLACK = 72  # what the kernels may write past the end: a block of 64 bytes, or eight values


class Scratch(NamedTuple):
    """Working memory of one thread, for documents of at most the length that ``scratch`` was asked for."""

    lowered: Bytes  # the document with ASCII letters in lower case
    edges: npt.NDArray[np.uint32]  # where runs of word bytes begin and end, alternating
    tail: Bytes  # (64,) the last, incomplete block
    hashes: Hashes  # of the words


def scratch(longest: int) -> Scratch:
    """Working memory for documents of at most ``longest`` bytes."""
    return Scratch(
        np.empty(longest + 64 + _SLACK, np.uint8),
        np.empty(longest + _SLACK, np.uint32),
        np.empty(64, np.uint8),
        np.empty(longest // 2 + _SLACK, np.uint64),
    )


@njit(nogil=True, cache=True, boundscheck=False)
def _shingle_rows(
    offsets: Offsets,
    data: Bytes,
    start: int,
    stop: int,
    ngram: int,
    folds: npt.NDArray[np.uint32],
    room: Scratch,
    pointers: Offsets,
    values: Hashes,
) -> np.int64:
    """Shingles of rows start to stop, one after the other; returns how many."""
    filled = np.int64(0)
    pointers[0] = 0
    for row in range(start, stop):
        words = word_hashes(data, offsets[row], offsets[row + 1], folds, room)
        filled += shingle_hashes(room.hashes, words, ngram, values[filled:])
        pointers[row - start + 1] = filled
    return filled


@njit(nogil=True, cache=True, boundscheck=False)
def shingle_hashes(hashes: Hashes, words: np.int64, ngram: int, values: Hashes) -> np.int64:
    """Rolls the hashes of ``words`` words into shingles at ``values``; returns how many there are."""
    if words == 0:
        return words
    if ngram == 1:
        for k in range(words):
            values[k] = hashes[k]
        return words
    if words < ngram:
        whole = _U64(0)
        for k in range(words):
            whole = _rotate(whole, _U64(13)) ^ hashes[k]
        values[0] = whole
        return np.int64(1)
    last = words - ngram + 1
    if ngram == 5:  # by far the most frequent; independent sums vectorise, while rolling is one long chain
        for k in range(last):
            values[k] = (
                _rotate(hashes[k], _U64(52))
                ^ _rotate(hashes[k + 1], _U64(39))
                ^ _rotate(hashes[k + 2], _U64(26))
                ^ _rotate(hashes[k + 3], _U64(13))
                ^ hashes[k + 4]
            )
        return last
    rolled = _U64(0)
    for k in range(ngram):
        rolled = _rotate(rolled, _U64(13)) ^ hashes[k]
    values[0] = rolled
    leaving = _U64((13 * ngram) % 64)
    for k in range(1, last):
        rolled = _rotate(rolled, _U64(13)) ^ _rotate(hashes[k - 1], leaving) ^ hashes[k + ngram - 1]
        values[k] = rolled
    return last


@njit(nogil=True, cache=True, boundscheck=False)
def _rotate(value: np.uint64, bits: np.uint64) -> np.uint64:
    return (value << bits) | (value >> ((_U64(64) - bits) & _U64(63)))


@njit(nogil=True, cache=True, boundscheck=False)
def word_hashes(data: Bytes, start: int, stop: int, folds: npt.NDArray[np.uint32], room: Scratch) -> np.int64:
    """Hashes of the words of ``data[start:stop]`` at ``room.hashes``; returns how many words there are.

    Reads no byte outside of the document, whatever it holds; which words a document gives that is not UTF-8
    is not defined.
    """
    edges = _find_runs(data, _U64(start), _U64(stop - start), room)
    lowered, hashes = room.lowered, room.hashes
    count = _U64(0)
    for k in range(_U64(0), edges, _U64(2)):
        begin, end = _U64(room.edges[k]), _U64(room.edges[k + _U64(1)])
        length = end - begin
        h = _load(lowered, begin)
        if length <= _U64(8):
            h &= _first_bytes(length)
            seen = h
        else:
            seen = h
            at = begin + _U64(8)
            while at + _U64(8) <= end:
                block = _load(lowered, at)
                seen |= block
                h = _absorb(h, block)
                at += _U64(8)
            if at < end:
                block = _load(lowered, at) & _first_bytes(end - at)
                seen |= block
                h = _absorb(h, block)
            h *= _P
        if seen & _NOT_ASCII:
            count = _split_run(lowered, begin, end, folds, hashes, count)
        else:
            hashes[count] = h
            count += _U64(1)
    for k in range(count):
        h = hashes[k]
        h ^= h >> _U64(32)
        h *= _P
        h ^= h >> _U64(29)
        h *= _Q
        h ^= h >> _U64(32)
        hashes[k] = h
    return np.int64(count)


@njit(nogil=True, cache=True, boundscheck=False)
def _find_runs(data: Bytes, start: np.uint64, length: np.uint64, room: Scratch) -> np.uint64:
    """Lower-cases a document and finds its runs of word bytes: [a-z0-9_] and everything that is not ASCII.

        bytes    " the  Cafe"
        word      0111001111      one bit a byte, lowest first
        shifted   0011100111
        XOR       0100101000...   a bit where a run begins, then one where it ends

    Returns the number of edges, an even number.
    """
    lowered, edges, tail = room.lowered, room.edges, room.tail
    full = length >> _U64(6)
    found = _U64(0)
    carry = _U64(0)  # whether the block before ended inside a run
    for k in range(full + _U64(1)):
        offset = k << _U64(6)
        if k < full:
            word = _classify(data, start + offset, lowered, offset)
        else:
            tail[:] = _U8(32)
            for q in range(length - offset):
                tail[q] = data[start + offset + q]
            word = _classify(tail, _U64(0), lowered, offset)  # ends in a blank: no run is left open
        turns = word ^ ((word << _U64(1)) | carry)
        carry = word >> _U64(63)
        count = _population(turns)
        for q in range(
            _U64(0), count, _U64(8)
        ):  # eight at a time, without asking for each whether it is there
            for u in range(8):
                edges[found + q + _U64(u)] = _U32(offset + _trailing_zeros(turns))
                turns &= turns - _U64(1)
        found += count
    return found


@njit(nogil=True, cache=True, boundscheck=False)
def _split_run(
    lowered: Bytes,
    begin: np.uint64,
    end: np.uint64,
    folds: npt.NDArray[np.uint32],
    hashes: Hashes,
    count: np.uint64,
) -> np.uint64:
    """Words of a run that is not ASCII: decodes, folds, and hashes the folded UTF-8 as word_hashes does."""
    h = _U64(0)
    blocks = _U64(0)  # full blocks of the word so far
    block = _U64(0)  # the block that is being filled
    bits = _U64(0)  # of it that are filled
    at = begin
    while at < end:
        first = _U64(lowered[at])
        size = _U64(1)
        code = first
        if first >= _U64(0x80):
            size = _U64(2) if first < _U64(0xE0) else _U64(3) if first < _U64(0xF0) else _U64(4)
            code = first & (_U64(0x7F) >> size)
            if at + size > end:
                break  # cut short: not UTF-8
            for k in range(_U64(1), size):
                code = (code << _U64(6)) | (_U64(lowered[at + k]) & _U64(0x3F))
        if code < _U64(_PLANES_0_AND_1):
            folded = _U64(folds[code])
        else:
            folded = _U64(_OWN_WORD) if code < _U64(0x40000) else _U64(_SEPARATOR)
        if folded == _U64(_SEPARATOR) or folded == _U64(_OWN_WORD):
            if bits:
                hashes[count] = block if blocks == _U64(0) else _absorb(h, block) * _P
                count += _U64(1)
                block = bits = blocks = _U64(0)
            if folded == _U64(_OWN_WORD):
                hashes[count] = _load(lowered, at) & _first_bytes(size)
                count += _U64(1)
        else:
            width = _U64(8)
            while folded >> width:
                width += _U64(8)
            if bits == _U64(64):
                h = block if blocks == _U64(0) else _absorb(h, block)
                blocks += _U64(1)
                block = bits = _U64(0)
            block |= folded << bits
            bits += width
            if bits > _U64(64):  # the character lies across two blocks
                h = block if blocks == _U64(0) else _absorb(h, block)
                blocks += _U64(1)
                bits -= _U64(64)
                block = folded >> (width - bits)
        at += size
    if bits:
        hashes[count] = block if blocks == _U64(0) else _absorb(h, block) * _P
        count += _U64(1)
    return count


@njit(nogil=True, cache=True, boundscheck=False)
def _absorb(h: np.uint64, block: np.uint64) -> np.uint64:
    return (h * _P) ^ (h >> _U64(31)) ^ block


@njit(nogil=True, cache=True, boundscheck=False)
def _first_bytes(count: np.uint64) -> np.uint64:
    """A mask of the first 1 to 8 bytes of a little-endian block."""
    return _ONES >> (_U64(64) - (count << _U64(3)))


# Intrinsics: LLVM instructions on vectors of 64 bytes, which it lowers to AVX-512, AVX2, SSE2 or NEON.

_instruction: Callable[[Callable[..., Any]], Callable[..., np.uint64]] = intrinsic
_BYTE, _WORD = ir.IntType(8), ir.IntType(64)
_LANES = 64
_VECTOR = ir.VectorType(_BYTE, _LANES)


def _splat(value: int) -> ir.Constant:
    return ir.Constant(_VECTOR, [ir.Constant(_BYTE, value)] * _LANES)


def _address(context: Any, builder: Any, array_type: Any, array: Any, index: Any, target: ir.Type) -> Any:
    """Pointer to ``target`` at byte ``index`` of a byte array."""
    data = context.make_array(array_type)(context, builder, array).data
    element = builder.gep(builder.bitcast(data, _BYTE.as_pointer()), [index])
    return builder.bitcast(element, target.as_pointer())


@_instruction
def _load(typing: Any, array: Any, index: Any) -> Any:
    """Eight bytes from ``array[index]``, aligned or not, as one little-endian integer."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        loaded = builder.load(
            _address(context, builder, signature.args[0], arguments[0], arguments[1], _WORD)
        )
        loaded.align = 1
        return loaded

    return types.uint64(array, types.uint64), generate


@_instruction
def _trailing_zeros(typing: Any, value: Any) -> Any:
    """Position of the lowest set bit; 64 for 0."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.cttz(arguments[0], ir.Constant(ir.IntType(1), 0))

    return types.uint64(types.uint64), generate


@_instruction
def _population(typing: Any, value: Any) -> Any:
    """Number of set bits."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.ctpop(arguments[0])

    return types.uint64(types.uint64), generate


@_instruction
def _classify(typing: Any, source: Any, source_index: Any, target: Any, target_index: Any) -> Any:
    """Copies 64 bytes, ASCII letters in lower case; returns one bit for each byte that belongs to a word."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        read = _address(context, builder, signature.args[0], arguments[0], arguments[1], _VECTOR)
        write = _address(context, builder, signature.args[2], arguments[2], arguments[3], _VECTOR)
        block = builder.load(read)
        block.align = 1

        def between(values: Any, first: str, count: int) -> Any:
            return builder.icmp_unsigned("<", builder.sub(values, _splat(ord(first))), _splat(count))

        lowered = builder.select(between(block, "A", 26), builder.or_(block, _splat(0x20)), block)
        builder.store(lowered, write).align = 1
        alphanumeric = builder.or_(between(lowered, "a", 26), between(block, "0", 10))
        underscore = builder.icmp_unsigned("==", block, _splat(ord("_")))
        not_ascii = builder.icmp_signed("<", block, _splat(0))
        word = builder.or_(alphanumeric, builder.or_(underscore, not_ascii))
        return builder.bitcast(word, _WORD)

    return types.uint64(source, types.uint64, target, types.uint64), generate
