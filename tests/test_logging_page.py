"""The callbacks of docs/logging.md log what the history has: with the packages, or stand-ins for them."""

from __future__ import annotations

import importlib.util
import re
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

PAGE = (Path(__file__).parents[1] / "docs" / "logging.md").read_text(encoding="utf-8")
BLOCKS = {re.search(r"class (\w+)", block)[1]: block for block in re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)}


def run(name: str) -> dict[str, Any]:
    """Run the block of the page that defines a callback; return its names."""
    names: dict[str, Any] = {}
    exec(compile(BLOCKS[name], "logging.md", "exec"), names)
    return names


class Client:
    """What of MLflow's client the page uses."""

    def __init__(self) -> None:
        self.params, self.metrics, self.ended = {}, {}, []

    def create_run(self, experiment):
        assert experiment == "0"
        run = f"run-{len(self.params)}"
        self.params[run], self.metrics[run] = {}, {}
        return SimpleNamespace(info=SimpleNamespace(run_id=run))

    def log_param(self, run, name, value):
        self.params[run][name] = value

    def log_metric(self, run, name, value, step):
        self.metrics[run].setdefault(name, []).append((step, value))

    def set_terminated(self, run):
        self.ended.append(run)


class Run:
    """What of a run of Weights & Biases the page uses."""

    def __init__(self, config, reinit, project, mode):
        assert (reinit, project, mode) == ("create_new", "patterns", "offline")
        self.config, self.logged, self.summary, self.ended = config, [], {}, False

    def log(self, values, step):
        self.logged.append((step, values))

    def finish(self):
        self.ended = True


def test_callback_for_mlflow_logs_each_network(monkeypatch):
    client = Client()
    monkeypatch.setitem(sys.modules, "mlflow", SimpleNamespace(MlflowClient=lambda: client))
    names = run("MLflowLog")
    history, result = names["result"].history, names["result"]
    assert [params["lambda"] for params in client.params.values()] == [1e-3, 1e-1]
    for r, metrics in enumerate(client.metrics.values()):
        expected = list(zip(history["step"], history["train_loss"][:, r], strict=True))
        np.testing.assert_allclose(metrics["train_loss"], expected)
        np.testing.assert_allclose(metrics["test_accuracy"], [(result.steps, result.test.accuracies[r])])
    assert client.ended == list(client.params)


def test_callback_for_weights_and_biases_logs_each_network(monkeypatch):
    runs: list[Run] = []
    module = SimpleNamespace(init=lambda **options: runs.append(Run(**options)) or runs[-1])
    monkeypatch.setitem(sys.modules, "wandb", module)
    result = run("WandbLog")["result"]
    assert [one.config["lambda"] for one in runs] == [1e-3, 1e-1]
    for r, one in enumerate(runs):
        losses = [(step, values["train_loss"]) for step, values in one.logged]
        np.testing.assert_allclose(
            losses, list(zip(result.history["step"], result.history["train_loss"][:, r], strict=True))
        )
        assert one.summary["test_accuracy"] == result.test.accuracies[r]
        assert one.ended


@pytest.mark.slow
@pytest.mark.filterwarnings("default")
@pytest.mark.parametrize(("package", "name"), [("mlflow", "MLflowLog"), ("wandb", "WandbLog")])
def test_callbacks_run_with_the_packages_themselves(monkeypatch, package, name):
    if importlib.util.find_spec(package) is None:
        pytest.skip(f"needs {package}")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "sqlite:///mlflow.db")
    assert run(name)["result"].epochs == 2
    if package == "mlflow":
        import mlflow

        (first, *_) = mlflow.MlflowClient().search_runs(["0"], order_by=["params.`lambda`"])
        assert (first.info.status, float(first.data.params["lambda"])) == ("FINISHED", 1e-3)
    else:
        assert len(list(Path("wandb").glob("offline-run-*"))) == 2
