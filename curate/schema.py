"""The Arrow schemas of a run directory: what each public file holds, and in which types.

documents, kept   id, source, text, meta            one row a document, in input order
origins           id, source, path, row, line       where in the raw files each document was
signals           id, source, one column a signal   measured once, never filtered
decisions         one row for each reason to drop, edit or flag a document
pairs             verified duplicates and their kept partners
quarantine        records that could not be read, with file, position and reason
"""

from __future__ import annotations

from collections.abc import Sequence

import pyarrow as pa

FORMAT = 1
"""Version of the run directory; a manifest of a newer one is refused."""

STAGES = ("normalize", "policy", "language", "quality", "decontaminate", "exact", "minhash")
"""Order in which a report counts a document's reasons; a document is counted at the first that drops it."""

KEY = [pa.field("id", pa.string(), nullable=False), pa.field("source", pa.string(), nullable=False)]

ORIGINS = pa.schema(
    [*KEY, pa.field("path", pa.string()), pa.field("row", pa.int64()), pa.field("line", pa.int64())]
)

QUARANTINE = pa.schema(
    [
        pa.field("source", pa.string(), nullable=False),
        pa.field("path", pa.string(), nullable=False),
        pa.field("row", pa.int64()),
        pa.field("line", pa.int64()),
        pa.field("reason", pa.string(), nullable=False),
        pa.field("detail", pa.string()),
        pa.field("excerpt", pa.string()),
    ]
)

DECISIONS = pa.schema(
    [
        *KEY,
        pa.field("stage", pa.string(), nullable=False),
        pa.field("rule", pa.string(), nullable=False),
        pa.field("action", pa.string(), nullable=False),
        pa.field("value", pa.float64()),
        pa.field("bound", pa.float64()),
        pa.field("partner_id", pa.string()),
        pa.field("partner_source", pa.string()),
        pa.field("similarity", pa.float64()),
        pa.field("span_start", pa.int64()),
        pa.field("span_end", pa.int64()),
        pa.field("detail", pa.string()),
    ]
)

PAIRS = pa.schema(
    [
        *KEY,
        pa.field("partner_id", pa.string(), nullable=False),
        pa.field("partner_source", pa.string(), nullable=False),
        pa.field("similarity", pa.float64(), nullable=False),
        pa.field("method", pa.string(), nullable=False),
        pa.field("rule", pa.string(), nullable=False),
        pa.field("outcome", pa.string(), nullable=False),
    ]
)


def documents_schema(meta: Sequence[str]) -> pa.Schema:
    """Schema of documents/ and kept/ for the meta fields that any source declares."""
    fields = [*KEY, pa.field("text", pa.large_string(), nullable=False)]
    if meta:
        fields.append(pa.field("meta", pa.struct([pa.field(name, pa.string()) for name in sorted(meta)])))
    return pa.schema(fields)


def table_of(schema: pa.Schema, **columns: object) -> pa.Table:
    """A table of ``schema`` from some of its columns; the others are null."""
    given = {name: value for name, value in columns.items() if value is not None}
    rows = max((len(v) for v in given.values()), default=0)  # type: ignore[arg-type]
    arrays = []
    for field in schema:
        value = given.get(field.name)
        if value is None:
            arrays.append(pa.nulls(rows, field.type))
        elif isinstance(value, pa.Array | pa.ChunkedArray):
            arrays.append(value.cast(field.type))
        else:
            arrays.append(pa.array(value, field.type))
    return pa.table(arrays, schema=schema)
