from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from data_files import few_examples
from hypothesis import given
from hypothesis import strategies as st

from xpnet import data_from_arrays, load_data
from xpnet.data import Dataset
from xpnet.errors import DataError

LABELS = np.arange(20) % 2


def make(x: Any = None, y: Any = LABELS, *test: Any, **options: Any) -> Dataset:
    """Return data of 20 rows of 3 features, of which `x` and `y` may take the place."""
    return data_from_arrays(np.arange(60.0).reshape(20, 3) if x is None else x, y, *test, **options)


def pool(data: Dataset, *, test: bool = False) -> Any:
    """Return the rows of training and validation, and of the test set, in order."""
    return np.concatenate([data.train.x, data.validation.x, *([data.test.x] if test else [])])


def test_without_a_test_set_the_last_tenth_of_the_shuffled_rows_is_it():
    data = make()
    assert (data.split, len(data.train), len(data.validation), len(data.test)) == ("16/2", 16, 2, 2)
    assert (data.name, data.location, data.class_names, data.image_shape) == (
        "arrays",
        "arrays in memory",
        ("0", "1"),
        None,
    )
    rows = pool(data, test=True)
    assert sorted(rows[:, 0]) == list(range(0, 60, 3))
    assert rows[:, 0].tolist() != sorted(rows[:, 0])
    labels = np.concatenate([data.train.labels, data.validation.labels, data.test.labels])
    np.testing.assert_array_equal(labels, rows[:, 0] / 3 % 2)  # rows keep their labels


def test_a_test_set_keeps_its_order_and_size():
    x_test, y_test = np.arange(15.0).reshape(5, 3), [1, 1, 0, 0, 1]
    data = make(None, LABELS, x_test, y_test)
    np.testing.assert_array_equal(data.test.x, x_test)
    assert data.test.labels.tolist() == y_test
    assert (data.split, sorted(pool(data)[:, 0])) == ("18/2", list(range(0, 60, 3)))


def test_the_shuffle_is_that_of_the_seed_and_of_nothing_else():
    first = pool(make())
    state = np.random.get_state()[1].tolist()  # noqa: NPY002 - that it is left alone is the point
    np.testing.assert_array_equal(pool(make()), first)
    assert not np.array_equal(pool(make(seed=1)), first)
    assert np.random.get_state()[1].tolist() == state  # noqa: NPY002


def test_the_given_arrays_are_not_touched_and_not_shared():
    x = np.arange(60.0).reshape(20, 3)
    data = make(x)
    data.train.x[:] = -1
    np.testing.assert_array_equal(x, np.arange(60.0).reshape(20, 3))


def test_lists_names_and_splits():
    data = make([[float(row)] for row in range(20)], [0, 1] * 10, split="10/4", class_names=["even", "odd"])
    assert (data.split, len(data.train), len(data.validation), len(data.test)) == ("10/4", 10, 4, 2)
    assert data.class_names == ("even", "odd")


KEPT = {
    "uint8": "uint8 bool",
    "float32": "float16 float32 >f4 int8 int64 uint64 >u2",
    "float64": "float64 longdouble >f8",
}


@pytest.mark.parametrize(("given", "kept"), [(given, kept) for kept, of in KEPT.items() for given in of.split()])
def test_types(given: str, kept: str):
    x = (np.arange(60).reshape(20, 3) % 2).astype(given)
    data = make(x)
    assert data.train.x.dtype == np.dtype(kept)
    assert data.train.x.dtype.isnative
    assert sorted(pool(data, test=True).ravel().tolist()) == [0] * 30 + [1] * 30


@pytest.mark.parametrize(("largest", "kept"), [(2**24, "float32"), (2**24 + 1, "float64"), (-(2**24) - 1, "float64")])
def test_whole_numbers_are_kept_exactly(largest: int, kept: str):
    x = np.arange(60).reshape(20, 3)
    x[7, 1] = largest
    data = make(x)
    assert data.train.x.dtype == kept
    assert largest in pool(data, test=True)


@pytest.mark.parametrize(
    ("shape", "axes", "image_shape"),
    [
        ((20, 4, 5, 3), (0, 3, 1, 2), (3, 4, 5)),
        ((20, 4, 5, 1), (0, 3, 1, 2), (1, 4, 5)),
        ((20, 3, 4, 5), (0, 1, 2, 3), (3, 4, 5)),
        ((20, 1, 4, 5), (0, 1, 2, 3), (1, 4, 5)),
        ((20, 4, 5), (0, 1, 2), (1, 4, 5)),
        ((20, 2, 4, 5), (0, 1, 2, 3), None),
        ((20, 2, 2, 3, 3), (0, 1, 2, 3, 4), None),
    ],
)
def test_images_become_channel_planes(shape: tuple[int, ...], axes: tuple[int, ...], image_shape: Any):
    x = (np.arange(np.prod(shape)) % 251).astype(np.uint8).reshape(shape)
    data = make(x, LABELS, x, LABELS)
    assert data.image_shape == image_shape
    np.testing.assert_array_equal(data.test.x, x.transpose(axes).reshape(20, -1))


@pytest.mark.parametrize(
    ("x", "message"),
    [
        (np.zeros(20), r"x_train has the shape \(20,\); it must be \(n, features\)"),
        (np.zeros((0, 3)), r"x_train has the shape \(0, 3\) and thus no values"),
        (np.zeros((20, 0)), r"x_train has the shape \(20, 0\) and thus no values"),
        (np.zeros((20, 3), complex), "x_train is an array of complex128; it must be one of real numbers"),
        (np.full((20, 3), "a"), "x_train is an array of <U1; it must be one of real numbers"),
        (np.full((20, 3), None), "x_train is an array of object; it must be one of real numbers"),
        ([[1.0], [2.0, 3.0]], "x_train has rows of different lengths"),
        (np.full((20, 3), 1e200), "x_train has values beyond 1e[+]150, .* the first in row 0, column 0"),
        (np.ma.masked_less(np.arange(60.0).reshape(20, 3), 4), "x_train is a masked array with 4 masked values; fill"),
        ([np.ma.masked_less(np.arange(3.0), 1)] * 20, "x_train is a masked array with 1 masked values"),
    ],
)
def test_features_that_cannot_be_used(x: Any, message: str):
    with pytest.raises(DataError, match=f"^{message}"):
        make(x)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
def test_values_that_are_not_finite_are_counted_and_found(bad: float, dtype: str):
    x = np.zeros((20, 3), dtype)
    x[4, 2] = x[4, 1] = x[11, 0] = bad
    with pytest.raises(DataError, match="x_train has 3 values that are not finite, the first in row 4, column 1"):
        make(x)


def test_values_that_are_not_finite_are_found_in_large_arrays():
    x = np.zeros((3, 2**20), np.float32)
    x[1, 77] = x[2, 5] = np.nan
    with pytest.raises(DataError, match="has 2 values that are not finite, the first in row 1, column 77"):
        make(x, [0, 1, 0])


@pytest.mark.parametrize(
    "y", [LABELS.reshape(20, 1), LABELS.astype(float), LABELS == 1, LABELS.astype("uint8"), list(LABELS)]
)
def test_labels(y: Any):
    data = make(y=y)
    assert data.train.labels.dtype == np.int64
    assert np.concatenate([p.labels for p in (data.train, data.validation, data.test)]).sum() == 10


@pytest.mark.parametrize(
    ("values", "note"),
    [
        ((0, 1), None),
        ((1, 2), "labels_train: the labels 1, 2 are the classes 0, 1"),
        ((-1, 1), "labels_train: the labels -1, 1 are the classes 0, 1"),
        ((0, 15), "labels_train: the labels 0, 15 are the classes 0, 1"),
    ],
)
@pytest.mark.parametrize("dtype", [np.int8, np.float64])
def test_labels_that_occur_are_the_classes(values, note, dtype):
    data = make(
        y=np.array(values, dtype)[LABELS], x_test=np.zeros((3, 3)), labels_test=np.array(values, dtype)[[1, 0, 1]]
    )
    assert (data.classes, data.class_names, data.notes) == (2, tuple(map(str, values)), (note,) if note else ())
    assert data.test.labels.tolist() == [1, 0, 1]
    assert data.train.labels.dtype == np.int64
    plain = make(x_test=np.zeros((3, 3)), labels_test=[1, 0, 1])
    np.testing.assert_array_equal(data.train.labels, plain.train.labels)


def test_of_many_labels_the_note_names_some():
    notes = make(np.zeros((60, 2)), np.arange(60) % 12 + 1).notes
    assert notes == ("labels_train: the labels 1, 2, ..., 12 are the classes 0, 1, ..., 11",)


def test_named_classes_stay_without_samples():
    data = make(y=2 * LABELS, class_names=["a", "b", "c", "d"])
    assert (data.class_names, data.notes) == (("a", "b", "c", "d"), ())
    assert set(data.train.labels.tolist()) == {0, 2}


@pytest.mark.parametrize(
    ("y", "message"),
    [
        (LABELS[:19], "labels_train has 19 labels for 20 rows of x_train; there must be one for each"),
        (np.eye(2)[LABELS], r"labels_train has the shape \(20, 2\); .* one-hot, take its argmax"),
        (np.zeros((20, 1, 1)), r"labels_train has the shape \(20, 1, 1\)"),
        ([*(19 * [0]), 0.5], "labels_train has the label 0.5 in row 19; labels must be whole numbers"),
        ([*(19 * [0]), np.nan], "labels_train has the label nan in row 19"),
        ([*(19 * [0]), np.inf], "labels_train has the label inf"),
        ([*(19 * [0]), 2**40], f"labels_train has the label {2**40}"),
        ([*(19 * [0.0]), 1e300], r"labels_train has the label 1e\+300"),
        ([*(19 * [0]), -(2**40)], f"labels_train has the label {-(2**40)}"),
        (np.ma.masked_equal(LABELS, 1), "labels_train is a masked array with 10 masked values; fill them in"),
        (["cat"] * 20, "labels_train is an array of <U3; labels must be whole numbers"),
        ([None] * 20, "labels_train is an array of object"),
        ([[0], [1, 2]], "labels_train has entries of different lengths"),
        (20 * [3], "labels_train has the label 3 alone; there must be at least 2 classes"),
    ],
)
def test_labels_that_cannot_be_used(y: Any, message: str):
    with pytest.raises(DataError, match=f"^{message}"):
        make(y=y)


def test_labels_that_are_something_else():
    x, many = np.zeros((60, 2)), r"^labels_train has 40 different labels in 60 rows; these are hardly classes"
    with pytest.raises(DataError, match=many):
        make(x, np.arange(60) % 40 + 1)
    assert make(x, np.arange(60) % 40).classes == 40


@pytest.mark.parametrize(
    ("x_test", "y_test", "message"),
    [
        (np.zeros((5, 4)), [0, 1, 0, 1, 0], "x_test has 4 features and x_train has 3"),
        (np.zeros((5, 3)), [0, 1], "labels_test has 2 labels for 5 rows of x_test"),
        (np.zeros((5, 3)), [0, 1, 2, 1, 0], "labels_test has the class 2, which is none of those known: 0, 1"),
        (np.zeros((5, 3)), [0, 1, -7, 1, 0], "labels_test has the class -7, which is none"),
        (np.zeros((0, 3)), [], r"x_test has the shape \(0, 3\) and thus no values"),
        (np.full((5, 3), np.nan), [0, 1, 1, 1, 0], "x_test has 15 values that are not finite"),
        (np.zeros((5, 3)), None, "x_test is given without labels_test; a test set needs both"),
        (None, [0, 1], "labels_test is given without x_test; a test set needs both"),
    ],
)
def test_test_sets_that_cannot_be_used(x_test: Any, y_test: Any, message: str):
    with pytest.raises(DataError, match=f"^{message}"):
        make(None, LABELS, x_test, y_test)


def test_too_few_names_rows_and_too_large_splits():
    for names, y in ((["a"], LABELS), (["a", "b"], LABELS + 1), (["a", "b"], LABELS - 1)):
        low, high = min(y), max(y)
        wanted = f"class_names has {len(names)} names for the labels {low} to {high} of labels_train; give one for each"
        with pytest.raises(DataError, match=wanted):
            make(y=y, class_names=names)
    with pytest.raises(DataError, match="class_names has 2 names for the labels 0 to 2 of labels_test"):
        make(x_test=np.zeros((3, 3)), labels_test=[0, 1, 2], class_names=["a", "b"])
    with pytest.raises(DataError, match="labels_train has the label 1 alone"):
        make(y=20 * [1], class_names=["a", "b"])
    with pytest.raises(DataError, match="x_train has 2 rows; it must leave at least 2, to train and to validate"):
        make(np.zeros((2, 1)), [0, 1])
    with pytest.raises(DataError, match="split = 18/2: asks for 20 samples, but arrays has 18"):
        make(split="18/2")


@few_examples
@given(rows=st.integers(3, 60), test=st.booleans())
def test_no_row_is_lost_or_used_twice(rows: int, test: bool):
    x, labels = np.arange(float(rows)).reshape(-1, 1), np.arange(rows) % 2
    data = make(x, labels, *((x + 1000, labels) if test else ()))
    assert sorted(pool(data, test=not test)[:, 0]) == list(range(rows))
    assert min(len(data.train), len(data.validation), len(data.test)) >= 1


def test_a_masked_array_without_a_masked_value_is_an_array():
    data = make(np.ma.array(np.arange(60.0).reshape(20, 3)), np.ma.array(LABELS))
    np.testing.assert_array_equal(pool(data), pool(make()))
    assert type(data.train.x) is np.ndarray


@few_examples
@given(
    st.lists(st.integers(-(2**31), 2**31), min_size=2, max_size=20, unique=True), st.sampled_from(["int64", "float64"])
)
def test_every_label_is_found_again_by_the_name_of_its_class(tmp_path_factory, labels: list[int], dtype: str):
    y = np.array(labels * 3)
    x = np.arange(float(len(y)))[:, None]
    path = tmp_path_factory.mktemp("t") / "t.csv"
    path.write_text("x,label\n" + "".join(f"{i},{label}{'.0' * (i % 2)}\n" for i, label in enumerate(y.tolist())))
    in_memory, table = make(x, y.astype(dtype), x, y), load_data(path, test_fraction=0.34)
    assert in_memory.class_names == tuple(map(str, sorted(labels)))
    assert list(map(float, table.class_names)) == sorted(labels)
    for data in (in_memory, table):
        for part in (data.train, data.validation, data.test):
            assert [float(data.class_names[c]) for c in part.labels] == [y[int(row)] for row in part.x[:, 0]]
