"""Searches from end to end, in memory: which trials are trained, pruned, chosen, and shared among workers."""

from __future__ import annotations

import dataclasses
import itertools
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from calls import Calls
from search_cases import SMALL, Died, Mortal, points
from strict import strict_backend

import xpnet
from xpnet.config.settings import Settings
from xpnet.errors import ConfigError, DataError, RunError
from xpnet.nn.network import Network
from xpnet.training import evaluation, evaluator
from xpnet.training.steppers.replica_parallel import ReplicaParallelStepper
from xpnet.training.train import train
from xpnet.tuning import Search, open_storage
from xpnet.tuning import worker as worker_module
from xpnet.tuning.trial_queue import ATTEMPTS, attempts_by_slot

FLOAT64 = {"dtype": "float64"}


@pytest.fixture
def trained(monkeypatch):
    """Return the populations that were trained."""
    populations = []
    real = worker_module.train_population

    def counted(population, *args, **options):
        populations.append(population)
        return real(population, *args, **options)

    monkeypatch.setattr(worker_module, "train_population", counted)
    return populations


def test_trial_has_the_figures_of_a_run_with_its_settings(blobs, begin):
    result = begin(["lambda", "eta=0.01..0.2"], settings={"runs": 2, "seed": 3, **FLOAT64}).run()
    assert [trial.state for trial in result.trials] == ["complete"] * 4
    for trial in result.trials:
        for seed, accuracy, loss in zip((3, 4), trial.accuracies, trial.losses, strict=True):
            values = SMALL | {"lambda": trial.point["lambda"], "eta_max": trial.point["eta"], "seed": seed}
            settings = Settings.from_mapping(values | {"shuffle_seed": seed})
            network = Network(settings.network_config(12, 4), dtype="float64", seed=seed)
            alone = train(network, blobs, settings.train)
            assert accuracy == alone.validation.accuracy
            assert loss == pytest.approx(alone.validation.loss, rel=1e-9)
        assert trial.score == pytest.approx(np.mean(trial.accuracies))
    assert result.best.score == max(trial.score for trial in result.trials)


def test_points_that_do_not_stack_train_in_populations_of_their_own(begin, trained):
    space = {"width": [3, 5], "depth": [1, 2], "batch_size": [40, 50], "lambda": [0, 0.01, 0.1]}
    result = begin(space, draw="grid", trials=24).run()
    assert sorted((p.network.hidden, p.train.batch_size, len(p)) for p in trained) == sorted(
        ((width,) * depth, batch, 3) for width, depth, batch in itertools.product((3, 5), (1, 2), (40, 50))
    )
    assert result.outcome.counts()["complete"] == 24
    assert {tuple(trial.point.values()) for trial in result.trials} == set(itertools.product(*space.values()))


def test_smoothed_labels_stack_and_shifts_train_in_populations_of_their_own(trained):
    data = xpnet.load_data("patterns:200/50")
    space = {"label_smoothing": [0, 0.1], "shift": [0, 2], "eta": [0.01, 0.1]}
    settings = {"hidden": [4], "schedule": "one-cycle", "epochs": 2, "flip": "random", "views": 2, **FLOAT64}
    result = xpnet.search(space, data, settings=settings, final="same")
    assert sorted((p.train.shift, p.train.label_smoothing, p.train.eta_max) for p in trained) == [
        (shift, (0.0, 0.0, 0.1, 0.1), (0.01, 0.1, 0.01, 0.1)) for shift in (0, 2)
    ]
    best = result.best.point
    config = xpnet.TrainConfig(
        schedule="one-cycle", epochs=2, flip="random", views=2, shift=best["shift"], eta_max=best["eta"],
        label_smoothing=best["label_smoothing"],
    )  # fmt: skip
    network = Network(xpnet.NetworkConfig(inputs=data.inputs, hidden=(4,)), dtype="float64")
    alone = train(network, data, config)
    assert result.best.score == alone.validation.accuracy
    averaged = result.network.predict(data.test.x, views=2)[0]
    assert result.final["test_views"]["views"] == 2
    assert result.final["test_views"]["accuracy"] == pytest.approx((averaged == data.test.labels).mean(), abs=1e-9)


def test_shifts_of_data_without_pictures_are_refused_before_anything_is_trained(blobs, trained):
    with pytest.raises(DataError, match="shift = 4: needs pictures, and arrays has features of another kind"):
        xpnet.search("shift", blobs, settings=SMALL, final="none")
    assert trained == []


def test_lists_without_a_number_of_trials_are_tried_completely(blobs):
    result = xpnet.search({"lambda": [0, 0.01, 0.1], "sigma": [0.1, 0.01]}, blobs, settings=SMALL, final="none")
    assert len(result.trials) == len({tuple(trial.point.values()) for trial in result.trials}) == 6


@pytest.mark.parametrize("rule", ["median", "halving"])
def test_pruned_trials_take_no_further_steps(begin, rule, monkeypatch):
    steps = []
    real = ReplicaParallelStepper.run

    def counted(self, state, perm, eta, totals):
        steps.append(int(np.prod(eta.shape)))
        real(self, state, perm, eta, totals)

    monkeypatch.setattr(ReplicaParallelStepper, "run", counted)
    settings = {"cycles": 4, "stepper": "population", **FLOAT64}
    result = begin({"lambda": (1e-5, 1.0)}, settings=settings, trials=8, draw="log-grid", prune=rule).run()
    pruned = [trial for trial in result.trials if trial.state == "pruned"]
    assert len(pruned) >= 4
    assert sum(steps) == sum(8 * (trial.cycle or 4) for trial in result.trials) < 8 * 4 * 8
    if rule == "halving":
        assert {trial.cycle for trial in pruned} <= {1, 2}
        assert len(pruned) == 6 or len({trial.score for trial in result.trials}) < 8  # ties are kept


@pytest.mark.parametrize(
    ("rule", "most"), [("median", 2), ("median", 3), ("median", 6), ("median", 100), ("halving", 100)]
)
def test_pruning_changes_no_figures_however_few_networks_train_together(begin, rule, most):
    settings = {"runs": 3, "cycles": 3, **FLOAT64}
    space, how = {"lambda": (1e-5, 10.0)}, {"trials": 6, "draw": "log-grid"}
    full = begin(space, settings=settings, **how).run()
    found = begin(space, settings={**settings, "max_replicas": most}, prune=rule, **how).run()
    for trial, unpruned in zip(found.trials, full.trials, strict=True):
        assert None not in trial.accuracies
        if trial.state == "pruned":
            unpruned = begin(space, settings={**settings, "cycles": trial.cycle}, **how).run().trials[trial.number]
        assert trial.accuracies == unpruned.accuracies
        assert trial.epochs == unpruned.epochs > 0
        assert trial.losses == pytest.approx(unpruned.losses, rel=1e-9)
    assert (found.outcome.counts()["pruned"] == 0) == (most == 2)  # seeds that train apart are not compared


@pytest.mark.parametrize("refine", ["k-best", "two-best"])
def test_rounds_narrow_the_range_and_the_longest_has_the_winner(begin, refine):
    one = begin(rounds=3, refine=refine, best=2, round_cycles=(1, 1, 3), trials=5)
    result = one.run()
    for number in range(3):
        (dimension,) = one.rounds.space_of(number, result.trials).dimensions
        drawn = [trial.point["lambda"] for trial in result.trials if trial.round == number]
        assert len(drawn) == 5
        assert all(dimension.low <= value <= dimension.high for value in drawn)
    assert result.best.round == 2
    assert {(trial.round == 2, trial.epochs) for trial in result.trials} == {(False, 1), (True, 3)}
    assert result.settings["cycles"] == 3


@pytest.mark.parametrize("draw", ["random", "tpe", "cmaes", "gp"])
def test_search_is_a_function_of_its_seed(begin, draw):
    if draw in ("cmaes", "gp"):
        pytest.importorskip({"cmaes": "cmaes", "gp": "torch"}[draw])
    space = ["lambda", "width=3..8", "sigma=0.1,0.2"]
    one, same, other = (begin(space, draw=draw, trials=12, settings={"seed": n, **FLOAT64}).run() for n in (1, 1, 2))
    assert points(one.outcome) == points(same.outcome) != points(other.outcome)
    assert one.outcome.counts()["complete"] == 12
    for trial in one.trials:
        assert 1e-5 <= trial.point["lambda"] <= 1e-1
        assert 3 <= trial.point["width"] <= 8
        assert trial.point["sigma"] in (0.1, 0.2)
    assert len({trial.point["lambda"] for trial in one.trials}) == 12


def test_tpe_comes_nearer_to_the_best():
    rng = np.random.default_rng(0)
    labels = np.arange(400) % 4
    x = rng.standard_normal((400, 8)) + 2 * rng.standard_normal((4, 8))[labels]
    data = xpnet.data_from_arrays(x.astype(np.float32), labels, split="300/60")
    how = {"draw": "tpe", "trials": 40, "final": "none"}
    result = xpnet.search({"eta": (1e-5, 0.5)}, data, settings=SMALL | {"cycles": 1}, **how)  # the best is at one end
    etas = [trial.point["eta"] for trial in result.trials]
    assert np.median(np.log10(etas[20:])) > np.median(np.log10(etas[:8])) + 0.3


def test_diverged_trial_is_complete_and_never_wins(begin):
    settings = {"batch_norm": False, "runs": 2}
    result = begin({"eta": [0.1, 1e30]}, settings=settings, draw="grid", trials=2).run()
    good, bad = result.trials
    assert (good.state, bad.state) == ("complete", "complete")
    assert (bad.accuracies, bad.score) == ((None, None), 0.0)
    assert result.best is good
    alone = begin({"eta": [1e30]}, settings=settings, draw="grid", final="same").run()
    assert [trial.score for trial in alone.trials] == [0.0]
    assert alone.best is None
    assert alone.final is None


def test_test_set_is_used_once_by_the_networks_of_the_winner(blobs, begin, monkeypatch):
    sizes = []

    class Watched(evaluation.Evaluation):
        def __init__(self, network, x, labels):
            super().__init__(network, x, labels)
            self.rows = int(x.shape[0])

        def __call__(self, lam=0.0):
            sizes.append(self.rows)
            return super().__call__(lam)

    monkeypatch.setattr(evaluator, "Evaluation", Watched)
    monkeypatch.setattr(evaluation, "Evaluation", Watched)
    test = len(blobs.test)
    assert test not in (len(blobs.train), len(blobs.validation))
    result = begin(final="same", rounds=2, settings={"runs": 2}).run()
    assert sizes.count(test) == 1
    assert result.final["test"]["accuracy"]["values"] is not None
    assert result.final["validation"]["accuracy"]["values"] == list(result.best.accuracies)
    assert result.final["trained_again"] is False


def test_winner_trains_again_on_more_data_with_more_seeds():
    settings = {"data": "patterns:1000/300", "hidden": [5], "n_s": 3, "split": "500/100"}
    result = xpnet.search("lambda", settings=settings, trials=2, final="900/50", final_runs=3)
    assert (result.settings["split"], result.settings["runs"]) == ("900/50", 3)
    assert len(result.final["test"]["accuracy"]["values"]) == 3
    assert result.final["trained_again"] is True
    assert result.settings["lambda"] == result.best.point["lambda"]
    assert list(result.network.config.hidden) == [5]


def test_search_on_a_strict_device_is_that_on_the_cpu(begin):
    one, other = (begin(prune="median", settings={"cycles": 3, **FLOAT64}) for _ in range(2))
    device = dataclasses.replace(one, backend=strict_backend())
    assert points(device.run().outcome) == points(other.run().outcome)


def test_memory_for_few_networks_cuts_between_trials(begin, monkeypatch, trained):
    monkeypatch.setattr(worker_module, "most_in_memory", lambda *_: 5)
    begin(settings={"runs": 2}, trials=5).run()
    assert [population.seeds for population in trained] == [(0, 0, 1, 1), (0, 0, 1, 1), (0, 1)]


def test_networks_that_patience_stopped_keep_the_figures_that_they_stopped_with(begin):
    settings = {"cycles": 12, "eta_max": 1.0, "runs": 2, "patience": 1, "restore": "best", **FLOAT64}
    found = begin(prune="median", settings=settings, trials=6).run()
    assert {trial.state for trial in found.trials} <= {"complete", "pruned"}
    assert all(None not in trial.accuracies for trial in found.trials)
    ended = [trial for trial in found.trials if trial.state == "complete"]
    assert min(trial.epochs for trial in ended) < 12


def test_point_that_cannot_be_trained_fails_alone(begin):
    found = begin(["eta=0.1,0.001", "eta_min=1e-4,0.05"], draw="grid").run()
    assert sorted(trial.state for trial in found.trials) == ["complete"] * 3 + ["failed"]
    (failed,) = (trial for trial in found.trials if trial.state == "failed")
    assert "eta_min must be at most" in failed.note
    assert "eta_min must be at most" in found.outcome.to_csv()


# -- several workers ----------------------------------------------------------------------------


def test_workers_that_share_a_search_do_nothing_twice(begin):
    storage = open_storage(None)
    expected = begin(trials=9, settings=FLOAT64).run()
    workers = [
        begin(storage=storage, trials=9, settings={**FLOAT64, "max_replicas": 2}, final="same") for _ in range(3)
    ]
    with ThreadPoolExecutor(3) as pool:
        results = list(pool.map(Search.run, workers))
    for result in results:
        assert points(result.outcome) == points(expected.outcome)
        assert result.final == results[0].final
    assert [t.state.name for t in workers[0].queue.trials()].count("COMPLETE") == 9
    assert workers[0].queue.workers() == []


@pytest.mark.guarantee("searches")
@pytest.mark.parametrize(
    ("draw", "after"),
    [
        ("random", False),
        ("tpe", True),
        *(pytest.param(*case, marks=pytest.mark.slow) for case in (("random", True), ("tpe", False))),
    ],
)
def test_worker_that_dies_at_a_write_loses_nothing(begin, let_leases_expire, after, draw, harm):
    """Die at writes in turn: the next worker finishes, nothing is done twice, nothing is lost."""
    how = {"trials": 3, "draw": draw, "prune": "median", "rounds": 2, "final": "same"}
    settings = {**FLOAT64, "max_replicas": 2, "batch_size": 100}
    expected = points(begin(settings=settings, **how).run().outcome)
    died, step = 0, harm.times(6, 1)  # writes from one death to the next
    for at in itertools.count(1, step):
        storage = open_storage(None)
        try:
            begin(settings=settings, storage=Mortal(storage, at, after=after), **how).run()
        except Died:
            died += 1
        else:
            break
        second = begin(settings=settings, storage=storage, **how)
        let_leases_expire(second)
        before = {t.number: t.user_attrs.get("result") for t in second.queue.trials() if t.state.name == "COMPLETE"}
        result = second.run()
        trials = second.queue.trials()
        assert not [t for t in trials if t.state.name in ("RUNNING", "WAITING")], at
        for own in attempts_by_slot(trials).values():
            assert sum(t.state.name in ("COMPLETE", "PRUNED") for t in own) == 1, at
        assert before == {number: trials[number].user_attrs.get("result") for number in before}
        assert result.final is not None
        if draw == "random":  # a sampler that learns sees other trials as unfinished
            assert points(result.outcome) == expected, at
    harm.did("writes at which a worker died", died)
    assert died * step > 25


@pytest.fixture
def die(begin, let_leases_expire):
    """Return a function that begins as a worker, takes trials, and dies; it returns the numbers of their slots."""

    def die(storage) -> list[int]:
        one = begin(storage=storage, trials=3)
        let_leases_expire(one)
        with one.queue.at_work():
            one.queue.plan(one.rounds.slots(0, one.rounds.space))
            for _ in range(3):
                one.queue.recover_lost()
            return [slot.number for slot in one.queue.claim(3)]

    return die


def test_slots_whose_workers_died_together_are_tried_alone_and_not_given_up(begin, die):
    storage = open_storage(None)
    assert [die(storage) for _ in range(3)] == [[0, 1, 2], [0], [0]]  # others are not to die with it
    assert begin(storage=storage, trials=3).run().outcome.counts()["complete"] == 3


def test_slot_that_kills_its_workers_is_given_up(begin, die):
    storage = open_storage(None)
    assert [die(storage) for _ in range(1 + ATTEMPTS)] == [[0, 1, 2], *[[0]] * ATTEMPTS]
    result = begin(storage=storage, trials=3).run()
    assert [trial.state for trial in result.trials] == ["failed", "complete", "complete"]
    assert (result.trials[0].attempts, result.trials[0].note) == (ATTEMPTS + 1, "its workers died")
    assert result.best.number in (1, 2)


def test_worker_that_stood_still_overwrites_nothing(begin, let_leases_expire):
    storage = open_storage(None)
    slow, fast = (begin(storage=storage, trials=1) for _ in range(2))
    with slow.queue.at_work():
        slow.queue.plan(slow.rounds.slots(0, slow.rounds.space))
        (slot,) = slow.queue.claim(1)
        let_leases_expire(fast)
        result = fast.run()
        assert slow.queue.held([slot]) == []
        assert not slow.queue.finish(slot, 0.9, {"score": 0.9})
    assert [t.state.name for t in fast.queue.trials()] == ["FAIL", "COMPLETE"]
    assert fast.queue.trials()[1].values == [result.best.score]


def test_two_attempts_at_one_slot_make_one_result(begin):
    storage = open_storage(None)
    one, two = (begin(storage=storage, trials=1) for _ in range(2))
    none_yet = one.queue.trials()
    for worker in (one, two):
        worker.queue.know(one.rounds.slots(0, one.rounds.space))
        worker.queue.fill(none_yet)  # has not seen the other's
    assert len(one.queue.trials()) == 2
    assert two.run().outcome.counts()["complete"] == 1
    assert sorted(t.state.name for t in one.queue.trials()) == ["COMPLETE", "FAIL"]


@pytest.mark.guarantee("searches", "signals")
@pytest.mark.parametrize("steps", [0, 3, 9, 17, 25])
def test_interrupted_trials_are_given_back_at_once(begin, steps):
    """Wherever it is interrupted: complete trials are right, and the next worker does the rest."""
    storage, settings, taken = open_storage(None), {**FLOAT64, "max_replicas": 2}, []
    expected = begin(settings=settings).run()
    one, two = (begin(storage=storage, settings=settings, final="same") for _ in range(2))
    result = one.run(callbacks=[Calls(on_steps=taken.append, should_stop=lambda: sum(taken) >= steps)])
    assert result.interrupted
    assert result.final is None
    counts = result.outcome.counts()
    assert counts["running"] == 0
    assert counts["complete"] <= 2 * (sum(taken) // 16)  # populations of two, of 16 steps each
    assert all(entry in points(expected.outcome) for entry in points(result.outcome) if entry[2])
    result = two.run()
    assert points(result.outcome) == points(expected.outcome)
    assert result.final is not None


def test_interrupted_training_of_the_winner_is_done_by_the_next_worker(begin):
    how = {"storage": open_storage(None), "final": "same", "final_runs": 1}
    result = begin(**how).run(train=lambda _: None)
    assert result.interrupted
    assert result.outcome.counts()["complete"] == 4
    assert begin(**how).run().final["test"]["accuracy"] > 0.3


def test_error_in_training_gives_the_claims_back(begin, monkeypatch):
    storage = open_storage(None)
    one = begin(storage=storage)

    def fails(*_args, **_options):
        raise MemoryError("none left")

    with monkeypatch.context() as patch:
        patch.setattr(worker_module, "train_population", fails)
        with pytest.raises(MemoryError):
            one.run()
    assert {t.state.name for t in one.queue.trials()} == {"FAIL"}
    assert begin(storage=storage).run().outcome.counts()["complete"] == 4


# -- what is refused ----------------------------------------------------------------------------


def test_another_search_of_the_name_is_refused_with_the_difference(blobs, begin):
    storage = open_storage(None)
    begin(storage=storage)
    begin(storage=storage, settings={"max_replicas": 3, "device": "cpu"}, lease=5.0)  # a worker's own
    for other, words in (
        ({"settings": {"batch_size": 20}}, "batch_size is 50 there, not 20"),
        ({"space": "eta"}, r"it searches lambda=log:1e-05\.\.0\.1, not eta"),
        ({"trials": 5}, "trials is 4 there, not 5"),
    ):
        with pytest.raises(RunError, match=words):
            begin(storage=storage, **other)
    labels = blobs.train.labels[::-1].copy()
    data = dataclasses.replace(blobs, train=dataclasses.replace(blobs.train, labels=labels))
    with pytest.raises(RunError, match="check sum is"):
        begin.func(data, storage=storage)


def test_joining_worker_takes_everything_from_the_storage():
    storage = open_storage(None)
    values = {"data": "patterns:400/100", "hidden": [5], "n_s": 3}
    one = xpnet.search("lambda", settings=values, storage=storage, trials=2, final="none")
    joined = Search.join(storage, "search", {"max_replicas": 1}, xpnet.get_backend("cpu"))
    assert joined.most == 1
    assert points(joined.run().outcome) == points(one.outcome)
    with pytest.raises(RunError, match="no such study"):
        Search.join(storage, "other", {}, xpnet.get_backend("cpu"))
    with pytest.raises(RunError, match="is not what the search is about"):
        Search.join(storage, "search", {"data": "patterns:400/90"}, xpnet.get_backend("cpu"))


@pytest.mark.parametrize(
    ("space", "settings", "how", "words"),
    [
        ("lambda", {"lambda": 0.1}, {}, "cannot be set"),
        ("lambda", {"eta_max": [0.1, 0.2]}, {}, "is a list"),
        ("lambda", {}, {"rounds": 2, "round_cycles": (1,)}, "has 1 number for 2 rounds"),
        ("cycles", {}, {"round_cycles": (1,)}, "length of training"),
        ("lambda", {}, {"draw": "halton"}, "draw = halton"),
        ("lambda", {}, {"draw": "gp"}, "needs the package torch"),
        ("lambda", {}, {"trials": 0}, "at least 1 and at most 100000"),
        ("batch_size=1..99", {}, {}, "batch_size = 1: leaves a batch of one"),
        ("lambda", {}, {"lease": 0.5}, "lease"),
        ("lambda", {}, {"trials": 10**9}, "at least 1 and at most 100000"),
        ("lambda", {}, {"trails": 3}, "is no setting of a search"),
        ("lambda", {}, {"final": "220/30"}, "these are arrays in memory"),
        ("bn_alpha", {"batch_norm": False}, {}, "has no effect without batch_norm"),
        ("warmup", {}, {}, "warmup = 0.05: has no effect on the schedule triangular"),
    ],
)
def test_impossible_search_is_refused_before_anything_is_trained(blobs, space, settings, how, words, monkeypatch):
    base = {name: value for name, value in SMALL.items() if name not in space}
    monkeypatch.setattr("xpnet.tuning.search_config.find_spec", lambda _: None)
    with pytest.raises(ConfigError, match=words):
        xpnet.search(space, blobs, settings={**base, **settings}, **how)


@pytest.mark.slow
def test_transforms_of_trials_are_those_of_a_run_with_their_settings():
    space = {"pca": [5, 9], "pool": [4, 8], "pca_eps": [0.1, 1.0]}
    settings = {"data": "patterns:200/50", "hidden": [4], "epochs": 2, "seed": 1, **FLOAT64}
    result = xpnet.search(space, settings=settings)
    for trial in result.trials:
        data = xpnet.load_data("patterns:200/50", **trial.point)
        network = Network(xpnet.NetworkConfig(inputs=trial.point["pca"], hidden=(4,)), dtype="float64", seed=1)
        alone = train(network, data, xpnet.TrainConfig(epochs=2))
        assert (trial.score, trial.losses[0]) == (
            alone.validation.accuracy,
            pytest.approx(alone.validation.loss, rel=1e-9),
        )
    tested = alone if result.best.point == trial.point else None
    data = xpnet.load_data("patterns:200/50", **result.best.point)
    assert result.network.transform.pool == result.best.point["pool"]
    found = xpnet.evaluate(result.network, data.transform(data.test.x, "float64"), data.test.labels, lam=0.005)
    assert result.final["test"]["accuracy"] == found.accuracy
    assert tested is None or tested.test.accuracy == found.accuracy


def test_budget_gives_every_trial_the_same_arithmetic(trained):
    data = xpnet.load_data("patterns:200/50", pool=2, pca=12)
    settings = {"schedule": "one-cycle", "batch_size": 20, "hidden": [4], "eta_max": 0.1}
    result = xpnet.search(
        {"width": [4, 16], "depth": [1, 2], "lambda": [0, 0.01]}, data, settings=settings, budget=1e-5
    )
    pooled, k, c, samples = len(data.standardiser.mean), 12, data.classes, len(data.train)
    for population in trained:
        hidden = population.network.hidden
        flop = 2 * (pooled * k + 2 * k * hidden[0] + 3 * sum(np.multiply(hidden, [*hidden[1:], c])))
        assert population.train.epochs == pytest.approx(1e7 / flop / samples, rel=1e-5)
        assert len(population) == 2
    assert len({population.train.epochs for population in trained}) == 4
    assert result.outcome.counts()["complete"] == 8


def test_budget_is_compared_after_eighths_of_it(trained):
    settings = {"schedule": "one-cycle", "batch_size": 20, "eta_max": 0.1, "data": "patterns:200/50", "pool": 4}
    space = {"width": [4, 40], "lambda": [0.0, 1.0, 3.0]}
    result = xpnet.search(space, settings=settings, budget=2e-5, prune="halving")
    pruned = [trial for trial in result.trials if trial.state == "pruned"]
    assert pruned
    assert {trial.cycle for trial in pruned} <= {1, 2, 4}
    lengths = {p.network.hidden[0]: p.train.length(180) for p in trained}
    for trial in pruned:
        length = lengths[trial.point["width"]]
        assert trial.epochs == length.steps * trial.cycle // 8 // length.steps_per_epoch


_COSINE = {"schedule": "cosine"}


def test_settings_may_need_what_is_searched(trained):
    settings = {"data": "patterns:100/50", "hidden": [3], "epochs": 1, "pca_eps": 0.5, "nesterov": True}
    settings |= {"flip": "random", "border": "constant", "pool": 4}
    result = xpnet.search({"pca": [5], "momentum": [0.5, 0.9], "shift": [1, 2]}, settings=settings, final="none")
    assert result.outcome.counts()["complete"] == 4
    assert {(p.train.nesterov, p.train.border, p.train.momentum) for p in trained} == {(True, "constant", (0.5, 0.9))}
    assert result.settings["pca_eps"] == 0.5
    with pytest.raises(ConfigError, match="border = constant: has no effect without shift"):
        xpnet.search("lambda", settings=settings | {"nesterov": False})


@pytest.mark.parametrize(
    ("space", "settings", "how", "message"),
    [
        ({"pca": [5, 5000]}, {}, {}, "pca = 5000: is more than the 3072 features that there are; take fewer"),
        ({"pool": [1, 3]}, {}, {}, "pool = 3: does not divide pictures of 32 x 32; take a divisor of both"),
        ("pca_eps", {}, {}, "search pca_eps=log:0.01..10: pca_eps = 0.01: has no effect without pca"),
        ("lambda", _COSINE | {"epochs": 2}, {"budget": 1}, "epochs: the budget decides how long trials train; leave"),
        ("epochs", _COSINE, {"budget": 1}, "epochs: the budget decides how long trials train"),
        ("lambda", {}, {"budget": 1}, "budget: cuts the cycles of the schedule triangular; take one that lasts as"),
        ("lambda", {"schedule": "cosine-restarts"}, {"budget": 1}, "budget: cuts the cycles of the schedule cosine-"),
        ("lambda", _COSINE, {"budget": 1, "round_cycles": (1,)}, "round_cycles: the budget decides how long trials"),
        ("lambda", _COSINE, {"budget": 1e-9}, "budget = 1e-09: is less than a step of 3072-50-50-10 with BN with"),
        ("lambda", _COSINE, {"budget": 0}, "budget = 0"),
    ],
)  # fmt: skip
def test_budgets_and_transforms_that_cannot_be_trained_are_refused(space, settings, how, message):
    with pytest.raises((ConfigError, DataError)) as caught:
        xpnet.search(space, settings={"data": "patterns:200/50"} | settings, **how)
    assert message in str(caught.value)
