"""Training a population, chunk after chunk where memory does not hold all its networks at once."""

from __future__ import annotations

import operator
from collections.abc import Mapping, Sequence
from itertools import pairwise
from types import MappingProxyType
from typing import Any

from xpnet.backend import Backend, get_backend, give_back, out_of_memory
from xpnet.config.arguments import floating, kind, some_of, takes
from xpnet.config.fields import optional, whole
from xpnet.data import Dataset
from xpnet.errors import DivergedError
from xpnet.nn.network import Network
from xpnet.training.batches import order_seeds
from xpnet.training.callback import Callback, TrainPlan, callbacks_of
from xpnet.training.chunks import chunks, halves_of, joined, most_in_memory, nothing_left
from xpnet.training.device_data import DeviceData, to_device
from xpnet.training.evaluator import SETS
from xpnet.training.history import EpochRecord, records_of
from xpnet.training.population import Population
from xpnet.training.result import TrainResult, all_diverged
from xpnet.training.state import Chunk, TrainState
from xpnet.training.trainer import Trainer
from xpnet.training.validate import check_fit, on_device_of
from xpnet.training.verdicts import judged


def _chunks_of(value: Any) -> list[Chunk]:
    """Check for chunks of a population."""
    wanted = "pairs of numbers, from the first network of a chunk up to that after its last, without gaps"
    try:
        cuts = [(operator.index(start), operator.index(stop)) for start, stop in value]
    except (TypeError, ValueError):
        raise ValueError(wanted) from None
    if not cuts or cuts[0][0] != 0 or any(a[1] != b[0] for a, b in pairwise(cuts)) or any(a >= b for a, b in cuts):
        raise ValueError(wanted)
    return cuts


@takes(
    population=kind(Population),
    data=kind(Dataset, DeviceData),
    backend=optional(kind(Backend)),
    dtype=floating,
    max_replicas=optional(whole(1)),
    callbacks=callbacks_of,
    final=some_of(*SETS),
    cuts=optional(_chunks_of),
    starts=kind(Mapping),
)
def train_population(
    population: Population,
    data: Dataset | DeviceData,
    *,
    backend: Backend | None = None,
    dtype: str = "float32",
    max_replicas: int | None = None,
    callbacks: Sequence[Callback] = (),
    final: Sequence[str] = SETS,
    cuts: Sequence[Chunk] | None = None,
    starts: Mapping[Chunk, TrainState] = MappingProxyType({}),
) -> tuple[Network, TrainResult]:
    """Train the networks of a population, in chunks where memory does not hold all of them at once.

    Args:
        population: The networks and their settings.
        data: A data set, or one that :func:`xpnet.to_device` has prepared.
        backend: Where to compute; the CPU if not given.
        dtype: ``"float32"`` or ``"float64"``.
        max_replicas: Most networks in a chunk; what fits into half of the free memory if not given.
        callbacks: Instances of :class:`xpnet.Callback`.  In several chunks, `on_epoch_end` is called once all are
            trained, and `on_prune` for each chunk.
        final: Sets that are evaluated at the end.
        cuts: The chunks, where an earlier training has chosen them.
        starts: States from which chunks go on.

    Returns:
        The network of all replicas, and the result as one chunk would give it.

    Raises:
        ConfigError: The data and the settings do not fit together, or memory does not hold one network.
        DivergedError: All networks have diverged.
    """
    backend = backend or get_backend("cpu")
    if isinstance(data, Dataset):
        network = Network(population.part(0, 1).network, backend=backend, dtype=dtype, seed=population.seeds[:1])
        check_fit(network, data, population.part(0, 1).train)
        data = to_device(data, backend, dtype)
    if cuts is None:
        cuts = chunks(population, max_replicas or most_in_memory(population, data, backend, dtype))
    run = _PopulationTraining(population, data, backend, dtype, callbacks, final, starts)
    network, result = run(list(cuts))
    result = judged(result, population.network, population.train, data.data, population.rows)
    for callback in callbacks:
        callback.on_train_end(result)
    return network, result


class _EpochCount(Callback):
    """Counts the epochs that were passed to callbacks."""

    def __init__(self, epochs: int) -> None:
        self.epochs = epochs

    def on_epoch_end(self, record: EpochRecord) -> None:
        self.epochs = record.epoch


class _PopulationTraining:
    """The training of a population's chunks, one after another."""

    def __init__(
        self,
        population: Population,
        data: DeviceData,
        backend: Backend,
        dtype: str,
        callbacks: Sequence[Callback],
        final: Sequence[str],
        starts: Mapping[Chunk, TrainState],
    ) -> None:
        self.population, self.data, self.backend, self.dtype = population, data, backend, dtype
        self.callbacks, self.final, self.starts = callbacks, final, dict(starts)
        self.length = population.train.length(int(data.train.x.shape[0]))
        self.orders = order_seeds(population.train, population.seeds)
        self.whole = 0, len(population)
        start = self.starts.get(self.whole)
        self.passed = _EpochCount(0 if start is None else start.epochs)

    def __call__(self, cuts: list[Chunk]) -> tuple[Network, TrainResult]:
        """Train all chunks; a chunk for which memory runs out is cut in halves."""
        start = self.starts.get(self.whole)
        records = () if start is None else tuple(records_of(start.history))
        for callback in self.callbacks:
            callback.on_train_begin(TrainPlan(self.length, tuple(cuts), records))
        done: list[tuple[Network, TrainResult]] = []
        pending = list(cuts)
        while pending:
            halves: list[Chunk] = []
            try:
                done.append(self._train_chunk(pending[0]))
            except Exception as error:
                if not out_of_memory(error):
                    raise
                # The estimate was too low, or other processes have taken memory since.
                halves = halves_of(pending[0], self.backend)
            if halves:  # here, what the exception held is free
                give_back(self.backend)
                self._split(pending.pop(0), halves)
                pending[:0] = halves
                plan = TrainPlan(self.length, (*cuts[: len(done)], *pending))
                cuts = list(plan.chunks)
                for callback in self.callbacks:
                    self.starts |= callback.on_chunk_split(plan) or {}
            elif pending.pop(0) == self.whole:
                return done[0]
            elif done[-1][1].interrupted:
                break
        return self._joined(done)

    def _train_chunk(self, chunk: Chunk) -> tuple[Network, TrainResult]:
        part = self.population.part(*chunk)
        network = Network(part.network, backend=self.backend, dtype=self.dtype, seed=part.seeds)
        data = on_device_of(network, self.data, part.train)
        network.learn_about(data.data)
        try:
            trainer = Trainer(
                network,
                data,
                part.train,
                orders=self.orders[slice(*chunk)],
                callbacks=(self.passed, *self.callbacks),
                start=self.starts.get(chunk),
                chunk=chunk,
                population=len(self.population),
            )
            return network, trainer.run(self.final)
        except DivergedError as error:
            if chunk == self.whole:
                raise
            return network, nothing_left(network, error)

    def _split(self, chunk: Chunk, halves: list[Chunk]) -> None:
        """Let the halves of a chunk go on from where the chunk would."""
        start = self.starts.pop(chunk, None)
        if start is not None:
            self.starts |= {half: start.part(half[0] - chunk[0], half[1] - chunk[0]) for half in halves}

    def _joined(self, done: list[tuple[Network, TrainResult]]) -> tuple[Network, TrainResult]:
        network, result = joined(self.population, done, self.length)
        for record in result.history.epochs[self.passed.epochs :]:
            for callback in self.callbacks:
                callback.on_epoch_end(record)
        if len(result.diverged) == network.replicas:
            raise all_diverged(result.diverged, self.population.train, network.replicas, result.history)
        return network, result
