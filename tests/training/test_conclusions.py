"""Conclusions: right on curves made for the purpose and on trainings of CIFAR-10, and none where evidence is thin."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import xpnet
from xpnet.cli import main
from xpnet.config.settings import Settings
from xpnet.data import Dataset
from xpnet.report.write import build_page
from xpnet.runs.records import read_metrics
from xpnet.training.advice import Situation
from xpnet.training.conclusions import after_folds, conclude
from xpnet.training.confused_classes import confused
from xpnet.training.course import Course

FIXTURE = Path(__file__).parents[1] / "fixtures" / "verdicts.json"
NETWORKS: list[dict[str, Any]] = json.loads(FIXTURE.read_text())["networks"]
CURVES = ("train_accuracy", "validation_accuracy", "train_loss", "validation_loss", "eta")


def of_fixture(network: dict[str, Any]) -> Course:
    """Return the course of a network of the fixture."""
    curves = (np.array(network["curves"][name]) for name in CURVES)
    schedule, rates = network["settings"].get("schedule", "triangular"), ("eta", "eta_max")
    train = {"lam": network["lambda"], "schedule": schedule}
    train |= {name: value for name, value in network["settings"].items() if name in rates}
    at = Situation(xpnet.TrainConfig(**train), image_shape=(3, 32, 32), mirrored=True)
    return Course("The network", *curves, network["final"], network["samples"], schedule, at)


def made(
    *,
    train: Any,
    validation: Any,
    loss: Any = None,
    eta: Any = 0.1,
    schedule: str = "constant",
    samples: int = 10_000,
    **train_config: Any,
) -> Course:
    """Return a course of curves made for the purpose; losses fall as accuracies rise if `loss` is not given."""
    train, validation = np.asarray(train, float), np.asarray(validation, float)
    losses = 2.3 * (1 - validation) if loss is None else np.asarray(loss, float)
    rates = np.broadcast_to(np.asarray(eta, float), train.shape)
    final = {"train": float(train[-1]), "validation": float(validation[-1])}
    counts = {"train": 4 * samples, "validation": samples}
    config = xpnet.TrainConfig(**{"lam": 0.0, "schedule": schedule, **train_config})
    at = Situation(config, xpnet.NetworkConfig(inputs=4, hidden=(50, 20)))
    return Course("The network", train, validation, 2.3 * (1 - train), losses, rates, final, counts, schedule, at)


RISING = 0.5 - 0.3 * np.exp(-np.arange(24) / 5)
WAVES = 0.005 * (-1.0) ** np.arange(24)
LEVEL = np.full(24, 0.45)
COSINES = np.r_[np.linspace(0.9, 0, 8), np.linspace(0.95, 0.1, 16)]
TRIANGLE = np.tile(np.r_[1:7, 5:-1:-1] / 6, 2)


@pytest.mark.parametrize(
    ("course", "rule", "words"),
    [
        (
            made(
                train=0.4 + 0.02 * np.arange(24), validation=RISING + WAVES, loss=1.4 + np.abs(np.arange(24) - 9) / 40
            ),
            "overfits",
            "From epoch 10 to 24 training gained 28.0 points, while the validation loss rose from 1.4 to 1.75.",
        ),
        (
            made(train=0.4 + 0.02 * np.arange(24), validation=np.r_[RISING[:8], LEVEL[8:]], loss=LEVEL + 1),
            "overfits",
            "Try lambda = 0.01 (a penalty, which keeps the weights small; it has none); less sure: dropout = 0.2. A",
        ),
        (
            made(train=0.2 + 0.034 * np.arange(24), validation=0.2 + 0.012 * np.arange(24)),
            "overfits",
            "98.20 % of the training and 47.60 % of the validation samples (50.6 points apart). Try ",
        ),
        (
            made(train=0.2 + 0.012 * np.arange(24), validation=0.2 + 0.01 * np.arange(24)),
            "rate-too-small",
            "and nearly every epoch lowered both losses. Try eta = 0.03 (three times the present rate) or epochs = 40 ",
        ),
        (
            made(train=0.2 + 0.012 * np.arange(24) + WAVES, validation=0.2 + 0.01 * np.arange(24) + 1.2 * WAVES),
            "still-learning",
            "Try epochs = 40 (twice as many) or eta = 0.03 (three times the present rate).",
        ),
        (
            made(train=LEVEL - 0.1 * TRIANGLE, validation=LEVEL - 0.1 * TRIANGLE, eta=TRIANGLE, schedule="triangular"),
            "rate-too-large",
            "the training loss rose from",
        ),
        (
            made(train=LEVEL, validation=LEVEL + 10 * WAVES, samples=5000),
            "rate-too-large",
            "jumps by 10.0 points from epoch to epoch. Try a rate that falls (schedule = cosine) or eta = 0.0033 (a ",
        ),
        (
            made(train=LEVEL + WAVES, validation=LEVEL - WAVES, lam=0.05, eta=0.1),
            "underfits",
            "Try lambda = 0.005 (a tenth of the present penalty) or hidden = 100,40 (twice as many units).",
        ),
        (
            made(train=LEVEL + 0.06, validation=LEVEL + WAVES),
            "settled",
            "no more than about epoch 16, and for 51.00 % of the training samples. Try hidden = 100,40",
        ),
    ],
    ids=["loss-rises", "only-training-gains", "wide", "smooth", "rough", "climbs", "jumps", "underfits", "settled"],
)
def test_conclude_of_curves_made_for_the_purpose_finds_the_rule(course: Course, rule: str, words: str):
    conclusion = conclude(course)
    assert conclusion is not None
    assert conclusion.rule == rule
    assert words in conclusion.text
    assert json.loads(json.dumps(conclusion.to_json())) == conclusion.to_json()


@pytest.mark.parametrize(
    "course",
    [
        made(train=RISING[:7] + 0.3, validation=RISING[:7]),
        made(train=np.r_[RISING[:-1], np.nan], validation=RISING),
        made(train=RISING, validation=RISING, schedule="one-cycle", eta=TRIANGLE),
    ],
    ids=["few-epochs", "not-finite", "annealed"],
)
def test_conclude_of_thin_evidence_says_nothing(course: Course):
    assert conclude(course) is None


def test_conclude_of_trainings_of_cifar_gives_the_verdicts_that_were_read():
    found = [conclude(of_fixture(network)) for network in NETWORKS]
    assert [one and one.rule for one in found] == [network["rule"] for network in NETWORKS]
    epochs = [one.evidence["epoch"] if one and one.rule == "overfits" else None for one in found]
    assert epochs == [network["epoch"] for network in NETWORKS]
    assert len({network["rule"] for network in NETWORKS}) >= 6
    assert len(NETWORKS) > 50


@pytest.mark.parametrize(("rule", "better"), [("rate-too-small", np.greater), ("rate-too-large", np.less)])
def test_advice_on_rates_is_borne_out_by_other_networks_of_the_same_group(rule: str, better: Any):
    """A network whose rate is called too small is outdone by one with a larger rate, and the reverse."""
    for network in NETWORKS:
        rate = next((name for name in ("eta", "eta_max") if name in network["settings"]), None)
        beside = [
            other
            for other in NETWORKS
            if rate and (other["group"], other["lambda"]) == (network["group"], network["lambda"])
        ]
        if network["rule"] == rule and len(beside) > 1:
            own, accuracy = network["settings"][rate], network["final"]["validation"]
            assert any(better(o["settings"][rate], own) and o["final"]["validation"] > accuracy for o in beside)


def test_conclude_of_few_rows_says_how_little_they_tell_and_advises_folds():
    few = made(train=np.full(24, 452 / 461), validation=np.full(24, 48 / 51), samples=51)
    conclusion = conclude(few)
    assert conclusion.text == (
        "The network is right for 94.12 % of 51 validation rows, so few that the accuracy on all others may be 84 to "
        "98 %. It is right for 98.05 % of the training rows, no sign of overfitting. For a firmer figure use "
        "cross-validation (--cv 5)."
    )
    assert (conclusion.rule, conclusion.evidence["try"]) == ("few-samples", {"cv": 5})
    after = after_folds(conclusion)
    assert after.text.endswith("no sign of overfitting.")
    assert "try" not in after.evidence
    wide = made(train=np.full(24, 1.0), validation=np.full(24, 40 / 51), samples=51)
    assert "100.00 % of the training rows, a sign of overfitting." in conclude(wide).text


def test_training_that_stops_inside_a_later_cycle_is_advised_to_end_it_if_it_still_gains():
    """Eighteen epochs of 450 steps, of cycles of ten: the rate is at two fifths of its highest."""
    up = np.linspace(0.02, 0.1, 5)
    rates = np.r_[up, 0.08, 0.06, 0.04, 0.02, 0.0, up, 0.08, 0.06, 0.04]
    rising, loss = np.linspace(0.3, 0.5, 18), np.linspace(2, 1.2, 18)
    settings = {"eta": rates, "schedule": "triangular", "samples": 11_250, "epochs": 18, "loss": loss}
    course = made(train=rising + 0.02, validation=rising, **settings)
    conclusion = conclude(course)
    assert conclusion.text == (
        "The training ended inside a cycle of the learning rate: the validation loss fell in every epoch (2.0000 to "
        "1.2000), and the rate had not fallen to its end (0.04 of 0.1). Try epochs = 20 (the end of the cycle)."
    )
    assert (conclusion.rule, conclusion.evidence["try"]) == ("inside-a-cycle", {"epochs": 20})
    ended = dataclasses.replace(course.at.train, n_s="9ep")
    assert dataclasses.replace(course, at=dataclasses.replace(course.at, train=ended)).cycle_end() is None
    flat = dataclasses.replace(course, validation_accuracy=np.r_[rising[:-1], rising[-2]])
    low = dataclasses.replace(course, eta=np.r_[rates[:-1], 0.005])
    for other in (flat, low):
        assert (found := conclude(other)) is None or found.rule != "inside-a-cycle"


def test_restart_of_a_cosine_is_no_rate_that_is_too_large():
    curve = LEVEL + WAVES
    course = made(train=curve, validation=curve, eta=COSINES, schedule="cosine-restarts", loss=1 + COSINES / 4)
    assert conclude(course).rule == "underfits"


def test_losses_of_zero_are_no_trend():
    assert conclude(made(train=np.ones(24), validation=np.ones(24), loss=np.zeros(24))).rule == "settled"


def test_patience_that_ends_a_training_while_the_rate_rises_is_shorter_than_a_cycle():
    rates = TRIANGLE[:16]
    curve = np.r_[RISING[:10], RISING[9] - 0.01 * np.arange(1, 7)]
    course = made(train=curve + 0.05, validation=curve, eta=rates, schedule="triangular", patience=4)
    found = conclude(dataclasses.replace(course, stopped=True))
    assert found.rule == "stopped-early"
    assert found.text.endswith("before they rise again: a cycle has 12 epochs. Try patience = 12 (a cycle).")
    patient = made(train=curve + 0.05, validation=curve, eta=rates, schedule="triangular", patience=12)
    found = conclude(dataclasses.replace(patient, stopped=True))
    assert found is None or found.rule != "stopped-early"


def test_overfitting_tells_what_each_set_gained_and_samples_that_are_not_used():
    validation = np.r_[RISING[:8], np.full(16, 0.44)]
    course = made(train=0.4 + 0.02 * np.arange(24), validation=validation, loss=LEVEL + 1, samples=1000)
    course = dataclasses.replace(course, at=dataclasses.replace(course.at, unused=5000))
    assert (
        " From epoch 8 to 24 training gained 32.0 points, validation 1.4, less than its standard error (1.6). Try "
        in (text := conclude(course).text)
    )
    assert text.endswith(
        "4,000 of 10,000 training samples are used: more would help too. A gain below about 3 points may be chance."
    )
    falling = np.r_[RISING[:8], np.linspace(0.43, 0.38, 16)]
    text = conclude(made(train=0.4 + 0.02 * np.arange(24), validation=falling, loss=LEVEL + 1)).text
    assert "validation lost 4.6. Try" in text
    assert "dropout = 0.2 or restore = best" in text


@pytest.mark.parametrize(
    ("loss", "epochs", "changed", "words"),
    [
        (
            [1.7588, 1.6154, 1.5516, 1.5013],
            10,
            {},
            "every epoch (1.7588 to 1.5013), and the rate was still rising (0.08 of 0.1). Try epochs = 10",
        ),
        ([1.8, 1.6, 1.7, 1.5], 4.55, {"n_s": 910}, "loss had fallen to its lowest (1.8000 to 1.5000), and the"),
        ([1.8, 1.6, 1.5, 1.55], None, {}, ""),
        ([1.8, 1.6], None, {}, ""),
        ([1.8, 1.6, 1.5, 1.4], None, {"n_s": 300}, ""),
        ([1.8, 1.6, 1.5, 1.4], None, {"schedule": "cosine"}, ""),
        ([1.8, 1.6, 1.5, 1.4], 10, {"schedule": "cosine-restarts"}, "rate had not fallen to its end"),
    ],
    ids=["every-epoch", "n_s-in-steps", "loss-rises", "two-epochs", "whole-cycle", "no-cycles", "restarts"],
)
def test_training_that_ends_within_its_first_cycle_is_advised_to_end_it(loss, epochs, changed, words):
    rates = np.array([0.02, 0.04, 0.06, 0.08])[: len(loss)]
    settings = {"schedule": "triangular", "eta_max": 0.1, "epochs": 4} | changed
    if settings["schedule"] == "cosine-restarts":
        rates = 0.12 - rates
    course = made(train=RISING[: len(loss)], validation=RISING[: len(loss)], loss=loss, eta=rates, **settings)
    found = conclude(course)
    assert (found and found.evidence["try"]) == (epochs and {"epochs": epochs})
    assert found is None or words in found.text
    if found is not None:
        assert found.rule == "inside-a-cycle"
        assert conclude(dataclasses.replace(course, stopped=True)) is None


def test_penalty_that_takes_away_what_steps_add_is_too_large():
    curve = np.array([0.24, 0.25, 0.23, 0.23, 0.22, 0.22, 0.22, 0.23, 0.24, 0.26])
    rates = np.r_[np.linspace(0.02, 0.1, 5), np.linspace(0.08, 0, 5)]
    course = made(train=curve + 0.04, validation=curve, eta=rates, schedule="triangular", lam=0.5, loss=LEVEL[:10])
    found = conclude(course)
    assert found.rule == "penalty-too-large"
    assert "lambda = 0.5 takes 10 % off all weights in each step at the highest rate" in found.text
    assert found.text.endswith("Try lambda = 0.05 (a tenth of the present penalty).")
    assert (
        conclude(made(train=curve + 0.04, validation=curve, eta=rates, schedule="triangular", loss=LEVEL[:10])) is None
    )


def test_patience_ends_a_training_without_a_word_about_more_epochs():
    course = made(train=0.2 + 0.012 * np.arange(24), validation=0.2 + 0.01 * np.arange(24))
    assert conclude(dataclasses.replace(course, stopped=True)) is None


def test_confused_names_the_pair_that_stands_out():
    confusion = np.full((4, 4), 10) + np.diag([270] * 4)
    assert confused(confusion, "abcd") is None
    confusion[1, 2], confusion[2, 1] = 90, 70
    found = confused(confusion, "abcd")
    assert found is not None
    assert found.text.startswith("b and c are taken for each other most: ")
    assert found.evidence["classes"] == ["b", "c"]
    assert confused(confusion // 10, "abcd") is None


def test_network_whose_outputs_do_not_depend_on_the_sample_names_the_layer(blobs: Dataset):
    config = xpnet.NetworkConfig(
        inputs=blobs.features, classes=blobs.classes, hidden=(20, 20, 10, 10, 10), batch_norm=False, init=1e-4
    )
    result = xpnet.train(xpnet.Network(config), blobs, xpnet.TrainConfig(batch_size=25, epochs=20))
    assert result.conclusion is not None
    assert result.conclusion.rule == "chance"
    assert result.conclusion.text == result.warnings[0]
    assert "; from layer 4 on its outputs are the same for every sample" in result.warnings[0]


def test_population_concludes_for_the_best_combination_and_about_seeds(blobs: Dataset):
    given = {"hidden": [8], "batch_size": 20, "epochs": 30, "schedule": "constant", "eta": [1e-4, 0.002]}
    of = xpnet.Population.of(Settings.from_mapping(given), blobs.features, blobs.classes)
    conclusion = xpnet.train_population(of, blobs)[1].conclusion
    assert conclusion is not None
    assert conclusion.rule == "best-at-edge"
    assert conclusion.text.startswith("The best of 2 values of eta is 0.002: ")
    assert conclusion.evidence["ends"] == {"eta": "upper"}
    given |= {"eta": [0.05, 0.0501], "runs": 3}
    of = xpnet.Population.of(Settings.from_mapping(given), blobs.features, blobs.classes)
    conclusion = xpnet.train_population(of, blobs)[1].conclusion
    assert conclusion is not None
    assert conclusion.rule == "alike"


def test_train_command_says_the_conclusion_once_and_keeps_it(capsys: pytest.CaptureFixture[str]):
    main(["train", "--data", "patterns:1500/300", "--hidden", "30", "--n-s", "6ep", "--lambda", "0", "--out", "run"])
    printed = capsys.readouterr()
    metrics = read_metrics(Path("run/metrics.json"))
    assert metrics["warnings"] == []
    assert metrics["conclusion"]["rule"] in ("overfits", "still-learning")
    assert printed.out.splitlines()[-1] == f"conclusion: {metrics['conclusion']['text']}"
    page = build_page([Path("run")])
    assert (page.conclusion, page.notes) == (metrics["conclusion"]["text"], [])
    main(["train", "--resume", "run", "--json"])
    assert json.loads(capsys.readouterr().out)["conclusion"] == metrics["conclusion"]
