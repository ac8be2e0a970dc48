"""Chunks of a population that memory holds at once: how it is cut, and how their results are put together."""

from __future__ import annotations

import dataclasses
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np

from xpnet.backend import Backend, free_memory
from xpnet.config.definitions import Length, NetworkConfig, TrainConfig
from xpnet.data import Dataset
from xpnet.errors import ConfigError, DivergedError
from xpnet.nn.flat_parameters import FlatParameters, parameter_kind
from xpnet.nn.layers import parameter_shapes
from xpnet.nn.network import Network
from xpnet.training.device_data import DeviceData
from xpnet.training.history import EpochRecord, History, Metrics, Values
from xpnet.training.result import Divergence, TrainResult
from xpnet.training.schedules import learning_rates
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


def nothing_left(network: Network, error: DivergedError) -> TrainResult:
    """Return the result of a chunk of which no replica is left: the epochs before that."""
    nan = np.full(network.replicas, np.nan)
    empty = Metrics(nan, nan, nan)
    epochs, device = error.history.epochs, network.backend.device
    seconds = [record.seconds_training for record in epochs]
    evaluation = sum(record.seconds_evaluation for record in epochs)
    steps = epochs[-1].step if epochs else 0
    gone = dict(error.diverged)
    return TrainResult(error.history, empty, empty, empty, len(epochs), steps, seconds, evaluation, device, False, gone)


def joined(population: Any, done: list[tuple[Network, TrainResult]], length: Length) -> tuple[Network, TrainResult]:
    """Put chunks together: as many replicas as were trained, in their order."""
    count = sum(network.replicas for network, _ in done)
    part = population.part(0, count)
    whole = _joined_network(part, [network for network, _ in done])
    longest = max((result for _, result in done), key=lambda r: len(r.history))
    rates = learning_rates(part.train, length, count)
    history = History(rates[0])
    diverged: dict[int, Divergence] = {}
    dropped: dict[int, int] = {}
    start = 0
    for network, result in done:
        diverged |= {start + r: where for r, where in result.diverged.items()}
        dropped |= {start + r: step for r, step in result.dropped.items()}
        start += network.replicas
    for epoch, record in enumerate(longest.history.epochs):
        history.append(_joined_epoch(epoch, record, rates, done))
    return whole, dataclasses.replace(
        longest,
        history=history,
        train=_joined_metrics([result.train for _, result in done]),
        validation=_joined_metrics([result.validation for _, result in done]),
        test=_joined_metrics([result.test for _, result in done]),
        seconds_training=[record.seconds_training for record in history.epochs],
        seconds_evaluation=sum(result.seconds_evaluation for _, result in done),
        interrupted=any(result.interrupted for _, result in done),
        diverged=diverged,
        dropped=dropped,
    )


def _joined_network(population: Any, parts: list[Network]) -> Network:
    """Return the networks of several chunks as one; nothing is drawn that would be thrown away."""
    first = parts[0]
    whole = Network(population.part(0, 1).network, backend=first.backend, dtype=str(first.dtype))
    whole.config, whole.seeds = population.network, population.seeds
    xp = first.backend.xp

    def of_all(name: str) -> dict[str, Any]:
        return {key: xp.concatenate([getattr(part, name)[key] for part in parts]) for key in getattr(first, name)}

    whole.parameters = FlatParameters(xp, of_all("parameters"), parameter_kind)
    whole.running = FlatParameters(xp, of_all("running"))
    whole.standardiser, whole.class_names = first.standardiser, first.class_names
    whole.image_shape, whole.feature_names = first.image_shape, first.feature_names
    return whole


def _joined_epoch(
    epoch: int, record: EpochRecord, rates: Values, done: list[tuple[Network, TrainResult]]
) -> EpochRecord:
    """Return one epoch of all chunks; a chunk that did not reach it has no figures there, but rates (steps, R)."""
    records = [r.history.epochs[epoch] if epoch < len(r.history) else None for _, r in done]

    def metrics(which: str) -> Metrics:
        nans = [np.full(network.replicas, np.nan) for network, _ in done]
        return _joined_metrics(
            [getattr(r, which) if r is not None else Metrics(n, n, n) for r, n in zip(records, nans, strict=True)]
        )

    # What was trained before settings were changed had rates of its own.
    eta = rates[min(record.step, len(rates)) - 1].copy()
    start = 0
    for (network, _), own in zip(done, records, strict=True):
        if own is not None:
            eta[start : start + network.replicas] = own.eta
        start += network.replicas
    return dataclasses.replace(
        record,
        eta=eta,
        train=metrics("train"),
        validation=metrics("validation"),
        seconds_training=sum(r.seconds_training for r in records if r is not None),
        seconds_evaluation=sum(r.seconds_evaluation for r in records if r is not None),
    )


def _joined_metrics(parts: list[Metrics]) -> Metrics:
    return Metrics(
        np.concatenate([part.accuracies for part in parts]),
        np.concatenate([part.losses for part in parts]),
        np.concatenate([part.costs for part in parts]),
    )
