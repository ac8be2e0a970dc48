"""The gradient checks of the five reports, with their settings, and the report's errors beside ours.

The settings are those of the reports; real CIFAR-10 images are used where they are there.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from examples import every, thorough
from gradcheck_cases import broken_bn

import xpnet
from xpnet.analysis.gradcheck import GradcheckReport, TensorReport, check_network, gradcheck
from xpnet.analysis.gradcheck.problem import choose_rows
from xpnet.data import Dataset

pytestmark = pytest.mark.cifar

NINE = (50, 30, 20, 20, 10, 10, 10, 10)


@pytest.fixture(scope="module")
def data(cifar: Path) -> Dataset:
    return xpnet.load_data(cifar, "b1b2")


def some(data: Dataset, n: int, features: int = 3072, rows: Any = None) -> tuple[np.ndarray, np.ndarray]:
    """Return standardised samples of data_batch_1: the first, or those named."""
    rows = np.arange(n) if rows is None else rows
    x = data.standardiser(data.train.x[rows], "float64")[:, :features]
    return np.ascontiguousarray(x), data.train.labels[rows]


def config(hidden: tuple[int, ...], features: int = 3072, **options: Any) -> xpnet.NetworkConfig:
    return xpnet.NetworkConfig(inputs=features, hidden=hidden, **options)


def assert_tight(report: GradcheckReport) -> None:
    """Every entry is within 1e-5 relative or 1e-9 absolute, and nothing was left out."""
    assert report.passed, report.reason
    assert report.checked == report.of
    for tensor in report.parameters:
        entries = tensor.entries
        assert ((entries.relative <= 1e-5) | (entries.absolute <= 1e-9)).all(), tensor


class TestA:
    """3-layer network with BN, 100 features, 1000 samples; reported: 1.5e-11, and 3.3e-6 with seed 100."""

    @thorough
    @pytest.mark.parametrize("choose", ["first", "random"])
    @pytest.mark.parametrize("seed", [10, 100])
    def test_every_parameter(self, data: Dataset, seed: int, choose: str):
        rows = None if choose == "first" else choose_rows(len(data.train), 1000, seed)
        x, labels = some(data, 1000, 100, rows)
        report = gradcheck(config((50, 50), 100, bias_before_bn=True), x, labels, seed=seed)
        assert_tight(report)
        assert max(t.max_absolute_error for t in report.parameters) < 1e-9
        assert report["b1"].verdict == "zero by construction"

    @thorough
    @pytest.mark.parametrize(("seed", "choose"), [(2, "random"), (3, "first")])
    def test_outliers_are_kinks(self, data: Dataset, seed: int, choose: str):
        # Central differences alone, as the report has them: where ReLU inputs lie within h of 0, the mean absolute
        # errors of W and beta jump to the report's 1e-8 and 1e-6 and those of gamma do not, since gamma does not move
        # an input that is 0.  (The report's seeds draw other weights than ours.)
        from xpnet.analysis.gradcheck.problem import Problem
        from xpnet.analysis.gradcheck.slopes import Workers

        x, labels = some(data, 1000, 100, None if choose == "first" else choose_rows(len(data.train), 1000, seed))
        net = xpnet.Network(config((50, 50), 100), dtype="float64", seed=seed)
        _, found = net.cost_and_gradients(x, labels)
        mean = {}
        with Workers(Problem.of(net, x, labels, 0.0), "fast") as workers:
            for name in ("W1", "gamma1", "beta1"):
                flat = np.arange(found[name].size)
                h = np.full(flat.size, 6e-6)
                values, kinked = workers.slopes(name, flat, h, -h)
                error = np.abs(values - found[name].ravel())
                assert error[~kinked].max() < 1e-10
                mean[name] = error.mean()
        assert 1e-8 < mean["W1"] < 1e-5  # 7.0e-8 and 3.3e-6
        assert 1e-7 < mean["beta1"] < 1e-5  # 1.6e-6 and 1.1e-6
        assert mean["gamma1"] < 1e-11  # 1.5e-11

        report = gradcheck(net.config, x, labels, seed=seed)
        assert_tight(report)
        assert report["beta1"].one_sided == 1


class TestB:
    """30 features, N(0, 0.1**2); reported: 1.98 and 1.2, and exactly 1 in the lower layers of the deep network."""

    @pytest.mark.parametrize("hidden", [(50, 50), NINE])
    def test_every_parameter(self, data: Dataset, hidden: tuple[int, ...]):
        x, labels = some(data, 100, 30)
        assert_tight(gradcheck(config(hidden, 30, init=0.1, bias_before_bn=True), x, labels))

    def test_a_wrong_power_of_the_variance_gives_such_errors(self, data: Dataset):
        # The variance term of BN's backward pass with 1 / std**3 where 1 / std is right.
        report = with_defect(
            *some(data, 100, 30),
            config((50, 50), 30, init=0.1, bias_before_bn=True),
            variance_factor=lambda forward, **_: forward.inv_std**2,
        )
        assert not report.passed
        assert report.reason.startswith("W2 fails")
        errors = {t.name: over_larger(t) for t in report.parameters}
        assert errors["W1"] > 1.9  # 1.98
        assert errors["W2"] > 1.9  # 1.987
        assert errors["gamma1"] > 1.1  # 1.33
        assert errors["beta1"] > 1.1  # 1.19
        # 7e-6 and 9e-6: the errors of zeros, divided by eps
        assert report["b1"].max_relative_error < 1e-4
        assert report["b2"].max_relative_error < 1e-4
        assert max(errors[name] for name in ("gamma2", "beta2", "W3", "b3")) < 1e-4

    def test_and_exactly_1_where_it_has_exploded(self, data: Dataset):
        report = with_defect(
            *some(data, 100, 30),
            config(NINE, 30, init=0.1, bias_before_bn=True),
            variance_factor=lambda forward, **_: forward.inv_std**2,
        )
        assert report.reason.startswith("W8 fails")
        for layer in range(1, 5):
            for kind in ("W", "gamma", "beta"):
                assert over_larger(report[f"{kind}{layer}"]) == pytest.approx(1, abs=0.02)
        assert over_larger(report["W9"]) < 1e-6


class TestC:
    """3 and 9 layers, 10 samples, lambda 0 and 0.01; reported: 1e-8 to 1e-9, and biases that align badly."""

    @pytest.mark.parametrize(
        ("batch_norm", "lam", "hidden"), every(7, product([True, False], [0.0, 0.01], [(50, 50), NINE]))
    )
    def test_every_parameter(self, data: Dataset, hidden: tuple[int, ...], batch_norm: bool, lam: float):
        x, labels = some(data, 10)
        settings = config(hidden, batch_norm=batch_norm, bias_before_bn=batch_norm)
        report = check_network(settings, x, labels, lam)
        assert report.passed, report.reason
        assert report.checked == report.of
        for tensor in report.parameters:
            zero = batch_norm and tensor.name.startswith("b") and tensor.name[1:].isdigit()
            zero = zero and int(tensor.name[1:]) <= len(hidden)
            assert tensor.verdict == ("zero by construction" if zero else "passed")
            assert zero or tensor.norm_error < 1e-7


class TestD:
    """2 layers without BN, 20 samples, Xavier; reported: 4.1e-7."""

    @pytest.mark.parametrize("seed", [10, 100])
    def test_every_parameter(self, data: Dataset, seed: int):
        x, labels = some(data, 20)
        assert_tight(gradcheck(config((50,), batch_norm=False, init="xavier"), x, labels, seed=seed))


class TestE:
    """100 samples, h = 1e-6; reported: 1e-7 to 1e-3 without BN; 2e-3 to 1e-2 with it, but for the last layer."""

    HIDDEN = ((20,), (20, 20), (20, 20, 10))

    @pytest.mark.parametrize(("batch_norm", "hidden"), every(4, product([True, False], HIDDEN)))
    def test_every_parameter(self, data: Dataset, hidden: tuple[int, ...], batch_norm: bool):
        x, labels = some(data, 100)
        settings = config(hidden, batch_norm=batch_norm, bias_before_bn=batch_norm)
        report = check_network(settings, x, labels, h=1e-6)
        assert report.passed, report.reason
        assert report.checked == report.of
        for tensor in report.parameters:
            assert tensor.norm_error < 1e-7 or tensor.verdict == "zero by construction"

    @thorough
    def test_errors_without_bn_are_those_of_vanishing_gradients(self, data: Dataset):
        """E starts at sigma = 0.001: relative errors grow with depth, since gradients shrink and round-off does not."""
        errors, sizes = [], []
        for hidden in self.HIDDEN:
            settings = config(hidden, batch_norm=False, init=0.001)
            report = check_network(settings, *some(data, 100), h=1e-6)
            assert report.passed, report.reason
            assert max(tensor.max_absolute_error for tensor in report.parameters) < 1e-7
            errors.append(report["W1"].norm_error)
            sizes.append(float(np.abs(report["W1"].entries.analytic).max()))
        assert errors[0] < 1e-6 < errors[1] < 1e-4 < errors[2]
        assert sizes[0] > 1e-4 > sizes[1] > 1e-7 > sizes[2]
        for hidden in self.HIDDEN:  # BN keeps them large
            report = check_network(config(hidden, init=0.001), *some(data, 100), h=1e-6)
            assert report.passed, report.reason
            assert max(tensor.norm_error for tensor in report.parameters) < 1e-6

    @pytest.mark.parametrize(
        ("hidden", "reported"),
        [((20,), [2.21e-3]), ((20, 20), [5.32e-3, 3.61e-3]), ((20, 20, 10), [7.3e-3, 3.5e-3, 3.0e-3])],
    )
    def test_unbiased_variance_gives_such_errors(self, data: Dataset, hidden: tuple[int, ...], reported: list[float]):
        # n - 1 for n in the variance of the backward pass: a scale off by 1 / (2 n) = 0.5 % in every layer.
        report = with_defect(
            *some(data, 100),
            config(hidden, bias_before_bn=True),
            h=1e-6,
            coverage=4000,
            inv_std=lambda forward, n, **_: 1 / np.sqrt(forward.var * n / (n - 1) + 1e-5),
        )
        assert not report.passed
        assert report.reason.startswith(f"gamma{len(hidden)} fails")
        errors = [report[f"W{layer}"].norm_error for layer in range(1, len(hidden) + 2)]
        for ours, theirs in zip(errors, reported, strict=False):
            assert 0.5 < ours / theirs < 2.1
        assert errors[-1] < 1e-8  # 6e-9


def with_defect(
    x: Any,
    labels: Any,
    settings: xpnet.NetworkConfig,
    *,
    h: float = 6e-6,
    coverage: Any = "all",
    **changes: Callable[..., Any],
) -> GradcheckReport:
    """Return the check of a network in whose backward pass of BN something has been changed."""
    net = xpnet.Network(settings, dtype="float64")
    broken = broken_bn(lambda **about: {key: value(**about) for key, value in changes.items()})
    net.ops = net.ops._replace(batch_norm_activation_gradients=broken)
    return check_network(net, x, labels, h=h, coverage=coverage)


def over_larger(tensor: TensorReport) -> float:
    """Return the largest |ga - gn| / max(|ga|, |gn|): a measure that reaches 2, as report B's does."""
    entries = tensor.entries
    larger = np.maximum(np.abs(entries.analytic), np.abs(entries.numerical))
    return float(np.max(entries.absolute / np.maximum(larger, 1e-6)))
