"""Warnings about trainings: where something is wrong, and nowhere else."""

from __future__ import annotations

import dataclasses
import json
import math
import shutil
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import xpnet
from xpnet.cli import main
from xpnet.config.settings import Settings
from xpnet.data import Dataset
from xpnet.report.records import read_run
from xpnet.runs.records import read_metrics
from xpnet.training.chance_level import LEVEL, Guessing
from xpnet.training.history import Metrics
from xpnet.training.outcome_warnings import FEW_STEPS, few_steps, judged

DEEP = (20, 20, 10, 10, 10)
PATTERNS = ["--data", "patterns:300/60", "--hidden", "8"]


def overlapping(seed: int, shares: tuple[float, ...], n: int = 1000, apart: float = 1.0) -> Dataset:
    """Return samples of 12 features whose classes have these shares."""
    rng = np.random.default_rng(seed)
    labels = rng.choice(len(shares), size=n, p=shares)
    x = rng.standard_normal((n, 12)) + apart * rng.standard_normal((len(shares), 12))[labels]
    return xpnet.data_from_arrays(x.astype(np.float32), labels)


def trained(data: Dataset, network: dict[str, object] | None = None, **settings: object) -> xpnet.TrainResult:
    """Train one network."""
    config = xpnet.NetworkConfig(inputs=data.features, classes=data.classes, **{"hidden": (20,), **(network or {})})
    return xpnet.train(xpnet.Network(config), data, xpnet.TrainConfig(**{"batch_size": 25, "epochs": 20, **settings}))


def population(data: Dataset, **settings: object) -> xpnet.TrainResult:
    """Train a population."""
    given = {"hidden": [8], "batch_size": 20, "epochs": 20, **settings}
    of = xpnet.Population.of(Settings.from_mapping(given), data.features, data.classes)
    return xpnet.train_population(of, data)[1]


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize(
    ("shares", "apart"),
    [((0.5, 0.5), 1.0), ((0.9, 0.1), 1.0), ((0.25,) * 4, 0.7), ((0.1,) * 10, 0.7), ((0.97, 0.03), 1.2)],
    ids=["two", "nine to one", "four", "ten", "rare"],
)
def test_ordinary_trainings_are_not_warned_of(seed: int, shares: tuple[float, ...], apart: float):
    result = trained(overlapping(seed, shares, apart=apart))
    assert result.warnings == []
    assert (result.steps >= FEW_STEPS, result.none_better) == (True, False)


def test_set_too_small_to_tell_gives_no_warning():
    # One sample validates and one tests: any network is right for all or none of one class.
    x = np.random.default_rng(0).standard_normal((42, 3)).astype(np.float32)
    labels = np.arange(42) % 2
    data = xpnet.data_from_arrays(x[:41], labels[:41], x[41:], labels[41:], split="40/1")
    result = trained(data, batch_size=2, epochs=15)
    assert (result.guessing, result.warnings) == (None, [])


def test_rate_far_too_large_is_guessing_and_advises_a_smaller_one(blobs: Dataset):
    result = trained(blobs, eta_max=100.0)
    assert result.no_better == [0]
    assert result.guessing == Guessing.on(blobs, "validation")
    (warning,) = result.warnings
    assert warning.startswith("The network is no better than guessing, as far as 100 validation samples can tell: ")
    assert f"is right for {100 * result.guessing.accuracy:.2f} %" in warning
    assert f"this one for {100 * result.validation.accuracy:.2f} %" in warning
    assert "Try --eta-max 10 (a tenth of the present rate; xpnet lr-range measures one)" in warning
    assert result.to_json()["warnings"] == [warning]


@pytest.mark.parametrize(
    ("network", "training", "sentences"),
    [
        (
            {"hidden": DEEP, "init": 1e-4, "batch_norm": False},
            {},
            ["it takes every sample for the class ", "Try --init he or batch normalisation."],
        ),
        ({"batch_norm": False}, {"lam": 10.0, "eta_max": 0.04}, ["Try a smaller lambda"]),
    ],
    ids=["tiny weights", "large lambda"],
)
def test_network_that_guesses_has_advice_for_its_settings(blobs: Dataset, network, training, sentences):
    warning = trained(blobs, network, **training).warnings[0]
    assert all(sentence in warning for sentence in sentences)


def judged_with(data: Dataset, result: xpnet.TrainResult, **figures: tuple[float, float]) -> list[str]:
    """Return the warnings of a result whose final accuracy and loss on some sets are these."""
    one = {which: Metrics(*np.array([[a], [loss], [loss]])) for which, (a, loss) in figures.items()}
    config = xpnet.TrainConfig(batch_size=25, epochs=20)
    network = xpnet.NetworkConfig(inputs=data.features, hidden=(20,), classes=data.classes)
    return judged(dataclasses.replace(result, **one), network, config, data, [{"seed": 0}]).warnings


def test_accuracy_far_below_its_best_is_a_warning(blobs: Dataset):
    result = trained(blobs)
    assert result.warnings == []
    best = result.history["validation_accuracy"].max()
    epoch = int(result.history["validation_accuracy"].argmax()) + 1
    # Of 100 samples, three standard errors of the difference are some 15 points here.
    (warning,) = judged_with(blobs, result, validation=(best - 0.22, 0.9))
    assert warning.startswith(
        f"The network is far below its own best: {100 * (best - 0.22):.2f} % of the validation samples"
    )
    assert f"and {100 * best:.2f} % after epoch {epoch}. Try --eta-max 0.01 (a tenth of the present rate" in warning
    assert warning.endswith(" --restore best only keeps the weights of the best epoch.")
    assert judged_with(blobs, result, validation=(best - 0.06, 0.3)) == []
    (warning,) = judged_with(blobs, result, validation=(0.3, 3.0))
    assert warning.startswith("The network is no better than guessing")
    assert f"it had {100 * best:.2f} % after epoch {epoch}" in warning


def test_loss_far_above_guessing_is_a_warning(blobs: Dataset):
    result = trained(blobs)
    (warning,) = judged_with(blobs, result, train=(0.9, 91_364.0), validation=(0.9, 91_364.0))
    assert warning.startswith("The network is far worse in loss than guessing: 91,364 on ")
    assert "on the training set, where the shares of the classes give 1.386" in warning
    (warning,) = judged_with(blobs, result, validation=(0.9, 91_364.0))
    assert "on the validation set" in warning
    assert judged_with(blobs, result, validation=(0.9, 4.0)) == []  # overfitting makes so much of it


def test_population_names_the_networks_that_guess(blobs: Dataset):
    result = population(blobs, **{"lambda": [10.0, 0.001], "runs": 2, "batch_norm": False, "eta_max": 0.04})
    assert result.no_better == [0, 2] or result.no_better == [0, 1]
    assert not result.none_better
    (warning,) = result.warnings
    assert warning.startswith("2 of 4 networks (lambda 10) are no better than guessing")


@pytest.mark.parametrize("most", [None, 1])
def test_population_that_guesses_has_no_best(blobs: Dataset, most: int | None):
    given = {"hidden": list(DEEP), "batch_norm": False, "init": [1e-4, 1e-5], "batch_size": 20, "epochs": 15}
    of = xpnet.Population.of(Settings.from_mapping(given), blobs.features, blobs.classes)
    _, result = xpnet.train_population(of, blobs, max_replicas=most)
    assert result.none_better
    (warning,) = result.warnings
    assert warning.startswith("None of the 2 networks is better than guessing")
    assert "so none is called the best" in warning


@pytest.mark.parametrize(
    ("how", "enough"),
    [
        ({"epochs": 2}, "epochs = 15, which is 300 steps"),
        ({"cycles": 1, "n_s": 20}, "cycles = 8, which is 320 steps"),
        ({"schedule": "constant", "epochs": 14}, "epochs = 15, which is 300 steps"),
    ],
)
def test_few_steps_are_a_warning_with_a_length_that_suffices(how: dict[str, object], enough: str):
    config = xpnet.TrainConfig(batch_size=100, **how)
    (warning,) = few_steps(config.length(2000).steps, config, config.length(2000))
    assert warning.startswith(f"{config.length(2000).steps} steps are few")
    assert enough in warning
    assert few_steps(FEW_STEPS, config, config.length(2000)) == []


@given(st.integers(2, 12), st.integers(0, 2**32 - 1), st.integers(1, 40))
def test_no_better_lets_guessing_networks_pass_as_rarely_as_promised(classes: int, seed: int, among: int):
    """One answer for all samples never passes; networks right by chance pass about once in 1 / LEVEL at most."""
    rng = np.random.default_rng(seed)
    shares = rng.dirichlet(np.ones(classes))
    guess = Guessing("validation", 500, float(shares.max()), float(-(shares * np.log(shares)).sum()))
    assert guess.no_better(shares, np.full(classes, guess.loss), among).all()
    by_chance = rng.binomial(500, guess.accuracy, size=4000) / 500
    passed = (~guess.no_better(by_chance, np.full(4000, guess.loss + 1), among)).mean()
    assert passed <= LEVEL / among + 5 * math.sqrt(LEVEL / 4000) + 0.01
    assert guess.no_better([np.nan], [np.nan]).tolist() == [False]


def test_no_better_two_standard_errors_are_better():
    guess = Guessing("validation", 1000, 0.1, math.log(10))  # a standard error is 0.95 points
    losses = np.full(3, 9.0)
    assert guess.no_better([0.115, 0.1185, 0.1195], losses, 1).tolist() == [True, True, False]
    assert guess.no_better([0.1195, 0.13], losses[:2], 1000).tolist() == [True, True]


_FINISHED: dict[str, object] = {}


@pytest.fixture
def finished(tmp_path_factory: pytest.TempPathFactory, capsys: pytest.CaptureFixture[str]) -> tuple[str, str]:
    """Copy a run of two networks that guess to the folder `run`; return what the command printed."""
    if not _FINISHED:
        _FINISHED["folder"] = tmp_path_factory.mktemp("finished") / "run"
        small = [*PATTERNS, "--epochs", "2", "--init", "1e-4,1e-5", "--no-batch-norm"]
        main(["train", *small, "--out", str(_FINISHED["folder"])])
        _FINISHED["printed"] = tuple(capsys.readouterr())
    shutil.copytree(_FINISHED["folder"], "run")
    return _FINISHED["printed"]


def test_train_command_prints_warnings_last_and_writes_them(finished, capsys: pytest.CaptureFixture[str]):
    out, err = finished
    assert "best validation" not in out
    metrics = read_metrics(Path("run/metrics.json"))
    assert len(metrics["warnings"]) == 2
    assert err.splitlines()[-2:] == [f"warning: {sentence}" for sentence in metrics["warnings"]]
    assert metrics["guessing"]["no_better"] == [0, 1]
    main(["train", "--resume", "run", "--json"])
    again = capsys.readouterr()
    assert json.loads(again.out)["warnings"] == metrics["warnings"]
    assert again.err.count("warning: ") == 2


@pytest.mark.thorough
def test_pages_of_runs_that_guess_say_so_first_and_call_none_the_best(finished):
    record = read_run(Path("run"))
    assert record.none_better
    assert record.notes == record.metrics["warnings"]
    xpnet.write_report("run", out="one.html")
    page = Path("one.html").read_text()
    assert page.index("None of the 2 networks is better than guessing") < page.index('id="result"')
    assert "best by validation accuracy" not in page
    assert "None of 2 combinations of settings is better than guessing" in page
    shutil.copytree("run", "other")
    xpnet.write_report("run", "other", out="both.html")
    both = Path("both.html").read_text()
    assert "None of these runs is better than guessing, so none is called the best." in both
    assert "Neither run nor other is better than guessing" in both
    assert "best by validation accuracy" not in both


def test_metrics_of_earlier_versions_are_read(finished):
    metrics = json.loads(Path("run/metrics.json").read_text())
    del metrics["warnings"], metrics["guessing"]
    Path("run/metrics.json").write_text(json.dumps(metrics))
    record = read_run(Path("run"))
    assert (record.notes, record.none_better) == ([], False)


def test_search_of_trials_that_guess_says_so_once_and_calls_none_the_best(capsys: pytest.CaptureFixture[str]):
    small = [*PATTERNS, "--no-batch-norm", "--n-s", "4", "--cycles", "1"]
    main(["search", "sigma=1e-6..1e-5", "--trials", "3", *small, "--out", "found"])
    printed = capsys.readouterr()
    assert "no better than guessing, the highest: sigma" in printed.out
    assert "best: " not in printed.out
    assert printed.err.count("None of the 3 trials is better than guessing") == 1
    assert printed.err.count(f"fewer than {FEW_STEPS}") == 1
    known = json.loads(Path("found/search.json").read_text())
    assert known["guessing"]["no_better"] == [0, 1, 2]
    assert Path("found/best.toml").is_file()
    # The winner's run tells of its own network, and not of the population that it trained in.
    kept = json.loads(Path("found/best/metrics.json").read_text())
    assert kept["guessing"]["no_better"] == [0]
    assert kept["warnings"][0].startswith("The network is no better than guessing")
    assert f"warning: {kept['warnings'][0]}" in printed.err
    xpnet.write_report("found", out="found.html")
    page = Path("found.html").read_text()
    assert "No trial is better than guessing, so none is the best" in page
    assert "the best is bold" not in page
    assert "Best validation accuracy" not in page


@pytest.mark.parametrize(
    ("final", "words", "warnings"),
    [("same", "trained on", 1), ("none", "best: ", 1), ("500/40", "trained again on", 2)],
)
def test_search_warns_of_the_winner(final: str, words: str, warnings: int, capsys: pytest.CaptureFixture[str]):
    small = ["--data", "patterns:600/100", "--hidden", "8", "--epochs", "2", "--final", final, "--out", "found"]
    main(["search", "lambda=1e-4..1e-3", "--trials", "2", *small])
    printed = capsys.readouterr()
    assert words in printed.out
    assert printed.err.count(f"fewer than {FEW_STEPS}") == warnings


@pytest.mark.parametrize(
    ("training", "tried"),
    [
        ({"eta_max": 100.0}, {"eta_max": 10.0}),
        ({"epochs": 3}, {"epochs": 19}),
    ],
)
def test_warnings_of_a_single_network_have_what_to_try(blobs: Dataset, training, tried):
    conclusion = trained(blobs, **training).conclusion
    assert conclusion.evidence["try"] == tried
