"""Searches for settings: trials trained as populations, shared by any number of workers, and safe from being killed.

``xpnet.search(...)`` is :func:`~xpnet.search.session.search`, for this package can be called.
"""

from __future__ import annotations

from xpnet.called import call_as
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

call_as(__name__, search)
