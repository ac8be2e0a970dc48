"""The suites, on problems so small that a run takes a second."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pytest

from bench import machine, suites, turns, worker
from bench.__main__ import main
from bench.contenders import OURS, PEERS, POPULATION_PEERS, make, missing
from bench.problem import Problem, write_data
from bench.suites import exponent


@pytest.fixture(autouse=True)
def sklearn_as_it_was():
    """Undo what a contender sets in scikit-learn, whose settings are those of the process."""
    sklearn = sys.modules.get("sklearn")
    before = {} if sklearn is None else sklearn.get_config()
    yield
    if (sklearn := sys.modules.get("sklearn")) is not None:
        sklearn.set_config(**(before or {"assume_finite": False, "skip_parameter_validation": False}))


PROBE = machine.probe
SMALL = ["--samples", "500", "--rounds", "2", "--pause", "0"]


@pytest.fixture(autouse=True)
def _no_probe(monkeypatch):
    figures = {"gemm_gflops": 1.0, "copy_gb_s": 1.0, "copy_two_threads_gb_s": 1.0}
    monkeypatch.setattr(machine, "probe", lambda: figures)


class InProcess(worker.Worker):
    """A worker of a contender in this process: what passes is JSON all the same."""

    def __init__(self, fast=None):
        super().__init__()

    def ask(self, **command):
        return json.loads(json.dumps(self.answer(json.loads(json.dumps(command)))))

    def close(self):
        pass

    def __enter__(self):
        return self

    def __exit__(self, *_):
        pass


@pytest.fixture
def in_process(monkeypatch):
    monkeypatch.setenv("XPNET_FAST", "0")
    monkeypatch.setattr(turns, "Worker", InProcess)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_data(tmp_path, 500, None)
    return tmp_path


def run(*arguments: str) -> dict:
    assert main([*SMALL, *arguments, "--out", "out.json"]) == 0
    return json.loads(Path("out.json").read_text())


@pytest.mark.usefixtures("in_process")
def test_an_epoch_has_contenders_the_floor_and_the_machine(capsys):
    result = run("epoch", "--networks", "a", "--no-fast")
    about = result["machine"]
    assert {"processor", "cores", "packages", "pools", "environment", "commit"} <= set(about)
    assert result["probe_before"] == result["probe_after"] == machine.probe()
    assert any("num_threads" in pool for pool in about["pools"])
    case = result["suites"]["epoch"]["cases"]["a"]
    assert set(case["rows"]) == {"xpnet numpy", "xpnet train numpy", "floor"}
    assert (case["steps"], case["steps_an_epoch"], case["scaled"]) == (5, 5, False)
    for row in case["rows"].values():
        assert len(row["values"]) == 2
        assert row["min"] <= row["q1"] <= row["median"] <= row["q3"]
        assert row["epoch_seconds"] == pytest.approx(row["median"] * 5 / 1e6, rel=1e-4)
    ours, floor = case["rows"]["xpnet numpy"], case["rows"]["floor"]
    assert ours["floor_reached"] == pytest.approx(floor["median"] / ours["median"], rel=1e-4)
    assert len(ours["loss"]) == 3
    assert all(2 < loss < 4 for loss in ours["loss"])
    assert 0 < case["rows"]["xpnet train numpy"]["evaluation_share"] < 5
    assert result["command"] == "python -m bench epoch --networks a --rounds 2 --samples 500 --pause 0.0 --no-fast"
    assert "floor reached" in capsys.readouterr().out


@pytest.mark.usefixtures("in_process")
def test_a_population_is_timed_by_steps_and_scaled():
    result = run("population", "--networks", "a", "--replicas", "2", "--steps", "2", "--no-fast")
    cases = result["suites"]["population"]["cases"]
    assert list(cases) == ["2"]
    assert all(case["scaled"] and case["steps"] == 2 and case["steps_an_epoch"] == 5 for case in cases.values())
    shapes = cases["2"]["rows"]["xpnet numpy"]["squares"]
    assert len(shapes) == 3


def test_contenders_take_turns_and_the_first_round_is_not_counted(folder, monkeypatch):
    asked = []

    class Fake(InProcess):
        def answer(self, command):
            if "build" in command:
                self.name = command["contender"]
                return {"built": "only"}
            if "run" in command:
                asked.append((command["number"], self.name, command["lead"]))
                return {"seconds": 100.0 if command["number"] == 0 else 0.01, "loss": 2.0, "steps": command["steps"]}
            return {"squares": [1.0], "pools": [], "versions": {}}

    monkeypatch.setattr(turns, "Worker", Fake)
    case = turns.measure(["xpnet numpy", "floor"], Problem.of("a", folder), 2, 5, pause=0)
    assert asked == [(n, who, 0) for n in range(3) for who in ("xpnet numpy", "floor")]
    assert case["rows"]["floor"]["values"] == [2000.0, 2000.0]
    asked.clear()
    turns.measure(["floor"], Problem.of("a", folder), 1, 2, pause=0)
    assert asked == [(0, "floor", 2), (1, "floor", 2)]


def test_fast_operations_are_switched_by_the_environment(folder, monkeypatch):
    started = []

    class Process:
        def __init__(self, command, **options):
            started.append(options["env"].get("XPNET_FAST"))

    monkeypatch.setattr(turns.subprocess, "Popen", Process)
    monkeypatch.setenv("XPNET_FAST", "0")
    turns.Worker(OURS["xpnet fast"].fast)
    turns.Worker(OURS["xpnet numpy"].fast)
    assert started == [None, "0"]


def test_the_probe_measures_products_and_copies():
    found = PROBE(200, 2**18)
    assert all(found[key] > 0 for key in ("gemm_gflops", "copy_gb_s", "copy_two_threads_gb_s"))


def test_a_contender_that_computes_something_else_is_found():
    row = {"loss": [2.3, 2.2, 2.1], "squares": [100.0, 10.0]}
    others = {
        "same": row | {"loss": [2.3001, 2.205, 2.1]},
        "no loss": row | {"loss": [None] * 3},
        "other loss": row | {"loss": [2.31, 2.2, 2.1]},
        "later loss": row | {"loss": [2.3, 2.2, 2.5]},
        "other penalty": row | {"squares": [70.0, 10.0]},
    }
    found = turns._agreement({"floor": {"squares": None, "loss": [None]}, "xpnet numpy": row} | others)
    assert found["with"] == "xpnet numpy"
    assert {name for name, one in found["contenders"].items() if one["agrees"]} == {"same", "no loss"}


def test_the_command_fails_if_a_contender_computed_something_else(monkeypatch, capsys):
    case = {"rows": {}, "agreement": {"contenders": {"peer": {"agrees": False}}}}
    monkeypatch.setattr(suites, "epoch", lambda *_: {"cases": {"a": case}})
    assert main(["epoch", "--samples", "1000"]) == 1
    assert "did not compute the same as xpnet: peer (epoch a)" in capsys.readouterr().err


def test_a_broken_contender_is_left_out_with_its_reason(folder, monkeypatch):
    from bench import contenders

    monkeypatch.setitem(contenders.ALL, "absent", contenders.Entry("bench.ours:Stepper", ("no_such_package",)))
    case = turns.measure(["absent", "scikit-learn", "floor"], Problem.of("a", folder), 1, 5, pause=0)
    assert case["left_out"]["absent"] == "no_such_package is not installed"
    assert "scikit-learn" in case["left_out"]  # not there, or without batch normalisation
    assert set(case["rows"]) == {"floor"}
    with turns.Worker() as worker, pytest.raises(turns.BenchError, match="KeyError"):
        worker.ask(build="x", contender="nobody", problem=Problem.of("a", folder).to_json())


def _installed(names):
    return [
        pytest.param(name, marks=pytest.mark.skipif(missing(entry) is not None, reason=missing(entry) or ""))
        for name, entry in names.items()
        if name != "torch.compile"  # compiles for too long; the command itself compares it
    ]


def _trained(name: str, problem: Problem) -> tuple[list[float | None], list[np.ndarray]]:
    contender = make(name, problem)
    losses = [contender.epoch(*problem.turn(number, 5)) for number in range(2)]
    return losses, contender.weights()


@pytest.mark.slow
@pytest.mark.parametrize("name", _installed(PEERS))
@pytest.mark.parametrize("batch_norm", [True, False])
@pytest.mark.filterwarnings("ignore")  # of other libraries
def test_peers_compute_what_xpnet_computes(name, batch_norm, folder, monkeypatch):
    if batch_norm and not PEERS[name].batch_norm:
        pytest.skip("has no batch normalisation")
    monkeypatch.setattr("bench.problem.ETA_MIN", 0.05)  # so that there is something to compare
    problem = Problem(str(folder), (20, 15), batch_norm, 100)
    losses, weights = _trained(name, problem)
    expected_losses, expected = _trained("xpnet numpy", problem)
    assert all(a is None or a == pytest.approx(b, rel=1e-4) for a, b in zip(losses, expected_losses, strict=True))
    for W, E in zip(weights, expected, strict=True):
        np.testing.assert_allclose(W, E[0], rtol=1e-3, atol=1e-4)
    start = problem.initial()["W1"][0]
    assert np.abs(weights[0] - start).max() > 0.01


@pytest.mark.parametrize(
    "name", _installed({k: v for k, v in POPULATION_PEERS.items() if "comp" not in k and not v.single})
)
@pytest.mark.filterwarnings("ignore")
def test_populations_compute_what_xpnet_computes(name, folder, monkeypatch):
    monkeypatch.setattr("bench.problem.ETA_MIN", 0.05)
    problem = Problem(str(folder), (20, 15), True, 100, replicas=3)
    losses, weights = _trained(name, problem)
    expected_losses, expected = _trained("xpnet numpy", problem)
    assert losses == pytest.approx(expected_losses, rel=1e-4)
    for W, E in zip(weights, expected, strict=True):
        wide = W.ndim == 2
        E = E.transpose(1, 0, 2).reshape(W.shape) if wide else E
        np.testing.assert_allclose(W, E, rtol=1e-3, atol=1e-4)


def test_training_as_a_whole_tells_its_evaluation_apart(folder):
    contender = make("xpnet train", Problem(str(folder), (5,), True, 100))
    contender.epoch(np.zeros((0, 0)), np.zeros(0))
    figures = contender.figures
    assert figures["steps"] == 5
    assert 0 < figures["evaluation"] < figures["seconds"]


@pytest.mark.parametrize("power", [0.5, 1.0, 2.0])
def test_the_exponent_of_a_power_law_is_found(power):
    sizes = [10, 20, 50, 100]
    fit = exponent(sizes, [3 * s**power for s in sizes])
    assert fit["exponent"] == pytest.approx(power)
    assert fit["error"] == pytest.approx(0, abs=1e-9)
    bent = exponent(sizes, [1 + s**power for s in sizes])
    assert 0 < bent["exponent"] < power
    assert bent["error"] > 0
    assert exponent([1, 2], [1.0, 2.0]) is None


@pytest.mark.slow
def test_scaling_startup_and_memory(monkeypatch):
    monkeypatch.setattr(suites, "AXES", {"width": (8, 16, 32), "samples": (200, 500)})
    few = ["--rounds", "1", "--replicas", "20"]
    result = run("scaling", "startup", "memory", "--networks", "a", "--steps", "2", "--no-fast", *few)
    cases = result["suites"]["scaling"]["cases"]
    assert list(cases["width"]["rows"]) == ["8", "16", "32"]
    assert np.isfinite(cases["width"]["fit"]["exponent"])
    assert set(cases["width"]["floor"]) == set(cases["width"]["rows"])
    assert cases["samples"]["fit"] is None
    assert cases["samples"]["unit"] == "us an epoch"
    rows = result["suites"]["startup"]["cases"]["process"]["rows"]
    assert rows["python"]["median"] < rows["first step"]["median"]
    memory = result["suites"]["memory"]["cases"]
    run_of = {name: case["rows"]["run"]["median"] for name, case in memory.items()}
    assert run_of["20 networks"] > run_of["a"] > memory["a"]["rows"]["data"]["median"] > 5


def test_wrong_options_are_one_sentence(capsys):
    Path("there.json").touch()
    assert main(["epoch", "--out", "there.json"]) == 2
    assert "there.json: exists already" in capsys.readouterr().err
    assert main(["epoch", "--samples", "50"]) == 2
    assert "must be at least 1000" in capsys.readouterr().err
    for wrong in (["epoch", "--networks", "xyz"], ["epoch", "--rounds", "0"], ["nothing"]):
        with pytest.raises(SystemExit) as stop:
            main(wrong)
        assert stop.value.code == 2


@pytest.mark.slow
def test_sklearn_times_searches_and_fits_of_one_problem(monkeypatch, tmp_path, capsys):
    pytest.importorskip("sklearn")
    from sklearn.datasets import load_iris

    from bench import scikit_learn

    monkeypatch.setattr(scikit_learn, "_data", lambda _: {"digits": load_iris(return_X_y=True)})
    monkeypatch.setattr(scikit_learn, "_SEARCHES", {"digits": (2, 2)})
    monkeypatch.setattr(scikit_learn, "_HIDDEN", (4,))
    monkeypatch.setattr(scikit_learn, "_JOBS", 1)
    monkeypatch.setattr("xpnet.sklearn.parameters.automatic_epochs", lambda *_: 2)
    assert main(["sklearn", *SMALL, "--networks", "a", "--out", str(tmp_path / "found.json")]) == 0
    cases = json.loads((tmp_path / "found.json").read_text())["suites"]["sklearn"]["cases"]
    assert list(cases) == ["search digits", "fit digits"]
    search, fit = (case["rows"] for case in cases.values())
    assert list(search) == ["PopulationSearchCV", "GridSearchCV, 1 jobs", "MLPClassifier, GridSearchCV, 1 jobs"]
    assert list(fit) == ["XpnetClassifier", "MLPClassifier"]
    assert all(row["median"] > 0 and len(row["values"]) == 2 for row in (*search.values(), *fit.values()))
    assert "PopulationSearchCV" in capsys.readouterr().out
