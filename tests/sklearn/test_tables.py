"""The estimator on tables: columns of categories, texts and booleans, and missing cells."""

from __future__ import annotations

import pickle

import numpy as np
import pandas as pd
import polars as pl
import pytest
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer

import xpnet
from xpnet.data import NamedColumns, Transform
from xpnet.sklearn import PopulationSearchCV, XpnetClassifier

ROWS = 90


def quick(**settings):
    return XpnetClassifier(**({"hidden": (8,), "epochs": 4, "random_state": 0, "dtype": "float64"} | settings))


def cells():
    """Return columns of all kinds, with missing cells, and classes that follow from two of them."""
    rng = np.random.default_rng(1)
    kinds = np.array(["oak", "elm", "fir"], object)[np.arange(ROWS) % 3]
    height = rng.standard_normal(ROWS) * 3 + 0.1
    y = np.where((kinds == "oak") ^ (height > 0.5), "old", "young")
    columns = {
        "height": [None if i % 11 == 5 else float(h) for i, h in enumerate(height)],
        "kind": [None if i % 13 == 4 else kind for i, kind in enumerate(kinds)],
        "count": rng.integers(0, 9, ROWS).tolist(),
        "planted": [None if i % 17 == 3 else bool(b) for i, b in enumerate(rng.integers(0, 2, ROWS))],
        "town": np.array(["a", "b"], object)[rng.integers(0, 2, ROWS)].tolist(),
    }
    return columns, y


def as_pandas(columns):
    frame = pd.DataFrame(columns)
    return frame.assign(town=frame["town"].astype("category"))


FRAMES = {
    "pandas": as_pandas,
    "pandas nullable": lambda columns: as_pandas(columns).convert_dtypes(),
    "polars": lambda columns: pl.DataFrame(columns).with_columns(pl.col("town").cast(pl.Categorical)),
    "enum": lambda columns: pl.DataFrame(columns).with_columns(pl.col("town").cast(pl.Enum(["a", "b", "c"]))),
    "lazy": pl.LazyFrame,
    "arrow": lambda columns: FRAMES["polars"](columns).to_arrow(),
}


@pytest.fixture(scope="module")
def fitted():
    """Return an estimator that was fitted on a pandas frame, and its probabilities."""
    columns, y = cells()
    estimator = quick().fit(as_pandas(columns), y)
    return estimator, estimator.predict_proba(as_pandas(columns))


@pytest.mark.parametrize("kind", FRAMES)
def test_frames_of_all_libraries_give_the_same(fitted, kind):
    columns, y = cells()
    frame = FRAMES[kind](columns)
    np.testing.assert_array_equal(quick().fit(frame, y).predict_proba(frame), fitted[1])
    moved = FRAMES[kind](dict(reversed(columns.items())))
    np.testing.assert_array_equal(fitted[0].predict_proba(moved), fitted[1])


@pytest.mark.parametrize("numeric", ["standard", "robust", "quantile", "ple"])
def test_columns_are_encoded_as_everywhere_in_xpnet(numeric):
    columns, y = cells()
    estimator = quick(numeric=numeric, max_categories=3, epochs=1).fit(as_pandas(columns), y)
    same = NamedColumns.of(columns)
    expected = Transform.fit(same.x.astype(float), columns=same.columns, numeric=numeric, max_categories=3)
    codes = same.like(tuple(columns), estimator.network_.transform.encoder.columns)
    inputs = estimator.network_.transform(codes, "float64")
    np.testing.assert_allclose(inputs, expected(same.x, "float64"), rtol=1e-5, atol=1e-5)
    probabilities = estimator.network_.predict_proba(columns)[0]
    np.testing.assert_allclose(probabilities, estimator.predict_proba(as_pandas(columns)), rtol=1e-5)


def test_what_the_rows_tell_decides(fitted):
    columns, y = cells()
    assert quick(epochs=60).fit(as_pandas(columns), y).score(as_pandas(columns), y) > 0.9
    frame = as_pandas(columns)
    backwards = quick().fit(frame[::-1], y[::-1])
    np.testing.assert_array_equal(backwards.predict_proba(frame), fitted[1])
    np.testing.assert_allclose(fitted[0].predict_proba(frame[7:8]), fitted[1][7:8], rtol=1e-12)
    weights = np.arange(ROWS) % 3
    repeated = np.repeat(np.arange(ROWS), weights)
    np.testing.assert_array_equal(
        quick().fit(frame, y, sample_weight=weights).predict_proba(frame),
        quick().fit(frame.iloc[repeated], y[repeated]).predict_proba(frame),
    )


def test_unknown_categories_and_missing_cells_are_predicted(fitted):
    columns, _ = cells()
    one = {name: values[:2] for name, values in columns.items()}
    unknown = fitted[0].predict_proba(pd.DataFrame(one | {"kind": ["yew", "ash"], "planted": [None, None]}))
    assert np.isfinite(unknown).all()
    empty = [fitted[0].predict_proba(kind({name: [None] for name in columns})) for kind in (pd.DataFrame, pl.DataFrame)]
    np.testing.assert_array_equal(*empty)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"height": ["tall"] * ROWS}, "X: column height: holds categories such as tall, where the training data has"),
        ({"kind": [3.5] * ROWS}, "X: column kind: holds numbers, where the training data has categories"),
        ({"planted": [2] * ROWS}, "X: column planted: holds numbers, where the training data has booleans"),
    ],
)
def test_columns_of_another_kind_are_refused(fitted, changed, message):
    with pytest.raises(ValueError, match=message):
        fitted[0].predict(pd.DataFrame(cells()[0] | changed))


def test_missing_numbers_of_an_array_are_filled(table):
    X, y = table[0].copy(), table[1]
    complete = quick().fit(X, y)
    X[3, 1] = np.nan
    with pytest.raises(ValueError, match="X: column 1: row 3: the value is missing"):
        complete.predict(X)
    fitted = quick().fit(X, y)
    frame = pd.DataFrame(X, columns=list("abcd"))
    np.testing.assert_array_equal(quick().fit(frame, y).predict_proba(frame), fitted.predict_proba(X))
    filled = np.nan_to_num(X, nan=float(np.nanmedian(X[:, 1])))
    assert (fitted.predict_proba(filled)[np.arange(120) != 3] == fitted.predict_proba(X)[np.arange(120) != 3]).all()
    with pytest.raises(ValueError, match="X: column a: row 0: the value is missing"):
        quick().fit(frame.fillna(0), y).predict(frame.assign(a=np.nan))


def test_fits_that_continue_keep_the_encoding():
    columns, y = cells()
    frame = as_pandas(columns)
    estimator = quick(warm_start=True).fit(frame, y)
    categories = estimator.network_.transform.encoder.columns
    estimator.fit(frame[::-1].assign(kind="oak"), y[::-1])
    assert estimator.network_.transform.encoder.columns == categories
    with pytest.raises(ValueError, match="warm_start: numeric = ple differs from that before"):
        estimator.set_params(numeric="ple").fit(frame, y)
    partial = quick().partial_fit(frame[:50], y[:50], classes=np.unique(y)).partial_fit(frame[50:], y[50:])
    assert np.isfinite(partial.predict_proba(frame)).all()


def test_an_estimator_of_tables_is_pickled_and_its_network_saved(fitted, tmp_path):
    columns, _ = cells()
    frame = as_pandas(columns)
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(fitted[0])).predict_proba(frame), fitted[1])
    fitted[0].network_.save(tmp_path / "trees.safetensors")
    loaded = xpnet.load(tmp_path / "trees.safetensors")
    np.testing.assert_allclose(loaded.predict_proba(columns)[0], fitted[1], rtol=1e-5)


@pytest.mark.thorough
@pytest.mark.parametrize("kind", ["pandas", "polars"])
def test_population_search_encodes_every_split_by_itself(kind):
    columns, y = cells()
    columns["kind"][:40] = ["yew", "yew", "ash", "ash"] * 10  # so that splits have inputs of several widths
    frame, splits = FRAMES[kind](columns), [(np.arange(40, 90), np.arange(40)), (np.arange(50), np.arange(50, 90))]
    estimator = make_pipeline(FunctionTransformer(), quick(members=2, early_stopping=True, selection="greedy"))
    grid = {"xpnetclassifier__lam": [1e-4, 0.1], "xpnetclassifier__numeric": ["standard", "quantile"]}
    searches = [
        of(estimator, grid, cv=splits, scoring="neg_log_loss").fit(frame, y)
        for of in (PopulationSearchCV, GridSearchCV)
    ]
    for name in ("split0_test_score", "split1_test_score"):
        np.testing.assert_allclose(*(search.cv_results_[name] for search in searches), rtol=1e-9)
    np.testing.assert_allclose(*(search.predict_proba(frame) for search in searches), rtol=1e-9)
