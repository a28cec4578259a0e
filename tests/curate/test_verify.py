"""Leader clustering against the same rule written with Python's sets, whatever the chunks, the column and the numbers."""

from __future__ import annotations

import dataclasses
import doctest
import itertools
import os
import subprocess
import sys
import tempfile
import tracemalloc
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from curate import verify
from curate.minhash import Memberships
from curate.verify import Exact
from filters import words
from filters.errors import ConfigError

ROOT = Path(__file__).parents[2]
WHOLE = 1 << 20  # chunk_bytes that hold any batch of these tests


def word_ngrams(text: str | None, ngram: int) -> set[tuple[str, ...]]:
    found = [word for word, _, _ in words.split(text or "")]
    return {tuple(found[k : k + ngram]) for k in range(max(1, len(found) - ngram + 1))} if found else set()


@dataclass
class Batch:
    """What ``leaders`` is asked, with Python's own types.

    ``exact`` holds a list for each property: a number for each row, or None where it has no such property. ``strangers``
    are texts that lie between those of the batch: row r is row ``places[r]`` of the column.
    """

    texts: list[str | None]
    order: list[int]
    passing: list[bool]
    buckets: list[tuple[int, int]]
    exact: list[list[int | None]] = dataclasses.field(default_factory=list)
    settled: list[bool] | None = None
    threshold: float = 0.8
    ngram: int = 2
    near_miss: float | None = None
    similarity: str = "jaccard"
    max_leaders: int = 256
    chunk_bytes: int = WHOLE
    same_text: bool = False
    strangers: list[int] = dataclasses.field(default_factory=list)
    cuts: list[int] = dataclasses.field(default_factory=list)

    def verify(self) -> verify.Verification:
        column, places = list(self.texts), np.arange(len(self.texts))
        for stranger in self.strangers:
            column.insert(stranger, "a b c d e f g")
            places[places >= stranger] += 1
        bounds = [0, *sorted(cut for cut in self.cuts if cut < len(column)), len(column)]
        chunks = [pa.array(column[a:b], pa.large_string()) for a, b in itertools.pairwise(bounds)]
        return verify.leaders(
            pa.chunked_array(chunks, pa.large_string()) if self.cuts else pa.array(column, pa.string()),
            rows_of_texts=places if self.strangers else None,
            order=np.array(self.order, np.int64),
            passing=np.array(self.passing, np.bool_),
            buckets=memberships(self.buckets),
            exact=[
                Exact(f"exact.{kind}", *hashes_of(values), same_text=self.same_text)
                for kind, values in enumerate(self.exact)
            ],
            settled=None if self.settled is None else np.array(self.settled, np.bool_),
            threshold=self.threshold,
            ngram=self.ngram,
            near_miss=self.near_miss,
            similarity=self.similarity,  # type: ignore[arg-type]
            max_leaders=self.max_leaders,
            chunk_bytes=self.chunk_bytes,
        )

    def renumbered(self, places: Sequence[int]) -> Batch:
        """The same documents with row r at ``places[r]``, and the memberships in another order."""

        def moved(values: list[Any] | None) -> list[Any] | None:
            if values is None:
                return None
            return [value for _, value in sorted(zip(places, values, strict=True), key=lambda e: e[0])]

        return dataclasses.replace(
            self,
            texts=moved(self.texts),
            passing=moved(self.passing),
            exact=[moved(values) for values in self.exact],
            settled=moved(self.settled),
            order=[places[row] for row in self.order],
            buckets=[(1000 - bucket, places[row]) for bucket, row in reversed(self.buckets)],
        )

    def mixed_buckets(self) -> dict[int, list[int]]:
        """Members of the buckets, without those whose members are all equal in one exact property."""
        members: dict[int, list[int]] = {}
        for bucket, row in self.buckets:
            members.setdefault(bucket, []).append(row)

        def is_mixed(rows: list[int]) -> bool:
            return not any(
                {v[row] for row in rows} in [{value} for value in v if value is not None] for v in self.exact
            )

        return {bucket: rows for bucket, rows in members.items() if is_mixed(rows)}


def hashes_of(values: Sequence[int | None]) -> tuple[np.ndarray, np.ndarray | None]:
    """128-bit hashes in which now the first, now the second word tells two values apart, and which of them count."""
    known = np.array([value or 0 for value in values], np.uint64)
    valid = np.array([value is not None for value in values], np.bool_)
    return np.stack([known // np.uint64(2), known % np.uint64(2)], axis=1), None if valid.all() else valid


def memberships(pairs: Sequence[tuple[int, int]]) -> Memberships:
    table = np.array(pairs, np.int64).reshape(-1, 2)
    return Memberships(table[:, 0], table[:, 1])


def rows_of(found: verify.Verification) -> list[tuple[int, int, float, str, str, str]]:
    assert found.pairs.schema == verify.PAIR_SCHEMA
    return [tuple(row.values()) for row in found.pairs.to_pylist()]  # type: ignore[misc]


def similarity_of(a: set[Any], b: set[Any], kind: str) -> float:
    return len(a & b) / (len(a) if kind == "containment" else len(a | b))


def slow_leaders(batch: Batch) -> tuple[list[tuple[int, int, float, str, str, str]], int, int]:
    """The rule, word for word: rows of PAIR_SCHEMA, pairs compared, buckets with too many leaders."""
    sets = [word_ngrams(text, batch.ngram) for text in batch.texts]
    least = batch.threshold if batch.near_miss is None else batch.near_miss
    leaders: list[int] = []  # in their order
    bucket_leaders: dict[int, list[int]] = {}
    capped: set[int] = set()
    found, compared = [], 0
    for row in batch.order:
        own = {bucket for bucket, member in batch.buckets if member == row}
        stays = batch.settled is not None and batch.settled[row]
        if not stays:
            twins = [
                (kind, leader)
                for kind, values in enumerate(batch.exact)
                for leader in leaders
                if values[row] is not None and values[leader] == values[row]
            ]
            if twins:
                found.append((row, twins[0][1], 1.0, "exact", f"exact.{twins[0][0]}", "duplicate"))
                continue
            best, partner = 0.0, None
            if sets[row]:
                near = {leader for bucket in own for leader in bucket_leaders.get(bucket, [])}
                compared += len(near)
                for leader in sorted(near, key=batch.order.index):
                    similarity = similarity_of(sets[row], sets[leader], batch.similarity)
                    if similarity >= least and similarity > best:
                        best, partner = similarity, leader
            if partner is not None:
                outcome = "duplicate" if best >= batch.threshold else "near_miss"
                found.append((row, partner, best, "minhash", f"minhash.{batch.similarity}", outcome))
            if not batch.passing[row] or best >= batch.threshold:
                continue
        leaders.append(row)
        for bucket in own if sets[row] else ():
            if len(bucket_leaders.setdefault(bucket, [])) < batch.max_leaders:
                bucket_leaders[bucket].append(row)
            else:
                capped.add(bucket)
    return sorted(found), compared, len(capped & batch.mixed_buckets().keys())


@st.composite
def batches(draw: st.DrawFn) -> Batch:
    """A few texts of a small vocabulary, and edits of them."""
    word = st.sampled_from(["a", "b", "c", "d", "e", "é", "中"])
    originals = draw(st.lists(st.lists(word, max_size=14), min_size=1, max_size=4))
    texts: list[str | None] = []
    for _ in range(draw(st.integers(0, 14))):
        text = list(draw(st.sampled_from(originals)))
        for _ in range(draw(st.integers(0, 2))):
            place = draw(st.integers(0, len(text)))
            text[place : place + draw(st.integers(0, 1))] = draw(st.lists(word, max_size=1))
        joined = draw(st.sampled_from([" ", ", "])).join(text) + draw(st.sampled_from(["", ".", "!"]))
        texts.append(draw(st.sampled_from([joined] * 9 + [None])))
    rows = len(texts)
    flags = st.lists(st.booleans(), min_size=rows, max_size=rows)
    row = st.integers(0, rows - 1) if rows else st.nothing()
    number = st.integers(-1, 3) | st.sampled_from([10**9, -(10**12)])
    threshold = draw(st.sampled_from([0.3, 0.5, 0.8, 1.0]))
    settled = draw(st.none() | flags)
    order = list(draw(st.permutations(range(rows))))
    if settled is not None:
        order.sort(key=lambda row: not settled[row])
    properties = st.lists(st.none() | st.integers(0, 5), min_size=rows, max_size=rows)
    return Batch(
        texts,
        order,
        draw(flags),
        draw(st.lists(st.tuples(number, row), max_size=4 * rows, unique=True)),
        draw(st.lists(properties, max_size=3)),
        settled,
        threshold,
        draw(st.integers(1, 5)),
        draw(st.sampled_from([None, threshold / 2])),
        draw(st.sampled_from(["jaccard", "containment"])),
        draw(st.sampled_from([1, 2, 256])),
        draw(st.sampled_from([1, 12, 60, WHOLE])),
        draw(st.booleans()),
        sorted(draw(st.lists(st.integers(0, rows), max_size=4))),
        draw(st.lists(st.integers(0, rows), max_size=3)),
    )


def test_the_examples_in_the_docstrings_are_true() -> None:
    assert doctest.testmod(verify).failed == 0


# -- leaders ------------------------------------------------------------------------------------------------


@settings(max_examples=250, deadline=None)
@given(batches())
def test_duplicates_and_near_misses_are_those_of_the_rule(batch: Batch) -> None:
    found = batch.verify()
    rows, compared, capped = slow_leaders(batch)
    assert rows_of(found) == rows
    assert found.capped_buckets == capped
    assert found.verified <= found.compared
    if batch.chunk_bytes == WHOLE:
        assert found.compared == compared
    else:  # earlier chunks are compared with before it is known whether this one has an equal document
        assert found.compared >= compared
    largest = max((len(members) for members in batch.mixed_buckets().values()), default=0)
    assert found.largest_bucket == largest if largest > 1 else found.largest_bucket <= 1


@settings(max_examples=80, deadline=None)
@given(batches())
def test_every_duplicate_has_a_kept_partner_and_no_two_kept_documents_of_a_bucket_are_duplicates(
    batch: Batch,
) -> None:
    batch.max_leaders = 256
    found = rows_of(batch.verify())
    sets = [word_ngrams(text, batch.ngram) for text in batch.texts]
    settled = batch.settled or [False] * len(batch.texts)
    duplicates = {row[0] for row in found if row[5] == "duplicate"}
    kept = [row for row in batch.order if settled[row] or (batch.passing[row] and row not in duplicates)]
    assert len({row[0] for row in found}) == len(found)
    for row, partner, similarity, method, rule, outcome in found:
        assert partner in kept and not settled[row]
        assert batch.order.index(partner) < batch.order.index(row)
        if method == "exact":
            values = batch.exact[int(rule.removeprefix("exact."))]
            assert values[row] is not None and values[row] == values[partner]
        else:
            assert similarity == similarity_of(sets[row], sets[partner], batch.similarity)
        assert (outcome == "duplicate") == (similarity >= batch.threshold)
    for place, later in enumerate(kept):
        for earlier in kept[:place]:
            if settled[later]:
                continue
            assert not any(v[later] is not None and v[later] == v[earlier] for v in batch.exact)
            shared = {b for b, row in batch.buckets if row == later} & {
                b for b, row in batch.buckets if row == earlier
            }
            if shared and sets[later] and sets[earlier]:
                assert similarity_of(sets[later], sets[earlier], batch.similarity) < batch.threshold


@settings(max_examples=80, deadline=None)
@given(batches(), st.data())
def test_the_numbers_of_the_rows_do_not_matter(batch: Batch, data: st.DataObject) -> None:
    places = data.draw(st.permutations(range(len(batch.texts))))
    found, moved = batch.verify(), batch.renumbered(places).verify()
    assert rows_of(moved) == sorted((places[r], places[p], *rest) for r, p, *rest in rows_of(found))
    assert (moved.compared, moved.capped_buckets) == (found.compared, found.capped_buckets)


@settings(max_examples=80, deadline=None)
@given(batches(), st.data())
def test_neither_memberships_nor_chunks_nor_the_column_s_layout_matter(
    batch: Batch, data: st.DataObject
) -> None:
    other = dataclasses.replace(
        batch,
        buckets=data.draw(st.permutations(batch.buckets)),
        chunk_bytes=data.draw(st.integers(1, 200)),
        same_text=not batch.same_text,
        strangers=[],
        cuts=[],
    )
    assert other.verify().pairs.equals(batch.verify().pairs)


@settings(max_examples=80, deadline=None)
@given(batches())
def test_batches_that_share_nothing_may_be_verified_apart(batch: Batch) -> None:
    """The promise to those who divide a corpus: by the components of buckets and exact properties together."""
    whole = {row[0]: row for row in rows_of(batch.verify())}
    rows = len(batch.texts)
    links = list(batch.buckets)
    for kind, values in enumerate(batch.exact):
        links += [(-1000 - 10 * kind - v, row) for row, v in enumerate(values) if v is not None]
    roots = verify.components(*memberships(links), rows)
    apart = {}
    for root in set(roots.tolist()):
        own = np.flatnonzero(roots == root).tolist()
        part = dataclasses.replace(
            batch,
            texts=[batch.texts[row] for row in own],
            order=[own.index(row) for row in batch.order if row in own],
            passing=[batch.passing[row] for row in own],
            buckets=[(bucket, own.index(row)) for bucket, row in batch.buckets if row in own],
            exact=[[values[row] for row in own] for values in batch.exact],
            settled=None if batch.settled is None else [batch.settled[row] for row in own],
            strangers=[],
        )
        apart |= {own[row]: (own[row], own[partner], *rest) for row, partner, *rest in rows_of(part.verify())}
    assert apart == whole


def chain(**changes: Any) -> Batch:
    """A and B, B and C have 8 of 10 shingles in common (n = 1); A and C have 7 of 11."""
    texts: list[str | None] = ["a b c d e f g h i", "b c d e f g h i j", "c d e f g h i j k"]
    plain = Batch(texts, [0, 1, 2], [True] * 3, [(0, 0), (0, 1), (0, 2)], ngram=1)
    return dataclasses.replace(plain, **changes)


DUPLICATE = ("minhash", "minhash.jaccard", "duplicate")


def test_a_document_that_resembles_only_a_removed_one_is_kept() -> None:
    assert rows_of(chain().verify()) == [(1, 0, 8 / 10, *DUPLICATE)]


def test_a_threshold_that_is_met_exactly_makes_a_duplicate() -> None:
    assert rows_of(chain(threshold=0.8).verify())[0][5] == "duplicate"
    assert rows_of(chain(threshold=np.nextafter(0.8, 1)).verify()) == []


def test_the_order_decides_who_is_kept() -> None:
    assert rows_of(chain(order=[1, 0, 2]).verify()) == [(0, 1, 0.8, *DUPLICATE), (2, 1, 0.8, *DUPLICATE)]


def test_a_document_that_fails_other_rules_stands_for_nothing_but_gets_its_partner() -> None:
    assert rows_of(chain(passing=[False, True, True]).verify()) == [(2, 1, 0.8, *DUPLICATE)]
    assert rows_of(chain(passing=[True, False, True]).verify()) == [(1, 0, 0.8, *DUPLICATE)]


def test_a_copy_of_a_document_that_is_not_kept_is_no_exact_duplicate() -> None:
    copies = chain(texts=["!", "!", "!"], exact=[[1, 1, 1]], buckets=[], passing=[False, True, True])
    assert rows_of(copies.verify()) == [(2, 1, 1.0, "exact", "exact.0", "duplicate")]


def test_near_misses_are_kept_and_written_down() -> None:
    found = chain(near_miss=0.6).verify()
    assert rows_of(found) == [
        (1, 0, 0.8, *DUPLICATE),
        (2, 0, 7 / 11, "minhash", "minhash.jaccard", "near_miss"),
    ]
    assert rows_of(chain(near_miss=0.65).verify()) == [(1, 0, 0.8, *DUPLICATE)]


def test_the_most_similar_leader_is_the_partner_and_then_the_earliest() -> None:
    batch = chain(
        texts=["a b c d x", "a b c d e f", "a b c d y", "a b c d e"],
        passing=[True] * 4,
        order=[2, 0, 1, 3],
        buckets=[(0, row) for row in range(4)],
        threshold=0.7,
    )
    assert rows_of(batch.verify()) == [(3, 1, 5 / 6, *DUPLICATE)]
    batch.texts[1] = "other words"
    batch.threshold = 4 / 6
    assert rows_of(batch.verify()) == [(0, 2, 4 / 6, *DUPLICATE), (3, 2, 4 / 6, *DUPLICATE)]


@pytest.mark.parametrize("chunk_bytes", [1, 16, WHOLE])
def test_the_earliest_of_equally_similar_leaders_is_the_partner_whatever_bucket_or_chunk_it_is_in(
    chunk_bytes: int,
) -> None:
    batch = Batch(
        ["a b c d x", "a b c d y", "a b c d", "!", "?", "."],
        [0, 1, 2, 3, 4, 5],
        [True] * 6,
        buckets=[(8, 0), (7, 1), (7, 2), (8, 2)],
        exact=[[None, None, None, 1, None, 1], [None, None, None, None, 2, 2]],
        ngram=1,
        chunk_bytes=chunk_bytes,
    )
    assert rows_of(batch.verify()) == [
        (2, 0, 4 / 5, *DUPLICATE),
        (5, 3, 1.0, "exact", "exact.0", "duplicate"),
    ]
    batch.order = [1, 0, 2, 4, 3, 5]  # the first property decides, and only then the order
    assert rows_of(batch.verify()) == [
        (2, 1, 4 / 5, *DUPLICATE),
        (5, 3, 1.0, "exact", "exact.0", "duplicate"),
    ]
    batch.exact.reverse()
    assert rows_of(batch.verify())[1] == (5, 4, 1.0, "exact", "exact.0", "duplicate")


def test_containment_is_that_of_the_visited_document_in_the_leader() -> None:
    whole, part = "a b c d e f g h", "c d e f"
    batch = Batch([whole, part], [0, 1], [True] * 2, [(0, 0), (0, 1)], ngram=1, similarity="containment")
    assert rows_of(batch.verify()) == [(1, 0, 1.0, "minhash", "minhash.containment", "duplicate")]
    assert rows_of(dataclasses.replace(batch, order=[1, 0]).verify()) == []
    assert rows_of(dataclasses.replace(batch, order=[1, 0], near_miss=0.5).verify()) == [
        (0, 1, 0.5, "minhash", "minhash.containment", "near_miss")
    ]


@pytest.mark.parametrize("chunk_bytes", [1, WHOLE])
def test_settled_documents_stay_whatever_they_resemble_and_stand_for_others(chunk_bytes: int) -> None:
    batch = chain(
        texts=["a b c", "a b c", "A b c.", "a b d"],
        order=[1, 0, 2, 3],
        passing=[False, False, True, False],
        settled=[True, True, False, False],
        buckets=[(0, row) for row in range(4)],
        exact=[[7, 7, 8, None]],
        threshold=0.5,
        chunk_bytes=chunk_bytes,
    )
    assert batch.verify().compared == 4  # rows 2 and 3 with both, and these not with each other
    assert rows_of(batch.verify()) == [(2, 1, 1.0, *DUPLICATE), (3, 1, 0.5, *DUPLICATE)]
    batch.exact = [[7, 7, 7, None]]
    assert rows_of(batch.verify())[0] == (2, 1, 1.0, "exact", "exact.0", "duplicate")


def test_documents_without_words_are_duplicates_only_of_equal_ones() -> None:
    batch = Batch(["!", "?", "!"], [0, 1, 2], [True] * 3, [(0, 0), (0, 1), (0, 2)], [[1, 2, 1]])
    assert rows_of(batch.verify()) == [(2, 0, 1.0, "exact", "exact.0", "duplicate")]


def test_hashes_that_share_one_of_their_two_words_are_different() -> None:
    hashes = np.array([[1, 1], [1, 2], [2, 1], [2, 2], [1, 2]], np.uint64)
    found = verify.leaders(
        pa.array(["!"] * 5),
        order=np.arange(5),
        passing=np.ones(5, np.bool_),
        buckets=memberships([]),
        exact=[Exact("exact.content_hash", hashes)],
    )
    assert [row[:2] for row in rows_of(found)] == [(4, 1)]


@pytest.mark.parametrize("chunk_bytes", [1, 30, WHOLE])
def test_documents_that_should_have_the_same_text_and_have_not_are_compared_by_their_own(
    chunk_bytes: int,
) -> None:
    """``same_text`` is a hint. Rows 2 and 3 have no leader of the same hash, so they are compared by their shingles."""
    batch = Batch(
        ["a b c d", "w x y z", "a b c d", "w x y z"],
        [0, 1, 2, 3],
        [True, True, False, False],
        [(0, row) for row in range(4)],
        [[None, None, 1, 1]],
        ngram=1,
        same_text=True,
        chunk_bytes=chunk_bytes,
    )
    assert rows_of(batch.verify()) == [(2, 0, 1.0, *DUPLICATE), (3, 1, 1.0, *DUPLICATE)]
    batch.texts[3] = "w x y z "  # of another length
    assert rows_of(batch.verify()) == [(2, 0, 1.0, *DUPLICATE), (3, 1, 1.0, *DUPLICATE)]


def test_a_null_may_be_the_twin_of_an_empty_text() -> None:
    """Their content hashes are equal."""
    batch = Batch(
        ["", None, "", "a"], [0, 1, 2, 3], [True] * 4, [(0, row) for row in range(4)], [[1, 1, 1, None]]
    )
    batch.same_text = True
    assert [row[:2] for row in rows_of(batch.verify())] == [(1, 0), (2, 0)]


@pytest.mark.parametrize("chunk_bytes", [1, 40, WHOLE])
def test_a_bucket_with_too_many_leaders_is_reported_and_the_first_ones_are_compared(chunk_bytes: int) -> None:
    texts: list[str | None] = [f"{row} {row + 100} {row + 200}" for row in range(5)]
    batch = Batch(
        [*texts, texts[0], texts[4]],
        list(range(7)),
        [True] * 7,
        [(9, row) for row in range(7)],
        max_leaders=3,
        chunk_bytes=chunk_bytes,
    )
    found = batch.verify()
    assert rows_of(found) == [(5, 0, 1.0, *DUPLICATE)]  # 6 repeats the fifth leader: missed
    assert (found.capped_buckets, found.largest_bucket) == (1, 7)
    assert found.compared == 0 + 1 + 2 + 3 + 3 + 3 + 3
    batch.max_leaders = 5
    assert [row[:2] for row in rows_of(batch.verify())] == [(5, 0), (6, 4)]
    assert batch.verify().capped_buckets == 0


def test_exact_duplicates_are_found_however_many_leaders_a_bucket_has() -> None:
    texts: list[str | None] = [f"{row} {row + 1000}" for row in range(50)]
    batch = Batch(
        texts + texts,
        list(range(100)),
        [True] * 100,
        [(0, row) for row in range(100)],
        [[*range(50), *range(50)]],
        max_leaders=1,
    )
    assert [row[:2] for row in rows_of(batch.verify())] == [(row + 50, row) for row in range(50)]


def unlike(rows: int, length: int) -> list[str | None]:
    """Texts that have hardly a word in common."""
    return [
        " ".join(map(str, np.random.default_rng([3, row]).integers(0, 10**6, length))) for row in range(rows)
    ]


def test_one_cluster_of_any_size_needs_the_memory_of_a_chunk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    rows, length = 300, 2000  # 4 MB of text, and as many shingles; none is a duplicate, so all are leaders
    texts = unlike(rows, length)
    texts[-1] = texts[0]
    batch = Batch(
        texts, list(range(rows)), [True] * rows, [(0, row) for row in range(rows)], max_leaders=rows
    )
    column = pa.array(texts, pa.large_string())

    def peak(chunk_bytes: int) -> tuple[pa.Table, int]:
        tracemalloc.start()
        found = verify.leaders(
            column,
            order=np.array(batch.order),
            passing=np.ones(rows, np.bool_),
            buckets=memberships(batch.buckets),
            max_leaders=rows,
            chunk_bytes=chunk_bytes,
        )
        size = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return found.pairs, size

    batch.verify()  # compiles, outside of what is measured
    pairs, size = peak(1 << 18)
    whole, whole_size = peak(WHOLE << 4)
    assert rows_of(verify.Verification(pairs, 0, 0, 0, 0)) == [(rows - 1, 0, 1.0, *DUPLICATE)]
    assert pairs.equals(whole)
    assert whole_size > 8 * rows * length
    assert size < whole_size / 4
    assert list(tmp_path.iterdir()) == []  # the scratch files are gone


def test_a_full_disk_is_an_error_with_a_remedy_and_leaves_nothing_behind(tmp_path: Path) -> None:
    program = """
import resource, sys
import numpy as np, pyarrow as pa
from curate import minhash, verify
texts = [" ".join(str(1000 * row + k) for k in range(500)) for row in range(20)]
arguments = dict(order=np.arange(20), passing=np.ones(20, bool), chunk_bytes=5000,
                 buckets=minhash.Memberships(np.zeros(20, np.int64), np.arange(20)))
verify.leaders(pa.array(texts), **arguments)
resource.setrlimit(resource.RLIMIT_FSIZE, (1024, 1024))
try:
    verify.leaders(pa.array(texts), **arguments)
except Exception as error:
    print(type(error).__name__, error)
"""
    done = subprocess.run(
        [sys.executable, "-c", program],
        env=os.environ | {"TMPDIR": str(tmp_path)},
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.startswith(f"RunError leaders: {tmp_path}/curate-leaders-")
    assert "File too large; shingles of a batch that is larger than one chunk are kept there." in done.stdout
    assert done.stdout.strip().endswith(
        "Free space there; outside of a run, the variable TMPDIR may name another directory"
    )
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("kind", [pa.string(), pa.large_string(), pa.string_view()])
def test_any_string_column_sliced_or_in_chunks_gives_the_same(kind: pa.DataType) -> None:
    batch = chain(texts=["a b c", "a b c d", None])
    column = pa.array(["before", *batch.texts, "after"], kind)
    forms = [
        column.slice(1, 3),
        pa.chunked_array([column.slice(1, 1), column.slice(0, 0), column.slice(2, 2)]),
        pa.chunked_array([pa.array([], kind), pa.array(batch.texts, kind)]),
    ]
    for form in forms:
        found = verify.leaders(
            form,
            order=np.array([1, 0, 2]),
            passing=np.ones(3, np.bool_),
            buckets=memberships(batch.buckets),
            threshold=0.7,
            ngram=1,
        )
        assert rows_of(found) == [(0, 1, 3 / 4, *DUPLICATE)]


def test_bytes_in_the_slot_of_a_null_are_no_text() -> None:
    """Arrow allows them."""
    offsets = pa.py_buffer(np.array([0, 3, 6, 9], np.int64))
    column = pa.LargeStringArray.from_buffers(3, offsets, pa.py_buffer(b"a ba ba b"), pa.py_buffer(b"\x05"))
    found = verify.leaders(
        column,
        order=np.arange(3),
        passing=np.ones(3, np.bool_),
        buckets=memberships([(0, 0), (0, 1), (0, 2)]),
    )
    assert rows_of(found) == [(2, 0, 1.0, *DUPLICATE)]


def test_nothing_is_a_batch_without_duplicates() -> None:
    found = Batch([], [], [], [], [[]]).verify()
    assert (rows_of(found), found.compared, found.capped_buckets, found.largest_bucket) == ([], 0, 0, 0)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"threshold": 0}, r"leaders: threshold is 0; allowed is 0 < threshold <= 1"),
        ({"threshold": 1.01}, r"leaders: threshold is 1.01; allowed is 0 < threshold <= 1"),
        ({"threshold": float("nan")}, r"leaders: threshold is nan; allowed is 0 < threshold <= 1"),
        ({"near_miss": 0.8}, r"leaders: near_miss is 0.8; allowed is 0 < near_miss < threshold \(0.8\)"),
        ({"near_miss": 0}, r"leaders: near_miss is 0; allowed is 0 < near_miss < threshold \(0.8\)"),
        ({"max_leaders": 0}, r"leaders: max_leaders is 0; allowed is 1 and more, usually 256"),
        ({"similarity": "cosine"}, r"leaders: similarity is 'cosine'; allowed are jaccard and containment"),
        ({"ngram": 0}, r"shingles: ngram is 0; allowed are 1 to 32"),
    ],
)
def test_mistakes_of_a_configuration_are_named(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        chain(**changes).verify()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"order": [0, 1, 1]}, r"order must hold each of the 3 rows of texts once"),
        ({"order": [0, 1]}, r"order must hold each of the 3 rows of texts once"),
        ({"order": [0, 1, 3]}, r"order must hold each of the 3 rows of texts once"),
        ({"passing": [True]}, r"passing and settled have 1 and 3 values for 3 rows"),
        ({"settled": [True]}, r"passing and settled have 3 and 1 values for 3 rows"),
        ({"settled": [False, True, False]}, r"settled documents must come first in the order"),
        ({"buckets": [(0, 0), (0, 3)]}, r"memberships name rows 0 to 3; allowed are 0 to 2"),
        ({"buckets": [(0, -1), (0, 2)]}, r"memberships name rows -1 to 2; allowed are 0 to 2"),
        ({"exact": [[1, 2]]}, r"exact.0: hashes are \(2, 2\); allowed is \(3, 2\)"),
    ],
)
def test_arguments_that_do_not_fit_each_other_are_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        chain(**changes).verify()


def test_memberships_of_different_lengths_are_refused() -> None:
    with pytest.raises(ValueError, match="memberships have 1 buckets for 2 rows"):
        verify.leaders(
            pa.array(["a", "b"]),
            order=np.arange(2),
            passing=np.ones(2, np.bool_),
            buckets=Memberships(np.array([0]), np.array([0, 1])),
        )


# -- sets and components ------------------------------------------------------------------------------------


@settings(deadline=None)
@given(st.lists(st.text(st.sampled_from("ab c.中"), max_size=80), max_size=12), st.integers(1, 5))
@example(["中" * 50, "a", "", "中"], 1)
def test_sets_hold_each_shingle_once(texts: list[str], ngram: int) -> None:
    column = pa.array(texts, pa.string())
    pointers, values = verify.shingle_sets(column, ngram=ngram)
    all_pointers, sequence = words.shingles(column, ngram=ngram)
    for row in range(len(texts)):
        expected = list(dict.fromkeys(sequence[all_pointers[row] : all_pointers[row + 1]].tolist()))
        assert values[pointers[row] : pointers[row + 1]].tolist() == expected
    assert pointers[-1] == len(values)


def test_sets_of_texts_that_are_longer_than_what_is_read_at_a_time() -> None:
    """Half a megabyte is taken at a time; the texts lie around that bound, in two chunks of a column."""
    texts = ["a b", "x y " * 140_000, "", "y x " * 140_000 + "z", "中" * 200_000, "a b"]
    column = pa.chunked_array([pa.array(texts[:2]), pa.array(texts[2:])])
    pointers, values = verify.shingle_sets(column, ngram=2)
    assert np.diff(pointers).tolist() == [1, 2, 0, 3, 1, 1]
    assert values[0] == values[-1]


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


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: verify.components(np.array([0, 0]), np.array([0, 3]), 3), "rows 0 to 3; allowed are 0 to 2"),
        (
            lambda: verify.components(np.array([0]), np.array([0]), 3, roots=np.arange(2)),
            "roots has 2 values for 3 rows",
        ),
    ],
)
def test_components_refuse_rows_that_are_not_there(call: Callable[[], object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call()
