"""Sorted runs: all entries come back in the order of their keys, however they were cut into runs and blocks."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from curate.sorted_runs import Run, merge, remove_run, write_run

KEYS = st.sampled_from([0, 1, 2, 3, 2**63, 2**64 - 1])


def run_of(entries: list[tuple[int, int]]) -> tuple[np.ndarray, np.ndarray]:
    return np.array([k for k, _ in entries], np.uint64), np.array([d for _, d in entries], np.int64)


@settings(max_examples=80, deadline=None)
@given(runs=st.lists(st.lists(KEYS, max_size=12), max_size=5), block=st.sampled_from([1, 3, 7, 1000]))
def test_entries_come_by_key_and_none_is_lost(
    runs: list[list[int]], block: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("runs")
    entries, written = [], []
    for number, keys in enumerate(runs):
        own = [(key, 100 * number + place) for place, key in enumerate(keys)]
        entries += own
        written.append(write_run(folder / str(number), *run_of(own)))
        assert written[-1].keys.tolist() == sorted(keys)
    blocks = list(merge(written, block))
    found = [(k, d) for keys, docs in blocks for k, d in zip(keys.tolist(), docs.tolist(), strict=True)]
    assert [key for key, _ in found] == sorted(key for key, _ in entries)
    assert sorted(found) == sorted(entries)
    assert all(0 < len(keys) <= max(block, len(runs)) for keys, _ in blocks)


def test_equal_keys_of_a_run_keep_their_order_and_run_through_many_blocks(tmp_path: Path) -> None:
    runs = [
        write_run(tmp_path / str(n), np.array([9, *[5] * 10, 1], np.uint64), np.arange(12) + 20 * n)
        for n in range(2)
    ]
    assert runs[0].docs.tolist() == [11, *range(1, 11), 0]
    blocks = list(merge(runs, 6))
    assert [len(keys) for keys, _ in blocks] == [6, 6, 6, 6]
    docs = [doc for keys, docs in blocks for key, doc in zip(keys.tolist(), docs.tolist(), strict=True) if key == 5]  # fmt: skip
    assert [doc for doc in docs if doc < 20] == list(range(1, 11))
    assert sorted(docs) == [*range(1, 11), *range(21, 31)]


def test_a_run_is_two_files_that_are_mapped_and_may_be_deleted(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run-7", np.array([2, 1], np.uint64), np.array([0, 1]))
    assert sorted(p.name for p in tmp_path.iterdir()) == ["run-7.docs", "run-7.keys"]
    assert isinstance(run.keys, np.memmap)
    remove_run(tmp_path / "run-7")
    assert list(tmp_path.iterdir()) == []
    assert [run.keys.tolist(), run.docs.tolist()] == [[1, 2], [1, 0]]
    assert [b.keys.tolist() for b in merge([Run(np.zeros(0, np.uint64), np.zeros(0, np.int64))], 5)] == []
