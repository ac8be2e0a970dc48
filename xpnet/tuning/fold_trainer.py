"""Training of populations on folds: on as many of them at once as memory allows.

Every network trains on the rows of its fold, with inputs that the fold's own transform gives, and sees its samples in
the order of a training on these rows alone.  So in float64 it equals that training.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import TypeAlias

from xpnet.backend import Backend
from xpnet.config.definitions import MOST_NETWORKS
from xpnet.data import Dataset
from xpnet.errors import DivergedError
from xpnet.nn.network import Network
from xpnet.training.batches import order_seeds
from xpnet.training.callback import Callback
from xpnet.training.evaluator import SETS
from xpnet.training.fold_data import FoldedData, folds_at_once, side_by_side
from xpnet.training.population import Population
from xpnet.training.result import TrainResult
from xpnet.training.state import Chunk, TrainState
from xpnet.training.train_population import train_population

PopulationFor: TypeAlias = Callable[[Dataset], Population]
OrdersOf: TypeAlias = Callable[[Population], tuple[int, ...]]


@dataclass(frozen=True)
class FoldData:
    """The data of one fold.

    Attributes:
        kind: Folds of equal kinds may train as one population: their training sets have one size, and their networks
            the same classes and, unless a transform of their own makes them differ, the same inputs.
        dataset: Function that returns the sets, with a transform that is fitted on the fold's training set.
    """

    kind: Hashable
    dataset: Callable[[], Dataset]


@dataclass(frozen=True)
class TrainedFolds:
    """A population that was trained on some folds.

    Attributes:
        folds: Numbers of the folds.
        datasets: Their data.
        network: The networks of the first fold, those of the second, ...; None if all have diverged.
        result: The result of their training; None if all have diverged.
    """

    folds: tuple[int, ...]
    datasets: tuple[Dataset, ...]
    network: Network | None
    result: TrainResult | None

    def part(self, place: int) -> slice:
        """Return the networks of the fold at position `place` of `folds`."""
        count = 0 if self.network is None else self.network.replicas // len(self.folds)
        return slice(place * count, (place + 1) * count)


@dataclass(frozen=True)
class FoldsTogether:
    """Folds that train together.

    Attributes:
        folds: Their numbers.
        datasets: The data of each.
        data: The data of all as one.
    """

    folds: tuple[int, ...]
    datasets: tuple[Dataset, ...]
    data: Dataset | FoldedData


class FoldTrainer:
    """Trains populations on folds: on as many of them at once as memory allows.

    Args:
        folds: The data of each fold.
        backend: Where to compute.
        dtype: ``"float32"`` or ``"float64"``.
    """

    def __init__(self, folds: Sequence[FoldData], backend: Backend, dtype: str) -> None:
        self._folds, self._backend, self._dtype = folds, backend, dtype
        groups: dict[Hashable, list[int]] = {}
        for number, fold in enumerate(folds):
            groups.setdefault(fold.kind, []).append(number)
        self._groups = list(groups.values())
        self._kept: dict[tuple[int, ...], tuple[list[Dataset], FoldedData]] = {}

    def train(
        self,
        population_for: PopulationFor,
        *,
        max_replicas: int | None = None,
        callbacks: Sequence[Callback] = (),
        orders: OrdersOf = lambda own: order_seeds(own.train, own.seeds),
        final: Sequence[str] = SETS,
    ) -> Iterator[TrainedFolds]:
        """Train a population on each fold, and yield the networks of some folds at a time, until a callback stops it.

        Args:
            population_for: Function that returns the population for the data of a fold; populations for data of one
                kind have equally many networks, and differ only in what networks of one population may differ in.
            max_replicas: Most networks trained at once; None for as many as memory holds.
            callbacks: Called as if every part that is yielded were a training of its own.
            orders: Function that returns the seed of each network's order of samples; by default that of its settings.
            final: Sets to evaluate at the end.
        """
        for part in self.parts(population_for, max_replicas):
            trained = self.train_part(
                part, population_for, max_replicas=max_replicas, callbacks=callbacks, orders=orders, final=final
            )
            yield trained
            if trained.result is not None and trained.result.interrupted:
                return

    def parts(self, population_for: PopulationFor, max_replicas: int | None = None) -> Iterator[FoldsTogether]:
        """Yield the folds that train together, some at a time; the arguments are those of :meth:`train`."""
        for group in self._groups:
            left = list(group)
            while left:
                datasets, data = self._next(left, population_for, max_replicas or MOST_NETWORKS)
                yield FoldsTogether(tuple(left[: len(datasets)]), tuple(datasets), data)
                left = left[len(datasets) :]

    def train_part(
        self,
        part: FoldsTogether,
        population_for: PopulationFor,
        *,
        max_replicas: int | None = None,
        callbacks: Sequence[Callback] = (),
        orders: OrdersOf = lambda own: order_seeds(own.train, own.seeds),
        final: Sequence[str] = SETS,
        starts: Mapping[Chunk, TrainState] = MappingProxyType({}),
    ) -> TrainedFolds:
        """Train a population on folds that train together; the arguments are those of :meth:`train`.

        `starts` are states from which the training goes on, by their chunks.
        """
        populations = list(map(population_for, part.datasets))
        data = part.data
        if isinstance(data, FoldedData):
            data = data.for_networks(len(populations[0]))
        try:
            network, result = train_population(
                Population.joined(populations),
                data,
                backend=self._backend,
                dtype=self._dtype,
                max_replicas=max_replicas,
                callbacks=callbacks,
                orders=tuple(order for own in populations for order in orders(own)),
                final=final,
                cuts=sorted(starts) or None,
                starts=starts,
            )
        except DivergedError:
            return TrainedFolds(part.folds, part.datasets, None, None)
        return TrainedFolds(part.folds, part.datasets, network, result)

    def _next(
        self, left: list[int], population_for: PopulationFor, most: int
    ) -> tuple[list[Dataset], Dataset | FoldedData]:
        """Return the data of the first of some folds that can train together, by fold and as one.

        They are as many as memory holds, and at most `most` networks; all folds take as few turns as possible.  If all
        can train together, their data is kept for later populations.
        """
        kept = self._kept.get(tuple(left))
        first = self._folds[left[0]].dataset() if kept is None else kept[0][0]
        population = population_for(first)
        fit = min(folds_at_once(first, self._backend, self._dtype, population.train), most // len(population))
        count = -(-len(left) // -(-len(left) // max(1, fit)))
        if kept is not None and count == len(left):
            return kept
        datasets = [first]
        for fold in left[1:count]:
            data = self._folds[fold].dataset()
            if data.inputs != first.inputs:
                break
            datasets.append(data)
        if len(datasets) == 1:
            return datasets, first
        together = datasets, side_by_side(datasets, self._backend, self._dtype)
        if len(datasets) == len(left) and left in self._groups:
            self._kept[tuple(left)] = together
        return together
