"""Speed of the kernels and of plan access on one core, with versions: ``python tests/benchmarks/kernels.py``.

Prints medians of repeated runs in megabytes of UTF-8 text (or items) per CPU-second, on the sample documents repeated to
about 60 MB, or on the text column of a Parquet file given as argument. Compilation is done before the clock starts.
"""

from __future__ import annotations

import os

for name in ("OMP_NUM_THREADS", "POLARS_MAX_THREADS", "NUMBA_NUM_THREADS", "RAYON_NUM_THREADS"):
    os.environ[name] = "1"  # before the libraries are loaded

import importlib.metadata
import platform
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from curate.deduplication import dedup
from curate.measurement import content_hashes
from curate.minhash import signatures
from curate.overlap import Index, overlaps
from curate.sources import Source, find_files, read_records
from filters.language import detect_language
from filters.normalization import Normalize, normalize
from filters.quality import score_quality, train_quality
from filters.signals import text_signals
from filters.words import count_words
from mixtures.packing import assign_rows
from mixtures.plan import plan_of

ROOT = Path(__file__).parents[2]
REPEATS = 5
MEGABYTE = 1e6


def sample_texts() -> pa.ChunkedArray:
    """Texts of the sample documents that have a text column of their own."""
    texts = []
    for path in sorted((ROOT / "tests" / "data" / "documents").glob("*.*")):
        source = Source(path=str(path))
        for file in find_files(path.stem, source):
            texts += [records.table["field:text"] for records in read_records(file, source.columns)]
    return pa.chunked_array([chunk for column in texts for chunk in column.chunks])


def cpu_seconds(run: Callable[[], object]) -> float:
    """Median CPU time of a few runs, after one that is not counted."""
    run()
    times = []
    for _ in range(REPEATS):
        start = time.process_time()
        run()
        times.append(time.process_time() - start)
    return statistics.median(times)


def main() -> None:
    os.sched_setaffinity(0, {sorted(os.sched_getaffinity(0))[0]})
    texts = pq.read_table(sys.argv[1], columns=["text"])["text"] if len(sys.argv) > 1 else sample_texts()
    small = texts.combine_chunks()
    size = sum(len(t.encode()) for t in small.to_pylist()) / MEGABYTE
    times = max(1, round(60 / size))
    large = pa.chunked_array([small] * times).combine_chunks()
    print(f"Python {platform.python_version()}, " + ", ".join(f"{n} {importlib.metadata.version(n)}" for n in ("numpy", "numba", "pyarrow", "py3langid", "fasttext-numpy2-wheel")))  # fmt: skip
    print(f"{len(large):,} documents, {size * times:.0f} MB; median of {REPEATS}, one core, CPU time\n")
    halves = {side: pa.chunked_array([small[i::2]]) for side, i in (("positives", 0), ("negatives", 1))}
    items = pa.table({"id": ["a"], "source": ["b"], "text": [" ".join(str(i) for i in range(40))]})
    index = Index.build(items)
    with tempfile.TemporaryDirectory() as folder:
        model = Path(folder) / "model.bin"
        train_quality(halves["positives"], halves["negatives"], out=model, seed=0, bucket=2000, epochs=1)
        for name, column, run in (
            ("words", large, count_words),
            ("Gopher signals", large, lambda c: text_signals(c, groups=("gopher",))),
            ("Gopher repetition signals", large, lambda c: text_signals(c, groups=("gopher_repetition",))),
            ("MinHash signatures (128)", large, signatures),
            ("overlap with evaluation items", large, lambda c: overlaps(c, index)),
            ("content fingerprint", large, content_hashes),
            ("normalisation (NFC, line ends)", large, lambda c: normalize(c, Normalize())),
            ("duplicates, whole", small, lambda c: dedup(pa.table({"text": c}))),
            ("language", small, detect_language),
            ("fastText quality score", small, lambda c: score_quality(c, model)),
        ):
            megabytes = size * (times if column is large else 1)
            print(
                f"{name:<32}{megabytes / cpu_seconds(lambda run=run, column=column: run(column)):>10,.0f} MB/s"
            )
    plan = plan_of(
        {f"leaf{i}": 1000 + i for i in range(2000)},
        {f"leaf{i}": 1.0 + i % 7 for i in range(2000)},
        seed=1,
        examples=2 * 10**12,
    )
    print(f"{'plan, 2,000 leaves: one index':<32}{1e3 * cpu_seconds(lambda: plan[10**12]):>10.2f} ms")
    print(
        f"{'plan: 1M indices at 10^12':<32}{cpu_seconds(lambda: plan.block(10**12, 10**12 + 10**6)):>10.2f} s"
    )
    lengths = np.random.default_rng(0).integers(8, 500, 1024)
    print(
        f"{'packing a window of 1,024':<32}{1024 / cpu_seconds(lambda: assign_rows(lengths, length=1024)):>10,.0f} examples/s"
    )


if __name__ == "__main__":
    main()
