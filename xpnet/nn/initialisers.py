"""The initial parameters and running statistics of networks."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise
from typing import Any

import numpy as np

from xpnet.config.definitions import MOST_NETWORKS, NetworkConfig
from xpnet.errors import ConfigError
from xpnet.nn.layers import layers_of
from xpnet.ops.activations import ACTIVATIONS
from xpnet.utils import memory
from xpnet.utils.parsing import DIGITS
from xpnet.utils.rng import Purpose, generator


def weight_std(init: str | float, fan_in: int, activation: str = "relu") -> float:
    """Return the standard deviation of the initial weights of a layer with `fan_in` inputs.

    He: sqrt(gain / fan_in) with the gain of the network's activation, sqrt(2 / fan_in) for ReLU (He et al., 2015).
    Xavier, as in Glorot and Bengio (2010) with the fan-in alone: sqrt(1 / fan_in).  A number is the standard deviation
    itself.
    """
    if init == "he":
        return math.sqrt(ACTIVATIONS[activation].gain / fan_in)
    if init == "xavier":
        return math.sqrt(1 / fan_in)
    return float(init)


def initial_parameters(config: NetworkConfig, seed: int, dtype: Any = "float64") -> dict[str, np.ndarray[Any, Any]]:
    """Return one network's initial parameters in float64, by name, without the replica axis.

    ``W`` (d, m) is normal with mean 0 and :func:`weight_std`; ``b`` (1, m) normal with
    ``config.init_bias``; ``gamma`` is 1 and ``beta`` is 0.  Every layer's weights and biases have
    random streams of their own.  So networks of one seed have equal tensors where their layers agree, with and without
    batch normalisation, and whatever layers follow.

    Raises:
        ConfigError: The weights or biases overflow `dtype`, or all weights of a layer round to 0 in it.
    """
    if isinstance(config.init, tuple):
        raise ConfigError(f"init = {config.init}: is for several networks; one network has one")
    init = config.init
    sizes = (config.inputs, *config.hidden, config.classes)
    parameters: dict[str, np.ndarray[Any, Any]] = {}
    for layer, (d, m) in enumerate(pairwise(sizes), start=1):
        normalised = config.batch_norm and layer < len(sizes) - 1
        std = weight_std(init, d, config.activation)
        parameters[f"W{layer}"] = std * generator(seed, Purpose.WEIGHTS, layer).standard_normal((d, m))
        if config.bias_before_bn or not normalised:
            draw = generator(seed, Purpose.BIASES, layer)
            parameters[f"b{layer}"] = config.init_bias * draw.standard_normal((1, m))
        if normalised:
            parameters[f"gamma{layer}"] = np.ones((1, m))
            parameters[f"beta{layer}"] = np.zeros((1, m))
    limits = np.finfo(dtype)
    for name, values in parameters.items():
        largest = np.abs(values).max()
        if not largest <= limits.max or (name.startswith("W") and largest < limits.smallest_subnormal):
            setting = f"init = {init}" if name.startswith("W") else f"init_bias = {config.init_bias}"
            raise ConfigError(
                f"{setting}: gives {name} numbers of {largest:.3g}, but {np.dtype(dtype)} holds those from "
                f"{limits.smallest_subnormal:.2g} to {limits.max:.2g}; take another {setting.split()[0]}"
            )
    return parameters


def stacked_parameters(config: NetworkConfig, seeds: Sequence[int], dtype: Any) -> dict[str, np.ndarray[Any, Any]]:
    """Return the initial parameters of the networks of `seeds`, by name, each (R, ...), in `dtype`.

    Raises:
        ConfigError: See :func:`initial_parameters`.
    """
    inits = per_replica("init", config.init, len(seeds))
    with np.errstate(over="ignore"):  # overflow raises an error below
        # Networks of one seed have the same initial parameters, which are drawn once.
        drawn = {
            (seed, init): initial_parameters(replace(config, init=init), seed, dtype)
            for seed, init in dict.fromkeys(zip(seeds, inits, strict=True))
        }
        networks = [drawn[both] for both in zip(seeds, inits, strict=True)]
        return {name: np.stack([one[name] for one in networks]).astype(dtype) for name in networks[0]}


def initial_statistics(config: NetworkConfig, replicas: int, dtype: Any) -> dict[str, np.ndarray[Any, Any]]:
    """Return neutral running statistics by name, each (R, 1, m); the first batch overwrites them."""
    statistics = {}
    for layer, m in zip(layers_of(config), config.hidden, strict=False):
        if layer.mean is not None and layer.var is not None:
            statistics[layer.mean] = np.zeros((replicas, 1, m), dtype)
            statistics[layer.var] = np.ones((replicas, 1, m), dtype)
    return statistics


def check_room(config: NetworkConfig, replicas: int) -> None:
    """Refuse a network whose initial parameters in float64 do not fit into memory.

    Raises:
        ConfigError: The parameters do not fit.
    """
    sizes = (config.inputs, *config.hidden, config.classes)
    networks = "a network" if replicas == 1 else f"{replicas:,} networks"
    called = f"hidden = {list(config.hidden)}: {networks} of {config.inputs:,} inputs and {config.classes:,} classes"
    needed = 8 * replicas * sum(d * m for d, m in pairwise(sizes))
    memory.check_room(needed, called, ConfigError, instead="take a smaller one")


def seeds_of(seed: int | Sequence[int], replicas: int | None) -> tuple[int, ...]:
    """Return the seed of each replica: s, s + 1, ... from one seed s."""
    if isinstance(seed, Sequence):
        if len(seed) > MOST_NETWORKS:
            raise ConfigError(f"seed: has {len(seed):,} values, and may have {MOST_NETWORKS:,}")
        if not seed or replicas not in (None, len(seed)):
            raise ConfigError(f"seed = {list(seed)}: has {len(seed)} values for {replicas or 'no'} replicas")
        return tuple(int(s) for s in seed)
    if seed + (replicas or 1) > 10**DIGITS:
        raise ConfigError(f"seed: that of the last of {replicas} replicas would have more than {DIGITS} digits")
    return tuple(seed + r for r in range(replicas or 1))


def per_replica(name: str, value: Any, replicas: int) -> tuple[Any, ...]:
    """Return a setting's value for each replica."""
    if not isinstance(value, tuple):
        return (value,) * replicas
    if len(value) != replicas:
        raise ConfigError(f"{name}: has {len(value)} values for {replicas} replicas; give one, or one for each")
    return value
