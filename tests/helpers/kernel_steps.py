"""Steps of one kernel on the stand-in for a GPU, and what they are compared with."""

from __future__ import annotations

from typing import Any

import numpy as np
from stepping import state_of

import xpnet
from xpnet.data import Standardiser
from xpnet.nn.network import Network
from xpnet.training.steppers import Hyperparameters, StepMetrics, make_stepper

# Settings beside those of plain gradient descent, of three replicas: momentum, and the loss.
PUSHED: dict[str, Any] = {"rho": (0.5, 0.9, 0.8), "nesterov": True}
LOSS: dict[str, Any] = {"smoothing": (0.1, 0.0, 0.3), "weighted": True}


def problem(inputs: int, kept_as_bytes: bool = True, dtype: str = "float64") -> tuple[Any, Any]:
    """Return 150 samples, as rows or as numbers, and their labels."""
    rng = np.random.default_rng(0)
    raw, labels = rng.integers(0, 256, (150, inputs), np.uint8), rng.integers(0, 4, 150)
    standardiser = Standardiser.fit(raw)
    return (standardiser.lazily if kept_as_bytes else standardiser)(raw, dtype), labels


def hyper_of(
    xp: Any,
    numbers: tuple[int, ...],
    dtype: str,
    rho: Any = None,
    nesterov: bool = False,
    smoothing: Any = None,
    weighted: bool = False,
) -> Hyperparameters:
    """Return the hyperparameters of the replicas `numbers`."""
    of_each = ((0.01, 0.05, 0.1), rho, smoothing)
    lam, rho, smoothing = (None if v is None else xp.asarray(np.array(v)[list(numbers)]) for v in of_each)
    weights = xp.asarray(np.linspace(0, 2, 150).astype(dtype)) if weighted else None
    return Hyperparameters(lam, rho, nesterov, smoothing, weights=weights)


def trained(
    backend: Any,
    kind: str,
    data: tuple[Any, Any],
    *,
    hidden: tuple[int, ...] = (6, 5),
    numbers: tuple[int, ...] = (0,),
    n: int = 10,
    steps: int = 3,
    calls: tuple[int, ...] | None = None,
    dtype: str = "float64",
    more: dict[str, Any] | None = None,
    **network: Any,
) -> dict[str, Any]:
    """Take steps with the replicas `numbers` of a population of three; return all tensors and figures.

    `calls` are the numbers of steps of each call, if there is to be more than one.
    """
    xp, (x, labels) = backend.xp, data
    config = xpnet.NetworkConfig(inputs=x.shape[1], hidden=hidden, classes=4, init_bias=0.2, **network)
    net = Network(config, backend=backend, dtype=dtype, replicas=3).select(list(numbers))
    there = x.to(xp.asarray) if hasattr(x, "to") else xp.asarray(x)
    hyper = hyper_of(xp, numbers, dtype, **(more or {}))
    stepper = make_stepper(net, there, xp.asarray(labels), hyper, kind, batch=n)
    names = {
        "multi": "MultiStepper",
        "multi-bf16": "MultiBf16Stepper",
        "persistent": "PersistentStepper",
        "plain": "PlainStepper",
        "graph": "GraphStepper",
    }
    assert type(stepper).__name__ == names[kind]
    state, rng = state_of(net, moments=hyper.moments), np.random.default_rng(1)
    perm, eta = rng.integers(0, 150, (steps, 3, n))[:, numbers], 0.05 * (1 + rng.random((steps, 3)))[:, numbers]
    metrics = StepMetrics.empty(xp, steps, len(numbers))
    perm = perm[:, 0] if len(numbers) == 1 else perm
    start = 0
    for count in calls or (steps,):
        part = slice(start, start + count)
        given = (xp.asarray(np.ascontiguousarray(values[part])) for values in (perm, eta))
        stepper.run(state, *given, metrics.part(part.start, part.stop))
        start += count
    assert start == steps
    groups = {name: getattr(state, name) for name in ("parameters", "velocities", "running")}
    groups["metrics"] = dict(enumerate(metrics.arrays()))
    return {f"{group} {name}": t._a.copy() for group, tensors in groups.items() for name, t in tensors.items()}


def check_same(found: dict[str, Any], expected: dict[str, Any], rtol: float = 0.0, atol: float = 0.0) -> None:
    """Compare all tensors and figures."""
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        np.testing.assert_allclose(found[name], value, rtol=rtol, atol=atol, err_msg=name)
