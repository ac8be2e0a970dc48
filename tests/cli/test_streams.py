"""Standard streams that are closed, gone, full or of few letters end no training, and hide no exit code."""

from __future__ import annotations

import io
import json
import os
import signal
import subprocess
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
def test_a_warning_that_nobody_hears_ends_nothing(monkeypatch, harm):
    monkeypatch.setattr(sys, "stderr", Gone())
    assert code_of("train", *SMALL, "--eta", ".1,1e30", "--schedule", "constant", "--out", "run") == 0
    harm.did("standard streams that were gone")
    assert figures("run")["replicas"][1]["diverged_at"] >= 0
    assert Path("run/model.safetensors").exists()


@pytest.mark.guarantee("full-disk")
def test_a_disk_that_holds_the_log_too_ends_nothing(monkeypatch, harm):
    """The warning about a save that failed fails as well."""

    def full(path, content):
        if path.suffix == ".json" and path.name.startswith("step-"):
            raise OSError(28, "No space left on device")
        replace_whole(path, content)

    monkeypatch.setattr("xpnet.runs.checkpoints.replace_whole", full)
    monkeypatch.setattr(sys, "stderr", Gone())
    assert code_of("train", *SMALL, "--out", "run") == 2
    harm.did("standard streams that were gone")
    assert figures("run")["epochs"] == 3


@pytest.mark.guarantee("signals")
@pytest.mark.parametrize("name", ["stdout", "stderr"])
@pytest.mark.usefixtures("stopped")
def test_a_signal_saves_though_a_stream_is_gone(monkeypatch, capsys, harm, name):
    monkeypatch.setattr(sys, name, Gone())
    assert code_of("train", *SMALL, "--out", "run") == 143
    harm.did("signals sent")
    assert figures("run")["interrupted"]
    assert list(Path("run/checkpoints/0-1").glob("step-*.json"))
    if name == "stdout":
        assert "go on with: xpnet train --resume run" in capsys.readouterr().err


@pytest.mark.guarantee("full-disk")
def test_what_could_not_be_saved_is_said_though_nobody_takes_the_result(monkeypatch, capsys):
    def full(path, content):
        if path.parent.name == "0-1":
            raise OSError(28, "No space left on device")
        replace_whole(path, content)

    monkeypatch.setattr("xpnet.runs.checkpoints.replace_whole", full)
    monkeypatch.setattr(sys, "stdout", Gone())
    assert code_of("train", *SMALL, "--out", "run") == 2
    assert "run: was not saved 3 times" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["stdout", "stderr"])
def test_streams_that_were_closed_are_nobodys(monkeypatch, capsys, name):
    monkeypatch.setattr(sys, name, None)
    assert code_of("train", *SMALL, "--json", "--out", "run") == 0
    assert getattr(sys, name) is None
    said = capsys.readouterr()
    assert figures("run")["epochs"] == 3
    if name == "stderr":  # print takes standard output where there is no other file
        assert json.loads(said.out)["epochs"] == 3


def test_a_console_of_few_letters_gets_their_escapes(monkeypatch):
    taken = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(taken, encoding="ascii"))
    assert code_of("train", *SMALL, "--out", "run") == 0
    sys.stdout.flush()
    said = taken.getvalue().decode("ascii")
    assert r"with BN, \u03bb = 0.005" in said
    assert "run folder: run" in said


def test_sigterm_ends_other_commands_in_order(tmp_path):
    assert code_of("train", *SMALL, "--out", "run") == 0
    waiting = tmp_path / "waits.py"
    waiting.write_text(
        "import os, signal, xpnet.data\n"
        "from xpnet.cli import main\n"
        "xpnet.data.load_data = lambda *_, **__: os.kill(os.getpid(), signal.SIGTERM)\n"
        "main(['evaluate', 'run'])\n"
    )
    done = subprocess.run([sys.executable, waiting], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr.splitlines()[-1]) == (143, "xpnet: terminated")


@pytest.mark.guarantee("signals")
def test_a_signal_while_results_are_written_waits_for_them(monkeypatch, capsys, harm):
    monkeypatch.setattr("xpnet.cli.train._draw", lambda *_: os.kill(os.getpid(), signal.SIGTERM))
    assert code_of("train", *SMALL, "--out", "run") == 0
    harm.did("signals sent")
    said = capsys.readouterr().err
    assert "writing the results; press Ctrl-C again to leave at once" in said
    assert "training was over: nothing is left to go on with" in said
    assert not figures("run")["interrupted"]


@pytest.mark.pictures
@pytest.mark.parametrize("error", [None, "spawned"])
def test_curves_that_cannot_be_drawn_cost_a_line(monkeypatch, capsys, error):
    if error is None:  # altair, where docstrings are stripped
        monkeypatch.setattr("xpnet.report.curves_chart.curves", lambda *_: {}["no doc"])
    else:  # as where addresses are limited: another process draws, and ends
        monkeypatch.setattr("xpnet.report.render._limited", lambda: True)
        monkeypatch.setattr("xpnet.report.render._DRAW", "import os, signal; os.kill(os.getpid(), signal.SIGTRAP)")
    assert code_of("train", *SMALL, "--out", "run") == 0
    said = capsys.readouterr()
    assert "warning: the figures cannot be drawn (" in said.err
    assert ("charts cannot be drawn here: what draws them reserves" in said.err) == (error is not None)
    assert "test" in said.out
    assert not figures("run")["interrupted"]
    assert not list(Path("run").glob("curves*"))


@pytest.mark.pictures
def test_another_process_draws_the_same(monkeypatch):
    from xpnet.report.render import png, svg

    spec = {"data": {"values": [{"a": 1}]}, "mark": "point", "encoding": {"x": {"field": "a"}}}
    here = svg(spec), png(spec, 2)
    monkeypatch.setattr("xpnet.report.render._limited", lambda: True)
    assert (svg(spec), png(spec, 2)) == here


def test_a_run_whose_settings_cannot_be_written_leaves_no_folder(monkeypatch, capsys):
    def full(*_):
        raise RunError("run/config.toml: cannot be written (No space left on device)")

    with monkeypatch.context() as patch:
        patch.setattr("xpnet.runs.folder.write_config", full)
        assert code_of("train", *SMALL, "--out", "run") == 2
    assert "No space left on device" in capsys.readouterr().err
    assert not Path("run").exists()


def test_a_chart_that_another_process_refuses_is_named(monkeypatch):
    from xpnet.report.render import DrawingError, converted

    monkeypatch.setattr("xpnet.report.render._limited", lambda: True)
    with pytest.raises(DrawingError, match=r"^a chart cannot be drawn \(ValueError: Vega-Lite to SVG"):
        converted("vegalite_to_svg", {"mark": 7})


def test_a_panic_of_what_draws_is_an_error_that_can_be_caught(monkeypatch):
    from xpnet.report import render

    class PanicException(BaseException):
        """As Rust's, which is no Exception."""

    def panic(*_, **__):
        raise PanicException("called `Result::unwrap()` on an `Err` value")

    monkeypatch.setattr("vl_convert.vegalite_to_svg", panic)
    monkeypatch.setattr(render, "_limited", lambda: False)
    with pytest.raises(render.DrawingError, match="a chart cannot be drawn"):
        render.converted("vegalite_to_svg", {})
