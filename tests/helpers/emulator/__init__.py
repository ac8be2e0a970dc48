"""CUDA kernels on the host: their own text, compiled by the host's C++ compiler over ``cuda.h``."""

from __future__ import annotations

import ctypes
import hashlib
import os
import re
import shutil
import subprocess
import tempfile
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

HEADER = Path(__file__).with_name("cuda.h")
_PARTS = [HEADER.with_name(name) for name in ("cuda.h", "fibers.h", "clusters.h")]
# The blocks of a cluster, if the kernel has clusters, its name and its parameters.
_KERNEL = re.compile(
    r'extern "C" __global__ void\s+(?:__cluster_dims__\((\w+), 1, 1\)\s+)?(?:__launch_bounds__\([^)]*\)\s+)?'
    r"(\w+)\(([^)]*)\)"
)
# Types of parameters that are not pointers.
_TYPES = {
    "int": np.int32,
    "int64": np.int64,
    "uint8": np.uint8,
    "unsigned int": np.uint32,
    "bool": np.bool_,
    "float": np.float32,
    "double": np.float64,
}


class EmulationError(Exception):
    """A kernel was called wrongly, or its threads wait for each other for ever."""


def compiler() -> str | None:
    """Return the host's C++ compiler, or None."""
    return shutil.which(os.environ.get("CXX", "")) or shutil.which("g++") or shutil.which("clang++")


class Kernel:
    """One kernel of a program."""

    def __init__(self, name: str, function: Any, parameters: list[str], real: str) -> None:
        self._name, self._function, self._real = name, function, real
        self._parameters = parameters
        function.restype = ctypes.c_char_p

    def __call__(
        self,
        grid: tuple[int, ...],
        block: tuple[int, ...],
        arguments: tuple[Any, ...],
        shared: int = 0,
        backwards: bool = False,
        seed: int = 0,
    ) -> None:
        """Run the kernel on host memory; an argument is an address (int) or a NumPy scalar of the declared type.

        Blocks and threads run `backwards` or not, and what is told to others arrives at once, or as late as may be.
        Blocks of clusters run in turns, which `seed` draws (0: in order).
        """
        if len(arguments) != len(self._parameters):
            raise EmulationError(f"{self._name}: takes {len(self._parameters)} arguments, got {len(arguments)}")
        cells = [self._cell(p, a) for p, a in zip(self._parameters, arguments, strict=True)]
        given = (ctypes.c_void_p * len(cells))(*(ctypes.addressof(cell) for cell in cells))
        sizes = [(ctypes.c_uint * 3)(*map(int, (*size, 1, 1)[:3])) for size in (grid, block)]
        wrong = self._function(given, *sizes, ctypes.c_size_t(shared), backwards, ctypes.c_uint64(seed))
        if wrong:
            raise EmulationError(f"{self._name}: {wrong.decode()}")

    def check_arrays(self, dtypes: list[Any]) -> None:
        """Compare the types of arrays (None for other arguments) with those of the pointers that they are passed as."""
        for parameter, dtype in zip(self._parameters, dtypes, strict=False):
            if dtype is None:
                continue
            kind, stars, _ = parameter.replace("const", "").replace("real", self._real).partition("*")
            # A pointer to pointers gets an array of addresses.
            wanted = np.uint64 if parameter.count("*") > 1 else _TYPES[kind.strip()]
            if not stars or np.dtype(dtype) != wanted:
                raise EmulationError(f"{self._name}: {parameter} got an array of {dtype}")

    def _cell(self, parameter: str, argument: Any) -> Any:
        if "*" in parameter:
            if isinstance(argument, np.generic) and argument != 0:
                raise EmulationError(f"{self._name}: {parameter} got the number {argument!r}")
            return ctypes.c_uint64(int(argument))
        kind = " ".join(parameter.split()[:-1]).replace("const ", "").replace("real", self._real)
        wanted = _TYPES[kind]
        if type(argument) is not wanted:
            raise EmulationError(f"{self._name}: {parameter} got {argument!r} of type {type(argument).__name__}")
        return np.ctypeslib.as_ctypes(np.array(argument, dtype=np.uint8 if wanted is np.bool_ else wanted))


def signatures(code: str) -> dict[str, list[str]]:
    """Return the parameters of every kernel in `code`."""
    return {name: [" ".join(p.split()) for p in given.split(",")] for _, name, given in _KERNEL.findall(code)}


@cache
def program(code: str, options: tuple[str, ...]) -> dict[str, Kernel]:
    """Compile the kernels of `code` and return them by name."""
    kernels, calls = signatures(code), []
    clusters = {name: size or "0" for size, name, _ in _KERNEL.findall(code)}
    for name, parameters in kernels.items():
        types = [re.sub(r"\w+$", "", p).strip() for p in parameters]
        passed = ", ".join(f"*static_cast<{_plain(t)}*>(a[{i}])" for i, t in enumerate(types))
        calls.append(
            f"static void call_{name}(void** a) {{ {name}({passed}); }}\n"
            f'extern "C" const char* launch_{name}(void** a, unsigned* g, unsigned* b, size_t s, int w, '
            f"uint64_t seed) {{\n"
            f"    return emulator::launch(call_{name}, a, g, b, s, w, seed, {clusters[name]}, &dynamic_memory);\n}}"
        )
    text = f'#include "{HEADER}"\n{code}\n#line 1 "launches"\n' + "\n".join(calls)
    defines = [option for option in options if option.startswith("-D")]
    path = compiler()
    if path is None:
        raise EmulationError("there is no C++ compiler")
    command = [path, "-std=c++17", "-O1", "-shared", "-fPIC", "-ffp-contract=off", "-U_FORTIFY_SOURCE", "-w", *defines]
    parts = [part.read_text() for part in _PARTS]
    digest = hashlib.sha256("\0".join([text, *parts, *command]).encode()).hexdigest()[:20]
    library = Path(tempfile.gettempdir(), f"xpnet-emulator-{os.getuid()}-{digest}.so")
    if not library.exists():
        with tempfile.TemporaryDirectory() as folder:
            source = Path(folder, "kernels.cpp")
            source.write_text(text)
            made = Path(folder, "kernels.so")
            done = subprocess.run([*command, "-o", str(made), str(source)], capture_output=True, text=True, check=False)
            if done.returncode:
                raise EmulationError(done.stderr)
            beside = library.with_suffix(f".{os.getpid()}")
            shutil.copy(made, beside)
            beside.rename(library)  # others may be compiling the same
    loaded = ctypes.CDLL(str(library))
    real = next(option.split("=")[1] for option in options if option.startswith("-DREAL="))
    return {name: Kernel(name, loaded[f"launch_{name}"], p, real) for name, p in kernels.items()}


def _plain(kind: str) -> str:
    """Return a parameter's type without the const of its value."""
    return kind if "*" in kind else kind.replace("const ", "")


class Cublas:
    """The part of cuBLAS that xpnet calls, by NumPy on host memory."""

    def __init__(self, module: Any) -> None:
        self._module = module

    def __getattr__(self, name: str) -> Any:
        if name in ("cublasCreate_v2", "cublasSetMathMode", "cublasSetStream_v2", "cublasSetWorkspace_v2"):
            return lambda *_: 0
        if name == "cublasSgemm_v2":
            return lambda *a: self._gemm(np.float32, *self._batch_of_one(a))
        if name == "cublasDgemm_v2":
            return lambda *a: self._gemm(np.float64, *self._batch_of_one(a))
        if name == "cublasSgemmStridedBatched":
            return lambda *a: self._gemm(np.float32, *a)
        if name == "cublasDgemmStridedBatched":
            return lambda *a: self._gemm(np.float64, *a)
        raise AttributeError(name)

    @staticmethod
    def _batch_of_one(a: tuple[Any, ...]) -> tuple[Any, ...]:
        none, one = ctypes.c_longlong(0), ctypes.c_int(1)
        return (*a[:9], none, *a[9:11], none, *a[11:], none, one)

    def _gemm(self, dtype: Any, handle: Any, ta: Any, tb: Any, m: Any, n: Any, k: Any, alpha: Any, *rest: Any) -> int:
        a, lda, sa, b, ldb, sb, beta, c, ldc, sc, batch = rest
        # Matrices by columns, as cuBLAS counts them: leading dimension between columns.
        m, n, k = m.value, n.value, k.value

        def columns(at: Any, rows: int, cols: int, leading: Any, stride: Any) -> np.ndarray[Any, Any]:
            size = np.dtype(dtype).itemsize
            steps = (batch.value - 1) * stride.value + (cols - 1) * leading.value + rows
            flat = np.ctypeslib.as_array(
                ctypes.cast(at.value, ctypes.POINTER(np.ctypeslib.as_ctypes_type(dtype))), (steps,)
            )
            return np.lib.stride_tricks.as_strided(
                flat, (batch.value, rows, cols), (stride.value * size, size, leading.value * size)
            )

        left = columns(a, *((k, m) if ta.value else (m, k)), lda, sa)
        right = columns(b, *((n, k) if tb.value else (k, n)), ldb, sb)
        out = columns(c, m, n, ldc, sc)
        if ta.value:
            left = left.swapaxes(-1, -2)
        if tb.value:
            right = right.swapaxes(-1, -2)
        one, two = dtype(alpha._obj.value), dtype(beta._obj.value)

        def work() -> None:
            product = one * np.matmul(left, right)
            out[...] = product if two == 0 else product + two * out

        self._module.submit(work)
        return 0
