"""What a mixture will be, before it is built: the expected share of each leaf in three units.

Weights are given by example, budgets by token, and the loss is by target token; on instruction data the three differ
widely, since a few-shot prompt of 1,000 tokens can end in a target of one. So all three are shown side by side.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from typing import Any

from mixtures.plan import Plan
from mixtures.tasks import Task

UNITS = ("examples", "tokens", "target_tokens")


@dataclass(frozen=True, slots=True)
class LeafForecast:
    """What a leaf is expected to give.

    Attributes:
        name: ``part.task``.
        task: its task's id.
        rows: usable rows.
        examples: that the plan takes from it, exactly.
        share: in examples, exactly as the config's weights say.
        tokens, target_tokens: mean of an example, measured on its first ones (500, or all where it has fewer).
        variants: name -> share.
    """

    name: str
    task: str
    rows: int
    examples: int
    share: Fraction
    tokens: float
    target_tokens: float
    variants: dict[str, float]


@dataclass(frozen=True, slots=True)
class TaskCount:
    """What the check of a task found: read == used + the sum of rejected.

    Attributes:
        task: which.
        read: records read.
        used: records that became instances.
        rejected: rule -> records.
        edited: rule -> records that were changed and used.
        rows: instances; more than used where documents were cut.
    """

    task: Task
    read: int
    used: int
    rejected: dict[str, int]
    edited: dict[str, int]
    rows: int


@dataclass(frozen=True, slots=True)
class PlannedMixture:
    """A mixture before it is built.

    Attributes:
        plan: index -> example.
        leaves: the forecast of each leaf, in the plan's order.
        tasks: the count of each task that is trained or evaluated on.
        warnings: what the user should know.
    """

    plan: Plan
    leaves: tuple[LeafForecast, ...]
    tasks: tuple[TaskCount, ...]
    warnings: tuple[str, ...]

    def rows(self) -> list[dict[str, Any]]:
        """One mapping for each leaf: leaf, rows, epochs, variants and, for each of ``UNITS``, its count and share."""
        counts = [
            (leaf.examples, leaf.examples * leaf.tokens, leaf.examples * leaf.target_tokens)
            for leaf in self.leaves
        ]
        totals = [sum(column) or 1 for column in zip(*counts, strict=True)]
        return [
            {
                "leaf": leaf.name,
                "rows": leaf.rows,
                "epochs": leaf.examples / leaf.rows,
                **{unit: round(number) for unit, number in zip(UNITS, numbers, strict=True)},
                **{
                    f"{unit}_share": number / total
                    for unit, number, total in zip(UNITS, numbers, totals, strict=True)
                },
                "variants": leaf.variants,
            }
            for leaf, numbers in zip(self.leaves, counts, strict=True)
        ]

    def table(self) -> str:
        """The same as lines of text, with a line of totals."""
        rows = self.rows()
        lines = [
            (
                "leaf",
                "rows",
                "epochs",
                *(head for unit in UNITS for head in (unit.replace("_", " "), "%")),
                "variants",
            )
        ]
        for row in rows:
            numbers = [
                text for unit in UNITS for text in (f"{row[unit]:,}", f"{100 * row[f'{unit}_share']:.2f}")
            ]
            variants = " ".join(f"{name} {share:.0%}" for name, share in row["variants"].items())
            lines.append((row["leaf"], f"{row['rows']:,}", f"{row['epochs']:.2f}", *numbers, variants))
        totals = [text for unit in UNITS for text in (f"{sum(row[unit] for row in rows):,}", "")]
        lines.append(("total", f"{sum(row['rows'] for row in rows):,}", "", *totals, ""))
        widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
        return "\n".join(
            "  ".join(
                cell.ljust(width) if i in (0, len(widths) - 1) else cell.rjust(width)
                for i, (cell, width) in enumerate(zip(line, widths, strict=True))
            ).rstrip()
            for line in lines
        )
