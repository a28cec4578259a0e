import hashlib
import json

import pyarrow as pa
import pytest

from filters.errors import DataError
from mixtures.shards import (
    finish_dataset,
    finish_dataset_dict,
    read_shard,
    read_shards,
    shard_paths,
    take_rows,
    write_shard,
)

PIECES = pa.list_(pa.struct([("role", pa.string()), ("text", pa.string()), ("loss", pa.float32())]))


def table_of(lo, hi):
    rows = range(lo, hi)
    return pa.table(
        {
            "id": pa.array([f"a#{i}" for i in rows], pa.string()),
            "epoch": pa.array([i // 7 for i in rows], pa.int32()),
            "tokens": pa.array([list(range(i % 5)) for i in rows], pa.list_(pa.int32())),
            "loss": pa.array([[0.5] * (i % 5) for i in rows], pa.list_(pa.float32())),
            "pieces": pa.array([[{"role": "input", "text": f"é{i}", "loss": 0.0}] for i in rows], PIECES),
        }
    )


@pytest.fixture
def directory(tmp_path):
    target = tmp_path / "nli"
    target.mkdir()
    write_shard(target / "data-00000.arrow", table_of(0, 1500))
    write_shard(target / "data-00001.arrow", table_of(1500, 2000))
    finish_dataset(target)
    return target


def test_rows_come_back_in_order_with_their_types(directory):
    table = read_shards(directory)
    assert table.schema == table_of(0, 1).schema
    assert table == table_of(0, 2000)


def test_reading_maps_memory_instead_of_copying(directory):
    before = pa.total_allocated_bytes()
    table = read_shards(directory)
    assert table.nbytes > 50_000
    assert pa.total_allocated_bytes() - before < 10_000


def test_datasets_opens_the_directory_and_sees_the_same_rows(directory):
    datasets = pytest.importorskip("datasets")
    loaded = datasets.load_from_disk(str(directory))
    assert loaded.num_rows == 2000
    assert loaded[1700] == table_of(1700, 1701).to_pylist()[0]
    assert loaded.features["epoch"] == datasets.Value("int32")
    assert loaded.features["tokens"].feature == datasets.Value("int32")


def test_several_directories_open_as_a_dataset_dict(directory, tmp_path):
    datasets = pytest.importorskip("datasets")
    other = tmp_path / "text.debian"
    other.mkdir()
    write_shard(other / "data-00000.arrow", table_of(0, 0))
    finish_dataset(other)
    finish_dataset_dict(tmp_path, ["nli", "text.debian"])
    loaded = datasets.load_from_disk(str(tmp_path))
    assert {name: loaded[name].num_rows for name in loaded} == {"nli": 2000, "text.debian": 0}


def test_the_bytes_do_not_depend_on_how_the_table_was_put_together(tmp_path):
    whole = table_of(0, 1500)
    pieces = pa.concat_tables([table_of(0, 10), table_of(10, 11), table_of(11, 1500)])
    sliced = pa.concat_tables([table_of(0, 300), whole]).slice(300)
    written = set()
    for i, table in enumerate((whole, pieces, sliced)):
        write_shard(tmp_path / f"{i}.arrow", table)
        written.add(hashlib.sha256((tmp_path / f"{i}.arrow").read_bytes()).hexdigest())
    assert len(written) == 1


def test_the_fingerprint_changes_with_the_content_and_not_with_the_place(directory, tmp_path):
    def fingerprint(path):
        return json.loads((path / "state.json").read_text())["_fingerprint"]

    copy = tmp_path / "copy"
    copy.mkdir()
    for path in shard_paths(directory):
        (copy / path.name).write_bytes(path.read_bytes())
    finish_dataset(copy)
    assert fingerprint(copy) == fingerprint(directory)
    write_shard(copy / "data-00001.arrow", table_of(1500, 1999))
    finish_dataset(copy)
    assert fingerprint(copy) != fingerprint(directory)


def test_known_hashes_give_the_same_state_as_read_ones(directory):
    before = (directory / "state.json").read_bytes()
    hashes = [hashlib.sha256(path.read_bytes()).hexdigest() for path in shard_paths(directory)]
    finish_dataset(directory, sha256=hashes)
    assert (directory / "state.json").read_bytes() == before


def test_rows_are_taken_in_any_order_and_only_theirs_are_copied(directory):
    table = read_shards(directory)
    wanted = [1999, 3, 3, 1500, 0, 1499]
    before = pa.total_allocated_bytes()
    taken = take_rows(table, wanted)
    assert pa.total_allocated_bytes() - before < 50_000 < table.nbytes
    assert taken["id"].to_pylist() == [f"a#{i}" for i in wanted]
    assert taken["tokens"].to_pylist() == [list(range(i % 5)) for i in wanted]
    assert take_rows(table, []).num_rows == 0
    for outside in (2000, -1):
        with pytest.raises(IndexError, match="outside of the 2000"):
            take_rows(table, [outside])


def test_a_damaged_shard_is_named(directory):
    shard = directory / "data-00001.arrow"
    whole = shard.read_bytes()
    for damaged in (whole[:100], whole[:-8], b""):  # cut in the schema; between batches and the end; empty
        shard.write_bytes(damaged)
        with pytest.raises(DataError, match=r"data-00001\.arrow: not a readable Arrow stream"):
            read_shard(shard)


def test_an_unfinished_directory_is_refused(tmp_path):
    with pytest.raises(DataError, match=r"no state\.json"):
        read_shards(tmp_path)
    with pytest.raises(ValueError, match="holds no shards"):
        finish_dataset(tmp_path)
