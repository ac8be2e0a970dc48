"""Whether the trainings of a search end inside a cycle of the learning rate."""

from __future__ import annotations

from typing import Any

import pytest

from xpnet.config.settings import Settings
from xpnet.training.schedules import learning_rates
from xpnet.tuning import Space
from xpnet.tuning.search_conclusion import search_conclusion
from xpnet.tuning.whole_cycles import cycle_of

SIX = {"n_s": "5ep", "epochs": 6}
RESTARTS = {"schedule": "cosine-restarts", "restart_factor": 2.0, "n_s": "1ep"}


@pytest.mark.parametrize(
    ("settings", "samples", "words"),
    [
        (SIX, None, "at 80 % of the highest rate: after 6 epochs, where a whole number of cycles takes 10."),
        (SIX, 1234, "(--epochs 10)"),
        ({"n_s": "5ep", "epochs": 3}, None, "at 100 % of the highest rate: after 3 epochs"),
        ({"n_s": 20, "epochs": 6}, 1000, "after 6 epochs, where a whole number of cycles takes 8."),
        (RESTARTS | {"epochs": 8}, None, "at 85 % of the highest rate: after 8 epochs, where"),
        (RESTARTS | {"epochs": 8}, None, "(--epochs 14)"),
    ],
)
def test_trainings_that_end_at_a_high_rate_are_advised_to_end_their_cycle(settings: Any, samples: Any, words: str):
    cycle = cycle_of(settings, ["lambda"], samples)
    assert cycle is not None
    found = cycle.conclusion()
    assert found is not None
    assert found.rule == "inside-a-cycle"
    assert words in found.text
    config = Settings.from_mapping(settings).train
    rates = learning_rates(config, config.length(samples or 100_000), 1)[:, 0]
    assert cycle.share == pytest.approx(rates[-1] / rates.max(), abs=0.01)
    space = Space.of({"lambda": "1e-5..1e-1"})
    assert search_conclusion(space, {"lambda": 1e-5}, [], [], None, None, cycle=cycle) == found
    assert search_conclusion(space, None, [], [], None, None, cycle=cycle) is None


@pytest.mark.parametrize(
    ("settings", "searched"),
    [
        ({"n_s": "5ep", "epochs": 9}, []),  # a low rate
        ({"n_s": "5ep", "cycles": 2}, []),
        (SIX, ["epochs"]),
        (SIX, ["n_s"]),
        ({"n_s": 100, "epochs": 6}, []),  # steps of an unknown share of an epoch
        ({"schedule": "cosine", "epochs": 6}, []),
        ({"n_s": "1ep", "epochs": 1_000_000}, []),
        ({"n_s": "5ep", "epochs": 1e300}, []),
        ({"unknown": 1}, []),
    ],
)
def test_other_trainings_are_not(settings: dict[str, Any], searched: list[str]):
    cycle = cycle_of(settings, searched)
    assert cycle is None or cycle.conclusion() is None
