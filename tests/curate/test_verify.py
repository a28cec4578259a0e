"""Leader clustering against the same rule written with Python's sets, and against known duplicates of real text."""

from __future__ import annotations

import doctest
import functools
import json
import os
import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from curate import minhash, verify
from curate.minhash import Memberships
from filters import words
from filters.errors import ConfigError, DataError

SHARED = Path(os.environ.get("CURATE_SHARED", Path(__file__).parents[3] / "shared"))


# Characters of texts in which our words may differ from re.findall(r"\w+", text.lower()): sigmas, the dotted I, and
# scripts written without spaces.
OTHER_WORDS = re.compile(
    "[Σςİ\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u2e80-\u9fff\ua9e0-\uaa7f\uf900-\ufaff\uff66-\uff9f\U0001afe0-\U0010ffff]"
)


def word_ngrams(text: str, ngram: int) -> set[tuple[str, ...]]:
    found = [word for word, _, _ in words.split(text)]
    return {tuple(found[k : k + ngram]) for k in range(max(1, len(found) - ngram + 1))} if found else set()


@dataclass
class Batch:
    """What ``leaders`` is asked, with Python's own types."""

    texts: list[str]
    hashes: list[bytes]
    passing: list[bool]
    order: list[int]
    buckets: list[tuple[int, int]]
    exact_buckets: list[tuple[int, int]]
    threshold: float = 0.8
    ngram: int = 2
    near_miss: float | None = None
    max_leaders: int = 256

    def verify(self) -> verify.Verification:
        return verify.leaders(
            pa.array(self.texts, pa.string()),
            content_hash=pa.array(self.hashes, pa.binary(16)),
            passing=np.array(self.passing, np.bool_),
            order=np.array(self.order, np.int64),
            buckets=memberships(self.buckets),
            exact_buckets=memberships(self.exact_buckets),
            threshold=self.threshold,
            ngram=self.ngram,
            near_miss=self.near_miss,
            max_leaders=self.max_leaders,
        )

    def renumbered(self, places: list[int]) -> Batch:
        """The same documents with row r at ``places[r]``."""

        def moved(values: list) -> list:
            return [
                value for _, value in sorted(zip(places, values, strict=True), key=lambda entry: entry[0])
            ]

        return Batch(
            moved(self.texts),
            moved(self.hashes),
            moved(self.passing),
            [places[row] for row in self.order],
            [(bucket, places[row]) for bucket, row in reversed(self.buckets)],
            [(bucket, places[row]) for bucket, row in reversed(self.exact_buckets)],
            self.threshold,
            self.ngram,
            self.near_miss,
            self.max_leaders,
        )


def memberships(pairs: list[tuple[int, int]]) -> Memberships:
    table = np.array(pairs, np.int64).reshape(-1, 2)
    return Memberships(table[:, 0], table[:, 1])


def rows_of(found: verify.Verification) -> list[tuple]:
    assert found.pairs.schema == verify.PAIR_SCHEMA
    return [tuple(row.values()) for row in found.pairs.to_pylist()]


def slow_leaders(batch: Batch) -> tuple[list[tuple], int, int]:
    """The rule, word for word: rows of PAIR_SCHEMA, pairs compared, buckets with too many leaders."""
    sets = [word_ngrams(text, batch.ngram) for text in batch.texts]
    least = batch.threshold if batch.near_miss is None else batch.near_miss
    leaders_of: dict[tuple[str, int], list[int]] = {}
    capped, found, compared = set(), [], 0
    for row in batch.order:
        exact_keys = {("exact", bucket) for bucket, member in batch.exact_buckets if member == row}
        near_keys = {("near", bucket) for bucket, member in batch.buckets if member == row}
        equal = {
            leader
            for key in exact_keys
            for leader in leaders_of.get(key, [])
            if batch.hashes[leader] == batch.hashes[row]
        }
        partner, similarity, method = None, 0.0, "exact"
        if equal:
            partner, similarity = min(equal, key=batch.order.index), 1.0
        elif sets[row]:
            candidates = {leader for key in near_keys for leader in leaders_of.get(key, [])}
            compared += len(candidates)
            for leader in sorted(candidates, key=batch.order.index):
                jaccard = len(sets[row] & sets[leader]) / len(sets[row] | sets[leader])
                if jaccard >= least and jaccard > similarity:
                    partner, similarity, method = leader, jaccard, "minhash"
        if partner is not None:
            outcome = "duplicate" if similarity >= batch.threshold else "near_miss"
            found.append((row, partner, similarity, method, outcome))
        if batch.passing[row] and (partner is None or similarity < batch.threshold):
            for key in exact_keys | (near_keys if sets[row] else set()):
                if key[0] == "near" and len(leaders_of.get(key, [])) == batch.max_leaders:
                    capped.add(key)
                else:
                    leaders_of.setdefault(key, []).append(row)
    return sorted(found), compared, len(capped)


@st.composite
def batches(draw: st.DrawFn) -> Batch:
    """A few texts of a small vocabulary, and edits of them."""
    word = st.sampled_from(["a", "b", "c", "d", "e", "é", "中"])
    originals = draw(st.lists(st.lists(word, max_size=14), min_size=1, max_size=4))
    texts = []
    for _ in range(draw(st.integers(0, 14))):
        text = list(draw(st.sampled_from(originals)))
        for _ in range(draw(st.integers(0, 2))):
            place = draw(st.integers(0, len(text)))
            text[place : place + draw(st.integers(0, 1))] = draw(st.lists(word, max_size=1))
        texts.append(draw(st.sampled_from([" ", ", "])).join(text) + draw(st.sampled_from(["", ".", "!"])))
    rows = len(texts)
    row = st.integers(0, rows - 1) if rows else st.nothing()
    members = st.lists(st.tuples(st.integers(-1, 3), row), max_size=3 * rows)
    threshold = draw(st.sampled_from([0.3, 0.5, 0.8, 1.0]))
    return Batch(
        texts,
        [
            text.encode().ljust(16)[:15] + b"#" for text in texts
        ],  # equal for some that differ, as the caller decides
        draw(st.lists(st.booleans(), min_size=rows, max_size=rows)),
        draw(st.permutations(range(rows))),
        draw(members),
        draw(members),
        threshold,
        draw(st.integers(1, 5)),
        draw(st.sampled_from([None, threshold / 2])),
        draw(st.sampled_from([1, 2, 256])),
    )


def test_the_examples_in_the_docstrings_are_true() -> None:
    assert doctest.testmod(verify).failed == 0


# -- leaders ------------------------------------------------------------------------------------------------


@settings(max_examples=300, deadline=None)
@given(batches())
def test_duplicates_and_near_misses_are_those_of_the_rule(batch: Batch) -> None:
    found = batch.verify()
    rows, compared, capped = slow_leaders(batch)
    assert rows_of(found) == rows
    assert (found.compared, found.capped_buckets) == (compared, capped)
    assert found.verified <= compared


@settings(deadline=None)
@given(batches())
def test_every_duplicate_has_a_kept_partner_and_no_two_kept_documents_of_a_bucket_are_duplicates(
    batch: Batch,
) -> None:
    batch.max_leaders = 256
    found = batch.verify()
    sets = [word_ngrams(text, batch.ngram) for text in batch.texts]
    duplicates = {row[0] for row in rows_of(found) if row[4] == "duplicate"}
    kept = {row for row in range(len(batch.texts)) if batch.passing[row] and row not in duplicates}
    for row, partner, similarity, method, outcome in rows_of(found):
        assert partner in kept
        assert batch.order.index(partner) < batch.order.index(row)
        if method == "exact":
            assert batch.hashes[row] == batch.hashes[partner]
        else:
            assert similarity == len(sets[row] & sets[partner]) / len(sets[row] | sets[partner])
        assert (outcome == "duplicate") == (similarity >= batch.threshold)
    for bucket, row in batch.buckets:
        for other_bucket, other in batch.buckets:
            if (
                bucket == other_bucket
                and row < other
                and row in kept
                and other in kept
                and sets[row]
                and sets[other]
            ):
                assert len(sets[row] & sets[other]) / len(sets[row] | sets[other]) < batch.threshold


@settings(deadline=None)
@given(batches(), st.data())
def test_the_numbers_of_the_rows_do_not_matter(batch: Batch, data: st.DataObject) -> None:
    places = data.draw(st.permutations(range(len(batch.texts))))
    found, moved = batch.verify(), batch.renumbered(places).verify()
    expected = sorted((places[row], places[partner], *rest) for row, partner, *rest in rows_of(found))
    assert rows_of(moved) == expected
    counts = (moved.compared, moved.verified, moved.capped_buckets)
    assert counts == (found.compared, found.verified, found.capped_buckets)


def chain(**changes: object) -> Batch:
    """A and B, B and C have 8 of 10 shingles in common (n = 1); A and C have 6 of 10."""
    settings = {
        "texts": ["a b c d e f g h i", "b c d e f g h i j", "c d e f g h i j k"],
        "hashes": [bytes([row]) * 16 for row in range(3)],
        "passing": [True] * 3,
        "order": [0, 1, 2],
        "buckets": [(0, 0), (0, 1), (0, 2)],
        "exact_buckets": [],
        "ngram": 1,
    }
    return Batch(**(settings | changes))  # type: ignore[arg-type]


def test_a_document_that_resembles_only_a_removed_one_is_kept() -> None:
    assert rows_of(chain().verify()) == [(1, 0, 8 / 10, "minhash", "duplicate")]


def test_a_threshold_that_is_met_exactly_makes_a_duplicate() -> None:
    assert rows_of(chain(threshold=0.8).verify())[0][4] == "duplicate"
    assert rows_of(chain(threshold=np.nextafter(0.8, 1)).verify()) == []


def test_the_order_decides_who_is_kept() -> None:
    assert rows_of(chain(order=[1, 0, 2]).verify()) == [
        (0, 1, 0.8, "minhash", "duplicate"),
        (2, 1, 0.8, "minhash", "duplicate"),
    ]


def test_a_document_that_fails_other_rules_stands_for_nothing_but_gets_its_partner() -> None:
    assert rows_of(chain(passing=[False, True, True]).verify()) == [(2, 1, 0.8, "minhash", "duplicate")]
    assert rows_of(chain(passing=[True, False, True]).verify()) == [(1, 0, 0.8, "minhash", "duplicate")]


def test_near_misses_are_kept_and_written_down() -> None:
    found = chain(near_miss=0.6).verify()
    # c..i are 7 of the 11 words of A and C: above 0.6, below 0.8
    assert rows_of(found) == [(1, 0, 0.8, "minhash", "duplicate"), (2, 0, 7 / 11, "minhash", "near_miss")]
    assert rows_of(chain(near_miss=0.65).verify()) == [(1, 0, 0.8, "minhash", "duplicate")]


def test_the_most_similar_leader_is_the_partner_and_then_the_earliest() -> None:
    texts = ["a b c d x", "a b c d e f", "a b c d y", "a b c d e"]
    batch = chain(
        texts=texts,
        hashes=[bytes([row]) * 16 for row in range(4)],
        passing=[True] * 4,
        order=[2, 0, 1, 3],
        buckets=[(0, row) for row in range(4)],
        threshold=0.6,
    )
    assert rows_of(batch.verify())[-1] == (3, 1, 5 / 6, "minhash", "duplicate")
    batch.texts[1] = "other words"
    batch.threshold = 4 / 6
    assert rows_of(batch.verify()) == [
        (0, 2, 4 / 6, "minhash", "duplicate"),
        (3, 2, 4 / 6, "minhash", "duplicate"),
    ]


def test_the_earliest_of_equally_similar_leaders_is_the_partner_whatever_bucket_it_is_in() -> None:
    batch = Batch(
        ["a b c d x", "a b c d y", "a b c d", "!", "!", "!"],
        [bytes([min(row, 3)]) * 16 for row in range(6)],
        [True] * 6,
        [0, 1, 2, 3, 4, 5],
        buckets=[(8, 0), (7, 1), (7, 2), (8, 2)],
        exact_buckets=[(8, 3), (7, 4), (7, 5), (8, 5)],
        ngram=1,
    )
    assert rows_of(batch.verify()) == [
        (2, 0, 4 / 5, "minhash", "duplicate"),
        (5, 3, 1.0, "exact", "duplicate"),
    ]
    batch.order = [1, 0, 2, 4, 3, 5]
    assert rows_of(batch.verify()) == [
        (2, 1, 4 / 5, "minhash", "duplicate"),
        (5, 4, 1.0, "exact", "duplicate"),
    ]


def test_documents_without_words_are_duplicates_only_of_equal_ones() -> None:
    same, other = b"s" * 16, b"o" * 16
    batch = Batch(
        ["!", "?", "!"],
        [same, other, same],
        [True] * 3,
        [0, 1, 2],
        buckets=[(0, 0), (0, 1), (0, 2)],
        exact_buckets=[(5, 0), (5, 1), (5, 2)],
    )
    assert rows_of(batch.verify()) == [(2, 0, 1.0, "exact", "duplicate")]


def test_a_bucket_with_too_many_leaders_is_reported_and_the_first_ones_are_compared() -> None:
    texts = [f"{row} {row + 100} {row + 200}" for row in range(5)]
    batch = Batch(
        [*texts, texts[0], texts[4]],
        [bytes([row]) * 16 for row in range(7)],
        [True] * 7,
        list(range(7)),
        buckets=[(9, row) for row in range(7)],
        exact_buckets=[],
        max_leaders=3,
    )
    found = batch.verify()
    assert rows_of(found) == [(5, 0, 1.0, "minhash", "duplicate")]  # 6 repeats the fifth leader: missed
    assert found.capped_buckets == 1
    assert found.compared == 0 + 1 + 2 + 3 + 3 + 3 + 3
    batch.max_leaders = 5
    assert [row[:2] for row in rows_of(batch.verify())] == [(5, 0), (6, 4)]
    assert batch.verify().capped_buckets == 0


def test_content_hashes_may_be_numpy_or_a_sliced_or_chunked_arrow_column() -> None:
    raw = np.arange(48, dtype=np.uint8).reshape(3, 16)
    raw[2] = raw[0]
    arrow = pa.array([raw[0].tobytes(), *(row.tobytes() for row in raw)], pa.binary(16)).slice(1)
    forms = [raw, arrow, pa.chunked_array([arrow.slice(0, 1), arrow.slice(1)])]
    for form in forms:
        found = verify.leaders(
            pa.array(["x", "y", "z"]),
            content_hash=form,
            passing=np.ones(3, np.bool_),
            order=np.arange(3),
            buckets=memberships([]),
            exact_buckets=memberships([(0, 0), (0, 1), (0, 2)]),
        )
        assert rows_of(found) == [(2, 0, 1.0, "exact", "duplicate")]


def test_mistakes_are_named() -> None:
    with pytest.raises(ConfigError, match=r"threshold is 0; allowed is 0 < threshold <= 1"):
        chain(threshold=0).verify()
    with pytest.raises(ConfigError, match=r"near_miss is 0.8; allowed is 0 < near_miss < threshold \(0.8\)"):
        chain(near_miss=0.8).verify()
    with pytest.raises(ConfigError, match=r"max_leaders is 0; allowed is 1 and more"):
        chain(max_leaders=0).verify()
    with pytest.raises(DataError, match=r"content_hash is null in 1 of 3 rows"):
        chain(hashes=[b"a" * 16, None, b"b" * 16]).verify()
    with pytest.raises(ValueError, match=r"order must hold each of the 3 rows of texts once"):
        chain(order=[0, 1, 1]).verify()
    with pytest.raises(ValueError, match=r"memberships name rows 0 to 3; allowed are 0 to 2"):
        chain(buckets=[(0, 0), (0, 3)]).verify()


# -- sets and components ------------------------------------------------------------------------------------


@settings(deadline=None)
@given(st.lists(st.text(st.sampled_from("ab c."), max_size=80), max_size=12), st.integers(1, 5), st.data())
def test_sets_hold_each_shingle_once(texts: list[str], ngram: int, data: st.DataObject) -> None:
    wanted = np.array(data.draw(st.lists(st.booleans(), min_size=len(texts), max_size=len(texts))), np.bool_)
    column = pa.array(texts, pa.string())
    pointers, values = verify.shingle_sets(column, ngram=ngram, wanted=wanted)
    all_pointers, sequence = words.shingles(column, ngram=ngram)
    for row in range(len(texts)):
        expected = list(dict.fromkeys(sequence[all_pointers[row] : all_pointers[row + 1]].tolist()))
        assert values[pointers[row] : pointers[row + 1]].tolist() == (expected if wanted[row] else [])


@settings(deadline=None)
@given(st.lists(st.tuples(st.integers(0, 9), st.integers(0, 11)), max_size=30), st.integers(0, 30))
def test_components_are_what_a_flood_reaches_in_one_call_or_two(
    pairs: list[tuple[int, int]], cut: int
) -> None:
    def flood(pairs: list[tuple[int, int]]) -> list[int]:
        smallest = list(range(12))
        for _ in range(12):
            for bucket, row in pairs:
                members = [other for same, other in pairs if same == bucket]
                smallest[row] = min(smallest[member] for member in members)
        return smallest

    bucket, row = memberships(pairs)
    assert verify.components(bucket, row, 12).tolist() == flood(pairs)
    first, second = pairs[:cut], [(bucket + 100, row) for bucket, row in pairs[cut:]]
    roots = verify.components(*memberships(first), 12)
    before = roots.copy()
    assert verify.components(*memberships(second), 12, roots=roots).tolist() == flood(first + second)
    assert np.array_equal(roots, before)


# -- a whole table ------------------------------------------------------------------------------------------


def test_repeated_texts_are_found_whatever_they_hold() -> None:
    texts = ["!", None, "a", "", "!", "A.", "one two three four five six", "One, two, three, four, five, six"]
    assert verify.near_duplicates(pa.array(texts)).to_pylist() == [
        {"row": 3, "partner": 1, "similarity": 1.0},
        {"row": 4, "partner": 0, "similarity": 1.0},
        {"row": 5, "partner": 2, "similarity": 1.0},
        {"row": 7, "partner": 6, "similarity": 1.0},
    ]


def test_an_empty_table_has_no_duplicates() -> None:
    assert verify.near_duplicates(pa.array([], pa.string())).num_rows == 0


@pytest.mark.shared
@pytest.mark.parametrize("threshold", [0.7, 0.8, 0.9])
def test_duplicates_of_real_documents_are_those_of_the_ground_truth(threshold: float) -> None:
    """Every pair of 9,869 documents with J >= 0.5 is known, of 5-grams of ``re.findall(r"\\\\w+", text.lower())``.

    Those words are ours but for unspaced scripts, final sigmas and dotted I; documents in which they differ are
    left out of the exact comparison.
    """
    if not (SHARED / "data/corpus/groundtruth").is_dir():
        pytest.skip(f"no ground truth at {SHARED}/data/corpus/groundtruth")
    ids = pq.read_table(SHARED / "data/corpus/groundtruth/subset.parquet")["id"].to_pylist()
    documents = real_documents()
    texts = [documents[identifier] for identifier in ids]
    column = pa.array(texts, pa.large_string())
    known = pq.read_table(SHARED / "data/corpus/groundtruth/near_duplicate_pairs.parquet")
    known = known.filter(pc.greater_equal(known["jaccard"], threshold))
    place = {identifier: row for row, identifier in enumerate(ids)}
    pairs = {(place[pair["id_a"]], place[pair["id_b"]]): pair["jaccard"] for pair in known.to_pylist()}
    pairs = {(min(pair), max(pair)): jaccard for pair, jaccard in pairs.items()}

    # Precision 1, and the very same similarity. (A text without words is in no pair of the ground truth.)
    found = verify.near_duplicates(column, threshold=threshold).to_pylist()
    same_words = [not OTHER_WORDS.search(text) for text in texts]
    has_words = words.count_words(column) > 0
    comparable = 0
    for pair in found:
        row, partner = pair["row"], pair["partner"]
        if same_words[row] and same_words[partner] and has_words[row]:
            assert pairs[partner, row] == pair["similarity"]
            comparable += 1
    assert comparable > 1500

    # Recall: as many of the known pairs share a bucket as the curve promises.
    bands = minhash.choose_bands(threshold)
    keys, _ = minhash.band_keys(minhash.signatures(column, permutations=bands.permutations), bands)
    spaced = [pair for pair in pairs if same_words[pair[0]] and same_words[pair[1]]]
    proposed = sum((keys[:, a] == keys[:, b]).any() for a, b in spaced)
    expected = sum(minhash.probability(pairs[pair], bands) for pair in spaced)
    assert abs(proposed - expected) < 0.005 * len(spaced)

    # What remains of the redundancy, by connected components, is less than 2 %.
    removed = {pair["row"] for pair in found}
    remaining = [pair for pair in spaced if not removed & set(pair)]
    assert redundant(remaining) < 0.02 * redundant(spaced)


def redundant(pairs: list[tuple[int, int]]) -> int:
    """Documents that could go if one of each connected component stayed."""
    bucket = np.repeat(np.arange(len(pairs)), 2)
    rows = np.array(pairs, np.int64).reshape(-1)
    roots = verify.components(bucket, rows, int(rows.max(initial=0)) + 1)
    return int((roots != np.arange(len(roots))).sum())


@functools.cache
def real_documents() -> dict[str, str]:
    """Texts of the shared corpus by id."""
    documents = {}
    for path in sorted((SHARED / "data/corpus").glob("*.jsonl.zst")):
        for line in zstandard.ZstdDecompressor().stream_reader(path.read_bytes()).read().splitlines():
            record = json.loads(line)
            documents[record["id"]] = record["text"]
    for path in sorted((SHARED / "data/corpus").glob("*.parquet")):
        table = pq.read_table(path, columns=["id", "text"])
        documents.update(zip(table["id"].to_pylist(), table["text"].to_pylist(), strict=True))
    return documents
