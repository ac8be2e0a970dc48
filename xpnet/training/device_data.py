"""Data sets on a device, standardised in advance or batch by batch."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from xpnet.backend import Array, Backend, free_memory
from xpnet.config.arguments import floating, kind, takes
from xpnet.config.fields import optional
from xpnet.config.training import MOST_SIDE, TrainConfig
from xpnet.data import Dataset, Rows, StandardisedRows, TransformedRows, on_host
from xpnet.errors import DataError
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
    """A data set that has been transformed and moved to a device, ready for any number of runs.

    Attributes:
        data: The data set.
        backend, dtype: The device, and the type of the inputs.
        train, validation, test: The sets on the device.
        views: The test set, to be read in several views; None if one view is evaluated.
        seconds: Seconds that transforming has taken, fitting included.
    """

    data: Dataset
    backend: Backend
    dtype: Any
    train: DeviceSet
    validation: DeviceSet
    test: DeviceSet
    views: DeviceSet | None = None
    seconds: float = 0.0

    @property
    def samples(self) -> int:
        """Number of samples that each network trains on."""
        return int(self.train.x.shape[0])

    def offsets_of(self, numbers: Iterable[int] | None = None) -> tuple[int, ...] | None:  # noqa: ARG002
        """Return the first row of the samples of some networks, or all; None if all networks train on all rows."""
        return None

    def by_training_row(self, values: Callable[[Dataset], Array | None]) -> Array | None:
        """Return an array with a value for each row of the training set, such as weights, which a function makes."""
        return values(self.data)

    def part(self, start: int, stop: int) -> DeviceData:  # noqa: ARG002 - for data that differs between networks
        """Return the data of the networks from `start` up to `stop`."""
        return self


@takes(data=kind(Dataset), backend=kind(Backend), dtype=floating, config=optional(kind(TrainConfig)))
def to_device(data: Dataset, backend: Backend, dtype: Any, config: TrainConfig | None = None) -> DeviceData:
    """Return `data`, standardised with the training set's mean and standard deviation, on a device.

    Rows on the disk, bytes where gathering from them is faster, and features whose floating copy would take too much
    memory are standardised batch by batch, unless ``data.in_memory`` says otherwise. A set that would take more than
    70 % of a GPU's free memory stays on the host; training and evaluation transfer it piece by piece.

    Args:
        data: A data set.
        backend: The device, as :func:`xpnet.get_backend` returns it.
        dtype: Type of the networks: ``"float32"``, ``"float64"``, or the NumPy type.
        config: Settings of the training; with flips, shifts or cutouts, the training set stays as it is, and its inputs
            are computed batch by batch.

    Returns:
        The sets on the device, which :func:`xpnet.train` takes in place of `data` for any number of runs.

    Raises:
        DataError: Raw features are required, but a feature's mean or deviation is outside the normal numbers of
            `dtype`.
    """
    others = {name: set_to_device(data, name, backend, dtype) for name in ("validation", "test")}
    begin = time.perf_counter()
    if config is not None and config.augments:
        train = raw_set(data, "train", backend, dtype, config.border, config.cutout)
    else:
        train = set_to_device(data, "train", backend, dtype)
    seconds = data.transform.seconds + time.perf_counter() - begin
    return DeviceData(data, backend, np.dtype(dtype), train, **others, seconds=seconds)


def set_to_device(data: Dataset, which: str, backend: Backend, dtype: Any) -> DeviceSet:
    """Return one set of `data`, ``train``, ``validation`` or ``test``, on a device; see :func:`to_device`."""
    dtype, samples = np.dtype(dtype), getattr(data, which)
    x, labels = samples.x, backend.asarray(samples.labels)
    raw = stays_raw(data, backend, dtype)
    as_bytes = raw and x.dtype == np.uint8
    fits = _fits(x.size * (1 if as_bytes else dtype.itemsize), backend)
    if backend.name == "gpu" and as_bytes:
        return DeviceSet(data.transform.standardised(x, str(dtype)).to(backend.asarray, move_x=fits), labels)
    if raw and (backend.name == "cpu" or not fits):
        return DeviceSet(data.transform.standardised(x, str(dtype)), labels)
    values = data.transform(x, str(dtype))
    return DeviceSet(backend.asarray(values) if fits else values, labels)


def _fits(size: int, backend: Backend) -> bool:
    """Return whether the device has room for a set of `size` bytes."""
    free = free_memory(backend) if backend.name == "gpu" else None
    return free is None or size <= _SHARE * free


def seen_in_views(data: DeviceData, config: TrainConfig) -> DeviceData:
    """Return `data` with sets whose pictures can be read in the views that a training needs.

    The training set stays raw if it is augmented, and the test set if several views of it are evaluated.

    Raises:
        DataError: The data has no pictures, or a shift or cutout is larger than they are.
    """
    sets: dict[str, Any] = {}
    if config.augments or config.views > 1:
        check_views(data.data, config)
    if config.augments:
        sets["train"] = raw_set(data.data, "train", data.backend, data.dtype, config.border, config.cutout, data.train)
    if config.views > 1:
        sets["views"] = raw_set(data.data, "test", data.backend, data.dtype, config.border, held=data.test)
    return replace(data, **sets)


def check_views(data: Dataset, config: TrainConfig) -> None:
    """Refuse views of data that has no pictures, and moves and squares that leave nothing of them.

    Raises:
        DataError: The settings cannot be used with the data.
    """
    used = [f"{name} = {getattr(config, name)}" for name in ("flip", "shift", "cutout") if getattr(config, name)]
    used = [text for text in used if text != "flip = none"] + ([f"views = {config.views}"] if config.views > 1 else [])
    if data.image_shape is None:
        raise DataError(f"{used[0]}: needs pictures, and {data.name} has features of another kind")
    _, height, width = data.image_shape
    most = min(height, width) - 1
    for name, size in (("shift", config.shift), ("cutout", config.cutout)):
        if size > most:
            raise DataError(f"{name} = {size}: leaves nothing of pictures of {height} x {width}; take at most {most}")
    if max(height, width) > MOST_SIDE and config.cutout:
        raise DataError(f"cutout = {config.cutout}: is for pictures of at most {MOST_SIDE} pixels a side")


def raw_set(
    data: Dataset,
    which: str,
    backend: Backend,
    dtype: Any,
    border: str = "reflect",
    cutout: int = 0,
    held: DeviceSet | None = None,
) -> DeviceSet:
    """Return a set of pictures whose inputs are computed when they are read, in the views that its rows name.

    The features stay on the host if they are too large for the device. They are not moved again if `held`, the same
    samples, has them on the device as they are.
    """
    samples = getattr(data, which)
    x = data.transform.lazily(samples.x, str(np.dtype(dtype)), data.image_shape, border, cutout)
    if backend.name == "cpu":
        return DeviceSet(x, backend.asarray(samples.labels))
    if held is not None and isinstance(held.x, StandardisedRows | TransformedRows) and not on_host(held.x):
        return DeviceSet(replace(x, x=held.x.x).to(backend.asarray), held.labels)
    fits = _fits(samples.x.size * x.kind.itemsize, backend)
    return DeviceSet(x.to(backend.asarray, move_x=fits), backend.asarray(samples.labels))


def stays_raw(data: Dataset, backend: Backend, dtype: Any) -> bool:
    """Return whether features stay raw, and are standardised batch by batch.

    ``data.in_memory`` decides unless it is ``"auto"``. In that case features stay raw if they are on the disk, if they
    are uint8 and gathering bytes is faster, or if their floating copy would take too much memory.
    """
    if not data.transform.plain:
        return False
    if data.in_memory != "auto":
        return data.in_memory == "raw"
    x = data.train.x
    if isinstance(x, Rows) or (x.dtype == np.uint8 and keeps_bytes(backend)):
        return True
    values = sum(part.x.size for part in (data.train, data.validation, data.test))
    held, copy = values * x.dtype.itemsize, values * np.dtype(dtype).itemsize
    free = free_memory(backend) if backend.name == "cpu" else None
    return held + copy > _MOST * copy + _SLACK or (free is not None and copy > _SHARE_FOR_COPY * free)
