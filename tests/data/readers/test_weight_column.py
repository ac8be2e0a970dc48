"""The column of a table that holds the weights of its samples."""

from __future__ import annotations

from pathlib import Path

import data_files
import numpy as np
import pytest
from data_files import refused

import xpnet
from xpnet.data import read_raw


def table(path: Path, weights: object = None, rows: int = 60) -> Path:
    """Write a table whose feature `id` is the number of a row, and whose weight is twice as much."""
    numbers = np.arange(rows)
    weights = 2 * numbers if weights is None else weights
    columns = {"id": numbers, "w": weights, "kind": [f"k{i % 3}" for i in numbers], "x": numbers / 8}
    if path.suffix == ".parquet":
        return data_files.write_parquet(path, columns=columns)
    lines = [",".join(map(str, row)) for row in zip(*columns.values(), strict=True)]
    path.write_text("\n".join([",".join(columns), *lines]) + "\n")
    return path


@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
@pytest.mark.parametrize("weight", ["w", "1", "-3"])
def test_weight_column_is_no_feature_and_weighs_its_rows(tmp_path, suffix, weight):
    raw = read_raw(table(tmp_path / f"t{suffix}"), target="kind", weight=weight)
    assert raw.feature_names == ("id", "x")
    np.testing.assert_array_equal(raw.weights, 2 * raw.x[:, 0])
    assert raw.x.shape[1] == raw.x_test.shape[1] == 2


def test_weight_column_of_a_test_table_is_no_feature_either(tmp_path):
    table(tmp_path / "train.csv")
    table(tmp_path / "test.csv", rows=12)
    data = xpnet.load_data(tmp_path, target="kind", weight="w")
    assert (data.features, len(data.test), data.test.weights) == (2, 12, None)
    np.testing.assert_array_equal(data.validation.weights, 2 * data.validation.x[:, 0])


def test_weight_column_of_a_file_without_names_is_given_by_its_number(tmp_path):
    path = tmp_path / "t.csv"
    path.write_text("\n".join(f"{i},{i % 2},{i / 8}" for i in range(40)))
    raw = read_raw(path, target="1", weight="-1")
    np.testing.assert_array_equal(raw.weights, raw.x[:, 0] / 8)


@pytest.mark.parametrize(
    ("weights", "weight", "sentence"),
    [
        (None, "kind", r"weight = kind: .*column 2 \(kind\) has the labels; name another column"),
        (None, "weights", r"weight = weights: .* has no such column; its columns are id, w, kind, x"),
        (None, "7", r"weight = 7: .* has the columns 0 to 3"),
        (np.arange(60) - 1, "w", r"t\.csv: column 1 \(w\) has the weight -1 in row 0; weights must be finite"),
        (np.zeros(60, int), "w", r"t\.csv: column 1 \(w\) is 0 in every row; "),
    ],
)
def test_weight_column_that_is_none_is_refused(tmp_path, weights, weight, sentence):
    refused(sentence, table(tmp_path / "t.csv", weights), target="kind", weight=weight)


def test_weight_column_of_data_without_columns_is_refused():
    refused(r"weight = w: has no effect on patterns", "patterns", weight="w")
