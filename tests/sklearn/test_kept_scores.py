"""PopulationSearchCV with a storage: what an interrupted search has finished is not trained again."""

from __future__ import annotations

import numpy as np
import pytest
from calls import Calls
from sklearn.datasets import load_iris
from sklearn.exceptions import FitFailedWarning
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import KFold
from sklearn.pipeline import Pipeline

from xpnet.errors import RunError
from xpnet.sklearn import PopulationSearchCV, XpnetClassifier

X, Y = load_iris(return_X_y=True)
# Layers do not stack, so that there are two populations.
GRID = {"hidden": [(4,), (8,)], "lam": [1e-4, 0.1]}


class Stopped(Exception):  # noqa: N818 - ends a search as Ctrl-C does
    pass


def search(grid=GRID, *, steps=None, stop_after=None, estimator=None, **options):
    """Return a search that appends its steps to a list, and ends with an exception once it has taken some."""
    steps = [] if steps is None else steps

    def taken(count):
        steps.append(count)
        if stop_after is not None and sum(steps) > stop_after:
            raise Stopped

    model = estimator or XpnetClassifier(epochs=4, random_state=0, dtype="float64")
    options = {"cv": 3, "refit": False, "storage": "kept.journal", "callbacks": [Calls(on_steps=taken)]} | options
    return PopulationSearchCV(model, grid, **options)


def scores(fitted):
    return {name: v for name, v in fitted.cv_results_.items() if "score" in name and not name.endswith("time")}


@pytest.mark.parametrize("storage", ["kept.journal", pytest.param("sqlite:///kept.db", marks=pytest.mark.slow)])
def test_interrupted_search_goes_on_with_what_has_not_finished(storage):
    whole, first, second = [], [], []
    expected = search(steps=whole, storage=None).fit(X, Y)
    with pytest.raises(Stopped):
        search(steps=first, stop_after=sum(whole) * 3 // 4, storage=storage).fit(X, Y)
    found = search(steps=second, storage=storage).fit(X, Y)
    assert sum(second) == sum(whole) / 2  # those of the second population
    for name, values in scores(expected).items():
        np.testing.assert_array_equal(found.cv_results_[name], values)
    again = []
    known = search(steps=again, storage=storage, return_train_score=False).fit(X, Y)
    assert not again
    np.testing.assert_array_equal(known.cv_results_["mean_fit_time"], found.cv_results_["mean_fit_time"])


@pytest.mark.parametrize(
    "options",
    [
        {"cv": KFold(4)},
        {"scoring": "neg_log_loss"},
        pytest.param({"return_train_score": True}, marks=pytest.mark.slow),
        pytest.param({"estimator": XpnetClassifier(epochs=4, random_state=1, dtype="float64")}, marks=pytest.mark.slow),
    ],
)
def test_other_searches_in_the_same_storage_are_trained(options):
    grid, steps = {"lam": [1e-4, 0.1]}, []
    search(grid).fit(X, Y)
    search(grid, steps=steps, **options).fit(X, Y)
    assert steps
    search(grid).fit(X, np.where(np.arange(150) == 3, 2, Y))
    more, own = [], {"lam": [1e-4, 0.1, 0.01]}
    search(own, steps=more).fit(X, Y)
    every = []
    search(own, steps=every, storage=None).fit(X, Y)
    assert sum(more) == sum(every)  # one candidate of three takes as many steps as three together


def test_search_that_halves_keeps_the_scores_of_every_round():
    grid, whole, first, second = {"lam": [1e-4, 1e-3, 0.01, 0.1]}, [], [], []
    expected = search(grid, steps=whole, storage=None, pruning="halving").fit(X, Y)
    with pytest.raises(Stopped):
        search(grid, steps=first, stop_after=sum(whole) - 2, pruning="halving").fit(X, Y)
    found = search(grid, steps=second, pruning="halving").fit(X, Y)
    assert found.cv_results_["params"] == expected.cv_results_["params"]
    assert found.cv_results_["n_resources"].tolist() == [1] * 4 + [2] * 2 + [4]
    for name, values in scores(expected).items():
        np.testing.assert_allclose(found.cv_results_[name], values, rtol=1e-9)


@pytest.mark.slow
def test_fits_without_a_seed_other_classifiers_and_repeats_are_found_again():
    model = Pipeline([("model", XpnetClassifier(epochs=2, hidden=(4,)))])
    grid = {"model": [model[-1], LogisticRegression(max_iter=500)]}
    options = {"estimator": model, "n_repeats": 2, "scoring": ["accuracy", "neg_log_loss"]}
    first = search(grid, **options).fit(X, Y)
    again = search(grid, **options).fit(X, Y)
    for name, values in scores(first).items():
        np.testing.assert_array_equal(again.cv_results_[name], values)


def test_failed_fits_are_not_kept(tmp_path):
    grid = {"eta_max": [0.1, -1.0]}
    for _ in range(2):
        with pytest.warns(FitFailedWarning), pytest.warns(UserWarning, match="test scores are non-finite"):
            found = search(grid).fit(X, Y)
        assert np.isnan(found.cv_results_["mean_test_score"]).tolist() == [False, True]


def test_storage_that_cannot_be_used_is_refused_in_a_sentence(tmp_path):
    (tmp_path / "folder").mkdir()
    with pytest.raises(RunError, match=r"^storage = .*folder: "):
        search(storage=tmp_path / "folder").fit(X, Y)
    with pytest.raises(ValueError, match=r"^storage: what is searched cannot be pickled \(.*leave storage out$"):
        search(scoring=lambda fitted, X, y: 1.0).fit(X, Y)
