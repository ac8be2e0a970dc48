"""Figures and names as people read them."""

from __future__ import annotations

from typing import Any

_LONGEST_LABEL = 60


def percent(value: Any) -> str:
    """Return a share, or the mean and standard deviation of several, in percent."""
    if isinstance(value, dict):
        if value["mean"] is None or value["std"] is None:
            return percent(value["mean"])
        return f"{100 * value['mean']:.2f} ± {100 * value['std']:.2f} %"
    return "diverged" if value is None else f"{100 * value:.2f} %"


def number(value: Any) -> str:
    """Return a number, or the mean and standard deviation of several."""
    if isinstance(value, dict):
        if value["mean"] is None or value["std"] is None:
            return number(value["mean"])
        return f"{_short(value['mean'])} ± {_short(value['std'])}"
    return "-" if value is None else _short(value)


def _short(value: float) -> str:
    # A loss on its way to infinity has dozens of digits.
    return f"{value:.4f}" if abs(value) < 1e6 else f"{value:.4g}"


def class_label(name: str, number: int) -> str:
    """Return a class's name for a chart or a page; one that is long gives way to its beginning and its number."""
    return name if len(name) <= _LONGEST_LABEL else f"{name[:_LONGEST_LABEL]}\N{HORIZONTAL ELLIPSIS} ({number})"
