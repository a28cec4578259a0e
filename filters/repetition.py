"""How much of a document repeats itself: the thirteen measures of Rae et al. 2021, arXiv:2112.11446, Table A1.

Words and lines are those of ``filters.scan``: words as ``text.split()``, lines without the blank ones. A
paragraph is a run of lines with no blank line between them. Lines are compared without the white space around
them, and a paragraph is its lines so stripped, joined by "\\n": neither indentation nor CRLF hides a repetition.

    duplicate line, paragraph       one that equals an earlier one of the document (the first is none)
    duplicate_line_ratio            duplicate lines / lines; paragraphs likewise
    duplicate_line_char_ratio       characters of the duplicate lines / characters of the document; likewise
    top_{2,3,4}gram_char_ratio      the n-gram that occurs most often, times its characters with one space between
                                    words / characters of the document. Occurrences are taken from the left and do
                                    not overlap; of equally frequent n-grams the first in the text is taken; 0 when
                                    none occurs twice
    duplicate_{5..10}gram_char_ratio  walk from the first word: where the n-gram that starts here was met before,
                                    add the characters of its words and step over it, else remember it and step on
                                    by one word. The sum / characters of the document

The walk and all denominators are datatrove's. Deliberate differences from datatrove:

- blank lines are no lines: in text with a blank line between lines half of all lines would be duplicates;
- occurrences of the top n-gram do not overlap and one occurrence is no repetition. The paper asks for the share
  of characters *inside* the most frequent n-gram, but counting "ha ha ha ha" as three times "ha ha" gives 1.4 of
  the text, and a caption of two words, counted once, 1.0;
- n-grams are equal when their words are: joined without a space, "ab c" and "a bc" would be the same.

Algorithm: words become class numbers by a 64-bit hash and open addressing. The n-gram at i is the pair (n-1-gram
at i, n-1-gram at i + 1), which can repeat only where both do, so every n looks only at what repeated for n - 1
and its key, two 32-bit classes, is exact. Linear in the bytes of a document. Two different words or lines share a
hash with a probability of about 2**-64.

Price: about 9 ns a byte of English. Scratch for one call is about 50 bytes a word of the largest document (not of
the batch) and 24 a line.
"""

from __future__ import annotations

import numba
import numpy as np
import numpy.typing as npt

from filters.codepoints import NEWLINE, SPACE, codepoint_flags, decode
from filters.column import Bytes, Offsets
from filters.errors import DataError
from filters.scan import read_only

# The columns of count_repetition's result, in this order.
REPETITION_COUNTS = (
    "char_count",
    "line_count",
    "paragraph_count",
    "duplicate_lines",
    "duplicate_paragraphs",
    "duplicate_line_chars",
    "duplicate_paragraph_chars",
    "top_2gram_chars",
    "top_3gram_chars",
    "top_4gram_chars",
    "duplicate_5gram_chars",
    "duplicate_6gram_chars",
    "duplicate_7gram_chars",
    "duplicate_8gram_chars",
    "duplicate_9gram_chars",
    "duplicate_10gram_chars",
)

_LARGEST_TEXT = 2**31 - 1  # bytes; classes and numbers of characters are 32-bit
_LAST_TOP, _LAST_DUPLICATE = 4, 10  # n of the last top n-gram and of the last duplicate n-gram
_COLUMN_OF_0GRAM = 5  # n-grams are counted in column n + 5, from n = 2
_LINE_FEED = ord("\n")

_SEED = np.uint64(0x243F6A8885A308D3)  # pi's fraction: any odd start will do
_MULTIPLIER = np.uint64(0x9E3779B97F4A7C15)  # 2**64 / golden ratio, odd
_HALF = np.uint64(32)

_Hashes = npt.NDArray[np.uint64]
_Integers = npt.NDArray[np.int32]


def count_repetition(offsets: Offsets, data: Bytes) -> npt.NDArray[np.int64]:
    """``REPETITION_COUNTS`` of every document, ``(rows, 16) int64``: numerators and denominators of Table
    A1's ratios.

    Args:
        offsets: ``(rows + 1,) int64``; document r is ``data[offsets[r]:offsets[r + 1]]``.
        data: UTF-8 bytes of all documents.

    Raises:
        DataError: a document has 2 GiB or more.

    >>> text = "one line\\ntwo\\n\\n  one line"
    >>> counts = count_repetition(np.array([0, len(text)]), np.frombuffer(text.encode(), np.uint8))
    >>> dict(zip(REPETITION_COUNTS, counts[0].tolist()))["duplicate_line_chars"]    # the second "one line"
    8
    """
    counts = np.zeros((len(offsets) - 1, len(REPETITION_COUNTS)), np.int64)
    if not len(counts):
        return counts
    sizes = np.diff(offsets)
    largest = int(sizes.max())
    if largest > _LARGEST_TEXT:
        raise DataError(
            f"text in row {int(sizes.argmax())} of the batch: {largest:,} bytes; a document may have at most "
            f"{_LARGEST_TEXT:,}. Split it, or measure without the signals of gopher_repetition"
        )
    _count_repetition(read_only(offsets), read_only(data), codepoint_flags(), largest, counts)
    return counts


@numba.njit(nogil=True, cache=True)
def _count_repetition(
    offsets: Offsets, data: Bytes, flags: npt.NDArray[np.uint8], largest: int, counts: npt.NDArray[np.int64]
) -> None:
    # Words, lines and paragraphs each take two bytes at least (one, and what separates it from the next).
    # np.empty reserves addresses; memory is used as far as the words and lines of a document fill it.
    most = largest // 2 + 1
    word_hashes = np.empty(most, np.uint64)
    word_ends = np.empty(most + 1, np.int32)  # characters of the words up to here, without white space
    line_hashes, line_chars = np.empty(most, np.uint64), np.empty(most, np.int32)
    paragraph_hashes, paragraph_chars = np.empty(most, np.uint64), np.empty(most, np.int32)
    classes, keys = np.empty(most, np.int32), np.empty(most, np.uint64)
    active, tally, free = np.empty(most, np.int32), np.empty(most, np.int32), np.empty(most, np.int32)
    slots = np.empty(4 * most, np.int32)
    for row in range(len(offsets) - 1):
        words, lines, paragraphs, chars = _split(
            data,
            offsets[row],
            offsets[row + 1],
            flags,
            word_hashes,
            word_ends,
            line_hashes,
            line_chars,
            paragraph_hashes,
            paragraph_chars,
        )
        counts[row, 0], counts[row, 1], counts[row, 2] = chars, lines, paragraphs
        counts[row, 3], counts[row, 5] = _duplicates(line_hashes, line_chars, lines, classes, keys, slots)
        counts[row, 4], counts[row, 6] = _duplicates(
            paragraph_hashes, paragraph_chars, paragraphs, classes, keys, slots
        )
        n_classes = _number(word_hashes, words, classes, keys, slots)
        _count_ngrams(classes, n_classes, word_ends, words, keys, slots, active, tally, free, counts[row])


@numba.njit(nogil=True, cache=True)
def _mix(state: np.uint64, value: np.uint64) -> np.uint64:
    """Fold one value into a hash; one to one in either argument, and every bit reaches the lower half."""
    state = (state ^ value) * _MULTIPLIER
    return state ^ (state >> _HALF)


@numba.njit(nogil=True, cache=True)
def _split(
    data: Bytes,
    start: int,
    end: int,
    flags: npt.NDArray[np.uint8],
    word_hashes: _Hashes,
    word_ends: _Integers,
    line_hashes: _Hashes,
    line_chars: _Integers,
    paragraph_hashes: _Hashes,
    paragraph_chars: _Integers,
) -> tuple[int, int, int, int]:
    """Hashes and sizes of a document's words, lines and paragraphs; returns how many there are of each, and of
    characters."""
    words = lines = paragraphs = 0
    word_ends[0] = 0
    chars = word_chars = 0  # read so far; of words so far
    line = _SEED  # folds this line's words and the white space between them
    # The same up to the end of the line's latest word: what the line is compared by.
    stripped, stripped_chars = _SEED, 0
    chars_before = 0  # where this line's first word began
    in_line = in_paragraph = False  # this line has had a word; the line before it had one
    position = start
    while True:
        at_end = position >= end
        code, following = np.int64(_LINE_FEED), position + 1  # the end of a document ends its last line
        if not at_end:
            code = np.int64(data[position])
            if code >= 0x80:
                code, following = decode(data, position, end)
        kind = flags[code]
        if kind & SPACE:
            if kind & NEWLINE:
                if in_line:
                    line_hashes[lines] = stripped
                    line_chars[lines] = stripped_chars
                    lines += 1
                    if in_paragraph:
                        paragraph_hashes[paragraphs - 1] = _mix(paragraph_hashes[paragraphs - 1], stripped)
                        paragraph_chars[paragraphs - 1] += 1 + stripped_chars
                    else:
                        paragraph_hashes[paragraphs] = _mix(_SEED, stripped)
                        paragraph_chars[paragraphs] = stripped_chars
                        paragraphs += 1
                in_paragraph = in_line
                in_line = False
                if at_end:
                    break
            line = _mix(line, np.uint64(code))
            chars += 1
            position = following
            continue
        if not in_line:
            in_line = True
            line = _SEED
            chars_before = chars
        word = _mix(_SEED, np.uint64(code))
        chars += 1
        word_chars += 1
        position = following
        while position < end:
            code, following = np.int64(data[position]), position + 1
            if code >= 0x80:
                code, following = decode(data, position, end)
            if flags[code] & SPACE:
                break
            word = _mix(word, np.uint64(code))
            chars += 1
            word_chars += 1
            position = following
        word_hashes[words] = word
        words += 1
        word_ends[words] = word_chars
        line = _mix(line, word)
        stripped, stripped_chars = line, chars - chars_before
    return words, lines, paragraphs, chars


@numba.njit(nogil=True, cache=True)
def _clear(slots: _Integers, entries: int) -> int:
    """Empty a hash table that is at most half full with ``entries``; returns the shift that picks a slot."""
    used, shift = 4, 62
    while used < 2 * entries:
        used *= 2
        shift -= 1
    slots[:used] = -1
    return shift


@numba.njit(nogil=True, cache=True)
def _class_of(key: np.uint64, keys: _Hashes, n_classes: int, slots: _Integers, shift: int) -> int:
    """The class whose key this is; ``n_classes``, after writing it there, for a key not seen before."""
    slot = np.int64(_mix(_SEED, key) * _MULTIPLIER >> np.uint64(shift))
    last = (np.int64(1) << (64 - shift)) - 1
    while slots[slot] >= 0:
        if keys[slots[slot]] == key:
            return slots[slot]
        slot = (slot + 1) & last
    slots[slot] = n_classes
    keys[n_classes] = key
    return n_classes


@numba.njit(nogil=True, cache=True)
def _duplicates(
    hashes: _Hashes, chars: _Integers, n: int, classes: _Integers, keys: _Hashes, slots: _Integers
) -> tuple[int, int]:
    """How many of ``n`` hashes occur earlier, and the sum of their ``chars``."""
    n_classes = _number(hashes, n, classes, keys, slots)
    highest = -1
    duplicate_chars = 0
    for index in range(n):
        if classes[index] > highest:
            highest = classes[index]
        else:
            duplicate_chars += chars[index]
    return n - n_classes, duplicate_chars


@numba.njit(nogil=True, cache=True)
def _number(hashes: _Hashes, n: int, classes: _Integers, keys: _Hashes, slots: _Integers) -> int:
    """``classes[i]`` = number of the class of ``hashes[i]``, in order of first appearance; returns how many."""
    shift = _clear(slots, n)
    n_classes = 0
    for index in range(n):
        found = _class_of(hashes[index], keys, n_classes, slots, shift)
        classes[index] = found
        n_classes += found == n_classes
    return n_classes


@numba.njit(nogil=True, cache=True)
def _count_ngrams(
    classes: _Integers,
    n_classes: int,
    word_ends: _Integers,
    words: int,
    keys: _Hashes,
    slots: _Integers,
    active: _Integers,
    tally: _Integers,
    free: _Integers,
    counts: npt.NDArray[np.int64],
) -> None:
    """Top and duplicate n-grams, n = 2 to 10, from the classes of a document's words.

    Round n leaves in ``active`` the places whose n-gram occurs elsewhere too, ascending, and in ``classes`` its
    class there, -1 at all other places:

        words      a  b  a  b  c
        1-grams    0  1  0  1 -1      active 0 1 2 3
        2-grams    0 -1  0 -1 -1      active 0 2             "b a" and "b c" occur once
        3-grams   -1 -1 -1 -1 -1      active none: done      "a b a", "a b c": 0 and its neighbour -1
    """
    n_active = words
    tally[:n_classes] = 0
    for place in range(words):
        active[place] = place
        tally[classes[place]] += 1
    for n in range(1, _LAST_DUPLICATE + 1):
        if n > 1:
            shift = _clear(slots, n_active)
            n_classes = 0
            for index in range(n_active):
                place = active[index]
                if place + 1 < words and classes[place + 1] >= 0:
                    # The neighbour still holds its class of the round before: places ascend.
                    key = np.uint64(classes[place]) << _HALF | np.uint64(classes[place + 1])
                    found = _class_of(key, keys, n_classes, slots, shift)
                    classes[place] = found
                    if found == n_classes:
                        tally[found] = 0
                        n_classes += 1
                    tally[found] += 1
                else:
                    classes[place] = -1
        n_repeated = 0
        for index in range(n_active):
            place = active[index]
            if classes[place] >= 0 and tally[classes[place]] >= 2:
                active[n_repeated] = place
                n_repeated += 1
            else:
                classes[place] = -1
        n_active = n_repeated
        if n_active == 0:
            return
        tally[:n_classes] = 0
        if n > _LAST_TOP:
            counts[n + _COLUMN_OF_0GRAM] = _duplicate_chars(n, classes, word_ends, active, n_active, tally)
        elif n > 1:
            free[:n_classes] = 0
            counts[n + _COLUMN_OF_0GRAM] = _top_chars(n, classes, word_ends, active, n_active, tally, free)


@numba.njit(nogil=True, cache=True)
def _top_chars(
    n: int,
    classes: _Integers,
    word_ends: _Integers,
    active: _Integers,
    n_active: int,
    tally: _Integers,
    free: _Integers,
) -> int:
    """Characters inside the n-gram that occurs most often without overlap, one space between its words."""
    for index in range(n_active):
        place = active[index]
        found = classes[place]
        if place >= free[found]:  # the last occurrence that was taken has ended
            tally[found] += 1
            free[found] = place + n
    most, chars = 1, 0
    for index in range(n_active):
        place = active[index]
        if tally[classes[place]] > most:
            most = tally[classes[place]]
            chars = most * (word_ends[place + n] - word_ends[place] + n - 1)
    return chars


@numba.njit(nogil=True, cache=True)
def _duplicate_chars(
    n: int, classes: _Integers, word_ends: _Integers, active: _Integers, n_active: int, met: _Integers
) -> int:
    """Characters of the words of n-grams met before on the walk; an n-gram that occurs once stops no step."""
    chars = 0
    next_place = 0
    for index in range(n_active):
        place = active[index]
        if place < next_place:
            continue
        found = classes[place]
        if met[found]:
            chars += word_ends[place + n] - word_ends[place]
            next_place = place + n
        else:
            met[found] = 1
    return chars
