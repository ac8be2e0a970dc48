"""The error of central differences against their step: the V-shaped curve."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np

from xpnet.backend import get_backend
from xpnet.config import NetworkConfig
from xpnet.errors import ConfigError
from xpnet.gradcheck.fast import FastDifferences
from xpnet.gradcheck.problem import Problem
from xpnet.gradcheck.sampling import choose
from xpnet.network import Network

STEPS = tuple(float(10**power) for power in np.arange(-11, -1.99, 0.5))


def sweep_h(
    network: Network | NetworkConfig,
    x: Any,
    labels: Any,
    lam: float = 0.0,
    *,
    steps: Sequence[float] = STEPS,
    entries: int = 200,
    eps: float = 1e-6,
    seed: int = 0,
) -> list[dict[str, Any]]:
    """Return the errors of a sample of entries for each step, by kind of parameter.

    To the right the error grows with h**2, from the cost's third derivative, and by kinks; to the
    left it grows with 1/h, from round-off.

    Args:
        network: A network of one replica, or its settings.
        x: Standardised features (n, d).
        labels: Classes (n,).
        lam: Strength of the L2 penalty.
        steps: Values of h.
        entries: Size of the sample, stratified over tensors.
        eps: Smallest denominator of the relative error.
        seed: Seed of the sample and of a new network.

    Returns:
        Rows with ``h``, ``kind`` (W, b, gamma, beta, or all), ``median`` and ``largest`` relative
        error, ``median_absolute`` error, and the share of probes with ``kinks``.  Biases before BN are
        left out: their gradient is zero.
    """
    if isinstance(network, NetworkConfig):
        network = Network(network, backend=get_backend("cpu"), dtype="float64", seed=seed)
    if not steps or any(not (np.isfinite(h) and h > 0) for h in steps):
        raise ConfigError(f"steps = {list(steps)}: must be finite numbers above 0")
    to_numpy = network.backend.to_numpy
    problem = Problem.of(network, to_numpy(x), to_numpy(labels), lam)
    own = network.cost_and_gradients(
        network.backend.asarray(problem.x, dtype=network.dtype), network.backend.asarray(problem.labels), lam
    )[1]
    names = [name for name in problem.parameters if not problem.zero_by_construction(name)]
    chosen = choose({name: problem.parameters[name].size for name in names}, entries, seed)
    evaluate = FastDifferences(problem)
    rows = []
    for h in steps:
        errors: dict[str, list[Any]] = {}
        for name in names:
            flat = chosen[name]
            p = problem.parameters[name].reshape(-1)[flat]
            _, kind = problem.owner(name)
            values, kinked = _in_chunks(
                partial(evaluate, name), flat, h * np.maximum(1, np.abs(p)), evaluate.chunk(name)
            )
            numerical = values + (2 * problem.lam * p if kind == "W" else 0)
            analytic = np.asarray(to_numpy(own[name]), np.float64).reshape(-1)[flat]
            absolute = np.abs(analytic - numerical)
            relative = absolute / np.maximum(eps, np.abs(analytic) + np.abs(numerical))
            for key in (kind, "all"):
                errors.setdefault(key, []).append((relative, absolute, kinked))
        for key, parts in errors.items():
            relative, absolute, kinked = (np.concatenate(column) for column in zip(*parts, strict=True))
            rows.append(
                {
                    "h": h,
                    "kind": key,
                    "median": float(np.median(relative)),
                    "largest": float(relative.max()),
                    "median_absolute": float(np.median(absolute)),
                    "kinks": float(kinked.mean()),
                }
            )
    return rows


def _in_chunks(slopes: Any, flat: Any, h: Any, size: int) -> tuple[Any, Any]:
    chunks = [slice(start, start + size) for start in range(0, len(flat), size)]
    parts = [slopes(flat[chunk], h[chunk], -h[chunk]) for chunk in chunks]
    return np.concatenate([p[0] for p in parts]), np.concatenate([p[1] for p in parts])
