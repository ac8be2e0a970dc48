"""Hyperparameter search: trials trained as populations, shared by any number of workers.

A name loads its module when it is first used: cross-validation, which needs no search, is a module of this folder too.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from xpnet.tuning.search import Search, SearchResult
    from xpnet.tuning.search_config import SearchConfig
    from xpnet.tuning.space import Dimension, Space
    from xpnet.tuning.storage import open_storage
    from xpnet.tuning.trials import Outcome, Trial

__all__ = ["Dimension", "Outcome", "Search", "SearchConfig", "SearchResult", "Space", "Trial", "open_storage"]

# The modules that define these names.
_NAMES = {
    "search": "Search SearchResult",
    "search_config": "SearchConfig",
    "space": "Dimension Space",
    "storage": "open_storage",
    "trials": "Outcome Trial",
}
_HOMES = {name: module for module, names in _NAMES.items() for name in names.split()}


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(importlib.import_module(f"xpnet.tuning.{_HOMES[name]}"), name)
    raise AttributeError(f"module 'xpnet.tuning' has no attribute {name!r}")
