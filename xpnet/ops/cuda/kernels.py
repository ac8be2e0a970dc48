"""The kernels of ``*.cu``, compiled for float32 or float64.

CuPy compiles them by NVRTC for the GPU at hand and keeps the result on disk (``CUPY_CACHE_DIR``).
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

FOLDER = Path(__file__).parent
# `common.cuh` comes first: the others use it.
SOURCES = (
    *("common.cuh", "gather.cu", "norm.cu", "activation.cu", "softmax.cu", "update.cu", "moments.cu", "dropout.cu"),
    *("step.cu", "upper.cu", "small.cu", "multi.cu", "tensor.cu", "multi_bf16.cu"),
)
# CuPy adds this option to every kernel: subnormal numbers of float32 count as zero.
ADDED = ("-ftz=true",)
REALS = {"float32": "float", "float64": "double"}


def source() -> str:
    """Return the text of all kernels, with markers so that compiler messages name the original file and line."""
    return "\n".join(f'#line 1 "{name}"\n{(FOLDER / name).read_text()}' for name in SOURCES)


def options(dtype: Any) -> tuple[str, ...]:
    """Return the compiler's options for numbers of `dtype`, float32 or float64."""
    return ("-std=c++17", f"-DREAL={REALS[str(np.dtype(dtype))]}")


class Kernels:
    """The kernels for one floating type and one array module.

    Arguments of a launch are arrays, passed by address, and NumPy scalars of exactly the types that the kernel
    declares.  None is the null address.
    """

    def __init__(self, xp: Any, dtype: Any) -> None:
        self._xp = xp
        self._allowed: dict[tuple[str, int], int] = {}
        self._module = xp.RawModule(code=source(), options=options(dtype))
        self._functions: dict[str, Any] = {}

    def __call__(
        self, name: str, grid: tuple[int, ...], block: tuple[int, ...], *arguments: Any, shared: int = 0
    ) -> None:
        """Launch kernel `name` on the current stream, with `shared` bytes of dynamic shared memory."""
        function = self._functions.get(name)
        if function is None:
            function = self._functions[name] = self._module.get_function(name)
        if shared > _SHARED:
            self._allow(name, function, shared)
        function(grid, block, tuple(_NULL if a is None else a for a in arguments), shared_mem=shared)

    def _allow(self, name: str, function: Any, shared: int) -> None:
        """Allow a kernel `shared` bytes of shared memory on the current device; a limit is never lowered."""
        key = name, self._xp.cuda.runtime.getDevice()
        if shared > self._allowed.get(key, 0):
            function.max_dynamic_shared_size_bytes = self._allowed[key] = shared


_NULL = np.uint64(0)
# Bytes of dynamic shared memory that every block may use by default: 48 KiB less the kernels' static memory.
_SHARED = 40 * 2**10
