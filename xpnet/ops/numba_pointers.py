"""Pointers for compiled loops, and functions that are compiled apart and called by their addresses.

A loop over a pointer compiles in half the time of one over an array, since an array brings its shape, its strides and
its owner.  A function that calls others contains them, and they are compiled once more as a part of it; one that calls
them by address does not, and only those that are called are compiled at all.
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import types
from numba.extending import intrinsic
from numba.np.numpy_support import from_dtype

from xpnet.ops.numba_intrinsics import compiled

_WORD = types.int64


def part(function: Any) -> Any:
    """Compile a function ``part(a, call, t, like)`` that :func:`call_part` can call.

    `a` are its arguments and `call` those of all parts of a step, pointers to int64; `t` is the number of the step, and
    `like` a pointer to floating numbers, whose type is that of all arrays.
    """
    return compiled(no_cpython_wrapper=True)(function)


def address_of(function: Any, dtype: Any) -> int:
    """Return the address of a function that :func:`part` compiles, for floating numbers of a type."""
    words = types.CPointer(_WORD)
    signature = types.void(words, words, _WORD, types.CPointer(from_dtype(dtype)))
    function.compile(signature)
    code = function.overloads[signature.args]
    return int(code.library.get_pointer_to_function(code.fndesc.llvm_cfunc_wrapper_name))


@intrinsic
def call_part(context, address, a, call, t, like):
    """Call the part at `address`; `a`, `call` and `like` are addresses."""

    def codegen(context, builder, signature, values):
        kind = ir.FunctionType(ir.VoidType(), [ir.IntType(64)] * 4)
        builder.call(builder.inttoptr(values[0], kind.as_pointer()), values[1:])
        return context.get_dummy_value()

    return types.void(*[_WORD] * 5), codegen


def _to_pointer(context, builder, signature, values):
    return builder.inttoptr(values[0], context.get_value_type(signature.return_type))


@intrinsic
def reals_at(context, address, like):
    """Return the address as a pointer to numbers of the type that `like` points to."""
    return like(_WORD, like), _to_pointer


def _pointing_to(kind: Any) -> Any:
    @intrinsic
    def pointer_at(context, address):
        """Return the address as a pointer to numbers of one type."""
        return types.CPointer(kind)(_WORD), _to_pointer

    return pointer_at


bytes_at, words_at, integers_at, doubles_at = map(_pointing_to, (types.uint8, types.uint32, _WORD, types.float64))


@intrinsic
def after(context, pointer, count):
    """Return a pointer to the number that lies `count` numbers after the first."""

    def codegen(context, builder, signature, values):
        return builder.gep(values[0], [values[1]])

    return pointer(pointer, types.intp), codegen


@intrinsic
def real(context, like, number):
    """Return an integer as a number of the type that `like` points to."""

    def codegen(context, builder, signature, values):
        return context.cast(builder, values[1], _WORD, like.dtype)

    return like.dtype(like, _WORD), codegen


@intrinsic
def size_of(context, like):
    """Return the bytes of a number of the type that `like` points to."""

    def codegen(context, builder, signature, values):
        return context.get_constant(_WORD, context.get_abi_sizeof(context.get_data_type(like.dtype)))

    return _WORD(like), codegen
