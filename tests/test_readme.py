"""The README's code runs: its Python sessions word for word, its commands against the sample data, its links and configs."""

from __future__ import annotations

import doctest
import re
import shlex
from pathlib import Path

import polars as pl
import pytest

from curate.__main__ import main as curate_main
from curate.config import load_config
from curate.settings import CurateConfig
from mixtures.__main__ import main as mixtures_main
from mixtures.config import MixtureConfig
from mixtures.study.settings import StudyConfig

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", README, flags=re.DOTALL)


@pytest.mark.parametrize("block", blocks("python"), ids=lambda b: b.split("\n")[0][:40])
def test_a_python_session_prints_what_it_says(block: str) -> None:
    runner = doctest.DocTestRunner(optionflags=doctest.NORMALIZE_WHITESPACE)
    runner.run(doctest.DocTestParser().get_doctest(block, {}, "README.md", "README.md", 0))
    assert runner.summarize(verbose=False).failed == 0
    assert runner.tries >= 5


def commands() -> list[list[str]]:
    found = [
        shlex.split(line, comments=True)
        for block in blocks("sh")
        for line in block.splitlines()
        if line.strip()
    ]
    return [c for c in found if c[0] in ("curate", "mixtures")]


@pytest.mark.slow
def test_the_commands_run_on_the_sample_data(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """All but the training of the study, whose command line and config are checked; tests/test_path.py trains one."""
    for name in ("configs", "tests"):
        (tmp_path / name).symlink_to(ROOT / name)
    monkeypatch.chdir(tmp_path)
    names = [" ".join(c[:2]) for c in commands()]
    assert names == [
        "curate dedup",
        "curate run",
        "curate explain",
        "mixtures plan",
        "mixtures build",
        "mixtures study",
    ]
    for program, *arguments in commands():
        if "DOCUMENT_ID" in arguments:
            dropped = (
                pl.scan_parquet("runs/demo/curated/decisions/*.parquet")
                .filter(pl.col("stage") == "minhash")
                .head(1)
                .collect()
            )
            arguments[arguments.index("DOCUMENT_ID")] = dropped["id"][0]
        if arguments[0] == "study":
            arguments.append("--show-config")
        assert (curate_main if program == "curate" else mixtures_main)(arguments) == 0
        printed = capsys.readouterr().out
        assert printed.strip()
        if arguments[0] == "explain":
            assert "minhash.jaccard" in printed
    assert Path("runs/demo/curated/report.html").stat().st_size > 50_000
    assert Path("runs/demo/mixture/manifest.json").exists()


def test_links_lead_somewhere() -> None:
    links = re.findall(r"\]\(([^)#]+)\)", README)
    assert len(links) >= 5
    for link in links:
        assert (ROOT / link).exists(), link


KINDS = {"curate": CurateConfig, "mixtures": MixtureConfig, "studies": StudyConfig}


@pytest.mark.parametrize(
    "path", sorted(ROOT.glob("configs/*/*.yaml")), ids=lambda p: f"{p.parent.name}/{p.name}"
)
def test_every_config_loads_and_says_first_what_it_does_and_how_to_run_it(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(ROOT)
    first, second, *_ = path.read_text(encoding="utf-8").splitlines()
    assert first.startswith("# ")
    assert re.search(
        r"^#.*(curate|mixtures) \w+ configs/", "\n".join([first, second, *_][:5]), flags=re.MULTILINE
    )
    if path.parent.name == "tasks":
        from mixtures.tasks import load_task, task_files

        assert task_files(load_task(path))
    else:
        assert load_config(path, KINDS[path.parent.name])
