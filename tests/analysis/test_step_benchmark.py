"""What ``xpnet bench`` and the project's benchmarks share: steps of training, their floor, and turns."""

from __future__ import annotations

import types
from itertools import pairwise

import numpy as np
import pytest

import xpnet
from xpnet.analysis import step_benchmark
from xpnet.training.steppers import Hyperparameters, make_stepper


def test_steps_are_those_of_training():
    data = step_benchmark.noise(300, inputs=20, classes=4)
    config = xpnet.NetworkConfig(inputs=20, hidden=(6,), classes=4)
    networks = [xpnet.Network(config, replicas=2) for _ in range(2)]
    perm, eta = step_benchmark.order(300, 3, 70, seed=1), np.linspace(0.01, 0.1, 70)
    assert len(np.unique(perm)) == perm.size
    part = xpnet.to_device(data, networks[0].backend, "float32").train
    whole = step_benchmark.Steps(networks[0], part, [0.0, 0.1])
    stepper, sizes = whole._stepper, []
    assert type(stepper) is type(make_stepper(networks[0], part.x, part.labels, Hyperparameters(np.zeros(2))))
    whole._stepper = types.SimpleNamespace(run=lambda *a: (sizes.append(len(a[1])), stepper.run(*a)))
    assert whole(perm, eta).shape == (2,)
    assert sizes == [50, 20]
    in_parts = step_benchmark.Steps(networks[1], part, [0.0, 0.1])
    for part in (slice(0, 50), slice(50, 70)):
        in_parts(perm[part], eta[part])
    for name, p in networks[0].parameters.items():
        np.testing.assert_array_equal(p, networks[1].parameters[name])


@pytest.mark.parametrize(("sizes", "replicas"), [((20, 6, 5, 4), 1), ((20, 6, 5, 4), 3), ((20, 4), 1)])
def test_the_floor_does_the_gather_and_the_products(sizes, replicas, monkeypatch):
    monkeypatch.setattr(step_benchmark, "_BLOCK_BYTES", 200)
    x = np.random.default_rng(0).standard_normal((30, 20), dtype=np.float32)
    floor = step_benchmark.Floor(sizes, 7, x, replicas)
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

    times = step_benchmark.in_turn({"a": contender("a"), "b": contender("b")}, 2)
    assert said == [(0, "a"), (0, "b"), (1, "a"), (1, "b"), (2, "a"), (2, "b")]
    assert times == {"a": [0, 1, 2], "b": [0, 1, 2]}
    found = step_benchmark.summary([4.0, 1.0, 2.0, 3.0, 5.0])
    assert (found["min"], found["q1"], found["median"], found["q3"]) == (1, 2, 3, 4)
    assert step_benchmark.summary([2.0])["q3"] == 2


@pytest.mark.parametrize(
    ("gpu_times", "size"), [((9, 9, 9), None), ((9, 1, 1), 100), ((1, 1, 1), 50), ((1, 9, 1), 200), ((1, 1, 9), None)]
)
def test_a_gpu_wins_from_where_it_never_loses_again(gpu_times, size):
    points = [(n, 5.0, float(t)) for n, t in zip((50, 100, 200), gpu_times, strict=True)]
    assert step_benchmark.wins_from(points) == size


def test_steps_take_the_momentum_of_the_training():
    config = xpnet.NetworkConfig(inputs=12, hidden=(5,), classes=3)
    moved = []
    for training in (None, xpnet.TrainConfig(momentum=0.9, nesterov=True)):
        network = xpnet.Network(config, dtype="float64")
        before = network.parameters["W1"].copy()
        data = xpnet.to_device(step_benchmark.noise(20, 12, 3), network.backend, network.dtype)
        steps = step_benchmark.Steps(network, data.train, 0.0, training)
        steps(np.arange(10)[None], np.array([0.1]))
        moved.append(steps.state.parameters["W1"] - before)
    # The first step of Nesterov's form goes 1 + rho times as far.
    np.testing.assert_allclose(moved[1], 1.9 * moved[0], rtol=1e-9)
