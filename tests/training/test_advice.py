"""Advice exists, is accepted, and is right for the data."""

from __future__ import annotations

from typing import Any

import pytest

import xpnet
from xpnet.config.settings import Settings
from xpnet.training import advice
from xpnet.training.advice import Situation, against_overfitting, larger_rate, longer, more_capacity, smaller_steps

CIFAR: dict[str, Any] = {"image_shape": (3, 32, 32), "mirrored": True}
DIGITS: dict[str, Any] = {"image_shape": (1, 8, 8)}


def at(train: dict[str, Any] | None = None, *, hidden: tuple[int, ...] = (50,), **more: Any) -> Situation:
    return Situation(xpnet.TrainConfig(**train or {}), xpnet.NetworkConfig(inputs=4, hidden=hidden), **more)


@pytest.mark.parametrize(
    ("situation", "said", "unsaid"),
    [
        (
            at(**CIFAR),
            ["lambda = 0.015 (three times the present penalty", "(flip = random, shift = 2)"],
            ["dropout", "mirror"],
        ),
        (at({"lam": 0.0005}, **CIFAR), ["lambda = 0.01 (20 times the present penalty"], []),
        (at({"lam": 0.001}, **CIFAR), ["lambda = 0.01 (ten times the present penalty"], []),
        (at({"lam": 0.0}), ["lambda = 0.01 (a penalty", "dropout = 0.2", "restore = best"], ["flip", "shift"]),
        (at({"lam": 0.01}, **CIFAR), ["flip = random"], ["lambda"]),
        (at(**DIGITS), ["(shift = 1, and flip = random if a mirror image keeps its class)"], []),
        (at(mirrored=False, image_shape=(1, 28, 28)), ["(shift = 2)"], ["flip"]),
        (at({"shift": 1}, **DIGITS), ["(flip = random if a mirror image keeps its class)"], ["shift"]),
        (at({"shift": 1, "flip": "random"}, **CIFAR), ["dropout = 0.2"], ["flip", "shift"]),
        (at({"optimiser": "adamw"}), ["weight_decay = 0.05 (a penalty"], ["lambda"]),
        (at({"restore": "best", "dropout": 0.3}), ["lambda"], ["restore", "dropout"]),
        (at(hidden=()), ["lambda", "restore"], ["dropout"]),
        (at(varied=["lambda"], **CIFAR), ["flip = random"], ["lambda"]),
        (at({"lam": 0.1, "dropout": 0.2, "restore": "best"}), ["more training samples"], ["="]),
    ],
)
def test_advice_against_overfitting_is_right_for_the_data(situation: Situation, said: list[str], unsaid: list[str]):
    words = advice.advised(against_overfitting(situation))
    assert [part for part in said if part not in words] == []
    assert [part for part in unsaid if part in words] == []


@pytest.mark.parametrize("schedule", ["triangular", "cosine", "constant", "one-cycle", "cosine-restarts", "decay"])
@pytest.mark.parametrize("optimiser", ["sgd", "adamw", "lion"])
def test_all_advice_is_accepted_by_the_settings(schedule: str, optimiser: str):
    given = {"schedule": schedule, "optimiser": optimiser, "hidden": [20, 10], "lambda": 0.1, "dropout": 0.4}
    settings = Settings.from_mapping(given)
    situation = Situation(settings.train, settings.network_config(4, 2), **CIFAR)
    for find in (against_overfitting, larger_rate, smaller_steps, longer, more_capacity, advice.falling_rate):
        for one in find(situation):
            Settings.from_mapping({name: v for name, v in given.items() if name not in one.settings} | one.settings)
            assert all(name in one.words or name == "hidden" for name in one.settings)


def test_first_advice_against_overfitting_is_what_gains_most_on_cifar():
    assert against_overfitting(at({"lam": 0.0}, **CIFAR))[0].settings == {"flip": "random", "shift": 2}
    assert against_overfitting(at({"lam": 0.0}, **DIGITS))[0].settings == {"lambda": 0.01}


def test_longer_is_twice_the_cycles_or_the_epochs():
    assert longer(at({"cycles": 3}))[0].settings == {"cycles": 6}
    assert longer(at())[0].settings == {"cycles": 4}
    assert longer(at({"epochs": 2.5}))[0].settings == {"epochs": 5.0}
    assert longer(at({"schedule": "cosine"}))[0].settings == {"epochs": 40}


def test_smaller_rate_is_not_below_the_lowest_rate_of_the_schedule():
    assert smaller_steps(at({"eta_max": 0.02, "eta_min": 0.01})) == []
    assert smaller_steps(at({"eta_max": 0.3, "lam": 0.1}))[1].settings == {"lambda": 0.01}


def test_larger_rate_is_not_advised_beside_a_large_penalty():
    assert larger_rate(at({"lam": 0.1})) == []


def test_value_of_a_network_of_several_is_its_own():
    several = at({"lam": (0.1, 0.2), "eta_max": (0.1, 0.3)}, replica=1)
    assert (several.value("lambda"), several.value("hidden"), several.rate) == (0.2, (50,), "eta_max")
    assert several.accepts("eta_min", 0.2)
    assert not several.accepts("eta_min", 0.4)


@pytest.mark.parametrize(("name", "mirrored"), [("cifar10", True), ("patterns", False), ("digits", None)])
def test_situation_knows_whether_a_mirror_image_keeps_its_class(name: str, mirrored: bool | None):
    import dataclasses

    data = dataclasses.replace(xpnet.load_data("patterns:100/20"), name=name)
    assert Situation.of(xpnet.TrainConfig(), xpnet.NetworkConfig(inputs=4), data).mirrored is mirrored
