"""A run of ``xpnet train``: validated before it has a folder, alone in its folder, saved while it trains."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from xpnet.config.settings import Settings
from xpnet.errors import RunError
from xpnet.runs.folder import CHECKPOINTS
from xpnet.utils.file_system import open_regular
from xpnet.utils.locks import only_one

if TYPE_CHECKING:
    from xpnet.backend import Backend
    from xpnet.data import Dataset
    from xpnet.runs.resume import ResumePoint
    from xpnet.runs.saver import Saver
    from xpnet.training.population import Population
    from xpnet.training.state import Chunk, TrainState


def describe(settings: Settings, data: Dataset) -> str:
    """Return a run in a few words: data, split, sizes, normalisation, lambda, what varies, runs."""
    return f"{data.name} {data.split}, {settings.in_words(data.features, data.classes)}"


def about_data(data: Dataset, settings: Settings) -> str:
    """Say which data is used, and how to get CIFAR-10 where the embedded default took its place."""
    built_in = data.location.startswith("patterns")
    about = f"data: {data.name}, {'built in' if built_in else f'from {data.location}'}, split {data.split}"
    if settings.data.data is None and data.name == "patterns":
        from xpnet.data import CIFAR10_HINT

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
        from xpnet.backend import get_backend
        from xpnet.data import as_earlier, fingerprint, load_data
        from xpnet.nn.network import Network
        from xpnet.training.population import Population
        from xpnet.training.validate import check_fit, check_stepper

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
        from xpnet.nn.model_file import description
        from xpnet.runs.checkpoints import check_description
        from xpnet.training.population import check_metrics
        from xpnet.training.validate import check_names

        data, population = self.data, self.population
        check_names(population.network, population.seeds, data)
        names = data.class_names, data.image_shape, data.feature_names
        network = description(population.network, population.seeds, *names)
        check_description({**self.about, "network": network}, len(population))
        check_metrics(population, self.settings.train.length(len(data.train)).epochs)


@contextlib.contextmanager
def alone_in(folder: Path) -> Iterator[None]:
    """Let no second process train in a folder."""
    from xpnet.runs.saver import LOCK

    lock = folder / CHECKPOINTS / LOCK
    try:
        lock.parent.mkdir(exist_ok=True)
        open_regular(lock, "ab").close()
    except OSError as error:
        raise RunError(f"{lock}: cannot be written ({error.strerror}); check the folder and the space left") from None
    with only_one(lock, f"{folder}: another process trains here; wait for it, or stop it first"):
        yield


def saver_of(experiment: Experiment, folder: Path, note: Callable[[str], None], stand: ResumePoint) -> Saver:
    """Return what saves a run, with what every checkpoint says of it."""
    from xpnet.runs.saver import Saver

    run, saved = experiment.settings.run, stand.step if stand.starts else None
    return Saver(folder, experiment.about, every=run.save_every, count=run.keep, warn=note, saved=saved)


def save_in_chunks(experiment: Experiment, saver: Saver, starts: Mapping[Chunk, TrainState]) -> None:
    """Save chunks as they stand, each in a folder of its own, and then forget those of other cuts.

    Raises:
        OSError: One cannot be written; nothing is forgotten.
    """
    from xpnet.nn.network import Network

    for chunk, start in starts.items():
        part = experiment.population.part(*chunk)
        network = Network(part.network, dtype=experiment.settings.run.dtype, seed=part.seeds)
        network.learn_about(experiment.data)
        saver.save(chunk, network, start)
    saver.forget_other_chunks()
