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
from xpnet.runs.checkpoints import checkpoints_in, delete_old, last_complete, read_checkpoint, write_checkpoint
from xpnet.training.history import records_of
from xpnet.training.train import train

ABOUT = {"settings": {"lambda": 0.1}, "data": {"features": 12}}


@pytest.fixture(scope="module")
def snapshots():
    """Return the snapshots of a training of three networks, of which one diverges and one is dropped."""
    rng = np.random.default_rng(5)
    labels = np.arange(600) % 4
    x = rng.standard_normal((600, 12)) + rng.standard_normal((4, 12))[labels]
    blobs = xpnet.data_from_arrays(x.astype(np.float32), labels, split="400/100")
    network = Network(xpnet.NetworkConfig(inputs=12, classes=4, hidden=(5,)), seed=range(3))
    taken, kept = [], []
    train(
        network,
        blobs,
        xpnet.TrainConfig(n_s=9, epochs=4, momentum=0.5, eta_max=(0.1, 1e30, 0.1)),
        callbacks=[
            Calls(
                on_steps=taken.append,
                should_stop=lambda: sum(taken) > 13,
                prune_at=[6],
                on_prune=lambda _: [2],
                on_checkpoint=lambda point: kept.append(point.state()),
            )
        ],
    )
    assert kept[-1].diverged
    assert kept[-1].dropped
    return kept


def check_equal(one, other):
    for group in ("parameters", "running", "velocities"):
        tensors, again = getattr(one, group), getattr(other, group)
        assert len(tensors) >= 2
        assert set(tensors) == set(again)
        for name in tensors:
            np.testing.assert_array_equal(tensors[name], again[name])
            assert tensors[name].dtype == again[name].dtype
    for total, again in zip(one.step_metrics, other.step_metrics, strict=True):
        np.testing.assert_array_equal(total, again)
        assert total.dtype == again.dtype
    assert (one.step, one.alive, one.dropped) == (other.step, other.alive, other.dropped)
    assert repr(one.diverged) == repr(other.diverged)
    for group in (one.history, other.history):
        assert len(group["eta"]) == one.epochs
    assert repr(records_of(one.history)) == repr(records_of(other.history))
    assert (one.seconds_evaluation, one.seconds_of_epoch) == (other.seconds_evaluation, other.seconds_of_epoch)
    assert one.validated == other.validated


@pytest.mark.guarantee("checkpoints")
def test_a_snapshot_is_read_as_it_was_written(tmp_path, snapshots):
    for snapshot in [*snapshots, dataclasses.replace(snapshots[0], validated=False)]:
        path = write_checkpoint(tmp_path / "c", snapshot, ABOUT)
        again, about = read_checkpoint(path)
        check_equal(snapshot, again)
        assert about["settings"] == ABOUT["settings"]
        assert about["data"] == ABOUT["data"]
    assert not list((tmp_path / "c").glob(".*"))


@pytest.mark.guarantee("checkpoints")
def test_the_last_complete_one_is_found_and_what_is_wrong_is_said(tmp_path, snapshots):
    paths = [write_checkpoint(tmp_path, snapshot, ABOUT) for snapshot in snapshots[:3]]
    assert last_complete(tmp_path)[0].step == snapshots[2].step
    paths[2].with_suffix(".safetensors").write_bytes(b"short")
    snapshot, about, wrong = last_complete(tmp_path)
    assert snapshot.step == about["step"] == snapshots[1].step
    assert len(wrong) == 1
    assert str(paths[2].with_suffix(".safetensors")) in wrong[0]
    paths[1].write_text("{}")
    snapshot, _, wrong = last_complete(tmp_path)
    assert snapshot.step == snapshots[0].step
    assert len(wrong) == 2
    paths[0].unlink()
    assert last_complete(tmp_path)[0] is None
    assert last_complete(tmp_path / "none") == (None, {}, [])


@pytest.mark.guarantee("corruption")
@pytest.mark.parametrize("suffix", [".json", ".safetensors"])
def test_a_flipped_bit_or_a_cut_anywhere_is_noticed(tmp_path, snapshots, harm, suffix):
    path = write_checkpoint(tmp_path, snapshots[1], ABOUT)
    broken = path.with_suffix(suffix)
    whole = broken.read_bytes()
    described = read_checkpoint(path)[1]
    unnoticed = []
    for place in range(0, len(whole), harm.times(31, 1)):
        flipped = whole[:place] + bytes([whole[place] ^ 1 << place % 8]) + whole[place + 1 :]
        for content in (flipped, whole[:place]):
            broken.write_bytes(content)
            harm.did("bits flipped and cuts made in checkpoints")
            told = ""
            try:
                again, about = read_checkpoint(path)
            except RunError as error:
                told = str(error)
            if told:
                assert str(tmp_path) in told
                assert "\n" not in told
            else:
                unnoticed.append(place)
                check_equal(snapshots[1], again)
                assert about == described
    # White space, or the seventeenth digit of a number, where both mean the same number.
    harmless = b" \n0123456789"
    assert all(suffix == ".json" and whole[place] in harmless for place in unnoticed)


@pytest.mark.guarantee("checkpoints", "full-disk")
@pytest.mark.parametrize("fails_at", range(8))
def test_a_write_that_fails_leaves_the_last_one_whole(tmp_path, snapshots, monkeypatch, harm, fails_at):
    """Every call to the file system in turn ends with a full disk."""
    write_checkpoint(tmp_path, snapshots[0], ABOUT)
    calls = iter(range(100))

    def failing(real):
        def call(*args, **kwargs):
            if next(calls) == fails_at:
                raise OSError(28, "No space left on device")
            return real(*args, **kwargs)

        return call

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", failing(os.fsync))
        patch.setattr(Path, "open", failing(Path.open))
        patch.setattr(Path, "replace", failing(Path.replace))
        with pytest.raises(OSError, match="No space left"):
            write_checkpoint(tmp_path, snapshots[1], ABOUT)
    harm.did("calls to the file system that failed")
    snapshot, _, wrong = last_complete(tmp_path)
    # The very last call brings the folder to the disk: by then the new one is whole.
    assert snapshot.step == snapshots[fails_at == 7].step
    assert wrong == []
    assert not list(tmp_path.glob(".*"))


@pytest.mark.guarantee("checkpoints")
def test_saving_it_again_with_other_settings_loses_nothing_at_any_moment(tmp_path, snapshots, monkeypatch):
    folder, moments = tmp_path / "c", []
    write_checkpoint(folder, snapshots[0], ABOUT)

    def replaced(path, content):
        moments.append(last_complete(folder))
        real(path, content)
        moments.append(last_complete(folder))

    real = checkpoints.replace_whole
    monkeypatch.setattr(checkpoints, "replace_whole", replaced)
    write_checkpoint(folder, snapshots[0], {**ABOUT, "settings": {"lambda": 0.2}})
    for snapshot, _, wrong in moments:
        check_equal(snapshot, snapshots[0])
        assert not wrong
    assert [about["settings"]["lambda"] for _, about, _ in moments] == [0.1, 0.2]


@pytest.mark.guarantee("checkpoints")
def test_a_new_folder_is_on_the_disk_before_what_lies_in_it(tmp_path, snapshots, monkeypatch):
    done = []
    for name in ("replace_whole", "sync_folder"):
        real = getattr(checkpoints, name)
        monkeypatch.setattr(checkpoints, name, lambda path, *rest, real=real: (done.append(path), real(path, *rest)))
    for snapshot in snapshots[:2]:
        path = write_checkpoint(tmp_path / "c", snapshot, ABOUT)
    assert done[0] == tmp_path
    assert [written.suffix for written in done[1:]] == [".safetensors", ".json"] * 2
    assert done[-1] == path


@pytest.mark.guarantee("checkpoints")
@pytest.mark.parametrize("deleted", [0, 1, 2, 3])
def test_deleting_may_be_cut_short_at_any_moment(tmp_path, snapshots, monkeypatch, deleted):
    for snapshot in snapshots[:3]:
        write_checkpoint(tmp_path, snapshot, ABOUT)
    real, count = Path.unlink, iter(range(100))

    def unlink(path, *rest, **options):
        if next(count) == deleted:
            raise KeyboardInterrupt
        real(path, *rest, **options)

    monkeypatch.setattr(Path, "unlink", unlink)
    monkeypatch.setattr(checkpoints.Checkpoint, "score", 0.0)
    with pytest.raises(KeyboardInterrupt):
        delete_old(tmp_path, 1)
    found, wrong = checkpoints_in(tmp_path)
    assert len(found) == 3 - (deleted + 1) // 2
    for checkpoint in found:
        read_checkpoint(checkpoint.path)
    assert wrong == []


def test_the_last_few_are_kept_and_the_best(tmp_path, snapshots, monkeypatch):
    logits = {}
    for number, snapshot in enumerate(snapshots):
        path = write_checkpoint(tmp_path, snapshot, ABOUT)
        logits[path] = 0.9 if number == 1 else 0.5
    monkeypatch.setattr(checkpoints.Checkpoint, "score", property(lambda self: logits[self.path]))
    assert len(logits) == 4
    delete_old(tmp_path, 2)
    found, wrong = checkpoints_in(tmp_path)
    assert [one.step for one in found] == [snapshots[3].step, snapshots[2].step, snapshots[1].step]
    assert wrong == []
    assert len(list(tmp_path.glob("*.safetensors"))) == 3


def test_another_format_is_refused_with_its_name(tmp_path, snapshots, monkeypatch):
    monkeypatch.setattr(checkpoints, "FORMAT", "xpnet-checkpoint-9")
    path = write_checkpoint(tmp_path, snapshots[0], ABOUT)
    monkeypatch.undo()
    with pytest.raises(RunError, match="has the format xpnet-checkpoint-9, which this version"):
        read_checkpoint(path)


class TestNetworks:
    """The network of a checkpoint, such as the best of a run."""

    @pytest.fixture
    def run(self, blobs, tmp_path):
        network = Network(xpnet.NetworkConfig(inputs=12, classes=4, hidden=(5,)), seed=[4, 7])
        networks = {}

        def save(point):
            about = {"network": network.description()}
            path = write_checkpoint(tmp_path / "c", point.state(), about, {"mean": np.zeros(12), "std": np.ones(12)})
            network.save(tmp_path / f"{path.stem}.safetensors")
            networks[path] = network.predict_proba(blobs.test.x[:9], standardised=True)

        train(network, blobs, xpnet.TrainConfig(epochs=3), callbacks=[Calls(on_checkpoint=save)])
        return networks

    def test_it_is_the_network_of_that_moment(self, run, blobs):
        assert len(run) == 3
        for path, expected in run.items():
            again = xpnet.load(path)
            np.testing.assert_array_equal(again.predict_proba(blobs.test.x[:9], standardised=True), expected)
            assert again.seeds == (4, 7)
            assert again.class_names == blobs.class_names
            np.testing.assert_array_equal(again.standardiser.std, np.ones(12))

    def test_what_does_not_say_its_network_or_another_is_refused(self, run, snapshots, tmp_path):
        path = write_checkpoint(tmp_path, snapshots[0], ABOUT)
        with pytest.raises(RunError, match="does not say what network it is of"):
            xpnet.load(path)
        about = read_checkpoint(next(iter(run)))[1]["network"]
        for change, message in (
            ({"config": about["config"] | {"hidden": [6]}}, r"parameters.W1 is float32 \(3, 12, 5\), not float32"),
            ({"seeds": [1]}, "it has 1 seeds for 3 networks"),
            ({"seeds": "all"}, "network: seeds: must be a list, and is 'all'"),
            ({"run": 1}, "network: has the key run"),
        ):
            with pytest.raises(RunError, match=message):
                xpnet.load(write_checkpoint(tmp_path, snapshots[0], {"network": about | change}))
        with pytest.raises(RunError, match="there is no such file"):
            xpnet.load(tmp_path / "none.json")
