import json
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from filters.errors import DataError
from mixtures.draws import key_of
from mixtures.plan import Leaf, Plan, plan_of, variant_shares

GOLDEN = Path(__file__).parent / "golden" / "plan.json"
weights = st.lists(st.integers(0, 50), min_size=1, max_size=6).filter(any)


def leaves_of(weight_list, rows=40):
    return {f"leaf{i}": rows + i for i in range(len(weight_list))}


def weights_of(weight_list):
    return {f"leaf{i}": weight for i, weight in enumerate(weight_list)}


def plan_from(weight_list, seed=0, rows=40):
    return plan_of(leaves_of(weight_list, rows), weights_of(weight_list), seed=seed, examples=100)


def leaf_by_definition(weight_list, seed, t):
    """The leaf of index t in exact arithmetic, from the definition in the module's docstring."""
    golden_step = int((5**0.5 - 1) / 2 * 2**53) * 2**11  # 53 right bits of 2**64 / golden ratio
    assert abs(0x9E3779B97F4A7C15 - golden_step) < 2**12
    point = Fraction((0x9E3779B97F4A7C15 * t + key_of(seed, "segment", 0)) % 2**64, 2**64) * sum(weight_list)
    for leaf in range(len(weight_list)):
        if point < sum(weight_list[: leaf + 1]):
            return leaf
    raise AssertionError("a point lies below the sum of all weights")


@given(weights, st.integers(0, 2**32), st.integers(1, 300))
def test_leaves_ordinals_and_counts_are_those_of_counting_one_by_one(weight_list, seed, n):
    plan = plan_from(weight_list, seed)
    seen = [0] * len(weight_list)
    block = plan.block(0, n)
    for t in range(n):
        leaf = leaf_by_definition(weight_list, seed, t)
        assert (block.leaf[t], block.ordinal[t]) == (leaf, seen[leaf])
        seen[leaf] += 1
    assert plan.counts(n) == {f"leaf{i}": count for i, count in enumerate(seen)}


@given(weights, st.integers(0, 10**15), st.integers(0, 120), st.integers(0, 120))
def test_a_block_is_its_two_halves_joined_anywhere_in_the_plan(weight_list, lo, first, second):
    plan = plan_from(weight_list, seed=3)
    whole = plan.block(lo, lo + first + second)
    parts = plan.block(lo, lo + first), plan.block(lo + first, lo + first + second)
    for name in ("index", "leaf", "ordinal", "epoch", "row", "variant", "template"):
        assert np.array_equal(
            getattr(whole, name), np.concatenate([getattr(part, name) for part in parts])
        ), name


@given(st.lists(st.integers(0, 10**6), min_size=1, max_size=8).filter(any), st.integers(0, 10**15))
def test_counts_stay_within_ten_examples_of_the_weights(weight_list, n):
    counts = plan_from(weight_list).counts(n)
    assert sum(counts.values()) == n
    bound = 10 if n <= 10**9 else 30  # the drift of a golden-ratio sequence grows with log n
    for i, weight in enumerate(weight_list):
        assert abs(counts[f"leaf{i}"] - Fraction(n * weight, sum(weight_list))) <= bound


def test_every_index_up_to_a_million_is_within_ten_of_the_weights():
    shares = np.array([0.46, 0.28, 0.2, 0.058, 0.002])
    plan = plan_of(
        leaves_of(shares, 10**6),
        dict(zip(leaves_of(shares), shares.tolist(), strict=True)),
        seed=17,
        examples=1,
    )
    leaf = plan.block(0, 1_000_000).leaf
    steps = np.arange(1, 1_000_001)
    for i, share in enumerate(shares):
        assert abs(np.cumsum(leaf == i) - steps * share).max() < 10


def test_an_epoch_shows_every_row_once_and_the_next_epoch_in_another_order():
    plan = plan_from([1], rows=50)
    rows = plan.block(0, 150).row.reshape(3, 50)
    assert [sorted(epoch) for epoch in rows.tolist()] == [list(range(50))] * 3
    assert len({tuple(epoch) for epoch in rows.tolist()}) == 3


@given(st.integers(1, 60), st.integers(0, 200), st.integers(0, 5), st.integers(0, 60), st.integers(0, 60))
def test_rows_drawn_are_the_rows_of_the_blocks_sorted(rows, n, epoch, a, b):
    plan = plan_from([1], seed=5, rows=rows)
    lo, hi = min(a, b), max(a, b)
    row, ordinal, variant, template = plan.rows_drawn(0, epoch, n, lo, hi)
    block = plan.block(0, n)
    wanted = (block.epoch == epoch) & (block.row >= lo) & (block.row < hi)
    expected = sorted(
        zip(
            *(getattr(block, c)[wanted].tolist() for c in ("row", "ordinal", "variant", "template")),
            strict=True,
        )
    )
    assert (
        list(zip(row.tolist(), ordinal.tolist(), variant.tolist(), template.tolist(), strict=True))
        == expected
    )


def varied_plan():
    variants = variant_shares(
        [("0shot", 0.35, ("a", "b")), ("3shot", 0.35, ("a", "b")), ("0shot+cot", 0.3, ("c", "d", "e"))]
    )
    return plan_of(
        [Leaf("nli", 90, variants), Leaf("qa", 7, variants)], {"nli": 0.8, "qa": 0.2}, seed=17, examples=500
    )


def test_variants_keep_to_their_shares_inside_every_leaf():
    block = varied_plan().block(0, 20_000)
    for leaf in (0, 1):
        variant = block.variant[block.leaf == leaf]
        for i, share in enumerate((0.35, 0.35, 0.3)):
            assert abs((variant == i).sum() - share * len(variant)) < 10


def test_templates_are_balanced_over_rows_and_a_row_meets_the_next_one_in_the_next_epoch():
    plan = varied_plan()
    epoch, row, variant, template = plan.examples_of(0, np.arange(90 * 6))
    for first_epoch in range(5):
        both = {}
        for chosen in (first_epoch, first_epoch + 1):
            at = (epoch == chosen) & (variant == 2)
            both[chosen] = dict(zip(row[at].tolist(), template[at].tolist(), strict=True))
        common = both[first_epoch].keys() & both[first_epoch + 1].keys()
        assert len(common) > 0
        for r in common:
            assert both[first_epoch + 1][r] == (both[first_epoch][r] + 1) % 3
    # All 90 rows, one epoch, one variant only: 30 rows for each of the three templates.
    only = plan_of(
        [Leaf("nli", 90, variant_shares([("0shot", 1, ("c", "d", "e"))]))], {"nli": 1}, seed=1, examples=90
    )
    assert np.bincount(only.block(0, 90).template).tolist() == [30, 30, 30]


@given(weights, st.data())
def test_a_change_of_weights_neither_loses_nor_repeats_an_example(weight_list, data):
    others = data.draw(
        st.lists(st.integers(0, 50), min_size=len(weight_list), max_size=len(weight_list)).filter(any)
    )
    start = data.draw(st.integers(1, 200))
    plan = plan_from(weight_list)
    changed = plan.reweighted(start, weights_of(others))
    block = changed.block(0, 300)
    assert np.array_equal(block.leaf[:start], plan.block(0, start).leaf)
    for leaf in range(len(weight_list)):
        ordinals = block.ordinal[block.leaf == leaf]
        assert ordinals.tolist() == list(range(len(ordinals)))
        assert changed.counts(300)[f"leaf{leaf}"] == len(ordinals)
    assert Plan.from_json(changed.to_json()) == changed


@settings(max_examples=20)
@given(st.integers(0, 2**40), st.integers(1, 6))
def test_any_number_of_ranks_reads_the_same_global_batch(step, log_ranks):
    plan, batch, ranks = varied_plan(), 192, 2**log_ranks
    lo = step * batch
    slices = [plan.block(lo + r * batch // ranks, lo + (r + 1) * batch // ranks) for r in range(ranks)]
    whole = plan.block(lo, lo + batch)
    assert np.array_equal(np.concatenate([part.leaf for part in slices]), whole.leaf)
    assert np.array_equal(np.concatenate([part.row for part in slices]), whole.row)


def test_one_index_says_in_words_what_the_block_says_in_numbers():
    plan = varied_plan()
    block = plan.block(10**12, 10**12 + 50)
    for k in range(50):
        pick, leaf = plan[10**12 + k], plan.leaves[int(block.leaf[k])]
        variant = leaf.variants[int(block.variant[k])]
        assert (pick.leaf, pick.variant) == (leaf.name, variant.name)
        assert pick.template == variant.templates[int(block.template[k])]
        assert (pick.ordinal, pick.epoch, pick.row) == (block.ordinal[k], block.epoch[k], block.row[k])
        assert pick.epoch == pick.ordinal // leaf.rows
    with pytest.raises(IndexError, match="-1"):
        plan[-1]


def test_a_plan_comes_back_from_its_json_and_equals_the_golden_one():
    """Regenerate after a deliberate change of the algorithm: ``python -m tests.mixtures.test_plan``."""
    plan = varied_plan()
    assert Plan.from_json(plan.to_json()) == plan
    golden = json.loads(GOLDEN.read_text())
    assert json.loads(plan.to_json()) == golden["plan"]
    for index, pick in golden["picks"].items():
        assert [getattr(plan[int(index)], name) for name in plan[0].__slots__] == pick


def test_the_order_of_a_leaf_does_not_depend_on_the_other_leaves_or_on_weights():
    few = plan_of({"a": 30, "b": 30}, {"a": 1, "b": 1}, seed=9, examples=1)
    many = plan_of({"c": 10, "a": 30}, {"c": 5, "a": 0.2}, seed=9, examples=1)
    rows_few = few.block(0, 100)
    rows_many = many.block(0, 3000)
    a_few, a_many = rows_few.row[rows_few.leaf == 0], rows_many.row[rows_many.leaf == 1]
    assert len(a_few) > 40 and len(a_many) > 40
    assert np.array_equal(a_few[:40], a_many[:40])


def test_weight_on_a_leaf_without_rows_is_refused():
    with pytest.raises(DataError, match="leaf 'qa' has weight but no rows"):
        plan_of({"nli": 3, "qa": 0}, {"nli": 1, "qa": 1}, seed=0, examples=1)


def test_weights_that_cannot_be_shares_are_refused():
    for bad in ({"a": 0}, {"a": -1}):
        with pytest.raises(ValueError, match="positive sum"):
            plan_of({"a": 3}, bad, seed=0, examples=1)


def test_a_plan_of_another_algorithm_or_format_is_refused_by_number():
    text = plan_from([1]).to_json()
    with pytest.raises(DataError, match="algorithm 2"):
        Plan.from_json(text.replace('"algorithm": 1', '"algorithm": 2'))
    with pytest.raises(DataError, match="format 9"):
        Plan.from_json(text.replace('"format": 1', '"format": 9'))


if __name__ == "__main__":
    plan = varied_plan()
    picks = {
        str(i): [getattr(plan[i], name) for name in plan[0].__slots__] for i in (0, 1, 2, 3, 499, 10**12)
    }
    GOLDEN.parent.mkdir(exist_ok=True)
    GOLDEN.write_text(json.dumps({"plan": json.loads(plan.to_json()), "picks": picks}, indent=1) + "\n")
