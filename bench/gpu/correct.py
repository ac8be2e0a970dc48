"""Parts that check the results of a GPU."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from bench.gpu.context import Context
from bench.problem import NINE
from xpnet.analysis.step_benchmark import noise
from xpnet.backend import Backend
from xpnet.config.definitions import NetworkConfig
from xpnet.config.training import TrainConfig
from xpnet.data import Dataset, TransformedRows
from xpnet.data.views import Augmentation
from xpnet.errors import DataError
from xpnet.nn.network import Network
from xpnet.ops import get_ops, moments, reference
from xpnet.ops.masks import Mask
from xpnet.training.device_data import to_device
from xpnet.training.schedules import triangular
from xpnet.training.steppers import Hyperparameters, State, StepMetrics, make_stepper
from xpnet.training.train import train

STEPPERS = ("plain", "fused", "graph", "small")


class WrongResultError(AssertionError):
    """A result is not what it must be."""


def kernels(context: Context) -> dict[str, Any]:
    """Compare every operation with its definition, in both precisions and over shapes with odd sizes."""
    worst: dict[str, float] = {}
    shapes = [(1, 100, 3072, 50), (3, 33, 129, 17), (2, 300, 64, 64), (1, 7, 5, 3), (4, 1000, 40, 10)]
    for replicas, n, d, m in shapes[1:4] if context.small else shapes:
        for dtype, tolerance in (("float32", 5e-4), ("float64", 1e-9)):
            for name, error in _operations(context.backend, replicas, n, d, m, dtype).items():
                if not error <= tolerance:
                    raise WrongResultError(
                        f"{name}, R = {replicas}, n = {n}, d = {d}, m = {m}, {dtype}: off by {error:.1e}"
                    )
                worst[f"{name} {dtype}"] = max(error, worst.get(f"{name} {dtype}", 0))
    summary = f"{len(worst) // 2} operations, worst {max(v for k, v in worst.items() if '64' in k):.0e} in float64"
    context.tell(summary)
    return {"worst": worst, "summary": summary}


def _operations(backend: Backend, replicas: int, n: int, d: int, m: int, dtype: str) -> dict[str, float]:
    """Return the largest error of each operation, relative to the largest number of what is right."""
    draw = np.random.default_rng(n)

    def real(*shape: int) -> Any:
        return draw.standard_normal(shape).astype(dtype)

    R = replicas
    x, W, b, g = real(n, d), real(R, d, m) / np.sqrt(d).astype(dtype), real(R, 1, m), real(R, n, m)
    s, gamma, logits = real(R, n, m) + 1, real(R, 1, m), 3 * real(R, n, m)
    labels, keep = draw.integers(0, m, n), np.full((R, 1, 1), 0.99, dtype)
    forward = reference.batch_norm_relu(np, s, gamma, b, 1e-5)[:5]
    parts = [real(R, 1, 700), real(R, 1, m)]
    block = real(R, 1, 700 + m)
    kept = real(*block.shape), draw.random(block.shape).astype(dtype)
    numbers = (0.1 + 0.8 * draw.random((len(moments.NUMBERS), R))).astype(dtype)
    entropy = reference.softmax_cross_entropy(np, logits, labels, 0.01)
    pictures, rows = _pictures(draw, n, 32 if d == 3072 else 12, m, dtype)
    words, step = draw.integers(0, 2**32, (R, 2), np.uint32), np.array([7], np.int32)
    masks = [
        Mask(words[:K], np.full(K, 2**31, np.uint32), np.full((K, 1, 1), 2, dtype), step, layer)
        for layer, K in ((1, 1), (0, R))
    ]
    calls: list[tuple[str, tuple[Any, ...]]] = [
        ("affine", (x, W, b)),
        ("input_gradient", (g, W)),
        ("weight_gradient", (x, g)),
        ("bias_gradient", (g,)),
        ("relu", (s,)),
        ("relu_gradient", (g, reference.Activated(s))),
        ("batch_norm_relu", (s, gamma, b, 1e-5)),
        ("batch_norm_relu_gradients", (g, reference.BatchNormActivation(*forward), gamma)),
        ("batch_norm_relu_inference", (s, b, np.abs(gamma), gamma, b, 1e-5)),
        ("softmax", (logits,)),
        ("softmax_cross_entropy", (logits, labels, 0.01)),
        ("smooth_labels", (entropy, logits, labels, 0.1 * np.ones((R, 1, 1), dtype), 0.01)),
        ("dropout", (s, masks[0])),
        ("dropout", (x, masks[1])),
        ("dropout_gradient", (g, reference.dropout(np, s, masks[0]))),
        ("weigh_samples", (entropy, np.linspace(0, 2, n).astype(dtype))),
        ("gather", (draw.integers(0, n, n), x)),
        *(("gather", (rows, source)) for source in pictures),
        ("descend", (block, parts, keep, np.zeros(R))),
        ("descend_by_product", (W, x, g, keep, np.zeros(R))),
        ("descend_with_momentum", (block, real(*block.shape), parts, keep, keep, True, np.zeros(R))),
        ("descend_adamw", (block, *kept, parts, numbers, np.zeros(R))),
        ("descend_lion", (block, kept[0], parts, numbers, np.zeros(R))),
        ("scale_gradient", (g, keep)),
        ("average", (block, parts, np.array([0.9], dtype))),
        ("add_squares", (W, np.zeros(R))),
    ]
    ops, errors = get_ops(backend), {}
    for name, arguments in calls:
        here, there = _copied(arguments, np.array), _copied(arguments, backend.asarray)
        definition = getattr(reference, name, None) or getattr(moments, name)
        expected = _arrays((definition(np, *here), *here))
        got = [
            backend.to_numpy(a)
            for a in _arrays((getattr(ops, name.replace("relu", "activation"))(*there), *there), backend.xp.ndarray)
        ]
        got = got[len(got) - len(expected) :] if len(got) < len(expected) else got[: len(expected)]
        error = max(_error(a, e) for a, e in zip(got, expected, strict=True))
        errors[name] = max(error, errors.get(name, 0))
    return errors


def _pictures(
    draw: np.random.Generator, n: int, side: int, k: int, dtype: str
) -> tuple[list[TransformedRows], np.ndarray[Any, Any]]:
    """Return pictures as bytes and as values, with and without a projection on `k` inputs, and `n` rows in views."""
    size = 3 * (side // 2) ** 2
    mean, rest, factor = 99 * np.ones(size), draw.random(size), draw.random(size)
    x = draw.integers(0, 256, (20, 3 * side**2), np.uint8)
    plain = TransformedRows(
        x, (3, side, side), 2, mean.astype(dtype), rest.astype(dtype), factor.astype(dtype), None, cutout=side // 3
    )
    projection = draw.standard_normal((size, k)).astype(dtype)
    sources = [plain, replace(plain, projection=projection, border="constant"), replace(plain, x=x.astype(dtype))]
    views = Augmentation("random", 2, side // 3, side, side)
    return sources, views.rows(draw.integers(0, len(x), n), 0, 1)


def _copied(value: Any, to: Any) -> Any:
    if isinstance(value, np.ndarray):
        return to(value)
    if isinstance(value, TransformedRows):
        return value.to(to)
    if isinstance(value, (list, tuple)):
        parts = [_copied(part, to) for part in value]
        return type(value)(*parts) if hasattr(value, "_fields") else type(value)(parts)
    return value


def _arrays(value: Any, kind: Any = np.ndarray) -> list[Any]:
    if isinstance(value, kind):
        return [value]
    if isinstance(value, (list, tuple)):
        return [array for part in value for array in _arrays(part, kind)]
    return []


def _error(got: Any, expected: Any) -> float:
    if got.shape != expected.shape:
        raise WrongResultError(f"shape {got.shape}, not {expected.shape}")
    largest = float(np.abs(expected.astype(float)).max()) or 1.0
    return float(np.abs(got.astype(float) - expected.astype(float)).max()) / largest


def curves(context: Context) -> dict[str, Any]:
    """Train from one seed on both devices: losses of the first 100 steps."""
    worst: dict[str, float] = {}
    context.found["worst"] = worst
    data = noise(context.samples if context.small else 5000, context.inputs, others=50)
    for dtype in ("float64", "float32"):
        for replicas in (1, 3):
            compare_losses(context, data, STEPPERS, dtype, replicas, worst)
    return {"worst": worst, "summary": check_losses(worst)}


def compare_losses(
    context: Context, data: Dataset, kinds: Sequence[str], dtype: str, replicas: int, worst: dict[str, float]
) -> None:
    """Put into `worst` by how much losses of each step differ between the CPU and steppers of the GPU."""
    here = losses(context, context.cpu, data, "plain", dtype, replicas)
    for kind in kinds:
        name = f"{kind}, R = {replicas}, {dtype}"
        there = losses(context, context.backend, data, kind, dtype, replicas)
        worst[name] = float(np.abs(there / here - 1).max())
        context.tell(f"{name:28} losses of CPU and GPU differ by {worst[name]:.1e} at most")


def check_losses(worst: dict[str, float]) -> str:
    """Return a summary of what :func:`compare_losses` found.

    Raises:
        WrongResultError: Some differ by more than rounding.
    """
    for name, error in worst.items():
        if not error <= (tolerance := 1e-9 if "float64" in name else 1e-3):
            raise WrongResultError(f"{name}: losses differ by {error:.1e}, more than {tolerance:.0e}")
    return f"differ by {max(worst.values()):.1e} at most"


def losses(context: Context, backend: Backend, data: Dataset, kind: str, dtype: str, replicas: int) -> Any:
    """Return the training loss of each of 100 steps."""
    # In float64 activations of fifty units and a hundred samples do not fit into one multiprocessor.
    hidden = (50, 50) if dtype == "float32" else (24, 24)
    network = Network(context.network(hidden), backend=backend, dtype=dtype, replicas=replicas)
    steps, batch = (6, 50) if context.small else (100, 100)
    part = to_device(data, backend, network.dtype).train
    hyper = Hyperparameters(backend.asarray(np.full(replicas, 0.005)))
    stepper = make_stepper(network, part.x, part.labels, hyper, kind, batch)
    perm = np.random.default_rng(1).integers(0, len(data.train), (steps, batch))
    eta = np.repeat(triangular(np.arange(steps), 1e-5, 0.1, 50)[:, None], replicas, axis=1)
    totals = StepMetrics.empty(backend.xp, steps, replicas)
    state = State(network.parameters, {}, network.running)
    stepper.run(state, backend.asarray(perm), backend.asarray(eta), totals)
    return backend.to_numpy(totals.loss) / batch


def gradients(context: Context) -> dict[str, Any]:
    """Check the GPU's gradients against finite differences of the CPU."""
    import xpnet

    rng, summary = np.random.default_rng(0), []
    for hidden in ((50, 50), NINE):
        config = xpnet.NetworkConfig(inputs=40, hidden=hidden)
        network = Network(config, backend=context.backend, dtype="float64")
        x, labels = rng.standard_normal((60, 40)), rng.integers(0, 10, 60)
        coverage: Any = 60 if context.small else "all"
        report = xpnet.gradcheck(network, x, labels, lam=0.01, coverage=coverage)
        largest = max(p.max_relative_error for p in report.parameters if p.max_relative_error is not None)
        summary.append(f"{len(hidden) + 1} layers: {report.checked} gradients, {largest:.1e}")
        context.tell(summary[-1])
        if not report.passed:
            raise WrongResultError(f"{len(hidden) + 1} layers: the gradient check fails")
    return {"summary": "; ".join(summary)}


def accuracies(context: Context) -> dict[str, Any]:
    """Train the reports' networks, three seeds at once: on CIFAR-10 as published, else on CPU and GPU from one seed."""
    import xpnet

    if context.data is None and context.small:
        return {"skipped": "no --data"}
    try:
        data = xpnet.load_data(context.data or "patterns:4000/2000", "45k" if context.data else None)
    except DataError:  # a smaller set of images, or none
        data = xpnet.load_data(str(context.data))
    published = len(data.train) == 45_000
    found = context.found["found"] = {}
    # Test accuracies of these settings on the CPU, five seeds; see docs.
    for name, hidden, expected in (("3 layers", (50, 50), 0.535), ("9 layers", NINE, 0.515)):
        row = found[name] = _accuracy(context.backend, data, hidden)
        mean, training = row["mean"], sum(row["seconds_training"])
        line = f"{name}: test accuracy {mean:.4f}; 3 networks in {training:.2f} s"
        if not published:
            row["cpu"] = _accuracy(context.cpu, data, hidden)
            expected = row["cpu"]["mean"]
            line += f"; on the CPU {expected:.4f} in {sum(row['cpu']['seconds_training']):.2f} s"
        context.tell(line)
        # Of fewer images, roundings of one seed move the accuracy further.
        within = 0.015 if published else 0.03
        if abs(mean - expected) > within:
            raise WrongResultError(f"{name}: test accuracy {mean:.4f} is not {expected:.4f} ± {within}")
    return {"found": found, "data": data.name, "summary": context.lines[0].strip()}


def _accuracy(backend: Backend, data: Dataset, hidden: tuple[int, ...]) -> dict[str, Any]:
    """Train three networks; return their test accuracies, and the seconds of each epoch."""
    network = Network(NetworkConfig(inputs=data.inputs, hidden=hidden), backend=backend, seed=(0, 1, 2))
    result = train(network, data, TrainConfig(lam=0.005))
    return {
        "accuracies": result.test.accuracies.tolist(),
        "mean": float(result.test.accuracies.mean()),
        "epochs": result.epochs,
        "seconds_training": result.seconds_training,
        "seconds_evaluation": result.seconds_evaluation,
    }
