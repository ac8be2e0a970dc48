"""Figures that another process draws, and what happens when it does not."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

import xpnet
from xpnet.report import drawing_process, render
from xpnet.report.drawing_process import Drawer, started
from xpnet.report.figure_files import drawn
from xpnet.training.history import History

START = started  # tests replace it


@pytest.fixture
def history() -> History:
    data = xpnet.load_data("patterns:60/20")
    network = xpnet.Network(xpnet.NetworkConfig(inputs=data.inputs, hidden=(3,)))
    return xpnet.train(network, data, xpnet.TrainConfig(epochs=2, batch_size=20)).history


def gone() -> subprocess.Popen[bytes]:
    """Return a process that ends when it is asked something."""
    command = [sys.executable, "-S", "-c", "import sys; sys.stdin.buffer.read(1)"]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)


@pytest.mark.slow
@pytest.mark.pictures
def test_process_draws_what_this_one_draws(history):
    with Drawer(("svg", "png")) as drawer:
        process = drawer._process
        pending = [drawer.draw("curves", history, title) for title in ("one", "two")]
        files = [one.files() for one in pending]
        assert os.getpgid(process.pid) != os.getpgid(0)  # Ctrl-C ends this one alone
        with pytest.raises(render.DrawingError, match="Error"):
            drawer.draw("no such chart").files()
    assert process.returncode is not None
    assert files == [drawn("curves", history, title, ("svg", "png")) for title in ("one", "two")]
    assert list(files[0]) == ["curves.svg", "curves.png"]
    assert files[0] != files[1]


def test_figures_are_drawn_here_if_the_process_is_gone(monkeypatch, history):
    monkeypatch.setattr(drawing_process, "started", gone)
    with Drawer(("svg",)) as drawer:
        files = [drawer.draw("curves", history, title).files() for title in ("one", "two")]
    assert files == [drawn("curves", history, title, ("svg",)) for title in ("one", "two")]


def test_without_kinds_nothing_begins(monkeypatch):
    monkeypatch.setattr(drawing_process, "started", lambda: pytest.fail("a process"))
    with Drawer(()) as drawer:
        assert drawer.kinds == ()


@pytest.mark.parametrize("executable", ["", "/nowhere/python"])
def test_no_process_begins_where_none_can(monkeypatch, executable):
    monkeypatch.setattr(sys, "executable", executable)
    assert START() is None


def test_answer_is_the_reason_where_nothing_can_be_drawn(monkeypatch):
    assert drawing_process._answer("curves", (None, "title", ())) == (
        False,
        "TypeError: 'NoneType' object is not subscriptable",
    )

    def full(*_):
        raise MemoryError

    monkeypatch.setattr(drawing_process, "drawn", full)
    assert drawing_process._answer("curves", ()) == (False, "MemoryError")
