"""Training steps for benchmarks, and their floor: the gather and the matrix products alone.

``xpnet bench`` and the project's own benchmarks share this module, so that both measure the same.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from xpnet.config.training import TrainConfig
from xpnet.data import Dataset, LabelledSet, Standardiser, Transform
from xpnet.nn.network import Network
from xpnet.training.device_data import DeviceSet
from xpnet.training.steppers import Hyperparameters, State, StepMetrics, make_stepper

# The number of steps that training passes to the stepper in one call.
STEPS_A_CALL = 50
# A product with a larger result is computed in blocks of rows, so that each block stays in the caches.
_BLOCK_BYTES = 4 * 2**20


def noise(samples: int, inputs: int = 3072, classes: int = 10, *, others: int = 1, seed: int = 0) -> Dataset:
    """Return random images of CIFAR-10's shape (uint8), with `others` images each for validation and test."""
    draw = np.random.default_rng(seed)
    train, validation, test = (
        LabelledSet(draw.integers(0, 256, (count, inputs), np.uint8), draw.integers(0, classes, count))
        for count in (samples, others, others)
    )
    return Dataset(
        name="noise",
        location="memory",
        split=f"{samples}/{others}",
        train=train,
        validation=validation,
        test=test,
        class_names=tuple(map(str, range(classes))),
        image_shape=None,
        transform=Transform(Standardiser.fit(train.x)),
    )


def order(samples: int, batch: int, steps: int, seed: int) -> NDArray[np.int64]:
    """Return the samples of `steps` batches (steps, batch): the beginning of a random order."""
    return np.random.default_rng(seed).permutation(samples)[: steps * batch].reshape(steps, batch)


class Steps:
    """Training steps of a network, by the stepper that training uses, on data as training keeps it."""

    def __init__(self, network: Network, part: DeviceSet, lam: Any, config: TrainConfig | None = None) -> None:
        """Prepare steps of `network` on a set from :func:`xpnet.to_device` with the penalty `lam`, () or (R,).

        The optimiser, label smoothing, dropout and the stepper are those of `config`; without it, there is no momentum,
        no smoothing and no dropout.
        """
        self._backend = backend = network.backend
        config = config or TrainConfig()
        hyper = replace(
            Hyperparameters.of(config, network.replicas, backend.asarray),
            lam=backend.asarray(np.broadcast_to(np.asarray(lam, float), (network.replicas,)).copy()),
        ).with_dropout(config, network.seeds)
        self._stepper = make_stepper(network, part.x, part.labels, hyper, config.stepper, config.batch_size, config)
        self.state = State.of(network, config.moments)

    def __call__(self, perm: NDArray[np.int64], eta: NDArray[np.float64]) -> NDArray[np.float64]:
        """Take the steps of `perm` (k, n) with the rates `eta` (k,); wait, and return each replica's mean loss (R,)."""
        backend, steps = self._backend, len(perm)
        replicas = int(self.state.parameters["W1"].shape[0])
        totals = StepMetrics.empty(backend.xp, steps, replicas)
        rows = backend.asarray(perm)
        rates = backend.asarray(np.repeat(eta[:, None], replicas, axis=1))
        for first in range(0, steps, STEPS_A_CALL):
            part = slice(first, min(first + STEPS_A_CALL, steps))
            self._stepper.run(self.state, rows[part], rates[part], totals.part(part.start, part.stop))
        loss: NDArray[np.float64] = backend.to_numpy(totals.loss).sum(axis=0) / perm.size
        return loss


class Floor:
    """The least work of a step on the CPU, in NumPy: the gather of its batch, and its matrix products.

    All elementwise work is left out, even the update of the weights.  NumPy gathers float32 with one thread, so
    compiled code that gathers bytes, or uses all cores, can be faster than this floor; it uses NumPy alone so that it
    stays the same while xpnet changes.  R replicas with one batch share the wide products of the first layer; the
    products of the other layers are stacked.
    """

    def __init__(self, sizes: Sequence[int], batch: int, x: NDArray[np.float32], replicas: int = 1) -> None:
        """Prepare products for the layer `sizes` (inputs, hidden..., classes) and the samples `x` (N, inputs)."""
        draw = np.random.default_rng(0)

        def array(*shape: int) -> NDArray[np.float32]:
            return draw.standard_normal(shape, dtype=np.float32)

        d, m = sizes[0], sizes[1] * replicas
        self._x, self._batch = x, array(batch, d)
        self._W1, self._g1, self._s1 = array(d, m), array(batch, m), array(batch, m)
        rows = min(d, max(1, _BLOCK_BYTES // (4 * m)))
        self._blocks = [slice(first, min(first + rows, d)) for first in range(0, d, rows)]
        self._step1 = array(rows, m)
        # For each further layer: x, W, g, and the arrays for x W, g W', x' g.
        self._small = [
            [array(replicas, *shape) for shape in ((batch, k), (k, n), (batch, n), (batch, n), (batch, k), (k, n))]
            for k, n in pairwise(sizes[1:])
        ]
        if replicas == 1:
            self._small = [[a[0] for a in layer] for layer in self._small]

    def __call__(self, perm: NDArray[np.int64]) -> None:
        """Do the work of the steps of `perm` (k, n)."""
        for rows in perm:
            # Without mode="clip", NumPy gathers into a buffer first.
            np.take(self._x, rows, axis=0, out=self._batch, mode="clip")
            np.matmul(self._batch, self._W1, out=self._s1)
            for x, W, g, s, x_gradient, step in self._small:
                np.matmul(x, W, out=s)
                np.matmul(g, W.swapaxes(-1, -2), out=x_gradient)
                np.matmul(x.swapaxes(-1, -2), g, out=step)
            for block in self._blocks:
                np.matmul(self._batch[:, block].T, self._g1, out=self._step1[: block.stop - block.start])


def in_turn(
    contenders: Mapping[str, Callable[[int], float]], rounds: int, pause: float = 0.0
) -> dict[str, list[float]]:
    """Call every contender with the number of the round, in turn, each round; return the seconds that each reports.

    Machines drift while they measure, and contenders that run in turn drift alike.  Round 0 warms up; its
    seconds are the first of ``rounds + 1``.  `pause` seconds before each turn let the threads of the one before
    fall asleep.
    """
    times: dict[str, list[float]] = {name: [] for name in contenders}
    for number in range(rounds + 1):
        for name, run in contenders.items():
            time.sleep(pause)
            times[name].append(run(number))
    return times


def summary(values: Sequence[float]) -> dict[str, Any]:
    """Return the median, minimum and quartiles of `values`, and the values."""
    low, _, high = statistics.quantiles(values, n=4, method="inclusive") if len(values) > 1 else [values[0]] * 3
    return {"median": statistics.median(values), "min": min(values), "q1": low, "q3": high, "values": list(values)}


def wins_from(points: Sequence[tuple[int, float, float]]) -> int | None:
    """Return the smallest size from which on the second of (size, first, second) is always the faster; None if never.

    >>> wins_from([(50, 1.0, 2.0), (100, 2.0, 2.1), (200, 4.0, 2.2)])
    200
    """
    smallest = None
    for size, first, second in sorted(points, reverse=True):
        if second >= first:
            break
        smallest = size
    return smallest
