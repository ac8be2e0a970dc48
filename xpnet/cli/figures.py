"""The figures of a command: whether there are any, of which kinds, and where they go."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from xpnet.cli.console import Output
from xpnet.errors import RunError, XpnetError
from xpnet.utils.atomic_files import write_new
from xpnet.utils.extras import install_command, installed, need

if TYPE_CHECKING:
    from xpnet.report.drawing_process import Drawer, Pending


def kinds_of(asked: str, output: Output) -> tuple[str, ...]:
    """Return the kinds of pictures that a command is asked for with ``--figures``; note it if there can be none.

    Raises:
        MissingExtraError: Figures are asked for by name, and what draws them is not installed.
    """
    from xpnet.report.figure import KINDS

    if asked == "none":
        return ()
    if asked == "auto" and not installed("figures"):
        output.note(
            f"figures: none; {install_command('figures')} brings what draws them, xpnet report draws them later"
        )
        return ()
    need("figures", f"figures = {asked}: drawing")
    return (asked,) if asked in KINDS else KINDS


def drawer(asked: str, output: Output) -> Drawer:
    """Return what draws the figures that a command is asked for, to be closed at its end; see :func:`kinds_of`."""
    from xpnet.report.drawing_process import Drawer

    return Drawer(kinds_of(asked, output))


@contextlib.contextmanager
def left_out_if_not_drawn(output: Output) -> Iterator[None]:
    """Turn errors of drawing into a warning, so that the command continues without the figures.

    Raises:
        OSError, RunError, MemoryError: The figures cannot be written.
    """
    try:
        yield
    except (OSError, RunError, MemoryError):
        raise
    except Exception as error:  # of the libraries that draw
        why = f"{error}" if isinstance(error, XpnetError) else f"{type(error).__name__}: {error}"
        output.note(f"warning: the figures cannot be drawn ({why}); everything else is complete")


def write_figures(
    pending: Pending, folder: Path, output: Output, write: Callable[[Path, bytes], None] = write_new
) -> list[Path]:
    """Write figures once they are drawn; return their paths, none if drawing failed.

    Raises:
        OSError, RunError: They cannot be written.
    """
    from xpnet.report.figure import write_files

    with left_out_if_not_drawn(output):
        return write_files(pending.files(), folder, write)
    return []
