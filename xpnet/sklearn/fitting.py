"""What the estimator does to fit: rows become a data set, networks are built and trained, members weighed."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.utils import check_random_state

from xpnet.backend import get_backend
from xpnet.config.definitions import MOST_NETWORKS
from xpnet.config.fields import argument, choice, flag, optional, real, whole
from xpnet.config.training import TrainConfig
from xpnet.data import Column, Dataset
from xpnet.nn.network import Network
from xpnet.sklearn import rows
from xpnet.sklearn.ensemble import BestEpoch, diverse, greedy_weights
from xpnet.sklearn.parameters import encoding, network_config, train_config
from xpnet.sklearn.prediction import log_probabilities, without_validation
from xpnet.sklearn.weights import WeightedRows, weighted
from xpnet.training.history import History
from xpnet.training.progress import Progress
from xpnet.training.train import train

# Rows from which early_stopping="auto" holds rows back for validation: with fewer, training on them is worth more.
_ENOUGH_ROWS = 10_000
_CHECKS = {
    "members": whole(1, MOST_NETWORKS),
    "diversity": flag,
    "selection": choice("mean", "greedy"),
    "validation_fraction": real(above=0, below=1),
    "n_iter_no_change": optional(whole(1)),
    "warm_start": flag,
    "verbose": whole(0),
}


class Fitting(ClassifierMixin, BaseEstimator):  # type: ignore[misc]
    """Steps of fitting, for an estimator with the parameters of :class:`~xpnet.sklearn.XpnetClassifier`."""

    def __sklearn_is_fitted__(self) -> bool:
        return hasattr(self, "network_")

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.allow_nan = True
        return tags

    def _copy(self, *, fitted: bool) -> Any:
        """Return an estimator of the same parameters, and a copy of what was fitted, to work on until all is well."""
        new = copy.copy(self)
        for name in list(vars(new)):
            if name.endswith("_") and not fitted:
                delattr(new, name)
        if fitted and new.__sklearn_is_fitted__():
            new.network_ = copy.deepcopy(self.network_)
        return new

    def _become(self, new: Any) -> None:
        """Take over what was fitted."""
        self.__dict__.clear()
        self.__dict__.update(new.__dict__)

    def _checked_parameters(self) -> dict[str, Any]:
        """Return the parameters that are no settings, checked."""
        checked = {name: argument(name, getattr(self, name), check) for name, check in _CHECKS.items()}
        if self.early_stopping not in (True, False, "auto"):
            raise ValueError(f"early_stopping = {self.early_stopping}: must be True, False or 'auto'")
        return checked

    def _validates(self, count: int, checked: Mapping[str, Any]) -> bool:
        """Return whether some of so many rows validate."""
        if isinstance(self.early_stopping, str):
            return count >= _ENOUGH_ROWS or checked["selection"] == "greedy"
        return bool(self.early_stopping) or checked["selection"] == "greedy"

    def _data(
        self, samples: WeightedRows, columns: tuple[Column, ...], validation: float | None, rng: Any, goes_on: bool
    ) -> Dataset:
        self.n_samples_seen_ = len(samples.x)
        names = tuple(map(str, getattr(self, "feature_names_in_", ())))
        return rows.data_set(
            samples,
            tuple(map(str, self.classes_.tolist())),
            validation=validation,
            rng=rng,
            balances=isinstance(self.class_weight, str),
            feature_names=names,
            transform=self.network_.transform if goes_on else None,
            columns=columns,
            encoding=encoding(self),
        )

    def _require_same(self, classes: NDArray[Any], what: str) -> None:
        """Refuse to train on networks of other classes, of another architecture, or of another number."""
        config, transform = self.network_.config, self.network_.transform
        if not np.array_equal(classes, self.classes_):
            raise ValueError(f"{what}: the classes differ from those before; fit anew, with warm_start=False")
        if network_config(self, config.inputs, config.classes) != config or self.members != self.network_.replicas:
            raise ValueError(f"{what}: members or settings of the network differ from those before; fit anew")
        encoder = None if transform is None else transform.encoder
        if encoding(self)["numeric"] != ("standard" if encoder is None else encoder.numeric):
            raise ValueError(f"{what}: numeric = {self.numeric} differs from that before; fit anew")

    def _build(self, data: Dataset, seed: int, members: int) -> None:
        config = network_config(self, data.inputs, data.classes)
        self.network_ = Network(
            config, backend=get_backend(self.device), dtype=self.dtype, seed=[seed + r for r in range(members)]
        )

    def _train(self, data: Dataset, config: Any, orders: list[int], best: BestEpoch | None) -> None:
        """Train the networks, and set what tells of the training."""
        bars = [Progress(validation=best is not None)] if self.verbose else []
        callbacks = [*(self.callbacks or ()), *([] if best is None else [best]), *bars]
        try:
            result = train(self.network_, data, config, callbacks=callbacks, orders=orders, final=())
        finally:
            for bar in bars:
                bar.close()
        if best is not None:
            best.restore(self.network_)
        self._tell(result.history, validated=best is not None)

    def _tell(self, history: History, *, validated: bool) -> None:
        """Set what tells of a training with this history."""
        self.history_: History = history if validated else without_validation(history)
        self.n_iter_ = len(self.history_)
        columns = self.history_.columns()
        self.loss_curve_ = columns["train.losses"].mean(axis=1).tolist()
        self.validation_scores_ = columns["validation.accuracies"].mean(axis=1).tolist() if validated else None

    def _weigh_members(self, data: Dataset, selection: str) -> None:
        """Give each member its weight in the mean of probabilities; one that has diverged has none."""
        parameters = self.network_.backend.to_numpy(self.network_.parameters["W1"])
        finite = np.isfinite(parameters).all(axis=(1, 2))
        self.member_weights_ = finite / finite.sum()
        if selection == "greedy" and len(finite) > 1:
            held = data.validation
            one = np.eye(len(finite))
            each = [log_probabilities(self.network_, held.x, one[r]) for r in np.flatnonzero(finite)]
            self.member_weights_ = np.zeros(len(finite))
            self.member_weights_[finite] = greedy_weights(np.stack(each), held.labels)


class Start(NamedTuple):
    """What a fit knows before it trains.

    Attributes:
        checked: The parameters that are no settings.
        data: The rows, split and transformed.
        seed: Seed of the first member.
        validates: Whether some of the rows validate.
        rng: Generator for the draws that follow.
    """

    checked: dict[str, Any]
    data: Dataset
    seed: int
    validates: bool
    rng: np.random.RandomState

    @property
    def members(self) -> int:
        """Number of members."""
        return int(self.checked["members"])

    @property
    def seeds(self) -> list[int]:
        """Seed of each member."""
        return [self.seed + r for r in range(self.members)]


def prepare(new: Any, X: Any, y: Any, sample_weight: Any = None) -> Start:
    """Return what a fit of the estimator `new` begins with, and set what the rows tell: its classes and features.

    Raises:
        ValueError: See :meth:`xpnet.sklearn.XpnetClassifier.fit`.
    """
    checked = new._checked_parameters()
    goes_on = new.__sklearn_is_fitted__()
    features, y = rows.features_and_targets(new, X, y, reset=not goes_on)
    classes, labels = np.unique(y, return_inverse=True)
    samples = weighted(features.x, labels, sample_weight)
    require_several(classes[np.unique(samples.labels)])
    rng = check_random_state(new.random_state)
    seed = int(rng.randint(2**31 - checked["members"]))
    if goes_on:
        new._require_same(classes, "warm_start")
    new.classes_ = classes
    validates = new._validates(len(samples.x), checked)
    validation = checked["validation_fraction"] if validates else None
    data = new._data(samples, features.columns, validation, rng, goes_on)
    return Start(checked, data, seed, validates, rng)


def training_of(new: Any, start: Start) -> TrainConfig:
    """Return how the members of the estimator `new` train."""
    rows, inputs = len(start.data.train), start.data.inputs
    config = train_config(new, rows, inputs)
    if not start.checked["diversity"]:
        return config
    hidden = network_config(new, inputs, start.data.classes).hidden
    drawn = diverse(config, start.members, start.rng, drops=bool(hidden))
    return train_config(new, rows, inputs, **drawn)


def adopt(new: Any, prepared: Any, start: Start, network: Network, history: History) -> None:
    """Make the unfitted estimator `new` what its fit would: with networks that were trained elsewhere.

    Args:
        new: An estimator of the same parameters as the networks.
        prepared: The estimator with which :func:`prepare` has read the rows.
        start: What it returned.
        network: The trained members.
        history: The history of their training.
    """
    for name in ("classes_", "n_features_in_", "feature_names_in_"):
        if hasattr(prepared, name):
            setattr(new, name, getattr(prepared, name))
    new.network_ = network
    network.learn_about(start.data)
    new._tell(history, validated=start.validates)
    new._weigh_members(start.data, start.checked["selection"])


def require_several(classes: NDArray[Any]) -> None:
    """Refuse a single class."""
    if len(classes) < 2:
        raise ValueError(
            f"y has one class, {classes[0]!s}, in the rows with a weight; there must be at least 2 classes"
        )
