"""``curate run``: files -> documents -> signals -> verdicts and verified duplicates -> decisions -> kept shards.

ingest ─ identify ─ documents ─┬─ quality ─ measure ─┬─ group ─ cluster ─ duplicates ─┐
                               └─ index ─ overlaps ──┴─ judge ────────────────────────┴─ decide
"""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from curate.config import to_mapping
from curate.decide import conservation_faults
from curate.engine import EngineName, Finished, Run, Step, digest_of
from curate.group import count_partitions
from curate.ingest import group_files
from curate.manifest import NAME, write_manifest
from curate.settings import CurateConfig, faults_across
from curate.sources import SourceFile, file_arguments, file_stamp, find_files
from filters.errors import ConfigError, DataError, RunError

log = logging.getLogger(__name__)


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
    progress: bool = True,
) -> Curated:
    """Curate everything that ``config`` names into the run directory ``out``.

    Run it again after any interruption: finished parts are not redone, and the result is the same.

    Raises:
        ConfigError: sources that match no file, or settings that contradict each other; all at once.
        DataError: more bad records than the configuration allows.
        RunError: a part failed, another command holds the directory, or the counts do not add up.
    """
    faults = faults_across(config)
    files = _find_all(config, faults)
    if faults:
        raise ConfigError([f"{name}: {fault}" for fault in faults])
    with Run(out, engine=engine, workers=workers, ray_address=ray_address, progress=progress) as run:
        return _Curation(config, run, files).run_all()


def config_faults(config: CurateConfig) -> list[str]:
    """Mistakes that no single setting shows: names that must agree, files that must exist. For ``load_config``."""
    faults = faults_across(config)
    _find_all(config, faults)
    return faults


def _find_all(config: CurateConfig, faults: list[str]) -> dict[str, list[SourceFile]]:
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

    def __init__(self, config: CurateConfig, run: Run, files: Mapping[str, Sequence[SourceFile]]) -> None:
        self.config, self.run, self.files = config, run, files
        self.warnings: list[str] = []
        self.inputs: list[dict[str, str]] = []

    def run_all(self) -> Curated:
        (self.run.directory / NAME).unlink(missing_ok=True)  # until the end the directory is no finished run
        ingested, quarantine = self._ingest()
        documents = self._documents(ingested, quarantine)
        rows = [r["rows"] for r in documents.results]
        firsts = [sum(rows[:i]) for i in range(len(rows))]
        model = self._quality(documents)
        measured = self._measure(documents, model, firsts, sum(rows))
        overlaps, index = self._overlaps(documents)
        judged = self._judge(measured, overlaps)
        duplicates, clusters = self._duplicates(documents, measured, judged, firsts, sum(rows))
        decided = self._decide(documents, judged, duplicates, firsts, rows)
        counts = self._counts(ingested, documents, decided)
        return self._finish(documents, measured, duplicates, decided, clusters, model, index, counts)

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
        params = {"normalize": to_mapping(self.config.normalize), "meta": list(self.config.meta)}
        size = sum(f.path.stat().st_size for fs in self.files.values() for f in fs)
        ingested = self.run.step(
            Step("ingest", "curate.ingest:ingest_part", parts, params, [digest_of(stamps)], input_bytes=size)
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

    def _documents(self, ingested: Finished, part_sources: Sequence[str]) -> Finished:
        """Ingested documents without repeated native ids; fails when too much was quarantined."""
        by_source: dict[str, list[int]] = {}
        for number, name in enumerate(part_sources):
            if self.config.sources[name].id is not None:
                by_source.setdefault(name, []).append(number)
        paths = [str(p) for p in ingested.paths("documents.parquet")]
        identified = self.run.step(
            Step(
                "identify",
                "curate.ingest:identify_part",
                [
                    {"documents": [paths[i] for i in numbers], "parts": numbers}
                    for numbers in by_source.values()
                ],
                inputs=[ingested.digest],
            )
        )
        repeated = dict(
            zip(
                by_source,
                zip(identified.paths("repeated.parquet"), identified.results, strict=True),
                strict=True,
            )
        )
        parts = []
        for number, name in enumerate(part_sources):
            path, result = repeated.get(name, (None, {"repeated": 0}))
            parts.append({"part": number, "repeated": str(path) if result["repeated"] else None})
        homes = [str(p.parent) for p in ingested.paths("documents.parquet")]
        documents = self.run.step(
            Step(
                "documents",
                "curate.ingest:documents_part",
                parts,
                {"ingested": homes},
                [ingested.digest, identified.digest],
            )
        )
        self.run.publish("quarantine", documents.paths("quarantine.parquet"), "part-{:06d}.parquet")
        self._check_quarantine(ingested, documents, part_sources)
        self.run.publish("documents", documents.paths("documents.parquet"), "part-{:06d}.parquet")
        self.run.publish("origins", documents.paths("origins.parquet"), "part-{:06d}.parquet")
        return documents

    def _check_quarantine(self, ingested: Finished, documents: Finished, part_sources: Sequence[str]) -> None:
        limit = self.config.ingest.max_quarantine_share
        read, bad, reasons = {}, {}, {}  # type: ignore[var-annotated]
        for name, first, second in zip(part_sources, ingested.results, documents.results, strict=True):
            read[name] = read.get(name, 0) + first["read"]
            bad[name] = bad.get(name, 0) + first["quarantined"] + second["repeated"]
            for reason, count in {**first["reasons"], "repeated_id": second["repeated"]}.items():
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
            for path, part in zip(documents.paths("documents.parquet"), self.parts, strict=True)
            if part["name"] in named
        ]
        params = {"quality": to_mapping(quality), "shards": shards, "seed": self.config.seed}
        return self.run.step(
            Step("quality", "curate.classifier:train_part", [{}], params, [documents.digest])
        )

    def _minhash(self) -> dict[str, Any] | None:
        settings = self.config.dedup.minhash
        if settings is None:
            return None
        from curate.minhash import choose_bands

        bands = choose_bands(settings.threshold, settings.permutations, settings.recall)
        return {
            "ngram": settings.ngram,
            "permutations": -(-bands.permutations // 64) * 64,
            "bands": bands.bands,
            "rows": bands.rows,
            "seed": self.config.seed,
        }

    def _measure(
        self, documents: Finished, model: Finished | None, firsts: Sequence[int], total: int
    ) -> Finished:
        minhash = self._minhash()
        dedup = {"exact": self.config.dedup.exact, "minhash": minhash}
        params = {
            "signals": list(self.config.measure.signals),
            "language": self.config.measure.language,
            "quality_model": str(model.paths("model.bin")[0]) if model else None,
            "dedup": dedup,
            "partitions": count_partitions(
                total, (minhash["bands"] if minhash else 0) + self.config.dedup.exact
            ),
        }
        paths = documents.paths("documents.parquet")
        parts = [{"documents": str(p), "first": f} for p, f in zip(paths, firsts, strict=True)]
        inputs = [documents.digest, *([model.digest] if model else [])]
        size = 10 * sum(p.stat().st_size for p in paths)  # compressed text, many signals
        measured = self.run.step(
            Step("measure", "curate.measurement:measure_part", parts, params, inputs, input_bytes=size)
        )
        self.run.publish("signals", measured.paths("signals.parquet"), "part-{:06d}.parquet")
        return measured

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
        paths = documents.paths("documents.parquet")
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

    def _judge(self, measured: Finished, overlaps: Finished | None) -> Finished:
        signals = measured.paths("signals.parquet")
        found = overlaps.paths("overlaps.parquet") if overlaps else [None] * len(signals)
        parts = [
            {"signals": str(s), "overlaps": str(o) if o else None}
            for s, o in zip(signals, found, strict=True)
        ]
        params = {"policy": to_mapping(self.config.policy)}
        inputs = [measured.digest, *([overlaps.digest] if overlaps else [])]
        return self.run.step(Step("judge", "curate.verdicts:judge_part", parts, params, inputs))

    def _duplicates(
        self, documents: Finished, measured: Finished, judged: Finished, firsts: Sequence[int], total: int
    ) -> tuple[Finished | None, dict[str, Any]]:
        settings = self.config.dedup
        if not settings.exact and settings.minhash is None:
            self.run.publish("pairs", [], "part-{:06d}.parquet")
            return None, {}
        keys = [str(p) for p in measured.paths("keys.arrow")]
        minhash = self._minhash()
        partitions = count_partitions(total, (minhash["bands"] if minhash else 0) + settings.exact)
        grouped = self.run.step(
            Step(
                "group",
                "curate.group:group_part",
                [{"partition": p} for p in range(partitions)],
                {"keys": keys},
                [measured.digest],
                input_bytes=sum(p.stat().st_size for p in measured.paths("keys.arrow")),
            )
        )
        members = [str(p) for p in grouped.paths("members.parquet")]
        signals = [str(p) for p in measured.paths("signals.parquet")]
        clustered = self.run.step(
            Step(
                "cluster",
                "curate.group:cluster_part",
                [{}],
                {"members": members, "signals": signals, "documents": total},
                [grouped.digest, measured.digest],
            )
        )
        clusters = clustered.results[0]
        params = {
            "clusters": str(clustered.paths("clusters.parquet")[0]),
            "members": members,
            "documents": [str(p) for p in documents.paths("documents.parquet")],
            "signals": signals,
            "passing": [str(p) for p in judged.paths("passing.parquet")],
            "firsts": list(firsts),
            "priorities": {name: source.priority for name, source in sorted(self.config.sources.items())},
            "prefer": list(settings.prefer),
            "threshold": settings.minhash.threshold if settings.minhash else 1.0,
            "ngram": settings.minhash.ngram if settings.minhash else 5,
        }
        duplicates = self.run.step(
            Step(
                "duplicates",
                "curate.duplicates:duplicates_part",
                [{"batch": b} for b in range(clusters["batches"])],
                params,
                [clustered.digest, grouped.digest, documents.digest, measured.digest, judged.digest],
                input_bytes=sum(p.stat().st_size for p in documents.paths("documents.parquet")),
            )
        )
        self.run.publish("pairs", duplicates.paths("pairs.parquet"), "part-{:06d}.parquet")
        return duplicates, {k: clusters[k] for k in ("clusters", "largest", "rows")}

    def _decide(
        self,
        documents: Finished,
        judged: Finished,
        duplicates: Finished | None,
        firsts: Sequence[int],
        rows: Sequence[int],
    ) -> Finished:
        parts = [
            {"documents": str(d), "edits": str(e), "verdicts": str(v), "first": f, "rows": n}
            for d, e, v, f, n in zip(
                documents.paths("documents.parquet"),
                documents.paths("edits.parquet"),
                judged.paths("verdicts.parquet"),
                firsts,
                rows,
                strict=True,
            )
        ]
        minhash = self.config.dedup.minhash
        links = [str(p) for p in duplicates.paths("links.parquet")] if duplicates else []
        params = {"links": links, "threshold": minhash.threshold if minhash else None}
        inputs = [documents.digest, judged.digest, *([duplicates.digest] if duplicates else [])]
        size = sum(p.stat().st_size for p in documents.paths("documents.parquet"))
        decided = self.run.step(
            Step("decide", "curate.decide:decide_part", parts, params, inputs, input_bytes=size)
        )
        self.run.publish("decisions", decided.paths("decisions.parquet"), "part-{:06d}.parquet")
        self.run.publish("kept", decided.paths("kept.parquet"), "part-{:06d}.parquet")
        return decided

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
            c["quarantined"] += first["quarantined"] + second["repeated"]
            c["documents"] += second["rows"]
            c["dropped"] += last["dropped"]
            c["kept"] += last["kept"]
        faults = conservation_faults(counts)
        if faults:
            raise RunError("documents were lost or made up; this is a defect of the program, please report it:\n  " + "\n  ".join(faults))  # fmt: skip
        return counts

    # -- manifest and report -----------------------------------------------------------------------------------------------

    def _finish(
        self,
        documents: Finished,
        measured: Finished,
        duplicates: Finished | None,
        decided: Finished,
        clusters: Mapping[str, Any],
        model: Finished | None,
        index: Mapping[str, Any] | None,
        counts: Mapping[str, Mapping[str, int]],
    ) -> Curated:
        from curate.report import write_report

        outputs = [
            ("documents", documents, "documents.parquet"),
            ("origins", documents, "origins.parquet"),
            ("quarantine", documents, "quarantine.parquet"),
            ("signals", measured, "signals.parquet"),
            ("decisions", decided, "decisions.parquet"),
            ("kept", decided, "kept.parquet"),
        ]
        if duplicates is not None:
            outputs.append(("pairs", duplicates, "pairs.parquet"))
        shards = {name: _shards(name, finished, file) for name, finished, file in outputs}
        shards.setdefault("pairs", [])
        rules: dict[str, int] = {}
        for result in decided.results:
            for rule, count in result["rules"].items():
                rules[rule] = rules.get(rule, 0) + count
        manifest = {
            "kind": "curated",
            "config": to_mapping(self.config),
            "inputs": sorted(self.inputs, key=lambda i: (i["source"], i["path"])),
            "parents": [],
            "counts": counts,
            "rules": dict(sorted(rules.items())),
            "shards": shards,
            "dedup": self._dedup_summary(duplicates, clusters),
            "quality": {k: v for k, v in model.results[0].items() if k != "rows"} if model else None,
            "decontaminate": index,
            "warnings": self.warnings,
        }
        if not any(c["kept"] for c in counts.values()):
            self._warn("no document is kept; the report says which rules drop them")
        write_manifest(self.run.directory, manifest)
        write_report(self.run.directory)
        return Curated(self.run.directory, manifest)

    def _dedup_summary(
        self, duplicates: Finished | None, clusters: Mapping[str, Any]
    ) -> dict[str, Any] | None:
        if duplicates is None:
            return None
        totals: dict[str, int] = {}
        for result in duplicates.results:
            for key, value in result.items():
                if key != "rows":
                    totals[key] = totals.get(key, 0) + value
        summary: dict[str, Any] = {"clusters": dict(clusters), **totals}
        minhash = self._minhash()
        if minhash and self.config.dedup.minhash:
            from curate.minhash import ALGORITHM, Bands, curve

            summary |= {
                "algorithm": ALGORITHM,
                "threshold": self.config.dedup.minhash.threshold,
                **{k: minhash[k] for k in ("bands", "rows", "ngram", "permutations")},
                "curve": [list(point) for point in curve(Bands(minhash["bands"], minhash["rows"]))],
            }
        return summary


def _shards(name: str, finished: Finished, file: str) -> list[dict[str, Any]]:
    paths, hashes = finished.paths(file), finished.hashes(file)
    return [
        {"path": f"{name}/part-{i:06d}.parquet", "rows": pq.read_metadata(path).num_rows, "sha256": sha}
        for i, (path, sha) in enumerate(zip(paths, hashes, strict=True))
    ]
