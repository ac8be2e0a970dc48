"""The plain stepper: a Python loop over the operations, on any backend."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, cast

from xpnet.backend import Array
from xpnet.data import TransformedRows, samples_of
from xpnet.nn.backprop import LayerGradient, Tape, backward, forward
from xpnet.nn.dropout import step_of
from xpnet.ops import get_ops
from xpnet.training.steppers.stepper_state import Hyperparameters, State, StepMetrics
from xpnet.training.steppers.update_rule import FIRST, UNITS, WEIGHTS, Rates, UpdateRule

if TYPE_CHECKING:
    from xpnet.nn.network import Network
    from xpnet.ops import Ops
    from xpnet.ops.reference import CrossEntropy


class _Workspace:
    """The memory of steps with one batch shape; None until the first step has allocated it."""

    def __init__(self) -> None:
        self.tape = Tape()
        self.x: Any = None
        self.labels: Any = None


class PlainStepper:
    """Executes steps one operation after another.

    The gradient of the loss is multiplied by eta at the logits (n x c numbers), where it is smallest, so that
    everything computed from it is already scaled for the update.  A large W is then updated by the same product that
    gives its gradient: W <- (1 - 2 eta lambda) W - x' g.  The small tensors lie side by side
    (:class:`~xpnet.nn.flat_parameters.FlatParameters`) and are updated together, as are the running statistics:
    otherwise a step of a deep network would be hundreds of calls for a few numbers each.
    """

    def __init__(
        self, network: Network, x: Array, labels: Array, hyper: Hyperparameters, ops: Ops | None = None
    ) -> None:
        if ops is None:
            ops = get_ops(network.backend, network.config, rounded=True) if hyper.rounded else network.ops
        self.ops = ops
        self.layers = network.layers
        self.config = network.config
        self.xp = network.backend.xp
        self.dtype = network.dtype
        self.x = x
        self.labels = labels
        self.hyper = hyper
        self._workspaces: dict[tuple[int, ...], _Workspace] = {}
        # Steps, and buffers of operations, by the name of a parameter or the kind of a flat array, for all batch
        # shapes.
        self._steps: dict[str, Any] = {}
        self._buffers: dict[str, Any] = {}
        self.rule = UpdateRule(self.xp, self.dtype, hyper)
        smoothing = hyper.smoothing
        self.smoothing = None if smoothing is None else self._column(self.xp.asarray(smoothing))
        self.masks = None if hyper.masks is None else hyper.masks.masks(network)
        self.weights = None if hyper.weights is None else hyper.weights.astype(self.dtype, copy=False)

    def run(self, state: State, perm: Array, eta: Array, metrics: StepMetrics) -> None:
        """Take one step for each row of `perm`; see :class:`xpnet.training.steppers.Stepper`."""
        work = self._workspaces.setdefault(perm.shape[1:], _Workspace())
        steps, n = perm.shape[0], perm.shape[-1]
        state.pack(self.xp)
        # (k, R, 1, 1) in the network's dtype, from products in float64.
        numbers = self.numbers(state.step, eta)
        eta = self.rule.rates(eta)
        scale = self._column(eta / n)
        shrink64 = 2 * eta * self.hyper.lam
        shrink, keep = self._column(shrink64), self._column(1 - shrink64)
        alpha = self.xp.full((steps,), self.config.bn_alpha, dtype=self.dtype)
        if state.step == 0 and steps > 0:
            alpha[0] = 0  # running statistics start from the first batch
        metrics.penalty[:] = 0
        losses = self.xp.empty((*metrics.loss.shape, n), dtype=self.dtype)
        hits = self.xp.empty((*metrics.loss.shape, n), dtype=bool)
        samples = samples_of(perm) if isinstance(self.x, TransformedRows) else perm
        for t in range(steps):
            x = work.x = self.ops.gather(perm[t], self.x, work.x)
            labels = work.labels = self.ops.gather(samples[t], self.labels, work.labels)
            rates = Rates(scale[t], keep[t], shrink[t], metrics.penalty[t], alpha[t], numbers[t])
            if self.masks is not None:
                step_of(self.masks)[...] = state.step + t
            entropy = self._step(state, work.tape, x, labels, rates, samples[t])
            losses[t], hits[t] = entropy.losses, entropy.correct
        losses.sum(axis=-1, dtype="float64", out=metrics.loss)
        hits.sum(axis=-1, out=metrics.correct)
        state.step += steps

    def _step(self, state: State, tape: Tape, x: Array, labels: Array, rates: Rates, rows: Array) -> CrossEntropy:
        """Take one step on a batch, the samples `rows`."""
        ops, layers, parameters = self.ops, self.layers, state.parameters
        s = forward(ops, layers, parameters, self.config.bn_eps, x, tape, self.masks)
        entropy = tape.entropy = ops.softmax_cross_entropy(s, labels, rates.scale, tape.entropy)
        if self.smoothing is not None:
            ops.smooth_labels(entropy, s, labels, self.smoothing, rates.scale)
        if self.weights is not None:
            ops.weigh_samples(entropy, self.weights, rows)
        self._average(state, tape, rates.alpha)
        for gradient in backward(ops, layers, parameters, tape, entropy.g):
            self._use(gradient, state, rates)
        tensors = [parameters] if self.rule.by_product else [parameters, *state.moments]
        for kind, names in parameters.members.items():
            flat = [group.flat[kind] for group in tensors]
            group = WEIGHTS if kind == "weights" else UNITS
            if self.rule.first_apart and names[0] == layers[0].W:
                size, names = self._steps[names[0]][0].size, names[1:]
                self._descend(layers[0].W, FIRST, [group[layers[0].W] for group in tensors], [layers[0].W], rates)
                flat = [tensor[..., size:] for tensor in flat]
            if names:
                self._descend(kind, group, flat, names, rates)
        return cast("CrossEntropy", entropy)

    def _average(self, state: State, tape: Tape, alpha: Array) -> None:
        """Move the running statistics towards those of the batch."""
        for kind, names in state.running.members.items():
            batch = [
                getattr(record.activation, field)
                for layer, record in zip(self.layers, tape.layers, strict=True)
                for field, name in (("mean", layer.mean), ("var", layer.var))
                if name in names
            ]
            running = state.running.flat[kind]
            self._buffers[kind] = self.ops.average(running, batch, alpha, self._buffers.get(kind))

    def _use(self, gradient: LayerGradient, state: State, rates: Rates) -> None:
        """Update one layer's large weights, after adding up their squares, and store the steps of its other tensors.

        `gradient.g` includes the factor eta unless the optimiser has moments that follow the gradient itself.
        """
        ops, steps = self.ops, self._steps
        layer, x, g, gamma, beta = gradient
        W = state.parameters[layer.W]
        if layer.b is not None:
            steps[layer.b] = ops.bias_gradient(g, steps.get(layer.b))
        group = FIRST if layer is self.layers[0] else WEIGHTS
        if layer.W in state.parameters.large and self.rule.by_product:
            self.rule.scale(ops, group, g)
            keep, _ = self.rule.penalty(group, rates)
            buffer = self._buffers.get(layer.W)
            self._buffers[layer.W] = ops.descend_by_product(W, x, g, keep, rates.squares, buffer)
        else:
            steps[layer.W] = ops.weight_gradient(x, g, steps.get(layer.W))
            if layer.W in state.parameters.large:
                tensors = [W, *(moments[layer.W] for moments in state.moments)]
                self._descend(layer.W, group, tensors, [layer.W], rates)
        if layer.gamma is not None and layer.beta is not None:
            steps[layer.gamma], steps[layer.beta] = gamma, beta

    def _descend(self, key: str, group: int, tensors: list[Array], names: Sequence[str], rates: Rates) -> None:
        """Update `tensors`, parameters and their moments, by the steps of the parameters `names`."""
        steps = [self._steps[name] for name in names]
        out = self._buffers.get(key)
        self._buffers[key] = self.rule(self.ops, group, tensors[0], tensors[1:], steps, rates, out)

    def numbers(self, step: int, eta: Array) -> Any:
        """Return what :meth:`UpdateRule.numbers` does, in the network's dtype; without any, k times None."""
        numbers = self.rule.numbers(step, eta)
        return [None] * len(eta) if numbers is None else numbers.astype(self.dtype)

    def _column(self, values: Array) -> Array:
        """Return (..., R) as (..., R, 1, 1) in the network's dtype."""
        return values[..., None, None].astype(self.dtype)
