"""Encoded columns: what training rows teach, what is unseen, what files keep, and the formulas of numeric scales."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from data_files import few_examples
from hypothesis import given
from hypothesis import strategies as st

import xpnet
from xpnet.data import Column, Encoder
from xpnet.data.numeric_scales import BINS, NUMERIC
from xpnet.errors import DataError

KINDS = (Column(), Column("boolean", ("false", "true")), Column("category", ("", "a", "b", "c")), Column(gap="here"))


def codes(rows: int, seed: int) -> np.ndarray:
    """Return codes of `KINDS`, of which every number varies."""
    rng = np.random.default_rng(seed)
    x = np.stack([rng.normal(3, 2, rows), rng.integers(0, 2, rows), rng.integers(0, 4, rows), rng.gamma(1, 5, rows)], 1)
    x[: rows // 5, 3] = np.nan
    x[:2, 1] = 0, 1
    return rng.permutation(x)


@few_examples
@given(rows=st.integers(30, 300), seed=st.integers(0, 99), numeric=st.sampled_from(NUMERIC))
def test_inputs_of_training_rows_have_mean_0_and_deviation_1_where_they_should(rows: int, seed: int, numeric: str):
    x = codes(rows, seed)
    transform = xpnet.Transform.fit(x, columns=KINDS, numeric=numeric)
    z, names = transform(x, "float64"), transform.encoder.output_names(("n", "b", "c", "g"))
    assert z.shape == (rows, transform.inputs) == (rows, len(names))
    mean, std = z.mean(axis=0), z.std(axis=0)
    scaled = [name == "b" or (numeric == "standard" and name in "ng") for name in names]
    np.testing.assert_allclose(std[scaled], 1)
    centred = [numeric in ("standard", "ple") or not name.startswith(("n", "g")) or " " in name for name in names]
    np.testing.assert_allclose(mean[centred], 0, atol=1e-12)
    if numeric == "robust":
        assert np.median(z[:, 0]) == pytest.approx(0, abs=1e-12)
    if numeric == "quantile":
        assert abs(mean[0]) < 0.05
        assert 0.85 < std[0] < 1.1
    with_gap = names.index("g missing")
    assert set(z[np.isnan(x[:, 3]), with_gap].round(6)) != set(z[~np.isnan(x[:, 3]), with_gap].round(6))


@few_examples
@given(seed=st.integers(0, 99), numeric=st.sampled_from(NUMERIC))
def test_order_of_rows_does_not_matter_and_files_keep_all(seed: int, numeric: str):
    x = codes(120, seed)
    encoder = Encoder.fit(x, KINDS, numeric)
    shuffled = Encoder.fit(np.random.default_rng(seed).permutation(x), KINDS, numeric)
    again = Encoder.of(encoder.tensors(), encoder.description())
    assert again.columns == tuple(replace(column, gap="") for column in KINDS)
    other = codes(50, seed + 1)
    other[0] = np.nan
    other[1, 2] = 4  # a category that is not known
    expected = encoder(other)
    assert np.isfinite(expected).all()
    np.testing.assert_array_equal(shuffled(other), expected)
    np.testing.assert_array_equal(again(other), expected)


def test_rare_and_unknown_categories_share_a_column_of_their_own():
    column = Column("category", ("", "a", "b", "c", "d", "only in the test set"))
    x = np.array([[0]] * 9 + [[1]] * 30 + [[2]] * 20 + [[3]] * 8 + [[4]])
    encoder = Encoder.fit(x, (column,))
    assert encoder.output_names(("job",)) == ("job = missing", "job = a", "job = b", "job = c", "job = other")
    rows = encoder(np.array([[0], [1], [2], [3], [4], [5], [6], [99]]))
    np.testing.assert_array_equal(rows, np.eye(5)[[0, 1, 2, 3, 4, 4, 4, 4]])
    few = Encoder.fit(x, (column,), max_categories=3)
    assert few.output_names() == ("column 0 = a", "column 0 = b", "column 0 = other")
    np.testing.assert_array_equal(few(np.array([[0], [1], [2], [5]])), np.eye(3)[[2, 0, 1, 2]])


def test_columns_of_one_value_are_left_out():
    x = np.array([[1.0, np.nan, 5, 0, i] for i in range(40)])
    x[:9, 2] = np.nan
    columns = (Column(), Column(gap="1"), Column(gap="2"), Column("category", ("a", "b")), Column())
    encoder = Encoder.fit(x, columns, "ple")
    assert (encoder.unused(), encoder.output_names()[0]) == ([0, 1, 3], "column 2 missing")
    assert encoder.outputs == 1 + BINS
    with pytest.raises(DataError, match="no column has different values in the training rows"):
        Encoder.fit(x[:, :1], columns[:1])


def ple(x: float, edges: np.ndarray) -> list[float]:
    """Return equation 1 of Gorishniy et al. (2022)."""
    bins = len(edges) - 1
    out = []
    for t in range(1, bins + 1):
        low, high = edges[t - 1], edges[t]
        out.append(0.0 if x < low and t > 1 else 1.0 if x >= high and t < bins else (x - low) / (high - low))
    return out


def test_numeric_scales_are_those_of_their_sources():
    values = np.sort(np.random.default_rng(0).gamma(2, 3, 400))
    x, probe = values[:, None], np.array([[-3.0], [values[0]], [2.5], [values[200]], [40.0], [1e150]])
    first, median, third = np.quantile(values, [0.25, 0.5, 0.75])
    z = (probe - median) / (third - first)
    robust = Encoder.fit(x, (Column(),), "robust")
    np.testing.assert_allclose(robust(probe)[:5], (z / np.sqrt(1 + (z / 3) ** 2))[:5])
    assert robust(probe)[5, 0] == pytest.approx(3)
    edges = np.quantile(values, np.linspace(0, 1, BINS + 1))
    np.testing.assert_allclose(
        Encoder.fit(x, (Column(),), "ple")(probe), [ple(float(v), edges) for v in probe[:, 0]], atol=1e-12
    )
    normal = Encoder.fit(np.repeat(x, 30, axis=0), (Column(),), "quantile")
    assert normal.knots.shape == (1, 400)
    np.testing.assert_allclose(normal(np.quantile(values, [[0.0228], [0.5], [0.9772]]))[:, 0], [-2, 0, 2], atol=0.05)
    assert (np.diff(normal(probe)[:, 0]) >= 0).all()


def test_numbers_of_few_values_are_scaled():
    x = np.array([[0.0]] * 97 + [[1.0], [5.0], [5.0]])
    for numeric in NUMERIC:
        encoder = Encoder.fit(x, (Column(),), numeric)
        out = encoder(x)
        assert np.isfinite(out).all()
        assert numeric == "quantile" or len(np.unique(out, axis=0)) == 3, numeric


BROKEN: dict[str, tuple[dict[str, Any], dict[str, Any], str]] = {
    "no array": ({"encode.uses": None}, {}, "it has no encode.uses"),
    "type": ({"encode.fill": np.zeros(4, np.float32)}, {}, "it has no encode.fill"),
    "length": ({"encode.fill": np.zeros(5)}, {}, "it has no encode.fill for 4 columns"),
    "rows": ({"encode.knots": np.zeros((5, 2))}, {}, "must have an entry for each of 4 columns"),
    "places": ({"encode.places": np.zeros(9, np.int64)}, {}, "encode.places must have an entry"),
    "far places": ({"encode.places": np.array([0, 1, 2, 2**60, 3])}, {}, "encode.places of column 2"),
    "uses": ({"encode.uses": np.full(4, 9)}, {}, "encode.uses be 0 to 3"),
    "fill": ({"encode.fill": np.full(4, np.nan)}, {}, "encode.fill must be finite"),
    "knots": ({"encode.knots": np.full((4, 2), np.inf)}, {}, "encode.knots are none of numeric = robust"),
    "scale": ({}, {"numeric": "ple"}, "encode.knots are none of numeric = ple"),
    "kinds": ({}, {"kinds": "nbx"}, "encoder.kinds must be first letters of number, boolean, category"),
    "lists": ({}, {"categories": []}, "encoder.categories has 0 lists for 2 columns"),
    "order": ({}, {"categories": [[], ["b", "a"]]}, "encoder.categories must be sorted"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_arrays_that_no_encoder_wrote_are_refused(name: str):
    tensors, about, message = BROKEN[name]
    encoder = Encoder.fit(codes(60, 0), KINDS, "robust")
    arrays = {key: array for key, array in (encoder.tensors() | tensors).items() if array is not None}
    with pytest.raises(DataError, match=message):
        Encoder.of(arrays, encoder.description() | about)


@pytest.mark.parametrize("pca", [None, 3])
@pytest.mark.parametrize("numeric", NUMERIC)
def test_network_on_columns_is_saved_with_them(numeric: str, pca: int | None):
    x, columns = codes(80, 1), {"n": 0, "b": 1, "c": 2, "g": 3}
    named = {name: x[:, j].astype(bool) if name == "b" else x[:, j] for name, j in columns.items()}
    named["c"] = np.array([None, "a", "b", "c"], object)[x[:, 2].astype(int)]
    data = xpnet.data_from_arrays(named, x[:, 0] > 3, numeric=numeric, pca=pca)
    net = xpnet.Network(xpnet.NetworkConfig(inputs=data.inputs, classes=2, hidden=(5,)))
    xpnet.train(net, data, xpnet.TrainConfig(epochs=1, batch_size=20))
    net.save("a.safetensors")
    again = xpnet.load("a.safetensors")
    np.testing.assert_array_equal(again.predict_proba(data.test.x), net.predict_proba(data.test.x))
    np.testing.assert_allclose(again.folded().predict_proba(data.test.x), net.predict_proba(data.test.x), atol=1e-5)
    swapped = {name: named[name] for name in reversed(columns)}
    np.testing.assert_array_equal(again.predict_proba(swapped), net.predict_proba(named))
    unseen = again.predict_proba({"n": [1.0], "b": [None], "c": ["new"], "g": [np.nan]})
    assert np.isfinite(unseen).all()
