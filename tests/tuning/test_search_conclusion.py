"""What a search says."""

from __future__ import annotations

import pytest

from xpnet.tuning import Space
from xpnet.tuning.search_conclusion import search_conclusion

SPACE = Space.of({"lambda": "1e-5..1e-1", "width": "10,20"})
FINAL = {"conclusion": {"text": "The network overfits.", "rule": "overfits"}, "warnings": []}


@pytest.mark.parametrize(
    ("lam", "trials", "rule", "words"),
    [
        (1.2e-5, 20, "at-edge", "The best lambda, 1.2e-05, lies at the lower end of its range (1e-05 to 0.1): "),
        (0.09, 20, "at-edge", "at the upper end"),
        (1e-3, 20, "overfits", "Of the winner: the network overfits."),
        (0.09, 5, "overfits", "Of the winner"),
    ],
)
def test_search_conclusion_tells_of_an_edge_and_else_of_the_winner(lam: float, trials: int, rule: str, words: str):
    found = search_conclusion(SPACE, {"lambda": lam, "width": 10}, trials, FINAL)
    assert found is not None
    assert found.rule == rule
    assert words in found.text


def test_search_conclusion_does_not_repeat_a_warning():
    final = FINAL | {"warnings": ["The network overfits."]}
    assert search_conclusion(SPACE, {"lambda": 1e-3, "width": 10}, 20, final) is None
    assert search_conclusion(SPACE, None, 20, None) is None
