"""Files into documents: keys, repeated ids, meta fields, edits, and a place for every record that is read."""

from __future__ import annotations

import glob
import json
import unicodedata
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from curate import ingest, sources
from curate.__main__ import main
from curate.config import from_mapping, to_mapping
from curate.ingest import document_file, documents_part, group_files, identify_part, ingest_part
from curate.pipeline import Curated, run_curation
from curate.settings import CurateConfig
from curate.shards import count_rows, read_groups
from curate.sources import Source, file_arguments, find_files
from filters.errors import DataError
from filters.normalization import Normalize

PARTS = ("documents", "origins", "edits", "quarantine")


def write(path: Path, records: Sequence[Mapping[str, Any] | bytes]) -> None:
    """JSONL; a record in bytes is written as it is."""
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = [r if isinstance(r, bytes) else json.dumps(r, ensure_ascii=False).encode() for r in records]
    path.write_bytes(b"".join(line + b"\n" for line in lines))


def curate(home: Path, sources: Mapping[str, Any], **sections: Any) -> Curated:
    """A whole run without rules, languages and near duplicates: what is read is what is kept."""
    plain: dict[str, Any] = {
        "measure": {"language": False},
        "dedup": {"exact": False, "minhash": None},
        "policy": {"use": []},
        "ingest": {"max_quarantine_share": 1.0},
    }
    config = from_mapping(CurateConfig, {"sources": sources, **plain, **sections})
    return run_curation(config, home / "run", engine="inline", progress=False)


def rows(run: Curated, folder: str) -> list[dict[str, Any]]:
    return [
        row
        for path in sorted((run.directory / folder).glob("*.parquet"))
        for row in pq.read_table(path).to_pylist()
    ]


def ingest_source(
    home: Path, pattern: str | Sequence[str], *, meta: Sequence[str] = (), lean: bool = False, normalize: Normalize | None = None, **options: Any
) -> dict[str, list[dict[str, Any]]]:  # fmt: skip
    """Documents, origins, edits and quarantine of one source after all three steps, and the counts of the first."""
    source = from_mapping(Source, {"path": pattern, **options})
    results, homes = [], []
    for number, files in enumerate(group_files(find_files("web", source))):
        out = home / f"ingest-{number}"
        out.mkdir(parents=True)
        entries = [file_arguments(f) for f in files]
        results.append(
            ingest_part(out, name="web", source=to_mapping(source), files=entries, normalize=to_mapping(normalize or Normalize()), meta=meta, lean=lean)
        )  # fmt: skip
        homes.append(str(out))
    (home / "identify").mkdir()
    identified = identify_part(home / "identify", documents=[str(document_file(h)) for h in homes], parts=list(range(len(homes))))  # fmt: skip
    found: dict[str, list[dict[str, Any]]] = {name: [] for name in (*PARTS, "priority")}
    repeated = 0
    for number in range(len(homes)):
        out = home / f"documents-{number}"
        out.mkdir()
        result = documents_part(
            out, part=number, ingested=homes, repeated=str(home / "identify" / "repeated.parquet")
        )
        repeated += result["repeated"]
        assert document_file(out).suffix == (".arrow" if lean else ".parquet")
        files_there = [
            document_file(out),
            *(out / f"{n}.parquet" for n in PARTS[1:]),
            *out.glob("priority.arrow"),
        ]
        assert sorted(files_there) == sorted(out.iterdir())
        for path in files_there:
            found[path.stem] += [row for group in read_groups(path) for row in group.to_pylist()]
        assert result["rows"] == count_rows(document_file(out))
    assert repeated == identified["repeated"]
    assert sum(r["read"] for r in results) == len(found["documents"]) + len(found["quarantine"])
    found["results"] = results
    return found


# -- keys ------------------------------------------------------------------------------------------------------


def test_a_document_is_called_by_its_native_id_else_by_its_place(tmp_path: Path) -> None:
    write(tmp_path / "in" / "a.jsonl", [{"id": "x", "text": "one"}, b"broken", {"id": 7, "text": "three"}])
    write(tmp_path / "in" / "sub" / "b.jsonl", [{"id": "y", "text": "four"}])
    (tmp_path / "in" / "c.txt").write_text("plain")
    run = curate(
        tmp_path,
        {
            "named": {"path": f"{tmp_path}/in/**/*.jsonl", "id": "id"},
            "placed": {"path": f"{tmp_path}/in/**/*.*"},
            "texts": {"path": f"{tmp_path}/in/*.txt", "id": "id"},
        },
    )
    keys = [(row["source"], row["id"], row["text"]) for row in rows(run, "documents")]
    assert keys == [
        ("named", "x", "one"),
        ("named", "7", "three"),
        ("named", "y", "four"),
        ("placed", "a.jsonl#0", "one"),
        ("placed", "a.jsonl#2", "three"),
        ("placed", "c.txt#0", "plain"),
        ("placed", "sub/b.jsonl#0", "four"),
        ("texts", "c.txt#0", "plain"),
    ]
    places = [
        (row["source"], row["id"], row["path"], row["row"], row["line"]) for row in rows(run, "origins")
    ]
    assert places[:3] == [
        ("named", "x", "a.jsonl", 0, 1),
        ("named", "7", "a.jsonl", 2, 3),
        ("named", "y", "sub/b.jsonl", 0, 1),
    ]
    assert rows(run, "kept") == rows(run, "documents")


def test_a_record_without_its_id_or_its_text_is_quarantined(tmp_path: Path) -> None:
    write(
        tmp_path / "a.jsonl",
        [{"text": "no id"}, {"id": None, "text": "null id"}, {"id": "", "text": "empty id"}, {"id": "t"}, {"id": "u", "text": None}, {}, {"id": "v", "text": ""}],
    )  # fmt: skip
    found = ingest_source(tmp_path, f"{tmp_path}/a.jsonl", id="id")
    assert [(d["id"], d["text"]) for d in found["documents"]] == [("v", "")]
    assert [(q["row"], q["line"], q["reason"], q["detail"]) for q in found["quarantine"]] == [
        *((i, i + 1, "missing_id", "no id in the field 'id'") for i in range(3)),
        *((i, i + 1, "missing_text", "no text in the field 'text'") for i in range(3, 6)),
    ]
    assert found["results"][0]["reasons"] == {"missing_id": 3, "missing_text": 3}


def test_a_repeated_id_goes_to_quarantine_with_both_places(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ingest, "PART_BYTES", 1)  # every file is a part of its own
    write(
        tmp_path / "in" / "a.jsonl",
        [{"id": "x", "text": "first"}, {"id": "y", "text": "y"}, b"", {"id": "x", "text": "again"}],
    )
    write(
        tmp_path / "in" / "b.jsonl",
        [b"broken", {"id": "z", "text": "e\u0301"}, {"id": "x", "text": "e\u0301 third"}],
    )
    found = ingest_source(tmp_path, f"{tmp_path}/in/*.jsonl", id="id")
    assert len(found["results"]) == 2
    assert [(d["id"], d["text"]) for d in found["documents"]] == [("x", "first"), ("y", "y"), ("z", "\xe9")]
    assert [e["id"] for e in found["edits"]] == ["z"]
    assert [(o["id"], o["path"], o["row"]) for o in found["origins"]] == [
        ("x", "a.jsonl", 0),
        ("y", "a.jsonl", 1),
        ("z", "b.jsonl", 1),
    ]
    refused = [
        (q["path"], q["row"], q["line"], q["reason"], q["detail"], q["excerpt"]) for q in found["quarantine"]
    ]
    detail = "the id 'x' was given before by a.jsonl, record 0 (line 1)"
    assert refused[0] == ("a.jsonl", 2, 4, "repeated_id", detail, "x")
    assert refused[1][:4] == ("b.jsonl", 0, 1, "malformed_json")
    assert refused[2] == ("b.jsonl", 2, 3, "repeated_id", detail, "x")


def test_the_same_id_in_two_sources_is_two_documents(tmp_path: Path) -> None:
    for name in ("a", "b"):
        write(tmp_path / name / "x.jsonl", [{"id": "same", "text": name}])
    run = curate(tmp_path, {n: {"path": f"{tmp_path}/{n}/*.jsonl", "id": "id"} for n in ("a", "b")})
    assert [(d["source"], d["id"], d["text"]) for d in rows(run, "kept")] == [
        ("a", "same", "a"),
        ("b", "same", "b"),
    ]


def test_repeated_ids_can_be_made_to_stop_the_run(tmp_path: Path) -> None:
    write(
        tmp_path / "a.jsonl", [{"id": "x", "text": "1"}, {"id": "x", "text": "2"}, {"id": "x", "text": "3"}]
    )
    source = {"web": {"path": f"{tmp_path}/a.jsonl", "id": "id"}}
    with pytest.raises(
        DataError, match=r"native ids are repeated in web \(2\); .*set on_duplicate_id: quarantine"
    ):
        curate(tmp_path, source, ingest={"on_duplicate_id": "fail", "max_quarantine_share": 1.0})
    refused = pq.read_table(tmp_path / "run" / "quarantine" / "part-000000.parquet").to_pylist()
    assert [(q["row"], q["reason"]) for q in refused] == [(1, "repeated_id"), (2, "repeated_id")]
    assert curate(tmp_path, source).counts == {
        "web": {"read": 3, "quarantined": 2, "documents": 1, "dropped": 0, "kept": 1}
    }


# -- how much may be bad ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(("share", "code"), [(0.5, 0), (0.49, 3)])
def test_a_source_with_too_many_bad_records_fails_the_run_with_counts_and_reasons(
    share: float, code: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write(tmp_path / "good.jsonl", [{"text": str(i)} for i in range(50)])
    write(tmp_path / "bad.jsonl", [{"text": "1"}, {"text": "2"}, b"broken", b"\xff"])
    (tmp_path / "c.yaml").write_text(
        f"""
sources: {{good: {{path: {tmp_path}/good.jsonl}}, bad: {{path: {tmp_path}/bad.jsonl}}}}
ingest: {{max_quarantine_share: {share}}}
measure: {{language: false}}
dedup: {{minhash: null}}
"""
    )
    assert main(["run", str(tmp_path / "c.yaml"), "--out", str(tmp_path / "run")]) == code
    said = capsys.readouterr().err
    assert ("bad: 2 of 4 records (50.0%): 1 invalid_utf8, 1 malformed_json" in said) == (code == 3)
    assert "good:" not in said
    assert (tmp_path / "run" / "manifest.json").exists() == (code == 0)
    if code:
        assert (
            "more than 49.0% of the records of 1 source(s) cannot be used (ingest.max_quarantine_share)"
            in said
        )
        assert f"File, line and reason of each: {tmp_path}/run/quarantine" in said


def test_an_empty_file_is_a_warning_and_no_fault(tmp_path: Path) -> None:
    write(tmp_path / "in" / "a.jsonl", [])
    write(tmp_path / "in" / "b.jsonl", [{"text": "x"}])
    write(tmp_path / "in" / "c.jsonl", [b"", b"  "])
    run = curate(tmp_path, {"web": {"path": f"{tmp_path}/in/*.jsonl"}}, ingest={"max_quarantine_share": 0})
    assert run.manifest["warnings"] == ["web: a.jsonl holds no records", "web: c.jsonl holds no records"]
    assert run.counts["web"] == {"read": 1, "quarantined": 0, "documents": 1, "dropped": 0, "kept": 1}


def test_a_run_over_nothing_but_empty_files_is_a_run(tmp_path: Path) -> None:
    write(tmp_path / "a.jsonl", [])
    run = curate(tmp_path, {"web": {"path": f"{tmp_path}/a.jsonl", "id": "id"}}, dedup={}, policy={})
    assert run.counts == {"web": dict.fromkeys(("read", "quarantined", "documents", "dropped", "kept"), 0)}


def test_a_run_that_fails_leaves_no_manifest_of_an_earlier_one(tmp_path: Path) -> None:
    """The folders would be of the new run and the manifest of the old one."""
    write(tmp_path / "a.jsonl", [{"id": "x", "text": "1"}, {"id": "x", "text": "2"}])
    source = {"web": {"path": f"{tmp_path}/a.jsonl", "id": "id"}}
    assert (curate(tmp_path, source).directory / "manifest.json").exists()
    with pytest.raises(DataError):
        curate(tmp_path, source, ingest={"max_quarantine_share": 0.1})
    assert not (tmp_path / "run" / "manifest.json").exists()


# -- meta and edits --------------------------------------------------------------------------------------------


def test_meta_fields_of_all_sources_are_one_struct_with_nulls_elsewhere(tmp_path: Path) -> None:
    write(
        tmp_path / "a.jsonl",
        [{"text": "1", "url": "u", "lang": "de", "extra": "no"}, {"text": "2", "lang": 5}],
    )
    write(tmp_path / "b.jsonl", [{"text": "3", "lang": "en", "page": {"n": [1]}}])
    (tmp_path / "c.txt").write_text("4")
    run = curate(
        tmp_path,
        {
            "a": {"path": f"{tmp_path}/a.jsonl", "meta": ["url", "lang"]},
            "b": {"path": f"{tmp_path}/b.jsonl", "meta": ["page"]},
            "c": {"path": f"{tmp_path}/c.txt", "meta": ["lang"]},
        },
    )
    assert [d["meta"] for d in rows(run, "kept")] == [
        {"lang": "de", "page": None, "url": "u"},
        {"lang": "5", "page": None, "url": None},
        {"lang": None, "page": '{"n": [1]}', "url": None},
        {"lang": None, "page": None, "url": None},
    ]
    schema = pq.read_schema(run.directory / "kept" / "part-000000.parquet")
    assert schema.field("meta").type == pa.struct([(name, pa.string()) for name in ("lang", "page", "url")])


def test_without_meta_fields_there_is_no_meta_column(tmp_path: Path) -> None:
    write(tmp_path / "a.jsonl", [{"text": "1"}])
    run = curate(tmp_path, {"a": {"path": f"{tmp_path}/a.jsonl"}})
    assert pq.read_schema(run.directory / "documents" / "part-000000.parquet").names == [
        "id",
        "source",
        "text",
    ]


def test_an_edit_is_a_decision_that_names_what_was_done(tmp_path: Path) -> None:
    texts = ["plain", "a\r\nb", "cafe\u0301", "donâ€™t \r", "x\u0301\r\n"]
    write(tmp_path / "a.jsonl", [{"id": f"d{i}", "text": text} for i, text in enumerate(texts)])
    run = curate(
        tmp_path, {"a": {"path": f"{tmp_path}/a.jsonl", "id": "id"}}, normalize={"fix_mojibake": True}
    )
    assert [d["text"] for d in rows(run, "kept")] == [
        "plain",
        "a\nb",
        "caf\xe9",
        "don\u2019t \n",
        "x\u0301\n",
    ]
    edits = [
        (d["id"], d["source"], d["stage"], d["rule"], d["action"], d["detail"])
        for d in rows(run, "decisions")
    ]
    assert edits == [
        (f"d{i}", "a", "normalize", "normalize", "edit", detail)
        for i, detail in ((1, "newlines"), (2, "nfc"), (3, "newlines,mojibake"), (4, "newlines"))
    ]


# -- priorities of single documents --------------------------------------------------------------------------


def test_a_priority_may_stand_in_a_field_of_each_document(tmp_path: Path) -> None:
    values = [
        3,
        "2.5",
        None,
        -1e3,
        " +7. ",
        "",
        ".5e1",
        "many",
        "1e999",
        "nan",
        True,
        [1],
        "0x10",
        "1_000",
        "٣",
    ]
    write(tmp_path / "a.jsonl", [{"id": f"d{i}", "text": "t", "stars": v} for i, v in enumerate(values)])
    found = ingest_source(tmp_path, f"{tmp_path}/a.jsonl", id="id", priority="stars")
    numbers = dict(
        zip((d["id"] for d in found["documents"]), (p["priority"] for p in found["priority"]), strict=True)
    )
    low = float("-inf")
    assert numbers == {"d0": 3.0, "d1": 2.5, "d2": low, "d3": -1000.0, "d4": 7.0, "d5": low, "d6": 5.0}
    assert [(q["row"], q["reason"], q["detail"]) for q in found["quarantine"]] == [
        (i, "bad_priority", "the field 'stars' holds no number") for i in range(7, len(values))
    ]
    assert [q["excerpt"] for q in found["quarantine"]][:5] == ["many", "1e999", "nan", "true", "[1]"]


def test_a_record_is_quarantined_once_whatever_it_lacks(tmp_path: Path) -> None:
    write(
        tmp_path / "a.jsonl",
        [{"stars": "x"}, {"text": "t", "stars": "x"}, {"id": "a", "text": "t", "stars": "x"}],
    )
    found = ingest_source(tmp_path, f"{tmp_path}/a.jsonl", id="id", priority="stars")
    assert [(q["row"], q["reason"]) for q in found["quarantine"]] == [(0, "missing_text"), (1, "missing_id"), (2, "bad_priority")]  # fmt: skip
    assert found["results"][0]["reasons"] == {"missing_text": 1, "missing_id": 1, "bad_priority": 1}


@pytest.mark.parametrize("lean", [False, True])
def test_priorities_stay_beside_their_documents_when_repeated_ones_go(lean: bool, tmp_path: Path) -> None:
    records = [("x", 1), ("y", 2), ("x", 3), ("z", None), ("y", 5), ("w", 6)]
    write(tmp_path / "a.jsonl", [{"id": i, "text": "t", "n": p} for i, p in records])
    found = ingest_source(tmp_path, f"{tmp_path}/a.jsonl", id="id", priority="n", meta=["n"], lean=lean)
    assert [d["id"] for d in found["documents"]] == ["x", "y", "z", "w"]
    assert [p["priority"] for p in found["priority"]] == [1.0, 2.0, float("-inf"), 6.0]


def test_columns_of_numbers_are_priorities_and_a_text_file_has_none(tmp_path: Path) -> None:
    pq.write_table(pa.table({"text": ["a", "b"], "n": [0.1, None]}), tmp_path / "a.parquet")
    pq.write_table(pa.table({"text": ["c"], "n": pa.array([2**60], pa.int64())}), tmp_path / "b.parquet")
    (tmp_path / "c.txt").write_text("plain")
    found = ingest_source(tmp_path / "out", f"{tmp_path}/*.*", priority="n")
    assert [p["priority"] for p in found["priority"]] == [0.1, float("-inf"), float(2**60), float("-inf")]
    assert [d["text"] for d in found["documents"]] == ["a", "b", "c", "plain"]


# -- lean documents --------------------------------------------------------------------------------------------

NOTHING = Normalize(unicode=None, newlines=False)


@pytest.mark.parametrize("normalize", [Normalize(), NOTHING])
@pytest.mark.parametrize("native", [False, True])
def test_lean_documents_are_the_same_documents(native: bool, normalize: Normalize, tmp_path: Path) -> None:
    write(tmp_path / "in" / "a.jsonl", [{"id": i % 7, "text": f"t{i}\r\n", "url": "u"} for i in range(9)])
    write(tmp_path / "in" / "b.jsonl", [{"id": "x", "text": "cafe\u0301"}, b"broken", {"id": 0, "text": "z"}])
    options: dict[str, Any] = {"id": "id"} if native else {}
    both = [
        ingest_source(tmp_path / str(lean), f"{tmp_path}/in/*", meta=["url"], lean=lean, normalize=normalize, **options)
        for lean in (False, True)
    ]  # fmt: skip
    plain, lean = both
    if not native:
        assert (len(plain.pop("origins")), lean.pop("origins")) == (11, [])  # nobody asks for them
    assert lean == plain
    assert len(lean["documents"]) == (8 if native else 11)
    assert len(lean["edits"]) == (0 if normalize is NOTHING else 8 if native else 10)  # "z" needs none


@pytest.mark.parametrize("kind", [pa.string(), pa.large_string()])
def test_a_text_that_needs_no_change_is_not_copied(
    kind: pa.DataType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    table = pa.table({"text": pa.array([f"{i} " + "x" * 5000 for i in range(2000)], kind)})
    with pa.ipc.new_stream(str(tmp_path / "a.arrow"), table.schema) as writer:
        writer.write_table(table)
    monkeypatch.setattr(ingest, "normalize", None)
    before, most = pa.total_allocated_bytes(), 0
    hold = ingest.ShardWriter._hold

    def watch(self: Any, batch: pa.RecordBatch) -> None:
        nonlocal most
        most = max(most, pa.total_allocated_bytes() - before)
        hold(self, batch)

    monkeypatch.setattr(ingest.ShardWriter, "_hold", watch)
    found = ingest_source(tmp_path / "out", f"{tmp_path}/a.arrow", lean=True, normalize=NOTHING)
    assert [d["text"] for d in found["documents"]] == table["text"].to_pylist()
    assert most < 2_000_000  # of ten


# -- how files are listed, grouped and cut -----------------------------------------------------------------------


def test_a_large_file_becomes_parts_and_its_rows_keep_their_numbers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    texts = [None if i % 11 == 3 else f"{i} " * 40 for i in range(100)]
    table = pa.table({"text": texts, "id": [str(i % 60) for i in range(100)]})
    pq.write_table(table, tmp_path / "b.parquet", row_group_size=10)
    for name in ("a", "c", "d"):
        write(tmp_path / f"{name}.jsonl", [{"text": name}] if name != "d" else [])
    size = (tmp_path / "b.parquet").stat().st_size
    results = {}
    for native in (False, True):
        for part in (size, size // 4 + 1, 1):
            monkeypatch.setattr(ingest, "PART_BYTES", part)
            options: dict[str, Any] = {"id": "id"} if native else {}
            found = ingest_source(tmp_path / f"{native}-{part}", f"{tmp_path}/*.*", lean=native, **options)
            parts = found.pop("results")
            # repeated ids come last in each part
            found["quarantine"].sort(key=lambda q: (q["path"], q["row"]))
            named = [(i["path"], i["sha256"]) for r in parts for i in r["inputs"]]
            warnings = [w for r in parts for w in r["warnings"]]
            assert (len(parts) == 3) == (part == size)
            assert [path for path, _ in named] == ["a.jsonl", "b.parquet", "c.jsonl", "d.jsonl"]
            assert warnings == ["web: d.jsonl holds no records"]
            assert results.setdefault(native, (found, named)) == (found, named)
    documents = results[False][0]["documents"]
    assert [d["id"] for d in documents] == ["a.jsonl#0", *(f"b.parquet#{i}" for i in range(100) if texts[i]), "c.jsonl#0"]  # fmt: skip
    repeats = [q for q in results[True][0]["quarantine"] if q["reason"] == "repeated_id"]
    assert repeats[0]["detail"] == "the id '0' was given before by b.parquet, record 0"
    assert [q["row"] for q in repeats] == [i for i in range(60, 100) if texts[i] and texts[i - 60]]


def test_nothing_joins_a_stretch_of_a_large_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pq.write_table(pa.table({"text": ["x"] * 40}), tmp_path / "a.parquet", row_group_size=10)
    for name in ("b", "c"):
        write(tmp_path / f"{name}.jsonl", [])
    monkeypatch.setattr(ingest, "PART_BYTES", (tmp_path / "a.parquet").stat().st_size // 2 + 1)
    grouped = [[f.relative for f in g] for g in group_files(find_files("s", Source(path=f"{tmp_path}/*")))]
    assert grouped == [["a.parquet"], ["a.parquet"], ["b.jsonl", "c.jsonl"]]


def test_files_are_grouped_by_their_sizes_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, size in (("a", 4), ("b", 5), ("c", 2), ("d", 30), ("e", 1)):
        (tmp_path / f"{name}.txt").write_bytes(b"x" * size)
    files = find_files("s", Source(path=f"{tmp_path}/*.txt"))
    monkeypatch.setattr(ingest, "PART_BYTES", 10)
    grouped = [[file.relative[0] for file in group] for group in group_files(files)]
    assert grouped == [["a", "b"], ["c"], ["d"], ["e"]]


def test_the_order_in_which_files_are_listed_does_not_matter(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("c", "a", "b"):
        write(tmp_path / "in" / f"{name}.jsonl", [{"id": name, "text": name}, {"id": "same", "text": name}])
    results = []
    listed = glob.glob
    for i, order in enumerate((sorted, lambda found: sorted(found, reverse=True))):
        monkeypatch.setattr(glob, "glob", lambda *a, _order=order, **k: _order(listed(*a, **k)))
        (tmp_path / str(i)).mkdir()
        results.append(ingest_source(tmp_path / str(i), f"{tmp_path}/in/*.jsonl", id="id"))
    assert results[0] == results[1]
    assert [d["text"] for d in results[0]["documents"] if d["id"] == "same"] == ["a"]


TEXTS = st.sampled_from(["", "one", "two\r\n", "cafe\u0301", "ümlaut", "3\u2028"])
GOOD = st.builds(lambda i, t: {"id": i, "text": t}, st.sampled_from(["a", "b", "c", 1, 2, "", None]), TEXTS)
BAD = st.sampled_from([b"broken", b"\xff", b"[]", b'{"id": "q"}', b'{"id": "a", "text": 1}', b"", b" "])
FILES = st.lists(st.lists(GOOD | BAD, max_size=6), min_size=1, max_size=4)


@settings(max_examples=60, deadline=None)
@given(
    files=FILES,
    native=st.booleans(),
    block=st.sampled_from([1, 30, 8 << 20]),
    part=st.sampled_from([1, 60, 64 << 20]),
)
def test_every_record_of_every_file_becomes_a_document_or_a_quarantine_row(
    files: list[list[Any]], native: bool, block: int, part: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    home = tmp_path_factory.mktemp("any")
    for i, records in enumerate(files):
        write(home / "in" / f"{i}.jsonl", records)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sources, "BLOCK_BYTES", block)
        patch.setattr(ingest, "PART_BYTES", part)
        found = ingest_source(home, f"{home}/in/*.jsonl", **({"id": "id"} if native else {}))
    expected, refused, seen = [], [], set()
    for i, records in enumerate(files):
        real = [r for r in records if not isinstance(r, bytes) or r.strip()]
        for row, record in enumerate(real):
            place = (f"{i}.jsonl", row)
            key = str(record["id"]) if native and not isinstance(record, bytes) else f"{i}.jsonl#{row}"
            is_good = (
                not isinstance(record, bytes)
                and not (native and record["id"] in ("", None))
                and key not in seen
            )
            if is_good:
                seen.add(key)
                text = unicodedata.normalize("NFC", record["text"].replace("\r\n", "\n"))
                expected.append((key, text, *place))
            else:
                refused.append(place)
    documents = zip(found["documents"], found["origins"], strict=True)
    assert [(d["id"], d["text"], o["path"], o["row"]) for d, o in documents] == expected
    assert sorted((q["path"], q["row"]) for q in found["quarantine"]) == sorted(refused)
    assert sorted(e["id"] for e in found["edits"]) == sorted(
        key for key, text, path, row in expected if text != [r for r in files[int(path[0])] if not isinstance(r, bytes) or r.strip()][row]["text"]
    )  # fmt: skip


def test_a_declared_field_that_no_record_has_is_told(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "a.jsonl").write_text('{"text": "one two three", "lang": "en"}\n{"text": "four five"}\n')
    (tmp_path / "b.txt").write_text("plain text has no fields")
    source = {"path": [str(tmp_path / "a.jsonl"), str(tmp_path / "b.txt")], "meta": ["lang", "lnag"]}
    config = from_mapping(
        CurateConfig, {"sources": {"s": source}, "measure": {"language": False}, "policy": {"use": []}}
    )
    run = run_curation(config, tmp_path / "run", engine="inline", progress=False)
    assert run.manifest["warnings"] == ["s: no record has the field 'lnag'; is it spelt as in the files?"]
    assert "lnag" in caplog.text
