"""Every kernel does what its operation's definition says, on the host: its own text over an emulator of CUDA."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import emulator
import numpy as np
import pytest
from examples import examples
from hypothesis import given
from hypothesis import strategies as st
from kernel_pair import Both, close
from strict import Module

import xpnet
from xpnet.data import StandardisedRows, TransformedRows, transformed
from xpnet.data.views import View, row_of
from xpnet.errors import DeviceError
from xpnet.ops import reference
from xpnet.ops.cuda.kernels import Kernels, source
from xpnet.ops.cuda.products import Products
from xpnet.ops.moments import NUMBERS
from xpnet.ops.reference import Activated, BatchNormActivation, CrossEntropy

pytestmark = pytest.mark.skipif(emulator.compiler() is None, reason="there is no C++ compiler")
shapes = st.fixed_dictionaries(
    {
        "replicas": st.integers(1, 4),
        "n": st.sampled_from([1, 2, 7, 31, 33, 100, 257, 300]),
        "d": st.sampled_from([1, 3, 4, 8, 50, 129]),
        "m": st.sampled_from([1, 5, 8, 9, 33, 64]),
        "seed": st.integers(0, 1000),
        "dtype": st.sampled_from(["float32", "float64"]),
    }
)
many = examples(8, 50)


@pytest.fixture(scope="module")
def both() -> Both:
    return Both()


def draw(shape):
    rng = np.random.default_rng(shape["seed"])
    return SimpleNamespace(**shape, rng=rng, real=lambda *size: rng.standard_normal(size).astype(shape["dtype"]))


@many
@given(shape=shapes, shared=st.booleans())
def test_gathers(both, shape, shared):
    s = draw(shape)
    rows = s.rng.integers(0, 20, (s.n,) if shared else (s.replicas, s.n))
    rows = rows.astype(np.int32) if s.seed % 2 else rows
    x = s.real(20, s.d)
    both("gather", rows, x, dtype=s.dtype)
    kept = StandardisedRows(
        s.rng.integers(0, 256, (20, s.d), np.uint8),
        np.floor(s.real(s.d) * 9).astype(s.dtype),
        s.real(s.d),
        np.abs(s.real(s.d)),
    )
    got = both.ops.gather(both.to(rows), kept.to(both.xp.asarray))
    np.testing.assert_array_equal(both.back(got), kept.take(rows))  # to the last bit: the same order of operations


pictures = st.fixed_dictionaries(
    {
        "replicas": st.integers(1, 3),
        "n": st.sampled_from([1, 7, 40]),
        "channels": st.sampled_from([1, 3]),
        "pool": st.sampled_from([1, 2, 4]),
        "cells": st.tuples(st.integers(1, 9), st.integers(1, 9)),
        "border": st.sampled_from(["reflect", "constant"]),
        "cutout": st.sampled_from([0, 1, 2, 5, 8]),
        "inputs": st.sampled_from([None, 1, 6]),
        "bytes": st.booleans(),
        "seed": st.integers(0, 1000),
        "dtype": st.sampled_from(["float32", "float64"]),
    }
)


def seen(s, samples=20):
    """Return pictures, and rows (R, n) of them in views as far moved as views may be."""
    height, width = (s.pool * cells for cells in s.cells)
    d, size = s.channels * height * width, s.channels * s.cells[0] * s.cells[1]
    x = s.rng.integers(0, 256, (samples, d), np.uint8) if s.bytes else s.real(samples, d)
    scale = np.floor(s.real(size) * 9).astype(s.dtype), s.real(size), np.abs(s.real(size))
    projection = None if s.inputs is None else s.real(size, s.inputs)
    shape = s.channels, height, width
    source = TransformedRows(x, shape, s.pool, *scale, projection, s.border, s.cutout)
    most, size = min(31, height - 1, width - 1), (s.replicas, s.n) if s.replicas > 1 else (s.n,)
    moves = (s.rng.integers(-most, most + 1, size) for _ in range(2))
    centres = s.rng.integers(0, height, size), s.rng.integers(0, width, size)
    nothing = s.rng.random(size) < 0.2  # is cut out of these
    view = View(s.rng.integers(0, 2, size), *moves, *(np.where(nothing, -1, centre) for centre in centres))
    return source, row_of(s.rng.integers(0, samples, size), view)


@many
@given(picture=pictures)
def test_gathers_pictures_in_views(both, picture):
    s = draw(picture)
    source, rows = seen(s)
    there = source.to(both.xp.asarray)
    expected, out = transformed(np, source, rows), None
    for both.xp.backwards in (False, True, False):
        out = both.ops.gather(both.to(rows), there, out, both.ops.room_for_pictures(rows.size, there))
        got = both.back(out)
        if s.inputs is None and s.bytes:
            np.testing.assert_array_equal(got, expected)  # to the last bit: the same order of operations
        assert got.shape == (*rows.shape, source.shape[1])
        close(got, expected, s.dtype, "gather")


@pytest.mark.parametrize("kind", [np.int16, np.float32, np.float64])
def test_pictures_of_any_type_are_gathered(both, kind):
    picture = {"replicas": 1, "n": 9, "channels": 3, "pool": 2, "cells": (3, 5), "border": "reflect", "cutout": 3}
    s = draw(picture | {"inputs": 4, "bytes": True, "seed": 0, "dtype": "float32"})
    source, rows = seen(s)
    source = replace(source, x=source.x.astype(kind))
    expected = transformed(np, source, rows)
    for there in (source.to(both.xp.asarray), replace(source.to(both.xp.asarray), x=both.to(source.x))):
        got = both.back(both.ops.gather(both.to(rows), there))
        assert got.dtype == np.float32
        close(got, expected, "float32", "gather")


@many
@given(shape=shapes, per_replica=st.booleans(), own_labels=st.booleans(), one=st.booleans())
def test_smoothed_labels(both, shape, per_replica, own_labels, one):
    s = draw(shape)
    logits = 5 * s.real(s.replicas, s.n, s.m)
    labels = s.rng.integers(0, s.m, (s.replicas, s.n) if own_labels else (s.n,))
    scale = np.abs(s.real(s.replicas, 1, 1)) if per_replica else 0.25
    alpha = s.rng.random((1 if one else s.replicas, 1, 1)).astype(s.dtype)
    expected = reference.softmax_cross_entropy(np, logits, labels, scale)
    entropy, *others = (both.to(a) for a in (expected, logits, labels, alpha, scale))
    both.ops.smooth_labels(entropy, *others)
    reference.smooth_labels(np, expected, logits, labels, alpha, scale)
    for got, want, name in zip(both.back(entropy), expected, expected._fields, strict=False):
        close(got, want, s.dtype, name)


@many
@given(shape=shapes, own=st.booleans(), by_rows=st.booleans())
def test_weighed_samples(both, shape, own, by_rows):
    s = draw(shape)
    logits, labels = 5 * s.real(s.replicas, s.n, s.m), s.rng.integers(0, s.m, (s.n,))
    size = (s.replicas, s.n) if own else (s.n,)
    weights = s.rng.random(7 if by_rows else size).astype(s.dtype)
    rows = s.rng.integers(0, 7, size) if by_rows else None
    expected = reference.softmax_cross_entropy(np, logits, labels, 0.25)
    entropy = both.to(expected)
    # The high bits of a row are a view of the sample.
    both.ops.weigh_samples(entropy, both.to(weights), None if rows is None else both.to(rows | (5 << 32)))
    reference.weigh_samples(np, expected, weights, rows)
    for got, want, name in zip(both.back(entropy), expected, expected._fields, strict=False):
        close(got, want, s.dtype, name)


@many
@given(shape=shapes, shared=st.booleans(), bias=st.booleans())
def test_products(both, shape, shared, bias):
    s = draw(shape)
    x = s.real(s.n, s.d) if shared else s.real(s.replicas, s.n, s.d)
    W, b = s.real(s.replicas, s.d, s.m), s.real(s.replicas, 1, s.m) if bias else None
    both("affine", x, W, b, dtype=s.dtype)
    g = s.real(s.replicas, s.n, s.m)
    both("input_gradient", g, W, dtype=s.dtype)
    both("weight_gradient", x, g, dtype=s.dtype)
    both("bias_gradient", g, dtype=s.dtype)
    keep, squares = 1 - 0.01 * s.rng.random((s.replicas, 1, 1)).astype(s.dtype), s.rng.random(s.replicas)
    both("descend_by_product", W, x, g, keep, squares, dtype=s.dtype)


@many
@given(shape=shapes)
def test_batch_normalisation(both, shape):
    s = draw(shape)
    x = 3 * s.real(s.replicas, s.n, s.m) + 1
    gamma, beta = s.real(s.replicas, 1, s.m), s.real(s.replicas, 1, s.m)
    if s.n > 1:
        both("batch_norm_relu", x, gamma, beta, 1e-3, dtype=s.dtype)
    forward = reference.batch_norm_relu(np, x, gamma, beta, 1e-3)
    g = s.real(s.replicas, s.n, s.m)
    both("batch_norm_relu_gradients", g, BatchNormActivation(*forward[:5]), gamma, dtype=s.dtype)
    var = np.abs(s.real(s.replicas, 1, s.m))
    both("batch_norm_relu_inference", x, beta, var, gamma, beta, 1e-3, dtype=s.dtype)


@many
@given(shape=shapes, per_replica=st.booleans())
def test_softmax_and_relu(both, shape, per_replica):
    s = draw(shape)
    logits = 5 * s.real(s.replicas, s.n, s.m)
    logits[:, 0] = 0  # all classes are best: the first counts
    labels = s.rng.integers(0, s.m, (s.replicas, s.n) if per_replica else (s.n,))
    scale = np.abs(s.real(s.replicas, 1, 1)) if per_replica else 0.25
    losses, correct, _ = both("softmax_cross_entropy", logits, labels, scale, dtype=s.dtype)
    assert correct.dtype == bool
    both("softmax", logits, dtype=s.dtype)
    both("relu", logits, dtype=s.dtype)
    both("bias_relu", logits, s.real(s.replicas, 1, s.m), dtype=s.dtype)
    both("relu_gradient", s.real(*logits.shape), Activated(np.maximum(logits, 0)), dtype=s.dtype)
    entropy = CrossEntropy(losses, correct, logits)
    both("tally", entropy, s.rng.random(s.replicas), s.rng.integers(0, 9, s.replicas), dtype=s.dtype)


@many
@given(shape=shapes, parts=st.lists(st.integers(1, 700), min_size=1, max_size=6), nesterov=st.booleans())
def test_updates(both, shape, parts, nesterov):
    s = draw(shape)
    size, R = sum(parts), s.replicas
    p, v = s.real(R, 1, size), s.real(R, 1, size)
    steps = [s.real(R, 1, part) for part in parts]
    keep, rho = (s.rng.random((R, 1, 1)).astype(s.dtype) for _ in range(2))
    squares = s.rng.random(R)
    both("descend", p, steps, keep, squares, dtype=s.dtype)
    both("descend", p, steps, None, dtype=s.dtype)
    both("descend_with_momentum", p, v, steps, keep, rho, nesterov, squares, dtype=s.dtype)
    both("descend_with_momentum", p, v, steps, None, rho, nesterov, dtype=s.dtype)
    numbers = (0.1 + s.rng.random((len(NUMBERS), R))).astype(s.dtype)
    both("descend_adamw", p, v, np.abs(s.real(R, 1, size)), steps, numbers, squares, dtype=s.dtype)
    both("descend_lion", p, v, steps, numbers, dtype=s.dtype)
    both("scale_gradient", p, keep, dtype=s.dtype)
    both("average", p, steps, np.array([0.9], s.dtype), dtype=s.dtype)
    both("add_squares", s.real(R, s.d, s.m), squares, dtype=s.dtype)


def test_what_is_not_a_number_stays_so(both):
    logits = np.array([[[1.0, np.nan, 2.0], [np.inf, 0, 1], [1e4, -1e4, 0]]])
    losses, _, _ = both.back(both.ops.softmax_cross_entropy(both.to(logits), both.to(np.array([0, 0, 0])), 1.0))
    assert np.isnan(losses[0, :2]).all()
    assert losses[0, 2] == 0
    assert np.isnan(both.back(both.ops.relu(both.to(logits)))[0, 0, 1])


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(("replicas", "orders", "n"), [(1, 1, 100), (1000, 1, 7), (30, 30, 100)])
def test_what_begins_a_step_is_dealt_out_to_many_blocks(both, monkeypatch, replicas, orders, n, dtype):
    rng, xp, step = np.random.default_rng(replicas), both.xp, 2
    samples = rng.integers(0, 500, (4, orders, n))
    perm = samples | rng.integers(0, 2**31, samples.shape) << 32  # in views
    eta, lam, labels = rng.random((4, replicas)), rng.random(replicas), rng.integers(0, 9, 500).astype(np.int32)
    alphas = rng.random(4).astype(dtype)
    given = (np.array([step], np.int32), perm, eta, lam, alphas, labels)
    empty = (
        *((np.zeros((orders, n), kind)) for kind in (np.int64, np.int32)),
        *(np.zeros(replicas, dtype) for _ in range(3)),
        np.zeros(1, dtype),
        np.ones(replicas),
    )
    blocks = []
    original = Kernels.__call__
    monkeypatch.setattr(
        Kernels,
        "__call__",
        lambda self, name, grid, *a, **k: blocks.append(grid) or original(self, name, grid, *a, **k),
    )
    for xp.backwards in (False, True):
        arrays = [both.to(a) for a in (*given, *empty)]
        both.ops.begin_step(n, orders, *arrays)
        rows, batch_labels, scale, keep, shrink, alpha, squares = (both.back(a) for a in arrays[6:])
        np.testing.assert_array_equal(rows, perm[step])
        np.testing.assert_array_equal(batch_labels, labels[samples[step]])
        decay = 2 * eta[step] * lam
        for got, want in ((scale, eta[step] / n), (shrink, decay), (keep, 1 - decay), (alpha, alphas[step : step + 1])):
            np.testing.assert_array_equal(got, want.astype(dtype))
        np.testing.assert_array_equal(squares, np.zeros(replicas))
    xp.backwards = False
    assert blocks == [(-(-max(orders * n, replicas) // 256),)] * 2


@pytest.mark.parametrize(("status", "error"), [(3, MemoryError), (1, DeviceError), (14, DeviceError)])
@pytest.mark.parametrize("call", ["cublasCreate_v2", "cublasSetStream_v2"])
def test_what_cublas_answers(monkeypatch, call, status, error):
    xp = Module()
    library = SimpleNamespace(**dict.fromkeys(["cublasCreate_v2", "cublasSetMathMode"], lambda *_: 0))
    setattr(library, call, lambda *_: status)
    monkeypatch.setattr("xpnet.ops.cuda.products.load_cublas", lambda: library)
    a = xp.asarray(np.ones((1, 2, 2)))
    with pytest.raises(error, match=f"{call}: cuBLAS"):
        Products(xp)(a, a, a)


def test_every_kernel_is_launched():
    folder = Path(xpnet.__file__).parent
    parts = (
        *("ops/cuda_ops.py", "ops/cuda/activation_ops.py", "ops/cuda/dropout.py", "ops/cuda/updates.py"),
        "training/steppers/cuda_small.py",
        "training/steppers/cuda_multi.py",
        "training/steppers/cuda_persistent.py",
    )
    text = "".join((folder / part).read_text() for part in parts)
    for name in emulator.signatures(source()):
        assert f'"{name}"' in text, f"nothing launches {name}"


def test_the_emulator_notices_what_a_gpu_would_not_forgive(both):
    code = """
    extern "C" __global__ void half(int* x) { if (threadIdx.x < 5) __syncthreads(); x[threadIdx.x] = 1; }
    extern "C" __global__ void copy(int* x) {
        __shared__ int s[9];
        s[threadIdx.x] = 7;
        __syncthreads();
        copy_later<4>(s + threadIdx.x, x + threadIdx.x);
        x[threadIdx.x + 8] = s[(threadIdx.x + 1) % 8];
        __syncthreads();
        copies_done();
    }
    extern "C" __global__ void forgotten(int* x) {
        __shared__ int s[9];
        __syncthreads();
        copy_later<4>(s + threadIdx.x, x);
    }
    extern "C" __global__ void race(int* x) { x[threadIdx.x + 1] = x[threadIdx.x] + 1; }
    """
    kernels = emulator.program(
        "#define DYNAMIC_MEMORY static unsigned char* dynamic_memory = nullptr\nDYNAMIC_MEMORY;" + code,
        ("-DREAL=float",),
    )
    copied = []
    for backwards in (False, True):
        pair = np.arange(16, dtype=np.int32)
        kernels["copy"]((1,), (8,), (pair.ctypes.data,), backwards=backwards)
        copied.append(pair[8:].tolist())
    assert copied[0] == [7] * 8 != copied[1]  # copies to numbers that others still read
    x = np.zeros(9, np.int32)
    with pytest.raises(emulator.EmulationError, match="a copy to shared memory is not waited for"):
        kernels["forgotten"]((1,), (8,), (x.ctypes.data,))
    with pytest.raises(emulator.EmulationError, match="not reached by all threads"):
        kernels["half"]((1,), (8,), (x.ctypes.data,))
    results = []
    for backwards in (False, True):
        x[:] = 0
        kernels["race"]((1,), (8,), (x.ctypes.data,), backwards=backwards)
        results.append(x.tolist())
    assert results[0] != results[1]
    with pytest.raises(emulator.EmulationError, match="takes 1 arguments, got 2"):
        kernels["race"]((1,), (8,), (x.ctypes.data, np.int32(1)))
    logits = both.xp.asarray(np.zeros((1, 4), np.float32))
    with pytest.raises(emulator.EmulationError, match=r"int64 size got .* of type int32"):
        both.ops.launch("relu", logits.dtype, (1,), (32,), logits, logits, np.int32(4))
