"""Which compiled parts a step of a small network has, and where in memory their arguments lie."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np

from xpnet.backend import Array
from xpnet.ops.numba_intrinsics import addresses
from xpnet.ops.numba_pointers import address_of
from xpnet.ops.scratch import LINE, aligned
from xpnet.training.steppers import compiled_kernels as kernels
from xpnet.training.steppers import compiled_updates as updates
from xpnet.training.steppers.stepper_state import State

if TYPE_CHECKING:
    from xpnet.nn.network import Network

# What an argument of a part is: a number, or a place in one of the arrays that a network's steps use.
_NUMBER, _P, _V, _RUNNING, _WORK, _FLAGS, _DROPPED = range(7)
_NONE = (_NUMBER, 0)
Argument = tuple[int, int]


@dataclass(frozen=True)
class Settings:
    """What decides, beside the network, which parts a step has."""

    momentum: bool
    nesterov: bool
    smoothing: bool
    weights: bool
    drops_inputs: bool
    drops_hidden: bool


class Tensors:
    """Where the tensors of a network lie, if they lie side by side."""

    def __init__(self, network: Network) -> None:
        tensors = {name: tensor[0].size for name, tensor in network.parameters.items()}
        # The weights come first, since only they have a penalty.
        names = sorted(tensors, key=lambda name: not name.startswith("W"))
        self.parameters, self.size = _places(names, tensors)
        self.weights = sum(size for name, size in tensors.items() if name.startswith("W"))
        self.running, self.statistics = _places(network.running, {k: v[0].size for k, v in network.running.items()})

    def read(self, state: State, r: int) -> tuple[Array, Array, Array]:
        """Return copies of replica r: its parameters, velocities and running statistics, each (size,)."""
        p = _joined(state.parameters, self.parameters, r)
        v = _joined(state.velocities, self.parameters, r) if state.velocities else np.empty(0, p.dtype)
        return p, v, _joined(state.running, self.running, r).astype(p.dtype, copy=False)

    def write(self, state: State, r: int, copies: tuple[Array, Array, Array]) -> None:
        """Copy back what :meth:`read` has returned."""
        groups = ((state.parameters, self.parameters), (state.velocities, self.parameters))
        for (tensors, places), values in zip((*groups, (state.running, self.running)), copies, strict=True):
            for name, start in places.items() if len(values) else ():
                tensor = tensors[name][r]
                tensor[...] = values[start : start + tensor.size].reshape(tensor.shape)


def _places(names: Iterable[str], sizes: Mapping[str, int]) -> tuple[dict[str, int], int]:
    """Return where each tensor begins if they lie side by side, and the size of all."""
    places, start = {}, 0
    for name in names:
        places[name] = start
        start += sizes[name]
    return places, start


def _joined(tensors: Mapping[str, Array], names: Iterable[str], r: int) -> Array:
    """Return tensors of replica r side by side, as a copy."""
    parts = [tensors[name][r].reshape(-1) for name in names]
    return np.concatenate(parts) if parts else np.empty(0)


@dataclass
class _Layer:
    """Where a layer's tensors, their gradients and its results lie."""

    d: int
    m: int
    tensors: dict[str, Argument]  # of W, b, gamma, beta, mean and var that it has; those of the batch
    gradients: dict[str, Argument]
    x: Argument = _NONE  # its inputs; none for the inputs of the batch
    kept: Argument = _NONE  # which inputs are not dropped; none if it drops none
    s: Argument = _NONE
    y: Argument = _NONE  # after the activation; in the last layer, the gradient of the logits
    centred: Argument = _NONE
    inv_std: Argument = _NONE
    scale: Argument = _NONE


class Program:
    """The parts of a step with batches of n samples, in the order in which they are called."""

    def __init__(self, network: Network, tensors: Tensors, settings: Settings, n: int) -> None:
        self._dtype, self._tensors, self._settings, self._n = network.dtype, tensors, settings, n
        sgemm, dgemm, *_ = addresses() or (0, 0)
        self._gemm = sgemm if self._dtype == np.float32 else dgemm
        self._rows: list[list[Argument]] = []
        self._sizes = {_WORK: 0, _FLAGS: 0}
        self._sums = self._new(updates.SUMS * 8 // self._dtype.itemsize)
        self._gradient, self._batch = self._new(tensors.size), self._new(tensors.statistics)
        self._losses, self._correct = self._new(n), self._new(n, _FLAGS)
        self._layers = self._all_layers(network)
        self._add_forward()
        self._add_loss()
        self._add_backward()
        self._add_update()
        width = max(map(len, self._rows))
        table = np.array([row + [_NONE] * (width - len(row)) for row in self._rows], np.int64)
        size = self._dtype.itemsize
        self._kinds = table[..., 0]
        self._places = table[..., 1] * np.array([1, size, size, size, size, 1, 8])[self._kinds]

    def memory(self) -> tuple[Array, Array]:
        """Return the memory of one network's steps: for numbers, and for flags."""
        return aligned((self._sizes[_WORK],), self._dtype), aligned((self._sizes[_FLAGS],), np.dtype(bool))

    def of(self, arrays: Iterable[Array]) -> Array:
        """Return the parts (parts, 1 + arguments) of a network, for :func:`compiled_kernels.take_steps`.

        Args:
            arrays: Its parameters, velocities and running statistics; the memory of its steps; and what it drops of
                inputs and of hidden outputs (2, 3) int64: the keys and the limit of :class:`~xpnet.ops.masks.Mask`.
        """
        starts = np.array([0, *(array.ctypes.data for array in arrays)])
        return starts[self._kinds] + self._places

    def _new(self, size: int, kind: int = _WORK) -> Argument:
        """Return a place for so many numbers or flags in the memory of a step."""
        # Products of arrays that begin within a cache line take longer.
        place, line = self._sizes[kind], LINE // (self._dtype.itemsize if kind == _WORK else 1)
        self._sizes[kind] += -(-size // line) * line
        return kind, place

    def _add(self, part: Callable[..., Any], *arguments: Argument | int) -> None:
        row = [address_of(part, self._dtype), *arguments]
        self._rows.append([value if isinstance(value, tuple) else (_NUMBER, value) for value in row])

    def _all_layers(self, network: Network) -> list[_Layer]:
        """Return the layers, with places for their results."""
        n, places, config = self._n, self._tensors, network.config
        layers = []
        sizes = pairwise((config.inputs, *config.hidden, config.classes))
        for number, ((d, m), names) in enumerate(zip(sizes, network.layers, strict=True)):
            own = {field: name for field, name in names._asdict().items() if name is not None}
            of_batch = {f: (_WORK, self._batch[1] + places.running[own.pop(f)]) for f in ("mean", "var") if f in own}
            own_places = {field: places.parameters[name] for field, name in own.items()}
            layer = _Layer(
                d, m, {field: (_P, place) for field, place in own_places.items()} | of_batch,
                {field: (_WORK, self._gradient[1] + place) for field, place in own_places.items()},
                s=self._new(n * m), y=self._new(n * m),
            )  # fmt: skip
            if "gamma" in own:
                layer.centred, layer.inv_std, layer.scale = self._new(n * m), self._new(m), self._new(m)
            if self._settings.drops_inputs if number == 0 else self._settings.drops_hidden:
                layer.kept = self._new(n * d, _FLAGS)
            layers.append(layer)
        return layers

    def _drop(self, number: int, x: Argument, y: Argument) -> None:
        """Drop inputs `x` of the layer with this number; `y` may be `x`."""
        layer = self._layers[number]
        which, scale = (0, kernels.SCALE_INPUTS) if number == 0 else (1, kernels.SCALE_HIDDEN)
        words = self._new(-(-layer.d // 4) * 16 // self._dtype.itemsize)
        keys = (_DROPPED, 3 * which)
        self._add(kernels.drop, self._n, layer.d, x, y, layer.kept, words, scale, number, keys)

    def _add_forward(self) -> None:
        """Compute the logits."""
        n, last = self._n, len(self._layers) - 1
        x = _NONE
        for number, layer in enumerate(self._layers):
            at = layer.tensors
            if number == 0 and self._settings.drops_inputs:
                x = self._new(n * layer.d)
                self._drop(0, _NONE, x)
            layer.x = x
            self._add(kernels.affine, self._gemm, n, layer.d, layer.m, x, at["W"], at.get("b", _NONE), layer.s)
            if number == last:
                return
            if "gamma" in at:
                norm = (at["gamma"], at["beta"], at["mean"], at["var"], layer.inv_std, layer.scale)
                self._add(kernels.norm_forward, n, layer.m, layer.s, layer.y, layer.centred, *norm)
            else:
                self._add(kernels.relu_forward, n * layer.m, layer.s, layer.y)
            x = layer.y
            if self._settings.drops_hidden:  # in place: a dropped output gets no gradient, whatever its slope
                self._drop(number + 1, x, x)

    def _add_loss(self) -> None:
        """Compute losses and figures, the gradient of the logits, and the running statistics."""
        n, last, statistics = self._n, self._layers[-1], self._tensors.statistics
        self._add(kernels.entropy, n, last.m, last.s, last.y, self._losses, self._correct)
        if self._settings.smoothing:
            self._add(kernels.smooth, n, last.m, last.s, last.y, self._losses)
        if self._settings.weights:
            self._add(kernels.weigh, n, last.m, last.y, self._losses)
        self._add(kernels.tally, n, self._losses, self._correct, statistics, (_RUNNING, 0), self._batch)

    def _add_backward(self) -> None:
        """Compute the gradients of all parameters."""
        n, g = self._n, self._layers[-1].y
        for number in range(len(self._layers) - 1, -1, -1):
            layer = self._layers[number]
            into, W = layer.gradients, layer.tensors["W"]
            to = _NONE if number == 0 else self._new(n * layer.d)
            sides = (layer.x, g, into["W"], into.get("b", _NONE), W, to)
            self._add(kernels.gradients, self._gemm, n, layer.d, layer.m, *sides)
            if number == 0:
                return
            if self._settings.drops_hidden:
                self._add(kernels.drop_gradient, n * layer.d, to, layer.kept)
            g = self._new(n * layer.d)
            self._add_activation_gradient(self._layers[number - 1], to, g)

    def _add_activation_gradient(self, layer: _Layer, g: Argument, ds: Argument) -> None:
        """Compute the gradient `ds` before the layer's activation for that after it, `g`."""
        into = layer.gradients
        if "gamma" in into:
            rows = (into["gamma"], into["beta"], self._new(layer.m), self._new(layer.m), layer.inv_std, layer.scale)
            self._add(kernels.norm_backward, self._n, layer.m, g, layer.y, layer.centred, ds, *rows)
        else:
            self._add(kernels.relu_backward, self._n * layer.m, g, layer.y, ds)

    def _add_update(self) -> None:
        """Take the step of the gradients."""
        tensors = self._tensors
        shared = (tensors.size, tensors.weights, (_P, 0), self._gradient, self._sums)
        if self._settings.momentum:
            self._add(updates.momentum, *shared, (_V, 0), int(self._settings.nesterov))
        else:
            self._add(updates.descend, *shared)
