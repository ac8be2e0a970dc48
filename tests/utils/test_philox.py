"""Philox4x32-10 gives the known answers of its authors, for arrays of counters too."""

from __future__ import annotations

import numpy as np
import pytest
from examples import examples
from hypothesis import given
from hypothesis import strategies as st

from xpnet.utils.philox import below, philox

word = st.integers(0, 2**32 - 1)

# The known answers of Random123: counter, key, result.
ANSWERS = {
    "zeros": ("00000000 00000000 00000000 00000000", "00000000 00000000", "6627e8d5 e169c58d bc57ac4c 9b00dbd8"),
    "ones": ("ffffffff ffffffff ffffffff ffffffff", "ffffffff ffffffff", "408f276d 41c83b0e a20bc7c6 6d5451fd"),
    "pi": ("243f6a88 85a308d3 13198a2e 03707344", "a4093822 299f31d0", "d16cfe09 94fdcceb 5001e420 24126ea1"),
}


def words(text: str) -> list[int]:
    return [int(each, 16) for each in text.split()]


def by_hand(counter, key):
    """Return the four words in Python's whole numbers, as the paper defines them."""
    c, k = list(counter), list(key)
    for _ in range(10):
        first, second = 0xD2511F53 * c[0], 0xCD9E8D57 * c[2]
        c = [second >> 32 ^ c[1] ^ k[0], second % 2**32, first >> 32 ^ c[3] ^ k[1], first % 2**32]
        k = [(k[0] + 0x9E3779B9) % 2**32, (k[1] + 0xBB67AE85) % 2**32]
    return c


@pytest.mark.parametrize("name", ANSWERS)
def test_philox_of_the_authors_counters_gives_their_answers(name):
    counter, key, expected = map(words, ANSWERS[name])
    found = philox(tuple(counter), tuple(key))
    assert [int(each) for each in found] == expected
    assert {each.dtype for each in found} == {np.dtype("uint32")}


@examples(20, 300)
@given(st.tuples(word, word, word, word), st.tuples(word, word))
def test_philox_of_any_counter_is_its_definition(counter, key):
    assert [int(each) for each in philox(counter, key)] == by_hand(counter, key)


def test_philox_of_arrays_broadcasts_their_words():
    rows, columns = np.arange(3, dtype=np.uint32)[:, None], np.array([7, 2**32 - 1], np.uint32)
    found = np.stack(philox((rows, 5, columns, 0), (11, 12)))
    assert found.shape == (4, 3, 2)
    for i in range(3):
        for j in range(2):
            assert found[:, i, j].tolist() == by_hand((i, 5, int(columns[j]), 0), (11, 12))


def test_philox_leaves_its_arguments_as_they_are():
    counter = np.arange(5, dtype=np.uint32)
    philox((counter, counter, counter, counter), (1, 2))
    assert counter.tolist() == list(range(5))


@examples(20, 300)
@given(st.lists(word, min_size=1, max_size=20), st.integers(1, 2**31))
def test_below_is_the_share_of_the_limit_that_the_word_is_of_all_words(values, limit):
    found = below(np.array(values, np.uint32), limit)
    assert found.dtype == np.int64
    assert found.tolist() == [value * limit >> 32 for value in values]
    assert ((found >= 0) & (found < limit)).all()


@pytest.mark.parametrize("limit", [1, 2, 5, 9, 33])
def test_below_is_uniform(limit):
    draws = below(philox((np.arange(40_000, dtype=np.uint32), 3, 0, 0), (8, 9))[1], limit)
    counts = np.bincount(draws, minlength=limit)
    assert len(counts) == limit
    mean = len(draws) / limit
    # Chi-squared has the mean limit - 1 and the variance 2 (limit - 1).
    assert ((counts - mean) ** 2 / mean).sum() <= limit - 1 + 5 * (2 * (limit - 1)) ** 0.5
