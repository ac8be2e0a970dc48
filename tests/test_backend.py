"""Choosing a device, with every way in which a GPU can be missing."""

from __future__ import annotations

import importlib
import sys
import types

import numpy as np
import pytest

from xpnet.backend import Backend, get_backend
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


@pytest.fixture
def install(monkeypatch):
    def put(cupy):
        monkeypatch.setitem(sys.modules, "cupy", cupy)

    return put


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
        DeviceError, match=r"device = gpu: cannot be used: CuPy is not installed; .*pip install '\.\[cuda13\]'"
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
    class Two:
        def __matmul__(self, other):
            raise error

    cupy = fake_cupy()
    cupy.ones = lambda shape, dtype: Two()
    install(cupy)
    with pytest.raises(DeviceError, match=r"cannot be used: .*(cublas|nvrtc).*install the wheel.*pip install"):
        get_backend("gpu")
    assert get_backend("auto").device == "cpu"


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
