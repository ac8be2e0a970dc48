"""Student's t without SciPy has SciPy's values."""

from __future__ import annotations

import pytest

from xpnet.training.student_t import t_quantile, t_tail


@pytest.mark.parametrize("df", [1, 2, 3, 4, 9, 30, 199])
@pytest.mark.parametrize("level", [0.05, 0.0125, 1e-4])
def test_t_quantile_and_tail_are_those_of_scipy(df: int, level: float):
    t = pytest.importorskip("scipy.stats").t
    assert t_quantile(level, df) == pytest.approx(t.isf(level / 2, df), rel=1e-9)
    assert t_tail(1.7, df) == pytest.approx(2 * t.sf(1.7, df), rel=1e-9)


def test_t_quantile_of_many_degrees_of_freedom_is_that_of_the_normal_distribution():
    assert t_quantile(0.05, 10_000) == pytest.approx(1.96, abs=1e-3)
