"""Slopes of the mean loss between two offsets of single entries: by complete passes, or faster, and in threads.

An entry W[i, j] that moves by h changes one column of s = x W + b, by h x[:, i]; so do b, gamma and beta of unit j.
The layer above then changes by a product of rank one,

    s_next + (y_new - y_old) W_next[j],

and a complete forward pass is needed only from that layer on.  P copies, each with another entry moved, are evaluated
together.  They lie in the last axis: activations are (units, n, 2 P), all copies of one side before those of the other.
The reference operations, which reduce over the second last axis, see units as replicas and copies as units; so the
innermost loops are long whatever the widths of the layers.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from functools import partial

import numpy as np

from xpnet.analysis.gradcheck.problem import Flags, Floats, Indices, Problem, losses
from xpnet.nn.backprop import Tape, forward
from xpnet.nn.layers import Layer
from xpnet.ops.blas import one_blas_thread
from xpnet.utils.memory import usable_cores

# Size of one array of activations: it is fast because it stays in the cache.
CHUNK_BYTES = 3 * 2**20
_MOST_ENTRIES, _MOST_THREADS = 512, 4


def naive_slopes(problem: Problem, name: str, flat: Indices, plus: Floats, minus: Floats) -> tuple[Floats, Flags]:
    """Return slopes of the mean loss by complete forward passes: slow, but simple.

    The losses of the samples are differenced and the differences averaged: a mean of losses near 2
    would have lost the digits that its difference needs.

    Returns:
        The slopes (J(p + plus) - J(p + minus)) / (plus - minus) of the entries `flat` (k,) of a tensor, and whether the
        side of any kink, of ReLU at 0, differs between the two (k,).
    """
    slopes, kinked = np.empty(len(flat)), np.zeros(len(flat), bool)
    for number, index in enumerate(flat):
        sides, values = [], []
        for offset in (plus[number], minus[number]):
            p = problem.parameters[name].copy()
            p.flat[index] += offset
            sides.append(problem.evaluate(problem.parameters | {name: p}))
            values.append(p.flat[index])
        (losses_plus, active_plus), (losses_minus, active_minus) = sides
        # The entry has moved by the difference of two rounded sums, not by plus - minus.
        slopes[number] = np.mean(losses_plus - losses_minus) / (values[0] - values[1])
        kinked[number] = any((a != b).any() for a, b in zip(active_plus, active_minus, strict=True))
    return slopes, kinked


class FastSlopes:
    """Computes slopes of one problem, each from the entry's layer on; safe to call from several threads."""

    def __init__(self, problem: Problem) -> None:
        self.problem = problem
        self._p = {name: p[0] for name, p in problem.parameters.items()}
        tape = Tape()
        eps, masks = problem.config.bn_eps, problem.masks
        logits = forward(problem.ops, problem.layers, problem.parameters, eps, problem.x, tape, masks)
        # Inputs and sums of each layer, samples first: (n, d) and (n, m).
        self._x = [np.ascontiguousarray(np.reshape(record.x, (len(problem.x), -1))) for record in tape.layers]
        self._s = [record.s[0] for record in tape.layers]
        # The factors by which dropout multiplies the inputs of each layer above the first (n, d), 0 for dropped ones.
        factors = [None if (d := record.dropped) is None else d.kept * d.scales for record in tape.layers[1:]]
        self._factors = [None, *(None if factor is None else factor[0] for factor in factors)]
        self._shift: Floats = logits[0].max(axis=1)[:, None]

    def chunk(self, name: str) -> int:
        """Return how many entries of a tensor to evaluate together."""
        number, _ = self.problem.owners[name]
        widest = max(s.shape[1] for s in self._s[min(number + 1, len(self._s) - 1) :])
        return int(max(1, min(_MOST_ENTRIES, CHUNK_BYTES // (2 * 8 * len(self.problem.x) * widest))))

    def __call__(self, name: str, flat: Indices, plus: Floats, minus: Floats) -> tuple[Floats, Flags]:
        """Return slopes of the mean loss and whether each meets a kink, as :func:`naive_slopes` does."""
        number, kind = self.problem.owners[name]
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
            scales = [self._p[scale][:, columns][None] for scale in _scales_of(self.problem.layers[number])]
            if kind in ("gamma", "beta"):
                scales[("gamma", "beta").index(kind)] += steps
            y = self._activate(column[None], *scales)
            self._note_kinks(kinked, y)
            if (factor := self._factors[number + 1]) is not None:
                y[0] *= factor[:, columns]
            y[0] -= self._x[number + 1][:, columns]
            logits = self._above(number + 1, y, columns, kinked)
        loss = losses(logits, self.problem.labels, self.problem.smoothing, self._shift)
        change = loss[:, :count] - loss[:, count:]
        if self.problem.weights is not None:
            change *= self.problem.weights[:, None]
        difference = np.mean(change, axis=0)
        if kind in ("gamma", "beta"):
            p = self._p[name].reshape(-1)[j]
            return difference / ((p + plus) - (p + minus)), kinked
        return difference / (plus - minus), kinked

    def _activate(self, s: Floats, gamma: Floats | None = None, beta: Floats | None = None) -> Floats:
        """Return the activation of sums `s` (units, n, 2 P), after BN where there are gamma and beta."""
        ops = self.problem.ops
        y: Floats = (
            ops.activation(s)
            if gamma is None
            else ops.batch_norm_activation(s, gamma, beta, self.problem.config.bn_eps).y
        )
        return y

    def _note_kinks(self, kinked: Flags, y: Floats) -> None:
        """Mark the copies with an output `y` (units, n, 2 P) that is on another side of a kink for one offset."""
        if self.problem.kinked:
            active, count = y > 0, len(kinked)
            kinked |= np.logical_or.reduce(active[..., :count] != active[..., count:], axis=(0, 1))

    def _above(self, number: int, change: Floats, columns: Indices, kinked: Flags) -> Floats:
        """Return the logits (c, n, 2 P) after a `change` (1, n, 2 P) of the inputs `columns` of a layer."""
        layers = self.problem.layers
        s: Floats = change * self._p[layers[number].W][columns].T[:, None, :]
        s += self._s[number].T[:, :, None]
        for layer, above, factor in zip(
            layers[number:-1], layers[number + 1 :], self._factors[number + 1 :], strict=True
        ):
            y = self._activate(s, *(self._p[name].T[:, :, None] for name in _scales_of(layer)))
            self._note_kinks(kinked, y)
            if factor is not None:
                y *= factor.T[:, :, None]
            b = None if above.b is None else self._p[above.b].T
            # (x W + b)' = W' x' + b', with one product for all copies.
            s = self.problem.ops.affine(self._p[above.W].T, y.reshape(len(y), -1), b).reshape(-1, *y.shape[1:])
        return s


def _scales_of(layer: Layer) -> list[str]:
    """Return the names of gamma and beta of a layer, where it has them."""
    return [name for name in (layer.gamma, layer.beta) if name is not None]


class Workers:
    """Threads that compute slopes of one problem, chunk by chunk, until all are computed or `should_stop` says so.

    Attributes:
        stopped: Whether `should_stop` returned True.
    """

    def __init__(
        self,
        problem: Problem,
        method: str,
        threads: int | None = None,
        progress: Callable[[int], None] | None = None,
        should_stop: Callable[[], bool] | None = None,
    ) -> None:
        self.stopped = False
        self._progress, self._should_stop = progress, should_stop
        self._stop = threading.Event()
        self._fast = FastSlopes(problem)
        self._slopes = self._fast if method == "fast" else partial(naive_slopes, problem)
        self._pool = ThreadPoolExecutor(threads or min(_MOST_THREADS, usable_cores()))
        self._exits = ExitStack()

    def __enter__(self) -> Workers:
        # The products are small, and several callers with several BLAS threads each would slow each other down.
        self._exits.enter_context(one_blas_thread())
        self._exits.callback(self._pool.shutdown, cancel_futures=True)
        self._exits.callback(self._stop.set)
        return self

    def __exit__(self, *_: object) -> None:
        self._exits.close()

    def slopes(
        self, name: str, flat: Indices, plus: Floats, minus: Floats, *, uninterrupted: bool = False
    ) -> tuple[Floats, Flags]:
        """Return slopes and kinks of a tensor's entries, in order.

        After an interruption, only the first entries have results.  With `uninterrupted`, neither `should_stop` nor
        `progress` is called.
        """
        size = self._fast.chunk(name)

        def compute(start: int) -> tuple[Floats, Flags] | None:
            if self._stop.is_set() and not uninterrupted:
                return None
            chunk = slice(start, start + size)
            return self._slopes(name, flat[chunk], plus[chunk], minus[chunk])

        results: list[tuple[Floats, Flags]] = [(np.empty(0), np.empty(0, bool))]
        for result in self._pool.map(compute, range(0, len(flat), size)):
            if result is None:
                break
            results.append(result)
            if not uninterrupted:
                self._report(len(result[0]))
        values, kinked = zip(*results, strict=True)
        return np.concatenate(values), np.concatenate(kinked)

    def _report(self, count: int) -> None:
        if self._progress is not None:
            self._progress(count)
        if not self.stopped and self._should_stop is not None and self._should_stop():
            self.stopped = True
            self._stop.set()
