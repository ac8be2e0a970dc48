"""``xpnet evaluate``, ``xpnet info`` and the command line as a whole."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from command_line import SMALL, run

import xpnet
from xpnet.cli import main


@pytest.mark.parametrize("runs", ["1", "2"])
def test_evaluate_gives_what_training_reported(capsys, runs):
    _, out, _ = run(capsys, "train", *SMALL, "--runs", runs, "--json", "--out", "run")
    trained = json.loads(out)
    for which in ("test", "validation", "train"):
        code, out, _ = run(capsys, "evaluate", "run", "--on", which, "--json")
        assert code == 0
        result = json.loads(out)
        assert {k: result[k] for k in ("accuracy", "loss", "cost")} == trained[which]
        confusion = np.array(result["confusion"])
        assert confusion.sum() == result["samples"] * int(runs)
        mean = result["accuracy"] if runs == "1" else result["accuracy"]["mean"]
        assert np.trace(confusion) / confusion.sum() == pytest.approx(mean)
        assert list(result["per_class"]) == list(xpnet.load("run").class_names)
        np.testing.assert_allclose(
            list(result["per_class"].values()), np.diag(confusion) / confusion.sum(axis=1), rtol=1e-12
        )
    assert run(capsys, "evaluate", "run", "--figure", "confusion", "--quiet")[0] == 0
    assert ("sums over 2 networks" in Path("confusion.svg").read_text()) == (runs == "2")


def test_evaluate_for_people_and_on_other_data(capsys):
    run(capsys, "train", *SMALL, "--out", "run")
    code, out, err = run(capsys, "evaluate", "run", "--data", "patterns:100/50")
    assert code == 0
    assert "wide 36°" in out
    assert "50 samples" in out
    assert "patterns:100/50" in err
    code, out, _ = run(capsys, "evaluate", "run/model.safetensors", "--data", "patterns:100/50")
    assert code == 0


def test_other_data_is_standardised_as_the_network_was_trained(capsys):
    run(capsys, "train", *SMALL, "--out", "run")
    rng = np.random.default_rng(0)
    x, y = rng.integers(0, 60, (300, 3072), np.uint8), np.arange(300) % 10
    np.savez("dark.npz", x_train=x, y_train=y, x_test=x, y_test=y)
    _, out, _ = run(capsys, "evaluate", "run", "--data", "dark.npz", "--json")
    net = xpnet.load("run")
    probabilities = net.predict_proba(x)[0]
    result = json.loads(out)
    assert result["accuracy"] == (probabilities.argmax(axis=1) == y).mean()
    assert result["loss"] == pytest.approx(-np.log(probabilities[np.arange(300), y]).mean(), rel=1e-4)


def test_no_number_of_the_confusion_matrix_is_cut(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "60")
    run(
        capsys, "train", "--data", "patterns:600/20000", "--epochs", "1", "--hidden", "8", "--runs", "3", "--out", "run"
    )
    confusion = json.loads(run(capsys, "evaluate", "run", "--json")[1])["confusion"]
    assert np.max(confusion) > 999
    out = run(capsys, "evaluate", "run")[1]
    assert "\N{HORIZONTAL ELLIPSIS}" not in out
    for true, row in enumerate(confusion):
        line = next(line for line in out.splitlines() if line.strip().startswith(f"{true} "))
        assert line.split()[-10:] == [str(count) for count in row]


def test_evaluate_says_what_is_missing_or_does_not_fit(capsys):
    assert "none: there is no such run folder or model file" in run(capsys, "evaluate", "none")[2]
    Path("empty").mkdir()
    assert "empty: is not the folder of a finished run" in run(capsys, "evaluate", "empty")[2]
    run(capsys, "train", *SMALL, "--out", "run")
    code, _, err = run(capsys, "evaluate", "run/model.safetensors")
    assert code == 2
    assert "pass --data" in err
    rng = np.random.default_rng(0)
    np.savez("own.npz", x=rng.standard_normal((50, 7)), y=np.arange(50) % 3)
    code, _, err = run(capsys, "evaluate", "run", "--data", "own.npz")
    assert code == 2
    assert "has 7 features and 3 classes" in err
    xpnet.Network(xpnet.NetworkConfig(inputs=7, classes=3)).save("bare.safetensors")
    assert (
        "does not say how its data was standardised"
        in run(capsys, "evaluate", "bare.safetensors", "--data", "own.npz")[2]
    )


def test_info(capsys):
    code, out, _ = run(capsys, "info", "--json")
    assert code == 0
    result = json.loads(out)
    assert result["xpnet"] == xpnet.__version__
    assert result["packages"]["numpy"] == np.__version__
    assert all(blas["threads"] >= 1 for blas in result["blas"])
    assert result["cifar10"] is None
    code, out, _ = run(capsys, "info")
    assert np.__version__ in out
    assert "CIFAR-10" in out


def test_the_command_line_as_a_whole(capsys):
    code, out, _ = run(capsys, "--help")
    assert code == 0
    assert all(name in out for name in ("train", "evaluate", "info"))
    assert run(capsys, "--version")[1].strip() == xpnet.__version__
    code, _, err = run(capsys, "trian")
    assert code == 2
    assert len(err.strip().splitlines()) == 1
    assert "train" in err


def test_python_m_xpnet():
    done = subprocess.run([sys.executable, "-m", "xpnet", "--version"], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == xpnet.__version__


class CUDARuntimeError(RuntimeError):
    """As CuPy has it."""

    status = 2


def test_an_interrupt_outside_training_exits_with_130(capsys, monkeypatch):
    def interrupt(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr("xpnet.cli._run", interrupt)
    with pytest.raises(SystemExit) as stop:
        main(["info"])
    assert stop.value.code == 130


@pytest.mark.parametrize(
    ("error", "code", "message"),
    [
        (OSError(28, "No space left on device", "run/history.csv"), 2, "run/history.csv: No space left on device"),
        (MemoryError("1 TiB"), 2, "out of memory (1 TiB)"),
        (MemoryError(), 2, "out of memory; take a smaller"),
        (CUDARuntimeError("cudaErrorMemoryAllocation: out of memory"), 2, "out of memory (cudaErrorMemoryAllocation"),
        (ValueError("surprise"), 70, "internal error, ValueError: surprise"),
    ],
)
def test_nothing_ends_in_a_traceback(capsys, monkeypatch, error, code, message):
    def fail(*_):
        raise error

    monkeypatch.setattr("xpnet.cli._run", fail)
    result = run(capsys, "info")
    assert result[0] == code
    assert message in result[2]
    assert len(result[2].strip().splitlines()) == 1
    with pytest.raises(type(error)):
        main(["info", "--debug"])
