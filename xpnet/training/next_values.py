"""Values of a setting to try next, from those that were tried: beyond an end of their list, or between them."""

from __future__ import annotations

import math
from collections.abc import Sequence

from xpnet.training.advice import Situation

# Settings that are probabilities or shares, which change by steps, and those that are weights of an old average, whose
# distance from 1 matters; all others change by factors.
_SHARES = ("dropout", "input_dropout", "label_smoothing")
_AVERAGES = ("momentum", "beta1", "beta2")
# Bounds of the factor between values beyond an end; the factor to values that are farther apart; neighbours by less
# than this factor are near enough; the step of shares, and the largest.
_LEAST, _MOST, _WIDE, _NEAR, _STEP, _LARGEST = 2.0, 10.0, 10.0, 1.5, 0.1, 0.8


def beyond(values: Sequence[float], best: Sequence[float], name: str, at: Situation) -> tuple[str, list[float]] | None:
    """Return the end of the list at which the best values lie, and values to try there; None if they lie inside.

    A value of 0 at the lower end is no end: none can lie beyond it.

    Args:
        values: What was tried, from the smallest to the largest; at least two values.
        best: Those of them that are best, in the same order.
        name: The setting.
        at: The other settings, which the values must fit.
    """
    upper, lower = best[-1] == values[-1], best[0] == values[0]
    if upper and lower:
        return None
    if upper and (new := _steps(values[-1], values[-2], name, at)):
        return "upper", [values[-1], *new]
    if lower and values[0] > 0 and (new := _steps(values[0], values[1], name, at)):
        return "lower", [*new[::-1], values[0]]
    return None


def _steps(end: float, neighbour: float, name: str, at: Situation) -> list[float]:
    """Return two values beyond the `end` of a list, whose next value is `neighbour`; fewer if it may not have them."""
    if name in _SHARES:
        step = end - neighbour if abs(end - neighbour) < _STEP else math.copysign(_STEP, end - neighbour)
        found = [end + step, end + 2 * step]
        found = [value for value in found if 0 <= value <= _LARGEST]
    elif name in _AVERAGES:
        away = 2.0 if end > neighbour else 0.5
        found = [1 - (1 - end) / away, 1 - (1 - end) / away**2]
        found = [value for value in found if 0 <= value < 1]
    else:
        ratio = max(end, neighbour) / min(end, neighbour) if min(end, neighbour) > 0 else math.sqrt(_MOST)
        ratio = min(_MOST, max(_LEAST, ratio))
        found = [end * ratio, end * ratio**2] if end > neighbour else [end / ratio, end / ratio**2]
    return _usable(found, [end, neighbour], name, at)


def within(values: Sequence[float], best: float, name: str, at: Situation) -> list[float]:
    """Return values between the best one and its neighbours in the list, with the best; empty if these are near it.

    Args:
        values: What was tried, from the smallest to the largest.
        best: The best of them.
        name: The setting.
        at: The other settings, which the values must fit.
    """
    place = list(values).index(best)
    neighbours = [*values[max(0, place - 1) : place], *values[place + 1 : place + 2]]
    new = [_middle(best, neighbour, name) for neighbour in neighbours if not _is_near(best, neighbour, name)]
    found = _usable(new, values, name, at)
    return sorted([*found, best]) if found else []


def wider(values: Sequence[float], best: float, name: str, at: Situation) -> list[float]:
    """Return the best value with others farther apart than the list, at both ends."""
    if name in _SHARES:
        new = [values[0] - _STEP, values[-1] + 2 * _STEP]
        new = [value for value in new if 0 <= value <= _LARGEST]
    elif name in _AVERAGES:
        new = [1 - (1 - values[-1]) / _WIDE]
    else:
        new = [*([values[0] / _WIDE] if values[0] > 0 else []), values[-1] * _WIDE]
    return sorted([*_usable(new, values, name, at), best])


def _middle(best: float, neighbour: float, name: str) -> float:
    """Return a value between two: their geometric mean, or a third of the other one if one of them is 0."""
    if name in _SHARES or name in _AVERAGES:
        return (best + neighbour) / 2
    low, high = sorted((best, neighbour))
    return math.sqrt(low * high) if low > 0 else high / 3


def _is_near(one: float, other: float, name: str) -> bool:
    if name in _SHARES:
        return abs(one - other) < _STEP / 2
    low, high = sorted((1 - one, 1 - other) if name in _AVERAGES else (one, other))
    return low > 0 and high / low < _NEAR


def _usable(new: Sequence[float], old: Sequence[float], name: str, at: Situation) -> list[float]:
    """Return values with two significant digits, without those that were tried or that the setting may not have."""
    rounded = [1 - float(f"{1 - value:.2g}") if name in _AVERAGES else float(f"{value:.2g}") for value in new]
    rounded = [float(f"{value:.6g}") for value in rounded]
    return [value for value in dict.fromkeys(rounded) if value not in old and at.accepts(name, value)]
