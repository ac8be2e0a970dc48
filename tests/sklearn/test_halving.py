"""PopulationSearchCV that prunes: rounds, scores, and what they leave out."""

from __future__ import annotations

import numpy as np
import pytest
from calls import Calls
from sklearn.datasets import load_digits
from sklearn.exceptions import FitFailedWarning
from sklearn.model_selection import GridSearchCV

from xpnet.sklearn import PopulationSearchCV, XpnetClassifier
from xpnet.sklearn.halving import better_half, shares

GRID = {"lam": [1e-4, 0.1], "eta_max": [0.01, 0.1, 0.5, 2.0]}


@pytest.fixture(scope="module")
def digits():
    """Return 104 digits, so that three folds have two sizes."""
    X, y = load_digits(return_X_y=True)
    return X[:104], y[:104]


def classifier(**settings):
    values = {"hidden": (8,), "epochs": 8, "batch_size": 32, "random_state": 0, "dtype": "float64"}
    return XpnetClassifier(**(values | settings))


class Stop(Calls):
    """Stops after some steps."""

    def __init__(self, steps):
        super().__init__(prune_at=(steps,))
        self._left = steps

    def on_steps(self, steps):
        self._left -= steps

    def should_stop(self):
        return self._left == 0


@pytest.mark.parametrize(
    ("count", "expected"),
    [(1, [1]), (2, [0.5, 1]), (7, [0.25, 0.5, 1]), (8, [0.125, 0.25, 0.5, 1]), (900, [1 / 8, 0.25, 0.5, 1])],
)
def test_shares_of_the_epochs_double_from_round_to_round(count, expected):
    assert shares(count) == expected


def test_better_half_keeps_the_order_and_drops_what_has_failed():
    assert better_half([0.5, np.nan, 0.9, 0.7, np.nan]) == [0, 2, 3]
    assert better_half([np.nan, np.nan, np.nan]) == [0, 1]


@pytest.mark.parametrize(
    "settings",
    [
        {},
        pytest.param({"members": 2, "diversity": True, "momentum": 0.0, "optimiser": "adamw"}, marks=pytest.mark.slow),
        pytest.param({"early_stopping": True, "n_iter_no_change": 2}, marks=pytest.mark.slow),
        pytest.param({"early_stopping": True, "validation_fraction": 0.3, "dtype": "float32"}, marks=pytest.mark.slow),
    ],
)
def test_halving_trains_the_better_half_on_to_the_scores_of_a_grid_search(digits, settings):
    search = PopulationSearchCV(classifier(**settings), GRID, cv=3, pruning="halving", scoring="neg_log_loss").fit(
        *digits
    )
    results = search.cv_results_
    rounds = np.asarray(results["iter"])
    assert (search.n_iterations_, search.n_candidates_) == (4, [8, 4, 2, 1])
    assert np.bincount(rounds).tolist() == [8, 4, 2, 1]
    if "n_iter_no_change" not in settings:
        assert results["n_resources"].tolist() == np.repeat([1, 2, 4, 8], [8, 4, 2, 1]).tolist()
    for number in range(3):
        means, after = results["mean_test_score"][rounds == number], np.asarray(results["params"])[rounds == number + 1]
        best = np.sort(np.argsort(-means)[: len(after)])
        assert [results["params"][at] for at in np.flatnonzero(rounds == number)[best]] == after.tolist()
    grid = {name: [value] for name, value in search.best_params_.items()}
    whole = GridSearchCV(classifier(**settings), grid, cv=3, scoring="neg_log_loss").fit(*digits)
    names = [f"split{split}_test_score" for split in range(3)]
    tolerance = 1e-9 if settings.get("dtype") != "float32" else 1e-3
    for name in names:
        assert results[name][-1] == pytest.approx(whole.cv_results_[name][0], rel=tolerance)
    assert search.best_index_ == 14
    assert search.best_score_ == pytest.approx(whole.best_score_, rel=tolerance)
    np.testing.assert_allclose(search.predict_proba(digits[0]), whole.predict_proba(digits[0]), rtol=10 * tolerance)


def test_halving_compares_after_the_epochs_that_it_names(digits):
    search = PopulationSearchCV(classifier(), {"lam": [0.1, 1e-4]}, cv=2, pruning="halving", refit=False).fit(*digits)
    assert search.cv_results_["n_resources"].tolist() == [4, 4, 8]
    train, test = (np.flatnonzero(np.arange(104) >= 52), np.flatnonzero(np.arange(104) < 52))
    search = PopulationSearchCV(
        classifier(), {"lam": [0.1, 1e-4]}, cv=[(train, test)], pruning="halving", scoring="neg_log_loss", refit=False
    ).fit(*digits)
    for at, lam in enumerate([0.1, 1e-4]):
        stopped = classifier(lam=lam, callbacks=[Stop(8)]).fit(digits[0][train], digits[1][train])
        right = np.log(stopped.predict_proba(digits[0][test])[np.arange(52), digits[1][test]])
        assert search.cv_results_["mean_test_score"][at] == pytest.approx(right.mean(), rel=1e-9)


def test_halving_takes_fewer_steps_and_compares_candidates_of_all_sizes(digits):
    grid = {"hidden": [(4,), (8,)], "lam": [1e-4, 0.1], "epochs": [4, 8]}
    steps = []
    search = PopulationSearchCV(
        classifier(), grid, cv=2, pruning="halving", refit=False, callbacks=[Calls(on_steps=steps.append)]
    ).fit(*digits)
    results = search.cv_results_
    assert np.bincount(results["iter"]).tolist() == [8, 4, 2, 1]
    final = results["params"][-1]
    assert results["n_resources"][-1] == final["epochs"]
    assert search.n_splits_ == 2
    taken = sum(steps)
    steps.clear()
    PopulationSearchCV(classifier(), grid, cv=2, refit=False, callbacks=[Calls(on_steps=steps.append)]).fit(*digits)
    assert 0 < taken < sum(steps)


def test_halving_takes_chunks_repeats_and_fits_that_fail(digits):
    grid = {"eta_max": [-1.0, 0.1], "lam": [1e-4, 0.1]}
    with pytest.warns(FitFailedWarning), pytest.warns(UserWarning, match="test scores are non-finite"):
        search = PopulationSearchCV(
            classifier(members=2), grid, cv=2, pruning="halving", n_repeats=2, max_members=3, error_score=np.nan
        ).fit(*digits)
    assert search.n_candidates_ == [4, 2, 1]
    assert [row["eta_max"] for row in search.cv_results_["params"]] == [-1, -1, 0.1, 0.1, 0.1, 0.1, 0.1]
    assert np.isnan(search.cv_results_["mean_test_score"]).tolist() == [True, True, False, False, False, False, False]
    assert search.best_params_["eta_max"] == 0.1


def test_halving_by_several_metrics_takes_that_of_refit(digits):
    options = {"cv": 2, "pruning": "halving", "scoring": ["accuracy", "neg_log_loss"]}
    search = PopulationSearchCV(classifier(), {"lam": [0.0, 0.1]}, refit="neg_log_loss", **options).fit(*digits)
    results = search.cv_results_
    best = int(np.argmax(results["mean_test_neg_log_loss"][:2]))
    assert results["params"][2] == results["params"][best] == search.best_params_
    with pytest.raises(
        ValueError, match="pruning = halving: needs a metric to compare by; name it by refit, as one of"
    ):
        PopulationSearchCV(classifier(), {"lam": [0.0, 0.1]}, refit=False, **options).fit(*digits)
    with pytest.raises(ValueError, match="pruning = thirds: must be halving"):
        PopulationSearchCV(classifier(), {"lam": [0.0, 0.1]}, pruning="thirds").fit(*digits)
