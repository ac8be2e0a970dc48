"""The best trials of a search in the terminal, while it runs and at its end."""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING, Any

from xpnet.cli.console import Output, percent
from xpnet.cli.tables import concluded as concluded
from xpnet.errors import printable
from xpnet.training.callback import Callback
from xpnet.utils.plural import counted

if TYPE_CHECKING:
    from xpnet.tuning.rounds import Rounds
    from xpnet.tuning.trials import Outcome, Trial

_SHOWN = 10


class SearchDisplay(Callback):
    """A live table of the best trials on standard error, or, without a terminal, a line for each change."""

    def __init__(self, rounds: Rounds, output: Output) -> None:
        self._rounds, self._output = rounds, output
        self._outcome: Outcome | None = None
        self._steps, self._begin, self._line = 0, time.perf_counter(), ""
        self._live: Any = None

    def __enter__(self) -> SearchDisplay:
        if self._output.show_progress:
            from rich.console import Console
            from rich.live import Live

            console = Console(file=sys.stderr, highlight=False, markup=False)
            self._live = Live(get_renderable=self._render, console=console, refresh_per_second=4, transient=True)
            self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def stop(self) -> None:
        """Remove the live table, before other progress bars or the result."""
        if self._live is not None:
            self._live.stop()
            self._live = None

    def on_steps(self, count: int) -> None:
        """Count the steps of the current population."""
        self._steps += count

    def show(self, outcome: Outcome) -> None:
        """Show the outcome so far."""
        self._outcome = outcome
        if self._live is None and not self._output.show_progress:
            line = self._summary(outcome)
            if line != self._line:
                self._output.note(line)
            self._line = line

    def _summary(self, outcome: Outcome) -> str:
        rounds = self._rounds.config.rounds
        now = max((trial.round for trial in outcome.trials), default=0) + 1
        summary = (f"round {now} of {rounds}: " if rounds > 1 else "") + counts_text(outcome)
        if (best := outcome.best) is not None:
            word = "highest, no better than guessing:" if outcome.none_better else "best"
            summary += f"; {word} {100 * (best.score or 0):.2f} % with {point_text(best)}"
        others = len(outcome.workers) - 1
        return summary + (f"; {counted(others, 'other worker')}" if others > 0 else "")

    def _render(self) -> Any:
        from rich.console import Group
        from rich.text import Text

        seconds = time.perf_counter() - self._begin
        summary = "drawing" if self._outcome is None else self._summary(self._outcome)
        line = Text(f"{summary}; {self._steps} steps, {seconds:.0f} s")
        if self._outcome is None or self._outcome.best is None:
            return line
        return Group(trials_table(self._outcome, _SHOWN), line)


def counts_text(outcome: Outcome) -> str:
    """Return how many trials are in each state."""
    return ", ".join(f"{count} {state}" for state, count in outcome.counts().items() if count)


def trials_table(outcome: Outcome, most: int) -> Any:
    """Return the best trials as a table: the complete ones, then those that were pruned."""
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    table = Table(box=SIMPLE_HEAD)
    for head in ("trial", "round", *outcome.names, "validation accuracy", "loss", "epochs", ""):
        table.add_column(head, justify="left" if not head else "right")
    pruned = sorted((t for t in outcome.trials if t.state == "pruned"), key=lambda t: -(t.score or 0.0))
    for trial in (*outcome.ranked(), *pruned)[:most]:
        accuracy = (trial.validation() or {})["accuracy"]
        losses = [loss for loss in trial.losses if loss is not None]
        table.add_row(
            str(trial.number),
            str(trial.round + 1),
            *(_text(trial.point[name]) for name in outcome.names),
            percent(accuracy if len(outcome.seeds) > 1 else accuracy["mean"]),
            f"{sum(losses) / len(losses):.4f}" if losses else "diverged",
            str(trial.epochs or "-"),
            "" if trial.cycle is None else "pruned",
        )
    return table


def point_text(trial: Trial) -> str:
    """Return a trial's point in a few words."""
    return ", ".join(f"{name} {_text(value)}" for name, value in trial.point.items())


def _text(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else printable(str(value))
