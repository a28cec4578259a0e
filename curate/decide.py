"""Verdicts, verified duplicates and edits into decisions; documents without a reason to go into kept/.

Price: the decisions of one shard in memory, a byte for each of its documents, and one row group of documents. Links lie
by batch, not by shard: each batch's file is mapped, and the shard's own are found by binary search.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from curate.schema import DECISIONS, STAGES, table_of
from curate.shards import ShardWriter, read_groups, read_schema

KEPT = pa.schema([pa.field("kept", pa.bool_())])


def decide_part(
    out: Path,
    *,
    documents: str,
    edits: str | None,
    verdicts: str | None,
    links: Sequence[str],
    first: int,
    rows: int,
    threshold: float | None,
    kept: bool,
) -> dict[str, Any]:
    """Decisions of one shard, sorted by key, and its kept documents in input order.

    Args:
        documents: the shard; read only if ``kept``.
        edits: what was changed in its texts; None for nothing.
        verdicts: of the policy; None where there is none.
        links: the verified duplicates of the whole run.
        first, rows: the dense numbers of the shard's documents are ``[first, first + rows)``.
        threshold: the similarity that a near duplicate had to reach.
        kept: whether to write kept.parquet; kept.arrow, a boolean for each document, is always written.
    """
    stays = np.ones(rows, bool)
    reasons = [DECISIONS.empty_table()]
    if verdicts is not None:
        judged = pq.read_table(verdicts)
        stays[judged["row"].to_numpy()] = False
        reasons.append(judged.select(DECISIONS.names).cast(DECISIONS))
    found = _links(links, first, first + rows)
    if found.num_rows:
        goes = pc.equal(found["outcome"], "duplicate").to_numpy()
        stays[found["doc"].to_numpy()[goes] - first] = False
        reasons.append(_duplicate_decisions(found, threshold))
    if edits is not None:
        reasons.append(pq.read_table(edits).select(DECISIONS.names).cast(DECISIONS))
    decisions = _sorted(pa.concat_tables(reasons))
    with ShardWriter(out / "decisions.parquet", DECISIONS) as writer:
        writer.write(decisions)
    with ShardWriter(out / "kept.arrow", KEPT) as writer:
        writer.write(pa.table([stays], schema=KEPT))
    if kept:
        _write_kept(out / "kept.parquet", documents, stays)
    drops = decisions.filter(pc.equal(decisions["action"], "drop"))
    by_rule = pc.value_counts(drops["rule"].combine_chunks()).to_pylist() if drops.num_rows else []
    return {
        "rows": rows,
        "kept": int(stays.sum()),
        "dropped": int(rows - stays.sum()),
        "rules": dict(sorted((count["values"], count["counts"]) for count in by_rule)),
    }


def _write_kept(path: Path, documents: str, stays: npt.NDArray[np.bool_]) -> None:
    position = 0
    with ShardWriter(path, read_schema(documents)) as writer:
        for group in read_groups(documents):
            own = stays[position : position + group.num_rows]
            writer.write(group if own.all() else group.filter(pa.array(own)))
            position += group.num_rows


def _links(paths: Sequence[str], first: int, stop: int) -> pa.Table:
    """The links of the documents ``[first, stop)``."""
    from curate.duplicates import LINKS  # the driver of a run imports this module, but no kernels
    from curate.shuffle import read_mapped

    tables = [LINKS.empty_table()]
    for path in paths:
        links = read_mapped(path)
        low, high = np.searchsorted(links["doc"].to_numpy(), [first, stop])
        if low < high:
            tables.append(links.slice(low, high - low))
    return pa.concat_tables(tables)


def _duplicate_decisions(links: pa.Table, threshold: float | None) -> pa.Table:
    exact = pc.equal(links["method"], "exact")
    generation = links["generation"].cast(pa.string())
    return table_of(
        DECISIONS,
        id=links["id"],
        source=links["source"],
        stage=links["method"],
        rule=links["rule"],
        action=pc.if_else(pc.equal(links["outcome"], "duplicate"), "drop", "near_miss"),
        value=links["similarity"],
        bound=pc.if_else(exact, pa.scalar(1.0), pa.scalar(threshold, pa.float64())),
        partner_id=links["partner_id"],
        partner_source=links["partner_source"],
        similarity=links["similarity"],
        detail=pc.binary_join_element_wise("generation", generation, "of the index", " "),
    )


def _sorted(decisions: pa.Table) -> pa.Table:
    """By (source, id, stage in funnel order, rule, partner): the same order wherever the rows came from."""
    rank = pc.index_in(decisions["stage"], pa.array(STAGES))
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
