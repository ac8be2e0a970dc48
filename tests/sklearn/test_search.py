"""PopulationSearchCV: the scores of GridSearchCV, from networks that train together."""

from __future__ import annotations

import warnings

import numpy as np
import pandas as pd
import pytest
from calls import Calls
from examples import every
from sklearn.base import BaseEstimator, TransformerMixin, clone
from sklearn.datasets import load_digits
from sklearn.exceptions import FitFailedWarning
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, GroupKFold, RandomizedSearchCV, ShuffleSplit, StratifiedKFold
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import MinMaxScaler

from xpnet.errors import ConfigError
from xpnet.sklearn import PopulationSearchCV, XpnetClassifier
from xpnet.sklearn import fits_together as fits_together_module

GRID = {"lam": [1e-4, 0.1], "eta_max": [0.1, 0.5]}


@pytest.fixture(scope="module")
def digits():
    """Return 104 digits of 64 features, so that folds have two sizes."""
    X, y = load_digits(return_X_y=True)
    return X[:104], y[:104]


def classifier(**settings):
    values = {"hidden": (8,), "epochs": 2, "batch_size": 32, "random_state": 0, "dtype": "float64"}
    return XpnetClassifier(**(values | settings))


def check_same_results(search, expected, *, times=("fit_time", "score_time")):
    """Compare `cv_results_` and what follows from it; only seconds may differ."""
    assert list(search.cv_results_) == list(expected.cv_results_)
    for name, values in expected.cv_results_.items():
        if name == "params":
            assert search.cv_results_[name] == values
        elif name.startswith("param_"):
            assert search.cv_results_[name].tolist() == values.tolist()
        elif not name.endswith(times):
            np.testing.assert_allclose(search.cv_results_[name], values, rtol=1e-9, atol=1e-9, err_msg=name)
    for name in ("best_index_", "best_params_", "n_splits_", "multimetric_"):
        assert getattr(search, name, None) == getattr(expected, name, None), name


@pytest.fixture
def trainings(monkeypatch):
    """Count the networks of each population that is trained."""
    sizes = []
    original = fits_together_module._finished
    monkeypatch.setattr(
        fits_together_module,
        "_finished",
        lambda part, *rest: sizes.append(part.network.replicas) or original(part, *rest),
    )
    return sizes


CASES = {
    "lambdas and rates": ({}, GRID, {"return_train_score": True}),
    "two metrics": ({}, {"lam": [0.0, 0.1]}, {"scoring": ["accuracy", "neg_log_loss"], "refit": "neg_log_loss"}),
    "layers and batches": ({}, {"hidden": [(4,), (8,)], "batch_size": [16, 64], "momentum": [0.0, 0.9]}, {}),
    "a shuffled splitter": ({}, GRID, {"cv": ShuffleSplit(3, random_state=1)}),
    "validation rows": ({"early_stopping": True}, GRID, {}),
    "patience": ({"early_stopping": True, "n_iter_no_change": 1, "epochs": 8}, {"eta_max": [0.5, 5.0]}, {}),
    "ensembles": ({"members": 2, "diversity": True, "selection": "greedy"}, {"lam": [1e-4, 0.01]}, {}),
    "initial weights": ({"batch_norm": False}, {"init": ["he", 0.1], "label_smoothing": [0.0, 0.1]}, {}),
    "class weights": ({"class_weight": "balanced", "members": 2}, GRID | {"class_weight": [None, "balanced"]}, {}),
    "class weights by class": (
        {"early_stopping": True},
        {"class_weight": [{0: 3.0, 7: 0.5}, {3: 2}], "lam": [0.1, 1e-3]},
        {"scoring": "neg_log_loss"},
    ),
    "dropout": ({"diversity": True, "members": 2, "dropout": 0.2}, {"lam": [1e-4, 0.1]}, {"scoring": "neg_log_loss"}),
    "generator": ({"random_state": np.random.RandomState(3)}, {"lam": [1e-4, 0.1]}, {}),
    "lists of grids": ({}, [{"lam": [0.1]}, {"eta_max": [0.2], "lam": [1e-3]}], {}),
    "callable refit": ({}, GRID, {"refit": lambda results: int(np.argmin(results["mean_test_score"]))}),
    "no refit": ({}, {"lam": [0.1]}, {"refit": False}),
    "a function as score": (
        {},
        {"lam": [0.1]},
        {"scoring": lambda fitted, X, y: {"a": fitted.score(X, y)}, "refit": "a"},
    ),
}


@pytest.mark.parametrize("case", every(2, CASES))
def test_population_search_has_the_results_of_a_grid_search(digits, case):
    settings, grid, options = CASES[case]
    options = {"cv": 3} | options
    search = PopulationSearchCV(classifier(**settings), grid, **options).fit(*digits)
    expected = GridSearchCV(classifier(**settings), grid, **options).fit(*digits)
    check_same_results(search, expected)
    if options.get("refit", True):
        np.testing.assert_allclose(search.predict_proba(digits[0]), expected.predict_proba(digits[0]), rtol=1e-9)


def test_population_search_trains_candidates_and_folds_together(digits, trainings):
    PopulationSearchCV(classifier(), GRID | {"hidden": [(4,), (8,)]}, cv=3).fit(*digits)
    assert sorted(trainings) == [4, 4, 8, 8]  # folds of two sizes
    trainings.clear()
    PopulationSearchCV(classifier(), GRID, cv=3, max_members=3).fit(*digits)
    assert sum(trainings) == 12
    assert max(trainings) <= 3


class Counting(TransformerMixin, BaseEstimator):
    """Scales features, and counts its fits."""

    fits = 0

    def __init__(self, factor=2.0):
        self.factor = factor

    def fit(self, X, y=None):
        Counting.fits += 1
        self.n_features_in_ = X.shape[1]
        return self

    def transform(self, X):
        return X * self.factor


def test_population_search_of_a_pipeline_fits_its_first_steps_once_on_each_split(digits):
    estimator = Pipeline([("count", Counting()), ("scale", MinMaxScaler()), ("net", classifier())])
    grid = {"net__lam": [1e-4, 0.1], "net__hidden": [(4,), (8,)], "count__factor": [1.0, 3.0]}
    Counting.fits = 0
    search = PopulationSearchCV(estimator, grid, cv=3, refit=False).fit(*digits)
    assert Counting.fits == 2 * 3
    check_same_results(search, GridSearchCV(estimator, grid, cv=3, refit=False).fit(*digits))


def test_population_search_over_whole_steps_fits_other_classifiers_too(digits):
    estimator = Pipeline([("scale", MinMaxScaler()), ("model", classifier())])
    grid = {"scale": ["passthrough", MinMaxScaler()], "model": [classifier(lam=0.1), LogisticRegression(tol=0.1)]}
    check_same_results(*(kind(estimator, grid, cv=3).fit(*digits) for kind in (PopulationSearchCV, GridSearchCV)))


def test_population_search_takes_groups_weights_frames_and_texts(digits):
    X, y = pd.DataFrame(digits[0], columns=[f"pixel {i}" for i in range(64)]), digits[1].astype(str)
    more = {"groups": np.arange(len(y)) // 10, "sample_weight": np.arange(len(y)) % 3}
    searches = [kind(classifier(), GRID, cv=GroupKFold(3)) for kind in (PopulationSearchCV, GridSearchCV)]
    check_same_results(*(search.fit(X, y, **more) for search in searches))
    assert searches[0].classes_.tolist() == searches[1].classes_.tolist()
    assert searches[0].feature_names_in_.tolist() == X.columns.tolist()


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"class_weight": "balanced", "members": 2},
        {"early_stopping": True, "n_iter_no_change": 1, "epochs": 8, "validation_fraction": 0.2},
    ],
)
def test_population_search_takes_weights_of_the_loss(digits, settings):
    X, y = digits
    # In the last split all weights are equal.
    weights = np.where(np.arange(len(y)) < 54, 0.3 + np.arange(len(y)) % 3, 1.0)
    splits = [(rows, np.arange(104)) for rows in (np.arange(30, 80), np.arange(50), np.arange(54, 104))]
    options = {"cv": splits, "scoring": "neg_log_loss"}
    searches = [
        kind(classifier(**settings), GRID | {"eta_max": [0.1, 2.0]}, **options).fit(X, y, sample_weight=weights)
        for kind in (PopulationSearchCV, GridSearchCV)
    ]
    check_same_results(*searches)


def test_population_search_weighs_the_classes_that_a_split_has(digits):
    X, y = digits
    own = [np.flatnonzero((y == 0) | (y == other))[:18] for other in (1, 2)]
    estimator = classifier(class_weight={0: 1.0, 1: 5.0, 2: 0.2, 3: 1} | dict.fromkeys(range(4, 10), 1.0))
    options = {"cv": [(rows, rows) for rows in own], "scoring": "neg_log_loss", "refit": False}
    check_same_results(*(kind(estimator, GRID, **options).fit(X, y) for kind in (PopulationSearchCV, GridSearchCV)))


def test_population_search_with_weights_trains_folds_together(digits, trainings):
    weights = np.linspace(0.1, 1, len(digits[1]))
    PopulationSearchCV(classifier(class_weight="balanced"), GRID, cv=4, refit=False).fit(*digits, sample_weight=weights)
    assert trainings == [16]


def test_population_search_draws_candidates_as_a_randomised_search(digits):
    grid = {"lam": np.geomspace(1e-5, 0.1, 20).tolist(), "eta_max": [0.1, 0.2]}
    search = PopulationSearchCV(classifier(), grid, n_iter=3, cv=2, random_state=5).fit(*digits)
    check_same_results(search, RandomizedSearchCV(classifier(), grid, n_iter=3, cv=2, random_state=5).fit(*digits))


def test_population_search_repeats_fits_with_other_seeds(digits):
    search = PopulationSearchCV(classifier(), {"lam": [1e-4, 0.1]}, n_repeats=2, cv=2, refit=False).fit(*digits)
    each = [
        GridSearchCV(classifier(random_state=seed), {"lam": [1e-4, 0.1]}, cv=2, refit=False).fit(*digits)
        for seed in (0, 1)
    ]
    for name in ("split0_test_score", "mean_test_score"):
        mean = np.mean([one.cv_results_[name] for one in each], axis=0)
        np.testing.assert_allclose(search.cv_results_[name], mean, rtol=1e-9)


def test_population_search_scores_failing_fits_as_a_grid_search_does(digits):
    grid = {"eta_max": [0.1, -1.0], "lam": [1e-4]}
    results = []
    for kind in (PopulationSearchCV, GridSearchCV):
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            results.append(kind(classifier(), grid, cv=2, error_score=-1.0).fit(*digits))
        assert [one.category for one in caught] == [FitFailedWarning]
        assert "eta_max = -1.0" in str(caught[0].message)
    check_same_results(*results)
    with pytest.raises(ConfigError, match="eta_max = -1"):
        PopulationSearchCV(classifier(), grid, cv=2, error_score="raise").fit(*digits)


def test_population_search_with_networks_that_diverge_scores_them_as_errors(digits):
    settings = {"batch_norm": False, "momentum": 0.0}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        results = [
            kind(classifier(**settings), {"eta_max": [0.1, 1e200]}, cv=2, error_score=-2.0).fit(*digits)
            for kind in (PopulationSearchCV, GridSearchCV)
        ]
    check_same_results(*results)
    assert results[0].cv_results_["mean_test_score"][1] == -2.0


def test_population_search_where_a_fold_lacks_a_class_trains_it_apart(digits):
    X, y = digits[0][:60], np.array([0] * 30 + [1] * 28 + [2] * 2)
    splits = [(np.arange(58), np.arange(58, 60)), (np.arange(1, 60), np.arange(1)), (np.arange(30), np.arange(30, 60))]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        results = [kind(classifier(), GRID, cv=splits).fit(X, y) for kind in (PopulationSearchCV, GridSearchCV)]
    check_same_results(*results)
    assert np.isnan(results[0].cv_results_["split2_test_score"]).all()  # a single class


def test_population_search_is_an_estimator_that_can_be_cloned(digits):
    search = PopulationSearchCV(classifier(), GRID, cv=StratifiedKFold(2), n_repeats=2, max_members=7)
    assert {name: str(value) for name, value in clone(search).get_params(deep=False).items()} == {
        name: str(value) for name, value in search.get_params(deep=False).items()
    }
    steps = []
    search.set_params(n_repeats=1, callbacks=[Calls(on_steps=steps.append)]).fit(*digits)
    assert sum(steps) > 0
    assert search.best_estimator_.n_iter_ == 2


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"n_repeats": 0}, "n_repeats = 0: must be a whole number of at least 1"),
        ({"max_members": 0}, "max_members = 0: must be a whole number of at least 1"),
        ({"n_iter": 0}, "n_iter = 0: must be a whole number of at least 1"),
        ({"storage": 3}, "storage = 3: must be a file, or the URL of a database"),
        ({"callbacks": [1]}, "callbacks = .*: must be a sequence of instances of xpnet.Callback"),
        ({"param_grid": {"lamda": [1]}}, "Invalid parameter 'lamda'"),
        ({"param_grid": {"lam": 0.1}}, "Parameter grid for parameter 'lam' needs to be a list"),
    ],
)
def test_population_search_refuses_what_it_cannot_use(digits, options, message):
    with pytest.raises((ValueError, TypeError), match=message):
        PopulationSearchCV(**({"estimator": classifier(), "param_grid": GRID, "cv": 2} | options)).fit(*digits)
