"""Logging for TensorBoard."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from xpnet.config.arguments import function, takes
from xpnet.config.arguments import path as a_path
from xpnet.config.fields import optional
from xpnet.errors import ConfigError, one_line
from xpnet.training.callback import Callback, TrainPlan
from xpnet.training.event_file import EventFile
from xpnet.training.history import EpochRecord, Metrics
from xpnet.training.result import TrainResult

_FIGURES = {"accuracy": "accuracies", "loss": "losses", "cost": "costs"}


def _names(value: object) -> tuple[str, ...]:
    if isinstance(value, (list, tuple)) and all(map(_is_name, value)):
        return tuple(value)
    raise ValueError("a sequence of names of folders")


def _is_name(value: object) -> bool:
    return isinstance(value, str) and value not in ("", "..") and Path(value).name == value


def _warn(sentence: str) -> None:
    warnings.warn(sentence, stacklevel=2)


class TensorBoard(Callback):
    """Writes the figures of every epoch for TensorBoard, a curve for each network: ``tensorboard --logdir FOLDER``.

    The tags are ``accuracy/train``, ``accuracy/validation``, ``loss/...``, ``cost/...`` and ``eta``, at the steps at
    which epochs end, and ``accuracy/test`` and so on at the last one.  A training that is resumed writes its earlier
    epochs again, in place of those that the folder has.  If a file cannot be written, the training goes on without.

    Args:
        folder: Folder of the event files; each network of a population has a folder of its own in it.
        names: Names of these folders; numbers if not given.
        warn: Function that is called with a sentence if a file cannot be written; by default a Python warning is given.

    Raises:
        ConfigError: `folder` is not a path, `names` are no names of folders, or `warn` is no function.
    """

    @takes(folder=a_path, names=optional(_names), warn=function)
    def __init__(
        self, folder: str | Path, names: Sequence[str] | None = None, warn: Callable[[str], None] = _warn
    ) -> None:
        self._folder, self._names, self._tell = Path(folder), names, warn
        self._files: list[EventFile] | None = None
        self._records: tuple[EpochRecord, ...] = ()
        self._failed = False

    def on_train_begin(self, plan: TrainPlan) -> None:
        """Note the epochs of the training that this one continues."""
        self._files, self._records, self._failed = None, plan.records, False

    def on_epoch_end(self, record: EpochRecord) -> None:
        """Write the figures of an epoch."""
        self._write(record)

    def on_train_end(self, result: TrainResult) -> None:
        """Write the figures of the test set."""
        self._write(None, result)

    def _write(self, record: EpochRecord | None, result: TrainResult | None = None) -> None:
        if self._failed:
            return
        try:
            for earlier in self._records:
                self._write_epoch(earlier)
            self._records = ()
            if record is not None:
                self._write_epoch(record)
            if result is not None:
                self._write_figures(result.steps, {"test": result.test})
        except OSError as error:
            self._failed = True
            why = f"{self._folder}: cannot be written ({error.strerror or error})"
            self._tell(f"warning: {one_line(why)}; training goes on without the log of TensorBoard")

    def _write_epoch(self, record: EpochRecord) -> None:
        self._write_figures(record.step, {"train": record.train, "validation": record.validation}, eta=record.eta)

    def _write_figures(self, step: int, sets: dict[str, Metrics], **others: np.ndarray) -> None:
        """Write the figures of all networks at a step; those that are not finite, of networks left out, are not."""
        columns = {f"{tag}/{name}": getattr(sets[name], of) for tag, of in _FIGURES.items() for name in sets} | others
        for r, file in enumerate(self._opened(len(next(iter(columns.values()))))):
            values = {tag: float(column[r]) for tag, column in columns.items() if math.isfinite(column[r])}
            if values:
                file.scalars(step, values)

    def _opened(self, networks: int) -> list[EventFile]:
        """Return a new file for each network."""
        if self._files is None:
            width = len(str(networks - 1))
            names = self._names or [f"network-{r:0{width}}" for r in range(networks)]
            if len(names) != networks:
                raise ConfigError(f"names: has {len(names)} names for {networks} networks; give one for each")
            folders = [self._folder] if networks == 1 else [self._folder / name for name in names]
            self._files = [EventFile(folder) for folder in folders]
        return self._files
