"""The plain stepper: a Python loop over the operations, on any backend."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

from xpnet.backend import Array
from xpnet.nn.backprop import LayerGradient, Tape, backward, forward
from xpnet.training.steppers.state import Hyperparameters, State, StepMetrics

if TYPE_CHECKING:
    from xpnet.nn.network import Network
    from xpnet.ops import Ops
    from xpnet.ops.reference import CrossEntropy


class _Workspace:
    """The memory of steps with one batch shape; None until the first step has made it."""

    def __init__(self) -> None:
        self.tape = Tape()
        self.x: Any = None
        self.labels: Any = None


class PlainStepper:
    """Executes steps one operation after the other.

    The gradient of the loss is multiplied by eta where it is smallest, at the logits (n x c
    numbers), so that everything computed from it is a finished step.  A large W then moves within the
    product that gives its gradient: W <- (1 - 2 eta lambda) W - x' g.  The small tensors lie side by side
    (:class:`~xpnet.nn.flat_parameters.FlatParameters`) and move together, as do the running statistics: a step of a
    deep network would otherwise be hundreds of calls for a few numbers each.
    """

    def __init__(
        self, network: Network, x: Array, labels: Array, hyper: Hyperparameters, ops: Ops | None = None
    ) -> None:
        self.ops = network.ops if ops is None else ops
        self.layers = network.layers
        self.config = network.config
        self.xp = network.backend.xp
        self.dtype = network.dtype
        self.x = x
        self.labels = labels
        self.hyper = hyper
        self._workspaces: dict[tuple[int, ...], _Workspace] = {}
        # By parameter or block, whatever the batch: gradients, and what the updates work in.
        self._steps: dict[str, Any] = {}
        self._buffers: dict[str, Any] = {}
        rho = hyper.rho
        self._rho = None if rho is None else self._column(self.xp.asarray(rho))

    def run(self, state: State, perm: Array, eta: Array, totals: StepMetrics) -> None:
        """Take one step for each row of `perm`; see :class:`xpnet.training.steppers.Stepper`."""
        work = self._workspaces.setdefault(perm.shape[1:], _Workspace())
        steps, n = perm.shape[0], perm.shape[-1]
        state.pack(self.xp)
        # (k, R, 1, 1) in the network's dtype, from products taken in float64.
        scale = self._column(eta / n)
        shrink64 = 2 * eta * self.hyper.lam
        shrink, keep = self._column(shrink64), self._column(1 - shrink64)
        alpha = self.xp.full((steps,), self.config.bn_alpha, dtype=self.dtype)
        if state.step == 0 and steps > 0:
            alpha[0] = 0  # running statistics start from the first batch
        totals.penalty[:] = 0
        losses = self.xp.empty((*totals.loss.shape, n), dtype=self.dtype)
        hits = self.xp.empty((*totals.loss.shape, n), dtype=bool)
        for t in range(steps):
            x = work.x = self.ops.gather(perm[t], self.x, work.x)
            labels = work.labels = self.ops.gather(perm[t], self.labels, work.labels)
            each = (scale[t], keep[t], shrink[t], alpha[t], totals.penalty[t])
            entropy = self._step(state, work.tape, x, labels, *each)
            losses[t], hits[t] = entropy.losses, entropy.correct
        losses.sum(axis=-1, dtype="float64", out=totals.loss)
        hits.sum(axis=-1, out=totals.correct)
        state.step += steps

    def _step(
        self,
        state: State,
        tape: Tape,
        x: Array,
        labels: Array,
        scale: Array,
        keep: Array,
        shrink: Array,
        alpha: Array,
        squares: Array,
    ) -> CrossEntropy:
        """Take one step on a batch; what it squares of the weights before they move is added to `squares` (R,)."""
        ops, layers, parameters = self.ops, self.layers, state.parameters
        s = forward(ops, layers, parameters, self.config.bn_eps, x, tape)
        entropy = tape.entropy = ops.softmax_cross_entropy(s, labels, scale, tape.entropy)
        self._follow(state, tape, alpha)
        for part in backward(ops, layers, parameters, tape, entropy.g):
            self._gradients(state, part, keep, shrink, squares)
        for which, names in state.parameters.members.items():
            p = state.parameters.blocks[which]
            velocity = None if self._rho is None else state.velocities.blocks[which]
            steps = [self._steps[name] for name in names]
            if which == "weights":
                self._descend(p, velocity, steps, keep, shrink, squares, which)
            else:
                self._descend(p, velocity, steps, None, None, None, which)
        return cast("CrossEntropy", entropy)

    def _follow(self, state: State, tape: Tape, alpha: Array) -> None:
        """Move the running statistics towards those of the batch."""
        for which, names in state.running.members.items():
            batch = [
                getattr(record.activation, field)
                for layer, record in zip(self.layers, tape.layers, strict=True)
                for field, name in (("mean", layer.mean), ("var", layer.var))
                if name in names
            ]
            running = state.running.blocks[which]
            self._buffers[which] = self.ops.average(running, batch, alpha, self._buffers.get(which))

    def _gradients(self, state: State, part: LayerGradient, keep: Array, shrink: Array, squares: Array) -> None:
        """Move one layer's large weights, after their squares are taken, and keep its other gradients.

        `part.g` carries eta already.
        """
        ops, layer, steps = self.ops, part.layer, self._steps
        W = state.parameters[layer.W]
        if layer.W not in state.parameters.large:
            steps[layer.W] = ops.weight_gradient(part.x, part.g, steps.get(layer.W))
        elif self._rho is None:
            self._buffers[layer.W] = ops.descend_by_product(
                W, part.x, part.g, keep, squares, self._buffers.get(layer.W)
            )
        else:
            step = steps[layer.W] = ops.weight_gradient(part.x, part.g, steps.get(layer.W))
            self._descend(W, state.velocities[layer.W], [step], keep, shrink, squares, layer.W)
        if layer.b is not None:
            steps[layer.b] = ops.bias_gradient(part.g, steps.get(layer.b))
        if layer.gamma is not None and layer.beta is not None:
            steps[layer.gamma], steps[layer.beta] = part.gamma, part.beta

    def _descend(
        self,
        p: Array,
        velocity: Array | None,
        steps: list[Array],
        keep: Array | None,
        shrink: Array | None,
        squares: Array | None,
        name: str,
    ) -> None:
        out = self._buffers.get(name)
        if velocity is None:
            self._buffers[name] = self.ops.descend(p, steps, keep, squares, out)
        else:
            self._buffers[name] = self.ops.descend_with_momentum(
                p, velocity, steps, shrink, self._rho, self.hyper.nesterov, squares, out
            )

    def _column(self, values: Array) -> Array:
        """Return (..., R) as (..., R, 1, 1) in the network's dtype."""
        return values[..., None, None].astype(self.dtype)
