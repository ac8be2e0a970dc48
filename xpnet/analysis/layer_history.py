"""Statistics of every layer, epoch by epoch, while :func:`xpnet.train` trains."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from xpnet.analysis.layer_statistics import MEASURES, Diagnosis, Values, diagnose
from xpnet.config.arguments import kind, takes
from xpnet.config.fields import argument, optional, whole
from xpnet.config.training import TrainConfig
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
    """The diagnosis after one epoch of a training.

    Attributes:
        epoch: Number of trained epochs; 0 is before the first step.
        step: Number of steps taken.
        eta: Learning rates (R,) of the last step, or at epoch 0 of the first step; `update_ratio` uses them.
        diagnosis: The measures.
    """

    epoch: int
    step: int
    eta: Values
    diagnosis: Diagnosis


class LayerHistory:
    """The layer statistics of a training, epoch by epoch.

    ``history["s_std"]`` is an array (epochs, R, L); ``history["loss"]``, ``"accuracy"``, ``"predicted"`` and
    ``"eta"`` are (epochs, R), ``history["epoch"]`` and ``"step"`` (epochs,).
    """

    def __init__(self) -> None:
        self.statistics: list[LayerStatistics] = []

    def __len__(self) -> int:
        return len(self.statistics)

    def __getitem__(self, name: str) -> Any:
        if name in ("epoch", "step", "eta"):
            return np.array([getattr(one, name) for one in self.statistics])
        measured = [field.name for field in dataclasses.fields(Diagnosis)]
        if name not in measured:
            raise KeyError(f"{name}: a diagnosis has {', '.join(measured)}")
        return np.array([getattr(one.diagnosis, name) for one in self.statistics])

    def to_csv(self) -> str:
        """Return a row with ``COLUMNS`` for each epoch, replica and layer; replicas from 0, layers from 1."""
        rows: list[list[Any]] = [list(COLUMNS)]
        for one in self.statistics:
            for r, layer in np.ndindex(one.diagnosis.s_std.shape):
                measures = [float(getattr(one.diagnosis, name)[r, layer]) for name in MEASURES]
                rows.append([one.epoch, one.step, r, layer + 1, float(one.eta[r]), *measures])
        return csv_lines(rows)

    def to_json(self) -> dict[str, Any]:
        """Return every array as nested lists, with None for numbers that are not finite."""
        names = ("epoch", "step", "eta", "loss", "accuracy", "predicted")
        return {name: _listed(self[name]) for name in names} | {
            "measures": {name: _listed(self[name]) for name in MEASURES}
        }


class Recorder(Callback):
    """Callback that diagnoses networks when it is created (epoch 0), and after epochs.

    Attributes:
        history: The statistics so far.
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
            samples: Samples of the training set in the batch, drawn once, the same for every network and seed; 1000 if
                not given, or all if there are fewer.
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
        self.history = LayerHistory()
        self._network, self._lam, self._every = network, config.lam, every
        length = config.length(count, network.config)
        self._last = length.epochs
        rows = np.sort(generator(0, Purpose.DIAGNOSIS_ROWS).permutation(count)[: self.samples])
        x = np.ascontiguousarray(data.transform(data.train.x[rows], str(network.dtype)))
        self._x = network.backend.asarray(x)
        self._labels = network.backend.asarray(data.train.labels[rows])
        self._take(0, 0, learning_rates(config, length, network.replicas)[0])

    def on_epoch_end(self, record: EpochRecord) -> None:
        """Diagnose the networks after an epoch, if a diagnosis is due."""
        if record.epoch % self._every == 0 or record.epoch == self._last:
            self._take(record.epoch, record.step, record.eta, np.isfinite(record.train.losses))

    def _take(self, epoch: int, step: int, eta: Values, alive: Any = True) -> None:
        diagnosis = diagnose(self._network, self._x, self._labels, self._lam, eta)
        if not np.all(alive):  # replicas that have diverged are no longer trained
            values = {name: np.array(value, float) for name, value in vars(diagnosis).items()}
            for value in values.values():
                value[~alive] = np.nan
            diagnosis = Diagnosis(**values)
        self.history.statistics.append(LayerStatistics(epoch, step, eta, diagnosis))


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
    """Train `network` in place, with the same bits as :func:`xpnet.train`, and diagnose it by epoch.

    Args:
        network: R networks of one architecture.
        data: A data set.
        config: How to train.
        samples: Number of training samples to measure; 1000 if not given, or all if there are fewer.
        every: Epochs between two diagnoses; epoch 0 and the last one always have one.
        callbacks: As of :func:`xpnet.train`, called after the epoch's diagnosis.
        orders: As of :func:`xpnet.train`.

    Returns:
        The result of :func:`xpnet.train`, and the statistics by epoch: ``history["s_std"]`` (epochs, R, L), ...

    Raises:
        ConfigError: The data, the network and the settings do not fit together.
        DivergedError: The loss became infinite or not a number, for all replicas; a :class:`Recorder` among
            the callbacks of :func:`xpnet.train` keeps the statistics before that.
    """
    config = config or TrainConfig()
    recorder = Recorder(network, data, config, samples=samples, every=every)
    result = train(network, data, config, callbacks=[recorder, *callbacks], orders=orders)
    return result, recorder.history


def _listed(values: Any) -> Any:
    """Return an array as nested lists of numbers that JSON can hold."""
    if values.ndim:
        return [_listed(value) for value in values]
    return values.item() if np.isfinite(values) else None
