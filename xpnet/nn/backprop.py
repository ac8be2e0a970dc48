"""The passes through a network: forward and backward in training mode, and with the running statistics.

Rows are samples; R is the replica axis of :mod:`xpnet.nn.network`.  Training and the gradient check use these passes.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from xpnet.backend import Array
from xpnet.nn.dropout import Masks
from xpnet.nn.layers import Layer
from xpnet.ops import Ops

Parameters = Mapping[str, Array]


@dataclass(slots=True)
class _LayerTape:
    """The results of the passes through one layer."""

    dropped: Any = None  # Dropped, if dropout made x
    x: Any = None
    s: Any = None
    activation: Any = None  # BatchNormActivation, or Activated without BN
    s_gradient: Any = None
    x_gradient: Any = None


@dataclass(slots=True)
class Tape:
    """The results of a forward and a backward pass, whose memory the next passes may reuse.

    A new tape makes every result a fresh array.  A tape that is used again for inputs of the same
    shape hands its arrays to the operations as `out`, so that nothing is allocated.
    """

    layers: list[_LayerTape] = field(default_factory=list)
    entropy: Any = None


class LayerGradient(NamedTuple):
    """The gradients of one layer: dJ/dW is x' g, dJ/db the sum of g over the samples."""

    layer: Layer
    x: Array
    g: Array
    gamma: Array | None
    beta: Array | None


def forward(
    ops: Ops,
    layers: tuple[Layer, ...],
    parameters: Parameters,
    eps: float,
    x: Array,
    tape: Tape,
    masks: Masks | None = None,
) -> Array:
    """Return the logits (R, n, classes) of a pass in training mode, recorded on `tape`; `masks` are for dropout."""
    if not tape.layers:
        tape.layers = [_LayerTape() for _ in layers]
    last = len(layers) - 1
    for number, (layer, record) in enumerate(zip(layers, tape.layers, strict=True)):
        if masks is not None and (mask := masks[number]) is not None:
            record.dropped = ops.dropout(x, mask, record.dropped)
            x = record.dropped.y
        record.x = x
        b = None if layer.b is None else parameters[layer.b]
        plain = number < last and layer.gamma is None  # the activation adds the bias
        s = record.s = ops.affine(x, parameters[layer.W], None if plain else b, record.s)
        if number == last:
            break
        if layer.gamma is None:
            record.activation = ops.bias_activation(s, b, record.activation)
        else:
            record.activation = ops.batch_norm_activation(
                s, parameters[layer.gamma], parameters[layer.beta or ""], eps, record.activation
            )
        x = record.activation.y
    return s


def backward(
    ops: Ops, layers: tuple[Layer, ...], parameters: Parameters, tape: Tape, g: Array
) -> Iterator[LayerGradient]:
    """Yield every layer's gradient, the last layer's first, for `g` = dJ/d(logits).

    A layer is yielded after its weights have been used for the gradient of its inputs, so the consumer may change the
    parameters of a layer as soon as it gets their gradient.
    """
    gamma = beta = None
    for index in range(len(layers) - 1, -1, -1):
        layer, record = layers[index], tape.layers[index]
        below = None
        if index > 0:
            below = record.x_gradient = ops.input_gradient(g, parameters[layer.W], record.x_gradient)
            if record.dropped is not None:
                ops.dropout_gradient(below, record.dropped)
        yield LayerGradient(layer, record.x, g, gamma, beta)
        if index == 0:
            return
        layer, record = layers[index - 1], tape.layers[index - 1]
        if layer.gamma is None:
            g = record.s_gradient = ops.activation_gradient(below, record.activation, record.s_gradient)
            gamma = beta = None
        else:
            record.s_gradient = ops.batch_norm_activation_gradients(
                below, record.activation, parameters[layer.gamma], record.s_gradient
            )
            g, gamma, beta = record.s_gradient[:3]


def cost_and_gradients(
    ops: Ops,
    layers: tuple[Layer, ...],
    parameters: Parameters,
    eps: float,
    x: Array,
    labels: Array,
    lam: Array,
    smoothing: Array | None = None,
    masks: Masks | None = None,
    weights: Array | None = None,
) -> tuple[Array, dict[str, Array]]:
    """Return the costs (R,) and their gradients; see :meth:`xpnet.Network.cost_and_gradients`.

    `lam` and `smoothing`, which is None for labels as they are, are numbers () or one for each replica (R,).  `weights`
    of the samples are (n,) or (R, n); None for 1.
    """
    tape = Tape()
    s = forward(ops, layers, parameters, eps, x, tape, masks)
    entropy = ops.softmax_cross_entropy(s, labels, 1.0 / s.shape[-2])
    if smoothing is not None:
        ops.smooth_labels(entropy, s, labels, smoothing[..., None, None], 1.0 / s.shape[-2])
    if weights is not None:
        ops.weigh_samples(entropy, weights)
    lam_W = 2 * (lam[:, None, None] if lam.ndim else lam)
    gradients: dict[str, Array] = {}
    for layer, inputs, g, gamma, beta in backward(ops, layers, parameters, tape, entropy.g):
        gradients[layer.W] = ops.weight_gradient(inputs, g) + lam_W * parameters[layer.W]
        if layer.b is not None:
            gradients[layer.b] = ops.bias_gradient(g)
        if layer.gamma is not None and layer.beta is not None:
            gradients[layer.gamma], gradients[layer.beta] = gamma, beta
    penalty = ops.penalty([parameters[layer.W] for layer in layers])
    return entropy.losses.mean(axis=-1) + lam * penalty, {name: gradients[name] for name in parameters}


def inference(
    ops: Ops, layers: tuple[Layer, ...], parameters: Parameters, running: Parameters, eps: float, x: Array
) -> Array:
    """Return the logits (R, n, classes) with the running statistics."""
    for layer in layers[:-1]:
        b = None if layer.b is None else parameters[layer.b]
        s = ops.affine(x, parameters[layer.W], None if layer.gamma is None else b)
        if layer.gamma is None:
            x = ops.bias_activation_inference(s, b)
        else:
            x = ops.batch_norm_activation_inference(
                s,
                running[layer.mean or ""],
                running[layer.var or ""],
                parameters[layer.gamma],
                parameters[layer.beta or ""],
                eps,
            )
    layer = layers[-1]
    return ops.affine(x, parameters[layer.W], parameters[layer.b or ""])
