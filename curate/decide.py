"""Verdicts, verified duplicates and edits into decisions; documents without a reason to go into kept/."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from curate.schema import DECISIONS, STAGES, table_of
from curate.shards import ShardWriter, read_groups

_RULES = {"exact": "exact.content_hash", "minhash": "minhash.jaccard"}
_STAGE_RANK = pa.table({"stage": list(STAGES), "rank": list(range(len(STAGES)))})


def decide_part(
    out: Path,
    *,
    documents: str,
    edits: str,
    verdicts: str,
    links: Sequence[str],
    first: int,
    rows: int,
    threshold: float | None,
) -> dict[str, Any]:
    """Decisions of one shard, sorted by key, and its kept documents in input order.

    Args:
        first, rows: the dense numbers of the shard's documents are ``[first, first + rows)``.
        links: the verified duplicates of the whole run.
        threshold: the similarity that a near duplicate had to reach.
    """
    judged = pq.read_table(verdicts)
    filters = [("doc", ">=", first), ("doc", "<", first + rows)]
    duplicate = [pq.read_table(path, filters=filters) for path in links]
    table = pa.concat_tables(duplicate) if duplicate else None
    dropped = np.zeros(rows, bool)
    dropped[judged["row"].to_numpy()] = True
    reasons = [judged.select(DECISIONS.names)]
    keys = _keys(documents)
    if table is not None and table.num_rows:
        row = table["doc"].to_numpy() - first
        dropped[row[pc.equal(table["outcome"], "duplicate").to_numpy(zero_copy_only=False)]] = True
        reasons.append(_duplicate_decisions(table, keys.take(pa.array(row)), threshold))
    reasons.append(pq.read_table(edits).select(DECISIONS.names))
    decisions = pa.concat_tables([r.cast(DECISIONS) for r in reasons])
    with ShardWriter(out / "decisions.parquet", DECISIONS) as writer:
        writer.write(_sorted(decisions))
    kept = ~dropped
    position = 0
    with ShardWriter(out / "kept.parquet", pq.read_schema(documents)) as writer:
        for group in read_groups(documents):
            writer.write(group.filter(pa.array(kept[position : position + group.num_rows])))
            position += group.num_rows
    drops = decisions.filter(pc.equal(decisions["action"], "drop"))
    by_rule = {
        r["rule"]: r["rule_count"] for r in drops.group_by("rule").aggregate([("rule", "count")]).to_pylist()
    }
    return {
        "rows": rows,
        "kept": int(kept.sum()),
        "dropped": int(dropped.sum()),
        "rules": dict(sorted(by_rule.items())),
    }


def _keys(documents: str) -> pa.Table:
    return pq.read_table(documents, columns=["id", "source"])


def _duplicate_decisions(links: pa.Table, keys: pa.Table, threshold: float | None) -> pa.Table:
    exact = pc.equal(links["method"], "exact")
    action = pc.if_else(pc.equal(links["outcome"], "duplicate"), "drop", "near_miss")
    return table_of(
        DECISIONS,
        id=keys["id"],
        source=keys["source"],
        stage=links["method"],
        rule=pc.if_else(exact, _RULES["exact"], _RULES["minhash"]),
        action=action,
        value=links["similarity"],
        bound=pc.if_else(exact, pa.scalar(1.0), pa.scalar(threshold, pa.float64())),
        partner_id=links["partner_id"],
        partner_source=links["partner_source"],
        similarity=links["similarity"],
    )


def _sorted(decisions: pa.Table) -> pa.Table:
    """By (source, id, stage in funnel order, rule, partner): the same order wherever the rows came from."""
    rank = pc.index_in(decisions["stage"], _STAGE_RANK["stage"].combine_chunks())
    keyed = decisions.append_column("rank", rank)
    by = ["source", "id", "rank", "rule", "partner_source", "partner_id", "span_start"]
    return keyed.sort_by([(name, "ascending") for name in by]).select(DECISIONS.names)


def conservation_faults(counts: Mapping[str, Mapping[str, int]]) -> list[str]:
    """What does not add up, per source: read = quarantined + documents, documents = kept + dropped."""
    faults = []
    for source, c in counts.items():
        if c["read"] != c["quarantined"] + c["documents"]:
            faults.append(f"{source}: read {c['read']} records, but {c['documents']} documents and {c['quarantined']} in quarantine")  # fmt: skip
        if c["documents"] != c["kept"] + c["dropped"]:
            faults.append(
                f"{source}: {c['documents']} documents, but {c['kept']} kept and {c['dropped']} dropped"
            )
    return faults
