"""Fast slopes against complete forward passes, and gradients against PyTorch's."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from gradcheck_cases import network, samples, sizes_of_terms, torch_gradients
from hypothesis import given, settings
from hypothesis import strategies as st

from xpnet.analysis.gradcheck import check_network, slopes
from xpnet.analysis.gradcheck.problem import Problem, losses
from xpnet.analysis.gradcheck.slopes import FastSlopes, naive_slopes
from xpnet.backend import get_backend
from xpnet.ops import get_reference
from xpnet.ops.activations import ACTIVATIONS

nets = st.fixed_dictionaries(
    {
        "hidden": st.lists(st.integers(1, 6), max_size=3).map(tuple),
        "batch_norm": st.booleans(),
        "bias_before_bn": st.booleans(),
        "seed": st.integers(0, 1000),
        "activation": st.sampled_from([*ACTIVATIONS]),
    }
).map(lambda options: options | {"bias_before_bn": options["bias_before_bn"] and options["batch_norm"]})


@given(options=nets, n=st.integers(2, 20), step=st.sampled_from([1e-3, 6e-6]))
@settings(max_examples=25, deadline=None)
def test_fast_and_naive_agree_to_round_off(options: dict[str, Any], n: int, step: float):
    # Where BN divides by a deviation of a thousandth, round-off is a thousand times larger: bn_eps bounds it.
    problem = Problem.of(network(**options, bn_eps=1e-2), *samples(n), 0.0)
    evaluate = FastSlopes(problem)
    for name, p in problem.parameters.items():
        flat = np.arange(p.size)
        for plus, minus in ((step, -step), (0.0, -step), (-step, -2 * step)):
            offsets = np.full(p.size, plus), np.full(p.size, minus)
            (a, kinked_a), (b, kinked_b) = evaluate(name, flat, *offsets), naive_slopes(problem, name, flat, *offsets)
            np.testing.assert_allclose(a, b, rtol=0, atol=5e-14 / (plus - minus))
            # A ReLU input within round-off of 0 may be counted by one of them alone.
            assert (kinked_a != kinked_b).sum() <= 1


@pytest.mark.parametrize("method", ["fast", "naive"])
def test_check_by_any_method_and_chunk_finds_the_same_slopes(monkeypatch: pytest.MonkeyPatch, method: str):
    x, labels = samples()
    expected = check_network(network(), x, labels, 0.01)
    monkeypatch.setattr(slopes, "CHUNK_BYTES", 1)
    report = check_network(network(), x, labels, 0.01, method=method)
    assert report.passed
    for a, b in zip(report.parameters, expected.parameters, strict=True):
        np.testing.assert_allclose(a.entries.numerical, b.entries.numerical, atol=1e-9)


@pytest.mark.parametrize("threads", [1, 3])
def test_check_with_any_threads_is_the_same(threads: int):
    x, labels = samples()
    report = check_network(network(), x, labels, 0.01, threads=threads)
    expected = check_network(network(), x, labels, 0.01, threads=2)
    assert [t.to_json() for t in report.parameters] == [t.to_json() for t in expected.parameters]


def test_losses_are_those_of_the_reference():
    rng = np.random.default_rng(0)
    logits, labels = 30 * rng.standard_normal((20, 7)), rng.integers(7, size=20)
    expected = get_reference(get_backend("cpu")).softmax_cross_entropy(logits[None], labels, 1.0).losses[0]
    np.testing.assert_allclose(losses(logits.T.copy(), labels), expected, rtol=1e-14, atol=1e-14)


@given(
    options=nets,
    lam=st.sampled_from([0.0, 0.3]),
    n=st.integers(2, 30),
)
@settings(max_examples=20, deadline=None)
def test_gradients_are_those_of_pytorch(options: dict[str, Any], lam: float, n: int):
    pytest.importorskip("torch", reason="compares with PyTorch, which is not installed")
    net = network(**options)
    x, labels = samples(n)
    cost, found = net.cost_and_gradients(x, labels, lam)
    expected_cost, expected = torch_gradients(net, x, labels, lam)
    assert cost[0] == pytest.approx(expected_cost, rel=1e-12)
    terms = sizes_of_terms(net, x)
    for name, gradient in expected.items():
        # Each gradient is a sum of terms, and round-off is that of the terms: BN of two samples subtracts from dJ/ds
        # its mean and its share along s_hat, which leaves of terms that 1 / std has magnified next to nothing.
        size = np.linalg.norm(gradient) + np.linalg.norm(found[name])
        allowed = 1e-12 * size + 100 * np.finfo(float).eps * terms[name]
        assert np.linalg.norm(found[name][0] - gradient) <= allowed, name


def test_differences_of_each_samples_loss_have_less_round_off_than_those_of_the_mean():
    n, h = 400, 1e-8  # small enough that round-off is all there is
    net = network((6, 6))
    x, labels = samples(n)
    exact = net.cost_and_gradients(x, labels)[1]["W1"].reshape(-1)
    problem = Problem.of(net, x, labels, 0.0)

    def mean_cost(index: int, offset: float) -> tuple[float, float]:
        moved = problem.parameters["W1"].copy()
        moved.flat[index] += offset
        return float(problem.evaluate(problem.parameters | {"W1": moved})[0].mean()), moved.flat[index]

    def of_means(index: int) -> float:
        (plus, p), (minus, q) = mean_cost(index, h), mean_cost(index, -h)
        return (plus - minus) / (p - q)

    def error(slopes: object) -> float:
        return float(np.sqrt(np.mean((slopes - exact) ** 2)))

    flat = np.arange(exact.size)
    steps = np.full(exact.size, h)
    noise = error(np.array([of_means(index) for index in flat]))
    assert error(FastSlopes(problem)("W1", flat, steps, -steps)[0]) < noise / 2
