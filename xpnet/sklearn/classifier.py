"""The estimator: its parameters, and what scikit-learn calls."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.utils import check_random_state
from sklearn.utils.validation import check_is_fitted

from xpnet.sklearn import rows
from xpnet.sklearn.ensemble import BestEpoch
from xpnet.sklearn.fitting import Fitting, prepare, require_several, training_of
from xpnet.sklearn.parameters import train_config, with_settings
from xpnet.sklearn.prediction import continued_statistics, log_probabilities
from xpnet.sklearn.weights import weighted
from xpnet.training.callback import Callback
from xpnet.version import __version__


@with_settings(schedule="one-cycle", eta_max="auto", momentum="auto", dropout="auto", input_dropout="auto")
class XpnetClassifier(Fitting):
    """A fully connected network, or an ensemble of them, as a scikit-learn classifier.

    Columns of numbers are standardised, or scaled as `numeric` says; those of categories become one number for each
    frequent category; missing cells are filled.  See :meth:`fit` for what X and y may be.

    Args:
        hidden: Units of each hidden layer; ``()`` gives multinomial logistic regression.
        batch_norm: Normalise each hidden layer over the batch, before its ReLU.
        lam: Strength of the L2 penalty on the weights; ``"auto"``: 0.12 / sqrt(rows),
            from 3e-4 to 5e-3.
        batch_size: Rows in a step; ``"auto"`` chooses by the number of rows.
        epochs: Passes over the rows, such as 20 or 2.6; ``"auto"`` chooses by the number of rows.
        members: Networks in the ensemble, trained together, each with its own weights and order of rows.
        diversity: Whether each member has its own learning rate, penalty and dropout, drawn log-uniformly around those
            given.
        selection: Weights of the members' probabilities: ``"mean"``, or ``"greedy"`` for those with the lowest log-loss
            on validation rows (Caruana et al., 2004).
        early_stopping: Whether rows are held back for validation, by which each member keeps its best epoch;
            ``"auto"``: from 10,000 rows on.
        validation_fraction: Share of each class that is held back.
        n_iter_no_change: Epochs without improvement after which training stops; None trains for all epochs.
        warm_start: Whether :meth:`fit` continues with the networks of the call before.
        random_state: Seed, or generator, of initial weights, orders and validation rows.
        device: ``"auto"``, ``"cpu"``, ``"gpu"`` or ``"gpu:N"``.
        dtype: ``"float32"`` or ``"float64"``, of the weights in training.
        callbacks: Instances of :class:`xpnet.Callback`.
        verbose: 1 shows a progress bar, and in notebooks a curve of the losses.
        **settings:

    Attributes:
        classes_: The classes, sorted (c,).
        n_features_in_: Number of columns of X.
        feature_names_in_: Their names, if X had names that are texts.
        network_: The trained :class:`xpnet.Network`, with a replica for each member.
        member_weights_: Weight of each member in the probabilities (members,).
        history_: :class:`xpnet.History` of the last :meth:`fit`.
        n_iter_: Epochs trained.
        n_samples_seen_: Rows of :meth:`fit`, or of all calls of :meth:`partial_fit`.
        loss_curve_: Training loss of each epoch, the mean of the members.
        validation_scores_: Validation accuracy of each epoch, the mean of the members; None without validation rows.
    """

    def __init__(
        self,
        *,
        hidden: Sequence[int] | int | str = (64, 64),
        batch_norm: bool = True,
        lam: float | Sequence[float] | str = "auto",
        batch_size: int | str = "auto",
        epochs: float | str = "auto",
        members: int = 1,
        diversity: bool = False,
        selection: str = "mean",
        early_stopping: bool | str = "auto",
        validation_fraction: float = 0.1,
        n_iter_no_change: int | None = None,
        warm_start: bool = False,
        random_state: Any = None,
        device: str = "auto",
        dtype: str = "float32",
        callbacks: Sequence[Callback] | None = (),
        verbose: int = 0,
        **settings: Any,
    ) -> None:
        self.hidden = hidden
        self.batch_norm = batch_norm
        self.lam = lam
        self.batch_size = batch_size
        self.epochs = epochs
        self.members = members
        self.diversity = diversity
        self.selection = selection
        self.early_stopping = early_stopping
        self.validation_fraction = validation_fraction
        self.n_iter_no_change = n_iter_no_change
        self.warm_start = warm_start
        self.random_state = random_state
        self.device = device
        self.dtype = dtype
        self.callbacks = callbacks
        self.verbose = verbose
        for name, value in settings.items():
            setattr(self, name, value)

    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> XpnetClassifier:
        """Train on the rows of X.

        Args:
            X: Features (n, d): an array of real numbers, a tensor, or a pandas, polars or Arrow frame with columns of
                numbers, booleans, texts and categories.  Missing cells may be NaN, and in frames null.
            y: Classes (n,): whole numbers, booleans, texts or categories.
            sample_weight: Weight of each row in the loss (n,), at least 0; small whole numbers repeat rows.

        Returns:
            The estimator.

        Raises:
            ValueError: A parameter, X, y or a weight is wrong; the estimator stays as it was.
            DivergedError: All members have diverged.
        """
        new = self._copy(fitted=bool(self.warm_start))
        goes_on, start = new.__sklearn_is_fitted__(), prepare(new, X, y, sample_weight)
        if not goes_on:
            new._build(start.data, start.seed, start.members)
        best = BestEpoch(start.checked["n_iter_no_change"]) if start.validates else None
        new._train(start.data, training_of(new, start), start.seeds, best)
        new._weigh_members(start.data, start.checked["selection"])
        self._become(new)
        return self

    def partial_fit(self, X: Any, y: Any, classes: Any = None, sample_weight: Any = None) -> XpnetClassifier:
        """Train one more epoch, on these rows, with the constant learning rate `eta`.

        The rows of the first call determine how features are standardised.

        Args:
            X: Features, as for :meth:`fit`.
            y: Classes, as for :meth:`fit`.
            classes: All classes that any call will have; needed in the first call.
            sample_weight: As for :meth:`fit`.

        Returns:
            The estimator.

        Raises:
            ValueError: As for :meth:`fit`; or the first call has no `classes`, or y has others.
        """
        new = self._copy(fitted=True)
        checked = new._checked_parameters()
        goes_on = new.__sklearn_is_fitted__()
        if not goes_on and classes is None:
            raise ValueError("classes must be given in the first call of partial_fit, with all classes of all calls")
        features, y = rows.features_and_targets(new, X, y, reset=not goes_on)
        known = np.unique(classes) if classes is not None else new.classes_
        if goes_on:
            new._require_same(known, "partial_fit")
        if not np.isin(y, known).all():
            raise ValueError(f"y has the class {y[~np.isin(y, known)][0]}, which is none of `classes`")
        require_several(known)
        new.classes_ = known
        samples = weighted(features.x, np.searchsorted(known, y), sample_weight)
        rng = check_random_state(self.random_state)
        seed = int(rng.randint(2**31 - checked["members"]))
        data = new._data(samples, features.columns, None, rng, goes_on)
        if not goes_on:
            new._build(data, seed, checked["members"])
        before = None if not goes_on else {k: v.copy() for k, v in new.network_.running.items()}
        new.n_samples_seen_ += getattr(self, "n_samples_seen_", 0)
        config = train_config(new, new.n_samples_seen_, data.inputs, schedule="constant", epochs=1, cycles=None)
        epochs = getattr(self, "n_iter_", 0)
        new._train(data, config, [(seed + r + epochs) % 2**31 for r in range(checked["members"])], None)
        if before is not None:
            continued_statistics(new.network_, before, config.length(len(data.train)).steps)
        new.n_iter_ += epochs
        new._weigh_members(data, "mean")
        self._become(new)
        return self

    def decision_function(self, X: Any) -> NDArray[np.float64]:
        """Return log-probabilities (n, c); for two classes the logarithm of their ratio (n,), above 0 for the second.

        Raises:
            ValueError: X has other columns than in :meth:`fit`; or a cell is missing, and none was in :meth:`fit`.
            NotFittedError: The estimator has not been fitted.
        """
        logs = self.predict_log_proba(X)
        return logs[:, 1] - logs[:, 0] if logs.shape[1] == 2 else logs

    def predict_log_proba(self, X: Any) -> NDArray[np.float64]:
        """Return the logarithms of the probabilities (n, c); raises what :meth:`decision_function` raises."""
        check_is_fitted(self)
        return log_probabilities(self.network_, rows.features_of(self, X), self.member_weights_)

    def predict_proba(self, X: Any) -> NDArray[np.float64]:
        """Return the probabilities (n, c), the weighted mean of the members'.

        They are computed in float64, so those of a row do not depend on the other rows of X.  This raises what
        :meth:`decision_function` raises.
        """
        probabilities = np.exp(self.predict_log_proba(X))
        return np.asarray(probabilities / probabilities.sum(axis=1, keepdims=True))

    def predict(self, X: Any) -> NDArray[Any]:
        """Return the most probable class of each row (n,); raises what :meth:`decision_function` raises."""
        logs = self.predict_log_proba(X)
        return np.asarray(self.classes_[np.argmax(logs, axis=1)])

    def __getstate__(self) -> dict[str, Any]:
        return {**super().__getstate__(), "_xpnet_version": __version__}

    def __setstate__(self, state: Mapping[str, Any]) -> None:
        state = dict(state)
        version = str(state.pop("_xpnet_version", __version__))
        if _numbers(version) > _numbers(__version__):
            raise ValueError(
                f"this {type(self).__name__} was pickled by xpnet {version}, which is newer than this one, "
                f"{__version__}; update xpnet to read it"
            )
        super().__setstate__(state)


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split(".") if part.isdigit())
