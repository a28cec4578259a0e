"""text-dedup's own command (``python -m text_dedup.minhash``), with its defaults but for n-gram and bands."""

from __future__ import annotations

import datasets
import pyarrow as pa
import pyarrow.parquet as pq
from documents import arguments
from text_dedup.minhash import main as minhash


def main() -> None:
    options = arguments()
    out = options.out / "saved"
    flags = {
        "--path": "parquet",
        "--data_files": str(options.parts[0].parent / "part-*.parquet"),
        "--split": "train",
        "--cache_dir": str(options.out / "cache"),
        "--output": str(out),
        "--column": "text",
        "--ngram": "5",
        "--threshold": str(options.threshold),
        "--num_perm": str(options.bands * options.rows),
        "--b": str(options.bands),
        "--r": str(options.rows),
        "--num_proc": "1",
        "--batch_size": "10000",
    }
    minhash([word for flag in flags.items() for word in flag], standalone_mode=False)
    ids = datasets.load_from_disk(str(out)).data.column("id")
    (options.out / "kept").mkdir()
    pq.write_table(pa.table({"id": ids}), options.out / "kept" / "ids.parquet")


if __name__ == "__main__":
    main()
