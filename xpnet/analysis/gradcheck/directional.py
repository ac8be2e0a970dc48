"""What is checked beside the single entries, and the verdict over all."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from xpnet.analysis.gradcheck.problem import Flags, Floats, Problem
from xpnet.analysis.gradcheck.report import UNCHECKED, VANISHING, GradcheckReport, TensorReport, worst_of
from xpnet.analysis.gradcheck.sampling import direction, penalty_direction
from xpnet.analysis.gradcheck.tolerances import Limits
from xpnet.nn.backprop import Tape, forward

_ATTEMPTS = 6


def check_cost(own: float, expected: float, running_kept: bool, single: bool) -> dict[str, Any]:
    """Compare the network's own cost with the one that is differenced.

    A term of the cost that the checker does not know of would otherwise pass unseen where its
    gradient is missing too.
    """
    error = abs(own - expected) / max(1.0, abs(expected))
    passed = bool(error <= (1e-4 if single else 1e-9))
    reason = ""
    if not passed:
        reason = (
            f"the network's own cost is {own:.10g}, but that of the reference operations is {expected:.10g}: "
            "the forward pass or the cost is not what it should be"
        )
    elif not running_kept:
        passed, reason = False, "computing gradients changed the running statistics, which must be left as they are"
    return {"own": own, "expected": expected, "relative_error": error, "passed": passed, "reason": reason}


def check_penalty(problem: Problem, h: float, tolerance: float) -> dict[str, Any]:
    """Compare the closed form 2 lam W of the penalty's gradient with differences of lam sum(W**2).

    The differences of the parameters leave the penalty out, since its round-off would drown small
    gradients; so its closed form is checked here, for each W along a random direction.
    """
    worst, where = 0.0, ""
    for number, layer in enumerate(problem.layers):
        if problem.lam == 0:
            break
        W = problem.parameters[layer.W]
        v = penalty_direction(number, W.shape)
        v *= max(1.0, float(np.linalg.norm(W))) / np.linalg.norm(v)
        # A quadratic has no third derivative, so that the step may be large and round-off small.
        step = max(h, 1e-2)
        sides = [problem.penalty(problem.parameters | {layer.W: W + sign * step * v}) for sign in (1, -1)]
        numerical = (sides[0] - sides[1]) / (2 * step)
        exact = 2 * problem.lam * float(np.sum(W * v))
        error = abs(numerical - exact) / (problem.lam * max(1.0, float(np.linalg.norm(W))))
        if error > worst:
            worst, where = error, layer.W
    passed = worst <= min(tolerance, 1e-5)
    reason = "" if passed else f"the penalty's gradient at {where} is not 2 lambda W: error {worst:.1e}"
    return {"relative_error": worst, "passed": passed, "reason": reason}


def check_direction(
    problem: Problem, analytic: Mapping[str, Floats], h: float, seed: int, limits: Limits
) -> dict[str, Any]:
    """Compare the derivative along a random direction of all parameters at once with a difference.

    Two whole evaluations see every entry of every gradient, those too that a sample leaves out.  A
    direction that meets a kink is drawn again, with a smaller step at last.
    """
    shapes = {name: p.shape for name, p in problem.parameters.items()}
    still = _at_kinks(problem)
    for attempt in range(_ATTEMPTS):
        v = direction(shapes, seed, attempt)
        v |= {name: v[name] * ~kept for name, kept in still.items()}
        step = h / 10 ** max(0, attempt - _ATTEMPTS // 2)
        found = _along(problem, analytic, v, step, limits)
        if not found["kinked"]:
            break
    for smaller in (step / 10, step / 100):
        if found["passed"] or found["kinked"]:
            break
        again = _along(problem, analytic, v, smaller, limits)
        # A wrong gradient stays wrong; below round-off, the error must have fallen too.
        fallen = again["relative_error"] <= max(limits.tolerance, found["relative_error"] / 10)
        if again["passed"] and fallen and not again["kinked"]:
            found = again
    if found["kinked"]:
        # A difference across a kink says nothing; it neither passes nor fails.
        return found | {"passed": True, "note": "every direction tried meets a kink"}
    reason = ""
    if not found["passed"]:
        reason = (
            f"along a random direction of all parameters the gradient gives {found['analytic']:.6g} and the "
            f"difference {found['numerical']:.6g}, relative error {found['relative_error']:.1e}"
        )
    return found | {"reason": reason}


def _along(
    problem: Problem, analytic: Mapping[str, Floats], v: Mapping[str, Floats], step: float, limits: Limits
) -> dict[str, Any]:
    """Compare both derivatives along the direction `v`."""
    (plus, active_plus), (minus, active_minus) = (
        problem.evaluate({name: p + offset * v[name] for name, p in problem.parameters.items()})
        for offset in (step, -step)
    )
    numerical = float(np.mean(plus - minus)) / (2 * step)
    for layer in problem.layers:
        numerical += 2 * problem.lam * float(np.sum(problem.parameters[layer.W] * v[layer.W]))
    terms = [float(np.dot(analytic[name], part.reshape(-1))) for name, part in v.items()]
    exact = sum(terms)
    # The sum may cancel; float32's round-off goes with its terms.
    size = sum(map(abs, terms)) if limits.single else abs(exact) + abs(numerical)
    absolute = abs(exact - numerical)
    error = absolute / max(limits.eps, size) if np.isfinite(absolute) else np.inf
    return {
        "analytic": exact,
        "numerical": numerical,
        "relative_error": error,
        "h": step,
        "kinked": any(bool((a != b).any()) for a, b in zip(active_plus, active_minus, strict=True)),
        "passed": bool(error <= limits.tolerance or absolute <= float(limits.floor(np.array([step]))[0])),
        "reason": "",
        "note": "",
    }


def _at_kinks(problem: Problem) -> dict[str, Flags]:
    """Return which entries of b or beta (1, 1, m) have a ReLU input of exactly 0, by name.

    A sample that no unit of a layer answers to has the sum b in the next, which is 0 at first.  Any
    direction that moves such a b meets a kink.
    """
    tape = Tape()
    forward(problem.ops, problem.layers, problem.parameters, problem.config.bn_eps, problem.x, tape)
    still = {}
    for layer, record in zip(problem.layers[:-1], tape.layers, strict=False):
        name = layer.b if layer.beta is None else layer.beta
        if layer.beta is None or layer.gamma is None:
            z = record.s
        else:
            normalised = record.activation.centred * record.activation.inv_std
            z = problem.parameters[layer.gamma] * normalised + problem.parameters[layer.beta]
        if name is not None and (z == 0).any():
            still[name] = (z == 0).any(axis=-2, keepdims=True)
    return still


def conclude(
    problem: Problem,
    tensors: Sequence[TensorReport],
    whole: Mapping[str, Mapping[str, Any]],
    *,
    interrupted: bool,
    settings: dict[str, Any],
    seconds: float,
) -> GradcheckReport:
    """Return the report over all: every tensor, the cost, the penalty and the direction must pass."""
    checked = sum(t.checked for t in tensors)
    of = problem.size
    failed = sorted((t for t in tensors if not t.passed), key=lambda t: problem.owner_key(t.name), reverse=True)
    passed = not failed and not interrupted and checked > 0 and all(part["passed"] for part in whole.values())
    sentences = []
    if failed:
        sentences.append(_failure(failed))
    sentences += [part["reason"] for part in whole.values() if part["reason"]]
    counted = f"{checked:,} of {of:,} parameters"
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
        of=of,
        parameters=tuple(tensors),
        direction_error=float(whole["direction"]["relative_error"]),
        direction=dict(whole["direction"]),
        cost=dict(whole["cost"]),
        interrupted=interrupted,
        settings=settings,
        seconds=seconds,
    )


def _failure(failed: Sequence[TensorReport]) -> str:
    first = failed[0]
    at = (
        ""
        if first.at is None
        else f" at {list(first.at)}: analytic {first.analytic:.6g}, numerical {first.numerical:.6g}"
    )
    text = (
        f"{first.name} fails: {first.failing:,} of {first.checked:,} entries are wrong, "
        f"largest relative error {first.max_relative_error:.2g}{at}"
    )
    if len(failed) > 1:
        rest = ", ".join(t.name for t in failed[1:])
        text += f"; {rest} fail too, and may have inherited it, since errors propagate from the output down"
    return text


def _success(tensors: Sequence[TensorReport], counted: str, tolerance: float) -> str:
    worst = worst_of(tensors)
    text = f"{counted} agree"
    if worst is not None:
        above = worst.max_relative_error > tolerance
        text += f", largest relative error {worst.max_relative_error:.1e} in {worst.name}"
        text += f" (within round-off: {worst.max_absolute_error:.1e} absolute at most)" if above else ""
    kinks = sum(t.kinks for t in tensors)
    if kinks:
        text += f"; {kinks:,} left out at kinks"
    for verdict, meaning in (
        (VANISHING, "could not be tested, since their gradients vanish"),
        (UNCHECKED, "unchecked"),
    ):
        names = [t.name for t in tensors if t.verdict == verdict]
        if names:
            text += f"; {', '.join(names)} {meaning}"
    return text
