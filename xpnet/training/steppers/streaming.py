"""Training on a data set that does not fit on the device: batches are copied to it before their steps."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np

from xpnet.backend import Array, Backend
from xpnet.data import StandardisedRows, TransformedRows, kept_as_bytes, samples_of
from xpnet.data.views import with_samples
from xpnet.training.steppers.stepper_state import State, StepMetrics

# Most bytes of samples to copy at a time; at least one step's samples are copied.
_BLOCK_BYTES = 64 * 2**20

MakeStepper = Callable[[Any, Array, "Array | None"], Any]


class StreamingStepper:
    """Executes the steps of another stepper on samples that stay in the host's memory.

    While the device takes the steps of one block, the host gathers the samples of the next block into pinned memory,
    from which a separate stream copies them.  Two blocks are on the device at a time: the block that the steps read,
    always at the same address, and the block that is being copied.

    Args:
        backend: The device.
        x: Features (N, d) on the host: standardised, or raw ones from which the device computes the inputs.
        labels: Classes (N,), on the device.
        make: Returns a stepper for features, labels and weights on the device.
        weights: Weight of each sample in the loss (N,), on the device; None for 1.
    """

    def __init__(
        self, backend: Backend, x: Any, labels: Array, make: MakeStepper, weights: Array | None = None
    ) -> None:
        self._backend, self._x, self._make = backend, x, make
        self._labels = backend.to_numpy(labels).astype(np.int32)
        self._weights = None if weights is None else backend.to_numpy(weights)
        self._blocks: dict[tuple[int, ...], _Block] = {}

    def run(self, state: State, perm: Any, eta: Array, metrics: StepMetrics) -> None:
        """Take one step for each row of `perm`, a NumPy array; see :class:`xpnet.training.steppers.Stepper`."""
        shape = tuple(perm.shape[1:])
        block = self._blocks.get(shape)
        if block is None:
            one = _Block(self._backend, self._x, self._labels, shape, self._make, self._weights)
            block = self._blocks[shape] = one
        for start in range(0, len(perm), block.steps):
            part = slice(start, min(start + block.steps, len(perm)))
            # The previous steps are only launched, so the device computes them while the host gathers.
            block.copy(perm[part])
            block.stepper.run(state, block.take(), eta[part], metrics.part(part.start, part.stop))


class _Block:
    """The samples of some steps with one batch shape, in pinned memory and on the device."""

    def __init__(
        self, backend: Backend, x: Any, labels: Any, shape: tuple[int, ...], make: MakeStepper, weights: Any
    ) -> None:
        xp = self._xp = backend.xp
        # Bytes are standardised on the device, and pictures are seen in their views there; the host standardises other
        # raw features.
        self._views, lazy = isinstance(x, TransformedRows), kept_as_bytes(x) or isinstance(x, TransformedRows)
        self._source = x.x if lazy else x
        self._labels, self._shape, self._weights = labels, shape, weights
        each, d = int(np.prod(shape)), int(self._source.shape[1])
        dtype = x.kind if self._views else self._source.dtype
        self.steps = max(1, _BLOCK_BYTES // (each * d * dtype.itemsize))
        count = self.steps * each
        # Features, labels, the rows of the block, whose views change with every step, and weights.
        parts = [((count, d), dtype), ((count,), np.dtype(np.int32))]
        parts += [((count,), np.dtype(np.int64))] if self._views else []
        parts += [((count,), weights.dtype)] if weights is not None else []
        self._pinned = [_pinned(xp, *part) for part in parts]
        self._ahead, self._here = ([xp.empty(size, dtype=kind) for size, kind in parts] for _ in range(2))
        self._places = np.arange(count)
        self._rows = self._here[2] if self._views else xp.arange(count)
        self._stream = xp.cuda.Stream(non_blocking=True)
        self._arrived, self._taken = xp.cuda.Event(), xp.cuda.Event()
        self._waiting = 0
        x_here = self._here[0]
        if self._views:
            features = replace(x.to(backend.asarray, move_x=False), x=x_here)
        else:
            features = StandardisedRows(x_here, x.whole, x.rest, x.factor) if lazy else x_here
        self.stepper = make(features, self._here[1], self._here[-1] if weights is not None else None)

    def copy(self, rows: Any) -> None:
        """Gather the samples of `rows` (k, ...) and start to copy them to the device."""
        flat = rows.reshape(-1)
        count = self._waiting = len(flat)
        self._stream.synchronize()  # wait for the last copy from the pinned memory
        samples = samples_of(flat) if self._views else flat
        x, labels = (pinned[:count] for pinned in self._pinned[:2])
        if isinstance(self._source, StandardisedRows):
            self._source.take(samples, out=x)
        elif isinstance(self._source, np.ndarray) and self._source.dtype == x.dtype:
            np.take(self._source, samples, axis=0, out=x, mode="clip")
        else:
            x[...] = self._source[samples]
        np.take(self._labels, samples, out=labels, mode="clip")
        if self._views:
            self._pinned[2][:count] = with_samples(flat, self._places[:count])
        if self._weights is not None:
            np.take(self._weights, samples, out=self._pinned[-1][:count], mode="clip")
        with self._stream:
            self._stream.wait_event(self._taken)
            for ahead, pinned in zip(self._ahead, self._pinned, strict=True):
                ahead[:count].set(pinned[:count], stream=self._stream)
            self._arrived.record(self._stream)

    def take(self) -> Array:
        """Move the copied samples to the memory that the steps read; return the rows of each step's samples there."""
        count, current = self._waiting, self._xp.cuda.get_current_stream()
        current.wait_event(self._arrived)
        for here, ahead in zip(self._here, self._ahead, strict=True):
            here[:count] = ahead[:count]
        self._taken.record(current)
        return self._rows[:count].reshape(-1, *self._shape)


def _pinned(xp: Any, shape: tuple[int, ...], dtype: Any) -> Any:
    """Return a NumPy array in pinned memory, from which the device copies without the host."""
    size = int(np.prod(shape))
    memory = xp.cuda.alloc_pinned_memory(size * dtype.itemsize)
    return np.frombuffer(memory, dtype, size).reshape(shape)
