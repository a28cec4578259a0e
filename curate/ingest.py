"""Files into canonical documents: keys, normalised text, declared meta fields; what cannot be read to quarantine.

    ingest     one part = some files of one source    documents, origins, edits, quarantine
    identify   one part = one source with native ids  which documents repeat an id of their source
    documents  one part = one ingest part             the same files without the repeated documents

A document's key is (source, id): the native id that the source names, else ``<relative path>#<row>``, where row counts
the records of the file from 0. Of documents with the same native id the first in file order stays; the others go to
quarantine with both places. Memory: one batch of records; ``identify`` holds the ids of one source (about 100 bytes
each).
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from curate.config import from_mapping
from curate.engine import place_file
from curate.schema import DECISIONS, ORIGINS, QUARANTINE, documents_schema, table_of
from curate.shards import ShardWriter, read_groups
from curate.sources import EXCERPT_CHARACTERS, Source, SourceFile, read_records
from filters.errors import DataError
from filters.normalization import Normalize, normalize

PART_FILES = 10_000
PART_BYTES = 64 << 20
"""Files of a source are grouped into parts of about this many bytes on disk."""

EDITS = pa.schema([pa.field("row", pa.int64(), nullable=False), *DECISIONS])
"""Decisions about edits, with the document's row in its ingest part (ids may still repeat here)."""

REPEATED = pa.schema(
    [
        pa.field("part", pa.int64()),
        pa.field("row", pa.int64()),
        pa.field("first_part", pa.int64()),
        pa.field("first_row", pa.int64()),
    ]
)


def group_files(files: Sequence[SourceFile]) -> list[list[SourceFile]]:
    """Consecutive files in groups of about ``PART_BYTES``, at most ``PART_FILES``: by the files alone, not the workers."""
    groups: list[list[SourceFile]] = []
    size = 0
    for file in files:
        bytes_ = file.path.stat().st_size
        if not groups or size + bytes_ > PART_BYTES or len(groups[-1]) == PART_FILES:
            groups.append([])
            size = 0
        groups[-1].append(file)
        size += bytes_
    return groups


def ingest_part(
    out: Path,
    *,
    name: str,
    source: Mapping[str, Any],
    files: Sequence[Mapping[str, Any]],
    normalize: Mapping[str, Any],
    meta: Sequence[str],
) -> dict[str, Any]:
    """Read some files of one source. Returns rows, bytes and the SHA-256 of each file, and warnings."""
    spec = from_mapping(Source, source)
    options = from_mapping(Normalize, normalize)
    columns = spec.columns
    counts = {"read": 0, "quarantined": 0, "rows": 0}
    warnings: list[str] = []
    reasons: dict[str, int] = {}
    absent, parsed = set(columns), 0  # declared fields that no parsed record has had so far
    inputs = []
    with (
        ShardWriter(out / "documents.parquet", documents_schema(meta)) as documents,
        ShardWriter(out / "origins.parquet", ORIGINS) as origins,
        ShardWriter(out / "edits.parquet", EDITS) as edits,
        ShardWriter(out / "quarantine.parquet", QUARANTINE) as quarantine,
    ):
        for entry in files:
            file = SourceFile(Path(entry["path"]), entry["relative"], entry["format"], entry["compression"])
            try:
                with open(file.path, "rb") as raw:
                    sha256 = hashlib.file_digest(raw, "sha256").hexdigest()
            except PermissionError:
                raise DataError(
                    f"{name}: no permission to read '{file.path}'. Grant it, or leave the file out."
                ) from None
            inputs.append({"source": name, "path": file.relative, "sha256": sha256})
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
                for fault in bad:
                    reasons[fault["reason"]] = reasons.get(fault["reason"], 0) + 1
                quarantine.write(
                    pa.Table.from_pylist(
                        [{"source": name, "path": file.relative, **b} for b in bad], QUARANTINE
                    )
                )
                _write_documents(table, name, file, spec, options, meta, documents, origins, edits)
                counts["rows"] += table.num_rows
            if counts["read"] == before:
                warnings.append(f"{name}: {file.relative} holds no records")
    return {
        "source": name,
        **counts,
        "reasons": reasons,
        "inputs": inputs,
        "warnings": warnings,
        "absent": [c for c in columns if c in absent and parsed],
    }


def _with_keys(table: pa.Table, file: SourceFile, spec: Source) -> tuple[pa.Table, list[dict[str, Any]]]:
    """The records that have a text and an id, with an ``id`` column; the others as quarantine rows."""
    bad = []
    text = table[f"field:{spec.text}"]
    if spec.id is None or file.format == "text":
        rows = table["row"].cast(pa.string())
        ids = pc.binary_join_element_wise(pa.scalar(file.relative + "#"), rows, "")
    else:
        ids = table[f"field:{spec.id}"].cast(pa.string())
    lacks_text, lacks_id = pc.is_null(text), pc.or_kleene(pc.is_null(ids), pc.equal(ids, ""))
    broken = pc.fill_null(pc.or_(lacks_text, pc.fill_null(lacks_id, True)), True)
    if pc.any(broken).as_py():
        for record in (
            table.append_column("no_text", lacks_text)
            .filter(broken)
            .select(["row", "line", "no_text"])
            .to_pylist()
        ):
            if record.pop("no_text"):
                bad.append(
                    {
                        **record,
                        "reason": "missing_text",
                        "detail": f"no text in the field '{spec.text}'",
                        "excerpt": "",
                    }
                )
            else:
                bad.append(
                    {
                        **record,
                        "reason": "missing_id",
                        "detail": f"no id in the field '{spec.id}'",
                        "excerpt": "",
                    }
                )
        keep = pc.invert(broken)
        table, ids = table.filter(keep), ids.filter(keep)
    return table.append_column("id", ids), bad


def _write_documents(
    table: pa.Table,
    name: str,
    file: SourceFile,
    spec: Source,
    options: Normalize,
    meta: Sequence[str],
    documents: ShardWriter,
    origins: ShardWriter,
    edits: ShardWriter,
) -> None:
    rows, first = table.num_rows, documents.rows
    ids = table["id"].combine_chunks()
    sources = pa.repeat(pa.scalar(name), rows)
    texts, changed = normalize(table[f"field:{spec.text}"], options)
    columns: dict[str, Any] = {"id": ids, "source": sources, "text": texts}
    if meta:
        fields = [pa.field(field, pa.string()) for field in sorted(meta)]
        values = [
            table[f"field:{f.name}"].cast(pa.string()).combine_chunks()
            if f.name in spec.meta
            else pa.nulls(rows, pa.string())
            for f in fields
        ]
        columns["meta"] = pa.StructArray.from_arrays(values, fields=fields)
    documents.write(pa.table(columns))
    origins.write(table_of(ORIGINS, id=ids, source=sources, path=pa.repeat(pa.scalar(file.relative), rows), row=table["row"], line=table["line"]))  # fmt: skip
    where = changed["row"].combine_chunks()
    edited = ids.take(where)
    constant = {key: pa.repeat(pa.scalar(value), len(edited)) for key, value in (("source", name), ("stage", "normalize"), ("rule", "normalize"), ("action", "edit"))}  # fmt: skip
    places = pc.add(where, first)
    edits.write(table_of(EDITS, row=places, id=edited, detail=changed["detail"], **constant))


def identify_part(out: Path, *, documents: Sequence[str], parts: Sequence[int]) -> dict[str, Any]:
    """The documents of one source whose native id an earlier one has: repeated.parquet."""
    import polars as pl

    tables = [
        pl.read_parquet(path, columns=["id"], glob=False)
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
    drop = pq.read_table(repeated, filters=[("part", "==", part)]).to_pylist() if repeated else []
    files = ("documents.parquet", "origins.parquet", "edits.parquet", "quarantine.parquet")
    if not drop:
        for file in files:
            place_file(home / file, out / file)
        return {"rows": pq.read_metadata(home / "documents.parquet").num_rows, "repeated": 0}
    places = {
        p: pq.read_table(Path(ingested[p]) / "origins.parquet")
        for p in sorted({d["first_part"] for d in drop} | {part})
    }
    rows = pa.array([d["row"] for d in drop], pa.int64())
    is_first = np.ones(pq.read_metadata(home / "documents.parquet").num_rows, bool)
    is_first[rows.to_numpy()] = False
    for file in files[:2]:
        first = 0
        schema = pq.read_schema(home / file)
        with ShardWriter(out / file, schema) as writer:
            for table in read_groups(home / file):
                writer.write(table.filter(pa.array(is_first[first : first + table.num_rows])))
                first += table.num_rows
    edits = pq.read_table(home / "edits.parquet")
    with ShardWriter(out / "edits.parquet", EDITS) as writer:
        writer.write(edits.filter(pc.invert(pc.is_in(edits["row"], rows))))
    faults = []
    firsts: dict[int, dict[int, dict[str, Any]]] = {}
    for p in places:
        wanted = sorted({d["first_row"] for d in drop if d["first_part"] == p})
        firsts[p] = dict(zip(wanted, places[p].take(pa.array(wanted, pa.int64())).to_pylist(), strict=True))
    for d, here in zip(drop, places[part].take(rows).to_pylist(), strict=True):
        there = firsts[d["first_part"]][d["first_row"]]
        faults.append(
            {
                "source": here["source"],
                "path": here["path"],
                "row": here["row"],
                "line": here["line"],
                "reason": "repeated_id",
                "detail": f"the id '{here['id']}' was given before by {there['path']}, record {there['row']}"
                + (f" (line {there['line']})" if there["line"] is not None else ""),
                "excerpt": here["id"][:EXCERPT_CHARACTERS],
            }
        )
    with ShardWriter(out / "quarantine.parquet", QUARANTINE) as writer:
        for table in read_groups(home / "quarantine.parquet"):
            writer.write(table)
        writer.write(pa.Table.from_pylist(faults, QUARANTINE))
    return {"rows": int(is_first.sum()), "repeated": len(drop)}
