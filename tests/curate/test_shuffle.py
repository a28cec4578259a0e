"""Dealing: every row in its portion, in its order, however many rounds and files there are."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from curate import shuffle
from curate.shuffle import Dealer, portion_bytes, read_mapped, read_portion

TEXTS = pa.schema([pa.field("number", pa.int64()), pa.field("text", pa.large_string())])
PAIRS = pa.schema([pa.field("key", pa.uint64()), pa.field("doc", pa.int64())])

FILES = st.lists(
    st.lists(st.lists(st.integers(0, 3), max_size=12), max_size=4),  # portions of the rows that are added at a time
    min_size=1,
    max_size=3,
)  # fmt: skip


@settings(max_examples=40, deadline=None)
@given(files=FILES, room=st.sampled_from([1, 100, 10**6]))
def test_a_portion_holds_its_rows_in_the_order_of_files_and_of_adding(
    files: list[list[list[int]]], room: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("dealt")
    expected: list[list[int]] = [[], [], [], []]
    number, paths = 0, []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(shuffle, "ROUND_BYTES", room)
        patch.setattr(shuffle, "PORTION_BYTES", 1)
        for place, adds in enumerate(files):
            paths.append(folder / f"{place}.arrow")
            with Dealer(paths[-1], TEXTS, 4) as dealer:
                for portions in adds:
                    numbers = list(range(number, number + len(portions)))
                    table = pa.table([numbers, [f"text {n}" for n in numbers]], schema=TEXTS)
                    dealer.add(table, np.array(portions, np.int32))
                    for n, portion in zip(numbers, portions, strict=True):
                        expected[portion].append(n)
                    number += len(portions)
                assert dealer.rows == sum(map(len, adds))
    for portion in range(4):
        rows = [row for batch in read_portion(paths, portion, 4) for row in batch.to_pylist()]
        assert rows == [{"number": n, "text": f"text {n}"} for n in expected[portion]]


def test_rounds_are_written_as_soon_as_there_is_enough(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shuffle, "ROUND_BYTES", 4 * 16)
    monkeypatch.setattr(shuffle, "PORTION_BYTES", 1)
    with Dealer(tmp_path / "a.arrow", PAIRS, 2) as dealer:
        for start in (0, 3, 6):
            keys = np.arange(start, start + 3).astype(np.uint64)
            dealer.add_pairs(keys, keys.astype(np.int64), (keys % np.uint64(2)).astype(np.int32))
    with pa.memory_map(str(tmp_path / "a.arrow")) as file:
        reader = pa.ipc.open_file(file)
        found = [reader.get_batch(i)["key"].to_pylist() for i in range(reader.num_record_batches)]
    assert found == [[0, 2, 4], [1, 3, 5], [6, 8], [7]]


@settings(max_examples=40, deadline=None)
@given(
    rows=st.lists(st.tuples(st.integers(0, 2**64 - 1), st.integers(0, 2**62), st.integers(0, 4)), max_size=30),
    cut=st.integers(0, 30),
    room=st.sampled_from([16, 10**6]),
)  # fmt: skip
def test_pairs_are_dealt_as_rows_are(
    rows: list[tuple[int, int, int]], cut: int, room: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("pairs")
    keys, docs, portions = (
        np.array([row[i] for row in rows], kind) for i, kind in enumerate((np.uint64, np.int64, np.int32))
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(shuffle, "ROUND_BYTES", room)
        patch.setattr(shuffle, "PORTION_BYTES", 1)
        with Dealer(folder / "pairs.arrow", PAIRS, 5) as dealer:
            dealer.add_pairs(keys[:cut], docs[:cut], portions[:cut])
            dealer.add_pairs(keys[cut:], docs[cut:], portions[cut:])
    for portion in range(5):
        found = [
            (row["key"], row["doc"])
            for batch in read_portion([folder / "pairs.arrow"], portion, 5)
            for row in batch.to_pylist()
        ]
        assert found == [(key, doc) for key, doc, own in rows if own == portion]


def test_some_rows_of_a_table_are_dealt_and_columns_may_be_more(tmp_path: Path) -> None:
    table = pa.table({"text": ["a", "b", "c"], "more": [1, 2, 3], "number": [7, 8, 9]})
    with Dealer(tmp_path / "x.arrow", TEXTS, 2) as dealer:
        dealer.add(table, np.array([1, 0], np.int32), np.array([0, 2]))
    assert [row for batch in read_portion([tmp_path / "x.arrow"], 1, 2) for row in batch.to_pylist()] == [
        {"number": 7, "text": "a"}
    ]
    assert read_mapped(tmp_path / "x.arrow")["number"].to_pylist() == [9, 7]


def test_nothing_dealt_is_a_file_of_empty_portions(tmp_path: Path) -> None:
    for portions in (0, 3):
        with Dealer(tmp_path / "none.arrow", TEXTS, portions):
            pass
        assert read_mapped(tmp_path / "none.arrow").schema == TEXTS
        assert list(read_portion([tmp_path / "none.arrow"], 0, max(1, portions))) == []


@pytest.mark.parametrize(
    ("total", "least", "most", "expected"),
    [(0, 10, 100, 10), (320, 10, 100, 10), (640, 10, 100, 20), (10**6, 10, 100, 100), (0, 10, 5, 5)],
)
def test_portions_grow_with_the_corpus_up_to_what_memory_allows(
    total: int, least: int, most: int, expected: int
) -> None:
    assert shuffle.MANY == 32
    assert portion_bytes(total, least=least, most=most) == expected
