"""Manifests: what a directory holds, and what is refused instead of guessed."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest

from curate.manifest import compare, read_manifest, verify_shards, write_manifest
from curate.schema import FORMAT
from filters.errors import ConfigError, DataError


def make_run(directory: Path, texts: dict[str, bytes], **more: Any) -> str:
    shards = []
    for name, data in texts.items():
        (directory / name).parent.mkdir(parents=True, exist_ok=True)
        (directory / name).write_bytes(data)
        shards.append({"path": name, "rows": 1, "sha256": hashlib.sha256(data).hexdigest()})
    return write_manifest(
        directory, {"kind": "curated", "counts": {"b": 1, "a": 2}, "shards": {"kept": shards}, **more}
    )


def test_what_is_written_is_read_and_called_by_its_hash(tmp_path: Path) -> None:
    digest = make_run(tmp_path, {"kept/a": b"1"}, note="über")
    assert digest == hashlib.sha256((tmp_path / "manifest.json").read_bytes()).hexdigest()
    manifest = read_manifest(tmp_path, kind="curated")
    assert (manifest["format"], manifest["kind"], manifest["note"]) == (FORMAT, "curated", "über")
    assert read_manifest(tmp_path) == manifest


def test_the_same_values_in_another_order_are_the_same_bytes(tmp_path: Path) -> None:
    digests = []
    for number, values in enumerate(({"a": 1, "b": {"x": 1, "y": 2}}, {"b": {"y": 2, "x": 1}, "a": 1})):
        (tmp_path / str(number)).mkdir()
        digests.append(write_manifest(tmp_path / str(number), values))
    assert digests[0] == digests[1]
    assert sorted(p.name for p in (tmp_path / "0").iterdir()) == ["manifest.json"]


def test_a_manifest_of_a_newer_format_is_refused_by_name(tmp_path: Path) -> None:
    (tmp_path / "manifest.json").write_text(json.dumps({"format": FORMAT + 1, "kind": "curated"}))
    with pytest.raises(DataError) as caught:
        read_manifest(tmp_path)
    assert str(caught.value) == (
        f"{tmp_path}/manifest.json: format {FORMAT + 1}; this version reads up to format {FORMAT}. "
        "Install a newer curate-mixtures."
    )


@pytest.mark.parametrize(
    "text", ["[]", "{}", '"x"', "null", '{"format": "1"}', '{"format": true}', '{"format": null}']
)
def test_json_that_is_no_manifest_is_refused(text: str, tmp_path: Path) -> None:
    (tmp_path / "manifest.json").write_text(text)
    with pytest.raises(DataError, match="no manifest of this project: it names no format"):
        read_manifest(tmp_path)


def test_half_a_manifest_is_refused(tmp_path: Path) -> None:
    (tmp_path / "manifest.json").write_text('{"format": 1, ')
    with pytest.raises(DataError, match=r"not readable as JSON .* Run the command that makes it again"):
        read_manifest(tmp_path)


def test_a_directory_without_a_manifest_is_no_finished_run(tmp_path: Path) -> None:
    for directory in (tmp_path, tmp_path / "nowhere"):
        with pytest.raises(ConfigError, match=r"no manifest\.json, so no finished run is here"):
            read_manifest(directory)


def test_a_directory_of_another_kind_is_refused(tmp_path: Path) -> None:
    make_run(tmp_path, {}, kind="mixture")
    with pytest.raises(ConfigError, match="a directory of kind 'mixture'; needed: 'curated'"):
        read_manifest(tmp_path, kind="curated")


def test_shards_are_verified_by_their_bytes(tmp_path: Path) -> None:
    make_run(tmp_path, {"kept/a": b"1", "kept/b": b"2"})
    assert verify_shards(tmp_path) == 2
    (tmp_path / "kept" / "b").write_bytes(b"3")
    with pytest.raises(DataError, match=r"1 of 2 shards are not what the manifest says, first kept/b\."):
        verify_shards(tmp_path)
    (tmp_path / "kept" / "a").unlink()
    with pytest.raises(DataError, match=r"2 of 2 shards are not what the manifest says, first kept/a\."):
        verify_shards(tmp_path)


def test_two_directories_are_compared_by_manifest_and_bytes(tmp_path: Path) -> None:
    first = make_run(tmp_path / "a", {"kept/a": b"1"})
    assert make_run(tmp_path / "b", {"kept/a": b"1"}) == first
    assert compare(tmp_path / "a", tmp_path / "b") == first
    make_run(tmp_path / "b", {"kept/a": b"2"}, config={"seed": 1})
    with pytest.raises(
        DataError, match=r"differ in: config, shards\. Were they made from the same config and data\?"
    ):
        compare(tmp_path / "a", tmp_path / "b")
    (tmp_path / "a" / "kept" / "a").write_bytes(b"x")
    with pytest.raises(DataError, match="a: 1 of 1 shards are not what the manifest says"):
        compare(tmp_path / "a", tmp_path / "b")
