"""All steps of a call in one kernel, which trains one network on each multiprocessor."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from xpnet.backend import Array
from xpnet.training.steppers.cuda_graph import GraphStepper, Program
from xpnet.training.steppers.cuda_plan import THREADS, Plan, flat_tensors, source_of, too_large, why_not
from xpnet.training.steppers.stepper_state import Hyperparameters, State

if TYPE_CHECKING:
    from xpnet.nn.network import Network


class MultiStepper(GraphStepper):
    """Executes the steps of many small networks, each by a block of its own that waits for no other; see ``multi.cu``.

    A block streams its network's W1 through shared memory once a step, and keeps all other layers there.
    """

    def __init__(self, network: Network, x: Array, labels: Array, hyper: Hyperparameters) -> None:
        super().__init__(network, x, labels, hyper, capture=False)  # a call is one launch
        self._network = network

    @staticmethod
    def why_not(network: Network, x: Any, batch: int) -> str | None:
        """Return why this stepper cannot train a network whose settings it supports, or None."""
        reason, config, dtype = why_not(network, x, batch), network.config, network.dtype
        if reason is not None:
            return reason
        m = (*config.hidden, config.classes)[0]
        if -(-batch // 8) * -(-m // 4) > THREADS[dtype.itemsize]:
            return f"the batch has more samples than the first layer's {m} units leave threads for in {dtype}"
        return too_large(network, Plan(config, dtype, batch, streams=True).bytes)

    def launch(self, state: State, program: Program, steps: int) -> None:
        """Launch the kernel of the first `steps` steps that are in the program's memory."""
        n, dtype, places = program.shape[-1], self.dtype, program.places
        if program.memory is None:
            program.memory = False
            if self.why_not(self._network, self.x, n) is None:
                plan = Plan(self.config, dtype, n, state, streams=True)
                program.memory = self.xp.asarray(plan.numbers), plan.bytes
        if not program.memory:  # a larger batch than `make_stepper` was given
            super().launch(state, program, steps)
            return
        plan_numbers, shared = program.memory
        W = state.parameters[self.layers[0].W]
        self.cuda.launch(
            "multi_steps", dtype, (W.shape[0],), (THREADS[dtype.itemsize],),
            np.int32(steps), places.perm, np.int64(program.orders), places.eta, program.lam, places.alphas,
            self.labels, *source_of(self.x), plan_numbers, np.int32(plan_numbers.size),
            W, np.int64(W.strides[0] // dtype.itemsize), *flat_tensors(state), *places.metrics.arrays(),
            dtype.type(self.config.bn_eps), np.int32(n), np.int32(W.shape[1]), shared=shared,
        )  # fmt: skip
