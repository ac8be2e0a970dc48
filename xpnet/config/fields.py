"""Settings that are checked: what a value may be, and how it may be written.

A settings class is a frozen dataclass whose fields are made by :func:`setting`.  A check converts a
value written in Python, TOML or on the command line to its type, or raises ValueError with what
would be right, such as ``"a whole number of at least 1"``.
"""

from __future__ import annotations

import dataclasses
import math
import os
from collections.abc import Callable, Mapping, Sized
from numbers import Integral
from typing import Any, TypeAlias

from xpnet.errors import ConfigError

Check: TypeAlias = Callable[[Any], Any]
# Sizes of networks that are refused before anything is made of them.
MOST_UNITS, MOST_LAYERS = 1_000_000, 1_000


def whole(minimum: int, maximum: int | None = None) -> Check:
    """Check for a whole number from `minimum` up to `maximum`, if there is one, such as 5, 5.0 or ``"5"``."""
    wanted = f"a whole number of at least {minimum}" + ("" if maximum is None else f" and at most {maximum}")

    def check(value: Any) -> int:
        value = _number(value, wanted)
        if value != value // 1 or value < minimum or (maximum is not None and value > maximum):
            raise ValueError(wanted)
        if value > 2**53:
            raise ValueError(f"{wanted} and at most 2^53 (9,007,199,254,740,992)")
        return int(value)

    return check


def real(
    low: float = -math.inf, high: float = math.inf, *, above: float | None = None, below: float | None = None
) -> Check:
    """Check for a finite number with low <= value <= high, and above < value < below where given."""
    parts = [
        *([f"above {above:g}"] if above is not None else [f"of at least {low:g}"] if low > -math.inf else []),
        *([f"below {below:g}"] if below is not None else [f"of at most {high:g}"] if high < math.inf else []),
    ]
    wanted = " ".join(["a finite number", " and ".join(parts)]).strip()

    def check(value: Any) -> float:
        try:
            number = float(_number(value, wanted))
        except OverflowError:  # a whole number of hundreds of digits
            raise ValueError(wanted) from None
        inside = low <= number <= high and (above is None or number > above) and (below is None or number < below)
        if not (math.isfinite(number) and inside):
            raise ValueError(wanted)
        return number

    return check


def _number(value: Any, wanted: str) -> int | float:
    """Return a number, NumPy's scalars included, or what a text says; a truth value is none."""
    if getattr(value, "ndim", None) == 0:
        value = value.item()
    if isinstance(value, str):
        try:
            return int(value)
        except ValueError:
            try:
                return float(value)
            except ValueError:
                raise ValueError(wanted) from None
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise ValueError(wanted)
    return value


def per_replica(one: Check) -> Check:
    """Check for one value, or for a list, tuple or array with one for each replica."""

    def check(value: Any) -> Any:
        if isinstance(value, (list, tuple)) or getattr(value, "ndim", 0) == 1:
            values = tuple(one(item) for item in value)
            if not values:
                raise ValueError("one number, or one for each replica")
            return values
        return one(value)

    return check


def choice(*names: str) -> Check:
    """Check for one of `names`."""

    def check(value: Any) -> str:
        if not isinstance(value, str) or value not in names:
            raise ValueError(" or ".join([", ".join(names[:-1]), names[-1]]))
        return str(value)

    return check


def flag(value: Any) -> bool:
    """Check for a truth value."""
    if not isinstance(value, bool):
        raise ValueError("true or false")
    return value


def optional(check: Check) -> Check:
    """Let None pass, and check everything else."""
    return lambda value: None if value is None else check(value)


def text_of(wanted: str) -> Check:
    """Check for a text that is not blank, a path, or a whole number; `wanted` says what it should be."""

    def check(value: Any) -> str:
        if isinstance(value, bool) or not isinstance(value, (str, Integral, os.PathLike)):
            raise ValueError(wanted)
        text = str(value)
        if not text.strip() or "\0" in text:
            raise ValueError(wanted)
        try:
            text.encode()  # it is kept in files
        except UnicodeEncodeError:
            raise ValueError(f"{wanted}, in UTF-8") from None
        return text

    return check


def hidden_sizes(value: Any) -> tuple[int, ...]:
    """Check for sizes such as ``(50, 50)`` or ``"50,50"``; none at all is a linear classifier."""
    wanted = f"the sizes of the hidden layers, each from 1 to {MOST_UNITS:,}, such as 50,50"
    if isinstance(value, str):
        value = value.split(",") if value.strip() else []  # no hidden layer is a choice too
    items = [value] if isinstance(value, int) else value
    if isinstance(items, Mapping):
        raise ValueError(wanted)
    if isinstance(items, Sized) and getattr(items, "ndim", None) != 0 and len(items) > MOST_LAYERS:
        raise ValueError(f"{wanted}, of at most {MOST_LAYERS:,} layers, and has {len(items):,}")
    try:
        return tuple(whole(1, MOST_UNITS)(item.strip() if isinstance(item, str) else item) for item in items)
    except (TypeError, ValueError):
        raise ValueError(wanted) from None


def image_size(value: Any) -> str:
    """Check for ``"32"`` or ``"HEIGHTxWIDTH"``, each side from 1 to 4096; return it as HEIGHTxWIDTH."""
    sides = str(value).lower().split("x")
    try:
        height, width = (whole(1)(side.strip()) for side in (sides * 2 if len(sides) == 1 else sides))
    except ValueError:
        height = width = 0
    if not (1 <= height <= 4096 and 1 <= width <= 4096):
        raise ValueError("a number of pixels, or HEIGHTxWIDTH, each from 1 to 4096, such as 32 or 28x28")
    return f"{height}x{width}"


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
    wanted = "a whole number of steps of at least 1, or of epochs, such as 5ep"
    try:
        if isinstance(value, str) and value.endswith("ep"):
            return f"{whole(1)(value[:-2])}ep"
        return int(whole(1)(value))
    except ValueError:
        raise ValueError(wanted) from None


def setting(
    default: Any, check: Check, text: str, *, name: str | None = None, metavar: str = "", unset: str = ""
) -> Any:
    """Make a field that is checked and documented.

    Its `name` outside Python is given if that differs; `unset` says in words what a default of None stands for.
    """
    metadata = {"check": check, "help": text, "name": name, "metavar": metavar, "unset": unset}
    return dataclasses.field(default=default, metadata=metadata)


def setting_name(field: dataclasses.Field[Any]) -> str:
    """Return what a field is called in TOML and, with dashes, on the command line."""
    return field.metadata.get("name") or field.name


def argument(name: str, value: Any, check: Check) -> Any:
    """Return a value as its check converts it.

    Raises:
        ConfigError: It is out of its range.
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
    """Return a value as a user would have written it."""
    if isinstance(value, bool):
        return str(value).lower()
    try:
        return value if isinstance(value, str) else str(list(value) if isinstance(value, tuple) else value)
    except ValueError:  # Python writes no whole number of thousands of digits
        return "a number without end"
