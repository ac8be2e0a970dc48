"""Data sets on a device, standardised or ready to be."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from xpnet.backend import Array, Backend
from xpnet.data import Data, LabelledSet
from xpnet.ops import keeps_bytes


@dataclass(frozen=True)
class DeviceSet:
    """Samples on a device.

    Attributes:
        x: Features (n, d), standardised in the network's dtype, or bytes that read so.
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
    """Standardise `data` with the training set's mean and standard deviation and move it to a device."""
    dtype = np.dtype(dtype)

    def move(part: LabelledSet) -> DeviceSet:
        if part.x.dtype == np.uint8 and keeps_bytes(backend):
            kept = data.standardiser.of_bytes(part.x, str(dtype))
            x: Any = kept if backend.name == "cpu" else kept.to(backend.asarray)
        else:
            x = backend.asarray(data.standardiser(part.x, str(dtype)))
        return DeviceSet(x, backend.asarray(part.labels))

    return DeviceData(data, backend, dtype, move(data.train), move(data.validation), move(data.test))
