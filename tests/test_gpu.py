"""What a GPU computes, where there is one: the same as the CPU, up to rounding."""

from __future__ import annotations

import numpy as np
import pytest

import xpnet
from xpnet.backend import Backend
from xpnet.errors import ArrayError, DeviceError

pytestmark = pytest.mark.gpu


@pytest.fixture(scope="module")
def gpu() -> Backend:
    """Return the first GPU, or skip with the reason why it cannot be used."""
    try:
        return xpnet.get_backend("gpu")
    except DeviceError as error:
        pytest.skip(str(error))


@pytest.mark.parametrize("batch_norm", [True, False])
def test_training_from_one_seed_gives_the_same_curves(gpu, batch_norm):
    data = xpnet.load_data("patterns:1200/200")
    results = []
    for backend in (gpu, xpnet.get_backend("cpu")):
        config = xpnet.NetworkConfig(inputs=data.features, hidden=(20, 15), batch_norm=batch_norm)
        net = xpnet.Network(config, backend=backend, dtype="float64", replicas=2)
        results.append(xpnet.train(net, data, xpnet.TrainConfig(epochs=4, momentum=0.5)))
    on_gpu, on_cpu = results
    assert on_gpu.device == "gpu:0"
    for column in ("train_loss", "train_cost", "validation_loss"):
        np.testing.assert_allclose(on_gpu.history[column], on_cpu.history[column], rtol=1e-9)
    np.testing.assert_allclose(on_gpu.test.losses, on_cpu.test.losses, rtol=1e-9)


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
