"""Readers: every format and compression, every kind of bad record, and the same answer however the file is cut."""

from __future__ import annotations

import csv
import gzip
import io
import itertools
import json
import os
import random
import zlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from curate import sources
from curate.sources import (
    Source,
    decompressed,
    file_arguments,
    file_from,
    find_files,
    read_records,
    split_file,
)
from filters.errors import ConfigError, DataError

BAD = Path(__file__).parents[1] / "data" / "bad"


def read(
    path: Path, columns: Sequence[str] = ("text", "id"), *, format: Any = None
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Good records (row, line and fields) and bad ones of one file; every record is in one of the two."""
    (file,) = find_files("s", Source(path=str(path), format=format))
    good: list[dict[str, Any]] = []
    bad: list[dict[str, Any]] = []
    n_read = 0
    for records in read_records(file, columns):
        names = [name.removeprefix("field:") for name in records.table.column_names]
        good += records.table.rename_columns(names).to_pylist()
        bad += records.bad
        n_read += records.read
    assert n_read == len(good) + len(bad)
    rows = [record["row"] for record in good] + [record["row"] for record in bad]
    assert sorted(rows) == list(range(n_read))
    assert [record["row"] for record in good] == sorted(record["row"] for record in good)
    return good, bad


def write(path: Path, data: bytes) -> Path:
    path.write_bytes(data)
    return path


def jsonl(records: Sequence[Mapping[str, Any]]) -> bytes:
    return b"".join(json.dumps(record, ensure_ascii=False).encode() + b"\n" for record in records)


def fields(records: Sequence[Mapping[str, Any]], *names: str) -> list[tuple[Any, ...]]:
    return [tuple(record[name] for name in names) for record in records]


def zstd(data: bytes) -> bytes:
    return zstandard.ZstdCompressor().compress(data)


# -- the broken files of tests/data ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "ids", "bad"),
    [
        ("malformed.jsonl", ["r0", "r1", "r3", "r4"], [(2, 3, "malformed_json")]),
        ("invalid_utf8.jsonl", ["r0", "r2", "r3"], [(1, 2, "invalid_utf8")]),
        ("missing_text.jsonl", ["r0", "r1", "r2", "r5"], [(3, 4, "missing_text"), (4, 5, "missing_text")]),
        ("not_an_object.jsonl", ["r0", "r4"], [(i, i + 1, "malformed_json") for i in (1, 2, 3)]),
        ("empty.jsonl", [], []),
        ("repeated_id.jsonl", ["r0", "r1", "r0", "r3"], []),
        ("ragged.csv", ["r0", "r3"], [(1, 3, "ragged_row"), (2, 4, "ragged_row")]),
        ("surrogate.jsonl", ["r0", "r2"], [(1, 2, "invalid_utf8")]),
        ("truncated.jsonl.gz", ["r0", "r1", "r2", "r3", "r4"], [(5, 6, "broken_stream")]),
        ("truncated.jsonl.zst", ["r0", "r1", "r2", "r3", "r4"], [(5, 6, "broken_stream")]),
        ("truncated.parquet", [], [(0, None, "broken_stream")]),
        ("not_gzip.jsonl.gz", [], [(0, 1, "broken_stream")]),
        ("u2028.jsonl", ["r0", "r1", "r2"], []),
        ("crlf.jsonl", ["r0", "r1", "r2"], []),
        ("blank_lines.jsonl", ["r0", "r1", "r2"], []),
        ("bom.jsonl", ["r0", "r1", "r2"], []),
    ],
)
def test_a_broken_file_gives_its_good_records_and_a_reason_for_each_other(
    name: str, ids: list[str], bad: list[tuple[int, int | None, str]]
) -> None:
    good, found = read(BAD / name)
    assert [record["id"] for record in good] == ids
    assert fields(found, "row", "line", "reason") == bad


def test_the_reason_says_where_in_the_record_the_fault_is() -> None:
    details = {
        name: read(BAD / name)[1][0]["detail"]
        for name in ("invalid_utf8.jsonl", "not_an_object.jsonl", "missing_text.jsonl", "ragged.csv", "surrogate.jsonl")
    }  # fmt: skip
    assert details == {
        "invalid_utf8.jsonl": "byte 25 of the line is not UTF-8",
        "not_an_object.jsonl": "the line holds a list, not an object",
        "missing_text.jsonl": "the field 'text' holds a int, not text",
        "ragged.csv": "the row has 3 fields, the header 2",
        "surrogate.jsonl": "the field 'text' holds half a surrogate pair",
    }
    excerpts = [read(BAD / name)[1][0]["excerpt"] for name in ("invalid_utf8.jsonl", "ragged.csv")]
    assert excerpts == ['{"id": "r1", "text": "caf\\xe9 au lait"}', "r1,three,fields"]


def test_other_line_separators_of_unicode_end_no_line(tmp_path: Path) -> None:
    good, _ = read(BAD / "u2028.jsonl")
    assert [record["text"] for record in good][:2] == ["one\u2028record", "another\u2029one\x85here"]
    assert [record["line"] for record in good] == [1, 2, 3]
    with_fault = (BAD / "u2028.jsonl").read_bytes() + b"{\n"  # sends the block to the slower reader
    slow, bad = read(write(tmp_path / "a.jsonl", with_fault))
    assert (slow, fields(bad, "row", "reason")) == (good, [(3, "malformed_json")])


def test_blank_lines_are_no_records_but_count_as_lines() -> None:
    good, _ = read(BAD / "blank_lines.jsonl")
    assert fields(good, "row", "line") == [(0, 2), (1, 5), (2, 7)]


@pytest.mark.parametrize("block", [1, 7, 50, 200])
@pytest.mark.parametrize("name", sorted(path.name for path in BAD.iterdir() if path.name != "README.md"))
def test_the_size_of_a_block_changes_nothing(name: str, block: int, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = read(BAD / name)
    monkeypatch.setattr(sources, "BLOCK_BYTES", block)
    assert read(BAD / name) == whole


# -- what is written is what is read ---------------------------------------------------------------------------

TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
RECORDS = st.lists(
    st.fixed_dictionaries({"id": TEXTS, "text": TEXTS | st.sampled_from(['"', '""', "\n", "\r\n", "a\u2028b", ",", "\\", "{"])}),
    max_size=12,
)  # fmt: skip


def as_jsonl(records: Sequence[Mapping[str, str]], ascii_only: bool = False) -> bytes:
    return b"".join(json.dumps(r, ensure_ascii=ascii_only).encode() + b"\n" for r in records)


def as_csv(records: Sequence[Mapping[str, str]], delimiter: str = ",", end: str = "\r\n") -> bytes:
    out = io.StringIO(newline="")
    writer = csv.writer(
        out,
        delimiter=delimiter,
        lineterminator=end,
        quoting=csv.QUOTE_ALL if end == "\n" else csv.QUOTE_MINIMAL,
    )
    writer.writerow(["id", "text"])
    writer.writerows((r["id"], r["text"]) for r in records)
    return out.getvalue().encode()


def as_parquet(records: Sequence[Mapping[str, str]]) -> bytes:
    out = io.BytesIO()
    pq.write_table(table_of(records), out, row_group_size=3)
    return out.getvalue()


def as_arrow(records: Sequence[Mapping[str, str]], new: Any = pa.ipc.new_file) -> bytes:
    out = io.BytesIO()
    table = table_of(records)
    with new(out, table.schema) as writer:
        writer.write_table(table, max_chunksize=3)
    return out.getvalue()


def table_of(records: Sequence[Mapping[str, str]]) -> pa.Table:
    return pa.table({name: pa.array([r[name] for r in records], pa.string()) for name in ("id", "text")})


@pytest.mark.parametrize(
    ("name", "make"),
    [
        ("a.jsonl", as_jsonl),
        ("b.ndjson", lambda records: as_jsonl(records, ascii_only=True)),
        ("c.csv", as_csv),
        ("d.csv", lambda records: as_csv(records, end="\n")),
        ("e.tsv", lambda records: as_csv(records, delimiter="\t")),
        ("f.parquet", as_parquet),
        ("g.arrow", as_arrow),
        ("h.feather", lambda records: as_arrow(records, pa.ipc.new_stream)),
        ("i.jsonl.gz", lambda records: gzip.compress(as_jsonl(records))),
        ("j.jsonl.zst", lambda records: zstd(as_jsonl(records))),
        ("k.csv.gz", lambda records: gzip.compress(as_csv(records))),
    ],
)  # fmt: skip
@settings(max_examples=25, deadline=None)
@given(records=RECORDS, block=st.sampled_from([1, 16, 100, 8 << 20]))
def test_any_records_are_read_back_exactly_whatever_the_size_of_a_block(
    name: str, make: Any, records: list[dict[str, str]], block: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = write(tmp_path_factory.mktemp("any") / name, make(records))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sources, "BLOCK_BYTES", block)
        patch.setattr(sources, "BATCH_ROWS", 2)
        good, bad = read(path)
    assert bad == []
    assert fields(good, "id", "text") == fields(records, "id", "text")


@pytest.mark.parametrize("compression", ["", ".gz", ".zst"])
@pytest.mark.parametrize(
    "suffix", [".jsonl", ".json", ".ndjson", ".csv", ".tsv", ".txt", ".text", ".md", ".JSONL"]
)
def test_every_line_format_is_read_under_every_compression(
    suffix: str, compression: str, tmp_path: Path
) -> None:
    records = [{"id": "a", "text": "one\ntwo"}, {"id": "b", "text": "drei, vier"}]
    kind = suffix.lower()
    data = as_csv(records, "\t" if kind == ".tsv" else ",") if kind in (".csv", ".tsv") else as_jsonl(records)
    packed = {"": data, ".gz": gzip.compress(data), ".zst": zstd(data)}[compression]
    good, bad = read(write(tmp_path / f"file{suffix}{compression}", packed))
    assert bad == []
    if kind in (".txt", ".text", ".md"):
        assert good == [{"row": 0, "line": 1, "text": data.decode(), "id": None}]
    else:
        assert fields(good, "id", "text") == [("a", "one\ntwo"), ("b", "drei, vier")]


def test_a_given_format_overrides_the_name(tmp_path: Path) -> None:
    path = write(tmp_path / "export.dat.gz", gzip.compress(jsonl([{"text": "x"}])))
    assert fields(read(path, format="jsonl")[0], "text") == [("x",)]


# -- JSONL -----------------------------------------------------------------------------------------------------

SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | TEXTS
VALUES = st.recursive(
    SCALARS, lambda v: st.lists(v, max_size=3) | st.dictionaries(TEXTS, v, max_size=3), max_leaves=6
)
OBJECTS = st.dictionaries(st.sampled_from(["text", "id", "url", "other", "x.y"]), VALUES, max_size=5)
ODD_LINES = st.sampled_from(
    [
        b'{"text": "a"', b"[1]", b"3", b'"x"', b"null", b"{}", b"{}{}", b'{"text": "a"} {"text": "b"}', b" {}", b"{} ",
        b'{"text": "a", "text": "b"}', b'{"id": "a", "id": 3}', b'{"other": {"a": 1, "a": 2}, "text": "a"}',
        b'{"text": "\xff"}', b'{"other": "\xff", "text": "a"}', b'{"\xff": 1, "text": "a"}', b'{"text": "\\ud83d"}',
        b'{"other": "\\ud83d", "text": "a"}', b'{"text": "\\ude00"}', b'{"text": "\\ud83d\\ude00"}', b'{"text": "\\u0000"}',
        b'{"text": "a\tb"}', b'{"other": "a\tb", "text": ""}', b'{"text": "a" /* no */}', b'{"text": "a",}',
        b'{"id": NaN, "text": "a"}', b'{"other": NaN, "text": "a"}', b'{"other": 1e999, "text": "a"}', b'{"id": -0, "text": "a"}',
        b'{"id": 1e5, "text": "a"}', b'{"id": 1.0, "text": "a"}', b'{"id": 007, "text": "a"}', b'{"id": +1, "text": "a"}',
        b'{"id": 18446744073709551616, "text": "a"}', b'{"id": 9223372036854775807, "text": "a"}', b'{"other": ' + b"9" * 5000 + b"}",
        b'{"id": ' + b"9" * 5000 + b', "text": "a"}', b'{"text": "a", "other": ' + b"[" * 499 + b"]" * 499 + b"}",
        b'{"text": "a", "other": ' + b"[" * 500 + b"]" * 500 + b"}", b'{"text": "a", "other": ' + b'{"a":' * 900 + b"1" + b"}" * 900 + b"}",
        b'{"text": "' + b"[{" * 400 + b'"}', b'{"text": "' + b'[\\"{' * 400 + b'"}', b"", b"   ", b"\r", b'{"text": "a"}\r',
        b"{\x00}", b'{"text": true}', b'{"text": null}', b'{"text": ["a"]}', b'{"t\\u0065xt": "a"}', b'{"id": {"a": [1]}, "text": "a"}',
    ]
)  # fmt: skip
LINES = st.lists(
    st.builds(lambda v: json.dumps(v, ensure_ascii=False).encode(), OBJECTS) | ODD_LINES, max_size=6
)


@settings(max_examples=300, deadline=None)
@given(
    lines=LINES, names=st.sampled_from([("text", "id"), ("text",), ("text", "url", "id"), ("text", "x.y")])
)
def test_what_becomes_of_a_line_never_depends_on_its_neighbours(
    lines: list[bytes], names: tuple[str, ...], tmp_path_factory: pytest.TempPathFactory
) -> None:
    """A malformed line sends its whole block to the slower reader, one line after the other: nothing else changes."""
    folder = tmp_path_factory.mktemp("lines")
    alone = [read(write(folder / "alone.jsonl", line + b"\n"), names) for line in lines]
    good, bad = read(write(folder / "all.jsonl", b"".join(line + b"\n" for line in lines)), names)
    slow_good, slow_bad = read(
        write(folder / "slow.jsonl", b"".join(line + b"\n" for line in [*lines, b"{"])), names
    )
    assert slow_good == good
    assert slow_bad[:-1] == bad
    assert fields(good, *names) == [fields(g, *names)[0] for g, _ in alone if g]
    assert fields(bad, "reason", "detail") == [fields(b, "reason", "detail")[0] for _, b in alone if b]
    expected = [i + 1 for i, (g, _) in enumerate(alone) if g]
    assert [record["line"] for record in good] == expected


@pytest.mark.parametrize("bad_line", [None, 0, 3, 9])
@pytest.mark.parametrize("block", [1, 40, 8 << 20])
def test_rows_count_records_and_lines_count_lines_with_bad_ones_in_between(
    bad_line: int | None, block: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lines = [b'{"id": "%d", "text": "t%d"}' % (i, i) for i in range(10)]
    if bad_line is not None:
        lines[bad_line] = b"broken"
    lines[5:5] = [b"", b"  "]
    monkeypatch.setattr(sources, "BLOCK_BYTES", block)
    good, bad = read(write(tmp_path / "a.jsonl", b"\n".join(lines)))
    expected = [(i, i + 1 if i < 5 else i + 3, str(i)) for i in range(10)]
    assert fields(good, "row", "line", "id") == [place for place in expected if place[0] != bad_line]
    assert fields(bad, "row", "line") == [place[:2] for place in expected if place[0] == bad_line]


@pytest.mark.parametrize("value", [7, True, -(2**63), 2**63 - 1])
def test_whole_numbers_and_truth_values_do_not_send_a_block_to_the_slower_reader(
    value: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write(tmp_path / "a.jsonl", jsonl([{"text": "t", "id": value}, {"text": "u", "id": None}] * 3))
    slow, _ = read(write(tmp_path / "b.jsonl", path.read_bytes() + b"{\n"))
    monkeypatch.setattr(sources, "_parse_lines", None)
    assert read(path) == (slow, [])
    assert slow[0]["id"] == json.dumps(value)


@pytest.mark.parametrize(
    ("value", "text"),
    [(7, "7"), (-0, "0"), (2**63, str(2**63)), (1.5, "1.5"), (True, "true"), ({"b": 1, "a": [None]}, '{"a": [null], "b": 1}'), ("x", "x"), (None, None)],
)  # fmt: skip
def test_an_id_that_is_no_text_becomes_text(value: Any, text: str | None, tmp_path: Path) -> None:
    path = write(tmp_path / "a.jsonl", jsonl([{"id": value, "text": "t"}] * 3))
    assert fields(read(path)[0], "id") == [(text,)] * 3


def test_ids_of_both_kinds_may_stand_in_one_file(tmp_path: Path) -> None:
    path = write(tmp_path / "a.jsonl", jsonl([{"id": i, "text": "t"} for i in (1, "1", "a", 2)]))
    assert fields(read(path)[0], "id") == [("1",), ("1",), ("a",), ("2",)]


def test_a_dotted_name_descends_into_objects_unless_a_field_is_called_so(tmp_path: Path) -> None:
    records: list[dict[str, Any]] = [
        {"data": {"text": "deep", "id": {"n": 4}}},
        {"data.text": "flat", "data": {"text": "deep"}},
        {"data": "no object"},
        {"data": {"text": 5}},
        {"data": {}},
    ]
    good, bad = read(write(tmp_path / "a.jsonl", jsonl(records)), ("data.text", "data.id.n"))
    assert fields(good, "row", "data.text", "data.id.n") == [(0, "deep", "4"), (1, "flat", None), (2, None, None), (4, None, None)]  # fmt: skip
    assert fields(bad, "row", "reason") == [(3, "missing_text")]


def test_two_objects_on_a_line_or_one_on_two_lines_are_malformed(tmp_path: Path) -> None:
    data = b'{"text": "a"}{"text": "b"}\n{"text": "c"}\n{"text":\n"d"}\n'
    good, bad = read(write(tmp_path / "a.jsonl", data))
    assert fields(good, "row", "text") == [(1, "c")]
    assert fields(bad, "row", "line", "reason") == [(i, i + 1, "malformed_json") for i in (0, 2, 3)]


def test_a_line_nested_too_deeply_is_refused_at_the_same_depth_wherever_it_is_read(tmp_path: Path) -> None:
    def read_nested(depth: int, levels: int) -> list[tuple[Any, ...]]:
        """From inside of so many calls: Python's own parser gives up earlier there."""
        if levels:
            return read_nested(depth, levels - 1)
        line = b'{"text": "a", "x": ' + b"[" * (depth - 1) + b"]" * (depth - 1) + b"}\n{\n"
        good, bad = read(write(tmp_path / "a.jsonl", line))
        return fields(good, "text") + fields(bad[:-1], "reason", "detail")

    for text in ("[" * 600, '"[' * 600, '\\"[' * 600, '\\\\"[' * 600, "\\" * 7 + '"[{' * 600):
        records = [{"text": text, "id": "a"}, {"id": text, "text": "[]" * 900}]
        good, bad = read(write(tmp_path / "b.jsonl", jsonl(records)))  # inside of strings they nest nothing
        assert (fields(good, "text", "id"), bad) == (fields(records, "text", "id"), [])
    for levels in (0, 300):
        assert read_nested(500, levels) == [("a",)]
        assert read_nested(501, levels) == [("malformed_json", "nested more than 500 levels deep")]


@pytest.mark.parametrize("chunks", [[b"\xef\xbb\xbf"], [b"\xef", b"\xbb", b"\xbf{"], [b"\xef\xbb\xbf{"]])
def test_a_byte_order_mark_is_no_text_however_the_stream_delivers_it(
    chunks: list[bytes], tmp_path: Path
) -> None:
    rest = b'\xef\xbb\xbf{"text": "\xef\xbb\xbfa", "id": "b"}\n'[sum(map(len, chunks)) :]
    stream = b""
    packer = zlib.compressobj(wbits=31)
    for chunk in [*chunks, rest]:
        stream += packer.compress(chunk) + packer.flush(zlib.Z_SYNC_FLUSH)
    good, bad = read(write(tmp_path / "a.jsonl.gz", stream + packer.flush()))
    assert (fields(good, "text", "id"), bad) == ([("\ufeffa", "b")], [])


@pytest.mark.parametrize("block", [1, 64, 8 << 20])
@pytest.mark.parametrize("suffix", [".jsonl", ".csv"])
def test_a_line_that_is_too_long_is_quarantined_and_the_file_goes_on(
    suffix: str, block: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sources, "BLOCK_BYTES", block)
    monkeypatch.setattr(sources, "MAX_LINE_BYTES", 100)
    lengths = [5, 60, 300_000, 7, 2_500_000, 3]
    records = [{"id": str(i), "text": "x" * n} for i, n in enumerate(lengths)]
    data = jsonl(records) if suffix == ".jsonl" else as_csv(records)
    good, bad = read(write(tmp_path / f"a{suffix}", data))
    first_line = 1 if suffix == ".jsonl" else 2
    assert fields(good, "row", "line", "id") == [(i, i + first_line, str(i)) for i in (0, 1, 3, 5)]
    reasons = {"line_too_long"} if suffix == ".jsonl" else {"line_too_long", "malformed_csv"}
    assert fields(bad, "row", "line") == [(i, i + first_line) for i in (2, 4)]
    assert {record["reason"] for record in bad} <= reasons


def test_the_length_of_a_line_is_judged_to_the_byte(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sources, "MAX_LINE_BYTES", 14)
    good, bad = read(write(tmp_path / "a.jsonl", b'{"text":"1234"}\n{"text":"123"}\n{"text":"12345"}\n'))
    assert (fields(good, "text"), fields(bad, "row", "reason")) == (
        [("123",)],
        [(0, "line_too_long"), (2, "line_too_long")],
    )


# -- compressed streams ----------------------------------------------------------------------------------------

MANY = [{"id": str(i), "text": f"{random.Random(i).random()} " * 5} for i in range(400)]


@pytest.mark.parametrize("pieces", [1, 2, 7])
def test_a_gzip_file_of_several_members_is_read_to_its_end(pieces: int, tmp_path: Path) -> None:
    data = jsonl(MANY)
    cuts = [len(data) * i // pieces for i in range(pieces + 1)]
    members = [gzip.compress(data[a:b]) for a, b in itertools.pairwise(cuts)]
    for padding in (b"", b"\0" * 700):
        good, bad = read(write(tmp_path / "a.jsonl.gz", b"".join(members) + padding))
        assert (fields(good, "id", "text"), bad) == (fields(MANY, "id", "text"), [])


@pytest.mark.parametrize("pieces", [1, 2, 7])
def test_a_zstd_file_of_several_frames_is_read_to_its_end(pieces: int, tmp_path: Path) -> None:
    data = jsonl(MANY)
    cuts = [len(data) * i // pieces for i in range(pieces + 1)]
    frames = [zstd(data[a:b]) for a, b in itertools.pairwise(cuts)]
    skipped = b"\x50\x2a\x4d\x18" + (5).to_bytes(4, "little") + b"hello"  # a skippable frame, RFC 8878, 3.1.2
    for between in (b"", skipped):
        good, bad = read(write(tmp_path / "a.jsonl.zst", between.join([b"", *frames])))
        assert (fields(good, "id", "text"), bad) == (fields(MANY, "id", "text"), [])


@pytest.mark.parametrize("suffix", [".jsonl.gz", ".jsonl.zst", ".csv.gz", ".csv.zst"])
@settings(max_examples=40, deadline=None)
@given(share=st.floats(0, 1))
def test_a_stream_cut_anywhere_keeps_the_records_before_the_cut(
    suffix: str, share: float, tmp_path_factory: pytest.TempPathFactory
) -> None:
    records = [{**r, "text": f"first line\nsecond, {r['text']}"} for r in MANY]
    data = jsonl(records) if "jsonl" in suffix else as_csv(records)
    packed = gzip.compress(data) if suffix.endswith(".gz") else zstd_in_blocks(data)
    cut = int(share * (len(packed) - 1))
    good, bad = read(write(tmp_path_factory.mktemp("cut") / f"a{suffix}", packed[:cut]))
    before = (zlib.decompressobj(31) if suffix.endswith(".gz") else zstandard.ZstdDecompressor().decompressobj()).decompress(packed[:cut])  # fmt: skip
    ends = before.count(b"\n")
    whole = ends if "jsonl" in suffix else max(0, ends - 1) // 2  # a header, then two lines a record
    assert fields(good, "id", "text") == fields(records[:whole], "id", "text")
    assert [record["reason"] for record in bad] == ([] if cut == 0 else ["broken_stream"])
    if bad and good:
        assert bad[0]["row"] == len(good)


def zstd_in_blocks(data: bytes) -> bytes:
    packer = zstandard.ZstdCompressor().compressobj()
    pieces = [packer.compress(data[i : i + 2000]) + packer.flush(zstandard.COMPRESSOBJ_FLUSH_BLOCK) for i in range(0, len(data), 2000)]  # fmt: skip
    return b"".join(pieces) + packer.flush()


@pytest.mark.parametrize(("suffix", "pack"), [(".gz", gzip.compress), (".zst", zstd)])
def test_a_damaged_stream_is_told_once_and_nothing_made_up(suffix: str, pack: Any, tmp_path: Path) -> None:
    damaged = bytearray(pack(jsonl(MANY)))
    damaged[len(damaged) // 2] ^= 0x55
    good, bad = read(write(tmp_path / f"a.jsonl{suffix}", bytes(damaged)))
    assert fields(bad, "reason")[-1] == ("broken_stream",)
    garbage = pack(jsonl(MANY)) + b"no archive at all"
    good, bad = read(write(tmp_path / f"b.jsonl{suffix}", garbage))
    assert (len(good), fields(bad, "row", "reason")) == (400, [(400, "broken_stream")])


def test_a_zip_bomb_is_unpacked_in_small_steps(tmp_path: Path) -> None:
    bomb = gzip.compress(b"\0" * (64 << 20))
    assert max(map(len, decompressed(write(tmp_path / "bomb.gz", bomb), ".gz"))) <= 1 << 20
    pieces: Iterator[bytes] = decompressed(write(tmp_path / "bomb.zst", zstd(b"\0" * (64 << 20))), ".zst")
    assert sum(map(len, pieces)) == 64 << 20


# -- CSV -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("block", [1, 30, 8 << 20])
def test_csv_rows_and_lines_are_counted_with_quoted_line_ends_and_bad_rows(
    block: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sources, "BLOCK_BYTES", block)
    data = b'id,text\n\na,"one\ntwo"\nb,x,y\nc,"three\r\nfour"\n\nd\ne,"say ""hi"""\nf,5" wide\n'
    good, bad = read(write(tmp_path / "a.csv", data))
    assert fields(good, "row", "line", "id", "text") == [
        (0, 3, "a", "one\ntwo"), (2, 6, "c", "three\r\nfour"), (4, 10, "e", 'say "hi"'), (5, 11, "f", '5" wide'),
    ]  # fmt: skip
    assert fields(bad, "row", "line", "reason", "excerpt") == [
        (1, 5, "ragged_row", "b,x,y"), (3, 9, "ragged_row", "d"),
    ]  # fmt: skip


def test_a_quote_that_is_never_closed_is_a_fault_and_no_document(tmp_path: Path) -> None:
    good, bad = read(write(tmp_path / "a.csv", b'id,text\na,x\nb,"never closed\nc,y\nd,z\n'))
    assert fields(good, "id") == [("a",)]
    assert fields(bad, "row", "line", "reason", "detail") == [(1, 3, "malformed_csv", "a quote opens a field and is never closed")]  # fmt: skip


def test_text_behind_a_closing_quote_is_a_fault_of_its_row_only(tmp_path: Path) -> None:
    good, bad = read(write(tmp_path / "a.csv", b'id,text\na,"x"y\nb,z\n'))
    assert (fields(good, "row", "id"), fields(bad, "row", "line", "reason")) == (
        [(1, "b")],
        [(0, 2, "malformed_csv")],
    )


def test_csv_cells_are_text_whatever_they_look_like(tmp_path: Path) -> None:
    data = b'"long\nname",text,id\n1,5,007\n2,1.50,NULL\n3,,""\n4,nan,true\n'
    good, bad = read(write(tmp_path / "a.csv", data))
    assert fields(good, "text", "id") == [("5", "007"), ("1.50", "NULL"), ("", ""), ("nan", "true")]
    assert bad == []


@pytest.mark.parametrize(
    ("data", "good", "bad"),
    [
        (b"", [], []),
        (b"\n\n", [], []),
        (b"id,text", [], []),
        (b"\xef\xbb\xbfid,text\r\na,x", [("a", "x")], []),
        (b"id,body\na,x\n", [("a", None)], []),
        (b"id,text\na,\xe9\nb,\xc3\xa9\n", [("b", "é")], [(0, 2, "invalid_utf8")]),
        (b"id,text,\xff\na,x,y\n", [("a", "x")], []),
        (b"id,text,z\na,x,\xff\n", [("a", "x")], []),
        (b"text,text\na,x\n", [], [(0, 1, "ambiguous_column")]),
        (b"id,id,text\na,b,x\n", [], [(0, 1, "ambiguous_column")]),
        (b"z,z,id,text\n1,2,a,x\n", [("a", "x")], []),
        (b'"id,text\na,x\n', [], [(0, 1, "malformed_csv")]),
        (b"id,text\ra,x\rb,y\r", [], [(0, 1, "malformed_csv")]),
        (b"id,text\na,x\0y\n", [("a", "x\0y")], []),
    ],
)
def test_odd_headers_and_cells_of_csv(data: bytes, good: list[Any], bad: list[Any], tmp_path: Path) -> None:
    found, refused = read(write(tmp_path / "a.csv", data))
    assert fields(found, "id", "text") == good
    assert fields(refused, "row", "line", "reason") == bad


def test_a_csv_row_may_be_longer_than_a_block_and_than_what_python_allows_by_default(tmp_path: Path) -> None:
    records = [{"id": str(i), "text": "long " * n} for i, n in enumerate((1, 2_000_000, 1))]
    good, bad = read(write(tmp_path / "a.csv", as_csv(records)))
    assert (fields(good, "id", "text"), bad) == (fields(records, "id", "text"), [])


# -- Parquet and Arrow -----------------------------------------------------------------------------------------


def both(table: pa.Table, folder: Path) -> Iterator[Path]:
    pq.write_table(table, folder / "a.parquet", row_group_size=2)
    yield folder / "a.parquet"
    for name, new in (("a.arrow", pa.ipc.new_file), ("b.arrow", pa.ipc.new_stream)):
        with new(str(folder / name), table.schema) as writer:
            writer.write_table(table, max_chunksize=2)
        yield folder / name


@pytest.mark.parametrize(
    "kind",
    [pa.string(), pa.large_string(), pa.string_view(), pa.binary(), pa.large_binary(), pa.dictionary(pa.int8(), pa.string())],
    ids=str,
)  # fmt: skip
def test_text_may_be_of_any_arrow_string_type(kind: pa.DataType, tmp_path: Path) -> None:
    texts = ["a", "ü", None, "", "日本"]
    column = pa.array(texts, pa.string()).cast(kind) if not pa.types.is_dictionary(kind) else pa.array(texts).dictionary_encode()  # fmt: skip
    for path in both(pa.table({"text": column}), tmp_path):
        good, bad = read(path, ("text",))
        assert ([record["text"] for record in good], bad) == (texts, [])
        assert fields(good, "row", "line") == [(i, None) for i in range(5)]


def test_bytes_that_are_no_utf8_are_quarantined_row_by_row(tmp_path: Path) -> None:
    texts = pa.array([b"a", b"\xff", b"c", b"d", b"e\xed\xa0\x80"])
    ids = pa.array([b"0", b"1", b"\xfe", b"3", b"\xfd"])
    for path in both(pa.table({"text": texts, "id": ids}), tmp_path):
        good, bad = read(path)
        assert fields(good, "row", "id", "text") == [(0, "0", "a"), (3, "3", "d")]
        assert fields(bad, "row", "detail") == [
            (1, "byte 0 of the field 'text' is not UTF-8"),
            (2, "byte 0 of the field 'id' is not UTF-8"),
            (4, "byte 1 of the field 'text' is not UTF-8"),
        ]


def test_numbers_dates_and_lists_become_text_but_are_no_documents(tmp_path: Path) -> None:
    table = pa.table(
        {
            "n": pa.array([1, None, 3]),
            "b": [True, False, None],
            "l": [["a"], [], None],
            "text": ["x", "y", "z"],
        }
    )
    for path in both(table, tmp_path):
        good, _ = read(path, ("text", "n", "b", "l"))
        assert fields(good, "n", "b", "l") == [
            ("1", "true", '["a"]'),
            (None, "false", "[]"),
            ("3", None, None),
        ]
        good, bad = read(path, ("n", "text"))
        assert (good, fields(bad, "row", "reason", "detail")) == ([], [(i, "missing_text", "the column 'n' is int64, not text") for i in range(3)])  # fmt: skip


def test_a_dotted_name_descends_into_structs_unless_a_column_is_called_so(tmp_path: Path) -> None:
    data = pa.array(
        [
            {"text": "a", "deep": {"id": 1}},
            None,
            {"text": None, "deep": None},
            {"text": "d", "deep": {"id": 4}},
        ]
    )
    for path in both(pa.table({"data": data, "other": ["w", "x", "y", "z"]}), tmp_path):
        good, bad = read(path, ("data.text", "data.deep.id", "data.nothing", "other.text"))
        assert fields(good, "data.text", "data.deep.id") == [
            ("a", "1"),
            (None, None),
            (None, None),
            ("d", "4"),
        ]
        assert {record["data.nothing"] for record in good} | {record["other.text"] for record in good} == {
            None
        }
        assert bad == []
    for path in both(pa.table({"data.text": ["flat"], "data": data.slice(0, 1)}), tmp_path):
        assert fields(read(path, ("data.text",))[0], "data.text") == [("flat",)]


def test_a_column_that_is_not_there_is_null_and_keeps_the_rows(tmp_path: Path) -> None:
    for path in both(pa.table({"body": ["a", "b", "c"]}), tmp_path):
        good, bad = read(path)
        assert (fields(good, "row", "text", "id"), bad) == ([(i, None, None) for i in range(3)], [])


def test_a_column_that_is_there_twice_is_no_guess(tmp_path: Path) -> None:
    table = pa.Table.from_arrays(
        [pa.array(["a"]), pa.array(["b"]), pa.array(["i"])], names=["text", "text", "id"]
    )
    for path in both(table, tmp_path):
        good, bad = read(path)
        assert (good, fields(bad, "reason", "detail")) == (
            [],
            [("ambiguous_column", "the file has 2 columns called 'text'")],
        )
        assert fields(read(path, ("id",))[0], "id") == [("i",)]


@pytest.mark.parametrize("new", [pa.ipc.new_file, pa.ipc.new_stream])
def test_a_cut_arrow_file_keeps_the_batches_before_the_cut(new: Any, tmp_path: Path) -> None:
    table = pa.table({"text": [f"text {i} " * 50 for i in range(40)]})
    with new(str(tmp_path / "whole.arrow"), table.schema) as writer:
        writer.write_table(table, max_chunksize=10)
    data = (tmp_path / "whole.arrow").read_bytes()
    good, bad = read(write(tmp_path / "cut.arrow", data[: len(data) * 6 // 10]), ("text",))
    assert fields(good, "text") == fields(table.to_pylist()[:20], "text")
    assert fields(bad, "row", "reason") == [(20, "broken_stream")]


def test_a_cut_parquet_file_and_a_file_that_is_none_are_told(tmp_path: Path) -> None:
    pq.write_table(pa.table({"text": ["a"] * 100}), tmp_path / "whole.parquet")
    data = (tmp_path / "whole.parquet").read_bytes()
    for content in (data[:-1], data[: len(data) // 2], b"PAR1", b"no table"):
        good, bad = read(write(tmp_path / "cut.parquet", content))
        assert (good, fields(bad, "row", "reason")) == ([], [(0, "broken_stream")])
    for name in ("a.parquet", "a.arrow"):
        assert read(write(tmp_path / name, b"")) == ([], [])


def test_offsets_that_lead_out_of_the_file_are_refused_and_never_followed(tmp_path: Path) -> None:
    table = pa.table({"text": pa.array(["abcdefgh", "ijklmnop", "qrstuvwx"])})
    with pa.ipc.new_file(str(tmp_path / "whole.arrow"), table.schema) as writer:
        writer.write_table(table)
    data = (tmp_path / "whole.arrow").read_bytes()
    offsets = b"".join(n.to_bytes(4, "little") for n in (0, 8, 16, 24))
    assert data.count(offsets) == 1
    for lie in ((0, 8, 16, 2**31 - 1), (0, -(2**31), 16, 24), (0, 2**30, 16, 24)):
        evil = data.replace(offsets, b"".join(n.to_bytes(4, "little", signed=True) for n in lie))
        good, bad = read(write(tmp_path / "evil.arrow", evil), ("text",))
        assert (good, fields(bad, "reason")) == ([], [("broken_stream",)])


# -- stretches of large files ------------------------------------------------------------------------------------


def stretches(path: Path, size: int) -> list[list[dict[str, Any]]]:
    """What each stretch of a file gives, after a trip through JSON as workers get it."""
    (whole,) = find_files("s", Source(path=str(path)))
    found = []
    for file in split_file(whole, size):
        assert file_from(json.loads(json.dumps(file_arguments(file)))).stretch == file.stretch
        found.append([row for r in read_records(file, ["text"]) for row in [*r.table.to_pylist(), *r.bad]])
    return found


@settings(max_examples=40, deadline=None)
@given(count=st.integers(0, 40), group=st.integers(1, 12), size=st.integers(1, 6000))
def test_the_stretches_of_a_file_are_the_file(
    count: int, group: int, size: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("cut")
    table = pa.table({"text": pa.array([f"text {i} " * (i % 9) for i in range(count)], pa.string())})
    pq.write_table(table, folder / "a.parquet", row_group_size=group)
    for name, new in (("a.arrow", pa.ipc.new_file), ("b.arrow", pa.ipc.new_stream)):
        with new(str(folder / name), table.schema) as writer:
            writer.write_table(table, max_chunksize=group)
    expected = [
        {"row": i, "line": None, "field:text": text} for i, text in enumerate(table["text"].to_pylist())
    ]
    for path in (folder / "a.parquet", folder / "a.arrow", folder / "b.arrow"):
        found = stretches(path, size)
        assert [row for stretch in found for row in stretch] == expected
        groups = -(-count // group)
        assert len(found) <= max(1, min(groups, -(-path.stat().st_size // size)))
        assert all(found) or len(found) == 1


@settings(max_examples=150, deadline=None)
@given(
    lines=st.lists(st.builds(lambda v: json.dumps(v).encode(), OBJECTS) | ODD_LINES | st.just(b"{" + b" " * 50), max_size=12),
    size=st.integers(1, 300),
    window=st.sampled_from([1, 5, 64, 1 << 18]),
    mark=st.sampled_from([b"", b"\xef\xbb\xbf"]),
    end=st.sampled_from([b"\n", b"\r\n"]),
    last=st.booleans(),
)  # fmt: skip
def test_the_stretches_of_a_jsonl_file_are_the_file(
    lines: list[bytes], size: int, window: int, mark: bytes, end: bytes, last: bool, tmp_path_factory: pytest.TempPathFactory
) -> None:  # fmt: skip
    data = mark + b"".join(line + end for line in lines)
    path = write(tmp_path_factory.mktemp("cut") / "a.jsonl", data if last else data.removesuffix(end))
    good, bad = read(path, ("text",))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sources, "_WINDOW", window)
        found = stretches(path, size)
    rows = [row for stretch in found for row in stretch]
    assert [{**row, "text": row["field:text"]} for row in rows if "field:text" in row] == [{**row, "field:text": row["text"]} for row in good]  # fmt: skip
    assert [row for row in rows if "reason" in row] == bad
    if size == 1 and all(line.startswith(b"{") for line in lines):
        assert len(found) == max(1, len(lines))


def test_stretches_hold_about_the_same_and_follow_from_the_file_alone(tmp_path: Path) -> None:
    table = pa.table({"text": [f"{i:04d}" * 100 for i in range(100)]})
    for name in ("a.parquet", "a.arrow"):
        path = tmp_path / name
        if name == "a.parquet":
            pq.write_table(table, path, row_group_size=5, compression="none", use_dictionary=False)
        else:
            with pa.ipc.new_file(str(path), table.schema) as writer:
                writer.write_table(table, max_chunksize=5)
        size = path.stat().st_size
        assert [len(s) for s in stretches(path, size)] == [100]
        assert [len(s) for s in stretches(path, size - 1)] == [50, 50]
        assert [len(s) for s in stretches(path, -(-size // 4))] == [25, 25, 25, 25]
        assert [len(s) for s in stretches(path, 1)] == [5] * 20


def test_a_file_that_cannot_be_cut_stays_whole(tmp_path: Path) -> None:
    write(tmp_path / "a.jsonl.gz", gzip.compress(jsonl(MANY)))
    write(tmp_path / "a.csv", as_csv(MANY))
    write(tmp_path / "f.jsonl", jsonl(MANY) + b"\n")
    write(tmp_path / "g.jsonl", b"[\n" + jsonl(MANY))
    write(tmp_path / "b.parquet", b"no table" * 100)
    write(tmp_path / "c.arrow", b"no table" * 100)
    pq.write_table(pa.table({"text": ["a"] * 500}), tmp_path / "d.parquet")  # one row group
    pq.write_table(pa.table({"text": pa.array([], pa.string())}), tmp_path / "e.parquet")
    for name in (
        "a.jsonl.gz",
        "a.csv",
        "f.jsonl",
        "g.jsonl",
        "b.parquet",
        "c.arrow",
        "d.parquet",
        "e.parquet",
    ):
        (file,) = find_files("s", Source(path=str(tmp_path / name)))
        assert split_file(file, 10) == [file]


def test_where_a_stretch_breaks_the_others_are_still_read(tmp_path: Path) -> None:
    table = pa.table({"text": [f"{i:04d}" * 500 for i in range(40)]})
    path = tmp_path / "a.parquet"
    pq.write_table(table, path, row_group_size=10, compression="zstd", use_dictionary=False)
    data = bytearray(path.read_bytes())
    column = pq.read_metadata(path).row_group(1).column(0)
    start = column.data_page_offset
    data[start : start + column.total_compressed_size] = b"\xff" * column.total_compressed_size
    path.write_bytes(bytes(data))
    found = stretches(path, len(data) // 4)
    assert [len(stretch) for stretch in found] == [10, 1, 10, 10]
    assert (found[1][0]["row"], found[1][0]["reason"]) == (10, "broken_stream")
    assert [stretch[0]["row"] for stretch in found] == [0, 10, 20, 30]


def test_a_stretch_of_a_packed_arrow_file_is_read(tmp_path: Path) -> None:
    table = pa.table({"text": [f"text {i} " * 50 for i in range(60)], "n": list(range(60))})
    for name, new in (("a.arrow", pa.ipc.new_file), ("b.arrow", pa.ipc.new_stream)):
        options = pa.ipc.IpcWriteOptions(compression="zstd")
        with new(str(tmp_path / name), table.schema, options=options) as writer:
            writer.write_table(table, max_chunksize=10)
        found = stretches(tmp_path / name, (tmp_path / name).stat().st_size // 3 + 1)
        assert [[row["row"] for row in stretch] for stretch in found] == [list(range(20)), list(range(20, 40)), list(range(40, 60))]  # fmt: skip
        assert [row["field:text"] for stretch in found for row in stretch] == table["text"].to_pylist()


# -- plain text ------------------------------------------------------------------------------------------------


def test_a_text_file_is_one_document(tmp_path: Path) -> None:
    good, bad = read(write(tmp_path / "a.txt", b"\xef\xbb\xbfone\r\n\r\ntwo\n"))
    assert (good, bad) == ([{"row": 0, "line": 1, "text": "one\r\n\r\ntwo\n", "id": None}], [])
    assert read(write(tmp_path / "empty.txt", b"")) == ([], [])


def test_a_text_file_that_is_not_utf8_is_quarantined_with_the_line(tmp_path: Path) -> None:
    good, bad = read(write(tmp_path / "a.txt", b"one\ntwo\ncaf\xe9 au lait\n"))
    assert (good, fields(bad, "row", "line", "reason", "detail")) == (
        [],
        [(0, 3, "invalid_utf8", "byte 11 of the file is not UTF-8")],
    )
    assert bad[0]["excerpt"] == "\\xe9 au lait\n"


def test_half_a_text_file_is_no_document(tmp_path: Path) -> None:
    good, bad = read(write(tmp_path / "a.txt.gz", gzip.compress(b"text " * 9000)[:-20]))
    assert (good, fields(bad, "row", "reason")) == ([], [(0, "broken_stream")])


def test_a_text_file_too_large_for_one_document_stops_the_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sources, "MAX_LINE_BYTES", 100)
    assert len(read(write(tmp_path / "a.txt", b"x" * 100))[0]) == 1
    with pytest.raises(DataError, match=r"b\.txt: larger than .* as one document\. Split the file\."):
        read(write(tmp_path / "b.txt", b"x" * 101))


# -- finding files ---------------------------------------------------------------------------------------------


def names(pattern: str | tuple[str, ...]) -> list[str]:
    return [file.relative for file in find_files("web", Source(path=pattern))]


def faults(pattern: str | tuple[str, ...], **options: Any) -> tuple[str, ...]:
    with pytest.raises(ConfigError) as caught:
        find_files("web", Source(path=pattern, **options))
    return caught.value.faults


@pytest.fixture
def tree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in (
        "b.jsonl",
        "a.jsonl",
        "B.jsonl",
        "sub/a.jsonl",
        "sub/deep/c.jsonl.gz",
        "a1.jsonl",
        "a[1].jsonl",
    ):
        (tmp_path / "data" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "data" / name).write_bytes(b"")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        ("data/*.jsonl", ["B.jsonl", "a.jsonl", "a1.jsonl", "a[1].jsonl", "b.jsonl"]),
        ("./data/b.jsonl", ["b.jsonl"]),
        (
            "data/**/*.jsonl*",
            ["B.jsonl", "a.jsonl", "a1.jsonl", "a[1].jsonl", "b.jsonl", "sub/a.jsonl", "sub/deep/c.jsonl.gz"],
        ),
        ("data/*/a.jsonl", ["sub/a.jsonl"]),
        (("data/b.jsonl", "data/a.jsonl"), ["a.jsonl", "b.jsonl"]),
        (("data/a.jsonl", "data/a*.jsonl"), ["a.jsonl", "a1.jsonl", "a[1].jsonl"]),
        ("data/a[1].jsonl", ["a[1].jsonl"]),
        ("data/[ab].jsonl", ["a.jsonl", "b.jsonl"]),
    ],
)
@pytest.mark.usefixtures("tree")
def test_files_are_named_from_the_first_wildcard_on_and_sorted_by_name(
    pattern: Any, expected: list[str]
) -> None:
    assert names(pattern) == expected


def test_the_place_of_the_tree_changes_no_name(tree: Path) -> None:
    assert names(str(tree / "data" / "**" / "*.jsonl")) == names("data/**/*.jsonl")


@pytest.mark.parametrize(
    ("pattern", "fault"),
    [
        ("data/c.jsonl", "$.sources.web.path: 'data/c.jsonl' matches no file; did you mean"),
        ("dota/*.jsonl", "$.sources.web.path: 'dota/*.jsonl' matches no file"),
        ("data/sub", "$.sources.web.path: 'data/sub' matches no file: it is a folder. Name its files: 'data/sub/**/*.jsonl'."),
        ("data/*.parquet", "$.sources.web.path: 'data/*.parquet' matches no file"),
        (("data/a.jsonl", "data/sub/a.jsonl"), "$.sources.web.path: 'data/a.jsonl' and 'data/sub/a.jsonl' would both be called 'a.jsonl';"),
        (("data/**/*.gz", "data/sub/*/*.gz"), "$.sources.web.path: 'data/sub/deep/c.jsonl.gz' would be read twice, as 'sub/deep/c.jsonl.gz' and as 'deep/c.jsonl.gz'."),
    ],
)  # fmt: skip
@pytest.mark.usefixtures("tree")
def test_a_pattern_that_cannot_be_followed_is_named(pattern: Any, fault: str) -> None:
    (found,) = faults(pattern)
    assert found.startswith(fault)


@pytest.mark.usefixtures("tree")
def test_every_pattern_that_matches_nothing_is_named() -> None:
    assert len(faults(("x/*.jsonl", "data/a.jsonl", "y.jsonl"))) == 2


def test_files_whose_format_cannot_be_told_are_named(tmp_path: Path) -> None:
    for name in ("a.pdf", "b.parquet.gz", "c.arrow.zst", "d.jsonl.bz2"):
        (tmp_path / name).write_bytes(b"")
    found = faults(str(tmp_path / "*"))
    assert [fault.split(": ")[2] for fault in found] == [
        "the suffix names no format; allowed",
        "parquet files are compressed inside, not as a whole. Unpack the file.",
        "arrow files are compressed inside, not as a whole. Unpack the file.",
        "the suffix names no format; allowed",
    ]
    assert "set the source's format" in found[0]


def test_a_file_name_that_is_not_utf8_is_named_before_anything_is_read(tmp_path: Path) -> None:
    try:
        with open(os.fsencode(tmp_path) + b"/caf\xe9.jsonl", "wb"):
            pass
    except OSError:
        pytest.skip("this file system takes no such names")
    (found,) = faults(str(tmp_path / "*.jsonl"))
    assert "caf\\xe9.jsonl'" in found
    assert "the name is not UTF-8. Rename the file." in found


def test_a_link_back_into_the_folder_is_a_fault_and_no_second_reading(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a.jsonl").write_text('{"text": "a"}\n')
    (tmp_path / "in" / "again").symlink_to(tmp_path / "in")
    with pytest.raises(ConfigError, match="would be read twice"):
        find_files("s", Source(path=str(tmp_path / "in" / "**" / "*.jsonl")))


def test_a_link_that_leads_nowhere_is_named(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text('{"text": "a"}\n')
    (tmp_path / "b.jsonl").symlink_to(tmp_path / "gone.jsonl")
    with pytest.raises(ConfigError, match=r"b\.jsonl' is a link that leads nowhere"):
        find_files("s", Source(path=str(tmp_path / "*.jsonl")))


@pytest.mark.parametrize(
    "text", ['[{"text": "a"}, {"text": "b"}]', '[\n {"text": "a"},\n {"text": "b"}\n]\n']
)
def test_a_json_array_is_refused_once_with_its_remedy(tmp_path: Path, text: str) -> None:
    (tmp_path / "a.json").write_text(text)
    (file,) = find_files("s", Source(path=str(tmp_path / "a.json")))
    (records,) = read_records(file, ["text"])
    assert (records.read, records.table.num_rows) == (1, 0)
    assert records.bad[0]["reason"] == "json_array"
    assert "one object a line" in records.bad[0]["detail"]


@pytest.mark.parametrize("kind", ["parquet", "arrow"])
def test_large_texts_come_in_batches_of_bounded_bytes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    monkeypatch.setattr("curate.sources.BLOCK_BYTES", 50_000)
    table = pa.table({"text": [f"{i} " + "x" * 9_990 for i in range(40)]})
    path = tmp_path / f"a.{kind}"
    if kind == "parquet":
        pq.write_table(table, path, compression="none")
    else:
        with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_file(sink, table.schema) as writer:
            writer.write_table(table)
    (file,) = find_files("s", Source(path=str(path)))
    batches = list(read_records(file, ["text"]))
    assert max(b.table.num_rows for b in batches) <= 6
    assert [t for b in batches for t in b.table["field:text"].to_pylist()] == table["text"].to_pylist()
    assert [r for b in batches for r in b.table["row"].to_pylist()] == list(range(40))


def test_what_a_decompressor_hands_out_at_once_changes_no_batch(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("curate.sources.BLOCK_BYTES", 3000)
    monkeypatch.setattr("curate.sources.CHUNK_BYTES", 500)
    raw = "".join(json.dumps({"text": f"line {i} " * (i % 7)}) + "\n" for i in range(400)).encode()
    (tmp_path / "a.jsonl").write_bytes(raw)
    (tmp_path / "a.jsonl.gz").write_bytes(gzip.compress(raw))
    frames = b"".join(zstandard.compress(raw[i : i + 777]) for i in range(0, len(raw), 777))
    (tmp_path / "a.jsonl.zst").write_bytes(frames)
    sizes = []
    for name in ("a.jsonl", "a.jsonl.gz", "a.jsonl.zst"):
        (file,) = find_files("s", Source(path=str(tmp_path / name)))
        sizes.append([r.table.num_rows for r in read_records(file, ["text"])])
    assert sizes[0] == sizes[1] == sizes[2]
    assert len(sizes[0]) > 3
