"""Overlaps with evaluation items against plain Python, and against real contamination that is known."""

from __future__ import annotations

import csv
import dataclasses
import doctest
import gzip
import json
import os
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from curate import overlap
from curate.overlap import Index
from filters import words
from filters.errors import ConfigError, DataError

SHARED = Path(os.environ.get("CURATE_SHARED", Path(__file__).parents[3] / "shared"))

QUESTION = (
    "Janet’s ducks lay 16 eggs per day. She eats three for breakfast every morning and bakes muffins for her "
    "friends every day with four."
)
TWELVE = "lay 16 eggs per day. She eats three for breakfast every morning"  # of QUESTION's words


def items(*texts: str | None) -> pa.Table:
    return pa.table(
        {
            "id": [str(number) for number in range(len(texts))],
            "source": ["quiz"] * len(texts),
            "text": pa.array(texts, pa.string()),
        }
    )


def slow_overlaps(
    texts: list[str], item_texts: list[str], ngram: int
) -> list[tuple[int, str, int, int, int]]:
    """``(row, item_id, span_start, span_end, ngrams)`` by comparing all runs of words with all runs of words."""
    found = []
    for row, text in enumerate(texts):
        spans = words.split(text)
        document = [word for word, _, _ in spans]
        for item, item_text in enumerate(item_texts):
            asked = [word for word, _, _ in words.split(item_text)]
            if len(asked) < 8:
                continue
            length = min(ngram, len(asked))
            grams = {tuple(asked[k : k + length]) for k in range(len(asked) - length + 1)}
            places = [
                k for k in range(len(document) - length + 1) if tuple(document[k : k + length]) in grams
            ]
            covered = [any(place <= k < place + length for place in places) for k in range(len(document))]
            if places:
                first = covered.index(True)
                last = [*covered, False].index(False, first) - 1
                common = {tuple(document[k : k + length]) for k in places}
                found.append((row, str(item), spans[first][1], spans[last][2], len(common)))
    return found


def rows_of(table: pa.Table) -> list[tuple[int, str, int, int, int]]:
    assert table.schema == overlap.OVERLAP_SCHEMA
    assert set(table["item_source"].to_pylist()) <= {"quiz"}
    return [tuple(row.values()) for row in table.drop_columns("item_source").to_pylist()]


def test_the_examples_in_the_docstrings_are_true() -> None:
    assert doctest.testmod(overlap).failed == 0


VOCABULARY = ["a", "b", "C", "é", "中", "𐐀x"]
RUN = st.lists(st.sampled_from(VOCABULARY), max_size=30).map(" ".join)


@settings(max_examples=200, deadline=None)
@given(st.lists(RUN, max_size=5), st.lists(RUN, max_size=5), st.integers(8, 14), st.data())
def test_overlaps_are_those_of_comparing_everything_with_everything(
    item_texts: list[str], texts: list[str], ngram: int, data: st.DataObject
) -> None:
    for place in range(len(texts)):
        if item_texts:  # most random runs of 8 words never meet: plant parts of items
            item = data.draw(st.sampled_from(item_texts)).split()
            cut = slice(data.draw(st.integers(0, 4)), data.draw(st.integers(10, 30)))
            texts[place] = f"{texts[place]}, {' '.join(item[cut])}! {data.draw(RUN)}"
    found = overlap.overlaps(pa.array(texts, pa.string()), Index.build(items(*item_texts), ngram=ngram))
    assert rows_of(found) == slow_overlaps(texts, item_texts, ngram)


@settings(deadline=None)
@given(st.data())
def test_every_planted_item_is_found_whatever_its_case_and_punctuation(data: st.DataObject) -> None:
    before, after = data.draw(st.text(max_size=40)), data.draw(st.text(max_size=40))
    separator = data.draw(st.sampled_from([" ", "\n", " — ", "\u3000", ", "]))
    planted = separator.join(word for word, _, _ in words.split(QUESTION))
    planted = planted.upper() if data.draw(st.booleans()) else planted
    text = f"{before} {planted} {after}"
    ((row, item, start, end, ngrams),) = rows_of(
        overlap.overlaps(pa.array([text]), Index.build(items(QUESTION)))
    )
    count = len(words.split(QUESTION))
    assert (row, item, ngrams) == (0, "0", count - 12)
    assert (start, end) == (len(before) + 1, len(before) + 1 + len(planted))


def test_twelve_common_words_are_no_overlap_and_thirteen_are() -> None:
    index = Index.build(items(QUESTION))
    assert len(words.split(TWELVE)) == 12
    thirteen = f"{TWELVE}, AND"
    texts = pa.array([TWELVE, thirteen, f"{TWELVE} or {TWELVE}", f"{TWELVE} or"])
    assert rows_of(overlap.overlaps(texts, index)) == [(1, "0", 0, len(thirteen), 1)]


def test_a_short_item_is_found_as_a_whole_and_a_very_short_one_never() -> None:
    eight = "Who wrote the book about seven white whales?"
    seven = "Who wrote the book about white whales?"
    index = Index.build(items(eight, seven, "", None))
    assert index.unsearchable == {"quiz": 3}
    assert [grams.length for grams in index.grams] == [8]
    texts = pa.array([f"Q: {eight} A: nobody", seven, eight.replace("white", "wide")])
    assert rows_of(overlap.overlaps(texts, index)) == [(0, "0", 3, 3 + len(eight) - 1, 1)]


def test_a_span_is_the_first_run_and_counts_characters_not_bytes() -> None:
    ducks, question = "🦆" * 5 + "…", QUESTION[:-1]
    text = f"{ducks} {question}. Then again: {question} and so on."
    start = len(ducks) + 1
    found = rows_of(overlap.overlaps(pa.array(["nothing", text]), Index.build(items(QUESTION))))
    assert found == [(1, "0", start, start + len(question), len(words.split(QUESTION)) - 12)]
    assert text[start : start + len(question)] == question


def test_items_that_share_a_prompt_are_all_named() -> None:
    prompt = "The following paragraphs each describe a set of three objects arranged in a fixed order"
    index = Index.build(
        items(f"{prompt}: birds", f"{prompt}, books", "some other item of quite enough words to search")
    )
    found = rows_of(overlap.overlaps(pa.array([f"{prompt}."]), index))
    assert found == [(0, "0", 0, len(prompt), 3), (0, "1", 0, len(prompt), 3)]


def test_an_equal_hash_with_other_words_is_no_overlap() -> None:
    """Gives the item the hash of the document's words, as a collision would."""
    item = "one two three four five six seven eight"
    document = "un deux trois quatre cinq six sept huit"
    index = Index.build(items(item))
    _, hashes = words.shingles(pa.array([document]), ngram=8)
    (grams,) = index.grams
    collided = overlap.Grams.sort(8, hashes, grams.item, grams.word)
    assert (
        len(
            list(
                overlap._hits(
                    pa.array([document], pa.large_string()), dataclasses.replace(index, grams=(collided,))
                )
            )
        )
        == 1
    )
    assert overlap.overlaps(pa.array([document]), dataclasses.replace(index, grams=(collided,))).num_rows == 0


def test_more_hits_than_the_kernel_has_room_for_at_first_are_all_kept() -> None:
    numbers = " ".join(map(str, range(1000)))
    found = rows_of(overlap.overlaps(pa.array([numbers, numbers]), Index.build(items(numbers))))
    assert found == [(row, "0", 0, len(numbers), 1000 - 12) for row in range(2)]


def test_the_loaded_index_finds_what_the_saved_one_does(tmp_path: Path) -> None:
    index = Index.build(
        items(QUESTION, "Who wrote the book about seven white whales?", "too short"), ngram=10
    )
    index.save(tmp_path / "index.arrow")
    loaded = Index.load(tmp_path / "index.arrow")
    assert (loaded.ngram, loaded.unsearchable) == (10, {"quiz": 1})
    assert loaded.items.equals(index.items)
    texts = pa.array([TWELVE, "who wrote the BOOK about seven white whales", None, QUESTION])
    assert overlap.overlaps(texts, loaded).equals(overlap.overlaps(texts, index))
    assert overlap.overlaps(texts, loaded)["row"].to_pylist() == [0, 1, 3]


def test_the_saved_file_is_the_same_twice(tmp_path: Path) -> None:
    for name in ("one", "two"):
        Index.build(items(QUESTION, "short")).save(tmp_path / name)
    assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes()


def test_an_index_without_searchable_items_finds_nothing() -> None:
    for nothing in (items(), items("too short", "")):
        assert overlap.overlaps(pa.array([QUESTION, "too short"]), Index.build(nothing)).num_rows == 0
    assert overlap.overlaps(pa.array([], pa.string()), Index.build(items(QUESTION))).num_rows == 0


def test_mistakes_are_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"overlap: ngram is 7; allowed are 8 to 32"):
        Index.build(items(QUESTION), ngram=7)
    with pytest.raises(DataError, match=r"have the columns \['id', 'text'\], but no source"):
        Index.build(items(QUESTION).drop_columns("source"))
    other = items(QUESTION)
    with (
        pa.OSFile(str(tmp_path / "other.arrow"), "wb") as file,
        pa.ipc.new_file(file, other.schema) as writer,
    ):
        writer.write_table(other)
    with pytest.raises(DataError, match=r"other.arrow: format is nothing; allowed is overlap-index-1"):
        Index.load(tmp_path / "other.arrow")


@pytest.mark.shared
@pytest.mark.parametrize(
    ("evaluation", "training", "path", "field"),
    [
        ("gsm8k/test", "cot/gsm8k_train", "gsm8k/test.jsonl", "question"),
        (
            "icl/commonsense_qa",
            "cot/ecqa_train",
            "icl/commonsense_reasoning/commonsense_qa.jsonl.gz",
            "query",
        ),
        ("icl/math_qa", "cot/aqua_train", "icl/symbolic_problem_solving/math_qa.jsonl.gz", "query"),
    ],
)
def test_real_contamination_is_found_item_by_item(
    evaluation: str, training: str, path: str, field: str
) -> None:
    data = SHARED / "data"
    if not (data / "eval/groundtruth").is_dir():
        pytest.skip(f"no ground truth at {data}/eval/groundtruth")
    with gzip.open(data / "eval/groundtruth/overlap_13gram.csv.gz", "rt") as file:
        known = {
            row["example_index"]
            for row in csv.DictReader(file)
            if (row["eval_set"], row["training_source"]) == (evaluation, training)
        }
    raw = (data / "eval" / path).read_bytes()
    lines = (gzip.decompress(raw) if path.endswith("gz") else raw).decode().splitlines()
    index = Index.build(items(*(json.loads(line)[field] for line in lines)))
    texts = gzip.decompress((data / f"tasks/{training}.tsv.gz").read_bytes()).decode().split("\n")
    found = overlap.overlaps(pa.array([text.replace("\\n", "\n") for text in texts]), index)
    assert set(found["item_id"].to_pylist()) == known
    assert np.all(np.diff(found["row"].to_numpy()) >= 0)
