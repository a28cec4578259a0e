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
1), and finds the ends of words as bits of one integer. The letters of the most frequent scripts are folded in the
same way (``_KNOWN``); only words that hold other characters are decoded one by one. Price: less than a second for
each gigabyte of text on one core, and 13 bytes of working memory for each byte of the longest document.

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
import pyarrow as pa
from llvmlite import ir

from filters.column import Bytes, Offsets, Texts, string_buffers
from filters.compiling import intrinsic, njit, types
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
    for first, column in _pieces(texts, batch_bytes):
        for start, pointers, values in _batches(column, first, ngram, batch_bytes):
            yield first + start, pointers, values


def _pieces(texts: Texts, batch_bytes: int) -> Iterator[tuple[int, pa.Array]]:
    """Parts of a column that are contiguous, and their first rows: its chunks, small ones joined. The rest is not copied."""
    chunks = texts.chunks if isinstance(texts, pa.ChunkedArray) else [texts]
    first = held_bytes = 0
    held: list[pa.Array] = []
    for chunk in chunks:
        if held and held_bytes + chunk.nbytes > batch_bytes:
            yield first, pa.concat_arrays(held)
            first += sum(map(len, held))
            held, held_bytes = [], 0
        if chunk.nbytes > batch_bytes:
            yield first, chunk
            first += len(chunk)
        else:
            held.append(chunk)
            held_bytes += chunk.nbytes
    if held:
        yield first, held[0] if len(held) == 1 else pa.concat_arrays(held)


def _batches(
    column: pa.Array, first: int, ngram: int, batch_bytes: int
) -> Iterator[tuple[int, Offsets, Hashes]]:
    """``shingle_batches`` of one array, whose first row is row ``first`` of the whole column."""
    offsets, data = (_read_only(buffer) for buffer in string_buffers(column))
    if len(offsets) == 1:
        return
    longest = int(np.diff(offsets).max())
    if longest > _LONGEST_DOCUMENT:
        raise DataError(
            f"shingles: row {first + int(np.diff(offsets).argmax())} holds {longest:,} bytes of text; at most "
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
    character, first byte lowest. Price: 0.5 MB and about 0.01 s, once a process.

    >>> table = fold_table()
    >>> int(table[ord("É")]).to_bytes(2, "little").decode(), int(table[ord("-")]), hex(table[ord("中")])
    ('é', 0, '0xffffffff')
    """
    codes = np.arange(_PLANES_0_AND_1, dtype=np.uint32)
    characters = codes.view("<U1")
    is_letter = np.strings.isalnum(characters)  # with the underscore \w, in Python's own definition
    is_letter[ord("_")] = True
    for first, last in _LATER:
        is_letter[first : last + 1] = False
    table = np.zeros(_PLANES_0_AND_1, np.uint32)
    for first, last in _UNSPACED:
        table[first : last + 1][is_letter[first : last + 1]] = _OWN_WORD
    cased = np.append(
        np.flatnonzero(np.strings.istitle(characters)), ord("ς")
    )  # the others are their own lower case
    codes[cased] = [_fold(code) for code in cased.tolist()]
    letters = np.flatnonzero(is_letter & (table == _SEPARATOR))
    table[letters] = _packed_utf8(codes[letters])
    table.setflags(write=False)
    return table


def _packed_utf8(codes: npt.NDArray[np.uint32]) -> npt.NDArray[np.uint32]:
    """The UTF-8 of code points, each in one number, first byte lowest."""
    sixes = [codes >> (6 * k) & 0x3F | 0x80 for k in range(3)]  # from the last on
    two = 0xC0 | codes >> 6 | sixes[0] << 8
    three = 0xE0 | codes >> 12 | sixes[1] << 8 | sixes[0] << 16
    four = 0xF0 | codes >> 18 | sixes[2] << 8 | sixes[1] << 16 | sixes[0] << 24
    return np.select([codes < 0x80, codes < 0x800, codes < 0x10000], [codes, two, three], four)


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

    lowered: Bytes  # the document with most letters in lower case
    edges: npt.NDArray[np.uint32]  # where runs of word bytes begin and end, alternating
    tail: Bytes  # (128,) the last, incomplete block, and what is read behind it
    hashes: Hashes  # of the words
    doubtful: Hashes  # one bit a byte: characters that _fold_block does not know
    state: Hashes  # (8,) of _fold_block


def scratch(longest: int) -> Scratch:
    """Working memory for documents of at most ``longest`` bytes."""
    return Scratch(
        np.empty(longest + 64 + _SLACK, np.uint8),
        np.empty(longest + _SLACK, np.uint32),
        np.empty(128, np.uint8),
        np.empty(longest // 2 + _SLACK, np.uint64),
        np.empty(longest // 64 + 2, np.uint64),
        np.zeros(8, np.uint64),
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
    edges, is_doubtful = _find_runs(data, _U64(start), _U64(stop - start), room)
    lowered, hashes = room.lowered, room.hashes
    count = _U64(0)
    for k in range(_U64(0), edges, _U64(2)):
        begin, end = _U64(room.edges[k]), _U64(room.edges[k + _U64(1)])
        if is_doubtful and _has_bit(room.doubtful, begin, end):
            count = _split_run(lowered, begin, end, folds, hashes, count)
            continue
        length = end - begin
        h = _load(lowered, begin)
        if length <= _U64(8):
            h &= _first_bytes(length)
        else:
            at = begin + _U64(8)
            while at + _U64(8) <= end:
                h = _absorb(h, _load(lowered, at))
                at += _U64(8)
            if at < end:
                h = _absorb(h, _load(lowered, at) & _first_bytes(end - at))
            h *= _P
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
def _has_bit(bits: Hashes, begin: np.uint64, end: np.uint64) -> bool:
    """Whether any of the bits ``begin`` to ``end - 1`` is set."""
    first, last = begin >> _U64(6), (end - _U64(1)) >> _U64(6)
    above = _ONES << (begin & _U64(63))
    below = _ONES >> (_U64(63) - ((end - _U64(1)) & _U64(63)))
    if first == last:
        return bits[first] & above & below != _U64(0)
    found = (bits[first] & above) | (bits[last] & below)
    for k in range(first + _U64(1), last):
        found |= bits[k]
    return found != _U64(0)


@njit(nogil=True, cache=True, boundscheck=False)
def _find_runs(data: Bytes, start: np.uint64, length: np.uint64, room: Scratch) -> tuple[np.uint64, bool]:
    """Folds most of a document and finds its runs of word bytes: [a-z0-9_] and what is not ASCII and no separator.

        bytes    " the  Cafe"
        word      0111001111      one bit a byte, lowest first
        shifted   0011100111
        XOR       0100101000...   a bit where a run begins, then one where it ends

    A character that is a word of its own is a run of its own: where it begins and ends, a run may end and the next one
    begin at the same byte. Returns the number of edges, an even number, and whether any bit of ``room.doubtful`` is set.
    """
    lowered, edges, tail = room.lowered, room.edges, room.tail
    source, folded, padded = _begin(data) + start, _begin(lowered), _begin(tail)
    size = _U64(len(data)) - start
    found = _U64(0)
    carry = _U64(0)  # whether the block before ended inside a run
    doubtful = _U64(0)
    cuts = _U64(0)  # where characters that are words of their own begin, and the bytes behind them
    for k in range((length >> _U64(6)) + _U64(1)):
        offset = k << _U64(6)
        block = source + offset
        if offset + _U64(66) > length:  # two bytes behind the block are read
            left = length - offset
            if offset + _U64(64) <= size:
                _copy_first(block, left, padded)
            else:
                tail[: _U64(64)] = _U8(32)
                for q in range(left):
                    tail[q] = data[start + offset + q]
            tail[_U64(64)] = data[start + offset + _U64(64)] if left > _U64(64) else _U8(32)
            tail[_U64(65)] = _U8(32)
            block = padded  # the last block ends in a blank: no run is left open
        word, not_ascii = _classify(block, folded + offset)
        room.doubtful[k] = _U64(0)
        if not_ascii:
            _fold_block(block, folded + offset, _begin(room.state))
            word &= ~room.state[0]
            room.doubtful[k] = room.state[2]
            doubtful |= room.state[2]
            cuts |= room.state[1] | (room.state[1] << _U64(3))
        was_inside = carry
        before = (word << _U64(1)) | carry
        carry = word >> _U64(63)
        if cuts:
            begins, ends = word & (~before | cuts), before & (~word | cuts)
            total = _population(begins) + _population(ends)
            first = found + was_inside  # of the begins, which alternate with the ends
            other = found + (was_inside ^ _U64(1))
            for q in range(_U64(0), total, _U64(8)):
                for u in range(4):
                    edges[first + q + _U64(2 * u)] = _U32(offset + _trailing_zeros(begins))
                    edges[other + q + _U64(2 * u)] = _U32(offset + _trailing_zeros(ends))
                    begins &= begins - _U64(1)
                    ends &= ends - _U64(1)
            found += total
            cuts = room.state[1] >> _U64(61) if not_ascii else _U64(0)
            continue
        turns = word ^ before
        count = _population(turns)
        for q in range(_U64(0), count, _U64(8)):  # without asking for each whether it is there
            for u in range(8):
                edges[found + q + _U64(u)] = _U32(offset + _trailing_zeros(turns))
                turns &= turns - _U64(1)
        found += count
    return found, doubtful != _U64(0)


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

_instruction: Callable[[Callable[..., Any]], Callable[..., Any]] = intrinsic
_BYTE, _WORD = ir.IntType(8), ir.IntType(64)
_LANES = 64
_VECTOR = ir.VectorType(_BYTE, _LANES)


def _splat(value: int) -> ir.Constant:
    return ir.Constant(_VECTOR, [ir.Constant(_BYTE, value)] * _LANES)


@_instruction
def _load(typing: Any, array: Any, index: Any) -> Any:
    """Eight bytes from ``array[index]``, aligned or not, as one little-endian integer."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        data = context.make_array(signature.args[0])(context, builder, arguments[0]).data
        return _read(builder, builder.add(builder.ptrtoint(data, _WORD), arguments[1]), _WORD)

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
def _begin(typing: Any, array: Any) -> Any:
    """The address of an array's first byte: a number, while Numba counts the references to an array."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        data = context.make_array(signature.args[0])(context, builder, arguments[0]).data
        return builder.ptrtoint(data, _WORD)

    return types.uint64(array), generate


def _read(builder: Any, address: Any, kind: ir.Type = _VECTOR, distance: int = 0) -> Any:
    """The value at an address, aligned or not."""
    place = builder.add(address, ir.Constant(_WORD, distance))
    loaded = builder.load(builder.inttoptr(place, kind.as_pointer()))
    loaded.align = 1
    return loaded


def _write(builder: Any, value: Any, address: Any, distance: int = 0) -> None:
    place = builder.add(address, ir.Constant(_WORD, distance))
    builder.store(value, builder.inttoptr(place, value.type.as_pointer())).align = 1


def _between(builder: Any, values: Any, bounds: tuple[int, int]) -> Any:
    """64 bits: which bytes are in a range, both ends included."""
    first, last = bounds
    if first == last:
        return builder.icmp_unsigned("==", values, _splat(first))
    return builder.icmp_unsigned("<=", builder.sub(values, _splat(first)), _splat(last - first))


@_instruction
def _copy_first(typing: Any, source: Any, count: Any, target: Any) -> Any:
    """Copies 64 bytes from one address to another, those from number ``count`` on as blanks."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        lanes = ir.Constant(_VECTOR, [ir.Constant(_BYTE, lane) for lane in range(_LANES)])
        most = ir.Constant(_WORD, _LANES)
        is_less = builder.icmp_unsigned("<", arguments[1], most)
        count = builder.trunc(builder.select(is_less, arguments[1], most), _BYTE)
        undefined = ir.Constant(_VECTOR, ir.Undefined)
        spread = builder.insert_element(undefined, count, ir.Constant(ir.IntType(32), 0))
        everywhere = ir.Constant(
            ir.VectorType(ir.IntType(32), _LANES), [ir.Constant(ir.IntType(32), 0)] * _LANES
        )
        spread = builder.shuffle_vector(spread, undefined, everywhere)
        is_ours = builder.icmp_unsigned("<", lanes, spread)
        _write(builder, builder.select(is_ours, _read(builder, arguments[0]), _splat(0x20)), arguments[2])
        return context.get_dummy_value()

    return types.void(types.uint64, types.uint64, types.uint64), generate


@_instruction
def _classify(typing: Any, source: Any, target: Any) -> Any:
    """Copies 64 bytes from one address to another, ASCII letters in lower case.

    Returns one bit for each byte that is not ASCII or a letter, digit or underscore, and one for each that is not ASCII.
    """

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        block = _read(builder, arguments[0])
        is_upper = _between(builder, block, (ord("A"), ord("Z")))
        lowered = builder.select(is_upper, builder.or_(block, _splat(0x20)), block)
        _write(builder, lowered, arguments[1])
        letters = _between(builder, lowered, (ord("a"), ord("z")))
        digits = _between(builder, block, (ord("0"), ord("9")))
        underscore = _between(builder, block, (ord("_"), ord("_")))
        not_ascii = builder.icmp_signed("<", block, _splat(0))
        word = builder.or_(builder.or_(letters, digits), builder.or_(underscore, not_ascii))
        masks = (builder.bitcast(word, _WORD), builder.bitcast(not_ascii, _WORD))
        return context.make_tuple(builder, signature.return_type, masks)

    return types.UniTuple(types.uint64, 2)(types.uint64, types.uint64), generate


# What _fold_block knows: first, second and third bytes of characters, and what becomes of them. The rest of Unicode is
# looked up in fold_table, character by character.
_STAYS, _PLUS_32, _ODD, _NEXT_EVEN, _CROSSES, _SEPARATES, _IS_A_WORD = range(7)
_KNOWN: tuple[tuple[int, tuple[tuple[int, int], ...]], ...] = (
    (_SEPARATES, ((0xC2, 0xC2), (0x80, 0xA9))),
    (_SEPARATES, ((0xC2, 0xC2), (0xAB, 0xB1))),
    (_SEPARATES, ((0xC2, 0xC2), (0xB6, 0xB8))),
    (_SEPARATES, ((0xC2, 0xC2), (0xBB, 0xBB))),
    (_PLUS_32, ((0xC3, 0xC3), (0x80, 0x96))),
    (_PLUS_32, ((0xC3, 0xC3), (0x98, 0x9E))),
    (_STAYS, ((0xC3, 0xC3), (0x9F, 0xB6))),
    (_STAYS, ((0xC3, 0xC3), (0xB8, 0xBF))),
    (_ODD, ((0xC4, 0xC4), (0x80, 0xAF))),
    (_NEXT_EVEN, ((0xC4, 0xC4), (0xB9, 0xBE))),
    (_NEXT_EVEN, ((0xC5, 0xC5), (0x80, 0x88))),
    (_ODD, ((0xC5, 0xC5), (0x8A, 0xB7))),
    (_NEXT_EVEN, ((0xC5, 0xC5), (0xB9, 0xBE))),
    (_STAYS, ((0xCE, 0xCE), (0xAC, 0xBF))),
    (_STAYS, ((0xCF, 0xCF), (0x80, 0x81))),
    (_ODD, ((0xCF, 0xCF), (0x82, 0x83))),  # the final sigma
    (_STAYS, ((0xCF, 0xCF), (0x84, 0x8E))),
    (_PLUS_32, ((0xD0, 0xD0), (0x90, 0x9F))),
    (_CROSSES, ((0xD0, 0xD0), (0xA0, 0xAF))),
    (_STAYS, ((0xD0, 0xD0), (0xB0, 0xBF))),
    (_STAYS, ((0xD1, 0xD1), (0x80, 0x9F))),
    (_STAYS, ((0xD7, 0xD7), (0x90, 0xAA))),  # Hebrew
    (_STAYS, ((0xD8, 0xD8), (0xA0, 0xBF))),  # Arabic
    (_STAYS, ((0xD9, 0xD9), (0x80, 0x8A))),
    (_STAYS, ((0xD9, 0xDA), (0xB1, 0xBF))),
    (_STAYS, ((0xDA, 0xDB), (0x80, 0x93))),
    (_STAYS, ((0xDA, 0xDA), (0x94, 0xB0))),
    (_ODD, ((0xE1, 0xE1), (0xB8, 0xB9), (0x80, 0xBF))),
    (_ODD, ((0xE1, 0xE1), (0xBA, 0xBA), (0xA0, 0xBF))),  # Vietnamese
    (_ODD, ((0xE1, 0xE1), (0xBB, 0xBB), (0x80, 0xBF))),
    (_SEPARATES, ((0xE2, 0xE2), (0x80, 0x80), (0x80, 0xBF))),  # quotes and dashes
    (_SEPARATES, ((0xE2, 0xE2), (0x94, 0x9C), (0x80, 0xBF))),  # boxes, blocks, bullets, dingbats
    (_SEPARATES, ((0xE3, 0xE3), (0x80, 0x80), (0x80, 0x84))),
    (_SEPARATES, ((0xE3, 0xE3), (0x80, 0x80), (0x88, 0xA0))),
    (_IS_A_WORD, ((0xE3, 0xE3), (0x81, 0x81), (0x81, 0xBF))),
    (_IS_A_WORD, ((0xE3, 0xE3), (0x82, 0x82), (0x80, 0x96))),
    (_IS_A_WORD, ((0xE3, 0xE3), (0x82, 0x82), (0xA1, 0xBF))),
    (_IS_A_WORD, ((0xE3, 0xE3), (0x83, 0x83), (0x80, 0xBA))),
    (_SEPARATES, ((0xE3, 0xE3), (0x83, 0x83), (0xBB, 0xBB))),
    (_IS_A_WORD, ((0xE3, 0xE3), (0x83, 0x83), (0xBC, 0xBF))),
    (_IS_A_WORD, ((0xE3, 0xE3), (0x90, 0xBF), (0x80, 0xBF))),
    (_IS_A_WORD, ((0xE4, 0xE4), (0x80, 0xB6), (0x80, 0xBF))),
    (_IS_A_WORD, ((0xE4, 0xE4), (0xB8, 0xBF), (0x80, 0xBF))),
    (_IS_A_WORD, ((0xE5, 0xE9), (0x80, 0xBF), (0x80, 0xBF))),
    (_STAYS, ((0xEA, 0xEA), (0xB0, 0xBF), (0x80, 0xBF))),  # Hangul
    (_STAYS, ((0xEB, 0xEC), (0x80, 0xBF), (0x80, 0xBF))),
    (_STAYS, ((0xED, 0xED), (0x80, 0x9D), (0x80, 0xBF))),
    (_SEPARATES, ((0xEF, 0xEF), (0xBC, 0xBC), (0x80, 0x8F))),  # full-width punctuation
    (_SEPARATES, ((0xEF, 0xEF), (0xBC, 0xBC), (0x9A, 0xA0))),
)


# Scripts that are seldom mixed, by first bytes: Latin; Greek and Cyrillic; Hebrew and Arabic; Vietnamese; punctuation; Han
# and Kana; Hangul; full-width forms.
_GROUPS = (
    (0xC2, 0xC5),
    (0xCE, 0xD1),
    (0xD7, 0xDB),
    (0xE1, 0xE1),
    (0xE2, 0xE2),
    (0xE3, 0xE9),
    (0xEA, 0xED),
    (0xEF, 0xEF),
)


@_instruction
def _fold_block(typing: Any, source: Any, target: Any, state: Any) -> Any:
    """Folds the characters of ``_KNOWN`` in 64 bytes; ``target`` holds them with ASCII letters in lower case.

    All arguments are addresses; ``state`` is that of eight words. Set there, a bit a byte: [0] bytes of separators,
    [1] first bytes of characters that are words of their own, [2] first bytes of characters that are not known. From
    [3] on stands what reaches into the next block.

    Never inlined: its constants would push those of ``_classify`` out of the registers.
    """

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        name = builder.module.get_unique_name("fold_block")
        function = ir.Function(builder.module, ir.FunctionType(ir.VoidType(), [_WORD] * 3), name)
        function.linkage = "internal"
        function.attributes.add("noinline")
        inner = ir.IRBuilder(function.append_basic_block())
        _generate_fold_block(inner, *function.args)
        inner.ret_void()
        builder.call(function, arguments)
        return context.get_dummy_value()

    return types.void(types.uint64, types.uint64, types.uint64), generate


def _generate_fold_block(builder: Any, source: Any, target: Any, state: Any) -> None:
    block = [_read(builder, source, distance=distance) for distance in range(3)]
    slots = {
        (kind, width): builder.alloca(_WORD) for kind in range(7) for width in (2, 3)
    }  # masks of first bytes
    for slot in slots.values():
        builder.store(ir.Constant(_WORD, 0), slot)
    for first, last in _GROUPS:
        rules = [(kind, ranges) for kind, ranges in _KNOWN if first <= ranges[0][0] <= last]
        is_there = builder.bitcast(_between(builder, block[0], (first, last)), _WORD)
        with builder.if_then(builder.icmp_unsigned("!=", is_there, ir.Constant(_WORD, 0))):
            for slot in {(kind, len(ranges)) for kind, ranges in rules}:
                fitting = []
                for kind, ranges in rules:
                    if (kind, len(ranges)) == slot:
                        fits = [_between(builder, *pair) for pair in zip(block, ranges, strict=False)]
                        fitting.append(functools.reduce(builder.and_, fits))
                found = builder.bitcast(functools.reduce(builder.or_, fitting), _WORD)
                builder.store(builder.or_(builder.load(slots[slot]), found), slots[slot])
    masks = {key: builder.load(slot) for key, slot in slots.items()}
    no_bits = ir.Constant(_WORD, 0)
    known = functools.reduce(builder.or_, masks.values())
    leads = builder.bitcast(builder.icmp_unsigned(">=", block[0], _splat(0xC0)), _WORD)

    def later(mask: Any, by: int) -> tuple[Any, Any]:
        """A mask some bytes later, and what of it is in the next block."""
        return builder.shl(mask, ir.Constant(_WORD, by)), builder.lshr(mask, ir.Constant(_WORD, _LANES - by))

    def carried(slot: int, *parts: tuple[Any, Any]) -> Any:
        here = [part for part, _ in parts]
        before = _read(builder, state, _WORD, slot * 8)
        _write(builder, functools.reduce(builder.or_, [part for _, part in parts]), state, slot * 8)
        return functools.reduce(builder.or_, here, before)

    two, three = masks[_SEPARATES, 2], masks[_SEPARATES, 3]
    separators = carried(3, (two, no_bits), later(two, 1), (three, no_bits), later(three, 1), later(three, 2))
    plus_32 = carried(4, later(masks[_PLUS_32, 2], 1))
    odd = carried(5, later(masks[_ODD, 2], 1), later(masks[_ODD, 3], 2))
    next_even = carried(6, later(masks[_NEXT_EVEN, 2], 1))
    crosses = masks[_CROSSES, 2]
    crossed = carried(7, later(crosses, 1))
    _write(builder, separators, state)
    _write(builder, masks[_IS_A_WORD, 3], state, 8)
    _write(builder, builder.and_(leads, builder.not_(known)), state, 16)

    folded = _read(builder, target)
    bits = ir.VectorType(ir.IntType(1), _LANES)
    one = builder.and_(folded, _splat(1))
    for mask, changed in (
        (plus_32, builder.add(folded, _splat(0x20))),
        (odd, builder.or_(folded, _splat(1))),
        (next_even, builder.add(folded, one)),
        (crosses, builder.add(folded, _splat(1))),
        (crossed, builder.sub(folded, _splat(0x20))),
    ):
        folded = builder.select(builder.bitcast(mask, bits), changed, folded)
    _write(builder, folded, target)
