"""Where a run stands on the disk: what is there is taken only where it is what is asked for."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from calls import Calls

import xpnet
from xpnet.config.settings import Settings
from xpnet.errors import RunError
from xpnet.runs import checkpoints
from xpnet.runs.changes import differences
from xpnet.runs.checkpoints import write_checkpoint
from xpnet.runs.resume import (
    ResumePoint,
    find_resume_point,
    finished,
    refuse_links,
    validate_resume,
)
from xpnet.runs.saver import Saver, discard
from xpnet.training.population import Population
from xpnet.training.state import TrainState
from xpnet.training.train_population import train_population

SETTINGS = {"hidden": [5], "epochs": 4, "runs": 3, "momentum": 0.5, "batch_size": 90}


def population(**changes: Any) -> Population:
    return Population.of(Settings.from_mapping(SETTINGS | changes), 12, 4)


@pytest.fixture
def saved(tmp_path: Path, blobs: xpnet.data.Dataset) -> tuple[Path, list[tuple[TrainState, dict[str, Any]]]]:
    """Return a run folder of two chunks, trained to the end, and what was saved in it."""
    run, kept = tmp_path / "run", []
    run.mkdir()
    about = {"settings": {"lambda": 0.005}, "length": {"steps": 20, "steps_per_epoch": 5}}
    with Saver(run, about, every=1, count=9, warn=pytest.fail) as saver:
        callbacks = [Calls(on_checkpoint=lambda point: kept.append((point.chunk, point.state()))), saver]
        train_population(population(), blobs, max_replicas=2, callbacks=callbacks)
    return run, kept


LENGTH = xpnet.config.definitions.Length(steps=20, steps_per_epoch=5, n_s=10)


def stand(run: Path, steps: int = 20, per_epoch: int = 5, **changes: Any) -> ResumePoint:
    length = xpnet.config.definitions.Length(steps=steps, steps_per_epoch=per_epoch, n_s=10)
    return find_resume_point(run, population(**changes), length, "float32")


def test_the_last_of_every_chunk_is_found(saved):
    run, kept = saved
    found = stand(run)
    assert found.chunks == [(0, 1), (1, 3)]
    assert {chunk: start.step for chunk, start in found.starts.items()} == {(0, 1): 20, (1, 3): 20}
    assert found.wrong == []
    assert found.about["settings"] == {"lambda": 0.005}
    assert [chunk for chunk, _ in kept] == [(0, 1)] * 4 + [(1, 3)] * 4
    for path in (run / "checkpoints" / "1-3").iterdir():
        path.unlink()
    found = stand(run)
    assert (found.chunks, list(found.starts), found.next_chunk()) == ([(0, 1), (1, 3)], [(0, 1)], ", chunk 2 of 2")
    assert found.step == 0


def test_going_on_with_chunks_gives_the_same(saved, blobs):
    run, _ = saved
    p = population()
    network, result = train_population(p, blobs, max_replicas=2)
    for path in (run / "checkpoints" / "1-3").glob("step-0000000[12]*"):
        path.unlink()
    found = stand(run)
    assert found.starts[1, 3].step == 5
    steps = []
    again, same = train_population(
        p, blobs, cuts=found.chunks, starts=found.starts, callbacks=[Calls(on_steps=steps.append)]
    )
    assert sum(steps) == 15
    for name, tensor in network.parameters.items():
        np.testing.assert_array_equal(tensor, again.parameters[name])
    np.testing.assert_array_equal(result.history["validation_cost"], same.history["validation_cost"])
    np.testing.assert_array_equal(result.test.losses, same.test.losses)


def test_fewer_epochs_than_it_was_trained_for_are_refused_though_earlier_checkpoints_are_there(saved):
    run, _ = saved
    with pytest.raises(RunError, match="it has trained 4 epochs already, and 3 are asked for; train a new run"):
        stand(run, 15, 5)
    assert stand(run, 20, 5).step == 20


def test_nothing_is_changed_where_nothing_is_left_to_train(saved):
    run, _ = saved
    changes = {"settings": ["lambda = 1"], "allow_changes": True}
    (reason,) = validate_resume(run, stand(run), **changes)
    assert "nothing is left to train with lambda = 1: its 20 steps are done; ask" in reason
    assert validate_resume(run, stand(run, 40, 5), **changes) == []
    assert validate_resume(run, ResumePoint(), **changes) == []


@pytest.mark.parametrize(
    ("settings", "data", "step"),
    [
        ({}, {}, 13),
        ({"lambda": 1}, {"names": "b"}, 13),
        ({"batch_size": 95}, {}, 10),  # of which an epoch has as many
        ({"seed": 4}, {}, 10),
        ({"shuffle": "independent"}, {}, 10),
        ({"shuffle_seed": 4}, {}, 10),
        ({}, {"check sum": "2"}, 10),
    ],
)
def test_within_an_epoch_its_batches_cannot_change(saved, settings, data, step):
    run, kept = saved
    there = {
        "settings": {"batch_size": 90, "seed": 3, "lambda": 0.1},
        "data": {"check sum": "1"},
    }
    for chunk, snapshot in (kept[1], kept[5]):
        for path in run.glob(f"checkpoints/{chunk[0]}-{chunk[1]}/step-0000000[12][05].*"):
            path.unlink()
        rewrite(run, chunk, snapshot, there)
        rewrite(run, chunk, dataclasses.replace(snapshot, step=13, step_metrics=totals(3, chunk[1] - chunk[0])), there)
    now = {"settings": there["settings"] | settings, "data": there["data"] | data}
    found = find_resume_point(run, population(), LENGTH, "float32", now=now)
    assert {start.step for start in found.starts.values()} == {step}


def test_a_checkpoint_of_a_later_version_is_not_passed_over(saved, monkeypatch):
    run, kept = saved
    monkeypatch.setattr(checkpoints, "FORMAT", "xpnet-checkpoint-9")
    rewrite(run, kept[-1][0], kept[-1][1], {})
    monkeypatch.undo()
    with pytest.raises(RunError, match="has the format xpnet-checkpoint-9, which this version"):
        stand(run)


def test_what_cannot_be_used_at_all_is_set_aside(saved):
    run, kept = saved
    before = sorted(path.name for path in (run / "checkpoints" / "1-3").iterdir())
    discard(run, {(0, 1): kept[3][1]}, earlier=False)
    assert sorted(path.name for path in (run / "checkpoints" / "1-3").iterdir()) == [f"{n}.damaged" for n in before]
    discard(run, {}, earlier=False)
    assert len(list(run.glob("checkpoints/1-3/*.damaged"))) == len(before)


def test_changes_of_some_networks_alone_are_refused(saved):
    run, kept = saved
    point = stand(run, 40, 5)
    assert validate_resume(run, point, ["lambda = 1 (it has 2)"], allow_changes=True) == []
    (reason,) = validate_resume(run, point, ["lambda = 1 (it has 2)"])
    assert "cannot be resumed with lambda = 1 (it has 2); leave that out, go on all the same with --allow" in reason
    discard(run, {(0, 1): kept[3][1], (1, 3): kept[5][1]}, earlier=False)
    (reason,) = validate_resume(run, stand(run), ["lambda = 1 (it has 2)", "max_replicas = 1"], allow_changes=True)
    assert "its chunks stand at 2, 4 epochs, so lambda = 1 (it has 2) would be of some" in reason
    assert validate_resume(run, stand(run), ["max_replicas = 1"], allow_changes=True) == []  # which is of no network


def test_chunks_are_cut_smaller_than_they_were_saved(saved):
    run, kept = saved
    found = find_resume_point(run, population(), LENGTH, "float32", most=1)
    assert found.chunks == list(found.starts) == [(0, 1), (1, 2), (2, 3)]
    assert found.split == [(1, 2), (2, 3)]
    whole = kept[-1][1]
    for r in (0, 1):
        part = found.starts[1 + r, 2 + r]
        assert (part.step, part.epochs, part.alive) == (20, 4, (0,))
        np.testing.assert_array_equal(part.parameters["W1"][0], whole.parameters["W1"][r])
        np.testing.assert_array_equal(part.history["train.losses"][:, 0], whole.history["train.losses"][:, r])
    halves = find_resume_point(run, population(), LENGTH, "float32", chunks=[(0, 1), (1, 2), (2, 3)])
    assert (halves.chunks, halves.split) == (found.chunks, found.split)
    # Killed when one of two parts was saved: it tells of the newest chunks, and what was saved of both is there still.
    cuts = {"cuts": [[0, 1], [1, 2], [2, 3]]}
    rewrite(run, (1, 2), dataclasses.replace(found.starts[1, 2], alive=(), dropped={0: 3}), cuts)
    again = stand(run)
    assert (again.chunks, again.split) == (found.chunks, [(2, 3)])
    assert again.starts[1, 2].dropped == {0: 3}


def test_a_run_without_checkpoints_stands_at_its_beginning(tmp_path):
    found = stand(tmp_path)
    assert (found.chunks, found.starts, found.step, found.wrong) == (None, {}, 0, [])


@pytest.mark.parametrize(
    ("length", "step"),
    [
        ((20, 5), 20),  # the end, as it was
        ((40, 5), 20),  # longer
        ((40, 10), 40),  # smaller batches: four epochs are 40 steps now
    ],
)
def test_a_changed_length_is_counted_in_epochs(saved, length, step):
    assert stand(saved[0], *length).starts[1, 3].step == step


def test_an_epoch_that_was_cut_short_is_no_place_to_go_on_from(saved):
    """A cycle's end within an epoch is the end of a run; with more steps it is gone back to the epoch's beginning."""
    run, kept = saved
    for chunk, snapshot in (kept[3], kept[7]):
        short = dataclasses.replace(snapshot, step=18)
        (run / "checkpoints" / f"{chunk[0]}-{chunk[1]}" / "step-000000020.json").unlink()
        rewrite(run, chunk, short, {"length": {"steps": 18, "steps_per_epoch": 5}})
    assert stand(run, 18, 5).starts[1, 3].step == 18
    assert stand(run, 20, 5).starts[1, 3].step == 15


def rewrite(run: Path, chunk: tuple[int, int], snapshot: TrainState, about: dict[str, Any]) -> None:
    rest = {"cuts": [[0, 1], [1, 3]], "length": {"steps": 20, "steps_per_epoch": 5}}
    write_checkpoint(run / "checkpoints" / f"{chunk[0]}-{chunk[1]}", snapshot, rest | about)


def wide(tensors: Any) -> dict[str, Any]:
    return {name: np.repeat(tensor, 2, axis=-1) for name, tensor in tensors.items()}


def without_w2(tensors: Any) -> dict[str, Any]:
    return {name: tensor for name, tensor in tensors.items() if name != "W2"}


def as_double(tensors: Any) -> dict[str, Any]:
    return {name: tensor.astype("float64") for name, tensor in tensors.items()}


def totals(steps: int, replicas: int) -> tuple[Any, ...]:
    return tuple(np.zeros((steps, replicas), kind) for kind in ("f8", "i8", "f8"))


# What somebody may have put in the place of a snapshot of two networks, with whole check sums.
STRANGE: dict[str, tuple[Any, dict[str, Any], str]] = {
    "shapes": (
        lambda s: {"parameters": wide(s.parameters), "velocities": wide(s.velocities)},
        {},
        "cannot go on from its checkpoints, parameters.W1 has the shape (2, 12, 10), not (2, 12, 5)",
    ),
    "missing": (
        lambda s: {group: without_w2(getattr(s, group)) for group in ("parameters", "velocities")},
        {},
        "parameters.W2 has the shape None, not (2, 5, 4)",
    ),
    "dtype": (
        lambda s: {group: as_double(getattr(s, group)) for group in ("parameters", "velocities", "running")},
        {},
        "parameters.W1 is float64, not float32",
    ),
    "velocities": (lambda s: {"velocities": wide(s.velocities)}, {}, "velocities.W1 is of no parameter"),
    "a network twice": (lambda s: {"alive": (0, 0)}, {}, "alive are not numbers of its 2 networks, each once"),
    "a network that is not there": (lambda s: {"alive": (0, 1, 7)}, {}, "alive are not numbers of its 2 networks"),
    "a network without a fate": (lambda s: {"alive": (1,)}, {}, "its networks are [1], not 2 each of which trains"),
    "order": (lambda s: {"alive": (1, 0)}, {}, "its networks are [1, 0]"),
    "figures": (lambda s: {"step_metrics": totals(2, 9)}, {}, "totals.loss is float64 (2, 9), not (2, 2)"),
    "beyond": (lambda s: {"step_metrics": totals(9, 2), "step": 29}, {}, "its last epoch was cut short at step 29"),
    "step": (lambda s: {"step": 3}, {}, "its last epoch was cut short at step 3"),
    "no length": (lambda s: {}, {"length": None}, "length: must be an object, and is null"),
    "epochs of no steps": (lambda s: {}, {"length": {"steps": 3, "steps_per_epoch": 0}}, "must be a whole number of"),
    "cuts": (lambda s: {}, {"cuts": [[0, 2], [1, 3]]}, "cuts = [[0, 2], [1, 3]] in a checkpoint: are no chunks"),
    "more": (lambda s: {}, {"cuts": [[0, 1], [1, 3], [3, 9]]}, "its checkpoints are of 9 networks, and there are 3"),
    "odd cuts": (lambda s: {}, {"cuts": "all"}, "cuts: must be a list, and is 'all'"),
}


@pytest.mark.guarantee("untrusted")
@pytest.mark.parametrize("name", STRANGE)
def test_what_does_not_fit_is_refused(saved, harm, name):
    run, kept = saved
    change, about, sentence = STRANGE[name]
    chunk, snapshot = kept[-1]
    for path in run.glob("checkpoints/*/*"):
        path.unlink()
    rewrite(run, chunk, dataclasses.replace(snapshot, **change(snapshot)), about)
    harm.did("strange checkpoints")
    try:
        found = stand(run)
        told = found.wrong
        assert (found.starts, found.chunks) == ({}, None)
    except RunError as error:
        told = [str(error)]
    (message,) = told
    assert sentence in message
    assert "\n" not in message


@pytest.mark.guarantee("untrusted")
@pytest.mark.parametrize("place", ["checkpoints", "checkpoints/.lock", "checkpoints/0-1"])
def test_links_are_refused(saved, tmp_path, place):
    run, _ = saved
    refuse_links(run)
    if (run / place).exists():
        (run / place).rename(tmp_path / "elsewhere")
    (run / place).symlink_to(tmp_path / "elsewhere")
    with pytest.raises(RunError, match="is a link, which may lead out of the run's folder"):
        refuse_links(run)


def test_what_differs_is_said_but_for_what_may(saved):
    there = {"lambda": 0.1, "data": "a", "device": "cpu", "save_every": 1, "keep": 1, "hidden": [3]}
    here = {"lambda": 0.2, "data": "b", "device": "gpu", "save_every": 2, "keep": 3, "epochs": 2, "hidden": [3]}
    assert differences(there, there) == []
    assert differences(there, here) == ["epochs = 2 (it has none)", "lambda = 0.2 (it has 0.1)"]


def test_settings_that_are_younger_than_a_checkpoint_have_their_defaults():
    older = {"lambda": 0.1, "epochs": 3}
    found = ResumePoint(about={"settings": older, "data": {"features": 3}})
    assert found.settings["keep"] == 2
    assert found.settings["lambda"] == 0.1
    assert found.data == {"features": 3}
    newer = {"lambda": 0.1, "from_the_future": 3}
    assert ResumePoint(about={"settings": newer}).settings == newer
    assert ResumePoint(about={"settings": [1], "data": None}).settings == Settings.from_mapping({}).to_mapping()


def test_later_checkpoints_are_discarded_and_what_was_cut_short(saved):
    run, kept = saved
    starts = {(0, 1): kept[3][1], (1, 3): kept[5][1]}
    (run / "checkpoints" / "1-3" / ".step-000000005.json.77-0a1b2c3d.tmp").touch()
    (run / ".model.safetensors.77-0a1b2c3d.tmp").touch()
    discard(run, starts, earlier=False)
    left = sorted(str(path.relative_to(run)) for path in run.rglob("*.json"))
    assert left == [f"checkpoints/0-1/step-{n:09d}.json" for n in (5, 10, 15, 20)] + [
        f"checkpoints/1-3/step-{n:09d}.json" for n in (5, 10)
    ]
    assert list(run.rglob("*.tmp")) == []
    for name in (".step-000000005.json.77-0a1b2c3d.tmp", "step-000000015.json"):  # no files at all
        (run / "checkpoints" / "1-3" / name).mkdir()
    discard(run, starts, earlier=False)
    assert sorted(path.name for path in run.glob("checkpoints/1-3/*") if path.is_dir()) == [
        ".step-000000005.json.77-0a1b2c3d.tmp",
        "step-000000015.json.damaged",
    ]
    orphan = run / "checkpoints" / "0-1" / "step-000000005.safetensors"
    orphan.with_suffix(".json").unlink()  # killed while it was deleted
    (run / ".somebodys.tmp").touch()
    discard(run, starts, earlier=False)
    assert not orphan.exists()
    (run / ".somebodys.tmp").unlink()
    discard(run, starts, earlier=True)
    assert len(list(run.rglob("*.json"))) == len(list(run.rglob("*.safetensors"))) == 2


@pytest.mark.parametrize(
    ("metrics", "is_finished"),
    [
        ({"interrupted": False}, True),
        ({"interrupted": True}, False),
        ({"interrupted": 0}, False),
        ({}, False),
        ([1], False),
        (None, False),
    ],
)
def test_a_run_with_its_figures_and_its_network_is_finished(tmp_path, metrics, is_finished):
    figures = {which: {"accuracy": 0.5, "loss": 1.0, "cost": 2.0} for which in ("test", "validation", "train")}
    whole = metrics if not isinstance(metrics, dict) else {**figures, "epochs": 1, "steps": 2, **metrics}
    (tmp_path / "metrics.json").write_text("{" if metrics is None else json.dumps(whole))
    assert finished(tmp_path) is None
    (tmp_path / "model.safetensors").touch()
    assert (finished(tmp_path) is not None) == is_finished
