"""How much a text reads like chosen good text: a fastText classifier, trained and applied. Its only door.

    positive     a text of the kind one wants           __label__hq
    negative     a text of the kind one has             __label__cc
    quality      the classifier's probability that a text is a positive, in [0, 1]

Recipe: Li et al. 2024, DataComp-LM, arXiv:2406.11794, section 4.4, and mlfoundations/dclm @ 361714b,
baselines/train_fasttext_classifier.py: supervised fastText on words and word bigrams, learning rate 0.1, 5
epochs, lines joined by spaces. Deviations: 16 dimensions and 200,000 buckets, where DCLM has fastText's own
100 and 2,000,000 (a model of megabytes instead of a gigabyte); the first 10,000 characters of a text instead of all;
one thread; a fixed order of the examples. U+2028 and U+0085 separate no words. The score ranks and is not
calibrated: DCLM keeps the top tenth, which for its released model begins at 0.018.

Training is repeatable to the byte, which fastText by itself is not: with one thread it initialises a tenth of
its input matrix and leaves the rest as the allocator gave it, so that a process which has freed memory before
trains another model, or one that ends in NaN. Hence every training runs in a fresh process, with one thread, and
with an allocator that hands out zeros (``ZEROED_MEMORY``).

Price: see tests/benchmarks/kernels.py for scoring; training costs as much again for every epoch.
"""

from __future__ import annotations

import functools
import hashlib
import json
import math
import os
import signal
import struct
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from filters.column import Texts, as_large_string
from filters.errors import ConfigError, DataError, RunError

if TYPE_CHECKING:
    from fasttext.FastText import _FastText

POSITIVE, NEGATIVE = "__label__hq", "__label__cc"
JUDGED_CHARACTERS = 10_000
LEAST_EXAMPLES = 20  # of each label
LINES_AT_ONCE = 1024
WHITE_SPACE = b" \n\r\t\v\f\0"  # what separates words for fastText
# The GNU C library fills what it hands out with the complement of the low byte of PERTURB, here 0x00; and takes
# blocks above the threshold from the system, which gives zeros, and not from memory that was used before.
ZEROED_MEMORY = {"MALLOC_PERTURB_": "255", "MALLOC_MMAP_THRESHOLD_": "65536"}

# fastText's file: magic, version, 12 settings of which dim is the first, t, then the dictionary's sizes.
MAGIC, VERSION = 793_712_314, 12
HEADER = struct.Struct(
    "<ii i44x d iii qq"
)  # magic, version, dim, ..., t, entries, words, labels, tokens, pruned
MATRIX_HEAD = struct.Struct("<qq")  # rows, columns; the output matrix is the last thing in the file


@dataclass(frozen=True, slots=True)
class QualityModel:
    """What a training gave. The two figures are of the held-out examples, which the model has not seen.

    Attributes:
        sha256: of the model file.
        model_bytes: its size.
        auc: probability that a held-out positive scores higher than a held-out negative (a tie counts half).
        log_loss: mean of -ln(probability of the right label), probabilities bounded to [1e-5, 1 - 1e-5].
        trained_positives, trained_negatives: examples that the model was trained on.
        held_out_positives, held_out_negatives: examples that were kept from it.
        empty: examples left out because they hold no word.
        contradictory: examples left out because the same text stands on both sides.
    """

    sha256: str
    model_bytes: int
    auc: float
    log_loss: float
    trained_positives: int
    trained_negatives: int
    held_out_positives: int
    held_out_negatives: int
    empty: int
    contradictory: int


def train_quality(
    positives: Texts,
    negatives: Texts,
    *,
    out: Path,
    seed: int,
    dim: int = 16,
    word_ngrams: int = 2,
    bucket: int = 200_000,
    epochs: int = 5,
    lr: float = 0.1,
    held_out: float = 0.1,
) -> QualityModel:
    """Trains a classifier of ``positives`` against ``negatives`` and writes it to the file ``out``.

    The same texts in any order, options and seed give the same bytes. Which examples are held out, and the
    order of training, are keyed hashes of (seed, text): equal texts are always on one side of the split.

    Args:
        positives, negatives: strings of any Arrow string type; at least 20 of each that hold a word.
        out: the model file; it appears whole or not at all. A file of this name is replaced.
        seed: of the split, the order and fastText's initial weights, from 0 to 2**31 - 1.
        dim: columns of the embedding.
        word_ngrams: longest run of words that is a feature.
        bucket: slots into which runs of two and more words are hashed.
        epochs: passes over the examples. Five are meant for hundreds of thousands of examples; on 3,183, 25
            epochs (or lr 0.5) gave a held-out AUC of 0.997 instead of 0.980, and 0.78 instead of 0.62 against
            the human labels of DCLM.
        lr: initial learning rate; it falls linearly to 0.
        held_out: share of each label's examples that is kept for measuring, over 0 and at most 0.5.

    Raises:
        ConfigError: an option is out of its range.
        DataError: too few examples, or none on one side.
        RunError: fastText failed, or the model holds a NaN.
    """
    _check_options(seed, dim, word_ngrams, bucket, epochs, lr, held_out)
    good, bad = _lines(positives), _lines(negatives)
    on_both_sides = set(good) & set(bad)
    kept: dict[str, list[bytes]] = {}
    empty = contradictory = 0
    for label, lines in ((POSITIVE, good), (NEGATIVE, bad)):
        worded = [line for line in lines if line.strip(WHITE_SPACE)]
        kept[label] = [line for line in worded if line not in on_both_sides]
        empty += len(lines) - len(worded)
        contradictory += len(worded) - len(kept[label])
    trained: dict[str, list[bytes]] = {}
    judged: dict[str, list[bytes]] = {}
    for label, lines in kept.items():
        trained[label], judged[label] = _split(lines, label=label, seed=seed, held_out=held_out)

    examples = [
        (_draw(line, seed, b"order"), label.encode(), line)
        for label, lines in trained.items()
        for line in lines
    ]
    examples.sort()
    out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".quality-", dir=out.parent) as private:
        texts, model_file = Path(private, "examples.txt"), Path(private, "model.bin")
        with texts.open("wb") as sink:
            sink.writelines(label + b" " + line for _, label, line in examples)
        _fit_in_child(
            {
                "examples": str(texts),
                "model": str(model_file),
                "seed": seed,
                "dim": dim,
                "word_ngrams": word_ngrams,
                "bucket": bucket,
                "epochs": epochs,
                "lr": lr,
            }
        )
        digest, size = _sha256(model_file), model_file.stat().st_size
        os.replace(model_file, out)

    model = _load(str(out), digest)
    scores = {label: _probabilities(model, lines, POSITIVE) for label, lines in judged.items()}
    return QualityModel(
        sha256=digest,
        model_bytes=size,
        auc=_auc(scores[POSITIVE], scores[NEGATIVE]),
        log_loss=_log_loss(scores[POSITIVE], scores[NEGATIVE]),
        trained_positives=len(trained[POSITIVE]),
        trained_negatives=len(trained[NEGATIVE]),
        held_out_positives=len(judged[POSITIVE]),
        held_out_negatives=len(judged[NEGATIVE]),
        empty=empty,
        contradictory=contradictory,
    )


def score_quality(texts: Texts, model_path: Path, *, label: str = POSITIVE) -> pa.DoubleArray:
    """Quality of each text under a fastText model, ours or another's: the probability of ``label``.

    A text is judged by its first 10,000 characters, its lines joined by spaces. Its score does not depend on
    the texts beside it. The model is loaded once for each process and content of the file.

    Args:
        texts: strings of any Arrow string type; a null is an empty text.
        model_path: an unquantised supervised model (".bin").
        label: the label whose probability is wanted.

    Returns:
        float64 in [0, 1], one for each text; 0.0 for a text without a word.

    Raises:
        ConfigError: there is no such file.
        DataError: the file is not a whole fastText model, holds a NaN, or does not know ``label``.
    """
    model = _load(str(model_path), _content(model_path))
    if label not in (known := model.get_labels()):
        raise DataError(
            f"{model_path}: the model has no label {label!r}; it has {', '.join(sorted(known)[:5])}. "
            "Name one of them, or train a model with train_quality"
        )
    return pa.array(_probabilities(model, _lines(texts), label), pa.float64())


def _lines(texts: Texts) -> list[bytes]:
    """Each text as one line of fastText's input: cut, in UTF-8, ended by its only newline.

    Two words mean something to fastText and would let a document label itself, or end early: any that begins
    with "__label__", and "</s>". They lose their signs; a space on each side keeps what is left from joining.
    """
    column = as_large_string(texts)
    if column.null_count:
        column = pc.fill_null(column, "")
    column = pc.utf8_slice_codeunits(column, 0, JUDGED_CHARACTERS)
    for command, harmless in (("__label__", " label "), ("</s>", " s ")):
        if pc.any(pc.match_substring(column, command)).as_py():
            column = pc.replace_substring(column, command, harmless)
    return [text.replace(b"\n", b" ") + b"\n" for text in column.cast(pa.large_binary()).to_pylist()]


def _draw(line: bytes, seed: int, purpose: bytes) -> bytes:
    """Eight bytes that depend on the seed, the purpose and the text, and on nothing else."""
    return hashlib.blake2b(line, digest_size=8, salt=seed.to_bytes(16, "little"), person=purpose).digest()


def _split(
    lines: Sequence[bytes], *, label: str, seed: int, held_out: float
) -> tuple[list[bytes], list[bytes]]:
    """The examples to train on and those to measure on: the share ``held_out`` with the smallest draws.

    Equal texts have equal draws and stay together, so the held-out part may be a little over its share.
    """
    side = "positives" if label == POSITIVE else "negatives"
    if len(lines) < LEAST_EXAMPLES:
        raise DataError(
            f"train_quality: {len(lines):,} {side} are left without those that have no word or stand on both "
            f"sides; at least {LEAST_EXAMPLES} are needed, thousands are better. Give more {side}"
        )
    draws = [_draw(line, seed, b"held_out") for line in lines]
    bound = sorted(draws)[max(1, round(held_out * len(lines))) - 1]
    trained = [line for line, draw in zip(lines, draws, strict=True) if draw > bound]
    judged = [line for line, draw in zip(lines, draws, strict=True) if draw <= bound]
    if len(trained) < len(lines) * (1 - held_out) / 2:
        raise DataError(
            f"train_quality: most of the {len(lines):,} {side} are one text over and over: {len(trained):,} are "
            f"left to train on beside {len(judged):,} held out. Give more distinct {side}"
        )
    return trained, judged


def _fit_in_child(request: dict[str, str | int | float]) -> None:
    """Runs ``fit`` in a process of its own, whose memory nobody has used before; the model is then written."""
    root = str(Path(__file__).resolve().parent.parent)
    settings = {
        key: value for key, value in os.environ.items() if not key.startswith(("MALLOC_", "GLIBC_TUNABLES"))
    }
    settings |= ZEROED_MEMORY
    settings["PYTHONPATH"] = os.pathsep.join(filter(None, (root, settings.get("PYTHONPATH"))))
    child = subprocess.run(
        [sys.executable, "-P", "-m", "filters.quality_child", json.dumps(request)],
        env=settings, stdin=subprocess.DEVNULL, capture_output=True, text=True, errors="replace", check=False,
    )  # fmt: skip
    if child.returncode == 0:
        return
    size = f"bucket {request['bucket']:,} and dim {request['dim']}"
    if child.returncode < 0:
        raise RunError(
            f"train_quality: the training process was ended by {signal.Signals(-child.returncode).name}; "
            f"with {size} it may have run out of memory. Lower bucket or dim, or give it more memory"
        )
    reason = child.stderr.strip().rpartition("\n")[2] or f"exit status {child.returncode}"
    raise RunError(f"train_quality: fastText failed ({size}, lr {request['lr']}): {reason}")


def fit(
    *, examples: str, model: str, seed: int, dim: int, word_ngrams: int, bucket: int, epochs: int, lr: float
) -> None:
    """Trains on the file ``examples`` and writes the file ``model``; for ``filters.quality_child`` alone."""
    import fasttext

    try:
        trained = fasttext.train_supervised(
            examples,
            dim=dim,
            wordNgrams=word_ngrams,
            bucket=bucket,
            epoch=epochs,
            lr=lr,
            seed=seed,
            thread=1,
            verbose=0,
        )
    except RuntimeError as fault:  # fastText's own "Encountered NaN."
        raise RunError(f"{fault} Lower lr, or train for fewer epochs") from fault
    if _holds_nan(trained):
        raise RunError("the trained model holds a NaN. Lower lr, or train for fewer epochs")
    trained.save_model(model)


def _holds_nan(model: _FastText) -> bool:
    """Whether any weight is NaN or infinite: one such weight makes the sum so."""
    matrices = (np.asarray(model.f.getInputMatrix()), np.asarray(model.f.getOutputMatrix()))
    return not all(np.isfinite(matrix.sum(dtype=np.float64)) for matrix in matrices)


def _content(path: Path) -> str:
    """SHA-256 of the file, read again only when its size, time of change or inode differ."""
    try:
        state = path.stat()
    except OSError as fault:
        raise ConfigError(
            f"{path}: no quality model there ({fault.strerror}). Correct the path, or train one with train_quality"
        ) from fault
    return _content_of(str(path), state.st_ino, state.st_size, state.st_mtime_ns)


@functools.lru_cache(maxsize=64)
def _content_of(path: str, inode: int, size: int, mtime_ns: int) -> str:
    return _sha256(Path(path))


def _sha256(path: Path) -> str:
    with path.open("rb") as source:
        return hashlib.file_digest(source, "sha256").hexdigest()


@functools.lru_cache(maxsize=2)
def _load(path: str, sha256: str) -> _FastText:
    """The model in the file whose content has this hash; kept for the next call."""
    import fasttext

    _check_file(Path(path))
    try:
        model = fasttext.load_model(path)
    except (ValueError, RuntimeError, MemoryError) as fault:
        raise _unreadable(path, str(fault)) from fault
    if _holds_nan(model):
        raise DataError(f"{path}: the model holds a NaN, so its scores mean nothing. Train it again")
    return model


def _check_file(path: Path) -> None:
    """Refuses what is not a whole model: fastText itself loads a cut file without a word, or never returns.

    The output matrix ends the file and begins with its shape, which must be (labels, dim).
    """
    size = path.stat().st_size
    with path.open("rb") as source:
        head = source.read(HEADER.size)
        if len(head) < HEADER.size:
            raise _unreadable(path, f"{size:,} bytes are less than its header")
        magic, version, dim, _, _, _, n_labels, _, _ = HEADER.unpack(head)
        if (magic, version) != (MAGIC, VERSION):
            raise _unreadable(path, f"its magic number and version are {magic} and {version}")
        begin = size - n_labels * dim * 4 - MATRIX_HEAD.size
        if n_labels < 1 or dim < 1 or begin < HEADER.size:
            raise _unreadable(path, f"{size:,} bytes cannot hold {n_labels:,} labels of dimension {dim:,}")
        source.seek(begin)
        shape = MATRIX_HEAD.unpack(source.read(MATRIX_HEAD.size))
    if shape != (n_labels, dim):
        raise _unreadable(
            path, "its output matrix is not where the file's length says; it is cut short or quantised"
        )


def _unreadable(path: str | Path, reason: str) -> DataError:
    return DataError(
        f"{path}: not a whole fastText model: {reason}. Allowed is an unquantised supervised model of version "
        f'{VERSION} (".bin"). Train it again, or copy it again'
    )


def _probabilities(model: _FastText, lines: Sequence[bytes], label: str) -> npt.NDArray[np.float64]:
    """The model's probability of ``label`` for each line, 0 where it has no word.

    fastText computes exp(log(p + 1e-5)), which can exceed 1.
    """
    scores = np.zeros(len(lines), np.float64)
    for start in range(0, len(lines), LINES_AT_ONCE):
        batch = lines[start : start + LINES_AT_ONCE]
        labels, probabilities = model.f.multilinePredict(batch, -1, 0.0, "strict")  # -1: of all labels
        for row, (line, names, values) in enumerate(zip(batch, labels, probabilities, strict=True), start):
            if line.strip(WHITE_SPACE) and label in names:
                scores[row] = values[names.index(label)]
    return np.clip(scores, 0.0, 1.0)


def _auc(positives: npt.NDArray[np.float64], negatives: npt.NDArray[np.float64]) -> float:
    """Share of (positive, negative) pairs in which the positive scores higher, a tie counting half."""
    ordered = np.sort(negatives)
    below, not_above = (
        np.searchsorted(ordered, positives, "left"),
        np.searchsorted(ordered, positives, "right"),
    )
    return float((below + not_above).mean() / (2 * len(negatives)))


def _log_loss(positives: npt.NDArray[np.float64], negatives: npt.NDArray[np.float64]) -> float:
    """Mean of -ln of what the right label was given; an exact sum, so that no order of the examples shows."""
    right = np.concatenate([positives, 1.0 - negatives])
    return -math.fsum(np.log(np.clip(right, 1e-5, 1.0 - 1e-5)).tolist()) / len(right)


def _check_options(
    seed: int, dim: int, word_ngrams: int, bucket: int, epochs: int, lr: float, held_out: float
) -> None:
    """Raises one ConfigError that names every option out of its range."""
    ranges = (
        ("seed", seed, 0 <= seed < 2**31, "from 0 to 2**31 - 1"),
        ("dim", dim, 1 <= dim <= 1024, "from 1 to 1024"),
        ("word_ngrams", word_ngrams, 1 <= word_ngrams <= 8, "from 1 to 8"),
        ("bucket", bucket, 1 <= bucket < 2**31, "from 1 to 2**31 - 1"),
        ("epochs", epochs, 1 <= epochs <= 1000, "from 1 to 1000"),
        ("lr", lr, 0 < lr <= 5, "over 0, at most 5"),
        ("held_out", held_out, 0 < held_out <= 0.5, "over 0, at most 0.5"),
    )
    faults = [
        f"train_quality: {name} is {value}; allowed is {bound}"
        for name, value, fits, bound in ranges
        if not fits
    ]
    if faults:
        raise ConfigError(faults)
