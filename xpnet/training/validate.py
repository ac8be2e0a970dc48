"""Whether a network, a data set and settings fit together, and in which order samples are met."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from xpnet.config.definitions import NetworkConfig, TrainConfig
from xpnet.data import Dataset, LabelledSet
from xpnet.errors import ConfigError
from xpnet.nn.model_file import check_description, description
from xpnet.nn.network import Network
from xpnet.training.device_data import DeviceData, to_device
from xpnet.training.steppers import Hyperparameters, check_known, make_stepper
from xpnet.utils.rng import Purpose, generator


def order_seeds(config: TrainConfig, seeds: Sequence[int]) -> tuple[int, ...]:
    """Return the seed of each replica's order of samples; replicas with one order see the same batches."""
    base = seeds[0] if config.shuffle_seed is None else config.shuffle_seed
    if config.shuffle == "shared":
        return (base,) * len(seeds)
    if config.shuffle == "independent":
        return tuple(base + r for r in range(len(seeds)))
    # A replica equals its solo run: seeds that lie apart have orders that lie as far apart.
    return tuple(seeds) if config.shuffle_seed is None else tuple(base + seed - min(seeds) for seed in seeds)


def batches_of_epoch(orders: Sequence[int], epoch: int, samples: int, config: TrainConfig) -> list[NDArray[np.int64]]:
    """Return an epoch's order of samples, on the host: full batches, then an incomplete one unless it is dropped.

    Args:
        orders: Seed of each replica's order, as :func:`order_seeds` returns them.
        epoch: Counted from 0.
        samples: Samples in the training set.
        config: Tells the size of a batch, and whether an incomplete one is dropped.

    Returns:
        Arrays (k, R, n), or (k, n) where all replicas share the order.
    """
    n = config.batch_size
    each = len(set(orders)) > 1
    drawn = {seed: generator(seed, Purpose.SHUFFLE, epoch).permutation(samples) for seed in set(orders)}
    rows = np.stack([drawn[seed] for seed in (orders if each else orders[:1])])
    full = samples // n * n
    batches = [rows[:, :full].reshape(len(rows), -1, n)]
    if full < samples and not config.drop_last:
        batches.append(rows[:, full:][:, None, :])
    # (R, k, n) -> (k, R, n), or (k, n) where all replicas share the order.
    return [np.ascontiguousarray(b.swapaxes(0, 1)) if each else b[0] for b in batches if b.shape[1]]


def sizes_of_batches(steps: int, samples: int, config: TrainConfig) -> NDArray[np.float64]:
    """Return how many samples each of the first `steps` batches of an epoch has (steps,)."""
    starts = np.arange(steps) * config.batch_size
    return np.minimum(config.batch_size, samples - starts).astype(float)


def on_device_of(network: Network, data: Any, config: TrainConfig) -> DeviceData:
    """Return `data` on the network's device, standardised in its dtype.

    Raises:
        ConfigError: `data` is no data set, was prepared for another device or dtype, or does not fit the network
            and the settings.
    """
    if not isinstance(data, (Dataset, DeviceData)):
        raise ConfigError(
            f"data: is a {type(data).__name__}; pass what xpnet.load_data or xpnet.data_from_arrays returns"
        )
    check_fit(network, data if isinstance(data, Dataset) else data.data, config)
    if isinstance(data, Dataset):
        return to_device(data, network.backend, network.dtype)
    if data.backend.device != network.backend.device or data.dtype != network.dtype:
        raise ConfigError(
            f"data: was prepared as {data.dtype} for {data.backend.device}, but the network is "
            f"{network.dtype} on {network.backend.device}; prepare it with to_device for this network"
        )
    return data


def check_fit(network: Network, data: Dataset, config: TrainConfig) -> None:
    """Raise :class:`ConfigError` unless the network, the data and the settings fit together."""
    check_sizes(network.config, network.replicas, data, config)
    check_names(network.config, network.seeds, data)


def check_names(architecture: NetworkConfig, seeds: Sequence[int], data: Dataset) -> None:
    """Raise :class:`ConfigError` unless networks with the names of `data` make a model file that can be read."""
    about = description(architecture, seeds, data.class_names, data.image_shape, data.feature_names)
    check_description(about, architecture, len(seeds))


def check_sizes(architecture: NetworkConfig, replicas: int, data: Dataset, config: TrainConfig) -> None:
    """Raise :class:`ConfigError` unless networks of an architecture, the data and the settings fit together."""
    samples = len(data.train)
    for name, count in zip(("train on", "validate with", "test with"), data.counts.values(), strict=True):
        if count == 0:
            raise ConfigError(f"data: {data.name} has no samples to {name}; every set needs at least one")
    if architecture.inputs != data.features:
        raise ConfigError(
            f"inputs = {architecture.inputs}: the data {data.name} has {data.features} features; "
            "build the network with that many inputs"
        )
    if architecture.classes < data.classes:
        raise ConfigError(
            f"classes = {architecture.classes}: the data {data.name} has {data.classes} classes; "
            "build the network with that many classes"
        )
    for name, count in config.replica_counts().items():
        if count != replicas:
            raise ConfigError(f"{name}: has {count} values for {replicas} replicas; give one, or one for each")
    config.length(samples)
    rest = samples % config.batch_size
    smallest = rest if rest and not config.drop_last else min(config.batch_size, samples)
    if architecture.batch_norm and architecture.hidden and smallest == 1:
        raise ConfigError(
            f"batch_size = {config.batch_size}: leaves a batch of one of the {samples} training samples, which "
            "has no variance to normalise by; take another batch_size, drop_last, or no batch_norm"
        )


def check_stepper(network: Network, data: Dataset, config: TrainConfig) -> None:
    """Raise :class:`ConfigError` unless the stepper that was asked for can train `network` on its device."""
    xp, replicas = network.backend.xp, network.replicas
    momentum = any(rho > 0 for rho in np.ravel(config.momentum))
    hyper = Hyperparameters(xp.zeros((replicas,)), xp.zeros((replicas,)) if momentum else None)
    if config.stepper == "auto":
        check_known(network, hyper, "auto", config)
        return
    some = LabelledSet(data.train.x[:2], data.train.labels[:2])
    there = to_device(dataclasses.replace(data, train=some, validation=some, test=some), network.backend, network.dtype)
    make_stepper(network, there.train.x, there.train.labels, hyper, config.stepper, config.batch_size, config)
