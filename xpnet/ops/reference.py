"""The mathematics of a network, one function per operation, as readable array code.

Each function defines its operation; the tests compare every faster version with it.  The first argument is the array
module.  Shapes: n samples, d inputs, m outputs, c classes, R replicas; activations are (R, n, m), or (n, d) for
an input that all replicas share; weights are (R, d, m), tensors of units (R, 1, m).  An R of 1 broadcasts.

Hidden layers have ReLU here; :mod:`xpnet.ops.activations` defines the same operations with any activation.

`out` is the result of an earlier call with the same shapes: an implementation may write into it instead of allocating.
Only functions that say "in place" change their inputs.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from xpnet.backend import Array
from xpnet.data import StandardisedRows, TransformedRows, transformed
from xpnet.ops import masks
from xpnet.ops.masks import Dropped, Mask


class Activated(NamedTuple):
    """The results of an activation, and inputs of its backward pass."""

    y: Array  # (R, n, m)
    slope: Any = None  # (R, n, m) dy/dz of its inputs z; None for ReLU, whose slope is 1 where y > 0, else 0


class BatchNormActivation(NamedTuple):
    """The results of batch normalisation with an activation, and inputs of its backward pass."""

    y: Array  # (R, n, m) the activation of gamma s_hat + beta
    centred: Array  # (R, n, m) s - mean
    inv_std: Array  # (R, 1, m) 1 / sqrt(var + eps)
    mean: Array  # (R, 1, m)
    var: Array  # (R, 1, m), biased
    work: Any = None  # an implementation's own buffers
    slope: Any = None  # as in Activated


class BatchNormGradients(NamedTuple):
    """Gradients of the cost with respect to the inputs of batch normalisation."""

    s: Array  # (R, n, m)
    gamma: Array  # (R, 1, m)
    beta: Array  # (R, 1, m)
    work: Any = None


class CrossEntropy(NamedTuple):
    """Losses of a softmax classifier, and their gradient."""

    losses: Array  # (R, n) -log p[label]
    correct: Array  # (R, n) bool: the first largest logit is the label's
    g: Array  # (R, n, c) scale * d(sum of losses) / d(logits)
    work: Any = None


def gather(xp: Any, rows: Array, x: Array, out: Array | None = None) -> Array:
    """Return the samples `rows` (n,) or (R, n) of `x` (N, ...), an array or rows that are computed on reading."""
    if isinstance(x, TransformedRows):
        return transformed(xp, x, rows)
    return x.take(rows) if isinstance(x, StandardisedRows) else xp.take(x, rows, axis=0)


def affine(xp: Any, x: Array, W: Array, b: Array | None, out: Array | None = None) -> Array:
    """Return s = x W + b (R, n, m)."""
    s = xp.matmul(x, W)
    return s if b is None else s + b


def input_gradient(xp: Any, g: Array, W: Array, out: Array | None = None) -> Array:
    """Return dJ/dx = g W' (R, n, d), for g = dJ/ds (R, n, m) of s = x W + b."""
    return xp.matmul(g, xp.swapaxes(W, -1, -2))


def weight_gradient(xp: Any, x: Array, g: Array, out: Array | None = None) -> Array:
    """Return dJ/dW = x' g (R, d, m)."""
    return xp.matmul(xp.swapaxes(x, -1, -2), g)


def bias_gradient(xp: Any, g: Array, out: Array | None = None) -> Array:
    """Return dJ/db, the sum of g over the samples (R, 1, m)."""
    return xp.sum(g, axis=-2, keepdims=True)


def relu(xp: Any, s: Array, out: Array | None = None) -> Array:
    """Return max(0, s)."""
    return xp.maximum(s, 0)


def bias_relu(xp: Any, s: Array, b: Array, out: Activated | None = None) -> Activated:
    """Add the bias to `s` (R, n, m) in place, s <- s + b, and return max(0, s)."""
    s += b
    return Activated(relu(xp, s))


def bias_relu_inference(xp: Any, s: Array, b: Array) -> Array:
    """Add the bias to `s` (R, n, m) in place, s <- s + b, and return max(0, s)."""
    s += b
    return relu(xp, s)


def relu_gradient(xp: Any, g: Array, forward: Activated, out: Array | None = None) -> Array:
    """Return dJ/ds for y = max(0, s): g where y > 0, else 0."""
    return g * (forward.y > 0)


def normalised(xp: Any, s: Array, gamma: Array, beta: Array, eps: float) -> tuple[Array, Array, Array, Array, Array]:
    """Normalise `s` (R, n, m) over its n samples, scale and shift (Ioffe and Szegedy, 2015, algorithm 1).

    s_hat = (s - mean) / sqrt(var + eps), with the biased variance.

    Returns:
        gamma s_hat + beta, then centred, inv_std, mean and var as in :class:`BatchNormActivation`.
    """
    mean = xp.mean(s, axis=-2, keepdims=True)
    centred = s - mean
    var = xp.mean(centred * centred, axis=-2, keepdims=True)
    inv_std = 1 / xp.sqrt(var + eps)
    return gamma * (centred * inv_std) + beta, centred, inv_std, mean, var


def gradients_through_norm(xp: Any, g: Array, forward: BatchNormActivation, gamma: Array) -> BatchNormGradients:
    """Return the gradients of batch normalisation for `g` = dJ/d(gamma s_hat + beta) (R, n, m).

    With s_hat = centred * inv_std: dgamma = sum g s_hat, dbeta = sum g, and, since mean and var depend on every
    sample, ds = gamma inv_std (g - mean(g) - s_hat mean(g s_hat)), all sums and means over the samples.
    """
    s_hat = forward.centred * forward.inv_std
    samples = g.shape[-2]
    gamma_gradient = xp.sum(g * s_hat, axis=-2, keepdims=True)
    beta_gradient = xp.sum(g, axis=-2, keepdims=True)
    scale = gamma * forward.inv_std
    s = scale * (g - beta_gradient / samples - s_hat * (gamma_gradient / samples))
    return BatchNormGradients(s, gamma_gradient, beta_gradient)


def batch_norm_relu(
    xp: Any, s: Array, gamma: Array, beta: Array, eps: float, out: BatchNormActivation | None = None
) -> BatchNormActivation:
    """Normalise `s` (R, n, m) over its n samples, scale, shift, and apply ReLU: y = max(0, gamma s_hat + beta)."""
    z, *statistics = normalised(xp, s, gamma, beta, eps)
    return BatchNormActivation(xp.maximum(z, 0), *statistics)


def batch_norm_relu_gradients(
    xp: Any, g: Array, forward: BatchNormActivation, gamma: Array, out: BatchNormGradients | None = None
) -> BatchNormGradients:
    """Return the gradients for `g` = dJ/dy (R, n, m): those of batch normalisation for g <- g where y > 0, else 0."""
    return gradients_through_norm(xp, g * (forward.y > 0), forward, gamma)


def batch_norm_relu_inference(
    xp: Any, s: Array, mean: Array, var: Array, gamma: Array, beta: Array, eps: float
) -> Array:
    """Return max(0, gamma (s - mean) / sqrt(var + eps) + beta) with the running mean and variance."""
    scale = gamma / xp.sqrt(var + eps)
    return xp.maximum(s * scale + (beta - mean * scale), 0)


def dropout(xp: Any, x: Array, mask: Mask, out: Dropped | None = None) -> Dropped:
    """Return `x` (R, n, m) or (n, m) with every value set to 0 with probability p, else multiplied by 1 / (1 - p).

    So every value has the expected value x (Srivastava et al., 2014, section 10: "inverted" dropout).
    """
    kept, scales = masks.kept(xp, mask, *x.shape[-2:]), mask.scales
    if x.ndim == 2 and len(kept) == 1:
        kept, scales = kept[0], scales[0]
    return Dropped(xp.where(kept, x * scales, x.dtype.type(0)), kept, scales)


def dropout_gradient(xp: Any, g: Array, dropped: Dropped) -> None:
    """Change dJ/dy of a dropout's result `dropped` to dJ/dx, in place: g / (1 - p) where x was kept, else 0."""
    g[...] = xp.where(dropped.kept, g * dropped.scales, g.dtype.type(0))


def softmax(xp: Any, s: Array) -> Array:
    """Return exp(s) / sum exp(s) over the last axis; the largest logit is subtracted first, so nothing overflows."""
    p = xp.exp(s - xp.max(s, axis=-1, keepdims=True))
    return p / xp.sum(p, axis=-1, keepdims=True)


def softmax_cross_entropy(
    xp: Any, s: Array, labels: Array, scale: Array | float, out: CrossEntropy | None = None
) -> CrossEntropy:
    """Return losses, hits and gradient of softmax cross-entropy for logits `s` (R, n, c).

    loss = log(sum exp(s)) - s[label] and dloss/ds = p - onehot(label), for `labels` (n,) or
    (R, n).  `scale`, a number or (R, 1, 1), multiplies the gradient: 1 / n gives that of the mean.
    """
    shifted = s - xp.max(s, axis=-1, keepdims=True)
    exps = xp.exp(shifted)
    sums = xp.sum(exps, axis=-1, keepdims=True)
    onehot = labels[..., None] == xp.arange(s.shape[-1])
    losses = xp.log(sums[..., 0]) - xp.sum(shifted * onehot, axis=-1)
    correct = xp.argmax(s, axis=-1) == labels
    return CrossEntropy(losses, correct, (exps / sums - onehot) * scale)


def smooth_labels(xp: Any, entropy: CrossEntropy, s: Array, labels: Array, alpha: Array, scale: Array | float) -> None:
    """Change losses and gradients to those of smoothed labels (1 - alpha) onehot(label) + alpha / c, in place.

    loss <- loss + alpha (s[label] - mean(s)) and g <- g + scale alpha (onehot(label) - 1 / c), for the logits `s`
    (R, n, c), `alpha` (R, 1, 1), and `scale` as in :func:`softmax_cross_entropy` (Szegedy et al., 2016).
    """
    onehot = labels[..., None] == xp.arange(s.shape[-1])
    towards = onehot - xp.asarray(1 / s.shape[-1], dtype=s.dtype)
    losses, _, g = entropy[:3]
    losses += alpha[..., 0] * xp.sum(s * towards, axis=-1)
    g += (scale * alpha) * towards


def weigh_samples(xp: Any, entropy: CrossEntropy, weights: Array, rows: Array | None = None) -> None:
    """Multiply losses and gradients of samples by their weights, in place: loss <- w loss, g <- w g.

    `weights` are those of the samples, (n,) or (R, n); or with `rows`, of the same shapes, those of all N samples of a
    set (N,), of which `rows` has the numbers.
    """
    weights = weights if rows is None else xp.take(weights, rows)
    losses, _, g = entropy[:3]
    losses *= weights
    g *= weights[..., None]


def _join(xp: Any, tensors: list[Array]) -> Array:
    """Return tensors (R, ...) side by side, as one (R, 1, q); a single tensor is returned unchanged."""
    if len(tensors) == 1:
        return tensors[0]
    return xp.concatenate([t.reshape(t.shape[0], 1, -1) for t in tensors], axis=-1)


def penalty(xp: Any, weights: list[Array]) -> Array:
    """Return the sum over layers of sum(W**2), (R,)."""
    return sum(xp.sum(W * W, axis=(-2, -1)) for W in weights)


def tally(xp: Any, entropy: CrossEntropy, losses: Array, hits: Array) -> None:
    """Add the batch's losses to `losses` (R,), float64, and its correct samples to `hits` (R,), int64, in place."""
    losses += xp.sum(entropy.losses, axis=-1, dtype="float64")
    hits += xp.sum(entropy.correct, axis=-1)


def add_squares(xp: Any, W: Array, squares: Array, out: Any = None) -> Any:
    """Add sum(W**2) to `squares` (R,), float64, in place; return the implementation's buffers for the next `out`."""
    squares += penalty(xp, [W])
    return None


def average(xp: Any, running: Array, batch: list[Array], alpha: Array, out: Any = None) -> Any:
    """Update running statistics (R, 1, q) in place: running <- alpha running + (1 - alpha) batch.

    `batch` are tensors (R, 1, m) that together make up the batch's statistics (R, 1, q).  Returns the implementation's
    buffers, for `out` of the next call.
    """
    running *= alpha
    running += ((1 - alpha) * _join(xp, batch)).reshape(running.shape)
    return None


def descend(
    xp: Any, p: Array, steps: list[Array], keep: Array | None, squares: Array | None = None, out: Any = None
) -> Any:
    """Take a step of gradient descent in place: p <- keep p - step, and add sum(p**2) before it to `squares` (R,).

    `steps` are tensors that side by side make up eta * dloss/dp; `keep` = 1 - 2 eta lambda (R, 1, 1) shrinks weights by
    the L2 penalty; it is None for parameters without penalty.  Returns the implementation's buffers, for `out` of the
    next call.
    """
    if squares is not None:
        squares += penalty(xp, [p])
    if keep is not None:
        p *= keep
    p -= _join(xp, steps).reshape(p.shape)
    return None


def descend_by_product(xp: Any, W: Array, x: Array, g: Array, keep: Array, squares: Array, out: Any = None) -> Any:
    """Take a step on weights in place, W <- keep W - x' g, and add sum(W**2) before it to `squares` (R,).

    This is :func:`descend` with the result of :func:`weight_gradient`, for `g` (R, n, m) = eta * dloss/ds; an
    implementation may do both in one pass over W.  Returns the implementation's buffers, as :func:`descend` does.
    """
    return descend(xp, W, [weight_gradient(xp, x, g)], keep, squares)
