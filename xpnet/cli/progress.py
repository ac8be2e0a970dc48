"""Callbacks of commands that train: notes, progress bars, and an orderly end on Ctrl-C."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from xpnet.cli.console import Interrupt
from xpnet.training.callback import Callback, TrainPlan
from xpnet.training.history import EpochRecord


class StopOnInterrupt(Callback):
    """Stops the training once the user has asked to stop."""

    def __init__(self, interrupt: Interrupt) -> None:
        self._interrupt = interrupt

    def should_stop(self) -> bool:
        """Return whether the user has asked to stop."""
        return self._interrupt()


class ChunkNotes(Callback):
    """Notes the chunks of a population, if there are several.

    Args:
        note: Called with each note.
        replicas: Networks in the population.
    """

    def __init__(self, note: Callable[[str], None], replicas: int) -> None:
        self._note, self._replicas = note, replicas

    def on_train_begin(self, plan: TrainPlan) -> None:
        """Note the number of chunks, and their sizes."""
        if len(plan.chunks) > 1:
            sizes = ", ".join(str(stop - start) for start, stop in plan.chunks)
            chunks = f"{len(plan.chunks)} chunks, one after another: {sizes}"
            self._note(f"{self._replicas} networks train in {chunks}")

    def on_chunk_split(self, plan: TrainPlan) -> None:
        """Note the chunks again."""
        self.on_train_begin(plan)


class StepBar(Callback):
    """Moves a progress bar with the training steps."""

    def __init__(self, bar: Any) -> None:
        self._bar = bar

    def on_steps(self, steps: int) -> None:
        """Move the bar."""
        self._bar.update(steps)


class ProgressBars(Callback):
    """Two bars on standard error: epochs with their figures, and the steps within one.

    Args:
        shown: Whether the bars are shown.
    """

    def __init__(self, *, shown: bool) -> None:
        self._shown = shown
        self._bars: list[Any] = []

    def on_train_begin(self, plan: TrainPlan) -> None:
        """Show the bars, and the epochs that are finished."""
        if not self._shown:
            return
        from tqdm import tqdm

        self._length = plan.length
        self._bars = [
            tqdm(total=plan.length.epochs, unit="epoch", position=0, dynamic_ncols=True),
            tqdm(total=plan.length.steps_per_epoch, unit="step", position=1, leave=False, dynamic_ncols=True),
        ]
        for record in plan.records:
            self.on_epoch_end(record)
        self.on_chunk_split(plan)

    def on_chunk_split(self, plan: TrainPlan) -> None:
        """Count the steps of several chunks in one bar; their epochs are known once all are trained."""
        if self._bars and len(plan.chunks) > 1:
            self._bars[1].reset(total=len(plan.chunks) * plan.length.steps)

    def on_steps(self, steps: int) -> None:
        """Advance the bar of the steps."""
        if self._bars:
            self._bars[1].update(steps)

    def on_epoch_end(self, record: EpochRecord) -> None:
        """Advance the bar of the epochs, and restart the bar of the steps."""
        if self._bars:
            epochs, steps = self._bars
            loss, accuracy = np.nanmean(record.train.losses), np.nanmean(record.validation.accuracies)
            epochs.set_postfix_str(f"loss {loss:.3f}, validation {100 * accuracy:.2f} %", refresh=False)
            epochs.update(1)
            steps.reset(total=max(1, min(self._length.steps_per_epoch, self._length.steps - record.step)))

    def __enter__(self) -> ProgressBars:
        return self

    def __exit__(self, *_: object) -> None:
        for bar in reversed(self._bars):
            bar.close()
