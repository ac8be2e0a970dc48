"""The verdicts on each tensor's gradients and on the network."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from xpnet.analysis.gradcheck.finite_differences import NORM_TOLERANCE_FLOAT32, Differences, Limits
from xpnet.analysis.gradcheck.problem import Flags, Floats, Problem
from xpnet.analysis.gradcheck.report import (
    FAILED,
    PASSED,
    UNCHECKED,
    VANISHING,
    ZERO,
    Entries,
    GradcheckReport,
    TensorReport,
    worst_of,
)

# Largest relative errors that pass, of gradients in float64 and in float32.
TOLERANCE, TOLERANCE_FLOAT32 = 1e-5, 1e-2


def judge(
    name: str,
    shape: tuple[int, ...],
    differences: Differences,
    analytic: Floats,
    extra: Floats,
    h: Floats,
    limits: Limits,
    *,
    zero: bool,
) -> TensorReport:
    """Return the report on one tensor; `shape` lacks the replica axis.

    `analytic` and `differences` are gradients of the cost (k,), of which `extra` is the penalty's part; `h` are the
    usual steps (k,); `zero` says whether the gradient is zero by construction.
    """
    kept = ~differences.kinked
    a, b = analytic[kept], differences.values[kept]
    entries = Entries(differences.flat[kept], a, b, limits.floor(differences.h[kept]), limits.relative(a, b))
    usual = float(np.median(limits.floor(h))) if h.size else 0.0
    if zero:
        small = max(usual, limits.zero)
        wrong = ~((np.abs(a) <= small) & (np.abs(b) <= np.maximum(small, entries.floor)))
    else:
        wrong = limits.wrong(analytic, differences)[kept]
    norms = float(np.linalg.norm(a) + np.linalg.norm(b))
    norm_error = (float(np.linalg.norm(a - b)) / norms if np.isfinite(norms) else np.inf) if norms else 0.0
    verdict, note = UNCHECKED, "every probe meets a kink" if differences.flat.size else "not reached"
    at, values = None, (0.0, 0.0)
    if a.size:
        verdict, note = _verdict(entries, wrong, extra[kept], norm_error, usual, limits, zero=zero)
        candidates = np.flatnonzero(wrong) if wrong.any() else np.arange(a.size)
        worst = int(candidates[np.argmax(entries.relative[candidates])])
        at = tuple(int(index) for index in np.unravel_index(int(entries.flat[worst]), shape))
        values = float(a[worst]), float(b[worst])
    return TensorReport(
        name=name,
        shape=shape,
        checked=int(kept.sum()),
        of=int(np.prod(shape)),
        max_relative_error=_largest(entries.relative),
        mean_relative_error=float(entries.relative.mean()) if a.size else 0.0,
        max_absolute_error=_largest(a - b),
        norm_error=norm_error,
        at=at,
        analytic=values[0],
        numerical=values[1],
        failing=int(wrong.sum()),
        kinks=int(differences.kinked.sum()),
        one_sided=int((kept & differences.one_sided).sum()),
        smaller_steps=int((kept & (differences.h < h)).sum()),
        floor=usual,
        verdict=verdict,
        note=note,
        entries=entries,
    )


def _verdict(
    entries: Entries, wrong: Flags, extra: Floats, norm_error: float, usual: float, limits: Limits, *, zero: bool
) -> tuple[str, str]:
    """Return verdict and note on a tensor with compared entries, whose usual differences have round-off `usual`."""
    a, b = entries.analytic, entries.numerical
    if zero:
        sizes = f"analytic at most {_largest(a):.1e}, numerical at most {_largest(b):.1e}"
        if wrong.any():
            return FAILED, f"BN subtracts this bias again, so its gradient must be zero, but is not: {sizes}"
        return ZERO, f"BN subtracts this bias again, so its gradient is zero: {sizes}"
    if wrong.any():
        return FAILED, f"{int(wrong.sum()):,} of {wrong.size:,} entries are wrong"
    if limits.single and norm_error > NORM_TOLERANCE_FLOAT32 and _largest(b) > usual:
        return FAILED, f"norm-wise error {norm_error:.1e}, above {NORM_TOLERANCE_FLOAT32:.0e}"
    if _largest(a) == 0 and _largest(b) == 0:
        return VANISHING, "every gradient is exactly zero: no sample reaches these parameters"
    if max(_largest(a - extra), _largest(b - extra)) < usual:
        without = "without the penalty " if np.any(extra) else ""
        return VANISHING, f"vanishing: {without}both sides are below the round-off of the cost, {usual:.0e}"
    above = bool(np.any(entries.relative > limits.tolerance))
    return PASSED, "the largest relative errors are those of gradients near round-off" if above else ""


def _largest(values: Floats) -> float:
    """Return the largest absolute value; infinity if one of `values` is NaN."""
    return float(np.max(np.nan_to_num(np.abs(values), nan=np.inf, posinf=np.inf), initial=0))


def judge_network(
    problem: Problem,
    tensors: Sequence[TensorReport],
    cost_checks: Mapping[str, Mapping[str, Any]],
    *,
    interrupted: bool,
    settings: dict[str, Any],
    seconds: float,
) -> GradcheckReport:
    """Return the report on the network: every tensor and the checks of ``cost, penalty, direction`` must pass."""
    checked = sum(t.checked for t in tensors)
    # An error propagates from the output to the input, so the failure nearest to the output comes first.
    order = list(problem.owners)
    failed = sorted((t for t in tensors if not t.passed), key=lambda t: order.index(t.name), reverse=True)
    passed = not failed and not interrupted and checked > 0 and all(part["passed"] for part in cost_checks.values())
    sentences = [_failure(failed)] if failed else []
    sentences += [part["reason"] for part in cost_checks.values() if part["reason"]]
    counted = f"{checked:,} of {problem.size:,} parameters"
    if interrupted:
        sentences.append(f"interrupted after {counted}" + ("" if failed else ", none of which fails"))
    elif not checked:
        sentences.append("nothing could be checked: every probe meets a kink")
    if passed:
        sentences.append(_success(tensors, counted, settings["tolerance"]))
    return GradcheckReport(
        passed=passed,
        reason="; ".join(sentences),
        checked=checked,
        of=problem.size,
        parameters=tuple(tensors),
        direction_error=float(cost_checks["direction"]["relative_error"]),
        direction=dict(cost_checks["direction"]),
        cost=dict(cost_checks["cost"]),
        interrupted=interrupted,
        settings=settings,
        seconds=seconds,
    )


def _failure(failed: Sequence[TensorReport]) -> str:
    first, *others = failed
    text = (
        f"{first.name} fails: {first.failing:,} of {first.checked:,} entries are wrong, "
        f"largest relative error {first.max_relative_error:.2g}"
    )
    if first.at is not None:
        text += f" at {list(first.at)}: analytic {first.analytic:.6g}, numerical {first.numerical:.6g}"
    if others:
        names = ", ".join(t.name for t in others)
        text += f"; {names} fail too, and may have inherited it, since errors propagate from the output down"
    return text


def _success(tensors: Sequence[TensorReport], counted: str, tolerance: float) -> str:
    worst = worst_of(tensors)
    text = f"{counted} agree"
    if worst is not None:
        text += f", largest relative error {worst.max_relative_error:.1e} in {worst.name}"
        if worst.max_relative_error > tolerance:
            text += f" (within round-off: {worst.max_absolute_error:.1e} absolute at most)"
    kinks = sum(t.kinks for t in tensors)
    if kinks:
        text += f"; {kinks:,} left out at kinks"
    meanings = {VANISHING: "could not be tested, since their gradients vanish", UNCHECKED: "unchecked"}
    for verdict, meaning in meanings.items():
        names = [t.name for t in tensors if t.verdict == verdict]
        if names:
            text += f"; {', '.join(names)} {meaning}"
    return text
