"""Points of a space: drawn by a seed alone, or by Optuna's samplers, which learn from other trials."""

from __future__ import annotations

import itertools
import math
import warnings
from typing import Any

import numpy as np
from numpy.typing import NDArray

from xpnet.errors import ConfigError
from xpnet.tuning.space import Dimension, Space
from xpnet.utils.rng import Purpose, generator

EVEN = ("grid", "log-grid", "linspace")
RANDOM = ("random", "uniform", "log-uniform", "sobol")
ADAPTIVE = ("tpe", "gp", "cmaes")


def draw(space: Space, how: str, count: int, seed: int, path: int = 0) -> list[dict[str, Any]]:
    """Return points of `space`.

    Args:
        space: The space.
        how: ``"grid"``, ``"log-grid"``: all combinations of evenly spaced values, on the axis or in the exponent;
            ``"linspace"``: evenly spaced, all settings advance together; ``"uniform"``, ``"log-uniform"``: random,
            even on the axis or in the exponent; ``"random"``: random, each setting on its own scale; ``"sobol"``:
            the same, but a scrambled Sobol sequence, which leaves no gaps (Owen, 1998).  Lists give all their values
            to a grid, evenly spaced ones to a linspace, and random ones to the others.
        count: Number of points; fewer remain if whole numbers or lists repeat a point, or if a full grid has fewer.
        seed: Seed of random points.
        path: Number of a separate random stream, such as a round's.

    Raises:
        ConfigError: A range that includes 0 was to be drawn in the exponent, or the grid is larger than `count`.
    """
    if how in ("log-grid", "log-uniform"):
        for dimension in space.dimensions:
            if dimension.low <= 0:
                raise ConfigError(f"draw = {how}: {dimension.text()} is not above 0 and has no exponent; take random")
    if how in ("grid", "log-grid"):
        points = list(itertools.product(*_axes(space, how, count)))
    else:
        columns = []
        shares = _sobol(len(space.names), count, generator(seed, Purpose.SEARCH, path)) if how == "sobol" else None
        for number, dimension in enumerate(space.dimensions):
            if how == "linspace":
                columns.append(_even(dimension, count, log=False))
            else:
                rng = generator(seed, Purpose.SEARCH, path, number)
                columns.append(_random(dimension, how, rng.random(count) if shares is None else shares[:, number]))
        # A repeated point would give the same result; the last of equal points stays.
        points = list(dict.fromkeys(reversed(list(zip(*columns, strict=True)))))[::-1]
    return [dict(zip(space.names, values, strict=True)) for values in points]


def _sobol(dimensions: int, count: int, rng: np.random.Generator) -> NDArray[np.float64]:
    """Return the first points of a scrambled Sobol sequence (count, dimensions)."""
    from scipy.stats.qmc import Sobol

    sequence = Sobol(dimensions, scramble=True, seed=rng).random_base2(math.ceil(math.log2(count)))
    return np.asarray(sequence[:count], float)


def _random(dimension: Dimension, how: str, shares: NDArray[np.float64]) -> list[Any]:
    """Return values of a dimension for uniform numbers in [0, 1)."""
    if dimension.values:
        return [dimension.values[int(share * len(dimension.values))] for share in shares]
    low, high = dimension.low, dimension.high
    if dimension.whole:  # values are rounded: the ends get a full interval too
        low, high = low - 0.5 + 1e-9, high + 0.5 - 1e-9
    if how == "log-uniform" or (dimension.log and how != "uniform"):
        return [dimension.rounded(float(low * (high / low) ** share)) for share in shares]
    return [dimension.rounded(float(low + (high - low) * share)) for share in shares]


def _even(dimension: Dimension, count: int, *, log: bool) -> list[Any]:
    """Return evenly spaced values of a dimension."""
    if dimension.values:
        return [dimension.values[i] for i in np.linspace(0, len(dimension.values) - 1, count).round().astype(int)]
    low, high = dimension.low, dimension.high
    if count == 1:
        return [dimension.rounded(math.sqrt(low * high) if log else (low + high) / 2)]
    return [dimension.rounded(float(value)) for value in (np.geomspace if log else np.linspace)(low, high, count)]


def _axes(space: Space, how: str, count: int) -> list[list[Any]]:
    """Return the values of each dimension of a grid; every setting with a range gets the same number of values."""
    given = math.prod(len(dimension.values) for dimension in space.dimensions if dimension.values)
    ranges = [dimension for dimension in space.dimensions if not dimension.values]
    if count < given:
        raise ConfigError(f"trials = {count}: the lists of the search have {given} combinations; ask for as many")
    each = 1
    while ranges and given * (each + 1) ** len(ranges) <= count:
        each += 1
    axes = [list(d.values) or _even(d, each, log=how == "log-grid") for d in space.dimensions]
    return [list(dict.fromkeys(values)) for values in axes]


# -- Optuna's samplers --------------------------------------------------------------------


def adaptive_sampler(draw: str, seed: int, *, multivariate: bool) -> Any:
    """Return Optuna's sampler for ``"tpe"``, ``"gp"`` or ``"cmaes"``.

    Args:
        draw: Which sampler.
        seed: Seed of its random numbers.
        multivariate: Whether TPE models all settings together.
    """
    from optuna import samplers
    from optuna.exceptions import ExperimentalWarning

    with warnings.catch_warnings():  # some samplers have been marked experimental for years
        warnings.simplefilter("ignore", ExperimentalWarning)
        if draw == "tpe":
            # Running trials count as bad, so that trials drawn together lie apart.
            return samplers.TPESampler(seed=seed, constant_liar=True, multivariate=multivariate)
        return samplers.GPSampler(seed=seed) if draw == "gp" else _cma_es(seed)


def suggest(trial: Any, name: str, distribution: Any) -> Any:
    """Return the value that an Optuna trial chooses."""
    from optuna.distributions import CategoricalDistribution, IntDistribution

    if isinstance(distribution, CategoricalDistribution):
        return trial.suggest_categorical(name, distribution.choices)
    number = trial.suggest_int if isinstance(distribution, IntDistribution) else trial.suggest_float
    return number(name, distribution.low, distribution.high, log=distribution.log)


def _cma_es(seed: int) -> Any:
    """Return Optuna's CMA-ES without its pickles.

    Optuna keeps the sampler's state as a pickle in the storage, and an untrusted pickle could run any code.  Here the
    state is neither read nor written, but computed from the finished trials at every call.
    """
    from optuna.samplers import CmaEsSampler
    from optuna.study import StudyDirection

    if not all(
        hasattr(CmaEsSampler, f"_{name}") for name in ("restore_optimizer", "init_optimizer", "get_solution_trials")
    ):
        raise ConfigError("draw = cmaes: this version of Optuna keeps its state in a way that is not known; take tpe")

    class ReplayedCmaEs(CmaEsSampler):
        finished: list[Any]

        def _restore_optimizer(self, completed_trials: list[Any], *_: Any) -> None:
            self.finished = completed_trials

        def _init_optimizer(self, trans: Any, direction: Any, *more: Any) -> Any:
            optimizer: Any = super()._init_optimizer(trans, direction, *more)
            sign = 1 if direction == StudyDirection.MINIMIZE else -1
            size = optimizer.population_size
            while len(trials := self._get_solution_trials(self.finished, optimizer.generation)) >= size:
                first = sorted(trials, key=lambda trial: trial.number)[:size]
                optimizer.tell([(trans.transform(trial.params), sign * float(trial.value or 0.0)) for trial in first])
            return optimizer

    return ReplayedCmaEs(seed=seed, warn_independent_sampling=False)
