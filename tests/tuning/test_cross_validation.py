"""Cross-validation: every network equals a training on the rows of its fold alone."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
from calls import Calls
from training_cases import network, population

from xpnet.backend import get_backend
from xpnet.config.definitions import DataConfig
from xpnet.config.settings import Settings
from xpnet.data import Transform, load_data
from xpnet.data.folds import make_folds, rows_of
from xpnet.errors import ConfigError, DataError
from xpnet.training import fold_data as fold_data_module
from xpnet.training.batches import order_seeds
from xpnet.training.fold_data import side_by_side
from xpnet.training.population import Population
from xpnet.training.train import train
from xpnet.tuning import cross_validation
from xpnet.tuning.cross_validation import cross_validate, fold_data, for_data
from xpnet.tuning.fold_trainer import FoldData, FoldTrainer

SETTINGS = {"hidden": [6], "n_s": 8, "epochs": 2, "batch_size": 32, "lambda": [0.0, 0.05], "runs": 2}


def solo(settings, row, data, order):
    """Return the network and the result of a training with one row's settings on one fold."""
    common = {name: value for name, value in settings.items() if name not in row and name != "runs"}
    one = Settings.from_mapping({**common, **row})
    alone = network(dtype="float64", seed=one.run.seed, **one.network)
    return alone, train(alone, data, one.train, orders=[order])


def trained(settings, data, folds, **options):
    """Return a population, and its parts as it is trained on folds in float64."""
    people = population(**settings)
    trainer = FoldTrainer(fold_data(data, folds, DataConfig()), get_backend("cpu"), "float64")
    return people, list(trainer.train(lambda _: people, **options))


def with_rows(data, count):
    """Return data with fewer training rows."""
    return dataclasses.replace(data, train=rows_of(data.train, slice(count)))


def check_each_is_its_solo_training(settings, people, parts):
    orders = order_seeds(people.train, people.seeds)
    for part in parts:
        for place, own in enumerate(part.datasets):
            members = range(part.network.replicas)[part.part(place)]
            for r, row, order in zip(members, people.rows, orders, strict=True):
                alone, result = solo(settings, row, own, order)
                for name, tensor in alone.parameters.items():
                    np.testing.assert_allclose(part.network.parameters[name][r], tensor[0], rtol=1e-9, atol=1e-9)
                for which in ("train", "validation", "test"):
                    got, wanted = getattr(part.result, which), getattr(result, which)
                    assert got.losses[r] == pytest.approx(wanted.loss, rel=1e-9), which
                    assert got.accuracies[r] == wanted.accuracy
                wanted = result.history["train_loss"]  # shorter where the network stopped early
                losses = part.result.history.columns()["train.losses"][: len(wanted), r]
                np.testing.assert_allclose(losses, wanted)


@pytest.mark.parametrize(
    ("values", "most"),
    [
        ({}, None),
        ({"shuffle": "independent", "schedule": "constant", "eta": [0.1, 0.01], "n_s": None}, None),
        ({"momentum": 0.9, "drop_last": True, "lambda": 0.01, "batch_norm": False, "runs": 3}, 4),
        ({"label_smoothing": [0.0, 0.1], "shuffle_seed": 7}, None),
        ({"class_weight": "balanced", "dropout": [0.0, 0.3], "epochs": 3}, None),
        ({"patience": 1, "restore": "best", "eta_max": 0.5, "epochs": 6}, None),
        ({"optimiser": "adamw", "eta_max": [0.01, 0.02], "lambda": 0.01}, None),
    ],
)
def test_networks_of_folds_equal_trainings_on_the_rows_of_each_fold(blobs, values, most, monkeypatch):
    """Three folds of 398 rows: two train on 265 of them and one on 266, in batches of other sizes."""
    settings = {name: value for name, value in {**SETTINGS, **values}.items() if value is not None}
    data = with_rows(blobs, 398)
    if most:  # networks that fit in memory: chunks end within a fold
        monkeypatch.setattr("xpnet.training.train_population.most_in_memory", lambda *_: most)
    people, parts = trained(settings, data, make_folds(data.train.labels, 3))
    assert sorted(len(part.folds) for part in parts) == [1, 2]
    check_each_is_its_solo_training(settings, people, parts)


@pytest.mark.parametrize("reason", ["raw features", "little memory", "pictures that are changed"])
def test_folds_that_cannot_lie_side_by_side_train_one_after_another(blobs, reason, monkeypatch):
    settings, data = {**SETTINGS, "lambda": 0.01, "runs": 1}, with_rows(blobs, 120)
    if reason == "raw features":
        data = dataclasses.replace(data, in_memory="raw")
    elif reason == "little memory":
        monkeypatch.setattr(fold_data_module, "free_memory", lambda _: 1000)
    else:
        settings, data = {**settings, "flip": "random"}, dataclasses.replace(data, image_shape=(1, 3, 4))
    people, parts = trained(settings, data, make_folds(data.train.labels, 3))
    assert [part.folds for part in parts] == [(0,), (1,), (2,)]
    check_each_is_its_solo_training(settings, people, parts)


def test_population_on_folds_is_drawn_and_standardised_once_for_several_trainings(blobs, monkeypatch):
    made = []
    original = cross_validation.with_training_rows
    monkeypatch.setattr(cross_validation, "with_training_rows", lambda *a, **k: made.append(1) or original(*a, **k))
    trainer = FoldTrainer(
        fold_data(blobs, make_folds(blobs.train.labels, 4), DataConfig()), get_backend("cpu"), "float32"
    )
    for lam in (0.0, 0.1):
        people = population(**{**SETTINGS, "lambda": lam})
        assert [part.folds for part in trainer.train(lambda _, people=people: people)] == [(0, 1, 2, 3)]
    assert len(made) == 4


def test_values_by_training_row_follow_the_folds(blobs):
    few, other = with_rows(blobs, 30), dataclasses.replace(with_rows(blobs, 30), name="other")
    data = side_by_side([few, other], get_backend("cpu"), "float64")
    assert data.by_training_row(lambda _: None) is None
    values = data.by_training_row(lambda own: np.full(30, 2.0) if own.name == "other" else None)
    np.testing.assert_array_equal(values, np.repeat([1.0, 2.0], 30))
    assert data.parts[0].by_training_row(lambda own: own.train.labels) is few.train.labels


def test_folds_with_other_inputs_train_apart(blobs):
    """Encoded tables may have other inputs on other rows; here a projection stands for that."""
    few = with_rows(blobs, 120)
    projected = dataclasses.replace(few, transform=Transform.fit(few.train.x, None, pca=5))
    folds = [FoldData(120, lambda data=data: data) for data in (few, projected, few)]
    trainer = FoldTrainer(folds, get_backend("cpu"), "float32")
    parts = list(trainer.train(for_data(population(**SETTINGS))))
    assert [part.folds for part in parts] == [(0,), (1,), (2,)]
    assert [part.network.config.inputs for part in parts] == [12, 5, 12]


def test_each_fold_of_a_table_encodes_the_categories_of_its_own_rows():
    rng = np.random.default_rng(0)
    lines = [
        f"{rng.normal():.3f},{'abcdefgh'[k % 8] if k > 2 else 'rare'},{'' if k % 7 == 0 else k},{k % 2}"
        for k in range(90)
    ]
    Path("t.csv").write_text("\n".join(["x,colour,count,label", *lines]) + "\n")
    data = load_data("t.csv")
    folds = make_folds(data.train.labels, 3)
    for fold, own in zip(folds, fold_data(data, folds, DataConfig()), strict=True):
        transform = own.dataset().transform
        expected = rows_of(data.train, fold.train)
        np.testing.assert_array_equal(
            transform(expected.x), data_with(data, expected).refitted(DataConfig()).transform(expected.x)
        )
    people = Population.of(
        Settings.from_mapping({"hidden": [4], "epochs": 1, "batch_size": 10}), data.inputs, data.classes
    )
    assert np.isfinite(cross_validate(people, data, 3).losses).all()


def data_with(data, train):
    return dataclasses.replace(data, train=train)


def test_cross_validate_gives_figures_of_each_network_and_fold(blobs):
    people = population(**{**SETTINGS, "epochs": 6})
    result = cross_validate(people, blobs, 4)
    assert result.accuracies.shape == result.losses.shape == (4, 4)
    assert result.accuracies.mean() > 0.5
    assert not result.interrupted
    json = result.to_json()
    assert json["folds"] == 4
    assert json["accuracy"]["values"] == result.accuracies.reshape(-1).tolist()
    assert json["accuracy"]["std"] == pytest.approx(np.std(result.accuracies, ddof=1))
    assert result.to_json(1)["loss"]["values"] == result.losses[1].tolist()
    again = cross_validate(people, blobs, 4, config=DataConfig(data_seed=3))
    assert not np.array_equal(again.accuracies, result.accuracies)


def test_cross_validate_where_networks_diverge_leaves_out_their_figures(blobs):
    settings = {**SETTINGS, "schedule": "constant", "eta": [1e30, 0.1], "lambda": 1e3, "batch_norm": False, "n_s": None}
    people = population(**{name: value for name, value in settings.items() if value is not None})
    with np.errstate(all="ignore"):
        result = cross_validate(people, blobs, 2)
    assert np.isnan(result.accuracies[[0, 2]]).all()


def test_cross_validate_that_a_callback_stops_is_interrupted(blobs):
    result = cross_validate(population(**SETTINGS), blobs, 4, callbacks=[Calls(should_stop=lambda: True)])
    assert result.interrupted
    assert np.isnan(result.accuracies).all()


@pytest.mark.parametrize(
    ("values", "folds", "error", "message"),
    [
        ({}, 1, ConfigError, "folds = 1: must be"),
        ({}, 500, DataError, "cv = 500: the training set has 400 rows"),
        ({"batch_size": 390, "drop_last": True}, 2, ConfigError, "cv = 2: batch_size = 390: larger than the 200"),
    ],
)
def test_cross_validate_refuses_what_does_not_fit(blobs, values, folds, error, message):
    with pytest.raises(error, match=message):
        cross_validate(population(**{**SETTINGS, **values}), blobs, folds)
