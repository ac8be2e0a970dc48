"""How many examples hypothesis draws, and which rows of a table run: few by default, all with ``--thorough``."""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import Any

import hypothesis
import pytest

# A further case of what the default suite tests too.
thorough = pytest.mark.thorough


def examples(few: int, many: int = 100) -> hypothesis.settings:
    """Return settings for tests that draw `few` examples, or `many` with ``--thorough``."""
    return hypothesis.settings(max_examples=many if os.environ.get("XPNET_TEST_THOROUGH") else few, deadline=None)


def pairs(first: Iterable[Any], second: Iterable[Any]) -> list[Any]:
    """Return all pairs as the cases of a test; a member that is a tuple stands for several arguments.

    By default only those run in which every member has its turn: the k-th of the longer list with the k-th of the
    shorter one, which begins anew at its end.
    """
    first, second = ([one if isinstance(one, tuple) else (one,) for one in members] for members in (first, second))
    fewer = min(len(first), len(second))
    return [
        pytest.param(*one, *other, marks=() if i % fewer == j % fewer else thorough)
        for i, one in enumerate(first)
        for j, other in enumerate(second)
    ]


def every(number: int, cases: Iterable[Any]) -> list[Any]:
    """Return the cases of a test as :func:`pairs` does; the first and every `number`-th after it run by default."""
    return [
        pytest.param(*(case if isinstance(case, tuple) else (case,)), marks=thorough if k % number else ())
        for k, case in enumerate(cases)
    ]
