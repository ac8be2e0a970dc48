"""The figure of a range test holds its numbers."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from page_checks import rows_of

import xpnet
from xpnet.analysis.lr_suggestion import Suggestion
from xpnet.report.curves_chart import save_figure
from xpnet.report.lr_range_chart import range_figure


@pytest.fixture(params=[(0,), (0, 1, 2)])
def measured(request, blobs):
    config = xpnet.NetworkConfig(inputs=12, hidden=(4,), classes=4)
    test = xpnet.lr_range(config, blobs, from_=1e-4, to=1e2, steps=600, seeds=request.param)
    return dataclasses.replace(test, suggestion=Suggestion(1e-3, 0.5, 0.5, None, 1.0), no_suggestion=None)


def test_range_figure_holds_the_numbers_of_the_test(tmp_path, measured):
    figure = range_figure(measured, "A title")
    spec = figure.to_dict()
    loss, accuracy = (rows_of(spec, panel) for panel in spec["hconcat"])
    assert [{row["x"] for row in rows if "s" not in row} for rows in (loss, accuracy)] == [{1e-3, 0.5}] * 2
    drawn = {row["x"]: row for row in loss if "s" in row}
    assert 200 <= len(drawn) <= 402
    for eta, row in drawn.items():
        values = measured.smoothed[np.flatnonzero(measured.rates == eta)[0]]
        assert row["y"] == pytest.approx(values.mean())
        if len(values) > 1:
            assert row["h"] - row["y"] == pytest.approx(values.std(ddof=1))
    validation = {row["x"]: row["y"] for row in accuracy if row.get("s") == "validation"}
    assert list(validation) == measured.validation_rates.tolist()
    np.testing.assert_allclose(list(validation.values()), measured.validation.mean(axis=1))
    trained = {row["x"]: row["y"] for row in accuracy if row.get("s") == "training"}
    at = np.searchsorted(measured.rates, list(trained))
    np.testing.assert_allclose(list(trained.values()), measured.accuracies_smoothed[at].mean(axis=1))
    assert spec["hconcat"][0]["layer"][-1]["encoding"]["x"]["scale"]["type"] == "log"

    png, svg = save_figure(figure, tmp_path / "figure")
    assert png.stat().st_size > 10_000
    assert all(word in svg.read_text() for word in ("A title", "suggested", "from 0.001 to 0.5", "learning rate"))


def test_a_figure_says_why_nothing_is_suggested(measured):
    none = dataclasses.replace(measured, suggestion=None, no_suggestion="word " * 60, ended="it went wrong")
    chart = range_figure(none, "A title").to_dict()
    told = chart["title"]["subtitle"]
    assert told[0].startswith("no suggestion: word")
    assert max(map(len, told)) <= 120
    assert "ended as it went wrong" in told
    assert all("s" in row for row in rows_of(chart))
