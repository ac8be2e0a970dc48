"""The outcome of an experiment: the figures of every run, and their form in ``results.json``."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from xpnet.utils import schema

_SOME = schema.optional(schema.number())
_VALUE = schema.either("text, a number or a truth value", schema.text, schema.number(), schema.flag)
_CELL = schema.record(
    {
        "values": schema.mapping(schema.either("a value or a list of them", _VALUE, schema.items(_VALUE))),
        "figures": schema.mapping(schema.items(_SOME)),
        "history": schema.mapping(schema.items(schema.items(_SOME))),
    },
    {"seeds": schema.items(schema.whole(0)), "parameters": schema.mapping(_SOME), "note": schema.text}
    | {"verdicts": schema.mapping(schema.text)},
    closed=True,
)
OUTCOME_SHAPE = schema.record(
    {"name": schema.text, "cells": schema.items(_CELL), "seconds": schema.number(0)},
    {"quick": schema.flag},
    closed=True,
)
SETS, FIGURES = ("train", "validation", "test"), ("accuracy", "loss", "cost")


@dataclass
class CellOutcome:
    """The runs of one cell.

    Attributes:
        values: The cell's own settings.
        seeds: Seed of each run.
        figures: The value of each run, by name, such as ``"test_accuracy"``; NaN if the run diverged.
        history: Figures by epoch (epochs, runs), by name, such as ``"train_loss"``.
        parameters: The largest relative error of each parameter, for a gradient check.
        verdicts: The check's verdict on each parameter; empty in results of earlier versions.
        note: A remark, such as which seeds diverged.
    """

    values: Mapping[str, Any]
    seeds: list[int] = field(default_factory=list)
    figures: dict[str, list[float]] = field(default_factory=dict)
    history: dict[str, NDArray[Any]] = field(default_factory=dict)
    parameters: dict[str, float | None] = field(default_factory=dict)
    verdicts: dict[str, str] = field(default_factory=dict)
    note: str = ""

    def runs(self, figure: str) -> NDArray[Any]:
        """Return the values of a figure, one for each run; empty if there is no such figure.

        ``"validation_loss@3"`` is the validation loss after epoch 3.
        """
        name, _, epoch = figure.partition("@")
        if epoch:
            history = self.history.get(name)
            number = int(epoch)
            return history[number - 1] if history is not None and number <= len(history) else np.empty(0)
        return np.asarray(self.figures.get(name, []), float)

    def mean(self, figure: str) -> float:
        """Return the mean over the runs that did not diverge; -inf if all diverged."""
        good = self._finite(figure)
        return float(good.mean()) if good.size else -np.inf

    def std(self, figure: str) -> float | None:
        """Return the standard deviation (ddof = 1) over the runs that did not diverge; None for fewer than two."""
        good = self._finite(figure)
        return float(good.std(ddof=1)) if good.size > 1 else None

    def _finite(self, figure: str) -> NDArray[Any]:
        values = self.runs(figure)
        good: NDArray[Any] = values[np.isfinite(values)]
        return good

    def extend(self, other: CellOutcome) -> None:
        """Add the runs of the same cell with other seeds."""
        self.seeds += other.seeds
        for name, values in other.figures.items():
            self.figures[name] = self.figures.get(name, []) + values
        for name, history in other.history.items():
            own = [self.history[name]] if name in self.history else []
            self.history[name] = np.concatenate([*own, history], axis=1)

    def to_json(self) -> dict[str, Any]:
        """Return everything as JSON can hold it."""
        found = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        found["figures"] = {name: [_number(v) for v in values] for name, values in self.figures.items()}
        found["history"] = {name: [[_number(v) for v in row] for row in h] for name, h in self.history.items()}
        return {**found, "values": dict(self.values)}

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> CellOutcome:
        """Return the outcome that :meth:`to_json` wrote."""
        found = cls(**{**values, "history": {}})
        found.figures = {name: [_float(v) for v in runs] for name, runs in values["figures"].items()}
        found.history = {
            name: np.array([[_float(v) for v in row] for row in rows]) for name, rows in values["history"].items()
        }
        return found


def _float(value: float | None) -> float:
    return float("nan") if value is None else value


def _number(value: float) -> float | None:
    return float(f"{value:.8g}") if np.isfinite(value) else None


@dataclass
class Outcome:
    """The outcome of an experiment.

    Attributes:
        name: Name of the experiment, such as ``"A.bn3"``.
        cells: The outcome of each cell, in their order.
        seconds: Wall time.
        quick: Whether the experiment was shortened.
    """

    name: str
    cells: list[CellOutcome]
    seconds: float
    quick: bool = False

    def to_json(self) -> dict[str, Any]:
        """Return everything as JSON can hold it."""
        cells = [cell.to_json() for cell in self.cells]
        return {"name": self.name, "quick": self.quick, "seconds": self.seconds, "cells": cells}

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Outcome:
        """Return the outcome that :meth:`to_json` wrote."""
        return cls(**{**values, "cells": [CellOutcome.from_json(cell) for cell in values["cells"]]})
