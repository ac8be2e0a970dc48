"""xpnet's steps on augmented pictures, and the floor under them."""

from __future__ import annotations

import dataclasses
from itertools import pairwise

import numpy as np

import xpnet
from bench.learn.pictures import PictureProblem
from xpnet.analysis import step_benchmark


class Stepper:
    """The stepper that training uses, with the recipe's momentum, smoothing and augmentation."""

    def __init__(self, problem: PictureProblem) -> None:
        network, config = problem.network(), self._config(problem)
        part = xpnet.to_device(problem.raw(), network.backend, network.dtype, config).train
        self._steps = step_benchmark.Steps(network, part, problem.lam, config)

    def _config(self, problem: PictureProblem) -> xpnet.TrainConfig:
        return problem.config

    def epoch(self, perm: np.ndarray, eta: np.ndarray) -> float:
        """Take the steps; return the mean loss."""
        return float(self._steps(perm, eta).mean())

    def weights(self) -> list[np.ndarray]:
        """Return the weight matrices (1, d, m)."""
        return [p for name, p in self._steps.state.parameters.items() if name.startswith("W")]


class Float32(Stepper):
    """The same with products in float32."""

    def _config(self, problem: PictureProblem) -> xpnet.TrainConfig:
        return dataclasses.replace(problem.config, bf16=False)


class Products:
    """The matrix products of a step alone, by NumPy: no gather, no elementwise work, no update.

    They are the projection, the products forward and of the weights' gradients, and those of the inputs' gradients of
    all layers but the first.
    """

    def __init__(self, problem: PictureProblem) -> None:
        draw, n, sizes = np.random.default_rng(0), problem.batch, problem.sizes
        pooled = 3072 // problem.settings.data.pool**2

        def array(*shape: int) -> np.ndarray:
            return draw.standard_normal(shape, dtype=np.float32)

        self._projection = array(n, pooled), array(pooled, sizes[0]), array(n, sizes[0])
        # For each layer: x, W, g, and the arrays for x W, x' g, g W'.
        self._layers = [
            [array(*shape) for shape in ((n, k), (k, m), (n, m), (n, m), (k, m), (n, k))] for k, m in pairwise(sizes)
        ]

    def epoch(self, perm: np.ndarray, eta: np.ndarray) -> None:  # noqa: ARG002
        """Compute the products of the steps."""
        pictures, projection, inputs = self._projection
        for _ in perm:
            np.matmul(pictures, projection, out=inputs)
            for x, W, _g, s, _, _ in self._layers:
                np.matmul(x, W, out=s)
            for number, (x, W, g, _s, step, x_gradient) in reversed(list(enumerate(self._layers))):
                np.matmul(x.T, g, out=step)
                if number:
                    np.matmul(g, W.T, out=x_gradient)

    def weights(self) -> list[np.ndarray]:
        """Return nothing: it learns nothing."""
        return []
