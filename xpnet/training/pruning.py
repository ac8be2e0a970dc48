"""Moments in the middle of a training at which somebody looks at a population and drops networks from it."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from xpnet.training.history import Metrics


@dataclass(frozen=True)
class PruningPoint:
    """How a population stands at a step in the middle of its training.

    Attributes:
        step: Steps taken.
        replicas: Numbers of the networks that are still trained.
        chunk: The networks that train together, from the first up to the second number: all of them, or a chunk of a
            population that memory does not hold at once.
        validation: Figures of all networks; not a number for those that are not trained any more.
    """

    step: int
    replicas: tuple[int, ...]
    chunk: tuple[int, int]
    validation: Metrics


class PruningPoints:
    """Steps at which somebody wants to know how a population stands, and whom to drop."""

    def __init__(self, marks: Iterable[int], ask: Callable[[PruningPoint], Iterable[int]] | None, steps: int) -> None:
        # At the last step there is nobody left to be dropped.
        self._steps = sorted({step for step in marks if 0 < step < steps}) if ask is not None else []
        self._ask = ask

    def until_next(self, step: int) -> int | None:
        """Return how many steps may be taken from `step` on before the next mark; None if no mark is left."""
        return next((mark - step for mark in self._steps if mark > step), None)

    def __contains__(self, step: int) -> bool:
        return step in self._steps

    def to_drop(self, mark: PruningPoint) -> list[int]:
        """Ask who is to be dropped."""
        dropped = {int(r) for r in self._ask(mark)} if self._ask is not None else set()
        return [r for r in mark.replicas if r in dropped]
