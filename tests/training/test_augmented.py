"""Trainings on pictures that are flipped, moved and cut: batches, resuming, populations, and views of a test set."""

from __future__ import annotations

import dataclasses
import re
from typing import Any

import numpy as np
import pytest
from calls import Calls
from strict import strict_backend
from training_cases import assert_same_bits

import xpnet
from xpnet.config.settings import Settings
from xpnet.data import Rows, samples_of
from xpnet.data.views import Augmentation, view_of
from xpnet.errors import ConfigError, DataError
from xpnet.training.batches import Batches, order_seeds
from xpnet.training.device_data import to_device
from xpnet.training.evaluation import evaluate_views
from xpnet.training.population import Population
from xpnet.training.train_population import train_population

RNG = np.random.default_rng(0)
IMAGES = np.clip(
    90 + 60 * RNG.standard_normal((3, 8, 8, 3))[np.arange(150) % 3] + 40 * RNG.standard_normal((150, 8, 8, 3)), 0, 255
).astype(np.uint8)
LABELS = np.arange(150) % 3
# All settings of pictures and labels together.
ALL = {"flip": "random", "shift": 2, "cutout": 3, "label_smoothing": 0.1, "batch_size": 20, "momentum": 0.5}
FORMS: dict[str, dict[str, Any]] = {"plain": {}, "pooled": {"pool": 2}, "components": {"pool": 2, "pca": 9}}


def pictures(form: str = "components", dtype: str = "uint8") -> xpnet.Dataset:
    return xpnet.data_from_arrays(IMAGES.astype(dtype), LABELS, split="110/20", **FORMS[form])


def networks(data: xpnet.Dataset, replicas: Any = 2, **options: Any) -> xpnet.Network:
    config = xpnet.NetworkConfig(inputs=data.inputs, hidden=(8, 5), classes=3)
    return xpnet.Network(config, seed=range(replicas) if isinstance(replicas, int) else replicas, **options)


def run(data: Any, config: xpnet.TrainConfig, *, start: Any = None, stop: int | None = None, **options: Any) -> Any:
    """Train; return the networks, the result and the state of the last checkpoint."""
    net = networks(data, **options)
    taken: list[int] = []
    states: list[Any] = []
    callback = Calls(
        on_steps=taken.append,
        should_stop=lambda: stop is not None and sum(taken) >= stop,
        on_checkpoint=lambda point: states.append(point.state()),
    )
    result = xpnet.train(net, data, config, start=start, callbacks=[callback])
    return net, result, states[-1] if states else None


# -- batches ----------------------------------------------------------------------------------------------


def test_rows_of_an_epoch_are_the_samples_of_the_order_in_views_of_their_own():
    config, plain = xpnet.TrainConfig(**ALL), xpnet.TrainConfig(batch_size=20)
    augmentation = Augmentation.of(config, (3, 8, 8))
    for epoch in range(3):
        rows = Batches((4,), 110, config, image_shape=(3, 8, 8)).of_epoch(epoch)
        order = Batches((4,), 110, plain).of_epoch(epoch)
        assert len(rows) == len(order) == 2
        for found, samples in zip(rows, order, strict=True):
            np.testing.assert_array_equal(samples_of(found), samples)
            np.testing.assert_array_equal(found.ravel(), augmentation.rows(samples.ravel(), 4, epoch))


@pytest.mark.parametrize(
    ("settings", "shared", "equal"),
    [
        ({"shuffle": "shared"}, True, True),
        ({"shuffle": "shared", "shuffle_seed": 9}, True, True),
        ({}, False, False),
        ({"shuffle": "independent"}, False, False),
    ],
)
def test_replicas_of_one_order_see_the_same_views(settings, shared, equal):
    config = xpnet.TrainConfig(**ALL, **settings)
    seeds = order_seeds(config, (3, 4))
    assert (seeds[0] == seeds[1]) == equal
    full, _ = Batches(seeds, 110, config, image_shape=(3, 8, 8)).of_epoch(1)
    assert full.shape == ((5, 20) if shared else (5, 2, 20))
    if not shared:  # a replica has the views of its own seed, whoever is trained beside it
        for r, seed in enumerate(seeds):
            alone, _ = Batches((seed,), 110, config, image_shape=(3, 8, 8)).of_epoch(1)
            np.testing.assert_array_equal(full[:, r], alone)
        by_sample = [np.sort(full[:, r].ravel()) for r in range(2)]
        assert (by_sample[0] != by_sample[1]).mean() > 0.5


def test_data_without_augmentation_has_rows_that_are_samples():
    for config in (xpnet.TrainConfig(batch_size=20), xpnet.TrainConfig(batch_size=20, views=6)):
        for batches in Batches((0,), 110, config, image_shape=(3, 8, 8)).of_epoch(0):
            assert batches.max() < 110


def test_alternating_flips_reach_the_batches():
    config = xpnet.TrainConfig(flip="alternating", batch_size=110)
    flips = []
    for epoch in range(3):
        (rows,) = Batches((1,), 110, config, image_shape=(3, 8, 8)).of_epoch(epoch)
        flips.append(view_of(rows[0][np.argsort(samples_of(rows[0]))]).flip)
    np.testing.assert_array_equal(flips[0], 1 - flips[1])
    np.testing.assert_array_equal(flips[0], flips[2])


# -- trainings --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("settings", [{"flip": "alternating"}, {"shift": 2, "border": "constant"}, {"cutout": 4}, ALL])
def test_the_first_step_is_that_of_the_pictures_as_they_are_seen(form, settings):
    """One batch an epoch: its cost is that of inputs which are computed from the definition."""
    data = pictures(form)
    config = xpnet.TrainConfig(**settings | {"batch_size": 110, "epochs": 1, "lam": 0.1})
    net = networks(data, 1, dtype="float64")
    (rows,) = Batches((0,), 110, config, image_shape=data.image_shape).of_epoch(0)
    seen = data.transform.lazily(data.train.x, "float64", data.image_shape, config.border, config.cutout).take(rows[0])
    labels = data.train.labels[samples_of(rows[0])]
    cost, _ = net.cost_and_gradients(seen, labels, 0.1, config.label_smoothing)
    plain, _ = net.cost_and_gradients(data.transform(data.train.x, "float64"), data.train.labels, 0.1)
    result = xpnet.train(net, data, config)
    assert result.history["train_cost"][0] == pytest.approx(cost[0], rel=1e-10)
    assert abs(cost[0] - plain[0]) > 1e-6


@pytest.mark.parametrize("form", ["plain", "components"])
@pytest.mark.parametrize("settings", [ALL, {**ALL, "flip": "alternating", "momentum": 0.0, "shuffle": "shared"}])
@pytest.mark.guarantee("resume")
def test_augmented_training_stopped_anywhere_goes_on_to_the_same_bits(form, settings, harm):
    data = pictures(form)
    config = xpnet.TrainConfig(**settings, schedule="one-cycle", epochs=3.5)
    complete = run(data, config)
    assert (complete[1].steps, complete[1].epochs) == (21, 4)
    for stop in (1, 4, 6, 13, 20):
        *_, state = run(data, config, stop=stop)
        harm.did("trainings stopped")
        assert stop <= state.step <= 21
        assert_same_bits(complete, run(data, config, start=state))


def test_augmented_training_gives_the_same_bits_again():
    data, config = pictures(), xpnet.TrainConfig(**ALL, epochs=2)
    assert_same_bits(run(data, config), run(data, config))


@pytest.mark.parametrize(
    "values",
    [
        {"runs": 3, "seed": 5},
        {"lambda": [0.0, 0.1], "runs": 2},
        {"label_smoothing": [0.0, 0.1, 0.3], "shuffle": "shared"},
        {"runs": 2, "flip": "alternating", "cutout": 5, "border": "constant"},
    ],
)
def test_each_network_of_an_augmented_population_equals_its_single_run(values):
    data = pictures()
    common = {"hidden": [6], **ALL, "epochs": 2, **values}
    population = Population.of(Settings.from_mapping(common), data.inputs, data.classes)
    together, result = train_population(population, data, dtype="float64")
    for r, row in enumerate(population.rows):
        settings = Settings.from_mapping({**common, "runs": 1, **row})
        alone = xpnet.Network(settings.network_config(data.inputs, 3), dtype="float64", seed=settings.run.seed)
        single = xpnet.train(alone, data, settings.train)
        for name, tensor in alone.parameters.items():
            np.testing.assert_allclose(together.parameters[name][r], tensor[0], rtol=1e-9, atol=1e-9, err_msg=str(row))
        for column in ("train_cost", "validation_loss", "train_accuracy"):
            np.testing.assert_allclose(result.history[column][:, r], single.history[column], rtol=1e-9)


@pytest.mark.parametrize("fast", ["0", "1"])
@pytest.mark.parametrize("form", FORMS)
def test_augmented_training_on_another_device_is_that_of_the_host(monkeypatch, fast, form):
    monkeypatch.setenv("XPNET_FAST", fast)
    data, config = pictures(form), xpnet.TrainConfig(**ALL, epochs=2, views=6, stepper="plain")
    backend = strict_backend()
    here, result, _ = run(data, config, dtype="float64")
    there, found, _ = run(data, config, dtype="float64", backend=backend)
    for name, tensor in here.parameters.items():
        np.testing.assert_allclose(backend.to_numpy(there.parameters[name]), tensor, rtol=1e-9, atol=1e-10)
    np.testing.assert_allclose(found.test_views.losses, result.test_views.losses, rtol=1e-9)
    np.testing.assert_allclose(found.history["train_loss"], result.history["train_loss"], rtol=1e-9)


def test_prepared_data_serves_trainings_with_and_without_augmentation():
    data = pictures("pooled")
    prepared = to_device(data, xpnet.get_backend("cpu"), "float32")
    for settings in ({}, ALL, {"views": 2}, {**ALL, "cutout": 0}, {}):
        config = xpnet.TrainConfig(epochs=1, **settings)
        net, other = networks(data), networks(data)
        first, again = xpnet.train(net, data, config), xpnet.train(other, prepared, config)
        assert_same_bits((net, first), (other, again))
        assert (again.test_views is None) == ("views" not in settings)


@pytest.mark.parametrize("form", FORMS)
def test_full_training_figures_are_of_the_pictures_as_they_are(form):
    data = pictures(form)
    net, result, _ = run(data, xpnet.TrainConfig(**ALL, epochs=2, train_metrics="full"), dtype="float64")
    expected = xpnet.evaluate(net, data.transform(data.train.x, "float64"), data.train.labels, 0.005)
    np.testing.assert_allclose(result.train.costs, expected.costs, rtol=1e-9)
    np.testing.assert_allclose(result.history["train_cost"][-1], expected.costs, rtol=1e-9)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("dtype", ["uint8", "float32"])
def test_pictures_on_the_disk_train_as_those_in_memory(monkeypatch, form, dtype):
    monkeypatch.setattr("xpnet.data.readers.npy.MAPPED_FROM", 1000)
    gray = IMAGES[..., 0].astype(dtype)
    np.save("x.npy", gray)
    np.save("y.npy", LABELS)
    found = []
    for data in (
        xpnet.load_data("x.npy", test_fraction=0.2, **FORMS[form]),
        xpnet.data_from_arrays(gray, LABELS, test_fraction=0.2, **FORMS[form]),
    ):
        net, result, _ = run(data, xpnet.TrainConfig(**ALL, epochs=2, views=6), dtype="float64")
        found.append((net.parameters["W1"], result.test_views.losses))
        on_disk = isinstance(data.train.x, Rows)
        assert on_disk == (len(found) == 1)
    for one, other in zip(*found, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-10, atol=1e-12)


def test_a_part_of_an_epoch_is_a_shorter_record():
    data = pictures("plain")
    result = run(data, xpnet.TrainConfig(batch_size=20, epochs=1.5, schedule="one-cycle"))[1]
    assert (result.steps, result.epochs, len(result.history)) == (9, 2, 2)
    np.testing.assert_array_equal(result.history["step"], [6, 9])
    whole = run(data, xpnet.TrainConfig(batch_size=20, epochs=1, schedule="constant"))[1]
    same = run(data, xpnet.TrainConfig(batch_size=20, epochs=1.5, schedule="constant"))[1]
    np.testing.assert_array_equal(same.history["train_loss"][0], whole.history["train_loss"][0])


# -- views of the test set --------------------------------------------------------------------------------


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("views", [2, 6])
def test_figures_of_views_are_those_of_their_mean_probabilities(form, views):
    data = pictures(form)
    net, result, _ = run(data, xpnet.TrainConfig(**ALL, epochs=2, views=views), dtype="float64")
    p = net.predict_proba(data.test.x, views=views)
    labels = data.test.labels
    assert (result.views, result.test_views.accuracies.shape) == (views, (2,))
    np.testing.assert_allclose(result.test_views.accuracies, (p.argmax(axis=-1) == labels).mean(axis=1))
    np.testing.assert_allclose(result.test_views.losses, -np.log(p[:, np.arange(len(labels)), labels]).mean(axis=1))
    assert np.isnan(result.test_views.costs).all()
    plain = net.predict_proba(data.test.x)
    np.testing.assert_allclose(result.test.losses, -np.log(plain[:, np.arange(len(labels)), labels]).mean(axis=1))
    written = result.to_json()["test_views"]
    assert written.keys() == {"views", "accuracy", "loss"}
    assert written["views"] == views
    np.testing.assert_allclose(written["loss"]["values"], result.test_views.losses)


def test_one_view_has_no_figures_of_its_own():
    data = pictures("plain")
    result = run(data, xpnet.TrainConfig(epochs=1))[1]
    assert (result.test_views, result.views) == (None, 1)
    assert "test_views" not in result.to_json()
    assert result.to_json()["seconds"]["transforms"] >= 0


def test_one_view_evaluated_as_views_has_the_figures_of_the_test_set():
    data = pictures("components")
    net, result, _ = run(data, xpnet.TrainConfig(epochs=2), dtype="float64")
    x = data.transform.lazily(data.test.x, "float64", data.image_shape)
    found = evaluate_views(net, x, data.test.labels, 1)
    np.testing.assert_allclose(found.losses, result.test.losses, rtol=1e-10)
    np.testing.assert_array_equal(found.accuracies, result.test.accuracies)


def test_views_of_chunks_are_joined_in_their_order():
    data = pictures()
    settings = Settings.from_mapping({"hidden": [6], **ALL, "epochs": 2, "views": 2, "runs": 3})
    population = Population.of(settings, data.inputs, data.classes)
    at_once, in_chunks = (train_population(population, data, dtype="float64", max_replicas=m)[1] for m in (None, 1))
    assert in_chunks.test_views.losses.shape == (3,)
    np.testing.assert_allclose(in_chunks.test_views.losses, at_once.test_views.losses, rtol=1e-9)
    assert in_chunks.views == 2
    np.testing.assert_allclose(in_chunks.to_json()["test_views"]["loss"]["values"], at_once.test_views.losses)


def test_views_of_networks_that_diverged_are_no_numbers():
    data = pictures("plain")
    config = xpnet.TrainConfig(epochs=2, views=2, schedule="constant", eta=(0.01, 1e30))
    result = run(data, config)[1]
    assert list(result.diverged) == [1]
    assert np.isfinite(result.test_views.losses).tolist() == [True, False]
    assert np.isnan(result.test_views.accuracies).tolist() == [False, True]


def test_views_of_a_training_that_was_stopped_are_not_evaluated():
    data = pictures("plain")
    result = run(data, xpnet.TrainConfig(epochs=3, views=2, batch_size=20), stop=2)[1]
    assert result.interrupted
    assert (result.test_views is None) == bool(np.isnan(result.test.losses).all())


# -- settings that cannot be used -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"flip": "random"}, "flip = random: needs pictures, and arrays has features of another kind"),
        ({"flip": "alternating"}, "flip = alternating: needs pictures, and arrays has features of another kind"),
        ({"shift": 1}, "shift = 1: needs pictures, and arrays has features of another kind"),
        ({"cutout": 2}, "cutout = 2: needs pictures, and arrays has features of another kind"),
        ({"views": 6}, "views = 6: needs pictures, and arrays has features of another kind"),
    ],
)
def test_tables_have_no_views(blobs, settings, message):
    config = xpnet.TrainConfig(epochs=1, **settings)
    network = xpnet.Network(xpnet.NetworkConfig(inputs=12, classes=4))
    for data in (blobs, to_device(blobs, network.backend, "float32")):
        with pytest.raises(DataError, match=rf"^{message}$"):
            xpnet.train(network, data, config)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"shift": 8}, "shift = 8: leaves nothing of pictures of 8 x 8; take at most 7"),
        ({"shift": 31}, "shift = 31: leaves nothing of pictures of 8 x 8; take at most 7"),
        ({"cutout": 8}, "cutout = 8: leaves nothing of pictures of 8 x 8; take at most 7"),
    ],
)
def test_moves_and_squares_beyond_the_pictures_are_refused(settings, message):
    data = pictures("plain")
    with pytest.raises(DataError, match=rf"^{message}$"):
        xpnet.train(networks(data), data, xpnet.TrainConfig(epochs=1, **settings))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"flip": "sometimes"}, "flip = sometimes: must be none, random or alternating"),
        ({"shift": 32}, "shift = 32: must be a whole number"),
        ({"shift": -1}, "shift = -1: must be a whole number"),
        ({"cutout": 511}, "cutout = 511: must be a whole number"),
        ({"border": "wrap"}, "border = wrap: must be reflect or constant"),
        ({"views": 3}, "views = 3: must be 1, 2 or 6"),
        ({"views": "all"}, "views = all: must be 1, 2 or 6"),
        ({"anneal": "fast"}, "anneal = fast: must be cosine or linear"),
        ({"label_smoothing": 1}, "label_smoothing = 1: must be a finite number of at least 0 and below 1"),
    ],
)
def test_values_that_a_setting_cannot_have_are_refused(settings, message):
    with pytest.raises(ConfigError, match=rf"^{message}"):
        xpnet.TrainConfig(**settings)


def test_a_border_without_a_shift_has_no_effect_and_is_refused():
    with pytest.raises(
        ConfigError, match=r"^border = constant: has no effect without shift; set it, or leave border out$"
    ):
        Settings.from_mapping({"border": "constant", "flip": "random"})
    assert "border" not in Settings.from_mapping({"flip": "random"}).to_mapping()
    assert Settings.from_mapping({"shift": 1}).to_mapping()["border"] == "reflect"


@pytest.mark.parametrize("stepper", ["split"])
@pytest.mark.parametrize(
    ("settings", "name"),
    [
        ({"flip": "random"}, "flip = random"),
        ({"shift": 2}, "shift = 2"),
        ({"cutout": 3}, "cutout = 3"),
        ({"label_smoothing": 0.1}, "label_smoothing = 0.1"),
    ],
)
def test_a_stepper_without_a_setting_refuses_it_by_name(stepper, settings, name):
    data = pictures("plain")
    config = xpnet.TrainConfig(epochs=1, stepper=stepper, **settings)
    with pytest.raises(ConfigError, match=rf"^stepper = {stepper}: does not know the setting {re.escape(name)}; take"):
        xpnet.train(networks(data, 1), data, config)


def test_a_range_test_sees_the_views_and_smooths_the_labels():
    data = pictures("components")
    found = {}
    for name, settings in (("none", {}), ("smooth", {"label_smoothing": 0.3}), ("flip", {"flip": "random"})):
        config = xpnet.TrainConfig(batch_size=110, **settings)
        network = xpnet.NetworkConfig(inputs=data.inputs, hidden=(6,), classes=3)
        found[name] = xpnet.lr_range(network, data, config, steps=20, dtype="float64").losses[0, 0]
    for name, settings in (("smooth", {"label_smoothing": 0.3}), ("flip", {"flip": "random"})):
        config = xpnet.TrainConfig(batch_size=110, **settings)
        (rows,) = Batches((0,), 110, config, image_shape=data.image_shape).of_epoch(0)
        seen = data.transform.lazily(data.train.x, "float64", data.image_shape).take(rows[0])
        net = xpnet.Network(dataclasses.replace(network), dtype="float64")
        labels = data.train.labels[samples_of(rows[0])]
        cost, _ = net.cost_and_gradients(seen, labels, 0.0, config.label_smoothing)
        assert found[name] == pytest.approx(cost[0], rel=1e-10)
        assert abs(found[name] - found["none"]) > 1e-6
