"""Deduplication measured: ``python tests/benchmarks/dedup.py`` prints the table, nothing in it asserts a time.

    stages    decoding of zstd Parquet, signatures, search keys, fingerprints, row group by row group
    whole     ``dedup(table)`` and ``curate dedup``: processes from start to exit, reading and writing included
    growth    the same from 0.1 to 3 GB: exponent of cost = size ** e
    workers   the steps' own time of ``curate dedup`` on Ray with one and two workers
    index     100 MB compared with an index of 1 GB, and alone
    peers     other tools with the same word 5-grams, bands and threshold, and what each removed wrongly

How: every measurement is a fresh process, the kernels' files compiled before; what is compared runs in turn, and the
table has medians. Speed is megabytes (10**6 bytes) of UTF-8 text per CPU-second (user and system, child processes
included), all on one pinned core but for ``workers``. Memory is the largest resident set of a process. The corpus is
that of ``corpus.py``; "wrong" is judged by ``pairs.py``, which shares no code with the library: a removed document is
wrong when no kept one has J >= threshold with it, in words as the library finds them. datatrove and text-dedup split
words in their own ways, so a few of their removals are wrong here and right there.

Time: an hour and a half with everything, half of it for the peers; ``--only stages whole --sizes 0.1`` takes two
minutes. Disk: 6 GB.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import importlib.metadata
import itertools
import json
import math
import os
import platform
import secrets
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from peers import install

# This process stays small and loads no library: a child's largest resident set includes what its parent had when it
# was forked. What is measured is imported in the functions at the end, in processes of their own.

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
CACHE = install.FOLDER.parent
SECTIONS = ("stages", "whole", "growth", "workers", "index", "peers")
LADDER = (0.01, 0.03, 0.1, 0.3, 1.0)  # GB, for peers
THREADS = (
    "OMP_NUM_THREADS",
    "POLARS_MAX_THREADS",
    "NUMBA_NUM_THREADS",
    "RAYON_NUM_THREADS",
    "TOKENIZERS_PARALLELISM",
)
AVX2 = {"NUMBA_CPU_NAME": "haswell", "NUMBA_CPU_FEATURES": ""}  # with host features it would still be AVX-512


# ---------------------------------------------------------------------------------------------------------
# Processes
# ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Cost:
    """What a process and its children took; ``failed`` says why there is no result."""

    cpu: float
    wall: float
    memory: int
    out: str = ""
    failed: str = ""


def spend(
    command: Sequence[str],
    *,
    env: Mapping[str, str] | None = None,
    seconds: float = math.inf,
    memory: float = math.inf,
) -> Cost:
    """Runs a command to its end, or until it is over one of the limits."""
    variables = {**os.environ, **dict.fromkeys(THREADS, "1"), "PYTHONPATH": str(ROOT), **(env or {})}
    started = time.perf_counter()
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        child = subprocess.Popen(
            list(command),
            env=variables,
            stdout=out,
            stderr=err,
            cwd=tempfile.gettempdir(),
            start_new_session=True,
        )
        failed = ""
        while True:
            pid, status, usage = os.wait4(child.pid, os.WNOHANG)
            if pid:
                break
            if time.perf_counter() - started > seconds:
                failed = f"more than {seconds / 60:.0f} minutes"
            elif memory < math.inf and _resident(child.pid) > memory:
                failed = f"more than {memory / 1e9:.0f} GB"
            if failed:
                os.killpg(child.pid, signal.SIGKILL)
                _, status, usage = os.wait4(child.pid, 0)
                break
            time.sleep(0.02)
        child.returncode = os.waitstatus_to_exitcode(status)
        out.seek(0)
        err.seek(0)
        if child.returncode and not failed:
            lines = err.read().decode(errors="replace").strip().splitlines()
            failed = lines[-1] if lines else f"exit code {child.returncode}"
        cpu = usage.ru_utime + usage.ru_stime
        text = out.read().decode(errors="replace")
    return Cost(cpu, time.perf_counter() - started, usage.ru_maxrss * 1024, text, failed)


def _resident(pid: int) -> int:
    """Resident bytes of a process and its children; 0 when it is gone."""
    try:
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        own = int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except (OSError, IndexError):
        return 0
    return own + sum(_resident(int(other)) for other in children)


def in_turn(runs: Mapping[str, Callable[[], Cost]], repeats: int) -> dict[str, list[Cost]]:
    """A, B, A, B, ...: whatever else the machine does falls on all of them. A run that fails is not repeated."""
    costs: dict[str, list[Cost]] = {name: [] for name in runs}
    for number in range(repeats):
        for name, run in runs.items():
            if any(cost.failed for cost in costs[name]):
                continue
            note(f"{name} ({number + 1}/{repeats})")
            costs[name].append(run())
    return costs


def note(line: str) -> None:
    print(f"[{time.strftime('%H:%M:%S')}] {line}", file=sys.stderr, flush=True)


def median(values: Iterable[float]) -> float:
    return statistics.median(list(values))


# ---------------------------------------------------------------------------------------------------------
# The bench
# ---------------------------------------------------------------------------------------------------------


@dataclass
class Table:
    """One section of the result, as Markdown and JSON."""

    title: str
    columns: tuple[str, ...]
    rows: list[tuple[str, ...]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def markdown(self) -> str:
        lines = [f"### {self.title}", ""]
        if self.rows:
            lines += ["| " + " | ".join(self.columns) + " |"]
            lines += ["| --- |" + " ---: |" * (len(self.columns) - 1)]
            lines += ["| " + " | ".join(row) + " |" for row in self.rows]
            lines += [""]
        return "\n".join([*lines, *(f"{line}\n" for line in self.notes)])


@dataclass(frozen=True, slots=True)
class Corpus:
    """A grown corpus: its files, and how many bytes of text they hold."""

    label: str
    parts: tuple[str, ...]
    text_bytes: int
    said: tuple[str, ...]

    def speed(self, cost: float) -> float:
        return self.text_bytes / 1e6 / cost


class Bench:
    """Corpora, commands and options of one call."""

    def __init__(self, options: argparse.Namespace) -> None:
        self.options = options
        self.work = Path(tempfile.mkdtemp(prefix="dedup-bench-", dir=options.scratch))
        self.threshold = f"--threshold={options.threshold}"
        self._corpora: dict[tuple[float, int], Corpus] = {}
        self._pairs: dict[str, str] = {}

    def corpus(self, gigabytes: float, files: int = 0) -> Corpus:
        """A corpus of that size, in files of about 100 MB of text; grown again when ``corpus.py`` changes."""
        files = files or max(1, round(gigabytes / 0.1))
        if (gigabytes, files) not in self._corpora:
            digest = hashlib.sha256((HERE / "corpus.py").read_bytes()).hexdigest()[:8]
            label = size_name(gigabytes)
            folder = self.options.data / f"{label.replace(' ', '')}-{files}-{digest}"
            if not (folder / "said.json").exists():
                note(f"growing {label} in {folder}")
                flags = (f"--size={gigabytes * 1e9:.0f}", f"--out={folder}", f"--files={files}", "--json")
                grown = spend([sys.executable, str(HERE / "corpus.py"), *flags])
                if grown.failed:
                    raise SystemExit(f"dedup.py: corpus.py failed: {grown.failed}")
                (folder / "said.json").write_text(grown.out)
            said = json.loads((folder / "said.json").read_text())
            parts = tuple(map(str, sorted(folder.glob("part-*.parquet"))))
            self._corpora[gigabytes, files] = Corpus(label, parts, said["text_bytes"], tuple(said["lines"]))
        return self._corpora[gigabytes, files]

    def job(self, name: str, parts: Sequence[str], *more: str, env: Mapping[str, str] | None = None) -> Cost:
        """One of the functions at the end of this file, in a process."""
        return spend([sys.executable, str(HERE / "dedup.py"), "--job", name, *more, "--", *parts], env=env)

    def command(
        self, parts: Sequence[str], *flags: str, env: Mapping[str, str] | None = None
    ) -> tuple[Cost, Path]:
        """``curate dedup`` into a new folder, which the caller may read and should delete."""
        out = Path(tempfile.mkdtemp(dir=self.work)) / "run"
        known = ["--id", "id", self.threshold, "--out", str(out)]
        engine = [] if "--engine" in flags else ["--engine", "inline"]
        command = [sys.executable, "-m", "curate", "dedup", *parts, *known, *engine, *flags]
        return spend(command, env=env), out

    def warm(self) -> None:
        """Compiles what is not compiled yet: once for each installation, and no part of what is measured."""
        parts = self.corpus(0.001).parts
        for cost in (self.job("library", parts, self.threshold, "--kept"), self.forget(self.command(parts))):
            if cost.failed:
                note(f"warming: {cost.failed}")

    def forget(self, cost_and_out: tuple[Cost, Path]) -> Cost:
        shutil.rmtree(cost_and_out[1].parent, ignore_errors=True)
        return cost_and_out[0]

    def judge(self, corpus: Corpus, kept: Path) -> dict[str, Any]:
        """What is wrong with the documents that a tool kept."""
        script, threshold = [sys.executable, str(HERE / "pairs.py")], self.threshold
        if corpus.label not in self._pairs:
            pairs = Path(corpus.parts[0]).parent / f"pairs-{self.options.threshold}.parquet"
            if not pairs.exists():
                note(f"all pairs of {corpus.label}")
                found = spend([*script, "find", *corpus.parts, threshold, f"--out={pairs}"])
                if found.failed:
                    raise SystemExit(f"dedup.py: pairs.py failed: {found.failed}")
            self._pairs[corpus.label] = str(pairs)
        pairs = f"--pairs={self._pairs[corpus.label]}"
        judged = spend([*script, "judge", *corpus.parts, threshold, pairs, f"--kept={kept}"])
        return {"failed": judged.failed} if judged.failed else json.loads(judged.out)


def size_name(gigabytes: float) -> str:
    return f"{gigabytes * 1000:g} MB" if gigabytes < 1 else f"{gigabytes:g} GB"


def speed_cells(corpus: Corpus, costs: Sequence[Cost]) -> tuple[str, ...]:
    """MB/s, lowest and highest, CPU seconds, wall seconds, memory."""
    if costs[-1].failed:
        return (f"failed: {costs[-1].failed}", "", "", "", "")
    cpu = [cost.cpu for cost in costs]
    return (
        f"{corpus.speed(median(cpu)):,.1f}",
        f"{corpus.speed(max(cpu)):,.1f}-{corpus.speed(min(cpu)):,.1f}",
        f"{median(cpu):,.2f}",
        f"{median(c.wall for c in costs):,.2f}",
        f"{max(c.memory for c in costs) / 1e6:,.0f}",
    )


SPEED = ("MB/CPU-s", "lowest-highest", "CPU s", "wall s", "peak MB")


# -- the sections -------------------------------------------------------------------------------------------------------


def stages(bench: Bench) -> Table:
    corpus = bench.corpus(bench.options.size)
    features = Path("/proc/cpuinfo").read_text()
    own = "AVX-512" if "avx512bw" in features else "AVX2" if "avx2" in features else "this CPU"
    variants: dict[str, dict[str, str]] = {own: {}}
    if own == "AVX-512":
        variants["AVX2"] = {**AVX2, "NUMBA_CACHE_DIR": str(CACHE / "numba-avx2")}
    for env in variants.values():
        bench.job("stages", bench.corpus(LADDER[0]).parts, env=env)  # compiles
    costs = in_turn(
        {name: lambda env=env: bench.job("stages", corpus.parts, env=env) for name, env in variants.items()},
        bench.options.repeats,
    )
    table = Table(f"Stages, {corpus.label}, one core", ("stage", "code", "MB/CPU-s", "share of decoding"))
    for name, runs in costs.items():
        if runs[-1].failed:
            table.notes.append(f"{name}: {runs[-1].failed}")
            continue
        seconds = [json.loads(run.out) for run in runs]
        for stage in seconds[0]:
            share = median(run["decode"] / run[stage] for run in seconds)
            speed = corpus.speed(median(run[stage] for run in seconds))
            table.rows.append((stage, name, f"{speed:,.0f}", f"{share:.0%}"))
        fresh = {**variants[name], "NUMBA_CACHE_DIR": str(bench.work / f"numba-{name}")}
        vectors = bench.job("vectors", (), env=fresh)
        table.notes.append(
            f"{name}: widest registers in the signatures' machine code: {vectors.out.strip()}."
        )
    table.notes.append(
        "decode: row groups of the corpus' own file, zstd Parquet, column text, one thread. The text of a row group is "
        "in memory when the other stages read it. Floor for signatures: 80 % of decode with AVX-512, 55 % with AVX2; "
        "goal: 100 %."
    )
    return table


def whole(bench: Bench) -> Table:
    corpus = bench.corpus(bench.options.size)
    tiny = bench.corpus(LADDER[0])
    runs: dict[str, Callable[[], Cost]] = {
        "read the file, nothing else": lambda: bench.job("decode", corpus.parts),
        "dedup(table), decisions": lambda: bench.job("library", corpus.parts, bench.threshold),
        "dedup(table), decisions and kept": lambda: bench.job(
            "library", corpus.parts, bench.threshold, "--kept"
        ),
        "curate dedup --no-kept": lambda: bench.forget(bench.command(corpus.parts, "--no-kept")),
        "curate dedup": lambda: bench.forget(bench.command(corpus.parts)),
    }
    costs = in_turn(runs, bench.options.repeats)
    start = in_turn(
        {
            "library": lambda: bench.job("library", tiny.parts, bench.threshold, "--rows", "10"),
            "command": lambda: spend([sys.executable, "-m", "curate", "dedup", "--help"]),
        },
        bench.options.repeats,
    )
    table = Table(f"Whole processes, {corpus.label}, one core", ("what", *SPEED))
    table.rows += [(name, *speed_cells(corpus, runs)) for name, runs in costs.items()]
    table.notes += [
        f"Starting, imports and loading of compiled kernels are included: {median(c.cpu for c in start['library']):.2f} "
        f"CPU s (dedup of ten rows); `curate dedup --help` alone {median(c.cpu for c in start['command']):.2f}.",
        "Floors at 1 GB: decisions 200, with kept zstd-1 Parquet 130 MB/CPU-s; goals 300 and 200; peak memory 2,000 MB.",
        *corpus.said,
    ]
    return table


def growth(bench: Bench) -> Table:
    start = bench.corpus(0.001)
    corpora = [start, *(bench.corpus(size) for size in bench.options.sizes)]
    tools: dict[str, Callable[[Corpus], Cost]] = {
        "dedup(table), decisions": lambda c: bench.job("library", c.parts, bench.threshold),
        "curate dedup --no-kept": lambda c: bench.forget(bench.command(c.parts, "--no-kept")),
        "curate dedup": lambda c: bench.forget(bench.command(c.parts)),
    }
    columns = (
        "what",
        *(c.label for c in corpora),
        "exponent",
        "of whole processes",
        "peak MB at the largest",
    )
    table = Table("Growth, one core, CPU s", columns)
    for name, tool in tools.items():
        runs = {f"{name}, {c.label}": lambda c=c, tool=tool: tool(c) for c in corpora}
        costs = in_turn(runs, bench.options.repeats)
        failed = [f"{run}: {cost[-1].failed}" for run, cost in costs.items() if cost[-1].failed]
        if failed:
            table.notes += failed
            continue
        cpu = [median(c.cpu for c in runs) for runs in costs.values()]
        sizes = [c.text_bytes for c in corpora[1:]]
        slopes = (exponent(sizes, [c - cpu[0] for c in cpu[1:]]), exponent(sizes, cpu[1:]))
        peak = max(c.memory for c in list(costs.values())[-1]) / 1e6
        speeds = (f"{s:,.2f} ({c.speed(s):,.0f} MB/s)" for c, s in zip(corpora[1:], cpu[1:], strict=True))
        table.rows.append((name, f"{cpu[0]:.2f}", *speeds, *(f"{s:.3f}" for s in slopes), f"{peak:,.0f}"))
    table.notes.append(
        f"Exponents: least squares of log cost on log size; the first of the cost beyond that of {start.label}, which is "
        "start-up. Allowed: 1.1."
    )
    return table


def exponent(sizes: Sequence[float], costs: Sequence[float]) -> float:
    """Slope of log cost over log size.

    >>> round(exponent([1, 10, 100], [2, 20, 200]), 6)
    1.0
    """
    if len(sizes) < 2 or min(costs) <= 0:
        return math.nan
    x, y = [math.log(s) for s in sizes], [math.log(c) for c in costs]
    return statistics.linear_regression(x, y).slope


def workers(bench: Bench) -> Table:
    corpus = bench.corpus(max(bench.options.sizes))
    steps: dict[str, list[dict[str, float]]] = {"1": [], "2": []}
    starts: dict[str, list[float]] = {"1": [], "2": []}

    token = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32)}  # Ray lets in who has it

    def run(count: str) -> Cost:
        with cluster(int(count), token) as (address, seconds):
            flags = ("--engine", "ray", "--workers", count, "--ray-address", address)
            cost, out = bench.command(corpus.parts, *flags, env=token)
        if not cost.failed:
            log = (out / "log" / "run.jsonl").read_text().splitlines()
            steps[count].append(step_times([json.loads(line) for line in log]))
            starts[count].append(seconds)
        return bench.forget((cost, out))

    os.sched_setaffinity(0, bench.options.cores)
    try:
        costs = in_turn({f"{n} worker(s)": lambda n=n: run(n) for n in steps}, bench.options.repeats)
    finally:
        os.sched_setaffinity(0, {bench.options.core})
    table = Table(f"Workers, curate dedup on Ray, {corpus.label}, wall seconds", ("step", "1", "2", "faster"))
    failed = [f"{name}: {runs[-1].failed}" for name, runs in costs.items() if runs[-1].failed]
    if failed:
        table.notes += failed
        return table
    names = list(dict.fromkeys(name for runs in steps.values() for times in runs for name in times))
    rows = {name: [median(times.get(name, 0.0) for times in steps[n]) for n in steps] for name in names}
    rows["**all steps**"] = [median(sum(times.values()) for times in steps[n]) for n in steps]
    rows["the command, start to exit"] = [median(cost.wall for cost in runs) for runs in costs.values()]
    for name, (one, two) in rows.items():
        table.rows.append((name, f"{one:.2f}", f"{two:.2f}", f"{one / two:.2f} x" if two else ""))
    table.rows.append(("start of Ray, apart", *(f"{median(starts[n]):.2f}" for n in starts), ""))
    table.notes.append(
        f"On {len(bench.options.cores)} cores, which the driver and Ray's own processes share. The start of "
        "workers is apart, their loading of kernels is part of the steps. Floor at 3 GB: 1.6 x for all steps."
    )
    return table


@contextlib.contextmanager
def cluster(workers: int, token: Mapping[str, str]) -> Iterator[tuple[str, float]]:
    """A Ray cluster on this machine, in a process that ends it: its address, and the seconds its start took."""
    env = {**os.environ, **dict.fromkeys(THREADS, "1"), **token, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, str(HERE / "dedup.py"), "--job", "cluster", "--rows", str(workers)]
    with subprocess.Popen(
        command, env=env, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    ) as holder:
        try:
            said = json.loads(holder.stdout.readline() or "{}")
            if not said:
                raise SystemExit("dedup.py: Ray did not start")
            yield said["address"], said["seconds"]
        finally:
            holder.stdin.close()


def step_times(log: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    """Wall seconds of each step of a run, from the beginning of its first part to the end of its last.

    So the start of Ray and of its workers, which happens inside the first step, is left out.

    >>> step_times([{"event": "start"}, {"step": "measure", "seconds": 3.0}, {"step": "group", "run": 0}])
    {'measure': 3.0}
    """
    times: dict[str, float] = {}
    for line in log:
        if "step" in line and "seconds" in line:
            parts = line.get("parts_run") or [{"time": 0.0, "seconds": line["seconds"]}]
            took = max(p["time"] + p["seconds"] for p in parts) - min(p["time"] for p in parts)
            times[line["step"]] = times.get(line["step"], 0.0) + took
    return times


def index(bench: Bench) -> Table:
    corpus = bench.corpus(bench.options.index_size, 11)
    old, new = corpus.parts[:10], corpus.parts[10:]
    share = Corpus(corpus.label, new, round(corpus.text_bytes * len(new) / len(corpus.parts)), ())
    kept = bench.work / "index"
    note(f"index of {len(old)} files")
    built = bench.forget(bench.command(old, "--index", str(kept), "--no-kept"))

    def extend() -> Cost:
        copy = bench.work / "index-copy"
        shutil.rmtree(copy, ignore_errors=True)
        shutil.copytree(kept, copy)
        return bench.forget(bench.command(new, "--index", str(copy), "--no-kept"))

    table = Table(
        f"Index, {len(new)} of {len(corpus.parts)} files of {corpus.label}, one core", ("what", *SPEED)
    )
    if built.failed:
        table.notes.append(f"building: {built.failed}")
        return table
    costs = in_turn(
        {"alone": lambda: bench.forget(bench.command(new, "--no-kept")), "with --index": extend},
        bench.options.repeats,
    )
    table.rows += [(name, *speed_cells(share, runs)) for name, runs in costs.items()]
    if not any(runs[-1].failed for runs in costs.values()):
        pairs = zip(costs["alone"], costs["with --index"], strict=True)
        size = sum(p.stat().st_size for p in kept.rglob("*") if p.is_file())
        table.notes += [
            f"With the index at {median(a.cpu / b.cpu for a, b in pairs):.0%} of the speed alone (floor: 80 %). "
            f"The index of the first {len(old)} files has {size / 1e6:,.0f} MB; making it took {built.cpu:.1f} CPU s."
        ]
    return table


def peers(bench: Bench) -> Table:
    options = bench.options
    bands = json.loads(spend([sys.executable, str(HERE / "dedup.py"), "--job", "bands", bench.threshold]).out)
    table = Table(
        f"Peers: word 5-grams, {bands['bands']} bands of {bands['rows']}, threshold {options.threshold}",
        ("tool", "text", *SPEED, "ours is faster", "removed", "wrong", "J < 0.5", "short", "recall"),
    )
    options.peers.mkdir(parents=True, exist_ok=True)
    ladder = [size for size in LADDER if size <= options.largest]
    at: dict[float, list[str]] = {ladder[0]: []}
    for peer in install.PEERS:
        if not install.installed(options.peers, peer):
            note(f"installing {peer}")
        reason = install.install(options.peers, peer, install.pythons(options.peer_python))
        if reason:
            table.notes.append(f"{peer} does not install: {reason}")
            continue
        fits, failed = largest_size(bench, peer, bands, ladder)
        table.notes += [failed] if failed else []
        for size in {ladder[0], fits} - {0.0}:
            at.setdefault(size, []).append(peer)
    for size, names in sorted(at.items()):
        compare(bench, table, bench.corpus(size), names, bands)
    table.notes += [
        "Every tool reads the same Parquet files and writes the kept documents (text-dedup as Arrow). rensa and datasketch "
        "get their word 5-grams from Python and remove a document whose estimate with a kept one reaches the threshold; "
        "datatrove and text-dedup run their own pipelines, which remove whatever is connected by buckets.",
        "wrong: removed without a kept document of J >= threshold; J < 0.5: of these, without one of J >= 0.5; short: of "
        "fewer than five words; recall: share of the redundancy (documents less connected components at the threshold) "
        "that is gone; ours is faster: CPU seconds of the tool over those of dedup(table).",
        f"Each peer at {size_name(ladder[0])}, and at the largest of {', '.join(map(size_name, ladder))} at which it needs "
        f"under {options.peer_seconds / 60:.0f} minutes of CPU time and {options.peer_memory / 1e9:.0f} GB.",
    ]
    return table


def largest_size(
    bench: Bench, peer: str, bands: Mapping[str, int], ladder: Sequence[float]
) -> tuple[float, str]:
    """GB at which the peer stays below the limits, or 0; and how it failed at the next size, or "".

    The run of one size decides whether the next one is tried: cost and memory grow with the size.
    """
    fits = 0.0
    for size, following in itertools.zip_longest(ladder, ladder[1:], fillvalue=math.inf):
        corpus = bench.corpus(size)
        note(f"{peer}, {corpus.label}?")
        cost = bench.forget(run_peer(bench, peer, corpus, bands))
        if cost.failed:
            return fits, f"{peer} at {corpus.label}: {cost.failed}"
        if cost.cpu > bench.options.peer_seconds:
            return fits, ""
        fits, grown = size, following / size
        if cost.cpu * grown > bench.options.peer_seconds:
            return fits, ""
        if (cost.memory - 2e8) * grown > bench.options.peer_memory:  # 200 MB: libraries
            return fits, ""
    return fits, ""


def compare(
    bench: Bench, table: Table, corpus: Corpus, names: Sequence[str], bands: Mapping[str, int]
) -> None:
    """Adds a row for ours and for each of these peers, run in turn and judged."""
    kept: dict[str, Path] = {}

    def library() -> Cost:
        kept["dedup(table)"] = out = Path(tempfile.mkdtemp(dir=bench.work))
        return bench.job("library", corpus.parts, bench.threshold, "--kept", f"--out={out}")

    def command() -> Cost:
        cost, out = bench.command(corpus.parts)
        kept["curate dedup"] = out / "kept"
        return cost

    def other(peer: str) -> Cost:
        cost, out = run_peer(bench, peer, corpus, bands)
        kept[peer] = out / "kept" if (out / "kept").exists() else out
        return cost

    runs: dict[str, Callable[[], Cost]] = {"dedup(table)": library, "curate dedup": command}
    runs |= {peer: lambda peer=peer: other(peer) for peer in names}
    costs = in_turn(runs, bench.options.repeats)
    for name, spent in costs.items():
        title = f"{name} {version_of(name)}" if name in install.PEERS else name
        cells = (title, corpus.label, *speed_cells(corpus, spent))
        found = {"failed": ""} if spent[-1].failed else bench.judge(corpus, kept[name])
        if "failed" in found:
            table.rows.append((*cells, *[""] * 6))
            table.notes += (
                [f"{title} at {corpus.label} was not judged: {found['failed']}"] if found["failed"] else []
            )
            continue
        faster = ""
        if name in names and not costs["dedup(table)"][-1].failed:
            pairs = zip(costs["dedup(table)"], spent, strict=True)
            faster = f"{median(theirs.cpu / ours.cpu for ours, theirs in pairs):.1f} x"
        counts = (f"{found[n]:,}" for n in ("removed", "wrong", "wrong_far", "wrong_short"))
        table.rows.append((*cells, faster, *counts, f"{found['recall']:.4f}"))


def run_peer(bench: Bench, peer: str, corpus: Corpus, bands: Mapping[str, int]) -> tuple[Cost, Path]:
    out = Path(tempfile.mkdtemp(dir=bench.work)) / "out"
    out.mkdir()
    python = install.python_of(bench.options.peers, peer)
    script = HERE / "peers" / f"run_{peer.replace('-', '_')}.py"
    search = (bench.threshold, f"--bands={bands['bands']}", f"--rows={bands['rows']}")
    cost = spend(
        [str(python), str(script), *corpus.parts, f"--out={out}", *search],
        env={"HF_HOME": str(out / "hf"), "HF_HUB_OFFLINE": "1", "PYTHONPATH": ""},
        seconds=3 * bench.options.peer_seconds,  # of wall time; the limit itself is CPU time
        memory=bench.options.peer_memory,
    )
    return cost, out


def version_of(peer: str) -> str:
    return next(r.split("==")[1] for r in install.PEERS[peer][1] if r.split("[")[0].startswith(peer))


# ---------------------------------------------------------------------------------------------------------
# The table
# ---------------------------------------------------------------------------------------------------------


def machine() -> list[str]:
    """CPU, memory and versions."""
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    pairs = (line.split(":", 1) for line in lines if ":" in line)
    values = {key.strip(): value.strip() for key, value in pairs}
    flags = values.get("flags", "").split()
    features = [f for f in ("sse4_2", "avx2", "avx512f", "avx512bw", "avx512_vbmi2") if f in flags]
    total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    libraries = ("numpy", "numba", "llvmlite", "pyarrow", "polars", "ray", "xxhash")
    return [
        f"{values.get('model name', platform.processor())} (family {values.get('cpu family', '?')}, model "
        f"{values.get('model', '?')}), {os.cpu_count()} CPUs, {', '.join(features)}; {total:.0f} GiB; "
        f"load before: {os.getloadavg()[0]:.1f}",
        f"Python {platform.python_version()}, "
        + ", ".join(f"{name} {importlib.metadata.version(name)}" for name in libraries),
    ]


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    sizes = [0.1, 0.3, 1.0, 3.0]
    parser.add_argument(
        "--only", nargs="+", choices=SECTIONS, default=SECTIONS, help="sections (default: all)"
    )
    parser.add_argument(
        "--size", type=float, help="GB for stages and whole (default: 1, or the largest of --sizes)"
    )
    parser.add_argument(
        "--sizes", type=float, nargs="+", default=sizes, help="GB for growth, the largest for workers"
    )
    parser.add_argument(
        "--index-size", type=float, help="GB for index, a tenth of it new (default: 1.1 times --size)"
    )
    parser.add_argument("--largest", type=float, default=max(LADDER), help="GB: no peer is tried with more")
    parser.add_argument("--peer-seconds", type=float, default=300, help="limit of a peer's run, CPU time")
    parser.add_argument("--peer-memory", type=float, default=8e9, help="limit of a peer's run, bytes")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--threshold", type=float, default=0.8)
    parser.add_argument("--core", type=int, help="where to run (default: the last one)")
    parser.add_argument("--data", type=Path, default=CACHE / "corpus", help="where grown corpora are kept")
    parser.add_argument("--scratch", type=Path, help="where runs are written (default: the system's)")
    parser.add_argument("--peers", type=Path, default=install.FOLDER, help="the peers' environments")
    parser.add_argument("--peer-python", help="an interpreter for peers that need a newer one than this")
    parser.add_argument("--json", type=Path, help="write the tables there, too")
    options = parser.parse_args()
    options.size = options.size or min(1.0, max(options.sizes))
    options.index_size = options.index_size or 1.1 * options.size
    options.sizes = sorted(options.sizes)
    options.data, options.peers = options.data.resolve(), options.peers.absolute()
    options.cores = os.sched_getaffinity(0)
    options.core = max(options.cores) if options.core is None else options.core
    return options


def main() -> None:
    options = parse()
    os.sched_setaffinity(0, {options.core})
    options.data.mkdir(parents=True, exist_ok=True)
    about = [time.strftime("%Y-%m-%d"), *machine()]
    print("\n".join(["## Deduplication", "", *(f"{line}  " for line in about)]), flush=True)
    bench = Bench(options)
    bench.warm()
    tables = []
    sections = (stages, whole, growth, workers, index, peers)
    try:
        for section in (section for section in sections if section.__name__ in options.only):
            started = time.perf_counter()
            tables.append(section(bench))
            print(f"\n{tables[-1].markdown()}", flush=True)
            note(f"{section.__name__}: {time.perf_counter() - started:,.0f} s")
    finally:
        shutil.rmtree(bench.work, ignore_errors=True)
    if options.json:
        document = {"machine": about, "tables": [asdict(table) for table in tables]}
        options.json.write_text(json.dumps(document, indent=1, ensure_ascii=False) + "\n")


# ---------------------------------------------------------------------------------------------------------
# Jobs: each is a process of its own
# ---------------------------------------------------------------------------------------------------------


def job_bands(parts: Sequence[str], options: argparse.Namespace) -> None:
    from curate.minhash import choose_bands

    bands = choose_bands(options.threshold)
    print(json.dumps({"bands": bands.bands, "rows": bands.rows}))


def job_decode(parts: Sequence[str], options: argparse.Namespace) -> None:
    import pyarrow.parquet as pq

    for part in parts:
        file = pq.ParquetFile(part)
        for group in range(file.num_row_groups):
            file.read_row_group(group, columns=["id", "text"], use_threads=False)


def job_stages(parts: Sequence[str], options: argparse.Namespace) -> None:
    """CPU seconds of each stage over all row groups, loading of kernels left out; prints them as JSON."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    from curate import minhash
    from filters.fingerprint import fingerprints
    from filters.words import count_words

    bands = minhash.choose_bands(0.8)
    run: dict[str, Callable[[pa.ChunkedArray], object]] = {
        "signatures (128)": minhash.signatures,
        f"search keys ({bands.bands} x {bands.rows})": lambda texts: minhash.sketch(
            texts, bands=bands, ngram=5
        ),
        "fingerprints": fingerprints,
        "words": count_words,
    }
    for stage in run.values():
        stage(pa.chunked_array([["some words in a text", None]], pa.string()))
    seconds = dict.fromkeys(("decode", *run), 0.0)
    for part in parts:
        file = pq.ParquetFile(part)
        for group in range(file.num_row_groups):
            started = time.process_time()
            texts = file.read_row_group(group, columns=["text"], use_threads=False)["text"]
            seconds["decode"] += time.process_time() - started
            for name, stage in run.items():
                started = time.process_time()
                stage(texts)
                seconds[name] += time.process_time() - started
    print(json.dumps(seconds))


def job_vectors(parts: Sequence[str], options: argparse.Namespace) -> None:
    """The widest registers in the machine code of the signatures. Needs an empty cache: loaded code has no text."""
    import pyarrow as pa

    from curate import minhash

    minhash.signatures(pa.array(["some words in a text"]))
    kernels = (kernel for kernel in vars(minhash).values() if hasattr(kernel, "inspect_asm"))
    code = "".join(text for kernel in kernels for text in kernel.inspect_asm().values())
    print(
        next(
            (
                f"{name} ({bits} bits)"
                for name, bits in (("zmm", 512), ("ymm", 256), ("xmm", 128))
                if name in code
            ),
            "unknown",
        )
    )


def job_library(parts: Sequence[str], options: argparse.Namespace) -> None:
    """What a user writes: read, deduplicate, write."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    from curate import dedup

    # pq.read_table would load pyarrow.dataset for it: 0.2 s that the peers do not spend either
    table = pa.concat_tables([pq.ParquetFile(part).read(use_threads=False) for part in parts])
    if options.rows:
        table = table.slice(0, options.rows)
    found = dedup(table, id="id", threshold=options.threshold)
    with tempfile.TemporaryDirectory() as folder:
        out = options.out or Path(folder)
        pq.write_table(found.decisions, Path(folder) / "decisions.parquet", compression="zstd")
        if options.kept:
            found.write_kept(out / "kept.parquet")


def job_cluster(parts: Sequence[str], options: argparse.Namespace) -> None:
    """A Ray cluster of as many CPUs as ``--rows`` says, until standard input ends."""
    import ray

    said, sys.stdout = sys.stdout, sys.stderr  # Ray prints, too
    with tempfile.TemporaryDirectory(prefix="cm-ray-") as folder:
        started = time.perf_counter()
        context = ray.init(
            address="local",
            num_cpus=options.rows,
            include_dashboard=False,
            object_store_memory=256 << 20,
            _temp_dir=folder,
        )
        address = context.address_info["gcs_address"]
        print(
            json.dumps({"address": address, "seconds": time.perf_counter() - started}), file=said, flush=True
        )
        sys.stdin.read()
        ray.shutdown()


def job() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--job")
    parser.add_argument("--threshold", type=float, default=0.8)
    parser.add_argument("--kept", action="store_true")
    parser.add_argument("--rows", type=int, default=0)
    parser.add_argument("--out", type=Path)
    parser.add_argument("parts", nargs="*")
    options = parser.parse_args()
    jobs = {
        "bands": job_bands,
        "cluster": job_cluster,
        "decode": job_decode,
        "stages": job_stages,
        "vectors": job_vectors,
        "library": job_library,
    }
    jobs[options.job](options.parts, options)


if __name__ == "__main__":
    job() if "--job" in sys.argv else main()
