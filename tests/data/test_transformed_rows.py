"""Inputs that are computed on reading are those of their definition, pixel by pixel, with every set of operations."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest
from examples import examples
from hypothesis import given
from hypothesis import strategies as st
from naive_pictures import inputs
from operation_tables import REFERENCE, TABLES
from strict import strict_backend

from xpnet.data import Standardiser, Transform, TransformedRows
from xpnet.data.views import Augmentation, View, row_of, view_of
from xpnet.utils.lazy_arrays import Rows

OPERATIONS = {"reference": REFERENCE, **TABLES}


def case(seed: int, raw: str, dtype: str, border: str, cutout: int, **sizes: Any) -> TransformedRows:
    """Return pictures, transformed by numbers that are drawn."""
    rng = np.random.default_rng(seed)
    channels, lines, cells, pool = (sizes[name] for name in ("channels", "lines", "cells", "pool"))
    shape, width = (channels, lines * pool, cells * pool), channels * lines * cells
    x = rng.integers(0, 256, (sizes.get("samples", 5), width * pool**2))
    x = x.astype(raw) if raw == "uint8" else (x / 256 + rng.random(x.shape)).astype(raw)
    standardiser = Standardiser(rng.random(width) * float(x.max()), (0.2 + rng.random(width)) * float(x.max()))
    projection = rng.standard_normal((width, sizes["components"])) if sizes.get("components") else None
    transform = Transform(standardiser, shape if pool > 1 else None, pool, projection)
    return transform.lazily(x, dtype, shape, border, cutout)


def drawn(source: TransformedRows, seed: int, shape: tuple[int, ...]) -> Any:
    """Return rows of samples in views of all kinds, also moved as far as pictures can be."""
    rng = np.random.default_rng(seed)
    assert source.image_shape is not None
    _, height, width = source.image_shape
    view = View(
        rng.integers(0, 2, shape),
        rng.integers(-height + 1, height, shape).clip(-31, 31),
        rng.integers(-width + 1, width, shape).clip(-31, 31),
        np.where(rng.random(shape) < 0.2, -1, rng.integers(0, height, shape)),
        rng.integers(0, width, shape),
    )
    return row_of(rng.integers(0, len(source.x), shape), view)


def by_hand(source: TransformedRows, rows: Any) -> Any:
    """Return the inputs (..., k) of rows (...), in float64."""
    views = view_of(rows.reshape(-1))
    mean, std = source.whole.astype(float) + source.rest, 1 / source.factor.astype(float)
    projection = None if source.projection is None else source.projection.astype(float).tolist()
    found = [
        inputs(
            source.x[row & 0xFFFFFFFF].reshape(source.image_shape).tolist(),
            View(*(int(field[i]) for field in views)),
            source.border,
            source.pool,
            mean.tolist(),
            std.tolist(),
            source.cutout,
            projection,
        )
        for i, row in enumerate(rows.reshape(-1).tolist())
    ]
    return np.array(found).reshape(*rows.shape, -1)


def check(source: TransformedRows, rows: Any) -> None:
    expected = by_hand(source, rows)
    scale = max(1.0, float(np.abs(expected).max()))
    limit = (1e-12 if source.dtype == np.float64 else 2e-5) * scale
    for name, ops in OPERATIONS.items():
        first = ops.gather(rows, source)
        assert (first.dtype, first.shape) == (source.dtype, expected.shape), name
        np.testing.assert_allclose(first, expected, rtol=0, atol=limit, err_msg=name)
        again = ops.gather(rows, source, np.full_like(first, np.nan))
        np.testing.assert_array_equal(again, first, err_msg=name)


kinds = st.sampled_from(["uint8", "float32", "float64"])
dtypes = st.sampled_from(["float32", "float64"])
borders = st.sampled_from(["reflect", "constant"])
seeds = st.integers(0, 2**31)


@examples(40, 1500)
@given(
    seed=seeds,
    raw=kinds,
    dtype=dtypes,
    border=borders,
    cutout=st.integers(0, 9),
    channels=st.sampled_from([1, 3]),
    lines=st.integers(1, 4),
    cells=st.integers(1, 5),
    pool=st.integers(1, 4),
    components=st.integers(0, 3),
    shape=st.sampled_from([(1,), (4,), (2, 3)]),
)
def test_gather_of_any_pictures_is_the_definition_pixel_by_pixel(seed, raw, dtype, border, cutout, shape, **sizes):
    source = case(seed, raw, dtype, border, cutout, **sizes)
    check(source, drawn(source, seed, shape))


@pytest.mark.slow
@pytest.mark.parametrize("border", ["reflect", "constant"])
@pytest.mark.parametrize("pool", [1, 2])
def test_gather_of_pictures_moved_by_the_most_pixels(border, pool):
    size = 34 // pool
    source = case(3, "uint8", "float64", border, 7, channels=1, lines=size, cells=size, pool=pool)
    edges = [(flip, down, right) for flip in (0, 1) for down in (-31, 31) for right in (-31, 31)]
    rows = np.array([row_of(2, View(flip, down, right, 33, 0)) for flip, down, right in edges])
    check(source, rows)


def test_a_picture_of_known_numbers_is_moved_and_then_mirrored():
    picture = np.arange(12.0).reshape(1, 12)  # three lines of four
    source = Transform(Standardiser(np.zeros(12), np.ones(12))).lazily(picture, "float64", (1, 3, 4))
    moved = np.array([[6, 5, 4, 5], [2, 1, 0, 1], [6, 5, 4, 5]], float)  # one down and two to the right
    found = source.take(np.array([row_of(0, View(flip, 1, 2, -1, -1)) for flip in (0, 1)])).reshape(2, 3, 4)
    np.testing.assert_array_equal(found[0], [[6, 5, 4, 5], [2, 1, 0, 1], [6, 5, 4, 5]])
    np.testing.assert_array_equal(found[1], moved[:, ::-1])


def test_a_square_of_an_even_and_an_odd_side_is_cut_out_around_its_centre():
    def kept(cutout: int, row: int, column: int) -> Any:
        transform = Transform(Standardiser(np.zeros(36), np.ones(36)))
        source = transform.lazily(np.ones((1, 36)), "float64", (1, 6, 6), "reflect", cutout)
        return source.take(np.array([row_of(0, View(0, 0, 0, row, column))])).reshape(6, 6)

    expected = np.ones((6, 6))
    expected[1:4, 2:5] = 0
    np.testing.assert_array_equal(kept(3, 2, 3), expected)
    expected[:] = 1
    expected[2, 3] = 0
    np.testing.assert_array_equal(kept(1, 2, 3), expected)
    assert kept(3, 0, 0).sum() == 32  # a corner, beyond the border
    assert kept(5, -1, -1).sum() == 36


@pytest.mark.parametrize("name", OPERATIONS)
def test_gather_of_a_sample_without_a_view_is_the_transform_of_it(name):
    source = case(1, "uint8", "float64", "reflect", 3, channels=3, lines=2, cells=3, pool=2, components=4)
    mean, std = source.whole + source.rest, 1 / source.factor
    transform = Transform(Standardiser(mean, std), source.image_shape, 2, source.projection)
    expected = transform(source.x, "float64")
    np.testing.assert_allclose(OPERATIONS[name].gather(np.arange(5), source), expected, rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(source[1:4], expected[1:4], rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(source[np.array([4, 0])], expected[[4, 0]], rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(source.part(slice(2, 5))[:], expected[2:], rtol=1e-12, atol=1e-12)
    assert (source.shape, source.ndim, source.dtype) == ((5, 4), 2, np.float64)


@pytest.mark.parametrize("name", OPERATIONS)
def test_gather_of_features_that_are_no_pictures_projects_them(name):
    rng = np.random.default_rng(0)
    x, projection = rng.standard_normal((9, 4)), rng.standard_normal((4, 2))
    transform = Transform(Standardiser.fit(x), None, 1, projection)
    source, rows = transform.lazily(x, "float64"), np.array([[3, 0], [8, 3]])
    expected = ((x - x.mean(0)) / x.std(0)) @ projection
    np.testing.assert_allclose(OPERATIONS[name].gather(rows, source), expected[rows], rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("name", OPERATIONS)
@pytest.mark.parametrize("form", ["disk", "columns", "swapped"])
def test_gather_of_features_in_any_form_is_that_of_an_array(name, form):
    source = case(5, "float32", "float64", "reflect", 3, channels=1, lines=3, cells=3, pool=2)
    x = source.x
    forms = {
        "disk": Rows(np.ascontiguousarray(x[::-1]), np.arange(len(x))[::-1], np.float32),
        "columns": np.asfortranarray(x),
        "swapped": x.astype(">f4"),
    }
    transform = Transform(Standardiser(source.whole + source.rest, 1 / source.factor), source.image_shape, 2)
    other = transform.lazily(forms[form], "float64", source.image_shape, "reflect", 3)
    rows = drawn(source, 8, (6,))
    np.testing.assert_allclose(OPERATIONS[name].gather(rows, other), by_hand(source, rows), rtol=1e-12, atol=1e-12)


def test_gather_on_another_device_is_that_of_the_host():
    source = case(2, "uint8", "float64", "constant", 4, channels=3, lines=2, cells=2, pool=2, components=3)
    backend, rows = strict_backend(), drawn(source, 4, (2, 5))
    there = source.to(backend.asarray)
    found = backend.to_numpy(REFERENCE.gather.func(backend.xp, backend.asarray(rows), there))
    np.testing.assert_allclose(found, by_hand(source, rows), rtol=1e-12, atol=1e-12)


@examples(10)
@given(seeds, borders)
def test_rows_read_by_several_threads_at_once_are_the_same(seed, border):
    from concurrent.futures import ThreadPoolExecutor

    source = case(seed, "uint8", "float32", border, 4, channels=3, lines=4, cells=4, pool=2, components=5)
    parts = [drawn(source, seed + i, (20 + i,)) for i in range(8)]
    expected = [TABLES["numba"].gather(rows, source) for rows in parts]
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda rows: TABLES["numba"].gather(rows, source), parts))
    for a, b in zip(expected, found, strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_halves_of_even_and_odd_components_give_the_products_with_all_pixels(dtype, monkeypatch):
    rng = np.random.default_rng(0)
    x = rng.integers(0, 256, (60, 3 * 8 * 12), dtype=np.uint8)
    source = Transform.fit(x, (3, 8, 12), 2, 20).lazily(x, dtype, (3, 8, 12))
    assert source.halves is not None
    even, odd = source.halves
    assert even.shape[1] + odd.shape[1] == 20
    assert min(even.shape[1], odd.shape[1]) > 0
    rows = Augmentation("random", 5, 0, 8, 12).rows(rng.integers(0, 60, 200), 1, 1)
    numba_ops = pytest.importorskip("xpnet.ops.numba_ops")
    monkeypatch.setattr(numba_ops, "_FEWEST_HALVED", 1)
    atol = 1e-5 if dtype == "float32" else 1e-13
    np.testing.assert_allclose(numba_ops.gather(rows, source), source.take(rows), rtol=0, atol=atol)


def test_halves_are_those_of_even_and_odd_components_alone():
    x = np.random.default_rng(0).integers(0, 256, (60, 64), dtype=np.uint8)
    transform = Transform.fit(x, (1, 8, 8), 2, 6)
    source = transform.lazily(x, "float32", (1, 8, 8))
    assert source.halves is not None
    assert transform.lazily(x, "float32", (1, 8, 8), "reflect", 3).halves is None  # a cutout is no mirror image
    changed = source.projection.copy()
    changed[0] += 1
    assert dataclasses.replace(source, projection=changed).halves is None
    assert dataclasses.replace(source, projection=None).halves is None
