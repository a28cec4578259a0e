"""Repetition counts against plain Python, written from the definitions with strings, sets and counters."""

from __future__ import annotations

import itertools
import json
import os
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from filters import repetition
from filters.column import string_buffers
from filters.errors import DataError
from filters.repetition import REPETITION_COUNTS, count_repetition

SHARED = Path(os.environ.get("CURATE_SHARED", Path(__file__).parents[3] / "shared"))


def repeated(items: Sequence[str]) -> list[str]:
    first = {item: place for place, item in reversed(list(enumerate(items)))}
    return [item for place, item in enumerate(items) if first[item] < place]


def top_chars(words: Sequence[str], n: int) -> int:
    counts: Counter[tuple[str, ...]] = Counter()
    taken_up_to: dict[tuple[str, ...], int] = {}
    for place, ngram in enumerate(zip(*(words[start:] for start in range(n)), strict=False)):
        if place >= taken_up_to.get(ngram, 0):
            counts[ngram] += 1
            taken_up_to[ngram] = place + n
    top, count = max(counts.items(), key=lambda item: item[1], default=((), 0))  # the first of equals
    return len(" ".join(top)) * count if count > 1 else 0


def duplicate_chars(words: Sequence[str], n: int) -> int:
    met: set[tuple[str, ...]] = set()
    chars, place = 0, 0
    while place + n <= len(words):
        ngram = tuple(words[place : place + n])
        if ngram in met:
            chars += len("".join(ngram))
            place += n
        else:
            met.add(ngram)
            place += 1
    return chars


def slow_repetition(text: str) -> dict[str, int]:
    words = text.split()
    runs = itertools.groupby((line.strip() for line in text.split("\n")), key=bool)
    paragraphs = ["\n".join(run) for has_text, run in runs if has_text]
    lines = [line for paragraph in paragraphs for line in paragraph.split("\n")]
    return {
        "char_count": len(text),
        "line_count": len(lines),
        "paragraph_count": len(paragraphs),
        "duplicate_lines": len(repeated(lines)),
        "duplicate_paragraphs": len(repeated(paragraphs)),
        "duplicate_line_chars": sum(map(len, repeated(lines))),
        "duplicate_paragraph_chars": sum(map(len, repeated(paragraphs))),
        **{f"top_{n}gram_chars": top_chars(words, n) for n in (2, 3, 4)},
        **{f"duplicate_{n}gram_chars": duplicate_chars(words, n) for n in (5, 6, 7, 8, 9, 10)},
    }


def counts_of(texts: list[str]) -> list[dict[str, int]]:
    counts = count_repetition(*string_buffers(pa.array(texts, pa.string())))
    return [dict(zip(REPETITION_COUNTS, row, strict=True)) for row in counts.tolist()]


# Few words and much white space: random texts repeat themselves at every n.
WORDS = st.sampled_from(["a", "a", "a", "b", "ab", "ha", "é", "日本", "𐍈", "c."])
GAPS = st.sampled_from(
    [" ", " ", " ", "  ", "\t", "\n", "\n", "\n\n", "\r\n", "\n \n", "\u00a0", "\u2028", "\u3000"]
)
REPETITIVE = st.lists(st.tuples(WORDS, GAPS), max_size=120).map(lambda pairs: "".join(map("".join, pairs)))
BLOCKS = st.lists(
    st.sampled_from(["one two three four five six ", "a b c d e f g h i j k\n", "x\n", "x y\n\n"])
)
TEXTS = st.one_of(REPETITIVE, BLOCKS.map("".join), st.text(max_size=80))


@settings(deadline=None)  # the first example compiles the kernel
@given(st.lists(TEXTS, max_size=4))
def test_counts_equal_plain_python_on_any_texts(texts):
    assert counts_of(texts) == [slow_repetition(text) for text in texts]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", dict.fromkeys(REPETITION_COUNTS, 0)),
        (" \n\n \r\n", {"char_count": 6, "line_count": 0, "paragraph_count": 0, "duplicate_lines": 0}),
        ("one", {"line_count": 1, "top_2gram_chars": 0, "duplicate_lines": 0}),
        ("a b\nc\n a b\r\na b \n", {"line_count": 4, "duplicate_lines": 2, "duplicate_line_chars": 6}),
        ("a  b\na b", {"duplicate_lines": 0}),
        (
            "p\nq\n\nr\n\n p\r\n\tq\r\n",
            {"paragraph_count": 3, "duplicate_paragraphs": 1, "duplicate_paragraph_chars": 3},
        ),
        ("p\nq\n\np q", {"duplicate_paragraphs": 0}),
        ("de ab. x de ab. y de ab.", {"top_2gram_chars": 18, "top_3gram_chars": 0}),
        ("ha ha ha", {"top_2gram_chars": 0}),  # "ha ha" is there once without overlap
        ("ha ha ha ha ha", {"top_2gram_chars": 10}),
        ("a bb a bb z c d c d", {"top_2gram_chars": 8}),  # two pairs as often: the first counts
        ("ab c d a bc d", {"top_2gram_chars": 0}),
        (
            "a b c d ee a b c d ee",
            {"duplicate_5gram_chars": 6, "duplicate_6gram_chars": 0, "top_4gram_chars": 14},
        ),
        ("a a a a a a a a a a a a", {"duplicate_5gram_chars": 10, "duplicate_10gram_chars": 10}),
        ("日 本 語 で す 日 本 語 で す", {"duplicate_5gram_chars": 5, "char_count": 19}),
    ],
)
def test_counts_of_texts_that_one_can_count_by_eye(text, expected):
    (counts,) = counts_of([text])
    assert {name: counts[name] for name in expected} == expected


def test_blank_lines_are_no_duplicates_of_each_other():
    spaced = "\n\n\n".join(f"line number {number}" for number in range(20)) + "\n \n\t\n\r\n"
    (counts,) = counts_of([spaced])
    assert (counts["line_count"], counts["duplicate_lines"], counts["duplicate_line_chars"]) == (20, 0, 0)
    assert (counts["paragraph_count"], counts["duplicate_paragraphs"]) == (20, 0)


def test_windows_line_ends_change_nothing_but_the_number_of_characters():
    unix = "one two\nthree\n\none two\nthree\n\none two\n"
    of_unix, of_windows = counts_of([unix, unix.replace("\n", "\r\n")])
    assert of_windows.pop("char_count") == of_unix.pop("char_count") + 7
    assert of_windows == of_unix
    assert of_unix["duplicate_paragraphs"] == 1


def test_a_document_counts_alike_alone_and_after_larger_ones():
    texts = ["a b a b " * 500, "x", "", "a b a b a b", "line\n" * 3000, "a b a b a b"]
    assert counts_of(texts) == [counts_of([text])[0] for text in texts]
    assert counts_of(texts) == [slow_repetition(text) for text in texts]


def test_a_long_document_of_one_word_takes_linear_time():
    (counts,) = counts_of(["spam " * 200_000])
    assert counts["duplicate_10gram_chars"] == (200_000 - 1) // 10 * 40
    assert counts["top_2gram_chars"] == 100_000 * 9


def test_no_documents_give_no_rows():
    assert count_repetition(*string_buffers(pa.array([], pa.string()))).shape == (0, len(REPETITION_COUNTS))


@settings(deadline=None)
@given(st.binary(max_size=40), st.binary(max_size=4), st.binary(max_size=4))
def test_a_document_of_any_bytes_is_counted_alike_whatever_stands_around_it(document, before, after):
    alone = count_repetition(np.array([0, len(document)]), np.frombuffer(document + b"\0", np.uint8))
    start, end = len(before), len(before) + len(document)
    around = count_repetition(
        np.array([start, end]), np.frombuffer(before + document + after + b"\0", np.uint8)
    )
    assert around.tolist() == alone.tolist()


def test_a_document_above_the_limit_is_refused_by_row_with_a_remedy(monkeypatch):
    monkeypatch.setattr(repetition, "_LARGEST_TEXT", 10)  # two real gibibytes would not fit into a test
    with pytest.raises(
        DataError, match=r"row 1 of the batch: 11 bytes; a document may have at most 10\. Split it"
    ):
        counts_of(["x" * 10, "x" * 11])


def real_documents() -> list[str]:
    corpus = SHARED / "data" / "corpus"
    if not corpus.is_dir():
        pytest.skip(f"no shared documents in {corpus}")
    texts = pq.read_table(corpus / "short-00.parquet", columns=["text"])["text"][::10].to_pylist()
    texts += pq.read_table(corpus / "prose-01.parquet", columns=["text"])["text"][::8].to_pylist()
    for name in ("web-wet-00", "tables-00", "manpages-01"):
        with zstandard.open(corpus / f"{name}.jsonl.zst", "rt", encoding="utf-8", newline="\n") as lines:
            texts += [json.loads(line)["text"] for line in itertools.islice(lines, 0, None, 12)]
    return [text for text in texts if len(text) < 50_000]  # plain Python takes a second a megabyte


@pytest.mark.shared
def test_counts_equal_plain_python_on_real_documents():
    texts = real_documents()
    assert len(texts) > 2000
    found = counts_of(texts)
    assert found == [slow_repetition(text) for text in texts]
    repeating = sum(counts["duplicate_10gram_chars"] > 0 for counts in found)
    assert 100 < repeating < len(texts)
