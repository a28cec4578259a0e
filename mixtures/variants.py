"""Variants: in which forms a task's rows become examples, and how often in each.

A variant is a number of exemplars before the question (*shots*) and whether the target reasons before it answers
(*cot*). A mixture gives the shares of each choice apart; every pair then has the product of its two shares. A task
takes part in what it can do: without a rationale there is no chain of thought, and examples that came rendered, and
pieces of documents, stand alone (zero-shot).
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from fractions import Fraction

from mixtures.plan import VariantShare, variant_shares
from mixtures.tasks import Task


@dataclass(frozen=True, slots=True)
class Variant:
    """One form of an example.

    >>> Variant(3, True).name, Variant.named("0shot")
    ('3shot+cot', Variant(shots=0, cot=False))
    """

    shots: int
    cot: bool

    @property
    def name(self) -> str:
        """How plans and shards call it."""
        return f"{self.shots}shot" + ("+cot" if self.cot else "")

    @staticmethod
    def named(name: str) -> Variant:
        """The variant of a name."""
        found = re.fullmatch(r"([0-9]+)shot(\+cot)?", name)
        if found is None:
            raise ValueError(f"'{name}' is no name of a variant; names are such as 0shot or 3shot+cot")
        return Variant(int(found[1]), found[2] is not None)


@dataclass(frozen=True, slots=True)
class Variants:
    """The shares of the forms, as a mixture's config gives them; shares are relative to their sum.

    Attributes:
        shots: number of exemplars -> share.
        cot: 0 (answer only) or 1 (rationale, then answer) -> share.
        separator: stands after each exemplar.
    """

    shots: dict[int, float] = field(default_factory=lambda: {0: 1.0})
    cot: dict[int, float] = field(default_factory=lambda: {0: 1.0})
    separator: str = "\n\n"

    def __post_init__(self) -> None:
        for name, most in (("shots", 64), ("cot", 1)):
            shares = getattr(self, name)
            keys = [int(key) if re.fullmatch(r"[0-9]+", str(key)) else -1 for key in shares]
            if not shares or min(keys) < 0 or max(keys) > most:
                raise ValueError(
                    f"{name}: found {', '.join(map(str, shares)) or 'nothing'}; allowed: 0 to {most}"
                )
            if len(set(keys)) < len(keys):
                raise ValueError(f"{name}: found {', '.join(map(repr, shares))}; allowed: each number once")
            if min(shares.values()) < 0 or sum(shares.values()) <= 0:
                raise ValueError(
                    f"{name}: shares must not be negative, and not all 0; found {list(shares.values())}"
                )
            object.__setattr__(self, name, dict(sorted(zip(keys, shares.values(), strict=True))))

    def of(self, task: Task) -> dict[Variant, Fraction]:
        """The variants of a task with their shares, which sum to 1.

        >>> from mixtures.tasks import Documents
        >>> Variants(shots={0: 0.5, 3: 0.5}).of(Documents("runs/web").task())
        {Variant(shots=0, cot=False): Fraction(1, 1)}
        """
        shots = self.shots if task.kind == "raw" else {0: 1.0}
        cot = self.cot if task.has_rationale else {0: 1.0}
        exact = {
            Variant(s, bool(c)): Fraction(repr(share_s)) * Fraction(repr(share_c))
            for c, share_c in cot.items()
            for s, share_s in shots.items()
            if share_s and share_c
        }
        return {variant: share / sum(exact.values()) for variant, share in exact.items()}

    def for_plan(self, task: Task) -> tuple[VariantShare, ...]:
        """The variants of a task with the templates that make each, as the plan stores them."""
        return variant_shares(
            [
                (variant.name, share, tuple(template.id for template in task.templates_for(cot=variant.cot)))
                for variant, share in self.of(task).items()
            ]
        )
