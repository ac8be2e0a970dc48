"""The plain stepper: a Python loop over the operations, on any backend."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

from xpnet.backend import Array
from xpnet.network import LayerGradient, Tape, backward, forward
from xpnet.steppers.state import Hyperparameters, State, Totals

if TYPE_CHECKING:
    from xpnet.network import Network
    from xpnet.ops.reference import CrossEntropy


class _Workspace:
    """The memory of steps with one batch shape; None until the first step has made it."""

    def __init__(self) -> None:
        self.tape = Tape()
        self.x: Any = None
        self.labels: Any = None


class PlainStepper:
    """Executes steps one operation after the other.

    The gradient of the loss is multiplied by eta where it is smallest, at the scores (n x c
    numbers), so that everything computed from it is a finished step: W <- (1 - 2 eta lambda) W - x' g
    needs no pass for eta, and the penalty no pass but the scaling of W.
    """

    def __init__(self, network: Network, x: Array, labels: Array, hyper: Hyperparameters) -> None:
        self.ops = network.ops
        self.layers = network.layers
        self.config = network.config
        self.xp = network.backend.xp
        self.dtype = network.dtype
        self.x = x
        self.labels = labels
        self.hyper = hyper
        self._workspaces: dict[tuple[int, ...], _Workspace] = {}
        # By parameter, whatever the batch: steps, and what momentum works in.
        self._steps: dict[str, Any] = {}
        self._momentum: dict[str, Any] = {}
        rho = hyper.rho
        self._rho = None if rho is None else self._column(self.xp.asarray(rho))

    def run(self, state: State, perm: Array, eta: Array, totals: Totals) -> None:
        """Take one step for each row of `perm`; see :class:`xpnet.steppers.Stepper`."""
        work = self._workspaces.setdefault(perm.shape[1:], _Workspace())
        steps, n = perm.shape[0], perm.shape[-1]
        # (k, R, 1, 1) in the network's dtype, from products taken in float64.
        scale = self._column(eta / n)
        shrink64 = 2 * eta * self.hyper.lam
        shrink, keep = self._column(shrink64), self._column(1 - shrink64)
        alpha = self.xp.full((steps,), self.config.bn_alpha, dtype=self.dtype)
        if state.step == 0 and steps > 0:
            alpha[0] = 0  # running statistics start from the first batch
        weights = [state.parameters[layer.W] for layer in self.layers]
        for t in range(steps):
            totals.penalty[t] = self.ops.penalty(weights)
            entropy = self._step(state, work, perm[t], scale[t], keep[t], shrink[t], alpha[t])
            totals.loss[t] = entropy.losses.sum(axis=-1, dtype="float64")
            totals.correct[t] = entropy.correct.sum(axis=-1)
        state.step += steps

    def _step(
        self,
        state: State,
        work: _Workspace,
        rows: Array,
        scale: Array,
        keep: Array,
        shrink: Array,
        alpha: Array,
    ) -> CrossEntropy:
        ops, layers, parameters, tape = self.ops, self.layers, state.parameters, work.tape
        x = work.x = ops.gather(rows, self.x, work.x)
        labels = work.labels = ops.gather(rows, self.labels, work.labels)
        s = forward(ops, layers, parameters, self.config.bn_eps, x, tape)
        entropy = tape.entropy = ops.softmax_cross_entropy(s, labels, scale, tape.entropy)
        for layer, record in zip(layers, tape.layers, strict=True):
            if layer.mean is not None and layer.var is not None:
                ops.average(state.running[layer.mean], record.activation.mean, alpha)
                ops.average(state.running[layer.var], record.activation.var, alpha)
        for part in backward(ops, layers, parameters, tape, entropy.g):
            self._update(state, part, keep, shrink)
        return cast("CrossEntropy", entropy)

    def _update(self, state: State, part: LayerGradient, keep: Array, shrink: Array) -> None:
        """Move one layer's parameters.  `part.g` carries eta already."""
        ops, layer, steps = self.ops, part.layer, self._steps
        steps[layer.W] = ops.weight_gradient(part.x, part.g, steps.get(layer.W))
        self._descend(state, layer.W, steps[layer.W], keep, shrink)
        if layer.b is not None:
            steps[layer.b] = ops.bias_gradient(part.g, steps.get(layer.b))
            self._descend(state, layer.b, steps[layer.b], None, None)
        if layer.gamma is not None and layer.beta is not None:
            self._descend(state, layer.gamma, part.gamma, None, None)
            self._descend(state, layer.beta, part.beta, None, None)

    def _descend(self, state: State, name: str, step: Array, keep: Array | None, shrink: Array | None) -> None:
        if self._rho is None:
            self.ops.descend(state.parameters[name], step, keep)
        else:
            self._momentum[name] = self.ops.descend_with_momentum(
                state.parameters[name],
                state.velocities[name],
                step,
                shrink,
                self._rho,
                self.hyper.nesterov,
                self._momentum.get(name),
            )

    def _column(self, values: Array) -> Array:
        """Return (..., R) as (..., R, 1, 1) in the network's dtype."""
        return values[..., None, None].astype(self.dtype)
