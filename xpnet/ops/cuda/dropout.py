"""Dropout by CUDA kernels; see ``dropout.cu``."""

from __future__ import annotations

from typing import Any

import numpy as np

from xpnet.backend import Array
from xpnet.ops import reference
from xpnet.ops.cuda.buffers import THREADS, ceil_div
from xpnet.ops.cuda.launches import Launches
from xpnet.ops.masks import Dropped, Mask


class DropoutKernels(Launches):
    """The operations of dropout, as :mod:`xpnet.ops.reference` defines them."""

    def dropout(self, x: Array, mask: Mask, out: Dropped | None = None) -> Dropped:
        """Drop values of `x` as :func:`xpnet.ops.reference.dropout`."""
        if mask.sample or mask.unit:  # of a part of a batch, which no kernel here is given
            return reference.dropout(self._xp, x, mask)
        masks, (n, m) = len(mask.keys), x.shape[-2:]
        of_replica = 0 if x.ndim == 2 or x.shape[0] == 1 else n * m
        shared = x.ndim == 2 and masks == 1
        if out is None:
            replicas = masks if x.ndim == 2 else max(masks, x.shape[0])
            y = self._xp.empty((n, m) if shared else (replicas, n, m), dtype=x.dtype)
            kept = self._xp.empty((n, m) if shared else (masks, n, m), dtype="bool")
            out = Dropped(y, kept, mask.scales[0] if shared else mask.scales)
        if not x.flags.c_contiguous:
            x = self._xp.ascontiguousarray(x)
        grid = ceil_div(n * ceil_div(m, 4), THREADS), 1 if shared else out.y.shape[0]
        drawn = mask.keys, mask.limits, mask.scales, np.int32(masks), mask.step, np.int32(mask.layer)
        arguments = (x, np.int64(of_replica), *drawn, *out[:2], np.int32(n), np.int32(m))
        self.launch("dropout", x.dtype, grid, (THREADS,), *arguments)
        return out

    def dropout_gradient(self, g: Array, dropped: Dropped) -> None:
        """Change the gradient `g` in place as :func:`xpnet.ops.reference.dropout_gradient`."""
        _, kept, scales = dropped
        replicas = g.shape[0] if g.ndim == 3 else 1
        size, masks = g.size // replicas, kept.shape[0] if kept.ndim == 3 else 1
        arguments = (g, kept, scales, np.int32(masks), np.int64(size))
        self.launch("dropout_gradient", g.dtype, (ceil_div(size, THREADS), replicas), (THREADS,), *arguments)

    def step_of_masks(self, dtype: Any, first: Array, cursor: Array, step: Array) -> None:
        """Write the number of the step at `cursor`, of those from number `first` on, to `step`, each (1,) of int32."""
        self.launch("step_of_masks", dtype, (1,), (1,), first, cursor, step)
