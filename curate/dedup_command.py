"""``curate dedup``: duplicates of any files, told by flags.

    flags ── dedup_config ──▶ CurateConfig ── check_inputs ──▶ run_curation ──▶ summary_lines

It is ``curate run`` with everything but duplicates switched off, and writes that configuration into the run directory:
``curate run RUN/config.yaml --out OTHER`` keeps the same documents. Mistakes are named by their flags, and all of them
at once, before anything is written.
"""

from __future__ import annotations

import argparse
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from filters.errors import ConfigError, DataError

if TYPE_CHECKING:
    from curate.pipeline import Curated
    from curate.settings import CurateConfig

_NEAR_ONLY = ("threshold", "ngram", "near_miss", "similarity", "hash_family")
"""Flags that say how near duplicates are found: of no use with ``--method exact``."""


def add_dedup_arguments(parser: argparse.ArgumentParser) -> None:
    """The flags of ``curate dedup``; what is not given has the default of the configuration."""
    add = parser.add_argument
    add("inputs", nargs="+", metavar="INPUT", help="file, glob pattern, folder, or data set of the `datasets` library: JSONL, Parquet, Arrow IPC, CSV, TSV, text; plain, .gz or .zst")  # fmt: skip
    add("--out", type=Path, required=True, help="the run directory")
    add("--threshold", type=float, help="least similarity of a near duplicate, above 0, at most 1 (default: 0.8)")  # fmt: skip
    add("--ngram", type=int, help="words in a shingle (default: 5)")
    add("--method", choices=("exact", "minhash"), default="minhash", help="exact copies only, or near duplicates as well (default: minhash)")  # fmt: skip
    add("--text", metavar="COL", help="the field with the text (default: text)")
    add("--id", metavar="COL", help="the field with the document's id (default: <file>#<record>)")
    add("--index", metavar="DIR", help="compare with everything that earlier runs kept, and add what this one keeps")  # fmt: skip
    add("--split", metavar="NAME", help="which split of a data set of the `datasets` library")
    add("--priority", metavar="COL", help="a field with a number: of several copies the one with the highest stays")  # fmt: skip
    add("--by", metavar="COL", nargs="+", action="extend", help="fields whose equal values make duplicates, for instance url")  # fmt: skip
    add("--meta", metavar="COL", nargs="+", action="extend", help="fields to keep beside the text")
    add("--scope", choices=("across", "within"), default="across", help="compare everything with everything, or the documents of each INPUT only with one another (default: across)")  # fmt: skip
    add("--near-miss", type=float, metavar="S", help="also write down pairs from this similarity up to the threshold")  # fmt: skip
    add("--similarity", choices=("jaccard", "containment"), help="of the shingles: shared by both, or share of the removed document's that the kept one has (default: jaccard)")  # fmt: skip
    add("--hash-family", choices=("words", "datasketch"), help="what signs documents; datasketch is a slow cross-check (default: words)")  # fmt: skip
    add("--memory", metavar="SIZE", help="what a step may hold at once, for instance 512MB; more is spilled (default: 1GiB)")  # fmt: skip
    add("--no-kept", action="store_true", help="write decisions and pairs only, not the kept documents")


def run_dedup(options: argparse.Namespace) -> Curated:
    """Run what the flags of ``add_dedup_arguments`` ask for; ``engine``, ``workers`` and ``ray_address`` say how.

    Raises:
        ConfigError, DataError: mistakes, named by their flags; nothing is written then.
        RunError: the run failed; run it again to go on.
    """
    from curate.pipeline import run_curation

    config = dedup_config(options)
    check_inputs(config, options.out)
    try:
        return run_curation(
            config,
            options.out,
            engine=options.engine,
            workers=options.workers,
            ray_address=options.ray_address,
            keep_config=True,
        )
    except DataError as error:
        if "ingest." not in str(error):
            raise
        raise DataError(
            f"{error}\n  To allow more: change 'ingest' in {options.out / 'config.yaml'} and give that file to 'curate run'."
        ) from None


# -- flags into a configuration -----------------------------------------------------------------------------------------


def dedup_config(options: argparse.Namespace) -> CurateConfig:
    """The configuration that the flags of ``add_dedup_arguments`` stand for.

    Raises:
        ConfigError: every mistake, each with its flag.
    """
    from curate.config import from_mapping
    from curate.dedup_inputs import name_sources
    from curate.settings import CurateConfig
    from curate.sources import Source

    by, meta = list(dict.fromkeys(options.by or ())), list(dict.fromkeys(options.meta or ()))
    near = {name: getattr(options, name) for name in _NEAR_ONLY if getattr(options, name) is not None}
    given = {name: getattr(options, name) for name in ("text", "id", "priority", "split")}
    source = {name: value for name, value in given.items() if value is not None}
    source["meta"] = [*meta, *(field for field in by if field not in meta)]
    dedup = {"by": by, "scope": options.scope, "index": options.index, "prefer": ["priority"]}
    dedup |= {"memory": options.memory} if options.memory is not None else {}
    faults = [*_faults_of_near(near, options.method), *_faults_of_each({**source, "meta": meta}, dedup)]
    faults += [fault for path in options.inputs for fault in _faults(Source, {"path": path})]
    if options.workers is not None and options.workers < 1:
        faults.append(f"--workers: found {options.workers}; allowed: 1 or more.")
    if faults:
        raise ConfigError(faults)
    return from_mapping(
        CurateConfig,
        {
            "sources": name_sources(options.inputs, source, scope=options.scope),
            "normalize": {"unicode": None, "fix_mojibake": False, "newlines": False},
            "measure": {"signals": [], "language": False},
            "dedup": {**dedup, "minhash": near if options.method == "minhash" else None},
            "policy": {"use": []},
            "output": {"documents": False, "kept": not options.no_kept},
        },
    )


def _faults_of_near(near: Mapping[str, Any], method: str) -> list[str]:
    from curate.settings import MinHash

    if method == "exact":
        return [f"{_flag(name)}: --method exact compares no shingles; take one of the two out." for name in near]  # fmt: skip
    alone = [{name: value} for name, value in near.items() if name != "near_miss"]
    faults = [fault for values in alone for fault in _faults(MinHash, values)]
    if "near_miss" in near and not any(fault.startswith("--threshold") for fault in faults):
        faults += _faults(MinHash, {name: near[name] for name in ("threshold", "near_miss") if name in near})
    return faults


def _faults_of_each(source: Mapping[str, Any], dedup: Mapping[str, Any]) -> list[str]:
    """Mistakes of the other flags, each looked at alone, so that one does not hide another."""
    from curate.settings import Dedup
    from curate.sources import Source

    faults = [
        f"{_flag(name)}: found an empty name; allowed: the name of a field."
        for name, value in [*source.items(), ("by", dedup["by"])]
        if "" in (value if isinstance(value, list) else [value])
    ]
    if not faults:
        faults += [fault for name in source for fault in _faults(Source, {"path": "x", name: source[name]})]
    return faults + [fault for name in ("index", "memory") if name in dedup for fault in _faults(Dedup, {name: dedup[name]})]  # fmt: skip


def _faults(cls: type, values: Mapping[str, Any]) -> list[str]:
    """What is wrong with these settings, by flag."""
    from curate.config import from_mapping

    try:
        from_mapping(cls, values)
    except ConfigError as error:
        return [re.sub(r"^\$(?:\.|: )(\w+)", lambda found: _flag(found[1]), fault) for fault in error.faults]
    return []


def _flag(name: str) -> str:
    return "INPUT" if name == "path" else f"--{name.replace('_', '-')}"


def check_inputs(config: CurateConfig, out: Path) -> None:
    """Look for the files and the columns that the flags name, before anything is written.

    Raises:
        ConfigError: an INPUT that matches nothing, two files of one name, a run directory that is no place for one.
        DataError: a column that no file has, or a text column that holds no text.
    """
    from curate.dedup_inputs import check_columns
    from curate.pipeline import find_sources
    from curate.settings import faults_across

    faults = faults_across(config)
    sources = find_sources(config, faults)
    faults = [_by_flag(fault) for fault in faults]
    if out.is_dir() and not (out / ".steps").is_dir() and any(out.iterdir()):
        faults.append(f"--out: '{out}' holds other files; give a new or an empty directory.")
    faults += _faults_of_index(config)
    if faults:
        raise ConfigError(faults)
    files = [file for found in sources.values() for file in found]
    inside = [file.path for file in files if file.path.resolve().is_relative_to(out.resolve())]
    if inside:
        raise ConfigError(f"--out: '{out}' holds the input '{inside[0]}'; give another directory.")
    check_columns(config, files)


def _faults_of_index(config: CurateConfig) -> list[str]:
    """Why new data cannot be compared with the index, if there is one."""
    from curate.generations import check_is_free, open_index
    from curate.index import settings_of

    if config.dedup.index is None:
        return []
    directory = Path(config.dedup.index)
    try:
        if (directory / "manifest.json").exists():
            open_index(directory).check(settings_of(config))
        else:
            check_is_free(directory)
    except ConfigError as error:
        return [f"--index: {fault}" for fault in error.faults]
    return []


def _by_flag(fault: str) -> str:
    """A mistake that a configuration's path names, named by the flag instead."""
    name = re.search(r": '([\w.-]+)/[\w.-]+' matches no file", fault)
    if name and not os.path.isdir(name[1]):
        fault += " A data set of the hub is called hf://datasets/OWNER/NAME."
    fault = re.sub(r"^\$\.sources\.[^:]*?\.(\w+)(\[\d+\])?: ", lambda found: f"{_flag(found[1])}: ", fault)
    return re.sub(r"^\$\.dedup\.(?:minhash\.)?(\w+)(\[\d+\])?: ", lambda found: f"{_flag(found[1])}: ", fault)


# -- what is printed -----------------------------------------------------------------------------------------------------


def summary_lines(curated: Curated) -> list[str]:
    """What a run did, for the terminal: counts, the residual rate, and how likely a pair was to be found."""
    from curate.html import number, percent

    total = {k: sum(c[k] for c in curated.counts.values()) for k in ("read", "quarantined", "documents", "kept")}  # fmt: skip
    rules: Mapping[str, int] = curated.manifest["rules"]
    dedup: Mapping[str, Any] = curated.manifest["dedup"] or {}
    near = sum(count for rule, count in rules.items() if rule.startswith("minhash."))
    rows = [("records", total["read"]), ("quarantined", total["quarantined"])] if total["quarantined"] else []
    rows += [("documents", total["documents"]), ("exact copies", rules.get("exact.content_hash", 0))]
    rows += [
        (f"same {rule.removeprefix('exact.')}", count)
        for rule, count in rules.items()
        if rule.startswith("exact.") and rule != "exact.content_hash"
    ]
    rows += [("near duplicates", near)] if "bands" in dedup else []
    rows.append(("kept", total["kept"]))
    width = max(len(name) for name, _ in rows)
    lines = [
        f"{name:<{width}}{number(count):>14}"
        + (f"{percent(count, total['documents']):>8}" if i and name not in ("records", "quarantined", "documents") else "")
        for i, (name, count) in enumerate(rows)
    ]  # fmt: skip
    if dedup.get("residual"):
        lines.append(residual_line(dedup["residual"]))
    if "bands" in dedup:
        lines += ["", *curve_lines(dedup)]
    return lines


def curve_lines(dedup: Mapping[str, Any]) -> list[str]:
    """The chance that a pair is compared at all, around the threshold, and that with datasketch's balanced bands.

    Args:
        dedup: ``threshold``, ``bands`` and ``rows`` of a manifest; ``balanced`` has bands and rows of its own, or is null.

    >>> shown = curve_lines({"threshold": 0.8, "bands": 10, "rows": 6, "balanced": {"bands": 5, "rows": 11}})
    >>> print("\\n".join([*shown[:3], shown[6]]))
    chance that a pair is compared, by its similarity
                 10 bands x 6 rows  datasketch's balanced 5 x 11
    0.50                     14.6%                          0.2%
    0.80 =                   95.2%                         36.2%
    """
    from curate.minhash import Bands, probability

    threshold, balanced = float(dedup["threshold"]), dedup.get("balanced")
    columns = {f"{dedup['bands']} bands x {dedup['rows']} rows": Bands(dedup["bands"], dedup["rows"])}
    if balanced:
        name = f"datasketch's balanced {balanced['bands']} x {balanced['rows']}"
        columns[name] = Bands(balanced["bands"], balanced["rows"])
    lines = ["chance that a pair is compared, by its similarity", f"{'':<11}" + "".join(f"{name:>{len(name) + 2}}" for name in columns)]  # fmt: skip
    for step in (-0.3, -0.2, -0.1, -0.05, 0.0, 0.05, 0.1):
        point = round(threshold + step, 4)
        if 0 < point <= 1:
            shown = f"{point:.2f}" + (" =" if step == 0 else "")  # the threshold
            lines.append(f"{shown:<11}" + "".join(f"{probability(point, bands):>{len(name) + 2}.1%}" for name, bands in columns.items()))  # fmt: skip
    return lines


def residual_line(residual: Mapping[str, Any]) -> str:
    """How many near duplicates are left among the kept documents, as far as a sample tells.

    >>> residual_line({"kept": 90, "without_words": 0, "sampled": 10, "with_near_duplicate": 1, "low": 0.02, "high": 0.4})
    'residual: 10.0% of the kept documents have a near duplicate among them (95% interval 2.0% to 40.0%, sample of 10)'
    """
    from curate.html import number, percent

    sampled, found = residual["sampled"], residual["with_near_duplicate"]
    said = f"residual: {percent(found, sampled) if sampled else '0%'} of the kept documents have a near duplicate among them"  # fmt: skip
    if sampled == residual["kept"] - residual["without_words"]:
        return f"{said} (all compared)"
    return f"{said} (95% interval {percent(residual['low'], 1)} to {percent(residual['high'], 1)}, sample of {number(sampled)})"
