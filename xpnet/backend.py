"""Where arrays live and what computes with them.

A :class:`Backend` is an explicit argument: there is no global "current device".  Only this module,
:mod:`xpnet.ops` and the CUDA steppers use CuPy, which is imported when a GPU is requested.
"""

from __future__ import annotations

import ctypes
import gc
import importlib
import re
import sys
from dataclasses import dataclass, replace
from typing import Any, TypeAlias

import numpy as np

from xpnet.errors import ArrayError, DeviceError
from xpnet.utils.memory import free_host_memory

Array: TypeAlias = Any
"""An array of a backend's module: ``numpy.ndarray``, ``cupy.ndarray`` or an array with the same behaviour."""

_NO_GPU = "no GPU can be used"
_INSTALL_HINT = "install the wheel that matches your driver: pip install 'xpnet[cuda13]' or 'xpnet[cuda12]'"
_DRIVER_HINT = "install or update the NVIDIA driver (nvidia-smi shows what is there), or " + _INSTALL_HINT
_MEMORY_HINT = "other programs hold its memory, as nvidia-smi shows: end them, or take another GPU"
# Status of CuPy's errors that mean exhausted memory.  CuPy's own OutOfMemoryError is a MemoryError.
_EXHAUSTED = {"CUDARuntimeError": 2, "CUDADriverError": 2, "CUBLASError": 3, "NVRTCError": 1}


@dataclass(frozen=True)
class Backend:
    """An array module and the device that it computes on.

    Attributes:
        name: ``"cpu"`` or ``"gpu"``.
        xp: The array module: NumPy, CuPy, or a stand-in with the same functions.
        device: The device in full: ``"cpu"``, ``"gpu:0"``, ``"gpu:1"``, ...
        reason: Why this device was chosen, in words.
        tf32: Whether products of float32 round their factors to 10 bits of mantissa (NVIDIA's TF32).

    A pickle holds only the name of the device; loading the pickle opens the device again.
    """

    name: str
    xp: Any
    device: str
    reason: str = ""
    tf32: bool = False

    @property
    def notice(self) -> str:
        """The device and, where it may surprise, why it was chosen, in a few words."""
        if self.name == "cpu":
            surprises = self.reason.startswith(_NO_GPU) and driver_is_installed()
            return (
                "cpu (there is an NVIDIA driver, but no GPU can be used: xpnet info says why)" if surprises else "cpu"
            )
        return f"{self.device} ({self.reason})"

    def __reduce__(self) -> tuple[Any, ...]:
        if self.name not in ("cpu", "gpu"):
            raise DeviceError(f"device = {self.device}: cannot be opened again by its name, so it cannot be pickled")
        return _reopened, (self.device, self.reason, self.tf32)

    def __deepcopy__(self, _: Any) -> Backend:
        return self  # modules cannot be copied

    def asarray(self, values: Any, dtype: Any = None) -> Array:
        """Return `values` (an array of any module, or nested sequences) as an array on this device.

        Raises:
            ArrayError: `values` cannot become an array.
        """
        try:
            return self.xp.asarray(values, dtype=dtype)
        except (TypeError, ValueError, OverflowError) as error:
            raise ArrayError(f"values: a {type(values).__name__} cannot become an array ({error})") from None

    def to_numpy(self, array: Array) -> np.ndarray[Any, Any]:
        """Return `array` as a NumPy array, copying it from the device if need be.

        Raises:
            ArrayError: `array` is not on this device.
        """
        if isinstance(array, (np.ndarray, np.generic)):
            return np.asarray(array)
        if not isinstance(array, self.xp.ndarray):
            raise ArrayError(f"array: is a {type(array).__name__}, and no array on {self.device}")
        asnumpy = getattr(self.xp, "asnumpy", None)
        return np.asarray(array.get() if asnumpy is None else asnumpy(array))

    def synchronize(self) -> None:
        """Wait until the device has finished all work given to it."""
        cuda = getattr(self.xp, "cuda", None)
        if cuda is not None:
            cuda.Device().synchronize()

    def own(self, argument: str, array: Any) -> Array:
        """Return `array` if it lies on this device; lists and numbers are converted.

        Raises:
            ArrayError: `array` belongs to another array module, since copying silently between devices would hide an
                expensive operation; or some of its values are masked.
        """
        if isinstance(array, self.xp.ndarray):
            if type(array) is not self.xp.ndarray and np.ma.is_masked(array):
                raise ArrayError(f"{argument}: has masked values; fill them in, or leave these rows out")
            return array
        if isinstance(array, (list, tuple, int, float)):
            return self.asarray(array)
        kind = f"{type(array).__module__.split('.')[0]}.{type(array).__name__}"
        raise ArrayError(
            f"{argument}: got a {kind}, but this network computes on {self.device}; "
            f"pass {argument} through its backend.asarray first"
        )


def get_backend(device: str = "auto", *, tf32: bool = False) -> Backend:
    """Return the backend for a device.

    Args:
        device: ``"cpu"``, ``"gpu"`` (the first), ``"gpu:N"``, or ``"auto"``: a GPU that works,
            else the CPU, with the choice explained in ``Backend.reason``.
        tf32: On a GPU, let products of float32 round their factors to 10 bits of mantissa; sums keep 23.

    Returns:
        The backend, with the reason of the choice.

    Raises:
        DeviceError: `device` is not one of these, or a requested GPU cannot be used; the message has the driver's
            reason.
    """
    if not isinstance(device, str) or not isinstance(tf32, bool):
        raise DeviceError(
            f"device, tf32: must be a text and true or false, and are of the types {type(device).__name__} and "
            f"{type(tf32).__name__}"
        )
    if device == "cpu":
        return _cpu_backend("as asked for", tf32)
    if device == "auto":
        try:
            return _gpu_backend(0, "a GPU that works was found", tf32)
        except DeviceError as error:
            return _cpu_backend(f"{_NO_GPU}: {error}", tf32)
    match = re.fullmatch(r"gpu(?::(\d{1,9}))?", device)
    if match is None:
        raise DeviceError(f"device = {device}: must be auto, cpu, gpu or gpu:N")
    try:
        return _gpu_backend(int(match[1] or 0), "as asked for", tf32)
    except DeviceError as error:
        raise DeviceError(f"device = {device}: cannot be used: {error}") from None


def _reopened(device: str, reason: str, tf32: bool) -> Backend:
    """Return the backend that was pickled.

    Raises:
        DeviceError: Its device cannot be used in this process.
    """
    return replace(get_backend(device, tf32=tf32), reason=reason)


def driver_is_installed() -> bool:
    """Return whether this machine has an NVIDIA driver."""
    try:
        ctypes.CDLL("nvcuda.dll" if sys.platform == "win32" else "libcuda.so.1")
    except OSError:
        return False
    return True


def _cpu_backend(reason: str, tf32: bool) -> Backend:
    if tf32:
        raise DeviceError(f"tf32 = true: is a mode of NVIDIA's GPUs, and this would compute on the CPU ({reason})")
    return Backend("cpu", np, "cpu", reason)


def _gpu_backend(index: int, reason: str, tf32: bool) -> Backend:
    """Import CuPy and prove that GPU `index` computes; raise :class:`DeviceError` with the reason if not."""
    try:
        cupy = importlib.import_module("cupy")
    except Exception as error:  # a broken CuPy may raise anything
        if isinstance(error, ImportError) and error.name == "cupy":
            raise DeviceError(f"CuPy is not installed; {_INSTALL_HINT}") from None
        raise DeviceError(f"CuPy cannot be imported ({_first_line(error)}); {_INSTALL_HINT}") from None
    try:
        count = cupy.cuda.runtime.getDeviceCount()
        if index >= count:
            raise DeviceError(f"there is no GPU {index}; this machine has {count}, counted from 0")
        # Device.use() is CuPy's own per-thread setting; a Backend for another GPU made later
        # in the same thread takes over, as in CuPy.
        cupy.cuda.Device(index).use()
        # cuBLAS and NVRTC are loaded when they are needed: a CuPy without CUDA's libraries fails only here.
        two = cupy.ones((2, 2), dtype="float32")
        product = float(cupy.asnumpy(two @ two + 1)[0, 0])
    except DeviceError:
        raise
    except Exception as error:  # the runtime, the driver, cuBLAS and the compiler have error classes of their own
        raise DeviceError(f"{_first_line(error)}; {_hint(error)}") from None
    if product != 3.0:
        raise DeviceError(f"GPU {index} gives wrong results: 2x2 ones squared plus one gave {product}, not 3")
    return Backend("gpu", cupy, f"gpu:{index}", reason, tf32)


def _hint(error: Exception) -> str:
    """Return advice for a GPU that failed to compute."""
    if out_of_memory(error):
        return _MEMORY_HINT
    # CuPy reports a library that it does not find as a RuntimeError.
    missing = isinstance(error, (ImportError, OSError)) or re.search(r"DynamicLib|lib(cublas|nvrtc)", repr(error))
    return _INSTALL_HINT if missing else _DRIVER_HINT


def out_of_memory(error: BaseException) -> bool:
    """Return whether an error says that memory is exhausted, the host's or a GPU's."""
    status = _EXHAUSTED.get(type(error).__name__)
    return isinstance(error, MemoryError) or (status is not None and getattr(error, "status", None) == status)


def _first_line(error: BaseException) -> str:
    """Return the first line of an error's message with its type."""
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__


def free_memory(backend: Backend) -> int | None:
    """Return how many bytes are free on a device; None if that is not known."""
    if backend.name == "cpu":
        return free_host_memory()
    cuda, pool = (getattr(backend.xp, name, None) for name in ("cuda", "get_default_memory_pool"))
    if cuda is None:
        return None
    # The driver counts the memory that CuPy's pool keeps for later as taken.
    return int(cuda.runtime.memGetInfo()[0]) + (0 if pool is None else int(pool().free_bytes()))


def give_back(backend: Backend) -> None:
    """Return the unused memory of the backend's pool to the device."""
    gc.collect()  # drops arrays that the frames of an error still hold
    pool = getattr(backend.xp, "get_default_memory_pool", None)
    if pool is not None:
        pool().free_all_blocks()
