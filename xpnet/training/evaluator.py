"""Evaluations of a training: full passes of the active replicas over its three sets."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from xpnet.nn.network import Network
from xpnet.training.active_replicas import ActiveReplicas
from xpnet.training.device_data import DeviceData
from xpnet.training.evaluation import Evaluation, evaluate_views, finite
from xpnet.training.fold_data import FoldedData
from xpnet.training.history import Metrics, Values

SETS = ("train", "validation", "test")


class _EvaluationByFold:
    """Full passes of networks over one set, each network over the set of its own fold.

    Args:
        network: The networks.
        groups: The data of each fold with its networks, as :meth:`FoldedData.groups` returns them.
        which: The set: ``train``, ``validation`` or ``test``.
    """

    def __init__(self, network: Network, groups: Sequence[tuple[DeviceData, int, int]], which: str) -> None:
        self._network, self._which = network, which
        self._groups = [(getattr(data, which), start, stop) for data, start, stop in groups]

    def __call__(self, lam: Values) -> Metrics:
        """Return the figures (R,) of the networks in their present state."""
        network, figures = self._network, []
        for samples, start, stop in self._groups:
            tensors = network.parameters.part(start, stop), network.running.part(start, stop)
            part = network.sharing(range(start, stop), *tensors)
            figures.append(Evaluation(part, samples.x, samples.labels)(lam[start:stop]))
        return Metrics.joined(figures)


class Evaluator:
    """Evaluates the active replicas with a penalty of strength `lam` (R,); the validation set at most once per step.

    Attributes:
        validated: The step of the last validation and its figures; None before the first.
    """

    def __init__(self, active: ActiveReplicas, data: DeviceData, lam: Values) -> None:
        self._active, self._data, self._lam = active, data, lam
        self._passes: dict[str, Evaluation | _EvaluationByFold] = {}
        self.validated: tuple[int, Metrics] | None = None

    def set_up(self) -> None:
        """Prepare passes of the present active replicas."""
        living, data = self._active.living, self._data
        if isinstance(data, FoldedData):
            groups = data.groups(self._active.numbers.tolist())
            self._passes = {name: _EvaluationByFold(living, groups, name) for name in SETS}
        else:
            sets = {name: getattr(data, name) for name in SETS}
            self._passes = {name: Evaluation(living, one.x, one.labels) for name, one in sets.items()}

    def __call__(self, which: str) -> Metrics:
        """Return figures (R,) of a full pass over a set; NaN for inactive replicas."""
        figures = np.full((3, self._active.network.replicas), np.nan)
        numbers = self._active.numbers
        if len(numbers):
            figures[:, numbers] = self._passes[which](self._lam[numbers]).arrays()
        return Metrics(*figures)

    def validate(self) -> tuple[Metrics, NDArray[np.int64]]:
        """Return validation figures of the present parameters, and the active replicas that are not finite."""
        step, active = self._active.state.step, self._active
        if self.validated is not None and self.validated[0] == step:
            return self.validated[1], np.empty(0, np.int64)
        metrics = self("validation")
        self.validated = step, metrics
        if not len(active):
            return metrics, active.numbers
        return metrics, active.numbers[~(finite(active.living) & np.isfinite(metrics.losses[active.numbers]))]

    def final(self, wanted: Sequence[str], views: int) -> dict[str, Any]:
        """Return the figures after the last step by the names of :class:`TrainResult`; NaN for sets not `wanted`."""
        figures: dict[str, Any] = {name: self._at_end(name, wanted=name in wanted) for name in SETS}
        return figures | {"test_views": self._of_views(views) if "test" in wanted else None}

    def _of_views(self, views: int) -> Metrics | None:
        """Return the figures of the test set over several views; None if one view is evaluated."""
        if self._data.views is None:
            return None
        numbers, figures = self._active.numbers, np.full((3, self._active.network.replicas), np.nan)
        if len(numbers):
            seen = evaluate_views(self._active.living, self._data.views.x, self._data.views.labels, views)
            figures[:, numbers] = seen.arrays()
        return Metrics(*figures)

    def _at_end(self, which: str, *, wanted: bool) -> Metrics:
        """Return the figures of a set after the last step; NaN if they are not wanted."""
        if not wanted:
            return Metrics.unknown(self._active.network.replicas)
        if which == "validation" and self.validated is not None and self.validated[0] == self._active.state.step:
            return self._active.only_active(self.validated[1])
        return self(which)
