"""What the benchmarks claim about their corpus and about other tools is true."""

from __future__ import annotations

import doctest
import itertools
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

HERE = Path(__file__).parent


@pytest.fixture(scope="module")
def modules() -> Any:
    """corpus, pairs and dedup: scripts, which import each other by their names."""
    sys.path.insert(0, str(HERE))
    try:
        import corpus
        import dedup
        import pairs

        yield corpus, pairs, dedup
    finally:
        sys.path.remove(str(HERE))


@pytest.fixture(scope="module")
def grown(modules: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    corpus, _, _ = modules
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CURATE_SHARED", "/nonexistent")
        folder = tmp_path_factory.mktemp("grown")
        corpus.grow(1_000_000, folder)
        corpus.grow(1_000_000, folder / "again")
    return folder


def shingle_set(pairs: Any, text: str) -> set[tuple[str, ...]]:
    words = pairs.words(text)
    width = min(5, len(words))
    return {tuple(words[i : i + width]) for i in range(len(words) - width + 1)} if words else set()


def documents(folder: Path) -> dict[str, str]:
    table = pa.concat_tables([pq.read_table(part) for part in sorted(folder.glob("part-*.parquet"))])
    return dict(zip(table["id"].to_pylist(), table["text"].to_pylist(), strict=True))


def test_a_corpus_has_the_size_and_the_shares_of_copies_that_were_asked_for(grown: Path) -> None:
    texts, truth = documents(grown), pq.read_table(grown / "truth.parquet").to_pylist()
    size = sum(len(text.encode()) for text in texts.values())
    assert 900_000 < size < 1_100_000
    for kind in ("exact", "near"):
        assert round(len(texts) / 10) == sum(row["kind"] == kind for row in truth)
    assert len({row["original"] for row in truth if row["kind"] == "near"}) == round(len(texts) / 10)


def test_each_copy_has_exactly_the_similarity_that_the_truth_says(grown: Path, modules: Any) -> None:
    _, pairs, _ = modules
    texts = documents(grown)
    for row in pq.read_table(grown / "truth.parquet").to_pylist():
        a, b = (shingle_set(pairs, texts[row[column]]) for column in ("id", "original"))
        assert row["similarity"] == len(a & b) / len(a | b), row
        assert (row["kind"] == "exact") == (texts[row["id"]] == texts[row["original"]]), row


def test_the_same_arguments_give_the_same_corpus(grown: Path) -> None:
    for name in ("part-00.parquet", "truth.parquet"):
        assert (grown / name).read_bytes() == (grown / "again" / name).read_bytes()


def test_the_search_for_pairs_finds_what_comparing_all_of_them_finds(grown: Path, modules: Any) -> None:
    _, pairs, _ = modules
    part = grown / "part-00.parquet"
    sets = [shingle_set(pairs, text) for text in pq.read_table(part)["text"].to_pylist()]
    slow = {
        (i, j, len(a & b) / len(a | b))
        for (i, a), (j, b) in itertools.combinations(enumerate(sets), 2)
        if a & b and len(a & b) / len(a | b) >= 0.5
    }
    found = pairs.find_pairs(pairs.shingle_sets([part]), 0.5)
    assert {tuple(row.values()) for row in found.to_pylist()} == slow
    assert len(slow) > 10


def test_a_removal_is_wrong_where_no_kept_document_is_similar_enough(modules: Any) -> None:
    _, pairs, _ = modules
    # 0-1 and 1-2 are similar, 3-4 less so, 5 is alone
    table = pa.table([[0, 1, 3], [1, 2, 4], [0.9, 0.9, 0.6]], schema=pairs.PAIRS)
    words = np.array([9, 9, 9, 9, 9, 3])
    right = pairs.judge(table, words, np.array([True, False, True, True, True, True]), 0.8)
    assert (right["removed"], right["wrong"], right["recall"]) == (1, 0, 1.0)
    transitive = pairs.judge(table, words, np.array([True, False, False, False, True, False]), 0.8)
    assert {k: transitive[k] for k in ("removed", "wrong", "wrong_far", "wrong_short")} == {
        "removed": 4,
        "wrong": 3,  # 2, whose only partner went, too; 3, whose partner is not similar enough; 5
        "wrong_far": 2,
        "wrong_short": 1,
    }
    nothing = pairs.judge(table, words, np.ones(6, np.bool_), 0.8)
    assert (nothing["removed"], nothing["redundant"], nothing["recall"]) == (0, 2, 0.0)


def test_the_examples_of_the_benchmarks_are_true(modules: Any) -> None:
    for module in modules:
        outcome = doctest.testmod(module)
        assert outcome.failed == 0
