"""Evaluation items from files, and where documents of a shard overlap with them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from curate.config import from_mapping, to_mapping
from curate.decontaminate import index_part, overlaps_part, read_items
from curate.overlap import ITEM_SCHEMA
from curate.schema import documents_schema
from curate.sources import Source, find_files
from filters.errors import DataError

ITEM = "which river flows through the town where the queen of the north was born and crowned"


def make_source(home: Path, name: str, lines: list[Any], **options: Any) -> Source:
    path = home / f"{name}.jsonl"
    path.write_bytes(b"".join((r if isinstance(r, bytes) else json.dumps(r).encode()) + b"\n" for r in lines))
    return from_mapping(Source, {"path": str(path), **options})


def index(home: Path, sets: dict[str, Source], ngram: int = 13) -> tuple[str, dict[str, Any]]:
    out = home / "index"
    out.mkdir()
    files = {
        name: [{"path": str(f.path), "relative": f.relative, "format": f.format, "compression": f.compression} for f in find_files(name, source)]
        for name, source in sets.items()
    }  # fmt: skip
    result = index_part(out, against={n: to_mapping(s) for n, s in sets.items()}, files=files, ngram=ngram)
    return str(out / "index.arrow"), result


def test_an_item_is_called_by_its_id_else_by_its_place_and_bad_ones_are_told(tmp_path: Path) -> None:
    lines = [
        {"id": "q1", "q": "a"},
        b"broken",
        {"q": "b"},
        {"id": "", "q": "c"},
        {"id": "q2"},
        {"id": 7, "q": ""},
    ]
    source = make_source(tmp_path, "quiz", lines, text="q", id="id")
    items, bad = read_items("quiz", source, find_files("quiz", source))
    assert items.schema.equals(ITEM_SCHEMA)
    assert [(i["id"], i["source"], i["text"]) for i in items.to_pylist()] == [
        ("q1", "quiz", "a"), ("quiz.jsonl#2", "quiz", "b"), ("quiz.jsonl#3", "quiz", "c"), ("7", "quiz", ""),
    ]  # fmt: skip
    assert [(b["path"], b["row"], b["reason"]) for b in bad] == [
        ("quiz.jsonl", 1, "malformed_json"), ("quiz.jsonl", 4, "missing_text"),
    ]  # fmt: skip


def test_overlaps_are_counted_from_the_start_of_the_shard_and_name_item_and_place(tmp_path: Path) -> None:
    quiz = make_source(
        tmp_path, "quiz", [{"id": "q1", "q": ITEM}, {"id": "q2", "q": "too short"}], text="q", id="id"
    )
    more = make_source(tmp_path, "more", [{"text": "an eight word item that is found whole"}])
    path, result = index(tmp_path, {"quiz": quiz, "more": more})
    assert result == {"rows": 3, "unreadable": 0, "not_searchable": 1}
    texts = [
        "clean",
        f"Ünd so: {ITEM}?",
        "clean too",
        f"{ITEM}",
        "An EIGHT word item -- that is found whole!",
    ]
    table = pa.table({"id": list("abcde"), "source": ["s"] * 5, "text": texts}, schema=documents_schema([]))
    pq.write_table(table, tmp_path / "documents.parquet", row_group_size=2)
    assert overlaps_part(tmp_path, documents=str(tmp_path / "documents.parquet"), index=path) == {
        "rows": 5,
        "overlaps": 3,
    }
    found = pq.read_table(tmp_path / "overlaps.parquet").to_pylist()
    assert [(o["row"], o["item_source"], o["item_id"]) for o in found] == [
        (1, "quiz", "q1"),
        (3, "quiz", "q1"),
        (4, "more", "more.jsonl#0"),
    ]
    assert [texts[o["row"]][o["span_start"] : o["span_end"]] for o in found] == [
        ITEM,
        ITEM,
        texts[4].rstrip("!"),
    ]


def test_a_shard_without_documents_overlaps_nothing(tmp_path: Path) -> None:
    path, _ = index(tmp_path, {"quiz": make_source(tmp_path, "quiz", [{"text": ITEM}])})
    pq.write_table(documents_schema([]).empty_table(), tmp_path / "documents.parquet")
    assert overlaps_part(tmp_path, documents=str(tmp_path / "documents.parquet"), index=path) == {
        "rows": 0,
        "overlaps": 0,
    }


@pytest.mark.parametrize(
    ("lines", "count"), [([], 0), ([{"question": ITEM}, {"question": ITEM}], 2), ([b"broken"], 1)]
)
def test_a_set_of_which_no_item_can_be_read_stops_the_run(
    lines: list[Any], count: int, tmp_path: Path
) -> None:
    good = make_source(tmp_path, "good", [{"text": ITEM}])
    bad = make_source(tmp_path, "quiz", lines)
    with pytest.raises(
        DataError, match=rf"decontaminate\.against\.quiz: {count} items, none with a text in the field 'text'"
    ):
        index(tmp_path, {"good": good, "quiz": bad})
