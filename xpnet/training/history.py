"""What a run records: one row for each epoch, and the figures at its end."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from types import NoneType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from xpnet.errors import ConfigError

Values = NDArray[np.float64]

FIGURES = ("loss", "cost", "accuracy")
COLUMNS = (
    "epoch",
    "step",
    "replica",
    "eta",
    *(f"{which}_{figure}" for which in ("train", "validation") for figure in FIGURES),
    "seconds_training",
    "seconds_evaluation",
)


@dataclass(frozen=True)
class Metrics(Mapping[str, Any]):
    """Figures of R networks on one set of samples.

    Reads as a mapping too, in the form of the JSON output: ``metrics["accuracy"]`` is a number for
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

    def part(self, replicas: list[int]) -> Metrics:
        """Return the figures of some networks."""
        return Metrics(self.accuracies[replicas], self.losses[replicas], self.costs[replicas])

    @property
    def accuracy(self) -> Any:
        """The accuracy in the form of the JSON output."""
        return summary(self.accuracies)

    @property
    def loss(self) -> Any:
        """The loss in the form of the JSON output."""
        return summary(self.losses)

    @property
    def cost(self) -> Any:
        """The cost in the form of the JSON output."""
        return summary(self.costs)

    def __getitem__(self, name: str) -> Any:
        if name not in FIGURES:
            raise KeyError(name)
        return getattr(self, name)

    def __iter__(self) -> Iterator[str]:
        return iter(("accuracy", "loss", "cost"))

    def __len__(self) -> int:
        return len(FIGURES)


def running_metrics(loss: Values, correct: NDArray[np.int64], penalty: Values, sizes: Values, lam: Values) -> Metrics:
    """Return figures as they were met during an epoch, each batch before its step.

    Args:
        loss: Sum of the samples' losses (k, R) of k batches.
        correct: Samples classified correctly (k, R).
        penalty: Sum over layers of sum(W**2) (k, R).
        sizes: Samples of each batch (k,).
        lam: Strength of the penalty (R,).
    """
    seen = sizes.sum()
    mean_loss = loss.sum(axis=0) / seen
    with np.errstate(all="ignore"):  # 0 times infinity, of a replica that has diverged
        costs = mean_loss + lam * (sizes @ penalty) / seen
    return Metrics(correct.sum(axis=0) / seen, mean_loss, costs)


def summary(values: Values) -> Any:
    """Return one value as a number, several as their mean, standard deviation (ddof = 1) and values.

    Values that are not finite, of networks that diverged, become None and do not count.
    """
    if values.size == 1:
        return _finite(values.reshape(()))
    good = values[np.isfinite(values)]
    with np.errstate(over="ignore"):  # sums and squares of costs next to the largest number
        return {
            "mean": _finite(good.mean()) if good.size else None,
            "std": _finite(good.std(ddof=1)) if good.size > 1 else None,
            "values": [_finite(value) for value in values],
        }


def _finite(value: Any) -> float | None:
    """Return a float, or None for what JSON cannot hold."""
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
        return [
            [
                self.epoch,
                self.step,
                r,
                float(self.eta[r]),
                *(
                    float(figures[r])
                    for metrics in (self.train, self.validation)
                    for figures in (metrics.losses, metrics.costs, metrics.accuracies)
                ),
                self.seconds_training,
                self.seconds_evaluation,
            ]
            for r in range(len(self.eta))
        ]


# Columns of a history that are the epoch's own, with their shape for one epoch; others have a figure for each network.
_OF_EPOCH: dict[str, tuple[tuple[int, ...], type]] = {"step": ((), np.int64), "seconds": ((2,), np.float64)}
_OF_METRICS = {"accuracy": "accuracies", "loss": "losses", "cost": "costs"}
_OF_SETS = tuple((which, figure) for which in ("train", "validation") for figure in _OF_METRICS.values())
OF_NETWORKS = ("eta", *(f"{which}.{figure}" for which, figure in _OF_SETS))


class History:
    """The epochs of a run.

    ``history["train_loss"]`` is an array (epochs,) for one network and (epochs, R) for several; so are ``eta``,
    ``train_cost``, ``train_accuracy``, ``validation_loss``, ``validation_cost`` and ``validation_accuracy``.
    ``epoch``, ``step``, ``seconds_training`` and ``seconds_evaluation`` are (epochs,).

    Args:
        initial_eta: Learning rates of the first step (R,).
        columns: Epochs that it begins with, as :meth:`columns` returns them.

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
        # As arrays too, with room to grow, so that saving a long history at each epoch is a matter of copying bytes.
        shapes = {**_OF_EPOCH, **dict.fromkeys(OF_NETWORKS, (initial_eta.shape, np.float64))}
        self._columns = {name: np.empty((0, *shape), dtype) for name, (shape, dtype) in shapes.items()}
        for record in [] if not columns else records_of(columns):
            self.append(record)

    def append(self, record: EpochRecord) -> None:
        """Add an epoch."""
        place = len(self.epochs)
        if place == len(self._columns["step"]):
            self._columns = {
                name: np.concatenate([column, np.empty((max(16, place), *column.shape[1:]), column.dtype)])
                for name, column in self._columns.items()
            }
        self.epochs.append(record)
        columns = self._columns
        columns["step"][place], columns["eta"][place] = record.step, record.eta
        columns["seconds"][place] = record.seconds_training, record.seconds_evaluation
        for which, figure in _OF_SETS:
            columns[f"{which}.{figure}"][place] = getattr(getattr(record, which), figure)

    def columns(self) -> dict[str, NDArray[Any]]:
        """Return what is recorded so far; epochs to come do not change it.

        Returns:
            ``step`` (E,) and ``seconds`` (E, 2), of training and of evaluation; ``eta`` (E, R) and, for ``train`` and
            ``validation``, ``train.accuracies``, ``train.losses`` and ``train.costs`` (E, R).
        """
        return {name: column[: len(self.epochs)] for name, column in self._columns.items()}

    def __len__(self) -> int:
        return len(self.epochs)

    def __getitem__(self, column: str) -> NDArray[Any]:
        if not isinstance(column, str) or column not in COLUMNS or column == "replica":
            raise KeyError(f"{column}: a history has {', '.join(c for c in COLUMNS if c != 'replica')}")
        which, _, figure = column.partition("_")
        found = self.columns()
        if column == "epoch":
            return np.arange(1, len(self) + 1)
        if which == "seconds":
            return found["seconds"][:, ("training", "evaluation").index(figure)].copy()
        values = found[f"{which}.{_OF_METRICS[figure]}" if figure in _OF_METRICS else column]
        return (values[:, 0] if values.ndim == 2 and values.shape[1] == 1 else values).copy()

    def to_csv(self) -> str:
        """Return the history as CSV with a header: one row for each epoch and replica."""
        return csv_lines([list(COLUMNS)]) + "".join(csv_lines(record.rows()) for record in self.epochs)


def records_of(columns: Mapping[str, NDArray[Any]]) -> list[EpochRecord]:
    """Return the epochs that columns tell of; see :meth:`History.columns`."""
    records = []
    for place, step in enumerate(columns["step"]):
        train, validation = (
            Metrics(*(columns[f"{which}.{figure}"][place] for figure in _OF_METRICS.values()))
            for which in ("train", "validation")
        )
        training, evaluation = columns["seconds"][place]
        eta = columns["eta"][place]
        records.append(EpochRecord(place + 1, int(step), eta, train, validation, float(training), float(evaluation)))
    return records


def columns_of(found: Mapping[str, NDArray[np.float64]]) -> dict[str, NDArray[Any]]:
    """Return the columns of ``history.csv``, (epochs,) or (epochs, R), as :meth:`History.columns` names them."""
    names = {column: figure for figure, column in _OF_METRICS.items()}
    columns = {f"{which}.{column}": found[f"{which}_{names[column]}"] for which, column in _OF_SETS}
    seconds = np.stack([found["seconds_training"], found["seconds_evaluation"]], axis=1)
    return {"step": found["step"], "eta": found["eta"], "seconds": seconds, **columns}


def evenly(count: int, most: int) -> NDArray[np.int64]:
    """Return at most `most` of the places 0 to `count` - 1, evenly spaced, the first and the last among them."""
    if count <= most:
        return np.arange(count)
    return np.linspace(0, count - 1, max(2, most)).round().astype(np.int64)


def csv_lines(rows: list[list[Any]]) -> str:
    """Return rows as CSV; numbers are written so that reading them gives the same bits."""
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(rows)
    return text.getvalue()
