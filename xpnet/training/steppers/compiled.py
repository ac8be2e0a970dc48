"""Small networks on a CPU: a compiled loop takes many steps of one network after another."""

from __future__ import annotations

from functools import lru_cache, partial
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np

from xpnet.backend import Array
from xpnet.data import TransformedRows, samples_of
from xpnet.ops import fast_is_on
from xpnet.ops.blas import blas_threads, on_all_cores
from xpnet.training.steppers.plain import PlainStepper
from xpnet.training.steppers.replica_parallel import groups_of_one_order
from xpnet.training.steppers.stepper_state import Hyperparameters, State, StepMetrics

if TYPE_CHECKING:
    from xpnet.nn.network import Network
    from xpnet.training.steppers.compiled_program import Program

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
        from xpnet.training.steppers import compiled_kernels, compiled_program

        self._kernels = compiled_kernels
        self._tensors = tensors = compiled_program.Tensors(network)
        inputs, hidden = (mask is not None for mask in [*(self.masks or ()), None, None][:2])
        settings = compiled_program.Settings(
            momentum=hyper.moments > 0,
            nesterov=hyper.nesterov,
            smoothing=hyper.smoothing is not None,
            weights=hyper.weights is not None,
            drops_inputs=inputs,
            drops_hidden=hidden and len(network.layers) > 1,
        )
        self._program = lru_cache(maxsize=None)(partial(compiled_program.Program, network, tensors, settings))
        self._memories: dict[tuple[int, int], tuple[Array, Array]] = {}

    def run(self, state: State, perm: Array, eta: Array, metrics: StepMetrics) -> None:
        """Take one step for each row of `perm`; see :class:`xpnet.training.steppers.Stepper`."""
        steps, n = perm.shape[0], perm.shape[-1]
        replicas = eta.shape[1]
        program, rates = self._program(n), self._rates(state.step, eta, n)
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
        with np.errstate(all="ignore"):  # overflow shows in the metrics
            on_all_cores([partial(self._train, program, state, perm, rates, figures, *part) for part in parts], threads)
        metrics.loss[...], metrics.correct[...], metrics.penalty[...] = figures.transpose(2, 1, 0)
        state.step += steps

    def _rates(self, step: int, eta: Array, n: int) -> Array:
        """Return the numbers (R, k, RATES) that :mod:`compiled_kernels` lists."""
        kernels, hyper, (steps, replicas) = self._kernels, self.hyper, eta.shape
        rates = np.zeros((replicas, steps, kernels.RATES), self.dtype)
        shrink = 2 * eta * hyper.lam
        for column, values in (
            (kernels.ETA, eta / n), (kernels.KEEP, 1 - shrink), (kernels.SHRINK, shrink),
            (kernels.EPS, self.config.bn_eps), (kernels.ALPHA, self.config.bn_alpha),
            (kernels.RHO, hyper.rho), (kernels.SMOOTHING, hyper.smoothing),
        ):  # fmt: skip
            if values is not None:
                rates[..., column] = np.transpose(values) if np.ndim(values) == 2 else np.reshape(values, (-1, 1))
        for column, mask in zip((kernels.SCALE_INPUTS, kernels.SCALE_HIDDEN), self.masks or (), strict=False):
            if mask is not None:
                rates[..., column] = mask.scales[:, 0]
        if step == 0:
            rates[:, :1, kernels.ALPHA] = 0  # running statistics start from the first batch
        return rates

    def _train(
        self, program: Program, state: State, perm: Array, rates: Array, figures: Array, start: int, stop: int
    ) -> None:
        """Take all steps with the replicas from `start` up to `stop`, which see the same batches."""
        rows = perm if perm.ndim == 2 else np.ascontiguousarray(perm[:, start])
        samples = samples_of(rows) if isinstance(self.x, TransformedRows) else rows
        (steps, n), dtype, kernels = rows.shape, self.dtype, self._kernels
        mine = [self._tensors.read(state, r) for r in range(start, stop)]
        if (start, n) not in self._memories:
            self._memories[start, n] = program.memory()
        memory = self._memories[start, n]
        dropped = [self._dropped(r) for r in range(start, stop)]
        programs = np.array([program.of([*arrays, *memory, keys]) for arrays, keys in zip(mine, dropped, strict=True)])
        calls = np.zeros((stop - start, kernels.CALL), np.int64)
        at_once = max(1, _BATCHES // (n * self.config.inputs * np.dtype(dtype).itemsize))
        for first in range(0, steps, at_once):
            block = slice(first, min(first + at_once, steps))
            x = np.ascontiguousarray(self._inputs(rows[block]))
            labels = self.labels[samples[block]].astype(np.int64, copy=False)
            weights = None if self.weights is None else self.weights[samples[block]]
            calls[:, kernels.X], calls[:, kernels.LABELS] = x.ctypes.data, labels.ctypes.data
            calls[:, kernels.WEIGHTS] = 0 if weights is None else weights.ctypes.data
            calls[:, kernels.NUMBERS] = _starts(rates, start, stop, first)
            calls[:, kernels.FIGURES] = _starts(figures, start, stop, first)
            calls[:, kernels.FIRST] = state.step + first
            kernels.take_steps(programs, calls, len(x))
        for number, tensors in enumerate(mine):
            self._tensors.write(state, start + number, tensors)

    def _inputs(self, rows: Array) -> Array:
        """Return the inputs (k, n, d) of `rows` (k, n)."""
        if not isinstance(self.x, TransformedRows):
            return self.ops.gather(rows, self.x)
        # The last bits of a projection may depend on the number of rows, and this on the number of steps of a call.
        out = np.empty((*rows.shape, self.config.inputs), self.dtype)
        for batch, into in zip(rows, out, strict=True):
            self.ops.gather(batch, self.x, into)
        return out

    def _dropped(self, r: int) -> Array:
        """Return what dropout of replica r depends on, of inputs and outputs: two keys and a limit (2, 3)."""
        numbers = np.zeros((2, 3), np.int64)
        for row, mask in zip(numbers, self.masks or (), strict=False):
            if mask is not None:
                own = r if len(mask.keys) > 1 else 0
                row[:] = *mask.keys[own], mask.limits[own]
        return numbers


def _starts(values: Array, start: int, stop: int, step: int) -> Array:
    """Return the addresses of a step's numbers in `values` (R, k, numbers), for the replicas from `start` to `stop`."""
    of_replica, of_step, _ = values.strides
    return values.ctypes.data + step * of_step + of_replica * np.arange(start, stop)


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
