"""``xpnet diagnose``: a run repeated with what happened inside it, or settings in its place."""

from __future__ import annotations

import csv
import json
import re
from pathlib import Path

import numpy as np
import pytest
from command_line import run
from PIL import Image
from strict import pretended_cupy

import xpnet
from xpnet.analysis.layer_statistics import MEASURES
from xpnet.cli.diagnose import _COLUMNS
from xpnet.report.diagnosis_chart import diagnosis_figure

SMALL = ["--data", "patterns:300/50", "--epochs", "2", "--hidden", "6,5"]
FILES = {"diagnosis.csv", "diagnosis.json", "diagnosis.png", "diagnosis.svg"}


@pytest.fixture
def blank(monkeypatch) -> None:
    """Leave pictures blank, since drawing one takes as long as all else here."""
    monkeypatch.setattr("vl_convert.vegalite_to_png", lambda *_, **__: b"blank")
    monkeypatch.setattr("vl_convert.vegalite_to_svg", lambda *_, **__: "blank")


@pytest.mark.pictures
def test_a_run_is_repeated_bit_for_bit_with_its_measures(capsys):
    run(capsys, "train", *SMALL, "--runs", "2", "--momentum", "0.5", "--out", "here/run")
    code, out, err = run(capsys, "diagnose", "here/run", "--samples", "100", "--json")
    assert code == 0, err
    result = json.loads(out)
    assert result["repeats_run"] == {"identical": True, "largest_difference": 0}
    assert (result["run"], result["samples"], result["epoch"], result["step"]) == (
        "here/run",
        100,
        [0, 1, 2],
        [0, 3, 6],
    )
    folder = Path(result["folder"])
    assert folder.parent == Path("here")
    assert folder.name.startswith("run-diagnosis-")
    assert {path.name for path in folder.iterdir()} == FILES
    assert json.loads((folder / "diagnosis.json").read_text()) == result
    assert set(result["measures"]) == set(MEASURES)
    assert np.shape(result["measures"]["s_std"]) == (3, 2, 3)
    # The last entry is of the run's network, measured by itself; the first is not.
    net = xpnet.load("here/run")
    for row, same in ((-1, True), (0, False)):
        W_rms = [np.sqrt((net.parameters[f"W{n}"].astype(float) ** 2).mean(axis=(1, 2))) for n in (1, 2, 3)]
        assert np.allclose(np.transpose(W_rms), result["measures"]["W_rms"][row], rtol=1e-12) == same
    with (folder / "diagnosis.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 3 * 2 * 3
    assert float(rows[-1]["s_std"]) == result["measures"]["s_std"][-1][1][-1]
    with Image.open(folder / "diagnosis.png") as picture:
        assert picture.width > 1000
    assert (folder / "diagnosis.svg").read_text().startswith("<svg")


def test_the_first_networks_alone_are_the_same_in_float64(capsys, blank):
    lists = ["--lambda", "0.01,0.1", "--seed", "5,9", "--dtype", "float64"]
    run(capsys, "train", *SMALL, *lists, "--out", "run")
    whole = json.loads(run(capsys, "diagnose", "run", "--json")[1])
    code, out, err = run(capsys, "diagnose", "run", "--replicas", "3", "--json", "--out", "some")
    assert code == 0, err
    some = json.loads(out)
    assert some["repeats_run"]["identical"]
    assert some["replicas"] == whole["replicas"][:3]
    np.testing.assert_allclose(some["measures"]["s_std"], np.array(whole["measures"]["s_std"])[:, :3], rtol=1e-12)
    assert "replicas = 5: must be from 1 to 4" in run(capsys, "diagnose", "run", "--replicas", "5")[2]


def test_settings_take_the_place_of_a_run(capsys, blank):
    arguments = [*SMALL, "--init", "1e-4", "--init-bias", "1e-4", "--no-batch-norm", "--every", "2", "--out", "d"]
    code, out, err = run(capsys, "diagnose", *arguments)
    assert code == 0, err
    assert {path.name for path in Path("d").iterdir()} == FILES
    assert "3072-6-5-10 without BN, λ = 0.005, init 0.0001" in out
    assert "every sample gets the same class" in out
    assert "epoch 2" in out
    assert all(head in out for head in _COLUMNS.values())
    result = json.loads(Path("d/diagnosis.json").read_text())
    assert result["epoch"] == [0, 2]
    assert result["run"] is result["repeats_run"] is None
    assert result["settings"]["init"] == 1e-4
    last = result["measures"]["relative_spread"][0][0]
    assert last[2] < 1e-3 < last[0]
    code, _, err = run(capsys, "diagnose", *SMALL, "--quiet")
    assert (code, err) == (0, "")
    assert next(Path("runs").iterdir()).name.startswith("diagnosis-")


def test_a_repetition_that_differs_says_so(capsys, blank):
    run(capsys, "train", *SMALL, "--out", "run")
    Path("run/model.safetensors").unlink()
    trained = xpnet.Network(xpnet.NetworkConfig(inputs=3072, hidden=(6, 5)), seed=0)
    trained.save("run/model.safetensors")
    assert "differs from the run's by up to" in run(capsys, "diagnose", "run")[1]
    Path("run/model.safetensors").write_bytes(b"broken")
    code, out, _ = run(capsys, "diagnose", "run", "--json", "--out", "d")
    assert code == 0
    assert json.loads(out)["repeats_run"] is None


def test_what_is_wrong_is_one_sentence_and_leaves_no_folder(capsys, blank):
    run(capsys, "train", *SMALL, "--out", "run")
    Path("empty").mkdir()
    for arguments, message in (
        (["none"], "none: there is no such run folder"),
        (["empty"], "empty: is not a run folder, it has no config.toml"),
        (["run", "--hidden", "5"], "hidden = 5: a run is repeated with its own settings"),
        (["run", "--out", "empty"], "out = empty: exists already"),
        (["run", "--samples", "1"], "samples = 1: must be from 2 to 270"),
        (["run", "--every", "0"], "every = 0: must be"),
        (["run", "--replicas", "-1"], "replicas = -1: must be from 1 to 1"),
        (["--hidden", "x"], "hidden = x: must be"),
    ):
        code, out, err = run(capsys, "diagnose", *arguments, "--quiet")
        assert code == 2
        assert out == ""
        assert message in err
        assert len(err.strip().splitlines()) == 1
    assert {path.name for path in Path().iterdir()} == {"run", "empty"}


def test_an_interrupted_diagnosis_keeps_what_was_measured(capsys, blank, monkeypatch):
    run(capsys, "train", *SMALL, "--out", "run")
    monkeypatch.setattr("xpnet.cli.console.Interrupt.__call__", lambda _: True)
    code, out, _ = run(capsys, "diagnose", "run", "--out", "d", "--json")
    assert code == 130
    result = json.loads(out)
    assert result["interrupted"]
    assert result["repeats_run"] is None
    assert result["step"] == [0, 1]
    assert {path.name for path in Path("d").iterdir()} == FILES


def test_a_training_that_diverges_leaves_what_was_measured_before(capsys, blank):
    arguments = [*SMALL, "--schedule", "constant", "--eta", "1e30", "--no-batch-norm", "--out", "d", "--json"]
    code, out, err = run(capsys, "diagnose", *arguments)
    assert code == 2
    assert "d holds the diagnosis of the epochs before it" in err
    assert json.loads(out)["epoch"] == [0]
    assert {path.name for path in Path("d").iterdir()} == FILES


def test_a_diagnosis_on_a_device_is_that_of_the_cpu(capsys, monkeypatch, blank):
    arguments = ["diagnose", *SMALL, "--dtype", "float64", "--runs", "2", "--json"]
    here = json.loads(run(capsys, *arguments, "--device", "cpu")[1])
    pretended_cupy(monkeypatch)
    code, out, err = run(capsys, *arguments, "--device", "gpu")
    assert code == 0, err
    there = json.loads(out)
    assert there["device"] == "gpu:0"
    for name in MEASURES:
        a, b = (np.array(found["measures"][name], float) for found in (there, here))
        np.testing.assert_allclose(a, b, rtol=1e-7, err_msg=name)


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
        for row, epoch in enumerate(history["epoch"]):
            for layer in range(5):
                values = history[name][row, :, layer]
                if np.isfinite(values).all() and np.median(values) > 0:
                    assert points[int(epoch), str(layer + 1)] == np.median(values)
    assert all(row["relative_spread"] > 0 for row in rows if "relative_spread" in row)
    page = (Path(__file__).parents[2] / "docs" / "diagnosis.md").read_text()
    table = {name for line in page.splitlines() if line.startswith("| `") for name in re.findall(r"`(\w+)`", line)}
    panels = [part["title"] for part in chart.to_dict()["vconcat"][0]["concat"]]
    assert {panel["text"] for panel in panels} <= table == set(MEASURES)
    assert [panel["subtitle"] for panel in panels] == [MEASURES[panel["text"]] for panel in panels]


def test_networks_that_memory_does_not_hold_together_are_refused_with_how_many_it_does(capsys, monkeypatch):
    monkeypatch.setattr("xpnet.training.chunks.most_in_memory", lambda *_: 2)
    code, out, err = run(capsys, "diagnose", *SMALL, "--runs", "3", "--out", "d")
    assert (code, out) == (2, "")
    assert "replicas = 3: so many networks do not fit on cpu together, but 2 do; take --replicas 2" in " ".join(
        err.split()
    )
    assert not Path("d").exists()
    assert run(capsys, "diagnose", *SMALL, "--runs", "3", "--replicas", "2", "--out", "d", "--quiet")[0] == 0
