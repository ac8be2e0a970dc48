"""The cells of an experiment: listed ones, and those of a search, drawn by the rule of its report."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from xpnet.errors import ConfigError
from xpnet.reproduction.experiments import Experiment
from xpnet.reproduction.outcome import CellOutcome
from xpnet.tuning.rounds import two_best_range


def cells_of(experiment: Experiment, coarse: Sequence[CellOutcome] | None = None) -> list[dict[str, Any]]:
    """Return the cells of an experiment: the listed ones, or those that its rule draws.

    Draws depend only on the rule's seed.  ``around`` is the rule of report A: uniform in the exponent over best ± d,
    where d is the distance of the exponents of the two best cells of `coarse`.

    Raises:
        ConfigError: The rule is unknown.
    """
    draw = experiment.draw
    if draw is None:
        return [dict(cell) for cell in experiment.cells]
    names = [draw["name"]] if isinstance(draw["name"], str) else list(draw["name"])
    rule, count = draw["how"], draw.get("count", 0)
    generator = np.random.default_rng(draw.get("seed", 0))
    if rule == "reported":
        columns = [list(dict.fromkeys(reported.at[names[0]] for reported in experiment.reported))]
    elif rule == "log10":
        columns = [[float(10.0**exponent) for exponent in draw["values"]]]
    elif rule == "around":
        if not coarse:
            raise ConfigError(f"{experiment.name}: needs the outcome of {experiment.report}.{draw['of']}")
        best = sorted(coarse, key=lambda cell: -cell.mean("validation_accuracy"))[:2]
        low, high = two_best_range(*(float(np.log10(cell.values[names[0]])) for cell in best))
        columns = [[float(10**exponent) for exponent in generator.uniform(low, high, count)]]
    else:
        lows, highs = np.atleast_1d(draw["low"]).tolist(), np.atleast_1d(draw["high"]).tolist()
        columns = [_between(rule, low, high, count, generator) for low, high in zip(lows, highs, strict=True)]
    return [dict(zip(names, values, strict=True)) for values in zip(*columns, strict=True)]


def _between(rule: str, low: float, high: float, count: int, generator: np.random.Generator) -> list[float]:
    if rule == "uniform":
        values = generator.uniform(low, high, count)
    elif rule == "log-uniform":
        values = np.exp(generator.uniform(np.log(low), np.log(high), count))
    elif rule == "linspace":
        values = np.linspace(low, high, count)
    elif rule == "logspace":
        values = np.geomspace(low, high, count)
    else:
        raise ConfigError(f"how = {rule}: must be log10, reported, around, uniform, log-uniform, linspace or logspace")
    return [float(value) for value in values]


def _same(a: Any, b: Any) -> bool:
    """Return whether two values of a setting are equal; numbers up to the rounding of printed values."""
    if isinstance(a, (int, float)) and isinstance(b, (int, float)) and not isinstance(a, bool):
        return abs(a - b) <= 1e-6 * max(abs(a), abs(b))
    return bool(a == b)


def matches(cell: Mapping[str, Any], at: Mapping[str, Any]) -> bool:
    """Return whether a cell is the one that `at` describes."""
    return all(name in cell and _same(cell[name], value) for name, value in at.items())
