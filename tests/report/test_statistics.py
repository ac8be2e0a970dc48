"""The statistics of a comparison, against numbers worked by hand and against SciPy."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from xpnet.report.statistics import Difference, holm, mcnemar, one_against_many, paired, two_shares, welch


def test_paired_by_hand():
    # Differences 1, 2, 3, 4, 5: mean 3, deviation sqrt(2.5), error sqrt(0.5); t(0.975, 4) = 2.776445.
    found = paired([10, 20, 30, 40, 50], [11, 22, 33, 44, 55])
    assert found.difference == pytest.approx(3)
    assert (found.low, found.high) == pytest.approx(
        (3 - 2.776445 * np.sqrt(0.5), 3 + 2.776445 * np.sqrt(0.5)), abs=1e-5
    )
    assert found.p == pytest.approx(stats.t.sf(3 / np.sqrt(0.5), 4) * 2)
    assert found.significant is True
    assert found.seeds is True


@given(st.integers(2, 8), st.integers(0, 2**31))
@settings(max_examples=25)
def test_paired_and_welch_are_their_formulas(count, seed):
    draw = np.random.default_rng(seed)
    a = draw.uniform(0.2, 0.9, count)
    b = a + draw.normal(0.01, 0.02, count)
    of_a, of_b = (values.var(ddof=1) / count for values in (a, b))
    freedom = (of_a + of_b) ** 2 * (count - 1) / (of_a**2 + of_b**2)
    expected = ((paired, (b - a).std(ddof=1) / np.sqrt(count), count - 1), (welch, np.sqrt(of_a + of_b), freedom))
    mean = (b - a).mean()
    for test, error, degrees in expected:
        found, width = test(a, b), stats.t.ppf(0.975, degrees) * error
        assert found.p == pytest.approx(2 * stats.t.sf(abs(mean) / error, degrees), rel=1e-9)
        assert (found.low, found.difference, found.high) == pytest.approx((mean - width, mean, mean + width), abs=1e-12)


def test_welch_takes_other_numbers_of_seeds():
    a, b = [0.50, 0.52, 0.51], [0.55, 0.56, 0.57, 0.54]
    theirs = stats.ttest_ind(b, a, equal_var=False)
    assert welch(a, b).p == pytest.approx(theirs.pvalue)
    with pytest.raises(ValueError, match="at least 2"):
        welch([0.5], b)
    with pytest.raises(ValueError, match="at least 2 pairs"):
        paired([0.5], [0.6])


def test_no_spread_is_no_division_by_zero():
    assert paired([0.5, 0.6], [0.5, 0.6]).p == 1
    same = paired([0.5, 0.6, 0.7], [0.6, 0.7, 0.8])
    assert (same.p, same.low, same.significant) == (None, None, None)
    assert "the same difference with every seed" in same.method
    assert welch([0.5, 0.5], [0.5, 0.5]).p == 1
    assert welch([0.5, 0.5], [0.6, 0.6]).significant is None
    assert one_against_many(0.5, [0.5, 0.5]).p == 1


def test_one_against_many_by_hand():
    # Mean 3, deviation 1, sqrt(1 + 1/3); t(0.975, 2) = 4.302653.
    found = one_against_many(8, [2, 3, 4])
    width = 4.302653 * np.sqrt(4 / 3)
    assert (found.low, found.difference, found.high) == pytest.approx((5 - width, 5, 5 + width), abs=1e-5)
    assert found.significant is True


def test_mcnemar_by_hand():
    # 100 samples, 15 right only in the second and 5 only in the first: P(X <= 5 or X >= 15), X ~ Binomial(20, 1/2).
    first = np.array([1] * 5 + [0] * 15 + [1] * 80, bool)
    second = np.array([0] * 5 + [1] * 15 + [1] * 80, bool)
    found = mcnemar(first, second)
    assert found.p == pytest.approx(2 * stats.binom.cdf(5, 20, 0.5))
    assert found.p == pytest.approx(0.04138947, abs=1e-7)
    assert found.difference == pytest.approx(0.1)
    # Agresti and Min: 15.5 and 5.5 of 102.
    width = 1.959964 * np.sqrt(21 - 100 / 102) / 102
    assert (found.low, found.high) == pytest.approx((10 / 102 - width, 10 / 102 + width), abs=1e-6)
    assert found.seeds is False
    assert mcnemar(first, first).p == 1
    with pytest.raises(ValueError, match="same samples"):
        mcnemar(first, second[1:])


def test_two_shares_is_newcombes_example():
    # Newcombe (1998), table II (a): 56/70 - 48/80, method 10: 0.0524 to 0.3339.
    found = two_shares(48 / 80, 56 / 70, 80, 70)
    assert (found.low, found.high) == pytest.approx((0.0524, 0.3339), abs=5e-5)
    assert found.p == pytest.approx(stats.fisher_exact([[48, 32], [56, 14]]).pvalue)


def test_holm_by_hand():
    made = [Difference(0.1, None, None, p, "", True) for p in (0.01, 0.04, None, 0.03)]
    assert [d.p_holm for d in holm(made)] == pytest.approx([0.03, 0.06, None, 0.06])
    assert [d.significant for d in holm(made)] == [True, False, None, False]


@given(st.lists(st.floats(0, 1), min_size=1, max_size=6))
@settings(max_examples=25)
def test_holm_keeps_the_order_and_bounds(ps):
    found = [d.p_holm for d in holm([Difference(0, None, None, p, "", True) for p in ps])]
    assert all(p <= h <= min(1, p * len(ps)) or h >= p for p, h in zip(ps, found, strict=True))
    assert found[int(np.argmin(ps))] == pytest.approx(min(1, min(ps) * len(ps)))
    order = np.argsort(ps, kind="stable")
    assert (np.diff(np.asarray(found)[order]) >= 0).all()
