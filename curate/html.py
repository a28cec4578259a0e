"""Self-contained HTML pages: one file, no script, no request, readable offline, in print and in the dark.

Everything that goes into a page is either a Python string, which is escaped, or ``Html``, which this module made.

    page(title, verdict, sections)   the file
      section                        a heading that the table of contents links to
        tiles, table, figure, notice, details, code, side_by_side, grid
          stacked_bars  histogram  forest_plot  line_chart       inline SVG inside a figure

How charts stay readable at every width: nothing is scaled. An SVG is as wide as its box, horizontal positions are
percentages, vertical ones pixels, so that text keeps its size on a telephone; only the polylines of a line chart live in
a stretched inner SVG, with strokes that do not stretch. Names and values of row charts are HTML beside the bars.
Colour never stands alone: every bar has a legend or a label, every verdict is a word.

Output depends on the arguments only: no times, no random ids.
"""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from html import escape as _escape
from typing import Literal

Tone = Literal["kept", "lost", "good", "bad", "neutral", "c1", "c2", "c3", "c4", "c5", "c6", "c7", "c8"]
SERIES: tuple[Tone, ...] = ("c1", "c2", "c3", "c4", "c5", "c6", "c7", "c8")
MISSING = "–"

# What HTML forbids in text (C0 without tab and newline, DEL, C1, lone surrogates), and the marks that reorder a line.
_UNPRINTABLE = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff\ufffe\uffff]")


@dataclass(frozen=True, slots=True)
class Html:
    """Markup that is safe to put into a page as it is; made by this module's functions."""

    source: str


Content = str | Html
Cell = str | int | float | Html | None


@dataclass(frozen=True, slots=True)
class Section:
    """A part of a page: a heading and what stands under it."""

    title: str
    body: Sequence[Content]


@dataclass(frozen=True, slots=True)
class Tile:
    """One headline number: what it is, its value, and what qualifies it."""

    label: str
    value: str
    detail: str = ""
    tone: Tone = "neutral"


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


# ---------------------------------------------------------------------------------------------------------------------
# Numbers and text
# ---------------------------------------------------------------------------------------------------------------------


def escape(text: str) -> str:
    """Text that is safe inside an element and inside a quoted attribute.

    Characters that HTML forbids, lone surrogates, and marks that reorder the line around them become U+FFFD.

    >>> escape('<b title="x">\\x00')
    '&lt;b title=&quot;x&quot;&gt;�'
    """
    return _escape(_UNPRINTABLE.sub("�", text), quote=True)


def number(value: float | None, digits: int = 0) -> str:
    """A number with thousands separators, a true minus sign, and ``digits`` decimals.

    >>> number(1234567), number(-0.25, 2), number(None), number(float("nan"))
    ('1,234,567', '−0.25', '–', '–')
    """
    if value is None or not math.isfinite(value):
        return MISSING
    written = f"{value:,.{digits}f}"
    if float(written.replace(",", "")) == 0:
        written = written.lstrip("-")
    return written.replace("-", "−")


def compact(value: float | None) -> str:
    """A measured value in about four significant digits, the way axes and bounds are labelled.

    >>> compact(0.30000000000000004), compact(50.0), compact(12345.0), compact(2.5e-7)
    ('0.3', '50', '12,345', '2.5e−7')
    """
    if value is None or not math.isfinite(value):
        return MISSING
    if value == 0:
        return "0"
    if abs(value) >= 1e9 or abs(value) < 1e-4:
        mantissa, exponent = f"{value:.3e}".split("e")
        return f"{mantissa.rstrip('0').rstrip('.')}e{int(exponent)}".replace("-", "−")
    digits = max(0, 3 - math.floor(math.log10(abs(value))))
    written = f"{value:,.{digits}f}"
    return (written.rstrip("0").rstrip(".") if "." in written else written).replace("-", "−")


def percent(part: float, whole: float) -> str:
    """A share that never rounds to "all" or "none" when it is not.

    >>> percent(617, 1000), percent(9999, 10000), percent(1, 100000), percent(0, 5), percent(1, 0)
    ('61.7%', '>99.9%', '<0.1%', '0%', '–')
    """
    if not whole:
        return MISSING
    share = 100 * part / whole
    if share in (0, 100):
        return f"{share:.0f}%"
    if share > 0 and share < 0.05:
        return "<0.1%"
    if share < 100 and share >= 99.95:
        return ">99.9%"
    return f"{number(share, 1)}%"


def fragment(*parts: Content) -> Html:
    """Pieces one after the other; strings are escaped."""
    return Html("".join(part.source if isinstance(part, Html) else escape(part) for part in parts))


def paragraph(*parts: Content) -> Html:
    """A paragraph of text."""
    return Html(f"<p>{fragment(*parts).source}</p>")


def strong(text: str) -> Html:
    """Emphasis."""
    return Html(f"<strong>{escape(text)}</strong>")


def inline_code(text: str) -> Html:
    """A name or a hash in the middle of a sentence; a long one may break after its punctuation."""
    return Html("<code>" + re.sub("([._/#-])", r"\1<wbr>", escape(text)) + "</code>")


def marked(text: str, start: int, end: int) -> Html:
    """A text with its characters ``[start, end)`` highlighted."""
    return Html(f"{escape(text[:start])}<mark>{escape(text[start:end])}</mark>{escape(text[end:])}")


def badge(text: str, tone: Tone) -> Html:
    """A verdict in a coloured lozenge."""
    return Html(f'<span class="badge t-{tone}">{escape(text)}</span>')


# ---------------------------------------------------------------------------------------------------------------------
# The page and what it is made of
# ---------------------------------------------------------------------------------------------------------------------


def page(title: str, verdict: Content, sections: Sequence[Section], *, kicker: str = "") -> str:
    """The whole file.

    Args:
        title: the browser's title and the page's heading.
        verdict: the one sentence that a reader in a hurry takes away.
        sections: in order of importance; each gets an entry in the table of contents.
        kicker: what kind of page this is, in small letters above the heading.

    Returns:
        A complete HTML document that refers to nothing outside itself.
    """
    anchors = _anchors([section.title for section in sections])
    contents = "".join(
        f'<li><a href="#{anchor}">{escape(section.title)}</a></li>'
        for anchor, section in zip(anchors, sections, strict=True)
    )
    body = "\n".join(
        f'<section id="{anchor}" aria-labelledby="{anchor}-h"><h2 id="{anchor}-h">{escape(section.title)}</h2>\n'
        + "\n".join(_block(part) for part in section.body)
        + "\n</section>"
        for anchor, section in zip(anchors, sections, strict=True)
    )
    return f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'; img-src data:">
<meta name="color-scheme" content="light dark">
<link rel="icon" href="data:,">
<title>{escape(title)}</title>
<style>{_STYLE}</style>
</head>
<body>
<header>
{f'<p class="kicker">{escape(kicker)}</p>' if kicker else ""}
<h1>{escape(title)}</h1>
<p class="verdict">{fragment(verdict).source}</p>
<nav aria-label="Contents"><ul>{contents}</ul></nav>
</header>
<main>
{body}
</main>
</body>
</html>
"""


def tiles(items: Sequence[Tile]) -> Html:
    """A row of headline numbers."""
    cards = "".join(
        f'<div class="tile t-{item.tone}"><dt>{escape(item.label)}</dt><dd>{escape(item.value)}'
        + (f"<small>{escape(item.detail)}</small>" if item.detail else "")
        + "</dd></div>"
        for item in items
    )
    return Html(f'<dl class="tiles">{cards}</dl>')


def table(columns: Sequence[str], rows: Iterable[Sequence[Cell]], *, align: str, caption: str) -> Html:
    """A table whose first column names the row.

    Args:
        columns: headings.
        rows: cells; an int gets thousands separators, a float four significant digits, None a dash.
        align: one letter a column, ``l`` for text and ``r`` for numbers.
        caption: what the table shows, one line.

    Raises:
        ValueError: a row or ``align`` has another length than ``columns``.
    """
    if len(align) != len(columns) or set(align) - set("lr"):
        raise ValueError(f"align {align!r} for {len(columns)} columns; one of 'l' and 'r' for each")
    head = "".join(
        f'<th scope="col" class="{side}">{escape(name)}</th>'
        for name, side in zip(columns, align, strict=True)
    )
    lines = []
    for row in rows:
        if len(row) != len(columns):
            raise ValueError(f"a row of {len(row)} cells in a table of {len(columns)} columns: {row!r}")
        lines.append(
            "<tr>"
            + f'<th scope="row" class="{align[0]}">{_cell(row[0])}</th>'
            + "".join(
                f'<td class="{side}">{_cell(cell)}</td>'
                for cell, side in zip(row[1:], align[1:], strict=True)
            )
            + "</tr>"
        )
    narrow = ' class="narrow"' if len(columns) == 2 else ""
    return Html(
        f'<div class="scroll" role="region" aria-label="{escape(caption)}" tabindex="0"><table{narrow}>'
        f"<caption><span>{escape(caption)}</span></caption><thead><tr>{head}</tr></thead><tbody>{''.join(lines)}</tbody></table></div>"
    )


def meter(part: float, whole: float, tone: Tone = "lost") -> Html:
    """A share as a small bar inside a table cell, with its percentage."""
    width = 0.0 if not whole else max(0.0, min(100.0, 100 * part / whole))
    return Html(
        f'<span class="meter"><span class="track" aria-hidden="true"><span class="bg-{tone}" style="width:{width:.2f}%">'
        f"</span></span>{percent(part, whole)}</span>"
    )


def figure(caption: Content, *body: Html) -> Html:
    """Charts with the sentence that says how to read them."""
    return Html(
        f"<figure>{''.join(part.source for part in body)}<figcaption>{fragment(caption).source}</figcaption></figure>"
    )


def grid(items: Sequence[Html]) -> Html:
    """Small figures, as many in a row as fit; one or two share the whole width."""
    few = " few" if len(items) < 3 else ""
    return Html(f'<div class="grid{few}">{"".join(item.source for item in items)}</div>')


def side_by_side(items: Sequence[tuple[str, Html]]) -> Html:
    """Texts under their names, beside one another where there is room."""
    columns = "".join(
        f'<div><p class="name">{escape(name)}</p><blockquote dir="auto">{text.source}</blockquote></div>'
        for name, text in items
    )
    return Html(f'<div class="sides">{columns}</div>')


def card(heading: Content, *body: Html) -> Html:
    """One example: what it is, then its texts."""
    return Html(
        f'<article class="card"><p class="head">{fragment(heading).source}</p>{"".join(part.source for part in body)}</article>'
    )


def subheading(text: str) -> Html:
    """A heading inside a section."""
    return Html(f"<h3>{escape(text)}</h3>")


def notice(text: Content, tone: Tone = "neutral") -> Html:
    """A remark that must not be overlooked."""
    return Html(f'<p class="notice t-{tone}" role="note">{fragment(text).source}</p>')


def details(summary: str, *body: Html) -> Html:
    """What only some readers want; closed on screen, open in print."""
    return Html(
        f"<details><summary>{escape(summary)}</summary>{''.join(part.source for part in body)}</details>"
    )


def code(text: str) -> Html:
    """A block of text as it is: a configuration, a command."""
    return Html(f'<pre tabindex="0"><code>{escape(text)}</code></pre>')


def legend(entries: Sequence[tuple[str, Tone]]) -> Html:
    """Colours and their names."""
    items = "".join(
        f'<li><i class="bg-{tone}" aria-hidden="true"></i>{escape(name)}</li>' for name, tone in entries
    )
    return Html(f'<ul class="legend">{items}</ul>')


# ---------------------------------------------------------------------------------------------------------------------
# Charts
# ---------------------------------------------------------------------------------------------------------------------


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


def _cell(cell: Cell) -> str:
    if isinstance(cell, Html):
        return cell.source
    if cell is None:
        return MISSING
    if isinstance(cell, str):
        return escape(cell)
    return number(cell) if isinstance(cell, int) else compact(cell)


def _block(part: Content) -> str:
    return part.source if isinstance(part, Html) else paragraph(part).source


def _anchors(titles: Sequence[str]) -> list[str]:
    """A distinct id for each heading, made of its words."""
    used: dict[str, int] = {}
    anchors = []
    for title in titles:
        slug = "-".join(re.findall("[a-z0-9]+", title.lower())) or "section"
        used[slug] = used.get(slug, 0) + 1
        anchors.append(slug if used[slug] == 1 else f"{slug}-{used[slug]}")
    return anchors


# Colours were chosen to stay apart for colour-blind readers and to reach a contrast of 3:1 against their background.
_STYLE = """
:root{color-scheme:light dark;--bg:#fbfbf9;--card:#fff;--ink:#1a1d21;--soft:#5b6470;--rule:#e2e4e1;--track:#eceeeb;
--kept:#2a6fc9;--lost:#d9622b;--good:#1a7f4b;--bad:#c0352f;--neutral:#79828d;--mark:#ffe9a8;--link:#1f5fae;
--c1:#2a6fc9;--c2:#d9622b;--c3:#1a9c72;--c4:#c48a00;--c5:#c9568f;--c6:#6a55c2;--c7:#2f8f9d;--c8:#8a6242}
@media screen and (prefers-color-scheme:dark){:root{--bg:#14171a;--card:#1c2024;--ink:#e8eaec;--soft:#a3acb6;--rule:#30363c;
--track:#2a2f35;--kept:#5b9bea;--lost:#ee8350;--good:#4cbf83;--bad:#f0706a;--neutral:#8b949e;--mark:#665314;--link:#8ab8f2;
--c1:#5b9bea;--c2:#ee8350;--c3:#3fc196;--c4:#d9a72e;--c5:#e583b2;--c6:#a08ff0;--c7:#58b9c7;--c8:#bd9273}}
*{box-sizing:border-box}
html{-webkit-text-size-adjust:100%}
body{margin:0 auto;padding:2.5rem clamp(1rem,4vw,3rem) 5rem;max-width:72rem;background:var(--bg);color:var(--ink);
font:16px/1.55 system-ui,-apple-system,"Segoe UI",Roboto,"Helvetica Neue","Liberation Sans",Arial,sans-serif}
h1{font-size:2rem;line-height:1.15;margin:.1em 0 .5em;letter-spacing:-.015em}
h2{font-size:1.3rem;line-height:1.25;margin:3rem 0 1rem;padding-top:1.2rem;border-top:1px solid var(--rule);letter-spacing:-.01em}
h3{font-size:1rem;margin:2rem 0 .6rem}
p{margin:0 0 1rem;max-width:46rem}
a{color:var(--link);text-underline-offset:.15em}
:focus-visible{outline:2px solid var(--link);outline-offset:2px}
code,pre{font-family:ui-monospace,"SF Mono",Menlo,Consolas,"DejaVu Sans Mono",monospace;font-size:.86em;overflow-wrap:anywhere}
.kicker{margin:0;color:var(--soft);font-size:.8rem;letter-spacing:.09em;text-transform:uppercase}
.verdict{font-size:1.2rem;line-height:1.45;max-width:50rem}
nav ul{display:flex;flex-wrap:wrap;gap:.2rem 1.1rem;list-style:none;margin:1.2rem 0 0;padding:0;font-size:.9rem}
.tiles{display:grid;grid-template-columns:repeat(auto-fill,minmax(min(100%,9.4rem),1fr));gap:.8rem;margin:1.5rem 0}
.tile{background:var(--card);border:1px solid var(--rule);border-left:4px solid var(--tone,var(--rule));border-radius:6px;padding:.8rem 1rem}
.tile dt{font-size:.85rem;color:var(--soft)}
.tile dd{margin:0;font-size:1.8rem;font-weight:650;line-height:1.25;font-variant-numeric:tabular-nums;letter-spacing:-.02em}
.tile small{display:block;font-size:.82rem;font-weight:400;color:var(--soft);line-height:1.4;letter-spacing:0}
.scroll{overflow-x:auto;margin:0 0 1.5rem}
table{border-collapse:collapse;width:100%;font-size:.9rem;font-variant-numeric:tabular-nums}
table.narrow{width:auto;min-width:min(100%,24rem)}
caption{text-align:left;color:var(--soft);font-size:.88rem;padding:0 0 .5rem}caption span{display:block;max-width:min(46rem,calc(100vw - 2.2rem));position:sticky;left:0}
th,td{padding:.38rem .9rem .38rem 0;border-bottom:1px solid var(--rule);vertical-align:top;text-align:left;font-weight:400}
thead th{color:var(--soft);font-size:.82rem;vertical-align:bottom;border-bottom-color:var(--neutral)}
th.r,td.r{text-align:right;white-space:nowrap}th:last-child,td:last-child{padding-right:0}
tbody th{overflow-wrap:break-word;min-width:8rem}th code,td code{overflow-wrap:break-word}
.meter{display:inline-flex;align-items:center;gap:.6rem;white-space:nowrap}
.track{fill:var(--track)}.meter .track{display:inline-block;width:4.5rem;height:.55rem;background:var(--track);border-radius:2px;overflow:hidden}
.meter .track span{display:block;height:100%}
figure{margin:0 0 2rem;padding:1rem 1.1rem;background:var(--card);border:1px solid var(--rule);border-radius:6px;min-width:0}
figcaption{margin-top:.7rem;color:var(--soft);font-size:.86rem;max-width:52rem}
.grid{display:grid;grid-template-columns:repeat(auto-fill,minmax(min(100%,19rem),1fr));gap:1rem;margin:0 0 1.5rem}
.grid.few{grid-template-columns:repeat(auto-fit,minmax(min(100%,24rem),1fr))}.grid figure{margin:0}
.charttitle{margin:0 0 .4rem;font-weight:600;font-size:.92rem;overflow-wrap:anywhere}
.legend{display:flex;flex-wrap:wrap;gap:.2rem 1.1rem;list-style:none;margin:0 0 .8rem;padding:0;font-size:.86rem}
.legend i{display:inline-block;width:.8rem;height:.8rem;border-radius:2px;margin-right:.4rem;vertical-align:-.08rem}
svg{display:block;overflow:visible;font:12px/1 system-ui,-apple-system,"Segoe UI",Roboto,"Helvetica Neue","Liberation Sans",Arial,sans-serif}
svg text{fill:var(--soft);font-variant-numeric:tabular-nums}
svg .strong{fill:var(--ink)}
.gridline{stroke:var(--rule)}.axis{stroke:var(--neutral)}
.cut{stroke:var(--bad);stroke-width:1.5}svg text.cutlabel{fill:var(--bad);font-weight:600;paint-order:stroke;stroke:var(--card);stroke-width:3px}
.shade{fill:var(--bad);opacity:.1}.bin{stroke:var(--card);stroke-width:.6}
.zero{stroke:var(--neutral);stroke-width:1;stroke-dasharray:3 3}.whisker{stroke:currentColor;stroke-width:2}
.forest circle{fill:currentColor}
polyline[points]{fill:none;stroke:currentColor;stroke-width:2;vector-effect:non-scaling-stroke;stroke-linejoin:round;stroke-linecap:round}
.rows{display:grid;grid-template-columns:minmax(6rem,auto) minmax(8rem,1fr) auto;column-gap:1rem;align-items:center;font-size:.9rem}
.bars{row-gap:.45rem}.row{display:contents}
.row .label{overflow-wrap:anywhere;max-width:16rem}.row .value{font-variant-numeric:tabular-nums;color:var(--soft);white-space:nowrap;text-align:right}
.row .value .num{color:var(--ink)}.foot .value{align-self:start}
.badge{display:inline-block;padding:0 .55em;border-radius:1em;font-size:.82em;line-height:1.7;color:var(--tone);border:1px solid var(--tone);white-space:nowrap}
.forest .badge{min-width:9.6rem;text-align:center;margin-left:.5rem}
.card{margin:0 0 1rem;padding:.9rem 1.1rem;background:var(--card);border:1px solid var(--rule);border-radius:6px}
.card .head{margin:0 0 .6rem;font-size:.9rem;max-width:none;overflow-wrap:anywhere}
.sides{display:grid;grid-template-columns:repeat(auto-fit,minmax(min(100%,20rem),1fr));gap:.8rem}
.sides .name{margin:0 0 .2rem;font-size:.8rem;color:var(--soft);overflow-wrap:anywhere}
blockquote{margin:0;padding:.5rem .8rem;border-left:3px solid var(--rule);font-size:.88rem;white-space:pre-wrap;overflow-wrap:anywhere;
unicode-bidi:isolate;max-height:16rem;overflow-y:auto}
mark{background:var(--mark);color:inherit;border-radius:2px}
.notice{padding:.6rem .9rem;border-left:4px solid var(--tone,var(--neutral));background:var(--card);max-width:none;overflow-wrap:anywhere}
details{margin:0 0 1rem}summary{cursor:pointer;font-weight:600;margin-bottom:.5rem}
pre{margin:0 0 1rem;padding:.9rem 1.1rem;background:var(--card);border:1px solid var(--rule);border-radius:6px;white-space:pre-wrap;line-height:1.45}
@media (max-width:44rem){
body{padding-top:1.5rem}h1{font-size:1.6rem}.verdict{font-size:1.08rem}
.tiles{grid-template-columns:1fr 1fr}.tile{padding:.6rem .75rem}.tile dd{font-size:1.45rem}
.rows{display:block}.row{display:grid;grid-template-columns:1fr auto;gap:.1rem .8rem;margin-bottom:.5rem}
.row svg{grid-row:2;grid-column:1/3}.row .value{white-space:normal}.forest .badge{min-width:0}.foot .label{display:none}.foot .value{grid-row:3;grid-column:1/3;text-align:left}
figure{padding:.8rem}}
@media print{body{max-width:none;padding:0;font-size:11pt;background:#fff}nav{display:none}
*{-webkit-print-color-adjust:exact;print-color-adjust:exact}
h2{break-after:avoid}figure,.card,.tile,tr{break-inside:avoid}td code,th code{overflow-wrap:anywhere}blockquote{max-height:none}.scroll{overflow:visible}
details::details-content{content-visibility:visible;display:block}}
""" + "".join(
    f".{tone}{{fill:var(--{tone});color:var(--{tone})}}.bg-{tone}{{background:var(--{tone})}}.t-{tone}{{--tone:var(--{tone})}}"
    for tone in ("kept", "lost", "good", "bad", "neutral", *SERIES)
)
