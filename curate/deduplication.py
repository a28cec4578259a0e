"""Deduplicate a table in memory: which rows repeat which, verified, and the table without them.

    dedup            the table without its duplicates, a decision for each that goes, and the curve of the search
    mark_duplicates  the same table with two more columns, duplicate_of and similarity
    exact_duplicates likewise, for rows that are equal in one column

    texts ── fingerprints, sketch ──▶ keys ── group ──▶ buckets ── components ──▶ batches ── leaders ──▶ pairs

No row is removed for sharing a bucket: it is compared with the rows that stay (``curate.verify``), in a total
order: a higher priority first, then the smaller id, or the earlier row where there are no ids.

Price: besides the table some 150 bytes a row and 200 MB for the shingles of one batch. The texts are read
where they are, in slices; nothing is copied but those of candidates, half a megabyte at a time.
"""

from __future__ import annotations

import contextlib
import dataclasses
import numbers
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Generic, Literal, TypeVar

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from curate import minhash
from curate.config import nearest
from curate.minhash import Bands, Keys, Memberships, Sketch
from curate.schema import DECISIONS, table_of
from curate.shards import GROUP_ROWS, ShardWriter
from curate.verify import PAIR_SCHEMA, Exact, Similarity, components, leaders
from filters.column import as_arrow, as_numpy, as_strings, text_sizes
from filters.errors import ConfigError, DataError
from filters.fingerprint import fingerprints

Data = TypeVar("Data")  # pyarrow.Table, polars.DataFrame or datasets.Dataset

Method = Literal["exact", "minhash"]
HashFamily = Literal["words", "datasketch"]

TEXT_RULE = "exact.content_hash"

BATCH_BYTES = 64 << 20
"""Text of the candidates that are verified at a time."""

_SMALL_CHUNK = 1 << 16


@dataclass(frozen=True, slots=True)
class Search:
    """What counts as a duplicate, and how candidates are found.

    Attributes:
        threshold: least similarity of a near duplicate, in (0, 1].
        ngram: words in a shingle, 1 to 32.
        method: ``minhash`` finds copies and near duplicates, ``exact`` copies only.
        recall: the bands propose a pair at the threshold with at least this probability.
        permutations: most hash functions; None for as many as the threshold needs.
        similarity: ``jaccard``, or ``containment`` of the removed document in the one that stays.
        near_miss: least similarity of pairs that are written down although both stay.
        hash_family: ``words``, or ``datasketch`` to let that library sign, as a check: about 200 times slower.
        seed: of the permutations.
    """

    threshold: float = 0.8
    ngram: int = 5
    method: Method = "minhash"
    recall: float = 0.985
    permutations: int | None = None
    similarity: Similarity = "jaccard"
    near_miss: float | None = None
    hash_family: HashFamily = "words"
    seed: int = minhash.SEED

    def __post_init__(self) -> None:
        faults = [
            f"{name}: found {getattr(self, name)!r}; allowed: {', '.join(allowed)}."
            for name, allowed in (
                ("method", ("exact", "minhash")),
                ("similarity", ("jaccard", "containment")),
                ("hash_family", ("words", "datasketch")),
            )
            if getattr(self, name) not in allowed
        ]
        if not (_is_real(self.threshold) and 0 < self.threshold <= 1):
            faults.append(f"threshold: found {self.threshold!r}; allowed: a number above 0, at most 1.")
        elif self.near_miss is not None and not (_is_real(self.near_miss) and 0 < self.near_miss < self.threshold):  # fmt: skip
            faults.append(f"near_miss: found {self.near_miss!r}; allowed: a number above 0, below the threshold ({self.threshold}).")  # fmt: skip
        if not (_is_whole(self.ngram) and 1 <= self.ngram <= 32):
            faults.append(f"ngram: found {self.ngram!r}; allowed: 1 to 32.")
        if not (_is_real(self.recall) and 0 < self.recall < 1):
            faults.append(f"recall: found {self.recall!r}; allowed: a number between 0 and 1.")
        if self.permutations is not None and not (_is_whole(self.permutations) and self.permutations >= 1):
            faults.append(f"permutations: found {self.permutations!r}; allowed: 1 and more, or None.")
        if faults:
            raise ConfigError(faults)

    @property
    def bands(self) -> Bands | None:
        """How signatures are cut; None where only copies are looked for."""
        return (
            None
            if self.method == "exact"
            else minhash.choose_bands(self.threshold, self.permutations, self.recall)
        )


def _is_real(value: object) -> bool:
    return isinstance(value, numbers.Real) and not isinstance(value, bool)


def _is_whole(value: object) -> bool:
    return isinstance(value, numbers.Integral) and not isinstance(value, bool)


@dataclass(frozen=True, slots=True)
class Prepared:
    """Documents as the search sees them.

    Attributes:
        texts: a chunked string column.
        exact: properties in which equal documents are duplicates.
        sketch: keys of the near duplicates' search, or None.
    """

    texts: pa.ChunkedArray
    exact: tuple[Exact, ...]
    sketch: Sketch | None


@dataclass(frozen=True, slots=True)
class Settled:
    """Documents that an index holds and that may match: they stay, and rank before all others, in row order.

    Attributes:
        texts: a chunked string column.
        exact: the same properties as those of the new documents, in the same order.
        keys, rows: ``(entries,)``: the search keys (near and exact ones) of the rows.
    """

    texts: pa.ChunkedArray
    exact: tuple[Exact, ...]
    keys: Keys
    rows: npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Found:
    """What a search found.

    Attributes:
        pairs: see ``curate.verify.PAIR_SCHEMA``; settled documents are numbered after the new ones.
        compared, verified, capped_buckets, largest_bucket: see ``curate.verify.Verification``.
        candidates: documents that shared a key with another one.
    """

    pairs: pa.Table
    compared: int
    verified: int
    capped_buckets: int
    largest_bucket: int
    candidates: int


@dataclass(frozen=True, slots=True)
class Deduplicated(Generic[Data]):
    """A table without its duplicates, and why each of them went.

    Attributes:
        data: the table as it was given.
        is_kept: ``(rows,) bool``, the rows that stay.
        decisions: one row for each duplicate (action ``drop``) and, if asked for, each near miss: id, rule, the exact
            similarity, and id of the row that stays for it (``curate.schema.DECISIONS``).
        curve: at which similarity a pair is compared with which probability; empty for method ``exact``.
        found: numbers of the search.
    """

    data: Data
    is_kept: npt.NDArray[np.bool_]
    decisions: pa.Table
    curve: list[tuple[float, float]] = field(default_factory=list)
    found: Found | None = None

    def __repr__(self) -> str:
        drops = int((~self.is_kept).sum())
        return f"Deduplicated({len(self.is_kept):,} rows: {len(self.is_kept) - drops:,} kept, {drops:,} duplicates)"

    @property
    def kept(self) -> Data:
        """The rows that stay, in their order, as the type and with the columns of the data."""
        return take_rows(self.data, self.is_kept)

    def write_kept(self, path: str | Path) -> int:
        """Write the rows that stay to a Parquet file (zstd, level 1) and return how many they are.

        Without a copy of the table in memory: some thousand rows are taken at a time.
        """
        first = 0
        with contextlib.ExitStack() as files:
            writer = None
            for rows in _slices(self.data):
                writer = writer or files.enter_context(ShardWriter(Path(path), rows.schema))
                writer.write(take_rows(rows, self.is_kept[first : first + len(rows)]))
                first += len(rows)
        return int(self.is_kept.sum())


def dedup(
    data: Data,
    *,
    text: str = "text",
    id: str | None = None,
    threshold: float = 0.8,
    ngram: int = 5,
    method: Method = "minhash",
    by: Sequence[str] = (),
    priority: str | None = None,
    near_miss: float | None = None,
    similarity: Similarity = "jaccard",
    recall: float = 0.985,
    permutations: int | None = None,
    hash_family: HashFamily = "words",
) -> Deduplicated[Data]:
    """Remove the rows whose text repeats that of a row that stays: copies and near duplicates.

    Every removed row has a partner that stays, with exactly the similarity that its decision states. A text of fewer
    words than ``ngram`` is compared as a whole, one without words only exactly; a null is compared with nothing.

    Args:
        data: a ``pyarrow.Table``, a ``polars.DataFrame`` or a ``datasets.Dataset``.
        text: the column of texts.
        id: a column of distinct ids; without one the row number is the id.
        threshold: least Jaccard similarity, in (0, 1], of the sets of the two texts' word n-grams.
        ngram: words in such an n-gram, 1 to 32. Characters are words in scripts that are written without spaces.
        method: ``minhash``, or ``exact`` for copies only (the same text but for white space, after NFC).
        by: further columns of which equal values make duplicates, for instance ``["url"]``; nulls and empty
            texts equal nothing.
        priority: a column of numbers, compared as float64; of duplicates that with the highest stays, and one
            without a number last. Then the smallest id stays, or the first row where there are no ids.
        near_miss: pairs from this similarity up to the threshold are written down, and both stay.
        similarity: ``jaccard``, or ``containment``: the share of the removed text's n-grams that the other one has.
            Candidates are found by their Jaccard similarity all the same, and the recall is that of the curve: a text
            that is one half of another one has J = 0.5, and is seldom found.
        recall: a pair at the threshold is compared with at least this probability; see the result's ``curve``.
        permutations: most hash functions for that; None for as many as needed.
        hash_family: ``datasketch`` signs with that library, as a check of ours.

    Raises:
        ConfigError: an argument out of range, or a column that does not exist.
        DataError: a column of another type, ids that repeat or are missing.

    >>> table = pa.table({"text": ["One two three four five six.", "Other words", "one two three, four five six", "?"]})
    >>> found = dedup(table)
    >>> found.kept["text"].to_pylist()
    ['One two three four five six.', 'Other words', '?']
    >>> found.decisions.select(["id", "rule", "partner_id", "similarity"]).to_pylist()
    [{'id': '2', 'rule': 'minhash.jaccard', 'partner_id': '0', 'similarity': 1.0}]
    """
    search = Search(threshold, ngram, method, recall, permutations, similarity, near_miss, hash_family)
    columns = Columns(text, id, (by,) if isinstance(by, str) else tuple(by), priority)
    table = columns.of(data)
    found = find(prepare(table, columns, search), rank(table, columns), search)
    drops, decisions = decisions_of(found.pairs, keys_of(table, columns), search)
    is_kept = np.ones(len(table), np.bool_)
    is_kept[drops] = False
    bands = search.bands
    return Deduplicated(data, is_kept, decisions, minhash.curve(bands) if bands else [], found)


def mark_duplicates(
    data: Data,
    *,
    text: str = "text",
    id: str | None = None,
    threshold: float = 0.8,
    ngram: int = 5,
    method: Method = "minhash",
    by: Sequence[str] = (),
    priority: str | None = None,
    similarity: Similarity = "jaccard",
) -> Data:
    """The data with two more columns: ``duplicate_of`` and ``similarity``, null for the rows that stay.

    Arguments and errors are those of ``dedup``. ``duplicate_of`` has the type of the ids, or int64 for row numbers.

    >>> table = pa.table({"name": ["a", "b"], "text": ["some words", "Some words!"]})
    >>> mark_duplicates(table, id="name").select(["name", "duplicate_of", "similarity"]).to_pylist()
    [{'name': 'a', 'duplicate_of': None, 'similarity': None}, {'name': 'b', 'duplicate_of': 'a', 'similarity': 1.0}]
    """
    search = Search(threshold, ngram, method, similarity=similarity)
    columns = Columns(text, id, (by,) if isinstance(by, str) else tuple(by), priority)
    table = columns.of(data)
    found = find(prepare(table, columns, search), rank(table, columns), search)
    return _marked(data, table, columns, found.pairs)


def exact_duplicates(
    data: Data, *, by: str = "text", id: str | None = None, priority: str | None = None
) -> Data:
    """The data with ``duplicate_of`` and ``similarity`` (1.0) for rows that are equal in one column.

    Args:
        data: see ``dedup``.
        by: the column: texts, which are equal when they differ in white space only (after NFC), or anything that
            can be written as text. Nulls equal nothing.
        id, priority: see ``dedup``.

    >>> table = pa.table({"url": ["x.org", "y.org", "x.org"]})
    >>> exact_duplicates(table, by="url")["duplicate_of"].to_pylist()
    [None, None, 0]
    """
    columns = Columns(None, id, (by,), priority)
    table = columns.of(data)
    search = Search(method="exact")
    found = find(prepare(table, columns, search), rank(table, columns), search)
    return _marked(data, table, columns, found.pairs)


# ---------------------------------------------------------------------------------------------------------
# The search
# ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Columns:
    """Which columns of the data are read."""

    text: str | None
    id: str | None = None
    by: tuple[str, ...] = ()
    priority: str | None = None

    def of(self, data: Any) -> pa.Table:
        """These columns of the data, checked, as Arrow.

        Raises:
            ConfigError: a column that does not exist, or data of another kind.
            DataError: a column of another type, ids that repeat or are missing.
        """
        names = [n for n in dict.fromkeys((self.text, self.id, *self.by, self.priority)) if n is not None]
        table = _as_table(data, names)
        if self.text is not None:
            _check_type(table, self.text, "text", _is_text, "texts (string)")
        for name in self.by:
            _check_type(table, name, "by", _has_text, "texts, numbers, booleans or dates")
        if self.priority is not None:
            _check_type(table, self.priority, "priority", _is_number, "numbers")
        if self.id is not None:
            _check_type(table, self.id, "id", _has_text, "texts, numbers or dates")
            _check_ids(table[self.id], self.id)
        return table


def prepare(table: pa.Table, columns: Columns, search: Search) -> Prepared:
    """Fingerprints and keys of the rows of a table, chunk by chunk."""
    texts = table[columns.text] if columns.text is not None else pa.chunked_array([pa.nulls(len(table), pa.large_string())])  # fmt: skip
    exact = []
    if columns.text is not None:
        exact.append(dataclasses.replace(_exact(TEXT_RULE, texts), same_text=True))
    beside_text = (
        columns.text is not None
    )  # an empty field says as little as a missing one; an empty text is a text
    exact += [_exact(f"exact.{name}", table[name], skip_empty=beside_text) for name in columns.by]
    bands = search.bands
    return Prepared(texts, tuple(exact), None if bands is None else sketch_chunks(texts, bands, search))


def sketch_chunks(texts: pa.ChunkedArray, bands: Bands, search: Search) -> Sketch:
    """``minhash.sketch`` of a chunked column; its chunks are not joined."""
    if search.hash_family == "datasketch":
        from curate.datasketch import sketch_with_datasketch as sign
    else:
        sign = minhash.sketch
    made = [sign(chunk, bands=bands, ngram=search.ngram, seed=search.seed) for chunk in texts.chunks]
    if len(made) == 1:
        return made[0]
    if not made:
        return Sketch(
            np.zeros((0, bands.bands), np.uint64), np.zeros(0, np.bool_), np.zeros((0, 64), np.uint8)
        )
    return Sketch(
        np.concatenate([m.keys for m in made]),
        np.concatenate([m.has_words for m in made]),
        made[0].bits[:0],  # of no use here
    )


def _exact(rule: str, column: pa.ChunkedArray, *, skip_empty: bool = False) -> Exact:
    if not _is_text(column.type):
        column = column.cast(pa.large_string())
    hashes = [fingerprints(chunk) for chunk in column.chunks]
    valid = None if column.null_count == 0 else as_numpy(pc.is_valid(column))
    if skip_empty:
        filled = np.concatenate([np.zeros(0, np.int64), *map(text_sizes, column.chunks)]) > 0
        valid = filled if valid is None else valid & filled
    return Exact(rule, np.concatenate(hashes) if hashes else np.zeros((0, 2), np.uint64), valid)


def rank(table: pa.Table, columns: Columns) -> pa.Table:
    """What decides which of two rows comes first: columns to sort by, ascending, without ties."""
    keys: dict[str, Any] = {}
    if columns.priority is not None:
        number = pc.fill_null(table[columns.priority].cast(pa.float64(), safe=False), float("-inf"))
        keys["priority"] = pc.negate(pc.if_else(pc.is_nan(number), float("-inf"), number))
    if columns.id is not None:
        keys["id"] = table[columns.id]
    keys["row"] = as_arrow(np.arange(len(table)))
    return pa.table(keys)


def find(prepared: Prepared, ranking: pa.Table, search: Search, settled: Settled | None = None) -> Found:
    """Verified pairs of the documents, and of these with settled ones.

    Args:
        prepared: the documents.
        ranking: one row a document, columns to sort by, see ``rank``.
        search: what counts as a duplicate.
        settled: documents of an index; they get the numbers after those of the documents.
    """
    rows = len(prepared.texts)
    total = rows + (len(settled.texts) if settled else 0)
    near, exact = _memberships(prepared, settled)
    roots = components(near.bucket, near.row, total)
    roots = components(exact.bucket, exact.row, total, roots=roots)
    candidates = np.unique(np.concatenate([near.row, exact.row]))
    texts, properties = prepared.texts, prepared.exact
    if settled:
        texts = pa.chunked_array([*_large(texts).chunks, *_large(settled.texts).chunks], pa.large_string())
        properties = tuple(_joined(a, b) for a, b in zip(properties, settled.exact, strict=True))
    position = np.full(total, -1, np.int64)  # of the settled first, in row order, then of the others
    position[rows:] = np.arange(total - rows)
    new = candidates[: np.searchsorted(candidates, rows)]
    by_rank = ranking.take(as_arrow(new)).sort_by([(n, "ascending") for n in ranking.column_names])
    position[as_numpy(by_rank["row"])] = np.arange(len(new)) + (total - rows)
    batches = _batches(candidates, roots, texts)
    near_batches, near_order = _split(near, batches.of_row)
    found = []
    for number, members in enumerate(batches.members):
        chosen = near_order[near_batches[number] : near_batches[number + 1]]
        local = np.searchsorted(members, near.row[chosen])
        verified = leaders(
            texts,
            rows_of_texts=members,
            order=np.argsort(position[members]),
            passing=np.ones(len(members), np.bool_),
            buckets=Memberships(near.bucket[chosen], local),
            exact=[
                dataclasses.replace(
                    e, hashes=e.hashes[members], valid=None if e.valid is None else e.valid[members]
                )
                for e in properties
            ],
            settled=members >= rows,
            threshold=search.threshold,
            ngram=search.ngram,
            near_miss=search.near_miss,
            similarity=search.similarity,
            chunk_bytes=2 * BATCH_BYTES,  # a batch ends with a whole component
        )
        pairs = verified.pairs
        for column in ("row", "partner"):
            numbers = as_arrow(members[as_numpy(pairs[column])])
            pairs = pairs.set_column(pairs.column_names.index(column), column, numbers)
        found.append((pairs, verified))
    pairs = pa.concat_tables([p for p, _ in found]) if found else PAIR_SCHEMA.empty_table()
    return Found(
        pairs.sort_by("row"),
        sum(v.compared for _, v in found),
        sum(v.verified for _, v in found),
        sum(v.capped_buckets for _, v in found),
        max((v.largest_bucket for _, v in found), default=0),
        len(candidates),
    )


def _memberships(prepared: Prepared, settled: Settled | None) -> tuple[Memberships, Memberships]:
    """Near and exact buckets; settled documents have the numbers after the others."""
    rows = len(prepared.texts)
    near_keys, near_rows, exact_keys, exact_rows = [], [], [], []
    for kind, property_ in enumerate(prepared.exact):
        chosen = np.arange(rows) if property_.valid is None else np.flatnonzero(property_.valid)
        exact_keys.append(minhash.exact_keys(property_.hashes, kind=kind)[chosen])
        exact_rows.append(chosen)
    if settled:
        is_exact = (settled.keys & np.uint64(1)).astype(bool)
        exact_keys.append(settled.keys[is_exact])
        exact_rows.append(settled.rows[is_exact] + rows)
        near_keys.append(settled.keys[~is_exact])
        near_rows.append(settled.rows[~is_exact] + rows)
    exact = minhash.group_keys(_joined_arrays(exact_keys, np.uint64), _joined_arrays(exact_rows, np.int64))
    if prepared.sketch is None:
        return Memberships(np.zeros(0, np.int64), np.zeros(0, np.int64)), exact
    if settled is None:
        return minhash.buckets(prepared.sketch.keys, prepared.sketch.has_words), exact
    worded = np.flatnonzero(prepared.sketch.has_words)
    for band in range(prepared.sketch.keys.shape[1]):
        near_keys.append(prepared.sketch.keys[worded, band])
        near_rows.append(worded)
    return minhash.group_keys(
        _joined_arrays(near_keys, np.uint64), _joined_arrays(near_rows, np.int64)
    ), exact


@dataclass(frozen=True, slots=True)
class _Batches:
    """Candidates dealt to batches of whole components, by the first document of each."""

    members: list[npt.NDArray[np.int64]]
    of_row: npt.NDArray[np.int32]


def _batches(
    candidates: npt.NDArray[np.int64], roots: npt.NDArray[np.int64], texts: pa.ChunkedArray
) -> _Batches:
    sizes = [text_sizes(chunk) for chunk in texts.chunks]
    size = _joined_arrays(sizes, np.int64)[candidates]
    component = np.unique(roots[candidates], return_inverse=True)[1]
    weight = np.bincount(component, weights=size, minlength=1).astype(np.int64)
    batch = np.unique(((np.cumsum(weight) - weight) // BATCH_BYTES)[component], return_inverse=True)[1]
    of_row = np.full(len(roots), -1, np.int32)
    of_row[candidates] = batch
    count = int(batch.max()) + 1 if len(batch) else 0
    return _Batches([candidates[batch == b] for b in range(count)], of_row)


def _split(
    memberships: Memberships, of_row: npt.NDArray[np.int32]
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Where each batch begins in a listing of the memberships by batch, and that listing."""
    batch = of_row[memberships.row]
    listed = np.argsort(batch, kind="stable")
    return np.searchsorted(batch[listed], np.arange(int(of_row.max(initial=-1)) + 2)), listed


def _joined(first: Exact, second: Exact) -> Exact:
    valid = None
    if first.valid is not None or second.valid is not None:
        parts = [np.ones(len(e.hashes), np.bool_) if e.valid is None else e.valid for e in (first, second)]
        valid = np.concatenate(parts)
    return dataclasses.replace(first, hashes=np.concatenate([first.hashes, second.hashes]), valid=valid)


def _joined_arrays(arrays: Sequence[npt.NDArray], dtype: type) -> npt.NDArray:
    return np.concatenate([np.zeros(0, dtype), *arrays]).astype(dtype, copy=False)


def _large(texts: pa.ChunkedArray) -> pa.ChunkedArray:
    return texts.cast(pa.large_string())


# ---------------------------------------------------------------------------------------------------------
# Tables of three kinds
# ---------------------------------------------------------------------------------------------------------


def decisions_of(pairs: pa.Table, keys: pa.Table, search: Search) -> tuple[npt.NDArray[np.int64], pa.Table]:
    """The rows that go, and a decision for each pair.

    Args:
        pairs: of ``find``.
        keys: id and source of the documents, and of the settled ones after them; see ``keys_of``.
        search: what counted as a duplicate.
    """
    own, partner = keys.take(pairs["row"]), keys.take(pairs["partner"])
    duplicate, exact, drop, near_miss = as_strings(["duplicate", "exact", "drop", "near_miss"])
    is_drop = pc.equal(pairs["outcome"], duplicate)
    is_exact = as_numpy(pc.equal(pairs["method"], exact))
    decisions = table_of(
        DECISIONS,
        id=own["id"],
        source=own["source"],
        stage=pairs["method"],
        rule=pairs["rule"],
        action=pc.if_else(is_drop, drop, near_miss),
        value=pairs["similarity"],
        bound=as_arrow(np.where(is_exact, 1.0, search.threshold)),
        partner_id=partner["id"],
        partner_source=partner["source"],
        similarity=pairs["similarity"],
    )
    return as_numpy(pairs["row"].filter(is_drop)), decisions


def keys_of(table: pa.Table, columns: Columns, source: str = "") -> pa.Table:
    """Id and source of the rows, as decisions name them: the row number where there is no column of ids."""
    ids = as_arrow(np.arange(len(table))) if columns.id is None else table[columns.id]
    return pa.table({"id": ids.cast(pa.string()), "source": pa.repeat(as_strings([source])[0], len(table))})


def take_rows(data: Any, is_kept: npt.NDArray[np.bool_]) -> Any:
    """The rows of a table for which ``is_kept`` is true, as a table of the same kind."""
    if isinstance(data, pa.Table):
        if is_kept.all():
            return data
        try:
            return data.filter(as_arrow(is_kept))
        except pa.ArrowNotImplementedError:  # a view, as of version 26
            edges = np.flatnonzero(np.diff(is_kept, prepend=False, append=False))
            runs = [data.slice(a, b - a) for a, b in edges.reshape(-1, 2).tolist()]
            return pa.concat_tables([data.slice(0, 0), *runs])
    if _is_polars(data):
        return data.filter(is_kept)
    from curate.huggingface import select_rows

    return select_rows(data, np.flatnonzero(is_kept))


def _slices(data: Any) -> Iterator[pa.Table]:
    """The data as Arrow, some thousand rows at a time; at least one table, for its schema."""
    if _is_polars(data):
        yield from (frame.to_arrow() for frame in (data.iter_slices(GROUP_ROWS) if len(data) else [data]))
        return
    if not isinstance(data, pa.Table):
        from curate.huggingface import table_of_dataset

        data = table_of_dataset(data)
    yield from (data.slice(start, GROUP_ROWS) for start in range(0, max(1, len(data)), GROUP_ROWS))


def _marked(data: Any, table: pa.Table, columns: Columns, pairs: pa.Table) -> Any:
    """The data with duplicate_of and similarity."""
    pairs = pairs.filter(pc.equal(pairs["outcome"], "duplicate"))
    place = np.full(len(table), -1, np.int64)
    place[as_numpy(pairs["row"])] = np.arange(pairs.num_rows)
    at = pa.array(place, mask=place < 0)
    ids = as_arrow(np.arange(len(table))) if columns.id is None else table[columns.id]
    new = {"duplicate_of": ids.take(pairs["partner"]).take(at), "similarity": pairs["similarity"].take(at)}
    if isinstance(data, pa.Table):
        if columns.id is not None and pa.types.is_string_view(data.schema.field(columns.id).type):
            new["duplicate_of"] = new["duplicate_of"].cast(pa.string_view())
        for name, column in new.items():
            data = _without(data, name).append_column(name, column)
        return data
    if _is_polars(data):
        import polars as pl

        return data.with_columns([pl.Series(name, column) for name, column in new.items()])
    from curate.huggingface import with_columns

    return with_columns(data, new)


def _without(table: pa.Table, name: str) -> pa.Table:
    return table.drop_columns([name]) if name in table.column_names else table


def _is_polars(data: Any) -> bool:
    return type(data).__module__.split(".")[0] == "polars" and type(data).__name__ == "DataFrame"


def _as_table(data: Any, names: Sequence[str]) -> pa.Table:
    """Some columns of the data as Arrow."""
    if isinstance(data, pa.Table):
        present, select = data.column_names, lambda: data.select(names)
    elif _is_polars(data):
        present, select = data.columns, lambda: data.select(names).to_arrow()
    else:
        from curate.huggingface import is_dataset, table_of_dataset

        if not is_dataset(data):
            raise ConfigError(
                f"data: found {type(data).__module__}.{type(data).__name__}; allowed: pyarrow.Table, polars.DataFrame, "
                "datasets.Dataset. Files are deduplicated by the command 'curate dedup'."
            )
        present, select = data.column_names, lambda: table_of_dataset(data).select(names)
    faults = [
        f"no column is called '{name}'{nearest(name, present) or '.'} Columns: {', '.join(present)}."
        for name in names
        if name not in present
    ]
    faults += [
        f"{present.count(name)} columns are called '{name}'; allowed: one. Rename the others."
        for name in names
        if present.count(name) > 1
    ]
    if faults:
        raise ConfigError(faults)
    table = select()
    return pa.table({name: _plain(table[name]) for name in names}) if names else table


def _plain(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """A column without the encodings that Arrow cannot sort or compare: dictionaries, views, and nulls of no type.

    Chunks of a few rows are joined: each costs about as much as 50 kB of text.
    """
    if pa.types.is_dictionary(column.type):
        column = column.cast(column.type.value_type)
    if pa.types.is_string_view(column.type) or pa.types.is_null(column.type):
        column = column.cast(pa.large_string())
    if column.num_chunks > 1 and column.nbytes < column.num_chunks * _SMALL_CHUNK:
        whole = column.cast(pa.large_string()) if pa.types.is_string(column.type) else column
        column = pa.chunked_array([whole.combine_chunks()])
    return column


def _is_text(kind: pa.DataType) -> bool:
    return pa.types.is_string(kind) or pa.types.is_large_string(kind)


def _has_text(kind: pa.DataType) -> bool:
    """Whether values can be written as text, different ones differently."""
    is_time = pa.types.is_date(kind) or pa.types.is_time(kind) or pa.types.is_timestamp(kind)
    return _is_text(kind) or _is_number(kind) or pa.types.is_boolean(kind) or is_time


def _is_number(kind: pa.DataType) -> bool:
    return pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind)


def _check_type(
    table: pa.Table, column: str, argument: str, is_right: Callable[[pa.DataType], bool], allowed: str
) -> None:
    kind = table.schema.field(column).type
    is_empty = table[column].null_count == len(table) and pa.types.is_large_string(kind)  # was of type null
    if not is_right(kind) and not is_empty:
        raise DataError(f"{argument}: the column '{column}' holds {kind}; allowed: {allowed}.")


def _check_ids(ids: pa.ChunkedArray, column: str) -> None:
    if ids.null_count:
        row = pc.index(pc.is_null(ids), True).as_py()
        raise DataError(
            f"id: the column '{column}' is null in {ids.null_count} rows, first in row {row}; every row needs an id. "
            "Fill them, or leave id out: then the row number is the id."
        )
    if pc.count_distinct(ids).as_py() == len(ids):
        return
    counts = ids.value_counts()
    repeated = counts.filter(pc.greater(counts.field("counts"), 1))
    first = repeated[0]["values"]
    rows = np.flatnonzero(pc.is_in(ids, value_set=pa.array([first.as_py()], ids.type)).to_numpy())[:2].tolist()  # fmt: skip
    raise DataError(
        f"id: {len(repeated)} values of the column '{column}' repeat, first {first.as_py()!r} in rows {rows[0]} and "
        f"{rows[1]}; ids must be distinct. Give another column, or leave id out: then the row number is the id."
    )
