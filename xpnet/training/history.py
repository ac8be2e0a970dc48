"""Figures of networks: for a set of samples, an epoch, and a run."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from operator import attrgetter
from types import NoneType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from xpnet.errors import ConfigError
from xpnet.utils.display import Displayed, mean_and_spread

Values = NDArray[np.float64]

FIGURES = ("loss", "cost", "accuracy")
# Names of the figures in the JSON output, with their fields of Metrics.
_FIELDS = {"accuracy": "accuracies", "loss": "losses", "cost": "costs"}
_SETS = ("train", "validation")
# Columns of history.csv with figures of a set, and their names in History.columns().
_METRICS = {f"{which}_{figure}": f"{which}.{_FIELDS[figure]}" for which in _SETS for figure in FIGURES}
OF_NETWORKS = ("eta", *(f"{which}.{field}" for which in _SETS for field in _FIELDS.values()))
COLUMNS = ("epoch", "step", "replica", "eta", *_METRICS, "seconds_training", "seconds_evaluation")


@dataclass(frozen=True)
class Metrics(Mapping[str, Any]):
    """Figures of R networks on one set of samples.

    It is also a mapping, in the form of the JSON output: ``metrics["accuracy"]`` is a number for
    one network, and ``{"mean", "std", "values"}`` for several, with the standard deviation of a
    sample (ddof = 1).

    Attributes:
        accuracies: Share of samples classified correctly (R,).
        losses: Mean cross-entropy (R,).
        costs: Loss + lambda * sum over layers of sum(W**2) (R,).
    """

    accuracies: Values
    losses: Values
    costs: Values

    accuracy = property(lambda self: self["accuracy"], doc="The accuracy in the form of the JSON output.")
    loss = property(lambda self: self["loss"], doc="The loss in the form of the JSON output.")
    cost = property(lambda self: self["cost"], doc="The cost in the form of the JSON output.")

    @classmethod
    def unknown(cls, replicas: int) -> Metrics:
        """Return figures that are all NaN for `replicas` networks."""
        return cls(*np.full((3, replicas), np.nan))

    @classmethod
    def joined(cls, parts: Iterable[Metrics]) -> Metrics:
        """Return the figures of several groups of networks as one object."""
        return cls(*map(np.concatenate, zip(*(part.arrays() for part in parts), strict=True)))

    def arrays(self) -> tuple[Values, Values, Values]:
        """Return accuracies, losses and costs."""
        return self.accuracies, self.losses, self.costs

    def part(self, replicas: Any) -> Metrics:
        """Return the figures of some networks, by a list of numbers or a slice."""
        return Metrics(*(values[replicas] for values in self.arrays()))

    def __getitem__(self, name: str) -> Any:
        return summary(getattr(self, _FIELDS[name]))

    def __iter__(self) -> Iterator[str]:
        return iter(_FIELDS)

    def __len__(self) -> int:
        return len(_FIELDS)


def running_metrics(loss: Values, correct: NDArray[np.int64], penalty: Values, sizes: Values, lam: Values) -> Metrics:
    """Return the running figures of an epoch, from each batch before its step.

    Args:
        loss: Sum of the samples' losses (k, R) of k batches.
        correct: Samples classified correctly (k, R).
        penalty: Sum over layers of sum(W**2) (k, R).
        sizes: Samples of each batch (k,).
        lam: Strength of the penalty (R,).
    """
    seen = sizes.sum()
    mean_loss = loss.sum(axis=0) / seen
    with np.errstate(all="ignore"):  # 0 times infinity, for a diverged replica
        costs = mean_loss + lam * (sizes @ penalty) / seen
    return Metrics(correct.sum(axis=0) / seen, mean_loss, costs)


def summary(values: Values) -> Any:
    """Return a single value as a number, several as their mean, standard deviation (ddof = 1) and values.

    Values that are not finite, of networks that diverged, become None and do not count.
    """
    if values.size == 1:
        return _finite(values.reshape(()))
    good = values[np.isfinite(values)]
    with np.errstate(over="ignore"):  # sums and squares of costs near the largest floating number
        return {
            "mean": _finite(good.mean()) if good.size else None,
            "std": _finite(good.std(ddof=1)) if good.size > 1 else None,
            "values": [_finite(value) for value in values],
        }


def _finite(value: Any) -> float | None:
    """Return a finite float, or None for other values, which JSON lacks."""
    return float(value) if np.isfinite(value) else None


@dataclass(frozen=True)
class EpochRecord:
    """One epoch.

    Attributes:
        epoch: Counted from 1.
        step: Steps taken since the start.
        eta: Learning rates of the epoch's last step (R,).
        train: Figures on the training set, running or from a full pass.
        validation: Figures on the validation set, with the running statistics.
        seconds_training: Wall time of the steps.
        seconds_evaluation: Wall time of the full passes.
    """

    epoch: int
    step: int
    eta: Values
    train: Metrics
    validation: Metrics
    seconds_training: float
    seconds_evaluation: float

    def rows(self) -> list[list[Any]]:
        """Return a row in the order of ``COLUMNS`` for each replica."""
        values = np.stack([self.eta, *(attrgetter(name)(self) for name in _METRICS.values())], axis=1)
        seconds = self.seconds_training, self.seconds_evaluation
        return [[self.epoch, self.step, r, *row, *seconds] for r, row in enumerate(values.tolist())]


class History(Displayed):
    """The epochs of a run.

    ``history["train_loss"]`` is an array (epochs,) for one network and (epochs, R) for several; so are ``eta``,
    ``train_cost``, ``train_accuracy``, ``validation_loss``, ``validation_cost`` and ``validation_accuracy``.
    ``epoch``, ``step``, ``seconds_training`` and ``seconds_evaluation`` are (epochs,).

    Args:
        initial_eta: Learning rates of the first step (R,).
        columns: Epochs at the beginning, as :meth:`columns` returns them.

    Attributes:
        initial_eta: Learning rates of the first step (R,).
        epochs: A record for each epoch.

    Raises:
        ConfigError: An argument is not of its type.
    """

    def __init__(self, initial_eta: Values, columns: Mapping[str, NDArray[Any]] | None = None) -> None:
        if getattr(initial_eta, "ndim", 0) != 1 or not isinstance(columns, (Mapping, NoneType)):
            raise ConfigError("initial_eta, columns: must be an array (R,), and what columns() of a history returns")
        self.initial_eta = initial_eta
        self.epochs: list[EpochRecord] = []
        # Arrays that grow by doubling, so that saving a long history at each epoch only copies bytes.
        self._columns: dict[str, NDArray[Any]] = {"step": np.empty(0, np.int64), "seconds": np.empty((0, 2))}
        self._columns |= {name: np.empty((0, len(initial_eta))) for name in OF_NETWORKS}
        for record in records_of(columns) if columns else []:
            self.append(record)

    def append(self, record: EpochRecord) -> None:
        """Add an epoch."""
        place = len(self.epochs)
        if place == len(self._columns["step"]):
            for name, column in self._columns.items():
                room = np.empty((max(16, place), *column.shape[1:]), column.dtype)
                self._columns[name] = np.concatenate([column, room])
        self.epochs.append(record)
        for name in ("step", *OF_NETWORKS):
            self._columns[name][place] = attrgetter(name)(record)
        self._columns["seconds"][place] = record.seconds_training, record.seconds_evaluation

    def columns(self) -> dict[str, NDArray[Any]]:
        """Return all recorded epochs as arrays, which later epochs do not change.

        Returns:
            ``step`` (E,) and ``seconds`` (E, 2), of training and of evaluation; ``eta`` (E, R) and, for ``train`` and
            ``validation``, ``train.accuracies``, ``train.losses`` and ``train.costs`` (E, R).
        """
        return {name: column[: len(self.epochs)] for name, column in self._columns.items()}

    def part(self, members: list[int], share: float = 1.0) -> History:
        """Return the history of some networks, with a `share` of the wall times."""
        columns = self.columns()
        own = {name: columns[name][:, members] for name in OF_NETWORKS}
        return History(self.initial_eta[members], {**columns, **own, "seconds": columns["seconds"] * share})

    def __len__(self) -> int:
        return len(self.epochs)

    def __getitem__(self, column: str) -> NDArray[Any]:
        if not isinstance(column, str) or column not in COLUMNS or column == "replica":
            raise KeyError(f"{column}: a history has {', '.join(c for c in COLUMNS if c != 'replica')}")
        if column == "epoch":
            return np.arange(1, len(self) + 1)
        columns = self.columns()
        if column.startswith("seconds"):
            return columns["seconds"][:, int(column == "seconds_evaluation")].copy()
        values = columns[_METRICS.get(column, column)]
        return (values[:, 0] if values.ndim == 2 and values.shape[1] == 1 else values).copy()

    def _facts(self) -> Mapping[str, str]:
        if not self.epochs:
            return {"epochs": "0"}
        last = self.epochs[-1]
        names = [f"{which}_{figure}" for which in _SETS for figure in ("loss", "accuracy")]
        values = {name: mean_and_spread(self[name][-1:].reshape(-1).tolist()) for name in names}
        return {"epochs": str(len(self)), "steps": str(last.step)} | values

    def _curves(self) -> Mapping[str, Sequence[float]]:
        losses = {f"{which} loss": self.columns()[f"{which}.losses"] for which in _SETS}
        return {name: values.mean(axis=1).tolist() for name, values in losses.items()}

    def to_csv(self) -> str:
        """Return the history as CSV with a header: one row for each epoch and replica."""
        return csv_lines([list(COLUMNS)]) + "".join(csv_lines(record.rows()) for record in self.epochs)


def records_of(columns: Mapping[str, NDArray[Any]]) -> list[EpochRecord]:
    """Return the epochs in `columns`; see :meth:`History.columns`."""
    records = []
    for place, step in enumerate(columns["step"]):
        train, validation = (
            Metrics(*(columns[f"{which}.{field}"][place] for field in _FIELDS.values())) for which in _SETS
        )
        seconds = map(float, columns["seconds"][place])
        records.append(EpochRecord(place + 1, int(step), columns["eta"][place], train, validation, *seconds))
    return records


def columns_of(history: Mapping[str, Values]) -> dict[str, NDArray[Any]]:
    """Return the columns of ``history.csv``, (epochs,) or (epochs, R), as :meth:`History.columns` names them."""
    seconds = np.stack([history["seconds_training"], history["seconds_evaluation"]], axis=1)
    metrics = {key: history[name] for name, key in _METRICS.items()}
    return {"step": history["step"], "eta": history["eta"], "seconds": seconds, **metrics}


def evenly(count: int, most: int) -> NDArray[np.int64]:
    """Return at most `most` evenly spaced positions from 0 to `count` - 1, with the first and the last."""
    if count <= most:
        return np.arange(count)
    return np.linspace(0, count - 1, max(2, most)).round().astype(np.int64)


def csv_lines(rows: list[list[Any]]) -> str:
    """Return rows as CSV; numbers are written so that reading them gives the same bits."""
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(rows)
    return text.getvalue()
