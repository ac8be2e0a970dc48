"""The formulas: their definitions, and faster versions for NumPy, Numba and CUDA.

:mod:`~xpnet.ops.reference` defines every operation in plain array code, but for two optimisers, which
:mod:`~xpnet.ops.moments` defines.  The table of a backend takes each operation from the fastest module that has it.
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
from xpnet.ops import activations, moments, reference


class Ops(NamedTuple):
    """The operations of one backend and one activation.

    See :mod:`xpnet.ops.reference` and :mod:`xpnet.ops.moments` for what each computes, and :mod:`xpnet.ops.activations`
    for those with ``activation`` in their names.
    """

    gather: Callable[..., Any]
    affine: Callable[..., Any]
    input_gradient: Callable[..., Any]
    weight_gradient: Callable[..., Any]
    bias_gradient: Callable[..., Any]
    activation: Callable[..., Any]
    bias_activation: Callable[..., Any]
    bias_activation_inference: Callable[..., Any]
    activation_gradient: Callable[..., Any]
    batch_norm_activation: Callable[..., Any]
    batch_norm_activation_gradients: Callable[..., Any]
    batch_norm_activation_inference: Callable[..., Any]
    dropout: Callable[..., Any]
    dropout_gradient: Callable[..., Any]
    softmax: Callable[..., Any]
    softmax_cross_entropy: Callable[..., Any]
    smooth_labels: Callable[..., Any]
    weigh_samples: Callable[..., Any]
    penalty: Callable[..., Any]
    scale_gradient: Callable[..., Any]
    tally: Callable[..., Any]
    add_squares: Callable[..., Any]
    average: Callable[..., Any]
    descend: Callable[..., Any]
    descend_by_product: Callable[..., Any]
    descend_with_momentum: Callable[..., Any]
    descend_adamw: Callable[..., Any]
    descend_lion: Callable[..., Any]


def _faster(backend: Backend) -> list[Any]:
    """Return the modules and objects with operations for `backend`, the fastest first, without the reference."""
    if backend.name == "gpu":
        from xpnet.ops.cuda_ops import cuda_ops

        return [cuda_ops(backend)]
    if backend.name != "cpu":
        return []
    from xpnet.ops import numpy_activations, numpy_moments, numpy_ops

    if not fast_is_on():
        return [numpy_ops, numpy_activations, numpy_moments]
    try:
        from xpnet.ops import numba_activations, numba_moments, numba_ops
    # An incompatible version, an environment variable that Numba cannot read, or too little memory for LLVM.
    except (ImportError, ValueError, OSError) as error:
        why = str(error.__context__ if isinstance(error, OSError) and error.__context__ else error).rstrip(".")
        raise ConfigError(f"Numba: cannot be loaded ({why}); mend that, or go without it: XPNET_FAST=0") from None
    return [numba_ops, numba_activations, numba_moments, numpy_ops, numpy_activations, numpy_moments]


def table(xp: Any, *modules: Any, activation: str = "relu") -> Ops:
    """Return the operations of array module `xp` for networks with an activation.

    Each is that of the first of `modules` that has it, or the definition.  ReLU has operations of its own, with
    ``relu`` in their names; the operations with any activation take its row as their first argument.
    """

    def find(name: str) -> Callable[..., Any]:
        varies = "activation" in name
        if varies and activation == "relu":
            name, varies = name.replace("activation", "relu"), False
        found = (getattr(module, name) for module in modules if hasattr(module, name))
        definitions = (activations,) if varies else (reference, moments)
        definition = next(getattr(module, name) for module in definitions if hasattr(module, name))
        operation = next(found, None) or partial(definition, xp)
        return partial(operation, activations.ACTIVATIONS[activation]) if varies else operation

    return Ops(**{name: find(name) for name in Ops._fields})


def fast_is_on() -> bool:
    """Return whether the CPU uses operations compiled by Numba.

    It does if Numba is installed, XPNET_FAST is not 0, and Numba's own NUMBA_DISABLE_JIT does not forbid compiling.
    """
    compiles = os.environ.get("NUMBA_DISABLE_JIT", "").strip() in ("", "0")
    return os.environ.get("XPNET_FAST", "1") != "0" and compiles and find_spec("numba") is not None


def load(backend: Backend) -> None:
    """Load the libraries that operations of `backend` would otherwise load at their first call, during a training.

    Raises:
        ConfigError: There is too little memory.
    """
    if backend.name == "cpu" and fast_is_on():
        from xpnet.ops import numba_cache

        numba_cache.load()


def rounds_products(backend: Backend, dtype: Any) -> bool:
    """Return whether `backend` has products of float32 whose factors are rounded to bfloat16, which are faster."""
    if backend.name != "cpu" or dtype != "float32" or not fast_is_on():
        return False
    from xpnet.ops.numba_bfloat16 import processor_has_bfloat16

    return processor_has_bfloat16()


def get_ops(backend: Backend, config: NetworkConfig | None = None, *, rounded: bool = False) -> Ops:
    """Return the operations of `backend`: the faster ones, if they know all settings of the network.

    `rounded` makes products round their factors to bfloat16, where :func:`rounds_products` says that this is possible.
    """
    faster = _faster(backend)
    if config is not None and faster:
        name = str(getattr(faster[0], "__name__", type(faster[0]).__module__)).rpartition(".")[2]
        faster = [] if unknown(name, config) else faster
    if rounded:
        from xpnet.ops import bfloat16_ops

        faster = [bfloat16_ops, *faster]
    return table(backend.xp, *faster, activation="relu" if config is None else config.activation)


def keeps_bytes(backend: Backend) -> bool:
    """Return whether `backend` gathers faster from bytes than from floating values."""
    return backend.name == "gpu" or (backend.name == "cpu" and fast_is_on())


def get_reference(backend: Backend, config: NetworkConfig | None = None) -> Ops:
    """Return the reference operations on `backend`, for comparison; those of ReLU without a `config`."""
    return table(backend.xp, activation="relu" if config is None else config.activation)
