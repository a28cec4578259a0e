"""Which arm of a study is better, by how much, and how sure one may be.

    arm       a mixture (or the base model) that was trained and scored
    seed      of a training run: its data order; arms share seeds, so that their differences are paired
    item      one held-out (input, target); datasets hold items
    score     negative log-likelihood of an item's target in nats, and the target's length in UTF-8 bytes

**Bits per byte** of a dataset is the sum of its items' nats over (ln 2 x the sum of their bytes), so that long targets
weigh what they are; the macro average over datasets weighs every dataset the same. Lower is better.

**A difference** between two arms is taken item by item and averaged over seeds. Its interval has two parts:

- a hierarchical percentile bootstrap gives the shape: datasets, then items within each drawn dataset. Two stages count
  the items' noise twice (Davison and Hinkley 1997, section 3.8), so the deviations are brought to the standard error
  between datasets, which holds it once (clustered standard error, Miller 2024, arXiv:2411.00640);
- normal noise of the variance that training seeds add. The same arm under another seed is another model: with seeds
  only averaged, studies tell two equal arms apart in up to 30% of worlds whose seeds matter. The variance is pooled over
  all arms: what remains of macro bits per byte when arm and seed effects are taken out, less what the first part holds
  already, as in two-way clustering (Cameron, Gelbach and Miller 2011).

Both rest on few units, so plain percentiles are too narrow (15 to 20% false alarms with three datasets). As in the
expanded percentile interval of Hesterberg 2015 (The American Statistician 69:371), deviations are multiplied by the
ratio of Student's to the normal quantile, with Welch and Satterthwaite's degrees of freedom for the two parts. In
simulated null worlds of 1 to 20 datasets, with and without noise of datasets and seeds, false alarms at a level of 95%
were 3 to 8% with four arms of one or three seeds, and 3 to 14% with two or three arms of two seeds, where the noise of
seeds has one or two degrees of freedom (``tests/mixtures/study/test_statistics.py`` repeats some of these worlds).

With fewer than three datasets none is drawn: items are the units, and the interval says that it speaks of these
datasets only.

The p-value is the smallest 1 - level at which the interval leaves out zero; over several comparisons it is adjusted by
Holm 1979. Price: resamples x items draws, for all arms of a comparison together.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from statistics import NormalDist
from typing import Literal, Protocol

import numpy as np
import numpy.typing as npt

from filters.errors import DataError

Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]
Verdict = Literal["better", "worse", "not distinguishable"]

COLUMNS = ("arm", "seed", "dataset", "id", "nll", "target_bytes")
FEW_DATASETS = 10
FEW_FREEDOM = 4
"""With fewer datasets, or degrees of freedom for the noise of seeds, than these a difference carries a note."""
_MIN_DRAWN = 3
_DRAWS_AT_ONCE = 1 << 22


class Columns(Protocol):
    """Anything that gives a column by its name: an Arrow table, a data frame, a dict of lists."""

    def __getitem__(self, name: str) -> npt.ArrayLike: ...


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class Scores:
    """Scores in a canonical order: every arm under every seed on every item.

    Attributes:
        arms, seeds, datasets: sorted, each once.
        ids: of the items, sorted by (dataset, id).
        starts: ``(datasets,) int64``, the first item of each dataset.
        target_bytes: ``(items,) int64``.
        nll: ``(arms, seeds, items) float64`` in nats; NaN where an arm was not trained with a seed.
    """

    arms: tuple[str, ...]
    seeds: tuple[int, ...]
    datasets: tuple[str, ...]
    ids: tuple[str, ...]
    starts: Integers
    target_bytes: Integers
    nll: Floats

    @classmethod
    def from_columns(cls, columns: Columns) -> Scores:
        """Scores from a table with the columns ``arm, seed, dataset, id, nll, target_bytes``, in any order of rows.

        An arm that scores the same under all its seeds is one model, and is kept under its first seed only.

        Raises:
            DataError: an item is scored twice or not by every run, its length differs between runs, or a number is
                not finite or not positive.

        >>> scores = Scores.from_columns({"arm": ["a", "b"], "seed": [0, 0], "dataset": ["d", "d"],
        ...     "id": ["1", "1"], "nll": [2.0, 3.0], "target_bytes": [4, 4]})
        >>> scores.arms, scores.nll.shape
        (('a', 'b'), (2, 1, 1))
        """
        arms, arm = _levels(columns["arm"])
        seeds, seed = np.unique(np.asarray(columns["seed"], np.int64), return_inverse=True)
        datasets, dataset = _levels(columns["dataset"])
        ids, id_ = _levels(columns["id"])
        nll = np.asarray(columns["nll"], np.float64)
        size = np.asarray(columns["target_bytes"], np.int64)
        if not len(nll):
            raise DataError("scores: no rows. Score at least one arm on at least one item.")
        keys, item = np.unique(dataset * len(ids) + id_, return_inverse=True)
        home, own = keys // len(ids), keys % len(ids)

        def place(row: int) -> str:
            return f"arm '{arms[arm[row]]}', seed {seeds[seed[row]]}, item '{ids[id_[row]]}' of '{datasets[dataset[row]]}'"

        wrong = np.flatnonzero(~(np.isfinite(nll) & (size > 0)))
        if len(wrong):
            raise DataError(
                f"scores: {place(wrong[0])}: nll {nll[wrong[0]]}, target_bytes {size[wrong[0]]}; allowed: a finite nll, at "
                f"least 1 byte ({len(wrong)} such rows). Look at the training curve of that run, and for empty targets."
            )
        lengths = np.zeros(len(keys), np.int64)
        lengths[item] = size
        differs = np.flatnonzero(lengths[item] != size)
        if len(differs):
            raise DataError(f"scores: {place(differs[0])}: {size[differs[0]]} target bytes, elsewhere {lengths[item[differs[0]]]}; an item has one target. Score all arms on the same eval/ directory.")  # fmt: skip
        cell = (arm * len(seeds) + seed) * len(keys) + item
        order = np.argsort(cell, kind="stable")
        twice = np.flatnonzero(np.diff(cell[order]) == 0)
        if len(twice):
            raise DataError(
                f"scores: {place(order[twice[0]])}: scored twice. Keep one row for each arm, seed and item."
            )
        cube = np.full((len(arms), len(seeds), len(keys)), np.nan)
        cube.reshape(-1)[cell] = nll
        scored = np.isfinite(cube).sum(axis=2)
        partial = np.argwhere((scored > 0) & (scored < len(keys)))
        if len(partial):
            a, s = partial[0]
            lost = int(np.flatnonzero(np.isnan(cube[a, s]))[0])
            raise DataError(
                f"scores: arm '{arms[a]}', seed {seeds[s]}: {scored[a, s]} of {len(keys)} items, without '{ids[own[lost]]}' of "
                f"'{datasets[home[lost]]}'; differences are paired by item. Score every arm and seed on the same items."
            )
        for a, runs in enumerate(cube):
            trained = np.flatnonzero(scored[a])
            if len(trained) > 1 and (runs[trained] == runs[trained[0]]).all():
                runs[trained[1:]] = np.nan  # one model that was entered once a seed, as an untrained base is
        return cls(
            arms,
            tuple(int(s) for s in seeds),
            datasets,
            tuple(ids[i] for i in own),
            np.searchsorted(home, np.arange(len(datasets))).astype(np.int64),
            lengths,
            cube,
        )

    def arm(self, name: str) -> int:
        """Position of an arm.

        Raises:
            DataError: there is none of that name.
        """
        if name not in self.arms:
            raise DataError(f"scores: no arm is called '{name}'; allowed: {', '.join(self.arms)}.")
        return self.arms.index(name)

    def seeds_of(self, name: str) -> Integers:
        """Positions of the seeds with which an arm was trained."""
        return np.flatnonzero(np.isfinite(self.nll[self.arm(name), :, 0])).astype(np.int64)


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class BitsPerByte:
    """Bits per byte of every dataset under every arm and seed.

    Attributes:
        values: ``(arms, seeds, datasets) float64``; NaN where an arm was not trained with a seed.
    """

    arms: tuple[str, ...]
    seeds: tuple[int, ...]
    datasets: tuple[str, ...]
    values: Floats

    @property
    def macro(self) -> Floats:
        """``(arms, seeds) float64``: the mean over datasets."""
        return np.asarray(self.values.mean(axis=2))


@dataclasses.dataclass(frozen=True, slots=True)
class Difference:
    """Bits per byte of ``arm`` minus those of ``reference``; below zero, ``arm`` is better.

    Attributes:
        mean: macro average over datasets of the paired differences.
        low, high: interval at ``level``.
        p_value: smallest 1 - level at which the interval leaves out zero.
        p_adjusted: the same after Holm's adjustment for the comparisons made together.
        datasets, items, seeds: how many each rests on (seeds of ``arm``).
        seed_deviation: standard error that training seeds add to ``mean``; None where one seed cannot tell.
        seed_freedom: degrees of freedom of that estimate; 0 without one.
        by_dataset: each dataset with its own difference.
    """

    arm: str
    reference: str
    mean: float
    low: float
    high: float
    level: float
    p_value: float
    p_adjusted: float
    datasets: int
    items: int
    seeds: int
    seed_deviation: float | None
    seed_freedom: int
    by_dataset: tuple[tuple[str, float], ...]

    @property
    def verdict(self) -> Verdict:
        """Whether ``arm`` differs from ``reference`` at ``level``, all comparisons considered."""
        if self.p_adjusted > 1 - self.level:
            return "not distinguishable"
        return "better" if self.mean < 0 else "worse"

    @property
    def notes(self) -> tuple[str, ...]:
        """What the interval does not cover, in sentences."""
        notes = []
        if self.datasets < _MIN_DRAWN:
            count = "one dataset" if self.datasets == 1 else f"{self.datasets} datasets"
            notes.append(
                f"Only {count}: the interval covers other items of the same kind, not other datasets."
            )
        elif self.datasets < FEW_DATASETS:
            notes.append(
                f"Only {self.datasets} datasets: the interval is wide for that reason, and approximate."
            )
        if self.seed_deviation is None:
            notes.append("One seed: the interval does not cover what another training run would change.")
        elif self.seed_freedom < FEW_FREEDOM:
            notes.append(
                "Few training runs: their noise is a rough estimate, and the interval may be too narrow. Add seeds."
            )
        return tuple(notes)


@dataclasses.dataclass(frozen=True, slots=True)
class ArmNoise:
    """How far one arm's macro bits per byte move with the seed alone."""

    arm: str
    seeds: int
    deviation: float
    largest: float


@dataclasses.dataclass(frozen=True, slots=True)
class NoiseFloor:
    """The same arm under different seeds: differences below this size mean nothing for a single run.

    Attributes:
        arms: arms with two seeds or more; standard deviation, and largest difference of two seeds.
        deviation: pooled standard deviation; None where every arm has one seed.
    """

    arms: tuple[ArmNoise, ...]
    deviation: float | None


def bits_per_byte(scores: Scores) -> BitsPerByte:
    """Bits per byte for every (arm, seed, dataset).

    >>> scores = Scores.from_columns({"arm": ["a", "a"], "seed": [0, 0], "dataset": ["d", "d"], "id": ["1", "2"],
    ...     "nll": [math.log(2) * 6, math.log(2) * 2], "target_bytes": [2, 2]})
    >>> bits_per_byte(scores).macro.tolist()
    [[2.0]]
    """
    bits = np.add.reduceat(scores.nll / math.log(2), scores.starts, axis=2)
    values = bits / np.add.reduceat(scores.target_bytes, scores.starts)
    return BitsPerByte(scores.arms, scores.seeds, scores.datasets, values)


def paired_differences(
    scores: Scores, arm: str, reference: str, *, resamples: int = 10_000, seed: int = 0, level: float = 0.95
) -> Difference:
    """The difference between two arms with its interval; see the module's text for the method.

    Args:
        scores: of both arms on the same items; other arms, if there are any, help to tell the noise of seeds.
        arm, reference: either trained with the same seeds, or one of them a single model, which is then taken as given.
        resamples: of the bootstrap.
        seed: of its draws; the same for every pair, so that intervals can be compared.
        level: of the interval.

    Raises:
        DataError: an arm is unknown, seeds do not pair up, or there is only one item.

    >>> table = {"arm": ["a"] * 4 + ["b"] * 4, "seed": [0] * 8, "dataset": ["d"] * 8, "id": ["1", "2", "3", "4"] * 2,
    ...     "nll": [1.0, 2.0, 3.0, 4.0, 1.5, 2.5, 3.5, 4.5], "target_bytes": [5] * 8}
    >>> found = paired_differences(Scores.from_columns(table), "a", "b")
    >>> found.verdict, round(found.low, 3), round(found.high, 3)
    ('better', -0.144, -0.144)
    """
    return compare(scores, reference, [arm], resamples=resamples, seed=seed, level=level)[0]


def compare(
    scores: Scores,
    reference: str,
    arms: Sequence[str] | None = None,
    *,
    resamples: int = 10_000,
    seed: int = 0,
    level: float = 0.95,
) -> tuple[Difference, ...]:
    """Differences of several arms to one reference, with p-values adjusted for all of them (Holm).

    Args:
        arms: None for all but the reference. The rest as for ``paired_differences``.
    """
    if not 0 < level < 1 or resamples < 100:
        raise ValueError(
            f"level {level}, resamples {resamples}; allowed: a level between 0 and 1, at least 100 resamples"
        )
    names = [name for name in scores.arms if name != reference] if arms is None else list(arms)
    if not names:
        return ()
    if len(scores.ids) < 2:
        raise DataError("scores: one item; an interval needs at least two. Hold out more items.")
    bits = np.stack([_item_differences(scores, name, reference) for name in names], axis=1)  # (items, arms)
    weights = scores.target_bytes.astype(np.float64)
    by_dataset = np.add.reduceat(bits, scores.starts) / np.add.reduceat(weights, scores.starts)[:, None]
    means = by_dataset.mean(axis=0)
    drawn = _bootstrap(bits, weights, scores.starts, resamples=resamples, seed=seed)
    noise = np.random.default_rng([seed, 1]).standard_normal(resamples)
    count = len(scores.datasets)
    found = []
    for column, name in enumerate(names):
        variance, seed_freedom = _seed_variance(scores, name, reference)
        deviations = drawn[:, column] - means[column]
        spread = float(deviations.var())
        if count >= _MIN_DRAWN:
            own, units = float(by_dataset[:, column].var(ddof=1)) / count, count
        else:
            own, units = spread * len(scores.ids) / (len(scores.ids) - 1), len(scores.ids)
        deviations *= math.sqrt(own / spread) if spread > 0 else 0.0
        freedom = _freedom(own, units - 1, variance or 0.0, seed_freedom)
        # Swapping the arms must flip the sign of the whole distribution.
        deviations += math.sqrt(variance or 0.0) * (noise if name < reference else -noise)
        interval = _Interval(float(means[column]), np.sort(deviations), freedom)
        low, high = interval.at(level)
        p = interval.p_value()
        found.append(
            Difference(
                name, reference, float(means[column]), low, high, level, p, p, len(scores.datasets), len(scores.ids),
                len(scores.seeds_of(name)), None if variance is None else math.sqrt(variance), seed_freedom,
                tuple(zip(scores.datasets, by_dataset[:, column].tolist(), strict=True)),
            )
        )  # fmt: skip
    adjusted = holm([difference.p_value for difference in found])
    return tuple(dataclasses.replace(d, p_adjusted=p) for d, p in zip(found, adjusted, strict=True))


def holm(p_values: Sequence[float]) -> list[float]:
    """P-values adjusted for being several (Holm 1979): reject where the adjusted one is at most 1 - level.

    >>> holm([0.01, 0.04, 0.03])
    [0.03, 0.06, 0.06]
    """
    order = sorted(range(len(p_values)), key=lambda i: p_values[i])
    adjusted, worst = [0.0] * len(p_values), 0.0
    for rank, i in enumerate(order):
        worst = max(worst, min(1.0, (len(p_values) - rank) * p_values[i]))
        adjusted[i] = worst
    return adjusted


def noise_floor(scores: Scores) -> NoiseFloor:
    """How far macro bits per byte move when nothing but the seed changes."""
    macro = bits_per_byte(scores).macro
    arms, squares, freedom = [], 0.0, 0
    for a, name in enumerate(scores.arms):
        values = macro[a, scores.seeds_of(name)]
        if len(values) > 1:
            arms.append(ArmNoise(name, len(values), float(values.std(ddof=1)), float(np.ptp(values))))
            squares += float(((values - values.mean()) ** 2).sum())
            freedom += len(values) - 1
    return NoiseFloor(tuple(arms), math.sqrt(squares / freedom) if freedom else None)


def _levels(values: npt.ArrayLike) -> tuple[tuple[str, ...], Integers]:
    """The distinct strings of a column, sorted, and the position of every row's among them."""
    levels, codes = np.unique(np.asarray(values, object), return_inverse=True)
    return tuple(str(level) for level in levels), codes.astype(np.int64)


# ---------------------------------------------------------------------------------------------------------------------
# The two parts of the interval
# ---------------------------------------------------------------------------------------------------------------------


def _item_differences(scores: Scores, arm: str, reference: str) -> Floats:
    """Bits of every item under ``arm`` minus those under ``reference``, seeds averaged: ``(items,)``."""
    ours, theirs = scores.seeds_of(arm), scores.seeds_of(reference)
    if not np.array_equal(ours, theirs) and 1 not in (len(ours), len(theirs)):
        named = [", ".join(str(scores.seeds[s]) for s in seeds) for seeds in (ours, theirs)]
        raise DataError(
            f"scores: arm '{arm}' has the seeds {named[0]}, '{reference}' {named[1]}; differences are paired by seed. "
            "Train both with the same seeds."
        )
    difference = scores.nll[scores.arm(arm), ours].mean(axis=0) - scores.nll[
        scores.arm(reference), theirs
    ].mean(axis=0)
    return np.asarray(difference / math.log(2))


def _bootstrap(bits: Floats, weights: Floats, starts: Integers, *, resamples: int, seed: int) -> Floats:
    """Macro averages of resampled bits per byte, ``(resamples, columns)``; each drawn dataset draws its own items."""
    rng = np.random.default_rng([seed, 0])
    sizes = np.diff([*starts.tolist(), len(bits)])
    count = len(sizes)
    chosen = (
        rng.integers(0, count, (resamples, count))
        if count >= _MIN_DRAWN
        else np.tile(np.arange(count), (resamples, 1))
    )
    total = np.zeros((resamples, bits.shape[1]))
    for d, (start, size) in enumerate(zip(starts.tolist(), sizes.tolist(), strict=True)):
        own, own_weights = bits[start : start + size], weights[start : start + size]
        into = np.nonzero(chosen == d)[0]  # a resample occurs as often as it drew this dataset
        step = max(1, _DRAWS_AT_ONCE // size)
        for rows in (into[i : i + step] for i in range(0, len(into), step)):
            items = rng.integers(0, size, (len(rows), size)) + np.arange(len(rows))[:, None] * size
            times = (
                np.bincount(items.ravel(), minlength=len(rows) * size)
                .reshape(len(rows), size)
                .astype(np.float64)
            )
            np.add.at(total, rows, (times @ own) / (times @ own_weights)[:, None])
    return total / count


def _seed_variance(scores: Scores, arm: str, reference: str) -> tuple[float | None, int]:
    """Variance that seeds alone add to the mean difference, and its degrees of freedom; None without two seeds.

    Arms with the same seeds: what arm and seed effects leave of macro bits per byte, over all arms with these seeds. A
    single model on one side is taken as given, so the other side's whole spread over its seeds counts. Noise that is
    independent between units (datasets, or items where these are drawn) is in the bootstrap already, so it is taken out
    here: the variance of the sum less the sum of the variances, as in two-way clustering.
    """
    ours, theirs = scores.seeds_of(arm), scores.seeds_of(reference)
    if len(ours) == 1 and len(theirs) == 1:
        return None, 0
    shares = _unit_shares(scores)  # (arms, seeds, units), summing to macro bits per byte
    if len(ours) == len(theirs):
        same = [a for a, name in enumerate(scores.arms) if np.array_equal(scores.seeds_of(name), ours)]
        block = shares[same][:, ours]
        rest = block - block.mean(axis=0) - block.mean(axis=1, keepdims=True) + block.mean(axis=(0, 1))
        freedom, sides = (block.shape[0] - 1) * (block.shape[1] - 1), 2
    else:
        groups = [shares[a, scores.seeds_of(name)] for a, name in enumerate(scores.arms)]
        rest = np.concatenate([group - group.mean(axis=0) for group in groups])
        freedom, sides = sum(len(group) - 1 for group in groups), 1
    units = rest.shape[-1]
    joint = float((rest.sum(axis=-1) ** 2).sum()) / freedom
    apart = float(((rest - rest.mean(axis=-1, keepdims=True)) ** 2).sum()) / freedom * units / (units - 1)
    return sides * max(0.0, joint - apart) / max(len(ours), len(theirs)), freedom


def _unit_shares(scores: Scores) -> Floats:
    """What each unit that the bootstrap draws adds to macro bits per byte: ``(arms, seeds, units)``."""
    count = len(scores.datasets)
    if count >= _MIN_DRAWN:
        return bits_per_byte(scores).values / count
    sizes = np.diff([*scores.starts.tolist(), len(scores.ids)])
    totals = np.repeat(np.add.reduceat(scores.target_bytes, scores.starts), sizes)
    return np.asarray(scores.nll / math.log(2) / totals / count)


def _freedom(first: float, first_freedom: float, second: float, second_freedom: float) -> float:
    """Degrees of freedom of a sum of two variances (Welch 1947, Satterthwaite 1946)."""
    parts = first**2 / first_freedom + (second**2 / second_freedom if second else 0.0)
    return (first + second) ** 2 / parts if parts > 0 else math.inf


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class _Interval:
    """Percentile intervals of a mean, widened as Student's distribution is wider than the normal one."""

    mean: float
    deviations: Floats  # sorted
    freedom: float

    def at(self, level: float) -> tuple[float, float]:
        """The interval at a level."""
        return self._within(student_quantile((1 + level) / 2, self.freedom))

    def p_value(self) -> float:
        """Smallest 1 - level whose interval leaves out zero, never below what the resamples can tell."""
        least = 1 / (len(self.deviations) + 1)
        outside, inside = 1e-6, 1.0
        if self._leaves_out_zero(outside):
            while self._leaves_out_zero(inside):
                if 2 * _student_tail(inside, self.freedom) < least:
                    return least
                outside, inside = inside, 2 * inside
            for _ in range(40):
                middle = (outside + inside) / 2
                outside, inside = (middle, inside) if self._leaves_out_zero(middle) else (outside, middle)
            return max(2 * _student_tail(outside, self.freedom), least)
        return 1.0

    def _within(self, t: float) -> tuple[float, float]:
        """The interval whose half-width would be ``t`` standard errors, were the deviations normal."""
        tail = max(_student_tail(t, self.freedom), 1e-300)
        wider = t / -NormalDist().inv_cdf(tail)
        place = tail * (len(self.deviations) - 1)
        left, rest = int(place), place - int(place)
        below = (1 - rest) * self.deviations[left] + rest * self.deviations[left + 1]
        above = (1 - rest) * self.deviations[-1 - left] + rest * self.deviations[-2 - left]
        return self.mean + wider * float(below), self.mean + wider * float(above)

    def _leaves_out_zero(self, t: float) -> bool:
        low, high = self._within(t)
        return not low <= 0 <= high


def student_quantile(probability: float, freedom: float) -> float:
    """Quantile of Student's t distribution, for probabilities of 0.5 and more, by bisection.

    >>> round(student_quantile(0.975, 2), 3), round(student_quantile(0.975, 10), 3)
    (4.303, 2.228)
    """
    if probability <= 0.5:
        return 0.0
    low, high = 0.0, 1.0
    while _student_tail(high, freedom) > 1 - probability and high < 1e12:
        high *= 2
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if _student_tail(middle, freedom) > 1 - probability else (low, middle)
    return high


_NODES, _WEIGHTS = np.polynomial.legendre.leggauss(96)


def _student_tail(t: float, freedom: float) -> float:
    """P(T > t) for t >= 0: the integral of cos(a)^(freedom - 1) from atan(t / sqrt(freedom)) to pi / 2, normalised."""
    if freedom > 200:  # Abramowitz and Stegun 26.7.8
        z = t if math.isinf(freedom) else t * (1 - 1 / (4 * freedom)) / math.sqrt(1 + t * t / (2 * freedom))
        return 0.5 * math.erfc(z / math.sqrt(2))
    start = math.atan(t / math.sqrt(freedom))
    half = (math.pi / 2 - start) / 2
    area = half * float((_WEIGHTS * np.cos(start + half * (1 + _NODES)) ** (freedom - 1)).sum())
    return area * math.exp(math.lgamma((freedom + 1) / 2) - math.lgamma(freedom / 2)) / math.sqrt(math.pi)
