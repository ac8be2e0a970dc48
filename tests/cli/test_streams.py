"""Standard streams that are closed, gone, full or of few letters end no training, and hide no exit code."""

from __future__ import annotations

import io
import json
import os
import re
import signal
import sys
from pathlib import Path
from typing import Any

import pytest
from calls import Calls
from command_line import code_of

from xpnet.errors import RunError
from xpnet.training.train_population import train_population
from xpnet.utils.atomic_files import replace_whole

SMALL = ("--data", "patterns:600/100", "--hidden", "8", "--epochs", "3", "--seed", "3")


class Gone(io.StringIO):
    """A stream of which nobody reads the other end, or whose disk is full."""

    def write(self, _: str) -> int:
        raise BrokenPipeError(32, "Broken pipe")


def figures(run: str) -> dict[str, Any]:
    return json.loads(Path(run, "metrics.json").read_text())


@pytest.fixture(params=["*", "step-*.json"])
def full_disk(monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> None:
    """Let nothing of a checkpoint be written, or its tensors alone."""

    def full(path, content):
        if path.parent.name == "0-1" and path.match(request.param):
            raise OSError(28, "No space left on device")
        replace_whole(path, content)

    monkeypatch.setattr("xpnet.runs.checkpoints.replace_whole", full)


@pytest.fixture
def stopped(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let SIGTERM come after the eighth step."""
    taken = []

    def with_a_signal(*arguments, callbacks, **options):
        def count(steps):
            taken.append(steps)
            if sum(taken) >= 8 > sum(taken[:-1]):
                os.kill(os.getpid(), signal.SIGTERM)

        return train_population(*arguments, callbacks=[Calls(on_steps=count), *callbacks], **options)

    monkeypatch.setattr("xpnet.runs.experiment.train_population", with_a_signal)


@pytest.mark.guarantee("full-disk")
def test_warning_on_a_stream_that_is_gone_ends_nothing(monkeypatch, harm):
    monkeypatch.setattr(sys, "stderr", Gone())
    assert code_of("train", *SMALL, "--eta", ".1,1e30", "--schedule", "constant", "--out", "run") == 0
    harm.did("standard streams that were gone")
    assert figures("run")["replicas"][1]["diverged_at"] >= 0
    assert Path("run/model.safetensors").exists()


@pytest.mark.guarantee("full-disk")
@pytest.mark.usefixtures("full_disk")
def test_disk_that_holds_the_log_too_ends_nothing(monkeypatch, harm):
    """The warning about a save that failed fails as well."""
    monkeypatch.setattr(sys, "stderr", Gone())
    assert code_of("train", *SMALL, "--out", "run") == 2
    harm.did("standard streams that were gone")
    assert figures("run")["epochs"] == 3


@pytest.mark.guarantee("full-disk")
@pytest.mark.usefixtures("full_disk")
def test_missing_checkpoints_are_reported_though_standard_output_is_gone(monkeypatch, command):
    monkeypatch.setattr(sys, "stdout", Gone())
    assert "run: was not saved 3 times" in command("train", *SMALL, "--out", "run", code=2).err


@pytest.mark.guarantee("signals")
@pytest.mark.parametrize("name", ["stdout", "stderr"])
@pytest.mark.usefixtures("stopped")
def test_signal_saves_though_a_stream_is_gone(monkeypatch, command, harm, name):
    monkeypatch.setattr(sys, name, Gone())
    err = command("train", *SMALL, "--out", "run", code=143).err
    harm.did("signals sent")
    assert figures("run")["interrupted"]
    assert list(Path("run/checkpoints/0-1").glob("step-*.json"))
    assert name == "stderr" or "go on with: xpnet train --resume run" in err


@pytest.mark.parametrize("name", ["stdout", "stderr"])
def test_streams_that_were_closed_stay_closed(monkeypatch, command, name):
    monkeypatch.setattr(sys, name, None)
    out = command("train", *SMALL, "--json", "--out", "run").out
    assert getattr(sys, name) is None
    assert figures("run")["epochs"] == 3
    if name == "stderr":  # print takes standard output where there is no other file
        assert json.loads(out)["epochs"] == 3


def test_console_of_few_letters_gets_their_escapes(monkeypatch):
    taken = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(taken, encoding="ascii"))
    assert code_of("train", *SMALL, "--runs", "2", "--out", "run") == 0
    sys.stdout.flush()
    text = taken.getvalue().decode("ascii")
    assert re.search(r"\d \\xb1 \d", text)
    assert "run folder: run" in text


def test_sigterm_ends_other_commands_in_order(monkeypatch, command, trained):
    trained(*SMALL)
    monkeypatch.setattr("xpnet.analysis.prediction.read_any", lambda *_, **__: os.kill(os.getpid(), signal.SIGTERM))
    assert command("evaluate", "run", code=143).err.splitlines()[-1] == "xpnet: terminated"


@pytest.mark.guarantee("signals")
def test_signal_while_results_are_written_waits_for_them(monkeypatch, command, harm):
    monkeypatch.setattr("xpnet.cli.train_in_folder.write_figures", lambda *_: os.kill(os.getpid(), signal.SIGTERM))
    err = command("train", *SMALL, "--out", "run").err
    harm.did("signals sent")
    assert "writing the results; press Ctrl-C again to leave at once" in err
    assert "training was over: nothing is left to go on with" in err
    assert not figures("run")["interrupted"]


@pytest.mark.pictures
@pytest.mark.parametrize("error", [None, "spawned"])
def test_curves_that_cannot_be_drawn_cost_a_line(monkeypatch, command, error):
    monkeypatch.setattr("xpnet.report.drawing_process.started", lambda: None)
    if error is None:  # altair, where docstrings are stripped
        monkeypatch.setattr("xpnet.report.curves_chart.curves", lambda *_: {}["no doc"])
    else:  # as where addresses are limited: another process draws, and ends
        monkeypatch.setattr("xpnet.report.render._limited", lambda: True)
        monkeypatch.setattr("xpnet.report.render._DRAW", "import os, signal; os.kill(os.getpid(), signal.SIGTRAP)")
    done = command("train", *SMALL, "--out", "run")
    assert "warning: the figures cannot be drawn (" in done.err
    assert ("charts cannot be drawn here: what draws them reserves" in done.err) == (error is not None)
    assert "test" in done.out
    assert not figures("run")["interrupted"]
    assert not list(Path("run").glob("curves*"))


def test_run_whose_settings_cannot_be_written_leaves_no_folder(monkeypatch, command):
    def full(*_):
        raise RunError("run/config.toml: cannot be written (No space left on device)")

    with monkeypatch.context() as patch:
        patch.setattr("xpnet.runs.folder.write_config", full)
        assert "No space left on device" in command.refused("train", *SMALL, "--out", "run", notes=True)
    assert not Path("run").exists()
