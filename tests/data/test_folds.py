"""Folds of a training set: every row once, nearly equal sizes, the classes spread evenly."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import xpnet
from xpnet.config.definitions import DataConfig
from xpnet.data.folds import make_folds, with_training_rows
from xpnet.errors import DataError


@given(st.lists(st.integers(0, 3), min_size=20, max_size=60), st.integers(2, 7), st.integers(0, 5), st.booleans())
def test_folds_hold_out_every_row_once_in_sizes_that_differ_by_one(labels, count, seed, stratified):
    labels = np.array(labels + [0, 1, 2, 3] * count)
    folds = make_folds(labels, count, seed=seed, stratified=stratified)
    np.testing.assert_array_equal(np.sort(np.concatenate([fold.held_out for fold in folds])), np.arange(len(labels)))
    for fold in folds:
        np.testing.assert_array_equal(np.sort(np.concatenate(fold)), np.arange(len(labels)))
        assert (np.diff(fold.train) > 0).all()
    assert np.ptp([len(fold.held_out) for fold in folds]) <= 1
    if stratified:
        shares = np.array([np.bincount(labels[fold.held_out], minlength=4) for fold in folds])
        assert (np.ptp(shares, axis=0) <= 1).all()


def test_folds_are_a_function_of_the_seed():
    labels = np.arange(40) % 4
    first, same, other = (make_folds(labels, 5, seed=seed)[0].held_out for seed in (3, 3, 4))
    np.testing.assert_array_equal(first, same)
    assert not np.array_equal(first, other)


@pytest.mark.parametrize(
    ("labels", "count", "stratified", "message"),
    [
        ([0, 1, 0], 4, False, "cv = 4: the training set has 3 rows, which are fewer than the folds"),
        ([0] * 9 + [1] * 2, 3, True, "cv = 3: the class ham has 2 rows in the training set"),
        ([0] * 9 + [1], 3, True, "cv = 3: the class ham has 1 row in the training set"),
    ],
)
def test_folds_of_too_few_rows_are_refused(labels, count, stratified, message):
    with pytest.raises(DataError, match=message):
        make_folds(np.array(labels), count, stratified=stratified, class_names=("eggs", "ham"))


def test_folds_of_a_class_without_rows_are_made():
    assert len(make_folds(np.array([0, 2] * 5), 5, class_names=("a", "b", "c"))) == 5


def test_training_rows_of_a_fold_determine_its_transform(blobs):
    fold = make_folds(blobs.train.labels, 4)[0]
    data = with_training_rows(blobs, fold.train, DataConfig(), validation=blobs.validation, test=blobs.test)
    assert len(data.train) == 300
    np.testing.assert_allclose(data.transform(data.train.x, "float64").mean(axis=0), 0, atol=1e-12)
    np.testing.assert_array_equal(data.train.labels, blobs.train.labels[fold.train])


@pytest.mark.parametrize("numeric", ["standard", "quantile"])
def test_columns_of_a_fold_are_encoded_as_those_of_all_rows(numeric):
    columns = {"a": [None if i % 7 == 0 else float(i) for i in range(60)], "b": ["x", "y", "z"] * 20}
    config = DataConfig(numeric=numeric)
    data = xpnet.data_from_arrays(columns, np.arange(60) % 2, numeric=numeric)
    rows = np.flatnonzero(data.train.x[:, 1] < 2)
    fold = with_training_rows(data, rows, config, validation=data.validation, test=data.test)
    encoder = fold.transform.encoder
    assert (encoder.numeric, encoder.columns) == (numeric, data.transform.encoder.columns)
    assert fold.inputs == data.inputs - 1
    assert np.isfinite(fold.transform(data.test.x)).all()
