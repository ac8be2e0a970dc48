"""One network in thinc: ReLU layers and a softmax, without batch normalisation, which it does not have."""

from __future__ import annotations

from typing import Any

import numpy as np
import thinc.api as thinc

from bench.problem import LAM, Problem, layers


class Chain:
    """Plain SGD through thinc's own optimisers: one with the penalty for W, one without for b."""

    def __init__(self, problem: Problem) -> None:
        thinc.use_ops("numpy")
        self._x, self._labels = problem.data()
        first = problem.initial()
        self._one_hot = np.eye(problem.sizes[-1], dtype=np.float32)[self._labels]
        hidden = [thinc.Relu(m) for m in problem.hidden]
        self._layers = [*hidden, thinc.Softmax(problem.sizes[-1])]
        self._model: Any = thinc.chain(*self._layers)
        self._model.initialize(X=self._x[:2], Y=self._one_hot[:2])
        for layer, number in zip(self._layers, layers(first), strict=True):
            layer.set_param("W", first[f"W{number}"][0].T.copy())
            layer.set_param("b", first[f"b{number}"][0, 0].copy())
        plain = {"beta1": 0.0, "beta2": 0.0, "use_averages": False, "grad_clip": 0.0, "L2_is_weight_decay": False}
        # Their rate is 1: the rate of each step is handed to the call.
        self._weights = thinc.Optimizer(1.0, L2=2 * LAM, **plain)
        self._biases = thinc.Optimizer(1.0, L2=0.0, **plain)

    def epoch(self, perm: np.ndarray, eta: np.ndarray) -> None:
        """Take the steps."""
        n = np.float32(perm.shape[1])
        for rows, rate in zip(perm, eta.tolist(), strict=True):
            probabilities, backprop = self._model.begin_update(self._x[rows])
            backprop((probabilities - self._one_hot[rows]) / n)

            def descend(key: Any, p: np.ndarray, g: np.ndarray, rate: float = rate) -> Any:
                return (self._weights if key[1] == "W" else self._biases)(key, p, g, lr_scale=rate)

            self._model.finish_update(descend)

    def weights(self) -> list[np.ndarray]:
        """Return the weight matrices (d, m)."""
        return [layer.get_param("W").T for layer in self._layers]
