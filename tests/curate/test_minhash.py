"""Signatures against NumPy's broadcasting, bands against brute force and published figures, buckets against dictionaries.

The golden values are those of AVX-512, AVX2 and SSE2 alike. Who changes an algorithm gives it another name (``ALGORITHM``)
and prints them with ``python tests/curate/test_minhash.py``.
"""

from __future__ import annotations

import collections
import doctest
import gzip
import hashlib
import itertools
import json
import os
import subprocess
import sys
import unicodedata
from collections.abc import Iterator
from pathlib import Path

import llvmlite.binding
import numpy as np
import pyarrow as pa
import pyarrow.ipc
import pyarrow.parquet as pq
import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from curate import deduplication, minhash
from curate.minhash import Bands
from filters import fingerprint, words
from filters.errors import ConfigError

ROOT = Path(__file__).parents[2]
SHARED = Path(os.environ.get("CURATE_SHARED", ROOT.parent / "shared"))
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
        if 1 - (1 - threshold**rows) ** bands >= 0.985
    ]
    chosen = minhash.choose_bands(threshold, permutations)
    assert (chosen.bands, chosen.rows) == min(enough)[1:]


def test_more_permutations_are_taken_where_fewer_would_propose_too_much() -> None:
    assert minhash.choose_bands(0.8) == minhash.choose_bands(0.8, 64) == Bands(11, 5)
    assert minhash.choose_bands(0.8, 128) == Bands(18, 7)
    assert minhash.choose_bands(0.9) == Bands(8, 8)
    assert minhash.probability(0.5, minhash.choose_bands(0.7, 64)) > 0.6
    assert minhash.choose_bands(0.7) == minhash.choose_bands(0.7, 128) == Bands(23, 5)
    assert minhash.choose_bands(1.0) == Bands(1, 64)


@pytest.mark.parametrize("threshold", [0.05, 0.3, 0.5, 0.65, 0.75, 0.85, 0.95, 1.0])
@pytest.mark.parametrize("recall", [0.5, 0.9, 0.99])
def test_the_chosen_bands_have_the_recall(threshold: float, recall: float) -> None:
    chosen = minhash.choose_bands(threshold, recall=recall)
    assert minhash.probability(threshold, chosen) >= recall
    assert chosen.permutations <= 1024


def test_impossible_bands_are_refused_with_what_would_do() -> None:
    with pytest.raises(
        ConfigError, match=r"at most 2 permutations find 98.5% .* threshold 0.5; at least 7 permutations"
    ):
        minhash.choose_bands(0.5, 2)
    assert minhash.choose_bands(0.5, 7) == Bands(7, 1)  # 1 - 0.5 ** 7 = 0.992
    with pytest.raises(ConfigError, match=r"threshold is 0; allowed is 0 < threshold <= 1"):
        minhash.choose_bands(0)
    with pytest.raises(ConfigError, match=r"recall is 1; allowed is 0 < recall < 1"):
        minhash.choose_bands(0.8, recall=1)
    with pytest.raises(ValueError, match="0 bands of 7 rows; both must be at least 1"):
        Bands(0, 7)


@pytest.mark.parametrize("threshold", [1e-320, 1e-200, 1e-9, 0.001])
def test_thresholds_next_to_nothing_are_refused_with_what_would_do(threshold: float) -> None:
    with pytest.raises(
        ConfigError, match=r"at most 1024 permutations find 98.5% .* at least \d+ permutations do"
    ):
        minhash.choose_bands(threshold)


# -- candidates ---------------------------------------------------------------------------------------------


@settings(deadline=None)
@given(
    hnp.arrays(np.uint32, st.tuples(st.integers(0, 12), st.just(6)), elements=st.integers(0, 2)), st.data()
)
def test_keys_are_equal_where_bands_are(signatures: np.ndarray, data: st.DataObject) -> None:
    bands = data.draw(st.sampled_from([Bands(1, 6), Bands(2, 3), Bands(3, 2), Bands(2, 2)]))
    keys, has_words = minhash.band_keys(signatures, bands)
    assert keys.shape == (len(signatures), bands.bands)
    assert has_words.all()
    assert not (keys & np.uint64(1)).any()
    for band in range(bands.bands):
        part = signatures[:, band * bands.rows : (band + 1) * bands.rows]
        equal = (part[:, None] == part[None]).all(axis=2)
        assert np.array_equal(keys[:, band][:, None] == keys[:, band][None], equal)


def test_the_same_minima_have_another_key_in_every_band() -> None:
    keys, _ = minhash.band_keys(np.full((1, 128), 7, np.uint32), Bands(16, 8))
    assert len(set(keys[0].tolist())) == 16


def test_documents_without_words_have_no_keys_and_no_bucket() -> None:
    texts = pa.array(["...", "a", "", "a", None, "!"])
    keys, has_words = minhash.band_keys(minhash.signatures(texts), Bands(16, 8))
    assert has_words.tolist() == [False, True, False, True, False, False]
    assert not keys[~has_words].any()
    found = minhash.buckets(keys, has_words)
    assert found.bucket.tolist() == [bucket for bucket in range(16) for _ in range(2)]
    assert found.row.tolist() == [1, 3] * 16


def test_signatures_that_are_too_short_are_refused() -> None:
    with pytest.raises(ConfigError, match="signatures of 64 permutations; 13 bands of 7 rows need 91"):
        minhash.band_keys(minhash.signatures(pa.array(["a"]), permutations=64), Bands(13, 7))


@settings(deadline=None)
@given(
    st.lists(st.none() | st.text(st.sampled_from("ab c.é中"), max_size=60), max_size=8),
    st.integers(1, 6),
    st.sampled_from([Bands(1, 1), Bands(10, 6), Bands(13, 7), Bands(35, 7)]),
    st.integers(0, 3),
    st.data(),
)
def test_a_sketch_is_the_keys_and_lowest_bytes_of_the_signatures(
    texts: list[str | None], ngram: int, bands: Bands, seed: int, data: st.DataObject
) -> None:
    column = pa.array(texts, pa.string())
    salts = data.draw(st.lists(st.integers(0, 2**64 - 1), min_size=len(texts), max_size=len(texts)))
    salt = data.draw(st.sampled_from([0, 7, np.array(salts, np.uint64)]))
    made = minhash.sketch(column, bands=bands, ngram=ngram, seed=seed, salt=salt)
    signed = minhash.signatures(column, ngram=ngram, permutations=max(64, bands.permutations), seed=seed)
    keys, has_words = minhash.band_keys(signed, bands, salt=salt)
    assert made.has_words.tolist() == has_words.tolist() == [bool(words.split(text or "")) for text in texts]
    assert np.array_equal(made.keys, keys)
    assert np.array_equal(made.bits, np.where(has_words[:, None], signed[:, :64] & 0xFF, 0))


def test_a_sketch_of_many_batches_is_that_of_each_text_with_its_own_salt() -> None:
    texts = [f"{row} " * length for row, length in enumerate([3, 300_000, 5, 0, 1, 200_000, 2, 9])]
    salts = np.arange(8, dtype=np.uint64) // np.uint64(2)
    bands = Bands(10, 6)
    made = minhash.sketch(pa.array(texts), bands=bands, salt=salts)
    alone = [
        minhash.sketch(pa.array([t]), bands=bands, salt=int(s)) for t, s in zip(texts, salts, strict=True)
    ]
    assert np.array_equal(made.keys, np.concatenate([a.keys for a in alone]))
    assert np.array_equal(made.bits, np.concatenate([a.bits for a in alone]))
    assert made.has_words.tolist() == [True, True, True, False, True, True, True, True]


def test_documents_with_different_salts_share_no_bucket() -> None:
    texts, salts = pa.array(["one two three"] * 3), np.array([5, 6, 5], np.uint64)
    made = minhash.sketch(texts, bands=Bands(10, 6), salt=salts)
    assert not (made.keys[0] == made.keys[1]).any()
    assert np.array_equal(made.keys[0], made.keys[2])
    hashes = np.full((3, 2), 9, np.uint64)
    keys = minhash.exact_keys(hashes, salt=salts)
    assert (keys[0] == keys[1], keys[0] == keys[2]) == (False, True)
    with pytest.raises(ValueError, match="salt has 2 values for 3 documents"):
        minhash.exact_keys(hashes, salt=salts[:2])


def test_exact_keys_depend_on_both_words_and_on_the_kind_and_are_never_band_keys() -> None:
    """Warnings are errors here: NumPy warns of scalars that overflow, as those of later kinds do."""
    words_ = np.random.default_rng(4).integers(0, 2**64, 6, np.uint64)
    hashes = np.array(list(itertools.product(words_, repeat=2)))
    keys = np.concatenate([minhash.exact_keys(hashes, kind=kind) for kind in range(12)])
    assert len(set(keys.tolist())) == len(keys)
    assert (keys & np.uint64(1)).all()
    assert minhash.exact_keys(hashes[:0]).tolist() == []


KEYS = st.integers(0, 3) | st.sampled_from([2**63, 2**64 - 1, 2**32]) | st.integers(0, 2**64 - 1)


def slow_groups(keys: list[int], documents: list[int]) -> tuple[list[int], list[int]]:
    rows_of = collections.defaultdict(list)
    for key, document in zip(keys, documents, strict=True):
        rows_of[key].append(document)
    shared = [rows for rows in rows_of.values() if len(rows) > 1]
    return [number for number, rows in enumerate(shared) for _ in rows], [
        row for rows in shared for row in rows
    ]


@settings(deadline=None, max_examples=200)
@given(st.lists(st.tuples(KEYS, st.integers(-5, 2**62)), max_size=60))
def test_groups_are_the_entries_with_equal_keys_that_are_not_alone(entries: list[tuple[int, int]]) -> None:
    keys, documents = [key for key, _ in entries], [document for _, document in entries]
    found = minhash.group_keys(np.array(keys, np.uint64), np.array(documents, np.int64))
    assert (found.bucket.tolist(), found.row.tolist()) == slow_groups(keys, documents)


def test_groups_of_many_keys_that_fall_into_one_place_of_the_table() -> None:
    """Keys whose product with the table's multiplier has the same upper bits, and keys that follow each other."""
    inverse = pow(0xC2B2AE3D27D4EB4F, -1, 2**64)
    keys = [k * inverse % 2**64 for k in range(3000)] * 2 + list(range(3000))
    found = minhash.group_keys(np.array(keys, np.uint64), np.arange(len(keys)))
    assert (found.bucket.tolist(), found.row.tolist()) == slow_groups(keys, list(range(len(keys))))


def test_keys_and_documents_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ValueError, match="2 keys for 1 documents"):
        minhash.group_keys(np.zeros(2, np.uint64), np.zeros(1, np.int64))


@settings(deadline=None)
@given(
    hnp.arrays(np.uint64, st.tuples(st.integers(0, 15), st.integers(1, 3)), elements=st.integers(0, 5)),
    st.data(),
)
def test_buckets_are_the_groups_of_one_band_after_the_other(keys: np.ndarray, data: st.DataObject) -> None:
    flags = data.draw(st.lists(st.booleans(), min_size=len(keys), max_size=len(keys)))
    has_words = np.array(flags, np.bool_)
    expected: tuple[list[int], list[int]] = ([], [])
    for band in range(keys.shape[1]):
        rows = np.flatnonzero(has_words).tolist()
        bucket, row = slow_groups(keys[rows, band].tolist(), rows)
        first = max(expected[0], default=-1) + 1
        expected[0].extend(first + number for number in bucket)
        expected[1].extend(row)
    found = minhash.buckets(keys, has_words)
    assert (found.bucket.tolist(), found.row.tolist()) == expected


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
    proposed = int((keys[::2] == keys[1::2]).any(axis=1).sum())
    deviation = sum(share * (1 - share) for share in expected) ** 0.5
    assert abs(proposed - sum(expected)) < 4 * deviation


@pytest.mark.parametrize("similarity", [0.3, 0.8])
def test_bits_agree_as_often_as_b_bit_minwise_hashing_says(similarity: float) -> None:
    """Li & König 2010, theorem 1, for sets that are small against the universe: J + (1 - J) / 2**b."""
    texts = pa.array(edited_pairs(600, similarity))
    pointers, values = words.shingles(texts)
    sets = [set(values[start:stop].tolist()) for start, stop in itertools.pairwise(pointers)]
    exact = np.array([len(a & b) / len(a | b) for a, b in zip(sets[::2], sets[1::2], strict=True)])
    expected = exact + (1 - exact) / 256
    bits = minhash.sketch(texts, bands=Bands(10, 6)).bits
    agreed = (bits[::2] == bits[1::2]).sum()
    deviation = np.sqrt(64 * (expected * (1 - expected)).sum())
    assert abs(agreed - 64 * expected.sum()) < 4 * deviation


# -- the same on every machine ------------------------------------------------------------------------------


def digest(values: np.ndarray) -> str:
    return hashlib.sha256(np.ascontiguousarray(values).tobytes()).hexdigest()[:16]


def golden() -> dict[str, object]:
    """What must be the same on every machine, from the declaration of human rights in 52 languages."""
    with pa.OSFile(str(ROOT / "tests/data/documents/udhr.arrow")) as file:
        table = pa.ipc.open_file(file).read_all()
    column = pa.concat_arrays([*table["text"].chunks, pa.array([*TEXTS, None], table["text"].type)])
    signed = minhash.signatures(column, permutations=200)
    sketch = minhash.sketch(column, bands=Bands(35, 7), salt=3)
    hashes = fingerprint.fingerprints(column)
    exact = minhash.exact_keys(hashes, kind=1)
    found = deduplication.dedup(pa.table({"text": column}), threshold=0.5, near_miss=0.1)
    pairs = [str(row) for row in found.decisions.select(["id", "partner_id", "similarity"]).to_pylist()]
    return {
        "minima": signed[0, :3].tolist(),
        "key": int(sketch.keys[0, 0]),
        "exact key": int(exact[0]),
        "signatures": digest(signed),
        "keys": digest(sketch.keys),
        "bits": digest(sketch.bits),
        "fingerprints": digest(hashes),
        "exact keys": digest(exact),
        "pairs": hashlib.sha256("".join(pairs).encode()).hexdigest()[:16],
        "duplicates": int((~found.is_kept).sum()),
    }


GOLDEN = {
    "minima": [2676700, 3611059, 4617125],
    "key": 2402127388864948652,
    "exact key": 5433558684686394051,
    "signatures": "cbc104ee38f09d59",
    "keys": "f6e521d566c30a96",
    "bits": "cf79428fb6a81908",
    "fingerprints": "5c02124a2ae335f5",
    "exact keys": "4f3fb4e338204582",
    "pairs": "eeea92435b32a585",
    "duplicates": 12,
}


def test_signatures_keys_and_pairs_are_the_golden_ones() -> None:
    assert golden() == GOLDEN


@pytest.mark.slow
@pytest.mark.parametrize(
    ("processor", "needs", "registers"), [("haswell", "avx2", {"ymm"}), ("x86-64", "sse2", set())]
)
def test_a_processor_with_narrower_vectors_computes_the_golden_values(
    processor: str, needs: str, registers: set[str], tmp_path: Path
) -> None:
    """Compiled anew for it in a process of its own, whose machine code is read."""
    if not llvmlite.binding.get_host_cpu_features().get(needs):
        pytest.skip(f"this processor has no {needs}")
    program = (
        "import importlib.util, json, sys; from curate import minhash, verify; from filters import words;"
        "spec = importlib.util.spec_from_file_location('golden', sys.argv[1]);"
        "module = importlib.util.module_from_spec(spec); spec.loader.exec_module(module);"
        "values = module.golden();"
        "kernels = [minhash._sign, minhash._sketch_rows, words._shingle_rows];"
        "code = ' '.join(text for kernel in kernels for text in kernel.inspect_asm().values());"
        "print(json.dumps([values, [name for name in ('zmm', 'ymm') if name in code]]))"
    )
    own = {"NUMBA_CPU_NAME": processor, "NUMBA_CPU_FEATURES": "", "NUMBA_CACHE_DIR": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-c", program, __file__],
        env=os.environ | own,
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    values, used = json.loads(done.stdout)
    assert set(used) == registers
    assert values == GOLDEN


# -- all scripts --------------------------------------------------------------------------------------------


def shared_texts() -> Iterator[str]:
    """Texts of every file of the shared corpus, some of each, and sentences of 112 languages."""
    for path in sorted((SHARED / "data/corpus").glob("*.jsonl.zst")):
        lines = zstandard.ZstdDecompressor().stream_reader(path.read_bytes()).read().split(b"\n")
        yield from (json.loads(line)["text"] for line in lines[::40] if line)
    for path in sorted((SHARED / "data/corpus").glob("*.parquet")):
        for row, record in enumerate(pq.read_table(path, columns=["source", "text"]).to_pylist()):
            if row % 5 == 0 or record["source"].startswith("udhr"):  # 350 languages
                yield record["text"]
    with gzip.open(SHARED / "data/lang/tatoeba.jsonl.gz", "rt", encoding="utf-8") as file:
        yield from itertools.chain.from_iterable(map(str, json.loads(line).values()) for line in file)


SPACED_SCRIPTS = (
    "LATIN GREEK CYRILLIC ARMENIAN GEORGIAN ARABIC HEBREW ETHIOPIC DEVANAGARI BENGALI TAMIL HANGUL"
)
UNSPACED_SCRIPTS = "CJK HIRAGANA KATAKANA THAI LAO KHMER MYANMAR"


@pytest.mark.shared
@pytest.mark.slow
def test_a_word_has_one_hash_alone_in_upper_case_and_inside_of_a_run_that_is_not_ascii() -> None:
    """ASCII words take the fast path alone, and the slow one between curly quotes or Han."""
    if not (SHARED / "data/corpus").is_dir():
        pytest.skip(f"no corpus at {SHARED}/data/corpus")
    found = sorted({word for text in shared_texts() for word, _, _ in words.split(text[:20_000])})
    alone = hashes_of_one_word([f" {word}." for word in found], 0)
    assert len(found) > 200_000
    assert len(set(alone.tolist())) == len(found)  # no two words collide
    for before, after, place in (("“", "”", 0), ("中", "文", 1), ("\u00a0", "…", 0), ("é ", " ก", 1)):
        framed = hashes_of_one_word([before + word + after for word in found], place)
        assert np.array_equal(framed, alone), before
    upper = [word.upper() for word in found]
    is_simple = [words.split(w) == [(word, 0, len(w))] for w, word in zip(upper, found, strict=True)]
    assert sum(is_simple) > 0.98 * len(found)
    same = np.array(is_simple)
    assert np.array_equal(hashes_of_one_word(upper, 0)[same], alone[same])
    scripts = {unicodedata.name(word[0], "?").split()[0] for word in found}
    assert scripts >= set(SPACED_SCRIPTS.split()) | set(UNSPACED_SCRIPTS.split())


def hashes_of_one_word(texts: list[str], place: int) -> np.ndarray:
    """Hash of the word number ``place`` of each text."""
    pointers, values = words.shingles(pa.array(texts, pa.large_string()), ngram=1)
    return values[pointers[:-1] + place]


if __name__ == "__main__":
    print(json.dumps(golden(), indent=4))
