"""Tensors by name; small tensors lie side by side in memory, so that one operation updates many of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from xpnet.backend import Array
from xpnet.errors import ArrayError

# For weights of at least this size, an update costs more than its call, so they keep a memory of their own.
LARGE = 16_384


def parameter_kind(name: str) -> str:
    """Return the kind of a parameter: only weights have a penalty."""
    return "weights" if name.startswith("W") else "units"


def _one_kind(_: str) -> str:
    return "all"


class FlatParameters(dict[str, Array]):
    """A dictionary of tensors (R, ..., m); small tensors of one kind are views of one flat array (R, 1, q).

    A network has a few large tensors and dozens of small ones, and each separate update costs a call.  Assigning to a
    name writes into the tensor's memory, so the views stay views.

    Attributes:
        flat: The flat arrays by kind.
        members: The names in each flat array, in the order of their memory.
        large: Names of the tensors that have a memory of their own.
    """

    def __init__(self, xp: Any, tensors: Mapping[str, Array], kind: Callable[[str], str] = _one_kind) -> None:
        super().__init__(tensors)
        self._xp, self._kind = xp, kind
        self.flat: dict[str, Array] = {}
        small: dict[str, list[str]] = {}
        for name, tensor in tensors.items():
            if tensor[0].size < LARGE or kind(name) != "weights":
                small.setdefault(kind(name), []).append(name)
        self.members = {which: tuple(names) for which, names in small.items()}
        packed = {name for names in small.values() for name in names}
        self.large = tuple(name for name in tensors if name not in packed)
        for which, names in self.members.items():
            self._pack(which, names)

    def _pack(self, which: str, names: tuple[str, ...]) -> None:
        replicas = self[names[0]].shape[0]
        parts = [self[name].reshape(replicas, 1, -1) for name in names]
        flat = self.flat[which] = self._xp.concatenate(parts, axis=-1)
        start = 0
        for name, part in zip(names, parts, strict=True):
            stop = start + part.shape[-1]
            # The rows of a replica are contiguous, so this is a view for any R.
            super().__setitem__(name, flat[:, 0, start:stop].reshape(self[name].shape))
            start = stop

    def __setitem__(self, name: str, value: Array) -> None:
        if name not in self or self[name].shape != value.shape:
            wanted = f"{tuple(self[name].shape)}" if name in self else f"one of {', '.join(self)}"
            raise ArrayError(f"{name}: has shape {tuple(value.shape)}, but this network's must be {wanted}")
        self[name][...] = value

    def select(self, replicas: Any) -> FlatParameters:
        """Return copies of the given replicas (a list of indices)."""
        return FlatParameters(self._xp, {name: tensor[replicas] for name, tensor in self.items()}, self._kind)

    def replace(self, name: str, memory: Array) -> None:
        """Make `memory` the new storage of a large tensor."""
        dict.__setitem__(self, name, memory)

    def part(self, start: int, stop: int) -> FlatParameters:
        """Return the replicas from `start` up to `stop` as views of the same memory."""
        view = FlatParameters(self._xp, {}, self._kind)
        dict.update(view, {name: tensor[start:stop] for name, tensor in self.items()})
        view.flat = {which: array[start:stop] for which, array in self.flat.items()}
        view.members, view.large = self.members, self.large
        return view
