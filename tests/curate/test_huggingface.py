"""Datasets of Hugging Face: saved directories and hub names as sources, Dataset objects as tables."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from curate import huggingface
from curate.huggingface import (
    HubName,
    is_dataset,
    load_files,
    select_rows,
    table_of_dataset,
    with_columns,
)
from curate.sources import Source, find_files, read_records
from filters.errors import ConfigError
from mixtures.shards import finish_dataset, write_shard

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def datasets(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """The library, with a cache of its own and without a network."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HF_HOME", str(tmp_path_factory.mktemp("hf")))
        patch.setenv("HF_HUB_OFFLINE", "1")
        import datasets as library

        patch.setattr(library.config, "HF_DATASETS_CACHE", tmp_path_factory.mktemp("cache"))
        yield library
    huggingface._load.cache_clear()


def make(datasets: Any, count: int = 10, start: int = 0) -> Any:
    return datasets.Dataset.from_dict(
        {
            "text": [f"text {i}" for i in range(start, start + count)],
            "n": list(range(start, start + count)),
            "tags": [["a"] * (i % 3) for i in range(count)],
        }
    )


def read(path: Path | str, columns: Sequence[str] = ("text",), **options: Any) -> list[tuple[Any, ...]]:
    """(file, row, fields) of every record of a source."""
    found = []
    for file in find_files("web", Source(path=str(path), **options)):
        for records in read_records(file, columns):
            assert records.bad == []
            for row in records.table.to_pylist():
                found.append((file.relative, row["row"], *(row[f"field:{c}"] for c in columns)))
    return found


def faults(path: Path | str, **options: Any) -> tuple[str, ...]:
    with pytest.raises(ConfigError) as caught:
        find_files("web", Source(path=str(path), **options))
    return caught.value.faults


# -- saved directories -----------------------------------------------------------------------------------------


def test_a_saved_dataset_is_read_in_the_order_of_its_rows(datasets: Any, tmp_path: Path) -> None:
    make(datasets, 10).save_to_disk(tmp_path / "saved", num_shards=3)
    found = read(tmp_path / "saved", ("text", "n", "tags"))
    names = [f"data-{i:05d}-of-00003.arrow" for i in range(3)]
    assert [(file, row) for file, row, *_ in found] == [
        *((names[0], i) for i in range(4)),
        *((names[1], i) for i in range(3)),
        *((names[2], i) for i in range(3)),
    ]
    assert [fields for _, _, *fields in found] == [
        [f"text {i}", str(i), json.dumps(["a"] * (i % 3))] for i in range(10)
    ]


def test_the_order_is_that_of_the_state_and_not_of_the_names(datasets: Any, tmp_path: Path) -> None:
    make(datasets, 4).save_to_disk(tmp_path, num_shards=2)
    state = json.loads((tmp_path / "state.json").read_text())
    state["_data_files"].reverse()
    (tmp_path / "state.json").write_text(json.dumps(state))
    assert [text for *_, text in read(tmp_path)] == [f"text {i}" for i in (2, 3, 0, 1)]


def test_a_selection_of_rows_is_saved_and_read_as_selected(datasets: Any, tmp_path: Path) -> None:
    make(datasets).select([7, 2, 2, 5]).save_to_disk(tmp_path)
    assert [text for *_, text in read(tmp_path)] == [f"text {i}" for i in (7, 2, 2, 5)]


def test_one_split_of_a_saved_dictionary_is_read(datasets: Any, tmp_path: Path) -> None:
    splits = {"train": make(datasets, 3), "test": make(datasets, 2, 100)}
    datasets.DatasetDict(splits).save_to_disk(tmp_path / "both")
    assert read(tmp_path / "both", split="test") == [
        ("test/data-00000-of-00001.arrow", i, f"text {100 + i}") for i in range(2)
    ]
    assert read(tmp_path / "both" / "train")[0] == ("data-00000-of-00001.arrow", 0, "text 0")
    where = f"'{tmp_path / 'both'}' has: train, test. Name one of them."
    assert faults(tmp_path / "both") == (f"$.sources.web.split: none given; {where}",)
    assert faults(tmp_path / "both", split="dev") == (f"$.sources.web.split: found 'dev'; {where}",)
    datasets.DatasetDict({"train": make(datasets, 1)}).save_to_disk(tmp_path / "one")
    assert read(tmp_path / "one") == [("train/data-00000-of-00001.arrow", 0, "text 0")]


def test_directories_of_our_own_shards_are_datasets_too(tmp_path: Path) -> None:
    write_shard(tmp_path / "data-00000.arrow", pa.table({"text": ["a", "b"]}))
    finish_dataset(tmp_path)
    assert read(tmp_path) == [("data-00000.arrow", 0, "a"), ("data-00000.arrow", 1, "b")]


def test_a_saved_dataset_is_read_without_the_library(datasets: Any, tmp_path: Path) -> None:
    make(datasets, 2).save_to_disk(tmp_path)
    code = (
        "import sys; from curate.sources import Source, find_files, read_records\n"
        "(file,) = find_files('s', Source(path=sys.argv[1]))\n"
        "print([r.table.num_rows for r in read_records(file, ['text'])], 'datasets' in sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path)], check=True, capture_output=True, text=True, cwd=ROOT
    )
    assert done.stdout == "[2] False\n"


@pytest.mark.parametrize(
    ("changes", "fault"),
    [
        ({"_data_files": [{"filename": "gone.arrow"}]}, "names the file 'gone.arrow', which is not there."),
        ({"_data_files": [{"filename": "../x.arrow"}]}, "names the file '../x.arrow'; allowed: a file beside it."),
        ({"_data_files": ["x.arrow"]}, "names the file None; allowed: a file beside it."),
        ({"_indices_files": [{"filename": "i.arrow"}]}, "holds a selection of rows as an old version of datasets saved it."),
        (None, "cannot be read: "),
        ([], "holds no object."),
    ],
)  # fmt: skip
def test_a_state_that_cannot_be_followed_is_told(changes: Any, fault: str, tmp_path: Path) -> None:
    write_shard(tmp_path / "data-00000.arrow", pa.table({"text": ["a"]}))
    finish_dataset(tmp_path)
    state = json.loads((tmp_path / "state.json").read_text())
    content = "{" if changes is None else json.dumps({**state, **changes} if changes else changes)
    (tmp_path / "state.json").write_text(content)
    (found,) = faults(tmp_path)
    assert found.startswith("$.sources.web.path: '")
    assert fault in found
    assert "again" in found or "another directory" in found


def test_a_dictionary_whose_splits_lead_elsewhere_is_refused(tmp_path: Path) -> None:
    (tmp_path / "dataset_dict.json").write_text('{"splits": ["../train"]}')
    assert "names no splits. Save the dataset again." in faults(tmp_path)[0]
    (tmp_path / "dataset_dict.json").write_text('{"splits": ["train"]}')
    assert f"'{tmp_path / 'train' / 'state.json'}' is not there." in faults(tmp_path)[0]


def test_a_split_of_what_has_none_is_refused(datasets: Any, tmp_path: Path) -> None:
    make(datasets, 1).save_to_disk(tmp_path / "saved")
    (found,) = faults(tmp_path / "saved", split="train")
    assert found.endswith("holds a single dataset. Leave the split out.")
    (tmp_path / "a.jsonl").write_text("{}\n")
    (found,) = faults(tmp_path / "a.jsonl", split="train")
    assert found == f"$.sources.web.split: '{tmp_path / 'a.jsonl'}' is no saved dataset. Leave the split out."


def test_a_dataset_may_stand_beside_files(datasets: Any, tmp_path: Path) -> None:
    make(datasets, 1).save_to_disk(tmp_path / "saved")
    (tmp_path / "z.jsonl").write_text('{"text": "z"}\n')
    files = find_files("web", Source(path=(str(tmp_path / "z.jsonl"), str(tmp_path / "saved"))))
    assert [(f.relative, f.format) for f in files] == [
        ("data-00000-of-00001.arrow", "arrow"),
        ("z.jsonl", "jsonl"),
    ]


# -- the hub ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("hf://datasets/a/b", HubName("a/b")),
        ("hf://datasets/a-1/b.c_d@main", HubName("a-1/b.c_d", "main")),
        ("hf://datasets/a/b/en", HubName("a/b", None, "en")),
        ("hf://datasets/a/b@refs%2Fconvert%2Fparquet/en-US", HubName("a/b", "refs/convert/parquet", "en-US")),
    ],
)
def test_a_hub_name_is_taken_apart(path: str, name: HubName) -> None:
    assert HubName.parse(path) == name


@pytest.mark.parametrize(
    "path", ["hf://datasets/b", "hf://datasets/a/b/c/d", "hf://datasets/", "hf://datasets/a/b@"]
)
def test_what_is_no_hub_name_is_refused_with_the_form(path: str) -> None:
    with pytest.raises(
        ValueError, match=r"allowed for the hub: hf://datasets/OWNER/NAME\[@REVISION\]\[/CONFIG\]"
    ):
        Source(path=path)


def test_a_split_is_a_name_and_no_slice(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"split: found 'train\[:10%\]'; allowed: the name of a split"):
        Source(path="hf://datasets/a/b", split="train[:10%]")


def write_jsonl(path: Path, records: Sequence[Mapping[str, Any]]) -> None:
    path.write_text("".join(json.dumps(r) + "\n" for r in records))


def test_what_the_library_loads_is_read_from_its_cache(datasets: Any, tmp_path: Path) -> None:
    for name, count in (("train", 3), ("test", 2)):
        write_jsonl(tmp_path / f"{name}.jsonl", [{"text": f"{name} {i}"} for i in range(count)])
    files = load_files(str(tmp_path), split="test", where="here")
    assert files.folder == "test/"
    (path,) = files.paths
    assert path.suffix == ".arrow"
    assert [text for *_, text in read(path)] == ["test 0", "test 1"]
    with pytest.raises(ValueError, match=r"split: none given; 'here' has: train, test\. Name one"):
        load_files(str(tmp_path), split=None, where="here")


def test_a_hub_name_is_a_source(datasets: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The hub itself is out of reach: its place is taken by a folder."""
    write_jsonl(tmp_path / "train.jsonl", [{"text": "a"}, {"text": "b"}])
    asked = []

    def load(name: str, config: str | None, *, revision: str | None, **options: Any) -> Any:
        asked.append((name, config, revision))
        return real(str(tmp_path), **options)

    real = datasets.load_dataset
    monkeypatch.setattr(datasets, "load_dataset", load)
    for _ in range(2):
        found = read("hf://datasets/some/name@v1/en")
        assert [text for *_, text in found] == ["a", "b"]
        assert found[0][0].startswith("train/")
    assert asked == [("some/name", "en", "v1")]


@pytest.mark.usefixtures("datasets")
def test_without_a_network_a_hub_name_is_a_fault_with_a_remedy() -> None:
    code = (
        "import time\n"
        "from curate.sources import Source, find_files\n"
        "from filters.errors import ConfigError\n"
        "try:\n"
        "    find_files('web', Source(path='hf://datasets/some-owner/no-such-name'))\n"
        "except ConfigError as error:\n"
        "    print(*error.faults)"
    )
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True, cwd=ROOT, env=dict(os.environ), timeout=60)  # fmt: skip
    assert done.stdout.startswith(
        "$.sources.web.path: 'hf://datasets/some-owner/no-such-name' could not be loaded: "
    )
    assert "or without a network (HF_HUB_OFFLINE=1) one that is in the local cache, or a directory that save_to_disk has written." in done.stdout  # fmt: skip
    assert done.stderr == ""


# -- objects ---------------------------------------------------------------------------------------------------


def test_only_a_dataset_is_one_and_asking_loads_nothing(datasets: Any) -> None:
    assert is_dataset(make(datasets, 1))
    assert not any(map(is_dataset, (pa.table({}), None, datasets.DatasetDict(), {"text": []})))
    code = "import sys; from curate.huggingface import is_dataset; print(is_dataset(3), 'datasets' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True, cwd=ROOT)
    assert done.stdout == "False False\n"


def test_the_table_of_a_dataset_has_its_rows_in_its_order(datasets: Any, tmp_path: Path) -> None:
    whole = make(datasets)
    assert table_of_dataset(whole)["n"].to_pylist() == list(range(10))
    whole.save_to_disk(tmp_path, num_shards=2)
    views = {
        "mapped": datasets.load_from_disk(tmp_path),
        "sliced": whole.select(range(3, 8)),
        "selected": whole.select([5, 1, 1, 9]),
        "selected twice": whole.select([5, 1, 1, 9]).select([3, 0]),
        "shuffled": whole.shuffle(seed=1),
        "formatted": whole.with_format("numpy", columns=["text"]),
        "empty": whole.select([]),
        "joined": datasets.concatenate_datasets([whole, make(datasets, 2, 50)]),
    }
    for name, dataset in views.items():
        table = table_of_dataset(dataset)
        assert isinstance(table, pa.Table), name
        assert table.to_pydict() == dataset.with_format(None).to_dict(), name


@pytest.mark.parametrize("rows", [[0, 3, 9], [2, 3, 4], [], list(range(10))])
def test_selected_rows_are_a_dataset_with_the_same_features(datasets: Any, rows: list[int]) -> None:
    whole = make(datasets).with_format("numpy", columns=["n"])
    for dataset, numbers in (
        (whole, range(10)),
        (whole.select([9, 8, 7, 6, 5, 4, 3, 2, 1, 0]), range(9, -1, -1)),
    ):
        found = select_rows(dataset, np.array(rows, np.int64))
        assert found.with_format(None)["n"] == [numbers[i] for i in rows]
        assert (found.features, found.format) == (whole.features, whole.format)


def test_added_columns_stand_beside_the_old_ones(datasets: Any) -> None:
    whole = make(datasets, 4)
    new = {"n": pa.array([9, 8, 7, None]), "similarity": pa.chunked_array([[0.5], [None, None, 1.0]])}
    for dataset in (whole, whole.select([0, 1, 2, 3]), whole.select([0, 2, 1, 3]).select([0, 2, 1, 3])):
        found = with_columns(dataset, new)
        assert found.column_names == ["text", "tags", "n", "similarity"]
        assert found["n"] == [9, 8, 7, None]
        assert found["similarity"] == [0.5, None, None, 1.0]
        assert found["text"] == whole["text"]
    assert with_columns(whole.with_format("numpy"), new).format["type"] == "numpy"
    shown = with_columns(whole.with_format("numpy", columns=["n", "text"]), new)
    assert shown.format["columns"] == ["text", "n", "similarity"]
