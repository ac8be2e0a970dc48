"""Checkpoint files: the same to the last bit when read again, and known to be broken when they are."""

from __future__ import annotations

import dataclasses
import os
from pathlib import Path

import numpy as np
import pytest
from calls import Calls

import xpnet
from xpnet.errors import RunError
from xpnet.nn.network import Network
from xpnet.runs import checkpoints
from xpnet.runs.checkpoints import delete_old, descriptions_in, last_complete, read_checkpoint, write_checkpoint
from xpnet.training.train import train

ABOUT = {"settings": {"lambda": 0.1}, "data": {"features": 12}}
CONFIG = xpnet.NetworkConfig(inputs=12, classes=4, hidden=(5,))


@pytest.fixture(scope="module")
def states(dataset):
    """Return the states of a training of three networks, of which one diverges and one is dropped."""
    taken, states = [], []
    calls = Calls(
        on_steps=taken.append,
        should_stop=lambda: sum(taken) > 13,
        prune_at=[6],
        on_prune=lambda _: [2],
        on_checkpoint=lambda point: states.append(point.state()),
    )
    config = xpnet.TrainConfig(n_s=9, epochs=4, momentum=0.5, eta_max=(0.1, 1e30, 0.1))
    train(Network(CONFIG, seed=range(3)), dataset, config, callbacks=[calls])
    assert states[-1].diverged
    assert states[-1].dropped
    return states


def check_equal(one, other):
    for field in dataclasses.fields(one):
        value, again = getattr(one, field.name), getattr(other, field.name)
        if field.name == "step_metrics":
            value, again = dict(enumerate(value)), dict(enumerate(again))
        if field.name in ("parameters", "running", "velocities", "step_metrics", "history"):
            assert len(value) >= 2
            assert set(value) == set(again)
            for name, tensor in value.items():
                np.testing.assert_array_equal(tensor, again[name])
                assert tensor.dtype == again[name].dtype
        else:
            assert repr(value) == repr(again)  # where a network diverged its loss is NaN


@pytest.mark.guarantee("checkpoints")
def test_checkpoint_is_read_as_it_was_written(tmp_path, states):
    for state in [*states, dataclasses.replace(states[0], validated=False)]:
        path = write_checkpoint(tmp_path / "c", state, ABOUT)
        again, about = read_checkpoint(path)
        check_equal(state, again)
        assert {name: about[name] for name in ABOUT} == ABOUT
    assert not list((tmp_path / "c").glob(".*"))


@pytest.mark.guarantee("checkpoints")
def test_last_complete_skips_damaged_checkpoints_with_reasons(tmp_path, states):
    paths = [write_checkpoint(tmp_path, state, ABOUT) for state in states[:3]]
    assert last_complete(tmp_path)[0].step == states[2].step
    paths[2].with_suffix(".safetensors").write_bytes(b"short")
    state, about, wrong = last_complete(tmp_path)
    assert state.step == about["step"] == states[1].step
    assert len(wrong) == 1
    assert str(paths[2].with_suffix(".safetensors")) in wrong[0]
    paths[1].write_text("{}")
    state, _, wrong = last_complete(tmp_path)
    assert state.step == states[0].step
    assert len(wrong) == 2
    paths[0].unlink()
    assert last_complete(tmp_path)[0] is None
    assert last_complete(tmp_path / "none") == (None, {}, [])


@pytest.mark.guarantee("corruption")
@pytest.mark.parametrize("suffix", [".json", ".safetensors"])
def test_flipped_bit_or_cut_is_noticed(tmp_path, states, harm, suffix):
    path = write_checkpoint(tmp_path, states[1], ABOUT)
    broken = path.with_suffix(suffix)
    content = broken.read_bytes()
    described = read_checkpoint(path)[1]
    unnoticed = []
    for place in range(0, len(content), harm.times(31, 3)):
        flipped = content[:place] + bytes([content[place] ^ 1 << place % 8]) + content[place + 1 :]
        for damaged in (flipped, content[:place]):
            broken.write_bytes(damaged)
            harm.did("bits flipped and cuts made in checkpoints")
            try:
                again, about = read_checkpoint(path)
            except RunError as error:
                message = str(error)
            else:
                message = f"{path} is read"
                unnoticed.append(place)
                check_equal(states[1], again)
                assert about == described
            assert str(path.parent) in message
            assert "\n" not in message
    # White space, or the seventeenth digit of a number, where both mean the same number.
    harmless = b" \n0123456789"
    assert all(suffix == ".json" and content[place] in harmless for place in unnoticed)


@pytest.mark.guarantee("checkpoints", "full-disk")
@pytest.mark.parametrize("fails_at", range(8))
def test_failed_write_leaves_last_checkpoint_complete(tmp_path, states, monkeypatch, harm, fails_at):
    """Every call to the file system in turn ends with a full disk."""
    write_checkpoint(tmp_path, states[0], ABOUT)
    calls = iter(range(100))

    def failing(real):
        def call(*args, **kwargs):
            if next(calls) == fails_at:
                raise OSError(28, "No space left on device")
            return real(*args, **kwargs)

        return call

    with monkeypatch.context() as patch:
        for owner, name in ((os, "fsync"), (Path, "open"), (Path, "replace")):
            patch.setattr(owner, name, failing(getattr(owner, name)))
        with pytest.raises(OSError, match="No space left"):
            write_checkpoint(tmp_path, states[1], ABOUT)
    harm.did("calls to the file system that failed")
    state, _, wrong = last_complete(tmp_path)
    # The very last call brings the folder to the disk: by then the new one is complete.
    assert state.step == states[fails_at == 7].step
    assert wrong == []
    assert not list(tmp_path.glob(".*"))


@pytest.mark.guarantee("checkpoints")
def test_saving_again_with_other_settings_is_complete_at_any_moment(tmp_path, states, monkeypatch):
    folder, moments = tmp_path / "c", []
    write_checkpoint(folder, states[0], ABOUT)

    def replaced(path, content):
        moments.append(last_complete(folder))
        real(path, content)
        moments.append(last_complete(folder))

    real = checkpoints.replace_whole
    monkeypatch.setattr(checkpoints, "replace_whole", replaced)
    write_checkpoint(folder, states[0], {**ABOUT, "settings": {"lambda": 0.2}})
    for state, _, wrong in moments:
        check_equal(state, states[0])
        assert not wrong
    assert [about["settings"]["lambda"] for _, about, _ in moments] == [0.1, 0.2]


@pytest.mark.guarantee("checkpoints")
def test_new_folder_is_synchronised_before_its_files(tmp_path, states, monkeypatch):
    done = []
    for name in ("replace_whole", "sync_folder"):
        real = getattr(checkpoints, name)
        monkeypatch.setattr(checkpoints, name, lambda path, *rest, real=real: (done.append(path), real(path, *rest)))
    for state in states[:2]:
        path = write_checkpoint(tmp_path / "c", state, ABOUT)
    assert done[0] == tmp_path
    assert [written.suffix for written in done[1:]] == [".safetensors", ".json"] * 2
    assert done[-1] == path


@pytest.mark.guarantee("checkpoints")
@pytest.mark.parametrize("deleted", [0, 1, 2, 3])
def test_delete_old_may_be_cut_short_at_any_moment(tmp_path, states, monkeypatch, deleted):
    for state in states[:3]:
        write_checkpoint(tmp_path, state, ABOUT | {"score": 0.0})
    real, count = Path.unlink, iter(range(100))

    def unlink(path, *rest, **options):
        if next(count) == deleted:
            raise KeyboardInterrupt
        real(path, *rest, **options)

    monkeypatch.setattr(Path, "unlink", unlink)
    with pytest.raises(KeyboardInterrupt):
        delete_old(tmp_path, 1)
    wrong: list[str] = []
    left = descriptions_in(tmp_path, wrong)
    assert (len(left), wrong) == (3 - (deleted + 1) // 2, [])
    for path in left:
        read_checkpoint(path)


def test_delete_old_keeps_the_last_few_and_the_best(tmp_path, states):
    assert len(states) == 4
    for number, state in enumerate(states):
        write_checkpoint(tmp_path, state, ABOUT | {"score": 0.9 if number == 1 else 0.5})
    delete_old(tmp_path, 2)
    wrong: list[str] = []
    steps = [about["step"] for about in descriptions_in(tmp_path, wrong).values()]
    assert (steps, wrong) == ([states[number].step for number in (3, 2, 1)], [])
    assert len(list(tmp_path.glob("*.safetensors"))) == 3


def test_another_format_is_refused_with_its_name(tmp_path, states, monkeypatch):
    monkeypatch.setattr(checkpoints, "FORMAT", "xpnet-checkpoint-9")
    path = write_checkpoint(tmp_path, states[0], ABOUT)
    monkeypatch.undo()
    with pytest.raises(RunError, match="has the format xpnet-checkpoint-9, which this version"):
        read_checkpoint(path)


def test_load_returns_the_network_of_a_checkpoint(tmp_path, dataset):
    network, logits = Network(CONFIG, seed=[4, 7]), {}

    def save(point):
        about = {"network": network.description()}
        transform = {"standardise.mean": np.zeros(12), "standardise.std": np.ones(12)}
        path = write_checkpoint(tmp_path, point.state(), about, transform)
        logits[path] = network.predict_proba(dataset.test.x[:9], standardised=True)

    train(network, dataset, xpnet.TrainConfig(epochs=3), callbacks=[Calls(on_checkpoint=save)])
    assert len(logits) == 3
    for path, expected in logits.items():
        again = xpnet.load(path)
        np.testing.assert_array_equal(again.predict_proba(dataset.test.x[:9], standardised=True), expected)
        assert (again.seeds, again.class_names) == ((4, 7), dataset.class_names)
        np.testing.assert_array_equal(again.standardiser.std, np.ones(12))


def test_load_refuses_a_description_of_no_or_another_network(tmp_path, states):
    with pytest.raises(RunError, match="does not say what network it is of"):
        xpnet.load(write_checkpoint(tmp_path, states[0], ABOUT))
    about = Network(CONFIG, seed=[4, 7]).description()
    for change, message in (
        ({"config": about["config"] | {"hidden": [6]}}, r"parameters.W1 is float32 \(3, 12, 5\), not float32"),
        ({"seeds": [1]}, "it has 1 seeds for 3 networks"),
        ({"seeds": "all"}, "network: seeds: must be a list, and is 'all'"),
        ({"run": 1}, "network: has the key run"),
    ):
        with pytest.raises(RunError, match=message):
            xpnet.load(write_checkpoint(tmp_path, states[0], {"network": about | change}))
    with pytest.raises(RunError, match="there is no such file"):
        xpnet.load(tmp_path / "none.json")
