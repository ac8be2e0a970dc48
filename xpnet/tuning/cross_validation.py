"""Cross-validation: networks of all folds, settings and seeds trained as one population."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from xpnet.backend import Backend, get_backend
from xpnet.config.arguments import floating, kind, takes
from xpnet.config.definitions import DataConfig
from xpnet.config.fields import flag, optional, whole
from xpnet.data import Dataset
from xpnet.data.folds import Fold, make_folds, rows_of, with_training_rows
from xpnet.training.callback import Callback, callbacks_of
from xpnet.training.history import Values, summary
from xpnet.training.population import Population
from xpnet.training.validate import check_folds
from xpnet.tuning.fold_trainer import FoldData, FoldTrainer, PopulationFor


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


def for_data(population: Population) -> PopulationFor:
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
