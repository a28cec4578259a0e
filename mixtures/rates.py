"""Rates: how much of a mixture each leaf is. A rate is a function of the leaves' sizes, and parts nest.

    flan .46   ├─ nli   min(size, cap) of nli
               └─ qa    min(size, cap) of qa      shares inside a part are relative to its sum,
    cot  .06   └─ gsm8k ...                       the part's weight to the sum of its siblings'

Examples-proportional mixing with an artificial data set size limit (Raffel et al. 2020, arXiv:1910.10683, section
3.5.2): the rate of a task with e rows is min(e, K). So large tasks do not drown small ones, and none is repeated much
more often than another below the cap.
"""

from __future__ import annotations

from collections.abc import Mapping
from fractions import Fraction

Sizes = Mapping[str, int]


def proportional(
    sizes: Sizes, *, cap: int | None = None, caps: Mapping[str, int] | None = None
) -> dict[str, Fraction]:
    """min(size, cap) of each, with ``caps`` of single ones where they are lower.

    >>> {name: int(rate) for name, rate in proportional({"nli": 90_000, "copa": 400}, cap=30_000).items()}
    {'nli': 30000, 'copa': 400}
    """
    own = caps or {}
    limits = {
        name: min(limit for limit in (size, cap, own.get(name)) if limit is not None)
        for name, size in sizes.items()
    }
    return {name: Fraction(limit) for name, limit in limits.items()}


def equal(sizes: Sizes) -> dict[str, Fraction]:
    """The same for all that have rows.

    >>> equal({"nli": 90_000, "copa": 400, "empty": 0})
    {'nli': Fraction(1, 1), 'copa': Fraction(1, 1), 'empty': Fraction(0, 1)}
    """
    return {name: Fraction(int(size > 0)) for name, size in sizes.items()}


def explicit(sizes: Sizes, *, numbers: Mapping[str, float]) -> dict[str, Fraction]:
    """The numbers that the config gives, exactly as they are written there."""
    return {name: exact(numbers[name]) for name in sizes}


def normalized(rates: Mapping[str, Fraction]) -> dict[str, Fraction]:
    """Rates as shares of their sum.

    >>> normalized({"a": Fraction(3), "b": Fraction(1)})
    {'a': Fraction(3, 4), 'b': Fraction(1, 4)}
    """
    total = sum(rates.values())
    if total <= 0:
        raise ValueError(f"no rate is above 0 among {', '.join(rates)}")
    return {name: rate / total for name, rate in rates.items()}


def exact(number: float) -> Fraction:
    """The decimal number that a float prints as, exactly.

    >>> exact(0.1) + exact(0.2) == exact(0.3)
    True
    """
    return Fraction(repr(number))
