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
from curate.verdicts import VERDICTS

IDS = ["c", "a", "b", "e", "d", "f"]


def decide(
    folder: Path, *, verdicts: list[dict[str, Any]], links: list[list[dict[str, Any]]], edits: list[dict[str, Any]], first: int = 0
) -> tuple[list[dict[str, Any]], list[str], dict[str, Any]]:  # fmt: skip
    """One shard of six documents in two row groups, with its verdicts, links and edits; rows of links are global."""
    folder.mkdir(parents=True)
    documents = pa.table(
        {"id": IDS, "source": ["s"] * 6, "text": [f"text of {i}" for i in IDS]}, schema=documents_schema([])
    )
    pq.write_table(documents, folder / "documents.parquet", row_group_size=4)
    plain = {"source": "s", "action": "drop", "stage": "policy", "rule": "r"}
    pq.write_table(
        pa.Table.from_pylist([{**plain, "id": IDS[v["row"]], **v} for v in verdicts], VERDICTS),
        folder / "verdicts.parquet",
    )
    pq.write_table(
        pa.Table.from_pylist([{**plain, "id": IDS[e["row"]], "stage": "normalize", "rule": "normalize", "action": "edit", **e} for e in edits], EDITS),
        folder / "edits.parquet",
    )  # fmt: skip
    paths = []
    for number, rows in enumerate(links):
        paths.append(str(folder / f"links-{number}.parquet"))
        pq.write_table(pa.Table.from_pylist(rows, LINKS), paths[-1])
    result = decide_part(
        folder, documents=str(folder / "documents.parquet"), edits=str(folder / "edits.parquet"), verdicts=str(folder / "verdicts.parquet"),
        links=paths, first=first, rows=6, threshold=0.8,
    )  # fmt: skip
    decisions = pq.read_table(folder / "decisions.parquet")
    assert decisions.schema.equals(DECISIONS)
    return decisions.to_pylist(), pq.read_table(folder / "kept.parquet")["id"].to_pylist(), result


def link(
    doc: int, partner: str, *, outcome: str = "duplicate", method: str = "minhash", similarity: float = 0.9
) -> dict[str, Any]:
    return {"doc": doc, "partner": 0, "similarity": similarity, "method": method, "outcome": outcome, "partner_id": partner, "partner_source": "t"}  # fmt: skip


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
            [link(101, "y", method="exact", similarity=1.0), link(99, "other"), link(106, "other")],
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
        links=[[link(0, "p"), link(1, "q", method="exact", similarity=1.0)]],
        edits=[],
    )
    found = [
        (d["id"], d["partner_source"], d["partner_id"], d["similarity"], d["value"], d["bound"])
        for d in decisions
    ]
    assert found == [("a", "t", "q", 1.0, 1.0, 1.0), ("c", "t", "p", 0.9, 0.9, 0.8)]


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
