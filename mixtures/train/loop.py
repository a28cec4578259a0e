"""The training loop: packed rows in, an updated model and one record for each step out.

    loss = sum over the step of weight x nll  /  sum over the step of weight

The divisor is the whole step's, so cutting a step into micro-batches (``micro_rows``, to save memory) changes nothing
but rounding; a mean of the micro-batches' means would weigh a target token by its neighbours' number.

Same weights, packs, recipe, seed, machine and number of threads give the same losses to the last bit on a CPU. On a GPU
the forward and backward passes run in bfloat16 over fp32 weights.

The threads are PyTorch's: the cores that the process may use, or OMP_NUM_THREADS. Where other work shares the cores, set
OMP_WAIT_POLICY=PASSIVE before PyTorch is loaded: its threads otherwise spin while they wait for each other, and a step
of 4,096 tokens that takes 0.3 s on two idle cores was measured at 5 s beside one busy process, and at 0.6 s with it.
"""

from __future__ import annotations

import json
import logging
import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TextIO

import pyarrow as pa
import torch
from transformers import PreTrainedModel

from filters.errors import ConfigError, DataError, RunError
from mixtures.draws import key_of
from mixtures.shards import read_shards
from mixtures.train.batches import Batch, pack_length, read_batches
from mixtures.train.isolation import check_isolation
from mixtures.train.masks import target_nll
from mixtures.train.models import build_model, load_model, pick_device, save_model
from mixtures.train.recipe import Recipe, Shape

LOG = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class StepRecord:
    """What one step did.

    Attributes:
        step: its number, from 1.
        loss: weighted mean nats of its target tokens, before the update.
        learning_rate: of this step.
        gradient_norm: of the gradient before clipping.
        tokens: tokens that are not padding.
        target_tokens: tokens with a loss weight above 0.
        seconds: wall time.
    """

    step: int
    loss: float
    learning_rate: float
    gradient_norm: float
    tokens: int
    target_tokens: int
    seconds: float


@dataclass(frozen=True, slots=True)
class TrainResult:
    """What a run did, step by step. ``seconds`` are wall time: for logs, never for data."""

    steps: tuple[StepRecord, ...]

    @property
    def tokens(self) -> int:
        """Tokens seen, without padding."""
        return sum(record.tokens for record in self.steps)

    @property
    def target_tokens(self) -> int:
        """Target tokens learned from."""
        return sum(record.target_tokens for record in self.steps)

    @property
    def seconds(self) -> float:
        """Wall time of all steps."""
        return sum(record.seconds for record in self.steps)


def train(
    model: PreTrainedModel,
    packs: Path | str | pa.Table,
    recipe: Recipe,
    *,
    seed: int = 0,
    device: str = "auto",
    micro_rows: int | None = None,
    log: Path | str | None = None,
    progress: Callable[[StepRecord], None] | None = None,
) -> TrainResult:
    """Train a model in place with AdamW (betas 0.9 and 0.95) on the rows of ``packs``, in their order.

    Args:
        model: a decoder from ``build_model`` or ``load_model``; it ends on ``device``, in evaluation mode.
        packs: the packs/ directory of a mixture, or its table.
        recipe: how long and how fast.
        seed: of dropout, the only draw that training makes; without dropout it changes nothing, because the order of
            the data is the mixture's.
        device: ``auto``, ``cpu``, ``cuda``, ``cuda:1``.
        micro_rows: rows of one forward and backward pass; all rows of a step if not given.
        log: a file for one JSON line for each step, written anew, with times and tokens per second.
        progress: called with each record.

    Raises:
        DataError: the packs are too few or broken, or a step has no target token.
        RunError: examples in a row do not stay apart, or the loss is not a finite number.
    """
    if micro_rows is not None and micro_rows < 1:
        raise ConfigError(f"micro_rows is {micro_rows}; allowed: 1 or more, or None for whole steps")
    place = pick_device(device)
    table = packs if isinstance(packs, pa.Table) else read_shards(Path(packs))
    _check_length(model, pack_length(table))
    data = read_batches(
        table,
        tokens_per_step=recipe.tokens_per_step,
        steps=recipe.steps,
        vocab_size=model.config.vocab_size,
        epochs=recipe.epochs,
    )
    model.to(place)  # type: ignore[arg-type]  # transformers' wrapper hides the signature
    optimizer = _optimizer(model, recipe)
    records: list[StepRecord] = []
    model.train()
    try:
        with _seeded(seed, place) as reseed, _opened(log) as lines:
            for step, batch in enumerate(data, start=1):
                batch = batch.to(place)
                if step == 1:
                    found = check_isolation(model, batch)
                    LOG.info(
                        "packed = alone over %d examples: logits %.0e", found.examples, found.logit_error
                    )
                reseed(step)
                record = _step(model, optimizer, batch, recipe, step=step, micro_rows=micro_rows)
                records.append(record)
                if lines is not None:
                    _write(lines, record)
                if progress is not None:
                    progress(record)
    finally:
        model.eval()
    return TrainResult(tuple(records))


def fine_tune(
    base: Path | str,
    mixture: Path | str,
    out: Path | str,
    *,
    recipe: Recipe,
    seed: int = 0,
    device: str = "auto",
    log: Path | str | None = None,
    progress: Callable[[StepRecord], None] | None = None,
) -> TrainResult:
    """Train the checkpoint ``base`` on the packs of the directory ``mixture`` and write the result to ``out``.

    The log goes to ``log``, not into ``out``: a checkpoint holds no times.
    """
    model = load_model(base)
    result = train(
        model, Path(mixture) / "packs", recipe, seed=seed, device=device, log=log, progress=progress
    )
    save_model(model, out)
    return result


def pretrain(
    mixture: Path | str,
    out: Path | str,
    *,
    size: str | Shape,
    vocab_size: int,
    recipe: Recipe,
    seed: int = 0,
    device: str = "auto",
    log: Path | str | None = None,
    progress: Callable[[StepRecord], None] | None = None,
) -> TrainResult:
    """Train a new model on the packs of ``mixture`` (of documents, say) and write it to ``out``: a base.

    Its longest row is the packs' length; ``seed`` is of its first weights too.
    """
    packs = read_shards(Path(mixture) / "packs")
    model = build_model(size, vocab_size=vocab_size, max_length=pack_length(packs), seed=seed)
    result = train(model, packs, recipe, seed=seed, device=device, log=log, progress=progress)
    save_model(model, out)
    return result


def _step(
    model: PreTrainedModel,
    optimizer: torch.optim.Optimizer,
    batch: Batch,
    recipe: Recipe,
    *,
    step: int,
    micro_rows: int | None,
) -> StepRecord:
    start = time.perf_counter()
    rows = batch.tokens.shape[0]
    weight = batch.loss.sum(dtype=torch.float64).item()
    if weight == 0:
        raise DataError(
            f"packs: step {step}: none of its {rows} rows holds a target token; allowed: at least one. Build the "
            f"mixture with targets, or with more tokens in a step"
        )
    loss = 0.0
    for first in range(0, rows, micro_rows or rows):
        part = batch.rows(first, first + (micro_rows or rows))
        with _autocast(part.tokens.device):
            nll, where = target_nll(model, part)
        share = (nll * part.loss.flatten()[where]).sum() / weight
        share.backward()
        loss += share.item()
    norm = torch.nn.utils.clip_grad_norm_(model.parameters(), recipe.clip).item()
    if not (math.isfinite(loss) and math.isfinite(norm)):
        raise RunError(
            f"training: step {step}: loss {loss}, gradient norm {norm}; allowed: finite numbers. The weights are of no "
            f"use now: start again with a lower learning_rate (it was {recipe.learning_rate:g}) or a longer warmup "
            f"(it was {recipe.warmup} steps)"
        )
    rate = recipe.learning_rate_at(step)
    for group in optimizer.param_groups:
        group["lr"] = rate
    optimizer.step()
    optimizer.zero_grad()
    return StepRecord(
        step=step,
        loss=loss,
        learning_rate=rate,
        gradient_norm=norm,
        tokens=int((batch.segments > 0).sum()),
        target_tokens=int((batch.loss > 0).sum()),
        seconds=time.perf_counter() - start,
    )


def _optimizer(model: PreTrainedModel, recipe: Recipe) -> torch.optim.AdamW:
    trained = [weights for weights in model.parameters() if weights.requires_grad]
    return torch.optim.AdamW(
        [
            {"params": [w for w in trained if w.ndim >= 2], "weight_decay": recipe.weight_decay},
            {"params": [w for w in trained if w.ndim < 2], "weight_decay": 0.0},
        ],
        lr=recipe.learning_rate,
        betas=(0.9, 0.95),
    )


def _check_length(model: PreTrainedModel, length: int) -> None:
    longest = model.config.max_position_embeddings
    if length > longest:
        raise DataError(
            f"packs: rows are {length} tokens long; allowed: {longest}, the longest that the model was built for. "
            f"Build the mixture with a shorter pack length, or the model with a greater max_length"
        )


def _autocast(device: torch.device) -> torch.autocast | nullcontext[None]:
    return torch.autocast("cuda", dtype=torch.bfloat16) if device.type == "cuda" else nullcontext()


@contextmanager
def _seeded(seed: int, device: torch.device) -> Iterator[Callable[[int], None]]:
    """A function that sets PyTorch's generators for a step; they are put back at the end."""
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):

        def reseed(step: int) -> None:
            key = key_of(seed, "dropout", step)
            torch.default_generator.manual_seed(key)
            if device.type == "cuda":
                with torch.cuda.device(device):
                    torch.cuda.manual_seed(key)

        yield reseed


@contextmanager
def _opened(log: Path | str | None) -> Iterator[TextIO | None]:
    if log is None:
        yield None
        return
    Path(log).parent.mkdir(parents=True, exist_ok=True)
    with Path(log).open("w", encoding="utf-8") as lines:
        yield lines


def _write(lines: TextIO, record: StepRecord) -> None:
    row = {
        "step": record.step,
        "loss": record.loss,
        "learning_rate": record.learning_rate,
        "gradient_norm": record.gradient_norm,
        "tokens": record.tokens,
        "target_tokens": record.target_tokens,
        "seconds": round(record.seconds, 6),
        "tokens_per_second": round(record.tokens / record.seconds, 1),
    }
    lines.write(json.dumps(row) + "\n")
    lines.flush()
