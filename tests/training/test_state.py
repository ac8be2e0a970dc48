"""A training that was stopped goes on to the same end, to the last bit, from any step."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from calls import Calls
from examples import pairs
from strict import strict_backend
from training_cases import assert_same_bits, network

import xpnet
from xpnet.errors import ConfigError, DivergedError
from xpnet.training.evaluation import Evaluation

SETTINGS = {
    "two cycles": {"n_s": 9, "cycles": 2},
    "one and a half": {"n_s": 12, "epochs": 4},
    "decay, momentum": {"schedule": "decay", "epochs": 4, "momentum": 0.9},
    "cosine, Nesterov": {"schedule": "cosine", "epochs": 4, "batch_size": 70, "momentum": 0.5, "nesterov": True},
    "own orders": {"schedule": "cosine", "epochs": 4, "batch_size": 70, "shuffle": "independent"},
    "a joined last batch": {"schedule": "cosine", "epochs": 4, "batch_size": 57, "shuffle": "independent"},
    "AdamW": {"schedule": "cosine-restarts", "n_s": 3, "restart_factor": 2, "optimiser": "adamw", "lr_bn": 0.5},
    "Lion": {"schedule": "coslog4", "epochs": 4, "optimiser": "lion", "eta": 1e-3, "weight_decay": 0.1},
    "full metrics": {"schedule": "constant", "epochs": 4, "train_metrics": "full"},
}
CYCLES = xpnet.TrainConfig(n_s=9, cycles=2)
pytestmark = pytest.mark.guarantee("resume")


def run(data, config, *, replicas, dtype="float32", stop=None, start=None, backend=None, **functions):
    """Train; return the network, the result and the state of the last checkpoint."""
    net = network(replicas, dtype=dtype, backend=backend)
    taken, states = [], []
    callback = Calls(
        on_steps=taken.append,
        should_stop=lambda: stop is not None and sum(taken) >= stop,
        on_checkpoint=lambda point: states.append(point.state()),
        **functions,
    )
    result = xpnet.train(net, data, config, start=start, callbacks=[callback])
    return net, result, states[-1] if states else None


@pytest.mark.parametrize(
    ("name", "replicas", "dtype"), pairs(SETTINGS, [(1, "float32"), (3, "float32"), (3, "float64")])
)
def test_training_stopped_anywhere_goes_on_to_the_same_bits(blobs, name, replicas, dtype, harm):
    config = xpnet.TrainConfig(**SETTINGS[name])
    complete = run(blobs, config, replicas=replicas, dtype=dtype)
    for stop in (1, 4, 9, complete[1].steps - 1):
        *_, state = run(blobs, config, replicas=replicas, dtype=dtype, stop=stop)
        harm.did("trainings stopped")
        assert stop <= state.step <= complete[1].steps
        resumed = run(blobs, config, replicas=replicas, dtype=dtype, start=state)
        assert_same_bits(complete, resumed)
        assert not resumed[1].interrupted
        assert (state.seconds_evaluation > 0) == (state.epochs > 0)
        assert resumed[1].seconds_evaluation > state.seconds_evaluation


def test_training_stopped_twice_in_an_epoch_goes_on_and_adds_up_its_time(blobs):
    config = xpnet.TrainConfig(n_s=9, cycles=2, batch_size=20)
    complete = run(blobs, config, replicas=2)
    *_, first = run(blobs, config, replicas=2, stop=2)
    *_, second = run(blobs, config, replicas=2, stop=2, start=first)
    assert len(first.step_metrics[0]) < len(second.step_metrics[0]) < 20
    assert 0 < first.seconds_of_epoch < second.seconds_of_epoch
    assert not second.epochs
    resumed = run(blobs, config, replicas=2, start=second)
    assert_same_bits(complete, resumed)
    assert resumed[1].seconds_training[0] > second.seconds_of_epoch


def test_diverged_and_pruned_networks_stay_so_after_resuming(blobs):
    config = xpnet.TrainConfig(n_s=20, cycles=1, eta_max=(0.1, 1e30, 0.05, 0.2), batch_size=20, momentum=0.5)
    pruning = {"prune_at": [4], "on_prune": lambda _: [2]}
    complete = run(blobs, config, replicas=4, **pruning)
    assert list(complete[1].diverged) == [1]
    assert complete[1].dropped == {2: 4}
    for stop, alive in ((2, 4), (5, 2), (17, 2), (20, 2), (21, 2)):
        *_, state = run(blobs, config, replicas=4, stop=stop, **pruning)
        assert (len(state.alive), len(state.step_metrics[0]) > 0) == (alive, state.step % 20 > 0)
        assert_same_bits(complete, run(blobs, config, replicas=4, start=state, **pruning))


def test_parts_of_a_state_go_on_without_each_other(blobs):
    config = xpnet.TrainConfig(n_s=100, cycles=1, eta_max=(0.1, 1e30, 0.05, 0.2, 1e30), batch_size=4, momentum=0.5)
    options = {"dtype": "float64", "prune_at": [4], "on_prune": lambda _: [2], "replicas": 5}
    net, complete, _ = run(blobs, config, **options)
    *_, state = run(blobs, config, stop=101, **options)
    assert state.epochs == 1
    assert len(state.step_metrics[0]) > 0
    parts = {cut: state.part(*cut) for cut in ((0, 2), (2, 4), (4, 5))}
    replicas = [(part.alive, list(part.diverged), part.dropped) for part in parts.values()]
    assert replicas == [((0,), [1], {}), ((1,), [], {0: 4}), ((), [0], {})]
    for name in ("seconds_evaluation", "seconds_of_epoch"):
        assert sum(getattr(part, name) for part in parts.values()) == pytest.approx(getattr(state, name))
    for (start, stop), part in parts.items():
        of_part = dataclasses.replace(config, eta_max=config.eta_max[start:stop])
        alone = network(dtype="float64", seed=range(start, stop))
        if stop == 5:
            with pytest.raises(DivergedError) as error:
                xpnet.train(alone, blobs, of_part, start=part)
            assert (list(error.value.diverged), len(error.value.history)) == ([0], 1)
            continue
        result = xpnet.train(alone, blobs, of_part, start=part, orders=range(start, stop))
        assert (result.diverged.keys(), result.dropped) == (part.diverged.keys(), part.dropped)
        expected = complete.history["validation_cost"][:, start:stop]
        np.testing.assert_allclose(result.history["validation_cost"], expected, rtol=1e-9)
        np.testing.assert_allclose(alone.parameters["W1"], net.parameters["W1"][start:stop], rtol=1e-9)


def test_part_whose_networks_were_all_pruned_has_no_figures(blobs):
    config = xpnet.TrainConfig(n_s=9, cycles=2, batch_size=20)
    *_, state = run(blobs, config, replicas=3, stop=21, prune_at=[4], on_prune=lambda _: [1, 2])
    result = xpnet.train(network(seed=(1, 2)), blobs, config, start=state.part(1, 3))
    assert (result.dropped, result.diverged, result.interrupted) == ({0: 4, 1: 4}, {}, False)
    assert np.isnan(result.test.losses).all()


def test_state_of_another_lambda_is_validated_again(blobs):
    config = dataclasses.replace(CYCLES, lam=0.1)
    *_, state = run(blobs, config, replicas=2)
    unchecked, again = (
        run(blobs, dataclasses.replace(config, lam=1.0), replicas=2, start=dataclasses.replace(state, validated=valid))
        for valid in (True, False)
    )
    unchecked, again = unchecked[1].validation, again[1].validation
    np.testing.assert_allclose(again.costs - again.losses, 10 * (unchecked.costs - unchecked.losses), rtol=1e-4)


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"replicas": 2}, r"W1 has the shape \(1, 12, 8\), not \(2, 12, 8\)"),
        ({"dtype": "float64"}, "W1 is float32, not float64"),
        ({"batch_norm": False}, r"gamma1 has the shape \(1, 1, 8\), not None|b1 has the shape None"),
        ({"hidden": (7, 5)}, r"has the shape \(1, 12, 8\), not \(1, 12, 7\)"),
        ({"epochs": 1}, "it has trained 2 epochs already, and 1 are asked for"),
        ({"batch_size": 50}, "it stands at step 8, which would be step 16 with epochs of 8 steps"),
        ({"alive": (0, 0)}, r"its networks are \[0, 0\], not 1 each of which trains"),
    ],
)
def test_state_of_another_training_is_refused(blobs, change, sentence):
    *_, state = run(blobs, xpnet.TrainConfig(schedule="constant", epochs=2), replicas=1)
    of_train = {name: change[name] for name in ("epochs", "batch_size") if name in change}
    of_network = {name: value for name, value in change.items() if name not in ("alive", "epochs", "batch_size")}
    config = xpnet.TrainConfig(**{"schedule": "constant", "epochs": 4} | of_train)
    if "alive" in change:
        state = dataclasses.replace(state, **change)
    with pytest.raises(ConfigError, match=f"^start: the network cannot go on from it, .*{sentence}"):
        xpnet.train(network(**of_network), blobs, config, start=state)


def test_finished_training_is_only_evaluated_again(blobs):
    complete = run(blobs, dataclasses.replace(CYCLES, momentum=0.5), replicas=2)
    again = run(blobs, dataclasses.replace(CYCLES, momentum=0.5), replicas=2, start=complete[2])
    assert_same_bits(complete, again)
    assert again[2] is None  # no epoch, no checkpoint


def test_state_of_a_device_is_on_the_host_and_goes_on(blobs):
    def on_device(**options):
        config = dataclasses.replace(CYCLES, momentum=0.5)
        return run(blobs, config, replicas=2, dtype="float64", backend=strict_backend(), **options)

    *_, state = on_device(stop=5)
    assert all(isinstance(tensor, np.ndarray) for tensor in state.parameters.values())
    assert_same_bits(on_device(), on_device(start=state))


def test_state_is_not_changed_by_the_training_that_goes_on(blobs):
    *_, state = run(blobs, CYCLES, replicas=2, stop=4)
    before = {name: tensor.copy() for name, tensor in state.parameters.items()}
    for start in (state, dataclasses.replace(state)):
        run(blobs, CYCLES, replicas=2, start=start)
    for name, tensor in state.parameters.items():
        np.testing.assert_array_equal(tensor, before[name])


def test_last_validation_of_a_network_that_diverged_is_not_repeated(blobs, monkeypatch):
    """Full passes of fewer networks have other chunks: their last bits would be others."""
    config = xpnet.TrainConfig(schedule="constant", eta=(0.01, 1e30), epochs=1, batch_size=500)
    complete = run(blobs, config, replicas=2)
    assert list(complete[1].diverged) == [1]
    passes = []
    real = Evaluation.__call__
    monkeypatch.setattr(Evaluation, "__call__", lambda self, lam: passes.append(len(lam)) or real(self, lam))
    resumed = run(blobs, config, replicas=2, start=complete[2])
    assert passes == [1, 1]  # of the training and the test set
    np.testing.assert_array_equal(resumed[1].validation.losses, complete[1].validation.losses)
