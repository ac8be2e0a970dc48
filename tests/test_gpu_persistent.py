"""The kernel whose blocks keep one network among them, on a GPU: as the CPU, or as it does on every run.

In a file of its own, after all others: an error of a kernel takes the GPU from all tests that follow in the process.
"""

from __future__ import annotations

import numpy as np
import pytest
from gpu_settings import CASES, check_setting
from resumed import check_resumed

import xpnet
from xpnet.backend import Backend
from xpnet.errors import ConfigError, DeviceError

pytestmark = pytest.mark.gpu
# Momentum and smoothed labels, for which the kernel is compiled anew.
PUSHED = {"momentum": 0.9, "nesterov": True, "label_smoothing": 0.1, "eta_max": 0.01}


@pytest.fixture(scope="module")
def gpu() -> Backend:
    """Return the first GPU, or skip with the reason why it cannot be used."""
    try:
        backend = xpnet.get_backend("gpu")
        trained(backend, epochs=1)
    except (DeviceError, ConfigError) as error:
        pytest.skip(str(error))
    return backend


def trained(backend, *, dtype="float32", hidden=(50, 50), epochs=4, **settings):
    data = xpnet.load_data("patterns:1200/200")
    network = xpnet.NetworkConfig(inputs=data.inputs, hidden=hidden)
    net = xpnet.Network(network, backend=backend, dtype=dtype)
    stepper = "persistent" if backend.name == "gpu" else "plain"
    return xpnet.train(net, data, xpnet.TrainConfig(epochs=epochs, stepper=stepper, **settings))


@pytest.mark.parametrize("name", CASES)
def test_every_setting_trains_as_on_the_cpu_or_is_refused_by_name(gpu, name):
    check_setting(gpu, "persistent", name)


@pytest.mark.parametrize("settings", [{"batch_size": 100}, {"batch_size": 37}, PUSHED], ids=str)
def test_persistent_gives_the_curves_of_the_cpu(gpu, settings):
    there, here = (
        trained(backend, dtype="float64", hidden=(24, 20), **settings) for backend in (gpu, xpnet.get_backend("cpu"))
    )
    for column in ("train_loss", "train_cost", "validation_loss"):
        np.testing.assert_allclose(there.history[column], here.history[column], rtol=1e-9)
    np.testing.assert_allclose(there.test.losses, here.test.losses, rtol=1e-9)


@pytest.mark.parametrize("settings", [{}, PUSHED], ids=str)
def test_persistent_has_the_same_bits_on_every_run(gpu, settings):
    first, *others = (trained(gpu, **settings).history["train_loss"] for _ in range(5))
    for other in others:
        np.testing.assert_array_equal(other, first)


def test_persistent_training_that_is_resumed_ends_with_the_same_bits(gpu):
    data = xpnet.load_data("patterns:1200/200")
    check_resumed(gpu, data, (20, 15), "float32", xpnet.TrainConfig(epochs=4, stepper="persistent"), [23], replicas=1)
