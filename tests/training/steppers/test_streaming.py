"""Data that does not fit on the device is brought there ahead of the steps, and trains the same."""

from __future__ import annotations

import emulator
import numpy as np
import pytest
from strict import gpu_backend

import xpnet
from xpnet.data import on_host
from xpnet.nn.network import Network
from xpnet.training.device_data import to_device
from xpnet.training.steppers import StreamingStepper

pytestmark = pytest.mark.skipif(emulator.compiler() is None, reason="there is no C++ compiler")


def pixels():
    rng = np.random.default_rng(3)
    return xpnet.data_from_arrays(rng.integers(0, 256, (400, 40), np.uint8), rng.integers(0, 3, 400))


def trained(backend, data, config, replicas):
    net = Network(
        xpnet.NetworkConfig(inputs=data.features, hidden=(9, 8), classes=data.classes),
        backend=backend,
        dtype="float64",
        replicas=replicas,
    )
    return xpnet.train(net, data, config), net


@pytest.mark.parametrize("stepper", ["graph", "small", "plain"])
@pytest.mark.parametrize(("replicas", "shuffle"), [(1, None), (2, "independent"), (2, "shared")])
def test_a_data_set_larger_than_the_device_trains_the_same(monkeypatch, stepper, replicas, shuffle):
    data = pixels()
    config = xpnet.TrainConfig(epochs=2, batch_size=25, shuffle=shuffle, stepper=stepper)
    gpu = gpu_backend(monkeypatch)
    fits, _ = trained(gpu, data, config, replicas)
    gpu.xp.free = 10_000  # bytes; the training set has more, the others have less
    # Three steps a block, so that one is on its way while another is trained on.
    monkeypatch.setattr("xpnet.training.steppers.streaming._BLOCK_BYTES", 3 * 25 * replicas * data.features)
    streamed, _ = trained(gpu, data, config, replicas)
    for column in ("train_loss", "train_cost", "validation_loss", "validation_accuracy"):
        np.testing.assert_array_equal(streamed.history[column], fits.history[column], err_msg=column)
    np.testing.assert_array_equal(streamed.test.losses, fits.test.losses)


def test_what_fits_is_kept_there(monkeypatch):
    data = pixels()
    gpu = gpu_backend(monkeypatch)
    assert not on_host(to_device(data, gpu, "float32").train.x)
    gpu.xp.free = 10_000
    there = to_device(data, gpu, "float32")
    assert on_host(there.train.x)
    assert not on_host(there.validation.x)
    net = Network(xpnet.NetworkConfig(inputs=data.features), backend=gpu)
    run = xpnet.training.steppers.make_stepper(
        net, there.train.x, there.train.labels, xpnet.training.steppers.Hyperparameters(0.0)
    )
    assert type(run) is StreamingStepper


def test_features_that_are_no_bytes_are_streamed_too(monkeypatch):
    rng = np.random.default_rng(0)
    data = xpnet.data_from_arrays(rng.standard_normal((400, 30)), rng.integers(0, 3, 400))
    gpu, results = gpu_backend(monkeypatch), []
    for free in (2**33, 60_000):
        gpu.xp.free = free
        results.append(trained(gpu, data, xpnet.TrainConfig(epochs=2), 1)[0])
    np.testing.assert_array_equal(results[0].history["train_loss"], results[1].history["train_loss"])
    np.testing.assert_array_equal(results[0].test.losses, results[1].test.losses)


@pytest.mark.parametrize("kind", ["uint8", "float32"])
@pytest.mark.parametrize("free", [2**33, 60_000])
def test_rows_on_the_disk_are_streamed_too(monkeypatch, tmp_path, kind, free):
    rng = np.random.default_rng(0)
    x, labels = rng.integers(0, 256, (400, 200), np.uint8).astype(kind), rng.integers(0, 3, 400)
    np.save(tmp_path / "x.npy", x)
    np.save(tmp_path / "y.npy", labels)
    monkeypatch.setattr("xpnet.data.readers.npy.MAPPED_FROM", 1000)
    gpu = gpu_backend(monkeypatch)
    gpu.xp.free = free
    on_disk, _ = trained(gpu, xpnet.load_data(tmp_path / "x.npy"), xpnet.TrainConfig(epochs=2), 1)
    in_memory, _ = trained(xpnet.get_backend("cpu"), xpnet.data_from_arrays(x, labels), xpnet.TrainConfig(epochs=2), 1)
    np.testing.assert_allclose(on_disk.history["train_loss"], in_memory.history["train_loss"], rtol=1e-9)
    np.testing.assert_allclose(on_disk.test.losses, in_memory.test.losses, rtol=1e-9)
