"""Decisions: every reason of every document in one order, and kept documents in the order of the input."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from curate.decide import conservation_faults, decide_part
from curate.duplicates import LINKS
from curate.ingest import EDITS
from curate.schema import DECISIONS, documents_schema
from curate.shards import ShardWriter
from curate.shuffle import read_mapped
from curate.verdicts import VERDICTS

Row = dict[str, Any]

IDS = ["c", "a", "b", "e", "d", "f"]


def decide(
    folder: Path,
    *,
    verdicts: list[Row] | None,
    links: list[list[Row]],
    edits: list[Row] | None,
    first: int = 0,
    suffix: str = "parquet",
    kept: bool = True,
) -> tuple[list[Row], list[str], dict[str, Any]]:
    """One shard of six documents in two groups, with its verdicts, links and edits; rows of links are global."""
    folder.mkdir(parents=True)
    documents = pa.table(
        {"id": IDS, "source": ["s"] * 6, "text": [f"text of {i}" for i in IDS]}, schema=documents_schema([])
    )
    with ShardWriter(folder / f"documents.{suffix}", documents_schema([])) as writer:
        writer.write(documents.slice(0, 4))
        writer._flush()
        writer.write(documents.slice(4))
    plain = {"source": "s", "action": "drop", "stage": "policy", "rule": "r"}
    paths: dict[str, str | None] = {"verdicts": None, "edits": None}
    if verdicts is not None:
        paths["verdicts"] = str(folder / "verdicts.parquet")
        rows = [{**plain, "id": IDS[v["row"]], **v} for v in verdicts]
        pq.write_table(pa.Table.from_pylist(rows, VERDICTS), paths["verdicts"])
    if edits is not None:
        paths["edits"] = str(folder / "edits.parquet")
        edited = {**plain, "stage": "normalize", "rule": "normalize", "action": "edit"}
        pq.write_table(pa.Table.from_pylist([{**edited, "id": IDS[e["row"]], **e} for e in edits], EDITS), paths["edits"])  # fmt: skip
    batches = []
    for number, rows in enumerate(links):
        batches.append(str(folder / f"links-{number}.arrow"))
        table = pa.Table.from_pylist([_with_key(row, first) for row in sorted(rows, key=_doc)], LINKS)
        with pa.OSFile(batches[-1], "wb") as sink, pa.ipc.new_file(sink, LINKS) as file:
            file.write_table(table)
    result = decide_part(
        folder, documents=str(folder / f"documents.{suffix}"), **paths, links=batches, first=first, rows=6, threshold=0.8, kept=kept
    )  # fmt: skip
    decisions = pq.read_table(folder / "decisions.parquet")
    assert decisions.schema.equals(DECISIONS)
    stays = read_mapped(folder / "kept.arrow")["kept"].to_pylist()
    assert (folder / "kept.parquet").exists() == kept
    ids = [id_ for id_, stay in zip(IDS, stays, strict=True) if stay]
    if kept:
        assert pq.read_table(folder / "kept.parquet")["id"].to_pylist() == ids
    return decisions.to_pylist(), ids, result


def _doc(row: Row) -> int:
    return row["doc"]


def _with_key(row: Row, first: int) -> Row:
    place = row["doc"] - first
    return {**row, "id": IDS[place] if 0 <= place < 6 else "other", "source": "s"}


def link(
    doc: int,
    partner: str,
    *,
    outcome: str = "duplicate",
    rule: str = "minhash.jaccard",
    similarity: float = 0.9,
) -> Row:
    return {
        "doc": doc, "partner": 0, "similarity": similarity, "method": rule.split(".")[0], "rule": rule, "outcome": outcome,
        "partner_id": partner, "partner_source": "t",
    }  # fmt: skip


def test_documents_without_a_reason_are_kept_in_the_order_of_the_input(tmp_path: Path) -> None:
    decisions, kept, result = decide(tmp_path / "x", verdicts=[], links=[], edits=[])
    assert (decisions, kept) == ([], IDS)
    assert result == {"rows": 6, "kept": 6, "dropped": 0, "rules": {}}


def test_one_reason_is_enough_and_all_of_them_are_written_down(tmp_path: Path) -> None:
    decisions, kept, result = decide(
        tmp_path / "x",
        verdicts=[
            {"row": 1, "rule": "gopher.b"},
            {"row": 1, "rule": "gopher.a"},
            {"row": 4, "rule": "gopher.a"},
        ],
        links=[
            [link(103, "z")],
            [
                link(101, "y", rule="exact.content_hash", similarity=1.0),
                link(99, "other"),
                link(106, "other"),
            ],
        ],
        edits=[{"row": 0, "detail": "nfc"}, {"row": 1, "detail": "newlines"}],
        first=100,
    )
    assert kept == ["c", "b", "f"]
    assert [(d["id"], d["stage"], d["rule"], d["action"]) for d in decisions] == [
        ("a", "normalize", "normalize", "edit"),
        ("a", "policy", "gopher.a", "drop"),
        ("a", "policy", "gopher.b", "drop"),
        ("a", "exact", "exact.content_hash", "drop"),
        ("c", "normalize", "normalize", "edit"),
        ("d", "policy", "gopher.a", "drop"),
        ("e", "minhash", "minhash.jaccard", "drop"),
    ]
    assert result == {
        "rows": 6,
        "kept": 3,
        "dropped": 3,
        "rules": {"exact.content_hash": 1, "gopher.a": 2, "gopher.b": 1, "minhash.jaccard": 1},
    }


def test_a_duplicate_names_its_partner_its_similarity_and_the_bound(tmp_path: Path) -> None:
    decisions, _, _ = decide(
        tmp_path / "x",
        verdicts=[],
        links=[[link(0, "p"), link(1, "q", rule="exact.url", similarity=1.0)]],
        edits=[],
    )
    found = [
        (
            d["id"],
            d["stage"],
            d["rule"],
            d["partner_source"],
            d["partner_id"],
            d["similarity"],
            d["value"],
            d["bound"],
        )
        for d in decisions
    ]
    assert found == [
        ("a", "exact", "exact.url", "t", "q", 1.0, 1.0, 1.0),
        ("c", "minhash", "minhash.jaccard", "t", "p", 0.9, 0.9, 0.8),
    ]


def test_a_partner_in_an_index_is_told_with_its_generation(tmp_path: Path) -> None:
    links = [[link(0, "p"), {**link(1, "old"), "generation": 12}]]
    decisions, _, _ = decide(tmp_path / "x", verdicts=None, links=links, edits=None)
    assert [(d["id"], d["detail"]) for d in decisions] == [("a", "generation 12 of the index"), ("c", None)]


def test_an_edit_and_a_near_miss_drop_nothing(tmp_path: Path) -> None:
    links = [[link(2, "p", outcome="near_miss", similarity=0.79)]]
    decisions, kept, result = decide(
        tmp_path / "x", verdicts=[], links=links, edits=[{"row": 3, "detail": "nfc"}]
    )
    assert kept == IDS
    assert [(d["id"], d["action"], d["similarity"]) for d in decisions] == [
        ("b", "near_miss", 0.79),
        ("e", "edit", None),
    ]
    assert (result["dropped"], result["rules"]) == (0, {})


def test_reasons_stand_in_the_order_of_the_funnel_wherever_they_came_from(tmp_path: Path) -> None:
    stages = ["policy", "language", "quality", "decontaminate"]
    verdicts = [{"row": 0, "stage": stage, "rule": f"{stage}.r"} for stage in stages]
    verdicts += [{"row": 0, "stage": "decontaminate", "rule": "decontaminate.r", "partner_id": i, "partner_source": "m", "span_start": s} for i, s in (("2", 5), ("1", 9), ("1", 3))]  # fmt: skip
    seen = []
    for seed in range(4):
        random.Random(seed).shuffle(verdicts)
        decisions, _, _ = decide(
            tmp_path / str(seed), verdicts=verdicts, links=[[link(0, "p")]], edits=[{"row": 0}]
        )
        seen.append(decisions)
    assert all(decisions == seen[0] for decisions in seen)
    assert [d["stage"] for d in seen[0]] == [
        "normalize",
        *stages,
        "decontaminate",
        "decontaminate",
        "decontaminate",
        "minhash",
    ]
    places = [(d["partner_id"], d["span_start"]) for d in seen[0] if d["partner_source"] == "m"]
    assert places == [("1", 3), ("1", 9), ("2", 5)]


def test_a_shard_of_which_nothing_is_kept_is_a_shard(tmp_path: Path) -> None:
    decisions, kept, result = decide(
        tmp_path / "x", verdicts=[{"row": i} for i in range(6)], links=[], edits=[]
    )
    assert (len(decisions), kept, result["kept"], result["dropped"]) == (6, [], 0, 6)
    assert pq.read_schema(tmp_path / "x" / "kept.parquet").equals(documents_schema([]))


@pytest.mark.parametrize("suffix", ["arrow", "parquet"])
@pytest.mark.parametrize("kept", [True, False])
def test_without_policy_and_edits_duplicates_alone_decide(suffix: str, kept: bool, tmp_path: Path) -> None:
    decisions, stays, result = decide(
        tmp_path / "x", verdicts=None, links=[[link(2, "p")]], edits=None, suffix=suffix, kept=kept
    )
    assert stays == ["c", "a", "e", "d", "f"]
    assert [(d["id"], d["action"]) for d in decisions] == [("b", "drop")]
    assert (result["kept"], result["dropped"], result["rules"]) == (5, 1, {"minhash.jaccard": 1})
    if kept:
        assert pq.read_metadata(tmp_path / "x" / "kept.parquet").row_group(0).column(0).compression == "ZSTD"
        assert pq.read_schema(tmp_path / "x" / "kept.parquet").equals(documents_schema([]))


def test_links_of_other_shards_are_left_alone(tmp_path: Path) -> None:
    links = [[link(n, "p") for n in (0, 99, 106, 200)], [], [link(n, "q") for n in (100, 105)]]
    decisions, stays, _ = decide(tmp_path / "x", verdicts=None, links=links, edits=None, first=100)
    assert [(d["id"], d["partner_id"]) for d in decisions] == [("c", "q"), ("f", "q")]
    assert stays == ["a", "b", "e", "d"]


COUNTS = {"read": 10, "quarantined": 2, "documents": 8, "dropped": 3, "kept": 5}


def test_counts_that_add_up_are_no_fault() -> None:
    assert conservation_faults({"a": COUNTS, "b": dict.fromkeys(COUNTS, 0)}) == []


@pytest.mark.parametrize("name", COUNTS)
@pytest.mark.parametrize("change", [-1, 1])
def test_a_count_that_is_off_by_one_names_its_source(name: str, change: int) -> None:
    faults = conservation_faults({"good": COUNTS, "web": {**COUNTS, name: COUNTS[name] + change}})
    assert len(faults) == (2 if name == "documents" else 1)
    assert all(fault.startswith("web: ") for fault in faults)
    assert conservation_faults({"web": {**COUNTS, "read": 11}}) == [
        "web: read 11 records, but 8 documents and 2 in quarantine"
    ]
    assert conservation_faults({"web": {**COUNTS, "kept": 6}}) == [
        "web: 8 documents, but 6 kept and 3 dropped"
    ]
