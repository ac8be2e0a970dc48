"""Ends of searched ranges that are clearly worse."""

from __future__ import annotations

from typing import Any

import pytest

from xpnet.report.worse_ends import worse_ends

SPACE = {"lambda": {"draw": "log-uniform", "low": 1e-6, "high": 1.0}}


def found(accuracies: list[tuple[float, float]], **changes: Any) -> dict[str, Any]:
    trials = [
        {"trial": at, "state": "complete", "settings": {"lambda": value}, "validation": {"accuracy": accuracy}}
        for at, (value, accuracy) in enumerate(accuracies)
    ]
    return {"trials": trials, "space": SPACE, "samples": 1000, **changes}


@pytest.mark.parametrize(
    ("accuracies", "changes", "words"),
    [
        (
            [(1e-3, 0.5), (1e-4, 0.3), (2e-4, 0.4), (0.02, 0.44), (0.1, 0.41), (0.5, 0.3)],
            {},
            "Clearly worse than the best trial: lambda above 0.01 (by 6.0 points and more).",
        ),
        (
            [(1e-3, 0.5), (2e-3, 0.3), (3e-3, 0.4), (1e-6, 0.1), (1e-5, 0.2), (5e-5, 0.4)],
            {},
            "Clearly worse than the best trial: lambda below 0.0001 (by 10.0 points and more).",
        ),
        # Within 4.5 points, the margin; too few trials at the end; too few anywhere else.
        ([(1e-3, 0.5), (1e-4, 0.3), (2e-4, 0.4), (0.02, 0.46), (0.1, 0.41), (0.5, 0.3)], {}, ""),
        ([(1e-3, 0.5), (1e-4, 0.3), (2e-4, 0.4), (0.1, 0.41), (0.5, 0.3)], {}, ""),
        ([(1e-3, 0.5), (0.02, 0.3), (0.1, 0.41), (0.5, 0.3)], {}, ""),
        ([], {}, ""),
        ([(1e-3, 0.5)] * 3 + [(0.5, 0.3)] * 3, {"space": {"lambda": {"values": [1e-3, 0.5]}}}, ""),
    ],
)
def test_an_end_of_a_range_is_worse_where_chance_does_not_explain_its_best_trial(accuracies, changes, words):
    assert worse_ends(found(accuracies, **changes)) == words
