"""How big a proxy is and how it is trained: plain values for configs and reports, without PyTorch."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, slots=True)
class Shape:
    """The widths of a decoder: ``layers`` blocks of attention and a gated feed-forward.

    Attributes:
        hidden: width of the residual stream; a multiple of ``heads``, and hidden / heads is even (rotary pairs).
        feed_forward: inner width of the gated feed-forward.
        layers: number of blocks.
        heads: attention heads. Few wide heads are cheaper on a CPU, where every head costs one softmax over
            length x length.
    """

    hidden: int
    feed_forward: int
    layers: int
    heads: int

    def __post_init__(self) -> None:
        for name in ("hidden", "feed_forward", "layers", "heads"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}; allowed: 1 or more")
        if self.hidden % (2 * self.heads):
            raise ValueError(
                f"hidden is {self.hidden} with {self.heads} heads; allowed: a multiple of {2 * self.heads} (2 x heads)"
            )

    def parameters(self, vocab_size: int) -> int:
        """Trained numbers, with one matrix for both embedding and head.

        >>> SIZES["1M"].parameters(vocab_size=2048)
        1049472
        """
        block = 4 * self.hidden**2 + 3 * self.hidden * self.feed_forward + 2 * self.hidden
        return vocab_size * self.hidden + self.layers * block + self.hidden


SIZES = {
    # A step of 4,096 tokens on two CPU cores takes about 0.25 s with this shape; four narrower blocks (feed_forward
    # 384) take 0.30 s, two blocks of 192 take 0.23 s, for the same number of parameters.
    "1M": Shape(hidden=128, feed_forward=512, layers=3, heads=2),  # 1.05M at a vocabulary of 2,048
    "13M": Shape(hidden=320, feed_forward=896, layers=6, heads=5),  # 12.9M at a vocabulary of 16,384
}


@dataclass(frozen=True, slots=True)
class Recipe:
    """How long and how fast to train.

    The learning rate rises in a straight line over the first ``warmup`` steps and then stays (``constant``) or falls
    along half a cosine to a tenth of its height at the last step (``cosine``).

    Attributes:
        steps: updates of the weights.
        tokens_per_step: tokens of one update, padding included: tokens_per_step // length rows of the packs.
        learning_rate: the height of the schedule. The default suits fine-tuning; a new 1M decoder learns best at
            about 6e-3 with 10 steps of warmup.
        warmup: steps until the height is reached; 0 starts at the height.
        schedule: ``constant`` or ``cosine``.
        weight_decay: AdamW's, of matrices only (never of norms and biases).
        clip: greatest norm of the gradient; a longer one is scaled down to it.
        epochs: how often a row may be used; more than 1 lets a run go round the packs again.

    >>> Recipe(steps=4, warmup=2, learning_rate=0.1, schedule="constant").learning_rate_at(1)
    0.05
    """

    steps: int = 30
    tokens_per_step: int = 4096
    learning_rate: float = 1e-3
    warmup: int = 5
    schedule: Literal["constant", "cosine"] = "cosine"
    weight_decay: float = 0.01
    clip: float = 1.0
    epochs: int = 1

    def __post_init__(self) -> None:
        for name in ("steps", "tokens_per_step", "epochs"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}; allowed: 1 or more")
        for name in ("learning_rate", "clip"):
            if not 0 < getattr(self, name) < math.inf:
                raise ValueError(f"{name} is {getattr(self, name)}; allowed: a finite number above 0")
        for name in ("warmup", "weight_decay"):
            if not 0 <= getattr(self, name) < math.inf:
                raise ValueError(f"{name} is {getattr(self, name)}; allowed: 0 or more")
        if self.schedule not in ("constant", "cosine"):
            raise ValueError(f"schedule is {self.schedule!r}; allowed: 'constant' or 'cosine'")

    def learning_rate_at(self, step: int) -> float:
        """The learning rate of one step, counted from 1."""
        if step <= self.warmup:
            return self.learning_rate * step / self.warmup
        if self.schedule == "constant":
            return self.learning_rate
        done = (step - self.warmup) / max(self.steps - self.warmup, 1)
        return self.learning_rate * (0.55 + 0.45 * math.cos(math.pi * done))
