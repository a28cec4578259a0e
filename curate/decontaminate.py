"""Documents that share a run of words with an evaluation item: an index of the items, then one part a shard."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from curate.config import from_mapping
from curate.overlap import ITEM_SCHEMA, Index, overlaps
from curate.shards import ShardWriter, read_groups
from curate.sources import Source, SourceFile, read_records
from filters.errors import DataError


def read_items(
    name: str, source: Source, files: Sequence[SourceFile]
) -> tuple[pa.Table, list[dict[str, Any]]]:
    """The items of one evaluation set: id, source (the set), text; and those that cannot be read."""
    ids: list[str] = []
    texts: list[str] = []
    bad: list[dict[str, Any]] = []
    for file in files:
        for records in read_records(file, source.columns):
            bad += [{"path": file.relative, **b} for b in records.bad]
            given = (
                records.table[f"field:{source.id}"].to_pylist()
                if source.id
                else [None] * records.table.num_rows
            )
            rows = records.table["row"].to_pylist()
            for row, own, text in zip(
                rows, given, records.table[f"field:{source.text}"].to_pylist(), strict=True
            ):
                if text is None:
                    bad.append({"path": file.relative, "row": row, "reason": "missing_text"})
                    continue
                ids.append(own or f"{file.relative}#{row}")
                texts.append(text)
    return pa.table({"id": ids, "source": [name] * len(ids), "text": texts}, schema=ITEM_SCHEMA), bad


def index_part(
    out: Path, *, against: Mapping[str, Any], files: Mapping[str, Any], ngram: int
) -> dict[str, Any]:
    """All evaluation items in one file that workers index: index.arrow.

    Raises:
        DataError: a set without a single item that can be read; nothing would be looked for.
    """
    tables = []
    unreadable = 0
    for name, entries in files.items():
        source = from_mapping(Source, against[name])
        items, bad = read_items(name, source, [SourceFile(Path(f["path"]), f["relative"], f["format"], f["compression"]) for f in entries])  # fmt: skip
        if not items.num_rows:
            raise DataError(
                f"decontaminate.against.{name}: {len(bad)} items, none with a text in the field '{source.text}'. "
                "Correct the field or the path, or take the set out."
            )
        tables.append(items)
        unreadable += len(bad)
    items = pa.concat_tables(tables)
    index = Index.build(items, ngram=ngram)
    index.save(out / "index.arrow")
    return {
        "rows": items.num_rows,
        "unreadable": unreadable,
        "not_searchable": sum(index.unsearchable.values()),
    }


def overlaps_part(out: Path, *, documents: str, index: str) -> dict[str, Any]:
    """Which documents of one shard overlap which items: overlaps.parquet, rows counted inside the shard."""
    loaded = Index.load(Path(index))
    rows, tables = 0, []
    for group in read_groups(documents, ["text"]):
        found = overlaps(group["text"], loaded)
        shifted = pc.add(found["row"], rows)
        tables.append(found.set_column(found.schema.get_field_index("row"), "row", shifted))
        rows += group.num_rows
    found = pa.concat_tables(tables) if tables else overlaps(pa.array([], pa.large_string()), loaded)
    with ShardWriter(out / "overlaps.parquet", found.schema) as writer:
        writer.write(found)
    return {"rows": rows, "overlaps": found.num_rows}
