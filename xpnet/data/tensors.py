"""Tensors of other libraries, which come by DLPack: PyTorch, JAX, CuPy, TensorFlow."""

from __future__ import annotations

import contextlib
from typing import Any

import numpy as np
from numpy.typing import NDArray

from xpnet.errors import DataError


def is_tensor(values: Any) -> bool:
    """Return whether values are an array of another library than NumPy that can be handed over."""
    return hasattr(values, "__dlpack__") and not isinstance(values, (np.ndarray, np.generic, type))


def array_of(tensor: Any, name: str = "") -> NDArray[Any]:
    """Return a tensor as an array on the host; it is copied if it lies on a GPU, and may share memory otherwise.

    Args:
        tensor: A value of which :func:`is_tensor` is true.
        name: Its name for the message, if it has one.

    Raises:
        DataError: NumPy does not have its type, or its library does not give it away.
    """
    try:
        try:
            return np.from_dlpack(tensor)
        except (RuntimeError, BufferError, TypeError, ValueError):  # lies on a GPU
            return np.from_dlpack(tensor, device="cpu", copy=True)
    except Exception as error:  # each library has errors of its own
        # Older CuPy, which hands nothing over to the host, and Arrow's arrays of texts.
        bring = next((getattr(tensor, name) for name in ("get", "__array__") if hasattr(tensor, name)), None)
        if bring is not None:
            with contextlib.suppress(Exception):
                return np.asarray(bring())
        kind = f"{type(tensor).__module__.split('.')[0]}.{type(tensor).__name__}"
        start = f"{name} is a {kind}, which" if name else f"a {kind}"
        raise DataError(f"{start} cannot become a NumPy array ({error}); pass one on the host, detached") from None
