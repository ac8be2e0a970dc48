"""A strict stand-in for CuPy, so that device code is tested where there is no device.

It wraps NumPy and raises where CuPy would, or where a transfer would hide: on turning an array into a
NumPy array or a Python number without saying so, and on mixing with NumPy arrays.  It counts host
synchronisations.
"""

from __future__ import annotations

import operator
from typing import Any

import numpy as np

from xpnet.backend import Backend


class StrictError(TypeError):
    """Something that CuPy forbids, or that waits for the device without saying so."""


class Module:
    """An array module over NumPy with CuPy's manners."""

    def __init__(self) -> None:
        self.synchronisations = 0
        self.launches = 0
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
            dtype = property(lambda self: self._a.dtype)

            def __len__(self) -> int:
                return len(self._a)

            def _refuse(self, *_: Any, **__: Any) -> Any:
                raise StrictError("implicit conversion of a device array to a host value")

            __array__ = __float__ = __int__ = __bool__ = __index__ = __iter__ = _refuse

            def __getitem__(self, key: Any) -> Array:
                return module._wrap(self._a[module._unwrap(key)])

            def __setitem__(self, key: Any, value: Any) -> None:
                module.launches += 1
                self._a[module._unwrap(key)] = module._unwrap(value)

            def __getattr__(self, name: str) -> Any:
                if name not in {"sum", "mean", "max", "min", "astype", "reshape", "swapaxes", "copy"}:
                    raise AttributeError(name)
                return module._function(getattr(self._a, name))

        def binary(name: str) -> Any:
            function = getattr(operator, name)

            def apply(self: Any, other: Any) -> Any:
                module.launches += 1
                result = function(self._a, module._unwrap(other))
                return self if result is self._a else module._wrap(result)

            return apply

        def reflected(name: str) -> Any:
            function = getattr(operator, name)

            def apply(self: Any, other: Any) -> Any:
                module.launches += 1
                return module._wrap(function(module._unwrap(other), self._a))

            return apply

        for name in ("add", "sub", "mul", "truediv", "pow", "matmul", "gt", "ge", "lt", "le", "eq", "ne"):
            setattr(Array, f"__{name}__", binary(name))
        for name in ("add", "sub", "mul", "truediv", "pow"):
            setattr(Array, f"__r{name}__", reflected(name))
            setattr(Array, f"__i{name}__", binary(f"i{name}"))
        self.ndarray = Array

    def asarray(self, values: Any, dtype: Any = None) -> Any:
        """Move `values` to the pretended device."""
        return self._wrap(np.array(self._unwrap(values, host=True), dtype=dtype))

    def asnumpy(self, array: Any) -> np.ndarray[Any, Any]:
        """Move an array to the host, which waits for the device."""
        self.synchronisations += 1
        return np.array(array._a)

    @property
    def cuda(self) -> Any:
        """What is asked of CuPy about devices."""
        module = self

        class Device:
            def __init__(self, index: int = 0) -> None:
                self.index = index

            def use(self) -> None:
                pass

            def synchronize(self) -> None:
                module.synchronisations += 1

        class Runtime:
            getDeviceCount = staticmethod(lambda: 1)  # noqa: N815 - CuPy's name
            memGetInfo = staticmethod(lambda: (2**33, 2**34))  # noqa: N815
            getDeviceProperties = staticmethod(  # noqa: N815
                lambda _: {"name": b"Pretended", "totalGlobalMem": 2**34, "major": 9, "minor": 0}
            )

        return type("cuda", (), {"Device": Device, "runtime": Runtime})

    def __getattr__(self, name: str) -> Any:
        return self._function(getattr(np, name))

    def _function(self, function: Any) -> Any:
        def call(*args: Any, **kwargs: Any) -> Any:
            self.launches += 1
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


def strict_backend() -> Backend:
    """Return a backend on a new strict module."""
    return Backend("strict", Module(), "strict:0", "for tests")
