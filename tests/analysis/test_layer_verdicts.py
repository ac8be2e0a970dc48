"""Verdicts on layers: what statistics made for the purpose, and those of real networks, say."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import xpnet
from xpnet.analysis.layer_statistics import MEASURES
from xpnet.analysis.layer_verdicts import LEGEND, layer_verdicts
from xpnet.analysis.verdict_words import in_a_sentence
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
            "outputs are the same for all samples from the start, since the weights are too small for this depth",
        ),
        (
            {"relative_spread": [[1, 1, 1e-9, 1e-9], FLAT]},
            "same-outputs",
            "from epoch 2 on, since steps or lambda are too large",
        ),
        (
            {"dead": [[0, 0.1, 0.2, 0.4], NONE]},
            "dead-units",
            "40 % of the units are dead from epoch 1 on, since steps are too",
        ),
        ({"dead": [[0.4] * EPOCHS, NONE]}, "dead-units", "from the start, since the initial weights or biases"),
        (
            {"gradient_rms": [[1e-9] * EPOCHS, FLAT]},
            "vanishing",
            "from the start (less than a millionth of the last layer's)",
        ),
        ({"gradient_rms": [[1e-5] * EPOCHS, FLAT]}, "vanishing", "from the start (1e-05 of the last layer's)"),
        ({"gradient_rms": [NONE, FLAT]}, "vanishing", "no gradient arrives from the start"),
        (
            {"gradient_rms": [[2e-24, 0, 0, 0], FLAT]},
            "vanishing",
            "gradient arrives at the start (less than a millionth of the last layer's), and none from epoch 1 on",
        ),
        (
            {"gradient_rms": [[1, 1e-5, 1e-9, 0], FLAT]},
            "vanishing",
            "arrives from epoch 1 on (1e-05 of the last layer's), and none from epoch 3 on",
        ),
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
    ("settings", "weights", "advice"),
    [
        (None, 0.5, "init = he"),
        ({"init": "he", "batch_norm": False}, 0.5, "batch normalisation or fewer layers"),
        ({"init": "xavier", "batch_norm": True}, 0.5, "fewer layers"),
        ({"init": 0.01, "batch_norm": True}, 0.5, "init = he"),
        # 8 inputs: He's weights are 0.5, those of GELU nearly so.
        ({"init": 0.5, "hidden": [8]}, 0.5, "batch normalisation or fewer layers"),
        ({"init": 0.2, "hidden": [8]}, 0.2, "init = he"),
        ({"init": ["he", 0.01], "hidden": [8]}, 0.01, "init = he"),
        ({"init": ["he", 0.01], "hidden": [8]}, 0.5, "batch normalisation or fewer layers"),
        ({"init": 2, "hidden": [8], "batch_norm": True}, 2.0, "init = he"),
        # Of a damaged file.
        ({"init": "he", "hidden": ["8"], "batch_norm": True}, 0.5, "fewer layers"),
        ({"init": "he", "hidden": "8", "activation": [1], "batch_norm": True}, 0.5, "fewer layers"),
    ],
)
def test_layer_verdicts_advise_he_alone_where_weights_are_far_from_it(settings: Any, weights: float, advice: str):
    statistics = measured(gradient_rms=[[1e-9] * EPOCHS, FLAT], W_rms=[[weights] * EPOCHS] * 2)
    first = layer_verdicts(statistics, settings=settings)[0]
    assert first.advice == advice
    assert first.words == f"{first.text}; try {advice}"
    if weights != 0.5:
        size = "too small for this depth" if weights < 0.5 else "too large"
        assert (
            f"since the initial weights are {size} (about {weights:g}, where init he gives 0.5 after the first layer)"
            in first.text
        )
    dead = layer_verdicts(measured(dead=[[0.4] * EPOCHS, NONE]), settings={"init": "he"})[0]
    assert dead.words.endswith("from the start, since the initial weights or biases make them so")


def test_a_sentence_names_layers_in_groups_and_gives_reason_and_advice_once():
    given = "about 0.001, where init he gives 0.5 after the first layer"
    far = f"since the initial weights are too small for this depth ({given})"
    statistics = {name: np.full((EPOCHS, 1, 6), value) for name, value in USUAL.items()} | {"epoch": range(EPOCHS)}
    statistics["W_rms"][:] = 0.001
    statistics["gradient_rms"][:, 0, :3] = 0.0
    statistics["relative_spread"][:, 0, 4:] = 0.0
    found = in_a_sentence(layer_verdicts(statistics, settings={"init": 0.001, "hidden": [8] * 5}))
    assert found == (
        f"Layers 5 and 6: outputs are the same for all samples from the start, {far}. "
        "Layers 1 to 3: no gradient arrives from the start. Try init = he."
    )


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
        (1e-3, {"same-outputs", "vanishing", "dead-units"}, "weights are too small for this depth"),
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
