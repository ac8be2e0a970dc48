"""The best trials of a search, while it runs."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from xpnet.cli.console import Output
from xpnet.errors import printable
from xpnet.training.callback import Callback
from xpnet.utils.plural import counted

if TYPE_CHECKING:
    from xpnet.tuning.rounds import Rounds
    from xpnet.tuning.trials import Outcome, Trial

_SHOWN = 10


class SearchDisplay(Callback):
    """A table of the best trials on standard error, or a line for each change where nobody is looking."""

    def __init__(self, rounds: Rounds, output: Output) -> None:
        self._rounds, self._output = rounds, output
        self._outcome: Outcome | None = None
        self._steps, self._begin, self._line = 0, time.perf_counter(), ""
        self._live: Any = None

    def __enter__(self) -> SearchDisplay:
        if self._output.show_progress:
            import sys

            from rich.console import Console
            from rich.live import Live

            console = Console(file=sys.stderr, highlight=False, markup=False)
            self._live = Live(get_renderable=self._render, console=console, refresh_per_second=4, transient=True)
            self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def stop(self) -> None:
        """End the live table: what comes has bars of its own, or is the result."""
        if self._live is not None:
            self._live.stop()
            self._live = None

    def on_steps(self, count: int) -> None:
        """Count steps of the population that trains."""
        self._steps += count

    def show(self, outcome: Outcome) -> None:
        """Show how the search stands."""
        self._outcome = outcome
        if self._live is None and not self._output.show_progress:
            line = self._words(outcome)
            if line != self._line:
                self._output.note(line)
            self._line = line

    def _words(self, outcome: Outcome) -> str:
        now = max((trial.round for trial in outcome.trials), default=0) + 1
        of = f"round {now} of {self._rounds.config.rounds}: " if self._rounds.config.rounds > 1 else ""
        counts = ", ".join(f"{count} {state}" for state, count in outcome.counts().items() if count)
        best = outcome.best
        word = "highest, no better than guessing:" if outcome.none_better else "best"
        words = "" if best is None else f"; {word} {100 * (best.score or 0):.2f} % with {point_text(best)}"
        others = len(outcome.workers) - 1
        return f"{of}{counts}{words}" + (f"; {counted(others, 'other worker')}" if others > 0 else "")

    def _render(self) -> Any:
        from rich.console import Group
        from rich.text import Text

        seconds = time.perf_counter() - self._begin
        words = "drawing" if self._outcome is None else self._words(self._outcome)
        line = Text(f"{words}; {self._steps} steps, {seconds:.0f} s")
        if self._outcome is None or self._outcome.best is None:
            return line
        return Group(trials_table(self._outcome, _SHOWN), line)


def trials_table(outcome: Outcome, most: int) -> Any:
    """Return the best trials as a table: the complete ones, then those that were pruned."""
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    table = Table(box=SIMPLE_HEAD)
    several = len(outcome.seeds) > 1
    heads = ["trial", "round", *outcome.names, "validation accuracy", "loss", "epochs", ""]
    for head in heads:
        table.add_column(head, justify="left" if not head else "right")
    ranked = outcome.ranked()
    pruned = sorted((t for t in outcome.trials if t.state == "pruned"), key=lambda t: -(t.score or 0.0))
    for trial in (*ranked, *pruned)[:most]:
        table.add_row(
            str(trial.number),
            str(trial.round + 1),
            *(_text(trial.point[name]) for name in outcome.names),
            _accuracy(trial, several),
            _mean(trial.losses),
            str(trial.epochs),
            "" if trial.cycle is None else f"pruned after {trial.cycle}",
        )
    return table


def point_text(trial: Trial) -> str:
    """Return a trial's point in a few words."""
    return ", ".join(f"{name} {_text(value)}" for name, value in trial.point.items())


def _text(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else printable(str(value))


def _accuracy(trial: Trial, several: bool) -> str:
    from xpnet.cli.console import percent

    values = trial.to_json(range(len(trial.accuracies)))["validation"]["accuracy"]
    return percent(values if several else values["mean"])


def _mean(losses: Any) -> str:
    good = [loss for loss in losses if loss is not None]
    return f"{sum(good) / len(good):.4f}" if good else "diverged"
