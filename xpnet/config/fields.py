"""Fields of settings classes, and the checks of their values.

A settings class is a frozen dataclass whose fields are made by :func:`setting`.  A check converts a value written in
Python, TOML or on the command line to its type, or raises ValueError with the allowed values, such as ``"a whole number
of at least 1"``.
"""

from __future__ import annotations

import contextlib
import dataclasses
import math
import os
from collections.abc import Callable, Iterable, Mapping, Sized
from numbers import Integral
from typing import Any, TypeAlias

from xpnet.errors import ConfigError
from xpnet.utils import schema

Check: TypeAlias = Callable[[Any], Any]
choice, flag, optional = schema.one_of, schema.flag, schema.optional
# Larger networks are refused before anything is allocated.
MOST_UNITS, MOST_LAYERS = 1_000_000, 1_000


def whole(low: int, high: int | None = None) -> Check:
    """Return a check for a whole number from `low`, up to `high` if given, such as 5, 5.0 or ``"5"``."""
    check = schema.bounded("a whole number", _whole, low, high)

    def within_doubles(value: Any) -> int:
        number = check(value)
        if number > 2**53:
            raise ValueError(f"a whole number of at least {low} and at most 2^53 (9,007,199,254,740,992)")
        return int(number)

    return within_doubles


def real(
    low: float | None = None, high: float | None = None, *, above: float | None = None, below: float | None = None
) -> Check:
    """Return a check for a finite number with low <= value <= high and above < value < below, as far as given."""
    return schema.bounded("a finite number", _finite, low, high, above=above, below=below)


def _whole(value: Any) -> int | float | None:
    number = _number(value)
    return number if number is not None and number == number // 1 else None


def _finite(value: Any) -> float | None:
    number = _number(value)
    try:
        converted = math.nan if number is None else float(number)
    except OverflowError:  # a whole number of hundreds of digits
        return None
    return converted if math.isfinite(converted) else None


def _number(value: Any) -> int | float | None:
    """Return a number, NumPy's scalars included, or the number in a text; None for other values, bool too."""
    if getattr(value, "ndim", None) == 0:
        value = value.item()
    if isinstance(value, str):
        for kind in (int, float):
            with contextlib.suppress(ValueError):
                return kind(value)
    return value if isinstance(value, (int, float)) and not isinstance(value, bool) else None


def per_replica(one: Check) -> Check:
    """Return a check for one value, or for a list, tuple or array with one value for each replica."""

    def check(value: Any) -> Any:
        if isinstance(value, (list, tuple)) or getattr(value, "ndim", 0) == 1:
            values = tuple(one(item) for item in value)
            if not values:
                raise ValueError("one number, or one for each replica")
            return values
        return one(value)

    return check


def text_of(wanted: str) -> Check:
    """Return a check for a text that is not blank, a path, or a whole number; `wanted` describes it in errors."""

    def check(value: Any) -> str:
        if isinstance(value, bool) or not isinstance(value, (str, Integral, os.PathLike)):
            raise ValueError(wanted)
        text = str(value)
        if not text.strip() or "\0" in text:
            raise ValueError(wanted)
        try:
            text.encode()  # files must be able to hold it
        except UnicodeEncodeError:
            raise ValueError(f"{wanted}, in UTF-8") from None
        return text

    return check


def hidden_sizes(value: Any) -> tuple[int, ...]:
    """Check for sizes such as ``(50, 50)`` or ``"50,50"``; without any, the network is a linear classifier."""
    wanted = f"the sizes of the hidden layers, each from 1 to {MOST_UNITS:,}, such as 50,50"
    if isinstance(value, str):
        value = [size.strip() for size in value.split(",")] if value.strip() else []
    items = [value] if isinstance(value, int) else value
    if isinstance(items, Mapping):
        raise ValueError(wanted)
    if isinstance(items, Sized) and getattr(items, "ndim", None) != 0 and len(items) > MOST_LAYERS:
        raise ValueError(f"{wanted}, of at most {MOST_LAYERS:,} layers, and has {len(items):,}")
    try:
        return tuple(whole(1, MOST_UNITS)(item) for item in items)
    except (TypeError, ValueError):
        raise ValueError(wanted) from None


def column_names(value: Any) -> tuple[str, ...]:
    """Check for names or numbers of columns, such as ``("id", "date")`` or ``"id,date"``."""
    wanted = "names or numbers of columns, such as id,date"
    items = value.split(",") if isinstance(value, str) else [value] if isinstance(value, int) else value
    if isinstance(items, Mapping) or not isinstance(items, Iterable) or getattr(items, "ndim", 1) == 0:
        raise ValueError(wanted)
    one = text_of(wanted)
    names = tuple(one(item).strip() for item in items)
    if not names or len(set(names)) < len(names):
        raise ValueError(f"{wanted}, each once")
    return names


def image_size(value: Any) -> str:
    """Check for ``"32"`` or ``"HEIGHTxWIDTH"``, each side from 1 to 4096; return it as HEIGHTxWIDTH."""
    sides = str(value).lower().split("x")
    try:
        height, width = (whole(1, 4096)(side.strip()) for side in (sides * 2 if len(sides) == 1 else sides))
    except ValueError:
        raise ValueError("a number of pixels, or HEIGHTxWIDTH, each from 1 to 4096, such as 32 or 28x28") from None
    return f"{height}x{width}"


def class_weights(value: Any) -> str | tuple[float, ...]:
    """Check for balanced, or numbers of at least 0 such as ``(1, 2.5)`` or ``"1,2.5"``, one for each class."""
    if value == "balanced" and isinstance(value, str):
        return value
    items = value.split(",") if isinstance(value, str) else value
    try:
        weights = tuple(float(real(0)(item)) for item in ([items] if _is_one(items) else items))
    except (TypeError, ValueError):
        weights = ()
    if not weights or isinstance(value, Mapping) or not any(weights):
        raise ValueError("balanced, or a finite number of at least 0 for each class, such as 1,2.5, not all of them 0")
    return weights


def _is_one(value: Any) -> bool:
    """Return whether a value is a single number and not a sequence."""
    return isinstance(value, (int, float)) or getattr(value, "ndim", None) == 0


def initial_weights(value: Any) -> str | float:
    """Check for he, xavier or a standard deviation."""
    if value in ("he", "xavier"):
        return str(value)
    try:
        return float(real(above=0)(value))
    except ValueError:
        raise ValueError("he, xavier, or a standard deviation above 0") from None


def half_cycle(value: Any) -> int | str:
    """Check for steps, such as 2250, or epochs, such as ``"5ep"``."""
    try:
        if isinstance(value, str) and value.endswith("ep"):
            return f"{whole(1)(value[:-2])}ep"
        return int(whole(1)(value))
    except ValueError:
        raise ValueError("a whole number of steps of at least 1, or of epochs, such as 5ep") from None


def epochs(value: Any) -> int | float:
    """Check for a number of epochs, such as 20 or 2.6; a whole number becomes an int."""
    number = real(above=0)(value)
    if number > 2**53:
        raise ValueError("a number above 0 and at most 2^53")
    return int(number) if number == int(number) else float(number)


def views(value: Any) -> int:
    """Check for a number of views of a picture: 1, 2 or 6."""
    try:
        number = whole(1)(value)
    except ValueError:
        number = 0
    if number not in (1, 2, 6):
        raise ValueError("1, 2 or 6")
    return int(number)


def setting(
    default: Any, check: Check, text: str, *, name: str | None = None, metavar: str = "", unset: str = ""
) -> Any:
    """Return a field that is checked and documented; None is allowed if it is the default.

    `name` is the name outside Python, if it differs; `unset` describes in words what a default of None means.
    """
    check = optional(check) if default is None else check
    metadata = {"check": check, "help": text, "name": name, "metavar": metavar, "unset": unset}
    return dataclasses.field(default=default, metadata=metadata)


def chosen(default: str | None, names: str, text: str, *, unset: str = "") -> Any:
    """Return a field for one of some names, such as ``"rgb|gray"``; or None, if that is the default."""
    return setting(default, choice(*names.split("|")), text, metavar=names, unset=unset)


def setting_name(field: dataclasses.Field[Any]) -> str:
    """Return the name of a field in TOML and, with dashes, on the command line."""
    return field.metadata.get("name") or field.name


def argument(name: str, value: Any, check: Check) -> Any:
    """Return a value as its check converts it.

    Raises:
        ConfigError: The value is out of its range.
    """
    try:
        return check(value)
    except ValueError as error:
        raise ConfigError(f"{name} = {shown(value)}: must be {error}") from None


class Checked:
    """Base of the settings classes: runs every field's check when an instance is made."""

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):  # type: ignore[arg-type]
            value = argument(setting_name(field), getattr(self, field.name), field.metadata["check"])
            object.__setattr__(self, field.name, value)


def shown(value: Any) -> str:
    """Return a value as a user would write it."""
    if isinstance(value, bool):
        return str(value).lower()
    try:
        return str(list(value) if isinstance(value, tuple) else value)
    except ValueError:  # Python does not print integers of thousands of digits
        return "a number without end"
