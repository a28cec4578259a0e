"""The parts of a study: pre-train the base, score it, and fine-tune and score one arm with one seed.

Each part leaves a checkpoint and its scores; times go to the study's log and never into these files.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from curate.config import from_mapping
from mixtures.tokenizer import load_tokenizer
from mixtures.train import Recipe, TrainResult, fine_tune, load_model, pretrain, score

CURVE = pa.schema(
    [("step", pa.int64()), ("loss", pa.float64()), ("tokens", pa.int64()), ("target_tokens", pa.int64())]
)


def base_part(
    out: Path,
    *,
    mixture: str,
    tokenizer: str,
    size: str,
    recipe: Mapping[str, Any],
    seed: int,
    device: str,
    log: str,
) -> dict[str, Any]:
    """Pre-train a new model on the packs of ``mixture``; the part is the checkpoint."""
    settings = from_mapping(Recipe, recipe)
    vocabulary = load_tokenizer(tokenizer).size
    result = pretrain(
        mixture, out, size=size, vocab_size=vocabulary, recipe=settings, seed=seed, device=device, log=log
    )
    return _write_curve(out, result)


def base_scores_part(out: Path, *, base: str, items: str, device: str) -> dict[str, Any]:
    """Score the untuned base on the held-out items."""
    pq.write_table(score(load_model(base), items, device=device), out / "scores.parquet")
    return {"rows": 0}


def trial_part(
    out: Path,
    *,
    base: str,
    mixture: str,
    items: str,
    recipe: Mapping[str, Any],
    seed: int,
    device: str,
    log: str,
) -> dict[str, Any]:
    """Fine-tune the base on one built mixture and score it; the part is the tuned checkpoint and its scores."""
    result = fine_tune(
        base, mixture, out, recipe=from_mapping(Recipe, recipe), seed=seed, device=device, log=log
    )
    pq.write_table(score(load_model(out), items, device=device), out / "scores.parquet")
    return _write_curve(out, result)


def _write_curve(out: Path, result: TrainResult) -> dict[str, Any]:
    records = [dataclasses.asdict(record) for record in result.steps]
    pq.write_table(pa.Table.from_pylist(records, CURVE), out / "curve.parquet")
    return {"rows": len(records), "tokens": result.tokens, "target_tokens": result.target_tokens}
