"""Whole tables: against the rule written with Python's sets and every pair compared, and against real duplicates.

No test takes the code's word for a similarity: texts are split again by ``words.split`` and compared as sets.
"""

from __future__ import annotations

import dataclasses
import doctest
import functools
import itertools
import json
import os
import re
import unicodedata
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import numpy.typing as npt
import polars as pl
import polars.testing
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import sparse  # datasketch depends on it

from curate import deduplication, minhash, verify
from curate.deduplication import (
    Columns,
    Deduplicated,
    Search,
    Settled,
    dedup,
    exact_duplicates,
    find,
    mark_duplicates,
    prepare,
    rank,
)
from curate.schema import DECISIONS
from curate.sources import Source, find_files, read_records
from filters import fingerprint, words
from filters.errors import ConfigError, DataError

SHARED = Path(os.environ.get("CURATE_SHARED", Path(__file__).parents[3] / "shared"))
EVERY_PAIR = 1 - 1e-9
"""A recall at which no test of a few hundred documents misses a pair."""


# -- the rule by hand ---------------------------------------------------------------------------------------


def word_ngrams(text: str | None, ngram: int = 5) -> frozenset[tuple[str, ...]]:
    found = [word for word, _, _ in words.split(text or "")]
    return frozenset(tuple(found[k : k + ngram]) for k in range(max(1, len(found) - ngram + 1)) if found)


def normalised(text: str) -> str:
    return " ".join(unicodedata.normalize("NFC", text).split())


def jaccard(a: frozenset[Any], b: frozenset[Any]) -> float:
    return len(a & b) / len(a | b)


def by_hand(
    texts: Sequence[str | None],
    *,
    threshold: float,
    ngram: int,
    order: Sequence[int] | None = None,
    near_miss: float | None = None,
) -> list[tuple[int, int, str, float, str]]:
    """Every document against every leader before it: (row, partner, rule, similarity, action), by row."""
    sets = [word_ngrams(text, ngram) for text in texts]
    leaders: list[int] = []
    found = []
    for row in range(len(texts)) if order is None else order:
        text = texts[row]
        partner, best, rule = -1, 0.0, "minhash.jaccard"
        copies = [k for k in leaders if text is not None and texts[k] is not None]
        copies = [k for k in copies if normalised(texts[k]) == normalised(text or "")]  # type: ignore[arg-type]
        if copies:
            partner, best, rule = copies[0], 1.0, "exact.content_hash"
        elif sets[row]:
            for leader in leaders:
                similarity = jaccard(sets[row], sets[leader])
                if similarity >= (near_miss or threshold) and similarity > best:
                    partner, best = leader, similarity
        if partner >= 0:
            found.append((row, partner, rule, best, "drop" if best >= threshold else "near_miss"))
        if best < threshold:
            leaders.append(row)
    return sorted(found)


def rows_of(found: Deduplicated[Any]) -> list[tuple[int, int, str, float, str]]:
    """Decisions of a table without ids, in their order."""
    assert found.decisions.schema.equals(DECISIONS)
    columns = ["id", "partner_id", "rule", "similarity", "action"]
    listed = [tuple(row.values()) for row in found.decisions.select(columns).to_pylist()]
    return [(int(row), int(partner), *rest) for row, partner, *rest in listed]


def check(
    texts: Sequence[str | None], found: Deduplicated[pa.Table], *, threshold: float, ngram: int = 5
) -> None:
    """What holds for every table: nothing is lost, and each that goes has a partner that stays, recomputed."""
    rows = rows_of(found)
    removed = {row for row, _, _, _, action in rows if action == "drop"}
    assert [row for row, *_ in rows] == sorted(row for row, *_ in rows)
    assert np.flatnonzero(~found.is_kept).tolist() == sorted(removed)
    assert found.kept["text"].to_pylist() == [t for row, t in enumerate(texts) if row not in removed]
    for row, partner, rule, similarity, action in rows:
        assert found.is_kept[partner] and partner < row
        a, b = texts[row], texts[partner]
        assert a is not None and b is not None
        if rule == "exact.content_hash":
            assert normalised(a) == normalised(b) and similarity == 1.0
        else:
            assert similarity == jaccard(word_ngrams(a, ngram), word_ngrams(b, ngram))
        assert (action == "drop") == (similarity >= threshold)
    kept = [texts[row] for row in np.flatnonzero(found.is_kept)]
    whole = [normalised(text) for text in kept if text is not None]
    assert len(set(whole)) == len(whole)  # no copy stays
    worded = [own for text in kept if (own := word_ngrams(text, ngram))]
    assert len(set(worded)) == len(
        worded
    )  # nor a document of the same shingles, which is in the same buckets
    assert sum(text is None for text in kept) == sum(text is None for text in texts)


def of(texts: Sequence[str | None], **options: Any) -> Deduplicated[pa.Table]:
    return dedup(pa.table({"text": pa.array(texts, pa.string())}), **options)


def test_the_examples_in_the_docstrings_are_true() -> None:
    assert doctest.testmod(deduplication).failed == 0


@st.composite
def edited_texts(draw: st.DrawFn) -> list[str | None]:
    """Texts of a small vocabulary and edits of them: copies, near copies, nulls, texts without words."""
    word = st.sampled_from(["a", "b", "c", "d", "e", "é", "E\u0301", "中", "文"])
    originals = draw(st.lists(st.lists(word, max_size=16), min_size=1, max_size=4))
    texts: list[str | None] = []
    for _ in range(draw(st.integers(0, 14))):
        text = list(draw(st.sampled_from(originals)))
        for _ in range(draw(st.integers(0, 3))):
            place = draw(st.integers(0, len(text)))
            text[place : place + draw(st.integers(0, 1))] = draw(st.lists(word, max_size=1))
        joined = draw(st.sampled_from([" ", "  ", ", ", "\u3000"])).join(text)
        texts.append(draw(st.sampled_from([joined] * 8 + [joined + "!", "?", "", None])))
    return texts


@settings(max_examples=150, deadline=None)
@given(
    edited_texts(),
    st.sampled_from([0.3, 0.5, 0.8, 1.0]),
    st.integers(1, 6),
    st.booleans(),
    st.lists(st.integers(0, 14), max_size=3),
)
def test_decisions_are_those_of_every_pair_compared(
    texts: list[str | None], threshold: float, ngram: int, has_near_misses: bool, cuts: list[int]
) -> None:
    near_miss = 0.25 if has_near_misses else None
    bounds = [0, *sorted(min(cut, len(texts)) for cut in cuts), len(texts)]
    column = pa.chunked_array([pa.array(texts[a:b], pa.string()) for a, b in itertools.pairwise(bounds)])
    table = pa.table({"text": column})
    # Bands for the near misses' similarity, so that these are all compared as well.
    bands = minhash.choose_bands(near_miss or threshold, 1024, EVERY_PAIR)
    search = Search(threshold, ngram, near_miss=near_miss)
    columns = Columns("text")
    prepared = dataclasses.replace(
        prepare(table, columns, dataclasses.replace(search, method="exact")),
        sketch=deduplication.sketch_chunks(column, bands, search),
    )
    pairs = find(prepared, rank(table, columns), search).pairs.to_pylist()
    expected = by_hand(texts, threshold=threshold, ngram=ngram, near_miss=near_miss)
    actions = {"duplicate": "drop", "near_miss": "near_miss"}
    assert [
        (p["row"], p["partner"], p["rule"], p["similarity"], actions[p["outcome"]]) for p in pairs
    ] == expected
    if near_miss is None:
        found = dedup(table, threshold=threshold, ngram=ngram, recall=EVERY_PAIR)
        assert rows_of(found) == expected
        check(texts, found, threshold=threshold, ngram=ngram)


LATER = [chr(code) for first, last in fingerprint._LATER for code in range(first, last + 1)]
ANY_TEXT = st.text(
    st.characters(codec="utf-8", exclude_characters=LATER) | st.sampled_from("aA é\u0301中ก \n.")
)


@settings(max_examples=150, deadline=None)
@given(st.lists(st.none() | ANY_TEXT, max_size=12), st.data(), st.integers(1, 5))
def test_random_unicode_is_kept_or_has_a_partner_that_is(
    texts: list[str | None], data: st.DataObject, ngram: int
) -> None:
    repeated = data.draw(st.lists(st.sampled_from(texts), max_size=6)) if texts else []
    texts += [
        text and data.draw(st.sampled_from([text, f" {text}\n", text + "…", text.upper()]))
        for text in repeated
    ]
    found = of(texts, threshold=0.6, ngram=ngram)
    check(texts, found, threshold=0.6, ngram=ngram)
    exact = of(texts, method="exact")
    check_only_copies(texts, exact)


def check_only_copies(texts: Sequence[str | None], found: Deduplicated[pa.Table]) -> None:
    whole = [None if text is None else normalised(text) for text in texts]
    is_first = [text is None or text not in whole[:row] for row, text in enumerate(whole)]
    assert found.is_kept.tolist() == is_first
    assert [p for _, p, *_ in rows_of(found)] == [
        whole.index(whole[r]) for r, first in enumerate(is_first) if not first
    ]


@settings(max_examples=60, deadline=None)
@given(edited_texts(), st.data())
def test_rows_in_another_order_give_the_same_decisions_when_they_have_ids(
    texts: list[str | None], data: st.DataObject
) -> None:
    rows = len(texts)
    priority = data.draw(st.lists(st.none() | st.integers(0, 2), min_size=rows, max_size=rows))
    table = pa.table(
        {
            "text": pa.array(texts, pa.string()),
            "id": [f"d{row:02d}" for row in range(rows)],
            "p": pa.array(priority, pa.int64()),
        }
    )
    moved = table.take(pa.array(data.draw(st.permutations(range(rows))), pa.int64()))
    options: dict[str, Any] = {"id": "id", "priority": "p", "ngram": 2, "threshold": 0.5, "near_miss": 0.2}
    found, other = dedup(table, **options), dedup(moved, **options)
    assert other.decisions.sort_by("id").equals(found.decisions.sort_by("id"))
    assert sorted(other.kept["id"].to_pylist()) == sorted(found.kept["id"].to_pylist())
    best = sorted(range(rows), key=lambda row: -1 if priority[row] is None else priority[row], reverse=True)
    expected = by_hand(texts, threshold=0.5, ngram=2, order=best)
    exact_enough = dedup(moved, id="id", priority="p", ngram=2, threshold=0.5, recall=EVERY_PAIR)
    drops = exact_enough.decisions.sort_by("id").select(["id", "partner_id", "similarity"]).to_pylist()
    assert [tuple(row.values()) for row in drops] == [
        (f"d{r:02d}", f"d{p:02d}", s) for r, p, _, s, _ in expected
    ]


@pytest.mark.parametrize("batch_bytes", [1, 100, 3000])
def test_batches_and_chunks_of_any_size_give_the_same_decisions(
    batch_bytes: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    texts = [" ".join(map(str, row)) for row in near_copies(40, 5)]
    table = pa.table({"text": texts, "url": [str(row % 190) for row in range(200)]})
    whole = dedup(table, by=["url"], near_miss=0.3)
    calls: list[int] = []

    def spy(*args: Any, **options: Any) -> verify.Verification:
        calls.append(options["chunk_bytes"])
        return verify.leaders(*args, **options)

    monkeypatch.setattr(deduplication, "leaders", spy)
    monkeypatch.setattr(deduplication, "BATCH_BYTES", batch_bytes)
    parts = dedup(table, by=["url"], near_miss=0.3)
    assert len(calls) > 4 and max(calls) == 2 * batch_bytes
    assert parts.decisions.equals(whole.decisions)
    assert set(whole.decisions["rule"].to_pylist()) == {"exact.content_hash", "exact.url", "minhash.jaccard"}


def near_copies(families: int, copies: int) -> list[list[int]]:
    """Word numbers: families of texts of 100 words, each copy with a few words changed; the first ones twice."""
    rows = []
    for family in range(families):
        rng = np.random.default_rng([8, family])
        text = rng.integers(0, 10**6, 100)
        for copy in range(copies):
            changed = rng.random(100) < 0.02 * max(0, copy - 1)
            rows.append(np.where(changed, 10**6 + rng.integers(0, 10**6, 100), text).tolist())
    return rows


@settings(max_examples=60, deadline=None)
@given(edited_texts(), st.integers(0, 14), st.sampled_from([None, 0.25]))
def test_new_documents_against_settled_ones_are_decided_as_in_one_table(
    texts: list[str | None], cut: int, near_miss: float | None
) -> None:
    """What an index does: the kept ones of a first table stay, and rank before a second table."""
    columns = Columns("text", by=("url",))
    search = Search(0.5, 2, near_miss=near_miss)
    urls = [None if row % 3 else str(row % 4) for row in range(len(texts))]
    table = pa.table({"text": pa.array(texts, pa.string()), "url": pa.array(urls, pa.string())})
    first, second = table.slice(0, cut), table.slice(cut)
    both = dedup(table, by=["url"], threshold=0.5, ngram=2, near_miss=near_miss)
    held = np.flatnonzero(dedup(first, by=["url"], threshold=0.5, ngram=2, near_miss=near_miss).is_kept)
    old = prepare(first.take(pa.array(held)), columns, search)
    assert old.sketch is not None
    keys, rows = [], []
    for kind, exact in enumerate(old.exact):
        valid = np.arange(len(held)) if exact.valid is None else np.flatnonzero(exact.valid)
        keys.append(minhash.exact_keys(exact.hashes, kind=kind)[valid])
        rows.append(valid)
    for band in range(old.sketch.keys.shape[1]):
        worded = np.flatnonzero(old.sketch.has_words)
        keys.append(old.sketch.keys[worded, band])
        rows.append(worded)
    settled = Settled(old.texts, old.exact, np.concatenate(keys), np.concatenate(rows))
    new = find(prepare(second, columns, search), rank(second, columns), search, settled).pairs.to_pylist()
    number = [*range(cut, len(texts)), *held.tolist()]  # settled ones are numbered after the new ones
    found = [(number[p["row"]], number[p["partner"]], p["rule"], p["similarity"]) for p in new]
    assert found == [(r, p, rule, s) for r, p, rule, s, _ in rows_of(both) if r >= cut]


# -- shapes that break others -------------------------------------------------------------------------------


def test_of_ten_thousand_copies_one_stays() -> None:
    text = "One of ten thousand copies of the same text, " * 20
    found = of(["Something else altogether.", *[text] * 10_000, "And the end of it all."])
    assert np.flatnonzero(found.is_kept).tolist() == [0, 1, 10_001]
    assert set(found.decisions["partner_id"].to_pylist()) == {"1"}
    assert set(found.decisions["rule"].to_pylist()) == {"exact.content_hash"}


def test_of_ten_thousand_copies_with_another_mark_at_the_end_one_stays() -> None:
    texts = [
        f"One of ten thousand copies, with as many marks as it has copies{'.' * row}" for row in range(10_000)
    ]
    found = of(texts)
    assert np.flatnonzero(found.is_kept).tolist() == [0]
    assert set(found.decisions["rule"].to_pylist()) == {"minhash.jaccard"}
    assert found.found is not None and found.found.largest_bucket == 10_000


def test_a_chain_loses_its_links_and_keeps_its_ends() -> None:
    """A~B and B~C, and A and C differ: B goes, A and C stay; where B ranks first, both others go."""
    a = " ".join(map(str, range(100)))
    b = " ".join(map(str, range(8, 108)))
    c = " ".join(map(str, range(16, 116)))
    table = pa.table({"text": [a, b, c], "p": [0, 1, 0]})
    options: dict[str, Any] = {"ngram": 1, "recall": EVERY_PAIR}
    assert rows_of(dedup(table, **options)) == [(1, 0, "minhash.jaccard", 92 / 108, "drop")]
    first = dedup(table, priority="p", **options)
    assert rows_of(first) == [
        (0, 1, "minhash.jaccard", 92 / 108, "drop"),
        (2, 1, "minhash.jaccard", 92 / 108, "drop"),
    ]


def test_a_chain_of_three_hundred_links_is_thinned_and_not_swallowed() -> None:
    """Text k has the words k to k + 99: it is a duplicate of text k - d as long as (100 - d) / (100 + d) >= 0.8."""
    texts = [" ".join(map(str, range(k, k + 100))) for k in range(300)]
    found = of(texts, ngram=1, recall=EVERY_PAIR)
    assert np.flatnonzero(found.is_kept).tolist() == list(range(0, 300, 12))
    check(texts, found, threshold=0.8, ngram=1)


def test_of_a_clique_one_stays() -> None:
    common = " ".join(map(str, range(1000)))
    texts = [f"{common} and {1000 + row}" for row in range(200)]
    found = of(texts)
    assert np.flatnonzero(found.is_kept).tolist() == [0]
    assert {similarity for *_, similarity, _ in rows_of(found)} == {997 / 999}


@pytest.mark.parametrize("threshold", [0.5, 0.8])
def test_documents_of_one_template_stay_though_half_of_their_text_is_the_same(threshold: float) -> None:
    template = " ".join(f"template{k}" for k in range(100))
    texts = [f"{template} " + " ".join(f"own{row}x{k}" for k in range(100)) for row in range(1000)]
    found = of(texts, threshold=threshold)
    assert found.is_kept.all()
    assert found.found is not None and found.found.compared > 1000  # they were candidates, and were compared
    assert found.kept is found.data


def test_short_texts_are_compared_as_a_whole_and_texts_without_words_as_they_are() -> None:
    texts = [
        "a",
        "b",
        "a b",
        "b a",
        "A, b!",
        "a b c",
        "?",
        "!",
        "",
        " ",
        "?\n",
        None,
        None,
        "a b c d",
        "a  b",
    ]
    found = of(texts)
    assert rows_of(found) == [
        (4, 2, "minhash.jaccard", 1.0, "drop"),
        (9, 8, "exact.content_hash", 1.0, "drop"),
        (10, 6, "exact.content_hash", 1.0, "drop"),
        (14, 2, "exact.content_hash", 1.0, "drop"),
    ]
    check(texts, found, threshold=0.8)


def test_a_null_stays_and_matches_nothing_not_even_an_empty_text() -> None:
    assert of([None, "", None, ""]).is_kept.tolist() == [True, True, True, False]
    assert dedup(pa.table({"text": [None, None]})).is_kept.all()  # a column of Arrow's type null
    marked = exact_duplicates(pa.table({"text": pa.array([None, None, "a", "a"])}))
    assert marked["duplicate_of"].to_pylist() == [None, None, None, 2]


UNSPACED = {
    "Chinese": "人人生而自由,在尊严和权利上一律平等。他们赋有理性和良心,并应以兄弟关系的精神相对待。",
    "Japanese": "すべての人間は、生まれながらにして自由であり、かつ、尊厳と権利とについて平等である。人間は、理性と良心とを授けられており",
    "Thai": "มนุษย์ทั้งหลายเกิดมามีอิสระและเสมอภาคกันในเกียรติศักดิ์และสิทธิ ต่างมีเหตุผลและมโนธรรม",
    "Khmer": "មនុស្សទាំងអស់ កើតមកមានសេរីភាព និងសមភាព ក្នុងផ្នែកសេចក្ដីថ្លៃថ្នូរនិងសិទ្ធិ",
}


def test_texts_without_spaces_are_compared_by_their_characters() -> None:
    texts: list[str | None] = []
    for text in UNSPACED.values():
        texts += [text, text[:-1], text[::-1]]
    found = of(texts)
    assert np.flatnonzero(~found.is_kept).tolist() == [1, 4, 7, 10]
    check(texts, found, threshold=0.8)


def test_a_word_of_a_megabyte_is_one_word() -> None:
    letters = "ab" * 500_000
    texts = [
        letters,
        letters[:-1] + "c",
        letters.upper() + "!",
        letters + "\n",
        "x " + letters,
        "é" * 500_000,
    ]
    found = of(texts)
    assert rows_of(found) == [
        (2, 0, "minhash.jaccard", 1.0, "drop"),
        (3, 0, "exact.content_hash", 1.0, "drop"),
    ]


def test_a_megabyte_without_a_blank_in_chinese_is_compared_by_its_characters() -> None:
    rng = np.random.default_rng(3)
    text = "".join(map(chr, rng.integers(0x4E00, 0x9FA5, 350_000)))
    edited = "".join(chr(0x4E00 + ord(c) % 7) if rng.random() < 0.01 else c for c in text)
    found = of([text, edited, text[::-1]])
    ((row, partner, _, similarity, _),) = rows_of(found)
    assert (row, partner) == (1, 0)
    assert similarity == jaccard(word_ngrams(text), word_ngrams(edited))


def test_bytes_that_are_no_utf8_are_compared_and_not_lost() -> None:
    """Arrow checks no bytes. Files are checked when they are read; tables of callers are taken as they are."""
    raw = [
        b"\xed\xa0\x80 a b",
        b"\xed\xa0\x80 a b",
        b"\xff\xfe",
        b"\xff\xfe\n",
        b"\xff",
        b"a b\xc3",
        b"\x80" * 70,
    ]
    offsets = np.cumsum([0, *map(len, raw)]).astype(np.int64)
    column = pa.LargeStringArray.from_buffers(len(raw), pa.py_buffer(offsets), pa.py_buffer(b"".join(raw)))
    for family in ("words", "datasketch"):
        found = dedup(pa.table({"text": column}), hash_family=family)
        assert found.is_kept[[0, 2, 4, 6]].all() and not found.is_kept[[1, 3]].any()


def test_records_with_half_a_surrogate_pair_go_to_quarantine_and_none_is_lost(tmp_path: Path) -> None:
    halves = [r"\ud83d", r"\ude00", r"\ude00\ud83d", r"\ud83d\ud83d\ude00", r"\ud83dx\ude00", r"\uD800"]
    whole = [r"\ud83d\ude00", "\U0001f600", r"\u0000", r"\uffff", r"\\ud83d", "plain"]
    lines = [
        f'{{"id": "{k}", "text": "one two three {text}"}}' for k, text in enumerate([*halves, *whole] * 20)
    ]
    for name, order in (
        ("mixed", lines),
        ("whole first", sorted(lines, key=lambda line: int(line.split('"')[3]) % 12 < 6)),
    ):
        path = tmp_path / f"{name}.jsonl"
        path.write_text("\n".join(order) + "\n", encoding="utf-8")
        (file,) = find_files("s", Source(path=str(path)))
        batches = list(read_records(file, ["text"]))
        bad = [record for batch in batches for record in batch.bad]
        good = [text for batch in batches for text in batch.table["field:text"].to_pylist()]
        assert sum(batch.read for batch in batches) == len(lines) == len(good) + len(bad)
        assert {record["reason"] for record in bad} == {"invalid_utf8"}
        assert len(bad) == 20 * len(halves)
        texts = {json.loads(line)["text"] for line in lines if int(line.split('"')[3]) % 12 >= 6}
        assert set(good) == texts
        found = of(good)
        assert found.is_kept.sum() + len(found.decisions) == len(good)
        # Without their marks, four of the six are "one two three": words know neither U+1F600 nor controls.
        expected = by_hand(good, threshold=0.8, ngram=5)
        assert rows_of(found) == expected


# -- order and options --------------------------------------------------------------------------------------


def test_the_highest_priority_stays_then_the_smallest_id_then_the_first_row() -> None:
    def kept(**columns: Any) -> list[int]:
        table = pa.table({"text": ["same words"] * 4, **columns})
        options = {name: name for name in ("priority", "id") if name in columns}
        return np.flatnonzero(dedup(table, **options).is_kept).tolist()

    assert kept() == [0]
    assert kept(id=["d", "b", "a", "c"]) == [2]
    assert kept(id=[10, 9, 100, 11]) == [1]
    assert kept(id=["10", "9", "100", "11"]) == [0]  # texts are compared as texts
    assert kept(priority=[1.0, 2.0, 2.0, 0.0]) == [1]
    assert kept(priority=[1, 2, 2, 0], id=["a", "c", "b", "d"]) == [2]
    assert kept(priority=[None, -5, None, float("nan")]) == [1]
    assert kept(priority=[float("nan"), None, float("-inf"), float("nan")]) == [0]
    assert kept(priority=[0.0, float("inf"), 1e300, 5.0]) == [1]
    assert kept(priority=pa.array([None] * 4)) == [0]
    assert kept(priority=pa.array([1, 2**64 - 1, 2**63, 0], pa.uint64())) == [1]
    assert kept(priority=pa.array([-(2**63), 2**63 - 1, 1_700_000_000_000_000_000, 0])) == [1]
    assert kept(priority=pa.array([1, 3, 2, 0]).cast(pa.decimal128(30, 3))) == [1]


def test_equal_values_of_a_column_make_duplicates_and_nulls_do_not() -> None:
    table = pa.table(
        {
            "text": ["a", "b", "c", "d", "e", "f", "A b c", "a b c"],
            "url": ["x", None, "x", "y", None, "y ", "z", "w"],
            "day": pa.array([1, 2, 3, 4, 1, 5, 6, 7], pa.date32()),
        }
    )
    found = dedup(table, by=["url", "day"])
    assert rows_of(found) == [
        (2, 0, "exact.url", 1.0, "drop"),
        (4, 0, "exact.day", 1.0, "drop"),
        (5, 3, "exact.url", 1.0, "drop"),
        (7, 6, "minhash.jaccard", 1.0, "drop"),
    ]
    assert dedup(table, by="url").is_kept.tolist() == dedup(table, by=["url"]).is_kept.tolist()
    assert found.decisions["stage"].to_pylist() == ["exact", "exact", "exact", "minhash"]
    assert found.decisions["bound"].to_pylist() == [1.0, 1.0, 1.0, 0.8]


@pytest.mark.parametrize(
    "values",
    [
        pa.array([1, 2, 1, None, None], pa.int8()),
        pa.array([1.5, -0.0, 1.5, None, None]),
        pa.array([True, False, True, None, None]),
        pa.array(["1", "2", "1", None, None], pa.string_view()),
        pa.array(["1", "2", "1", None, None]).dictionary_encode(),
        pa.array([10**30, 1, 10**30, None, None], pa.decimal256(50, 0)),
        pa.array([10, 20, 10, None, None], pa.timestamp("ns", "UTC")),
        pa.array([10, 20, 10, None, None], pa.time64("ns")),
        pa.array([2**53, 2**53 + 1, 2**53, None, None], pa.int64()),
        pa.array([0.1, 0.1 + 2**-56, 0.1, None, None], pa.float64()),
    ],
)
def test_columns_of_every_kind_of_value_are_compared(values: pa.Array) -> None:
    marked = exact_duplicates(pa.table({"v": values}), by="v")
    assert marked["duplicate_of"].to_pylist() == [None, None, 0, None, None]
    assert marked["similarity"].to_pylist() == [None, None, 1.0, None, None]
    assert marked["v"].type == values.type


def test_the_method_exact_finds_copies_only_and_has_no_curve() -> None:
    texts = ["One, two.", "one two", "One,  two.\n", "caf\u00e9", "cafe\u0301"]
    found = of(texts, method="exact")
    assert rows_of(found) == [
        (2, 0, "exact.content_hash", 1.0, "drop"),
        (4, 3, "exact.content_hash", 1.0, "drop"),
    ]
    assert found.curve == []


def test_the_curve_is_that_of_the_bands_that_were_used() -> None:
    assert of(["a"]).curve == minhash.curve(minhash.choose_bands(0.8))
    found = of(["a"], threshold=0.7, recall=0.9, permutations=128)
    assert found.curve == minhash.curve(minhash.choose_bands(0.7, 128, 0.9))
    assert dict(found.curve)[0.7] >= 0.9


def test_near_misses_stay_and_are_written_down() -> None:
    texts = [" ".join(map(str, range(k, k + 20))) for k in (0, 5, 40)]
    found = of(texts, ngram=1, near_miss=0.5, recall=EVERY_PAIR, threshold=0.7)
    assert rows_of(found) == [(1, 0, "minhash.jaccard", 15 / 25, "near_miss")]
    assert found.is_kept.all()
    assert found.decisions["bound"].to_pylist() == [0.7]


def test_containment_is_that_of_the_text_that_goes() -> None:
    whole = " ".join(map(str, range(100)))
    part = " ".join(map(str, range(90)))
    options: dict[str, Any] = {
        "similarity": "containment",
        "threshold": 0.95,
        "ngram": 1,
        "recall": EVERY_PAIR,
    }
    assert rows_of(of([whole, part], **options)) == [(1, 0, "minhash.containment", 1.0, "drop")]
    assert of([part, whole], **options).is_kept.all()


# -- tables of three kinds ----------------------------------------------------------------------------------


PLAIN = ["same words", "other", "Same words.", None, "same words"]


@pytest.mark.parametrize(
    "kind",
    [
        pa.string(),
        pa.large_string(),
        pa.string_view(),
        pa.dictionary(pa.int32(), pa.string()),
        pa.dictionary(pa.int8(), pa.large_string()),
    ],
    ids=str,
)
def test_a_text_column_of_any_encoding_gives_the_same_and_comes_back_as_it_was(kind: pa.DataType) -> None:
    plain = pa.array(["before", *PLAIN, "after"])
    column = plain.dictionary_encode().cast(kind) if pa.types.is_dictionary(kind) else plain.cast(kind)
    number = pa.array(range(-1, 6))
    whole = pa.table({"text": column, "n": number}).slice(1, 5)
    chunks = [whole.slice(0, 2), whole.slice(2, 0), whole.slice(2, 1), whole.slice(3)]
    for table in (whole, pa.concat_tables(chunks)):
        found = dedup(table)
        assert rows_of(found) == [
            (2, 0, "minhash.jaccard", 1.0, "drop"),
            (4, 0, "exact.content_hash", 1.0, "drop"),
        ]
        assert found.kept.schema == table.schema
        assert found.kept.to_pydict() == {"text": ["same words", "other", None], "n": [0, 1, 3]}
        marked = mark_duplicates(table, id="n")
        assert marked.drop_columns(["duplicate_of", "similarity"]).equals(table)
        assert marked["duplicate_of"].to_pylist() == [None, None, 0, None, 0]
        assert marked["similarity"].to_pylist() == [None, None, 1.0, None, 1.0]


def test_rows_of_columns_that_arrow_cannot_filter_are_kept_as_well() -> None:
    table = pa.table(
        {
            "text": pa.array(["a", "a", "b", "c", "b", "d"], pa.string_view()),
            "raw": pa.array([b"1", b"2", None, b"4", b"5", b"6"], pa.binary_view()),
            "list": pa.array([["x"], [], None, ["y", "z"], ["w"], []], pa.list_view(pa.string_view())),
        }
    )
    assert dedup(table).kept.to_pydict() == {
        "text": ["a", "b", "c", "d"],
        "raw": [b"1", None, b"4", b"6"],
        "list": [["x"], None, ["y", "z"], []],
    }
    assert dedup(table).kept.schema == table.schema


def test_chunks_of_a_few_rows_are_joined_and_large_ones_are_not() -> None:
    texts = [f"text number {row}" for row in range(500)] * 2
    batches = [pa.record_batch({"text": [text], "n": [row]}) for row, text in enumerate(texts)]
    table = pa.Table.from_batches(batches)
    found = dedup(table, id="n")
    assert np.flatnonzero(found.is_kept).tolist() == list(range(500))
    assert found.kept.equals(table.slice(0, 500)) and table["text"].num_chunks == 1000
    columns, search = Columns("text"), Search()
    assert prepare(columns.of(table), columns, search).texts.num_chunks == 1
    large = pa.table({"text": pa.chunked_array([["x" * 70_000], ["y" * 70_000]])})
    assert prepare(columns.of(large), columns, search).texts.num_chunks == 2


@pytest.mark.parametrize(
    "ids",
    [
        pa.array([7, 3, 9, 1, 5]),
        pa.array([7, 3, 9, 1, 5], pa.uint8()),
        pa.array(["e", "b", "d", "a", "c"]),
        pa.array(["e", "b", "d", "a", "c"], pa.large_string()),
        pa.array(["e", "b", "d", "a", "c"], pa.string_view()),
        pa.array([7, 3, 9, 1, 5], pa.timestamp("s")),
        pa.array([0.7, 0.3, 0.9, 0.1, 0.5]),
    ],
    ids=lambda ids: str(ids.type),
)
def test_duplicate_of_has_the_type_of_the_ids(ids: pa.Array) -> None:
    """The smallest id stays: of rows 0, 2 and 4 that is row 4."""
    table = pa.table({"text": pa.array(PLAIN), "key": ids})
    marked = mark_duplicates(table, id="key")
    assert marked.schema.field("duplicate_of").type == ids.type
    best = ids[4].as_py()
    assert marked["duplicate_of"].to_pylist() == [best, None, best, None, None]
    decisions = dedup(table, id="key").decisions
    as_text = ids.cast(pa.string()).to_pylist()
    assert decisions["id"].to_pylist() == [as_text[0], as_text[2]]
    assert set(decisions["partner_id"].to_pylist()) == {as_text[4]}


def test_ids_in_a_dictionary_are_compared_by_their_values() -> None:
    codes = pa.DictionaryArray.from_arrays(pa.array([0, 1, 2, 3, 4]), pa.array(["e", "b", "d", "a", "c"]))
    marked = mark_duplicates(pa.table({"text": pa.array(PLAIN), "key": codes}), id="key")
    assert marked["duplicate_of"].to_pylist() == ["c", None, "c", None, None]
    repeated = pa.DictionaryArray.from_arrays(pa.array([0, 1, 2, 3, 4]), pa.array(["e", "b", "e", "a", "c"]))
    with pytest.raises(DataError, match=r"first 'e' in rows 0 and 2"):
        mark_duplicates(pa.table({"text": pa.array(PLAIN), "key": repeated}), id="key")


def test_columns_of_an_earlier_mark_are_replaced() -> None:
    table = pa.table({"similarity": [0.5] * 5, "text": pa.array(PLAIN)})
    twice = mark_duplicates(mark_duplicates(table))
    assert twice.column_names == ["text", "duplicate_of", "similarity"]
    assert twice["duplicate_of"].to_pylist() == [None, None, 0, None, 0]


def polars_frame() -> pl.DataFrame:
    return pl.DataFrame(
        {
            "text": PLAIN,
            "id": ["e", "b", "d", "a", "c"],
            "small": pl.Series([7, 3, 9, 1, 5], dtype=pl.UInt8),
            "category": pl.Series(["x", "y", "x", None, "x"], dtype=pl.Categorical),
            "enum": pl.Series(["x", "y", "x", None, "x"], dtype=pl.Enum(["y", "x"])),
            "list": [["p"], [], None, ["q", "r"], []],
            "struct": [{"f": 1}, {"f": 2}, None, {"f": 4}, {"f": None}],
            "when": pl.Series([1, 2, 3, 4, 5], dtype=pl.Datetime("us", "UTC")),
            "nothing": pl.Series([None] * 5, dtype=pl.Null),
        }
    )


def test_a_polars_frame_is_filtered_and_keeps_its_columns_and_types() -> None:
    frame = polars_frame()
    expected = frame.filter(pl.Series([True, True, False, True, False]))
    polars.testing.assert_frame_equal(dedup(frame).kept, expected)
    assert dedup(frame).kept.schema == frame.schema
    polars.testing.assert_frame_equal(dedup(frame.clear()).kept, frame.clear())
    sliced = pl.concat([frame.slice(0, 1), frame.slice(1, 4)], rechunk=False)
    polars.testing.assert_frame_equal(dedup(sliced).kept, expected)
    assert dedup(frame, text="nothing").kept.height == 5


@pytest.mark.parametrize(
    ("id", "dtype", "best"), [(None, pl.Int64, 0), ("id", pl.String, "c"), ("small", pl.UInt8, 5)]
)
def test_a_polars_frame_is_marked(id: str | None, dtype: Any, best: Any) -> None:
    frame = polars_frame()
    marked = mark_duplicates(frame, id=id)
    polars.testing.assert_frame_equal(marked.drop("duplicate_of", "similarity"), frame)
    assert marked.schema["duplicate_of"] == dtype and marked.schema["similarity"] == pl.Float64
    assert best in marked["duplicate_of"].to_list() and marked["duplicate_of"].count() == 2
    assert mark_duplicates(marked, id=id).columns == marked.columns


@pytest.mark.parametrize("column", ["category", "enum"])
def test_texts_and_ids_may_be_categories_of_polars(column: str) -> None:
    frame = polars_frame()
    assert dedup(frame, text=column).kept["small"].to_list() == [7, 3, 1]
    assert exact_duplicates(frame, by=column)["duplicate_of"].to_list() == [None, None, 0, None, 0]
    few = frame.slice(0, 2).with_columns(text=pl.lit("same"))
    assert mark_duplicates(few, id=column)["duplicate_of"].to_list() == [None, "x"]


def test_a_dataset_is_selected_from_and_keeps_its_features_and_format() -> None:
    features = datasets.Features(
        {
            "text": datasets.Value("string"),
            "n": datasets.Value("int32"),
            "l": datasets.ClassLabel(names=["u", "v"]),
        }
    )
    data = datasets.Dataset.from_dict(
        {"text": PLAIN, "n": [7, 3, 9, 1, 5], "l": [0, 1, 0, 1, 0]}, features=features
    )
    kept = dedup(data).kept
    assert isinstance(kept, datasets.Dataset)
    assert (kept.features, kept["n"][:]) == (features, [7, 3, 1])
    assert kept["text"][:] == ["same words", "other", None]
    reordered = data.select([4, 3, 2, 1, 0]).with_format("numpy")
    assert dedup(reordered).kept["n"][:].tolist() == [5, 1, 3]
    assert dedup(reordered).kept.format["type"] == "numpy"
    marked = mark_duplicates(data.select([4, 3, 2, 1, 0]), id="n")
    assert marked["duplicate_of"][:] == [None, None, 5, None, 5]
    assert marked.features["duplicate_of"] == datasets.Value("int32")
    assert {name: marked.features[name] for name in features} == features
    assert exact_duplicates(data, by="l")["duplicate_of"][:] == [None, None, 0, 1, 0]
    assert dedup(data.select([])).kept.num_rows == 0


@pytest.mark.parametrize(
    "table",
    [
        pa.table({"text": pa.array([], pa.string())}),
        pa.table({"text": []}),
        pa.table({"text": pa.chunked_array([], pa.large_string())}),
        pa.table({"text": pa.array([], pa.string()).dictionary_encode()}),
    ],
    ids=["string", "null", "no chunk", "dictionary"],
)
def test_an_empty_table_has_no_duplicates(table: pa.Table) -> None:
    found = dedup(table)
    assert (len(found.kept), found.kept.schema, len(found.decisions)) == (0, table.schema, 0)
    assert mark_duplicates(table).column_names == ["text", "duplicate_of", "similarity"]
    assert len(exact_duplicates(table)) == 0


@pytest.mark.parametrize("text", ["", "a", "one two three four five six seven", None])
def test_one_row_stays(text: str | None) -> None:
    found = of([text])
    assert found.is_kept.tolist() == [True] and len(found.decisions) == 0
    assert mark_duplicates(pa.table({"text": pa.array([text], pa.string())}))["duplicate_of"].to_pylist() == [
        None
    ]


# -- mistakes -----------------------------------------------------------------------------------------------

TABLE = pa.table(
    {
        "text": ["a", "b", "c"],
        "url": ["x", "y", "z"],
        "number": [1, 2, 3],
        "raw": [b"a", b"b", b"c"],
        "list": [["a"], ["b"], ["c"]],
        "flag": [True, False, True],
        "twice": ["k", "m", "k"],
        "gaps": ["k", None, None],
        "nan": [float("nan"), 1.0, float("nan")],
    }
)


@pytest.mark.parametrize(
    ("options", "faults"),
    [
        ({"threshold": 0}, ["threshold: found 0; allowed: a number above 0, at most 1."]),
        ({"threshold": 1.5}, ["threshold: found 1.5; allowed: a number above 0, at most 1."]),
        ({"threshold": float("nan")}, ["threshold: found nan; allowed: a number above 0, at most 1."]),
        ({"threshold": "0.8"}, ["threshold: found '0.8'; allowed: a number above 0, at most 1."]),
        ({"threshold": True}, ["threshold: found True; allowed: a number above 0, at most 1."]),
        ({"ngram": 0}, ["ngram: found 0; allowed: 1 to 32."]),
        ({"ngram": 33}, ["ngram: found 33; allowed: 1 to 32."]),
        ({"ngram": 2.5}, ["ngram: found 2.5; allowed: 1 to 32."]),
        ({"recall": 1}, ["recall: found 1; allowed: a number between 0 and 1."]),
        ({"permutations": 0}, ["permutations: found 0; allowed: 1 and more, or None."]),
        ({"near_miss": 0.9}, ["near_miss: found 0.9; allowed: a number above 0, below the threshold (0.8)."]),
        ({"near_miss": "x"}, ["near_miss: found 'x'; allowed: a number above 0, below the threshold (0.8)."]),
        (
            {"threshold": 2, "ngram": 0, "method": "simhash", "similarity": "cosine", "hash_family": "md5"},
            [
                "method: found 'simhash'; allowed: exact, minhash.",
                "similarity: found 'cosine'; allowed: jaccard, containment.",
                "hash_family: found 'md5'; allowed: words, datasketch.",
                "threshold: found 2; allowed: a number above 0, at most 1.",
                "ngram: found 0; allowed: 1 to 32.",
            ],
        ),
        (
            {"threshold": 0.8, "permutations": 1},
            [
                "choose_bands: no bands of at most 1 permutations find 98.5% of the pairs at threshold 0.8; at least 3 "
                "permutations do. Allow more, or ask for less recall"
            ],
        ),
        (
            {"text": "txt", "id": "idd", "by": ["ur", "url"], "priority": "numbr"},
            [
                "no column is called 'txt'; did you mean 'text'? Columns: "
                + ", ".join(TABLE.column_names)
                + ".",
                "no column is called 'idd'. Columns: " + ", ".join(TABLE.column_names) + ".",
                "no column is called 'ur'; did you mean 'url'? Columns: "
                + ", ".join(TABLE.column_names)
                + ".",
                "no column is called 'numbr'; did you mean 'number'? Columns: "
                + ", ".join(TABLE.column_names)
                + ".",
            ],
        ),
    ],
)
def test_mistakes_of_arguments_are_named_all_at_once(options: dict[str, Any], faults: list[str]) -> None:
    with pytest.raises(ConfigError) as caught:
        dedup(TABLE, **options)
    assert list(caught.value.faults) == faults


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"text": "number"}, "text: the column 'number' holds int64; allowed: texts (string)."),
        ({"text": "raw"}, "text: the column 'raw' holds binary; allowed: texts (string)."),
        ({"text": "list"}, "text: the column 'list' holds list<item: string>; allowed: texts (string)."),
        (
            {"by": ["list"]},
            "by: the column 'list' holds list<item: string>; allowed: texts, numbers, booleans or dates.",
        ),
        ({"by": ["raw"]}, "by: the column 'raw' holds binary; allowed: texts, numbers, booleans or dates."),
        ({"priority": "flag"}, "priority: the column 'flag' holds bool; allowed: numbers."),
        ({"priority": "url"}, "priority: the column 'url' holds string; allowed: numbers."),
        ({"id": "raw"}, "id: the column 'raw' holds binary; allowed: texts, numbers or dates."),
        (
            {"id": "twice"},
            "id: 1 values of the column 'twice' repeat, first 'k' in rows 0 and 2; ids must be distinct. "
            "Give another column, or leave id out: then the row number is the id.",
        ),
        (
            {"id": "nan"},
            "id: 1 values of the column 'nan' repeat, first nan in rows 0 and 2; ids must be distinct. "
            "Give another column, or leave id out: then the row number is the id.",
        ),
        (
            {"id": "gaps"},
            "id: the column 'gaps' is null in 2 rows, first in row 1; every row needs an id. "
            "Fill them, or leave id out: then the row number is the id.",
        ),
    ],
)
@pytest.mark.parametrize("call", [dedup, mark_duplicates])
def test_data_that_does_not_fit_is_named(
    call: Callable[..., Any], options: dict[str, Any], message: str
) -> None:
    with pytest.raises(DataError) as caught:
        call(TABLE, **options)
    assert str(caught.value) == message


def test_columns_of_one_name_are_refused_where_they_are_read() -> None:
    table = pa.table([pa.array(["a"]), pa.array(["b"]), pa.array([1])], names=["text", "text", "n"])
    with pytest.raises(ConfigError, match=r"2 columns are called 'text'; allowed: one. Rename the others."):
        dedup(table)
    assert len(dedup(table.rename_columns(["x", "x", "text"]).set_column(2, "text", [["a"]])).kept) == 1


@pytest.mark.parametrize(
    ("data", "found"),
    [
        ([{"text": "a"}], "builtins.list"),
        ({"text": ["a"]}, "builtins.dict"),
        (None, "builtins.NoneType"),
        ("a.jsonl", "builtins.str"),
        (pa.record_batch({"text": ["a"]}), "pyarrow.lib.RecordBatch"),
        (pl.LazyFrame({"text": ["a"]}), "polars.lazyframe.frame.LazyFrame"),
        (datasets.DatasetDict(), "datasets.dataset_dict.DatasetDict"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_other_data_is_refused_with_what_is_allowed(data: Any, found: str) -> None:
    for call in (dedup, mark_duplicates, exact_duplicates):
        with pytest.raises(ConfigError) as caught:
            call(data)
        assert str(caught.value) == (
            f"data: found {found}; allowed: pyarrow.Table, polars.DataFrame, datasets.Dataset. "
            "Files are deduplicated by the command 'curate dedup'."
        )


# -- real documents -----------------------------------------------------------------------------------------


# Characters of texts in which our words may differ from re.findall(r"\w+", text.lower()): sigmas, the dotted I, and
# scripts written without spaces.
OTHER_WORDS = re.compile(
    "[Σςİ\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u2e80-\u9fff\ua9e0-\uaa7f\uf900-\ufaff\uff66-\uff9f\U0001afe0-\U0010ffff]"
)
LOWEST = 0.7


@functools.cache
def real_documents() -> pa.Table:
    """Id and text of the 9,869 documents of the ground truth."""
    wanted = pq.read_table(SHARED / "data/corpus/groundtruth/subset.parquet")["id"].to_pylist()
    texts = {}
    for path in sorted((SHARED / "data/corpus").glob("*.jsonl.zst")):
        for line in zstandard.ZstdDecompressor().stream_reader(path.read_bytes()).read().splitlines():
            record = json.loads(line)
            texts[record["id"]] = record["text"]
    for path in sorted((SHARED / "data/corpus").glob("*.parquet")):
        table = pq.read_table(path, columns=["id", "text"])
        texts.update(zip(table["id"].to_pylist(), table["text"].to_pylist(), strict=True))
    wanted.sort()
    return pa.table({"id": wanted, "text": pa.array([texts[name] for name in wanted], pa.large_string())})


@functools.cache
def real_sets() -> list[npt.NDArray[np.uint64]]:
    """The shingles of each document as numbers, ascending and each once.

    A word is a random number, a shingle a sum of products of five of them: nothing of the hashes that are tested.
    """
    known: dict[str, int] = {}
    lists = []
    for text in real_documents()["text"].to_pylist():
        lists.append(np.array([known.setdefault(w, len(known)) for w, _, _ in words.split(text)], np.int64))
    rng = np.random.default_rng(5)
    number = rng.integers(0, 2**64, len(known), np.uint64)
    factors = [int(value) | 1 for value in rng.integers(0, 2**64, 5, np.uint64)]
    sets = []
    for own in lists:
        n = max(0, len(own) - 4) or min(1, len(own))  # shingles, repeats included
        run = min(5, len(own))  # words in each
        values = np.full(n, run, np.uint64)
        for k in range(run):
            values = values * np.uint64(factors[k]) + number[own[k : k + n]]
        sets.append(np.unique(values))
    return sets


@functools.cache
def real_pairs() -> dict[tuple[int, int], float]:
    """Every pair (a < b) with J >= LOWEST: what documents have in common is a product of sparse matrices."""
    sets = real_sets()
    sizes = np.array([len(own) for own in sets])
    columns = np.unique(np.concatenate(sets), return_inverse=True)[1]
    bounds = np.concatenate([[0], np.cumsum(sizes)])
    holds = sparse.csr_array((np.ones(len(columns), np.int32), columns, bounds))
    common = sparse.triu(holds @ holds.T, k=1, format="coo")
    a, b = common.coords
    similarity = common.data / (sizes[a] + sizes[b] - common.data)
    chosen = np.flatnonzero(similarity >= LOWEST)
    return dict(
        zip(
            zip(a[chosen].tolist(), b[chosen].tolist(), strict=True),
            similarity[chosen].tolist(),
            strict=True,
        )
    )


@pytest.fixture
def corpus() -> pa.Table:
    if not (SHARED / "data/corpus/groundtruth").is_dir():
        pytest.skip(f"no ground truth at {SHARED}/data/corpus/groundtruth")
    return real_documents()


@pytest.mark.shared
@pytest.mark.slow
@pytest.mark.xdist_group("real documents")
def test_the_pairs_that_these_tests_compare_with_are_those_of_the_published_ground_truth(
    corpus: pa.Table,
) -> None:
    """It was computed with ``re.findall(r"\\\\w+", text.lower())``; documents in which our words differ are left out."""
    published = pq.read_table(SHARED / "data/corpus/groundtruth/near_duplicate_pairs.parquet")
    published = published.filter(pc.greater_equal(published["jaccard"], LOWEST))
    place = {name: row for row, name in enumerate(corpus["id"].to_pylist())}
    known = {(place[p["id_a"]], place[p["id_b"]]): p["jaccard"] for p in published.to_pylist()}
    known = {(min(pair), max(pair)): similarity for pair, similarity in known.items()}
    same_words = [not OTHER_WORDS.search(text) for text in corpus["text"].to_pylist()]

    def comparable(pairs: dict[tuple[int, int], float]) -> dict[tuple[int, int], float]:
        return {pair: s for pair, s in pairs.items() if same_words[pair[0]] and same_words[pair[1]]}

    assert len(comparable(known)) > 5000
    assert comparable(real_pairs()) == comparable(known)


@pytest.mark.shared
@pytest.mark.slow
@pytest.mark.xdist_group("real documents")
@pytest.mark.parametrize("threshold", [0.7, 0.8, 0.9])
def test_real_documents_go_only_for_a_kept_partner_and_hardly_any_duplicate_stays(
    threshold: float, corpus: pa.Table, capsys: pytest.CaptureFixture[str]
) -> None:
    names, texts, sets = corpus["id"].to_pylist(), corpus["text"].to_pylist(), real_sets()
    found = dedup(corpus, id="id", threshold=threshold)
    place = {name: row for row, name in enumerate(names)}
    decisions = found.decisions.to_pylist()
    removed = {place[d["id"]] for d in decisions}

    # None is lost, whatever its length or script.
    assert found.kept["id"].to_pylist() == [name for row, name in enumerate(names) if row not in removed]
    assert found.kept.equals(corpus.filter(pa.array(found.is_kept)))
    assert len(decisions) == len(removed) == (~found.is_kept).sum()
    lengths = np.array([len(own) for own in sets])
    assert (lengths == 0).sum() + (lengths == 1).sum() > 20  # there are documents without and with few words

    # Each that goes has a partner that stays.
    for decision in decisions:
        row, partner = place[decision["id"]], place[decision["partner_id"]]
        assert partner not in removed and partner < row
        if decision["rule"] == "exact.content_hash":
            assert normalised(texts[row]) == normalised(texts[partner])
        else:
            common = len(np.intersect1d(sets[row], sets[partner], assume_unique=True))
            similarity = common / (len(sets[row]) + len(sets[partner]) - common)
            assert decision["similarity"] == similarity >= threshold

    # The same order with every pair compared.
    twins: dict[str, int] = {}
    linked: list[list[int]] = [[] for _ in names]
    for (a, b), similarity in real_pairs().items():
        if similarity >= threshold:
            linked[b].append(a)
    is_leader = np.zeros(len(names), np.bool_)
    wordless = []
    for row, text in enumerate(texts):
        whole = normalised(text)
        if lengths[row] == 0 and whole in twins:
            linked[row].append(twins[whole])
            wordless.append((twins[whole], row))
        twins.setdefault(whole, row)
        is_leader[row] = not any(is_leader[earlier] for earlier in linked[row])
    all_removed = set(np.flatnonzero(~is_leader).tolist())
    recall = len(removed) / len(all_removed)
    edges = [pair for pair, similarity in real_pairs().items() if similarity >= threshold] + wordless
    bucket, rows = np.repeat(np.arange(len(edges)), 2), np.array(edges, np.int64).reshape(-1)
    redundant = len(names) - len(np.unique(verify.components(bucket, rows, len(names))))
    with capsys.disabled():
        print(
            f"\nthreshold {threshold}: {len(removed):,} of {len(names):,} removed; every pair compared removes "
            f"{len(all_removed):,} (recall {recall:.4f}); connected components would remove {redundant:,} "
            f"({len(removed) / redundant:.4f} of them removed)"
        )
    assert recall >= 0.98
    assert len(removed) <= redundant
    copies = {row for row, text in enumerate(map(normalised, texts)) if twins[text] != row}
    assert copies <= removed


@pytest.mark.shared
@pytest.mark.slow
@pytest.mark.xdist_group("real documents")
def test_real_documents_in_another_order_and_in_small_batches_have_the_same_decisions(
    corpus: pa.Table, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = dedup(corpus, id="id", near_miss=0.6)
    monkeypatch.setattr(deduplication, "BATCH_BYTES", 1 << 16)
    moved = corpus.take(pa.array(np.random.default_rng(2).permutation(len(corpus))))
    other = dedup(moved, id="id", near_miss=0.6)
    assert other.decisions.sort_by("id").equals(whole.decisions.sort_by("id"))
    assert len(whole.decisions) > 2000


@pytest.mark.parametrize("kind", ["arrow", "polars", "datasets"])
def test_the_rows_that_stay_are_written_without_the_table_in_memory_twice(kind: str, tmp_path: Path) -> None:
    texts = [f"text number {n // 2} of many, some of them twice" for n in range(9_000)]
    table: Any = pa.table({"n": list(range(9_000)), "text": texts})
    if kind == "polars":
        table = pl.from_arrow(table)
    elif kind == "datasets":
        from datasets import Dataset

        table = Dataset.from_dict(table.to_pydict())
    found = dedup(table, method="exact")
    assert found.write_kept(tmp_path / "kept.parquet") == 4_500
    assert pl.read_parquet(tmp_path / "kept.parquet")["n"].to_list() == list(range(0, 9_000, 2))
    assert repr(found) == "Deduplicated(9,000 rows: 4,500 kept, 4,500 duplicates)"


def test_an_empty_table_is_written_with_its_columns(tmp_path: Path) -> None:
    assert dedup(pa.table({"text": pa.array([], pa.string())})).write_kept(tmp_path / "kept.parquet") == 0
    assert pl.read_parquet(tmp_path / "kept.parquet").columns == ["text"]
