"""Operations by fused CUDA kernels (``cuda/*.cu``) and cuBLAS: one launch where plain array code has up to a dozen.

Each does what its namesake in :mod:`xpnet.ops.reference` says.  With `out` nothing is allocated, nothing is copied
between host and device, and nothing waits: a step made of these can be captured in a CUDA graph once it has run
once.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np

from xpnet.backend import Array, Backend
from xpnet.data import StandardisedRows
from xpnet.ops import reference
from xpnet.ops.cuda.kernels import Kernels, kernels_for
from xpnet.ops.cuda.products import fits, products_for
from xpnet.ops.reference import BatchNormGradients, BatchNormReLU, CrossEntropy

_THREADS = 256
# Units of a block where a thread column has a unit each: a sector of memory holds eight float32.
_COLUMNS = 8
# Numbers of a replica's weights that one block sums.
_SUMMED = 8 * _THREADS


class CudaOps:
    """The operations of one GPU; its methods are the entries of :class:`xpnet.ops.Ops`."""

    def __init__(self, backend: Backend) -> None:
        self._xp = backend.xp
        self._products = products_for(backend)

    def _kernels(self, like: Array) -> Kernels:
        return kernels_for(self._xp, str(like.dtype))

    def gather(self, rows: Array, x: Any, out: Array | None = None) -> Array:
        if x.ndim != 2:
            return reference.gather(self._xp, rows, x)
        if rows.dtype != np.int64:
            rows = rows.astype("int64")
        if out is None:
            out = self._xp.empty((*rows.shape, x.shape[1]), dtype=x.dtype)
        d, kernels = int(x.shape[1]), self._kernels(out)
        grid = (int(rows.size), _ceil(d, 4 * _THREADS))
        if isinstance(x, StandardisedRows):
            sources = (x.x, x.whole, x.rest, x.factor)
            kernels("gather_bytes", grid, (_THREADS,), rows, *sources, out, np.int32(d))
        else:
            kernels("gather_values", grid, (_THREADS,), rows, x, out, np.int32(d))
        return out

    def affine(self, x: Array, W: Array, b: Array | None, out: Array | None = None) -> Array:
        s = self._product(x, W, out)
        if b is not None:
            replicas, n, m = s.shape
            size = n * m
            self._kernels(s)(
                "add_bias", _grid(size, replicas), (_THREADS,), s, b, _stride(b), np.int64(size), np.int32(m)
            )
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
            out = self._xp.empty((replicas, rows, columns), dtype=b.dtype)
        self._products(a, b, out, **options)
        return out

    def bias_gradient(self, g: Array, out: Array | None = None) -> Array:
        replicas, n, m = g.shape
        if out is None:
            out = self._xp.empty((replicas, 1, m), dtype=g.dtype)
        grid, block, shared = _columns(n, m, replicas, g.dtype)
        self._kernels(g)("bias_gradient", grid, block, g, out, np.int32(n), np.int32(m), shared=shared)
        return out

    def relu(self, s: Array, out: Array | None = None) -> Array:
        out = self._xp.empty(s.shape, dtype=s.dtype) if out is None else out
        self._kernels(s)("relu", _grid(s.size), (_THREADS,), s, out, np.int64(s.size))
        return out

    def bias_relu(self, s: Array, b: Array, out: Array | None = None) -> Array:
        out = self._xp.empty(s.shape, dtype=s.dtype) if out is None else out
        replicas, n, m = s.shape
        known = (s, b, _stride(b), out, np.int64(n * m), np.int32(m))
        self._kernels(s)("bias_relu", _grid(n * m, replicas), (_THREADS,), *known)
        return out

    def relu_gradient(self, g: Array, y: Array, out: Array | None = None) -> Array:
        out = self._xp.empty(g.shape, dtype=g.dtype) if out is None else out
        self._kernels(g)("relu_gradient", _grid(g.size), (_THREADS,), g, y, out, np.int64(g.size))
        return out

    def batch_norm_relu(
        self, s: Array, gamma: Array, beta: Array, eps: float, out: BatchNormReLU | None = None
    ) -> BatchNormReLU:
        replicas, n, m = s.shape
        if out is None:
            full = [self._xp.empty(s.shape, dtype=s.dtype) for _ in range(2)]
            units = [self._xp.empty((replicas, 1, m), dtype=s.dtype) for _ in range(3)]
            out = BatchNormReLU(*full, *units)
        grid, block, shared = _columns(n, m, replicas, s.dtype)
        scales = (gamma, _stride(gamma), beta, _stride(beta), s.dtype.type(eps))
        self._kernels(s)("batch_norm_relu", grid, block, s, *scales, *out[:5], np.int32(n), np.int32(m), shared=shared)
        return out

    def batch_norm_relu_gradients(
        self, g: Array, forward: BatchNormReLU, gamma: Array, out: BatchNormGradients | None = None
    ) -> BatchNormGradients:
        replicas, n, m = g.shape
        if out is None:
            units = [self._xp.empty((replicas, 1, m), dtype=g.dtype) for _ in range(2)]
            out = BatchNormGradients(self._xp.empty(g.shape, dtype=g.dtype), *units)
        grid, block, shared = _columns(n, m, replicas, g.dtype)
        known = (g, forward.y, forward.centred, forward.inv_std, gamma, _stride(gamma))
        self._kernels(g)(
            "batch_norm_relu_gradients", grid, block, *known, *out[:3], np.int32(n), np.int32(m), shared=shared
        )
        return out

    def batch_norm_relu_inference(
        self, s: Array, mean: Array, var: Array, gamma: Array, beta: Array, eps: float
    ) -> Array:
        replicas, n, m = s.shape
        out = self._xp.empty(s.shape, dtype=s.dtype)
        units = [part for array in (mean, var, gamma, beta) for part in (array, _stride(array))]
        size = n * m
        last = (s.dtype.type(eps), out, np.int64(size), np.int32(m))
        self._kernels(s)("batch_norm_relu_inference", _grid(size, replicas), (_THREADS,), s, *units, *last)
        return out

    def softmax(self, s: Array) -> Array:
        out = self._xp.empty(s.shape, dtype=s.dtype)
        c = int(s.shape[-1])
        rows = s.size // c
        self._kernels(s)("softmax", (_ceil(rows, 8),), (32, 8), s, out, np.int32(rows), np.int32(c))
        return out

    def softmax_cross_entropy(
        self, s: Array, labels: Array, scale: Array | float, out: CrossEntropy | None = None
    ) -> CrossEntropy:
        replicas, n, c = s.shape
        if out is None:
            shape = (replicas, n)
            losses, correct = self._xp.empty(shape, dtype=s.dtype), self._xp.empty(shape, dtype=bool)
            out = CrossEntropy(losses, correct, self._xp.empty(s.shape, dtype=s.dtype))
        if labels.dtype != np.int32 or not labels.flags.c_contiguous:  # the kernel knows no strides
            labels = self._xp.ascontiguousarray(labels, dtype="int32")
        of_replica = np.int64(labels.shape[-1] if labels.ndim == 2 and labels.shape[0] > 1 else 0)
        real = s.dtype.type
        scales = (
            (None, np.int64(0), real(scale)) if isinstance(scale, (int, float)) else (scale, _stride(scale), real(1))
        )
        self._kernels(s)(
            "softmax_cross_entropy",
            (_ceil(n, 8), replicas),
            (32, 8),
            s,
            labels,
            of_replica,
            *scales,
            *out[:3],
            np.int32(n),
            np.int32(c),
        )
        return out

    def add_squares(self, W: Array, squares: Array, out: Any = None) -> Any:
        return self._square_and_scale(W, None, squares, out)

    def _square_and_scale(self, W: Array, keep: Array | None, squares: Array, work: Any) -> Any:
        replicas = W.shape[0]
        size = W.size // replicas
        work = work or _Sums(self._xp, replicas, size)
        known = (W, _stride(W), np.int64(size), keep)
        self._kernels(W)("square_and_scale", (work.blocks, replicas), (_THREADS,), *known, *work.arrays, squares)
        return work

    def average(self, running: Array, batch: list[Array], alpha: Array, out: Any = None) -> Any:
        replicas, _, size = running.shape
        work = _Members.of(self._xp, batch, out)
        known = (running, _stride(running), np.int32(size), *work.arrays, alpha)
        self._kernels(running)("average", _grid(size, replicas), (_THREADS,), *known)
        return work

    def descend(
        self, p: Array, steps: list[Array], keep: Array | None, squares: Array | None = None, out: Any = None
    ) -> Any:
        work = _Moves.of(self._xp, p, steps, out)
        known = (p, _stride(p), np.int32(p.shape[-1]), *work.members.arrays, keep)
        sums = (None, None, None) if squares is None else (*work.sums.arrays, squares)
        self._kernels(p)("descend", (work.sums.blocks, p.shape[0]), (_THREADS,), *known, *sums)
        return work

    def descend_by_product(self, W: Array, x: Array, g: Array, keep: Array, squares: Array, out: Any = None) -> Any:
        work = self._square_and_scale(W, keep, squares, out)
        self._products(x, g, W, transpose_a=True, alpha=-1.0, beta=1.0)
        return work

    def descend_with_momentum(
        self,
        p: Array,
        velocity: Array,
        steps: list[Array],
        shrink: Array | None,
        rho: Array,
        nesterov: bool,
        squares: Array | None = None,
        out: Any = None,
    ) -> Any:
        shape = (p.shape[0], 1, -1)
        p, velocity = p.reshape(shape), velocity.reshape(shape)
        work = _Moves.of(self._xp, p, steps, out)
        known = (p, velocity, _stride(p), np.int32(p.shape[-1]), *work.members.arrays, shrink, rho, np.bool_(nesterov))
        sums = (None, None, None) if squares is None else (*work.sums.arrays, squares)
        self._kernels(p)("descend_with_momentum", (work.sums.blocks, p.shape[0]), (_THREADS,), *known, *sums)
        return work

    def tally(self, entropy: CrossEntropy, losses: Array, hits: Array) -> None:
        replicas, n = entropy.losses.shape
        known = (entropy.losses, entropy.correct, losses, hits, np.int32(n))
        self._kernels(entropy.losses)("tally", (replicas,), (_THREADS,), *known)

    def begin_step(self, n: int, orders: int, cursor: Array, perm: Array, *arrays: Array) -> None:
        """Launch the kernel of that name for batches of `n` in `orders` orders (1, or one for each replica)."""
        scale = arrays[6]
        replicas = int(scale.shape[0])
        known = (cursor, perm, np.int64(orders), *arrays, np.int32(n), np.int32(replicas))
        grid = (_ceil(max(orders * n, replicas), _THREADS),)
        self._kernels(scale)("begin_step", grid, (_THREADS,), *known)

    def launch(
        self, name: str, grid: tuple[int, ...], block: tuple[int, ...], dtype: Any, *arguments: Any, shared: int = 0
    ) -> None:
        """Launch a kernel that belongs to a stepper; see :class:`xpnet.ops.cuda.kernels.Kernels`."""
        kernels_for(self._xp, str(dtype))(name, grid, block, *arguments, shared=shared)

    def end_step(self, n: int, cursor: Array, counter: Array, *arrays: Array) -> None:
        """Launch the kernel of that name for batches of `n`."""
        losses = arrays[0]
        self._kernels(losses)("end_step", (losses.shape[0],), (_THREADS,), cursor, counter, *arrays, np.int32(n))


@lru_cache(maxsize=4)  # each has workspace on its device
def cuda_ops(backend: Backend) -> CudaOps:
    """Return the operations of the GPU of `backend`."""
    return CudaOps(backend)


class _Sums:
    """What blocks leave for the one that adds them up; see ``Squares`` in ``common.cuh``."""

    def __init__(self, xp: Any, replicas: int, size: int) -> None:
        self.blocks = min(_THREADS, _ceil(size, _SUMMED))
        self.arrays = (xp.empty((replicas, self.blocks), dtype="float64"), xp.zeros((replicas,), dtype="uint32"))


class _Members:
    """Addresses of tensors that are read as if they lay side by side; see ``Members`` in ``update.cu``."""

    def __init__(self, xp: Any, tensors: list[Array]) -> None:
        self._tensors = tensors  # what is pointed to must stay
        sizes = [t.size // t.shape[0] for t in tensors]
        starts = np.concatenate([[0], np.cumsum(sizes)]).astype(np.int32)
        addresses = np.array([t.data.ptr for t in tensors], np.uint64)
        self.arrays = (xp.asarray(addresses), xp.asarray(starts), np.int32(len(tensors)))

    @classmethod
    def of(cls, xp: Any, tensors: list[Array], known: _Members | None) -> _Members:
        """Return `known` if it is of the same tensors, else a new one."""
        if known is not None and all(a is b for a, b in zip(tensors, known._tensors, strict=True)):
            return known
        return cls(xp, tensors)


class _Moves:
    """What the updates of a block of parameters work with."""

    def __init__(self, xp: Any, p: Array, steps: list[Array]) -> None:
        self.members = _Members(xp, steps)
        self.sums = _Sums(xp, p.shape[0], p.size // p.shape[0])

    @classmethod
    def of(cls, xp: Any, p: Array, steps: list[Array], known: _Moves | None) -> _Moves:
        """Return `known`, with the addresses of `steps`."""
        if known is None:
            return cls(xp, p, steps)
        known.members = _Members.of(xp, steps, known.members)
        return known


def _ceil(a: int, b: int) -> int:
    return -(-int(a) // b)


def _grid(size: int, replicas: int = 1) -> tuple[int, int]:
    """Return blocks of one thread a number of a replica."""
    return _ceil(size, _THREADS), replicas


def _columns(n: int, m: int, replicas: int, dtype: Any) -> tuple[tuple[int, int], tuple[int, int], int]:
    """Return blocks, threads and shared memory for sums over n samples of m units."""
    rows = 32 if n <= 256 else 128
    return (_ceil(m, _COLUMNS), replicas), (_COLUMNS, rows), _COLUMNS * rows * dtype.itemsize


def _stride(tensor: Array) -> np.int64:
    """Return the distance between replicas in numbers; 0 if there is but one, which is that of all."""
    return np.int64(0 if tensor.shape[0] == 1 else tensor.strides[0] // tensor.dtype.itemsize)
