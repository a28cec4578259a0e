"""datasketch as the oracle: its own code computes our signatures, candidates and bands."""

from __future__ import annotations

import doctest
import functools
import gzip
import itertools
import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.ipc
import pytest
import zstandard
from datasketch import LeanMinHash, MinHash, MinHashLSH

import curate.datasketch as ours
from curate import minhash
from curate.deduplication import dedup
from curate.minhash import Bands
from filters import words
from filters.errors import ConfigError, DataError

DOCUMENTS = Path(__file__).parents[1] / "data/documents"
TEXTS = [
    "All human beings are born free and equal in dignity and rights.",
    "All human beings are born free and equal in dignity and in rights.",
    "人人生而自由,在尊严和权利上一律平等。",
    "short",
]


def unmixed(hashed: int) -> int:
    """The inverse of MurmurHash3's 32-bit finalizer, which datasketch applies to what its hash function returns."""

    def undo(value: int, shift: int) -> int:
        result = value
        for _ in range(32 // shift + 1):
            result = value ^ (result >> shift)
        return result

    value = undo(hashed, 16) * pow(0xC2B2AE35, -1, 2**32) % 2**32
    value = undo(value, 13) * pow(0x85EBCA6B, -1, 2**32) % 2**32
    return undo(value, 16)


def test_the_examples_in_the_docstrings_are_true() -> None:
    assert doctest.testmod(ours).failed == 0


def test_datasketch_computes_our_signatures_from_our_shingles_and_permutations() -> None:
    for text, signature in zip(TEXTS, minhash.signatures(pa.array(TEXTS), permutations=100), strict=True):
        theirs = MinHash(
            num_perm=100,
            hashfunc=unmixed,
            permutations=minhash.affine_permutations(100),
            scheme="affine32",
        )
        _, values = words.shingles(pa.array([text]))
        for value in (values >> np.uint64(32)).tolist():
            theirs.update(value)
        assert theirs.hashvalues.tolist() == signature.tolist()


def test_lean_minhashes_are_read_by_datasketch_and_come_back_unchanged() -> None:
    signed = minhash.signatures(pa.array([*TEXTS, ""]), ngram=3, permutations=91, seed=4)
    column = ours.to_lean_minhash(signed, ngram=3, seed=4)
    for payload, signature in zip(column.to_pylist(), signed, strict=True):
        lean = LeanMinHash.deserialize(payload)
        assert (lean.scheme, lean.hashvalues.tolist()) == ("affine32", signature.tolist())
    assert np.array_equal(ours.from_lean_minhash(column, ngram=3, seed=4), signed)
    assert np.array_equal(ours.from_lean_minhash(pa.chunked_array([column]), ngram=3, seed=4), signed)
    empty = ours.to_lean_minhash(signed[:0], ngram=3)
    assert ours.from_lean_minhash(empty, ngram=3).shape == (0, 0)


def test_datasketch_refuses_to_compare_our_signatures_with_its_own() -> None:
    (payload,) = ours.to_lean_minhash(minhash.signatures(pa.array(["a b"])), ngram=5).to_pylist()
    with pytest.raises(ValueError, match="different seeds"):
        LeanMinHash.deserialize(payload).jaccard(MinHash(num_perm=128, seed=1))


def test_signatures_of_other_hashes_are_refused() -> None:
    signed = minhash.signatures(pa.array(["a b"]))
    column = ours.to_lean_minhash(signed, ngram=5)
    for other in ({"ngram": 4}, {"ngram": 5, "seed": 2}):
        with pytest.raises(
            DataError, match=r"row 0 is a LeanMinHash with scheme affine32 and seed \d+; allowed is"
        ):
            ours.from_lean_minhash(column, **other)
    legacy = bytearray(LeanMinHash(MinHash(num_perm=4, scheme="legacy")).bytesize())
    LeanMinHash(MinHash(num_perm=4, scheme="legacy")).serialize(legacy)
    with pytest.raises(DataError, match=r"scheme legacy and seed 1"):
        ours.from_lean_minhash(pa.array([bytes(legacy)]), ngram=5)
    for broken in (b"", b"no minhash", column[0].as_py()[:100], None):
        with pytest.raises(DataError, match=r"row 0 is no LeanMinHash of datasketch 2"):
            ours.from_lean_minhash(pa.array([broken], pa.binary()), ngram=5)
    shorter = ours.to_lean_minhash(signed[:, :64], ngram=5)
    with pytest.raises(DataError, match=r"row 1 has 64 permutations; row 0 has 128"):
        ours.from_lean_minhash(pa.concat_arrays([column, shorter]), ngram=5)


def sampled_texts() -> list[str]:
    """60 texts of 40 to 400 words that have more or less of one text in common."""
    source = np.random.default_rng(5).integers(0, 3000, 400)
    texts = []
    for row in range(60):
        rng = np.random.default_rng([6, row])
        length = int(rng.integers(40, 400))
        edited = np.where(rng.random(length) < rng.choice([0.01, 0.04, 0.1]), 3000, source[:length])
        texts.append(" ".join(map(str, edited)))
    return texts


def test_our_bands_propose_exactly_the_pairs_that_datasketch_proposes() -> None:
    texts, bands = sampled_texts(), Bands(13, 7)
    signed = minhash.signatures(pa.array(texts), permutations=91)
    index = MinHashLSH(num_perm=91, params=(bands.bands, bands.rows))
    leans = [
        LeanMinHash.deserialize(payload) for payload in ours.to_lean_minhash(signed, ngram=5).to_pylist()
    ]
    for row, lean in enumerate(leans):
        index.insert(row, lean)
    theirs = {(row, other) for row, lean in enumerate(leans) for other in index.query(lean) if row < other}
    found = minhash.buckets(*minhash.band_keys(signed, bands))
    rows_of = [found.row[found.bucket == bucket].tolist() for bucket in np.unique(found.bucket)]
    assert {pair for rows in rows_of for pair in itertools.combinations(rows, 2)} == theirs
    assert 100 < len(theirs) < 60 * 59 / 2


def test_our_estimates_are_as_good_as_those_of_datasketch() -> None:
    """Bias below 0.01, and the root mean square error that theory gives, sqrt(J * (1 - J) / K), for both."""
    texts, permutations = sampled_texts(), 128
    pointers, values = words.shingles(pa.array(texts))
    sets = [set(values[start:stop].tolist()) for start, stop in itertools.pairwise(pointers)]
    pairs = list(itertools.combinations(range(len(texts)), 2))
    exact = np.array([len(sets[a] & sets[b]) / len(sets[a] | sets[b]) for a, b in pairs])
    left, right = np.array(pairs).T
    theory = np.sqrt(np.mean(exact * (1 - exact)) / permutations)
    errors: dict[str, list[np.ndarray]] = {"ours": [], "theirs": []}
    for seed in range(1, 9):
        signed = minhash.signatures(pa.array(texts), permutations=permutations, seed=seed)
        errors["ours"].append((signed[left] == signed[right]).mean(axis=1) - exact)
        encoded = [[value.to_bytes(8, "little") for value in members] for members in sets]
        theirs = np.array([row.hashvalues for row in MinHash.bulk(encoded, num_perm=permutations, seed=seed)])
        errors["theirs"].append((theirs[left] == theirs[right]).mean(axis=1) - exact)
    for name, found in errors.items():
        assert abs(np.mean(found)) < 0.01, name
        assert 0.8 * theory < np.sqrt(np.mean(np.square(found))) < 1.2 * theory, name


@pytest.mark.parametrize(
    ("threshold", "permutations", "bands", "rows"),
    [(0.7, 128, 14, 9), (0.8, 128, 9, 13), (0.9, 128, 5, 25), (0.7, 256, 25, 10), (0.7, 240, 24, 10)],
)
def test_balanced_bands_are_those_that_published_corpora_used(
    threshold: float, permutations: int, bands: int, rows: int
) -> None:
    """RedPajama-V2 (README: 14 x 9, 9 x 13, 5 x 25); data-juicer and text-dedup take the optimum for 256 and 240."""
    assert ours.balanced_bands(threshold, permutations) == Bands(bands, rows)


def test_impossible_balanced_bands_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"balanced_bands: threshold 2 with 128 permutations"):
        ours.balanced_bands(2)
    with pytest.raises(ConfigError, match=r"balanced_bands: threshold 0.9 with 2 permutations"):
        ours.balanced_bands(0.9, 2)


# -- datasketch from end to end -----------------------------------------------------------------------------


@pytest.mark.parametrize(("ngram", "seed"), [(5, 1), (2, 9), (1, 1)])
def test_its_sketch_is_what_datasketch_signs_one_n_gram_at_a_time(ngram: int, seed: int) -> None:
    texts, bands = [*TEXTS, "", None, "—"], Bands(13, 7)
    made = ours.sketch_with_datasketch(pa.array(texts), bands=bands, ngram=ngram, seed=seed)
    assert made.has_words.tolist() == [True] * len(TEXTS) + [False] * 3
    assert not made.keys[len(TEXTS) :].any() and not made.bits[len(TEXTS) :].any()
    for row, text in enumerate(TEXTS):
        theirs = MinHash(num_perm=128, seed=seed, scheme="affine32")
        found = [word for word, _, _ in words.split(text)]
        for k in range(max(1, len(found) - ngram + 1)):
            theirs.update(" ".join(found[k : k + ngram]).encode())
        keys, _ = minhash.band_keys(theirs.hashvalues.astype(np.uint32)[None], bands)
        assert np.array_equal(made.keys[row], keys[0])
        assert np.array_equal(made.bits[row], theirs.hashvalues[:64] & 0xFF)


def test_its_keys_are_equal_for_equal_words_and_depend_on_seed_and_salt() -> None:
    texts, bands = pa.array(["one two", "One, two!", "two one"]), Bands(12, 5)
    made = ours.sketch_with_datasketch(texts, bands=bands)
    assert np.array_equal(made.keys[0], made.keys[1])
    assert not (made.keys[0] == made.keys[2]).any()
    assert not (made.keys == ours.sketch_with_datasketch(texts, bands=bands, seed=2).keys).any()
    salted = ours.sketch_with_datasketch(texts, bands=bands, salt=np.array([1, 2, 1], np.uint64))
    assert not (salted.keys[0] == salted.keys[1]).any()
    assert not (made.keys == minhash.sketch(texts, bands=bands).keys).any()


@pytest.mark.parametrize("kind", [pa.string(), pa.large_string(), pa.string_view()])
def test_its_sketch_reads_every_string_column(kind: pa.DataType) -> None:
    expected = ours.sketch_with_datasketch(pa.array([*TEXTS, None]), bands=Bands(2, 3))
    column = pa.array(["before", *TEXTS, None, "after"], kind).slice(1, len(TEXTS) + 1)
    made = ours.sketch_with_datasketch(column, bands=Bands(2, 3))
    assert all(np.array_equal(a, b) for a, b in zip(made, expected, strict=True))
    empty = ours.sketch_with_datasketch(pa.array([], kind), bands=Bands(2, 3))
    assert [part.shape for part in empty] == [(0, 2), (0,), (0, 64)]


@functools.cache
def sample_documents() -> tuple[str, ...]:
    """Manuals in two versions and in two formats, and the declaration of human rights in 52 languages."""
    texts = []
    for path in sorted((DOCUMENTS / "postgresql").glob("*.jsonl.gz")):
        with gzip.open(path, "rt", encoding="utf-8") as file:
            texts += [json.loads(line)["text"] for line in file]
    lines = zstandard.ZstdDecompressor().stream_reader((DOCUMENTS / "linux.jsonl.zst").read_bytes()).read()
    texts += [json.loads(line)["text"] for line in lines.split(b"\n") if line]
    with pa.OSFile(str(DOCUMENTS / "udhr.arrow")) as file:
        texts += pa.ipc.open_file(file).read_all()["text"].to_pylist()
    return tuple(text[:4000] for text in texts)


@functools.cache
def shingle_sets() -> tuple[frozenset[tuple[str, ...]], ...]:
    sets = []
    for text in sample_documents():
        found = [word for word, _, _ in words.split(text)]
        sets.append(frozenset(tuple(found[k : k + 5]) for k in range(max(1, len(found) - 4))))
    return tuple(sets)


@pytest.mark.parametrize("threshold", [0.6, 0.9])
def test_both_families_remove_only_exact_duplicates_and_all_but_what_a_band_misses(threshold: float) -> None:
    """Each family's bands miss other pairs, so the decisions may differ. What cannot differ:

    every pair is exact, with a partner that stays; and a document whose shingles an earlier one has as well is removed,
    since equal sets share all buckets of any family. The rest differs by the share that the curve leaves.
    """
    sets = shingle_sets()
    table = pa.table({"text": list(sample_documents())})
    ours_, theirs = (
        dedup(table, threshold=threshold),
        dedup(table, threshold=threshold, hash_family="datasketch"),
    )
    repeated = {row for row, own in enumerate(sets) if own in sets[:row]}
    assert len(repeated) > 20
    for found in (ours_, theirs):
        removed = set(np.flatnonzero(~found.is_kept).tolist())
        for decision in found.decisions.to_pylist():
            row, partner = int(decision["id"]), int(decision["partner_id"])
            assert found.is_kept[partner] and not found.is_kept[row]
            assert decision["similarity"] == len(sets[row] & sets[partner]) / len(sets[row] | sets[partner])
            assert decision["similarity"] >= threshold
        assert repeated <= removed
    n_removed = int((~ours_.is_kept).sum())
    assert n_removed > len(repeated) + 5
    assert (ours_.is_kept != theirs.is_kept).sum() <= 0.02 * n_removed
    assert ours_.curve == theirs.curve


def test_both_families_decide_alike_where_only_equal_sets_are_duplicates() -> None:
    table = pa.table({"text": list(sample_documents())})
    ours_, theirs = (dedup(table, threshold=1.0, hash_family=family) for family in ("words", "datasketch"))
    assert (~ours_.is_kept).sum() > 20
    assert ours_.decisions.equals(theirs.decisions)
    assert set(ours_.decisions["rule"].to_pylist()) == {"exact.content_hash", "minhash.jaccard"}
