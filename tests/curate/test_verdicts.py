"""Policy on signals: every failing rule, both sides of every bound, and nothing but the signals of the document."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from curate.config import from_mapping, to_mapping
from curate.settings import PolicySettings
from curate.verdicts import VERDICTS, judge, judge_part
from filters.errors import ConfigError
from filters.gopher import RULES
from filters.rules import Rule
from filters.signals import SIGNALS

NAMES = [name for group in SIGNALS.values() for name in group]
ALL_RULES = [rule for rules in RULES.values() for rule in rules]

# A document that passes every rule: within all bounds of Gopher, in a language and of a quality.
GOOD: dict[str, Any] = {
    **dict.fromkeys(NAMES, 0.0),
    "word_count": 100, "mean_word_length": 5.0, "alphabetic_word_ratio": 1.0, "stop_word_count": 8,
    "id": "d", "source": "web", "language": "en", "language_score": 0.9, "quality": 0.9,
}  # fmt: skip
SCHEMA = pa.schema(
    [
        *((name, pa.float64()) for name in NAMES),
        ("id", pa.string()), ("source", pa.string()), ("language", pa.string()),
        ("language_score", pa.float64()), ("quality", pa.float64()),
    ]
)  # fmt: skip


def signals(*rows: dict[str, Any]) -> pa.Table:
    return pa.Table.from_pylist([{**GOOD, "id": f"d{i}", **row} for i, row in enumerate(rows)], SCHEMA)


def policy(**settings: Any) -> PolicySettings:
    return from_mapping(PolicySettings, settings)


def failures(table: pa.Table, settings: PolicySettings) -> list[tuple[int, str]]:
    return [(row["row"], row["rule"]) for row in judge(table, settings).to_pylist()]


@pytest.mark.parametrize("rule", ALL_RULES, ids=lambda rule: rule.name)
def test_the_bound_itself_passes_and_the_next_number_fails(rule: Rule) -> None:
    outside = math.nextafter(float(rule.bound), -math.inf if rule.kind == "min" else math.inf)
    table = signals({rule.signal: float(rule.bound)}, {rule.signal: outside})
    verdicts = judge(table).to_pylist()
    assert [(v["row"], v["rule"], v["value"], v["bound"]) for v in verdicts] == [
        (1, rule.name, outside, rule.bound)
    ]
    (verdict,) = verdicts
    assert (verdict["id"], verdict["source"], verdict["stage"], verdict["action"]) == (
        "d1",
        "web",
        "policy",
        "drop",
    )


def test_every_failing_rule_of_a_document_is_recorded() -> None:
    worst: dict[str, Any] = {rule.signal: -1.0 if rule.kind == "min" else 10.0**6 for rule in ALL_RULES}
    worst |= {"language": "de", "language_score": 0.1, "quality": 0.1}
    strict = policy(language={"keep": ["en"], "min_score": 0.5}, quality={"min_score": 0.5})
    found = judge(signals({}, worst), strict)
    failing = {
        r.name
        for r in ALL_RULES
        if (worst[r.signal] < r.bound if r.kind == "min" else worst[r.signal] > r.bound)
    }
    assert len(failing) == 21
    assert set(found["rule"].to_pylist()) == failing | {
        "language.keep",
        "language.min_score",
        "quality.min_score",
    }
    assert found["row"].to_pylist() == [1] * 24
    assert found.schema.equals(VERDICTS)


@pytest.mark.parametrize(("stage", "signal"), [("language", "language_score"), ("quality", "quality")])
def test_a_score_at_its_bound_passes_and_one_below_fails(stage: str, signal: str) -> None:
    table = signals({signal: 0.65}, {signal: math.nextafter(0.65, 0)}, {signal: 1.0}, {signal: 0.0})
    verdicts = judge(table, policy(use=[], **{stage: {"min_score": 0.65}})).to_pylist()
    assert [(v["row"], v["stage"], v["rule"], v["value"], v["bound"]) for v in verdicts] == [
        (1, stage, f"{stage}.min_score", math.nextafter(0.65, 0), 0.65),
        (3, stage, f"{stage}.min_score", 0.0, 0.65),
    ]


def test_what_was_not_measured_fails_nothing() -> None:
    unknown = {
        "quality": None,
        "language": None,
        "language_score": None,
        "word_count": None,
        "mean_word_length": math.nan,
    }
    strict = policy(language={"keep": ["en"], "min_score": 1.0}, quality={"min_score": 1.0})
    assert failures(signals(unknown, {"quality": math.nan, "language_score": 1.0}), strict) == []


def test_only_languages_that_are_kept_stay_and_the_reason_names_the_other() -> None:
    table = signals({"language": "en"}, {"language": "no"}, {"language": "de"}, {"language": "und"})
    verdicts = judge(table, policy(use=[], language={"keep": ["en", "no"]})).to_pylist()
    assert [(v["row"], v["stage"], v["rule"], v["value"], v["detail"]) for v in verdicts] == [
        (2, "language", "language.keep", None, "language de is not kept"),
        (3, "language", "language.keep", None, "language und is not kept"),
    ]


def test_without_a_list_every_language_is_kept() -> None:
    assert failures(signals({"language": "de"}, {"language": "zxx"}), policy(use=[])) == []


def test_bounds_can_be_set_and_the_verdict_names_the_new_one() -> None:
    table = signals({"word_count": 29}, {"word_count": 30}, {"word_count": 60})
    (verdict,) = judge(table, policy(set={"gopher.word_count.min": 30})).to_pylist()
    assert (verdict["row"], verdict["value"], verdict["bound"]) == (0, 29.0, 30.0)


def test_presets_that_are_not_used_fail_nothing() -> None:
    table = signals({"word_count": 1, "top_2gram_char_ratio": 1.0})
    assert failures(table, policy(use=[])) == []
    assert failures(table, policy(use=["gopher"])) == [(0, "gopher.word_count.min")]
    assert failures(table, policy(use=["gopher_repetition"])) == [
        (0, "gopher_repetition.top_2gram_char_ratio.max")
    ]


@pytest.mark.parametrize(
    ("exception", "expected"),
    [
        ({}, ["gopher.word_count.min", "language.keep", "language.min_score", "quality.min_score"]),
        ({"use": []}, ["language.keep", "language.min_score", "quality.min_score"]),
        ({"use": ["gopher_repetition"]}, ["language.keep", "language.min_score", "gopher_repetition.top_2gram_char_ratio.max", "quality.min_score"]),
        ({"language": False}, ["gopher.word_count.min", "quality.min_score"]),
        ({"quality": False}, ["gopher.word_count.min", "language.keep", "language.min_score"]),
        ({"use": [], "language": False, "quality": False}, []),
    ],
)  # fmt: skip
def test_a_source_may_have_rules_of_its_own(exception: dict[str, Any], expected: list[str]) -> None:
    bad = {
        "word_count": 1,
        "top_2gram_char_ratio": 1.0,
        "language": "de",
        "language_score": 0.1,
        "quality": 0.1,
    }
    table = signals({**bad, "source": "code"}, {"source": "code"}, {**bad, "source": "web"})
    general = {
        "use": ["gopher"],
        "language": {"keep": ["en"], "min_score": 0.5},
        "quality": {"min_score": 0.5},
    }
    found = failures(table, policy(**general, sources={"code": exception}))
    assert sorted(rule for row, rule in found if row == 0) == sorted(expected)
    everywhere = ["gopher.word_count.min", "language.keep", "language.min_score", "quality.min_score"]
    assert sorted(rule for row, rule in found if row == 2) == everywhere
    assert {row for row, _ in found} <= {0, 2}


def test_a_bound_that_is_set_holds_where_its_preset_is_in_use_and_disturbs_nowhere_else() -> None:
    table = signals({"word_count": 60, "source": "code"}, {"word_count": 60, "source": "web"})
    settings = policy(set={"gopher.word_count.min": 70}, sources={"code": {"use": []}})
    assert failures(table, settings) == [(1, "gopher.word_count.min")]


def test_a_table_without_sources_and_ids_is_judged_by_the_general_rules() -> None:
    table = signals({"word_count": 1, "quality": 0.0}, {}).drop_columns(["id", "source"])
    verdicts = judge(table, policy(quality={"min_score": 0.5}, sources={"": {"use": []}})).to_pylist()
    assert [(v["row"], v["rule"], v["id"], v["source"]) for v in verdicts] == [
        (0, "gopher.word_count.min", "", ""),
        (0, "quality.min_score", "", ""),
    ]


def test_an_empty_table_has_no_verdicts() -> None:
    assert judge(signals()).equals(VERDICTS.empty_table())


@pytest.mark.parametrize(
    ("table", "settings", "message"),
    [
        (signals({}), {"set": {"gopher.word_cont.min": 3}}, "no rule is called 'gopher.word_cont.min'; did you mean 'gopher.word_count.min'?"),
        (signals({}).drop_columns("language"), {"use": [], "language": {"keep": ["en"]}}, "policy.language.keep: 'language' was not measured."),
        (signals({}).drop_columns("language_score"), {"use": [], "language": {"min_score": 0.1}}, "policy.language.min_score: 'language_score' was not measured."),
        (signals({}).drop_columns("quality"), {"use": [], "quality": {"min_score": 0.1}}, "policy.quality.min_score: 'quality' was not measured."),
        (signals({}).drop_columns("word_count"), {}, "rule gopher.word_count.min: its signal 'word_count' was not measured"),
    ],
)  # fmt: skip
def test_rules_on_what_is_not_there_are_named(
    table: pa.Table, settings: dict[str, Any], message: str
) -> None:
    with pytest.raises(ConfigError) as caught:
        judge(table, policy(**settings))
    assert message in str(caught.value)


NUMBERS = (
    st.sampled_from([0.0, 0.05, 0.1, 0.2, 0.65, 0.8, 1.0, 3.0, 49.0, 50.0, 100_001.0, math.nan]) | st.none()
)
ROWS = st.lists(
    st.fixed_dictionaries(
        {
            "word_count": NUMBERS, "hash_word_ratio": NUMBERS, "top_2gram_char_ratio": NUMBERS, "quality": NUMBERS, "language_score": NUMBERS,
            "language": st.sampled_from(["en", "de", None]), "source": st.sampled_from(["web", "code", "books"]),
        }
    ),
    max_size=8,
)  # fmt: skip
STRICT = policy(
    language={"keep": ["en"], "min_score": 0.65},
    quality={"min_score": 0.1},
    sources={"code": {"use": ["gopher"], "language": False}},
)


def verdicts_by_hand(row: dict[str, Any]) -> list[str]:
    def is_known(name: str) -> bool:
        return row[name] is not None and not (isinstance(row[name], float) and math.isnan(row[name]))

    presets = ["gopher"] if row["source"] == "code" else ["gopher", "gopher_repetition"]
    found = [
        rule.name
        for preset in presets
        for rule in RULES[preset]
        if is_known(rule.signal)
        and (row[rule.signal] < rule.bound if rule.kind == "min" else row[rule.signal] > rule.bound)
    ]
    if row["source"] != "code" and row["language"] == "de":
        found.append("language.keep")
    if row["source"] != "code" and is_known("language_score") and row["language_score"] < 0.65:
        found.append("language.min_score")
    if is_known("quality") and row["quality"] < 0.1:
        found.append("quality.min_score")
    return found


@settings(max_examples=80, deadline=None)
@given(rows=ROWS, cut=st.integers(0, 8))
def test_a_document_is_judged_by_its_own_signals_however_the_table_is_cut(
    rows: list[dict[str, Any]], cut: int
) -> None:
    table = signals(*rows)
    whole = judge(table, STRICT)
    first, second = (judge(piece, STRICT) for piece in (table.slice(0, cut), table.slice(cut)))
    shifted = second.set_column(
        0, VERDICTS.field("row"), pa.array(second["row"].to_numpy() + min(cut, len(rows)))
    )
    assert pa.concat_tables([first, shifted]).to_pylist() == whole.to_pylist()
    chunked = pa.concat_tables([table.slice(i, 1) for i in range(len(rows))]) if rows else table
    assert judge(chunked, STRICT).to_pylist() == whole.to_pylist()
    expected = [(i, rule) for i, row in enumerate(table.to_pylist()) for rule in verdicts_by_hand(row)]
    found = [(v["row"], v["rule"]) for v in whole.to_pylist()]
    assert sorted(found) == sorted(expected)
    assert [row for row, _ in found] == sorted(row for row, _ in found)


# -- the engine step ---------------------------------------------------------------------------------------------


def run_part(
    folder: Path, table: pa.Table, overlaps: pa.Table | None = None
) -> tuple[list[dict[str, Any]], list[bool], dict[str, Any]]:
    folder.mkdir()
    pq.write_table(table, folder / "signals.parquet")
    if overlaps is not None:
        pq.write_table(overlaps, folder / "overlaps.parquet")
    result = judge_part(
        folder,
        signals=str(folder / "signals.parquet"),
        overlaps=str(folder / "overlaps.parquet") if overlaps is not None else None,
        policy=to_mapping(policy(use=["gopher"])),
    )
    passing = pq.read_table(folder / "passing.parquet")["passing"].to_pylist()
    return pq.read_table(folder / "verdicts.parquet").to_pylist(), passing, result


def test_a_part_says_which_documents_pass(tmp_path: Path) -> None:
    verdicts, passing, result = run_part(
        tmp_path / "a", signals({"word_count": 1, "hash_word_ratio": 1.0}, {}, {"word_count": 2})
    )
    assert [(v["row"], v["id"]) for v in verdicts] == [(0, "d0"), (0, "d0"), (2, "d2")]
    assert (passing, result) == ([False, True, False], {"rows": 3, "passing": 1})
    assert run_part(tmp_path / "b", signals()) == ([], [], {"rows": 0, "passing": 0})


def test_an_overlap_with_an_evaluation_item_is_a_verdict_with_item_and_place(tmp_path: Path) -> None:
    overlaps = pa.table(
        {
            "row": pa.array([1, 1, 2], pa.int64()),
            "item_id": ["q7", "q8", "q7"],
            "item_source": ["mmlu"] * 3,
            "ngrams": pa.array([5, 1, 2], pa.int64()),
            "span_start": pa.array([10, 90, 0], pa.int64()),
            "span_end": pa.array([80, 120, 50], pa.int64()),
        }
    )
    verdicts, passing, _ = run_part(tmp_path / "a", signals({"word_count": 1}, {}, {}, {}), overlaps)
    found = [v for v in verdicts if v["stage"] == "decontaminate"]
    assert [(v["row"], v["id"], v["partner_source"], v["partner_id"], v["value"], v["bound"], v["span_start"], v["span_end"]) for v in found] == [
        (1, "d1", "mmlu", "q7", 5.0, 1.0, 10, 80),
        (1, "d1", "mmlu", "q8", 1.0, 1.0, 90, 120),
        (2, "d2", "mmlu", "q7", 2.0, 1.0, 0, 50),
    ]  # fmt: skip
    assert {(v["rule"], v["action"]) for v in found} == {("decontaminate.ngram_overlap", "drop")}
    assert passing == [False, False, False, True]
