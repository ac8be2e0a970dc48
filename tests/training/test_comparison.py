"""Conclusions on several settings, and on seeds: what chance explains, and what to try next."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import xpnet
from xpnet.config.settings import Settings
from xpnet.training.advice import Situation
from xpnet.training.candidates import Candidate
from xpnet.training.comparison import compare, spread

NOISE = np.array([-0.01, 0.0, 0.01, 0.004, -0.004])
OTHER = np.array([0.002, -0.002, 0.001, 0.0, -0.001])


def candidates(means: dict[Any, float], seeds: int, name: str = "lambda") -> list[Candidate]:
    """Return a combination for each value; the accuracies of a seed differ together, and a little more."""
    shared = NOISE[:seeds] - NOISE[:seeds].mean()
    return [
        Candidate({name: value}, f"{name} {value}", mean + shared + (i % 2) * (OTHER[:seeds] - OTHER[:seeds].mean()))
        for i, (value, mean) in enumerate(means.items())
    ]


def at(**settings: Any) -> Situation:
    return Situation(xpnet.TrainConfig(), xpnet.NetworkConfig(inputs=4, hidden=(50,)), **settings)


@pytest.mark.parametrize(
    ("means", "seeds", "samples", "rule", "words", "tried"),
    [
        (
            {0.0: 0.4, 0.001: 0.45, 0.01: 0.5},
            5,
            10_000,
            "best-at-edge",
            [
                "The best of 3 values of lambda is 0.01: 50.00 ± 0.76 % of the validation samples, 5.0 ",
                " points more than 0.001, which is more than 5 seeds explain (0.2 points), and more than ",
                " The best lambda lies at the upper end of its list, so try 0.1 too.",
            ],
            {"lambda": [0.01, 0.1]},
        ),
        (
            {0.0: 0.4, 0.001: 0.5, 0.01: 0.46},
            5,
            1000,
            "best",
            [
                "than 5 seeds explain (0.2 points); other 1,000 validation samples may say otherwise (by up to 5.0",
                " Values nearer to it may be better still: try lambda = 0.00033 and 0.0032.",
            ],
            {"lambda": [0.00033, 0.001, 0.0032]},
        ),
        (
            {0.0: 0.5, 0.001: 0.45, 0.01: 0.4},
            1,
            10_000,
            "best",
            [
                "5.0 points more than 0.001, which is more than the chance of 10,000 validation samples",
                " Values nearer to it may be better still: try lambda = 0.00033.",
                " With runs = 3 they say what seeds explain, too.",
            ],
            {"lambda": [0.0, 0.00033], "runs": 3},
        ),
        (
            {0.0: 0.5, 0.001: 0.501, 0.01: 0.4},
            5,
            10_000,
            "alike",
            [
                "The best two of 3 values of lambda, 0.001 and 0.0, do not differ beyond their seeds: ",
                "0.10 ± 0.07 points (differences seed by seed, 5 seeds).",
                " Use either: with this spread, 10 seeds would show only differences above 0.1 points.",
            ],
            None,
        ),
        (
            {0.001: 0.501, 0.01: 0.5, 0.1: 0.4},
            1,
            10_000,
            "alike",
            [
                "do not differ beyond chance: 0.1 points apart, and 10,000 validation samples alone explain up to 1.6 ",
                " The best lambda lies at the lower end of its list, so try 1e-05 and 0.0001 too. With runs = 3",
            ],
            {"lambda": [1e-05, 0.0001, 0.001], "runs": 3},
        ),
        (
            {0.0: 0.5, 0.001: 0.501, 0.01: 0.5001},
            5,
            10_000,
            "alike",
            [" Use any of the 3 that seeds do not tell apart: with this spread, 10 seeds would show only"],
            None,
        ),
        (
            {0.0: 0.5, 0.001: 0.501},
            3,
            10_000,
            "alike",
            ["The two values of lambda, 0.001 and 0.0, do not differ beyond their seeds: 0.10 ± 0.12 points"],
            None,
        ),
        (
            {0.001: 0.5, 0.01: 0.501, 0.1: 0.4, 0.0001: 0.39},
            1,
            10_000,
            "alike",
            [" Three seeds of each may tell them apart (runs = 3)."],
            {"lambda": [0.01, 0.001], "runs": 3},
        ),
        (
            {0.0: 0.5, 0.001: 0.4},
            2,
            10_000,
            "best",
            ["The best of 2 values of lambda is 0.0: 50.00 ± 0.71 % of the validation samples, 10.0 points"],
            {"lambda": [0.0, 0.00033], "runs": 3},
        ),
    ],
    ids=[
        "edge",
        "inside",
        "none-is-best",
        "alike",
        "alike-at-edge",
        "all-alike",
        "two-alike",
        "few-seeds",
        "two-seeds",
    ],
)
def test_compare_says_what_is_best_and_what_chance_explains(means, seeds, samples, rule, words, tried):
    found = compare(candidates(means, seeds), samples, at())
    assert found is not None
    assert [part for part in words if part not in found.text] == []
    assert (found.rule, found.evidence.get("try")) == (rule, tried)
    assert found.evidence["seeds"] == seeds


def test_compare_of_two_settings_extends_the_one_at_its_end_and_keeps_the_other():
    grid = [
        Candidate({"lambda": lam, "eta_max": eta}, f"lambda {lam}, eta_max {eta}", np.array([0.3 + 0.1 * i + 0.05 * j]))
        for i, lam in enumerate([0.0, 0.1, 0.001])
        for j, eta in enumerate([0.01, 0.1])
    ]
    found = compare(grid, 20_000, at())
    assert found.text.startswith("The best of 6 combinations of settings is lambda 0.001, eta_max 0.1: ")
    assert found.evidence["ends"] == {"eta_max": "upper"}
    assert found.evidence["try"] == {"lambda": 0.001, "eta_max": [0.1, 1.0, 10.0], "runs": 3}


def test_compare_of_words_names_the_best_and_advises_no_values():
    found = compare(candidates({"he": 0.5, "xavier": 0.4}, 5, "init"), 10_000, at())
    assert (found.rule, "try" in found.evidence) == ("best", False)
    assert found.text.endswith(" do (1.4).")


def test_compare_leaves_out_what_diverged_but_knows_that_the_best_is_no_end():
    three = candidates({0.01: 0.4, 0.1: 0.5, 1.0: 0.2}, 1, "eta_max")
    three[2] = Candidate({"eta_max": 1.0}, "eta_max 1", np.array([np.nan]))
    assert compare(three, 10_000, at()).rule == "best"
    assert compare(three[1:], 10_000, at()) is None


@pytest.mark.parametrize("seeds", [1, 5])
def test_compare_of_equal_settings_rarely_finds_a_difference(seeds: int):
    """Of 400 comparisons of four settings that are the same, at most 5 % may name a best one."""
    rng, wrong = np.random.default_rng(0), 0
    for _ in range(400):
        shares = rng.binomial(1000, 0.5, (4, seeds)) / 1000 + rng.normal(0, 0.01 if seeds > 1 else 0, (1, seeds))
        same = [Candidate({"lambda": i / 10}, f"lambda {i}", row) for i, row in enumerate(shares)]
        wrong += compare(same, 1000, at()).rule != "alike"
    assert wrong <= 20


def test_spread_says_from_which_distance_on_settings_differ():
    found = spread(0.5 + NOISE)
    assert found.text == (
        "5 networks that differ in their seeds alone are right for 49.00 % to 51.00 % of the validation samples "
        "(50.00 ± 0.76 %), so other settings with 5 seeds are better or worse only if they are 1.1 points apart."
    )
    scipy = pytest.importorskip("scipy.stats")
    assert found.evidence["apart"] == pytest.approx(scipy.t.isf(0.025, 8) * NOISE.std(ddof=1) * np.sqrt(2 / 5))
    assert spread(np.array([0.5, 0.6, np.nan])) is None


def test_population_of_seeds_says_their_spread_after_what_the_curves_say(blobs):
    given = {"hidden": [8], "batch_size": 20, "epochs": 30, "schedule": "constant", "eta": 0.002, "runs": 3}
    of = xpnet.Population.of(Settings.from_mapping(given), blobs.features, blobs.classes)
    conclusion = xpnet.train_population(of, blobs)[1].conclusion
    assert "3 networks that differ in their seeds alone are right for " in conclusion.text
    assert "spread" in (conclusion.rule, conclusion.evidence.get("also", {}).get("rule"))


def test_compare_of_two_values_names_them_both():
    found = compare(candidates({0.0: 0.5, 0.2: 0.501}, 1, "dropout"), 1000, at())
    assert found.text.startswith(
        "The two values of dropout, 0.2 and 0.0, do not differ beyond chance: 0.1 points apart"
    )
    assert "Try values farther apart, dropout = 0.4. " in found.text


def test_compare_of_settings_that_are_tied_prefers_the_lower_loss():
    two = candidates({0.0: 0.5, 0.001: 0.5005}, 5)
    losses = [np.full(5, 1.0) + NOISE, np.full(5, 1.2) - NOISE]
    two = [Candidate(one.values, one.words, one.accuracies, loss) for one, loss in zip(two, losses, strict=True)]
    found = compare(two, 10_000, at())
    assert " Use 0.0, whose validation loss is lower by 0.2 than that of 0.001, beyond what seeds explain" in found.text
    assert found.evidence["tied"] == [{"lambda": 0.0}]


def test_population_of_settings_that_are_tied_advises_neither_far_values_nor_seeds(blobs):
    given = {"hidden": [8], "batch_size": 20, "epochs": 20, "schedule": "constant", "eta": [0.05, 0.0501], "runs": 3}
    of = xpnet.Population.of(Settings.from_mapping(given), blobs.features, blobs.classes)
    conclusion = xpnet.train_population(of, blobs)[1].conclusion
    assert conclusion.rule == "alike"
    assert "try" not in conclusion.evidence
