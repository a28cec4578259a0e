"""Hugging Face ``datasets``: saved directories and hub names as Arrow files, ``Dataset`` objects as Arrow tables.

    DIR of Dataset.save_to_disk       state.json, data-00000-of-00002.arrow ...        its Arrow files, in that order
    DIR of DatasetDict.save_to_disk   dataset_dict.json, train/ test/ ...              those of one split
    hf://datasets/OWNER/NAME[@REVISION][/CONFIG]                                       loaded into the local cache, then
                                                                                       the cache's Arrow files of one split

A saved directory is read without the library, so it costs what any Arrow file costs: the files are mapped, not copied. A
hub name needs the library and, unless the cache has the dataset, the network; it is the only kind of source that does.
``datasets`` is imported by nothing else, and here only when it is needed (about a second).
"""

from __future__ import annotations

import dataclasses
import functools
import json
import re
import sys
import urllib.parse
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

if TYPE_CHECKING:
    from datasets import Dataset

HUB = "hf://datasets/"
HUB_FORM = "hf://datasets/OWNER/NAME[@REVISION][/CONFIG]"
_HUB_NAME = re.compile(r"hf://datasets/([\w.-]+/[\w.-]+)(?:@([^/@]+))?(?:/([^/@]+))?")
SPLIT = re.compile(r"\w+(\.\w+)*")
"""What ``datasets`` allows as the name of a split; a slice such as ``train[:10%]`` is none."""


@dataclasses.dataclass(frozen=True, slots=True)
class ArrowFiles:
    """Arrow stream files of one dataset, in the order of its rows.

    Attributes:
        folder: what their names begin with inside of a source: ``train/``, or nothing.
        paths: where they are.
    """

    folder: str
    paths: tuple[Path, ...]


@dataclasses.dataclass(frozen=True, slots=True)
class HubName:
    """A dataset of the hub.

    >>> HubName.parse("hf://datasets/allenai/c4@1588ec4/en")
    HubName(repository='allenai/c4', revision='1588ec4', config='en')
    """

    repository: str
    revision: str | None = None
    config: str | None = None

    @classmethod
    def parse(cls, path: str) -> HubName:
        """Raises ``ValueError`` for what is no such name."""
        match = _HUB_NAME.fullmatch(path)
        if match is None:
            raise ValueError(f"path: found {path!r}; allowed for the hub: {HUB_FORM}.")
        repository, revision, config = (part and urllib.parse.unquote(part) for part in match.groups())
        return cls(repository, revision, config)


# -- directories that save_to_disk has written -------------------------------------------------------------------------


def is_saved(directory: str | Path) -> bool:
    """Whether ``save_to_disk`` of a Dataset or DatasetDict has written this directory."""
    return any((Path(directory) / name).is_file() for name in ("state.json", "dataset_dict.json"))


def saved_files(directory: str | Path, split: str | None = None) -> ArrowFiles:
    """The Arrow files of a saved dataset, in the order of its rows.

    Args:
        directory: of ``save_to_disk``.
        split: which of a DatasetDict; may be left out where there is only one.

    Raises:
        ValueError: ``path: ...`` or ``split: ...``, with what is there and a remedy.
    """
    directory = Path(directory)
    if not (directory / "dataset_dict.json").is_file():
        return ArrowFiles("", _shards_of(directory, split))
    splits = _read_json(directory / "dataset_dict.json").get("splits")
    if not isinstance(splits, list) or not all(isinstance(s, str) and SPLIT.fullmatch(s) for s in splits):
        raise ValueError(
            f"path: '{directory / 'dataset_dict.json'}' names no splits. Save the dataset again."
        )
    chosen = _choose_split(splits, split, str(directory))
    return ArrowFiles(f"{chosen}/", _shards_of(directory / chosen, None))


def _shards_of(directory: Path, split: str | None) -> tuple[Path, ...]:
    state = _read_json(directory / "state.json")
    if split is not None and state.get("_split") != split:
        own = f"the split '{state['_split']}'" if state.get("_split") else "a single dataset"
        raise ValueError(f"split: found '{split}', but '{directory}' holds {own}. Leave the split out.")
    if state.get("_indices_files") or state.get("_indices_data_files"):
        raise ValueError(
            f"path: '{directory}' holds a selection of rows as an old version of datasets saved it. Load it with "
            "datasets.load_from_disk, and save_to_disk it to another directory."
        )
    names = [
        entry.get("filename") if isinstance(entry, dict) else None for entry in state.get("_data_files", [])
    ]
    for name in names:
        if not isinstance(name, str) or Path(name).name != name:
            raise ValueError(
                f"path: '{directory / 'state.json'}' names the file {name!r}; allowed: a file beside it. "
                "Save the dataset again."
            )
        if not (directory / name).is_file():
            raise ValueError(
                f"path: '{directory / 'state.json'}' names the file '{name}', which is not there. Copy or save the "
                "dataset again."
            )
    return tuple(directory / str(name) for name in names)


def _read_json(path: Path) -> dict[str, Any]:
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ValueError(f"path: '{path}' is not there. Copy or save the dataset again.") from None
    except (ValueError, OSError) as error:
        raise ValueError(f"path: '{path}' cannot be read: {error}. Copy or save the dataset again.") from None
    if not isinstance(value, dict):
        raise ValueError(f"path: '{path}' holds no object. Copy or save the dataset again.")
    return value


def _choose_split(splits: Sequence[str], split: str | None, where: str) -> str:
    if split is None and len(splits) == 1:
        return splits[0]
    if split is None or split not in splits:
        found = "none given" if split is None else f"found '{split}'"
        raise ValueError(f"split: {found}; '{where}' has: {', '.join(splits) or 'none'}. Name one of them.")
    return split


# -- the hub -------------------------------------------------------------------------------------------------------------


def hub_files(path: str, split: str | None = None) -> ArrowFiles:
    """The Arrow files of one split of a dataset of the hub, in the local cache of ``datasets``.

    Args:
        path: ``hf://datasets/OWNER/NAME[@REVISION][/CONFIG]``.
        split: may be left out where there is only one.

    Raises:
        ValueError: ``path: ...`` or ``split: ...``: no such dataset, no network, several configurations or splits.
    """
    name = HubName.parse(path)
    return load_files(name.repository, config=name.config, revision=name.revision, split=split, where=path)


def load_files(
    dataset: str, *, config: str | None = None, revision: str | None = None, split: str | None, where: str
) -> ArrowFiles:
    """Like ``hub_files``, for whatever ``datasets.load_dataset`` finds, such as a folder of JSON lines."""
    files = _load(dataset, config, revision, where)
    chosen = _choose_split(list(files), split, where)
    return ArrowFiles(f"{chosen}/", files[chosen])


@functools.lru_cache(
    maxsize=64
)  # a command looks for its files twice: when it checks its config, and when it runs
def _load(
    dataset: str, config: str | None, revision: str | None, where: str
) -> Mapping[str, tuple[Path, ...]]:
    import datasets

    hides_progress = not datasets.are_progress_bars_disabled() and not sys.stderr.isatty()
    if hides_progress:
        datasets.disable_progress_bars()
    try:
        loaded = datasets.load_dataset(dataset, config, revision=revision, keep_in_memory=False)
    except Exception as error:  # of datasets, the hub's client, its HTTP library and every file format
        lines = str(error).strip().splitlines() or [""]
        reason = f"{type(error).__name__}: {lines[0]}"
        raise ValueError(
            f"path: '{where}' could not be loaded: {reason}. Name a dataset, revision and configuration that the hub "
            f"has ({HUB_FORM}), or without a network (HF_HUB_OFFLINE=1) one that is in the local cache, or a directory "
            "that save_to_disk has written."
        ) from error
    finally:
        if hides_progress:
            datasets.enable_progress_bars()
    return {
        str(name): tuple(Path(file["filename"]) for file in part.cache_files) for name, part in loaded.items()
    }


# -- objects -------------------------------------------------------------------------------------------------------------


def is_dataset(value: object) -> bool:
    """Whether this is a ``datasets.Dataset``; does not import the library."""
    library = sys.modules.get("datasets")
    return library is not None and isinstance(value, library.Dataset)


def table_of_dataset(dataset: Dataset) -> pa.Table:
    """All rows and columns of a dataset, in its order.

    Mapped from its files and not copied, except where the dataset is a selection of rows.
    """
    if dataset._indices is None:
        return dataset.data.table
    return dataset.with_format("arrow")[:]


def select_rows(dataset: Dataset, rows: npt.NDArray[np.int64]) -> Dataset:
    """The dataset with some of its rows, by number: a view that holds 8 bytes a row; features and format stay."""
    return dataset.select(rows, keep_in_memory=True)


def with_columns(dataset: Dataset, columns: Mapping[str, pa.Array | pa.ChunkedArray]) -> Dataset:
    """The dataset with further columns, in place of those of the same name; features and format stay.

    A selection of rows is copied into memory; else the columns stand beside the mapped files.
    """
    wanted, shown = dataset.format, dataset.column_names
    dataset = dataset.remove_columns([name for name in columns if name in shown])
    if dataset._indices is not None:
        dataset = dataset.flatten_indices(keep_in_memory=True)
    for name, column in columns.items():
        dataset = dataset.add_column(name, column)
    if wanted["type"] is None and wanted["columns"] == shown:
        return dataset
    chosen = [name for name in wanted["columns"] if name not in columns]
    return dataset.with_format(
        wanted["type"],
        columns=None if wanted["columns"] == shown else [*chosen, *columns],
        output_all_columns=wanted["output_all_columns"],
        **wanted["format_kwargs"],
    )
