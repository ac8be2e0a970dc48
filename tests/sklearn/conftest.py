from __future__ import annotations

import numpy as np
import pytest


@pytest.fixture(scope="session")
def table():
    """Return three overlapping groups of points: X (120, 4), y of texts."""
    rng = np.random.default_rng(0)
    y = np.array(["ash", "beech", "cedar"])[np.arange(120) % 3]
    return rng.standard_normal((120, 4)) + 1.5 * (np.arange(120) % 3)[:, None], y
