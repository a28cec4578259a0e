"""Measuring: one row for each document, the same numbers however documents are cut into shards."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from curate import minhash
from curate.measurement import (
    KEYS,
    content_hashes,
    count_characters,
    facts_schema,
    hash_words,
    measure,
    measure_part,
    source_salts,
)
from curate.minhash import Bands, exact_keys
from curate.schema import documents_schema
from curate.shards import ShardWriter
from curate.shuffle import read_mapped
from filters.errors import ConfigError, DataError
from filters.fingerprint import fingerprints

TEXTS = [
    "one two three",
    "",
    "über uns die Straße\n\nund mehr",
    "one two three",
    "a b c d e f g h i j k l m n o p",
]
MINHASH = {"ngram": 2, "permutations": 64, "bands": 8, "rows": 4, "seed": 3, "hash_family": "words"}
SEARCH: dict[str, Any] = {"exact": True, "by": [], "scope": "across", "minhash": MINHASH}


def write_documents(path: Path, texts: list[str], **more: list[Any]) -> str:
    ids = [f"d{i}" for i in range(len(texts))]
    columns: dict[str, Any] = {"id": ids, "source": ["s"] * len(texts), "text": texts, **more}
    schema = documents_schema(["url"] if "meta" in more else [])
    table = pa.table({f.name: pa.array(columns[f.name], f.type) for f in schema}, schema)
    with ShardWriter(path, schema) as writer:
        for start in range(0, len(texts), 2):
            writer.write(table.slice(start, 2))
            writer._flush()
    return str(path)


def run_part(
    folder: Path, documents: str, **options: Any
) -> tuple[pa.Table, list[pa.RecordBatch], dict[str, Any]]:
    plain: dict[str, Any] = {
        "first": 0, "signals": ["gopher"], "language": False, "quality_model": None, "dedup": SEARCH, "partitions": 1,
    }  # fmt: skip
    folder.mkdir()
    result = measure_part(folder, documents=documents, **{**plain, **options})
    reader = pa.ipc.open_file(pa.OSFile(str(folder / "keys.arrow")))
    assert reader.schema == KEYS
    return (
        pq.read_table(folder / "signals.parquet"),
        [reader.get_batch(i) for i in range(reader.num_record_batches)],
        result,
    )


def test_signals_are_one_row_for_each_document_in_order() -> None:
    table = measure(
        pa.table({"id": ["x", "y"], "source": ["s", "s"], "text": ["two words", ""]}), language=False
    )
    assert table.select(
        ["id", "source", "char_count", "byte_count", "word_count", "quality"]
    ).to_pylist() == [
        {"id": "x", "source": "s", "char_count": 9, "byte_count": 9, "word_count": 2, "quality": None},
        {"id": "y", "source": "s", "char_count": 0, "byte_count": 0, "word_count": 0, "quality": None},
    ]
    assert table.schema.field("quality").type == pa.float64()
    assert "top_2gram_char_ratio" in table.column_names


def test_only_the_groups_that_are_asked_for_are_measured() -> None:
    names = measure(pa.table({"text": TEXTS}), signals=["gopher"], language=False).column_names
    assert "word_count" in names
    assert {"top_2gram_char_ratio", "language", "id"} & set(names) == set()


def test_language_and_score_come_along_on_request() -> None:
    table = measure(pa.table({"text": ["Der Hund schläft unter dem Tisch.", "12"]}), signals=["gopher"])
    assert table["language"].to_pylist() == ["de", "und"]
    assert table["language_score"][1].as_py() == 0.0


def test_the_column_of_texts_may_have_another_name_and_a_wrong_one_is_named() -> None:
    data = pa.table({"body": TEXTS, "id": list("abcde")})
    assert measure(data, text="body", language=False)["word_count"].to_pylist() == [3, 0, 6, 3, 16]
    with pytest.raises(
        ConfigError, match=r"text: no column is called 'bodi'; did you mean 'body'\? Columns: body, id\."
    ):
        measure(data, text="bodi")


def test_a_content_hash_is_the_fingerprint_of_the_text_in_little_endian_bytes() -> None:
    chunks = pa.chunked_array([TEXTS[:2], [], TEXTS[2:]])
    expected = [words.tobytes() for words in fingerprints(pa.array(TEXTS)).astype("<u8")]
    assert len(set(expected)) == 4
    for column in (
        pa.array(TEXTS),
        pa.array(TEXTS, pa.large_string()),
        chunks,
        pa.array(["x", *TEXTS]).slice(1),
    ):
        assert content_hashes(column).to_pylist() == expected
    assert content_hashes(pa.array([], pa.string())).type == pa.binary(16)
    first, second = content_hashes(pa.array(["", None], pa.string())).to_pylist()
    assert first == second


def test_texts_that_differ_in_white_space_only_have_the_same_hash() -> None:
    first, second, other = content_hashes(pa.array(["one two", " one\n\ttwo", "One two"])).to_pylist()
    assert first == second != other


@settings(deadline=None)
@given(texts=st.lists(st.one_of(st.none(), st.text(st.characters(exclude_categories=["Cs"]))), max_size=6))
def test_characters_are_counted_as_python_counts_them(texts: list[str | None]) -> None:
    column = pa.chunked_array([texts, [], texts[::-1]], pa.string())
    sizes = [len(text or "") for text in texts]
    assert count_characters(column).tolist() == [*sizes, *sizes[::-1]]


@settings(deadline=None)
@given(
    values=st.lists(st.one_of(st.none(), st.binary(min_size=16, max_size=16)), max_size=6),
    cut=st.integers(0, 6),
)
def test_hashes_come_back_as_words_from_chunks_and_slices(values: list[bytes | None], cut: int) -> None:
    column = pa.chunked_array([pa.array(values, pa.binary(16)).slice(cut), pa.array(values, pa.binary(16))])
    kept = [*values[cut:], *values]
    words = hash_words(column)
    assert words.shape == (len(kept), 2)
    for row, value in zip(words, kept, strict=True):
        assert value is None or row.astype("<u8").tobytes() == value


def test_without_signals_a_table_has_its_characters_and_its_hash_and_no_more() -> None:
    table = measure(pa.table({"id": list("abcde"), "text": TEXTS}), signals=(), language=False)
    assert table.column_names == ["id", "char_count", "content_hash"]
    assert table["char_count"].to_pylist() == [len(text) for text in TEXTS]
    assert measure(pa.table({"text": TEXTS}), signals=()).column_names == ["char_count", "language", "language_score", "quality", "content_hash"]  # fmt: skip
    with pytest.raises(DataError, match="of type int64"):
        measure(pa.table({"text": [1, 2]}), signals=(), language=False)


@settings(max_examples=30, deadline=None)
@given(
    texts=st.lists(st.text(st.characters(exclude_categories=["Cs"]), max_size=30), max_size=8),
    cut=st.integers(0, 8),
)
def test_a_document_is_measured_alone(texts: list[str], cut: int) -> None:
    column = pa.array(texts, pa.string())
    whole = measure(pa.table({"text": column}), language=False)
    parts = [
        measure(pa.table({"text": piece}), language=False)
        for piece in (column.slice(0, cut), column.slice(cut))
    ]
    assert whole.equals(pa.concat_tables(parts))


def test_a_part_measures_what_a_table_measures(tmp_path: Path) -> None:
    documents = write_documents(tmp_path / "documents.parquet", TEXTS)
    signals, batches, result = run_part(tmp_path / "out", documents)
    expected = measure(pq.read_table(documents), signals=["gopher"], language=False)
    assert signals.to_pylist() == expected.to_pylist()
    assert signals.schema.equals(expected.schema)
    assert result == {"rows": 5, "keys": sum(batch.num_rows for batch in batches)}


def test_a_lean_part_measures_mapped_documents_and_gives_the_same_keys(tmp_path: Path) -> None:
    full = run_part(tmp_path / "full", write_documents(tmp_path / "documents.parquet", TEXTS), partitions=2)
    lean = run_part(tmp_path / "lean", write_documents(tmp_path / "documents.arrow", TEXTS), partitions=2, signals=[])  # fmt: skip
    assert lean[0].column_names == ["id", "source", "char_count", "content_hash"]
    assert lean[0].to_pylist() == full[0].select(lean[0].column_names).to_pylist()
    assert lean[1:] == full[1:]
    for name in ("facts.arrow", "sketch.arrow"):
        assert read_mapped(tmp_path / "lean" / name).equals(read_mapped(tmp_path / "full" / name))


def test_a_shard_without_documents_has_all_files_with_all_columns(tmp_path: Path) -> None:
    empty = write_documents(tmp_path / "empty.parquet", [])
    groups = ["gopher", "gopher_repetition"]
    signals, batches, result = run_part(tmp_path / "out", empty, partitions=2, signals=groups)
    assert (signals.num_rows, [batch.num_rows for batch in batches]) == (0, [0, 0])
    assert result == {"rows": 0, "keys": 0}
    full, _, _ = run_part(
        tmp_path / "full", write_documents(tmp_path / "full.parquet", TEXTS), signals=groups
    )
    assert signals.schema.equals(full.schema)
    for name in ("facts.arrow", "sketch.arrow"):
        found = read_mapped(tmp_path / "out" / name)
        assert (found.num_rows, found.schema) == (0, read_mapped(tmp_path / "full" / name).schema)


def test_facts_are_what_ranks_a_document_and_what_is_equal_in_copies(tmp_path: Path) -> None:
    urls = [{"url": "http://a"}, {"url": None}, None, {"url": " http://a "}, {"url": ""}]
    documents = write_documents(tmp_path / "documents.arrow", TEXTS, meta=urls)
    run_part(tmp_path / "out", documents, dedup={**SEARCH, "by": ["url"]}, signals=[])
    facts = read_mapped(tmp_path / "out" / "facts.arrow")
    assert facts.schema == facts_schema(["url"])
    (a,) = content_hashes(pa.array(["http://a"])).to_pylist()
    assert facts["by_url"].to_pylist() == [a, None, None, a, None]
    assert facts["content_hash"].to_pylist() == content_hashes(pa.array(TEXTS)).to_pylist()
    assert facts["length"].to_pylist() == [len(text) for text in TEXTS]
    assert facts["text_bytes"].to_pylist() == [len(text.encode()) for text in TEXTS]
    assert facts["quality"].null_count == facts["priority"].null_count == 5


def test_priorities_of_records_lie_beside_the_documents_and_none_is_the_lowest(tmp_path: Path) -> None:
    documents = write_documents(tmp_path / "documents.arrow", TEXTS)
    schema = pa.schema([pa.field("priority", pa.float64())])
    with ShardWriter(tmp_path / "priority.arrow", schema) as writer:
        writer.write(pa.table([[1.5, None, -2.0, 0.0, 9.0]], schema))
    run_part(tmp_path / "out", documents, signals=[])
    assert read_mapped(tmp_path / "out" / "facts.arrow")["priority"].to_pylist() == [1.5, -float("inf"), -2.0, 0.0, 9.0]  # fmt: skip


def test_the_sketch_of_a_document_is_that_of_its_text(tmp_path: Path) -> None:
    run_part(tmp_path / "out", write_documents(tmp_path / "documents.arrow", TEXTS))
    found = read_mapped(tmp_path / "out" / "sketch.arrow")
    sketch = minhash.sketch(pa.array(TEXTS), bands=Bands(8, 4), ngram=2, seed=3)
    assert found["bits"].to_pylist() == [bits.tobytes() for bits in sketch.bits]
    assert found["has_words"].to_pylist() == sketch.has_words.tolist() == [True, False, True, True, True]


def keys_of(batches: list[pa.RecordBatch]) -> list[tuple[int, int]]:
    return [(row["key"], row["doc"]) for batch in batches for row in batch.to_pylist()]


@pytest.mark.parametrize("partitions", [1, 2, 8])
def test_keys_are_hashes_and_bands_of_every_document_dealt_by_their_high_bits(
    partitions: int, tmp_path: Path
) -> None:
    documents = write_documents(tmp_path / "documents.parquet", TEXTS)
    _, batches, _ = run_part(tmp_path / "out", documents, first=100, partitions=partitions)
    assert len(batches) == partitions
    for number, batch in enumerate(batches):
        assert {key * partitions >> 64 for key, _ in keys_of([batch])} <= {number}
    found = keys_of(batches)
    for key in {key for key, _ in found}:
        docs = [doc for own, doc in found if own == key]
        assert docs == sorted(docs)
    sketch = minhash.sketch(pa.array(TEXTS), bands=Bands(8, 4), ngram=2, seed=3)
    exact = exact_keys(fingerprints(pa.array(TEXTS))).tolist()
    expected = [(key, 100 + i) for i, key in enumerate(exact)]
    expected += [(int(sketch.keys[i, band]), 100 + i) for band in range(8) for i in (0, 2, 3, 4)]
    assert sorted(found) == sorted(expected)


@pytest.mark.parametrize(
    ("dedup", "per_document"),
    [({"minhash": None}, 1), ({"exact": False}, 8), ({"exact": False, "minhash": None}, 0), ({}, 9), ({"by": ["url"]}, 9.5)],
)  # fmt: skip
def test_what_is_not_searched_for_has_no_keys(
    dedup: dict[str, Any], per_document: float, tmp_path: Path
) -> None:
    """One of the two documents has a url."""
    documents = write_documents(tmp_path / "documents.parquet", ["a b c", "d e f"], meta=[{"url": "u"}, None])
    _, batches, result = run_part(tmp_path / "out", documents, dedup={**SEARCH, **dedup})
    assert sum(batch.num_rows for batch in batches) == result["keys"] == 2 * per_document
    assert (tmp_path / "out" / "sketch.arrow").exists() == (dedup.get("minhash", MINHASH) is not None)


def test_a_field_a_text_and_another_field_of_equal_value_share_no_key(tmp_path: Path) -> None:
    documents = write_documents(tmp_path / "documents.parquet", ["u"], meta=[{"url": "u"}])
    search = {**SEARCH, "minhash": None, "by": ["url", "url"]}
    _, batches, _ = run_part(tmp_path / "out", documents, dedup=search)
    assert len({key for key, _ in keys_of(batches)}) == 3


@pytest.mark.parametrize("family", ["words", "datasketch"])
def test_within_a_source_keys_of_equal_texts_differ_between_sources_alone(
    family: str, tmp_path: Path
) -> None:
    texts = ["one two three"] * 4
    documents = write_documents(tmp_path / "documents.arrow", texts, source=["a", "b", "a", "b"])
    minhash_settings = {**MINHASH, "hash_family": family}
    found = {}
    for scope in ("across", "within"):
        search = {**SEARCH, "scope": scope, "minhash": minhash_settings}
        found[scope] = keys_of(run_part(tmp_path / scope, documents, dedup=search)[1])
    keys = {s: [{key for key, doc in rows if doc == d} for d in range(4)] for s, rows in found.items()}
    assert keys["across"][0] == keys["across"][1] == keys["across"][2]
    assert keys["within"][0] == keys["within"][2]
    assert keys["within"][1] == keys["within"][3]
    assert keys["within"][0].isdisjoint(keys["within"][1])
    for rows in found.values():
        assert [len({key & 1 for key in (k for k, d in rows if d == doc)}) for doc in range(4)] == [2] * 4
        assert sum(key & 1 for key, _ in rows) == 4


def test_the_salt_of_a_source_follows_from_its_name() -> None:
    column = pa.chunked_array([["b", "a"], ["b"]])
    b, a = source_salts(column, "within")[:2].tolist()
    assert source_salts(column, "within").tolist() == [b, a, b]
    assert source_salts(pa.chunked_array([["a"] * 3]), "within").tolist() == [a]
    assert a != b
    assert source_salts(column, "across").tolist() == [0]
    assert np.uint64(a) == np.uint64(0x2F42665B399EF840)
