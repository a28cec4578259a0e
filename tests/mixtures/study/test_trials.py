"""Parts of a study on two packed rows: what they leave is a matter of their arguments alone."""

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from curate.config import to_mapping
from mixtures.shards import finish_dataset, write_shard
from mixtures.study.trials import base_part, base_scores_part, trial_part
from mixtures.train import Recipe

LENGTH = 32
RECIPE = to_mapping(Recipe(steps=2, tokens_per_step=LENGTH, learning_rate=3e-3, warmup=1))


def lists(rows, type_):
    return pa.array([list(row) for row in rows], pa.list_(type_))


@pytest.fixture(scope="module")
def mixture(tmp_path_factory) -> Path:
    """packs/ of two rows with one example each, and eval/ of two items, in bytes."""
    home = tmp_path_factory.mktemp("mixture")
    examples = [
        [1, *(3 + byte for byte in text.encode()), 2] for text in ("two and two is four", "six is six")
    ]
    loss = [[0.0] * 4 + [1.0] * (len(tokens) - 4) for tokens in examples]
    sizes = [len(tokens) for tokens in examples]
    packs = {
        "tokens": lists((np.pad(tokens, (0, LENGTH - len(tokens))) for tokens in examples), pa.int32()),
        "loss": lists((np.pad(weights, (0, LENGTH - len(weights))) for weights in loss), pa.float32()),
        "segments": lists((np.pad([1] * size, (0, LENGTH - size)) for size in sizes), pa.int32()),
        "positions": lists((np.pad(range(size), (0, LENGTH - size)) for size in sizes), pa.int32()),
    }
    items = {name: ["a", "b"] for name in ("id", "task", "dataset", "template", "variant")}
    items |= {"tokens": lists(examples, pa.int32()), "loss": lists(loss, pa.float32())}
    items |= {"target_bytes": pa.array([size - 5 for size in sizes], pa.int64())}
    for name, columns in (("packs", packs), ("eval", items)):
        (home / name).mkdir()
        write_shard(home / name / "data-00000.arrow", pa.table(columns))
        finish_dataset(home / name)
    return home


def files_of(directory: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in directory.iterdir()}


def made(directory: Path, part, **arguments) -> Path:
    directory.mkdir(parents=True)
    part(directory, device="cpu", **arguments)
    return directory


def test_a_part_run_twice_leaves_the_same_bytes_and_its_times_in_the_log(mixture, tmp_path):
    """The engine names a part by its bytes: a time in one of them would redo every trial behind it."""
    once, again = tmp_path / "once", tmp_path / "again"
    for run in (once, again):
        common = {"mixture": str(mixture), "recipe": RECIPE, "seed": 3}
        given = {"tokenizer": "bytes", "size": "1M", "log": str(run / "log" / "base.jsonl")}
        base = str(made(run / "base", base_part, **common, **given))
        items = str(mixture / "eval")
        made(run / "scores", base_scores_part, base=base, items=items)
        made(run / "trial", trial_part, base=base, items=items, log=str(run / "log" / "t.jsonl"), **common)
    checkpoint = {"config.json", "generation_config.json", "model.safetensors", "curve.parquet"}
    for name, expected in (
        ("base", checkpoint),
        ("scores", {"scores.parquet"}),
        ("trial", checkpoint | {"scores.parquet"}),
    ):
        assert set(files_of(once / name)) == expected
        assert files_of(once / name) == files_of(again / name)
    lines = (once / "log" / "t.jsonl").read_text().splitlines()
    assert [json.loads(line)["seconds"] > 0 for line in lines] == [True, True]
