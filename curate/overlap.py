"""Decontamination: which documents share a run of words with the items of an evaluation set.

    item      one text of an evaluation set: a question, a passage, an answer
    n-gram    ``ngram`` consecutive words of an item (13); an item of 8 to 12 words is one n-gram, all of it;
              a shorter one is not searched for, since such phrases occur everywhere
    overlap   a document contains at least one n-gram of an item

Words are those of ``filters.words``: lower case, without punctuation and white space. The rule, any hit of 13
words, is that of GPT-3 (Brown et al. 2020, arXiv:2005.14165, appendix C), which takes one n for each
evaluation set, between 8 and 13, from the lengths of its items. Two deviations: here n is 13 for every item
that is long enough, so that one short item does not make a whole set's n-grams short; and n-grams that many
training documents contain are not exempted. Datatrove finds any 12 words, PaLM asks for 70 % of an item's
8-grams.

    documents ── rolled hashes ──▶ bit filter ──▶ sorted hashes of all items ──▶ words compared, in Python

The kernel reads every word and finds hashes; only documents with a hit become Python strings, and a hit
counts only if the words are equal. Price: about 40 bytes of memory for each n-gram of the items; time
proportional to the text for each length of n-gram that the items have (one to six).
"""

from __future__ import annotations

import collections
import itertools
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from filters import words
from filters.column import Offsets, Texts, as_large_string
from filters.compiling import njit, vectorize
from filters.errors import ConfigError, DataError

NGRAM = 13
SHORTEST = 8  # words of the shortest item that is searched for: the lower end of GPT-3's range for n

ITEM_SCHEMA = pa.schema([("id", pa.string()), ("source", pa.string()), ("text", pa.large_string())])
OVERLAP_SCHEMA = pa.schema(
    [
        ("row", pa.int64()),
        ("item_id", pa.string()),
        ("item_source", pa.string()),
        ("span_start", pa.int64()),
        ("span_end", pa.int64()),
        ("ngrams", pa.int64()),
    ]
)

_FILTER_BITS = (
    16  # for each hash, at least: about one word in 100 that is in no item is looked up for nothing
)
_FORMAT = b"overlap-index-1"


@dataclass(frozen=True, slots=True, eq=False)
class Grams:
    """The n-grams of one length, by hash. A posting is an item that has the n-gram.

    Attributes:
        length: words of each.
        hashes: ``(n-grams,) uint64``, ascending, each once.
        pointers: ``(n-grams + 1,) int64``: n-gram g has the postings pointers[g] to pointers[g + 1].
        item: ``(postings,) int64`` rows of items.
        word: ``(postings,) int64`` at which of the item's words the n-gram begins.
        bits: ``(a power of two,) uint64``: a Bloom filter of one word and three bits for each hash, so that
            most words of a document cost one access to memory.
    """

    length: int
    hashes: words.Hashes
    pointers: Offsets
    item: npt.NDArray[np.int64]
    word: npt.NDArray[np.int64]
    bits: words.Hashes

    @classmethod
    def sort(
        cls, length: int, hashes: words.Hashes, item: npt.NDArray[np.int64], word: npt.NDArray[np.int64]
    ) -> Grams:
        """From one entry for each n-gram of each item, in any order."""
        order = np.lexsort((word, item, hashes))
        hashes, item, word = hashes[order], item[order], word[order]
        first = np.ones(len(hashes), np.bool_)  # of an n-gram that an item repeats, its first place
        first[1:] = (hashes[1:] != hashes[:-1]) | (item[1:] != item[:-1])
        hashes, item, word = hashes[first], item[first], word[first]
        distinct, starts = np.unique(hashes, return_index=True)
        bits = np.zeros(1 << (len(distinct) * _FILTER_BITS // 64).bit_length(), np.uint64)
        np.bitwise_or.at(bits, distinct & np.uint64(len(bits) - 1), _pattern(distinct))
        return cls(length, distinct, np.append(starts, len(hashes)).astype(np.int64), item, word, bits)


@dataclass(frozen=True, slots=True, eq=False)
class Index:
    """The n-grams of evaluation items, ready to be looked up; made by ``build`` or ``load``.

    Attributes:
        items: ``ITEM_SCHEMA``: every item, searchable or not.
        ngram: words of an n-gram of a long item.
        unsearchable: how many items of each source are too short; sources without such are left out.
        grams: by length: those of short items, and those of ``ngram`` words. Few items are short, so their
            filters are small and fast.
    """

    items: pa.Table
    ngram: int
    unsearchable: dict[str, int]
    grams: tuple[Grams, ...]

    @classmethod
    def build(cls, items: pa.Table, *, ngram: int = NGRAM) -> Index:
        """Index of a table with columns id, source (the evaluation set's name) and text; others are left out.

        >>> items = pa.table({"id": ["1", "2"], "source": ["quiz", "quiz"], "text": [
        ...     "Which river flows through both Vienna and Budapest?", "Yes or no?"]})
        >>> index = Index.build(items)
        >>> [(grams.length, len(grams.hashes)) for grams in index.grams], index.unsearchable
        ([(8, 1)], {'quiz': 1})
        """
        if not SHORTEST <= ngram <= words.LONGEST_NGRAM:
            raise ConfigError(
                f"overlap: ngram is {ngram}; allowed are {SHORTEST} to {words.LONGEST_NGRAM}, 13 is usual. Fewer "
                "words find phrases that everybody uses"
            )
        missing = [name for name in ITEM_SCHEMA.names if name not in items.column_names]
        if missing:
            raise DataError(
                f"overlap: evaluation items have the columns {items.column_names}, but no {' and no '.join(missing)}"
            )
        items = items.select(ITEM_SCHEMA.names).cast(ITEM_SCHEMA)
        counts = words.count_words(items["text"])
        short = items["source"].filter(pa.array(counts < SHORTEST)).to_pylist()
        pointers, values = words.shingles(items["text"], ngram=ngram)
        item = np.repeat(np.arange(len(items), dtype=np.int64), np.diff(pointers))
        word = np.arange(len(values), dtype=np.int64) - pointers[item]
        length = np.minimum(counts, ngram)[item]
        lengths = np.unique(length[length >= SHORTEST]).tolist()
        return cls(
            items=items,
            ngram=ngram,
            unsearchable=dict(sorted(collections.Counter(short).items())),
            grams=tuple(
                Grams.sort(n, values[length == n], item[length == n], word[length == n]) for n in lengths
            ),
        )

    def save(self, path: Path) -> None:
        """Writes the items to one Arrow file, for workers; ``load`` indexes them again, which is fast."""
        described = self.items.replace_schema_metadata(
            {b"format": _FORMAT, b"overlap": json.dumps({"ngram": self.ngram}).encode()}
        )
        with pa.OSFile(str(path), "wb") as file, pa.ipc.new_file(file, described.schema) as writer:
            writer.write_table(described)

    @classmethod
    def load(cls, path: Path) -> Index:
        """The index that ``save`` wrote; its texts stay in the file, which is mapped into memory."""
        with pa.memory_map(str(path)) as file:
            items = pa.ipc.open_file(file).read_all()
        metadata = items.schema.metadata or {}
        if metadata.get(b"format") != _FORMAT:
            found = metadata.get(b"format", b"nothing").decode(errors="replace")
            raise DataError(
                f"{path}: format is {found}; allowed is {_FORMAT.decode()}. Build the index again"
            )
        return cls.build(items, ngram=json.loads(metadata[b"overlap"])["ngram"])


def overlaps(texts: Texts, index: Index) -> pa.Table:
    """Documents that share an n-gram with an item: one row for each such document and item.

    Returns:
        A table of ``OVERLAP_SCHEMA``, rows and then items ascending:
        row: of the document in ``texts``.
        item_id, item_source: of the item.
        span_start, span_end: Unicode characters of the document: its first run of words that is covered by
            n-grams of the item without a gap.
        ngrams: how many different n-grams of the item the document contains.

    >>> index = Index.build(pa.table({"id": ["7"], "source": ["quiz"], "text": [
    ...     "Which river flows through both Vienna and Budapest?"]}))
    >>> texts = pa.array(["Which river flows through Vienna?", "Q: which river flows through both Vienna and Budapest"])
    >>> overlaps(texts, index).to_pylist()
    [{'row': 1, 'item_id': '7', 'item_source': 'quiz', 'span_start': 3, 'span_end': 53, 'ngrams': 1}]
    """
    column = as_large_string(texts)
    item_words: dict[int, list[str]] = {}
    rows: list[int] = []
    items: list[int] = []
    starts: list[int] = []
    ends: list[int] = []
    ngrams: list[int] = []
    for row, hits in _hits(column, index):
        spans = words.split(column[row].as_py())
        document = [word for word, _, _ in spans]
        for item, (length, places) in sorted(_verified(hits, document, index, item_words).items()):
            first = last = places[0][0]
            for place, _ in places[1:]:
                if place > last + length:  # a word lies between the two n-grams
                    break
                last = place
            rows.append(row)
            items.append(item)
            starts.append(spans[first][1])
            ends.append(spans[last + length - 1][2])
            ngrams.append(len({posting for _, posting in places}))
    found = index.items.take(pa.array(items, pa.int64()))
    return pa.table([rows, found["id"], found["source"], starts, ends, ngrams], schema=OVERLAP_SCHEMA)


# The n-grams, (place of the first word in the document, place of the hash in the n-grams) of each hit.
_Hits = list[tuple[Grams, list[tuple[int, int]]]]


def _hits(column: pa.LargeStringArray, index: Index) -> Iterator[tuple[int, _Hits]]:
    """Rows that hold hashes of the index, ascending, and where."""
    for start, pointers, values in words.shingle_batches(column, ngram=1):
        hits: dict[int, _Hits] = {}
        for grams in index.grams:
            found = _find(pointers, values, grams.length, grams.hashes, grams.bits)
            edges = np.flatnonzero(np.diff(found[:, 0], prepend=-1, append=-1)).tolist()
            for first, last in itertools.pairwise(edges):
                places = [(place, gram) for _, place, gram in found[first:last].tolist()]
                hits.setdefault(start + int(found[first, 0]), []).append((grams, places))
        yield from sorted(hits.items(), key=lambda row_hits: row_hits[0])


def _verified(
    hits: _Hits, document: list[str], index: Index, item_words: dict[int, list[str]]
) -> dict[int, tuple[int, list[tuple[int, int]]]]:
    """Items whose words the document has: length of n-gram, and ``(place, posting)``, places ascending."""
    matched: dict[int, tuple[int, list[tuple[int, int]]]] = {}
    for grams, places in hits:
        for place, gram in places:
            hit = document[place : place + grams.length]
            for posting in range(int(grams.pointers[gram]), int(grams.pointers[gram + 1])):
                item, word = int(grams.item[posting]), int(grams.word[posting])
                if item not in item_words:
                    item_words[item] = [word for word, _, _ in words.split(index.items["text"][item].as_py())]
                if item_words[item][word : word + grams.length] == hit:
                    matched.setdefault(item, (grams.length, []))[1].append((place, posting))
    return matched


@vectorize(cache=True)
def _pattern(hashed: np.uint64) -> np.uint64:
    """The three bits of a hash in its word of the filter; its lowest bits choose the word."""
    one, last = np.uint64(1), np.uint64(63)
    return (
        (one << (hashed >> np.uint64(58)))
        | (one << ((hashed >> np.uint64(52)) & last))
        | (one << ((hashed >> np.uint64(46)) & last))
    )


@njit(nogil=True, cache=True, boundscheck=False)
def _find(
    pointers: Offsets, values: words.Hashes, length: int, hashes: words.Hashes, bits: words.Hashes
) -> npt.NDArray[np.int64]:
    """Where n-grams may be: ``(hits, 3) int64`` of row, first word, place in ``hashes``; ascending."""
    mask = np.uint64(len(bits) - 1)
    leaving = np.uint64(13 * length % 64)  # never 0: length is at most 32
    found = np.empty((64, 3), np.int64)
    count = 0
    for row in range(len(pointers) - 1):
        start, stop = pointers[row], pointers[row + 1]
        rolled = np.uint64(0)
        for k in range(start, stop):  # the shingle's hash as filters.words defines it
            rolled = ((rolled << np.uint64(13)) | (rolled >> np.uint64(51))) ^ values[k]
            if k >= start + length:
                gone = values[k - length]
                rolled ^= (gone << leaving) | (gone >> (np.uint64(64) - leaving))
            if k < start + length - 1:
                continue
            pattern = _pattern(rolled)
            if bits[rolled & mask] & pattern != pattern:
                continue
            gram, beyond = 0, len(hashes)
            while gram < beyond:
                middle = (gram + beyond) >> 1
                if hashes[middle] < rolled:
                    gram = middle + 1
                else:
                    beyond = middle
            if gram == len(hashes) or hashes[gram] != rolled:
                continue
            if count == len(found):
                grown = np.empty((2 * count, 3), np.int64)
                for hit in range(count):
                    grown[hit, 0], grown[hit, 1], grown[hit, 2] = found[hit, 0], found[hit, 1], found[hit, 2]
                found = grown
            found[count, 0], found[count, 1], found[count, 2] = row, k - length + 1 - start, gram
            count += 1
    return found[:count]
