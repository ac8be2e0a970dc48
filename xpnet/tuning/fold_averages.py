"""Training results of a population on several folds, as one result with the means over the folds."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from xpnet.errors import DivergedError
from xpnet.training.history import OF_NETWORKS, History, Metrics
from xpnet.training.result import TrainResult

if TYPE_CHECKING:
    from xpnet.tuning.fold_trainer import TrainedFolds


def averaged(parts: Sequence[TrainedFolds]) -> TrainResult:
    """Return the result of R networks whose figures are means over all folds; NaN if a network diverged in one.

    Training seconds are sums.  If a callback stopped the training, only `interrupted` has a meaning.

    Raises:
        DivergedError: All networks diverged in a fold.
    """
    results = [part.result for part in parts if part.result is not None]
    if len(results) < len(parts):
        raise DivergedError("all networks diverged in a fold")
    last = results[-1]
    if last.interrupted:
        return last
    count = len(last.test.losses) // len(parts[-1].folds)  # networks in a fold
    history = _mean_history(results, count)
    return dataclasses.replace(
        last,
        validation=_mean_metrics([one.validation for one in results], count),
        train=Metrics.unknown(count),
        test=Metrics.unknown(count),
        test_views=None,
        history=history,
        epochs=len(history),
        seconds_training=[record.seconds_training for record in history.epochs],
        seconds_evaluation=sum(one.seconds_evaluation for one in results),
        diverged={r % count: divergence for one in results for r, divergence in one.diverged.items()},
        dropped={},
        no_better=[],
        warnings=[],
        conclusion=None,
    )


def _mean_metrics(metrics: Sequence[Metrics], count: int) -> Metrics:
    """Return the means over folds of figures of `count` networks in each fold."""
    return Metrics(*(_mean(values, count) for values in zip(*(one.arrays() for one in metrics), strict=True)))


def _mean(values: Sequence[NDArray[Any]], count: int) -> NDArray[np.float64]:
    """Return the mean over folds of arrays (..., folds * count): (..., count)."""
    by_fold = np.concatenate([v.reshape(*v.shape[:-1], -1, count) for v in values], axis=-2)
    return np.asarray(by_fold.mean(axis=-2), np.float64)


def _mean_history(results: Sequence[TrainResult], count: int) -> History:
    """Return one history: means over the folds, and sums of seconds, of the epochs that all folds have."""
    columns = [result.history.columns() for result in results]
    epochs = min(len(own["step"]) for own in columns)
    joined = {name: _mean([own[name][:epochs] for own in columns], count) for name in OF_NETWORKS}
    seconds = np.sum([own["seconds"][:epochs] for own in columns], axis=0)
    initial = results[0].history.initial_eta[:count]
    return History(initial, {"step": columns[0]["step"][:epochs], "seconds": seconds, **joined})
