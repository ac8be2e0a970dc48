"""Callbacks made of functions."""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Any

import xpnet


class Calls(xpnet.Callback):
    """Calls the functions that are given by the names of methods."""

    def __init__(self, *, prune_at: Collection[int] = (), **functions: Callable[..., Any]) -> None:
        self.prune_at = prune_at
        for name, function in functions.items():
            assert hasattr(xpnet.Callback, name), name
            setattr(self, name, function)
