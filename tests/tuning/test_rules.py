"""Rules of searches by hand: which trials are pruned, which wins, what a round draws, which attempt counts."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from xpnet.config.length import Length
from xpnet.config.training import TrainConfig
from xpnet.tuning import Outcome, Trial, open_storage
from xpnet.tuning.trial_batch import cycle_ends, to_prune
from xpnet.tuning.trial_queue import TWICE

FIVE = {1: 0.1, 2: 0.2, 3: 0.3, 4: 0.4, 5: 0.5}


def trial(number: int, score: float | None, *, round: int = 0, state: str = "complete", loss: float = 1.0) -> Trial:
    scored = () if score is None else (score,)
    return Trial(number, round, state, {"lambda": 0.1}, score, scored, (loss,) if scored else ())


def outcome(*trials: Trial, lengths: tuple[int | None, ...] = (None,)) -> Outcome:
    return Outcome(("lambda",), (0,), trials, lengths)


@pytest.mark.parametrize(
    ("config", "length", "ends"),
    [
        (TrainConfig(n_s=30, cycles=4), None, {60: 1, 120: 2, 180: 3}),
        (TrainConfig(n_s=30, cycles=1), Length(60, 10, 30), {}),
        (TrainConfig(n_s=30, epochs=10), Length(100, 10, 30), {60: 1}),  # not where training ends within a cycle
        (TrainConfig(schedule="decay", epochs=4), None, {10: 1, 20: 2, 30: 3}),
    ],
)
def test_trials_are_compared_at_the_ends_of_cycles(config, length, ends):
    assert cycle_ends(config, length or config.length(1000)) == ends


@pytest.mark.parametrize(
    ("rule", "cycle", "accuracies", "own", "pruned"),
    [
        ("median", 1, FIVE, [1, 2, 3, 4, 5], [1, 2]),
        ("median", 3, FIVE, [2, 5], [2]),
        ("median", 1, {1: 0.1, 2: 0.2, 3: 0.3}, [1, 2, 3], []),  # of so few it says little
        ("median", 1, dict.fromkeys(range(6), 0.3), list(range(6)), []),
        ("none", 1, FIVE, [1, 2], []),
        *(("halving", cycle, FIVE, [1, 2, 3, 4, 5], [1, 2]) for cycle in (1, 2, 4)),
        *(("halving", cycle, FIVE, [1, 2, 3, 4, 5], []) for cycle in (3, 5, 6)),
        ("halving", 1, {1: 0.1}, [1], []),
    ],
)
def test_pruning_follows_its_rule(rule, cycle, accuracies, own, pruned):
    assert to_prune(rule, cycle, accuracies, own) == pruned


def test_winner_is_the_best_of_the_longest_round():
    short, long, worse = trial(0, 0.9, round=0), trial(1, 0.6, round=1), trial(2, 0.5, round=1)
    pruned = trial(3, 0.95, round=1, state="pruned")
    found = outcome(short, long, worse, pruned, lengths=(1, 4))
    assert [t.number for t in found.ranked()] == [1, 2, 0]
    assert found.best is long
    assert outcome(short, long, lengths=(None, None)).best is short
    # Of equal ones, the lower loss, then the earlier.
    same = outcome(trial(0, 0.5, loss=1.2), trial(1, 0.5, loss=1.1), trial(2, 0.5, loss=1.1))
    assert [t.number for t in same.ranked()] == [1, 2, 0]
    diverged = Trial(4, 0, "complete", {"lambda": 1.0}, 0.0, (None, None), (None, None))
    assert outcome(trial(0, None, state="failed"), pruned, diverged).best is None


def test_every_round_draws_anew(begin):
    rounds = begin(rounds=2).rounds
    first, second = ([slot.point for slot in rounds.slots(number, rounds.space)] for number in (0, 1))
    assert first != second
    assert first == [slot.point for slot in begin(rounds=2).rounds.slots(0, rounds.space)]
    (mixed, *_) = begin(["lambda", "width=2..4", "sigma=0.1,0.2"]).rounds.slots(0, rounds.space)
    assert list(mixed.distributions) == ["lambda"]


def test_of_two_attempts_that_are_taken_the_first_counts(begin):
    storage = open_storage(None)
    one, two = (begin(storage=storage, trials=1) for _ in range(2))
    slots = one.rounds.slots(0, one.rounds.space)
    one, two = one.queue, two.queue
    with one.at_work(), two.at_work():
        one.plan(slots)
        (first,) = one.claim(1)
        two.know(slots)
        two.add(slots[0], slots[0].point)
        second = replace(slots[0], attempt=two.trials()[1]._trial_id)
        storage.set_trial_state_values(second.attempt, state=storage.get_trial(first.attempt).state)  # running
        assert two.keep_first([second]) == []
        assert one.keep_first([first]) == [first]
    assert [t.state.name for t in one.trials()] == ["RUNNING", "FAIL"]
    assert one.trials()[1].user_attrs["why"] == TWICE


def test_finer_round_goes_around_the_winner_without_the_pruned(begin):
    point = [1e-4, 1e-3, 1e-2, 1e-1]
    trials = tuple(
        Trial(n, 0, "pruned" if n == 3 else "complete", {"lambda": point[n]}, score, (score,), (loss,))
        for n, (score, loss) in enumerate([(0.5, 1.0), (0.5, 0.9), (0.4, 1.0), (0.9, 1.0)])
    )
    # Equal scores: the lower loss is the best, as in the table.  Best 1e-3, second 1e-4.
    (dimension,) = begin(rounds=2).rounds.space_of(1, trials).dimensions
    assert np.log10([dimension.low, dimension.high]) == pytest.approx([-4, -2])
