"""What a curated run did, counted from what its directory holds: the numbers and examples behind ``curate.report``.

    decisions ─ drops: one row a (document, rule) ─ fate: one row a dropped document ─┬─ funnel, per source, checked
                                                                                      ├─ rules: all failures, only this
    signals   ─ one part at a time, joined with fate ─ histograms, languages ─────────┘
    decisions ─ one part at a time ─ a few examples a rule ─ their texts, from their row groups
    pairs     ─ similarities, and whether every removed duplicate was verified

A document that fails several rules is counted once in the funnel, at the first stage of ``curate.schema.STAGES`` that
drops it. The numbers of every source must add up (read = quarantined + documents, documents = dropped + kept, and each
table must agree with the manifest); counting a run that does not add up is an error.

Memory: about 100 bytes and the id for every (dropped document, rule), one part of signals or decisions without texts,
and the row groups that hold shown examples, one at a time. Texts are cut to ``WINDOW`` characters as they are read.
A run that publishes no documents or no kept documents (``output`` in its configuration) is counted without them.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import polars as pl
import pyarrow as pa
import pyarrow.compute as pc

from curate import charts, html
from curate.config import from_mapping
from curate.schema import DECISIONS, PAIRS, QUARANTINE, STAGES
from curate.settings import PolicySettings
from curate.shards import read_groups, read_rows
from filters.errors import RunError
from filters.gopher import RULES
from filters.rules import Rule, set_bounds

LEAD = 150
"""Characters before an example's span that are read with it."""

WINDOW = 20_000
"""Characters of a text that are kept while looking for the passage to show."""

BINS = 30
"""Bins of a histogram, about; the cuts add some."""

_KEY = ("source", "id")
_OUTCOMES = ("read", "quarantined", "documents", "dropped", "kept")
_COUNT_OF = {"documents": "documents", "kept": "kept", "quarantine": "quarantined"}

Json = Any
Key = tuple[str, str]


# ---------------------------------------------------------------------------------------------------------------------
# Who is dropped where
# ---------------------------------------------------------------------------------------------------------------------


def read_drops(run: Path) -> pl.DataFrame:
    """Which rules drop which documents: source, id, stage, rule, each combination once.

    Raises:
        RunError: a drop at a stage that ``curate.schema.STAGES`` does not know.
    """
    drops = _collect(
        _scan(run, "decisions", (*_KEY, "stage", "rule", "action"))
        .filter(pl.col("action") == "drop")
        .select(*_KEY, "stage", "rule")
        .unique()
    )
    unknown = sorted(set(drops["stage"].unique()) - set(STAGES))
    if unknown:
        raise RunError(f"{run / 'decisions'}: drops at stage '{unknown[0]}'; allowed: {', '.join(STAGES)}.")
    return drops.with_columns(pl.col("stage").cast(pl.Enum(STAGES)))


def first_stage(drops: pl.DataFrame) -> pl.DataFrame:
    """One row a dropped document: source, id, the first stage that drops it, and its rule if it fails only one."""
    return (
        drops.group_by(*_KEY)
        .agg(stage=pl.col("stage").min(), rules=pl.len(), rule=pl.col("rule").first())
        .select(*_KEY, "stage", only=pl.when(pl.col("rules") == 1).then("rule"))
    )


@dataclasses.dataclass(frozen=True, slots=True)
class Funnel:
    """Where the records of one source went; every record is in exactly one of ``quarantined``, ``lost``, ``kept``."""

    source: str
    read: int
    quarantined: int
    lost: Mapping[str, int]
    kept: int

    @property
    def documents(self) -> int:
        """Records that became documents."""
        return self.read - self.quarantined


def count_funnel(run: Path, manifest: Mapping[str, Json], fate: pl.DataFrame) -> list[Funnel]:
    """The funnel of every source, in the manifest's order.

    Raises:
        RunError: naming every source and number that does not add up.
    """
    output = (manifest.get("config") or {}).get("output") or {}
    public = [name for name in ("documents", "kept", "quarantine") if output.get(name, True)]
    found = {
        name: dict(_collect(_scan(run, name, ["source"]).group_by("source").len()).iter_rows())
        for name in public
    }
    lost = {(source, stage): n for source, stage, n in fate.group_by("source", "stage").len().iter_rows()}
    dropped = dict(fate.group_by("source").len().iter_rows())
    wrong, funnels = [], []
    strangers = set(dropped).union(*found.values()) - set(manifest["counts"])
    wrong += [f"source '{source}' is not in the manifest" for source in sorted(strangers)]
    for source, counts in manifest["counts"].items():
        missing = [name for name in _OUTCOMES if not isinstance(counts.get(name), int)]
        if missing:
            wrong.append(f"source '{source}' has no count '{missing[0]}' in the manifest")
            continue
        equal = [
            ("read", counts["read"], "quarantined + documents", counts["quarantined"] + counts["documents"]),
            ("documents", counts["documents"], "dropped + kept", counts["dropped"] + counts["kept"]),
            ("dropped", counts["dropped"], "documents with a drop in decisions/", dropped.get(source, 0)),
        ]
        equal += [
            (_COUNT_OF[name], counts[_COUNT_OF[name]], f"rows in {name}/", found[name].get(source, 0))
            for name in public
        ]
        wrong += [
            f"source '{source}': {name} is {a:,} but {other} is {b:,}"
            for name, a, other, b in equal
            if a != b
        ]
        stages = {stage: lost.get((source, stage), 0) for stage in STAGES}
        funnels.append(Funnel(source, counts["read"], counts["quarantined"], stages, counts["kept"]))
    both = _collect(
        _scan(run, "kept", _KEY).join(fate.lazy().select(_KEY), on=_KEY, how="semi").select(pl.len())
    ).item()
    if both:
        wrong.append(f"{both:,} kept documents have a drop in decisions/")
    if wrong:
        raise RunError(f"{run}: the run does not add up: {'; '.join(wrong)}. Run 'curate run' again into an empty directory.")  # fmt: skip
    return funnels


@dataclasses.dataclass(frozen=True, slots=True)
class RuleCount:
    """What one rule dropped.

    Attributes:
        stage, rule: as decisions name them.
        failing: documents that fail it.
        only: documents that fail no other rule.
        bound: what it holds values against; None where it has no number.
        limit: the signal that it bounds and where the bound was published; None for rules that are not bounds.
    """

    stage: str
    rule: str
    failing: int
    only: int
    bound: float | None
    limit: Rule | None


def rules_in_force(config: Mapping[str, Json]) -> dict[str, Rule]:
    """Every bound on a signal that the configuration uses for any source, by name, whether or not anything fails it."""
    if not config.get("policy"):
        return {}
    policy = from_mapping(PolicySettings, config["policy"])
    presets = dict.fromkeys([*policy.use, *(p for own in policy.sources.values() for p in own.use or ())])
    rules = {rule.name: rule for preset in presets for rule in RULES[preset]}
    found = set_bounds(rules.values(), {name: bound for name, bound in policy.set.items() if name in rules})
    own = "chosen in this run's policy"
    for name, signal, bound in (
        ("language.min_score", "language_score", policy.language.min_score),
        ("quality.min_score", "quality", policy.quality.min_score),
    ):
        if bound is not None:
            found += (Rule(name, signal, bound, "min", own),)
    return {rule.name: rule for rule in found}


def count_rules(
    run: Path, drops: pl.DataFrame, fate: pl.DataFrame, in_force: Mapping[str, Rule]
) -> list[RuleCount]:
    """Rules by stage, the busiest first; those in force that nothing fails come last in their stage."""
    failing = {(stage, rule): n for stage, rule, n in drops.group_by("stage", "rule").len().iter_rows()}
    only = dict(fate.drop_nulls("only").group_by("only").len().iter_rows())
    bounds = dict(
        _collect(
            _scan(run, "decisions", ("rule", "action", "bound"))
            .filter(pl.col("action") == "drop")
            .group_by("rule")
            .agg(pl.when(pl.col("bound").min() == pl.col("bound").max()).then(pl.col("bound").min()))
        ).iter_rows()
    )
    seen = {rule for _, rule in failing}
    for name in in_force:
        if name not in seen:
            stage = name.split(".", 1)[0]
            failing[stage if stage in STAGES else "policy", name] = 0
            bounds[name] = in_force[name].bound
    return [
        RuleCount(stage, rule, count, only.get(rule, 0), bounds.get(rule), in_force.get(rule))
        for (stage, rule), count in sorted(
            failing.items(), key=lambda r: (STAGES.index(r[0][0]), -r[1], r[0][1])
        )
    ]


@dataclasses.dataclass(frozen=True, slots=True)
class Verified:
    """How many documents were removed as duplicates, and how many of those have a verified pair with a document that stayed."""

    exact: int
    minhash: int
    confirmed: int

    @property
    def removed(self) -> int:
        """Documents that an exact or a near duplicate removed."""
        return self.exact + self.minhash


def verify_duplicates(run: Path, fate: pl.DataFrame, manifest: Mapping[str, Json]) -> Verified:
    """Look for the pair of every removed duplicate: recorded, similar enough, its partner not dropped by any rule.

    A partner in the persistent index (the decision's detail says so) was kept by the run that put it there; a document
    of this run may have the same key.
    """
    threshold = float((manifest.get("dedup") or {}).get("threshold") or 0.0)
    partner = ["partner_source", "partner_id"]
    removed = _collect(
        _scan(run, "decisions", (*_KEY, "stage", "action", *partner, "detail"))
        .filter((pl.col("action") == "drop") & pl.col("stage").is_in(["exact", "minhash"]))
        .select(*_KEY, "stage", *partner, old=pl.col("detail").is_not_null())
        .unique()
    )
    pairs = _scan(run, "pairs", (*_KEY, *partner, "method", "outcome", "similarity")).filter(
        (pl.col("outcome") == "duplicate")
        & ((pl.col("method") == "exact") | (pl.col("similarity") >= threshold))
    )
    dropped = fate.select(*_KEY, dropped=pl.lit(True))
    confirmed = (
        removed.join(_collect(pairs.rename({"method": "stage"}).select(*_KEY, "stage", *partner)), on=[*_KEY, "stage", *partner], how="semi")
        .join(dropped, left_on=partner, right_on=_KEY, how="left")
        .filter(pl.col("dropped").is_null() | pl.col("old"))
        .select(*_KEY)
        .n_unique()
    )  # fmt: skip
    documents = removed.group_by(*_KEY).agg(pl.col("stage").cast(pl.Enum(STAGES)).min())
    exact = documents.filter(pl.col("stage") == "exact").height
    return Verified(exact, documents.height - exact, confirmed)


# ---------------------------------------------------------------------------------------------------------------------
# Languages, similarities, contamination, quality, quarantine
# ---------------------------------------------------------------------------------------------------------------------


def count_other_decisions(run: Path) -> list[tuple[str, str, str, int, int]]:
    """Decisions that drop nothing (edits, flags, near misses): stage, rule, action, decisions, documents."""
    return _collect(
        _scan(run, "decisions", (*_KEY, "stage", "rule", "action"))
        .filter(pl.col("action") != "drop")
        .group_by("stage", "rule", "action")
        .agg(rows=pl.len(), documents=pl.struct(*_KEY).n_unique())
        .sort("stage", "rule", "action")
    ).rows()


def count_languages(run: Path, fate: pl.DataFrame) -> list[tuple[str, int, int, int]] | None:
    """Language, documents, kept, dropped at the language stage; the largest first. None where it was not measured."""
    parts = shards_of(run, "signals")
    if "language" not in _columns(parts):
        return None
    gone = fate.lazy().select(*_KEY, by=pl.col("stage").cast(pl.String))
    return _collect(
        _open(parts)
        .select(*_KEY, "language")
        .join(gone, on=_KEY, how="left")
        .group_by(pl.col("language").fill_null("unknown"))
        .agg(
            total=pl.len(),
            kept=pl.col("by").is_null().sum(),
            language_stage=(pl.col("by") == "language").sum(),
        )
        .sort(-pl.col("total").cast(pl.Int64), "language")
    ).rows()


def count_similarities(run: Path) -> dict[str, npt.NDArray[np.int64]]:
    """Recorded near-duplicate pairs by outcome, in 50 equal bins of their similarity; empty without pairs."""
    counts = _collect(
        _scan(run, "pairs", ("method", "outcome", "similarity"))
        .filter(pl.col("method") == "minhash")
        .group_by((pl.col("similarity") * 50).floor().clip(0, 49).cast(pl.Int64).alias("bin"), "outcome")
        .len()
    )
    found: dict[str, npt.NDArray[np.int64]] = {}
    for place, outcome, count in counts.iter_rows():
        found.setdefault(outcome, np.zeros(50, np.int64))[place] += count
    return found


@dataclasses.dataclass(frozen=True, slots=True)
class Cluster:
    """A document that stays and what was removed for it.

    Attributes:
        exact, near: removed documents that are copies of it, and those that are similar to it.
        lowest: the least similarity among them.
    """

    key: Key
    exact: int
    near: int
    lowest: float


def largest_clusters(run: Path, limit: int) -> list[Cluster]:
    """The documents for which the most others were removed."""
    partner = ("partner_source", "partner_id")
    found = _collect(
        _scan(run, "pairs", (*partner, "method", "outcome", "similarity"))
        .filter(pl.col("outcome") == "duplicate")
        .group_by(*partner)
        .agg(
            exact=(pl.col("method") == "exact").sum(),
            near=(pl.col("method") != "exact").sum(),
            lowest=pl.col("similarity").min(),
        )
        .sort(-(pl.col("exact") + pl.col("near")).cast(pl.Int64), *partner)
        .head(limit)
    )
    return [
        Cluster((source, id_), exact, near, lowest) for source, id_, exact, near, lowest in found.iter_rows()
    ]


def count_contamination(run: Path) -> list[tuple[str, int, int]]:
    """Evaluation set, documents that share words with one of its items, its items found; the busiest first."""
    return _collect(
        _scan(run, "decisions", (*_KEY, "stage", "partner_source", "partner_id"))
        .filter(pl.col("stage") == "decontaminate")
        .group_by("partner_source")
        .agg(documents=pl.struct(*_KEY).n_unique(), items=pl.col("partner_id").n_unique())
        .sort(-pl.col("documents").cast(pl.Int64), "partner_source")
    ).rows()


def count_quality(run: Path, fate: pl.DataFrame) -> dict[str, npt.NDArray[np.int64]] | None:
    """Documents by source: kept and dropped, (2, 20) int64, in equal bins of quality. None where it was not measured."""
    parts = shards_of(run, "signals")
    if "quality" not in _columns(parts):
        return None
    counts = _collect(
        _open(parts)
        .select(*_KEY, "quality")
        .join(fate.lazy().select(*_KEY, dropped=pl.lit(True)), on=_KEY, how="left")
        .filter(pl.col("quality").is_not_null() & pl.col("quality").is_not_nan())
        .group_by("source", (pl.col("quality") * 20).floor().clip(0, 19).cast(pl.Int64).alias("bin"), pl.col("dropped").fill_null(False))
        .len()
    )  # fmt: skip
    found: dict[str, npt.NDArray[np.int64]] = {}
    for source, place, dropped, count in counts.iter_rows():
        found.setdefault(source, np.zeros((2, 20), np.int64))[int(dropped), place] += count
    return found


def count_quarantine(run: Path) -> list[tuple[str, str, int]]:
    """Reason, source, records that could not be read for it; the busiest first."""
    return _collect(
        _scan(run, "quarantine", ("source", "reason"))
        .group_by("reason", "source")
        .len()
        .sort(-pl.col("len").cast(pl.Int64), "reason", "source")
    ).rows()


def first_quarantined(
    run: Path, limit: int
) -> list[tuple[str, str, int | None, int | None, str, str | None, str | None]]:
    """Source, path, row, line, reason, detail and excerpt of the first ``limit`` records in quarantine."""
    columns = ("source", "path", "row", "line", "reason", "detail", "excerpt")
    return _collect(
        _scan(run, "quarantine", columns).sort("source", "path", "row", "reason", nulls_last=True).head(limit)
    ).rows()


# ---------------------------------------------------------------------------------------------------------------------
# Histograms of signals
# ---------------------------------------------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True, slots=True)
class Measured:
    """A signal's distribution over all documents, with the bounds that policy puts on it.

    Attributes:
        edges: bin edges; every bound is one of them, so that no bin lies on both sides of a cut.
        kept, dropped: documents in each bin by what became of them, for whichever reason.
        cuts: the rules on this signal.
        missing: documents without a value.
    """

    signal: str
    scale: Literal["linear", "log"]
    edges: npt.NDArray[np.float64]
    kept: npt.NDArray[np.int64]
    dropped: npt.NDArray[np.int64]
    cuts: tuple[charts.Cut, ...]
    missing: int


def measure_signals(run: Path, rules: Sequence[RuleCount], fate: pl.DataFrame) -> list[Measured]:
    """Histograms of the signals on whose account a document was dropped, in the order of the rules.

    Quality has a section of its own.
    """
    parts = shards_of(run, "signals")
    known = _columns(parts)
    busy = dict.fromkeys(rule.limit.signal for rule in rules if rule.limit and rule.failing)
    names = [name for name in busy if name in known and name != "quality"]
    if not names:
        return []
    values = [pl.col(name).cast(pl.Float64) for name in names]
    ranges = _collect(
        _open(parts).select(
            *[
                v.filter(v.is_finite()).min().alias(f"{name}:min")
                for name, v in zip(names, values, strict=True)
            ],
            *[
                v.filter(v.is_finite()).max().alias(f"{name}:max")
                for name, v in zip(names, values, strict=True)
            ],
        )
    ).row(0, named=True)
    limits = {
        name: [
            r.limit
            for r in rules
            if r.limit
            and r.limit.signal == name
            and (r.failing or (ranges[f"{name}:min"] or 0) < r.limit.bound < (ranges[f"{name}:max"] or 0))
        ]
        for name in names
    }
    cuts = {name: [_cut(rule, whole=known[name].is_integer()) for rule in limits[name]] for name in names}
    axes = {
        name: _edges(ranges[f"{name}:min"], ranges[f"{name}:max"], [cut.at for cut in cuts[name]], whole=known[name].is_integer())
        for name in names
    }  # fmt: skip
    counts = {name: np.zeros((2, len(edges) - 1), np.int64) for name, (_, edges) in axes.items()}
    missing = dict.fromkeys(names, 0)
    gone = fate.select(*_KEY, dropped=pl.lit(True))
    for part in parts:
        frame = pl.read_parquet(part, columns=[*_KEY, *names], glob=False).join(gone, on=_KEY, how="left")
        dropped = frame["dropped"].fill_null(False).to_numpy()
        for name, (_, edges) in axes.items():
            column = frame[name].cast(pl.Float64).fill_null(np.nan).to_numpy()
            there = np.isfinite(column)
            missing[name] += int((~there).sum())
            counts[name][0] += _bin(column[there & ~dropped], edges)
            counts[name][1] += _bin(column[there & dropped], edges)
    return [
        Measured(name, *axes[name], counts[name][0], counts[name][1], tuple(cuts[name]), missing[name])
        for name in names
    ]


def _cut(rule: Rule, *, whole: bool) -> charts.Cut:
    """Where the kept side ends. A value equal to its bound is kept, so an upper bound cuts just above itself."""
    label = f"{rule.kind} {html.compact(rule.bound)}"
    if rule.kind == "min":
        return charts.Cut(float(rule.bound), "below", label)
    return charts.Cut(
        float(np.floor(rule.bound)) + 1 if whole else float(np.nextafter(rule.bound, np.inf)), "above", label
    )


def _edges(
    low: float | None, high: float | None, cuts: Sequence[float], *, whole: bool
) -> tuple[Literal["linear", "log"], npt.NDArray[np.float64]]:
    """Scale and bin edges that cover the data and the cuts, with an edge at every cut.

    A positive signal that spans more than a factor of 20 gets a logarithmic axis, a small whole number a bin a value.
    """
    low, high = min([*cuts, low if low is not None else 0.0]), max([*cuts, high if high is not None else 1.0])
    if whole and high - low <= 2 * BINS:
        return "linear", np.arange(np.floor(low), np.ceil(high) + 2)
    place: Callable[[Any], Any]
    scale: Literal["linear", "log"]
    if low >= 0 and high > 20 * max(low, 0.5):
        scale, place = "log", np.log
        edges = np.geomspace(max(low, 0.5), high * 1.05, BINS + 1)
    else:
        scale, place = "linear", np.asarray
        edges = np.linspace(low, high + 0.02 * ((high - low) or 1.0), BINS + 1)
    room = (place(edges[1]) - place(edges[0])) / 3
    inside = [cut for cut in cuts if edges[0] < cut < edges[-1]]
    inner = [edge for edge in edges[1:-1] if all(abs(place(edge) - place(cut)) > room for cut in inside)]
    return scale, np.unique([edges[0], *inner, *inside, edges[-1]])


def _bin(values: npt.NDArray[np.float64], edges: npt.NDArray[np.float64]) -> npt.NDArray[np.int64]:
    """Counts per bin; what lies outside (zero on a logarithmic axis) goes to the first and last bin."""
    index = np.clip(np.searchsorted(edges, values, side="right") - 1, 0, len(edges) - 2)
    return np.bincount(index, minlength=len(edges) - 1).astype(np.int64)


# ---------------------------------------------------------------------------------------------------------------------
# Examples
# ---------------------------------------------------------------------------------------------------------------------


PairTexts = dict["Example", tuple[str, str]]
"""Texts of a document and of its partner, by the decision."""


@dataclasses.dataclass(frozen=True, slots=True)
class Example:
    """One decision that the page shows with its text."""

    key: Key
    stage: str
    value: float | None
    bound: float | None
    partner: Key | None
    similarity: float | None
    span: tuple[int, int] | None
    detail: str | None
    near_miss: bool

    @property
    def start(self) -> int:
        """The character from which the text is read."""
        return max(0, self.span[0] - LEAD) if self.span else 0

    @property
    def measured(self) -> str:
        """What the rule saw, and what it allows: ``: similarity 0.900, bound 0.8``."""
        said = ""
        if self.similarity is not None:
            said = f": similarity {html.number(self.similarity, 3)}"
        elif self.value is not None:
            said = f": value {html.compact(self.value)}"
        said += "" if self.bound is None else f", bound {html.compact(self.bound)}"
        return said + (f" ({self.detail})" if self.detail else "")


def choose_examples(run: Path) -> dict[str, list[Example]]:
    """Up to three drops of every rule: the two nearest to its bound and the farthest from it.

    The distance is between value and bound (between similarity and bound for duplicates); ties, and rules without
    numbers, go by source and id. Near misses, pairs that both stayed, stand under their rule with the action's name.
    """
    columns = [*_KEY, *(name for name in DECISIONS.names if name not in _KEY)]
    chosen: list[pl.DataFrame] = []
    distance = (pl.coalesce("similarity", "value") - pl.col("bound")).abs()
    for part in shards_of(run, "decisions"):
        frame = (
            pl.read_parquet(part, columns=columns, glob=False)
            .filter(pl.col("action").is_in(["drop", "near_miss"]))
            .with_columns(distance=distance.fill_nan(None), group=pl.format("{}{}", "rule", pl.when(pl.col("action") == "drop").then(pl.lit("")).otherwise(pl.lit(" (near miss)"))))
            .sort("group", "distance", "source", "id", "span_start", nulls_last=True)
            .unique(["group", *_KEY], keep="first", maintain_order=True)
        )  # fmt: skip
        chosen.append(_both_ends(frame))
    if not chosen:
        return {}
    order = {stage: i for i, stage in enumerate(STAGES)}
    frame = _both_ends(
        pl.concat(chosen).sort("group", "distance", "source", "id", "span_start", nulls_last=True)
    )
    examples: dict[str, list[Example]] = {}
    for row in sorted(
        frame.iter_rows(named=True), key=lambda row: (order.get(row["stage"], len(order)), row["group"])
    ):
        span = (
            None
            if row["span_start"] is None or row["span_end"] is None
            else (row["span_start"], row["span_end"])
        )
        partner = None if row["partner_id"] is None else (row["partner_source"], row["partner_id"])
        examples.setdefault(row["group"], []).append(
            Example(
                (row["source"], row["id"]), row["stage"], row["value"], row["bound"], partner, row["similarity"], span,
                row["detail"], row["action"] == "near_miss",
            )
        )  # fmt: skip
    return examples


def _both_ends(frame: pl.DataFrame) -> pl.DataFrame:
    place, size = pl.int_range(pl.len()).over("group"), pl.len().over("group")
    return frame.filter((place < 2) | (place == size - 1))


def read_texts(shards: Sequence[Path], examples: Sequence[Example]) -> dict[tuple[Key, int], str]:
    """``WINDOW`` characters of the texts that examples show, by key and first character; only their groups are read."""
    starts: dict[Key, set[int]] = {}
    for example in examples:
        starts.setdefault(example.key, set()).add(example.start)
        if example.partner:
            starts.setdefault(example.partner, set()).add(0)
    wanted = pa.array(sorted({id_ for _, id_ in starts}), pa.string())
    texts = {}
    for shard in shards if starts else ():
        rows, first = [], 0
        for group in read_groups(shard, _KEY):
            near = pc.indices_nonzero(pc.is_in(group["id"], wanted)).to_numpy()
            keys = zip(*(group[name].take(pa.array(near)).to_pylist() for name in _KEY), strict=True)
            rows += [first + row for row, key in zip(near.tolist(), keys, strict=True) if key in starts]
            first += group.num_rows
        if rows:
            found = read_rows(shard, rows, [*_KEY, "text"])
            for source, id_, text in zip(*(found[name].to_pylist() for name in (*_KEY, "text")), strict=True):
                for start in starts[source, id_]:
                    texts[(source, id_), start] = text[start : start + WINDOW]
    return texts


def find_pair_texts(shards: Sequence[Path], examples: Sequence[Example]) -> PairTexts:
    """``WINDOW`` characters of each example's document and partner, by their ids; without those that are not both here."""
    texts = read_texts(shards, examples)
    return {
        e: (texts[e.key, 0], texts[e.partner, 0])
        for e in examples
        if e.partner and (e.key, 0) in texts and (e.partner, 0) in texts
    }


# ---------------------------------------------------------------------------------------------------------------------
# Reading the run
# ---------------------------------------------------------------------------------------------------------------------


def shards_of(run: Path, name: str) -> list[Path]:
    """The public shards of a directory of the run, in order."""
    return sorted((run / name).glob("part-*.parquet"))


def _scan(run: Path, name: str, columns: Sequence[str]) -> pl.LazyFrame:
    """Some columns of all parts of a directory; no rows where the directory is empty or absent."""
    parts = shards_of(run, name)
    if not parts:
        schemas = {"decisions": DECISIONS, "pairs": PAIRS, "quarantine": QUARANTINE}
        empty = schemas[name].empty_table() if name in schemas else None
        frame = (
            pl.DataFrame(schema=dict.fromkeys(columns, pl.String)) if empty is None else pl.DataFrame(empty)
        )
        return frame.lazy().select(columns)
    return _open(parts).select(columns)


def _open(parts: Sequence[Path]) -> pl.LazyFrame:
    """The rows of these files; their names are taken as they are, so that a folder may be called ``run[1]``."""
    return pl.scan_parquet(list(parts), glob=False)


def _columns(parts: Sequence[Path]) -> pl.Schema:
    """Columns of the first file; none without files."""
    return _open(parts[:1]).collect_schema() if parts else pl.Schema()


def _collect(frame: pl.LazyFrame) -> pl.DataFrame:
    return frame.collect(engine="streaming")
