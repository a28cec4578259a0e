"""The configuration of ``mixtures study``: arms as edits of one mixture, trained alike and compared."""

from __future__ import annotations

import dataclasses
from typing import Literal

from curate.config import nearest
from mixtures.config import MixtureConfig
from mixtures.train.recipe import SIZES, Recipe


@dataclasses.dataclass(frozen=True, slots=True)
class Arm:
    """A mixture, as what it changes of the study's mixture.

    Attributes:
        about: one sentence for the report.
        drop: parts that this arm leaves out.
        weights: other weights for parts.
    """

    about: str = ""
    drop: tuple[str, ...] = ()
    weights: dict[str, float] = dataclasses.field(default_factory=dict)

    def __post_init__(self) -> None:
        for part, weight in self.weights.items():
            if not 0 < weight < float("inf"):
                raise ValueError(
                    f"weights.{part}: found {weight}; allowed: above 0. Use drop to leave a part out."
                )


@dataclasses.dataclass(frozen=True, slots=True)
class Base:
    """The model that every arm starts from: a new one, pre-trained on the kept documents of a curated run.

    Attributes:
        pretrain_on: the curated run's directory.
        recipe: how long and how fast.
    """

    pretrain_on: str
    recipe: Recipe = dataclasses.field(
        default_factory=lambda: Recipe(steps=100, learning_rate=6e-3, warmup=10)
    )


@dataclasses.dataclass(frozen=True, slots=True)
class Model:
    """The proxy: its family and size."""

    size: str = "1M"
    family: Literal["decoder"] = "decoder"

    def __post_init__(self) -> None:
        if self.size not in SIZES:
            raise ValueError(
                f"size: found '{self.size}'{nearest(self.size, list(SIZES)) or ';'} Allowed: {', '.join(SIZES)}."
            )


@dataclasses.dataclass(frozen=True, slots=True)
class StudyConfig:
    """Everything that decides what a study compares.

    Attributes:
        mixture: the mixture's config file; held-out datasets, tokenizer, variants and packing are its own.
        base: what every arm starts from; untuned, it is an arm itself, called ``base``.
        arms: the competing mixtures by name.
        reference: the arm that the others are compared with; by default the first.
        seeds: how many data orders each arm is trained with; arms share them, so differences are paired.
        train: how each arm is fine-tuned; the same for all.
        evaluate: what is measured on the held-out datasets.
        seed: of the first model weights, of the first data order, and of the bootstrap.
    """

    mixture: str
    base: Base
    arms: dict[str, Arm]
    reference: str | None = None
    seeds: int = 2
    model: Model = dataclasses.field(default_factory=Model)
    train: Recipe = dataclasses.field(default_factory=Recipe)
    evaluate: Literal["bits_per_byte"] = "bits_per_byte"
    seed: int = 17

    def __post_init__(self) -> None:
        if len(self.arms) < 1 or "base" in self.arms:
            raise ValueError(
                "arms: allowed: one or more, none of them called 'base' (the untuned base is always an arm)."
            )
        if self.reference is not None and self.reference not in self.arms:
            raise ValueError(f"reference: no arm is called '{self.reference}'{nearest(self.reference, list(self.arms)) or ';'} Allowed: {', '.join(self.arms)}.")  # fmt: skip
        if not 1 <= self.seeds <= 100:
            raise ValueError(f"seeds: found {self.seeds}; allowed: 1 to 100.")


def arm_mixture(mixture: MixtureConfig, arm: Arm) -> MixtureConfig:
    """The mixture of an arm.

    Raises:
        ValueError: with one line for each part that the mixture does not have, or when nothing is left.
    """
    parts = dict(mixture.mixture.parts)
    faults = [f"no part is called '{name}'{nearest(name, list(parts)) or ';'} Allowed: {', '.join(parts)}." for name in (*arm.drop, *arm.weights) if name not in parts]  # fmt: skip
    if faults:
        raise ValueError("\n".join(faults))
    if set(arm.drop) >= set(parts):
        raise ValueError("drop: every part is dropped; leave at least one.")
    if all(
        part.weight is not None for part in parts.values()
    ):  # at weight 0 a part is checked like in other arms
        weights = {
            name: 0.0 if name in arm.drop else arm.weights.get(name, part.weight)
            for name, part in parts.items()
        }
        parts = {name: dataclasses.replace(part, weight=weights[name]) for name, part in parts.items()}
    elif arm.weights:
        raise ValueError(
            "weights: the mixture gives its parts no weights to change. Give all of its parts one."
        )
    else:
        parts = {name: part for name, part in parts.items() if name not in arm.drop}
    return dataclasses.replace(mixture, mixture=dataclasses.replace(mixture.mixture, parts=parts))
