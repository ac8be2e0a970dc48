"""Figures, settings and names as people read them."""

from __future__ import annotations

from typing import Any

_LONGEST_LABEL = 60
_GREEK = {"lambda": "\N{GREEK SMALL LETTER LAMDA}", "eta": "\N{GREEK SMALL LETTER ETA}"}
# Names of the data sets for readers, by their names in files.
SET_NAMES = {"train": "training", "validation": "validation", "test": "test"}


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
    # A loss that diverges has dozens of digits.
    return f"{value:.4f}" if abs(value) < 1e6 else f"{value:.4g}"


def metric(name: str, value: Any) -> str:
    """Return an accuracy in percent, a loss or a cost as a number; see :func:`percent` and :func:`number`."""
    return percent(value) if name.endswith("accuracy") else number(value)


def setting_label(name: str) -> str:
    """Return the name of a setting on axes and in tables, with Greek letters for lambda and eta."""
    return _GREEK.get(name, name)


def is_number(value: Any) -> bool:
    """Return whether a setting's value is a number; bool does not count."""
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def file_stem(name: str) -> str:
    """Return a name with a hyphen in place of each character that some systems forbid in file names."""
    return "".join(c if c.isalnum() else "-" for c in name)


def capitalised(text: str) -> str:
    """Return a text with its first letter in upper case and the rest unchanged."""
    return text[:1].upper() + text[1:]


def class_label(name: str, number: int) -> str:
    """Return a class's name for a chart or a page; a long name is cut, and its number added."""
    return name if len(name) <= _LONGEST_LABEL else f"{name[:_LONGEST_LABEL]}\N{HORIZONTAL ELLIPSIS} ({number})"
