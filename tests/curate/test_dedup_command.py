"""``curate dedup``: any format, flags for settings, mistakes named by flag, the same bytes however it runs."""

from __future__ import annotations

import csv
import glob
import gzip
import hashlib
import json
import os
import random
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
import zstandard

from curate.__main__ import main
from curate.config import load_config
from curate.explanation import explain
from curate.manifest import read_manifest
from curate.pipeline import run_curation
from curate.settings import CurateConfig
from curate.sources import Source, find_files, read_records
from filters.words import split

DATA = Path(__file__).parents[1] / "data"
Row = dict[str, Any]


def sample(name: str, n: int) -> list[str]:
    source = Source(path=str(DATA / "documents" / name), id="id")
    texts: list[str] = []
    for file in find_files(name, source):
        for records in read_records(file, source.columns):
            texts += records.table["field:text"].to_pylist()
    return texts[:n]


def corpus() -> list[Row]:
    """Real texts, exact copies of some with other white space, near copies with a word replaced, and texts without words."""
    originals = [
        *(text for text in sample("handbook.jsonl.zst", 60) if len(text.split()) > 40),
        *sample("udhr.arrow", 30),
    ]
    rows = [{"text": text, "kind": "original"} for text in originals]
    draw = random.Random(5)
    for text in draw.sample(originals, 12):
        rows.append({"text": "  " + text.replace(" ", "\n", 1), "kind": "exact"})
    for text in draw.sample(originals, 20):
        words = text.split(" ")
        words[draw.randrange(len(words))] = "zzz"
        rows.append({"text": " ".join(words), "kind": "near"})
    rows += [{"text": t, "kind": "short"} for t in ("", "!", "?", "ok", "ok then", "ok", "!")]
    draw.shuffle(rows)
    for number, row in enumerate(rows):
        row |= {"id": f"d{number:03d}", "url": f"http://host/{number // 3}", "stars": number % 7}
    return rows


ROWS = corpus()


def write_jsonl(path: Path, rows: Sequence[Row]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(lines_of(rows))
    return path


def lines_of(rows: Sequence[Row]) -> bytes:
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows).encode()


def write_csv(path: Path, rows: Sequence[Row], delimiter: str) -> None:
    with open(path, "w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(rows[0]), delimiter=delimiter)
        writer.writeheader()
        writer.writerows(rows)


def write_arrow(path: Path, rows: Sequence[Row], new: Callable[..., Any]) -> None:
    table = pa.Table.from_pylist(list(rows))
    with pa.OSFile(str(path), "wb") as sink, new(sink, table.schema) as writer:
        writer.write_table(table, max_chunksize=17)


def save_dataset(path: Path, rows: Sequence[Row]) -> None:
    from datasets import Dataset

    Dataset.from_list(list(rows)).save_to_disk(str(path), num_shards=3)


WRITERS: dict[str, Callable[[Path, Sequence[Row]], object]] = {
    "in.jsonl": write_jsonl,
    "in.jsonl.gz": lambda path, rows: path.write_bytes(gzip.compress(lines_of(rows))),
    "in.jsonl.zst": lambda path, rows: path.write_bytes(zstandard.compress(lines_of(rows))),
    "in.parquet": lambda path, rows: pq.write_table(pa.Table.from_pylist(list(rows)), path, row_group_size=23),
    "in.csv": lambda path, rows: write_csv(path, rows, ","),
    "in.tsv": lambda path, rows: write_csv(path, rows, "\t"),
    "in.arrow": lambda path, rows: write_arrow(path, rows, pa.ipc.new_file),
    "stream.arrow": lambda path, rows: write_arrow(path, rows, pa.ipc.new_stream),
    "dataset": save_dataset,
}  # fmt: skip


@pytest.fixture(autouse=True)
def _inside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def dedup(*arguments: object, out: str | Path = "run", engine: str = "inline") -> dict[str, Any]:
    """The manifest of a run of the command that must end well."""
    assert main(["dedup", *map(str, arguments), "--out", str(out), "--engine", engine]) == 0
    return read_manifest(Path(out), kind="curated")


def rows_of(run: str | Path, folder: str) -> list[Row]:
    shards = read_manifest(Path(run))["shards"][folder]
    return [row for shard in shards for row in pq.read_table(Path(run) / shard["path"]).to_pylist()]


def texts_of(run: str | Path) -> list[str]:
    return [row["text"] for row in rows_of(run, "kept")]


def drops_of(run: str | Path) -> list[tuple[str, str, str]]:
    """(id, rule, partner) of everything that was dropped."""
    return [(d["id"], d["rule"], d["partner_id"]) for d in rows_of(run, "decisions") if d["action"] == "drop"]


def hashes(directory: Path, *, but: Sequence[str] = ()) -> dict[str, str]:
    """SHA-256 of every public file."""
    return {
        path.relative_to(directory).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(directory.rglob("*"))
        if path.is_file() and path.relative_to(directory).parts[0] not in (".steps", "log", *but)
    }


def said(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, str]:
    """Exit code and error message of a command."""
    code = main(["dedup", *map(str, arguments)])
    return code, capsys.readouterr().err.removeprefix("error: ").strip()


def jaccard(a: str, b: str) -> float:
    def of(text: str) -> set[tuple[str, ...]]:
        words = [word for word, _, _ in split(text)]
        return {tuple(words[k : k + 5]) for k in range(max(1, len(words) - 4))}

    return len(of(a) & of(b)) / len(of(a) | of(b))


# -- what it does -----------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def reference(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The corpus as JSONL and a run of it with native ids."""
    home = tmp_path_factory.mktemp("reference")
    write_jsonl(home / "in.jsonl", ROWS)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(home)
        dedup("in.jsonl", "--id", "id")
    return home


def test_every_removed_document_has_a_kept_partner_and_nothing_else_is_removed(reference: Path) -> None:
    texts = {row["id"]: row["text"] for row in ROWS}
    kept = {row["id"] for row in rows_of(reference / "run", "kept")}
    drops = drops_of(reference / "run")
    assert kept | {id for id, _, _ in drops} == set(texts)
    assert len(kept) + len(drops) == len(texts)
    for id, rule, partner in drops:
        assert partner in kept
        if rule == "exact.content_hash":
            assert texts[id].split() == texts[partner].split()
        else:
            assert jaccard(texts[id], texts[partner]) >= 0.8
    by_rule = [rule for _, rule, _ in drops]
    assert by_rule.count("exact.content_hash") >= 8 and by_rule.count("minhash.jaccard") >= 15
    assert sorted(texts[id] for id in kept if len(texts[id]) < 8) == ["", "!", "?", "ok", "ok then"]


@pytest.mark.parametrize("name", WRITERS)
def test_every_format_gives_the_same_documents_and_decisions(name: str, reference: Path) -> None:
    WRITERS[name](Path(name), ROWS)
    manifest = dedup(name, "--id", "id")
    assert manifest["counts"]["input"]["read"] == len(ROWS)
    assert texts_of("run") == texts_of(reference / "run")
    assert drops_of("run") == drops_of(reference / "run")


@pytest.mark.parametrize(
    ("name", "flags", "read"),
    [
        ("udhr.arrow", ["--id", "id"], 52),
        ("sentences.csv", ["--id", "id", "--by", "url"], 720),
        ("contents.parquet", ["--id", "id"], 150),
        ("sqlite.jsonl", ["--id", "id", "--threshold", "0.7"], 51),
        ("genesis.jsonl.gz", [], 148),
        ("plays", [], 20),
        ("postgresql", ["--id", "id", "--near-miss", "0.5"], 220),
    ],
)
def test_the_sample_files_of_every_format_lose_only_what_has_a_kept_twin(name: str, flags: list[str], read: int) -> None:  # fmt: skip
    manifest = dedup(DATA / "documents" / name, *flags)
    counts = manifest["counts"]["input"]
    texts = {}
    config = load_config("run/config.yaml", CurateConfig)
    for file in find_files("input", config.sources["input"]):
        for records in read_records(file, config.sources["input"].columns):
            table = records.table
            ids = table["field:id"].to_pylist() if "--id" in flags else [f"{file.relative}#{row}" for row in table["row"].to_pylist()]  # fmt: skip
            texts |= dict(zip(ids, table["field:text"].to_pylist(), strict=True))
    kept = {row["id"]: row["text"] for row in rows_of("run", "kept")}
    assert (counts["read"], counts["documents"]) == (len(texts), len(texts))
    assert counts["read"] == read
    assert kept == {id: text for id, text in texts.items() if id in kept}
    drops = drops_of("run")
    assert {id for id, _, _ in drops} == set(texts) - set(kept)
    least = config.dedup.minhash.threshold  # type: ignore[union-attr]
    for id, rule, partner in drops:
        if rule == "minhash.jaccard":
            assert jaccard(texts[id], kept[partner]) >= least
        else:
            assert rule == "exact.url" or texts[id].split() == kept[partner].split()


def test_folders_globs_and_single_files_are_one_source(reference: Path) -> None:
    write_jsonl(Path("in/a.jsonl"), ROWS[:40])
    pq.write_table(pa.Table.from_pylist(ROWS[40:80]), "in/b.parquet")
    write_jsonl(Path("in/deep/c.jsonl"), ROWS[80:])
    expected = drops_of(reference / "run")
    for number, inputs in enumerate(
        (["in"], ["in/*.*", "in/deep/c.jsonl"], ["in/a.jsonl", "in/b.parquet", "in/deep"])
    ):
        manifest = dedup(*inputs, "--id", "id", out=f"run{number}")
        assert list(manifest["counts"]) == ["input"]
        assert drops_of(f"run{number}") == expected


def test_plain_text_files_are_documents() -> None:
    for number, text in enumerate(
        ("a b c d e f g", "other words here", "A b c d e f, g!", "other  words here")
    ):
        Path(f"{number}.txt").write_text(text)
    dedup("*.txt")
    assert drops_of("run") == [
        ("2.txt#0", "minhash.jaccard", "0.txt#0"),  # the first one stays
        ("3.txt#0", "exact.content_hash", "1.txt#0"),
    ]


def test_files_of_one_name_are_told_apart_by_their_folders() -> None:
    write_jsonl(Path("old/part-0.jsonl"), [{"text": "a b c d e f"}, {"text": "one"}])
    write_jsonl(Path("new/part-0.jsonl"), [{"text": "a b c d e f"}, {"text": "two"}])
    dedup("old/part-0.jsonl", "new/part-0.jsonl")
    assert [row["id"] for row in rows_of("run", "kept")] == [
        "new/part-0.jsonl#0", "new/part-0.jsonl#1", "old/part-0.jsonl#1",
    ]  # fmt: skip
    dedup("old", "new", out="folders")
    assert drops_of("folders") == [("old/part-0.jsonl#0", "exact.content_hash", "new/part-0.jsonl#0")]


def test_without_ids_a_document_is_called_by_file_and_record_and_the_first_copy_stays() -> None:
    write_jsonl(Path("in.jsonl"), [{"text": f"words of document {n % 10}"} for n in range(12)])
    dedup("in.jsonl")
    assert drops_of("run") == [
        (f"in.jsonl#{n}", "exact.content_hash", f"in.jsonl#{n - 10}") for n in (10, 11)
    ]


def test_a_repeated_id_goes_to_quarantine_and_stays_out_of_the_comparison() -> None:
    rows = [{"id": f"d{n}", "text": f"text number {n}"} for n in range(40)]
    write_jsonl(Path("in.jsonl"), [*rows, {"id": "d3", "text": "text number 39"}])
    manifest = dedup("in.jsonl", "--id", "id")
    assert manifest["counts"]["input"] == {
        "read": 41,
        "quarantined": 1,
        "documents": 40,
        "dropped": 0,
        "kept": 40,
    }
    (row,) = rows_of("run", "quarantine")
    assert (row["reason"], row["excerpt"]) == ("repeated_id", "d3")


def test_many_repeated_ids_fail_with_the_way_to_allow_them(capsys: pytest.CaptureFixture[str]) -> None:
    write_jsonl(Path("in.jsonl"), [{"id": f"d{n % 8}", "text": f"text {n}"} for n in range(10)])
    code, message = said(capsys, "in.jsonl", "--id", "id", "--out", "run")
    assert code == 3
    assert "2 of 10 records (20.0%): 2 repeated_id" in message
    assert "run/config.yaml" in message
    assert not Path("run/kept").exists() and not Path("run/manifest.json").exists()
    config = yaml.safe_load(Path("run/config.yaml").read_text())
    config["ingest"]["max_quarantine_share"] = 0.5
    Path("allowed.yaml").write_text(yaml.safe_dump(config))
    assert main(["run", "allowed.yaml", "--out", "run", "--engine", "inline"]) == 0
    assert len(texts_of("run")) == 8


# -- flags ---------------------------------------------------------------------------------------------------------


def test_the_written_configuration_gives_the_same_kept_documents_and_decisions(reference: Path) -> None:
    write_jsonl(Path("in.jsonl"), ROWS)
    flags = ["--id", "id", "--threshold", "0.7", "--ngram", "3", "--by", "url", "--meta", "kind", "--near-miss", "0.5", "--memory", "100MB", "--priority", "stars"]  # fmt: skip
    dedup("in.jsonl", *flags)
    text = Path("run/config.yaml").read_text()
    assert text.splitlines()[0].endswith("curate run RUN/config.yaml --out OTHER")
    config = load_config("run/config.yaml", CurateConfig)
    assert (config.dedup.minhash.threshold, config.dedup.minhash.near_miss) == (0.7, 0.5)  # type: ignore[union-attr]
    assert (config.dedup.by, config.meta, config.dedup.memory) == (("url",), ("kind", "url"), 10**8)
    assert main(["run", "run/config.yaml", "--out", "other", "--engine", "inline"]) == 0
    assert hashes(Path("other")) == hashes(Path("run"), but=["config.yaml"])


def test_the_run_directory_holds_what_is_kept_and_decided_and_no_copy_of_what_was_read(
    reference: Path,
) -> None:
    entries = {p.name for p in (reference / "run").iterdir()}
    assert entries == {".steps", "config.yaml", "decisions", "kept", "log", "manifest.json", "pairs", "quarantine", "report.html"}  # fmt: skip
    manifest = read_manifest(reference / "run")
    named = {s["path"] for shards in manifest["shards"].values() for s in shards}
    assert named == set(hashes(reference / "run", but=["config.yaml", "manifest.json", "report.html"]))
    assert str(reference) not in json.dumps(manifest)


def test_no_kept_writes_the_same_decisions_and_no_documents(reference: Path) -> None:
    write_jsonl(Path("in.jsonl"), ROWS)
    dedup("in.jsonl", "--id", "id", "--no-kept")
    assert not Path("run/kept").exists()
    assert hashes(Path("run/decisions")) == hashes(reference / "run" / "decisions")
    assert "Nothing" not in Path("run/report.html").read_text()


def test_a_directory_of_other_settings_keeps_nothing_of_the_earlier_run(reference: Path) -> None:
    write_jsonl(Path("in.jsonl"), ROWS)
    Path("full.yaml").write_text(
        yaml.safe_dump({"sources": {"input": {"path": "in.jsonl", "id": "id"}}, "policy": {"use": []}})
    )
    assert main(["run", "full.yaml", "--out", "run", "--engine", "inline"]) == 0
    assert Path("run/documents").is_dir() and Path("run/signals").is_dir()
    dedup("in.jsonl", "--id", "id")
    assert hashes(Path("run")) == hashes(reference / "run")


def test_the_method_exact_removes_only_copies(reference: Path) -> None:
    manifest = dedup(reference / "in.jsonl", "--id", "id", "--method", "exact")
    exact = [d for d in drops_of(reference / "run") if d[1] == "exact.content_hash"]
    assert {(id, rule) for id, rule, _ in drops_of("run")} >= {(id, rule) for id, rule, _ in exact}
    assert {rule for _, rule, _ in drops_of("run")} == {"exact.content_hash"}
    assert "bands" not in manifest["dedup"]


def test_a_lower_threshold_removes_more(reference: Path) -> None:
    kept = {}
    for threshold in (0.3, 0.8, 1.0):
        dedup(reference / "in.jsonl", "--id", "id", "--threshold", threshold, out=f"run{threshold}")
        kept[threshold] = len(texts_of(f"run{threshold}"))
    assert kept[0.3] <= kept[0.8] < kept[1.0]


def test_the_copy_with_the_highest_priority_stays() -> None:
    rows = [{"text": "a b c d e f g h", "stars": stars} for stars in (3, 9, None, "8.5", -1)]
    write_jsonl(Path("in.jsonl"), rows)
    dedup("in.jsonl", "--priority", "stars")
    assert [row["id"] for row in rows_of("run", "kept")] == ["in.jsonl#1"]


def test_a_priority_that_is_no_number_is_quarantined() -> None:
    write_jsonl(Path("in.jsonl"), [*({"text": f"text {n}", "stars": n} for n in range(30)), {"text": "x", "stars": "many"}])  # fmt: skip
    dedup("in.jsonl", "--priority", "stars")
    assert [(row["row"], row["reason"]) for row in rows_of("run", "quarantine")] == [(30, "bad_priority")]


def test_equal_values_of_a_field_make_duplicates_and_nulls_do_not() -> None:
    urls = ["u1", "u2", "u1", None, None, "u2"]
    write_jsonl(Path("in.jsonl"), [{"text": f"text number {n}", "url": url} for n, url in enumerate(urls)])
    dedup("in.jsonl", "--by", "url")
    assert drops_of("run") == [
        ("in.jsonl#2", "exact.url", "in.jsonl#0"),
        ("in.jsonl#5", "exact.url", "in.jsonl#1"),
    ]
    assert [row["meta"] for row in rows_of("run", "kept")] == [{"url": u} for u in ("u1", "u2", None, None)]


def test_within_compares_the_documents_of_each_input_only() -> None:
    for name in ("a/web.jsonl", "b/web.jsonl"):
        write_jsonl(Path(name), [{"text": "one text"}, {"text": "one\ntext"}, {"text": "other"}])
    manifest = dedup("a/web.jsonl", "b/web.jsonl", "--scope", "within")
    assert list(manifest["counts"]) == ["web.jsonl", "web.jsonl-2"]
    assert [d[0] for d in drops_of("run")] == ["web.jsonl#1", "web.jsonl#1"]
    dedup("a/web.jsonl", "b/web.jsonl", out="across")
    assert len(drops_of("across")) == 4


def test_near_misses_are_written_down_and_both_stay() -> None:
    base = [f"w{n}" for n in range(40)]
    write_jsonl(
        Path("in.jsonl"), [{"text": " ".join(base)}, {"text": " ".join([*base[:20], "zzz", *base[21:]])}]
    )
    similarity = jaccard(" ".join(base), " ".join([*base[:20], "zzz", *base[21:]]))
    assert 0.6 < similarity < 0.8
    dedup("in.jsonl", "--near-miss", "0.6", "--threshold", "0.8")
    (decision,) = rows_of("run", "decisions")
    assert (decision["action"], decision["similarity"]) == ("near_miss", pytest.approx(similarity, abs=1e-12))
    assert len(texts_of("run")) == 2


def test_containment_removes_what_lies_inside_of_another() -> None:
    base = [f"w{n}" for n in range(60)]
    write_jsonl(Path("in.jsonl"), [{"text": " ".join(base)}, {"text": " ".join(base[:50])}])
    dedup("in.jsonl", "--threshold", "0.9", out="jaccard")
    assert drops_of("jaccard") == []
    dedup("in.jsonl", "--threshold", "0.9", "--similarity", "containment", out="containment")
    assert drops_of("containment") == [("in.jsonl#1", "minhash.containment", "in.jsonl#0")]


def test_the_hashes_of_datasketch_come_to_the_same_decisions(reference: Path) -> None:
    manifest = dedup(reference / "in.jsonl", "--id", "id", "--hash-family", "datasketch")
    assert manifest["config"]["dedup"]["minhash"]["hash_family"] == "datasketch"
    assert drops_of("run") == drops_of(reference / "run")


# -- what it says -------------------------------------------------------------------------------------------------------


def test_the_table_the_curve_and_the_report_are_printed(capsys: pytest.CaptureFixture[str]) -> None:
    base = [f"w{n}" for n in range(60)]
    texts = [" ".join(base), " ".join(base), " ".join([*base[:59], "zzz"]), "alone"]
    write_jsonl(Path("in.jsonl"), [{"text": text} for text in texts])
    dedup("in.jsonl")
    shown = capsys.readouterr().out.splitlines()
    assert [line.split() for line in shown[:4]] == [
        ["documents", "4"],
        ["exact", "copies", "1", "25.0%"],
        ["near", "duplicates", "1", "25.0%"],
        ["kept", "2", "50.0%"],
    ]
    assert shown[4] == "residual: 0% of the kept documents have a near duplicate among them (all compared)"
    curve = shown.index("chance that a pair is compared, by its similarity")
    assert re.search(r"11 bands x 5 rows +datasketch's balanced 9 x 13", shown[curve + 1])
    at = next(line for line in shown if line.startswith("0.80 ="))
    assert at.split() == ["0.80", "=", "98.7%", "39.9%"]
    assert shown[-1] == "report: run/report.html"


def test_a_command_without_near_duplicates_prints_no_curve(capsys: pytest.CaptureFixture[str]) -> None:
    write_jsonl(
        Path("in.jsonl"),
        [{"text": "a"}, {"text": "a"}, {"text": None}] + [{"text": f"{n}"} for n in range(30)],
    )
    dedup("in.jsonl", "--method", "exact")
    shown = [line.split() for line in capsys.readouterr().out.splitlines() if line]
    assert shown[:5] == [
        ["records", "33"], ["quarantined", "1"], ["documents", "32"], ["exact", "copies", "1", "3.1%"], ["kept", "31", "96.9%"],
    ]  # fmt: skip
    assert len(shown) == 6


def test_every_document_can_be_explained(reference: Path, capsys: pytest.CaptureFixture[str]) -> None:
    texts = {row["id"]: row["text"] for row in ROWS}
    id, rule, partner = next(d for d in drops_of(reference / "run") if d[1] == "minhash.jaccard")
    (found,) = explain(reference / "run", id)
    assert (found.outcome, found.text, found.origin, found.signals) == ("dropped", "", {}, {})
    assert found.partners == {("input", partner): texts[partner][:400]}
    shown = str(found).splitlines()
    assert shown[0] == f"input / {id}: dropped"
    assert shown[1].startswith(f"  drop      {rule}: 0.")
    (found,) = explain(reference / "run", partner)
    assert (found.outcome, found.text) == ("kept", texts[partner])
    assert main(["explain", str(reference / "run"), "nobody"]) == 2
    assert "no document is called 'nobody'. Ids stand in kept/*.parquet" in capsys.readouterr().err


def test_a_document_without_an_id_is_explained_with_its_place() -> None:
    write_jsonl(Path("in.jsonl"), [{"text": "same"}, {"text": "same"}])
    dedup("in.jsonl")
    (found,) = explain("run", "in.jsonl#1")
    assert str(found).splitlines()[:3] == [
        "input / in.jsonl#1: dropped",
        "  read from in.jsonl, record 1",
        "  drop      exact.content_hash: 1 (bound 1), partner input / in.jsonl#0",
    ]


def test_without_kept_documents_explain_says_what_it_cannot_know(capsys: pytest.CaptureFixture[str]) -> None:
    write_jsonl(Path("in.jsonl"), [{"text": "same"}, {"text": "same"}])
    dedup("in.jsonl", "--no-kept")
    assert explain("run", "in.jsonl#1")[0].outcome == "dropped"
    assert main(["explain", "run", "in.jsonl#0"]) == 2
    assert "whether there is one that was kept cannot be said" in capsys.readouterr().err


# -- mistakes -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--threshold", "1.5"], "--threshold: found 1.5; allowed: above 0, at most 1."),
        (["--threshold", "0"], "--threshold: found 0.0; allowed: above 0, at most 1."),
        (["--threshold", "nan"], "--threshold: found nan"),
        (["--ngram", "0"], "--ngram: found 0; allowed: 1 to 32."),
        (["--near-miss", "0.9"], "--near-miss: found 0.9; allowed: above 0, below the threshold (0.8)."),
        (["--memory", "1XB"], "--memory: found '1XB' (text); allowed: a size such as 64MB or 1GiB."),
        (["--memory", "1MB"], "--memory: found 1000000 bytes; allowed: 64 MiB or more."),
        (
            ["--method", "exact", "--ngram", "3"],
            "--ngram: --method exact compares no shingles; take one of the two out.",
        ),
        (["--text", ""], "--text: found an empty name; allowed: the name of a field."),
        (["--by", "url", ""], "--by: found an empty name; allowed: the name of a field."),
        (["--index", ""], "--index: found an empty name; allowed: a directory, or null."),
        (["--workers", "0"], "--workers: found 0; allowed: 1 or more."),
    ],
)
def test_a_mistake_is_named_by_its_flag_and_nothing_is_written(
    flags: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    write_jsonl(Path("in.jsonl"), ROWS[:5])
    code, found = said(capsys, "in.jsonl", "--out", "run", *flags)
    assert (code, found.startswith(message)) == (2, True), found
    assert "$" not in found
    assert sorted(p.name for p in Path().iterdir()) == ["in.jsonl"]


def test_all_mistakes_are_named_at_once(capsys: pytest.CaptureFixture[str]) -> None:
    code, found = said(capsys, "in.jsonl", "--out", "run", "--threshold", "2", "--ngram", "40", "--memory", "x", "--near-miss", "3")  # fmt: skip
    assert code == 2
    assert [line.split(":")[0].strip() for line in found.splitlines()] == ["3 mistakes in the configuration", "--threshold", "--ngram", "--memory"]  # fmt: skip


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        (["im.jsonl"], "INPUT: 'im.jsonl' matches no file; did you mean 'in.jsonl'?"),
        (["none/*.jsonl"], "INPUT: 'none/*.jsonl' matches no file"),
        (["notes.doc"], "INPUT: 'notes.doc': the suffix names no format; allowed: .jsonl"),
        (["s3://bucket/file.jsonl"], "INPUT: found 's3://bucket/file.jsonl'; allowed: local files"),
    ],
)
def test_an_input_that_cannot_be_read_is_named(inputs: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:  # fmt: skip
    write_jsonl(Path("in.jsonl"), ROWS[:5])
    Path("notes.doc").write_text("x")
    code, found = said(capsys, *inputs, "--out", "run")
    assert code == 2
    assert message in found
    assert not Path("run").exists()


@pytest.mark.parametrize("name", ["in.jsonl", "in.parquet", "in.csv", "in.arrow"])
def test_a_column_that_no_record_has_is_named_with_those_there_are(name: str, capsys: pytest.CaptureFixture[str]) -> None:  # fmt: skip
    WRITERS[name](Path(name), ROWS)
    code, found = said(capsys, name, "--text", "txet", "--id", "id", "--by", "link", "--meta", "url", "--priority", "star", "--out", "run")  # fmt: skip
    assert code == 3
    assert found.splitlines() == [
        "--text: no record has the field 'txet'; did you mean 'text'? Fields: 'text', 'kind', 'id', 'url', 'stars'.",
        "  --by: no record has the field 'link'. Fields: 'text', 'kind', 'id', 'url', 'stars'.",
        "  --priority: no record has the field 'star'; did you mean 'stars'? Fields: 'text', 'kind', 'id', 'url', 'stars'.",
    ]
    assert not Path("run").exists()


@pytest.mark.parametrize("name", ["in.jsonl", "in.parquet", "in.arrow"])
@pytest.mark.parametrize(("values", "kind"), [([1, 2, 3], "(int|int64)"), ([["a"], ["b"], []], "list")])
def test_a_column_that_is_not_text_is_refused(name: str, values: list[Any], kind: str, capsys: pytest.CaptureFixture[str]) -> None:  # fmt: skip
    WRITERS[name](Path(name), [{"body": value, "title": "x"} for value in values])
    code, found = said(capsys, name, "--text", "body", "--out", "run")
    assert code == 3
    assert re.match(rf"--text: the (field|column) 'body' (is|holds a) {kind}\b.*, not text\. Name the field that holds the text; fields: 'body', 'title'\.$", found), found  # fmt: skip
    assert not Path("run").exists()


def test_a_field_that_only_some_files_have_is_found() -> None:
    write_jsonl(Path("in/a.jsonl"), [{"text": f"text {n}"} for n in range(30)])
    write_jsonl(
        Path("in/b.jsonl"), [{"text": "text 1"}, {"text": "new", "url": "u"}, {"text": "more", "url": "u"}]
    )
    dedup("in", "--by", "url")
    assert [d[:2] for d in drops_of("run")] == [
        ("b.jsonl#0", "exact.content_hash"),
        ("b.jsonl#2", "exact.url"),
    ]


def test_a_field_that_only_a_late_record_has_is_found() -> None:
    rows: list[Row] = [{"text": f"text {n} " + "x" * 300} for n in range(6000)]
    write_jsonl(Path("in.jsonl"), [*rows, {"text": rows[0]["text"], "url": "u"}])
    dedup("in.jsonl", "--meta", "url", "--method", "exact")
    assert drops_of("run") == [("in.jsonl#6000", "exact.content_hash", "in.jsonl#0")]


def test_a_text_that_is_empty_everywhere_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    write_jsonl(Path("in.jsonl"), [{"text": None, "body": "b"} for _ in range(3)])
    code, found = said(capsys, "in.jsonl", "--out", "run")
    assert (code, found) == (3, "--text: the field 'text' is empty in the first 3 records. Name the field that holds the text; fields: 'text', 'body'.")  # fmt: skip


def test_a_field_inside_of_an_object_is_found() -> None:
    write_jsonl(Path("in.jsonl"), [{"data": {"body": "one"}}, {"data": {"body": "one"}}])
    dedup("in.jsonl", "--text", "data.body")
    assert texts_of("run") == ["one"]


def test_an_empty_file_is_a_run_without_documents(capsys: pytest.CaptureFixture[str]) -> None:
    Path("in.jsonl").write_text("")
    manifest = dedup("in.jsonl")
    assert manifest["counts"]["input"]["documents"] == 0
    assert manifest["warnings"][0] == "input: in.jsonl holds no records"


def test_a_directory_with_other_files_or_with_the_input_is_no_run_directory(
    capsys: pytest.CaptureFixture[str],
) -> None:
    write_jsonl(Path("data/kept/in.jsonl"), [{"text": f"text {n}"} for n in range(5)])
    code, found = said(capsys, "data/kept/in.jsonl", "--out", "data")
    assert (code, found) == (2, "--out: 'data' holds other files; give a new or an empty directory.")
    dedup("data/kept/in.jsonl")
    code, found = said(capsys, "run/kept/part-000000.parquet", "--out", "run")
    assert (code, found) == (
        2,
        "--out: 'run' holds the input 'run/kept/part-000000.parquet'; give another directory.",
    )
    assert len(texts_of("run")) == 5


@pytest.mark.parametrize("arguments", [[], ["in.jsonl"], ["--out", "run"], ["in.jsonl", "--out", "run", "--method", "fuzzy"], ["in.jsonl", "--out", "run", "--threshold", "x"]])  # fmt: skip
def test_an_incomplete_command_shows_how_it_is_used(
    arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as caught:
        main(["dedup", *arguments])
    assert caught.value.code == 2
    assert "usage: curate dedup" in capsys.readouterr().err


# -- the persistent index ----------------------------------------------------------------------------------------------


def test_new_data_is_compared_with_what_earlier_runs_kept() -> None:
    write_jsonl(Path("a.jsonl"), ROWS[:70])
    write_jsonl(Path("b.jsonl"), ROWS[70:])
    write_jsonl(Path("both/a.jsonl"), ROWS[:70])
    write_jsonl(Path("both/b.jsonl"), ROWS[70:])
    for name in "ab":
        dedup(f"{name}.jsonl", "--id", "id", "--index", "index", out=f"run-{name}")
    first = {row["id"] for row in rows_of("run-a", "kept")}
    drops = drops_of("run-b")
    assert {partner for _, _, partner in drops} & first
    texts = {row["id"]: row["text"] for row in ROWS}
    for id, rule, partner in drops:
        assert rule == "exact.content_hash" or jaccard(texts[id], texts[partner]) >= 0.8
    before = hashes(Path("run-b"))
    dedup("b.jsonl", "--id", "id", "--index", "index", out="run-b")  # the same command again adds nothing
    assert hashes(Path("run-b")) == before
    generations = json.loads(Path("index/manifest.json").read_text())["generations"]
    assert len(generations) == 2
    assert [g["documents"] for g in read_manifest(Path("run-b"))["dedup"]["index"]["base"]] == [len(first)]
    page = Path("run-b/report.html").read_text()
    assert generations[1]["name"] in page.replace("<wbr>", "")


def test_a_document_of_the_index_is_named_and_its_text_shown(capsys: pytest.CaptureFixture[str]) -> None:
    text = " ".join(f"w{n}" for n in range(50))
    write_jsonl(Path("a.jsonl"), [{"id": "old", "text": text}])
    write_jsonl(Path("b.jsonl"), [{"id": "new", "text": text + " more"}])
    dedup("a.jsonl", "--id", "id", "--index", "index", out="a")
    dedup("b.jsonl", "--id", "id", "--index", "index", out="b")
    (found,) = explain("b", "new")
    assert [(d["rule"], d["partner_source"], d["partner_id"]) for d in found.decisions] == [("minhash.jaccard", "input", "old")]  # fmt: skip
    assert "w1 w2 w3" in str(found)


def test_an_old_document_is_told_from_a_new_one_with_the_same_key() -> None:
    """Every day's file is called the same, and its records are named by it."""
    text = " ".join(f"w{n}" for n in range(50))
    write_jsonl(Path("monday/a.jsonl"), [{"text": text}])
    write_jsonl(Path("tuesday/a.jsonl"), [{"text": "not at all like that"}, {"text": text + " more"}])
    dedup("monday/a.jsonl", "--index", "index", out="monday-run")
    dedup("tuesday/a.jsonl", "--index", "index", out="tuesday-run")
    assert drops_of("tuesday-run") == [("a.jsonl#1", "minhash.jaccard", "a.jsonl#0")]
    page = Path("tuesday-run/report.html").read_text()
    pair = page[page.index("<summary>minhash.jaccard") :]
    assert "w49</blockquote>" in pair and "w49 <mark>more</mark>" in pair.replace("<mark> ", " <mark>")
    assert "removed, all verified" in page
    (found,) = explain("tuesday-run", "a.jsonl#1")
    assert found.decisions[0]["detail"] == "generation 1 of the index"
    assert found.partners == {("input", "a.jsonl#0"): text}


def test_an_index_of_other_settings_is_refused_before_anything_is_written(
    capsys: pytest.CaptureFixture[str],
) -> None:
    write_jsonl(Path("in.jsonl"), ROWS)
    dedup("in.jsonl", "--id", "id", "--index", "index", out="a")
    before = hashes(Path("index"))
    code, found = said(capsys, "in.jsonl", "--id", "id", "--index", "index", "--ngram", "4", "--out", "b")
    assert code in (2, 3)
    assert "ngram: found 4; allowed: 5, with which the index was built." in found
    assert not Path("b").exists()
    assert hashes(Path("index")) == before
    Path("index/manifest.json").write_text("{")
    code, found = said(capsys, "in.jsonl", "--id", "id", "--index", "index", "--out", "c")
    assert code == 3
    assert "the index is damaged" in found


# -- the same bytes, however it runs ------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def parts(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Twelve files, each a part of its own, and an undisturbed inline run of them."""
    home = tmp_path_factory.mktemp("parts")
    for number in range(12):
        write_jsonl(home / "in" / f"{number:02d}.jsonl", ROWS[number::12])
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(home)
        patch.setattr("curate.ingest.PART_BYTES", 1)
        dedup("in", out="run")
    yield home


@pytest.fixture
def small_parts(parts: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(parts)
    monkeypatch.setattr("curate.ingest.PART_BYTES", 1)


@pytest.mark.usefixtures("small_parts")
def test_the_order_in_which_files_are_listed_changes_no_byte(
    parts: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module, name in ((glob, "glob"), (os, "listdir"), (os, "scandir"), (Path, "iterdir")):
        _reverse(module, name, monkeypatch)
    dedup("in", out=tmp_path / "run")
    assert hashes(tmp_path / "run") == hashes(parts / "run")


def _reverse(module: Any, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    listed = getattr(module, name)
    if name == "scandir":

        class Reversed:
            def __init__(self, *arguments: Any) -> None:
                self.entries = listed(*arguments)

            def __enter__(self) -> Iterator[Any]:
                return iter(list(self.entries)[::-1])

            def __exit__(self, *_: object) -> None:
                self.entries.close()

            def __iter__(self) -> Iterator[Any]:
                return iter(list(self.entries)[::-1])

            def close(self) -> None:
                self.entries.close()

        monkeypatch.setattr(module, name, Reversed)
    else:
        monkeypatch.setattr(module, name, lambda *a, **k: list(listed(*a, **k))[::-1])


@pytest.mark.parametrize("size", [1, 20_000, 64 << 20])
def test_other_part_sizes_give_the_same_decisions(
    size: int, parts: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(parts)
    monkeypatch.setattr("curate.ingest.PART_BYTES", size)
    dedup("in", out=tmp_path / "run")
    assert rows_of(tmp_path / "run", "kept") == rows_of(parts / "run", "kept")
    for folder in ("decisions", "pairs"):  # sorted inside of a part
        found = [sorted(rows_of(run, folder), key=str) for run in (tmp_path / "run", parts / "run")]
        assert found[0] == found[1]


@pytest.mark.slow
@pytest.mark.ray
@pytest.mark.xdist_group("ray")
@pytest.mark.usefixtures("small_parts")
@pytest.mark.parametrize("workers", [1, 2, 4])
def test_ray_writes_the_same_bytes_with_any_number_of_workers(
    parts: Path, tmp_path: Path, workers: int
) -> None:
    assert (
        main(["dedup", "in", "--out", str(tmp_path / "run"), "--engine", "ray", "--workers", str(workers)])
        == 0
    )
    assert hashes(tmp_path / "run") == hashes(parts / "run")
    log = [json.loads(line) for line in (tmp_path / "run" / "log" / "run.jsonl").read_text().splitlines()]
    assert {e["engine"] for e in log if e["run"]} == {"ray"}


CHILD = """
import resource, sys
import curate.ingest
from curate.__main__ import main
curate.ingest.PART_BYTES = 1
limit = int(sys.argv.pop(1))
if limit:
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
sys.exit(main(sys.argv[1:]))
"""


def child(*arguments: object, limit: int = 0) -> subprocess.Popen[bytes]:
    """The command in a process of its own, with parts of one file, and files of at most ``limit`` bytes."""
    command = [sys.executable, "-c", CHILD, str(limit), "dedup", *map(str, arguments)]
    return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)


@pytest.mark.slow
@pytest.mark.usefixtures("small_parts")
def test_a_command_killed_anywhere_resumes_to_the_same_bytes(parts: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    killed = 0
    for done in (0, 5, 13, 20, 30, 38, 41):
        process = child("in", "--out", out, "--engine", "inline")
        deadline = time.monotonic() + 120
        while process.poll() is None and time.monotonic() < deadline:
            if len(glob.glob(f"{out}/.steps/*/0*/part.json")) >= done:
                process.send_signal(signal.SIGKILL)
                killed += 1
                break
            time.sleep(0.002)
        process.communicate()
    assert killed >= 5
    process = child("in", "--out", out, "--engine", "inline")
    message = process.communicate()[1].decode()
    assert process.returncode == 0, message
    assert hashes(out) == hashes(parts / "run")


@pytest.mark.slow
@pytest.mark.usefixtures("small_parts")
@pytest.mark.parametrize("limit", [3_000, 12_000, "the report"])
def test_a_full_disk_is_told_and_the_rerun_finishes(limit: int | str, parts: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    if isinstance(limit, str):  # every part fits
        limit = (parts / "run" / "report.html").stat().st_size - 1
        assert max(p.stat().st_size for p in (parts / "run" / ".steps").rglob("*") if p.is_file()) < limit
    process = child("in", "--out", out, "--engine", "inline", limit=limit)
    message = process.communicate()[1].decode()
    assert process.returncode == 4, message
    assert "File too large" in message and "Traceback" not in message
    assert not (out / "manifest.json").exists() and not (out / "report.html").exists()
    assert not list(out.glob(".steps/*/tmp-*"))
    again = child("in", "--out", out, "--engine", "inline")
    message = again.communicate()[1].decode()
    assert again.returncode == 0, message
    assert hashes(out) == hashes(parts / "run")


@pytest.mark.slow
@pytest.mark.ray
@pytest.mark.xdist_group("ray")
@pytest.mark.usefixtures("small_parts")
def test_a_cluster_that_loses_a_node_ends_in_the_same_bytes(parts: Path, tmp_path: Path) -> None:
    """Two nodes of one CPU each, one of them taken away in the middle of the run."""
    import ray
    from ray.cluster_utils import Cluster

    out = tmp_path / "run"
    node = {"num_cpus": 1, "object_store_memory": 150 << 20}
    cluster = Cluster(
        initialize_head=True, connect=False, head_node_args={**node, "include_dashboard": False}
    )
    failures: list[BaseException] = []
    try:
        second = cluster.add_node(**node)
        cluster.wait_for_nodes()
        ray.init(address=cluster.address, log_to_driver=False)

        def run() -> None:
            try:
                run_curation(load_config(parts / "run" / "config.yaml", CurateConfig), out, engine="ray", keep_config=True, progress=False)  # fmt: skip
            except BaseException as error:
                failures.append(error)

        driver = threading.Thread(target=run)
        driver.start()
        measured = f"{out}/.steps/*-measure-*"
        while driver.is_alive() and not glob.glob(f"{measured}/0*/part.json"):
            time.sleep(0.01)
        before = len(glob.glob(f"{measured}/0*/part.json"))
        cluster.remove_node(second, allow_graceful=False)
        driver.join(180)
        assert not driver.is_alive()
        assert failures == []
        assert 0 < before < 12
        deadline = time.monotonic() + 60
        while sum(n["Alive"] for n in ray.nodes()) > 1 and time.monotonic() < deadline:
            time.sleep(0.2)
        assert sum(n["Alive"] for n in ray.nodes()) == 1
    finally:
        ray.shutdown()
        cluster.shutdown()
    assert hashes(out) == hashes(parts / "run")
