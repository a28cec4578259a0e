"""Real texts for the tests of kernels."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zstandard

DOCUMENTS = Path(__file__).parents[1] / "data" / "documents"


@pytest.fixture(scope="session")
def sample_texts() -> list[str]:
    """The texts of tests/data/documents, in many languages and scripts; those of CSV, which are sentences, left out."""
    texts: list[str] = []
    for path in sorted(DOCUMENTS.rglob("*.*")):
        if path.suffix == ".parquet":
            texts += pq.read_table(path, columns=["text"])["text"].to_pylist()
        elif path.suffix == ".arrow":
            data = path.read_bytes()
            is_file = data.startswith(b"ARROW1")  # the others are streams
            reader = pa.ipc.open_file(data) if is_file else pa.ipc.open_stream(data)
            texts += reader.read_all()["text"].to_pylist()
        elif path.suffix == ".txt":
            texts.append(path.read_text(encoding="utf-8"))
        elif ".jsonl" in path.name:
            data = path.read_bytes()
            if path.suffix == ".gz":
                data = gzip.decompress(data)
            elif path.suffix == ".zst":
                data = zstandard.ZstdDecompressor().decompressobj().decompress(data)
            texts += [json.loads(line)["text"] for line in data.decode().split("\n") if line]
    return texts
