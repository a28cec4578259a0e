"""The configuration of ``curate run``: one run, one file, every default visible with ``--show-config``."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Sequence
from typing import Literal

from curate.config import Size, nearest
from curate.sources import Source
from filters.errors import ConfigError
from filters.gopher import RULES
from filters.normalization import Normalize
from filters.rules import set_bounds

Preset = Literal["gopher", "gopher_repetition"]


@dataclasses.dataclass(frozen=True, slots=True)
class Ingest:
    """What to do about records that cannot be read.

    Attributes:
        max_quarantine_share: the run fails when a larger share of any source's records is quarantined.
        on_duplicate_id: quarantine the later copies of a native id, or fail.
    """

    max_quarantine_share: float = 0.05
    on_duplicate_id: Literal["quarantine", "fail"] = "quarantine"

    def __post_init__(self) -> None:
        if not 0 <= self.max_quarantine_share <= 1:
            raise ValueError(f"max_quarantine_share: found {self.max_quarantine_share}; allowed: 0 to 1.")


@dataclasses.dataclass(frozen=True, slots=True)
class Examples:
    """Documents of the run that a classifier learns from.

    Attributes:
        sources: which sources they come from.
        sample: at most this many, drawn by a hash of (seed, source, id).
    """

    sources: tuple[str, ...]
    sample: int | None = None

    def __post_init__(self) -> None:
        if not self.sources:
            raise ValueError("sources: found an empty list; allowed: at least one source.")
        if self.sample is not None and self.sample < 1:
            raise ValueError(f"sample: found {self.sample}; allowed: 1 or more.")


@dataclasses.dataclass(frozen=True, slots=True)
class Quality:
    """A fastText classifier that is trained in the run, after DCLM's recipe (Li et al. 2024, arXiv:2406.11794).

    Attributes:
        positives: documents to learn "good" from, for instance edited prose.
        negatives: documents to learn "not good" from.
        dim, word_ngrams, bucket, epochs, learning_rate: of fastText.
    """

    positives: Examples
    negatives: Examples
    recipe: Literal["dclm"] = "dclm"
    dim: int = 16
    word_ngrams: int = 2
    bucket: int = 200_000
    epochs: int = 5
    learning_rate: float = 0.1

    def __post_init__(self) -> None:
        for name, most in (("dim", 1000), ("word_ngrams", 10), ("bucket", 10**8), ("epochs", 1000)):
            if not 1 <= getattr(self, name) <= most:
                raise ValueError(f"{name}: found {getattr(self, name)}; allowed: 1 to {most}.")
        if not 0 < self.learning_rate <= 10:
            raise ValueError(f"learning_rate: found {self.learning_rate}; allowed: above 0, at most 10.")


@dataclasses.dataclass(frozen=True, slots=True)
class Measure:
    """What is measured of each document. Measuring deletes nothing."""

    signals: tuple[Preset, ...] = ("gopher", "gopher_repetition")
    language: bool = True
    quality: Quality | None = None

    def __post_init__(self) -> None:
        _check_distinct("signals", self.signals)


@dataclasses.dataclass(frozen=True, slots=True)
class MinHash:
    """Near duplicates: word n-gram MinHash proposes pairs, exact shingle Jaccard decides.

    Attributes:
        threshold: a document goes when its Jaccard similarity with a kept document reaches this.
        ngram: words in a shingle.
        recall: the bands are chosen so that a pair at the threshold is proposed with this probability.
        permutations: at most this many hash functions; ``null`` for 64, and more where the threshold needs them.
        similarity: ``jaccard``, or ``containment``: the share of the removed document's shingles that the kept one
            has. The bands propose pairs by their Jaccard similarity in both cases.
        near_miss: pairs from this similarity up to the threshold are written down; both documents stay.
        hash_family: ``words`` (``curate.minhash``), or ``datasketch``, which signs with that library: slow, a check.
    """

    threshold: float = 0.8
    ngram: int = 5
    recall: float = 0.985
    permutations: int | None = None
    similarity: Literal["jaccard", "containment"] = "jaccard"
    near_miss: float | None = None
    hash_family: Literal["words", "datasketch"] = "words"

    def __post_init__(self) -> None:
        if not 0 < self.threshold <= 1:
            raise ValueError(f"threshold: found {self.threshold}; allowed: above 0, at most 1.")
        if not 1 <= self.ngram <= 32:
            raise ValueError(f"ngram: found {self.ngram}; allowed: 1 to 32.")
        if not 0 < self.recall < 1:
            raise ValueError(f"recall: found {self.recall}; allowed: between 0 and 1.")
        if self.permutations is not None and not 1 <= self.permutations <= 4096:
            raise ValueError(f"permutations: found {self.permutations}; allowed: 1 to 4096.")
        if self.near_miss is not None and not 0 < self.near_miss < self.threshold:
            raise ValueError(
                f"near_miss: found {self.near_miss}; allowed: above 0, below the threshold ({self.threshold})."
            )


@dataclasses.dataclass(frozen=True, slots=True)
class Dedup:
    """Duplicates: which are looked for, where, and which copy stays.

    Attributes:
        exact: drop copies of a text (128-bit hash of the text with its white space normalised).
        by: meta fields whose equal values make duplicates of documents, for instance ``[url]``; a missing or empty
            one equals nothing.
        minhash: drop near duplicates; ``null`` to keep them.
        scope: ``across`` all sources, or ``within`` each source only.
        prefer: which copy stays, after those that pass the policy; ties go to the smaller (source, id), and without
            native ids to the one that comes first in its source.
        index: directory of everything that earlier runs kept; this run compares with it and adds what it keeps.
        memory: what a step that looks at many documents at once may hold; more is spilled to disk.
    """

    exact: bool = True
    by: tuple[str, ...] = ()
    minhash: MinHash | None = dataclasses.field(default_factory=MinHash)
    scope: Literal["across", "within"] = "across"
    prefer: tuple[Literal["priority", "quality", "length"], ...] = ("priority", "quality", "length")
    index: str | None = None
    memory: Size = 1 << 30

    def __post_init__(self) -> None:
        _check_distinct("prefer", self.prefer)
        _check_distinct("by", self.by)
        if self.index == "":
            raise ValueError("index: found an empty name; allowed: a directory, or null.")
        if self.memory < 64 << 20:
            raise ValueError(f"memory: found {self.memory} bytes; allowed: 64 MiB or more.")

    @property
    def is_on(self) -> bool:
        """Whether any duplicates are looked for."""
        return self.exact or bool(self.by) or self.minhash is not None


@dataclasses.dataclass(frozen=True, slots=True)
class Decontaminate:
    """Documents that share an n-gram of words with an evaluation item are dropped.

    Attributes:
        against: evaluation sets by name; ``text`` is the field to protect.
        ngram: words in a row that must agree (13 after Brown et al. 2020, appendix C). An item of fewer words, but
            at least 8, is matched as a whole; shorter ones cannot be searched and are counted.
    """

    against: dict[str, Source]
    method: Literal["any_hit"] = "any_hit"
    ngram: int = 13

    def __post_init__(self) -> None:
        if not self.against:
            raise ValueError("against: found an empty mapping; allowed: at least one evaluation set.")
        if not 8 <= self.ngram <= 64:
            raise ValueError(f"ngram: found {self.ngram}; allowed: 8 to 64.")


@dataclasses.dataclass(frozen=True, slots=True)
class LanguagePolicy:
    """Which languages stay (ISO 639-1 codes), and how sure the model must be."""

    keep: tuple[str, ...] = ()
    min_score: float | None = None

    def __post_init__(self) -> None:
        _check_score(self.min_score)


@dataclasses.dataclass(frozen=True, slots=True)
class QualityPolicy:
    """The lowest quality score that stays."""

    min_score: float | None = None

    def __post_init__(self) -> None:
        _check_score(self.min_score)


@dataclasses.dataclass(frozen=True, slots=True)
class SourcePolicy:
    """What applies to one source instead of the general policy.

    Attributes:
        use: presets for this source; ``null`` for the general ones.
        language, quality: whether these rules apply to it.
    """

    use: tuple[Preset, ...] | None = None
    language: bool = True
    quality: bool = True

    def __post_init__(self) -> None:
        _check_distinct("use", self.use or ())


@dataclasses.dataclass(frozen=True, slots=True)
class PolicySettings:
    """Rules on signals. A pure function of what was measured.

    Attributes:
        use: presets of rules.
        set: other bounds for single rules, by the rule's name.
        sources: exceptions by source.
    """

    use: tuple[Preset, ...] = ("gopher", "gopher_repetition")
    set: dict[str, float] = dataclasses.field(default_factory=dict)
    language: LanguagePolicy = dataclasses.field(default_factory=LanguagePolicy)
    quality: QualityPolicy = dataclasses.field(default_factory=QualityPolicy)
    sources: dict[str, SourcePolicy] = dataclasses.field(default_factory=dict)

    def __post_init__(self) -> None:
        _check_distinct("use", self.use)


@dataclasses.dataclass(frozen=True, slots=True)
class Output:
    """What the run directory holds besides decisions, pairs and the report.

    Attributes:
        documents: every document as it was read and normalised, its origin and its signals.
        kept: the documents that stay.
    """

    documents: bool = True
    kept: bool = True


@dataclasses.dataclass(frozen=True, slots=True)
class CurateConfig:
    """Everything that decides what a curation run makes."""

    sources: dict[str, Source]
    seed: int = 0
    ingest: Ingest = dataclasses.field(default_factory=Ingest)
    normalize: Normalize = dataclasses.field(default_factory=Normalize)
    measure: Measure = dataclasses.field(default_factory=Measure)
    dedup: Dedup = dataclasses.field(default_factory=Dedup)
    decontaminate: Decontaminate | None = None
    policy: PolicySettings = dataclasses.field(default_factory=PolicySettings)
    output: Output = dataclasses.field(default_factory=Output)

    def __post_init__(self) -> None:
        if not 0 <= self.seed < 2**32:
            raise ValueError(f"seed: found {self.seed}; allowed: 0 to {2**32 - 1}.")

    @property
    def meta(self) -> tuple[str, ...]:
        """The meta fields that any source declares, sorted."""
        return tuple(sorted({field for source in self.sources.values() for field in source.meta}))


def _check_distinct(name: str, values: Sequence[str]) -> None:
    if len(set(values)) < len(values):
        raise ValueError(f"{name}: found {list(values)}; allowed: each once.")


def _check_score(bound: float | None) -> None:
    if bound is not None and not 0 <= bound <= 1:
        raise ValueError(f"min_score: found {bound}; allowed: 0 to 1.")


def faults_across(config: CurateConfig) -> list[str]:
    """Mistakes that no single section can see: names that must agree with each other."""
    faults = []
    if not config.sources:
        faults.append("$.sources: found an empty mapping; allowed: at least one source.")
    against = config.decontaminate.against if config.decontaminate else {}
    for where, name in [
        *(("$.sources", n) for n in config.sources),
        *(("$.decontaminate.against", n) for n in against),
    ]:
        if not re.fullmatch(r"\w[\w .-]*", name):
            faults.append(
                f"{where}.{name}: found the name {name!r}; allowed: letters, digits, blanks and . _ - in it."
            )
    named = [(f"$.policy.sources.{name}", name) for name in config.policy.sources]
    quality = config.measure.quality
    for side in ("positives", "negatives") if quality else ():
        named += [(f"$.measure.quality.{side}.sources", name) for name in getattr(quality, side).sources]
    for where, name in named:
        if name not in config.sources:
            faults.append(f"{where}: no source is called '{name}'{nearest(name, list(config.sources)) or '.'} Allowed: {', '.join(config.sources)}.")  # fmt: skip
    if config.policy.quality.min_score is not None and quality is None:
        faults.append("$.policy.quality.min_score: nothing measures quality; add measure.quality.")
    faults += [
        f"$.dedup.by[{i}]: no source has the meta field '{field}'{nearest(field, config.meta) or '.'} Allowed: {', '.join(config.meta) or 'none; list it under meta of a source'}."
        for i, field in enumerate(config.dedup.by)
        if field not in config.meta
    ]
    return faults + _rule_faults(config) + _language_faults(config) + _band_faults(config)


def _rule_faults(config: CurateConfig) -> list[str]:
    """Presets whose signals are not measured, and bounds that no rule in use has or that contradict each other."""
    policy = config.policy
    places = {"$.policy.use": policy.use}
    places |= {
        f"$.policy.sources.{name}.use": own.use for name, own in policy.sources.items() if own.use is not None
    }
    faults = [
        f"{place}: '{preset}' needs its signals; add it to measure.signals."
        for place, presets in places.items()
        for preset in presets
        if preset not in config.measure.signals
    ]
    known = {rule.name: preset for preset, rules in RULES.items() for rule in rules}
    used = {preset for presets in places.values() for preset in presets}
    for name in policy.set:
        if name not in known:
            faults.append(
                f"$.policy.set.{name}: no such rule{nearest(name, list(known)) or '.'} Allowed: {', '.join(known)}."
            )
        elif known[name] not in used:
            faults.append(
                f"$.policy.set.{name}: the rule is not in use; add '{known[name]}' to policy.use, or take this out."
            )
    try:
        set_bounds([r for rules in RULES.values() for r in rules], {n: b for n, b in policy.set.items() if n in known}, where="$.policy.set")  # fmt: skip
    except ConfigError as error:
        faults += error.faults
    return faults


def _language_faults(config: CurateConfig) -> list[str]:
    language = config.policy.language
    if not language.keep and language.min_score is None:
        return []
    if not config.measure.language:
        return ["$.policy.language: nothing measures the language; set measure.language: true."]
    if not language.keep:
        return []
    from filters.language import known_languages

    known = known_languages()
    return [
        f"$.policy.language.keep[{i}]: no language has the code '{code}'{nearest(code, known) or '.'} Allowed: {', '.join(known)}."
        for i, code in enumerate(language.keep)
        if code not in known
    ]


def _band_faults(config: CurateConfig) -> list[str]:
    minhash = config.dedup.minhash
    if minhash is None or minhash.permutations is None:
        return []
    from curate.minhash import choose_bands

    try:
        choose_bands(minhash.threshold, minhash.permutations, minhash.recall)
    except ConfigError as error:
        return [f"$.dedup.minhash.permutations: {fault}" for fault in error.faults]
    return []
