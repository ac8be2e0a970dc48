"""The same seed, machine, versions and threads give the same bits, whatever a clock or a hash says."""

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

import xpnet
from xpnet.cli import main
from xpnet.nn.network import Network
from xpnet.training.train import train

pytestmark = pytest.mark.guarantee("determinism")
# The command line, with what a clock decides forced: how many steps a call of the stepper takes.
PROGRAM = """
import sys
import vl_convert
import xpnet.training.trainer
from xpnet.cli import main
vl_convert.vegalite_to_png = lambda *_, **__: b"blank"  # drawing one takes as long as all else
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
    """Train in a process of its own; return what is in the folder and must not depend on anything but the settings."""
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
@pytest.mark.parametrize("name", RUNS)
def test_processes_give_the_same_bits_whatever_hashes_and_clocks_say(name, harm):
    first = run("first", RUNS[name], PYTHONHASHSEED="1")
    for number, (seconds, seed) in enumerate((("0", "2"), ("1e9", "random"))):
        again = run(f"again{number}", RUNS[name], seconds, PYTHONHASHSEED=seed)
        for what, expected in first.items():
            assert again[what] == expected, what
        harm.did("processes compared bit by bit")


@pytest.mark.slow
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_threads_numba_and_company_change_the_last_bits_alone(dtype):
    """What docs/reproducibility.md says may change them, and by how much at most in so short a training."""

    def parameters(out: str, arguments: list[str], **environment: str) -> dict[str, np.ndarray]:
        run(out, ["--dtype", dtype, *arguments], **environment)
        tensors = load_file(f"{out}/model.safetensors")
        return {name: tensor[0].astype(float) for name, tensor in tensors.items() if name.startswith("parameters")}

    expected = parameters("base", [])
    others = {
        "thread": parameters("thread", [], OPENBLAS_NUM_THREADS="1"),
        "numpy": parameters("numpy", [], XPNET_FAST="0"),
        "plain": parameters("plain", ["--stepper", "plain"]),
        "company": parameters("company", ["--lambda", "0.005,0.01", "--max-replicas", "2"]),
    }
    most = {"float32": 1e-3, "float64": 1e-11}[dtype]
    for name, found in others.items():
        for key, tensor in expected.items():
            assert np.abs(found[key] - tensor).max() < most * np.abs(tensor).max(), (name, key)


def test_the_chunks_that_a_population_was_cut_into_are_recorded_and_repeat_it(monkeypatch, capsys):
    """Free memory decides on them; what metrics.json tells makes the same again when there is more."""

    def figures(out: str, *arguments: str) -> dict:
        few = [
            "--data",
            "patterns:200/20",
            "--hidden",
            "40",
            "--epochs",
            "1",
            "--lambda",
            "0.001,0.01,0.1",
            "--runs",
            "2",
        ]
        main(["train", *few, "--quiet", "--out", out, *arguments])
        return json.loads(Path(out, "metrics.json").read_text())

    monkeypatch.setattr("vl_convert.vegalite_to_png", lambda *_, **__: b"blank")
    monkeypatch.setattr("vl_convert.vegalite_to_svg", lambda *_, **__: "blank")
    monkeypatch.setattr("xpnet.training.train_population.most_in_memory", lambda *_: 4)
    first = figures("first")
    assert first["chunks"] == [3, 3]
    monkeypatch.setattr("xpnet.training.train_population.most_in_memory", lambda *_: None)
    again = figures("again", "--max-replicas", str(max(first["chunks"])))
    assert again["chunks"] == first["chunks"]
    assert again["replicas"] == first["replicas"]
    assert Path("again/model.safetensors").read_bytes() == Path("first/model.safetensors").read_bytes()
    assert "chunks" not in figures("whole")


def trained(data, replicas, dtype="float64", **settings):
    architecture = xpnet.NetworkConfig(inputs=data.features, hidden=(30, 7), classes=data.classes)
    net = Network(architecture, dtype=dtype, seed=range(replicas))
    return net, train(net, data, xpnet.TrainConfig(epochs=3, batch_size=30, **settings))


def test_in_float64_no_replica_feels_who_is_trained_beside_it(blobs):
    together, result = trained(blobs, 5)
    for replicas in (2, 3):
        fewer, its_own = trained(blobs, replicas)
        for name, tensor in fewer.parameters.items():
            np.testing.assert_array_equal(together.parameters[name][:replicas], tensor, err_msg=name)
        np.testing.assert_array_equal(result.history["train_loss"][:, :replicas], its_own.history["train_loss"])
        np.testing.assert_array_equal(result.test.losses[:replicas], its_own.test.losses)


def test_looking_and_interrupting_change_no_bit(blobs):
    """Pruning points, checkpoints and callbacks lie between steps, and cut the steps into other calls."""
    expected, figures = trained(blobs, 3, "float32")
    for callback in (
        Calls(prune_at=[1, 5, 17], on_prune=lambda point: []),
        Calls(on_checkpoint=lambda point: point.state()),
        Calls(on_epoch_end=lambda record: None, on_steps=lambda steps: None, should_stop=lambda: False),
    ):
        architecture = xpnet.NetworkConfig(inputs=12, hidden=(30, 7), classes=4)
        net = Network(architecture, seed=range(3))
        result = train(net, blobs, xpnet.TrainConfig(epochs=3, batch_size=30), callbacks=[callback])
        for name, tensor in expected.parameters.items():
            np.testing.assert_array_equal(net.parameters[name], tensor, err_msg=name)
        np.testing.assert_array_equal(result.history["train_cost"], figures.history["train_cost"])
        np.testing.assert_array_equal(result.test.costs, figures.test.costs)


def test_numpys_global_random_numbers_have_no_part(blobs):
    np.random.seed(1)  # noqa: NPY002
    one, _ = trained(blobs, 2)
    np.random.seed(2)  # noqa: NPY002
    before = np.random.get_state()[1].copy()  # noqa: NPY002
    other, _ = trained(blobs, 2)
    np.testing.assert_array_equal(np.random.get_state()[1], before)  # noqa: NPY002
    for name, tensor in one.parameters.items():
        np.testing.assert_array_equal(other.parameters[name], tensor)
