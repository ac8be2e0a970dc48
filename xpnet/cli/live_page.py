"""The page of ``xpnet train --watch``."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from xpnet.cli.console import Output
from xpnet.cli.tables import plain
from xpnet.runs.experiment import Experiment
from xpnet.training.callback import Callback


@contextlib.contextmanager
def live_page(experiment: Experiment, output: Output, *, watch: bool) -> Iterator[list[Callback]]:
    """Serve the page that draws the run, if it is wanted; it closes with the run."""
    if not watch:
        yield []
        return
    from xpnet.report.live import LivePage

    rows = experiment.population.rows
    names = [", ".join(f"{name} {plain(value)}" for name, value in row.items()) for row in rows]
    with LivePage(experiment.title, names if len(rows) > 1 else ()) as page:
        output.note(f"watch it at {page.address} until it ends")
        yield [page]
