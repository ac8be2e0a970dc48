"""The output of commands: progress to standard error, results to standard output."""

from __future__ import annotations

import contextlib
import json
import signal
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from cyclopts import Parameter
from rich.console import Console
from rich.text import Text

from xpnet.cli.options import Debug, Json, Quiet, Verbose
from xpnet.errors import one_line, printable
from xpnet.report.format import number as number
from xpnet.report.format import percent as percent

if TYPE_CHECKING:
    from xpnet.backend import Backend

# A label from a file can have any length, and is in every row of predictions.
_LONGEST_CELL = 200


def safe(text: str, style: str = "") -> Text:
    """Return text from a file for a table: no markup, no control characters, and not long."""
    return Text(one_line(text, _LONGEST_CELL), style)


def tell(text: str) -> None:
    """Write a line to standard error; ignore a stream that is closed or full."""
    with contextlib.suppress(OSError, ValueError):
        print(text, file=sys.stderr)  # noqa: T201


@Parameter("*")
@dataclass(frozen=True, kw_only=True)
class Output:
    """The output of a command, and its options --json, --quiet, --verbose and --debug.

    Notes and progress go to standard error and are left out with ``--quiet``; the result goes to
    standard output, as one JSON object with ``--json``. ``--debug`` is read before parsing, since parsing can fail.
    """

    as_json: Json = False
    quiet: Quiet = False
    verbose: Verbose = False
    debug: Debug = False

    def note(self, text: str) -> None:
        """Print a line beside the result."""
        if not self.quiet:
            tell(printable(text, "\n"))

    def notes(self, *texts: str) -> None:
        """Print several lines beside the result."""
        for text in texts:
            self.note(text)

    def detail(self, text: str) -> None:
        """Print a line beside the result that only ``--verbose`` asks for."""
        if self.verbose:
            self.note(text)

    def device(self, backend: Backend) -> None:
        """Print which device computes."""
        self.note(f"device: {backend.notice}")
        self.how(backend)

    def how(self, backend: Backend) -> None:
        """Print why this device was chosen and what computes on it, if ``--verbose`` asks for it."""
        from xpnet.ops import fast_is_on

        self.detail(f"{backend.device}: {backend.reason}")
        if backend.name == "cpu":
            by = "compiled by Numba" if fast_is_on() else "NumPy"
            self.detail(f"operations: {by}; xpnet info shows BLAS and its threads")

    def text(self, text: str) -> None:
        """Print text that programs read, as it is; on a terminal, without control characters."""
        sys.stdout.write(printable(text, "\n") if sys.stdout.isatty() else text)

    def result(self, data: dict[str, Any], *tables: Any) -> None:
        """Print a command's result: `data` as JSON, or `tables` (rich tables and lines of text) for people."""
        if self.as_json:
            print(json.dumps(data))  # noqa: T201
        elif not self.quiet:
            console = Console(file=sys.stdout, highlight=False, markup=False)
            width = console.width
            for table in tables:
                if isinstance(table, str):  # not wrapped, since lines hold paths and commands
                    console.print(printable(table, "\n"), soft_wrap=True)
                else:
                    # A table may be wider than the terminal: a number that is cut off would be another number.
                    needed = console.measure(table, options=console.options.update(max_width=1000)).maximum
                    console.width = max(width, needed)
                    console.print(table)

    @property
    def show_progress(self) -> bool:
        """Whether progress bars are shown: standard error is a terminal."""
        return not self.quiet and sys.stderr.isatty()

    def progress_bar(self, **options: Any) -> Any:
        """Return a progress bar on standard error, hidden unless progress bars are shown."""
        from tqdm import tqdm

        return tqdm(disable=not self.show_progress, dynamic_ncols=True, **options)


STANDARD = Output()


class NotesOnly(Output):
    """The output of one step of a command: notes, but not the result of the step."""

    def result(self, data: dict[str, Any], *tables: Any) -> None:
        """Print nothing: the command prints a result of its own."""


class Interrupt:
    """Whether the user has pressed Ctrl-C, or the system has sent SIGTERM to end the command.

    Attributes:
        pressed: Whether either has happened.
        message: The line that is printed when it happens.
        exit_code: The command's exit code in that case: 128 plus the signal's number.
    """

    def __init__(self, message: str) -> None:
        self.pressed = False
        self.message = message
        self.exit_code = 128 + signal.SIGINT

    def __call__(self) -> bool:
        """Return whether either has happened."""
        return self.pressed


@contextlib.contextmanager
def finish_on_interrupt(output: Output, message: str) -> Iterator[Interrupt]:
    """Turn the first Ctrl-C or SIGTERM into a request to stop; the second one leaves at once."""
    interrupt = Interrupt(message)
    if threading.current_thread() is not threading.main_thread():
        yield interrupt
        return
    previous = {signum: signal.getsignal(signum) for signum in (signal.SIGINT, signal.SIGTERM)}

    def restore() -> None:
        for signum, handler in previous.items():
            signal.signal(signum, handler)

    def request(signum: int, _frame: Any) -> None:
        interrupt.pressed, interrupt.exit_code = True, 128 + signum
        restore()
        output.note(f"\n{interrupt.message}")

    for signum in previous:
        signal.signal(signum, request)
    try:
        yield interrupt
    finally:
        restore()
