"""Fixtures of tests that train."""

from __future__ import annotations

import pytest
from strict import gpu_backend, strict_backend


@pytest.fixture
def backend(device, monkeypatch):
    """Return the backend of a test's parameter `device`: the CPU with NumPy or Numba, or one of two emulators."""
    monkeypatch.setenv("XPNET_FAST", str(int(device != "NumPy")))
    if device == "gpu":
        return gpu_backend(monkeypatch)
    return strict_backend() if device == "strict" else None
