"""Small networks and populations to train on the fixture `blobs`, and the comparison of their bits."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

import xpnet
from xpnet.training.population import Population

FIGURES = ("epoch", "step", "eta", "train_loss", "train_cost", "train_accuracy", "validation_loss")


def network(replicas: int | None = None, *, backend: Any = None, dtype: str = "float32", seed: Any = 0, **values: Any):
    """Return R networks; `values` are settings of their architecture."""
    config = xpnet.NetworkConfig(**{"inputs": 12, "hidden": (8, 5), "classes": 4} | values)
    return xpnet.Network(config, backend=backend, dtype=dtype, seed=seed, replicas=replicas)


def population(**values: Any) -> Population:
    """Return the population of settings, some of them lists."""
    settings = {"hidden": [6], "batch_size": 50, **values}
    return Population.of(xpnet.Settings.from_mapping(settings), 12, 4)


def tensors(net: xpnet.Network) -> Mapping[str, np.ndarray]:
    """Return parameters and running statistics, on the host."""
    return {name: net.backend.to_numpy(tensor) for name, tensor in {**net.parameters, **net.running}.items()}


def assert_same_bits(one: tuple[Any, ...], other: tuple[Any, ...]) -> None:
    """Compare the networks and results of two trainings."""
    (net, result), (net_again, again) = one[:2], other[:2]
    for name, tensor in tensors(net).items():
        np.testing.assert_array_equal(tensor, tensors(net_again)[name], err_msg=name)
    for column in FIGURES:
        np.testing.assert_array_equal(result.history[column], again.history[column], err_msg=column)
    for which in ("train", "validation", "test"):
        np.testing.assert_array_equal(getattr(result, which).costs, getattr(again, which).costs, err_msg=which)
    assert (repr(result.diverged), result.dropped, result.steps) == (repr(again.diverged), again.dropped, again.steps)
