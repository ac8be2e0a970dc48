"""Searches for settings: trials trained as populations, shared by any number of workers, and safe from being killed.

``xpnet.search(...)`` is :func:`~xpnet.search.session.search`; this package can be called, since a function of its name
cannot stand beside it in the namespace of ``xpnet``.
"""

from __future__ import annotations

import sys
import types
from typing import Any

from xpnet.search.config import SearchConfig
from xpnet.search.outcome import Outcome, Trial
from xpnet.search.session import SearchResult, Session, search
from xpnet.search.space import Dimension, Space
from xpnet.search.storage import open_storage

__all__ = [
    "Dimension",
    "Outcome",
    "SearchConfig",
    "SearchResult",
    "Session",
    "Space",
    "Trial",
    "open_storage",
    "search",
]


class _Callable(types.ModuleType):
    def __call__(self, *args: Any, **options: Any) -> SearchResult:
        return search(*args, **options)


sys.modules[__name__].__class__ = _Callable
