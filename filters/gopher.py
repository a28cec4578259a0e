"""The rules of Gopher's training data as published: Rae et al. 2021, arXiv:2112.11446, appendix A1.1.

GOPHER is the paper's quality filtering, GOPHER_REPETITION its repetition removal (Table A1). A bound itself
passes: the paper drops what has "more than" a share or lies outside a range. What each signal means exactly, and
where datatrove and Dolma differ, is in ``filters.scan`` and ``filters.repetition``.

Mind before use: the stop words are English, and a language written without spaces has few, long words. On other
languages use GOPHER_REPETITION and set or leave out the bounds on words (``filters.rules.set_bounds``).

Rule names are "group.signal.kind", as "gopher.word_count.min".
"""

from __future__ import annotations

from filters.rules import Rule

_QUALITY = "Rae et al. 2021, arXiv:2112.11446, section A1.1, quality filtering: "
_TABLE = "Rae et al. 2021, arXiv:2112.11446, Table A1: "

GOPHER: tuple[Rule, ...] = (
    Rule("gopher.word_count.min", "word_count", 50, "min", _QUALITY + "50 to 100,000 words"),
    Rule("gopher.word_count.max", "word_count", 100_000, "max", _QUALITY + "50 to 100,000 words"),
    Rule(
        "gopher.mean_word_length.min", "mean_word_length", 3, "min", _QUALITY + "mean of 3 to 10 characters"
    ),
    Rule(
        "gopher.mean_word_length.max", "mean_word_length", 10, "max", _QUALITY + "mean of 3 to 10 characters"
    ),
    Rule("gopher.hash_word_ratio.max", "hash_word_ratio", 0.1, "max", _QUALITY + "at most 0.1 hashes a word"),
    Rule(
        "gopher.ellipsis_word_ratio.max",
        "ellipsis_word_ratio",
        0.1,
        "max",
        _QUALITY + "at most 0.1 ellipses a word",
    ),
    Rule(
        "gopher.bullet_line_ratio.max",
        "bullet_line_ratio",
        0.9,
        "max",
        _QUALITY + "at most 90% of lines with a bullet",
    ),
    Rule(
        "gopher.ellipsis_line_ratio.max",
        "ellipsis_line_ratio",
        0.3,
        "max",
        _QUALITY + "at most 30% of lines end with an ellipsis",
    ),
    Rule(
        "gopher.alphabetic_word_ratio.min",
        "alphabetic_word_ratio",
        0.8,
        "min",
        _QUALITY + "80% of words with an alphabetic character",
    ),
    Rule(
        "gopher.stop_word_count.min",
        "stop_word_count",
        2,
        "min",
        _QUALITY + "two of eight English stop words",
    ),
)


def _repetition(signal: str, bound: float, row: str) -> Rule:
    return Rule(f"gopher_repetition.{signal}.max", signal, bound, "max", _TABLE + row)


GOPHER_REPETITION: tuple[Rule, ...] = (
    _repetition("duplicate_line_ratio", 0.30, "duplicate line fraction"),
    _repetition("duplicate_paragraph_ratio", 0.30, "duplicate paragraph fraction"),
    _repetition("duplicate_line_char_ratio", 0.20, "duplicate line character fraction"),
    _repetition("duplicate_paragraph_char_ratio", 0.20, "duplicate paragraph character fraction"),
    _repetition("top_2gram_char_ratio", 0.20, "top 2-gram character fraction"),
    _repetition("top_3gram_char_ratio", 0.18, "top 3-gram character fraction"),
    _repetition("top_4gram_char_ratio", 0.16, "top 4-gram character fraction"),
    _repetition("duplicate_5gram_char_ratio", 0.15, "duplicate 5-gram character fraction"),
    _repetition("duplicate_6gram_char_ratio", 0.14, "duplicate 6-gram character fraction"),
    _repetition("duplicate_7gram_char_ratio", 0.13, "duplicate 7-gram character fraction"),
    _repetition("duplicate_8gram_char_ratio", 0.12, "duplicate 8-gram character fraction"),
    _repetition("duplicate_9gram_char_ratio", 0.11, "duplicate 9-gram character fraction"),
    _repetition("duplicate_10gram_char_ratio", 0.10, "duplicate 10-gram character fraction"),
)

RULES: dict[str, tuple[Rule, ...]] = {"gopher": GOPHER, "gopher_repetition": GOPHER_REPETITION}
