"""rensa as its README uses it: RMinHash of token sets, RMinHashLSH, then the estimate of each candidate."""

from __future__ import annotations

from documents import arguments, read, shingles, write_kept
from rensa import RMinHash, RMinHashLSH


def main() -> None:
    options = arguments()
    permutations = options.bands * options.rows
    index = RMinHashLSH(options.threshold, permutations, options.bands)
    hashes: list[RMinHash] = []
    for batch in read(options.parts, ["text"]):
        sets = [shingles(text) for text in batch.column(0).to_pylist()]
        signed = RMinHash.from_token_sets(sets, permutations, 1)
        index.insert_many(signed, len(hashes))
        hashes += signed
    kept = [True] * len(hashes)
    for row, candidates in enumerate(index.query_all(hashes)):
        kept[row] = not any(
            other < row and kept[other] and hashes[row].jaccard(hashes[other]) >= options.threshold
            for other in candidates
        )
    write_kept(options.parts, kept, options.out)


if __name__ == "__main__":
    main()
