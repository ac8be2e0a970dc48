"""Cross-validation: networks of all folds, settings and seeds trained as one population.

Every network trains on the rows of its fold, with inputs that the fold's own transform gives, and sees its samples in
the order of a training on these rows alone.  So in float64 it equals that training.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Hashable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from xpnet.backend import Backend, get_backend
from xpnet.config.arguments import floating, kind, takes
from xpnet.config.definitions import MOST_NETWORKS, DataConfig
from xpnet.config.fields import flag, optional, whole
from xpnet.data import Dataset
from xpnet.data.folds import Fold, make_folds, rows_of, with_training_rows
from xpnet.errors import DivergedError
from xpnet.nn.network import Network
from xpnet.training.batches import order_seeds
from xpnet.training.callback import Callback, callbacks_of
from xpnet.training.evaluator import SETS
from xpnet.training.fold_data import FoldedData, folds_at_once, side_by_side
from xpnet.training.history import Values, summary
from xpnet.training.population import Population
from xpnet.training.result import TrainResult
from xpnet.training.train_population import train_population
from xpnet.training.validate import check_folds


@dataclass(frozen=True)
class FoldData:
    """The data of one fold.

    Attributes:
        kind: Folds of equal kinds may train as one population: their training sets have one size, and their networks
            the same classes and, unless a transform of their own makes them differ, the same inputs.
        dataset: Function that returns the sets, with a transform that is fitted on the fold's training set.
    """

    kind: Hashable
    dataset: Callable[[], Dataset]


@dataclass(frozen=True)
class TrainedFolds:
    """A population that was trained on some folds.

    Attributes:
        folds: Numbers of the folds.
        datasets: Their data.
        network: The networks of the first fold, those of the second, ...; None if all have diverged.
        result: The result of their training; None if all have diverged.
    """

    folds: tuple[int, ...]
    datasets: tuple[Dataset, ...]
    network: Network | None
    result: TrainResult | None

    def part(self, place: int) -> slice:
        """Return the networks of the fold at position `place` of `folds`."""
        count = 0 if self.network is None else self.network.replicas // len(self.folds)
        return slice(place * count, (place + 1) * count)


class FoldTrainer:
    """Trains populations on folds: on as many of them at once as memory allows.

    Args:
        folds: The data of each fold.
        backend: Where to compute.
        dtype: ``"float32"`` or ``"float64"``.
    """

    def __init__(self, folds: Sequence[FoldData], backend: Backend, dtype: str) -> None:
        self._folds, self._backend, self._dtype = folds, backend, dtype
        groups: dict[Hashable, list[int]] = {}
        for number, fold in enumerate(folds):
            groups.setdefault(fold.kind, []).append(number)
        self._groups = list(groups.values())
        self._kept: dict[tuple[int, ...], tuple[list[Dataset], FoldedData]] = {}

    def train(
        self,
        population_for: Callable[[Dataset], Population],
        *,
        max_replicas: int | None = None,
        callbacks: Sequence[Callback] = (),
        orders: Callable[[Population], tuple[int, ...]] = lambda own: order_seeds(own.train, own.seeds),
        final: Sequence[str] = SETS,
    ) -> Iterator[TrainedFolds]:
        """Train a population on each fold, and yield the networks of some folds at a time, until a callback stops it.

        Args:
            population_for: Function that returns the population for the data of a fold; populations for data of one
                kind have equally many networks, and differ only in what networks of one population may differ in.
            max_replicas: Most networks trained at once; None for as many as memory holds.
            callbacks: Called as if every part that is yielded were a training of its own.
            orders: Function that returns the seed of each network's order of samples; by default that of its settings.
            final: Sets to evaluate at the end.
        """
        for group in self._groups:
            left = list(group)
            while left:
                datasets, data = self._next(left, population_for, max_replicas or MOST_NETWORKS)
                populations = list(map(population_for, datasets))
                if isinstance(data, FoldedData):
                    data = data.for_networks(len(populations[0]))
                some, left = tuple(left[: len(datasets)]), left[len(datasets) :]
                try:
                    network, result = train_population(
                        Population.joined(populations),
                        data,
                        backend=self._backend,
                        dtype=self._dtype,
                        max_replicas=max_replicas,
                        callbacks=callbacks,
                        orders=tuple(order for own in populations for order in orders(own)),
                        final=final,
                    )
                except DivergedError:
                    yield TrainedFolds(some, tuple(datasets), None, None)
                    continue
                yield TrainedFolds(some, tuple(datasets), network, result)
                if result.interrupted:
                    return

    def _next(
        self, left: list[int], population_for: Callable[[Dataset], Population], most: int
    ) -> tuple[list[Dataset], Dataset | FoldedData]:
        """Return the data of the first of some folds that can train together, by fold and as one.

        They are as many as memory holds, and at most `most` networks; all folds take as few turns as possible.  If all
        can train together, their data is kept for later populations.
        """
        kept = self._kept.get(tuple(left))
        first = self._folds[left[0]].dataset() if kept is None else kept[0][0]
        population = population_for(first)
        fit = min(folds_at_once(first, self._backend, self._dtype, population.train), most // len(population))
        count = -(-len(left) // -(-len(left) // max(1, fit)))
        if kept is not None and count == len(left):
            return kept
        datasets = [first]
        for fold in left[1:count]:
            data = self._folds[fold].dataset()
            if data.inputs != first.inputs:
                break
            datasets.append(data)
        if len(datasets) == 1:
            return datasets, first
        together = datasets, side_by_side(datasets, self._backend, self._dtype)
        if len(datasets) == len(left) and left in self._groups:
            self._kept[tuple(left)] = together
        return together


@dataclass(frozen=True)
class CrossValidation:
    """Figures of R networks on the K folds of a training set, each held out from the training of its networks.

    Attributes:
        accuracies: Share of held-out rows classified correctly (R, K); NaN for networks that diverged.
        losses: Mean cross-entropy of the held-out rows (R, K), likewise.
        seconds: Wall time of training and evaluation.
        interrupted: Whether a callback stopped it before its end; the figures of later folds are NaN.
    """

    accuracies: Values
    losses: Values
    seconds: float
    interrupted: bool

    def to_json(self, replica: int | None = None) -> dict[str, Any]:
        """Return the figures as ``metrics.json`` holds them: of one network, or of all in the order of the networks."""
        rows = slice(None) if replica is None else slice(replica, replica + 1)
        figures = {"accuracy": self.accuracies[rows], "loss": self.losses[rows]}
        return {"folds": self.accuracies.shape[1]} | {name: summary(v.reshape(-1)) for name, v in figures.items()}


def fold_data(
    data: Dataset, folds: Sequence[Fold], config: DataConfig, *, validate_held_out: bool = False
) -> list[FoldData]:
    """Return the folds of a training set, each with its held-out rows as test set, or as validation set.

    Args:
        data: The data set.
        folds: Rows of its training set.
        config: Its settings, by which each fold's transform is fitted.
        validate_held_out: Whether held-out rows take the place of the validation set; the test set is not used then.
    """

    def dataset(fold: Fold) -> Dataset:
        held_out = rows_of(data.train, fold.held_out)
        sets = {"validation": data.validation, "test": held_out}
        if validate_held_out:
            sets = {"validation": held_out, "test": rows_of(data.test, slice(1))}
        return with_training_rows(data, fold.train, config, **sets)

    return [FoldData(len(fold.train), partial(dataset, fold)) for fold in folds]


def for_data(population: Population) -> Callable[[Dataset], Population]:
    """Return a function that returns a population for the data of a fold, whose transform may give other inputs."""

    def of(data: Dataset) -> Population:
        network = dataclasses.replace(population.network, inputs=data.inputs)
        return dataclasses.replace(population, network=network)

    return of


@takes(
    population=kind(Population),
    data=kind(Dataset),
    folds=whole(2),
    stratify=flag,
    config=optional(kind(DataConfig)),
    backend=optional(kind(Backend)),
    dtype=floating,
    max_replicas=optional(whole(1)),
    callbacks=callbacks_of,
)
def cross_validate(
    population: Population,
    data: Dataset,
    folds: int = 5,
    *,
    stratify: bool = True,
    config: DataConfig | None = None,
    backend: Backend | None = None,
    dtype: str = "float32",
    max_replicas: int | None = None,
    callbacks: Sequence[Callback] = (),
) -> CrossValidation:
    """Train networks on all folds of the training set but one, and evaluate them on that one, for each fold.

    Every network has the standardisation of its own fold.  The validation set of `data` stays what it is; the test set
    is not used.

    Args:
        population: The networks and their settings.
        data: The data set.
        folds: Number of folds.
        stratify: Whether the folds have equally many rows of each class, give or take one.
        config: Settings of the data: ``data_seed`` is the seed of the folds, ``pool`` and ``pca`` are fitted to each.
        backend: Where to compute; the CPU if not given.
        dtype: ``"float32"`` or ``"float64"``.
        max_replicas: Most networks trained at once; if not given, as many as memory holds.
        callbacks: Instances of :class:`xpnet.Callback`, called as if folds that train together were one training.

    Returns:
        The figures of each network on each fold.

    Raises:
        ConfigError: The settings do not fit the rows of a fold.
        DataError: There are too few rows for so many folds.
    """
    config, labels = config or DataConfig(), data.train.labels
    made = make_folds(labels, folds, seed=config.data_seed or 0, stratified=stratify, class_names=data.class_names)
    check_folds(population.network, len(population), data, population.train, folds)
    trainer = FoldTrainer(fold_data(data, made, config), backend or get_backend("cpu"), dtype)
    figures = np.full((2, len(population), folds), np.nan)
    seconds, interrupted = 0.0, False
    parts = trainer.train(for_data(population), max_replicas=max_replicas, callbacks=callbacks, final=("test",))
    for trained in parts:
        result = trained.result
        if result is None:
            continue
        seconds += sum(result.seconds_training) + result.seconds_evaluation
        interrupted = result.interrupted
        for place, fold in () if interrupted else enumerate(trained.folds):
            own = result.test.part(trained.part(place))
            figures[:, :, fold] = own.accuracies, own.losses
    return CrossValidation(figures[0], figures[1], seconds, interrupted)
