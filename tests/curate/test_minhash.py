"""Signatures against NumPy's broadcasting, bands against brute force and published figures."""

from __future__ import annotations

import collections
import doctest
import itertools
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from curate import minhash
from curate.minhash import Bands
from filters import words
from filters.errors import ConfigError

ROOT = Path(__file__).parents[2]
TEXTS = [
    "All human beings are born free and equal in dignity and rights.",
    "all human beings are born, free, and equal in dignity — and rights",
    "人人生而自由,在尊严和权利上一律平等。",
    "Все люди рождаются свободными и равными в своем достоинстве и правах.",
    "short",
    "...",
]


def slow_signature(text: str, ngram: int, permutations: int, seed: int) -> list[int]:
    """Minima over a matrix of all shingles and all permutations."""
    _, values = words.shingles(pa.array([text]), ngram=ngram)
    multipliers, increments = (
        part.astype(np.uint64) for part in minhash.affine_permutations(permutations, seed)
    )
    permuted = (multipliers * (values >> np.uint64(32))[:, None] + increments) % 2**32
    return permuted.min(axis=0, initial=2**32 - 1).tolist()


def test_the_examples_in_the_docstrings_are_true() -> None:
    assert doctest.testmod(minhash).failed == 0


# -- signatures ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("permutations", [1, 63, 64, 65, 91, 128, 200])
def test_signatures_are_the_minima_of_all_permutations(permutations: int) -> None:
    signed = minhash.signatures(pa.array(TEXTS), ngram=3, permutations=permutations, seed=9)
    assert signed.dtype == np.uint32
    assert signed.tolist() == [slow_signature(text, 3, permutations, 9) for text in TEXTS]


@settings(deadline=None)
@given(st.lists(st.text(st.sampled_from("ab c.é中"), max_size=60), max_size=8), st.integers(1, 8))
def test_every_document_is_signed_alone(texts: list[str], ngram: int) -> None:
    column = pa.array(texts, pa.string())
    together = minhash.signatures(column, ngram=ngram, permutations=64)
    assert together.shape == (len(texts), 64)
    assert together.tolist() == [slow_signature(text, ngram, 64, minhash.SEED) for text in texts]


def test_a_shorter_signature_is_the_beginning_of_the_longer_one() -> None:
    longer = minhash.signatures(pa.array(TEXTS), permutations=256)
    assert np.array_equal(minhash.signatures(pa.array(TEXTS), permutations=91), longer[:, :91])


def test_another_seed_gives_another_signature() -> None:
    one, other = (minhash.signatures(pa.array(TEXTS[:1]), seed=seed) for seed in (1, 2))
    assert not (one == other).any()


def test_multipliers_are_odd_so_that_permutations_are_bijections() -> None:
    multipliers, increments = minhash.affine_permutations(1000)
    assert (multipliers % 2 == 1).all()
    assert len(set(multipliers.tolist())) == len(set(increments.tolist())) == 1000


def test_constants_come_from_the_raw_stream_of_pcg64() -> None:
    """PCG64 steps a 128-bit congruential generator and outputs XSL-RR of its state (O'Neill 2014, section 6.3.3)."""
    multiplier, increments = 0x2360ED051FC65DA44385DF649FCCF645, minhash.affine_permutations(3, 7)
    state = np.random.PCG64(7).state["state"]["state"]
    step = np.random.PCG64(7).state["state"]["inc"]
    outputs = []
    for _ in range(6):
        state = (state * multiplier + step) % 2**128
        mixed, turn = (state >> 64) ^ (state % 2**64), state >> 122
        outputs.append((mixed >> turn | mixed << (64 - turn)) % 2**64 >> 32)
    assert increments[0].tolist() == [output | 1 for output in outputs[0::2]]
    assert increments[1].tolist() == outputs[1::2]


def test_a_processor_without_vector_extensions_computes_the_same_signatures() -> None:
    program = (
        "import pyarrow as pa, json, sys; from curate import minhash;"
        "signed = minhash.signatures(pa.array(json.loads(sys.argv[1])), permutations=91);"
        "keys, _ = minhash.band_keys(signed, minhash.Bands(13, 7));"
        "print(signed.tobytes().hex() + keys.tobytes().hex())"
    )
    plain = subprocess.run(
        [sys.executable, "-c", program, json.dumps(TEXTS)],
        env=os.environ | {"NUMBA_CPU_NAME": "generic", "NUMBA_CPU_FEATURES": ""},
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    signed = minhash.signatures(pa.array(TEXTS), permutations=91)
    keys, _ = minhash.band_keys(signed, Bands(13, 7))
    assert plain.stdout.strip() == signed.tobytes().hex() + keys.tobytes().hex()


def test_no_permutations_and_negative_seeds_are_refused() -> None:
    with pytest.raises(ConfigError, match="signatures: permutations is 0; allowed is 1 and more"):
        minhash.signatures(pa.array(["a"]), permutations=0)
    with pytest.raises(ConfigError, match="signatures: seed is -1; allowed is 0 and more"):
        minhash.signatures(pa.array(["a"]), seed=-1)


# -- bands --------------------------------------------------------------------------------------------------


def test_the_curve_is_that_of_fineweb_for_14_bands_of_8() -> None:
    """Penedo et al. 2024, arXiv:2406.17557, appendix E.1: 56, 77, 92 and 98.8 % at 0.7, 0.75, 0.8 and 0.85."""
    found = dict(minhash.curve(Bands(14, 8)))
    assert [round(100 * found[similarity], 1) for similarity in (0.7, 0.75, 0.8, 0.85)] == [
        56.5,
        77.2,
        92.4,
        98.8,
    ]
    assert (found[0.0], found[1.0], len(found)) == (0.0, 1.0, 21)


@pytest.mark.parametrize(
    ("threshold", "permutations"), [(0.5, 128), (0.7, 128), (0.8, 128), (0.9, 128), (0.7, 256)]
)
def test_no_other_bands_have_fewer_false_candidates_and_the_recall(
    threshold: float, permutations: int
) -> None:
    def area(bands: int, rows: int) -> float:
        steps = [threshold * (step + 0.5) / 400 for step in range(400)]
        return sum(1 - (1 - similarity**rows) ** bands for similarity in steps) * threshold / 400

    enough = [
        (area(bands, rows), bands, rows)
        for bands in range(1, permutations + 1)
        for rows in range(1, permutations // bands + 1)
        if 1 - (1 - threshold**rows) ** bands >= 0.95
    ]
    chosen = minhash.choose_bands(threshold, permutations)
    assert (chosen.bands, chosen.rows) == min(enough)[1:]


def test_more_permutations_are_taken_where_128_would_propose_too_much() -> None:
    assert minhash.choose_bands(0.8) == minhash.choose_bands(0.8, 128) == Bands(13, 7)
    assert minhash.choose_bands(0.9) == Bands(10, 12)
    assert minhash.probability(0.5, minhash.choose_bands(0.7, 128)) > 0.4
    assert minhash.probability(0.5, minhash.choose_bands(0.7)) < 0.25
    assert minhash.choose_bands(1.0) == Bands(1, 128)


@pytest.mark.parametrize("threshold", [0.05, 0.3, 0.5, 0.65, 0.75, 0.85, 0.95, 1.0])
@pytest.mark.parametrize("recall", [0.5, 0.9, 0.99])
def test_the_chosen_bands_have_the_recall(threshold: float, recall: float) -> None:
    chosen = minhash.choose_bands(threshold, recall=recall)
    assert minhash.probability(threshold, chosen) >= recall
    assert chosen.permutations <= 1024


def test_impossible_bands_are_refused_with_what_would_do() -> None:
    with pytest.raises(
        ConfigError, match=r"at most 2 permutations find 95% .* threshold 0.5; at least 5 permutations"
    ):
        minhash.choose_bands(0.5, 2)
    assert minhash.choose_bands(0.5, 5) == Bands(5, 1)  # 1 - 0.5 ** 5 = 0.969
    with pytest.raises(ConfigError, match=r"threshold is 0; allowed is 0 < threshold <= 1"):
        minhash.choose_bands(0)
    with pytest.raises(ConfigError, match=r"recall is 1; allowed is 0 < recall < 1"):
        minhash.choose_bands(0.8, recall=1)
    with pytest.raises(ValueError, match="0 bands of 7 rows; both must be at least 1"):
        Bands(0, 7)


# -- candidates ---------------------------------------------------------------------------------------------


@settings(deadline=None)
@given(
    hnp.arrays(np.uint32, st.tuples(st.integers(0, 12), st.just(6)), elements=st.integers(0, 2)), st.data()
)
def test_keys_are_equal_where_bands_are(signatures: np.ndarray, data: st.DataObject) -> None:
    bands = data.draw(st.sampled_from([Bands(1, 6), Bands(2, 3), Bands(3, 2), Bands(2, 2)]))
    keys, has_words = minhash.band_keys(signatures, bands)
    assert has_words.all()
    for band in range(bands.bands):
        part = signatures[:, band * bands.rows : (band + 1) * bands.rows]
        equal = (part[:, None] == part[None]).all(axis=2)
        assert np.array_equal(keys[band][:, None] == keys[band][None], equal)


def test_the_same_minima_have_another_key_in_every_band() -> None:
    keys, _ = minhash.band_keys(np.full((1, 128), 7, np.uint32), Bands(16, 8))
    assert len(set(keys[:, 0].tolist())) == 16


def test_documents_without_words_have_no_keys_and_no_bucket() -> None:
    texts = pa.array(["...", "a", "", "a", None, "!"])
    keys, has_words = minhash.band_keys(minhash.signatures(texts), Bands(16, 8))
    assert has_words.tolist() == [False, True, False, True, False, False]
    assert not keys[:, ~has_words].any()
    found = minhash.buckets(keys, has_words)
    assert found.bucket.tolist() == [bucket for bucket in range(16) for _ in range(2)]
    assert found.row.tolist() == [1, 3] * 16


def test_signatures_that_are_too_short_are_refused() -> None:
    with pytest.raises(ConfigError, match="signatures of 64 permutations; 13 bands of 7 rows need 91"):
        minhash.band_keys(minhash.signatures(pa.array(["a"]), permutations=64), Bands(13, 7))


@settings(deadline=None)
@given(
    hnp.arrays(np.uint64, st.tuples(st.integers(1, 3), st.integers(0, 15)), elements=st.integers(0, 5)),
    st.data(),
)
def test_buckets_are_the_rows_with_equal_keys_that_are_not_alone(
    keys: np.ndarray, data: st.DataObject
) -> None:
    has_words = np.array(
        data.draw(st.lists(st.booleans(), min_size=keys.shape[1], max_size=keys.shape[1])), bool
    )
    expected = []
    for band in keys:
        rows_of = collections.defaultdict(list)
        for row in np.flatnonzero(has_words).tolist():
            rows_of[int(band[row])].append(row)
        expected += [rows for _, rows in sorted(rows_of.items()) if len(rows) > 1]
    found = minhash.buckets(keys, has_words)
    assert found.bucket.tolist() == [number for number, rows in enumerate(expected) for _ in rows]
    assert found.row.tolist() == [row for rows in expected for row in rows]


def edited_pairs(pairs: int, similarity: float) -> list[str]:
    """Pairs of texts of 300 words with one in so many words replaced, so that J of 5-grams is near the similarity."""
    texts = []
    for pair in range(pairs):
        rng = np.random.default_rng([11, pair])
        text = rng.integers(0, 5000, 300)
        edited = text.copy()
        kept = 2 * similarity / (1 + similarity)  # share of shingles that both have
        edited[rng.random(300) > kept ** (1 / 5)] = 5000
        texts += [" ".join(map(str, text)), " ".join(map(str, edited))]
    return texts


@pytest.mark.parametrize("similarity", [0.5, 0.7, 0.8, 0.9])
def test_pairs_are_proposed_as_often_as_the_curve_says(similarity: float) -> None:
    texts, bands = pa.array(edited_pairs(600, similarity)), Bands(13, 7)
    pointers, values = words.shingles(texts)
    sets = [set(values[start:stop].tolist()) for start, stop in itertools.pairwise(pointers)]
    expected = [
        minhash.probability(len(a & b) / len(a | b), bands)
        for a, b in zip(sets[::2], sets[1::2], strict=True)
    ]
    keys, _ = minhash.band_keys(minhash.signatures(texts, permutations=91), bands)
    proposed = int((keys[:, ::2] == keys[:, 1::2]).any(axis=0).sum())
    deviation = sum(share * (1 - share) for share in expected) ** 0.5
    assert abs(proposed - sum(expected)) < 4 * deviation
