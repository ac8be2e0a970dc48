"""How a population is cut into chunks that memory holds."""

from __future__ import annotations

import dataclasses
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np

from xpnet.backend import Backend, free_memory
from xpnet.config.definitions import NetworkConfig, TrainConfig
from xpnet.data import Dataset
from xpnet.errors import ConfigError
from xpnet.nn.layers import parameter_shapes
from xpnet.training.device_data import DeviceData
from xpnet.training.state import Chunk

if TYPE_CHECKING:
    from xpnet.training.population import Population

# Share of the free memory that a population may take; the rest is left for what cannot be foreseen.
_SHARE = 0.5
# Widest activations of a chunk of an evaluation, as xpnet.training.evaluation takes them.
_EVALUATION_BYTES = 4 * 16 * 2**20


def bytes_of_a_replica(config: NetworkConfig, train_config: TrainConfig, samples: int, dtype: Any) -> int:
    """Return about how much memory each network of a population takes while it trains.

    Counted are parameters and running statistics, gradients and velocities, the activations of a batch
    with what the backward pass keeps and works in, the order of an epoch's samples, the learning rate and the figures
    of every step, and the history.
    """
    size = np.dtype(dtype).itemsize
    one = dataclasses.replace(config, init="he") if isinstance(config.init, tuple) else config
    parameters = sum(int(np.prod(shape)) for shape in parameter_shapes(one, 1).values())
    momentum = np.any(np.asarray(train_config.momentum) > 0)
    # The network's own, what a call works on, and what squares them in float64; velocities, what a call works on
    # of theirs, gradients, and what moves them.  A replica in float64 is trained where it lies.
    copies = (4 + (4 if momentum else 0)) if size < 8 else (3 + (3 if momentum else 0))
    units = sum((*config.hidden, config.classes))
    activations = 9 * train_config.batch_size * units
    length = train_config.length(samples)
    # Learning rates for the host, for the stepper and while they are made; an epoch's figures by step; its record.
    by_step = 8 * (3 * length.steps + 3 * length.steps_per_epoch + 3 * 7 * length.epochs)
    return int(size * (copies * parameters + activations) + 2 * 8 * samples + by_step)


def chunks(population: Population, most: int | None) -> list[Chunk]:
    """Cut a population into chunks (start, stop) of at most `most` replicas, as even as can be.

    Where a cut between two seeds makes no more chunks, it is preferred: replicas of one seed see the same
    batches, which is faster together.
    """
    replicas = len(population)
    if most is None or most >= replicas:
        return [(0, replicas)]
    count = -(-replicas // most)
    a_seed = len(population.combinations())
    seeds = replicas // a_seed
    if a_seed <= most and a_seed * seeds == replicas and -(-seeds // (most // a_seed)) == count:
        edges = [a_seed * (seeds * i // count) for i in range(count + 1)]
    else:
        edges = [replicas * i // count for i in range(count + 1)]
    return list(pairwise(edges))


def most_in_memory(population: Population, data: Dataset | DeviceData, backend: Backend, dtype: str) -> int | None:
    """Return how many networks of a population may train at once; None if free memory is not known.

    Raises:
        ConfigError: Not even one.
    """
    free = free_memory(backend)
    if free is None:
        return None
    samples = int(data.train.x.shape[0])
    each = bytes_of_a_replica(population.network, population.train, samples, dtype)
    room = int(free * _SHARE) - _EVALUATION_BYTES
    if room < each:
        raise ConfigError(
            f"hidden = {list(population.network.hidden)}: one network takes {each / 2**20:,.0f} MB to train, but "
            f"{max(0, room) / 2**20:,.0f} MB of {backend.device} may be used; take a smaller network or batch_size"
        )
    return room // each


def halves_of(chunk: Chunk, backend: Backend) -> list[Chunk]:
    """Return the halves of a chunk for which memory was too small.

    Raises:
        ConfigError: It is one network.
    """
    start, stop = chunk
    if stop - start == 1:
        free = free_memory(backend)
        left = "" if free is None else f", which has {free / 2**20:,.0f} MB left"
        raise ConfigError(
            f"memory: one network with its data does not fit on {backend.device}{left}; take a smaller network or "
            "batch_size, or float32"
        )
    middle = (start + stop) // 2
    return [(start, middle), (middle, stop)]
