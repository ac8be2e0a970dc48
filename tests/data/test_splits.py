from __future__ import annotations

import numpy as np
import pytest
from data_files import few_examples
from hypothesis import given
from hypothesis import strategies as st

from xpnet.config.definitions import DataConfig
from xpnet.data import RawDataset, Standardiser, parse_split, split_raw
from xpnet.errors import ConfigError, DataError


def numbers(rows: int) -> RawDataset:
    """Return `rows` rows that hold their own number."""
    x = np.arange(rows, dtype=np.float32).reshape(-1, 1)
    labels = np.arange(rows) % 2
    return RawDataset("numbers", "here", x, labels, x[:3] + 1000, labels[:3], ("even", "odd"), None, f"{rows - 1}/1")


@pytest.mark.parametrize(
    ("split", "sizes"),
    [
        ("45k", (45_000, 5_000)),
        ("49k", (49_000, 1_000)),
        ("b1b2", (10_000, 10_000)),
        ("9k", (9_000, 1_000)),
        ("1/1", (1, 1)),
        ("123/45", (123, 45)),
    ],
)
def test_sizes(split: str, sizes: tuple[int, int]):
    assert parse_split(split) == sizes


@pytest.mark.parametrize(
    "split",
    ["", "45", "45K", "0/5", "5/0", "-1/5", "5/", "/5", "1/2/3", "1.5/2", "a/b", " 1/2", "1e3/2", "٣/١", "1/2\n"],
)
def test_malformed_splits_say_what_is_accepted(split: str):
    with pytest.raises(DataError, match=r"^split = .*: must be 45k, 49k, b1b2, 9k, or N/M with both at least 1"):
        parse_split(split)
    with pytest.raises(DataError if split.strip() else ConfigError, match="must be 45k"):
        split_raw(numbers(20), DataConfig(split=split))


@few_examples
@given(n=st.integers(1, 30), m=st.integers(1, 30), more=st.integers(0, 10))
def test_first_rows_train_and_the_next_ones_validate(n: int, m: int, more: int):
    data = split_raw(numbers(n + m + more), DataConfig(split=f"{n}/{m}"))
    assert data.split == f"{n}/{m}"
    assert data.train.x.ravel().tolist() == list(range(n))
    assert data.validation.x.ravel().tolist() == list(range(n, n + m))
    assert data.validation.labels.tolist() == [row % 2 for row in range(n, n + m)]
    assert data.test.x.ravel().tolist()[0] == 1000
    assert (len(data.train), len(data.validation), data.unused) == (n, m, more)


@few_examples
@given(n=st.integers(1, 30), m=st.integers(1, 30))
def test_more_than_there_is(n: int, m: int):
    with pytest.raises(DataError, match=f"split = {n}/{m}: asks for {n + m} samples, but numbers has {n + m - 1};"):
        split_raw(numbers(n + m - 1), DataConfig(split=f"{n}/{m}"))


def test_the_default_is_the_sources_own():
    data = split_raw(numbers(20))
    assert (data.split, len(data.train), len(data.validation)) == ("19/1", 19, 1)
    assert (data.name, data.location, data.class_names, data.image_shape) == ("numbers", "here", ("even", "odd"), None)
    assert (data.features, data.classes) == (1, 2)


def test_the_standardiser_knows_the_training_rows_alone():
    data = split_raw(numbers(20), DataConfig(split="5/10"))
    expected = Standardiser.fit(np.arange(5, dtype=np.float32).reshape(-1, 1))
    assert (data.standardiser.mean, data.standardiser.std) == (expected.mean, expected.std) == ([2.0], [2**0.5])
