"""Reports: measures, kinks, zeros, vanishing gradients, samples, interruption."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from gradcheck_cases import network, samples

import xpnet
from xpnet.analysis.gradcheck import GradcheckReport, check_network, gradcheck, sweep_h
from xpnet.analysis.gradcheck.problem import choose, choose_rows, parse_coverage
from xpnet.errors import ArrayError, ConfigError
from xpnet.report.curves_chart import save_figure
from xpnet.report.gradcheck_chart import check_figure


def small(**options: Any) -> tuple[xpnet.Network, np.ndarray, np.ndarray]:
    return network(**options), *samples()


def passed(*arguments: Any, **options: Any) -> GradcheckReport:
    """Return the report of a check that must pass."""
    report = check_network(*arguments, **options)
    assert report.passed, report.reason
    return report


def test_measures_are_what_they_are_called():
    net, x, labels = small()
    _, found = net.cost_and_gradients(x, labels, 0.1)
    found["W2"][0, 2, 3] += 1e-3
    report = check_network(net, x, labels, 0.1, gradients=found)
    tensor = report["W2"]
    a, b = tensor.entries.analytic, tensor.entries.numerical
    np.testing.assert_array_equal(a, found["W2"].ravel())
    relative = np.abs(a - b) / np.maximum(1e-6, np.abs(a) + np.abs(b))
    assert tensor.max_relative_error == pytest.approx(relative.max())
    assert tensor.mean_relative_error == pytest.approx(relative.mean())
    assert tensor.max_absolute_error == pytest.approx(1e-3, rel=1e-4)
    assert tensor.norm_error == pytest.approx(np.linalg.norm(a - b) / (np.linalg.norm(a) + np.linalg.norm(b)), rel=1e-9)
    assert tensor.at == (2, 3)
    assert tensor.failing == 1
    assert tensor.analytic == found["W2"][0, 2, 3]
    assert tensor.numerical == pytest.approx(tensor.analytic - 1e-3)
    assert report.worst is tensor
    assert "[2, 3]" in report.reason


def test_json_has_what_the_design_says_and_finite_numbers_alone():
    net, x, labels = small(bias_before_bn=True)
    _, found = net.cost_and_gradients(x, labels)
    found["W1"][0, 0, 0] = np.inf
    for given in (None, found):
        report = check_network(net, x, labels, gradients=given)
        printed = json.loads(json.dumps(report.to_json(), allow_nan=False))
        assert printed["passed"] is (given is None)
        assert printed["checked"] == printed["of"] == net.size
        assert {"name", "at", "max_relative_error"} <= set(printed["worst"])
        for parameter, name in zip(printed["parameters"], net.parameters, strict=True):
            assert parameter["name"] == name
            keys = {"name", "checked", "max_relative_error", "max_absolute_error", "at", "kinks", "note"}
            assert keys <= set(parameter)


def test_biases_before_bn_are_zero_by_construction():
    net, x, labels = small(bias_before_bn=True)
    report = passed(net, x, labels, 0.1)
    for name in ("b1", "b2"):
        assert report[name].verdict == "zero by construction"
        assert "analytic at most" in report[name].note
        assert report[name].max_absolute_error < 1e-9
    assert report["b3"].verdict == "passed"
    assert report.worst is not None
    assert report.worst.name not in ("b1", "b2")


def test_bias_before_bn_with_a_gradient_fails():
    net, x, labels = small(bias_before_bn=True)
    _, found = net.cost_and_gradients(x, labels)
    found["b1"] = found["b1"] + 1e-7
    report = check_network(net, x, labels, gradients=found)
    assert not report.passed
    assert report.reason.startswith("b1 fails")
    assert "must be zero" in report["b1"].note


def test_kink_is_avoided_on_its_other_side():
    # One ReLU input lies within the step of 0: the central difference is wrong, that of one side is not.
    net, x, labels = small(batch_norm=False)
    s = x @ net.parameters["W1"][0] + net.parameters["b1"][0]
    net.parameters["b1"][0, 0, 2] -= s[7, 2] - 1e-7
    report = passed(net, x, labels)
    assert report["b1"].one_sided == 1
    assert 1 <= report["W1"].one_sided <= 5
    assert report.kinks == 0
    assert report["b1"].max_absolute_error < 1e-9


def test_kinks_closer_on_both_sides_shrink_the_step():
    net, x, labels = small(batch_norm=False)
    s = x @ net.parameters["W1"][0] + net.parameters["b1"][0]
    W = net.parameters["W1"]
    # Move two inputs of one unit to 1e-6 above and below 0 by its bias and one weight.
    change = np.linalg.solve(np.array([[1, x[7, 0]], [1, x[8, 0]]]), [1e-6 - s[7, 2], -1e-6 - s[8, 2]])
    net.parameters["b1"][0, 0, 2] += change[0]
    W[0, 0, 2] += change[1]
    report = passed(net, x, labels)
    assert report["b1"].smaller_steps == 1
    assert report.kinks == 0


def test_kinks_that_stay_are_left_out_and_counted():
    # All inputs of unit 1 are exactly 0: its weights have no derivative, its bias that of its off side.
    net, x, labels = small(batch_norm=False)
    net.parameters["W1"][0, :, 1] = 0
    net.parameters["b1"][0, 0, 1] = 0
    report = passed(net, x, labels)
    assert report["W1"].kinks == report.kinks == 5
    assert report["W1"].checked == 25
    assert report.checked == report.of - 5
    assert report["b1"].kinks == 0
    assert report["b1"].one_sided == 1
    assert "5 left out at kinks" in report.reason
    assert report.direction["kinked"]


def test_tensor_of_nothing_but_kinks_is_unchecked_and_named():
    config = xpnet.NetworkConfig(inputs=1, hidden=(1,), classes=2, batch_norm=False)
    net = xpnet.Network(config, dtype="float64")
    net.parameters["W1"][...] = 0
    report = check_network(net, np.array([[1.0], [-1.0]]), np.array([0, 1]))
    assert report["W1"].verdict == "unchecked"
    assert report["W1"].note == "every probe meets a kink"
    assert report.passed
    assert "W1 unchecked" in report.reason


def test_dead_samples_leave_biases_that_can_be_checked():
    # Sample 0 reaches no unit of layer 1, so that its input of layer 2 is its bias, which is exactly 0.
    net, x, labels = small(batch_norm=False)
    x[0] = 0
    net.parameters["b1"][...] = -0.2
    net.parameters["b2"][...] = 0
    report = passed(net, x, labels)
    assert report["b2"].checked == 6
    assert report["b2"].one_sided == 6
    assert report.direction_error < 1e-6
    assert not report.direction["kinked"]


def test_vanishing_gradients_are_named():
    config = xpnet.NetworkConfig(inputs=8, hidden=(12, 10, 8, 6, 6, 6, 6, 6), batch_norm=False, init=1e-4)
    x, labels = samples(30, 8, 10)
    report = gradcheck(config, x, labels)
    assert report.passed, report.reason
    assert report["W1"].verdict == "vanishing"
    assert "vanishing" in report["W1"].note or "zero" in report["W1"].note
    assert "W1" in report.reason
    assert "vanish" in report.reason
    assert report["b9"].verdict == "passed"


def test_curvature_is_told_from_error():
    # Tiny weights before BN make the usual step a large one; the error of a difference is not the gradient's.
    x, labels = samples(10)
    net = network(init=1e-4, bn_eps=1e-10)
    report = passed(net, x, labels)
    assert sum(t.smaller_steps for t in report.parameters) > 0
    _, found = net.cost_and_gradients(x, labels)
    broken = {name: g * (1.0001 if name == "W1" else 1) for name, g in found.items()}
    assert not check_network(net, x, labels, gradients=broken).passed


def test_network_is_not_changed():
    net, x, labels = small()
    before = {name: value.copy() for name, value in {**net.parameters, **net.running}.items()}
    check_network(net, x, labels)
    for name, value in {**net.parameters, **net.running}.items():
        np.testing.assert_array_equal(value, before[name])


@pytest.mark.parametrize(
    ("coverage", "expected"),
    [("all", 5000), (None, 5000), (0.1, 500), ("0.1", 500), (1000, 1000), ("1000", 1000), (1.0, 5000), (10**9, 5000)],
)
def test_coverage(coverage: Any, expected: int):
    assert parse_coverage(coverage, 5000) == expected
    assert parse_coverage(None, 2_000_001) == 10_000


@pytest.mark.parametrize("coverage", ["some", 0, -1, 0.0, 1.5, "1.5", True, "nan", [3]])
def test_bad_coverage(coverage: Any):
    with pytest.raises(ConfigError, match="coverage"):
        parse_coverage(coverage, 5000)


def test_rows_are_chosen_once_each_by_seed():
    rows = choose_rows(100, 20, seed=1)
    assert len(np.unique(rows)) == 20
    assert rows.max() < 100
    assert (rows == choose_rows(100, 20, seed=1)).all()
    assert (rows != choose_rows(100, 20, seed=2)).any()


def test_sample_is_stratified_and_seeded():
    sizes = {"W1": 1000, "b1": 5, "W2": 100, "b2": 2}
    chosen = choose(sizes, 120, seed=1)
    assert {name: len(flat) for name, flat in chosen.items()} == {"W1": 57, "b1": 5, "W2": 56, "b2": 2}
    assert all(len(np.unique(flat)) == len(flat) for flat in chosen.values())
    again, other = choose(sizes, 120, seed=1), choose(sizes, 120, seed=2)
    assert all((chosen[name] == again[name]).all() for name in sizes)
    assert (chosen["W1"] != other["W1"]).any()
    assert {name: len(flat) for name, flat in choose(sizes, 1, seed=0).items()} == dict.fromkeys(sizes, 1)


def test_sampled_check():
    net, x, labels = small()
    done: list[int] = []
    report = passed(net, x, labels, coverage=40, progress=done.append)
    assert report.checked == sum(done) == 40
    assert report.of == net.size
    assert all(t.checked for t in report.parameters)
    assert f"40 of {net.size}" in report.reason
    assert report.settings["coverage"] == 40


def test_interruption_returns_what_is_known():
    net, x, labels = small()
    done: list[int] = []
    report = check_network(
        net, x, labels, progress=done.append, should_stop=lambda: sum(done) >= 40, method="naive", threads=1
    )
    assert report.interrupted
    assert not report.passed
    assert 40 <= report.checked < report.of
    assert report["b3"].verdict == "passed"
    assert report["W1"].note == "not reached"
    assert "interrupted after" in report.reason
    json.dumps(report.to_json(), allow_nan=False)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"h": 0}, "h = 0"),
        ({"eps": -1}, "eps = -1"),
        ({"tolerance": float("nan")}, "tolerance = nan"),
        ({"method": "slow"}, "fast or naive"),
        ({"precision": "float32"}, "round-off"),
        ({"lam": -1}, "lambda = -1"),
        ({"lam": (1, 2)}, "lambda"),
    ],
)
def test_bad_settings(options: dict[str, Any], message: str):
    net, x, labels = small()
    with pytest.raises(ConfigError, match=message):
        check_network(net, x, labels, **options)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda x, labels: (x[:, :3], labels), "shape"),
        (lambda x, labels: (x, labels[:3]), "labels"),
        (lambda x, labels: (x, labels + 10), "labels"),
        (lambda x, labels: (x, labels * 1.0), "labels"),
        (lambda x, labels: (x * np.nan, labels), "finite"),
        (lambda x, labels: (x * 1j, labels), "real numbers"),
    ],
)
def test_bad_arrays(change: Any, message: str):
    net, x, labels = small()
    with pytest.raises(ArrayError, match=message):
        check_network(net, *change(x, labels))


def test_gradients_of_no_tensor_and_replicas_are_refused():
    net, x, labels = small()
    with pytest.raises(ArrayError, match="have no W1"):
        check_network(net, x, labels, gradients={})
    with pytest.raises(ConfigError, match="replicas = 2"):
        check_network(xpnet.Network(net.config, dtype="float64", replicas=2), x, labels)


def test_float32_gradients_have_a_tolerance_of_their_own():
    x, labels = samples(64, 8)
    config = xpnet.NetworkConfig(inputs=8, hidden=(10, 10), classes=4, bias_before_bn=True)
    net = xpnet.Network(config, dtype="float32", seed=1)
    report = passed(net, x, labels, 0.01)
    assert report.settings["tolerance"] == 1e-2
    assert all(t.norm_error < 1e-5 for t in report.parameters if t.verdict == "passed")
    _, found = net.cost_and_gradients(x.astype(np.float32), labels, 0.01)
    found["W2"] = found["W2"] * np.float32(1.001)
    assert not check_network(net, x, labels, 0.01, gradients=found).passed


def test_public_face_checks_a_float64_copy():
    x, labels = samples()
    config = xpnet.NetworkConfig(inputs=5, hidden=(6,), classes=4)
    assert gradcheck(config, x, labels, lam=0.1, seed=3).passed
    net = xpnet.Network(config, dtype="float32", seed=3)
    report = gradcheck(net, x, labels, lam=0.1)
    assert report.passed
    assert report.settings["precision"] == "float64"
    assert net.dtype == np.float32


def test_sweep_is_a_v():
    net, x, labels = small()
    rows = {row["h"]: row for row in sweep_h(net, x, labels, 0.1) if row["kind"] == "all"}
    errors = [rows[h]["median"] for h in sorted(rows)]
    best = int(np.argmin(errors))
    assert 1e-7 < sorted(rows)[best] < 1e-3
    assert errors[0] > 100 * errors[best]
    assert errors[-1] > 100 * errors[best]
    assert {row["kind"] for row in sweep_h(net, x, labels, steps=[1e-5])} == {"W", "b", "gamma", "beta", "all"}
    with pytest.raises(ConfigError, match="steps"):
        sweep_h(net, x, labels, steps=[0.0])


def test_figures(tmp_path: Any):
    net, x, labels = small(bias_before_bn=True)
    report = check_network(net, x, labels)
    for sweep, stem in ((None, "plain"), (sweep_h(net, x, labels), "sweep")):
        for path in save_figure(check_figure(report, "title", sweep), tmp_path / stem):
            assert path.stat().st_size > 1000
    assert "solid: largest, dashed: median" in (tmp_path / "sweep.svg").read_text()
