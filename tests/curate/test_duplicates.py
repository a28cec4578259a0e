"""Duplicates of batches: who is preferred, and the same links however documents are cut into shards and batches."""

from __future__ import annotations

import itertools
import re
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from curate import group
from curate.duplicates import duplicates_part, total_order
from curate.group import cluster_part, group_part
from curate.measurement import measure_part
from curate.minhash import choose_bands
from curate.schema import documents_schema

Document = dict[str, Any]  # source, id, text, passing


def jaccard(a: str, b: str, ngram: int = 2) -> float:
    def shingles(text: str) -> set[tuple[str, ...]]:
        words = re.findall(r"\w+", text.lower())
        return {tuple(words[i : i + ngram]) for i in range(max(1, len(words) - ngram + 1))}

    return len(shingles(a) & shingles(b)) / len(shingles(a) | shingles(b))


def find_links(
    folder: Path, documents: list[Document], *, shards: int = 1, partitions: int = 1, threshold: float = 0.6, minhash: bool = True,
    prefer: tuple[str, ...] = ("priority", "quality", "length"), priorities: dict[str, int] | None = None,
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:  # fmt: skip
    """Measure, group, cluster and verify; links and pairs of all batches."""
    bands = choose_bands(threshold)
    searched = {"ngram": 2, "permutations": -(-bands.permutations // 64) * 64, "bands": bands.bands, "rows": bands.rows, "seed": 0}  # fmt: skip
    cuts = [len(documents) * i // shards for i in range(shards + 1)]
    paths: dict[str, list[str]] = {name: [] for name in ("documents", "signals", "keys", "passing")}
    for number, (start, stop) in enumerate(itertools.pairwise(cuts)):
        out = folder / f"shard-{number}"
        out.mkdir()
        rows = [{name: d[name] for name in ("id", "source", "text")} for d in documents[start:stop]]
        pq.write_table(
            pa.Table.from_pylist(rows, documents_schema([])), out / "documents.parquet", row_group_size=3
        )
        measure_part(
            out, documents=str(out / "documents.parquet"), first=start, signals=["gopher"], language=False, quality_model=None,
            dedup={"exact": True, "minhash": searched if minhash else None}, partitions=partitions,
        )  # fmt: skip
        pq.write_table(pa.table({"passing": pa.array([d.get("passing", True) for d in documents[start:stop]], pa.bool_())}), out / "passing.parquet")  # fmt: skip
        for name in paths:
            paths[name].append(str(out / f"{name}.{'arrow' if name == 'keys' else 'parquet'}"))
    members = []
    for number in range(partitions):
        (folder / f"group-{number}").mkdir()
        group_part(folder / f"group-{number}", keys=paths["keys"], partition=number)
        members.append(str(folder / f"group-{number}" / "members.parquet"))
    (folder / "cluster").mkdir()
    clusters = cluster_part(
        folder / "cluster", members=members, signals=paths["signals"], documents=len(documents)
    )
    links: list[dict[str, Any]] = []
    pairs: list[dict[str, Any]] = []
    for batch in range(clusters["batches"]):
        out = folder / f"batch-{batch}"
        out.mkdir()
        result = duplicates_part(
            out, batch=batch, clusters=str(folder / "cluster" / "clusters.parquet"), members=members, documents=paths["documents"],
            signals=paths["signals"], passing=paths["passing"], firsts=cuts[:-1], priorities=priorities or {d["source"]: 0 for d in documents},
            prefer=prefer, threshold=threshold if minhash else 1.0, ngram=2,
        )  # fmt: skip
        links += pq.read_table(out / "links.parquet").to_pylist()
        pairs += pq.read_table(out / "pairs.parquet").to_pylist()
        assert result["pairs"] == pq.read_metadata(out / "links.parquet").num_rows
    return sorted(links, key=lambda link: link["doc"]), pairs


def document(id: str, text: str, source: str = "s", **more: Any) -> Document:
    return {"id": id, "source": source, "text": text, **more}


def dropped(links: list[dict[str, Any]]) -> list[tuple[int, int, str]]:
    return [
        (link["doc"], link["partner"], link["method"]) for link in links if link["outcome"] == "duplicate"
    ]


LONG = "the quick brown fox jumps over the lazy dog and runs far away into the deep dark wood"
NEAR = LONG + " today"  # one shingle more: 17 of 18
FAR = "entirely other words that nobody would take for the same thing at all in any case"


def test_a_copy_and_a_near_copy_go_for_the_preferred_document(tmp_path: Path) -> None:
    links, pairs = find_links(
        tmp_path, [document("a", LONG), document("b", FAR), document("c", LONG), document("d", NEAR)]
    )
    # the longest text is preferred
    assert dropped(links) == [(0, 3, "minhash"), (2, 3, "minhash")]
    assert [link["similarity"] for link in links] == [pytest.approx(17 / 18, abs=1e-12)] * 2
    assert [(p["id"], p["partner_id"], p["outcome"]) for p in pairs] == [
        ("a", "d", "duplicate"),
        ("c", "d", "duplicate"),
    ]


@pytest.mark.parametrize(
    ("prefer", "kept"),
    [(("priority", "quality", "length"), "c"), (("length", "priority"), "d"), (("quality",), "a"), ((), "a")],
)
def test_preferences_decide_which_copy_stays_and_ties_go_to_the_smaller_key(
    prefer: tuple[str, ...], kept: str, tmp_path: Path
) -> None:
    documents = [
        document("b", LONG, "t"),
        document("a", LONG, "s"),
        document("c", LONG, "z"),
        document("d", NEAR, "y"),
    ]
    links, _ = find_links(tmp_path, documents, prefer=prefer, priorities={"s": 0, "t": 0, "z": 5, "y": -3})
    assert {link["partner_id"] for link in links} == {kept}
    assert len(links) == 3


def test_a_document_that_fails_the_policy_is_nobodys_reason_to_go(tmp_path: Path) -> None:
    documents = [document("a", LONG, passing=False), document("b", LONG), document("c", LONG, passing=False)]
    links, _ = find_links(tmp_path, documents)
    assert [(link["doc"], link["partner_id"], link["similarity"]) for link in links] == [
        (0, "b", 1.0),
        (2, "b", 1.0),
    ]
    (tmp_path / "none").mkdir()
    assert find_links(tmp_path / "none", [document(i, LONG, passing=False) for i in "ab"]) == ([], [])


def test_without_near_duplicates_only_copies_are_found(tmp_path: Path) -> None:
    links, _ = find_links(tmp_path, [document("a", LONG), document("b", NEAR), document("c", LONG), document("d", ""), document("e", "")], minhash=False)  # fmt: skip
    assert dropped(links) == [(2, 0, "exact"), (4, 3, "exact")]


WORDS = st.sampled_from(["ant", "bee", "cow", "dog", "elk"])
SOME = st.lists(WORDS, max_size=9).map(" ".join)
CORPUS = st.lists(st.tuples(SOME, st.sampled_from(["s", "t"]), st.booleans()), max_size=14)


@settings(max_examples=25, deadline=None)
@given(
    corpus=CORPUS,
    shards=st.integers(1, 4),
    partitions=st.sampled_from([1, 4]),
    budget=st.sampled_from([1, 40]),
)
def test_shards_partitions_and_batches_change_no_link(
    corpus: list[tuple[str, str, bool]],
    shards: int,
    partitions: int,
    budget: int,
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    documents = [
        document(f"d{i:02}", text, source, passing=passing)
        for i, (text, source, passing) in enumerate(corpus)
    ]
    whole = find_links(tmp_path_factory.mktemp("whole"), documents)[0]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(group, "BATCH_TEXT_BYTES", budget)
        cut = find_links(tmp_path_factory.mktemp("cut"), documents, shards=shards, partitions=partitions)[0]
    assert cut == whole
    gone = {link["doc"] for link in whole if link["outcome"] == "duplicate"}
    for link in whole:
        own, partner = documents[link["doc"]], documents[link["partner"]]
        assert (link["partner_id"], link["partner_source"]) == (partner["id"], partner["source"])
        assert partner["passing"]
        assert link["partner"] not in gone
        assert link["similarity"] == pytest.approx(
            1.0 if link["method"] == "exact" else jaccard(own["text"], partner["text"]), abs=1e-12
        )
        assert (link["similarity"] >= 0.6) == (link["outcome"] == "duplicate")
        assert (link["method"] == "exact") <= (own["text"] == partner["text"])
    texts = [d["text"] for i, d in enumerate(documents) if i not in gone and d["passing"]]
    assert len(texts) == len(set(texts))


def order_by_hand(rows: list[dict[str, Any]], prefer: list[str]) -> list[int]:
    def rank(i: int) -> tuple[Any, ...]:
        row = rows[i]
        better = {
            "priority": -row["priority"],
            "length": -row["length"],
            "quality": 1.0 if np.isnan(row["quality"]) else -row["quality"],
        }
        return (
            not row["passing"],
            *(better[name] for name in prefer),
            row["source"].encode(),
            row["id"].encode(),
        )

    return sorted(range(len(rows)), key=rank)


ROWS = st.lists(
    st.fixed_dictionaries(
        {
            "passing": st.booleans(),
            "priority": st.sampled_from([-(10**9), -1, 0, 10**9]),
            "quality": st.sampled_from([float("nan"), 0.0, 0.5, 1.0]),
            "length": st.integers(0, 3),
            "source": st.sampled_from(["a", "B", "é"]),
            "id": st.text(st.characters(exclude_categories=["Cs"]), max_size=2),
        }
    ),
    max_size=10,
    unique_by=lambda row: (row["source"], row["id"]),
)


@settings(max_examples=80, deadline=None)
@given(
    rows=ROWS,
    prefer=st.permutations(["priority", "quality", "length"]).flatmap(
        lambda p: st.integers(0, 3).map(lambda n: p[:n])
    ),
)
def test_the_order_is_total_and_that_of_the_preferences(
    rows: list[dict[str, Any]], prefer: list[str]
) -> None:
    found = total_order(
        passing=np.array([r["passing"] for r in rows], bool),
        priority=np.array([r["priority"] for r in rows], np.int64),
        quality=np.array([r["quality"] for r in rows], np.float64),
        length=np.array([r["length"] for r in rows], np.int64),
        source=pa.chunked_array([[r["source"] for r in rows]], pa.string()),
        id=pa.chunked_array([[r["id"] for r in rows]], pa.string()),
        prefer=prefer,
    )
    assert found.tolist() == order_by_hand(rows, prefer)
