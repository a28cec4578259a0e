"""Entries of more keys than memory holds, in the order of their keys: sorted runs on disk, merged as a stream.

    entries ─ chunk by chunk ─▶ sort ─▶ run-0, run-1, …  ─ merge ─▶ blocks of (key, document), keys ascending

A *run* is two plain files of 64-bit numbers, read through memory maps. Merging takes the next block of every run,
keeps what is not above the smallest last key of these blocks, sorts that, and goes on. A key with more entries than a
block holds fills several of them.

Price: each entry is sorted once in its chunk and once in its block, and written and read once (32 bytes). Memory: 48 bytes
for each entry of a chunk while it is sorted, 48 for each of a block while it is merged.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

Keys = npt.NDArray[np.uint64]
Docs = npt.NDArray[np.int64]


class Run(NamedTuple):
    """Entries with ascending keys."""

    keys: Keys
    docs: Docs


def write_run(path: Path, keys: Keys, docs: Docs) -> Run:
    """Sort entries by key, keeping the order of equal keys, and write them to ``path``.keys and ``path``.docs.

    Returns:
        the run, as memory maps.

    Raises:
        OSError: the disk is full.
    """
    order = np.argsort(keys, kind="stable")
    return Run(_write(path.with_suffix(".keys"), keys[order]), _write(path.with_suffix(".docs"), docs[order]))


def _write(path: Path, values: npt.NDArray) -> npt.NDArray:
    with open(path, "wb") as file:
        file.write(np.ascontiguousarray(values).data.cast("B"))
    return np.memmap(path, values.dtype, mode="r") if len(values) else values


def remove_run(path: Path) -> None:
    """Delete the files of a run; arrays that map them stay valid."""
    for suffix in (".keys", ".docs"):
        path.with_suffix(suffix).unlink()


def merge(runs: Sequence[Run], block: int) -> Iterator[Run]:
    """All entries of the runs with ascending keys, in blocks of at most ``block`` entries (one of each run at least).

    Entries of one key may be spread over several blocks; inside a block they come in the order of the runs.

    >>> runs = [Run(np.array(k, np.uint64), np.array(d)) for k, d in (([1, 5, 9], [0, 1, 2]), ([5, 5], [3, 4]))]
    >>> [(b.keys.tolist(), b.docs.tolist()) for b in merge(runs, 4)]
    [([1, 5, 5, 5], [0, 1, 3, 4]), ([9], [2])]
    """
    step = max(1, block // max(1, len(runs)))
    at = [0] * len(runs)
    while True:
        heads = [(i, run.keys[at[i] : at[i] + step]) for i, run in enumerate(runs) if at[i] < len(run.keys)]
        if not heads:
            return
        bound = min(
            head[-1] for _, head in heads
        )  # no run has an entry up to it behind its head, but of this very key
        pieces = []
        for i, head in heads:
            stop = at[i] + int(np.searchsorted(head, bound, side="right"))
            pieces.append((runs[i].keys[at[i] : stop], runs[i].docs[at[i] : stop]))
            at[i] = stop
        keys, docs = (np.concatenate(columns) for columns in zip(*pieces, strict=True))
        order = np.argsort(keys, kind="stable")
        yield Run(keys[order], docs[order])
