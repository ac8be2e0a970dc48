"""What a run writes while it trains: whole or not at all, whatever the disk does."""

from __future__ import annotations

import contextlib
import errno
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from xpnet.config.definitions import Length
from xpnet.errors import RunError
from xpnet.runs.folder import chunk_folder
from xpnet.runs.saver import HistoryFile, Saver
from xpnet.training.callback import TrainPlan
from xpnet.training.history import EpochRecord, Metrics


def record(epoch: int) -> EpochRecord:
    values = np.array([0.1, 1 / 3]) * epoch
    figures = Metrics(values, values, values)
    return EpochRecord(epoch, 5 * epoch, values, figures, figures, 0.5, 0.25)


class Disk:
    """An open file on a disk that takes so many bytes more, and a few at a time."""

    def __init__(self, file: Any, room: int) -> None:
        self._file, self.room = file, room

    def write(self, content: memoryview) -> int:
        if self.room == 0:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        taken = self._file.write(content[: min(self.room, 7)])
        self.room -= taken
        return int(taken)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)


@pytest.mark.guarantee("full-disk")
@pytest.mark.parametrize("room", [0, 1, 80, 200, 260])
def test_a_history_has_whole_epochs_alone(tmp_path: Path, room: int, harm: Any):
    path = tmp_path / "history.csv"
    file = HistoryFile(path, [record(1)])
    before = path.read_text()
    assert before.count("\n") == 3
    file._file = Disk(file._file, room)
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


def test_a_history_that_cannot_be_begun_ends_the_run(tmp_path: Path):
    plan = TrainPlan(Length(steps=1, steps_per_epoch=1, n_s=1), ((0, 1),))
    with pytest.raises(RunError, match=r"history\.csv: cannot be written \(No such file or directory\)"):
        Saver(tmp_path / "none", {}, every=1, count=1, warn=pytest.fail).on_train_begin(plan)


def test_failures_are_told_once_and_raised_at_the_end(tmp_path: Path):
    told: list[str] = []
    saver = Saver(tmp_path, {}, every=1, count=1, warn=told.append)
    saver.tell()
    for what in ("a", "b"):
        with saver.trying(what):
            raise OSError(errno.EDQUOT, "Disk quota exceeded")
    assert told == [
        "warning: a could not be written (Disk quota exceeded); training goes on, there is no checkpoint yet"
    ]
    with pytest.raises(RunError, match=f"^{tmp_path}: was not saved 2 times, first a could not be written"):
        saver.tell()
    with saver.trying("model.safetensors", results=True):
        raise RunError("model.safetensors: cannot be written (no room)")
    with pytest.raises(RunError, match=r"missing are model\.safetensors; make room, then: xpnet train --resume"):
        saver.tell()
    with pytest.raises(ZeroDivisionError), saver.trying("other"):
        raise ZeroDivisionError


def test_a_folder_that_is_gone_has_no_whole_checkpoint(tmp_path: Path):
    told: list[str] = []
    saver = Saver(tmp_path / "gone", {}, every=1, count=1, warn=told.append, saved=5)
    with saver.trying("a"):
        raise OSError(errno.ENOENT, "No such file or directory")
    (warning,) = told
    assert warning.endswith("; training goes on, but its folder is gone, with what was in it")


def test_chunks_that_are_cut_anew_lose_their_old_checkpoints(tmp_path: Path):
    saver = Saver(tmp_path, {}, every=1, count=1, warn=pytest.fail)
    for chunk in ((0, 4), (4, 8)):
        chunk_folder(tmp_path, chunk).mkdir(parents=True)
    saver.set_chunks([(0, 4), (4, 6), (6, 8)])
    saver.forget_other_chunks()
    assert [path.name for path in (tmp_path / "checkpoints").iterdir()] == ["0-4"]
