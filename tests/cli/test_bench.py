"""``xpnet bench``, on the CPU and beside a stand-in for a GPU."""

from __future__ import annotations

import json
import sys
import types
from itertools import pairwise

import numpy as np
import pytest
from command_line import run
from strict import Module, pretended_cupy

import xpnet
from xpnet.analysis import benchmark
from xpnet.cli import bench
from xpnet.training.steppers import Hyperparameters, make_stepper

SMALL = ["--samples", "400", "--rounds", "2", "--hidden", "8"]


@pytest.fixture
def gpu(monkeypatch) -> Module:
    module = pretended_cupy(monkeypatch)
    monkeypatch.setattr(bench, "_WIDTHS", (4, 8))
    monkeypatch.setattr(bench, "_BATCHES", (20, 50))
    monkeypatch.setattr(bench, "_STEPS", 2)
    return module


def test_the_cpu_stands_beside_its_floor(capsys):
    code, out, err = run(capsys, "bench", *SMALL, "--json", "--device", "cpu")
    assert (code, err) == (0, "")
    result = json.loads(out)
    assert result["network"] == "3072-8-10 with BN, batch 100"
    assert (result["samples"], result["rounds"], result["steps"]) == (400, 2, 4)
    assert set(result["devices"]) == {"cpu", "floor"}
    cpu, floor = result["devices"]["cpu"], result["devices"]["floor"]
    assert cpu["us_per_step"] == pytest.approx(cpu["median"] / 4 * 1e6)
    assert cpu["floor_reached"] == pytest.approx(floor["median"] / cpu["median"])
    assert len(cpu["values"]) == 2
    assert result["sweeps"] == {}


def test_without_a_gpu_one_line_says_why(capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "cupy", None)
    code, out, err = run(capsys, "bench", *SMALL, "--no-batch-norm", "--batch-size", "50")
    assert code == 0
    assert len(err.strip().splitlines()) == 1
    assert "no GPU, so the CPU alone: CuPy" in err
    assert "3072-8-10 without BN, batch 50" in out
    for words in ("cpu", "floor (gather and products)", "s an epoch", "µs a step", "%"):
        assert words in out
    assert run(capsys, "bench", *SMALL, "--quiet")[1:] == ("", "")


@pytest.mark.slow
def test_devices_stand_side_by_side_and_sizes_are_swept(capsys, gpu):
    code, out, err = run(capsys, "bench", *SMALL, "--json")
    assert code == 0, err
    result = json.loads(out)
    assert list(result["devices"]) == ["cpu", "gpu:0", "floor"]
    assert set(result["sweeps"]) == {"width", "batch_size"}
    assert [point["size"] for point in result["sweeps"]["width"]["points"]] == [4, 8]
    assert all(point["cpu_us"] > 0 < point["gpu_us"] for point in result["sweeps"]["batch_size"]["points"])
    assert gpu.launches > 100
    out = run(capsys, "bench", *SMALL)[1]
    assert "gpu:0" in out
    assert out.count("wins from") + out.count("does not win") == 2


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--samples", "50"], "samples = 50: must be at least the batch size, which is 100"),
        (["--rounds", "0"], "rounds = 0"),
        (["--batch-size", "1"], "batch_size = 1"),
        (["--device", "cpu,"], "device = cpu,"),
        (["--device", "tpu"], "device = tpu: must be auto, cpu, gpu or gpu:N"),
        (["--hidden", "fifty"], "hidden"),
    ],
)
def test_what_is_wrong_is_one_sentence(capsys, arguments, sentence):
    code, out, err = run(capsys, "bench", *arguments)
    assert (code, out) == (2, "")
    assert sentence in err
    assert len(err.strip().splitlines()) == 1


def test_steps_are_those_of_training():
    data = benchmark.noise(300, inputs=20, classes=4)
    config = xpnet.NetworkConfig(inputs=20, hidden=(6,), classes=4)
    networks = [xpnet.Network(config, replicas=2) for _ in range(2)]
    perm, eta = benchmark.order(300, 3, 70, seed=1), np.linspace(0.01, 0.1, 70)
    assert len(np.unique(perm)) == perm.size
    part = xpnet.to_device(data, networks[0].backend, "float32").train
    whole = benchmark.Steps(networks[0], part, [0.0, 0.1])
    stepper, sizes = whole._stepper, []
    assert type(stepper) is type(make_stepper(networks[0], part.x, part.labels, Hyperparameters(np.zeros(2))))
    whole._stepper = types.SimpleNamespace(run=lambda *a: (sizes.append(len(a[1])), stepper.run(*a)))
    assert whole(perm, eta).shape == (2,)
    assert sizes == [50, 20]
    in_parts = benchmark.Steps(networks[1], part, [0.0, 0.1])
    for part in (slice(0, 50), slice(50, 70)):
        in_parts(perm[part], eta[part])
    for name, p in networks[0].parameters.items():
        np.testing.assert_array_equal(p, networks[1].parameters[name])


@pytest.mark.parametrize(("sizes", "replicas"), [((20, 6, 5, 4), 1), ((20, 6, 5, 4), 3), ((20, 4), 1)])
def test_the_floor_does_the_gather_and_the_products(sizes, replicas, monkeypatch):
    monkeypatch.setattr(benchmark, "_BLOCK_BYTES", 200)
    x = np.random.default_rng(0).standard_normal((30, 20), dtype=np.float32)
    floor = benchmark.Floor(sizes, 7, x, replicas)
    shapes, matmul = [], np.matmul

    def counted(a, b, out):
        shapes.append((a.shape, b.shape))
        return matmul(a, b, out)

    monkeypatch.setattr(np, "matmul", counted)
    floor(np.array([[3, 1, 4, 1, 5, 9, 2]]))
    np.testing.assert_array_equal(floor._batch, x[[3, 1, 4, 1, 5, 9, 2]])
    flops = sum(2 * np.prod(a) * b[-1] for a, b in shapes)
    products = sum(a * b * (2 if i == 0 else 3) for i, (a, b) in enumerate(pairwise(sizes)))
    assert flops == 2 * 7 * replicas * products


def test_turns_and_summaries():
    said = []

    def contender(name):
        return lambda number: (said.append((number, name)), float(number))[1]

    times = benchmark.in_turn({"a": contender("a"), "b": contender("b")}, 2)
    assert said == [(0, "a"), (0, "b"), (1, "a"), (1, "b"), (2, "a"), (2, "b")]
    assert times == {"a": [0, 1, 2], "b": [0, 1, 2]}
    found = benchmark.summary([4.0, 1.0, 2.0, 3.0, 5.0])
    assert (found["min"], found["q1"], found["median"], found["q3"]) == (1, 2, 3, 4)
    assert benchmark.summary([2.0])["q3"] == 2


@pytest.mark.parametrize(
    ("gpu_times", "size"), [((9, 9, 9), None), ((9, 1, 1), 100), ((1, 1, 1), 50), ((1, 9, 1), 200), ((1, 1, 9), None)]
)
def test_a_gpu_wins_from_where_it_never_loses_again(gpu_times, size):
    points = [(n, 5.0, float(t)) for n, t in zip((50, 100, 200), gpu_times, strict=True)]
    assert benchmark.wins_from(points) == size
