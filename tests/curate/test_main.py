"""The command line: results on stdout, all else on stderr, and an exit code for each kind of failure."""

from __future__ import annotations

import fcntl
import hashlib
import json
import subprocess
import sys
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import yaml

from curate.__main__ import main
from curate.manifest import read_manifest
from filters.language import known_languages

DATA = Path(__file__).parents[1] / "data"
COLUMNS = ("read", "quarantined", "documents", "dropped", "kept")


def write_config(path: Path, **sections: object) -> str:
    path.write_text(yaml.safe_dump(sections, sort_keys=False))
    return str(path)


def small_config(home: Path, *, lines: int = 6, **sections: object) -> str:
    """A run of a few lines that measures little."""
    texts = [{"id": f"d{i}", "text": f"document number {i // 2}"} for i in range(lines)]
    data = "".join(json.dumps(t) + "\n" for t in texts)
    if not (home / "in.jsonl").exists() or (home / "in.jsonl").read_text() != data:
        (home / "in.jsonl").write_text(data)
    plain = {
        "sources": {"web": {"path": f"{home}/in.jsonl", "id": "id"}},
        "measure": {"language": False},
        "dedup": {"minhash": None},
        "policy": {"use": []},
    }
    return write_config(home / "small.yaml", **{**plain, **sections})


def public_files(run: Path) -> dict[str, str]:
    return {
        path.relative_to(run).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(run.rglob("*"))
        if path.is_file() and path.relative_to(run).parts[0] not in (".steps", "log")
    }


def steps(run: Path) -> list[str]:
    return sorted(p.name for p in (run / ".steps").iterdir() if p.is_dir())


def parts_run(run: Path) -> list[int]:
    """Parts that the latest run did, by step."""
    events = [json.loads(line) for line in (run / "log" / "run.jsonl").read_text().splitlines()]
    start = max(i for i, event in enumerate(events) if event["step"] == "ingest")
    return [event["run"] for event in events[start:]]


# -- a whole run -----------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def sample(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cut of the sample data with everything switched on: five formats, broken files, language, quality, leaks."""
    home = tmp_path_factory.mktemp("sample")
    config = write_config(
        home / "cut.yaml",
        seed=5,
        sources={
            "plays": {"path": f"{DATA}/documents/plays/*.txt", "priority": 3},
            "sqlite": {"path": f"{DATA}/documents/sqlite.jsonl", "id": "id", "meta": ["lang"]},
            "sentences": {"path": f"{DATA}/documents/sentences.csv", "id": "id", "meta": ["lang", "license"]},
            "tables": {"path": f"{DATA}/documents/tables.parquet", "id": "id"},
            "bad": {"path": f"{DATA}/bad/*.jsonl*"},
        },
        ingest={"max_quarantine_share": 0.6},
        measure={
            "quality": {
                "positives": {"sources": ["plays"]},
                "negatives": {"sources": ["tables", "sentences"], "sample": 60},
                "bucket": 2000,
            }
        },
        decontaminate={
            "against": {"gsm8k": {"path": f"{DATA}/eval/gsm8k.jsonl.gz", "text": "question", "id": "id"}}
        },
        policy={
            "set": {"gopher.word_count.min": 5},
            "language": {"keep": ["en"], "min_score": 0.4},
            "quality": {"min_score": 0.01},
            "sources": {"tables": {"use": [], "language": False}},
        },
    )
    assert main(["run", config, "--out", str(home / "run"), "--engine", "inline"]) == 0
    return home / "run"


def test_a_run_on_the_sample_data_ends_with_a_report_and_sums_that_agree(
    sample: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    counts = read_manifest(sample, kind="curated")["counts"]
    assert {name: counts[name]["read"] for name in ("plays", "sqlite", "sentences", "tables")} == {
        "plays": 20, "sqlite": 51, "sentences": 720, "tables": 29,
    }  # fmt: skip
    for name, c in counts.items():
        assert c["read"] == c["quarantined"] + c["documents"], name
        assert c["documents"] == c["dropped"] + c["kept"], name
    assert (sample / "report.html").read_text().lower().startswith("<!doctype html>")
    assert main(["run", str(sample.parent / "cut.yaml"), "--out", str(sample), "--engine", "inline"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == ["source", *COLUMNS]
    for line in lines[1:-2]:
        name, *numbers = line.replace(",", "").split()
        assert [int(n) for n in numbers] == [counts[name][c] for c in COLUMNS]
    assert lines[-2].replace(",", "").split() == [
        "all",
        *(str(sum(c[k] for c in counts.values())) for k in COLUMNS),
    ]
    assert lines[-1] == f"report: {sample}/report.html"


def test_the_broken_sample_files_are_accounted_for(sample: Path) -> None:
    found = pq.read_table(sample / "quarantine").to_pylist()
    assert sorted((row["path"], row["row"], row["reason"]) for row in found) == [
        *[("empty_target.jsonl", i, "missing_text") for i in range(4)],
        ("invalid_utf8.jsonl", 1, "invalid_utf8"),
        ("malformed.jsonl", 2, "malformed_json"),
        *[("missing_text.jsonl", i, "missing_text") for i in range(1, 5)],
        *[("not_an_object.jsonl", i, "malformed_json") for i in range(1, 4)],
        ("not_gzip.jsonl.gz", 0, "broken_stream"),
        ("surrogate.jsonl", 1, "invalid_utf8"),
        *[(f"truncated.jsonl.{end}", 5, "broken_stream") for end in ("gz", "zst")],
    ]
    manifest = read_manifest(sample)
    assert (manifest["counts"]["bad"]["read"], manifest["counts"]["bad"]["quarantined"]) == (56, 17)
    assert manifest["warnings"][0] == "bad: empty.jsonl holds no records"


def test_a_reason_of_the_run_can_be_explained(sample: Path, capsys: pytest.CaptureFixture[str]) -> None:
    drops = [d for d in pq.read_table(sample / "decisions").to_pylist() if d["action"] == "drop"]
    stages = {d["stage"] for d in drops}
    assert {"policy", "language", "quality"} <= stages
    for stage in sorted(stages):
        drop = next(d for d in drops if d["stage"] == stage)
        assert main(["explain", str(sample), drop["id"], "--source", drop["source"]]) == 0
        said = capsys.readouterr().out
        assert said.startswith(f"{drop['source']} / {drop['id']}: dropped\n  read from ")
        assert f"  drop      {drop['rule']}" in said


def test_the_language_and_the_quality_of_every_document_were_measured(sample: Path) -> None:
    signals = pq.read_table(sample / "signals")
    assert set(signals["language"].to_pylist()) <= set(known_languages())
    assert signals["quality"].null_count == 0
    kept = pq.read_table(sample / "kept", columns=["source", "id"]).to_pylist()
    languages = {
        (r["source"], r["id"]): r["language"]
        for r in signals.select(["source", "id", "language"]).to_pylist()
    }
    assert {languages[k["source"], k["id"]] for k in kept if k["source"] != "tables"} == {"en"}


# -- exit codes ------------------------------------------------------------------------------------------------


def test_a_good_run_ends_with_0_and_prints_only_its_table(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["run", small_config(tmp_path), "--out", str(tmp_path / "run")]) == 0
    assert capsys.readouterr().out.splitlines() == [
        "source         read  quarantined    documents      dropped         kept",
        "web               6            0            6            3            3",
        "all               6            0            6            3            3",
        f"report: {tmp_path}/run/report.html",
    ]


def test_a_bad_config_ends_with_2(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["run", str(tmp_path / "none.yaml"), "--out", str(tmp_path / "run")]) == 2
    assert capsys.readouterr().err.startswith(f"error: {tmp_path}/none.yaml: no such file")
    assert main(["run", small_config(tmp_path)]) == 2
    assert (
        capsys.readouterr().err
        == "error: --out: missing; give the run directory, for instance --out runs/demo/curated.\n"
    )
    assert main(["run", small_config(tmp_path), "--out", str(tmp_path / "run"), "--workers", "0"]) == 2
    assert "workers: found 0; allowed: 1 or more." in capsys.readouterr().err
    assert (
        main(
            [
                "run",
                small_config(tmp_path, dedup={"minhash": {"permutations": 1}}),
                "--out",
                str(tmp_path / "run"),
            ]
        )
        == 2
    )
    assert "small.yaml: $.dedup.minhash.permutations: " in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    "arguments", [[], ["rum"], ["run"], ["explain", "x"], ["run", "x", "--engine", "spark"]]
)
def test_a_command_that_is_none_ends_with_2(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(arguments)
    assert caught.value.code == 2
    assert "usage: curate" in capsys.readouterr().err


def test_bad_data_ends_with_3(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = small_config(tmp_path, ingest={"on_duplicate_id": "fail"})
    with open(tmp_path / "in.jsonl", "a") as file:
        file.write('{"id": "d0", "text": "again"}\n')
    assert main(["run", config, "--out", str(tmp_path / "run")]) == 3
    assert capsys.readouterr().err.startswith("error: native ids are repeated in web (1);")


def test_a_directory_in_use_ends_with_4(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "run" / ".steps").mkdir(parents=True)
    with open(tmp_path / "run" / ".steps" / "lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        assert main(["run", small_config(tmp_path), "--out", str(tmp_path / "run")]) == 4
    assert "another command is working on this run directory" in capsys.readouterr().err


def test_a_directory_that_cannot_be_made_ends_with_4_and_names_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("")
    assert main(["run", small_config(tmp_path), "--out", str(tmp_path / "file" / "run")]) == 4
    said = capsys.readouterr().err
    assert said.startswith(f"error: Not a directory: {tmp_path}/file/run")
    assert "Traceback" not in said


def test_an_interrupted_run_ends_with_130(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("curate.pipeline.run_curation", interrupt)
    assert main(["run", small_config(tmp_path), "--out", str(tmp_path / "run")]) == 130
    assert capsys.readouterr().err.startswith("interrupted; finished parts are kept")


def test_a_fresh_process_keeps_results_and_messages_apart(tmp_path: Path) -> None:
    config = small_config(tmp_path)
    command = [
        sys.executable,
        "-m",
        "curate",
        "run",
        config,
        "--out",
        str(tmp_path / "run"),
        "--engine",
        "inline",
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout.splitlines()[0].split()[0]) == (0, "source")
    assert len(done.stdout.splitlines()) == 4
    assert "ingest       1/1 parts" in done.stderr
    assert "Warning" not in done.stderr
    shown = subprocess.run(
        [*command[:4], config, "--show-config"], capture_output=True, text=True, check=False
    )
    assert (shown.returncode, shown.stderr) == (0, "")
    assert yaml.safe_load(shown.stdout)["seed"] == 0


# -- clean and compare -----------------------------------------------------------------------------------------


def test_clean_deletes_only_what_the_last_run_did_not_use(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "run"
    assert main(["run", small_config(tmp_path, seed=1), "--out", str(run)]) == 0
    first = steps(run)
    assert main(["run", small_config(tmp_path, policy={"use": ["gopher"]}), "--out", str(run)]) == 0
    before, used = public_files(run), [name for name in steps(run) if name not in first]
    assert len(used) >= 2
    capsys.readouterr()
    assert main(["clean", str(run)]) == 0
    deleted = int(capsys.readouterr().out.split()[0])
    current = json.loads((run / ".steps" / "current.json").read_text())
    assert steps(run) == sorted(current)
    assert set(used) <= set(current)
    assert deleted == len(set(first) - set(current)) >= 2
    assert public_files(run) == before
    assert main(["run", small_config(tmp_path, policy={"use": ["gopher"]}), "--out", str(run)]) == 0
    assert sum(parts_run(run)) == 0
    assert public_files(run) == before


def test_clean_all_keeps_the_public_files_and_a_rerun_makes_the_same(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "run"
    assert main(["run", small_config(tmp_path), "--out", str(run)]) == 0
    before = public_files(run)
    assert {name.split("/")[0] for name in before} == {
        "decisions", "documents", "kept", "manifest.json", "origins", "pairs", "quarantine", "report.html", "signals",
    }  # fmt: skip
    assert main(["clean", str(run), "--all"]) == 0
    assert (steps(run), public_files(run)) == ([], before)
    assert main(["explain", str(run), "d0"]) == 0
    assert main(["run", small_config(tmp_path), "--out", str(run)]) == 0
    assert min(parts_run(run)) == 1
    assert public_files(run) == before


def test_clean_refuses_what_is_no_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "precious").mkdir()
    (tmp_path / "precious" / "file").write_text("x")
    assert main(["clean", str(tmp_path / "precious"), "--all"]) == 2
    assert "not a run directory" in capsys.readouterr().err
    assert (tmp_path / "precious" / "file").read_text() == "x"


def test_compare_says_whether_two_runs_are_the_same(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = small_config(tmp_path)
    for name in ("a", "b"):
        assert main(["run", config, "--out", str(tmp_path / name)]) == 0
    assert main(["run", small_config(tmp_path, lines=4), "--out", str(tmp_path / "c")]) == 0
    capsys.readouterr()
    assert main(["compare", str(tmp_path / "a"), str(tmp_path / "b")]) == 0
    digest = hashlib.sha256((tmp_path / "a" / "manifest.json").read_bytes()).hexdigest()
    assert capsys.readouterr().out == f"equal: 7 shards, manifest sha256 {digest}\n"
    assert main(["compare", str(tmp_path / "a"), str(tmp_path / "c")]) == 3
    assert "differ in: counts, dedup, inputs, rules, shards." in capsys.readouterr().err
