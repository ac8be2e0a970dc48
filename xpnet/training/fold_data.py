"""The sets of several folds on a device, so that networks of all folds train as one population."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

import numpy as np

from xpnet.backend import Array, Backend, free_memory
from xpnet.config.training import TrainConfig
from xpnet.data import Dataset, Rows
from xpnet.training.device_data import DeviceData, DeviceSet, stays_raw, to_device

# Share of the free memory that the inputs of folds may take while they are put side by side; the rest is for networks.
_SHARE = 0.25
# Bytes in a uint8 data set's floating copies, up to which folds are worth them.
_COPIES = 256 * 2**20
# Steppers that are made for one network, or for few.
_OF_ONE_SET = ("split", "units", "small")


@dataclass(frozen=True)
class FoldedData(DeviceData):
    """The data of several folds for a population in which every network belongs to a fold.

    The training sets of the folds lie one after another in `train`, each transformed as its own fold's transform says,
    so that a step gathers the samples of all networks from one array.  They have the same number of rows.

    Attributes:
        parts: The data of each fold.
        folds: The fold of each network, as a position in `parts`; networks of one fold are neighbours.
    """

    parts: tuple[DeviceData, ...] = ()
    folds: tuple[int, ...] = ()

    @property
    def samples(self) -> int:
        """Number of samples that each network trains on: those of one fold."""
        return self.parts[0].samples

    def offsets_of(self, numbers: Iterable[int] | None = None) -> tuple[int, ...]:
        """Return the first row of the samples of some networks, or all."""
        folds = self.folds if numbers is None else [self.folds[r] for r in numbers]
        return tuple(fold * self.samples for fold in folds)

    def by_training_row(self, values: Callable[[Dataset], Array | None]) -> Array | None:
        """Return an array with a value for each row of the training set, fold after fold; None stands for ones."""
        parts = [values(part.data) for part in self.parts]
        if all(part is None for part in parts):
            return None
        xp = self.backend.xp
        return xp.concatenate([xp.ones((self.samples,), self.dtype) if part is None else part for part in parts])

    def for_networks(self, count: int) -> FoldedData:
        """Return the data for a population with `count` networks in each fold, fold by fold."""
        return dataclasses.replace(self, folds=tuple(np.repeat(np.arange(len(self.parts)), count).tolist()))

    def part(self, start: int, stop: int) -> FoldedData:
        """Return the data of the networks from `start` up to `stop`."""
        return dataclasses.replace(self, folds=self.folds[start:stop])

    def groups(self, numbers: Sequence[int]) -> list[tuple[DeviceData, int, int]]:
        """Return the data of each fold with its networks among `numbers`, as positions (start, stop) in `numbers`."""
        groups, start = [], 0
        for fold, members in groupby(self.folds[r] for r in numbers):
            stop = start + len(list(members))
            groups.append((self.parts[fold], start, stop))
            start = stop
        return groups


def side_by_side(datasets: Sequence[Dataset], backend: Backend, dtype: Any) -> FoldedData:
    """Return folds with training sets of one size on a device; :meth:`FoldedData.for_networks` adds the networks."""
    parts = [to_device(dataclasses.replace(data, in_memory="float"), backend, dtype) for data in datasets]
    train, n = _concatenated(backend, [part.train for part in parts]), parts[0].samples
    views = [_rows(train, slice(n * fold, n * (fold + 1))) for fold in range(len(parts))]
    parts = [dataclasses.replace(part, train=view) for part, view in zip(parts, views, strict=True)]
    first = parts[0]
    return FoldedData(
        data=first.data,
        backend=backend,
        dtype=first.dtype,
        train=train,
        validation=first.validation,
        test=first.test,
        seconds=sum(part.seconds for part in parts),
        parts=tuple(parts),
    )


def folds_at_once(data: Dataset, backend: Backend, dtype: Any, config: TrainConfig) -> int:
    """Return how many folds like `data` can train as one population; 1 if their inputs are computed batch by batch.

    A population of one fold shares the raw features of its data set, whatever they are: pictures that are changed at
    random, rows on the disk, or bytes of which a floating copy would be large.
    """
    size = np.dtype(dtype).itemsize * data.inputs * sum(data.counts.values())
    free = free_memory(backend)
    # Folds take their memory twice while they are put side by side.
    fit: int = _COPIES // size if free is None else int(_SHARE * free) // (2 * size)
    computed = config.augments or config.views > 1 or isinstance(data.train.x, Rows) or data.in_memory == "raw"
    if computed or config.stepper in _OF_ONE_SET:
        return 1
    if stays_raw(data, backend, dtype):
        fit = min(fit, _COPIES // size)
    return max(1, fit)


def _concatenated(backend: Backend, sets: Sequence[DeviceSet]) -> DeviceSet:
    """Return sets one after another, with all their arrays."""
    names = [field.name for field in dataclasses.fields(DeviceSet)]
    arrays = {name: [getattr(one, name) for one in sets] for name in names}
    return DeviceSet(
        **{name: None if values[0] is None else backend.xp.concatenate(values) for name, values in arrays.items()}
    )


def _rows(samples: DeviceSet, rows: slice) -> DeviceSet:
    """Return some rows of a set, as views."""
    arrays: dict[str, Array] = {field.name: getattr(samples, field.name) for field in dataclasses.fields(DeviceSet)}
    return DeviceSet(**{name: None if values is None else values[rows] for name, values in arrays.items()})
