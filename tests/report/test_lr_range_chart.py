"""The figure of a range test holds its numbers."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

import xpnet
from xpnet.analysis.lr_suggestion import Suggestion
from xpnet.report.curves_chart import save_figure
from xpnet.report.lr_range_chart import _panel, range_figure


def rows(part) -> list[dict]:
    """Return all rows that a part of a chart draws."""
    if isinstance(part, dict) and isinstance(part.get("eta"), float):
        return [part]
    parts = part.values() if isinstance(part, dict) else part if isinstance(part, list) else []
    return [row for inner in parts for row in rows(inner)]


@pytest.fixture(params=[(0,), (0, 1, 2)])
def measured(request, blobs):
    config = xpnet.NetworkConfig(inputs=12, hidden=(4,), classes=4)
    test = xpnet.lr_range(config, blobs, from_=1e-4, to=1e2, steps=600, seeds=request.param)
    return dataclasses.replace(test, suggestion=Suggestion(1e-3, 0.5, 0.5, None, 1.0), no_suggestion=None)


def test_figure(tmp_path, measured):
    loss, accuracy = (_panel(measured, name).to_dict() for name in ("loss", "accuracy"))
    marks = [{row["eta"] for row in rows(panel) if "set" not in row} for panel in (loss, accuracy)]
    assert marks == [{1e-3, 0.5}] * 2
    drawn = {row["eta"]: row for row in rows(loss) if "set" in row}
    assert 200 <= len(drawn) <= 402
    for eta, row in drawn.items():
        values = measured.smoothed[np.flatnonzero(measured.rates == eta)[0]]
        assert row["mean"] == pytest.approx(values.mean())
        if len(values) > 1:
            assert row["high"] - row["mean"] == pytest.approx(values.std(ddof=1))
    validation = {row["eta"]: row["mean"] for row in rows(accuracy) if row.get("set") == "validation"}
    assert list(validation) == measured.validation_rates.tolist()
    np.testing.assert_allclose(list(validation.values()), measured.validation.mean(axis=1))
    trained = {row["eta"]: row["mean"] for row in rows(accuracy) if row.get("set") == "training"}
    at = np.searchsorted(measured.rates, list(trained))
    np.testing.assert_allclose(list(trained.values()), measured.accuracies_smoothed[at].mean(axis=1))
    assert loss["layer"][-1]["encoding"]["x"]["scale"]["type"] == "log"

    png, svg = save_figure(range_figure(measured, "A title"), tmp_path / "figure")
    assert png.stat().st_size > 10_000
    assert all(word in svg.read_text() for word in ("A title", "suggested", "from 0.001 to 0.5", "learning rate"))


def test_a_figure_says_why_nothing_is_suggested(measured):
    none = dataclasses.replace(measured, suggestion=None, no_suggestion="word " * 60, ended="it went wrong")
    chart = range_figure(none, "A title").to_dict()
    told = chart["title"]["subtitle"]
    assert told[0].startswith("no suggestion: word")
    assert max(map(len, told)) <= 120
    assert "ended as it went wrong" in told
    assert all("set" in row for row in rows(chart))
