"""The curves hold the history's numbers, in both formats."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

import xpnet
from xpnet.errors import RunError
from xpnet.report.figures import curves, save_figure

pytestmark = pytest.mark.pictures


def data_of(chart) -> list[dict]:
    """Return all rows that a chart draws."""
    rows: list[dict] = []

    def walk(part):
        if isinstance(part, dict) and "epoch" in part:
            rows.append(part)
        elif isinstance(part, dict):
            for value in part.values():
                walk(value)
        elif isinstance(part, list):
            for value in part:
                walk(value)

    walk(chart.to_dict())
    return rows


@pytest.mark.parametrize("replicas", [1, 3])
def test_curves(tmp_path, blobs, replicas):
    net = xpnet.Network(xpnet.NetworkConfig(inputs=12, hidden=(4,), classes=4), replicas=replicas)
    history = xpnet.train(net, blobs, xpnet.TrainConfig(epochs=4)).history
    chart = curves(history, "A title")
    rows = data_of(chart)
    for which, name in (("train", "training"), ("validation", "validation")):
        for figure in ("loss", "cost", "accuracy"):
            values = history[f"{which}_{figure}"].reshape(4, replicas)
            for epoch, value in enumerate(values.mean(axis=1), start=1):
                assert any(r.get("set") == name and r["epoch"] == epoch and r["mean"] == value for r in rows)
    if replicas > 1:
        stds = history["train_loss"].std(axis=1, ddof=1)
        assert any(np.isclose(r["high"] - r["mean"], stds[-1]) for r in rows if "high" in r)
    assert next(r["eta"] for r in rows if "eta" in r) == 1e-5

    png, svg = save_figure(chart, tmp_path / "curves")
    image = Image.open(io.BytesIO(png.read_bytes()))
    assert image.width > 1200
    assert len(set(np.asarray(image.convert("RGB")).reshape(-1, 3)[::7].astype(int) @ [1, 256, 65536])) > 20
    text = svg.read_text()
    assert all(word in text for word in ("A title", "loss", "cost", "accuracy", "learning rate", "validation"))
    with pytest.raises(RunError, match="exists already"):
        save_figure(chart, tmp_path / "curves")
