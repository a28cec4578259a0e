"""The check of a task: its records become instances, rows that can certainly be rendered, or are rejected with a reason.

Everything that may fail fails here, before the plan is made, because the plan promises how many examples each leaf
gives: every record is read, mapped to fields, rendered by every template that the mixture may use, and its tokens
counted. Records that were read = records that are used + records that are rejected, each with a decision row.

    source, id, keys (of the question) and lengths (tokens, without bos and eos), both by each template, field:NAME ...

Of a curated run, each kept document is cut into instances of at most a row's tokens, at line ends where it can be;
joined in order they give the document back. Piece k of the document (source, id) has that ``source`` and the id
``<id>@k``; a decision about a document names it as its partner. Records of other tasks have no ``source``.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa

from curate.config import from_mapping, nearest
from curate.schema import DECISIONS
from curate.shards import ShardWriter, read_groups
from curate.sources import SourceFile
from filters.errors import ConfigError
from mixtures.fewshot import question_key
from mixtures.tasks import END_OF_TEXT, Task, check_kept, column_names, read_rows
from mixtures.templates import Template, TemplateError
from mixtures.tokenizer import Tokenizer, load_tokenizer

_FRAME = 2  # bos and eos
_KEYS = pa.list_(pa.int64())
_LENGTHS = pa.list_(pa.int32())


def templates_used(task: Task, cot: Sequence[bool]) -> list[Template]:
    """The templates that ``keys`` and ``lengths`` are of, in their order."""
    return [template for kind in cot for template in task.templates_for(cot=kind)]


def check_part(
    out: Path,
    *,
    task: Mapping[str, Any],
    files: Sequence[Mapping[str, str]],
    cot: Sequence[bool],
    tokenizer: str,
    length: int | None,
    between: str,
    too_long: str,
) -> dict[str, Any]:
    """Check some files of one task: instances.arrow and decisions.parquet.

    Args:
        out: where to write.
        task: as a mapping.
        files: path, relative, format, compression of each; of a kept shard also the sha256 that it must have.
        cot: which templates may be used: [False], [True] or both.
        tokenizer: what ``load_tokenizer`` takes.
        length: tokens of a row; None where nothing is too long.
        between: stands between input and target.
        too_long: ``reject`` or ``truncate_input``.

    Raises:
        ConfigError: no record has the column that ids are to come from.
        DataError: a kept shard is not what its manifest says.
    """
    check = _Check(from_mapping(Task, task), cot, load_tokenizer(tokenizer), length, between, too_long)
    inputs = []
    with (
        pa.OSFile(str(out / "instances.arrow"), "wb") as sink,
        pa.ipc.new_stream(sink, check.schema) as instances,
        ShardWriter(out / "decisions.parquet", DECISIONS) as decisions,
    ):
        for entry in files:
            file = SourceFile(Path(entry["path"]), entry["relative"], entry["format"], entry["compression"])  # type: ignore[arg-type]
            sha256 = check_kept(file.path, entry.get("sha256"))
            inputs.append({"source": check.task.id, "path": file.relative, "sha256": sha256})
            for table in check.instances(file):
                instances.write_table(table)
                decisions.write(pa.Table.from_pylist(check.take_decisions(), DECISIONS))
    check.expect_ids(files)
    return {
        "task": check.task.id,
        "rows": check.rows,
        "read": check.read,
        "used": check.used,
        "rejected": dict(sorted(check.rejected.items())),
        "edited": dict(sorted(check.edited.items())),
        "inputs": inputs,
    }


class _Check:
    """The state of one check: what was counted so far, and the decisions that are not written yet."""

    def __init__(
        self,
        task: Task,
        cot: Sequence[bool],
        tokenizer: Tokenizer,
        length: int | None,
        between: str,
        too_long: str,
    ) -> None:
        self.task, self.tokenizer, self.length, self.between = task, tokenizer, length, between
        self.truncates = too_long == "truncate_input"
        self.templates = templates_used(task, cot)
        self.questions = [task.question_fields(template) for template in self.templates]
        self.read = self.used = self.rows = self.named = 0
        self.rejected: Counter[str] = Counter()
        self.edited: Counter[str] = Counter()
        self._decisions: list[dict[str, Any]] = []
        self._seen: set[str] = set()
        names = ("text",) if task.kind == "documents" else tuple(task.fields)
        types = {
            name: pa.list_(pa.large_string())
            if getattr(task.fields.get(name), "list", False)
            else pa.large_string()
            for name in names
        }
        self.schema = pa.schema(
            [
                pa.field("source", pa.string()),
                pa.field("id", pa.string()),
                pa.field("keys", _KEYS),
                pa.field("lengths", _LENGTHS),
                *(pa.field(f"field:{name}", type_) for name, type_ in types.items()),
            ]
        )

    def instances(self, file: SourceFile) -> Iterator[pa.Table]:
        """The instances of a file; the decisions about a stretch are there when its instances are."""
        stretches = self._documents(file) if self.task.kind == "documents" else self._records(file)
        for table in stretches:
            self.rows += table.num_rows
            yield table

    def take_decisions(self) -> list[dict[str, Any]]:
        """The decisions since the last call."""
        taken, self._decisions = self._decisions, []
        return taken

    def expect_ids(self, files: Sequence[Mapping[str, str]]) -> None:
        """Refuse a column for ids that no record has."""
        column = self.task.source.id
        if column is None or self.named or not self.used:
            return
        first = SourceFile(Path(files[0]["path"]), files[0]["relative"], files[0]["format"], files[0]["compression"])  # type: ignore[arg-type]  # fmt: skip
        names = column_names(first)
        raise ConfigError(
            f"{self.task.id}: $.source.id: no record has the column '{column}'{nearest(column, names) or '.'} "
            f"Columns of the first: {', '.join(names)}. Without id, ids are <file>#<row>."
        )

    def _decide(self, id_: str, action: str, rule: str, detail: str = "", **values: float | str) -> None:
        (self.rejected if action == "drop" else self.edited)[rule] += 1
        self._decisions.append(
            {
                "id": id_,
                "source": self.task.id,
                "stage": rule.partition(".")[0],
                "rule": rule,
                "action": action,
                "detail": detail or None,
                **values,
            }
        )

    # -- records of raw and rendered tasks -------------------------------------------------------------------------

    def _records(self, file: SourceFile) -> Iterator[pa.Table]:
        for stretch in read_rows(self.task, file):
            self.read += stretch.read
            self.named += sum(stretch.table["named"].to_pylist())
            for id_, reason, detail in stretch.rejected:
                self._decide(id_, "drop", f"read.{reason}", detail)
            yield self._checked(self._unrepeated(stretch.table, file))

    def _unrepeated(self, table: pa.Table, file: SourceFile) -> list[tuple[str, bool, dict[str, Any]]]:
        """(id, edited, fields) of the records whose native id no earlier record of the task has."""
        names = [name for name in table.column_names if name.startswith("field:")]
        fields = (
            table.select(names).rename_columns([name.removeprefix("field:") for name in names]).to_pylist()
        )
        records = zip(table["id"].to_pylist(), table["edited"].to_pylist(), fields, strict=True)
        if self.task.source.id is None:
            return list(records)
        fresh = []
        for id_, edited, record in records:
            if id_ in self._seen:
                self._decide(
                    id_,
                    "drop",
                    "read.repeated_id",
                    f"an earlier record has this id; this one is in {file.relative}",
                )
            else:
                self._seen.add(id_)
                fresh.append((id_, edited, record))
        return fresh

    def _checked(self, records: Sequence[tuple[str, bool, dict[str, Any]]]) -> pa.Table:
        """The records that every template renders to an input, a target and few enough tokens."""
        rendered: list[list[tuple[str, str]]] = []
        whole = []
        for id_, edited, fields in records:
            texts = self._render(id_, fields)
            if texts is not None:
                rendered.append(texts)
                whole.append((id_, edited, fields))
        rows: list[dict[str, Any]] = []
        for (id_, edited, fields), texts, (sizes, target_sizes) in zip(
            whole, rendered, self._count(rendered), strict=True
        ):
            if self._fits(id_, texts, sizes, target_sizes):
                if edited:
                    self._decide(id_, "edit", "render.end_of_text")
                values = {f"field:{name}": value for name, value in fields.items()}
                rows.append({"id": id_, "keys": self._keys(fields), "lengths": sizes, **values})
        self.used += len(rows)
        return pa.Table.from_pylist(rows, self.schema)

    def _keys(self, fields: Mapping[str, Any]) -> list[int]:
        """The key of the question that each template asks."""
        made = {
            names: question_key("\n".join(_plain(fields[name]) for name in names))
            for names in set(self.questions)
        }
        return [made[names] for names in self.questions]

    def _is_whole(self, id_: str, fields: Mapping[str, Any]) -> bool:
        """Whether the row says something where its templates would hide that it does not."""
        if self.task.kind == "rendered" and any(END_OF_TEXT in text for text in fields.values()):
            self._decide(id_, "drop", "render.end_of_text", "in the middle of a text")
            return False
        empty = {name for name, value in fields.items() if not _plain(value).strip()}
        needed = {self.task.answer}
        if any(template.cot for template in self.templates):
            needed.add(self.task.rationale)
        for name in fields:
            if name in empty & needed:
                self._decide(id_, "drop", "render.empty_target", f"the field {name}")
                return False
        for template, names in zip(self.templates, self.questions, strict=True):
            if names and empty.issuperset(names):
                self._decide(
                    id_, "drop", "render.empty_input", f"{template.id}: the fields {', '.join(names)}"
                )
                return False
        return True

    def _render(self, id_: str, fields: dict[str, Any]) -> list[tuple[str, str]] | None:
        if not self._is_whole(id_, fields):
            return None
        texts = []
        for template in self.templates:
            try:
                input_, target = template.render(fields)
            except TemplateError as error:
                self._decide(id_, "drop", "render.template_error", f"{template.id}: {error}")
                return None
            for part, text in (("input", input_), ("target", target)):
                if not text:
                    self._decide(id_, "drop", f"render.empty_{part}", template.id)
                    return None
            texts.append((input_, target))
        return texts

    def _count(self, rendered: Sequence[Sequence[tuple[str, str]]]) -> Iterator[tuple[list[int], list[int]]]:
        """Tokens of input and target together, and of the target alone, by each template."""
        inputs = self.tokenizer.encode([text + self.between for texts in rendered for text, _ in texts])
        targets = self.tokenizer.encode([text for texts in rendered for _, text in texts])
        n = len(self.templates)
        for i in range(len(rendered)):
            target_sizes = [len(ids) for ids in targets[i * n : (i + 1) * n]]
            input_sizes = [len(ids) for ids in inputs[i * n : (i + 1) * n]]
            yield [a + b for a, b in zip(input_sizes, target_sizes, strict=True)], target_sizes

    def _fits(
        self,
        id_: str,
        texts: Sequence[tuple[str, str]],
        sizes: Sequence[int],
        target_sizes: Sequence[int],
    ) -> bool:
        if self.length is None or max(sizes) + _FRAME <= self.length:
            return True
        longest = self.templates[sizes.index(max(sizes))].id
        room = {"value": float(max(sizes) + _FRAME), "bound": float(self.length)}
        if self.truncates and all(
            size + _FRAME <= self.length
            or cut_start(input_, self.between, self.length - _FRAME - target_size, self.tokenizer)
            for (input_, _), size, target_size in zip(texts, sizes, target_sizes, strict=True)
        ):
            self._decide(id_, "edit", "render.truncate_input", longest, **room)
            return True
        self._decide(id_, "drop", "render.too_long", longest, **room)
        return False

    # -- kept documents of a curated run ---------------------------------------------------------------------------

    def _documents(self, file: SourceFile) -> Iterator[pa.Table]:
        assert self.length is not None, "documents are trained on, never evaluated on"
        for group in read_groups(file.path, ["source", "id", "text"]):
            rows: list[dict[str, Any]] = []
            sources, ids, texts = (group[name].to_pylist() for name in ("source", "id", "text"))
            self.read += len(ids)
            cuts = cut(texts, self.length - _FRAME, self.tokenizer)
            for source, id_, pieces in zip(sources, ids, cuts, strict=True):
                if not any(piece.strip() for piece, _ in pieces):
                    partner = {"partner_source": source, "partner_id": id_}
                    self._decide(id_, "drop", "render.empty_target", "document", **partner)
                    continue
                self.used += 1
                rows += [
                    {
                        "source": source,
                        "id": f"{id_}@{k}",
                        "keys": [0],
                        "lengths": [size],
                        "field:text": piece,
                    }
                    for k, (piece, size) in enumerate(pieces)
                ]
            yield pa.Table.from_pylist(rows, self.schema)


def _plain(value: str | list[str]) -> str:
    return value if isinstance(value, str) else "\n".join(value)


def cut_start(text: str, between: str, room: int, tokenizer: Tokenizer) -> str:
    """The end of an input that fits into ``room`` tokens together with what stands between; empty where none does.

    Found by bisection over characters, so it is the longest where more text never has fewer tokens.

    >>> from mixtures.tokenizer import load_tokenizer
    >>> cut_start("only the last 漢字", "\\n", 9, load_tokenizer("bytes"))
    't 漢字'
    """
    fits, least = 0, len(text) + 1  # so many characters fit, so many do not
    while least - fits > 1:
        middle = (fits + least) // 2
        if len(tokenizer.encode([text[len(text) - middle :] + between])[0]) <= room:
            fits = middle
        else:
            least = middle
    return text[len(text) - fits :]


def cut(texts: Sequence[str], room: int, tokenizer: Tokenizer) -> list[list[tuple[str, int]]]:
    """Each text in pieces of at most ``room`` tokens with their tokens counted; joined they are the text.

    Cuts are at line ends where they can be; a line that does not fit is cut at spaces, a word that does not fit
    between characters.

    >>> from mixtures.tokenizer import load_tokenizer
    >>> cut(["one\\ntwo\\nthree\\n", "a long line"], 8, load_tokenizer("bytes"))
    [[('one\\ntwo\\n', 8), ('three\\n', 6)], [('a long ', 7), ('line', 4)]]
    """
    lines = [_keep_ends(text, "\n") for text in texts]
    sizes = iter(tokenizer.encode([line for of_text in lines for line in of_text]))
    filled = [_fill([(line, len(next(sizes))) for line in of_text], room) for of_text in lines]
    # a joined piece may have other tokens than its lines had, so it is counted again
    counts = iter(tokenizer.encode([piece for of_text in filled for piece in of_text]))
    return [
        [fitting for piece in of_text for fitting in _fitting(piece, len(next(counts)), room, tokenizer)]
        for of_text in filled
    ]


def _keep_ends(text: str, end: str) -> list[str]:
    parts = [part + end for part in text.split(end)]
    parts[-1] = parts[-1][: -len(end)]
    return parts if parts[-1] else parts[:-1]


def _fill(parts: Sequence[tuple[str, int]], room: int) -> list[str]:
    """Consecutive parts joined while they fit."""
    joined: list[str] = []
    left = 0
    for text, size in parts:
        if not joined or size > left:
            joined.append(text)
            left = room - size
        else:
            joined[-1] += text
            left -= size
    return joined


def _fitting(text: str, size: int, room: int, tokenizer: Tokenizer) -> list[tuple[str, int]]:
    """A text of ``size`` tokens in pieces that fit: itself, or cut at lines, else at spaces, else in halves."""
    if size <= room:
        return [(text, size)]
    halves = [text[: len(text) // 2], text[len(text) // 2 :]]
    for end in ("\n", " "):
        parts = _keep_ends(text, end)
        if len(parts) > 1:
            counted = [(part, len(ids)) for part, ids in zip(parts, tokenizer.encode(parts), strict=True)]
            halves = _fill(counted, room)
            if len(halves) == 1:  # they fit if counted one by one, but not together
                halves = ["".join(parts[: len(parts) // 2]), "".join(parts[len(parts) // 2 :])]
            break
    if not halves[0]:
        raise ConfigError(f"pack.length: one character has more than {room} tokens. Allow longer rows")
    sizes = [len(ids) for ids in tokenizer.encode(halves)]
    return [
        piece for half, n in zip(halves, sizes, strict=True) for piece in _fitting(half, n, room, tokenizer)
    ]
