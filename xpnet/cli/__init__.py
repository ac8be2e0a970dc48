"""One file a command: it parses, calls and prints, and holds no mathematics.

Only what a command needs is imported, and only when it runs, so ``xpnet --help`` starts at once.
"""

from __future__ import annotations

import atexit
import contextlib
import gc
import os
import shlex
import signal
import sys
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from xpnet.cli.commands import COMMANDS
from xpnet.cli.variables import check_variables, source_of
from xpnet.errors import XpnetError, printable
from xpnet.utils import file_system

_QUIET = {"--quiet", "-q"}
# The command line arguments of this process, which a run's files record.
_arguments: list[str] = []


def command_line() -> str:
    """Return the command line of this call as it can be typed again."""
    return typed("xpnet", *_arguments)


def given_arguments() -> list[str]:
    """Return the command line arguments of this call."""
    return list(_arguments)


def typed(*arguments: str) -> str:
    """Return arguments as one would type them into a shell; bytes that are not UTF-8 in the form of bash and zsh."""
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

    Exit codes: 0 success, 1 a failed check, 2 an error that the user can put right, 70 a defect of xpnet, 130
    interrupted by Ctrl-C, 143 by SIGTERM.
    """
    _arguments[:] = sys.argv[1:] if arguments is None else arguments
    with _safe_streams(), _few_collections(), _sigterm_raises(), _warnings(quiet=not _QUIET.isdisjoint(_arguments)):
        try:
            parse(_arguments)
            sys.stdout.flush()
        except BrokenPipeError:
            # The reader of standard output has gone; Python would complain once more at exit.
            with contextlib.suppress(OSError):
                os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            sys.exit(1)
        except (Exception, KeyboardInterrupt) as error:
            if "--debug" in _arguments and isinstance(error, Exception):
                raise
            message, code = _diagnosis(error)
            with contextlib.suppress(OSError, ValueError):
                print(f"xpnet: {message}", file=sys.stderr)  # noqa: T201
            sys.exit(code)


def _diagnosis(error: BaseException) -> tuple[str, int]:
    """Return an error as one sentence, and the exit code."""
    if isinstance(error, XpnetError):
        return f"{error}{source_of(str(error), _arguments)}", error.exit_code
    if isinstance(error, KeyboardInterrupt):
        return ("terminated", 143) if isinstance(error, _Terminated) else ("interrupted", 130)
    if isinstance(error, OSError):
        path, reason = error.filename or "file system", error.strerror or error
        return f"{path}: {reason}; check the folder and the space left", 2
    from xpnet.backend import out_of_memory

    if out_of_memory(error):
        reason = f" ({error})" if str(error) else ""
        return f"out of memory{reason}; take a smaller network, fewer runs or a smaller batch_size", 2
    if sys.flags.optimize > 1 and _package_of(error) == "altair":
        return "figures: cannot be drawn by a Python that leaves docstrings out; run it without -OO", 2
    return f"internal error, {type(error).__name__}: {error}; this is a defect of xpnet, --debug shows where", 70


def _package_of(error: BaseException) -> str:
    """Return the package that raised an error."""
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    return "" if trace is None else str(trace.tb_frame.f_globals.get("__name__")).split(".")[0]


def parse(arguments: Sequence[str]) -> None:
    """Call the command that the arguments name.

    Raises:
        XpnetError: The arguments are wrong, or the command refuses them.
    """
    from cyclopts import CycloptsError

    from xpnet.cli.parser import make_parser

    app = make_parser(arguments)
    if arguments[:1] and (arguments[0] in COMMANDS or arguments[0] == "data"):
        for warning in check_variables():
            file_system.tell(warning)
    try:
        app(arguments)
    except CycloptsError as error:
        from xpnet.cli.mistakes import sentence

        raise XpnetError(sentence(error, app, arguments)) from error


@contextlib.contextmanager
def _safe_streams() -> Iterator[None]:
    """Replace closed standard streams, and escape characters that standard output cannot encode."""
    with contextlib.ExitStack() as stack:
        for name in ("stdout", "stderr"):
            if getattr(sys, name) is None:
                setattr(sys, name, stack.enter_context(Path(os.devnull).open("w")))
                stack.callback(setattr, sys, name, None)
        if hasattr(sys.stdout, "reconfigure"):
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
def _few_collections() -> Iterator[None]:
    """Look for unreachable objects more rarely: what is imported is reachable, and is most of a short command.

    At its end Python looks through all of them several times, to free memory that the system takes back anyway: with
    Numba for 0.3 s.  Frozen objects are left alone.
    """
    atexit.unregister(gc.freeze)  # a process may call main() often
    atexit.register(gc.freeze)
    before = gc.get_threshold()
    gc.set_threshold(10_000, *before[1:])
    try:
        yield
    finally:
        gc.set_threshold(*before)


@contextlib.contextmanager
def _warnings(*, quiet: bool) -> Iterator[None]:
    """Print warnings about file systems and variables to standard error, unless the command is quiet."""

    def warn(words: str) -> None:
        if not quiet:
            with contextlib.suppress(OSError, ValueError):
                print(printable(f"warning: {words}"), file=sys.stderr)  # noqa: T201

    before, file_system.tell = file_system.tell, warn
    try:
        yield
    finally:
        file_system.tell = before


class _Terminated(KeyboardInterrupt):
    """The process received SIGTERM, by which systems end their jobs."""


@contextlib.contextmanager
def _sigterm_raises() -> Iterator[None]:
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
