"""A progress bar for Python: of steps, with the figures of the last epoch."""

from __future__ import annotations

import importlib
from typing import Any

import numpy as np

from xpnet.training.callback import Callback, TrainPlan
from xpnet.training.history import EpochRecord


class Progress(Callback):
    """Shows a training's steps and last figures with tqdm, in terminals and in notebooks."""

    def __init__(self) -> None:
        self._bar: Any = None

    def on_train_begin(self, plan: TrainPlan) -> None:
        """Open the bar."""
        done = plan.records[-1].step if plan.records else 0
        self._bar = importlib.import_module("tqdm.auto").tqdm(total=plan.length.steps, initial=done, unit="step")

    def on_steps(self, steps: int) -> None:
        """Move the bar."""
        self._bar.update(steps)

    def on_epoch_end(self, record: EpochRecord) -> None:
        """Show the mean figures of the networks."""
        figures = {"epoch": record.epoch, "loss": f"{np.nanmean(record.train.losses):.4f}"}
        self._bar.set_postfix(figures, refresh=False)

    def close(self) -> None:
        """Close the bar; without effect if none is open."""
        if self._bar is not None:
            self._bar.close()
            self._bar = None
