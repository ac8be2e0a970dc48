"""Functions for compiled loops that Numba lacks: calls of BLAS and memmove, prefetch, and flags between threads.

C functions are called by their addresses, which are arguments, because code that contains an address could not be
cached on disk.  Flags are words of an int64 array, written with release and read with acquire order, so that a thread
that sees a flag also sees everything that was written before the flag was raised.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
from functools import lru_cache
from typing import Any

import numba
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from xpnet.ops.blas import numpy_blas
from xpnet.ops.numba_cache import CodeCache

_I8, _I32, _I64 = ir.IntType(8), ir.IntType(32), ir.IntType(64)
_CACHE_LINE = 64
# Number of times that a waiting thread reads a flag before it yields the processor: some microseconds.
_LOOKS = 2000

TRANSPOSED, AS_IT_IS = 112, 111


def compiled(function: Any = None, **options: Any) -> Any:
    """Compile a function without the GIL, and cache it on disk if a folder can be written."""
    if function is None:
        return lambda f: compiled(f, **options)
    dispatcher = numba.njit(nogil=True, error_model="numpy", **options)(function)
    with contextlib.suppress(RuntimeError, OSError):  # no writable folder, or no sources
        dispatcher._cache = CodeCache(function)
    return dispatcher


def inlined(function: Any) -> Any:
    """Make a function a part of every compiled function that calls it, before the compiler sees it."""
    return numba.njit(inline="always")(function)


@lru_cache(maxsize=1)
def addresses() -> tuple[int, int, int, int] | None:
    """Return the addresses of sgemm, dgemm, memmove and sched_yield; None if loops cannot call this system's BLAS.

    sched_yield is 0 on systems without it: a waiting thread then keeps reading the flag.
    """
    blas = numpy_blas()
    if blas is None or not blas.wide or blas.threads is None or os.name != "posix":
        return None
    libc = ctypes.CDLL(None)
    gemm = [ctypes.cast(function, ctypes.c_void_p).value or 0 for function in (blas.sgemm, blas.dgemm)]
    give_way = ctypes.cast(libc.sched_yield, ctypes.c_void_p).value if hasattr(libc, "sched_yield") else 0
    return gemm[0], gemm[1], ctypes.cast(libc.memmove, ctypes.c_void_p).value or 0, give_way or 0


def _call(context, builder, values, result, kinds):
    """Call the C function at the address `values[0]` with the other values."""
    address, *arguments = values
    builder.call(builder.inttoptr(address, ir.FunctionType(result, kinds).as_pointer()), arguments)
    return context.get_dummy_value()


@intrinsic
def gemm(context, function, of_a, of_b, m, n, k, alpha, a, lda, b, ldb, beta, c, ldc):
    """C <- alpha op(A) op(B) + beta C, row-major; a, b and c are addresses, alpha and beta of the matrices' type."""
    real = alpha
    word = types.int64
    kind = types.int32
    signature = types.void(word, kind, kind, word, word, word, real, word, word, word, word, real, word, word)

    def codegen(context, builder, signature, values):
        address, *rest = values
        values = [address, ir.Constant(_I32, 101), *rest]
        number = context.get_value_type(real)
        kinds = [*[_I32] * 3, *[_I64] * 3, number, *[_I64] * 4, number, *[_I64] * 2]
        return _call(context, builder, values, ir.VoidType(), kinds)

    return signature, codegen


@intrinsic
def span(context, memory, start, count):
    """Return `count` numbers of a contiguous array (size,), from `start` on, as an array.

    It neither checks the bounds nor keeps the memory alive; a slice checks both its ends, which takes longer than the
    arithmetic of some tens of numbers.
    """
    result = types.Array(memory.dtype, 1, "C")

    def codegen(context, builder, signature, values):
        source = context.make_array(signature.args[0])(context, builder, values[0])
        size = context.get_constant(types.intp, context.get_abi_sizeof(context.get_data_type(memory.dtype)))
        made = context.make_array(result)(context, builder)
        context.populate_array(
            made,
            data=builder.gep(source.data, [values[1]]),
            shape=cgutils.pack_array(builder, [values[2]]),
            strides=cgutils.pack_array(builder, [size]),
            itemsize=size,
            meminfo=None,
        )
        return made._getvalue()

    return result(memory, types.intp, types.intp), codegen


@intrinsic
def copy_bytes(context, function, target, source, count):
    """Call memmove, which copies a row twice as fast as a compiled loop."""

    def codegen(context, builder, signature, values):
        return _call(context, builder, values, _I64, [_I64] * 3)

    return types.void(types.int64, types.int64, types.int64, types.int64), codegen


@intrinsic
def _let_others_run(context, function):
    def codegen(context, builder, signature, values):
        return _call(context, builder, values, _I32, [])

    return types.void(types.int64), codegen


@intrinsic
def _prefetch_line(context, address):
    signature = types.void(types.int64)

    def codegen(context, builder, signature, values):
        pointer = builder.inttoptr(values[0], _I8.as_pointer())
        kind = ir.FunctionType(ir.VoidType(), [_I8.as_pointer(), _I32, _I32, _I32])
        function = builder.module.declare_intrinsic("llvm.prefetch.p0", (), kind)
        # For reading, into all cache levels, in the data cache.
        builder.call(function, [pointer, *(ir.Constant(_I32, value) for value in (0, 3, 1))])
        return context.get_dummy_value()

    return signature, codegen


@intrinsic
def read_flag(context, flags, index):
    """Return the present value of ``flags[index]``, which other threads set."""
    signature = types.int64(flags, types.intp)

    def codegen(context, builder, signature, values):
        array = context.make_array(signature.args[0])(context, builder, values[0])
        return builder.load_atomic(cgutils.gep(builder, array.data, values[1]), "acquire", 8)

    return signature, codegen


@intrinsic
def raise_flag(context, flags, index, value):
    """Set ``flags[index]``, visible only after everything that this thread has written before."""
    signature = types.void(flags, types.intp, types.int64)

    def codegen(context, builder, signature, values):
        array = context.make_array(signature.args[0])(context, builder, values[0])
        builder.store_atomic(values[2], cgutils.gep(builder, array.data, values[1]), "release", 8)
        return context.get_dummy_value()

    return signature, codegen


@compiled
def wait_for(flags, index, value, give_way):
    """Wait until ``flags[index]`` is at least `value`."""
    looks = 0
    while read_flag(flags, index) < value:
        looks += 1
        if looks > _LOOKS and give_way != 0:
            _let_others_run(give_way)


@compiled
def meet(flags, mine, threads, apart, meeting, give_way, leave):
    """Wait until the flags of all threads are at least `meeting`; return whether one of them says that it has left."""
    raise_flag(flags, mine * apart, meeting)
    for thread in range(threads):
        if thread != mine:
            wait_for(flags, thread * apart, meeting, give_way)
    for thread in range(threads):  # noqa: SIM110
        if read_flag(flags, thread * apart) >= leave:
            return True
    return False


@compiled
def prefetch(address, size):
    """Prefetch `size` bytes from `address` on, without waiting."""
    for offset in range(0, size, _CACHE_LINE):
        _prefetch_line(address + offset)
