"""Scores of finished fits in a storage of Optuna, so that a search that was interrupted goes on."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator, Mapping
from typing import Any

import joblib
import numpy as np

from xpnet.config.fields import shown
from xpnet.tuning.storage import close_storage, database_errors, open_storage

# What a fit's scores have, beside what scikit-learn's functions leave out where it is not asked for.
_FIGURES = ("train_scores", "test_scores", "n_test_samples", "fit_time", "score_time", "epochs")


class KeptScores:
    """The finished fits of one search.

    Args:
        storage: The storage.
        search: What tells this search from others: all that its scores depend on, candidates and splits apart.

    Raises:
        ValueError: `search` cannot be told from others, since a part of it cannot be pickled.
    """

    def __init__(self, storage: Any, search: Any) -> None:
        import optuna

        name = f"PopulationSearchCV {digest('what is searched', search)}"
        with database_errors():
            self._study = optuna.create_study(
                study_name=name, storage=storage, direction="maximize", load_if_exists=True
            )
            trials = self._study.get_trials(deepcopy=False)
        attributes = [trial.user_attrs for trial in trials]
        self._known = {own["fit"]: json.loads(own["scores"]) for own in attributes if "scores" in own}

    def get(self, key: str) -> dict[str, Any] | None:
        """Return the scores of a fit; None if it has not finished yet."""
        found = self._known.get(key)
        return None if found is None else {**found, "fit_error": None}

    def keep(self, key: str, scores: Mapping[str, Any], parameters: Mapping[str, Any]) -> None:
        """Keep the scores of a fit, unless it has failed or a score is not finite; `parameters` are to be looked at."""
        import optuna

        numbers = {name: _numbers(scores[name]) for name in _FIGURES if name in scores}
        of_test = numbers["test_scores"]
        values = list(of_test.values()) if isinstance(of_test, dict) else [of_test]
        if scores.get("fit_error") is not None or key in self._known or not np.isfinite(values).all():
            return
        self._known[key] = numbers
        own = {"fit": key, "scores": json.dumps(numbers), "parameters": {n: shown(v) for n, v in parameters.items()}}
        with database_errors():
            self._study.add_trial(optuna.trial.create_trial(value=float(values[0]), user_attrs=own))


@contextlib.contextmanager
def kept_scores(location: Any, search: Any) -> Iterator[KeptScores | None]:
    """Open the scores that a storage has of a search; None without a storage.

    Args:
        location: A file, or the URL of a database, as for ``xpnet search``.
        search: As for :class:`KeptScores`.

    Raises:
        ConfigError, RunError: The storage cannot be opened, or fails later.
        ValueError: See :class:`KeptScores`.
    """
    if location is None:
        yield None
        return
    storage = open_storage(location)
    try:
        yield KeptScores(storage, search)
    finally:
        close_storage(storage)


def digest(name: str, value: Any) -> str:
    """Return a text that is equal for equal values.

    Raises:
        ValueError: The value cannot be pickled; `name` says what it is.
    """
    try:
        return str(joblib.hash(value))
    except Exception as error:
        raise ValueError(
            f"storage: {name} cannot be pickled ({error}), and so not be found again; leave storage out"
        ) from None


def _numbers(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(name): _numbers(one) for name, one in value.items()}
    return int(value) if isinstance(value, (int, np.integer)) else float(value)
