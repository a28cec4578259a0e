"""Instances -> examples: pieces of text with roles, and their tokens with loss weights.

    pieces    exemplar ... exemplar  input  between  target        "input" is what stands before between
    tokens    bos  [    encoded as one text       ]  [target]  eos
    loss       0                 0                      1       1

The input (with exemplars and between) and the target are tokenised apart, so a target's tokens are the same in whatever
company it comes. A piece of a document has only a target; its ``source`` and ``id`` lead to the document. Price: rendering, about 20 microseconds for each template
call, and tokenising, about 1 second for 2 MB of text with a BPE.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from curate.config import from_mapping
from filters.errors import RunError
from mixtures.draws import key_of, permute
from mixtures.fewshot import ExemplarPool
from mixtures.instances import cut_start, templates_used
from mixtures.plan import Leaf, Plan, VariantShare, plan_of
from mixtures.shards import read_shard, take_rows, write_shard
from mixtures.tasks import Task
from mixtures.templates import Template
from mixtures.tokenizer import Tokenizer, load_tokenizer
from mixtures.variants import Variant

PIECES = pa.list_(
    pa.struct([pa.field("role", pa.string()), pa.field("text", pa.string()), pa.field("loss", pa.float32())])
)
POOL = pa.schema(
    [
        pa.field("source", pa.string()),
        pa.field("id", pa.string()),
        pa.field("row", pa.int64()),
        pa.field("epoch", pa.int32()),
        pa.field("task", pa.string()),
        pa.field("template", pa.string()),
        pa.field("variant", pa.string()),
        pa.field("input", pa.string()),
        pa.field("target", pa.string()),
        pa.field("pieces", PIECES),
        pa.field("tokens", pa.list_(pa.int32())),
        pa.field("loss", pa.list_(pa.float32())),
    ]
)
EVAL = pa.schema(
    [
        pa.field("id", pa.string()),
        pa.field("task", pa.string()),
        pa.field("dataset", pa.string()),
        pa.field("template", pa.string()),
        pa.field("variant", pa.string()),
        pa.field("input", pa.string()),
        pa.field("target", pa.string()),
        pa.field("tokens", pa.list_(pa.int32())),
        pa.field("loss", pa.list_(pa.float32())),
        pa.field("target_bytes", pa.int64()),
    ]
)


@dataclass(frozen=True, slots=True)
class Forms:
    """What all examples of a mixture have in common.

    Attributes:
        length: tokens of a row, which no example exceeds; None for evaluation items.
        between: stands between input and target.
        separator: stands after each exemplar.
        truncates: whether an input that is too long loses its start (else its row was rejected).
        cot: the templates that were checked, as in ``check_part``.
    """

    tokenizer: Tokenizer
    length: int | None
    between: str
    separator: str
    truncates: bool
    cot: tuple[bool, ...]


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which examples to make, each array (examples,) int64; ``variant`` and ``template`` as in ``plan.Block``."""

    row: npt.NDArray[np.int64]
    epoch: npt.NDArray[np.int64]
    variant: npt.NDArray[np.int64]
    template: npt.NDArray[np.int64]


@dataclass(slots=True)
class _Example:
    """One example while it is made."""

    source: str | None
    id: str
    row: int
    epoch: int
    variant: str
    template: str
    exemplars: list[str]
    input: str
    target: str

    def prompt(self, between: str) -> str:
        return "".join([*self.exemplars, self.input, between]) if self.input else ""

    def pieces(self, between: str) -> list[dict[str, Any]]:
        given = [("exemplar", text) for text in self.exemplars]
        given += [("input", self.input), ("between", between)] if self.input else []
        return [
            *({"role": role, "text": text, "loss": 0.0} for role, text in given),
            {"role": "target", "text": self.target, "loss": 1.0},
        ]


def make_examples(
    task: Task, leaf: Leaf, instances: pa.Table, wanted: Wanted, forms: Forms, *, seed: int
) -> tuple[pa.Table, dict[str, int]]:
    """The wanted examples as rows of a pool, and counts of what was done to make them fit.

    Args:
        task: whose rows they are.
        leaf: of the plan; its name keys the draw of exemplars.
        instances: all accepted rows of the task.
        wanted: which examples.
        forms: how they are put together.
        seed: of the mixture.

    Returns:
        a table of schema ``POOL`` in the order of ``wanted``, and ``shots_wanted``, ``shots_given``, ``truncated``.
    """
    makers = _Makers(task, leaf, instances, forms, seed)
    examples = makers.render(wanted)
    counts = {"shots_wanted": makers.shots_wanted, "truncated": 0}
    between, length = forms.between, forms.length
    prompts = forms.tokenizer.encode([example.prompt(between) for example in examples])
    targets = forms.tokenizer.encode([example.target for example in examples])
    for i, (example, target) in enumerate(zip(examples, targets, strict=True)):
        while length is not None and len(prompts[i]) + len(target) + 2 > length:
            if example.exemplars:  # exemplars were counted apart; joined they may have a token more
                example.exemplars.pop()
            elif not forms.truncates:
                raise RunError(
                    f"{leaf.name}: row {example.row} does not fit {length} tokens, though its check said so"
                )
            else:
                room = length - 2 - len(target)
                example.input = cut_start(example.input, between, room, forms.tokenizer)
                if not example.input:
                    raise RunError(
                        f"{leaf.name}: row {example.row} cannot be cut to {length} tokens, though its check said so"
                    )
                counts["truncated"] += 1
            prompts[i] = forms.tokenizer.encode([example.prompt(between)])[0]
    counts["shots_given"] = sum(len(example.exemplars) for example in examples)
    tokenizer = forms.tokenizer
    tokens = [[tokenizer.bos, *p, *t, tokenizer.eos] for p, t in zip(prompts, targets, strict=True)]
    loss = [[0.0] * (1 + len(p)) + [1.0] * (len(t) + 1) for p, t in zip(prompts, targets, strict=True)]
    columns = {
        "source": [example.source for example in examples],
        "id": [example.id for example in examples],
        "row": wanted.row,
        "epoch": wanted.epoch,
        "task": pa.repeat(task.id, len(examples)),
        "template": [example.template for example in examples],
        "variant": [example.variant for example in examples],
        "input": ["".join([*example.exemplars, example.input]) for example in examples],
        "target": [example.target for example in examples],
        "pieces": [example.pieces(between) for example in examples],
        "tokens": tokens,
        "loss": loss,
    }
    arrays = [_typed(columns[field.name], field.type) for field in POOL]
    return pa.table(arrays, schema=POOL), counts


def _typed(values: Any, type_: pa.DataType) -> pa.Array:
    if isinstance(values, pa.Array | pa.ChunkedArray):
        return values.cast(type_)
    return pa.array(values, type_)


class _Makers:
    """A leaf's rows with what is needed to render them; fields are fetched for the wanted rows only."""

    def __init__(self, task: Task, leaf: Leaf, instances: pa.Table, forms: Forms, seed: int) -> None:
        self.task, self.leaf, self.instances, self.forms, self.seed = task, leaf, instances, forms, seed
        self.templates = {template.id: template for template in templates_used(task, forms.cot)}
        self.column = {name: i for i, name in enumerate(self.templates)}
        self.shots_wanted = 0
        self.lengths, self.keys = (
            _matrix(instances[name], len(self.templates)) for name in ("lengths", "keys")
        )
        self.pools: dict[str, ExemplarPool] = {}

    def render(self, wanted: Wanted) -> list[_Example]:
        chosen = []
        for row, epoch, v, t in zip(
            *(a.tolist() for a in (wanted.row, wanted.epoch, wanted.variant, wanted.template)), strict=True
        ):
            variant = self.leaf.variants[v]
            chosen.append(
                (
                    row,
                    epoch,
                    variant,
                    variant.templates[t],
                    self._exemplars(row, epoch, variant, variant.templates[t]),
                )
            )
        rows = sorted({row for row, *_ in chosen} | {e for *_, exemplars in chosen for e in exemplars})
        names, fields = self._fetch(rows)
        examples = []
        for row, epoch, variant, name, exemplars in chosen:
            if self.task.kind == "documents":  # verbatim: a piece of text may begin or end with white space
                input_, target = "", fields[row]["text"]
            else:
                input_, target = self.templates[name].render(fields[row])
            shown = [self._exemplar(self.templates[name], fields[e]) for e in exemplars]
            examples.append(_Example(*names[row], row, epoch, variant.name, name, shown, input_, target))
        return examples

    def _exemplar(self, template: Template, fields: Mapping[str, Any]) -> str:
        input_, target = template.render(fields)
        return f"{input_}{self.forms.between}{target}{self.forms.separator}"

    def _exemplars(self, row: int, epoch: int, variant: VariantShare, template: str) -> list[int]:
        shots = Variant.named(variant.name).shots
        if shots == 0 or self.forms.length is None:
            return []
        self.shots_wanted += shots
        if template not in self.pools:
            separator = len(self.forms.tokenizer.encode([self.forms.separator])[0])
            sizes = self.lengths[:, self.column[template]] + separator
            keys = self.keys[:, self.column[template]]
            self.pools[template] = ExemplarPool(sizes, keys, seed=self.seed, leaf=self.leaf.name)
        room = self.forms.length - 2 - int(self.lengths[row, self.column[template]])
        return self.pools[template].draw(row, epoch, shots=shots, room=room)

    def _fetch(
        self, rows: Sequence[int]
    ) -> tuple[dict[int, tuple[str | None, str]], dict[int, dict[str, Any]]]:
        """Source and id, and the fields, of each row."""
        names = [name for name in self.instances.column_names if name.startswith("field:")]
        table = take_rows(self.instances.select(["source", "id", *names]), rows)
        fields = table.select(names).rename_columns([name.removeprefix("field:") for name in names])
        places = zip(table["source"].to_pylist(), table["id"].to_pylist(), strict=True)
        return dict(zip(rows, places, strict=True)), dict(zip(rows, fields.to_pylist(), strict=True))


def _matrix(lists: pa.ChunkedArray, width: int) -> npt.NDArray[np.int64]:
    """Lists of one length as (rows, width)."""
    values = lists.combine_chunks().flatten().to_numpy()
    return values.reshape(len(lists), width).astype(np.int64, copy=False)


# -- parts of the engine -------------------------------------------------------------------------------------------------


def render_part(
    out: Path,
    *,
    task: Mapping[str, Any],
    leaf: Mapping[str, Any],
    instances: Sequence[str],
    forms: Mapping[str, Any],
    seed: int,
    n_ordinals: int,
    ranges: Sequence[tuple[int, int, int]],
) -> dict[str, Any]:
    """Render what the first ``n_ordinals`` ordinals of a leaf draw in some ranges of rows: data.arrow.

    Args:
        out: where to write.
        task, leaf: as mappings.
        instances: paths of the task's checked rows.
        forms: see ``Forms``; the tokenizer by its path.
        seed: of the mixture.
        n_ordinals: how many examples the leaf gives in all.
        ranges: (epoch, lo, hi), rising: the rows [lo, hi) of that epoch.
    """
    plan = single(leaf, seed)
    drawn = [(epoch, plan.rows_drawn(0, epoch, n_ordinals, lo, hi)) for epoch, lo, hi in ranges]
    wanted = Wanted(
        row=np.concatenate([d[0] for _, d in drawn]),
        epoch=np.concatenate([np.full_like(d[0], epoch) for epoch, d in drawn]),
        variant=np.concatenate([d[2] for _, d in drawn]),
        template=np.concatenate([d[3] for _, d in drawn]),
    )
    return _make(out, task, plan.leaves[0], instances, wanted, forms, seed)


def sample_part(
    out: Path,
    *,
    task: Mapping[str, Any],
    leaf: Mapping[str, Any],
    instances: Sequence[str],
    forms: Mapping[str, Any],
    seed: int,
    examples: int,
) -> dict[str, Any]:
    """Render the first ``examples`` ordinals of a leaf: what its examples are like, whatever its weight will be."""
    plan = single(leaf, seed)
    epoch, row, variant, template = plan.examples_of(0, np.arange(examples))
    return _make(out, task, plan.leaves[0], instances, Wanted(row, epoch, variant, template), forms, seed)


def _make(
    out: Path,
    task: Mapping[str, Any],
    leaf: Leaf,
    instances: Sequence[str],
    wanted: Wanted,
    forms: Mapping[str, Any],
    seed: int,
) -> dict[str, Any]:
    table, counts = make_examples(
        from_mapping(Task, task), leaf, read_instances(instances), wanted, forms_from(forms), seed=seed
    )
    write_shard(out / "data.arrow", table)
    variants = Counter(table["variant"].to_pylist())
    return {
        "leaf": leaf.name,
        "rows": table.num_rows,
        "tokens": len(table["tokens"].combine_chunks().flatten()),
        "target_tokens": int(np.sum(table["loss"].combine_chunks().flatten().to_numpy())),
        "variants": dict(sorted(variants.items())),
        **counts,
    }


def eval_part(
    out: Path,
    *,
    task: Mapping[str, Any],
    instances: Sequence[str],
    forms: Mapping[str, Any],
    seed: int,
    items: int,
) -> dict[str, Any]:
    """Zero-shot items of ``items`` rows of a held-out task, answer-only and, where it can, with a rationale."""
    made = from_mapping(Task, task)
    table = read_instances(instances)
    rows = (
        np.sort(permute(np.arange(min(items, table.num_rows)), table.num_rows, key_of(seed, made.id, "eval")))
        if table.num_rows
        else np.zeros(0, np.int64)
    )
    tables = []
    for cot in (False, True):
        templates = made.templates_for(cot=cot)
        if not templates:
            continue
        variant = VariantShare(Variant(0, cot).name, 1 << 64, tuple(template.id for template in templates))
        zero = np.zeros_like(rows)
        # the rows take the templates in turn
        wanted = Wanted(rows, zero, zero, np.arange(len(rows)) % len(templates))
        leaf = Leaf(made.id, table.num_rows, (variant,))
        tables.append(make_examples(made, leaf, table, wanted, forms_from(forms), seed=seed)[0])
    pool = pa.concat_tables(tables)
    columns = [_typed(_eval_column(field.name, pool, made), field.type) for field in EVAL]
    write_shard(out / "data.arrow", pa.table(columns, schema=EVAL))
    return {"task": made.id, "dataset": made.dataset, "rows": pool.num_rows, "instances": len(rows)}


def _eval_column(name: str, pool: pa.Table, task: Task) -> Any:
    if name == "dataset":
        return pa.repeat(task.dataset, pool.num_rows)
    if name == "target_bytes":
        return pa.compute.binary_length(pool["target"])
    return pool[name]


def read_instances(paths: Sequence[str]) -> pa.Table:
    """All accepted rows of a task, memory-mapped."""
    return pa.concat_tables([read_shard(path) for path in paths])


def forms_from(forms: Mapping[str, Any]) -> Forms:
    """The forms that a part was given as JSON."""
    return Forms(
        tokenizer=load_tokenizer(forms["tokenizer"]),
        length=forms["length"],
        between=forms["between"],
        separator=forms["separator"],
        truncates=forms["truncates"],
        cot=tuple(forms["cot"]),
    )


def single(leaf: Mapping[str, Any], seed: int) -> Plan:
    """A plan of one leaf; what a leaf draws does not depend on the others."""
    variants = tuple(VariantShare(v["name"], v["edge"], tuple(v["templates"])) for v in leaf["variants"])
    return plan_of([Leaf(leaf["name"], leaf["rows"], variants)], {leaf["name"]: 1}, seed=seed, examples=0)
