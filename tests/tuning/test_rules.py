"""Small rules of searches, by hand: whom to drop and when, who wins, what a round draws, who keeps a claim."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from search_cases import session

from xpnet.config.definitions import Length, TrainConfig
from xpnet.tuning import Outcome, Trial, open_storage
from xpnet.tuning.trial_batch import cycle_ends, to_prune
from xpnet.tuning.trial_queue import TWICE


def trial(number: int, score: float | None, *, round: int = 0, state: str = "complete", loss: float = 1.0) -> Trial:
    scored = () if score is None else (score,)
    return Trial(number, round, state, {"lambda": 0.1}, score, scored, (loss,) if scored else ())


def test_trials_are_compared_at_the_ends_of_cycles():
    config = TrainConfig(n_s=30, cycles=4)
    assert cycle_ends(config, config.length(1000)) == {60: 1, 120: 2, 180: 3}
    assert cycle_ends(TrainConfig(n_s=30, cycles=1), Length(60, 10, 30)) == {}
    # Training that ends within a cycle is not compared at its end.
    assert cycle_ends(TrainConfig(n_s=30, epochs=10), Length(100, 10, 30)) == {60: 1}
    decay = TrainConfig(schedule="decay", epochs=4)
    assert cycle_ends(decay, decay.length(1000)) == {10: 1, 20: 2, 30: 3}


def test_what_is_below_the_median_is_dropped():
    values = {1: 0.1, 2: 0.2, 3: 0.3, 4: 0.4, 5: 0.5}
    assert to_prune("median", 1, values, [1, 2, 3, 4, 5]) == [1, 2]
    assert to_prune("median", 3, values, [2, 5]) == [2]
    assert to_prune("median", 1, {1: 0.1, 2: 0.2, 3: 0.3}, [1, 2, 3]) == []  # of so few it says little
    assert to_prune("median", 1, dict.fromkeys(range(6), 0.3), list(range(6))) == []
    assert to_prune("none", 1, values, [1, 2]) == []


@pytest.mark.parametrize(("look", "dropped"), [(1, [1, 2]), (2, [1, 2]), (3, []), (4, [1, 2]), (5, []), (6, [])])
def test_halving_keeps_the_better_half_at_powers_of_two(look, dropped):
    values = {1: 0.1, 2: 0.2, 3: 0.3, 4: 0.4, 5: 0.5}
    assert to_prune("halving", look, values, [1, 2, 3, 4, 5]) == dropped


def test_the_winner_is_the_best_of_the_longest_round():
    short, long, worse = trial(0, 0.9, round=0), trial(1, 0.6, round=1), trial(2, 0.5, round=1)
    pruned = trial(3, 0.95, round=1, state="pruned")
    found = Outcome(("lambda",), (0,), (short, long, worse, pruned), (1, 4))
    assert [t.number for t in found.ranked()] == [1, 2, 0]
    assert found.best is long
    assert Outcome(("lambda",), (0,), (short, long), (None, None)).best is short
    # Of equal ones, the lower loss, then the earlier.
    same = [trial(0, 0.5, loss=1.2), trial(1, 0.5, loss=1.1), trial(2, 0.5, loss=1.1)]
    assert [t.number for t in Outcome(("lambda",), (0,), tuple(same), (None,)).ranked()] == [1, 2, 0]
    diverged = Trial(4, 0, "complete", {"lambda": 1.0}, 0.0, (None, None), (None, None))
    nobody = Outcome(("lambda",), (0,), (trial(0, None, state="failed"), pruned, diverged), (None,))
    assert nobody.best is None


def test_every_round_draws_anew(blobs):
    rounds = session(blobs, rounds=2).rounds
    first, second = ([slot.point for slot in rounds.slots(number, rounds.space)] for number in (0, 1))
    assert first != second
    assert first == [slot.point for slot in session(blobs, rounds=2).rounds.slots(0, rounds.space)]


def test_of_two_attempts_that_are_taken_the_first_counts(blobs):
    storage = open_storage(None)
    one, two = (session(blobs, storage=storage, trials=1).queue for _ in range(2))
    slots = session(blobs, trials=1).rounds.slots(0, session(blobs).rounds.space)
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


def test_a_finer_round_goes_around_the_winner_and_leaves_the_pruned_out(blobs):
    rounds = session(blobs, rounds=2).rounds
    point = [1e-4, 1e-3, 1e-2, 1e-1]
    trials = tuple(
        Trial(n, 0, "pruned" if n == 3 else "complete", {"lambda": point[n]}, score, (score,), (loss,))
        for n, (score, loss) in enumerate([(0.5, 1.0), (0.5, 0.9), (0.4, 1.0), (0.9, 1.0)])
    )
    # Equal scores: the lower loss is the best, as in the table.  Best 1e-3, second 1e-4.
    (dimension,) = rounds.space_of(1, trials).dimensions
    assert np.log10([dimension.low, dimension.high]) == pytest.approx([-4, -2])
