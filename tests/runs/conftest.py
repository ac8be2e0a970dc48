"""Data of the tests of runs."""

from __future__ import annotations

import numpy as np
import pytest

import xpnet


@pytest.fixture(scope="session")
def dataset() -> xpnet.data.Dataset:
    """Return 600 samples of 12 features in 4 overlapping classes."""
    rng = np.random.default_rng(5)
    labels = np.arange(600) % 4
    x = rng.standard_normal((600, 12)) + 1.5 * rng.standard_normal((4, 12))[labels]
    return xpnet.data_from_arrays(x.astype(np.float32), labels, split="400/100")
