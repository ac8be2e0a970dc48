"""Scores of predicted probabilities: F1, the area under the ROC curve, calibration, and importance of features.

Sources: AUC as the Mann-Whitney statistic (Hanley and McNeil, Radiology 143, 1982); calibration by bins of the
confidence (Guo et al., On Calibration of Modern Neural Networks, 2017); importance by permutation (Breiman, Random
Forests, 2001).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from xpnet.nn.network import Network

Values = NDArray[np.float64]

# Most rows and values (features times rows times networks) that the importance of features is measured on.
_ROWS, _MOST = 1000, 20_000_000
# Least probability of a logarithm: float32 has no smaller ones near 1.
_LEAST = 1e-15


@dataclass(frozen=True)
class Calibration:
    """How often predictions of a confidence are right.

    Attributes:
        confidence: Mean probability of the predicted class, of each bin that has samples (bins,).
        accuracy: Share of its predictions that are right (bins,).
        samples: Its number of samples (bins,).
        error: Mean distance of confidence and accuracy, weighted by samples: the expected calibration error.
        bias: Mean confidence minus accuracy of all samples: above 0 for probabilities that are too sure.
    """

    confidence: Values
    accuracy: Values
    samples: NDArray[np.int64]
    error: float
    bias: float


@dataclass(frozen=True)
class Importance:
    """How much accuracy is lost when the values of a feature change places between samples.

    Attributes:
        loss: Mean loss of accuracy of each feature (features,).
        spread: Standard deviation (ddof = 1) over networks and permutations (features,).
        rows: Number of samples.
    """

    loss: Values
    spread: Values
    rows: int


def f1_scores(confusion: Any) -> Values:
    """Return the F1 score of each class, the harmonic mean of precision and recall: (classes,).

    NaN for a class that neither occurs nor is predicted.

    Args:
        confusion: Samples by true class (rows) and predicted class: (classes, classes).
    """
    counts = np.asarray(confusion, float)
    total = counts.sum(axis=0) + counts.sum(axis=1)
    scores: Values = np.divide(2 * np.diag(counts), total, out=np.full(len(counts), np.nan), where=total > 0)
    return scores


def areas_under_roc(p: Values, labels: NDArray[Any]) -> Values:
    """Return the area under the ROC curve of each class against all others: (classes,).

    It is the probability that a sample of the class gets a larger probability of it than another sample; ties count
    half. NaN for a class that no sample, or every sample, has.

    Args:
        p: Probabilities (n, classes).
        labels: Classes (n,).
    """
    areas = np.full(p.shape[1], np.nan)
    for c in range(p.shape[1]):
        own = labels == c
        inside, outside = int(own.sum()), int((~own).sum())
        if inside and outside:
            _, place, count = np.unique(p[:, c], return_inverse=True, return_counts=True)
            ranks = (np.cumsum(count) - (count - 1) / 2)[place]
            areas[c] = (ranks[own].sum() - inside * (inside + 1) / 2) / (inside * outside)
    return areas


def log_loss(p: Values, labels: NDArray[Any]) -> float:
    """Return the mean negative logarithm of the probabilities (n, classes) of the true classes `labels` (n,)."""
    return float(-np.log(np.maximum(p[np.arange(len(labels)), labels], _LEAST)).mean())


def calibration(p: Values, labels: NDArray[Any], bins: int = 10) -> Calibration:
    """Return how often predictions of a confidence are right, by `bins` bins of equal width.

    Args:
        p: Probabilities (n, classes).
        labels: Classes (n,).
        bins: Number of bins of the confidence, from 0 to 1.
    """
    sure, right = p.max(axis=1), p.argmax(axis=1) == labels
    bin_of = np.minimum((sure * bins).astype(int), bins - 1)
    samples = np.bincount(bin_of, minlength=bins)
    known = samples > 0
    confidence, accuracy = (
        np.bincount(bin_of, weights=values, minlength=bins)[known] / samples[known]
        for values in (sure, right.astype(float))
    )
    error = float((samples[known] * np.abs(confidence - accuracy)).sum() / len(labels))
    return Calibration(confidence, accuracy, samples[known], error, float(sure.mean() - right.mean()))


def permutation_importance(
    network: Network, x: Any, labels: NDArray[Any], repeats: int = 3, seed: int = 0
) -> Importance | None:
    """Return how much accuracy is lost when a feature's values change places between samples.

    Features that say the same stand in for each other, so each of them seems less important than they are together.

    Args:
        network: R networks.
        x: Raw features (n, d); at most 1,000 rows, evenly spaced, are taken.
        labels: Classes (n,).
        repeats: Permutations of each feature; at least 2.
        seed: Seed of the permutations.

    Returns:
        The losses; None if there are so many features and networks that it would take long.
    """
    rows = np.linspace(0, len(x) - 1, min(_ROWS, len(x))).astype(int)
    x, labels = np.asarray(x[rows]), np.asarray(labels[rows])
    features = x.shape[1]
    if features * repeats * len(x) * network.replicas * 10 > _MOST or len(x) < 2:
        return None

    def accuracies(values: NDArray[Any]) -> Values:
        p = network.backend.to_numpy(network.predict_proba(values))
        return np.asarray((p.argmax(axis=-1) == labels).mean(axis=-1), float)

    whole, random = accuracies(x), np.random.default_rng(seed)
    losses = np.empty((features, repeats, network.replicas))
    for feature in range(features):
        for repeat in range(repeats):
            changed = x.copy()
            changed[:, feature] = changed[random.permutation(len(x)), feature]
            losses[feature, repeat] = whole - accuracies(changed)
    return Importance(losses.mean(axis=(1, 2)), losses.reshape(features, -1).std(axis=1, ddof=1), len(x))
