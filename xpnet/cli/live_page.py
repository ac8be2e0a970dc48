"""The pages of ``--watch``: of a run that this process trains, and of folders that anybody fills."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from xpnet.cli.console import Output
from xpnet.cli.tables import plain
from xpnet.errors import ConfigError
from xpnet.training.callback import Callback

if TYPE_CHECKING:
    from xpnet.analysis.layer_history import LayerHistory

# Seconds between two looks at whether a run or search has ended.
_EVERY = 0.5


@contextlib.contextmanager
def live_page(
    title: str, rows: Sequence[Mapping[str, Any]], output: Output, *, watch: bool, layers: LayerHistory | None = None
) -> Iterator[list[Callback]]:
    """Serve the page that draws a run, if it is wanted; it closes with the run.

    Args:
        title: The run in a few words.
        rows: The settings in which its networks differ.
        output: Where the address is printed.
        watch: Whether the page is wanted.
        layers: Statistics of the layers, recorded during the training.
    """
    if not watch:
        yield []
        return
    from xpnet.report.live import LivePage

    names = [", ".join(f"{name} {plain(value)}" for name, value in row.items()) for row in rows]
    with LivePage(title, names if len(rows) > 1 else (), layers=layers) as page:
        output.note(f"watch it at {page.address} until it ends")
        yield [page]


@contextlib.contextmanager
def folder_page(folder: Path, output: Output, *, watch: bool) -> Iterator[None]:
    """Serve the page of a folder that this process fills, if it is wanted, until the block ends."""
    if not watch:
        yield
        return
    from xpnet.report.live_folder import FolderSite
    from xpnet.report.live_server import LiveServer

    server = LiveServer(FolderSite(folder))
    output.note(f"watch it at {server.address} until it ends")
    try:
        yield
    finally:
        server.close()


def watch_folder(folder: Path, output: Output) -> None:
    """Serve the page of a folder that others fill, until Ctrl-C, or until its only run or search has ended.

    Raises:
        ConfigError: It has ended already.
        RunError: There is no such folder, or nothing in it.
    """
    from xpnet.report.live_folder import FolderSite
    from xpnet.report.live_server import LiveServer

    site = FolderSite(folder)
    if site.ended:
        raise ConfigError(f"watch = true: {folder} has ended already; xpnet report {folder} writes its page")
    what = {"run": "the run", "search": "the search"}.get(site.kind, "")
    server = LiveServer(site)
    output.note(f"watch it at {server.address} until " + (f"{what} ends, or Ctrl-C" if what else "Ctrl-C"))
    try:
        while not site.ended:
            time.sleep(_EVERY)
    except KeyboardInterrupt:
        output.note(f"{what} goes on without being watched" if what else f"{folder} is no longer watched")
    finally:
        server.close()
    found = {"folder": str(folder), "kind": site.kind or "runs", "ended": site.ended}
    output.result(found, *([f"{what} has ended; xpnet report {folder} writes its page"] if site.ended else []))
