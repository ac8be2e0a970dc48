"""Data sets on a device, standardised in advance or batch by batch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from xpnet.backend import Array, Backend, free_memory
from xpnet.config.arguments import floating, kind, takes
from xpnet.data import Dataset, Rows
from xpnet.ops import keeps_bytes

# Share of a device's free memory that a set may take; the rest is for networks.
_SHARE = 0.7
# Raw features and their standardised copy are both kept if together they take at most this many times the copy, plus
# this many bytes, as docs/data.md promises.
_MOST, _SLACK = 1.2, 50 * 2**20
# Share of the host's free memory that a copy may take.
_SHARE_FOR_COPY = 0.5


@dataclass(frozen=True)
class DeviceSet:
    """Samples on a device.

    Attributes:
        x: Features (n, d), standardised in the network's dtype, or raw features that are standardised when they are
            read; on the host if they are too large for the device.
        labels: Classes (n,), integers.
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
    """Return `data`, standardised with the training set's mean and standard deviation, on a device.

    Rows on the disk, bytes where gathering from them is faster, and features whose floating copy would take too much
    memory are standardised batch by batch, unless ``data.in_memory`` says otherwise. A set that would take more than
    70 % of a GPU's free memory stays on the host; training and evaluation transfer it piece by piece.

    Args:
        data: A data set.
        backend: The device, as :func:`xpnet.get_backend` returns it.
        dtype: Type of the networks: ``"float32"``, ``"float64"``, or the NumPy type.

    Returns:
        The sets on the device, which :func:`xpnet.train` takes in place of `data` for any number of runs.

    Raises:
        DataError: Raw features are required, but a feature's mean or deviation is outside the normal numbers of
            `dtype`.
    """
    sets = {name: set_to_device(data, name, backend, dtype) for name in ("validation", "test", "train")}
    return DeviceData(data, backend, np.dtype(dtype), **sets)


def set_to_device(data: Dataset, which: str, backend: Backend, dtype: Any) -> DeviceSet:
    """Return one set of `data`, ``train``, ``validation`` or ``test``, on a device; see :func:`to_device`."""
    dtype, samples = np.dtype(dtype), getattr(data, which)
    x, labels = samples.x, backend.asarray(samples.labels)
    raw, on_gpu = stays_raw(data, backend, dtype), backend.name == "gpu"
    as_bytes = raw and x.dtype == np.uint8
    free = free_memory(backend) if on_gpu else None
    fits = free is None or x.size * (1 if as_bytes else dtype.itemsize) <= _SHARE * free
    if on_gpu and as_bytes:
        return DeviceSet(data.standardiser.lazily(x, str(dtype)).to(backend.asarray, move_x=fits), labels)
    if raw and (backend.name == "cpu" or not fits):
        return DeviceSet(data.standardiser.lazily(x, str(dtype)), labels)
    values = data.standardiser(x, str(dtype))
    return DeviceSet(backend.asarray(values) if fits else values, labels)


def stays_raw(data: Dataset, backend: Backend, dtype: Any) -> bool:
    """Return whether features stay raw, and are standardised batch by batch.

    ``data.in_memory`` decides unless it is ``"auto"``. In that case features stay raw if they are on the disk, if they
    are uint8 and gathering bytes is faster, or if their floating copy would take too much memory.
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
