"""The strict module does refuse what it is there to refuse."""

from __future__ import annotations

import numpy as np
import pytest
from strict import StrictError, strict_backend

import xpnet
from xpnet.errors import ArrayError


def test_it_refuses_what_cupy_refuses_and_what_would_wait():
    backend = strict_backend()
    a = backend.asarray([[1.0, 2.0]])
    for use in (float, bool, np.asarray, list):
        with pytest.raises(StrictError):
            use(a[0, 0] if use is float else a)
    with pytest.raises(StrictError, match="mixed"):
        a + np.ones(2)
    with pytest.raises((StrictError, TypeError)):
        np.ones(2) + a
    with pytest.raises((StrictError, TypeError)):
        np.add(a, 1)
    with pytest.raises(StrictError, match="mixed"):
        backend.xp.matmul(a, np.ones((2, 2)))
    assert backend.xp.synchronisations == 0
    np.testing.assert_array_equal(backend.to_numpy(2 * a + 1), [[3, 5]])
    backend.synchronize()
    assert backend.xp.synchronisations == 2


def test_mixing_is_named_at_the_boundary():
    backend = strict_backend()
    net = xpnet.Network(xpnet.NetworkConfig(inputs=2, hidden=(3,), classes=2), backend=backend, dtype="float64")
    x, labels = backend.asarray([[1.0, 2.0], [3.0, 4.0]]), backend.asarray([0, 1])
    with pytest.raises(ArrayError, match=r"x: got a numpy\.ndarray, but this network computes on strict:0"):
        net.cost_and_gradients(np.ones((2, 2)), labels)
    with pytest.raises(ArrayError, match=r"labels: got a numpy\.ndarray"):
        net.cost_and_gradients(x, np.array([0, 1]))
    on_cpu = xpnet.Network(net.config, dtype="float64")
    with pytest.raises(ArrayError, match=r"x: got a strict\.Array, but this network computes on cpu"):
        on_cpu.predict_proba(x)


@pytest.mark.parametrize("batch_norm", [True, False])
@pytest.mark.parametrize("shared", [True, False])
def test_gradients_and_probabilities_are_those_of_the_cpu(batch_norm, shared):
    backend = strict_backend()
    config = xpnet.NetworkConfig(inputs=5, hidden=(4, 3), classes=3, batch_norm=batch_norm, init_bias=0.2)
    on_cpu = xpnet.Network(config, dtype="float64", replicas=2)
    on_device = xpnet.Network(config, dtype="float64", replicas=2, backend=backend)
    rng = np.random.default_rng(0)
    x, labels = rng.standard_normal((2, 7, 5)), rng.integers(0, 3, (2, 7))
    if shared:
        x, labels = x[0], labels[0]
    lam = np.array([0.1, 0.2])
    cost, gradients = on_cpu.cost_and_gradients(x, labels, lam)
    x_there, labels_there = backend.asarray(x), backend.asarray(labels)
    cost_there, gradients_there = on_device.cost_and_gradients(x_there, labels_there, lam)
    np.testing.assert_allclose(backend.to_numpy(cost_there), cost, rtol=1e-12)
    for name, gradient in gradients.items():
        np.testing.assert_allclose(backend.to_numpy(gradients_there[name]), gradient, rtol=1e-10, atol=1e-14)
    np.testing.assert_allclose(backend.to_numpy(on_device.predict_proba(x_there)), on_cpu.predict_proba(x), rtol=1e-12)


def test_raw_samples_come_from_the_host_or_the_device(blobs):
    backend = strict_backend()
    on_cpu = xpnet.Network(xpnet.NetworkConfig(inputs=12, hidden=(3,), classes=4), dtype="float64", replicas=2)
    on_device = xpnet.Network(on_cpu.config, dtype="float64", replicas=2, backend=backend)
    for net in (on_cpu, on_device):
        net.learn_about(blobs)
    x = blobs.test.x
    expected = on_cpu.predict_proba(x)
    for raw in (x, backend.asarray(x)):
        np.testing.assert_allclose(backend.to_numpy(on_device.predict_proba(raw)), expected, rtol=1e-12)
        np.testing.assert_array_equal(backend.to_numpy(on_device.predict(raw)), expected.argmax(axis=-1))
    with pytest.raises(ArrayError, match=r"x: got a strict\.Array, but this network computes on cpu"):
        on_cpu.predict(backend.asarray(x))
