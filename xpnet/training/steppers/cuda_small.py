"""Steps of three kernels, for networks whose layers, except the first, fit into one multiprocessor."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from xpnet.backend import Array
from xpnet.data import StandardisedRows, TransformedRows
from xpnet.nn.layers import layers_of
from xpnet.training.steppers.cuda_graph import GraphStepper, Program
from xpnet.training.steppers.stepper_state import Hyperparameters, State

if TYPE_CHECKING:
    from xpnet.nn.network import Network

# The same values as in small.cu: features of a block, most units of a layer, threads of the blocks.
FEATURES, WIDTH = 32, 64
_FIRST_THREADS = 256
_REST_THREADS = {4: 512, 8: 256}  # by bytes per number
# With more replicas than this, batched products keep the device busy.
MANY = 8
# With more samples, the single block for the upper layers is slower than other steppers.
_SAMPLES = 256
_STATIC = 8 * 512 + 64


class SmallStepper(GraphStepper):
    """Executes the steps of small networks; see ``small.cu``.

    Each block of the first layer owns some rows of W1, updates them, and multiplies the next batch by them while they
    are in its shared memory.  One block for each replica computes the rest of the network.
    """

    def __init__(self, network: Network, x: Array, labels: Array, hyper: Hyperparameters) -> None:
        super().__init__(network, x, labels, hyper)
        self._network = network

    @staticmethod
    def why_not(network: Network, x: Any, batch: int) -> str | None:
        """Return why this stepper cannot train a network whose settings it supports, or None."""
        config = network.config
        if max(*config.hidden, config.classes, 1) > WIDTH:
            return f"it has layers of more than {WIDTH} units"
        if batch > _SAMPLES:
            return f"the batch has more than {_SAMPLES} samples"
        if x.ndim != 2:
            return "samples must be rows of features"
        if isinstance(x, TransformedRows):
            return "it reads no pictures in views"
        xp = network.backend.xp
        most = int(xp.cuda.Device().attributes["MaxSharedMemoryPerBlockOptin"])
        need = max(_Memory.bytes_of(network, batch))
        if need > most:
            return f"it needs {need:,} bytes of a multiprocessor's memory, which has {most:,}"
        return None

    def launch(self, state: State, program: Program, steps: int) -> None:
        """Launch the kernels of `steps` steps, from the one at the cursor on."""
        if program.memory is None:
            small = self.why_not(self._network, self.x, program.shape[-1]) is None
            program.memory = _Memory(self, state, program) if small else False
        if not program.memory:  # a larger batch than `make_stepper` was given
            super().launch(state, program, steps)
            return
        self._first(state, program, update=False, forward=True)
        for step in range(steps):
            self._rest(state, program)
            self._first(state, program, update=True, forward=step < steps - 1)

    def _first(self, state: State, program: Program, *, update: bool, forward: bool) -> None:
        memory, places, n = program.memory, program.places, program.shape[-1]
        W = state.parameters[self.layers[0].W]
        replicas, d, m = W.shape
        x: Any = self.x
        raw = isinstance(x, StandardisedRows)
        samples = (x.x, None, x.whole, x.rest, x.factor) if raw else (None, x, None, None, None)
        self.cuda.launch(
            "small_first", W.dtype, (memory.slices, replicas), (_FIRST_THREADS,),
            places.cursor, places.perm, np.int64(program.orders), places.eta, program.lam, *samples,
            W, np.int64(W.strides[0] // self.dtype.itemsize), memory.g1, memory.parts, memory.squares,
            np.bool_(update), np.bool_(forward), np.int32(n), np.int32(d), np.int32(m), shared=memory.first_bytes,
        )  # fmt: skip

    def _rest(self, state: State, program: Program) -> None:
        memory, places, n, dtype = program.memory, program.places, program.shape[-1], self.dtype
        replicas, _, m = state.parameters[self.layers[0].W].shape
        self.cuda.launch(
            "small_sum", dtype, (-(-n * m // 64), replicas), (64, 4),
            memory.parts, memory.s1, np.int32(n * m), np.int32(memory.slices), shared=256 * dtype.itemsize,
        )  # fmt: skip
        weights, units = state.parameters.flat.get("weights"), state.parameters.flat["units"]
        tensors = (weights, units, state.running.flat.get("all"))
        strided = [part for t in tensors for part in (t, np.int64(0 if t is None else t.shape[-1]))]
        self.cuda.launch(
            "small_rest", dtype, (replicas,), (_REST_THREADS[dtype.itemsize],),
            places.cursor, places.counter, places.perm, np.int64(program.orders), places.eta, program.lam,
            places.alphas, self.labels, memory.layout, np.int32(len(self.layers) - 1), *strided,
            memory.s1, memory.squares, np.int32(memory.slices), memory.g1, *places.metrics.arrays(),
            dtype.type(self.config.bn_eps), np.int32(n), *map(np.int32, memory.ends), shared=memory.rest_bytes,
        )  # fmt: skip


class _Memory:
    """Memory that passes data between the kernels, and the layout of the upper layers' tensors."""

    def __init__(self, stepper: GraphStepper, state: State, program: Program) -> None:
        xp, dtype, n = stepper.xp, stepper.dtype, program.shape[-1]
        replicas, d, m = state.parameters[stepper.layers[0].W].shape
        self.slices = -(-d // FEATURES)
        self.parts = xp.empty((replicas, self.slices, n, m), dtype=dtype)
        self.squares = xp.empty((replicas, self.slices), dtype="float64")
        self.s1, self.g1 = xp.empty((replicas, n, m), dtype=dtype), xp.empty((replicas, n, m), dtype=dtype)
        records, self.ends, numbers = _layout(stepper.config, n, _offsets(state))
        self.layout = xp.asarray(np.array(records, np.int32))
        self.first_bytes = _first_numbers(n) * dtype.itemsize
        self.rest_bytes = numbers * dtype.itemsize

    @staticmethod
    def bytes_of(network: Network, n: int) -> tuple[int, int]:
        """Return the bytes of shared memory of a block of the first layer, and of the block of the other layers."""
        size = network.dtype.itemsize
        return _first_numbers(n) * size + 2048, _layout(network.config, n, {})[2] * size + _STATIC


def _first_numbers(n: int) -> int:
    return n * (FEATURES + WIDTH) + FEATURES * WIDTH


def _padded(count: int) -> int:
    """Return `count` rounded up to a multiple of four, as kernels load four numbers at once."""
    return (count + 3) // 4 * 4


def _offsets(state: State) -> dict[str, int]:
    """Return where each small tensor begins in its flat array."""
    offsets: dict[str, int] = {}
    for tensors in (state.parameters, state.running):
        for names in tensors.members.values():
            start = 0
            for name in names:
                offsets[name] = start
                start += int(np.prod(tensors[name].shape[1:]))
    return offsets


def _layout(config: Any, n: int, offsets: dict[str, int]) -> tuple[list[list[int]], tuple[int, int, int], int]:
    """Return a ``SmallLayer`` record for each layer, the offsets of memory after the layers, and the total size."""
    sizes = (*config.hidden, config.classes)
    records, at, below = [], 0, 0

    def take(count: int) -> int:
        nonlocal at
        start, at = at, at + _padded(count)
        return start

    for number, (layer, m) in enumerate(zip(layers_of(config), sizes, strict=True)):
        padded = _padded(m)
        at_W = take(below * padded) if number else -1
        at_y = take(n * padded)
        at_hat = take((n + 1) * padded) if layer.gamma is not None else -1
        places = [offsets.get(name or "", -1) for name in (layer.W, layer.b, layer.gamma, layer.beta)]
        statistics = [offsets.get(name or "", -1) for name in (layer.mean, layer.var)]
        records.append([m, padded, *places, *statistics, at_W, at_y, at_hat])
        below = padded
    g_size = n * _padded(max(sizes))
    ends = (take(512), take(2 * g_size), g_size)
    return records, ends, at
