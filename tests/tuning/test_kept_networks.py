"""The winner is the network that the search has trained: what is said of it is what its file gives."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from search_cases import SMALL, Died, session

import xpnet
from xpnet.nn.network import Network
from xpnet.training.device_data import to_device
from xpnet.tuning import open_storage
from xpnet.tuning import winner as winner_module
from xpnet.tuning import worker as worker_module
from xpnet.tuning.kept_networks import FolderStore, NetworkStore


@pytest.fixture(autouse=True)
def _no_waiting(monkeypatch):
    monkeypatch.setattr(worker_module, "_SECONDS_TO_WAIT", 0.01)
    monkeypatch.setattr(winner_module, "_SECONDS_TO_WAIT", 0.01)


class Recorded(NetworkStore):
    """Keeps networks in memory, and remembers what it has kept."""

    def __init__(self, data) -> None:
        super().__init__(data)
        self.all: list[int] = []
        self.most = 0

    def keep(self, attempt, settings, network, result) -> None:
        super().keep(attempt, settings, network, result)
        self.all.append(attempt)
        self.most = max(self.most, len(self.attempts()))


def in_folder(folder: Path, data, told: list[str] | None = None) -> FolderStore:
    """Return what keeps networks in a folder, and tells into a list what it could not keep."""
    folder.mkdir(exist_ok=True)
    return FolderStore(
        folder, data, lambda settings: settings.to_mapping(), {}, (told if told is not None else []).append
    )


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(
    "how",
    [
        {"trials": 12},
        {"rounds": 2, "round_cycles": (3, 1)},
        {"rounds": 2, "round_cycles": (1, 3)},
        {"trials": 8, "prune": "median"},
    ],
)
def test_the_winner_is_kept_as_it_was_trained_among_others(blobs, how, dtype):
    store = Recorded(blobs)
    settings = {"max_replicas": 6, "runs": 2, "dtype": dtype, "cycles": 2}
    result = session(blobs, final="same", settings=settings, **how).run(store=store)
    best = result.best
    assert best.attempt in store.all
    assert store.attempts() == [best.attempt]
    assert len(store.all) < len(result.trials)
    assert store.most <= 2  # what is beaten is forgotten
    there = to_device(blobs, result.network.backend, dtype)
    found = xpnet.evaluate(result.network, there.validation.x, there.validation.labels)
    assert tuple(found.accuracies) == tuple(best.accuracies)
    assert tuple(found.losses) == tuple(best.losses)
    assert result.final["validation"]["accuracy"]["values"] == list(best.accuracies)
    assert result.final["trained_again"] is False
    test = xpnet.evaluate(result.network, there.test.x, there.test.labels)
    assert result.final["test"]["accuracy"]["values"] == test.accuracies.tolist()
    assert [entry["test"]["loss"] for entry in result.final["replicas"]] == test.losses.tolist()


def test_whoever_finishes_the_search_finds_the_winner_in_the_folder(blobs, monkeypatch, tmp_path):
    storage, told = open_storage(None), []

    def dies(*_args):
        raise Died

    with monkeypatch.context() as patch:
        patch.setattr("xpnet.tuning.study.with_all_sets", dies)
        with pytest.raises(Died):
            session(blobs, storage=storage, final="same").run(store=in_folder(tmp_path / "s", blobs))
    last = session(blobs, storage=storage, final="same")
    result = last.run(store=in_folder(tmp_path / "s", blobs), warn=told.append)
    assert result.final["trained_again"] is False
    assert told == []
    assert sorted(path.name for path in (tmp_path / "s").iterdir()) == ["best", "winner"]
    metrics = json.loads((tmp_path / "s" / "winner" / "metrics.json").read_text())
    assert metrics["test"] == result.final["test"]
    assert metrics["validation"]["loss"] == result.best.losses[0]
    assert json.loads((tmp_path / "s" / "best" / "metrics.json").read_text())["test"]["loss"] is None
    one, two = (Network.load(tmp_path / "s" / name) for name in ("best", "winner"))
    np.testing.assert_array_equal(one.parameters["W1"], two.parameters["W1"])


@pytest.mark.parametrize("harm", ["another folder", "a link", "other networks", "damaged"])
def test_a_winner_whose_networks_are_not_here_is_trained_again_and_that_is_said(blobs, monkeypatch, tmp_path, harm):
    storage, told, folder = open_storage(None), [], tmp_path / "s"

    def dies(*_args):
        raise Died

    with monkeypatch.context() as patch:
        patch.setattr("xpnet.tuning.study.with_all_sets", dies)
        with pytest.raises(Died):
            session(blobs, storage=storage, final="same").run(store=in_folder(folder, blobs))
    if harm == "another folder":
        folder = tmp_path / "t"
    elif harm == "a link":
        (folder / "best").rename(tmp_path / "elsewhere")
        (folder / "best").symlink_to(tmp_path / "elsewhere")
    elif harm == "other networks":
        text = (folder / "best" / "metrics.json").read_text()
        content = json.loads(text)
        content["validation"]["loss"] += 1e-9
        (folder / "best" / "metrics.json").write_text(json.dumps(content))
    else:
        (folder / "best" / "model.safetensors").write_bytes(b"none")
    result = session(blobs, storage=storage, final="same").run(store=in_folder(folder, blobs), warn=told.append)
    assert result.final["trained_again"] is True
    assert len(told) == 1
    assert f"trial {result.best.number} won, and its networks cannot be had" in told[0]
    assert told[0].endswith("it is trained again")


def test_a_disk_that_takes_no_networks_ends_no_search(blobs, monkeypatch, tmp_path):
    told: list[str] = []

    def full(*_args, **_options):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Network, "save", full)
    result = session(blobs, final="same").run(store=in_folder(tmp_path / "s", blobs, told), warn=told.append)
    assert result.final["trained_again"] is True
    assert "could not be kept" in told[0]
    assert "No space left" in told[0]
    assert not list((tmp_path / "s").iterdir())


def test_networks_of_trials_that_others_have_beaten_are_deleted(blobs, tmp_path):
    storage, folder = open_storage(None), tmp_path / "s"
    one = session(blobs, storage=storage, trials=8, settings={"max_replicas": 2})
    taken: list[int] = []
    one.run(store=in_folder(folder, blobs), on_steps=taken.append, should_stop=lambda: sum(taken) >= 40)
    (kept,) = (folder / "kept").iterdir()
    (folder / "kept" / "999").mkdir()  # of an attempt that nobody knows: it may be about to end
    result = session(blobs, storage=storage, trials=8).run(store=in_folder(folder, blobs))
    assert result.outcome.counts()["complete"] == 8
    assert [path.name for path in folder.iterdir()] == ["best"]
    assert kept.name.isdecimal()


def test_a_winner_that_is_asked_for_on_more_data_is_trained_again():
    settings = {"data": "patterns:1000/300", "hidden": [5], "n_s": 3, "split": "500/100"}
    result = xpnet.search("lambda", settings=settings, trials=2, final="900/50")
    assert result.final["trained_again"] is True
    assert result.network is not None
    assert SMALL["hidden"] == list(result.network.config.hidden)


def test_a_folder_that_holds_a_link_for_its_networks_is_not_followed(blobs, tmp_path):
    outside = tmp_path / "outside"
    (outside / "7").mkdir(parents=True)
    folder = tmp_path / "s"
    folder.mkdir()
    (folder / "kept").symlink_to(outside)
    result = session(blobs, final="same").run(store=in_folder(folder, blobs), warn=lambda _: None)
    assert (outside / "7").is_dir()
    assert [path.name for path in outside.iterdir()] == ["7"]
    assert result.final["trained_again"] is True
    shutil.rmtree(outside)
