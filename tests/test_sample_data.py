"""The sample data: its size, formats, ids and duplicates, and the licence of every row against SOURCES.md."""

import csv
import gzip
import hashlib
import io
import json
import os
import re
import shutil
import subprocess
import sys
import zlib
from collections import Counter
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zstandard

DATA = Path(__file__).parent / "data"

# What the project may pass on: public domain, CC0, CC BY(-SA), MIT, Apache-2.0, PSF, PostgreSQL, Unicode, GPL and GFDL.
ALLOWED = re.compile(
    r"Public-Domain|CC0-1\.0|CC-BY(-SA)?-[234]\.0(-FR)?|MIT|Apache-2\.0|PSF-2\.0|PostgreSQL|Unicode-DFS-2016"
    r"|GPL-[23]\.0-(only|or-later)( WITH Linux-syscall-note)?|GFDL-1\.1(-no-invariants)?-or-later"
)


@cache
def table() -> dict[str, tuple[int, tuple[str, ...], str]]:
    """SOURCES.md's table: file -> (rows, licences, origin)."""
    text = (DATA / "SOURCES.md").read_text(encoding="utf-8")
    body = text.split("<!-- table -->\n")[1].split("<!-- end of table -->")[0]
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in body.splitlines()]
    assert cells[0] == ["file", "rows", "licence", "origin"]
    return {
        file.strip("`"): (int(rows), tuple(licences.split("; ")), origin)
        for file, rows, licences, origin in cells[2:]
    }


@cache
def rows_of(file: str, *, data: Path = DATA) -> list[dict[str, Any]]:
    """All records of a listed file, by readers that share nothing with the product's."""
    if file.endswith("*.txt"):
        return [
            {"id": path.name, "text": path.read_text(encoding="utf-8")} for path in sorted(data.glob(file))
        ]
    path = data / file
    raw = path.read_bytes()
    if file.endswith(".parquet"):
        return pq.read_table(path).to_pylist()
    if file.endswith(".arrow"):
        is_file = raw.startswith(b"ARROW1")
        reader = pa.ipc.open_file(raw) if is_file else pa.ipc.open_stream(raw)
        return reader.read_all().to_pylist()
    if file.endswith(".gz"):
        raw = gzip.decompress(raw)
    elif file.endswith(".zst"):
        raw = zstandard.ZstdDecompressor().stream_reader(raw).read()
    text = raw.decode("utf-8", errors="strict")
    if ".jsonl" in file:
        return [json.loads(line) for line in text.split("\n") if line]
    if ".tsv" in file:
        return [
            {str(i): cell for i, cell in enumerate(line.split("\t"))} for line in text.split("\n") if line
        ]
    return list(csv.DictReader(io.StringIO(text, newline="")))


def documents() -> Iterator[tuple[str, dict[str, Any]]]:
    """(source, row) of every document; the source is the file's or the folder's name."""
    for file in table():
        if file.startswith("documents/"):
            source = file.split("/")[1].split(".")[0]
            for row in rows_of(file):
                yield source, row


def test_the_sample_fits_in_eight_megabytes() -> None:
    assert sum(path.stat().st_size for path in DATA.rglob("*") if path.is_file()) <= 8_000_000


def test_every_data_file_is_listed_and_every_listed_file_exists() -> None:
    found = {
        path.relative_to(DATA).as_posix()
        for folder in ("documents", "tasks", "eval", "truth")
        for path in (DATA / folder).rglob("*")
        if path.is_file()
    }
    listed = {path.relative_to(DATA).as_posix() for file in table() for path in DATA.glob(file)}
    assert found == listed
    assert all(any(DATA.glob(file)) for file in table())


def test_every_listed_licence_may_be_passed_on_and_has_its_notice() -> None:
    notices = "".join(path.read_text(encoding="utf-8") for path in sorted((DATA / "LICENSES").glob("*.txt")))
    names = {name for _, licences, _ in table().values() for name in licences}
    assert sorted(name for name in names if not ALLOWED.fullmatch(name)) == []
    assert sorted(name for name in names if name not in notices) == []
    assert all(origin for _, _, origin in table().values())


def test_every_row_has_a_licence_that_its_file_lists() -> None:
    for file, (_, licences, _) in table().items():
        if any(kind in file for kind in (".txt", ".tsv", "truth/")):
            assert len(licences) == 1, f"{file}: its rows carry no licence, so the file must have one"
        else:
            assert {row["license"] for row in rows_of(file)} == set(licences), file


def test_row_counts_are_those_of_the_table() -> None:
    assert {file: len(rows_of(file)) for file in table()} == {
        file: rows for file, (rows, _, _) in table().items()
    }


def test_there_are_some_five_thousand_documents_of_every_format_form_and_main_language() -> None:
    rows = list(documents())
    assert 5_000 <= len(rows) <= 6_500
    files = [file for file in table() if file.startswith("documents/")]
    assert {re.sub(r"^[^.]*(\d\.\d\d)?", "", file.split("/", 1)[1]).lstrip(".") for file in files} >= {
        "jsonl", "jsonl.gz", "jsonl.zst", "parquet", "csv", "arrow", "txt",
    }  # fmt: skip
    heads = {(DATA / file).read_bytes()[:6] for file in files if file.endswith(".arrow")}
    assert len(heads) == 2, "one Arrow file in the file format and one in the stream format"
    languages = Counter((row.get("lang") or "").split("-")[0] for _, row in rows)
    assert all(languages[lang] >= 40 for lang in ("en", "de", "fr", "es", "ru", "ja", "zh")), languages
    forms = {row.get("form") for _, row in rows}
    assert forms >= {
        "speech",
        "manual",
        "book",
        "wiki",
        "code",
        "table",
        "dictionary",
        "changelog",
        "legal",
        "sentence",
    }


def test_ids_are_unique_in_each_source_and_texts_are_not_empty() -> None:
    seen = Counter((source, row["id"]) for source, row in documents())
    assert [key for key, count in seen.items() if count > 1] == []
    assert [row["id"] for _, row in documents() if not row["text"].strip()] == []


def test_texts_can_be_written_as_utf8() -> None:
    for _, row in documents():
        row["text"].encode("utf-8", errors="strict")


def test_natural_duplicates_are_there() -> None:
    copies = Counter(hashlib.sha256(row["text"].encode()).digest() for _, row in documents())
    assert sum(copies.values()) - len(copies) >= 400
    clusters: dict[tuple[str, str], tuple[str, str]] = {}

    def root(key: tuple[str, str]) -> tuple[str, str]:
        while clusters.get(key, key) != key:
            key = clusters[key]
        return key

    redundant = 0
    for pair in rows_of("truth/near_duplicate_pairs.csv.gz"):
        if float(pair["jaccard"]) >= 0.8:
            a, b = root((pair["source_a"], pair["id_a"])), root((pair["source_b"], pair["id_b"]))
            redundant += a != b
            clusters[a] = b
    assert redundant >= 700


def test_the_pairs_of_the_truth_have_the_similarity_that_their_texts_have() -> None:
    texts = {
        (source, row["id"] + ("#0" if source == "plays" else "")): row["text"] for source, row in documents()
    }

    def shingles(text: str) -> set[tuple[str, ...]]:
        tokens = re.findall(r"\w+", text.lower())
        return {tuple(tokens[i : i + 5]) for i in range(max(len(tokens) - 4, 1))}

    pairs = rows_of("truth/near_duplicate_pairs.csv.gz")
    for pair in pairs[::10]:
        a = shingles(texts[pair["source_a"], pair["id_a"]])
        b = shingles(texts[pair["source_b"], pair["id_b"]])
        assert f"{len(a & b) / len(a | b):.6f}" == pair["jaccard"]


def test_some_documents_and_tasks_hold_evaluation_items_and_most_do_not() -> None:
    overlaps = rows_of("truth/contamination.csv.gz")
    found = {
        (kind, source): len({row["id"] for row in overlaps if (row["kind"], row["source"]) == (kind, source)})
        for kind, source in {(row["kind"], row["source"]) for row in overlaps}
    }
    assert found["document", "wiki"] >= 150
    assert found["document", "speeches"] >= 3
    assert found["task", "aqua"] >= 100
    assert sum(count for (kind, _), count in found.items() if kind == "document") < 0.1 * len(
        list(documents())
    )
    wiki = {row["id"]: row["text"] for row in rows_of("documents/wiki.jsonl.zst")}
    contexts = {row["id"]: row["context"] for row in rows_of("eval/xquad.jsonl.gz")}
    exact = [row for row in overlaps if row["eval"] == "xquad" and wiki[row["id"]] == contexts[row["item"]]]
    assert len(exact) >= 150


def test_tasks_and_evaluation_items_have_their_columns() -> None:
    for file in table():
        keys = {frozenset(row) for row in rows_of(file)} if file.startswith(("tasks/", "eval/")) else set()
        if file.startswith("tasks/t0_"):
            assert keys == {frozenset({"id", "template", "prompt", "completion", "license"})}
            assert all(row["completion"].endswith("<|endoftext|>") for row in rows_of(file))
        elif ".tsv" in file:
            assert keys == {frozenset({"0", "1", "2"})}
        elif file.startswith("eval/"):
            assert all({"id", "dataset", "lang", "question", "answer", "license"} <= key for key in keys)
            assert all(row["question"] and row["answer"] for row in rows_of(file)), file
            assert all(row["answer"] in row.get("choices", [row["answer"]]) for row in rows_of(file))
    assert all("####" in row["answer"] for row in rows_of("tasks/gsm8k.jsonl.gz"))
    assert any("<<" in row["answer"] for row in rows_of("tasks/gsm8k.jsonl.gz"))


def test_task_and_evaluation_ids_are_unique() -> None:
    for file in table():
        if file.startswith(("tasks/", "eval/")) and ".tsv" not in file:
            ids = [row["id"] for row in rows_of(file)]
            assert len(set(ids)) == len(ids), file


def test_the_readme_of_the_broken_files_names_each_of_them() -> None:
    named = re.findall(
        r"^\| `([^`]+)` \|", (DATA / "bad" / "README.md").read_text(encoding="utf-8"), re.MULTILINE
    )
    assert sorted(named) == sorted(path.name for path in (DATA / "bad").iterdir() if path.name != "README.md")


@pytest.mark.parametrize("name", ["truncated.jsonl.gz", "truncated.jsonl.zst"])
def test_a_truncated_stream_breaks_inside_its_sixth_record(name: str) -> None:
    raw = (DATA / "bad" / name).read_bytes()
    if name.endswith(".gz"):
        stream = zlib.decompressobj(31)
        text = stream.decompress(raw)
        assert not stream.eof
    else:
        text = zstandard.ZstdDecompressor().decompressobj().decompress(raw)
    lines = text.split(b"\n")
    assert [json.loads(line)["id"] for line in lines[:-1]] == [f"r{i}" for i in range(5)]
    with pytest.raises((EOFError, zstandard.ZstdError)):
        gzip.decompress(raw) if name.endswith(".gz") else zstandard.ZstdDecompressor().decompress(raw)


def test_the_broken_files_are_broken_as_told() -> None:
    bad = DATA / "bad"
    with pytest.raises(json.JSONDecodeError):
        [json.loads(line) for line in (bad / "malformed.jsonl").read_text(encoding="utf-8").splitlines()]
    with pytest.raises(UnicodeDecodeError):
        (bad / "invalid_utf8.jsonl").read_text(encoding="utf-8")
    with pytest.raises(UnicodeEncodeError):
        json.loads((bad / "surrogate.jsonl").read_text(encoding="utf-8").split("\n")[1])["text"].encode()
    with pytest.raises(pa.ArrowInvalid):
        pq.read_table(bad / "truncated.parquet")
    with pytest.raises(gzip.BadGzipFile):
        gzip.decompress((bad / "not_gzip.jsonl.gz").read_bytes())
    assert (bad / "empty.jsonl").read_bytes() == b""
    assert (bad / "crlf.jsonl").read_bytes().count(b"\r\n") == 3
    assert (bad / "bom.jsonl").read_bytes().startswith(b"\xef\xbb\xbf")
    assert len((bad / "u2028.jsonl").read_text(encoding="utf-8").split("\n")) == 4
    assert len((bad / "u2028.jsonl").read_text(encoding="utf-8").splitlines()) == 6
    with (bad / "ragged.csv").open(encoding="utf-8", newline="") as file:
        assert [len(row) for row in csv.reader(file)] == [2, 2, 3, 1, 2]


@pytest.mark.slow
@pytest.mark.shared
def test_the_builder_makes_the_same_rows_and_the_same_table_again(tmp_path: Path) -> None:
    shared = Path(os.environ.get("CURATE_SHARED", DATA.parents[1].parent / "shared"))
    if not (shared / "data" / "README.md").is_file():
        pytest.skip(f"no shared data at {shared}; set CURATE_SHARED")
    for name in ("build.py", "SOURCES.md"):
        shutil.copy(DATA / name, tmp_path / name)
    subprocess.run([sys.executable, tmp_path / "build.py", shared], check=True)
    assert (tmp_path / "SOURCES.md").read_text(encoding="utf-8") == (DATA / "SOURCES.md").read_text(
        encoding="utf-8"
    )
    for file in table():
        assert rows_of(file, data=tmp_path) == rows_of(file), file
    for path in sorted((DATA / "bad").iterdir()):
        if path.name not in ("README.md", "truncated.jsonl.zst", "truncated.jsonl.gz", "truncated.parquet"):
            assert (tmp_path / "bad" / path.name).read_bytes() == path.read_bytes(), path.name
