"""The run's own quality classifier: examples from the run's sources, drawn by a hash of their keys."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from curate.config import from_mapping
from curate.settings import Examples, Quality
from curate.shards import read_groups, read_rows
from filters.quality import train_quality


def train_part(
    out: Path, *, quality: Mapping[str, Any], shards: Sequence[Mapping[str, Any]], seed: int
) -> dict[str, Any]:
    """Train on examples of the documents shards (``path`` and ``source`` each); the model is ``model.bin``."""
    settings = from_mapping(Quality, quality)
    return dataclasses.asdict(
        train_quality(
            _examples(settings.positives, shards, seed),
            _examples(settings.negatives, shards, seed),
            out=out / "model.bin",
            seed=seed,
            dim=settings.dim,
            word_ngrams=settings.word_ngrams,
            bucket=settings.bucket,
            epochs=settings.epochs,
            lr=settings.learning_rate,
        )
    )


def _examples(examples: Examples, shards: Sequence[Mapping[str, Any]], seed: int) -> pa.ChunkedArray:
    """Texts of the documents with the smallest hash of (seed, source, id); 16 bytes of memory a candidate."""
    import xxhash

    chosen = [s for s in shards if s["source"] in examples.sources]
    hashes: list[int] = []
    places: list[tuple[int, int]] = []
    for number, shard in enumerate(chosen):
        row = 0
        for group in read_groups(shard["path"], ["id"]):
            for key in group["id"].to_pylist():
                hashes.append(
                    xxhash.xxh3_64_intdigest(f"{shard['source']}\0{key}".encode(), seed=seed & 0xFFFFFFFF)
                )
                places.append((number, row))
                row += 1
    order = np.argsort(np.array(hashes, np.uint64), kind="stable")[: examples.sample]
    texts = []
    for number, shard in enumerate(chosen):
        rows = sorted(places[i][1] for i in order.tolist() if places[i][0] == number)
        if rows:
            texts.append(read_rows(shard["path"], rows, ["text"])["text"])
    return pa.chunked_array([c for t in texts for c in t.chunks], pa.large_string())
