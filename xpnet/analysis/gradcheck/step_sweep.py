"""The error of central differences against their step: the V-shaped curve."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from xpnet.analysis.gradcheck.problem import Floats, Indices, Problem, choose, network_of, own_gradients
from xpnet.analysis.gradcheck.slopes import Workers
from xpnet.config.arguments import kind, takes
from xpnet.config.definitions import NetworkConfig
from xpnet.config.fields import real, whole
from xpnet.nn.dropout import Dropout
from xpnet.nn.network import Network

STEPS = tuple(float(10**power) for power in np.arange(-11, -1.99, 0.5))


def _steps(value: Any) -> tuple[float, ...]:
    wanted = "finite numbers above 0 and of at most 1, such as (1e-6, 1e-5)"
    if isinstance(value, (str, bytes)) or getattr(value, "ndim", 1) != 1 or not isinstance(value, Iterable):
        raise ValueError(wanted)
    steps = tuple(real(above=0, high=1)(h) for h in value)
    if not steps:
        raise ValueError(wanted)
    return steps


@takes(
    network=kind(Network, NetworkConfig),
    **dict.fromkeys(("dropout", "input_dropout"), real(0, below=1)),
    entries=whole(1),
    eps=real(above=0),
    seed=whole(0),
    steps=_steps,
)
def sweep_h(
    network: Network | NetworkConfig,
    x: Any,
    labels: Any,
    lam: float = 0.0,
    *,
    label_smoothing: float = 0.0,
    dropout: float = 0.0,
    input_dropout: float = 0.0,
    sample_weight: Any = None,
    steps: Sequence[float] = STEPS,
    entries: int = 200,
    eps: float = 1e-6,
    seed: int = 0,
) -> list[dict[str, Any]]:
    """Return the errors of a sample of entries for each step, by kind of parameter.

    For large h, the error grows with h**2, from the cost's third derivative, and by kinks; for small h, it grows with
    1/h, from round-off.

    Args:
        network: A network of one replica, or its settings.
        x: Standardised features (n, d).
        labels: Classes (n,).
        lam: Strength of the L2 penalty.
        label_smoothing: Share of each label that is spread evenly over all classes.
        dropout: Probability with which an output of a hidden layer is dropped; what is, is the same for all probes.
        input_dropout: Probability with which an input is dropped, likewise.
        sample_weight: Weight of each sample's loss (n,), as it is; None for 1.
        steps: Values of h.
        entries: Size of the sample, stratified over tensors.
        eps: Smallest denominator of the relative error.
        seed: Seed of the sample, of dropout, and of a new network.

    Returns:
        Rows with ``h``, ``kind`` (W, b, gamma, beta, or all), ``median`` and ``largest`` relative
        error, ``median_absolute`` error, and the share of probes with ``kinks``.  Biases before BN are
        left out: their gradient is zero.
    """
    network = network_of(network, seed)
    dropped = Dropout(hidden=dropout, inputs=input_dropout, seeds=seed)
    problem = Problem.of(network, x, labels, lam, label_smoothing, dropped, sample_weight)
    _, _, analytic = own_gradients(network, problem)
    names = [name for name in problem.parameters if not problem.zero_by_construction(name)]
    chosen = choose({name: problem.parameters[name].size for name in names}, entries, seed)
    with Workers(problem, "fast") as workers:
        return [row for h in steps for row in _errors(problem, workers, chosen, analytic, h, eps)]


def _errors(
    problem: Problem,
    workers: Workers,
    chosen: Mapping[str, Indices],
    analytic: Mapping[str, Floats],
    h: float,
    eps: float,
) -> list[dict[str, Any]]:
    """Return the rows of one step."""
    errors: dict[str, list[Any]] = {}
    for name, flat in chosen.items():
        p = problem.parameters[name].reshape(-1)[flat]
        offsets = h * np.maximum(1.0, np.abs(p))
        values, kinked = workers.slopes(name, flat, offsets, -offsets, uninterrupted=True)
        numerical, exact = values + problem.penalty_slope(name, p), analytic[name][flat]
        absolute = np.abs(exact - numerical)
        relative = absolute / np.maximum(eps, np.abs(exact) + np.abs(numerical))
        for key in (problem.owners[name][1], "all"):
            errors.setdefault(key, []).append((relative, absolute, kinked))
    rows = []
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
