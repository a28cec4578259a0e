"""What kind of character a code point is, as one byte of flags, and how to read code points from UTF-8.

Python decides word by word with ``str.split``, ``str.isalpha`` and so on. Kernels that read Arrow's bytes need
the same answers without making a ``str``, so the answers are tabulated once for each process:

    flags = codepoint_flags()            # (0x110000,) uint8, every code point there is: nothing lies beyond
    flags[ord("é")] & ALPHABETIC         # not 0, because "é".isalpha()

Price: 1.1 MB and about 0.1 s, once for each process, at the first call. The tables follow the Unicode version
of the running Python (``unicodedata.unidata_version``), as ``str`` does.

Trap for developers: Numba's file cache watches the file of the outermost kernel only. After a change to
``decode`` delete the ``__pycache__/*.nbi`` of the kernels that call it.
"""

from __future__ import annotations

import functools
import string
import unicodedata

import numba
import numpy as np
import numpy.typing as npt

SPACE = 1  # str.isspace: what str.split() splits at
NEWLINE = 2  # "\n" alone; CR, U+0085 and U+2028 end no line here
ALPHABETIC = 4  # str.isalpha
DECIMAL = 8  # str.isdecimal: "٣" but not "²"
DIGIT = 16  # str.isdigit: "²" too
UPPER = 32  # str.isupper
ALPHANUMERIC = 64  # str.isalnum
PUNCTUATION = 128  # Unicode category P*, and the 32 characters of string.punctuation ("$+<=>^`|~" are not P*)

REPLACEMENT = np.int64(0xFFFD)  # what decode returns for a byte that begins no character

_CODE_POINTS = 0x110000
_LAST_PLANE_WITH_PUNCTUATION = 0x20000  # category P* is in planes 0 and 1 only, tested over all code points


@functools.cache
def codepoint_flags() -> npt.NDArray[np.uint8]:
    """Flags of every code point, ``(0x110000,) uint8``, read-only and shared by all callers.

    >>> flags = codepoint_flags()
    >>> [bool(flags[ord(character)] & SPACE) for character in "a \\u00a0\\u3000\\u200b"]
    [False, True, True, True, False]
    """
    # NumPy's string predicates ask the same Unicode tables as str's; a Python loop would take a second.
    characters = np.arange(_CODE_POINTS, dtype=np.uint32).view("<U1")
    flags = np.zeros(_CODE_POINTS, np.uint8)
    flags |= np.strings.isspace(characters) * np.uint8(SPACE)
    flags |= np.strings.isalpha(characters) * np.uint8(ALPHABETIC)
    flags |= np.strings.isdecimal(characters) * np.uint8(DECIMAL)
    flags |= np.strings.isdigit(characters) * np.uint8(DIGIT)
    flags |= np.strings.isupper(characters) * np.uint8(UPPER)
    flags |= np.strings.isalnum(characters) * np.uint8(ALPHANUMERIC)
    flags[ord("\n")] |= NEWLINE
    category = unicodedata.category
    punctuation = [code for code in range(_LAST_PLANE_WITH_PUNCTUATION) if category(chr(code))[0] == "P"]
    punctuation += map(ord, string.punctuation)
    flags[punctuation] |= PUNCTUATION
    flags.setflags(write=False)
    return flags


@numba.njit(nogil=True, cache=True)
def decode(data: npt.NDArray[np.uint8], position: int, end: int) -> tuple[np.int64, int]:
    """The code point at ``position`` and where the next one starts; reads no byte at or after ``end``.

    A byte that begins no well-formed UTF-8 character before ``end`` (stray continuation, overlong form,
    surrogate, above U+10FFFF, cut short) is U+FFFD and one byte long, so every document is read to its end
    whatever it holds. ``position < end`` is the caller's duty.

    >>> data = np.frombuffer("a€".encode(), np.uint8)
    >>> decode(data, 1, 4), decode(data, 1, 3)
    ((8364, 4), (65533, 2))
    """
    first = np.int64(data[position])
    if first < 0x80:
        return first, position + 1
    if 0xC2 <= first <= 0xDF:
        if position + 1 < end:
            second = np.int64(data[position + 1])
            if second & 0xC0 == 0x80:
                return (first & 0x1F) << 6 | (second & 0x3F), position + 2
    elif 0xE0 <= first <= 0xEF:
        if position + 2 < end:
            second, third = np.int64(data[position + 1]), np.int64(data[position + 2])
            code = (first & 0x0F) << 12 | (second & 0x3F) << 6 | (third & 0x3F)
            if (
                second & 0xC0 == 0x80
                and third & 0xC0 == 0x80
                and code >= 0x800
                and not 0xD800 <= code <= 0xDFFF
            ):
                return code, position + 3
    elif 0xF0 <= first <= 0xF4 and position + 3 < end:
        second, third, fourth = (
            np.int64(data[position + 1]),
            np.int64(data[position + 2]),
            np.int64(data[position + 3]),
        )
        code = (first & 0x07) << 18 | (second & 0x3F) << 12 | (third & 0x3F) << 6 | (fourth & 0x3F)
        continued = second & 0xC0 == 0x80 and third & 0xC0 == 0x80 and fourth & 0xC0 == 0x80
        if continued and 0x10000 <= code <= 0x10FFFF:
            return code, position + 4
    return REPLACEMENT, position + 1
