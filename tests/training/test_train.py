"""The training loop: replicas, metrics, histories, failures."""

from __future__ import annotations

import numpy as np
import pytest
from calls import Calls
from strict import Module, strict_backend
from training_cases import network, tensors

import xpnet
from xpnet.errors import ArrayError, ConfigError, DivergedError
from xpnet.training.batches import order_seeds
from xpnet.training.device_data import to_device
from xpnet.training.evaluation import confusion_matrix, evaluate
from xpnet.training.train import train


def test_train_replicas_have_own_orders_unless_they_share_one(blobs):
    def weights(shuffle, **settings):
        net = network(2, dtype="float64")
        for p in net.parameters.values():
            p[1] = p[0]
        train(net, blobs, xpnet.TrainConfig(epochs=1, shuffle=shuffle, **settings))
        return net.parameters["W1"]

    shared, independent = weights("shared"), weights("independent")
    np.testing.assert_allclose(shared[0], shared[1], rtol=1e-12)
    assert np.abs(independent[0] - independent[1]).max() > 1e-3
    assert np.abs(weights("shared", shuffle_seed=9)[0] - shared[0]).max() > 1e-3


@pytest.mark.parametrize("batch_norm", [True, False])
def test_train_learns_a_hundred_samples_by_heart(batch_norm):
    rng = np.random.default_rng(0)
    x, labels = rng.standard_normal((110, 50)), rng.integers(0, 10, 110)
    data = xpnet.data_from_arrays(x, labels, x, labels, split="100/10")
    net = network(inputs=50, hidden=(50,), classes=10, batch_norm=batch_norm)
    result = train(net, data, xpnet.TrainConfig(lam=0, batch_size=20, schedule="constant", eta=0.1, epochs=350))
    assert result.train.accuracy == 1.0
    assert result.train.loss < 0.005


def test_train_metrics_running_are_before_the_step_and_full_after_it(blobs):
    """One batch an epoch: its running cost is that of the weights before the step."""
    settings = {"batch_size": 400, "epochs": 2, "schedule": "constant", "eta": 0.1, "lam": 0.3}
    net = network(dtype="float64")
    x = blobs.standardiser(blobs.train.x, "float64")
    cost, _ = net.cost_and_gradients(x, blobs.train.labels, 0.3)
    running = train(net, blobs, xpnet.TrainConfig(**settings))
    assert running.history["train_cost"][0] == pytest.approx(cost[0], rel=1e-12)
    net = network(dtype="float64")
    full = train(net, blobs, xpnet.TrainConfig(**settings, train_metrics="full"))
    last = evaluate(net, x, blobs.train.labels, 0.3)
    assert full.history["train_cost"][-1] == pytest.approx(last.cost, rel=1e-12)
    assert full.train.cost == pytest.approx(last.cost, rel=1e-12)
    np.testing.assert_allclose(full.history["validation_loss"], running.history["validation_loss"], rtol=1e-12)


def test_train_metrics_running_weigh_a_short_last_batch_by_its_samples(blobs):
    settings = {"batch_size": 300, "epochs": 1, "schedule": "constant", "eta": 1e-12, "lam": 0.0}
    net = network(batch_norm=False, dtype="float64")
    result = train(net, blobs, xpnet.TrainConfig(**settings))
    assert result.steps == 2
    assert result.history["train_loss"][0] == pytest.approx(result.train.loss, rel=1e-9)
    assert result.history["train_accuracy"][0] == pytest.approx(result.train.accuracy)
    dropped = train(network(batch_norm=False), blobs, xpnet.TrainConfig(**settings, drop_last=True))
    assert dropped.steps == 1


def test_evaluate_equals_a_plain_computation(blobs):
    net = network(2, dtype="float64")
    train(net, blobs, xpnet.TrainConfig(epochs=2))
    x, labels = blobs.standardiser(blobs.test.x, "float64"), blobs.test.labels
    metrics = evaluate(net, x, labels, np.array([0.1, 0.2]))
    p = net.predict_proba(x, standardised=True)
    np.testing.assert_allclose(metrics.losses, -np.log(p[:, np.arange(len(labels)), labels]).mean(axis=1), rtol=1e-10)
    np.testing.assert_array_equal(metrics.accuracies, (p.argmax(axis=-1) == labels).mean(axis=1))
    squares = sum((net.parameters[f"W{i}"] ** 2).sum(axis=(1, 2)) for i in (1, 2, 3))
    np.testing.assert_allclose(metrics.costs, metrics.losses + np.array([0.1, 0.2]) * squares, rtol=1e-12)
    counts = confusion_matrix(net, x, labels)
    np.testing.assert_allclose(np.trace(counts, axis1=1, axis2=2) / len(labels), metrics.accuracies)
    np.testing.assert_array_equal(counts.sum(axis=2), np.tile(np.bincount(labels), (2, 1)))


def test_evaluate_refuses_arrays_that_do_not_fit(blobs):
    net = network(2)
    x, labels = blobs.standardiser(blobs.test.x), blobs.test.labels
    for bad_x, bad_labels, message in [
        (x[:, 1:], labels, r"x: has shape \(60, 11\)"),
        (x.astype("float64"), labels, "x: is float64"),
        (np.stack([x, x]), labels, r"x: has shape \(2, 60, 12\); all networks are evaluated on the same"),
        (x, labels[1:], r"labels: have shape \(59,\)"),
        (x, labels + 4, "labels: range from 4"),
    ]:
        with pytest.raises(ArrayError, match=message):
            evaluate(net, bad_x, bad_labels)


def test_evaluate_in_chunks_equals_evaluation_at_once(blobs, monkeypatch):
    net = network(3, dtype="float64")
    # 129 samples in chunks of 64 leave one alone.
    x, labels = blobs.standardiser(blobs.train.x[:129], "float64"), blobs.train.labels[:129]
    at_once = evaluate(net, x, labels)
    monkeypatch.setitem(xpnet.training.evaluation._CHUNK_BYTES, "cpu", 1)
    in_chunks = evaluate(net, x, labels)
    np.testing.assert_allclose(in_chunks.losses, at_once.losses, rtol=1e-12)
    np.testing.assert_array_equal(in_chunks.accuracies, at_once.accuracies)


def test_metrics_read_as_the_json_output(blobs):
    one = train(network(), blobs, xpnet.TrainConfig(epochs=1))
    assert dict(one.test) == {"accuracy": one.test.accuracy, "loss": one.test.loss, "cost": one.test.cost}
    assert isinstance(one.test.accuracy, float)
    several = train(network(3), blobs, xpnet.TrainConfig(epochs=1))
    values = several.test["loss"]["values"]
    assert several.test.loss["mean"] == pytest.approx(np.mean(values))
    assert several.test.loss["std"] == pytest.approx(np.std(values, ddof=1))
    assert several.history["train_loss"].shape == (1, 3)
    with pytest.raises(KeyError):
        several.test["precision"]
    with pytest.raises(KeyError, match="a history has"):
        several.history["test_loss"]


@pytest.mark.parametrize(
    ("replicas", "settings", "sentence"),
    [
        (1, {"eta": 1e30, "lam": 0.0}, r"became (nan|inf) at step \d+, with learning rate 1e\+30; a smaller eta"),
        (1, {"lam": 11.0}, r"learning rate 0\.1 and lambda 11, whose product must be below 1; take a s"),
        (2, {"eta": (1e30, 1e31)}, "of replica 0 "),
    ],
)
def test_train_all_replicas_diverge_is_an_error_with_step_rate_and_advice(blobs, replicas, settings, sentence):
    config = xpnet.TrainConfig(**{"schedule": "constant", "eta": 0.1, "epochs": 50, "batch_size": 50} | settings)
    with pytest.raises(DivergedError, match=sentence):
        train(network(replicas, batch_norm=False), blobs, config)


def test_train_replica_that_diverges_late_has_figures_until_then(blobs):
    config = xpnet.TrainConfig(schedule="constant", eta=1e-3, epochs=6, batch_size=50)
    net = network(2, batch_norm=False)

    def poison(record):
        if record.epoch == 3:
            net.parameters["W1"][1] = np.inf

    result = train(net, blobs, config, callbacks=[Calls(on_epoch_end=poison)])
    assert np.isfinite(result.history["validation_loss"][:3]).all()
    assert np.isnan(result.history["validation_loss"][3:, 1]).all()
    assert np.isfinite(result.history["validation_loss"][:, 0]).all()
    per_epoch = result.steps // 6
    assert result.diverged[1].step == 3 * per_epoch


@pytest.mark.parametrize("shuffle_seed", [None, 5])
def test_order_seeds_replicas_of_one_seed_share_an_order(shuffle_seed):
    def orders(seeds, **settings):
        return order_seeds(xpnet.TrainConfig(shuffle_seed=shuffle_seed, **settings), seeds)

    base = 3 if shuffle_seed is None else shuffle_seed
    assert orders([3]) == (base,)
    assert orders([3, 3, 3]) == (base,) * 3
    assert orders([3, 3, 4, 4]) == (base, base, base + 1, base + 1)
    assert orders([3, 4], shuffle="shared") == (base, base)
    assert orders([3, 3], shuffle="independent") == (base, base + 1)


def test_train_stopped_keeps_what_was_learned(blobs):
    taken = []
    callback = Calls(on_steps=taken.append, should_stop=lambda: sum(taken) >= 100)
    result = train(network(), blobs, xpnet.TrainConfig(epochs=50, batch_size=10), callbacks=[callback])
    assert result.interrupted
    assert 100 <= result.steps == sum(taken) <= 150
    assert len(result.history) == result.epochs == -(-result.steps // 40)
    assert np.isfinite(result.test.loss)
    assert result.history["step"][-1] == result.steps


def test_train_may_end_within_an_epoch(blobs):
    result = train(network(), blobs, xpnet.TrainConfig(batch_size=100, n_s=3, cycles=1))
    assert (result.steps, result.epochs) == (6, 2)
    assert not result.interrupted
    assert list(result.history["step"]) == [4, 6]
    assert len(result.seconds_training) == 2


def test_train_on_prepared_data_gives_the_same(blobs):
    first = train(network(), blobs, xpnet.TrainConfig(epochs=1))
    net = network()
    prepared = to_device(blobs, net.backend, net.dtype)
    second = train(net, prepared, xpnet.TrainConfig(epochs=1))
    assert first.test.loss == second.test.loss
    with pytest.raises(ConfigError, match="prepared as float32"):
        train(network(dtype="float64"), prepared)


@pytest.mark.parametrize(
    ("net", "config", "message"),
    [
        ({}, {"lam": (0.1, 0.2)}, "lambda: has 2 values for 1 replicas"),
        ({}, {"batch_size": 1}, "batch_size = 1: leaves a batch of one of the 400 training samples"),
        ({}, {"batch_size": 500, "drop_last": True}, "larger than the 400 training samples"),
        ({"inputs": 5}, {}, "inputs = 5: the data arrays has 12 features"),
        ({"classes": 3}, {}, "classes = 3: the data arrays has 4 classes"),
    ],
)
def test_train_network_data_and_settings_that_do_not_fit_are_refused(blobs, net, config, message):
    with pytest.raises(ConfigError, match=message):
        train(network(**net), blobs, xpnet.TrainConfig(**config))


def test_train_plain_arrays_are_refused(blobs):
    with pytest.raises(ConfigError, match=r"data: is a tuple; pass what xpnet\.load_data"):
        train(network(), (blobs.train.x, blobs.train.labels))


@pytest.mark.parametrize(("batch_norm", "settings"), [(False, {}), (True, {"momentum": 0.9, "nesterov": True})])
def test_train_on_a_strict_device_gives_the_same_without_synchronising_in_an_epoch(blobs, batch_norm, settings):
    backend = strict_backend()
    module: Module = backend.xp
    config = xpnet.TrainConfig(epochs=3, batch_size=70, lam=0.01, **settings)
    counts = []
    device = network(2, batch_norm=batch_norm, backend=backend, dtype="float64")
    callback = Calls(on_steps=lambda _: counts.append(module.synchronisations))
    result = train(device, blobs, config, callbacks=[callback])
    host = network(2, batch_norm=batch_norm, dtype="float64")
    expected = train(host, blobs, config)
    for name, tensor in tensors(host).items():
        np.testing.assert_allclose(tensors(device)[name], tensor, rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(result.history["train_cost"], expected.history["train_cost"], rtol=1e-9)
    np.testing.assert_allclose(result.test.losses, expected.test.losses, rtol=1e-9)
    assert result.device == "strict:0"
    # The counter stands still within an epoch of 6 steps, and moves between epochs.
    assert len(set(counts)) == 3
    assert module.launches > 100
