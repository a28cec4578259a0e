"""The directory of an index: look-ups, damage, locks, kills at every step of a commit, a full disk, readers meanwhile.

What is compared and decided: test_index.py.
"""

from __future__ import annotations

import itertools
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from curate import generations
from curate.deduplication import dedup
from curate.generations import (
    Index,
    commit,
    matching_keys,
    open_index,
    quick_digest,
    read_documents,
    run_path,
    verify_index,
    write_documents,
    write_keys,
    writing,
)
from curate.index import build_index, extend_index, query_index
from filters.errors import ConfigError, DataError, RunError

ROOT = Path(__file__).parents[2]


def batch_of(number: int, rows: int = 30, more: str = "") -> pa.Table:
    """Distinct texts; those of different numbers have nothing in common."""
    words = [" ".join(f"w{number}x{row}y{place}" for place in range(25)) + more for row in range(rows)]
    return pa.table({"name": [f"b{number}-{row}" for row in range(rows)], "text": words})


@pytest.fixture
def seen(tmp_path: Path) -> Path:
    build_index(batch_of(0), tmp_path / "seen", id="name")
    return tmp_path / "seen"


def files_of(directory: Path) -> dict[str, bytes]:
    return {
        str(p.relative_to(directory)): p.read_bytes() for p in sorted(directory.rglob("*")) if p.is_file()
    }


# -- look-up -----------------------------------------------------------------------------------------------------------


@settings(deadline=None)
@given(
    stored=st.lists(st.integers(0, 60), max_size=80),
    wanted=st.lists(st.integers(0, 63), max_size=40),
    cuts=st.sets(st.integers(1, 60), max_size=4),
)
def test_a_look_up_finds_every_entry_whose_key_is_wanted_and_no_other(
    stored: list[int], wanted: list[int], cuts: set[int], tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path_factory.mktemp("keys") / "keys.arrow"
    scale = 2**64 // 64  # the largest key is near the end of its range
    keys, rows = np.array(stored, np.uint64) * np.uint64(scale), np.arange(len(stored))
    bounds = [0, *sorted(cuts), 64]
    parts = [(keys // scale >= a) & (keys // scale < b) for a, b in itertools.pairwise(bounds)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(generations, "_BATCH_KEYS", 10)
        assert write_keys(path, [(keys[part], rows[part]) for part in parts]) == len(stored)
    found = matching_keys(path, np.sort(np.array(wanted, np.uint64) * np.uint64(scale)))
    expected = sorted((key, row) for row, key in enumerate(stored) if key in wanted)
    assert list(zip((found.key // np.uint64(scale)).tolist(), found.row.tolist(), strict=True)) == expected


def test_documents_are_read_by_row_from_many_record_batches(tmp_path: Path) -> None:
    rows = 10_000
    table = pa.table(
        {
            "id": [f"d{n}" for n in range(rows)],
            "source": ["s"] * rows,
            "text": pa.array([f"text {n}" for n in range(rows)], pa.large_string()),
            "content_hash": pa.array([None] * rows, pa.binary(16)),
            "by_url": pa.array(
                [n.to_bytes(16, "little") if n % 3 else None for n in range(rows)], pa.binary(16)
            ),
            "priority": pa.array(np.arange(rows, dtype=float)),
            "quality": pa.nulls(rows, pa.float64()),
            "length": pa.array(np.arange(rows)),
            "position": pa.array(np.arange(rows)),
        }
    )
    assert write_documents(tmp_path / "documents.arrow", [table.slice(0, 7), table.slice(7)], ["url"]) == rows
    wanted = np.array([0, 3, 4095, 4096, 9_999])
    found = read_documents(tmp_path / "documents.arrow", wanted, ["text", "id", "by_url"])
    assert found.to_pylist() == table.select(["text", "id", "by_url"]).take(pa.array(wanted)).to_pylist()
    assert read_documents(tmp_path / "documents.arrow", wanted[:0], ["id"]).num_rows == 0


# -- damage ------------------------------------------------------------------------------------------------------------


def damage(path: Path, old: bytes, new: bytes) -> None:
    data = path.read_bytes()
    assert data.count(old) >= 1
    path.write_bytes(data.replace(old, new, 1))


def one(directory: Path, name: str) -> Path:
    (path,) = directory.glob(f"generations/*/run-000000/{name}")
    return path


@pytest.mark.parametrize("use", [query_index, extend_index])
@pytest.mark.parametrize("name", ["keys.arrow", "documents.arrow"])
@pytest.mark.parametrize(
    ("harm", "message"),
    [
        (lambda path: path.unlink(), "No such file or directory"),
        (lambda path: path.write_bytes(path.read_bytes()[:-9]), r"\d+ bytes; the manifest says \d+"),
        (lambda path: path.write_bytes(bytes(path.stat().st_size)), "Not an Arrow file"),
    ],
    ids=["missing", "truncated", "zeros"],
)
def test_files_that_cannot_be_read_are_named(
    seen: Path, use: Any, name: str, harm: Any, message: str
) -> None:
    harm(one(seen, name))
    with pytest.raises(
        DataError, match=rf"{name}: the index is damaged: {message}\. Restore the file from a copy, or"
    ):
        use(batch_of(0), seen, id="name")


def test_a_text_with_a_changed_byte_is_noticed_when_it_is_compared(seen: Path) -> None:
    damage(one(seen, "documents.arrow"), b"w0x7y3 ", b"w0x7y4 ")
    near = batch_of(0, more=" more")
    assert query_index(near.slice(8), seen, id="name").kept.num_rows == 0
    message = r"documents.arrow: the index is damaged: texts that do not have their content hashes\. Restore"
    with pytest.raises(DataError, match=message):
        query_index(near.slice(7, 1), seen, id="name")


def test_verifying_an_index_finds_any_changed_byte(seen: Path) -> None:
    assert verify_index(seen) == 2
    damage(one(seen, "documents.arrow"), b"w0x7y3 ", b"w0x7y4 ")
    with pytest.raises(
        DataError, match=r"documents.arrow: the index is damaged: its bytes are not those that were written"
    ):
        verify_index(seen)


@pytest.mark.parametrize("offset", [-5, 1 << 40])
def test_offsets_that_lead_outside_of_the_file_are_refused(seen: Path, offset: int) -> None:
    """Arrow itself would read whatever lies there."""
    path = one(seen, "documents.arrow")
    texts = batch_of(0)["text"].to_pylist()
    starts = np.cumsum([0, *map(len, texts)]).astype(np.int64)
    wrong = starts.copy()
    wrong[5] = offset
    damage(path, starts.tobytes(), wrong.tobytes())
    with pytest.raises(
        DataError, match=r"documents.arrow: the index is damaged: offsets that lead outside of the file"
    ):
        query_index(batch_of(0, more=" more"), seen, id="name")
    assert query_index(batch_of(0, more=" more").slice(9), seen, id="name").kept.num_rows == 0


def test_keys_that_name_no_document_are_refused(seen: Path) -> None:
    path = one(seen, "keys.arrow")
    batch = pa.ipc.open_file(path.read_bytes()).get_batch(0)
    rows = batch["row"].to_numpy()
    damage(path, rows.tobytes(), np.where(rows == 4, 99, rows).tobytes())
    with pytest.raises(DataError, match=r"keys.arrow: the index is damaged: it names row 99 of 30\."):
        query_index(batch_of(0), seen, id="name")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda m: "{", r"not readable as JSON"),
        (lambda m: json.dumps({**m, "format": None}), r"it names no format"),
        (lambda m: json.dumps({**m, "generations": None}), r"TypeError: "),
        (lambda m: json.dumps({**m, "threshold": "0.8"}), r'ValueError: threshold is "0.8"'),
        (lambda m: json.dumps({k: v for k, v in m.items() if k != "ngram"}), r"KeyError: 'ngram'"),
        (lambda m: json.dumps(m).replace("run-000000", "../../../x"), r"ValueError: a name that no index has: .*\.\./x"),
    ],
)  # fmt: skip
def test_a_manifest_that_is_none_is_refused(seen: Path, change: Any, message: str) -> None:
    path = seen / "manifest.json"
    path.write_text(change(json.loads(path.read_text())))
    with pytest.raises(DataError, match=rf"manifest.json: the index is damaged: {message}"):
        open_index(seen)


# -- writers -----------------------------------------------------------------------------------------------------------


def test_there_is_one_writer_at_a_time_and_readers_need_not_wait(seen: Path) -> None:
    with writing(seen) as index:
        assert index == open_index(seen)
        with pytest.raises(
            RunError, match=r"seen: another command is writing this index. Wait for it, and run this one"
        ):
            extend_index(batch_of(1), seen, id="name")
        assert query_index(batch_of(0), seen, id="name").kept.num_rows == 0
    assert extend_index(batch_of(1), seen, id="name").kept.num_rows == 30


def test_a_generation_may_replace_the_last_one(seen: Path) -> None:
    before = extended(seen, 1)
    after = extended(seen, 2, keep=1)
    assert [g.documents for g in after.generations] == [30, 5]
    assert after.generations[0] == before.generations[0]
    assert after.generations[1].name[:7] == before.generations[1].name[:7] == "000002-"
    assert after.generations[1].digest != before.generations[1].digest
    assert sorted(p.name for p in (seen / "generations").iterdir()) == [g.name for g in after.generations]


def extended(directory: Path, number: int, keep: int | None = None) -> Index:
    """An index with one more generation, of five documents that nobody will find."""

    def write(scratch: Path) -> list[tuple[int, dict[str, str]]]:
        home = scratch / run_path(0)
        home.mkdir()
        whole = read_documents(one_run(directory) / "documents.arrow", np.arange(5), names)
        whole = whole.set_column(0, "id", pa.array([f"{number}-{n}" for n in range(5)]))
        write_keys(home / "keys.arrow", [(np.arange(5, dtype=np.uint64), np.arange(5))])
        write_documents(home / "documents.arrow", [whole], [])
        return [(5, {name: quick_digest(home / name) for name in ("keys.arrow", "documents.arrow")})]

    names = generations.documents_schema([]).names
    with writing(directory) as index:
        assert index is not None
        return commit(
            directory,
            index,
            index.settings,
            keep=len(index.generations) if keep is None else keep,
            write=write,
        )


def one_run(directory: Path) -> Path:
    return open_index(directory).runs[0].path


def test_a_reader_whose_generation_is_replaced_starts_again(
    seen: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    extended(seen, 1)
    plain, asked = generations.read_index, []

    def read(directory: Path) -> Index:
        found = plain(directory)
        asked.append(found)
        if len(asked) == 1:
            extended(seen, 2, keep=1)  # between the manifest and the files that it names
        return found

    monkeypatch.setattr(generations, "read_index", read)
    assert open_index(seen).generations[1].name != asked[0].generations[1].name


def test_a_directory_that_cannot_be_written_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(
        ConfigError, match=r"seen: cannot be written \(Not a directory\). Give a directory that you may"
    ):
        build_index(batch_of(0), tmp_path / "file" / "seen")


# -- kills -------------------------------------------------------------------------------------------------------------

# A process that is killed at the n-th of the calls that change the directory, for every n: each time in a fork of it.
KILLED = """
    import builtins, io, os, shutil, sys
    from pathlib import Path

    sys.path.insert(0, sys.argv[2])
    import curate.deduplication
    from curate import generations
    from curate.index import extend_index, build_index
    from test_generations import batch_of

    directory, original = Path(sys.argv[1]), Path(sys.argv[1] + ".original")

    def attempt(stop):
        calls = 0

        def count():
            nonlocal calls
            calls += 1
            if calls == stop:
                os.kill(os.getpid(), 9)

        def counted(plain):
            def call(*args, **kwargs):
                count()
                return plain(*args, **kwargs)
            return call

        for name in ("mkdir", "fsync", "rename", "replace", "rmdir", "unlink"):
            setattr(os, name, counted(getattr(os, name)))
        generations.ShardWriter.write = counted(generations.ShardWriter.write)
        plain = open

        def opened(path, *args, **kwargs):
            file = plain(path, *args, **kwargs)
            if str(path).startswith(str(directory)):
                count()  # the file is there, and empty
            return file

        builtins.open = io.open = opened
        (extend_index if original.exists() else build_index)(batch_of(1), directory, id="name")

    curate.deduplication.dedup(batch_of(1))  # loads what it needs, before it is forked
    for stop in range(1, 100):
        child = os.fork()
        if child == 0:
            attempt(stop)
            os._exit(0)
        status = os.waitpid(child, 0)[1]
        try:
            index = generations.open_index(directory)
            print(stop, status, index.documents, generations.verify_index(directory), flush=True)
        except Exception as error:
            print(stop, status, type(error).__name__, flush=True)
        if status == 0:
            break
        shutil.rmtree(directory, ignore_errors=True)
        if original.exists():
            shutil.copytree(original, directory)
"""


def run_python(code: str, *arguments: str | Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-W", "error", "-c", textwrap.dedent(code), *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=ROOT,
    )


def test_a_kill_at_any_point_of_a_commit_leaves_the_old_generations_or_the_new_ones(seen: Path) -> None:
    shutil.copytree(seen, f"{seen}.original")
    child = run_python(KILLED, seen, Path(__file__).parent)
    out, errors = child.communicate(timeout=300)
    states = [tuple(line.split()) for line in out.splitlines()]
    assert states, errors
    assert [state[1:] for state in states[-1:]] == [("0", "60", "4")]  # undisturbed
    killed = [state[1:] for state in states[:-1]]
    assert len(killed) >= 10
    assert killed == sorted(killed)  # from the old state to the new one, and never back
    assert {*killed} == {("9", "30", "2"), ("9", "60", "4")}


def test_a_kill_while_an_index_is_built_leaves_none_or_all_of_it(tmp_path: Path) -> None:
    out, errors = run_python(KILLED, tmp_path / "new", Path(__file__).parent).communicate(timeout=300)
    states = [tuple(line.split()) for line in out.splitlines()]
    assert states, errors
    assert states[-1][1:] == ("0", "30", "2")
    assert {state[1:] for state in states[:-1]} == {("9", "ConfigError"), ("9", "30", "2")}


def test_what_a_killed_writer_left_is_removed_by_the_next_one(seen: Path) -> None:
    clean = files_of(seen)
    left = seen / "generations" / "tmp-1-2" / "run-000000"
    left.mkdir(parents=True)
    (left / "keys.arrow").write_bytes(b"half")
    shutil.copytree(
        seen / "generations" / open_index(seen).generations[0].name,
        seen / "generations" / "000002-0123456789ab",
    )
    (seen / ".manifest.json.77.123456789012345").write_text("{")
    assert query_index(batch_of(0), seen, id="name").kept.num_rows == 0
    extend_index(batch_of(0), seen, id="name")  # adds nothing
    assert files_of(seen) == clean


def test_what_a_killed_builder_left_is_no_reason_to_refuse_the_directory(tmp_path: Path) -> None:
    (tmp_path / "new" / "generations" / "tmp-1-2").mkdir(parents=True)
    (tmp_path / "new" / "lock").touch()
    (tmp_path / "new" / ".manifest.json.77.123456789012345").write_text("{")
    build_index(batch_of(0), tmp_path / "new", id="name")
    assert sorted(p.name for p in (tmp_path / "new").iterdir()) == ["generations", "lock", "manifest.json"]


WRITER = """
    import sys
    sys.path.insert(0, sys.argv[2])
    from curate.index import extend_index
    from test_generations import batch_of

    for number in range(int(sys.argv[3]), int(sys.argv[4])):
        extend_index(batch_of(number), sys.argv[1], id="name")
        print(number, flush=True)
"""


def test_readers_see_whole_generations_while_a_writer_is_killed_and_started_again(seen: Path) -> None:
    last = 30
    everything = pa.concat_tables([batch_of(number) for number in range(last)])
    draw = random.Random(5)
    kills, queries, held = 0, 0, 1
    while held < last:
        writer = run_python(WRITER, seen, Path(__file__).parent, held, last)
        assert writer.stdout is not None
        assert writer.stdout.readline()  # it works now
        until = time.monotonic() + draw.uniform(0.02, 0.25)
        while writer.poll() is None and (time.monotonic() < until or kills == 3):
            kept = query_index(everything, seen, id="name").kept["name"].to_pylist()
            assert kept == everything["name"].to_pylist()[30 * held :][-len(kept) :] if kept else True
            assert len(kept) % 30 == 0
            held = max(held, last - len(kept) // 30)
            assert last - len(kept) // 30 >= held  # never less than before
            queries += 1
        if writer.poll() is None:
            os.kill(writer.pid, signal.SIGKILL)
            kills += 1
        writer.communicate()
        held = open_index(seen).documents // 30
    assert kills >= 2
    assert held == last
    assert queries > kills
    assert verify_index(seen) == 2 * last
    assert dedup(everything).kept.num_rows == open_index(seen).documents


FULL_DISK = """
    import resource, sys
    sys.path.insert(0, sys.argv[2])
    from curate.deduplication import dedup
    from curate.index import extend_index
    from filters.errors import CurationError
    from test_generations import batch_of

    dedup(batch_of(1))  # compiled code may be written to disk, too
    resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[3]), int(sys.argv[3])))
    try:
        extend_index(batch_of(1), sys.argv[1], id="name")
    except CurationError as error:
        print(error)
        sys.exit(error.exit_code)
"""


@pytest.mark.parametrize("room", [100, 1_500, 5_500])
def test_a_full_disk_is_said_and_leaves_the_index_as_it_was(seen: Path, room: int) -> None:
    before = files_of(seen)
    child = run_python(FULL_DISK, seen, Path(__file__).parent, str(room))
    out, errors = child.communicate(timeout=120)
    assert child.returncode == 4, errors
    assert out.startswith(f"{seen}: the new generation could not be written (")
    assert out.endswith("). The index is as it was. Make room on the disk, and run the same command again.\n")
    assert files_of(seen) == before
    assert extend_index(batch_of(1), seen, id="name").kept.num_rows == 30
