"""Charts for pages: inline SVG that needs no script, as ``curate.html.Html`` to put into a figure.

    stacked_bars    parts of wholes, a row each          histogram     counts along a measured axis, with cut lines
    forest_plot     intervals around zero, a row each    line_chart    curves over a common axis, with marks

How charts stay readable at every width: nothing is scaled. An SVG is as wide as its box, horizontal positions are
percentages, vertical ones pixels, so that text keeps its size on a telephone; only the polylines of a line chart live in
a stretched inner SVG, with strokes that do not stretch. Names and values of row charts are HTML beside the bars.
Every SVG has a title and a description that say its numbers. Colours are the classes of ``curate.html.page``'s style.

Output depends on the arguments only.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from curate.html import MISSING, SERIES, Html, Tone, badge, compact, escape, legend, number


@dataclass(frozen=True, slots=True)
class Segment:
    """A part of a stacked bar."""

    name: str
    value: float
    tone: Tone


@dataclass(frozen=True, slots=True)
class Bar:
    """A row of a bar chart: segments from left to right, and the value written beside them."""

    label: str
    segments: Sequence[Segment]
    value: str = ""


@dataclass(frozen=True, slots=True)
class Layer:
    """The counts of one kind of thing in every bin of a histogram; layers are stacked."""

    name: str
    counts: Sequence[int]
    tone: Tone


@dataclass(frozen=True, slots=True)
class Cut:
    """A vertical line in a histogram; the side that is dropped is shaded."""

    at: float
    dropped: Literal["below", "above"]
    label: str


@dataclass(frozen=True, slots=True)
class Interval:
    """A row of a forest plot: a point with its interval, and what follows from it."""

    label: str
    mean: float
    low: float
    high: float
    verdict: str
    tone: Tone = "neutral"


@dataclass(frozen=True, slots=True)
class Line:
    """A line of a chart; lines of one name share colour and legend."""

    name: str
    x: Sequence[float]
    y: Sequence[float]


@dataclass(frozen=True, slots=True)
class Mark:
    """A vertical line with a label in a line chart."""

    at: float
    label: str


def stacked_bars(title: str, bars: Sequence[Bar], *, whole: float | None = None) -> Html:
    """Horizontal bars of segments, one row each, with a legend.

    Args:
        title: what a screen reader says the chart is.
        bars: rows from top to bottom.
        whole: the value that fills the width; None lets every bar fill it, so that lengths are shares of their row.

    >>> "a: 3 of 4" in stacked_bars("Parts", [Bar("all", [Segment("a", 3, "c1"), Segment("b", 1, "c2")])]).source
    True
    """
    seen: dict[str, Tone] = {}
    rows = []
    for bar in bars:
        total = sum(segment.value for segment in bar.segments)
        scale = total if whole is None else whole
        left, drawn = 0.0, []
        for segment in bar.segments:
            seen.setdefault(segment.name, segment.tone)
            if segment.value <= 0 or scale <= 0:
                continue
            width = 100 * segment.value / scale
            drawn.append(
                f'<rect class="{segment.tone}" x="{left:.3f}%" width="{width:.3f}%" height="22">'
                f"<title>{escape(segment.name)}: {compact(segment.value)} of {compact(total)}</title></rect>"
            )
            left += width
        spoken = ", ".join(
            f"{segment.name} {compact(segment.value)}" for segment in bar.segments if segment.value > 0
        )
        rows.append(
            f'<div class="row"><span class="label">{escape(bar.label)}</span>'
            + _svg(
                f"{title}: {bar.label}",
                spoken or "nothing",
                22,
                '<rect class="track" width="100%" height="22"/>' + "".join(drawn),
            )
            + f'<span class="value">{escape(bar.value)}</span></div>'
        )
    names = legend(list(seen.items())).source if len(seen) > 1 else ""
    return Html(f'{names}<div class="rows bars">{"".join(rows)}</div>')


def histogram(
    title: str,
    *,
    edges: Sequence[float],
    layers: Sequence[Layer],
    cuts: Sequence[Cut] = (),
    scale: Literal["linear", "log"] = "linear",
    unit: str = "documents",
) -> Html:
    """Stacked bars over a measured axis, with the lines at which documents are dropped.

    Args:
        title: what is measured.
        edges: ``bins + 1`` rising bin edges; bin i holds ``edges[i] <= value < edges[i + 1]``, the last one its edge too.
        layers: counts per bin, stacked from the axis up.
        cuts: vertical lines; the dropped side is shaded.
        scale: how values are placed on the axis; ``log`` needs positive edges.
        unit: what is counted.

    Raises:
        ValueError: edges do not rise, or a layer has another number of bins.
    """
    if len(edges) < 2 or any(b <= a for a, b in itertools.pairwise(edges)):
        raise ValueError(f"{title}: histogram edges must rise, found {list(edges)}")
    for layer in layers:
        if len(layer.counts) != len(edges) - 1:
            raise ValueError(
                f"{title}: {len(layer.counts)} counts of '{layer.name}' for {len(edges) - 1} bins"
            )
    axis = _Axis(edges[0], edges[-1], scale)
    top, plot, bottom = 18 + 15 * len(cuts), 130, 22
    tallest = max((sum(layer.counts[i] for layer in layers) for i in range(len(edges) - 1)), default=0)
    parts = []
    for cut in cuts:
        at = axis.place(cut.at)
        left, width = (0.0, at) if cut.dropped == "below" else (at, 100 - at)
        if width > 0:
            parts.append(
                f'<rect class="shade" x="{left:.2f}%" y="{top}" width="{width:.2f}%" height="{plot}"/>'
            )
    parts.append(f'<line class="gridline" x1="0" x2="100%" y1="{top + 0.5}" y2="{top + 0.5}"/>')
    for i, (low, high) in enumerate(itertools.pairwise(edges)):
        counts = [layer.counts[i] for layer in layers]
        if not sum(counts):
            continue
        left, width = axis.place(low), axis.place(high) - axis.place(low)
        level, drawn = float(top + plot), []
        for layer, count in zip(layers, counts, strict=True):
            if count:
                height = max(1.5, plot * count / tallest)
                level -= height
                drawn.append(
                    f'<rect class="{layer.tone} bin" x="{left:.2f}%" y="{level:.1f}" width="{width:.2f}%" height="{height:.1f}"/>'
                )
        spoken = ", ".join(
            f"{layer.name} {number(count)}" for layer, count in zip(layers, counts, strict=True)
        )
        parts.append(
            f"<g><title>{compact(low)} to {compact(high)}: {escape(spoken)}</title>{''.join(drawn)}</g>"
        )
    base = top + plot
    parts.append(f'<line class="axis" x1="0" x2="100%" y1="{base + 0.5}" y2="{base + 0.5}"/>')
    free = "end" if any(axis.place(cut.at) < 45 for cut in cuts) else "start"
    parts.append(
        f'<text class="tick" x="{"100%" if free == "end" else 0}" y="{top - 5}" text-anchor="{free}">'
        f"{number(tallest)} {escape(unit)}</text>"
    )
    for value in axis.ticks(5):
        parts.append(_tick(axis.place(value), base + 15, _short(value)))
    for row, cut in enumerate(sorted(cuts, key=lambda cut: cut.at)):
        at, level = axis.place(cut.at), 11 + 15 * row
        side = _away(at, prefer="right" if cut.dropped == "below" else "left")
        parts.append(
            f'<line class="cut" x1="{at:.2f}%" x2="{at:.2f}%" y1="{level - 10}" y2="{base}"/>'
            f'<text class="cutlabel" x="{at:.2f}%" dx="{5 if side == "start" else -5}" y="{level}" '
            f'text-anchor="{side}">{escape(cut.label)}</text>'
        )
    total = {layer.name: sum(layer.counts) for layer in layers}
    spoken = ", ".join(f"{name} {number(count)}" for name, count in total.items())
    spoken += "".join(f"; {cut.label}, dropped {cut.dropped} {compact(cut.at)}" for cut in cuts)
    return Html(
        f'<p class="charttitle">{escape(title)}</p>'
        + _svg(
            f"Histogram of {title}",
            f"{spoken}. From {compact(edges[0])} to {compact(edges[-1])}.",
            base + bottom,
            "".join(parts),
        )
    )


def forest_plot(
    title: str, intervals: Sequence[Interval], *, unit: str, below: str = "", above: str = ""
) -> Html:
    """Points with their intervals around a line at zero, one row each.

    Args:
        title: what a screen reader says the chart is.
        intervals: rows from top to bottom.
        unit: of the differences.
        below, above: what a value left, and right, of zero means.
    """
    finite = [v for row in intervals for v in (row.low, row.mean, row.high) if math.isfinite(v)] + [0.0]
    reach = (max(finite) - min(finite)) or 1.0
    axis = _Axis(min(finite) - 0.06 * reach, max(finite) + 0.06 * reach, "linear")
    zero = axis.place(0.0)
    rows = []
    for row in intervals:
        written = f"{_signed(row.mean)} [{_signed(row.low)}, {_signed(row.high)}]"
        low, mean, high = (axis.place(v) for v in (row.low, row.mean, row.high))
        marks = (
            f'<line class="zero" x1="{zero:.2f}%" x2="{zero:.2f}%" y1="0" y2="34"/>'
            f'<g class="{row.tone}"><title>{escape(row.label)}: {written}</title>'
            f'<line class="whisker" x1="{low:.2f}%" x2="{high:.2f}%" y1="17" y2="17"/>'
            f'<line class="whisker" x1="{low:.2f}%" x2="{low:.2f}%" y1="12" y2="22"/>'
            f'<line class="whisker" x1="{high:.2f}%" x2="{high:.2f}%" y1="12" y2="22"/>'
            f'<circle cx="{mean:.2f}%" cy="17" r="5.5"/></g>'
        )
        rows.append(
            f'<div class="row"><span class="label">{escape(row.label)}</span>'
            + _svg(f"{title}: {row.label}", f"{written} {unit}: {row.verdict}", 34, marks)
            + f'<span class="value"><span class="num">{written}</span> {badge(row.verdict, row.tone).source}</span></div>'
        )
    ticks = "".join(
        f'<line class="axis" x1="{axis.place(v):.2f}%" x2="{axis.place(v):.2f}%" y1="0" y2="4"/>'
        + _tick(axis.place(v), 17, _signed(v, trim=True))
        for v in axis.ticks(5)
    )
    arrows = ""
    if below:
        arrows += (
            f'<text class="tick" x="{zero:.2f}%" dx="-8" y="34" text-anchor="end">← {escape(below)}</text>'
        )
    if above:
        arrows += f'<text class="tick" x="{zero:.2f}%" dx="8" y="34">{escape(above)} →</text>'
    foot = (
        '<div class="row foot"><span class="label"></span>'
        + _svg(
            "Axis",
            f"{unit}, from {_signed(axis.low)} to {_signed(axis.high)}",
            40 if arrows else 22,
            f'<line class="axis" x1="0" x2="100%" y1="0.5" y2="0.5"/>{ticks}{arrows}',
        )
        + f'<span class="value unit">{escape(unit)}</span></div>'
    )
    return Html(f'<div class="rows forest">{"".join(rows)}{foot}</div>')


def line_chart(
    title: str,
    lines: Sequence[Line],
    *,
    x_label: str,
    y_label: str,
    marks: Sequence[Mark] = (),
    y_range: tuple[float, float] | None = None,
    height: int = 240,
) -> Html:
    """Lines over a common axis; points that are not finite break a line.

    Args:
        title: what is shown.
        lines: ``x`` rising; lines of the same name have one colour and one legend entry.
        x_label, y_label: names and units of the axes.
        marks: labelled vertical lines.
        y_range: lowest and highest value of the vertical axis; None takes the data's.
        height: of the plot in pixels.
    """
    tones: dict[str, Tone] = {}
    for line in lines:
        tones.setdefault(line.name, SERIES[len(tones) % len(SERIES)])
    points = [(x, y) for line in lines for x, y in zip(line.x, line.y, strict=True) if math.isfinite(y)]
    xs, ys = [x for x, _ in points] or [0.0, 1.0], [y for _, y in points] or [0.0, 1.0]
    across = _Axis(min(xs), max(xs), "linear")
    up = _Axis(*(y_range or _padded(min(ys), max(ys))), "linear")
    top = 22
    parts = []
    for value in up.ticks(5):
        y = top + height * (1 - up.place(value) / 100)
        parts.append(
            f'<line class="gridline" x1="0" x2="100%" y1="{y:.1f}" y2="{y:.1f}"/>'
            f'<text class="tick" x="0" y="{y - 4:.1f}">{_short(value)}</text>'
        )
    parts.append(f'<text class="tick strong" x="100%" y="12" text-anchor="end">{escape(y_label)}</text>')
    order = list(tones)
    paths = []
    for line in lines:
        dash = ' stroke-dasharray="6 4"' if order.index(line.name) >= len(SERIES) else ""
        for run in _runs(line):
            path = " ".join(f"{10 * across.place(x):.1f},{1000 - 10 * up.place(y):.1f}" for x, y in run)
            if len(run) == 1:
                path = f"{path} {path}"
            paths.append(
                f'<polyline class="{tones[line.name]}" points="{path}"{dash}><title>{escape(line.name)}</title></polyline>'
            )
    parts.append(
        f'<svg x="0" y="{top}" width="100%" height="{height}" viewBox="0 0 1000 1000" preserveAspectRatio="none">{"".join(paths)}</svg>'
    )
    base = top + height
    parts.append(f'<line class="axis" x1="0" x2="100%" y1="{base + 0.5}" y2="{base + 0.5}"/>')
    for value in across.ticks(6):
        parts.append(_tick(across.place(value), base + 16, _short(value)))
    for row, mark in enumerate(sorted(marks, key=lambda mark: mark.at)):
        at = across.place(mark.at)
        side = _away(at, prefer="left")
        parts.append(
            f'<line class="cut" x1="{at:.2f}%" x2="{at:.2f}%" y1="{top}" y2="{base}"/>'
            f'<text class="cutlabel" x="{at:.2f}%" dx="{5 if side == "start" else -5}" y="{top + 14 + 15 * row}" '
            f'text-anchor="{side}">{escape(mark.label)}</text>'
        )
    parts.append(
        f'<text class="tick strong" x="50%" y="{base + 34}" text-anchor="middle">{escape(x_label)}</text>'
    )
    spoken = f"{y_label} over {x_label}: " + "; ".join(
        f"{name} ends at {compact(next((v for line in reversed(lines) if line.name == name for v in reversed(line.y)), math.nan))}"
        for name in order
    )
    names = legend(list(tones.items())).source if len(tones) > 1 else ""
    return Html(
        f'<p class="charttitle">{escape(title)}</p>{names}' + _svg(title, spoken, base + 42, "".join(parts))
    )


# ---------------------------------------------------------------------------------------------------------------------
# Axes
# ---------------------------------------------------------------------------------------------------------------------


def ticks(low: float, high: float, count: int) -> list[float]:
    """About ``count`` round values (1, 2 or 5 times a power of ten apart) inside ``[low, high]``.

    >>> ticks(0, 1, 5), ticks(-0.31, 0.12, 4)
    ([0.0, 0.2, 0.4, 0.6, 0.8, 1.0], [-0.3, -0.2, -0.1, 0.0, 0.1])
    """
    if not high > low:
        return [low]
    rough = (high - low) / max(1, count)
    power = math.floor(math.log10(rough))
    step = next((m for m in (1, 2, 5) if m * 10.0**power >= rough * 0.75), 10)
    first = math.ceil(low / (step * 10.0**power) - 1e-9)
    last = math.floor(high / (step * 10.0**power) + 1e-9)
    return [round(i * step * 10.0**power, max(0, -power)) + 0.0 for i in range(first, last + 1)]


@dataclass(frozen=True, slots=True)
class _Axis:
    """Values to percentages of the width."""

    low: float
    high: float
    scale: Literal["linear", "log"]

    def place(self, value: float) -> float:
        low, high = self._move(self.low), self._move(self.high)
        if high <= low:
            return 50.0
        if self.scale == "log" and value <= 0:
            return 0.0
        return min(100.0, max(0.0, 100 * (self._move(value) - low) / (high - low)))

    def ticks(self, count: int) -> list[float]:
        if self.scale == "linear":
            return ticks(self.low, self.high, count)
        first, last = math.floor(math.log10(self.low)), math.floor(math.log10(self.high))
        within = [m * 10.0**power for power in range(first, last + 1) for m in (1, 2, 5)]
        within = [value for value in within if self.low <= value <= self.high]
        whole = [value for value in within if round(math.log10(value), 9).is_integer()]
        return within if len(within) <= count else whole[:: math.ceil(len(whole) / count)]

    def _move(self, value: float) -> float:
        return math.log10(value) if self.scale == "log" else value


def _away(at: float, *, prefer: Literal["left", "right"]) -> str:
    """The text-anchor that keeps a label at ``at`` percent inside the chart."""
    if prefer == "right":
        return "start" if at < 65 else "end"
    return "end" if at > 35 else "start"


def _short(value: float) -> str:
    """A tick's value, in thousands or millions where that saves room."""
    for size, letter in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= max(size, 1e4):
            return compact(value / size) + letter
    return compact(value)


def _tick(at: float, y: float, label: str) -> str:
    anchor = "start" if at < 4 else "end" if at > 96 else "middle"
    return f'<text class="tick" x="{at:.2f}%" y="{y:g}" text-anchor="{anchor}">{label}</text>'


def _padded(low: float, high: float) -> tuple[float, float]:
    room = 0.05 * (high - low) or 0.05 * abs(high) or 1.0
    return low - room, high + room


def _runs(line: Line) -> list[list[tuple[float, float]]]:
    """The stretches of a line between its gaps."""
    runs: list[list[tuple[float, float]]] = [[]]
    for x, y in zip(line.x, line.y, strict=True):
        if math.isfinite(y):
            runs[-1].append((x, y))
        elif runs[-1]:
            runs.append([])
    return [run for run in runs if run]


def _signed(value: float, *, trim: bool = False) -> str:
    if trim and value == 0:
        return "0"
    written = compact(value) if trim else number(value, 3)
    return f"+{written}" if value > 0 and written not in ("0.000", MISSING) else written


def _svg(title: str, description: str, height: float, body: str) -> str:
    return (
        f'<svg role="img" width="100%" height="{height:g}"><title>{escape(title)}</title>'
        f"<desc>{escape(description)}</desc>{body}</svg>"
    )
