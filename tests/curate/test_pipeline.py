"""The promises on the whole curation path: nothing lost, the same bytes however it runs, any kill survived."""

from __future__ import annotations

import glob
import hashlib
import json
import os
import re
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

import polars as pl
import pytest
import yaml

from curate.config import load_config
from curate.pipeline import Curated, run_curation
from curate.settings import CurateConfig
from filters.errors import DataError

DATA = Path(__file__).parents[1] / "data"
FOLDERS = ("documents", "origins", "signals", "pairs", "decisions", "quarantine", "kept")


def write_jsonl(path: Path, rows: list[dict[str, object]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")


def sample(name: str, n: int) -> list[dict[str, object]]:
    """Some consecutive documents of a sample source."""
    from curate.sources import Source, find_files, read_records

    source = Source(path=str(DATA / "documents" / name), id="id", meta=("lang",))
    rows: list[dict[str, object]] = []
    for file in find_files(name, source):
        for records in read_records(file, source.columns):
            table = records.table.rename_columns(
                [c.removeprefix("field:") for c in records.table.column_names]
            )
            rows += table.select(["id", "text", "lang"]).to_pylist()
    return rows[:n]


@pytest.fixture(scope="module")
def cut(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """300 real documents of five sources in eleven files, with a config; two records of it are broken."""
    home = tmp_path_factory.mktemp("cut")
    for name, file in (
        ("linux", "linux.jsonl.zst"),
        ("handbook", "handbook.jsonl.zst"),
        ("wiki", "wiki.jsonl.zst"),
        ("dictionary", "dictionary.arrow"),
        ("speeches", "speeches.parquet"),
    ):
        rows = sample(file, 60)
        for i in range(2):
            write_jsonl(home / "in" / name / f"{i}.jsonl", rows[i::2])
    with open(home / "in" / "wiki" / "0.jsonl", "ab") as broken:
        broken.write(b'{"id": "half", "text": "cut off\n{"id": "ff", "text": "\xff"}\n')
    write_jsonl(home / "in" / "wiki" / "empty.jsonl", [])
    rows = sample("wiki.jsonl.zst", 60)
    context = max((str(r["text"]) for r in rows if r["lang"] == "en"), key=len)
    write_jsonl(home / "eval.jsonl", [{"id": "e1", "context": context}, {"id": "e2", "context": "too short"}])
    config = {
        "seed": 3,
        "sources": {
            "linux": {"path": "in/linux/*.jsonl", "id": "id", "meta": ["lang"]},
            "handbook": {"path": "in/handbook/*.jsonl", "id": "id", "meta": ["lang"], "priority": 2},
            "wiki": {"path": "in/wiki/*.jsonl", "id": "id"},
            "dictionary": {"path": "in/dictionary/*.jsonl"},
            "speeches": {"path": "in/speeches/*.jsonl", "id": "id"},
        },
        "measure": {
            "quality": {
                "positives": {"sources": ["speeches", "wiki"]},
                "negatives": {"sources": ["dictionary", "linux"], "sample": 80},
                "bucket": 2000,
            }
        },
        "decontaminate": {"against": {"xquad": {"path": "eval.jsonl", "text": "context", "id": "id"}}},
        "policy": {
            "set": {"gopher.word_count.min": 20},
            "language": {"min_score": 0.3},
            "quality": {"min_score": 0.05},
        },
    }
    (home / "cut.yaml").write_text(yaml.safe_dump(config, sort_keys=False))
    return home


@pytest.fixture(autouse=True)
def _inside(cut: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(cut)


def curate(out: Path, **options: object) -> Curated:
    config = load_config("cut.yaml", CurateConfig)
    return run_curation(config, out, progress=False, **{"engine": "inline", **options})  # type: ignore[arg-type]


def hashes(directory: Path) -> dict[str, str]:
    """SHA-256 of every public file: everything but private steps and the log."""
    found = {}
    for path in sorted(directory.rglob("*")):
        relative = path.relative_to(directory)
        if path.is_file() and relative.parts[0] not in (".steps", "log"):
            found[relative.as_posix()] = hashlib.sha256(path.read_bytes()).hexdigest()
    return found


@pytest.fixture(scope="module")
def undisturbed(cut: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Curated]:
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(cut)
        yield curate(tmp_path_factory.mktemp("runs") / "undisturbed")


def frame(run: Curated, folder: str) -> pl.DataFrame:
    return pl.read_parquet(run.directory / folder / "*.parquet")


def test_every_record_is_kept_dropped_or_in_quarantine_in_every_source(
    undisturbed: Curated, cut: Path
) -> None:
    assert sum(c["documents"] for c in undisturbed.counts.values()) == 300
    for source, counts in undisturbed.counts.items():
        lines = sum(len(p.read_bytes().splitlines()) for p in (cut / "in" / source).glob("*.jsonl"))
        of_source = [
            frame(undisturbed, f).filter(pl.col("source") == source).height
            for f in ("documents", "kept", "quarantine")
        ]
        assert counts["read"] == lines
        assert [counts["documents"], counts["kept"], counts["quarantined"]] == of_source
        assert counts["read"] == counts["kept"] + counts["dropped"] + counts["quarantined"]
        assert counts["kept"] > 0 or source == "dictionary"


def test_broken_records_stand_in_quarantine_with_file_line_and_reason(undisturbed: Curated) -> None:
    rows = frame(undisturbed, "quarantine").select("source", "path", "line", "reason").rows()
    assert sorted(rows) == [
        ("wiki", "0.jsonl", 31, "malformed_json"),
        ("wiki", "0.jsonl", 32, "invalid_utf8"),
    ]
    assert "wiki: empty.jsonl holds no records" in undisturbed.manifest["warnings"]


def test_every_dropped_document_has_a_reason_and_no_kept_one_has(undisturbed: Curated) -> None:
    documents, kept = frame(undisturbed, "documents"), frame(undisturbed, "kept")
    reasons = (
        frame(undisturbed, "decisions").filter(pl.col("action") == "drop").select("source", "id").unique()
    )
    dropped = documents.join(kept, on=["source", "id"], how="anti").select("source", "id")
    assert set(reasons.rows()) == set(dropped.rows())
    assert {"policy", "minhash", "decontaminate"} <= set(frame(undisturbed, "decisions")["stage"])


def test_a_duplicate_goes_only_for_a_kept_partner_of_that_similarity(undisturbed: Curated) -> None:
    texts = {(r["source"], r["id"]): r["text"] for r in frame(undisturbed, "documents").to_dicts()}
    kept = {(r["source"], r["id"]) for r in frame(undisturbed, "kept").to_dicts()}
    rows = frame(undisturbed, "decisions").filter(pl.col("stage").is_in(["exact", "minhash"])).to_dicts()
    assert len(rows) > 10
    for row in rows:
        own, partner = texts[row["source"], row["id"]], (row["partner_source"], row["partner_id"])
        assert partner in kept
        if row["stage"] == "exact":
            assert own == texts[partner]
        elif own.isascii() and texts[partner].isascii():
            assert row["similarity"] == pytest.approx(jaccard(own, texts[partner]), abs=1e-12)
            assert row["similarity"] >= 0.8


def jaccard(a: str, b: str) -> float:
    import re

    def shingles(text: str) -> set[tuple[str, ...]]:
        words = re.findall(r"\w+", text.lower())
        return {tuple(words[i : i + 5]) for i in range(max(1, len(words) - 4))}

    return len(shingles(a) & shingles(b)) / len(shingles(a) | shingles(b))


def test_kept_documents_stay_in_input_order(undisturbed: Curated) -> None:
    documents = frame(undisturbed, "documents").select("source", "id").rows()
    kept = frame(undisturbed, "kept").select("source", "id").rows()
    assert kept == [key for key in documents if key in set(kept)]


def test_a_text_of_an_evaluation_item_is_found_and_its_place_told(undisturbed: Curated) -> None:
    texts = {(r["source"], r["id"]): r["text"] for r in frame(undisturbed, "documents").to_dicts()}
    rows = frame(undisturbed, "decisions").filter(pl.col("stage") == "decontaminate").to_dicts()
    item = json.loads(Path("eval.jsonl").read_text().splitlines()[0])["context"]
    assert len(rows) >= 1
    for row in rows:
        span = texts[row["source"], row["id"]][row["span_start"] : row["span_end"]]
        assert row["partner_id"] == "e1"
        assert span in item
        assert len(span.split()) >= 12
    assert undisturbed.manifest["decontaminate"] == {"rows": 2, "unreadable": 0, "not_searchable": 1}


def test_the_manifest_names_every_public_shard_with_rows_and_hash_and_no_place_or_time(
    undisturbed: Curated, cut: Path
) -> None:
    text = (undisturbed.directory / "manifest.json").read_text()
    on_disk = hashes(undisturbed.directory)
    named = {s["path"]: s for shards in undisturbed.manifest["shards"].values() for s in shards}
    assert set(named) == set(on_disk) - {"manifest.json", "report.html"}
    for path, shard in named.items():
        assert shard["sha256"] == on_disk[path]
        assert shard["rows"] == pl.read_parquet(undisturbed.directory / path).height
    assert str(cut) not in text
    assert str(undisturbed.directory) not in text
    for raw in undisturbed.manifest["inputs"]:
        assert (
            raw["sha256"]
            == hashlib.sha256((cut / "in" / raw["source"] / raw["path"]).read_bytes()).hexdigest()
        )


def test_a_run_that_keeps_its_documents_private_makes_the_same_decisions(
    undisturbed: Curated, cut: Path, tmp_path: Path
) -> None:
    lean = {**yaml.safe_load((cut / "cut.yaml").read_text()), "output": {"documents": False}}
    (cut / "lean.yaml").write_text(yaml.safe_dump(lean))
    run = run_curation(
        load_config("lean.yaml", CurateConfig), tmp_path / "run", engine="inline", progress=False
    )
    assert run.counts == undisturbed.counts
    private, full = hashes(run.directory), hashes(undisturbed.directory)
    shared = {path for path in full if path.split("/")[0] in ("decisions", "kept", "pairs", "quarantine")}
    assert {path: private[path] for path in shared} == {path: full[path] for path in shared}
    assert set(private) - shared == {"manifest.json", "report.html"}


def test_the_order_in_which_files_are_listed_changes_no_byte(
    undisturbed: Curated, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    listed = glob.glob
    monkeypatch.setattr(glob, "glob", lambda *a, **k: listed(*a, **k)[::-1])
    assert hashes(curate(tmp_path / "run").directory) == hashes(undisturbed.directory)


def test_rows_moved_into_other_files_keep_their_decisions_and_signals(undisturbed: Curated, cut: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:  # fmt: skip
    """Native ids are the keys: only documents named by their place would change their names."""
    for folder in (cut / "in").iterdir():
        lines = [
            line for p in sorted(folder.glob("*.jsonl")) for line in p.read_bytes().splitlines(keepends=True)
        ]
        target = tmp_path / "in" / folder.name
        target.mkdir(parents=True)
        for i, piece in enumerate((lines[:7], lines[7:])):
            (target / f"moved-{i}.jsonl").write_bytes(b"".join(piece))
    (tmp_path / "cut.yaml").write_text(
        (cut / "cut.yaml").read_text().replace("in/dictionary/*.jsonl", "in/dictionary/*.jsonl\n    id: id")
    )
    (cut / "named.yaml").write_text((tmp_path / "cut.yaml").read_text())
    (tmp_path / "eval.jsonl").write_text((cut / "eval.jsonl").read_text())
    before = run_curation(
        load_config("named.yaml", CurateConfig), tmp_path / "before", engine="inline", progress=False
    )
    monkeypatch.chdir(tmp_path)
    after = curate(tmp_path / "after")
    for folder in ("kept", "decisions", "pairs"):
        assert sorted(frame(before, folder).rows(), key=str) == sorted(frame(after, folder).rows(), key=str)
    numbers = [frame(run, "signals").sort("source", "id") for run in (before, after)]
    assert numbers[0].equals(numbers[1])


def run_command(out: Path, *flags: str, marker: str = "") -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "curate", "run", "cut.yaml", "--out", str(out), *flags]
    environment = {**os.environ, "CURATE_TEST_MARK": marker}
    return subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)


def finished_parts(out: Path) -> int:
    return len(glob.glob(f"{out}/.steps/*/0*/part.json"))


def kill_when(process: subprocess.Popen[bytes], out: Path, parts: int) -> bool:
    """Kill -9 the driver as soon as so many parts are finished; whether it was still running."""
    deadline = time.monotonic() + 120
    while process.poll() is None and time.monotonic() < deadline:
        if finished_parts(out) >= parts:
            process.send_signal(signal.SIGKILL)
            process.communicate()
            return True
        time.sleep(0.002)
    process.communicate()
    return False


@pytest.mark.slow
def test_a_driver_killed_anywhere_resumes_to_the_same_bytes(undisturbed: Curated, tmp_path: Path) -> None:
    out = tmp_path / "run"
    killed_at = []
    for parts in (0, 3, 8, 12, 20, 26, 30):
        if kill_when(run_command(out, "--engine", "inline"), out, parts):
            killed_at.append(finished_parts(out))
    assert len(killed_at) >= 5
    assert killed_at == sorted(killed_at)
    assert run_command(out, "--engine", "inline").wait(120) == 0
    assert hashes(out) == hashes(undisturbed.directory)
    log = [json.loads(line) for line in (out / "log" / "run.jsonl").read_text().splitlines()]
    ingested = [e["run"] for e in log if e["step"] == "ingest"]
    assert sum(ingested) <= 5 + len(killed_at)  # five parts; a kill costs at most the one in flight


def ray_workers(marker: str) -> list[int]:
    """Processes of Ray that are inside a part of the run with this marker in its environment.

    A worker names itself after its part, ``ray::measure[3]``. Ray's agents carry the same prefix
    and must not be hit: without them the node ends, and with it the only node of this run.
    """
    found = []
    for status in glob.glob("/proc/[0-9]*/cmdline"):
        try:
            command = Path(status).read_bytes()
            environment = Path(status).with_name("environ").read_bytes()
        except OSError:
            continue
        if re.match(rb"ray::\w+\[\d+\]", command) and marker.encode() in environment:
            found.append(int(status.split("/")[2]))
    return found


@pytest.mark.slow
@pytest.mark.ray
@pytest.mark.xdist_group("ray")
@pytest.mark.parametrize("workers", [1, 2])
def test_ray_writes_the_same_bytes_with_one_worker_and_with_two(
    undisturbed: Curated, tmp_path: Path, workers: int
) -> None:
    run = curate(tmp_path / "run", engine="ray", workers=workers)
    assert hashes(run.directory) == hashes(undisturbed.directory)


@pytest.mark.slow
@pytest.mark.ray
@pytest.mark.xdist_group("ray")
def test_ray_with_a_killed_worker_and_a_killed_driver_ends_in_the_same_bytes(
    undisturbed: Curated, tmp_path: Path
) -> None:
    out, marker = tmp_path / "run", uuid.uuid4().hex
    process = run_command(out, "--engine", "ray", "--workers", "2", marker=marker)
    killed_worker = False
    deadline = time.monotonic() + 120
    while process.poll() is None and time.monotonic() < deadline:
        workers = ray_workers(marker)
        if workers and not killed_worker:
            os.kill(workers[0], signal.SIGKILL)
            killed_worker = True
        if killed_worker and finished_parts(out) >= 12:
            break
        time.sleep(0.002)
    assert killed_worker
    assert process.poll() is None, process.communicate()[1].decode()
    process.send_signal(signal.SIGKILL)
    process.communicate()
    again = run_command(out, "--engine", "ray", "--workers", "2", marker=marker)
    assert again.wait(180) == 0, again.stderr.read().decode() if again.stderr else ""
    again.communicate()
    assert hashes(out) == hashes(undisturbed.directory)
    assert not (out / ".steps" / "ray-temp").exists()


def test_a_finished_run_redoes_nothing_and_starts_no_ray(undisturbed: Curated) -> None:
    before = hashes(undisturbed.directory)
    again = curate(undisturbed.directory, engine="ray")
    log = [json.loads(line) for line in (again.directory / "log" / "run.jsonl").read_text().splitlines()]
    assert all(e["run"] == 0 for e in log[len(log) // 2 :])
    assert "ray" not in {e.get("engine") for e in log}
    assert hashes(again.directory) == before


def test_another_policy_redoes_judging_and_what_follows_but_measures_nothing_again(
    undisturbed: Curated, cut: Path, tmp_path: Path
) -> None:
    out = tmp_path / "run"
    curate(out)
    changed = yaml.safe_load((cut / "cut.yaml").read_text())
    changed["policy"]["set"]["gopher.word_count.min"] = 200
    (cut / "stricter.yaml").write_text(yaml.safe_dump(changed))
    run = run_curation(load_config("stricter.yaml", CurateConfig), out, engine="inline", progress=False)
    log = [json.loads(line) for line in (out / "log" / "run.jsonl").read_text().splitlines()]
    second = {e["step"]: e["run"] for e in log[len(log) // 2 :]}
    assert {name for name, count in second.items() if count} == {"judge", "duplicates", "decide", "residual"}
    assert sum(c["kept"] for c in run.counts.values()) < sum(c["kept"] for c in undisturbed.counts.values())


def test_too_many_bad_records_fail_the_run_and_stay_in_quarantine(cut: Path, tmp_path: Path) -> None:
    strict = yaml.safe_load((cut / "cut.yaml").read_text())
    strict["ingest"] = {"max_quarantine_share": 0.01}
    (cut / "strict.yaml").write_text(yaml.safe_dump(strict))
    with pytest.raises(
        DataError,
        match=r"(?s)wiki: 2 of 62 records \(3.2%\): 1 invalid_utf8, 1 malformed_json.*Correct the data",
    ):
        run_curation(
            load_config("strict.yaml", CurateConfig), tmp_path / "run", engine="inline", progress=False
        )
    assert pl.read_parquet(tmp_path / "run" / "quarantine" / "*.parquet").height == 2
