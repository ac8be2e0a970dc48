"""Values to try next lie beyond an end, or between what was tried, and a setting may have them."""

from __future__ import annotations

import pytest

import xpnet
from xpnet.training.advice import Situation
from xpnet.training.next_values import beyond, wider, within

AT = Situation(xpnet.TrainConfig(momentum=0.5), xpnet.NetworkConfig(inputs=4, hidden=(50,)))


@pytest.mark.parametrize(
    ("name", "values", "best", "found"),
    [
        ("lambda", [0, 0.001, 0.01], [0.01], ("upper", [0.01, 0.1])),
        ("lambda", [0, 0.001], [0.001], ("upper", [0.001, 0.0032, 0.01])),
        ("lambda", [0.001, 0.0011], [0.0011], ("upper", [0.0011, 0.0022, 0.0044])),
        ("lambda", [0, 0.001, 0.01], [0], None),
        ("lambda", [0, 0.001, 0.01], [0.001], None),
        ("lambda", [0, 0.001, 0.01], [0, 0.01], None),
        ("eta_max", [0.1, 0.3], [0.1], ("lower", [0.011, 0.033, 0.1])),
        ("eta_max", [0.1, 0.3, 1], [0.3, 1], ("upper", [1, 3.3])),
        ("eta_max", [2e-5, 2e-4], [2e-5], None),  # eta_min is 1e-5
        ("momentum", [0, 0.9], [0.9], ("upper", [0.9, 0.95, 0.975])),
        ("dropout", [0, 0.2], [0.2], ("upper", [0.2, 0.3, 0.4])),
        ("dropout", [0, 0.8], [0.8], None),
        ("init", [0.01, 0.1], [0.1], ("upper", [0.1, 1, 10])),
    ],
)
def test_values_beyond_an_end_are_accepted_ones(name, values, best, found):
    assert beyond(values, best, name, AT) == found
    assert found is None or all(AT.accepts(name, value) for value in found[1])


@pytest.mark.parametrize(
    ("name", "values", "best", "found"),
    [
        ("lambda", [0.0001, 0.01, 1], 0.01, [0.001, 0.01, 0.1]),
        ("lambda", [0, 0.001, 0.01], 0, [0, 0.00033]),
        ("lambda", [0, 0.001, 0.01], 0.001, [0.00033, 0.001, 0.0032]),
        ("lambda", [0.009, 0.01, 0.011], 0.01, []),
        ("momentum", [0, 0.9, 0.99], 0.9, [0.45, 0.9, 0.945]),
        ("dropout", [0.1, 0.12], 0.1, []),
    ],
)
def test_values_within_lie_between_the_best_and_its_neighbours(name, values, best, found):
    assert within(values, best, name, AT) == found


@pytest.mark.parametrize(
    ("name", "values", "best", "found"),
    [
        ("lambda", [0, 0.001], 0, [0, 0.01]),
        ("eta_max", [0.1, 0.2], 0.2, [0.01, 0.2, 2]),
        ("dropout", [0, 0.2], 0.2, [0.2, 0.4]),
        ("beta1", [0.9, 0.95], 0.9, [0.9, 0.995]),
    ],
)
def test_wider_values_are_farther_apart(name, values, best, found):
    at = Situation(xpnet.TrainConfig(optimiser="adamw"), AT.network) if name == "beta1" else AT
    assert wider(values, best, name, at) == found
