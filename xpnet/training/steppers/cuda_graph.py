"""The steps of the plain stepper by fused kernels, launched one by one or captured in CUDA graphs."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from xpnet.backend import Array
from xpnet.nn.backprop import Tape
from xpnet.nn.dropout import step_of
from xpnet.ops.cuda.graphs import captured
from xpnet.ops.cuda_ops import cuda_ops
from xpnet.training.steppers.plain import PlainStepper
from xpnet.training.steppers.stepper_state import Hyperparameters, State, StepMetrics
from xpnet.training.steppers.update_rule import Rates

if TYPE_CHECKING:
    from xpnet.nn.network import Network

# Number of steps whose batches and rates the device holds at a time; also the length of the longer graph.
CAPACITY = 50


class GraphStepper(PlainStepper):
    """Executes steps that the host only launches, without waiting.

    The first and the last kernel of a step look up the values that differ by step (the batch, the learning rates, the
    address of the metrics) by a counter in the device's memory, which the last kernel advances.  All other kernels use
    the same addresses in every step, so a step can be captured: a graph of :data:`CAPACITY` steps is one launch.
    """

    def __init__(
        self, network: Network, x: Array, labels: Array, hyper: Hyperparameters, *, capture: bool = True
    ) -> None:
        super().__init__(network, x, labels, hyper)
        self._capture = capture
        self.cuda = cuda_ops(network.backend)
        self._replicas = network.replicas
        # Kernels read labels of four bytes.
        self.labels = labels.astype("int32", copy=False)
        self._state: State | None = None
        self._programs: dict[tuple[int, ...], Program] = {}

    def run(self, state: State, perm: Array, eta: Array, metrics: StepMetrics) -> None:
        """Take one step for each row of `perm`; see :class:`xpnet.training.steppers.Stepper`."""
        state.pack(self.xp)
        if state is not self._state:  # the kernels of a program contain the addresses of one state
            self._state, self._programs = state, {}
        shape = tuple(perm.shape[1:])
        program = self._programs.get(shape)
        if program is None:
            program = self._programs[shape] = Program(self, shape, int(eta.shape[1]))
        for start in range(0, int(perm.shape[0]), CAPACITY):
            part = slice(start, min(start + CAPACITY, int(perm.shape[0])))
            program.run(self, state, perm[part], eta[part], metrics.part(part.start, part.stop), self._capture)

    def launch(self, state: State, program: Program, steps: int) -> None:
        """Launch the kernels of `steps` steps, beginning with the step at the cursor."""
        for _ in range(steps):
            self._launch_one(state, program)

    def _launch_one(self, state: State, program: Program) -> None:
        places, n = program.places, program.shape[-1]
        # The buffers hold addresses of tensors for this batch shape, which its graphs read at every launch.
        self._buffers = program.buffers
        scale, keep, shrink, squares, alpha, numbers = rates = places.rates
        self.cuda.begin_step(
            n, program.orders, places.cursor, places.perm, places.eta, program.lam, places.alphas, self.labels,
            places.rows, places.labels, scale, keep, shrink, alpha, squares,
        )  # fmt: skip
        if self.masks is not None:
            self.cuda.step_of_masks(self.dtype, places.first, places.cursor, step_of(self.masks))
        if numbers is not None:
            self.cuda.read_row(places.cursor, places.numbers, numbers)
        program.x = self.cuda.gather(places.rows, self.x, program.x, program.pixels)
        entropy = self._step(state, program.tape, program.x, places.labels, rates, places.rows)
        figures = (entropy.losses, entropy.correct, squares)
        self.cuda.end_step(n, places.cursor, places.counter, *figures, *places.metrics.arrays())


class _Places:
    """Memory that the kernels of a captured step access at the same address in every step."""

    def __init__(
        self, xp: Any, shape: tuple[int, ...], replicas: int, dtype: Any, numbers: tuple[int, ...] | None
    ) -> None:
        self.perm = xp.zeros((CAPACITY, *shape), dtype="int64")
        self.eta = xp.zeros((CAPACITY, replicas), dtype="float64")
        self.alphas = xp.zeros((CAPACITY,), dtype=dtype)
        self.metrics = StepMetrics.empty(xp, CAPACITY, replicas)
        self.cursor = xp.zeros((1,), dtype="int32")
        self.counter = xp.zeros((1,), dtype="uint32")
        self.first = xp.zeros((1,), dtype="int32")  # number of the step at cursor 0, for dropout
        # Inputs of the step at the cursor.
        self.rows = xp.zeros(shape, dtype="int64")
        self.labels = xp.zeros(shape, dtype="int32")
        scale, keep, shrink = (xp.zeros((replicas, 1, 1), dtype=dtype) for _ in range(3))
        squares, alpha = xp.zeros((replicas,), dtype="float64"), xp.zeros((1,), dtype=dtype)
        own = None if numbers is None else xp.zeros(numbers, dtype=dtype)
        self.rates = Rates(scale, keep, shrink, squares, alpha, own)
        # The numbers of an update rule, of every step.
        self.numbers = None if numbers is None else xp.zeros((CAPACITY, *numbers), dtype="float64")


class Program:
    """The memory and the graphs of steps with one batch shape."""

    def __init__(self, stepper: GraphStepper, shape: tuple[int, ...], replicas: int) -> None:
        xp = stepper.xp
        self.shape = shape
        self.orders = shape[0] if len(shape) == 2 else 1
        self.lam = xp.zeros((replicas,), dtype="float64")
        self.lam[...] = stepper.hyper.lam
        self.places = _Places(xp, shape, replicas, stepper.dtype, stepper.rule.shape(replicas))
        # Further memory of a stepper's kernels.
        self.buffers: dict[str, Any] = {}
        self.tape = Tape()
        self.x: Any = None
        # Inputs of pictures before their projection, so that a step allocates nothing.
        self.pixels = stepper.cuda.room_for_pictures(int(np.prod(shape)), stepper.x)
        self.memory: Any = None
        self._graphs: dict[int, Any] = {}
        self._warm = False

    def run(
        self, stepper: GraphStepper, state: State, perm: Array, eta: Array, metrics: StepMetrics, capture: bool
    ) -> None:
        """Take the steps of `perm`, at most :data:`CAPACITY`, by the kernels of `stepper`."""
        places, steps = self.places, int(perm.shape[0])
        places.perm[:steps] = perm
        places.eta[:steps] = stepper.rule.rates(eta)
        if places.numbers is not None:
            places.numbers[:steps] = stepper.rule.numbers(state.step, eta)
        places.alphas[...] = stepper.config.bn_alpha
        if state.step == 0:
            places.alphas[:1] = 0  # running statistics start from the first batch
        places.cursor[...] = 0
        if stepper.masks is not None:
            places.first[...] = state.step
        left = steps
        if left and not (capture and self._warm):
            # The first step is not captured: it allocates the memory of all others, and compiles and loads the kernels.
            first = 1 if capture else left
            stepper.launch(state, self, first)
            left -= first
            self._warm = True
        while left:
            size = CAPACITY if left == CAPACITY else 1
            self._graph(stepper, state, size).launch()
            left -= size
        for target, source in zip(metrics.arrays(), places.metrics.arrays(), strict=True):
            target[...] = source[:steps]
        state.step += steps

    def _graph(self, stepper: GraphStepper, state: State, steps: int) -> Any:
        if steps not in self._graphs:
            self._graphs[steps] = captured(stepper.xp, partial(stepper.launch, state, self, steps))
        return self._graphs[steps]
