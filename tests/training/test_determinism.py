"""The same seed, machine, versions and threads give the same bits, independent of clocks and hashes."""

from __future__ import annotations

import csv
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from calls import Calls
from safetensors.numpy import load_file
from training_cases import assert_same_bits, network

import xpnet
from xpnet.cli import main

pytestmark = pytest.mark.guarantee("determinism")
# The command line with a fixed number of steps a call of the stepper, which a clock decides otherwise.
PROGRAM = """
import sys
import vl_convert
import xpnet.training.trainer
from xpnet.cli import main
from xpnet.report import drawing_process
drawing_process.started = lambda: None  # draw in this process
vl_convert.svg_to_png = lambda *_, **__: b"blank"  # drawing one takes as long as all else
if sys.argv[1] != "as it is":
    xpnet.training.trainer._SECONDS_A_CALL = float(sys.argv[1])
main(sys.argv[2:])
"""
SMALL = ["--data", "patterns:900/100", "--hidden", "50,9", "--batch-size", "20", "--epochs", "3"]
RUNS = {
    "split over the cores": [],
    "normalised by other means": ["--no-batch-norm", "--momentum", "0.9", "--nesterov", "--schedule", "cosine"],
    "three seeds": ["--runs", "3"],
    "lists, of which one diverges": ["--lambda", "0.001,0.01,30", "--schedule", "constant", "--eta", "0.05,0.1"],
    "in chunks": ["--lambda", "0.001,0.01,30", "--max-replicas", "2", "--runs", "2", "--no-batch-norm"],
    "in float64": ["--dtype", "float64", "--runs", "2"],
}


def run(out: str, arguments: list[str], seconds: str = "as it is", **environment: str) -> dict[str, bytes | list]:
    """Train in another process; return the contents of the folder that depend on nothing but the settings."""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", PROGRAM, seconds, "train", *SMALL, *arguments, "--out", out, "--quiet"],
        env=os.environ | environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    with Path(out, "history.csv").open() as file:
        history = [{k: v for k, v in row.items() if not k.startswith("seconds")} for row in csv.DictReader(file)]
    metrics = json.loads(Path(out, "metrics.json").read_text())
    return {
        "model": Path(out, "model.safetensors").read_bytes(),
        "config": Path(out, "config.toml").read_bytes(),
        "curves": Path(out, "curves.svg").read_bytes(),
        "history": history,
        "metrics": [metrics[name] for name in ("test", "validation", "train", "steps", "samples")],
        "replicas": metrics.get("replicas", []),
        "chunks": metrics.get("chunks", []),
    }


@pytest.mark.slow
@pytest.mark.parametrize("case", RUNS)
def test_processes_with_other_hashes_and_clocks_give_the_same_bits(case, harm):
    first = run("first", RUNS[case], PYTHONHASHSEED="1")
    for number, (seconds, seed) in enumerate((("0", "2"), ("1e9", "random"))):
        again = run(f"again{number}", RUNS[case], seconds, PYTHONHASHSEED=seed)
        for name, expected in first.items():
            assert again[name] == expected, name
        harm.did("processes compared bit by bit")


@pytest.mark.slow
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_threads_numba_and_population_change_only_the_last_bits(dtype):
    """As docs/reproducibility.md says, with bounds for so short a training."""

    def parameters(out: str, arguments: list[str], **environment: str) -> dict[str, np.ndarray]:
        run(out, ["--dtype", dtype, *arguments], **environment)
        tensors = load_file(f"{out}/model.safetensors")
        return {name: tensor[0].astype(float) for name, tensor in tensors.items() if name.startswith("parameters")}

    expected = parameters("base", [])
    others = {
        "thread": parameters("thread", [], OPENBLAS_NUM_THREADS="1"),
        "numpy": parameters("numpy", [], XPNET_FAST="0"),
        "plain": parameters("plain", ["--stepper", "plain"]),
        "population": parameters("population", ["--lambda", "0.005,0.01", "--max-replicas", "2"]),
    }
    most = {"float32": 1e-3, "float64": 1e-11}[dtype]
    for name, changed in others.items():
        for key, tensor in expected.items():
            assert np.abs(changed[key] - tensor).max() < most * np.abs(tensor).max(), (name, key)


def test_chunks_of_a_population_are_recorded_and_repeat_it(monkeypatch):
    """Free memory decides on them; with those of metrics.json the same results come from more memory."""

    def figures(out: str, *arguments: str) -> dict:
        small = ["--data", "patterns:100/20", "--hidden", "9", "--epochs", "1", "--lambda", "0.001,0.01,0.1"]
        main(["train", *small, "--runs", "2", "--quiet", "--out", out, *arguments])
        return json.loads(Path(out, "metrics.json").read_text())

    monkeypatch.setattr("xpnet.training.train_population.most_in_memory", lambda *_: 4)
    first = figures("first")
    assert first["chunks"] == [3, 3]
    monkeypatch.setattr("xpnet.training.train_population.most_in_memory", lambda *_: None)
    again = figures("again", "--max-replicas", str(max(first["chunks"])))
    assert again["chunks"] == first["chunks"]
    assert again["replicas"] == first["replicas"]
    assert Path("again/model.safetensors").read_bytes() == Path("first/model.safetensors").read_bytes()
    assert "chunks" not in figures("at-once")


def trained(data, replicas, dtype="float64", **options):
    net = network(replicas, hidden=(30, 7), dtype=dtype)
    return net, xpnet.train(net, data, xpnet.TrainConfig(epochs=3, batch_size=30), **options)


def test_float64_replicas_do_not_depend_on_others(blobs):
    together, result = trained(blobs, 5)
    for replicas in (2, 3):
        fewer, alone = trained(blobs, replicas)
        for name, tensor in fewer.parameters.items():
            np.testing.assert_array_equal(together.parameters[name][:replicas], tensor, err_msg=name)
        np.testing.assert_array_equal(result.history["train_loss"][:, :replicas], alone.history["train_loss"])
        np.testing.assert_array_equal(result.test.losses[:replicas], alone.test.losses)


def test_callbacks_change_no_bit(blobs):
    """Pruning points, checkpoints and callbacks lie between steps, and cut the steps into other calls."""
    expected = trained(blobs, 3, "float32")
    for callback in (
        Calls(prune_at=[1, 5, 17], on_prune=lambda point: []),
        Calls(on_checkpoint=lambda point: point.state()),
        Calls(on_epoch_end=lambda record: None, on_steps=lambda steps: None, should_stop=lambda: False),
    ):
        assert_same_bits(expected, trained(blobs, 3, "float32", callbacks=[callback]))


def test_global_random_numbers_of_numpy_are_not_used(blobs):
    np.random.seed(1)  # noqa: NPY002
    one = trained(blobs, 2)
    np.random.seed(2)  # noqa: NPY002
    before = np.random.get_state()[1].copy()  # noqa: NPY002
    other = trained(blobs, 2)
    np.testing.assert_array_equal(np.random.get_state()[1], before)  # noqa: NPY002
    assert_same_bits(one, other)
