"""The texts of duplicates and their partners, found by document number: for the report of a run that is being finished.

A run directory may hold neither the dropped documents nor those of an index; the steps that found a pair know where both
lie. Only the groups are read that hold them. Price: one look at the ids of all links.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from curate.findings import WINDOW, Example, PairTexts
from curate.shards import read_rows
from curate.shuffle import read_mapped


def read_pair_texts(
    examples: Sequence[Example],
    *,
    links: Sequence[Path],
    documents: Sequence[Path],
    firsts: Sequence[int],
    total: int,
    base: Sequence[Mapping[str, Any]],
) -> PairTexts:
    """``WINDOW`` characters of the document and of the partner of each example.

    Args:
        examples: decisions about duplicates.
        links: links.arrow of all batches, with the numbers of both documents.
        documents: the shards; ``firsts[i]`` is the number of shard i's first document, and ``total`` is behind the last.
        base: the runs of an index (``curate.index.open_base``); their documents are numbered from ``total`` on.
    """
    shards = [*documents, *(Path(part["documents"]) for part in base)]
    rows = np.cumsum([total, *(part["rows"] for part in base)]).tolist()
    starts = np.array([*firsts, *rows[:-1]], np.int64)
    numbers = _numbers(examples, links)
    texts: dict[int, str] = {}
    wanted = np.unique(np.array([number for pair in numbers.values() for number in pair], np.int64))
    home = np.searchsorted(starts, wanted, side="right") - 1
    for shard in np.unique(home).tolist():
        own = wanted[home == shard]
        found = read_rows(shards[shard], own - starts[shard], ["text"])["text"]
        texts |= {n: (t or "")[:WINDOW] for n, t in zip(own.tolist(), found.to_pylist(), strict=True)}
    return {example: (texts[doc], texts[partner]) for example, (doc, partner) in numbers.items()}


def _numbers(examples: Sequence[Example], links: Sequence[Path]) -> dict[Example, tuple[int, int]]:
    """The numbers of document and partner of each example."""
    by_key = {(e.key, e.partner, e.similarity): e for e in examples}
    wanted = pa.array(sorted({example.key[1] for example in examples}), pa.string())
    found = {}
    for path in links:
        table = read_mapped(path)
        near = table.filter(pc.is_in(table["id"], wanted))
        for link in near.to_pylist():
            key = (
                (link["source"], link["id"]),
                (link["partner_source"], link["partner_id"]),
                link["similarity"],
            )
            if key in by_key:
                found[by_key[key]] = (link["doc"], link["partner"])
    return found
