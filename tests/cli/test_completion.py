"""Completion: what the TAB key offers, and the scripts in the shells themselves."""

from __future__ import annotations

import contextlib
import os
import select
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest
from command_line import CommandLine

from xpnet.cli import completion
from xpnet.cli.parser import make_parser


def offered(command: CommandLine, *words: str) -> list[str]:
    """Return what a script is told to offer for the last of some words."""
    out = command("__complete", *words).out
    return [line.partition("\t")[0] for line in out.partition("\x1fbegin\n")[2].splitlines()]


def make_run(name: str, file: str = "config.toml") -> None:
    Path(name).mkdir(parents=True)
    Path(name, file).touch()


def test_run_folders_are_offered_newest_first_where_a_run_is_asked_for(command):
    for number, name in enumerate(("runs/old", "runs/new", "here")):
        make_run(name)
        os.utime(name, (number, number))
    make_run("runs/search", "search.toml")
    Path("runs/empty").mkdir()
    runs = ["here", "runs/new", "runs/old"]
    asked = (["evaluate"], ["predict"], ["diagnose"], ["train", "--resume"], ["train", "--config"])
    assert all(offered(command, *words, "") == runs for words in asked)
    assert set(offered(command, "report", "")) == {*runs, "runs/search"}
    assert offered(command, "search", "--resume", "") == ["runs/search"]
    assert set(offered(command, "evaluate", "runs/")) == {"runs/old", "runs/new"}
    # Without a run that begins like this, files and folders.
    assert offered(command, "evaluate", "runs/e") == ["runs/empty/", "runs/new/", "runs/old/", "runs/search/"]
    assert offered(command, "evaluate", "nowhere/x") == []


def test_values_of_this_machine_are_offered(command, monkeypatch):
    with monkeypatch.context() as patched:
        patched.setattr(completion.Path, "glob", lambda *_: [Path("/dev/nvidia1"), Path("/dev/nvidia0")])
        assert offered(command, "train", "--device", "") == ["auto", "cpu", "gpu", "gpu:0", "gpu:1"]
    Path("table.csv").touch()
    assert {"cifar10", "patterns", "table.csv"} <= set(offered(command, "train", "--data", ""))
    assert "fast-65" in offered(command, "train", "--recipe", "")
    assert "A.bn3" in offered(command, "reproduce", "")
    assert {"lambda", "lambda-eta", "width"} <= set(offered(command, "search", "lambda", ""))


@pytest.mark.slow
def test_install_completion_writes_the_script_and_what_loads_it(command, monkeypatch):
    monkeypatch.setenv("HOME", str(Path.cwd()))
    out = command("--install-completion", "bash").out
    script = Path(".local/share/bash-completion/completions/xpnet")
    assert str(script) in out
    assert str(script) in Path(".bashrc").read_text()
    assert "complete -F _xpnet xpnet" in script.read_text()
    # A second time changes nothing.
    before = Path(".bashrc").read_text()
    command("--install-completion", "bash")
    assert Path(".bashrc").read_text() == before
    command("--install-completion", "fish", "--output", "own.fish")
    assert not Path(".config").exists()
    assert "own_2.fish" in command.refused("--install-completion", "fish", "--output", "own.fish")
    assert "--output own/_cyclopts_xpnet" in command.refused("--install-completion", "zsh", "--output", "own/xpnet")
    assert "must be bash, zsh or fish" in command.refused("--install-completion", "tcsh")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("there", "added", "said"),
    [
        (None, True, False),  # zsh completes nothing before it is told to
        ("autoload -Uz compinit && compinit", False, False),
        ("source ~/.framework.zsh", False, True),  # which may do it
    ],
)
def test_completion_of_zsh_loads_completions_where_nothing_else_does(command, monkeypatch, there, added, said):
    monkeypatch.setenv("HOME", str(Path.cwd()))
    if there is not None:
        Path(".zshrc").write_text(f"{there}\n")
    for _ in range(2):
        out = command("--install-completion", "zsh").out
        assert ("add a line to ~/.zshrc: autoload -Uz compinit && compinit" in out) == said
    own = "autoload -Uz compinit && compinit"
    lines = Path(".zshrc").read_text().splitlines()
    assert lines[-1] == (own if added else there)
    assert sum(line == own for line in lines) == (added or there == own)


CASES = [
    ("xpnet tr", "train"),
    ("xpnet data f", "fetch"),
    ("xpnet train --sche", "--schedule"),
    ("xpnet train --batch-norm --sche", "--schedule"),
    ("xpnet train --schedule tri", "triangular"),
    ("xpnet gradcheck --choose ra", "random"),
    ("xpnet train --resume runs/n", "runs/new"),
]


@pytest.fixture
def script(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Write the script of a shell, which is skipped where it is not installed, beside a run to be found."""
    shell = request.param
    if shutil.which(shell) is None:
        pytest.skip(f"needs {shell}")
    make_run("runs/new")
    # The scripts call xpnet, which need not be on the path of who runs the tests.
    Path("bin").mkdir()
    Path("bin/xpnet").write_text(f'#!/bin/sh\nexec "{sys.executable}" -m xpnet "$@"\n')
    Path("bin/xpnet").chmod(0o755)
    monkeypatch.setenv("PATH", f"{Path('bin').absolute()}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("HOME", str(Path.cwd()))
    path = Path("_cyclopts_xpnet" if shell == "zsh" else f"xpnet.{shell}")
    path.write_text(make_parser().generate_completion(shell=shell))
    return path.absolute()


@pytest.mark.slow
@pytest.mark.parametrize("script", ["bash"], indirect=True)
def test_bash_completes_commands_options_and_values(script):
    lines = [f'source "{script}"']
    for line, _ in CASES:
        words = line.split(" ")
        lines.append(f"COMP_WORDS=({line}); COMP_CWORD={len(words) - 1}; COMPREPLY=(); _xpnet; echo ${{COMPREPLY[*]}}")
    done = subprocess.run(["bash", "--norc", "-c", "\n".join(lines)], capture_output=True, text=True, check=True)
    assert done.stderr == ""
    assert done.stdout.split() == [expected for _, expected in CASES]


@pytest.mark.slow
@pytest.mark.parametrize("script", ["fish"], indirect=True)
def test_fish_completes_commands_options_and_values(script):
    lines = [f'source "{script}"', *(f'complete -C "{line}" | head -1' for line, _ in CASES)]
    done = subprocess.run(["fish", "--no-config", "-c", "\n".join(lines)], capture_output=True, text=True, check=True)
    assert [line.partition("\t")[0] for line in done.stdout.splitlines()] == [expected for _, expected in CASES]


@pytest.mark.slow
@pytest.mark.parametrize("script", ["zsh"], indirect=True)
def test_zsh_completes_commands_options_and_values(script):
    with Terminal("zsh", "-f", "-i") as zsh:
        zsh.write(f"fpath=({script.parent} $fpath); autoload -Uz compinit; compinit -u -D; PS1=rea''dy\n")
        for line, expected in CASES:
            zsh.wait_for("ready")
            zsh.write(f"{line}\t")
            zsh.wait_for(expected)
            zsh.write("\x15\n")  # Ctrl-U: an empty line


class Terminal:
    """A program in a terminal of its own."""

    def __init__(self, *arguments: str) -> None:
        self._own, other = os.openpty()
        environment = os.environ | {"TERM": "dumb", "COLUMNS": "200"}
        self._process = subprocess.Popen(
            arguments, stdin=other, stdout=other, stderr=other, start_new_session=True, env=environment
        )
        os.close(other)
        self._seen = ""

    def __enter__(self) -> Terminal:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.wait()
        os.close(self._own)

    def write(self, text: str) -> None:
        """Type something; what was shown before is forgotten."""
        self._seen = ""
        os.write(self._own, text.encode())

    def wait_for(self, text: str, seconds: float = 60.0) -> None:
        """Wait until a text has been shown."""
        end = time.monotonic() + seconds
        while text not in self._seen:
            assert time.monotonic() < end, self._seen
            if select.select([self._own], [], [], 1.0)[0]:
                with contextlib.suppress(OSError):
                    self._seen += os.read(self._own, 4096).decode(errors="replace")
