"""The kernel that trains a network on each multiprocessor, on a GPU: as the CPU, or as it does on every run.

In a file of its own, after all others: an error of a kernel takes the GPU from all tests that follow in the process.
"""

from __future__ import annotations

import numpy as np
import pytest
from gpu_settings import CASES, check_setting
from resumed import check_resumed

import xpnet
from xpnet.backend import Backend
from xpnet.errors import DeviceError

pytestmark = pytest.mark.gpu
# Momentum and smoothed labels, for which the kernels are compiled anew.
PUSHED = {"momentum": 0.9, "nesterov": True, "label_smoothing": 0.1, "eta_max": 0.01}


@pytest.fixture(scope="module")
def gpu() -> Backend:
    """Return the first GPU, or skip with the reason why it cannot be used."""
    try:
        return xpnet.get_backend("gpu")
    except DeviceError as error:
        pytest.skip(str(error))


def trained(backend, stepper, *, dtype="float32", hidden=(50, 50), replicas=3, **settings):
    data = xpnet.load_data("patterns:1200/200")
    network = xpnet.NetworkConfig(inputs=data.inputs, hidden=hidden)
    net = xpnet.Network(network, backend=backend, dtype=dtype, replicas=replicas)
    config = xpnet.TrainConfig(epochs=4, stepper=stepper if backend.name == "gpu" else "plain", **settings)
    return xpnet.train(net, data, config), net


@pytest.mark.parametrize("name", CASES)
def test_every_setting_trains_as_on_the_cpu_or_is_refused_by_name(gpu, name):
    check_setting(gpu, "multi", name)


@pytest.mark.parametrize("batch_size", [100, 37])
def test_multi_gives_the_curves_of_the_cpu(gpu, batch_size):
    settings = {"dtype": "float64", "hidden": (24, 20), "batch_size": batch_size, "shuffle": "independent"}
    (there, _), (here, _) = (trained(backend, "multi", **settings) for backend in (gpu, xpnet.get_backend("cpu")))
    for column in ("train_loss", "train_cost", "validation_loss"):
        np.testing.assert_allclose(there.history[column], here.history[column], rtol=1e-9)
    np.testing.assert_allclose(there.test.losses, here.test.losses, rtol=1e-9)


@pytest.mark.parametrize("settings", [{"batch_size": 100}, {"batch_size": 37}, {"batch_size": 100, **PUSHED}], ids=str)
def test_multi_on_tensor_cores_gives_the_curves_of_float64(gpu, settings):
    settings = {"shuffle": "independent", **settings}
    there, _ = trained(gpu, "multi-bf16", **settings)
    here, _ = trained(xpnet.get_backend("cpu"), "plain", dtype="float64", **settings)
    for column in ("train_loss", "train_cost", "validation_loss"):
        np.testing.assert_allclose(there.history[column], here.history[column], rtol=1e-3)


@pytest.mark.parametrize("settings", [{}, PUSHED], ids=str)
@pytest.mark.parametrize("stepper", ["multi", "multi-bf16"])
def test_multi_has_the_same_bits_on_every_run_and_for_more_networks_than_multiprocessors(gpu, stepper, settings):
    results = [trained(gpu, stepper, replicas=300, **settings)[0].history["train_loss"] for _ in range(2)]
    np.testing.assert_array_equal(*results)


@pytest.mark.parametrize("stepper", ["multi", "multi-bf16"])
def test_multi_trains_the_same_from_a_data_set_that_stays_on_the_host(gpu, monkeypatch, stepper):
    fits, _ = trained(gpu, stepper)
    monkeypatch.setattr("xpnet.training.device_data._SHARE", 0.0)
    monkeypatch.setattr("xpnet.training.steppers.streaming._BLOCK_BYTES", 2 * 100 * 3 * 3072)
    streamed, _ = trained(gpu, stepper)
    np.testing.assert_array_equal(streamed.history["train_loss"], fits.history["train_loss"])


@pytest.mark.parametrize("stepper", ["multi", "multi-bf16"])
def test_multi_training_that_is_resumed_ends_with_the_same_bits(gpu, stepper):
    data = xpnet.load_data("patterns:1200/200")
    check_resumed(gpu, data, (20, 15), "float32", xpnet.TrainConfig(epochs=4, stepper=stepper), [23])
