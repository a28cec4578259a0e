"""Grouping: documents that share a key, clusters of them, and these dealt to batches; in memory and on disk."""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from curate import group
from curate.generations import documents_schema as index_schema
from curate.group import (
    CLUSTERS,
    GROUPING_BYTES,
    KEY_BYTES,
    LEAST_PORTION_BYTES,
    MEMBERS,
    cluster_part,
    count_partitions,
    deal_members_part,
    deal_texts_part,
    dealt_schema,
    group_part,
)
from curate.measurement import KEYS, content_hashes, facts_schema
from curate.schema import documents_schema
from curate.shards import ShardWriter
from curate.shuffle import Dealer, read_mapped, read_portion
from filters.errors import DataError

Key = tuple[int, int]  # key, document

BIG = 1 << 30


def write_keys(path: Path, keys: list[Key], partitions: int) -> str:
    """As ``curate.measurement`` lays them out: dealt by the high bits of the key."""
    with Dealer(path, KEYS, partitions) as dealer:
        columns = [np.array([k[i] for k in keys], kind) for i, kind in enumerate((np.uint64, np.int64))]
        dealer.add_pairs(*columns, np.array([k[0] * partitions >> 64 for k in keys], np.int32))
    return str(path)


def write_index(folder: Path, keys: list[Key], first: int) -> dict[str, Any]:
    """keys.arrow of a persistent index, ascending, in record batches of three."""
    folder.mkdir()
    ordered = sorted(keys)
    schema = pa.schema([pa.field("key", pa.uint64(), nullable=False), pa.field("row", pa.int64(), nullable=False)])  # fmt: skip
    with pa.OSFile(str(folder / "keys.arrow"), "wb") as sink, pa.ipc.new_file(sink, schema) as writer:
        for start in range(0, len(ordered), 3):
            rows = ordered[start : start + 3]
            columns = [
                pa.array([k for k, _ in rows], pa.uint64()),
                pa.array([d for _, d in rows], pa.int64()),
            ]
            writer.write_batch(pa.record_batch(columns, schema=schema))
    return {"keys": str(folder / "keys.arrow"), "first": first}


def group_all(
    folder: Path,
    shards: list[list[Key]],
    partitions: int,
    *,
    index: list[dict[str, Any]] | None = None,
    memory: int = BIG,
) -> tuple[list[str], list[dict[str, int]]]:
    keys = [write_keys(folder / f"keys-{i}.arrow", shard, partitions) for i, shard in enumerate(shards)]
    paths, results = [], []
    for number in range(partitions):
        out = folder / f"group-{number}"
        out.mkdir()
        results.append(
            group_part(
                out, keys=keys, partition=number, partitions=partitions, index=index or [], memory=memory
            )
        )
        assert [p.name for p in out.iterdir()] == ["members.arrow"]
        paths.append(str(out / "members.arrow"))
    return paths, results


def buckets_of(paths: list[str]) -> list[tuple[int, tuple[int, ...]]]:
    """(whether it is exact, documents) of every bucket; a bucket's members must be adjacent."""
    members: dict[int, list[int]] = {}
    for path in paths:
        last = None
        for row in read_mapped(path).to_pylist():
            assert row["bucket"] == last or row["bucket"] not in members
            members.setdefault(row["bucket"], []).append(row["doc"])
            last = row["bucket"]
    return sorted((bucket & 1, tuple(sorted(docs))) for bucket, docs in members.items())


SOME = st.sampled_from([0, 1, 2, 2**62, 2**63 - 1, 2**63, 2**64 - 2, 2**64 - 1])
ANY_KEYS = st.lists(st.tuples(SOME, st.integers(0, 9)), max_size=40, unique=True)
ANY_INDEX = st.lists(st.tuples(SOME, st.integers(0, 3)), max_size=12, unique=True)


@settings(max_examples=80, deadline=None)
@given(
    keys=ANY_KEYS,
    old=ANY_INDEX,
    partitions=st.sampled_from([1, 2, 4]),
    shards=st.integers(1, 3),
    chunk=st.sampled_from([None, 1, 3, 10]),
)
def test_a_bucket_holds_all_documents_of_a_key_if_two_are_new_or_one_is_and_one_is_in_the_index(
    keys: list[Key],
    old: list[Key],
    partitions: int,
    shards: int,
    chunk: int | None,
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    """With ``chunk`` a partition of more than twice as many entries is sorted on disk, in runs of so many."""
    folder = tmp_path_factory.mktemp("keys")
    expected = defaultdict(list)
    for key, doc in sorted(keys):
        expected[key].append(doc)
    for key, row in sorted(old):
        if key in expected:
            expected[key].append(100 + row)
    index = [write_index(folder / "a", old[::2], 100), write_index(folder / "b", old[1::2], 100)]
    memory = BIG if chunk is None else 4 * chunk * GROUPING_BYTES
    paths, results = group_all(
        folder, [keys[i::shards] for i in range(shards)], partitions, index=index, memory=memory
    )
    wanted = sorted((key & 1, tuple(docs)) for key, docs in expected.items() if len(docs) > 1)
    assert buckets_of(paths) == wanted
    assert sum(result["rows"] for result in results) == len(keys)
    assert sum(result["memberships"] for result in results) == sum(len(docs) for _, docs in wanted)
    if chunk is not None and len(keys) > 2 * chunk * partitions:
        assert sum(result["spilled_runs"] for result in results) > 0
    if chunk is None:
        assert sum(result["spilled_runs"] for result in results) == 0


def test_buckets_of_different_partitions_have_different_numbers(tmp_path: Path) -> None:
    keys = [(5, 1), (5, 2), (2**63 + 5, 3), (2**63 + 5, 4)]
    paths, _ = group_all(tmp_path, [keys], 2)
    numbers = [read_mapped(path)["bucket"].to_pylist() for path in paths]
    assert [len(set(n)) for n in numbers] == [1, 1]
    assert set(numbers[0]).isdisjoint(numbers[1])


def test_a_bucket_that_is_larger_than_the_memory_is_one_bucket(tmp_path: Path) -> None:
    keys = (
        [(7, doc) for doc in range(10_000)] + [(key, key) for key in range(20_000, 20_050)] + [(9, 3), (9, 4)]
    )
    paths, results = group_all(tmp_path, [keys], 1, memory=800 * GROUPING_BYTES)
    assert buckets_of(paths) == [(1, tuple(range(10_000))), (1, (3, 4))]
    assert results[0]["spilled_runs"] == -(-len(keys) // 200)
    assert max(len(chunk) for chunk in read_mapped(paths[0])["doc"].chunks) <= 200


@pytest.mark.parametrize("keys_per_document", [1, 11])
def test_partitions_follow_from_the_number_of_keys_and_the_memory(keys_per_document: int) -> None:
    counts = [count_partitions(10**n, keys_per_document, BIG) for n in range(12)]
    assert counts[0] == 1
    assert counts == sorted(counts)
    assert all(count & (count - 1) == 0 for count in counts)
    most = BIG // 4 // GROUPING_BYTES  # keys that are grouped in a quarter of the memory
    for n, count in enumerate(counts):
        keys = 10**n * keys_per_document
        assert keys <= count * most
        assert count == 1 or keys / count * KEY_BYTES >= LEAST_PORTION_BYTES / 4
    assert count_partitions(10**8, 11, BIG // 16) == 16 * count_partitions(10**8, 11, BIG)


# -- clusters --------------------------------------------------------------------------------------------------------


def write_members(path: Path, buckets: list[list[int]], cut: int) -> str:
    """Members of buckets numbered from 0; a record batch ends after each ``cut`` rows, wherever that is."""
    rows = [(2 * number, doc) for number, docs in enumerate(buckets) for doc in docs]
    with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_file(sink, MEMBERS) as writer:
        for start in range(0, len(rows), cut):
            own = rows[start : start + cut]
            columns = [pa.array([r[i] for r in own], pa.int64()) for i in (0, 1)]
            writer.write_batch(pa.record_batch(columns, schema=MEMBERS))
    return str(path)


def write_facts(path: Path, sizes: list[int]) -> str:
    n = len(sizes)
    columns = {
        "content_hash": content_hashes(pa.array(["x"] * n, pa.string())),
        "length": sizes,
        "text_bytes": sizes,
    }
    table = pa.table({f.name: columns.get(f.name, pa.nulls(n, f.type)) for f in facts_schema([])}, facts_schema([]))  # fmt: skip
    with ShardWriter(path, facts_schema([])) as writer:
        writer.write(table)
    return str(path)


def cluster(
    folder: Path, files: list[list[list[int]]], sizes: list[int], *, memory: int = BIG, cut: int = 100
) -> tuple[dict[int, int], dict[str, int]]:
    members = [write_members(folder / f"members-{i}.arrow", b, cut) for i, b in enumerate(files)]
    half = len(sizes) // 2
    facts = [write_facts(folder / "a.arrow", sizes[:half]), write_facts(folder / "b.arrow", sizes[half:])]
    (folder / "out").mkdir()
    result = cluster_part(
        folder / "out", members=members, facts=facts, index=[], keys_per_document=2, memory=memory
    )
    assert [p.name for p in (folder / "out").iterdir()] == ["clusters.arrow"]
    rows = read_mapped(folder / "out" / "clusters.arrow").to_pylist()
    return {row["doc"]: row["batch"] for row in rows}, result


def connected(files: list[list[list[int]]]) -> list[list[int]]:
    """Clusters by repeated joining, in the order of their first documents."""
    clusters: list[set[int]] = []
    for docs in (docs for buckets in files for docs in buckets):
        touched = [c for c in clusters if c & set(docs)]
        clusters = [c for c in clusters if not c & set(docs)] + [set(docs).union(*touched)]
    return sorted(sorted(c) for c in clusters)


BUCKETS = st.lists(st.lists(st.integers(0, 11), min_size=2, max_size=4, unique=True), max_size=5)
PER_DOCUMENT = 2 * group.MEMBERSHIP_BYTES


@settings(max_examples=60, deadline=None)
@given(
    files=st.lists(BUCKETS, min_size=1, max_size=3),
    sizes=st.lists(st.integers(0, 30), min_size=12, max_size=12),
    size=st.sampled_from([1, 250, 10**6]),
    memory=st.sampled_from([1, BIG]),
    cut=st.sampled_from([1, 2, 100]),
)
def test_a_cluster_is_whole_in_one_batch_and_batches_follow_the_first_documents(
    files: list[list[list[int]]],
    sizes: list[int],
    size: int,
    memory: int,
    cut: int,
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    """With a memory of one byte the arrays lie in mapped files."""
    if memory == 1:
        size = 1
    expected, batch, filled, last = {}, -1, 0, -1
    for docs in connected(files):
        if filled // size != last:
            last, batch = filled // size, batch + 1
        filled += sum(sizes[doc] + PER_DOCUMENT for doc in docs)
        expected.update(dict.fromkeys(docs, batch))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(group, "LEAST_BATCH_BYTES", size)
        patch.setattr("curate.shuffle.MANY", 10**9)
        found, result = cluster(tmp_path_factory.mktemp("members"), files, sizes, memory=memory, cut=cut)
    assert found == expected
    assert list(found) == sorted(found)
    clusters = connected(files)
    assert result == {
        "rows": len(expected),
        "clusters": len(clusters),
        "largest": max(map(len, clusters), default=0),
        "batches": max(expected.values(), default=-1) + 1,
        "bytes": filled,
    }


def test_documents_without_a_twin_are_in_no_cluster(tmp_path: Path) -> None:
    found, result = cluster(tmp_path, [[]], [1, 2, 3])
    assert (found, result) == ({}, {"rows": 0, "clusters": 0, "largest": 0, "batches": 0, "bytes": 0})


@pytest.mark.parametrize("memory", [1, BIG])
def test_a_chain_is_one_cluster_whichever_end_comes_first(memory: int, tmp_path: Path) -> None:
    chain = [[n, n + 1] for n in range(2_000)]
    for place, links in enumerate((chain, chain[::-1], chain[1::2] + chain[::2])):
        (tmp_path / str(place)).mkdir()
        found, result = cluster(tmp_path / str(place), [links], [5] * 2_003, memory=memory)
        assert set(found.values()) == {0}
        assert (result["rows"], result["clusters"], result["largest"]) == (2_001, 1, 2_001)


def test_no_room_for_the_arrays_is_told_before_anything_is_written_to_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(group.os, "posix_fallocate", full)
    with pytest.raises(OSError, match="No space left"):
        cluster(tmp_path, [[[0, 1]]], [1, 1], memory=1)


# -- dealing ---------------------------------------------------------------------------------------------------------


def write_documents(path: Path, texts: list[str], ids: list[str], source: str = "s") -> str:
    columns = {"id": ids, "source": [source] * len(ids), "text": texts}
    with ShardWriter(path, documents_schema([])) as writer:
        for start in range(0, len(ids), 2):  # record batches and row groups of two
            table = pa.table({k: v[start : start + 2] for k, v in columns.items()}, documents_schema([]))
            writer.write(table)
            writer._flush()
    return str(path)


def write_clusters(path: Path, batch_of: dict[int, int]) -> str:
    with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_file(sink, CLUSTERS) as writer:
        columns = [pa.array(list(batch_of), pa.int64()), pa.array([*batch_of.values()], pa.int32())]
        writer.write_batch(pa.record_batch(columns, schema=CLUSTERS))
    return str(path)


TEXTS = [f"text {n}" for n in range(7)]
IDS = [f"id{n}" for n in range(7)]


def write_known(path: Path, by: list[str], priorities: list[float | None]) -> str:
    columns: dict[str, Any] = {
        "content_hash": content_hashes(pa.array(TEXTS)),
        "priority": pa.array(priorities, pa.float64()),
        "quality": [None, *[n / 10 for n in range(1, 7)]],
        "length": [10 + n for n in range(7)],
        "text_bytes": [6] * 7,
        **{f"by_{name}": pa.array([None, *[b"%016d" % n for n in range(6)]], pa.binary(16)) for name in by},
    }
    with ShardWriter(path, facts_schema(by)) as writer:
        writer.write(pa.table({f.name: columns[f.name] for f in facts_schema(by)}))
    return str(path)


@pytest.mark.parametrize("suffix", ["arrow", "parquet"])
@pytest.mark.parametrize("native", [True, False])
def test_candidates_are_dealt_with_what_ranks_them_and_texts_from_parquet_only(
    suffix: str, native: bool, tmp_path: Path
) -> None:
    documents = write_documents(tmp_path / f"documents.{suffix}", TEXTS, IDS)
    clusters = write_clusters(tmp_path / "clusters.arrow", {5: 0, 101: 1, 102: 0, 106: 1, 107: 1})
    result = deal_texts_part(
        tmp_path, clusters=clusters, batches=2, by=["url"], priorities={"r": 9, "s": 4}, first=100, documents=documents,
        facts=write_known(tmp_path / "facts.arrow", ["url"], [None] * 6 + [7.5]), native=native,
    )  # fmt: skip
    assert result == {"rows": 3}
    dealt = [pa.Table.from_batches(read_portion([tmp_path / "dealt.arrow"], b, 2)) for b in (0, 1)]
    assert dealt[0].schema == dealt_schema(["url"], texts=suffix == "parquet")
    assert [table["doc"].to_pylist() for table in dealt] == [[102], [101, 106]]
    assert dealt[0].drop_columns(["content_hash"]).to_pylist() == [
        {
            "doc": 102, "generation": 0, "id": "id2", "source": "s", **({"text": "text 2"} if suffix == "parquet" else {}),
            "by_url": b"%016d" % 1, "priority": 4.0, "quality": 0.2, "length": 12, "position": 0 if native else 102,
        }
    ]  # fmt: skip
    assert dealt[1]["priority"].to_pylist() == [4.0, 7.5]
    assert dealt[1]["content_hash"].to_pylist() == content_hashes(pa.array(["text 1", "text 6"])).to_pylist()


def write_old(path: Path, texts: list[str], *, damaged: bool = False) -> str:
    schema = index_schema([])
    shown = ["other", *texts[1:]] if damaged else texts
    columns = {
        "id": IDS, "source": ["s", *["gone"] * 6], "text": shown, "content_hash": content_hashes(pa.array(texts)),
        "priority": pa.nulls(7, pa.float64()), "quality": pa.nulls(7, pa.float64()), "length": [6] * 7, "position": [3] * 7,
    }  # fmt: skip
    with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_file(sink, schema) as writer:
        for batch in pa.table(columns, schema).to_batches(max_chunksize=2):
            writer.write_batch(batch)
    return str(path)


def test_candidates_of_an_index_are_dealt_without_texts_in_their_generation(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(group, "INDEX_BYTES", 10)
    documents = write_old(tmp_path / "documents.arrow", TEXTS)
    clusters = write_clusters(tmp_path / "clusters.arrow", {0: 0, 100: 1, 102: 0, 105: 1, 106: 0})
    result = deal_texts_part(
        tmp_path, clusters=clusters, batches=2, by=[], priorities={"s": 4}, first=100, documents=documents,
        facts=None, generation=3,
    )  # fmt: skip
    assert result == {"rows": 4}
    dealt = [pa.Table.from_batches(read_portion([tmp_path / "dealt.arrow"], b, 2)) for b in (0, 1)]
    assert dealt[0].schema == dealt_schema([])
    assert [table["doc"].to_pylist() for table in dealt] == [[102, 106], [100, 105]]
    assert dealt[1].select(["generation", "id", "priority", "position"]).to_pylist() == [
        {"generation": 3, "id": "id0", "priority": 4.0, "position": 3},
        {
            "generation": 3,
            "id": "id5",
            "priority": 0.0,
            "position": 3,
        },  # of a source that is not configured any more
    ]


def test_a_text_of_an_index_that_is_not_what_it_was_is_refused(tmp_path: Path) -> None:
    documents = write_old(tmp_path / "documents.arrow", TEXTS, damaged=True)
    arguments = {"batches": 1, "by": [], "priorities": {}, "first": 0, "documents": documents, "facts": None, "generation": 1}  # fmt: skip
    fine = write_clusters(tmp_path / "fine.arrow", {1: 0})
    assert deal_texts_part(tmp_path, clusters=fine, **arguments) == {"rows": 1}
    with pytest.raises(DataError, match="content hashes"):
        deal_texts_part(tmp_path, clusters=write_clusters(tmp_path / "bad.arrow", {0: 0}), **arguments)


def test_a_shard_without_candidates_is_not_read(tmp_path: Path) -> None:
    facts = write_known(tmp_path / "facts.arrow", [], [None] * 7)
    clusters = write_clusters(tmp_path / "clusters.arrow", {3: 0, 50: 0})
    result = deal_texts_part(
        tmp_path, clusters=clusters, batches=1, by=[], priorities={}, first=10, documents=str(tmp_path / "none.parquet"), facts=facts
    )  # fmt: skip
    assert result == {"rows": 0}


@settings(max_examples=60, deadline=None)
@given(
    buckets=st.lists(st.lists(st.integers(0, 40), min_size=1, max_size=5), max_size=12),
    sizes=st.lists(st.integers(1, 6), min_size=12, max_size=12),
    cut=st.sampled_from([1, 3, 100]),
)
def test_memberships_go_where_their_documents_go_and_buckets_stay_together(
    buckets: list[list[int]], sizes: list[int], cut: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Batch b has documents 10 b to 10 b + 9; a bucket's documents are taken modulo ten into the batch of its first one."""
    folder = tmp_path_factory.mktemp("deal")
    moved = [[10 * (docs[0] // 10) + doc % 10 for doc in docs] for docs in buckets]
    candidates = sorted({doc for docs in moved for doc in docs})
    clusters = write_clusters(folder / "clusters.arrow", {doc: doc // 10 for doc in candidates})
    members = write_members(folder / "members.arrow", moved, cut)
    result = deal_members_part(folder, members=members, clusters=clusters, batches=5)
    assert result == {"rows": sum(map(len, moved))}
    for batch in range(5):
        rows = [row for b in read_portion([folder / "dealt.arrow"], batch, 5) for row in b.to_pylist()]
        assert [(row["bucket"], row["doc"]) for row in rows] == [
            (2 * number, doc) for number, docs in enumerate(moved) for doc in docs if doc // 10 == batch
        ]


def test_the_sum_of_sizes_counts_documents_of_an_index(tmp_path: Path) -> None:
    documents = write_old(tmp_path / "documents.arrow", TEXTS)
    members = [write_members(tmp_path / "members.arrow", [[0, 102], [1, 104, 106]], 2)]
    facts = [write_facts(tmp_path / "facts.arrow", [10, 20, 30])]
    index = [{"documents": documents, "first": 100}]
    result = cluster_part(tmp_path, members=members, facts=facts, index=index, keys_per_document=0, memory=BIG)  # fmt: skip
    assert result["bytes"] == 10 + 20 + 3 * 6
    assert read_mapped(tmp_path / "clusters.arrow")["doc"].to_pylist() == [0, 1, 102, 104, 106]
    assert pc.unique(read_mapped(tmp_path / "clusters.arrow")["batch"]).to_pylist() == [0]
