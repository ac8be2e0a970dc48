"""Small networks on a CPU: a compiled loop takes many steps of one network after another."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import partial
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np

from xpnet.backend import Array
from xpnet.data import TransformedRows, samples_of
from xpnet.ops import fast_is_on
from xpnet.ops.blas import blas_threads, on_all_cores, one_blas_thread
from xpnet.training.steppers.plain import PlainStepper
from xpnet.training.steppers.replica_parallel import groups_of_one_order
from xpnet.training.steppers.stepper_state import Hyperparameters, State, StepMetrics

if TYPE_CHECKING:
    from xpnet.nn.network import Network

# Up to so many multiplications in a pass, one core with this loop is faster than several without it: they would wait
# for the calls of operations.
_MOST_PRODUCTS = 2_000_000
# Networks of a population, which have a core each anyway, gain as long as they stay in its cache.
_MOST_WEIGHTS, _MOST_INPUTS = 50_000, 256
# Bytes of the batches that are gathered at once: they stay in the cache until all networks have used them.
_BATCHES = 1 << 18


class CompiledStepper(PlainStepper):
    """Takes the steps of small networks in one compiled loop, each network by itself; the networks share the cores.

    A step of a small network is some twenty operations of a microsecond or two, and to call each from Python takes
    longer.  Here only the batches are gathered by operations, many at once.  A network's results do not depend, in any
    bit, on the networks that train with it.
    """

    def __init__(self, network: Network, x: Any, labels: Array, hyper: Hyperparameters) -> None:
        super().__init__(network, x, labels, hyper)
        from xpnet.ops.numba_intrinsics import addresses
        from xpnet.training.steppers import compiled_kernels

        self._kernels = compiled_kernels
        sgemm, dgemm, *_ = addresses() or (0, 0)
        self._gemm = sgemm if self.dtype == np.float32 else dgemm
        self._network = _Places(network, compiled_kernels.ARRAYS, compiled_kernels.ROWS)
        self._works: dict[tuple[int, int], list[Array]] = {}

    def run(self, state: State, perm: Array, eta: Array, metrics: StepMetrics) -> None:
        """Take one step for each row of `perm`; see :class:`xpnet.training.steppers.Stepper`."""
        steps, n = perm.shape[0], perm.shape[-1]
        replicas = eta.shape[1]
        shrink = 2 * eta * self.hyper.lam
        alpha = np.full_like(eta, self.config.bn_alpha)
        if state.step == 0 and steps > 0:
            alpha[0] = 0  # running statistics start from the first batch
        rates = np.stack([eta / n, 1 - shrink, shrink, alpha], axis=-1).astype(self.dtype)
        rates = np.ascontiguousarray(rates.swapaxes(0, 1))
        figures = np.zeros((replicas, steps, 3))
        threads = min(blas_threads(), replicas)
        groups = groups_of_one_order(perm, replicas, self.hyper.orders)
        # Each part gathers its batches, so groups are cut only if the threads would not have as much to do each.
        pieces = 1 if len(groups) % threads == 0 else threads
        parts = [
            (first, min(first + share, stop))
            for start, stop in groups
            for share in [-(-(stop - start) // pieces)]
            for first in range(start, stop, share)
        ]
        with one_blas_thread(), np.errstate(all="ignore"):  # overflow shows in the metrics
            on_all_cores([partial(self._train, state, perm, rates, figures, *part) for part in parts], threads)
        metrics.loss[...], metrics.correct[...], metrics.penalty[...] = figures.transpose(2, 1, 0)
        state.step += steps

    def _train(self, state: State, perm: Array, rates: Array, figures: Array, start: int, stop: int) -> None:
        """Take all steps with the replicas from `start` up to `stop`, which see the same batches."""
        rows = perm if perm.ndim == 2 else np.ascontiguousarray(perm[:, start])
        samples = samples_of(rows) if isinstance(self.x, TransformedRows) else rows
        (steps, n), dtype, places = rows.shape, self.dtype, self._network
        mine = [places.read(state, r) for r in range(start, stop)]
        memory = self._memory(start, n)
        rho, smoothing = (self._of_each(values, len(rates)) for values in (self.hyper.rho, self.hyper.smoothing))
        dropout = [self._dropout(r) for r in range(start, stop)]
        at_once = max(1, _BATCHES // (n * self.config.inputs * np.dtype(dtype).itemsize))
        for first in range(0, steps, at_once):
            block = slice(first, min(first + at_once, steps))
            x = self._inputs(rows[block])
            labels = self.labels[samples[block]].astype(np.int64, copy=False)
            weights = np.empty((len(x), 0), dtype) if self.weights is None else self.weights[samples[block]]
            for number, (p, v, running) in enumerate(mine):
                r = start + number
                self._kernels.train(
                    self._gemm, x, labels, weights, places.layers(n), places.weights, p, v, running,
                    rates[r, block], rho[r], self.hyper.nesterov, smoothing[r],
                    *dropout[number], state.step + first, dtype.type(self.config.bn_eps), *memory, figures[r, block],
                )  # fmt: skip
        for number, tensors in enumerate(mine):
            places.write(state, start + number, tensors)

    def _memory(self, start: int, n: int) -> list[Array]:
        """Return the memory of steps with batches of n samples, for the replicas from `start` on."""
        if (start, n) not in self._works:
            places, dtype = self._network, self.dtype
            kinds: list[tuple[Any, Any]] = [(places.size, dtype), (places.statistics, dtype), (places.work(n), dtype)]
            kinds += [((1, n, self.config.inputs), dtype), (places.masks(n), bool), ((1, n), dtype), ((1, n), bool)]
            self._works[start, n] = [np.empty(shape, kind) for shape, kind in kinds]
        return self._works[start, n]

    def _inputs(self, rows: Array) -> Array:
        """Return the inputs (k, n, d) of `rows` (k, n)."""
        if not isinstance(self.x, TransformedRows):
            return self.ops.gather(rows, self.x)
        # The last bits of a projection may depend on the number of rows, and this on the number of steps of a call.
        out = np.empty((*rows.shape, self.config.inputs), self.dtype)
        for batch, into in zip(rows, out, strict=True):
            self.ops.gather(batch, self.x, into)
        return out

    def _dropout(self, r: int) -> tuple[Array, Array, Array]:
        """Return what dropout of replica r depends on, of inputs and outputs: keys (2, 2), limits (2,), scales (2,)."""
        keys, limits, scales = np.zeros((2, 2), np.uint32), np.zeros(2, np.uint32), np.zeros(2, self.dtype)
        for number, mask in enumerate((self.masks or ())[:2]):
            if mask is not None:
                own = r if len(mask.keys) > 1 else 0
                keys[number], limits[number], scales[number] = mask.keys[own], mask.limits[own], mask.scales[own, 0, 0]
        return keys, limits, scales

    def _of_each(self, values: Array | None, replicas: int) -> Array:
        """Return a setting of the replicas as (R, 1), zero where there is none."""
        numbers = np.broadcast_to(np.asarray(0.0 if values is None else values), (replicas,))
        return np.ascontiguousarray(numbers[:, None].astype(self.dtype))


class _Places:
    """Where the tensors of a network, and the results of a step, lie in the arrays of the compiled loop."""

    def __init__(self, network: Network, arrays: int, rows: int) -> None:
        """Take a network, and how many arrays (n, m) and rows (m,) a step needs for each layer."""
        self._layers = network.layers
        self._arrays, self._rows = arrays, rows
        config = network.config
        self._sizes = list(pairwise((config.inputs, *config.hidden, config.classes)))
        tensors = {name: tensor[0].size for name, tensor in network.parameters.items()}
        # The weights come first, since only they have a penalty.
        self._names = sorted(tensors, key=lambda name: not name.startswith("W"))
        self._parameters, self.size = _places(self._names, tensors)
        self.weights = sum(size for name, size in tensors.items() if name.startswith("W"))
        self._running, self.statistics = _places(network.running, {k: v[0].size for k, v in network.running.items()})

    def layers(self, n: int) -> Array:
        """Return the table (L, 10) of :mod:`compiled_kernels`, for batches of n samples."""
        rows, start, kept = [], 0, 0
        for layer, (d, m) in zip(self._layers, self._sizes, strict=True):
            parameters = [self._parameters.get(name or "", -1) for name in layer[:4]]
            running = [self._running.get(name or "", -1) for name in layer[4:]]
            rows.append([d, m, *parameters, *running, start, kept])
            kept += n * d
            start += (self._arrays * n + self._rows) * m
        return np.array(rows, np.int64)

    def work(self, n: int) -> int:
        """Return the size of the work of all layers, for batches of n samples."""
        return sum((self._arrays * n + self._rows) * m for _, m in self._sizes)

    def masks(self, n: int) -> int:
        """Return the number of inputs of all layers, for batches of n samples."""
        return sum(n * d for d, _ in self._sizes)

    def read(self, state: State, r: int) -> tuple[Array, Array, Array]:
        """Return copies of replica r: its parameters, velocities and running statistics, each (size,)."""
        p = _joined(state.parameters, self._names, r)
        v = _joined(state.velocities, self._names, r) if state.velocities else np.empty(0, p.dtype)
        return p, v, _joined(state.running, self._running, r).astype(p.dtype, copy=False)

    def write(self, state: State, r: int, copies: tuple[Array, Array, Array]) -> None:
        """Copy back what :meth:`read` has returned."""
        groups = ((state.parameters, self._parameters), (state.velocities, self._parameters))
        for (tensors, places), values in zip((*groups, (state.running, self._running)), copies, strict=True):
            for name, start in places.items() if len(values) else ():
                tensor = tensors[name][r]
                tensor[...] = values[start : start + tensor.size].reshape(tensor.shape)


def _places(names: Iterable[str], sizes: Mapping[str, int]) -> tuple[dict[str, int], int]:
    """Return where each tensor begins if they lie side by side, and the size of all."""
    places, start = {}, 0
    for name in names:
        places[name] = start
        start += sizes[name]
    return places, start


def _joined(tensors: Mapping[str, Array], names: Iterable[str], r: int) -> Array:
    """Return tensors of replica r side by side, as a copy."""
    parts = [tensors[name][r].reshape(-1) for name in names]
    return np.concatenate(parts) if parts else np.empty(0)


def can_compile(network: Network) -> bool:
    """Return whether this system can run the compiled loop, and the network is on a CPU."""
    if network.backend.name != "cpu" or not fast_is_on():
        return False
    from xpnet.ops.numba_intrinsics import addresses

    return addresses() is not None


def compiling_pays(network: Network, hyper: Hyperparameters, batch_size: int) -> bool:
    """Return whether a compiled loop is faster than one operation after another, as far as that was measured."""
    config = network.config
    weights = sum(a * b for a, b in pairwise((config.inputs, *config.hidden, config.classes)))
    if network.replicas == 1:
        return weights * batch_size <= _MOST_PRODUCTS
    # Without momentum an update of many inputs' weights is part of one wide product for all networks.
    return weights <= _MOST_WEIGHTS and (hyper.moments > 0 or config.inputs <= _MOST_INPUTS)
