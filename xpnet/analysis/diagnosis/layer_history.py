"""Diagnosis by epoch: what :func:`xpnet.diagnose` measures before training and after its epochs."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from xpnet.analysis.diagnosis.layer_statistics import MEASURES, Diagnosis, Values, diagnose
from xpnet.config.arguments import kind, takes
from xpnet.config.definitions import TrainConfig
from xpnet.config.fields import argument, optional, whole
from xpnet.data import Dataset
from xpnet.errors import ConfigError
from xpnet.nn.network import Network
from xpnet.training.callback import Callback, callbacks_of
from xpnet.training.history import EpochRecord, csv_lines
from xpnet.training.result import TrainResult
from xpnet.training.schedules import learning_rates
from xpnet.training.train import train
from xpnet.training.validate import check_fit
from xpnet.utils.rng import Purpose, generator

SAMPLES = 1000
COLUMNS = ("epoch", "step", "replica", "layer", "eta", *MEASURES)


@dataclass(frozen=True)
class LayerStatistics:
    """One diagnosis of a training.

    Attributes:
        epoch: Epochs that were trained; 0 is before the first step.
        step: Steps that were taken.
        eta: Learning rates (R,) of the last step, at epoch 0 of the first one; `update_ratio` is by these.
        diagnosis: The measures.
    """

    epoch: int
    step: int
    eta: Values
    diagnosis: Diagnosis


class LayerHistory:
    """The moments of a training.

    ``course["s_std"]`` is an array (moments, R, L); ``course["loss"]``, ``"accuracy"``, ``"predicted"`` and
    ``"eta"`` are (moments, R), ``course["epoch"]`` and ``"step"`` (moments,).
    """

    def __init__(self) -> None:
        self.moments: list[LayerStatistics] = []

    def __len__(self) -> int:
        return len(self.moments)

    def __getitem__(self, name: str) -> Any:
        if name in ("epoch", "step", "eta"):
            return np.array([getattr(moment, name) for moment in self.moments])
        if name not in {field.name for field in dataclasses.fields(Diagnosis)}:
            raise KeyError(f"{name}: a diagnosis has {', '.join(f.name for f in dataclasses.fields(Diagnosis))}")
        return np.array([getattr(moment.diagnosis, name) for moment in self.moments])

    def to_csv(self) -> str:
        """Return a row with ``COLUMNS`` for each moment, replica and layer; replicas from 0, layers from 1."""
        rows: list[list[Any]] = [list(COLUMNS)]
        for moment in self.moments:
            replicas, layers = moment.diagnosis.s_std.shape
            rows += [
                [moment.epoch, moment.step, r, layer + 1, float(moment.eta[r])]
                + [float(getattr(moment.diagnosis, name)[r, layer]) for name in MEASURES]
                for r in range(replicas)
                for layer in range(layers)
            ]
        return csv_lines(rows)

    def to_json(self) -> dict[str, Any]:
        """Return every array as nested lists, with None for what is not a number."""
        names = ("epoch", "step", "eta", "loss", "accuracy", "predicted")
        return {name: _listed(self[name]) for name in names} | {
            "measures": {name: _listed(self[name]) for name in MEASURES}
        }


class Recorder(Callback):
    """Callback that takes a diagnosis when it is made, as epoch 0, and after epochs.

    Attributes:
        course: What was measured so far.
        samples: Number of samples n in the batch.
    """

    def __init__(
        self,
        network: Network,
        data: Dataset,
        config: TrainConfig,
        *,
        samples: int | None = None,
        every: int = 1,
    ) -> None:
        """Diagnose `network` before its training.

        Args:
            network: R networks, not trained yet.
            data: The data that it will be trained on.
            config: How it will be trained.
            samples: Samples of the training set in the batch, drawn once, the same for every network and seed;
                1000 if not given, or all there are.
            every: Epochs between two diagnoses; the last epoch always has one.

        Raises:
            ConfigError: `samples` or `every` is out of its range.
        """
        check_fit(network, data, config)
        count = len(data.train)
        self.samples = min(SAMPLES, count) if samples is None else argument("samples", samples, whole(0))
        if not 2 <= self.samples <= count:
            raise ConfigError(f"samples = {samples}: must be from 2 to {count:,}, which the training set has")
        every = argument("every", every, whole(1))
        self.course = LayerHistory()
        self._network, self._lam, self._every = network, config.lam, every
        length = config.length(count)
        self._epochs = length.epochs
        rows = np.sort(generator(0, Purpose.DIAGNOSIS_ROWS).permutation(count)[: self.samples])
        x = np.ascontiguousarray(data.standardiser(data.train.x[rows], str(network.dtype)))
        self._x = network.backend.asarray(x)
        self._labels = network.backend.asarray(data.train.labels[rows])
        self._take(0, 0, learning_rates(config, length, network.replicas)[0])

    def on_epoch_end(self, record: EpochRecord) -> None:
        """Take the diagnosis of an epoch that is due."""
        if record.epoch % self._every == 0 or record.epoch == self._epochs:
            self._take(record.epoch, record.step, record.eta, np.isfinite(record.train.losses))

    def _take(self, epoch: int, step: int, eta: Values, alive: Any = True) -> None:
        found = diagnose(self._network, self._x, self._labels, self._lam, eta)
        if not np.all(alive):
            found = _without(found, ~alive)
        self.course.moments.append(LayerStatistics(epoch, step, eta, found))


@takes(network=kind(Network), data=kind(Dataset), config=optional(kind(TrainConfig)), callbacks=callbacks_of)
def train_with_diagnosis(
    network: Network,
    data: Dataset,
    config: TrainConfig | None = None,
    *,
    samples: int | None = None,
    every: int = 1,
    callbacks: Sequence[Callback] = (),
    orders: Sequence[int] | None = None,
) -> tuple[TrainResult, LayerHistory]:
    """Train `network` in place as :func:`xpnet.train` does, to the same bits, with a diagnosis by epoch.

    Args:
        network: R networks of one architecture.
        data: A data set.
        config: How to train.
        samples: Samples of the training set that are measured; 1000 if not given, or all there are.
        every: Epochs between two diagnoses; epoch 0 and the last one always have one.
        callbacks: As of :func:`xpnet.train`, called after the epoch's diagnosis.
        orders: As of :func:`xpnet.train`.

    Returns:
        What :func:`xpnet.train` returns, and the measures by epoch: ``course["s_std"]`` (moments, R, L), ...

    Raises:
        ConfigError: The data, the network and the settings do not fit together.
        DivergedError: The loss became infinite or not a number, for all replicas; a :class:`Recorder` among
            the callbacks of :func:`xpnet.train` keeps what was measured before that.
    """
    config = config or TrainConfig()
    recorder = Recorder(network, data, config, samples=samples, every=every)
    result = train(network, data, config, callbacks=[recorder, *callbacks], orders=orders)
    return result, recorder.course


def _without(found: Diagnosis, diverged: Any) -> Diagnosis:
    """Return a diagnosis that is not a number for replicas that have diverged, which are no longer trained."""
    values = {field.name: getattr(found, field.name).astype(float) for field in dataclasses.fields(found)}
    for value in values.values():
        value[diverged] = np.nan
    return Diagnosis(**values)


def _listed(values: Any) -> Any:
    """Return an array as nested lists of numbers that JSON can hold."""
    if isinstance(values, np.ndarray) and values.ndim:
        return [_listed(value) for value in values]
    return (values.item() if np.isfinite(values) else None) if isinstance(values, (np.ndarray, np.generic)) else values
