"""Tensors by name whose memory lies side by side, so that one operation moves many of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from xpnet.backend import Array
from xpnet.errors import ArrayError

# From this size on a pass of its own costs more than the call: such weights keep their own memory.
LARGE = 16_384


class FlatParameters(dict[str, Array]):
    """A dictionary of tensors (R, ..., m), the small ones of a kind as views of one block (R, 1, q).

    A network has a few large tensors and dozens of small ones, whose updates cost a call each.  Assigning to
    a name writes into the tensor's memory, so the views stay views.

    Attributes:
        blocks: The blocks by kind.
        members: The names in each block, in the order of their memory.
    """

    def __init__(self, xp: Any, tensors: Mapping[str, Array], kind: Callable[[str], str] | None = None) -> None:
        super().__init__()
        self.xp = xp
        self._kind = kind or _one_kind
        self.blocks: dict[str, Array] = {}
        self.members: dict[str, tuple[str, ...]] = {}
        small: dict[str, list[str]] = {}
        for name, tensor in tensors.items():
            super().__setitem__(name, tensor)  # keeps the order of the names
            if tensor[0].size < LARGE or self._kind(name) != "weights":
                small.setdefault(self._kind(name), []).append(name)
        for which, names in small.items():
            self._pack(which, names)

    def _pack(self, which: str, names: list[str]) -> None:
        replicas = self[names[0]].shape[0]
        flat = [self[name].reshape(replicas, 1, -1) for name in names]
        block = self.blocks[which] = self.xp.concatenate(flat, axis=-1)
        self.members[which] = tuple(names)
        start = 0
        for name, part in zip(names, flat, strict=True):
            stop = start + part.shape[-1]
            # Rows of a replica are contiguous, so this is a view whatever R is.
            super().__setitem__(name, block[:, 0, start:stop].reshape(self[name].shape))
            start = stop

    def __setitem__(self, name: str, value: Array) -> None:
        if name not in self or self[name].shape != value.shape:
            wanted = f"{tuple(self[name].shape)}" if name in self else f"one of {', '.join(self)}"
            raise ArrayError(f"{name}: has shape {tuple(value.shape)}, but this network's must be {wanted}")
        self[name][...] = value

    @property
    def large(self) -> tuple[str, ...]:
        """Names of the tensors that have a memory of their own."""
        small = {name for names in self.members.values() for name in names}
        return tuple(name for name in self if name not in small)

    def select(self, replicas: Any) -> FlatParameters:
        """Return copies of the given replicas (a list of indices)."""
        return FlatParameters(self.xp, {name: tensor[replicas] for name, tensor in self.items()}, self._kind)

    def replace(self, name: str, memory: Array) -> None:
        """Let a large tensor be `memory` from now on."""
        dict.__setitem__(self, name, memory)

    def part(self, start: int, stop: int) -> FlatParameters:
        """Return the replicas from `start` up to `stop` as views of the same memory."""
        view = FlatParameters(self.xp, {}, self._kind)
        dict.update(view, {name: tensor[start:stop] for name, tensor in self.items()})
        view.blocks = {which: block[start:stop] for which, block in self.blocks.items()}
        view.members = self.members
        return view


def _one_kind(_: str) -> str:
    return "all"


def parameter_kind(name: str) -> str:
    """Return the kind of a parameter: the penalty holds for weights alone."""
    return "weights" if name.startswith("W") else "units"
