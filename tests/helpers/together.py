"""Processes that begin at the same moment, so that what they do truly meets."""

from __future__ import annotations

import contextlib
import json
import os
import select
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

# Time to hear of the moment at which all begin.
_LEAD = 0.02
_PATIENCE = 120.0
_SCRIPT = """
import contextlib, io, json, os, sys, time
from xpnet.cli import main
for line in sys.stdin:
    asked = json.loads(line)
    os.chdir(asked["folder"])
    out, err, code = io.StringIO(), io.StringIO(), 0
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        while time.monotonic() < asked["at"]:
            pass
        try:
            if asked["python"] is None:
                main(asked["arguments"])
            else:
                exec(asked["python"], {"arguments": asked["arguments"]})
        except SystemExit as stop:
            code = int(stop.code or 0)
    print(json.dumps([code, out.getvalue(), err.getvalue()]), flush=True)
"""
# A reproduction of a second.
REPRODUCE = """
import xpnet
from contextlib import ExitStack
from unittest.mock import patch
from xpnet.cli import main
small = xpnet.load_data("patterns:600/100")
with ExitStack() as stack:
    stack.enter_context(patch("xpnet.reproduction.runner.QUICK_FACTOR", 100))
    for place in ("xpnet.data", "xpnet.reproduction.runner"):  # it passes for CIFAR-10
        stack.enter_context(patch(f"{place}.load_data", lambda source, split: small))
    main(["reproduce", "D.model1", "--quick", *arguments])
"""


class Done(NamedTuple):
    """How a command ended, and what it printed."""

    code: int
    out: str
    err: str

    @property
    def sentence(self) -> str:
        """What is wrong, which is one line; empty if nothing is."""
        if self.code == 0:
            return ""
        lines = self.err.splitlines()
        assert self.code == 2, self
        assert "Traceback" not in self.err, self.err
        assert lines[-1].startswith("xpnet: "), self.err
        return lines[-1].removeprefix("xpnet: ")


class Caller:
    """A process that carries out commands of xpnet, or Python, one after another."""

    def __init__(self, **environment: str) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-c", _SCRIPT],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "XPNET_FAST": "0", "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"} | environment,
        )

    def ask(self, *arguments: Any, python: str | None = None, at: float = 0.0) -> None:
        """Let the process carry out a command, in the folder that this one is in now."""
        asked = {"arguments": [str(a) for a in arguments], "python": python, "at": at, "folder": str(Path.cwd())}
        self._process.stdin.write(json.dumps(asked) + "\n")
        self._process.stdin.flush()

    def answer(self) -> Done:
        """Wait until the command has ended."""
        assert self.has_ended(_PATIENCE), "the command does not end"
        line = self._process.stdout.readline()
        assert line, f"the process ended with {self._process.wait()}"
        return Done(*json.loads(line))

    def has_ended(self, wait: float = 0.0) -> bool:
        """Return whether the command has ended, after waiting for it some seconds at most."""
        return bool(select.select([self._process.stdout], [], [], wait)[0])

    def call(self, *arguments: Any, python: str | None = None) -> Done:
        """Carry out a command and wait for it."""
        self.ask(*arguments, python=python)
        return self.answer()

    def kill(self) -> None:
        """End the process as a machine does that fails."""
        self._process.kill()
        self._process.communicate()


def at_once(callers: Sequence[Caller], *commands: Sequence[Any], python: str | None = None) -> list[Done]:
    """Let each process carry out its command, all from the same moment on."""
    at = time.monotonic() + _LEAD
    for caller, command in zip(callers, commands, strict=True):
        caller.ask(*command, python=python, at=at)
    return [caller.answer() for caller in callers]


@contextlib.contextmanager
def ready(*arguments: str, folder: Path | None = None) -> Iterator[list[Caller]]:
    """Yield three processes that have carried out a command, so that none is held up by its imports.

    Args:
        arguments: The command.
        folder: Where each gets a new folder as last argument; none if not given.
    """
    made = [Caller() for _ in range(3)]
    try:
        for number, caller in enumerate(made):
            caller.ask(*arguments, *([] if folder is None else [folder / str(number)]))
        for caller in made:
            assert caller.answer().code == 0
        yield made
    finally:
        for caller in made:
            caller.kill()
