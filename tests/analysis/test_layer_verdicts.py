"""Verdicts on layers: what statistics made for the purpose, and those of real networks, say."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import xpnet
from xpnet.analysis.layer_statistics import MEASURES
from xpnet.analysis.layer_verdicts import LEGEND, in_a_sentence, layer_verdicts
from xpnet.data import Dataset

EPOCHS = 4
USUAL = {
    **dict.fromkeys(MEASURES, 0.5),
    "s_std": 1.0,
    "s_spread": 1.0,
    "dead": 0.0,
    "relative_spread": 1.0,
    "effective_rank": 6.0,
    "update_ratio": 1e-3,
}


def measured(**changes: list[list[float]]) -> dict[str, Any]:
    """Return the statistics of a network of two layers, with measures of some layers by epoch changed."""
    values = {name: np.full((EPOCHS, 1, 2), value) for name, value in USUAL.items()}
    for name, layers in changes.items():
        values[name][:, 0] = np.array(layers, float).T
    return {"epoch": range(EPOCHS), **values}


FLAT = [1.0] * EPOCHS
NONE = [0.0] * EPOCHS


@pytest.mark.parametrize(
    ("changes", "rule", "text"),
    [
        ({}, "healthy", "healthy: outputs tell samples apart"),
        (
            {"relative_spread": [[1e-9] * EPOCHS, FLAT]},
            "same-outputs",
            "outputs are the same for all samples from the start: weights too small for this depth",
        ),
        (
            {"relative_spread": [[1, 1, 1e-9, 1e-9], FLAT]},
            "same-outputs",
            "from epoch 2 on: steps or lambda too large",
        ),
        ({"dead": [[0, 0.1, 0.2, 0.4], NONE]}, "dead-units", "40 % of the units are dead from epoch 1 on: steps too"),
        ({"dead": [[0.4] * EPOCHS, NONE]}, "dead-units", "from the start: initial weights or biases"),
        ({"gradient_rms": [[1e-9] * EPOCHS, FLAT]}, "vanishing", "from the start (1e-09 of that of the last layer)"),
        ({"gradient_rms": [NONE, FLAT]}, "vanishing", "(exactly zero)"),
        ({"gradient_rms": [[1, 1, 1, 1e6], FLAT]}, "exploding", "from epoch 3 on"),
        ({"update_ratio": [[1e-7] * EPOCHS, FLAT]}, "small-steps", "(1e-07 of their size at most)"),
        ({"update_ratio": [[1e-3, 0.3, 0, 0], FLAT]}, "large-steps", "by 30 % of their size in epoch 1"),
        ({"effective_rank": [[1.1] * EPOCHS, FLAT]}, "on-a-line", "outputs lie on a line from the start"),
        ({"inactive": [[0.97] * EPOCHS, NONE]}, "mostly-zero", "97 % of the outputs are zero"),
    ],
)
def test_layer_verdicts_of_made_statistics_find_the_rule(changes: dict[str, Any], rule: str, text: str):
    first = layer_verdicts(measured(**changes))[0]
    assert (first.rule, first.layer, first.replica) == (rule, 1, 0)
    assert text in first.text
    assert bool(first.see) == (rule != "healthy")


@pytest.mark.parametrize(
    ("settings", "advice"),
    [
        (None, "(1e-09 of that of the last layer): try init = he, batch normalisation or fewer layers"),
        ({"init": "he", "batch_norm": False}, ": try batch normalisation or fewer layers"),
        ({"init": 0.01, "batch_norm": True}, ": try init = he or fewer layers"),
        ({"init": ["he", 0.01], "batch_norm": True}, ": try init = he or fewer layers"),
        ({"init": "he", "batch_norm": True}, ": try fewer layers"),
    ],
)
def test_layer_verdicts_advise_nothing_that_holds_already(settings: dict[str, Any] | None, advice: str):
    first = layer_verdicts(measured(gradient_rms=[[1e-9] * EPOCHS, FLAT]), settings=settings)[0]
    assert first.text.endswith(advice)
    dead = layer_verdicts(measured(dead=[[0.4] * EPOCHS, NONE]), settings={"init": "he"})[0]
    assert dead.text.endswith("from the start: initial weights or biases")


def test_layer_verdicts_leave_out_networks_that_diverged():
    statistics = measured()
    statistics["s_std"][-1] = np.nan
    assert layer_verdicts(statistics) == []
    assert in_a_sentence([]) == ""


def test_legend_has_words_for_every_measure():
    assert list(LEGEND) == list(MEASURES)


@pytest.mark.parametrize(
    ("init", "rules", "words"),
    [
        (1e-3, {"same-outputs", "vanishing", "dead-units"}, "weights too small for this depth"),
        ("he", {"healthy"}, "All layers are healthy"),
    ],
)
def test_verdicts_of_deep_networks_tell_weak_weights_from_good_ones(blobs: Dataset, init: Any, rules: set, words: str):
    config = xpnet.NetworkConfig(
        inputs=blobs.features, classes=blobs.classes, hidden=(20, 20, 10, 10, 10), batch_norm=False, init=init
    )
    settings = xpnet.TrainConfig(batch_size=50, epochs=2, schedule="constant", eta=0.02)
    _, history = xpnet.train_with_diagnosis(xpnet.Network(config, dtype="float64"), blobs, settings)
    verdicts = layer_verdicts(history)
    assert [one.layer for one in verdicts] == [1, 2, 3, 4, 5, 6]
    assert {one.rule for one in verdicts} <= rules
    assert words in in_a_sentence(verdicts)
