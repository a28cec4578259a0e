"""Train and score small proxies on packed mixtures: the only part of the project that uses PyTorch.

    packs/ -- batches --> train(model, packs, recipe) --> TrainResult, checkpoint directory
    eval/  -- score(model, items) --> one row per item: nats of its target --> bits_per_byte(scores)

Terms: a *row* is one fixed-length pack of several examples; a *segment* is one example inside a row; a *target* token
is one whose loss weight is above 0; a *step* is one update of the weights, from ``tokens_per_step`` tokens; a
*recipe* is how long and how fast to train. Examples in a row never see each other, and the trainer proves that on the
first batch of every run before it updates a weight (``check_isolation``).

Two lines train and judge one arm:

    fine_tune("runs/base", "runs/flan-mini", "runs/arm", recipe=Recipe(steps=30))
    bits_per_byte(score(load_model("runs/arm"), "runs/flan-mini/eval"))

Importing this package loads neither torch nor transformers; the first use of a name that needs them does.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from filters.errors import MissingExtra

if TYPE_CHECKING:
    from mixtures.train.batches import Batch as Batch
    from mixtures.train.batches import read_batches as read_batches
    from mixtures.train.evaluate import bits_per_byte as bits_per_byte
    from mixtures.train.evaluate import bits_per_byte_by_dataset as bits_per_byte_by_dataset
    from mixtures.train.evaluate import score as score
    from mixtures.train.isolation import Isolation as Isolation
    from mixtures.train.isolation import check_isolation as check_isolation
    from mixtures.train.loop import StepRecord as StepRecord
    from mixtures.train.loop import TrainResult as TrainResult
    from mixtures.train.loop import fine_tune as fine_tune
    from mixtures.train.loop import pretrain as pretrain
    from mixtures.train.loop import train as train
    from mixtures.train.masks import attention_mask as attention_mask
    from mixtures.train.models import build_model as build_model
    from mixtures.train.models import load_model as load_model
    from mixtures.train.models import pick_device as pick_device
    from mixtures.train.models import save_model as save_model
    from mixtures.train.recipe import SIZES as SIZES
    from mixtures.train.recipe import Recipe as Recipe
    from mixtures.train.recipe import Shape as Shape

_HOMES = {
    "Batch": "mixtures.train.batches",
    "read_batches": "mixtures.train.batches",
    "Isolation": "mixtures.train.isolation",
    "Recipe": "mixtures.train.recipe",
    "SIZES": "mixtures.train.recipe",
    "Shape": "mixtures.train.recipe",
    "StepRecord": "mixtures.train.loop",
    "TrainResult": "mixtures.train.loop",
    "attention_mask": "mixtures.train.masks",
    "bits_per_byte": "mixtures.train.evaluate",
    "bits_per_byte_by_dataset": "mixtures.train.evaluate",
    "build_model": "mixtures.train.models",
    "check_isolation": "mixtures.train.isolation",
    "fine_tune": "mixtures.train.loop",
    "load_model": "mixtures.train.models",
    "pick_device": "mixtures.train.models",
    "pretrain": "mixtures.train.loop",
    "save_model": "mixtures.train.models",
    "score": "mixtures.train.evaluate",
    "train": "mixtures.train.loop",
}
__all__ = sorted(_HOMES)


def __getattr__(name: str) -> Any:
    """Load a public name when it is first used: importing the package costs nothing (PEP 562)."""
    if name not in _HOMES:
        raise AttributeError(f"module 'mixtures.train' has no attribute {name!r}")
    try:
        return getattr(importlib.import_module(_HOMES[name]), name)
    except ModuleNotFoundError as error:
        if error.name in ("torch", "transformers", "safetensors"):
            raise MissingExtra(f"mixtures.train.{name}", error.name, "train") from error
        raise


def __dir__() -> list[str]:
    return __all__
