"""datatrove's four MinHash stages with the local executor, one task each (as many as bands in the second)."""

from __future__ import annotations

from datatrove.executor.local import LocalPipelineExecutor
from datatrove.pipeline.dedup import MinhashDedupCluster, MinhashDedupFilter, MinhashDedupSignature
from datatrove.pipeline.dedup.minhash import MinhashConfig, MinhashDedupBuckets
from datatrove.pipeline.readers import ParquetReader
from datatrove.pipeline.writers import ParquetWriter
from documents import arguments


def main() -> None:
    options = arguments()
    config = MinhashConfig(n_grams=5, num_buckets=options.bands, hashes_per_bucket=options.rows)
    folder = str(options.parts[0].parent)
    work = options.out / "work"
    reader = ParquetReader(folder, glob_pattern="part-*.parquet", text_key="text", id_key="id")
    stages = (
        ([reader, MinhashDedupSignature(f"{work}/signatures", config=config)], 1),
        ([MinhashDedupBuckets(f"{work}/signatures", f"{work}/buckets", config=config)], options.bands),
        ([MinhashDedupCluster(f"{work}/buckets", f"{work}/removed", config=config)], 1),
        (
            [
                reader,
                MinhashDedupFilter(f"{work}/removed"),
                ParquetWriter(str(options.out / "kept"), compression="zstd"),
            ],
            1,
        ),
    )
    for number, (pipeline, tasks) in enumerate(stages):
        LocalPipelineExecutor(pipeline, tasks=tasks, workers=1, logging_dir=f"{work}/log{number}").run()


if __name__ == "__main__":
    main()
