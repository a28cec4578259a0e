"""Score held-out items: nats of each target, from which bits per byte follow.

Each item is a row of its own; rows are sorted by length and padded to the longest of their batch, so little is padding
and attention costs the square of an item's own length, not of the model's. Scoring runs in fp32 on every device.
An item's score does not depend on the others but for rounding (about 1e-6 of it), and not at all on their order.

An item that is longer than the model's longest row loses the left end of its input. A target that does not fit a row
by itself is scored in windows of half a row, each after at least half a row of what comes before it.

    item      B i i i i i i t t t t E          length 8
    row       B       i i i t t t t E  -> 8    "truncated" = 3
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import torch
from transformers import PreTrainedModel

from filters.errors import ConfigError, DataError
from mixtures.shards import read_shards
from mixtures.train.batches import Batch
from mixtures.train.masks import target_nll
from mixtures.train.models import pick_device

_NAMES = ("id", "task", "dataset", "template", "variant")


@dataclass(frozen=True, slots=True, eq=False)
class _Window:
    """Tokens to feed, and which of them to score."""

    item: int
    tokens: npt.NDArray[np.int32]
    is_scored: npt.NDArray[np.bool_]
    ends_item: bool


def score(
    model: PreTrainedModel, items: Path | str | pa.Table, *, batch_tokens: int = 8192, device: str = "auto"
) -> pa.Table:
    """The negative log-likelihood of every item's target, one row for each item in the order of ``items``.

    Args:
        model: a decoder; it ends on ``device``.
        items: the eval/ directory of a mixture, or its table. A token is scored where its loss is above 0; weights
            are not applied. The last token of an item is the end of sequence, and is reported apart.
        batch_tokens: greatest size of a batch, padding included; a single long item may exceed it.
        device: ``auto``, ``cpu``, ``cuda``, ``cuda:1``.

    Returns:
        id, task, dataset, template, variant string; nll float64, nats of the target without the end of sequence;
        eos_nll float64, nats of the end of sequence; target_tokens int64, without it; target_bytes int64, UTF-8 bytes
        of the target; truncated int64, tokens of the input that did not fit.

    Raises:
        DataError: an item breaks the contract of eval/, or was made with another tokenizer than the model's.
    """
    if batch_tokens < 1:
        raise ConfigError(f"batch_tokens is {batch_tokens}; allowed: 1 or more")
    table = items if isinstance(items, pa.Table) else read_shards(Path(items))
    if missing := [
        name for name in (*_NAMES, "tokens", "loss", "target_bytes") if name not in table.column_names
    ]:
        raise DataError(
            f"eval: no column {', '.join(missing)}; found {', '.join(table.column_names)}. Give the eval/ directory of a "
            f"mixture, or build it again"
        )
    place = pick_device(device)
    windows, target_tokens, truncated = _windows(table, model)
    nll, eos_nll = np.zeros(table.num_rows), np.zeros(table.num_rows)
    was_training = model.training
    model.to(place).eval()  # type: ignore[arg-type]  # transformers' wrapper hides the signature
    try:
        with torch.inference_mode():
            for group in _groups(windows, batch_tokens):
                _add_scores(model, group, nll, eos_nll, device=place)
    finally:
        model.train(was_training)
    return pa.table(
        {name: table.column(name).cast(pa.string()) for name in _NAMES}
        | {
            "nll": nll,
            "eos_nll": eos_nll,
            "target_tokens": target_tokens,
            "target_bytes": table.column("target_bytes").cast(pa.int64()),
            "truncated": truncated,
        }
    )


def bits_per_byte(scores: pa.Table) -> float:
    """Bits needed for one UTF-8 byte of target text, over all items: sum of nll / ln 2 / sum of bytes.

    >>> bits_per_byte(pa.table({"nll": [math.log(2), math.log(8)], "target_bytes": [1, 3]}))
    1.0
    """
    total_bytes = pc.sum(scores.column("target_bytes")).as_py()
    if not total_bytes:
        raise DataError(
            "scores: the targets have no bytes; allowed: at least one item with text in its target"
        )
    return float(pc.sum(scores.column("nll")).as_py() / math.log(2) / total_bytes)


def bits_per_byte_by_dataset(scores: pa.Table) -> dict[str, float]:
    """Bits per byte of each dataset, by name; their plain mean is the macro average, to which each counts alike."""
    names = sorted(pc.unique(scores.column("dataset")).to_pylist())
    return {name: bits_per_byte(scores.filter(pc.equal(scores.column("dataset"), name))) for name in names}


def _windows(
    table: pa.Table, model: PreTrainedModel
) -> tuple[list[_Window], npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """The windows of all items, and for each item its target tokens and the tokens in no window."""
    length, vocab_size = model.config.max_position_embeddings, model.config.vocab_size
    eos = model.config.eos_token_id
    ends = eos if isinstance(eos, list) else [eos]
    windows: list[_Window] = []
    target_tokens, truncated = np.zeros(table.num_rows, np.int64), np.zeros(table.num_rows, np.int64)
    for item, (tokens, loss) in enumerate(_items(table)):
        is_target = loss > 0
        if (
            len(loss) != len(tokens)
            or len(tokens) == 0
            or not is_target[-1]
            or is_target[0]
            or tokens[-1] not in ends
        ):
            raise _broken(table, item, f"{len(tokens)} tokens, {len(loss)} loss weights", ends)
        if tokens.min() < 0 or tokens.max() >= vocab_size:
            raise _broken(
                table, item, f"token ids from {tokens.min()} to {tokens.max()}, vocabulary {vocab_size}", ends
            )
        first = int(is_target.argmax())
        spans = list(_spans(first, len(tokens), length))
        for context, start, stop in spans:
            fed = np.concatenate([tokens[:1], tokens[context:stop]])
            is_scored = np.concatenate([[False], is_target[context:stop]])
            is_scored[: 1 + start - context] = False
            windows.append(_Window(item, fed, is_scored, ends_item=stop == len(tokens)))
        target_tokens[item] = is_target.sum() - 1
        truncated[item] = spans[0][0] - 1
    return windows, target_tokens, truncated


def _spans(first: int, end: int, length: int) -> Iterator[tuple[int, int, int]]:
    """(context, start, stop): feed the item's first token and [context, stop), score the targets in [start, stop).

    >>> list(_spans(3, 6, 8)), list(_spans(7, 12, 8)), list(_spans(1, 12, 8))
    ([(1, 3, 6)], [(5, 7, 12)], [(1, 1, 5), (2, 5, 9), (5, 9, 12)])
    """
    stride = end - first if end - first < length else max(1, length // 2)
    for start in range(first, end, stride):
        stop = min(start + stride, end)
        yield max(1, stop - length + 1), start, stop


def _items(table: pa.Table) -> Iterator[tuple[npt.NDArray[np.int32], npt.NDArray[np.float32]]]:
    """The token ids and the loss weights of each item, as views."""
    columns = []
    for name in ("tokens", "loss"):
        lists = table.column(name).combine_chunks()
        bounds = np.concatenate([[0], np.cumsum(pc.list_value_length(lists).to_numpy())])
        columns.append((lists.flatten().to_numpy(), bounds))
    (tokens, token_bounds), (loss, loss_bounds) = columns
    for row in range(table.num_rows):
        yield tokens[token_bounds[row] : token_bounds[row + 1]], loss[loss_bounds[row] : loss_bounds[row + 1]]


def _groups(windows: list[_Window], batch_tokens: int) -> Iterator[list[_Window]]:
    """Windows of about the same length, as many as fit; the order of the items does not matter."""
    group: list[_Window] = []
    for window in sorted(windows, key=lambda window: (len(window.tokens), window.tokens.tobytes())):
        if group and (len(group) + 1) * len(window.tokens) > batch_tokens:
            yield group
            group = []
        group.append(window)
    if group:
        yield group


def _add_scores(
    model: PreTrainedModel,
    group: list[_Window],
    nll: npt.NDArray[np.float64],
    eos_nll: npt.NDArray[np.float64],
    *,
    device: torch.device,
) -> None:
    """Score one batch and add the nats to the items that the windows belong to."""
    longest = max(len(window.tokens) for window in group)
    tokens, is_scored = np.zeros((len(group), longest), np.int32), np.zeros((len(group), longest), np.float32)
    segments = np.zeros((len(group), longest), np.int32)
    for row, window in enumerate(group):
        size = len(window.tokens)
        tokens[row, :size], is_scored[row, :size], segments[row, :size] = window.tokens, window.is_scored, 1
    positions = np.broadcast_to(np.arange(longest, dtype=np.int32), tokens.shape).copy()
    batch = Batch(*(torch.from_numpy(x).to(device) for x in (tokens, is_scored, segments, positions)))
    nats, where = target_nll(model, batch)
    scored = np.zeros(tokens.size)
    scored[where.cpu().numpy()] = nats.double().cpu().numpy()
    for row, window in enumerate(group):
        row_scores = scored[row * longest : row * longest + len(window.tokens)]
        if window.ends_item:
            eos_nll[window.item] += row_scores[-1]
            row_scores = row_scores[:-1]
        nll[window.item] += row_scores.sum()


def _broken(table: pa.Table, item: int, found: str, ends: list[int]) -> DataError:
    name = table.column("id")[item].as_py()
    return DataError(
        f"eval: item {item} (id {name!r}): {found}; allowed: ids of the model's tokenizer with as many loss weights, "
        f"the first of weight 0, the last the end of sequence (id {ends[0]}) of weight above 0. Build the mixture again "
        f"with the tokenizer of the model"
    )
