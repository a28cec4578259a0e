"""Files into canonical documents: keys, normalised text, declared meta fields; what cannot be read to quarantine.

    ingest     one part = some files of one source    documents, origins, edits, quarantine
    identify   one part = one source with native ids  which documents repeat an id of their source
    documents  one part = one ingest part             the same files without the repeated documents

A document's key is (source, id): the native id that the source names, else ``<relative path>#<row>``, where row counts
the records of the file from 0. Of documents with the same native id the first in file order stays; the others go to
quarantine with both places. Memory: one batch of records; ``identify`` holds the ids of one source (about 100 bytes
each).

*Lean* documents are for a run that publishes none: ``documents.arrow``, not compressed, for the steps that follow, and
no origins except where repeated ids must be told apart. A text that needs no change is not copied on its way there. A
source with a priority field has ``priority.arrow`` beside its documents: one number for each, -inf where there is none.
"""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from curate.config import from_mapping
from curate.engine import place_file
from curate.schema import DECISIONS, ORIGINS, QUARANTINE, documents_schema, table_of
from curate.shards import ShardWriter, count_rows, read_groups, read_rows, read_schema
from curate.sources import EXCERPT_CHARACTERS, Source, SourceFile, file_from, read_records, split_file
from filters.errors import DataError
from filters.normalization import Normalize, normalize

PART_FILES = 10_000
PART_BYTES = 64 << 20
"""Files of a source are grouped, and large ones cut where their format allows it, to about this many bytes on disk."""

EDITS = pa.schema([pa.field("row", pa.int64(), nullable=False), *DECISIONS])
"""Decisions about edits, with the document's row in its ingest part (ids may still repeat here)."""

PRIORITY = pa.schema([pa.field("priority", pa.float64(), nullable=False)])

LEAN_DOCUMENTS, DOCUMENTS = "documents.arrow", "documents.parquet"
_NUMBER = r"^[-+]?([0-9]+(\.[0-9]*)?|\.[0-9]+)([eE][-+]?[0-9]+)?$"

REPEATED = pa.schema(
    [
        pa.field("part", pa.int64()),
        pa.field("row", pa.int64()),
        pa.field("first_part", pa.int64()),
        pa.field("first_row", pa.int64()),
    ]
)


def group_files(files: Sequence[SourceFile]) -> list[list[SourceFile]]:
    """Consecutive files in groups of about ``PART_BYTES``, at most ``PART_FILES``: by the files alone, not the workers.

    A larger file that can be cut becomes several groups, each a stretch of it.
    """
    groups: list[list[SourceFile]] = []
    is_closed = True  # nothing joins the last group
    size = 0
    for file in files:
        stretches = split_file(file, PART_BYTES)
        if len(stretches) > 1:
            groups += [[stretch] for stretch in stretches]
            is_closed = True
            continue
        bytes_ = file.path.stat().st_size
        if is_closed or size + bytes_ > PART_BYTES or len(groups[-1]) == PART_FILES:
            groups.append([])
            is_closed, size = False, 0
        groups[-1].append(file)
        size += bytes_
    return groups


def document_file(directory: str | Path) -> Path:
    """The documents of a part of ``ingest`` or ``documents``, lean or not."""
    lean = Path(directory) / LEAN_DOCUMENTS
    return lean if lean.exists() else Path(directory) / DOCUMENTS


def ingest_part(
    out: Path,
    *,
    name: str,
    source: Mapping[str, Any],
    files: Sequence[Mapping[str, Any]],
    normalize: Mapping[str, Any],
    meta: Sequence[str],
    lean: bool = False,
) -> dict[str, Any]:
    """Read some files of one source. Returns rows, bytes and the SHA-256 of each file, and warnings."""
    spec = from_mapping(Source, source)
    columns = spec.columns
    counts = {"read": 0, "quarantined": 0, "rows": 0}
    warnings: list[str] = []
    reasons: dict[str, int] = {}
    absent, parsed = set(columns), 0  # declared fields that no parsed record has had so far
    inputs = []
    with _Writers(out, name, spec, from_mapping(Normalize, normalize), meta, lean) as writers:
        for entry in files:
            file = file_from(entry)
            if file.stretch is None or file.stretch.start == 0:  # once for each file
                inputs.append({"source": name, "path": file.relative, "sha256": _sha256(name, file.path)})
            before = counts["read"]
            for records in read_records(file, columns):
                parsed += records.table.num_rows
                absent -= {
                    c for c in absent if records.table[f"field:{c}"].null_count < records.table.num_rows
                }
                table, bad = _with_keys(records.table, file, spec)
                bad = sorted([*records.bad, *bad], key=lambda b: -1 if b["row"] is None else b["row"])
                counts["read"] += records.read
                counts["quarantined"] += len(bad)
                counts["rows"] += table.num_rows
                for fault in bad:
                    reasons[fault["reason"]] = reasons.get(fault["reason"], 0) + 1
                writers.write(table, file, bad)
            if counts["read"] == before and file.stretch is None:  # what is cut holds records
                warnings.append(f"{name}: {file.relative} holds no records")
    return {
        "source": name,
        **counts,
        "reasons": reasons,
        "inputs": inputs,
        "warnings": warnings,
        "absent": [c for c in columns if c in absent and parsed],
    }


def _sha256(name: str, path: Path) -> str:
    try:
        with open(path, "rb") as raw:
            return hashlib.file_digest(raw, "sha256").hexdigest()
    except PermissionError:
        raise DataError(f"{name}: no permission to read '{path}'. Grant it, or leave the file out.") from None


def _with_keys(table: pa.Table, file: SourceFile, spec: Source) -> tuple[pa.Table, list[dict[str, Any]]]:
    """The records that have a text, an id and a priority, with columns for both; the others as quarantine rows."""
    text = table[f"field:{spec.text}"]
    faults = [("missing_text", f"no text in the field '{spec.text}'", text, pc.is_null(text))]
    if spec.id is None or file.format == "text":
        rows = table["row"].cast(pa.string())
        ids = pc.binary_join_element_wise(pa.scalar(file.relative + "#"), rows, "")
    else:
        ids = table[f"field:{spec.id}"].cast(pa.string())
        lacks_id = pc.fill_null(pc.equal(ids, ""), True)
        faults.append(("missing_id", f"no id in the field '{spec.id}'", ids, lacks_id))
    table = table.append_column("id", ids)
    if isinstance(spec.priority, str):
        given = table[f"field:{spec.priority}"]
        priority, is_bad = _as_priority(given)
        table = table.append_column("priority", priority)
        faults.append(("bad_priority", f"the field '{spec.priority}' holds no number", given, is_bad))
    if not any(pc.any(mask).as_py() for *_, mask in faults):
        return table, []
    bad = []
    keep = np.ones(table.num_rows, bool)
    for reason, detail, values, mask in faults:
        where = np.flatnonzero(mask.to_numpy(zero_copy_only=False) & keep)
        keep[where] = False
        places = table.select(["row", "line"]).take(pa.array(where)).to_pylist()
        for place, value in zip(places, values.take(pa.array(where)).to_pylist(), strict=True):
            excerpt = (value or "")[:EXCERPT_CHARACTERS]
            bad.append({**place, "reason": reason, "detail": detail, "excerpt": excerpt})
    return table.filter(pa.array(keep)), bad


def _as_priority(texts: pa.ChunkedArray) -> tuple[pa.ChunkedArray, pa.ChunkedArray]:
    """Numbers, -inf where there is nothing; and where there is something else."""
    texts = pc.utf8_trim_whitespace(texts)
    is_number = pc.fill_null(pc.match_substring_regex(texts, _NUMBER), False)
    numbers = pc.if_else(is_number, texts, None).cast(pa.float64())
    is_finite = pc.fill_null(pc.is_finite(numbers), False)
    is_nothing = pc.fill_null(pc.equal(texts, ""), True)
    return pc.if_else(is_finite, numbers, -np.inf), pc.invert(pc.or_(is_finite, is_nothing))


class _Writers:
    """The files of one part."""

    def __init__(
        self, out: Path, name: str, spec: Source, options: Normalize, meta: Sequence[str], lean: bool
    ) -> None:
        self.name, self.spec, self.options = name, spec, options
        self.meta = [pa.field(field, pa.string()) for field in sorted(meta)]
        self.is_plain = options.unicode is None and not options.newlines and not options.fix_mojibake
        self.needs_origins = not lean or spec.id is not None
        self._open = contextlib.ExitStack()
        self.documents = self._shard(out / (LEAN_DOCUMENTS if lean else DOCUMENTS), documents_schema(meta))
        self.origins = self._shard(out / "origins.parquet", ORIGINS)
        self.edits = self._shard(out / "edits.parquet", EDITS)
        self.quarantine = self._shard(out / "quarantine.parquet", QUARANTINE)
        self.priority = (
            self._shard(out / "priority.arrow", PRIORITY) if isinstance(spec.priority, str) else None
        )

    def _shard(self, path: Path, schema: pa.Schema) -> ShardWriter:
        return self._open.enter_context(ShardWriter(path, schema))

    def __enter__(self) -> _Writers:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._open.__exit__(kind, error, trace)

    def write(self, table: pa.Table, file: SourceFile, bad: Sequence[Mapping[str, Any]]) -> None:
        """The documents of a batch of records (see ``_with_keys``) and its quarantine rows."""
        if bad:
            refused = [{"source": self.name, "path": file.relative, **b} for b in bad]
            self.quarantine.write(pa.Table.from_pylist(refused, QUARANTINE))
        rows, first = table.num_rows, self.documents.rows
        ids, texts = table["id"], table[f"field:{self.spec.text}"]
        sources = pa.repeat(pa.scalar(self.name), rows)
        if not self.is_plain:
            texts, changed = normalize(texts, self.options)
            if changed.num_rows:
                self._edit(ids, changed, first)
        columns: dict[str, Any] = {"id": ids, "source": sources, "text": texts}
        if self.meta:
            values = [
                table[f"field:{f.name}"].cast(pa.string()).combine_chunks()
                if f.name in self.spec.meta
                else pa.nulls(rows, pa.string())
                for f in self.meta
            ]
            columns["meta"] = pa.StructArray.from_arrays(values, fields=self.meta)
        self.documents.write(pa.table(columns))
        if self.needs_origins:
            path = pa.repeat(pa.scalar(file.relative), rows)
            self.origins.write(table_of(ORIGINS, id=ids, source=sources, path=path, row=table["row"], line=table["line"]))  # fmt: skip
        if self.priority is not None:
            self.priority.write(table.select(["priority"]))

    def _edit(self, ids: pa.ChunkedArray, changed: pa.Table, first: int) -> None:
        where = changed["row"].combine_chunks()
        constant = {"source": self.name, "stage": "normalize", "rule": "normalize", "action": "edit"}
        repeated = {key: pa.repeat(pa.scalar(value), len(where)) for key, value in constant.items()}
        self.edits.write(table_of(EDITS, row=pc.add(where, first), id=ids.take(where), detail=changed["detail"], **repeated))  # fmt: skip


def identify_part(out: Path, *, documents: Sequence[str], parts: Sequence[int]) -> dict[str, Any]:
    """The documents of one source whose native id an earlier one has: repeated.parquet."""
    import polars as pl

    none = documents_schema([]).empty_table().select(["id"])
    tables = [
        pl.DataFrame(pa.concat_tables([none, *read_groups(path, ["id"])]))
        .with_row_index("row")
        .with_columns(part=pl.lit(part, pl.Int64), row=pl.col("row").cast(pl.Int64))
        for path, part in zip(documents, parts, strict=True)
    ]
    ids = pl.concat(tables)
    repeated = (
        ids.with_columns(
            first_part=pl.col("part").first().over("id", mapping_strategy="group_to_rows"),
            first_row=pl.col("row").first().over("id", mapping_strategy="group_to_rows"),
        )
        if ids["id"].n_unique() < ids.height
        else ids.with_columns(first_part=pl.col("part"), first_row=pl.col("row"))
    ).filter((pl.col("part") != pl.col("first_part")) | (pl.col("row") != pl.col("first_row")))
    table = repeated.select(REPEATED.names).sort("part", "row").to_arrow().cast(REPEATED)
    pq.write_table(table, out / "repeated.parquet")
    return {"rows": ids.height, "repeated": table.num_rows}


def documents_part(out: Path, *, part: int, ingested: Sequence[str], repeated: str | None) -> dict[str, Any]:
    """One ingest part without its repeated documents, whose quarantine rows name both places.

    ``ingested`` are the directories of all ingest parts (an earlier place may lie in another part).
    """
    home = Path(ingested[part])
    documents = document_file(home)
    total = count_rows(documents)
    drop = pq.read_table(repeated, filters=[("part", "==", part)]) if repeated else REPEATED.empty_table()
    by_row = [
        documents.name,
        "origins.parquet",
        *(["priority.arrow"] if (home / "priority.arrow").exists() else []),
    ]
    if not drop.num_rows:
        for file in (*by_row, "edits.parquet", "quarantine.parquet"):
            place_file(home / file, out / file)
        return {"rows": total, "repeated": 0}
    is_first = np.ones(total, bool)
    is_first[drop["row"].to_numpy()] = False
    for file in by_row:
        first = 0
        with ShardWriter(out / file, read_schema(home / file)) as writer:
            for table in read_groups(home / file):
                writer.write(table.filter(pa.array(is_first[first : first + table.num_rows])))
                first += table.num_rows
    edits = pq.read_table(home / "edits.parquet")
    with ShardWriter(out / "edits.parquet", EDITS) as writer:
        writer.write(edits.filter(pc.invert(pc.is_in(edits["row"], drop["row"].combine_chunks()))))
    with ShardWriter(out / "quarantine.parquet", QUARANTINE) as writer:
        for table in read_groups(home / "quarantine.parquet"):
            writer.write(table)
        writer.write(_repeats(drop.to_pylist(), part, ingested))
    return {"rows": int(is_first.sum()), "repeated": drop.num_rows}


def _repeats(drop: Sequence[Mapping[str, int]], part: int, ingested: Sequence[str]) -> pa.Table:
    """Quarantine rows of the documents whose id an earlier one has."""

    def places(number: int, rows: Sequence[int]) -> dict[int, dict[str, Any]]:
        found = read_rows(Path(ingested[number]) / "origins.parquet", rows, ORIGINS.names)
        return dict(zip(rows, found.to_pylist(), strict=True))

    here = places(part, [d["row"] for d in drop])
    firsts = {
        p: places(p, sorted({d["first_row"] for d in drop if d["first_part"] == p}))
        for p in sorted({d["first_part"] for d in drop})
    }
    faults = []
    for d in drop:
        mine, first = here[d["row"]], firsts[d["first_part"]][d["first_row"]]
        faults.append(
            {
                **{key: mine[key] for key in ("source", "path", "row", "line")},
                "reason": "repeated_id",
                "detail": f"the id '{mine['id']}' was given before by {first['path']}, record {first['row']}"
                + (f" (line {first['line']})" if first["line"] is not None else ""),
                "excerpt": mine["id"][:EXCERPT_CHARACTERS],
            }
        )
    return pa.Table.from_pylist(faults, QUARANTINE)
