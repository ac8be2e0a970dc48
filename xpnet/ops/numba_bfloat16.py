"""Products of matrices rounded to bfloat16, by the instruction VDPBF16PS of AVX-512 BF16.

A bfloat16 number is the upper half of a float32: the same exponent, 8 bits of mantissa.  The instruction takes sixteen
pairs of such numbers from each of two registers, and adds the products of both numbers of a pair to sixteen float32
sums: twice as many products in a cycle as float32 has.  So a matrix is stored as pairs, along the axis over which the
product adds.
"""

from __future__ import annotations

from functools import lru_cache
from itertools import chain
from typing import Any

import numba
import numpy as np
from llvmlite import binding, ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from xpnet.ops.numba_intrinsics import compiled

# Rows and columns of the block of the result that stays in registers: 24 of the 32, of 16 sums each.
ROWS, COLUMNS = 12, 32
_LANES = 16
_I32, _I64 = ir.IntType(32), ir.IntType(64)
_SUMS, _PAIRS = ir.VectorType(ir.FloatType(), _LANES), ir.VectorType(_I32, _LANES)
_HALF, _ONE, _LOW, _HIGH = np.uint32(0x7FFF), np.uint32(1), np.uint32(16), np.uint32(0xFFFF0000)


@lru_cache(maxsize=1)
def processor_has_bfloat16() -> bool:
    """Return whether Numba compiles for a processor with AVX-512 BF16."""
    settings: Any = numba.config
    if settings.CPU_NAME or settings.CPU_FEATURES:
        return False
    features = binding.get_host_cpu_features()
    return bool(features.get("avx512bf16") and features.get("avx512f"))


def _block(along_rows):
    """Return an intrinsic that computes a block of ROWS by COLUMNS of A B; see `_block_by_rows`."""

    @intrinsic
    def block(context, a, stride, b, c, row, pairs):
        def codegen(context, builder, signature, values):
            _Block(builder, along_rows, *values).emit()
            return context.get_dummy_value()

        word = types.int64
        return types.void(*[word] * 6), codegen

    return block


class _Block:
    """Emits the code of a block: a loop over the pairs, whose sums stay in registers, and the stores."""

    def __init__(self, builder, along_rows, a, stride, b, c, row, pairs):
        self.builder, self.along_rows, self.stride, self.row, self.pairs = builder, along_rows, stride, row, pairs
        self.a, self.b, self.c = a, b, c
        kind = ir.FunctionType(_SUMS, [_SUMS, _PAIRS, _PAIRS])
        self.multiply = builder.module.declare_intrinsic("llvm.x86.avx512bf16.dpbf16ps.512", (), kind)

    def emit(self):
        builder = self.builder
        before, loop, after = builder.block, builder.append_basic_block("pairs"), builder.append_basic_block("store")
        builder.branch(loop)
        builder.position_at_end(loop)
        number, a, b = (builder.phi(_I64) for _ in range(3))
        sums = [[builder.phi(_SUMS) for _ in range(COLUMNS // _LANES)] for _ in range(ROWS)]
        right = [self._load(b, 64 * v, _PAIRS, 64) for v in range(COLUMNS // _LANES)]
        new = [[builder.call(self.multiply, [s, left, r]) for s, r in zip(row, right, strict=True)]
               for row, left in zip(sums, (self._left(a, i) for i in range(ROWS)), strict=True)]  # fmt: skip
        steps = (
            ir.Constant(_I64, 1),
            ir.Constant(_I64, 4) if self.along_rows else self.stride,
            self._number(4 * COLUMNS),
        )
        following = [builder.add(value, step) for value, step in zip((number, a, b), steps, strict=True)]
        starts = self._number(0), self.a, self.b
        for value, start, end in zip((number, a, b), starts, following, strict=True):
            value.add_incoming(start, before)
            value.add_incoming(end, loop)
        for value, end in zip(chain(*sums), chain(*new), strict=True):
            value.add_incoming(ir.Constant(_SUMS, [0.0] * _LANES), before)
            value.add_incoming(end, loop)
        builder.cbranch(builder.icmp_signed("<", following[0], self.pairs), loop, after)
        builder.position_at_end(after)
        for i, row in enumerate(new):
            start = builder.add(self.c, builder.mul(self.row, self._number(i)))
            for v, value in enumerate(row):
                place = builder.inttoptr(builder.add(start, self._number(64 * v)), _SUMS.as_pointer())
                builder.store(value, place).align = 4

    def _number(self, value):
        return ir.Constant(_I64, value)

    def _load(self, base, offset, kind, align):
        builder = self.builder
        offset = offset if isinstance(offset, ir.Value) else self._number(offset)
        loaded = builder.load(builder.inttoptr(builder.add(base, offset), kind.as_pointer()))
        loaded.align = align
        return loaded

    def _left(self, a, i):
        """Return the pair of row i of A in all lanes."""
        builder = self.builder
        offset = builder.mul(self.stride, self._number(i)) if self.along_rows else 4 * i
        nothing = ir.Constant(_PAIRS, ir.Undefined)
        one = builder.insert_element(nothing, self._load(a, offset, _I32, 4), ir.Constant(_I32, 0))
        return builder.shuffle_vector(one, nothing, ir.Constant(_PAIRS, [0] * _LANES))


# Pair p of row i of A lies 4 p + stride i bytes behind the address `a` (by rows), or 4 i + stride p (by pairs).  The
# pairs p of COLUMNS columns of B lie side by side.  A row of the result begins `row` bytes after the row before.
_block_by_rows, _block_by_pairs = _block(True), _block(False)


@intrinsic
def _line(context, a, i):
    """Return row i of an array (n, m) whose last axis is contiguous; float32 as its bits.

    For Numba, a slice of a part of an array could have any stride, and its loops would not be vectorised.
    """
    dtype = types.uint32 if a.dtype == types.float32 else a.dtype
    result = types.Array(dtype, 1, "C")

    def codegen(context, builder, signature, values):
        source = context.make_array(signature.args[0])(context, builder, values[0])
        (_, m), (step, _) = (cgutils.unpack_tuple(builder, part, 2) for part in (source.shape, source.strides))
        start = builder.add(builder.ptrtoint(source.data, _I64), builder.mul(step, values[1]))
        size = context.get_constant(types.intp, context.get_abi_sizeof(context.get_data_type(dtype)))
        made = context.make_array(result)(context, builder)
        data = builder.inttoptr(start, context.get_data_type(dtype).as_pointer())
        shape, strides = cgutils.pack_array(builder, [m]), cgutils.pack_array(builder, [size])
        context.populate_array(made, data=data, shape=shape, strides=strides, itemsize=size, meminfo=None)
        return made._getvalue()

    return result(a, types.intp), codegen


@compiled
def _rounded(bits):
    """Return a float32's bits, rounded to the nearest bfloat16 in their upper half; ties to even."""
    return bits + _HALF + ((bits >> _LOW) & _ONE)


@compiled
def round_rows(a, out, first):
    """Write `a` (n, k) float32 as bfloat16 into out, from row and column `first` on, with a 0 behind an odd k."""
    n, k = a.shape
    row, column = first
    for i in range(n):
        source, target = _line(a, i), _line(out, row + i)[column:]
        for j in range(k):
            target[j] = _rounded(source[j]) >> _LOW
        if k & 1:
            target[k] = 0


@compiled
def pair_rows(a, out, first):
    """Write pairs of the rows of `a` (n, m) float32 into out, from row and column `first` on, 0 for a missing row."""
    n, m = a.shape
    row, column = first
    for p in range((n + 1) // 2):
        upper, lower = _line(a, 2 * p), _line(a, min(2 * p + 1, n - 1))
        mask, target = _HIGH if 2 * p + 1 < n else np.uint32(0), _line(out, row // 2 + p)[column:]
        for j in range(m):
            target[j] = (_rounded(upper[j]) >> _LOW) | (_rounded(lower[j]) & mask)


@compiled
def put(a, by_rows, by_pairs, first):
    """Write `a` into both forms of a left factor, from row and column `first` on."""
    round_rows(a, by_rows, first)
    pair_rows(a, by_pairs, first)


@compiled
def _pair_panels(a, out):
    """Write `a` (k, m) float32, a right factor, into out (m / COLUMNS, k / 2, COLUMNS), rounded up."""
    k, m = a.shape
    whole = m // COLUMNS
    for p in range((k + 1) // 2):
        first = _line(a, 2 * p)
        second = _line(a, min(2 * p + 1, k - 1))
        mask = _HIGH if 2 * p + 1 < k else np.uint32(0)
        for panel in range(whole):
            target, left = out[panel, p], panel * COLUMNS
            for j in range(COLUMNS):
                target[j] = (_rounded(first[left + j]) >> _LOW) | (_rounded(second[left + j]) & mask)
        for j in range(whole * COLUMNS, m):
            out[whole, p, j - whole * COLUMNS] = (_rounded(first[j]) >> _LOW) | (_rounded(second[j]) & mask)


@compiled
def pair_columns(a, out, first, scratch):
    """Write the transpose of `a` (m, k) float32, a right factor, into out (m / COLUMNS, ..., COLUMNS).

    Its k columns become pairs from `first` / 2 on.  `scratch` (k / 2, rounded up) is changed.
    """
    m, k = a.shape
    for i in range(m):
        source, panel, lane = _line(a, i), out[i // COLUMNS, first // 2 :], i % COLUMNS
        for p in range(k // 2):
            scratch[p] = (_rounded(source[2 * p]) >> _LOW) | (_rounded(source[2 * p + 1]) & _HIGH)
        if k & 1:
            scratch[k // 2] = _rounded(source[k - 1]) >> _LOW
        for p in range((k + 1) // 2):
            panel[p, lane] = scratch[p]


def memory_of(k: int, m: int) -> int:
    """Return how many words a product with a right factor (k, m) works in."""
    pairs = (k + 1) // 2
    return pairs * COLUMNS * -(-m // COLUMNS) + ROWS * COLUMNS + pairs


@compiled
def times(left, right, transposed, memory, out):
    """Write the product of a left factor, kept by :func:`round_rows`, with a matrix or its transpose into out (n, m).

    Args:
        left: The left factor, with rows up to the next multiple of ROWS.
        right: The matrix (k, m) float32, or with `transposed` (m, k).
        transposed: Whether the right factor is its transpose.
        memory: As many words as :func:`memory_of` says, from a cache line on; they are changed.
        out: The result, whose last axis is contiguous.
    """
    panels, spare, scratch = _parts(memory, right.shape[1] if transposed else right.shape[0], out.shape[1])
    if transposed:
        pair_columns(right, panels, 0, scratch)
    else:
        _pair_panels(right, panels)
    _multiply(True, left, panels, spare, out)


@compiled
def times_panels(left, panels, spare, out):
    """Write the product of a left factor, kept by :func:`round_rows`, with a packed right factor into out (n, m).

    `spare` (ROWS, COLUMNS) float32 is changed.
    """
    _multiply(True, left, panels, spare, out)


@compiled
def transposed_times(left, right, memory, out):
    """Write the product of the transpose of a matrix, kept by :func:`pair_rows`, with `right` (k, m) into out (n, m).

    The arguments are as in :func:`times`.
    """
    panels, spare, _ = _parts(memory, right.shape[0], out.shape[1])
    _pair_panels(right, panels)
    _multiply(False, left, panels, spare, out)


@compiled
def _multiply(by_rows, left, panels, spare, out):
    row, place, stride = out.strides[0], left.ctypes.data, left.strides[0]
    for i in range(0, len(out), ROWS):
        a = place + i * (stride if by_rows else 4)
        for panel in range(len(panels)):
            b = panels.ctypes.data + panel * panels.strides[0]
            target = out.ctypes.data + i * row + 4 * COLUMNS * panel
            fits = i + ROWS <= len(out) and (panel + 1) * COLUMNS <= out.shape[1]
            c, step = (target, row) if fits else (spare.ctypes.data, 4 * COLUMNS)
            if by_rows:
                _block_by_rows(a, stride, b, c, step, panels.shape[1])
            else:
                _block_by_pairs(a, stride, b, c, step, panels.shape[1])
            if not fits:
                _copy(spare, out, i, panel * COLUMNS)


@compiled
def _parts(memory, k, m):
    """Return the panels, a spare block and the scratch (k / 2) in the memory of a product."""
    pairs, count = (k + 1) // 2, -(-m // COLUMNS)
    size, block = count * pairs * COLUMNS, ROWS * COLUMNS
    panels = memory[:size].reshape(count, pairs, COLUMNS)
    spare = memory[size : size + block].view(np.float32).reshape(ROWS, COLUMNS)
    return panels, spare, memory[size + block : size + block + pairs]


@compiled
def _copy(spare, out, row, column):
    """Copy what of a block lies in out from its row and column on."""
    for i in range(min(ROWS, len(out) - row)):
        for j in range(min(COLUMNS, out.shape[1] - column)):
            out[row + i, column + j] = spare[i, j]
