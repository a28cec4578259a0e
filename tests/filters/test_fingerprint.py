"""Fingerprints against plain Python: unicodedata, str.split and unbounded integers."""

from __future__ import annotations

import doctest
import hashlib
import itertools
import json
import os
import platform
import subprocess
import sys
import unicodedata
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from filters import fingerprint
from filters.fingerprint import fingerprints, normal_form

ROOT = Path(__file__).parents[2]
MAX64 = 2**64 - 1
A, B, C, D = 0xC2B2AE3D27D4EB4F, 0x9E3779B185EBCA87, 0x165667B19E3779F9, 0x85EBCA77C2B2AE63
LATER = {chr(code) for first, last in fingerprint._LATER for code in range(first, last + 1)}
SPACES = [chr(code) for code in range(0x110000) if chr(code).isspace()]


def normalised(text: str) -> str:
    return " ".join(unicodedata.normalize("NFC", text).split())


def rotated(value: int, bits: int) -> int:
    return (value << bits | value >> (64 - bits)) & MAX64


def mixed(h: int) -> int:
    h = (h ^ h >> 33) * 0xFF51AFD7ED558CCD & MAX64
    h = (h ^ h >> 33) * 0xC4CEB9FE1A85EC53 & MAX64
    return h ^ h >> 33


def hash_of(data: bytes) -> list[int]:
    """The definition in the module's docstring, in unbounded integers."""
    begin = [k * B & MAX64 for k in range(1, 17)]
    begin = [(value ^ value >> 29) * A & MAX64 for value in begin]
    a, b = begin[:8], begin[8:]
    padded = data + bytes(-len(data) % 64)
    for number, at in enumerate(range(0, len(padded), 8)):
        x, k = int.from_bytes(padded[at : at + 8], "little"), number % 8
        a[k] = rotated((a[k] + x * A) & MAX64, 31) * B & MAX64
        b[k] = rotated((b[k] + x * C) & MAX64, 29) * D & MAX64
    h, g = len(data) * A & MAX64, len(data) * C & MAX64
    for k in range(8):
        h = (h ^ a[k]) * B & MAX64
        h ^= h >> 32
        g = (g ^ b[k]) * D & MAX64
        g ^= g >> 29
    h = h + g & MAX64
    g = g + h & MAX64
    h, g = mixed(h), mixed(g)
    h = h + g & MAX64
    return [h, g + h & MAX64]


def expected(texts: list[str]) -> list[list[int]]:
    return [hash_of(normalised(text).encode()) for text in texts]


def column_of(rows: list[bytes]) -> pa.LargeStringArray:
    """A column of bytes that need not be UTF-8, in a buffer of exactly their length."""
    offsets = np.cumsum([0, *map(len, rows)]).astype(np.int64)
    return pa.LargeStringArray.from_buffers(len(rows), pa.py_buffer(offsets), pa.py_buffer(b"".join(rows)))


# -- the definition -----------------------------------------------------------------------------------------


def test_the_examples_in_the_docstrings_are_true() -> None:
    assert doctest.testmod(fingerprint).failed == 0


# White space of every width, marks of several classes, letters with and without parts, Hangul in pieces.
LETTERS = "a.é\u00c5中かแ가\u1100\U00010400\U00020000\U0002f800\u212b\u0958ßς\u0344\u1f82\U0001d160\u09c7"
MARKS = "\u0301\u0300\u0327\u0323\u0345\u05b0\u05b4\u3099\u093c\u0e48\u0338\u1161\u11a8\u0f72\U0001d165\u09be\u0315"
TEXTS = st.one_of(
    st.text(st.sampled_from(LETTERS + MARKS + "".join(SPACES) + "\u200b\x00"), max_size=150),
    st.text(st.sampled_from("ab \n\u3000\u00a0"), max_size=300),
    st.text(st.sampled_from("a" * 20 + " \u2009\u0301"), max_size=300),
    st.text(st.characters(codec="utf-8", exclude_characters="".join(LATER)), max_size=100),
)


@settings(max_examples=300, deadline=None)
@given(st.lists(TEXTS, max_size=5))
@example(["\u0301", "\x00\u0301\x00", " \u0301", "\u0301 \u0300\u0327", "e\u0301" * 3000, "\u00e9\u0327"])
@example(["a" * 63 + "\u3000", "a" * 62 + "\u3000b", "a" * 63 + "\u3000" * 40 + "b", "\u3000" * 100])
def test_the_value_is_the_hash_of_the_text_in_nfc_with_single_blanks(texts: list[str]) -> None:
    assert fingerprints(pa.array(texts, pa.string())).tolist() == expected(texts)


def test_texts_around_every_block_border_are_cut_right() -> None:
    """Gaps of every length at every place of a block; lengths around 64 bytes and around the buffer's 4,096."""
    texts = [
        "x" * place + gap + "y" * rest
        for place in (*range(70), *range(120, 132), 4090, 4095, 4096, 4097, 4159, 4160, 4161, 8192)
        for gap in ("", " ", "  ", " \n\t ", "\u00a0", "\u2028\u3000", " " * 70)
        for rest in (0, 1, 40, 64)
    ]
    assert fingerprints(pa.array(texts)).tolist() == expected(texts)


def test_white_space_is_what_split_splits_at_for_every_code_point() -> None:
    texts = [f"a{chr(code)}b" for code in range(0x110000) if not 0xD800 <= code <= 0xDFFF]
    found = fingerprints(pa.array(texts))
    blank = fingerprints(pa.array(["a b"]))[0]
    assert {text[1] for text, is_blank in zip(texts, (found == blank).all(axis=1), strict=True) if is_blank} == set(SPACES)  # fmt: skip


@pytest.mark.parametrize("pattern", ["{}", "e{}", "{}\u0301", "e\u0345{}\u0327", "\u1100{}", "{}\u11a8"])
def test_every_code_point_is_composed_as_python_composes_it(pattern: str) -> None:
    """Against the fingerprints of what Python composed: one that is in NFC is not composed again."""
    codes = range(0x110000) if pattern == "{}" else [*range(0x30000), 0xE0100, 0x10FFFD]
    texts = [
        pattern.format(chr(code)) for code in codes if not 0xD800 <= code <= 0xDFFF and chr(code) not in LATER
    ]
    composed = [unicodedata.normalize("NFC", text) for text in texts]
    assert np.array_equal(fingerprints(pa.array(texts)), fingerprints(pa.array(composed)))
    assert max(len(new.encode()) / len(old.encode()) for old, new in zip(texts, composed, strict=True)) <= 3


def test_every_pair_of_a_letter_and_a_mark_that_join_is_joined() -> None:
    whole = [chr(code) for code in range(0x110000) if not 0xD800 <= code <= 0xDFFF]
    apart = [unicodedata.normalize("NFD", character) for character in whole]
    both = [(old, new) for old, new in zip(apart, whole, strict=True) if old != new]
    assert len(both) > 13000  # 11,172 of them Hangul syllables
    assert fingerprints(pa.array([old for old, _ in both])).tolist() == expected([new for _, new in both])


def test_a_letter_may_have_very_many_marks() -> None:
    marks = "".join(chr(code) for code in range(0x300, 0x370))
    texts = ["e" + marks * 500, "e" + "\u0301\u0327" * 20000, "\u0323\u0301" * 5000]
    assert fingerprints(pa.array(texts)).tolist() == expected(texts)


@settings(max_examples=300, deadline=None)
@given(TEXTS, TEXTS)
@example("a b", "a  b")
@example("e\u0301", "é")
@example("", "\u2028")
def test_two_texts_are_equal_exactly_where_their_normalised_forms_are(left: str, right: str) -> None:
    first, second = fingerprints(pa.array([left, right]))
    assert bool((first == second).all()) == (normalised(left) == normalised(right))


def test_the_marks_of_unicode_15_stay_where_they_are_put_under_every_python() -> None:
    new, above = "\U00010efd", "\u0301"  # classes 220 and 230
    texts = [f"e{above}{new}", f"e{new}{above}", f"a\u0327{new}e{above} ", f"{new}  {new}"]
    stays = [f"é{new}", f"e{new}{above}", f"a\u0327{new}é", f"{new} {new}"]
    assert fingerprints(pa.array(texts)).tolist() == [hash_of(text.encode()) for text in stays]
    assert len(LATER) == 10


def test_the_tables_are_the_same_under_every_python() -> None:
    """Recorded under Python 3.11 (Unicode 14) and equal under 3.12 (Unicode 15)."""
    digest = hashlib.sha256(b"".join(table.tobytes() for table in normal_form())).hexdigest()
    assert digest == "485ee6c0597dd6b605c43042f1d5cbd590c167d739157535e61c50cc6f7793ea"


# -- the same value everywhere ------------------------------------------------------------------------------

GOLDEN_TEXTS = [
    "",
    "a",
    "The  cafe\u0301\n",
    "x" * 64,
    "x" * 65,
    "one two\tthree " * 700,
    "\u0645\u0631\u062d\u0628\u0627 \u4e2d\u6587\u3000\u304b\u3099 \uac00\u11a8 \u0915\u093c",
    "\U0001d160 \U0001f600",
]
GOLDEN = [
    [0xCCB345B3A2CE8C3A, 0x613704A81B5ED0F3],
    [0x6D886033BBF4DFD9, 0xEDC181BFCC510094],
    [0xF67CB4F553D4E694, 0xD3340DEF68E29FFF],
    [0x61E323B290944471, 0x10BC062FD5549BFF],
    [0xCA35DD165E0E1EB8, 0xFB1A35C662206FF5],
    [0xF275F483942E0190, 0x3692080180C3C5A2],
    [0x042ED78972523BCA, 0xD9409C0C37F88346],
    [0x61F4BE680E6FF910, 0x58774E10B56480E9],
]
_PRINT = (
    "import json, sys, pyarrow as pa; from filters.fingerprint import fingerprints\n"
    "print(json.dumps(fingerprints(pa.array(json.load(sys.stdin))).tolist()))"
)


def test_values_are_those_that_were_recorded() -> None:
    """Stored indexes hold them: a change needs another name in ALGORITHM."""
    assert fingerprint.ALGORITHM == "text-1"
    assert fingerprints(pa.array(GOLDEN_TEXTS)).tolist() == GOLDEN == expected(GOLDEN_TEXTS)


@pytest.mark.skipif(platform.machine() != "x86_64", reason="names processors of the x86-64 family")
@pytest.mark.parametrize(
    "processor",
    [{"NUMBA_CPU_NAME": "haswell"}, {"NUMBA_CPU_NAME": "x86-64", "NUMBA_CPU_FEATURES": ""}],
    ids=["AVX2", "SSE2"],
)
def test_older_processors_compute_the_same_values(processor: dict[str, str], tmp_path: Path) -> None:
    environment = {**os.environ, **processor, "NUMBA_CACHE_DIR": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-c", _PRINT], input=json.dumps(GOLDEN_TEXTS), env=environment, cwd=ROOT,
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert json.loads(done.stdout) == GOLDEN


# -- columns ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [pa.string(), pa.large_string(), pa.string_view()])
def test_any_string_column_sliced_or_in_chunks_gives_the_same(kind: pa.DataType) -> None:
    texts = ["a  b", None, "e\u0301\u3000", "", "x" * 200, " lead", "\u0958"]
    wanted = expected([text or "" for text in texts])
    column = pa.array(["before\u0301", *texts, "after"], kind).slice(1, len(texts))
    assert fingerprints(column).tolist() == wanted
    chunks = pa.chunked_array([pa.array(texts[:3], kind), pa.array([], kind), pa.array(texts[3:], kind)])
    assert fingerprints(chunks).tolist() == wanted


def test_no_texts_have_no_fingerprints() -> None:
    for column in (pa.array([], pa.string()), pa.chunked_array([], pa.large_string())):
        assert fingerprints(column).shape == (0, 2)


def test_texts_that_must_be_composed_in_several_batches_keep_their_rows() -> None:
    texts = [f"{number} " + "e\u0301" * number for number in range(0, 1000, 7)] * 2
    assert fingerprints(pa.array(texts)).tolist() == expected(texts)


@settings(max_examples=300, deadline=None)
@given(st.lists(st.one_of(st.binary(max_size=150), st.text(st.sampled_from(LETTERS + MARKS), max_size=9).map(lambda t: t.encode()[:-1])), max_size=4))  # fmt: skip
@example([b"\xe2\x80", b"\x83", b"a\xcc", b"\x81b", b"\xe0\x82\xa0\xf0\x82\x82\xa0", b"\xed\xa0\x80\xcc\x81"])
def test_bytes_that_are_no_utf8_are_taken_as_they_are(rows: list[bytes]) -> None:
    def value(row: bytes) -> list[int]:
        text = row.decode("utf-8", "surrogateescape")
        assert not LATER & set(text)
        return hash_of(normalised(text).encode("utf-8", "surrogateescape"))

    assert fingerprints(column_of(rows)).tolist() == [value(row) for row in rows]


def test_no_byte_after_the_column_is_read(tmp_path: Path) -> None:
    """The column ends where memory ends: the next page may not be read, and one byte too far would kill the process."""
    script = tmp_path / "at_the_end.py"
    script.write_text(_AT_THE_END)
    done = subprocess.run([sys.executable, str(script)], cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True, text=True)  # fmt: skip
    assert (done.returncode, done.stdout) == (0, "equal\n"), done.stderr


_AT_THE_END = """
import ctypes, mmap
import numpy as np, pyarrow as pa
from filters.fingerprint import fingerprints

pages = mmap.mmap(-1, 2 * mmap.PAGESIZE)
begin = ctypes.addressof(ctypes.c_char.from_buffer(pages))
libc = ctypes.CDLL(None, use_errno=True)
assert libc.mprotect(ctypes.c_void_p(begin + mmap.PAGESIZE), mmap.PAGESIZE, 0) == 0
for ending in (b"a", b" ", b"\\xc3\\xa9", b"e\\xcc\\x81", b"\\xe2\\x80", b"\\xf0", b"\\xe3\\x80\\x80"):
    for length in (1, 2, 63, 64, 65, 127, 128, 129, 300):
        row = (b"y z " * 100 + ending)[-length:]
        pages[mmap.PAGESIZE - len(row) : mmap.PAGESIZE] = row
        buffer = pa.foreign_buffer(begin + mmap.PAGESIZE - len(row), len(row), pages)
        offsets = pa.py_buffer(np.array([0, len(row) // 2, len(row)], np.int64))
        halves = [row[: len(row) // 2], row[len(row) // 2 :]]
        alone = [fingerprints(pa.LargeStringArray.from_buffers(1, pa.py_buffer(np.array([0, len(half)], np.int64)), pa.py_buffer(half + b"@" * 200))) for half in halves]
        found = fingerprints(pa.LargeStringArray.from_buffers(2, offsets, buffer))
        assert np.array_equal(found, np.concatenate(alone)), row
print("equal")
"""


# -- collisions ---------------------------------------------------------------------------------------------


def test_real_texts_have_equal_fingerprints_only_if_they_are_equal(sample_texts: list[str]) -> None:
    texts = sample_texts
    assert len(texts) > 5000
    by_value: dict[tuple[int, ...], set[str]] = {}
    for text, value in zip(texts, fingerprints(pa.array(texts)).tolist(), strict=True):
        by_value.setdefault(tuple(value), set()).add(normalised(text))
    assert all(len(forms) == 1 for forms in by_value.values())
    assert len(by_value) == len({normalised(text) for text in texts})


def test_edits_of_one_byte_change_both_halves_of_the_value() -> None:
    """Each half alone is a 64-bit hash: among a hundred thousand texts it should not repeat either."""
    letters = b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.,-;"
    edited = []
    for text in (b"x" * 64, b"the quick brown fox jumps over the lazy dog. " * 4, bytes(letters * 8)):
        text = text.strip()
        edited += {
            text[:place] + bytes([letter]) + text[place + 1 :]
            for place in range(len(text))
            for letter in letters
        }
        edited += [text[:place] + text[place + 1 :] for place in range(1, len(text), 9)]  # another length
    values = fingerprints(column_of(edited))
    distinct = len({b" ".join(text.split()) for text in edited})
    assert distinct > 40000
    assert [len(np.unique(values[:, half])) for half in (0, 1)] == [distinct, distinct]


def test_every_bit_of_the_text_changes_half_of_the_bits_of_the_value() -> None:
    rng = np.random.default_rng([7, 1])
    for size in (8, 64, 200):
        text = rng.integers(33, 127, size).astype(np.uint8)
        flipped = np.repeat(text[None], size * 7, axis=0)
        for row, (place, bit) in enumerate(itertools.product(range(size), range(7))):
            flipped[row, place] ^= 1 << bit
        flipped = flipped[((flipped > 32) & (flipped < 127)).all(axis=1)]  # still a text without white space
        values = fingerprints(column_of([text.tobytes(), *map(bytes, flipped)]))
        changed = np.unpackbits((values[1:] ^ values[:1]).view(np.uint8), axis=1)
        assert abs(changed.mean() - 0.5) < 0.02
        assert changed.sum(axis=1).min() > 32
