"""Packed = alone: what an example's tokens get in a pack is what they get by themselves.

The reference is the model's ordinary forward pass on one example: no mask, no positions, no segments. Both logits and
gradients are compared, in fp32 and without dropout. The trainer does this with the first batch of every run, because
contamination does not show in a loss curve.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy
from transformers import PreTrainedModel

from filters.errors import RunError
from mixtures.train.batches import Batch
from mixtures.train.masks import hidden_states, target_nll

LOGIT_TOLERANCE = 1e-5  # of the largest logit; fp32 differences are below 2e-6, contamination is above 1e-2
GRADIENT_TOLERANCE = 1e-4  # of the largest entry of the whole gradient


@dataclass(frozen=True, slots=True)
class Isolation:
    """What ``check_isolation`` measured.

    Attributes:
        examples: how many examples were compared.
        logit_error: greatest difference of a logit, over the greatest logit.
        gradient_error: greatest difference of an entry of the gradient, over the greatest entry.
    """

    examples: int
    logit_error: float
    gradient_error: float


def check_isolation(model: PreTrainedModel, batch: Batch, *, max_tokens: int = 4096) -> Isolation:
    """Compare the examples of a batch with each of them alone, row by row until ``max_tokens`` are reached.

    Raises:
        RunError: an example's logits or gradients depend on its neighbours.
    """
    batch = batch.rows(0, max(1, max_tokens // batch.tokens.shape[1]))
    was_training = model.training
    model.eval()
    try:
        with torch.autocast(batch.tokens.device.type, enabled=False):
            found = _compare(model, batch)
    finally:
        model.train(was_training)
    if not (found.logit_error <= LOGIT_TOLERANCE and found.gradient_error <= GRADIENT_TOLERANCE):
        raise RunError(
            f"packed rows: examples do not stay apart: over {found.examples} examples logits differ from those alone "
            f"by {found.logit_error:.1e} of their scale and gradients by {found.gradient_error:.1e}; allowed: "
            f"{LOGIT_TOLERANCE:g} and {GRADIENT_TOLERANCE:g}. Nothing was trained. Use a model of another family "
            f"(build_model makes one that passes), or a mixture packed with one example in a row"
        )
    return found


def _compare(model: PreTrainedModel, batch: Batch) -> Isolation:
    parameters = [weights for weights in model.parameters() if weights.requires_grad]
    gradients = [torch.zeros_like(weights) for weights in parameters]
    with torch.no_grad():
        packed = hidden_states(model, batch)  # (rows, length, hidden)
    differences, scales = [0.0], [0.0]
    for row, segment in _examples(batch):
        inside = batch.segments[row] == segment
        tokens, weights = batch.tokens[row][inside].long(), batch.loss[row][inside]  # (tokens,)
        logits = model(input_ids=tokens[None], use_cache=False).logits[0]  # (tokens, vocab)
        if not bool(logits.isfinite().all()):
            raise RunError(
                "model: its logits are not finite numbers before any training; allowed: finite ones. The checkpoint is "
                "of no use: take an earlier one, or train it again with a lower learning_rate"
            )
        with torch.no_grad():
            together = model.get_output_embeddings()(packed[row][inside])  # (tokens, vocab)
            differences.append(_peak(together - logits))
            scales.append(_peak(logits))
        if bool(weights.any()):
            nll = cross_entropy(logits[:-1], tokens[1:], reduction="none")
            for total, part in zip(gradients, _gradient((nll * weights[1:]).sum(), parameters), strict=True):
                total += part
    gradient_differences, gradient_scales = [0.0], [0.0]
    if bool(batch.loss.any()):
        nll, where = target_nll(model, batch)
        packed_gradient = _gradient((nll * batch.loss.flatten()[where]).sum(), parameters)
        gradient_differences += [
            _peak(one - other) for one, other in zip(packed_gradient, gradients, strict=True)
        ]
        gradient_scales += [_peak(one) for one in gradients]
    return Isolation(
        examples=len(differences) - 1,
        logit_error=_relative(differences, scales),
        gradient_error=_relative(gradient_differences, gradient_scales),
    )


def _examples(batch: Batch) -> list[tuple[int, int]]:
    """(row, segment) of every example."""
    return [
        (row, segment)
        for row in range(batch.segments.shape[0])
        for segment in batch.segments[row].unique().tolist()
        if segment > 0
    ]


def _gradient(loss: Tensor, parameters: list[torch.nn.Parameter]) -> list[Tensor]:
    found = torch.autograd.grad(loss, parameters, allow_unused=True)
    return [torch.zeros_like(p) if g is None else g for g, p in zip(found, parameters, strict=True)]


def _relative(differences: list[float], scales: list[float]) -> float:
    # torch's max keeps a NaN, where Python's drops it
    difference, scale = torch.tensor(differences).max().item(), torch.tensor(scales).max().item()
    return difference / scale if scale else difference


def _peak(values: Tensor) -> float:
    return float(values.abs().max())
