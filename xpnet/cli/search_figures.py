"""The figures of ``xpnet search``, drawn at its end."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from xpnet.cli.console import Output
from xpnet.cli.figures import left_out_if_not_drawn
from xpnet.report.drawing_process import Drawer
from xpnet.report.figure import write_files
from xpnet.report.figure_files import CURVES
from xpnet.report.records import read_run
from xpnet.report.search_file import winner_in
from xpnet.runs.folder import HISTORY
from xpnet.runs.records import read_history
from xpnet.training.history import History, columns_of
from xpnet.utils.atomic_files import rewrite


def draw_search(found: dict[str, Any], folder: Path, output: Output, kinds: tuple[str, ...]) -> None:
    """Draw the trials, and the curves of the best run and of the winner's run, unless they are drawn already.

    Raises:
        OSError, RunError: The figures cannot be written.
    """
    # The process begins here: a second at the end of a search is less than its memory from the beginning on.
    with Drawer(kinds) as draws, left_out_if_not_drawn(output):
        pending = [(draws.draw("search", found), folder)]
        best = None if found["best_run"] is None else folder / found["best_run"]
        for run in (best, winner_in(folder, found)):
            if run is None or (run / f"{CURVES}.{kinds[0]}").exists():
                continue
            record = read_run(run)
            history = read_history(run / HISTORY, len(record.replicas))
            if len(history["epoch"]):
                of_run = History(record.initial_eta, columns_of(history))
                pending.append((draws.draw("curves", of_run, record.title), run))
        for figures, path in pending:
            write_files(figures.files(), path, rewrite)
