"""What is counted from a curated run: the small run of ``conftest.py``, whose every number is known by hand."""

from __future__ import annotations

import copy
import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from curate import findings
from curate.schema import DECISIONS, STAGES
from filters.errors import RunError


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory, toy: SimpleNamespace) -> Path:
    return toy.write(tmp_path_factory.mktemp("run"), parts=2)


def fate_of(run: Path) -> pl.DataFrame:
    return findings.first_stage(findings.read_drops(run))


def funnel_of(run: Path, manifest: dict[str, Any]) -> list[findings.Funnel]:
    return findings.count_funnel(run, manifest, fate_of(run))


def rules_of(run: Path, manifest: dict[str, Any]) -> list[findings.RuleCount]:
    drops = findings.read_drops(run)
    in_force = findings.rules_in_force(manifest["config"])
    return findings.count_rules(run, drops, findings.first_stage(drops), in_force)


@pytest.fixture(scope="module")
def histograms(run: Path, toy: SimpleNamespace) -> dict[str, findings.Measured]:
    rules = rules_of(run, toy.manifest())
    return {h.signal: h for h in findings.measure_signals(run, rules, fate_of(run))}


def bins(h: findings.Measured) -> list[tuple[float, float, int, int]]:
    """The bins of a histogram: from, to, kept, dropped."""
    return list(
        zip(h.edges[:-1].tolist(), h.edges[1:].tolist(), h.kept.tolist(), h.dropped.tolist(), strict=True)
    )


def test_a_document_is_lost_at_the_first_stage_that_drops_it(run: Path, toy: SimpleNamespace) -> None:
    none = dict.fromkeys(STAGES, 0)
    web = {"policy": 4, "language": 1, "quality": 1, "decontaminate": 1, "exact": 2, "minhash": 1}
    assert funnel_of(run, toy.manifest()) == [
        findings.Funnel("web", 24, 2, none | web, 12),
        findings.Funnel("books", 8, 0, none | {"policy": 1}, 7),
    ]


def test_rules_stand_by_stage_and_those_that_nothing_fails_last(run: Path, toy: SimpleNamespace) -> None:
    rules = rules_of(run, toy.manifest())
    assert [(r.rule, r.failing, r.only) for r in rules if r.stage == "policy" and r.failing] == [
        ("gopher.word_count.min", 4, 3),
        ("gopher_repetition.top_2gram_char_ratio.max", 2, 1),
    ]
    policy = [r.failing for r in rules if r.stage == "policy"]
    assert policy == sorted(policy, reverse=True) and policy[-1] == 0
    assert [STAGES.index(r.stage) for r in rules] == sorted(STAGES.index(r.stage) for r in rules)


@pytest.mark.parametrize(
    ("signal", "bound", "below"),
    [("word_count", 50, True), ("top_2gram_char_ratio", 0.2, False), ("language_score", 0.5, True)],
)
def test_a_histogram_counts_every_document_once_and_no_bar_straddles_a_cut(
    histograms: dict[str, findings.Measured], toy: SimpleNamespace, signal: str, bound: float, below: bool
) -> None:
    values = [row[signal] for row in toy.signals() if row[signal] is not None]
    found, (cut,) = bins(histograms[signal]), (c for c in histograms[signal].cuts if f" {bound}" in c.label)
    assert sum(kept + dropped for _, _, kept, dropped in found) == len(values)
    assert histograms[signal].missing == len(toy.signals()) - len(values)
    assert not [1 for low, high, _, _ in found if low < cut.at < high]
    beyond = sum(k + d for low, high, k, d in found if (high <= cut.at if below else low >= cut.at))
    assert beyond == sum(value < bound if below else value > bound for value in values)


def test_a_value_equal_to_its_bound_lies_on_the_kept_side(histograms: dict[str, findings.Measured]) -> None:
    assert [k for low, _, k, _ in bins(histograms["word_count"]) if low == 50] == [1]
    # two kept documents have exactly the greatest allowed ratio: the cut is just above them
    cut = np.nextafter(0.2, np.inf)
    ratios = bins(histograms["top_2gram_char_ratio"])
    assert sum(kept for low, _, kept, _ in ratios if low >= cut) == 0
    assert sum(kept for _, high, kept, _ in ratios if high == cut) == 2


def test_languages_count_what_stays_and_what_the_language_stage_drops(
    run: Path, toy: SimpleNamespace
) -> None:
    german = [key for key in toy.texts() if key[1] % 5 == 4]
    stays = sum(key not in toy.drops for key in german)
    at_the_stage = 1  # ("web", 4), in German; ("web", 2) fails the policy first
    assert findings.count_languages(run, fate_of(run)) == [
        ("en", 30 - len(german), 19 - stays, 0),
        ("de", len(german), stays, at_the_stage),
    ]


def test_similarities_quality_contamination_and_quarantine_are_counted(run: Path) -> None:
    similar = findings.count_similarities(run)
    assert {outcome: np.flatnonzero(counts).tolist() for outcome, counts in similar.items()} == {
        "duplicate": [45],
        "near_miss": [35],
    }
    quality = findings.count_quality(run, fate_of(run))
    assert quality is not None
    assert {source: counts.sum(axis=1).tolist() for source, counts in quality.items()} == {
        "web": [12, 10],
        "books": [7, 1],
    }
    assert findings.count_contamination(run) == [("gsm8k", 1, 1)]
    assert findings.count_quarantine(run) == [("malformed_json", "web", 1), ("missing_text", "web", 1)]
    assert [row[:4] for row in findings.first_quarantined(run, 1)] == [("web", "a.jsonl", 3, 4)]


def test_what_was_not_measured_is_none(tmp_path: Path, toy: SimpleNamespace) -> None:
    run = toy.write(tmp_path / "run", without=("signals",))
    assert findings.count_languages(run, fate_of(run)) is None
    assert findings.count_quality(run, fate_of(run)) is None


def test_examples_are_the_two_nearest_to_the_bound_and_the_farthest(run: Path) -> None:
    examples = findings.choose_examples(run)
    found = [(*example.key, example.value) for example in examples["gopher.word_count.min"]]
    assert found == [("web", "d01", 49), ("books", "d00", 30), ("web", "d02", 3)]
    assert examples["minhash.jaccard (near miss)"][0].near_miss


def test_a_text_is_read_from_before_the_span_that_it_shows(run: Path, toy: SimpleNamespace) -> None:
    (example,) = findings.choose_examples(run)["decontaminate.ngram_overlap"]
    assert (example.span, example.start) == ((24_027, 24_045), 23_877)
    texts = findings.read_texts(findings.shards_of(run, "documents"), [example])
    assert texts == {(("web", "d06"), 23_877): toy.texts()["web", 6][23_877 : 23_877 + findings.WINDOW]}


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"web": {"read": 25}}, "source 'web': read is 25 but quarantined + documents is 24"),
        ({"web": {"kept": 13}}, "source 'web': documents is 22 but dropped + kept is 23; source 'web': kept is 13 but rows in kept/ is 12"),
        ({"books": {"dropped": 2, "kept": 6}}, "source 'books': dropped is 2 but documents with a drop in decisions/ is 1"),
        ({"web": {"quarantined": 1, "read": 23}}, "source 'web': quarantined is 1 but rows in quarantine/ is 2"),
        ({"books": {"documents": 9, "read": 9, "kept": 8}}, "source 'books': documents is 9 but rows in documents/ is 8"),
        ({"books": None}, "source 'books' is not in the manifest"),
        ({"books": {"quarantined": None}}, "source 'books' has no count 'quarantined' in the manifest"),
    ],
)  # fmt: skip
def test_numbers_that_do_not_add_up_fail_the_run(
    run: Path, toy: SimpleNamespace, wrong: dict[str, dict[str, Any] | None], message: str
) -> None:
    manifest = toy.manifest()
    for source, counts in wrong.items():
        if counts is None:
            del manifest["counts"][source]
        else:
            manifest["counts"][source] |= counts
    with pytest.raises(RunError, match=re.escape(message)):
        funnel_of(run, manifest)


def test_a_kept_document_with_a_drop_fails_the_run_even_where_the_counts_agree(
    tmp_path: Path, toy: SimpleNamespace
) -> None:
    stays = [key for key in toy.texts() if key not in toy.drops and key != ("web", 21)]
    run = toy.write(tmp_path / "run", kept=[*stays, ("web", 0)])
    with pytest.raises(RunError, match="1 kept documents have a drop in decisions/"):
        funnel_of(run, toy.manifest())


def test_a_drop_at_an_unknown_stage_fails_the_run(tmp_path: Path, toy: SimpleNamespace) -> None:
    row = {"id": "d20", "source": "web", "stage": "whim", "rule": "whim.none", "action": "drop"}
    with pytest.raises(RunError, match="drops at stage 'whim'; allowed: normalize, policy, language"):
        findings.read_drops(toy.write(tmp_path / "run", extra=[row]))


@pytest.mark.parametrize(
    ("pairs", "unverified"),
    [
        ([(8, 7, 1, "exact"), (9, 7, 1, "exact"), (11, 10, 0.8, "minhash")], 0),
        ([(8, 7, 1, "exact"), (9, 7, 1, "exact"), (11, 10, 0.79, "minhash")], 1),
        ([(8, 7, 1, "exact"), (11, 12, 0.9, "minhash")], 2),
        ([], 3),
    ],
)
def test_a_removed_duplicate_is_verified_by_a_similar_enough_pair_with_its_partner(
    tmp_path: Path, toy: SimpleNamespace, pairs: list[tuple[int, int, float, str]], unverified: int
) -> None:
    run = toy.write(tmp_path / "run", pairs=[toy.pair(*row) for row in pairs])
    found = findings.verify_duplicates(run, fate_of(run), toy.manifest())
    assert found == findings.Verified(exact=2, minhash=1, confirmed=3 - unverified)


@pytest.mark.parametrize(("detail", "confirmed"), [(None, 2), ("generation 1 of the index", 3)])
def test_a_near_duplicate_whose_partner_was_dropped_as_well_is_not_verified_unless_the_partner_is_in_the_index(
    tmp_path: Path, toy: SimpleNamespace, detail: str | None, confirmed: int
) -> None:
    changes = copy.deepcopy(toy.drops["web", 11][0])
    changes["partner"] = 5  # dropped by the quality stage; the index may hold another document of that key
    row = {"id": "d11", "source": "web", "action": "drop", **changes, "detail": detail}
    row |= {"partner_source": "web", "partner_id": f"d{row.pop('partner'):02d}"}
    pairs = [toy.pair(8, 7, 1, "exact"), toy.pair(9, 7, 1, "exact"), toy.pair(11, 5, 0.9, "minhash")]
    run = toy.write(tmp_path / "run", pairs=pairs)
    table = pq.read_table(run / "decisions" / "part-000000.parquet").to_pylist()
    table = [row if (r["source"], r["id"], r["stage"]) == ("web", "d11", "minhash") else r for r in table]
    pq.write_table(pa.Table.from_pylist(table, DECISIONS), run / "decisions" / "part-000000.parquet")
    found = findings.verify_duplicates(run, fate_of(run), toy.manifest())
    assert found == findings.Verified(exact=2, minhash=1, confirmed=confirmed)


def test_the_documents_with_the_most_copies_come_first_and_ties_go_by_their_keys(
    tmp_path: Path, toy: SimpleNamespace
) -> None:
    pairs = [
        toy.pair(8, 7, 1.0, "exact"),
        toy.pair(11, 10, 0.9, "minhash"),
        toy.pair(12, 10, 0.85, "minhash"),
        toy.pair(13, 1, 1.0, "exact"),
        {**toy.pair(14, 7, 0.5, "minhash"), "outcome": "near_miss"},
    ]
    run = toy.write(tmp_path / "run", pairs=pairs, parts=2)
    found = [(c.key, c.exact, c.near, c.lowest) for c in findings.largest_clusters(run, 3)]
    assert found == [(("web", "d10"), 0, 2, 0.85), (("web", "d01"), 1, 0, 1.0), (("web", "d07"), 1, 0, 1.0)]
    assert len(findings.largest_clusters(run, 2)) == 2


def test_the_texts_of_a_pair_are_found_by_their_ids(run: Path, toy: SimpleNamespace) -> None:
    examples = findings.choose_examples(run)
    chosen = [*examples["minhash.jaccard"], *examples["decontaminate.ngram_overlap"]]
    found = findings.find_pair_texts(findings.shards_of(run, "documents"), chosen)
    assert found == {examples["minhash.jaccard"][0]: (toy.texts()["web", 11], toy.texts()["web", 10])}
