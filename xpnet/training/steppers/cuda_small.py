"""Steps of three kernels, for networks whose layers, except the first, fit into one multiprocessor."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from xpnet.backend import Array
from xpnet.training.steppers.cuda_graph import GraphStepper, Program
from xpnet.training.steppers.cuda_plan import (
    THREADS,
    WIDTH,
    Extras,
    Plan,
    Variant,
    flat_tensors,
    source_of,
    too_large,
    why_not,
)
from xpnet.training.steppers.stepper_state import Hyperparameters, State

if TYPE_CHECKING:
    from xpnet.nn.network import Network

# The same values as in small.cu: features of a block, threads of the blocks of the first layer.
FEATURES = 32
_FIRST_THREADS = 256
# With more replicas than this, batched products keep the device busy.
MANY = 8


class SmallStepper(GraphStepper):
    """Executes the steps of small networks; see ``small.cu``.

    Each block of the first layer owns some rows of W1, updates them, and multiplies the next batch by them while they
    are in its shared memory.  One block for each replica computes the rest of the network.
    """

    def __init__(self, network: Network, x: Array, labels: Array, hyper: Hyperparameters) -> None:
        super().__init__(network, x, labels, hyper)
        self._network, self._variant = network, Variant.of(hyper)

    @staticmethod
    def why_not(network: Network, x: Any, batch: int, variant: Variant) -> str | None:
        """Return why this stepper cannot train a network whose settings it supports, or None."""
        reason = why_not(network, x, batch)
        if reason is not None:
            return reason
        plan = Plan(network.config, network.dtype, batch, variant=variant)
        return too_large(network, _first_numbers(batch, variant) * network.dtype.itemsize, plan.bytes)

    def launch(self, state: State, program: Program, steps: int) -> None:
        """Launch the kernels of `steps` steps, from the one at the cursor on."""
        if program.memory is None:
            small = self.why_not(self._network, self.x, program.shape[-1], self._variant) is None
            program.memory = _Memory(self, state, program, self._variant) if small else False
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
        self.cuda.launch(
            "small_first", W.dtype, (memory.slices, replicas), (_FIRST_THREADS,),
            places.cursor, places.perm, np.int64(program.orders), places.eta, program.lam, *source_of(self.x),
            W, np.int64(W.strides[0] // self.dtype.itemsize), memory.g1, memory.parts, memory.squares,
            np.bool_(update), np.bool_(forward), np.int32(n), np.int32(d), np.int32(m),
            memory.extras.of_first(state), memory.extras.rho, memory.extras.nesterov,
            shared=memory.first_bytes, macros=self._variant.macros,
        )  # fmt: skip

    def _rest(self, state: State, program: Program) -> None:
        memory, places, n, dtype = program.memory, program.places, program.shape[-1], self.dtype
        replicas, _, m = state.parameters[self.layers[0].W].shape
        self.cuda.launch(
            "small_sum", dtype, (-(-n * m // 64), replicas), (64, 4),
            memory.parts, memory.s1, np.int32(n * m), np.int32(memory.slices), shared=256 * dtype.itemsize,
        )  # fmt: skip
        self.cuda.launch(
            "small_rest", dtype, (replicas,), (THREADS[dtype.itemsize],),
            places.cursor, places.counter, places.perm, np.int64(program.orders), places.eta, program.lam,
            places.alphas, self.labels, memory.plan, np.int32(memory.plan.size), *flat_tensors(state),
            memory.s1, memory.squares, np.int32(memory.slices), memory.g1, *places.metrics.arrays(),
            dtype.type(self.config.bn_eps), np.int32(n), *memory.extras.of_upper(state),
            shared=memory.rest_bytes, macros=self._variant.macros,
        )  # fmt: skip


class _Memory:
    """Memory that passes data between the kernels, and the plan of the upper layers' memory."""

    def __init__(self, stepper: GraphStepper, state: State, program: Program, variant: Variant) -> None:
        xp, dtype, n = stepper.xp, stepper.dtype, program.shape[-1]
        replicas, d, m = state.parameters[stepper.layers[0].W].shape
        self.slices = -(-d // FEATURES)
        self.parts = xp.empty((replicas, self.slices, n, m), dtype=dtype)
        self.squares = xp.empty((replicas, self.slices), dtype="float64")
        self.s1, self.g1 = xp.empty((replicas, n, m), dtype=dtype), xp.empty((replicas, n, m), dtype=dtype)
        plan = Plan(stepper.config, dtype, n, state, variant=variant)
        self.plan, self.extras = xp.asarray(plan.numbers), Extras(stepper, state)
        self.first_bytes, self.rest_bytes = _first_numbers(n, variant) * dtype.itemsize, plan.bytes


def _first_numbers(n: int, variant: Variant) -> int:
    """Return the numbers in shared memory of a block of the first layer."""
    return n * (2 * FEATURES + WIDTH) + (1 + variant.momentum) * FEATURES * WIDTH
