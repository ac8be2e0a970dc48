"""Data sets on a device, standardised or ready to be."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from xpnet.backend import Array, Backend
from xpnet.data import Data, LabelledSet
from xpnet.memory import free_memory
from xpnet.ops import keeps_bytes

# Of the memory that is free, what a set may take; the rest is for networks.
_SHARE = 0.7


@dataclass(frozen=True)
class DeviceSet:
    """Samples on a device.

    Attributes:
        x: Features (n, d), standardised in the network's dtype, or bytes that read so; on the host if they are
            too large for the device.
        labels: Classes (n,), whole numbers.
    """

    x: Array
    labels: Array


@dataclass(frozen=True)
class DeviceData:
    """A data set that has been standardised and moved to a device, ready for any number of runs."""

    data: Data
    backend: Backend
    dtype: Any
    train: DeviceSet
    validation: DeviceSet
    test: DeviceSet


def to_device(data: Data, backend: Backend, dtype: Any) -> DeviceData:
    """Standardise `data` with the training set's mean and standard deviation and move it to a device.

    On a GPU a set that would take more than most of the free memory stays on the host; training and evaluation
    bring it there piece by piece.
    """
    dtype = np.dtype(dtype)

    def move(part: LabelledSet) -> DeviceSet:
        labels = backend.asarray(part.labels)
        as_bytes = part.x.dtype == np.uint8 and keeps_bytes(backend)
        if backend.name == "cpu":
            x = data.standardiser.of_bytes(part.x, str(dtype)) if as_bytes else data.standardiser(part.x, str(dtype))
            return DeviceSet(backend.asarray(x) if not as_bytes else x, labels)
        free = free_memory(backend)
        size = part.x.size * (1 if as_bytes else dtype.itemsize)
        there = free is None or size <= _SHARE * free
        if as_bytes:
            kept = data.standardiser.of_bytes(part.x, str(dtype))
            return DeviceSet(kept.to(backend.asarray, move_x=there), labels)
        values = data.standardiser(part.x, str(dtype))
        return DeviceSet(backend.asarray(values) if there else values, labels)

    validation, test = move(data.validation), move(data.test)
    return DeviceData(data, backend, dtype, move(data.train), validation, test)
