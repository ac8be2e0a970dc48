"""``xpnet gradcheck`` as a user meets it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from xpnet.cli import main
from xpnet.nn.network import Network

SMALL = ["--data", "patterns:200/50", "--hidden", "6,5", "--features", "20", "--samples", "30"]


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]):
    """Run the command; return its exit code, output and messages."""

    def run(*arguments: str) -> tuple[int, str, str]:
        code = 0
        try:
            main(["gradcheck", *arguments])
        except SystemExit as leaving:
            code = int(leaving.code or 0)
        return code, *capsys.readouterr()

    return run


def test_gradcheck_prints_table_and_verdict(run: Any):
    code, out, err = run(*SMALL, "--bias-before-bn", "--device", "cpu")
    assert code == 0
    for word in ("20-6-5-10 with BN", "gamma1", "max rel", "zero", "random direction", "passed in", "BN subtracts"):
        assert word in out
    assert "differences: float64 on cpu" in err
    assert run(*SMALL, "--quiet") == (0, "", "")


def test_gradcheck_json_is_one_object(run: Any):
    code, out, _ = run(*SMALL, "--json", "--sweep-h", "--no-batch-norm", "--choose", "random")
    printed = json.loads(out)
    assert code == 0
    assert printed["passed"] is True
    assert printed["checked"] == printed["of"] == 20 * 6 + 6 + 6 * 5 + 5 + 5 * 10 + 10
    assert printed["settings"]["samples"] == 30
    assert printed["settings"]["lambda"] == 0.005
    assert {row["kind"] for row in printed["sweep"]} == {"W", "b", "all"}


@pytest.mark.parametrize(
    ("arguments", "settings"),
    [
        (["--coverage", "20", "--naive", "--lambda", "0"], {"method": "naive", "coverage": 20, "lambda": 0}),
        (["--dtype", "float32"], {"tolerance": 1e-2, "precision": "float32"}),
    ],
)
def test_gradcheck_options_reach_the_check(run: Any, arguments: list[str], settings: dict[str, Any]):
    code, out, _ = run(*SMALL, "--json", *arguments)
    printed = json.loads(out)
    assert code == 0
    assert printed["settings"] | settings == printed["settings"]
    assert printed["checked"] == settings.get("coverage", printed["of"])


def test_gradcheck_figure_is_not_overwritten(run: Any, tmp_path: Path):
    assert run(*SMALL, "--figure", "check", "--sweep-h")[0] == 0
    assert {path.name for path in tmp_path.iterdir()} >= {"check.png", "check.svg"}
    code, _, err = run(*SMALL, "--figure", "check")
    assert code == 2
    assert "exists already" in err


def test_gradcheck_of_wrong_gradients_exits_with_1(run: Any, monkeypatch: pytest.MonkeyPatch):
    original = Network.cost_and_gradients

    def broken(self: Any, x: Any, labels: Any, *numbers: Any) -> Any:
        cost, gradients = original(self, x, labels, *numbers)
        return cost, {name: g * (0.9 if name == "gamma2" else 1) for name, g in gradients.items()}

    monkeypatch.setattr(Network, "cost_and_gradients", broken)
    code, out, _ = run(*SMALL)
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
def test_gradcheck_wrong_option_is_one_sentence(run: Any, arguments: list[str], message: str):
    code, out, err = run("--data", "patterns:200/50", *arguments)
    assert code == 2
    assert out == ""
    assert message in err
    assert "Traceback" not in err
