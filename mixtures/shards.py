"""Directories of Arrow shards that ``datasets.load_from_disk`` opens, written without ``datasets``.

    packs/ data-00000.arrow data-00001.arrow ...   Arrow IPC *stream* format, not compressed: read by mapping memory
           state.json  dataset_info.json           what datasets wants to find; the fingerprint is a content hash
    pool/  dataset_dict.json  LEAF/ LEAF/ ...      several such directories, which open as a DatasetDict

The types are taken from the Arrow schema by whoever reads, so dataset_info.json says nothing of them.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from filters.errors import DataError

SHARD_PATTERN = "data-{:05d}.arrow"
# A record batch is the unit in which readers touch memory; its size is fixed, because it is part of the bytes.
_BATCH_ROWS = 1000
_END_OF_STREAM = b"\xff\xff\xff\xff\x00\x00\x00\x00"


def write_shard(path: str | Path, table: pa.Table) -> None:
    """One shard; the same rows give the same bytes, however the table is chunked."""
    with pa.OSFile(str(path), "wb") as file, pa.ipc.new_stream(file, table.schema) as writer:
        for batch in table.combine_chunks().to_batches(max_chunksize=_BATCH_ROWS):
            writer.write_batch(batch)


def read_shard(path: str | Path) -> pa.Table:
    """One shard as a memory-mapped table.

    Raises:
        DataError: the file is not a whole Arrow stream.
    """
    try:
        with pa.memory_map(str(path)) as file:
            # A stream cut off between two batches still reads as a shorter one: only its end tells.
            if file.size() < 8 or file.read_at(8, file.size() - 8) != _END_OF_STREAM:
                raise pa.ArrowInvalid("the end of the stream is missing")
            with pa.ipc.open_stream(file) as reader:
                return reader.read_all()
    except (pa.ArrowInvalid, OSError) as error:
        raise DataError(f"{path}: not a readable Arrow stream: {error}. Build the directory again") from None


def read_shards(directory: str | Path) -> pa.Table:
    """All rows of a finished directory in shard order, memory-mapped: nothing is read before it is used.

    Raises:
        DataError: the directory is not finished, or a shard is damaged.
    """
    return pa.concat_tables([read_shard(path) for path in shard_paths(directory)])


def take_rows(table: pa.Table, rows: npt.ArrayLike) -> pa.Table:
    """Some rows of a table, in the order of ``rows``; only the record batches that hold them are read.

    (``Table.take`` would first copy every chunk of a memory-mapped table into one.)
    """
    wanted = np.asarray(rows, dtype=np.int64)
    order = np.argsort(wanted, kind="stable")
    rising = wanted[order]
    taken, first = [], 0
    for batch in table.to_batches():
        lo, hi = np.searchsorted(rising, [first, first + batch.num_rows])
        if lo < hi:
            taken.append(batch.take(pa.array(rising[lo:hi] - first)))
        first += batch.num_rows
    if sum(map(len, taken)) < len(wanted):
        raise IndexError(f"rows outside of the {table.num_rows} of the table")
    return pa.Table.from_batches(taken, table.schema).take(pa.array(np.argsort(order)))


def shard_paths(directory: str | Path) -> list[Path]:
    """The shards of a finished directory, in order.

    Raises:
        DataError: the directory is not finished.
    """
    state = Path(directory) / "state.json"
    if not state.is_file():
        raise DataError(
            f"{directory}: no state.json, so this is no finished directory of shards. Build it first"
        )
    files = json.loads(state.read_text(encoding="utf-8"))["_data_files"]
    return [Path(directory) / file["filename"] for file in files]


def finish_dataset(directory: str | Path, *, sha256: Sequence[str] | None = None) -> None:
    """Write the two files beside the shards of ``directory`` that make it a dataset.

    Args:
        directory: holds data-00000.arrow and so on, at least one shard.
        sha256: of each shard, hexadecimal, where already known; else the shards are read for it.
    """
    shards = sorted(Path(directory).glob("data-*.arrow"))
    if not shards:
        raise ValueError(f"{directory} holds no shards")
    hashes = sha256 or [hashlib.sha256(shard.read_bytes()).hexdigest() for shard in shards]
    state: dict[str, object] = {
        "_data_files": [{"filename": shard.name} for shard in shards],
        "_fingerprint": hashlib.sha256("".join(hashes).encode()).hexdigest()[:16],
        "_format_columns": None,
        "_format_kwargs": {},
        "_format_type": None,
        "_output_all_columns": False,
        "_split": None,
    }
    _write_json(Path(directory) / "dataset_info.json", {})
    _write_json(Path(directory) / "state.json", state)


def finish_dataset_dict(directory: str | Path, names: Sequence[str]) -> None:
    """Make finished directories under ``directory`` open as one ``DatasetDict``."""
    _write_json(Path(directory) / "dataset_dict.json", {"splits": list(names)})


def _write_json(path: Path, value: object) -> None:
    path.write_text(json.dumps(value, indent=1) + "\n", encoding="utf-8")
