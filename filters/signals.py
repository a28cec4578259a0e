"""Signals: the measured numbers of a column of texts, one Arrow column for each signal.

    texts ["a b", None, ...]  --text_signals-->  char_count  word_count  mean_word_length  ...
                                                          3           2               1.0
                                                          0           0               0.0

Definitions, their source and how they differ from other implementations are in ``filters.scan`` (group
"gopher") and ``filters.repetition`` (group "gopher_repetition"). Measuring deletes nothing and knows no bounds:
those are rules (``filters.rules``).

Counts are int64, ratios and means float64. A signal that has nothing to divide by is 0, so no signal is ever
null or NaN; a null text is an empty one. Ratios lie in [0, 1], but hash_word_ratio and ellipsis_word_ratio count
symbols, of which a word can hold many. Numbers depend on a text alone: not on its neighbours, the batch, the
machine or the number of threads.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from filters.column import Bytes, Offsets, Texts, as_large_string, string_buffers
from filters.errors import ConfigError, DataError

SIGNALS: dict[str, tuple[str, ...]] = {
    "gopher": (
        "char_count",
        "byte_count",
        "word_count",
        "line_count",
        "paragraph_count",
        "mean_word_length",
        "hash_word_ratio",
        "ellipsis_word_ratio",
        "bullet_line_ratio",
        "ellipsis_line_ratio",
        "alphabetic_word_ratio",
        "stop_word_count",
    ),
    "gopher_repetition": (
        "duplicate_line_ratio",
        "duplicate_paragraph_ratio",
        "duplicate_line_char_ratio",
        "duplicate_paragraph_char_ratio",
        "top_2gram_char_ratio",
        "top_3gram_char_ratio",
        "top_4gram_char_ratio",
        "duplicate_5gram_char_ratio",
        "duplicate_6gram_char_ratio",
        "duplicate_7gram_char_ratio",
        "duplicate_8gram_char_ratio",
        "duplicate_9gram_char_ratio",
        "duplicate_10gram_char_ratio",
    ),
}


def text_signals(texts: Texts, *, groups: Sequence[str] = ("gopher", "gopher_repetition")) -> pa.Table:
    """Measure a column of texts: one row for each text, in order, and one column for each signal of ``groups``.

    Columns come in the order of ``SIGNALS``, whatever the order of ``groups``. Chunks of a ChunkedArray are
    measured one after the other without joining them.

    Args:
        texts: string, large_string or string_view column; a null counts as an empty text.
        groups: keys of ``SIGNALS``.

    Raises:
        ConfigError: a group that is not in ``SIGNALS``.
        DataError: the column does not hold strings.

    >>> table = text_signals(pa.array(["To be, or not to be...", None]), groups=["gopher"])
    >>> table.select(["word_count", "mean_word_length", "stop_word_count"]).to_pylist()[0]
    {'word_count': 6, 'mean_word_length': 2.8333333333333335, 'stop_word_count': 2}
    >>> table["mean_word_length"].to_pylist()
    [2.8333333333333335, 0.0]
    """
    _check_groups(groups)
    _check_type(texts)
    chunks = texts.chunks if isinstance(texts, pa.ChunkedArray) else [texts]
    columns: dict[str, npt.NDArray] = {}
    # The kernels are imported here, not above: who only wants the names of signals need not wait for Numba.
    if "gopher" in groups:
        from filters.scan import COUNTS, count_text

        columns |= _gopher(_count(chunks, count_text, COUNTS))
    if "gopher_repetition" in groups:
        from filters.repetition import REPETITION_COUNTS, count_repetition

        columns |= _gopher_repetition(_count(chunks, count_repetition, REPETITION_COUNTS))
    names = [name for group, names in SIGNALS.items() if group in groups for name in names]
    return pa.table([np.ascontiguousarray(columns[name]) for name in names], names=names)


def _count(
    chunks: Sequence[pa.Array],
    kernel: Callable[[Offsets, Bytes], npt.NDArray[np.int64]],
    names: Sequence[str],
) -> dict[str, npt.NDArray[np.int64]]:
    """The columns of a kernel's counts over all chunks; no chunk's copy outlives its turn."""
    counts = [np.empty((0, len(names)), np.int64)]
    for chunk in chunks:
        column = as_large_string(chunk)
        if column.null_count:  # Arrow lets the slot of a null hold bytes
            column = pc.fill_null(column, "")
        counts.append(kernel(*string_buffers(column)))
    return dict(zip(names, np.concatenate(counts).T, strict=True))


def _gopher(counts: dict[str, npt.NDArray[np.int64]]) -> dict[str, npt.NDArray]:
    words, lines = counts["word_count"], counts["line_count"]
    return {
        "char_count": counts["char_count"],
        "byte_count": counts["byte_count"],
        "word_count": words,
        "line_count": lines,
        "paragraph_count": counts["paragraph_count"],
        "mean_word_length": _ratio(counts["word_chars"], words),
        "hash_word_ratio": _ratio(counts["hashes"], words),
        "ellipsis_word_ratio": _ratio(counts["ellipses"], words),
        "bullet_line_ratio": _ratio(counts["bullet_lines"], lines),
        "ellipsis_line_ratio": _ratio(counts["ellipsis_lines"], lines),
        "alphabetic_word_ratio": _ratio(counts["alphabetic_words"], words),
        "stop_word_count": counts["stop_words"],
    }


def _gopher_repetition(counts: dict[str, npt.NDArray[np.int64]]) -> dict[str, npt.NDArray]:
    chars = counts["char_count"]
    columns = {
        "duplicate_line_ratio": _ratio(counts["duplicate_lines"], counts["line_count"]),
        "duplicate_paragraph_ratio": _ratio(counts["duplicate_paragraphs"], counts["paragraph_count"]),
        "duplicate_line_char_ratio": _ratio(counts["duplicate_line_chars"], chars),
        "duplicate_paragraph_char_ratio": _ratio(counts["duplicate_paragraph_chars"], chars),
    }
    for n in (2, 3, 4):
        columns[f"top_{n}gram_char_ratio"] = _ratio(counts[f"top_{n}gram_chars"], chars)
    for n in (5, 6, 7, 8, 9, 10):
        columns[f"duplicate_{n}gram_char_ratio"] = _ratio(counts[f"duplicate_{n}gram_chars"], chars)
    return columns


def _ratio(numerator: npt.NDArray[np.int64], denominator: npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
    """0 where there is nothing to divide by."""
    return np.divide(numerator, denominator, out=np.zeros(len(numerator)), where=denominator > 0)


def _check_groups(groups: Sequence[str]) -> None:
    if isinstance(groups, str):
        raise ConfigError(f"text_signals: groups is the string {groups!r}; give a list: [{groups!r}]")
    if not groups:
        raise ConfigError(f"text_signals: no group of signals was named; there are {', '.join(SIGNALS)}")
    faults = []
    for group in groups:
        if group not in SIGNALS:
            near = difflib.get_close_matches(str(group), SIGNALS, n=1)
            hint = f"did you mean {near[0]!r}?" if near else f"there are {', '.join(SIGNALS)}"
            faults.append(f"text_signals: no group of signals is called {group!r}; {hint}")
    if faults:
        raise ConfigError(faults)


def _check_type(texts: Texts) -> None:
    kind = texts.type
    is_text = pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind)
    if not (is_text or pa.types.is_null(kind)):
        raise DataError(
            f"text_signals: the column of texts is of type {kind}; string, large_string or string_view are "
            "allowed. Cast it first: column.cast('string')"
        )
