"""Steps of independent parts, run in process or on Ray, resumable after any kill.

    Run ── step ──▶ Finished            one driver holds the run directory's lock
            │
            ├─ part 0 ─▶ RUN/.steps/02-measure-1f0c…/000000/{signals.parquet, part.json}
            ├─ part 1 ─▶ RUN/.steps/02-measure-1f0c…/000001/…
            └─ …

A *part* is one call of an importable function with JSON arguments. It gets an empty private directory, writes its
files there and returns a small dict. The engine then syncs the public ones, writes ``part.json`` (result and a hash of each
file) and renames the directory to its final name: that rename is the only commit, so a part is either wholly there or
not there at all, whatever was killed. A part that is there is never run again.

A step's directory name holds a hash of everything that its bytes depend on: function, parameters, parts, digests of
inputs, the source of the code and the versions of the libraries. Another configuration is another directory, so a
stale part cannot be taken for a fresh one; the log says which of these changed.

Inline and Ray differ only in the loop that schedules parts (``_run_inline``, ``_run_ray``). Data never passes through
Ray's object store. Price: one fsync for each file and part, and one pass over what is written: SHA-256 over files that
a manifest may name, and XXH3, at a tenth of the price, over those that only later steps read (``Step.private``). These
are not synced, either: no kill of a process harms them, and after a crash of the machine they are hashed again.
"""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import fcntl
import functools
import hashlib
import importlib
import importlib.metadata
import importlib.util
import json
import logging
import os
import platform
import re
import shutil
import sys
import tempfile
import time
import unicodedata
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Literal

from curate.progress import Progress
from filters.errors import ConfigError, CurationError, RunError

log = logging.getLogger(__name__)

EngineName = Literal["auto", "inline", "ray"]
ENGINES: tuple[EngineName, ...] = ("auto", "inline", "ray")
AUTO_RAY_BYTES = 256 << 20
"""``auto`` takes Ray for steps that read more than this (about 20 CPU-seconds of work)."""

_CODE_PACKAGES = ("filters", "curate", "mixtures")
_LIBRARIES = ("numpy", "pyarrow", "polars", "numba", "xxhash", "py3langid", "ftfy", "fasttext-numpy2-wheel", "jinja2", "tokenizers")  # fmt: skip
_THREADS = dict.fromkeys(("POLARS_MAX_THREADS", "OMP_NUM_THREADS", "NUMBA_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "ARROW_NUM_THREADS", "RAYON_NUM_THREADS"), "1")  # fmt: skip
_PART_RETRIES = 3
_QUICK = "xxh3:"
_STEP_HASH = re.compile(r"(\$STEPS/)\d\d-([\w-]+?)-[0-9a-f]{12}\b")


_SCRATCH = re.compile(r"\..+\.\d+\.\d{12,}")
"""Files on their way to their final name: ``_scratch`` names them."""


@dataclasses.dataclass(frozen=True, slots=True)
class Step:
    """Independent parts of one function.

    Attributes:
        name: what progress and the log call it.
        function: ``"package.module:function"``, called as ``function(out: Path, **params, **part) -> dict``.
        parts: one mapping of JSON values for each part.
        params: JSON values that all parts share.
        inputs: digests of everything the parts read, so that a change is noticed.
        input_bytes: roughly what the step reads; decides between inline and Ray under ``auto``.
        private: names of files that no manifest names, only later steps read: not synced, and hashed with 128-bit XXH3,
            which finds damage but no forgery.
    """

    name: str
    function: str
    parts: Sequence[Mapping[str, Any]]
    params: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    inputs: Sequence[str] = ()
    input_bytes: int = 0
    private: tuple[str, ...] = ()


@dataclasses.dataclass(frozen=True, slots=True)
class Finished:
    """What a step left behind: one result and one set of files (name -> hash) for each part, in part order.

    A hash is the SHA-256 in hexadecimal digits, or that of a private file, ``xxh3:`` and 32 digits.
    """

    directory: Path
    results: list[dict[str, Any]]
    files: list[dict[str, str]]

    @property
    def digest(self) -> str:
        """Digest of the bytes of all outputs; equal bytes give equal digests, wherever they were made."""
        return digest_of([sorted(f.items()) for f in self.files])

    def paths(self, name: str) -> list[Path]:
        """The file ``name`` of each part, in part order."""
        missing = [i for i, files in enumerate(self.files) if name not in files]
        if missing:
            raise RunError(
                f"{self.directory.name}: parts {missing[:5]} wrote no '{name}'; run the command again."
            )
        return [self.directory / f"{i:06d}" / name for i in range(len(self.files))]

    def hashes(self, name: str) -> list[str]:
        """The hash of the file ``name`` of each part, in part order."""
        return [files[name] for files in self.files]


def digest_of(value: Any) -> str:
    """SHA-256 of the canonical JSON of a value.

    >>> digest_of({"b": 1, "a": [2]}) == digest_of({"a": [2], "b": 1})
    True
    """
    text = json.dumps(value, sort_keys=True, ensure_ascii=False, separators=(",", ":"))
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def file_digest(path: Path) -> str:
    """SHA-256 of a file's bytes."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def quick_digest(path: Path) -> str:
    """128-bit XXH3 of a file's bytes, with the prefix that tells it from a SHA-256."""
    import xxhash

    state = xxhash.xxh3_128()
    with open(path, "rb", buffering=0) as file:
        block = memoryview(bytearray(1 << 20))
        while read := file.readinto(block):
            state.update(block[:read])
    return _QUICK + state.hexdigest()


@functools.cache
def _code_digest(package: str) -> str:
    """SHA-256 over the sources of one of our packages."""
    spec = importlib.util.find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        return "absent"
    root = Path(next(iter(spec.submodule_search_locations)))
    sources = sorted((p.relative_to(root).as_posix(), p) for p in root.rglob("*.py"))
    return digest_of([(name, file_digest(path)) for name, path in sources])


@functools.cache
def _library_versions() -> dict[str, str]:
    versions = {"python": platform.python_version_tuple()[1], "unicode": unicodedata.unidata_version}
    for name in _LIBRARIES:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            versions[name] = importlib.metadata.version(name)
    return versions


def available_cpus() -> int:
    """CPUs that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


class Run:
    """The driver of one run directory.

    Args:
        directory: the run directory; created when absent.
        engine: ``inline`` (this process), ``ray``, or ``auto`` (Ray for steps that read much, else inline).
        workers: parts at a time on Ray; default all CPUs.
        ray_address: address of a running cluster to join; it is never shut down by us. Implies Ray.
        steps: where private steps are kept, by default ``directory/.steps``. Runs that differ in some steps only may
            share one, one run at a time.
        progress: show progress on stderr (a bar on a terminal, one log line for each step elsewhere).

    Raises:
        RunError: when another driver holds the directory.

    Example:
        with Run(Path("runs/x"), engine="inline") as run:
            finished = run.step(Step("count", "package.module:count_part", parts=[{"path": "a.txt"}]))
    """

    def __init__(
        self,
        directory: str | Path,
        *,
        engine: EngineName = "auto",
        workers: int | None = None,
        ray_address: str | None = None,
        steps: str | Path | None = None,
        progress: bool = True,
    ) -> None:
        if engine not in ENGINES:
            raise ConfigError(f"engine: found {engine!r}; allowed: {', '.join(ENGINES)}.")
        if workers is not None and workers < 1:
            raise ConfigError(f"workers: found {workers}; allowed: 1 or more.")
        self.directory = Path(directory).absolute()
        self.steps_directory = Path(steps).absolute() if steps else self.directory / ".steps"
        self.engine: EngineName = "ray" if ray_address and engine == "auto" else engine
        self.workers = workers or available_cpus()
        self.ray_address = ray_address
        self._show_progress = progress
        self._lock: int | None = None
        self._used: list[str] = []
        self._cluster = contextlib.ExitStack()
        self._ray_started = False

    def __enter__(self) -> Run:
        self.steps_directory.mkdir(parents=True, exist_ok=True)
        self.directory.mkdir(parents=True, exist_ok=True)
        self._lock = _take_lock(self.steps_directory / "lock", self.directory)
        for depth in ("", "*/", "*/*/"):
            for path in self.directory.glob(f"{depth}.*"):
                if _SCRATCH.fullmatch(path.name) and path.is_file():
                    path.unlink()  # of a driver that was killed between writing and renaming
        self._used = []
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._cluster.close()
        self._ray_started = False
        if kind is None:
            write_atomic(self.steps_directory / "current.json", json.dumps(self._used, indent=1) + "\n")
        if self._lock is not None:
            os.close(self._lock)  # the kernel releases the lock with the descriptor
            self._lock = None

    def step(self, step: Step) -> Finished:
        """Run the parts of a step that are not done yet and return all of them.

        Raises:
            CurationError: the first failure of a part, as the part raised it.
            RunError: a part failed otherwise; the message names step, part and arguments.
        """
        if self._lock is None:
            raise RunError("a step outside of 'with Run(...) as run:'; enter the run first.")
        directory = self._step_directory(step)
        done = [_read_part(directory, i) for i in range(len(step.parts))]
        todo = [i for i, d in enumerate(done) if d is None]
        if todo:
            for stale in directory.glob("tmp-*"):
                shutil.rmtree(stale, ignore_errors=True)
            engine = self._choose(step, len(todo))
            started, parts = time.perf_counter(), {}
            with Progress(
                step.name, total=len(step.parts), done=len(step.parts) - len(todo), show=self._show_progress
            ) as bar:
                schedule = self._run_ray if engine == "ray" else self._run_inline
                for index, part in schedule(step, directory, todo):
                    done[index] = part
                    parts[index] = part.get("took", {})
                    bar.advance(part["result"].get("rows", 0))
            seconds = round(time.perf_counter() - started, 3)
            event = {"step": step.name, "engine": engine, "parts": len(step.parts), "run": len(todo), "seconds": seconds}  # fmt: skip
            self._log(event | {"parts_run": [{"part": i, **parts[i]} for i in sorted(parts)]})
        else:
            self._log({"step": step.name, "parts": len(step.parts), "run": 0})
        finished = [d for d in done if d is not None]
        return Finished(directory, [d["result"] for d in finished], [d["files"] for d in finished])

    def publish(self, name: str, paths: Sequence[Path], pattern: str) -> list[str]:
        """Make ``RUN/name/`` hold exactly these files, numbered by ``pattern``; returns their relative names.

        Files are hard links where the file system has them, else copies: nothing is written twice.
        """
        target = self.directory / name
        target.mkdir(parents=True, exist_ok=True)
        names = [pattern.format(i) for i in range(len(paths))]
        for stale in target.iterdir():
            if stale.name not in names:
                shutil.rmtree(stale) if stale.is_dir() else stale.unlink()
        for file_name, path in zip(names, paths, strict=True):
            place_file(path, target / file_name)
        _sync(target)
        return [f"{name}/{n}" for n in names]

    def relative(self, path: Path) -> str:
        """A path inside the run directory as it may stand in a manifest."""
        return path.relative_to(self.directory).as_posix()

    # -- what decides whether a step is redone -------------------------------------------------------------------

    def _step_directory(self, step: Step) -> Path:
        package = step.function.split(".")[0]
        packages = (
            _CODE_PACKAGES[: _CODE_PACKAGES.index(package) + 1]
            if package in _CODE_PACKAGES
            else _CODE_PACKAGES
        )
        key = {
            "function": step.function,
            "configuration": self._placeless(dict(step.params)),
            "parts": digest_of(self._placeless([dict(p) for p in step.parts])),
            "inputs": list(step.inputs),
            "code": {p: _code_digest(p) for p in packages},
            "libraries": _library_versions(),
        }
        name = f"{step.name}-{digest_of(key)[:12]}"
        found = next(iter(self.steps_directory.glob(f"[0-9][0-9]-{name}")), None)  # under whatever number
        directory = found or self.steps_directory / f"{len(self._used):02d}-{name}"
        self._used.append(directory.name)
        if not directory.exists():
            self._say_what_changed(step.name, f"[0-9][0-9]-{step.name}-*/step.json", key)
            directory.mkdir(parents=True)
            write_atomic(directory / "step.json", json.dumps(key, indent=1, ensure_ascii=False) + "\n")
        return directory

    def _say_what_changed(self, step: str, pattern: str, key: Mapping[str, Any]) -> None:
        """Compare with the newest run of this step; runs that share their steps differ on purpose and stay silent."""
        if self.steps_directory != self.directory / ".steps":
            return
        earlier = sorted(self.steps_directory.glob(pattern), key=lambda p: p.stat().st_mtime)
        if earlier:
            try:
                before = json.loads(earlier[-1].read_text(encoding="utf-8"))
            except ValueError:
                before = {}
            changed = [part for part in key if before.get(part) != key[part]]
            log.warning("%s: changed since the last run: %s; this step is redone.", step, ", ".join(changed))

    def _placeless(self, value: Any) -> Any:
        """The value without where the run and its steps lie: what a step reads counts by content (``Step.inputs``).

        So a file that was touched but not changed costs its own step again, and none after it.
        """
        text = json.dumps(value)
        for name, place in (("$STEPS", self.steps_directory), ("$RUN", self.directory)):
            text = text.replace(json.dumps(str(place))[1:-1], name)
        return json.loads(_STEP_HASH.sub(r"\1\2", text))

    def _choose(self, step: Step, todo: int) -> Literal["inline", "ray"]:
        if self.engine != "auto":
            return self.engine
        return "ray" if todo > 1 and self.workers > 1 and step.input_bytes > AUTO_RAY_BYTES else "inline"

    def _log(self, event: Mapping[str, Any]) -> None:
        folder = self.directory / "log"
        folder.mkdir(exist_ok=True)
        with open(folder / "run.jsonl", "a", encoding="utf-8") as file:
            file.write(json.dumps({"time": round(time.time(), 3), **event}) + "\n")

    # -- the two loops --------------------------------------------------------------------------------------------

    def _run_inline(
        self, step: Step, directory: Path, todo: Sequence[int]
    ) -> Iterator[tuple[int, dict[str, Any]]]:
        for index in todo:
            arguments = json.dumps({**step.params, **step.parts[index]})
            try:
                yield index, run_part(step.function, str(directory), index, arguments, step.private)
            except CurationError:
                raise
            except Exception as error:
                raise self._failure(step, index, error) from error

    def _run_ray(
        self, step: Step, directory: Path, todo: Sequence[int]
    ) -> Iterator[tuple[int, dict[str, Any]]]:
        """A sliding window over ``ray.wait``; after a failure nothing new starts and what runs may finish."""
        ray = self._ray()
        remote = ray.remote(
            num_cpus=1, max_retries=_PART_RETRIES, retry_exceptions=[OSError], scheduling_strategy="SPREAD"
        )(run_part)
        window = 2 * max(1, min(self.workers, int(ray.cluster_resources().get("CPU", 1))))
        waiting = iter(todo)
        pending: dict[Any, int] = {}
        failure: Exception | None = None
        while True:
            while failure is None and len(pending) < window:
                index = next(waiting, None)
                if index is None:
                    break
                arguments = json.dumps({**step.params, **step.parts[index]})
                task = remote.options(name=f"{step.name}[{index}]")
                pending[task.remote(step.function, str(directory), index, arguments, step.private)] = index
            if not pending:
                break
            for reference in ray.wait(list(pending), num_returns=1)[0]:
                index = pending.pop(reference)
                try:
                    yield index, ray.get(reference)
                except Exception as error:
                    cause = getattr(error, "cause", None)
                    failure = failure or (
                        cause
                        if isinstance(cause, CurationError)
                        else self._failure(step, index, cause or error)
                    )
        if failure is not None:
            raise failure

    def _failure(self, step: Step, index: int, error: BaseException) -> RunError:
        arguments = json.dumps(dict(step.parts[index]), ensure_ascii=False)
        shown = arguments if len(arguments) <= 300 else arguments[:297] + "..."
        message = str(error).strip().splitlines()
        return RunError(
            f"step '{step.name}', part {index} failed: {type(error).__name__}: {message[-1] if message else ''}\n"
            f"  its input: {shown}\n"
            "  Finished parts are kept: correct the cause and run the same command again."
        )

    def _ray(self) -> Any:
        if not self._ray_started:
            self._cluster.enter_context(_ray_cluster(self.workers, self.ray_address, self.steps_directory))
            self._ray_started = True
        import ray

        return ray


def run_part(
    function: str, directory: str, index: int, arguments: str, private: Sequence[str] = ()
) -> dict[str, Any]:
    """Run one part and commit it by renaming its directory; an already committed part is returned as it is.

    Returns files, result and, for the log alone, how long it ``took``.
    """
    step = Path(directory)
    done = _read_part(step, index)
    if done is not None:
        return done
    module, _, name = function.partition(":")
    call: Callable[..., Mapping[str, Any]] = getattr(importlib.import_module(module), name)
    scratch = step / f"tmp-{index:06d}-{os.getpid()}-{time.time_ns()}"
    scratch.mkdir()
    began, started, cpu_started = time.time(), time.perf_counter(), time.process_time()
    try:
        result = json.loads(json.dumps(dict(call(scratch, **json.loads(arguments)))))
        files, stamps = {}, {}
        for path in sorted(scratch.iterdir()):
            if path.name not in private:
                _sync(path)
            digest = quick_digest if path.name in private else file_digest
            files[path.name], stamps[path.name] = digest(path), _stamp(path)
        part = {"files": files, "result": result}
        facts = {**part, "stamps": stamps, "boot": _boot()}
        write_atomic(scratch / "part.json", json.dumps(facts, ensure_ascii=False) + "\n")
        _sync(scratch)
        try:
            os.rename(scratch, step / f"{index:06d}")
        except OSError as error:
            if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
                raise
            shutil.rmtree(scratch)  # another attempt at the same part was first; its bytes are the same
        _sync(step)
        cpu_seconds = time.process_time() - cpu_started
        seconds = time.perf_counter() - started
        took = {"time": round(began, 3), "seconds": round(seconds, 3), "cpu_seconds": round(cpu_seconds, 3)}
        return {**(_read_part(step, index) or part), "took": took}
    except BaseException:
        shutil.rmtree(scratch, ignore_errors=True)
        raise


def _read_part(step: Path, index: int) -> dict[str, Any] | None:
    """What a committed part left, or None when it is not done or its files are no longer what it wrote.

    Public files are links to a part's files, so a program that writes into one of them damages the part, too.
    """
    home = step / f"{index:06d}"
    try:
        part = json.loads((home / "part.json").read_text(encoding="utf-8"))
        for name, expected in part["files"].items():
            digest = quick_digest if expected.startswith(_QUICK) else file_digest
            stamp, now = part["stamps"][name], _stamp(home / name)
            is_sure = stamp == now and (digest is file_digest or part["boot"] == _boot())
            if stamp[0] != now[0] or not (is_sure or digest(home / name) == expected):
                raise ValueError(name)
    except FileNotFoundError:
        if not home.exists():
            return None
    except (ValueError, KeyError):
        pass
    else:
        return {"files": part["files"], "result": part["result"]}
    log.warning("%s, part %d: its files were changed or deleted; it is redone.", step.name, index)
    shutil.rmtree(home)
    return None


@functools.cache
def _boot() -> str:
    """Which start of which machine this is. Private files are not synced: after a crash of the machine they are hashed."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return f"{platform.node()} {os.getpid()}"


def _stamp(path: Path) -> list[int]:
    """Size and time of change: when these are as they were, a file is not hashed again."""
    status = path.stat()
    return [status.st_size, status.st_mtime_ns]


def write_atomic(path: Path, text: str) -> None:
    """Write a small text file so that a reader sees the old or the new one, never half of it."""
    scratch = _scratch(path)
    with open(scratch, "w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    os.replace(scratch, path)


def _scratch(path: Path) -> Path:
    return path.with_name(f".{path.name}.{os.getpid()}.{time.time_ns()}")


def place_file(source: Path, target: Path) -> None:
    """A hard link (else a copy) of ``source`` at ``target``, replacing what is there in one step."""
    with contextlib.suppress(FileNotFoundError):
        if os.path.samefile(source, target):
            return
    scratch = _scratch(target)
    try:
        os.link(source, scratch)
    except OSError:
        shutil.copyfile(source, scratch)
        _sync(scratch)
    os.replace(scratch, target)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _take_lock(path: Path, directory: Path) -> int:
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(descriptor)
        raise RunError(
            f"{directory}: another command is working on this run directory. Wait for it, or give another --out."
        ) from None
    return descriptor


def clean(directory: Path, *, everything: bool = False) -> list[str]:
    """Delete the private steps that the last finished run did not use (all with ``everything``); returns their names.

    Public files stay: they are links of their own.
    """
    if not (directory / ".steps").is_dir():
        raise ConfigError(
            f"{directory}: not a run directory (it has no .steps). Give the directory of --out."
        )
    lock = _take_lock(directory / ".steps" / "lock", directory)
    try:
        current = directory / ".steps" / "current.json"
        try:
            used = [] if everything else json.loads(current.read_text(encoding="utf-8"))
        except (FileNotFoundError, ValueError):  # no run was ever finished here
            used = []
        stale = [p for p in sorted((directory / ".steps").iterdir()) if p.is_dir() and p.name not in used]
        for path in stale:
            shutil.rmtree(path)
        return [p.name for p in stale]
    finally:
        os.close(lock)


# -- Ray -------------------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def _ray_cluster(workers: int, address: str | None, steps_directory: Path) -> Iterator[None]:
    """A Ray to run parts on: the caller's own, the cluster at ``address``, or an embedded one that ends with us."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_task_oom_retries", "1")
    embedded_settings = {} if address else {"RAY_AUTH_MODE": "disabled", **_THREADS}
    before = {name: os.environ.get(name) for name in embedded_settings}
    os.environ.update(embedded_settings)  # workers inherit the driver's environment
    try:
        import ray
    finally:
        if address:
            _restore(before)
    if ray.is_initialized():
        _restore(before)
        _probe(ray, steps_directory)
        yield
        return
    if address:
        _start_ray(ray, address=address, runtime_env={"env_vars": _THREADS})
        try:
            _probe(ray, steps_directory)
            yield
        finally:
            ray.shutdown()
        return
    left_behind = steps_directory / "ray-temp"
    if left_behind.exists():  # of a driver that was killed
        shutil.rmtree(left_behind.read_text().strip(), ignore_errors=True)
    temporary = tempfile.mkdtemp(prefix="cm-ray-")  # short: unix socket paths are limited to about 100 bytes
    write_atomic(left_behind, temporary + "\n")
    with _stdout_on_stderr():  # Ray reports dead workers on the driver's stdout, which is for results
        try:
            _start_ray(
                ray,
                address="local",
                num_cpus=workers,
                include_dashboard=False,
                object_store_memory=256 << 20,
                _temp_dir=temporary,
            )
            _restore(before)
            yield
        finally:
            _restore(before)
            ray.shutdown()
            shutil.rmtree(temporary, ignore_errors=True)
            left_behind.unlink(missing_ok=True)


def _start_ray(ray: Any, **options: Any) -> None:
    try:
        ray.init(log_to_driver=False, logging_level=logging.ERROR, **options)
    except Exception as error:  # Ray raises what its start-up happens to meet: sockets, time-outs, versions
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        where = (
            "did not start"
            if options["address"] == "local"
            else f"could not be reached at {options['address']}"
        )
        raise RunError(f"Ray {where}: {reason}. Try again, or run with --engine inline.") from error


def _restore(before: Mapping[str, str | None]) -> None:
    for name, value in before.items():
        if value is None:
            os.environ.pop(name, None)
        else:
            os.environ[name] = value


@contextlib.contextmanager
def _stdout_on_stderr() -> Iterator[None]:
    sys.stdout.flush()
    try:
        saved = os.dup(1)
    except OSError:  # no stdout at all
        yield
        return
    try:
        os.dup2(2, 1)
        yield
    finally:
        sys.stdout.flush()
        os.dup2(saved, 1)
        os.close(saved)


def _read_token(path: str) -> str:
    try:
        return Path(path).read_text(encoding="utf-8")
    except OSError as error:
        return f"error: {error}"


def _probe(ray: Any, steps_directory: Path) -> None:
    """Every node of the cluster must see the run directory; the commonest failure, told before any work is done."""
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    token = steps_directory / f"probe-{os.getpid()}-{time.time_ns()}"
    write_atomic(token, token.name)
    try:
        for node in ray.nodes():
            if not node["Alive"]:
                continue
            strategy = NodeAffinitySchedulingStrategy(node["NodeID"], soft=False)
            seen = ray.get(
                ray.remote(_read_token).options(num_cpus=0, scheduling_strategy=strategy).remote(str(token))
            )
            if seen != token.name:
                raise RunError(
                    f"{steps_directory.parent}: node {node.get('NodeManagerAddress')} of the Ray cluster does not see this "
                    "directory. Give an --out on storage that all nodes share."
                )
    finally:
        token.unlink(missing_ok=True)
