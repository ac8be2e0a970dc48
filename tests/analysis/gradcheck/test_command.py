"""``xpnet gradcheck`` as a user meets it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from xpnet.cli import main

SMALL = ["--data", "patterns:200/50", "--hidden", "6,5", "--features", "20", "--samples", "30"]


def run(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    capsys.readouterr()
    code = 0
    try:
        main(["gradcheck", *arguments])
    except SystemExit as leaving:
        code = int(leaving.code or 0)
    captured = capsys.readouterr()
    return code, captured.out, captured.err


def test_table_and_verdict(capsys: pytest.CaptureFixture[str]):
    code, out, err = run(capsys, *SMALL, "--bias-before-bn", "--device", "cpu")
    assert code == 0
    for word in ("20-6-5-10 with BN", "gamma1", "max rel", "zero", "random direction", "passed in", "BN subtracts"):
        assert word in out
    assert "differences: float64 on cpu" in err


def test_json_is_one_object(capsys: pytest.CaptureFixture[str]):
    code, out, _ = run(capsys, *SMALL, "--json", "--sweep-h", "--no-batch-norm", "--choose", "random")
    printed = json.loads(out)
    assert code == 0
    assert printed["passed"] is True
    assert printed["checked"] == printed["of"] == 20 * 6 + 6 + 6 * 5 + 5 + 5 * 10 + 10
    assert printed["settings"]["samples"] == 30
    assert printed["settings"]["lambda"] == 0.005
    assert {row["kind"] for row in printed["sweep"]} == {"W", "b", "all"}


def test_quiet(capsys: pytest.CaptureFixture[str]):
    assert run(capsys, *SMALL, "--quiet") == (0, "", "")


def test_sample_of_the_naive_way(capsys: pytest.CaptureFixture[str]):
    code, out, _ = run(capsys, *SMALL, "--json", "--coverage", "20", "--naive", "--lambda", "0")
    printed = json.loads(out)
    assert code == 0
    assert printed["checked"] == 20
    assert printed["settings"]["method"] == "naive"


def test_float32(capsys: pytest.CaptureFixture[str]):
    code, out, _ = run(capsys, *SMALL, "--json", "--dtype", "float32")
    assert code == 0
    assert json.loads(out)["settings"]["tolerance"] == 1e-2


def test_figures(capsys: pytest.CaptureFixture[str], tmp_path: Path):
    assert run(capsys, *SMALL, "--figure", "check", "--sweep-h")[0] == 0
    assert {path.name for path in tmp_path.iterdir()} >= {"check.png", "check.svg"}
    code, _, err = run(capsys, *SMALL, "--figure", "check")
    assert code == 2
    assert "exists already" in err


def test_failure_is_exit_code_1(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch):
    from xpnet.nn.network import Network

    original = Network.cost_and_gradients

    def broken(self: Any, x: Any, labels: Any, lam: Any = 0.0) -> Any:
        cost, gradients = original(self, x, labels, lam)
        return cost, {name: g * (0.9 if name == "gamma2" else 1) for name, g in gradients.items()}

    monkeypatch.setattr(Network, "cost_and_gradients", broken)
    code, out, _ = run(capsys, *SMALL)
    assert code == 1
    assert "FAILED" in out
    assert "gamma2 fails: 5 of 5 entries" in " ".join(out.split())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--features", "0"], "features = 0"),
        (["--features", "4000"], "features = 4000"),
        (["--samples", "1"], "take at least 2"),
        (["--samples", "100000"], "samples = 100000"),
        (["--h", "0"], "h = 0"),
        (["--h", "nan"], "h = nan"),
        (["--coverage", "none"], "coverage = none"),
        (["--lambda", "-1"], "lambda"),
        (["--hidden", "x"], "hidden"),
        (["--figure", "nowhere/check"], "no folder"),
    ],
)
def test_what_the_user_got_wrong(capsys: pytest.CaptureFixture[str], arguments: list[str], message: str):
    code, out, err = run(capsys, "--data", "patterns:200/50", *arguments)
    assert code == 2
    assert out == ""
    assert message in err
    assert "Traceback" not in err


def test_samples_are_rows_of_the_training_set(capsys: pytest.CaptureFixture[str]):
    from xpnet.analysis.gradcheck.problem import choose_rows

    rows = choose_rows(100, 20, seed=1)
    assert len(np.unique(rows)) == 20
    assert rows.max() < 100
    assert (rows == choose_rows(100, 20, seed=1)).all()
    assert (rows != choose_rows(100, 20, seed=2)).any()
