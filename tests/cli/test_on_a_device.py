"""Commands on a GPU, for which a strict stand-in of CuPy steps in: nothing mixes host and device."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from strict import Module, pretended_cupy

import xpnet

SMALL = ["--data", "patterns:300/50", "--hidden", "5"]


@pytest.fixture
def gpu(monkeypatch) -> Module:
    return pretended_cupy(monkeypatch)


@pytest.mark.slow
@pytest.mark.parametrize("runs", ["1", "2"])
def test_run_on_a_device_is_that_of_the_cpu(command, gpu, runs):
    arguments = [*SMALL, "--epochs", "2", "--dtype", "float64", "--momentum", "0.5", "--runs", runs, "--json"]
    done = command("train", *arguments, "--device", "gpu", "--out", "there")
    there = json.loads(done.out)
    assert there["device"] == "gpu:0"
    assert "device: gpu:0 (as asked for)" in done.err
    here = command.json("train", *arguments[:-1], "--device", "cpu", "--out", "here")
    assert here["device"] == "cpu"

    def values(metrics: dict, figure: str):
        return metrics[figure] if runs == "1" else metrics[figure]["values"]

    for which in ("train", "validation", "test"):
        for figure in ("loss", "cost", "accuracy"):
            np.testing.assert_allclose(values(there[which], figure), values(here[which], figure), rtol=1e-9)
    assert gpu.launches > 100
    assert xpnet.load("there").backend.device == "cpu"  # a model knows no device
    evaluated = command.json("evaluate", "there", "--device", "gpu")
    assert evaluated["device"] == "gpu:0"
    np.testing.assert_allclose(np.trace(evaluated["confusion"]), np.sum(values(here["test"], "accuracy")) * 50)
    assert Path("there", "curves.png").exists()


def test_auto_takes_the_device_and_info_describes_it(command, gpu):
    result = command.json("info")
    assert result["device"] == "gpu:0"
    assert result["gpus"][0]["name"] == "Pretended"
    assert "Pretended, 16 GiB, compute capability 9.0" in command("info").out


@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_gradients_of_a_device_are_checked_against_differences_of_the_cpu(command, gpu, dtype):
    arguments = [*SMALL, "--features", "20", "--samples", "30", "--device", "gpu", "--dtype", dtype]
    done = command("gradcheck", *arguments, "--json")
    assert json.loads(done.out)["passed"]
    assert f"gradients: {dtype} on gpu:0" in done.err
