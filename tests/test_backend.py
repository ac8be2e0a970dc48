"""Choosing a device, with every way in which a GPU can be missing."""

from __future__ import annotations

import importlib
import re
import sys
import types

import numpy as np
import pytest

from xpnet.backend import Backend, get_backend, out_of_memory
from xpnet.errors import ArrayError, DeviceError


def fake_cupy(count=1, fails: Exception | None = None, one: float = 3.0) -> types.ModuleType:
    """Return a module that acts as CuPy does where `fails` is what the driver says."""

    def device_count():
        if fails is not None:
            raise fails
        return count

    class Device:
        used: list[int] = []  # noqa: RUF012

        def __init__(self, index=0):
            self.index = index

        def use(self):
            self.used.append(self.index)

    cupy = types.ModuleType("cupy")
    cupy.cuda = types.SimpleNamespace(Device=Device, runtime=types.SimpleNamespace(getDeviceCount=device_count))
    cupy.ones = lambda shape, dtype: np.ones(shape, dtype) * np.sqrt((one - 1) / 2)
    cupy.asnumpy = np.asarray
    cupy.ndarray = np.ndarray
    cupy.asarray = np.asarray
    return cupy


def cupy_whose_products_fail(error: Exception) -> types.ModuleType:
    class Two:
        def __matmul__(self, other):
            raise error

    cupy = fake_cupy()
    cupy.ones = lambda shape, dtype: Two()
    return cupy


@pytest.fixture
def install(monkeypatch):
    return lambda cupy: monkeypatch.setitem(sys.modules, "cupy", cupy)


def test_cpu():
    backend = get_backend("cpu")
    assert (backend.name, backend.device, backend.xp) == ("cpu", "cpu", np)
    array = backend.asarray([1, 2], dtype="float32")
    assert array.dtype == np.float32
    assert backend.to_numpy(array) is array
    backend.synchronize()
    with pytest.raises(AttributeError):
        backend.name = "gpu"


@pytest.mark.parametrize("device", ["tpu", "gpu:", "gpu:x", "gpu:-1", "GPU", ""])
def test_an_unknown_device_is_named(device):
    with pytest.raises(DeviceError, match=r"device = .*: must be auto, cpu, gpu or gpu:N"):
        get_backend(device)


def test_without_cupy(install):
    install(None)
    with pytest.raises(
        DeviceError, match=r"device = gpu: cannot be used: CuPy is not installed; .*pip install 'xpnet\[cuda13\]'"
    ):
        get_backend("gpu")
    auto = get_backend("auto")
    assert auto.device == "cpu"
    assert "CuPy is not installed" in auto.reason


def test_without_a_driver(install):
    install(fake_cupy(fails=RuntimeError("cudaErrorInsufficientDriver: CUDA driver version is insufficient")))
    with pytest.raises(
        DeviceError, match=r"cudaErrorInsufficientDriver: CUDA driver version is insufficient.*nvidia-smi"
    ):
        get_backend("gpu")
    assert "cudaErrorInsufficientDriver" in get_backend("auto").reason


def test_a_gpu_that_is_not_there(install):
    install(fake_cupy(count=2))
    with pytest.raises(
        DeviceError, match="device = gpu:2: cannot be used: there is no GPU 2; this machine has 2, counted from 0"
    ):
        get_backend("gpu:2")


@pytest.mark.parametrize(
    "error",
    [
        ImportError("libcublas.so.13: cannot open shared object file: No such file or directory"),
        OSError("libnvrtc.so.13: cannot open shared object file"),
        RuntimeError("DynamicLibNotFoundError: Failure finding nvrtc"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_cupy_without_cuda_libraries(install, error):
    install(cupy_whose_products_fail(error))
    with pytest.raises(DeviceError, match=r"cannot be used: .*(cublas|nvrtc).*install the wheel.*pip install"):
        get_backend("gpu")
    assert get_backend("auto").device == "cpu"


class CUDARuntimeError(RuntimeError):
    """As CuPy has it, and the others too."""

    def __init__(self, status, text=""):
        super().__init__(text)
        self.status = status


CUDADriverError = type("CUDADriverError", (CUDARuntimeError,), {})
CUBLASError = type("CUBLASError", (CUDARuntimeError,), {})
NVRTCError = type("NVRTCError", (CUDARuntimeError,), {})
CompileException = type("CompileException", (Exception,), {})
OutOfMemoryError = type("OutOfMemoryError", (MemoryError,), {})

MEMORY = r"other programs hold its memory, as nvidia-smi shows"
DRIVER = r"install or update the NVIDIA driver"


@pytest.mark.parametrize(
    ("error", "hint"),
    [
        (OutOfMemoryError("Out of memory allocating 512 bytes"), MEMORY),
        (CUDARuntimeError(2, "cudaErrorMemoryAllocation: out of memory"), MEMORY),
        (CUDADriverError(2, "CUDA_ERROR_OUT_OF_MEMORY: out of memory"), MEMORY),
        (CUBLASError(3, "CUBLAS_STATUS_ALLOC_FAILED"), MEMORY),
        (CUDARuntimeError(46, "cudaErrorDevicesUnavailable: all CUDA-capable devices are busy"), DRIVER),
        (CUDARuntimeError(100, "cudaErrorNoDevice: no CUDA-capable device is detected"), DRIVER),
        (CUDADriverError(999, "CUDA_ERROR_UNKNOWN: unknown error"), DRIVER),
        (CUBLASError(1, "CUBLAS_STATUS_NOT_INITIALIZED"), DRIVER),
        (CompileException("kern.cu(1): error: an odd letter\n1 error"), DRIVER),
        (AssertionError(), DRIVER),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else "",
)
def test_a_gpu_that_is_full_broken_or_forbidden(install, error, hint):
    install(cupy_whose_products_fail(error))
    said = ": ".join(filter(None, [type(error).__name__, str(error).split("\n")[0]]))
    auto = get_backend("auto")
    assert auto.device == "cpu"
    assert auto.reason.startswith(f"no GPU can be used: {said}; ")
    with pytest.raises(DeviceError, match=rf"device = gpu: cannot be used: {re.escape(said)}; .*{hint}") as told:
        get_backend("gpu")
    assert "\n" not in str(told.value)


def test_a_cupy_that_breaks_while_it_is_imported(install, monkeypatch):
    def broken(name):
        raise ValueError("numpy.dtype size changed, may indicate binary incompatibility")

    monkeypatch.setattr(importlib, "import_module", broken)
    assert "CuPy cannot be imported (ValueError: numpy.dtype size changed" in get_backend("auto").reason
    with pytest.raises(DeviceError, match="device = gpu: cannot be used: CuPy cannot be imported"):
        get_backend("gpu")


@pytest.mark.parametrize(
    ("error", "exhausted"),
    [
        (MemoryError(), True),
        (OutOfMemoryError(), True),
        (CUDARuntimeError(2), True),
        (CUDADriverError(2), True),
        (CUBLASError(3), True),
        (NVRTCError(1), True),
        (CUDARuntimeError(700), False),  # an illegal address
        (CUDADriverError(1), False),
        (CUBLASError(2), False),
        (RuntimeError("out of memory"), False),
        (DeviceError("2"), False),
        (ValueError(), False),
    ],
    ids=lambda value: f"{type(value).__name__}-{getattr(value, 'status', '')}",
)
def test_what_says_that_memory_is_exhausted(error, exhausted):
    assert out_of_memory(error) is exhausted


def test_no_part_of_cupy_is_imported_by_a_name_of_its_own(install, monkeypatch):
    # What cupy.cuda has are attributes: as modules they exist under other names in every version.
    install(fake_cupy())
    asked = []
    original = importlib.import_module
    monkeypatch.setattr(importlib, "import_module", lambda name: asked.append(name) or original(name))
    assert get_backend("gpu").device == "gpu:0"
    assert asked == ["cupy"]


def test_a_gpu_that_computes_wrongly(install):
    install(fake_cupy(one=5.0))
    with pytest.raises(DeviceError, match="gives wrong results"):
        get_backend("gpu")


def test_a_gpu_that_works(install):
    cupy = fake_cupy(count=2)
    install(cupy)
    assert get_backend("auto").device == "gpu:0"
    backend = get_backend("gpu:1")
    assert (backend.name, backend.device, backend.xp) == ("gpu", "gpu:1", cupy)
    assert cupy.cuda.Device.used[-1] == 1


def test_own_names_the_argument():
    backend = get_backend("cpu")
    np.testing.assert_array_equal(backend.own("x", [[1, 2]]), [[1, 2]])
    other = Backend("cpu", types.SimpleNamespace(ndarray=dict), "gpu:0")
    with pytest.raises(ArrayError, match=r"weights: got a numpy\.ndarray, but this network computes on gpu:0"):
        other.own("weights", np.ones(2))
