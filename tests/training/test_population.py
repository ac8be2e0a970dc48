"""Populations made of lists of settings: what they are, how they are cut, and that each network is its solo run."""

from __future__ import annotations

import tracemalloc
import weakref

import numpy as np
import pytest
from calls import Calls
from hypothesis import given
from hypothesis import strategies as st
from strict import strict_backend
from training_cases import network, population

import xpnet
from xpnet.backend import free_memory
from xpnet.config.settings import Settings
from xpnet.errors import ConfigError, DivergedError
from xpnet.training.chunks import bytes_of_a_replica, chunks
from xpnet.training.population import replicas_json
from xpnet.training.train import train
from xpnet.training.train_population import train_population
from xpnet.training.trainer import Trainer

SIX = {"lambda": [0.0, 0.01, 0.1], "runs": 2, "n_s": 16, "epochs": 4}


@pytest.fixture(scope="module")
def six(blobs):
    """Return a population of six networks, and their network and result when they are trained at once."""
    return population(**SIX), *train_population(population(**SIX), blobs, dtype="float64")


def test_population_of_lists_and_runs_has_runs_outermost():
    p = population(**{"lambda": [0.1, 0.2], "init": ["he", 0.05], "runs": 2, "seed": 7})
    assert p.seeds == (7, 7, 7, 7, 8, 8, 8, 8)
    assert p.network.init == ("he", "he", 0.05, 0.05) * 2 or p.network.init == ("he", 0.05, "he", 0.05) * 2
    assert len(set(zip(p.seeds, p.network.init, p.train.lam, strict=True))) == 8
    assert p.rows[0] == {"seed": 7, "lambda": 0.1, "init": "he"}
    assert p.train.eta_max == 0.1  # what does not vary stays one value
    combinations = p.combinations()
    assert len(combinations) == 4
    assert all(p.seeds[a] == 7 and p.seeds[b] == 8 for _, (a, b) in combinations)


@pytest.mark.parametrize(
    "values",
    [
        {"lambda": "0,0.01,0.1"},
        {"init": "0.1,he,xavier", "runs": 2},
        {"eta_min": [1e-3, 1e-2], "eta_max": [0.1, 0.2]},
        {"momentum": "0,0.5,0.9"},
        {"seed": "4,2,9"},
        {"schedule": "constant", "eta": "0.1,0.01", "lambda": "0.1,0.001", "runs": 2},
        {"runs": 3, "seed": 3, "momentum": 0.9, "batch_norm": False},
        {"runs": 3, "momentum": 0.5, "nesterov": True, "drop_last": True, "batch_size": 72, "epochs": 10},
    ],
)
def test_population_each_network_equals_its_solo_run(blobs, values):
    """In float64, 50 steps, to 1e-9, as the design defines it; a short last batch included."""
    settings = {"batch_size": 72, "epochs": 9, **({} if "schedule" in values else {"n_s": 16}), **values}
    p = population(**settings)
    together, result = train_population(p, blobs, dtype="float64")
    assert result.steps >= 50
    common = {name: value for name, value in settings.items() if name not in p.rows[0] and name != "runs"}
    for r, row in enumerate(p.rows):
        one = Settings.from_mapping({"hidden": [6], "batch_size": 72, **common, **row})
        alone = network(dtype="float64", seed=one.run.seed, **one.network)
        single = train(alone, blobs, one.train)
        for name, tensor in alone.parameters.items():
            np.testing.assert_allclose(together.parameters[name][r], tensor[0], rtol=1e-9, atol=1e-9, err_msg=str(row))
        for column in ("train_loss", "train_cost", "validation_cost", "train_accuracy", "validation_accuracy"):
            np.testing.assert_allclose(result.history[column][:, r], single.history[column], rtol=1e-9)
        assert result.test.costs[r] == pytest.approx(single.test.cost, rel=1e-9)


def check_as_at_once(expected, result):
    np.testing.assert_allclose(result.test.losses, expected.test.losses, rtol=1e-12)
    for column in ("train_loss", "validation_accuracy", "eta", "epoch"):
        np.testing.assert_allclose(result.history[column], expected.history[column], rtol=1e-12)
    assert result.steps == expected.steps


@pytest.mark.parametrize("most", [1, 2, 3])
def test_population_in_chunks_is_trained_as_at_once(blobs, six, most):
    p, expected_network, expected = six
    cuts, records = [], []
    callback = Calls(on_train_begin=lambda plan: cuts.extend(plan.chunks), on_epoch_end=records.append)
    net, result = train_population(p, blobs, dtype="float64", max_replicas=most, callbacks=[callback])
    assert cuts[-1][1] == 6
    assert max(b - a for a, b in cuts) <= most
    for name, tensor in expected_network.parameters.items():
        np.testing.assert_allclose(net.parameters[name], tensor, rtol=1e-9, atol=1e-12)
    check_as_at_once(expected, result)
    assert records == result.history.epochs
    assert net.standardiser is not None


def test_chunk_whose_networks_all_diverge_leaves_the_others(blobs):
    p = population(batch_norm=False, schedule="constant", eta=[0.01, 1e30, 1e31], epochs=2)
    net, result = train_population(p, blobs, max_replicas=1)
    assert sorted(result.diverged) == [1, 2]
    assert np.isfinite(result.test.losses).tolist() == [True, False, False]
    assert len(result.history) == 2
    entries = list(replicas_json(p, result))
    assert entries[0]["test"]["accuracy"] == result.test.accuracies[0]
    assert "diverged_at" not in entries[0]
    assert entries[1]["test"] == {"accuracy": None, "loss": None, "cost": None}
    assert entries[1]["diverged_at"] == result.diverged[1].step
    assert net.replicas == 3
    with pytest.raises(DivergedError):
        train_population(p.part(1, 3), blobs, max_replicas=1)


@given(st.integers(1, 5), st.integers(1, 6), st.integers(1, 40))
def test_chunks_of_any_population_cover_it_and_are_even(settings, runs, most):
    p = population(**({"lambda": [0.1 * i for i in range(settings)]} if settings > 1 else {}), runs=runs)
    cuts = chunks(p, most)
    assert [r for a, b in cuts for r in range(a, b)] == list(range(settings * runs))
    sizes = [b - a for a, b in cuts]
    assert max(sizes) <= most
    assert len(cuts) == -(-len(p) // most)
    assert max(sizes) - min(sizes) <= max(1, settings)


def test_chunks_end_between_seeds_where_that_costs_nothing():
    p = population(**{"lambda": [0.1, 0.2, 0.3], "runs": 4})
    assert chunks(p, 7) == [(0, 6), (6, 12)]
    assert chunks(p, None) == [(0, 12)]


@pytest.mark.guarantee("memory")
@pytest.mark.parametrize(
    ("hidden", "inputs", "dtype", "settings"),
    [
        ((100, 100), 800, "float32", {"epochs": 1}),
        pytest.param((100, 100), 800, "float32", {"epochs": 1, "momentum": 0.9}, marks=pytest.mark.slow),
        pytest.param((100, 100), 800, "float64", {"epochs": 1, "shuffle": "independent"}, marks=pytest.mark.slow),
        # Next to nothing but learning rates, figures and the history.
        ((3,), 4, "float32", {"epochs": 5, "batch_size": 2}),
    ],
)
def test_estimated_memory_of_a_replica_is_near_the_measured(hidden, inputs, dtype, settings, harm):
    rng = np.random.default_rng(0)
    x, labels = rng.standard_normal((400, inputs), dtype=np.float32), rng.integers(0, 4, 400)
    data = xpnet.to_device(xpnet.data_from_arrays(x, labels, split="300/20"), xpnet.get_backend("cpu"), dtype)
    config = xpnet.TrainConfig(**({"batch_size": 50, "shuffle": "shared"} | settings))
    peaks = {}
    for replicas in (1, 4, 12):  # the first for imports and compilers
        tracemalloc.start()
        net = network(replicas, inputs=inputs, hidden=hidden, dtype=dtype)
        train(net, data, config)
        peaks[replicas] = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    each = (peaks[12] - peaks[4]) / 8
    estimate = bytes_of_a_replica(net.config, config, 300, dtype)
    assert 0.6 * each < estimate < 2.5 * each
    harm.did("populations whose memory was measured")


def test_free_memory_too_small_for_one_network_is_an_error(blobs, monkeypatch):
    assert free_memory(xpnet.get_backend("cpu")) > 2**20
    device = strict_backend()
    assert free_memory(device) == 2**33
    device.xp.kept_free = 2**20  # by CuPy's pool, of what it had before
    assert free_memory(device) == 2**33 + 2**20
    monkeypatch.setattr("xpnet.training.chunks.free_memory", lambda backend: 2**20)
    with pytest.raises(ConfigError, match=r"hidden = \[6\]: one network takes .* MB of cpu may be used"):
        train_population(population(**{"lambda": [0.1, 0.2]}), blobs)


def test_free_memory_decides_the_chunks(blobs, monkeypatch):
    p = population(**{"lambda": [0.1, 0.2, 0.3, 0.4]})
    each = bytes_of_a_replica(p.network, p.train, len(blobs.train), "float32")
    monkeypatch.setattr("xpnet.training.chunks.free_memory", lambda backend: 2 * (64 * 2**20 + 2 * each + each // 2))
    cuts = []
    train_population(p, blobs, callbacks=[Calls(on_train_begin=lambda plan: cuts.extend(plan.chunks))])
    assert cuts == [(0, 2), (2, 4)]


run = Trainer.run


def plans(function):
    """Return a callback that passes every plan of a training to a function."""
    return Calls(on_train_begin=lambda plan: function(plan) and None, on_chunk_split=function)


def fail_above(monkeypatch, replicas, error):
    """Let the training of more networks than that fail."""

    def short_of_memory(trainer, final):
        if trainer.network.replicas > replicas:
            raise error
        return run(trainer, final)

    monkeypatch.setattr(Trainer, "run", short_of_memory)


def cupy_error(name: str, status: int) -> RuntimeError:
    """Return an error such as CuPy has for each of CUDA's libraries."""
    error = type(name, (RuntimeError,), {})(f"status {status}")
    error.status = status
    return error


@pytest.mark.slow
@pytest.mark.parametrize(
    "error",
    [MemoryError(), cupy_error("CUDARuntimeError", 2), cupy_error("CUDADriverError", 2), cupy_error("CUBLASError", 3)],
    ids=lambda error: type(error).__name__,
)
def test_memory_runs_out_splits_the_population_and_goes_on(blobs, six, monkeypatch, error):
    p, _, expected = six
    fail_above(monkeypatch, 2, error)
    cuts: list[list[tuple[int, int]]] = []
    callback = plans(lambda plan: cuts.append(list(plan.chunks)))
    net, result = train_population(p, blobs, dtype="float64", callbacks=[callback])
    assert cuts[0] == [(0, 6)]
    assert cuts[-1] == [(0, 1), (1, 3), (3, 4), (4, 6)]
    assert net.replicas == 6
    check_as_at_once(expected, result)


@pytest.mark.parametrize("resumed", [False, True])
def test_memory_runs_out_later_costs_the_steps_since_the_last_state(blobs, six, monkeypatch, resumed):
    p, _, expected = six
    saved, ended, taken, cuts, networks = {}, [], [], [], []

    def watched(trainer, final):
        networks.append(weakref.ref(trainer.network))
        return run(trainer, final)

    def full(record):
        if len(record.eta) > 3 and record.epoch == 3 and not len(cuts) > 1:
            raise MemoryError

    def keep(point):
        if point.epochs <= 2:
            saved[point.chunk] = point.state()

    def cut(plan):
        cuts.append(list(plan.chunks))
        assert not networks or networks[0]() is None, "the memory of the population is free when halves begin"
        return {(a, b): saved[0, 6].part(a, b) for a, b in plan.chunks} if resumed and saved else None

    monkeypatch.setattr(Trainer, "run", watched)
    callbacks = [
        plans(cut),
        Calls(on_epoch_end=ended.append, on_steps=taken.append, on_checkpoint=keep),
        Calls(on_epoch_end=full),
    ]
    _, result = train_population(p, blobs, dtype="float64", callbacks=callbacks)
    assert cuts == [[(0, 6)], [(0, 3), (3, 6)]]
    assert [record.epoch for record in ended] == [1, 2, 3, 4]
    per_epoch = result.steps // 4
    assert sum(taken) == 3 * per_epoch + 2 * per_epoch * (2 if resumed else 4)
    check_as_at_once(expected, result)
    np.testing.assert_allclose([r.train.losses for r in ended], expected.history["train_loss"], rtol=1e-12)


def test_chunk_that_began_from_a_state_passes_it_to_its_halves(blobs, monkeypatch):
    p = population(**{"lambda": [0.0, 0.1], "epochs": 3})
    states = []
    keeping = Calls(on_checkpoint=lambda point: states.append(point.state()))
    expected = train_population(p, blobs, dtype="float64", callbacks=[keeping])[1]
    fail_above(monkeypatch, 1, MemoryError())
    taken, ended = [], []
    starts = {(0, 2): states[1]}
    calls = Calls(on_steps=taken.append, on_epoch_end=ended.append)
    result = train_population(p, blobs, dtype="float64", cuts=[(0, 2)], starts=starts, callbacks=[calls])[1]
    assert sum(taken) == 2 * result.steps // 3
    assert [record.epoch for record in ended] == [3]
    check_as_at_once(expected, result)


@pytest.mark.parametrize("error", [cupy_error("CUDARuntimeError", 700), ValueError("an odd shape")], ids=repr)
def test_other_errors_than_lack_of_memory_end_the_training(blobs, monkeypatch, error):
    fail_above(monkeypatch, 0, error)
    cuts = []
    callbacks = [plans(lambda plan: cuts.append(list(plan.chunks)))]
    with pytest.raises(type(error)):
        train_population(population(**{"lambda": [0.0, 0.1], "epochs": 1}), blobs, callbacks=callbacks)
    assert cuts == [[(0, 2)]]


def test_one_network_that_does_not_fit_is_an_error(blobs, monkeypatch):
    fail_above(monkeypatch, 0, MemoryError())
    monkeypatch.setattr("xpnet.training.chunks.free_memory", lambda _: 300 * 2**20)
    with pytest.raises(ConfigError, match=r"memory: one network with its data does not fit on cpu, which has 300 MB"):
        train_population(population(**{"lambda": [0.0, 0.1], "epochs": 1}), blobs)
