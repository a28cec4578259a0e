"""``curate run``: files -> documents -> signals -> verdicts and verified duplicates -> decisions -> kept shards.

ingest ─ identify ─ documents ─┬─ quality ─ measure ─┬─ group ─ cluster ─ deal ─ duplicates ─┐
                               └─ index ─ overlaps ──┴─ judge ──────────────────────────────┴─ decide ─ residual

With ``output.documents: false`` (what ``curate dedup`` asks for) documents, origins and signals stay private: the run
directory holds kept/, decisions/, pairs/ and quarantine/. What is public appears at the end, in one go; only quarantine/
comes as soon as everything is read, since it says why a run fails.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import itertools
import logging
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow.parquet as pq

from curate.config import show_config, to_mapping
from curate.decide import conservation_faults
from curate.dedup_steps import decide, find_duplicates, measure, residual
from curate.engine import EngineName, Finished, Run, Step, digest_of, write_atomic
from curate.index import extend, open_base
from curate.ingest import group_files
from curate.manifest import NAME, write_manifest
from curate.settings import CurateConfig, faults_across
from curate.sources import SourceFile, file_arguments, file_stamp, find_files
from filters.errors import ConfigError, DataError, RunError

if TYPE_CHECKING:
    from curate.findings import Example, PairTexts

log = logging.getLogger(__name__)

_READ = ("documents.parquet", "documents.arrow", "origins.parquet", "edits.parquet", "quarantine.parquet", "priority.arrow")  # fmt: skip
"""What reading the files makes."""

CONFIG_NAME = "config.yaml"
_CONFIG_HEADING = """# The configuration of this run, with every default. The same again: curate run RUN/config.yaml --out OTHER
"""
Output = tuple[Finished | None, str] | None
"""A step and the file of its parts that is made public; None for what this run does not publish."""


@dataclasses.dataclass(frozen=True, slots=True)
class Curated:
    """A finished run: its directory and what its manifest says.

    ``counts`` has read, quarantined, documents, dropped and kept for each source.
    """

    directory: Path
    manifest: dict[str, Any]

    @property
    def counts(self) -> dict[str, dict[str, int]]:
        return dict(self.manifest["counts"])

    @property
    def report(self) -> Path:
        return self.directory / "report.html"


def run_curation(
    config: CurateConfig,
    out: str | Path,
    *,
    engine: EngineName = "auto",
    workers: int | None = None,
    ray_address: str | None = None,
    name: str = "config",
    keep_config: bool = False,
    progress: bool = True,
) -> Curated:
    """Curate everything that ``config`` names into the run directory ``out``.

    Run it again after any interruption: finished parts are not redone, and the result is the same.

    Args:
        name: what mistakes call the configuration.
        keep_config: also write it to ``RUN/config.yaml``.

    Raises:
        ConfigError: sources that match no file, or settings that contradict each other; all at once.
        DataError: more bad records than the configuration allows.
        RunError: a part failed, another command holds the directory, or the counts do not add up.
    """
    faults = faults_across(config)
    files = find_sources(config, faults)
    if faults:
        raise ConfigError([f"{name}: {fault}" for fault in faults])
    with Run(out, engine=engine, workers=workers, ray_address=ray_address, progress=progress) as run:
        return _Curation(config, run, files, keep_config=keep_config).run_all()


def config_faults(config: CurateConfig) -> list[str]:
    """Mistakes that no single setting shows: names that must agree, files that must exist. For ``load_config``."""
    faults = faults_across(config)
    find_sources(config, faults)
    return faults


def find_sources(config: CurateConfig, faults: list[str]) -> dict[str, list[SourceFile]]:
    """The files of every source and evaluation set, as far as they can be found; mistakes go to ``faults``."""
    found: dict[str, list[SourceFile]] = {}
    sets = {f"eval:{k}": v for k, v in (config.decontaminate.against if config.decontaminate else {}).items()}
    for key, source in sorted({**config.sources, **sets}.items()):
        try:
            found[key] = find_files(key, source)
        except ConfigError as error:
            place = "$.decontaminate.against." if key.startswith("eval:") else "$.sources."
            own = f"$.sources.{key}"
            faults += [fault.replace(own, place + key.removeprefix("eval:")) for fault in error.faults]
    return found


class _Curation:
    """The steps of one run, in order; each method is one step and returns what the next ones read."""

    def __init__(
        self,
        config: CurateConfig,
        run: Run,
        files: Mapping[str, Sequence[SourceFile]],
        *,
        keep_config: bool = False,
    ) -> None:
        self.config, self.run, self.files, self.keep_config = config, run, files, keep_config
        self.is_lean = not config.output.documents
        self.document_file = "documents.arrow" if self.is_lean else "documents.parquet"
        self.warnings: list[str] = []
        self.inputs: list[dict[str, str]] = []

    def run_all(self) -> Curated:
        from curate.pair_texts import read_pair_texts

        (self.run.directory / NAME).unlink(missing_ok=True)  # until the end the directory is no finished run
        if self.keep_config:
            write_atomic(self.run.directory / CONFIG_NAME, _CONFIG_HEADING + show_config(self.config))
        base = open_base(self.run, self.config)
        ingested, part_sources = self._ingest()
        documents = self._documents(ingested, part_sources)
        rows = [r["rows"] for r in documents.results]
        firsts = list(itertools.accumulate(rows, initial=0))[:-1]
        model = self._quality(documents)
        shards: dict[str, Any] = {
            "documents": documents,
            "document_file": self.document_file,
            "firsts": firsts,
        }
        measured = measure(self.run, self.config, **shards, model=model, total=sum(rows))
        overlaps, searched = self._overlaps(documents)
        judged = self._judge(measured, overlaps)
        native = [self.config.sources[name].id is not None for name in part_sources]
        found = find_duplicates(
            self.run, self.config, **shards, measured=measured, judged=judged, total=sum(rows), native=native, base=base, warn=self._warn
        )  # fmt: skip
        decided = decide(self.run, self.config, **shards, judged=judged, found=found, rows=rows)
        counts = self._counts(ingested, documents, decided)
        dedup = {**found.summary, "residual": residual(self.run, self.config, **shards, measured=measured, decided=decided)}  # fmt: skip
        if self.config.dedup.index is not None:
            added = extend(self.run, self.config, **shards, measured=measured, decided=decided, native=native, warn=self._warn)  # fmt: skip
            dedup["index"] = {**added, "base": _generations(base)}
        outputs = {
            "documents": None if self.is_lean else (documents, "documents.parquet"),
            "origins": None if self.is_lean else (documents, "origins.parquet"),
            "signals": None if self.is_lean else (measured, "signals.parquet"),
            "quarantine": (documents, "quarantine.parquet"),
            "pairs": (found.duplicates, "pairs.parquet"),
            "decisions": (decided, "decisions.parquet"),
            "kept": (decided, "kept.parquet") if self.config.output.kept else None,
        }
        manifest = {
            "counts": counts,
            "rules": _sum_rules(decided),
            "shards": self._publish(outputs),
            "dedup": dedup if found.duplicates else None,
            "quality": {k: v for k, v in model.results[0].items() if k != "rows"} if model else None,
            "decontaminate": searched,
        }
        places = {"documents": documents.paths(self.document_file), "firsts": firsts, "total": sum(rows), "base": base}  # fmt: skip
        links = found.duplicates.paths("links.arrow") if found.duplicates else []
        return self._finish(manifest, functools.partial(read_pair_texts, links=links, **places), places["documents"])  # fmt: skip

    def _warn(self, warning: str) -> None:
        """A warning is logged at once, and stands in the manifest and the report."""
        log.warning("%s", warning)
        self.warnings.append(warning)

    # -- steps ---------------------------------------------------------------------------------------------------------

    def _ingest(self) -> tuple[Finished, list[str]]:
        parts = []
        stamps = []
        for name, source in sorted(self.config.sources.items()):
            for group in group_files(self.files[name]):
                parts.append(
                    {"name": name, "source": to_mapping(source), "files": [file_arguments(f) for f in group]}
                )
                stamps += [file_stamp(f) for f in group]
        params = {
            "normalize": to_mapping(self.config.normalize),
            "meta": list(self.config.meta),
            "lean": self.is_lean,
        }
        size = sum(f.path.stat().st_size for fs in self.files.values() for f in fs)
        ingested = self.run.step(
            Step(
                "ingest",
                "curate.ingest:ingest_part",
                parts,
                params,
                [digest_of(stamps)],
                input_bytes=size,
                private=_READ if self._has_native_ids() else self._private_documents(),
            )
        )
        self.parts = parts
        for result in ingested.results:
            self.inputs += result["inputs"]
            for warning in result["warnings"]:
                self._warn(warning)
        for name in sorted(self.config.sources):
            of_source = [r for r in ingested.results if r["source"] == name and r["read"]]
            for field in self.config.sources[name].columns:
                if of_source and all(field in r["absent"] for r in of_source):
                    self._warn(f"{name}: no record has the field '{field}'; is it spelt as in the files?")
        return ingested, [p["name"] for p in parts]

    def _has_native_ids(self) -> bool:
        return any(source.id is not None for source in self.config.sources.values())

    def _private_documents(self) -> tuple[str, ...]:
        return tuple(name for name in _READ if name != "quarantine.parquet") if self.is_lean else ("edits.parquet", "priority.arrow")  # fmt: skip

    def _documents(self, ingested: Finished, part_sources: Sequence[str]) -> Finished:
        """Ingested documents without repeated native ids; fails when too much was quarantined."""
        documents = self._identify(ingested, part_sources) if self._has_native_ids() else ingested
        self.run.publish("quarantine", documents.paths("quarantine.parquet"), "part-{:06d}.parquet")
        self._check_quarantine(ingested, documents, part_sources)
        return documents

    def _identify(self, ingested: Finished, part_sources: Sequence[str]) -> Finished:
        by_source: dict[str, list[int]] = {}
        for number, name in enumerate(part_sources):
            if self.config.sources[name].id is not None:
                by_source.setdefault(name, []).append(number)
        paths = [str(p) for p in ingested.paths(self.document_file)]
        groups = [{"documents": [paths[i] for i in own], "parts": own} for own in by_source.values()]
        identified = self.run.step(
            Step("identify", "curate.ingest:identify_part", groups, inputs=[ingested.digest])
        )
        found = zip(identified.paths("repeated.parquet"), identified.results, strict=True)
        repeated = {name: str(path) for name, (path, result) in zip(by_source, found, strict=True) if result["repeated"]}  # fmt: skip
        return self.run.step(
            Step(
                "documents",
                "curate.ingest:documents_part",
                [{"part": i, "repeated": repeated.get(name)} for i, name in enumerate(part_sources)],
                {"ingested": [str(Path(path).parent) for path in paths]},
                [ingested.digest, identified.digest],
                private=self._private_documents(),
            )
        )

    def _check_quarantine(self, ingested: Finished, documents: Finished, part_sources: Sequence[str]) -> None:
        limit = self.config.ingest.max_quarantine_share
        read, bad, reasons = {}, {}, {}  # type: ignore[var-annotated]
        for name, first, second in zip(part_sources, ingested.results, documents.results, strict=True):
            read[name] = read.get(name, 0) + first["read"]
            again = second.get("repeated", 0)
            bad[name] = bad.get(name, 0) + first["quarantined"] + again
            for reason, count in {**first["reasons"], "repeated_id": again}.items():
                if count:
                    reasons.setdefault(name, {})[reason] = reasons.get(name, {}).get(reason, 0) + count
        repeats = {n: r["repeated_id"] for n, r in reasons.items() if "repeated_id" in r}
        if repeats and self.config.ingest.on_duplicate_id == "fail":
            listing = ", ".join(f"{n} ({c})" for n, c in repeats.items())
            raise DataError(
                f"native ids are repeated in {listing}; ingest.on_duplicate_id is 'fail'. Both places of each are in "
                f"{self.run.directory / 'quarantine'}. Make the ids unique, or set on_duplicate_id: quarantine."
            )
        over = {n: b / read[n] for n, b in bad.items() if read[n] and b / read[n] > limit}
        if over:
            lines = [
                f"  {n}: {bad[n]} of {read[n]} records ({share:.1%}): {', '.join(f'{c} {r}' for r, c in sorted(reasons[n].items()))}"
                for n, share in over.items()
            ]
            raise DataError(
                f"more than {limit:.1%} of the records of {len(over)} source(s) cannot be used "
                "(ingest.max_quarantine_share):\n"
                + "\n".join(lines)
                + f"\n  File, line and reason of each: {self.run.directory / 'quarantine'}. Correct the data, or raise the share."
            )

    def _quality(self, documents: Finished) -> Finished | None:
        quality = self.config.measure.quality
        if quality is None:
            return None
        named = {*quality.positives.sources, *quality.negatives.sources}
        shards = [
            {"path": str(path), "source": part["name"]}
            for path, part in zip(documents.paths(self.document_file), self.parts, strict=True)
            if part["name"] in named
        ]
        params = {"quality": to_mapping(quality), "shards": shards, "seed": self.config.seed}
        return self.run.step(
            Step("quality", "curate.classifier:train_part", [{}], params, [documents.digest])
        )

    def _overlaps(self, documents: Finished) -> tuple[Finished | None, dict[str, Any] | None]:
        settings = self.config.decontaminate
        if settings is None:
            return None, None
        files = {name: self.files[f"eval:{name}"] for name in sorted(settings.against)}
        params = {
            "against": {name: to_mapping(source) for name, source in settings.against.items()},
            "files": {name: [file_arguments(f) for f in found] for name, found in files.items()},
            "ngram": settings.ngram,
        }
        stamps = [file_stamp(f) for found in files.values() for f in found]
        index = self.run.step(
            Step("index", "curate.decontaminate:index_part", [{}], params, [digest_of(stamps)])
        )
        paths = documents.paths(self.document_file)
        overlaps = self.run.step(
            Step(
                "overlaps",
                "curate.decontaminate:overlaps_part",
                [{"documents": str(p)} for p in paths],
                {"index": str(index.paths("index.arrow")[0])},
                [documents.digest, index.digest],
                input_bytes=sum(p.stat().st_size for p in paths),
            )
        )
        summary = {k: index.results[0][k] for k in ("rows", "unreadable", "not_searchable")}
        if summary["not_searchable"]:
            self._warn(f"decontaminate: {summary['not_searchable']} of {summary['rows']} evaluation items are too short to be searched")  # fmt: skip
        if summary["unreadable"]:
            self._warn(f"decontaminate: {summary['unreadable']} evaluation items could not be read")
        return overlaps, summary

    def _judge(self, measured: Finished, overlaps: Finished | None) -> Finished | None:
        """Which documents pass; None where nothing that the configuration asks for could stop one."""
        policy = self.config.policy
        presets = [*policy.use, *(p for own in policy.sources.values() for p in own.use or ())]
        bounds = [policy.language.keep or None, policy.language.min_score, policy.quality.min_score]
        if overlaps is None and not presets and bounds == [None, None, None]:
            return None
        signals = measured.paths("signals.parquet")
        found = overlaps.paths("overlaps.parquet") if overlaps else [None] * len(signals)
        parts = [
            {"signals": str(s), "overlaps": str(o) if o else None}
            for s, o in zip(signals, found, strict=True)
        ]
        params = {"policy": to_mapping(policy)}
        inputs = [measured.digest, *([overlaps.digest] if overlaps else [])]
        return self.run.step(Step("judge", "curate.verdicts:judge_part", parts, params, inputs))

    def _counts(
        self, ingested: Finished, documents: Finished, decided: Finished
    ) -> dict[str, dict[str, int]]:
        counts = {
            n: dict.fromkeys(("read", "quarantined", "documents", "dropped", "kept"), 0)
            for n in sorted(self.config.sources)
        }
        for part, first, second, last in zip(
            self.parts, ingested.results, documents.results, decided.results, strict=True
        ):
            c = counts[part["name"]]
            c["read"] += first["read"]
            c["quarantined"] += first["quarantined"] + second.get("repeated", 0)
            c["documents"] += second["rows"]
            c["dropped"] += last["dropped"]
            c["kept"] += last["kept"]
        faults = conservation_faults(counts)
        if faults:
            raise RunError("documents were lost or made up; this is a defect of the program, please report it:\n  " + "\n  ".join(faults))  # fmt: skip
        return counts

    # -- manifest and report -----------------------------------------------------------------------------------------------

    def _publish(self, outputs: Mapping[str, Output]) -> dict[str, list[dict[str, Any]]]:
        """Make the public directories hold exactly these files; what the manifest says of them."""
        shards = {}
        for name, output in outputs.items():
            if output is None:
                _withdraw(self.run.directory / name)
                continue
            finished, file = output
            paths = finished.paths(file) if finished else []
            names = self.run.publish(name, paths, "part-{:06d}.parquet")
            hashes = finished.hashes(file) if finished else []
            shards[name] = [
                {"path": shown, "rows": pq.read_metadata(path).num_rows, "sha256": sha}
                for shown, path, sha in zip(names, paths, hashes, strict=True)
            ]
        return shards

    def _finish(
        self,
        found: Mapping[str, Any],
        pair_texts: Callable[[Sequence[Example]], PairTexts],
        documents: Sequence[Path],
    ) -> Curated:
        from curate.report import write_report

        if not any(c["kept"] for c in found["counts"].values()):
            self._warn("no document is kept; the report says which rules drop them")
        manifest = {
            "kind": "curated",
            "config": to_mapping(self.config),
            "inputs": sorted(self.inputs, key=lambda i: (i["source"], i["path"])),
            "parents": [],
            **found,
            "warnings": self.warnings,
        }
        write_manifest(self.run.directory, manifest)
        try:
            write_report(self.run.directory, shards=documents, pair_texts=pair_texts)
        except BaseException:
            (self.run.directory / NAME).unlink(missing_ok=True)
            raise
        return Curated(self.run.directory, manifest)


def _sum_rules(decided: Finished) -> dict[str, int]:
    """How many documents each rule drops."""
    rules: dict[str, int] = {}
    for result in decided.results:
        for rule, count in result["rules"].items():
            rules[rule] = rules.get(rule, 0) + count
    return dict(sorted(rules.items()))


def _generations(base: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """The generations of an index that a run was compared with, for its manifest."""
    found: dict[int, dict[str, Any]] = {}
    for part in base:
        own = found.setdefault(part["generation"], {"generation": part["generation"], "digest": part["digest"], "documents": 0})  # fmt: skip
        own["documents"] += part["rows"]
    return [found[number] for number in sorted(found)]


def _withdraw(directory: Path) -> None:
    """Remove what an earlier run with other settings published."""
    for path in directory.glob("part-*.parquet"):
        path.unlink()
    with contextlib.suppress(OSError):
        directory.rmdir()
