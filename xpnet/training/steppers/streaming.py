"""Training on a data set that does not fit on the device: batches are copied to it before their steps."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from xpnet.backend import Array, Backend
from xpnet.data import StandardisedRows, kept_as_bytes
from xpnet.training.steppers.stepper_state import State, StepMetrics

# Most bytes of samples to copy at a time; at least one step's samples are copied.
_BLOCK_BYTES = 64 * 2**20

MakeStepper = Callable[[Any, Array], Any]


class StreamingStepper:
    """Executes the steps of another stepper on samples that stay in the host's memory.

    While the device takes the steps of one block, the host gathers the samples of the next block into pinned memory,
    from which a separate stream copies them.  Two blocks are on the device at a time: the block that the steps read,
    always at the same address, and the block that is being copied.

    Args:
        backend: The device.
        x: Features (N, d) on the host: standardised, or bytes that are standardised by a mean and factor on the device.
        labels: Classes (N,), on the device.
        make: Returns a stepper for features and labels on the device.
    """

    def __init__(self, backend: Backend, x: Any, labels: Array, make: MakeStepper) -> None:
        self._backend, self._x, self._make = backend, x, make
        self._labels = backend.to_numpy(labels).astype(np.int32)
        self._blocks: dict[tuple[int, ...], _Block] = {}

    def run(self, state: State, perm: Any, eta: Array, metrics: StepMetrics) -> None:
        """Take one step for each row of `perm`, a NumPy array; see :class:`xpnet.training.steppers.Stepper`."""
        shape = tuple(perm.shape[1:])
        block = self._blocks.get(shape)
        if block is None:
            block = self._blocks[shape] = _Block(self._backend, self._x, self._labels, shape, self._make)
        for start in range(0, len(perm), block.steps):
            part = slice(start, min(start + block.steps, len(perm)))
            # The previous steps are only launched, so the device computes them while the host gathers.
            block.copy(perm[part])
            block.stepper.run(state, block.take(), eta[part], metrics.part(part.start, part.stop))


class _Block:
    """The samples of some steps with one batch shape, in pinned memory and on the device."""

    def __init__(self, backend: Backend, x: Any, labels: Any, shape: tuple[int, ...], make: MakeStepper) -> None:
        xp = self._xp = backend.xp
        self._bytes_kept = kept_as_bytes(x)
        # Bytes are standardised on the device, other raw features on the host.
        self._source = x.x if self._bytes_kept else x
        self._labels, self._shape = labels, shape
        each, d = int(np.prod(shape)), int(x.shape[1])
        dtype = self._source.dtype
        self.steps = max(1, _BLOCK_BYTES // (each * d * dtype.itemsize))
        count = self.steps * each
        self._pinned = _pinned(xp, (count, d), dtype), _pinned(xp, (count,), np.dtype(np.int32))
        self._ahead = xp.empty((count, d), dtype=dtype), xp.empty((count,), dtype="int32")
        self._here = xp.empty((count, d), dtype=dtype), xp.empty((count,), dtype="int32")
        self._positions = xp.arange(count).reshape(self.steps, *shape)
        self._stream = xp.cuda.Stream(non_blocking=True)
        self._arrived, self._taken = xp.cuda.Event(), xp.cuda.Event()
        self._waiting = 0
        x_here = self._here[0]
        features = StandardisedRows(x_here, x.whole, x.rest, x.factor) if self._bytes_kept else x_here
        self.stepper = make(features, self._here[1])

    def copy(self, rows: Any) -> None:
        """Gather the samples `rows` (k, ...) and start to copy them to the device."""
        flat = rows.reshape(-1)
        count = self._waiting = len(flat)
        self._stream.synchronize()  # wait for the last copy from the pinned memory
        if isinstance(self._source, StandardisedRows):
            self._source.take(flat, out=self._pinned[0][:count])
        elif isinstance(self._source, np.ndarray):
            np.take(self._source, flat, axis=0, out=self._pinned[0][:count], mode="clip")
        else:
            self._pinned[0][:count] = self._source[flat]
        np.take(self._labels, flat, out=self._pinned[1][:count], mode="clip")
        with self._stream:
            self._stream.wait_event(self._taken)
            for ahead, pinned in zip(self._ahead, self._pinned, strict=True):
                ahead[:count].set(pinned[:count], stream=self._stream)
            self._arrived.record(self._stream)

    def take(self) -> Array:
        """Move the copied samples to the memory that the steps read; return the positions of each step's samples."""
        count, current = self._waiting, self._xp.cuda.get_current_stream()
        current.wait_event(self._arrived)
        for here, ahead in zip(self._here, self._ahead, strict=True):
            here[:count] = ahead[:count]
        self._taken.record(current)
        return self._positions[: count // int(np.prod(self._shape))]


def _pinned(xp: Any, shape: tuple[int, ...], dtype: Any) -> Any:
    """Return a NumPy array in pinned memory, from which the device copies without the host."""
    size = int(np.prod(shape))
    memory = xp.cuda.alloc_pinned_memory(size * dtype.itemsize)
    return np.frombuffer(memory, dtype, size).reshape(shape)
