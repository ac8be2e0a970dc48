"""Chunks of a population that fit into memory: their sizes, and joining their results."""

from __future__ import annotations

import copy
import dataclasses
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from xpnet.backend import Backend, free_memory
from xpnet.config.definitions import NetworkConfig
from xpnet.config.length import Length
from xpnet.config.training import TrainConfig
from xpnet.data import Dataset
from xpnet.errors import ConfigError
from xpnet.nn.flat_parameters import FlatParameters, parameter_kind
from xpnet.nn.layers import parameter_shapes
from xpnet.nn.network import Network
from xpnet.training.device_data import DeviceData
from xpnet.training.history import OF_NETWORKS, History, Metrics, Values
from xpnet.training.population import Population
from xpnet.training.result import TrainResult
from xpnet.training.schedules import learning_rates
from xpnet.training.state import Chunk

Trained = tuple[Network, TrainResult]

# Share of the free memory that a population may take; the rest is a reserve.
_SHARE = 0.5
# Bytes of activations during an evaluation, for the chunks of xpnet.training.evaluation.
_EVALUATION_BYTES = 4 * 16 * 2**20


def bytes_of_a_replica(config: NetworkConfig, train_config: TrainConfig, samples: int, dtype: Any) -> int:
    """Return an estimate of the memory in bytes of each network of a population during training.

    It includes parameters and running statistics, gradients and moments, the activations of a batch with the
    workspace of the backward pass and of dropout, the order of an epoch's samples, rates and figures of every step, and
    the history.
    """
    size = np.dtype(dtype).itemsize
    one = dataclasses.replace(config, init="he") if isinstance(config.init, tuple) else config
    parameters = sum(int(np.prod(shape)) for shape in parameter_shapes(one, 1).values())
    # The network's tensors, the copies that a call works on, and squares in float64; with moments also these,
    # their copies, gradients and updates.  A replica in float64 is trained in place.  The best weights are one more
    # copy.
    copies = (4 if size < 8 else 3) * (1 + train_config.moments) + (train_config.restore == "best")
    arrays = 9 if config.activation == "relu" else 10  # slopes are kept, except ReLU's
    activations = arrays * train_config.batch_size * sum((*config.hidden, config.classes))
    # What dropout keeps, and a byte a value: counted as a number, as the bytes of several networks are few.
    widths = (config.hidden, train_config.dropout), ((config.inputs,), train_config.input_dropout)
    activations += 2 * train_config.batch_size * sum(sum(units) for units, p in widths if np.any(p))
    length = train_config.length(samples, one)
    # Learning rates on the host, for the stepper, and during their computation; an epoch's figures by step; its record.
    by_step = 8 * (3 * length.steps + 3 * length.steps_per_epoch + 3 * 7 * length.epochs)
    return int(size * (copies * parameters + activations) + 2 * 8 * samples + by_step)


def chunks(population: Population, most: int | None) -> list[Chunk]:
    """Cut a population into chunks (start, stop) of at most `most` replicas and of nearly equal sizes.

    Cuts are made between seeds if that does not increase the number of chunks: replicas of one seed see the same
    batches, and are faster together.
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
    """Return the number of networks of a population that may train at once; None if free memory is not known.

    Raises:
        ConfigError: Memory does not hold a single network.
    """
    free = free_memory(backend)
    if free is None:
        return None
    samples = data.samples if isinstance(data, DeviceData) else len(data.train)
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
        ConfigError: The chunk is a single network.
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


def join(population: Population, done: list[Trained], length: Length) -> Trained:
    """Return the trained chunks of a population, the first ones in their order, as one network and one result."""
    networks, results = [network for network, _ in done], [result for _, result in done]
    starts = np.cumsum([0, *(network.replicas for network in networks)]).tolist()
    trained = population.part(0, starts[-1])
    history = _join_histories(learning_rates(trained.train, length, len(trained)), [r.history for r in results])
    seen = [result.test_views for result in results if result.test_views is not None]
    return _join_networks(trained, networks), dataclasses.replace(
        max(results, key=lambda result: len(result.history)),
        history=history,
        train=Metrics.joined(result.train for result in results),
        validation=Metrics.joined(result.validation for result in results),
        test=Metrics.joined(result.test for result in results),
        test_views=Metrics.joined(seen) if len(seen) == len(results) else None,
        seconds_training=[record.seconds_training for record in history.epochs],
        seconds_evaluation=sum(result.seconds_evaluation for result in results),
        interrupted=any(result.interrupted for result in results),
        diverged={a + r: place for a, one in zip(starts, results, strict=False) for r, place in one.diverged.items()},
        dropped={a + r: step for a, one in zip(starts, results, strict=False) for r, step in one.dropped.items()},
        stopped={a + r: epoch for a, one in zip(starts, results, strict=False) for r, epoch in one.stopped.items()},
        weights=[epoch for result in results for epoch in result.weights],
    )


def _join_networks(population: Population, networks: list[Network]) -> Network:
    """Return the networks of several chunks as one, without drawing initial weights again."""
    first = networks[0]
    xp = first.backend.xp
    network = copy.copy(first)
    network.config, network.seeds = population.network, population.seeds

    def joined(group: str) -> dict[str, Any]:
        return {name: xp.concatenate([getattr(one, group)[name] for one in networks]) for name in getattr(first, group)}

    network.parameters = FlatParameters(xp, joined("parameters"), parameter_kind)
    network.running = FlatParameters(xp, joined("running"))
    return network


def _join_histories(rates: Values, histories: list[History]) -> History:
    """Return one history; a chunk that did not reach an epoch has NaN as figures there, and the planned `rates`."""
    columns = [history.columns() for history in histories]
    step = max((own["step"] for own in columns), key=len)

    def padded(values: NDArray[Any], missing: float) -> NDArray[Any]:
        return np.pad(values, ((0, len(step) - len(values)), (0, 0)), constant_values=missing)

    joined = {name: np.concatenate([padded(own[name], np.nan) for own in columns], axis=1) for name in OF_NETWORKS}
    # Recorded rates take precedence: epochs before a change of settings had other rates.
    planned = rates[np.minimum(step, len(rates)) - 1]
    joined["eta"] = np.where(np.isnan(joined["eta"]), planned, joined["eta"])
    seconds = np.sum([padded(own["seconds"], 0) for own in columns], axis=0)
    return History(rates[0], {"step": step, "seconds": seconds, **joined})
