"""The ladder, on trainings of a step, and its page."""

from __future__ import annotations

import importlib.util
import json
import tomllib
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from bench_cases import MACHINE, PROBE
from command_line import CommandLine

from bench import machine, turns, worker
from bench.__main__ import main
from bench.contenders import make
from bench.learn import ladder, ours, page, steps, training
from bench.learn.pictures import PictureProblem, write_pictures
from bench.learn.rungs import RUNGS, settings_of, tflop
from bench.page import ROOT
from bench.results import newest, read
from xpnet.config.recipes import recipes
from xpnet.data.transformed_rows import pooled, viewed
from xpnet.data.views import View, row_of, samples_of, view_of

TORCH = pytest.mark.skipif(importlib.util.find_spec("torch") is None, reason="torch is not installed")
DATA = ["--data", "patterns:400/60", "--split", "300/100"]


@pytest.fixture(autouse=True)
def _no_probe(monkeypatch):
    monkeypatch.setattr(machine, "probe", lambda: PROBE)


def figures(number: int, seconds: float = 2.0, **more) -> dict:
    reached = {"accuracy": 0.60 + number / 100, "accuracy_six_views": 0.62 + number / 100}
    return {**reached, "transforms": 0.5, "training": seconds, "evaluation": 0.1, "steps": 1548, **more}


@pytest.fixture
def trained(monkeypatch) -> list[tuple[str, int, str]]:
    """Trainings that cost nothing, and what was trained, but for the warm-up."""
    done: list[tuple[str, int, str]] = []

    def way(name: str, seconds: float):
        def train(rung, seed):
            done.append((rung.name, seed, name))
            return figures(seed, seconds)

        return train

    monkeypatch.setattr(ladder, "missing", lambda entry: None)
    monkeypatch.setattr(ladder, "ours", lambda rung, seed: figures(seed))
    seconds = {"xpnet": 2.0, "PyTorch": 4.5, "PyTorch bfloat16": 3.5}
    monkeypatch.setattr(ladder, "WAYS", {name: way(name, value) for name, value in seconds.items()})
    return done


def climb(*arguments: str, code: int = 0) -> dict:
    assert main(["learn", "--rungs", "fast-50,fast-60", *DATA, *arguments, "--out", "out.json"]) == code
    return read(Path("out.json"))


def test_rungs_are_the_recipes_from_50_percent_on():
    assert list(RUNGS) == list(recipes())[-len(RUNGS) :]
    assert list(RUNGS.values()) == sorted(RUNGS.values())


def test_tflop_counts_the_projection_and_all_products_but_one():
    settings = settings_of("fast-65")
    sample = 2 * (768 * 200 + 2 * 200 * 512 + 3 * (512 * 256 + 256 * 10))
    assert tflop(settings, 3097) == pytest.approx(3097 * 500 * sample / 1e12)
    plain = {"hidden": "50,50", "batch_size": 100, "epochs": 1}
    assert tflop(plain, 10) == pytest.approx(10 * 100 * 2 * (2 * 3072 * 50 + 3 * (50 * 50 + 50 * 10)) / 1e12)


def test_ladder_takes_turns_and_keeps_every_training(trained, capsys):
    result = climb("--seeds", "2", "--peers")
    turn = [(rung, who) for rung in ("fast-50", "fast-60") for who in ladder.WAYS]
    assert trained == [(rung, seed, who) for seed in (0, 1) for rung, who in turn]
    case = result["suites"]["learn"]["cases"]["fast-60"]
    assert (case["target"], case["steps"]) == (0.6, 1548)
    assert case["tflop"] == pytest.approx(tflop(case["settings"], 1548), rel=1e-5)
    row = case["rows"]["xpnet"]
    assert row["values"] == [2.5, 2.5]
    assert row["accuracy"] == pytest.approx(0.605)
    assert [(run["seed"], run["session"]) for run in row["runs"]] == [(0, 0), (1, 0)]
    assert result["command"] == (
        "python -m bench learn --rungs fast-50,fast-60 --seeds 2 --peers --data DATA --split 300/100"
    )
    assert "fast-60  PyTorch " in capsys.readouterr().out


def test_ladder_goes_on_where_it_ended(trained):
    climb("--seeds", "1")
    trained.clear()
    result = climb("--seeds", "2", "--peers")
    assert ("fast-50", 0, "xpnet") not in trained
    assert len(trained) == 10
    runs = result["suites"]["learn"]["cases"]["fast-50"]["rows"]["xpnet"]["runs"]
    assert [(run["seed"], run["session"]) for run in runs] == [(0, 0), (1, 1)]
    assert len(result["sessions"]) == 2


def test_failed_training_is_left_out_and_tried_again(trained, monkeypatch):
    def fails(rung, seed):
        raise training.TrainingError("exit code 1: no memory")

    working = ladder.WAYS
    monkeypatch.setattr(ladder, "WAYS", {**working, "PyTorch": fails})
    result = climb("--seeds", "1", "--peers", code=1)
    case = result["suites"]["learn"]["cases"]["fast-50"]
    assert case["left_out"] == {"PyTorch": "exit code 1: no memory"}
    assert list(case["rows"]) == ["xpnet", "PyTorch bfloat16"]
    monkeypatch.setattr(ladder, "WAYS", working)
    assert not climb("--seeds", "1", "--peers")["suites"]["learn"]["cases"]["fast-50"]["left_out"]


@pytest.mark.parametrize(
    ("change", "arguments", "sentence"),
    [
        ({}, ["--split", "200/200"], "was measured with split = 300/100"),
        ({"machine": MACHINE}, [], "was measured with processor = Abacus"),
        ({"sessions": None}, [], "is not a ladder"),
    ],
)
def test_other_results_are_not_gone_on_with(trained, capsys, change, arguments, sentence):
    result = climb("--seeds", "1")
    changed = {key: value for key, value in (result | change).items() if value is not None}
    Path("out.json").write_text(json.dumps(changed))
    climb("--seeds", "1", *arguments, code=2)
    assert sentence in capsys.readouterr().err


def test_changed_recipe_is_not_gone_on_with(trained, capsys):
    result = climb("--seeds", "1")
    result["suites"]["learn"]["cases"]["fast-50"]["settings"]["eta_max"] = 0.3
    Path("out.json").write_text(json.dumps(result))
    climb("--seeds", "2", code=2)
    assert "the recipe fast-50 has changed since" in capsys.readouterr().err


def test_wrong_options_are_one_sentence(capsys):
    with pytest.raises(SystemExit):
        main(["learn", "--rungs", "fast-51"])
    assert "fast-51: must be of fast-50, fast-55" in capsys.readouterr().err
    assert main(["learn", "--epochs-scale", "0.1"]) == 2
    assert "name a file with --out" in capsys.readouterr().err


def _rung() -> training.Rung:
    return training.Rung("fast-50", settings_of("fast-50", 0.5), "patterns:400/60", "300/100", "cpu")


def test_xpnet_trains_a_rung_as_its_command_does(monkeypatch, capsys):
    command = CommandLine(capsys)

    def run(words, **options):
        few = ["--pool", "4", "--pca", "20"]  # the components of its 768 means take seconds
        return SimpleNamespace(returncode=0, stdout=command(*words[3:], *few).out, stderr="")

    monkeypatch.setenv("XPNET_FAST", "0")
    monkeypatch.setattr(training.subprocess, "run", run)
    found = training.ours(_rung(), 3)
    assert found["steps"] == 1  # 0.65 epochs of two batches
    assert 0 <= found["accuracy"] <= 1
    assert 0 <= found["accuracy_six_views"] <= 1
    assert all(found[name] > 0 for name in ("transforms", "training", "evaluation"))
    assert found["device"] == "cpu"


@pytest.mark.slow
@TORCH
@pytest.mark.parametrize("way", ["xpnet", "PyTorch"])
def test_both_train_a_rung_in_processes_of_their_own(way):
    found = ladder.WAYS[way](_rung()._replace(settings=settings_of("fast-50", 10.0)), 0)
    assert found["steps"] == 22
    assert found["accuracy"] > 0.4
    assert found["accuracy_six_views"] > 0.4


def test_failed_process_is_told_by_its_last_line():
    with pytest.raises(training.TrainingError, match=r"exit code 1: .*nothing_of_the_kind"):
        training._run("-c", "import nothing_of_the_kind")


class InProcess(worker.Worker):
    """A worker in this process."""

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


@pytest.mark.slow
def test_steps_are_measured_beside_their_products(monkeypatch, capsys):
    monkeypatch.setenv("XPNET_FAST", "0")
    monkeypatch.setattr(turns, "Worker", InProcess)
    monkeypatch.setattr(steps, "RECIPES", ("fast-60",))
    few = ["--samples", "600", "--rounds", "1", "--steps-a-round", "1", "--pause", "0"]
    assert main(["learn", "--steps", *few, "--out", "out.json"]) == 0
    suite = read(Path("out.json"))["suites"]["learn-steps"]
    case = suite["cases"]["fast-60"]
    assert case["what"] == "768 → 200-384-192-10, batch 500, shift 1"
    assert {"xpnet without Numba", "products"} <= set(case["rows"])
    assert case["reference"] == "products"
    assert "products take" in capsys.readouterr().out


def test_ratios_are_those_of_the_fastest():
    medians = {"xpnet": 100, "xpnet without Numba": 140, "PyTorch": 210, "PyTorch compiled": 160, "products": 85}
    case = {"rows": {name: {"median": median} for name, median in medians.items()}}
    assert steps.ratios(case) == (pytest.approx(1.6), pytest.approx(0.85))
    assert steps.ratios({"rows": {"xpnet": {"median": 1.0}}}) == (None, None)
    case["rows"]["xpnet float32"] = {"median": 125}
    assert steps.ratios(case) == (pytest.approx(1.6), pytest.approx(0.68))  # products in float32 beside float32


def test_products_are_those_that_are_counted(monkeypatch):
    problem = PictureProblem.of("fast-60", Path())
    products, counted = ours.Products(problem), []
    multiply = np.matmul

    def count(a, b, out):
        counted.append(2 * a.shape[0] * a.shape[1] * b.shape[1])
        return multiply(a, b, out=out)

    monkeypatch.setattr(ours.np, "matmul", count)
    products.epoch(np.zeros((1, 250), np.int64), np.zeros(1))
    assert sum(counted) == pytest.approx(1e12 * tflop(settings_of("fast-60"), 1))


@TORCH
@pytest.mark.parametrize("flip", [0, 1])
def test_tables_of_pictures_are_views_that_are_pooled(flip):
    from bench.peers.torch_pictures import Tables

    rng = np.random.default_rng(0)
    x, samples = rng.integers(0, 256, (20, 3072), np.uint8), rng.integers(0, 20, 49)
    down, right = (move.reshape(-1) - 3 for move in np.mgrid[:7, :7])
    rows = row_of(samples, View(flip, down, right, -1, -1))
    expected = pooled(viewed(np, x[samples].reshape(-1, 3, 32, 32), rows, "reflect"), 2, np.float64)
    found = Tables(x, 3)(samples, down, right, flip).numpy()
    np.testing.assert_array_equal(found, np.floor(expected + 0.5))


@TORCH
def test_pytorch_takes_the_steps_that_xpnet_takes(tmp_path, monkeypatch):
    import torch

    monkeypatch.setenv("XPNET_FAST", "0")
    write_pictures(tmp_path, 600, None, ("fast-60",))
    problem = PictureProblem.of("fast-60", tmp_path, hidden=(40, 20), batch=100)
    xpnet, peer = (make(name, problem) for name in ("xpnet without Numba", "PyTorch"))
    perm, eta = problem.turn(0, 4)
    x, rows = problem.raw().train.x, iter(perm)

    def exact(*_):
        """Return pooled pictures that are not rounded to bytes."""
        row = next(rows)
        pictures = x[samples_of(row)].reshape(-1, 3, 32, 32)
        return torch.from_numpy(pooled(viewed(np, pictures, row, "reflect"), 2, np.float32))

    rounded = peer._tables(samples_of(perm[0]), *view_of(perm[0])[1:3], view_of(perm[0]).flip).numpy()
    assert np.abs(rounded - exact().numpy()).max() <= 0.5
    rows = iter(perm)
    peer._tables = exact
    assert peer.epoch(perm, eta) == pytest.approx(xpnet.epoch(perm, eta), rel=1e-5)
    for number, (W, E) in enumerate(zip(peer.weights(), xpnet.weights(), strict=True), start=1):
        moved = np.linalg.norm(E[0] - problem.initial()[f"W{number}"][0])
        assert np.linalg.norm(W - E[0]) < 1e-3 * moved


def measured(**changes) -> dict:
    """Return a ladder of two rungs and the steps of one recipe that were never measured."""
    suite: dict = {"split": "49k", "epochs_scale": 1.0, "device": "cpu", "cases": {}}
    for name, seconds in (("fast-50", 1.0), ("fast-60", 8.0)):
        rung = training.Rung(name, settings_of(name), "", "49k", "cpu")
        case = suite["cases"][name] = ladder._case(rung)
        for seed in range(3):
            ladder._add(case, "xpnet", figures(seed, seconds + seed, seed=seed, session=0))
            ladder._add(case, "PyTorch", figures(seed, 2 * seconds, seed=seed, session=0, versions={"torch": "9.9"}))
    session = {"command": "python -m bench learn --peers", "date": "2026-01-02", "commit": "abc1234"}
    session |= {"probe_before": PROBE, "probe_after": PROBE}
    medians = {"xpnet": 100.0, "PyTorch": 200.0, "products": 90.0}
    rows = {name: dict.fromkeys(("median", "min", "q1", "q3"), m) | {"values": [m]} for name, m in medians.items()}
    case = {"what": "768 → 200-512-256-10", "unit": "us a step", "reference": "products", "rows": rows}
    suites = {"learn": suite, "learn-steps": {"session": 0, "cases": {"fast-60": case}}}
    result = {"format": "xpnet-bench-2", "command": session["command"], "machine": MACHINE, "sessions": [session]}
    return result | {"suites": suites} | changes


def test_page_holds_the_ladder_the_steps_and_their_source():
    Path("one.json").write_text(json.dumps(measured()))
    text = page.page(newest(Path()))
    row = next(line for line in text.splitlines() if line.startswith("| **fast-60**"))
    assert "| 60 % | 384-192 | 200 | 1 | 500 | 6.5 | 0.827 | 61.00 ± 1.00 | 63.00 ± 1.00 | 9.5 [8.5, 10.5] |" in row
    assert row.endswith("| 16.5 (61.00 ± 1.00 %) | 1.74 |")
    assert "| times as fast as the faster PyTorch (bar: 1.5) | 2.00 |" in text
    assert "| products / xpnet in float32 (bar: 80 %) | 90 % |" in text
    assert "`python -m bench learn --peers`, 2026-01-02, commit abc1234: 2 cores of an Abacus" in text
    assert "torch 9.9" in text
    assert "| **61.0; 63.0** | xpnet, " in text
    empty = page.page({})
    assert empty.count("Not measured yet.") == 2
    assert "| 85.2 |" in empty
    assert "| Muon | −6.7 |" in empty


def test_rung_below_its_target_is_not_bold():
    result = measured()
    for run in result["suites"]["learn"]["cases"]["fast-60"]["rows"]["xpnet"]["runs"]:
        run["accuracy"] -= 0.05
    result["suites"]["learn"]["cases"]["fast-60"]["rows"]["xpnet"]["accuracy"] -= 0.05
    Path("one.json").write_text(json.dumps(result))
    assert "| fast-60 | 60 % |" in page.page(newest(Path()))


def test_page_and_figures_of_recipes_are_written_and_checked(tmp_path):
    Path("results").mkdir()
    Path("docs").mkdir()
    Path("xpnet/config").mkdir(parents=True)
    Path("results/one.json").write_text(json.dumps(measured()))
    where = ["--root", str(tmp_path), "--results", "results"]
    assert main(["learn", "--page", "--check", *where]) == 1
    assert main(["learn", "--page", *where]) == 0
    assert main(["learn", "--page", "--check", *where]) == 0
    reached = tomllib.loads(Path("xpnet/config/recipes_reached.toml").read_text())["fast-60"]
    assert (reached["accuracy"], reached["seconds"], reached["seeds"]) == (0.61, 9.5, 3)
    assert reached["where"] == "2 cores of an Abacus, 2026-01-02"
    assert Path("docs/images/learning.png").stat().st_size > 1000


@pytest.mark.pictures
def test_chart_has_a_point_for_each_seed():
    spec = page.chart(measured()["suites"]["learn"]["cases"]).to_dict()
    line, dots, labels = (spec["datasets"][layer["data"]["name"]] for layer in spec["layer"])
    assert spec["layer"][1]["encoding"]["x"]["scale"]["type"] == "log"
    assert (len(line), len(dots)) == (4, 12)
    assert [label["t"] for label in labels] == ["fast-50", "fast-60"]


def test_ladder_is_no_part_of_the_performance_page():
    from bench.page import slots

    Path("one.json").write_text(json.dumps(measured()))
    assert "one.json" not in slots(newest(Path()))["machine"]


def test_the_projects_page_is_what_the_newest_results_give():
    for path, text in page.wanted(newest()).items():
        assert (ROOT / path).read_text(encoding="utf-8") == text, f"{path}: run python -m bench learn --page"
