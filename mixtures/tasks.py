"""Tasks: datasets seen as problems, declared in YAML, and how their records become rows of named fields.

A *raw* task maps the columns of its records to fields and gives templates over them. A *rendered* task is a dataset
whose inputs and targets somebody else has rendered already: its fields are ``input`` and ``target``, and its only
template is the identity. A *documents* task is a curated run; its rows are pieces of the kept documents.

    # configs/tasks/gsm8k.yaml
    id: gsm8k
    source: {path: data/gsm8k/*.jsonl.gz, id: id}
    fields:
      question: question
      rationale: {column: answer, before: "####", remove: "<<[^<>]*>>"}
      answer: {column: answer, after: "####"}
    answer: answer
    rationale: rationale
    templates:
      - {id: ask, input: "{{ question }}", target: "{{ answer }}"}
      - {id: steps, cot: true, input: "{{ question }} Think.", target: "{{ rationale }} The answer is {{ answer }}."}

A record that cannot be read, lacks a field or has not the marker that a rule looks for is rejected with its reason;
nothing is skipped. Patterns are RE2 (linear time) and run on whole columns, so there is no loop over records here.
"""

from __future__ import annotations

import csv
import glob
import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from curate.config import Count, load_config, nearest
from curate.engine import file_digest
from curate.manifest import read_manifest
from curate.sources import (
    MAX_LINE_BYTES,
    BrokenStreamError,
    Format,
    Records,
    Source,
    SourceFile,
    decompressed,
    find_files,
    read_records,
)
from filters.errors import ConfigError, DataError
from mixtures.templates import Template

Kind = Literal["raw", "rendered", "documents"]
Split = Literal["train", "eval"]

IDENTITY = Template("identity", "{{ input }}", "{{ target }}")
DOCUMENT = Template("document", "", "{{ text }}")
END_OF_TEXT = "<|endoftext|>"
"""Rendered sets often carry their maker's end-of-text token as these characters; no text here holds them."""
_SPACE = r"[\s\x0b\x1c-\x1f\x{85}\p{Z}]*"
"""What Python's ``isspace`` takes for white space, for RE2."""
MAX_NAME = 100
"""Bytes of the name of a task or part: names of leaves become names of folders."""


def check_name(what: str, name: str) -> None:
    """Refuse what cannot be (a part of) the name of a folder, with ``ValueError``."""
    if not re.fullmatch(r"\w+", name):
        raise ValueError(f"{what}: found {name!r}; allowed are letters, digits and underscores")
    if len(name.encode()) > MAX_NAME:
        raise ValueError(f"{what}: found a name of {len(name.encode())} bytes; allowed are {MAX_NAME}")


@dataclass(frozen=True, slots=True)
class Field:
    """How a field is made from a column; the rules apply in the order in which they stand here.

    Attributes:
        column: of the record; dots descend into nested JSON objects.
        before, after: keep what stands before (after) the last place where this text occurs; a record without it is
            rejected. White space around the rest goes.
        remove: an RE2 pattern, every match of which is deleted.
        list: the column holds a list of texts.
    """

    column: str
    before: str | None = None
    after: str | None = None
    remove: str | None = None
    list: bool = False

    def __post_init__(self) -> None:
        if self.remove is not None:
            try:
                pc.replace_substring_regex(pa.array([""]), self.remove, "")
            except pa.ArrowInvalid as error:
                raise ValueError(f"remove: not an RE2 pattern: {error}") from None
        if self.list and (self.before or self.after or self.remove):
            raise ValueError(
                "list: before, after and remove are rules for texts; allowed with list: none of them"
            )


@dataclass(frozen=True, slots=True)
class TaskSource:
    """Where the records of a task are.

    Attributes:
        path: glob patterns, relative to where the command runs; of a documents task the curated run's directory.
        format: overrides what the file names say.
        id: the column with a record's own id; without it the id is ``<relative path>#<row>``.
        columns: names for the columns of TSV files that have no header line and no quoting.
        unescape: turn the two characters \\n of those files into line ends.
    """

    path: str | tuple[str, ...]
    format: Format | None = None
    id: str | None = None
    columns: tuple[str, ...] = ()
    unescape: bool = False

    def __post_init__(self) -> None:
        if self.columns and self.id is not None and self.id not in self.columns:
            raise ValueError(
                f"id: no column '{self.id}'{nearest(self.id, self.columns) or '.'} Allowed: {', '.join(self.columns)}"
            )
        if self.unescape and not self.columns:
            raise ValueError("unescape: only for TSV files without a header; name their columns")


@dataclass(frozen=True, slots=True)
class Task:
    """A dataset seen as one problem.

    Attributes:
        id: unique; letters, digits and underscores.
        kind: see the module's page.
        source: its records.
        dataset: what it is held out by; default the id. Several tasks may be made from one dataset.
        category, cluster: for choosing tasks (a cluster is a family such as nli or qa; a category a broader one).
        fields: name -> column, or a ``Field``.
        answer: the field with the answer alone.
        rationale: the field with the reasoning that leads to it.
        templates: of a raw task, or a YAML file with a list of them, relative to the task's file.
        licence: SPDX name, as far as known.
        cap: at most this size counts where rates are proportional to size.
        split: ``train``, or ``eval`` for records that are only ever evaluated on.
    """

    id: str
    source: TaskSource
    kind: Kind = "raw"
    dataset: str = ""
    category: str = ""
    cluster: str = ""
    fields: dict[str, str | Field] = field(default_factory=dict)
    answer: str | None = None
    rationale: str | None = None
    templates: tuple[Template, ...] | str = ()
    licence: str = ""
    cap: Count | None = None
    split: Split = "train"

    def __post_init__(self) -> None:
        check_name("id", self.id)
        if not self.dataset:
            object.__setattr__(self, "dataset", self.id)
        object.__setattr__(
            self, "fields", {name: Field(f) if isinstance(f, str) else f for name, f in self.fields.items()}
        )
        if self.kind == "rendered" and (set(self.fields) != {"input", "target"} or self.templates):
            raise ValueError(
                "kind: rendered needs the fields input and target and no templates; "
                f"found the fields {', '.join(self.fields) or 'none'}"
            )
        if self.kind == "documents" and (self.fields or self.templates):
            raise ValueError("kind: documents takes neither fields nor templates")
        if self.kind == "raw" and not isinstance(self.templates, str):
            self._check_templates(self.templates)

    def _check_templates(self, templates: Sequence[Template]) -> None:
        for role in ("answer", "rationale"):
            name = getattr(self, role)
            if name is not None and name not in self.fields:
                raise ValueError(f"{role}: no field '{name}'{nearest(name, list(self.fields))}")
        ids = [template.id for template in templates]
        if len(set(ids)) < len(ids):
            raise ValueError(f"templates: ids must differ; found {', '.join(ids)}")
        if all(template.cot for template in templates):
            raise ValueError(
                "templates: at least one that answers without a rationale (cot: false) is needed"
            )
        for template in templates:
            unknown = sorted(template.fields - set(self.fields))
            if unknown:
                hint = nearest(unknown[0], list(self.fields)) or "."
                raise ValueError(
                    f"templates: '{template.id}' uses '{unknown[0]}', which is no field{hint} "
                    f"Fields: {', '.join(self.fields)}"
                )
            if template.cot and (self.rationale is None or self.rationale not in template.fields):
                raise ValueError(
                    f"templates: '{template.id}' has cot: true but does not use the rationale field"
                )

    def templates_for(self, *, cot: bool) -> tuple[Template, ...]:
        """The templates that answer with a rationale, or those that answer without."""
        if self.kind != "raw":
            return () if cot else (IDENTITY if self.kind == "rendered" else DOCUMENT,)
        assert not isinstance(self.templates, str), "load_tasks reads template files"
        return tuple(template for template in self.templates if template.cot == cot)

    @property
    def has_rationale(self) -> bool:
        """Whether chain-of-thought examples can be made of it."""
        return bool(self.templates_for(cot=True))

    def question_fields(self, template: Template) -> tuple[str, ...]:
        """The fields that make up the question of a template: two rows with the same ones ask the same thing.

        They are what its input uses but answer and rationale; of an input made from these alone (a template that is
        turned around), what it uses.
        """
        used = tuple(name for name in self.fields if name in template.input_fields)
        return tuple(name for name in used if name not in (self.answer, self.rationale)) or used


@dataclass(frozen=True, slots=True)
class Documents:
    """A curated run as a task: every kept document, cut into rows that fit.

    Attributes:
        documents: the run's directory.
        id: of the task.
        cluster, category: as of any task.
    """

    documents: str
    id: str = "documents"
    cluster: str = "documents"
    category: str = ""

    def __post_init__(self) -> None:
        check_name("id", self.id)

    def task(self) -> Task:
        """The same as a task."""
        return Task(
            id=self.id,
            kind="documents",
            source=TaskSource(self.documents),
            cluster=self.cluster,
            category=self.category,
        )


@dataclass(frozen=True, slots=True)
class _TemplateFile:
    templates: tuple[Template, ...]


@dataclass(frozen=True, slots=True)
class Rows:
    """A stretch of a task's records.

    Attributes:
        table: ``id``, ``row`` (record number in its file, from 0), ``field:NAME`` for each field, and whether the
            record is ``named`` (has an id of its own) and ``edited`` (lost a literal end-of-text token).
        rejected: (id, reason, detail) of the records that are not in the table.
        read: records seen, good and bad.
    """

    table: pa.Table
    rejected: list[tuple[str, str, str]]
    read: int


def load_tasks(entries: Sequence[str | Documents]) -> tuple[Task, ...]:
    """The tasks that a mixture's ``tasks`` names: YAML files by glob pattern, and curated runs.

    Raises:
        ConfigError: a pattern without a file, a mistake in a file, or one id in two places; all at once.
    """
    faults: list[str] = []
    places = find_tasks(entries, faults)
    if faults:
        raise ConfigError(faults)
    return tuple(task for task, _ in places.values())


def find_tasks(entries: Sequence[str | Documents], faults: list[str]) -> dict[str, tuple[Task, str]]:
    """As ``load_tasks``: id -> (task, where it stands), as far as they can be loaded; mistakes go to ``faults``."""
    tasks: dict[str, tuple[Task, str]] = {}
    for entry in entries:
        for place, task in _load_entry(entry, faults):
            if task.id in tasks:
                faults.append(
                    f"{place}: the task id '{task.id}' is taken by {tasks[task.id][1]}. Give it another id."
                )
            tasks[task.id] = task, place
    return tasks


def _load_entry(entry: str | Documents, faults: list[str]) -> Iterator[tuple[str, Task]]:
    if isinstance(entry, Documents):
        yield f"documents: {entry.documents}", entry.task()
        return
    paths = sorted(glob.glob(entry, recursive=True))
    if not paths:
        faults.append(
            f"$.tasks: '{entry}' matches no file. Give the path of a task's YAML file, or a pattern."
        )
    for path in paths:
        try:
            yield path, load_task(path)
        except ConfigError as error:
            faults += error.faults


def load_task(path: str | Path) -> Task:
    """One task from its YAML file."""
    task = load_config(path, Task)
    if isinstance(task.templates, str):
        file = load_config(Path(path).parent / task.templates, _TemplateFile)
        try:
            return replace(task, templates=file.templates)
        except ValueError as error:
            raise ConfigError(f"{Path(path).name}: $: {error}") from None
    return task


def task_files(task: Task, *, where: str = "") -> list[SourceFile]:
    """The files of a task in the order of their relative paths; of a documents task its kept shards.

    Args:
        task: whose files.
        where: what messages name; default the task's id.

    Raises:
        ConfigError: a pattern that matches nothing, or a directory that is no curated run.
        DataError: a kept shard is missing.
    """
    if task.kind == "documents":
        return [file for file, _ in kept_shards(str(task.source.path))]
    try:
        return find_files(
            task.id, Source(task.source.path, format="tsv" if task.source.columns else task.source.format)
        )
    except ConfigError as error:
        raise ConfigError(
            [
                fault.replace(f"$.sources.{task.id}.", f"{where or task.id}: $.source.")
                for fault in error.faults
            ]
        ) from None


def kept_shards(run: str | Path) -> list[tuple[SourceFile, str]]:
    """The kept shards of a curated run with the SHA-256 that its manifest gives.

    Raises:
        ConfigError: there is no finished curated run.
        DataError: a shard is missing.
    """
    found = []
    for shard in read_manifest(Path(run), kind="curated")["shards"]["kept"]:
        path = Path(run) / shard["path"]
        if not path.is_file():
            raise DataError(f"{path}: missing, though the run's manifest names it. {_RUN_AGAIN}")
        found.append((SourceFile(path, shard["path"], "parquet", ""), shard["sha256"]))
    return found


def check_kept(path: str | Path, sha256: str | None) -> str:
    """The SHA-256 of a file.

    Raises:
        DataError: it is a kept shard, and its run's manifest names other bytes.
    """
    found = file_digest(Path(path))
    if sha256 is not None and found != sha256:
        raise DataError(f"{path}: not the bytes that the run's manifest names. {_RUN_AGAIN}")
    return found


_RUN_AGAIN = "Run `curate run` again, which makes the shard again"


def column_names(file: SourceFile) -> list[str]:
    """The names of a file's columns, of JSON those of the first record; nothing where they cannot be read."""
    try:
        if file.format == "parquet":
            return list(pq.read_schema(file.path).names)
        if file.format in ("jsonl", "csv", "tsv"):
            line = next(iter(next(_lines(file))[0]), b"").decode("utf-8-sig")
            if file.format == "jsonl":
                return list(json.loads(line))
            return next(csv.reader([line], delimiter="," if file.format == "csv" else "\t"), [])
    except (ValueError, TypeError, csv.Error, OSError):
        pass
    return []


def read_rows(task: Task, file: SourceFile) -> Iterator[Rows]:
    """The records of one file of a raw or rendered task, as fields."""
    fields = {name: f for name, f in task.fields.items() if isinstance(f, Field)}
    # curate's readers ask that the first column be text and expect the id second: no field of ours need be text
    ids = [task.source.id] if task.source.id else []
    columns = list(dict.fromkeys(["", *ids, *(f.column for f in fields.values())]))
    reader = _read_headless(file, task.source) if task.source.columns else read_records(file, columns)
    for records in reader:
        yield _map_fields(task, fields, file, records)


def _map_fields(task: Task, fields: dict[str, Field], file: SourceFile, records: Records) -> Rows:
    table = records.table
    places = pc.binary_join_element_wise(f"{file.relative}#", table["row"].cast(pa.string()), "")
    ids = (
        pc.coalesce(table[f"field:{task.source.id}"].cast(pa.string()), places) if task.source.id else places
    )
    rejected = [
        (
            f"{file.relative}#{bad['row']}" if bad["row"] is not None else file.relative,
            bad["reason"],
            bad["detail"],
        )
        for bad in records.bad
    ]
    columns = {}
    reason = pa.nulls(table.num_rows, pa.string())
    for name, f in fields.items():
        columns[name], fault = _make_field(table[f"field:{f.column}"], f)
        reason = pc.coalesce(reason, pc.if_else(fault, f"{name}: {f.column}", None))
    edited = pa.repeat(pa.scalar(False), table.num_rows)
    if task.kind == "rendered":
        ends = rf"{_SPACE}(?:{re.escape(END_OF_TEXT)}{_SPACE})+$"
        for name in ("input", "target"):
            whole = columns[name]
            columns[name] = pc.replace_substring_regex(whole, ends, "")
            edited = pc.or_(edited, pc.fill_null(pc.not_equal(columns[name], whole), False))
    made = {f"field:{name}": column for name, column in columns.items()}
    named = pc.is_valid(table[f"field:{task.source.id}"]) if task.source.id else pc.is_null(ids)
    good = pa.table({"id": ids, "row": table["row"], "named": named, "edited": edited, **made})
    is_bad = pc.is_valid(reason)
    for bad_id, text in zip(ids.filter(is_bad).to_pylist(), reason.filter(is_bad).to_pylist(), strict=True):
        rejected.append((bad_id, "missing_field", f"nothing usable for the field {text}"))
    return Rows(good.filter(pc.invert(is_bad)), rejected, records.read)


def _make_field(column: pa.ChunkedArray, rule: Field) -> tuple[pa.Array, pa.Array]:
    """The field's values, and where it has none."""
    values = column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
    if rule.list:
        lists = [_text_list(text) for text in values.to_pylist()]
        made = pa.array(lists, pa.list_(pa.large_string()))
        return made, pc.is_null(made)
    for marker, pattern in ((rule.before, r"(?s)^(.*){}.*$"), (rule.after, r"(?s)^.*{}(.*)$")):
        if marker is not None:
            has = pc.match_substring(values, marker)
            part = pc.replace_substring_regex(values, pattern.format(re.escape(marker)), r"\1")
            values = pc.utf8_trim_whitespace(pc.if_else(has, part, None))
    if rule.remove is not None:
        values = pc.replace_substring_regex(values, rule.remove, "")
    return values, pc.is_null(values)


def _text_list(text: str | None) -> list[str] | None:
    try:
        value = json.loads(text or "")
    except ValueError:
        return None
    return value if isinstance(value, list) and all(isinstance(item, str) for item in value) else None


def _read_headless(file: SourceFile, source: TaskSource) -> Iterator[Records]:
    """TSV without a header and without quoting: a quotation mark is a character like any other."""
    first = 0
    for lines, broken in _lines(file):
        bad: list[dict[str, Any]] = []
        if broken:
            detail = f"{broken}; the lines before it were read"
            bad.append({"row": first, "reason": "broken_stream", "detail": detail})
        good: list[tuple[int, list[str]]] = []
        for row, line in enumerate(lines, start=first):
            try:
                mark = "utf-8" if row else "utf-8-sig"  # a byte order mark at the start is no text
                values = line.removesuffix(b"\r").decode(mark).split("\t")
            except UnicodeDecodeError as error:
                detail = f"byte {error.start} of the line is not UTF-8"
                bad.append({"row": row, "reason": "invalid_utf8", "detail": detail})
                continue
            if len(values) == len(source.columns):
                good.append((row, [v.replace("\\n", "\n") for v in values] if source.unescape else values))
            else:
                detail = f"the line has {len(values)} fields, the task names {len(source.columns)} columns"
                bad.append({"row": row, "reason": "ragged_row", "detail": detail})
        columns = {"row": pa.array([row for row, _ in good], pa.int64())}
        for i, name in enumerate(source.columns):
            columns[f"field:{name}"] = pa.array([values[i] for _, values in good], pa.large_string())
        yield Records(pa.table(columns), bad, len(lines) + bool(broken))
        first += len(lines)


def _lines(file: SourceFile) -> Iterator[tuple[list[bytes], str]]:
    """Whole lines, a chunk of the file at a time; the last ones come with the reason where the stream breaks."""
    held = b""
    try:
        for chunk in decompressed(file.path, file.compression):
            *lines, held = (held + chunk).split(b"\n")
            if len(held) > MAX_LINE_BYTES:
                raise BrokenStreamError(f"a line longer than {MAX_LINE_BYTES >> 20} MiB")
            yield lines, ""
    except BrokenStreamError as error:
        yield [], str(error)
        return
    yield [held] if held else [], ""
