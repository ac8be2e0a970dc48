"""The page of a diagnosis."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from page_checks import charts_of, check_whole, page_of

import xpnet
from xpnet.analysis.layer_statistics import MEASURES
from xpnet.errors import RunError
from xpnet.report.write import build_page


def diagnosis(**changes: object) -> Path:
    """Write the file of a diagnosis of two networks of three layers, whose first layer has dead units."""
    measures = {name: [[[2.0, 2.0, 2.0]] * 2] * 3 for name in MEASURES}
    measures |= {name: [[[0.5, 0.5, 0.5]] * 2] * 3 for name in ("inactive", "similarity")}
    measures["dead"] = [[[0.5, 0.0, None]] * 2] * 3
    measures["update_ratio"] = [[[1e-3, 1e-2, 1e-4]] * 2] * 3
    content = {"title": "A <title>", "samples": 100, "epoch": [0, 1, 2], "measures": measures | changes}
    Path("found").mkdir()
    Path("found/diagnosis.json").write_text(json.dumps(content))
    return Path("found")


@pytest.mark.slow
@pytest.mark.pictures
def test_diagnosis_page_has_a_verdict_for_each_layer_and_charts_titled_in_words():
    text, tags = page_of(diagnosis())
    check_whole(text, tags)
    shown = "".join(tags.text)
    assert shown.count("50 % of the units are dead from the start") == 3  # two networks, and the conclusion
    assert "Layer 1 of network 0: 50 % of the units are dead" in shown
    assert "A unit whose output is 0 for every sample gets no gradient" in shown
    charts = charts_of(text)
    assert len(charts) == 18
    assert {row["s"] for row in charts["0-dead"]["data"]["values"]} == {"layer 1", "layer 2"}
    assert '"type": "log"' in json.dumps(charts["1-update_ratio"])
    assert "Units that no sample activates" in shown


def test_diagnosis_page_concludes_with_the_worst_verdict():
    page = build_page([diagnosis()])
    assert page.conclusion.startswith("Layer 1 of network 0: 50 % of the units are dead from the start")
    assert len(page.panels()) == 18


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"dead": [[[0.5]]]}, "measures: must all have a number for each epoch, network and layer"),
        ({"dead": [[[0.5], [0.1, 0.2]]]}, "measures.dead: must have a number for each"),
        ({"dead": "none"}, "measures.dead"),
    ],
)
def test_diagnosis_page_of_a_damaged_file_is_refused(changes, words):
    with pytest.raises(RunError, match=words):
        xpnet.write_report(diagnosis(**changes))


def test_diagnosis_page_of_a_network_that_learns_nothing_says_so_and_what_to_type():
    def of(*layers: list[float]) -> list[list[list[float]]]:
        """Return layers, each by epoch, as a measure (epochs, 1, L)."""
        return [[list(at)] for at in zip(*layers, strict=True)]

    nan, flat = float("nan"), [1.0, 1.0, 1.0]
    measures = dict.fromkeys(MEASURES, of(*[flat] * 6))
    measures |= {name: of(*[[0.0] * 3] * 6) for name in ("dead", "inactive")}
    measures["gradient_rms"] = of(*[[1e-9, 0.0, 0.0]] * 5, flat)
    measures["W_rms"] = of(*[[1e-4] * 3] * 6)
    measures["W_gradient_rms"] = of(*[[1e-6] * 3] * 5, flat)
    measures["relative_spread"] = of(*[flat] * 5, [1.0, nan, nan])
    measures["s_spread"] = of(*[flat] * 5, [1e-9] * 3)
    settings = {"hidden": [8] * 5, "init": 1e-4, "batch_norm": False, "lambda": 0.005, "epochs": 2}
    content = {"title": "A", "samples": 500, "epoch": [0, 1, 2], "measures": measures, "settings": settings}
    content |= {"accuracy": [[0.1]] * 3, "loss": [[2.3026]] * 3, "predicted": [[6], [1], [1]]}
    Path("found").mkdir()
    Path("found/diagnosis.json").write_text(json.dumps(content).replace("NaN", "null"))
    page = build_page([Path("found")])
    assert page.conclusion == (
        "After epoch 2 the network is right for 10.00 % of these training samples (loss 2.303), with the same class "
        "for every sample. Layer 6: outputs are the same for all samples from the start, since the initial weights are "
        "too small for this depth (about 0.0001, where init he gives 0.5 after the first "
        "layer). Layers 1 to 5: hardly any gradient arrives "
        "at the start (less than a millionth of the last layer's), and none from epoch 1 on. Try init = he."
    )
    (table,) = page.sections[0].blocks
    assert [row[0].text for row in table.rows] == ["1 to 5", "6"]
    notes = {panel.name: panel.note for panel in page.panels()}
    assert "Zero, which this axis cannot show: layers 1 to 5 from epoch 1 on." in notes["gradient_rms"]
    assert "as these weights get no gradient: layers 1 to 5 from the start." in notes["update_ratio"]
    assert "all outputs are zero: layer 6 from epoch 1 on." in notes["relative_spread"]
    assert '"point": {"opacity": 1, "size": 40}' in json.dumps(page.panels()[2].spec(), sort_keys=True)
    commands = [block.words for block in page.sections[-1].blocks]
    made = "xpnet diagnose --hidden 8,8,8,8,8 --no-batch-norm"
    assert commands[1] == f"{made} --epochs 2 --samples 500 --init he"
    assert commands[3] == f"{made} --init 0.0001 --epochs 2 --samples 500"
