"""Charts: well-formed SVG that says what it shows, every length and place right."""

from __future__ import annotations

import math
import re
import xml.etree.ElementTree as ET
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from curate import charts

NASTY = "<script>alert('x')</script>\"' onload=\"x\" &amp; ]]> \x00\x1b\u202e\ud800"


def one_of_each(text: str) -> str:
    """The markup of every chart, ``text`` wherever a text may stand."""
    drawn = [
        charts.stacked_bars(
            text, [charts.Bar(text, [charts.Segment(text, 1, "c1"), charts.Segment("b", 2, "c2")], text)]
        ),
        charts.histogram(
            text,
            edges=[0, 1, 2],
            layers=[charts.Layer(text, [1, 2], "kept")],
            cuts=[charts.Cut(1, "below", text)],
            unit=text,
        ),
        charts.forest_plot(
            text, [charts.Interval(text, 0.1, -0.1, 0.3, text)], unit=text, below=text, above=text
        ),
        charts.line_chart(
            text,
            [charts.Line(text, [0, 1], [1, 2])],
            x_label=text,
            y_label=text,
            marks=[charts.Mark(0.5, text)],
        ),
    ]
    return "".join(chart.source for chart in drawn)


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


def test_every_chart_is_well_formed_and_says_what_it_shows() -> None:
    elements = svgs(one_of_each(NASTY))
    assert len(elements) == 5  # a bar, a histogram, a forest row with its axis, and a line chart
    for element in elements:
        assert element.attrib["role"] == "img"
        assert [child.tag for child in element[:2]] == ["title", "desc"]
        assert element[0].text and element[1].text


@given(
    st.floats(-1e6, 1e6),
    st.floats(1e-3, 1e6),
    st.integers(2, 10),
)
def test_ticks_are_round_values_inside_the_range(low: float, width: float, count: int) -> None:
    high = low + width
    values = charts.ticks(low, high, count)
    slack = 1e-6 * max(1, abs(low), abs(high))
    assert all(low - slack <= value <= high + slack for value in values)
    assert len(values) <= 2 * count + 1
    steps = {round(b - a, 9) for a, b in pairwise(values)}
    if len(steps) == 1 and width > 1e-2:
        mantissa = f"{steps.pop():.3e}".split("e")[0]
        assert float(mantissa) in (1.0, 2.0, 5.0)


def test_segments_of_a_bar_lie_end_to_end_and_fill_their_share() -> None:
    bars = [
        charts.Bar(
            "full",
            [charts.Segment("a", 30, "c1"), charts.Segment("b", 10, "c2"), charts.Segment("c", 60, "c3")],
        ),
        charts.Bar("half", [charts.Segment("a", 50, "c1"), charts.Segment("b", 0, "c2")]),
    ]
    full, half = svgs(charts.stacked_bars("t", bars, whole=100).source)
    rectangles = [r for r in full.iter("rect") if "x" in r.attrib]
    assert [share(r.attrib["width"]) for r in rectangles] == [30, 10, 60]
    assert [share(r.attrib["x"]) for r in rectangles] == [0, 30, 40]
    assert [share(r.attrib["width"]) for r in half.iter("rect") if "x" in r.attrib] == [50]


def test_without_a_whole_every_bar_fills_its_row() -> None:
    (element,) = svgs(
        charts.stacked_bars(
            "t", [charts.Bar("r", [charts.Segment("a", 1, "c1"), charts.Segment("b", 3, "c2")])]
        ).source
    )
    assert [share(r.attrib["width"]) for r in element.iter("rect") if "x" in r.attrib] == [25, 75]


def test_an_empty_bar_has_no_segment() -> None:
    (element,) = svgs(charts.stacked_bars("t", [charts.Bar("r", [charts.Segment("a", 0, "c1")])]).source)
    assert [r.attrib["width"] for r in element.iter("rect")] == ["100%"]


def test_a_histogram_stacks_its_layers_and_shades_the_dropped_side() -> None:
    chart = charts.histogram(
        "words",
        edges=[0, 50, 100, 200],
        layers=[charts.Layer("kept", [0, 6, 4], "kept"), charts.Layer("dropped", [5, 2, 0], "lost")],
        cuts=[charts.Cut(50, "below", "min 50")],
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
        charts.histogram(
            "r", edges=[0, 1], layers=[charts.Layer("n", [1], "c1")], cuts=[charts.Cut(0.2, "above", "max")]
        ).source
    )
    (shade,) = [r for r in element.iter("rect") if r.attrib["class"] == "shade"]
    assert (share(shade.attrib["x"]), share(shade.attrib["width"])) == (20, 80)


def test_a_logarithmic_axis_places_powers_of_ten_evenly() -> None:
    chart = charts.histogram(
        "n", edges=[1, 10, 100, 1000], layers=[charts.Layer("n", [1, 1, 1], "c1")], scale="log"
    )
    (element,) = svgs(chart.source)
    places = [share(r.attrib["x"]) for r in element.iter("rect")]
    assert places == pytest.approx([0, 100 / 3, 200 / 3], abs=0.01)
    labels = [t.text for t in element.iter("text")][1:]
    assert labels == ["1", "10", "100", "1,000"]


def test_an_empty_histogram_is_a_chart_without_bars() -> None:
    (element,) = svgs(charts.histogram("n", edges=[0, 1], layers=[charts.Layer("n", [0], "c1")]).source)
    assert list(element.iter("rect")) == []


@pytest.mark.parametrize("edges", [[1], [0, 0, 1], [1, 0]])
def test_a_histogram_refuses_edges_that_do_not_rise(edges: list[float]) -> None:
    with pytest.raises(ValueError, match="edges must rise"):
        charts.histogram("n", edges=edges, layers=[])


def test_a_histogram_refuses_a_layer_of_another_length() -> None:
    with pytest.raises(ValueError, match="1 counts of 'kept' for 2 bins"):
        charts.histogram("n", edges=[0, 1, 2], layers=[charts.Layer("kept", [1], "c1")])


def test_a_forest_plot_draws_zero_at_one_place_and_points_inside_their_intervals() -> None:
    rows = [
        charts.Interval("a", -0.3, -0.5, -0.1, "better", "good"),
        charts.Interval("b", 0.2, -0.1, 0.5, "equal"),
    ]
    first, second, _ = svgs(charts.forest_plot("t", rows, unit="bits").source)
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
    lines = [charts.Line(name, [0, 1], [0, value]) for name, value in (("a", 1), ("b", 2), ("a", 3))]
    chart = charts.line_chart("t", lines, x_label="x", y_label="y").source
    assert re.findall(r'<polyline class="(\w+)"', chart) == ["c1", "c2", "c1"]
    assert chart.count("</li>") == 2


def test_a_value_that_is_not_finite_breaks_a_line() -> None:
    line = charts.Line("a", [0, 1, 2, 3, 4], [1, 2, math.nan, 4, 5])
    chart = charts.line_chart("t", [line], x_label="x", y_label="y").source
    points = [match.split() for match in re.findall(r'points="([^"]+)"', chart)]
    assert [len(run) for run in points] == [2, 2]
    assert [run[0].split(",")[0] for run in points] == ["0.0", "750.0"]


def test_a_line_chart_without_points_is_still_a_chart() -> None:
    assert len(svgs(charts.line_chart("t", [], x_label="x", y_label="y").source)) == 1


def test_a_mark_stands_at_its_value() -> None:
    chart = charts.line_chart(
        "t", [charts.Line("a", [0, 10], [0, 1])], x_label="x", y_label="y", marks=[charts.Mark(8, "here")]
    )
    (element,) = svgs(chart.source)
    (mark,) = [line for line in element.iter("line") if line.attrib.get("class") == "cut"]
    assert share(mark.attrib["x1"]) == 80
