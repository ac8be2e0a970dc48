"""xpnet itself, and the floor under it."""

from __future__ import annotations

from typing import Any

import numpy as np

import xpnet
from bench.problem import ETA_MAX, ETA_MIN, LAM, N_S, Problem
from xpnet.analysis import step_benchmark


class Stepper:
    """The stepper that training uses."""

    def __init__(self, problem: Problem) -> None:
        self._network = problem.network()
        part = xpnet.to_device(problem.raw(), self._network.backend, self._network.dtype).train
        self._steps = step_benchmark.Steps(self._network, part, problem.lam)

    def epoch(self, perm: np.ndarray, eta: np.ndarray) -> float:
        """Take the steps; return the mean loss over all replicas."""
        return float(self._steps(perm, eta).mean())

    def weights(self) -> list[np.ndarray]:
        """Return the weight matrices (R, d, m)."""
        return [p for name, p in self._steps.state.parameters.items() if name.startswith("W")]


class Floor:
    """Gather and matrix products of the same shapes."""

    def __init__(self, problem: Problem) -> None:
        self._floor = step_benchmark.Floor(problem.sizes, problem.batch, problem.data()[0], problem.replicas)

    def epoch(self, perm: np.ndarray, eta: np.ndarray) -> None:  # noqa: ARG002
        """Do the products of the steps."""
        self._floor(perm)

    def weights(self) -> list[np.ndarray]:
        """Return nothing: it learns nothing."""
        return []


class Train:
    """``xpnet.train`` on images of the same shape, one epoch a call, with its own batches.

    The validation set is a ninth of the training set, as in the usual 45,000 / 5,000.
    """

    def __init__(self, problem: Problem) -> None:
        samples = len(problem.labels())
        data = step_benchmark.noise(samples, others=max(1, samples // 9))
        self._network = problem.network()
        self._data = xpnet.to_device(data, self._network.backend, self._network.dtype)
        self._config = xpnet.TrainConfig(
            lam=LAM, batch_size=problem.batch, eta_min=ETA_MIN, eta_max=ETA_MAX, n_s=N_S, epochs=1
        )
        self.figures: dict[str, Any] = {}

    def epoch(self, perm: np.ndarray, eta: np.ndarray) -> None:  # noqa: ARG002
        """Train one epoch; leave the seconds of its steps and of its evaluation in `figures`."""
        records = xpnet.train(self._network, self._data, self._config).history.epochs
        steps = -(-len(self._data.train.labels) // self._config.batch_size)
        training, evaluation = records[0].seconds_training, records[0].seconds_evaluation
        self.figures = {"seconds": training + evaluation, "evaluation": evaluation, "steps": steps}

    def weights(self) -> list[np.ndarray]:
        """Return nothing: its batches are not those of the others."""
        return []
