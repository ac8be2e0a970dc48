"""The parameters of the estimator: those of its own, and every setting of a network and its training.

Settings are defined once, as fields of :class:`~xpnet.NetworkConfig` and :class:`~xpnet.TrainConfig`.
:func:`with_settings` appends them to the signature of the estimator, so a new field is a new parameter without any
change here.  The settings in :data:`_ELSEWHERE` are left out: the estimator determines them itself.
"""

from __future__ import annotations

import dataclasses
import functools
import inspect
from collections.abc import Callable
from typing import Any, TypeVar

import numpy as np

from xpnet.config.definitions import NetworkConfig
from xpnet.config.training import TrainConfig

Estimator = TypeVar("Estimator", bound=type)

_ELSEWHERE = {
    "inputs", "classes",  # follow from X and y
    "flip", "shift", "border", "cutout", "views",  # are for pictures, and the rows of X are none
    "shuffle_seed",  # follows from random_state
    "patience", "restore",  # follow from early_stopping and n_iter_no_change
}  # fmt: skip
# Length of training by the number of rows; see `automatic_epochs`.
_STEPS, _FEWEST_EPOCHS, _MOST_EPOCHS = 2000, 10, 100


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
        fields = settings_of(NetworkConfig) | settings_of(TrainConfig)
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


def train_config(estimator: Any, rows: int, **changes: Any) -> TrainConfig:
    """Return how an estimator trains on so many rows; `changes` replace its parameters."""
    values = {name: getattr(estimator, name) for name in settings_of(TrainConfig)} | changes
    if _is_auto(values["batch_size"]):
        values["batch_size"] = automatic_batch_size(rows)
    if _is_auto(values["epochs"]):
        epochs = automatic_epochs(rows, int(values["batch_size"]))
        values["epochs"] = None if values["cycles"] is not None else epochs
    return TrainConfig(**values)


def automatic_batch_size(rows: int) -> int:
    """Return the batch size for so many training rows: a power of two, about rows / 20, from 16 to 256.

    No batch is left with one row, which batch normalisation could not normalise.
    """
    size = int(min(256, max(16, 2 ** np.ceil(np.log2(max(rows, 1) / 20)))))
    while rows > size and rows % size == 1:
        size += 1
    return size


def automatic_epochs(rows: int, batch_size: int) -> int:
    """Return the epochs for so many training rows: as many as make 2,000 steps, from 10 to 100."""
    steps = -(-rows // batch_size)
    return int(min(_MOST_EPOCHS, max(_FEWEST_EPOCHS, -(-_STEPS // steps))))


def _is_auto(value: Any) -> bool:
    return isinstance(value, str) and value == "auto"
