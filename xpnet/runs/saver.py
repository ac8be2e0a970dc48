"""What a run writes while it trains: its history and its checkpoints.  A disk that fails ends no training."""

from __future__ import annotations

import contextlib
import re
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from xpnet.errors import RunError
from xpnet.nn.network import Network
from xpnet.runs.checkpoints import keep, write_checkpoint
from xpnet.runs.folder import CHECKPOINTS, HISTORY
from xpnet.training.history import COLUMNS, EpochRecord, csv_lines
from xpnet.training.state import Chunk, Standing, TrainState
from xpnet.utils.atomic_files import replace_whole
from xpnet.utils.file_system import open_regular

LOCK = ".lock"  # in that folder; it is never replaced
DAMAGED = ".damaged"
# As xpnet.runs.folder names what it writes before it takes the place of another file.
_TEMPORARY = re.compile(r"\..+\.[0-9]+-[0-9a-f]+\.tmp")


def chunk_folder(run: Path, chunk: Chunk) -> Path:
    """Return where the checkpoints of the networks from `start` up to `stop` are."""
    return run / CHECKPOINTS / f"{chunk[0]}-{chunk[1]}"


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


class Saver:
    """Saves a run as it trains, and tells once if that fails.

    Attributes:
        failures: How often something could not be written.
        first: What the first of them was; empty if there was none.
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

        self._folder, self._about, self._every, self._count, self._warn = folder, dict(about), every, count, warn
        self._history: HistoryFile | None = None
        self.failures = 0
        self.first = ""
        self.missing: list[str] = []
        self.saved = saved

    def begin(self, records: Sequence[EpochRecord] = ()) -> None:
        """Write the history with what it begins with; a history that cannot be begun ends the run.

        Raises:
            RunError: It cannot be written.
        """
        try:
            self._history = HistoryFile(self._folder / HISTORY, records)
        except OSError as error:
            raise RunError(
                f"{self._folder / HISTORY}: cannot be written ({error.strerror}); check the folder and the space left"
            ) from None

    def epoch(self, record: EpochRecord) -> None:
        """Write an epoch into the history."""
        with self.trying(f"{self._folder / HISTORY}"):
            assert self._history is not None, "begin comes first"
            self._history.append(record)

    def finish(self) -> None:
        """Make up for epochs that the history lacks, all of them if it is gone."""
        path = self._folder / HISTORY
        if self._history is not None and not (self._history.whole and path.exists()):
            with self.trying(f"{path}", results=True):
                self._history.rewrite()
        self.close()

    def chunks(self, cuts: Sequence[Chunk]) -> None:
        """Remember how the population is cut, for the checkpoints to come."""
        self._about["cuts"] = [list(cut) for cut in cuts]

    def forget_other_chunks(self) -> None:
        """Delete what was saved of the population in other cuts than those of today."""
        kept = {chunk_folder(self._folder, (start, stop)) for start, stop in self._about["cuts"]}
        for folder in (self._folder / CHECKPOINTS).glob("*-*"):
            if folder not in kept:
                shutil.rmtree(folder, ignore_errors=True)

    def checkpoint(self, chunk: Chunk, network: Network, standing: Standing) -> None:
        """Save a chunk of networks as it stands, if it is time to."""
        if self._every and (standing.ends or standing.epochs % self._every == 0):
            with self.trying(f"{chunk_folder(self._folder, chunk)}: the checkpoint of step {standing.step}"):
                self.save(chunk, network, standing.take())

    def save(self, chunk: Chunk, network: Network, snapshot: TrainState) -> None:
        """Save a chunk of networks.

        Raises:
            OSError: It cannot be written; the checkpoints before it stay whole.
        """
        about = {**self._about, "chunk": list(chunk), "network": network.description()}
        standardiser = network.standardiser
        more = {} if standardiser is None else {"mean": standardiser.mean, "std": standardiser.std}
        (self._folder / CHECKPOINTS).mkdir(exist_ok=True)  # but not the run's folder, should that be gone
        folder = chunk_folder(self._folder, chunk)
        write_checkpoint(folder, snapshot, about, more)
        self.saved = snapshot.step
        keep(folder, self._count)

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
                last = last if self._folder.exists() else "but its folder is gone, with what was in it"
                self._warn(f"warning: {self.first}; training goes on, {last}")

    def tell(self) -> None:
        """Raise what could not be saved.

        Raises:
            RunError: Something could not.
        """
        if self.failures:
            rest = f"missing are {', '.join(self.missing)}" if self.missing else "the results are whole"
            again = f"; make room, then: xpnet train --resume {self._folder}" if self.missing else ""
            raise RunError(
                f"{self._folder}: was not saved {self.failures} time{'s' * (self.failures > 1)}, first "
                f"{self.first}; {rest}{again}"
            )

    def close(self) -> None:
        """Close what is open."""
        if self._history is not None:
            self._history.close()

    def __enter__(self) -> Saver:
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
