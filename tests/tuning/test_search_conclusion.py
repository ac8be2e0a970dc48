"""What a search says."""

from __future__ import annotations

from typing import Any

import pytest

from xpnet.tuning import Space
from xpnet.tuning.close_trials import Close
from xpnet.tuning.search_conclusion import of_winner, search_conclusion, with_budget

SPACE = Space.of({"lambda": "1e-5..1e-1", "width": "10,20"})
FINAL = {"conclusion": {"text": "The network overfits.", "rule": "overfits"}, "warnings": []}
BUDGET = " Try a larger budget (--budget) or a smaller network (more epochs for the same arithmetic)"
CLOSE = Close(3, 20, 0.01, 0.02, 1, 1000)


def said(lam: float, trials: int, close: Close | None, near: tuple[float, ...] = (), final: Any = FINAL) -> Any:
    best, tried = {"lambda": lam, "width": 10}, [{"lambda": 1e-3, "width": 20}] * trials
    return search_conclusion(SPACE, best, tried, [best, *({"lambda": value} for value in near)], close, final)


@pytest.mark.parametrize(
    ("lam", "trials", "close", "near", "rule", "words"),
    [
        (
            1.2e-5,
            20,
            None,
            (),
            "at-edge",
            "The best lambda, 1.2e-05, lies at the lower end of its range (1e-05 to 0.1): ",
        ),
        (0.09, 20, None, (), "at-edge", "at the upper end"),
        (0.3, 20, None, (), "at-edge", "0.3, lies at the upper end of its range (1e-05 to 0.3)"),  # of a finer round
        (0.09, 20, CLOSE, (0.03, 0.025), "at-edge", "at the upper end"),
        (0.09, 20, CLOSE, (0.03, 0.006), "alike", "The best 3 of 20 complete trials cannot be told apart"),
        (1e-3, 20, CLOSE, (), "alike", "Try the best few with more seeds (--runs 5)"),
        (1e-3, 20, Close(1, 20, 0.0, 0.02, 1, 1000), (), "overfits", "Of the winner: the network overfits."),
        (1e-3, 20, None, (), "overfits", "Of the winner: the network overfits."),
        (0.09, 5, None, (), "overfits", "Of the winner"),
    ],
)
def test_search_conclusion_tells_of_an_edge_of_chance_and_else_of_the_winner(
    lam: float, trials: int, close: Close | None, near: tuple[float, ...], rule: str, words: str
):
    found = search_conclusion(
        SPACE,
        {"lambda": lam, "width": 10},
        [{"lambda": 1e-3, "width": 20}] * (trials - 1) + [{"lambda": lam, "width": 10}],
        [{"lambda": value} for value in (lam, *near)],
        close,
        FINAL,
    )
    assert found is not None
    assert found.rule == rule
    assert words in found.text


def test_search_conclusion_does_not_repeat_a_warning():
    final = FINAL | {"warnings": ["The network overfits."]}
    assert said(1e-3, 20, None, final=final) is None
    assert search_conclusion(SPACE, None, [], [], CLOSE, None) is None


@pytest.mark.parametrize(
    ("advice", "searched", "budget", "fitting"),
    [
        (
            " Try a larger lambda, augmentation (flip, shift), or patience to stop in time.",
            ("lambda",),
            False,
            " Try augmentation (flip, shift) or patience to stop in time.",
        ),
        (" Try more cycles or a larger learning rate.", ("eta",), False, " Try more cycles."),
        (" Try more cycles or a larger learning rate.", ("eta", "cycles"), False, ""),
        (
            " Try more epochs or a larger learning rate.",
            ("lambda",),
            True,
            f"{BUDGET} or a larger learning rate.",
        ),
        (
            " Try a larger one (xpnet lr-range suggests it), or train longer.",
            ("eta_max",),
            True,
            f"{BUDGET}.",
        ),
        (
            " Try lambda = 0.003 (three times the present penalty, or so) or dropout = 0.2. More follows.",
            ("lambda",),
            False,
            " Try dropout = 0.2. More follows.",
        ),
        (" Try more hidden units.", ("width",), False, ""),
    ],
)
def test_advice_of_the_winner_changes_neither_what_was_searched_nor_a_fixed_arithmetic(
    advice: str, searched: tuple[str, ...], budget: bool, fitting: str
):
    said = {"text": f"The network is so.{advice}", "rule": "still-learning"}
    assert of_winner(said, searched, budget=budget) == f"The network is so.{fitting}"


def test_warnings_of_a_search_with_a_budget_advise_on_the_budget():
    few = "249 steps are few, and what comes of fewer than 300 says little about the settings; try epochs = 4."
    (fitting,) = with_budget([few], 0.01)
    # 1.05 * 0.01 * 300 / 249 = 0.01265
    assert fitting.endswith("; try budget = 0.013, or smaller networks (more epochs for the same arithmetic).")
    assert with_budget([few], None) == [few]
