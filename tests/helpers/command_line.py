"""The command line, run in this process."""

from __future__ import annotations

import json
from typing import Any, NamedTuple

import pytest

from xpnet.cli import main

SMALL = ["--data", "patterns:600/100", "--epochs", "2", "--hidden", "8"]


class Done(NamedTuple):
    """How a command ended: its exit code, standard output and standard error."""

    code: int
    out: str
    err: str


def code_of(*arguments: str) -> int:
    """Run the command line in this process and return its exit code."""
    try:
        main(arguments)
    except SystemExit as stop:
        return int(stop.code or 0)
    return 0


def run(capsys: pytest.CaptureFixture[str], *arguments: str) -> Done:
    """Run the command line in this process."""
    code = code_of(*arguments)
    return Done(code, *capsys.readouterr())


class CommandLine:
    """Runs commands in this process and checks how they end."""

    def __init__(self, capsys: pytest.CaptureFixture[str]) -> None:
        self._capsys = capsys

    def __call__(self, *arguments: str, code: int = 0) -> Done:
        """Run a command, which must exit with `code`."""
        done = run(self._capsys, *arguments)
        assert done.code == code, done.err
        return done

    def json(self, *arguments: str, code: int = 0) -> Any:
        """Run a command with ``--json`` and return its result."""
        return json.loads(self(*arguments, "--json", code=code).out)

    def refused(self, *arguments: str, notes: bool = False) -> str:
        """Run a command that must exit with 2 and print one sentence, which is returned, alone or after `notes`."""
        done = self(*arguments, code=2)
        assert done.out == ""
        assert "Traceback" not in done.err
        *before, sentence = done.err.strip().splitlines()
        assert notes or not before, done.err
        assert sentence.startswith("xpnet: ")
        return sentence.removeprefix("xpnet: ")
