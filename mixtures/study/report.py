"""The page that a study is judged by: OUT/report.html, with OUT/scores.parquet and OUT/scores.csv beside it.

``judge`` draws the conclusions (comparisons against a reference arm and against the base), ``write_report`` writes them
down: the verdict in a sentence, the intervals it rests on, what every dataset says, the training curves, how far seeds
alone move the result, whether each arm saw the mixture it was meant to see, what it cost, and how to run it again.

The files depend on the study's result only: the same result gives the same bytes.
"""

from __future__ import annotations

import dataclasses
import hashlib
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.csv as pa_csv
import pyarrow.parquet as pq
import yaml

from curate import charts, html
from curate.engine import write_atomic
from filters.errors import DataError
from mixtures.study.statistics import (
    COLUMNS,
    BitsPerByte,
    Difference,
    NoiseFloor,
    Scores,
    bits_per_byte,
    compare,
    noise_floor,
)

BASE = "base"
"""The arm that was not fine-tuned."""

SCORES = pa.schema(
    [
        pa.field("arm", pa.string()),
        pa.field("seed", pa.int64()),
        pa.field("dataset", pa.string()),
        pa.field("id", pa.string()),
        pa.field("nll", pa.float64()),
        pa.field("target_bytes", pa.int64()),
    ]
)

CURVES = ("arm", "seed", "step", "loss", "tokens")
_POINTS = 120
"""Points of a training curve on the page; each is the mean of the steps around it."""

_TONES: Mapping[str, html.Tone] = {"better": "good", "worse": "bad", "not distinguishable": "neutral"}


@dataclasses.dataclass(frozen=True, slots=True)
class Share:
    """A part of a mixture: the share that was asked for, and the one that the arm was trained on, both in [0, 1]."""

    name: str
    requested: float
    delivered: float

    def __post_init__(self) -> None:
        for value in (self.requested, self.delivered):
            if not 0 <= value <= 1:
                raise ValueError(f"share of '{self.name}': found {value}; allowed: 0 to 1")


@dataclasses.dataclass(frozen=True, slots=True)
class ArmResult:
    """An arm of a study.

    Attributes:
        name: as in the scores and curves.
        description: one sentence for the reader.
        mixture: SHA-256 of the mixture's manifest; empty for a model that was not trained in the study.
        shares: parts of the mixture, requested and delivered.
        tokens, target_tokens: what one run was trained on; None takes them from the curves.
    """

    name: str
    description: str = ""
    mixture: str = ""
    shares: tuple[Share, ...] = ()
    tokens: int | None = None
    target_tokens: int | None = None


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class StudyResult:
    """Everything that a study found out.

    Attributes:
        arms: in the order of the page.
        scores: ``arm, seed, dataset, id, nll (nats), target_bytes``, a row for each (arm, seed, item).
        curves: ``arm, seed, step, loss, tokens`` and perhaps ``target_tokens`` (both counted from the start of the run).
        config: of the study, with every default.
        command: that runs the study again.
        reference: the arm that others are held against; None takes the first that is not the base.
        unit: what shares are shares of.
        seed: of the bootstrap.

    Raises:
        DataError: the tables lack a column or name an arm that ``arms`` does not.
    """

    arms: tuple[ArmResult, ...]
    scores: pa.Table
    curves: pa.Table
    config: Mapping[str, Any]
    command: str
    reference: str | None = None
    unit: str = "target tokens"
    seed: int = 0

    def __post_init__(self) -> None:
        names = [arm.name for arm in self.arms]
        for label, table, columns in (("scores", self.scores, COLUMNS), ("curves", self.curves, CURVES)):
            missing = [column for column in columns if column not in table.column_names]
            if missing:
                raise DataError(
                    f"study: {label} have no column '{missing[0]}'; needed: {', '.join(columns)}."
                )
            strangers = sorted(set(table["arm"].unique().to_pylist()) - set(names))
            if strangers:
                raise DataError(
                    f"study: {label} of the arm '{strangers[0]}'; the arms are {', '.join(names)}."
                )
        silent = sorted(set(names) - set(self.scores["arm"].unique().to_pylist()))
        if silent:
            raise DataError(
                f"study: no scores of the arm '{silent[0]}'. Score every arm, or leave it out of the study."
            )
        if self.reference is not None and self.reference not in names:
            raise DataError(f"study: no arm is called '{self.reference}'; the arms are {', '.join(names)}.")


@dataclasses.dataclass(frozen=True, slots=True)
class Judgement:
    """What follows from a study's scores.

    Attributes:
        sentence: the verdict, in words.
        reference: the arm that others are held against.
        against_reference: differences of the other trained arms to it, lowest first.
        against_base: differences of the trained arms to the base, lowest first; empty without a base.
        runner_up: the best arm against the second best; None with fewer than two trained arms.
        bits, noise: the table that these rest on, and how far seeds move it.
    """

    sentence: str
    reference: str
    against_reference: tuple[Difference, ...]
    against_base: tuple[Difference, ...]
    runner_up: Difference | None
    bits: BitsPerByte
    noise: NoiseFloor


def judge(study: StudyResult) -> Judgement:
    """Compare the arms of a study.

    P-values are adjusted within each family: all arms against the reference, all arms against the base.
    """
    scores = Scores.from_columns(study.scores)
    trained = [arm.name for arm in study.arms if arm.name != BASE]
    reference = study.reference or (trained[0] if trained else study.arms[0].name)
    rivals = [name for name in trained if name != reference]
    against_reference = _lowest_first(compare(scores, reference, rivals, seed=study.seed))
    against_base: tuple[Difference, ...] = ()
    if BASE in scores.arms and reference != BASE:
        against_base = _lowest_first(compare(scores, BASE, trained, seed=study.seed))
    bits = bits_per_byte(scores)
    ranked = sorted(trained, key=lambda name: (_macro(bits, name), name))
    runner_up = compare(scores, ranked[1], [ranked[0]], seed=study.seed)[0] if len(ranked) > 1 else None
    sentence = _sentence(reference, against_reference, against_base, runner_up, len(bits.datasets))
    return Judgement(
        sentence, reference, against_reference, against_base, runner_up, bits, noise_floor(scores)
    )


def write_report(out: Path, study: StudyResult) -> Path:
    """Write ``OUT/report.html``, ``OUT/scores.parquet`` and ``OUT/scores.csv``; return the report's path."""
    out = Path(out)
    out.mkdir(parents=True, exist_ok=True)
    scores = study.scores.select(list(SCORES.names)).cast(SCORES)
    scores = scores.sort_by([(name, "ascending") for name in ("arm", "seed", "dataset", "id")])
    hashes = {
        "scores.parquet": _write_table(out / "scores.parquet", scores),
        "scores.csv": _write_table(out / "scores.csv", scores),
    }
    found = judge(study)
    first, _, rest = found.sentence.partition(". ")
    text = html.page(
        "Study report",
        html.fragment(html.strong(f"{first}."), f" {rest}") if rest else html.strong(found.sentence),
        [
            html.Section("Which mixture is better", _comparisons(found)),
            html.Section("Bits per byte by dataset", _datasets(study, found)),
            html.Section("Noise of training seeds", _noise(found)),
            html.Section("Training", _training(study)),
            html.Section("What each arm was trained on", _mixtures(study)),
            html.Section("How to run this again", _origin(study, hashes)),
        ],
        kicker="mixtures study",
    )
    path = out / "report.html"
    write_atomic(path, text)
    return path


# ---------------------------------------------------------------------------------------------------------------------
# The verdict
# ---------------------------------------------------------------------------------------------------------------------


def _sentence(
    reference: str,
    against_reference: Sequence[Difference],
    against_base: Sequence[Difference],
    runner_up: Difference | None,
    datasets: int,
) -> str:
    where = f"{datasets} held-out dataset{'s' * (datasets != 1)}"
    better = [d for d in against_reference if d.verdict == "better"]
    worse = [d for d in against_reference if d.verdict == "worse"]
    above_base = [d for d in against_base if d.verdict == "better"]
    parts = []
    if better:
        best = better[0]
        parts.append(f"{_named(best.arm)} is better than {_named(reference)} on {where}: {_written(best)}.")
        if runner_up is not None and runner_up.arm == best.arm and runner_up.reference != reference:
            how = "better than" if runner_up.verdict == "better" else "not distinguishable from"
            parts.append(
                f"It is {how} the second best arm, {_named(runner_up.reference)}: {_written(runner_up)}."
            )
    elif against_reference:
        closest = against_reference[0]
        parts.append(f"No arm is distinguishably better than {_named(reference)} on {where}.")
        parts.append(f"The lowest of them is {_named(closest.arm)}: {_written(closest)}.")
    if worse:
        parts.append(f"Worse than {_named(reference)}: {', '.join(_named(d.arm) for d in worse)}.")
    if len(against_base) == 1 and above_base:
        parts.append(
            f"{_named(above_base[0].arm)} is better than the base on {where}: {_written(above_base[0])}."
        )
    elif against_base and len(above_base) == len(against_base):
        parts.append("Every arm is better than the base.")
    elif against_base:
        rest = ", ".join(_named(d.arm) for d in against_base if d.verdict != "better")
        parts.append(f"Not distinguishably better than the base: {rest}.")
    return " ".join(parts) or f"Only {_named(reference)} was scored, so there is nothing to compare."


def _named(arm: str) -> str:
    return f"“{arm}”"


def _written(difference: Difference) -> str:
    low, high = (html.number(value, 3) for value in (difference.low, difference.high))
    return f"{html.number(difference.mean, 3)} bits per byte [{low}, {high}]"


def _lowest_first(differences: Sequence[Difference]) -> tuple[Difference, ...]:
    return tuple(sorted(differences, key=lambda d: (d.mean, d.arm)))


def _macro(bits: BitsPerByte, arm: str) -> float:
    return float(np.nanmean(bits.macro[bits.arms.index(arm)]))


# ---------------------------------------------------------------------------------------------------------------------
# The sections
# ---------------------------------------------------------------------------------------------------------------------


def _comparisons(found: Judgement) -> list[html.Content]:
    body: list[html.Content] = []
    families = ((found.reference, found.against_reference), (BASE, found.against_base))
    shown = [d for _, differences in families for d in differences]
    if shown:
        tiles = [
            html.Tile(
                "Held-out datasets", html.number(shown[0].datasets), f"{html.number(shown[0].items)} items"
            ),
            html.Tile("Seeds", html.number(max(d.seeds for d in shown)), "training runs of each arm"),
        ]
        best = min(shown, key=lambda d: _macro(found.bits, d.arm)).arm
        arms = [name for name in found.bits.arms if name != BASE]
        best = min(arms, key=lambda name: (_macro(found.bits, name), name)) if arms else best
        tiles.insert(0, html.Tile("Lowest mean", best, f"{html.number(_macro(found.bits, best), 3)} bits per byte over datasets and seeds", "kept"))  # fmt: skip
        if found.noise.deviation is not None:
            tiles.append(html.Tile("Noise of a seed", f"± {html.number(found.noise.deviation, 3)}", "standard deviation of one arm's bits per byte"))  # fmt: skip
        body.append(html.tiles(tiles))
    for reference, differences in families:
        if not differences:
            continue
        rows = [
            charts.Interval(d.arm, d.mean, d.low, d.high, d.verdict, _TONES[d.verdict]) for d in differences
        ]
        body += [
            html.subheading(f"Against {reference}"),
            html.figure(
                f"Each arm minus {reference}: points are means over datasets, lines {html.compact(100 * differences[0].level)}% "
                f"intervals of the paired difference. Left of zero is better. Verdicts consider that {len(differences)} "
                f"comparison{'s were' if len(differences) > 1 else ' was'} made (Holm).",
                charts.forest_plot(
                    f"Difference to {reference}", rows, unit="bits per byte", below="better", above="worse"
                ),
            ),
        ]
    body += [html.notice(note) for note in dict.fromkeys(note for d in shown for note in d.notes)]
    if shown:
        body.append(html.details("All comparisons in numbers", _numbers(shown), html.paragraph(_METHOD)))
    return body or ["There is only one arm."]


_METHOD = (
    "Bits per byte of a dataset: the summed negative log-likelihood of its targets over their UTF-8 bytes. Differences are "
    "paired by item and averaged over seeds. Intervals: hierarchical bootstrap (datasets, then items), brought to the "
    "standard error between datasets, plus the pooled variance of training seeds, with Student's quantiles for the few "
    "units there are. P-values are those of the intervals; adjusted ones are Holm's, within each reference."
)


def _numbers(differences: Sequence[Difference]) -> html.Html:
    rows: list[list[html.Cell]] = []
    for d in differences:
        lower = sum(value < 0 for _, value in d.by_dataset)
        rows.append(
            [
                d.arm, d.reference, html.number(d.mean, 4), f"{html.number(d.low, 4)} to {html.number(d.high, 4)}",
                "–" if d.seed_deviation is None else html.number(d.seed_deviation, 4),
                f"{lower} of {d.datasets}", _p(d.p_value), _p(d.p_adjusted), html.badge(d.verdict, _TONES[d.verdict]),
            ]
        )  # fmt: skip
    return html.table(
        [
            "arm",
            "against",
            "difference",
            "interval",
            "of which seeds (SE)",
            "datasets lower",
            "p",
            "p (Holm)",
            "verdict",
        ],
        rows,
        align="llrrrrrrl",
        caption="Paired differences in bits per byte; below zero the arm is better.",
    )


def _p(value: float) -> str:
    return "<0.001" if value < 0.001 else html.number(value, 3)


def _datasets(study: StudyResult, found: Judgement) -> list[html.Content]:
    bits, names = found.bits, [arm.name for arm in study.arms]
    values = np.stack([bits.values[bits.arms.index(name)] for name in names])  # (arms, seeds, datasets)

    def row(label: str, cells: npt.NDArray[np.float64]) -> list[html.Cell]:
        lowest = np.nanmean(cells, axis=1).argmin()
        return [label, *(_spread(seeds, bold=a == lowest) for a, seeds in enumerate(cells))]

    body: list[html.Content] = [
        html.table(
            ["dataset", *names],
            [
                row("macro average", values.mean(axis=2)),
                *(row(name, values[:, :, d]) for d, name in enumerate(bits.datasets)),
            ],
            align="l" + "r" * len(names),
            caption="Bits per byte: mean over seeds ± standard deviation between seeds; the lowest of a row in bold.",
        )
    ]
    if found.against_reference:
        rivals = found.against_reference
        body.append(
            html.table(
                ["dataset", *(d.arm for d in rivals)],
                [
                    [name, *(html.number(d.by_dataset[i][1], 3) for d in rivals)]
                    for i, name in enumerate(bits.datasets)
                ],
                align="l" + "r" * len(rivals),
                caption=f"Bits per byte minus those of {_named(found.reference)}, dataset by dataset; below zero is better.",
            )
        )
    return body


def _spread(values: npt.NDArray[np.float64], *, bold: bool) -> html.Content:
    there = values[np.isfinite(values)]
    text = html.number(float(there.mean()), 3)
    if len(there) > 1:
        text += f" ± {html.number(float(there.std(ddof=1)), 3)}"
    return html.strong(text) if bold else text


def _noise(found: Judgement) -> list[html.Content]:
    noise = found.noise
    if noise.deviation is None:
        return [
            "Every arm was trained with one seed, so the study cannot tell what another data order would have changed. "
            "Give it two seeds or more."
        ]
    rows: list[list[html.Cell]] = [
        [arm.arm, arm.seeds, html.number(arm.deviation, 4), html.number(arm.largest, 4)] for arm in noise.arms
    ]
    return [
        html.paragraph(
            "The same arm under another seed moves by ",
            html.strong(f"{html.number(noise.deviation, 3)} bits per byte"),
            " (standard deviation, all arms pooled). A difference between two single runs that is not well above this is "
            "no evidence.",
        ),
        html.table(
            ["arm", "seeds", "standard deviation", "largest difference of two seeds"],
            rows,
            align="lrrr",
            caption="Macro average of bits per byte, the same arm under different seeds.",
        ),
    ]


def _training(study: StudyResult) -> list[html.Content]:
    curves = study.curves.sort_by([("arm", "ascending"), ("seed", "ascending"), ("step", "ascending")])
    columns = {name: curves[name].to_numpy() for name in CURVES}
    lines = []
    for arm in study.arms:
        for seed in np.unique(columns["seed"][columns["arm"] == arm.name]):
            own = (columns["arm"] == arm.name) & (columns["seed"] == seed)
            x, y = _thin(columns["step"][own].astype(np.float64), columns["loss"][own].astype(np.float64))
            lines.append(charts.Line(arm.name, x, y))
    if not lines:
        return ["No training was recorded."]
    body: list[html.Content] = [
        html.figure(
            "Training loss, one line a seed. Arms are trained on different mixtures, so a lower line does not mean a "
            "better arm; look for runs that jump or have not levelled off.",
            charts.line_chart("Training loss", lines, x_label="step", y_label="nats per target token"),
        )
    ]
    broken = sorted(
        {str(arm) for arm, loss in zip(columns["arm"], columns["loss"], strict=True) if not np.isfinite(loss)}
    )
    if broken:
        body.append(html.notice(f"The loss was not finite at some step of: {', '.join(broken)}.", "bad"))
    rows: list[list[html.Cell]] = []
    for arm in study.arms:
        own = columns["arm"] == arm.name
        runs = len(np.unique(columns["seed"][own]))
        rows.append(
            [
                arm.name, runs, int(columns["step"][own].max()) if runs else None,
                arm.tokens if arm.tokens is not None else _largest(curves, "tokens", own),
                arm.target_tokens if arm.target_tokens is not None else _largest(curves, "target_tokens", own),
            ]
        )  # fmt: skip
    body.append(
        html.table(
            ["arm", "runs", "steps", "tokens a run", "target tokens a run"],
            rows,
            align="lrrrr",
            caption="Cost. Arms are comparable where they were trained on as many target tokens.",
        )
    )
    return body


def _largest(curves: pa.Table, column: str, rows: npt.NDArray[np.bool_]) -> int | None:
    if column not in curves.column_names or not rows.any():
        return None
    return int(curves[column].to_numpy()[rows].max())


def _thin(x: npt.NDArray[np.float64], y: npt.NDArray[np.float64]) -> tuple[list[float], list[float]]:
    """At most ``_POINTS`` points, each the mean of neighbouring ones."""
    if len(x) <= _POINTS:
        return x.tolist(), y.tolist()
    starts = np.linspace(0, len(x), _POINTS, endpoint=False).astype(np.int64)
    sizes = np.diff([*starts.tolist(), len(x)])
    return (np.add.reduceat(x, starts) / sizes).tolist(), (np.add.reduceat(y, starts) / sizes).tolist()


def _mixtures(study: StudyResult) -> list[html.Content]:
    described: list[list[html.Cell]] = [
        [
            arm.name,
            arm.description,
            html.inline_code(arm.mixture) if arm.mixture else "not trained in this study",
        ]
        for arm in study.arms
    ]
    body: list[html.Content] = [
        html.table(
            ["arm", "what it is", "mixture manifest (SHA-256)"],
            described,
            align="lll",
            caption="The arms, and the mixtures they were trained on.",
        )
    ]
    bars = _share_bars(study.arms)
    if not bars:
        return body
    rows: list[list[html.Cell]] = [
        [
            arm.name,
            s.name,
            _share(s.requested),
            _share(s.delivered),
            f"{html.number(100 * (s.delivered - s.requested), 1)}",
        ]
        for arm in study.arms
        for s in arm.shares
    ]
    return [
        *body,
        html.figure(
            f"Shares of {study.unit}, as asked for and as delivered.", charts.stacked_bars("Mixtures", bars)
        ),
        html.details(
            "Shares in numbers",
            html.table(
                ["arm", "part", "requested", "delivered", "difference (points)"],
                rows,
                align="llrrr",
                caption=f"Shares of {study.unit}.",
            ),
        ),
    ]


def _share_bars(arms: Sequence[ArmResult]) -> list[charts.Bar]:
    """Two bars for each arm. The largest parts have a colour each, all others share one."""
    largest: dict[str, float] = {}
    for share in (share for arm in arms for share in arm.shares):
        largest[share.name] = max(largest.get(share.name, 0.0), share.requested, share.delivered)
    ranked = sorted(largest, key=lambda name: -largest[name])
    tones = dict(zip(ranked, html.SERIES, strict=False))
    bars = []
    for arm in (arm for arm in arms if arm.shares):
        for kind in ("requested", "delivered"):
            value = {s.name: 100 * (s.requested if kind == "requested" else s.delivered) for s in arm.shares}
            segments = [charts.Segment(name, value.get(name, 0.0), tone) for name, tone in tones.items()]
            rest = [name for name in ranked if name not in tones]
            if rest:
                others = sum(value.get(name, 0.0) for name in rest)
                segments.append(charts.Segment(f"{len(rest)} other parts", others, "neutral"))
            bars.append(charts.Bar(f"{arm.name}, {kind}", segments))
    return bars


def _share(value: float) -> str:
    return html.percent(value, 1.0)


def _origin(study: StudyResult, hashes: Mapping[str, str]) -> list[html.Content]:
    config = yaml.safe_dump(dict(study.config), sort_keys=False, allow_unicode=True, width=110)
    files: list[list[html.Cell]] = [
        [html.inline_code(name), html.inline_code(sha)] for name, sha in hashes.items()
    ]
    return [
        html.code(study.command) if study.command else "No command was recorded.",
        html.details("Configuration, with every default", html.code(config)),
        html.table(["file", "SHA-256"], files, align="ll", caption="Every score, beside this page."),
    ]


def _write_table(path: Path, table: pa.Table) -> str:
    """Write Parquet or CSV by the path's ending, in one step; return the file's SHA-256."""
    scratch = path.with_name(f".{path.name}.writing")
    if path.suffix == ".csv":
        pa_csv.write_csv(table, scratch)
    else:
        pq.write_table(table, scratch, compression="zstd")
    digest = hashlib.sha256(scratch.read_bytes()).hexdigest()
    os.replace(scratch, path)
    return digest
