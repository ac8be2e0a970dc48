"""Matrix products by cuBLAS, called directly, because CuPy's own calls fail while a stream captures."""

from __future__ import annotations

import ctypes
from functools import lru_cache
from typing import Any

from xpnet.errors import DeviceError

# The size that NVIDIA recommends for Hopper.  It is set here, as cuBLAS must not allocate while a stream captures.
WORKSPACE_BYTES = 32 * 2**20
_MATH = {False: 0, True: 3}  # CUBLAS_DEFAULT_MATH, CUBLAS_TF32_TENSOR_OP_MATH
_PREFIX = {"float32": "S", "float64": "D"}
_ALLOC_FAILED = 3  # CUBLAS_STATUS_ALLOC_FAILED
_SCALAR = {"float32": ctypes.c_float, "float64": ctypes.c_double}


@lru_cache(maxsize=1)
def load_cublas() -> Any:
    """Return NVIDIA's cuBLAS library, as CuPy finds it.

    Raises:
        DeviceError: The library cannot be found.
    """
    try:
        from cuda.pathfinder import load_nvidia_dynamic_lib

        return ctypes.CDLL(load_nvidia_dynamic_lib("cublas").abs_path)
    except (ImportError, RuntimeError, OSError) as error:
        why = next(iter(str(error).splitlines()), type(error).__name__)
        raise DeviceError(
            f"cuBLAS cannot be loaded ({why}); pip install 'xpnet[cuda13]' or 'xpnet[cuda12]' brings CUDA's libraries"
        ) from None


class Products:
    """Products of arrays (R, rows, columns) or (rows, columns) whose last two axes are contiguous.

    The arrays are row-major; cuBLAS, which is column-major, reads their transposes.  So out = a b is computed as out' =
    b' a'.

    Attributes:
        tf32: Whether float32 is multiplied with 10 bits of mantissa (added with 23), which is faster.
    """

    def __init__(self, xp: Any, tf32: bool = False) -> None:
        self._xp, self.tf32 = xp, tf32
        self._library = load_cublas()
        self._workspace = xp.empty(WORKSPACE_BYTES, dtype="uint8")
        self._handle = ctypes.c_void_p()
        self._check("cublasCreate_v2", ctypes.byref(self._handle))
        self._check("cublasSetMathMode", self._handle, ctypes.c_int(_MATH[tf32]))
        self._stream: int | None = None
        self._scalars: dict[tuple[float, Any], Any] = {}

    def __call__(
        self,
        a: Any,
        b: Any,
        out: Any,
        *,
        transpose_a: bool = False,
        transpose_b: bool = False,
        alpha: float = 1.0,
        beta: float = 0.0,
    ) -> None:
        """Compute out <- alpha a b + beta out, with a or b transposed on request; `out` is (R, n, m).

        All replicas share an operand (n, k), or one with a single replica.
        """
        replicas, n, m = out.shape
        k = a.shape[-2] if transpose_a else a.shape[-1]
        dtype = str(out.dtype)
        self._follow_stream()
        # Operands and sizes are swapped; see the class.
        operations = (ctypes.c_int(transpose_b), ctypes.c_int(transpose_a))
        sizes = (ctypes.c_int(m), ctypes.c_int(n), ctypes.c_int(k))
        left, right, result = (_operand(matrix, replicas) for matrix in (b, a, out))
        name, count = "gemmStridedBatched", [ctypes.c_int(replicas)]
        if replicas == 1:  # the function for a single product takes neither strides nor a count
            left, right, result = left[:2], right[:2], result[:2]
            name, count = "gemm_v2", []
        self._check(
            f"cublas{_PREFIX[dtype]}{name}", self._handle, *operations, *sizes,
            self._scalar(alpha, dtype), *left, *right, self._scalar(beta, dtype), *result, *count,
        )  # fmt: skip

    def _follow_stream(self) -> None:
        """Set cuBLAS to the current stream, together with its workspace, which belongs to a stream."""
        stream = int(self._xp.cuda.get_current_stream().ptr)
        if stream != self._stream:
            self._check("cublasSetStream_v2", self._handle, ctypes.c_void_p(stream))
            workspace = ctypes.c_void_p(self._workspace.data.ptr), ctypes.c_size_t(WORKSPACE_BYTES)
            self._check("cublasSetWorkspace_v2", self._handle, *workspace)
            self._stream = stream

    def _scalar(self, value: float, dtype: str) -> Any:
        found = self._scalars.get((value, dtype))
        if found is None:
            found = self._scalars[value, dtype] = ctypes.byref(_SCALAR[dtype](value))
        return found

    def _check(self, name: str, *arguments: Any) -> None:
        status = getattr(self._library, name)(*arguments)
        if status == _ALLOC_FAILED:
            raise MemoryError(f"{name}: cuBLAS finds no memory")
        if status != 0:
            raise DeviceError(f"{name}: cuBLAS answers with status {status}")


def _operand(matrix: Any, replicas: int) -> tuple[Any, ...]:
    """Return a matrix's address, length of a row, and distance between replicas, as cuBLAS takes them."""
    distance = 0
    if matrix.ndim == 3 and (matrix.shape[0] > 1 or replicas == 1):
        distance = matrix.strides[0] // matrix.dtype.itemsize
    # The stride of a single row has no meaning and may have any value.
    return ctypes.c_void_p(matrix.data.ptr), ctypes.c_int(matrix.shape[-1]), ctypes.c_longlong(distance)


def fits(matrix: Any) -> bool:
    """Return whether the memory layout of `matrix` is what :class:`Products` needs."""
    size, columns = matrix.dtype.itemsize, matrix.shape[-1]
    return bool(
        (columns == 1 or matrix.strides[-1] == size) and (matrix.shape[-2] == 1 or matrix.strides[-2] == columns * size)
    )
