"""Checks of the arguments of public functions."""

from __future__ import annotations

import errno
import functools
import inspect
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar, cast

import numpy as np

from xpnet.config.fields import Check, argument, real
from xpnet.utils.parsing import DIGITS

Function = TypeVar("Function", bound=Callable[..., Any])


def takes(**checks: Check) -> Callable[[Function], Function]:
    """Return a decorator that checks those arguments of a function that are given, by name.

    The result of a check replaces the argument.  If a check raises ValueError, a ConfigError names the value and the
    allowed values.
    """

    def decorate(function: Function) -> Function:
        signature = inspect.signature(function)

        @functools.wraps(function)
        def checked(*args: Any, **options: Any) -> Any:
            bound = signature.bind(*args, **options)
            for name in bound.arguments.keys() & checks.keys():
                bound.arguments[name] = argument(name, bound.arguments[name], checks[name])
            return function(*bound.args, **bound.kwargs)

        return cast(Function, checked)

    return decorate


def kind(*classes: type) -> Check:
    """Return a check for an instance of one of `classes`."""
    names = " or ".join(f"{'an' if c.__name__[0] in 'AEIOU' else 'a'} {c.__name__}" for c in classes)

    def check(value: Any) -> Any:
        if not isinstance(value, classes):
            raise ValueError(f"{names}, and is of the type {type(value).__name__}")
        return value

    return check


def function(value: Any) -> Any:
    """Check for a callable."""
    if not callable(value):
        raise ValueError(f"a function, and is of the type {type(value).__name__}")
    return value


def floating(value: Any) -> str:
    """Check for float32 or float64, given by name or as a NumPy type."""
    try:
        name = str(np.dtype(value)) if isinstance(value, (str, type, np.dtype)) else ""
    except (TypeError, UnicodeError):
        name = ""
    if name not in ("float32", "float64"):
        raise ValueError("float32 or float64")
    return name


def seeds(value: Any) -> int | tuple[int, ...]:
    """Check for a whole number of at least 0, or for several."""
    if isinstance(value, np.ndarray) and value.ndim == 1:
        value = value.tolist()
    if isinstance(value, Sequence) and not isinstance(value, (str, bytes)):
        return tuple(_seed(item) for item in value)
    return _seed(value)


def _seed(value: Any) -> int:
    if getattr(value, "ndim", None) == 0:
        value = value.item()
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value < 10**DIGITS:
        raise ValueError(f"a whole number of at least 0 and at most {DIGITS} digits, or a sequence of them")
    return value


def whole_numbers(value: Any) -> tuple[int, ...]:
    """Check for any number of whole numbers."""
    try:
        items = [value] if isinstance(value, (str, bytes)) else list(value)
    except TypeError:
        raise ValueError("whole numbers of at least 0, such as [100, 200]") from None
    return tuple(_seed(item) for item in items)


def some_of(*names: str) -> Check:
    """Return a check for a sequence of some of `names`."""

    def check(value: Any) -> tuple[str, ...]:
        if isinstance(value, (list, tuple)) and all(isinstance(item, str) and item in names for item in value):
            return tuple(value)
        raise ValueError(f"some of {', '.join(names)}, in a sequence")

    return check


def numbers(value: Any) -> Any:
    """Check for a finite number of at least 0, or for several in a sequence or an array of one dimension."""
    if isinstance(value, (list, tuple)):
        return tuple(real(0)(item) for item in value)
    if getattr(value, "ndim", 0) == 1:  # not read: on a GPU, reading would wait
        if value.dtype.kind not in "iuf":
            raise ValueError("a finite number of at least 0, or one for each replica")
        return value
    return real(0)(value)


def path(value: Any) -> Path:
    """Check for a possible path of a file or a folder."""
    if not isinstance(value, (str, os.PathLike)):
        raise ValueError(f"a path, and is of the type {type(value).__name__}")
    try:
        checked = Path(value)
        os.lstat(checked)
    except (TypeError, ValueError) as error:  # bytes, or text with a NUL or a lone surrogate
        raise ValueError(f"a path of a file or a folder, and is none ({error})") from None
    except OSError as error:
        if error.errno not in (errno.ENOENT, errno.ENOTDIR):
            raise ValueError(f"a path that can be looked at, and is not ({error.strerror})") from None
    return checked
