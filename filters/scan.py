"""Counts of words, lines and symbols of every document, in one pass over its bytes: what Gopher's quality
rules are made of (Rae et al. 2021, arXiv:2112.11446, section A1.1, "Quality Filtering").

    word        a maximal run of characters that are not white space, exactly ``text.split()``
    line        what "\\n" separates and holds at least one word; blank lines are no lines, and a CR is white
                space, so "\\r\\n" ends a line as "\\n" does. U+2028, U+0085 and a lone CR separate words only
    paragraph   a maximal run of lines with no blank line between them
    character   a code point; a byte that is no UTF-8 counts as one (see ``codepoints.decode``)

The paper does not say what a word or a line is. The two published implementations differ from each other,
and this one from both:

    signal                 here                            datatrove                   Dolma
    words                  text.split()                    a tokenizer's, without      text.split()
                                                           those of punctuation
    mean_word_length       mean                            mean                        median
    hash_word_ratio        "#" / words                     the same                    words with "#" or "…"
    ellipsis_word_ratio    ("..." + "…") / words           the same                    (in the one above)
    bullet_line_ratio      first character of a line,      "•" or "-"                  "*" or "-" without
                           after white space, is "•",                                  white space before
                           "‣", "*" or "-"
    ellipsis_line_ratio    lines that end with "..."       the same                    "…" only
                           or "…", white space apart
    lines                  without blank ones              with blank ones             with blank ones
    stop_word_count        how many of the eight occur,    how many occur as tokens,   occurrences, case-
                           in any case, without the        case-sensitive              sensitive
                           punctuation around them

Kernels count in integers; ``filters.signals`` divides. Price: about 5 ns a byte of English, no memory beside
the output.
"""

from __future__ import annotations

import numba
import numpy as np
import numpy.typing as npt

from filters.codepoints import ALPHABETIC, NEWLINE, PUNCTUATION, SPACE, codepoint_flags, decode
from filters.column import Bytes, Offsets

# The columns of count_text's result, in this order.
COUNTS = (
    "char_count",
    "byte_count",
    "word_count",
    "line_count",
    "paragraph_count",
    "word_chars",  # characters inside words
    "hashes",  # "#"
    "ellipses",  # "…", and "..." as text.count("...") finds it, from the left and not overlapping
    "bullet_lines",
    "ellipsis_lines",
    "alphabetic_words",  # words with at least one alphabetic character (str.isalpha)
    "stop_words",  # how many of STOP_WORDS occur
)

STOP_WORDS = ("the", "be", "to", "of", "and", "that", "have", "with")
BULLETS = "•‣*-"

_ELLIPSIS = ord("…")
_BULLET_CODES = tuple(map(ord, BULLETS))
_FULL_STOP, _HASH = ord("."), ord("#")
# A stop word is at most four ASCII letters: as one integer, first letter in the highest byte.
_STOP_CODES = np.array([int.from_bytes(word.encode(), "big") for word in STOP_WORDS], np.int64)
_LONGEST_STOP_WORD = max(map(len, STOP_WORDS))


def count_text(offsets: Offsets, data: Bytes) -> npt.NDArray[np.int64]:
    """``COUNTS`` of every document, ``(rows, 12) int64``.

    Args:
        offsets: ``(rows + 1,) int64``; document r is ``data[offsets[r]:offsets[r + 1]]``.
        data: UTF-8 bytes of all documents; other bytes are counted as U+FFFD, one each.

    >>> text = "The cat...\\n\\n- and the #dog"
    >>> counts = count_text(np.array([0, len(text)]), np.frombuffer(text.encode(), np.uint8))
    >>> dict(zip(COUNTS, counts[0].tolist()))["line_count"], counts.shape
    (2, (1, 12))
    """
    counts = np.zeros((len(offsets) - 1, len(COUNTS)), np.int64)
    if len(counts):
        _count_text(read_only(offsets), read_only(data), codepoint_flags(), counts)
    return counts


def read_only(values: npt.NDArray) -> npt.NDArray:
    """A read-only view: Numba compiles once more for writable arrays, and Arrow's buffers are read-only."""
    view = values.view()
    view.setflags(write=False)
    return view


@numba.njit(nogil=True, cache=True)
def _count_text(
    offsets: Offsets, data: Bytes, flags: npt.NDArray[np.uint8], counts: npt.NDArray[np.int64]
) -> None:
    for row in range(len(offsets) - 1):
        position, end = offsets[row], offsets[row + 1]
        chars = words = lines = paragraphs = word_chars = hashes = ellipses = 0
        bullet_lines = ellipsis_lines = alphabetic_words = 0
        stop_words = np.int64(0)  # one bit for each of STOP_WORDS
        in_line = in_paragraph = False  # this line has had a word; the line before it had one
        ellipsis = False  # this line's latest word ends with one
        while position < end:
            code, following = np.int64(data[position]), position + 1
            if code >= 0x80:  # decode would answer for ASCII too, at a third of the speed
                code, following = decode(data, position, end)
            kind = flags[code]
            chars += 1
            if kind & SPACE:
                if kind & NEWLINE:
                    ellipsis_lines += ellipsis
                    ellipsis = False
                    in_paragraph = in_line
                    in_line = False
                position = following
                continue
            words += 1
            if not in_line:
                in_line = True
                lines += 1
                paragraphs += not in_paragraph
                bullet_lines += code in _BULLET_CODES
            word_start, chars_before = position, chars - 1
            kinds = kind
            position = following
            while position < end:
                code, following = np.int64(data[position]), position + 1
                if code >= 0x80:
                    code, following = decode(data, position, end)
                kind = flags[code]
                if kind & SPACE:
                    break
                kinds |= kind
                chars += 1
                position = following
            word_chars += chars - chars_before
            alphabetic_words += kinds & ALPHABETIC != 0
            core_start, core_end = word_start, position
            ellipsis = False
            if kinds & PUNCTUATION:
                core_start, core_end, n_hashes, n_ellipses, ellipsis = _punctuation(
                    data, word_start, position, flags
                )
                hashes += n_hashes
                ellipses += n_ellipses
            if 2 <= core_end - core_start <= _LONGEST_STOP_WORD:
                stop_words |= _stop_word(data, core_start, core_end)
        ellipsis_lines += ellipsis
        distinct = np.int64(0)
        while stop_words:
            distinct += stop_words & 1
            stop_words >>= 1
        counts[row, 0] = chars
        counts[row, 1] = end - offsets[row]
        counts[row, 2] = words
        counts[row, 3] = lines
        counts[row, 4] = paragraphs
        counts[row, 5] = word_chars
        counts[row, 6] = hashes
        counts[row, 7] = ellipses
        counts[row, 8] = bullet_lines
        counts[row, 9] = ellipsis_lines
        counts[row, 10] = alphabetic_words
        counts[row, 11] = distinct


@numba.njit(nogil=True, cache=True)
def _punctuation(
    data: Bytes, start: int, end: int, flags: npt.NDArray[np.uint8]
) -> tuple[int, int, int, int, bool]:
    """Of the word ``data[start:end]``: the part inside the punctuation around it (its start and its end), how
    many hashes and ellipses, and whether an ellipsis ends it."""
    core_start, core_end = end, start
    hashes = ellipses = 0
    dots = 0  # full stops up to here without a gap
    code = np.int64(0)
    position = start
    while position < end:
        code, following = np.int64(data[position]), position + 1
        if code >= 0x80:
            code, following = decode(data, position, end)
        if flags[code] & PUNCTUATION == 0:
            core_start = min(core_start, position)
            core_end = following
        dots = dots + 1 if code == _FULL_STOP else 0
        ellipses += code == _ELLIPSIS or (dots > 0 and dots % 3 == 0)
        hashes += code == _HASH
        position = following
    return core_start, core_end, hashes, ellipses, code == _ELLIPSIS or dots >= 3


@numba.njit(nogil=True, cache=True)
def _stop_word(data: Bytes, start: int, end: int) -> np.int64:
    """One bit for the stop word that ``data[start:end]`` is, in any case; 0 for none."""
    code = np.int64(0)
    for position in range(start, end):
        code = code << 8 | (np.int64(data[position]) | 0x20)  # only letters become a..z by setting this bit
    bits = np.int64(0)
    for index in range(len(_STOP_CODES)):  # no early return: eight comparisons at once are faster
        bits |= np.int64(code == _STOP_CODES[index]) << index
    return bits
