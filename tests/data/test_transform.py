"""How raw samples become the inputs of a network: pooled, standardised, projected; in files and within a network."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest
from examples import examples, pairs
from hypothesis import given
from hypothesis import strategies as st
from naive_pictures import seen

import xpnet
from xpnet.config.definitions import DataConfig
from xpnet.data import Standardiser, Transform
from xpnet.data.transform import PROJECTION
from xpnet.data.views import View
from xpnet.errors import ConfigError, DataError, RunError

SHAPE = (3, 6, 8)
RNG = np.random.default_rng(0)
IMAGES = RNG.integers(0, 256, (90, *SHAPE), np.uint8)
LABELS = np.arange(90) % 3
FORMS: dict[str, dict[str, Any]] = {
    "plain": {},
    "pool": {"pool": 2},
    "pca": {"pca": 10},
    "both": {"pool": 2, "pca": 7, "pca_eps": 0.1},
}


def data_of(form: str, dtype: str = "uint8") -> xpnet.Dataset:
    x = IMAGES.transpose(0, 2, 3, 1)
    return xpnet.data_from_arrays(x.astype(dtype), LABELS, split="60/15", **FORMS[form])


def trained(form: str, **settings: Any) -> tuple[xpnet.Network, xpnet.Dataset]:
    """Return two networks that have learned something, and their data."""
    data, architecture = data_of(form), {"hidden": (8, 5), "batch_norm": True, "replicas": 2, "dtype": "float64"}
    architecture |= settings
    dtype, replicas = architecture.pop("dtype"), architecture.pop("replicas")
    config = xpnet.NetworkConfig(inputs=data.inputs, classes=3, **architecture)
    network = xpnet.Network(config, dtype=dtype, replicas=replicas, seed=4)
    xpnet.train(network, data, xpnet.TrainConfig(epochs=2, batch_size=20))
    return network, data


def by_hand(x: Any, pool: int) -> Any:
    """Return the means of squares of pixels, in rows."""
    planes = x.reshape(len(x), *SHAPE).astype(float)
    squares = planes.reshape(len(x), 3, 6 // pool, pool, 8 // pool, pool)
    return squares.mean(axis=(3, 5)).reshape(len(x), -1)


# -- fitting ----------------------------------------------------------------------------------------------


def test_transform_of_nothing_is_the_standardiser():
    data = data_of("plain")
    assert data.transform.plain
    assert (data.inputs, data.features, data.transform.inputs, data.transform.features) == (144,) * 4
    expected = Standardiser.fit(data.train.x)
    np.testing.assert_array_equal(data.transform(data.test.x), expected(data.test.x))
    np.testing.assert_array_equal(data.standardiser.mean, expected.mean)
    assert list(data.transform.tensors()) == ["standardise.mean", "standardise.std"]


@pytest.mark.parametrize("dtype", ["uint8", "float32", "float64"])
@pytest.mark.parametrize("pool", [1, 2])
def test_transform_pools_and_standardises_the_training_rows(dtype, pool):
    data = xpnet.data_from_arrays(IMAGES.transpose(0, 2, 3, 1).astype(dtype), LABELS, split="60/15", pool=pool)
    z = data.transform(data.train.x, "float64")
    assert (z.shape, z.dtype, data.features, data.inputs) == ((60, 144 // pool**2), np.float64, 144, 144 // pool**2)
    values = by_hand(data.train.x, pool)
    np.testing.assert_allclose(z, (values - values.mean(0)) / values.std(0), rtol=1e-9, atol=1e-9)
    np.testing.assert_allclose(z.mean(axis=0), 0, atol=1e-9)
    np.testing.assert_allclose(z.std(axis=0), 1, rtol=1e-9)
    single = data.transform(data.test.x)
    assert single.dtype == np.float32
    np.testing.assert_allclose(single, data.transform(data.test.x, "float64"), atol=1e-5)


def test_pooled_features_that_are_constant_become_0():
    images = IMAGES.astype(float)
    images[:, 0, :2, :2] = [[7, 1], [1, 7]]
    data = xpnet.data_from_arrays(images.transpose(0, 2, 3, 1) + 0.1, LABELS, split="60/15", pool=2)
    assert data.standardiser.std[0] == 1
    assert np.abs(data.transform(data.test.x, "float64")[:, 0]).max() < 1e-12


@pytest.mark.parametrize("offset", [0, 1e7])
def test_deviations_of_pooled_features_far_from_0_keep_their_digits(offset):
    images = IMAGES.astype(float)
    data = xpnet.data_from_arrays(images.transpose(0, 2, 3, 1) + offset, LABELS, split="60/15", pool=2)
    values = by_hand(data.train.x - offset, 2)
    np.testing.assert_allclose(data.standardiser.std, values.std(axis=0), rtol=1e-7)


@pytest.mark.parametrize("form", ["pca", "both"])
def test_transform_projects_on_the_components(form):
    data = data_of(form)
    transform = data.transform
    assert transform.projection is not None
    assert (data.inputs, transform.plain) == (FORMS[form]["pca"], False)
    values = by_hand(data.test.x, FORMS[form].get("pool", 1))
    expected = ((values - data.standardiser.mean) / data.standardiser.std) @ transform.projection
    np.testing.assert_allclose(transform(data.test.x, "float64"), expected, rtol=1e-9, atol=1e-9)
    np.testing.assert_allclose(transform(data.test.x), expected, atol=1e-4)


@pytest.mark.parametrize("form", FORMS)
def test_rows_that_are_read_are_those_that_are_transformed(form):
    data = data_of(form)
    for dtype, limit in (("float32", 1e-4), ("float64", 1e-10)):
        lazy = data.transform.lazily(data.test.x, dtype, data.image_shape)
        assert (lazy.shape, lazy.dtype) == ((len(data.test), data.inputs), dtype)
        np.testing.assert_allclose(lazy[:], data.transform(data.test.x, dtype), atol=limit)


def test_a_table_of_components_is_the_projection_of_its_standardised_features():
    rng = np.random.default_rng(1)
    x = (rng.standard_normal((80, 6)) @ rng.standard_normal((6, 6)) + 9).astype(np.float32)
    data = xpnet.data_from_arrays(x, np.arange(80) % 2, split="60/10", pca=4, pca_eps=0.5)
    train = data.train.x.astype(float)
    z = (train - train.mean(0)) / train.std(0)
    variances, vectors = np.linalg.eigh(z.T @ z / len(z))
    variances, vectors = variances[::-1][:4], vectors[:, ::-1][:, :4]
    inputs = data.transform(data.train.x, "float64")
    np.testing.assert_allclose(inputs.mean(axis=0), 0, atol=1e-6)
    assert inputs.var(axis=0).mean() == pytest.approx(1, rel=1e-4)
    expected = np.abs(z @ vectors) / np.sqrt(variances + 0.5)
    ratio = np.abs(inputs) / expected
    np.testing.assert_allclose(ratio, np.broadcast_to(ratio[0, 0], ratio.shape), rtol=2e-3)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"pool": 4}, r"pool = 4: does not divide pictures of 6 x 8; take a divisor of both"),
        ({"pool": 5}, r"pool = 5: does not divide pictures of 6 x 8"),
        ({"pca": 145}, r"pca = 145: is more than the 144 features"),
        ({"pool": 2, "pca": 37}, r"pca = 37: is more than the 36 features"),
    ],
)
def test_transform_that_pictures_cannot_have_is_refused(settings, message):
    with pytest.raises(DataError, match=f"^{message}"):
        xpnet.data_from_arrays(IMAGES, LABELS, **settings)


def test_a_table_is_not_pooled():
    with pytest.raises(DataError, match=r"^pool = 2: needs pictures, and this data has features of another kind$"):
        xpnet.data_from_arrays(IMAGES.reshape(90, -1), LABELS, pool=2)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"pool": 0}, "pool = 0: must be a whole number"),
        ({"pool": 65}, "pool = 65: must be a whole number"),
        ({"pool": 1.5}, "pool = 1.5: must be a whole number"),
        ({"pca": 3, "pca_eps": -1}, "pca_eps = -1: must be a finite number of at least 0"),
        ({"pca": 3, "pca_eps": float("inf")}, "pca_eps = inf: must be a finite number of at least 0"),
    ],
)
def test_settings_out_of_range_are_refused(settings, message):
    with pytest.raises(ConfigError, match=f"^{message}"):
        DataConfig(**settings)


def test_eps_without_components_has_no_effect_and_is_refused():
    with pytest.raises(
        ConfigError, match=r"^pca_eps = 2\.?0?: has no effect without pca; set it, or leave pca_eps out$"
    ):
        xpnet.Settings.from_mapping({"pca_eps": 2})
    assert "pca_eps" not in xpnet.Settings.from_mapping({}).to_mapping()
    assert xpnet.Settings.from_mapping({"pca": 5, "pca_eps": 2}).to_mapping()["pca_eps"] == 2


@pytest.mark.parametrize("form", ["pool", "pca", "both"])
@pytest.mark.parametrize("shape", [(5, 143), (5, 3, 48), (144,)])
def test_features_of_another_number_are_refused(form, shape):
    with pytest.raises(DataError, match=r"^(transform|Standardiser): features must be \(n, 144\), got"):
        data_of(form).transform(np.zeros(shape, np.float32))


# -- files ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("form", FORMS)
def test_transform_read_from_its_tensors_is_the_same(form):
    data = data_of(form)
    pool = FORMS[form].get("pool", 1)
    again = Transform.of(data.transform.tensors(), data.image_shape, pool)
    assert again is not None
    assert (again.pool, again.image_shape, again.inputs) == (pool, data.transform.image_shape, data.inputs)
    np.testing.assert_array_equal(again(data.test.x, "float64"), data.transform(data.test.x, "float64"))
    assert Transform.of({}, data.image_shape, 1) is None


WRONG: dict[str, tuple[dict[str, Any], int, str]] = {
    "no mean": ({"standardise.mean": None}, 2, "it has no standardise.mean"),
    "no deviation": ({"standardise.std": None}, 2, "it has no standardise.std"),
    "projection alone": ({"standardise.std": None, "standardise.mean": None}, 2, "it has no standardise.mean"),
    "unknown": ({"standardise.scale": np.ones(3)}, 2, "it has an unknown standardise.scale"),
    "lengths": ({"standardise.std": np.ones(35)}, 2, "mean (36,) and std (35,)"),
    "one axis": ({PROJECTION: np.ones(36)}, 2, f"{PROJECTION} is float64 (36,), for 36 features"),
    "too wide": ({PROJECTION: np.ones((37, 2))}, 2, f"{PROJECTION} is float64 (37, 2), for 36 features"),
    "single": ({PROJECTION: np.ones((36, 2), np.float32)}, 2, f"{PROJECTION} is float32 (36, 2), for 36 features"),
    "not finite": ({PROJECTION: np.full((36, 2), np.inf)}, 2, f"{PROJECTION} has a number that is not finite"),
    "other pool": ({}, 4, "pool = 4: does not divide pictures of 6 x 8"),
    "other squares": ({}, 1, ""),
}


@pytest.mark.parametrize("name", WRONG)
def test_tensors_that_do_not_fit_are_refused(name):
    changes, pool, message = WRONG[name]
    tensors = {key: t for key, t in (data_of("both").transform.tensors() | changes).items() if t is not None}
    if not message:  # without pooling, any number of features is one
        assert Transform.of(tensors, SHAPE, pool).features == 36
        return
    with pytest.raises(DataError) as error:
        Transform.of(tensors, SHAPE, pool)
    assert message in str(error.value)


def test_tensors_for_pictures_of_another_size_are_refused():
    tensors = data_of("pool").transform.tensors()
    with pytest.raises(DataError, match=r"^standardise\.mean has 36 numbers for pictures of 192$"):
        Transform.of(tensors, (3, 8, 8), 2)
    with pytest.raises(DataError, match=r"^pool = 2: needs pictures"):
        Transform.of(tensors, None, 2)


@pytest.mark.parametrize("form", FORMS)
def test_network_that_is_saved_and_loaded_transforms_the_same(form):
    network, data = trained(form)
    network.save("model.safetensors")
    again = xpnet.load("model.safetensors")
    assert again.transform is not None
    assert (again.features, again.config.inputs, again.transform.pool) == (144, data.inputs, data.transform.pool)
    np.testing.assert_array_equal(again.predict_proba(data.test.x), network.predict_proba(data.test.x))
    np.testing.assert_array_equal(
        again.predict_proba(data.test.x, views=6), network.predict_proba(data.test.x, views=6)
    )


def test_network_whose_transform_does_not_fit_it_is_not_written():
    network, _ = trained("both")
    network.transform = dataclasses.replace(network.transform, projection=network.transform.projection[:, :5])
    with pytest.raises(RunError, match="its transform gives 5 inputs, and its network takes 7"):
        network.save("model.safetensors")


# -- networks ---------------------------------------------------------------------------------------------


NETWORKS = [
    {},
    {"batch_norm": False},
    {"hidden": ()},
    {"hidden": (), "replicas": 1},
    {"replicas": 1, "bias_before_bn": True, "init_bias": 0.3},
    {"dtype": "float32"},
    {"dtype": "float32", "batch_norm": False, "replicas": 1},
]


@pytest.mark.parametrize(("form", "settings"), pairs(FORMS, NETWORKS), ids=str)
def test_folded_networks_predict_the_same(form, settings):
    network, data = trained(form, **settings)
    plain = network.folded()
    assert plain.transform is not None
    assert plain.transform.plain
    assert (plain.config.inputs, plain.parameters["W1"].shape[1], plain.features) == (144, 144, 144)
    assert (plain.seeds, plain.class_names, plain.image_shape) == (network.seeds, network.class_names, SHAPE)
    expected, limit = network.predict_proba(data.test.x), 1e-5 if network.dtype == np.float32 else 1e-12
    np.testing.assert_allclose(plain.predict_proba(data.test.x), expected, rtol=0, atol=limit)
    # It is a network like any other.
    plain.save("model.safetensors")
    np.testing.assert_array_equal(xpnet.load("model.safetensors").predict(data.test.x), plain.predict(data.test.x))


def test_a_folded_network_shares_no_first_weights_with_its_own():
    network, data = trained("plain")
    before = network.predict_proba(data.test.x)
    plain = network.folded()
    plain.parameters["W1"] = plain.parameters["W1"] * 2
    plain.parameters["W1"][...] = 0
    np.testing.assert_array_equal(network.predict_proba(data.test.x), before)


def test_a_network_without_a_transform_cannot_be_folded():
    with pytest.raises(ConfigError, match=r"^folded: this network does not say how its data was transformed"):
        xpnet.Network(xpnet.NetworkConfig(inputs=4)).folded()


def test_a_table_of_components_folds_into_its_columns():
    x = np.random.default_rng(3).standard_normal((60, 5))
    data = xpnet.data_from_arrays(x, np.arange(60) % 2, split="40/10", pca=3)
    network = xpnet.Network(xpnet.NetworkConfig(inputs=3, hidden=(4,), classes=2), dtype="float64")
    xpnet.train(network, data, xpnet.TrainConfig(epochs=1))
    plain = network.folded()
    assert plain.config.inputs == 5
    np.testing.assert_allclose(plain.predict_proba(x), network.predict_proba(x), atol=1e-12)


def moved(x: Any, flip: int, by: int) -> Any:
    """Return raw rows whose pictures are moved down and to the right, and mirrored."""
    view = View(flip, by, by, -1, -1)
    planes = [[seen(plane.tolist(), view, "reflect") for plane in row.reshape(SHAPE)] for row in x]
    return np.array(planes).reshape(len(x), -1)


@pytest.mark.parametrize("form", FORMS)
def test_probabilities_of_views_are_the_mean_over_moved_and_mirrored_pictures(form):
    network, data = trained(form)
    x = data.test.x
    np.testing.assert_array_equal(network.predict_proba(x, views=1), network.predict_proba(x))
    for views, moves in ((2, [0]), (6, [-1, 0, 1])):
        each = [network.predict_proba(moved(x, flip, by)) for by in moves for flip in (0, 1)]
        assert len(each) == views
        expected, found = sum(each) / views, network.predict_proba(x, views=views)
        np.testing.assert_allclose(found, expected, atol=1e-12)
        np.testing.assert_array_equal(network.predict(x, views=views), found.argmax(axis=-1))


def test_pictures_in_their_own_shape_are_seen_in_views():
    network, data = trained("both")
    own, flat = data.test.x.reshape(-1, *SHAPE).transpose(0, 2, 3, 1), data.test.x
    np.testing.assert_array_equal(network.predict_proba(own, views=6), network.predict_proba(flat, views=6))


@examples(5)
@given(st.sampled_from(["pool", "both"]), st.sampled_from([2, 6]), st.integers(1, 20))
def test_probabilities_of_views_in_parts_are_those_at_once(form, views, rows):
    network, data = trained(form)
    x = np.stack([data.test.x, data.test.x[::-1]])  # for each replica
    expected = network.predict_proba(x, views=views)
    np.testing.assert_allclose(expected[0], network.predict_proba(x[0], views=views)[0], atol=1e-12)
    np.testing.assert_allclose(expected[1], network.predict_proba(x[1], views=views)[1], atol=1e-12)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("xpnet.nn.probabilities._ROWS", rows)
        np.testing.assert_allclose(network.predict_proba(x, views=views), expected, atol=1e-12)


def test_views_of_what_is_no_picture_are_refused():
    network, data = trained("plain")
    with pytest.raises(DataError, match=r"^views = 2: needs raw pictures, and a network that was trained on pictures$"):
        network.predict_proba(data.transform(data.test.x, "float64"), standardised=True, views=2)
    network.image_shape = None
    with pytest.raises(DataError, match=r"^views = 6: needs pictures, and this network was trained on features of"):
        network.predict(data.test.x, views=6)
    for bad in (0, 3, 12, "all", 2.5):
        with pytest.raises(ConfigError, match=r"^views = .*: must be 1, 2 or 6$"):
            network.predict_proba(data.test.x, views=bad)
