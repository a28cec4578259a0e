"""The public face of the text signals: columns, types, batches, nulls, slices and mistakes."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from filters.errors import ConfigError, DataError
from filters.signals import SIGNALS, text_signals

TEXTS = [
    "The quick brown fox...\n- jumps\n- jumps\n\n#1 of all foxes",
    "",
    " \r\n\t\n",
    "日本語 の 文章 です。\r\n\r\n日本語 の 文章 です。",
    "😀 𐍈 \u2028 a\u00a0b\u3000c …",
    "to be or not to be " * 7,
    "x",
]
INTEGERS = {"char_count", "byte_count", "word_count", "line_count", "paragraph_count", "stop_word_count"}


def test_every_signal_is_one_column_of_the_declared_type_in_the_declared_order():
    table = text_signals(pa.array(TEXTS))
    assert table.column_names == [*SIGNALS["gopher"], *SIGNALS["gopher_repetition"]]
    assert {field.name for field in table.schema if field.type == pa.int64()} == INTEGERS
    assert {field.type for field in table.schema if field.name not in INTEGERS} == {pa.float64()}
    assert table.num_rows == len(TEXTS)


def test_signals_of_a_text_computed_by_hand():
    (row,) = text_signals(pa.array(["the cat #1...\r\n\r\n* the cat #1...\r\n"])).to_pylist()
    assert row == {
        "char_count": 34,
        "byte_count": 34,
        "word_count": 7,
        "line_count": 2,
        "paragraph_count": 2,
        "mean_word_length": (3 + 3 + 5 + 1 + 3 + 3 + 5) / 7,
        "hash_word_ratio": 2 / 7,
        "ellipsis_word_ratio": 2 / 7,
        "bullet_line_ratio": 1 / 2,
        "ellipsis_line_ratio": 1.0,
        "alphabetic_word_ratio": 4 / 7,
        "stop_word_count": 1,
        "duplicate_line_ratio": 0.0,
        "duplicate_paragraph_ratio": 0.0,
        "duplicate_line_char_ratio": 0.0,
        "duplicate_paragraph_char_ratio": 0.0,
        "top_2gram_char_ratio": 2 * len("the cat") / 34,
        "top_3gram_char_ratio": 2 * len("the cat #1...") / 34,
        "top_4gram_char_ratio": 0.0,
        **{f"duplicate_{n}gram_char_ratio": 0.0 for n in range(5, 11)},
    }


def test_repetition_ratios_of_a_text_computed_by_hand():
    text = "a b c d e f\na b c d e f\n\na b c d e f\na b c d e f\n"  # 49 characters, 4 equal lines, 2 equal paragraphs
    (row,) = text_signals(pa.array([text]), groups=["gopher_repetition"]).to_pylist()
    assert row == {
        "duplicate_line_ratio": 3 / 4,
        "duplicate_paragraph_ratio": 1 / 2,
        "duplicate_line_char_ratio": 3 * 11 / 49,
        "duplicate_paragraph_char_ratio": 23 / 49,
        "top_2gram_char_ratio": 4 * 3 / 49,
        "top_3gram_char_ratio": 4 * 5 / 49,
        "top_4gram_char_ratio": 4 * 7 / 49,
        # Words 0-5 are new; from word 6 on every n-gram that starts at a multiple of six was met before.
        "duplicate_5gram_char_ratio": 15 / 49,
        "duplicate_6gram_char_ratio": 18 / 49,
        "duplicate_7gram_char_ratio": 14 / 49,
        "duplicate_8gram_char_ratio": 16 / 49,
        "duplicate_9gram_char_ratio": 18 / 49,
        "duplicate_10gram_char_ratio": 10 / 49,
    }


def test_a_text_without_words_has_zero_everywhere_but_in_its_sizes():
    table = text_signals(pa.array(["", None, " \r\n\t\u3000"]))
    assert table["char_count"].to_pylist() == [0, 0, 5]
    assert table["byte_count"].to_pylist() == [0, 0, 7]
    for name in table.column_names[2:]:
        assert table[name].to_pylist() == [0, 0, 0], name


@settings(deadline=None)  # the first example compiles the kernels
@given(st.lists(st.one_of(st.none(), st.sampled_from(TEXTS), st.text(max_size=40)), max_size=12), st.data())
def test_batches_chunks_and_slices_give_the_numbers_of_the_whole(texts, data):
    whole = text_signals(pa.array(texts, pa.string()))
    assert sum(column.null_count for column in whole.columns) == 0
    assert not any(np.isnan(column.to_numpy()).any() for column in whole.columns)
    start = data.draw(st.integers(0, len(texts)))
    stop = data.draw(st.integers(start, len(texts)))
    for kind in (pa.string(), pa.large_string(), pa.string_view()):
        column = pa.array(texts, kind)
        assert text_signals(column) == whole
        assert text_signals(column.slice(start, stop - start)) == whole.slice(start, stop - start)
        chunks = [column[:start], column[start:stop], column[stop:]]
        assert text_signals(pa.chunked_array(chunks, kind)) == whole


def test_order_and_neighbours_change_no_number():
    forwards = text_signals(pa.array(TEXTS)).to_pylist()
    backwards = text_signals(pa.array(TEXTS[::-1])).to_pylist()
    assert backwards == forwards[::-1]
    assert [text_signals(pa.array([text])).to_pylist()[0] for text in TEXTS] == forwards


def test_a_null_is_an_empty_text_even_where_its_slot_holds_bytes():
    validity = pa.py_buffer(bytes([0b101]))
    offsets = pa.py_buffer(np.array([0, 1, 7, 8], np.int64))
    texts = pa.LargeStringArray.from_buffers(3, offsets, pa.py_buffer(b"ahiddenb"), validity)
    assert texts.to_pylist() == ["a", None, "b"]
    assert text_signals(texts)["char_count"].to_pylist() == [1, 0, 1]


@pytest.mark.parametrize(
    "empty",
    [
        pa.array([], pa.string()),
        pa.chunked_array([], pa.large_string()),
        pa.array(TEXTS).slice(3, 0),
        pa.nulls(0),
    ],
    ids=["array", "no chunks", "slice", "null type"],
)
def test_no_texts_give_an_empty_table_with_all_columns(empty):
    table = text_signals(empty)
    assert table.schema == text_signals(pa.array(TEXTS)).schema
    assert table.num_rows == 0


def test_one_group_gives_the_same_columns_as_both_groups():
    both = text_signals(pa.array(TEXTS))
    for group, names in SIGNALS.items():
        assert text_signals(pa.array(TEXTS), groups=[group]) == both.select(list(names))
    assert text_signals(pa.array(TEXTS), groups=["gopher_repetition", "gopher", "gopher"]) == both


def test_ratios_lie_between_0_and_1_but_symbols_for_each_word_may_be_more():
    table = text_signals(pa.array([*TEXTS, "### ……", "ha " * 50, "a\n" * 50]))
    assert table["hash_word_ratio"].to_pylist()[-3] == 1.5
    for name in table.column_names:
        if name.endswith("_ratio") and name not in ("hash_word_ratio", "ellipsis_word_ratio"):
            bounds = pc.min_max(table[name]).as_py()
            assert 0 <= bounds["min"] <= bounds["max"] <= 1, name


@pytest.mark.parametrize(
    ("groups", "message"),
    [
        (["gohper"], "no group of signals is called 'gohper'; did you mean 'gopher'?"),
        (["gopher", "zzz"], "no group of signals is called 'zzz'; there are gopher, gopher_repetition"),
        ("gopher", "groups is the string 'gopher'; give a list: ['gopher']"),
        ([], "no group of signals was named; there are gopher, gopher_repetition"),
    ],
)
def test_a_wrong_group_is_refused_with_what_there_is(groups, message):
    with pytest.raises(ConfigError) as caught:
        text_signals(pa.array(TEXTS), groups=groups)
    assert str(caught.value) == f"text_signals: {message}"


def test_a_column_that_holds_no_strings_is_refused_by_its_type():
    with pytest.raises(
        DataError, match=r"is of type int64; string, large_string or string_view are allowed\. Cast"
    ):
        text_signals(pa.array([1, 2]))


def test_names_of_signals_and_rules_are_known_without_loading_numba():
    code = "import sys, filters.signals, filters.gopher; print('numba' in sys.modules)"
    assert (
        subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
        == "False\n"
    )
