"""The networks and results of a population's chunks, put together as one chunk would give them."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np

from xpnet.config.definitions import Length
from xpnet.errors import DivergedError
from xpnet.nn.flat_parameters import FlatParameters, parameter_kind
from xpnet.nn.network import Network
from xpnet.training.history import EpochRecord, History, Metrics, Values
from xpnet.training.result import Divergence, TrainResult
from xpnet.training.schedules import learning_rates


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
