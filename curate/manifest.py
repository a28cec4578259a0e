"""The manifest of a directory: what it holds, by hash, and what it was made from. No times, no absolute paths."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from curate.engine import file_digest, write_atomic
from curate.schema import FORMAT
from filters.errors import ConfigError, DataError

NAME = "manifest.json"


def write_manifest(directory: Path, manifest: Mapping[str, Any]) -> str:
    """Write RUN/manifest.json and return its SHA-256: the name by which children call this directory."""
    text = json.dumps({"format": FORMAT, **manifest}, indent=1, ensure_ascii=False, sort_keys=True) + "\n"
    write_atomic(directory / NAME, text)
    return file_digest(directory / NAME)


def read_manifest(directory: Path, *, kind: str | None = None) -> dict[str, Any]:
    """The manifest of a finished directory.

    Raises:
        ConfigError: there is none, or it is of another kind.
        DataError: it is of a newer format, or no manifest of ours at all.
    """
    path = Path(directory) / NAME
    if not path.is_file():
        raise ConfigError(
            f"{directory}: no manifest.json, so no finished run is here. Run the command that makes it first."
        )
    try:
        manifest = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise DataError(
            f"{path}: not readable as JSON ({error}). Run the command that makes it again."
        ) from None
    if not isinstance(manifest, dict) or type(manifest.get("format")) is not int:
        raise DataError(f"{path}: no manifest of this project: it names no format. Give another directory.")
    if manifest["format"] > FORMAT:
        raise DataError(
            f"{path}: format {manifest['format']}; this version reads up to format {FORMAT}. Install a newer curate-mixtures."
        )
    if kind is not None and manifest.get("kind") != kind:
        raise ConfigError(f"{path}: a directory of kind '{manifest.get('kind')}'; needed: '{kind}'.")
    return manifest


def verify_shards(directory: Path) -> int:
    """Hash every shard that the manifest names; returns how many there are.

    Raises:
        DataError: shards that are missing or whose bytes are not those of the manifest.
    """
    shards = [s for group in read_manifest(directory)["shards"].values() for s in group]
    wrong = [
        s["path"]
        for s in shards
        if not (directory / s["path"]).is_file() or file_digest(directory / s["path"]) != s["sha256"]
    ]
    if wrong:
        raise DataError(
            f"{directory}: {len(wrong)} of {len(shards)} shards are not what the manifest says, first {wrong[0]}. "
            "Delete the directory and run the command that makes it again."
        )
    return len(shards)


def compare(first: Path, second: Path) -> str:
    """Check that two finished directories hold the same bytes; returns the SHA-256 of their manifests.

    Raises:
        DataError: what differs, or a shard that is not what its manifest says.
    """
    for directory in (first, second):
        verify_shards(directory)
    digests = [file_digest(directory / NAME) for directory in (first, second)]
    if digests[0] != digests[1]:
        a, b = (read_manifest(directory) for directory in (first, second))
        differing = [key for key in sorted({*a, *b}) if a.get(key) != b.get(key)]
        raise DataError(
            f"{first} and {second} differ in: {', '.join(differing)}. Were they made from the same config and data?"
        )
    return digests[0]
