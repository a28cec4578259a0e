"""What the peers' scripts share: documents in, word shingles, kept documents out. Needs pyarrow alone."""

from __future__ import annotations

import argparse
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

BATCH_ROWS = 1024

_UNSPACED = (
    "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u2e80-\u312f\u3190-\u9fff\ua9e0-\ua9ff\uaa60-\uaa7f\uf900-\ufaff"
    "\uff66-\uff9f\U0001aff0-\U0001b16f\U00020000-\U0003ffff"
)
_WORD = re.compile(rf"[^\W{_UNSPACED}]+|\w")  # a character of a script without spaces is a word


def arguments() -> argparse.Namespace:
    """parts, out, threshold, bands, rows: the same for every peer."""
    parser = argparse.ArgumentParser()
    parser.add_argument("parts", type=Path, nargs="+")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--threshold", type=float, required=True)
    parser.add_argument("--bands", type=int, required=True)
    parser.add_argument("--rows", type=int, required=True)
    return parser.parse_args()


def read(parts: Sequence[Path], columns: Sequence[str] | None = None) -> Iterator[pa.RecordBatch]:
    for part in parts:
        yield from pq.ParquetFile(part).iter_batches(BATCH_ROWS, columns=columns)


def shingles(text: str) -> list[str]:
    """Word 5-grams of a text, folded; a shorter text is one shingle, and one without words is itself."""
    words = _WORD.findall(text.lower())
    if len(words) < 5:
        return [" ".join(words) or " ".join(text.split())]
    return [" ".join(five) for five in zip(words, words[1:], words[2:], words[3:], words[4:], strict=False)]


def write_kept(parts: Sequence[Path], kept: Sequence[bool], out: Path) -> None:
    """The kept documents with all their columns, as zstd-1 Parquet."""
    out.mkdir(parents=True, exist_ok=True)
    first = 0
    writer = None
    for batch in read(parts):
        writer = writer or pq.ParquetWriter(
            out / "kept.parquet", batch.schema, compression="zstd", compression_level=1, use_dictionary=False
        )
        writer.write_batch(batch.filter(pa.array(kept[first : first + len(batch)])))
        first += len(batch)
    if writer:
        writer.close()
