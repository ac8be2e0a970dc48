"""The gradient check of a network."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from xpnet.analysis.gradcheck.cost_checks import check_cost, check_direction, check_penalty
from xpnet.analysis.gradcheck.finite_differences import EPS64, Differences, Limits, avoid_kinks, reduce_curvature
from xpnet.analysis.gradcheck.problem import (
    Flags,
    Floats,
    Indices,
    Problem,
    choose,
    flat_gradients,
    network_of,
    on_host,
    own_gradients,
    parse_coverage,
)
from xpnet.analysis.gradcheck.report import GradcheckReport, TensorReport
from xpnet.analysis.gradcheck.slopes import Workers
from xpnet.analysis.gradcheck.verdict import TOLERANCE, TOLERANCE_FLOAT32, judge, judge_network
from xpnet.backend import get_backend
from xpnet.config.arguments import function, kind, takes
from xpnet.config.definitions import NetworkConfig
from xpnet.config.fields import Check, choice, optional, real, whole
from xpnet.errors import ConfigError
from xpnet.nn.dropout import Dropout
from xpnet.nn.network import Network
from xpnet.utils.rng import Purpose, generator

H, EPS = 6e-6, 1e-6

_CHECKS: dict[str, Check] = {
    "network": kind(Network, NetworkConfig),
    "gradients": optional(kind(Mapping)),
    "seed": whole(0),
    **dict.fromkeys(("dropout", "input_dropout"), real(0, below=1)),
    "threads": optional(whole(1, 1000)),
    **dict.fromkeys(("h", "eps"), real(above=0, high=1)),
    "tolerance": optional(real(above=0)),
    "method": choice("fast", "naive"),
    **dict.fromkeys(("progress", "should_stop"), optional(function)),
}


@takes(**_CHECKS)
def check_network(
    network: Network | NetworkConfig,
    x: Any,
    labels: Any,
    lam: float = 0.0,
    *,
    label_smoothing: float = 0.0,
    dropout: float = 0.0,
    input_dropout: float = 0.0,
    sample_weight: Any = None,
    gradients: Mapping[str, Any] | None = None,
    coverage: Any = None,
    h: float = H,
    eps: float = EPS,
    tolerance: float | None = None,
    seed: int = 0,
    method: str = "fast",
    precision: str = "float64",
    progress: Callable[[int], None] | None = None,
    should_stop: Callable[[], bool] | None = None,
    threads: int | None = None,
) -> GradcheckReport:
    """Compare the gradients of a network with central differences of its cost.

    The differences are always those of float64 on the CPU with the reference operations, in training
    mode; running statistics are neither read nor changed.  The gradients are those of
    :meth:`xpnet.Network.cost_and_gradients` on the network's own device, in its own precision.

    Args:
        network: A network of one replica; or its settings, for a new one in float64 on the CPU.
        x: Standardised features (n, d), in NumPy or on the network's device.
        labels: Classes (n,), whole numbers.
        lam: Strength of the L2 penalty.
        label_smoothing: Share of each label that is spread evenly over all classes.
        dropout: Probability with which an output of a hidden layer is dropped; what is, is the same for all probes.
        input_dropout: Probability with which an input is dropped, likewise.
        sample_weight: Weight of each sample's loss (n,), as it is; None for 1.
        gradients: Gradients to check instead of the network's own, by the names of its parameters.
        coverage: ``"all"``, a fraction (float) or a count (int) of entries, sampled with `seed` and
            stratified over tensors.  Default: all of up to 2 million, else a sample of 10,000.
        h: Step of the differences, for entries up to 1 in size; larger ones take h |entry|.
        eps: Smallest denominator of the relative error.
        tolerance: Largest relative error that passes; default 1e-5, or 1e-2 for float32 gradients,
            which must also agree to 1e-4 by norm.
        seed: Seed of the sample, of the random direction, of dropout, and of a new network.
        method: ``"fast"``, or ``"naive"``: a complete forward pass for each probe.
        precision: Type of the differences; only float64 is accepted.
        progress: Called with the number of entries done, now and then.
        should_stop: Called between chunks; when it returns True, the results so far are returned.
        threads: Worker threads; default: as many as cores, at most 4.

    Returns:
        ``report.passed`` and ``report.reason``, and the errors of each tensor in ``report.parameters``.

    Raises:
        ConfigError: A setting is out of its range, or `precision` is float32.
        ArrayError: An array does not fit the network.
    """
    started = time.perf_counter()
    network = network_of(network, seed)
    single = network.dtype == np.float32
    tolerance = (TOLERANCE_FLOAT32 if single else TOLERANCE) if tolerance is None else tolerance
    if not isinstance(precision, str) or precision != "float64":
        noise = float(np.finfo(np.float32).eps) * 2.3 / h
        raise ConfigError(
            f"precision = {precision}: differences are computed in float64 alone; in float32 the round-off of a loss "
            f"of 2.3 divided by h = {h:g} is {noise:.1g}, larger than most gradients"
        )
    dropped = Dropout(hidden=dropout, inputs=input_dropout, seeds=seed)
    problem = Problem.of(network, x, labels, lam, label_smoothing, dropped, sample_weight)
    count = parse_coverage(coverage, problem.size)

    cost, running_kept, own = own_gradients(network, problem)
    analytic = own if gradients is None else flat_gradients(gradients, problem, network)
    loss, scale = _loss_and_scale(problem, seed)
    limits = Limits(eps, tolerance, scale, len(problem.x), single)
    cost_checks = {
        "cost": check_cost(cost, loss + problem.penalty(problem.parameters), running_kept, single),
        "penalty": check_penalty(problem, h, tolerance),
        "direction": check_direction(problem, analytic, h, seed, limits),
    }
    chosen = choose({name: p.size for name, p in problem.parameters.items()}, count, seed)
    tensors: dict[str, TensorReport] = {}
    with Workers(problem, method, threads, progress, should_stop) as workers:
        # From the output to the input, as errors propagate: the first tensor that fails is the source of the error.
        for name in reversed(problem.owners):
            tensors[name] = _check_tensor(problem, workers, name, chosen[name], analytic[name], h, limits)
    settings = {
        "h": h,
        "eps": eps,
        "tolerance": tolerance,
        "coverage": "all" if count >= problem.size else sum(len(flat) for flat in chosen.values()),
        "method": method,
        "seed": seed,
        "samples": len(problem.x),
        "lambda": problem.lam,
        "label_smoothing": problem.smoothing,
        "dropout": problem.dropout.hidden,
        "input_dropout": problem.dropout.inputs,
        "weighted": problem.weights is not None,
        "precision": str(network.dtype),
        "device": network.backend.device,
    }
    return judge_network(
        problem,
        [tensors[name] for name in problem.parameters],
        cost_checks,
        interrupted=workers.stopped,
        settings=settings,
        seconds=time.perf_counter() - started,
    )


@takes(network=_CHECKS["network"])
def gradcheck(
    network: Network | NetworkConfig, x: Any, labels: Any, lam: float = 0.0, **options: Any
) -> GradcheckReport:
    """Check the gradients of a network, or of a new one with these settings, in float64 on the CPU.

    Args:
        network: Settings of a network; or a network, of which a copy is checked.
        x: Standardised features (n, d).
        labels: Classes (n,), whole numbers.
        lam: Strength of the L2 penalty.
        **options: Options of :func:`xpnet.analysis.gradcheck.check_network`: ``label_smoothing``, ``dropout``,
            ``input_dropout``, ``sample_weight``, ``gradients``, ``coverage``, ``h``, ``eps``, ``tolerance``, ``seed``,
            ``method``, ``precision``, ``progress``, ``should_stop``, ``threads``.

    Returns:
        ``report.passed`` and ``report.reason``, and the errors of each tensor in ``report.parameters``.

    Raises:
        ConfigError: A setting is out of its range.
        ArrayError: An array does not fit the network.
    """
    if isinstance(network, Network):
        x, labels = (on_host(network, values) for values in (x, labels))
        network = float64_copy(network)
    return check_network(network, x, labels, lam, **options)


def float64_copy(network: Network) -> Network:
    """Return a network on the CPU with the parameters and running statistics of `network` in float64."""
    copy = Network(network.config, backend=get_backend("cpu"), dtype="float64", seed=network.seeds)
    for target, source in ((copy.parameters, network.parameters), (copy.running, network.running)):
        for name, value in source.items():
            target[name] = np.array(network.backend.to_numpy(value), np.float64)
    return copy


def _loss_and_scale(problem: Problem, seed: int) -> tuple[float, float]:
    """Return the mean loss, and the size of the numbers whose round-off is the noise of a sample's loss.

    This size is the largest loss, unless BN divides by a tiny deviation and so magnifies earlier round-off.  Changing
    the last bit of all parameters and features shows by how much.
    """
    losses, _ = problem.evaluate(problem.parameters)
    scale = max(1.0, float(np.abs(losses).max()))
    for draw in range(2):
        random = generator(seed, Purpose.CHECK_ROUNDING, draw)
        x = problem.x * (1 + EPS64 * random.standard_normal(problem.x.shape))
        parameters = {name: p * (1 + EPS64 * random.standard_normal(p.shape)) for name, p in problem.parameters.items()}
        moved, _ = replace(problem, x=x).evaluate(parameters)
        noise = float(np.sqrt(np.mean((moved - losses) ** 2))) / EPS64
        # Round-off is a fraction of the effect of changing every number.
        scale = max(scale, noise / 2)
    return float(losses.mean()), scale


def _check_tensor(
    problem: Problem, workers: Workers, name: str, flat: Indices, analytic: Floats, h: float, limits: Limits
) -> TensorReport:
    """Check the entries `flat` of one tensor."""
    p = problem.parameters[name].reshape(-1)[flat]
    steps = h * np.maximum(1.0, np.abs(p))
    values, kinked = workers.slopes(name, flat, steps, -steps)
    # After an interruption, only the first entries have values.
    done = len(values)
    flat, steps, analytic = flat[:done], steps[:done], analytic[flat[:done]]
    extra = problem.penalty_slope(name, p[:done])
    differences = Differences.central(flat, steps, values + extra, kinked)
    zero = problem.zero_by_construction(name)
    if not workers.stopped:

        def slopes(flat: Indices, plus: Floats, minus: Floats) -> tuple[Floats, Flags]:
            values, kinked = workers.slopes(name, flat, plus, minus, uninterrupted=True)
            return values + extra[np.searchsorted(differences.flat, flat)], kinked

        avoid_kinks(slopes, differences)
        if not zero:
            reduce_curvature(slopes, differences, analytic, limits)
    return judge(name, problem.parameters[name].shape[1:], differences, analytic, extra, steps, limits, zero=zero)
