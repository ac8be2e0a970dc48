"""The parameters of the estimator: those of its own, and every setting of a network, its training and its columns.

Settings are defined once, as fields of :class:`~xpnet.NetworkConfig` and :class:`~xpnet.TrainConfig`.
:func:`with_settings` appends them to the signature of the estimator, so a new field is a new parameter without any
change here.  The settings in :data:`_ELSEWHERE` are left out: the estimator determines them itself.
"""

from __future__ import annotations

import dataclasses
import functools
import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

import numpy as np

from xpnet.config.definitions import DataConfig, NetworkConfig
from xpnet.config.training import TrainConfig

Estimator = TypeVar("Estimator", bound=type)

_ELSEWHERE = {
    "inputs", "classes",  # follow from X and y
    "flip", "shift", "border", "cutout", "views",  # are for pictures, and the rows of X are none
    "shuffle_seed",  # follows from random_state
    "patience", "restore",  # follow from early_stopping and n_iter_no_change
}  # fmt: skip
# Settings of the data that are parameters too.
_ENCODING = ("numeric", "max_categories")
# Settings by the number of rows.  Batches, epochs and the penalty were chosen by accuracy and log-loss on digits,
# breast_cancer, wine, iris and four tables of make_classification (1,500 to 20,000 rows, with and without noise in the
# labels): small batches helped most, since their noise regularises.  The learning rate, dropout, and what is done where
# rows are scarce, were chosen on the sets that bench/quality/sets.py calls those of choosing, and on 1,200 rows of
# larger ones: without dropout, networks of few rows are far too sure.  Scarce rows are also few for each input; there,
# dropout of inputs and fewer epochs helped most, and with more rows for each input they did not help.
_PENALTY, _LEAST_LAM, _MOST_LAM = 0.12, 3e-4, 5e-3
_SMALLEST_BATCH, _LARGEST_BATCH, _MOST_STEPS_AN_EPOCH = 32, 256, 800
_STEPS, _FEWEST_EPOCHS, _MOST_EPOCHS = 4000, 15, 60
_RATE, _MOST_RATE, _RATE_OF_ADAPTIVE = 0.03, 0.1, 0.003
# Dropout below so many rows; none from the last of them on.
_DROPOUT = ((1000, 0.4), (20_000, 0.2))
# Rows are scarce below a number, if they are also below another for each input.
_SCARCE, _SCARCE_BY_INPUT, _SCARCE_EPOCHS, _INPUT_DROPOUT = 2000, 50, 36, 0.1
# Units of a layer that can spare so many outputs, and inputs that can be spared.
_WIDE_ENOUGH, _MANY_INPUTS = 64, 16


def encoding(estimator: Any) -> dict[str, Any]:
    """Return how an estimator encodes the columns of a table: arguments of :meth:`xpnet.data.Transform.fit`."""
    config = DataConfig(**{name: getattr(estimator, name) for name in _ENCODING})
    return {name: getattr(config, name) for name in _ENCODING}


def settings_of(kind: type) -> dict[str, dataclasses.Field[Any]]:
    """Return the fields of a settings class that are parameters of the estimator, by name."""
    return {field.name: field for field in dataclasses.fields(kind) if field.name not in _ELSEWHERE}


def with_settings(**defaults: Any) -> Callable[[Estimator], Estimator]:
    """Return a decorator that gives an estimator a parameter for every setting that its ``__init__`` does not name.

    The ``__init__`` takes them as ``**settings``, and gets all of them.  `defaults` differ from those of the settings.
    """

    def decorate(estimator: Estimator) -> Estimator:
        init = estimator.__init__  # type: ignore[misc]
        signature = inspect.signature(init)
        named = [one for one in signature.parameters.values() if one.kind is not inspect.Parameter.VAR_KEYWORD]
        of_data = {field.name: field for field in dataclasses.fields(DataConfig) if field.name in _ENCODING}
        fields = settings_of(NetworkConfig) | settings_of(TrainConfig) | of_data
        others = {name: field for name, field in fields.items() if name not in signature.parameters}
        values = {name: defaults.get(name, field.default) for name, field in others.items()}
        keyword = inspect.Parameter.KEYWORD_ONLY
        every = [*named, *(inspect.Parameter(name, keyword, default=value) for name, value in values.items())]

        @functools.wraps(init)
        def completed(self: Any, **given: Any) -> None:
            known.bind(self, **given)  # raises TypeError for unknown names
            init(self, **(values | given))

        known = signature.replace(parameters=every)
        completed.__signature__ = known  # type: ignore[attr-defined]
        estimator.__init__ = completed  # type: ignore[misc]
        lines = [f"        {name}: {field.metadata['help']}" for name, field in others.items()]
        estimator.__doc__ = (estimator.__doc__ or "").replace("        **settings:", "\n".join(lines), 1)
        return estimator

    return decorate


def network_config(estimator: Any, inputs: int, classes: int) -> NetworkConfig:
    """Return the architecture that an estimator's parameters describe."""
    values = {name: getattr(estimator, name) for name in settings_of(NetworkConfig)}
    return NetworkConfig(inputs=inputs, classes=classes, **values)


def train_config(estimator: Any, rows: int, inputs: int, **changes: Any) -> TrainConfig:
    """Return how an estimator trains on so many rows and inputs; `changes` replace its parameters."""
    values = {name: getattr(estimator, name) for name in settings_of(TrainConfig)} | changes
    for name, automatic in _AUTOMATIC.items():
        if isinstance(values[name], str) and values[name] == "auto":
            values[name] = automatic(values, rows, inputs)
    if isinstance(values["dropout"], str) and values["dropout"] == "auto":
        values["dropout"] = automatic_dropout(rows, network_config(estimator, inputs, 2).hidden)
    if isinstance(weights := values.get("class_weight"), Mapping):
        values["class_weight"] = _by_class(weights, estimator.classes_.tolist())
    return TrainConfig(**values)


def _by_class(weights: Mapping[Any, float], classes: Sequence[Any]) -> tuple[float, ...]:
    """Return scikit-learn's weights by class in the order of the classes; those that are not given are 1.

    As in scikit-learn, other classes may have weights if all of these have, such as where a split lacks a class.
    """
    others = [str(name) for name in weights if name not in classes]
    if others and any(name not in weights for name in classes):
        raise ValueError(f"class_weight: {', '.join(others)} is none of the classes of y")
    return tuple(float(weights.get(c, 1.0)) for c in classes)


def automatic_lam(rows: int) -> float:
    """Return the strength of the penalty for so many training rows: 0.12 / sqrt(rows), from 3e-4 to 5e-3."""
    return float(min(_MOST_LAM, max(_LEAST_LAM, _PENALTY / np.sqrt(max(rows, 1)))))


def automatic_batch_size(rows: int) -> int:
    """Return the batch size for so many training rows: 32, and from 25,600 rows on 64, 128 or 256.

    No batch is left with one row, which batch normalisation could not normalise.
    """
    size = _SMALLEST_BATCH
    while size < _LARGEST_BATCH and rows >= size * _MOST_STEPS_AN_EPOCH:
        size *= 2
    while rows > size and rows % size == 1:
        size += 1
    return size


def scarce(rows: int, inputs: int) -> bool:
    """Return whether so many training rows are few for a network of so many inputs: below 2,000, and below 50 each."""
    return rows < min(_SCARCE, _SCARCE_BY_INPUT * inputs)


def automatic_epochs(rows: int, inputs: int, batch_size: int) -> int:
    """Return the epochs for so many training rows: as many as make 4,000 steps, from 15 to 60, to 36 if scarce."""
    steps = -(-max(rows, 1) // batch_size)
    most = _SCARCE_EPOCHS if scarce(rows, inputs) else _MOST_EPOCHS
    return int(min(most, max(_FEWEST_EPOCHS, -(-_STEPS // steps))))


def automatic_dropout(rows: int, hidden: Sequence[int]) -> float:
    """Return the dropout of hidden layers for so many training rows: 0.4 below 1,000, 0.2 below 20,000, else none.

    It is less if the narrowest layer has less than 64 units, in proportion.
    """
    rate = next((rate for below, rate in _DROPOUT if rows < below), 0.0)
    return rate * min(1.0, min(hidden, default=0) / _WIDE_ENOUGH)


def automatic_input_dropout(rows: int, inputs: int) -> float:
    """Return the dropout of inputs: 0.1 if rows are scarce, else none; less with less than 16 inputs, in proportion."""
    return _INPUT_DROPOUT * min(1.0, inputs / _MANY_INPUTS) if scarce(rows, inputs) else 0.0


def automatic_rate(batch_size: int) -> float:
    """Return the largest learning rate of plain descent: 0.03 for batches of 32, in proportion to them, at most 0.1."""
    return min(_MOST_RATE, _RATE * batch_size / _SMALLEST_BATCH)


def _descends(values: Mapping[str, Any]) -> bool:
    """Return whether the update is plain gradient descent, with or without momentum."""
    return bool(values.get("optimiser", "sgd") == "sgd")


# Parameters that may be "auto", and their values, from the settings (those before them in this table are known), the
# number of rows and that of inputs.
_AUTOMATIC: dict[str, Callable[[Mapping[str, Any], int, int], Any]] = {
    "lam": lambda _, rows, __: automatic_lam(rows),
    "batch_size": lambda _, rows, __: automatic_batch_size(rows),
    "epochs": lambda values, rows, inputs: (
        automatic_epochs(rows, inputs, int(values["batch_size"])) if values["cycles"] is None else None
    ),
    "input_dropout": lambda _, rows, inputs: automatic_input_dropout(rows, inputs),
    "momentum": lambda values, _, __: 0.9 if _descends(values) else 0.0,
    "eta_max": lambda values, _, __: (
        automatic_rate(int(values["batch_size"])) if _descends(values) else _RATE_OF_ADAPTIVE
    ),
}
