"""What a GPU computes, where there is one: the same as the CPU, up to rounding."""

from __future__ import annotations

import dataclasses
import gc

import numpy as np
import pytest
from gpu_settings import CASES, check_setting
from resumed import check_resumed

import xpnet
from xpnet.backend import Backend, give_back
from xpnet.errors import ArrayError, DeviceError

pytestmark = pytest.mark.gpu


@pytest.fixture(scope="module")
def gpu() -> Backend:
    """Return the first GPU, or skip with the reason why it cannot be used."""
    try:
        return xpnet.get_backend("gpu")
    except DeviceError as error:
        pytest.skip(str(error))


# Settings of pictures in views, with dropout, and of their inputs.
VIEWS = {"flip": "random", "shift": 3, "cutout": 6, "label_smoothing": (0.1, 0.2), "views": 6}
VIEWS |= {"dropout": (0.1, 0.2), "input_dropout": 0.1}
PUSHED = {"momentum": 0.9, "nesterov": True, "label_smoothing": 0.1}
INPUTS = [{}, {"pool": 2}, {"pool": 4, "pca": 30}]


def trained(backend, stepper="auto", *, dtype="float64", batch_norm=True, inputs=None, **config):
    data = xpnet.load_data("patterns:1200/200", **(inputs or {}))
    network = xpnet.NetworkConfig(inputs=data.inputs, hidden=(20, 15), batch_norm=batch_norm)
    net = xpnet.Network(network, backend=backend, dtype=dtype, replicas=2)
    stepper = stepper if backend.name == "gpu" else "auto"
    return xpnet.train(net, data, xpnet.TrainConfig(epochs=4, stepper=stepper, **config)), net


@pytest.mark.parametrize("batch_norm", [True, False])
@pytest.mark.parametrize(
    ("stepper", "momentum"),
    [("plain", 0.5), ("fused", 0.0), ("fused", 0.5), ("graph", 0.0), ("graph", 0.5), ("small", 0.0), ("small", 0.5)],
)
def test_training_from_one_seed_gives_the_same_curves(gpu, stepper, momentum, batch_norm):
    on_gpu, on_cpu = (
        trained(backend, stepper, momentum=momentum, batch_norm=batch_norm, batch_size=70)[0]
        for backend in (gpu, xpnet.get_backend("cpu"))
    )
    assert on_gpu.device == "gpu:0"
    for column in ("train_loss", "train_cost", "validation_loss"):
        np.testing.assert_allclose(on_gpu.history[column], on_cpu.history[column], rtol=1e-9)
    np.testing.assert_allclose(on_gpu.test.losses, on_cpu.test.losses, rtol=1e-9)


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("stepper", ["graph", "small"])
def test_every_setting_trains_as_on_the_cpu_or_is_refused_by_name(gpu, stepper, name):
    check_setting(gpu, stepper, name)


@pytest.mark.parametrize("inputs", INPUTS, ids=str)
@pytest.mark.parametrize(("stepper", "border"), [("plain", "reflect"), ("fused", "constant"), ("graph", "reflect")])
def test_training_in_views_gives_the_curves_of_the_cpu(gpu, stepper, border, inputs):
    settings = {**VIEWS, "border": border, "shuffle": "independent", "train_metrics": "full", "batch_size": 70}
    on_gpu, on_cpu = (
        trained(backend, stepper, inputs=inputs, momentum=0.5, **settings)[0]
        for backend in (gpu, xpnet.get_backend("cpu"))
    )
    for column in ("train_loss", "train_cost", "validation_loss"):
        np.testing.assert_allclose(on_gpu.history[column], on_cpu.history[column], rtol=1e-9)
    np.testing.assert_allclose(on_gpu.test.losses, on_cpu.test.losses, rtol=1e-9)
    np.testing.assert_allclose(on_gpu.test_views.losses, on_cpu.test_views.losses, rtol=1e-9)


@pytest.mark.parametrize("inputs", INPUTS[1:], ids=str)
def test_pictures_that_stay_on_the_host_train_the_same_in_views(gpu, inputs, monkeypatch):
    fits, _ = trained(gpu, "graph", inputs=inputs, **VIEWS)
    monkeypatch.setattr("xpnet.training.device_data._SHARE", 0.0)
    monkeypatch.setattr("xpnet.training.steppers.streaming._BLOCK_BYTES", 2 * 100 * 3072)
    streamed, _ = trained(gpu, "graph", inputs=inputs, **VIEWS)
    np.testing.assert_array_equal(streamed.history["train_loss"], fits.history["train_loss"])
    np.testing.assert_array_equal(streamed.test_views.losses, fits.test_views.losses)


def test_gradients_are_those_of_the_cpu(gpu):
    config = xpnet.NetworkConfig(inputs=9, hidden=(6, 5), classes=4)
    rng = np.random.default_rng(0)
    x, labels = rng.standard_normal((30, 9)), rng.integers(0, 4, 30)
    there = xpnet.Network(config, backend=gpu, dtype="float64")
    here = xpnet.Network(config, dtype="float64")
    _, expected = here.cost_and_gradients(x, labels, 0.1)
    _, gradients = there.cost_and_gradients(gpu.asarray(x), gpu.asarray(labels), 0.1)
    for name, gradient in expected.items():
        np.testing.assert_allclose(gpu.to_numpy(gradients[name]), gradient, rtol=1e-10, atol=1e-13)


def test_mixing_is_named(gpu):
    net = xpnet.Network(xpnet.NetworkConfig(inputs=3, classes=2), backend=gpu)
    with pytest.raises(ArrayError, match=r"x: got a numpy\.ndarray, but this network computes on gpu:0"):
        net.predict_proba(np.ones((2, 3), np.float32))


@pytest.mark.parametrize(
    ("stepper", "settings"),
    [("graph", {}), ("small", {}), ("small", PUSHED), ("graph", {"inputs": INPUTS[2], **VIEWS})],
    ids=str,
)
def test_the_same_seed_gives_the_same_bits(gpu, stepper, settings):
    (first, one), (second, other) = (trained(gpu, stepper, dtype="float32", **settings) for _ in range(2))
    for name, tensor in one.parameters.items():
        np.testing.assert_array_equal(gpu.to_numpy(tensor), gpu.to_numpy(other.parameters[name]), err_msg=name)
    np.testing.assert_array_equal(first.history["train_loss"], second.history["train_loss"])
    np.testing.assert_array_equal(first.test.losses, second.test.losses)


@pytest.mark.parametrize("stepper", ["graph", "small"])
def test_a_data_set_that_stays_on_the_host_trains_the_same(gpu, stepper, monkeypatch):
    fits, _ = trained(gpu, stepper)
    monkeypatch.setattr("xpnet.training.device_data._SHARE", 0.0)
    monkeypatch.setattr("xpnet.training.steppers.streaming._BLOCK_BYTES", 2 * 100 * 2 * 3072)
    streamed, _ = trained(gpu, stepper)
    np.testing.assert_array_equal(streamed.history["train_loss"], fits.history["train_loss"])
    np.testing.assert_array_equal(streamed.test.losses, fits.test.losses)


def test_training_again_and_again_takes_no_more_memory(gpu):
    def free():
        gc.collect()
        give_back(gpu)
        return gpu.xp.cuda.runtime.memGetInfo()[0]

    trained(gpu, "graph", dtype="float32")  # loads what stays
    before = free()
    for _ in range(5):
        trained(gpu, "graph", dtype="float32")
    assert before - free() < 16 * 2**20  # a graph that kept its memory would take more in one training


def test_tf32_is_close_and_not_the_same(gpu):
    exact, _ = trained(gpu, "graph", dtype="float32")
    rounded, _ = trained(dataclasses.replace(gpu, tf32=True), "graph", dtype="float32")
    np.testing.assert_allclose(rounded.test.losses, exact.test.losses, rtol=0.05)


def test_a_replica_that_diverges_is_dropped(gpu):
    data = xpnet.load_data("patterns:600/100")
    config = xpnet.NetworkConfig(inputs=data.features, hidden=(9,), batch_norm=False)
    net = xpnet.Network(config, backend=gpu, dtype="float64", replicas=3)
    result = xpnet.train(net, data, xpnet.TrainConfig(epochs=3, schedule="constant", eta=(0.01, 1e30, 0.02)))
    assert set(result.diverged) == {1}
    assert np.isfinite(result.test.losses[[0, 2]]).all()
    assert np.isnan(result.test.losses[1])


@pytest.mark.parametrize("stepper", ["plain", "fused", "graph", "small"])
def test_a_training_that_is_resumed_ends_with_the_same_bits(gpu, stepper):
    data = xpnet.load_data("patterns:1200/200")
    config = xpnet.TrainConfig(epochs=4, stepper=stepper)
    check_resumed(gpu, data, (20, 15), "float32", config, [23])
