"""Pages: everything escaped, nothing loaded, numbers written as they are read."""

from __future__ import annotations

import math
import re
from html.parser import HTMLParser

import pytest
from hypothesis import given
from hypothesis import strategies as st

from curate import charts, html

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
    parts: list[html.Content] = [
        text,
        html.tiles([html.Tile(text, text, text)]),
        numbers,
        html.figure(text, *drawn),
        html.grid(drawn),
        html.card(text, html.side_by_side([(text, html.marked(text, 0, 3))])),
        html.subheading(text),
        html.notice(text, "bad"),
        html.details(text, html.code(text)),
        html.legend([(text, "c1"), (text, "c2")]),
        html.badge(text, "good"),
    ]  # fmt: skip
    return html.page(text, html.fragment(html.strong(text), text), [html.Section(text, parts)], kicker=text)


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


def test_a_table_writes_integers_with_separators_and_nothing_as_a_dash() -> None:
    page = Reader(html.table(["a", "b", "c"], [["x", 12345, None]], align="lrr", caption="c").source)
    assert [text for text in page.text if text.strip()] == ["c", "a", "b", "c", "x", "12,345", "–"]


def test_a_table_refuses_rows_and_alignments_of_another_width() -> None:
    with pytest.raises(ValueError, match="a row of 1 cells in a table of 2 columns"):
        html.table(["a", "b"], [["x"]], align="lr", caption="c")
    with pytest.raises(ValueError, match="align 'l' for 2 columns"):
        html.table(["a", "b"], [], align="l", caption="c")
