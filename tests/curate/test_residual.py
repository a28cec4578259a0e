"""The residual rate against all pairs, compared in Python; and that it does not depend on how documents are stored."""

from __future__ import annotations

import doctest
import gzip
import itertools
import json
import math
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from curate import residual
from curate.minhash import Bands, sketch
from curate.residual import least_agreement, missed_probability, residual_part, wilson_interval
from curate.shards import ShardWriter
from filters import words
from filters.errors import ConfigError
from filters.fingerprint import fingerprints

DATA = Path(__file__).parents[1] / "data"
NGRAM = 3

Document = dict[str, Any]  # id, source, text, kept

_DOCUMENTS = pa.schema([("id", pa.string()), ("source", pa.string()), ("text", pa.large_string())])
_FACTS = pa.schema([("content_hash", pa.binary(16)), ("length", pa.int64())])
_SKETCH = pa.schema([("bits", pa.binary(64)), ("has_words", pa.bool_())])


def write_shards(
    folder: Path, documents: Sequence[Document], *, shards: int = 1, suffix: str = ".arrow"
) -> dict[str, Any]:
    """The files that the part reads, in ``shards`` shards of a few record batches."""
    cuts = [len(documents) * i // shards for i in range(shards + 1)]
    paths: dict[str, Any] = {"documents": [], "facts": [], "sketches": [], "kept": [], "firsts": cuts[:-1]}
    for number, (start, stop) in enumerate(itertools.pairwise(cuts)):
        out = folder / f"{shards}-{number}"
        out.mkdir(parents=True)
        rows = documents[start:stop]
        texts = pa.array([d["text"] for d in rows], pa.large_string())
        made = sketch(texts, bands=Bands(13, 7), ngram=NGRAM)
        hashes = pa.Array.from_buffers(pa.binary(16), len(rows), [None, pa.py_buffer(fingerprints(texts))])
        bits = pa.Array.from_buffers(pa.binary(64), len(rows), [None, pa.py_buffer(made.bits)])
        tables = {
            f"documents{suffix}": pa.table([[d["id"] for d in rows], [d["source"] for d in rows], texts], schema=_DOCUMENTS),
            "facts.arrow": pa.table([hashes, [len(d["text"]) for d in rows]], schema=_FACTS),
            "sketch.arrow": pa.table([bits, made.has_words], schema=_SKETCH),
            "kept.arrow": pa.table({"kept": pa.array([d.get("kept", True) for d in rows], pa.bool_())}),
        }  # fmt: skip
        for kind, (name, table) in zip(("documents", "facts", "sketches", "kept"), tables.items(), strict=True):  # fmt: skip
            with ShardWriter(out / name, table.schema) as writer:
                for first in range(0, len(rows), 37):
                    writer.write(table.slice(first, 37))
            paths[kind].append(str(out / name))
    return paths


def measured(paths: dict[str, Any], **options: Any) -> dict[str, Any]:
    return residual_part(Path("/nowhere"), **paths, **{"threshold": 0.8, "ngram": NGRAM, **options})


def shingles(text: str) -> frozenset[tuple[str, ...]]:
    found = [word for word, _, _ in words.split(text)]
    return frozenset(tuple(found[k : k + NGRAM]) for k in range(max(1, len(found) - NGRAM + 1)) if found)


class AllPairs:
    """How many shingles every two kept documents share."""

    def __init__(self, documents: Sequence[Document]) -> None:
        numbers: dict[tuple[str, ...], int] = {}  # sets of numbers are quicker
        self.sets = {
            d["id"]: frozenset(numbers.setdefault(shingle, len(numbers)) for shingle in shingles(d["text"]))
            for d in documents
            if d["kept"]
        }
        pairs = itertools.combinations(self.sets.items(), 2)
        self.common = {(own, other): len(a & b) for (own, a), (other, b) in pairs}

    def best(self, threshold: float, similarity: str = "jaccard") -> dict[str, float]:
        """The highest similarity of each document with another, if it reaches the threshold."""
        found: dict[str, float] = {}
        for pair, count in self.common.items():
            for own, other in (pair, pair[::-1]):
                size = len(self.sets[own])
                score = count / max(1, size if similarity == "containment" else size + len(self.sets[other]) - count)  # fmt: skip
                if score >= threshold:
                    found[own] = max(score, found.get(own, 0))
        return found


@pytest.fixture(scope="module")
def real_documents() -> list[Document]:
    """Two editions of a manual, documents that are like each other, and some without words."""
    documents = []
    for path in sorted((DATA / "documents" / "postgresql").glob("*.jsonl.gz")):
        with gzip.open(path, "rt", encoding="utf-8") as lines:
            documents += [{"id": f"{path.stem}-{r['id']}", "source": "postgresql", "text": r["text"]} for r in map(json.loads, itertools.islice(lines, 50))]  # fmt: skip
    for path in sorted((DATA / "documents").glob("*.parquet")):
        table = pq.read_table(path, columns=["id", "text"]).slice(0, 80)
        documents += [{"id": row["id"], "source": path.stem, "text": row["text"]} for row in table.to_pylist()]  # fmt: skip
    for number, document in enumerate(documents[:30]):  # near copies
        parts = document["text"].split(" ")
        for place in range(7, len(parts), 60):
            parts[place] = "changed"
        documents.append({**document, "id": f"near-{number}", "source": "copies", "text": " ".join(parts)})
    for number, document in enumerate(documents[40:50]):
        documents.append({**document, "id": f"half-{number}", "text": document["text"][: len(document["text"]) // 2]})  # fmt: skip
    documents += [{"id": f"none-{n}", "source": "empty", "text": text} for n, text in enumerate(["", "?", "—…"])]  # fmt: skip
    unique = list({d["id"]: d for d in documents}.values())
    random.Random(3).shuffle(unique)
    for number, document in enumerate(unique):
        document["kept"] = number % 9 != 4
    return unique


@pytest.fixture(scope="module")
def truth(real_documents: list[Document]) -> AllPairs:
    return AllPairs(real_documents)


def test_the_examples_in_the_docstrings_are_true() -> None:
    assert doctest.testmod(residual).failed == 0


@pytest.mark.parametrize(("threshold", "similarity"), [(0.8, "jaccard"), (0.5, "jaccard"), (0.8, "containment")])  # fmt: skip
def test_a_sample_of_everything_counts_what_all_pairs_count(
    tmp_path: Path, real_documents: list[Document], truth: AllPairs, threshold: float, similarity: str
) -> None:
    expected = truth.best(threshold, similarity)
    kept = [d for d in real_documents if d["kept"]]
    assert 20 < len(expected) < len(kept) / 2
    paths = write_shards(tmp_path, real_documents, shards=3)
    found = measured(paths, threshold=threshold, similarity=similarity, sample=10**6)
    if similarity == "jaccard":
        assert found["with_near_duplicate"] == len(expected)
    else:  # a short text inside of a long one agrees with it in few bytes
        assert len(truth.best(threshold)) <= found["with_near_duplicate"] <= len(expected)
    assert (found["kept"], found["without_words"]) == (len(kept), sum(not own for own in truth.sets.values()))
    assert found["sampled"] == found["kept"] - found["without_words"]
    assert found["low"] == found["rate"] == found["high"] == found["with_near_duplicate"] / found["sampled"]
    assert len(found["examples"]) == 5
    by_id = {d["id"]: d for d in real_documents}
    for pair in found["examples"]:
        own, other = (by_id[pair[name]] for name in ("id", "partner_id"))
        assert (own["source"], other["source"]) == (pair["source"], pair["partner_source"])
        assert own["kept"] and other["kept"]
        assert pair["similarity"] == expected[own["id"]]
    scores = [pair["similarity"] for pair in found["examples"]]
    assert scores == sorted(expected.values(), reverse=True)[:5]


def test_a_sample_estimates_the_rate_and_its_interval_holds_it(
    tmp_path: Path, real_documents: list[Document]
) -> None:
    paths = write_shards(tmp_path, real_documents, shards=2)
    exact = measured(paths, sample=10**6)["rate"]
    samples = [measured(paths, sample=120, seed=seed) for seed in range(12)]
    assert {found["sampled"] for found in samples} == {120}
    assert len({found["rate"] for found in samples}) > 3  # other seeds, other samples
    assert sum(found["low"] <= exact <= found["high"] for found in samples) >= 11
    assert abs(np.mean([found["rate"] for found in samples]) - exact) < 0.03


@pytest.mark.parametrize("suffix", [".arrow", ".parquet"])
def test_the_result_does_not_depend_on_shards_or_their_order(
    tmp_path: Path, real_documents: list[Document], suffix: str
) -> None:
    expected = measured(write_shards(tmp_path, real_documents), sample=100, seed=5)
    assert expected["with_near_duplicate"] > 0
    moved = sorted(real_documents, key=lambda d: d["id"])
    for shards in (2, 5):
        assert measured(write_shards(tmp_path / "b" / suffix, moved, shards=shards, suffix=suffix), sample=100, seed=5) == expected  # fmt: skip


def test_only_documents_of_one_source_count_when_the_scope_is_a_source(tmp_path: Path) -> None:
    text = " ".join(f"word{k}" for k in range(60))
    documents = [
        {"id": "1", "source": "a", "text": text},
        {"id": "2", "source": "b", "text": text + " more"},
        {"id": "3", "source": "b", "text": text + " even"},
    ]
    paths = write_shards(tmp_path, documents)
    assert measured(paths)["with_near_duplicate"] == 3
    within = measured(paths, scope="within")
    assert within["with_near_duplicate"] == 2
    assert {pair["partner_source"] for pair in within["examples"]} == {"b"}


def test_removed_documents_are_nobodys_near_duplicates(tmp_path: Path) -> None:
    text = " ".join(f"word{k}" for k in range(60))
    documents = [{"id": str(k), "source": "a", "text": text, "kept": k == 0} for k in range(4)]
    found = measured(write_shards(tmp_path, documents))
    assert (found["kept"], found["sampled"], found["with_near_duplicate"], found["rate"]) == (1, 1, 0, 0.0)
    assert found["candidates"] == 0


@pytest.mark.parametrize("documents", [[], [{"id": "1", "source": "a", "text": "?"}], [{"id": "1", "source": "a", "text": "x", "kept": False}]])  # fmt: skip
def test_without_documents_that_could_be_drawn_nothing_is_known_to_remain(
    tmp_path: Path, documents: list[Document]
) -> None:
    found = measured(write_shards(tmp_path, documents, shards=1))
    assert (found["sampled"], found["with_near_duplicate"], found["rate"], found["examples"]) == (0, 0, 0.0, [])  # fmt: skip
    assert found["without_words"] == found["kept"]


def test_more_candidates_than_are_compared_are_counted_and_the_nearest_are_taken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(residual, "MOST", 4)
    rng = random.Random(1)
    base = [f"word{k}" for k in range(200)]
    documents = [{"id": "same", "source": "a", "text": " ".join([*base, "end"])}]
    for number in range(20):  # about 0.7 alike
        other = list(base)
        for place in rng.sample(range(200), 12):
            other[place] = f"other{number}-{place}"
        documents.append({"id": f"other{number}", "source": "a", "text": " ".join(other)})
    documents.append({"id": "base", "source": "a", "text": " ".join(base)})
    found = measured(write_shards(tmp_path, documents, shards=4), sample=100)
    assert found["capped"] > 0
    assert found["candidates"] <= 4 * found["sampled"]
    assert {pair["id"] for pair in found["examples"]} == {"same", "base"}


def test_texts_are_compared_in_chunks_of_bounded_size(
    tmp_path: Path, real_documents: list[Document], monkeypatch: pytest.MonkeyPatch
) -> None:
    paths = write_shards(tmp_path, real_documents, shards=2)
    whole = measured(paths, sample=200)
    sizes: list[int] = []
    read_rows = residual.read_rows

    def counting(path: str, rows: Any, columns: Sequence[str]) -> pa.Table:
        table = read_rows(path, rows, columns)
        sizes.append(sum(map(len, table["text"].to_pylist())) - max(map(len, table["text"].to_pylist())))
        return table

    monkeypatch.setattr(residual, "CHUNK_CHARACTERS", 20000)
    monkeypatch.setattr(residual, "read_rows", counting)
    assert measured(paths, sample=200) == whole
    assert len(sizes) > 4
    assert max(sizes) <= 20000


def test_a_missed_pair_is_as_rare_as_the_result_says() -> None:
    """Binomial tails by simulation of the bytes themselves."""
    rng = np.random.default_rng([2, 5])
    for threshold in (0.3, 0.5):
        agree = (rng.random((200_000, 64)) < threshold) | (rng.random((200_000, 64)) < 1 / 256)
        share = (agree.sum(axis=1) < least_agreement(threshold)).mean()
        assert abs(share - missed_probability(threshold)) < 5 * math.sqrt(missed_probability(threshold) / 200_000)  # fmt: skip
    assert missed_probability(0.8, "containment") > missed_probability(0.8)
    assert missed_probability(1.0) == 0.0


def test_the_interval_is_wilsons() -> None:
    """Newcombe 1998, doi:10.1002/(SICI)1097-0258(19980430)17:8<857::AID-SIM777>3.0.CO;2-E, table I, method 3."""
    assert [round(bound, 4) for bound in wilson_interval(81, 263)] == [0.2553, 0.3662]
    assert [round(bound, 4) for bound in wilson_interval(15, 148)] == [0.0624, 0.1605]
    assert [round(bound, 4) for bound in wilson_interval(0, 20)] == [0.0, 0.1611]
    assert [round(bound, 4) for bound in wilson_interval(1, 29)] == [0.0061, 0.1718]
    assert wilson_interval(0, 0) == (0.0, 1.0)


def test_draws_are_uniform_and_depend_on_the_seed_and_the_content() -> None:
    hashes = fingerprints(pa.array([f"text {k}" for k in range(4000)]))
    one, other = residual.draws(hashes, seed=1), residual.draws(hashes, seed=2)
    assert len(np.unique(np.concatenate([one, other]))) == 8000
    for values in (one, other, one ^ other):
        assert abs((values / 2**64).mean() - 0.5) < 0.02
    halves = hashes.copy()
    halves[:, 1] += np.uint64(1)
    assert (residual.draws(halves, seed=1) != one).all()


def test_a_sample_of_nothing_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="residual: sample is 0; allowed: 1 or more"):
        measured(write_shards(tmp_path, []), sample=0)
