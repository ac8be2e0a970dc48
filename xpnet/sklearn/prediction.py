"""Probabilities of an ensemble, and what is known of a training without validation rows or in several parts."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import log_softmax, logsumexp

from xpnet.nn.flat_parameters import FlatParameters
from xpnet.nn.network import Network
from xpnet.training.history import History

_ROWS_AT_A_TIME = 4000


def log_probabilities(network: Network, X: Any, weights: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the logarithms of the mean probabilities (n, c) of some members, in float64.

    Args:
        network: The members, R networks with a transform.
        X: Raw features (n, d).
        weights: Weight of each member (R,), whose sum is 1; members without weight are not computed.
    """
    members = np.flatnonzero(weights)
    exact = _in_float64(network.select(members.tolist()))
    backend, transform = exact.backend, exact.transform
    assert transform is not None
    parts = []
    for start in range(0, len(X), _ROWS_AT_A_TIME):
        inputs = backend.asarray(transform(X[start : start + _ROWS_AT_A_TIME], "float64"))
        logs = log_softmax(backend.to_numpy(exact.logits(inputs)), axis=-1)
        parts.append(logs[0] if len(members) == 1 else logsumexp(logs, axis=0, b=weights[members, None, None]))
    return np.concatenate(parts)


def _in_float64(network: Network) -> Network:
    same = copy.copy(network)
    same.dtype = np.dtype(np.float64)
    for group in ("parameters", "running"):
        tensors = {name: tensor.astype(np.float64) for name, tensor in getattr(network, group).items()}
        setattr(same, group, FlatParameters(network.backend.xp, tensors))
    return same


def without_validation(history: History) -> History:
    """Return a history whose validation figures are NaN."""
    columns = history.columns()
    unknown = {name: np.full_like(values, np.nan) for name, values in columns.items() if name.startswith("validation")}
    return History(history.initial_eta, columns | unknown)


def continued_statistics(network: Network, before: Mapping[str, Any], steps: int) -> None:
    """Blend the running statistics of a training of some steps, which began anew, with those before it.

    An exponential mean that goes on for k steps keeps a share of alpha^k of its old value.
    """
    share = network.config.bn_alpha**steps
    for name, old in before.items():
        network.running[name] = share * old + (1 - share) * network.running[name]
