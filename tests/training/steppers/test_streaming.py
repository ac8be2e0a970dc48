"""Data that does not fit on the device is copied there ahead of the steps, and trains the same."""

from __future__ import annotations

import emulator
import numpy as np
import pytest
from examples import pairs
from strict import gpu_backend

import xpnet
from xpnet.data import on_host
from xpnet.nn.network import Network
from xpnet.training.device_data import to_device
from xpnet.training.steppers import Hyperparameters, StreamingStepper, make_stepper

pytestmark = pytest.mark.skipif(emulator.compiler() is None, reason="there is no C++ compiler")


@pytest.fixture
def gpu(monkeypatch):
    """Return a pretended GPU on which three steps of 25 samples are a block: one is copied while another trains."""
    monkeypatch.setattr("xpnet.training.steppers.streaming._BLOCK_BYTES", 3 * 25 * 40)
    return gpu_backend(monkeypatch)


def pixels(kind=np.uint8, rows=160, features=40):
    rng = np.random.default_rng(3)
    return rng.integers(0, 256, (rows, features), np.uint8).astype(kind), rng.integers(0, 3, rows)


def trained(backend, data, replicas=1, **settings):
    config = xpnet.NetworkConfig(inputs=data.features, hidden=(9, 8), classes=data.classes)
    net = Network(config, backend=backend, dtype="float64", replicas=replicas)
    return xpnet.train(net, data, xpnet.TrainConfig(epochs=2, batch_size=25, **settings))


def check_equal(streamed, fits, rtol=0.0):
    for column in ("train_loss", "train_cost", "validation_loss", "validation_accuracy"):
        np.testing.assert_allclose(streamed.history[column], fits.history[column], rtol=rtol, err_msg=column)
    np.testing.assert_allclose(streamed.test.losses, fits.test.losses, rtol=rtol)


@pytest.mark.thorough
@pytest.mark.parametrize(
    ("stepper", "replicas", "shuffle"),
    [
        *pairs(["graph", "small", "multi", "plain"], [(2, "independent"), (2, "shared"), (1, None)]),
        pytest.param("persistent", 1, None, marks=pytest.mark.slow),
    ],
)
def test_a_data_set_larger_than_the_device_trains_the_same(monkeypatch, gpu, stepper, replicas, shuffle):
    data = xpnet.data_from_arrays(*pixels())
    monkeypatch.setattr("xpnet.training.steppers.streaming._BLOCK_BYTES", 3 * 25 * replicas * data.features)
    fits = trained(gpu, data, replicas, shuffle=shuffle, stepper=stepper)
    gpu.xp.free = 4_000  # bytes; the training set has more, the others have less
    check_equal(trained(gpu, data, replicas, shuffle=shuffle, stepper=stepper), fits)


def test_dropout_does_not_depend_on_where_blocks_end(gpu):
    data, settings = (
        xpnet.data_from_arrays(*pixels()),
        {"stepper": "graph", "dropout": (0.2, 0.5), "input_dropout": 0.1},
    )
    fits = trained(gpu, data, 2, **settings)
    gpu.xp.free = 4_000
    check_equal(trained(gpu, data, 2, **settings), fits)


def test_a_training_set_that_fits_is_kept_on_the_device(gpu):
    data = xpnet.data_from_arrays(*pixels())
    assert not on_host(to_device(data, gpu, "float32").train.x)
    gpu.xp.free = 4_000
    there = to_device(data, gpu, "float32")
    assert on_host(there.train.x)
    assert not on_host(there.validation.x)
    net = Network(xpnet.NetworkConfig(inputs=data.features), backend=gpu)
    assert type(make_stepper(net, there.train.x, there.train.labels, Hyperparameters(0.0))) is StreamingStepper


def test_features_that_are_no_bytes_are_streamed_too(gpu):
    x, labels = pixels()
    data = xpnet.data_from_arrays(x / 7 - 20, labels)
    fits = trained(gpu, data)
    gpu.xp.free = 20_000
    check_equal(trained(gpu, data), fits)


@pytest.mark.parametrize("kind", ["uint8", "float32"])
@pytest.mark.parametrize("free", [2**33, 15_000])
def test_rows_on_the_disk_are_streamed_too(monkeypatch, gpu, tmp_path, kind, free):
    x, labels = pixels(kind, features=200)
    np.save(tmp_path / "x.npy", x)
    np.save(tmp_path / "y.npy", labels)
    monkeypatch.setattr("xpnet.data.readers.npy.MAPPED_FROM", 1000)
    gpu.xp.free = free
    on_disk = trained(gpu, xpnet.load_data(tmp_path / "x.npy"))
    in_memory = trained(xpnet.get_backend("cpu"), xpnet.data_from_arrays(x, labels))
    check_equal(on_disk, in_memory, rtol=1e-9)
