"""Student's t distribution, without SciPy.

Source: Abramowitz and Stegun, Handbook of Mathematical Functions, 26.7.3 and 26.7.4.
"""

from __future__ import annotations

import functools
import math
from statistics import NormalDist

# With more degrees of freedom it is the normal distribution, to a percent of the quantile.
_NORMAL = 200


@functools.cache
def t_quantile(level: float, df: int) -> float:
    """Return what the absolute value of Student's t with `df` degrees of freedom exceeds with probability `level`."""
    if df > _NORMAL:
        return NormalDist().inv_cdf(1 - level / 2)
    low, high = 0.0, 1.0
    while t_tail(high, df) > level:
        low, high = high, 2 * high
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if t_tail(middle, df) > level else (low, middle)
    return high


def t_tail(t: float, df: int) -> float:
    """Return the probability with which the absolute value of Student's t exceeds `t`."""
    theta = math.atan(t / math.sqrt(df))
    cos2, odd = math.cos(theta) ** 2, df % 2
    term, total = 1.0, 1.0
    for k in range(2 + odd, df - 1, 2):
        term *= (k - 1) / k * cos2
        total += term
    inside = math.sin(theta) * total if not odd else math.sin(theta) * math.cos(theta) * total if df > 1 else 0.0
    return 1 - (2 / math.pi * (theta + inside) if odd else inside)
