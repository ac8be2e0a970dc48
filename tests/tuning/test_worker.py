"""Searches from end to end, in memory: what is trained, dropped, chosen, and shared among workers."""

from __future__ import annotations

import dataclasses
import itertools
import threading

import numpy as np
import pytest
from search_cases import SMALL, Died, Mortal, points, session
from strict import strict_backend

import xpnet
from xpnet.config.settings import Settings
from xpnet.errors import ConfigError, RunError
from xpnet.nn.network import Network
from xpnet.training.train import train
from xpnet.tuning import Search, open_storage
from xpnet.tuning import winner as winner_module
from xpnet.tuning import worker as worker_module
from xpnet.tuning.trial_queue import ATTEMPTS, Slot, TrialQueue, attempts_by_slot


@pytest.fixture(autouse=True)
def _no_waiting(monkeypatch):
    monkeypatch.setattr(worker_module, "_SECONDS_TO_WAIT", 0.01)
    monkeypatch.setattr(winner_module, "_SECONDS_TO_WAIT", 0.01)


def test_a_trial_is_what_a_run_of_its_settings_is(blobs):
    result = session(blobs, ["lambda", "eta=0.01..0.2"], settings={"runs": 2, "seed": 3, "dtype": "float64"}).run()
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


def test_what_does_not_stack_trains_in_populations_of_its_own(blobs, monkeypatch):
    trained = []
    real = worker_module.train_population

    def counted(population, *args, **options):
        trained.append((population.network.hidden, population.train.batch_size, len(population)))
        return real(population, *args, **options)

    monkeypatch.setattr(worker_module, "train_population", counted)
    space = {"width": [3, 5], "depth": [1, 2], "batch_size": [40, 50], "lambda": [0, 0.01, 0.1]}
    result = session(blobs, space, draw="grid", trials=24).run()
    assert sorted(trained) == sorted(
        ((width,) * depth, batch, 3) for width, depth, batch in itertools.product((3, 5), (1, 2), (40, 50))
    )
    assert result.outcome.counts()["complete"] == 24
    assert {tuple(trial.point.values()) for trial in result.trials} == set(itertools.product(*space.values()))


def test_lists_alone_are_tried_all(blobs):
    result = xpnet.search({"lambda": [0, 0.01, 0.1], "sigma": [0.1, 0.01]}, blobs, settings=SMALL, final="none")
    assert len(result.trials) == 6
    assert len({tuple(trial.point.values()) for trial in result.trials}) == 6


@pytest.mark.parametrize("rule", ["median", "halving"])
def test_pruned_trials_stop_at_the_end_of_a_cycle_and_save_time(blobs, rule, monkeypatch):
    from xpnet.training.steppers.replica_parallel import ReplicaParallelStepper

    steps = []
    real = ReplicaParallelStepper.run

    def counted(self, state, perm, eta, totals):
        steps.append(int(np.prod(eta.shape)))
        real(self, state, perm, eta, totals)

    monkeypatch.setattr(ReplicaParallelStepper, "run", counted)
    space, settings = {"lambda": (1e-5, 1.0)}, {"cycles": 4, "dtype": "float64"}
    everything = session(blobs, space, settings=settings, trials=8, draw="log-grid").run()
    assert sum(steps) == 8 * 4 * 8
    steps.clear()
    result = session(blobs, space, settings=settings, trials=8, draw="log-grid", prune=rule).run()
    pruned = [trial for trial in result.trials if trial.state == "pruned"]
    assert len(pruned) >= 4
    taken = sum(8 * (trial.cycle or 4) for trial in result.trials)
    assert sum(steps) == taken < 8 * 4 * 8
    if rule == "halving":
        assert {trial.cycle for trial in pruned} <= {1, 2}
        assert len(pruned) == 6 or len({trial.score for trial in result.trials}) < 8  # ties are kept
    # What went on is as if nothing had been dropped, and what was dropped stands as it stood then.
    for trial, whole in zip(result.trials, everything.trials, strict=True):
        if trial.state == "complete":
            assert trial.accuracies == whole.accuracies
        else:
            short = session(blobs, space, settings={**settings, "cycles": trial.cycle}, trials=8, draw="log-grid").run()
            assert trial.accuracies == short.trials[trial.number].accuracies
            assert trial.epochs == short.trials[trial.number].epochs > 0
            assert trial.losses == pytest.approx(short.trials[trial.number].losses, rel=1e-9)


@pytest.mark.parametrize("refine", ["k-best", "two-best"])
def test_rounds_narrow_and_the_longest_decide(blobs, refine):
    one = session(blobs, rounds=3, refine=refine, best=2, round_cycles=(1, 1, 3), trials=5)
    result = one.run()
    for number in range(3):
        (dimension,) = one.rounds.space_of(number, result.trials).dimensions
        drawn = [trial.point["lambda"] for trial in result.trials if trial.round == number]
        assert len(drawn) == 5
        assert all(dimension.low <= value <= dimension.high for value in drawn)
    assert result.best.round == 2
    assert {trial.epochs for trial in result.trials if trial.round < 2} == {1}
    assert {trial.epochs for trial in result.trials if trial.round == 2} == {3}
    assert result.settings["cycles"] == 3


def test_a_search_is_a_function_of_its_seed(blobs):
    runs = [session(blobs, settings={"seed": seed, "dtype": "float64"}).run() for seed in (1, 1, 2)]
    assert points(runs[0].outcome) == points(runs[1].outcome)
    assert points(runs[0].outcome) != points(runs[2].outcome)


@pytest.mark.parametrize("draw", ["tpe", "cmaes", "gp"])
def test_samplers_of_optuna(blobs, draw):
    if draw in ("cmaes", "gp"):
        pytest.importorskip({"cmaes": "cmaes", "gp": "torch"}[draw])
    space = ["lambda", "width=3..8", "sigma=0.1,0.2"]
    one = session(blobs, space, draw=draw, trials=12, settings={"dtype": "float64"}).run()
    assert one.outcome.counts()["complete"] == 12
    for trial in one.trials:
        assert 1e-5 <= trial.point["lambda"] <= 1e-1
        assert 3 <= trial.point["width"] <= 8
        assert trial.point["sigma"] in (0.1, 0.2)
    assert len({trial.point["lambda"] for trial in one.trials}) == 12
    if draw == "tpe":
        again = session(blobs, space, draw=draw, trials=12, settings={"dtype": "float64"}).run()
        assert points(one.outcome) == points(again.outcome)


def test_tpe_learns():
    # A search whose best lies at one end: later points are nearer to it than the first, random ones.
    rng = np.random.default_rng(0)
    labels = np.arange(400) % 4
    data = xpnet.data_from_arrays(
        (rng.standard_normal((400, 8)) + 2 * rng.standard_normal((4, 8))[labels]).astype(np.float32),
        labels,
        split="300/60",
    )
    result = session(data, {"eta": (1e-5, 0.5)}, draw="tpe", trials=40, settings={"cycles": 1}).run()
    etas = [trial.point["eta"] for trial in result.trials]
    assert np.median(np.log10(etas[20:])) > np.median(np.log10(etas[:8])) + 0.3


def test_a_diverged_trial_is_the_worst_and_no_trouble(blobs):
    settings = {"batch_norm": False, "runs": 2}
    result = session(blobs, {"eta": [0.1, 1e30]}, settings=settings, draw="grid", trials=2).run()
    good, bad = result.trials
    assert (good.state, bad.state) == ("complete", "complete")
    assert bad.accuracies == (None, None)
    assert bad.score == 0.0
    assert result.best is good
    alone = session(blobs, {"eta": [1e30]}, settings=settings, draw="grid", final="same").run()
    assert [trial.score for trial in alone.trials] == [0.0]
    assert alone.best is None
    assert alone.final is None


def test_the_test_set_is_seen_once_by_the_winner(blobs, monkeypatch):
    from xpnet.training import evaluation, trainer

    sets = []
    real = trainer.Evaluation

    class Watched(real):
        def __init__(self, network, x, labels):
            super().__init__(network, x, labels)
            self.rows = int(x.shape[0])

        def __call__(self, lam=0.0):
            sets.append(self.rows)
            return super().__call__(lam)

    monkeypatch.setattr(trainer, "Evaluation", Watched)
    monkeypatch.setattr(evaluation, "Evaluation", Watched)
    test = len(blobs.test)
    assert test not in (len(blobs.train), len(blobs.validation))
    result = session(blobs, final="same", rounds=2, settings={"runs": 2}).run()
    assert sets.count(test) == 1
    assert result.final["test"]["accuracy"]["values"] is not None
    # It is the network that was chosen.
    assert result.final["validation"]["accuracy"]["values"] == list(result.best.accuracies)
    assert result.final["trained_again"] is False


def test_the_winner_trains_on_more_data_with_more_seeds():
    result = xpnet.search(
        "lambda",
        settings={"data": "patterns:1000/300", "hidden": [5], "n_s": 3, "split": "500/100"},
        trials=2,
        final="900/50",
        final_runs=3,
    )
    assert result.settings["split"] == "900/50"
    assert result.settings["runs"] == 3
    assert len(result.final["test"]["accuracy"]["values"]) == 3
    assert result.settings["lambda"] == result.best.point["lambda"]


def test_on_a_device_that_counts_synchronisations(blobs):
    storage = open_storage(None)
    one = session(blobs, storage=storage, prune="median", settings={"cycles": 3, "dtype": "float64"})
    device = dataclasses.replace(one, backend=strict_backend())
    other = session(blobs, prune="median", settings={"cycles": 3, "dtype": "float64"}).run()
    assert points(device.run().outcome) == points(other.outcome)


# -- several workers ----------------------------------------------------------------------------


def test_workers_share_a_search_and_do_nothing_twice(blobs):
    storage = open_storage(None)
    expected = session(blobs, trials=9, settings={"dtype": "float64"}).run()
    settings = {"dtype": "float64", "max_replicas": 2}
    workers = [session(blobs, storage=storage, trials=9, settings=settings, final="same") for _ in range(3)]
    results = []
    threads = [threading.Thread(target=lambda w=w: results.append(w.run())) for w in workers]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(results) == 3
    for result in results:
        assert points(result.outcome) == points(expected.outcome)
        assert result.final == results[0].final
    complete = [t for t in workers[0].queue.trials() if t.state.name == "COMPLETE"]
    assert len(complete) == 9
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
def test_a_worker_may_die_at_any_write(blobs, after, draw, harm):
    """Die at every write in turn: the next worker finishes, nothing is done twice, nothing is lost."""
    how = {"trials": 3, "draw": draw, "prune": "median", "rounds": 2, "final": "same"}
    settings = {"dtype": "float64", "max_replicas": 2, "cycles": 3}
    expected = points(session(blobs, settings=settings, **how).run().outcome)
    died = 0
    for at in itertools.count(1):
        storage = open_storage(None)
        mortal = Mortal(storage, at, after=after)
        try:
            session(blobs, storage=mortal, settings=settings, **how).run()
        except Died:
            died += 1
        else:
            break
        second = session(blobs, storage=storage, settings=settings, **how)
        _let_leases_expire(second)
        before = {t.number: t.user_attrs.get("result") for t in second.queue.trials() if t.state.name == "COMPLETE"}
        result = second.run()
        trials = second.queue.trials()
        assert not [t for t in trials if t.state.name in ("RUNNING", "WAITING")], at
        for own in attempts_by_slot(trials).values():
            assert sum(t.state.name in ("COMPLETE", "PRUNED") for t in own) == 1, at
        for number, kept in before.items():
            assert trials[number].user_attrs.get("result") == kept
        assert result.final is not None
        if draw == "random":  # a sampler that learns sees other trials as unfinished
            assert points(result.outcome) == expected, at
    harm.did("writes at which a worker died", died)
    assert died > 25


def _let_leases_expire(worker: Search) -> None:
    """Let the clock by which leases expire run fast, for the queue and for the winner's."""
    clock = itertools.count(0, 1000)
    worker.queue.watch.clock = lambda: next(clock)
    real = TrialQueue.__init__

    def init(self, *args, **options):
        real(self, *args, **options)
        self.watch.clock = lambda: next(clock)

    pytest.MonkeyPatch().setattr(TrialQueue, "__init__", init)


@pytest.fixture(autouse=True)
def _own_queue(monkeypatch):
    monkeypatch.setattr(TrialQueue, "__init__", TrialQueue.__init__)  # puts back what _let_leases_expire changes


def _die(blobs, storage, most: int) -> list[int]:
    """Begin as a worker, take trials, and die; return the numbers of the slots that were taken."""
    one = session(blobs, storage=storage, trials=3)
    _let_leases_expire(one)
    with one.queue.at_work():
        one.queue.plan(one.rounds.slots(0, one.rounds.space))
        for _ in range(3):
            one.queue.recover_lost()
        return [slot.number for slot in one.queue.claim(most)]


def test_trials_whose_workers_were_killed_together_are_tried_alone_and_none_is_given_up(blobs):
    storage = open_storage(None)
    assert _die(blobs, storage, 3) == [0, 1, 2]
    assert _die(blobs, storage, 3) == [0]  # others are not to die with it
    assert _die(blobs, storage, 3) == [0]
    last = session(blobs, storage=storage, trials=3)
    _let_leases_expire(last)
    assert last.run().outcome.counts()["complete"] == 3


def test_a_slot_that_kills_its_workers_is_given_up(blobs):
    storage = open_storage(None)
    assert _die(blobs, storage, 3) == [0, 1, 2]
    for _ in range(ATTEMPTS):
        assert _die(blobs, storage, 3) == [0]
    last = session(blobs, storage=storage, trials=3)
    _let_leases_expire(last)
    result = last.run()
    assert [trial.state for trial in result.trials] == ["failed", "complete", "complete"]
    assert result.trials[0].attempts == ATTEMPTS + 1
    assert result.trials[0].note == "its workers died"
    assert result.best.number in (1, 2)


def test_a_point_that_cannot_be_trained_fails_alone(blobs):
    # A batch of 399 or 133 of 400 samples leaves one over, which has no variance.
    found = session(blobs, {"batch_size": (130, 134)}, settings={"batch_size": 50}, draw="grid", trials=5).run()
    assert [trial.state for trial in found.trials] == ["complete"] * 3 + ["failed", "complete"]
    assert "leaves a batch of one" in found.trials[3].note
    assert "leaves a batch of one" in found.outcome.to_csv()
    again = session(blobs, ["eta=0.1,0.001", "eta_min=1e-4,0.05"], draw="grid").run()
    assert sorted(trial.state for trial in again.trials) == ["complete"] * 3 + ["failed"]


@pytest.mark.parametrize("most", [2, 3, 6, 100])
def test_pruning_sees_whole_trials_whatever_fits_together(blobs, most):
    settings = {"runs": 3, "cycles": 3, "dtype": "float64"}
    space, how = {"lambda": (1e-5, 10.0)}, {"trials": 6, "draw": "log-grid"}
    whole = session(blobs, space, settings=settings, **how).run()
    found = session(blobs, space, settings={**settings, "max_replicas": most}, prune="median", **how).run()
    for trial, full in zip(found.trials, whole.trials, strict=True):
        assert None not in trial.accuracies
        if trial.state == "complete":
            assert trial.accuracies == full.accuracies
        else:
            short = session(blobs, space, settings={**settings, "cycles": trial.cycle}, **how).run()
            assert trial.accuracies == short.trials[trial.number].accuracies
    assert (found.outcome.counts()["pruned"] == 0) == (most == 2)  # seeds that train apart are not compared


def test_memory_that_holds_few_networks_cuts_between_trials(blobs, monkeypatch):
    trained = []
    real = worker_module.train_population

    def counted(population, *args, **options):
        trained.append(population.seeds)
        return real(population, *args, **options)

    monkeypatch.setattr(worker_module, "train_population", counted)
    monkeypatch.setattr(worker_module, "most_in_memory", lambda *_: 5)
    session(blobs, settings={"runs": 2}, trials=5).run()
    assert trained == [(0, 0, 1, 1), (0, 0, 1, 1), (0, 1)]


def test_a_worker_that_stood_still_does_not_overwrite(blobs):
    storage = open_storage(None)
    slow, fast = (session(blobs, storage=storage, trials=1) for _ in range(2))
    with slow.queue.at_work():
        slow.queue.plan(slow.rounds.slots(0, slow.rounds.space))
        (claim,) = slow.queue.claim(1)
        _let_leases_expire(fast)
        result = fast.run()
        assert slow.queue.held([claim]) == []
        assert not slow.queue.finish(claim, 0.9, {"score": 0.9})
    assert [t.state.name for t in fast.queue.trials()] == ["FAIL", "COMPLETE"]
    assert fast.queue.trials()[1].values == [result.best.score]


def test_two_attempts_at_one_slot_make_one_result(blobs):
    one, two = (session(blobs, storage=storage, trials=1) for storage in [open_storage(None)] for _ in range(2))
    slots = one.rounds.slots(0, one.rounds.space)
    one.queue.know(slots)
    two.queue.know(slots)
    none_yet = one.queue.trials()
    one.queue.fill(none_yet)
    two.queue.fill(none_yet)  # has not seen the other's
    assert len(one.queue.trials()) == 2
    assert two.run().outcome.counts()["complete"] == 1
    assert sorted(t.state.name for t in one.queue.trials()) == ["COMPLETE", "FAIL"]


@pytest.mark.guarantee("searches", "signals")
@pytest.mark.parametrize("steps", [0, 3, 9, 17, 25])
def test_interrupted_trials_are_given_back_at_once(blobs, steps):
    """Wherever it is interrupted: what is complete is whole, and the next worker does the rest."""
    settings, taken = {"dtype": "float64", "max_replicas": 2}, []
    expected = session(blobs, settings=settings).run()
    storage = open_storage(None)
    result = session(blobs, storage=storage, settings=settings, final="same").run(
        on_steps=taken.append, should_stop=lambda: sum(taken) >= steps
    )
    assert result.interrupted
    assert result.final is None
    counts = result.outcome.counts()
    assert counts["running"] == 0
    assert counts["complete"] <= 2 * (sum(taken) // 16)  # populations of two, of 16 steps each
    done = [entry for entry in points(result.outcome) if entry[2]]
    assert all(entry in points(expected.outcome) for entry in done)
    result = session(blobs, storage=storage, settings=settings, final="same").run()
    assert points(result.outcome) == points(expected.outcome)
    assert result.final is not None


def test_an_interrupted_winner_is_trained_by_the_next(blobs):
    storage = open_storage(None)
    result = session(blobs, storage=storage, final="same", final_runs=1).run(train=lambda _: None)
    assert result.interrupted
    assert result.outcome.counts()["complete"] == 4
    assert session(blobs, storage=storage, final="same", final_runs=1).run().final["test"]["accuracy"] > 0.3


def test_a_trial_that_cannot_be_trained_gives_its_claims_back(blobs, monkeypatch):
    storage = open_storage(None)
    one = session(blobs, storage=storage)

    def fails(*_args, **_options):
        raise MemoryError("none left")

    with monkeypatch.context() as patch:
        patch.setattr(worker_module, "train_population", fails)
        with pytest.raises(MemoryError):
            one.run()
    assert {t.state.name for t in one.queue.trials()} == {"FAIL"}
    assert session(blobs, storage=storage).run().outcome.counts()["complete"] == 4


# -- what is refused ----------------------------------------------------------------------------


def test_another_search_of_the_name_is_refused_with_what_differs(blobs):
    storage = open_storage(None)
    session(blobs, storage=storage)
    session(blobs, storage=storage, settings={"max_replicas": 3, "device": "cpu"}, lease=5.0)  # a worker's own
    with pytest.raises(RunError, match="batch_size is 50 there, not 20"):
        session(blobs, storage=storage, settings={"batch_size": 20})
    with pytest.raises(RunError, match=r"it searches lambda=log:1e-05\.\.0\.1, not eta"):
        session(blobs, "eta", storage=storage)
    with pytest.raises(RunError, match="trials is 4 there, not 5"):
        session(blobs, storage=storage, trials=5)
    other = dataclasses.replace(blobs, train=dataclasses.replace(blobs.train, labels=blobs.train.labels[::-1].copy()))
    with pytest.raises(RunError, match="check sum is"):
        session(other, storage=storage)


def test_joining_takes_everything_from_the_storage():
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
        ("batch_size=300..399", {}, {}, "batch_size = 399: leaves a batch of one"),
        ("lambda", {}, {"lease": 0.5}, "lease"),
        ("lambda", {}, {"trials": 10**9}, "at least 1 and at most 100000"),
        ("lambda", {}, {"trails": 3}, "is no setting of a search"),
        ("lambda", {}, {"final": "220/30"}, "these are arrays in memory"),
        ("bn_alpha", {"batch_norm": False}, {}, "has no effect without batch_norm"),
    ],
)
def test_what_cannot_be_searched_is_said_before_anything_is_trained(blobs, space, settings, how, words, monkeypatch):
    base = {name: value for name, value in SMALL.items() if name not in space}
    monkeypatch.setattr("xpnet.tuning.config.find_spec", lambda _: None)
    with pytest.raises(ConfigError, match=words):
        xpnet.search(space, blobs, settings={**base, **settings}, **how)


def test_slots_know_their_distributions(blobs):
    (slot, *_) = session(blobs, ["lambda", "width=2..4", "sigma=0.1,0.2"]).rounds.slots(0, session(blobs).rounds.space)
    assert isinstance(slot, Slot)
    assert list(slot.distributions) == ["lambda"]
