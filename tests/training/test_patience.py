"""Networks that stop when they no longer get better, and end with the weights of their best epoch."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from calls import Calls
from strict import strict_backend
from training_cases import assert_same_bits, network, population, tensors

import xpnet
from xpnet.errors import ConfigError
from xpnet.runs.checkpoints import read_checkpoint, write_checkpoint
from xpnet.training.evaluation import evaluate
from xpnet.training.history import Metrics
from xpnet.training.patience import Patience
from xpnet.training.result import stops_in_words

# Rates at which the validation accuracy goes up and down.
ROUGH = {"schedule": "constant", "eta": 0.3, "batch_size": 40, "epochs": 14, "momentum": 0.5, "lam": 0.01}
SEEDS = (0, 1, 2)


def best_by_hand(accuracies, losses, patience):
    """Return the best epoch and the epoch after which a network stops, or None, from its figures by epoch."""
    best = 0
    for epoch, pair in enumerate(zip(accuracies, -losses, strict=True)):
        if pair > (accuracies[best], -losses[best]):
            best = epoch
        if patience is not None and epoch - best >= patience and epoch < len(accuracies) - 1:
            return best + 1, epoch + 1
    return best + 1, None


@pytest.fixture(scope="module")
def whole(blobs):
    """Return the result of a training to its end, and the tensors after each epoch."""
    net, seen = network(seed=SEEDS, dtype="float64"), []
    watch = Calls(on_epoch_end=lambda _: seen.append({name: np.array(t) for name, t in tensors(net).items()}))
    return xpnet.train(net, blobs, xpnet.TrainConfig(**ROUGH), callbacks=[watch]), seen


@pytest.mark.parametrize(("patience", "restore"), [(3, "best"), (3, "last"), (2, "best"), (None, "best"), (99, "last")])
def test_patience_stops_each_network_by_itself_with_the_weights_asked_for(blobs, whole, patience, restore):
    expected, seen = whole
    net = network(seed=SEEDS, dtype="float64")
    result = xpnet.train(net, blobs, xpnet.TrainConfig(**ROUGH, patience=patience, restore=restore))
    columns = expected.history.columns()
    ends = []
    for r in range(len(SEEDS)):
        best, stop = best_by_hand(*(columns[f"validation.{name}"][:, r] for name in ("accuracies", "losses")), patience)
        ends.append(stop or ROUGH["epochs"])
        weights = best if restore == "best" else ends[-1]
        assert (result.stopped.get(r), result.weights[r]) == (stop, weights)
        for name, tensor in tensors(net).items():
            np.testing.assert_array_equal(tensor[r], seen[weights - 1][name][r], err_msg=name)
        for column in ("train_loss", "validation_accuracy"):
            found = result.history[column][:, r]
            np.testing.assert_array_equal(found[: ends[-1]], expected.history[column][: ends[-1], r], err_msg=column)
            assert np.isnan(found[ends[-1] :]).all()
        assert result.validation.losses[r] == pytest.approx(columns["validation.losses"][weights - 1, r], rel=1e-12)
    assert (result.epochs, result.interrupted) == (max(ends), False)
    for which in ("train", "test"):
        x, labels = getattr(xpnet.to_device(blobs, net.backend, "float64"), which).x, getattr(blobs, which).labels
        figures = evaluate(net, x, labels, 0.01)
        np.testing.assert_allclose(getattr(result, which).costs, figures.costs, rtol=1e-12, err_msg=which)
    if patience == 2:
        assert len(set(ends)) > 1, "the case is of no use if all networks stop together"


def test_patience_that_never_ends_changes_no_bit(blobs):
    config = {"epochs": 3, "batch_size": 70, "momentum": 0.5}
    nets = [network(2) for _ in range(2)]
    results = [
        xpnet.train(net, blobs, xpnet.TrainConfig(**config, patience=patience))
        for net, patience in zip(nets, (None, 50), strict=True)
    ]
    assert_same_bits(*zip(nets, results, strict=True))
    assert "stopped" not in results[0].to_json()
    assert results[1].to_json()["stopped"] == {"epochs": [None, None], "weights": [3, 3]}


def test_patience_of_a_population_is_that_of_its_networks_alone(blobs):
    config = xpnet.TrainConfig(**ROUGH, patience=2, restore="best")
    together = network(seed=SEEDS, dtype="float64")
    result = xpnet.train(together, blobs, config)
    for r, seed in enumerate(SEEDS):
        alone = network(seed=seed, dtype="float64")
        single = xpnet.train(alone, blobs, config)
        assert (single.stopped.get(0), single.weights) == (result.stopped.get(r), [result.weights[r]])
        assert single.epochs == result.stopped.get(r, ROUGH["epochs"])
        np.testing.assert_allclose(together.parameters["W1"][r], alone.parameters["W1"][0], rtol=1e-9, atol=1e-12)
        assert result.test.losses[r] == pytest.approx(single.test.loss, rel=1e-9)


def test_patience_in_chunks_is_patience_together(blobs):
    settings = {**ROUGH, "lambda": 0.01, "runs": 3, "patience": 2, "restore": "best", "dtype": "float64"}
    del settings["lam"]
    networks = population(**settings)
    net, result = xpnet.train_population(networks, blobs, dtype="float64")
    apart, chunks = xpnet.train_population(networks, blobs, dtype="float64", max_replicas=1)
    assert (chunks.stopped, chunks.weights, chunks.epochs) == (result.stopped, result.weights, result.epochs)
    assert len(set(result.stopped.values())) > 1
    np.testing.assert_allclose(tensors(apart)["W1"], tensors(net)["W1"], rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(chunks.history["validation_loss"], result.history["validation_loss"], rtol=1e-9)


def stopped_and_resumed(blobs, config, stop, backend=None):
    """Train whole, and stopped after so many steps and resumed from the file of its checkpoint."""

    def run(start=None, stop=None):
        net, taken, states = network(seed=SEEDS, backend=backend, dtype="float64"), [], []
        callback = Calls(
            on_steps=taken.append,
            should_stop=lambda: stop is not None and sum(taken) >= stop,
            on_checkpoint=lambda point: states.append(point.state()),
        )
        return net, xpnet.train(net, blobs, config, start=start, callbacks=[callback]), states[-1] if states else None

    *_, state = run(stop=stop)
    read, _ = read_checkpoint(write_checkpoint(Path("checkpoints"), state, {}))
    return run(), run(start=read), read


@pytest.mark.guarantee("resume")
@pytest.mark.parametrize("stop", [3, 50, 72, 1000])
@pytest.mark.parametrize("restore", ["best", "last"])
def test_patience_survives_a_stop_anywhere(blobs, stop, restore):
    config = xpnet.TrainConfig(**ROUGH, patience=2, restore=restore)
    complete, resumed, state = stopped_and_resumed(blobs, config, stop)
    assert_same_bits(complete, resumed)
    assert resumed[1].to_json()["stopped"] == complete[1].to_json()["stopped"]
    assert bool(state.best) == (restore == "best")
    if stop == 1000:  # all have stopped
        assert (state.alive, set(state.stopped)) == ((), {0, 1, 2})


@pytest.mark.guarantee("resume")
def test_patience_on_a_device_is_that_of_the_cpu(blobs):
    config = xpnet.TrainConfig(**ROUGH, patience=2, restore="best")
    complete, resumed, _ = stopped_and_resumed(blobs, config, 50, backend=strict_backend())
    assert_same_bits(complete, resumed)
    host = network(seed=SEEDS, dtype="float64")
    assert xpnet.train(host, blobs, config).to_json()["stopped"] == complete[1].to_json()["stopped"]
    np.testing.assert_allclose(tensors(complete[0])["W1"], tensors(host)["W1"], rtol=1e-9, atol=1e-12)


def test_best_weights_of_a_part_of_a_state_are_its_own(blobs):
    config = xpnet.TrainConfig(**ROUGH, patience=2, restore="best")
    whole, _, state = stopped_and_resumed(blobs, config, 65)
    part = state.part(1, 3)
    net = network(seed=SEEDS[1:], dtype="float64")
    result = xpnet.train(net, blobs, config, start=part)
    assert result.weights == whole[1].weights[1:]
    np.testing.assert_allclose(tensors(net)["W1"], tensors(whole[0])["W1"][1:], rtol=1e-9, atol=1e-12)


def test_best_weights_that_were_not_kept_are_sought_from_the_resumed_epoch_on(blobs):
    states = []
    callback = Calls(on_checkpoint=lambda point: states.append(point.state()))
    xpnet.train(network(2), blobs, xpnet.TrainConfig(**ROUGH), callbacks=[callback])
    net = network(2)
    result = xpnet.train(net, blobs, xpnet.TrainConfig(**ROUGH, restore="best"), start=states[7])
    assert all(epoch > 8 for epoch in result.weights)
    best = result.history["validation_accuracy"][8:].max(axis=0)
    np.testing.assert_allclose(result.validation.accuracies, best, atol=1e-12)


def test_network_that_diverges_after_others_have_stopped_leaves_them_as_they_are(blobs):
    config = xpnet.TrainConfig(**ROUGH | {"eta": (0.3, 0.01)}, patience=1, shuffle="shared")
    net = network(seed=SEEDS[:2], batch_norm=False, dtype="float64")

    def spoil(record):
        if record.epoch == 5 and np.isfinite(record.train.losses[1]):
            net.parameters["W1"][1] = 1e200

    result = xpnet.train(net, blobs, config, callbacks=[Calls(on_epoch_end=spoil)])
    assert (result.stopped.keys(), result.diverged.keys()) == ({0}, {1})
    assert np.isfinite(result.test.losses[0])


def test_networks_that_have_stopped_keep_their_figures_where_others_are_pruned(blobs):
    seen = {}

    def look(point):
        seen[point.step] = point
        return []

    config = xpnet.TrainConfig(**ROUGH, patience=2)
    callback = Calls(prune_at=[75, 85], on_prune=look)
    result = xpnet.train(network(seed=SEEDS, dtype="float64"), blobs, config, callbacks=[callback])
    gone = [r for r, epoch in result.stopped.items() if epoch < 8]
    assert 0 < len(gone) < 3
    for r in gone:
        known = result.history["validation_accuracy"][result.stopped[r] - 1, r]
        assert seen[75].validation.accuracies[r] == known
        assert r not in seen[75].replicas


@pytest.mark.parametrize(
    ("accuracies", "losses", "best"),
    [
        ([0.5, 0.5, 0.5], [1.0, 0.9, 0.9], 2),  # a lower loss decides, and of equal epochs the first counts
        ([0.5, 0.6, 0.5], [0.1, 0.9, 0.1], 2),
        ([np.nan, 0.1, np.nan], [np.nan, 3.0, np.nan], 2),
        ([np.nan, np.nan], [np.nan, np.nan], 0),
    ],
)
def test_best_epoch_is_that_of_the_highest_accuracy_and_then_of_the_lowest_loss(accuracies, losses, best):
    patience = Patience(network(), xpnet.TrainConfig(patience=5))
    active = SimpleNamespace(numbers=np.array([0]))
    records = []
    for accuracy, loss in zip(accuracies, losses, strict=True):
        figures = Metrics(np.array([accuracy]), np.array([loss]), np.array([loss]))
        records.append(SimpleNamespace(validation=figures))
        history = type("Epochs", (), {"epochs": records, "__len__": lambda self: len(self.epochs)})()
        patience.after_epoch(history, active)
    assert patience.best.tolist() == [best]


@pytest.mark.parametrize(
    ("epochs", "weights", "sentence"),
    [
        ([7], [4], "training stopped after epoch 7; the weights are those of epoch 4"),
        ([None], [9], "the weights are those of epoch 9"),
        (
            [7, None, 5],
            [4, 9, 3],
            "2 of 3 networks stopped after epochs 5 to 7; the weights are those of epochs 3 to 9",
        ),
        ([None], [None], "no epoch was finished"),
    ],
)
def test_stops_are_told_in_a_sentence(epochs, weights, sentence):
    assert stops_in_words({"epochs": epochs, "weights": weights}) == sentence


@pytest.mark.parametrize(
    ("setting", "value"), [("patience", 0), ("patience", "some"), ("patience", 1.5), ("restore", "b")]
)
def test_patience_out_of_its_range_is_refused(setting, value):
    with pytest.raises(ConfigError, match=rf"^{setting} = {value}: must be "):
        xpnet.TrainConfig(**{setting: value})
