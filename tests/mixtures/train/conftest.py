"""Small decoders and hand-packed rows; nothing here uses the project's packer."""

import os
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

# Read when PyTorch is loaded. Threads that spin while they wait make a step ten times slower on a busy machine.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

VOCAB = 97
LENGTH = 48


def examples_of(rng, lengths):
    """Token ids and loss weights of examples: bos, then input and target of about half the length each, then eos."""
    found = []
    for n in lengths:
        tokens = np.concatenate([[1], rng.integers(3, VOCAB, max(n - 2, 0)), [2]])[:n].tolist()
        loss = [1.0 if n > 1 and place >= max(1, n // 2) else 0.0 for place in range(n)]
        found.append((tokens, loss))
    return found


def packs_of(rows, length=LENGTH):
    """A table of packs from rows, each a list of (tokens, loss) examples."""
    columns = {"tokens": [], "loss": [], "segments": [], "positions": []}
    for row in rows:
        rest = length - sum(len(tokens) for tokens, _ in row)
        assert rest >= 0
        columns["tokens"].append([t for tokens, _ in row for t in tokens] + [0] * rest)
        columns["loss"].append([w for _, loss in row for w in loss] + [0.0] * rest)
        columns["segments"].append([i + 1 for i, (tokens, _) in enumerate(row) for _ in tokens] + [0] * rest)
        columns["positions"].append([k for tokens, _ in row for k in range(len(tokens))] + [0] * rest)
    types = {"loss": pa.float32()}
    return pa.table({name: pa.array(c, pa.list_(types.get(name, pa.int32()))) for name, c in columns.items()})


def write_dataset(directory: Path, table: pa.Table, *, shard_rows: int = 10**6) -> Path:
    """Arrow IPC stream files and the list of them that a finished directory has."""
    directory.mkdir(parents=True)
    names = []
    for number, start in enumerate(range(0, table.num_rows, shard_rows)):
        names.append(f"data-{number:05d}.arrow")
        with (
            pa.OSFile(str(directory / names[-1]), "wb") as file,
            pa.ipc.new_stream(file, table.schema) as out,
        ):
            out.write_table(table.slice(start, shard_rows).combine_chunks())
    files = ", ".join(f'{{"filename": "{name}"}}' for name in names)
    (directory / "state.json").write_text(f'{{"_data_files": [{files}]}}')
    (directory / "dataset_info.json").write_text("{}")
    return directory


def items_of(examples, *, datasets=("a", "b")):
    """An eval table of (tokens, loss) examples; each target is said to have two bytes a token."""
    n = len(examples)
    names = [datasets[i % len(datasets)] for i in range(n)]
    return pa.table(
        {
            "id": [f"item-{i}" for i in range(n)],
            "task": names,
            "dataset": names,
            "template": ["plain"] * n,
            "variant": ["zero"] * n,
            "tokens": pa.array([tokens for tokens, _ in examples], pa.list_(pa.int32())),
            "loss": pa.array([loss for _, loss in examples], pa.list_(pa.float32())),
            "target_bytes": pa.array([int(2 * (sum(loss) - 1)) for _, loss in examples], pa.int64()),
        }
    )


@pytest.fixture(scope="session")
def rows():
    """Eight rows of examples, one-token examples, padding and a full row among them; targets unevenly spread."""
    rng = np.random.default_rng(7)
    lengths = [(5, 1, 17, 9), (48,), (3, 3, 3), (20, 20, 8), (1, 1, 40), (30, 2), (6,) * 8, (11, 13)]
    return [examples_of(rng, row) for row in lengths]


@pytest.fixture(scope="session")
def packs(rows):
    return packs_of(rows)


@pytest.fixture(scope="session")
def examples():
    """Twenty held-out items of 4 to 40 tokens."""
    rng = np.random.default_rng(8)
    return examples_of(rng, rng.integers(4, 41, 20).tolist())


@pytest.fixture
def mixture(tmp_path, packs, examples):
    """A mixture directory with packs/ in two shards and eval/."""
    write_dataset(tmp_path / "mixture" / "packs", packs, shard_rows=5)
    write_dataset(tmp_path / "mixture" / "eval", items_of(examples))
    return tmp_path / "mixture"


@pytest.fixture
def decoder():
    """A function that builds a tiny decoder whose attention is far from uniform, so that contamination shows."""
    from mixtures.train import Shape, build_model

    def build(seed=0, max_length=LENGTH, sharpen=2.0):
        shape = Shape(hidden=32, feed_forward=48, layers=2, heads=2)
        model = build_model(shape, vocab_size=VOCAB, max_length=max_length, seed=seed)
        for name, weights in model.named_parameters():
            if weights.ndim == 2 and "embed" not in name:
                weights.data.mul_(sharpen)
        return model

    return build


@pytest.fixture(scope="session")
def make():
    """The functions above, for tests that need other rows or items than the shared ones."""
    return {"examples": examples_of, "packs": packs_of, "items": items_of, "write": write_dataset}
