"""What the estimator does beyond scikit-learn's own checks."""

from __future__ import annotations

import copy
import dataclasses
import inspect
import pickle
import subprocess
import sys

import narwhals as nw
import numpy as np
import pandas as pd
import polars as pl
import pytest
from examples import pairs
from scipy.sparse import csr_array
from sklearn import set_config
from sklearn.base import clone
from sklearn.datasets import load_digits
from sklearn.model_selection import GridSearchCV, cross_val_score, cross_validate
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import MinMaxScaler
from strict import pretended_cupy

import xpnet
from xpnet.errors import ConfigError, DivergedError
from xpnet.sklearn import XpnetClassifier
from xpnet.sklearn.ensemble import diverse
from xpnet.sklearn.parameters import (
    _AUTOMATIC,
    _ELSEWHERE,
    _by_class,
    automatic_batch_size,
    automatic_epochs,
    train_config,
)

QUICK = {"hidden": (8,), "epochs": 4, "random_state": 0}


def quick(**settings):
    return XpnetClassifier(**(QUICK | settings))


def states_of(estimator):
    return {name for name in vars(estimator) if name.endswith("_")}


# Parameters.


def test_every_setting_of_a_training_and_a_network_is_a_parameter_once():
    names = list(inspect.signature(XpnetClassifier).parameters)
    assert len(names) == len(set(names))
    settings = [f.name for kind in (xpnet.NetworkConfig, xpnet.TrainConfig) for f in dataclasses.fields(kind)]
    assert set(settings) - set(names) == _ELSEWHERE & set(settings)
    assert {"numeric", "max_categories"} <= set(names)
    assert list(XpnetClassifier().get_params()) == sorted(names)
    assert all(f"        {name}: " in XpnetClassifier.__doc__ for name in names)
    with pytest.raises(TypeError, match="unexpected keyword argument 'lamda'"):
        XpnetClassifier(lamda=1)


def test_settings_reach_the_network_and_the_training(table):
    fitted = quick(hidden=(6, 5), init="xavier", schedule="constant", eta=0.05, dtype="float64").fit(*table)
    assert fitted.network_.config == xpnet.NetworkConfig(inputs=4, hidden=(6, 5), classes=3, init="xavier")
    assert fitted.network_.dtype == np.float64
    assert set(fitted.history_["eta"]) == {0.05}
    assert quick(epochs="auto", cycles=1, n_s="2ep", schedule="triangular").fit(*table).n_iter_ == 4


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"members": 0}, "members = 0: must be a whole number of at least 1"),
        ({"lam": -1}, "lambda = -1: must be a finite number of at least 0"),
        ({"selection": "best"}, "selection = best: must be mean or greedy"),
        ({"early_stopping": "yes"}, "early_stopping = yes: must be True, False or 'auto'"),
        ({"validation_fraction": 1}, "validation_fraction = 1: must be"),
        ({"lam": (0.1, 0.2)}, "lambda: has 2 values for 1 replicas"),
        ({"numeric": "ranks"}, "numeric = ranks: must be standard, robust, quantile or ple"),
        ({"max_categories": 1}, "max_categories = 1: must be a whole number"),
        ({"device": "tpu"}, "device = tpu: must be auto, cpu, gpu or gpu:N"),
    ],
)
def test_parameter_out_of_range_is_named_and_nothing_is_fitted(table, parameters, message):
    estimator = quick(**parameters)
    with pytest.raises((ValueError, RuntimeError), match=f"^{message}"):
        estimator.fit(*table)
    assert not states_of(estimator)


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ({"optimiser": "sgd"}, (0.9, 0.03)),
        ({"batch_size": 64}, (0.9, 0.06)),
        ({"batch_size": 256}, (0.9, 0.1)),
        ({"optimiser": "adamw"}, (0.0, 0.003)),
    ],
)
def test_automatic_rates_follow_from_the_optimiser_and_the_batches(values, expected):
    values = {"batch_size": 32, **values}
    assert tuple(_AUTOMATIC[name](values, 100, 30) for name in ("momentum", "eta_max")) == expected


@pytest.mark.parametrize(("rows", "expected"), [(50, 0.4), (999, 0.4), (1000, 0.2), (19_999, 0.2), (20_000, 0.0)])
def test_automatic_dropout_is_for_few_rows_and_hidden_layers(rows, expected):
    assert train_config(XpnetClassifier(), rows, 30).dropout == expected
    assert train_config(XpnetClassifier(hidden=()), rows, 30).dropout == 0
    assert train_config(XpnetClassifier(hidden=(200, 16)), rows, 30).dropout == expected / 4
    assert train_config(XpnetClassifier(dropout=0.1), rows, 30).dropout == 0.1


@pytest.mark.parametrize(
    ("rows", "inputs", "rate", "epochs"),
    [(50, 16, 0.1, 36), (199, 4, 0.025, 36), (200, 4, 0, 60), (1999, 500, 0.1, 36), (2000, 500, 0, 60)],
)
def test_scarce_rows_drop_inputs_and_have_fewer_epochs(rows, inputs, rate, epochs):
    found = train_config(XpnetClassifier(hidden=()), rows, inputs)
    assert (found.input_dropout, found.epochs) == (rate, epochs)
    assert train_config(XpnetClassifier(input_dropout=0.3), rows, inputs).input_dropout == 0.3


def test_weights_of_classes_are_put_in_their_order():
    assert _by_class({"b": 2, "a": 3}, ["a", "b", "c"]) == (3.0, 2.0, 1.0)
    assert _by_class({"b": 2, "a": 3, "c": 4}, ["a", "c"]) == (3.0, 4.0)
    with pytest.raises(ValueError, match="class_weight: d, e is none of the classes of y"):
        _by_class({"d": 1, "e": 1}, ["a", "b"])


@pytest.mark.parametrize("rows", [1, 15, 50, 341, 1000, 1797, 20_000, 60_001, 10**7])
def test_automatic_lengths_leave_no_batch_of_one_row(rows):
    size = automatic_batch_size(rows)
    assert 32 <= size <= 257
    assert rows <= size or rows % size != 1
    assert 15 <= automatic_epochs(rows, 1, size) <= 60


# X and y.

FRAMES = {
    "pandas": lambda X: pd.DataFrame(X, columns=list("abcd")),
    "polars": lambda X: pl.DataFrame(X, schema=list("abcd")),
    "lazy": lambda X: pl.LazyFrame(X, schema=list("abcd")),
    "pandas nullable": lambda X: pd.DataFrame(X, columns=list("abcd")).convert_dtypes(),
    "arrow": lambda X: pl.DataFrame(X, schema=list("abcd")).to_arrow(),
}


@pytest.mark.parametrize("kind", FRAMES)
def test_frames_give_the_same_as_arrays_and_their_columns_are_found_by_name(table, kind):
    X, y = table
    frame, expected = FRAMES[kind](X), quick().fit(X, y).predict_proba(X)
    fitted = quick().fit(frame, y)
    assert fitted.feature_names_in_.tolist() == list("abcd")
    assert fitted.network_.feature_names == tuple("abcd")
    np.testing.assert_array_equal(fitted.predict_proba(frame), expected)
    moved = nw.from_native(frame).select("c", "a", "d", "b").to_native()
    np.testing.assert_array_equal(fitted.predict_proba(moved), expected)
    for columns in (["a", "b", "c"], ["a", "b", "c", "x"]):
        other = nw.from_native(frame).rename({"d": "x"}).select(columns).to_native()
        with pytest.raises(ValueError, match="feature names should match"):
            fitted.predict(other)


@pytest.mark.parametrize(
    ("dtype", "layout"),
    pairs(
        [bool, np.uint8, np.int8, np.int64, np.float16, np.float32, np.longdouble, object],
        [np.ascontiguousarray, np.asfortranarray, lambda x: np.repeat(x, 2, axis=1)[:, ::2]],
    ),
)
def test_arrays_of_every_real_type_and_layout_give_the_same(table, dtype, layout):
    X = np.round(np.abs(table[0])).clip(0, 1 if dtype is bool else 9)
    fitted = quick(epochs=1).fit(layout(X.astype(dtype)), table[1])
    np.testing.assert_allclose(
        fitted.predict_proba(X), quick(epochs=1).fit(X, table[1]).predict_proba(X), rtol=1e-4, atol=1e-6
    )


def test_large_integers_keep_their_differences():
    X = 2**40 + np.arange(40)[:, None] % 2
    assert quick(epochs=20).fit(X, X[:, 0] % 2).score(X, X[:, 0] % 2) == 1


class Tensor:
    """A tensor of another library that lies on a GPU unless it is brought to the host."""

    def __init__(self, values, *, there=True):
        self._values, self._there = values, there

    def __dlpack__(self, *, dl_device=None, copy=None, **_):
        if self._there and dl_device is None:
            raise BufferError("lies on a GPU")
        return self._values.__dlpack__()

    def __dlpack_device__(self):
        return (2, 0) if self._there else (1, 0)


def test_tensors_come_by_dlpack(table):
    X, y = table
    expected = quick().fit(X, y).predict_proba(X)
    np.testing.assert_array_equal(quick().fit(Tensor(X, there=False), y).predict_proba(Tensor(X)), expected)
    with pytest.raises(ValueError, match=r"a \w+\.Tensor cannot become a NumPy array"):
        quick().fit(Tensor(None), y)


@pytest.mark.parametrize(
    ("X", "y", "message"),
    [
        (None, np.linspace(0, 1, 120), "Unknown label type: continuous. y is a regression target, with values such as"),
        (None, np.zeros(120), "y has one class, 0.0"),
        (None, [*[0.0] * 119, np.nan], "Input y contains NaN"),
        (np.full((120, 4), np.inf), None, "Input X contains infinity"),
        (np.full((120, 4), 1e200), None, r"X has values beyond 1e\+150"),
        (
            pd.DataFrame({"day": pd.to_datetime(["2020-01-01"] * 120)}),
            None,
            "X has the column 'day' of type .*Datetime",
        ),
        (pl.DataFrame({"town": [[1], [2]] * 60}), None, "X has the column 'town' of type .*List"),
        (pd.DataFrame({"name": list(map("n{}".format, range(120)))}), None, "X: column name: is text or identifiers"),
        (pl.DataFrame({"day": [None, None] * 60}), None, "no column has different values in the training rows"),
        (csr_array(np.eye(120)), None, "Sparse data was passed"),
        (pd.DataFrame(np.eye(120)[:, :2], columns=["a", "a"]), None, "Expected unique column names"),
        (None, [*["ash"] * 119, None], "y has labels of the types NoneType, str; they must be of one type"),
        (None, pd.Series([1, 2, None] * 40, dtype="Int64"), "Input y contains NaN"),
        (np.empty((0, 4)), [], r"Found array with 0 sample\(s\)"),
    ],
)
def test_bad_input_is_one_sentence_and_leaves_the_estimator_as_it_was(table, X, y, message):
    estimator = quick().fit(*table)
    before = pickle.dumps(estimator)
    with pytest.raises((ValueError, TypeError), match=message):
        estimator.fit(table[0] if X is None else X, table[1] if y is None else y)
    assert pickle.dumps(estimator) == before


@pytest.mark.parametrize(
    "names",
    [
        np.array([False, True]),
        np.array([-3, 7]),
        np.array(["no", "yes"]),
        pd.Categorical(["x", "y"], ["y", "x"]),
        pl.Series(["a", "b"], dtype=pl.Categorical),
        np.array([1.0, 2.0]),
        pd.Series(["a", "b"]),
        pd.Series([4, 5], dtype="Int64"),
    ],
)
def test_classes_are_predicted_in_their_own_type(names):
    X = np.repeat([[-1.0], [1.0]], 20, axis=0) + np.linspace(0, 0.1, 40)[:, None]
    y = np.repeat(np.asarray(names), 20)
    y = type(names)(y) if isinstance(names, (pd.Categorical, pd.Series, pl.Series)) else y
    fitted = quick(epochs=20).fit(X, y)
    assert fitted.classes_.tolist() == sorted(np.asarray(names).tolist())
    assert fitted.predict(X).tolist() == np.asarray(y).tolist()


# Weights.


def test_whole_weights_equal_repeated_rows_in_any_order(table):
    X, y = table
    weights = np.arange(120) % 4
    repeated = np.random.default_rng(1).permutation(np.repeat(np.arange(120), weights))
    for partial in (False, True):
        fits = []
        for rows, weight in ((repeated, None), (np.arange(120), weights)):
            estimator = quick()
            if partial:
                estimator.partial_fit(X[rows], y[rows], classes=np.unique(y), sample_weight=weight)
            else:
                estimator.fit(X[rows], y[rows], sample_weight=weight)
            fits.append(estimator.predict_proba(X))
        np.testing.assert_array_equal(*fits)


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        (np.zeros(120), "at least one non-zero number"),
        (-np.ones(120), "Negative values in data passed to `sample_weight`"),
        (np.full(120, np.nan), "NaN"),
        (np.full(120, np.inf), "infinity"),
        (np.ones(119), "sample_weight.shape == "),
        (np.arange(120) % 3 == 0, "y has one class, ash"),
    ],
)
def test_bad_weights_are_one_sentence(table, weights, message):
    with pytest.raises(ValueError, match=message):
        quick().fit(*table, sample_weight=weights)


@pytest.mark.parametrize("members", [1, 2])
def test_other_weights_are_those_of_the_loss_in_any_order_and_of_any_scale(table, members):
    X, y = table
    weights = np.where(y == "ash", 2.5, 0.5) * (np.arange(120) % 5 > 0)  # every fifth row is left out
    fitted, same, scaled, plain = (
        quick(dtype="float64", members=members).fit(X[rows], y[rows], sample_weight=None if w is None else w[rows])
        for rows, w in (
            (np.arange(120), weights),
            (np.random.default_rng(0).permutation(120), weights),
            (np.arange(120), 1e6 * weights),
            (weights > 0, None),
        )
    )
    probabilities = fitted.predict_proba(X)
    np.testing.assert_array_equal(same.predict_proba(X), probabilities)
    np.testing.assert_allclose(scaled.predict_proba(X), probabilities, rtol=1e-9)
    assert (probabilities[:, 0] > plain.predict_proba(X)[:, 0]).mean() > 0.9
    assert fitted.n_samples_seen_ == 96
    np.testing.assert_allclose(fitted.network_.standardiser.mean, X[weights > 0].mean(axis=0))
    by_class = quick(dtype="float64", members=members, class_weight={"ash": 5}).fit(X[weights > 0], y[weights > 0])
    np.testing.assert_allclose(by_class.predict_proba(X), probabilities, rtol=1e-9)


def test_weights_beyond_few_repetitions_are_those_of_the_loss(table):
    X, y = table
    weights = 100 + np.arange(120)
    fitted = quick(dtype="float64").fit(X, y, sample_weight=weights)
    halved = quick(dtype="float64").fit(X, y, sample_weight=weights / 2)
    assert fitted.n_samples_seen_ == 120
    np.testing.assert_allclose(fitted.predict_proba(X), halved.predict_proba(X), rtol=1e-9)


def test_balanced_classes_have_equal_sums_of_weights(table):
    X, y = table[0][:100], np.where(np.arange(100) < 80, "ash", "beech")
    weights = np.random.default_rng(0).uniform(0.1, 3, 100)
    balance = weights / np.where(y == "ash", weights[:80].sum(), weights[80:].sum())
    fits = [
        quick(dtype="float64", class_weight=by_class).fit(X, y, sample_weight=w)
        for by_class, w in (("balanced", weights), (None, balance))
    ]
    np.testing.assert_allclose(*(fitted.predict_proba(X) for fitted in fits), rtol=1e-9)
    unweighted = quick(dtype="float64", class_weight="balanced").fit(X, y)
    given = quick(dtype="float64", class_weight=(1, 4)).fit(X, y)
    np.testing.assert_allclose(unweighted.predict_proba(X), given.predict_proba(X), rtol=1e-9)


def test_partial_fit_takes_weights_of_the_loss(table):
    X, y = table
    fits = [
        quick(dtype="float64").partial_fit(X, y, classes=np.unique(y), sample_weight=w).partial_fit(X, y, None, w)
        for w in (np.linspace(0.1, 1, 120), np.linspace(0.2, 2, 120), None)
    ]
    first, second, plain = (fitted.predict_proba(X) for fitted in fits)
    np.testing.assert_allclose(first, second, rtol=1e-9)
    assert np.abs(first - plain).max() > 1e-3


def test_weights_are_routed_through_a_search(table):
    set_config(enable_metadata_routing=True)
    try:
        estimator = quick().set_fit_request(sample_weight=True).set_score_request(sample_weight=False)
        search = GridSearchCV(estimator, {"lam": [0, 0.01]}, cv=2)
        weights = np.arange(120) // 3 % 2
        search.fit(*table, sample_weight=weights)
        alone = quick(lam=search.best_params_["lam"]).fit(table[0][weights > 0], table[1][weights > 0])
        np.testing.assert_array_equal(search.predict_proba(table[0]), alone.predict_proba(table[0]))
    finally:
        set_config(enable_metadata_routing=False)


# Fitting.


def test_random_state_determines_everything_and_the_order_of_rows_nothing(table):
    X, y = table
    one, same = (quick(members=2, early_stopping=True).fit(X, y) for _ in range(2))
    np.testing.assert_array_equal(one.predict_proba(X), same.predict_proba(X))
    backwards = quick(members=2, early_stopping=True).fit(X[::-1], y[::-1])
    np.testing.assert_array_equal(one.predict_proba(X), backwards.predict_proba(X))
    other = quick(members=2, random_state=1).fit(X, y)
    assert (one.predict_proba(X) != other.predict_proba(X)).all()
    generator = np.random.RandomState(0)
    assert one.network_.seeds == quick(members=2, random_state=np.random.RandomState(0)).fit(X, y).network_.seeds
    assert clone(quick(random_state=generator)).fit(X, y).network_.seeds == one.network_.seeds[:1]


def test_early_stopping_keeps_the_best_epoch_of_every_member(table):
    X, y = table
    settings = {"epochs": 30, "validation_fraction": 0.3, "eta_max": 0.1, "dropout": 0.0}
    fitted = quick(members=3, early_stopping=True, **settings).fit(X, y)
    losses = fitted.history_["validation_loss"]
    assert len(set(losses.argmin(axis=0))) > 1
    # The rows that validated are those with which each member has the loss of its best epoch.
    held = _validation_rows(X, y)
    for r in range(3):
        logs = np.log(fitted.network_.predict_proba(held[0])[r])
        loss = -logs[np.arange(len(held[1])), np.searchsorted(fitted.classes_, held[1])].mean()
        assert loss == pytest.approx(losses[:, r].min(), rel=1e-4)
    assert fitted.validation_scores_ == pytest.approx(fitted.history_["validation_accuracy"].mean(axis=1))


def _validation_rows(X, y):
    from xpnet.sklearn.rows import data_set
    from xpnet.sklearn.weights import WeightedRows

    rng = np.random.RandomState(0)
    rng.randint(2**31 - 3)
    classes, labels = np.unique(y, return_inverse=True)
    data = data_set(WeightedRows(X, labels), tuple(classes), validation=0.3, rng=rng)
    assert data.counts == {"train": 84, "validation": 36, "test": 1}
    return data.validation.x, classes[data.validation.labels]


def test_training_stops_after_epochs_without_improvement(table):
    fitted = quick(early_stopping=True, n_iter_no_change=2, epochs=500, eta_max=0.5, dropout=0.0).fit(*table)
    best = int(fitted.history_["validation_loss"].argmin())
    assert best + 3 <= fitted.n_iter_ <= best + 4
    assert fitted.n_iter_ == len(fitted.loss_curve_) == len(fitted.validation_scores_)
    everything = quick().fit(*table)
    assert everything.validation_scores_ is None
    assert np.isnan(everything.history_["validation_loss"]).all()


def test_early_stopping_without_rows_to_spare_is_refused():
    with pytest.raises(ValueError, match="early_stopping: 3 rows of 3 classes leave none to validate with"):
        quick(early_stopping=True).fit(np.eye(3), [0, 1, 2])


def test_warm_start_continues_and_a_second_fit_starts_again(table):
    X, y = table
    once = quick(warm_start=True).fit(X, y)
    first = once.network_.parameters["W1"].copy()
    np.testing.assert_array_equal(quick().fit(X, y).fit(X, y).network_.parameters["W1"], first)
    transform = once.network_.transform
    once.fit(X + 100, y)
    assert (
        once.network_.transform is transform or (once.network_.standardiser.mean == transform.standardiser.mean).all()
    )
    assert (once.network_.parameters["W1"] != first).any()
    with pytest.raises(ValueError, match="warm_start: the classes differ"):
        once.fit(X, y == "ash")
    with pytest.raises(ValueError, match="warm_start: members or settings of the network differ"):
        once.set_params(members=2).fit(X, y)
    with pytest.raises(ValueError, match="warm_start: members or settings of the network differ"):
        once.set_params(members=1, hidden=(9,)).fit(X, y)


def test_partial_fit_learns_from_one_part_after_another(table):
    X, y = table
    estimator = XpnetClassifier(hidden=(8,), eta=0.3, random_state=0)
    with pytest.raises(ValueError, match="classes must be given in the first call"):
        estimator.partial_fit(X, y)
    for _ in range(10):
        for start in range(0, 120, 30):
            part = slice(start, start + 30)
            estimator.partial_fit(X[part], y[part], classes=np.unique(y))
    assert (estimator.n_iter_, estimator.n_samples_seen_) == (40, 1200)
    assert estimator.score(X, y) > 0.85
    with pytest.raises(ValueError, match="y has the class oak, which is none of `classes`"):
        estimator.partial_fit(X[:2], ["oak", "ash"])
    # Rows of one class are fine, and leave what was known of the others.
    ashes = y == "ash"
    estimator.partial_fit(X[ashes][:5], y[ashes][:5])
    assert estimator.score(X, y) > 0.8


def test_callback_that_raises_leaves_the_estimator_as_it_was(table):
    class Raises(xpnet.Callback):
        def on_epoch_end(self, record):
            raise KeyError("mine")

    estimator = quick(callbacks=[Raises()])
    for fitted in (False, True):
        with pytest.raises(KeyError, match="mine"):
            estimator.fit(*table)
        assert bool(states_of(estimator)) == fitted
        estimator.set_params(callbacks=()).fit(*table).set_params(callbacks=[Raises()])


def test_divergence_is_told(table):
    with pytest.raises(DivergedError):
        quick(eta_max=1e30, batch_norm=False).fit(*table)


def test_verbose_shows_a_bar(table, capsys):
    quick(verbose=1).fit(*table)
    assert "epoch=4" in capsys.readouterr().err
    quick().fit(*table)
    assert capsys.readouterr() == ("", "")


# Ensembles.


def test_members_differ_and_their_probabilities_are_averaged(table):
    X, y = table
    fitted = quick(members=3).fit(X, y)
    each = fitted.network_.predict_proba(X)
    assert each.shape == (3, 120, 3)
    np.testing.assert_allclose(fitted.predict_proba(X), each.mean(axis=0), atol=1e-5)
    # Each is the network of its own seed.
    alone = xpnet.Network(fitted.network_.config, seed=fitted.network_.seeds[1])
    assert fitted.network_.seeds == tuple(fitted.network_.seeds[0] + r for r in range(3))
    assert (alone.parameters["W1"][0] != fitted.network_.parameters["W1"][1]).any()


def test_diversity_gives_each_member_its_own_rate_and_penalty(table):
    fitted = quick(members=8, diversity=True, schedule="constant", eta=0.02).fit(*table)
    rates = fitted.history_["eta"][0]
    assert len(set(rates)) == 8
    assert 0.01 <= rates.min() < rates.max() <= 0.04


@pytest.mark.parametrize(("given", "low", "high"), [(0.0, 0.01, 0.3), (0.4, 0.2, 0.8), (0.8, 0.4, 0.9)])
def test_diversity_draws_dropout_of_networks_with_hidden_layers(given, low, high):
    config = xpnet.TrainConfig(dropout=given)
    drawn = diverse(config, 500, np.random.RandomState(0), drops=True)
    assert low <= min(drawn["dropout"]) < low * 1.1
    assert high * 0.9 < max(drawn["dropout"]) <= high
    linear = diverse(config, 500, np.random.RandomState(0), drops=False)
    assert all(linear[name] == drawn[name] for name in ("eta_max", "eta", "lam"))
    assert ("dropout" in linear) == (given > 0)


def test_diversity_drops_outputs_of_hidden_layers(table):
    assert quick(members=2, diversity=True, hidden=()).fit(*table).network_.replicas == 2
    fits = [quick(members=2, diversity=True, dropout=dropout).fit(*table) for dropout in (0.0, 0.5)]
    assert (fits[0].predict_proba(table[0]) != fits[1].predict_proba(table[0])).all()


def test_diverged_members_have_no_weight(table):
    X, y = table
    fitted = quick(members=3, lam=(0, 1e30, 0), schedule="constant").fit(X, y)
    assert fitted.member_weights_.tolist() == [0.5, 0, 0.5]
    assert np.isfinite(fitted.predict_proba(X)).all()


def test_greedy_selection_has_the_lowest_log_loss_on_validation_rows(table):
    X, y = table
    fitted = quick(members=6, diversity=True, selection="greedy", validation_fraction=0.3).fit(X, y)
    weights = fitted.member_weights_
    assert weights.sum() == pytest.approx(1)
    counts = weights / weights[weights > 0].min()
    assert np.abs(counts - np.rint(counts)).max() < 1e-6 or (weights * 50).round(6).tolist()


# Copies, files, scikit-learn.


def test_fitted_estimator_goes_through_pickle_clone_and_deepcopy(table):
    X, y = table
    fitted = quick(members=2).fit(X, y)
    for again in (pickle.loads(pickle.dumps(fitted)), copy.deepcopy(fitted)):
        np.testing.assert_array_equal(again.predict_proba(X), fitted.predict_proba(X))
        assert again.history_.to_csv() == fitted.history_.to_csv()
    assert not states_of(clone(fitted))
    assert clone(fitted).get_params() == fitted.get_params()
    state = fitted.__getstate__() | {"_xpnet_version": "99.0"}
    with pytest.raises(ValueError, match=r"was pickled by xpnet 99\.0, which is newer"):
        XpnetClassifier.__new__(XpnetClassifier).__setstate__(state)


def test_probabilities_of_a_row_do_not_depend_on_the_other_rows(table):
    X, y = table
    fitted = quick(members=2).fit(X, y)
    np.testing.assert_allclose(fitted.predict_proba(X[:1]), fitted.predict_proba(X)[:1], rtol=1e-12)
    logs = fitted.decision_function(X)
    np.testing.assert_array_equal(fitted.classes_[logs.argmax(axis=1)], fitted.predict(X))
    two = quick().fit(X, y == "ash")
    assert ((two.decision_function(X) > 0) == two.predict(X)).all()


def test_network_is_a_network_of_xpnet(table):
    X, y = table
    fitted = quick(members=2).fit(pd.DataFrame(X, columns=list("abcd")), y)
    fitted.network_.save("model.safetensors")
    network = xpnet.load("model.safetensors")
    assert network.class_names == ("ash", "beech", "cedar")
    np.testing.assert_allclose(
        network.predict_proba(X).mean(axis=0), fitted.predict_proba(pd.DataFrame(X, columns=list("abcd"))), atol=1e-5
    )


@pytest.mark.slow
def test_pipelines_searches_and_workers_of_joblib_take_it():
    X, y = load_digits(return_X_y=True)
    pipeline = make_pipeline(MinMaxScaler(), XpnetClassifier(random_state=0))
    scores = cross_val_score(pipeline, X, y, cv=5, n_jobs=2)
    assert scores.mean() > 0.94
    found = cross_validate(XpnetClassifier(random_state=0), X, y, cv=5)
    assert found["test_score"].mean() > 0.94


def test_importing_xpnet_does_not_import_scikit_learn():
    code = "import sys, xpnet; assert 'sklearn' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
    assert xpnet.sklearn.XpnetClassifier is XpnetClassifier


def test_without_scikit_learn_a_sentence_names_the_extra():
    code = "import sys; sys.modules['sklearn'] = None; import xpnet.sklearn"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert "MissingExtraError: xpnet.sklearn needs scikit-learn, which is not installed: " in done.stderr
    assert "pip install 'xpnet[sklearn]'" in done.stderr


def test_configuration_errors_are_value_errors():
    assert issubclass(ConfigError, ValueError)


def test_a_gpu_trains_and_predicts_the_same(table, monkeypatch):
    X, y = table
    settings = {"members": 2, "early_stopping": True, "dtype": "float64", "selection": "greedy"}
    expected = quick(**settings).fit(X, y).partial_fit(X, y)
    module = pretended_cupy(monkeypatch)
    fitted = quick(**settings, device="gpu").fit(X, y).partial_fit(X, y)
    assert isinstance(fitted.network_.parameters["W1"], module.ndarray)
    np.testing.assert_allclose(fitted.predict_proba(X), expected.predict_proba(X), rtol=1e-6)
    np.testing.assert_allclose(pickle.loads(pickle.dumps(fitted)).predict_proba(X), fitted.predict_proba(X))
