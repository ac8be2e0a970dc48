"""A training in Python shows its progress."""

from __future__ import annotations

import sys
from types import ModuleType, SimpleNamespace

import pytest

import xpnet


def train_with(callback, blobs, **settings):
    net = xpnet.Network(xpnet.NetworkConfig(inputs=12, hidden=(4,), classes=4), replicas=2)
    return xpnet.train(net, blobs, xpnet.TrainConfig(**({"epochs": 3} | settings)), callbacks=[callback])


def notebook(monkeypatch, shell):
    """Let a stand-in for IPython run; return the pictures that it shows."""
    shown = []

    class Handle:
        update = staticmethod(shown.append)

    def display(picture, display_id):
        shown.append(picture)
        return Handle()

    ipython, displays = ModuleType("IPython"), ModuleType("IPython.display")
    ipython.get_ipython = lambda: shell
    displays.display, displays.HTML = display, str
    monkeypatch.setitem(sys.modules, "IPython", ipython)
    monkeypatch.setitem(sys.modules, "IPython.display", displays)
    return shown


@pytest.mark.parametrize("validation", [True, False])
def test_progress_shows_steps_and_losses(blobs, capsys, validation):
    result = train_with(xpnet.Progress(validation=validation), blobs)
    text = capsys.readouterr().err
    assert f"{result.steps}/{result.steps}" in text
    assert "epoch=3" in text
    assert f"train loss={result.history['train_loss'][-1].mean():.4f}" in text
    assert ("validation loss=" in text) == validation


@pytest.mark.parametrize(("shell", "count"), [(SimpleNamespace(kernel=1), 3), (SimpleNamespace(), 0), (None, 0)])
def test_progress_draws_a_curve_in_notebooks_alone(blobs, monkeypatch, capsys, shell, count):
    shown = notebook(monkeypatch, shell)
    train_with(xpnet.Progress(), blobs)
    assert len(shown) == count
    assert all("train loss" in picture and picture.count("<polyline") == 2 for picture in shown)


def test_progress_counts_on_after_an_earlier_training(blobs, capsys):
    states = []

    class Keep(xpnet.Callback):
        def on_checkpoint(self, point):
            states.append(point.state())

    net = xpnet.Network(xpnet.NetworkConfig(inputs=12, hidden=(4,), classes=4))
    config = xpnet.TrainConfig(epochs=3)
    steps = xpnet.train(net, blobs, config, callbacks=[Keep()]).steps
    xpnet.train(net, blobs, config, callbacks=[progress := xpnet.Progress()], start=states[0])
    assert f"{steps}/{steps}" in capsys.readouterr().err
    progress.close()


def test_progress_counts_the_steps_of_all_chunks(blobs, capsys):
    settings = xpnet.Settings.from_mapping({"hidden": [4], "runs": 4, "epochs": 2})
    population = xpnet.Population.of(settings, blobs.inputs, blobs.classes)
    _, result = xpnet.train_population(population, blobs, max_replicas=2, callbacks=[xpnet.Progress()])
    assert f"{2 * result.steps}/{2 * result.steps}" in capsys.readouterr().err


def test_progress_closes_its_bar_when_asked(blobs, capsys):
    class Raises(xpnet.Progress):
        def on_epoch_end(self, record):
            raise KeyError

    callback = Raises()
    with pytest.raises(KeyError):
        train_with(callback, blobs)
    callback.close()
    callback.close()
