import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mixtures.draws import draw, draw_below, key_of, permute, unpermute


def test_the_hash_is_splitmix64_with_the_key_as_its_state():
    # Reference outputs of SplitMix64 for state 0 and for state 1234567 (Vigna's splitmix64.c): the counter n here
    # is the n-th call there, so counters start from 1.
    assert draw(0, [1, 2, 3]).tolist() == [0xE220A8397B1DCDAF, 0x6E789E6AA1B965F4, 0x06C45D188009454F]
    assert draw(1234567, [1, 2]).tolist() == [6457827717110365317, 3203168211198807973]


def test_keys_separate_their_parts_and_their_types():
    keys = {key_of("ab", "c"), key_of("a", "bc"), key_of("abc"), key_of(1, "x"), key_of("1", "x"), key_of()}
    assert len(keys) == 6
    assert all(0 <= key < 2**64 for key in keys)


@given(st.integers(1, 3000), st.integers(0, 2**64 - 1))
def test_permute_is_a_bijection_and_unpermute_is_its_inverse(size, key):
    places = permute(np.arange(size), size, key)
    assert sorted(places.tolist()) == list(range(size))
    assert unpermute(places, size, key).tolist() == list(range(size))


@given(st.integers(1, 2**62), st.integers(0, 2**64 - 1), st.data())
def test_permute_of_a_few_of_very_many_stays_inside_and_comes_back(size, key, data):
    index = data.draw(st.lists(st.integers(0, size - 1), max_size=20))
    places = permute(index, size, key)
    assert all(0 <= place < size for place in places.tolist())
    assert unpermute(places, size, key).tolist() == index


def test_two_keys_shuffle_differently_and_every_place_is_equally_likely():
    size, n_keys = 12, 3000
    first = np.array([permute([0], size, key_of(seed))[0] for seed in range(n_keys)])
    counts = np.bincount(first, minlength=size)
    expected = n_keys / size
    assert ((counts - expected) ** 2 / expected).sum() < 31.3  # chi-square, 11 degrees of freedom, p = 0.001


def test_an_index_outside_the_range_is_refused():
    with pytest.raises(ValueError, match=r"\[0, 5\)"):
        permute([5], 5, 1)


def test_draws_below_a_bound_are_even_and_may_have_one_bound_each():
    counts = np.bincount(draw_below(9, np.arange(60_000), 6), minlength=6)
    assert len(counts) == 6 and abs(counts - 10_000).max() < 500
    assert (draw_below(9, np.arange(1000), np.arange(1, 1001)) < np.arange(1, 1001)).all()
