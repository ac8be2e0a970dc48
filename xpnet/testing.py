"""Gradient checks for the tests of users' own code."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import numpy as np

from xpnet.analysis.gradcheck.finite_differences import Differences, Limits, reduce_curvature
from xpnet.analysis.gradcheck.problem import Flags, Floats, Indices
from xpnet.analysis.gradcheck.report import TensorReport
from xpnet.analysis.gradcheck.verdict import judge
from xpnet.config.arguments import function as a_function
from xpnet.config.arguments import takes
from xpnet.config.fields import optional, real, whole
from xpnet.errors import ArrayError
from xpnet.utils.rng import Purpose, generator


@takes(
    function=a_function,
    h=real(above=0),
    eps=real(above=0),
    tolerance=real(above=0),
    coverage=optional(whole(1)),
    seed=whole(0),
)
def check_gradients(
    function: Callable[[Any], Any],
    gradient: Callable[[Any], Any] | Any,
    x: Any,
    *,
    h: float = 6e-6,
    eps: float = 1e-6,
    tolerance: float = 1e-5,
    coverage: int | None = None,
    seed: int = 0,
    name: str = "x",
) -> TensorReport:
    """Return a comparison of a gradient with central differences of a function of one array.

    Args:
        function: Takes a float64 array of the shape of `x`; returns a number, or terms to average, such as the loss of
            each sample, which have less round-off when they are differenced one by one.
        gradient: The gradient of the number, or of the mean, of the shape of `x`; or a function that
            returns it.
        x: The point at which to compare, float64; it is not changed.
        h: Step, for entries up to 1 in size; larger ones take h |entry|.
        eps: Smallest denominator of the relative error.
        tolerance: Largest relative error that passes.
        coverage: Number of entries to compare, drawn with `seed`; None compares all.
        seed: Seed of the sample.
        name: The name of the array in the report.

    Returns:
        The report: ``passed``, ``max_relative_error``, ``at``, ``note``, ...

    Raises:
        ArrayError: `x` is not float64, or an array has the wrong shape.
        ConfigError: A setting is out of its range.
    """
    x = _array(name, x)
    if x.dtype != np.float64:
        raise ArrayError(f"{name}: is {x.dtype}; differences need float64, the round-off of float32 is too large")
    if not np.isfinite(x).all():
        raise ArrayError(f"{name}: has values that are not finite")
    analytic = _array("gradient", gradient(x.copy()) if callable(gradient) else gradient)
    if analytic.shape != x.shape:
        raise ArrayError(f"gradient: has shape {analytic.shape}; {name} has {x.shape}")
    base = _array("function", function(x.copy())).astype(np.float64)
    flat: Indices = np.arange(x.size, dtype=np.int64)
    if coverage is not None and coverage < x.size:
        flat = np.sort(generator(seed, Purpose.CHECK_ENTRIES).choice(x.size, coverage, replace=False))
    steps = h * np.maximum(1.0, np.abs(x.reshape(-1)[flat]))
    slopes = functools.partial(_slopes, function, x)
    differences = Differences.central(flat, steps, *slopes(flat, steps, -steps))
    scale = max(1.0, float(np.max(np.abs(base), initial=0)))
    limits = Limits(eps, tolerance, scale, max(1, base.size))
    chosen = analytic.astype(np.float64).reshape(-1)[flat]
    reduce_curvature(slopes, differences, chosen, limits)
    return judge(name, x.shape, differences, chosen, np.zeros(len(flat)), steps, limits, zero=False)


def _slopes(
    function: Callable[[Any], Any], x: Floats, flat: Indices, plus: Floats, minus: Floats
) -> tuple[Floats, Flags]:
    """Return slopes of a function between two offsets of single entries of `x`; no entry is marked as a kink."""
    values = np.empty(len(flat))
    for number, index in enumerate(flat):
        sides, points = [], []
        for offset in (plus[number], minus[number]):
            moved = x.copy()
            moved.flat[index] += offset
            points.append(moved.flat[index])
            sides.append(np.asarray(function(moved), np.float64))
        values[number] = np.mean(sides[0] - sides[1]) / (points[0] - points[1])
    return values, np.zeros(len(flat), bool)


def _array(called: str, values: Any) -> Any:
    try:
        array = np.asarray(values)
    except (TypeError, ValueError, OverflowError) as error:
        raise ArrayError(f"{called}: is no array of numbers ({error})") from None
    if array.dtype.kind not in "biuf":
        raise ArrayError(f"{called}: is an array of {array.dtype}, and must be one of numbers")
    return array


def assert_gradients(
    function: Callable[[Any], Any], gradient: Callable[[Any], Any] | Any, x: Any, **options: Any
) -> TensorReport:
    """Raise AssertionError with one sentence if :func:`check_gradients` does not pass; else return its report."""
    report = check_gradients(function, gradient, x, **options)
    if not report.passed:
        raise AssertionError(
            f"gradient of {report.name}: {report.note}; the worst is {list(report.at or ())}, "
            f"analytic {report.analytic:.6g}, numerical {report.numerical:.6g}, "
            f"relative error {report.max_relative_error:.2g}"
        )
    return report
