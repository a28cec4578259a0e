"""Verified duplicates of one batch of clusters: which document goes, which one stays for it, and how similar they are.

A cluster says only which documents may be compared. Documents are visited in a total order: those of a persistent index
first, then those that pass the policy, then by the configured preferences, then by source and key; each is compared
exactly with the kept, passing documents that share a bucket with it, and goes only if one of them is similar enough
(``curate.verify``).

Price, for each document of the batch: about 200 bytes for what is known of it, and 96 for each of its buckets, in
memory; its text is mapped, and compared in chunks of an eighth of the memory at most, however large the batch is.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from curate.measurement import Hashes, hash_words, source_salts
from curate.minhash import Memberships
from curate.schema import PAIRS, table_of
from curate.shards import ShardWriter, read_rows
from curate.shuffle import frozen, read_mapped, read_portion
from curate.verify import CHUNK_BYTES, Exact, leaders
from filters.compiling import njit

LINKS = pa.schema(
    [
        pa.field("doc", pa.int64()),
        pa.field("id", pa.string()),
        pa.field("source", pa.string()),
        pa.field("partner", pa.int64()),
        pa.field("partner_id", pa.string()),
        pa.field("partner_source", pa.string()),
        pa.field("similarity", pa.float64()),
        pa.field("method", pa.string()),
        pa.field("rule", pa.string()),
        pa.field("outcome", pa.string()),
        pa.field("generation", pa.int32()),  # of the partner, if an index has it
    ]
)

_P = np.uint64(0x9E3779B97F4A7C15)  # 2**64 / golden ratio


def duplicates_part(
    out: Path,
    *,
    batch: int,
    batches: int,
    dealt: Sequence[str],
    documents: Sequence[str | None],
    members: Sequence[str],
    passing: Sequence[str] | None,
    firsts: Sequence[int],
    shards: int,
    total: int,
    exact: bool,
    by: Sequence[str],
    scope: str,
    prefer: Sequence[str],
    minhash: Mapping[str, Any] | None,
    memory: int,
) -> dict[str, Any]:
    """Links of the documents of one batch, by document.

    Args:
        batch, batches: which one, and how many there are.
        dealt: what was dealt of every shard, and then of every run of an index.
        documents: the Arrow file of each of these; None where the texts were dealt.
        members: the dealt memberships.
        passing: passing.parquet of every shard; None where all documents pass.
        firsts: the numbers of the first documents of the shards and runs.
        shards: how many of them are shards.
        total: how many documents there are; what is numbered from here on is in the index.
        exact: whether equal contents are duplicates.
        by: fields whose equal values make duplicates.
        scope: ``across`` sources or ``within`` each.
        prefer: see ``total_order``.
        minhash: ``threshold``, ``ngram``, ``near_miss``, ``similarity``; None where near duplicates stay.
        memory: what may be held, in bytes.
    """
    table, texts, rows_of_texts = _candidates(dealt, documents, firsts, batch, batches)
    docs = _numbers(table["doc"])
    settled = docs >= total
    passes = (
        np.ones(len(docs), np.bool_) if passing is None else _passing(docs, passing, firsts[:shards], total)
    )
    order = total_order(table, passing=passes, prefer=prefer)
    rules = [("exact.content_hash", "content_hash")] if exact else []
    rules += [(f"exact.{name}", f"by_{name}") for name in by]
    salts = source_salts(table["source"], scope)
    near = minhash or {"threshold": 1.0, "ngram": 5, "near_miss": None, "similarity": "jaccard"}
    verified = leaders(
        texts,
        order=order,
        passing=passes,
        buckets=_near_memberships(members, batch, batches, docs),
        exact=[_exact(rule, table[column], salts) for rule, column in rules],
        settled=settled,
        rows_of_texts=rows_of_texts,
        threshold=near["threshold"],
        ngram=near["ngram"],
        near_miss=near["near_miss"],
        similarity=near["similarity"],
        chunk_bytes=min(CHUNK_BYTES, memory // 8),
        scratch=out,
    )
    found = verified.pairs
    row, partner = found["row"].combine_chunks(), found["partner"].combine_chunks()
    columns = {
        "id": table["id"].take(row),
        "source": table["source"].take(row),
        "partner_id": table["id"].take(partner),
        "partner_source": table["source"].take(partner),
        **{name: found[name] for name in ("similarity", "method", "rule", "outcome")},
    }
    numbers = {"doc": docs[row.to_numpy()], "partner": docs[partner.to_numpy()]}
    generation = _numbers(table["generation"])[partner.to_numpy()]
    more = {"generation": pa.array(generation, pa.int32(), mask=generation == 0)}
    links = table_of(LINKS, **columns, **more, **{name: pa.array(values) for name, values in numbers.items()})
    with pa.OSFile(str(out / "links.arrow"), "wb") as sink, pa.ipc.new_file(sink, LINKS) as writer:
        writer.write_table(links)
    with ShardWriter(out / "pairs.parquet", PAIRS) as pairs:
        pairs.write(table_of(PAIRS, **columns))
    return {
        "rows": len(docs) - int(settled.sum()),
        "pairs": found.num_rows,
        "compared_pairs": verified.compared,
        "verified_pairs": verified.verified,
        "capped_buckets": verified.capped_buckets,
        "largest_bucket": verified.largest_bucket,
        "settled": int(settled.sum()),
    }


def _candidates(
    dealt: Sequence[str], documents: Sequence[str | None], firsts: Sequence[int], batch: int, batches: int
) -> tuple[pa.Table, pa.ChunkedArray, npt.NDArray[np.int64]]:
    """What is known of the batch's documents; a mapped column of texts, and which of its rows they are."""
    tables, chunks, rows_of_texts = [], [pa.array([], pa.large_string())], [np.zeros(0, np.int64)]
    before = 0
    for path, mapped, first in zip(dealt, documents, firsts, strict=True):
        found = list(read_portion([path], batch, batches))
        if not found:
            continue
        table = pa.Table.from_batches(found)
        if mapped is None:
            own, rows = table["text"].chunks, np.arange(len(table))
            table = table.drop_columns(["text"])
        else:
            own, rows = _hit(read_mapped(mapped)["text"].chunks, _numbers(table["doc"]) - first)
        tables.append(table)
        chunks += own
        rows_of_texts.append(before + rows)
        before += sum(len(chunk) for chunk in own)
    return pa.concat_tables(tables), pa.chunked_array(chunks), np.concatenate(rows_of_texts)


def _hit(
    chunks: Sequence[pa.Array], rows: npt.NDArray[np.int64]
) -> tuple[list[pa.Array], npt.NDArray[np.int64]]:
    """The chunks that hold some of the rows, and where the rows are in these."""
    ends = np.cumsum([len(chunk) for chunk in chunks])
    numbers, chunk_of = np.unique(np.searchsorted(ends, rows, side="right"), return_inverse=True)
    sizes = np.array([len(chunks[number]) for number in numbers], np.int64)
    missing = (ends[numbers] - sizes) - (np.cumsum(sizes) - sizes)  # rows of chunks that are left out
    return [chunks[number] for number in numbers], rows - missing[chunk_of]


def total_order(
    documents: pa.Table, *, passing: npt.NDArray[np.bool_], prefer: Sequence[str]
) -> npt.NDArray[np.int64]:
    """Rows in the order in which documents are preferred. No two documents tie.

    1. Documents of an index (``generation`` is above 0), older generations first.
    2. Documents that pass.
    3. ``prefer``, in its order: the higher ``priority``, ``quality`` (null ranks below every score), or ``length``.
    4. The smaller ``source``; in it the smaller ``position``, and where ids are native, and so positions all 0, the
       smaller ``id``. Strings rank as their UTF-8 bytes do.

    Args:
        documents: the columns named above.
        passing: ``(rows,) bool``.
        prefer: some of priority, quality, length.
    """
    generation = _numbers(documents["generation"])
    keys: list[npt.NDArray] = [np.where(generation > 0, generation, np.iinfo(np.int32).max), ~passing]
    for name in prefer:
        values = _numbers(documents[name].cast(pa.float64()).fill_null(-np.inf))
        keys.append(-values if name == "length" else -np.where(np.isnan(values), -np.inf, values))
    keys += [_ranks(documents["source"]), _numbers(documents["position"])]
    keys = [key for key in keys if len(key) and (key != key[0]).any()]
    order = np.lexsort(keys[::-1]) if keys else np.arange(len(documents))
    differs = np.zeros(max(0, len(order) - 1), np.bool_)
    for key in keys:
        differs |= key[order[1:]] != key[order[:-1]]
    tied = np.zeros(len(order), np.bool_)
    tied[1:] |= ~differs
    tied[:-1] |= ~differs
    rows = order[tied]
    if len(rows):
        group = np.concatenate([[0], np.cumsum(differs)])[tied]
        order[tied] = rows[np.lexsort([_ranks(documents["id"].take(pa.array(rows))), group])]
    return order


def _ranks(names: pa.ChunkedArray) -> npt.NDArray[np.int64]:
    """Ranks of strings among each other; equal strings have equal ranks."""
    coded = names.cast(pa.large_string()).combine_chunks().dictionary_encode()
    if isinstance(coded, pa.ChunkedArray):  # pyarrow keeps an empty ChunkedArray chunked
        return np.zeros(0, np.int64)
    ranks = np.empty(len(coded.dictionary), np.int64)
    ranks[pc.sort_indices(coded.dictionary).to_numpy()] = np.arange(len(ranks))
    return ranks[coded.indices.to_numpy()]


def _exact(rule: str, hashes: pa.ChunkedArray, salts: Hashes) -> Exact:
    """A property with the sources kept apart by their salts, where these differ."""
    words = hash_words(hashes)
    if salts.any():
        words = words ^ np.stack(np.broadcast_arrays(salts, salts * _P), axis=1)
    valid = hashes.is_valid().to_numpy() if hashes.null_count else None
    return Exact(rule, words, valid, same_text=rule == "exact.content_hash")


def _passing(
    docs: npt.NDArray[np.int64], passing: Sequence[str], firsts: Sequence[int], total: int
) -> npt.NDArray[np.bool_]:
    """Whether documents (ascending) pass the policy; those of an index do."""
    found = np.ones(len(docs), np.bool_)
    bounds = np.searchsorted(docs, [*firsts, total])
    for path, first, start, stop in zip(passing, firsts, bounds[:-1], bounds[1:], strict=True):
        if start < stop:
            own = read_rows(path, docs[start:stop] - first, ["passing"])["passing"]
            found[start:stop] = own.to_numpy()
    return found


def _near_memberships(
    members: Sequence[str], batch: int, batches: int, docs: npt.NDArray[np.int64]
) -> Memberships:
    """Memberships in buckets of bands, with rows of the batch. Equal contents are found by their hashes, not here."""
    bucket_parts, doc_parts = [np.zeros(0, np.int64)], [np.zeros(0, np.int64)]
    for found in read_portion(members, batch, batches):
        bucket, doc = (found.column(name).to_numpy() for name in ("bucket", "doc"))
        near = bucket & 1 == 0
        bucket_parts.append(bucket[near])
        doc_parts.append(doc[near])
    bucket, doc = np.concatenate(bucket_parts), np.concatenate(doc_parts)
    new = np.ones(len(bucket), np.bool_)  # the members of a bucket are adjacent
    new[1:] = bucket[1:] != bucket[:-1]
    rows = np.empty(len(doc), np.int64)
    table = np.full(1 << max(4, (2 * len(docs)).bit_length()), -1, np.int32)
    _find_rows(frozen(docs), frozen(doc), table, rows)
    return Memberships(np.cumsum(new) - 1, rows)


def _numbers(column: pa.ChunkedArray) -> npt.NDArray:
    return column.to_numpy()


@njit(nogil=True, cache=True, boundscheck=False)
def _find_rows(
    docs: npt.NDArray[np.int64],
    wanted: npt.NDArray[np.int64],
    table: npt.NDArray[np.int32],
    rows: npt.NDArray[np.int64],
) -> None:
    """Where each wanted document is in ``docs``; ``table`` is filled with -1, and a power of two long."""
    mask = np.uint64(len(table) - 1)
    for row in range(len(docs)):
        place = ((np.uint64(docs[row]) * _P) >> np.uint64(20)) & mask
        while table[place] >= 0:
            place = (place + np.uint64(1)) & mask
        table[place] = row
    for k in range(len(wanted)):
        place = ((np.uint64(wanted[k]) * _P) >> np.uint64(20)) & mask
        while docs[table[place]] != wanted[k]:
            place = (place + np.uint64(1)) & mask
        rows[k] = table[place]
