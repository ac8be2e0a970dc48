"""Training of a population, in several chunks if memory does not hold all its networks at once."""

from __future__ import annotations

import operator
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from types import MappingProxyType
from typing import Any

from xpnet.backend import Backend, get_backend, give_back, out_of_memory
from xpnet.config.arguments import floating, kind, seeds, some_of, takes
from xpnet.config.fields import optional, whole
from xpnet.data import Dataset
from xpnet.errors import DivergedError
from xpnet.nn.initialisers import per_replica
from xpnet.nn.network import Network
from xpnet.training.batches import order_seeds
from xpnet.training.callback import Callback, TrainPlan, callbacks_of
from xpnet.training.chunks import Trained, chunks, halves_of, join, most_in_memory
from xpnet.training.device_data import DeviceData, to_device
from xpnet.training.evaluator import SETS
from xpnet.training.history import records_of
from xpnet.training.outcome_warnings import judged
from xpnet.training.population import Population
from xpnet.training.result import TrainResult, all_diverged
from xpnet.training.state import Chunk, TrainState
from xpnet.training.trainer import Trainer
from xpnet.training.validate import check_fit, on_device_of


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
    orders=optional(seeds),
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
    orders: Sequence[int] | None = None,
    final: Sequence[str] = SETS,
    cuts: Sequence[Chunk] | None = None,
    starts: Mapping[Chunk, TrainState] = MappingProxyType({}),
) -> tuple[Network, TrainResult]:
    """Train the networks of a population, in several chunks if memory does not hold all of them at once.

    Args:
        population: The networks and their settings.
        data: A data set, or one that :func:`xpnet.to_device` has prepared.
        backend: Where to compute; the CPU if not given.
        dtype: ``"float32"`` or ``"float64"``.
        max_replicas: Most networks in a chunk; if not given, as many as fit into half of the free memory.
        callbacks: Instances of :class:`xpnet.Callback`.  With several chunks, `on_epoch_end` is called after all are
            trained, and `on_prune` for each chunk.
        orders: Seed of each network's order of samples; by default :func:`order_seeds` of the settings.
        final: Sets to evaluate at the end.
        cuts: The chunks, if an earlier training has chosen them.
        starts: States from which chunks continue.

    Returns:
        The network of all replicas, and one result, as for a single chunk.

    Raises:
        ConfigError: The data and the settings do not fit together, or memory does not hold one network.
        DivergedError: All networks have diverged.
    """
    backend = backend or get_backend("cpu")
    if isinstance(data, Dataset):
        first = population.part(0, 1)
        check_fit(Network(first.network, backend=backend, dtype=dtype, seed=first.seeds), data, first.train)
        data = to_device(data, backend, dtype, population.train)
    if cuts is None:
        cuts = chunks(population, max_replicas or most_in_memory(population, data, backend, dtype))
    own = order_seeds(population.train, population.seeds)
    own = own if orders is None else per_replica("orders", orders, len(population))
    training = _PopulationTraining(population, data, backend, dtype, callbacks, own, final, dict(starts))
    network, result = training(list(cuts))
    result = judged(result, population.network, population.train, data.data, population.rows, network)
    for callback in callbacks:
        callback.on_train_end(result)
    return network, result


@dataclass
class _PopulationTraining:
    """The training of a population's chunks, one after another."""

    population: Population
    data: DeviceData
    backend: Backend
    dtype: str
    callbacks: Sequence[Callback]
    orders: tuple[int, ...]
    final: Sequence[str]
    starts: dict[Chunk, TrainState]

    def __post_init__(self) -> None:
        self.length = self.population.train.length(self.data.samples, self.population.network)
        self.everything: Chunk = (0, len(self.population))
        start = self.starts.get(self.everything)
        self.records = () if start is None else tuple(records_of(start.history))
        self.passed = len(self.records)  # number of epochs passed to callbacks

    def __call__(self, cuts: list[Chunk]) -> Trained:
        """Train all chunks; a chunk for which memory runs out is cut in halves."""
        for callback in self.callbacks:
            callback.on_train_begin(TrainPlan(self.length, tuple(cuts), self.records))
        done: list[Trained] = []
        pending = list(cuts)
        while pending:
            halves: list[Chunk] = []
            try:
                done.append(self._train_chunk(pending[0]))
            except Exception as error:
                if not out_of_memory(error):
                    raise
                # The estimate of memory was too low, or other processes have taken memory since.
                halves = halves_of(pending[0], self.backend)
            if halves:  # outside the handler, so that the exception's frames no longer hold memory
                give_back(self.backend)
                self._split(pending.pop(0), halves)
                pending[:0] = halves
                cuts = [*cuts[: len(done)], *pending]
                for callback in self.callbacks:
                    self.starts |= callback.on_chunk_split(TrainPlan(self.length, tuple(cuts))) or {}
            elif pending.pop(0) == self.everything:
                return done[0]
            elif done[-1][1].interrupted:
                break
        network, result = join(self.population, done, self.length)
        for record in result.history.epochs[self.passed :]:
            for callback in self.callbacks:
                callback.on_epoch_end(record)
        if len(result.diverged) == network.replicas:
            normalised = self.population.network.normalises
            of = (result.diverged, self.population.train, network.replicas, result.history)
            raise all_diverged(*of, normalised=normalised)
        return network, result

    def _train_chunk(self, chunk: Chunk) -> Trained:
        population = self.population.part(*chunk)
        network = Network(population.network, backend=self.backend, dtype=self.dtype, seed=population.seeds)
        data = on_device_of(network, self.data.part(*chunk), population.train)
        network.learn_about(data.data)
        trainer = Trainer(
            network,
            data,
            population.train,
            orders=self.orders[slice(*chunk)],
            callbacks=self.callbacks,
            start=self.starts.get(chunk),
            chunk=chunk,
            population=len(self.population),
        )
        try:
            return network, trainer.run(self.final)
        except DivergedError:
            if chunk == self.everything:
                raise
            return network, trainer.result(final=())
        finally:
            if chunk == self.everything:
                self.passed = len(trainer.history)

    def _split(self, chunk: Chunk, halves: list[Chunk]) -> None:
        """Make the halves of a chunk continue from its state."""
        start = self.starts.pop(chunk, None)
        if start is not None:
            self.starts |= {half: start.part(half[0] - chunk[0], half[1] - chunk[0]) for half in halves}
