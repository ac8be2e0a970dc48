"""The activations of hidden layers, one row each, and the definitions of the operations with any of them.

An activation maps the inputs z of the units, z = s + b or z = gamma s_hat + beta, to their outputs y, number by number.
Its row of :data:`ACTIVATIONS` has everything that the rest of the program needs to know.  The forward pass keeps the
slopes dy/dz, so the backward pass is the same for all: it multiplies by them.

ReLU alone has operations of its own in :mod:`xpnet.ops.reference`: its slopes, 0 and 1, follow from y.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from xpnet.backend import Array
from xpnet.ops.reference import Activated, BatchNormActivation, BatchNormGradients, gradients_through_norm, normalised

LEAK = 0.01
# Of GELU's tanh: sqrt(2 / pi) (z + 0.044715 z**3).
GELU_LINEAR, GELU_CUBIC = math.sqrt(2 / math.pi), math.sqrt(2 / math.pi) * 0.044715


@dataclass(frozen=True)
class Activation:
    """What is to be known of an activation.

    Attributes:
        name: Its name in settings and files.
        y: Returns the outputs for an array module and inputs z.
        slope: Returns dy/dz for an array module, z and y.
        gain: With ``init = he``, weights have the variance gain / fan_in.
        kinked: Whether the slope jumps at z = 0; y is then positive where z is, and nowhere else.
        rests: Whether y is exactly 0 for all z below 0, so that units may be inactive or dead.
    """

    name: str
    y: Callable[[Any, Array], Array]
    slope: Callable[[Any, Array, Array], Array]
    gain: float
    kinked: bool = False
    rests: bool = False


def _leaky_slope(xp: Any, z: Array, y: Array) -> Array:
    return xp.where(z > 0, 1.0, LEAK).astype(z.dtype)


def _sigmoid(xp: Any, z: Array) -> Array:
    """Return 1 / (1 + exp(-z)), in a form that does not overflow."""
    return 0.5 + 0.5 * xp.tanh(0.5 * z)


def _silu_slope(xp: Any, z: Array, y: Array) -> Array:
    p = _sigmoid(xp, z)
    return p * (1 + z * (1 - p))


def _gelu_tanh(xp: Any, z: Array) -> Array:
    return xp.tanh(z * (GELU_LINEAR + GELU_CUBIC * (z * z)))


def _gelu_slope(xp: Any, z: Array, y: Array) -> Array:
    t = _gelu_tanh(xp, z)
    return 0.5 * (1 + t) + 0.5 * z * (GELU_LINEAR + 3 * GELU_CUBIC * (z * z)) * (1 - t * t)


_ROWS = (
    # The gains: He et al. (2015), section 2.2, for ReLU and leaky ReLU; Kumar (2017, arXiv:1704.08863), 1 / (y'(0)**2
    # (1 + y(0)**2)), for tanh, sigmoid and identity; for GELU and SiLU, whose slopes at 0 say little about them,
    # 1 / mean(y**2) for normal z, which keeps the mean square of the inputs (Poole et al. 2016, equation 3).
    Activation(
        "relu", lambda xp, z: xp.maximum(z, 0), lambda _, z, __: (z > 0).astype(z.dtype), 2.0, kinked=True, rests=True
    ),
    Activation("leaky-relu", lambda xp, z: xp.maximum(z, LEAK * z), _leaky_slope, 2 / (1 + LEAK**2), kinked=True),
    Activation("gelu", lambda xp, z: 0.5 * z * (1 + _gelu_tanh(xp, z)), _gelu_slope, 2.3519),
    Activation("silu", lambda xp, z: z * _sigmoid(xp, z), _silu_slope, 2.8108),
    Activation("tanh", lambda xp, z: xp.tanh(z), lambda _, __, y: 1 - y * y, 1.0),
    Activation("sigmoid", _sigmoid, lambda _, __, y: y * (1 - y), 12.8),
    Activation("identity", lambda _, z: z + 0, lambda xp, z, _: xp.ones_like(z), 1.0),
)
ACTIVATIONS: Mapping[str, Activation] = {row.name: row for row in _ROWS}


def activation(xp: Any, kind: Activation, z: Array, out: Array | None = None) -> Array:
    """Return the outputs for inputs `z`."""
    return kind.y(xp, z)


def bias_activation(xp: Any, kind: Activation, s: Array, b: Array, out: Activated | None = None) -> Activated:
    """Add the bias to `s` (R, n, m) in place, s <- s + b, and return the outputs and slopes for these inputs."""
    s += b
    y = kind.y(xp, s)
    return Activated(y, kind.slope(xp, s, y))


def bias_activation_inference(xp: Any, kind: Activation, s: Array, b: Array) -> Array:
    """Add the bias to `s` (R, n, m) in place, s <- s + b, and return the outputs for these inputs."""
    s += b
    return kind.y(xp, s)


def activation_gradient(xp: Any, kind: Activation, g: Array, forward: Activated, out: Array | None = None) -> Array:
    """Return dJ/dz for `g` = dJ/dy: g times the slopes."""
    return g * forward.slope


def batch_norm_activation(
    xp: Any,
    kind: Activation,
    s: Array,
    gamma: Array,
    beta: Array,
    eps: float,
    out: BatchNormActivation | None = None,
) -> BatchNormActivation:
    """Normalise `s` (R, n, m) over its n samples, scale and shift, and return outputs and slopes for these inputs."""
    z, centred, inv_std, mean, var = normalised(xp, s, gamma, beta, eps)
    y = kind.y(xp, z)
    return BatchNormActivation(y, centred, inv_std, mean, var, slope=kind.slope(xp, z, y))


def batch_norm_activation_gradients(
    xp: Any,
    kind: Activation,
    g: Array,
    forward: BatchNormActivation,
    gamma: Array,
    out: BatchNormGradients | None = None,
) -> BatchNormGradients:
    """Return the gradients for `g` = dJ/dy (R, n, m): those of batch normalisation for g times the slopes."""
    return gradients_through_norm(xp, g * forward.slope, forward, gamma)


def batch_norm_activation_inference(
    xp: Any, kind: Activation, s: Array, mean: Array, var: Array, gamma: Array, beta: Array, eps: float
) -> Array:
    """Return the outputs for inputs gamma (s - mean) / sqrt(var + eps) + beta with the running mean and variance."""
    scale = gamma / xp.sqrt(var + eps)
    return kind.y(xp, s * scale + (beta - mean * scale))
