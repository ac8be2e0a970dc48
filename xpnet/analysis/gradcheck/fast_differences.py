"""Central differences of many parameters at once, each from its own layer on.

A perturbed entry W[i, j] of a layer changes one column of s = x W + b, by h x[:, i]; so do b, gamma
and beta of unit j.  The layer above then changes by a product of rank one,

    s_next + (y_new - y_old) W_next[j],

and only from there on is a whole forward pass needed.  P copies with an entry each are evaluated
together.  They lie in the last axis: activations are (units, n, 2 P), one side before the other.  For the
reference operations, which reduce over the axis before the last, units stand where replicas do and
copies where units do; the innermost loops are long whatever the widths of the layers.
"""

from __future__ import annotations

import numpy as np

from xpnet.analysis.gradcheck.problem import Flags, Floats, Indices, Problem, losses
from xpnet.nn.backprop import Tape, forward
from xpnet.nn.layers import Layer

_BYTES = 3 * 2**20  # of one array of activations: about what stays in a cache, which is what makes it fast
_MOST = 512


class FastDifferences:
    """Evaluates entries of one problem; safe to call from several threads."""

    def __init__(self, problem: Problem) -> None:
        self.problem = problem
        self._p = {name: p[0] for name, p in problem.parameters.items()}
        tape = Tape()
        logits = forward(problem.ops, problem.layers, problem.parameters, problem.config.bn_eps, problem.x, tape)
        # Inputs and sums of each layer, samples first: (n, d) and (n, m).
        self._x = [np.ascontiguousarray(np.reshape(record.x, (len(problem.x), -1))) for record in tape.layers]
        self._s = [record.s[0] for record in tape.layers]
        self._shift: Floats = logits[0].max(axis=1)[:, None]

    def chunk(self, name: str) -> int:
        """Return how many entries of a tensor to evaluate together."""
        layer, _ = self.problem.owner(name)
        widest = max(s.shape[1] for s in self._s[min(layer + 1, len(self._s) - 1) :])
        return int(max(1, min(_MOST, _BYTES // (2 * 8 * len(self.problem.x) * widest))))

    def __call__(self, name: str, flat: Indices, plus: Floats, minus: Floats) -> tuple[Floats, Flags]:
        """Return slopes of the mean loss and which meet a kink, as :func:`.problem.naive_slopes` does."""
        number, kind = self.problem.owner(name)
        layer = self.problem.layers[number]
        count = len(flat)
        i, j = np.divmod(flat, self._s[number].shape[1])
        steps = np.concatenate([plus, minus])
        columns = np.concatenate([j, j])
        column = self._s[number][:, columns]  # (n, 2 P)
        if kind == "W":
            x = self._x[number][:, i]
            column[:, :count] += x * plus
            column[:, count:] += x * minus
        elif kind == "b":
            column += steps
        kinked = np.zeros(count, bool)
        if number == len(self._s) - 1:
            logits = np.repeat(self._s[number].T[:, :, None], 2 * count, axis=2)
            logits[columns, :, np.arange(2 * count)] = column.T
        else:
            y = self._activate(layer, column[None], columns, kind, steps)
            _note_kinks(kinked, y)
            y[0] -= self._x[number + 1][:, columns]
            logits = self._above(number + 1, y, columns, kinked)
        loss = losses(logits, self.problem.labels, self._shift)
        difference = np.mean(loss[:, :count] - loss[:, count:], axis=0)
        if kind in ("gamma", "beta"):
            p = self._p[name].reshape(-1)[j]
            return difference / ((p + plus) - (p + minus)), kinked
        return difference / (plus - minus), kinked

    def _activate(self, layer: Layer, s: Floats, columns: Indices, kind: str, steps: Floats) -> Floats:
        """Return ReLU, after BN where the layer has it, of single columns `s` (1, n, 2 P), a copy each."""
        if layer.gamma is None or layer.beta is None:
            plain: Floats = self.problem.ops.relu(s)
            return plain
        gamma, beta = (self._p[name][:, columns][None] for name in (layer.gamma, layer.beta))
        if kind == "gamma":
            gamma = gamma + steps
        elif kind == "beta":
            beta = beta + steps
        y: Floats = self.problem.ops.batch_norm_relu(s, gamma, beta, self.problem.config.bn_eps).y
        return y

    def _above(self, number: int, change: Floats, columns: Indices, kinked: Flags) -> Floats:
        """Return the logits (c, n, 2 P) after a `change` (1, n, 2 P) of the inputs `columns` of a layer."""
        ops, layers = self.problem.ops, self.problem.layers
        s = change * self._p[layers[number].W][columns].T[:, None, :]
        s += self._s[number].T[:, :, None]
        while number < len(layers) - 1:
            layer = layers[number]
            if layer.gamma is None or layer.beta is None:
                y = ops.relu(s)
            else:
                gamma, beta = (self._p[name].T[:, :, None] for name in (layer.gamma, layer.beta))
                y = ops.batch_norm_relu(s, gamma, beta, self.problem.config.bn_eps).y
            _note_kinks(kinked, y)
            number += 1
            layer = layers[number]
            b = None if layer.b is None else self._p[layer.b].T
            # (x W + b)' = W' x' + b', with one product for all copies.
            s = ops.affine(self._p[layer.W].T, y.reshape(len(y), -1), b).reshape(-1, *y.shape[1:])
        logits: Floats = s
        return logits


def _note_kinks(kinked: Flags, y: Floats) -> None:
    """Mark the copies of which a ReLU output `y` (units, n, 2 P) is positive on one side alone."""
    active = y > 0
    count = len(kinked)
    kinked |= np.logical_or.reduce(active[..., :count] != active[..., count:], axis=(0, 1))
