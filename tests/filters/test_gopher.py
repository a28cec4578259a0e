"""The published bounds, each crossed by one step with a real text."""

from __future__ import annotations

import pyarrow as pa
import pytest

from filters.gopher import GOPHER, GOPHER_REPETITION, RULES
from filters.rules import failing
from filters.signals import SIGNALS, text_signals

# Transcribed from Rae et al. 2021, arXiv:2112.11446, section A1.1 and Table A1.
PUBLISHED = {
    "gopher.word_count.min": 50,
    "gopher.word_count.max": 100000,
    "gopher.mean_word_length.min": 3,
    "gopher.mean_word_length.max": 10,
    "gopher.hash_word_ratio.max": 0.1,
    "gopher.ellipsis_word_ratio.max": 0.1,
    "gopher.bullet_line_ratio.max": 0.9,
    "gopher.ellipsis_line_ratio.max": 0.3,
    "gopher.alphabetic_word_ratio.min": 0.8,
    "gopher.stop_word_count.min": 2,
    "gopher_repetition.duplicate_line_ratio.max": 0.30,
    "gopher_repetition.duplicate_paragraph_ratio.max": 0.30,
    "gopher_repetition.duplicate_line_char_ratio.max": 0.20,
    "gopher_repetition.duplicate_paragraph_char_ratio.max": 0.20,
    "gopher_repetition.top_2gram_char_ratio.max": 0.20,
    "gopher_repetition.top_3gram_char_ratio.max": 0.18,
    "gopher_repetition.top_4gram_char_ratio.max": 0.16,
    "gopher_repetition.duplicate_5gram_char_ratio.max": 0.15,
    "gopher_repetition.duplicate_6gram_char_ratio.max": 0.14,
    "gopher_repetition.duplicate_7gram_char_ratio.max": 0.13,
    "gopher_repetition.duplicate_8gram_char_ratio.max": 0.12,
    "gopher_repetition.duplicate_9gram_char_ratio.max": 0.11,
    "gopher_repetition.duplicate_10gram_char_ratio.max": 0.10,
}


def ordinary(words: int) -> str:
    """Words that differ, four letters each."""
    return " ".join(f"w{number:03d}" for number in range(words))


def padded(text: str, chars: int) -> str:
    """The text and one more word, ``chars`` characters together."""
    return text + " " + "p" * (chars - len(text) - 1)


def twice(phrase: str, chars: int) -> str:
    return padded(f"{phrase} between {phrase}", chars)


def numbered(lines: int, separator: str) -> str:
    return separator.join(f"line {number}" for number in range(lines))


# rule: (a text at the bound, a text one step beyond it)
TEXTS = {
    "gopher.word_count.min": (ordinary(50), ordinary(49)),
    "gopher.word_count.max": ("word " * 100_000, "word " * 100_001),
    "gopher.mean_word_length.min": ("ab abcd", "ab abcd ab"),
    "gopher.mean_word_length.max": ("a" * 9 + " " + "b" * 11, "a" * 9 + " " + "b" * 12),
    "gopher.hash_word_ratio.max": ("#tag " + ordinary(9), "#tag " + ordinary(8)),
    "gopher.ellipsis_word_ratio.max": ("well... " + ordinary(9), "well… " + ordinary(8)),
    "gopher.bullet_line_ratio.max": ("- item\n" * 9 + "no item", "• item\n" * 10 + "no item"),
    "gopher.ellipsis_line_ratio.max": ("more...\n" * 3 + "end\n" * 7, "more…\n" * 3 + "end\n" * 6),
    "gopher.alphabetic_word_ratio.min": ("a b c d 1", "a b c d 1 2"),
    "gopher.stop_word_count.min": ("The cat sat with a dog", "The cat sat or the dog"),
    "gopher_repetition.duplicate_line_ratio.max": (
        numbered(7, "\n") + "\nline 0" * 3,
        numbered(6, "\n") + "\nline 0" * 3,
    ),
    "gopher_repetition.duplicate_paragraph_ratio.max": (
        numbered(7, "\n\n") + "\n\nline 0" * 3,
        numbered(6, "\n\n") + "\n\nline 0" * 3,
    ),
    # Twenty characters occur again among a hundred; then among ninety-nine.
    "gopher_repetition.duplicate_line_char_ratio.max": (
        padded(f"{'l' * 20}\n{'l' * 20}\n.", 100),
        padded(f"{'l' * 20}\n{'l' * 20}\n.", 99),
    ),
    "gopher_repetition.duplicate_paragraph_char_ratio.max": (
        padded(f"{'l' * 9}\n{'m' * 10}\n\n{'l' * 9}\n{'m' * 10}\n\n.", 100),
        padded(f"{'l' * 9}\n{'m' * 10}\n\n{'l' * 9}\n{'m' * 10}\n\n.", 99),
    ),
    "gopher_repetition.top_2gram_char_ratio.max": (twice("abcd efghi", 100), twice("abcd efghi", 99)),
    "gopher_repetition.top_3gram_char_ratio.max": (twice("abc de fg", 100), twice("abc de fg", 99)),
    "gopher_repetition.top_4gram_char_ratio.max": (twice("ab c d e", 100), twice("ab c d e", 99)),
    "gopher_repetition.duplicate_5gram_char_ratio.max": (
        twice("abc def ghi jkl mno", 100),
        twice("abc def ghi jkl mno", 99),
    ),
    "gopher_repetition.duplicate_6gram_char_ratio.max": (
        twice("abc def gh ij kl mn", 100),
        twice("abc def gh ij kl mn", 99),
    ),
    "gopher_repetition.duplicate_7gram_char_ratio.max": (
        twice("ab cd ef gh ij kl m", 100),
        twice("ab cd ef gh ij kl m", 99),
    ),
    "gopher_repetition.duplicate_8gram_char_ratio.max": (
        twice("ab cd ef gh i j k l", 100),
        twice("ab cd ef gh i j k l", 99),
    ),
    "gopher_repetition.duplicate_9gram_char_ratio.max": (
        twice("ab cd e f g h i j k", 100),
        twice("ab cd e f g h i j k", 99),
    ),
    "gopher_repetition.duplicate_10gram_char_ratio.max": (
        twice("a b c d e f g h i j", 100),
        twice("a b c d e f g h i j", 99),
    ),
}


def test_rules_are_those_of_the_paper_and_no_others():
    assert {rule.name: rule.bound for rule in GOPHER + GOPHER_REPETITION} == PUBLISHED
    assert RULES == {"gopher": GOPHER, "gopher_repetition": GOPHER_REPETITION}


@pytest.mark.parametrize("name", PUBLISHED)
def test_a_text_at_the_bound_passes_and_one_step_beyond_fails(name):
    (rule,) = [rule for rule in GOPHER + GOPHER_REPETITION if rule.name == name]
    signals = text_signals(pa.array(TEXTS[name]))
    assert signals[rule.signal][0].as_py() == rule.bound
    found = failing(signals, [rule])
    assert found["row"].to_pylist() == [1]
    assert found["value"].to_pylist() == [signals[rule.signal][1].as_py()]


@pytest.mark.parametrize("group", RULES)
def test_a_rule_is_named_for_its_group_signal_and_kind_and_says_its_source(group):
    for rule in RULES[group]:
        assert rule.name == f"{group}.{rule.signal}.{rule.kind}"
        assert rule.signal in SIGNALS[group]
        assert rule.source.startswith("Rae et al. 2021, arXiv:2112.11446, ")


def test_the_published_rules_make_a_policy_that_ordinary_prose_passes_and_spam_does_not():
    prose = (
        "Marine chronometers were carried on ships so that navigators could have an accurate time with which to "
        "compare the height of the sun at noon. The difference between local noon and noon at the home port gave "
        "the longitude, and a mistake of one minute put the ship fifteen miles away from where it was thought to "
        "be. Makers therefore fought temperature, friction and damp with ever stranger springs.\n\n"
        "In the end a clock the size of a dinner plate won the prize."
    )
    signals = text_signals(pa.array([prose, "Buy now!!! #sale #deal " * 20]))
    found = failing(signals, GOPHER + GOPHER_REPETITION)
    assert found["row"].to_pylist() == [1] * found.num_rows
    assert {"gopher.hash_word_ratio.max", "gopher.stop_word_count.min"} < set(found["rule"].to_pylist())
    assert "gopher_repetition.duplicate_10gram_char_ratio.max" in found["rule"].to_pylist()
