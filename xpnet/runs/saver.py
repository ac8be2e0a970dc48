"""Saving a run while it trains: its history and its checkpoints.  A disk that fails does not end the training."""

from __future__ import annotations

import contextlib
import re
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, Self

from xpnet.errors import RunError
from xpnet.nn.network import Network
from xpnet.runs.checkpoints import delete_old, write_checkpoint
from xpnet.runs.folder import CHECKPOINTS, HISTORY, chunk_folder
from xpnet.training.callback import Callback, SavePoint, TrainPlan
from xpnet.training.history import COLUMNS, EpochRecord, csv_lines
from xpnet.training.state import Chunk, TrainState
from xpnet.utils.atomic_files import replace_whole
from xpnet.utils.file_system import open_regular

LOCK = ".lock"  # in that folder; it is never replaced
DAMAGED = ".damaged"
# As xpnet.runs.folder names what it writes before it takes the place of another file.
_TEMPORARY = re.compile(r"\..+\.[0-9]+-[0-9a-f]+\.tmp")


class HistoryFile:
    """``history.csv``, written epoch by epoch, so that what was recorded outlives whatever ends the run.

    Args:
        path: The file; what is there is replaced.
        records: Epochs that it begins with.

    Attributes:
        whole: Whether the file has every epoch.

    Raises:
        OSError: It cannot be written; what is there stays.
    """

    def __init__(self, path: Path, records: Iterable[EpochRecord] = ()) -> None:
        self._path = path
        self._records = list(records)
        self._file: Any = None
        self._size = 0
        self.whole = False
        self.rewrite()

    def append(self, record: EpochRecord) -> None:
        """Add the rows of an epoch, whole or not at all.

        Raises:
            OSError: They cannot be written; the next call tries all over again.
        """
        self._records.append(record)
        if self._file is None:
            self.rewrite()
            return
        rows = csv_lines(record.rows()).encode()
        try:
            self._write(rows)
        except OSError:
            # No half a row stays, and if it must, what comes next replaces the file.
            self.whole = False
            with contextlib.suppress(OSError):
                self._file.truncate(self._size)
            self.close()
            raise
        self._size += len(rows)

    def _write(self, content: bytes) -> None:
        rest = memoryview(content)
        while rest:  # a disk that is nearly full takes a part
            rest = rest[self._file.write(rest) :]

    def rewrite(self) -> None:
        """Write every epoch anew, in place of what is there.

        Raises:
            OSError: They cannot be written; what is there stays.
        """
        self.close()
        self.whole = False
        lines = [list(COLUMNS)] + [row for record in self._records for row in record.rows()]
        content = csv_lines(lines).encode()
        replace_whole(self._path, content)
        self.whole = True
        self._file, self._size = open_regular(self._path, "ab", buffering=0), len(content)

    def close(self) -> None:
        """Close the file."""
        if self._file is not None:
            self._file.close()
            self._file = None


class Saver(Callback):
    """Saves a run as it trains, and warns once if that fails.

    Attributes:
        folder: The run folder.
        chunks: The chunks of the population.
        failures: Number of writes that failed.
        first: The first of them, in words; empty if there was none.
        missing: Results that could not be written.
        saved: Step of the last checkpoint; None if there is none.
    """

    def __init__(
        self,
        folder: Path,
        about: Mapping[str, Any],
        *,
        every: int,
        count: int,
        warn: Callable[[str], None],
        saved: int | None = None,
    ) -> None:
        import safetensors.numpy  # noqa: F401 - now, and not in the middle of a training

        self.folder, self._about, self._every, self._count, self._warn = folder, dict(about), every, count, warn
        self._history: HistoryFile | None = None
        self.chunks: list[Chunk] = []
        self.failures = 0
        self.first = ""
        self.missing: list[str] = []
        self.saved = saved

    def on_train_begin(self, plan: TrainPlan) -> None:
        """Begin the history with the epochs that are finished; a run whose history cannot be begun ends.

        Raises:
            RunError: It cannot be written.
        """
        try:
            self._history = HistoryFile(self.folder / HISTORY, plan.records)
        except OSError as error:
            raise RunError(
                f"{self.folder / HISTORY}: cannot be written ({error.strerror}); check the folder and the space left"
            ) from None
        self.set_chunks(plan.chunks)
        self.forget_other_chunks()

    def on_epoch_end(self, record: EpochRecord) -> None:
        """Write an epoch into the history."""
        with self.trying(f"{self.folder / HISTORY}"):
            assert self._history is not None, "on_train_begin comes first"
            self._history.append(record)

    def on_checkpoint(self, point: SavePoint) -> None:
        """Save a chunk of networks, if it is time to."""
        if self._every and (point.ends or point.epochs % self._every == 0):
            with self.trying(f"{chunk_folder(self.folder, point.chunk)}: the checkpoint of step {point.step}"):
                self.save(point.chunk, point.network, point.state())

    def finish(self) -> None:
        """Make up for epochs that the history lacks, all of them if it is gone."""
        path = self.folder / HISTORY
        if self._history is not None and not (self._history.whole and path.exists()):
            with self.trying(f"{path}", results=True):
                self._history.rewrite()
        self.close()

    def set_chunks(self, chunks: Iterable[Chunk]) -> None:
        """Set the chunks of the population, of which the checkpoints to come tell."""
        self.chunks = list(chunks)
        self._about["cuts"] = [list(chunk) for chunk in self.chunks]

    def forget_other_chunks(self) -> None:
        """Delete the checkpoints of other chunks than those of the population now."""
        kept = {chunk_folder(self.folder, chunk) for chunk in self.chunks}
        for folder in (self.folder / CHECKPOINTS).glob("*-*"):
            if folder not in kept:
                shutil.rmtree(folder, ignore_errors=True)

    def save(self, chunk: Chunk, network: Network, state: TrainState) -> None:
        """Save a chunk of networks.

        Raises:
            OSError: It cannot be written; the checkpoints before it stay whole.
        """
        about = {**self._about, "chunk": list(chunk), "network": network.description()}
        standardiser = network.standardiser
        more = {} if standardiser is None else {"mean": standardiser.mean, "std": standardiser.std}
        (self.folder / CHECKPOINTS).mkdir(exist_ok=True)  # but not the run's folder, should that be gone
        folder = chunk_folder(self.folder, chunk)
        write_checkpoint(folder, state, about, more)
        self.saved = state.step
        delete_old(folder, self._count)

    @contextlib.contextmanager
    def trying(self, what: str, *, results: bool = False) -> Iterator[None]:
        """Let what is inside fail to write, and remember it; the first time it is told."""
        try:
            yield
        except (OSError, RunError, MemoryError) as error:
            why = error.strerror or str(error) if isinstance(error, OSError) else str(error) or "out of memory"
            self.failures += 1
            if results:
                self.missing.append(what)
            if self.first:
                return
            self.first = why if why.startswith(what) else f"{what} could not be written ({why})"
            if not results:
                last = "there is no checkpoint yet" if self.saved is None else f"that of step {self.saved} is whole"
                last = last if self.folder.exists() else "but its folder is gone, with what was in it"
                self._warn(f"warning: {self.first}; training goes on, {last}")

    def tell(self) -> None:
        """Raise what could not be saved.

        Raises:
            RunError: Something could not.
        """
        if self.failures:
            rest = f"missing are {', '.join(self.missing)}" if self.missing else "the results are whole"
            again = f"; make room, then: xpnet train --resume {self.folder}" if self.missing else ""
            raise RunError(
                f"{self.folder}: was not saved {self.failures} time{'s' * (self.failures > 1)}, first "
                f"{self.first}; {rest}{again}"
            )

    def close(self) -> None:
        """Close what is open."""
        if self._history is not None:
            self._history.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def discard(run: Path, starts: Mapping[Chunk, TrainState], *, earlier: bool) -> None:
    """Delete checkpoints that are later than where their chunk goes on, and what saves that were cut short have left.

    Args:
        run: The run folder.
        starts: From where chunks go on.
        earlier: Delete those before it too: they are of other settings.
    """
    reached = {chunk_folder(run, chunk): start.step for chunk, start in starts.items()}
    for path in (run / CHECKPOINTS).glob("*-*/step-*"):
        number, here = path.name.split(".")[0].removeprefix("step-"), reached.get(path.parent)
        if not number.isdecimal() or path.suffix == DAMAGED:
            continue
        if here is None or path.is_dir():  # all there is of a chunk, though it cannot be used; what is no file
            path.replace(path.with_name(path.name + DAMAGED))
        elif int(number) > here or (earlier and int(number) < here) or not path.with_suffix(".json").exists():
            path.unlink(missing_ok=True)
    for path in [*run.glob(".*.tmp"), *(run / CHECKPOINTS).glob("*-*/.step-*.tmp")]:
        if _TEMPORARY.fullmatch(path.name) and not path.is_dir():
            path.unlink(missing_ok=True)
