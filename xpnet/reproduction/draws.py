"""Cells of a search, drawn as a report says."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from xpnet.errors import ConfigError
from xpnet.reproduction.model import Experiment
from xpnet.reproduction.outcome import CellOutcome
from xpnet.tuning.rounds import two_best_range


def cells_of(experiment: Experiment, coarse: Sequence[CellOutcome] | None = None) -> list[dict[str, Any]]:
    """Return the cells of an experiment: given ones, or those that its rule draws.

    Draws are a pure function of the rule's seed.  ``around`` is the rule of report A: uniform in the exponent over
    best ± d, where d is the distance of the exponents of the two best cells of `coarse`.

    Raises:
        ConfigError: The rule is unknown.
    """
    draw = experiment.draw
    if draw is None:
        return [dict(cell) for cell in experiment.cells]
    names = [draw["name"]] if isinstance(draw["name"], str) else list(draw["name"])
    how, count = draw["how"], draw.get("count", 0)
    generator = np.random.default_rng(draw.get("seed", 0))
    if how == "reported":
        values = list(dict.fromkeys(reported.at[names[0]] for reported in experiment.reported))
        columns = [values]
    elif how == "log10":
        columns = [[float(10.0**exponent) for exponent in draw["values"]]]
    elif how == "around":
        if not coarse:
            raise ConfigError(f"{experiment.name}: needs the outcome of {experiment.report}.{draw['of']}")
        columns = [_around(names[0], coarse, count, generator)]
    else:
        lows, highs = (_list(draw[edge]) for edge in ("low", "high"))
        columns = [_between(how, low, high, count, generator) for low, high in zip(lows, highs, strict=True)]
    return [dict(zip(names, values, strict=True)) for values in zip(*columns, strict=True)]


def _between(how: str, low: float, high: float, count: int, generator: np.random.Generator) -> list[float]:
    match how:
        case "uniform" | "log-uniform":
            log = how == "log-uniform"
            drawn = generator.uniform(np.log(low), np.log(high), count) if log else generator.uniform(low, high, count)
            return [float(value) for value in (np.exp(drawn) if log else drawn)]
        case "linspace":
            return [float(value) for value in np.linspace(low, high, count)]
        case "logspace":
            return [float(value) for value in np.geomspace(low, high, count)]
    raise ConfigError(f"how = {how}: must be log10, reported, around, uniform, log-uniform, linspace or logspace")


def _around(name: str, coarse: Sequence[CellOutcome], count: int, generator: np.random.Generator) -> list[float]:
    best, second = sorted(coarse, key=lambda cell: -cell.mean("validation_accuracy"))[:2]
    low, high = two_best_range(*(float(np.log10(cell.values[name])) for cell in (best, second)))
    return [float(10**exponent) for exponent in generator.uniform(low, high, count)]


def _list(value: Any) -> list[float]:
    return list(value) if isinstance(value, list) else [value]


def same(a: Any, b: Any) -> bool:
    """Return whether two values of a setting mean the same, numbers up to rounding in print."""
    if isinstance(a, (int, float)) and isinstance(b, (int, float)) and not isinstance(a, bool):
        return abs(a - b) <= 1e-6 * max(abs(a), abs(b))
    return bool(a == b)


def matches(cell: Mapping[str, Any], at: Mapping[str, Any]) -> bool:
    """Return whether a cell is the one that `at` describes."""
    return all(name in cell and same(cell[name], value) for name, value in at.items())
