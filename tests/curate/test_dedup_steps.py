"""The search as steps: the same decisions however documents are cut, listed and held, and each of them true."""

from __future__ import annotations

import itertools
import logging
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from curate import dedup_steps, group, measurement, shuffle
from curate.config import from_mapping
from curate.datasketch import balanced_bands as balanced_by_datasketch
from curate.dedup_steps import Found, balanced_bands, keys_per_document, search_settings
from curate.engine import Finished, Run
from curate.generations import documents_schema as index_schema
from curate.measurement import content_hashes
from curate.schema import documents_schema
from curate.settings import CurateConfig
from curate.shards import ShardWriter
from curate.shuffle import read_mapped

Document = dict[str, Any]  # source, id, text; url, passing


@dataclass(frozen=True)
class Searched:
    """What a run found, by document number."""

    links: list[dict[str, Any]]
    decisions: list[dict[str, Any]]
    kept: list[bool]
    found: Found
    warnings: list[str]
    residual: dict[str, Any] | None

    @property
    def gone(self) -> list[tuple[int, int, str]]:
        return [(r["doc"], r["partner"], r["rule"]) for r in self.links if r["outcome"] == "duplicate"]


def config_of(sources: Sequence[str] = ("s",), *, kept: bool = True, **dedup: Any) -> CurateConfig:
    minhash = {"ngram": 2, "threshold": 0.6, **(dedup.pop("minhash", None) or {})}
    if dedup.pop("exact_only", False):
        minhash = None  # type: ignore[assignment]
    priorities = dedup.pop("priorities", {})
    return from_mapping(
        CurateConfig,
        {
            "sources": {
                s: {"path": "x", "id": "id", "meta": ["url"], "priority": priorities.get(s, 0)}
                for s in sources
            },
            "measure": {"signals": [], "language": False},
            "policy": {"use": []},
            "dedup": {"minhash": minhash, **dedup},
            "output": {"documents": False, "kept": kept},
        },
    )


def search(
    folder: Path,
    documents: Sequence[Document],
    *,
    cuts: Sequence[int] = (),
    suffix: str = "arrow",
    native: bool = True,
    base: Sequence[Mapping[str, Any]] = (),
    rows: int = 3,
    **dedup: Any,
) -> Searched:
    """Shards end before the documents ``cuts``; a record batch or row group has ``rows`` of them."""
    folder.mkdir(exist_ok=True)
    config = config_of(sorted({d["source"] for d in documents} or {"s"}), **dedup)
    bounds = [0, *cuts, len(documents)]
    name = f"documents.{suffix}"
    schema = documents_schema(["url"])
    for number, (start, stop) in enumerate(itertools.pairwise(bounds)):
        (folder / "given" / f"{number:06d}").mkdir(parents=True)
        with ShardWriter(folder / "given" / f"{number:06d}" / name, schema) as writer:
            for first in range(start, stop, rows):
                own = [_row(d) for d in documents[first : min(stop, first + rows)]]
                writer.write(pa.Table.from_pylist(own, schema))
                writer._flush()
        passing = [d.get("passing", True) for d in documents[start:stop]]
        pq.write_table(pa.table({"passing": pa.array(passing, pa.bool_())}), folder / "given" / f"{number:06d}" / "passing.parquet")  # fmt: skip
    shards = len(bounds) - 1
    given = Finished(
        folder / "given", [{}] * shards, [{name: "0", "passing.parquet": f"{documents}"}] * shards
    )
    judged = given if any("passing" in d for d in documents) else None
    warnings: list[str] = []
    shared: dict[str, Any] = {"documents": given, "document_file": name, "firsts": bounds[:-1]}
    with Run(folder / "run", engine="inline", progress=False) as run:
        measured = dedup_steps.measure(run, config, **shared, model=None, total=len(documents))
        found = dedup_steps.find_duplicates(
            run, config, **shared, measured=measured, judged=judged, total=len(documents), native=[native] * shards, base=base,
            warn=warnings.append,
        )  # fmt: skip
        without = None  # what judge.py writes is not needed here
        decided = dedup_steps.decide(
            run,
            config,
            **shared,
            judged=without,
            found=found,
            rows=[b - a for a, b in itertools.pairwise(bounds)],
        )
        residual = dedup_steps.residual(run, config, **shared, measured=measured, decided=decided)
    links: list[dict[str, Any]] = []
    if found.duplicates is not None:
        for path in found.duplicates.paths("links.arrow"):
            links += read_mapped(path).to_pylist()
    return Searched(
        sorted(links, key=lambda link: link["doc"]),
        [row for path in decided.paths("decisions.parquet") for row in pq.read_table(path).to_pylist()],
        [stays for path in decided.paths("kept.arrow") for stays in read_mapped(path)["kept"].to_pylist()],
        found,
        warnings,
        residual,
    )


def _row(document: Document) -> dict[str, Any]:
    return {
        **{name: document[name] for name in ("id", "source", "text")},
        "meta": {"url": document.get("url")},
    }


def document(id: str, text: str, source: str = "s", **more: Any) -> Document:
    return {"id": id, "source": source, "text": text, **more}


def by_key(searched: Searched) -> list[dict[str, Any]]:
    """Decisions are sorted inside each shard only."""
    return sorted(searched.decisions, key=lambda decision: (decision["source"], decision["id"]))


def jaccard(a: str, b: str, ngram: int = 2) -> float:
    def shingles(text: str) -> set[tuple[str, ...]]:
        words = re.findall(r"\w+", text.lower())
        return {tuple(words[i : i + ngram]) for i in range(max(1, len(words) - ngram + 1))}

    return len(shingles(a) & shingles(b)) / len(shingles(a) | shingles(b))


LONG = "the quick brown fox jumps over the lazy dog and runs far away into the deep dark wood"
NEAR = LONG + " today"  # one shingle more: 17 of 18
FAR = "entirely other words that nobody would take for the same thing at all in any case"
EXACT, JACCARD = "exact.content_hash", "minhash.jaccard"


# -- what is found ---------------------------------------------------------------------------------------------------


def test_a_copy_and_a_near_copy_go_for_the_preferred_document(tmp_path: Path) -> None:
    documents = [document("a", LONG), document("b", FAR), document("c", " " + LONG), document("d", NEAR)]
    made = search(tmp_path, documents, cuts=[2])
    assert made.gone == [(0, 3, JACCARD), (2, 3, JACCARD)]  # the longest text is preferred
    assert made.kept == [False, True, False, True]
    assert [(d["id"], d["action"], d["partner_id"], d["value"], d["bound"]) for d in made.decisions] == [
        ("a", "drop", "d", pytest.approx(17 / 18, abs=1e-12), 0.6),
        ("c", "drop", "d", pytest.approx(17 / 18, abs=1e-12), 0.6),
    ]
    assert made.warnings == []


@pytest.mark.parametrize(
    ("prefer", "kept"),
    [(("priority", "quality", "length"), "c"), (("length", "priority"), "d"), (("quality",), "a"), ((), "a")],
)
@pytest.mark.parametrize("suffix", ["arrow", "parquet"])
def test_preferences_decide_which_copy_stays_and_ties_go_to_the_smaller_key(
    prefer: tuple[str, ...], kept: str, suffix: str, tmp_path: Path
) -> None:
    documents = [document(i, text, s) for i, text, s in (("b", LONG, "t"), ("a", LONG, "s"), ("c", LONG, "z"), ("d", NEAR, "y"))]  # fmt: skip
    made = search(tmp_path, documents, suffix=suffix, prefer=prefer, priorities={"z": 5, "y": -3})
    assert {link["partner_id"] for link in made.links} == {kept}
    assert len(made.links) == 3


def test_without_native_ids_the_first_of_equals_stays_and_not_the_smaller_name(tmp_path: Path) -> None:
    documents = [document(f"f#{n}", LONG) for n in (9, 10, 11)]
    assert [doc for doc, *_ in search(tmp_path / "positions", documents, native=False).gone] == [1, 2]
    assert [doc for doc, *_ in search(tmp_path / "names", documents, native=True).gone] == [0, 2]


def test_a_document_that_fails_the_policy_is_nobodys_reason_to_go(tmp_path: Path) -> None:
    documents = [document("a", LONG, passing=False), document("b", LONG), document("c", LONG, passing=False)]
    assert search(tmp_path / "some", documents, cuts=[1]).gone == [(0, 1, EXACT), (2, 1, EXACT)]
    assert search(tmp_path / "none", [document(i, LONG, passing=False) for i in "ab"]).links == []


def test_without_near_duplicates_only_copies_are_found(tmp_path: Path) -> None:
    documents = [document(*row) for row in (("a", LONG), ("b", NEAR), ("c", LONG), ("d", ""), ("e", " "))]
    made = search(tmp_path, documents, exact_only=True, prefer=())
    assert made.gone == [(2, 0, EXACT), (4, 3, EXACT)]
    assert {d["bound"] for d in made.decisions} == {1.0}
    assert "curve" not in made.found.summary
    assert made.residual is None


def test_nothing_to_search_for_keeps_everything(tmp_path: Path) -> None:
    made = search(tmp_path, [document("a", LONG), document("b", LONG)], exact=False, exact_only=True)
    assert (made.found, made.kept, made.decisions) == (Found(None, {}), [True, True], [])


def test_a_chain_loses_only_what_resembles_a_document_that_stays(tmp_path: Path) -> None:
    words = [f"w{n}" for n in range(40)]
    chain = [document(f"d{n}", " ".join(words[4 * n : 4 * n + 20])) for n in range(4)]
    made = search(tmp_path, chain, prefer=())
    assert jaccard(chain[0]["text"], chain[1]["text"]) > 0.6 > jaccard(chain[0]["text"], chain[2]["text"])
    assert made.gone == [(1, 0, JACCARD), (3, 2, JACCARD)]
    assert made.found.summary["clusters"]["clusters"] == 1
    assert made.residual is not None
    assert (made.residual["kept"], made.residual["rate"]) == (2, 0.0)


def test_what_the_search_missed_is_found_in_the_sample(tmp_path: Path) -> None:
    documents = [
        document(f"{pair}{n}", f"{LONG} {pair} " * 3 + f"once {n}") for pair in "abcdefgh" for n in (0, 1)
    ]
    made = search(tmp_path, documents, minhash={"threshold": 0.9, "recall": 0.1})
    missed = sum(made.kept) - 8
    assert missed > 0
    assert made.residual is not None
    assert made.residual["with_near_duplicate"] == 2 * missed


def test_templated_documents_that_share_half_of_their_text_stay(tmp_path: Path) -> None:
    template = " ".join(f"same{n}" for n in range(30))
    documents = [document(f"d{n}", template + "".join(f" own{n}x{k}" for k in range(30))) for n in range(8)]
    made = search(tmp_path, documents)
    assert made.links == []
    assert all(made.kept)


@pytest.mark.parametrize(("scope", "gone"), [("across", [1, 2, 3, 4]), ("within", [2, 3, 4])])
def test_duplicates_are_looked_for_across_or_within_sources(
    scope: str, gone: list[int], tmp_path: Path
) -> None:
    documents = [document("a", LONG, "s"), document("b", LONG, "t"), document("c", LONG, "t"), document("d", NEAR, "s"), document("e", NEAR, "t")]  # fmt: skip
    made = search(tmp_path, documents, cuts=[1], scope=scope, prefer=())
    assert [doc for doc, *_ in made.gone] == gone
    for doc, partner, _ in made.gone:
        assert scope == "across" or documents[doc]["source"] == documents[partner]["source"]


def test_documents_of_equal_fields_are_duplicates_whatever_their_texts(tmp_path: Path) -> None:
    urls = ["http://a", None, "http://a ", "http://b", None]
    documents = [document(f"d{n}", f"{FAR} {n} {n * n} {n + 7}" if n else LONG, url=url) for n, url in enumerate(urls)]  # fmt: skip
    made = search(tmp_path, documents, by=["url"], exact_only=True, prefer=())
    assert made.gone == [(2, 0, "exact.url")]
    (decision,) = made.decisions
    assert (decision["stage"], decision["rule"], decision["value"], decision["bound"]) == ("exact", "exact.url", 1.0, 1.0)  # fmt: skip


def test_near_misses_are_written_down_and_stay(tmp_path: Path) -> None:
    near_miss = LONG + " where nobody has ever seen it again"
    made = search(
        tmp_path,
        [document("a", near_miss), document("b", LONG)],
        minhash={
            "threshold": 0.9,
            "near_miss": 0.5,
            "permutations": 16,
            "recall": 0.999,
        },  # bands of two rows
    )
    assert [(d["id"], d["action"], d["partner_id"], d["bound"]) for d in made.decisions] == [("b", "near_miss", "a", 0.9)]  # fmt: skip
    assert made.decisions[0]["value"] == pytest.approx(jaccard(near_miss, LONG), abs=1e-12)
    assert all(made.kept)


def test_containment_removes_what_lies_in_another_document(tmp_path: Path) -> None:
    documents = [document("whole", NEAR + " and then some more words"), document("part", LONG)]
    loose = {"permutations": 8, "recall": 0.999}  # bands of one row
    made = search(tmp_path, documents, minhash={"threshold": 0.95, "similarity": "containment", **loose})
    assert [(d["id"], d["rule"], d["value"]) for d in made.decisions] == [
        ("part", "minhash.containment", 1.0)
    ]


def test_datasketch_signs_and_finds_what_our_own_hashes_find(tmp_path: Path) -> None:
    documents = [document("a", LONG), document("b", FAR), document("c", LONG), document("d", NEAR), document("e", "")]  # fmt: skip
    made = {f: search(tmp_path / f, documents, minhash={"hash_family": f}) for f in ("words", "datasketch")}
    assert made["datasketch"].links == made["words"].links
    assert len(made["words"].links) == 2
    assert [made[f].found.summary["hash_family"] for f in made] == ["words", "datasketch"]


# -- the same however it is done -------------------------------------------------------------------------------------

WORDS = st.sampled_from(["ant", "bee", "cow", "dog", "elk"])
SOME = st.lists(WORDS, max_size=9).map(" ".join)
CORPUS = st.lists(st.tuples(SOME, st.sampled_from(["s", "t"]), st.booleans()), max_size=14)


@settings(max_examples=7, deadline=None)
@given(
    corpus=CORPUS,
    cuts=st.lists(st.integers(0, 14), max_size=3).map(sorted),
    suffix=st.sampled_from(["arrow", "parquet"]),
    spilled=st.booleans(),
    scope=st.sampled_from(["across", "within"]),
)
def test_shards_portions_batches_order_and_spilling_change_no_decision_and_every_one_is_true(
    corpus: list[tuple[str, str, bool]],
    cuts: list[int],
    suffix: str,
    spilled: bool,
    scope: str,
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    documents = [
        document(f"d{i:02}", text, source, passing=passing, url=f"u{i % 7}")
        for i, (text, source, passing) in enumerate(corpus)
    ]
    folder = tmp_path_factory.mktemp("search")
    whole = search(folder / "whole", documents, scope=scope)
    assert by_key(search(folder / "moved", documents[::-1], scope=scope)) == by_key(whole)
    with pytest.MonkeyPatch.context() as patch:
        for name, value in (("LEAST_PORTION_BYTES", 1), ("LEAST_BATCH_BYTES", 1)):
            patch.setattr(group, name, value)
        patch.setattr(shuffle, "MANY", 4)
        patch.setattr(shuffle, "ROUND_BYTES", 300)
        patch.setattr(shuffle, "PORTION_BYTES", 1)
        if spilled:
            patch.setattr(group, "GROUPING_BYTES", (64 << 20) // 16)  # runs of four entries
            patch.setattr(group, "count_partitions", lambda *_: 4)
        cuts = [min(cut, len(documents)) for cut in cuts]
        cut = search(folder / "cut", documents, cuts=cuts, suffix=suffix, scope=scope, memory="64MiB", rows=2)
    assert cut.links == whole.links
    assert by_key(cut) == by_key(whole)
    assert cut.kept == whole.kept
    gone = {doc for doc, *_ in whole.gone}
    for link in whole.links:
        own, partner = documents[link["doc"]], documents[link["partner"]]
        assert (link["id"], link["source"]) == (own["id"], own["source"])
        assert (link["partner_id"], link["partner_source"]) == (partner["id"], partner["source"])
        assert partner["passing"]
        assert link["partner"] not in gone
        assert link["similarity"] == pytest.approx(
            1.0 if link["method"] == "exact" else jaccard(own["text"], partner["text"]), abs=1e-12
        )
        assert (link["similarity"] >= 0.6) == (link["outcome"] == "duplicate")
        assert (link["method"] == "exact") <= (own["text"] == partner["text"])
        assert scope == "across" or own["source"] == partner["source"]
    texts = [
        (d["text"], d["source"] if scope == "within" else "")
        for i, d in enumerate(documents)
        if i not in gone and d["passing"]
    ]
    assert len(texts) == len(set(texts))


def test_ten_thousand_copies_of_a_text_leave_one_and_cost_no_comparison(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(group, "count_partitions", lambda *_: 2)
    monkeypatch.setattr(group, "GROUPING_BYTES", 1 << 14)  # more than 2,048 keys are sorted on disk
    documents = [document(f"d{n:05d}", LONG) for n in range(10_000)]
    made = search(tmp_path, documents, cuts=[4_000, 4_001], rows=4_096, memory="64MiB")
    assert made.kept == [True] + [False] * 9_999
    assert {partner for _, partner, _ in made.gone} == {0}
    summary = made.found.summary
    assert summary["spilled_runs"] > 10
    assert (summary["compared_pairs"], summary["capped_buckets"], summary["pairs"]) == (0, 0, 9_999)
    assert summary["clusters"] == {"clusters": 1, "largest": 10_000, "rows": 10_000}
    assert (summary["batches"], made.warnings) == (1, [])


def test_one_giant_cluster_gives_the_same_links_in_many_chunks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = [f"w{n}" for n in range(2_000)]
    documents = [document(f"d{n:04d}", " ".join(words[2 * n : 2 * n + 30])) for n in range(600)]
    whole = search(tmp_path / "whole", documents, rows=100)
    monkeypatch.setattr("curate.duplicates.CHUNK_BYTES", 3_000)
    made = search(tmp_path / "chunks", documents, cuts=[250], suffix="parquet", rows=100)
    assert made.found.summary["clusters"]["clusters"] == 1
    assert len(made.links) > 200
    assert made.links == whole.links


def test_buckets_that_are_not_compared_in_full_are_told_with_numbers(tmp_path: Path) -> None:
    shared = " ".join(f"common{n}" for n in range(20))
    rng = np.random.default_rng([1, 2])
    documents = [document(f"d{n:03d}", shared + "".join(f" w{k}" for k in rng.integers(10**6, size=6))) for n in range(400)]  # fmt: skip
    made = search(
        tmp_path, documents, rows=100, minhash={"threshold": 0.97, "recall": 0.99, "permutations": 2}
    )
    summary = made.found.summary
    assert summary["capped_buckets"] > 0
    assert made.warnings == [
        f"dedup: {summary['capped_buckets']} buckets have more documents that stay than are compared (the largest has "
        f"{summary['largest_bucket']} members); near duplicates may remain there. Raise dedup.minhash.threshold or ngram, or "
        "remove what these documents have in common."
    ]


def test_the_parts_of_every_step_are_kept_and_a_second_run_redoes_none(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    documents = [document("a", LONG), document("b", LONG), document("c", FAR)]
    first = search(tmp_path, documents, cuts=[1])
    log = (tmp_path / "run" / "log" / "run.jsonl").read_text().splitlines()
    steps = [re.search(r'"step": "([\w-]+)"', line)[1] for line in log]  # type: ignore[index]
    assert steps == [
        "measure",
        "group",
        "cluster",
        "deal-texts",
        "deal-members",
        "duplicates",
        "decide",
        "residual",
    ]
    for path in (tmp_path / "given").rglob("*"):
        if path.is_file():
            path.unlink()
    for path in (tmp_path / "given").iterdir():
        path.rmdir()
    (tmp_path / "given").rmdir()
    with caplog.at_level(logging.WARNING):
        again = search(tmp_path, documents, cuts=[1])
    assert again.links == first.links
    assert '"run": 1' not in "".join((tmp_path / "run" / "log" / "run.jsonl").read_text().splitlines()[8:])
    assert caplog.text == ""


# -- an index --------------------------------------------------------------------------------------------------------


def write_generation(folder: Path, documents: Sequence[Document], number: int, bands: tuple[int, int]) -> dict[str, Any]:  # fmt: skip
    """A run of an index, made by hand from documents: keys of contents and bands in one ascending file."""
    from curate import minhash
    from filters.fingerprint import fingerprints

    folder.mkdir(parents=True)
    texts = pa.array([d["text"] for d in documents], pa.large_string())
    sketch = minhash.sketch(texts, bands=minhash.Bands(*bands), ngram=2, seed=minhash.SEED)
    keys = [(int(k), i) for i, k in enumerate(minhash.exact_keys(fingerprints(texts)).tolist())]
    keys += [(int(k), i) for i, row in enumerate(sketch.keys) if sketch.has_words[i] for k in row]
    keys.sort()
    schema = pa.schema([pa.field("key", pa.uint64(), nullable=False), pa.field("row", pa.int64(), nullable=False)])  # fmt: skip
    columns = [pa.array([k for k, _ in keys], pa.uint64()), pa.array([r for _, r in keys], pa.int64())]
    with pa.OSFile(str(folder / "keys.arrow"), "wb") as sink, pa.ipc.new_file(sink, schema) as writer:
        writer.write_batch(pa.record_batch(columns, schema=schema))
    n = len(documents)
    table = pa.table(
        {
            "id": [d["id"] for d in documents], "source": [d["source"] for d in documents], "text": texts,
            "content_hash": content_hashes(texts), "priority": pa.nulls(n, pa.float64()), "quality": pa.nulls(n, pa.float64()),
            "length": [len(d["text"]) for d in documents], "position": [0] * n,
        },
        index_schema([]),
    )  # fmt: skip
    with (
        pa.OSFile(str(folder / "documents.arrow"), "wb") as sink,
        pa.ipc.new_file(sink, table.schema) as writer,
    ):
        for batch in table.to_batches(max_chunksize=2):
            writer.write_batch(batch)
    paths = {name: str(folder / f"{name}.arrow") for name in ("keys", "documents")}
    return {**paths, "rows": n, "generation": number, "digest": f"digest {number}"}


def bands_of(**dedup: Any) -> tuple[int, int]:
    made = search_settings(config_of(**dedup))["minhash"]
    return made["bands"], made["rows"]


@pytest.mark.parametrize("suffix", ["arrow", "parquet"])
def test_new_documents_go_for_old_ones_and_old_ones_never(suffix: str, tmp_path: Path) -> None:
    old = [document("old0", FAR), document("old1", LONG, "gone"), document("old2", "!")]
    older = [document("older", NEAR)]
    base = [
        write_generation(tmp_path / "1", older, 1, bands_of()),
        write_generation(tmp_path / "2", old, 2, bands_of()),
    ]
    new = [document("a", "fresh text that nobody has seen"), document("b", NEAR + " indeed"), document("c", FAR), document("d", "!")]  # fmt: skip
    made = search(tmp_path / "run", new, cuts=[2], base=base, suffix=suffix)
    assert [
        (r["doc"], r["partner"], r["partner_id"], r["partner_source"], r["rule"]) for r in made.links
    ] == [
        (1, 4, "older", "s", JACCARD),
        (2, 5, "old0", "s", EXACT),
        (3, 7, "old2", "s", EXACT),
    ]
    assert made.kept == [True, False, False, False]
    assert made.found.summary["clusters"]["rows"] == 3 + 4  # old1 shares keys with b, too


@settings(max_examples=5, deadline=None)
@given(corpus=st.lists(SOME, min_size=1, max_size=12, unique=True), share=st.integers(1, 11))
def test_an_index_of_the_first_documents_gives_what_the_whole_gives(
    corpus: list[str], share: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """All of the first documents rank before the others, by priority."""
    folder = tmp_path_factory.mktemp("index")
    share = min(share, len(corpus))
    first = [document(f"a{n:02}", text, "a") for n, text in enumerate(corpus[:share])]
    second = [document(f"b{n:02}", text, "b") for n, text in enumerate(corpus[share:])]
    ranked = {"priorities": {"a": 1}}
    whole = search(folder / "whole", first + second, **ranked)
    kept = [d for d, stays in zip(first, search(folder / "first", first).kept, strict=True) if stays]
    base = [write_generation(folder / "index", kept, 1, bands_of())]
    later = search(folder / "later", second, base=base)
    assert later.kept == whole.kept[share:]
    keys = [(r["id"], r["partner_id"], r["similarity"], r["rule"]) for r in later.links]
    assert keys == [(r["id"], r["partner_id"], r["similarity"], r["rule"]) for r in whole.links if r["source"] == "b"]  # fmt: skip


# -- what is said of it ----------------------------------------------------------------------------------------------


def test_the_summary_has_the_curve_the_choice_of_bands_and_the_price(tmp_path: Path) -> None:
    documents = [document("a", LONG), document("b", LONG), document("c", FAR)]
    summary = search(tmp_path, documents, minhash={"threshold": 0.8}).found.summary
    assert (summary["bands"], summary["rows"], summary["ngram"]) == (11, 5, 2)
    assert summary["recall"] == pytest.approx(1 - (1 - 0.8**5) ** 11, abs=1e-6)
    assert len(summary["curve"]) == 21
    assert summary["balanced"] == {"bands": 9, "rows": 13}
    assert (summary["partitions"], summary["batches"], summary["spilled_runs"]) == (1, 1, 0)
    assert (summary["pairs"], summary["capped_buckets"], summary["largest_bucket"]) == (
        1,
        0,
        0,
    )  # copies alone make no bucket
    assert list(summary["bytes_per_document"]) == ["facts", "sketch", "keys", "members", "clusters", "texts"]
    assert summary["bytes_per_document"]["keys"] > 11 * 16
    assert (summary["exact"], summary["by"], summary["scope"]) == (True, [], "across")
    assert (summary["threshold"], summary["similarity"], summary["hash_family"]) == (0.8, "jaccard", "words")


def test_the_settings_of_the_search_are_json_and_say_how_many_keys_a_document_has() -> None:
    from curate import minhash

    made = search_settings(config_of(by=["url"], minhash={"threshold": 0.7, "ngram": 5}))
    assert made == {
        "exact": True,
        "by": ["url"],
        "scope": "across",
        "minhash": {
            "ngram": 5,
            "bands": 23,
            "rows": 5,
            "permutations": 128,
            "seed": minhash.SEED,
            "hash_family": "words",
        },
    }
    assert keys_per_document(made) == 25
    assert keys_per_document({**made, "exact": False, "minhash": None}) == 1


@pytest.mark.parametrize("permutations", [64, 128, 200, 256])
def test_the_balanced_bands_are_datasketchs(permutations: int) -> None:
    for percent in range(5, 96, 5):
        theirs = balanced_by_datasketch(percent / 100, permutations)
        assert balanced_bands(percent / 100, permutations) == {"bands": theirs.bands, "rows": theirs.rows}


def test_measuring_passes_on_what_a_key_depends_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Mapping[str, Any]] = []
    real = measurement._search_keys

    def spy(*arguments: Any) -> Any:
        seen.append(arguments[-1])
        return real(*arguments)

    monkeypatch.setattr(measurement, "_search_keys", spy)
    search(tmp_path, [document("a", LONG)], by=["url"], scope="within")
    assert seen == [search_settings(config_of(by=["url"], scope="within"))]
