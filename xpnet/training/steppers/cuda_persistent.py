"""All steps of a call in one kernel, whose blocks keep the first layer of one network among them."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np

from xpnet.backend import Array
from xpnet.errors import DeviceError
from xpnet.ops.cuda import clusters
from xpnet.ops.cuda_ops import cuda_ops
from xpnet.training.steppers.cuda_graph import CAPACITY, GraphStepper, Program
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

# The same value as in cluster.cu; and the threads of a warp, each of which waits for one cluster.
CLUSTER = 8
_MOST_CLUSTERS = 32
# The numbers of ``Own`` in cluster.cu, in their order, and its size.
_OWN = (
    *("rows", "at_W1", "at_V1", "at_scales", "at_raw", "at_x", "at_product", "at_g1", "at_dW", "at_sums", "at_told"),
    *("at_part", "at_order", "at_warps"),
)
_OWN_SIZE = 16


class PersistentPlan(Plan):
    """The layout of a block's memory: that of the upper layers for its samples, and ``Own`` of cluster.cu before it.

    Attributes:
        rows: Rows of W1 that a block owns, a multiple of four.
        clusters: Clusters of the grid.
        each: Samples of a block, at most.
    """

    def __init__(
        self, network: Any, dtype: Any, n: int, room: int, state: State | None = None, *, variant: Variant
    ) -> None:
        """Lay out the memory for batches of `n` and a GPU that has room for so many clusters."""
        self.rows = -(-network.inputs // (4 * CLUSTER * room)) * 4
        self.clusters = -(-network.inputs // (CLUSTER * self.rows))
        self.each = -(-n // CLUSTER)
        super().__init__(network, dtype, self.each, state, variant=variant, head=_OWN_SIZE)
        padded = [-(-m // 4) * 4 for m in (*network.hidden, network.classes)]
        size, threads = np.dtype(dtype).itemsize, THREADS[np.dtype(dtype).itemsize]
        counts = {
            "at_W1": self.rows * padded[0],
            "at_V1": self.rows * padded[0] if variant.momentum else 0,
            "at_scales": 3 * self.rows,
            "at_raw": -(-n * self.rows // size),
            "at_x": 2 * n * self.rows,
            "at_product": n * padded[0],
            "at_dW": sum(below * above for below, above in pairwise(padded)),
            "at_sums": 2 * 3 * WIDTH,
            "at_told": CLUSTER * 3 * WIDTH,
            "at_part": 3 * threads,
            "at_order": 2 * n * 8 // size,
            "at_warps": 4 * threads // 32 * 8 // size,
        }
        places = {"rows": self.rows} | {name: self._take(count) for name, count in counts.items()}
        places["at_g1"] = places["at_product"]  # the product has long been added up when g1 is fetched
        own = np.zeros(_OWN_SIZE, np.int32)
        own[: len(_OWN)] = [places[name] for name in _OWN]
        self.numbers = np.concatenate([own, self.numbers])
        self.bytes = self._at * size


class PersistentStepper(GraphStepper):
    """Executes the steps of one small network by blocks that stay on the GPU for a whole call; see ``persistent.cu``.

    The blocks keep W1 among them in shared memory, and exchange sums by clusters and by flags in device memory.

    Attributes:
        plan: The layout of the last batch shape that was new, or None.
    """

    def __init__(self, network: Network, x: Array, labels: Array, hyper: Hyperparameters) -> None:
        super().__init__(network, x, labels, hyper, capture=False)  # a call is one launch
        self._network, self._variant = network, Variant.of(hyper)
        self.plan: PersistentPlan | None = None

    @staticmethod
    def why_not(network: Network, x: Any, batch: int, variant: Variant) -> str | None:
        """Return why this stepper cannot train a network whose settings it supports, or None."""
        found = PersistentStepper._planned(network, x, batch, variant)
        return found if isinstance(found, str) else None

    @staticmethod
    def _planned(network: Network, x: Any, batch: int, variant: Variant) -> PersistentPlan | str:
        """Return the plan for batches of this size, or why there is none."""
        if network.replicas > 1:
            return f"it trains one network at a time, not {network.replicas}"
        capability = str(network.backend.xp.cuda.Device().compute_capability)
        if int(capability) < 90:
            return f"it needs a GPU of compute capability 9.0 or more, not {capability[:-1]}.{capability[-1]}"
        return why_not(network, x, batch) or _plan(network, batch, variant)

    def launch(self, state: State, program: Program, steps: int) -> None:
        """Launch the kernel of the first `steps` steps that are in the program's memory."""
        n, dtype, places = program.shape[-1], self.dtype, program.places
        if program.memory is None:
            plan = self._planned(self._network, self.x, n, self._variant)
            program.memory = False if isinstance(plan, str) else _Memory(self, plan.clusters, state, n, self._variant)
            self.plan = program.memory.plan if program.memory else None
        memory = program.memory
        if not memory:  # a larger batch than `make_stepper` was given
            super().launch(state, program, steps)
            return
        W = state.parameters[self.layers[0].W]
        weights, _, units, _, running, _ = flat_tensors(state)
        self.cuda.launch(
            "persistent_steps", dtype, (CLUSTER * memory.plan.clusters,), (THREADS[dtype.itemsize],),
            np.int32(steps), places.perm, places.eta, program.lam, places.alphas, self.labels, *source_of(self.x),
            memory.numbers, np.int32(memory.numbers.size), W, weights, units, running, *places.metrics.arrays(),
            dtype.type(self.config.bn_eps), np.int32(n), np.int32(W.shape[1]),
            memory.exchange, memory.flags, np.uint32(memory.steps % 2**32), memory.figures, places.counter,
            memory.extras.of_first(state), *memory.extras.of_upper(state),
            shared=memory.plan.bytes, macros=self._variant.macros,
        )  # fmt: skip
        memory.steps += steps


class _Memory:
    """Memory by which blocks tell each other what they have, and the plan of that within a block."""

    def __init__(self, stepper: GraphStepper, room: int, state: State, n: int, variant: Variant) -> None:
        """Prepare batches of `n`, on a GPU with room for so many clusters."""
        xp, dtype = stepper.xp, stepper.dtype
        self.plan = PersistentPlan(stepper.config, dtype, n, room, state, variant=variant)
        self.numbers, self.extras = xp.asarray(self.plan.numbers), Extras(stepper, state)
        padded = -(-int(state.parameters[stepper.layers[0].W].shape[2]) // 4) * 4
        self.exchange = xp.empty((2, room, CLUSTER, self.plan.each * padded), dtype=dtype)
        self.figures = xp.empty((CAPACITY, 3, CLUSTER * room), dtype="float64")
        # A flag has the number of the last step that its block has told of; `steps` have been taken until now.
        self.flags, self.steps = xp.zeros((CLUSTER, room), dtype="uint32"), 0


def _plan(network: Network, n: int, variant: Variant) -> PersistentPlan | str:
    """Return the plan with as few rows a block as there is room for, or why there is none."""
    backend, dtype = network.backend, network.dtype
    processors = int(backend.xp.cuda.Device().attributes["MultiProcessorCount"])
    room = max(1, min(_MOST_CLUSTERS, processors // CLUSTER))  # a block for each: more would wait for each other
    while True:
        plan = PersistentPlan(network.config, dtype, n, room, variant=variant)
        if reason := too_large(network, plan.bytes):
            return reason
        function = cuda_ops(backend).function("persistent_steps", dtype, plan.bytes, variant.macros)
        try:
            blocks, threads = CLUSTER * plan.clusters, THREADS[dtype.itemsize]
            found = clusters.active_clusters(function, blocks, threads, plan.bytes)
        except DeviceError as error:
            return str(error)
        if found >= plan.clusters:
            return plan
        if found == 0:
            return f"the GPU has no room for a cluster of {CLUSTER} blocks, or its driver does not say so"
        room = found  # fewer than were asked for
