"""Rows hold a sample and a view of it; the views of an epoch are a function of seed, epoch and sample."""

from __future__ import annotations

import numpy as np
import pytest
from examples import examples
from hypothesis import given
from hypothesis import strategies as st

import xpnet
from xpnet.config.training import MOST_SHIFT, MOST_SIDE
from xpnet.data.views import Augmentation, View, evaluated_views, row_of, samples_of, view_of

moves, places = st.integers(-MOST_SHIFT - 1, MOST_SHIFT), st.integers(-1, MOST_SIDE)
views = st.builds(View, st.integers(0, 1), moves, moves, places, places)
samples = st.integers(0, 2**32 - 1)

PICTURES = (3, 8, 10)


def augmentation(**settings):
    found = Augmentation.of(xpnet.TrainConfig(**settings), PICTURES)
    assert found is not None
    return found


@examples(100, 2000)
@given(st.lists(st.tuples(samples, views), min_size=1, max_size=8))
def test_row_of_a_view_is_read_as_that_view(pairs):
    rows = np.array([row_of(sample, view) for sample, view in pairs], np.int64)
    assert samples_of(rows).tolist() == [sample for sample, _ in pairs]
    found = view_of(rows)
    for i, (_, view) in enumerate(pairs):
        assert View(*(int(field[i]) for field in found)) == view


@pytest.mark.parametrize("edge", [-1, 1])
def test_row_of_the_largest_view_fits_a_signed_number(edge):
    view = View(1, edge * MOST_SHIFT, edge * MOST_SHIFT, MOST_SIDE - 1, MOST_SIDE - 1)
    row = row_of(2**32 - 1, view)
    assert 0 <= row < 2**63
    assert View(*(int(field[0]) for field in view_of(np.array([row])))) == view


def test_view_0_is_the_sample_as_it_is():
    numbers = np.array([0, 1, 49_999, 2**32 - 1])
    assert [field.tolist() for field in view_of(numbers)] == [[0] * 4, [0] * 4, [0] * 4, [-1] * 4, [-1] * 4]
    assert row_of(77, View(0, 0, 0, -1, -1)) == 77


def test_augmentation_of_settings_without_any_is_none():
    assert Augmentation.of(xpnet.TrainConfig(), PICTURES) is None
    assert Augmentation.of(xpnet.TrainConfig(views=6), PICTURES) is None
    assert Augmentation.of(xpnet.TrainConfig(flip="random"), None) is None
    assert augmentation(shift=2) == Augmentation("none", 2, 0, 8, 10)


@examples(25)
@given(
    flip=st.sampled_from(["none", "random", "alternating"]),
    shift=st.integers(0, 5),
    cutout=st.integers(0, 6),
    seed=st.integers(0, 2**63),
    epoch=st.integers(0, 1000),
    n=st.integers(1, 60),
)
def test_draws_depend_on_the_sample_alone(flip, shift, cutout, seed, epoch, n):
    """Neither on the order of the samples, nor on which others are drawn."""
    if flip == "none" and not shift and not cutout:
        return
    own = augmentation(flip=flip, shift=shift, cutout=cutout)
    rows = own.rows(np.arange(n), seed, epoch)
    assert samples_of(rows).tolist() == list(range(n))
    order = np.random.default_rng(seed).permutation(n)
    np.testing.assert_array_equal(own.rows(order, seed, epoch), rows[order])
    some = order[: n // 2 + 1]
    np.testing.assert_array_equal(own.rows(some, seed, epoch), rows[some])
    view = view_of(rows)
    assert (np.abs(view.down) <= shift).all()
    assert (np.abs(view.right) <= shift).all()
    for place, size in ((view.row, 8), (view.column, 10)):
        assert ((place >= 0) & (place < size)).all() if cutout else (place == -1).all()
    assert set(view.flip.tolist()) <= ({0} if flip == "none" else {0, 1})


def test_draws_of_another_epoch_or_seed_are_others():
    own, numbers = augmentation(flip="random", shift=4, cutout=3), np.arange(500)
    rows = own.rows(numbers, 7, 2)
    for other in (own.rows(numbers, 7, 3), own.rows(numbers, 8, 2), own.rows(numbers, 7 + 2**32, 2)):
        assert (other == rows).mean() < 0.05


def test_draws_are_uniform_and_independent():
    view = view_of(augmentation(flip="random", shift=2, cutout=3).rows(np.arange(20_000), 1, 0))
    fields = {
        "flip": (view.flip, 2),
        "down": (view.down + 2, 5),
        "right": (view.right + 2, 5),
        "row": (view.row, 8),
        "column": (view.column, 10),
    }
    for name, (values, count) in fields.items():
        shares = np.bincount(values, minlength=count) / 20_000
        np.testing.assert_allclose(shares, 1 / count, atol=0.015, err_msg=name)
    correlations = np.corrcoef([values for values, _ in fields.values()])
    assert np.abs(correlations - np.eye(5)).max() < 0.03


@pytest.mark.parametrize("seed", [0, 5])
def test_alternating_flips_mirror_every_sample_every_other_epoch(seed):
    own = augmentation(flip="alternating")
    flips = np.stack([view_of(own.rows(np.arange(2000), seed, epoch)).flip for epoch in range(5)])
    np.testing.assert_array_equal(flips[1:], 1 - flips[:-1])
    assert 0.45 < flips[0].mean() < 0.55  # a random half begins


def test_random_flips_of_two_epochs_are_independent():
    own = augmentation(flip="random")
    first, second = (view_of(own.rows(np.arange(4000), 3, epoch)).flip for epoch in (0, 1))
    assert 0.45 < (first == second).mean() < 0.55


@pytest.mark.parametrize("shift", [1, 4, MOST_SHIFT])
def test_shifts_reach_both_ends_of_their_range(shift):
    view = view_of(augmentation(shift=shift).rows(np.arange(20_000), 0, 0))
    for moved in (view.down, view.right):
        assert (moved.min(), moved.max(), len(np.unique(moved))) == (-shift, shift, 2 * shift + 1)


def test_evaluated_views_are_the_picture_its_mirror_image_and_both_moved():
    assert evaluated_views(1) == [0]
    assert evaluated_views(2) == [0, 1 << 32]
    found = view_of(np.array(evaluated_views(6)))
    assert sorted(zip(found.flip, found.down, found.right, strict=True)) == [
        *[(0, -1, -1), (0, 0, 0), (0, 1, 1)],
        *[(1, -1, -1), (1, 0, 0), (1, 1, 1)],
    ]
    assert (found.row == -1).all()
    assert (found.column == -1).all()
    assert (samples_of(np.array(evaluated_views(6))) == 0).all()
