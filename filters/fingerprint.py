"""A 128-bit fingerprint of each text of a column: equal where two texts differ in white space and Unicode form only.

    text          "The  cafe\\u0301\\n"
    normalised    "The café"          " ".join(unicodedata.normalize("NFC", text).split())
    fingerprint   128 bits of its UTF-8 bytes

White space is what ``str.split`` splits at: tabs and line ends, but also U+001C to U+001F, U+0085, U+00A0 (the
no-break space), U+2028, U+3000 and others. U+200B (zero width space) is none, as in Python.

NFC is fixed at Unicode 14, which Python 3.11 has: the ten combining marks of Unicode 15 (``_LATER``) stay where they
are put. Python 3.12 orders them, too, so the line above is not true there of a text that holds one of the ten beside
another mark in an order that is not canonical. All else is equal under both, since no later version of Unicode may
change the normal form of a code point that is assigned (UAX #15, section 3): the fingerprints are the same on every
machine.

The hash (``ALGORITHM`` names it; change it and give it another name). The normalised bytes are cut into blocks of 64,
the last one filled up with zeros; a block is eight little-endian words x0 ... x7. Two accumulators of eight 64-bit
words read every word, as XXH64 does with one:

    a[k] = rotate(a[k] + x[k] * A, 31) * B
    b[k] = rotate(b[k] + x[k] * C, 29) * D

and the two are folded with the number of bytes, each into 64 bits, and mixed as in MurmurHash3 (``_fold``). Every
step is a bijection, so texts that differ in one word of eight bytes, and not in length, never collide before the
fold; others do by an accident of 2**-128: among 10**9 texts the chance of any is 10**-21. It is no cryptographic
hash: whoever wants two texts to collide can make such texts.

The scanner copies 64 bytes at a time into a buffer that stays in the L1 cache, finds white space as bits of one
integer, and closes the gaps only where white space follows white space. Other characters than ASCII are looked up only
where a lead byte may begin white space or something that NFC changes. Texts are composed only if they hold a character
that NFC changes, or may change by what stands before it (quick check "No" or "Maybe" of UAX #15, section 9), or marks
out of their order.

Price: tests/benchmarks/kernels.py prints it. No memory for each text besides 16 bytes; ten times the size of the
longest text that has to be composed.

Trap for developers: Numba's file cache watches the file of the outermost kernel only, so nothing here is shared with
the scanner of ``filters.words``.
"""

from __future__ import annotations

import functools
import unicodedata
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from llvmlite import ir

from filters.column import Bytes, Offsets, Texts, string_buffers
from filters.compiling import intrinsic, njit, types

ALGORITHM = "text-1"

Fingerprints = npt.NDArray[np.uint64]

# Code points with a combining class that Unicode 15.0 assigned (15.1 added none): to Unicode 14 they are letters
# that nothing is ordered or composed with. No other property that NFC depends on changed between the two.
_LATER = ((0x10EFD, 0x10EFF), (0x11F41, 0x11F42), (0x1E08F, 0x1E08F), (0x1E4EC, 0x1E4EF))

# Where code points are that NFC may change or that have a combining class, and those that have parts.
_NFC_BLOCKS = (
    (0x00C0, 0x33FF),
    (0xA66F, 0xABFF),
    (0xF900, 0xFEFF),
    (0x10000, 0x11FFF),
    (0x16A00, 0x16FFF),
    (0x1BC00, 0x1EFFF),
    (0x2F800, 0x2FA1F),
)

_TABLE = 0x30000  # planes 0 to 2: none of the later ones holds white space or anything that NFC changes
_RAW = 0x110000  # added to a byte that is no UTF-8, and so not a code point
_NOTHING = 0x1FFFFF  # no letter before the first mark

_PLAIN = np.uint8(0)
_SPACE = np.uint8(254)
_UNSURE = np.uint8(255)  # NFC quick check No or Maybe; 1 to 240 are combining classes

# Hangul syllables are composed by arithmetic (Unicode Standard, section 3.12): 19 leads, 21 vowels, 27 finals.
_LEAD, _VOWEL, _FINAL, _SYLLABLE = 0x1100, 0x1161, 0x11A7, 0xAC00
_LEADS, _VOWELS, _FINALS = 19, 21, 28

_U8, _U64 = np.uint8, np.uint64
_A = _U64(0xC2B2AE3D27D4EB4F)  # primes of xxHash
_B = _U64(0x9E3779B185EBCA87)
_C = _U64(0x165667B19E3779F9)
_D = _U64(0x85EBCA77C2B2AE63)
_ONES = _U64(0xFFFFFFFFFFFFFFFF)
_NOT_ASCII = _U64(0x8080808080808080)

_BUFFER = 4096  # normalised bytes that are hashed together
_SLACK = 192  # what one block may write beyond them
_COMPOSED_BYTES = 1 << 17  # of texts that are composed at a time
_GROWTH = 3  # NFC makes a text at most three times as long (UAX #15, section 12.1)


# ---------------------------------------------------------------------------------------------------------
# Columns
# ---------------------------------------------------------------------------------------------------------


def fingerprints(texts: Texts) -> Fingerprints:
    """Fingerprint of every text, ``(rows, 2) uint64``.

    Bytes that are no UTF-8 are taken as they are: the value is that of ``bytes.decode("utf-8", "surrogateescape")``.

    Args:
        texts: string column; a null is an empty text.

    >>> import pyarrow as pa
    >>> found = fingerprints(pa.array(["The  cafe\\u0301\\n", "The caf\\u00e9", "the caf\\u00e9", None, " "]))
    >>> [bool((found[i] == found[j]).all()) for i, j in ((0, 1), (1, 2), (3, 4))]
    [True, False, True]
    """
    result = np.empty((len(texts), 2), np.uint64)
    first = 0
    for chunk in texts.chunks if isinstance(texts, pa.ChunkedArray) else [texts]:
        _fingerprint_column(chunk, result[first : first + len(chunk)])
        first += len(chunk)
    return result


def _fingerprint_column(texts: pa.Array, result: Fingerprints) -> None:
    """Fingerprints of one array at ``result``."""
    offsets, data = string_buffers(texts)
    form, spaces = normal_form(), _only_spaces()
    buffer, pad = np.empty(_BUFFER + _SLACK, np.uint8), np.zeros(128, np.uint8)
    unsure = np.zeros(len(result), np.bool_)
    _hash_rows(offsets, data, form.classes, _initial_state(), buffer, pad, result, unsure)
    rows = np.flatnonzero(unsure)
    ends = np.cumsum(offsets[rows + 1] - offsets[rows])
    while len(rows):
        count = max(1, int(np.searchsorted(ends, ends[0] + _COMPOSED_BYTES)))
        composed_offsets, composed = _compose(offsets, data, rows[:count], form)
        found, unsure = np.empty((count, 2), np.uint64), np.zeros(count, np.bool_)
        _hash_rows(composed_offsets, composed, spaces, _initial_state(), buffer, pad, found, unsure)
        result[rows[:count]] = found
        rows, ends = rows[count:], ends[count:]


class NormalForm(NamedTuple):
    """Unicode's tables of NFC, as of Unicode 14; shared and read-only."""

    classes: npt.NDArray[np.uint8]  # (0x30000,) what each code point is to the scanner: _PLAIN and others
    combining: npt.NDArray[np.uint8]  # (0x30000,) combining classes
    numbers: npt.NDArray[np.uint16]  # (0x30000,) the row of parts that a code point has; 0 is none
    parts: npt.NDArray[np.uint32]  # (2061, 2) code points that one is made of; the second may be 0, none
    pairs: npt.NDArray[np.uint64]  # (941,) first << 21 | second of two code points that NFC joins, ascending
    joined: npt.NDArray[np.uint32]  # (941,) to which


@functools.cache
def normal_form() -> NormalForm:
    """The tables, from ``unicodedata``. Price: 0.8 MB and 0.02 s, once a process.

    >>> classes = normal_form().classes
    >>> [int(classes[code]) for code in (0x41, 0xA0, 0x5B0, 0x301, 0x212B)]
    [0, 254, 10, 255, 255]
    """
    combining, numbers = np.zeros(_TABLE, np.uint8), np.zeros(_TABLE, np.uint16)
    parts: list[tuple[int, int]] = [(0, 0)]
    joined: dict[int, int] = {}
    changed = []
    for start, end in _NFC_BLOCKS:
        characters = [chr(code) for code in range(start, end + 1)]
        combining[start : end + 1] = list(map(unicodedata.combining, characters))
        for character, listed in zip(characters, map(unicodedata.decomposition, characters), strict=True):
            if listed and not listed.startswith("<"):
                first, second = ([int(part, 16) for part in listed.split()] + [0])[:2]
                numbers[ord(character)] = len(parts)
                parts.append((first, second))
                if unicodedata.is_normalized("NFC", character):
                    joined[first << 21 | second] = ord(character)
                else:
                    changed.append(ord(character))
    for start, end in _LATER:
        combining[start : end + 1] = 0
    classes = combining.copy()
    classes[changed] = _UNSURE
    classes[[pair & 0x1FFFFF for pair in joined]] = _UNSURE
    classes[_VOWEL : _VOWEL + _VOWELS] = _UNSURE
    classes[_FINAL + 1 : _FINAL + _FINALS] = _UNSURE
    classes[[code for code in range(0x80, 0x3001) if chr(code).isspace()]] = _SPACE
    pairs = np.array(sorted(joined), np.uint64)
    values = np.array([joined[pair] for pair in sorted(joined)], np.uint32)
    form = NormalForm(classes, combining, numbers, np.array(parts, np.uint32), pairs, values)
    for table in form:
        table.flags.writeable = False
    return form


@functools.cache
def _only_spaces() -> npt.NDArray[np.uint8]:
    """Classes for texts that are in NFC."""
    classes = np.where(normal_form().classes == _SPACE, _SPACE, _PLAIN)
    classes.flags.writeable = False
    return classes


@functools.cache
def _initial_state() -> npt.NDArray[np.uint64]:
    """The accumulators before the first block, ``(16,) uint64``: a then b."""
    state = np.arange(1, 17, dtype=np.uint64) * _B
    state ^= state >> _U64(29)
    state *= _A
    state.flags.writeable = False
    return state


def _compose(
    offsets: Offsets, data: Bytes, rows: npt.NDArray[np.int64], form: NormalForm
) -> tuple[Offsets, Bytes]:
    """Some rows in NFC, as a column."""
    sizes = offsets[rows + 1] - offsets[rows]
    composed = np.empty(int(sizes.sum()) * _GROWTH + 8, np.uint8)
    marks = np.empty((2, int(sizes.max()) * 2 + 8), np.uint32)
    ends = np.zeros(len(rows) + 1, np.int64)
    _compose_rows(offsets, data, rows, form, marks, ends, composed)
    for array in (ends, composed):
        array.flags.writeable = False
    return ends, composed


# ---------------------------------------------------------------------------------------------------------
# Kernels. All arithmetic is in uint64: Numba makes a float64 of uint64 with int64, and tests a signed index
# for wrap-around
# ---------------------------------------------------------------------------------------------------------


@njit(nogil=True, cache=True, boundscheck=False)
def _hash_rows(
    offsets: Offsets,
    data: Bytes,
    classes: npt.NDArray[np.uint8],
    initial: npt.NDArray[np.uint64],
    buffer: Bytes,
    pad: Bytes,
    result: Fingerprints,
    unsure: npt.NDArray[np.bool_],
) -> None:
    """Fingerprints of all rows, and which rows have none because they may not be in NFC."""
    state = np.empty(16, np.uint64)
    size, data_begins = _U64(len(data)), _begin(data)
    for row in range(len(result)):
        start, stop = _U64(offsets[row]), _U64(offsets[row + 1])
        at = start
        for k in range(16):
            state[k] = initial[k]
        total = filled = _U64(0)
        after_space = _U64(1)  # white space at the beginning is dropped like white space after white space
        reaching = _U64(0)  # bytes of the next block that belong to a white space character of this one
        mark, mark_end = _U64(0), _U64(0)  # the last mark's combining class, and where it ends
        is_sure = True
        while at < stop:
            left = stop - at
            ours = _ONES if left >= _U64(64) else _ONES >> (_U64(64) - left)
            source = data_begins + at
            if at + _U64(128) > size:  # the last bytes of the column
                source = _begin(pad)
                for k in range(min(left, _U64(128))):
                    pad[k] = data[at + k]
            spaces, not_ascii = _copy(source, buffer, filled)
            spaces |= reaching
            reaching = wide = _U64(0)  # wide: the first byte of each white space character that is not ASCII
            leads = _doubtful(source) & ours if not_ascii else _U64(0)
            while leads:
                place = _trailing_zeros(leads)
                leads &= leads - _U64(1)
                here = at + place
                kind, _, width = _look_up(data, here, stop, classes)
                if kind == _U64(_SPACE):
                    wide |= _U64(1) << place
                    spaces |= ((_U64(1) << width) - _U64(1)) << place
                    if place + width > _U64(64):
                        reaching = _ONES >> (_U64(128) - place - width)
                elif kind != _U64(_PLAIN):
                    if kind == _U64(_UNSURE) or (here == mark_end and kind < mark):
                        is_sure = False
                        break
                    mark, mark_end = kind, here + width
            if not is_sure:
                break
            kept = ~(spaces & ((spaces << _U64(1)) | after_space)) & ours
            after_space = spaces >> _U64(63)
            before, dropped = filled, ~kept
            filled += _trailing_zeros(dropped)
            rest = kept & ~((dropped & (_U64(0) - dropped)) - _U64(1))  # what lies above the first gap
            place = _trailing_zeros(rest)  # most blocks have one gap or none: a branch would be guessed wrong
            length = _trailing_zeros(~(rest >> (place & _U64(63))))
            _copy(source + place, buffer, filled)
            filled += length
            rest &= rest + (rest & (_U64(0) - rest))
            while rest:
                place = _trailing_zeros(rest)
                length = _trailing_zeros(~(rest >> place))
                _copy(source + place, buffer, filled)
                filled += length
                rest &= rest + (rest & (_U64(0) - rest))
            wide &= kept
            while wide:
                below = (wide & (_U64(0) - wide)) - _U64(1)
                buffer[before + _population(kept & below)] = _U8(32)
                wide &= wide - _U64(1)
            at += _U64(64)
            if filled > _U64(_BUFFER):
                full = (filled - _U64(1)) >> _U64(6)  # at least one byte stays: it may be a blank at the end
                _absorb(buffer, full, state)
                total += full << _U64(6)
                filled -= full << _U64(6)
                for k in range(_U64(64)):
                    buffer[k] = buffer[(full << _U64(6)) + k]
        unsure[row] = not is_sure
        if is_sure:
            if filled and buffer[filled - _U64(1)] == _U8(32):
                filled -= _U64(1)
            total += filled
            for k in range(_U64(64)):
                buffer[filled + k] = _U8(0)
            _absorb(buffer, (filled + _U64(63)) >> _U64(6), state)
            result[row, 0], result[row, 1] = _fold(state, total)


@njit(nogil=True, cache=True, boundscheck=False)
def _look_up(
    data: Bytes, here: np.uint64, stop: np.uint64, classes: npt.NDArray[np.uint8]
) -> tuple[np.uint64, np.uint64, np.uint64]:
    """Class, code point and bytes of the character at ``here``.

    A byte that begins no UTF-8 before ``stop``, or a code point that is not in the table, is a plain character of one
    byte with a number above all code points.
    """
    code = _U64(data[here])
    nothing = _U64(_PLAIN), _U64(_RAW) + code, _U64(1)
    if code < _U64(0x80):
        return _U64(_PLAIN), code, _U64(1)
    width = _U64(2) if code < _U64(0xE0) else _U64(3) if code < _U64(0xF0) else _U64(4)
    if here + width > stop or code < _U64(0xC2) or code > _U64(0xF4):
        return nothing
    code &= _U64(0x7F) >> width
    for k in range(_U64(1), width):
        byte = _U64(data[here + k])
        if byte & _U64(0xC0) != _U64(0x80):
            return nothing
        code = (code << _U64(6)) | (byte & _U64(0x3F))
    shortest = _U64(0x80) if width == _U64(2) else _U64(0x800) if width == _U64(3) else _U64(0x10000)
    if code < shortest or code >= _U64(_TABLE):
        return nothing
    return _U64(classes[code]), code, width


@njit(nogil=True, cache=True, boundscheck=False)
def _compose_rows(
    offsets: Offsets,
    data: Bytes,
    rows: npt.NDArray[np.int64],
    form: NormalForm,
    marks: npt.NDArray[np.uint32],
    ends: Offsets,
    result: Bytes,
) -> None:
    """Some rows in NFC, one after the other at ``result``, and where they end."""
    end = _U64(0)
    for k in range(len(rows)):
        start, stop = _U64(offsets[rows[k]]), _U64(offsets[rows[k] + 1])
        end = _compose_row(data, start, stop, form, marks, result, end)
        ends[k + 1] = end


@njit(nogil=True, cache=True, boundscheck=False)
def _compose_row(
    data: Bytes,
    start: np.uint64,
    stop: np.uint64,
    form: NormalForm,
    marks: npt.NDArray[np.uint32],
    result: Bytes,
    end: np.uint64,
) -> np.uint64:
    """Writes ``data[start:stop]`` in NFC to ``result[end:]``; returns where it ends.

    The algorithm of the Unicode Standard, section 3.11: take every character apart, sort the marks behind each letter
    by combining class, and join what has a common code point. ``marks[0]`` holds the marks behind the last letter.
    """
    at = start
    letter, count = _U64(_NOTHING), _U64(0)
    tail = np.empty(8, np.uint32)  # parts of one character, the last one first
    is_plain, code, width = _is_plain(data, at, stop, form.classes)
    while at < stop:
        if letter == _U64(_NOTHING) and count == _U64(0):
            begin = at
            while at + _U64(8) < stop and data[at + _U64(8)] < _U8(0x80):
                if _copy_word(data, at, result, end) & _NOT_ASCII:
                    break
                at += _U64(8)
                end += _U64(8)
            if at != begin:
                is_plain, code, width = _is_plain(data, at, stop, form.classes)
        begin, at = at, at + width
        was_plain, this = is_plain, code
        is_plain, code, width = _is_plain(data, at, stop, form.classes)
        if was_plain and is_plain:  # nothing can join it
            if letter != _U64(_NOTHING) or count:
                letter, count = _join_marks(letter, count, marks, form)
                end = _write(letter, count, marks, result, end)
                letter, count = _U64(_NOTHING), _U64(0)
            for k in range(begin, at):
                result[end] = data[k]
                end += _U64(1)
            continue
        parts = _U64(0)
        while this < _U64(_TABLE) and form.numbers[this]:
            number = _U64(form.numbers[this])
            if form.parts[number, 1]:
                tail[parts] = form.parts[number, 1]
                parts += _U64(1)
            this = _U64(form.parts[number, 0])
        while True:
            if this < _U64(_TABLE) and form.combining[this]:
                marks[0, count] = this
                count += _U64(1)
            else:
                if count:
                    letter, count = _join_marks(letter, count, marks, form)
                whole = _join(letter, this, form) if count == _U64(0) else _U64(0)
                if whole:
                    letter = whole
                else:
                    end = _write(letter, count, marks, result, end)
                    letter, count = this, _U64(0)
            if parts == _U64(0):
                break
            parts -= _U64(1)
            this = _U64(tail[parts])
    letter, count = _join_marks(letter, count, marks, form)
    return _write(letter, count, marks, result, end)


@njit(nogil=True, cache=True, boundscheck=False)
def _is_plain(
    data: Bytes, at: np.uint64, stop: np.uint64, classes: npt.NDArray[np.uint8]
) -> tuple[bool, np.uint64, np.uint64]:
    """Whether NFC leaves the character at ``at`` alone whatever stands before it, its code point and its bytes.

    The end of the text is such a character, too.
    """
    if at == stop:
        return True, _U64(_NOTHING), _U64(0)
    kind, code, width = _look_up(data, at, stop, classes)
    return kind == _U64(_PLAIN) or kind == _U64(_SPACE), code, width


@njit(nogil=True, cache=True, boundscheck=False)
def _join_marks(
    letter: np.uint64, count: np.uint64, marks: npt.NDArray[np.uint32], form: NormalForm
) -> tuple[np.uint64, np.uint64]:
    """Sorts ``marks[0]``, joins some of them with the letter; returns that and how many are left in ``marks[1]``."""
    left = _U64(0)
    last = _U8(0)  # the class before
    while True:
        lowest = _U8(255)
        for k in range(count):
            rank = form.combining[marks[0, k]]
            if last < rank < lowest:
                lowest = rank
        if lowest == _U8(255):
            return letter, left
        is_blocked = False  # a mark that is left keeps those of its class from the letter
        for k in range(count):
            mark = _U64(marks[0, k])
            if form.combining[mark] == lowest:
                whole = _U64(0) if is_blocked else _join(letter, mark, form)
                if whole:
                    letter = whole
                else:
                    marks[1, left] = mark
                    left += _U64(1)
                    is_blocked = True
        last = lowest


@njit(nogil=True, cache=True, boundscheck=False)
def _join(first: np.uint64, second: np.uint64, form: NormalForm) -> np.uint64:
    """The code point of the two together, or 0."""
    lead, vowel = first - _U64(_LEAD), second - _U64(_VOWEL)  # a negative difference is a large number
    if lead < _U64(_LEADS) and vowel < _U64(_VOWELS):
        return _U64(_SYLLABLE) + (lead * _U64(_VOWELS) + vowel) * _U64(_FINALS)
    syllable, final = first - _U64(_SYLLABLE), second - _U64(_FINAL)
    if syllable < _U64(_LEADS * _VOWELS * _FINALS) and final - _U64(1) < _U64(_FINALS - 1):
        return first + final if syllable % _U64(_FINALS) == _U64(0) else _U64(0)
    if first >= _U64(_TABLE) or second >= _U64(_TABLE) or form.classes[second] != _UNSURE:
        return _U64(0)
    pair = (first << _U64(21)) | second
    low, high = _U64(0), _U64(len(form.pairs))
    while low < high:
        middle = (low + high) >> _U64(1)
        if form.pairs[middle] < pair:
            low = middle + _U64(1)
        else:
            high = middle
    return _U64(form.joined[low]) if low < _U64(len(form.pairs)) and form.pairs[low] == pair else _U64(0)


@njit(nogil=True, cache=True, boundscheck=False)
def _write(
    letter: np.uint64, count: np.uint64, marks: npt.NDArray[np.uint32], result: Bytes, end: np.uint64
) -> np.uint64:
    """Writes the letter, if any, and ``marks[1]`` as UTF-8; returns where they end."""
    for k in range(count + _U64(1)):
        code = letter if k == _U64(0) else _U64(marks[1, k - _U64(1)])
        if code < _U64(0x80) or code >= _U64(_RAW):
            if code != _U64(_NOTHING):
                result[end] = _U8(code & _U64(0xFF))
                end += _U64(1)
            continue
        width = _U64(2) if code < _U64(0x800) else _U64(3) if code < _U64(0x10000) else _U64(4)
        for u in range(_U64(1), width):
            result[end + width - u] = _U8(_U64(0x80) | (code & _U64(0x3F)))
            code >>= _U64(6)
        result[end] = _U8((_U64(0xF00) >> width) & _U64(0xFF) | code)
        end += width
    return end


@njit(nogil=True, cache=True, boundscheck=False)
def _fold(state: npt.NDArray[np.uint64], total: np.uint64) -> tuple[np.uint64, np.uint64]:
    """128 bits of the accumulators and the number of bytes."""
    h, g = total * _A, total * _C
    for k in range(8):
        h = (h ^ state[k]) * _B
        h ^= h >> _U64(32)
        g = (g ^ state[8 + k]) * _D
        g ^= g >> _U64(29)
    h += g
    g += h
    h = _mix(h)
    g = _mix(g)
    h += g
    g += h
    return h, g


@njit(nogil=True, cache=True, boundscheck=False)
def _mix(h: np.uint64) -> np.uint64:
    """The finaliser of MurmurHash3, a bijection."""
    h ^= h >> _U64(33)
    h *= _U64(0xFF51AFD7ED558CCD)
    h ^= h >> _U64(33)
    h *= _U64(0xC4CEB9FE1A85EC53)
    return h ^ (h >> _U64(33))


# Intrinsics: LLVM instructions on vectors of 64 bytes, which it lowers to AVX-512, AVX2, SSE2 or NEON.

_instruction: Callable[[Callable[..., Any]], Callable[..., Any]] = intrinsic
_BYTE, _WORD = ir.IntType(8), ir.IntType(64)
_BYTES = ir.VectorType(_BYTE, 64)
_WORDS = ir.VectorType(_WORD, 8)


def _address(context: Any, builder: Any, array_type: Any, array: Any, index: Any, target: ir.Type) -> Any:
    """Pointer to ``target`` at byte ``index`` of an array."""
    data = context.make_array(array_type)(context, builder, array).data
    element = builder.gep(builder.bitcast(data, _BYTE.as_pointer()), [index])
    return builder.bitcast(element, target.as_pointer())


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


@_instruction
def _copy_word(typing: Any, source: Any, source_index: Any, target: Any, target_index: Any) -> Any:
    """Copies eight bytes from ``source[source_index]`` to ``target[target_index]``; returns them."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        places = [
            _address(context, builder, signature.args[k], arguments[k], arguments[k + 1], _WORD)
            for k in (0, 2)
        ]
        word = builder.load(places[0])
        word.align = 1
        builder.store(word, places[1]).align = 1
        return word

    return types.uint64(source, types.uint64, target, types.uint64), generate


@_instruction
def _copy(typing: Any, source: Any, target: Any, target_index: Any) -> Any:
    """Copies 64 bytes from the address ``source``, ASCII white space as blanks.

    Returns one bit for each byte that is ASCII white space, and one for each that is not ASCII.
    """

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        block = builder.load(builder.inttoptr(arguments[0], _BYTES.as_pointer()))
        block.align = 1
        spaces = builder.or_(_between(builder, block, (0x09, 0x0D)), _between(builder, block, (0x1C, 0x20)))
        target = _address(context, builder, signature.args[1], arguments[1], arguments[2], _BYTES)
        builder.store(builder.select(spaces, _splat(0x20), block), target).align = 1
        not_ascii = builder.icmp_signed("<", block, _splat(0))
        found = (builder.bitcast(mask, _WORD) for mask in (spaces, not_ascii))
        return context.make_tuple(builder, signature.return_type, tuple(found))

    masks = types.UniTuple(types.uint64, 2)
    return masks(types.uint64, target, types.uint64), generate


@_instruction
def _doubtful(typing: Any, source: Any) -> Any:
    """One bit for each of 64 bytes that may begin white space or what NFC may change, by it and two bytes after it.

    It leaves nothing out. The most frequent others are sorted out: Latin, Cyrillic, Han, Hangul, half of Kana, quotes
    and dashes (E2 80 90 to A7). Never inlined: its constants would push those of ``_copy`` out of the registers.
    """

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        function = ir.Function(
            builder.module, ir.FunctionType(_WORD, [_WORD]), builder.module.get_unique_name("doubtful")
        )
        function.linkage = "internal"
        function.attributes.add("noinline")
        inner = ir.IRBuilder(function.append_basic_block())
        found = _between(inner, ir.Constant(_BYTES, None), (1, 1))
        block = []
        for distance in range(3):
            address = inner.add(function.args[0], ir.Constant(_WORD, distance))
            loaded = inner.load(inner.inttoptr(address, _BYTES.as_pointer()))
            loaded.align = 1
            block.append(loaded)
        lead, second, third = block
        for bounds in ((0xC2, 0xC2), (0xCC, 0xCE), (0xD2, 0xE1), (0xEA, 0xEA), (0xEF, 0xF0)):
            found = inner.or_(found, _between(inner, lead, bounds))
        is_dash = inner.and_(_between(inner, second, (0x80, 0x80)), _between(inner, third, (0x90, 0xA7)))
        found = inner.or_(found, inner.and_(_between(inner, lead, (0xE2, 0xE2)), inner.not_(is_dash)))
        even = _between(inner, inner.and_(second, _splat(0xFD)), (0x80, 0x80))  # 80 or 82
        found = inner.or_(found, inner.and_(_between(inner, lead, (0xE3, 0xE3)), even))
        inner.ret(inner.bitcast(found, _WORD))
        return builder.call(function, arguments)

    return types.uint64(types.uint64), generate


def _splat(value: int) -> ir.Constant:
    return ir.Constant(_BYTES, [ir.Constant(_BYTE, value)] * 64)


def _between(builder: Any, values: Any, bounds: tuple[int, int]) -> Any:
    """64 bits: which bytes are in a range, both ends included."""
    first, last = bounds
    return builder.icmp_unsigned("<=", builder.sub(values, _splat(first)), _splat(last - first))


@_instruction
def _absorb(typing: Any, buffer: Any, blocks: Any, state: Any) -> Any:
    """Takes ``blocks`` blocks of 64 bytes from the beginning of a buffer into the accumulators."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        def words(value: int) -> ir.Constant:
            return ir.Constant(_WORDS, [ir.Constant(_WORD, value)] * 8)

        def turned(value: Any, bits: int) -> Any:
            return builder.or_(builder.shl(value, words(bits)), builder.lshr(value, words(64 - bits)))

        def place(argument: int, index: Any) -> Any:
            return _address(context, builder, signature.args[argument], arguments[argument], index, _WORDS)

        def read(argument: int, index: Any) -> Any:
            loaded = builder.load(place(argument, index))
            loaded.align = 1
            return loaded

        zero, half = ir.Constant(_WORD, 0), ir.Constant(_WORD, 64)
        first_a, first_b = read(2, zero), read(2, half)
        end = builder.shl(arguments[1], ir.Constant(_WORD, 6))
        before = builder.block
        loop = builder.function.append_basic_block("block")
        done = builder.function.append_basic_block("absorbed")
        builder.cbranch(builder.icmp_unsigned("<", zero, end), loop, done)
        builder.position_at_end(loop)
        index, a, b = builder.phi(_WORD), builder.phi(_WORDS), builder.phi(_WORDS)
        block = read(0, index)
        next_a = builder.mul(turned(builder.add(a, builder.mul(block, words(int(_A)))), 31), words(int(_B)))
        next_b = builder.mul(turned(builder.add(b, builder.mul(block, words(int(_C)))), 29), words(int(_D)))
        following = builder.add(index, half)
        index.add_incoming(zero, before)
        index.add_incoming(following, loop)
        for value, first, last in ((a, first_a, next_a), (b, first_b, next_b)):
            value.add_incoming(first, before)
            value.add_incoming(last, loop)
        builder.cbranch(builder.icmp_unsigned("<", following, end), loop, done)

        builder.position_at_end(done)
        last_a, last_b = builder.phi(_WORDS), builder.phi(_WORDS)
        for value, first, last in ((last_a, first_a, next_a), (last_b, first_b, next_b)):
            value.add_incoming(first, before)
            value.add_incoming(last, loop)
        builder.store(last_a, place(2, zero)).align = 1
        builder.store(last_b, place(2, half)).align = 1
        return context.get_dummy_value()

    return types.void(buffer, types.uint64, state), generate
