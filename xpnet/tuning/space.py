"""The space of a search: settings, each with a range or a list of values."""

from __future__ import annotations

import difflib
import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from xpnet.config.definitions import NetworkConfig
from xpnet.config.fields import shown, whole
from xpnet.config.settings import VARYING, Settings
from xpnet.errors import ConfigError
from xpnet.tuning.kinds import KINDS

_SYNTAX = "NAME, NAME=LOW..HIGH, NAME=log:LOW..HIGH, NAME=lin:LOW..HIGH or NAME=VALUE,VALUE,..."


@dataclass(frozen=True)
class Dimension:
    """One setting of a search.

    Attributes:
        name: Its name in :data:`xpnet.tuning.kinds.KINDS`.
        low, high: Its range; NaN if it has a list.
        log: Whether values are drawn uniformly in the exponent.
        whole: Whether values are whole numbers.
        values: Its list of values; empty if it has a range.
    """

    name: str
    low: float = math.nan
    high: float = math.nan
    log: bool = False
    whole: bool = False
    values: tuple[Any, ...] = ()

    @classmethod
    def of(cls, name: str, given: Any = None) -> Dimension:
        """Return a dimension for a text, a pair (low, high) or a list; None takes the default range.

        Raises:
            ConfigError: There is no such setting to search, or `given` is neither a range nor a list.
        """
        name = name.replace("-", "_")
        if name not in KINDS:
            close = difflib.get_close_matches(name, KINDS, n=1)
            hint = f"did you mean {close[0]}?" if close else f"there are {', '.join(KINDS)}"
            raise ConfigError(f"search {name}: is nothing that can be searched; {hint}")
        kind = KINDS[name]
        if given is None:
            return cls(name, kind.low, kind.high, kind.log, kind.whole)
        text, log = shown(given), kind.log
        if isinstance(given, str):
            given, log = _parsed(name, given)
        elif isinstance(given, tuple) and len(given) == 2 and all(isinstance(edge, (int, float)) for edge in given):
            log = log and given[0] > 0
        elif isinstance(given, (list, tuple)):
            given = list(given)
        else:
            raise ConfigError(f"search {name} = {given}: must be a pair (low, high), a list of values, or a text")
        if isinstance(given, list):
            return cls(name, log=kind.log, whole=kind.whole, values=_values(name, given, text))
        low, high = given
        if not (math.isfinite(low) and math.isfinite(high) and low < high):
            raise ConfigError(f"search {name}={text}: needs a lower end that is below the upper one")
        if log and low <= 0:
            raise ConfigError(f"search {name}={text}: a range in the exponent starts above 0; lin: takes it as it is")
        if kind.whole and (low != int(low) or high != int(high)):
            raise ConfigError(f"search {name}={text}: is a whole number, and so must be the ends of its range")
        return cls(name, float(low), float(high), log, kind.whole)

    def text(self) -> str:
        """Return the dimension in the form of the command line."""
        if self.values:
            return f"{self.name}={','.join(map(str, self.values))}"
        edges = (f"{int(edge)}" if self.whole else f"{edge!r}" for edge in (self.low, self.high))
        return f"{self.name}={'log' if self.log else 'lin'}:{'..'.join(edges)}"

    def limits(self) -> tuple[float, float]:
        """Return the limits for finer rounds; sizes and lengths, which cost memory and time, keep the given range."""
        if self.whole:
            return self.low, self.high
        kind = KINDS[self.name]
        least = kind.least or 1e-12 if self.log else kind.least  # 0 has no exponent
        return min(self.low, least), max(self.high, kind.most)

    def rounded(self, value: float) -> Any:
        """Return a number, within the range and rounded to the type of the setting."""
        inside = min(max(value, self.low), self.high)  # logarithms and exponentials may leave the range by rounding
        return round(inside) if self.whole else float(inside)

    def to_json(self) -> dict[str, Any]:
        """Return the dimension in the form of ``search.json``."""
        if self.values:
            return {"draw": "list", "values": list(self.values)}
        return {"draw": "log-uniform" if self.log else "uniform", "low": self.low, "high": self.high}


@dataclass(frozen=True)
class Space:
    """The settings that a search varies."""

    dimensions: tuple[Dimension, ...]

    @classmethod
    def of(cls, given: Any) -> Space:
        """Return the space for texts such as ``"lambda"`` or ``"eta=1e-3..0.1"``, or for a mapping.

        ``lambda-eta`` means both settings.

        Raises:
            ConfigError: A text or a value is invalid, or two dimensions set the same setting.
        """
        if isinstance(given, Space):
            return given
        if isinstance(given, str):
            given = [given]
        if not isinstance(given, Iterable) or getattr(given, "ndim", 1) == 0:
            raise ConfigError(f"search {given}: must be a text, several, or a mapping; each as {_SYNTAX}")
        items: Iterable[tuple[str, Any]] = (
            given.items() if isinstance(given, Mapping) else [item for text in given for item in _items(str(text))]
        )
        dimensions = tuple(Dimension.of(name, value) for name, value in items)
        if not dimensions:
            raise ConfigError(f"search: name what to search, such as lambda or lambda-eta; each as {_SYNTAX}")
        names = [dimension.name for dimension in dimensions]
        targets = [name if name in ("width", "depth") else _setting(name) for name in names]
        for name, target in zip(names, targets, strict=True):
            if targets.count(target) > 1:
                raise ConfigError(f"search {', '.join(names)}: {name} is set twice; name each setting once")
        return cls(dimensions)

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the dimensions."""
        return tuple(dimension.name for dimension in self.dimensions)

    @property
    def size(self) -> int | None:
        """Number of points; None if a dimension has a range."""
        sizes = [len(dimension.values) for dimension in self.dimensions]
        return math.prod(sizes) if all(sizes) else None

    def texts(self) -> list[str]:
        """Return the space in the form of the command line."""
        return [dimension.text() for dimension in self.dimensions]

    def settings(self, values: Mapping[str, Any], base: Mapping[str, Any]) -> dict[str, Any]:
        """Return the settings of ``xpnet train`` for a point: `base` with the values of the point.

        ``eta`` is eta_max with the triangular and one-cycle schedules.  ``width`` and ``depth`` give all hidden layers
        the same size; if one of the two is missing, `base` has its value.
        """
        merged = dict(base)
        merged.update({target: values[name] for target, name in self.targets(base).items() if name in values})
        if "width" in values or "depth" in values:
            default = NetworkConfig(inputs=1, **({"hidden": base["hidden"]} if "hidden" in base else {})).hidden
            width = values.get("width", default[0] if default else 50)
            merged["hidden"] = [int(width)] * int(values.get("depth", len(default)))
        return merged

    def targets(self, base: Mapping[str, Any]) -> dict[str, str]:
        """Return the settings that the search sets, except ``hidden``, each with the dimension that sets it."""
        highest = base.get("schedule", "triangular") in ("triangular", "one-cycle")
        names = [name for name in self.names if name not in ("width", "depth")]
        return {"eta" if name == "eta" and not highest else _setting(name): name for name in names}

    def refuse(self, given: Mapping[str, Any]) -> None:
        """Raise :class:`ConfigError` if a searched setting is among the `given` ones."""
        targets = list(self.targets(given).items())
        lengths = [(other, one) for one, other in (("cycles", "epochs"), ("epochs", "cycles")) if one in self.names]
        for target, name in targets + lengths:
            if target in given:
                raise ConfigError(
                    f"{target} = {shown(given[target])}: cannot be set, since {name} is searched; leave it out"
                )

    def check(self, base: Mapping[str, Any]) -> None:
        """Raise :class:`ConfigError` if an end of a range, or a value of a list, cannot be trained with `base`."""
        for dimension, point in self.ends(_middle):
            try:
                Settings.from_mapping(self.settings(point, base))
            except ConfigError as error:
                raise ConfigError(f"search {dimension.text()}: {error}") from None

    def ends(self, other: Callable[[Dimension], float]) -> Iterator[tuple[Dimension, dict[str, Any]]]:
        """Yield every dimension with points at the ends of its range, or at each value of its list.

        Args:
            other: Function that returns the value of each other dimension with a range; those with a list take its
                first value.
        """
        # One dimension at a time, so that a message names the wrong one.
        point = {d.name: d.values[0] if d.values else d.rounded(other(d)) for d in self.dimensions}
        for dimension in self.dimensions:
            for value in dimension.values or (dimension.rounded(dimension.low), dimension.rounded(dimension.high)):
                yield dimension, {**point, dimension.name: value}


def stacks(name: str) -> bool:
    """Return whether networks that differ in a dimension train as one population."""
    return _setting(name) in VARYING


def _setting(name: str) -> str:
    return "eta_max" if name == "eta" else KINDS[name].setting


def _items(text: str) -> list[tuple[str, Any]]:
    """Return the names in a text of the command line, with their ranges."""
    name, equals, value = text.partition("=")
    if equals:
        return [(name.strip(), value)]
    parts = name.split("-")
    together = name.replace("-", "_") not in KINDS and all(part in KINDS for part in parts)
    return [(part, None) for part in (parts if together else [name])]


def _parsed(name: str, text: str) -> tuple[Any, bool]:
    """Return the pair or the list in a text, and whether a range is drawn in the exponent."""
    wrong = ConfigError(f"search {name}={text}: must be one of {_SYNTAX}")
    body, log = text.strip(), KINDS[name].log
    for prefix in ("log:", "lin:"):
        if body.startswith(prefix):
            body, log = body.removeprefix(prefix), prefix == "log:"
    if ".." not in body:
        if text != body or not body:
            raise wrong
        return [item.strip() for item in body.split(",")], log
    try:
        low, high = (float(edge) for edge in body.split(".."))
    except ValueError:
        raise wrong from None
    return (low, high), log and (low != 0 or text.startswith("log:") or not KINDS[name].log)


def _values(name: str, items: list[Any], text: str) -> tuple[Any, ...]:
    """Return a list of values, converted by the setting's check."""
    width = KINDS[name].setting == "hidden"
    check = whole(1) if width else Settings.fields()[_setting(name)][1].metadata["check"]
    try:
        if any(isinstance(item, (list, tuple, Mapping)) for item in items):
            raise ValueError("one value")
        values = tuple(check(item) for item in items)
    except ValueError as error:
        raise ConfigError(f"search {name}={text}: each value must be {error}") from None
    if not values or len(set(values)) < len(values):
        raise ConfigError(f"search {name}={text}: needs values, each of them once")
    return values


def _middle(dimension: Dimension) -> float:
    low, high = dimension.low, dimension.high
    return math.sqrt(low * high) if dimension.log else (low + high) / 2
