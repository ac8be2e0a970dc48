"""Packages that can be called: a function of their name cannot stand beside them in the namespace of ``xpnet``."""

from __future__ import annotations

import inspect
import sys
import types
from collections.abc import Callable
from typing import Any


def call_as(package: str, function: Callable[..., Any]) -> None:
    """Let a package be called as `function`, with its signature, and its documentation before the package's own."""

    class CalledPackage(types.ModuleType):
        __signature__ = inspect.signature(function)

        def __call__(self, *args: Any, **options: Any) -> Any:
            return function(*args, **options)

    module = sys.modules[package]
    module.__class__ = CalledPackage
    if module.__doc__ is not None:  # python -OO leaves docstrings out
        module.__doc__ = f"{inspect.getdoc(function)}\n\n{module.__doc__}"
