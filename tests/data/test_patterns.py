from __future__ import annotations

import numpy as np
import pytest

from xpnet.data import RawDataset, Standardiser, patterns
from xpnet.errors import DataError


@pytest.fixture(scope="module")
def raw() -> RawDataset:
    return patterns()


def test_shapes_and_types(raw: RawDataset):
    assert (raw.x.shape, raw.x_test.shape) == ((10_000, 3072), (2_000, 3072))
    assert raw.x.dtype == raw.x_test.dtype == np.uint8
    assert raw.labels.dtype == raw.labels_test.dtype == np.int64
    assert (raw.name, raw.location, raw.default_split) == ("patterns", "patterns", "9000/1000")
    assert raw.image_shape == (3, 32, 32)
    assert len(set(raw.class_names)) == 10


def test_classes_are_balanced_and_in_no_order(raw: RawDataset):
    assert (np.bincount(raw.labels) == 1000).all()
    assert (np.bincount(raw.labels_test) == 200).all()
    assert (np.bincount(raw.labels[:9000]) == 900).all()
    assert len({tuple(ten) for ten in raw.labels.reshape(-1, 10)}) > 990
    assert np.bincount(patterns(37, 13).labels, minlength=10).tolist().count(4) == 7


@pytest.mark.parametrize(("n", "n_test"), [(10, 10), (499, 501), (500, 1000), (1001, 20)])
def test_a_row_is_the_same_whatever_is_asked_for(raw: RawDataset, n: int, n_test: int):
    fewer = patterns(n, n_test)
    np.testing.assert_array_equal(fewer.x, raw.x[:n])
    np.testing.assert_array_equal(fewer.labels, raw.labels[:n])
    np.testing.assert_array_equal(fewer.x_test, raw.x_test[:n_test])
    np.testing.assert_array_equal(fewer.labels_test, raw.labels_test[:n_test])


def test_seeds_parts_and_blocks_differ():
    one, other = patterns(1000, 500), patterns(1000, 500, seed=1)
    assert not (one.x == other.x).all(axis=1).any()
    assert not (one.x[:500] == one.x_test).all(axis=1).any()
    assert not (one.x[:500] == one.x[500:]).all(axis=1).any()
    assert other.location == "patterns:1000/500 of seed 1"  # no name that load_data would take for seed 0


def test_numpys_global_state_is_left_alone():
    state = np.random.get_state()[1].tolist()  # noqa: NPY002 - that it is left alone is the point
    patterns(10, 10, seed=2)
    assert np.random.get_state()[1].tolist() == state  # noqa: NPY002


def test_sizes_out_of_range():
    for sizes in ((9, 100), (100, 9), (0, 10), (-5, 10)):
        with pytest.raises(DataError, match=r"patterns: -?\d (training|test) images are fewer than its 10 classes"):
            patterns(*sizes)
    with pytest.raises(DataError, match="patterns: 1,000,001 training images are more than 1,000,000"):
        patterns(1_000_001)


def test_pixels_use_their_range(raw: RawDataset):
    assert 100 < raw.x.mean() < 156
    assert 45 < raw.x.std() < 75
    assert np.mean((raw.x == 0) | (raw.x == 255)) < 0.05


def test_a_class_is_a_direction_and_a_width_of_stripes(raw: RawDataset):
    """The strongest frequency of an image tells its class: so would a person."""
    grey = raw.x_test[:500].reshape(-1, 3, 32, 32).mean(axis=1)
    spectrum = np.abs(np.fft.fft2(grey - grey.mean(axis=(1, 2), keepdims=True), s=(128, 128)))[:, :, :65]
    strongest = spectrum.reshape(len(grey), -1).argmax(axis=1)
    fy, fx = np.fft.fftfreq(128, 1 / 32)[strongest // 65], strongest % 65 / 4
    step = np.rint(np.arctan2(fy, fx) / (np.pi / 5)).astype(int) % 5
    narrow = np.hypot(fx, fy) > np.sqrt(2.6 * 4.6)
    assert np.mean(step + 5 * narrow == raw.labels_test[:500]) > 0.8


@pytest.mark.slow
def test_a_linear_classifier_stays_far_from_that(raw: RawDataset):
    """Ridge regression on the classes, at its best strength, on standardised pixels."""
    standardiser = Standardiser.fit(raw.x[:9000])
    x, x_test = standardiser(raw.x[:9000]), standardiser(raw.x_test)
    gram, target = x.T @ x, x.T @ np.eye(10, dtype=np.float32)[raw.labels[:9000]]
    accuracies = []
    for strength in (1e4, 1e5, 1e6):
        weights = np.linalg.solve(gram + strength * np.eye(3072, dtype=np.float32), target)
        accuracies.append(np.mean((x_test @ weights).argmax(axis=1) == raw.labels_test))
    assert 0.25 < max(accuracies) < 0.5
    assert accuracies[1] >= accuracies[0]  # the best strength is not below those that were tried
