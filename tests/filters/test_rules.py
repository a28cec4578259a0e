"""Rules and policies: every failing rule of every document, bounds that users set, and what is refused."""

from __future__ import annotations

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from filters.errors import ConfigError
from filters.rules import Rule, failing, set_bounds

WORDS = Rule("t.words.min", "words", 50, "min", "test")
MANY = Rule("t.words.max", "words", 1000, "max", "test")
HASHES = Rule("t.hashes.max", "hashes", 0.1, "max", "test")


def table(**columns: list) -> pa.Table:
    return pa.table({name: pa.array(values) for name, values in columns.items()})


def test_a_bound_itself_passes_and_the_least_step_beyond_fails():
    signals = table(
        words=[49, 50, 51, 999, 1000, 1001], hashes=[0.1, 0.10000000000000002, 0.0, 0.1, 0.1, 0.1]
    )
    assert failing(signals, [WORDS, MANY, HASHES]).to_pylist() == [
        {"row": 0, "rule": "t.words.min", "value": 49.0, "bound": 50.0},
        {"row": 1, "rule": "t.hashes.max", "value": 0.10000000000000002, "bound": 0.1},
        {"row": 5, "rule": "t.words.max", "value": 1001.0, "bound": 1000.0},
    ]


def test_every_failing_rule_of_a_row_is_reported_in_the_order_of_names():
    found = failing(table(words=[1, 5000], hashes=[0.5, 0.5]), [WORDS, HASHES, MANY])
    assert list(zip(found["row"].to_pylist(), found["rule"].to_pylist(), strict=True)) == [
        (0, "t.hashes.max"),
        (0, "t.words.min"),
        (1, "t.hashes.max"),
        (1, "t.words.max"),
    ]


def test_nulls_and_not_a_number_fail_nothing():
    signals = table(words=[None, 1, None], hashes=[0.5, None, float("nan")])
    found = failing(signals, [WORDS, MANY, HASHES])
    assert list(zip(found["row"].to_pylist(), found["rule"].to_pylist(), strict=True)) == [
        (0, "t.hashes.max"),
        (1, "t.words.min"),
    ]
    assert failing(pa.table({"words": pa.nulls(3)}), [WORDS]).num_rows == 0


@pytest.mark.parametrize(
    "signals", [table(words=[60, 70]), table(words=[1]).slice(1)], ids=["all pass", "no rows"]
)
def test_nothing_that_fails_is_an_empty_table_of_the_same_schema(signals):
    found = failing(signals, [WORDS])
    assert found.num_rows == 0
    assert found.schema == failing(table(words=[1]), [WORDS]).schema
    assert found.schema.names == ["row", "rule", "value", "bound"]
    assert failing(signals, []).num_rows == 0


def test_chunked_and_sliced_signals_give_the_same_rows_as_whole_ones():
    whole = table(words=[1, 60, 2, None, 3])
    chunked = pa.concat_tables([whole[:2], whole[2:2], whole[2:]])
    assert failing(chunked, [WORDS]) == failing(whole, [WORDS])
    assert failing(whole.slice(1), [WORDS])["row"].to_pylist() == [1, 3]


NUMBERS = st.one_of(st.none(), st.sampled_from([0.0, 1.0, 2.0, 3.0]), st.floats(-5, 5))


@given(
    st.lists(st.tuples(NUMBERS, NUMBERS), max_size=30),
    st.lists(
        st.tuples(st.sampled_from("ab"), st.sampled_from(["min", "max"]), st.floats(-5, 5)),
        max_size=6,
        unique_by=lambda rule: (rule[0], rule[1]),
    ),
)
def test_failing_rules_are_those_of_a_loop_over_documents(rows, drawn):
    signals = pa.table(
        {name: pa.array([row[place] for row in rows], pa.float64()) for place, name in enumerate("ab")}
    )
    rules = [Rule(f"{signal}.{kind}", signal, bound, kind, "drawn") for signal, kind, bound in drawn]
    expected = []
    for place, row in enumerate(signals.to_pylist()):
        for rule in sorted(rules, key=lambda rule: rule.name):
            value = row[rule.signal]
            if value is not None and (value < rule.bound if rule.kind == "min" else value > rule.bound):
                expected.append({"row": place, "rule": rule.name, "value": value, "bound": rule.bound})
    assert failing(signals, rules).to_pylist() == expected


def test_a_signal_that_was_not_measured_is_refused_with_the_nearest_one():
    with pytest.raises(ConfigError) as caught:
        failing(table(word=[1], hashes=["x"]), [WORDS, HASHES])
    assert caught.value.faults == (
        "rule t.words.min: its signal 'words' was not measured; did you mean 'word'?",
        "rule t.hashes.max: its signal 'hashes' is of type string; a number is allowed",
    )
    with pytest.raises(ConfigError, match=r"its signal 'words' was not measured; measured are zzz$"):
        failing(table(zzz=[1]), [WORDS])


def test_set_bounds_changes_the_named_rules_only_and_keeps_their_order():
    changed = set_bounds((WORDS, MANY, HASHES), {"t.hashes.max": 0.2, "t.words.min": 30})
    assert [rule.bound for rule in changed] == [30, 1000, 0.2]
    assert [rule.name for rule in changed] == ["t.words.min", "t.words.max", "t.hashes.max"]
    assert WORDS.bound == 50
    assert set_bounds((WORDS,), {}) == (WORDS,)


def test_set_bounds_reports_all_mistakes_at_once_with_the_nearest_names():
    with pytest.raises(ConfigError) as caught:
        set_bounds(
            (WORDS, HASHES),
            {"t.word.min": 3, "qqq": 1, "t.hashes.max": "lots"},
            where="web.yaml: $.policy.set",
        )
    assert caught.value.faults == (
        "web.yaml: $.policy.set: no rule is called 't.word.min'; did you mean 't.words.min'?",
        "web.yaml: $.policy.set: no rule is called 'qqq'; the rules are t.words.min, t.hashes.max",
        "web.yaml: $.policy.set: t.hashes.max is 'lots'; a finite number is allowed",
    )


@pytest.mark.parametrize("bound", [True, None, float("nan"), float("inf")])
def test_set_bounds_refuses_what_is_no_finite_number(bound):
    with pytest.raises(ConfigError, match=r"^policy\.set: t\.words\.min is .*; a finite number is allowed$"):
        set_bounds((WORDS,), {"t.words.min": bound})


def test_bounds_that_no_document_can_pass_are_refused():
    message = "t.words.min is 2000 and t.words.max is 1000: no document can pass both; the min may be at most the max"
    with pytest.raises(ConfigError) as caught:
        set_bounds((WORDS, MANY), {"t.words.min": 2000})
    assert str(caught.value) == f"policy.set: {message}"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("a", "x", 1, "least", ""), "rule 'a': kind is 'least'; 'min' and 'max' are allowed"),
        (("a", "x", float("nan"), "min", ""), "rule 'a': bound is nan; a finite number is allowed"),
        (("a", "x", True, "min", ""), "rule 'a': bound is True; a finite number is allowed"),
        (("", "x", 1, "min", ""), "rule '' on signal 'x': name is empty; give it one"),
        (("a", "", 1, "min", ""), "rule 'a' on signal '': signal is empty; give it one"),
    ],
)
def test_a_rule_is_checked_when_it_is_made(arguments, message):
    with pytest.raises(ValueError) as caught:
        Rule(*arguments)
    assert str(caught.value) == message
