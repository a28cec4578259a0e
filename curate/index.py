"""Deduplicate against everything that was kept before: an index on disk that grows with each table or run.

    build_index    deduplicates a table, and makes an index of what stays
    extend_index   compares a table with itself and with an index, and adds what stays
    query_index    the same comparison; writes nothing

    new documents ── search keys ──▶ look-up ──▶ settled documents ─┐
                                                  new documents ────┴─ verify ──▶ decisions ──▶ a new generation

Documents of the index that share a search key with a new one are *settled*: they rank before all new ones, are never
removed, and are compared exactly with the new ones like any document that stays. So extending an index of A with B finds
what deduplicating A and B together would, where every document of A ranks before those of B.

``open_base`` and ``extend`` do the same for a run of ``curate.pipeline``, whose steps do the comparison: a run is compared
with the generations that there were when it began, and adds one.

What an index is made of and how it is written: ``curate.generations``.
"""

from __future__ import annotations

import dataclasses
import json
import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from curate.engine import Step, place_file, quick_digest, write_atomic
from curate.generations import (
    DOCUMENTS_FILE,
    KEYS_FILE,
    Generation,
    Index,
    IndexRun,
    IndexSettings,
    Keys,
    Rows,
    Written,
    check_is_free,
    commit,
    hash_words,
    holds_index,
    mapped_batches,
    matching_keys,
    name_of,
    open_index,
    read_documents,
    read_index,
    run_path,
    write_documents,
    write_keys,
    writing,
)
from curate.shards import GROUP_ROWS, read_groups
from filters.errors import ConfigError, DataError, RunError

if TYPE_CHECKING:
    from curate.deduplication import (
        Columns,
        Data,
        Deduplicated,
        HashFamily,
        Method,
        Prepared,
        Search,
        Settled,
    )
    from curate.engine import Finished, Run
    from curate.settings import CurateConfig
    from curate.verify import Exact, Similarity

log = logging.getLogger(__name__)

_MAX_LEADERS = 256  # of a bucket, see curate.verify.leaders
_RUN_BYTES = 1 << 30
_PASS_KEYS = 4 << 20
_PIN = "index.json"


# ---------------------------------------------------------------------------------------------------------
# Tables
# ---------------------------------------------------------------------------------------------------------


def build_index(
    data: Data,
    directory: str | Path,
    *,
    text: str = "text",
    id: str | None = None,
    source: str | None = None,
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
    """Deduplicate a table, and make a new index of what stays.

    Args:
        data: a ``pyarrow.Table``, a ``polars.DataFrame`` or a ``datasets.Dataset``.
        directory: where the index shall be: a new or an empty directory.
        source: a column that says where a row is from; decisions name it beside the id.
        text, id, threshold, ngram, method, by, priority, near_miss, similarity, recall, permutations, hash_family: see
            ``curate.dedup``. All but the columns' names and ``near_miss`` are the index's from now on.

    Returns:
        What ``curate.dedup`` returns for the same arguments.

    Raises:
        ConfigError: an argument out of range, a column that does not exist, or a directory that is not empty.
        DataError: a column of another type, ids that repeat or are missing.
        RunError: another command writes there, or the disk is full.

    >>> import tempfile
    >>> directory = tempfile.mkdtemp()
    >>> build_index(pa.table({"text": ["one two three", "four five"]}), directory).kept.num_rows
    2
    >>> extend_index(pa.table({"text": ["Four, five!", "six"]}), directory).kept["text"].to_pylist()
    ['six']
    """
    from curate.deduplication import Columns, Search

    search = Search(threshold, ngram, method, recall, permutations, similarity, near_miss, hash_family)
    settings = _settings_of_search(search, tuple(by))
    table = _read_table(data, Columns(text, id, tuple(by), priority), source)
    directory = Path(directory).absolute()
    with writing(directory) as index:
        if index is not None:
            raise ConfigError(
                f"{directory}: found an index of {index.documents:,} documents; allowed: a new directory. "
                "Use extend_index, or delete the index."
            )
        compared = _compare(table, Index(directory, settings, ()), search)
        commit(directory, None, settings, keep=0, write=lambda scratch: _write(scratch, compared))
    return compared.result


def extend_index(
    data: Data,
    directory: str | Path,
    *,
    text: str = "text",
    id: str | None = None,
    source: str | None = None,
    threshold: float | None = None,
    ngram: int | None = None,
    by: Sequence[str] | None = None,
    priority: str | None = None,
    near_miss: float | None = None,
    similarity: Similarity | None = None,
    hash_family: HashFamily | None = None,
) -> Deduplicated[Data]:
    """Compare a table with itself and with everything that an index holds, and add what stays to the index.

    Documents of the index rank before those of the table. A decision whose partner is in the index has the partner's id
    and source, and says in ``detail`` which generation holds it: ``generation 1 of the index``.

    Args:
        directory: of the index.
        threshold, ngram, by, similarity, hash_family: None for those of the index; others are refused, except for a
            higher threshold.
        data, text, id, source, priority, near_miss: see ``build_index``.

    Raises:
        ConfigError: no index is there, settings that are not the index's, or what ``build_index`` refuses.
        DataError: the index is damaged or of a newer format, or what ``build_index`` refuses.
        RunError: another command writes the index, or the disk is full: the index is as it was.
    """
    directory = Path(directory).absolute()
    read_index(directory)  # before anything is created there
    with writing(directory) as index:
        assert index is not None
        search = _search_of(index, threshold, ngram, by, near_miss, similarity, hash_family)
        compared = _compare(_table_for(index, data, text, id, source, priority), index, search)
        if compared.result.is_kept.any():
            commit(
                directory,
                index,
                index.settings,
                keep=len(index.generations),
                write=lambda scratch: _write(scratch, compared),
            )
    return compared.result


def query_index(
    data: Data,
    directory: str | Path,
    *,
    text: str = "text",
    id: str | None = None,
    source: str | None = None,
    threshold: float | None = None,
    ngram: int | None = None,
    by: Sequence[str] | None = None,
    priority: str | None = None,
    near_miss: float | None = None,
    similarity: Similarity | None = None,
    hash_family: HashFamily | None = None,
) -> Deduplicated[Data]:
    """What ``extend_index`` would return for the same arguments; the index is only read, and never locked.

    Raises:
        ConfigError, DataError: as ``extend_index``.
    """
    while True:
        index = open_index(directory)
        search = _search_of(index, threshold, ngram, by, near_miss, similarity, hash_family)
        table = _table_for(index, data, text, id, source, priority)
        try:
            return _compare(table, index, search).result
        except DataError:
            if read_index(index.directory).generations == index.generations:
                raise  # else a writer has replaced a generation meanwhile


@dataclasses.dataclass(frozen=True, slots=True)
class _Table:
    """What a caller gave, its columns that count, and id and source of each row."""

    data: Any
    columns: Columns
    rows: pa.Table
    keys: pa.Table


def _read_table(data: Any, columns: Columns, source: str | None) -> _Table:
    from curate.deduplication import keys_of

    rows = columns.of(data)
    keys = keys_of(rows, columns)
    if source is not None:
        values = type(columns)(None, by=(source,)).of(data)[source]
        if values.null_count:
            raise DataError(
                f"source: the column '{source}' is null in {values.null_count} rows; every row needs a source. "
                "Fill them, or leave source out."
            )
        keys = keys.set_column(1, "source", values.cast(pa.string()))
    return _Table(data, columns, rows, keys)


def _table_for(
    index: Index, data: Any, text: str, id: str | None, source: str | None, priority: str | None
) -> _Table:
    from curate.deduplication import Columns

    return _read_table(data, Columns(text, id, index.settings.by, priority), source)


def _settings_of_search(search: Search, by: tuple[str, ...]) -> IndexSettings:
    from curate import minhash
    from filters import fingerprint

    bands = search.bands
    if bands is None:
        return IndexSettings(fingerprint.ALGORITHM, by=by)
    return IndexSettings(
        fingerprint.ALGORITHM,
        by=by,
        algorithm=minhash.ALGORITHM,
        ngram=search.ngram,
        seed=search.seed,
        bands=bands.bands,
        rows=bands.rows,
        threshold=search.threshold,
        similarity=search.similarity,
        hash_family=search.hash_family,
    )


def _search_of(
    index: Index,
    threshold: float | None,
    ngram: int | None,
    by: Sequence[str] | None,
    near_miss: float | None,
    similarity: Similarity | None,
    hash_family: HashFamily | None,
) -> Search:
    """The search that an index was made for, with what the caller asks for instead.

    Raises:
        ConfigError: the index cannot be searched so.
    """
    from curate import minhash
    from curate.deduplication import Search
    from filters import fingerprint

    has = index.settings
    asked = dataclasses.replace(
        has,
        content_algorithm=fingerprint.ALGORITHM,
        algorithm=None if has.algorithm is None else minhash.ALGORITHM,
        exact=True,
        scope="across",
        threshold=has.threshold if threshold is None else threshold,
        ngram=has.ngram if ngram is None else ngram,
        by=has.by if by is None else tuple(by),
        similarity=has.similarity if similarity is None else similarity,
        hash_family=has.hash_family if hash_family is None else hash_family,
    )
    index.check(asked)
    if asked.threshold is None or asked.ngram is None or asked.seed is None:
        if near_miss is not None:
            raise ConfigError(
                f"near_miss: found {near_miss}; allowed: None, since {index.directory} was built for copies only. "
                "Leave it out, or build an index with method 'minhash'."
            )
        return Search(method="exact")
    return Search(
        asked.threshold,
        asked.ngram,
        near_miss=near_miss,
        similarity=cast("Similarity", asked.similarity),
        hash_family=cast("HashFamily", asked.hash_family),
        seed=asked.seed,
    )


@dataclasses.dataclass(frozen=True, slots=True)
class _Compared:
    """What was decided about a table, and what a generation of its kept rows is made of.

    Attributes:
        keys, rows: search keys, ascending, and the rows whose they are.
    """

    table: _Table
    prepared: Prepared
    keys: Keys
    rows: Rows
    result: Deduplicated[Any]


def _compare(table: _Table, index: Index, search: Search) -> _Compared:
    """Decisions about a table, compared with itself and with an index."""
    from curate import minhash
    from curate.deduplication import Deduplicated, decisions_of, find, prepare, rank, sketch_chunks

    # The bands are those of the index, whatever the threshold would choose.
    prepared = prepare(table.rows, table.columns, dataclasses.replace(search, method="exact"))
    bands = None
    if index.settings.bands and index.settings.rows:
        bands = minhash.Bands(index.settings.bands, index.settings.rows)
        prepared = dataclasses.replace(prepared, sketch=sketch_chunks(prepared.texts, bands, search))
    keys, rows = _search_keys(prepared)
    is_decided = _equal_to_old(index, keys, prepared)
    undecided = keys[_is_exact(keys) | ~is_decided[rows]]
    settled, old = _settled(index, undecided, prepared)
    searched = prepared
    if prepared.sketch is not None and is_decided.any():
        has_words = prepared.sketch.has_words & ~is_decided
        searched = dataclasses.replace(prepared, sketch=prepared.sketch._replace(has_words=has_words))
    found = find(searched, rank(table.rows, table.columns), search, settled)
    names = table.keys.append_column("detail", pa.nulls(len(table.keys), pa.string()))
    if old is not None:
        names = pa.concat_tables([names, old.select(names.column_names).cast(names.schema)])
    drops, decisions = decisions_of(found.pairs, names, search)
    at = decisions.schema.get_field_index("detail")
    decisions = decisions.set_column(at, "detail", names["detail"].take(found.pairs["partner"]))
    is_kept = np.ones(len(table.keys), np.bool_)
    is_kept[drops] = False
    curve = minhash.curve(bands) if bands else []
    return _Compared(table, prepared, keys, rows, Deduplicated(table.data, is_kept, decisions, curve, found))


def _search_keys(prepared: Prepared) -> tuple[Keys, Rows]:
    """All keys by which documents are found, ascending, and whose they are."""
    from curate import minhash

    keys, rows = [np.zeros(0, np.uint64)], [np.zeros(0, np.int64)]
    for kind, exact in enumerate(prepared.exact):
        chosen = np.arange(len(exact.hashes)) if exact.valid is None else np.flatnonzero(exact.valid)
        keys.append(minhash.exact_keys(exact.hashes, kind=kind)[chosen])
        rows.append(chosen)
    if prepared.sketch is not None:
        worded = np.flatnonzero(prepared.sketch.has_words)
        keys.append(prepared.sketch.keys[worded].ravel())
        rows.append(np.repeat(worded, prepared.sketch.keys.shape[1]))
    key, row = np.concatenate(keys), np.concatenate(rows)
    order = np.argsort(key, kind="stable")
    return key[order], row[order]


def _write(scratch: Path, compared: _Compared) -> list[Written]:
    """The kept rows as the one run of a generation; none if nothing is kept."""
    is_kept = compared.result.is_kept
    if not is_kept.any():
        return []
    home = scratch / run_path(0)
    home.mkdir()
    chosen = is_kept[compared.rows]
    number = np.cumsum(is_kept) - 1
    write_keys(home / KEYS_FILE, [(compared.keys[chosen], number[compared.rows[chosen]])])
    rows = write_documents(home / DOCUMENTS_FILE, _kept_documents(compared), compared.table.columns.by)
    return [(rows, {name: quick_digest(home / name) for name in (KEYS_FILE, DOCUMENTS_FILE)})]


def _kept_documents(compared: _Compared) -> Iterator[pa.Table]:
    """The kept rows as an index holds them, some megabytes at a time."""
    from curate.deduplication import rank

    table, prepared = compared.table, compared.prepared
    rows = len(table.rows)
    ranking = rank(table.rows, dataclasses.replace(table.columns, priority=None))
    by_rank = ranking.sort_by([(name, "ascending") for name in ranking.column_names])["row"].to_numpy()
    position = np.empty(rows, np.int64)
    position[by_rank] = np.arange(rows)
    priority = table.columns.priority
    hashes = zip(_hash_names(table.columns.by), prepared.exact, strict=True)
    columns = {
        "id": table.keys["id"],
        "source": table.keys["source"],
        "text": pc.fill_null(prepared.texts.cast(pa.large_string()), ""),
        **{name: _hash_column(exact) for name, exact in hashes},
        "priority": pa.nulls(rows, pa.float64())
        if priority is None
        else table.rows[priority].cast(pa.float64()),
        "quality": pa.nulls(rows, pa.float64()),
        "length": pc.fill_null(pc.utf8_length(prepared.texts), 0),
        "position": pa.array(position),
    }
    whole, mask = pa.table(columns), pa.array(compared.result.is_kept)
    for start in range(0, rows, GROUP_ROWS):
        yield whole.slice(start, GROUP_ROWS).filter(mask.slice(start, GROUP_ROWS))


def _hash_names(by: Sequence[str]) -> list[str]:
    return ["content_hash", *(f"by_{field}" for field in by)]


def _hash_column(exact: Exact) -> pa.Array:
    rows = len(exact.hashes)
    values = pa.Array.from_buffers(
        pa.binary(16), rows, [None, pa.py_buffer(np.ascontiguousarray(exact.hashes))]
    )
    return values if exact.valid is None else pc.if_else(pa.array(exact.valid), values, None)


def _is_exact(keys: Keys) -> npt.NDArray[np.bool_]:
    return (keys & np.uint64(1)).astype(np.bool_)


def _equal_to_old(index: Index, keys: Keys, prepared: Prepared) -> npt.NDArray[np.bool_]:
    """Which new documents equal one of the index in an exact property: of these nothing else need be looked up."""
    wanted = keys[_is_exact(keys)]
    found = np.zeros(len(prepared.texts), np.bool_)
    names = _hash_names(index.settings.by)
    for run in index.runs:
        rows = np.unique(matching_keys(run.path / KEYS_FILE, wanted).row)
        if len(rows):
            old = read_documents(run.path / DOCUMENTS_FILE, rows, names)
            for name, exact in zip(names, prepared.exact, strict=True):
                found |= pc.is_in(_hash_column(exact), old[name], skip_nulls=True).to_numpy(
                    zero_copy_only=False
                )
    return found


def _settled(index: Index, keys: Keys, prepared: Prepared) -> tuple[Settled | None, pa.Table | None]:
    """Documents of the index that share a key, in their order, and what identifies them.

    Of a bucket only so many are taken as can matter: ``leaders`` compares with the first of them. Documents that share
    but an exact key come without their texts.

    Args:
        keys: ascending.
    """
    from curate.deduplication import Settled

    names = _hash_names(index.settings.by)
    facts, entry_keys, entry_rows, places = [], [], [], []
    taken = 0
    of_generation = np.repeat(np.arange(len(index.generations)), [len(g.runs) for g in index.generations])
    for number, run in enumerate(index.runs):
        matches = matching_keys(run.path / KEYS_FILE, keys)
        if not len(matches.key):
            continue
        rows, local = np.unique(matches.row, return_inverse=True)
        table = read_documents(
            run.path / DOCUMENTS_FILE, rows, ["id", "source", *names, "priority", "position"]
        )
        generation = int(of_generation[number]) + 1
        beside = {
            "generation": pa.repeat(pa.scalar(generation), len(rows)),
            "detail": pa.repeat(pa.scalar(f"generation {generation} of the index"), len(rows)),
        }
        for name, column in beside.items():
            table = table.append_column(name, column)
        facts.append(table)
        entry_keys.append(matches.key)
        entry_rows.append(local + taken)
        places.append(np.stack([np.full(len(rows), number), rows]))
        taken += len(rows)
    if not taken:
        return None, None
    table = pa.concat_tables(facts)
    key, row, place = np.concatenate(entry_keys), np.concatenate(entry_rows), np.concatenate(places, axis=1)
    order = _order_of_settled(table)
    position = np.empty(taken, np.int64)
    position[order] = np.arange(taken)
    chosen = _first_of_each(key, position[row])
    key, row = key[chosen], row[chosen]
    is_needed, has_text = np.zeros(taken, np.bool_), np.zeros(taken, np.bool_)
    is_needed[row] = True
    has_text[row[~_is_exact(key)]] = True
    order = order[is_needed[order]]
    position[order] = np.arange(len(order))
    read = np.cumsum(has_text) - 1  # where a document's text is among those that are read
    texts = _texts(index.runs, place[:, has_text]).take(pa.array(read[order], mask=~has_text[order]))
    table = table.take(pa.array(order))
    exact = []
    for name, of_new in zip(names, prepared.exact, strict=True):
        valid = None if table[name].null_count == 0 else pc.is_valid(table[name]).to_numpy()
        exact.append(dataclasses.replace(of_new, hashes=hash_words(table[name]), valid=valid))
    return Settled(texts, tuple(exact), key, position[row]), table


def _order_of_settled(table: pa.Table) -> Rows:
    """Older generations first, then as ``curate.dedup`` ranks the rows of a table."""
    number = pc.fill_null(table["priority"], float("-inf"))
    ranking = pa.table(
        {
            "generation": table["generation"],
            "priority": pc.negate(pc.if_else(pc.is_nan(number), float("-inf"), number)),
            **{name: table[name] for name in ("position", "source", "id")},
            "row": pa.array(np.arange(len(table))),
        }
    )
    return ranking.sort_by([(name, "ascending") for name in ranking.column_names])["row"].to_numpy()


def _first_of_each(key: Keys, position: Rows) -> npt.NDArray[np.bool_]:
    """The entries that matter: all with exact keys, and of each near bucket those that may be leaders, and one more."""
    order = np.lexsort((position, key))
    starts = np.flatnonzero(np.concatenate([[True], key[order][1:] != key[order][:-1]]))
    rank = np.arange(len(key)) - np.repeat(starts, np.diff([*starts, len(key)]))
    chosen = np.empty(len(key), np.bool_)
    chosen[order] = rank <= _MAX_LEADERS
    return chosen | _is_exact(key)


def _texts(runs: Sequence[IndexRun], place: Rows) -> pa.ChunkedArray:
    """Texts of some documents, checked; ``place``: ``(2, documents)``, number of the run and row in it."""
    run, row = place
    found = []
    for number in np.unique(run).tolist():
        path = runs[number].path / DOCUMENTS_FILE
        found += read_documents(path, row[run == number], ["text", "content_hash"])["text"].chunks
    return pa.chunked_array(found, pa.large_string())


# ---------------------------------------------------------------------------------------------------------
# Runs
# ---------------------------------------------------------------------------------------------------------


def settings_of(config: CurateConfig) -> IndexSettings:
    """What a run's configuration asks of an index."""
    from curate import minhash
    from curate.dedup_steps import search_settings
    from filters import fingerprint

    dedup, near = config.dedup, search_settings(config)["minhash"]
    plain = IndexSettings(fingerprint.ALGORITHM, exact=dedup.exact, by=tuple(dedup.by), scope=dedup.scope)
    if dedup.minhash is None:
        return plain
    return dataclasses.replace(
        plain,
        algorithm=minhash.ALGORITHM,
        threshold=dedup.minhash.threshold,
        similarity=dedup.minhash.similarity,
        **{name: near[name] for name in ("ngram", "seed", "bands", "rows", "hash_family")},
    )


def open_base(run: Run, config: CurateConfig) -> list[dict[str, Any]]:
    """What a run is compared with: the runs of all generations of its index, none where there is no index yet.

    A run that has added a generation is compared with those before it: the same command, repeated, gives the same
    result. ``RUN/index.json`` remembers which they are.

    Returns:
        For each run: ``keys`` and ``documents`` (paths), ``rows``, ``generation`` (from 1) and ``digest``.

    Raises:
        ConfigError: settings that are not the index's, or a directory that holds something else.
        DataError: the index is damaged.
    """
    if config.dedup.index is None:
        return []
    index = _index_of(config)
    if index is not None:
        index.check(settings_of(config))
    generations = index.generations if index else ()
    pin = _read_pin(run.directory)
    count = _base_of(pin, config.dedup.index, generations)
    base = [generation.digest for generation in generations[:count]]
    if (config.dedup.index, base) != (pin.index, pin.base):
        _write_pin(run.directory, _Pin(config.dedup.index, base, pin.added))
    return [
        {
            "keys": str(part.path / KEYS_FILE),
            "documents": str(part.path / DOCUMENTS_FILE),
            "rows": part.documents,
            "generation": number,
            "digest": generation.digest,
        }
        for number, generation in enumerate(generations[:count], 1)
        for part in generation.runs
    ]


def _index_of(config: CurateConfig) -> Index | None:
    directory = Path(config.dedup.index or "").absolute()
    check_is_free(directory)
    return open_index(directory) if holds_index(directory) else None


@dataclasses.dataclass(frozen=True, slots=True)
class _Pin:
    """What a run remembers.

    Attributes:
        index: as the configuration names it.
        base: digests of the generations that it is compared with.
        added: digests of its own one: of the one that is there, and of one that may come.
        is_done: whether it came to its end.
    """

    index: str = ""
    base: list[str] = dataclasses.field(default_factory=list)
    added: list[str] = dataclasses.field(default_factory=list)
    is_done: bool = False


def _read_pin(run: Path) -> _Pin:
    path = run / _PIN
    try:
        pin = json.loads(path.read_text(encoding="utf-8"))
        return _Pin(
            str(pin["index"]), [*map(str, pin["base"])], [*map(str, pin["added"])], bool(pin["is_done"])
        )
    except FileNotFoundError:
        return _Pin()
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(
            f"{path}: not readable ({type(error).__name__}); it says which part of the index this run was compared with. "
            "Give another --out: that run is compared with the whole index."
        ) from None


def _write_pin(run: Path, pin: _Pin) -> None:
    write_atomic(run / _PIN, json.dumps(dataclasses.asdict(pin), indent=1, ensure_ascii=False) + "\n")


def _base_of(pin: _Pin, index: str, generations: Sequence[Generation]) -> int:
    """With how many of the generations a run is compared."""
    digests = [generation.digest for generation in generations]
    own = [number for number, digest in enumerate(digests) if digest in pin.added]
    if own:
        return own[0]
    if pin.is_done and pin.index == index and digests[: len(pin.base)] == pin.base:
        return len(pin.base)  # it had nothing to add
    return len(digests)


def extend(
    run: Run,
    config: CurateConfig,
    *,
    documents: Finished,
    document_file: str,
    measured: Finished,
    decided: Finished,
    firsts: Sequence[int],
    native: Sequence[bool],
    warn: Callable[[str], None],
) -> dict[str, Any]:
    """Add what a run kept to its index, as one generation. The same run adds it once.

    Args:
        documents, measured, decided: steps whose parts are the shards, with ``document_file``, facts.arrow and
            keys.arrow, and kept.arrow.
        firsts: the dense number of each shard's first document.
        native: whether a shard's ids are native ones.
        warn: told when there is nothing to add.

    Returns:
        What the manifest says: ``generation`` (null if nothing was kept), ``documents`` in it, ``compared_with`` (documents
        of the generations before) and ``parent`` (digest of the last of these).

    Raises:
        RunError: another command holds the lock, or has added a generation that this run was not compared with, or came
            after a generation of this run that would have to be replaced; the index is as it was.
    """
    finished = run.step(_generation_step(config, documents, document_file, measured, decided, firsts, native))
    parts = [
        (path, result["rows"], files)
        for path, result, files in zip(
            finished.paths(KEYS_FILE), finished.results, finished.files, strict=True
        )
        if result["rows"]
    ]
    written: list[Written] = [(rows, files) for _, rows, files in parts]
    if not written:
        warn("dedup.index: no document was kept, so nothing was added to the index.")

    def place(scratch: Path) -> list[Written]:
        for number, (path, _, files) in enumerate(parts):
            home = scratch / run_path(number)
            home.mkdir()
            for name in files:
                place_file(path.with_name(name), home / name)
        return written

    directory = Path(config.dedup.index or "").absolute()
    pin = _read_pin(run.directory)
    with writing(directory) as index:
        generations = index.generations if index else ()
        base, later = generations[: len(pin.base)], generations[len(pin.base) :]
        settings = index.settings if index else settings_of(config)
        name, digest = name_of(base, settings, written) if written else (None, None)
        added = [digest] if digest else []
        last = later[0].digest if later else None
        is_done = last == digest if written else pin.is_done and last not in pin.added
        if not is_done:
            _check_is_newest(directory, pin, base, later)
            _write_pin(run.directory, dataclasses.replace(pin, added=[*pin.added, *added]))
            if later:
                log.warning("%s: %s is replaced by what this run keeps now.", directory, later[0].name)
            if later or written or index is None:
                commit(directory, index, settings, keep=len(base), write=place)
        _write_pin(run.directory, dataclasses.replace(pin, added=added, is_done=True))
    return {
        "generation": name,
        "documents": sum(rows for rows, _ in written),
        "compared_with": sum(generation.documents for generation in base),
        "parent": pin.base[-1] if pin.base else None,
    }


def _check_is_newest(
    directory: Path, pin: _Pin, base: Sequence[Generation], later: Sequence[Generation]
) -> None:
    """Refuse to write a generation that would not be compared with all before it, or to take one from under others."""
    if [generation.digest for generation in base] != pin.base:
        raise RunError(
            f"{directory}: the index is not the one that this run was compared with. "
            "Run the same command again: it is compared with the index as it is now."
        )
    if not later or (len(later) == 1 and later[0].digest in pin.added):
        return
    if later[0].digest in pin.added:
        raise RunError(
            f"{directory}: this run's generation {later[0].name} would be replaced, but {len(later) - 1} generations came "
            f"after it and were compared with it, first {later[1].name}. Restore the configuration and the data of "
            "this run, or give another --out: that run is compared with the whole index."
        )
    if pin.is_done:
        raise RunError(
            f"{directory}: this run had nothing to add when it ended; now it has, but generation {later[0].name} was added "
            "meanwhile, with which it was not compared. Give another --out: that run is compared with the whole index."
        )
    raise RunError(
        f"{directory}: generation {later[0].name} was added while this command ran. "
        "Run the same command again: it is compared with that one, too."
    )


def _generation_step(
    config: CurateConfig,
    documents: Finished,
    document_file: str,
    measured: Finished,
    decided: Finished,
    firsts: Sequence[int],
    native: Sequence[bool],
) -> Step:
    """A step that writes the runs of a generation: a part for each gigabyte of documents, roughly."""
    files = {
        "documents": documents.paths(document_file),
        "facts": measured.paths("facts.arrow"),
        "keys": measured.paths("keys.arrow"),
        "kept": decided.paths("kept.arrow"),
    }
    priorities = {n: s.priority for n, s in sorted(config.sources.items()) if not isinstance(s.priority, str)}
    sizes = [path.stat().st_size for path in files["documents"]]
    parts: list[dict[str, list[Any]]] = []
    held = 0
    for number, size in enumerate(sizes):
        if not parts or held + size > _RUN_BYTES:
            parts.append({name: [] for name in (*files, "firsts", "native")})
            held = 0
        held += size
        for name, paths in files.items():
            parts[-1][name].append(str(paths[number]))
        parts[-1]["firsts"].append(firsts[number])
        parts[-1]["native"].append(native[number])
    return Step(
        "extend",
        "curate.index:generation_part",
        parts,
        {"by": list(config.dedup.by), "priorities": priorities},
        [documents.digest, measured.digest, decided.digest],
        input_bytes=sum(sizes),
        private=(KEYS_FILE, DOCUMENTS_FILE),
    )


def generation_part(
    out: Path,
    *,
    documents: Sequence[str],
    facts: Sequence[str],
    keys: Sequence[str],
    kept: Sequence[str],
    firsts: Sequence[int],
    native: Sequence[bool],
    by: Sequence[str],
    priorities: Mapping[str, float],
) -> dict[str, Any]:
    """One run of a generation: the kept documents of some shards, and their keys.

    Args:
        documents, facts, keys, kept, firsts, native: of each shard, see ``extend``.
        by: fields whose equal values make duplicates.
        priorities: of the sources that have one for all their documents.

    Memory: 9 bytes for each document of these shards, a group of rows, and 48 bytes for each of ``_PASS_KEYS`` keys.
    """
    masks = [_read_whole(path, ["kept"])["kept"].to_numpy() for path in kept]
    before = np.cumsum([0, *(int(mask.sum()) for mask in masks)])
    numbers = [np.cumsum(mask) - 1 + first for mask, first in zip(masks, before[:-1], strict=True)]
    names, of_source = (
        pa.array([*priorities], pa.string()),
        pa.array([*map(float, priorities.values())], pa.float64()),
    )

    def tables() -> Iterator[pa.Table]:
        for shard, mask in enumerate(masks):
            beside = _read_whole(facts[shard], [*_hash_names(by), "priority", "quality", "length"])
            position = np.zeros(len(mask), np.int64)
            if not native[shard]:
                position += firsts[shard] + np.arange(len(mask))
            beside = beside.append_column("position", pa.array(position))
            start = 0
            for group in read_groups(documents[shard], ["id", "source", "text"]):
                own = beside.slice(start, group.num_rows)
                columns = {name: table[name] for table in (group, own) for name in table.column_names}
                columns["priority"] = pc.coalesce(
                    own["priority"], of_source.take(pc.index_in(group["source"], names))
                )
                yield pa.table(columns).filter(pa.array(mask[start : start + group.num_rows]))
                start += group.num_rows

    entries = [(shard, batch) for shard, path in enumerate(keys) for batch in mapped_batches(Path(path))]
    passes = max(1, -(-sum(batch.num_rows for _, batch in entries) // _PASS_KEYS))

    def portions() -> Iterator[tuple[Keys, Rows]]:
        for portion in range(passes):  # of the range of keys, ascending
            found = [(np.zeros(0, np.uint64), np.zeros(0, np.int64))]
            for shard, batch in entries:
                key, row = batch["key"].to_numpy(), batch["doc"].to_numpy() - firsts[shard]
                chosen = masks[shard][row]
                if passes > 1:
                    chosen &= (((key >> np.uint64(32)) * np.uint64(passes)) >> np.uint64(32)) == portion
                found.append((key[chosen], numbers[shard][row[chosen]]))
            yield np.concatenate([key for key, _ in found]), np.concatenate([row for _, row in found])

    rows = write_documents(out / DOCUMENTS_FILE, tables(), by)
    return {"rows": rows, "keys": write_keys(out / KEYS_FILE, portions())}


def _read_whole(path: str, columns: Sequence[str]) -> pa.Table:
    return pa.concat_tables(read_groups(path, columns))
