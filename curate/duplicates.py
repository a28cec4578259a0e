"""Verified duplicates of one batch of clusters: which document goes, which one stays for it, and how similar they are.

A cluster says only which documents may be compared. Documents are visited in a total order: those that pass the policy
first, then by the configured preferences, then by key; each is compared exactly with the kept, passing documents that
share a bucket with it, and goes only if one of them is similar enough (``curate.verify``).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from curate.minhash import Memberships
from curate.schema import PAIRS, table_of
from curate.shards import ShardWriter, read_rows
from curate.verify import leaders

LINKS = pa.schema(
    [
        pa.field("doc", pa.int64()),
        pa.field("partner", pa.int64()),
        pa.field("similarity", pa.float64()),
        pa.field("method", pa.string()),
        pa.field("outcome", pa.string()),
        pa.field("partner_id", pa.string()),
        pa.field("partner_source", pa.string()),
    ]
)


def total_order(
    *,
    passing: npt.NDArray[np.bool_],
    priority: npt.NDArray[np.int64],
    quality: npt.NDArray[np.float64],
    length: npt.NDArray[np.int64],
    source: pa.ChunkedArray,
    id: pa.ChunkedArray,
    prefer: Sequence[str],
) -> npt.NDArray[np.int64]:
    """Rows in the order in which documents are preferred. No two documents tie: (source, id) is unique.

    An unmeasured quality (NaN) ranks below every score.
    """
    columns = {
        "passing": ~passing,
        "priority": -priority,
        "quality": -np.where(np.isnan(quality), -1.0, quality),
        "length": -length,
    }
    keys = pa.table(
        {**{name: pa.array(columns[name]) for name in ("passing", *prefer)}, "source": source, "id": id}
    )
    keys = keys.append_column("row", pa.array(np.arange(len(keys))))
    return keys.sort_by([(name, "ascending") for name in ("passing", *prefer, "source", "id")])[
        "row"
    ].to_numpy()


def duplicates_part(
    out: Path,
    *,
    batch: int,
    clusters: str,
    members: Sequence[str],
    documents: Sequence[str],
    signals: Sequence[str],
    passing: Sequence[str],
    firsts: Sequence[int],
    priorities: Mapping[str, int],
    prefer: Sequence[str],
    threshold: float,
    ngram: int,
) -> dict[str, Any]:
    """Links of the documents of one batch. ``firsts[i]`` is the dense number of shard i's first document."""
    docs = pq.read_table(clusters, filters=[("batch", "==", batch)])["doc"].to_numpy()
    texts, facts = _gather(docs, documents, signals, passing, firsts)
    quality = (
        facts["quality"].to_numpy()
        if facts["quality"].null_count == 0
        else facts["quality"].fill_null(np.nan).to_numpy()
    )
    by_source = facts["source"].to_pylist()
    order = total_order(
        passing=facts["passing"].to_numpy(),
        priority=np.array([priorities[s] for s in by_source], np.int64),
        quality=quality,
        length=facts["char_count"].to_numpy(),
        source=facts["source"],
        id=facts["id"],
        prefer=prefer,
    )
    buckets, exact_buckets = _memberships(members, docs)
    hashes = np.frombuffer(b"".join(facts["content_hash"].to_pylist()), np.uint8).reshape(-1, 16)
    verified = leaders(
        texts,
        content_hash=hashes,
        passing=facts["passing"].to_numpy(),
        order=order,
        buckets=buckets,
        exact_buckets=exact_buckets,
        threshold=threshold,
        ngram=ngram,
    )
    found = verified.pairs
    row, partner = found["row"].combine_chunks(), found["partner"].combine_chunks()
    keys = {
        "partner_id": facts["id"].take(partner),
        "partner_source": facts["source"].take(partner),
        "similarity": found["similarity"],
        "method": found["method"],
        "outcome": found["outcome"],
    }
    with ShardWriter(out / "links.parquet", LINKS) as writer:
        writer.write(
            table_of(
                LINKS, doc=pa.array(docs[row.to_numpy()]), partner=pa.array(docs[partner.to_numpy()]), **keys
            )
        )
    with ShardWriter(out / "pairs.parquet", PAIRS) as writer:
        writer.write(table_of(PAIRS, id=facts["id"].take(row), source=facts["source"].take(row), **keys))
    return {
        "rows": len(docs),
        "pairs": found.num_rows,
        "compared_pairs": verified.compared,
        "verified_pairs": verified.verified,
        "capped_buckets": verified.capped_buckets,
    }


def _gather(
    docs: npt.NDArray[np.int64],
    documents: Sequence[str],
    signals: Sequence[str],
    passing: Sequence[str],
    firsts: Sequence[int],
) -> tuple[pa.ChunkedArray, pa.Table]:
    """Texts and facts of some documents, from the shards that hold them, in the order of ``docs`` (ascending)."""
    shard = np.searchsorted(np.array(firsts), docs, side="right") - 1
    texts, facts = [], []
    for number in np.unique(shard).tolist():
        rows = (docs[shard == number] - firsts[number]).tolist()
        texts.append(read_rows(documents[number], rows, ["text"]))
        measured = read_rows(signals[number], rows, ["id", "source", "quality", "char_count", "content_hash"])
        ok = read_rows(passing[number], rows, ["passing"])
        facts.append(measured.append_column("passing", ok["passing"]))
    return pa.concat_tables(texts)["text"], pa.concat_tables(facts)


def _memberships(members: Sequence[str], docs: npt.NDArray[np.int64]) -> tuple[Memberships, Memberships]:
    """(bucket, row) arrays of LSH buckets and of content-hash buckets, rows counted inside the batch."""
    found: dict[bool, list[tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]]] = {True: [], False: []}
    for path in members:
        table = pq.read_table(path)
        bucket, exact, doc = (
            table[name].to_numpy(zero_copy_only=False) for name in ("bucket", "exact", "doc")
        )
        position = np.minimum(np.searchsorted(docs, doc), len(docs) - 1)
        inside = docs[position] == doc
        for kind in found:
            chosen = inside & (exact == kind)
            found[kind].append((bucket[chosen], position[chosen].astype(np.int64)))
    near, exact = (
        Memberships(*(np.concatenate([f[i] for f in found[kind]]) for i in (0, 1))) for kind in (False, True)
    )
    return near, exact
