"""What a command line names as inputs: the sources that they are, and whether the columns are there that it asks for.

    inputs ── name_sources ──▶ sources of a configuration ── check_columns ──▶ all mistakes at once, or nothing

Both look at names and first records only, so that a mistake is told before any work is done.
"""

from __future__ import annotations

import csv
import glob
import io
import itertools
import json
import logging
import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from curate import huggingface
from curate.config import from_mapping, nearest
from curate.settings import CurateConfig
from curate.sources import (
    COMPRESSIONS,
    MAX_LINE_BYTES,
    SUFFIXES,
    BrokenStreamError,
    Format,
    Source,
    SourceFile,
    decompressed,
    find_files,
    read_records,
)
from filters.errors import ConfigError, DataError

log = logging.getLogger(__name__)

LOOKED_AT = 100
"""Batches of records that are looked at for a column, at most."""


def name_sources(
    inputs: Sequence[str], settings: Mapping[str, Any], *, scope: str
) -> dict[str, dict[str, Any]]:
    """The sources of a configuration for the inputs of a command.

    One source, whose order is that of its files' relative names; where two files would have the same name, names begin
    at the folder that all inputs share. One source for each input where they are not to be compared, or cannot be told
    apart otherwise.

    Args:
        settings: of all sources alike.

    Raises:
        ConfigError: inputs that match nothing, by ``INPUT``.
    """
    distinct = list(dict.fromkeys(inputs))
    paths, faults = [], []
    for path in distinct:
        try:
            paths.append(_files_of_folder(path))
        except ValueError as error:
            faults.append(f"INPUT: {error}")
    if faults:
        raise ConfigError(faults)
    together = [pattern for patterns in paths for pattern in patterns]
    if scope == "across" or len(distinct) == 1:
        for patterns in (together, _below_common_folder(together)):
            if patterns and not _has_namesakes(patterns, settings):
                return {"input": {"path": patterns[0] if len(patterns) == 1 else patterns, **settings}}
    found: dict[str, dict[str, Any]] = {}
    for path, patterns in zip(distinct, paths, strict=True):
        plain = " ".join(re.findall(r"[\w.-]+", Path(path).name)).strip(".- ") or "input"
        name, copies = plain, 1
        while name in found:
            copies += 1
            name = f"{plain}-{copies}"
        found[name] = {"path": patterns[0] if len(patterns) == 1 else patterns, **settings}
    return found


def _files_of_folder(path: str) -> list[str]:
    """Patterns for the files of a folder, of the formats that are there; any other input as it is.

    Plain texts are left out where there are files of records: they describe these.
    """
    if not os.path.isdir(path) or huggingface.is_saved(path):
        return [path]
    listed = sorted(glob.glob(f"{glob.escape(path)}/**/*", recursive=True))
    formats = {file: _ending(file) for file in listed if os.path.isfile(file)}
    endings = {ending: format_ for ending, format_ in formats.values() if format_ is not None}
    if not endings:
        raise ValueError(f"'{path}' holds no file of a known format; allowed: {', '.join(SUFFIXES)}.")
    of_records = {ending for ending, format_ in endings.items() if format_ != "text"}
    chosen = of_records or set(endings)
    others = [file for file, (ending, _) in formats.items() if ending not in chosen]
    if others:
        log.warning("%s: %d files hold no records and are left out, the first is %s", path, len(others), others[0])  # fmt: skip
    return [os.path.join(glob.escape(path), "**", f"*{ending}") for ending in sorted(chosen)]


def _ending(file: str) -> tuple[str, Format | None]:
    """What a file name ends with, and the format that this stands for.

    >>> _ending("in/a.v1.jsonl.GZ"), _ending("in/_SUCCESS")
    (('.jsonl.GZ', 'jsonl'), ('', None))
    """
    stem, last = os.path.splitext(os.path.basename(file))
    if last.lower() in COMPRESSIONS:
        first = os.path.splitext(stem)[1]
        return first + last, SUFFIXES.get(first.lower())
    return last, SUFFIXES.get(last.lower())


def _has_namesakes(patterns: Sequence[str], settings: Mapping[str, Any]) -> bool:
    """Whether two files of a source would have the same name."""
    try:
        find_files("input", from_mapping(Source, {"path": list(patterns), **settings}))
    except ConfigError as error:
        return any("would both be called" in fault for fault in error.faults)
    return False


def _below_common_folder(patterns: Sequence[str]) -> list[str]:
    """The same files, by patterns that name them from the folder that all share; none where that cannot be said.

    Files are called by what follows the part of a pattern without wildcards, so a letter in brackets ends that part.

    >>> _below_common_folder(["crawl/old/part-0.jsonl", "crawl/new/*.jsonl"])
    ['crawl/[o]ld/part-0.jsonl', 'crawl/[n]ew/*.jsonl']
    """
    if any("://" in pattern or os.path.isdir(pattern) for pattern in patterns):
        return []  # datasets
    plain = [glob.escape(pattern) if os.path.isfile(pattern) else pattern for pattern in patterns]
    if len({os.path.isabs(pattern) for pattern in plain}) > 1 or any(".." in Path(p).parts for p in plain):
        plain = [os.path.abspath(pattern) for pattern in plain]
    parts = [Path(pattern).parts for pattern in plain]
    alike = [len(set(group)) == 1 for group in zip(*parts, strict=False)]
    shared = alike.index(False) if False in alike else len(alike)
    named = []
    for own in parts:
        if shared >= len(own):
            return []
        letter = re.search("[A-Za-z0-9]", own[shared])
        if letter is None:
            return []
        head = own[shared] if glob.has_magic(own[shared]) else f"{own[shared][: letter.start()]}[{letter[0]}]{own[shared][letter.end() :]}"  # fmt: skip
        named.append(os.path.join(*own[:shared], head, *own[shared + 1 :]))
    return named


def check_columns(config: CurateConfig, files: Sequence[SourceFile]) -> None:
    """Look for every column in the files, until all are found.

    A schema or a header tells at once; of JSONL the first records do as a rule, and the first ``LOOKED_AT`` batches are
    read for a field that is rare.

    Raises:
        DataError: all columns that no file has, with the names of those there are; or why the text is no text.
    """
    source = next(iter(config.sources.values()))
    missing = {source.text: "--text", **({source.id: "--id"} if source.id else {})}
    for field in source.meta:
        missing.setdefault(field, "--by" if field in config.dedup.by else "--meta")
    if isinstance(source.priority, str):
        missing.setdefault(source.priority, "--priority")
    known: dict[str, None] = {}
    is_text, fault, read, budget = False, "", 0, LOOKED_AT
    for file in files:
        if file.format == "text":
            is_text = True
            missing.pop(source.text, None)
            continue
        names = field_names(file)
        known |= dict.fromkeys(names)
        for field in [f for f in missing if f in names or f.split(".")[0] in names]:
            del missing[field]
        wanted = [source.text, *(missing if file.format == "jsonl" else ())]
        for records in itertools.islice(read_records(file, list(dict.fromkeys(wanted))), budget):
            if is_text and not missing:
                return
            table = records.table
            read, budget = read + records.read, budget - 1
            for field in [f for f in missing if f in wanted and table[f"field:{f}"].null_count < len(table)]:
                del missing[field]
            is_text = is_text or table[f"field:{source.text}"].null_count < len(table)
            reasons = (bad["detail"] for bad in records.bad if bad["reason"] == "missing_text")
            fault = fault or next(reasons, "")
            if is_text and not (missing and file.format == "jsonl"):
                break
    listed = ", ".join(f"'{name}'" for name in list(known)[:50]) or "none"
    faults = [
        f"{flag}: no record has the field '{field}'{nearest(field, list(known)) or '.'} Fields: {listed}."
        for field, flag in missing.items()
        if known or field != source.text
    ]
    if not faults and not is_text and read:
        fault = fault or f"the field '{source.text}' is empty in the first {read:,} records"
        faults = [f"--text: {fault}. Name the field that holds the text; fields: {listed}."]
    if faults:
        raise DataError("\n  ".join(faults))


def field_names(file: SourceFile) -> list[str]:
    """The fields of a file by its schema or header; of JSONL those of the records in its first MiB. None if it is broken."""
    try:
        if file.format == "parquet":
            return list(pq.read_schema(file.path).names)
        if file.format == "arrow":
            with pa.memory_map(str(file.path)) as source:
                try:
                    return list(pa.ipc.open_file(source).schema.names)
                except pa.ArrowInvalid:
                    source.seek(0)
                    return list(pa.ipc.open_stream(source).schema.names)
        head = _first_lines(file)
        return _header(head, "\t" if file.format == "tsv" else ",") if file.format in ("csv", "tsv") else _keys(head)  # fmt: skip
    except (pa.ArrowException, OSError, EOFError, BrokenStreamError):
        return []  # reading it will say what is wrong


def _first_lines(file: SourceFile) -> str:
    """Whole lines from the beginning of a file: its first MiB, or more if no line ends in it."""
    held = b""
    try:
        for chunk in decompressed(file.path, file.compression):
            held += chunk
            if b"\n" in chunk or len(held) > MAX_LINE_BYTES:
                held = held[: held.rfind(b"\n") + 1] or held
                break
    except BrokenStreamError:
        pass
    return held.decode("utf-8-sig", "replace")


def _header(head: str, delimiter: str) -> list[str]:
    try:
        return next(csv.reader(io.StringIO(head, newline=""), delimiter=delimiter), [])
    except csv.Error:
        return []


def _keys(head: str) -> list[str]:
    names: dict[str, None] = {}
    for line in head.split("\n"):
        try:
            value = json.loads(line)
        except (ValueError, RecursionError):
            continue
        names |= dict.fromkeys(value) if isinstance(value, dict) else {}
    return list(names)
