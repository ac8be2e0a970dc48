"""The kernels of ``*.cu``, compiled for float32 or float64.

CuPy compiles them by NVRTC for the GPU at hand and keeps the result on disk (``CUPY_CACHE_DIR``).
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, TypeAlias

import numpy as np

FOLDER = Path(__file__).parent
# `common.cuh` comes first: the others use it.
_ALWAYS = (
    *("common.cuh", "gather.cu", "norm.cu", "activation.cu", "softmax.cu", "update.cu", "moments.cu", "dropout.cu"),
    *("step.cu", "upper.cu", "small.cu"),
)
# Kernels that take as long to compile as all others are compiled when one of them is launched.
_MULTI = ("multi.cu", "tensor.cu", "multi_bf16.cu")
_PERSISTENT = ("cluster.cu", "cluster_upper.cu", "persistent_rows.cu", "persistent.cu")
_BASE = ("common.cuh", "upper.cu")  # of the latter two
# Macros of upper.cu: kernels of small networks are compiled anew for trainings that need what they add.
Macros: TypeAlias = tuple[str, ...]
MACROS: Macros = ("MOMENTUM", "MODIFIED_LOSS")
# The files that these macros change.
SMALL = (*_BASE, "small.cu")
CHANGED = (*SMALL, *_MULTI, *_PERSISTENT)
# Kernels of clusters of blocks, which need compute capability 9.0.
CLUSTERS = ("persistent_steps",)
# CuPy adds this option to every kernel: subnormal numbers of float32 count as zero.
ADDED = ("-ftz=true",)
REALS = {"float32": "float", "float64": "double"}


def source(names: tuple[str, ...] = (*_ALWAYS, *_MULTI, *_PERSISTENT)) -> str:
    """Return the text of files, by default all kernels, with markers by which compilers name the file and the line."""
    return "\n".join(f'#line 1 "{name}"\n{(FOLDER / name).read_text()}' for name in names)


def options(dtype: Any) -> tuple[str, ...]:
    """Return the compiler's options for numbers of `dtype`, float32 or float64."""
    return ("-std=c++17", f"-DREAL={REALS[str(np.dtype(dtype))]}")


def defined(macros: Macros) -> tuple[str, ...]:
    """Return the compiler's options for `macros`."""
    return tuple(f"-D{macro}=1" for macro in macros)


class Kernels:
    """The kernels for one floating type and one array module.

    Arguments of a launch are arrays, passed by address, and NumPy scalars of exactly the types that the kernel
    declares.  None is the null address.
    """

    def __init__(self, xp: Any, dtype: Any) -> None:
        self._xp = xp
        self._allowed: dict[tuple[str, Macros, int], int] = {}
        self._options = options(dtype)
        self._modules: dict[tuple[tuple[str, ...], Macros], Any] = {}
        self._functions: dict[tuple[str, Macros], Any] = {}

    def __call__(
        self,
        name: str,
        grid: tuple[int, ...],
        block: tuple[int, ...],
        *arguments: Any,
        shared: int = 0,
        macros: Macros = (),
    ) -> None:
        """Launch kernel `name` on the current stream.

        Args:
            name: The kernel.
            grid: Numbers of blocks.
            block: Numbers of threads of a block.
            arguments: See the class.
            shared: Bytes of dynamic shared memory.
            macros: Of :data:`MACROS`, those that the kernel is compiled with; only kernels of small networks have any.
        """
        function = self.function(name, shared, macros)
        function(grid, block, tuple(_NULL if a is None else a for a in arguments), shared_mem=shared)

    def function(self, name: str, shared: int = 0, macros: Macros = ()) -> Any:
        """Return the compiled kernel `name`, allowed so many bytes of dynamic shared memory; see :meth:`__call__`."""
        function = self._functions.get((name, macros))
        if function is None:
            function = self._functions[name, macros] = self._module(name, macros).get_function(name)
        if shared > _SHARED:
            self._allow(name, macros, function, shared)
        return function

    def _module(self, name: str, macros: Macros) -> Any:
        """Return the compiled kernels that `name` is one of."""
        apart = {"multi": _MULTI, "persistent": _PERSISTENT}.get(name.partition("_")[0])
        files = (*_BASE, *apart) if apart else SMALL if macros else _ALWAYS
        key = files, macros
        if key not in self._modules:
            self._modules[key] = self._xp.RawModule(code=source(files), options=(*self._options, *defined(macros)))
        return self._modules[key]

    def _allow(self, name: str, macros: Macros, function: Any, shared: int) -> None:
        """Allow a kernel `shared` bytes of shared memory on the current device; a limit is never lowered."""
        key = name, macros, self._xp.cuda.runtime.getDevice()
        if shared > self._allowed.get(key, 0):
            function.max_dynamic_shared_size_bytes = self._allowed[key] = shared


_NULL = np.uint64(0)
# Bytes of dynamic shared memory that every block may use by default: 48 KiB less the kernels' static memory.
_SHARED = 40 * 2**10
