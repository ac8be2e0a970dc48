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
    assert "docs/theory.md#activations" in shown
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
