"""Files that a run writes while it trains: complete or not at all, whatever the disk does."""

from __future__ import annotations

import contextlib
import csv
import errno
import io
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from calls import Calls

import xpnet
from xpnet.config.length import Length
from xpnet.config.settings import Settings
from xpnet.errors import RunError
from xpnet.runs import records
from xpnet.runs.experiment import Experiment
from xpnet.runs.folder import chunk_folder
from xpnet.runs.records import HistoryFile
from xpnet.runs.saver import Saver
from xpnet.training.callback import TrainPlan
from xpnet.training.history import COLUMNS, EpochRecord, Metrics
from xpnet.training.population import Population


def record(epoch: int) -> EpochRecord:
    values = np.array([0.1, 1 / 3]) * epoch
    figures = Metrics(values, values, values)
    return EpochRecord(epoch, 5 * epoch, values, figures, figures, 0.5, 0.25)


class Disk:
    """An open file on a disk that takes so many bytes more, and a few at a time."""

    def __init__(self, file: Any, room: int) -> None:
        self._file, self._room = file, room

    def write(self, content: memoryview) -> int:
        if self._room == 0:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        taken = self._file.write(content[: min(self._room, 7)])
        self._room -= taken
        return int(taken)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)


@pytest.mark.guarantee("full-disk")
@pytest.mark.parametrize("room", [0, 1, 80, 200, 260])
def test_history_has_complete_epochs_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, room: int, harm: Any):
    path = tmp_path / "history.csv"
    with monkeypatch.context() as patch:
        real = records.open_regular
        patch.setattr(records, "open_regular", lambda *where, **how: Disk(real(*where, **how), room))
        file = HistoryFile(path, [record(1)])
    before = path.read_text()
    assert before.count("\n") == 3
    written = 1
    with contextlib.suppress(OSError):
        while True:
            file.append(record(written + 1))
            written += 1
    assert written < 5
    harm.did("disks that took a part of an epoch")
    rows = path.read_text()
    assert rows.startswith(before)
    assert rows.endswith("\n")
    assert rows.count("\n") == 1 + 2 * written
    file.append(record(9))  # there is room again: nothing is missing
    file.append(record(10))
    file.close()
    text = path.read_text()
    assert text.startswith(rows)
    epochs = [int(line.split(",")[0]) for line in text.splitlines()[1::2]]
    assert epochs == [*range(1, written + 2), 9, 10]  # the one that did not fit at first, too


@pytest.mark.parametrize("replicas", [1, 2])
def test_history_file_equals_the_history(tmp_path: Path, dataset: Any, replicas: int):
    network = xpnet.Network(xpnet.NetworkConfig(inputs=12, hidden=(4,), classes=4), replicas=replicas)
    with contextlib.closing(HistoryFile(tmp_path / "history.csv")) as file:
        calls = Calls(on_epoch_end=file.append)
        result = xpnet.train(network, dataset, xpnet.TrainConfig(epochs=3), callbacks=[calls])
    text = (tmp_path / "history.csv").read_text()
    assert text == result.history.to_csv()
    rows = list(csv.DictReader(io.StringIO(text)))
    assert tuple(rows[0]) == COLUMNS
    for column in ("train_loss", "validation_accuracy", "eta"):
        values = np.array([float(row[column]) for row in rows]).reshape(3, replicas)
        np.testing.assert_array_equal(values, result.history[column].reshape(3, replicas))  # to the last bit
    assert [int(row["replica"]) for row in rows] == [*range(replicas)] * 3


def saver_of(dataset: Any, folder: Path, warn: Callable[[str], Any] = pytest.fail, saved: int | None = None) -> Saver:
    settings = Settings.from_mapping({"hidden": [5]})
    experiment = Experiment(settings, xpnet.get_backend("cpu"), dataset, {}, Population.of(settings, 12, 4))
    return Saver(experiment, folder, warn, saved)


def test_history_that_cannot_be_begun_ends_the_run(tmp_path: Path, dataset: Any):
    plan = TrainPlan(Length(steps=1, steps_per_epoch=1, n_s=1), ((0, 1),))
    with pytest.raises(RunError, match=r"history\.csv: cannot be written \(No such file or directory\)"):
        saver_of(dataset, tmp_path / "none").on_train_begin(plan)


def test_failures_warn_once_and_raise_at_the_end(tmp_path: Path, dataset: Any):
    warnings: list[str] = []
    saver = saver_of(dataset, tmp_path, warnings.append)
    saver.raise_failures()
    for item in ("a", "b"):
        with saver.attempt(item):
            raise OSError(errno.EDQUOT, "Disk quota exceeded")
    why = "a could not be written (Disk quota exceeded)"
    assert warnings == [f"warning: {why}; training goes on, there is no checkpoint yet"]
    with pytest.raises(RunError, match=f"^{tmp_path}: was not saved 2 times, first a could not be written"):
        saver.raise_failures()
    with saver.attempt("model.safetensors", results=True):
        raise RunError("model.safetensors: cannot be written (no room)")
    with pytest.raises(RunError, match=r"missing are model\.safetensors; make room, then: xpnet train --resume"):
        saver.raise_failures()
    with pytest.raises(ZeroDivisionError), saver.attempt("other"):
        raise ZeroDivisionError


def test_folder_that_is_gone_has_no_checkpoint(tmp_path: Path, dataset: Any):
    warnings: list[str] = []
    with saver_of(dataset, tmp_path / "gone", warnings.append, saved=5).attempt("a"):
        raise OSError(errno.ENOENT, "No such file or directory")
    (warning,) = warnings
    assert warning.endswith("; training goes on, but its folder is gone, with everything in it")


def test_other_chunks_lose_their_checkpoints(tmp_path: Path, dataset: Any):
    saver = saver_of(dataset, tmp_path)
    for chunk in ((0, 4), (4, 8)):
        chunk_folder(tmp_path, chunk).mkdir(parents=True)
    saver.chunks = [(0, 4), (4, 6), (6, 8)]
    saver.save_chunks({})
    assert [path.name for path in (tmp_path / "checkpoints").iterdir()] == ["0-4"]
