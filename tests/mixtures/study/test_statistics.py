"""Comparisons of arms: right where the answer is known, honest where there is none."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from filters.errors import DataError
from mixtures.study.statistics import (
    Scores,
    bits_per_byte,
    compare,
    holm,
    noise_floor,
    paired_differences,
    student_quantile,
)

LN2 = math.log(2)
Row = tuple[str, int, str, str, float, int]


def columns(rows: list[Row]) -> dict[str, list[Any]]:
    names = ("arm", "seed", "dataset", "id", "nll", "target_bytes")
    return {name: [row[i] for row in rows] for i, name in enumerate(names)}


def world(
    rng: np.random.Generator,
    *,
    datasets: int = 4,
    items: int = 10,
    seeds: int = 2,
    arms: int = 2,
    effects: tuple[float, ...] = (),
    dataset_noise: float = 0.0,
    seed_noise: float = 0.0,
    item_noise: float = 1.0,
) -> list[Row]:
    """Scores of arms that differ by ``effects`` in bits per byte; noise of each kind in the same unit."""
    effect = [*effects, *[0.0] * (arms - len(effects))]
    difficulty = rng.normal(3, 1, (datasets, items))
    order = rng.normal(0, 0.5, seeds)
    rows: list[Row] = []
    for a in range(arms):
        own = rng.normal(0, dataset_noise, datasets) if dataset_noise else np.zeros(datasets)
        for s in range(seeds):
            run = rng.normal(0, seed_noise) if seed_noise else 0.0
            bits = (
                difficulty
                + order[s]
                + effect[a]
                + own[:, None]
                + run
                + rng.normal(0, item_noise, difficulty.shape)
            )
            rows += [
                (f"arm{a}", s, f"d{d}", f"i{i}", float(bits[d, i]) * LN2 * 20, 20)
                for d in range(datasets)
                for i in range(items)
            ]
    return rows


def scores(rows: list[Row]) -> Scores:
    return Scores.from_columns(columns(rows))


def test_bits_per_byte_divides_all_bits_of_a_dataset_by_all_its_bytes() -> None:
    table = scores(
        [("a", 0, "x", "1", 6 * LN2, 2), ("a", 0, "x", "2", 2 * LN2, 6), ("a", 0, "y", "1", 5 * LN2, 1)]
    )
    found = bits_per_byte(table)
    assert found.datasets == ("x", "y")
    assert found.values[0, 0].tolist() == pytest.approx([1.0, 5.0])  # 8 bits in 8 bytes; 5 bits in 1 byte
    assert found.macro[0, 0] == pytest.approx(3.0)


def test_an_arm_without_a_seed_is_nan_there() -> None:
    table = scores([("a", 0, "x", "1", 1.0, 1), ("a", 1, "x", "1", 2.0, 1), ("b", 0, "x", "1", 3.0, 1)])
    assert np.isnan(bits_per_byte(table).macro).tolist() == [[False, False], [False, True]]


@pytest.mark.parametrize("shift", [-0.4, 0.25])
@pytest.mark.parametrize(("datasets", "seeds"), [(1, 1), (2, 3), (5, 1), (6, 3)])
def test_a_constant_shift_is_found_exactly(shift: float, datasets: int, seeds: int) -> None:
    rng = np.random.default_rng(5)
    rows = world(rng, datasets=datasets, seeds=seeds, arms=1, item_noise=1.0)
    rows += [("other", s, d, i, nll + shift * LN2 * size, size) for _, s, d, i, nll, size in rows]
    found = paired_differences(scores(rows), "other", "arm0", resamples=500)
    assert (found.mean, found.low, found.high) == pytest.approx((shift, shift, shift), abs=1e-9)
    assert found.verdict == ("better" if shift < 0 else "worse")
    assert found.p_value == pytest.approx(1 / 501)


def test_an_arm_is_not_distinguishable_from_its_copy() -> None:
    rows = world(np.random.default_rng(1), arms=1)
    rows += [("copy", *row[1:]) for row in rows]
    found = paired_differences(scores(rows), "copy", "arm0", resamples=200)
    assert (found.mean, found.low, found.high, found.p_value) == (0, 0, 0, 1)
    assert found.verdict == "not distinguishable"


@pytest.mark.parametrize(("datasets", "seeds"), [(1, 2), (2, 1), (5, 3)])
def test_swapping_the_arms_flips_the_sign(datasets: int, seeds: int) -> None:
    table = scores(
        world(
            np.random.default_rng(2), datasets=datasets, seeds=seeds, arms=3, effects=(0.3,), seed_noise=0.1
        )
    )
    one, other = (
        paired_differences(table, a, b, resamples=400) for a, b in (("arm0", "arm1"), ("arm1", "arm0"))
    )
    assert (one.mean, one.low, one.high) == pytest.approx((-other.mean, -other.high, -other.low), rel=1e-9)
    assert one.p_value == pytest.approx(other.p_value, rel=1e-6)
    assert one.low < one.high


@given(st.randoms(use_true_random=False))
@settings(max_examples=10, deadline=None)
def test_the_order_of_rows_does_not_matter(random: Any) -> None:
    rows = world(np.random.default_rng(3), effects=(-0.2,), seed_noise=0.1)
    shuffled = list(rows)
    random.shuffle(shuffled)
    found = [compare(scores(r), "arm1", resamples=200) for r in (rows, shuffled)]
    assert found[0] == found[1]


def test_lists_arrow_tables_and_data_frames_are_read_alike() -> None:
    table = columns(world(np.random.default_rng(4), effects=(-0.2,)))
    found = [
        paired_differences(Scores.from_columns(t), "arm0", "arm1", resamples=200)  # type: ignore[arg-type]
        for t in (table, pa.table(table), pl.DataFrame(table))
    ]
    assert found[0] == found[1] == found[2]


def test_the_mean_is_the_difference_of_macro_averages() -> None:
    table = scores(world(np.random.default_rng(6), datasets=5, seeds=3, arms=3, dataset_noise=0.3))
    macro = bits_per_byte(table).macro.mean(axis=1)
    found = paired_differences(table, "arm2", "arm0", resamples=100)
    assert found.mean == pytest.approx(macro[2] - macro[0])
    assert found.mean == pytest.approx(np.mean([value for _, value in found.by_dataset]))


@given(st.integers(0, 2**32), st.floats(0.1, 5))
@settings(max_examples=15, deadline=None)
def test_difficulty_that_both_arms_share_cancels(seed: int, scale: float) -> None:
    rng = np.random.default_rng(seed)
    rows = world(rng, datasets=3, items=6)
    hardness = {(d, i): float(rng.exponential(scale)) for _, _, d, i, _, _ in rows}
    harder = [(a, s, d, i, nll + hardness[d, i], size) for a, s, d, i, nll, size in rows]
    one, other = (paired_differences(scores(r), "arm0", "arm1", resamples=100) for r in (rows, harder))
    assert (one.mean, one.low, one.high) == pytest.approx((other.mean, other.low, other.high), abs=1e-7)


@given(st.integers(0, 2**32), st.floats(-0.8, 0.8), st.integers(1, 5), st.integers(1, 3))
@settings(max_examples=25, deadline=None)
def test_a_p_value_below_five_percent_is_an_interval_without_zero(
    seed: int, effect: float, datasets: int, seeds: int
) -> None:
    table = scores(
        world(np.random.default_rng(seed), datasets=datasets, seeds=seeds, effects=(effect,), seed_noise=0.1)
    )
    found = paired_differences(table, "arm0", "arm1", resamples=200)
    assert found.low <= found.mean <= found.high
    assert (found.p_value < 0.05) == (not found.low <= 0 <= found.high)
    assert 1 / 201 <= found.p_value <= 1


def test_a_wider_level_gives_a_wider_interval() -> None:
    table = scores(world(np.random.default_rng(8), datasets=6))
    half, most = (
        paired_differences(table, "arm0", "arm1", resamples=500, level=level) for level in (0.5, 0.99)
    )
    assert most.low < half.low < half.high < most.high


def test_one_dataset_is_compared_by_its_items_and_says_so() -> None:
    rng = np.random.default_rng(9)
    rows = world(rng, datasets=1, items=400, seeds=1, arms=2)
    found = paired_differences(scores(rows), "arm0", "arm1")
    bits = {(a, i): nll / LN2 / size for a, _, _, i, nll, size in rows}
    paired = np.array([bits["arm0", f"i{i}"] - bits["arm1", f"i{i}"] for i in range(400)])
    error = paired.std(ddof=1) / math.sqrt(400)  # equal lengths: bits per byte is a plain mean
    assert (found.low, found.high) == pytest.approx(
        (paired.mean() - 1.966 * error, paired.mean() + 1.966 * error), abs=0.15 * error
    )
    assert found.notes == (
        "Only one dataset: the interval covers other items of the same kind, not other datasets.",
        "One seed: the interval does not cover what another training run would change.",
    )


def test_with_many_items_the_interval_is_students_over_datasets() -> None:
    rng = np.random.default_rng(10)
    rows = world(rng, datasets=6, items=300, seeds=1, arms=2, dataset_noise=0.5)
    found = paired_differences(scores(rows), "arm0", "arm1")
    values = np.array([value for _, value in found.by_dataset])
    error = values.std(ddof=1) / math.sqrt(6)
    assert (found.high - found.low) / 2 == pytest.approx(2.571 * error, rel=0.12)
    assert found.notes[0] == "Only 6 datasets: the interval is wide for that reason, and approximate."


def test_ten_datasets_and_three_arms_of_three_seeds_need_no_note() -> None:
    table = scores(world(np.random.default_rng(11), datasets=10, items=3, seeds=3, arms=3))
    found = paired_differences(table, "arm0", "arm1", resamples=100)
    assert found.notes == () and found.seed_deviation is not None
    assert (found.datasets, found.items, found.seeds, found.seed_freedom) == (10, 30, 3, 4)


def test_few_training_runs_carry_a_note() -> None:
    table = scores(world(np.random.default_rng(11), datasets=10, items=3, seeds=2, arms=3))
    found = paired_differences(table, "arm0", "arm1", resamples=100)
    assert found.seed_freedom == 2
    assert found.notes == (
        "Few training runs: their noise is a rough estimate, and the interval may be too narrow. Add seeds.",
    )


def test_noise_of_seeds_widens_the_interval() -> None:
    # arms that differ by nothing but a number for each run: datasets and items agree perfectly
    runs = {("a", 0): 0.0, ("a", 1): 0.2, ("b", 0): 0.2, ("b", 1): 0.0}
    rows: list[Row] = [
        (arm, seed, f"d{d}", f"i{i}", (2 + shift) * LN2 * 10, 10)
        for (arm, seed), shift in runs.items()
        for d in range(4)
        for i in range(3)
    ]
    found = paired_differences(scores(rows), "a", "b")
    # residuals are -+0.1, +-0.1: variance 0.04 with 1 degree of freedom, for each of two arms over two seeds
    assert found.seed_deviation == pytest.approx(math.sqrt(2 * 0.04 / 2))
    assert found.mean == pytest.approx(0)
    assert (found.high - found.low) / 2 == pytest.approx(12.706 * 0.2, rel=0.05)


def test_a_model_entered_once_a_seed_counts_as_one_model() -> None:
    rows = world(np.random.default_rng(12), arms=2, seeds=3, seed_noise=0.2)
    base = [("base", s, d, i, 2.0 * LN2 * 20, 20) for a, s, d, i, _, _ in rows if a == "arm0"]
    once = [row for row in base if row[1] == 0]
    found = [paired_differences(scores([*rows, *b]), "arm0", "base", resamples=200) for b in (base, once)]
    assert found[0] == found[1]
    assert found[0].seeds == 3 and found[0].seed_deviation is not None
    assert noise_floor(scores([*rows, *base])).arms == noise_floor(scores(rows)).arms


def test_a_single_model_carries_the_whole_spread_of_the_other_arms_seeds() -> None:
    runs = {("a", 0): 0.0, ("a", 1): 0.1, ("a", 2): 0.2, ("base", 0): 1.0}
    rows: list[Row] = [
        (arm, seed, f"d{d}", f"i{i}", (2 + shift) * LN2 * 10, 10)
        for (arm, seed), shift in runs.items()
        for d in range(3)
        for i in range(2)
    ]
    found = paired_differences(scores(rows), "a", "base", resamples=100)
    assert found.mean == pytest.approx(-0.9)
    assert found.seed_deviation == pytest.approx(0.1 / math.sqrt(3))  # sd of 0, 0.1, 0.2 over three seeds


@pytest.mark.parametrize(
    "kinds",
    [
        {"datasets": 6, "items": 15, "seeds": 3, "dataset_noise": 0.3},
        {"datasets": 6, "items": 15, "seeds": 3, "seed_noise": 0.1},
        {"datasets": 3, "items": 25, "seeds": 1, "dataset_noise": 0.3},
        {"datasets": 1, "items": 60, "seeds": 1},
    ],
    ids=["datasets differ", "seeds differ", "three datasets", "one dataset"],
)
def test_equal_arms_are_told_apart_about_as_often_as_the_level_allows(kinds: dict[str, Any]) -> None:
    rng = np.random.default_rng(20)
    worlds = 400
    alarms = sum(
        paired_differences(scores(world(rng, arms=4, **kinds)), "arm0", "arm1", resamples=200, seed=k).verdict
        != "not distinguishable"
        for k in range(worlds)
    )
    # 5% of 400 is 20, standard deviation 4.4
    assert 8 <= alarms <= 36


def test_intervals_hold_the_true_effect_about_as_often_as_they_say_and_find_it() -> None:
    rng = np.random.default_rng(21)
    held = found_better = 0
    worlds = 400
    for k in range(worlds):
        table = scores(
            world(
                rng,
                datasets=8,
                items=15,
                seeds=3,
                arms=3,
                effects=(-0.5,),
                dataset_noise=0.2,
                seed_noise=0.05,
            )
        )
        found = paired_differences(table, "arm0", "arm1", resamples=200, seed=k)
        held += found.low <= -0.5 <= found.high
        found_better += found.verdict == "better"
    assert 0.91 <= held / worlds <= 0.98
    assert found_better / worlds > 0.8


def test_comparing_all_arms_adjusts_their_p_values_together() -> None:
    table = scores(world(np.random.default_rng(22), datasets=5, items=20, arms=4, effects=(0, -0.35, -0.6)))
    together = compare(table, "arm0", resamples=500)
    alone = [paired_differences(table, name, "arm0", resamples=500) for name in ("arm1", "arm2", "arm3")]
    assert [d.arm for d in together] == ["arm1", "arm2", "arm3"]
    assert [(d.mean, d.low, d.high, d.p_value) for d in together] == [
        pytest.approx((d.mean, d.low, d.high, d.p_value)) for d in alone
    ]
    assert [d.p_adjusted for d in together] == holm([d.p_value for d in alone])


def test_a_verdict_follows_the_adjusted_p_value() -> None:
    table = scores(world(np.random.default_rng(23), effects=(-1.0,)))
    found = paired_differences(table, "arm0", "arm1", resamples=200)
    assert found.verdict == "better"
    assert dataclasses.replace(found, p_adjusted=0.051).verdict == "not distinguishable"
    assert dataclasses.replace(found, p_adjusted=0.05).verdict == "better"


def test_nothing_to_compare_gives_nothing() -> None:
    assert compare(scores(world(np.random.default_rng(0), arms=1)), "arm0") == ()


@given(st.lists(st.floats(0, 1), min_size=1, max_size=8))
def test_holm_never_lowers_a_p_value_and_keeps_their_order(values: list[float]) -> None:
    adjusted = holm(values)
    assert all(a >= p for a, p in zip(adjusted, values, strict=True)) and max(adjusted) <= 1
    order = sorted(range(len(values)), key=lambda i: values[i])
    ranked = [adjusted[i] for i in order]
    assert ranked == sorted(ranked)
    assert ranked[0] == min(1, len(values) * values[order[0]])


@pytest.mark.parametrize(
    ("freedom", "probability", "published"),
    [(1, 0.975, 12.706), (2, 0.975, 4.303), (5, 0.975, 2.571), (5, 0.995, 4.032), (30, 0.975, 2.042), (120, 0.95, 1.658), (1000, 0.975, 1.962), (math.inf, 0.975, 1.960), (1, 0.75, 1.0), (3, 0.5, 0.0)],
)  # fmt: skip
def test_students_quantiles_are_those_of_the_printed_tables(
    freedom: float, probability: float, published: float
) -> None:
    assert student_quantile(probability, freedom) == pytest.approx(published, abs=6e-4)


def test_the_noise_floor_is_the_spread_of_one_arm_over_seeds() -> None:
    runs = {("a", 0): 1.0, ("a", 1): 1.2, ("b", 0): 2.0, ("b", 1): 2.0, ("b", 2): 2.6, ("c", 0): 5.0}
    rows: list[Row] = [(arm, seed, "d", "1", bits * LN2 * 4, 4) for (arm, seed), bits in runs.items()]
    found = noise_floor(scores(rows))
    assert [(n.arm, n.seeds) for n in found.arms] == [("a", 2), ("b", 3)]
    assert [n.largest for n in found.arms] == pytest.approx([0.2, 0.6])
    assert [n.deviation for n in found.arms] == pytest.approx([math.sqrt(0.02), math.sqrt(0.12)])
    assert found.deviation == pytest.approx(math.sqrt((0.02 + 0.24) / 3))
    assert noise_floor(scores([row for row in rows if row[1] == 0])).deviation is None


GOOD: list[Row] = [
    (arm, seed, "d", item, 1.0, 4) for arm in ("a", "b") for seed in (0, 1) for item in ("1", "2")
]


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([], "scores: no rows. Score at least one arm on at least one item."),
        ([*GOOD, GOOD[0]], "arm 'a', seed 0, item '1' of 'd': scored twice"),
        (GOOD[1:], "arm 'a', seed 0: 1 of 2 items, without '1' of 'd'; differences are paired by item"),
        (
            [("a", 0, "d", "1", math.nan, 4), *GOOD[1:]],
            "item '1' of 'd': nll nan, target_bytes 4; allowed: a finite nll",
        ),
        (
            [("a", 0, "d", "1", 1.0, 0), *GOOD[1:]],
            "nll 1.0, target_bytes 0; allowed: a finite nll, at least 1 byte",
        ),
        ([*GOOD[:-1], ("b", 1, "d", "2", 1.0, 5)], "5 target bytes|4 target bytes, elsewhere 5"),
    ],
)
def test_scores_that_cannot_be_compared_are_refused_with_their_place(rows: list[Row], message: str) -> None:
    with pytest.raises(DataError, match=message):
        scores(rows)


def test_an_unknown_arm_is_refused_with_those_there_are() -> None:
    with pytest.raises(DataError, match="no arm is called 'c'; allowed: a, b"):
        paired_differences(scores(GOOD), "c", "a")


def test_arms_with_different_seeds_are_not_paired() -> None:
    rows: list[Row] = [
        (arm, seed, "d", item, 1.0 + seed, 4)
        for arm, seeds in (("a", (0, 1)), ("b", (1, 2)))
        for seed in seeds
        for item in ("1", "2")
    ]
    with pytest.raises(
        DataError, match="arm 'a' has the seeds 0, 1, 'b' 1, 2; differences are paired by seed"
    ):
        paired_differences(scores(rows), "a", "b")


def test_one_item_has_no_interval() -> None:
    rows: list[Row] = [("a", 0, "d", "1", 1.0, 4), ("b", 0, "d", "1", 2.0, 4)]
    with pytest.raises(DataError, match="one item; an interval needs at least two"):
        paired_differences(scores(rows), "a", "b")


def test_options_out_of_range_are_refused() -> None:
    with pytest.raises(ValueError, match=r"level 1\.0, resamples 10000; allowed"):
        paired_differences(scores(GOOD), "a", "b", level=1.0)
