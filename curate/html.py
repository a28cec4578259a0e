"""Self-contained HTML pages: one file, no script, no request, readable offline, in print and in the dark.

Everything that goes into a page is either a Python string, which is escaped, or ``Html``, which this module and ``curate.charts`` make.

    page(title, verdict, sections)   the file
      section                        a heading that the table of contents links to
        tiles, table, figure, notice, details, code, side_by_side, grid
          charts                     inline SVG inside a figure, from ``curate.charts``; their style is the page's

Colour never stands alone: every bar has a legend or a label, every verdict is a word.

Output depends on the arguments only: no times, no random ids.
"""

from __future__ import annotations

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
    """Markup that is safe to put into a page as it is; made by the functions of this module and of ``curate.charts``."""

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


def details(summary: str, *body: Html, is_open: bool = False) -> Html:
    """What only some readers want; closed on screen unless ``is_open``, open in print."""
    return Html(
        f"<details{' open' if is_open else ''}><summary>{escape(summary)}</summary>{''.join(part.source for part in body)}</details>"
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
.tile dd{margin:0;font-size:1.8rem;font-weight:650;line-height:1.25;font-variant-numeric:tabular-nums;letter-spacing:-.02em;overflow-wrap:anywhere}
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
