"""Checks of the cost as a function of all parameters: its value, its penalty, its slope along a random direction."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from xpnet.analysis.gradcheck.finite_differences import Limits
from xpnet.analysis.gradcheck.problem import Flags, Floats, Problem
from xpnet.nn.backprop import Tape, forward
from xpnet.utils.rng import Purpose, generator

_ATTEMPTS = 6


def check_cost(own: float, expected: float, running_kept: bool, single: bool) -> dict[str, Any]:
    """Compare the network's own cost with the checker's cost, from which the differences are computed.

    Otherwise a term of the cost that the checker does not know would go unnoticed if its gradient is missing too.
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
    worst, worst_name = 0.0, ""
    for number, layer in enumerate(problem.layers if problem.lam else ()):
        W = problem.parameters[layer.W]
        size = max(1.0, float(np.linalg.norm(W)))
        v = generator(0, Purpose.CHECK_PENALTY, number).standard_normal(W.shape)
        v *= size / np.linalg.norm(v)
        # A quadratic has no third derivative, so the step may be large, which keeps round-off small.
        step = max(h, 1e-2)
        plus, minus = (problem.penalty(problem.parameters | {layer.W: W + side * v}) for side in (step, -step))
        exact = 2 * problem.lam * float(np.sum(W * v))
        error = abs((plus - minus) / (2 * step) - exact) / (problem.lam * size)
        if error > worst:
            worst, worst_name = error, layer.W
    passed = worst <= min(tolerance, 1e-5)
    reason = "" if passed else f"the penalty's gradient at {worst_name} is not 2 lambda W: error {worst:.1e}"
    return {"relative_error": worst, "passed": passed, "reason": reason}


def check_direction(
    problem: Problem, analytic: Mapping[str, Floats], h: float, seed: int, limits: Limits
) -> dict[str, Any]:
    """Compare the derivative along a random direction of all parameters at once with a difference.

    Two evaluations of the cost test all entries of all gradients together, including entries outside the sample.  If a
    direction meets a kink, another one is drawn; later attempts take a smaller step.
    """
    fixed = _at_kinks(problem)
    for attempt in range(_ATTEMPTS):
        v = _direction(problem, seed, attempt)
        v |= {name: v[name] * ~flags for name, flags in fixed.items()}
        step = h / 10 ** max(0, attempt - _ATTEMPTS // 2)
        result = _along(problem, analytic, v, step, limits)
        if not result["kinked"]:
            break
    for smaller in (step / 10, step / 100):
        if result["passed"] or result["kinked"]:
            break
        again = _along(problem, analytic, v, smaller, limits)
        # A wrong gradient stays wrong with smaller steps.  An error below round-off must have fallen too.
        fallen = again["relative_error"] <= max(limits.tolerance, result["relative_error"] / 10)
        if again["passed"] and fallen and not again["kinked"]:
            result = again
    if result["kinked"]:
        # A difference across a kink says nothing; it neither passes nor fails.
        return result | {"passed": True, "note": "every direction tried meets a kink"}
    if result["passed"]:
        return result
    return result | {
        "reason": f"along a random direction of all parameters the gradient gives {result['analytic']:.6g} and the "
        f"difference {result['numerical']:.6g}, relative error {result['relative_error']:.1e}"
    }


def _direction(problem: Problem, seed: int, attempt: int) -> dict[str, Floats]:
    """Return a random direction of length 1 over all parameters, every tensor with an equal part.

    A single entry of the largest tensor moves by little, which keeps the probes away from kinks.  The
    entries are normal: with signs alone, the gradient of the last bias, whose sum is zero, would be
    missed wherever all signs agree.
    """
    draw = generator(seed, Purpose.CHECK_DIRECTION, attempt)
    v = {name: draw.standard_normal(p.shape) for name, p in problem.parameters.items()}
    return {name: part / (np.linalg.norm(part) * math.sqrt(len(v))) for name, part in v.items()}


def _along(
    problem: Problem, analytic: Mapping[str, Floats], v: Mapping[str, Floats], step: float, limits: Limits
) -> dict[str, Any]:
    """Compare the analytic and the numerical derivative along the direction `v`."""
    (plus, active_plus), (minus, active_minus) = (
        problem.evaluate({name: p + offset * v[name] for name, p in problem.parameters.items()})
        for offset in (step, -step)
    )
    numerical = float(np.mean(plus - minus)) / (2 * step)
    for layer in problem.layers:
        numerical += 2 * problem.lam * float(np.sum(problem.parameters[layer.W] * v[layer.W]))
    terms = [float(np.dot(analytic[name], part.reshape(-1))) for name, part in v.items()]
    exact = sum(terms)
    # The terms of the sum may cancel, but float32's round-off is proportional to their sizes.
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
    """Return which entries of b or beta (1, 1, m) have an input of ReLU, or of another kink, of exactly 0, by name.

    If all units of a layer are off for a sample, the next layer's ReLU input is its b, which is 0 at first.  Any
    direction that moves such a b meets a kink.
    """
    if not problem.kinked:
        return {}
    tape = Tape()
    forward(problem.ops, problem.layers, problem.parameters, problem.config.bn_eps, problem.x, tape, problem.masks)
    fixed = {}
    for layer, record in zip(problem.layers[:-1], tape.layers, strict=False):
        name, inputs = layer.b, record.s
        if layer.beta is not None and layer.gamma is not None:
            normalised = record.activation.centred * record.activation.inv_std
            name, inputs = layer.beta, problem.parameters[layer.gamma] * normalised + problem.parameters[layer.beta]
        if name is not None and (inputs == 0).any():
            fixed[name] = (inputs == 0).any(axis=-2, keepdims=True)
    return fixed
