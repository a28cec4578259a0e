"""Every pair of similar documents of a corpus, exactly, and what a tool that removed some did wrong.

Nothing of the library is used here. Words are found by a regular expression, each gets a number from a dictionary
(no hash, no collision), and a shingle is 64 bits mixed from the numbers of five words. Pairs are joined on rare
shingles (Bayardo, Ma & Srikant 2007, "Scaling up all pairs similarity search", doi:10.1145/1242572.1242591): two
sets with J >= t share one of the |A| - ceil(t |A|) + 1 rarest shingles of A, so no pair is missed.

    python tests/benchmarks/pairs.py find PART... --threshold .8 --out PAIRS.parquet
    python tests/benchmarks/pairs.py judge PART... --pairs PAIRS.parquet --kept IDS.parquet

Price: about 15 s for each 100 MB of text, and 1 GB and three times the text of memory.
"""

from __future__ import annotations

import argparse
import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numba import njit

Numbers = npt.NDArray[np.int64]
Hashes = npt.NDArray[np.uint64]
Bits = npt.NDArray[np.uint8]

NGRAM = 5
PAIRS = pa.schema([("a", pa.int64()), ("b", pa.int64()), ("similarity", pa.float64())])

_UNSPACED = (
    "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u2e80-\u312f\u3190-\u9fff\ua9e0-\ua9ff\uaa60-\uaa7f\uf900-\ufaff"
    "\uff66-\uff9f\U0001aff0-\U0001b16f\U00020000-\U0003ffff"
)
_WORD = re.compile(rf"[^\W{_UNSPACED}]+|\w")


def words(text: str) -> list[str]:
    """The words of a text, folded; a character of a script without spaces is a word of its own.

    >>> words("The Café, 中文! ΟΔΟΣ")
    ['the', 'café', '中', '文', 'οδοσ']
    """
    return _WORD.findall(text.replace("İ", "i").lower().replace("ς", "σ"))


def read_columns(paths: Sequence[Path], column: str) -> Iterator[pa.Array]:
    for path in paths:
        for batch in pq.ParquetFile(path).iter_batches(4096, columns=[column]):
            yield batch.column(0)


@dataclass(frozen=True, slots=True)
class Sets:
    """The set of shingles of each document.

    Attributes:
        sizes: ``(documents,)`` of the sets.
        pointers, values: the members that may stand in another set, too; those that surely do not are left out.
        words: ``(documents,)`` how many words it has, or -1 - k for the k-th text without words.
    """

    sizes: Numbers
    pointers: Numbers
    values: Hashes
    words: Numbers


def shingle_sets(paths: Sequence[Path]) -> Sets:
    vocabulary: dict[str, int] = {}
    bare: dict[str, int] = {}
    parts, sizes, counts = [], [], []
    once, twice = np.zeros(1 << 29, np.uint8), np.zeros(1 << 29, np.uint8)  # 2**32 bits each
    for column in read_columns(paths, "text"):
        sets = []
        for text in column.to_pylist():
            found = words(text or "")
            numbers = np.array([vocabulary.setdefault(w, len(vocabulary) + 1) for w in found], np.uint64)
            sets.append(np.unique(_shingles(numbers)) if len(numbers) else np.zeros(0, np.uint64))
            counts.append(len(numbers) or -1 - bare.setdefault(" ".join((text or "").split()), len(bare)))
        sizes.append(np.array([len(members) for members in sets]))
        parts.append(np.concatenate(sets))
        _count(parts[-1], once, twice)
    remaining = [np.zeros(1, np.int64)]
    for number, part in enumerate(parts):
        repeated = _is_repeated(part, twice)
        document = np.repeat(np.arange(len(sizes[number])), sizes[number])
        remaining.append(np.bincount(document[repeated], minlength=len(sizes[number])))
        parts[number] = part[repeated]
    return Sets(
        np.concatenate(sizes), np.cumsum(np.concatenate(remaining)), np.concatenate(parts), np.array(counts)
    )


@njit(cache=True)
def _count(values: Hashes, once: Bits, twice: Bits) -> None:
    for value in values:
        bit = value >> np.uint64(32)
        byte, mask = bit >> np.uint64(3), np.uint8(1) << np.uint8(bit & np.uint64(7))
        twice[byte] |= once[byte] & mask
        once[byte] |= mask


@njit(cache=True)
def _is_repeated(values: Hashes, twice: Bits) -> npt.NDArray[np.bool_]:
    repeated = np.empty(len(values), np.bool_)
    for k in range(len(values)):
        bit = values[k] >> np.uint64(32)
        repeated[k] = (twice[bit >> np.uint64(3)] >> np.uint8(bit & np.uint64(7))) & np.uint8(1)
    return repeated


def _shingles(numbers: Hashes) -> Hashes:
    width = min(NGRAM, len(numbers))
    mixed = np.full(len(numbers) - width + 1, width, np.uint64)
    for k in range(width):
        mixed = _mix(mixed + numbers[k : len(numbers) - width + 1 + k])
    return mixed


def _mix(x: Hashes) -> Hashes:
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))


def find_pairs(sets: Sets, threshold: float) -> pa.Table:
    """All pairs a < b with J >= threshold; texts without words pair with equal ones."""
    unique, inverse, frequency = np.unique(sets.values, return_inverse=True, return_counts=True)
    rank = np.empty(len(unique), np.int64)
    rank[np.argsort(frequency, kind="stable")] = np.arange(len(unique))  # rarest first
    ranked = rank[inverse]
    del inverse, rank, unique
    order = np.argsort(sets.sizes, kind="stable")
    a, b, similarity = _join(sets.pointers, ranked, sets.sizes, order, len(frequency), threshold)
    for number in np.unique(sets.words[sets.words < 0]):
        same = np.flatnonzero(sets.words == number)
        i, j = np.triu_indices(len(same), 1)
        a, b = np.concatenate([a, same[i]]), np.concatenate([b, same[j]])
        similarity = np.concatenate([similarity, np.ones(len(i))])
    pairs = pa.table([np.minimum(a, b), np.maximum(a, b), similarity], schema=PAIRS)
    return pairs.sort_by([("a", "ascending"), ("b", "ascending")])


@njit(cache=True)
def _join(
    pointers: Numbers, ranked: Numbers, sizes: Numbers, order: Numbers, shingles: int, threshold: float
) -> tuple[Numbers, Numbers, npt.NDArray[np.float64]]:
    """Smallest sets first; each looks up its rarest shingles in the lists of the sets before it.

    The shingles that are missing in ``ranked`` are the rarest of all: they stand in one set.
    """
    head = np.full(shingles, -1, np.int64)  # newest entry of a shingle's list
    entry_next, entry_row = [np.int64(0) for _ in range(0)], [np.int64(0) for _ in range(0)]
    seen = np.full(len(order), -1, np.int64)
    left, right = [np.int64(0) for _ in range(0)], [np.int64(0) for _ in range(0)]
    found = [0.0 for _ in range(0)]
    for a in order:
        start, stop, size = pointers[a], pointers[a + 1], sizes[a]
        ranked[start:stop].sort()
        alone = size - (stop - start)
        prefix = start + max(size - np.int64(np.ceil(threshold * size - 1e-9)) + 1 - alone, 0)
        for at in range(start, min(prefix, stop)):
            entry = head[ranked[at]]
            while entry >= 0:
                b = entry_row[entry]
                entry = entry_next[entry]
                if seen[b] == a or sizes[b] < threshold * size - 1e-9:
                    continue
                seen[b] = a
                i, j, both = start, pointers[b], 0
                while i < stop and j < pointers[b + 1]:
                    if ranked[i] == ranked[j]:
                        both += 1
                        i += 1
                        j += 1
                    elif ranked[i] < ranked[j]:
                        i += 1
                    else:
                        j += 1
                similarity = both / (size + sizes[b] - both)
                if similarity >= threshold:
                    left.append(a)
                    right.append(b)
                    found.append(similarity)
        for at in range(start, min(prefix, stop)):
            entry_row.append(a)
            entry_next.append(head[ranked[at]])
            head[ranked[at]] = len(entry_row) - 1
    return np.array(left), np.array(right), np.array(found)


def redundant(pairs: pa.Table, members: npt.NDArray[np.bool_]) -> int:
    """Members less the connected components among them: what could go if pairs were all that counted."""
    parent = np.arange(len(members))
    return int(_unite(parent, pairs["a"].to_numpy(), pairs["b"].to_numpy(), members))


@njit(cache=True)
def _unite(parent: Numbers, a: Numbers, b: Numbers, members: npt.NDArray[np.bool_]) -> int:
    united = 0
    for k in range(len(a)):
        if members[a[k]] and members[b[k]]:
            x, y = a[k], b[k]
            while parent[x] != x:
                parent[x] = parent[parent[x]]
                x = parent[x]
            while parent[y] != y:
                parent[y] = parent[parent[y]]
                y = parent[y]
            if x != y:
                parent[y] = x
                united += 1
    return united


def leader_removals(pairs: pa.Table, documents: int) -> int:
    """How many documents go when each is compared with all kept ones before it, in the order of the rows."""
    a, b = pairs["a"].to_numpy(), pairs["b"].to_numpy()
    kept = np.ones(documents, np.bool_)
    for k in np.lexsort((a, b)):  # a < b: the earlier document of the pair is decided when the later one is
        if kept[a[k]]:
            kept[b[k]] = False
    return int((~kept).sum())


def judge(
    pairs: pa.Table, counts: Numbers, kept: npt.NDArray[np.bool_], threshold: float
) -> dict[str, float]:
    """What a tool that kept these documents did wrong.

    Args:
        pairs: from some similarity below the threshold.
        counts: words of each document.

    Returns:
        documents, removed;
        wrong: removed documents without a kept partner at the threshold;
        wrong_far: those without a kept partner even in ``pairs``;
        wrong_short: those of fewer than five words;
        redundant: see there; recall: 1 - redundancy among the kept / redundancy.
    """

    def without_partner(pairs: pa.Table) -> npt.NDArray[np.bool_]:
        a, b = pairs["a"].to_numpy(), pairs["b"].to_numpy()
        alone = ~kept
        alone[a[kept[b]]] = False
        alone[b[kept[a]]] = False
        return alone

    similar = pairs.filter(pc.greater_equal(pairs["similarity"], threshold))
    wrong = without_partner(similar)
    everything = redundant(similar, np.ones(len(kept), np.bool_))
    return {
        "documents": len(kept),
        "removed": int((~kept).sum()),
        "wrong": int(wrong.sum()),
        "wrong_far": int(without_partner(pairs).sum()),
        "wrong_short": int((wrong & (counts < NGRAM)).sum()),
        "redundant": everything,
        "recall": 1 - redundant(similar, kept) / max(everything, 1),
    }


def verify_corpus(folder: Path) -> list[str]:
    """Compares ``truth.parquet`` with all pairs of the corpus; returns lines that say what was found."""
    parts = sorted(folder.glob("part-*.parquet"))
    ids = {name: row for row, name in enumerate(i for c in read_columns(parts, "id") for i in c.to_pylist())}
    truth = pq.read_table(folder / "truth.parquet")
    family = np.arange(len(ids))
    copies = np.array([ids[i] for i in truth["id"].to_pylist()])
    family[copies] = [ids[i] for i in truth["original"].to_pylist()]
    pairs = find_pairs(shingle_sets(parts), 0.5)
    a, b, found = (pairs[name].to_numpy() for name in PAIRS.names)
    lines = []
    by_pair = {(x, y): s for x, y, s in zip(a.tolist(), b.tolist(), found.tolist(), strict=True)}
    said = truth["similarity"].to_numpy()
    expected = [(min(c, f), max(c, f)) for c, f in zip(copies.tolist(), family[copies].tolist(), strict=True)]
    differ = sum(
        abs(by_pair.get(p, 0.0) - s) > 1e-9 for p, s in zip(expected, said.tolist(), strict=True) if s >= 0.5
    )
    lines.append(f"all pairs: {differ:,} of {len(truth):,} copies have another J than truth.parquet says")
    chance = family[a] != family[b]
    for threshold in (0.5, 0.7, 0.8, 0.9):
        above = pa.array(found >= threshold)
        subset = pairs.filter(above)
        count = redundant(subset, np.ones(len(ids), np.bool_))
        greedy = leader_removals(subset, len(ids))
        by_chance = int((chance & (found >= threshold)).sum())
        lines.append(
            f"J >= {threshold}: {len(subset):,} pairs, {by_chance:,} of them by chance; {count:,} redundant documents "
            f"({count / len(ids):.4%}), {greedy:,} removed by comparing each with all kept ones before it"
        )
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("command", choices=("find", "judge"))
    parser.add_argument("parts", type=Path, nargs="+")
    parser.add_argument("--threshold", type=float, default=0.8)
    parser.add_argument(
        "--out", type=Path, help="find: the pairs from J = 0.5, and the numbers of words beside them"
    )
    parser.add_argument("--pairs", type=Path, help="judge: what find wrote")
    parser.add_argument(
        "--kept", type=Path, help="judge: Parquet file or folder with the kept documents' ids"
    )
    options = parser.parse_args()
    if options.command == "find":
        sets = shingle_sets(options.parts)
        pq.write_table(pa.table({"words": sets.words}), options.out.with_suffix(".words"))
        pq.write_table(find_pairs(sets, min(0.5, options.threshold)), options.out)
        return
    kept_files = sorted(options.kept.rglob("*.parquet")) if options.kept.is_dir() else [options.kept]
    kept_ids = pa.chunked_array(list(read_columns(kept_files, "id")), pa.string())
    ids = pa.chunked_array(list(read_columns(options.parts, "id")), pa.string())
    kept = pc.is_in(ids, value_set=kept_ids).to_numpy()
    counts = pq.read_table(options.pairs.with_suffix(".words"))["words"].to_numpy()
    print(json.dumps(judge(pq.read_table(options.pairs), counts, kept, options.threshold)))


if __name__ == "__main__":
    main()
