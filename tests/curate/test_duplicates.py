"""Duplicates of one batch: who is preferred, which texts are compared, and what is written of a pair."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from curate.duplicates import LINKS, _hit, duplicates_part, total_order
from curate.group import MEMBERS, dealt_schema
from curate.measurement import content_hashes
from curate.schema import PAIRS, documents_schema
from curate.shards import ShardWriter
from curate.shuffle import Dealer, read_mapped

Row = dict[str, Any]


def order_by_hand(rows: list[Row], prefer: list[str]) -> list[int]:
    def rank(i: int) -> tuple[Any, ...]:
        row = rows[i]
        quality = row["quality"]
        better = {
            "priority": -row["priority"],
            "length": -row["length"],
            "quality": 1.0 if quality is None or np.isnan(quality) else -quality,
        }
        return (
            row["generation"] or 10**9,
            not row["passing"],
            *(better[name] for name in prefer),
            row["source"].encode(),
            row["position"],
            row["id"].encode(),
        )

    return sorted(range(len(rows)), key=rank)


ROWS = st.lists(
    st.fixed_dictionaries(
        {
            "generation": st.sampled_from([0, 0, 1, 2]),
            "passing": st.booleans(),
            "priority": st.sampled_from([-float("inf"), -(1e9), -1.0, 0.0, 1e9]),
            "quality": st.sampled_from([None, float("nan"), 0.0, 0.5, 1.0]),
            "length": st.integers(0, 3),
            "source": st.sampled_from(["a", "B", "é"]),
            "position": st.integers(0, 2),
            "id": st.text(st.characters(exclude_categories=["Cs"]), max_size=2),
        }
    ),
    max_size=10,
    unique_by=lambda row: (row["generation"], row["source"], row["id"]),
)


@settings(max_examples=150, deadline=None)
@given(
    rows=ROWS,
    prefer=st.permutations(["priority", "quality", "length"]).flatmap(
        lambda p: st.integers(0, 3).map(lambda n: p[:n])
    ),
)
def test_the_order_is_total_and_that_of_the_preferences(rows: list[Row], prefer: list[str]) -> None:
    table = pa.Table.from_pylist(
        [{name: value for name, value in row.items() if name != "passing"} for row in rows],
        pa.schema([f for f in dealt_schema([]) if f.name not in ("doc", "content_hash")]),
    )
    found = total_order(table, passing=np.array([r["passing"] for r in rows], bool), prefer=prefer)
    assert found.tolist() == order_by_hand(rows, prefer)


@settings(max_examples=80, deadline=None)
@given(sizes=st.lists(st.integers(0, 4), min_size=1, max_size=6), data=st.data())
def test_only_chunks_with_a_chosen_row_are_taken_and_rows_stay_what_they_were(
    sizes: list[int], data: st.DataObject
) -> None:
    numbers = itertools.count()
    chunks = [pa.array([f"{next(numbers)}" for _ in range(size)], pa.large_string()) for size in sizes]
    total = sum(sizes)
    rows = np.array(sorted(data.draw(st.sets(st.integers(0, max(0, total - 1)), max_size=total))), np.int64)
    taken, places = _hit(chunks, rows)
    column = pa.chunked_array(taken, pa.large_string())
    assert column.take(pa.array(places)).to_pylist() == [str(row) for row in rows]
    assert len(taken) == len({int(np.searchsorted(np.cumsum(sizes), row, side="right")) for row in rows})


LONG = "the quick brown fox jumps over the lazy dog and runs far away into the deep dark wood"
NEAR = LONG + " today"  # one shingle more: 17 of 18
NEAR_MISS = LONG + " where nobody has ever seen it or heard of it again"


def write_dealt(path: Path, rows: list[Row], *, texts: bool) -> str:
    schema = dealt_schema(["url"], texts=texts)
    with Dealer(path, schema, 1) as dealer:
        dealer.add(pa.Table.from_pylist(rows, schema), np.zeros(len(rows), np.int32))
    return str(path)


def write_members(path: Path, buckets: list[tuple[int, int]]) -> str:
    with Dealer(path, MEMBERS, 1) as dealer:
        columns = [np.array([b[i] for b in buckets], np.int64) for i in (0, 1)]
        dealer.add_pairs(*columns, np.zeros(len(buckets), np.int32))
    return str(path)


def known(doc: int, text: str, **more: Any) -> Row:
    hashed = content_hashes(pa.array([text]))[0].as_py()
    plain = {
        "doc": doc, "generation": 0, "id": f"d{doc}", "source": "s", "text": text, "content_hash": hashed, "by_url": None,
        "priority": 0.0, "quality": None, "length": len(text), "position": 0,
    }  # fmt: skip
    return {**plain, **more}


NEAR_SETTINGS = {"threshold": 0.9, "ngram": 2, "near_miss": 0.5, "similarity": "jaccard"}


def verify(folder: Path, **changes: Any) -> tuple[list[Row], dict[str, Any]]:
    folder.mkdir(exist_ok=True)
    arguments: dict[str, Any] = {
        "batch": 0, "batches": 1, "passing": None, "exact": True, "by": [], "scope": "across", "prefer": [],
        "minhash": NEAR_SETTINGS, "memory": 1 << 26,
    }  # fmt: skip
    result = duplicates_part(folder, **{**arguments, **changes})
    links = read_mapped(folder / "links.arrow")
    assert links.schema == LINKS
    pairs = pq.read_table(folder / "pairs.parquet")
    assert pairs.schema == PAIRS
    assert pairs.to_pylist() == links.select(PAIRS.names).to_pylist()
    return links.to_pylist(), result


def test_texts_that_were_dealt_and_texts_that_are_mapped_give_the_same_links(tmp_path: Path) -> None:
    texts = ["unlike", LONG, NEAR, "other", LONG, NEAR_MISS]
    candidates = [1, 2, 4, 5]
    rows = [known(10 + doc, texts[doc]) for doc in candidates]
    members = write_members(tmp_path / "members.arrow", [(2 * n, 10 + d) for n in (0, 3) for d in candidates])
    with ShardWriter(tmp_path / "documents.arrow", documents_schema([])) as writer:
        for start in range(0, 6, 2):
            own = [{"id": f"d{d}", "source": "s", "text": texts[d]} for d in (start, start + 1)]
            writer.write(pa.Table.from_pylist(own, documents_schema([])))
            writer._flush()
    common = {"members": [members], "firsts": [10], "shards": 1, "total": 16}
    dealt = write_dealt(tmp_path / "with.arrow", rows, texts=True)
    first, result = verify(tmp_path / "a", dealt=[dealt], documents=[None], **common)
    lean = write_dealt(tmp_path / "without.arrow", rows, texts=False)
    second, again = verify(
        tmp_path / "b", dealt=[lean], documents=[str(tmp_path / "documents.arrow")], **common
    )
    assert (first, result) == (second, again)
    assert [(r["doc"], r["partner"], r["rule"], r["outcome"]) for r in first] == [
        (12, 11, "minhash.jaccard", "duplicate"),
        (14, 11, "exact.content_hash", "duplicate"),
        (15, 11, "minhash.jaccard", "near_miss"),
    ]
    assert [(r["id"], r["source"], r["partner_id"], r["partner_source"]) for r in first] == [
        (f"d{doc}", "s", "d11", "s") for doc in (12, 14, 15)
    ]
    assert {r["generation"] for r in first} == {None}
    assert first[0]["similarity"] == pytest.approx(17 / 18, abs=1e-12)
    assert (result["rows"], result["settled"], result["largest_bucket"]) == (4, 0, 4)


def test_documents_of_an_index_stay_and_come_first(tmp_path: Path) -> None:
    new = write_dealt(tmp_path / "new.arrow", [known(0, LONG, priority=9.0), known(1, NEAR)], texts=True)
    old = [known(7, NEAR, generation=2, id="old2"), known(8, NEAR, generation=1, id="old1", source="gone")]
    with ShardWriter(tmp_path / "index.arrow", documents_schema([])) as writer:
        writer.write(
            pa.table([["x", "old2", "old1"], ["s", "s", "gone"], ["", NEAR, NEAR]], documents_schema([]))
        )
    members = write_members(
        tmp_path / "members.arrow", [(0, 0), (0, 1), (0, 7), (0, 8), (3, 1), (3, 7), (3, 8)]
    )
    links, result = verify(
        tmp_path / "out", dealt=[new, write_dealt(tmp_path / "old.arrow", old, texts=False)],
        documents=[None, str(tmp_path / "index.arrow")], members=[members], firsts=[0, 6], shards=1, total=2, prefer=["priority"],
    )  # fmt: skip
    found = [tuple(r[n] for n in ("doc", "partner", "partner_id", "partner_source", "generation", "rule")) for r in links]  # fmt: skip
    assert found == [
        (0, 8, "old1", "gone", 1, "minhash.jaccard"),
        (1, 8, "old1", "gone", 1, "exact.content_hash"),
    ]
    assert (result["rows"], result["settled"]) == (2, 2)


@pytest.mark.parametrize(
    ("scope", "rule", "expected"), [("across", "url", [(1, 0), (2, 0)]), ("within", "url", [(2, 1)]), ("across", None, []), ("within", None, [])]
)  # fmt: skip
def test_equal_fields_make_duplicates_within_or_across_sources_and_nulls_never(
    scope: str, rule: str | None, expected: list[tuple[int, int]], tmp_path: Path
) -> None:
    url = content_hashes(pa.array(["http://a"]))[0].as_py()
    rows = [known(0, "a b", by_url=url), known(1, "c d", by_url=url, source="t"), known(2, "e f", by_url=url, source="t")]  # fmt: skip
    rows += [known(3, "g h"), known(4, "i j")]
    members = write_members(tmp_path / "m.arrow", [(1, n) for n in range(5)])
    links, result = verify(
        tmp_path / "out", dealt=[write_dealt(tmp_path / "d.arrow", rows, texts=True)], documents=[None], members=[members],
        firsts=[0], shards=1, total=5, scope=scope, by=[rule] if rule else [], minhash=None,
    )  # fmt: skip
    assert [(r["doc"], r["partner"]) for r in links] == expected
    assert {(r["rule"], r["similarity"], r["method"]) for r in links} <= {("exact.url", 1.0, "exact")}
    assert result["compared_pairs"] == 0  # a shared field makes no candidates


def test_who_does_not_pass_is_read_from_the_shards_of_the_batch(tmp_path: Path) -> None:
    rows = [known(1, LONG), known(5, LONG), known(6, LONG)]
    for name, passing in (("a", [True, False, True]), ("c", [True, False, True])):
        pq.write_table(pa.table({"passing": passing}), tmp_path / f"{name}.parquet")
    passing = [str(tmp_path / f"{name}.parquet") for name in ("a", "missing", "c")]
    links, _ = verify(
        tmp_path / "out", dealt=[write_dealt(tmp_path / "d.arrow", rows, texts=True), *_nothing(tmp_path, 2)], documents=[None] * 3,
        members=[write_members(tmp_path / "m.arrow", [(1, 1), (1, 5), (1, 6)])], firsts=[0, 3, 4], shards=3, total=7, passing=passing,
    )  # fmt: skip
    assert [(r["doc"], r["partner"]) for r in links] == [(1, 6), (5, 6)]


def _nothing(folder: Path, count: int) -> list[str]:
    return [write_dealt(folder / f"nothing-{n}.arrow", [], texts=True) for n in range(count)]
