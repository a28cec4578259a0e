"""The engine's promises on small parts of its own: commit, resume, locks, faults; inline and on Ray."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import sys
import textwrap
from pathlib import Path

import pytest
import xxhash

from curate.engine import Finished, Run, Step, clean, digest_of, quick_digest
from filters.errors import ConfigError, DataError, RunError

PARTS = """
    import os, pathlib
    from filters.errors import DataError

    def write(out, *, text, times=1):
        (out / "text.txt").write_text(text * times)
        with open(os.environ["CALLS"], "a") as calls:
            calls.write(text + "\\n")
        return {"rows": len(text)}

    def copy(out, *, path):
        (out / "copy.txt").write_bytes(pathlib.Path(path).read_bytes())
        return {"rows": 1}

    def refuse(out, *, text):
        if text == "b":
            raise DataError("b.jsonl: 9 of 10 records cannot be read. Correct the file.")
        return write(out, text=text)

    def stumble(out, *, text):
        if text == "b":
            raise ZeroDivisionError("division by zero")
        return write(out, text=text)

    def die_once(out, *, text, guard):
        if text == "b" and not os.path.exists(guard):
            pathlib.Path(guard).touch()
            os.kill(os.getpid(), 9)
        return write(out, text=text)
"""


@pytest.fixture
def parts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """An importable module of part functions, here and in Ray's workers, that logs its calls."""
    folder = tmp_path / "modules"
    folder.mkdir()
    name = f"parts_{os.getpid()}_{tmp_path.name.replace('-', '_')}"
    (folder / f"{name}.py").write_text(textwrap.dedent(PARTS))
    monkeypatch.syspath_prepend(str(folder))
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(folder), *sys.path]))
    monkeypatch.setenv("CALLS", str(tmp_path / "calls.txt"))
    (tmp_path / "calls.txt").touch()
    return name


def calls(tmp_path: Path) -> list[str]:
    return sorted((tmp_path / "calls.txt").read_text().split())


def letters(module: str, function: str = "write", **params: object) -> Step:
    return Step("letters", f"{module}:{function}", [{"text": t} for t in "abc"], params)


def run_letters(directory: Path, step: Step, **options: object) -> Finished:
    with Run(directory, progress=False, **{"engine": "inline", **options}) as run:  # type: ignore[arg-type]
        return run.step(step)


def test_results_and_files_come_in_part_order(tmp_path: Path, parts: str) -> None:
    finished = run_letters(tmp_path / "run", letters(parts, times=2))
    assert [p.read_text() for p in finished.paths("text.txt")] == ["aa", "bb", "cc"]
    assert [r["rows"] for r in finished.results] == [1, 1, 1]


def test_finished_parts_are_never_run_again(tmp_path: Path, parts: str) -> None:
    first = run_letters(tmp_path / "run", letters(parts))
    again = run_letters(tmp_path / "run", letters(parts))
    assert calls(tmp_path) == ["a", "b", "c"]
    assert again == first


def test_a_part_that_is_missing_is_run_alone(tmp_path: Path, parts: str) -> None:
    finished = run_letters(tmp_path / "run", letters(parts))
    (finished.directory / "000001" / "part.json").unlink()
    os.rename(finished.directory / "000001", finished.directory / "tmp-000001-left-by-a-kill")
    assert run_letters(tmp_path / "run", letters(parts)) == finished
    assert calls(tmp_path) == ["a", "b", "b", "c"]
    assert not list(finished.directory.glob("tmp-*"))


def test_files_that_a_killed_driver_left_on_their_way_are_removed(tmp_path: Path, parts: str) -> None:
    run_letters(tmp_path / "run", letters(parts))
    (tmp_path / "run" / "kept").mkdir()
    strays = [
        tmp_path / "run" / ".manifest.json.41.1795168642151000000",
        tmp_path / "run" / "kept" / ".part-000000.parquet.41.1795168642151000000",
    ]
    own = [tmp_path / "run" / ".notes", tmp_path / "run" / "kept" / ".part.2.3"]
    for path in strays + own:
        path.touch()
    run_letters(tmp_path / "run", letters(parts))
    assert [p.exists() for p in strays + own] == [False, False, True, True]


@pytest.mark.parametrize("damage", ["delete", "empty", "overwrite", "unreadable"])
def test_a_part_whose_files_were_damaged_is_run_again(tmp_path: Path, parts: str, damage: str) -> None:
    finished = run_letters(tmp_path / "run", letters(parts))
    victim = finished.paths("text.txt")[1]
    if damage == "delete":
        victim.unlink()
    elif damage == "unreadable":
        (victim.parent / "part.json").write_text("")
    else:
        victim.write_text("" if damage == "empty" else "x")
    assert run_letters(tmp_path / "run", letters(parts)) == finished
    assert victim.read_text() == "b"
    assert calls(tmp_path) == ["a", "b", "b", "c"]


@pytest.mark.parametrize("damage", ["delete", "empty", "overwrite"])
def test_private_files_are_hashed_another_way_and_their_damage_is_found_too(
    tmp_path: Path, parts: str, damage: str
) -> None:
    plain = run_letters(tmp_path / "plain", letters(parts))
    step = dataclasses.replace(letters(parts), private=("text.txt", "other.txt"))
    finished = run_letters(tmp_path / "run", step)
    hashes = [xxhash.xxh3_128_hexdigest(letter.encode()) for letter in "abc"]
    assert finished.hashes("text.txt") == [f"xxh3:{digest}" for digest in hashes]
    assert plain.hashes("text.txt") == [hashlib.sha256(letter.encode()).hexdigest() for letter in "abc"]
    os.utime(finished.paths("text.txt")[0], (1, 1))  # looks changed, and is not
    victim = finished.paths("text.txt")[1]
    if damage == "delete":
        victim.unlink()
    else:
        victim.write_text("" if damage == "empty" else "x")
    assert run_letters(tmp_path / "run", step) == finished
    assert victim.read_text() == "b"
    assert calls(tmp_path) == ["a", "a", "b", "b", "b", "c", "c"]


def test_private_files_are_hashed_again_after_a_restart_of_the_machine(tmp_path: Path, parts: str) -> None:
    """They are not synced: a crash of the machine may leave other bytes under the size and time that were noted."""
    step = dataclasses.replace(letters(parts), private=("text.txt",))
    finished = run_letters(tmp_path / "run", step)
    victim = finished.paths("text.txt")[1]
    before = victim.stat()
    victim.write_text("x")
    os.utime(victim, ns=(before.st_atime_ns, before.st_mtime_ns))
    note = victim.parent / "part.json"
    part = json.loads(note.read_text())
    note.write_text(json.dumps({**part, "boot": "another"}))
    untouched = finished.paths("text.txt")[0].parent / "part.json"
    untouched.write_text(json.dumps({**json.loads(untouched.read_text()), "boot": "another"}))
    assert run_letters(tmp_path / "run", step) == finished
    assert victim.read_text() == "b"
    assert calls(tmp_path) == ["a", "b", "b", "c"]


def test_a_private_file_larger_than_a_block_is_hashed_as_a_whole(tmp_path: Path) -> None:
    data = os.urandom(1 << 10) * ((3 << 10) + 1)
    (tmp_path / "big").write_bytes(data)
    assert quick_digest(tmp_path / "big") == f"xxh3:{xxhash.xxh3_128_hexdigest(data)}"


def test_files_that_were_copied_elsewhere_are_taken_for_what_they_hold(tmp_path: Path, parts: str) -> None:
    finished = run_letters(tmp_path / "run", letters(parts))
    for path in finished.paths("text.txt"):
        os.utime(path, (1, 1))
    assert run_letters(tmp_path / "run", letters(parts)) == finished
    assert calls(tmp_path) == ["a", "b", "c"]


def test_a_step_that_another_one_now_precedes_is_not_redone(tmp_path: Path, parts: str) -> None:
    before = run_letters(tmp_path / "run", letters(parts))
    with Run(tmp_path / "run", engine="inline", progress=False) as run:
        run.step(Step("new", f"{parts}:write", [{"text": "n"}]))
        after = run.step(letters(parts))
    assert after == before
    assert calls(tmp_path) == ["a", "b", "c", "n"]


def test_changed_parameters_redo_the_step_and_say_what_changed(
    tmp_path: Path, parts: str, caplog: pytest.LogCaptureFixture
) -> None:
    first = run_letters(tmp_path / "run", letters(parts, times=1))
    second = run_letters(tmp_path / "run", letters(parts, times=3))
    assert first.digest != second.digest
    assert "letters: changed since the last run: configuration" in caplog.text


def test_an_input_that_changed_only_its_date_redoes_nothing_after_its_own_step(
    tmp_path: Path, parts: str
) -> None:
    def both(stamp: str) -> tuple[Finished, Finished]:
        with Run(tmp_path / "run", engine="inline", progress=False) as run:
            first = run.step(Step("first", f"{parts}:write", [{"text": "a"}], inputs=[stamp]))
            path = str(first.paths("text.txt")[0])
            return first, run.step(Step("second", f"{parts}:copy", [{"path": path}], inputs=[first.digest]))

    (first, second), (touched, after) = both("monday"), both("tuesday")
    assert touched.directory != first.directory
    assert after.directory == second.directory


def test_the_order_of_names_in_a_mapping_changes_no_digest() -> None:
    assert digest_of({"b": [1], "a": "é"}) == digest_of({"a": "é", "b": [1]})
    assert digest_of({"a": 1}) != digest_of({"a": 1.5})


def test_a_second_driver_is_refused_while_the_first_one_works(tmp_path: Path, parts: str) -> None:
    with (
        Run(tmp_path / "run", engine="inline", progress=False),
        pytest.raises(RunError, match="another command is working on this run directory"),
        Run(tmp_path / "run", engine="inline", progress=False),
    ):
        pass
    assert run_letters(tmp_path / "run", letters(parts)).results


def test_a_users_error_reaches_the_user_as_it_was_raised(tmp_path: Path, parts: str) -> None:
    with pytest.raises(DataError, match=r"b\.jsonl: 9 of 10 records cannot be read"):
        run_letters(tmp_path / "run", letters(parts, "refuse"))
    assert calls(tmp_path) == ["a"]


def test_any_other_error_names_step_part_and_input_and_keeps_the_finished_parts(
    tmp_path: Path, parts: str
) -> None:
    with pytest.raises(
        RunError,
        match=r"(?s)step 'letters', part 1 failed: ZeroDivisionError.*\"b\".*Finished parts are kept",
    ):
        run_letters(tmp_path / "run", letters(parts, "stumble"))
    with pytest.raises(RunError):
        run_letters(tmp_path / "run", letters(parts, "stumble"))
    assert calls(tmp_path) == ["a"]


def test_published_files_are_links_and_stale_ones_go(tmp_path: Path, parts: str) -> None:
    with Run(tmp_path / "run", engine="inline", progress=False) as run:
        finished = run.step(letters(parts))
        (tmp_path / "run" / "kept").mkdir()
        (tmp_path / "run" / "kept" / "part-000007.txt").write_text("of an earlier run")
        names = run.publish("kept", finished.paths("text.txt"), "part-{:06d}.txt")
    assert names == ["kept/part-000000.txt", "kept/part-000001.txt", "kept/part-000002.txt"]
    assert sorted(p.name for p in (tmp_path / "run" / "kept").iterdir()) == [n.split("/")[1] for n in names]
    assert os.path.samefile(tmp_path / "run" / names[2], finished.paths("text.txt")[2])


def test_clean_deletes_what_the_last_run_did_not_use_and_leaves_public_files(
    tmp_path: Path, parts: str
) -> None:
    old = run_letters(tmp_path / "run", letters(parts, times=1))
    with Run(tmp_path / "run", engine="inline", progress=False) as run:
        new = run.step(letters(parts, times=2))
        run.publish("kept", new.paths("text.txt"), "{}.txt")
    assert clean(tmp_path / "run") == [old.directory.name]
    assert new.directory.exists()
    assert clean(tmp_path / "run", everything=True) == [new.directory.name]
    assert (tmp_path / "run" / "kept" / "1.txt").read_text() == "bb"
    with pytest.raises(ConfigError, match="not a run directory"):
        clean(tmp_path / "elsewhere")


def test_times_stand_in_the_log_alone(tmp_path: Path, parts: str) -> None:
    run_letters(tmp_path / "run", letters(parts))
    events = [json.loads(line) for line in (tmp_path / "run" / "log" / "run.jsonl").read_text().splitlines()]
    assert [(e["step"], e["engine"], e["parts"], e["run"]) for e in events] == [("letters", "inline", 3, 3)]
    part = json.loads(next((tmp_path / "run" / ".steps").glob("*/000000/part.json")).read_text())
    assert set(part) == {"files", "result", "stamps", "boot"}
    (timed,) = [event["parts_run"] for event in events if event.get("run")]
    assert [set(part) for part in timed] == [{"part", "time", "seconds", "cpu_seconds"}] * len(timed)
    assert [part["part"] for part in timed] == list(range(len(timed)))
    assert all(part["seconds"] > 0 for part in timed)


@pytest.mark.parametrize(("engine", "workers"), [("turbo", None), ("ray", 0)])
def test_impossible_engines_are_refused(tmp_path: Path, engine: str, workers: int | None) -> None:
    with pytest.raises(ConfigError, match="allowed"):
        Run(tmp_path / "run", engine=engine, workers=workers)  # type: ignore[arg-type]


def test_a_ray_that_does_not_start_is_a_failed_run_with_a_remedy(
    tmp_path: Path, parts: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    import ray

    def refuse(**options: object) -> None:
        raise TimeoutError("The current node timed out during startup.\nmore")

    monkeypatch.setattr(ray, "init", refuse)
    with pytest.raises(
        RunError, match=r"Ray did not start: .* timed out during startup\.\. .*--engine inline"
    ):
        run_letters(tmp_path / "run", letters(parts), engine="ray")
    assert not (tmp_path / "run" / ".steps" / "ray-temp").exists()


@pytest.mark.ray
@pytest.mark.xdist_group("ray")
def test_ray_survives_a_killed_worker_passes_errors_on_and_leaves_nothing_behind(
    tmp_path: Path, parts: str
) -> None:
    inline = run_letters(tmp_path / "inline", letters(parts, times=2))
    with Run(tmp_path / "ray", engine="ray", workers=2, progress=False) as run:
        assert run.step(letters(parts, times=2)).digest == inline.digest

        guard = str(tmp_path / "guard")
        died = run.step(letters(parts, "die_once", guard=guard))
        assert Path(guard).exists()
        assert [p.read_text() for p in died.paths("text.txt")] == ["a", "b", "c"]

        with pytest.raises(DataError, match=r"b\.jsonl: 9 of 10 records cannot be read"):
            run.step(letters(parts, "refuse"))
        with pytest.raises(RunError, match="step 'letters', part 1 failed: ZeroDivisionError"):
            run.step(letters(parts, "stumble"))
        temporary = Path((tmp_path / "ray" / ".steps" / "ray-temp").read_text().strip())
        assert temporary.is_dir()
    assert not temporary.exists()
    assert "RAY_AUTH_MODE" not in os.environ


@pytest.mark.slow
@pytest.mark.ray
@pytest.mark.xdist_group("ray")
def test_a_users_cluster_is_joined_and_left_running(tmp_path: Path, parts: str) -> None:
    from ray.cluster_utils import Cluster

    inline = run_letters(tmp_path / "inline", letters(parts))
    node = {"num_cpus": 1, "object_store_memory": 150 << 20, "include_dashboard": False}
    cluster = Cluster(initialize_head=True, connect=False, head_node_args=node)
    try:
        for run in (
            "first",
            "second",
        ):  # a cluster that the first run had shut down could not serve the second
            with Run(tmp_path / run, ray_address=cluster.address, progress=False) as joined:
                assert joined.engine == "ray"
                assert joined.step(letters(parts)).digest == inline.digest
            assert not list((tmp_path / run / ".steps").glob("probe-*"))
    finally:
        cluster.shutdown()
