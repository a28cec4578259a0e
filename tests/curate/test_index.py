"""An index that grows finds what deduplicating everything together finds, for tables and for runs; the rest is refused.

How an index is written, read and survives kills: test_generations.py.
"""

from __future__ import annotations

import dataclasses
import doctest
import functools
import itertools
import json
import os
import textwrap
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zstandard
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import curate.generations
import curate.index
import curate.minhash
from curate import dedup_steps
from curate.deduplication import dedup
from curate.engine import Run, Step, file_digest
from curate.generations import open_index, verify_index
from curate.index import build_index, extend, extend_index, open_base, query_index
from curate.schema import DECISIONS, documents_schema
from curate.settings import CurateConfig, Dedup, Measure, MinHash, PolicySettings
from curate.sources import Source
from filters.errors import ConfigError, DataError, RunError

DATA = Path(__file__).parents[1] / "data" / "documents"


@functools.cache
def real_texts() -> list[str]:
    """Paragraphs of several languages and scripts, some manual pages among them."""
    found = []
    for name, step in (("wiki", 31), ("manpages", 25), ("handbook", 40)):
        lines = zstandard.decompress((DATA / f"{name}.jsonl.zst").read_bytes(), 1 << 26).decode().splitlines()
        found += [json.loads(line)["text"][:1500] for line in lines[::step]]
    return found


def edited(text: str, kind: str, place: int) -> str:
    words = text.split(" ")
    at = place % len(words)
    if kind == "spaces":
        return "  ".join(words) + "\n"
    if kind == "shouted":
        return text.upper() + "!"
    if kind == "one":
        return " ".join([*words[:at], "another", *words[at + 1 :]])
    if kind == "cut":
        return " ".join(words[: max(1, len(words) * 9 // 10)])
    if kind == "half":
        return " ".join(words[: len(words) // 2]) + " the rest of it was rewritten by somebody else" * 3
    return {"same": text, "empty": "", "marks": "?! …", "few": " ".join(words[:3])}[kind]


KINDS = ("same", "same", "one", "one", "cut", "cut", "spaces", "shouted", "half", "empty", "marks", "few")
ROWS = st.lists(
    st.tuples(st.integers(0, 11), st.sampled_from(KINDS), st.integers(0, 999), st.integers(0, 40)),
    max_size=25,
)


def tables_of(parts: list[list[tuple[int, str, int, int]]], order: list[int]) -> list[pa.Table]:
    """One table for each part, with ids that are shuffled over all of them; every part ranks before those after it."""
    rows = [
        {"text": edited(real_texts()[4 * document], kind, place), "url": f"u{url}" if url < 30 else None, "rank": float(-part)}
        for part, drawn in enumerate(parts)
        for document, kind, place, url in drawn
    ]  # fmt: skip
    ids = np.argsort(np.array([order[i % len(order)] + 1000 * i % 17 for i in range(len(rows))], np.int64))
    schema = pa.schema({"text": pa.string(), "url": pa.string(), "rank": pa.float64(), "name": pa.string()})
    whole = pa.Table.from_pylist(
        [{**row, "name": f"d{number:03d}"} for row, number in zip(rows, ids.tolist(), strict=True)], schema
    )
    ends = np.cumsum([0, *(len(part) for part in parts)]).tolist()
    return [whole.slice(a, b - a) for a, b in itertools.pairwise(ends)]


def links(decisions: pa.Table) -> list[tuple[Any, ...]]:
    columns = ["id", "stage", "rule", "action", "bound", "partner_id", "similarity"]
    return sorted(tuple(row.values()) for row in decisions.select(columns).to_pylist())


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    parts=st.lists(ROWS, min_size=2, max_size=4),
    order=st.lists(st.integers(0, 99), min_size=1, max_size=30),
    options=st.fixed_dictionaries(
        {
            "by": st.sampled_from([(), ("url",)]),
            "threshold": st.sampled_from([0.6, 0.8, 1.0]),
            "similarity": st.sampled_from(["jaccard", "containment"]),
            "method": st.sampled_from(["minhash", "minhash", "minhash", "exact"]),
        }
    ),
    near_miss=st.sampled_from([None, 0.3]),
)
def test_an_index_that_grows_decides_as_if_everything_were_deduplicated_at_once(
    parts: list[Any], order: list[int], options: dict[str, Any], near_miss: float | None, tmp_path_factory: pytest.TempPathFactory
) -> None:  # fmt: skip
    directory = tmp_path_factory.mktemp("grows") / "seen"
    near_miss = near_miss if options["method"] == "minhash" else None
    columns: dict[str, Any] = {"id": "name", "priority": "rank", "near_miss": near_miss}
    tables = tables_of(parts, order)
    at_once = dedup(pa.concat_tables(tables), **columns, **options)
    found = [build_index(tables[0], directory, **columns, **options)]
    for table in tables[1:]:
        queried = query_index(table, directory, **columns)
        found.append(extend_index(table, directory, **columns))
        assert queried.decisions.equals(found[-1].decisions)
    assert [row for f in found for row in links(f.decisions)] == [
        row
        for table in tables
        for row in links(at_once.decisions.filter(pa.compute.is_in(at_once.decisions["id"], table["name"])))
    ]
    assert pa.concat_tables([f.kept for f in found])["name"].equals(at_once.kept["name"])
    assert open_index(directory).documents == len(at_once.kept)
    assert verify_index(directory) == 2 * len(open_index(directory).runs)


def test_a_decision_names_the_old_document_and_the_generation_that_holds_it(tmp_path: Path) -> None:
    text = real_texts()[0]
    build_index(
        pa.table({"text": ["something else", text], "site": ["x.org", "y.org"]}),
        tmp_path / "seen",
        source="site",
    )
    extend_index(
        pa.table({"text": ["another thing", "NEW thing"], "site": ["x.org", "y.org"]}),
        tmp_path / "seen",
        source="site",
    )
    new = pa.table({"text": [edited(text, "one", 4), "new", "NEW", "new thing"], "site": ["z.org"] * 4})
    found = extend_index(new, tmp_path / "seen", source="site")
    assert found.decisions.schema == DECISIONS
    columns = ["id", "source", "rule", "partner_id", "partner_source", "detail"]
    assert [tuple(row.values()) for row in found.decisions.select(columns).to_pylist()] == [
        ("0", "z.org", "minhash.jaccard", "1", "y.org", "generation 1 of the index"),
        ("2", "z.org", "minhash.jaccard", "1", "z.org", None),
        ("3", "z.org", "minhash.jaccard", "1", "y.org", "generation 2 of the index"),
    ]
    assert found.kept["text"].to_pylist() == ["new"]
    assert found.is_kept.tolist() == [False, True, False, False]


def test_what_an_index_has_seen_adds_nothing_to_it(tmp_path: Path) -> None:
    table = pa.table({"text": real_texts()[:20]})
    build_index(table, tmp_path / "seen")
    before = open_index(tmp_path / "seen")
    assert before.documents == 20
    assert extend_index(table, tmp_path / "seen").kept.num_rows == 0
    assert open_index(tmp_path / "seen") == before


def test_a_query_writes_nothing(tmp_path: Path) -> None:
    build_index(pa.table({"text": ["one two"]}), tmp_path / "seen")
    before = {p: p.stat().st_mtime_ns for p in tmp_path.rglob("*")}
    assert query_index(pa.table({"text": ["one two", "three"]}), tmp_path / "seen").kept[
        "text"
    ].to_pylist() == ["three"]
    assert {p: p.stat().st_mtime_ns for p in tmp_path.rglob("*")} == before


def test_the_same_tables_make_the_same_bytes(tmp_path: Path) -> None:
    for name in ("a", "b"):
        build_index(pa.table({"text": real_texts()[:10]}), tmp_path / name)
        extend_index(pa.table({"text": real_texts()[5:15]}), tmp_path / name)
    a, b = ({p.relative_to(tmp_path / n): p.read_bytes() for p in (tmp_path / n).rglob("*") if p.is_file()} for n in "ab")  # fmt: skip
    assert a == b
    assert len(a) == 6  # manifest, lock, two generations


def test_the_data_may_be_a_frame_and_comes_back_as_one(tmp_path: Path) -> None:
    build_index(pl.DataFrame({"text": ["one two", "three"]}), tmp_path / "seen")
    kept = extend_index(pl.DataFrame({"text": ["One, two!", "four"], "n": [1, 2]}), tmp_path / "seen").kept
    assert kept.equals(pl.DataFrame({"text": ["four"], "n": [2]}))


def test_the_data_may_be_a_dataset_and_comes_back_as_one(tmp_path: Path) -> None:
    datasets = pytest.importorskip("datasets")
    build_index(datasets.Dataset.from_dict({"text": ["one two", "three"]}), tmp_path / "seen")
    kept = extend_index(datasets.Dataset.from_dict({"text": ["One, two!", "four"]}), tmp_path / "seen").kept
    assert isinstance(kept, datasets.Dataset)
    assert kept["text"][:] == ["four"]


def test_an_index_of_datasketch_signatures_decides_the_same(tmp_path: Path) -> None:
    old = pa.table({"text": real_texts()[:12]})
    new = pa.table({"text": [edited(text, "cut", 0) for text in real_texts()[6:18]]})
    found = []
    for family in ("words", "datasketch"):
        build_index(old, tmp_path / family, hash_family=family)
        found.append(extend_index(new, tmp_path / family).decisions)
    assert found[0].equals(found[1])
    assert len(found[0]) > 3


def test_of_old_documents_that_are_copied_nothing_is_read_but_their_names(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    build_index(pa.table({"text": real_texts()[:9]}), tmp_path / "seen")
    read = []
    plain = curate.index.read_documents
    monkeypatch.setattr(curate.index, "read_documents", lambda path, rows, columns: read.append(("text" in columns, len(rows))) or plain(path, rows, columns))  # fmt: skip
    texts = [*real_texts()[:5], edited(real_texts()[7], "shouted", 0)]
    assert query_index(pa.table({"text": texts}), tmp_path / "seen").kept.num_rows == 0
    assert read == [(False, 5), (False, 6), (True, 1)]


def test_an_index_may_begin_empty(tmp_path: Path) -> None:
    build_index(pa.table({"text": pa.array([], pa.string())}), tmp_path / "seen")
    assert open_index(tmp_path / "seen").documents == 0
    assert extend_index(pa.table({"text": ["one", "one"]}), tmp_path / "seen").kept.num_rows == 1
    assert query_index(pa.table({"text": ["one"]}), tmp_path / "seen").kept.num_rows == 0


def test_nulls_are_remembered_and_match_nothing(tmp_path: Path) -> None:
    table = pa.table({"text": [None, "", "!"], "url": ["a", None, "b"]})
    build_index(table, tmp_path / "seen", by=["url"])
    new = pa.table({"text": ["", None, "other"], "url": ["a", None, None]})
    found = query_index(new, tmp_path / "seen")
    assert links(found.decisions) == [("0", "exact", "exact.content_hash", "drop", 1.0, "1", 1.0)]
    found = query_index(pa.table({"text": [None], "url": ["a"]}), tmp_path / "seen")
    assert links(found.decisions) == [("0", "exact", "exact.url", "drop", 1.0, "0", 1.0)]


def test_a_crowded_bucket_is_cut_and_decides_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of many documents that share a key only the first ones are read; they are all that counts."""
    frame = " ".join(f"word{n}" for n in range(200))
    old = pa.table({"text": [f"{frame} {n} {n + 1} {n + 2} {n + 3}" for n in range(0, 4000, 4)]})
    new = pa.table({"text": [f"{frame} {n} {n + 1} x{n} y{n}" for n in range(0, 200, 4)]})
    options: dict[str, Any] = {"threshold": 0.97, "near_miss": 0.5}
    build_index(old, tmp_path / "seen", **options)
    read = []
    plain = curate.index.read_documents
    monkeypatch.setattr(curate.index, "read_documents", lambda path, rows, columns: read.append((columns, len(rows))) or plain(path, rows, columns))  # fmt: skip
    found = query_index(new, tmp_path / "seen", near_miss=0.5)
    (facts,) = (rows for columns, rows in read if "text" not in columns)
    (texts,) = (rows for columns, rows in read if "text" in columns)
    assert 257 < texts < facts
    whole = dedup(pa.concat_tables([old, new]), **options)
    ids = {str(1000 + n): str(n) for n in range(50)}
    expected = [
        (ids[own], *rest[:-2], ids.get(partner, partner), similarity)
        for own, *rest, partner, similarity in links(whole.decisions)
        if own in ids
        for rest in [[*rest, partner, similarity]]
    ]
    got = [(i, s, r, a, b, p, v) for i, s, r, a, b, p, v in links(found.decisions)]
    assert got == sorted(expected)
    assert found.found is not None
    assert found.found.capped_buckets > 0


# -- what is refused --------------------------------------------------------------------------------------------------


@pytest.fixture
def seen(tmp_path: Path) -> Path:
    build_index(pa.table({"text": real_texts()[:3]}), tmp_path / "seen")
    return tmp_path / "seen"


NEW = pa.table({"text": ["one two"]})


@pytest.mark.parametrize("use", [extend_index, query_index])
def test_other_settings_are_refused_all_at_once(seen: Path, use: Any) -> None:
    with pytest.raises(ConfigError) as caught:
        use(
            NEW, seen, threshold=0.7, ngram=3, by=["text"], similarity="containment", hash_family="datasketch"
        )
    where, remedy = f"{seen}: ", " Give that, or another index."
    assert caught.value.faults == (
        f'{where}by: found ["text"]; allowed: [], with which the index was built.{remedy}',
        f"{where}ngram: found 3; allowed: 5, with which the index was built.{remedy}",
        f"{where}threshold: found 0.7; allowed: 0.8 or more, with which the index was built.{remedy}",
        f'{where}similarity: found "containment"; allowed: "jaccard", with which the index was built.{remedy}',
        f'{where}hash_family: found "datasketch"; allowed: "words", with which the index was built.{remedy}',
    )


def test_a_higher_threshold_is_allowed(seen: Path) -> None:
    near = pa.table({"text": [edited(real_texts()[0], "one", 5)]})
    assert query_index(near, seen).kept.num_rows == 0
    assert query_index(near, seen, threshold=1.0).kept.num_rows == 1


@pytest.mark.parametrize(
    ("name", "value"),
    [("algorithm", "minhash-0"), ("content_algorithm", "text-0"), ("scope", "within"), ("exact", False)],
)
def test_an_index_of_another_version_or_kind_is_refused(seen: Path, name: str, value: Any) -> None:
    change_manifest(seen, **{name: value})
    with pytest.raises(
        ConfigError, match=rf"seen: {name}: found .*; allowed: {json.dumps(value)}, with which"
    ):
        extend_index(NEW, seen)


def test_a_newer_format_is_refused(seen: Path) -> None:
    change_manifest(seen, format=2)
    with pytest.raises(
        DataError, match=r"manifest.json: format 2; this version reads up to format 1. Install"
    ):
        query_index(NEW, seen)


def change_manifest(directory: Path, **changes: Any) -> None:
    path = directory / "manifest.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


@pytest.mark.parametrize("use", [extend_index, query_index])
def test_a_directory_without_an_index_is_refused_and_left_alone(tmp_path: Path, use: Any) -> None:
    with pytest.raises(
        ConfigError, match=r"nothing: no index is here \(it has no manifest.json\). Build one first"
    ):
        use(NEW, tmp_path / "nothing")
    (tmp_path / "manifest.json").write_text('{"format": 1, "kind": "curated"}')
    with pytest.raises(
        ConfigError, match=r"""manifest.json: a directory of kind "curated"; needed: 'dedup-index'"""
    ):
        use(NEW, tmp_path)
    assert [p.name for p in tmp_path.iterdir()] == ["manifest.json"]


def test_an_index_is_built_in_an_empty_place_only(seen: Path, tmp_path: Path) -> None:
    with pytest.raises(
        ConfigError, match=r"seen: found an index of 3 documents; allowed: a new directory. Use extend"
    ):
        build_index(NEW, seen)
    with pytest.raises(ConfigError, match=r"no index, and not empty \(it holds 'seen'\)"):
        build_index(NEW, tmp_path)
    with pytest.raises(ConfigError, match=r"manifest.json: found a file; allowed: a directory"):
        build_index(NEW, seen / "manifest.json")
    assert open_index(seen).documents == 3


@pytest.mark.parametrize(
    ("table", "options", "message"),
    [
        (pa.table({"txt": ["a"]}), {}, "no column is called 'text'; did you mean 'txt'"),
        (pa.table({"text": [1]}), {}, "text: the column 'text' holds int64; allowed: texts"),
        (pa.table({"text": ["a", "b"], "n": ["x", "x"]}), {"id": "n"}, "id: 1 values of the column 'n' repeat"),
        (pa.table({"text": ["a"], "s": pa.array([None], pa.string())}), {"source": "s"}, "source: the column 's' is null in 1 rows"),
    ],
)  # fmt: skip
def test_bad_tables_are_refused_and_leave_the_index_alone(
    seen: Path, table: pa.Table, options: dict[str, Any], message: str
) -> None:
    before = open_index(seen)
    with pytest.raises((ConfigError, DataError), match=message.replace("?", r"\?")):
        extend_index(table, seen, **options)
    assert open_index(seen) == before


@pytest.mark.parametrize(
    ("options", "message"),
    [({"threshold": 1.5}, "threshold: found 1.5"), ({"ngram": 0}, "ngram: found 0"), ({"by": ["url"]}, "no column is called 'url'")],
)  # fmt: skip
def test_bad_arguments_leave_no_index_behind(tmp_path: Path, options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        build_index(NEW, tmp_path / "new", **options)
    assert not (tmp_path / "new").exists()


def test_an_index_of_copies_has_no_near_misses(tmp_path: Path) -> None:
    build_index(NEW, tmp_path / "seen", method="exact")
    with pytest.raises(
        ConfigError, match=r"near_miss: found 0.5; allowed: None, since .*seen was built for copies only"
    ):
        query_index(NEW, tmp_path / "seen", near_miss=0.5)


def test_settings_are_values(seen: Path) -> None:
    found = open_index(seen).settings
    assert (found.ngram, found.threshold, found.similarity, found.hash_family) == (5, 0.8, "jaccard", "words")
    assert found.differences(found) == []
    assert found.differences(dataclasses.replace(found, threshold=0.9)) == []


# -- runs --------------------------------------------------------------------------------------------------------------

PARTS = """
    import pyarrow as pa
    from curate.schema import documents_schema
    from curate.shards import ShardWriter

    def documents(out, *, path):
        with pa.memory_map(path) as file:
            table = pa.ipc.open_file(file).read_all()
        for suffix in ("arrow", "parquet"):
            with ShardWriter(out / f"documents.{suffix}", documents_schema(["url"])) as writer:
                writer.write(table)
        with ShardWriter(out / "priority.arrow", pa.schema([("priority", pa.float64())])) as writer:
            writer.write(table.select(["priority"]))
        return {"rows": len(table)}
"""


class Runs:
    """The steps of a run from documents to the index, without the files that a pipeline begins with."""

    def __init__(self, folder: Path, module: str) -> None:
        self.folder, self.module, self.warnings = folder, module, list[str]()

    def config(
        self, *, native: bool = True, index: str | None = "seen", **dedup_options: Any
    ) -> CurateConfig:
        source = {"path": "x", "id": "id" if native else None, "priority": "priority", "meta": ("url",)}
        return CurateConfig(
            sources={name: Source(**source) for name in "st"},  # type: ignore[arg-type]
            seed=curate.minhash.SEED,
            measure=Measure(signals=(), language=False),
            dedup=Dedup(index=index and str(self.folder / index), **dedup_options),
            policy=PolicySettings(use=()),
        )

    def run(
        self,
        name: str,
        config: CurateConfig,
        tables: list[pa.Table],
        *,
        meanwhile: Any = None,
        document_file: str = "documents.arrow",
    ) -> tuple[pa.Table, dict[str, Any]]:
        paths = []
        for number, table in enumerate(tables):
            paths.append(self.folder / f"{name}-{number}.arrow")
            with pa.OSFile(str(paths[-1]), "wb") as sink, pa.ipc.new_file(sink, table.schema) as writer:
                writer.write_table(table)
        firsts = np.cumsum([0, *map(len, tables)]).tolist()
        options: dict[str, Any] = {"document_file": document_file, "firsts": firsts[:-1]}
        with Run(self.folder / name, engine="inline", progress=False) as run:
            base = open_base(run, config)
            parts = [{"path": str(path)} for path in paths]
            inputs = [file_digest(path) for path in paths]
            options["documents"] = run.step(Step("documents", f"{self.module}:documents", parts, {}, inputs))
            measured = dedup_steps.measure(run, config, **options, model=None, total=firsts[-1])
            native = [config.sources["s"].id is not None] * len(tables)
            found = dedup_steps.find_duplicates(
                run, config, **options, measured=measured, judged=None, total=firsts[-1], native=native, base=base, warn=self.warnings.append
            )  # fmt: skip
            decided = dedup_steps.decide(run, config, **options, judged=None, found=found, rows=[len(t) for t in tables])  # fmt: skip
            if meanwhile:
                meanwhile()
            added = {}
            if config.dedup.index is not None:
                added = extend(run, config, **options, measured=measured, decided=decided, native=native, warn=self.warnings.append)  # fmt: skip
        return pa.concat_tables([pq.read_table(path) for path in decided.paths("decisions.parquet")]), added

    @property
    def names(self) -> list[str]:
        return [generation.name for generation in open_index(self.folder / "seen").generations]


@pytest.fixture
def runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Runs:
    name = f"documents_{os.getpid()}_{tmp_path.name}"
    (tmp_path / f"{name}.py").write_text(textwrap.dedent(PARTS))
    monkeypatch.syspath_prepend(str(tmp_path))
    return Runs(tmp_path, name)


def shard(
    numbers: range, *, rank: float = 0, source: str = "s", edit: str = "same", only: str = ""
) -> pa.Table:
    """Real texts, edited, as documents with ids of their own."""
    rows = [
        {
            "id": f"{edit}{int(-rank)}-{1000 - n}",
            "source": source,
            "text": edited(real_texts()[n], edit, 3) + only,
            "meta": {"url": f"u{n % 19}" if n % 3 else None},
            "priority": rank,
        }
        for n in numbers
    ]
    schema = documents_schema(["url"]).append(pa.field("priority", pa.float64()))
    return pa.Table.from_pylist(rows, schema)


def verdicts_of(decisions: pa.Table) -> list[tuple[Any, ...]]:
    columns = [
        "id",
        "source",
        "stage",
        "rule",
        "action",
        "bound",
        "partner_id",
        "partner_source",
        "similarity",
    ]
    return sorted(tuple(row.values()) for row in decisions.select(columns).to_pylist())


def twins(numbers: range, *, rank: float, places: tuple[int | None, ...]) -> pa.Table:
    """Texts of sixty words with one word replaced: two of them are 0.70 similar, and each is 0.84 similar to the original."""
    rows = []
    for n in numbers:
        words = [f"n{n}w{place}" for place in range(60)]
        for number, place in enumerate(places):
            text = " ".join(word if k != place else "another" for k, word in enumerate(words))
            rows.append({"id": f"{-rank}-{n}-{9 - number}", "source": "s", "text": text, "meta": {"url": None}, "priority": rank})  # fmt: skip
    return pa.Table.from_pylist(rows, shard(range(0)).schema)


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"by": ("url",), "scope": "within"},
        {"exact": False, "by": ("url",)},
        {"minhash": None},
        {"minhash": MinHash(threshold=0.5, near_miss=0.2, similarity="containment")},
        {"native": False, "prefer": ("priority", "length")},
    ],
    ids=["default", "within", "by-only", "exact-only", "containment", "positions"],
)
def test_runs_that_share_an_index_decide_as_one_run_over_everything(
    runs: Runs, options: dict[str, Any]
) -> None:
    batches = [
        [shard(range(30), rank=-1.0, edit="one"), shard(range(20, 40), rank=-1.0, source="t"), twins(range(9), rank=-1.0, places=(10, 30, 50))],
        [shard(range(10), rank=-2.0), shard(range(15, 50), rank=-2.0, edit="cut"), shard(range(35, 55), rank=-2.0, source="t", edit="half")],
        [shard(range(5, 55), rank=-3.0, edit="spaces"), twins(range(9), rank=-3.0, places=(None,)), shard(range(30, 50), rank=-3.0, source="t", edit="one")],
    ]  # fmt: skip
    if options.get("native") is False:  # equal copies: the first one must be named
        batches = [[*batch, batch[0].set_column(0, "id", pa.array([f"a{n}" for n in range(len(batch[0]))]))] for batch in batches]  # fmt: skip
    whole, _ = runs.run("whole", runs.config(index=None, **options), [t for batch in batches for t in batch])
    found, kept = [], 0
    for number, batch in enumerate(batches):
        decisions, added = runs.run(f"run{number}", runs.config(**options), batch)
        found.append(decisions)
        assert added["compared_with"] == kept
        kept += added["documents"]
    assert verdicts_of(pa.concat_tables(found)) == verdicts_of(whole)
    assert len({row["partner_id"] for row in found[-1].to_pylist()}) > 10
    assert verify_index(runs.folder / "seen") == 6


def test_the_same_run_again_has_the_same_result_and_adds_its_generation_once(runs: Runs) -> None:
    first = runs.run("a", runs.config(), [shard(range(20))])
    second = runs.run("b", runs.config(), [shard(range(10, 30), edit="spaces")])
    third = runs.run("c", runs.config(), [shard(range(25, 35), edit="cut")])
    names, bytes_before = runs.names, verify_index(runs.folder / "seen")
    assert [g[1]["generation"] for g in (first, second, third)] == names
    assert [g[1]["compared_with"] for g in (first, second, third)] == [0, 20, 30]
    assert runs.run("b", runs.config(), [shard(range(10, 30), edit="spaces")]) == second
    assert runs.run("a", runs.config(), [shard(range(20))]) == first
    assert (runs.names, verify_index(runs.folder / "seen")) == (names, bytes_before)


def test_a_run_that_changes_replaces_its_generation_as_long_as_it_is_the_newest(runs: Runs) -> None:
    runs.run("a", runs.config(), [shard(range(20))])
    runs.run("b", runs.config(), [shard(range(10, 30))])
    first, old = runs.names
    _, added = runs.run("b", runs.config(), [shard(range(10, 40))])
    assert runs.names == [first, added["generation"]] != [first, old]
    assert added == {"generation": runs.names[1], "documents": 20, "compared_with": 20, "parent": open_index(runs.folder / "seen").generations[0].digest}  # fmt: skip
    _, added = runs.run("b", runs.config(), [shard(range(10))])  # now everything is known
    assert added["generation"] is None
    assert runs.names == [first]


def test_a_run_that_changes_may_not_take_its_generation_from_under_a_later_one(runs: Runs) -> None:
    runs.run("a", runs.config(), [shard(range(20))])
    runs.run("b", runs.config(), [shard(range(10, 30))])
    before = runs.names
    message = rf"this run's generation {before[0]} would be replaced, but 1 generations came after it and were compared with it, first {before[1]}. Restore"  # fmt: skip
    with pytest.raises(RunError, match=message):
        runs.run("a", runs.config(), [shard(range(21))])
    assert runs.names == before
    assert runs.run("a", runs.config(), [shard(range(20))])[1]["generation"] == before[0]


def test_a_run_is_told_when_another_one_was_faster_and_can_be_repeated(runs: Runs) -> None:
    def other() -> None:
        runs.run("b", runs.config(), [shard(range(10, 30))])

    with pytest.raises(
        RunError, match=r"generation 000001-\w+ was added while this command ran. Run the same command again"
    ):
        runs.run("a", runs.config(), [shard(range(20))], meanwhile=other)
    assert len(runs.names) == 1
    decisions, added = runs.run("a", runs.config(), [shard(range(20))])
    assert added["compared_with"] == 20
    assert len(decisions) == 10


def test_a_run_that_is_killed_after_its_commit_adds_nothing_twice(
    runs: Runs, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Killed(BaseException):
        pass

    plain = curate.index.commit

    def commit_and_die(*args: Any, **kwargs: Any) -> None:
        plain(*args, **kwargs)
        raise Killed

    monkeypatch.setattr(curate.index, "commit", commit_and_die)
    with pytest.raises(Killed):
        runs.run("a", runs.config(), [shard(range(20))])
    monkeypatch.undo()
    monkeypatch.syspath_prepend(str(runs.folder))
    before = runs.names
    assert len(before) == 1
    assert runs.run("a", runs.config(), [shard(range(20))])[1] == {"generation": before[0], "documents": 20, "compared_with": 0, "parent": None}  # fmt: skip
    assert runs.run("a", runs.config(), [shard(range(21))])[1]["documents"] == 21
    assert len(runs.names) == 1


def test_a_run_that_keeps_nothing_says_so_and_leaves_the_index_alone(runs: Runs) -> None:
    runs.run("a", runs.config(), [shard(range(20))])
    before = runs.names
    nothing = runs.run("b", runs.config(), [shard(range(20))])
    assert nothing[1] == {"generation": None, "documents": 0, "compared_with": 20, "parent": open_index(runs.folder / "seen").generations[0].digest}  # fmt: skip
    assert runs.warnings == ["dedup.index: no document was kept, so nothing was added to the index."]
    assert runs.names == before
    runs.run("c", runs.config(), [shard(range(20, 30))])
    assert runs.run("b", runs.config(), [shard(range(20))]) == nothing
    with pytest.raises(
        RunError, match=r"this run had nothing to add when it ended; now it has, but generation 000002-"
    ):
        runs.run("b", runs.config(), [shard(range(25))])


def test_a_large_run_is_several_pairs_of_files_with_the_same_documents_and_keys(runs: Runs, monkeypatch: pytest.MonkeyPatch) -> None:  # fmt: skip
    tables = [shard(range(20)), shard(range(20, 30)), shard(range(30, 50))]
    runs.run("a", runs.config(), tables)
    (one,) = open_index(runs.folder / "seen").runs
    monkeypatch.setattr(curate.index, "_RUN_BYTES", 10_000)
    monkeypatch.setattr(curate.index, "_PASS_KEYS", 50)
    monkeypatch.setattr(curate.generations, "_BATCH_KEYS", 20)
    runs.run("b", runs.config(index="other"), tables)
    many = open_index(runs.folder / "other").runs
    assert len(many) == 3

    def entries(parts: Any) -> list[tuple[int, str]]:
        found = []
        for part in parts:
            keys, documents = (
                pa.ipc.open_file((part.path / f"{n}.arrow").read_bytes()).read_all()
                for n in ("keys", "documents")
            )
            assert (np.diff(keys["key"].to_numpy().astype(object)) >= 0).all()
            found += zip(keys["key"].to_pylist(), documents["id"].take(keys["row"]).to_pylist(), strict=True)
        return sorted(found)

    assert entries(many) == entries([one])
    assert len(entries([one])) == 50 * 12


def test_a_generation_does_not_depend_on_how_the_documents_are_stored(runs: Runs) -> None:
    tables = [shard(range(20)), shard(range(20, 30), source="t")]
    _, mapped = runs.run("a", runs.config(index="a-index"), tables)
    _, decoded = runs.run("b", runs.config(index="b-index"), tables, document_file="documents.parquet")
    assert mapped == decoded
    assert mapped["documents"] == 30


def test_a_table_and_a_run_may_share_an_index(runs: Runs) -> None:
    old = pa.table({"name": ["old"], "text": [real_texts()[4]], "url": [None]})
    build_index(
        old.append_column("none", pa.nulls(1, pa.string())), runs.folder / "seen", id="name", by=["url"]
    )
    decisions, added = runs.run("a", runs.config(by=("url",)), [shard(range(3, 6))])
    assert [(row["id"], row["partner_id"]) for row in decisions.to_pylist()] == [("same0-996", "old")]
    assert added["documents"] == 2
    new = pa.table({"text": ["something", edited(real_texts()[5], "shouted", 3)], "url": ["u3", None]})
    found = extend_index(new, runs.folder / "seen").decisions
    assert [(row["id"], row["rule"], row["partner_id"]) for row in found.to_pylist()] == [("1", "minhash.jaccard", "same0-995")]  # fmt: skip
    assert len(runs.names) == 3


def test_a_configuration_that_does_not_fit_the_index_is_refused_before_anything_is_done(runs: Runs) -> None:
    runs.run("a", runs.config(), [shard(range(5))])
    with pytest.raises(ConfigError) as caught:
        runs.run("b", runs.config(scope="within", minhash=MinHash(ngram=3)), [shard(range(5))])
    assert [fault.partition("seen: ")[2].partition(":")[0] for fault in caught.value.faults] == [
        "scope",
        "ngram",
    ]
    assert not list((runs.folder / "b" / ".steps").glob("*documents*"))
    (runs.folder / "full").mkdir()
    (runs.folder / "full" / "file").touch()
    with pytest.raises(ConfigError, match=r"full: no index, and not empty \(it holds 'file'\)"):
        runs.run("c", runs.config(index="full"), [shard(range(5))])


def test_a_damaged_memory_of_a_run_is_said(runs: Runs) -> None:
    runs.run("a", runs.config(), [shard(range(5))])
    (runs.folder / "a" / "index.json").write_text("{")
    with pytest.raises(
        DataError, match=r"index.json: not readable \(JSONDecodeError\); it says which part of the index"
    ):
        runs.run("a", runs.config(), [shard(range(5))])


# -- what is written ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("module", [curate.index, curate.generations], ids=lambda m: m.__name__)
def test_the_examples_in_the_docstrings_are_true(module: Any) -> None:
    result = doctest.testmod(module)
    assert result.attempted > 0
    assert result.failed == 0


def test_the_stated_price_is_what_an_index_takes(tmp_path: Path) -> None:
    texts = [f"{a} {b} {c}" for a in range(20) for b in "abcdefghij" for c in ("x y z", "p q r", "l m n")]
    build_index(pa.table({"text": texts}), tmp_path / "seen", threshold=0.8)
    index = open_index(tmp_path / "seen")
    assert index.documents == len(texts)
    assert index.settings.bands == 11
    keys, documents = (index.runs[0].bytes[name] for name in ("keys.arrow", "documents.arrow"))
    assert keys / len(texts) == pytest.approx(192, abs=2)
    beside = documents - sum(len(text) + len(str(n)) for n, text in enumerate(texts))
    assert beside / len(texts) == pytest.approx(70, abs=8)
