"""One training of a recipe in PyTorch, in a process of its own: ``python -m bench.peers.torch_learn '{...}'``.

Its argument is JSON with the recipe's settings, data, split, seed, device, and the way: eager, bfloat16 or compiled.
It prints a line of JSON with the figures.  The data is loaded before the clock starts; the tables of pooled pictures
and the principal components are ``transforms``, as in xpnet; compiling is timed apart.
"""

from __future__ import annotations

import json
import sys
import time
from itertools import pairwise
from typing import Any

import numpy as np
import torch

from bench.peers.torch_pictures import INPUTS, SIDE, Compiled, Eager, Rounded, Tables
from bench.peers.torch_single import use_all_cores

_FITTED = 20_000  # samples whose covariance is computed
# Six views: centre, and one pixel to each side along the diagonal, each with its mirror image.
VIEWS = [(move, flip) for move in (0, -1, 1) for flip in (0, 1)]


def projection(tables: Tables, samples: int, config: Any, count: int, eps: float, rng: np.random.Generator) -> Any:
    """Return M (768, count) and a bias, which bring bytes to scaled principal components of augmented pictures.

    The second moments of pictures and their mirror images together fall into two parts: sums and differences of both
    halves, with eigenvectors of their own.
    """
    some = rng.permutation(samples)[:_FITTED]
    down, right = rng.integers(-config.shift, config.shift + 1, (2, len(some)))
    z = tables(some, down, right, 0).float().view(len(some), -1, SIDE, SIDE)
    mean = z.mean(0)
    mean = ((mean + mean.flip(2)) / 2).reshape(-1)
    z = (z.view(len(some), -1) - mean).view_as(z)
    std = z.square().mean((0, 2, 3)).sqrt().clamp_min(1e-6)
    z = z / std[:, None, None]
    std = std.repeat_interleave(SIDE**2)
    left, right_half = z[..., : SIDE // 2], z[..., SIDE // 2 :].flip(3)
    values, vectors = [], []
    for sign in (1.0, -1.0):
        part = ((left + sign * right_half) * 0.5**0.5).reshape(len(some), -1)
        found, inner = torch.linalg.eigh(part.T @ part / len(some))
        inner = inner.view(-1, SIDE, SIDE // 2, inner.shape[1]) * 0.5**0.5
        values.append(found)
        vectors.append(torch.cat([inner, sign * inner.flip(2)], dim=2).reshape(INPUTS, -1))
    variances, order = torch.cat(values).clamp_min(0).sort(descending=True)
    variances, U = variances[:count], torch.cat(vectors, dim=1)[:, order[:count]]
    scale = (variances + eps).rsqrt()
    scale = scale / (scale.square() * variances).mean().sqrt()
    M = (U * scale / std[:, None]).contiguous()
    return M, -(mean @ M)


def initial(sizes: tuple[int, ...], seed: int) -> dict[str, torch.Tensor]:
    """Return He's initial parameters."""
    torch.manual_seed(seed)
    parameters = {}
    for number, (k, m) in enumerate(pairwise(sizes), start=1):
        parameters[f"W{number}"] = torch.randn(k, m) * (2 / k) ** 0.5
        if number < len(sizes) - 1:
            parameters |= {f"gamma{number}": torch.ones(m), f"beta{number}": torch.zeros(m)}
        else:
            parameters[f"b{number}"] = torch.zeros(m)
    return parameters


def train(spec: dict[str, Any]) -> dict[str, Any]:
    """Load the data, train and evaluate; return the figures."""
    import xpnet
    from xpnet.config.settings import Settings
    from xpnet.training.schedules import learning_rates

    use_all_cores()
    settings, device = Settings.from_mapping(spec["settings"]), "cuda" if spec["device"] == "gpu" else "cpu"
    config, seed = settings.train, spec["seed"]
    data = xpnet.load_data(spec["data"], spec["split"])
    x, y = np.asarray(data.train.x[:]), np.asarray(data.train.labels, np.int64)
    length, batch = config.length(len(x)), config.batch_size
    rates = learning_rates(config, length, 1)[:, 0].tolist()
    rng = np.random.default_rng(seed)

    begin = time.perf_counter()
    tables = Tables(x, config.shift, device)
    M, bias = projection(tables, len(x), config, settings.data.pca, settings.data.pca_eps, rng)
    labels = torch.from_numpy(y).to(device)
    _wait(device)
    transforms = time.perf_counter() - begin

    kind = {"eager": Eager, "bfloat16": Rounded, "compiled": Compiled}[spec["way"]]
    sizes = (settings.data.pca, *settings.network["hidden"], data.classes)
    network = kind.of(initial(sizes, seed), M, bias, config)
    begin = time.perf_counter()
    if isinstance(network, Compiled):
        network.warm(tables(np.arange(batch), 0, 0, 0), labels[:batch])
        _wait(device)
    compiling = time.perf_counter() - begin

    begin = time.perf_counter()
    _steps(network, tables, labels, rates, batch, length.steps_per_epoch, config, rng)
    _wait(device)
    training = time.perf_counter() - begin

    begin = time.perf_counter()
    one, six = _accuracies(network, np.asarray(data.test.x[:]), np.asarray(data.test.labels, np.int64), device)
    return {
        "accuracy": one,
        "accuracy_six_views": six,
        "transforms": transforms,
        "training": training,
        "compiling": compiling,
        "evaluation": time.perf_counter() - begin,
        "steps": length.steps,
        "versions": {"torch": torch.__version__},
        "threads": torch.get_num_threads(),
    }


def _steps(
    network: Any,
    tables: Tables,
    labels: torch.Tensor,
    rates: list[float],
    batch: int,
    per_epoch: int,
    config: Any,
    rng: Any,
) -> None:
    """Take a step for each rate: an epoch is a random order, and a random view of each sample."""
    samples = len(labels)
    for first in range(0, len(rates), per_epoch):
        order = rng.permutation(samples)
        down, right = rng.integers(-config.shift, config.shift + 1, (2, samples))
        flip = rng.random(samples) < 0.5
        for t, rate in enumerate(rates[first : first + per_epoch]):
            at = slice(t * batch, (t + 1) * batch)
            u = tables(order[at], down[at], right[at], flip[at])
            network.step(u, labels[torch.from_numpy(order[at]).to(labels.device)], rate)


def _accuracies(network: Any, x: np.ndarray, y: np.ndarray, device: str) -> tuple[float, float]:
    """Return the accuracies for one view and for the mean probabilities of six."""
    tables, labels, every = Tables(x, 1, device), torch.from_numpy(y).to(device), np.arange(len(x))
    seen = [network.probabilities(tables(every, move, move, flip)) for move, flip in VIEWS]
    shares = [(p.argmax(1) == labels).double().mean().item() for p in (seen[0], torch.stack(seen).mean(0))]
    return shares[0], shares[1]


def _wait(device: str) -> None:
    if device == "cuda":
        torch.cuda.synchronize()


if __name__ == "__main__":
    print(json.dumps(train(json.loads(sys.argv[1]))))
