"""Checks of the values in JSON and TOML files, and common checks of settings.

A check, here called a shape, takes a value and returns it, or raises ValueError with the allowed values, such as
``"a whole number of at least 1"``.  A shape of several values raises :class:`Misfit`, which names the key.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

from xpnet.errors import XpnetError, one_line
from xpnet.utils.parsing import key_of

Shape: TypeAlias = Callable[[Any], Any]
Shapes: TypeAlias = Mapping[str, Shape]


class Misfit(ValueError):  # noqa: N818 - :func:`check` turns it into an error
    """A value in a file does not fit its shape.

    Attributes:
        keys: The position of the value, from the outermost key on.
        words: The problem in words.
    """

    def __init__(self, words: str) -> None:
        super().__init__(words)
        self.keys: list[Any] = []
        self.words = words


def check(value: Any, shape: Shape, called: str, error: type[XpnetError]) -> None:
    """Check a value that was read from a file.

    Args:
        value: The value.
        shape: The shape that the value must fit.
        called: Name of the file in messages, such as its path.
        error: The kind of error to raise.

    Raises:
        XpnetError: The value does not fit; the error is of class `error`, and its message names the key.
    """
    try:
        _check_at(None, shape, value)
    except Misfit as misfit:
        place = f"{key_of(misfit.keys)}: " if misfit.keys else ""
        raise error(f"{called}: {place}{misfit.words}") from None


def _check_at(key: Any, shape: Shape, value: Any) -> None:
    """Check the value at a key; None stands for no key."""
    try:
        shape(value)
    except ValueError as error:
        misfit = error if isinstance(error, Misfit) else _misfit(str(error), value)
        if key is not None:
            misfit.keys.insert(0, key)
        raise misfit from None


def _misfit(wanted: str, value: Any) -> Misfit:
    shown = {dict: "an object", list: "a list", type(None): "null"}.get(type(value))
    shown = shown or (str(value).lower() if isinstance(value, bool) else one_line(repr(value), 60))
    return Misfit(f"must be {wanted}, and is {shown}")


def bounded(
    what: str,
    number: Callable[[Any], Any],
    low: float | None = None,
    high: float | None = None,
    *,
    above: float | None = None,
    below: float | None = None,
) -> Shape:
    """Return a check for numbers with low <= value <= high and above < value < below, as far as given.

    `what` names such numbers in messages; `number` converts a value, or returns None if it is not a number.
    """
    lower = f"of at least {_plain(low)}" if low is not None else f"above {_plain(above)}" if above is not None else ""
    upper = f"at most {_plain(high)}" if high is not None else f"below {_plain(below)}" if below is not None else ""
    of = "of " if high is not None and not lower else ""
    wanted = f"{what} {of}{' and '.join(filter(None, (lower, upper)))}".strip()

    low, high = -math.inf if low is None else low, math.inf if high is None else high
    above, below = -math.inf if above is None else above, math.inf if below is None else below

    def shape(value: Any) -> Any:
        converted = number(value)
        if converted is None or not (low <= converted <= high and above < converted < below):
            raise ValueError(wanted)
        return converted

    return shape


def _plain(limit: float | None) -> str:
    return f"{limit:g}" if isinstance(limit, float) else str(limit)


def _of_type(*types: type) -> Callable[[Any], Any]:
    return lambda value: value if isinstance(value, types) and not isinstance(value, bool) else None


def number(low: float | None = None, high: float | None = None) -> Shape:
    """Return the shape of numbers from `low` to `high`."""
    return bounded("a number", _of_type(int, float), low, high)


def whole(low: int | None = None, high: int | None = 2**53) -> Shape:
    """Return the shape of whole numbers from `low` to `high`."""
    return bounded("a whole number", _of_type(int), low, high)


def text(value: Any) -> str:
    """Check for text."""
    if not isinstance(value, str):
        raise ValueError("text")
    return value


def flag(value: Any) -> bool:
    """Check for True or False."""
    if not isinstance(value, bool):
        raise ValueError("true or false")
    return value


def one_of(*names: str) -> Shape:
    """Return a check for one of `names`."""

    def shape(value: Any) -> str:
        if not isinstance(value, str) or value not in names:
            raise ValueError(" or ".join(filter(None, [", ".join(names[:-1]), names[-1]])))
        return str(value)

    return shape


def optional(shape: Shape) -> Shape:
    """Return a check that also accepts None, which is null in JSON."""
    return lambda value: None if value is None else shape(value)


def either(wanted: str, *shapes: Shape) -> Shape:
    """Return the shape of values that fit one of `shapes`; `wanted` describes all of them in messages."""

    def shape(value: Any) -> Any:
        for one in shapes:
            try:
                return one(value)
            except Misfit as misfit:
                if misfit.keys:  # the value was meant to have this shape
                    raise
            except ValueError:
                continue
        raise _misfit(wanted, value)

    return shape


def items(of: Shape, *, length: int | None = None, most: int | None = None) -> Shape:
    """Return the shape of lists of `of` with exactly `length`, or at most `most`, items."""

    def shape(value: Any) -> None:
        if not isinstance(value, list):
            raise _misfit("a list", value)
        if length is not None and len(value) != length:
            raise Misfit(f"must have {length} values, and has {len(value)}")
        if most is not None and len(value) > most:
            raise Misfit(f"has {len(value):,} values, and may have {most:,}")
        for place, item in enumerate(value):
            _check_at(place, of, item)

    return shape


def mapping(of: Shape) -> Shape:
    """Return the shape of objects with any keys whose values all fit `of`."""

    def shape(value: Any) -> None:
        if not isinstance(value, dict):
            raise _misfit("an object", value)
        for key, item in value.items():
            _check_at(key, of, item)

    return shape


def record(required: Shapes, others: Shapes | None = None, *, closed: bool = False) -> Shape:
    """Return the shape of objects with known keys.

    Args:
        required: Required keys.
        others: Optional keys.
        closed: Whether further keys are refused; otherwise they are ignored, as later versions may add keys.
    """
    known = {**required, **(others or {})}

    def shape(value: Any) -> None:
        if not isinstance(value, dict):
            raise _misfit("an object", value)
        for key in required:
            if key not in value:
                raise Misfit(f"has no {key}")
        for key, item in value.items():
            if key in known:
                _check_at(key, known[key], item)
            elif closed:
                raise Misfit(f"has the key {one_line(str(key), 60)}; known are {', '.join(known)}")

    return shape


def anything(_: Any) -> None:
    """Accept any value: it is shown unchanged, or not used."""
