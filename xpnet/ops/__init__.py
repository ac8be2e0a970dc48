"""The formulas: their definitions, and faster versions for NumPy, Numba and CUDA.

:mod:`~xpnet.ops.reference` defines every operation in plain array code.  A backend's table takes
the reference and replaces what has a faster version there.  Nothing else in xpnet asks which device
it computes on.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import partial
from importlib.util import find_spec
from typing import Any, NamedTuple

from xpnet.backend import Backend
from xpnet.config.definitions import NetworkConfig
from xpnet.config.supported import unknown
from xpnet.errors import ConfigError
from xpnet.ops import reference


class Ops(NamedTuple):
    """The operations of one backend; see :mod:`xpnet.ops.reference` for what each computes."""

    gather: Callable[..., Any]
    affine: Callable[..., Any]
    input_gradient: Callable[..., Any]
    weight_gradient: Callable[..., Any]
    bias_gradient: Callable[..., Any]
    relu: Callable[..., Any]
    bias_relu: Callable[..., Any]
    relu_gradient: Callable[..., Any]
    batch_norm_relu: Callable[..., Any]
    batch_norm_relu_gradients: Callable[..., Any]
    batch_norm_relu_inference: Callable[..., Any]
    softmax: Callable[..., Any]
    softmax_cross_entropy: Callable[..., Any]
    penalty: Callable[..., Any]
    tally: Callable[..., Any]
    add_squares: Callable[..., Any]
    average: Callable[..., Any]
    descend: Callable[..., Any]
    descend_by_product: Callable[..., Any]
    descend_with_momentum: Callable[..., Any]


def _faster(backend: Backend) -> Any:
    """Return what has faster operations for `backend`, or None."""
    if backend.name == "gpu":
        from xpnet.ops.cuda_ops import cuda_ops

        return cuda_ops(backend)
    if backend.name != "cpu":
        return None
    if fast_is_on():
        try:
            from xpnet.ops import numba_ops
        # Of a version that does not fit, a variable that it cannot read, or no memory for LLVM.
        except (ImportError, ValueError, OSError) as error:
            why = str(error.__context__ if isinstance(error, OSError) and error.__context__ else error).rstrip(".")
            raise ConfigError(f"Numba: cannot be loaded ({why}); mend that, or go without it: XPNET_FAST=0") from None
        return numba_ops
    from xpnet.ops import numpy_ops

    return numpy_ops


def _name(faster: Any) -> str:
    """Return the name of the module that operations are from, as :data:`xpnet.config.supported.KNOWN` has it."""
    return str(getattr(faster, "__name__", type(faster).__module__)).rpartition(".")[2]


def fast_is_on() -> bool:
    """Return whether the CPU's operations are those that Numba compiles.

    It is there, XPNET_FAST is not 0, and Numba's own NUMBA_DISABLE_JIT does not keep it from compiling.
    """
    compiles = os.environ.get("NUMBA_DISABLE_JIT", "").strip() in ("", "0")
    return os.environ.get("XPNET_FAST", "1") != "0" and compiles and find_spec("numba") is not None


def load(backend: Backend) -> None:
    """Load now what the operations of `backend` would load at their first call, in the middle of a training.

    Raises:
        ConfigError: Memory does not hold it.
    """
    if backend.name == "cpu" and fast_is_on():
        from xpnet.ops import numba_cache

        numba_cache.load()


def get_ops(backend: Backend, config: NetworkConfig | None = None) -> Ops:
    """Return the operations of `backend`: the faster ones, if they know all settings of the network."""
    faster = _faster(backend)
    if config is not None and faster is not None and unknown(_name(faster), config):
        faster = None
    return Ops(
        **{name: getattr(faster, name, None) or partial(getattr(reference, name), backend.xp) for name in Ops._fields}
    )


def keeps_bytes(backend: Backend) -> bool:
    """Return whether gathering from bytes is faster there than from the floating values."""
    return backend.name == "gpu" or (backend.name == "cpu" and fast_is_on())


def get_reference(backend: Backend) -> Ops:
    """Return the table of reference operations on `backend`, for comparison."""
    return Ops(**{name: partial(getattr(reference, name), backend.xp) for name in Ops._fields})
