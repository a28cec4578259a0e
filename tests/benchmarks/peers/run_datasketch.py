"""datasketch in its fastest form: MinHash.bulk (affine32), MinHashLSH, then the estimate of each candidate."""

from __future__ import annotations

from datasketch import MinHash, MinHashLSH
from documents import arguments, read, shingles, write_kept


def main() -> None:
    options = arguments()
    permutations = options.bands * options.rows
    index = MinHashLSH(
        threshold=options.threshold, num_perm=permutations, params=(options.bands, options.rows)
    )
    leaders: dict[int, MinHash] = {}
    kept: list[bool] = []
    for batch in read(options.parts, ["text"]):
        sets = [[shingle.encode() for shingle in shingles(text)] for text in batch.column(0).to_pylist()]
        for signed in MinHash.bulk(sets, num_perm=permutations, scheme="affine32"):
            candidates = index.query(signed)
            kept.append(not any(signed.jaccard(leaders[c]) >= options.threshold for c in candidates))
            if kept[-1]:
                leaders[len(kept) - 1] = signed
                index.insert(len(kept) - 1, signed, check_duplication=False)
    write_kept(options.parts, kept, options.out)


if __name__ == "__main__":
    main()
