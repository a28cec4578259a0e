"""Inputs of a command: folders, files of one name, and the names of the fields in every format."""

from __future__ import annotations

import gzip
import json
import logging
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zstandard

from curate.config import from_mapping
from curate.dedup_inputs import field_names, name_sources
from curate.sources import Source, find_files
from filters.errors import ConfigError


@pytest.fixture(autouse=True)
def _inside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def touch(*names: str) -> None:
    for name in names:
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        Path(name).write_text("{}\n")


def relative_names(*inputs: str, scope: str = "across") -> dict[str, list[str]]:
    """What the files of each source are called."""
    sources = name_sources(inputs, {"meta": []}, scope=scope)
    return {
        name: [file.relative for file in find_files(name, from_mapping(Source, source))]
        for name, source in sources.items()
    }


def test_a_single_file_or_pattern_is_taken_as_it_is() -> None:
    touch("in/a.jsonl", "in/b.jsonl")
    assert name_sources(["in/a.jsonl"], {"id": "id"}, scope="across") == {
        "input": {"path": "in/a.jsonl", "id": "id"}
    }
    assert relative_names("in/*.jsonl") == {"input": ["a.jsonl", "b.jsonl"]}


def test_an_input_that_is_given_twice_counts_once() -> None:
    touch("a.jsonl")
    assert name_sources(["a.jsonl", "a.jsonl"], {}, scope="across") == {"input": {"path": "a.jsonl"}}


def test_a_folder_stands_for_its_files_of_records_at_any_depth(caplog: pytest.LogCaptureFixture) -> None:
    touch(
        "in/a.jsonl",
        "in/deep/er/b.JSONL.gz",
        "in/c.parquet",
        "in/README.md",
        "in/_SUCCESS",
        "in/.hidden.jsonl",
    )
    with caplog.at_level(logging.WARNING):
        assert relative_names("in") == {"input": ["a.jsonl", "c.parquet", "deep/er/b.JSONL.gz"]}
    assert caplog.messages == ["in: 2 files hold no records and are left out, the first is in/README.md"]


def test_a_folder_of_texts_stands_for_the_texts(caplog: pytest.LogCaptureFixture) -> None:
    touch("in/a.txt", "in/b.md")
    assert relative_names("in") == {"input": ["a.txt", "b.md"]}
    assert caplog.messages == []


def test_a_folder_whose_name_looks_like_a_pattern_is_a_folder() -> None:
    touch("run[1]/a.jsonl", "run1/b.jsonl")
    assert relative_names("run[1]") == {"input": ["run[1]/a.jsonl"]}


def test_a_folder_without_a_file_of_a_known_format_is_refused() -> None:
    touch("empty/notes.doc")
    with pytest.raises(
        ConfigError, match=r"INPUT: 'empty' holds no file of a known format; allowed: \.jsonl, "
    ):
        name_sources(["empty"], {}, scope="across")


@pytest.mark.parametrize(
    ("inputs", "expected"),
    [
        (["x/2020/part.jsonl", "x/2021/part.jsonl"], ["2020/part.jsonl", "2021/part.jsonl"]),
        (["x/2020", "x/2021"], ["2020/more.jsonl", "2020/part.jsonl", "2021/part.jsonl"]),
        (["x/2020/*.jsonl", "x/2021/p*.jsonl"], ["2020/more.jsonl", "2020/part.jsonl", "2021/part.jsonl"]),
        (["x/2020/more.jsonl", "x/2021/part.jsonl"], ["more.jsonl", "part.jsonl"]),
        (["part.jsonl", "x/2020/part.jsonl"], ["part.jsonl", "x/2020/part.jsonl"]),
    ],
)
def test_files_of_one_name_are_called_by_what_tells_them_apart(
    inputs: list[str], expected: list[str]
) -> None:
    touch("x/2020/part.jsonl", "x/2020/more.jsonl", "x/2021/part.jsonl", "part.jsonl")
    assert relative_names(*inputs) == {"input": expected}


def test_paths_from_different_places_are_called_from_where_they_meet(tmp_path: Path) -> None:
    touch("here/part.jsonl", "there/part.jsonl")
    found = relative_names("here/../there/part.jsonl", str(tmp_path / "here" / "part.jsonl"))
    assert found == {"input": ["here/part.jsonl", "there/part.jsonl"]}


def test_inputs_that_are_not_compared_are_sources_of_their_own() -> None:
    touch("a/web.jsonl", "b/web.jsonl", "c/e v*.jsonl")
    assert relative_names("a/web.jsonl", "b/web.jsonl", "c", scope="within") == {
        "web.jsonl": ["web.jsonl"], "web.jsonl-2": ["web.jsonl"], "c": ["e v*.jsonl"],
    }  # fmt: skip


def test_datasets_of_one_name_are_sources_of_their_own() -> None:
    from datasets import Dataset

    for name in ("old", "new"):
        Dataset.from_list([{"text": name}]).save_to_disk(name)
    assert list(relative_names("old", "new")) == ["old", "new"]


def names_of(path: str) -> list[str]:
    (file,) = find_files("input", Source(path))
    return field_names(file)


def test_the_fields_of_a_file_are_known_in_every_format() -> None:
    rows = [{"text": "a", "id": 1}, {"text": "b", "late": None}]
    lines = "".join(json.dumps(row) + "\n" for row in rows).encode()
    Path("a.jsonl").write_bytes(b"\xef\xbb\xbf" + lines + b"[1]\nbroken\n")
    Path("b.jsonl.gz").write_bytes(gzip.compress(lines))
    Path("c.jsonl.zst").write_bytes(zstandard.compress(lines))
    for path in ("a.jsonl", "b.jsonl.gz", "c.jsonl.zst"):
        assert names_of(path) == ["text", "id", "late"]
    Path("d.csv").write_text('"a ""quoted"" name",text\n1,2\n')
    Path("e.tsv").write_text("text\tlast\n1\t2\n")
    assert names_of("d.csv") == ['a "quoted" name', "text"]
    assert names_of("e.tsv") == ["text", "last"]
    table = pa.table({"text": ["a"], "n": [1]})
    pq.write_table(table, "f.parquet")
    for name, new in (("g.arrow", pa.ipc.new_file), ("h.arrow", pa.ipc.new_stream)):
        with pa.OSFile(name, "wb") as sink, new(sink, table.schema) as writer:
            writer.write_table(table)
    for path in ("f.parquet", "g.arrow", "h.arrow"):
        assert names_of(path) == ["text", "n"]


@pytest.mark.parametrize("name", ["a.parquet", "a.arrow", "a.jsonl.gz", "a.csv", "a.jsonl"])
def test_a_broken_file_has_no_fields_and_raises_nothing(name: str) -> None:
    Path(name).write_bytes(b"\x00\x01 no such thing")
    assert names_of(name) in ([], ["\x00\x01 no such thing"])
    Path(name).write_bytes(b"")
    assert names_of(name) == []
