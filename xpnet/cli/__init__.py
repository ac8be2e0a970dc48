"""One file a command: it parses, calls and prints, and holds no mathematics.

Only what a command needs is imported, and only when it runs, so ``xpnet --help`` starts at once.
"""

from __future__ import annotations

import contextlib
import importlib
import os
import shlex
import signal
import sys
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from xpnet.errors import XpnetError, printable
from xpnet.utils import file_system
from xpnet.version import __version__

_COMMANDS = {
    "train": "Train a network and keep everything about it in a run folder.",
    "search": "Search settings: train many networks at once, in rounds, with any number of workers.",
    "evaluate": "Evaluate the network of a run: accuracy, by class too, and confusion matrix.",
    "predict": "Predict classes and probabilities of images, or of the rows of a table.",
    "lr-range": "Suggest learning rates: a short training whose rate rises from step to step.",
    "gradcheck": "Check the gradients of a network against central differences, in float64 on the CPU.",
    "reproduce": "Run the five reports' experiments again, figures side by side.",
    "report": "Show runs, a search or a reproduction as one HTML page, with figures as PNG, SVG and CSV.",
    "diagnose": "Show what happens inside a network, by layer and by epoch.",
    "bench": "Time training on the devices of this machine.",
    "info": "Show versions, BLAS and its threads, and GPUs.",
}
_DATA_COMMANDS = {
    "fetch": "Fetch a published data set, check it, and unpack it where xpnet finds it.",
    "info": "Show what a data set is: shapes, classes, value ranges, duplicates; samples as a picture.",
}


# What main was given; a run remembers it.
_given: list[str] = []


def command_line() -> str:
    """Return the command line of this call as it can be typed again."""
    return typed("xpnet", *_given)


def typed(*arguments: str) -> str:
    """Return arguments as they are typed into a shell; bytes that are not UTF-8 in bash's and zsh's form."""
    return " ".join(map(_typed, arguments))


def _typed(argument: str) -> str:
    try:
        argument.encode()
    except UnicodeEncodeError:
        plain = [chr(b) if 32 <= b < 127 and b not in b"'\\" else f"\\x{b:02x}" for b in os.fsencode(argument)]
        return f"$'{''.join(plain)}'"
    return shlex.quote(argument)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line and exit.

    Exit codes: 0 done, 1 a check failed, 2 the user can put it right, 70 a defect of xpnet, 130 interrupted by Ctrl-C,
    143 by SIGTERM.
    """
    given = list(sys.argv[1:] if arguments is None else arguments)
    with _streams(), _terminated_in_order(), _told(quiet="--quiet" in given):
        _main(given)


def _main(given: list[str]) -> None:
    _given[:] = given
    debug = "--debug" in given
    try:
        _run(given)
        sys.stdout.flush()
    except XpnetError as error:
        if debug:
            raise
        _fail(str(error), error.exit_code)
    except _Terminated:
        _fail("terminated", 143)
    except KeyboardInterrupt:
        _fail("interrupted", 130)
    except BrokenPipeError:
        # The reader of our output has gone; Python would complain about it once more at exit.
        with contextlib.suppress(OSError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    except OSError as error:
        if debug:
            raise
        _fail(f"{error.filename or 'file system'}: {error.strerror or error}; check the folder and the space left", 2)
    except Exception as error:
        if debug:
            raise
        from xpnet.backend import out_of_memory

        if out_of_memory(error):
            why = f" ({error})" if str(error) else ""
            _fail(f"out of memory{why}; take a smaller network, fewer runs or a smaller batch_size", 2)
        if sys.flags.optimize > 1 and _raised_in(error) == "altair":
            _fail("figures: cannot be drawn by a Python that leaves docstrings out; run it without -OO", 2)
        _fail(f"internal error, {type(error).__name__}: {error}; this is a defect of xpnet, --debug shows where", 70)


def _raised_in(error: BaseException) -> str:
    """Return the package in which an error was raised."""
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    return "" if trace is None else str(trace.tb_frame.f_globals.get("__name__")).split(".")[0]


def _run(given: list[str]) -> None:
    from cyclopts import App, CycloptsError

    app = App(
        name="xpnet",
        help="Train, check and study fully connected networks, fast.",
        version=__version__,
        help_format="plaintext",
        help_epilogue="xpnet COMMAND --help shows the options of a command.",
        exit_on_error=False,
        print_error=False,
        suppress_keyboard_interrupt=False,
        result_action="return_value",
    )
    for name, text in _COMMANDS.items():
        home = name.replace("-", "_")
        text = _own_help(home, home) or text if given[:1] == [name] else text
        app.command(f"xpnet.cli.{home}:{home}", name=name, help=text, help_epilogue="")
    data = App(name="data", help="Fetch published data sets, and show what a data set is.", help_epilogue="")
    for name, text in _DATA_COMMANDS.items():
        text = _own_help("data", name) or text if given[:2] == ["data", name] else text
        data.command(f"xpnet.cli.data:{name}", name=name, help=text, help_epilogue="")
    app.command(data)
    try:
        app(given)
    except CycloptsError as error:
        raise XpnetError(_sentence(error)) from error


def _own_help(module: str, name: str) -> str:
    """Return what the command that is called says of itself: its docstring, a line for each paragraph.

    It is empty where Python has left out the docstrings (``python -OO``).
    """
    command = getattr(importlib.import_module(f"xpnet.cli.{module}"), name)
    return "\n\n".join(" ".join(paragraph.split()) for paragraph in (command.__doc__ or "").split("\n\n"))


def _sentence(error: Exception) -> str:
    """Return a parser's message as one sentence on one line, with where to look."""
    text = " ".join(str(error).split()).rstrip(".")
    return f"{text}; see --help"


def _fail(message: str, code: int) -> None:
    with contextlib.suppress(OSError, ValueError):
        print(f"xpnet: {message}", file=sys.stderr)  # noqa: T201
    sys.exit(code)


@contextlib.contextmanager
def _streams() -> Iterator[None]:
    """See to it that there are standard streams, and that none ends the command for what it cannot take."""
    with contextlib.ExitStack() as opened:
        for name in ("stdout", "stderr"):
            if getattr(sys, name) is None:  # closed by who called: what is told is told to nobody
                setattr(sys, name, opened.enter_context(Path(os.devnull).open("w")))
                opened.callback(setattr, sys, name, None)
        if hasattr(sys.stdout, "reconfigure"):  # consoles that do not know all letters
            sys.stdout.reconfigure(errors="backslashreplace")
        try:
            yield
        finally:
            try:
                sys.stderr.flush()
            except (OSError, ValueError):  # Python would try again at its end, and exit with 120
                with contextlib.suppress(OSError, ValueError):
                    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stderr.fileno())


@contextlib.contextmanager
def _told(*, quiet: bool) -> Iterator[None]:
    """Tell what a file system lacks as commands tell of anything."""

    def tell(words: str) -> None:
        if not quiet:
            with contextlib.suppress(OSError, ValueError):
                print(printable(f"warning: {words}"), file=sys.stderr)  # noqa: T201

    before, file_system.tell = file_system.tell, tell
    try:
        yield
    finally:
        file_system.tell = before


class _Terminated(KeyboardInterrupt):
    """SIGTERM has come, with which systems end their jobs."""


@contextlib.contextmanager
def _terminated_in_order() -> Iterator[None]:
    """Let SIGTERM end a command as Ctrl-C does."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def end(*_: Any) -> None:
        raise _Terminated

    before = signal.signal(signal.SIGTERM, end)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
