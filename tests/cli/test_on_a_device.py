"""Commands on a GPU, for which a strict stand-in of CuPy steps in: nothing mixes host and device."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from command_line import SMALL, run
from strict import Module, pretended_cupy

import xpnet


@pytest.fixture
def gpu(monkeypatch) -> Module:
    return pretended_cupy(monkeypatch)


@pytest.mark.parametrize("runs", ["1", "2"])
def test_a_run_on_a_device_is_that_of_the_cpu(capsys, gpu, runs):
    arguments = [*SMALL, "--dtype", "float64", "--momentum", "0.5", "--runs", runs, "--json"]
    code, out, err = run(capsys, "train", *arguments, "--device", "gpu", "--out", "there")
    assert code == 0, err
    there = json.loads(out)
    assert there["device"] == "gpu:0"
    assert "device: gpu:0 (as asked for)" in err
    here = json.loads(run(capsys, "train", *arguments, "--device", "cpu", "--out", "here")[1])
    assert here["device"] == "cpu"
    for which in ("train", "validation", "test"):
        for figure in ("loss", "cost", "accuracy"):
            a, b = there[which][figure], here[which][figure]
            a, b = (a["values"], b["values"]) if runs == "2" else (a, b)
            np.testing.assert_allclose(a, b, rtol=1e-9)
    assert gpu.launches > 100
    on_cpu = xpnet.load("there")  # a model knows no device
    assert on_cpu.backend.device == "cpu"
    code, out, _ = run(capsys, "evaluate", "there", "--device", "gpu", "--json")
    assert code == 0
    assert json.loads(out)["device"] == "gpu:0"
    np.testing.assert_allclose(
        np.trace(json.loads(out)["confusion"]),
        np.sum(np.array(here["test"]["accuracy"]["values"]) * 100) if runs == "2" else here["test"]["accuracy"] * 100,
    )
    assert Path("there", "curves.png").exists()


def test_auto_takes_the_device_and_info_describes_it(capsys, gpu):
    result = json.loads(run(capsys, "info", "--json")[1])
    assert result["device"] == "gpu:0"
    assert result["gpus"][0]["name"] == "Pretended"
    assert "Pretended, 16 GiB, compute capability 9.0" in run(capsys, "info")[1]


def test_gradients_of_a_device_are_checked_against_differences_of_the_cpu(capsys, gpu):
    arguments = [
        "--data",
        "patterns:600/100",
        "--hidden",
        "5",
        "--features",
        "20",
        "--samples",
        "30",
        "--device",
        "gpu",
    ]
    for dtype in ("float64", "float32"):
        code, out, err = run(capsys, "gradcheck", *arguments, "--dtype", dtype, "--json")
        assert code == 0, err
        assert json.loads(out)["passed"]
        assert f"gradients: {dtype} on gpu:0" in err
