"""scikit-learn's own checks of estimators: all of them, with no expected failure."""

from __future__ import annotations

import pytest
from sklearn.utils.estimator_checks import parametrize_with_checks

from xpnet.sklearn import XpnetClassifier


@parametrize_with_checks([XpnetClassifier(hidden=(16,), epochs=10)])
def test_estimator_checks_of_a_small_network_pass(estimator, check):
    check(estimator)


@pytest.mark.slow
@parametrize_with_checks([XpnetClassifier(), XpnetClassifier(members=3), XpnetClassifier(batch_norm=False)])
def test_estimator_checks_pass(estimator, check):
    check(estimator)
