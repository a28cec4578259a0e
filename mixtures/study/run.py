"""``mixtures study``: build every arm, train every trial, score, compare, report.

    base mixture (kept documents) ─ pre-train ─▶ base ─┬───────────────────────────────▶ scores of "base"
    arm mixtures (arms x seeds)  ──────────────────────┴─ fine-tune (arms x seeds) ─▶ scores ─▶ comparison, report

Arms share the base, the recipe, the held-out items and the seeds, so that differences are paired. Every trial is a part
of the engine: a study that was killed goes on with the trials that are missing. Trials run one after the other in this
process, which uses all cores, or the GPU when there is one.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from curate.config import load_config, to_mapping
from curate.engine import EngineName, Finished, Run, Step, file_digest
from curate.manifest import read_manifest, write_manifest
from filters.errors import ConfigError
from mixtures.build import BuiltMixture, build_mixture
from mixtures.build import config_faults as mixture_faults
from mixtures.config import Budget, Mixture, MixtureConfig, Part, Selection
from mixtures.shards import read_shards
from mixtures.study.report import BASE, ArmResult, Share, StudyResult, write_report
from mixtures.study.settings import StudyConfig, arm_mixture
from mixtures.tasks import Documents
from mixtures.train.recipe import Recipe

SLACK = 1.05
"""Mixtures are built a little larger than a run needs: mean lengths are estimates."""


def run_study(
    config: StudyConfig,
    out: str | Path,
    *,
    device: str = "auto",
    engine: EngineName = "auto",
    workers: int | None = None,
    ray_address: str | None = None,
    name: str = "config",
    command: str = "",
    progress: bool = True,
) -> StudyResult:
    """Run the study into the directory ``out``; run it again after an interruption and it goes on.

    Args:
        device: where to train; ``auto`` takes a GPU when there is one.
        engine, workers, ray_address: what builds the mixtures; trials always run in this process.
        command: what the report tells readers to run again.

    Raises:
        ConfigError: arms that do not fit the mixture; all mistakes at once.
    """
    mixture = load_config(config.mixture, MixtureConfig)
    faults: list[str] = []
    mixtures = _arm_mixtures(config, mixture, faults)
    if faults:
        raise ConfigError([f"{name}: {fault}" for fault in faults])
    with Run(out, engine="inline", progress=progress) as run:
        study = _Study(config, run, device)
        home = run.directory / "mixtures"
        build = functools.partial(
            build_mixture,
            engine=engine,
            workers=workers,
            ray_address=ray_address,
            steps=home / ".steps",  # arms differ in weights and seed: their tasks are checked once
            progress=progress,
        )
        base = build(_base_mixture(config, mixture), home / "base")
        tokenizer = home / "base" / "tokenizer.json"
        given = str(tokenizer) if tokenizer.exists() else mixture.tokenizer
        built = {
            (arm, seed): build(
                dataclasses.replace(arm_config, tokenizer=given, seed=mixture.seed + seed),
                home / f"{arm}-{seed}",
            )
            for arm, arm_config in mixtures.items()
            for seed in range(config.seeds)
        }
        trained = study.train(base, built, str(given))
        result = study.result(trained, base, built, command)
        write_report(run.directory, result)
        study.write_manifest(base, built)
    return result


def config_faults(config: StudyConfig) -> list[str]:
    """Mistakes that no single setting shows: the mixture's own, arms that do not fit it, a run that is not there."""
    faults: list[str] = []
    try:
        mixture = load_config(config.mixture, MixtureConfig, check=mixture_faults)
        _arm_mixtures(config, mixture, faults)
    except ConfigError as error:
        faults += error.faults
    try:
        read_manifest(Path(config.base.pretrain_on), kind="curated")
    except ConfigError as error:
        faults += [f"$.base.pretrain_on: {fault}" for fault in error.faults]
    return faults


def _arm_mixtures(config: StudyConfig, mixture: MixtureConfig, faults: list[str]) -> dict[str, MixtureConfig]:
    """The mixture of each arm; mistakes go to ``faults``."""
    found = {}
    for arm, edit in config.arms.items():
        try:
            found[arm] = dataclasses.replace(arm_mixture(mixture, edit), budget=_budget(config.train))
        except ValueError as error:
            faults += [f"$.arms.{arm}: {line}" for line in str(error).splitlines()]
    if not mixture.hold_out.datasets:
        faults.append(f"$.mixture: '{config.mixture}' holds no dataset out, so nothing can be scored. Give it hold_out: {{datasets: [...]}}.")  # fmt: skip
    return found


def _budget(recipe: Recipe) -> Budget:
    return Budget(tokens=int(recipe.steps * recipe.tokens_per_step * SLACK))


def _base_mixture(config: StudyConfig, mixture: MixtureConfig) -> MixtureConfig:
    """The kept documents alone; the held-out items of the study are built beside them.

    The mixture's own parts stay with weight 0, so that its tasks are checked once for the base and all arms.
    """
    documents = Documents(config.base.pretrain_on)
    own = [t for t in mixture.tasks if not isinstance(t, str)]
    tasks: tuple[str | Documents, ...] = (
        mixture.tasks if documents in own else (*(t for t in mixture.tasks if isinstance(t, str)), documents)
    )
    silent = (
        {name: dataclasses.replace(part, weight=0.0) for name, part in mixture.mixture.parts.items()}
        if documents in own
        else {}
    )
    parts = {**silent, "pretraining": Part(tasks=Selection(source="documents"), weight=1.0)}
    return dataclasses.replace(
        mixture, tasks=tasks, mixture=Mixture(parts=parts), budget=_budget(config.base.recipe)
    )


class _Study:
    """The steps after the mixtures are built."""

    def __init__(self, config: StudyConfig, run: Run, device: str) -> None:
        self.config, self.run, self.device = config, run, device

    def train(
        self, base: BuiltMixture, built: Mapping[tuple[str, int], BuiltMixture], tokenizer: str
    ) -> tuple[Finished, Finished, Finished]:
        """The base, its scores, and the trials in the order of ``built``."""
        items = str(base.directory / "eval")
        logs = self.run.directory / "log"
        shared = {"device": self.device}
        trained = self.run.step(
            Step(
                "base",
                "mixtures.study.trials:base_part",
                [{}],
                {
                    **shared,
                    "mixture": str(base.directory),
                    "tokenizer": tokenizer,
                    "size": self.config.model.size,
                    "recipe": to_mapping(self.config.base.recipe),
                    "seed": self.config.seed,
                    "log": str(logs / "base.jsonl"),
                },
                [_digest(base)],
            )
        )
        checkpoint = str(trained.paths("config.json")[0].parent)
        inputs = [trained.digest, _digest(base)]
        scored = self.run.step(
            Step(
                "base-scores",
                "mixtures.study.trials:base_scores_part",
                [{}],
                {**shared, "base": checkpoint, "items": items},
                inputs,
            )
        )
        parts = [
            {
                "mixture": str(mixture.directory),
                "seed": self.config.seed + seed,
                "log": str(logs / f"{arm}-{seed}.jsonl"),
            }
            for (arm, seed), mixture in built.items()
        ]
        trials = self.run.step(
            Step(
                "trials",
                "mixtures.study.trials:trial_part",
                parts,
                {**shared, "base": checkpoint, "items": items, "recipe": to_mapping(self.config.train)},
                [*inputs, *(_digest(mixture) for mixture in built.values())],
            )
        )
        return trained, scored, trials

    def result(
        self,
        trained: tuple[Finished, Finished, Finished],
        base: BuiltMixture,
        built: Mapping[tuple[str, int], BuiltMixture],
        command: str,
    ) -> StudyResult:
        _, scored, trials = trained
        learned = {d for mixture in built.values() for d in _learned(mixture)}
        base_scores = _unseen(pq.read_table(scored.paths("scores.parquet")[0]), learned)
        tables = [_scores(BASE, seed, base_scores) for seed in range(self.config.seeds)]
        curves = []
        for (arm, seed), scores, curve in zip(
            built, trials.paths("scores.parquet"), trials.paths("curve.parquet"), strict=True
        ):
            tables.append(_scores(arm, seed, _unseen(pq.read_table(scores), learned)))
            curves.append(_labelled(_from_start(pq.read_table(curve)), arm, seed))
        arms = [
            ArmResult(
                BASE, f"pre-trained on the kept documents of {self.config.base.pretrain_on}, not fine-tuned"
            )
        ]
        arms += [self._arm(arm, built[arm, 0]) for arm in self.config.arms]
        return StudyResult(
            arms=tuple(arms),
            scores=pa.concat_tables(tables),
            curves=pa.concat_tables(curves),
            config=to_mapping(self.config),
            command=command,
            reference=self.config.reference,
            seed=self.config.seed,
        )

    def _arm(self, arm: str, mixture: BuiltMixture) -> ArmResult:
        """An arm with the shares of its leaves in target tokens: as planned, and in the rows of its first run."""
        leaves = mixture.manifest["leaves"]
        expected = {leaf["name"]: leaf["expected_target_tokens"] for leaf in leaves if leaf["share"] > 0}
        rows = self.config.train.steps * (
            self.config.train.tokens_per_step // mixture.manifest["pack"]["length"]
        )
        seen = _target_tokens_by_leaf(read_shards(mixture.directory / "packs").slice(0, rows))
        shares = tuple(
            Share(leaf, expected[leaf] / sum(expected.values()), seen.get(leaf, 0) / sum(seen.values()))
            for leaf in expected
        )
        return ArmResult(arm, self.config.arms[arm].about, _digest(mixture), shares)

    def write_manifest(self, base: BuiltMixture, built: Mapping[tuple[str, int], BuiltMixture]) -> None:
        directory = self.run.directory
        files = [p for p in (directory / "report.html", *sorted(directory.glob("scores.*"))) if p.exists()]
        parents = {f"mixtures/{m.directory.name}": _digest(m) for m in (base, *built.values())}
        write_manifest(
            directory,
            {
                "kind": "study",
                "config": to_mapping(self.config),
                "parents": parents,
                "shards": {"results": [{"path": p.name, "sha256": file_digest(p)} for p in files]},
            },
        )


def _digest(mixture: BuiltMixture) -> str:
    return file_digest(mixture.directory / "manifest.json")


def _target_tokens_by_leaf(packs: pa.Table) -> dict[str, int]:
    """Tokens with a loss weight above 0 in some packed rows, for each leaf."""
    found: dict[str, int] = {}
    for batch in packs.select(["loss", "segments", "refs"]).to_batches(max_chunksize=256):
        loss, segments = (
            np.stack(batch[name].to_numpy(zero_copy_only=False)) for name in ("loss", "segments")
        )
        for row, refs in enumerate(batch["refs"].to_pylist()):
            counts = np.bincount(segments[row], weights=loss[row] > 0, minlength=len(refs) + 1)
            for ref in refs:
                found[ref["leaf"]] = found.get(ref["leaf"], 0) + int(counts[ref["segment"]])
    return found


def _from_start(curve: pa.Table) -> pa.Table:
    """A curve whose tokens count from the start of the run."""
    for name in ("tokens", "target_tokens"):
        curve = curve.set_column(curve.column_names.index(name), name, pc.cumulative_sum(curve[name]))
    return curve


def _learned(mixture: BuiltMixture) -> list[str]:
    """Datasets that some leaf of the mixture draws from."""
    dataset = {task["id"]: task["dataset"] for task in mixture.manifest["tasks"]}
    return [dataset[leaf["task"]] for leaf in mixture.manifest["leaves"] if leaf["examples"]]


def _unseen(scores: pa.Table, learned: set[str]) -> pa.Table:
    """Scores of datasets that no arm was trained on, in any split: the others say nothing about unseen tasks.

    Raises:
        ConfigError: nothing is left.
    """
    left = scores.filter(pc.invert(pc.is_in(scores["dataset"], pa.array(sorted(learned), pa.string()))))
    if not left.num_rows:
        raise ConfigError(f"$.mixture: every evaluated dataset is one that some arm is trained on ({', '.join(sorted(learned))}). Hold one out.")  # fmt: skip
    return left


def _labelled(table: pa.Table, arm: str, seed: int) -> pa.Table:
    labels = {"arm": pa.repeat(pa.scalar(arm), len(table)), "seed": pa.repeat(pa.scalar(seed), len(table))}
    return pa.table({**labels, **{name: table[name] for name in table.column_names}})


def _scores(arm: str, seed: int, scores: pa.Table) -> pa.Table:
    """Scores of one run; an item is a row of a task in one form, so all of these name it."""
    names = [scores[name] for name in ("task", "id", "variant", "template")]
    item = pc.binary_join_element_wise(*names, "/")
    table = pa.table(
        {
            "dataset": scores["dataset"],
            "id": item,
            "nll": scores["nll"],
            "target_bytes": scores["target_bytes"],
        }
    )
    return _labelled(table, arm, seed)
