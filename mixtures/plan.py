"""The mixture compiled to integers: index -> (leaf, ordinal, epoch, row, variant, template), with no table.

Terms. A *leaf* is one task (under one part of the mixture) with its rows; its *ordinal* counts the examples drawn from
it, so ordinal 0 is its first; after as many ordinals as it has rows a new *epoch* begins, in a new order. An *edge* is a
cumulative weight as an integer in [0, 2**64]. A *segment* is a stretch of the plan with fixed edges; changing the
weights mid-run appends one, and every leaf goes on at the ordinal that it had reached.

Algorithm 1, for an index t of a segment that starts at s:

    x       = A * (t - s) + B  mod 2**64      A = 2**64 / golden ratio, B a hash of (seed, s)
    leaf    = the i with edges[i] <= x < edges[i + 1]
    ordinal = how many of x(0) ... x(t - s - 1) fell into that leaf, plus what the segments before drew
    epoch   = ordinal // rows,  row = a keyed shuffle, of (seed, leaf, epoch), of ordinal mod rows
    variant = the same sequence inside the leaf, over ordinals and the variants' own edges
    template= (a keyed shuffle of the rows, of (seed, leaf))[row] + epoch  mod number of templates

The multiples of the golden ratio spread over the circle as evenly as any sequence does, so every count stays within a
few examples of index * weight (the worst of 409,600 draws was 3.4 away; the gap grows with log n), for every leaf and at
every moment, where independent draws would be off by the square root of n. The count of the multiples below an edge is
a sum of floors, which Euclid's algorithm gives in O(log n) steps ("floor sum"), hence random access.

Price: one plan[index] costs about 0.2 milliseconds and 25 microseconds for each leaf; a block costs that once, then
about 0.2 microseconds for each example.
"""

from __future__ import annotations

import json
from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction

import numpy as np
import numpy.typing as npt

from filters.errors import DataError
from mixtures.draws import key_of, permute, unpermute

ALGORITHM = 1
_CIRCLE = 1 << 64
_STEP = 0x9E3779B97F4A7C15

Weight = int | float | Fraction


@dataclass(frozen=True, slots=True)
class VariantShare:
    """One way in which a leaf's examples are made, and the templates that make it.

    Attributes:
        name: such as ``3shot`` or ``0shot+cot``.
        edge: where its part of the leaf's circle ends; the last variant's edge is 2**64.
        templates: names; a row meets them in turn, one in each epoch.
    """

    name: str
    edge: int
    templates: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Leaf:
    """What examples are drawn from: ``rows`` rows, in variants.

    Attributes:
        name: unique in the plan; the key of all its draws.
        rows: how many rows can be drawn, all of them accepted by the checks.
        variants: at least one, with rising edges.
        digest: of the rows' content, so that a plan cannot be read with other rows unnoticed.
    """

    name: str
    rows: int
    variants: tuple[VariantShare, ...]
    digest: str = ""

    def __post_init__(self) -> None:
        edges = [variant.edge for variant in self.variants]
        if not edges or edges[-1] != _CIRCLE or any(a > b for a, b in zip([0, *edges], edges, strict=False)):
            raise ValueError(f"leaf '{self.name}': variants' edges must rise to 2**64, not {edges}")
        if not all(variant.templates for variant in self.variants):
            raise ValueError(f"leaf '{self.name}': every variant needs a template")


@dataclass(frozen=True, slots=True)
class Segment:
    """From index ``start`` on, leaf i owns [edges[i], edges[i + 1]) of the circle."""

    start: int
    edges: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Pick:
    """One index of the plan, in words."""

    leaf: str
    ordinal: int
    epoch: int
    row: int
    variant: str
    template: str


@dataclass(frozen=True, slots=True)
class Block:
    """A stretch of the plan as columns, each (examples,) int64; ``leaf``, ``variant`` and ``template`` are positions
    in ``plan.leaves``, in ``leaf.variants`` and in ``variant.templates``."""

    index: npt.NDArray[np.int64]
    leaf: npt.NDArray[np.int64]
    ordinal: npt.NDArray[np.int64]
    epoch: npt.NDArray[np.int64]
    row: npt.NDArray[np.int64]
    variant: npt.NDArray[np.int64]
    template: npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Plan:
    """An endless, seekable order of examples; ``examples`` of them are the budget.

    >>> plan = plan_of({"nli": 100, "qa": 50}, {"nli": 3, "qa": 1}, seed=17, examples=8)
    >>> plan.counts(8), plan[0].leaf == plan[0].leaf
    ({'nli': 6, 'qa': 2}, True)
    """

    leaves: tuple[Leaf, ...]
    segments: tuple[Segment, ...]
    seed: int
    examples: int
    algorithm: int = ALGORITHM

    def __post_init__(self) -> None:
        if self.algorithm != ALGORITHM:
            raise DataError(
                f"plan: made by algorithm {self.algorithm}; this version of the project knows algorithm {ALGORITHM}. "
                "Use the version that made the plan, or plan again"
            )
        names = [leaf.name for leaf in self.leaves]
        if len(set(names)) != len(names):
            raise ValueError(f"leaves must have names of their own, not {names}")
        for segment in self.segments:
            for leaf, lo, hi in zip(self.leaves, segment.edges[:-1], segment.edges[1:], strict=True):
                if lo < hi and leaf.rows == 0:
                    raise DataError(
                        f"plan: leaf '{leaf.name}' has weight but no rows. Give it rows or leave it out of the mixture"
                    )

    def __getitem__(self, index: int) -> Pick:
        """The example at ``index``, which may lie beyond the budget."""
        if index < 0:
            raise IndexError(f"plan: index {index}; an index counts from 0")
        block = self.block(index, index + 1)
        leaf = self.leaves[int(block.leaf[0])]
        variant = leaf.variants[int(block.variant[0])]
        return Pick(
            leaf=leaf.name,
            ordinal=int(block.ordinal[0]),
            epoch=int(block.epoch[0]),
            row=int(block.row[0]),
            variant=variant.name,
            template=variant.templates[int(block.template[0])],
        )

    def counts(self, n: int) -> dict[str, int]:
        """How many of the first ``n`` examples come from each leaf.

        >>> plan_of({"a": 5, "b": 5}, {"a": 1, "b": 0}, seed=0, examples=3).counts(3)
        {'a': 3, 'b': 0}
        """
        return dict(zip([leaf.name for leaf in self.leaves], self._counts(n), strict=True))

    def block(self, lo: int, hi: int) -> Block:
        """The examples [lo, hi), as columns; equal to [lo, mid) and [mid, hi) joined, for any mid."""
        leaves: list[npt.NDArray[np.int64]] = []
        ordinals: list[npt.NDArray[np.int64]] = []
        starts = [segment.start for segment in self.segments]
        at = lo
        while at < hi:
            number = bisect_right(starts, at) - 1
            end = min([hi, *starts[number + 1 : number + 2]])
            segment = self.segments[number]
            first = np.uint64(at - segment.start)
            x = (np.arange(end - at, dtype=np.uint64) + first) * np.uint64(_STEP) + np.uint64(
                self._offset(segment)
            )
            leaf = _owner(segment.edges, x)
            leaves.append(leaf)
            ordinals.append(_ranks(leaf, len(self.leaves)) + np.array(self._counts(at), dtype=np.int64)[leaf])
            at = end
        nothing = np.zeros(0, dtype=np.int64)
        leaf, ordinal = np.concatenate([nothing, *leaves]), np.concatenate([nothing, *ordinals])
        epoch, row, variant, template = (np.zeros_like(leaf) for _ in range(4))
        for i in np.unique(leaf).tolist():
            at_leaf = leaf == i
            epoch[at_leaf], row[at_leaf], variant[at_leaf], template[at_leaf] = self.examples_of(
                i, ordinal[at_leaf]
            )
        return Block(np.arange(lo, max(lo, hi), dtype=np.int64), leaf, ordinal, epoch, row, variant, template)

    def examples_of(self, leaf: int, ordinals: npt.ArrayLike) -> tuple[npt.NDArray[np.int64], ...]:
        """(epoch, row, variant, template) of a leaf's ordinals, each (ordinals,) int64."""
        rows = self.leaves[leaf].rows
        ordinal = np.asarray(ordinals, dtype=np.int64)
        epoch, place = np.divmod(ordinal, rows)
        row = np.empty_like(place)
        for e in np.unique(epoch).tolist():
            in_epoch = epoch == e
            row[in_epoch] = permute(place[in_epoch], rows, self._epoch_key(leaf, e))
        return epoch, row, *self._variant_and_template(leaf, ordinal, epoch, row)

    def rows_drawn(
        self, leaf: int, epoch: int, n_ordinals: int, lo: int, hi: int
    ) -> tuple[npt.NDArray[np.int64], ...]:
        """Which rows in [lo, hi) the first ``n_ordinals`` ordinals of a leaf draw in one epoch, by rising row.

        Returns:
            (row, ordinal, variant, template), each (drawn,) int64.
        """
        rows = self.leaves[leaf].rows
        row = np.arange(lo, min(hi, rows), dtype=np.int64)
        ordinal = unpermute(row, rows, self._epoch_key(leaf, epoch)) + epoch * rows
        drawn = ordinal < n_ordinals
        row, ordinal = row[drawn], ordinal[drawn]
        return row, ordinal, *self._variant_and_template(leaf, ordinal, np.full_like(row, epoch), row)

    def reweighted(self, start: int, weights: Mapping[str, Weight]) -> Plan:
        """This plan up to ``start``, and from there on with other weights; nothing is lost and nothing repeated."""
        if start <= self.segments[-1].start:
            raise ValueError(f"a change of weights at {start}; it must come after {self.segments[-1].start}")
        edges = _edges([weights[leaf.name] for leaf in self.leaves])
        return replace(self, segments=(*self.segments, Segment(start, edges)))

    def to_json(self) -> str:
        """The plan as the text of plan.json: integers and names, the same for the same plan."""
        return json.dumps(
            {
                "format": 1,
                "algorithm": self.algorithm,
                "seed": self.seed,
                "examples": self.examples,
                "segments": [{"start": segment.start, "edges": segment.edges} for segment in self.segments],
                "leaves": [
                    {
                        "name": leaf.name,
                        "rows": leaf.rows,
                        "digest": leaf.digest,
                        "variants": [
                            {"name": variant.name, "edge": variant.edge, "templates": variant.templates}
                            for variant in leaf.variants
                        ],
                    }
                    for leaf in self.leaves
                ],
            },
            indent=1,
        )

    @staticmethod
    def from_json(text: str) -> Plan:
        """The plan that ``to_json`` wrote."""
        data = json.loads(text)
        if data["format"] != 1:
            raise DataError(
                f"plan.json: format {data['format']}; this version of the project reads format 1. Update it"
            )
        return Plan(
            leaves=tuple(
                Leaf(
                    name=leaf["name"],
                    rows=leaf["rows"],
                    digest=leaf["digest"],
                    variants=tuple(
                        VariantShare(variant["name"], variant["edge"], tuple(variant["templates"]))
                        for variant in leaf["variants"]
                    ),
                )
                for leaf in data["leaves"]
            ),
            segments=tuple(
                Segment(segment["start"], tuple(segment["edges"])) for segment in data["segments"]
            ),
            seed=data["seed"],
            examples=data["examples"],
            algorithm=data["algorithm"],
        )

    def _offset(self, segment: Segment) -> int:
        return key_of(self.seed, "segment", segment.start)

    def _epoch_key(self, leaf: int, epoch: int) -> int:
        return key_of(self.seed, self.leaves[leaf].name, "epoch", epoch)

    def _counts(self, n: int) -> list[int]:
        total = [0] * len(self.leaves)
        ends = [segment.start for segment in self.segments[1:]] + [n]
        for segment, end in zip(self.segments, ends, strict=True):
            length = min(end, n) - segment.start
            if length > 0:
                below = _counts_below(length, segment.edges, self._offset(segment))
                total = [t + b - a for t, a, b in zip(total, below, below[1:], strict=False)]
        return total

    def _variant_and_template(
        self,
        leaf: int,
        ordinal: npt.NDArray[np.int64],
        epoch: npt.NDArray[np.int64],
        row: npt.NDArray[np.int64],
    ) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
        this = self.leaves[leaf]
        edges = (0, *(variant.edge for variant in this.variants))
        offset = np.uint64(key_of(self.seed, this.name, "variant"))
        x = ordinal.astype(np.uint64) * np.uint64(_STEP) + offset
        variant = _owner(edges, x)
        n_templates = np.array([len(variant.templates) for variant in this.variants], dtype=np.int64)[variant]
        turn = permute(row, this.rows, key_of(self.seed, this.name, "template")) if len(row) else row
        return variant, (turn + epoch) % n_templates


def plan_of(
    rows: Mapping[str, int] | Sequence[Leaf], weights: Mapping[str, Weight], *, seed: int, examples: int
) -> Plan:
    """A plan over leaves with one weight each.

    Args:
        rows: the leaves, or just how many rows each name has (then with one variant and one template).
        weights: of each leaf, not negative, in any unit; fractions are kept exactly.
        seed: of every draw of the plan.
        examples: the budget.

    Raises:
        DataError: a leaf has weight but no rows.
    """
    if isinstance(rows, Mapping):
        only = (VariantShare("0shot", _CIRCLE, ("only",)),)
        leaves = tuple(Leaf(name, count, only) for name, count in rows.items())
    else:
        leaves = tuple(rows)
    return Plan(leaves, (Segment(0, _edges([weights[leaf.name] for leaf in leaves])),), seed, examples)


def variant_shares(shares: Sequence[tuple[str, Weight, tuple[str, ...]]]) -> tuple[VariantShare, ...]:
    """(name, share, templates) as variants with integer edges.

    >>> [variant.edge == 2**63 for variant in variant_shares([("0shot", 0.5, ("a",)), ("3shot", 0.5, ("a",))])]
    [True, False]
    """
    edges = _edges([share for _, share, _ in shares])
    return tuple(
        VariantShare(name, edge, templates)
        for (name, _, templates), edge in zip(shares, edges[1:], strict=True)
    )


def _edges(weights: Sequence[Weight]) -> tuple[int, ...]:
    """Cumulative weights as integers, from 0 to 2**64; a float counts as the decimal number that it prints as."""
    exact = [Fraction(repr(weight)) if isinstance(weight, float) else Fraction(weight) for weight in weights]
    total = sum(exact)
    if total <= 0 or min(exact) < 0:
        raise ValueError(
            f"weights must not be negative and must have a positive sum, not {[float(w) for w in exact]}"
        )
    edges, sum_so_far = [0], Fraction(0)
    for weight in exact:
        sum_so_far += weight
        edges.append(int(sum_so_far / total * _CIRCLE))
    return tuple(edges)


def _owner(edges: Sequence[int], x: npt.NDArray[np.uint64]) -> npt.NDArray[np.int64]:
    """Which interval [edges[i], edges[i + 1]) each x lies in."""
    # 2**64 does not fit into uint64, but only the edges after the last weight can be that high, and no x reaches them.
    inner = np.array([edge for edge in edges[1:-1] if edge < _CIRCLE], dtype=np.uint64)
    return np.searchsorted(inner, x, side="right").astype(np.int64)


def _ranks(groups: npt.NDArray[np.int64], n_groups: int) -> npt.NDArray[np.int64]:
    """The rank of each position among the equal ones before it: [2, 0, 2, 2] -> [0, 0, 1, 2]."""
    order = np.argsort(groups, kind="stable")
    count = np.bincount(groups, minlength=n_groups)
    first = np.cumsum(count) - count
    ranks = np.empty(len(groups), dtype=np.int64)
    ranks[order] = np.arange(len(groups)) - first[groups[order]]
    return ranks


def _counts_below(n: int, edges: Sequence[int], offset: int) -> list[int]:
    """How many of the first n points (A t + offset mod 2**64) lie below each edge: [x < c] = floor(x) - floor(x - c)."""
    whole = _floor_sum(n, _CIRCLE, _STEP, offset)
    inside = {
        edge: whole - _floor_sum(n, _CIRCLE, _STEP, offset - edge) for edge in edges if 0 < edge < _CIRCLE
    }
    return [inside.get(edge, 0 if edge == 0 else n) for edge in edges]


def _floor_sum(n: int, m: int, a: int, b: int) -> int:
    """The sum over i < n of floor((a i + b) / m), by Euclid's algorithm; b may be negative.

    >>> _floor_sum(4, 10, 6, 3) == sum((6 * i + 3) // 10 for i in range(4))
    True
    """
    total = 0
    if b < 0:
        total -= n * ((b % m - b) // m)
        b %= m
    while n:
        total += (n - 1) * n // 2 * (a // m) + n * (b // m)
        a, b = a % m, b % m
        n, b, m, a = (a * n + b) // m, (a * n + b) % m, a, m
    return total
