"""A small curated run whose every number is known by hand: 30 documents of two sources.

Who is dropped where is the table ``DROPS``.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from curate.schema import DECISIONS, PAIRS, QUARANTINE, documents_schema

FACTS = ["the harbour opened in 1898 and closed in 1971", "rye is sown in autumn", "the tower has nine bells"]


def text_of(source: str, number: int) -> str:
    if source == "books":
        return (
            f"Chapter {number}. Of this {FACTS[number % 3]}, and they have told it to the end of the book. "
            * 6
        )
    return f"Page {number} of the site. It is said that {FACTS[number % 3]} with all that follows. " * 4


# (source, number): rows of decisions; everything that is not here is kept.
DROPS: dict[tuple[str, int], list[dict[str, Any]]] = {
    ("web", 0): [{"rule": "gopher.word_count.min", "value": 12, "bound": 50}],
    ("web", 1): [{"rule": "gopher.word_count.min", "value": 49, "bound": 50}],
    ("web", 2): [
        {"rule": "gopher.word_count.min", "value": 3, "bound": 50},
        {"rule": "gopher_repetition.top_2gram_char_ratio.max", "value": 0.6, "bound": 0.2},
        {"stage": "language", "rule": "language.min_score", "value": 0.1, "bound": 0.5},
    ],
    ("web", 3): [{"rule": "gopher_repetition.top_2gram_char_ratio.max", "value": 0.25, "bound": 0.2}],
    ("web", 4): [
        {"stage": "language", "rule": "language.min_score", "value": 0.3, "bound": 0.5, "detail": "sure by 0.3"},
        {"stage": "quality", "rule": "quality.min_score", "value": 0.02, "bound": 0.05},
    ],
    ("web", 5): [{"stage": "quality", "rule": "quality.min_score", "value": 0.01, "bound": 0.05}],
    ("web", 6): [
        {
            "stage": "decontaminate",
            "rule": "decontaminate.ngram_overlap",
            "value": 4,
            "bound": 1,
            "partner_source": "gsm8k",
            "partner_id": "test-7",
            "span_start": 24_027,
            "span_end": 24_045,
        }
    ],
    ("web", 8): [{"stage": "exact", "rule": "exact.content_hash", "similarity": 1.0, "bound": 1.0, "partner": 7}],
    ("web", 9): [{"stage": "exact", "rule": "exact.content_hash", "similarity": 1.0, "bound": 1.0, "partner": 7}],
    ("web", 11): [{"stage": "minhash", "rule": "minhash.jaccard", "similarity": 0.9, "bound": 0.8, "partner": 10}],
    ("books", 0): [{"rule": "gopher.word_count.min", "value": 30, "bound": 50}],
}  # fmt: skip
FLAGS = {
    ("web", 13): {"stage": "minhash", "rule": "minhash.jaccard", "action": "near_miss", "similarity": 0.7, "bound": 0.8, "partner": 12},
    ("books", 1): {"stage": "normalize", "rule": "normalize.mojibake", "action": "edit", "span_start": 0, "span_end": 2},
}  # fmt: skip
SIZES = {"web": 22, "books": 8}
# first stages: web 4 policy, 1 language, 1 quality, 1 decontaminate, 2 exact, 1 minhash; books 1 policy
KEPT = {"web": 12, "books": 7}


def texts() -> dict[tuple[str, int], str]:
    found = {(source, n): text_of(source, n) for source, size in SIZES.items() for n in range(size)}
    for n in (8, 9):
        found["web", n] = found["web", 7]
    found["web", 11] = found["web", 10] + "This mirror adds one line of its own."
    found["web", 1] = "<script>alert('boo')</script> & <b>bold</b> \x1b[31m"
    found["web", 2] = "Begin. " + "again and " * 4000 + "FAR-END-OF-A-LONG-TEXT"
    found["web", 6] = (
        "far in. " * 3000 + "A question of a known set: how many eggs are left? " + found["web", 6]
    )
    return found


def signals() -> list[dict[str, Any]]:
    rows = []
    for (source, n), text in texts().items():
        row = {
            "id": f"d{n:02d}", "source": source, "word_count": len(text.split()) + 40, "top_2gram_char_ratio": 0.01 * n,
            "language": "de" if n % 5 == 4 else "en", "language_score": 0.9, "quality": 0.04 * n + 0.06,
        }  # fmt: skip
        row["word_count"] = {("web", 15): 50, ("web", 16): None}.get((source, n), row["word_count"])
        row["top_2gram_char_ratio"] = {("web", 20): 0.2, ("web", 21): 0.2}.get((source, n), 0.001 * n)
        for decision in DROPS.get((source, n), []):
            name = {"language.min_score": "language_score", "quality.min_score": "quality"}.get(
                decision["rule"]
            )
            signal = name or decision["rule"].split(".")[1]
            if signal in row:
                row[signal] = decision["value"]
        rows.append(row)
    return rows


def decisions() -> list[dict[str, Any]]:
    rows = []
    for (source, n), listed in DROPS.items():
        for decision in listed:
            rows.append(
                {"id": f"d{n:02d}", "source": source, "stage": "policy", "action": "drop", **decision}
            )
    for (source, n), decision in FLAGS.items():
        rows.append({"id": f"d{n:02d}", "source": source, **decision})
    for row in rows:
        if "partner" in row:
            row |= {"partner_source": row["source"], "partner_id": f"d{row.pop('partner'):02d}"}
    return rows


def manifest() -> dict[str, Any]:
    dropped = {source: SIZES[source] - KEPT[source] for source in SIZES}
    return {
        "format": 1,
        "kind": "curated",
        "config": {
            "seed": 17,
            "sources": {"web": {"path": "data/web/*.jsonl"}, "books": {"path": "data/books/*.parquet"}},
            "policy": {
                "use": ["gopher", "gopher_repetition"],
                "language": {"min_score": 0.5},
                "quality": {"min_score": 0.05},
            },
        },
        "inputs": [{"source": "web", "path": "a.jsonl", "sha256": "ab" * 32}, {"source": "books", "path": "b.parquet", "sha256": "cd" * 32}],
        "parents": [],
        "counts": {
            "web": {"read": 24, "quarantined": 2, "documents": 22, "dropped": dropped["web"], "kept": KEPT["web"]},
            "books": {"read": 8, "quarantined": 0, "documents": 8, "dropped": dropped["books"], "kept": KEPT["books"]},
        },
        "shards": {"kept": [{"path": "kept/part-000000.parquet", "rows": 19, "sha256": "ef" * 32}]},
        "dedup": {
            "bands": 20, "rows": 6, "threshold": 0.8, "ngram": 5, "capped_buckets": 0, "verified_pairs": 4,
            "curve": [[s / 10, 1 - (1 - (s / 10) ** 6) ** 20] for s in range(11)],
        },
        "quality": {"auc": 0.912, "positives": 100},
        "warnings": ["web: empty.jsonl holds no record."],
    }  # fmt: skip


def write_run(
    run: Path,
    *,
    changes: Mapping[str, Any] | None = None,
    parts: int = 1,
    without: Sequence[str] = (),
    kept: Sequence[tuple[str, int]] | None = None,
    extra: Sequence[dict[str, Any]] = (),
    pairs: Sequence[dict[str, Any]] | None = None,
) -> Path:
    """The run directory; ``changes`` replaces top-level entries of the manifest."""
    documents = [{"id": f"d{n:02d}", "source": s, "text": t} for (s, n), t in texts().items()]
    stays = kept if kept is not None else [key for key in texts() if key not in DROPS]
    rows = decisions()
    linked = [
        {
            **{
                name: row[name]
                for name in ("id", "source", "partner_id", "partner_source", "similarity", "rule")
            },
            "method": row["stage"],
            "outcome": "duplicate" if row["action"] == "drop" else "near_miss",
        }
        for row in rows
        if row["stage"] in ("exact", "minhash")
    ]
    quarantine = [
        {"source": "web", "path": "a.jsonl", "row": 3, "line": 4, "reason": "malformed_json", "detail": "expected ','", "excerpt": '{"text": <b>'},
        {"source": "web", "path": "a.jsonl", "row": 9, "line": None, "reason": "missing_text", "detail": None, "excerpt": None},
    ]  # fmt: skip
    signal_types = [("id", pa.string()), ("source", pa.string()), ("word_count", pa.int64()), ("top_2gram_char_ratio", pa.float64()), ("language", pa.string()), ("language_score", pa.float64()), ("quality", pa.float64())]  # fmt: skip
    tables = {
        "documents": pa.Table.from_pylist(documents, documents_schema([])),
        "kept": pa.Table.from_pylist([d for d in documents if (d["source"], int(d["id"][1:])) in stays], documents_schema([])),
        "signals": pa.Table.from_pylist(signals(), pa.schema(signal_types)),
        "decisions": pa.Table.from_pylist([*rows, *extra], DECISIONS),
        "pairs": pa.Table.from_pylist(linked if pairs is None else list(pairs), PAIRS),
        "quarantine": pa.Table.from_pylist(quarantine, QUARANTINE),
    }  # fmt: skip
    for name, table in tables.items():
        if name in without:
            continue
        (run / name).mkdir(parents=True, exist_ok=True)
        size = -(-table.num_rows // parts)
        for part in range(parts):
            pq.write_table(
                table.slice(part * size, size), run / name / f"part-{part:06d}.parquet", compression="zstd"
            )
    (run / "manifest.json").write_text(json.dumps({**manifest(), **(changes or {})}), encoding="utf-8")
    return run


def pair(number: int, partner: int, similarity: float, method: str) -> dict[str, Any]:
    key = {"id": f"d{number:02d}", "source": "web", "partner_id": f"d{partner:02d}", "partner_source": "web"}
    rule = {"exact": "exact.content_hash", "minhash": "minhash.jaccard"}[method]
    return {**key, "similarity": similarity, "method": method, "rule": rule, "outcome": "duplicate"}


@pytest.fixture(scope="session")
def toy() -> SimpleNamespace:
    """The run's parts, and ``write``, which makes its directory."""
    return SimpleNamespace(
        write=write_run, texts=texts, signals=signals, manifest=manifest, pair=pair, drops=DROPS, sizes=SIZES
    )
