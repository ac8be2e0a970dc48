"""What each round of a search trains: its space, slots and settings.  Every worker works out the same."""

from __future__ import annotations

import warnings
from collections.abc import Hashable, Mapping, Sequence
from typing import Any

from xpnet.config.fields import shown
from xpnet.config.settings import Settings
from xpnet.data import Dataset
from xpnet.errors import ConfigError
from xpnet.training.validate import check_sizes
from xpnet.tuning.coarse_to_fine import refined
from xpnet.tuning.config import SearchConfig
from xpnet.tuning.samplers import draw
from xpnet.tuning.space import Space, stacks
from xpnet.tuning.trial_queue import Slot
from xpnet.tuning.trials import Outcome, Trial
from xpnet.utils.rng import Purpose, generator


class Rounds:
    """The rounds of a search.

    Args:
        space: What is searched.
        base: The settings that all trials share, by name.
        config: How it is searched.
    """

    def __init__(self, space: Space, base: Mapping[str, Any], config: SearchConfig) -> None:
        self.space, self.config = space, config
        self.base = {name: value for name, value in base.items() if name not in space.targets(base)}
        settings = Settings.from_mapping(self.base)
        for name in settings.varying:
            raise ConfigError(f"{name} = {shown(base[name])}: is a list; name it among what is searched, as {name}=...")
        self.seed = settings.run.seed
        self.seeds = tuple(range(settings.run.seed, settings.run.seed + settings.run.runs))
        space.check(self.base)
        if config.round_cycles is not None and {"cycles", "epochs"} & set(space.names):
            raise ConfigError("round_cycles: the search sets the length of training; leave one of them out")
        if "bn_alpha" in space.names and not settings.network_config(1, 2).batch_norm:
            raise ConfigError("search bn_alpha: has no effect without batch_norm")
        self.lengths: tuple[int | None, ...] = config.round_cycles or (None,) * config.rounds

    def space_of(self, number: int, before: Sequence[Trial]) -> Space:
        """Return the space of round `number`; `before` are the trials of all rounds before it, finished."""
        space = self.space
        for last in range(number):
            here = tuple(trial for trial in before if trial.round == last)
            ranked = [trial.point for trial in Outcome(space.names, self.seeds, here).ranked()]
            tried = [trial.point for trial in here if trial.accuracies]
            space = refined(space, ranked, tried, self.config.refine, self.config.best)
        return space

    def check_point(self, point: Mapping[str, Any], number: int, data: Dataset) -> None:
        """Raise :class:`ConfigError` unless a point of a round can be trained on `data`."""
        settings = Settings.from_mapping(self.settings(point, number))
        check_sizes(settings.network_config(data.features, data.classes), 1, data, settings.train)

    def slots(self, number: int, space: Space) -> list[Slot]:
        """Return the slots of a round."""
        count = self.config.count(space.size)
        distributions = {name: distribution(space, name) for name in space.names}
        if self.config.adaptive:
            return [Slot(number, place, None, distributions) for place in range(count)]
        # Lists are tried whole, unless a number of trials was asked for.
        whole = self.config.trials is None and space.size is not None and self.config.draw == "random"
        points = draw(space, "grid" if whole else self.config.draw, count, self.seed, number)
        return [Slot(number, place, point, distributions) for place, point in enumerate(points)]

    def settings(self, point: Mapping[str, Any], number: int) -> dict[str, Any]:
        """Return all settings of a point in a round."""
        settings = self.space.settings(point, self.base)
        if self.config.round_cycles is not None:
            length = "cycles" if settings.get("schedule", "triangular") == "triangular" else "epochs"
            settings.pop("epochs", None)
            settings[length] = self.config.round_cycles[number]
        return settings

    def kind(self, point: Mapping[str, Any] | None) -> Hashable:
        """Return what points must agree in to train as one population."""
        if point is None:
            return None
        return tuple((name, value) for name, value in point.items() if not stacks(name))

    def sampler(self, number: int, place: int) -> Any:
        """Return Optuna's sampler for a slot; its random numbers are a function of the seed and the slot."""
        from optuna import samplers
        from optuna.exceptions import ExperimentalWarning

        # In rounds of different ranges, settings are learned about one by one.
        several = len(self.space.names) > 1 and self.config.rounds == 1
        seed = int(generator(self.seed, Purpose.SEARCH_SAMPLER, number, place).integers(2**31))
        with warnings.catch_warnings():  # some have been called experimental for years
            warnings.simplefilter("ignore", ExperimentalWarning)
            match self.config.draw:
                case "tpe":
                    # What runs counts as bad for a while, so that trials asked for together lie apart.
                    return samplers.TPESampler(seed=seed, constant_liar=True, multivariate=several)
                case "gp":
                    return samplers.GPSampler(seed=seed)
                case "cmaes":
                    from xpnet.tuning.cma import ReplayedCmaEsSampler

                    return ReplayedCmaEsSampler(seed=seed, warn_independent_sampling=False)
        raise AssertionError(self.config.draw)


def distribution(space: Space, name: str) -> Any:
    """Return Optuna's distribution of a dimension."""
    from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

    dimension = next(d for d in space.dimensions if d.name == name)
    if dimension.values:
        return CategoricalDistribution(list(dimension.values))
    low, high = dimension.low, dimension.high
    if dimension.whole:
        return IntDistribution(int(low), int(high), log=dimension.log)
    return FloatDistribution(low, high, log=dimension.log)
