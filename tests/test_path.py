"""The whole path on a cut of the sample data: raw files -> curated shards -> mixture -> tuned model -> report."""

from __future__ import annotations

import glob
import gzip
import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import polars as pl
import pyarrow.parquet as pq
import pytest
import yaml

from curate.config import load_config
from curate.pipeline import run_curation
from curate.settings import CurateConfig
from mixtures.build import build_mixture
from mixtures.config import MixtureConfig
from mixtures.shards import read_shards
from mixtures.study.report import judge
from mixtures.study.run import run_study
from mixtures.study.settings import StudyConfig
from mixtures.tasks import load_task
from mixtures.tokenizer import load_tokenizer

ROOT = Path(__file__).parents[1]
DATA = ROOT / "tests" / "data"


@pytest.fixture(scope="module")
def cut(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder with 120 documents, three tasks and configs; what runs in it is inline."""
    home = tmp_path_factory.mktemp("path")
    speeches = pq.read_table(DATA / "documents" / "speeches.parquet").to_pylist()[:20]
    (home / "speeches.jsonl").write_text(
        "".join(json.dumps({"id": r["id"], "text": r["text"][:4000]}) + "\n" for r in speeches)
    )
    sqlite = (DATA / "documents" / "sqlite.jsonl").read_text().splitlines()[:40]
    (home / "sqlite.jsonl").write_text("\n".join(sqlite))
    for i, name in enumerate(("gsm8k", "tatoeba", "t0_quartz")):
        rows = gzip.decompress((DATA / "tasks" / f"{name}.jsonl.gz").read_bytes()).splitlines()[: 90 + i]
        (home / f"{name}.jsonl.gz").write_bytes(gzip.compress(b"\n".join(rows), mtime=0))
        task = yaml.safe_load((ROOT / "configs" / "tasks" / f"{name}.yaml").read_text())
        task["source"]["path"] = f"{name}.jsonl.gz"
        (home / f"{name}.yaml").write_text(yaml.safe_dump(task))
    curated = {
        "sources": {"speeches": {"path": "speeches.jsonl", "id": "id"}, "sqlite": {"path": "sqlite.jsonl"}},
        "policy": {"use": ["gopher"], "set": {"gopher.word_count.min": 20}},
    }
    mixture = {
        "tokenizer": {"bpe": 400, "train_on": "curated"},
        "tasks": ["gsm8k.yaml", "tatoeba.yaml", "t0_quartz.yaml", {"documents": "curated"}],
        "variants": {"shots": {0: 0.5, 2: 0.5}, "cot": {0: 0.5, 1: 0.5}},
        "mixture": {
            "parts": {
                "raw": {"tasks": {"source": "raw"}, "cap": 50, "weight": 0.5},
                "text": {"tasks": {"source": "documents"}, "weight": 0.5},
            }
        },
        "hold_out": {"datasets": ["quartz"]},
        "eval": {"items": 12},
        "pack": {"length": 256},
        "budget": {"examples": 150},
    }
    recipe = {"steps": 3, "tokens_per_step": 512, "warmup": 1}
    study = {
        "mixture": "mixture.yaml",
        "base": {"pretrain_on": "curated", "recipe": recipe},
        "arms": {"both": {}, "text": {"about": "documents alone", "drop": ["raw"]}},
        "seeds": 2,
        "train": recipe,
    }
    for name, config in (("curate", curated), ("mixture", mixture), ("study", study)):
        (home / f"{name}.yaml").write_text(yaml.safe_dump(config))
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(home)
        run_curation(load_config("curate.yaml", CurateConfig), "curated", engine="inline", progress=False)
        build_mixture(load_config("mixture.yaml", MixtureConfig), "mixture", engine="inline", progress=False)
    yield home


@pytest.fixture(autouse=True)
def _inside(cut: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(cut)


def hashes(directory: Path) -> dict[str, str]:
    """SHA-256 of every file but private steps and logs."""
    names = {p: p.relative_to(directory).parts for p in sorted(directory.rglob("*")) if p.is_file()}
    public = {p: parts for p, parts in names.items() if not {".steps", "log"} & set(parts)}
    return {"/".join(parts): hashlib.sha256(p.read_bytes()).hexdigest() for p, parts in public.items()}


def test_a_packed_row_is_followed_back_to_the_records_of_its_raw_files() -> None:
    """Tokens -> pack reference -> pool row -> task record, or -> kept document -> origin -> line of the raw file."""
    tokenizer = load_tokenizer("mixture/tokenizer.json")
    pools = {Path(p).name: read_shards(Path(p)) for p in glob.glob("mixture/pool/*/")}
    origins = {(r["source"], r["id"]): r for r in pl.read_parquet("curated/origins/*.parquet").to_dicts()}
    kept = {(r["source"], r["id"]) for r in pl.read_parquet("curated/kept/*.parquet").to_dicts()}
    followed = {"raw": 0, "text": 0}
    for row in read_shards(Path("mixture/packs")).to_pylist()[::3]:
        for ref in row["refs"]:
            tokens = [t for t, s in zip(row["tokens"], row["segments"], strict=True) if s == ref["segment"]]
            text = tokenizer.decode(tokens[1:-1])
            pool = {(r["row"], r["epoch"]): r for r in pools[ref["leaf"]].to_pylist()}[
                ref["row"], ref["epoch"]
            ]
            assert (pool["source"], pool["id"]) == (ref["source"], ref["id"])
            assert text == pool["input"] + ("\n" if pool["input"] else "") + pool["target"]
            part, _, task = ref["leaf"].partition(".")
            if part == "raw":
                spec = load_task(Path(f"{task}.yaml"))
                records = [
                    json.loads(line)
                    for line in gzip.decompress(Path(str(spec.source.path)).read_bytes()).splitlines()
                ]
                (record,) = [r for r in records if r["id"] == ref["id"]]
                answer = record["answer"].split("####")[-1].strip() if task == "gsm8k" else record["english"]
                assert answer in pool["target"]
            else:
                key = (ref["source"], ref["id"].rpartition("@")[0])
                assert key in kept
                origin = origins[key]
                raw = json.loads(Path(origin["path"]).read_text().splitlines()[origin["row"]])
                assert origin["line"] == origin["row"] + 1
                assert pool["target"] in raw["text"]
            followed[part] += 1
    assert followed["raw"] >= 10
    assert followed["text"] >= 10


def test_the_mixture_names_its_curated_parent_and_that_one_its_raw_files(cut: Path) -> None:
    mixture = json.loads(Path("mixture/manifest.json").read_text())
    (parent,) = mixture["parents"]
    assert parent["sha256"] == hashlib.sha256(Path(parent["path"], "manifest.json").read_bytes()).hexdigest()
    for raw in json.loads(Path(parent["path"], "manifest.json").read_text())["inputs"]:
        assert raw["sha256"] == hashlib.sha256(Path(raw["path"]).read_bytes()).hexdigest()
    assert str(cut) not in Path("mixture/manifest.json").read_text()


def test_the_order_in_which_files_are_listed_changes_no_byte_of_a_mixture(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    listed = glob.glob
    monkeypatch.setattr(glob, "glob", lambda *a, **k: listed(*a, **k)[::-1])
    build_mixture(
        load_config("mixture.yaml", MixtureConfig), tmp_path / "again", engine="inline", progress=False
    )
    assert hashes(tmp_path / "again") == hashes(Path("mixture"))


@pytest.mark.slow
def test_a_build_killed_anywhere_resumes_to_the_same_bytes(tmp_path: Path) -> None:
    out = tmp_path / "killed"
    command = [
        sys.executable,
        "-m",
        "mixtures",
        "build",
        "mixture.yaml",
        "--out",
        str(out),
        "--engine",
        "inline",
    ]
    killed = 0
    for parts in (0, 1, 4, 6, 9, 10):
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        while process.poll() is None:
            if len(glob.glob(f"{out}/.steps/*/0*/part.json")) >= parts:
                process.send_signal(signal.SIGKILL)
                killed += 1
                break
            time.sleep(0.002)
        process.wait()
    assert killed >= 4
    assert subprocess.run(command, stdout=subprocess.DEVNULL, check=True).returncode == 0
    assert hashes(out) == hashes(Path("mixture"))


@pytest.fixture(scope="module")
def study(cut: Path) -> Path:
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(cut)
        run_study(
            load_config("study.yaml", StudyConfig),
            "study",
            device="cpu",
            progress=False,
            command="mixtures study study.yaml --out study",
        )
    return cut / "study"


def test_a_study_scores_every_arm_and_the_base_on_the_held_out_dataset(study: Path) -> None:
    scores = pl.read_parquet(study / "scores.parquet")
    assert sorted(scores["arm"].unique()) == ["base", "both", "text"]
    assert set(scores["dataset"]) == {"quartz"}
    counts = scores.group_by("arm", "seed").len()
    assert sorted(set(counts["len"])) == [12]
    assert counts.height == 6
    base = scores.filter(pl.col("arm") == "base").sort("id", "seed")
    assert (
        base.filter(pl.col("seed") == 0)["nll"].to_list() == base.filter(pl.col("seed") == 1)["nll"].to_list()
    )
    tuned = scores.filter(pl.col("arm") == "both").sort("id", "seed")
    assert (
        tuned.filter(pl.col("seed") == 0)["nll"].to_list()
        != tuned.filter(pl.col("seed") == 1)["nll"].to_list()
    )
    page = (study / "report.html").read_text()
    assert "not distinguishable" in page or "better" in page
    assert "mixtures study study.yaml --out study" in page


def test_every_arm_starts_from_the_same_base_and_sees_only_its_mixture(study: Path) -> None:
    manifest = json.loads((study / "manifest.json").read_text())
    assert sorted(manifest["parents"]) == [
        f"mixtures/{n}" for n in ("base", "both-0", "both-1", "text-0", "text-1")
    ]
    for name, leaves in (("both-0", {"raw", "text"}), ("text-1", {"text"}), ("base", {"pretraining"})):
        rows = read_shards(study / "mixtures" / name / "packs")
        assert {ref["leaf"].split(".")[0] for refs in rows["refs"].to_pylist() for ref in refs} == leaves


def test_a_study_that_ran_once_trains_nothing_again_and_writes_the_same_report(
    study: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = hashes(study)
    again = run_study(
        load_config("study.yaml", StudyConfig),
        "study",
        device="cpu",
        progress=False,
        command="mixtures study study.yaml --out study",
    )
    events = [json.loads(line) for line in (study / "log" / "run.jsonl").read_text().splitlines()]
    assert [e["run"] for e in events[-3:]] == [0, 0, 0]
    assert hashes(study) == before
    assert judge(again).sentence


def test_the_same_study_elsewhere_gives_the_same_scores(study: Path, tmp_path: Path) -> None:
    run_study(load_config("study.yaml", StudyConfig), tmp_path / "other", device="cpu", progress=False)
    assert (tmp_path / "other" / "scores.parquet").read_bytes() == (study / "scores.parquet").read_bytes()


def test_arms_that_do_not_fit_the_mixture_are_named_together(cut: Path) -> None:
    config = yaml.safe_load(Path("study.yaml").read_text())
    config["base"]["pretrain_on"] = "curatd"
    config["arms"] = {"a": {"drop": ["rwa"]}, "b": {"weights": {"texts": 2}}, "c": {"drop": ["raw", "text"]}}
    Path("wrong.yaml").write_text(yaml.safe_dump(config))
    command = [sys.executable, "-m", "mixtures", "study", "wrong.yaml", "--out", "wrong"]
    done = subprocess.run(command, capture_output=True, text=True, env={**os.environ})
    assert done.returncode == 2
    assert "wrong.yaml: $.arms.a: no part is called 'rwa'; did you mean 'raw'?" in done.stderr
    assert "wrong.yaml: $.arms.b: no part is called 'texts'; did you mean 'text'?" in done.stderr
    assert "wrong.yaml: $.arms.c: drop: every part is dropped" in done.stderr
    assert "wrong.yaml: $.base.pretrain_on: curatd: no manifest.json" in done.stderr
    assert not Path("wrong").exists()


def test_mistakes_of_every_kind_in_a_mixture_are_named_together(cut: Path) -> None:
    """A wrong name and a wrong value beside tasks, datasets and files that do not exist."""
    config = yaml.safe_load(Path("mixture.yaml").read_text())
    config["tokenizr"] = config.pop("tokenizer")
    config["tasks"] = ["gsm8k.yaml", "nope*.yaml", {"documents": "nowhere"}]
    config["mixture"]["parts"]["raw"] = {"tasks": ["gsm9k"], "rate": "proportionl", "weight": 1}
    Path("wrong-mixture.yaml").write_text(yaml.safe_dump(config))
    command = [sys.executable, "-m", "mixtures", "plan", "wrong-mixture.yaml", "--out", "wrong"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 2
    for said in (
        "$.tokenizr: no such setting; did you mean 'tokenizer'?",
        "$.mixture.parts.raw.rate: found 'proportionl'",
        "$.mixture.parts.raw.tasks: no task 'gsm9k'; did you mean 'gsm8k'?",
        "'nope*.yaml' matches no file",
        "$.hold_out.datasets: no task has the dataset 'quartz'",
        "nowhere: no manifest.json",
    ):
        assert said in done.stderr
    assert not Path("wrong").exists()
