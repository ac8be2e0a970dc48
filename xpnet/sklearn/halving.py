"""Successive halving of candidates: after a share of the epochs, the worse half of them is trained no further.

K. Jamieson and A. Talwalkar, Non-stochastic best arm identification and hyperparameter optimization, AISTATS 2016.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

# Most rounds: comparisons after less than an eighth of the epochs say little.
_MOST_ROUNDS = 4


def shares(candidates: int) -> list[float]:
    """Return the shares of the epochs after which so many candidates are compared: 1/8, 1/4, 1/2 and 1, or the last."""
    rounds = min(_MOST_ROUNDS, 1 + int(math.log2(max(1, candidates))))
    return [0.5 ** (rounds - 1 - number) for number in range(rounds)]


def better_half(scores: Sequence[float]) -> list[int]:
    """Return the positions of the better half of some scores, in ascending order; NaN is worse than all others."""
    order = np.argsort(-np.nan_to_num(np.asarray(scores, float), nan=-np.inf), kind="stable")
    return sorted(order[: -(-len(scores) // 2)].tolist())


def judging_metric(refit: Any, scores: Any) -> str | None:
    """Return the metric by which candidates are compared, None for the only one.

    Raises:
        ValueError: There are several metrics, and `refit` names none.
    """
    if not isinstance(scores, dict):
        return None
    if not isinstance(refit, str) or refit not in scores:
        raise ValueError(
            f"pruning = halving: needs a metric to compare by; name it by refit, as one of {', '.join(scores)}"
        )
    return refit


def mean_scores(scored: Sequence[Any], splits: int, metric: str | None) -> list[float]:
    """Return the mean score of each candidate, from the scores of its splits, which follow each other."""
    each = [one["test_scores"] if metric is None else one["test_scores"][metric] for one in scored]
    return [float(mean) for mean in np.asarray(each, float).reshape(-1, splits).mean(axis=1)]


def best_of_last_round(_: Any, metric: str, results: dict[str, Any]) -> int:
    """Return the position of the best candidate of the last round, as scikit-learn's ``HalvingGridSearchCV`` does."""
    last = np.flatnonzero(results["iter"] == np.max(results["iter"]))
    means = results[f"mean_test_{metric}"][last]
    return int(last[0 if np.isnan(means).all() else np.nanargmax(means)])
