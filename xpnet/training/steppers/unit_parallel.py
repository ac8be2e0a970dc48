"""One network on several cores: each core keeps a share of every hidden layer's units."""

from __future__ import annotations

import threading
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np

from xpnet.backend import Array
from xpnet.data import TransformedRows, samples_of
from xpnet.nn.layers import Layer
from xpnet.ops.blas import one_blas_thread
from xpnet.training.steppers.column_rule import ColumnRule
from xpnet.training.steppers.plain import PlainStepper
from xpnet.training.steppers.stepper_state import Hyperparameters, State, StepMetrics
from xpnet.training.steppers.unit_shares import Columns, DropoutOfShare, edges_of, factors_of
from xpnet.training.steppers.update_rule import FIRST, UNITS, WEIGHTS, Rates

if TYPE_CHECKING:
    from xpnet.nn.network import Network

_APART = 16  # words between the flags of two threads: two cache lines
# Value of a flag that tells the other threads to return.
_LEAVE = 2**62


class UnitParallelStepper(PlainStepper):
    """Splits every hidden layer by its units, and the last layer by its inputs; all of a step runs on all cores.

    A thread computes x W for its own columns of W, normalises its own units, and updates its own columns: batch
    normalisation needs no numbers of other threads, and a share of W stays in the cache of its core.  Between two
    layers the threads wait for each other, by flags in memory.  The last layer has few outputs: every thread multiplies
    its own units by their rows of W, and the first thread adds up the logits and computes the losses.
    """

    def __init__(self, network: Network, x: Any, labels: Array, hyper: Hyperparameters, threads: int) -> None:
        super().__init__(network, x, labels, hyper)
        from xpnet.ops.numba_intrinsics import addresses, meet

        self._meet = meet
        self.on_columns = ColumnRule(self.rule, hyper, self.dtype)
        self._give_way = (addresses() or (0, 0, 0, 0))[3]
        self.threads = threads
        self._memory: dict[int, tuple[_Shared, list[_Share]]] = {}

    def run(self, state: State, perm: Array, eta: Array, metrics: StepMetrics) -> None:
        """Take one step for each row of `perm`; see :class:`xpnet.training.steppers.Stepper`."""
        state.pack(np)
        steps, n = perm.shape
        if n not in self._memory:
            shared = _Shared(self, n)
            self._memory[n] = shared, [_Share(self, shared, number) for number in range(self.threads)]
        shared, shares = self._memory[n]
        shared.begin(self, state, perm, eta, metrics)
        workers = [threading.Thread(target=share.work, args=(steps,), daemon=True) for share in shares[1:]]
        with one_blas_thread():
            try:
                for worker in workers:
                    worker.start()
            except BaseException:
                shared.flags[:] = _LEAVE  # those that have started would wait for ever
                raise
            shares[0].work(steps)
            for worker in workers:
                worker.join()
        if shared.errors:
            raise shared.errors[0]
        metrics.penalty[:, 0] = shared.squares.sum(axis=0)
        state.step += steps

    def meet(self, flags: Array, number: int, meeting: int) -> bool:
        """Wait until all threads have come to this meeting; return whether one of them has left."""
        return bool(self._meet(flags, number, self.threads, _APART, meeting, self._give_way, _LEAVE))


class _Shared:
    """What all threads read: the batch, the outputs of the layers and their gradients, for batches of n samples."""

    def __init__(self, stepper: UnitParallelStepper, n: int) -> None:
        sizes, dtype = stepper.config.hidden, stepper.dtype
        operand, transposed, self.multiple = factors_of(stepper.hyper, dtype)
        # A thread may gather the next batch while another one still reads this one.
        self.x = [operand(n, stepper.config.inputs) for _ in range(2)]
        self.y = [operand(n, m) for m in sizes[:-1]]  # no thread needs another one's outputs of the last hidden layer
        self.g = [operand(n, m, transposes=False) for m in sizes]
        self.transposed = [transposed(d, m) for d, m in pairwise(sizes)]
        self.logits = np.empty((stepper.threads, n, stepper.config.classes), dtype)
        self.last_g: Any = None  # of the logits (n, classes)

    def begin(self, stepper: UnitParallelStepper, state: State, perm: Array, eta: Array, metrics: StepMetrics) -> None:
        """Prepare the steps of one call."""
        steps, n = perm.shape
        self.state, self.perm, self.metrics = state, perm, metrics
        self.samples = samples_of(perm) if isinstance(stepper.x, TransformedRows) else perm
        self.alpha = np.full(steps, stepper.config.bn_alpha, stepper.dtype)
        if state.step == 0 and steps > 0:
            self.alpha[0] = 0  # running statistics start from the first batch
        self.numbers = stepper.numbers(state.step, eta)
        eta = stepper.rule.rates(eta)
        shrink = 2 * eta * stepper.hyper.lam
        self.scale, self.shrink, self.keep = (
            values[..., None, None].astype(stepper.dtype) for values in (eta / n, shrink, 1 - shrink)
        )
        self.squares = np.zeros((stepper.threads, steps))
        self.tensors = [state.parameters, *state.moments]
        self.flags = np.zeros(stepper.threads * _APART, np.int64)
        self.errors: list[BaseException] = []


class _Share:
    """A thread's share of the network, and its own memory."""

    def __init__(self, stepper: UnitParallelStepper, shared: _Shared, number: int) -> None:
        self.stepper, self.shared, self.number = stepper, shared, number
        n, threads = shared.x[0].shape[0], stepper.threads
        self.rows = slice(*edges_of(n, threads, 2 if stepper.hyper.rounded else 1)[number])
        self.units = [slice(*edges_of(m, threads, shared.multiple)[number]) for m in stepper.config.hidden]
        self.gathered = self._new(self.rows.stop - self.rows.start, stepper.config.inputs)
        names = [layer.W for layer in stepper.layers[:-1]]
        # In float32 other threads read all weights but the first layer's; an update by a product takes them in place.
        copied = names if stepper.hyper.rounded else names[: int(not stepper.rule.by_product)]
        self.columns = Columns(dict(zip(names, self.units, strict=True)), copied)
        hidden = stepper.layers[:-1]
        self.inner: list[tuple[Layer, slice]] = list(zip(hidden, self.units, strict=True))
        self.s, self.below = ([self._new(1, n, own.stop - own.start) for own in self.units] for _ in range(2))
        self.activations: list[Any] = [None] * len(hidden)
        self.gradients: list[Any] = [None] * len(hidden)
        masks = stepper.masks
        self.dropout = None if masks is None else DropoutOfShare(stepper.ops, masks, self.rows.start, self.units)
        self.steps: dict[str, Any] = {}
        self.entropy: Any = None
        self.output: Any = None  # of the last hidden layer, this thread's (n, units)

    def work(self, steps: int) -> None:
        """Take the steps, in step with the other threads."""
        self._meetings = 0
        try:
            self.columns.take(self.shared.tensors)
            with np.errstate(all="ignore"):  # overflow shows in the metrics
                for t in range(steps):
                    if self._step(t):
                        return
            self.columns.give_back(self.shared.tensors)
        except BaseException as error:  # raised by `run`, after the other threads have returned
            self.shared.errors.append(error)
        finally:
            self.shared.flags[self.number * _APART] = _LEAVE if self.shared.errors else self._meetings

    def _left(self) -> bool:
        self._meetings += 1
        return self.stepper.meet(self.shared.flags, self.number, self._meetings)

    def _step(self, t: int) -> bool:
        """Take a step; return whether another thread has left."""
        stepper, shared = self.stepper, self.shared
        x = shared.x[t % 2]
        into = self.gathered if x.values is None else x.values[self.rows]
        gathered = stepper.ops.gather(shared.perm[t][self.rows], stepper.x, into)
        if self.dropout is not None:
            gathered = self.dropout(0, gathered, shared.state.step + t)
        if x.values is None or gathered is not into:
            x.put(gathered, rows=self.rows)
        for (layer, own), transposed in zip(self.inner[1:], shared.transposed, strict=True):
            transposed.put(self.columns, layer.W, own)
        if self._left() or self._forward(t, x) or self._losses(t) or self._backward(t):
            return True
        inputs = [x, *shared.y]
        for (layer, own), x, gradient in zip(self.inner, inputs, self.gradients, strict=False):
            self._update(t, layer, own, x, gradient)
        return False

    def _new(self, *shape: int) -> Array:
        return np.empty(shape, self.stepper.dtype)

    def _forward(self, t: int, x: Any) -> bool:
        ops, parameters, running = self.stepper.ops, self.shared.state.parameters, self.shared.state.running
        for index, (layer, own) in enumerate(self.inner):
            s = self.s[index]
            x.times(self.columns.weights(layer.W), s[0])
            b = None if layer.b is None else parameters[layer.b][..., own]
            if layer.gamma is None:
                results = self.activations[index] = ops.bias_activation(s, b, self.activations[index])
            else:
                if b is not None:
                    s += b
                gamma, beta = (parameters[name or ""][..., own] for name in (layer.gamma, layer.beta))
                eps = self.stepper.config.bn_eps
                results = ops.batch_norm_activation(s, gamma, beta, eps, self.activations[index])
                self.activations[index] = results
                for name, batch in ((layer.mean, results.mean), (layer.var, results.var)):
                    ops.average(running[name or ""][..., own], [batch], self.shared.alpha[t])
            y = results.y
            if self.dropout is not None:
                y = self.dropout(index + 1, y, self.shared.state.step + t)
            self.output = y[0]
            if index < len(self.shared.y):
                x = self.shared.y[index]
                x.put(self.output, columns=own)
                if self._left():
                    return True
        return False

    def _losses(self, t: int) -> bool:
        """Compute the logits, and in the first thread the losses and their gradient."""
        stepper, shared, last = self.stepper, self.shared, self.stepper.layers[-1]
        parameters, own = shared.state.parameters, self.units[-1]
        np.matmul(self.output, parameters[last.W][0, own], out=shared.logits[self.number])
        if self._left():
            return True
        if self.number == 0:
            s = shared.logits.sum(axis=0, keepdims=True) + parameters[last.b or ""]
            labels = stepper.ops.gather(shared.samples[t], stepper.labels)
            self.entropy = stepper.ops.softmax_cross_entropy(s, labels, shared.scale[t], self.entropy)
            if stepper.smoothing is not None:
                stepper.ops.smooth_labels(self.entropy, s, labels, stepper.smoothing, shared.scale[t])
            if stepper.weights is not None:
                stepper.ops.weigh_samples(self.entropy, stepper.weights, shared.samples[t])
            shared.metrics.loss[t] = self.entropy.losses.sum(axis=-1, dtype="float64")
            shared.metrics.correct[t] = self.entropy.correct.sum(axis=-1)
            shared.last_g = self.entropy.g[0]
        return self._left()

    def _backward(self, t: int) -> bool:
        """Compute the gradients of this thread's units, and update its rows of the last layer."""
        ops, shared, last = self.stepper.ops, self.shared, self.stepper.layers[-1]
        parameters, top = shared.state.parameters, len(self.inner) - 1
        np.matmul(shared.last_g, parameters[last.W][0, self.units[-1]].T, out=self.below[top][0])
        for index in range(top, -1, -1):
            (layer, own), below, activation = self.inner[index], self.below[index], self.activations[index]
            if index < top:
                shared.g[index + 1].times_transposed(shared.transposed[index], own, below[0])
            if self.dropout is not None:
                self.dropout.gradient(index + 1, below)
            if layer.gamma is None:
                gradient = ops.activation_gradient(below, activation, self.gradients[index])
                own_g = gradient[0]
            else:
                gamma = parameters[layer.gamma][..., own]
                gradient = ops.batch_norm_activation_gradients(below, activation, gamma, self.gradients[index])
                own_g = gradient.s[0]
            self.gradients[index] = gradient
            if index == top:
                self._update_last(t, own)
            if index > 0:
                shared.g[index].put(own_g, columns=own)
                if self._left():
                    return True
        return self._left()

    def _update_last(self, t: int, own: slice) -> None:
        last, g = self.stepper.layers[-1], self.shared.last_g
        name = last.W
        step = self.steps[name] = np.matmul(self.output.T, g, out=self.steps.get(name))
        self._descend(t, WEIGHTS, name, (slice(None), own), step[None])
        if self.number == 0 and last.b is not None:
            step = self.steps[last.b] = self.stepper.ops.bias_gradient(g[None], self.steps.get(last.b))
            self._descend(t, UNITS, last.b, ..., step)

    def _update(self, t: int, layer: Layer, own: slice, x: Any, gradient: Any) -> None:
        """Update this thread's columns of a layer."""
        ops, rule = self.stepper.ops, self.stepper.rule
        g = gradient if layer.gamma is None else gradient.s
        small = [] if layer.b is None else [(layer.b, ops.bias_gradient(g, self.steps.get(layer.b)))]
        if layer.gamma is not None and layer.beta is not None:
            small += [(layer.gamma, gradient.gamma), (layer.beta, gradient.beta)]
        group, rates, W = FIRST if layer is self.inner[0][0] else WEIGHTS, self._rates(t), layer.W
        if rule.by_product:
            rule.scale(ops, group, g)
            keep, buffer = rule.penalty(group, rates)[0], self.steps.get(W)
            self.steps[W] = x.descend(ops, self.columns.weights(W)[None], g, keep, rates.squares, buffer)
        else:
            step = self.steps[W] = x.transposed_times(g[0], self.steps.get(W))
            tensors, first = self.columns.of(W)
            self.stepper.on_columns(ops, group, first, tensors, step[None], rates)
        for name, step in small:
            self._descend(t, UNITS, name, (..., own), step)

    def _descend(self, t: int, group: int, name: str, place: Any, step: Array) -> None:
        p, *moments = (tensors[name][place] for tensors in self.shared.tensors)
        self.stepper.rule(self.stepper.ops, group, p, moments, [step], self._rates(t), None)

    def _rates(self, t: int) -> Rates:
        shared = self.shared
        squares = shared.squares[self.number, t : t + 1]
        return Rates(shared.scale[t], shared.keep[t], shared.shrink[t], squares, shared.alpha[t], shared.numbers[t])
