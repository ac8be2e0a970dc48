"""``xpnet info``."""

from __future__ import annotations

import numpy as np
import pytest

import xpnet


def test_info_has_versions_and_devices(command):
    result = command.json("info")
    assert result["xpnet"] == xpnet.__version__
    assert result["packages"]["numpy"] == np.__version__
    assert all(blas["threads"] >= 1 for blas in result["blas"])
    assert result["cifar10"] is None
    out = command("info").out
    assert np.__version__ in out
    assert "CIFAR-10" in out


@pytest.mark.parametrize("rounds", [True, False])
def test_info_names_bf16_where_the_processor_multiplies_it(command, monkeypatch, rounds):
    monkeypatch.setattr("xpnet.ops.rounds_products", lambda *_: rounds)
    assert command.json("info")["bf16"] is rounds
    assert ("xpnet train --bf16" in command("info").out) is rounds
