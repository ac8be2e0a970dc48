"""A run of ``xpnet train``: validated before it has a folder, alone in its folder, saved while it trains."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

from xpnet.backend import Backend, get_backend
from xpnet.config.settings import CONFIG, Settings
from xpnet.data import CIFAR10_HINT, Dataset, as_earlier, fingerprint, load_data
from xpnet.errors import DivergedError, RunError
from xpnet.nn.model_file import MODEL, description
from xpnet.nn.network import Network
from xpnet.runs.checkpoints import check_description
from xpnet.runs.folder import CHECKPOINTS, METRICS, write_config, write_metrics
from xpnet.runs.resume import ResumePoint, find_resume_point
from xpnet.runs.saver import LOCK, Saver, discard
from xpnet.training.callback import Callback, TrainPlan
from xpnet.training.population import Population, check_metrics, replicas_json
from xpnet.training.result import TrainResult
from xpnet.training.state import Chunk, TrainState
from xpnet.training.train_population import train_population
from xpnet.training.validate import check_fit, check_names, check_stepper
from xpnet.utils.file_system import open_regular
from xpnet.utils.locks import only_one


def describe(settings: Settings, data: Dataset) -> str:
    """Return a run in a few words: data, split, sizes, normalisation, lambda, what varies, runs."""
    return f"{data.name} {data.split}, {settings.in_words(data.features, data.classes)}"


def about_data(data: Dataset, settings: Settings) -> str:
    """Say which data is used, and how to get CIFAR-10 where the embedded default took its place."""
    built_in = data.location.startswith("patterns")
    about = f"data: {data.name}, {'built in' if built_in else f'from {data.location}'}, split {data.split}"
    if settings.data.data is None and data.name == "patterns":
        about += f"\nCIFAR-10 is not on this machine: {CIFAR10_HINT}"
    return "\n".join((about, *data.notes))


def resolved(settings: Settings, data: Dataset) -> dict[str, Any]:
    """Return the settings with the data that was found, so that they mean the same tomorrow."""
    target = settings.data.target
    if target is not None and data.location.endswith(".npy"):
        target = str(Path(target).expanduser().resolve())  # the labels' file
    found = dataclasses.replace(settings.data, data=data.location, split=data.split, target=target)
    return dataclasses.replace(settings, data=found).to_mapping()


@dataclass(frozen=True)
class Experiment:
    """A validated run: settings, data and population, ready to train."""

    settings: Settings
    backend: Backend
    data: Dataset
    fingerprint: dict[str, Any]
    population: Population

    @classmethod
    def of(
        cls, settings: Settings, note: Callable[[str], None], seen: Mapping[str, Any] = MappingProxyType({})
    ) -> Experiment:
        """Load the data and look for everything that can be wrong.

        Args:
            settings: Those of the run.
            note: Called with the device and the data that are used, in words.
            seen: The fingerprint of the data that the run has begun with, if it has.

        Raises:
            XpnetError: Something is.
        """
        backend = get_backend(settings.run.device, tf32=settings.run.tf32)
        note(f"device: {backend.device} ({backend.reason})")
        data = as_earlier(load_data(settings.data), seen)
        note(about_data(data, settings))
        population = Population.of(settings, data.features, data.classes)
        for first in population.of_each_init():
            check_fit(Network(first.network, dtype=settings.run.dtype, seed=first.seeds), data, first.train)
        if settings.train.stepper != "auto":
            whole = Network(population.network, backend=backend, dtype=settings.run.dtype, seed=population.seeds)
            check_stepper(whole, data, population.train)
        experiment = cls(settings, backend, data, fingerprint(data), population)
        experiment.check_files()
        return experiment

    @property
    def about(self) -> dict[str, Any]:
        """What every checkpoint says of the training."""
        length = self.settings.train.length(len(self.data.train))
        return {
            "settings": resolved(self.settings, self.data),
            "data": self.fingerprint,
            "length": {"steps": length.steps, "steps_per_epoch": length.steps_per_epoch},
        }

    def check_files(self) -> None:
        """Refuse a training whose files would be larger than what is read of them.

        Raises:
            ConfigError: They would.
        """
        data, population = self.data, self.population
        check_names(population.network, population.seeds, data)
        names = data.class_names, data.image_shape, data.feature_names
        network = description(population.network, population.seeds, *names)
        check_description({**self.about, "network": network}, len(population))
        check_metrics(population, self.settings.train.length(len(data.train)).epochs)

    def train(self, folder: Path, point: ResumePoint, callbacks: Sequence[Callback]) -> tuple[Network, TrainResult]:
        """Train from a point to the end.

        Raises:
            DivergedError: All networks have diverged.
        """
        try:
            return train_population(
                self.population,
                self.data,
                backend=self.backend,
                dtype=self.settings.run.dtype,
                max_replicas=self.settings.run.max_replicas,
                callbacks=callbacks,
                cuts=point.chunks,
                starts=point.starts,
            )
        except DivergedError as error:
            raise DivergedError(f"{error}; {folder} holds the epochs before it") from None


class ExperimentSaver(Saver):
    """Saves a run as its settings say.

    Args:
        experiment: The run.
        folder: Its folder.
        warn: Called with the first failure, in a sentence.
        point: From where the run goes on.
    """

    def __init__(self, experiment: Experiment, folder: Path, warn: Callable[[str], None], point: ResumePoint) -> None:
        run = experiment.settings.run
        saved = point.step if point.starts else None
        super().__init__(folder, experiment.about, every=run.save_every, count=run.keep, warn=warn, saved=saved)
        self._experiment = experiment

    def on_chunk_split(self, plan: TrainPlan) -> Mapping[Chunk, TrainState]:
        """Save the halves of a chunk for which memory ran out; its checkpoints stay until then."""
        experiment, folder = self._experiment, self.folder
        starts: Mapping[Chunk, TrainState] = {}
        self.set_chunks(plan.chunks)
        with self.trying(f"{folder / CHECKPOINTS}: what was saved, in {len(plan.chunks)} chunks"):
            dtype = experiment.settings.run.dtype
            point = find_resume_point(folder, experiment.population, plan.length, dtype, chunks=plan.chunks)
            starts = point.starts
            self.save_chunks({chunk: starts[chunk] for chunk in point.split})
        return starts

    def save_chunks(self, states: Mapping[Chunk, TrainState]) -> None:
        """Save chunks, each in a folder of its own, and then delete the checkpoints of other chunks.

        Raises:
            OSError: One cannot be written; nothing is deleted.
        """
        for chunk, state in states.items():
            part = self._experiment.population.part(*chunk)
            network = Network(part.network, dtype=self._experiment.settings.run.dtype, seed=part.seeds)
            network.learn_about(self._experiment.data)
            self.save(chunk, network, state)
        self.forget_other_chunks()


def prepare_to_resume(experiment: Experiment, run: Path, point: ResumePoint, *, changed: bool) -> None:
    """Leave no checkpoint that is later than where the run goes on, and none of other settings or chunks."""
    again: Iterable[Chunk] = list(point.starts) if changed else point.split
    if again and point.chunks is not None:
        saver = ExperimentSaver(experiment, run, lambda _: None, point)
        saver.set_chunks(point.chunks)
        saver.save_chunks({chunk: point.starts[chunk] for chunk in again})
    discard(run, point.starts, earlier=changed)


def write_results(
    experiment: Experiment,
    folder: Path,
    network: Network,
    result: TrainResult,
    saver: ExperimentSaver,
    draw: Callable[[], None],
) -> dict[str, Any]:
    """Write the network, the curves and the figures, each as far as the disk lets; return the figures.

    Args:
        experiment: The run.
        folder: Its folder.
        network: What was trained.
        result: What came of it.
        saver: Remembers what cannot be written.
        draw: Draws the curves into the folder; may raise OSError or RunError.
    """
    population = experiment.population
    metrics = result.to_json() | {"run": str(folder), "samples": experiment.data.counts}
    if len(population) > 1:
        metrics["replicas"] = list(replicas_json(population, result))
    if len(saver.chunks) > 1:  # in float32 the last bits depend on which networks are trained together
        metrics["chunks"] = [stop - start for start, stop in saver.chunks]
    if not (folder / CONFIG).is_file():  # deleted meanwhile: what was learned is kept all the same
        with saver.trying(f"{folder}", results=True):
            folder.mkdir(parents=True, exist_ok=True)
            write_config(folder, resolved(experiment.settings, experiment.data))
    saver.finish()
    with saver.trying(f"{folder / MODEL}", results=True):
        network.save(folder / MODEL, replace=True)
    if len(result.history):
        with saver.trying(f"{folder / 'curves.png'}", results=True):
            draw()
    # The last: a run with these is finished, unless something is missing that --resume can make up for.
    with saver.trying(f"{folder / METRICS}", results=True):
        write_metrics(folder, metrics | ({"interrupted": True} if saver.missing else {}))
    return metrics


@contextlib.contextmanager
def alone_in(folder: Path) -> Iterator[None]:
    """Let no second process train in a folder."""
    lock = folder / CHECKPOINTS / LOCK
    try:
        lock.parent.mkdir(exist_ok=True)
        open_regular(lock, "ab").close()
    except OSError as error:
        raise RunError(f"{lock}: cannot be written ({error.strerror}); check the folder and the space left") from None
    with only_one(lock, f"{folder}: another process trains here; wait for it, or stop it first"):
        yield
