"""Saving a run: history, checkpoints and results.  A disk that fails does not end the training."""

from __future__ import annotations

import contextlib
import re
import shutil
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from xpnet.config.settings import CONFIG
from xpnet.errors import RunError
from xpnet.nn.model_file import MODEL
from xpnet.nn.network import Network
from xpnet.runs.checkpoints import delete_old, write_checkpoint
from xpnet.runs.experiment import Experiment
from xpnet.runs.folder import CHECKPOINTS, HISTORY, METRICS, chunk_folder, write_config, write_metrics
from xpnet.runs.records import HistoryFile
from xpnet.runs.resume import ResumePoint, find_resume_point
from xpnet.training.callback import Callback, SavePoint, TrainPlan
from xpnet.training.history import EpochRecord
from xpnet.training.population import replicas_json
from xpnet.training.result import TrainResult
from xpnet.training.state import Chunk, TrainState
from xpnet.utils.plural import counted

_DAMAGED = ".damaged"
# Names of temporary files of xpnet.utils.atomic_files.
_TEMPORARY = re.compile(r"\..+\.[0-9]+-[0-9a-f]+\.tmp")


class Saver(Callback):
    """Callback that saves a run according to its settings, and warns once if that fails.

    Args:
        experiment: The run.
        folder: The folder of the run.
        warn: Called with the first failure, in a sentence.
        saved: Step of the last checkpoint; None if there is none.

    Attributes:
        folder, saved: The arguments; `saved` changes with each checkpoint.
        chunks: The chunks of the population.
        failures: Number of failed writes.
        first_failure: The first failure in words; empty if there was none.
        unwritten: Results that could not be written.
    """

    def __init__(
        self, experiment: Experiment, folder: Path, warn: Callable[[str], None], saved: int | None = None
    ) -> None:
        import safetensors.numpy  # noqa: F401 - imported here, not during a training

        self.folder, self.saved = folder, saved
        self._experiment, self._about, self._warn = experiment, experiment.about, warn
        self._history: HistoryFile | None = None
        self.chunks: list[Chunk] = []
        self.failures = 0
        self.first_failure = ""
        self.unwritten: list[str] = []

    def on_train_begin(self, plan: TrainPlan) -> None:
        """Begin the history with the finished epochs.

        Raises:
            RunError: The history cannot be written.
        """
        path = self.folder / HISTORY
        try:
            self._history = HistoryFile(path, plan.records)
        except OSError as error:
            why = f"{path}: cannot be written ({error.strerror}); check the folder and the space left"
            raise RunError(why) from None
        self.chunks = list(plan.chunks)
        self._delete_other_chunks()

    def on_chunk_split(self, plan: TrainPlan) -> Mapping[Chunk, TrainState]:
        """Save the halves of a chunk for which memory ran out, and only then delete the chunk's own checkpoints."""
        starts: Mapping[Chunk, TrainState] = {}
        self.chunks = list(plan.chunks)
        with self.attempt(f"{self.folder / CHECKPOINTS}: what was saved, in {len(plan.chunks)} chunks"):
            population, dtype = self._experiment.population, self._experiment.settings.run.dtype
            point = find_resume_point(self.folder, population, plan.length, dtype, chunks=plan.chunks)
            starts = point.starts
            self.save_chunks({chunk: starts[chunk] for chunk in point.split})
        return starts

    def on_epoch_end(self, record: EpochRecord) -> None:
        """Write an epoch into the history."""
        with self.attempt(f"{self.folder / HISTORY}"):
            assert self._history is not None, "on_train_begin comes first"
            self._history.append(record)

    def on_checkpoint(self, point: SavePoint) -> None:
        """Save a chunk of networks, if a checkpoint is due."""
        every = self._experiment.settings.run.save_every
        if every and (point.ends or point.epochs % every == 0):
            with self.attempt(f"{chunk_folder(self.folder, point.chunk)}: the checkpoint of step {point.step}"):
                self.save(point.chunk, point.network, point.state())

    def save_chunks(self, states: Mapping[Chunk, TrainState]) -> None:
        """Save chunks, and then delete the checkpoints of chunks that are no longer in use.

        Raises:
            OSError: A checkpoint cannot be written; nothing is deleted.
        """
        for chunk, state in states.items():
            network = self._experiment.network(self._experiment.population.part(*chunk))
            network.learn_about(self._experiment.data)
            self.save(chunk, network, state)
        self._delete_other_chunks()

    def _delete_other_chunks(self) -> None:
        kept = {chunk_folder(self.folder, chunk) for chunk in self.chunks}
        for folder in (self.folder / CHECKPOINTS).glob("*-*"):
            if folder not in kept:
                shutil.rmtree(folder, ignore_errors=True)

    def save(self, chunk: Chunk, network: Network, state: TrainState) -> None:
        """Save a chunk of networks.

        Raises:
            OSError: The checkpoint cannot be written; earlier checkpoints stay complete.
        """
        cuts = [list(chunk) for chunk in self.chunks]
        about = {**self._about, "cuts": cuts, "chunk": list(chunk), "network": network.description()}
        transform = {} if network.transform is None else network.transform.tensors()
        (self.folder / CHECKPOINTS).mkdir(exist_ok=True)  # not its parent: the run's folder may have been deleted
        folder = chunk_folder(self.folder, chunk)
        write_checkpoint(folder, state, about, transform)
        self.saved = state.step
        delete_old(folder, self._experiment.settings.run.keep)

    @contextlib.contextmanager
    def attempt(self, item: str, *, results: bool = False) -> Iterator[None]:
        """Count failures to write `item` instead of raising them, and warn of the first one."""
        try:
            yield
        except (OSError, RunError, MemoryError) as error:
            why = error.strerror or str(error) if isinstance(error, OSError) else str(error) or "out of memory"
            self.failures += 1
            if results:
                self.unwritten.append(item)
            if self.first_failure:
                return
            self.first_failure = why if why.startswith(item) else f"{item} could not be written ({why})"
            if not results:
                last = "there is no checkpoint yet" if self.saved is None else f"that of step {self.saved} is complete"
                last = last if self.folder.exists() else "but its folder is gone, with everything in it"
                self._warn(f"warning: {self.first_failure}; training goes on, {last}")

    def write_results(
        self,
        network: Network,
        result: TrainResult,
        draw: Callable[[], None],
        of_folds: Callable[[int | None], dict[str, Any]] | None = None,
    ) -> dict[str, Any]:
        """Write the network, the curves and the final figures, each even if another fails; return the figures.

        Args:
            network: The trained networks.
            result: The result of their training.
            draw: Draws the curves into the folder; may raise OSError or RunError.
            of_folds: Function that returns the figures of cross-validation: of one network, or of all for None.
        """
        experiment, folder = self._experiment, self.folder
        metrics = result.to_json() | {"run": str(folder), "samples": experiment.data.counts}
        if len(experiment.population) > 1:
            metrics["replicas"] = list(replicas_json(experiment.population, result))
        if of_folds is not None:
            metrics["cv"] = of_folds(None)
            for number, entry in enumerate(metrics.get("replicas", ())):
                entry["cv"] = of_folds(number)
        if len(self.chunks) > 1:  # in float32, the last bits depend on the networks in a chunk
            metrics["chunks"] = [stop - start for start, stop in self.chunks]
        if not (folder / CONFIG).is_file():  # the folder was deleted; write the results anyway
            with self.attempt(f"{folder}", results=True):
                folder.mkdir(parents=True, exist_ok=True)
                write_config(folder, experiment.config)
        if self._history is not None and not (self._history.complete and (folder / HISTORY).exists()):
            with self.attempt(f"{folder / HISTORY}", results=True):
                self._history.rewrite()
        self.close()
        with self.attempt(f"{folder / MODEL}", results=True):
            network.save(folder / MODEL, replace=True)
        if len(result.history):
            with self.attempt(f"{folder / 'curves.png'}", results=True):
                draw()
        # Last, since this file marks the run as finished, unless a result is missing, which --resume can write.
        with self.attempt(f"{folder / METRICS}", results=True):
            write_metrics(folder, metrics | ({"interrupted": True} if self.unwritten else {}))
        return metrics

    def raise_failures(self) -> None:
        """Raise an error if writes have failed.

        Raises:
            RunError: A write has failed.
        """
        if self.failures:
            rest = f"missing are {', '.join(self.unwritten)}" if self.unwritten else "the results are complete"
            again = f"; make room, then: xpnet train --resume {self.folder}" if self.unwritten else ""
            times = counted(self.failures, "time")
            raise RunError(f"{self.folder}: was not saved {times}, first {self.first_failure}; {rest}{again}")

    def close(self) -> None:
        """Close the history."""
        if self._history is not None:
            self._history.close()


def prepare_to_resume(experiment: Experiment, run: Path, point: ResumePoint, *, changed: bool) -> None:
    """Delete checkpoints that are later than `point`, and those of other settings or chunks."""
    again = list(point.starts) if changed else point.split
    if again:
        saver = Saver(experiment, run, lambda _: None)
        saver.chunks = point.chunks
        saver.save_chunks({chunk: point.starts[chunk] for chunk in again})
    delete_unused(run, point.starts, earlier=changed)


def delete_unused(run: Path, starts: Mapping[Chunk, TrainState], *, earlier: bool) -> None:
    """Delete checkpoints later than the start of their chunk, and files of interrupted saves.

    Args:
        run: The run folder.
        starts: The states from which chunks continue; checkpoints of chunks without a state are renamed, not deleted.
        earlier: Whether to delete earlier checkpoints too, as they have other settings.
    """
    reached = {chunk_folder(run, chunk): start.step for chunk, start in starts.items()}
    for path in (run / CHECKPOINTS).glob("*-*/step-*"):
        number, step = path.name.split(".")[0].removeprefix("step-"), reached.get(path.parent)
        if not number.isdecimal() or path.suffix == _DAMAGED:
            continue
        if step is None or path.is_dir():  # the only checkpoint left of a chunk, although unreadable; or not a file
            path.replace(path.with_name(path.name + _DAMAGED))
        elif int(number) > step or (earlier and int(number) < step) or not path.with_suffix(".json").exists():
            path.unlink(missing_ok=True)
    for path in [*run.glob(".*.tmp"), *(run / CHECKPOINTS).glob("*-*/.step-*.tmp")]:
        if _TEMPORARY.fullmatch(path.name) and not path.is_dir():
            path.unlink(missing_ok=True)
