"""Training a population, chunk after chunk where memory does not hold all its networks at once."""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from itertools import pairwise
from types import MappingProxyType
from typing import Any

import numpy as np

from xpnet.backend import Backend, get_backend, give_back, out_of_memory
from xpnet.config.arguments import floating, function, kind, some_of, takes, whole_numbers
from xpnet.config.fields import optional, whole
from xpnet.data import Dataset
from xpnet.errors import DivergedError
from xpnet.nn.network import Network
from xpnet.training.chunks import chunks, halves_of, most_in_memory
from xpnet.training.device_data import DeviceData, to_device
from xpnet.training.history import EpochRecord, Metrics, Values
from xpnet.training.joined_chunks import joined, nothing_left
from xpnet.training.population import Population
from xpnet.training.pruning import PruningPoint
from xpnet.training.result import TrainResult, all_diverged
from xpnet.training.state import Chunk, Standing, TrainState
from xpnet.training.train import train
from xpnet.training.trainer import SETS
from xpnet.training.validate import check_fit, order_seeds
from xpnet.training.verdicts import judged


def _cuts_of(value: Any) -> list[Chunk]:
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
    marks=whole_numbers,
    final=some_of(*SETS),
    cuts=optional(_cuts_of),
    starts=kind(Mapping),
    **dict.fromkeys(
        ("on_epoch", "on_steps", "on_chunks", "should_stop", "on_mark", "on_checkpoint"), optional(function)
    ),
)
def train_population(
    population: Population,
    data: Dataset | DeviceData,
    *,
    backend: Backend | None = None,
    dtype: str = "float32",
    max_replicas: int | None = None,
    on_epoch: Callable[[EpochRecord], None] | None = None,
    on_steps: Callable[[int], None] | None = None,
    on_chunks: Callable[[list[Chunk]], Mapping[Chunk, TrainState] | None] | None = None,
    should_stop: Callable[[], bool] | None = None,
    marks: Iterable[int] = (),
    on_mark: Callable[[PruningPoint], Iterable[int]] | None = None,
    final: Sequence[str] = SETS,
    cuts: Sequence[Chunk] | None = None,
    starts: Mapping[Chunk, TrainState] = MappingProxyType({}),
    on_checkpoint: Callable[[Chunk, Network, Standing], None] | None = None,
) -> tuple[Network, TrainResult]:
    """Train the networks of a population, in chunks where memory does not hold all of them at once.

    Args:
        population: The networks and their settings.
        data: A data set, or one that :func:`xpnet.to_device` has prepared.
        backend: Where to compute; the CPU if not given.
        dtype: ``"float32"`` or ``"float64"``.
        max_replicas: Most networks in a chunk; what fits into half of the free memory if not given.
        on_epoch: Called with each epoch's record, once; with several chunks, after the last one.
        on_steps: Called with the number of steps just taken.
        on_chunks: Called with the chunks (start, stop) before training, and again where memory runs out and one is cut
            in halves. It may return from where they go on, in place of `starts`.
        should_stop: Asked after every few steps; training ends when it returns True.
        marks: Steps at which `on_mark` is asked; see :func:`~xpnet.train`.
        on_mark: Returns the networks to be dropped; with several chunks it is asked in each, about its networks.
        final: Sets that are evaluated at the end.
        cuts: The chunks, where an earlier training has chosen them.
        starts: Where they stood, by chunk.
        on_checkpoint: Called as by :func:`~xpnet.train`, with the chunk and its network before.

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
    cuts = list(cuts)
    on_chunks = on_chunks or (lambda _: None)
    starts = on_chunks(cuts) or starts
    whole = (0, len(population))
    tell = _EachOnce(on_epoch, starts[whole].epochs if whole in starts else 0)
    orders = order_seeds(population.train, population.seeds)
    verdict = partial(judged, network=population.network, config=population.train, data=data.data, rows=population.rows)
    callbacks: dict[str, Any] = {"on_steps": on_steps, "should_stop": should_stop, "marks": [*marks], "final": final}

    def train_chunk(chunk: Chunk) -> tuple[Network, TrainResult]:
        part, alone = population.part(*chunk), chunk == whole
        network = Network(part.network, backend=backend, dtype=dtype, seed=part.seeds)
        try:
            return network, train(
                network,
                data,
                part.train,
                on_epoch=tell if alone else None,
                orders=orders[slice(*chunk)],
                on_mark=_asked_of_all(on_mark, chunk[0], len(population)),
                start=starts.get(chunk),
                on_checkpoint=None if on_checkpoint is None else partial(on_checkpoint, chunk, network),
                **callbacks,
            )
        except DivergedError as error:
            if alone:
                raise
            return network, nothing_left(network, error)

    done: list[tuple[Network, TrainResult]] = []
    pending = list(cuts)
    while pending:
        halves: list[Chunk] = []
        try:
            done.append(train_chunk(pending[0]))
        except Exception as error:
            if not out_of_memory(error):
                raise
            # The estimate was too low, or others have taken memory since: half as many at a time.
            halves = halves_of(pending[0], backend)
        if halves:  # here, what the exception held is free
            give_back(backend)
            starts = _in_parts(starts, pending[0], halves)
            pending[:1] = halves
            cuts = cuts[: len(done)] + pending
            starts = on_chunks(cuts) or starts
        elif pending.pop(0) == whole:
            return done[0][0], verdict(done[0][1])
        elif done[-1][1].interrupted:
            break
    network, result = joined(population, done, population.train.length(int(data.train.x.shape[0])))
    for record in result.history.epochs:
        tell(record)
    if len(result.diverged) == network.replicas:
        raise all_diverged(result.diverged, population.train, network.replicas, result.history)
    return network, verdict(result)


class _EachOnce:
    """Tells of every epoch once, though a population is cut in halves after some of them.

    Args:
        on_epoch: Who is told.
        epochs: How many are known.
    """

    def __init__(self, on_epoch: Callable[[EpochRecord], None] | None, epochs: int) -> None:
        self._on_epoch, self._epochs = on_epoch, epochs

    def __call__(self, record: EpochRecord) -> None:
        if record.epoch > self._epochs:
            self._epochs = record.epoch
            if self._on_epoch is not None:
                self._on_epoch(record)


def _in_parts(starts: Mapping[Chunk, TrainState], chunk: Chunk, parts: Iterable[Chunk]) -> Mapping[Chunk, TrainState]:
    """Return from where the parts of a chunk go on, if it did not begin anew."""
    if chunk not in starts:
        return starts
    first = chunk[0]
    return {**starts, **{part: starts[chunk].part(part[0] - first, part[1] - first) for part in parts}}


def _asked_of_all(
    on_mark: Callable[[PruningPoint], Iterable[int]] | None, start: int, replicas: int
) -> Callable[[PruningPoint], Iterable[int]] | None:
    """Return what asks about a chunk by its replicas' numbers in the whole population."""
    if on_mark is None:
        return None

    def whole(values: Values) -> Values:
        all_of_them = np.full(replicas, np.nan)
        all_of_them[start : start + len(values)] = values
        return all_of_them

    def asked(mark: PruningPoint) -> list[int]:
        figures = mark.validation
        validation = Metrics(whole(figures.accuracies), whole(figures.losses), whole(figures.costs))
        living = tuple(r + start for r in mark.replicas)
        chunk = start, start + len(figures.losses)
        return [r - start for r in on_mark(PruningPoint(mark.step, living, chunk, validation))]

    return asked
