"""Schemas: tables made of some of their columns."""

from __future__ import annotations

import pyarrow as pa
import pytest

from curate.schema import DECISIONS, PAIRS, documents_schema, table_of


def test_a_table_has_all_columns_in_their_types_and_order() -> None:
    table = table_of(PAIRS, source=["s", "t"], id=pa.array(["a", "b"], pa.large_string()), similarity=pa.chunked_array([[1], [0]]))  # fmt: skip
    assert table.schema == PAIRS
    assert table.select(["id", "source", "similarity"]).to_pylist() == [
        {"id": "a", "source": "s", "similarity": 1.0},
        {"id": "b", "source": "t", "similarity": 0.0},
    ]
    assert table["rule"].null_count == 2
    assert table_of(DECISIONS, id=None).num_rows == 0


def test_a_pair_says_by_which_rule_it_was_found() -> None:
    assert PAIRS.names == ["id", "source", "partner_id", "partner_source", "similarity", "method", "rule", "outcome"]  # fmt: skip


@pytest.mark.parametrize(("meta", "names"), [([], ["id", "source", "text"]), (["url", "lang"], ["id", "source", "text", "meta"])])  # fmt: skip
def test_documents_have_a_column_for_the_meta_fields_if_there_are_any(
    meta: list[str], names: list[str]
) -> None:
    schema = documents_schema(meta)
    assert schema.names == names
    assert schema.field("text").type == pa.large_string()
    if meta:
        assert [field.name for field in schema.field("meta").type] == ["lang", "url"]
