"""A checker that cannot fail is worthless: broken backward passes, and where each is found."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from gradcheck_cases import broken_bn, network, samples

from xpnet.analysis.gradcheck import check_network
from xpnet.analysis.gradcheck.problem import Problem

LAM = 0.1


def replaced(name: str, function: Any) -> Any:
    """Return a fault that puts `function` in the place of an operation, which it gets as `original`."""

    def fault(net: Any) -> None:
        original = getattr(net.ops, name)
        net.ops = net.ops._replace(**{name: lambda *args: function(original, *args)})

    return fault


def bn(**changes: Any) -> Any:
    """Return a fault of the backward pass of BN; values that are functions get g, forward and n."""

    def change(**about: Any) -> dict[str, Any]:
        return {key: value(**about) if callable(value) else value for key, value in changes.items()}

    broken = broken_bn(change)

    def fault(net: Any) -> None:
        net.ops = net.ops._replace(batch_norm_activation_gradients=broken)

    return fault


def gradients(change: Any) -> Any:
    """Return a fault that changes the finished gradients in place."""

    def fault(net: Any) -> None:
        original = net.cost_and_gradients

        def changed(x: Any, labels: Any, lam: Any = 0.0, label_smoothing: Any = 0.0) -> Any:
            cost, found = original(x, labels, lam, label_smoothing)
            change(found, net, lam)
            return cost, found

        net.cost_and_gradients = changed

    return fault


def half_penalty(found: Any, net: Any, lam: Any) -> None:
    for name in found:
        if name.startswith("W"):
            found[name] -= lam * net.parameters[name]


def penalty_on_biases(found: Any, net: Any, lam: Any) -> None:
    for name in found:
        if name.startswith("b") and not name.startswith("beta"):
            found[name] += 2 * lam * net.parameters[name]


def one_entry(found: Any, net: Any, lam: Any) -> None:
    found["W1"][0, 3, 2] *= 1.001


def not_a_number(found: Any, net: Any, lam: Any) -> None:
    found["W2"][0, 1, 1] = np.nan


def scaled_cross_entropy(factor: float) -> Any:
    return lambda original, s, labels, scale, *out: original(s, labels, scale * factor)


def forgotten_onehot(original: Any, s: Any, labels: Any, scale: Any, *out: Any) -> Any:
    result = original(s, labels, scale)
    onehot = labels[..., None] == np.arange(s.shape[-1])
    return result._replace(g=result.g + onehot * scale)


def next_label(original: Any, s: Any, labels: Any, scale: Any, *out: Any) -> Any:
    right = original(s, labels, scale)
    return right._replace(g=original(s, (labels + 1) % s.shape[-1], scale).g)


# What is broken; where it is found first; options of the network.
FAULTS: dict[str, tuple[Any, str, dict[str, Any]]] = {
    "penalty: the 2 in 2 lam W dropped": (gradients(half_penalty), "W3", {}),
    "penalty on biases too": (gradients(penalty_on_biases), "b3", {}),
    "BN: mean term forgotten": (bn(mean_factor=0), "W2", {}),
    "BN: mean term forgotten, seen by the bias before it": (bn(mean_factor=0), "b2", {"bias_before_bn": True}),
    "BN: variance term forgotten": (bn(variance_factor=0), "W2", {}),
    "BN: variance term of the wrong sign": (bn(variance_factor=-1), "W2", {}),
    "BN: 1 / (n - 1) in the variance term": (bn(variance_factor=lambda n, **_: n / (n - 1)), "W2", {}),
    "BN: unbiased variance": (
        bn(inv_std=lambda forward, n, **_: 1 / np.sqrt(forward.var * n / (n - 1) + 1e-5)),
        "gamma2",
        {},
    ),
    "BN: statistics taken for constants": (bn(mean_factor=0, variance_factor=0), "W2", {}),
    "BN: running statistics": (bn(inv_std=lambda forward, **_: np.ones_like(forward.inv_std)), "gamma2", {}),
    "BN: mean of the first sample alone": (
        bn(centred=lambda forward, **_: forward.centred - forward.centred[:, :1]),
        "gamma2",
        {},
    ),
    "BN: gamma forgotten": (bn(with_gamma=False), "W2", {}),
    "BN: gamma and beta swapped": (bn(swapped=True), "beta2", {}),
    "BN: eps outside the root": (
        bn(inv_std=lambda forward, **_: 1 / (np.sqrt(forward.var) + 1e-2)),
        "gamma2",
        {"bn_eps": 1e-2},
    ),
    "BN: sign of the gradient": (bn(s_factor=-1), "W2", {}),
    "BN: ReLU mask dropped": (bn(g=lambda g, **_: g), "beta2", {}),
    "ReLU mask dropped": (replaced("activation_gradient", lambda original, g, *_: g), "b2", {"batch_norm": False}),
    "ReLU mask of the wrong sign": (
        replaced("activation_gradient", lambda original, g, forward, *out: g * (forward.y <= 0)),
        "b2",
        {"batch_norm": False},
    ),
    "leaky ReLU backwards": (
        replaced("activation_gradient", lambda original, g, forward, *out: g * np.where(forward.y > 0, 1, 1e-3)),
        "b2",
        {"batch_norm": False},
    ),
    "W not transposed for the layer below": (
        replaced(
            "input_gradient",
            lambda original, g, W, *out: g @ W if W.shape[-1] == W.shape[-2] else original(g, W),
        ),
        "beta1",
        {},
    ),
    "g'x for x'g": (
        replaced(
            "weight_gradient",
            lambda original, x, g, *out: (
                np.swapaxes(original(x, g), -1, -2) if x.shape[-1] == g.shape[-1] else original(x, g)
            ),
        ),
        "W2",
        {},
    ),
    "mean over the samples forgotten": (replaced("softmax_cross_entropy", scaled_cross_entropy(24)), "b3", {}),
    "onehot forgotten": (replaced("softmax_cross_entropy", forgotten_onehot), "b3", {}),
    "labels off by one": (replaced("softmax_cross_entropy", next_label), "b3", {}),
    "bias: mean for the sum": (
        replaced("bias_gradient", lambda original, g, *out: original(g) / g.shape[-2]),
        "b3",
        {},
    ),
    "one entry off by a thousandth": (gradients(one_entry), "W1", {}),
    "not a number": (gradients(not_a_number), "W2", {}),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_fault_is_found_where_it_is(fault: str):
    break_it, first, options = FAULTS[fault]
    net = network(**options)
    x, labels = samples()
    assert check_network(net, x, labels, LAM).passed
    break_it(net)
    report = check_network(net, x, labels, LAM)
    assert not report.passed
    assert report.reason.startswith(f"{first} fails"), report.reason
    assert not report[first].passed
    assert report.worst is not None
    assert not report.worst.passed
    if fault not in ("one entry off by a thousandth", "not a number"):
        # Two evaluations along a random direction see errors in any entry; a sample of one entry a tensor could not.
        sampled = check_network(net, x, labels, LAM, coverage=1)
        assert not sampled.passed
        assert sampled.direction_error > 1e-5


def altered_batch_norm(net: Any) -> None:
    original = net.ops.batch_norm_activation
    net.ops = net.ops._replace(
        batch_norm_activation=lambda s, gamma, beta, eps, out=None: original(s * 1.01, gamma, beta, 4 * eps)
    )


def term_of_the_cost_without_gradient(net: Any) -> None:
    original = net.cost_and_gradients

    def with_another_term(x: Any, labels: Any, *numbers: Any) -> Any:
        cost, found = original(x, labels, *numbers)
        return cost + 1e-3 * sum(abs(p).sum() for p in net.parameters.values()), found

    net.cost_and_gradients = with_another_term


def changed_running_statistics(net: Any) -> None:
    original = net.cost_and_gradients

    def careless(x: Any, labels: Any, *numbers: Any) -> Any:
        net.running["mean1"] = net.running["mean1"] + 0.1
        return original(x, labels, *numbers)

    net.cost_and_gradients = careless


@pytest.mark.parametrize(
    ("break_it", "reason"),
    [
        (altered_batch_norm, "own cost"),
        (term_of_the_cost_without_gradient, "own cost"),
        (changed_running_statistics, "running statistics"),
    ],
)
def test_fault_of_the_cost_or_the_statistics_is_found(break_it: Any, reason: str):
    net = network()
    break_it(net)
    report = check_network(net, *samples())
    assert not report.passed
    assert reason in report.reason


def test_wrong_closed_form_of_the_penalty_is_found(monkeypatch: pytest.MonkeyPatch):
    original = Problem.penalty
    monkeypatch.setattr(Problem, "penalty", lambda self, parameters: original(self, parameters) * 1.5)
    x, labels = samples()
    report = check_network(network(), x, labels, LAM)
    assert not report.passed
    assert "penalty" in report.reason


def test_error_below_the_tolerance_passes_and_above_fails():
    net = network()
    x, labels = samples()
    _, found = net.cost_and_gradients(x, labels)
    for factor, passes in ((1 + 4e-6, True), (1 + 1e-4, False)):
        given = {name: value * factor for name, value in found.items()}
        assert check_network(net, x, labels, gradients=given).passed is passes
