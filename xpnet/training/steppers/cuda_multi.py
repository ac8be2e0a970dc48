"""All steps of a call in one kernel, which trains one network on each multiprocessor."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from xpnet.backend import Array
from xpnet.data import StandardisedRows
from xpnet.training.steppers.cuda_graph import GraphStepper, Program
from xpnet.training.steppers.cuda_plan import (
    THREADS,
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


class MultiStepper(GraphStepper):
    """Executes the steps of many small networks, each by a block of its own that waits for no other; see ``multi.cu``.

    A block streams its network's W1 through shared memory once a step, and keeps all other layers there.
    """

    _kernel, _form = "multi_steps", "float"

    def __init__(self, network: Network, x: Array, labels: Array, hyper: Hyperparameters) -> None:
        super().__init__(network, x, labels, hyper, capture=False)  # a call is one launch
        self._network, self._variant = network, Variant.of(hyper)

    @classmethod
    def why_not(cls, network: Network, x: Any, batch: int, variant: Variant) -> str | None:
        """Return why this stepper cannot train a network whose settings it supports, or None."""
        reason = why_not(network, x, batch) or cls._why_not(network, x, batch)
        if reason is not None:
            return reason
        return too_large(network, Plan(network.config, network.dtype, batch, streams=cls._form, variant=variant).bytes)

    @staticmethod
    def _why_not(network: Network, _x: Any, batch: int) -> str | None:
        m, dtype = (*network.config.hidden, network.config.classes)[0], network.dtype
        if -(-batch // 8) * -(-m // 4) > THREADS[dtype.itemsize]:
            return f"the batch has more samples than the first layer's {m} units leave threads for in {dtype}"
        return None

    def launch(self, state: State, program: Program, steps: int) -> None:
        """Launch the kernel of the first `steps` steps that are in the program's memory."""
        n, dtype, places = program.shape[-1], self.dtype, program.places
        if program.memory is None:
            program.memory = False
            if self.why_not(self._network, self.x, n, self._variant) is None:
                plan = Plan(self.config, dtype, n, state, streams=self._form, variant=self._variant)
                program.memory = self.xp.asarray(plan.numbers), plan.bytes, Extras(self, state)
        if not program.memory:  # a larger batch than `make_stepper` was given
            super().launch(state, program, steps)
            return
        plan_numbers, shared, extras = program.memory
        W = state.parameters[self.layers[0].W]
        self.cuda.launch(
            self._kernel, dtype, (W.shape[0],), (THREADS[dtype.itemsize],),
            np.int32(steps), places.perm, np.int64(program.orders), places.eta, program.lam, places.alphas,
            self.labels, *source_of(self.x), plan_numbers, np.int32(plan_numbers.size),
            W, np.int64(W.strides[0] // dtype.itemsize), *flat_tensors(state), *places.metrics.arrays(),
            dtype.type(self.config.bn_eps), np.int32(n), np.int32(W.shape[1]),
            extras.of_first(state), *extras.of_upper(state),
            shared=shared, macros=self._variant.macros,
        )  # fmt: skip


class MultiBf16Stepper(MultiStepper):
    """The same with the first layer's products on tensor cores, as exact as those of float32; see ``tensor.cu``."""

    _kernel, _form = "multi_steps_bf16", "bf16"

    @staticmethod
    def _why_not(network: Network, x: Any, _batch: int) -> str | None:
        if network.dtype != np.float32:
            return f"it computes in float32, not in {network.dtype}"
        if not isinstance(x, StandardisedRows) or x.shape[1] % 4:
            return "samples must be bytes, with a multiple of four features"
        capability = str(network.backend.xp.cuda.Device().compute_capability)
        if int(capability) < 80:
            return f"it needs a GPU of compute capability 8.0 or more, not {capability[:-1]}.{capability[-1]}"
        return None
