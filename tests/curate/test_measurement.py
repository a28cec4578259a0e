"""Measuring: one row for each document, the same numbers however documents are cut into shards."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import xxhash
from hypothesis import given, settings
from hypothesis import strategies as st

from curate.measurement import EXACT_BAND, content_hashes, measure, measure_part
from curate.minhash import Bands, band_keys, signatures
from curate.schema import documents_schema
from filters.errors import ConfigError

TEXTS = [
    "one two three",
    "",
    "über uns die Straße\n\nund mehr",
    "one two three",
    "a b c d e f g h i j k l m n o p",
]
MINHASH = {"ngram": 2, "permutations": 64, "bands": 8, "rows": 4, "seed": 3}


def write_documents(path: Path, texts: list[str]) -> str:
    ids = [f"d{i}" for i in range(len(texts))]
    table = pa.table({"id": ids, "source": ["s"] * len(texts), "text": texts}, schema=documents_schema([]))
    pq.write_table(table, path, row_group_size=2)
    return str(path)


def run_part(
    folder: Path, documents: str, **options: Any
) -> tuple[pa.Table, list[pa.RecordBatch], dict[str, Any]]:
    plain: dict[str, Any] = {
        "first": 0, "signals": ["gopher"], "language": False, "quality_model": None,
        "dedup": {"exact": True, "minhash": MINHASH}, "partitions": 1,
    }  # fmt: skip
    folder.mkdir()
    result = measure_part(folder, documents=documents, **{**plain, **options})
    reader = pa.ipc.open_file(pa.OSFile(str(folder / "keys.arrow")))
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


def test_a_content_hash_is_that_of_the_bytes_of_the_text() -> None:
    chunks = pa.chunked_array([TEXTS[:2], [], TEXTS[2:]])
    expected = [xxhash.xxh3_128_digest(text.encode()) for text in TEXTS]
    for column in (
        pa.array(TEXTS),
        pa.array(TEXTS, pa.large_string()),
        chunks,
        pa.array(["x", *TEXTS]).slice(1),
    ):
        assert content_hashes(column).to_pylist() == expected
    assert content_hashes(pa.array(["", None], pa.string())).to_pylist() == [xxhash.xxh3_128_digest(b"")] * 2
    assert content_hashes(pa.array([], pa.string())).type == pa.binary(16)


def test_a_null_is_an_empty_text_whatever_bytes_lie_under_it() -> None:
    offsets, data = pa.py_buffer(np.array([0, 3, 6], np.int32)), pa.py_buffer(b"abcdef")
    hidden = pa.Array.from_buffers(pa.string(), 2, [pa.py_buffer(bytes([0b10])), offsets, data])
    assert hidden.to_pylist() == [None, "def"]
    assert content_hashes(hidden).to_pylist() == [xxhash.xxh3_128_digest(b""), xxhash.xxh3_128_digest(b"def")]


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
    signals, _, result = run_part(tmp_path / "out", documents)
    expected = measure(pq.read_table(documents), signals=["gopher"], language=False)
    assert signals.to_pylist() == expected.to_pylist()
    assert signals.schema.equals(expected.schema)
    assert result == {"rows": 5}


def test_a_shard_without_documents_has_all_columns(tmp_path: Path) -> None:
    empty = write_documents(tmp_path / "empty.parquet", [])
    signals, batches, result = run_part(
        tmp_path / "out", empty, partitions=2, signals=["gopher", "gopher_repetition"]
    )
    assert (signals.num_rows, [batch.num_rows for batch in batches], result) == (0, [0, 0], {"rows": 0})
    full, _, _ = run_part(tmp_path / "full", write_documents(tmp_path / "full.parquet", TEXTS), signals=["gopher", "gopher_repetition"])  # fmt: skip
    assert signals.schema.equals(full.schema)


@pytest.mark.parametrize("partitions", [1, 2, 8])
def test_keys_are_hashes_and_bands_of_every_document_cut_by_their_high_bits(
    partitions: int, tmp_path: Path
) -> None:
    documents = write_documents(tmp_path / "documents.parquet", TEXTS)
    _, batches, _ = run_part(tmp_path / "out", documents, first=100, partitions=partitions)
    assert len(batches) == partitions
    found = []
    for number, batch in enumerate(batches):
        rows = list(zip(*(batch.column(name).to_pylist() for name in ("band", "key", "doc")), strict=True))
        assert rows == sorted(rows)
        assert {key >> (64 - partitions.bit_length() + 1) for _, key, _ in rows if partitions > 1} <= {number}
        found += rows
    hashes = [int.from_bytes(xxhash.xxh3_128_digest(text.encode())[:8], "little") for text in TEXTS]
    expected = [(EXACT_BAND, key, 100 + i) for i, key in enumerate(hashes)]
    keys, has_words = band_keys(signatures(pa.array(TEXTS), ngram=2, permutations=64, seed=3), Bands(8, 4))
    expected += [(band, int(keys[band][i]), 100 + i) for band in range(8) for i in range(5) if has_words[i]]
    assert has_words.tolist() == [True, False, True, True, True]
    assert sorted(found) == sorted(expected)


@pytest.mark.parametrize(("dedup", "per_document"), [({"exact": True, "minhash": None}, 1), ({"exact": False, "minhash": MINHASH}, 8), ({"exact": False, "minhash": None}, 0)])  # fmt: skip
def test_what_is_not_searched_for_has_no_keys(
    dedup: dict[str, Any], per_document: int, tmp_path: Path
) -> None:
    documents = write_documents(tmp_path / "documents.parquet", ["a b c", "d e f"])
    _, batches, _ = run_part(tmp_path / "out", documents, dedup=dedup)
    assert sum(batch.num_rows for batch in batches) == 2 * per_document
