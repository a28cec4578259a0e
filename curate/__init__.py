"""Documents: files -> canonical documents -> signals -> decisions -> kept shards.

from curate import dedup, judge, measure
signals = measure(table)             # every number of every document
verdicts = judge(signals)            # every failing rule of every document
kept = dedup(table).kept             # without copies and near duplicates, each verified
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from curate.config import from_mapping as from_mapping
    from curate.config import load_config as load_config
    from curate.config import show_config as show_config
    from curate.config import to_mapping as to_mapping
    from curate.deduplication import Deduplicated as Deduplicated
    from curate.deduplication import dedup as dedup
    from curate.deduplication import exact_duplicates as exact_duplicates
    from curate.deduplication import mark_duplicates as mark_duplicates
    from curate.engine import Finished as Finished
    from curate.engine import Run as Run
    from curate.engine import Step as Step
    from curate.explanation import explain as explain
    from curate.index import build_index as build_index
    from curate.index import extend_index as extend_index
    from curate.index import query_index as query_index
    from curate.manifest import read_manifest as read_manifest
    from curate.measurement import measure as measure
    from curate.pipeline import Curated as Curated
    from curate.pipeline import run_curation as run_curation
    from curate.settings import CurateConfig as CurateConfig
    from curate.settings import PolicySettings as PolicySettings
    from curate.sources import Source as Source
    from curate.verdicts import judge as judge
    from filters.errors import ConfigError as ConfigError
    from filters.errors import CurationError as CurationError
    from filters.errors import DataError as DataError
    from filters.errors import MissingExtra as MissingExtra
    from filters.errors import RunError as RunError

_HOMES = {
    "ConfigError": "filters.errors",
    "CurationError": "filters.errors",
    "DataError": "filters.errors",
    "MissingExtra": "filters.errors",
    "RunError": "filters.errors",
    "CurateConfig": "curate.settings",
    "PolicySettings": "curate.settings",
    "Source": "curate.sources",
    "Finished": "curate.engine",
    "Run": "curate.engine",
    "Step": "curate.engine",
    "Curated": "curate.pipeline",
    "run_curation": "curate.pipeline",
    "Deduplicated": "curate.deduplication",
    "build_index": "curate.index",
    "dedup": "curate.deduplication",
    "exact_duplicates": "curate.deduplication",
    "explain": "curate.explanation",
    "extend_index": "curate.index",
    "from_mapping": "curate.config",
    "judge": "curate.verdicts",
    "load_config": "curate.config",
    "mark_duplicates": "curate.deduplication",
    "measure": "curate.measurement",
    "query_index": "curate.index",
    "read_manifest": "curate.manifest",
    "show_config": "curate.config",
    "to_mapping": "curate.config",
}
__all__ = sorted(_HOMES)


def __getattr__(name: str) -> Any:
    """Load a public name when it is first used: importing the package costs nothing (PEP 562)."""
    if name not in _HOMES:
        raise AttributeError(f"module 'curate' has no attribute {name!r}")
    return getattr(importlib.import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return __all__
