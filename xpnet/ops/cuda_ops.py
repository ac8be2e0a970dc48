"""Operations by fused CUDA kernels (``cuda/*.cu``) and cuBLAS: one launch where plain array code has up to a dozen.

The function of the same name in :mod:`xpnet.ops.reference` defines each operation.  With `out`, operations do not
allocate, copy between host and device, or wait; so a step made of them can be captured in a CUDA graph once it has run
once.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np

from xpnet.backend import Array, Backend
from xpnet.data import StandardisedRows, TransformedRows
from xpnet.ops import reference
from xpnet.ops.cuda.activation_ops import ActivationOps
from xpnet.ops.cuda.buffers import THREADS, ceil_div
from xpnet.ops.cuda.dropout import DropoutKernels
from xpnet.ops.cuda.launches import stride_of
from xpnet.ops.cuda.products import Products, fits
from xpnet.ops.cuda.updates import UpdateKernels
from xpnet.ops.reference import Activated, BatchNormActivation, BatchNormGradients, CrossEntropy

# Cells of a picture that one block computes: several to a thread, which looks up the view once.
_CELLS = 4 * THREADS


class CudaOps(ActivationOps, DropoutKernels, UpdateKernels):
    """The operations of one GPU; its methods are the entries of :class:`xpnet.ops.Ops`."""

    def __init__(self, backend: Backend) -> None:
        super().__init__(backend.xp)
        self._products = Products(backend.xp, backend.tf32)

    def gather(self, rows: Array, x: Any, out: Array | None = None, work: Array | None = None) -> Array:
        """Gather as :func:`xpnet.ops.reference.gather`; `work` is what :meth:`room_for_pictures` returned."""
        if x.ndim != 2:
            return reference.gather(self._xp, rows, x)
        if rows.dtype != np.int64:
            rows = rows.astype("int64")
        if isinstance(x, TransformedRows):
            return self._gather_pictures(rows, x, out, work)
        d = int(x.shape[1])
        out = self._empty(x, *rows.shape, d) if out is None else out
        raw = isinstance(x, StandardisedRows)
        sources = (x.x, x.whole, x.rest, x.factor) if raw else (x,)
        name, grid = "gather_bytes" if raw else "gather_values", (int(rows.size), ceil_div(d, 4 * THREADS))
        self.launch(name, out.dtype, grid, (THREADS,), rows, *sources, out, np.int32(d))
        return out

    def room_for_pictures(self, rows: int, x: Any) -> Array | None:
        """Return memory for the inputs of so many rows before their projection; None if `x` has no projection."""
        projects = isinstance(x, TransformedRows) and x.projection is not None
        return self._empty(x, rows, len(x.factor)) if projects else None

    def _gather_pictures(self, rows: Array, x: TransformedRows, out: Array | None, work: Array | None) -> Array:
        as_bytes = x.x.dtype == np.uint8
        if x.image_shape is None or not (as_bytes or x.x.dtype == x.dtype):  # no pictures, or of another type
            return reference.gather(self._xp, rows, x)
        count, width = int(rows.size), x.shape[1]
        out = self._empty(x, *rows.shape, width) if out is None else out
        pixels = out if x.projection is None else self.room_for_pictures(count, x) if work is None else work
        name = "gather_picture_bytes" if as_bytes else "gather_picture_values"
        grid, sizes = (count, ceil_div(len(x.factor), _CELLS)), map(np.int32, (*x.image_shape, x.pool))
        view = (np.bool_(x.border == "constant"), np.int32(x.cutout))
        arguments = (rows, x.x, x.whole, x.rest, x.factor, pixels, *sizes, *view)
        self.launch(name, x.dtype, grid, (THREADS,), *arguments)
        if x.projection is not None:
            self._product(pixels, x.projection, out.reshape(1, count, width))
        return out

    def affine(self, x: Array, W: Array, b: Array | None, out: Array | None = None) -> Array:
        s = self._product(x, W, out)
        if b is not None:
            replicas, n, m = s.shape
            self._by_number("add_bias", s, replicas, s, b, stride_of(b), np.int64(n * m), np.int32(m))
        return s

    def input_gradient(self, g: Array, W: Array, out: Array | None = None) -> Array:
        return self._product(g, W, out, transpose_b=True)

    def weight_gradient(self, x: Array, g: Array, out: Array | None = None) -> Array:
        return self._product(x, g, out, transpose_a=True)

    def _product(self, a: Array, b: Array, out: Array | None, **options: bool) -> Array:
        a, b = (matrix if fits(matrix) else self._xp.ascontiguousarray(matrix) for matrix in (a, b))
        if out is None:
            rows = a.shape[-1] if options.get("transpose_a") else a.shape[-2]
            columns = b.shape[-2] if options.get("transpose_b") else b.shape[-1]
            replicas = max(matrix.shape[0] if matrix.ndim == 3 else 1 for matrix in (a, b))
            out = self._empty(b, replicas, rows, columns)
        self._products(a, b, out, **options)
        return out

    def bias_gradient(self, g: Array, out: Array | None = None) -> Array:
        replicas, _, m = g.shape
        out = self._empty(g, replicas, 1, m) if out is None else out
        self._by_unit("bias_gradient", g, g, out)
        return out

    def relu(self, s: Array, out: Array | None = None) -> Array:
        out = self._empty(s) if out is None else out
        self._by_number("relu", s, 1, s, out, np.int64(s.size))
        return out

    def bias_relu(self, s: Array, b: Array, out: Activated | None = None) -> Activated:
        out = Activated(self._empty(s)) if out is None else out
        replicas, n, m = s.shape
        self._by_number("bias_relu", s, replicas, s, b, stride_of(b), out.y, np.int64(n * m), np.int32(m))
        return out

    def bias_relu_inference(self, s: Array, b: Array) -> Array:
        return self.bias_relu(s, b).y

    def relu_gradient(self, g: Array, forward: Activated, out: Array | None = None) -> Array:
        out = self._empty(g) if out is None else out
        self._by_number("relu_gradient", g, 1, g, forward.y, out, np.int64(g.size))
        return out

    def batch_norm_relu(
        self, s: Array, gamma: Array, beta: Array, eps: float, out: BatchNormActivation | None = None
    ) -> BatchNormActivation:
        if out is None:
            units = [self._empty(s, s.shape[0], 1, s.shape[2]) for _ in range(3)]
            out = BatchNormActivation(self._empty(s), self._empty(s), *units)
        scales = (gamma, stride_of(gamma), beta, stride_of(beta), s.dtype.type(eps))
        self._by_unit("batch_norm_relu", s, s, *scales, *out[:5])
        return out

    def batch_norm_relu_gradients(
        self, g: Array, forward: BatchNormActivation, gamma: Array, out: BatchNormGradients | None = None
    ) -> BatchNormGradients:
        if out is None:
            units = [self._empty(g, g.shape[0], 1, g.shape[2]) for _ in range(2)]
            out = BatchNormGradients(self._empty(g), *units)
        inputs = (g, forward.y, forward.centred, forward.inv_std, gamma, stride_of(gamma))
        self._by_unit("batch_norm_relu_gradients", g, *inputs, *out[:3])
        return out

    def batch_norm_relu_inference(
        self, s: Array, mean: Array, var: Array, gamma: Array, beta: Array, eps: float
    ) -> Array:
        (replicas, n, m), out = s.shape, self._empty(s)
        units = [part for array in (mean, var, gamma, beta) for part in (array, stride_of(array))]
        sizes = (np.int64(n * m), np.int32(m))
        self._by_number("batch_norm_relu_inference", s, replicas, s, *units, s.dtype.type(eps), out, *sizes)
        return out

    def softmax(self, s: Array) -> Array:
        out, c = self._empty(s), int(s.shape[-1])
        rows = s.size // c
        self.launch("softmax", s.dtype, (ceil_div(rows, 8),), (32, 8), s, out, np.int32(rows), np.int32(c))
        return out

    def softmax_cross_entropy(
        self, s: Array, labels: Array, scale: Array | float, out: CrossEntropy | None = None
    ) -> CrossEntropy:
        (replicas, n, c), real = s.shape, s.dtype.type
        if out is None:
            correct = self._xp.empty((replicas, n), dtype=bool)
            out = CrossEntropy(self._empty(s, replicas, n), correct, self._empty(s))
        labels, of_replica = self._labels(labels)
        arguments = (s, labels, of_replica, *_scales(scale, real), *out[:3], np.int32(n), np.int32(c))
        self.launch("softmax_cross_entropy", s.dtype, (ceil_div(n, 8), replicas), (32, 8), *arguments)
        return out

    def smooth_labels(self, entropy: CrossEntropy, s: Array, labels: Array, alpha: Array, scale: Array | float) -> None:
        (replicas, n, c), (labels, of_replica) = s.shape, self._labels(labels)
        scales = (alpha, stride_of(alpha), *_scales(scale, s.dtype.type))
        arguments = (s, labels, of_replica, *scales, entropy.losses, entropy.g, np.int32(n), np.int32(c))
        self.launch("smooth_labels", s.dtype, (ceil_div(n, 8), replicas), (32, 8), *arguments)

    def weigh_samples(self, entropy: CrossEntropy, weights: Array, rows: Array | None = None) -> None:
        replicas, n, c = entropy.g.shape
        places = weights if rows is None else rows
        own = np.int64(n if places.ndim == 2 and places.shape[0] > 1 else 0)
        arguments = (weights, rows, own, entropy.losses, entropy.g, np.int32(n), np.int32(c))
        self.launch("weigh_samples", entropy.g.dtype, (ceil_div(n, 8), replicas), (32, 8), *arguments)

    def _labels(self, labels: Array) -> tuple[Array, np.int64]:
        """Return labels as the kernels read them, which know no strides, and how many a replica has for itself."""
        if labels.dtype != np.int32 or not labels.flags.c_contiguous:
            labels = self._xp.ascontiguousarray(labels, dtype="int32")
        return labels, np.int64(labels.shape[-1] if labels.ndim == 2 and labels.shape[0] > 1 else 0)

    def tally(self, entropy: CrossEntropy, losses: Array, hits: Array) -> None:
        n = np.int32(entropy.losses.shape[1])
        self._by_replica("tally", entropy.losses, entropy.losses, entropy.correct, losses, hits, n)

    def begin_step(self, n: int, orders: int, cursor: Array, perm: Array, *arrays: Array) -> None:
        """Launch the kernel ``begin_step`` for batches of `n` in `orders` orders (1, or one for each replica)."""
        scale = arrays[6]
        replicas = int(scale.shape[0])
        arguments = (cursor, perm, np.int64(orders), *arrays, np.int32(n), np.int32(replicas))
        self.launch("begin_step", scale.dtype, (ceil_div(max(orders * n, replicas), THREADS),), (THREADS,), *arguments)

    def end_step(self, n: int, cursor: Array, counter: Array, *arrays: Array) -> None:
        """Launch the kernel ``end_step`` for batches of `n`."""
        self._by_replica("end_step", arrays[0], cursor, counter, *arrays, np.int32(n))


@lru_cache(maxsize=16)  # each has a handle of cuBLAS, and workspace on its device
def cuda_ops(backend: Backend) -> CudaOps:
    """Return the operations of the GPU of `backend`, the same object at every call."""
    return CudaOps(backend)


def _scales(scale: Array | float, real: Any) -> tuple[Any, np.int64, Any]:
    """Return a factor as kernels take it: one for each replica, their stride, and one for all."""
    return (None, np.int64(0), real(scale)) if isinstance(scale, (int, float)) else (scale, stride_of(scale), real(1))
