"""A process that draws figures while another one computes, so that nobody waits for the libraries that draw.

They take about a second to load.  The process loads them while a training is at its work, reads what is to be drawn
from its standard input, and writes the finished files to its standard output.  It writes nothing to disk: the process
that asks does, as it writes all other results.
"""

from __future__ import annotations

import contextlib
import os
import pickle
import subprocess
import sys
import threading
from collections.abc import Sequence
from typing import Any, BinaryIO

from xpnet.report import render
from xpnet.report.figure_files import drawn

# How far it stands back behind a training, in Unix's units of niceness.
_NICE = 5
_LENGTH = 8  # bytes of the length before each message
# Modules are looked for where this process finds them, and not in the working folder.
_PROGRAM = "import sys; sys.path[:] = {path!r}; from xpnet.report.drawing_process import main; main()"


class Drawer:
    """Draws figures in a process of its own; in this one if there is no other.

    The process begins at once, ignores the keys that stop this one, and ends with it.

    Args:
        kinds: Kinds of pictures, "png" or "svg"; without any, nothing is drawn and no process begins.
    """

    def __init__(self, kinds: Sequence[str]) -> None:
        self.kinds = tuple(kinds)
        self._process = started() if self.kinds else None
        self._turn = threading.Lock()  # of one question and its answer
        if self.kinds and self._process is None:
            render.load()

    def draw(self, name: str, *arguments: Any) -> Pending:
        """Begin to draw figures.

        Args:
            name: A function of :mod:`xpnet.report.figure_files`.
            arguments: Its arguments without `kinds`.
        """
        return Pending(self._process, self._turn, name, (*arguments, self.kinds))

    def close(self) -> None:
        """End the process."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            for pipe in (self._process.stdin, self._process.stdout):
                with contextlib.suppress(OSError):  # what it has not read
                    assert pipe is not None
                    pipe.close()

    def __enter__(self) -> Drawer:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class Pending:
    """Figures that are being drawn."""

    def __init__(
        self, process: subprocess.Popen[bytes] | None, turn: threading.Lock, name: str, arguments: tuple[Any, ...]
    ) -> None:
        self._name, self._arguments = name, arguments
        self._answer: tuple[bool, Any] | None = None
        # A thread, since the process may still be loading, and a pipe holds little.
        self._thread = (
            None if process is None else threading.Thread(target=self._ask, args=(process, turn), daemon=True)
        )
        if self._thread is not None:
            self._thread.start()

    def _ask(self, process: subprocess.Popen[bytes], turn: threading.Lock) -> None:
        assert process.stdin is not None
        assert process.stdout is not None
        # Without an answer, from a process that has ended or been killed, the figures are drawn here.
        with turn, contextlib.suppress(OSError, ValueError, EOFError):
            _send(process.stdin, (self._name, self._arguments))
            self._answer = _receive(process.stdout)

    def files(self) -> dict[str, bytes]:
        """Return the names of the files, without a folder, and their contents; wait for them.

        Raises:
            DrawingError: They cannot be drawn.
            MemoryError: There was too little memory for them.
        """
        if self._thread is not None:
            self._thread.join()
        if self._answer is None:
            return drawn(self._name, *self._arguments)
        good, value = self._answer
        if good:
            return dict(value)
        raise MemoryError(value) if value == MemoryError.__name__ else render.DrawingError(value)


def started() -> subprocess.Popen[bytes] | None:
    """Return a new process that draws; None if no process can be started here."""
    if not sys.executable:
        return None
    try:
        return subprocess.Popen(
            [sys.executable, "-P", "-c", _PROGRAM.format(path=list(filter(None, sys.path)))],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=os.environ | {"OPENBLAS_NUM_THREADS": "1"},  # it computes nothing
            # A group of its own, which the keys that stop this process do not reach.
            process_group=0 if os.name == "posix" else None,
            creationflags=getattr(subprocess, "CREATE_NEW_PROCESS_GROUP", 0),
        )
    except OSError:  # no memory, processes or open files left
        return None


def _send(file: BinaryIO | Any, value: Any) -> None:
    content = pickle.dumps(value, pickle.HIGHEST_PROTOCOL)
    file.write(len(content).to_bytes(_LENGTH, "little"))
    file.write(content)
    file.flush()


def _receive(file: BinaryIO | Any) -> Any:
    """Return what was sent.

    Raises:
        EOFError: The other end was closed.
    """
    head = file.read(_LENGTH)
    content = file.read(int.from_bytes(head, "little"))
    if len(head) < _LENGTH or len(content) < int.from_bytes(head, "little"):
        raise EOFError
    return pickle.loads(content)


def main() -> None:
    """Draw what standard input asks for, until it ends."""
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what libraries print is no answer
    if hasattr(os, "nice"):
        os.nice(_NICE)
    render.load(warm=True)
    with contextlib.suppress(EOFError, BrokenPipeError):
        while True:
            name, arguments = _receive(sys.stdin.buffer)
            _send(answers, _answer(name, arguments))


def _answer(name: str, arguments: tuple[Any, ...]) -> tuple[bool, Any]:
    """Return whether figures could be drawn, and the files or the reason."""
    try:
        return True, drawn(name, *arguments)
    except MemoryError:
        return False, MemoryError.__name__
    except render.DrawingError as error:
        return False, str(error)
    except Exception as error:  # of the libraries that draw
        return False, f"{type(error).__name__}: {error}"
