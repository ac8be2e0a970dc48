"""Conditions on runs, such as ``lambda<0.01``, and their order."""

from __future__ import annotations

import difflib
import operator
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from xpnet.config.settings import Settings
from xpnet.errors import ConfigError
from xpnet.runs.listing import OF_FIGURES, VALUES, RunEntry

_OPERATORS: dict[str, Callable[[Any, Any], bool]] = {
    "<=": operator.le,
    ">=": operator.ge,
    "!=": operator.ne,
    "<": operator.lt,
    ">": operator.gt,
    "=": operator.eq,
}
_FORM = re.compile(r"\s*([A-Za-z][\w-]*)\s*(<=|>=|!=|==|<|>|=|~)\s*(.*?)\s*", re.DOTALL)


@dataclass(frozen=True)
class Condition:
    """A comparison of a run's value.

    Attributes:
        text: As it was written.
        name: The name of the value.
        sign: One of ``< <= > >= = != ~``; the last means "contains".
        wanted: What it is compared with.
    """

    text: str
    name: str
    sign: str
    wanted: str

    @classmethod
    def of(cls, text: str) -> Condition:
        """Return the condition that a text describes.

        Raises:
            ConfigError: The text is none.
        """
        found = _FORM.fullmatch(text)
        if found is None or not found[3]:
            raise ConfigError(f"where = {text}: must be NAME<VALUE, with one of < <= > >= = != ~, such as lambda<0.01")
        name, sign, wanted = found.groups()
        return cls(text, name.replace("-", "_"), "=" if sign == "==" else sign, wanted)

    def holds(self, value: Any) -> bool:
        """Return whether the condition holds for a value; for a missing value, only that it is another one."""
        if value is None:
            return self.sign == "!="
        if isinstance(value, (list, tuple)):
            whole = ",".join(map(_words, value))
            if self.sign == "!=":
                return whole != self.wanted and not any(_compared("=", item, self.wanted) for item in value)
            return whole == self.wanted or any(self.holds(item) for item in value)
        return _compared(self.sign, value, self.wanted)


def _compared(sign: str, value: Any, wanted: str) -> bool:
    if sign == "~":
        return wanted.lower() in _words(value).lower()
    number = _number(wanted)
    if isinstance(value, (int, float)) and not isinstance(value, bool) and number is not None:
        return _OPERATORS[sign](value, number)
    return _OPERATORS[sign](_words(value), wanted)


def _number(text: str) -> float | None:
    try:
        return float(text.removesuffix("%")) / (100 if text.endswith("%") else 1)
    except ValueError:
        return None


def _words(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def selected(entries: Sequence[RunEntry], where: Sequence[str], sort: str | None = None) -> list[RunEntry]:
    """Return the runs for which all conditions hold, in an order.

    Args:
        entries: The runs.
        where: Conditions such as ``"lambda<0.01"``, ``"hidden=50,50"`` or ``"data~cifar"`` (contains); of a setting
            with several values, one must satisfy it.
        sort: Name of a setting, a figure or another value, with a minus sign for the largest first; runs without it
            come last. None keeps the order.

    Raises:
        ConfigError: A condition is none, or names nothing that any run has.
    """
    conditions = [Condition.of(text) for text in where]
    for name, text in [(one.name, one.text) for one in conditions] + ([(sort.lstrip("-"), sort)] if sort else []):
        _check_name(name, text, entries)
    kept = [entry for entry in entries if all(one.holds(entry.value(one.name)) for one in conditions)]
    if not sort:
        return kept
    name = sort.lstrip("-")
    known = [entry for entry in kept if entry.value(name) is not None]
    texts = any(not isinstance(entry.value(name), (int, float)) for entry in known)
    known.sort(key=lambda entry: str(entry.value(name)) if texts else entry.value(name), reverse=sort.startswith("-"))
    return known + [entry for entry in kept if entry.value(name) is None]


def _check_name(name: str, text: str, entries: Sequence[RunEntry]) -> None:
    """Refuse a name that is no setting, figure or value of a run.

    Raises:
        ConfigError: There is no such name.
    """
    known = [*VALUES, "rule", *OF_FIGURES, *Settings.fields(), *(n for entry in entries for n in entry.settings)]
    if name not in known:
        close = difflib.get_close_matches(name, known, n=1)
        hint = f"did you mean {close[0]}?" if close else f"there are settings, {', '.join((*VALUES, *OF_FIGURES[:3]))}"
        raise ConfigError(f"{text}: there is no value {name} of runs; {hint}")
