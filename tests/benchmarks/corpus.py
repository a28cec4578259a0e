"""A corpus of any size whose duplicates are known: ``python tests/benchmarks/corpus.py --size 1GB --out DIR``.

    real documents ──▶ pool: their text, once ──▶ originals: slices of one pool ──▶ + exact and near copies, mixed
                                                                                     part-*.parquet, truth.parquet

Pool. The real corpus repeats itself: of 272 MB of text about 40 % stands in it more than once, and a tenth of its
documents are copies. So the text is cut into blocks of about 600 bytes, and a block that mostly consists of shingles
seen before is left out. What remains goes to one pool for each source, form and language; a pool that holds less
text than ``_LEAST`` documents of its kind is merged with those of the same source, then with all that are left.

Original. Takes length and pool of a real document drawn at random, and is filled with at least eight slices of that
pool: paragraphs (they begin and end at a line), or a few words each where the document is short. No document takes
more than a sixteenth of its pool. So two originals share little text by chance; ``--verify`` counts what they do share.

Copies. Of all documents 10 % are byte-identical copies of originals (an original may have several) and 10 % are
near copies, each of another original: words are replaced, left out and added until the Jaccard similarity J of the
two sets of word 5-grams is near a target drawn from [0.5, 1). ``truth.parquet`` has J as measured, in the words of
``filters.words``. The documents are in random order: a copy may precede its original.

Every draw is a hash of (seed, document, number of the draw): the same arguments give the same files. Memory: the
pools (less than the real corpus), the bitmap of shingles (128 MB) and one row group; time: half a minute for the
pools, and 10 s a gigabyte.
"""

from __future__ import annotations

import argparse
import itertools
import json
import logging
import os
import sys
import time
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.ipc as ipc
import pyarrow.json as pajson
import pyarrow.parquet as pq
from numba import njit

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT))  # this copy of the library, installed or not

from filters.column import string_buffers
from filters.words import shingle_batches, shingles

Bytes = npt.NDArray[np.uint8]
Numbers = npt.NDArray[np.int64]

log = logging.getLogger(__name__)

GROUP_ROWS = 4096  # documents in a row group
EXACT = NEAR = 0.1  # shares of all documents
LOWEST = 0.5  # J of near copies
NGRAM = 5
TRUTH = pa.schema(
    [
        ("id", pa.string()),  # the copy
        ("original", pa.string()),
        ("kind", pa.string()),  # exact | near
        ("similarity", pa.float64()),
    ]
)

_LEAST = 16  # documents that a pool must be able to fill, and the largest share of it that one may take
_BITMAP = 1 << 30  # bits; 30 million shingles set 3 % of them, which no block of mostly new text notices
_ROUNDS = 10  # attempts to hit the target of a near copy
_U64 = np.uint64


def shared() -> Path:
    """The folder of shared data: $CURATE_SHARED, or ``shared`` beside the repository."""
    return Path(os.environ.get("CURATE_SHARED", ROOT.parent / "shared"))


# ---------------------------------------------------------------------------------------------------------
# The real corpus
# ---------------------------------------------------------------------------------------------------------


def real_files() -> list[Path]:
    """Files of the shared corpus; without it, those of the sample data."""
    for folder in (shared() / "data" / "corpus", ROOT / "tests" / "data" / "documents"):
        files = [
            p
            for p in sorted(folder.glob("*.*"))
            if p.suffix in (".zst", ".gz", ".jsonl", ".parquet", ".arrow")
        ]
        if files:
            return files
    raise SystemExit(
        "corpus.py: no documents found: neither $CURATE_SHARED/data/corpus nor tests/data/documents"
    )


def read(path: Path) -> pa.Table:
    """Columns text, source, form and lang of a file; a column that it lacks is null."""
    names = ("text", "source", "form", "lang")
    if path.suffix == ".parquet":
        table = pq.read_table(path)
    elif path.suffix == ".arrow":
        with pa.memory_map(str(path)) as file:
            try:
                table = ipc.open_file(file).read_all()
            except pa.ArrowInvalid:
                table = ipc.open_stream(file).read_all()
    else:
        schema = pa.schema([(name, pa.string()) for name in names])
        table = pajson.read_json(
            pa.input_stream(str(path)),  # decompressed by its suffix
            pajson.ReadOptions(block_size=64 << 20),
            pajson.ParseOptions(explicit_schema=schema, unexpected_field_behavior="ignore"),
        )
    nothing = pa.nulls(len(table), pa.string())
    columns = [
        table[name].cast(pa.large_string()) if name in table.column_names else nothing for name in names
    ]
    return pa.table(columns, list(names))


@dataclass(frozen=True, slots=True)
class Pools:
    """Text to draw from, and the documents whose lengths and kinds are drawn.

    Attributes:
        data: the text of all pools, one after the other.
        bounds: ``(pools + 1,)`` where they begin in data.
        names: "source/form/lang", with * for what was merged.
        lengths: ``(documents,)`` bytes, never more than the pool allows.
        pool_of: ``(documents,)`` number of the pool.
        read_bytes: text of the real corpus, before blocks that repeat were left out.
        cut: how many documents the pool did not allow their length.
    """

    data: Bytes
    bounds: Numbers
    names: list[str]
    lengths: Numbers
    pool_of: Numbers
    read_bytes: int
    cut: int


def build_pools(files: list[Path]) -> Pools:
    texts: dict[tuple[str, str, str], list[Bytes]] = defaultdict(list)
    lengths: dict[tuple[str, str, str], list[Numbers]] = defaultdict(list)
    seen = np.zeros(_BITMAP // 8, np.uint8)
    read_bytes = 0
    for path in files:
        table = read(path)
        offsets, data = string_buffers(table["text"])
        read_bytes += int(offsets[-1] - offsets[0])
        fallback = {"source": path.name.split(".")[0].rsplit("-", 1)[0], "form": "", "lang": ""}
        kinds = list(zip(*(pc.fill_null(table[n], v).to_pylist() for n, v in fallback.items()), strict=True))
        blocks = _cut_blocks(offsets, data, 600)
        fresh = _fresh_blocks(blocks, data, seen)
        document = np.searchsorted(offsets, blocks[:-1], side="right") - 1
        for kind in sorted(set(kinds)):
            rows = np.array([k == kind for k in kinds])
            lengths[kind].append(np.diff(offsets)[rows])
            chosen = np.flatnonzero(rows[document] & fresh)
            texts[kind].append(_join_blocks(blocks, data, chosen))
    return _merged(texts, lengths, read_bytes)


def _merged(texts: dict, lengths: dict, read_bytes: int) -> Pools:
    """Pools that are too small for their documents become one, first by source and form, then by form, then all."""
    for merge in (lambda k: (*k[:2], "*"), lambda k: ("*", k[1], "*"), lambda k: ("*", "*", "*")):
        for kind in sorted(texts):
            size = sum(map(len, texts[kind]))
            documents = np.concatenate(lengths[kind])
            if size < max(_LEAST * np.quantile(documents, 0.9), 64 << 10) and merge(kind) != kind:
                texts[merge(kind)] = texts.get(merge(kind), []) + texts.pop(kind)
                lengths[merge(kind)] = lengths.get(merge(kind), []) + lengths.pop(kind)
    kinds = [kind for kind in sorted(texts) if sum(map(len, texts[kind]))]
    sizes = np.array([sum(map(len, texts[kind])) for kind in kinds], np.int64)
    data = np.concatenate([part for kind in kinds for part in texts[kind]])
    all_lengths = [np.concatenate(lengths[kind]) for kind in kinds]
    pool_of = np.repeat(np.arange(len(kinds)), [len(part) for part in all_lengths])
    wanted = np.concatenate(all_lengths)
    allowed = np.minimum(wanted, sizes[pool_of] // _LEAST)
    names = ["/".join(part for part in kind if part) for kind in kinds]
    bounds = np.concatenate([[0], np.cumsum(sizes)])
    return Pools(data, bounds, names, allowed, pool_of, read_bytes, int((allowed < wanted).sum()))


def _fresh_blocks(blocks: Numbers, data: Bytes, seen: Bytes) -> npt.NDArray[np.bool_]:
    """Which blocks hold mostly shingles that no block before them holds."""
    fresh = np.zeros(len(blocks) - 1, np.bool_)
    column = pa.LargeStringArray.from_buffers(len(blocks) - 1, pa.py_buffer(blocks), pa.py_buffer(data))
    for start, pointers, values in shingle_batches(column, ngram=NGRAM):
        _mark(pointers, values, seen, fresh[start : start + len(pointers) - 1])
    return fresh


@njit(cache=True, nogil=True)
def _mark(
    pointers: Numbers, values: npt.NDArray[np.uint64], seen: Bytes, fresh: npt.NDArray[np.bool_]
) -> None:
    for row in range(len(fresh)):
        known = 0
        for k in range(pointers[row], pointers[row + 1]):
            bit = values[k] >> _U64(34)  # the upper 30 bits
            byte, mask = bit >> _U64(3), np.uint8(1 << (bit & _U64(7)))
            if seen[byte] & mask:
                known += 1
            seen[byte] |= mask
        fresh[row] = 2 * known < pointers[row + 1] - pointers[row]


@njit(cache=True, nogil=True)
def _cut_blocks(offsets: Numbers, data: Bytes, size: int) -> Numbers:
    """Offsets of blocks: they end at the first line end after ``size`` bytes, at a blank after twice that, or at
    a character after four times that; and with the document."""
    blocks = np.empty((offsets[-1] - offsets[0]) // size + len(offsets) + 1, np.int64)
    count = 0
    for row in range(len(offsets) - 1):
        start, stop = offsets[row], offsets[row + 1]
        blocks[count] = start
        count += 1
        for at in range(start + size, stop):
            length, byte = at - blocks[count - 1], data[at - 1]
            if length < size:
                continue
            if (
                byte == 10
                or (length > 2 * size and byte == 32)
                or (length > 4 * size and data[at] & 0xC0 != 0x80)
            ):
                blocks[count] = at
                count += 1
    blocks[count] = offsets[-1]
    return blocks[: count + 1]


@njit(cache=True, nogil=True)
def _join_blocks(blocks: Numbers, data: Bytes, chosen: Numbers) -> Bytes:
    """The chosen blocks one after the other, each with a line end."""
    total = 0
    for block in chosen:
        total += blocks[block + 1] - blocks[block] + 1
    joined = np.empty(total, np.uint8)
    filled = 0
    for block in chosen:
        for at in range(blocks[block], blocks[block + 1]):
            joined[filled] = data[at]
            filled += 1
        if filled and joined[filled - 1] != 10:
            joined[filled] = 10
            filled += 1
    return joined[:filled]


# ---------------------------------------------------------------------------------------------------------
# Originals
# ---------------------------------------------------------------------------------------------------------


@njit(cache=True, nogil=True, inline="always")
def _draw(seed: int, document: int, number: int) -> np.uint64:
    """64 random bits: SplitMix64's finalizer of the three."""
    x = _U64(seed) * _U64(0x9E3779B97F4A7C15) + _U64(document) * _U64(0xD1B54A32D192ED03)
    x += _U64(number) * _U64(0x8CB92BA72F3D8DD7) + _U64(1)
    x = (x ^ (x >> _U64(30))) * _U64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> _U64(27))) * _U64(0x94D049BB133111EB)
    return x ^ (x >> _U64(31))


@njit(cache=True, nogil=True)
def _draws(seed: int, first: int, count: int) -> npt.NDArray[np.uint64]:
    values = np.empty(count, np.uint64)
    for k in range(count):
        values[k] = _draw(seed, first + k, 0)
    return values


@njit(cache=True, nogil=True)
def _write_originals(
    originals: Numbers,
    lengths: Numbers,
    pool_of: Numbers,
    bounds: Numbers,
    data: Bytes,
    seed: int,
    offsets: Numbers,
    out: Bytes,
) -> None:
    """Writes documents one after the other; without room (``len(out) == 0``) only their offsets."""
    filled = 0
    offsets[0] = 0
    for row in range(len(originals)):
        document = originals[row]
        kind = np.int64(_draw(seed, document, 0) % _U64(len(lengths)))
        length, pool = lengths[kind], pool_of[kind]
        start, stop = bounds[pool], bounds[pool + 1]
        size = min(max(length // 8, 24), 2000)  # of a slice, on average
        boundary = 10 if size >= 200 else 32  # slices of lines, or of words
        begin, number = filled, 0
        while filled - begin < length:
            number += 1
            bits = _draw(seed, document, number)
            first = start + np.int64(bits % _U64(stop - start))
            limit = min(first + 4 * size, stop)
            while (
                first < limit and first > start and not (data[first - 1] == 10 or data[first - 1] == boundary)
            ):
                first += 1
            while first < stop and data[first] & 0xC0 == 0x80:  # not inside a character
                first += 1
            if first >= stop:
                first = start
            wanted = size // 2 + np.int64((bits >> _U64(40)) % _U64(size))
            wanted = max(min(wanted, length - (filled - begin)), 8)
            last, limit = min(first + wanted, stop), min(first + 2 * wanted + 64, stop)
            while last < limit and not (data[last - 1] == 10 or data[last - 1] == boundary):
                last += 1
            while last < stop and data[last] & 0xC0 == 0x80:
                last += 1
            if len(out):
                for at in range(first, last):
                    out[filled] = data[at]
                    filled += 1
                if out[filled - 1] != 10 and out[filled - 1] != boundary:
                    out[filled] = boundary
                    filled += 1
            else:
                filled += last - first
                if data[last - 1] != 10 and data[last - 1] != boundary:
                    filled += 1
        offsets[row + 1] = filled


# ---------------------------------------------------------------------------------------------------------
# Near copies
# ---------------------------------------------------------------------------------------------------------


@njit(cache=True, nogil=True)
def _is_unspaced(data: Bytes, at: int, stop: int) -> bool:
    """Whether a character of a script without spaces begins here: Thai, Lao, Myanmar, Khmer, Kana, Han."""
    if at + 2 >= stop or data[at] < 0xE0 or data[at] >= 0xF0:
        return False
    code = (
        (np.int64(data[at] & 0x0F) << 12)
        | (np.int64(data[at + 1] & 0x3F) << 6)
        | np.int64(data[at + 2] & 0x3F)
    )
    return (
        0xE00 <= code < 0xF00 or 0x1000 <= code < 0x10A0 or 0x1780 <= code < 0x1800 or 0x2E80 <= code < 0xA000
    )


@njit(cache=True, nogil=True)
def _unit_end(data: Bytes, at: int, stop: int) -> int:
    """End of what is edited as a whole: a run without blanks, or one character of a script without spaces."""
    if _is_unspaced(data, at, stop):
        return at + 3
    while at < stop and data[at] > 32 and not _is_unspaced(data, at, stop):
        at += 1
    return at


@njit(cache=True, nogil=True)
def _write_edited(
    offsets: Numbers,
    data: Bytes,
    rows: Numbers,
    shares: npt.NDArray[np.float64],
    names: Numbers,
    seed: int,
    new_offsets: Numbers,
    out: Bytes,
) -> bool:
    """Writes ``rows`` with a share of their words edited; False when ``out`` is too small.

    Of 20 edited words 14 are replaced by another word of the document, 3 are left out, and 3 get another word
    behind them. What a larger share edits includes what a smaller one does.
    """
    filled = 0
    new_offsets[0] = 0
    for k in range(len(rows)):
        start, stop = offsets[rows[k]], offsets[rows[k] + 1]
        at, unit = start, 0
        while at < stop:
            end = at + 1 if data[at] <= 32 else _unit_end(data, at, stop)
            if filled + (end - at) + 72 > len(out):
                return False
            unit += 1
            action = _U64(20)  # none
            if data[at] > 32 and np.float64(_draw(seed, names[k], unit) >> _U64(11)) / 2.0**53 < shares[k]:
                action = _draw(seed, names[k], -unit) % _U64(20)
            if action >= _U64(17):
                for source in range(at, end):
                    out[filled] = data[source]
                    filled += 1
            if action < _U64(14) or _U64(17) <= action < _U64(20):
                if action >= _U64(17):
                    out[filled] = 32
                    filled += 1
                first = start + np.int64(_draw(seed + 1, names[k], unit) % _U64(stop - start))
                while first < stop and data[first] > 32 and not _is_unspaced(data, first, stop):
                    first += 1
                while first < stop and data[first] <= 32:
                    first += 1
                if first < stop:
                    last = min(_unit_end(data, first, stop), first + 64)
                    while last < stop and data[last] & 0xC0 == 0x80:  # not inside a character
                        last -= 1
                    for source in range(first, last):
                        out[filled] = data[source]
                        filled += 1
            at = end
        new_offsets[k + 1] = filled
    return True


@njit(cache=True, nogil=True)
def _jaccard(
    pointers: Numbers,
    values: npt.NDArray[np.uint64],
    rows: Numbers,
    others: Numbers,
    other_values: npt.NDArray[np.uint64],
) -> npt.NDArray[np.float64]:
    """J of the set of ``rows[k]`` with the k-th of the others, by merging sorted lists."""
    found = np.empty(len(rows))
    for row in range(len(rows)):
        a = np.unique(values[pointers[rows[row]] : pointers[rows[row] + 1]])
        b = np.unique(other_values[others[row] : others[row + 1]])
        i = j = both = 0
        while i < len(a) and j < len(b):
            if a[i] == b[j]:
                both += 1
                i += 1
                j += 1
            elif a[i] < b[j]:
                i += 1
            else:
                j += 1
        found[row] = both / max(len(a) + len(b) - both, 1)
    return found


class Editor:
    """Makes near copies; keeps its buffers."""

    def __init__(self, seed: int) -> None:
        self._seed = seed
        self._out = np.empty(1 << 20, np.uint8)

    def edit(
        self, offsets: Numbers, data: Bytes, rows: Numbers, names: Numbers, targets: npt.NDArray[np.float64]
    ) -> tuple[pa.LargeStringArray, npt.NDArray[np.float64]]:
        """Edited rows and their J with what they were; names number the copies.

        Bisection for the share of words to edit: an edited word changes about five shingles, so a share p leaves
        q = (1 - p) ** 5 of them, and J = q / (2 - q).
        """
        column = pa.LargeStringArray.from_buffers(len(offsets) - 1, pa.py_buffer(offsets), pa.py_buffer(data))
        pointers, values = shingles(column.take(pa.array(rows)), ngram=NGRAM)
        low, high = np.zeros(len(rows)), np.ones(len(rows))
        share = 1 - (2 * targets / (1 + targets)) ** 0.2
        best, best_found = share.copy(), np.ones(len(rows))
        best_error = np.full(len(rows), np.inf)
        todo = np.arange(len(rows))
        for _ in range(_ROUNDS):
            found = self._similarities(offsets, data, rows, names, share, todo, pointers, values)
            error = np.abs(found - targets[todo]) + (found == 1)  # with J = 1 it may be no near copy at all
            better = error < best_error[todo]
            improved = todo[better]
            best[improved], best_found[improved] = share[improved], found[better]
            best_error[improved] = error[better]
            above = found > targets[todo]
            low[todo[above]], high[todo[~above]] = share[todo[above]], share[todo[~above]]
            todo = todo[best_error[todo] > 0.004]
            if not len(todo):
                break
            share[todo] = (low[todo] + np.minimum(high[todo], 2 * low[todo] + 0.01)) / 2
        best[best_found == 1] = 0  # a text of which no word can be replaced remains what it was
        return self._write(offsets, data, rows, best, names), best_found

    def _similarities(self, offsets, data, rows, names, share, todo, pointers, values):
        edited = self._write(offsets, data, rows[todo], share[todo], names[todo])
        new_pointers, new_values = shingles(edited, ngram=NGRAM)
        return _jaccard(pointers, values, todo, new_pointers, new_values)

    def _write(self, offsets, data, rows, shares, names) -> pa.LargeStringArray:
        new_offsets = np.empty(len(rows) + 1, np.int64)
        while not _write_edited(offsets, data, rows, shares, names, self._seed, new_offsets, self._out):
            self._out = np.empty(2 * len(self._out), np.uint8)
        text = pa.py_buffer(self._out[: new_offsets[-1]].copy())
        return pa.LargeStringArray.from_buffers(len(rows), pa.py_buffer(new_offsets), text)


# ---------------------------------------------------------------------------------------------------------
# The corpus
# ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Plan:
    """Which row of the corpus is what.

    Attributes:
        original: ``(rows,)`` number of the original whose text, or edited text, the row has.
        row_of: ``(originals,)`` the row where an original stands.
        is_copy: ``(rows,)``.
        target: ``(rows,)`` J that a near copy is to have; nan for others.
    """

    original: Numbers
    row_of: Numbers
    is_copy: npt.NDArray[np.bool_]
    target: npt.NDArray[np.float64]


def make_plan(pools: Pools, size: int, seed: int) -> Plan:
    """So many originals that the whole corpus has about ``size`` bytes of text."""
    lengths: list[Numbers] = []
    total, share = 0, 1 - EXACT - NEAR
    while total < size * share:
        first = sum(map(len, lengths))
        more = np.diff(_offsets(pools, np.arange(first, first + 8192), seed))
        enough = int(np.searchsorted(np.cumsum(more) + total, size * share)) + 1
        lengths.append(more[:enough])
        total += int(lengths[-1].sum())
    originals = sum(map(len, lengths))
    exact, near = round(originals / share * EXACT), round(originals / share * NEAR)
    rows = originals + exact + near
    order = np.argsort(_draws(seed + 1, 0, rows), kind="stable")
    row_of = np.sort(order[:originals])
    original = np.empty(rows, np.int64)
    original[row_of] = np.arange(originals)
    exact_rows, near_rows = order[originals : originals + exact], order[originals + exact :]
    original[exact_rows] = _draws(seed + 2, 0, exact) % _U64(originals)
    by_chance = np.argsort(_draws(seed + 3, 0, originals), kind="stable")
    editable = by_chance[np.concatenate(lengths)[by_chance] >= 200]  # J of a shorter one has few values
    original[near_rows] = editable[:near]
    target = np.full(rows, np.nan)
    target[near_rows] = LOWEST + (1 - LOWEST) * (_draws(seed + 4, 0, near) / 2.0**64)
    is_copy = np.ones(rows, np.bool_)
    is_copy[row_of] = False
    return Plan(original, row_of, is_copy, target)


def _offsets(pools: Pools, originals: Numbers, seed: int) -> Numbers:
    offsets = np.empty(len(originals) + 1, np.int64)
    nothing = np.empty(0, np.uint8)
    _write_originals(
        originals, pools.lengths, pools.pool_of, pools.bounds, pools.data, seed, offsets, nothing
    )
    return offsets


class Grower:
    """Makes the documents of a plan, a stretch of rows at a time; keeps its buffers."""

    def __init__(self, pools: Pools, plan: Plan, seed: int) -> None:
        self._pools, self._plan, self._seed = pools, plan, seed
        self._editor = Editor(seed + 5)
        self._out = np.empty(0, np.uint8)

    def rows(self, first: int, last: int) -> tuple[pa.Table, pa.Table]:
        """Rows first to last - 1 of the corpus (id, text, url), and their rows of TRUTH."""
        pools, plan, seed = self._pools, self._plan, self._seed
        rows = np.arange(first, last)
        originals = plan.original[rows]
        offsets = _offsets(pools, originals, seed)
        if len(self._out) < offsets[-1]:
            self._out = np.empty(offsets[-1] * 5 // 4, np.uint8)
        data = self._out[: offsets[-1]]
        _write_originals(
            originals, pools.lengths, pools.pool_of, pools.bounds, pools.data, seed, offsets, data
        )
        texts = pa.LargeStringArray.from_buffers(len(rows), pa.py_buffer(offsets), pa.py_buffer(data))
        is_near = ~np.isnan(plan.target[rows])
        similarity = np.ones(len(rows))
        if is_near.any():
            near = np.flatnonzero(is_near)
            edited, similarity[near] = self._editor.edit(
                offsets, data, near, rows[near], plan.target[rows[near]]
            )
            place = np.arange(len(rows))
            place[near] = len(rows) + np.arange(len(near))
            texts = pa.concat_arrays([texts, edited]).take(pa.array(place))
        ids = _names("doc-", rows)
        kinds = pools.pool_of[(_draws_of(seed, originals) % _U64(len(pools.lengths))).astype(np.int64)]
        kind_names = pa.array([f"corpus://{name}/" for name in pools.names]).take(pa.array(kinds))
        urls = pc.binary_join_element_wise(kind_names, _names("", rows), "")
        copies = np.flatnonzero(plan.is_copy[rows])
        truth = pa.table(
            [
                ids.take(pa.array(copies)),
                _names("doc-", plan.row_of[originals[copies]]),
                pa.array(np.where(similarity[copies] < 1, "near", "exact").tolist(), pa.string()),
                pa.array(similarity[copies]),
            ],
            schema=TRUTH,
        )
        return pa.table({"id": ids, "text": texts.cast(pa.string()), "url": urls}), truth


@njit(cache=True, nogil=True)
def _draws_of(seed: int, documents: Numbers) -> npt.NDArray[np.uint64]:
    values = np.empty(len(documents), np.uint64)
    for k in range(len(documents)):
        values[k] = _draw(seed, documents[k], 0)
    return values


def _names(prefix: str, numbers: Numbers) -> pa.Array:
    return pc.binary_join_element_wise(prefix, pc.utf8_lpad(pa.array(numbers).cast(pa.string()), 9, "0"), "")


def grow(size: int, out: Path, *, seed: int = 0, files: int = 1) -> tuple[int, list[str]]:
    """Writes ``out/part-*.parquet`` and ``out/truth.parquet``; returns bytes of text and lines on what they hold."""
    started = time.perf_counter()
    pools = build_pools(real_files())
    ready = time.perf_counter()
    plan = make_plan(pools, size, seed)
    rows = len(plan.original)
    out.mkdir(parents=True, exist_ok=True)
    for stale in out.glob("part-*.parquet"):
        stale.unlink()
    grower = Grower(pools, plan, seed)
    bounds = np.linspace(0, rows, min(files, rows) + 1).astype(int).tolist()
    paths = [out / f"part-{number:02d}.parquet" for number in range(len(bounds) - 1)]
    truths, text_bytes = [], 0
    schema = pa.schema([(name, pa.string()) for name in ("id", "text", "url")])
    for path, (start, stop) in zip(paths, itertools.pairwise(bounds), strict=True):
        with pq.ParquetWriter(path, schema, compression="zstd", use_dictionary=False) as writer:
            for first in range(start, stop, GROUP_ROWS):
                table, truth = grower.rows(first, min(first + GROUP_ROWS, stop))
                writer.write_table(table, row_group_size=GROUP_ROWS)
                text_bytes += int(pc.sum(pc.binary_length(table["text"])).as_py())
                truths.append(truth)
    file_bytes = sum(path.stat().st_size for path in paths)
    truth = pa.concat_tables(truths)
    pq.write_table(truth, out / "truth.parquet")
    near = truth.filter(pc.equal(truth["kind"], "near"))["similarity"].to_numpy()
    exact = len(truth) - len(near)
    lines = [
        f"real text {pools.read_bytes / 1e6:,.1f} MB, of which {len(pools.data) / 1e6:,.1f} MB stand in {len(pools.names)} pools; "
        f"{pools.cut:,} of {len(pools.lengths):,} documents are cut to 1/{_LEAST} of their pool",
        f"{rows:,} documents, {text_bytes / 1e6:,.1f} MB of text, {file_bytes / 1e6:,.1f} MB as {len(paths)} zstd Parquet file(s)",
        f"exact copies {exact:,} ({exact / rows:.4%})",
        f"near copies {len(near):,} ({len(near) / rows:.4%}), J {near.min():.3f} to {near.max():.3f}",
        *(
            f"near copies with J >= {t}: {(near >= t).sum():,} ({(near >= t).mean() * len(near) / rows:.4%})"
            for t in (0.7, 0.8, 0.9)
        ),
    ]
    log.info("pools %.1f s, documents %.1f s", ready - started, time.perf_counter() - ready)
    return text_bytes, lines


def parse_size(text: str) -> int:
    """Bytes of "10MB", "1.1GB" or "5000"."""
    units = {"KB": 10**3, "MB": 10**6, "GB": 10**9}
    number, unit = (text[:-2], units[text[-2:].upper()]) if text[-2:].upper() in units else (text, 1)
    return round(float(number) * unit)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--size", type=parse_size, required=True, help="bytes of text: 10MB, 1GB")
    parser.add_argument("--out", type=Path, required=True, help="folder for part-*.parquet and truth.parquet")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--files", type=int, default=1, help="Parquet files of about equal size")
    parser.add_argument(
        "--verify", action="store_true", help="compare all pairs of documents: 15 s for each 100 MB"
    )
    parser.add_argument("--json", action="store_true", help="print JSON")
    options = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    text_bytes, lines = grow(options.size, options.out, seed=options.seed, files=options.files)
    if options.verify:
        from pairs import verify_corpus

        lines += verify_corpus(options.out)
    print(json.dumps({"text_bytes": text_bytes, "lines": lines}) if options.json else "\n".join(lines))


if __name__ == "__main__":
    main()
