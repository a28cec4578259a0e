from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mixtures.rates import equal, exact, explicit, normalized, proportional


@given(st.dictionaries(st.text(max_size=3), st.integers(0, 10**6), max_size=6), st.integers(1, 10**6))
def test_the_rate_of_a_task_is_its_size_up_to_the_cap(sizes, cap):
    assert proportional(sizes, cap=cap) == {name: min(size, cap) for name, size in sizes.items()}
    assert proportional(sizes) == sizes


def test_a_task_with_a_lower_cap_of_its_own_keeps_it():
    sizes = {"a": 100, "b": 100, "c": 5}
    assert proportional(sizes, cap=50, caps={"b": 10, "c": 80}) == {"a": 50, "b": 10, "c": 5}
    assert proportional(sizes, caps={"b": 10}) == {"a": 100, "b": 10, "c": 5}


def test_capped_rates_are_those_of_the_paper_for_its_english_to_german_example():
    # Raffel et al. 2020, section 3.5.2: r_m = min(e_m, K) / sum over n of min(e_n, K)
    shares = normalized(proportional({"wmt": 4_500_000, "rte": 2_500, "cola": 8_500}, cap=2**14))
    assert shares == {
        name: Fraction(size, 16_384 + 2_500 + 8_500)
        for name, size in (("wmt", 16_384), ("rte", 2_500), ("cola", 8_500))
    }


def test_numbers_are_taken_as_written():
    assert explicit({"a": 7, "b": 7}, numbers={"a": 0.1, "b": 0.2, "c": 9.0}) == {
        "a": Fraction(1, 10),
        "b": Fraction(1, 5),
    }
    assert exact(1e-7) == Fraction(1, 10**7)


def test_equal_gives_nothing_to_what_has_no_rows():
    assert normalized(equal({"a": 1, "b": 10**9, "c": 0})) == {
        "a": Fraction(1, 2),
        "b": Fraction(1, 2),
        "c": 0,
    }


def test_shares_of_nothing_are_refused():
    with pytest.raises(ValueError, match="no rate is above 0 among a, b"):
        normalized({"a": Fraction(0), "b": Fraction(0)})
