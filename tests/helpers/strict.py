"""A strict stand-in for CuPy, so that device code is tested where there is no device.

It wraps NumPy and raises where CuPy would, or where a transfer would hide: on turning an array into a
NumPy array or a Python number without saying so, and on mixing with NumPy arrays.  It counts host
synchronisations and launches.  Kernels run as :mod:`emulator` compiles them.  While a stream captures, kernels and
products are recorded and not executed, as CUDA does, and all else that would launch or wait raises.
"""

from __future__ import annotations

import contextlib
import functools
import operator
import sys
import types
import weakref
from typing import Any

import emulator
import numpy as np

from xpnet.backend import Backend


class StrictError(TypeError):
    """Something that CuPy forbids, or that waits for the device without saying so."""


class Module:
    """An array module over NumPy with CuPy's manners."""

    def __init__(self) -> None:
        self.synchronisations = 0
        self.launches = 0
        self.graph_launches = 0
        self.free = 2**33  # bytes
        self.backwards = False  # the order of a kernel's blocks and threads
        self.seed = 0  # of the turns of blocks that wait for each other; 0: in order
        self.clusters = 2  # that there is room for at once
        self.recording: list[Any] | None = None
        self.pools: list[_Blocks] = []  # of every pool ever made: CuPy's keep their blocks when they are dropped
        self.kept_free = 0  # bytes that the default pool keeps for later
        self._allocates: _Blocks | None = None
        module = self

        class Array:
            """An array on the pretended device."""

            __slots__ = ("_a",)
            __array_ufunc__ = None  # NumPy's operators give way to ours, which refuse

            def __init__(self, a: np.ndarray[Any, Any]) -> None:
                self._a = a

            shape = property(lambda self: self._a.shape)
            ndim = property(lambda self: self._a.ndim)
            size = property(lambda self: self._a.size)
            strides = property(lambda self: self._a.strides)
            flags = property(lambda self: self._a.flags)
            data = property(lambda self: types.SimpleNamespace(ptr=self._a.ctypes.data))
            dtype = property(lambda self: self._a.dtype)

            def __len__(self) -> int:
                return len(self._a)

            def _refuse(self, *_: Any, **__: Any) -> Any:
                raise StrictError("implicit conversion of a device array to a host value")

            __array__ = __float__ = __int__ = __bool__ = __index__ = __iter__ = _refuse

            def __getitem__(self, key: Any) -> Array:
                return module._wrap(self._a[module._unwrap(key)])

            def __setitem__(self, key: Any, value: Any) -> None:
                module._launched()
                self._a[module._unwrap(key)] = module._unwrap(value)

            def set(self, values: Any, stream: Any = None) -> None:
                module._forbid("a copy from the host")
                assert stream is not None, "a copy without a stream waits"
                self._a[...] = values

            def reshape(self, *shape: Any) -> Array:
                return module._wrap(self._a.reshape(*shape))

            def swapaxes(self, *axes: int) -> Array:
                return module._wrap(self._a.swapaxes(*axes))

            def __neg__(self) -> Array:
                module._launched()
                return module._wrap(-self._a)

            def __getattr__(self, name: str) -> Any:
                if name not in {"sum", "mean", "max", "min", "argmax", "astype", "copy"}:
                    raise AttributeError(name)
                return module._function(getattr(self._a, name))

        def binary(name: str) -> Any:
            function = getattr(operator, name)

            def apply(self: Any, other: Any) -> Any:
                module._launched()
                result = function(self._a, module._unwrap(other))
                return self if result is self._a else module._wrap(result)

            return apply

        def reflected(name: str) -> Any:
            function = getattr(operator, name)

            def apply(self: Any, other: Any) -> Any:
                module._launched()
                return module._wrap(function(module._unwrap(other), self._a))

            return apply

        for name in ("add", "sub", "mul", "truediv", "pow", "matmul", "gt", "ge", "lt", "le", "eq", "ne"):
            setattr(Array, f"__{name}__", binary(name))
        for name in ("and_", "or_", "xor", "rshift", "lshift"):
            setattr(Array, f"__{name.strip('_')}__", binary(name))
        for name in ("add", "sub", "mul", "truediv", "pow"):
            setattr(Array, f"__r{name}__", reflected(name))
            setattr(Array, f"__i{name}__", binary(f"i{name}"))
        self.ndarray = Array

    def asarray(self, values: Any, dtype: Any = None) -> Any:
        """Move `values` to the pretended device."""
        self._forbid("a copy from the host")
        return self._wrap(np.array(self._unwrap(values, host=True), dtype=dtype))

    def asnumpy(self, array: Any) -> np.ndarray[Any, Any]:
        """Move an array to the host, which waits for the device."""
        self._forbid("a copy to the host")
        self.synchronisations += 1
        return np.array(array._a)

    @functools.cached_property
    def cuda(self) -> Any:
        """What is asked of CuPy about devices."""
        module = self

        class Device:
            def __init__(self, index: int = 0) -> None:
                self.index = index

            compute_capability = "90"
            attributes = {"MaxSharedMemoryPerBlockOptin": 227 * 1024, "MultiProcessorCount": 132}  # noqa: RUF012

            def use(self) -> None:
                pass

            def __enter__(self) -> Any:
                return self

            def __exit__(self, *_: Any) -> None:
                pass

            def synchronize(self) -> None:
                module._forbid("a synchronisation")
                module.synchronisations += 1

        class Stream:
            """A stream; capturing, it records."""

            ptr = 1

            def __init__(self, *, non_blocking: bool = False) -> None:
                assert non_blocking

            def __enter__(self) -> Any:
                return self

            def __exit__(self, *_: Any) -> None:
                pass

            def begin_capture(self) -> None:
                module._forbid("a second capture")
                module.recording = []

            def end_capture(self) -> Any:
                recorded, module.recording = module.recording, None
                return Graph(recorded)

            def synchronize(self) -> None:
                module._forbid("a synchronisation")

            def wait_event(self, event: Any) -> None:
                assert isinstance(event, Event)

        class Event:
            def record(self, stream: Any = None) -> None:
                pass

        class Graph:
            """What a stream captured."""

            def __init__(self, recorded: Any) -> None:
                self.recorded = recorded

            def upload(self, stream: Any) -> None:
                pass

            def launch(self) -> None:
                module._forbid("a graph")
                module.graph_launches += 1
                for work in self.recorded:
                    work()

        class MemoryPool:
            """A pool; blocks that nothing uses are given back by `free_all_blocks` alone, as in CuPy 14."""

            def __init__(self) -> None:
                self.blocks = _Blocks()
                module.pools.append(self.blocks)

            def malloc(self, size: int) -> Any:
                raise NotImplementedError  # it only names its pool

            def free_all_blocks(self) -> None:
                self.blocks.free()

            def total_bytes(self) -> int:
                return self.blocks.bytes()

        @contextlib.contextmanager
        def using_allocator(malloc: Any) -> Any:
            before, module._allocates = module._allocates, malloc.__self__.blocks
            try:
                yield
            finally:
                module._allocates = before

        class Runtime:
            getDevice = staticmethod(lambda: 0)  # noqa: N815
            getDeviceCount = staticmethod(lambda: 1)  # noqa: N815 - CuPy's name
            memGetInfo = staticmethod(lambda: (module.free, 2**34))  # noqa: N815
            getDeviceProperties = staticmethod(  # noqa: N815
                lambda _: {"name": b"Pretended", "totalGlobalMem": 2**34, "major": 9, "minor": 0}
            )

        names = {
            "Device": Device,
            "Stream": Stream,
            "Event": Event,
            "alloc_pinned_memory": staticmethod(bytearray),
            "MemoryPool": MemoryPool,
            "runtime": Runtime,
            "using_allocator": staticmethod(using_allocator),
            "get_current_stream": staticmethod(
                lambda: types.SimpleNamespace(ptr=int(module.recording is not None), wait_event=lambda _: None)
            ),
        }
        return type("cuda", (), names)

    def empty(self, shape: Any, dtype: Any = float) -> Any:
        """Allocate, which is no launch; what is there is of no use."""
        array = np.empty(shape, dtype)
        if self._allocates is not None and array.size:
            array = self._allocates.new(array.nbytes, array.dtype).reshape(array.shape)
        array.view(np.uint8).fill(0xFF) if array.ndim else None
        return self._wrap(array)

    def get_default_memory_pool(self) -> Any:
        """Return what is asked of the pool that memory comes from where no other is asked for."""
        return types.SimpleNamespace(
            free_bytes=lambda: self.kept_free, used_bytes=lambda: 0, free_all_blocks=lambda: None
        )

    def RawModule(self, *, code: str, options: tuple[str, ...]) -> Any:
        """Return kernels that are compiled for the host."""
        module, kernels = self, emulator.program(code, options)

        class Function:
            def __init__(self, name: str) -> None:
                self.name, self.kernel, self.max_dynamic_shared_size_bytes = name, kernels[name], 0

            def __call__(self, grid: Any, block: Any, arguments: Any, shared_mem: int = 0) -> None:
                arrays = [a._a for a in arguments if isinstance(a, module.ndarray)]
                given = tuple(a._a.ctypes.data if isinstance(a, module.ndarray) else a for a in arguments)
                self.kernel.check_arrays([a.dtype if isinstance(a, module.ndarray) else None for a in arguments])
                if shared_mem > max(40 * 2**10, self.max_dynamic_shared_size_bytes):
                    raise StrictError(f"{shared_mem} bytes of shared memory were not asked for")
                # A graph knows addresses, and keeps nothing alive.
                owners = [weakref.ref(_owner(a)) for a in arrays]

                def work() -> None:
                    if any(owner() is None for owner in owners):
                        raise StrictError(f"{self.name}: memory that a graph reads has been freed")
                    self.kernel(grid, block, given, shared_mem, module.backwards, module.seed)

                module.submit(work)

        return type("RawModule", (), {"get_function": staticmethod(Function)})

    def submit(self, work: Any) -> None:
        """Launch a kernel or a product: execute it, or record it while a stream captures."""
        self.launches += 1
        if self.recording is None:
            work()
        else:
            self.recording.append(work)

    def _launched(self) -> None:
        self._forbid("array code")
        self.launches += 1

    def _forbid(self, what: str) -> None:
        if self.recording is not None:
            raise StrictError(f"{what} while a stream captures")

    def __getattr__(self, name: str) -> Any:
        return self._function(getattr(np, name))

    def _function(self, function: Any) -> Any:
        def call(*args: Any, **kwargs: Any) -> Any:
            self._launched()
            return self._wrap(function(*map(self._unwrap, args), **{k: self._unwrap(v) for k, v in kwargs.items()}))

        return call

    def _wrap(self, result: Any) -> Any:
        if isinstance(result, (np.ndarray, np.generic)):
            return self.ndarray(np.asarray(result))
        return result

    def _unwrap(self, value: Any, *, host: bool = False) -> Any:
        if isinstance(value, self.ndarray):
            return value._a
        if isinstance(value, np.ndarray) and not host:
            raise StrictError("a NumPy array is mixed with device arrays")
        if isinstance(value, (tuple, list)):
            return type(value)(self._unwrap(item) for item in value)
        return value


class _Block(bytearray):
    """Memory of a pool."""


class _Blocks:
    """The memory that a pool has of the device: each block, and the array that was made of it."""

    def __init__(self) -> None:
        self._blocks: list[tuple[_Block, Any]] = []

    def new(self, size: int, dtype: Any) -> np.ndarray[Any, Any]:
        """Return new memory as an array, which lives as long as something uses it."""
        block = _Block(size)
        array = np.frombuffer(block, dtype)
        self._blocks.append((block, weakref.ref(array)))
        return array

    def free(self) -> None:
        """Give back what nothing uses."""
        self._blocks = [(block, array) for block, array in self._blocks if array() is not None]

    def bytes(self) -> int:
        """Return the size of all blocks."""
        return sum(len(block) for block, _ in self._blocks)


def _owner(array: np.ndarray[Any, Any]) -> Any:
    """Return what holds an array's memory: an array, or a pool's block, which lives on when the array is dropped."""
    while isinstance(array.base, np.ndarray):
        array = array.base
    base = array.base.obj if isinstance(array.base, memoryview) else array.base
    return base if isinstance(base, _Block) else array


def strict_backend() -> Backend:
    """Return a backend on a new strict module, with the reference operations."""
    return Backend("strict", Module(), "strict:0", "for tests")


def gpu_backend(monkeypatch: Any) -> Backend:
    """Return a backend that is taken for a GPU: its kernels run on the host."""
    return Backend("gpu", _with_cublas(monkeypatch), "gpu:0", "for tests")


def pretended_cupy(monkeypatch: Any) -> Module:
    """Let ``import cupy`` give a strict module, and return it."""
    module = _with_cublas(monkeypatch)
    monkeypatch.setitem(sys.modules, "cupy", module)
    return module


def _with_cublas(monkeypatch: Any) -> Module:
    module = Module()
    monkeypatch.setattr("xpnet.ops.cuda.products.load_cublas", lambda: emulator.Cublas(module))
    monkeypatch.setattr("xpnet.ops.cuda.clusters.active_clusters", lambda *_: module.clusters)
    monkeypatch.setattr("xpnet.ops.cuda.products.WORKSPACE_BYTES", 1024)  # it is not used, and would be filled
    return module
