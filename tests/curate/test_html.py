"""Pages: everything escaped, nothing loaded, the geometry of the charts right."""

from __future__ import annotations

import math
import re
import xml.etree.ElementTree as ET
from html.parser import HTMLParser
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from curate import html

NASTY = "<script>alert('x')</script>\"' onload=\"x\" &amp; ]]> \x00\x1b\u202e\ud800"


class Reader(HTMLParser):
    """Collects elements, attributes and text, and notes tags that are not closed in order."""

    VOID = frozenset({"meta", "link", "wbr"})

    def __init__(self, source: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str, str]] = []
        self.text: list[str] = []
        self.unbalanced: list[str] = []
        self.feed(source)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += [(tag, name, value or "") for name, value in attrs]
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += [(tag, name, value or "") for name, value in attrs]

    def handle_endtag(self, tag: str) -> None:
        if not self.open or self.open.pop() != tag:
            self.unbalanced.append(tag)

    def handle_data(self, data: str) -> None:
        self.text.append(data)


def whole_page(text: str) -> str:
    """A page with every component, ``text`` wherever a text may stand."""
    numbers = html.table([text, "n"], [[text, 1], [html.inline_code(text), 2.5]], align="lr", caption=text)
    charts = [
        html.stacked_bars(
            text, [html.Bar(text, [html.Segment(text, 1, "c1"), html.Segment("b", 2, "c2")], text)]
        ),
        html.histogram(
            text,
            edges=[0, 1, 2],
            layers=[html.Layer(text, [1, 2], "kept")],
            cuts=[html.Cut(1, "below", text)],
            unit=text,
        ),
        html.forest_plot(
            text, [html.Interval(text, 0.1, -0.1, 0.3, text)], unit=text, below=text, above=text
        ),
        html.line_chart(
            text, [html.Line(text, [0, 1], [1, 2])], x_label=text, y_label=text, marks=[html.Mark(0.5, text)]
        ),
    ]
    parts: list[html.Content] = [
        text,
        html.tiles([html.Tile(text, text, text)]),
        numbers,
        html.figure(text, *charts),
        html.grid(charts),
        html.card(text, html.side_by_side([(text, html.marked(text, 0, 3))])),
        html.subheading(text),
        html.notice(text, "bad"),
        html.details(text, html.code(text)),
        html.legend([(text, "c1"), (text, "c2")]),
        html.badge(text, "good"),
    ]  # fmt: skip
    return html.page(text, html.fragment(html.strong(text), text), [html.Section(text, parts)], kicker=text)


def svgs(markup: str) -> list[ET.Element]:
    """The charts of a fragment, parsed as XML; a chart may hold an SVG of its own."""
    charts, start, depth = [], 0, 0
    for match in re.finditer("<svg|</svg>", markup):
        if match.group() == "<svg":
            start = match.start() if depth == 0 else start
            depth += 1
        else:
            depth -= 1
            if depth == 0:
                charts.append(ET.fromstring(markup[start : match.end()]))
    return charts


def share(value: str) -> float:
    assert value.endswith("%")
    return float(value[:-1])


@given(st.text(max_size=30) | st.just(NASTY))
def test_a_text_adds_no_markup_wherever_it_stands(text: str) -> None:
    plain, nasty = Reader(whole_page("plain")), Reader(whole_page(f"x{text}"))
    assert [tag for tag in nasty.tags if tag != "wbr"] == [tag for tag in plain.tags if tag != "wbr"]
    assert [(t, n) for t, n, _ in nasty.attributes] == [(t, n) for t, n, _ in plain.attributes]


def test_the_page_is_balanced_and_holds_no_script_and_no_reference_to_anything_outside() -> None:
    page = Reader(whole_page(NASTY))
    assert page.unbalanced == [] and page.open == []
    assert "script" not in page.tags
    assert [
        name for _, name, _ in page.attributes if name.startswith("on") or name in ("src", "srcset")
    ] == []
    targets = {value for _, name, value in page.attributes if name == "href"}
    assert targets == {"data:,", "#script-alert-x-script-onload-x-amp"}
    assert "url(" not in whole_page("x") and "@import" not in whole_page("x")


def test_a_page_encodes_as_utf_8_whatever_its_texts_hold() -> None:
    page = whole_page(NASTY)
    page.encode("utf-8")
    assert not re.search("[\x00-\x08\x0b-\x1f\u202e]", page)


def test_every_chart_is_well_formed_and_says_what_it_shows() -> None:
    elements = svgs(whole_page(NASTY))
    assert len(elements) == 10  # a bar, a histogram, a forest row with its axis, and a line chart; twice
    for element in elements:
        assert element.attrib["role"] == "img"
        assert [child.tag for child in element[:2]] == ["title", "desc"]
        assert element[0].text and element[1].text


def test_the_same_arguments_give_the_same_page() -> None:
    assert whole_page("a") == whole_page("a")


def test_sections_of_the_same_title_have_their_own_anchors() -> None:
    page = html.page("t", "v", [html.Section(title, []) for title in ("Rules", "rules!", "Правила", "123")])
    ids = re.findall(r'<section id="([^"]+)"', page)
    assert ids == ["rules", "rules-2", "section", "123"]
    assert re.findall(r'href="#([^"]+)"', page) == ids


@pytest.mark.parametrize(
    ("value", "digits", "written"),
    [
        (0, 0, "0"),
        (1234567, 0, "1,234,567"),
        (-1234.5, 1, "−1,234.5"),
        (-0.0001, 2, "0.00"),
        (math.inf, 0, "–"),
        (None, 3, "–"),
    ],
)
def test_numbers_have_separators_and_a_true_minus_sign(
    value: float | None, digits: int, written: str
) -> None:
    assert html.number(value, digits) == written


@pytest.mark.parametrize(
    ("value", "written"),
    [
        (0.8, "0.8"),
        (1 / 3, "0.3333"),
        (100_000, "100,000"),
        (49.999, "50"),
        (0.00012, "0.00012"),
        (-2.5, "−2.5"),
        (3e12, "3e12"),
        (math.nan, "–"),
    ],
)
def test_measured_values_have_four_digits(value: float, written: str) -> None:
    assert html.compact(value) == written


@given(st.integers(0, 10**6), st.integers(1, 10**6))
def test_a_share_says_all_or_none_only_when_it_is(part: int, whole: int) -> None:
    part = min(part, whole)
    written = html.percent(part, whole)
    assert (written == "0%") == (part == 0)
    assert (written == "100%") == (part == whole)
    number = float(written.strip("<>%"))
    assert abs(number - 100 * part / whole) <= 0.1


@given(
    st.floats(-1e6, 1e6),
    st.floats(1e-3, 1e6),
    st.integers(2, 10),
)
def test_ticks_are_round_values_inside_the_range(low: float, width: float, count: int) -> None:
    high = low + width
    values = html.ticks(low, high, count)
    slack = 1e-6 * max(1, abs(low), abs(high))
    assert all(low - slack <= value <= high + slack for value in values)
    assert len(values) <= 2 * count + 1
    steps = {round(b - a, 9) for a, b in pairwise(values)}
    if len(steps) == 1 and width > 1e-2:
        mantissa = f"{steps.pop():.3e}".split("e")[0]
        assert float(mantissa) in (1.0, 2.0, 5.0)


def test_a_table_writes_integers_with_separators_and_nothing_as_a_dash() -> None:
    page = Reader(html.table(["a", "b", "c"], [["x", 12345, None]], align="lrr", caption="c").source)
    assert [text for text in page.text if text.strip()] == ["c", "a", "b", "c", "x", "12,345", "–"]


def test_a_table_refuses_rows_and_alignments_of_another_width() -> None:
    with pytest.raises(ValueError, match="a row of 1 cells in a table of 2 columns"):
        html.table(["a", "b"], [["x"]], align="lr", caption="c")
    with pytest.raises(ValueError, match="align 'l' for 2 columns"):
        html.table(["a", "b"], [], align="l", caption="c")


def test_segments_of_a_bar_lie_end_to_end_and_fill_their_share() -> None:
    bars = [
        html.Bar(
            "full", [html.Segment("a", 30, "c1"), html.Segment("b", 10, "c2"), html.Segment("c", 60, "c3")]
        ),
        html.Bar("half", [html.Segment("a", 50, "c1"), html.Segment("b", 0, "c2")]),
    ]
    full, half = svgs(html.stacked_bars("t", bars, whole=100).source)
    rectangles = [r for r in full.iter("rect") if "x" in r.attrib]
    assert [share(r.attrib["width"]) for r in rectangles] == [30, 10, 60]
    assert [share(r.attrib["x"]) for r in rectangles] == [0, 30, 40]
    assert [share(r.attrib["width"]) for r in half.iter("rect") if "x" in r.attrib] == [50]


def test_without_a_whole_every_bar_fills_its_row() -> None:
    (element,) = svgs(
        html.stacked_bars(
            "t", [html.Bar("r", [html.Segment("a", 1, "c1"), html.Segment("b", 3, "c2")])]
        ).source
    )
    assert [share(r.attrib["width"]) for r in element.iter("rect") if "x" in r.attrib] == [25, 75]


def test_an_empty_bar_has_no_segment() -> None:
    (element,) = svgs(html.stacked_bars("t", [html.Bar("r", [html.Segment("a", 0, "c1")])]).source)
    assert [r.attrib["width"] for r in element.iter("rect")] == ["100%"]


def test_a_histogram_stacks_its_layers_and_shades_the_dropped_side() -> None:
    chart = html.histogram(
        "words",
        edges=[0, 50, 100, 200],
        layers=[html.Layer("kept", [0, 6, 4], "kept"), html.Layer("dropped", [5, 2, 0], "lost")],
        cuts=[html.Cut(50, "below", "min 50")],
    )
    (element,) = svgs(chart.source)
    (shade,) = [r for r in element.iter("rect") if r.attrib["class"] == "shade"]
    assert (share(shade.attrib["x"]), share(shade.attrib["width"])) == (0, 25)
    (cut,) = [line for line in element.iter("line") if line.attrib["class"] == "cut"]
    assert share(cut.attrib["x1"]) == 25
    kept = {float(r.attrib["x"][:-1]): r for r in element.iter("rect") if r.attrib["class"] == "kept bin"}
    dropped = {float(r.attrib["x"][:-1]): r for r in element.iter("rect") if r.attrib["class"] == "lost bin"}
    assert list(kept) == [25, 50] and list(dropped) == [0, 25]
    heights = [float(r.attrib["height"]) for r in (kept[25], kept[50], dropped[0], dropped[25])]
    assert [round(h / heights[0] * 6, 1) for h in heights] == [6, 4, 5, 2]
    assert float(dropped[25].attrib["y"]) + heights[3] == pytest.approx(float(kept[25].attrib["y"]), abs=0.11)
    titles = [g[0].text for g in element.iter("g")]
    assert titles == [
        "0 to 50: kept 0, dropped 5",
        "50 to 100: kept 6, dropped 2",
        "100 to 200: kept 4, dropped 0",
    ]


def test_a_cut_at_an_upper_bound_shades_what_lies_above() -> None:
    (element,) = svgs(
        html.histogram(
            "r", edges=[0, 1], layers=[html.Layer("n", [1], "c1")], cuts=[html.Cut(0.2, "above", "max")]
        ).source
    )
    (shade,) = [r for r in element.iter("rect") if r.attrib["class"] == "shade"]
    assert (share(shade.attrib["x"]), share(shade.attrib["width"])) == (20, 80)


def test_a_logarithmic_axis_places_powers_of_ten_evenly() -> None:
    chart = html.histogram(
        "n", edges=[1, 10, 100, 1000], layers=[html.Layer("n", [1, 1, 1], "c1")], scale="log"
    )
    (element,) = svgs(chart.source)
    places = [share(r.attrib["x"]) for r in element.iter("rect")]
    assert places == pytest.approx([0, 100 / 3, 200 / 3], abs=0.01)
    labels = [t.text for t in element.iter("text")][1:]
    assert labels == ["1", "10", "100", "1,000"]


def test_an_empty_histogram_is_a_chart_without_bars() -> None:
    (element,) = svgs(html.histogram("n", edges=[0, 1], layers=[html.Layer("n", [0], "c1")]).source)
    assert list(element.iter("rect")) == []


@pytest.mark.parametrize("edges", [[1], [0, 0, 1], [1, 0]])
def test_a_histogram_refuses_edges_that_do_not_rise(edges: list[float]) -> None:
    with pytest.raises(ValueError, match="edges must rise"):
        html.histogram("n", edges=edges, layers=[])


def test_a_histogram_refuses_a_layer_of_another_length() -> None:
    with pytest.raises(ValueError, match="1 counts of 'kept' for 2 bins"):
        html.histogram("n", edges=[0, 1, 2], layers=[html.Layer("kept", [1], "c1")])


def test_a_forest_plot_draws_zero_at_one_place_and_points_inside_their_intervals() -> None:
    rows = [
        html.Interval("a", -0.3, -0.5, -0.1, "better", "good"),
        html.Interval("b", 0.2, -0.1, 0.5, "equal"),
    ]
    first, second, _ = svgs(html.forest_plot("t", rows, unit="bits").source)
    zeros = [
        share(line.attrib["x1"])
        for e in (first, second)
        for line in e.iter("line")
        if line.attrib["class"] == "zero"
    ]
    assert zeros[0] == zeros[1]
    for element, row in ((first, rows[0]), (second, rows[1])):
        whisker = next(line for line in element.iter("line") if line.attrib["class"] == "whisker")
        point = share(next(element.iter("circle")).attrib["cx"])
        low, high = share(whisker.attrib["x1"]), share(whisker.attrib["x2"])
        assert low < point < high
        assert (high < zeros[0]) == (row.high < 0)
        assert (point - low) / (high - low) == pytest.approx(
            (row.mean - row.low) / (row.high - row.low), abs=0.01
        )


def test_lines_of_one_name_share_a_colour_and_one_entry_of_the_legend() -> None:
    lines = [html.Line(name, [0, 1], [0, value]) for name, value in (("a", 1), ("b", 2), ("a", 3))]
    chart = html.line_chart("t", lines, x_label="x", y_label="y").source
    assert re.findall(r'<polyline class="(\w+)"', chart) == ["c1", "c2", "c1"]
    assert chart.count("</li>") == 2


def test_a_value_that_is_not_finite_breaks_a_line() -> None:
    line = html.Line("a", [0, 1, 2, 3, 4], [1, 2, math.nan, 4, 5])
    chart = html.line_chart("t", [line], x_label="x", y_label="y").source
    points = [match.split() for match in re.findall(r'points="([^"]+)"', chart)]
    assert [len(run) for run in points] == [2, 2]
    assert [run[0].split(",")[0] for run in points] == ["0.0", "750.0"]


def test_a_line_chart_without_points_is_still_a_chart() -> None:
    assert len(svgs(html.line_chart("t", [], x_label="x", y_label="y").source)) == 1


def test_a_mark_stands_at_its_value() -> None:
    chart = html.line_chart(
        "t", [html.Line("a", [0, 10], [0, 1])], x_label="x", y_label="y", marks=[html.Mark(8, "here")]
    )
    (element,) = svgs(chart.source)
    (mark,) = [line for line in element.iter("line") if line.attrib.get("class") == "cut"]
    assert share(mark.attrib["x1"]) == 80
