"""``curate explain RUN ID``: where a document came from, what was measured, and every reason for what became of it."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path
from typing import Any

from curate.config import nearest
from curate.manifest import read_manifest
from curate.sources import EXCERPT_CHARACTERS
from filters.errors import ConfigError

TEXT_CHARACTERS = 400


_UNPRINTABLE = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]")
"""Control characters: a document must not steer the terminal that shows it."""


@dataclasses.dataclass(frozen=True, slots=True)
class Explanation:
    """What is known of one document.

    Attributes:
        outcome: ``kept``, ``dropped`` or ``quarantined``.
        origin: file (``path``), record number (``row``) and ``line`` it was read from.
        refused: why it is in quarantine, a code and its detail; empty for a document.
        decisions: its decision rows, every reason and not the first.
        signals: what was measured; empty for a quarantined record.
        text: the document as it stands in documents/, or how the quarantined record begins.
        partners: excerpts of the documents or evaluation items that decisions name, by (source, id).
    """

    id: str
    source: str
    outcome: str
    origin: dict[str, Any]
    refused: str
    decisions: list[dict[str, Any]]
    signals: dict[str, Any]
    text: str
    partners: dict[tuple[str, str], str]

    def __str__(self) -> str:
        lines = [f"{self.source} / {self.id}: {self.outcome}"]
        place = f"record {self.origin['row']}" + (
            f", line {self.origin['line']}" if self.origin.get("line") is not None else ""
        )
        lines.append(f"  read from {self.origin['path']}, {place}")
        if self.refused:
            lines.append(f"  {self.refused}")
        for d in self.decisions:
            reason = f"  {d['action']:<9} {d['rule']}"
            if d["value"] is not None:
                reason += f": {d['value']:.6g}" + (
                    f" (bound {d['bound']:.6g})" if d["bound"] is not None else ""
                )
            if d["partner_id"] is not None:
                reason += f", partner {d['partner_source']} / {d['partner_id']}"
            if d["span_start"] is not None:
                reason += f", characters {d['span_start']}-{d['span_end']}"
            lines.append(reason + (f"  [{d['detail']}]" if d["detail"] else ""))
            excerpt = self.partners.get((d["partner_source"], d["partner_id"]))
            if excerpt:
                lines.append(f"            partner: {_one_line(excerpt, 160)}")
        if not self.decisions and not self.refused:
            lines.append("  no rule fails, no duplicate, nothing edited")
        measured = {k: v for k, v in self.signals.items() if v is not None}
        for start in range(0, len(measured), 3):
            group = list(measured.items())[start : start + 3]
            lines.append(
                "  " + "  ".join(f"{k} {v:.4g}" if isinstance(v, float) else f"{k} {v}" for k, v in group)
            )
        if self.text:
            lines.append(f"  text: {_one_line(self.text, TEXT_CHARACTERS)}")
        return "\n".join(_UNPRINTABLE.sub(lambda found: repr(found[0])[1:-1], line) for line in lines)


def explain(run: str | Path, id: str, *, source: str | None = None) -> list[Explanation]:
    """Everything that the run directory records about the documents called ``id``, in all sources or in one.

    Records in quarantine that repeat the id are among them; one that has no id is called ``<relative path>#<row>``.

    Raises:
        ConfigError: no such run, or no document and no quarantined record of that id.
    """
    import polars as pl

    directory = Path(run)
    manifest = read_manifest(directory, kind="curated")
    if source is not None and source not in manifest["counts"]:
        raise ConfigError(
            f"--source: no source is called '{source}'{nearest(source, list(manifest['counts'])) or '.'}"
        )

    def rows(folder: str, *conditions: Any) -> list[dict[str, Any]]:
        shards = [directory / shard["path"] for shard in manifest["shards"][folder]]
        return pl.scan_parquet(shards, glob=False).filter(*conditions).collect().to_dicts() if shards else []

    inside = [pl.col("source") == source] if source is not None else []
    found = []
    for document in rows("documents", pl.col("id") == id, *inside):
        key = [pl.col("id") == id, pl.col("source") == document["source"]]
        decisions = rows("decisions", *key)
        signals = rows("signals", *key)[0]
        partners = {}
        for d in decisions:
            if d["stage"] in ("exact", "minhash"):
                partner = rows(
                    "documents", pl.col("id") == d["partner_id"], pl.col("source") == d["partner_source"]
                )
                partners[(d["partner_source"], d["partner_id"])] = partner[0]["text"][:TEXT_CHARACTERS]
            elif d["stage"] == "decontaminate":
                partners[(d["partner_source"], d["partner_id"])] = document["text"][
                    d["span_start"] : d["span_end"]
                ]
        dropped = any(d["action"] == "drop" for d in decisions)
        found.append(
            Explanation(
                id=id,
                source=document["source"],
                outcome="dropped" if dropped else "kept",
                origin=rows("origins", *key)[0],
                refused="",
                decisions=decisions,
                signals={k: v for k, v in signals.items() if k not in ("id", "source", "content_hash")},
                text=document["text"],
                partners=partners,
            )
        )
    repeats = (pl.col("reason") == "repeated_id") & (pl.col("excerpt") == id[:EXCERPT_CHARACTERS])
    for record in rows("quarantine", repeats | (pl.format("{}#{}", "path", "row") == id), *inside):
        found.append(
            Explanation(
                id=id,
                source=record["source"],
                outcome="quarantined",
                origin={name: record[name] for name in ("path", "row", "line")},
                refused=f"{record['reason']}: {record['detail']}",
                decisions=[],
                signals={},
                text="" if record["reason"] == "repeated_id" else record["excerpt"],
                partners={},
            )
        )
    if found:
        return found
    shards = [directory / shard["path"] for shard in manifest["shards"]["documents"]]
    known = (
        pl.scan_parquet(shards, glob=False)
        .filter(*inside)
        .select("id")
        .head(100_000)
        .collect()["id"]
        .to_list()
    )
    raise ConfigError(
        f"{directory}: no document is called '{id}'{nearest(id, known) or '.'} Ids stand in documents/*.parquet."
    )


def _one_line(text: str, limit: int) -> str:
    flat = " ".join(text.split())
    return flat if len(flat) <= limit else flat[: limit - 1] + "…"
