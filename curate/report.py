"""The page that a curated run is judged by: RUN/report.html, from what the run directory holds and nothing else.

    decisions ─ drops: one row a (document, rule) ─ fate: one row a dropped document ─┬─ funnel, per source, checked
                                                                                      ├─ rules: all failures, only this
    signals   ─ one part at a time, joined with fate ─ histograms, languages ─────────┘
    decisions ─ one part at a time ─ a few examples a rule ─ their texts, from their row groups
    pairs     ─ similarities, and whether every removed duplicate was verified

A document that fails several rules is counted once in the funnel, at the first stage of ``curate.schema.STAGES`` that
drops it. The numbers of every source must add up (read = quarantined + documents, documents = dropped + kept, and each
table must agree with the manifest); a page that would not add up is not written.

Memory: about 100 bytes and the id for every (dropped document, rule), one part of signals or decisions without texts,
and the row groups that hold shown examples, one at a time. Texts are cut to ``WINDOW`` characters as they are read.
"""

from __future__ import annotations

import dataclasses
import difflib
import json
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import polars as pl
import yaml

from curate import html
from curate.config import from_mapping
from curate.engine import write_atomic
from curate.manifest import read_manifest
from curate.schema import DECISIONS, PAIRS, QUARANTINE, STAGES
from curate.settings import PolicySettings
from curate.shards import read_rows
from filters.errors import RunError
from filters.gopher import RULES
from filters.rules import Rule, set_bounds

EXCERPT = 300
"""Characters of a text that an example shows."""

WINDOW = 20_000
"""Characters of a text that are kept while looking for the passage to show."""

BINS = 30
TOP = 20
"""Rows of a list that can be long (languages, files, quarantined records) before the page says how many more there are."""

_KEY = ("source", "id")
_OUTCOMES = ("read", "quarantined", "documents", "dropped", "kept")
_TONES: dict[str, html.Tone] = dict(zip(STAGES, ("c3", "c2", "c4", "c5", "c6", "c7", "c8"), strict=True))

_LEGEND = html.legend([("kept", "kept"), ("dropped for any reason", "lost")])

Json = Any
Key = tuple[str, str]


def write_report(run: Path) -> Path:
    """Write ``RUN/report.html`` of a curated run directory and return its path.

    The file depends on the run's public files only; the same run gives the same bytes.

    Raises:
        ConfigError: ``run`` is not the directory of a curated run.
        DataError: its manifest is of a newer format, or not readable.
        RunError: the run's tables and its manifest contradict each other.
    """
    run = Path(run)
    manifest = read_manifest(run, kind="curated")
    drops = _read_drops(run)
    fate = _first_stage(drops)
    funnel = _count_funnel(run, manifest, fate)
    rules = _count_rules(run, drops, fate, _rules_in_force(manifest.get("config") or {}))
    verified = _verify_duplicates(run, fate, manifest)
    histograms = _measure_signals(run, rules, fate)
    examples = _choose_examples(run)
    texts = _read_texts(run, [example for group in examples.values() for example in group])
    text = html.page(
        "Curation report",
        _verdict(funnel, rules, verified),
        [
            html.Section("Result", _result(funnel, verified, manifest)),
            html.Section("Where documents go", _funnel(funnel)),
            html.Section("Rules", _rules(rules, funnel, run)),
            html.Section("Signals and their cut lines", _signals(histograms)),
            html.Section("Languages", _languages(run, fate)),
            html.Section("Duplicates", _duplicates(run, manifest, verified)),
            html.Section("Contamination", _contamination(run, manifest)),
            html.Section("Quality", _quality(run, manifest, rules, fate)),
            html.Section("What was dropped, and why", _examples(examples, texts, rules)),
            html.Section("Quarantine", _quarantine(run)),
            html.Section("How to run this again", _origin(manifest)),
        ],
        kicker="curate",
    )
    path = run / "report.html"
    write_atomic(path, text)
    return path


# ---------------------------------------------------------------------------------------------------------------------
# Reading the run
# ---------------------------------------------------------------------------------------------------------------------


def _parts(run: Path, name: str) -> list[Path]:
    return sorted((run / name).glob("part-*.parquet"))


def _scan(run: Path, name: str, columns: Sequence[str]) -> pl.LazyFrame:
    """Some columns of all parts of a directory; no rows where the directory is empty or absent."""
    parts = _parts(run, name)
    if not parts:
        schemas = {"decisions": DECISIONS, "pairs": PAIRS, "quarantine": QUARANTINE}
        empty = schemas[name].empty_table() if name in schemas else None
        frame = (
            pl.DataFrame(schema=dict.fromkeys(columns, pl.String)) if empty is None else pl.DataFrame(empty)
        )
        return frame.lazy().select(columns)
    return pl.scan_parquet(parts).select(columns)


def _collect(frame: pl.LazyFrame) -> pl.DataFrame:
    return frame.collect(engine="streaming")


def _read_drops(run: Path) -> pl.DataFrame:
    """Which rules drop which documents: source, id, stage, rule, each combination once."""
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


def _first_stage(drops: pl.DataFrame) -> pl.DataFrame:
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


def _count_funnel(run: Path, manifest: Mapping[str, Json], fate: pl.DataFrame) -> list[Funnel]:
    """The funnel of every source, in the manifest's order.

    Raises:
        RunError: naming every source and number that does not add up.
    """
    found = {
        name: dict(_collect(_scan(run, name, ["source"]).group_by("source").len()).iter_rows())
        for name in ("documents", "kept", "quarantine")
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
        equal = (
            ("read", counts["read"], "quarantined + documents", counts["quarantined"] + counts["documents"]),
            ("documents", counts["documents"], "dropped + kept", counts["dropped"] + counts["kept"]),
            ("quarantined", counts["quarantined"], "rows in quarantine/", found["quarantine"].get(source, 0)),
            ("documents", counts["documents"], "rows in documents/", found["documents"].get(source, 0)),
            ("dropped", counts["dropped"], "documents with a drop in decisions/", dropped.get(source, 0)),
            ("kept", counts["kept"], "rows in kept/", found["kept"].get(source, 0)),
        )
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


def _rules_in_force(config: Mapping[str, Json]) -> dict[str, Rule]:
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


def _count_rules(
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


def _verify_duplicates(run: Path, fate: pl.DataFrame, manifest: Mapping[str, Json]) -> Verified:
    """Look for the pair of every removed duplicate: recorded, similar enough, its partner not dropped before it.

    The partner of an exact copy may be a near duplicate of a third document; dedup stages run in order.
    """
    threshold = float((manifest.get("dedup") or {}).get("threshold") or 0.0)
    partner = ["partner_source", "partner_id"]
    removed = _collect(
        _scan(run, "decisions", (*_KEY, "stage", "action", *partner))
        .filter((pl.col("action") == "drop") & pl.col("stage").is_in(["exact", "minhash"]))
        .select(*_KEY, "stage", *partner)
        .unique()
    )
    pairs = _scan(run, "pairs", (*_KEY, *partner, "method", "outcome", "similarity")).filter(
        (pl.col("outcome") == "duplicate")
        & ((pl.col("method") == "exact") | (pl.col("similarity") >= threshold))
    )
    order = pl.Enum(STAGES)
    confirmed = (
        removed.join(_collect(pairs.rename({"method": "stage"}).select(*_KEY, "stage", *partner)), on=[*_KEY, "stage", *partner], how="semi")
        .with_columns(pl.col("stage").cast(order))
        .join(fate.select(*_KEY, partner_stage="stage"), left_on=partner, right_on=_KEY, how="left")
        .filter(pl.col("partner_stage").is_null() | (pl.col("partner_stage").to_physical() > pl.col("stage").to_physical()))
        .select(*_KEY)
        .n_unique()
    )  # fmt: skip
    documents = removed.group_by(*_KEY).agg(pl.col("stage").cast(order).min())
    exact = documents.filter(pl.col("stage") == "exact").height
    return Verified(exact, documents.height - exact, confirmed)


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
    cuts: tuple[html.Cut, ...]
    missing: int


def _measure_signals(run: Path, rules: Sequence[RuleCount], fate: pl.DataFrame) -> list[Measured]:
    """Histograms of the signals on whose account a document was dropped, in the order of the rules.

    Quality has a section of its own.
    """
    parts = _parts(run, "signals")
    known = pl.read_parquet_schema(parts[0]) if parts else {}
    busy = dict.fromkeys(rule.limit.signal for rule in rules if rule.limit and rule.failing)
    names = [name for name in busy if name in known and name != "quality"]
    if not names:
        return []
    values = [pl.col(name).cast(pl.Float64) for name in names]
    ranges = _collect(
        pl.scan_parquet(parts).select(
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
        frame = pl.read_parquet(part, columns=[*_KEY, *names]).join(gone, on=_KEY, how="left")
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


def _cut(rule: Rule, *, whole: bool) -> html.Cut:
    """Where the kept side ends. A value equal to its bound is kept, so an upper bound cuts just above itself."""
    label = f"{rule.kind} {html.compact(rule.bound)}"
    if rule.kind == "min":
        return html.Cut(float(rule.bound), "below", label)
    return html.Cut(
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
        return max(0, self.span[0] - EXCERPT // 2) if self.span else 0


def _choose_examples(run: Path) -> dict[str, list[Example]]:
    """Up to three drops of every rule: the two nearest to its bound and the farthest from it.

    The distance is between value and bound (between similarity and bound for duplicates); ties, and rules without
    numbers, go by source and id. Near misses, pairs that both stayed, stand under their rule with the action's name.
    """
    columns = [*_KEY, *(name for name in DECISIONS.names if name not in _KEY)]
    chosen: list[pl.DataFrame] = []
    distance = (pl.coalesce("similarity", "value") - pl.col("bound")).abs()
    for part in _parts(run, "decisions"):
        frame = (
            pl.read_parquet(part, columns=columns)
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


def _read_texts(run: Path, examples: Sequence[Example]) -> dict[tuple[Key, int], str]:
    """``WINDOW`` characters of the texts that examples show, by key and first character; only their row groups are read."""
    starts: dict[Key, set[int]] = {}
    for example in examples:
        starts.setdefault(example.key, set()).add(example.start)
        if example.partner:
            starts.setdefault(example.partner, set()).add(0)
    wanted = pl.DataFrame(sorted(starts), schema=dict.fromkeys(_KEY, pl.String), orient="row")
    texts = {}
    for part in _parts(run, "documents"):
        rows = (
            _collect(pl.scan_parquet(part).select(_KEY).with_row_index("row").join(wanted.lazy(), on=_KEY, how="semi"))["row"]
            .sort()
            .to_list()
        )  # fmt: skip
        if not rows:
            continue
        found = read_rows(part, rows, [*_KEY, "text"])
        for source, id_, text in zip(*(found[name].to_pylist() for name in (*_KEY, "text")), strict=True):
            for start in starts[source, id_]:
                texts[(source, id_), start] = text[start : start + WINDOW]
    return texts


def _differences(left: str, right: str) -> tuple[html.Html, html.Html]:
    """The passages where two texts begin to differ, words that the other lacks marked.

    >>> _differences("the same old words", "the same new words")[1].source
    'the same <mark>new</mark> words'
    """
    common = next(
        (i for i, (a, b) in enumerate(zip(left, right, strict=False)) if a != b), min(len(left), len(right))
    )
    start = 0 if common >= min(len(left), len(right)) else max(0, common - EXCERPT // 3)
    start = left.rfind(" ", 0, start) + 1 if start else 0
    words = [re.findall(r"\s+|\S+", _passage_from(text, start)) for text in (left, right)]
    parts: tuple[list[html.Content], list[html.Content]] = ([], [])
    for kind, a, b, c, d in difflib.SequenceMatcher(None, words[0], words[1], autojunk=False).get_opcodes():
        for out, run in ((parts[0], "".join(words[0][a:b])), (parts[1], "".join(words[1][c:d]))):
            out.append(run if kind == "equal" or not run.strip() else html.marked(run, 0, len(run)))
    return html.fragment(*parts[0]), html.fragment(*parts[1])


def _passage_from(text: str, start: int = 0) -> str:
    """``EXCERPT`` characters of a text with signs where it goes on."""
    return (
        ("…" if start else "") + text[start : start + EXCERPT] + ("…" if len(text) > start + EXCERPT else "")
    )


# ---------------------------------------------------------------------------------------------------------------------
# The sections
# ---------------------------------------------------------------------------------------------------------------------


def _verdict(funnel: Sequence[Funnel], rules: Sequence[RuleCount], verified: Verified) -> html.Html:
    read, kept = sum(f.read for f in funnel), sum(f.kept for f in funnel)
    lost = {stage: sum(f.lost[stage] for f in funnel) for stage in STAGES}
    parts: list[html.Content] = [
        html.strong(
            f"{html.number(kept)} of {html.number(read)} records are kept ({html.percent(kept, read)})."
        )
    ]
    worst = max(lost, key=lambda stage: lost[stage])
    if lost[worst]:
        rule = next(rule for rule in rules if rule.stage == worst)
        parts += [f" Most losses are at the {worst} stage ({html.number(lost[worst])} documents; its busiest rule is ", html.inline_code(rule.rule), ")."]  # fmt: skip
    if verified.removed:
        share = "every one of them" if verified.confirmed == verified.removed else f"only {html.number(verified.confirmed)} of them"  # fmt: skip
        parts.append(f" {html.number(verified.removed)} duplicates were removed, {share} verified against a document that stayed.")  # fmt: skip
    return html.fragment(*parts)


def _result(funnel: Sequence[Funnel], verified: Verified, manifest: Mapping[str, Json]) -> list[html.Content]:
    read, kept = sum(f.read for f in funnel), sum(f.kept for f in funnel)
    quarantined = sum(f.quarantined for f in funnel)
    contaminated = sum(f.lost["decontaminate"] for f in funnel)
    unverified = verified.removed - verified.confirmed
    warnings = manifest.get("warnings") or []
    body: list[html.Content] = [
        html.tiles(
            [
                html.Tile("Documents in", html.number(read - quarantined), f"{html.number(read)} records of {len(funnel)} source{'s' * (len(funnel) != 1)}"),
                html.Tile("Kept", html.number(kept), f"{html.percent(kept, read)} of all records", "kept"),
                html.Tile(
                    "Duplicates",
                    html.number(verified.removed),
                    f"removed, {'all verified' if not unverified else f'{html.number(unverified)} NOT verified'}: {html.number(verified.exact)} exact, {html.number(verified.minhash)} near",
                    "bad" if unverified else "good",
                ),
                html.Tile("Contaminated", html.number(contaminated), f"{html.percent(contaminated, read)}, dropped by an evaluation text", "lost" if contaminated else "neutral"),
                html.Tile("Quarantined", html.number(quarantined), f"{html.percent(quarantined, read)} could not be read", "lost" if quarantined else "neutral"),
                html.Tile("Warnings", html.number(len(warnings)), "listed below" if warnings else "nothing to look at", "lost" if warnings else "neutral"),
            ]
        )
    ]  # fmt: skip
    return body + [html.notice(str(warning), "lost") for warning in warnings]


def _funnel(funnel: Sequence[Funnel]) -> list[html.Content]:
    read, kept = sum(f.read for f in funnel), sum(f.kept for f in funnel)
    losses = {"quarantined": sum(f.quarantined for f in funnel)}
    losses |= {stage: sum(f.lost[stage] for f in funnel) for stage in STAGES}
    left, bars = read, [html.Bar("read", [html.Segment("still in", read, "kept")], html.number(read))]
    for name, count in losses.items():
        if not count:
            continue
        left -= count
        bars.append(html.Bar(name, [html.Segment("still in", left, "kept"), html.Segment("lost here", count, "lost")], f"−{html.number(count)} ({html.percent(count, read)})"))  # fmt: skip
    bars.append(html.Bar("kept", [html.Segment("still in", kept, "kept")], html.number(kept)))
    largest = sorted(funnel, key=lambda f: (-f.read, f.source))
    by_source = [
        html.Bar(
            f.source,
            [html.Segment("kept", f.kept, "kept"), *[html.Segment(stage, f.lost[stage], _TONES[stage]) for stage in STAGES if losses[stage]]]
            + ([html.Segment("quarantined", f.quarantined, "neutral")] if losses["quarantined"] else []),
            f"{html.percent(f.kept, f.read)} of {html.number(f.read)}",
        )
        for f in largest[: 2 * TOP]
    ]  # fmt: skip
    stages = [stage for stage in STAGES if losses[stage]]
    rows: list[list[html.Cell]] = [
        [
            f.source,
            f.read,
            f.quarantined,
            *[f.lost[stage] for stage in stages],
            f.kept,
            html.percent(f.kept, f.read),
        ]
        for f in largest
    ]
    if len(funnel) > 1:
        rows.append([html.strong("all"), read, *[losses[name] for name in ("quarantined", *stages)], kept, html.percent(kept, read)])  # fmt: skip
    return [
        html.figure(
            "Each record is counted once, at the first stage that loses it; a document that fails several rules is "
            "in the table of rules once for each.",
            html.stacked_bars("Records left after each stage", bars, whole=read),
        ),
        html.figure(
            "What became of each source's records, as shares of the source"
            + (f"; the {2 * TOP} largest of {html.number(len(funnel))} sources." if len(funnel) > 2 * TOP else "."), html.stacked_bars("Outcome by source", by_source)),
        html.table(
            ["source", "read", "quarantined", *stages, "kept", "share"],
            rows,
            align="lrr" + "r" * len(stages) + "rr",
            caption="Records lost at each stage, by source. Stages without losses are left out.",
        ),
    ]  # fmt: skip


def _rules(rules: Sequence[RuleCount], funnel: Sequence[Funnel], run: Path) -> list[html.Content]:
    documents = sum(f.documents for f in funnel)
    body: list[html.Content] = []
    rows: list[list[html.Cell]] = [
        [html.inline_code(r.rule), r.stage, _bound(r), r.failing, html.meter(r.failing, documents), r.only]
        for r in rules
        if r.failing
    ]
    if rows:
        body.append(
            html.table(
                ["rule", "stage", "allowed", "failing", "of all documents", "only this rule"],
                rows,
                align="llrrlr",
                caption="Documents that fail each rule. Those that fail only this rule are what lifting it would bring "
                "back, before duplicates are looked for among them.",
            )
        )
    else:
        body.append("No rule drops any document.")
    cited: list[list[html.Cell]] = [
        [html.inline_code(r.rule), _bound(r), r.failing, r.limit.source] for r in rules if r.limit is not None
    ]
    if cited:
        idle = sum(1 for rule in rules if not rule.failing)
        body.append(
            html.details(
                f"All {html.number(len(cited))} bounds in force and where they come from; no document fails {html.number(idle)} of them",
                html.table(
                    ["rule", "allowed", "failing", "published as"],
                    cited,
                    align="lrrl",
                    caption="What this run allows, and what the authors of the rule wrote.",
                ),
            )
        )
    other = _collect(
        _scan(run, "decisions", (*_KEY, "stage", "rule", "action"))
        .filter(pl.col("action") != "drop")
        .group_by("stage", "rule", "action")
        .agg(rows=pl.len(), documents=pl.struct(*_KEY).n_unique())
        .sort("stage", "rule", "action")
    )
    if other.height:
        body.append(
            html.table(
                ["rule", "stage", "action", "documents", "decisions"],
                [
                    [html.inline_code(rule), stage, action, n, rows]
                    for stage, rule, action, rows, n in other.iter_rows()
                ],
                align="lllrr",
                caption="Decisions that drop nothing: edits of the text, flags, and near misses (pairs that both stayed).",
            )
        )
    return body


def _bound(rule: RuleCount) -> str:
    if rule.limit is not None:
        return f"{'≥' if rule.limit.kind == 'min' else '≤'} {html.compact(rule.limit.bound)}"
    return "" if rule.bound is None else html.compact(rule.bound)


def _signals(histograms: Sequence[Measured]) -> list[html.Content]:
    if not histograms:
        return ["No rule with a bound on a signal dropped a document in this run."]
    charts = []
    for h in histograms:
        chart = html.histogram(
            h.signal,
            edges=h.edges.tolist(),
            layers=[
                html.Layer("kept", h.kept.tolist(), "kept"),
                html.Layer("dropped", h.dropped.tolist(), "lost"),
            ],
            cuts=h.cuts,
            scale=h.scale,
        )
        outside = sum(
            int((h.kept + h.dropped)[(h.edges[1:] <= cut.at) if cut.dropped == "below" else (h.edges[:-1] >= cut.at)].sum())
            for cut in h.cuts
        )  # fmt: skip
        note = f"{html.number(outside)} documents beyond the cut" + (
            "; logarithmic axis" if h.scale == "log" else ""
        )
        charts.append(
            html.figure(note + (f"; {html.number(h.missing)} without a value" if h.missing else ""), chart)
        )
    return [
        "The shaded side of a line fails the rule, in sources that the rule applies to; what is dropped on the other "
        "side fails another rule.",
        _LEGEND,
        html.grid(charts),
    ]


def _languages(run: Path, fate: pl.DataFrame) -> list[html.Content]:
    parts = _parts(run, "signals")
    if not parts or "language" not in pl.read_parquet_schema(parts[0]):
        return ["The language was not measured in this run."]
    gone = fate.lazy().select(*_KEY, by=pl.col("stage").cast(pl.String))
    counts = _collect(
        pl.scan_parquet(parts)
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
    shown, rest = counts[:TOP], counts[TOP:]
    if rest:
        shown.append((f"{len(rest)} others", *[sum(row[i] for row in rest) for i in (1, 2, 3)]))
    bars = [
        html.Bar(
            language,
            [html.Segment("kept", kept, "kept"), html.Segment("dropped for its language", by, "lost"), html.Segment("dropped for another reason", total - kept - by, "neutral")],
            f"{html.number(kept)} of {html.number(total)}",
        )
        for language, total, kept, by in shown
    ]  # fmt: skip
    return [
        html.figure(
            "Documents by detected language (ISO 639-1), and how many of them are kept. A document is dropped "
            "for its language where no earlier stage drops it.",
            html.stacked_bars("Documents by language", bars, whole=max(total for _, total, _, _ in shown)),
        )
    ]


def _duplicates(run: Path, manifest: Mapping[str, Json], verified: Verified) -> list[html.Content]:
    dedup = manifest.get("dedup")
    if not dedup:
        return ["Duplicates were not looked for in this run."]
    body: list[html.Content] = []
    if verified.removed > verified.confirmed:
        body.append(
            html.notice(
                f"{html.number(verified.removed - verified.confirmed)} removed documents have no verified pair with a document that stayed.",
                "bad",
            )
        )
    similarity = _collect(
        _scan(run, "pairs", ("method", "outcome", "similarity"))
        .filter(pl.col("method") == "minhash")
        .group_by((pl.col("similarity") * 50).floor().clip(0, 49).cast(pl.Int64).alias("bin"), "outcome")
        .len()
    )
    threshold = float(dedup.get("threshold") or 0.0)
    charts = []
    curve = [(float(x), float(y)) for x, y in dedup.get("curve") or []]
    if len(curve) > 1:
        xs, ys = zip(*curve, strict=True)
        at = float(np.interp(threshold, xs, ys))
        charts.append(
            html.figure(
                f"{dedup.get('bands')} bands of {dedup.get('rows')} rows: a pair at the threshold becomes a candidate "
                f"with probability {html.number(at, 3)}. Candidates are then compared exactly, so the curve bounds what is "
                "found, not what is wrongly removed.",
                html.line_chart(
                    "Chance that a pair is looked at",
                    [html.Line("candidate", xs, ys)],
                    x_label="Jaccard similarity of the shingles",
                    y_label="probability",
                    marks=[html.Mark(threshold, f"threshold {html.compact(threshold)}")],
                    y_range=(0.0, 1.0),
                    height=170,
                ),
            )
        )
    if similarity.height:
        charts.append(
            html.figure(
                "Exact similarity of the compared pairs that were recorded. Pairs right of the line are duplicates; "
                "near misses both stay.",
                _similarities(similarity, threshold),
            )
        )
    facts: list[list[html.Cell]] = [["verified pairs", _cell(dedup.get("verified_pairs"))]]
    facts += [
        [name, _cell(dedup[key])]
        for name, key in (
            ("pairs compared exactly", "compared_pairs"),
            ("similarity threshold", "threshold"),
            ("words in a shingle", "ngram"),
            ("bands", "bands"),
            ("rows in a band", "rows"),
            ("buckets cut for their size", "capped_buckets"),
        )
        if dedup.get(key) is not None
    ]
    if dedup.get("capped_buckets"):
        body.append(
            html.notice(
                f"{html.number(dedup['capped_buckets'])} buckets were too large to compare all pairs in them; some near "
                "duplicates may remain.",
                "lost",
            )
        )
    body += [html.grid(charts)] if charts else []
    return [
        *body,
        html.table(
            ["near-duplicate search", "value"], facts, align="lr", caption="How candidates were found."
        ),
    ]


def _similarities(counts: pl.DataFrame, threshold: float) -> html.Html:
    by: dict[str, npt.NDArray[np.int64]] = {}
    for place, outcome, count in counts.iter_rows():
        by.setdefault(outcome, np.zeros(50, np.int64))[place] += count
    first = min(int(np.flatnonzero(sum(by.values()))[0]), int(threshold * 50))
    return html.histogram(
        "Similarity of compared pairs",
        edges=[i / 50 for i in range(first, 51)],
        layers=[
            html.Layer("near misses", by.get("near_miss", np.zeros(50, np.int64))[first:].tolist(), "kept"),
            html.Layer("duplicates", by.get("duplicate", np.zeros(50, np.int64))[first:].tolist(), "lost"),
        ],
        cuts=[html.Cut(threshold, "above", f"threshold {html.compact(threshold)}")],
        unit="pairs",
    )


def _contamination(run: Path, manifest: Mapping[str, Json]) -> list[html.Content]:
    searched = manifest.get("decontaminate")
    hits = _collect(
        _scan(run, "decisions", (*_KEY, "stage", "partner_source", "partner_id"))
        .filter(pl.col("stage") == "decontaminate")
        .group_by("partner_source")
        .agg(documents=pl.struct(*_KEY).n_unique(), items=pl.col("partner_id").n_unique())
        .sort(-pl.col("documents").cast(pl.Int64), "partner_source")
    )
    if not searched and not hits.height:
        return ["Evaluation texts were not looked for in this run."]
    body: list[html.Content] = []
    if hits.height:
        body.append(
            html.table(
                ["evaluation set", "documents", "its items found"],
                hits.rows(),
                align="lrr",
                caption="Documents that share words in a row with an evaluation item, and how many items of the set are found.",
            )
        )
    else:
        body.append("No document shares a passage with an evaluation item.")
    if searched:
        facts = [(name.replace("_", " "), _cell(value)) for name, value in sorted(searched.items())]
        body.append(
            html.table(["evaluation items", "number"], facts, align="lr", caption="What was searched for.")
        )
    return body


def _quality(
    run: Path, manifest: Mapping[str, Json], rules: Sequence[RuleCount], fate: pl.DataFrame
) -> list[html.Content]:
    quality = manifest.get("quality")
    parts = _parts(run, "signals")
    if not quality or not parts or "quality" not in pl.read_parquet_schema(parts[0]):
        return ["Quality was not measured in this run."]
    rows: list[list[html.Cell]] = [
        [name, _cell(value)] for name, value in quality.items() if not isinstance(value, dict | list)
    ]
    auc = quality.get("auc")
    body: list[html.Content] = []
    if isinstance(auc, int | float):
        body.append(
            html.tiles(
                [
                    html.Tile(
                        "Classifier AUC",
                        html.number(auc, 3),
                        "held-out examples; 0.5 is chance, 1 is perfect",
                        "good" if auc >= 0.8 else "lost",
                    )
                ]
            )
        )
    counts = _collect(
        pl.scan_parquet(parts)
        .select(*_KEY, "quality")
        .join(fate.lazy().select(*_KEY, dropped=pl.lit(True)), on=_KEY, how="left")
        .filter(pl.col("quality").is_not_null() & pl.col("quality").is_not_nan())
        .group_by("source", (pl.col("quality") * 20).floor().clip(0, 19).cast(pl.Int64).alias("bin"), pl.col("dropped").fill_null(False))
        .len()
    )  # fmt: skip
    by_source: dict[str, npt.NDArray[np.int64]] = {}
    for source, place, dropped, count in counts.iter_rows():
        by_source.setdefault(source, np.zeros((2, 20), np.int64))[int(dropped), place] += count
    bound = next((rule.bound for rule in rules if rule.rule == "quality.min_score"), None)
    cuts = [] if bound is None else [html.Cut(bound, "below", f"min {html.compact(bound)}")]
    charts = [
        html.figure(
            f"{html.number(int(values.sum()))} documents",
            html.histogram(
                source,
                edges=[i / 20 for i in range(21)],
                layers=[
                    html.Layer("kept", values[0].tolist(), "kept"),
                    html.Layer("dropped", values[1].tolist(), "lost"),
                ],
                cuts=cuts,
            ),
        )
        for source, values in sorted(by_source.items(), key=lambda item: (-int(item[1].sum()), item[0]))[:TOP]
    ]
    body.append("Quality score of each source's documents; 1 is like the positive examples.")
    return [
        *body,
        html.grid(charts),
        html.table(["classifier", "value"], rows, align="lr", caption="How the classifier was made."),
    ]


def _examples(
    examples: Mapping[str, Sequence[Example]],
    texts: Mapping[tuple[Key, int], str],
    rules: Sequence[RuleCount],
) -> list[html.Content]:
    if not examples:
        return ["Nothing was dropped."]
    failing = {rule.rule: rule.failing for rule in rules}
    body: list[html.Content] = [
        "Of every rule the two documents nearest to its bound and the one farthest from it."
    ]
    for stage in STAGES:
        groups = {name: group for name, group in examples.items() if group[0].stage == stage}
        if groups:
            body.append(html.subheading(stage))
        for name, group in sorted(groups.items(), key=lambda item: (-failing.get(item[0], 0), item[0])):
            count = f": {html.number(failing[name])} documents" if name in failing else ""
            body.append(html.details(f"{name}{count}", *[_example(example, texts) for example in group]))
    return body


def _example(example: Example, texts: Mapping[tuple[Key, int], str]) -> html.Html:
    heading: list[html.Content] = [html.inline_code(example.key[1]), f" of {example.key[0]}"]
    if example.similarity is not None:
        heading.append(f": similarity {html.number(example.similarity, 3)}")
    elif example.value is not None:
        heading.append(f": value {html.compact(example.value)}")
    if example.bound is not None:
        heading.append(f", bound {html.compact(example.bound)}")
    if example.detail:
        heading.append(f" ({example.detail})")
    text = texts.get((example.key, example.start))
    other = texts.get((example.partner, 0)) if example.partner else None
    if example.partner and other is None:
        heading += [", shares words with ", html.inline_code(example.partner[1]), f" of {example.partner[0]}"]
    if text is None:
        return html.card(html.fragment(*heading), html.paragraph("The run holds no text of this document."))
    if example.partner is None or other is None:
        return html.card(html.fragment(*heading), html.side_by_side([("", _passage(text, example))]))
    left, right = _differences(text, other)
    names = [f"{source} / {id_}" for source, id_ in (example.key, example.partner)]
    shown = [
        (f"{'also kept' if example.near_miss else 'removed'}: {names[0]}", left),
        (f"stays: {names[1]}", right),
    ]
    return html.card(html.fragment(*heading), html.side_by_side(shown))


def _passage(text: str, example: Example) -> html.Html:
    if example.span is None:
        return html.fragment(_passage_from(text))
    start, end = (place - example.start for place in example.span)
    shown = min(end, start + EXCERPT)
    after = text[shown : shown + EXCERPT // 2]
    before = ("…" if example.start else "") + text[:start]
    return html.fragment(
        before,
        html.marked(text[start:shown], 0, shown - start),
        after,
        "…" if len(text) > shown + len(after) else "",
    )


def _quarantine(run: Path) -> list[html.Content]:
    rows = _scan(run, "quarantine", ("source", "path", "row", "line", "reason", "detail", "excerpt"))
    counts = _collect(
        rows.group_by("reason", "source").len().sort(-pl.col("len").cast(pl.Int64), "reason", "source")
    )
    if not counts.height:
        return ["Every record could be read."]
    first = _collect(rows.sort("source", "path", "row", "reason", nulls_last=True).head(TOP))
    total = int(counts["len"].sum())
    shown: list[list[html.Cell]] = [
        [path, source, _cell(line if line is not None else row), html.inline_code(reason), detail or "", html.inline_code((excerpt or "")[:120])]
        for source, path, row, line, reason, detail, excerpt in first.iter_rows()
    ]  # fmt: skip
    note = "" if total <= TOP else f" The first {TOP} of {html.number(total)}; all are in quarantine/."
    return [
        html.table(
            ["reason", "source", "records"],
            [[html.inline_code(reason), source, count] for reason, source, count in counts.iter_rows()],
            align="llr",
            caption="Records that could not be read, by reason.",
        ),
        html.table(
            ["file", "source", "line", "reason", "detail", "begins"],
            shown,
            align="llrlll",
            caption=f"Where they are (the line from 1, or the record from 0).{note}",
        ),
    ]


def _origin(manifest: Mapping[str, Json]) -> list[html.Content]:
    inputs = manifest.get("inputs") or []
    shards = (manifest.get("shards") or {}).get("kept") or []
    body: list[html.Content] = [
        html.details("Configuration, with every default", html.code(yaml.safe_dump(manifest.get("config"), sort_keys=False, allow_unicode=True, width=110))),
    ]  # fmt: skip
    lists: tuple[tuple[str, list[str], Sequence[Mapping[str, Json]], str], ...] = (
        ("input files", ["path", "source", "sha256"], inputs, "What was read."),
        ("kept shards", ["path", "rows", "sha256"], shards, "What was made."),
    )
    for name, columns, entries, caption in lists:
        if not entries:
            continue
        more = "" if len(entries) <= 10 * TOP else f" The first {10 * TOP} of {html.number(len(entries))}; all are in manifest.json."  # fmt: skip
        rows: list[list[html.Cell]] = [
            [
                html.inline_code(str(entry.get(c, ""))) if c == "sha256" else _cell(entry.get(c))
                for c in columns
            ]
            for entry in entries[: 10 * TOP]
        ]
        align = "".join("r" if c == "rows" else "l" for c in columns)
        body.append(
            html.details(
                f"{html.number(len(entries))} {name}",
                html.table(columns, rows, align=align, caption=caption + more),
            )
        )
    parents = manifest.get("parents") or []
    if parents:
        body.append(
            html.details(
                "Parents", html.code(json.dumps(parents, indent=2, ensure_ascii=False, sort_keys=True))
            )
        )
    return body


def _cell(value: Json) -> html.Cell:
    return (
        value
        if isinstance(value, int | float | str) and not isinstance(value, bool)
        else ""
        if value is None
        else str(value)
    )
