"""Statistics of every layer of every replica, on one batch of samples.

Rows are samples.  A layer has inputs, sums s = x W + b (R, n, m), and outputs y (R, n, m) after batch normalisation and
activation; the outputs of the last layer are the logits s themselves.  The network computes in its own precision; the
statistics are accumulated in float64.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from xpnet.backend import Array, Backend
from xpnet.config.arguments import kind, numbers, takes
from xpnet.errors import ConfigError
from xpnet.nn.backprop import Tape, backward, forward
from xpnet.nn.initialisers import per_replica
from xpnet.nn.network import Network
from xpnet.ops.activations import ACTIVATIONS

Values = NDArray[np.float64]

# Squared singular values below this share of the largest are rounding errors of the matrix product.
_ROUNDING = 1e-15


def _measure(text: str) -> Any:
    return dataclasses.field(metadata={"help": text})


@dataclass(frozen=True, kw_only=True)
class Diagnosis:
    """Measures (R, L) of R networks with L layers; not a number where a measure has no meaning.

    Scales are in units of the network's own numbers: s and y of standardised features, dJ/ds of the cost in nats,
    J a mean over the n samples, so that dJ/ds carries the factor 1/n.

    Attributes:
        s_std: Standard deviation of all entries of s, over samples and units.  A layer that keeps it keeps the
            scale of the signal (Glorot and Bengio 2010; He et al. 2015).
        s_spread: Standard deviation of s over the samples, as root mean square over the units: the part of
            `s_std` that tells samples apart.  The rest lies between units and is the same for every sample.
        y_mean, y_std: Mean and standard deviation of all entries of y.
        gradient_rms: Root mean square of the entries of dJ/ds (Glorot and Bengio 2010, figure 7).
        W_rms: Root mean square of the entries of W.
        W_gradient_rms: Root mean square of the entries of dJ/dW, with the penalty's 2 lam W.
        update_ratio: eta * W_gradient_rms / W_rms, the length of a step of plain gradient descent relative to the
            weights; the inverse of the trust ratio of You et al. (2017, arXiv:1708.03888), times eta.
        dead: Share of units with y = 0 for all samples (Lu et al. 2019, arXiv:1903.06733, on the samples at
            hand); not a number in the last layer, which has no ReLU, and with other activations, whose units
            cannot rest at 0.
        inactive: Share of entries with y = 0; not a number where `dead` is none.
        effective_rank: exp(-sum p log p) of p = singular values of y (n, m) / their sum, from 1 to min(n, m)
            (Roy and Vetterli 2007, EUSIPCO, definition 1; y is not centred, as in Daneshmand et al. 2020,
            arXiv:2003.01652, on the collapse of ranks with depth).  Not a number if y = 0.
        similarity: Mean cosine between the outputs of two different samples, over all pairs; 1 if all outputs
            point the same way (the c of Poole et al. 2016, arXiv:1606.05340).  Samples whose outputs are all 0 have
            no direction and are left out; not a number if fewer than two are left.
        relative_spread: Spread of y over the samples relative to its mean: the root mean square over the units
            of the standard deviations over samples, divided by that of the means.  0 if every sample has the same
            outputs; not a number if all means are 0.
        loss: Mean cross-entropy of the samples (R,), without the penalty.
        accuracy: Share of the samples classified correctly (R,).
        predicted: Number of different classes among the predictions (R,), from 1 to the number of classes.
    """

    s_std: Values = _measure("standard deviation of the sums s")
    s_spread: Values = _measure("standard deviation of s over the samples, RMS over units")
    y_mean: Values = _measure("mean of the outputs y")
    y_std: Values = _measure("standard deviation of the outputs y")
    gradient_rms: Values = _measure("root mean square of dJ/ds")
    W_rms: Values = _measure("root mean square of W")
    W_gradient_rms: Values = _measure("root mean square of dJ/dW, penalty included")
    update_ratio: Values = _measure("η times RMS of dJ/dW, by RMS of W")
    dead: Values = _measure("share of units that no sample activates")
    inactive: Values = _measure("share of outputs that are 0")
    effective_rank: Values = _measure("exp of the entropy of y's singular values")
    similarity: Values = _measure("mean cosine between two samples' outputs")
    relative_spread: Values = _measure("spread of y over samples by its mean")
    loss: Values
    accuracy: Values
    predicted: NDArray[Any]


MEASURES: dict[str, str] = {
    field.name: field.metadata["help"] for field in dataclasses.fields(Diagnosis) if field.metadata
}
"""Every measure of a layer: its name and a short description."""


@takes(network=kind(Network), lam=numbers, eta=numbers)
def diagnose(network: Network, x: Array, labels: Array, lam: Any = 0.0, eta: Any = 1.0) -> Diagnosis:
    """Return measures of every layer of R networks on one batch, in training mode; the network does not change.

    Batch normalisation uses the statistics of these samples, as in a training step on them.

    Args:
        network: The networks.
        x: Standardised features (n, d), or (R, n, d) with samples for each replica; at least 2 samples.
        labels: Classes (n,) or (R, n), whole numbers.
        lam: Strength of the penalty in the cost, on the host: a number, or one for each replica (R,).
        eta: Learning rate of `update_ratio`, a number, or one for each replica (R,); 1 gives the plain ratio.

    Returns:
        Measures of every layer (R, L) and of each network (R,).

    Raises:
        ArrayError: `x` or `labels` lie on another device, or have the wrong shape, dtype or range.
        ConfigError: There is only one sample.
    """
    x, labels = network.checked(x, labels, needed=True)
    if int(x.shape[-2]) < 2:
        raise ConfigError("x: has 1 sample; a diagnosis compares samples, pass at least 2")
    ops, backend, tape = network.ops, network.backend, Tape()
    rests = ACTIVATIONS[network.config.activation].rests
    with np.errstate(all="ignore"):  # a network that diverges gives numbers that are not finite
        logits = forward(ops, network.layers, network.parameters, network.config.bn_eps, x, tape)
        replicas, samples = int(logits.shape[0]), int(logits.shape[-2])
        entropy = ops.softmax_cross_entropy(logits, labels, 1.0 / samples)
        lams, etas = (
            np.array(per_replica(name, value if np.ndim(value) == 0 else tuple(value), replicas), float)
            for name, value in (("lam", lam), ("eta", eta))
        )
        columns: list[dict[str, Values]] = []
        # From the last layer to the first, so that only one layer's gradient of W is in memory.
        parts = backward(ops, network.layers, network.parameters, tape, entropy.g)
        for part, record in zip(parts, reversed(tape.layers), strict=True):
            last = part.layer == network.layers[-1]
            y = record.s if last else record.activation.y
            gradient = ops.weight_gradient(part.x, part.g)
            columns.append(
                _of_sums(backend, record.s)
                | _of_outputs(backend, y, rests=rests and not last)
                | {"gradient_rms": _rms(backend, part.g)}
                | _of_weights(backend, network.parameters[part.layer.W], gradient, lams, etas)
            )
        by_layer = {
            name: np.stack([np.broadcast_to(column[name], (replicas,)) for column in reversed(columns)], axis=-1)
            for name in MEASURES
        }
        losses = backend.to_numpy(entropy.losses.mean(axis=-1, dtype="float64"))
        # NaN logits would count as a correct prediction of the first class.
        correct = np.where(np.isfinite(losses), backend.to_numpy(entropy.correct).mean(axis=-1), np.nan)
    classes = backend.to_numpy(backend.xp.argmax(logits, axis=-1))
    predicted = np.array([len(np.unique(row)) for row in classes])
    return Diagnosis(**by_layer, loss=losses, accuracy=correct, predicted=predicted)


def _of_sums(backend: Backend, s: Array) -> dict[str, Values]:
    """Return the measures of s (R, n, m)."""
    centred = s.astype("float64")
    # Equal numbers become exactly 0.
    centred = centred - centred[:, :1, :1]
    return {
        "s_std": backend.to_numpy(backend.xp.std(centred, axis=(-2, -1))),
        "s_spread": np.sqrt(_variances(backend, s).mean(axis=-1)),
    }


def _of_outputs(backend: Backend, y: Array, *, rests: bool) -> dict[str, Values]:
    """Return the measures of y (R, n, m)."""
    xp, to_numpy = backend.xp, backend.to_numpy
    y = y.astype("float64")
    samples, units = int(y.shape[-2]), int(y.shape[-1])
    means = to_numpy(y.mean(axis=-2))
    zero = y == 0
    # Outputs near 1e-200 would have squares of 0: for cosines and ranks, outputs are scaled to at most 1.
    largest = xp.max(xp.abs(y), axis=(-2, -1), keepdims=True)
    y_unit = y / xp.where(largest > 0, largest, 1.0)
    gram = (
        xp.matmul(y_unit.swapaxes(-1, -2), y_unit) if units <= samples else xp.matmul(y_unit, y_unit.swapaxes(-1, -2))
    )
    nan = np.full(int(y.shape[0]), np.nan)
    return {
        "y_mean": means.mean(axis=-1),
        "y_std": to_numpy(xp.std(y - y[:, :1, :1], axis=(-2, -1))),
        "dead": to_numpy(xp.all(zero, axis=-2)).mean(axis=-1) if rests else nan,
        "inactive": to_numpy(zero.mean(axis=(-2, -1))) if rests else nan,
        "effective_rank": _effective_rank(to_numpy(gram)),
        "similarity": _similarity(backend, y_unit),
        "relative_spread": _quotient(np.sqrt(_variances(backend, y).mean(axis=-1)), np.sqrt((means**2).mean(axis=-1))),
    }


def _of_weights(backend: Backend, W: Array, gradient: Array, lam: Values, eta: Values) -> dict[str, Values]:
    """Return the measures of W (R, d, m), whose gradient of the loss alone is `gradient`."""
    W = W.astype("float64")
    shrink = backend.asarray(2 * lam[:, None, None])
    W_rms, gradient_rms = _rms(backend, W), _rms(backend, gradient.astype("float64") + shrink * W)
    ratio = eta * _quotient(gradient_rms, np.broadcast_to(W_rms, gradient_rms.shape))
    return {"W_rms": W_rms, "W_gradient_rms": gradient_rms, "update_ratio": ratio}


def _rms(backend: Backend, values: Array) -> Values:
    """Return the root mean square of values (R, ., .) for each replica (R,)."""
    values = values.astype("float64")
    largest = backend.xp.max(backend.xp.abs(values), axis=(-2, -1), keepdims=True)
    # Gradients below 1e-154 would have squares of 0.
    mean = ((values / backend.xp.where(largest > 0, largest, 1.0)) ** 2).mean(axis=(-2, -1))
    return np.asarray(backend.to_numpy(largest)[:, 0, 0] * np.sqrt(backend.to_numpy(mean)))


def _variances(backend: Backend, values: Array) -> Values:
    """Return the variances over the samples (R, m), exactly 0 if all samples are equal."""
    values = values.astype("float64")
    return np.asarray(backend.to_numpy(backend.xp.std(values - values[:, :1], axis=-2))) ** 2


def _effective_rank(gram: Values) -> Values:
    """Return the effective ranks (R,) of matrices y, for y' y or y y' (R, k, k)."""
    ranks = np.full(len(gram), np.nan)
    for r, matrix in enumerate(gram):
        if not np.isfinite(matrix).all() or not matrix.any():
            continue
        squares = np.linalg.eigvalsh(matrix)
        singular = np.sqrt(squares[squares > _ROUNDING * squares[-1]])
        p = singular / singular.sum()
        ranks[r] = np.exp(-(p * np.log(p)).sum())
    return ranks


def _similarity(backend: Backend, y: Array) -> Values:
    """Return the mean cosine (R,) between the rows of y (R, n, m), over all pairs of rows that are not 0.

    The sum over pairs i != j of u_i . u_j, for rows u_i of length 1, is |sum of u_i|**2 - their number.
    """
    xp = backend.xp
    lengths = xp.sqrt(xp.sum(y * y, axis=-1, keepdims=True))
    rows = y / xp.where(lengths > 0, lengths, 1.0)
    total = backend.to_numpy(xp.sum(rows, axis=-2))
    count = backend.to_numpy(xp.sum(lengths > 0, axis=(-2, -1))).astype(float)
    pairs = np.where(count > 1, count * (count - 1), np.nan)
    return np.asarray(((total**2).sum(axis=-1) - count) / pairs)


def _quotient(above: Values, below: Values) -> Values:
    """Return above / below, not a number where below is 0."""
    quotient: Values = np.divide(above, below, out=np.full(np.shape(above), np.nan), where=below != 0)
    return quotient
