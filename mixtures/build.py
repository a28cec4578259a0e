"""``mixtures plan`` and ``mixtures build``: tasks and curated runs -> plan -> pool -> packs.

    tokenizer ─ check ─ sample ─▶ PlannedMixture                       what `plan` prints
                                      │ plan.json
                                   render ─ pack ─ eval ─▶ pool/ packs/ eval/ decisions/ manifest.json

*check* decides which rows can be used, so that the plan can promise exact counts; *sample* renders the first examples of
each leaf to learn its mean length, which turns a budget of tokens into one of examples and gives the expected shares;
*render* makes each example of the pool once; *pack* takes the plan's windows from the pool. Every step is a list of
independent parts, each bounded in memory: a check holds a batch of records, a render part some 4,096 examples and the
lengths and keys of its task's rows (16 bytes for each row and template), a pack part 16 windows or fewer.
"""

from __future__ import annotations

import logging
import math
import shutil
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow.parquet as pq

from curate.config import to_mapping
from curate.engine import EngineName, Finished, Run, Step, digest_of, file_digest, place_file, write_atomic
from curate.manifest import read_manifest, write_manifest
from curate.shards import read_groups
from curate.sources import SourceFile, file_arguments, file_stamp
from filters.errors import ConfigError, DataError, RunError
from mixtures.config import Bpe, Branch, MixtureConfig, find_branches, is_held_out, leaf_shares
from mixtures.examples import EVAL
from mixtures.forecast import LeafForecast, PlannedMixture, TaskCount
from mixtures.loader import read_examples
from mixtures.packing import WINDOW, pack_table
from mixtures.plan import Leaf, Plan, plan_of
from mixtures.shards import SHARD_PATTERN, finish_dataset, finish_dataset_dict, read_shard, write_shard
from mixtures.tasks import Task, check_kept, find_tasks, kept_shards, task_files
from mixtures.tokenizer import load_tokenizer, train_bpe

log = logging.getLogger(__name__)

SAMPLE = 500
"""Examples of a leaf that are rendered to measure it."""
RENDER_ROWS = 4096
"""Examples of one render part and pool shard, about."""
PACK_WINDOWS = 16
"""Windows of one pack part and shard, fewer where rows are long: see ``PACK_TOKENS``."""
PACK_TOKENS = 1 << 27
"""Tokens of one pack part, about, if each example had a row of its own (16 bytes a token)."""


@dataclass(frozen=True, slots=True)
class BuiltMixture:
    """A finished mixture: its directory and what its manifest says."""

    directory: Path
    manifest: dict[str, Any]
    planned: PlannedMixture


def plan_mixture(
    config: MixtureConfig,
    out: str | Path,
    *,
    engine: EngineName = "auto",
    workers: int | None = None,
    ray_address: str | None = None,
    progress: bool = True,
) -> PlannedMixture:
    """Check the tasks and forecast the mixture; ``build_mixture`` with the same ``out`` goes on from there.

    Raises:
        ConfigError: tasks, parts or paths that do not fit together; all at once.
        DataError: a task of the mixture without a usable row.
        RunError: a part failed, or another command holds the directory.
    """
    with Run(out, engine=engine, workers=workers, ray_address=ray_address, progress=progress) as run:
        return _Build(config, run).plan()


def build_mixture(
    config: MixtureConfig,
    out: str | Path,
    *,
    engine: EngineName = "auto",
    workers: int | None = None,
    ray_address: str | None = None,
    steps: str | Path | None = None,
    progress: bool = True,
) -> BuiltMixture:
    """Build the mixture directory ``out``. Run it again after any interruption: the result is the same.

    Mixtures that differ in weights or seed only may share the private ``steps`` (see ``curate.engine.Run``): tasks are
    then checked once for all of them.

    Raises:
        ConfigError, DataError, RunError: as ``plan_mixture``.
    """
    with Run(
        out, engine=engine, workers=workers, ray_address=ray_address, steps=steps, progress=progress
    ) as run:
        build = _Build(config, run)
        return build.build(build.plan())


@dataclass(frozen=True, slots=True)
class _Checked:
    """A task after its check: where its instances are, and their digest."""

    count: TaskCount
    instances: list[str]
    digest: str
    cot: list[bool]


class _Named(NamedTuple):
    """What the names of a config stand for: its tasks, their leaves, and the files behind them."""

    tasks: list[Task]
    branches: tuple[Branch, ...]
    trained: dict[str, Task]
    evaluated: dict[str, Task]
    items: dict[str, int]
    files: dict[str, list[SourceFile]]


def config_faults(config: MixtureConfig) -> list[str]:
    """Mistakes that no single setting shows: tasks, parts and files that must exist. For ``load_config``."""
    faults: list[str] = []
    _resolve(config, faults)
    return list(dict.fromkeys(faults))


def _resolve(config: MixtureConfig, faults: list[str]) -> _Named:
    """Look up everything that the config names, as far as it is there; mistakes go to ``faults``."""
    places = find_tasks(config.tasks, faults)
    tasks = [task for task, _ in places.values()]
    branches = find_branches(config, tasks, faults)
    trained = {branch.task.id: branch.task for branch in branches}
    evaluated, items = _evaluated(config, tasks)
    files: dict[str, list[SourceFile]] = {}
    for task in [*trained.values(), *evaluated.values()]:
        with _collecting(faults):
            files[task.id] = task_files(task, where=places[task.id][1])
    with _collecting(faults):
        _check_tokenizer(config.tokenizer)
    return _Named(tasks, branches, trained, evaluated, items, files)


def _check_tokenizer(given: str | Bpe) -> None:
    """Refuse a tokenizer, or a curated run to train it on, that is not there."""
    if isinstance(given, Bpe):
        kept_shards(given.train_on)
    elif given != "bytes" and not _tokenizer_file(given).is_file():
        raise ConfigError(
            f"$.tokenizer: no file {_tokenizer_file(given)}; allowed are 'bytes', a tokenizer.json or a directory "
            "that has one."
        )


class _Build:
    """The steps of one build, in order; each method is one step and keeps what the next ones read."""

    def __init__(self, config: MixtureConfig, run: Run) -> None:
        self.config, self.run = config, run
        faults: list[str] = []
        named = _resolve(config, faults)
        if faults:
            raise ConfigError(list(dict.fromkeys(faults)))
        tasks = named.tasks
        self.branches, self.files = named.branches, named.files
        self.trained, self.evaluated, self.items = named.trained, named.evaluated, named.items
        self.parents = _parents(config, [*self.trained.values()])
        self.warnings = [
            f"task '{task.id}' is in no part of the mixture"
            for task in tasks
            if task.id not in self.trained and not is_held_out(config, task)
        ]
        self.tokenizer = "bytes"
        self.tokenizer_digest = ""
        self.is_told = True
        self.checked: dict[str, _Checked] = {}
        self.check_step: Finished
        self.inputs: list[dict[str, str]] = []

    # -- planning ------------------------------------------------------------------------------------------------------

    def plan(self) -> PlannedMixture:
        self._tokenizer()
        self._check()
        self.leaves = [self._leaf(branch) for branch in self.branches]
        shares = leaf_shares(self.config, self.branches, {leaf.name: leaf.rows for leaf in self.leaves})
        sizes = self._sample()
        means = {name: _means(of_leaf, SAMPLE) for name, of_leaf in sizes.items()}
        plan = plan_of(self.leaves, shares, seed=self.config.seed, examples=self._examples(shares, means))
        counts = plan.counts(plan.examples)
        means = {name: _means(of_leaf, counts[name] or SAMPLE) for name, of_leaf in sizes.items()}
        forecasts = tuple(
            LeafForecast(
                name=branch.name,
                task=branch.task.id,
                rows=leaf.rows,
                examples=counts[leaf.name],
                share=shares[leaf.name],
                tokens=float(means[leaf.name][0]),
                target_tokens=float(means[leaf.name][1]),
                variants={v.name: float(share) for v, share in branch.variants.of(branch.task).items()},
            )
            for branch, leaf in zip(self.branches, self.leaves, strict=True)
        )
        tasks = tuple(checked.count for checked in self.checked.values())
        if self.is_told:
            self._tell(tasks)
        return PlannedMixture(plan, forecasts, tasks, tuple(self.warnings))

    def _tell(self, tasks: Iterable[TaskCount]) -> None:
        """Log what the user should know about the tasks."""
        for warning in self.warnings:
            log.warning("%s", warning)
        for count in tasks:
            if count.rejected:
                log.info(
                    "%s: %d records, %d used; rejected: %s",
                    count.task.id,
                    count.read,
                    count.used,
                    _listed(count.rejected),
                )

    def _tokenizer(self) -> None:
        given = self.config.tokenizer
        if given == "bytes":
            return
        if isinstance(given, Bpe):
            params: dict[str, Any] = {
                "bpe": given.bpe,
                "kept": [[str(f.path.absolute()), sha256] for f, sha256 in kept_shards(given.train_on)],
            }
            inputs = [digest_of(self.parents[given.train_on])]
        else:
            path = _tokenizer_file(given)
            load_tokenizer(path)  # a mistake in the config is reported as such, not as a failed part
            params = {"copy": str(path.absolute())}
            inputs = [file_digest(path)]
        step = self.run.step(Step("tokenizer", "mixtures.build:tokenizer_part", [{}], params, inputs))
        self.tokenizer, self.tokenizer_digest = str(step.paths("tokenizer.json")[0]), step.digest

    def _check(self) -> None:
        parts, inputs, size = [], [self.tokenizer_digest], 0
        pack = self.config.pack
        for task in [*self.trained.values(), *self.evaluated.values()]:
            files = self.files[task.id]
            # each shard of a curated run is a part; a task is one, because its ids must differ across its files
            groups = ([[file] for file in files] or [[]]) if task.kind == "documents" else [files]
            is_trained = task.id in self.trained
            shared = {
                "task": to_mapping(task),
                "cot": self._cot(task) if is_trained else [False, True],
                "length": pack.length if is_trained else None,
            }
            sha256 = _hashes(task)
            parts += [{**shared, "files": [_expected(file, sha256) for file in group]} for group in groups]
            inputs.append(digest_of([file_stamp(file) for file in files]))
            size += sum(file.path.stat().st_size for file in files)
        params = {"tokenizer": self.tokenizer, "between": pack.between, "too_long": pack.too_long}
        before = set(self.run.steps_directory.iterdir())
        step = self.run.step(
            Step("check", "mixtures.instances:check_part", parts, params, inputs, input_bytes=4 * size)
        )
        # mixtures that share their steps share most of their tasks, too: what was said once is not said again
        is_alone = self.run.steps_directory == self.run.directory / ".steps"
        self.is_told = is_alone or step.directory not in before
        self.check_step = step
        paths, hashes = step.paths("instances.arrow"), step.hashes("instances.arrow")
        for task in [*self.trained.values(), *self.evaluated.values()]:
            mine = [i for i, part in enumerate(parts) if part["task"]["id"] == task.id]
            results = [step.results[i] for i in mine]
            count = TaskCount(
                task=task,
                read=sum(r["read"] for r in results),
                used=sum(r["used"] for r in results),
                rejected=_sum(r["rejected"] for r in results),
                edited=_sum(r["edited"] for r in results),
                rows=sum(r["rows"] for r in results),
            )
            if count.read != count.used + sum(count.rejected.values()):
                raise RunError(f"task '{task.id}': {count.read} records were read, but {count.used} used and {count.rejected} rejected; this is a defect of the program, please report it")  # fmt: skip
            instances = [str(paths[i]) for i in mine]
            self.checked[task.id] = _Checked(
                count, instances, digest_of([hashes[i] for i in mine]), parts[mine[0]]["cot"]
            )
            self.inputs += [entry for r in results for entry in r["inputs"]]
        empty = [c.count for task, c in self.checked.items() if task in self.trained and c.count.rows == 0]
        if empty:
            lines = [
                f"  {c.task.id}: {c.read} read; rejected: {_listed(c.rejected)}{self._first_reason(c.task.id)}"
                for c in empty
            ]
            raise DataError(
                "tasks of the mixture without a usable row:\n"
                + "\n".join(lines)
                + "\n  Correct them, or leave them out."
            )

    def _first_reason(self, task: str) -> str:
        """Why the first record of a task was rejected, in words."""
        for path in self.check_step.paths("decisions.parquet"):
            found = pq.read_table(path, filters=[("source", "==", task), ("action", "==", "drop")])
            if found.num_rows:
                first = found.slice(0, 1).to_pylist()[0]
                return f"\n    first, record '{first['id']}': {first['detail'] or first['rule']}"
        return ""

    def _cot(self, task: Task) -> list[bool]:
        return sorted(
            {v.cot for branch in self.branches if branch.task.id == task.id for v in branch.variants.of(task)}
        )

    def _leaf(self, branch: Branch) -> Leaf:
        checked = self.checked[branch.task.id]
        return Leaf(branch.name, checked.count.rows, branch.variants.for_plan(branch.task), checked.digest)

    def _sample(self) -> dict[str, npt.NDArray[np.int64]]:
        """Tokens and target tokens, (2, SAMPLE), of each leaf's first examples."""
        parts = [
            {**self._part(branch, leaf), "examples": SAMPLE}
            for branch, leaf in zip(self.branches, self.leaves, strict=True)
        ]
        step = self.run.step(
            Step(
                "sample",
                "mixtures.examples:sample_part",
                parts,
                inputs=[self.check_step.digest, self.tokenizer_digest],
            )
        )
        return {
            r["leaf"]: _sizes(path) for r, path in zip(step.results, step.paths("data.arrow"), strict=True)
        }

    def _part(self, branch: Branch, leaf: Leaf) -> dict[str, Any]:
        """What every part that renders a leaf is given."""
        checked = self.checked[branch.task.id]
        return {
            "task": to_mapping(branch.task),
            "leaf": {"name": leaf.name, "rows": leaf.rows, "variants": [{"name": v.name, "edge": v.edge, "templates": list(v.templates)} for v in leaf.variants]},
            "instances": checked.instances,
            "forms": self._forms(length=self.config.pack.length, separator=branch.variants.separator, cot=checked.cot),
            "seed": self.config.seed,
        }  # fmt: skip

    def _forms(self, *, length: int | None, separator: str, cot: list[bool]) -> dict[str, Any]:
        pack = self.config.pack
        return {
            "tokenizer": self.tokenizer,
            "length": length,
            "between": pack.between,
            "separator": separator,
            "truncates": pack.too_long == "truncate_input",
            "cot": cot,
        }

    def _examples(
        self, shares: Mapping[str, Fraction], means: Mapping[str, tuple[Fraction, Fraction]]
    ) -> int:
        """The budget in examples."""
        budget = self.config.budget
        if budget.examples is not None:
            return budget.examples
        unit = 0 if budget.tokens is not None else 1
        mean = sum(share * means[leaf][unit] for leaf, share in shares.items())
        return math.ceil((budget.tokens or budget.target_tokens or 0) / mean)

    # -- building ------------------------------------------------------------------------------------------------------

    def build(self, planned: PlannedMixture) -> BuiltMixture:
        (self.run.directory / "manifest.json").unlink(missing_ok=True)  # no manifest: not finished
        plan = planned.plan
        write_atomic(self.run.directory / "plan.json", plan.to_json() + "\n")
        self._publish_tokenizer()
        rendered, pool = self._render(plan)
        packed, packs = self._pack(plan, rendered)
        evaluated, items = self._eval()
        finish_dataset_dict(self.run.directory, ["packs", "eval"])
        decisions = self.run.publish(
            "decisions", self.check_step.paths("decisions.parquet"), "part-{:06d}.parquet"
        )
        delivered = _sum(r["leaves"] for r in packed.results)
        expected = {leaf: count for leaf, count in plan.counts(plan.examples).items() if count}
        if delivered != dict(sorted(expected.items())):
            raise RunError(
                f"the packs hold {delivered}, the plan says {expected}; this is a defect of the program, please report it"
            )
        shards = {**pool, "packs": packs, "eval": items}
        shards["decisions"] = [
            {"path": path, "sha256": sha256}
            for path, sha256 in zip(decisions, self.check_step.hashes("decisions.parquet"), strict=True)
        ]
        manifest = self._manifest(planned, rendered, packed, evaluated, shards)
        write_manifest(self.run.directory, manifest)
        return BuiltMixture(self.run.directory, manifest, planned)

    def _tokenizer_name(self) -> Any:
        """The config's tokenizer; of a file only its name, since where it was is no property of the mixture."""
        given = self.config.tokenizer
        return to_mapping(given) if isinstance(given, Bpe) else Path(given).name

    def _publish_tokenizer(self) -> None:
        target = self.run.directory / "tokenizer.json"
        if self.tokenizer == "bytes":
            target.unlink(missing_ok=True)
        else:
            place_file(Path(self.tokenizer), target)

    def _render(self, plan: Plan) -> tuple[Finished, dict[str, list[dict[str, Any]]]]:
        parts = []
        for branch, leaf in zip(self.branches, self.leaves, strict=True):
            count = plan.counts(plan.examples)[leaf.name]
            shared = {**self._part(branch, leaf), "n_ordinals": count}
            parts += [{**shared, "ranges": ranges} for ranges in _ranges(leaf.rows, count)]
        size = 8 * sum(
            Path(path).stat().st_size for checked in self.checked.values() for path in checked.instances
        )
        step = self.run.step(
            Step(
                "render",
                "mixtures.examples:render_part",
                parts,
                inputs=[self.check_step.digest, self.tokenizer_digest],
                input_bytes=size,
            )
        )
        shards = {}
        for leaf in self.leaves:
            mine = [i for i, part in enumerate(parts) if part["leaf"]["name"] == leaf.name]
            shards[f"pool/{leaf.name}"] = self._publish(f"pool/{leaf.name}", step, mine)
        names = [leaf.name for leaf in self.leaves]
        for stale in (self.run.directory / "pool").iterdir():
            if stale.is_dir() and stale.name not in names:
                shutil.rmtree(stale)
        finish_dataset_dict(self.run.directory / "pool", names)
        return step, shards

    def _pack(self, plan: Plan, rendered: Finished) -> tuple[Finished, list[dict[str, Any]]]:
        fitting = PACK_TOKENS // (WINDOW * self.config.pack.length)
        stride = WINDOW * max(1, min(PACK_WINDOWS, fitting))
        parts = [{"lo": lo, "hi": min(lo + stride, plan.examples)} for lo in range(0, plan.examples, stride)]
        params = {
            "plan": str(self.run.directory / "plan.json"),
            "pool": str(self.run.directory / "pool"),
            "length": self.config.pack.length,
            "pad": load_tokenizer(self.tokenizer).pad,
        }
        inputs = [rendered.digest, file_digest(self.run.directory / "plan.json")]
        size = sum(path.stat().st_size for path in rendered.paths("data.arrow"))
        step = self.run.step(
            Step("pack", "mixtures.build:pack_part", parts, params, inputs, input_bytes=size)
        )
        return step, self._publish("packs", step, range(len(parts)))

    def _eval(self) -> tuple[Finished, list[dict[str, Any]]]:
        parts = []
        for task in self.evaluated.values():
            parts.append(
                {
                    "task": to_mapping(task),
                    "instances": self.checked[task.id].instances,
                    "forms": self._forms(length=None, separator="", cot=[False, True]),
                    "seed": self.config.seed,
                    "items": self.items[task.id],
                }
            )
        inputs = [self.check_step.digest, self.tokenizer_digest]
        step = self.run.step(Step("eval", "mixtures.examples:eval_part", parts, inputs=inputs))
        if parts:
            return step, self._publish("eval", step, range(len(parts)))
        self.run.publish("eval", [], SHARD_PATTERN)
        path = self.run.directory / "eval" / SHARD_PATTERN.format(0)
        write_shard(path, EVAL.empty_table())
        finish_dataset(path.parent)
        return step, [{"path": f"eval/{path.name}", "rows": 0, "sha256": file_digest(path)}]

    def _publish(self, name: str, step: Finished, parts: Iterable[int]) -> list[dict[str, Any]]:
        """The data of some parts as the dataset directory ``name``, and its shards as a manifest lists them."""
        paths, hashes = step.paths("data.arrow"), step.hashes("data.arrow")
        mine = list(parts)
        names = self.run.publish(name, [paths[i] for i in mine], SHARD_PATTERN)
        finish_dataset(self.run.directory / name, sha256=[hashes[i] for i in mine])
        return [
            {"path": path, "rows": step.results[i]["rows"], "sha256": hashes[i]}
            for path, i in zip(names, mine, strict=True)
        ]

    def _manifest(
        self,
        planned: PlannedMixture,
        rendered: Finished,
        packed: Finished,
        evaluated: Finished,
        shards: Mapping[str, Any],
    ) -> dict[str, Any]:
        tokenizer = load_tokenizer(self.tokenizer)
        leaves = []
        for forecast in planned.leaves:
            results = [r for r in rendered.results if r["leaf"] == forecast.name]
            sums = {
                key: sum(r[key] for r in results)
                for key in ("tokens", "target_tokens", "shots_wanted", "shots_given", "truncated")
            }
            leaves.append(
                {
                    "name": forecast.name,
                    "task": forecast.task,
                    "rows": forecast.rows,
                    "share": float(forecast.share),
                    "examples": sum(r["rows"] for r in results),
                    "variants": _sum(r["variants"] for r in results),
                    "expected_tokens": round(forecast.examples * forecast.tokens),
                    "expected_target_tokens": round(forecast.examples * forecast.target_tokens),
                    **sums,
                }
            )
        rows = sum(r["rows"] for r in packed.results)
        tokens = sum(leaf["tokens"] for leaf in leaves)
        length = self.config.pack.length
        return {
            "kind": "mixture",
            "config": {**to_mapping(self.config), "tokenizer": self._tokenizer_name()},
            "inputs": sorted(self.inputs, key=lambda i: (i["source"], i["path"])),
            "parents": [
                {"kind": "curated", "path": path, "sha256": sha256}
                for path, sha256 in sorted(self.parents.items())
            ],
            "plan": {"path": "plan.json", "sha256": file_digest(self.run.directory / "plan.json")},
            "tokenizer": {
                "path": None if self.tokenizer == "bytes" else "tokenizer.json",
                "digest": tokenizer.digest,
                "size": tokenizer.size,
                "pad": tokenizer.pad,
                "bos": tokenizer.bos,
                "eos": tokenizer.eos,
            },
            "tasks": [
                _task_entry(count, held_out=is_held_out(self.config, count.task)) for count in planned.tasks
            ],
            "leaves": leaves,
            "counts": {
                "examples": sum(leaf["examples"] for leaf in leaves),
                "tokens": tokens,
                "target_tokens": sum(leaf["target_tokens"] for leaf in leaves),
                "rows": rows,
                "eval_items": sum(r["rows"] for r in evaluated.results),
            },
            "pack": {
                "length": length,
                "window": WINDOW,
                "rows": rows,
                "fill": tokens / (rows * length) if rows else 0.0,
            },
            "eval": [
                {key: r[key] for key in ("dataset", "task", "instances", "rows")} for r in evaluated.results
            ],
            "shards": dict(shards),
            "warnings": self.warnings,
        }


def _evaluated(config: MixtureConfig, tasks: Sequence[Task]) -> tuple[dict[str, Task], dict[str, int]]:
    """The tasks that give evaluation items, and how many rows of each; a dataset's own eval split goes first."""
    by_dataset: dict[str, list[Task]] = {}
    for task in tasks:
        if is_held_out(config, task) and task.kind != "documents":
            by_dataset.setdefault(task.dataset, []).append(task)
    chosen, items = {}, {}
    for of_dataset in by_dataset.values():
        own = [task for task in of_dataset if task.split == "eval"] or of_dataset
        for i, task in enumerate(own):
            chosen[task.id] = task
            items[task.id] = (config.eval.items + len(own) - 1 - i) // len(own)
    return chosen, items


def _parents(config: MixtureConfig, tasks: Iterable[Task]) -> dict[str, str]:
    """The curated runs that the mixture reads, by the SHA-256 of their manifests."""
    paths = [str(task.source.path) for task in tasks if task.kind == "documents"]
    if isinstance(config.tokenizer, Bpe):
        paths.append(config.tokenizer.train_on)
    parents = {}
    for path in dict.fromkeys(paths):
        read_manifest(Path(path), kind="curated")
        parents[path] = file_digest(Path(path) / "manifest.json")
    return parents


def _tokenizer_file(given: str) -> Path:
    return Path(given) / "tokenizer.json" if Path(given).is_dir() else Path(given)


@contextmanager
def _collecting(faults: list[str]) -> Iterator[None]:
    """Keep the mistakes that the block raises, and go on."""
    try:
        yield
    except ConfigError as error:
        faults += error.faults


def _sizes(shard: Path) -> npt.NDArray[np.int64]:
    """Tokens and target tokens, (2, rows), of the examples of a pool's shard."""
    loss = read_shard(shard)["loss"].combine_chunks()
    starts = loss.offsets.to_numpy()
    target = np.add.reduceat(loss.values.to_numpy(), starts[:-1])
    return np.stack([np.diff(starts), target]).astype(np.int64)


def _means(sizes: npt.NDArray[np.int64], examples: int) -> tuple[Fraction, Fraction]:
    """Mean tokens and target tokens of the first examples, as many of them as were measured."""
    first = sizes[:, :examples]
    tokens, target_tokens = first.sum(axis=1).tolist()
    return Fraction(tokens, first.shape[1]), Fraction(target_tokens, first.shape[1])


def _ranges(rows: int, count: int) -> list[list[tuple[int, int, int]]]:
    """Ranges (epoch, lo, hi) of rows that hold a leaf's first ``count`` examples, in parts of about ``RENDER_ROWS``.

    >>> _ranges(3000, 7000)
    [[(0, 0, 3000)], [(1, 0, 3000), (2, 0, 3000)]]
    """
    parts: list[list[tuple[int, int, int]]] = [[]]
    size = 0.0
    for epoch in range(-(-count // rows)):
        drawn = min(rows, count - epoch * rows)
        width = -(-rows // -(-drawn // RENDER_ROWS))
        for lo in range(0, rows, width):
            hi = min(lo + width, rows)
            expected = drawn * (hi - lo) / rows
            if parts[-1] and size + expected > RENDER_ROWS:
                parts.append([])
                size = 0.0
            parts[-1].append((epoch, lo, hi))
            size += expected
    return parts if parts[0] else [[(0, 0, 0)]]


def _hashes(task: Task) -> dict[str, str]:
    """The SHA-256 that each file of a documents task must have."""
    if task.kind != "documents":
        return {}
    return {file.relative: sha256 for file, sha256 in kept_shards(str(task.source.path))}


def _expected(file: SourceFile, sha256: Mapping[str, str]) -> dict[str, str]:
    """A file as a part is given it, with the SHA-256 that it must have, if any."""
    known = {"sha256": sha256[file.relative]} if file.relative in sha256 else {}
    return {**file_arguments(file), **known}


def _sum(counts: Iterable[Mapping[str, int]]) -> dict[str, int]:
    total: Counter[str] = Counter()
    for count in counts:
        total.update(count)
    return dict(sorted(total.items()))


def _listed(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{number} {rule}" for rule, number in counts.items()) or "none"


def _task_entry(count: TaskCount, *, held_out: bool) -> dict[str, Any]:
    task = count.task
    return {
        "id": task.id,
        "kind": task.kind,
        "dataset": task.dataset,
        "category": task.category,
        "cluster": task.cluster,
        "licence": task.licence,
        "held_out": held_out,
        "read": count.read,
        "used": count.used,
        "rejected": count.rejected,
        "edited": count.edited,
        "rows": count.rows,
    }


# -- parts of the engine -------------------------------------------------------------------------------------------------


def tokenizer_part(
    out: Path, *, bpe: int | None = None, kept: Sequence[tuple[str, str]] = (), copy: str | None = None
) -> dict[str, Any]:
    """tokenizer.json: a copy, or a BPE trained on the texts of kept documents, read a row group at a time.

    Args:
        out: where to write.
        bpe: ids of the BPE.
        kept: paths of kept shards, each with its SHA-256.
        copy: path of a tokenizer.json.
    """
    if copy is not None:
        text = Path(copy).read_text(encoding="utf-8")
    else:
        assert bpe is not None
        for path, sha256 in kept:
            check_kept(path, sha256)
        text = train_bpe(_texts([path for path, _ in kept]), bpe)
    (out / "tokenizer.json").write_text(text, encoding="utf-8")
    return {}


def _texts(paths: Sequence[str]) -> Iterator[str]:
    for path in paths:
        for group in read_groups(path, ["text"]):
            yield from group["text"].to_pylist()


def pack_part(out: Path, *, plan: str, pool: str, lo: int, hi: int, length: int, pad: int) -> dict[str, Any]:
    """Pack the indices [lo, hi) of a plan, whole windows: data.arrow."""
    made = Plan.from_json(Path(plan).read_text(encoding="utf-8"))
    examples = read_examples(made, Path(pool), lo, hi)
    table = pack_table(examples, length=length, pad=pad)
    write_shard(out / "data.arrow", table)
    leaves = Counter(examples["leaf"].to_pylist())
    return {"rows": table.num_rows, "examples": examples.num_rows, "leaves": dict(sorted(leaves.items()))}
