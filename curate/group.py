"""Near-duplicate candidates of all documents: buckets of equal keys, then clusters of buckets.

    group    one part = one key partition   documents that share a key: (bucket, exact, doc)
    cluster  one part                       union-find over the buckets; clusters are dealt to batches of text

Grouping knows no policy. A cluster is only the unit of work of the verification that follows: no document is removed
because it is in one. Memory: a partition is about ``PARTITION_BYTES``; ``cluster`` holds some 50 bytes for each document of
the corpus and reads the memberships one file at a time.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from curate.measurement import EXACT_BAND
from curate.shards import ShardWriter

PARTITION_BYTES = 128 << 20
KEY_BYTES = 18
BATCH_TEXT_BYTES = 128 << 20
"""Text of the clusters that one verification part holds."""

MEMBERS = pa.schema(
    [pa.field("bucket", pa.int64()), pa.field("exact", pa.bool_()), pa.field("doc", pa.int64())]
)
CLUSTERS = pa.schema([pa.field("doc", pa.int64()), pa.field("batch", pa.int64())])


def count_partitions(documents: int, keys_per_document: int) -> int:
    """P, a power of two that keeps a partition below ``PARTITION_BYTES``."""
    needed = max(1, -(-documents * max(1, keys_per_document) * KEY_BYTES // PARTITION_BYTES))
    return 1 << (needed - 1).bit_length()


def group_part(out: Path, *, keys: Sequence[str], partition: int) -> dict[str, Any]:
    """Buckets of at least two documents in one partition."""
    batches = []
    for path in keys:
        with pa.memory_map(path) as source:
            batches.append(pa.ipc.open_file(source).get_batch(partition))
    table = pa.Table.from_batches(batches) if batches else None
    band, key, doc = (
        table[name].to_numpy() if table is not None else np.zeros(0, np.int64)
        for name in ("band", "key", "doc")
    )
    order = np.lexsort((doc, key, band))
    band, key, doc = band[order], key[order], doc[order]
    new = np.ones(len(doc), bool)
    if len(doc):
        new[1:] = (band[1:] != band[:-1]) | (key[1:] != key[:-1])
    bucket = np.cumsum(new) - 1
    shared = np.bincount(bucket)[bucket] > 1 if len(doc) else new
    numbers = np.unique(bucket[shared], return_inverse=True)[1] + (partition << 40)
    with ShardWriter(out / "members.parquet", MEMBERS) as writer:
        writer.write(
            pa.table([numbers.astype(np.int64), band[shared] == EXACT_BAND, doc[shared]], schema=MEMBERS)
        )
    return {"rows": len(doc), "memberships": int(shared.sum())}


def cluster_part(
    out: Path, *, members: Sequence[str], signals: Sequence[str], documents: int
) -> dict[str, Any]:
    """Connected clusters of documents that share buckets, dealt to batches in the order of their first document."""
    from curate.verify import components

    root = np.arange(documents, dtype=np.int64)
    grouped = np.zeros(documents, bool)
    for path in members:
        table = pq.read_table(path, columns=["bucket", "doc"])
        doc = table["doc"].to_numpy()
        root = components(table["bucket"].to_numpy(), doc, documents, roots=root)
        grouped[doc] = True
    inside = np.flatnonzero(grouped)
    sizes = np.concatenate(
        [pq.read_table(s, columns=["byte_count"])["byte_count"].to_numpy() for s in signals]
    )
    roots, position = np.unique(root[inside], return_inverse=True)
    weight = np.bincount(position, weights=sizes[inside]).astype(np.int64)
    batch_of_root = (np.cumsum(weight) - weight) // BATCH_TEXT_BYTES
    batch = (
        np.unique(batch_of_root, return_inverse=True)[1][position] if len(inside) else np.zeros(0, np.int64)
    )
    with ShardWriter(out / "clusters.parquet", CLUSTERS) as writer:
        writer.write(pa.table([inside, batch.astype(np.int64)], schema=CLUSTERS))
    return {
        "rows": len(inside),
        "clusters": len(roots),
        "largest": int(np.bincount(position).max()) if len(inside) else 0,
        "batches": int(batch.max()) + 1 if len(inside) else 0,
    }
