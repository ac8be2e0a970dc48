"""Pruning a population while it trains."""

from __future__ import annotations

import numpy as np
import pytest
import training_cases
from calls import Calls
from strict import strict_backend
from training_cases import assert_same_bits, network

import xpnet
from xpnet.training.population import Population
from xpnet.training.steppers.feature_parallel import threads_to_split
from xpnet.training.steppers.replica_parallel import ReplicaParallelStepper
from xpnet.training.train import train
from xpnet.training.train_population import train_population


def population(**values) -> Population:
    """Return three networks, or six with `runs`; an epoch has 8 steps."""
    return training_cases.population(**{"cycles": 3, "n_s": 5, "lambda": [0.0, 0.01, 0.1]} | values)


def run(p: Population, blobs, prune_at=(), on_prune=None, **options):
    callbacks = [Calls(prune_at=prune_at, on_prune=on_prune)] if on_prune else []
    return train_population(p, blobs, dtype="float64", callbacks=callbacks, **options)


def test_prune_nothing_changes_nothing_and_sees_the_figures_of_that_step(blobs):
    p, seen = population(), []
    untouched = run(p, blobs)
    pruned = run(p, blobs, prune_at=[10, 20, 30, 99], on_prune=lambda point: seen.append(point) or [])
    assert [point.step for point in seen] == [10, 20]  # 30 is the end
    assert all(point.replicas == (0, 1, 2) for point in seen)
    assert all(point.chunk == (0, 3) for point in seen)
    assert_same_bits(untouched, pruned)
    # Figures of a pruning point are those with which a training of that length ends.
    _, shorter = run(population(cycles=1), blobs)
    np.testing.assert_array_equal(seen[0].validation.accuracies, shorter.validation.accuracies)
    np.testing.assert_array_equal(seen[0].validation.losses, shorter.validation.losses)


@pytest.mark.parametrize(("most", "momentum"), [(None, 0.0), (None, 0.8), (3, 0.8)])
def test_prune_some_networks_keep_their_tensors_and_others_train_on(blobs, most, momentum):
    p = population(momentum=momentum, runs=2)
    untouched, expected = run(p, blobs)
    short, _ = run(population(momentum=momentum, runs=2, cycles=1), blobs)
    net, result = run(p, blobs, prune_at=[10], on_prune=lambda point: {1, 4} & set(point.replicas), max_replicas=most)
    assert result.dropped == {1: 10, 4: 10}
    for name in net.parameters:
        for r in range(6):
            other = short if r in (1, 4) else untouched
            np.testing.assert_allclose(net.parameters[name][r], other.parameters[name][r], rtol=1e-9, atol=1e-12)
    gone = np.isin(np.arange(6), [1, 4])
    for metrics in (result.train, result.validation, result.test):
        np.testing.assert_array_equal(np.isnan(metrics.losses), gone)
    np.testing.assert_allclose(result.test.losses[~gone], expected.test.losses[~gone], rtol=1e-9)
    # They were dropped in epoch 2.
    np.testing.assert_array_equal(np.isnan(result.history["validation_loss"][0]), False)
    for column in ("validation_loss", "train_loss", "train_accuracy", "train_cost"):
        np.testing.assert_array_equal(np.isnan(result.history[column][1]), gone)
        np.testing.assert_allclose(result.history[column][:, ~gone], expected.history[column][:, ~gone], rtol=1e-9)


def test_prune_in_chunks_has_the_figures_of_the_chunk(blobs):
    seen = []
    run(population(runs=2), blobs, prune_at=[10], on_prune=lambda point: seen.append(point) or [], max_replicas=4)
    assert [point.chunk for point in seen] == [(0, 3), (3, 6)]
    for point in seen:
        assert point.replicas == tuple(range(*point.chunk))
        assert np.flatnonzero(np.isfinite(point.validation.losses)).tolist() == list(point.replicas)


def test_prune_some_networks_fewer_are_trained(blobs, monkeypatch):
    trained = []
    real = ReplicaParallelStepper.run

    def counted(self, state, perm, eta, totals):
        trained.append((int(eta.shape[0]), int(state.parameters["W1"].shape[0])))
        real(self, state, perm, eta, totals)

    monkeypatch.setattr(ReplicaParallelStepper, "run", counted)
    run(population(stepper="population"), blobs, prune_at=[10], on_prune=lambda _: [2])
    assert sum(steps for steps, replicas in trained if replicas == 3) == 10
    assert sum(steps for steps, replicas in trained if replicas == 2) == 20
    assert {replicas for _, replicas in trained} == {2, 3}


def test_prune_all_networks_ends_the_training(blobs):
    p = population()
    net, result = run(p, blobs, prune_at=[10, 20], on_prune=lambda point: point.replicas)
    short, _ = run(population(cycles=1), blobs)
    assert result.steps == 10
    assert not result.interrupted
    assert result.dropped == {0: 10, 1: 10, 2: 10}
    assert np.isnan(result.test.losses).all()
    np.testing.assert_array_equal(net.parameters["W1"], short.parameters["W1"])


def test_all_networks_pruned_with_momentum_can_be_saved(blobs):
    states = []
    callback = Calls(
        prune_at=[4], on_prune=lambda point: point.replicas, on_checkpoint=lambda point: states.append(point.state())
    )
    result = xpnet.train(network(3), blobs, xpnet.TrainConfig(epochs=2, momentum=0.5), callbacks=[callback])
    assert result.steps == 4
    assert (states[-1].alive, states[-1].dropped) == ((), {0: 4, 1: 4, 2: 4})


def test_last_network_with_batches_of_its_own_is_trained_as_one_alone(monkeypatch):
    monkeypatch.setenv("XPNET_FAST", "1")
    monkeypatch.setattr("xpnet.training.steppers.feature_parallel.blas_threads", lambda: 2)
    data, config = xpnet.load_data("patterns:300/50"), xpnet.TrainConfig(epochs=2)
    architecture = xpnet.NetworkConfig(inputs=data.inputs, hidden=(8,), classes=data.classes)
    net, alone = xpnet.Network(architecture, replicas=2), xpnet.Network(architecture, seed=1)
    assert threads_to_split(alone, xpnet.to_device(data, alone.backend, "float32").train.x) == 2
    result = train(net, data, config, callbacks=[Calls(prune_at=[1], on_prune=lambda _: [0])])
    expected = train(alone, data, config)
    assert result.dropped == {0: 1}
    np.testing.assert_allclose(net.parameters["W1"][1], alone.parameters["W1"][0], atol=1e-4)
    np.testing.assert_allclose(result.test.losses[1], expected.test.losses[0], rtol=1e-3)


def test_final_evaluates_only_the_sets_it_names(blobs):
    _, result = run(population(), blobs, final=("validation",))
    assert np.isnan(result.test.accuracies).all()
    assert np.isnan(result.train.losses).all()
    _, expected = run(population(), blobs)
    np.testing.assert_array_equal(result.validation.accuracies, expected.validation.accuracies)


def test_prune_after_a_divergence_leaves_that_network_out(blobs):
    p = population(**{"lambda": 0.0, "eta_max": [0.1, 1e38], "batch_norm": False})
    seen = []
    _, result = run(p, blobs, prune_at=[10, 20], on_prune=lambda point: seen.append(point) or [])
    assert list(result.diverged) == [1]
    assert [point.replicas for point in seen] == [(0,), (0,)]
    assert np.isnan(seen[0].validation.losses[1])


def test_prune_on_a_device_gives_the_same(blobs):
    pruning = {"prune_at": [10], "on_prune": lambda _: [0]}
    _, expected = run(population(), blobs, **pruning)
    net, result = run(population(), blobs, backend=strict_backend(), **pruning)
    assert result.dropped == {0: 10}
    np.testing.assert_allclose(result.validation.losses, expected.validation.losses, rtol=1e-9)
    assert net.replicas == 3


def test_network_select_copies_the_chosen_replicas(blobs):
    net = network(dtype="float64", seed=[3, 4, 5])
    train(net, blobs, population(**{"lambda": 0.01}).train)
    chosen = net.select([2, 0])
    assert chosen.seeds == (5, 3)
    np.testing.assert_array_equal(chosen.parameters["W1"], net.parameters["W1"][[2, 0]])
    np.testing.assert_array_equal(chosen.running["mean1"], net.running["mean1"][[2, 0]])
    chosen.parameters["W1"] = chosen.parameters["W1"] * 0
    assert net.parameters["W1"].any()
    assert network(3, init=("he", 0.1, "xavier")).select([1]).config.init == (0.1,)
