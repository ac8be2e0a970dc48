"""Steps of fused kernels and of CUDA graphs are those of the plain stepper, and wait for nothing."""

from __future__ import annotations

import gc

import emulator
import numpy as np
import pytest
from examples import every, pairs
from optimisers import CASES as OPTIMISERS
from optimisers import hyper_of
from resumed import check_resumed
from stepping import check_step_is_gradient, state_of
from strict import StrictError, gpu_backend

import xpnet
from xpnet.data import Standardiser
from xpnet.errors import ConfigError
from xpnet.nn.network import Network
from xpnet.ops import get_ops
from xpnet.ops.cuda.graphs import captured
from xpnet.training.evaluation import Evaluation
from xpnet.training.steppers import Hyperparameters, StepMetrics, make_stepper
from xpnet.training.steppers.cuda_graph import GraphStepper
from xpnet.training.steppers.cuda_small import SmallStepper
from xpnet.training.steppers.stepper_state import GROUPS

pytestmark = pytest.mark.skipif(emulator.compiler() is None, reason="there is no C++ compiler")


CAPACITY = 5


@pytest.fixture
def gpu(monkeypatch):
    monkeypatch.setattr("xpnet.training.steppers.cuda_graph.CAPACITY", CAPACITY)
    return gpu_backend(monkeypatch)


class Training:
    """A network on a pretended GPU with a stepper of some kind."""

    def __init__(
        self, backend, kind, *, replicas=1, rho=None, nesterov=False, optimiser=None, kept_as_bytes=False, inputs=7,
        **network,
    ):  # fmt: skip
        config = xpnet.NetworkConfig(inputs=inputs, **{"hidden": (6, 5), "classes": 4, "init_bias": 0.2} | network)
        self.backend, xp = backend, backend.xp
        self.net = Network(config, backend=backend, dtype="float64", replicas=replicas)
        self.rng = np.random.default_rng(0)
        labels, raw = xp.asarray(self.rng.integers(0, 4, 90)), self.rng.integers(0, 256, (90, inputs), np.uint8)
        standardiser = Standardiser.fit(raw)
        if kept_as_bytes:
            x = standardiser.lazily(raw, "float64").to(xp.asarray)
        else:
            x = xp.asarray(standardiser(raw, "float64"))
        self.lam = np.linspace(0.01, 0.1, replicas)
        momentum = None if rho is None else xp.asarray(np.full(replicas, rho))
        hyper = Hyperparameters(xp.asarray(self.lam), momentum, nesterov)
        if optimiser is not None:
            hyper = hyper_of(optimiser, replicas, xp.asarray)
        self.stepper = make_stepper(self.net, x, labels, hyper, kind, batch=10)
        self.state = state_of(self.net, moments=hyper.moments)

    def run(self, steps, n=10, independent=False):
        xp, replicas = self.backend.xp, self.net.replicas
        perm = self.rng.integers(0, 90, (steps, replicas, n) if independent else (steps, n))
        eta = 0.05 * (1 + self.rng.random((steps, replicas)))
        metrics = StepMetrics.empty(xp, steps, replicas)
        self.stepper.run(self.state, xp.asarray(perm), xp.asarray(eta), metrics)
        return self.everything(metrics)

    def everything(self, metrics):
        groups = {group: getattr(self.state, group) for group in GROUPS}
        groups["metrics"] = dict(enumerate(metrics.arrays()))
        return {f"{group} {name}": t._a.copy() for group, tensors in groups.items() for name, t in tensors.items()}


def check_equal(found, expected, rtol=0.0, atol=0.0):
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        np.testing.assert_allclose(found[name], value, rtol=rtol, atol=atol, err_msg=name)


def small_data():
    rng = np.random.default_rng(2)
    return xpnet.data_from_arrays(rng.standard_normal((90, 7)), np.arange(90) % 4, split="60/20")


CASES = [
    {},
    {"batch_norm": False},
    {"replicas": 3},
    {"replicas": 3, "independent": True},
    {"rho": 0.8},
    {"replicas": 2, "rho": 0.8, "nesterov": True},
    {"hidden": ()},
    *({"replicas": 2, "optimiser": optimiser} for optimiser in OPTIMISERS),
]
SMALL = [
    *CASES[:4],
    {"hidden": ()},
    {"hidden": (64, 1, 33, 5)},
    {"hidden": (9,), "bias_before_bn": True},
    {"hidden": (3, 4), "kept_as_bytes": True},
    {"hidden": (5,), "inputs": 70, "large": 300},  # several blocks of features, and W1 has a memory of its own
    {"rho": 0.8, "hidden": (9,), "bias_before_bn": True},
    {"replicas": 2, "rho": 0.8, "nesterov": True, "inputs": 70, "large": 300, "independent": True},
]
# The weights of the first layer move within the product.
LARGE = [
    {"large": 40},
    {"large": 40, "rho": 0.5},
    *({"large": 40, "replicas": 3, "optimiser": optimiser} for optimiser in OPTIMISERS),
]


@pytest.mark.parametrize(
    ("kind", "case"),
    pairs(("graph", "fused"), CASES + LARGE) + pairs(("small", "multi"), SMALL),
    ids=str,
)
def test_it_trains_as_the_plain_stepper(monkeypatch, gpu, kind, case):
    settings = dict(case)
    independent = settings.pop("independent", False)
    monkeypatch.setattr("xpnet.nn.flat_parameters.LARGE", settings.pop("large", 16_384))
    ours, plain = Training(gpu, kind, **settings), Training(gpu, "plain", **settings)
    assert ("W1" in ours.net.parameters.large) == ("large" in case)
    # A first call, one that is captured step by step, a graph of several steps and more, another shape, and the first.
    for steps, n in ((1, 10), (3, 10), (CAPACITY + 2, 10), (2, 7), (2, 10)):
        check_equal(ours.run(steps, n, independent), plain.run(steps, n, independent), rtol=1e-9, atol=1e-11)
        assert ours.state.step == plain.state.step


def test_a_step_is_eta_times_the_gradient(gpu):
    t = Training(gpu, "graph", replicas=2)
    check_step_is_gradient(t.stepper, t.net, np.arange(10), np.array([0.1, 0.2]), t.lam)


@pytest.mark.parametrize(("kind", "rho"), [("graph", None), ("small", None), ("multi", None), ("small", 0.5)])
def test_the_order_of_threads_and_blocks_does_not_show(gpu, kind, rho):
    results = []
    for gpu.xp.backwards in (False, True):
        results.append(Training(gpu, kind, replicas=2, hidden=(40, 9), rho=rho).run(4))
    check_equal(*results)


def test_a_step_is_few_launches_and_never_waits(gpu):
    t = Training(gpu, "graph")
    t.run(1)
    launches, waits = gpu.xp.launches, gpu.xp.synchronisations
    t.run(1)  # captured
    assert gpu.xp.launches - launches <= 40
    t.run(CAPACITY)
    graphs, launches = gpu.xp.graph_launches, gpu.xp.launches
    t.run(CAPACITY)
    assert gpu.xp.graph_launches - graphs == 1
    assert gpu.xp.launches - launches <= 12  # batches, rates and metrics go in and out
    assert gpu.xp.synchronisations == waits


@pytest.mark.parametrize(("kind", "rho"), [("graph", None), ("small", 0.8)])
def test_dropping_a_replica_makes_new_graphs(gpu, kind, rho):
    t = Training(gpu, kind, replicas=3, rho=rho)
    t.run(4)
    keep = gpu.xp.asarray(np.array([0, 2]))
    state = t.state.select(keep)
    untouched = t.state.parameters["W1"]._a.copy()
    hyper = Hyperparameters(*(None if v is None else gpu.xp.asarray(np.array([v, v])) for v in (0.01, rho)))
    stepper = make_stepper(t.net, t.stepper.x, t.stepper.labels, hyper, kind)
    perm, eta = gpu.xp.asarray(np.arange(30).reshape(3, 10)), gpu.xp.asarray(np.full((3, 2), 0.1))
    stepper.run(state, perm, eta, StepMetrics.empty(gpu.xp, 3, 2))
    np.testing.assert_array_equal(t.state.parameters["W1"]._a, untouched)
    assert not np.array_equal(state.parameters["W1"]._a, untouched[[0, 2]])


def test_no_graph_leaves_memory_behind(gpu):
    """CuPy's pools keep their blocks, used or not, when they are dropped: each is to be emptied first."""
    t = Training(gpu, "graph")
    t.run(4)
    held = [pool.bytes() for pool in gpu.xp.pools]
    evaluation = Evaluation(t.net, t.stepper.x, t.stepper.labels)
    figures = [evaluation() for _ in range(3)]
    assert sum(pool.bytes() for pool in gpu.xp.pools) > sum(held)  # what a pass works in stays with its graph
    np.testing.assert_array_equal(figures[1].losses, figures[2].losses)
    del evaluation, t
    gc.collect()
    assert gpu.xp.pools
    assert [pool.bytes() for pool in gpu.xp.pools] == [0] * len(gpu.xp.pools)


def test_a_capture_that_fails_leaves_no_memory_behind(gpu):
    kept = []

    def fails():
        kept.append(gpu.xp.empty((5,)))
        raise MemoryError("full")

    with pytest.raises(MemoryError, match="full"):
        captured(gpu.xp, fails)
    captured_later = captured(gpu.xp, lambda: None)
    assert gpu.xp.pools[0].bytes() == 40  # as the frames of an error may hold it
    kept.clear()
    del captured_later
    assert [pool.bytes() for pool in gpu.xp.pools] == [0, 0]


def test_the_stand_in_notices_memory_that_a_graph_still_needs(gpu):
    a = gpu.xp.asarray(np.ones(3))
    ops = get_ops(gpu)
    ops.activation(a)
    graph = captured(gpu.xp, lambda: ops.activation(a))
    graph.launch()
    gpu.xp.pools[-1].free()
    with pytest.raises(StrictError, match="has been freed"):
        graph.launch()


def test_training_again_and_again_takes_no_more_memory(gpu):
    config = xpnet.NetworkConfig(inputs=7, hidden=(5,), classes=4)
    gc.collect()
    gc.disable()  # nothing waits for a collection
    try:
        for _ in range(2):
            xpnet.train(Network(config, backend=gpu), small_data(), xpnet.TrainConfig(epochs=3, batch_size=20))
            assert len(gpu.xp.pools) > 1
            assert sum(pool.bytes() for pool in gpu.xp.pools) == 0
    finally:
        gc.enable()


def test_what_a_capture_forbids_raises_and_leaves_the_device_usable(gpu):
    xp = gpu.xp
    a = xp.asarray(np.ones(3))
    for body in (lambda: xp.asnumpy(a), lambda: xp.asarray(np.ones(2)), lambda: a + 1, lambda: a.sum()):
        with pytest.raises(StrictError, match="while a stream captures"):
            captured(xp, body)
    assert xp.recording is None
    assert xp.asnumpy(a + 1).tolist() == [2, 2, 2]


@pytest.mark.parametrize(
    ("case", "reason"),
    [
        ({"hidden": (65,)}, "layers of more than 64 units"),
        ({"hidden": (64,) * 9}, r"needs \d+,\d+ bytes of a multiprocessor's memory, which has 232,448"),
    ],
    ids=str,
)
def test_what_is_not_small_is_refused_or_taken_by_another(gpu, case, reason):
    with pytest.raises(ConfigError, match=f"stepper = small: cannot train this network: it.*{reason}"):
        Training(gpu, "small", **case)
    assert type(Training(gpu, "auto", **case).stepper) is GraphStepper
    assert type(Training(gpu, "auto").stepper) is SmallStepper


def test_momentum_is_trained_where_its_velocities_fit(gpu):
    assert type(Training(gpu, "auto", rho=0.5).stepper) is SmallStepper
    # Two numbers more in shared memory for each weight of the upper layers.
    case = {"hidden": (64, 64, 64, 64)}
    assert type(Training(gpu, "auto", **case).stepper) is SmallStepper
    assert type(Training(gpu, "auto", rho=0.5, **case).stepper) is GraphStepper
    with pytest.raises(ConfigError, match=r"stepper = small: cannot train this network: it needs 2\d\d,\d+ bytes"):
        Training(gpu, "small", rho=0.5, **case)


@pytest.mark.parametrize(("optimiser", "name"), [("adamw", "optimiser = adamw"), ("sgd, factors", "lr_first")])
def test_optimisers_are_refused_by_name_or_trained_by_another(gpu, optimiser, name):
    with pytest.raises(ConfigError, match=f"stepper = small: does not know the setting {name}; take auto, graph"):
        Training(gpu, "small", optimiser=optimiser)
    assert type(Training(gpu, "auto", optimiser=optimiser).stepper) is GraphStepper


def test_a_batch_too_large_for_the_small_stepper_is_trained_all_the_same(gpu):
    ours, plain = Training(gpu, "small"), Training(gpu, "plain")
    for n in (300, 10):
        check_equal(ours.run(3, n), plain.run(3, n), rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize(
    ("device", "kinds", "reason"),
    [
        ("gpu", ("split", "population"), "is made for the CPU; on gpu:0 there are plain, fused"),
        (
            "cpu",
            ("fused", "graph", "small", "multi", "multi-bf16", "persistent"),
            "needs a GPU; on cpu there are plain, split, units, compiled and popul",
        ),
    ],
)
def test_steppers_of_the_other_device_are_refused(gpu, device, kinds, reason):
    for kind in kinds:
        with pytest.raises(ConfigError, match=f"stepper = {kind}: {reason}"):
            Training(gpu if device == "gpu" else xpnet.get_backend("cpu"), kind)


@pytest.mark.parametrize(("batch_norm", "replicas", "batch_size"), [(True, 1, 20), (False, 2, 20), (True, 1, 59)])
def test_training_is_that_of_the_cpu(gpu, batch_norm, replicas, batch_size):
    results = []
    for backend in (gpu, xpnet.get_backend("cpu")):
        config = xpnet.NetworkConfig(inputs=7, hidden=(9, 8), classes=4, batch_norm=batch_norm)
        net = Network(config, backend=backend, dtype="float64", replicas=replicas)
        results.append(xpnet.train(net, small_data(), xpnet.TrainConfig(epochs=3, batch_size=batch_size, lam=0.01)))
    found, expected = results
    for column in ("train_loss", "train_cost", "train_accuracy", "validation_loss", "validation_accuracy"):
        np.testing.assert_allclose(found.history[column], expected.history[column], rtol=1e-9, err_msg=column)
    np.testing.assert_allclose(found.test.costs, expected.test.costs, rtol=1e-9)


@pytest.mark.guarantee("resume")
@pytest.mark.parametrize("kind", every(2, ["graph", "plain", "small", "fused", "multi", "persistent"]))
def test_a_training_that_is_resumed_ends_with_the_same_bits(gpu, kind):
    config = xpnet.TrainConfig(epochs=3, batch_size=16, stepper=kind)
    replicas = 1 if kind == "persistent" else 2
    check_resumed(gpu, small_data(), (6, 5), "float64", config, [1, 5], replicas)


@pytest.mark.guarantee("resume")
def test_a_training_by_adamw_that_is_resumed_ends_with_the_same_bits(gpu):
    settings = {"optimiser": "adamw", "weight_decay": 0.1, "lr_bn": 0.5, "eta_max": 0.01}
    config = xpnet.TrainConfig(epochs=3, batch_size=16, stepper="graph", **settings)
    check_resumed(gpu, small_data(), (6, 5), "float64", config, [5])
