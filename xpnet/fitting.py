"""Whether a network, a data set and settings fit together, and in which order samples are met."""

from __future__ import annotations

from collections.abc import Sequence

from xpnet.config import TrainConfig
from xpnet.data import Data
from xpnet.errors import ConfigError
from xpnet.network import Network


def order_seeds(config: TrainConfig, seeds: Sequence[int]) -> tuple[int, ...]:
    """Return the seed of each replica's order of samples; replicas with one order see the same batches."""
    base = seeds[0] if config.shuffle_seed is None else config.shuffle_seed
    if config.shuffle == "shared":
        return (base,) * len(seeds)
    if config.shuffle == "independent":
        return tuple(base + r for r in range(len(seeds)))
    # A replica equals its solo run: seeds that lie apart have orders that lie as far apart.
    return tuple(seeds) if config.shuffle_seed is None else tuple(base + seed - min(seeds) for seed in seeds)


def check_fit(network: Network, data: Data, config: TrainConfig) -> None:
    """Raise :class:`ConfigError` unless the network, the data and the settings fit together."""
    samples = len(data.train)
    if network.config.inputs != data.features:
        raise ConfigError(
            f"inputs = {network.config.inputs}: the data {data.name} has {data.features} features; "
            "build the network with that many inputs"
        )
    if network.config.classes < data.classes:
        raise ConfigError(
            f"classes = {network.config.classes}: the data {data.name} has {data.classes} classes; "
            "build the network with that many classes"
        )
    for name, count in config.replica_counts().items():
        if count != network.replicas:
            raise ConfigError(f"{name}: has {count} values for {network.replicas} replicas; give one, or one for each")
    config.length(samples)
    rest = samples % config.batch_size
    smallest = rest if rest and not config.drop_last else min(config.batch_size, samples)
    if network.config.batch_norm and network.config.hidden and smallest == 1:
        raise ConfigError(
            f"batch_size = {config.batch_size}: leaves a batch of one of the {samples} training samples, which "
            "has no variance to normalise by; take another batch_size, drop_last, or no batch_norm"
        )
