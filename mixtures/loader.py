"""Examples of a plan from its pool: any stretch of indices, in the plan's order, without reading anything else.

A pool's leaf is sorted by (epoch, row), so an example is found by bisection. A leaf's pool may hold more examples than
the plan takes from it (another mixture of the same leaves may have made them), but it must hold those.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa

from filters.errors import DataError
from mixtures.plan import Plan
from mixtures.shards import read_shards, take_rows

_COLUMNS = ["source", "id", "row", "epoch", "template", "variant", "tokens", "loss"]


def read_examples(plan: Plan, pool: str | Path, lo: int, hi: int) -> pa.Table:
    """The examples [lo, hi) of a plan.

    Args:
        plan: whose indices they are.
        pool: the directory pool/ of a mixture.
        lo, hi: indices.

    Returns:
        leaf, source, id, row, epoch, template, variant, tokens, loss, index: what ``packing.pack_table`` takes.

    Raises:
        DataError: the pool lacks an example, or holds one that another template or variant made.
    """
    block = plan.block(lo, hi)
    tables, places = [], []
    for number, leaf in enumerate(plan.leaves):
        mine = np.flatnonzero(block.leaf == number)
        if len(mine) == 0:
            continue
        table = read_shards(Path(pool) / leaf.name).select(_COLUMNS)
        have = table["epoch"].to_numpy().astype(np.int64) * leaf.rows + table["row"].to_numpy()
        wanted = block.epoch[mine] * leaf.rows + block.row[mine]
        at = np.searchsorted(have, wanted)
        missing = (
            np.flatnonzero(have[np.minimum(at, len(have) - 1)] != wanted)
            if len(have)
            else np.arange(len(mine))
        )
        if len(missing):
            raise _lacks(
                leaf.name, int(block.epoch[mine[missing[0]]]), int(block.row[mine[missing[0]]]), len(missing)
            )
        found = take_rows(table, at)
        variants = [variant.name for variant in leaf.variants]
        templates = [variant.templates for variant in leaf.variants]
        planned = [
            (variants[v], templates[v][t])
            for v, t in zip(block.variant[mine].tolist(), block.template[mine].tolist(), strict=True)
        ]
        made = list(zip(found["variant"].to_pylist(), found["template"].to_pylist(), strict=True))
        if made != planned:
            raise DataError(
                f"{pool}/{leaf.name}: made by other templates or variants than the plan names. Build the mixture again"
            )
        tables.append(
            found.append_column("leaf", pa.repeat(leaf.name, len(mine))).append_column(
                "index", pa.array(block.index[mine])
            )
        )
        places.append(mine)
    if not tables:
        raise ValueError(f"no indices in [{lo}, {hi})")
    return pa.concat_tables(tables).take(pa.array(np.argsort(np.concatenate(places), kind="stable")))


def _lacks(leaf: str, epoch: int, row: int, count: int) -> DataError:
    return DataError(
        f"pool/{leaf}: no example of row {row} in epoch {epoch}, and {count - 1} more are missing. "
        "The pool was built for a smaller plan or for other weights: build the mixture again"
    )
