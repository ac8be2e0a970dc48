"""The winner is the network that the search has trained: its figures are those of its file."""

from __future__ import annotations

import json
from functools import partial

import numpy as np
import pytest
from calls import Calls
from search_cases import Died

import xpnet
from xpnet.nn.network import Network
from xpnet.training.device_data import to_device
from xpnet.tuning import open_storage
from xpnet.tuning.kept_networks import FolderStore, NetworkStore


class Recorded(NetworkStore):
    """Keeps networks in memory, and remembers which it has kept."""

    def __init__(self, data) -> None:
        super().__init__(data)
        self.all: list[int] = []
        self.most = 0

    def keep(self, attempt, settings, network, result) -> None:
        super().keep(attempt, settings, network, result)
        self.all.append(attempt)
        self.most = max(self.most, len(self.attempts()))


@pytest.fixture
def warnings() -> list[str]:
    """Return what was reported."""
    return []


@pytest.fixture
def run_in(blobs, begin, warnings):
    """Return a function that runs a search whose networks are kept in a folder."""

    def run_in(folder, storage=None, *, final="same", run=None, **how):
        folder.mkdir(exist_ok=True)
        store = FolderStore(folder, blobs, lambda settings: settings.to_mapping(), {}, warnings.append)
        return begin(storage=storage, final=final, **how).run(store=store, warn=warnings.append, **(run or {}))

    return run_in


@pytest.fixture
def died(run_in, monkeypatch, tmp_path):
    """Return a folder, and the storage, of a search whose worker died over the test set; and what goes on with it."""
    storage = open_storage(None)

    def dies(*_args):
        raise Died

    with monkeypatch.context() as patch:
        patch.setattr("xpnet.tuning.search.with_all_sets", dies)
        with pytest.raises(Died):
            run_in(tmp_path / "s", storage)
    return tmp_path / "s", partial(run_in, storage=storage)


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
def test_winner_is_kept_as_it_was_trained_among_others(blobs, begin, how, dtype):
    store = Recorded(blobs)
    settings = {"max_replicas": 6, "runs": 2, "dtype": dtype, "cycles": 2}
    result = begin(final="same", settings=settings, **how).run(store=store)
    best = result.best
    assert best.attempt in store.all
    assert store.attempts() == [best.attempt]
    assert len(store.all) < len(result.trials)
    assert store.most <= 2  # networks that are beaten are deleted
    data = to_device(blobs, result.network.backend, dtype)
    validation, test = (xpnet.evaluate(result.network, of.x, of.labels) for of in (data.validation, data.test))
    assert (tuple(validation.accuracies), tuple(validation.losses)) == (tuple(best.accuracies), tuple(best.losses))
    assert result.final["validation"]["accuracy"]["values"] == list(best.accuracies)
    assert result.final["trained_again"] is False
    assert result.final["test"]["accuracy"]["values"] == test.accuracies.tolist()
    assert [entry["test"]["loss"] for entry in result.final["replicas"]] == test.losses.tolist()


def test_next_worker_finds_the_winner_in_the_folder(died, warnings):
    folder, go_on = died
    result = go_on(folder)
    assert result.final["trained_again"] is False
    assert warnings == []
    assert sorted(path.name for path in folder.iterdir()) == ["best", "winner"]
    best, winner = (json.loads((folder / name / "metrics.json").read_text()) for name in ("best", "winner"))
    assert winner["test"] == result.final["test"]
    assert winner["validation"]["loss"] == result.best.losses[0]
    assert best["test"]["loss"] is None
    one, two = (Network.load(folder / name) for name in ("best", "winner"))
    np.testing.assert_array_equal(one.parameters["W1"], two.parameters["W1"])


@pytest.mark.parametrize("harm", ["another folder", "a link", "other networks", "damaged"])
def test_winner_without_its_networks_is_trained_again_and_that_is_reported(died, warnings, tmp_path, harm):
    folder, go_on = died
    if harm == "another folder":
        folder = tmp_path / "t"
    elif harm == "a link":
        (folder / "best").rename(tmp_path / "elsewhere")
        (folder / "best").symlink_to(tmp_path / "elsewhere")
    elif harm == "other networks":
        content = json.loads((folder / "best" / "metrics.json").read_text())
        content["validation"]["loss"] += 1e-9
        (folder / "best" / "metrics.json").write_text(json.dumps(content))
    else:
        (folder / "best" / "model.safetensors").write_bytes(b"none")
    result = go_on(folder)
    assert result.final["trained_again"] is True
    (sentence,) = warnings
    assert f"trial {result.best.number} won, and its networks cannot be had" in sentence
    assert sentence.endswith("it is trained again")


def test_full_disk_ends_no_search(run_in, monkeypatch, tmp_path, warnings):
    def full(*_args, **_options):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Network, "save", full)
    assert run_in(tmp_path / "s").final["trained_again"] is True
    assert "could not be kept" in warnings[0]
    assert "No space left" in warnings[0]
    assert not list((tmp_path / "s").iterdir())


def test_networks_of_beaten_trials_are_deleted(run_in, tmp_path):
    storage, folder, taken = open_storage(None), tmp_path / "s", []
    stop = {"callbacks": [Calls(on_steps=taken.append, should_stop=lambda: sum(taken) >= 40)]}
    run_in(folder, storage, final="none", trials=8, settings={"max_replicas": 2}, run=stop)
    (kept,) = (folder / "kept").iterdir()
    assert kept.name.isdecimal()
    (folder / "kept" / "999").mkdir()  # of an unknown attempt: it may be about to end
    assert run_in(folder, storage, final="none", trials=8).outcome.counts()["complete"] == 8
    assert [path.name for path in folder.iterdir()] == ["best"]


def test_link_in_place_of_the_folder_of_networks_is_not_followed(run_in, tmp_path):
    outside, folder = tmp_path / "outside", tmp_path / "s"
    (outside / "7").mkdir(parents=True)
    folder.mkdir()
    (folder / "kept").symlink_to(outside)
    assert run_in(folder).final["trained_again"] is True
    assert [path.name for path in outside.iterdir()] == ["7"]
    assert (outside / "7").is_dir()
