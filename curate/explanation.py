"""``curate explain RUN ID``: where a document came from, what was measured, and every reason for what became of it.

A run that publishes no documents (``output.documents: false``, as ``curate dedup`` has it) knows the kept documents by
kept/ and the dropped ones by their decisions: reasons and partners are all there, the text of a dropped document is not.
"""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path
from typing import Any

import pyarrow.compute as pc

from curate.config import nearest
from curate.manifest import read_manifest
from curate.sources import EXCERPT_CHARACTERS
from filters.errors import ConfigError, CurationError

TEXT_CHARACTERS = 400


_UNPRINTABLE = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]")
"""Control characters: a document must not steer the terminal that shows it."""


@dataclasses.dataclass(frozen=True, slots=True)
class Explanation:
    """What is known of one document.

    Attributes:
        outcome: ``kept``, ``dropped`` or ``quarantined``.
        origin: file (``path``), record number (``row``) and ``line`` it was read from; empty where the run holds neither
            origins nor an id that is made of them.
        refused: why it is in quarantine, a code and its detail; empty for a document.
        decisions: its decision rows, every reason and not the first.
        signals: what was measured; empty for a quarantined record.
        text: the document as it stands in documents/ or kept/, or how the quarantined record begins; empty where the run
            does not hold it.
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
        if self.origin:
            line = "" if self.origin["line"] is None else f", line {self.origin['line']}"
            lines.append(f"  read from {self.origin['path']}, record {self.origin['row']}{line}")
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
        shards = [directory / shard["path"] for shard in manifest["shards"].get(folder, [])]
        return pl.scan_parquet(shards, glob=False).filter(*conditions).collect().to_dicts() if shards else []

    inside = [pl.col("source") == source] if source is not None else []
    own = pl.col("id") == id
    reasons = rows("decisions", own, *inside)
    texts = "documents" if "documents" in manifest["shards"] else "kept"
    documents = rows(texts, own, *inside)
    here = {document["source"] for document in documents}
    gone = sorted({d["source"] for d in reasons if d["action"] == "drop"} - here)
    documents += [{"source": name, "text": ""} for name in gone]
    found = []
    for document in documents:
        key = [own, pl.col("source") == document["source"]]
        decisions = [d for d in reasons if d["source"] == document["source"]]
        signals = next(iter(rows("signals", *key)), {})
        partners: dict[tuple[str, str], str] = {}
        for d in decisions:
            there = (d["partner_source"], d["partner_id"])
            if d["stage"] in ("exact", "minhash"):
                partner = rows(texts, pl.col("id") == there[1], pl.col("source") == there[0])
                text = _text_in_index(manifest, there) if d["detail"] or not partner else partner[0]["text"]
                partners |= {} if text is None else {there: text[:TEXT_CHARACTERS]}
            elif d["stage"] == "decontaminate":
                partners[there] = document["text"][d["span_start"] : d["span_end"]]
        dropped = any(d["action"] == "drop" for d in decisions)
        found.append(
            Explanation(
                id=id,
                source=document["source"],
                outcome="dropped" if dropped else "kept",
                origin=next(iter(rows("origins", *key)), _place(id, manifest, document["source"])),
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
    known: dict[str, None] = {}
    places = [name for name in (texts, "decisions") if manifest["shards"].get(name)]
    for name in places:
        shards = [directory / shard["path"] for shard in manifest["shards"][name]]
        ids = pl.scan_parquet(shards, glob=False).filter(*inside).select("id").head(100_000)
        known |= dict.fromkeys(ids.collect()["id"].to_list())
    if texts not in places:
        raise ConfigError(
            f"{directory}: no decision names '{id}'{nearest(id, list(known)) or '.'} This run does not publish its "
            "documents, so whether there is one that was kept cannot be said; run it with output.kept or output.documents."
        )
    raise ConfigError(f"{directory}: no document is called '{id}'{nearest(id, list(known)) or '.'} Ids stand in {texts}/*.parquet.")  # fmt: skip


def _text_in_index(manifest: dict[str, Any], key: tuple[str, str]) -> str | None:
    """The text of a document of the persistent index, where that is still there."""
    from curate.generations import open_index
    from curate.shards import read_groups

    directory = manifest["config"]["dedup"]["index"]
    if directory is None:
        return None
    try:
        paths = [run.path / "documents.arrow" for run in open_index(directory).runs]
    except CurationError:
        return None
    for path in paths:
        for group in read_groups(path, ["id", "source", "text"]):
            same = pc.and_(pc.equal(group["id"], key[1]), pc.equal(group["source"], key[0]))
            if pc.any(same).as_py():
                return group["text"].filter(same)[0].as_py()
    return None


def _place(id: str, manifest: dict[str, Any], source: str) -> dict[str, Any]:
    """File and record of a document that is called by them; nothing for one with a native id."""
    if manifest["config"]["sources"][source]["id"] is not None:
        return {}
    path, _, row = id.rpartition("#")
    return {"path": path, "row": int(row), "line": None}


def _one_line(text: str, limit: int) -> str:
    flat = " ".join(text.split())
    return flat if len(flat) <= limit else flat[: limit - 1] + "…"
