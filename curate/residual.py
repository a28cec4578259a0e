"""How many near duplicates remain: a random sample of the kept documents, compared with all kept documents.

    kept documents ── draw ──▶ sample ── agree ──▶ candidates ── compare ──▶ rate, with its interval
                                 (64 bytes of all kept documents)  (their texts)

LSH misses pairs, leader clustering keeps chains, capped buckets are not compared in full. What that leaves is measured
here without LSH and without leaders: each sampled document is compared with every kept document by 64 bytes of their
signatures (b-bit minwise hashing, Li & König 2010, doi:10.1145/1772690.1772759: two documents agree in a byte with
probability J + (1 - J) / 256), and those that agree in enough bytes are compared exactly, by the sets of their
shingles. A pair at the threshold is missed with the probability that the result states (``missed_probability``).

The sample is those documents whose draws, a hash of seed and content, are smallest: it does not depend on how documents
are cut into files. Copies of one content are drawn together, so where exact duplicates are kept the interval is too
narrow.

Price: one nanosecond for each kept document and sampled document with AVX-512, a second for a million documents and a
sample of 1,000; texts of the candidates only. In memory 9 bytes for each of at most ``MOST`` candidates of a sampled
document, 16 bytes for each document of one shard, and the shingles of about ``CHUNK_CHARACTERS`` of text.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from llvmlite import ir

from curate.measurement import hash_words
from curate.shards import read_rows
from curate.shuffle import read_mapped
from filters import words
from filters.compiling import intrinsic, njit, types
from filters.errors import ConfigError

SAMPLE = 1000
MOST = 256
"""Candidates of one sampled document that are compared; those that agree in most bytes, if there are more."""

CHUNK_CHARACTERS = 32 << 20
"""Text whose shingles are in memory at a time, unless a single document has more."""

EXAMPLES = 5
BYTES = 64
"""Bytes of a document's signature that are compared."""

Docs = npt.NDArray[np.int64]
Shingles = npt.NDArray[np.uint64]
Similarity = Literal["jaccard", "containment"]

_MARGIN = 0.2  # how far below the threshold an estimate may be; 64 places have a standard deviation of 0.05
_LEAST = 0.1  # unrelated documents agree in 0.004 of the places
_Z95 = 1.959963984540054  # 97.5 % of a normal distribution lie below


def residual_part(
    out: Path,
    *,
    documents: Sequence[str],
    facts: Sequence[str],
    sketches: Sequence[str],
    kept: Sequence[str],
    firsts: Sequence[int],
    threshold: float,
    ngram: int,
    similarity: Similarity = "jaccard",
    scope: Literal["across", "within"] = "across",
    seed: int = 0,
    sample: int = SAMPLE,
) -> dict[str, Any]:
    """The rate of near duplicates among the kept documents, as an engine part that writes no file.

    Args:
        documents: the shards, with id, source and text.
        facts, sketches, kept: facts.arrow, sketch.arrow and kept.arrow of each shard, a row a document.
        firsts: the dense number of each shard's first document.
        threshold: from which similarity two documents are near duplicates.
        ngram: words in a shingle.
        similarity: ``jaccard``, or ``containment``: the share of the sampled document's shingles that the other has.
        scope: ``within``: only documents of one source are near duplicates of each other.
        sample: how many documents are drawn; all of them, if there are no more.

    Returns:
        kept, without_words: kept documents, and those among them that have no words and so no near duplicates.
        sampled: documents drawn from the others.
        with_near_duplicate, rate: how many of these have a near duplicate among the kept documents, and which share.
        low, high: the 95 % interval of the rate (Wilson 1927); the rate itself, if all documents were drawn.
        threshold, similarity, scope, agreement: as given, and in how many of 64 bytes candidates agree at least.
        missed_probability: that of a pair at the threshold to agree in fewer; with containment, of two documents of
            equal size.
        candidates, capped: pairs compared, and sampled documents that had more than ``MOST`` candidates.
        examples: up to five pairs, the most similar first: id, source, partner_id, partner_source, similarity.
    """
    if sample < 1:
        raise ConfigError(f"residual: sample is {sample}; allowed: 1 or more.")
    drawn, population, without_words = _draw(facts, sketches, kept, firsts, seed=seed, sample=sample)
    agreement = least_agreement(threshold, similarity)
    candidates, capped = _find_candidates(drawn, sketches, kept, firsts, agreement)
    shards = _Shards(documents, facts, np.array(firsts, np.int64))
    found = _compare(shards, drawn, candidates, threshold, ngram, similarity, scope)
    low, high = wilson_interval(len(found), len(drawn))
    rate = len(found) / len(drawn) if len(drawn) else 0.0
    if len(drawn) == population:
        low = high = rate
    return {
        "kept": population + without_words,
        "without_words": without_words,
        "sampled": len(drawn),
        "with_near_duplicate": len(found),
        "rate": rate,
        "low": low,
        "high": high,
        "threshold": threshold,
        "similarity": similarity,
        "scope": scope,
        "agreement": agreement,
        "missed_probability": missed_probability(threshold, similarity),
        "candidates": sum(map(len, candidates)),
        "capped": capped,
        "examples": found[:EXAMPLES],
    }


# ---------------------------------------------------------------------------------------------------------
# Statistics
# ---------------------------------------------------------------------------------------------------------


def least_agreement(threshold: float, similarity: Similarity = "jaccard") -> int:
    """In how many of 64 bytes two documents must agree to be compared.

    >>> least_agreement(0.8), least_agreement(0.2), least_agreement(0.8, "containment")
    (39, 7, 30)
    """
    return math.ceil(max(_jaccard(threshold, similarity) - _MARGIN, _LEAST) * BYTES)


def missed_probability(threshold: float, similarity: Similarity = "jaccard") -> float:
    """Probability that two documents whose similarity is the threshold agree in fewer bytes than that.

    >>> [round(missed_probability(threshold), 6) for threshold in (0.5, 0.7, 0.8, 0.9)]
    [0.000702, 0.000231, 0.000119, 2e-06]
    """
    jaccard = _jaccard(threshold, similarity)
    agree = jaccard + (1 - jaccard) / 256
    return sum(
        math.comb(BYTES, k) * agree**k * (1 - agree) ** (BYTES - k)
        for k in range(least_agreement(threshold, similarity))
    )


def _jaccard(threshold: float, similarity: Similarity) -> float:
    """Jaccard similarity of two documents at the threshold; for containment, of two that are of equal size."""
    return threshold if similarity == "jaccard" else threshold / (2 - threshold)


def wilson_interval(successes: int, trials: int) -> tuple[float, float]:
    """The 95 % score interval of a share (Wilson 1927, doi:10.1080/01621459.1927.10502953); (0, 1) without trials.

    >>> [tuple(round(bound, 4) for bound in wilson_interval(k, 1000)) for k in (0, 15)]
    [(0.0, 0.0038), (0.0091, 0.0246)]
    """
    if trials == 0:
        return 0.0, 1.0
    share, square = successes / trials, _Z95**2
    middle = share + square / (2 * trials)
    half = _Z95 * math.sqrt(share * (1 - share) / trials + square / (4 * trials**2))
    scale = 1 + square / trials
    low = 0.0 if successes == 0 else max(0.0, (middle - half) / scale)
    return low, 1.0 if successes == trials else min(1.0, (middle + half) / scale)


# ---------------------------------------------------------------------------------------------------------
# The sample
# ---------------------------------------------------------------------------------------------------------


def _draw(
    facts: Sequence[str],
    sketches: Sequence[str],
    kept: Sequence[str],
    firsts: Sequence[int],
    *,
    seed: int,
    sample: int,
) -> tuple[Docs, int, int]:
    """The sampled documents, ascending; how many kept documents have words, and how many have none."""
    best = np.zeros(0, np.uint64)
    docs = np.zeros(0, np.int64)
    population = without_words = 0
    for facts_path, sketch, kept_path, first in zip(facts, sketches, kept, firsts, strict=True):
        is_kept = _booleans(kept_path, "kept")
        has_words = _booleans(sketch, "has_words")
        rows = np.flatnonzero(is_kept & has_words)
        population += len(rows)
        without_words += int(is_kept.sum()) - len(rows)
        hashes = hash_words(read_mapped(facts_path)["content_hash"])
        best = np.concatenate([best, draws(hashes[rows], seed=seed)])
        docs = np.concatenate([docs, rows + first])
        order = np.lexsort((docs, best))[:sample]
        best, docs = best[order], docs[order]
    return np.sort(docs), population, without_words


def draws(hashes: npt.NDArray[np.uint64], *, seed: int) -> npt.NDArray[np.uint64]:
    """A uniform number for each content, ``(rows,) uint64``: a hash of the seed and ``(rows, 2)`` fingerprints.

    >>> draws(np.array([[1, 2], [1, 3], [1, 2]], np.uint64), seed=7).tolist()
    [5504384538815519443, 3994343446465521180, 5504384538815519443]
    """
    mixed = np.full(len(hashes), seed % 2**64, np.uint64) + np.uint64(0x9E3779B97F4A7C15)
    for half in range(2):
        mixed = (mixed ^ hashes[:, half]) * np.uint64(0xBF58476D1CE4E5B9)  # constants of SplitMix64
        mixed ^= mixed >> np.uint64(31)
        mixed *= np.uint64(0x94D049BB133111EB)
        mixed ^= mixed >> np.uint64(29)
    return mixed


def _booleans(path: str, name: str) -> npt.NDArray[np.bool_]:
    return read_mapped(path)[name].to_numpy()


# ---------------------------------------------------------------------------------------------------------
# Candidates
# ---------------------------------------------------------------------------------------------------------


def _find_candidates(
    drawn: Docs, sketches: Sequence[str], kept: Sequence[str], firsts: Sequence[int], agreement: int
) -> tuple[list[Docs], int]:
    """For each sampled document the kept documents that agree with it, ascending; and how many have more."""
    wanted = np.empty((len(drawn), BYTES), np.uint8)
    for path, first, places in _by_shard(drawn, firsts, sketches):
        rows = drawn[places] - first
        wanted[places] = np.frombuffer(b"".join(read_mapped(path)["bits"].take(pa.array(rows)).to_pylist()), np.uint8).reshape(-1, BYTES)  # fmt: skip
    scores = np.zeros((len(drawn), MOST), np.int8)
    docs = np.zeros((len(drawn), MOST), np.int64)
    counts = np.zeros(len(drawn), np.int64)
    for sketch, kept_path, first in zip(sketches, kept, firsts, strict=True):
        table = read_mapped(sketch)
        is_candidate = _booleans(kept_path, "kept") & table["has_words"].to_numpy()
        start = 0
        for chunk in table["bits"].chunks:
            bits = np.frombuffer(chunk.buffers()[1], np.uint8)[chunk.offset * BYTES :]
            bits = bits[: len(chunk) * BYTES].reshape(-1, BYTES)
            own = is_candidate[start : start + len(chunk)]
            _agreeing(wanted, drawn, bits, own, first + start, agreement, scores, docs, counts)
            start += len(chunk)
    found = [np.sort(docs[k, : min(count, MOST)]) for k, count in enumerate(counts.tolist())]
    return found, int((counts > MOST).sum())


def _by_shard(
    docs: Docs, firsts: Sequence[int], paths: Sequence[str]
) -> Iterator[tuple[str, int, npt.NDArray[np.int64]]]:
    """Where in ``docs`` (ascending) the documents of each shard are that has any."""
    shard = np.searchsorted(np.array(firsts), docs, side="right") - 1
    for number in np.unique(shard).tolist():
        yield paths[number], firsts[number], np.flatnonzero(shard == number)


@njit(nogil=True, cache=True, boundscheck=False)
def _agreeing(
    wanted: npt.NDArray[np.uint8],
    drawn: Docs,
    bits: npt.NDArray[np.uint8],
    is_candidate: npt.NDArray[np.bool_],
    first: int,
    agreement: int,
    scores: npt.NDArray[np.int8],
    docs: Docs,
    counts: npt.NDArray[np.int64],
) -> None:
    """Adds to the candidates of each sampled document those among ``bits``, whose first document is ``first``.

    ``counts`` may exceed the places; a candidate then takes the place of the one that agrees least, the last of these.
    """
    most = docs.shape[1]
    for row in range(len(bits)):
        if not is_candidate[row]:
            continue
        for k in range(len(wanted)):
            agree = _count_equal(wanted, np.uint64(k * 64), bits, np.uint64(row * 64))
            if agree < np.uint64(agreement) or drawn[k] == first + row:
                continue
            place = counts[k]
            counts[k] += 1
            if place >= most:
                place = 0
                for other in range(most):
                    if scores[k, other] <= scores[k, place] and (
                        scores[k, other] < scores[k, place] or docs[k, other] > docs[k, place]
                    ):
                        place = other
                if scores[k, place] >= np.int64(agree):
                    continue
            scores[k, place] = np.int8(agree)
            docs[k, place] = first + row


_instruction: Callable[[Callable[..., Any]], Callable[..., np.uint64]] = intrinsic


@_instruction
def _count_equal(typing: Any, left: Any, left_index: Any, right: Any, right_index: Any) -> Any:
    """In how many of 64 bytes from these places two arrays are equal; one comparison and one count with AVX-512."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        byte, vector = ir.IntType(8), ir.VectorType(ir.IntType(8), BYTES)
        blocks = []
        for k in (0, 2):
            data = context.make_array(signature.args[k])(context, builder, arguments[k]).data
            place = builder.gep(builder.bitcast(data, byte.as_pointer()), [arguments[k + 1]])
            block = builder.load(builder.bitcast(place, vector.as_pointer()))
            block.align = 1
            blocks.append(block)
        equal = builder.bitcast(builder.icmp_unsigned("==", *blocks), ir.IntType(BYTES))
        return builder.ctpop(equal)

    return types.uint64(left, types.uint64, right, types.uint64), generate


# ---------------------------------------------------------------------------------------------------------
# Exact comparison
# ---------------------------------------------------------------------------------------------------------


class _Shards(NamedTuple):
    documents: Sequence[str]
    facts: Sequence[str]
    firsts: npt.NDArray[np.int64]


class _Document(NamedTuple):
    """A document to be compared."""

    doc: int
    id: str
    source: str
    shingles: Shingles  # ascending, each once


def _compare(
    shards: _Shards,
    drawn: Docs,
    candidates: Sequence[Docs],
    threshold: float,
    ngram: int,
    similarity: Similarity,
    scope: str,
) -> list[dict[str, Any]]:
    """The sampled documents with a near duplicate, each with its most similar one; the most similar first."""
    others = {
        doc: partners for doc, partners in zip(drawn.tolist(), candidates, strict=True) if len(partners)
    }
    found: list[dict[str, Any]] = []
    for sampled in _chunks(shards, np.array(sorted(others), np.int64)):
        sets = {document.doc: document for document in _read(shards, sampled, ngram)}
        asking: dict[int, list[int]] = {}  # candidate: those it is a candidate of
        for doc in sets:
            for partner in others[doc].tolist():
                asking.setdefault(partner, []).append(doc)
        best: dict[int, tuple[float, str, str]] = {}
        for chunk in _chunks(shards, np.array(sorted(asking), np.int64)):
            for partner in _read(shards, chunk, ngram):
                for own in (sets[doc] for doc in asking[partner.doc]):
                    if scope == "across" or own.source == partner.source:
                        score = similarity_of(own.shingles, partner.shingles, similarity)
                        if score >= threshold:
                            key = (-score, partner.source, partner.id)
                            best[own.doc] = min(best.get(own.doc, key), key)
        found += [
            {"id": sets[doc].id, "source": sets[doc].source, "partner_id": id, "partner_source": source, "similarity": -score}
            for doc, (score, source, id) in best.items()
        ]  # fmt: skip
    return sorted(found, key=lambda pair: (-pair["similarity"], pair["source"], pair["id"]))


def similarity_of(own: Shingles, other: Shingles, similarity: Similarity = "jaccard") -> float:
    """Of two sets of shingles, each ascending and without repeats.

    >>> own, other = np.array([1, 2, 3], np.uint64), np.array([2, 3, 4, 5], np.uint64)
    >>> similarity_of(own, other), round(similarity_of(own, other, "containment"), 3)
    (0.4, 0.667)
    """
    common = len(np.intersect1d(own, other, assume_unique=True))
    return common / (len(own) if similarity == "containment" else len(own) + len(other) - common)


def _chunks(shards: _Shards, docs: Docs) -> Iterator[Docs]:
    """Consecutive documents of ``docs`` (ascending) with about ``CHUNK_CHARACTERS`` of text."""
    lengths = np.zeros(len(docs), np.int64)
    for path, first, places in _by_shard(docs, shards.firsts.tolist(), shards.facts):
        lengths[places] = read_mapped(path)["length"].take(pa.array(docs[places] - first)).to_numpy()
    number = (np.cumsum(lengths) - lengths) // CHUNK_CHARACTERS
    bounds = np.flatnonzero(np.diff(number)) + 1
    for start, stop in itertools.pairwise([0, *bounds.tolist(), len(docs)]):
        if start < stop:
            yield docs[start:stop]


def _read(shards: _Shards, docs: Docs, ngram: int) -> Iterator[_Document]:
    """Documents (ascending) with their shingles; only the groups of the shards that hold them are read."""
    for path, first, places in _by_shard(docs, shards.firsts.tolist(), shards.documents):
        table = read_rows(path, docs[places] - first, ["id", "source", "text"])
        pointers, values = words.shingles(table["text"], ngram=ngram)
        names = zip(table["id"].to_pylist(), table["source"].to_pylist(), strict=True)
        for k, (id, source) in enumerate(names):
            shingles = np.unique(values[pointers[k] : pointers[k + 1]])
            yield _Document(int(docs[places[k]]), id, source, shingles)
