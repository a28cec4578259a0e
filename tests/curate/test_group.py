"""Grouping: documents that share a key, then clusters of them, dealt to batches of text."""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from curate import group
from curate.group import KEY_BYTES, PARTITION_BYTES, cluster_part, count_partitions, group_part
from curate.measurement import EXACT_BAND, KEYS

Key = tuple[int, int, int]  # band, key, document


def write_keys(path: Path, keys: list[Key], partitions: int) -> str:
    """As ``curate.measurement`` lays them out: one batch for each partition by the high bits of the key."""
    with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_file(sink, KEYS) as writer:
        for number in range(partitions):
            inside = sorted(k for k in keys if k[1] * partitions >> 64 == number)
            columns = [pa.array([k[i] for k in inside], KEYS.field(i).type) for i in range(3)]
            writer.write_batch(pa.record_batch(columns, schema=KEYS))
    return str(path)


def group_all(
    folder: Path, shards: list[list[Key]], partitions: int
) -> tuple[list[str], list[dict[str, int]]]:
    keys = [write_keys(folder / f"keys-{i}.arrow", shard, partitions) for i, shard in enumerate(shards)]
    paths, results = [], []
    for number in range(partitions):
        out = folder / f"group-{number}"
        out.mkdir()
        results.append(group_part(out, keys=keys, partition=number))
        paths.append(str(out / "members.parquet"))
    return paths, results


def buckets_of(paths: list[str]) -> list[tuple[bool, tuple[int, ...]]]:
    members: dict[int, tuple[bool, list[int]]] = {}
    for path in paths:
        for row in pq.read_table(path).to_pylist():
            members.setdefault(row["bucket"], (row["exact"], []))[1].append(row["doc"])
    return sorted((exact, tuple(docs)) for exact, docs in members.values())


BIG = st.sampled_from([0, 1, 2**62, 2**63 - 1, 2**63, 2**64 - 1])
ANY_KEYS = st.lists(
    st.tuples(st.sampled_from([0, 1, 2, EXACT_BAND]), BIG, st.integers(0, 9)), max_size=40, unique=True
)


@settings(max_examples=60, deadline=None)
@given(keys=ANY_KEYS, partitions=st.sampled_from([1, 2, 4]), shards=st.integers(1, 3))
def test_a_bucket_holds_all_documents_of_a_band_and_key_and_only_if_they_are_two(
    keys: list[Key], partitions: int, shards: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    expected = defaultdict(list)
    for band, key, doc in sorted(keys):
        expected[band, key].append(doc)
    paths, results = group_all(
        tmp_path_factory.mktemp("keys"), [keys[i::shards] for i in range(shards)], partitions
    )
    wanted = sorted(
        (band == EXACT_BAND, tuple(docs)) for (band, _), docs in expected.items() if len(docs) > 1
    )
    assert buckets_of(paths) == wanted
    assert sum(result["rows"] for result in results) == len(keys)
    assert sum(result["memberships"] for result in results) == sum(len(docs) for _, docs in wanted)


def test_buckets_of_different_partitions_have_different_numbers(tmp_path: Path) -> None:
    keys = [(0, 5, 1), (0, 5, 2), (0, 2**63 + 5, 3), (0, 2**63 + 5, 4)]
    paths, _ = group_all(tmp_path, [keys], 2)
    numbers = [pq.read_table(path)["bucket"].to_pylist() for path in paths]
    assert [len(set(n)) for n in numbers] == [1, 1]
    assert set(numbers[0]).isdisjoint(numbers[1])


def write_members(path: Path, buckets: list[list[int]]) -> str:
    rows = [(number, doc) for number, docs in enumerate(buckets) for doc in docs]
    table = pa.table({"bucket": pa.array([r[0] for r in rows], pa.int64()), "exact": [False] * len(rows), "doc": pa.array([r[1] for r in rows], pa.int64())})  # fmt: skip
    pq.write_table(table, path)
    return str(path)


def write_sizes(path: Path, sizes: list[int]) -> str:
    pq.write_table(pa.table({"byte_count": pa.array(sizes, pa.int64())}), path)
    return str(path)


def cluster(
    folder: Path, files: list[list[list[int]]], sizes: list[int]
) -> tuple[dict[int, int], dict[str, int]]:
    members = [write_members(folder / f"members-{i}.parquet", buckets) for i, buckets in enumerate(files)]
    cut = len(sizes) // 2
    signals = [write_sizes(folder / "a.parquet", sizes[:cut]), write_sizes(folder / "b.parquet", sizes[cut:])]
    (folder / "out").mkdir()
    result = cluster_part(folder / "out", members=members, signals=signals, documents=len(sizes))
    rows = pq.read_table(folder / "out" / "clusters.parquet").to_pylist()
    return {row["doc"]: row["batch"] for row in rows}, result


def connected(files: list[list[list[int]]]) -> list[list[int]]:
    """Clusters by repeated joining, in the order of their first documents."""
    clusters: list[set[int]] = []
    for docs in (docs for buckets in files for docs in buckets):
        touched = [c for c in clusters if c & set(docs)]
        clusters = [c for c in clusters if not c & set(docs)] + [set(docs).union(*touched)]
    return sorted(sorted(c) for c in clusters)


BUCKETS = st.lists(st.lists(st.integers(0, 11), min_size=2, max_size=4, unique=True).map(sorted), max_size=5)


@settings(max_examples=60, deadline=None)
@given(
    files=st.lists(BUCKETS, min_size=1, max_size=3),
    sizes=st.lists(st.integers(0, 30), min_size=12, max_size=12),
    budget=st.sampled_from([1, 25, 10**6]),
)
def test_a_cluster_is_whole_in_one_batch_and_batches_follow_the_first_documents(
    files: list[list[list[int]]], sizes: list[int], budget: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    expected, batch, filled, last = {}, -1, 0, -1
    for docs in connected(files):
        if filled // budget != last:
            last, batch = filled // budget, batch + 1
        filled += sum(sizes[doc] for doc in docs)
        expected.update(dict.fromkeys(docs, batch))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(group, "BATCH_TEXT_BYTES", budget)
        found, result = cluster(tmp_path_factory.mktemp("members"), files, sizes)
    assert found == expected
    assert list(found) == sorted(found)
    clusters = connected(files)
    assert result == {
        "rows": len(expected),
        "clusters": len(clusters),
        "largest": max(map(len, clusters), default=0),
        "batches": max(expected.values(), default=-1) + 1,
    }


def test_documents_without_a_twin_are_in_no_cluster(tmp_path: Path) -> None:
    found, result = cluster(tmp_path, [[]], [1, 2, 3])
    assert (found, result) == ({}, {"rows": 0, "clusters": 0, "largest": 0, "batches": 0})


@pytest.mark.parametrize(
    ("documents", "keys", "expected"),
    [(0, 0, 1), (1, 14, 1), (PARTITION_BYTES // KEY_BYTES, 1, 1), (PARTITION_BYTES // KEY_BYTES + 1, 1, 2), (10**8, 14, 256)],
)  # fmt: skip
def test_partitions_follow_from_the_number_of_keys(documents: int, keys: int, expected: int) -> None:
    assert count_partitions(documents, keys) == expected
    assert np.log2(count_partitions(documents, keys)) % 1 == 0
