"""What JSON and TOML files must hold, and what is said of a value that is something else.

A shape is a function that takes a value and raises :class:`Misfit` if it is none of its kind.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

from xpnet.errors import XpnetError, one_line
from xpnet.utils.parsing import key_of

Shape: TypeAlias = Callable[[Any], None]
Shapes: TypeAlias = Mapping[str, Shape]


class Misfit(ValueError):  # noqa: N818 - it does not leave this module
    """A value is not what it must be.

    Attributes:
        keys: Where it is, from the outermost key on.
        words: What is wrong.
    """

    def __init__(self, words: str) -> None:
        super().__init__(words)
        self.keys: list[Any] = []
        self.words = words


def check(value: Any, shape: Shape, called: str, error: type[XpnetError]) -> None:
    """Hold a value against a shape.

    Args:
        value: What was read.
        shape: What it must be.
        called: What messages call it, such as the path of its file.
        error: What is raised.

    Raises:
        XpnetError: Of the kind `error`: it is something else; the message names the key.
    """
    try:
        shape(value)
    except Misfit as misfit:
        place = f"{key_of(misfit.keys)}: " if misfit.keys else ""
        raise error(f"{called}: {place}{misfit.words}") from None


def number(low: float | None = None, high: float | None = None) -> Shape:
    """Return the shape of numbers from `low` to `high`."""
    return _within(low, high, "a number", (int, float))


def whole(low: int | None = None, high: int | None = 2**53) -> Shape:
    """Return the shape of whole numbers from `low` to `high`."""
    return _within(low, high, "a whole number", (int,))


def _within(low: float | None, high: float | None, what: str, kinds: tuple[type, ...]) -> Shape:
    ends = [*([] if low is None else [f"of at least {low}"]), *([] if high is None else [f"of at most {high}"])]
    wanted = " ".join([what, " and ".join(ends)]).strip()

    def shape(value: Any) -> None:
        right = isinstance(value, kinds) and not isinstance(value, bool)
        if not right or (low is not None and value < low) or (high is not None and value > high):
            raise Misfit(f"must be {wanted}, and is {_shown(value)}")

    return shape


def text(value: Any) -> None:
    """Check for text."""
    if not isinstance(value, str):
        raise Misfit(f"must be text, and is {_shown(value)}")


def flag(value: Any) -> None:
    """Check for a truth value."""
    if not isinstance(value, bool):
        raise Misfit(f"must be true or false, and is {_shown(value)}")


def one_of(*names: Any) -> Shape:
    """Return the shape of some values."""

    def shape(value: Any) -> None:
        if not any(value == name and type(value) is type(name) for name in names):
            raise Misfit(f"must be {' or '.join(map(str, names))}, and is {_shown(value)}")

    return shape


def optional(shape: Shape) -> Shape:
    """Return a shape that null fits too."""
    return lambda value: None if value is None else shape(value)


def either(wanted: str, *shapes: Shape) -> Shape:
    """Return the shape of what fits one of several; `wanted` names them all."""

    def shape(value: Any) -> None:
        for one in shapes:
            try:
                one(value)
            except Misfit as misfit:
                if misfit.keys:  # it was meant to be this one
                    raise
            else:
                return
        raise Misfit(f"must be {wanted}, and is {_shown(value)}")

    return shape


def items(of: Shape, *, length: int | None = None, most: int | None = None) -> Shape:
    """Return the shape of lists of `of`, of exactly `length` or at most `most`."""

    def shape(value: Any) -> None:
        if not isinstance(value, list):
            raise Misfit(f"must be a list, and is {_shown(value)}")
        if length is not None and len(value) != length:
            raise Misfit(f"must have {length} values, and has {len(value)}")
        if most is not None and len(value) > most:
            raise Misfit(f"has {len(value):,} values, and may have {most:,}")
        for place, item in enumerate(value):
            _at(place, of, item)

    return shape


def mapping(of: Shape) -> Shape:
    """Return the shape of objects with any keys, all of whose values fit `of`."""

    def shape(value: Any) -> None:
        if not isinstance(value, dict):
            raise Misfit(f"must be an object, and is {_shown(value)}")
        for key, item in value.items():
            _at(key, of, item)

    return shape


def record(required: Shapes, others: Shapes | None = None, *, closed: bool = False) -> Shape:
    """Return the shape of objects with known keys.

    Args:
        required: Keys that must be there.
        others: Keys that may be there.
        closed: Whether further keys are refused; otherwise nothing is said of them, as later versions may add some.
    """
    known = {**required, **(others or {})}

    def shape(value: Any) -> None:
        if not isinstance(value, dict):
            raise Misfit(f"must be an object, and is {_shown(value)}")
        for key in required:
            if key not in value:
                raise Misfit(f"has no {key}")
        for key, item in value.items():
            if key in known:
                _at(key, known[key], item)
            elif closed:
                raise Misfit(f"has the key {one_line(str(key), 60)}; known are {', '.join(known)}")

    return shape


def anything(_: Any) -> None:
    """Check nothing: the value is shown as it is, or not used."""


def _at(key: Any, shape: Shape, value: Any) -> None:
    try:
        shape(value)
    except Misfit as misfit:
        misfit.keys.insert(0, key)
        raise


def _shown(value: Any) -> str:
    if isinstance(value, dict):
        return "an object"
    if isinstance(value, list):
        return "a list"
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    return one_line(repr(value), 60)
