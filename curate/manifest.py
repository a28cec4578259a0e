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
        DataError: it is of a newer format, or not JSON.
    """
    path = Path(directory) / NAME
    if not path.is_file():
        raise ConfigError(f"{directory}: no manifest.json, so no finished run is here. Run the command that makes it first.")
    try:
        manifest = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise DataError(f"{path}: not readable as JSON ({error}). Run the command that makes it again.") from None
    if manifest.get("format", 0) > FORMAT:
        raise DataError(
            f"{path}: format {manifest['format']}; this version reads up to format {FORMAT}. Install a newer curate-mixtures."
        )
    if kind is not None and manifest.get("kind") != kind:
        raise ConfigError(f"{path}: a directory of kind '{manifest.get('kind')}'; needed: '{kind}'.")
    return dict(manifest)
