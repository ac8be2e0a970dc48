"""Small networks with nothing trivial about them, and broken backward passes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

import xpnet
from xpnet.nn.backprop import Tape, forward
from xpnet.ops.reference import BatchNormActivation, BatchNormGradients

Gradients = dict[str, Any]


def samples(n: int = 24, d: int = 5, classes: int = 4, seed: int = 3) -> tuple[np.ndarray, np.ndarray]:
    """Return features (n, d) and labels (n,)."""
    rng = np.random.default_rng(seed)
    return rng.standard_normal((n, d)), rng.integers(classes, size=n)


def network(hidden: tuple[int, ...] = (6, 6), *, seed: int = 0, inputs: int = 5, **options: Any) -> xpnet.Network:
    """Return a float64 network whose biases, gammas and betas are not what they start with."""
    config = xpnet.NetworkConfig(inputs=inputs, hidden=hidden, classes=4, **options)
    net = xpnet.Network(config, dtype="float64", seed=seed)
    rng = np.random.default_rng(seed + 17)
    for name, p in net.parameters.items():
        if not name.startswith("W"):
            p += 0.3 * rng.standard_normal(p.shape)
    return net


def broken_bn(change: Callable[..., Gradients]) -> Callable[..., BatchNormGradients]:
    """Return a backward pass of BN with ReLU in which `change` replaces some of its parts."""

    def gradients(g: Any, forward: BatchNormActivation, gamma: Any, out: Any = None) -> BatchNormGradients:
        n = g.shape[-2]
        changed = change(g=g, forward=forward, n=n)
        g = changed.get("g", g * (forward.y > 0))
        inv_std = changed.get("inv_std", forward.inv_std)
        s_hat = changed.get("centred", forward.centred) * inv_std
        gg, gb = (g * s_hat).sum(-2, keepdims=True), g.sum(-2, keepdims=True)
        mean_term = gb / n * changed.get("mean_factor", 1)
        variance_term = s_hat * (gg / n) * changed.get("variance_factor", 1)
        scale = inv_std * (gamma if changed.get("with_gamma", True) else 1)
        s = scale * (g - mean_term - variance_term) * changed.get("s_factor", 1)
        if changed.get("swapped"):
            gg, gb = gb, gg
        return BatchNormGradients(s, gg, gb)

    return gradients


def sizes_of_terms(net: xpnet.Network, x: Any) -> dict[str, float]:
    """Return a bound of the size of the terms that sum up to each gradient, from norms on the way down."""
    tape = Tape()
    forward(net.ops, net.layers, net.parameters, net.config.bn_eps, x, tape)
    size, terms = 1.0, {}
    for layer, record in zip(reversed(net.layers), reversed(tape.layers), strict=True):
        if layer.gamma is not None:
            terms |= {layer.gamma: size, layer.beta: size}
            size *= float(np.max(np.abs(net.parameters[layer.gamma]) * record.activation.inv_std))
        terms |= {layer.W: size * float(np.linalg.norm(record.x)) / len(x) ** 0.5, layer.b: size}
        size *= float(np.linalg.norm(net.parameters[layer.W]))
    return terms


# PyTorch's own activations, of `torch.nn.functional`.
TORCH: dict[str, Callable[[Any, Any], Any]] = {
    "relu": lambda F, y: F.relu(y),
    "leaky-relu": lambda F, y: F.leaky_relu(y, 0.01),
    "gelu": lambda F, y: F.gelu(y, approximate="tanh"),
    "silu": lambda F, y: F.silu(y),
    "tanh": lambda F, y: F.tanh(y),
    "sigmoid": lambda F, y: F.sigmoid(y),
    "identity": lambda F, y: y,
}


def torch_gradients(net: xpnet.Network, x: Any, labels: Any, lam: float) -> tuple[float, dict[str, Any]]:
    """Return cost and gradients by PyTorch's autograd, with PyTorch's own layers."""
    import torch

    p = {name: torch.tensor(value[0], requires_grad=True) for name, value in net.parameters.items()}
    y = torch.tensor(x)
    for layer in net.layers:
        y = y @ p[layer.W]
        if layer.b is not None:
            y = y + p[layer.b]
        if layer is net.layers[-1]:
            break
        if layer.gamma is not None and layer.beta is not None:
            y = torch.nn.functional.batch_norm(
                y, None, None, p[layer.gamma][0], p[layer.beta][0], training=True, eps=net.config.bn_eps
            )
        y = TORCH[net.config.activation](torch.nn.functional, y)
    cost = torch.nn.functional.cross_entropy(y, torch.tensor(labels))
    cost = cost + lam * sum((p[layer.W] ** 2).sum() for layer in net.layers)
    cost.backward()
    gradients = {name: value.grad for name, value in p.items()}
    return cost.item(), {n: (np.zeros(p[n].shape) if g is None else g.numpy()) for n, g in gradients.items()}
