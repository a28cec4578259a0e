"""The configuration of a mixture: what configs/mixtures/*.yaml may say.

    seed: 17
    tokenizer: {bpe: 2048, train_on: runs/demo/curated}
    tasks: [configs/tasks/*.yaml, {documents: runs/demo/curated}]
    variants: {shots: {0: .5, 3: .5}, cot: {0: .7, 1: .3}}
    mixture:
      parts:
        flan: {tasks: {source: raw}, rate: proportional, cap: 30000, weight: .46}
        text: {tasks: {source: documents}, weight: .54}
    hold_out: {datasets: [qasc]}
    eval: {items: 100}
    pack: {length: 512}
    budget: {tokens: 20M}

A *leaf* of the mixture is one task under one part; it is called ``part.task``. A part without ``variants`` of its own
takes the mixture's. Weights and rates are relative to the sum of their siblings'.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Literal

from curate.config import Count, nearest
from filters.errors import ConfigError
from mixtures import rates
from mixtures.tasks import Documents, Kind, Task, check_name
from mixtures.variants import Variants

MAX_LEAF = 220
"""Bytes of a leaf's name, which is that of a folder."""


@dataclass(frozen=True, slots=True)
class Bpe:
    """A byte-level BPE to train.

    Attributes:
        bpe: how many ids it has.
        train_on: a curated run, on whose kept documents it is trained.
    """

    bpe: int
    train_on: str

    def __post_init__(self) -> None:
        if not 259 <= self.bpe <= 1_000_000:
            raise ValueError(
                f"bpe: found {self.bpe}; allowed: 259 (all bytes and three special ids) to 1000000"
            )


@dataclass(frozen=True, slots=True)
class Selection:
    """Tasks by what they are; a task must fit everything that is given."""

    cluster: tuple[str, ...] = ()
    category: tuple[str, ...] = ()
    dataset: tuple[str, ...] = ()
    source: Kind | None = None
    cot: bool | None = None

    def takes(self, task: Task) -> bool:
        """Whether the task fits."""
        return (
            (not self.cluster or task.cluster in self.cluster)
            and (not self.category or task.category in self.category)
            and (not self.dataset or task.dataset in self.dataset)
            and self.source in (None, task.kind)
            and self.cot in (None, task.has_rationale)
        )


@dataclass(frozen=True, slots=True)
class Part:
    """A branch of the mixture.

    Attributes:
        tasks: ids, or a selection. Left out where there are ``parts``.
        parts: branches of this one.
        rate: how its tasks share it: by size (``proportional``), ``equal``, or a number for each task id.
        cap: at most this size counts in ``proportional``.
        weight: its share among its siblings; with 0 it is checked and planned, and gives nothing. Either all siblings
            have one, or none: then a part weighs as much as the rates of its tasks together.
        variants: of its tasks, in place of the mixture's.
    """

    tasks: tuple[str, ...] | Selection | None = None
    parts: dict[str, Part] | None = None
    rate: Literal["proportional", "equal"] | dict[str, float] = "proportional"
    cap: Count | None = None
    weight: float | None = None
    variants: Variants | None = None

    def __post_init__(self) -> None:
        if (self.tasks is None) == (self.parts is None):
            raise ValueError("a part has either tasks or parts")
        if self.weight is not None and not 0 <= self.weight < float("inf"):
            raise ValueError(f"weight: found {self.weight}; allowed: 0 or more")
        if self.cap is not None and (self.cap == 0 or self.rate != "proportional"):
            raise ValueError("cap: allowed: 1 or more, and only with rate: proportional")
        if isinstance(self.rate, dict) and not all(
            0 < number < float("inf") for number in self.rate.values()
        ):
            raise ValueError("rate: allowed are numbers above 0. Leave a task out to give it nothing")
        _check_siblings(self.parts)


@dataclass(frozen=True, slots=True)
class Mixture:
    """The tree of parts and the unit in which its weights count."""

    parts: dict[str, Part]
    unit: Literal["examples"] = "examples"

    def __post_init__(self) -> None:
        if not self.parts:
            raise ValueError("parts: a mixture has at least one")
        _check_siblings(self.parts)


def _check_siblings(parts: dict[str, Part] | None) -> None:
    for name in parts or {}:
        check_name("parts", name)
    if parts and len({part.weight is None for part in parts.values()}) == 2:
        without = [name for name, part in parts.items() if part.weight is None]
        raise ValueError(f"parts: either all have a weight or none; without are {', '.join(without)}")
    if parts and all(part.weight == 0 for part in parts.values()):
        raise ValueError("parts: the weight of every part is 0; allowed: at least one above 0")


@dataclass(frozen=True, slots=True)
class HoldOut:
    """What no leaf may contain; its tasks become evaluation items."""

    datasets: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Eval:
    """How many rows of each held-out dataset are evaluated on. A row of a task with a rationale gives two items."""

    items: Count = 200


@dataclass(frozen=True, slots=True)
class Pack:
    """How examples become rows.

    Attributes:
        length: tokens of a row, at least 16.
        between: stands between input and target.
        too_long: what becomes of an example that does not fit: its row is rejected, or its input loses its start.
    """

    length: int = 1024
    between: str = "\n"
    too_long: Literal["reject", "truncate_input"] = "reject"

    def __post_init__(self) -> None:
        if not 16 <= self.length <= 1 << 20:
            raise ValueError(f"length: found {self.length}; allowed: 16 to {1 << 20}")


@dataclass(frozen=True, slots=True)
class Budget:
    """How large the mixture is, in one of three units. Tokens are those of examples, without padding."""

    examples: Count | None = None
    tokens: Count | None = None
    target_tokens: Count | None = None

    def __post_init__(self) -> None:
        given = [number for number in (self.examples, self.tokens, self.target_tokens) if number is not None]
        if len(given) != 1 or given[0] == 0:
            raise ValueError("exactly one of examples, tokens, target_tokens, and above 0")


@dataclass(frozen=True, slots=True)
class MixtureConfig:
    """A whole mixture. ``tokenizer`` is ``bytes``, the path of a tokenizer.json, or a BPE to train."""

    tasks: tuple[str | Documents, ...]
    mixture: Mixture
    budget: Budget
    seed: int = 17
    tokenizer: str | Bpe = "bytes"
    variants: Variants = field(default_factory=Variants)
    hold_out: HoldOut = field(default_factory=HoldOut)
    eval: Eval = field(default_factory=Eval)
    pack: Pack = field(default_factory=Pack)


@dataclass(frozen=True, slots=True)
class Branch:
    """A leaf before its rows are counted: a task under a part."""

    name: str
    task: Task
    variants: Variants


def branches(config: MixtureConfig, tasks: Sequence[Task]) -> tuple[Branch, ...]:
    """The leaves of a mixture, in the order of its parts.

    Raises:
        ConfigError: a task or dataset that does not exist, a part without a task, or a held-out task asked for by name.
    """
    faults: list[str] = []
    found = find_branches(config, tasks, faults)
    if faults:
        raise ConfigError(faults)
    return found


def find_branches(config: MixtureConfig, tasks: Sequence[Task], faults: list[str]) -> tuple[Branch, ...]:
    """As ``branches``, as far as they can be found; mistakes go to ``faults``."""
    datasets = sorted({task.dataset for task in tasks})
    for dataset in config.hold_out.datasets:
        if dataset not in datasets:
            hint = nearest(dataset, datasets) or "."
            faults.append(
                f"$.hold_out.datasets: no task has the dataset '{dataset}'{hint} Allowed: {', '.join(datasets)}."
            )
    found = tuple(_branches(config, config.mixture.parts, tasks, "", config.variants, faults))
    faults += [
        f"$.mixture.parts: the leaf '{leaf.name}' has a name of {len(leaf.name.encode())} bytes; allowed are "
        f"{MAX_LEAF}. Give shorter names."
        for leaf in found
        if len(leaf.name.encode()) > MAX_LEAF
    ]
    return found


def _branches(
    config: MixtureConfig,
    parts: dict[str, Part],
    tasks: Sequence[Task],
    prefix: str,
    variants: Variants,
    faults: list[str],
) -> Iterator[Branch]:
    for name, part in parts.items():
        own = part.variants or variants
        if part.parts is not None:
            yield from _branches(config, part.parts, tasks, f"{prefix}{name}.", own, faults)
            continue
        where = f"$.mixture.parts.{prefix.replace('.', '.parts.')}{name}"
        chosen = _choose(config, part, tasks, where, faults)
        if isinstance(part.rate, dict):
            ids = [task.id for task in chosen]
            faults += [
                f"{where}.rate: no number for the task '{i}'. Give it one." for i in ids if i not in part.rate
            ]
            faults += [
                f"{where}.rate: '{i}' is no task of this part{nearest(i, ids) or '.'}"
                for i in part.rate
                if i not in ids
            ]
        yield from (Branch(f"{prefix}{name}.{task.id}", task, own) for task in chosen)


def _choose(
    config: MixtureConfig, part: Part, tasks: Sequence[Task], where: str, faults: list[str]
) -> list[Task]:
    usable = {task.id: task for task in tasks if not is_held_out(config, task)}
    if isinstance(part.tasks, Selection):
        chosen = [task for task in usable.values() if part.tasks.takes(task)]
        if not chosen:
            faults.append(
                f"{where}.tasks: no task fits. Tasks that are not held out: {', '.join(usable) or 'none'}."
            )
        return chosen
    known = {task.id: task for task in tasks}
    chosen = []
    for id_ in part.tasks or ():
        if id_ in usable:
            chosen.append(usable[id_])
        elif id_ in known:
            why = (
                "is for evaluation only"
                if known[id_].split == "eval"
                else f"is of the held-out dataset '{known[id_].dataset}'"
            )
            faults.append(f"{where}.tasks: '{id_}' {why}. Leave it out here.")
        else:
            faults.append(
                f"{where}.tasks: no task '{id_}'{nearest(id_, list(known)) or '.'} Allowed: {', '.join(usable)}."
            )
    if len(set(part.tasks or ())) < len(part.tasks or ()):
        faults.append(f"{where}.tasks: a task is named twice. Name it once.")
    if not part.tasks:
        faults.append(f"{where}.tasks: no task is named. Name one, or leave the part out.")
    return chosen


def is_held_out(config: MixtureConfig, task: Task) -> bool:
    """Whether no leaf may contain the task."""
    return task.split == "eval" or task.dataset in config.hold_out.datasets


def leaf_shares(
    config: MixtureConfig, leaves: Sequence[Branch], sizes: dict[str, int]
) -> dict[str, Fraction]:
    """The share of each leaf in the mixture, in examples; they sum to 1.

    Args:
        config: whose tree of parts is followed.
        leaves: from ``branches``.
        sizes: usable rows of each leaf, by its name.
    """
    return rates.normalized(
        _rates(config.mixture.parts, {leaf.name: leaf.task for leaf in leaves}, sizes, "")
    )


def _rates(
    parts: dict[str, Part], tasks: dict[str, Task], sizes: dict[str, int], prefix: str
) -> dict[str, Fraction]:
    """Rates of the leaves below these siblings; weights move rates between siblings and keep their sum."""
    found: dict[str, dict[str, Fraction]] = {}
    for name, part in parts.items():
        path = f"{prefix}{name}."
        if part.parts is not None:
            found[name] = _rates(part.parts, tasks, sizes, path)
        else:
            inside = {leaf: n for leaf, n in sizes.items() if leaf.rpartition(".")[0] + "." == path}
            found[name] = _leaf_rates(part, inside, tasks)
    weights = {name: rates.exact(part.weight) for name, part in parts.items() if part.weight is not None}
    total = sum(sum(own.values()) for own in found.values())
    for name, weight in weights.items():
        mass = total * weight / sum(weights.values())
        found[name] = {leaf: share * mass for leaf, share in rates.normalized(found[name]).items()}
    return {leaf: rate for own in found.values() for leaf, rate in own.items()}


def _leaf_rates(part: Part, sizes: dict[str, int], tasks: dict[str, Task]) -> dict[str, Fraction]:
    if part.rate == "equal":
        return rates.equal(sizes)
    if isinstance(part.rate, dict):
        return rates.explicit(sizes, numbers={leaf: part.rate[tasks[leaf].id] for leaf in sizes})
    caps = {leaf: cap for leaf in sizes if (cap := tasks[leaf].cap) is not None}
    return rates.proportional(sizes, cap=part.cap, caps=caps)
