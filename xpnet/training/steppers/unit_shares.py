"""A thread's share of a network's units, and dropout of it."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

from xpnet.backend import Array
from xpnet.nn.dropout import Masks
from xpnet.ops import Ops
from xpnet.ops.masks import Mask


def edges_of(units: int, threads: int) -> list[tuple[int, int]]:
    """Return the units of each thread, as (first, last + 1); all but the last have a multiple of 16."""
    edges = [16 * (units * i // (16 * threads)) for i in range(threads)] + [units]
    return list(pairwise(edges))


class DropoutOfShare:
    """Dropout of a thread's samples of the inputs, and of its units of every hidden layer."""

    def __init__(self, ops: Ops, masks: Masks, first: int, units: Sequence[slice]) -> None:
        """Take the thread's part of `masks`: the samples from `first` on, and `units` of each hidden layer."""
        places = [{"sample": first}, *({"unit": own.start} for own in units)]
        self._ops, self._masks = ops, list(map(_part_of, masks, places))
        self._dropped: list[Any] = [None] * len(masks)

    def __call__(self, number: int, x: Array, step: int) -> Array:
        """Return dropout of this thread's inputs (1, n, m) or (n, d) of layer `number` in a step."""
        mask = self._masks[number]
        if mask is None:
            return x
        mask.step[0] = step
        dropped = self._dropped[number] = self._ops.dropout(x, mask, self._dropped[number])
        return dropped.y

    def gradient(self, number: int, g: Array) -> None:
        """Change the gradient (1, n, m) of the result for a layer to that of what was dropped, in place."""
        if self._dropped[number] is not None:
            self._ops.dropout_gradient(g, self._dropped[number])


def _part_of(mask: Mask | None, place: dict[str, int]) -> Mask | None:
    """Return the mask of a part, with a step of its own, as another thread may be a step ahead."""
    return None if mask is None else mask._replace(step=mask.step.copy(), **place)
