"""The kernel whose blocks keep one network among them does the steps of the plain stepper, whatever block is slow."""

from __future__ import annotations

from types import SimpleNamespace

import emulator
import numpy as np
import pytest
from kernel_steps import LOSS, PUSHED, check_same, hyper_of, problem, trained
from stepping import check_step_is_gradient, state_of
from strict import gpu_backend

import xpnet
from xpnet.errors import ConfigError, DeviceError
from xpnet.nn.network import Network
from xpnet.ops.cuda import clusters, kernels
from xpnet.training.steppers import Hyperparameters, StepMetrics, cuda_persistent, make_stepper
from xpnet.training.steppers.cuda_persistent import PersistentPlan, PersistentStepper
from xpnet.training.steppers.cuda_plan import Variant

pytestmark = pytest.mark.skipif(emulator.compiler() is None, reason="there is no C++ compiler")


@pytest.fixture
def gpu(monkeypatch):
    return gpu_backend(monkeypatch)


@pytest.mark.parametrize(
    ("clusters", "inputs", "kept_as_bytes", "settings"),
    [
        (1, 36, True, {"n": 19}),  # blocks of twelve features, some of which have none, and of three samples or one
        (2, 35, True, {"hidden": (7,), "n": 8, "bias_before_bn": True}),  # rows of bytes that begin anywhere
        (1, 9, False, {"hidden": (3,), "n": 3, "batch_norm": False}),  # fewer samples than blocks
        pytest.param(3, 100, False, {"hidden": (), "n": 60}, marks=pytest.mark.slow),
        pytest.param(2, 96, True, {"hidden": (64, 9), "n": 1, "batch_norm": False}, marks=pytest.mark.slow),
        pytest.param(1, 64, True, {"hidden": (33, 20, 7), "n": 100}, marks=pytest.mark.slow),
        pytest.param(2, 200, True, {"n": 37, "more": PUSHED | LOSS}, marks=pytest.mark.slow),
        pytest.param(5, 160, True, {"steps": 2}, marks=pytest.mark.thorough),
        pytest.param(5, 150, True, {"dtype": "float32", "more": PUSHED | LOSS}, marks=pytest.mark.slow),
    ],
    ids=str,
)
def test_persistent_takes_the_steps_of_the_plain_stepper(gpu, clusters, inputs, kept_as_bytes, settings):
    gpu.xp.clusters = clusters
    data, exact = problem(inputs, kept_as_bytes, settings.get("dtype", "float64")), "dtype" not in settings
    plain, ours = (trained(gpu, kind, data, **settings) for kind in ("plain", "persistent"))
    check_same(ours, plain, **({"rtol": 1e-9, "atol": 1e-11} if exact else {"rtol": 2e-4, "atol": 2e-5}))


@pytest.mark.parametrize(
    ("answers", "asked", "plan"),
    [([16], [128], (16, 24)), ([15, 14], [128, 112], (14, 28)), ([9, 3], [128, 72], None)],
    ids=str,
)
def test_fewer_clusters_are_taken_until_the_gpu_has_room_for_them(gpu, monkeypatch, answers, asked, plan):
    seen, left = [], iter(answers)

    def room(_, blocks, threads, __):
        seen.append((blocks, threads))
        return next(left, 0)

    monkeypatch.setattr("xpnet.ops.cuda.clusters.active_clusters", room)
    config = xpnet.NetworkConfig(inputs=3072, hidden=(50, 50), classes=10)
    found = cuda_persistent._plan(Network(config, backend=gpu, dtype="float32"), 100, Variant())
    assert seen[: len(asked)] == [(blocks, 512) for blocks in asked]
    assert isinstance(found, str) if plan is None else (found.clusters, found.rows) == plan


def test_a_batch_larger_than_was_announced_goes_to_graph(gpu):
    (x, labels), config = problem(20), xpnet.NetworkConfig(inputs=20, hidden=(5,), classes=4)
    hyper = hyper_of(gpu.xp, (0,), "float64")
    there, y = x.to(gpu.xp.asarray), gpu.xp.asarray(labels)
    perm, eta = np.random.default_rng(0).integers(0, 150, (2, 300)), np.full((2, 1), 0.1)
    found = []
    for kind in ("persistent", "plain"):
        net = Network(config, backend=gpu, dtype="float64")
        stepper, state = make_stepper(net, there, y, hyper, kind, batch=10), state_of(net)
        metrics = StepMetrics.empty(gpu.xp, 2, 1)
        stepper.run(state, gpu.xp.asarray(perm), gpu.xp.asarray(eta), metrics)
        found.append({name: tensor._a.copy() for name, tensor in state.parameters.items()})
    check_same(*found, rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize(
    ("batch_norm", "loss"), [(True, {}), pytest.param(False, LOSS, marks=pytest.mark.slow)], ids=str
)
def test_persistent_step_is_eta_times_the_gradient(gpu, batch_norm, loss):
    (x, labels), numbers = problem(40), (2,)
    config = xpnet.NetworkConfig(inputs=40, hidden=(9, 5), classes=4, batch_norm=batch_norm)
    net, hyper = Network(config, backend=gpu, dtype="float64"), hyper_of(gpu.xp, numbers, "float64", **loss)
    stepper = make_stepper(net, x.to(gpu.xp.asarray), gpu.xp.asarray(labels), hyper, "persistent", batch=30)
    lam, smoothing, weights = (None if v is None else v._a for v in (hyper.lam, hyper.smoothing, hyper.weights))
    check_step_is_gradient(stepper, net, np.arange(30), np.array([0.1]), lam, smoothing, weights)


# On the second two, blocks sleep now and then.
SCHEDULES = [(backwards, seed) for seed in range(2) for backwards in (False, True)]


@pytest.mark.parametrize("more", [{}, pytest.param(PUSHED | LOSS, marks=pytest.mark.slow)], ids=str)
def test_persistent_has_the_same_bits_on_every_schedule_and_for_any_split_of_the_calls(gpu, more):
    data, settings = problem(40), {"hidden": (5,), "n": 9, "steps": 4, "more": more}
    expected = trained(gpu, "persistent", data, **settings)
    check_same(expected, trained(gpu, "plain", data, **settings), rtol=1e-9, atol=1e-11)
    # Those on which faults are found: see below.
    for (gpu.xp.backwards, gpu.xp.seed), calls in zip(SCHEDULES[1:], [(4,), (3, 1), (1, 2, 1)], strict=True):
        check_same(trained(gpu, "persistent", data, calls=calls, **settings), expected)


def test_numbers_of_flags_go_on_beyond_the_largest(gpu, monkeypatch):
    data, original = problem(40), PersistentStepper.launch
    expected = trained(gpu, "persistent", data, hidden=(5,))

    def launch(self, state, program, steps):
        if program.memory is not None and program.memory.steps == 1:  # the second call; the third goes beyond
            program.memory.flags._a[...] = program.memory.steps = 2**32 - 1
        original(self, state, program, steps)

    monkeypatch.setattr(PersistentStepper, "launch", launch)
    check_same(trained(gpu, "persistent", data, hidden=(5,), calls=(1, 1, 1)), expected)


# Faults of the protocol: what is in the source, what takes its place, and a schedule that shows it.  "Late" is one on
# which what a block writes arrives as late as may be, "early" one on which it arrives at once.
LATE, EARLY, LATE_SLEEPER, EARLY_SLEEPER = SCHEDULES
FAULTS = {
    "a flag that releases nothing": ("store_release(flags + cluster, number)", "flags[cluster] = number", LATE),
    "a flag that is set before all have told": ("__syncthreads();  // all have told", "", LATE),
    "no barrier between product and sum": ("t.n, width);\n        cluster_barrier();", "t.n, width);", LATE),
    "a flag that is compared with the last number": ("threadIdx.x, number);", "threadIdx.x, number - 1);", EARLY),
    "numbers that begin anew in each call": ("steps.number + step + 1", "step + 1", EARLY),
    "an exchange that is not doubled": ("(number % 2 * gridDim.x", "(0 * gridDim.x", LATE_SLEEPER),
    "sums that are not doubled": ("turn % 2 * 3 * WIDTH", "0 * turn", EARLY_SLEEPER),
    "a batch that overwrites the last one": ("at_x + step % 2 * t.n", "at_x + 0 * t.n", LATE),
    "no barrier before a block ends": ("cluster_barrier();  // no block ends", "// no block ends", LATE),
    "a flag that never comes": ("if (threadIdx.x == 0) store", "if (blockIdx.x && threadIdx.x == 0) store", LATE),
}
ENDS = {
    "no barrier before a block ends": "a block has ended whose memory is read",
    "a flag that never comes": "a block gives up: it waits for what does not come",
}


def outcome(gpu, schedule, expected, data, **settings):
    """Return how a training on a schedule fails, or None."""
    gpu.xp.backwards, gpu.xp.seed = schedule
    try:
        check_same(trained(gpu, "persistent", data, **settings), expected, rtol=1e-9, atol=1e-11)
    except emulator.EmulationError as error:
        return str(error).removeprefix("persistent_steps: ")
    except AssertionError:
        return "wrong numbers"
    return None


@pytest.mark.slow
@pytest.mark.parametrize("fault", FAULTS)
def test_fault_of_the_protocol_is_found(gpu, monkeypatch, fault):
    data, settings = problem(40), {"hidden": (5,), "n": 9, "steps": 4, "calls": (3, 1)}
    expected = trained(gpu, "plain", data, **settings)
    whole, (right, wrong, schedule) = kernels.source, FAULTS[fault]
    assert whole().count(right) == 1
    monkeypatch.setattr(kernels, "source", lambda names: whole(names).replace(right, wrong))
    faulty, (early, seed) = gpu_backend(monkeypatch), schedule
    # Not all sleep where it matters, so a few are tried.
    schedules = [(early, seed + k) for k in range(6 if seed else 1)]
    found = (outcome(faulty, one, expected, data, **settings) for one in schedules)
    assert next(filter(None, found), None) == ENDS.get(fault, "wrong numbers")


@pytest.mark.parametrize(
    ("settings", "reason"),
    [
        ({"hidden": (65,)}, "it has layers of more than 64 units"),
        ({"n": 257}, "the batch has more than 256 samples"),
        ({"numbers": (0, 1)}, "it trains one network at a time, not 2"),
        ({"hidden": (64,), "n": 256}, r"it needs \d+,\d+ bytes of a multiprocessor's memory, which has 232,448"),
    ],
    ids=str,
)
def test_persistent_refuses_what_it_has_no_room_for(gpu, settings, reason):
    with pytest.raises(ConfigError, match=f"^stepper = persistent: cannot train this network: {reason}"):
        trained(gpu, "persistent", problem(500), **settings)


def no_driver(*_):
    raise DeviceError("there is no driver")


@pytest.mark.parametrize(
    ("capability", "room", "reason"),
    [
        ("80", lambda *_: 16, r"it needs a GPU of compute capability 9\.0 or more, not 8\.0"),
        ("90", lambda *_: 0, "the GPU has no room for a cluster of 8 blocks, or its driver does not say so"),
        ("100", no_driver, "there is no driver"),
    ],
)
def test_persistent_refuses_a_gpu_without_clusters(gpu, monkeypatch, capability, room, reason):
    monkeypatch.setattr(gpu.xp.cuda.Device, "compute_capability", capability)
    monkeypatch.setattr("xpnet.ops.cuda.clusters.active_clusters", room)
    with pytest.raises(ConfigError, match=f"^stepper = persistent: cannot train this network: {reason}; take graph"):
        trained(gpu, "persistent", problem(5))


@pytest.mark.parametrize(("room", "clusters", "rows"), [(16, 16, 24), (15, 14, 28), (1, 1, 384), (32, 16, 24)])
def test_rows_of_a_block_follow_from_the_room_for_clusters(room, clusters, rows):
    network = xpnet.NetworkConfig(inputs=3072, hidden=(50, 50), classes=10)
    plan = PersistentPlan(network, "float32", 100, min(room, 132 // 8), variant=Variant())
    assert (plan.clusters, plan.rows, plan.each) == (clusters, rows, 13)


def test_driver_is_asked_for_room_for_clusters(monkeypatch):
    asked = []

    def ask(count, function, launch):
        count._obj.value = 15
        asked.append((function.value, launch._obj.grid_x, launch._obj.block_x, launch._obj.shared, launch._obj.count))
        return status

    function = SimpleNamespace(kernel=SimpleNamespace(ptr=77))
    for driver, status, room in (  # noqa: B007 - `ask` returns the status
        (SimpleNamespace(cuOccupancyMaxActiveClusters=ask), 0, 15),
        (SimpleNamespace(cuOccupancyMaxActiveClusters=ask), 912, 0),
        (SimpleNamespace(), 0, 0),
    ):
        monkeypatch.setattr(clusters, "load_driver", lambda driver=driver: driver)
        assert clusters.active_clusters(function, 128, 512, 100_000) == room
    assert asked == [(77, 128, 512, 100_000, 0)] * 2


def test_persistent_call_of_more_steps_has_no_more_launches_and_waits(gpu):
    gpu.xp.clusters, seen = 1, []
    for steps in (1, 2):
        launches, waits = gpu.xp.launches, gpu.xp.synchronisations
        trained(gpu, "persistent", problem(5), hidden=(), steps=steps, n=2)
        seen.append((gpu.xp.launches - launches, gpu.xp.synchronisations - waits))
    assert seen[0] == seen[1]


def test_persistent_is_never_chosen_automatically(gpu):
    (x, labels), config = problem(5), xpnet.NetworkConfig(inputs=5, hidden=(3,), classes=4)
    hyper = Hyperparameters(gpu.xp.asarray(np.full(1, 0.1)))
    net, there = Network(config, backend=gpu), x.to(gpu.xp.asarray)
    stepper = make_stepper(net, there, gpu.xp.asarray(labels), hyper, "auto", batch=10)
    assert not isinstance(stepper, PersistentStepper)
