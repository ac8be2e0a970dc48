"""One network on several cores: each core keeps a share of the first layer's features."""

from __future__ import annotations

import threading
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np

from xpnet.backend import Array
from xpnet.data import StandardisedRows
from xpnet.ops import fast_is_on
from xpnet.ops.blas import blas_threads, one_blas_thread
from xpnet.training.steppers.plain import PlainStepper
from xpnet.training.steppers.stepper_state import Hyperparameters, State, StepMetrics

if TYPE_CHECKING:
    from xpnet.nn.network import Network

_MOST_THREADS = 4
# With fewer features per thread, synchronising costs more than it gains.
_FEWEST_FEATURES = 256
# Multiplications in x W1 from which two threads are faster; below, passing data costs more.
_FEWEST_PRODUCTS = 2_000_000
# One thread computes the other layers, so their share of the work must be small.
_LARGEST_REST = 0.05
_APART = 16  # words between flags: two cache lines


class FeatureParallelStepper(PlainStepper):
    """Splits x W1 and W1 <- keep W1 - x' g over the features; the rest of a step is :class:`PlainStepper`'s.

    A thread gathers its own columns of the batch, multiplies them by its rows of W1, and updates these rows, so its
    parts of the batch and of W1 stay in the cache of its core.  Only x W1 and its gradient, n x m numbers each, pass
    between the cores.  With a threaded BLAS each core would read numbers that another core has written, which is
    several times slower on some machines.  The threads synchronise twice a step, by flags in memory, and run without
    the interpreter in between.
    """

    def __init__(self, network: Network, x: Any, labels: Array, hyper: Hyperparameters, threads: int) -> None:
        super().__init__(network, x, labels, hyper)
        from xpnet.ops.numba_intrinsics import addresses
        from xpnet.training.steppers import feature_parallel_kernels

        self._kernels = feature_parallel_kernels
        sgemm, dgemm, memmove, give_way = addresses() or (0, 0, 0, 0)
        self._calls = np.array([sgemm if self.dtype == np.float32 else dgemm, give_way], np.int64)
        d = self.config.inputs
        edges = [16 * (d * i // (16 * threads)) for i in range(threads)] + [d]
        self._shares = list(pairwise(edges))
        if isinstance(x, StandardisedRows):
            located: tuple[Any, Any] = x.located() or (x.x, None)
            features, self._places = located
            standard = np.stack([x.whole, x.rest, x.factor])
            ways = (standard, None) if features.itemsize == 1 else (None, standard)
            self._x: tuple[Any, ...] = (features, *ways, None)
        else:
            self._places, self._x = None, (x, None, None, memmove)
        self._shared: dict[int, tuple[list[Array], Array, Array]] = {}
        self._inner = self.ops
        self.ops = self.ops._replace(gather=self._gather, affine=self._affine, descend_by_product=self._update)

    def run(self, state: State, perm: Array, eta: Array, metrics: StepMetrics) -> None:
        """Take one step for each row of `perm`; see :class:`xpnet.training.steppers.Stepper`."""
        state.pack(np)
        steps, n = perm.shape
        W = state.parameters["W1"]
        m, threads = W.shape[2], len(self._shares)
        if n not in self._shared:
            batches = [np.empty((n, stop - start), self.dtype) for start, stop in self._shares]
            self._shared[n] = batches, np.empty((threads, n, m), self.dtype), np.empty((n, m), self.dtype)
        self._batches, self._parts, self._g = self._shared[n]
        # Labels are in the order of the samples; features in a file may be in another order.
        rows = perm if self._places is None else self._places[perm]
        self._rows, self._t = rows, 0
        self._shares_of_W = [W[0, start:stop] for start, stop in self._shares]
        self._flags = np.zeros(threads * _APART, np.int64)
        self._keep = (1 - 2 * eta * self.hyper.lam).astype(self.dtype)[:, 0]
        self._squares = np.zeros((threads, steps), self.dtype)
        # A call without steps returns at once: this compiles the code before threads wait for each other.
        self._worker(1, rows[:0])
        workers = [threading.Thread(target=self._worker, args=(i, rows), daemon=True) for i in range(1, threads)]
        with one_blas_thread():
            for worker in workers:
                worker.start()
            try:
                super().run(state, perm, eta, metrics)
            finally:
                if self._t < steps:
                    self._flags[0] = self._kernels.LEAVE
                for worker in workers:
                    worker.join()
        metrics.penalty[:, 0] += self._squares.sum(axis=0, dtype="float64")

    def _worker(self, number: int, perm: Array) -> None:
        self._kernels.work(
            self._calls, *self._x, perm, self._shares[number][0], self._batches[number],
            self._shares_of_W[number], self._parts[number], self._g, self._keep, self._squares[number],
            self._flags, number * _APART, 0,
        )  # fmt: skip

    def _gather(self, rows: Array, x: Any, out: Array | None = None) -> Array:
        """Gather labels; for features return a stand-in, since each thread gathers its own features later."""
        return self._batches[0] if x is self.x else self._inner.gather(rows, x, out)

    def _affine(self, x: Array, W: Array, b: Array | None, out: Array | None = None) -> Array:
        if x is not self._batches[0]:
            return self._inner.affine(x, W, b, out)
        t = self._t
        self._squares[0, t] = self._kernels.lead_forward(
            self._calls, *self._x, self._rows[t], self._shares[0][0], x, self._shares_of_W[0], self._parts, t,
            self._flags, _APART,
        )  # fmt: skip
        s = self._parts[:1]
        if b is not None:
            s += b
        return s

    def _update(self, W: Array, x: Array, g: Array, keep: Array, squares: Array, out: Any = None) -> Any:
        if x is not self._batches[0]:
            return self._inner.descend_by_product(W, x, g, keep, squares, out)
        t = self._t
        np.copyto(self._g, g[0])
        self._kernels.lead_update(self._calls, x, self._g, self._shares_of_W[0], self._keep[t], t, self._flags, 0)
        self._t = t + 1
        return None


def threads_to_split(network: Network, x: Any, batch_size: int = 100) -> int:
    """Return the best number of threads for splitting the first layer; 1 if splitting is not worthwhile."""
    config = network.config
    if network.replicas > 1 or network.backend.name != "cpu" or not fast_is_on():
        return 1
    readable = x.located() is not None if isinstance(x, StandardisedRows) else x.flags.c_contiguous
    if not config.hidden or not readable:
        return 1
    from xpnet.ops.numba_intrinsics import addresses

    sizes = (*config.hidden, config.classes)
    first = config.inputs * config.hidden[0]
    rest = sum(a * b for a, b in pairwise(sizes))
    if "W1" not in network.parameters.large or first * batch_size < _FEWEST_PRODUCTS or rest > _LARGEST_REST * first:
        return 1
    if addresses() is None:
        return 1
    return max(1, min(blas_threads(), _MOST_THREADS, config.inputs // _FEWEST_FEATURES))
