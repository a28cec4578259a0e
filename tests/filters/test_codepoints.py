"""Tables and decoder against Python's own answers, for every code point there is."""

from __future__ import annotations

import string
import unicodedata

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from filters import codepoints
from filters.codepoints import codepoint_flags, decode

EVERY_CODE_POINT = [chr(code) for code in range(0x110000)]


@pytest.mark.parametrize(
    ("flag", "predicate"),
    [
        (codepoints.SPACE, str.isspace),
        (codepoints.ALPHABETIC, str.isalpha),
        (codepoints.DECIMAL, str.isdecimal),
        (codepoints.DIGIT, str.isdigit),
        (codepoints.UPPER, str.isupper),
        (codepoints.ALPHANUMERIC, str.isalnum),
        (codepoints.NEWLINE, lambda character: character == "\n"),
        (
            codepoints.PUNCTUATION,
            lambda character: unicodedata.category(character)[0] == "P" or character in string.punctuation,
        ),
    ],
    ids=["space", "alphabetic", "decimal", "digit", "upper", "alphanumeric", "newline", "punctuation"],
)
def test_a_flag_is_set_exactly_where_python_says_so(flag, predicate):
    expected = np.array([predicate(character) for character in EVERY_CODE_POINT])
    assert np.flatnonzero((codepoint_flags() & flag != 0) != expected).tolist() == []


def test_space_is_what_split_splits_at():
    is_separator = [len(f"a{character}b".split()) == 2 for character in EVERY_CODE_POINT]
    assert (
        np.flatnonzero(codepoint_flags() & codepoints.SPACE).tolist() == np.flatnonzero(is_separator).tolist()
    )


def test_flags_are_built_once_and_cannot_be_changed():
    assert codepoint_flags() is codepoint_flags()
    with pytest.raises(ValueError, match="read-only"):
        codepoint_flags()[0] = 1


def test_every_valid_code_point_is_decoded():
    codes = [code for code in range(0x110000) if not 0xD800 <= code <= 0xDFFF]
    data = np.frombuffer("".join(map(chr, codes)).encode(), np.uint8)
    found, position = [], 0
    while position < len(data):
        code, position = decode(data, position, len(data))
        found.append(code)
    assert position == len(data)
    assert found == codes


def first_character(data: bytes) -> tuple[int, int]:
    """What decode promises, by Python's strict decoder: a whole character, or U+FFFD for one byte."""
    for length in range(1, 5):
        try:
            return ord(data[:length].decode()), length
        except (UnicodeDecodeError, TypeError):
            continue
    return 0xFFFD, 1


# Bytes at the borders of the UTF-8 grammar, which uniform bytes seldom hit.
BORDERS = b"\x00a\x7f\x80\x8f\x90\x9f\xa0\xbf\xc0\xc1\xc2\xdf\xe0\xed\xee\xef\xf0\xf1\xf4\xf5\xff"


@settings(deadline=None)  # the first example may compile the decoder
@given(
    st.one_of(
        st.binary(min_size=1, max_size=8),
        st.lists(st.sampled_from(BORDERS), min_size=1, max_size=8).map(bytes),
    )
)
def test_any_bytes_are_decoded_as_python_would_or_replaced_one_at_a_time(data):
    array = np.frombuffer(data, np.uint8)
    position = 0
    while position < len(data):
        code, length = first_character(data[position:])
        assert decode(array, position, len(data)) == (code, position + length)
        position += length


@settings(deadline=None)
@given(st.lists(st.sampled_from(BORDERS), min_size=1, max_size=5).map(bytes), st.binary(max_size=4))
def test_bytes_after_the_end_of_a_document_are_never_read(document, following):
    alone = np.frombuffer(document, np.uint8)
    followed = np.frombuffer(document + following, np.uint8)
    for position in range(len(document)):
        # The plain Python function on an array that ends where the document ends: reading on is an IndexError.
        expected = decode.py_func(alone, position, len(document))
        assert decode(followed, position, len(document)) == expected
