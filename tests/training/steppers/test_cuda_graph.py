"""Steps of fused kernels and of CUDA graphs are those of the plain stepper, and wait for nothing."""

from __future__ import annotations

import gc

import emulator
import numpy as np
import pytest
from resumed import check_resumed
from strict import StrictError, gpu_backend

import xpnet
from xpnet.data import Standardiser
from xpnet.errors import ConfigError
from xpnet.nn.network import Network
from xpnet.ops import get_ops
from xpnet.ops.cuda.graphs import captured
from xpnet.training.evaluation import Evaluation
from xpnet.training.steppers import Hyperparameters, State, StepMetrics, make_stepper
from xpnet.training.steppers.cuda_graph import CAPACITY, GraphStepper
from xpnet.training.steppers.cuda_small import SmallStepper

pytestmark = pytest.mark.skipif(emulator.compiler() is None, reason="there is no C++ compiler")


@pytest.fixture
def gpu(monkeypatch):
    return gpu_backend(monkeypatch)


class Training:
    """A network on a pretended GPU with a stepper of some kind."""

    def __init__(
        self, backend, kind, *, replicas=1, hidden=(6, 5), inputs=7, rho=None, nesterov=False, seed=0,
        kept_as_bytes=False, **network,
    ):  # fmt: skip
        config = xpnet.NetworkConfig(inputs=inputs, hidden=hidden, classes=4, init_bias=0.2, **network)
        self.backend, xp = backend, backend.xp
        self.net = Network(config, backend=backend, dtype="float64", seed=seed, replicas=replicas)
        rng = np.random.default_rng(seed)
        labels = xp.asarray(rng.integers(0, 4, 90))
        raw = rng.integers(0, 256, (90, inputs), np.uint8)
        standardiser = Standardiser.fit(raw)
        if kept_as_bytes:
            x = standardiser.lazily(raw, "float64").to(xp.asarray)
        else:
            x = xp.asarray(standardiser(raw, "float64"))
        hyper = Hyperparameters(
            xp.asarray(np.linspace(0.01, 0.1, replicas)),
            None if rho is None else xp.asarray(np.full(replicas, rho)),
            nesterov,
        )
        velocities = {} if rho is None else {name: xp.zeros_like(p) for name, p in self.net.parameters.items()}
        self.state = State(self.net.parameters, velocities, self.net.running)
        self.stepper = make_stepper(self.net, x, labels, hyper, kind, batch=10)
        self.rng = rng

    def run(self, steps, n=10, independent=False):
        xp, replicas = self.backend.xp, self.net.replicas
        perm = self.rng.integers(0, 90, (steps, replicas, n) if independent else (steps, n))
        eta = 0.05 * (1 + self.rng.random((steps, replicas)))
        totals = StepMetrics.empty(xp, steps, replicas)
        self.stepper.run(self.state, xp.asarray(perm), xp.asarray(eta), totals)
        return totals

    def everything(self, totals):
        tensors = {**self.state.parameters, **self.state.running}
        tensors |= {f"velocity {name}": v for name, v in self.state.velocities.items()}
        return {name: t._a.copy() for name, t in tensors.items()} | {
            f"total {i}": t._a.copy() for i, t in enumerate(totals.arrays())
        }


CASES = [
    {},
    {"batch_norm": False},
    {"replicas": 3},
    {"replicas": 3, "independent": True},
    {"rho": 0.8},
    {"replicas": 2, "rho": 0.8, "nesterov": True},
    {"hidden": ()},
]
# The weights of the first layer are large: they move within the product.
LARGE = [{"hidden": (3000,)}, {"hidden": (3000,), "rho": 0.5}]


SMALL = [
    {},
    {"batch_norm": False},
    {"replicas": 3},
    {"replicas": 3, "independent": True},
    {"hidden": ()},
    {"hidden": (64, 1, 33, 5)},
    {"hidden": (9,), "bias_before_bn": True},
    {"hidden": (3, 4), "kept_as_bytes": True},
    {"hidden": (5,), "inputs": 700},  # W1 has a memory of its own
]


@pytest.mark.parametrize(
    ("kind", "case"),
    [
        *((kind, case) for kind in ("graph", "fused") for case in CASES),
        *(("small", case) for case in SMALL),
        ("fused", LARGE[0]),
        *(
            pytest.param(kind, case, marks=pytest.mark.slow)
            for kind, case in (("graph", LARGE[0]), ("graph", LARGE[1]))
        ),
        pytest.param("fused", LARGE[1], marks=pytest.mark.slow),
    ],
    ids=str,
)
def test_it_trains_as_the_plain_stepper(gpu, kind, case):
    case = dict(case)
    independent = case.pop("independent", False)
    ours, plain = Training(gpu, kind, **case), Training(gpu, "plain", **case)
    # A first call, one that is captured step by step, a whole graph and more, another shape, and the first again.
    few = case.get("hidden") == (3000,)
    for steps, n in (
        ((1, 10), (3, 10), (2, 7), (2, 10)) if few else ((1, 10), (3, 10), (CAPACITY + 2, 10), (2, 7), (2, 10))
    ):
        a = ours.everything(ours.run(steps, n, independent))
        b = plain.everything(plain.run(steps, n, independent))
        assert a.keys() == b.keys()
        for name, value in b.items():
            np.testing.assert_allclose(a[name], value, rtol=1e-9, atol=1e-11, err_msg=name)
        assert ours.state.step == plain.state.step


def test_a_step_is_eta_times_the_gradient(gpu):
    t = Training(gpu, "graph", replicas=2)
    rows, eta, lam = np.arange(10)[None], np.array([[0.1, 0.2]]), np.linspace(0.01, 0.1, 2)
    x, labels = t.stepper.x[gpu.xp.asarray(rows[0])], t.stepper.labels[gpu.xp.asarray(rows[0])]
    _, gradients = t.net.cost_and_gradients(x, labels, gpu.xp.asarray(lam))
    before = {name: p._a.copy() for name, p in t.net.parameters.items()}
    t.stepper.run(t.state, gpu.xp.asarray(rows), gpu.xp.asarray(eta), StepMetrics.empty(gpu.xp, 1, 2))
    for name, gradient in gradients.items():
        moved = (before[name] - t.state.parameters[name]._a) / eta[0][:, None, None]
        np.testing.assert_allclose(moved, gradient._a, rtol=1e-9, atol=1e-11, err_msg=name)


@pytest.mark.parametrize("kind", ["graph", "small"])
def test_the_order_of_threads_and_blocks_does_not_show(gpu, kind):
    results = []
    for gpu.xp.backwards in (False, True):
        t = Training(gpu, kind, replicas=2, hidden=(40, 9))
        results.append(t.everything(t.run(4)))
    for name, value in results[0].items():
        np.testing.assert_array_equal(value, results[1][name], err_msg=name)


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
    assert gpu.xp.launches - launches <= 12  # batches, rates and figures go in and out
    assert gpu.xp.synchronisations == waits


def test_dropping_a_replica_makes_new_graphs(gpu):
    t = Training(gpu, "graph", replicas=3)
    t.run(4)
    keep = gpu.xp.asarray(np.array([0, 2]))
    state = t.state.select(keep)
    untouched = t.state.parameters["W1"]._a.copy()
    hyper = Hyperparameters(gpu.xp.asarray(np.array([0.01, 0.1])))
    stepper = make_stepper(t.net, t.stepper.x, t.stepper.labels, hyper, "graph")
    totals = StepMetrics.empty(gpu.xp, 3, 2)
    stepper.run(state, gpu.xp.asarray(np.arange(30).reshape(3, 10)), gpu.xp.asarray(np.full((3, 2), 0.1)), totals)
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
    ops.relu(a)
    graph = captured(gpu.xp, lambda: ops.relu(a))
    graph.launch()
    gpu.xp.pools[-1].free()
    with pytest.raises(StrictError, match="has been freed"):
        graph.launch()


def test_training_again_and_again_takes_no_more_memory(gpu):
    data = xpnet.load_data("patterns:330/60")
    config = xpnet.NetworkConfig(inputs=data.features, hidden=(5,))
    gc.collect()
    gc.disable()  # nothing waits for a collection
    try:
        for _ in range(2):
            xpnet.train(Network(config, backend=gpu), data, xpnet.TrainConfig(epochs=3, batch_size=110))
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


def test_momentum_is_refused_by_name_or_trained_by_another(gpu):
    wanted = "stepper = small: does not know the setting momentum; take auto, graph, fused or plain"
    with pytest.raises(ConfigError, match=wanted):
        Training(gpu, "small", rho=0.5)
    assert type(Training(gpu, "auto", rho=0.5).stepper) is GraphStepper


def test_a_batch_too_large_for_the_small_stepper_is_trained_all_the_same(gpu):
    ours, plain = Training(gpu, "small"), Training(gpu, "plain")
    for n in (300, 10):
        a, b = ours.everything(ours.run(3, n)), plain.everything(plain.run(3, n))
        for name, value in b.items():
            np.testing.assert_allclose(a[name], value, rtol=1e-9, atol=1e-11, err_msg=name)


@pytest.mark.parametrize("kind", ["split", "population"])
def test_steppers_of_the_cpu_are_refused(gpu, kind):
    with pytest.raises(ConfigError, match=rf"stepper = {kind}: is made for the CPU; on gpu:0 there are plain, fused"):
        Training(gpu, kind)


@pytest.mark.parametrize("kind", ["fused", "graph", "small"])
def test_steppers_of_a_gpu_are_refused_on_the_cpu(kind):
    with pytest.raises(ConfigError, match=rf"stepper = {kind}: needs a GPU; on cpu there are plain, split and popul"):
        Training(xpnet.get_backend("cpu"), kind)


@pytest.mark.parametrize(("batch_norm", "replicas"), [pytest.param(True, 1, marks=pytest.mark.slow), (False, 2)])
def test_training_is_that_of_the_cpu(gpu, batch_norm, replicas):
    data = xpnet.load_data("patterns:330/60")
    results = []
    for backend in (gpu, xpnet.get_backend("cpu")):
        config = xpnet.NetworkConfig(inputs=data.features, hidden=(9, 8), batch_norm=batch_norm)
        net = Network(config, backend=backend, dtype="float64", replicas=replicas)
        results.append(xpnet.train(net, data, xpnet.TrainConfig(epochs=3, lam=0.01)))
    there, here = results
    for column in ("train_loss", "train_cost", "train_accuracy", "validation_loss", "validation_accuracy"):
        np.testing.assert_allclose(there.history[column], here.history[column], rtol=1e-9, err_msg=column)
    np.testing.assert_allclose(there.test.costs, here.test.costs, rtol=1e-9)


@pytest.mark.guarantee("resume")
@pytest.mark.parametrize("kind", ["plain", "fused", "graph", "small"])
def test_a_training_that_is_resumed_ends_with_the_same_bits(gpu, kind):
    rng = np.random.default_rng(2)
    data = xpnet.data_from_arrays(rng.standard_normal((90, 7)), np.arange(90) % 4, split="60/20")
    config = xpnet.TrainConfig(epochs=3, batch_size=16, stepper=kind)
    check_resumed(gpu, data, (6, 5), "float64", config, [1, 5])
