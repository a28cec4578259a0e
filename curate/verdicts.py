"""Policy on signals: every failing rule of every document. A pure function; nothing is read twice for it.

``judge(signals)`` gives one row for each (document, failing rule). The engine step adds the evidence of
decontamination and writes, beside these verdicts, which documents pass: only those may be the partner that a
duplicate is dropped for.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from curate.config import from_mapping
from curate.schema import DECISIONS, table_of
from curate.settings import PolicySettings, SourcePolicy
from curate.shards import ShardWriter
from filters.errors import ConfigError
from filters.gopher import RULES
from filters.rules import Rule, failing, set_bounds

VERDICTS = pa.schema([pa.field("row", pa.int64(), nullable=False), *DECISIONS])
"""Decisions with the document's row in its shard."""


def judge(signals: pa.Table, policy: PolicySettings | None = None) -> pa.Table:
    """Every failing rule of every document, as decisions with the action ``drop`` and a column ``row``.

    Args:
        signals: what ``measure`` gives; with a column ``source``, rules may differ by source.
        policy: presets, bounds and exceptions; by default Gopher's rules.

    Raises:
        ConfigError: a bound for a rule that there is not, or a rule on something that was not measured.

    >>> judge(pa.table({"word_count": [3, 60]}), PolicySettings(use=()))["row"].to_pylist()
    []
    """
    policy = policy or PolicySettings()
    set_bounds([rule for rules in RULES.values() for rule in rules], policy.set)
    tables = [VERDICTS.empty_table()]
    if "source" not in signals.column_names:
        tables.append(_judge_source(signals, np.arange(len(signals)), policy, SourcePolicy()))
    else:
        for source in pc.unique(signals["source"]).to_pylist():
            rows = np.flatnonzero(pc.equal(signals["source"], source).to_numpy(zero_copy_only=False))
            own = policy.sources.get(source, SourcePolicy())
            tables.append(_judge_source(signals.take(pa.array(rows)), rows, policy, own))
    verdicts = pa.concat_tables(tables)
    return verdicts.sort_by([("row", "ascending"), ("stage", "ascending"), ("rule", "ascending")])


def _judge_source(signals: pa.Table, rows: np.ndarray, policy: PolicySettings, own: SourcePolicy) -> pa.Table:
    presets = policy.use if own.use is None else own.use
    rules: Sequence[Rule] = [rule for preset in presets for rule in RULES[preset]]
    names = {rule.name for rule in rules}
    rules = set_bounds(rules, {name: bound for name, bound in policy.set.items() if name in names})
    failed = failing(signals, rules)
    tables = [
        _verdicts(
            signals,
            rows,
            failed["row"],
            "policy",
            failed["rule"],
            value=failed["value"],
            bound=failed["bound"],
        )
    ]
    if own.language and policy.language.keep:
        language = _column(signals, "language", "policy.language.keep")
        wrong = pc.and_(pc.is_valid(language), pc.invert(pc.is_in(language, pa.array(policy.language.keep))))
        where = pc.indices_nonzero(wrong)
        detail = pc.binary_join_element_wise("language", language.take(where), "is not kept", " ")
        tables.append(_verdicts(signals, rows, where, "language", "language.keep", detail=detail))
    for stage, apply, signal, bound in (
        ("language", own.language, "language_score", policy.language.min_score),
        ("quality", own.quality, "quality", policy.quality.min_score),
    ):
        if apply and bound is not None:
            column = _column(signals, signal, f"policy.{stage}.min_score")
            where = pc.indices_nonzero(pc.fill_null(pc.less(column, bound), False))
            values = column.take(where)
            tables.append(
                _verdicts(signals, rows, where, stage, f"{stage}.min_score", value=values, bound=bound)
            )
    return pa.concat_tables(tables)


def _column(signals: pa.Table, name: str, needed_by: str) -> pa.ChunkedArray:
    if name not in signals.column_names:
        raise ConfigError(f"{needed_by}: '{name}' was not measured. Measure it, or take the rule out.")
    return signals[name]


def _verdicts(
    signals: pa.Table,
    rows: np.ndarray,
    where: Any,
    stage: str,
    rule: Any,
    *,
    value: Any = None,
    bound: Any = None,
    detail: Any = None,
) -> pa.Table:
    """Verdict rows for the documents at positions ``where``; scalars are repeated."""
    positions = where.combine_chunks() if isinstance(where, pa.ChunkedArray) else where
    n = len(positions)

    def column(given: Any) -> Any:
        return (
            given
            if given is None or isinstance(given, pa.Array | pa.ChunkedArray)
            else pa.repeat(pa.scalar(given), n)
        )

    keys = {name: signals[name].take(positions) if name in signals.column_names else pa.repeat(pa.scalar(""), n) for name in ("id", "source")}  # fmt: skip
    return table_of(
        VERDICTS,
        row=pa.array(rows[positions.to_numpy(zero_copy_only=False).astype(np.int64)]),
        **keys,
        stage=column(stage),
        rule=column(rule),
        action=column("drop"),
        value=column(value),
        bound=column(bound),
        detail=column(detail),
    )


def judge_part(out: Path, *, signals: str, overlaps: str | None, policy: Mapping[str, Any]) -> dict[str, Any]:
    """Verdicts of one shard, and a file of booleans: which documents pass."""
    table = pq.read_table(signals)
    verdicts = judge(table, from_mapping(PolicySettings, policy))
    if overlaps is not None:
        found = pq.read_table(overlaps)
        verdicts = pa.concat_tables([verdicts, _contaminated(table, found)])
    passing = np.ones(len(table), bool)
    passing[verdicts["row"].to_numpy()] = False
    with ShardWriter(out / "verdicts.parquet", VERDICTS) as writer:
        writer.write(verdicts)
    pq.write_table(pa.table({"passing": passing}), out / "passing.parquet")
    return {"rows": len(table), "passing": int(passing.sum())}


def _contaminated(signals: pa.Table, found: pa.Table) -> pa.Table:
    rows = np.arange(len(signals))
    table = _verdicts(signals, rows, found["row"], "decontaminate", "decontaminate.ngram_overlap", value=found["ngrams"].cast(pa.float64()), bound=1.0)  # fmt: skip
    for name, values in (
        ("partner_id", found["item_id"]),
        ("partner_source", found["item_source"]),
        ("span_start", found["span_start"]),
        ("span_end", found["span_end"]),
    ):
        table = table.set_column(
            table.schema.get_field_index(name), VERDICTS.field(name), values.cast(VERDICTS.field(name).type)
        )
    return table
