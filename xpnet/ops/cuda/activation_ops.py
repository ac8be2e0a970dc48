"""The operations of :mod:`xpnet.ops.activations` by kernels (``activation.cu``)."""

from __future__ import annotations

import numpy as np

from xpnet.backend import Array
from xpnet.ops.activations import Activation
from xpnet.ops.cuda.launches import Launches
from xpnet.ops.cuda.launches import stride_of as _stride
from xpnet.ops.reference import Activated, BatchNormActivation, BatchNormGradients

# The names of activation.cu, in their order.
KINDS = ("leaky-relu", "gelu", "silu", "tanh", "sigmoid", "identity")


def _number(kind: Activation) -> np.int32:
    return np.int32(KINDS.index(kind.name))


class ActivationOps(Launches):
    """The operations with any activation but ReLU, which is in :class:`xpnet.ops.cuda_ops.CudaOps`."""

    def activation(self, kind: Activation, z: Array, out: Array | None = None) -> Array:
        out = self._empty(z) if out is None else out
        self._by_number("activation", z, 1, z, out, _number(kind), np.int64(z.size))
        return out

    def bias_activation(self, kind: Activation, s: Array, b: Array, out: Activated | None = None) -> Activated:
        out = Activated(self._empty(s), self._empty(s)) if out is None else out
        self._bias_activation(kind, s, b, out)
        return out

    def bias_activation_inference(self, kind: Activation, s: Array, b: Array) -> Array:
        out = Activated(self._empty(s))
        self._bias_activation(kind, s, b, out)
        return out.y

    def _bias_activation(self, kind: Activation, s: Array, b: Array, out: Activated) -> None:
        replicas, n, m = s.shape
        sizes = (np.int64(n * m), np.int32(m))
        self._by_number("bias_activation", s, replicas, s, b, _stride(b), *out, _number(kind), *sizes)

    def activation_gradient(self, kind: Activation, g: Array, forward: Activated, out: Array | None = None) -> Array:
        out = self._empty(g) if out is None else out
        self._by_number("activation_gradient", g, 1, g, forward.slope, out, np.int64(g.size))
        return out

    def batch_norm_activation(
        self,
        kind: Activation,
        s: Array,
        gamma: Array,
        beta: Array,
        eps: float,
        out: BatchNormActivation | None = None,
    ) -> BatchNormActivation:
        if out is None:
            inv_std, mean, var = (self._empty(s, s.shape[0], 1, s.shape[2]) for _ in range(3))
            y, centred, slope = (self._empty(s) for _ in range(3))
            out = BatchNormActivation(y, centred, inv_std, mean, var, slope=slope)
        scales = (gamma, _stride(gamma), beta, _stride(beta), s.dtype.type(eps))
        self._by_unit("batch_norm_activation", s, s, *scales, *out[:5], out.slope, _number(kind))
        return out

    def batch_norm_activation_gradients(
        self,
        kind: Activation,
        g: Array,
        forward: BatchNormActivation,
        gamma: Array,
        out: BatchNormGradients | None = None,
    ) -> BatchNormGradients:
        if out is None:
            units = [self._empty(g, g.shape[0], 1, g.shape[2]) for _ in range(2)]
            out = BatchNormGradients(self._empty(g), *units)
        inputs = (g, forward.slope, forward.centred, forward.inv_std, gamma, _stride(gamma))
        self._by_unit("batch_norm_activation_gradients", g, *inputs, *out[:3])
        return out

    def batch_norm_activation_inference(
        self, kind: Activation, s: Array, mean: Array, var: Array, gamma: Array, beta: Array, eps: float
    ) -> Array:
        (replicas, n, m), out = s.shape, self._empty(s)
        units = [part for array in (mean, var, gamma, beta) for part in (array, _stride(array))]
        sizes = (s.dtype.type(eps), out, _number(kind), np.int64(n * m), np.int32(m))
        self._by_number("batch_norm_activation_inference", s, replicas, s, *units, *sizes)
        return out
