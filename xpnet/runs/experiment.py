"""A run of ``xpnet train``: its validation, which comes before its folder, and its training."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

from xpnet.backend import Backend, get_backend
from xpnet.config.length import Length
from xpnet.config.settings import Settings
from xpnet.data import CIFAR10_HINT, Dataset, Transform, as_earlier, fingerprint, load_data
from xpnet.data.folds import make_folds
from xpnet.errors import DivergedError, RunError
from xpnet.nn.model_description import description
from xpnet.nn.network import Network
from xpnet.ops import rounds_products
from xpnet.runs.checkpoints import check_description
from xpnet.runs.folder import CHECKPOINTS, LOCK
from xpnet.runs.resume import ResumePoint
from xpnet.training.callback import Callback
from xpnet.training.population import Population, check_metrics
from xpnet.training.result import TrainResult
from xpnet.training.train_population import train_population
from xpnet.training.validate import check_fit, check_folds, check_names, check_stepper
from xpnet.utils.file_system import open_regular
from xpnet.utils.locks import only_one

# Settings of which the transform is a function.
_FITTED = ("pool", "pca", "pca_eps", "numeric", "max_categories", "drop_columns")


def describe(settings: Settings, data: Dataset) -> str:
    """Return a run in a few words: data, split, sizes, normalisation, lambda, settings that vary, runs."""
    return f"{data.name} {data.split}, {settings.in_words(data.inputs, data.classes)}"


def about_data(data: Dataset, settings: Settings) -> str:
    """Return a sentence on the data, with advice on getting CIFAR-10 if the built-in default replaces it."""
    source = "built in" if data.location.startswith("patterns") else f"from {data.location}"
    lines = [f"data: {data.name}, {source}, split {data.split}"]
    if settings.data.data is None and data.name == "patterns":
        lines.append(f"CIFAR-10 is not on this machine: {CIFAR10_HINT}")
    return "\n".join((*lines, *data.notes))


def resolved(settings: Settings, data: Dataset) -> dict[str, Any]:
    """Return the settings with the resolved location of the data, so that they do not depend on the folder."""
    target = settings.data.target
    if target is not None and data.location.endswith(".npy"):
        target = str(Path(target).expanduser().resolve())  # the file of the labels
    location = dataclasses.replace(settings.data, data=data.location, split=data.split, target=target)
    return dataclasses.replace(settings, data=location).to_mapping()


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
        """Return a validated run; the data is loaded.

        Args:
            settings: The settings of the run.
            note: Called with sentences on the device and the data.
            seen: The fingerprint of the data with which the run began, if it is resumed.

        Raises:
            XpnetError: A setting, the data or the device cannot be used.
        """
        backend = get_backend(settings.run.device, tf32=settings.run.tf32)
        note(f"device: {backend.notice}")
        if settings.train.bf16 and not rounds_products(backend, settings.run.dtype):
            note("bf16: needs a CPU with AVX-512 BF16, Numba and float32; products are as usual here")
        data = as_earlier(load_data(settings.data), seen)
        note(about_data(data, settings))
        population = Population.of(settings, data.inputs, data.classes)
        experiment = cls(settings, backend, data, fingerprint(data), population)
        for first in population.of_each_init():
            check_fit(Network(first.network, dtype=settings.run.dtype, seed=first.seeds), data, first.train)
        if settings.train.stepper != "auto":
            check_stepper(experiment.network(population, backend), data, population.train)
        experiment.check_folds()
        experiment.check_files()
        return experiment

    @property
    def title(self) -> str:
        """The run in a few words."""
        return describe(self.settings, self.data)

    @property
    def config(self) -> dict[str, Any]:
        """The content of ``config.toml``."""
        return resolved(self.settings, self.data)

    @property
    def length(self) -> Length:
        """Length of the training in steps and epochs."""
        return self.settings.train.length(len(self.data.train), self.population.network)

    @property
    def compares(self) -> bool:
        """Whether settings other than the seed vary."""
        return bool(self.settings.varying.keys() - {"seed"})

    @property
    def about(self) -> dict[str, Any]:
        """Settings, data and length, as every checkpoint's description has them."""
        length = {"steps": self.length.steps, "steps_per_epoch": self.length.steps_per_epoch}
        return {"settings": self.config, "data": self.fingerprint, "length": length}

    def network(self, population: Population, backend: Backend | None = None) -> Network:
        """Return the untrained networks of a part of the population."""
        return Network(population.network, backend=backend, dtype=self.settings.run.dtype, seed=population.seeds)

    def check_folds(self) -> None:
        """Refuse a cross-validation for which the training set is too small.

        Raises:
            DataError: There are fewer rows than folds, or fewer rows of a class.
            ConfigError: The settings do not fit the rows of a fold.
        """
        run, data, population = self.settings.run, self.data, self.population
        if run.cv is None:
            return
        seed, names = self.settings.data.data_seed or 0, data.class_names
        make_folds(data.train.labels, run.cv, seed=seed, stratified=run.stratify, class_names=names)
        check_folds(population.network, len(population), data, population.train, run.cv)

    def check_files(self) -> None:
        """Refuse a training whose files would be too large to be read again.

        Raises:
            ConfigError: A file would exceed its limit for reading.
        """
        data, population = self.data, self.population
        check_names(population.network, population.seeds, data)
        names = data.class_names, data.image_shape, data.feature_names, data.transform
        network = description(population.network, population.seeds, *names)
        check_description({**self.about, "network": network}, len(population))
        check_metrics(population, self.length.epochs, self.settings.run.cv or 0)

    def _data_at(self, point: ResumePoint) -> Dataset:
        """Return the data with the transform that the training began with: another fit may round otherwise."""
        tensors = next((start.transform for start in point.starts.values() if start.transform), {})
        known = self.settings.to_mapping()
        if not tensors or any(point.settings.get(name) != known.get(name) for name in _FITTED):
            return self.data
        if point.data != self.fingerprint:  # other data, which the user has allowed, has a transform of its own
            return self.data
        encoder = self.data.transform.encoder
        about = None if encoder is None else encoder.description()
        transform = Transform.of(tensors, self.data.image_shape, self.settings.data.pool, about)
        return dataclasses.replace(self.data, transform=transform or self.data.transform)

    def train(self, folder: Path, point: ResumePoint, callbacks: Sequence[Callback]) -> tuple[Network, TrainResult]:
        """Return the trained networks and the result, for a training from `point` to the end.

        Raises:
            DivergedError: All networks have diverged.
        """
        try:
            return train_population(
                self.population,
                self._data_at(point),
                backend=self.backend,
                dtype=self.settings.run.dtype,
                max_replicas=self.settings.run.max_replicas,
                callbacks=callbacks,
                cuts=point.chunks or None,
                starts=point.starts,
            )
        except DivergedError as error:
            raise DivergedError(f"{error}; {folder} holds the epochs before it") from None


@contextlib.contextmanager
def alone_in(folder: Path) -> Iterator[None]:
    """Keep other processes from training in the same folder.

    Raises:
        RunError: Another process trains there, or the lock cannot be written.
    """
    lock = folder / CHECKPOINTS / LOCK
    try:
        lock.parent.mkdir(exist_ok=True)
        open_regular(lock, "ab").close()
    except OSError as error:
        raise RunError(f"{lock}: cannot be written ({error.strerror}); check the folder and the space left") from None
    with only_one(lock, f"{folder}: another process trains here; wait for it, or stop it first"):
        yield
