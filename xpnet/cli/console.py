"""What commands print: progress to standard error, results to standard output."""

from __future__ import annotations

import contextlib
import json
import signal
import sys
import threading
from collections.abc import Iterator
from typing import Any

from rich.console import Console
from rich.text import Text

from xpnet.errors import RunError, XpnetError, one_line, printable
from xpnet.report.format import number as number
from xpnet.report.format import percent as percent

# A label can be a text of any length, and stands in every row of predictions.
_LONGEST_CELL = 200


def safe(text: str, style: str = "") -> Text:
    """Return text that may come from anybody's file for a table: no markup, nothing that a terminal obeys, not long."""
    return Text(one_line(text, _LONGEST_CELL), style)


def tell(text: str) -> None:
    """Print a line to standard error, if there is one: its reader may be gone, or the disk of its log full."""
    with contextlib.suppress(OSError, ValueError):
        print(text, file=sys.stderr)  # noqa: T201


class Output:
    """Where a command's words go.

    Notes and progress go to standard error and are left out with ``--quiet``; the result goes to
    standard output, as one JSON object with ``--json``.
    """

    def __init__(self, *, as_json: bool, quiet: bool) -> None:
        self.as_json = as_json
        self.quiet = quiet
        self._out = Console(file=sys.stdout, highlight=False, markup=False)

    def note(self, text: str) -> None:
        """Tell something beside the result; where nobody can be told, nothing else ends for it."""
        if not self.quiet:
            tell(printable(text, "\n"))

    def notes(self, *texts: str) -> None:
        """Tell several things beside the result."""
        for text in texts:
            self.note(text)

    def text(self, text: str) -> None:
        """Print text that programs read, as it is; a terminal gets nothing that it would obey."""
        sys.stdout.write(printable(text, "\n") if sys.stdout.isatty() else text)

    def result(self, data: dict[str, Any], *tables: Any) -> None:
        """Print a command's result: `data` as JSON, or the rich `tables` for people."""
        if self.as_json:
            print(json.dumps(data))  # noqa: T201
        elif not self.quiet:
            width = self._out.width
            for table in tables:
                if not isinstance(table, str):
                    # A table that is wider than the terminal wraps there; cut numbers would be wrong ones.
                    needed = self._out.measure(table, options=self._out.options.update(max_width=1000)).maximum
                    self._out.width = max(width, needed)
                # Lines of text are whole wherever they end: they hold paths and commands.
                shown = printable(table, "\n") if isinstance(table, str) else table
                self._out.print(shown, soft_wrap=isinstance(table, str))
                self._out.width = width

    @property
    def show_progress(self) -> bool:
        """Whether progress bars are shown: someone must be looking."""
        return not self.quiet and sys.stderr.isatty()


class NotesOnly(Output):
    """The output of a part of a command, whose result is not the command's."""

    def result(self, data: dict[str, Any], *tables: Any) -> None:
        """Leave the result to the command."""


@contextlib.contextmanager
def left_out_if_not_drawn(output: Output) -> Iterator[None]:
    """Let figures that cannot be drawn here cost a line and nothing else.

    Raises:
        OSError, RunError, MemoryError: They cannot be written.
    """
    try:
        yield
    except (OSError, RunError, MemoryError):
        raise
    except Exception as error:  # of libraries that draw, which need what is not everywhere
        why = f"{error}" if isinstance(error, XpnetError) else f"{type(error).__name__}: {error}"
        output.note(f"warning: the figures cannot be drawn ({why}); all else is whole")


class Interrupt:
    """Set once somebody asked for an end: with Ctrl-C, or as systems end their jobs, with SIGTERM.

    Attributes:
        pressed: Whether somebody did.
        message: What is told then.
        exit_code: What a command that ended so exits with: 128 and the signal's number.
    """

    def __init__(self, message: str) -> None:
        self.pressed = False
        self.message = message
        self.exit_code = 128 + signal.SIGINT

    def __call__(self) -> bool:
        """Return whether somebody did."""
        return self.pressed


@contextlib.contextmanager
def finish_on_interrupt(output: Output, message: str) -> Iterator[Interrupt]:
    """Let the first Ctrl-C, or SIGTERM, ask for an orderly end, and the second one leave at once."""
    interrupt = Interrupt(message)
    if threading.current_thread() is not threading.main_thread():
        yield interrupt
        return
    previous = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}

    def back() -> None:
        for which, handler in previous.items():
            signal.signal(which, handler)

    def ask(number: int, _frame: Any) -> None:
        interrupt.pressed, interrupt.exit_code = True, 128 + number
        back()
        output.note(f"\n{interrupt.message}")

    for which in previous:
        signal.signal(which, ask)
    try:
        yield interrupt
    finally:
        back()
