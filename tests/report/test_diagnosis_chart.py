"""Charts of a diagnosis."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest

import xpnet
from xpnet.analysis.layer_statistics import MEASURES
from xpnet.analysis.layer_verdicts import LEGEND
from xpnet.report.diagnosis_chart import diagnosis_figure


def drawn(chart) -> list[dict]:
    """Return all rows that a chart draws."""
    return [row for rows in chart.to_dict()["datasets"].values() for row in rows]


@pytest.mark.parametrize("seeds", [(0,), (0, 1, 2)])
def test_the_figure_draws_medians_and_leaves_zeros_off_logarithmic_axes(blobs, seeds):
    settings = xpnet.Settings.from_mapping(
        {"hidden": [6, 5, 4, 4], "init": 1e-4, "init_bias": 1e-4, "batch_norm": False, "runs": len(seeds), "epochs": 2}
    )
    population = xpnet.Population.of(settings, 12, 4)
    net = xpnet.Network(population.network, seed=population.seeds)
    _, history = xpnet.train_with_diagnosis(net, blobs, population.train, samples=50)
    assert (history["relative_spread"] == 0).any()
    chart = diagnosis_figure(history, population, "A title", 50)
    found = json.dumps(chart.to_dict())
    assert '"log"' in found
    assert ("medians of 3 networks" in found) == (len(seeds) == 3)
    rows = drawn(chart)
    for name in ("s_std", "gradient_rms", "effective_rank", "similarity"):
        points = {(row["epoch"], row["layer"]): row[name] for row in rows if name in row}
        for moment, epoch in enumerate(history["epoch"]):
            for layer in range(5):
                values = history[name][moment, :, layer]
                if np.isfinite(values).all() and np.median(values) > 0:
                    assert points[int(epoch), str(layer + 1)] == np.median(values)
    assert all(row["relative_spread"] > 0 for row in rows if "relative_spread" in row)
    page = (Path(__file__).parents[2] / "docs" / "diagnosis.md").read_text()
    table = {name for line in page.splitlines() if line.startswith("| `") for name in re.findall(r"`(\w+)`", line)}
    assert table == set(MEASURES)
    panels = [part["title"] for part in chart.to_dict()["vconcat"][0]["concat"]]
    for panel in panels:
        name, _, words = panel["subtitle"].partition(": ")
        assert (panel["text"], words) == (LEGEND[name][0], MEASURES[name])
