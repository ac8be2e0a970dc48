"""Hyperparameter search: trials trained as populations, shared by any number of workers."""

from __future__ import annotations

from xpnet.tuning.search import Search, SearchResult
from xpnet.tuning.search_config import SearchConfig
from xpnet.tuning.space import Dimension, Space
from xpnet.tuning.storage import open_storage
from xpnet.tuning.trials import Outcome, Trial

__all__ = ["Dimension", "Outcome", "Search", "SearchConfig", "SearchResult", "Space", "Trial", "open_storage"]
