"""The rounds of a search: space, slots and settings of each round.  All workers compute the same rounds."""

from __future__ import annotations

import math
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from xpnet.config.arithmetic import flop_of_sample
from xpnet.config.cycles import CYCLIC
from xpnet.config.fields import shown
from xpnet.config.settings import Settings
from xpnet.data import Dataset
from xpnet.data.folds import Fold, make_folds
from xpnet.data.transform import check_pool
from xpnet.errors import ConfigError
from xpnet.training.validate import check_folds, check_sizes
from xpnet.tuning.samplers import adaptive_sampler, draw
from xpnet.tuning.search_config import SearchConfig
from xpnet.tuning.space import Dimension, Space, stacks
from xpnet.tuning.trial_queue import Slot
from xpnet.tuning.trials import Outcome, Trial
from xpnet.tuning.whole_cycles import Cycle, cycle_of
from xpnet.utils.rng import Purpose, generator

Point = Mapping[str, Any]


class Rounds:
    """The rounds of a search.

    Args:
        space: The space of the search.
        base: The settings that all trials share, by name.
        config: The settings of the search.
        data: The data set; its transform may be another one than that of a point.
    """

    def __init__(self, space: Space, base: Mapping[str, Any], config: SearchConfig, data: Dataset) -> None:
        self.space, self.config, self._data = space, config, data
        self.base = {name: value for name, value in base.items() if name not in space.targets(base)}
        settings = space.checked(self.base)
        for name in settings.varying:
            raise ConfigError(f"{name} = {shown(base[name])}: is a list; name it among what is searched, as {name}=...")
        self.seed, self.dtype, self.cv = settings.run.seed, settings.run.dtype, settings.run.cv
        self.stratify, self._data_seed = settings.run.stratify, settings.data.data_seed or 0
        if self.cv is not None and config.prune != "none":
            raise ConfigError(
                f"cv = {self.cv}, prune = {config.prune}: trials are compared once all their folds are trained, and "
                "cannot be pruned before; leave one of the two out"
            )
        self.seeds = tuple(range(self.seed, self.seed + settings.run.runs))
        space.check(self.base)
        if config.round_cycles is not None and {"cycles", "epochs"} & set(space.names):
            raise ConfigError("round_cycles: the search sets the length of training; leave one of them out")
        if config.budget is not None:
            _check_budget({**self.base, **dict.fromkeys(space.names)}, settings.train.schedule)
        if "bn_alpha" in space.names and not settings.network_config(1, 2).batch_norm:
            raise ConfigError("search bn_alpha: has no effect without batch_norm")
        self.lengths: tuple[int | None, ...] = config.round_cycles or (None,) * config.rounds

    @property
    def samples(self) -> int:
        """Number of samples that each accuracy is measured on: every training sample once, if there are folds."""
        return len(self._data.validation if self.cv is None else self._data.train)

    @property
    def cycle(self) -> Cycle | None:
        """How the trainings lie in the cycles of their learning rate; None if they have none, or several lengths."""
        fixed = self.config.round_cycles is None and self.config.budget is None
        return cycle_of(self.base, self.space.names, len(self._data.train)) if fixed else None

    def space_of(self, number: int, trials: Sequence[Trial]) -> Space:
        """Return the space of round `number`; `trials` are the finished trials of all earlier rounds."""
        space = self.space
        for last in range(number):
            of_round = tuple(trial for trial in trials if trial.round == last)
            ranked = [trial.point for trial in Outcome(space.names, self.seeds, of_round).ranked()]
            tried = [trial.point for trial in of_round if trial.accuracies]
            space = refined(space, ranked, tried, self.config.refine, self.config.best)
        return space

    def check(self) -> None:
        """Raise an error if an end of a range, or a value of a list, does not fit the data, or folds do not."""
        self.folds()
        for _, point in self.space.ends(lambda dimension: dimension.low):
            self.check_point(point, 0)

    def check_point(self, point: Point, number: int) -> None:
        """Raise :class:`ConfigError` or :class:`DataError` unless a point of a round can be trained on the data."""
        settings = Settings.from_mapping(self.settings(point, number))
        inputs, projected = self._inputs(settings)
        if projected is not None and inputs > projected:
            raise ConfigError(f"pca = {inputs}: is more than the {projected} features that there are; take fewer")
        architecture = settings.network_config(inputs, self._data.classes)
        check_sizes(architecture, 1, self._data, settings.train, inputs)
        if self.cv is not None:
            check_folds(architecture, 1, self._data, settings.train, self.cv, inputs)

    def folds(self) -> list[Fold]:
        """Return the folds by which trials are scored; an empty list if they are scored by the validation set."""
        if self.cv is None:
            return []
        labels, names = self._data.train.labels, self._data.class_names
        return make_folds(labels, self.cv, seed=self._data_seed, stratified=self.stratify, class_names=names)

    def _inputs(self, settings: Settings) -> tuple[int, int | None]:
        """Return the number of inputs of a network, and of the features that are projected on them, if they are.

        Raises:
            DataError: The data cannot be pooled.
        """
        if not self.space.transforms:
            transform = self._data.transform
            return transform.inputs, None if transform.projection is None else len(transform.standardiser.mean)
        check_pool(self._data.image_shape, settings.data.pool)
        encoded = self._data.transform.encoder is not None
        pooled = len(self._data.standardiser.mean) if encoded else self._data.features // settings.data.pool**2
        return (pooled, None) if settings.data.pca is None else (settings.data.pca, pooled)

    def slots(self, number: int, space: Space) -> list[Slot]:
        """Return the slots of a round."""
        count = self.config.count(space.size)
        distributions = {dimension.name: _distribution(dimension) for dimension in space.dimensions}
        if self.config.adaptive:
            return [Slot(number, place, None, distributions) for place in range(count)]
        # Lists are tried in all combinations, unless the number of trials is given.
        grid = self.config.trials is None and space.size is not None and self.config.draw == "random"
        points = draw(space, "grid" if grid else self.config.draw, count, self.seed, number)
        return [Slot(number, place, point, distributions) for place, point in enumerate(points)]

    def settings(self, point: Point, number: int) -> dict[str, Any]:
        """Return all settings of a point in a round."""
        settings = self.space.settings(point, self.base)
        if self.config.round_cycles is not None:
            length = "cycles" if settings.get("schedule", "triangular") in CYCLIC else "epochs"
            settings.pop("epochs", None)
            settings[length] = self.config.round_cycles[number]
        if self.config.budget is not None:
            settings["epochs"] = self._epochs(self.config.budget, settings)
        return settings

    def _epochs(self, budget: float, values: Mapping[str, Any]) -> float:
        """Return the number of epochs that take `budget`, in 10^12 operations.

        Raises:
            ConfigError: They are less than a step.
        """
        settings = Settings.from_mapping(values)
        inputs, projected = self._inputs(settings)
        network = settings.network_config(inputs, self._data.classes)
        samples = budget * 1e12 / flop_of_sample(network, projected)
        epochs = float(f"{samples / len(self._data.train):.6g}")
        if samples < settings.train.batch_size:
            each = f"a step of {network.in_words()} with batches of {settings.train.batch_size}"
            raise ConfigError(f"budget = {budget:g}: is less than {each} takes; take a larger one")
        return epochs

    def kind(self, point: Point | None) -> Hashable:
        """Return the values in which points must agree in order to train as one population."""
        return None if point is None else tuple((name, value) for name, value in point.items() if not stacks(name))

    def sampler(self, number: int, place: int) -> Any:
        """Return Optuna's sampler for a slot; its random numbers are a function of the seed and the slot."""
        seed = int(generator(self.seed, Purpose.SEARCH_SAMPLER, number, place).integers(2**31))
        # If rounds have different ranges, TPE models settings one by one.
        multivariate = len(self.space.names) > 1 and self.config.rounds == 1
        return adaptive_sampler(self.config.draw, seed, multivariate=multivariate)


def _check_budget(given: Mapping[str, Any], schedule: str) -> None:
    """Refuse settings that contradict a budget.

    Raises:
        ConfigError: The length of training is given or searched too, or the schedule does not end with it.
    """
    for name in ("epochs", "cycles"):
        if name in given:
            raise ConfigError(f"{name}: the budget decides how long trials train; leave one of them out")
    if schedule in CYCLIC:
        raise ConfigError(
            f"budget: cuts the cycles of the schedule {schedule}; take one that lasts as long as the training, such as "
            "schedule = one-cycle"
        )


def _distribution(dimension: Dimension) -> Any:
    from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

    if dimension.values:
        return CategoricalDistribution(list(dimension.values))
    if dimension.whole:
        return IntDistribution(int(dimension.low), int(dimension.high), log=dimension.log)
    return FloatDistribution(dimension.low, dimension.high, log=dimension.log)


# -- coarse to fine -----------------------------------------------------------------------


def refined(space: Space, found: Sequence[Point], tried: Sequence[Point], rule: str, best: int) -> Space:
    """Return the space of the next, finer round.

    ``"two-best"``, the rule of report A: best ± d on every setting's own scale, where d is the distance of the two best
    points on this scale; the result may leave the given range, but not the limits of the setting, and whole numbers,
    which are sizes and lengths, stay within the given range.  ``"k-best"``: from the next tried value below the `best`
    best values to the next one above them, within the range.  A list keeps the values of the best points.  If the best
    points agree in a setting, its range extends to the next tried values on both sides.

    Args:
        space: The space of the last round.
        found: Points that were trained to the end, the best first.
        tried: All points.
        rule: ``"two-best"`` or ``"k-best"``.
        best: Number of best points for ``"k-best"``.
    """
    if len(found) < 2:
        return space
    top = found[: 2 if rule == "two-best" else best]
    return Space(tuple(_refined(dimension, top, tried, rule) for dimension in space.dimensions))


def two_best_range(first: float, second: float) -> tuple[float, float]:
    """Return first ± the distance of both."""
    distance = abs(first - second)
    return first - distance, first + distance


def _refined(dimension: Dimension, top: Sequence[Point], tried: Sequence[Point], rule: str) -> Dimension:
    name = dimension.name
    if dimension.values:
        best_values = [point[name] for point in top]
        return replace(dimension, values=tuple(value for value in dimension.values if value in best_values))
    scale = math.log10 if dimension.log else float
    best = [scale(point[name]) for point in top]
    if rule == "two-best" and best[0] != best[1]:
        start, stop = two_best_range(best[0], best[1])
        least, most = dimension.limits()
        start, stop = max(start, scale(least)), min(stop, scale(most))
    else:
        values = [scale(point[name]) for point in tried]
        start = max((value for value in values if value < min(best)), default=scale(dimension.low))
        stop = min((value for value in values if value > max(best)), default=scale(dimension.high))
    low, high = (10**start, 10**stop) if dimension.log else (start, stop)
    if dimension.whole:
        low, high = math.floor(low + 1e-9), math.ceil(high - 1e-9)
    return replace(dimension, low=float(low), high=float(high)) if low < high else dimension
