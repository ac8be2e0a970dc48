"""Resuming: the checkpoints from which a run continues, and the changes that it accepts."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from calls import Calls

import xpnet
from xpnet.config.length import Length
from xpnet.config.settings import Settings
from xpnet.errors import RunError
from xpnet.runs import checkpoints
from xpnet.runs.checkpoints import write_checkpoint
from xpnet.runs.experiment import Experiment
from xpnet.runs.folder import chunk_folder, refuse_links
from xpnet.runs.resume import ResumePoint, differences, find_resume_point, finished, validate_resume
from xpnet.runs.saver import Saver, delete_unused
from xpnet.training.population import Population
from xpnet.training.state import Chunk, TrainState
from xpnet.training.train_population import train_population

SETTINGS = Settings.from_mapping(
    {"hidden": [5], "epochs": 4, "runs": 3, "momentum": 0.5, "batch_size": 90, "save_every": 1, "keep": 9}
)
POPULATION = Population.of(SETTINGS, 12, 4)
FIRST, LAST = (0, 1), (1, 3)  # the chunks


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory, dataset: Any) -> Iterator[tuple[Path, Any, Any, Any]]:
    """Yield a run folder of two chunks of 20 steps, their states by chunk and step, the network and the result."""
    run, states = tmp_path_factory.mktemp("trained"), {}
    experiment = Experiment(SETTINGS, xpnet.get_backend("cpu"), dataset, {}, POPULATION)
    with contextlib.closing(Saver(experiment, run, pytest.fail)) as saver:
        keep = Calls(on_checkpoint=lambda point: states.update({(point.chunk, point.step): point.state()}))
        network, result = train_population(POPULATION, dataset, max_replicas=2, callbacks=[keep, saver])
    assert list(states) == [(chunk, step) for chunk in (FIRST, LAST) for step in (5, 10, 15, 20)]
    return run, states, network, result


@pytest.fixture
def run(trained: Any, tmp_path: Path) -> Path:
    return Path(shutil.copytree(trained[0], tmp_path / "run"))


@pytest.fixture
def states(trained: Any) -> dict[tuple[Chunk, int], TrainState]:
    return trained[1]  # type: ignore[no-any-return]


def find(run: Path, steps: int = 20, per_epoch: int = 5, **options: Any) -> ResumePoint:
    return find_resume_point(run, POPULATION, Length(steps, per_epoch, 10), "float32", **options)


def steps_of(point: ResumePoint) -> dict[Chunk, int]:
    return {chunk: start.step for chunk, start in point.starts.items()}


def save(run: Path, chunk: Chunk, state: TrainState, **about: Any) -> None:
    rest = {"cuts": [FIRST, LAST], "length": {"steps": 20, "steps_per_epoch": 5}}
    write_checkpoint(chunk_folder(run, chunk), state, rest | about)


def totals(steps: int, replicas: int) -> tuple[Any, ...]:
    return tuple(np.zeros((steps, replicas), kind) for kind in ("f8", "i8", "f8"))


def test_find_takes_last_checkpoint_of_every_chunk(run):
    point = find(run)
    assert (point.chunks, steps_of(point)) == ([FIRST, LAST], {FIRST: 20, LAST: 20})
    assert (point.skipped, point.about["settings"]["hidden"]) == ([], [5])
    for path in chunk_folder(run, LAST).iterdir():
        path.unlink()
    point = find(run)
    assert (point.chunks, list(point.starts), point.next_chunk()) == ([FIRST, LAST], [FIRST], ", chunk 2 of 2")
    assert point.step == 0


def test_find_without_checkpoints_starts_at_step_0(tmp_path):
    point = find(tmp_path)
    assert (point.chunks, point.starts, point.step, point.skipped, point.ends) == ([], {}, 0, [], False)


def test_chunks_that_continue_end_alike(trained, run, dataset):
    _, _, network, result = trained
    for path in chunk_folder(run, LAST).glob("step-0000000[12]*"):
        path.unlink()
    point, steps = find(run), []
    assert point.starts[LAST].step == 5
    again, same = train_population(
        POPULATION, dataset, cuts=point.chunks, starts=point.starts, callbacks=[Calls(on_steps=steps.append)]
    )
    assert sum(steps) == 15
    for name, tensor in network.parameters.items():
        np.testing.assert_array_equal(tensor, again.parameters[name])
    np.testing.assert_array_equal(result.history["validation_cost"], same.history["validation_cost"])
    np.testing.assert_array_equal(result.test.losses, same.test.losses)


def test_fewer_epochs_than_trained_are_refused_though_earlier_checkpoints_exist(run):
    with pytest.raises(RunError, match="it has trained 4 epochs already, and 3 are asked for; train a new run"):
        find(run, 15)
    assert find(run).step == 20


def test_changes_after_all_steps_are_refused(run):
    changes = {"settings": ["lambda = 1"], "allow_changes": True}
    (reason,) = validate_resume(run, find(run), **changes)
    assert "nothing is left to train with lambda = 1: its 20 steps are done; ask" in reason
    (reason,) = validate_resume(run, find(run, 18), **changes)  # as many epochs, the last cut short
    assert "its 18 steps are done" in reason
    assert validate_resume(run, find(run, 40), **changes) == []
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
        ({"flip": "random"}, {}, 10),
        ({"shift": 2}, {}, 10),
        ({"shift": 0}, {}, 13),
        ({"cutout": 2}, {}, 10),
        ({"views": 6, "label_smoothing": 0.1}, {}, 13),
        ({}, {"check sum": "2"}, 10),
    ],
)
def test_within_an_epoch_batches_cannot_change(run, states, settings, data, step):
    about = {"settings": {"batch_size": 90, "seed": 3, "lambda": 0.1}, "data": {"check sum": "1"}}
    for chunk in (FIRST, LAST):
        for path in chunk_folder(run, chunk).glob("step-0000000[12][05].*"):
            path.unlink()
        state = states[chunk, 10]
        save(run, chunk, state, **about)
        save(run, chunk, dataclasses.replace(state, step=13, step_metrics=totals(3, chunk[1] - chunk[0])), **about)
    now = {"settings": about["settings"] | settings, "data": about["data"] | data}
    assert set(steps_of(find(run, now=now)).values()) == {step}


def test_within_an_epoch_a_border_cannot_change(run, states):
    about = {"settings": {"batch_size": 90, "shift": 2, "border": "constant"}}
    for chunk in (FIRST, LAST):
        for path in chunk_folder(run, chunk).glob("step-0000000[12][05].*"):
            path.unlink()
        (chunk_folder(run, chunk) / "step-000000005.json").unlink()
        state = states[chunk, 10]
        save(run, chunk, dataclasses.replace(state, step=13, step_metrics=totals(3, chunk[1] - chunk[0])), **about)
    assert set(steps_of(find(run, now=about)).values()) == {13}
    for changes, words in (
        ({"border": "reflect"}, "border = reflect (it has constant)"),
        ({"shift": 3}, "shift = 3 (it has 2)"),
    ):
        with pytest.raises(RunError, match=re.escape(f"within an epoch, whose batches would change: {words}; train")):
            find(run, now={"settings": about["settings"] | changes})


def of_pictures(**settings: Any) -> tuple[Settings, Any]:
    """Return settings of a training on pooled and projected pictures, and the pictures."""
    rng = np.random.default_rng(0)
    values = {
        "hidden": [5],
        "epochs": 3,
        "runs": 2,
        "batch_size": 20,
        "pool": 2,
        "pca": 6,
        "flip": "random",
        "shift": 1,
    }
    own = Settings.from_mapping({"keep": 9, **values, **settings})
    config = own.data
    images, labels = rng.integers(0, 256, (150, 6, 8, 3), np.uint8), np.arange(150) % 3
    data = xpnet.data_from_arrays(
        images, labels, split="100/20", pool=config.pool, pca=config.pca, pca_eps=config.pca_eps
    )
    return own, data


def experiment_of(settings: Settings, data: Any) -> Experiment:
    population = Population.of(settings, data.inputs, data.classes)
    return Experiment(settings, xpnet.get_backend("cpu"), data, {}, population)


def saved(experiment: Experiment, run: Path, point: ResumePoint, stop: int | None = None) -> Any:
    """Train from a point, and save; stop after some steps."""
    taken: list[int] = []
    callback = Calls(on_steps=taken.append, should_stop=lambda: stop is not None and sum(taken) >= stop)
    with contextlib.closing(Saver(experiment, run, pytest.fail)) as saver:
        return experiment.train(run, point, [callback, saver])


@pytest.mark.parametrize("stop", [2, 7, 10])
def test_transform_of_a_checkpoint_is_that_of_the_resumed_run(tmp_path, stop):
    """Components that were fitted again might have other last bits."""
    settings, data = of_pictures()
    run, other = tmp_path / "run", tmp_path / "other"
    run.mkdir()
    other.mkdir()
    experiment = experiment_of(settings, data)
    network, result = saved(experiment, other, ResumePoint())
    assert saved(experiment, run, ResumePoint(), stop)[1].interrupted
    changed = dataclasses.replace(data.transform, projection=data.transform.projection * 1.01)
    again = dataclasses.replace(experiment, data=dataclasses.replace(data, transform=changed))
    point = find_resume_point(run, experiment.population, experiment.length, "float32", now=experiment.about)
    assert 0 < point.step < experiment.length.steps
    resumed, same = saved(again, run, point)
    for name, tensor in network.parameters.items():
        np.testing.assert_array_equal(resumed.parameters[name], tensor, err_msg=name)
    np.testing.assert_array_equal(same.history["validation_loss"], result.history["validation_loss"])
    np.testing.assert_array_equal(same.test.losses, result.test.losses)
    for name, tensor in data.transform.tensors().items():
        np.testing.assert_array_equal(resumed.transform.tensors()[name], tensor)
    path = max(run.glob("checkpoints/0-2/*.json"))
    np.testing.assert_array_equal(xpnet.load(path).predict_proba(data.test.x), resumed.predict_proba(data.test.x))


def test_transform_of_other_settings_or_other_data_is_their_own(tmp_path):
    settings, data = of_pictures()
    experiment = experiment_of(settings, data)
    assert saved(experiment, tmp_path, ResumePoint(), 6)[1].interrupted
    point = find_resume_point(tmp_path, experiment.population, experiment.length, "float32")
    other = experiment_of(*of_pictures(pca_eps=0.01))
    found = saved(other, tmp_path, point)[0].transform
    np.testing.assert_array_equal(found.projection, other.data.transform.projection)
    assert np.abs(found.projection - data.transform.projection).max() > 1e-6
    wider = xpnet.data_from_arrays(
        np.random.default_rng(1).integers(0, 256, (150, 6, 10, 3), np.uint8),
        np.arange(150) % 3,
        split="100/20",
        pool=2,
        pca=6,
    )
    other = dataclasses.replace(experiment_of(settings, wider), fingerprint={"features": 180})
    found = saved(other, tmp_path, point)[0].transform
    np.testing.assert_array_equal(found.projection, wider.transform.projection)


def test_checkpoint_of_a_newer_xpnet_is_not_skipped(run, states, monkeypatch):
    monkeypatch.setattr(checkpoints, "FORMAT", "xpnet-checkpoint-9")
    save(run, LAST, states[LAST, 20])
    monkeypatch.undo()
    with pytest.raises(RunError, match="has the format xpnet-checkpoint-9, which this version"):
        find(run)


def test_changes_of_a_part_of_the_networks_are_refused(run, states):
    lam = "lambda = 1 (it has 2)"
    assert validate_resume(run, find(run, 40), [lam], allow_changes=True) == []
    (reason,) = validate_resume(run, find(run, 40), [lam])
    assert f"cannot be resumed with {lam}; leave that out, go on all the same with --allow" in reason
    delete_unused(run, {FIRST: states[FIRST, 20], LAST: states[LAST, 10]}, earlier=False)
    (reason,) = validate_resume(run, find(run), [lam, "max_replicas = 1"], allow_changes=True)
    assert f"its chunks have finished 2, 4 epochs, so {lam} would be of some" in reason
    assert validate_resume(run, find(run), ["max_replicas = 1"], allow_changes=True) == []  # which is of no network


def test_saved_chunks_are_cut_smaller(run, states):
    point = find(run, most=1)
    assert point.chunks == list(point.starts) == [(0, 1), (1, 2), (2, 3)]
    assert point.split == [(1, 2), (2, 3)]
    both = states[LAST, 20]
    for r in (0, 1):
        part = point.starts[1 + r, 2 + r]
        assert (part.step, part.epochs, part.alive) == (20, 4, (0,))
        np.testing.assert_array_equal(part.parameters["W1"][0], both.parameters["W1"][r])
        np.testing.assert_array_equal(part.history["train.losses"][:, 0], both.history["train.losses"][:, r])
    halves = find(run, chunks=point.chunks)
    assert (halves.chunks, halves.split) == (point.chunks, point.split)
    # Killed when one of two parts was saved: its checkpoint knows the newest chunks, and that of both still exists.
    save(run, (1, 2), dataclasses.replace(point.starts[1, 2], alive=(), dropped={0: 3}), cuts=point.chunks)
    again = find(run)
    assert (again.chunks, again.split) == (point.chunks, [(2, 3)])
    assert again.starts[1, 2].dropped == {0: 3}


@pytest.mark.parametrize(
    ("length", "step"),
    [
        ((20, 5), 20),  # the end, as it was
        ((40, 5), 20),  # longer
        ((40, 10), 40),  # smaller batches: four epochs are 40 steps now
    ],
)
def test_changed_length_is_counted_in_epochs(run, length, step):
    assert find(run, *length).starts[LAST].step == step


def test_epoch_that_was_cut_short_is_begun_again(run, states):
    """A cycle's end within an epoch is the end of a run; with more steps the epoch is trained again."""
    for chunk in (FIRST, LAST):
        (chunk_folder(run, chunk) / "step-000000020.json").unlink()
        short = dataclasses.replace(states[chunk, 20], step=18)
        save(run, chunk, short, length={"steps": 18, "steps_per_epoch": 5})
    assert find(run, 18).starts[LAST].step == 18
    assert find(run, 20).starts[LAST].step == 15


def parts(change: Any, *groups: str) -> Any:
    return lambda state: {group: change(getattr(state, group)) for group in groups}


# Changes of the state of two networks and of its description, signed as if they were right.
STRANGE: dict[str, tuple[Any, dict[str, Any], str]] = {
    "shapes": (
        parts(lambda tensors: {name: np.repeat(t, 2, axis=-1) for name, t in tensors.items()}, "parameters"),
        {},
        "cannot go on from its checkpoints, parameters.W1 has the shape (2, 12, 10), not (2, 12, 5)",
    ),
    "missing": (
        parts(lambda tensors: {name: t for name, t in tensors.items() if name != "W2"}, "parameters"),
        {},
        "parameters.W2 has the shape None, not (2, 5, 4)",
    ),
    "dtype": (
        parts(lambda tensors: {name: t.astype("f8") for name, t in tensors.items()}, "parameters", "running"),
        {},
        "parameters.W1 is float64, not float32",
    ),
    "neither alive nor gone": (lambda s: {"alive": (1,)}, {}, "its networks are [1], not 2 each of which trains"),
    "order": (lambda s: {"alive": (1, 0)}, {}, "its networks are [1, 0]"),
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
def test_what_does_not_fit_is_refused(tmp_path, states, harm, name):
    change, about, sentence = STRANGE[name]
    state = states[LAST, 20]
    save(tmp_path, LAST, dataclasses.replace(state, **({"velocities": {}} | change(state))), **about)
    harm.did("strange checkpoints")
    try:
        point = find(tmp_path)
        reasons = point.skipped
        assert (point.starts, point.chunks) == ({}, [])
    except RunError as error:
        reasons = [str(error)]
    (message,) = reasons
    assert sentence in message
    assert "\n" not in message


@pytest.mark.guarantee("untrusted")
@pytest.mark.parametrize("place", ["checkpoints", "checkpoints/.lock", "checkpoints/0-1"])
def test_links_are_refused(run, tmp_path, place):
    refuse_links(run)
    if (run / place).exists():
        (run / place).rename(tmp_path / "elsewhere")
    (run / place).symlink_to(tmp_path / "elsewhere")
    with pytest.raises(RunError, match="is a link, which may lead out of the run's folder"):
        refuse_links(run)


def test_differences_leave_out_settings_that_may_always_change():
    saved = {"lambda": 0.1, "data": "a", "device": "cpu", "save_every": 1, "keep": 1, "hidden": [3]}
    now = {"lambda": 0.2, "data": "b", "device": "gpu", "save_every": 2, "keep": 3, "epochs": 2, "hidden": [3]}
    assert differences(saved, saved) == []
    assert differences(saved, now) == ["epochs = 2 (it has none)", "lambda = 0.2 (it has 0.1)"]


def test_settings_that_a_checkpoint_does_not_have_are_defaults():
    point = ResumePoint(about={"settings": {"lambda": 0.1, "epochs": 3}, "data": {"features": 3}})
    assert (point.settings["keep"], point.settings["lambda"], point.data) == (2, 0.1, {"features": 3})
    newer = {"lambda": 0.1, "from_the_future": 3}
    assert ResumePoint(about={"settings": newer}).settings == newer
    assert ResumePoint().settings == Settings.from_mapping({}).to_mapping()


def test_checkpoints_of_a_chunk_that_starts_again_are_renamed(run, states):
    before = sorted(path.name for path in chunk_folder(run, LAST).iterdir())
    for _ in range(2):
        delete_unused(run, {FIRST: states[FIRST, 20]}, earlier=False)
        names = sorted(path.name for path in chunk_folder(run, LAST).iterdir())
        assert names == [f"{name}.damaged" for name in before]


def test_later_checkpoints_and_unfinished_files_are_deleted(run, states):
    starts = {FIRST: states[FIRST, 20], LAST: states[LAST, 10]}
    (chunk_folder(run, LAST) / ".step-000000005.json.77-0a1b2c3d.tmp").touch()
    (run / ".model.safetensors.77-0a1b2c3d.tmp").touch()
    delete_unused(run, starts, earlier=False)
    left = sorted(str(path.relative_to(run)) for path in run.rglob("*.json"))
    kept = [*(("0-1", n) for n in (5, 10, 15, 20)), ("1-3", 5), ("1-3", 10)]
    assert left == [f"checkpoints/{chunk}/step-{n:09d}.json" for chunk, n in kept]
    assert list(run.rglob("*.tmp")) == []
    for name in (".step-000000005.json.77-0a1b2c3d.tmp", "step-000000015.json"):  # no files at all
        (chunk_folder(run, LAST) / name).mkdir()
    delete_unused(run, starts, earlier=False)
    folders = sorted(path.name for path in chunk_folder(run, LAST).iterdir() if path.is_dir())
    assert folders == [".step-000000005.json.77-0a1b2c3d.tmp", "step-000000015.json.damaged"]
    orphan = chunk_folder(run, FIRST) / "step-000000005.safetensors"
    orphan.with_suffix(".json").unlink()  # killed while it was deleted
    (run / ".of-others.tmp").touch()
    delete_unused(run, starts, earlier=False)
    assert not orphan.exists()
    (run / ".of-others.tmp").unlink()
    delete_unused(run, starts, earlier=True)
    assert len(list(run.rglob("*.json"))) == len(list(run.rglob("*.safetensors"))) == 2


@pytest.mark.parametrize(
    ("metrics", "is_finished"),
    [({"interrupted": False}, True)]
    + [(metrics, False) for metrics in ({"interrupted": True}, {"interrupted": 0}, {}, [1], None)],
)
def test_finished_needs_final_figures_and_the_network(tmp_path, metrics, is_finished):
    figures = {name: {"accuracy": 0.5, "loss": 1.0, "cost": 2.0} for name in ("test", "validation", "train")}
    content = metrics if not isinstance(metrics, dict) else {**figures, "epochs": 1, "steps": 2, **metrics}
    (tmp_path / "metrics.json").write_text("{" if metrics is None else json.dumps(content))
    assert finished(tmp_path) is None
    (tmp_path / "model.safetensors").touch()
    assert (finished(tmp_path) is not None) == is_finished
