"""Callbacks: when their methods are called, with what, and what their answers and exceptions do."""

from __future__ import annotations

import numpy as np
import pytest
from calls import Calls
from training_cases import network, population

import xpnet
from xpnet.errors import ConfigError
from xpnet.runs.checkpoints import last_complete, write_checkpoint
from xpnet.training.callback import PruningPoint, SavePoint, TrainPlan
from xpnet.training.evaluator import Evaluator

CONFIG = xpnet.TrainConfig(n_s=4, cycles=2, batch_size=50)  # 16 steps, 8 an epoch
METHODS = ("on_train_begin", "on_steps", "should_stop", "on_epoch_end", "on_checkpoint", "on_prune", "on_train_end")


class Log(xpnet.Callback):
    """Notes every call."""

    def __init__(self, calls, name="", prune_at=()):
        self.calls, self.name, self.prune_at = calls, name, prune_at

    def __getattribute__(self, attribute):
        method = super().__getattribute__(attribute)
        if attribute not in METHODS:
            return method

        def noted(*arguments):
            self.calls.append((self.name, attribute, *arguments))
            return method(*arguments)

        return noted


def test_callback_methods_are_called_in_order_with_their_arguments(blobs):
    calls = []
    net = network()
    result = xpnet.train(net, blobs, CONFIG, callbacks=[Log(calls, prune_at=[3, 16])])
    names = [name for _, name, *_ in calls if name not in ("on_steps", "should_stop")]
    ends = ["on_epoch_end", "on_checkpoint"]
    assert names == ["on_train_begin", "on_prune", *ends, *ends, "on_train_end"]
    given = {name: [arguments for _, called, *arguments in calls if called == name] for name in METHODS}
    (plan,) = given["on_train_begin"][0]
    assert isinstance(plan, TrainPlan)
    assert (plan.length.steps, plan.length.steps_per_epoch, plan.chunks, plan.records) == (16, 8, ((0, 1),), ())
    assert sum(steps for (steps,) in given["on_steps"]) == 16
    assert [record for (record,) in given["on_epoch_end"]] == result.history.epochs
    ((point,),) = given["on_prune"]
    assert isinstance(point, PruningPoint)
    assert (point.step, point.replicas, point.chunk) == (3, (0,), (0, 1))
    points = [point for (point,) in given["on_checkpoint"]]
    assert all(isinstance(point, SavePoint) and point.network is net for point in points)
    assert [(point.epochs, point.step, point.ends) for point in points] == [(1, 8, False), (2, 16, True)]
    np.testing.assert_array_equal(points[-1].state().parameters["W1"], net.parameters["W1"])
    assert given["on_train_end"] == [[result]]


def test_pruning_point_at_the_end_of_an_epoch_shares_its_validation(blobs, monkeypatch):
    passes = []
    evaluate = Evaluator.__call__
    monkeypatch.setattr(Evaluator, "__call__", lambda self, which: passes.append(which) or evaluate(self, which))
    xpnet.train(network(), blobs, CONFIG, callbacks=[Calls(prune_at=[8], on_prune=lambda _: [])])
    assert passes == ["validation", "validation", "train", "test"]


def test_several_callbacks_are_called_in_the_given_order(blobs):
    calls = []
    xpnet.train(network(), blobs, CONFIG, callbacks=[Log(calls, "first"), Log(calls, "second")])
    for method in METHODS:
        called = [name for name, attribute, *_ in calls if attribute == method]
        assert called == ["first", "second"] * (len(called) // 2), method


def test_should_stop_of_one_callback_ends_training_and_saves_the_unfinished_epoch(blobs):
    steps, points = [], []
    stop = Calls(on_steps=steps.append, should_stop=lambda: sum(steps) >= 3, on_checkpoint=points.append)
    result = xpnet.train(network(), blobs, CONFIG, callbacks=[stop, xpnet.Callback()])
    assert result.interrupted
    assert result.history["train_loss"].shape == (1,)
    assert np.isfinite(result.test.loss)
    assert [(point.epochs, point.step, point.ends) for point in points] == [(0, result.steps, True)]


def test_on_prune_is_called_at_its_own_steps_and_answers_add_up(blobs):
    asked = []

    def pruning(name, steps, replicas):
        return Calls(prune_at=steps, on_prune=lambda point: asked.append((name, point.step)) or replicas)

    callbacks = [pruning("a", [3, 6], [1]), pruning("b", [6], [2])]
    result = xpnet.train(network(4), blobs, CONFIG, callbacks=callbacks)
    assert asked == [("a", 3), ("a", 6), ("b", 6)]
    assert result.dropped == {1: 3, 2: 6}


@pytest.mark.guarantee("checkpoints")
@pytest.mark.parametrize("method", METHODS)
def test_exception_in_a_callback_ends_training_with_its_traceback_and_a_complete_checkpoint(tmp_path, blobs, method):
    def fail(*_):
        raise LookupError("of the user's own")

    def save(point):
        write_checkpoint(tmp_path, point.state(), {})

    # Of a method that is called early, the second call fails: then there is a checkpoint.
    late = iter([None, fail]) if method in ("on_epoch_end", "on_checkpoint") else iter([fail] * 99)

    def sometimes(*arguments):
        (next(late) or (lambda *_: None))(*arguments)

    saving = Calls(on_checkpoint=save)
    failing = Calls(prune_at=[10], **{method: sometimes})
    with pytest.raises(LookupError, match="of the user's own") as caught:
        xpnet.train(network(2), blobs, CONFIG, callbacks=[saving, failing])
    assert [frame.name for frame in caught.traceback][-2:] == ["sometimes", "fail"]
    state, _, wrong = last_complete(tmp_path)
    assert wrong == []
    saved = {"on_prune": 8, "on_epoch_end": 8, "on_checkpoint": 16, "on_train_end": 16}
    assert (None if state is None else state.step) == saved.get(method)


def test_population_in_chunks_passes_epochs_once_and_numbers_of_the_population(blobs):
    calls = []
    p = population(**{"n_s": 4, "cycles": 2, "lambda": [0.0, 0.1, 0.2]})
    _, result = xpnet.train_population(p, blobs, max_replicas=2, callbacks=[Log(calls, prune_at=[10])])
    given = {name: [arguments for _, called, *arguments in calls if called == name] for name in METHODS}
    assert [plan.chunks for (plan,) in given["on_train_begin"]] == [((0, 1), (1, 3))]
    assert [record for (record,) in given["on_epoch_end"]] == result.history.epochs
    assert [point.replicas for (point,) in given["on_prune"]] == [(0,), (1, 2)]
    assert [point.chunk for (point,) in given["on_checkpoint"]] == [(0, 1)] * 2 + [(1, 3)] * 2
    assert given["on_train_end"] == [[result]]


@pytest.mark.parametrize("wrong", [print, [print], {"on_steps": print}, "x", [xpnet.Callback]], ids=repr)
def test_callbacks_of_another_type_are_refused(blobs, wrong):
    with pytest.raises(ConfigError, match=r"^callbacks = .*: must be a sequence of instances of xpnet\.Callback$"):
        xpnet.train(network(), blobs, CONFIG, callbacks=wrong)
