"""Text: a column of strings in, signals, scores and rewritten strings out. Imports nothing of curate or mixtures."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from filters.errors import ConfigError as ConfigError
    from filters.errors import CurationError as CurationError
    from filters.errors import DataError as DataError
    from filters.errors import MissingExtra as MissingExtra
    from filters.errors import RunError as RunError
    from filters.gopher import RULES as RULES
    from filters.language import detect_language as detect_language
    from filters.normalization import Normalize as Normalize
    from filters.normalization import normalize as normalize
    from filters.quality import score_quality as score_quality
    from filters.quality import train_quality as train_quality
    from filters.rules import Rule as Rule
    from filters.rules import failing as failing
    from filters.signals import text_signals as text_signals

_HOMES = {
    "ConfigError": "filters.errors",
    "CurationError": "filters.errors",
    "DataError": "filters.errors",
    "MissingExtra": "filters.errors",
    "RunError": "filters.errors",
    "RULES": "filters.gopher",
    "Rule": "filters.rules",
    "failing": "filters.rules",
    "text_signals": "filters.signals",
    "detect_language": "filters.language",
    "Normalize": "filters.normalization",
    "normalize": "filters.normalization",
    "score_quality": "filters.quality",
    "train_quality": "filters.quality",
}
__all__ = sorted(_HOMES)


def __getattr__(name: str) -> Any:
    """Load a public name when it is first used: importing the package costs nothing (PEP 562)."""
    if name not in _HOMES:
        raise AttributeError(f"module 'filters' has no attribute {name!r}")
    return getattr(importlib.import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return __all__
