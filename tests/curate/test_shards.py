"""Shards: groups end where the rows say, and the same rows are the same bytes however they arrive."""

from __future__ import annotations

import itertools
import os
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from curate import shards
from curate.shards import ShardWriter, count_rows, read_groups, read_rows

SUFFIXES = (".parquet", ".arrow")
SCHEMA = pa.schema(
    [
        pa.field("id", pa.string(), nullable=False),
        pa.field("text", pa.large_string(), nullable=False),
        pa.field("meta", pa.struct([pa.field("lang", pa.string()), pa.field("url", pa.string())])),
        pa.field("score", pa.float64()),
        pa.field("is_good", pa.bool_()),
        pa.field("hash", pa.binary(4)),
        pa.field("words", pa.list_(pa.string())),
    ]
)


def make_rows(count: int, seed: int = 0) -> list[dict[str, Any]]:
    draw = random.Random(seed)

    def maybe(value: Any) -> Any:
        return None if draw.random() < 0.3 else value

    return [
        {
            "id": f"d{i}",
            "text": "ä " * draw.choice([0, 1, 3, 30]),
            "meta": {"lang": maybe("de"), "url": maybe(f"u{i}" * 3)},
            "score": maybe(draw.random()),
            "is_good": maybe(draw.random() < 0.5),
            "hash": maybe(bytes([i % 256] * 4)),
            "words": maybe([f"w{j}" for j in range(draw.randrange(3))]),
        }
        for i in range(count)
    ]


def write(path: Path, tables: Sequence[pa.Table], schema: pa.Schema = SCHEMA) -> Path:
    with ShardWriter(path, schema) as writer:
        for table in tables:
            writer.write(table)
    assert writer.rows == sum(table.num_rows for table in tables)
    return path


def garbled(table: pa.Table) -> pa.Table:
    """The same rows, with other bytes under their nulls, and as a slice of a longer table."""
    longer = pa.concat_tables([table.slice(0, 1), table, table.slice(0, 1)]).combine_chunks()
    columns = []
    for column in longer.columns:
        (array,) = column.chunks
        if pa.types.is_float64(array.type):
            full = array.fill_null(7.0)
            array = pa.Array.from_buffers(array.type, len(array), [array.buffers()[0], full.buffers()[1]])
        columns.append(array)
    return pa.table(columns, schema=table.schema).slice(1, table.num_rows)


@pytest.mark.parametrize("suffix", SUFFIXES)
@settings(max_examples=40, deadline=None)
@given(
    count=st.integers(0, 60),
    cuts=st.lists(st.integers(0, 60), max_size=6),
    group_rows=st.sampled_from([1, 7, 1000]),
    group_bytes=st.sampled_from([1, 300, 8 << 20]),
)
def test_the_same_rows_are_the_same_bytes_however_they_arrive(
    suffix: str,
    count: int,
    cuts: list[int],
    group_rows: int,
    group_bytes: int,
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    folder = tmp_path_factory.mktemp("shards")
    table = pa.Table.from_pylist(make_rows(count), SCHEMA)
    bounds = [0, *sorted(min(cut, count) for cut in cuts), count]
    pieces = [table.slice(a, b - a) for a, b in itertools.pairwise(bounds)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(shards, "GROUP_ROWS", group_rows)
        patch.setattr(shards, "GROUP_BYTES", group_bytes)
        whole = write(folder / f"a{suffix}", [table])
        others = [
            write(folder / f"b{suffix}", pieces),
            write(folder / f"c{suffix}", [pa.concat_tables(pieces)]),
            write(folder / f"d{suffix}", [garbled(table)] if count else []),
        ]
    assert pa.concat_tables([SCHEMA.empty_table(), *read_groups(whole)]).to_pylist() == table.to_pylist()
    assert {path.read_bytes() for path in others} == {whole.read_bytes()}
    assert count_rows(whole) == count


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_group_ends_before_it_is_larger_than_its_bounds(
    suffix: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shards, "GROUP_ROWS", 3)
    monkeypatch.setattr(shards, "GROUP_BYTES", 100)
    sizes = [50, 50, 1, 1, 1, 1, 99, 1, 100, 101, 500, 0, 0, 0, 0]
    table = pa.table({"text": pa.array(["x" * n for n in sizes], pa.large_string())})
    path = write(tmp_path / f"a{suffix}", [table], table.schema)
    groups = [[len(text) for text in group["text"].to_pylist()] for group in read_groups(path)]
    assert groups == [[50, 50], [1, 1, 1], [1, 99], [1], [100], [101], [500], [0, 0, 0], [0]]


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_rows_are_read_from_the_groups_that_hold_them(
    suffix: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shards, "GROUP_ROWS", 10)
    table = pa.Table.from_pylist(make_rows(45), SCHEMA)
    path = write(tmp_path / f"a{suffix}", [table])
    for rows in ([], [0], [44], [9, 10], [3, 4, 22, 40, 44], list(range(45))):
        found = read_rows(path, np.array(rows, np.int64), ["id", "text"])
        assert found.to_pylist() == table.select(["id", "text"]).take(pa.array(rows, pa.int64())).to_pylist()
        assert found.schema.names == ["id", "text"]
    with pytest.raises(IndexError, match="row 45 of 45"):
        read_rows(path, [1, 45], ["id"])


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_shard_without_rows_has_its_columns(suffix: str, tmp_path: Path) -> None:
    path = write(tmp_path / f"a{suffix}", [SCHEMA.empty_table()])
    assert (count_rows(path), list(read_groups(path))) == (0, [])
    assert read_rows(path, [], ["text"]).schema.field("text").type == pa.large_string()


def test_an_arrow_shard_is_mapped_and_not_copied(tmp_path: Path) -> None:
    table = pa.table({"text": pa.array(["x" * 1000] * 4000, pa.large_string())})
    path = write(tmp_path / "a.arrow", [table], table.schema)
    before = pa.total_allocated_bytes()
    groups = list(read_groups(path, ["text"]))
    assert pa.total_allocated_bytes() - before < 100_000
    os.unlink(path)  # what was read stays readable
    assert sum(len(text) for group in groups for text in group["text"].to_pylist()) == 4_000_000


def test_parquet_shards_are_compressed_and_arrow_shards_are_not(tmp_path: Path) -> None:
    table = pa.table({"text": pa.array(["the same again"] * 1000, pa.large_string())})
    packed = write(tmp_path / "a.parquet", [table], table.schema)
    assert pq.read_metadata(packed).row_group(0).column(0).compression == "ZSTD"
    raw = write(tmp_path / "a.arrow", [table], table.schema).read_bytes()
    assert raw.count(b"the same again") == 1000


def test_after_an_error_no_group_is_added(tmp_path: Path) -> None:
    for suffix in SUFFIXES:
        with pytest.raises(RuntimeError), ShardWriter(tmp_path / f"a{suffix}", SCHEMA) as writer:
            writer.write(pa.Table.from_pylist(make_rows(3), SCHEMA))
            raise RuntimeError
        assert count_rows(tmp_path / f"a{suffix}") == 0
