"""Progress of a training in Python: a bar of its steps, and in notebooks a curve of its losses."""

from __future__ import annotations

import importlib
import sys
from typing import Any

import numpy as np

from xpnet.config.arguments import takes
from xpnet.config.fields import flag
from xpnet.training.callback import Callback, TrainPlan
from xpnet.training.history import EpochRecord
from xpnet.training.result import TrainResult
from xpnet.utils.display import chart


class Progress(Callback):
    """Shows a training's steps as a bar (tqdm), and in notebooks its losses as a curve that grows with every epoch.

    Args:
        validation: Whether losses of the validation set are shown too.

    Raises:
        ConfigError: `validation` is neither true nor false.
    """

    @takes(validation=flag)
    def __init__(self, *, validation: bool = True) -> None:
        self._sets = ("train", "validation") if validation else ("train",)
        self._bar: Any = None
        self._curve: Any = None
        self._losses: dict[str, list[float]] = {}

    def on_train_begin(self, plan: TrainPlan) -> None:
        """Open the bar."""
        done = plan.records[-1].step if plan.records else 0
        self._losses = {f"{name} loss": [] for name in self._sets}
        self._curve = None
        for record in plan.records:
            self._note(record)
        self._bar = importlib.import_module("tqdm.auto").tqdm(total=_steps(plan), initial=done, unit="step")

    def on_steps(self, steps: int) -> None:
        """Move the bar."""
        self._bar.update(steps)

    def on_epoch_end(self, record: EpochRecord) -> None:
        """Show the mean losses of the networks."""
        self._note(record)
        last = {name: f"{losses[-1]:.4f}" for name, losses in self._losses.items()}
        self._bar.set_postfix({"epoch": record.epoch, **last}, refresh=False)
        if (display := _notebook()) is not None:
            picture = display.HTML(chart(self._losses))
            if self._curve is None:
                self._curve = display.display(picture, display_id=True)
            else:
                self._curve.update(picture)

    def on_chunk_split(self, plan: TrainPlan) -> None:
        """Count the steps of both halves."""
        self._bar.total = _steps(plan)

    def on_train_end(self, result: TrainResult) -> None:  # noqa: ARG002 - the bar has shown it
        """Close the bar."""
        self.close()

    def close(self) -> None:
        """Close the bar, such as after an exception; without effect if none is open."""
        if self._bar is not None:
            self._bar.close()
            self._bar = None

    def _note(self, record: EpochRecord) -> None:
        for name, losses in zip(self._sets, self._losses.values(), strict=True):
            values = getattr(record, name).losses
            known = values[np.isfinite(values)]
            losses.append(float(known.mean()) if len(known) else float("nan"))


def _steps(plan: TrainPlan) -> int:
    return plan.length.steps * len(plan.chunks)


def _notebook() -> Any:
    """Return IPython's module of displays in a notebook, else None; nothing is imported outside of notebooks."""
    shell = sys.modules["IPython"].get_ipython() if "IPython" in sys.modules else None
    return importlib.import_module("IPython.display") if hasattr(shell, "kernel") else None
