"""The curves hold the history's numbers, in both formats."""

from __future__ import annotations

import io
import re

import numpy as np
import pytest
from examples import every
from page_checks import rows_of
from PIL import Image

import xpnet
from xpnet.config.settings import Settings
from xpnet.errors import RunError
from xpnet.report import render
from xpnet.report.charts import by_group, lines
from xpnet.report.confusion_chart import confusion_figure
from xpnet.report.curves_chart import curves, save_figure
from xpnet.report.figure import static_svg
from xpnet.report.population_chart import population_figure
from xpnet.report.theme import band_rows
from xpnet.training.population import Population
from xpnet.training.train_population import train_population

pytestmark = pytest.mark.pictures


@pytest.mark.thorough
@pytest.mark.parametrize("replicas", every(2, [3, 1]))
def test_curves_hold_the_numbers_of_the_history(tmp_path, blobs, replicas):
    net = xpnet.Network(xpnet.NetworkConfig(inputs=12, hidden=(4,), classes=4), replicas=replicas)
    history = xpnet.train(net, blobs, xpnet.TrainConfig(epochs=4)).history
    chart = curves(history, "A title")
    rows = rows_of(chart.to_dict())
    for which, name in (("train", "training"), ("validation", "validation")):
        for figure in ("loss", "cost", "accuracy"):
            values = history[f"{which}_{figure}"].reshape(4, replicas)
            for epoch, value in enumerate(values.mean(axis=1), start=1):
                assert any(r.get("s") == name and r["x"] == epoch and r["y"] == value for r in rows)
    if replicas > 1:
        stds = history["train_loss"].std(axis=1, ddof=1)
        assert any(np.isclose(r["h"] - r["y"], stds[-1]) for r in rows if "h" in r)
    assert next(r["eta"] for r in rows if "eta" in r) == 1e-5

    png, svg = save_figure(chart, tmp_path / "curves")
    image = Image.open(io.BytesIO(png.read_bytes()))
    assert image.width > 1200
    assert len(set(np.asarray(image.convert("RGB")).reshape(-1, 3)[::7].astype(int) @ [1, 256, 65536])) > 20
    text = svg.read_text()
    assert all(word in text for word in ("A title", "loss", "cost", "accuracy", "learning rate", "validation"))
    with pytest.raises(RunError, match="exists already"):
        save_figure(chart, tmp_path / "curves")


def axes_of(svg: str, title: str) -> list[list[str]]:
    """Return the tick labels of each axis with a title, as they are printed."""
    found = []
    for axis in re.split(r'aria-label="(?=[XY]-axis)', svg)[1:]:
        if f"titled '{title}'" in axis:
            labels = re.search(r'role-axis-label".*?</g>', axis, re.DOTALL)
            found.append(re.findall(r">([^<>]+)</text>", labels[0]))
    return found


@pytest.mark.parametrize("epochs", every(3, [2, 1, 3, 13]))
def test_ticks_are_at_whole_epochs_each_once(blobs, epochs):
    net = xpnet.Network(xpnet.NetworkConfig(inputs=12, hidden=(4,), classes=4))
    history = xpnet.train(net, blobs, xpnet.TrainConfig(epochs=epochs)).history
    several = Population.of(Settings.from_mapping({"hidden": [4], "epochs": epochs, "lambda": [0.1, 0.2]}), 12, 4)
    _, result = train_population(several, blobs)
    drawn = {4: curves(history, "A title"), 2: population_figure(several, result, "A title")}
    for panels, chart in drawn.items():
        axes = axes_of(render.svg(chart.to_dict()), "epoch")
        assert len(axes) == panels
        for labels in axes:
            numbers = [int(label) for label in labels]
            assert len(set(numbers)) == len(numbers) >= 1
            assert max(numbers) <= epochs + 1


def test_two_settings_are_told_apart_by_colour_and_by_dash(blobs):
    given = {"hidden": [4], "epochs": 1, "lambda": [0.1, 0.2, 0.3], "eta_max": [0.1, 0.2]}
    population = Population.of(Settings.from_mapping(given), 12, 4)
    chart = population_figure(population, train_population(population, blobs)[1], "A title").to_dict()
    for panel in chart["hconcat"]:
        encoding = panel["encoding"]
        assert encoding["color"]["scale"]["domain"] == ["0.1", "0.2", "0.3"]
        assert encoding["strokeDash"]["scale"]["domain"] == ["0.1", "0.2"]
    rows = rows_of(chart)
    assert {(row["s"], row["c"], row["d"]) for row in rows} == {
        (f"{lam}, {eta}", str(lam), str(eta)) for lam in given["lambda"] for eta in given["eta_max"]
    }


@pytest.mark.parametrize("networks", [1, 3])
def test_counts_of_several_networks_are_called_sums(networks):
    chart = confusion_figure(np.array([[6, 0], [1, 5]]), ("a", "b"), "A title", networks)
    told = re.findall(r"sums over \d networks", render.svg(chart.to_dict()))
    assert set(told) == ({"sums over 3 networks"} if networks == 3 else set())


@pytest.mark.parametrize(
    ("values", "labels"),
    [
        ([6.0, 8.0, 10.0], ["6", "7", "8", "9", "10"]),
        ([2.3025, 2.3029], ["2.3025", "2.3026", "2.3027", "2.3028", "2.3029"]),
        ([1e7, 3e7], ["1e+7", "1.5e+7", "2e+7", "2.5e+7", "3e+7"]),
    ],
)
def test_numbers_at_an_axis_are_written_out_unless_they_are_long(values, labels):
    rows = band_rows(range(1, 1 + len(values)), values, "one")
    panel = lines("a", "A", "what it shows", rows, x="epoch", y="loss", series=["one"])
    svg = static_svg(panel)
    assert [label for label in labels if f">{label}</text>" not in svg] == []


def test_names_of_groups_stand_in_full():
    names = [f"2026-11-21_19-31-{second}_2" for second in ("05", "17", "42")]
    rows = [{"s": name, "seed": 0, "y": 0.5 + n / 100} for n, name in enumerate(names)]
    svg = static_svg(by_group("a", "A", "what it shows", rows, names, x="run", y="test accuracy"))
    assert [name for name in names if f">{name}</text>" not in svg] == []


def test_static_pictures_keep_words_and_opacities_and_have_no_marks_for_a_pointer():
    rows = band_rows([1, 2], np.array([[0.25, 0.75], [1.25, 1.75]]), "pi is 3.14159")
    panel = lines("a", "A", "what it shows", rows, x="epoch", y="loss", series=["pi is 3.14159", "other"])
    svg = static_svg(panel)
    assert ">pi is 3.14159</text>" in svg
    assert svg.count('opacity="0.16"') == 1
    assert 'opacity="0"' not in svg
    assert not re.search(r"font-family|class=", svg)
    assert len(panel.spec()["layer"]) == 3
