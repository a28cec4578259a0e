"""Rules: bounds on signals, and which documents miss them.

    Rule      a signal, a bound, whether it is the least or the greatest allowed value, and who published it

Judging is a pure function of the signals, so bounds can be changed without measuring again. Every failing rule
of a document is reported, not the first. A value that equals its bound passes; a null, or NaN, fails nothing.

Price: one comparison of a column for each rule; no Python loop over documents.
"""

from __future__ import annotations

import dataclasses
import difflib
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from filters.errors import ConfigError

FAILING_SCHEMA = pa.schema(
    [("row", pa.int64()), ("rule", pa.string()), ("value", pa.float64()), ("bound", pa.float64())]
)


@dataclasses.dataclass(frozen=True, slots=True)
class Rule:
    """A bound on one signal.

    Attributes:
        name: what decisions call it, as "gopher.word_count.min"; unique in a policy.
        signal: column of the signals that it looks at.
        bound: the least ("min") or greatest ("max") value that passes; the bound itself passes.
        kind: "min" or "max".
        source: where the bound was published, or who chose it.

    >>> rule = Rule("gopher.word_count.min", "word_count", 50, "min", "Rae et al. 2021, section A1.1")
    >>> dataclasses.replace(rule, bound=30).bound
    30
    """

    name: str
    signal: str
    bound: float
    kind: Literal["min", "max"]
    source: str

    def __post_init__(self) -> None:
        if self.kind not in ("min", "max"):
            raise ValueError(f"rule {self.name!r}: kind is {self.kind!r}; 'min' and 'max' are allowed")
        if not _is_number(self.bound):
            raise ValueError(f"rule {self.name!r}: bound is {self.bound!r}; a finite number is allowed")
        for field, value in (("name", self.name), ("signal", self.signal)):
            if not value:
                raise ValueError(
                    f"rule {self.name!r} on signal {self.signal!r}: {field} is empty; give it one"
                )


def failing(signals: pa.Table, rules: Sequence[Rule]) -> pa.Table:
    """Every failing rule of every row: ``row int64, rule string, value float64, bound float64``.

    Sorted by row, then by the rule's name; a row that passes all rules does not occur.

    Args:
        signals: one row for each document, the rules' signals among its columns (numbers).
        rules: the bounds to hold the rows against.

    Raises:
        ConfigError: a rule looks at a signal that was not measured, or that is no number.

    >>> signals = pa.table({"word_count": [10, 80, None], "hash_word_ratio": [0.5, 0.1, 0.0]})
    >>> rules = [Rule("words.min", "word_count", 50, "min", "ours"),
    ...          Rule("hashes.max", "hash_word_ratio", 0.1, "max", "ours")]
    >>> [(found["row"], found["rule"], found["value"]) for found in failing(signals, rules).to_pylist()]
    [(0, 'hashes.max', 0.5), (0, 'words.min', 10.0)]
    """
    _check_signals(signals, rules)
    ordered = sorted(rules, key=lambda rule: rule.name)
    rows, ranks, values = [np.empty(0, np.int64)], [np.empty(0, np.int64)], [np.empty(0, np.float64)]
    for rank, rule in enumerate(ordered):
        column = pc.cast(
            signals[rule.signal], pa.float64()
        ).to_numpy()  # nulls become NaN: no comparison holds
        failed = np.flatnonzero(column < rule.bound if rule.kind == "min" else column > rule.bound)
        rows.append(failed)
        ranks.append(np.full(len(failed), rank))
        values.append(column[failed])
    failed_rows, failed_ranks = np.concatenate(rows), np.concatenate(ranks)
    order = np.lexsort((failed_ranks, failed_rows))
    failed_ranks = failed_ranks[order]
    names = pa.array([rule.name for rule in ordered], pa.string())
    bounds = np.array([rule.bound for rule in ordered], np.float64)
    columns = [
        failed_rows[order],
        names.take(pa.array(failed_ranks)),
        np.concatenate(values)[order],
        bounds[failed_ranks],
    ]
    return pa.table(columns, schema=FAILING_SCHEMA)


def set_bounds(
    rules: Iterable[Rule], bounds: Mapping[str, float], *, where: str = "policy.set"
) -> tuple[Rule, ...]:
    """The same rules in the same order, with new bounds for those named in ``bounds``.

    Args:
        rules: rules as published.
        bounds: new bound by the rule's full name.
        where: place in the user's configuration, for messages.

    Raises:
        ConfigError: names that no rule has (with the nearest one that there is), bounds that are no finite
            numbers, or a min above the max of the same signal; all of them at once.

    >>> rules = (Rule("gopher.word_count.min", "word_count", 50, "min", "Rae et al. 2021"),)
    >>> set_bounds(rules, {"gopher.word_count.min": 30})[0].bound
    30
    >>> set_bounds(rules, {"gopher.words.min": 30})
    Traceback (most recent call last):
    filters.errors.ConfigError: policy.set: no rule is called 'gopher.words.min'; did you mean 'gopher.word_count.min'?
    """
    rules = tuple(rules)
    names = [rule.name for rule in rules]
    faults = []
    for name, bound in bounds.items():
        if name not in names:
            near = difflib.get_close_matches(str(name), names, n=1, cutoff=0.5)
            hint = f"did you mean {near[0]!r}?" if near else f"the rules are {', '.join(names) or 'none'}"
            faults.append(f"{where}: no rule is called {name!r}; {hint}")
        elif not _is_number(bound):
            faults.append(f"{where}: {name} is {bound!r}; a finite number is allowed")
    if faults:
        raise ConfigError(faults)
    changed = tuple(dataclasses.replace(rule, bound=bounds.get(rule.name, rule.bound)) for rule in rules)
    faults = [f"{where}: {fault}" for fault in _contradictions(changed)]
    if faults:
        raise ConfigError(faults)
    return changed


def _contradictions(rules: Iterable[Rule]) -> list[str]:
    """Pairs of rules that no document can pass both of."""
    rules = tuple(rules)
    return [
        f"{least.name} is {least.bound:g} and {greatest.name} is {greatest.bound:g}: no document can pass both; "
        "the min may be at most the max"
        for least in rules
        for greatest in rules
        if least.signal == greatest.signal
        and (least.kind, greatest.kind) == ("min", "max")
        and least.bound > greatest.bound
    ]


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _check_signals(signals: pa.Table, rules: Sequence[Rule]) -> None:
    faults = []
    for rule in rules:
        if rule.signal not in signals.column_names:
            near = difflib.get_close_matches(rule.signal, signals.column_names, n=1)
            hint = (
                f"did you mean {near[0]!r}?"
                if near
                else f"measured are {', '.join(signals.column_names) or 'none'}"
            )
            faults.append(f"rule {rule.name}: its signal {rule.signal!r} was not measured; {hint}")
            continue
        kind = signals.schema.field(rule.signal).type
        if not (pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_null(kind)):
            faults.append(
                f"rule {rule.name}: its signal {rule.signal!r} is of type {kind}; a number is allowed"
            )
    if faults:
        raise ConfigError(faults)
