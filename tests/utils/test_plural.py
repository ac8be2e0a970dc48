"""Counts in words."""

from __future__ import annotations

import pytest

from xpnet.utils.plural import counted


@pytest.mark.parametrize(
    ("count", "noun", "words"),
    [
        (0, "file", "0 files"),
        (1, "file", "1 file"),
        (2000, "file", "2,000 files"),
        (1, "class", "1 class"),
        (3, "class", "3 classes"),
    ],
)
def test_a_count_has_its_noun(count, noun, words):
    assert counted(count, noun) == words
