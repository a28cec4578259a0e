"""Counts of words, lines and symbols against plain Python, written from the definitions."""

from __future__ import annotations

import gzip
import itertools
import json
import os
import string
import unicodedata
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from filters.column import string_buffers
from filters.scan import COUNTS, count_text

SHARED = Path(os.environ.get("CURATE_SHARED", Path(__file__).parents[3] / "shared"))

EIGHT = {"the", "be", "to", "of", "and", "that", "have", "with"}


def is_punctuation(character: str) -> bool:
    return character in string.punctuation or unicodedata.category(character).startswith("P")


def core(word: str) -> str:
    while word and is_punctuation(word[0]):
        word = word[1:]
    while word and is_punctuation(word[-1]):
        word = word[:-1]
    return word


def slow_counts(text: str) -> dict[str, int]:
    words = text.split()
    lines = [line.strip() for line in text.split("\n") if line.strip()]
    blank_runs = itertools.groupby(text.split("\n"), key=lambda line: line.strip() == "")
    return {
        "char_count": len(text),
        "byte_count": len(text.encode()),
        "word_count": len(words),
        "line_count": len(lines),
        "paragraph_count": sum(not is_blank for is_blank, _ in blank_runs),
        "word_chars": sum(map(len, words)),
        "hashes": text.count("#"),
        "ellipses": text.count("...") + text.count("…"),
        "bullet_lines": sum(line.startswith(("•", "‣", "*", "-")) for line in lines),
        "ellipsis_lines": sum(line.endswith(("...", "…")) for line in lines),
        "alphabetic_words": sum(any(map(str.isalpha, word)) for word in words),
        "stop_words": len(EIGHT & {core(word).lower() for word in words}),
    }


def counts_of(texts: list[str]) -> list[dict[str, int]]:
    counts = count_text(*string_buffers(pa.array(texts, pa.string())))
    return [dict(zip(COUNTS, row, strict=True)) for row in counts.tolist()]


# Pieces that decide something, so that random texts are full of decisions.
PIECES = st.sampled_from(
    [
        *["the", "The", "BE", "to", "of,", "(and)", "“that”", "have", "with", "bee", "t", "o", "İ", "ſ"],
        *["K", "#", "##a", "...", "....", "......", "…", "..", ".", "-", "*", "•", "‣", "–", "a.b", "1", "²"],
        *["é", "ß", "中文", "日本語。", "𐍈", "😀", "👩‍👩‍👧", "\ufffd", "\u0301"],
        *[
            " ",
            "\t",
            "\n",
            "\n\n",
            "\r\n",
            "\r",
            "\v",
            "\f",
            "\x1c",
            "\x85",
            "\u00a0",
            "\u2028",
            "\u2029",
            "\u3000",
        ],
        *["\u200b", "\ufeff", "\x00", "\x05"],
    ]
)
TEXTS = st.one_of(st.lists(PIECES, max_size=40).map("".join), st.text(max_size=60))


@settings(deadline=None)  # the first example compiles the kernel
@given(st.lists(TEXTS, max_size=5))
def test_counts_equal_plain_python_on_any_texts(texts):
    assert counts_of(texts) == [slow_counts(text) for text in texts]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", dict.fromkeys(COUNTS, 0)),
        (" \n\t\r\n ", {"char_count": 6, "word_count": 0, "line_count": 0, "paragraph_count": 0}),
        ("one two\nthree", {"word_count": 3, "word_chars": 11, "line_count": 2, "paragraph_count": 1}),
        ("one\r\ntwo\r\n\r\nthree\r\n", {"word_count": 3, "line_count": 3, "paragraph_count": 2}),
        ("one\n \t\ntwo", {"line_count": 2, "paragraph_count": 2}),
        ("one\u2028two\x85three\rfour", {"word_count": 4, "line_count": 1}),
        ("a\u00a0b\u3000c", {"word_count": 3, "char_count": 5, "byte_count": 8}),
        ("𐍈𐍈 😀", {"word_count": 2, "word_chars": 3, "alphabetic_words": 1, "byte_count": 13}),
        ("## #a b#c d", {"hashes": 4}),
        (".. ... .... ...... … …...", {"ellipses": 7}),
        ("go on...\nyes …\nno... \n.. .\nend.", {"ellipses": 3, "ellipsis_lines": 3, "line_count": 5}),
        ("• a\n  ‣ b\n\t* c\n-d\n– e\n\n+ f", {"bullet_lines": 4, "line_count": 6}),
        ("4 x4 ** é 中 ²", {"alphabetic_words": 3}),
        ("The THE the! “Be” (to) of... and, 'that' have—with", {"stop_words": 6}),
        ("bethe t-o without withe th", {"stop_words": 0}),
    ],
)
def test_counts_of_texts_that_one_can_count_by_eye(text, expected):
    (counts,) = counts_of([text])
    assert {name: counts[name] for name in expected} == expected


def test_no_documents_give_no_rows():
    assert count_text(*string_buffers(pa.array([], pa.string()))).shape == (0, len(COUNTS))


@settings(deadline=None)
@given(st.binary(max_size=30), st.binary(max_size=4), st.binary(max_size=4))
def test_a_document_of_any_bytes_is_counted_alike_whatever_stands_around_it(document, before, after):
    alone = count_text(np.array([0, len(document)]), np.frombuffer(document + b"\0", np.uint8))
    start, end = len(before), len(before) + len(document)
    around = count_text(np.array([start, end]), np.frombuffer(before + document + after + b"\0", np.uint8))
    assert around.tolist() == alone.tolist()


def test_broken_utf8_counts_one_character_for_each_byte_that_begins_none():
    document = (
        b"a \xe2\x82 \xf0\x9f\x98\x80 \xc3"  # a euro sign cut short, an emoji, an accented letter cut short
    )
    counts = count_text(np.array([0, len(document)]), np.frombuffer(document, np.uint8))
    found = dict(zip(COUNTS, counts[0].tolist(), strict=True))
    assert (found["char_count"], found["word_count"], found["byte_count"]) == (8, 4, 11)


def real_documents() -> list[str]:
    corpus = SHARED / "data" / "corpus"
    if not corpus.is_dir():
        pytest.skip(f"no shared documents in {corpus}")
    texts = pq.read_table(corpus / "short-00.parquet", columns=["text"])["text"][::16].to_pylist()
    for name in ("prose-00", "prose-01", "prose-02"):
        texts += pq.read_table(corpus / f"{name}.parquet", columns=["text"])["text"][::5].to_pylist()
    with gzip.open(SHARED / "data" / "quality" / "negative.jsonl.gz", "rt", encoding="utf-8") as lines:
        texts += [json.loads(line)["text"] for line in itertools.islice(lines, 0, None, 5)]
    return texts


@pytest.mark.shared
def test_counts_equal_plain_python_on_real_documents():
    texts = real_documents()
    assert len(texts) > 2000
    assert counts_of(texts) == [slow_counts(text) for text in texts]
    assert sum(not text.isascii() for text in texts) > 500
