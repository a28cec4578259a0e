import doctest
import math

import pytest

from mixtures.train import SIZES, Recipe, Shape, recipe


def test_the_learning_rate_rises_in_a_line_and_then_stays():
    plan = Recipe(steps=6, warmup=4, learning_rate=0.8, schedule="constant")
    assert [plan.learning_rate_at(step) for step in range(1, 7)] == pytest.approx(
        [0.2, 0.4, 0.6, 0.8, 0.8, 0.8]
    )


def test_the_learning_rate_falls_along_half_a_cosine_to_a_tenth():
    plan = Recipe(steps=10, warmup=2, learning_rate=1.0, schedule="cosine")
    # halfway between the height at step 2 and the tenth at step 10 lies their mean, at step 6
    assert [plan.learning_rate_at(step) for step in (1, 2, 6, 10)] == pytest.approx([0.5, 1.0, 0.55, 0.1])
    rates = [plan.learning_rate_at(step) for step in range(2, 11)]
    assert rates == sorted(rates, reverse=True)


@pytest.mark.parametrize(
    ("steps", "warmup", "expected"), [(1, 0, 0.1), (1, 1, 1.0), (1, 4, 0.25), (3, 3, 1.0)]
)
def test_a_run_may_be_shorter_than_its_warmup_or_have_none(steps, warmup, expected):
    plan = Recipe(steps=steps, warmup=warmup, learning_rate=1.0)
    assert plan.learning_rate_at(steps) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("setting", "value", "message"),
    [
        ("steps", 0, "steps is 0; allowed: 1 or more"),
        ("tokens_per_step", 0, "tokens_per_step is 0; allowed: 1 or more"),
        ("epochs", 0, "epochs is 0; allowed: 1 or more"),
        ("learning_rate", 0.0, r"learning_rate is 0\.0; allowed: a finite number above 0"),
        ("learning_rate", math.nan, "learning_rate is nan; allowed"),
        ("clip", -1.0, r"clip is -1\.0; allowed: a finite number above 0"),
        ("clip", math.inf, "clip is inf; allowed"),
        ("warmup", -1, "warmup is -1; allowed: 0 or more"),
        ("weight_decay", -0.1, r"weight_decay is -0\.1; allowed: 0 or more"),
        ("schedule", "linear", "schedule is 'linear'; allowed: 'constant' or 'cosine'"),
    ],
)
def test_a_setting_out_of_range_is_named_with_what_is_allowed(setting, value, message):
    with pytest.raises(ValueError, match=message):
        Recipe(**{setting: value})


def test_a_shape_that_rotary_positions_cannot_halve_is_refused():
    with pytest.raises(
        ValueError, match=r"hidden is 66 with 4 heads; allowed: a multiple of 8 \(2 x heads\)"
    ):
        Shape(hidden=66, feed_forward=8, layers=1, heads=4)
    with pytest.raises(ValueError, match="layers is 0; allowed: 1 or more"):
        Shape(hidden=64, feed_forward=8, layers=0, heads=4)
    assert (
        Shape(hidden=66, feed_forward=8, layers=1, heads=3).parameters(10)
        == 660 + 4 * 66**2 + 3 * 66 * 8 + 198
    )


@pytest.mark.parametrize(
    ("size", "vocab_size", "low", "high"), [("1M", 2048, 1.0e6, 1.1e6), ("13M", 16384, 12.5e6, 13.5e6)]
)
def test_a_size_is_about_as_large_as_its_name(size, vocab_size, low, high):
    assert low < SIZES[size].parameters(vocab_size) < high


def test_the_examples_in_the_docstrings_hold():
    found = doctest.testmod(recipe)
    assert (found.failed, found.attempted) == (0, 2)
