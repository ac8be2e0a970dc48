"""Data sets on a device, standardised or ready to be."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from xpnet.backend import Array, Backend, free_memory
from xpnet.config.arguments import floating, kind, takes
from xpnet.data import Dataset, LabelledSet, Rows
from xpnet.ops import keeps_bytes

# Of the memory that is free, what a set may take; the rest is for networks.
_SHARE = 0.7
# Raw features and their standardised copy are kept side by side while both take at most this many times the
# copy, and this many bytes: what docs/data.md promises about memory.
_MOST, _SLACK = 1.2, 50 * 2**20
# Of the memory that is free on the host, what a copy may take.
_SHARE_FOR_COPY = 0.5


@dataclass(frozen=True)
class DeviceSet:
    """Samples on a device.

    Attributes:
        x: Features (n, d), standardised in the network's dtype, or raw ones that read so; on the host if they are
            too large for the device.
        labels: Classes (n,), whole numbers.
    """

    x: Array
    labels: Array


@dataclass(frozen=True)
class DeviceData:
    """A data set that has been standardised and moved to a device, ready for any number of runs."""

    data: Dataset
    backend: Backend
    dtype: Any
    train: DeviceSet
    validation: DeviceSet
    test: DeviceSet


@takes(data=kind(Dataset), backend=kind(Backend), dtype=floating)
def to_device(data: Dataset, backend: Backend, dtype: Any) -> DeviceData:
    """Standardise `data` with the training set's mean and standard deviation and move it to a device.

    Rows that stay on the disk, bytes where gathering from them is faster, and what a floating copy would take too much
    memory of are standardised batch by batch; ``data.in_memory`` decides otherwise. On a GPU a set that would take
    more than most of the free memory stays on the host; training and evaluation bring it there piece by piece.

    Args:
        data: A data set.
        backend: The device, as :func:`xpnet.get_backend` returns it.
        dtype: Type of the networks that it is for: ``"float32"``, ``"float64"``, or NumPy's.

    Returns:
        The sets on the device, which :func:`xpnet.train` takes in place of `data` for any number of runs.

    Raises:
        DataError: Raw features were asked for, and one's mean or deviation lies beyond the normal numbers of `dtype`.
    """
    sets = {name: set_to_device(data, name, backend, dtype) for name in ("validation", "test", "train")}
    return DeviceData(data, backend, np.dtype(dtype), **sets)


def set_to_device(data: Dataset, which: str, backend: Backend, dtype: Any) -> DeviceSet:
    """Standardise one set of `data`, ``train``, ``validation`` or ``test``, and move it; see :func:`to_device`."""
    dtype = np.dtype(dtype)
    raw = stays_raw(data, backend, dtype)
    part: LabelledSet = getattr(data, which)
    labels = backend.asarray(part.labels)
    if backend.name != "gpu":
        if raw and backend.name == "cpu":
            return DeviceSet(data.standardiser.lazily(part.x, str(dtype)), labels)
        return DeviceSet(backend.asarray(data.standardiser(part.x, str(dtype))), labels)
    as_bytes = raw and part.x.dtype == np.uint8
    free = free_memory(backend)
    size = part.x.size * (1 if as_bytes else dtype.itemsize)
    there = free is None or size <= _SHARE * free
    if as_bytes:
        kept = data.standardiser.lazily(part.x, str(dtype))
        return DeviceSet(kept.to(backend.asarray, move_x=there), labels)
    if raw and not there:
        return DeviceSet(data.standardiser.lazily(part.x, str(dtype)), labels)
    values = data.standardiser(part.x, str(dtype))
    return DeviceSet(backend.asarray(values) if there else values, labels)


def stays_raw(data: Dataset, backend: Backend, dtype: Any) -> bool:
    """Return whether features stay as they were read, and are standardised batch by batch.

    ``data.in_memory`` decides where it is ``"raw"`` or ``"float"``. Otherwise rows on the disk stay there, uint8 stays
    where gathering from bytes is faster, and everything stays of which a floating copy would take too much.
    """
    if data.in_memory != "auto":
        return data.in_memory == "raw"
    x = data.train.x
    if isinstance(x, Rows) or (x.dtype == np.uint8 and keeps_bytes(backend)):
        return True
    values = sum(part.x.size for part in (data.train, data.validation, data.test))
    held, copy = values * x.dtype.itemsize, values * np.dtype(dtype).itemsize
    free = free_memory(backend) if backend.name == "cpu" else None
    return held + copy > _MOST * copy + _SLACK or (free is not None and copy > _SHARE_FOR_COPY * free)
