"""Gradients of other devices against differences on the CPU."""

from __future__ import annotations

import numpy as np
import pytest
from gradcheck_cases import samples
from strict import strict_backend

import xpnet
from xpnet.analysis.gradcheck import check_network, sweep_h
from xpnet.backend import get_backend


@pytest.mark.parametrize("device", ["strict", pytest.param("gpu", marks=pytest.mark.gpu)])
@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("on_device", [True, False])
def test_gradients_of_a_device_are_checked_on_the_cpu(device: str, dtype: str, on_device: bool):
    try:
        backend = strict_backend() if device == "strict" else get_backend(device)
    except xpnet.XpnetError as error:
        pytest.skip(str(error))
    x, labels = samples(40)
    for batch_norm in (True, False):
        config = xpnet.NetworkConfig(inputs=5, hidden=(7, 6), classes=4, batch_norm=batch_norm)
        net = xpnet.Network(config, backend=backend, dtype=dtype)
        given = (backend.asarray(x, dtype=dtype), backend.asarray(labels)) if on_device else (x, labels)
        report = check_network(net, *given, 0.01)
        assert report.passed, report.reason
        assert report.settings["device"] == backend.device
        assert report.settings["precision"] == dtype
        _, gradients = net.cost_and_gradients(backend.asarray(x, dtype=dtype), backend.asarray(labels), 0.01)
        gradients["W2"] = gradients["W2"] * 1.01
        broken = check_network(net, *given, 0.01, gradients=gradients)
        assert broken.reason.startswith("W2 fails")
        assert xpnet.gradcheck(net, *given, lam=0.01).settings["device"] == "cpu"
        assert np.isfinite([row["median"] for row in sweep_h(net, *given, steps=[1e-5])]).all()
