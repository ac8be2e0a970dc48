"""One network in scikit-learn: ``MLPClassifier``, which has no batch normalisation."""

from __future__ import annotations

import warnings
from unittest import mock

import numpy as np
import sklearn
from sklearn.neural_network import MLPClassifier, _multilayer_perceptron
from sklearn.neural_network._stochastic_optimizers import SGDOptimizer

from bench.problem import CLASSES, INPUTS, LAM, Problem, layers


class _Scheduled(SGDOptimizer):  # type: ignore[misc]
    """Plain SGD whose rate is another one at every step."""

    rates: list[float]

    def update_params(self, params: list[np.ndarray], grads: list[np.ndarray]) -> None:
        """Take a step with the next rate."""
        self.learning_rate = self.rates.pop()
        super().update_params(params, grads)


class Classifier:
    """One call of ``partial_fit`` an epoch, in the order that all contenders get."""

    def __init__(self, problem: Problem) -> None:
        sklearn.set_config(assume_finite=True, skip_parameter_validation=True)
        self._x, self._labels = problem.data()
        # Its penalty is alpha / 2 / n sum W**2, ours lambda sum W**2.
        self._model = model = MLPClassifier(
            problem.hidden,
            solver="sgd",
            batch_size=problem.batch,
            alpha=2 * LAM * problem.batch,
            momentum=0,
            nesterovs_momentum=False,
            shuffle=True,
        )
        # A first call makes what there is to be filled with the common weights.
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # that a batch is smaller than batch_size
            model.partial_fit(np.zeros((CLASSES, INPUTS), np.float32), np.arange(CLASSES), classes=np.arange(CLASSES))
        first = problem.initial()
        for number in layers(first):
            model.coefs_[number - 1] = first[f"W{number}"][0].copy()
            model.intercepts_[number - 1] = first[f"b{number}"][0, 0].copy()
        model._optimizer = self._optimiser = _Scheduled(
            model.coefs_ + model.intercepts_, lr_schedule="constant", momentum=0, nesterov=False
        )

    def epoch(self, perm: np.ndarray, eta: np.ndarray) -> None:
        """Take the steps.  Its own loss includes the penalty, so none is returned."""
        self._optimiser.rates = eta[::-1].tolist()
        rows = perm.ravel()
        if len(rows) == len(self._x):
            # Its own path, which gathers batch by batch; only the order is not drawn but given.
            with mock.patch.object(_multilayer_perceptron, "shuffle", return_value=rows):
                self._model.partial_fit(self._x, self._labels)
        else:
            self._model.set_params(shuffle=False)
            self._model.partial_fit(self._x[rows], self._labels[rows])

    def weights(self) -> list[np.ndarray]:
        """Return the weight matrices (d, m)."""
        return list(self._model.coefs_)
