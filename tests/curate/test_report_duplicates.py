"""Pairs side by side: what differs is marked, what does not is cut short, and nothing becomes markup."""

from __future__ import annotations

import html
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from curate.report_duplicates import EXCERPT, differences


def shown(left: str, right: str) -> tuple[str, str]:
    a, b = differences(left, right)
    return a.source, b.source


def plain(source: str) -> str:
    return html.unescape(re.sub("</?mark>", "", source))


def marked(source: str) -> list[str]:
    return [html.unescape(text) for text in re.findall("<mark>(.*?)</mark>", source, re.DOTALL)]


def test_words_that_the_other_text_lacks_are_marked_on_either_side() -> None:
    left, right = shown("the quick brown fox jumps", "the quick red fox jumps high")
    assert (marked(left), marked(right)) == (["brown"], ["red", "high"])
    assert (plain(left), plain(right)) == ("the quick brown fox jumps", "the quick red fox jumps high")


def test_equal_texts_are_shown_from_their_beginning_without_marks() -> None:
    left, right = shown("word " * 500, "word " * 500)
    assert left == right == ("word " * 500)[:EXCERPT] + "…"


def test_long_stretches_that_agree_are_cut_to_what_stands_around_a_difference() -> None:
    words = [f"w{n}" for n in range(400)]
    other = [*words[:200], "new", *words[201:]]
    left, right = shown(" ".join(words), " ".join(other))
    assert (marked(left), marked(right)) == (["w200"], ["new"])
    assert plain(left) == "… " + " ".join(f"w{n}" for n in range(188, 213)) + " …"


def test_every_difference_is_shown_with_signs_where_words_are_left_out() -> None:
    words = [f"w{n}" for n in range(300)]
    other = ["x" if n in (50, 250) else word for n, word in enumerate(words)]
    left, _ = shown(" ".join(words), " ".join(other))
    assert marked(left) == ["w50", "w250"]
    assert plain(left).count("…") == 3


def test_scripts_without_spaces_are_compared_by_their_characters() -> None:
    left, right = shown("今日は天気がいい", "今日は天気が悪い")
    assert (marked(left), marked(right)) == (["い"], ["悪"]) or (marked(left), marked(right)) == (
        ["いい"],
        ["悪い"],
    )


@pytest.mark.parametrize("size", [10, 5_000])
def test_texts_that_have_nothing_in_common_are_cut(size: int) -> None:
    left, right = shown("a " * size, "b " * size)
    assert marked(left)[0].startswith("a a") and marked(right)[0].startswith("b b")
    assert max(len(left), len(right)) < 20 * EXCERPT


def test_markup_in_a_text_stays_text() -> None:
    left, right = shown("see <b>bold</b> & co", "see <mark>bold</mark> & co")
    assert "<b>" not in left
    assert marked(left) == ["<b>bold</b>"]
    assert right.count("<mark>") == 1


TEXTS = st.text(alphabet=st.sampled_from("ab \n<&é今\u0301"), max_size=60)


@given(left=TEXTS, right=TEXTS)
def test_short_texts_are_shown_whole_and_something_is_marked_where_words_differ(
    left: str, right: str
) -> None:
    a, b = shown(left, right)
    assert (plain(a), plain(b)) == (left, right)
    if left.split() == right.split():
        assert (marked(a), marked(b)) == ([], []) or left != right
    elif "今" not in left + right:
        assert marked(a) or marked(b)


def test_white_space_and_byte_order_marks_are_no_difference() -> None:
    a, b = differences("\ufeffone  two\n three old end", "one two three new end")
    assert a.source.count("<mark>") == b.source.count("<mark>") == 1
    assert "<mark>old</mark>" in a.source
    assert "<mark>new</mark>" in b.source
