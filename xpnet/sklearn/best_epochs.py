"""The best epoch of every network of a population, where each estimator's members wait for an improvement together."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from xpnet.sklearn.ensemble import BestEpoch
from xpnet.training.callback import PruningPoint, TrainPlan
from xpnet.training.history import EpochRecord


class BestEpochs(BestEpoch):
    """Does for every estimator of a population what :class:`BestEpoch` does for one.

    The networks of an estimator are trained no further once none of them has improved for `patience` epochs.

    Args:
        members: Networks of each estimator, which are neighbours.
        patience: Epochs without improvement; None trains to the end.
    """

    def __init__(self, members: int, patience: int | None) -> None:
        super().__init__(None)
        self._members, self._wait = members, patience

    def on_train_begin(self, plan: TrainPlan) -> None:
        """Begin anew, if the training does: the next folds train."""
        if plan.records:
            return
        BestEpoch.__init__(self, None)
        length = plan.length
        each = range(length.steps_per_epoch, length.steps, length.steps_per_epoch)
        self.prune_at = () if self._wait is None else each
        self._lowest: NDArray[np.float64] | None = None
        self._waiting: Any = 0

    def on_epoch_end(self, record: EpochRecord) -> None:
        """Note the losses."""
        super().on_epoch_end(record)
        self._last = record.validation.losses

    def on_prune(self, point: PruningPoint) -> Iterable[int]:
        """Return the networks of estimators that have waited long enough, at the end of an epoch."""
        return self._late(point.validation.losses, point.replicas)

    def late(self, replicas: Iterable[int]) -> list[int]:
        """Return what :meth:`on_prune` would, at an epoch's end at which training was stopped before it was called."""
        return [] if self._wait is None else self._late(self._last, replicas)

    def _late(self, losses: NDArray[np.float64], replicas: Iterable[int]) -> list[int]:
        losses = np.nan_to_num(losses, nan=np.inf)
        lowest = np.full(len(losses), np.inf) if self._lowest is None else self._lowest
        improved = (losses < lowest).reshape(-1, self._members).any(axis=1)
        self._lowest = np.minimum(losses, lowest)
        self._waiting = np.where(improved, 0, self._waiting + 1)
        ended = np.repeat(self._waiting >= self._wait, self._members)
        return [replica for replica in replicas if ended[replica]]
