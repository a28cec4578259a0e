"""The search for duplicates of a run, as engine steps.

    measure ── group ── cluster ─┬─ deal texts ───┬─ duplicates ── decide ── residual
                  │              │                │      │
                  └──────────────┴─ deal members ─┘    judged

Documents are numbered through all shards; ``curate.group`` and ``curate.duplicates`` say what each step does and what
it holds in memory. What a step keeps for each document on disk stands in the manifest (``bytes_per_document``).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from curate.engine import Finished, Run, Step

if TYPE_CHECKING:
    from curate.settings import CurateConfig

_USUAL_PERMUTATIONS = 128
"""What datasketch takes unless told otherwise."""

_PRIVATE = ("facts.arrow", "sketch.arrow", "keys.arrow", "members.arrow", "clusters.arrow", "dealt.arrow", "links.arrow", "kept.arrow")  # fmt: skip

# How many times faster than signals are measured (``engine.AUTO_RAY_BYTES``) a step gets through its input: so many of
# its bytes are worth starting Ray for as one of theirs.
_HASHING, _COPYING = 16, 64


@dataclasses.dataclass(frozen=True, slots=True)
class Found:
    """What the search found.

    Attributes:
        duplicates: the step whose parts have links.arrow and pairs.parquet; None where nothing was searched for.
        summary: what the manifest says of the search.
    """

    duplicates: Finished | None
    summary: dict[str, Any]


def search_settings(config: CurateConfig) -> dict[str, Any]:
    """What decides the search keys of a document, as JSON: ``exact``, ``by``, ``scope``, and ``minhash`` or null."""
    dedup = config.dedup
    settings: dict[str, Any] = {
        "exact": dedup.exact,
        "by": list(dedup.by),
        "scope": dedup.scope,
        "minhash": None,
    }
    if dedup.minhash is not None:
        from curate.minhash import SEED, choose_bands

        near = dedup.minhash
        bands = choose_bands(near.threshold, near.permutations, near.recall)
        settings["minhash"] = {
            "ngram": near.ngram,
            "bands": bands.bands,
            "rows": bands.rows,
            "permutations": -(-bands.permutations // 64) * 64,
            "seed": SEED,  # not the run's own: keys of different runs must be comparable (``curate.index``)
            "hash_family": near.hash_family,
        }
    return settings


def keys_per_document(settings: Mapping[str, Any]) -> int:
    """Most search keys that a document has.

    >>> keys_per_document({"exact": True, "by": ["url"], "minhash": {"bands": 10}})
    12
    """
    return settings["exact"] + len(settings["by"]) + (settings["minhash"] or {"bands": 0})["bands"]


def measure(
    run: Run,
    config: CurateConfig,
    *,
    documents: Finished,
    document_file: str,
    model: Finished | None,
    firsts: Sequence[int],
    total: int,
) -> Finished:
    """Signals and search keys of all documents; parts are shards.

    Args:
        document_file: the file of each part of ``documents``.
        model: the step that trained the quality classifier, with model.bin.
        firsts: the number of each shard's first document.
        total: how many documents there are.
    """
    from curate.group import count_partitions

    settings = search_settings(config)
    params = {
        "signals": list(config.measure.signals),
        "language": config.measure.language,
        "quality_model": str(model.paths("model.bin")[0]) if model else None,
        "dedup": settings,
        "partitions": count_partitions(total, keys_per_document(settings), config.dedup.memory),
    }
    paths = documents.paths(document_file)
    parts = [{"documents": str(p), "first": f} for p, f in zip(paths, firsts, strict=True)]
    inputs = [documents.digest, *([model.digest] if model else [])]
    is_lean = not config.measure.signals and not config.measure.language and model is None
    size = _size(paths) // _HASHING if is_lean else 10 * _size(paths)  # compressed text, many signals
    return run.step(Step("measure", "curate.measurement:measure_part", parts, params, inputs, input_bytes=size, private=_PRIVATE))  # fmt: skip


def find_duplicates(
    run: Run,
    config: CurateConfig,
    *,
    documents: Finished,
    document_file: str,
    measured: Finished,
    judged: Finished | None,
    firsts: Sequence[int],
    total: int,
    native: Sequence[bool],
    base: Sequence[Mapping[str, Any]],
    warn: Callable[[str], None],
) -> Found:
    """Verified duplicates of all documents.

    Args:
        judged: the step with passing.parquet; None where all documents pass.
        native: whether the ids of each shard are its source's own.
        base: runs of a persistent index (``curate.index.open_base``).
        warn: told when a bucket was too large to be compared in full.
    """
    if not config.dedup.is_on:
        return Found(None, {})
    search = _Search(run, config, documents.paths(document_file), firsts, total, base)
    grouped = search.group(measured)
    clustered = search.cluster(grouped, measured)
    texts = search.deal_texts(clustered, documents, measured, native)
    members = search.deal_members(clustered, grouped)
    duplicates = search.verify(clustered, documents, texts, members, judged)
    summary = search.summary(measured, grouped, clustered, texts, members, duplicates)
    if summary["capped_buckets"]:
        warn(
            f"dedup: {summary['capped_buckets']} buckets have more documents that stay than are compared (the largest has "
            f"{summary['largest_bucket']} members); near duplicates may remain there. Raise dedup.minhash.threshold or ngram, "
            "or remove what these documents have in common."
        )
    return Found(duplicates, summary)


class _Search:
    """The steps of one search; each method is one step and returns what the next ones read."""

    def __init__(
        self,
        run: Run,
        config: CurateConfig,
        documents: Sequence[Path],
        firsts: Sequence[int],
        total: int,
        base: Sequence[Mapping[str, Any]],
    ) -> None:
        self.run, self.config, self.documents = run, config, documents
        self.firsts, self.total = list(firsts), total
        self.settings = search_settings(config)
        self.memory = config.dedup.memory
        self.index = []
        for part in base:
            self.index.append({"first": total, **{k: part[k] for k in ("keys", "documents", "generation")}})
            total += part["rows"]
        self.index_digests = [f"{part['digest']}/{Path(part['keys']).parent.name}" for part in base]

    def group(self, measured: Finished) -> Finished:
        keys = [str(p) for p in measured.paths("keys.arrow")]
        from curate.group import count_partitions

        partitions = count_partitions(self.total, keys_per_document(self.settings), self.memory)
        return self.run.step(
            Step(
                "group",
                "curate.group:group_part",
                [{"partition": p} for p in range(partitions)],
                {"keys": keys, "partitions": partitions, "index": self.index, "memory": self.memory},
                [*measured.hashes("keys.arrow"), *self.index_digests],
                input_bytes=_size(keys) // _HASHING,
                private=_PRIVATE,
            )
        )

    def cluster(self, grouped: Finished, measured: Finished) -> Finished:
        params = {
            "members": [str(p) for p in grouped.paths("members.arrow")],
            "facts": [str(p) for p in measured.paths("facts.arrow")],
            "index": self.index,
            "keys_per_document": keys_per_document(self.settings),
            "memory": self.memory,
        }
        inputs = [grouped.digest, *measured.hashes("facts.arrow"), *self.index_digests]
        return self.run.step(Step("cluster", "curate.group:cluster_part", [{}], params, inputs, private=_PRIVATE))  # fmt: skip

    def deal_texts(
        self, clustered: Finished, documents: Finished, measured: Finished, native: Sequence[bool]
    ) -> Finished:
        sources = self.config.sources
        parts: list[dict[str, Any]] = [
            {"first": first, "documents": str(path), "facts": str(facts), "native": is_native}
            for first, path, facts, is_native in zip(
                self.firsts, self.documents, measured.paths("facts.arrow"), native, strict=True
            )
        ]
        parts += [{**{k: part[k] for k in ("first", "documents", "generation")}, "facts": None} for part in self.index]  # fmt: skip
        params = {
            **self._batches(clustered),
            "by": self.settings["by"],
            "priorities": {
                n: s.priority for n, s in sorted(sources.items()) if not isinstance(s.priority, str)
            },
        }
        inputs = [clustered.digest, documents.digest, *measured.hashes("facts.arrow"), *self.index_digests]
        return self.run.step(Step("deal-texts", "curate.group:deal_texts_part", parts, params, inputs, input_bytes=_size(self.documents) // _COPYING, private=_PRIVATE))  # fmt: skip

    def deal_members(self, clustered: Finished, grouped: Finished) -> Finished:
        paths = grouped.paths("members.arrow")
        return self.run.step(
            Step(
                "deal-members",
                "curate.group:deal_members_part",
                [{"members": str(path)} for path in paths],
                self._batches(clustered),
                [clustered.digest, grouped.digest],
                input_bytes=_size(paths) // _COPYING,
                private=_PRIVATE,
            )
        )

    def verify(
        self,
        clustered: Finished,
        documents: Finished,
        texts: Finished,
        members: Finished,
        judged: Finished | None,
    ) -> Finished:
        near = self.config.dedup.minhash
        names = ("threshold", "ngram", "near_miss", "similarity")
        batches = clustered.results[0]["batches"]
        params = {
            "batches": batches,
            "dealt": [str(p) for p in texts.paths("dealt.arrow")],
            "documents": [
                *(str(p) if p.suffix == ".arrow" else None for p in self.documents),
                *(part["documents"] for part in self.index),
            ],
            "members": [str(p) for p in members.paths("dealt.arrow")],
            "passing": [str(p) for p in judged.paths("passing.parquet")] if judged else None,
            "firsts": [*self.firsts, *(part["first"] for part in self.index)],
            "shards": len(self.firsts),
            "total": self.total,
            **{name: self.settings[name] for name in ("exact", "by", "scope")},
            "prefer": list(self.config.dedup.prefer),
            "minhash": {name: getattr(near, name) for name in names} if near else None,
            "memory": self.memory,
        }
        inputs = [
            *(finished.digest for finished in (texts, members, documents)),
            *self.index_digests,
            *(judged.hashes("passing.parquet") if judged else []),
        ]
        return self.run.step(
            Step(
                "duplicates",
                "curate.duplicates:duplicates_part",
                [{"batch": b} for b in range(batches)],
                params,
                inputs,
                input_bytes=clustered.results[0]["bytes"] // _HASHING,
                private=_PRIVATE,
            )
        )

    def _batches(self, clustered: Finished) -> dict[str, Any]:
        path = clustered.paths("clusters.arrow")[0]
        return {"clusters": str(path), "batches": clustered.results[0]["batches"]}

    def summary(
        self,
        measured: Finished,
        grouped: Finished,
        clustered: Finished,
        texts: Finished,
        members: Finished,
        duplicates: Finished,
    ) -> dict[str, Any]:
        """What the manifest says of the search; all of it follows from the data and the configuration."""
        results = duplicates.results
        totals = {
            name: sum(result[name] for result in results)
            for name in ("pairs", "compared_pairs", "verified_pairs", "capped_buckets")
        }
        files = {
            "facts": measured.paths("facts.arrow"),
            "sketch": measured.paths("sketch.arrow") if self.settings["minhash"] else [],
            "keys": measured.paths("keys.arrow"),
            "members": [*grouped.paths("members.arrow"), *members.paths("dealt.arrow")],
            "clusters": clustered.paths("clusters.arrow"),
            "texts": texts.paths("dealt.arrow"),
        }
        found = {
            **{name: getattr(self.config.dedup, name) for name in ("exact", "scope")},
            "by": self.settings["by"],
            **totals,
            "largest_bucket": max((result["largest_bucket"] for result in results), default=0),
            "clusters": {name: clustered.results[0][name] for name in ("clusters", "largest", "rows")},
            "partitions": len(grouped.results),
            "batches": len(results),
            "spilled_runs": sum(result["spilled_runs"] for result in grouped.results),
            "bytes_per_document": {
                name: round(_size(paths) / max(1, self.total)) for name, paths in files.items()
            },
        }
        return found | self._near_summary()

    def _near_summary(self) -> dict[str, Any]:
        near = self.config.dedup.minhash
        if near is None:
            return {}
        from curate.minhash import ALGORITHM, Bands, curve, probability

        made = self.settings["minhash"]
        bands = Bands(made["bands"], made["rows"])
        return {
            "algorithm": ALGORITHM if near.hash_family == "words" else "datasketch",
            **{name: getattr(near, name) for name in ("threshold", "similarity", "near_miss", "hash_family")},
            **{name: made[name] for name in ("bands", "rows", "ngram", "permutations", "seed")},
            "recall": round(probability(near.threshold, bands), 6),
            "curve": [list(point) for point in curve(bands)],
            "balanced": balanced_bands(near.threshold, max(_USUAL_PERMUTATIONS, made["permutations"])),
        }


def balanced_bands(threshold: float, permutations: int) -> dict[str, int]:
    """The bands that datasketch would choose, for comparison: the areas of missed pairs and of false candidates are equal
    in weight. The same as ``curate.datasketch.balanced_bands``, without the half second that it takes to load.

    >>> balanced_bands(0.7, 128)
    {'bands': 14, 'rows': 9}
    """
    places, weights = np.polynomial.legendre.leggauss(16)
    rows = np.arange(1, permutations + 1)[:, None]
    areas = np.zeros(
        (2, permutations, permutations)
    )  # of false candidates, of missed pairs: by rows and bands
    for side, (low, high) in enumerate(((0.0, threshold), (threshold, 1.0))):
        edges = np.linspace(low, high, 33)
        half = np.diff(edges) / 2
        similarity = (edges[:-1, None] + half[:, None] * (places + 1)).ravel()
        weight = (half[:, None] * weights).ravel()
        miss_one = np.log1p(-(similarity**rows).clip(max=1 - 1e-16))
        for bands in range(1, permutations + 1):
            most = permutations // bands
            missed = np.exp(bands * miss_one[:most])
            areas[side, :most, bands - 1] = (missed if side else 1 - missed) @ weight
    error = np.where(rows * rows.T <= permutations, areas.sum(axis=0), np.inf)
    best = int(np.argmin(error.T))  # the first of equal ones, by bands and rows, as there
    return {"bands": best // permutations + 1, "rows": best % permutations + 1}


def decide(
    run: Run,
    config: CurateConfig,
    *,
    documents: Finished,
    document_file: str,
    judged: Finished | None,
    found: Found,
    firsts: Sequence[int],
    rows: Sequence[int],
) -> Finished:
    """Decisions and kept documents of every shard; ``rows`` are the shards' numbers of documents."""
    paths = documents.paths(document_file)
    parts = [
        {"documents": str(path), "edits": edits, "verdicts": verdicts, "first": first, "rows": n}
        for path, edits, verdicts, first, n in zip(
            paths,
            _optional(documents, "edits.parquet"),
            _optional(judged, "verdicts.parquet") if judged else [None] * len(paths),
            firsts,
            rows,
            strict=True,
        )
    ]
    duplicates = found.duplicates
    params = {
        "links": [str(p) for p in duplicates.paths("links.arrow")] if duplicates else [],
        "threshold": config.dedup.minhash.threshold if config.dedup.minhash else None,
        "kept": config.output.kept,
    }
    inputs = [documents.digest, *(other.digest for other in (judged, duplicates) if other)]
    size = _size(paths) // _HASHING if config.output.kept else 0
    return run.step(Step("decide", "curate.decide:decide_part", parts, params, inputs, input_bytes=size, private=_PRIVATE))  # fmt: skip


def residual(
    run: Run,
    config: CurateConfig,
    *,
    documents: Finished,
    document_file: str,
    measured: Finished,
    decided: Finished,
    firsts: Sequence[int],
) -> dict[str, Any] | None:
    """What ``curate.residual`` says of the near duplicates among the kept documents; None where none were searched for."""
    near = config.dedup.minhash
    if near is None:
        return None
    params = {
        "documents": [str(p) for p in documents.paths(document_file)],
        "facts": [str(p) for p in measured.paths("facts.arrow")],
        "sketches": [str(p) for p in measured.paths("sketch.arrow")],
        "kept": [str(p) for p in decided.paths("kept.arrow")],
        "firsts": list(firsts),
        "threshold": near.threshold,
        "ngram": near.ngram,
        "similarity": near.similarity,
        "scope": config.dedup.scope,
        "seed": config.seed,
    }
    inputs = [documents.digest, measured.digest, *decided.hashes("kept.arrow")]
    finished = run.step(Step("residual", "curate.residual:residual_part", [{}], params, inputs))
    return finished.results[0]


def _optional(finished: Finished, name: str) -> list[str | None]:
    """The file of each part, if the parts have it."""
    return [
        str(finished.directory / f"{i:06d}" / name) if name in files else None
        for i, files in enumerate(finished.files)
    ]


def _size(paths: Sequence[Path | str]) -> int:
    return sum(Path(path).stat().st_size for path in paths)
