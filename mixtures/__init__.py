"""Tasks: tasks -> templates -> mixture plan -> packed Arrow shards -> trained proxies -> study report.

from mixtures import MixtureConfig, load_config, build_mixture
built = build_mixture(load_config("configs/mixtures/demo.yaml", MixtureConfig), "runs/demo/mixture")
built.planned.plan[10**9]            # any index -> (leaf, row, epoch, template, variant), without a table
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from curate.config import load_config as load_config
    from filters.errors import ConfigError as ConfigError
    from filters.errors import CurationError as CurationError
    from filters.errors import DataError as DataError
    from filters.errors import MissingExtra as MissingExtra
    from filters.errors import RunError as RunError
    from mixtures.build import build_mixture as build_mixture
    from mixtures.build import plan_mixture as plan_mixture
    from mixtures.config import MixtureConfig as MixtureConfig
    from mixtures.plan import Plan as Plan
    from mixtures.plan import plan_of as plan_of
    from mixtures.shards import read_shards as read_shards
    from mixtures.study.run import run_study as run_study
    from mixtures.study.settings import StudyConfig as StudyConfig
    from mixtures.tasks import Task as Task
    from mixtures.templates import Template as Template
    from mixtures.tokenizer import load_tokenizer as load_tokenizer

_HOMES = {
    "ConfigError": "filters.errors",
    "CurationError": "filters.errors",
    "DataError": "filters.errors",
    "MissingExtra": "filters.errors",
    "RunError": "filters.errors",
    "MixtureConfig": "mixtures.config",
    "Plan": "mixtures.plan",
    "StudyConfig": "mixtures.study.settings",
    "Task": "mixtures.tasks",
    "Template": "mixtures.templates",
    "build_mixture": "mixtures.build",
    "load_config": "curate.config",
    "load_tokenizer": "mixtures.tokenizer",
    "plan_mixture": "mixtures.build",
    "plan_of": "mixtures.plan",
    "read_shards": "mixtures.shards",
    "run_study": "mixtures.study.run",
}
__all__ = sorted(_HOMES)


def __getattr__(name: str) -> Any:
    """Load a public name when it is first used: importing the package costs nothing (PEP 562)."""
    if name not in _HOMES:
        raise AttributeError(f"module 'mixtures' has no attribute {name!r}")
    return getattr(importlib.import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return __all__
