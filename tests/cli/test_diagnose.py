"""``xpnet diagnose``: a run repeated with what happened inside it, or a training by options."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from strict import pretended_cupy

import xpnet
from xpnet.analysis.layer_statistics import MEASURES
from xpnet.cli.diagnosis_tables import COLUMNS

SMALL = ["--data", "patterns:300/50", "--epochs", "2", "--hidden", "6,5"]
FILES = {"diagnosis.csv", "diagnosis.json", "diagnosis.png", "diagnosis.svg"}


def files(folder: str | Path) -> set[str]:
    return {path.name for path in Path(folder).iterdir()}


@pytest.mark.slow
@pytest.mark.pictures
def test_diagnose_repeats_a_run_bit_for_bit(command, trained):
    Path("here").mkdir()
    trained(*SMALL, "--runs", "2", "--momentum", "0.5", out="here/run")
    result = command.json("diagnose", "here/run", "--samples", "100")
    assert result["repeats_run"] == {"identical": True, "largest_difference": 0}
    assert (result["run"], result["samples"]) == ("here/run", 100)
    assert (result["epoch"], result["step"]) == ([0, 1, 2], [0, 3, 6])
    folder = Path(result["folder"])
    assert folder.parent == Path("here")
    assert folder.name.startswith("run-diagnosis-")
    assert files(folder) == FILES
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


@pytest.mark.slow
def test_diagnose_first_networks_are_the_same_in_float64(command, trained):
    trained(*SMALL, "--lambda", "0.01,0.1", "--seed", "5,9", "--dtype", "float64")
    everything = command.json("diagnose", "run")
    some = command.json("diagnose", "run", "--replicas", "3", "--out", "some")
    assert some["repeats_run"]["identical"]
    assert some["replicas"] == everything["replicas"][:3]
    np.testing.assert_allclose(some["measures"]["s_std"], np.array(everything["measures"]["s_std"])[:, :3], rtol=1e-12)
    sentence = command.refused("diagnose", "run", "--replicas", "5", notes=True)
    assert "replicas = 5: must be from 1 to 4" in sentence


def test_diagnose_settings_in_place_of_a_run(command):
    arguments = [*SMALL, "--init", "1e-4", "--init-bias", "1e-4", "--no-batch-norm", "--every", "2", "--out", "d"]
    out = command("diagnose", *arguments).out
    assert files("d") == FILES
    words = "3072-6-5-10 without BN, lambda = 0.005, init 0.0001", "every sample gets the same class", "epoch 2"
    assert all(text in out for text in (*words, *COLUMNS.values()))
    result = json.loads(Path("d/diagnosis.json").read_text())
    assert result["epoch"] == [0, 2]
    assert result["run"] is result["repeats_run"] is None
    assert result["settings"]["init"] == 1e-4
    last = result["measures"]["relative_spread"][0][0]
    assert last[2] < 1e-3 < last[0]
    assert command("diagnose", *SMALL, "--quiet").err == ""
    assert next(Path("runs").iterdir()).name.startswith("diagnosis-")


def test_diagnose_repetition_that_differs_says_so(command, trained):
    model = trained(*SMALL) / "model.safetensors"
    model.unlink()
    xpnet.Network(xpnet.NetworkConfig(inputs=3072, hidden=(6, 5)), seed=0).save(model)
    assert "differs from the run's by up to" in command("diagnose", "run").out
    model.write_bytes(b"broken")
    assert command.json("diagnose", "run", "--out", "d")["repeats_run"] is None


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["none"], "none: there is no such run folder"),
        (["empty"], "empty: is not a run folder, it has no config.toml"),
        (["run", "--hidden", "5"], "hidden = 5: a run is repeated with its own settings"),
        (["run", "--out", "empty"], "out = empty: exists already"),
        (["run", "--samples", "1"], "samples = 1: must be from 2 to 270"),
        (["run", "--every", "0"], "every = 0: must be"),
        (["run", "--replicas", "-1"], "replicas = -1: must be from 1 to 1"),
        (["--hidden", "x"], "hidden = x: must be"),
    ],
)
def test_diagnose_mistakes_get_one_sentence_and_leave_no_folder(command, trained, arguments, message):
    trained(*SMALL)
    Path("empty").mkdir()
    assert message in command.refused("diagnose", *arguments, "--quiet")
    assert files(".") == {"run", "empty"}


def test_diagnose_interrupted_keeps_what_was_measured(command, trained, monkeypatch):
    trained(*SMALL)
    monkeypatch.setattr("xpnet.cli.console.Interrupt.__call__", lambda _: True)
    result = command.json("diagnose", "run", "--out", "d", code=130)
    assert result["interrupted"]
    assert result["repeats_run"] is None
    assert result["step"] == [0, 1]
    assert files("d") == FILES


def test_diagnose_divergence_keeps_what_was_measured_before(command):
    rate = ["--schedule", "constant", "--eta", "1e30", "--no-batch-norm"]
    done = command("diagnose", *SMALL, *rate, "--out", "d", "--json", code=2)
    assert "d holds the diagnosis of the epochs before it" in done.err
    assert json.loads(done.out)["epoch"] == [0]
    assert files("d") == FILES


@pytest.mark.slow
def test_diagnose_on_a_device_is_that_of_the_cpu(command, monkeypatch):
    arguments = ["diagnose", *SMALL, "--dtype", "float64", "--runs", "2"]
    on_cpu = command.json(*arguments, "--device", "cpu")
    pretended_cupy(monkeypatch)
    on_gpu = command.json(*arguments, "--device", "gpu")
    assert on_gpu["device"] == "gpu:0"
    for name in MEASURES:
        a, b = (np.array(found["measures"][name], float) for found in (on_gpu, on_cpu))
        np.testing.assert_allclose(a, b, rtol=1e-7, err_msg=name)


def test_diagnose_networks_that_do_not_fit_in_memory_are_refused(command, monkeypatch):
    monkeypatch.setattr("xpnet.training.chunks.most_in_memory", lambda *_: 2)
    sentence = command.refused("diagnose", *SMALL, "--runs", "3", "--out", "d", notes=True)
    assert "replicas = 3: so many networks do not fit on cpu together, but 2 do; take --replicas 2" in sentence
    assert not Path("d").exists()
    command("diagnose", *SMALL, "--runs", "3", "--replicas", "2", "--out", "d", "--quiet")
