"""The folder of a search.

search.toml    the description and the storage of the search; ``xpnet search --resume`` continues from it
study.journal  all trials, which workers share, unless they are in a database
trials.csv     one row for each trial
search.json    the outcome, for programs; it has fewer points of long curves, the storage has every epoch
best.toml      the winner's settings; ``xpnet train --config`` trains it
kept/          during the search, the networks of the best trial so far; see :mod:`xpnet.tuning.kept_networks`
best/          the winner's run as the search trained it, without test figures
winner/        the same run with test figures, or the winner's run trained again
accuracy-by-*  figures as PNG and SVG, and their data as CSV
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from xpnet.errors import RunError
from xpnet.training.history import csv_lines
from xpnet.tuning.close_trials import close_trials
from xpnet.tuning.search import Search, SearchResult
from xpnet.tuning.search_conclusion import search_conclusion
from xpnet.tuning.search_identity import SETTINGS_SHAPE
from xpnet.tuning.storage import JOURNAL, absolute, without_password
from xpnet.tuning.trials import Outcome, Trial
from xpnet.tuning.winner import winner_settings
from xpnet.utils import schema
from xpnet.utils.atomic_files import rewrite, write_new
from xpnet.utils.parsing import read_toml, toml_bytes

# Most points of all curves in search.json together; the rest of the file grows only with the number of trials.
MOST_POINTS = 100_000
# The pause between two writes of the outcome: at least these seconds, and at least this multiple of a write's time.
_PAUSE, _PAUSES = 0.5, 20
_SEARCH_SHAPE = schema.record(
    {"storage": schema.text, "study": schema.text},
    {"settings": SETTINGS_SHAPE, "search": SETTINGS_SHAPE, "space": schema.items(schema.text), "command": schema.text},
)
SEARCH, TRIALS, RESULT, BEST = "search.toml", "trials.csv", "search.json", "best.toml"


def write_search(folder: Path, search: Search, storage: str | None, command: str) -> None:
    """Write the description and the storage of a search into a new folder."""
    description = {
        "command": command,
        "storage": JOURNAL if storage is None else without_password(absolute(storage)),
        "study": search.queue.name,
        "space": search.rounds.space.texts(),
        "search": search.rounds.config.to_mapping(),
        "settings": search.rounds.base,
    }
    path = folder / SEARCH
    head = "A search of xpnet.  Go on with it, or help with it: xpnet search --resume THIS_FOLDER"
    write_new(path, toml_bytes(description, str(path), RunError, head=head))


def read_search(folder: Path) -> tuple[str, str, dict[str, Any]]:
    """Return the storage (a path or a URL), the study and the description of the search in `folder`.

    Raises:
        RunError: `folder` is not the folder of a search, or the description is damaged.
    """
    path = folder / SEARCH
    if not path.is_file():
        raise RunError(f"{folder}: is not the folder of a search, it has no {SEARCH}")
    description = read_toml(path, RunError)
    schema.check(description, _SEARCH_SHAPE, f"{path}: does not describe a search", RunError)
    storage = description["storage"]
    # Joining leaves an absolute path unchanged.
    return storage if "://" in storage else str(folder / storage), description["study"], description


def result_json(
    search: Search,
    outcome: Outcome,
    environment: Mapping[str, Any],
    result: SearchResult | None,
    trials: Sequence[Any] | None = None,
) -> dict[str, Any]:
    """Return a search in the form that ``xpnet search --json`` prints.

    Args:
        search: This worker's part in the search.
        outcome: The outcome so far.
        environment: Describes this worker's machine.
        result: The result; None before the end.
        trials: Values in place of the outcome's trials.
    """
    rounds, best, points = search.rounds, outcome.best, curve_points(outcome)
    final = None if result is None else result.final
    return {
        "kind": "search",
        "command": environment["command"],
        "settings": rounds.base,
        "space": {dimension.name: dimension.to_json() for dimension in rounds.space.dimensions},
        "sampler": rounds.config.draw,
        "rounds": rounds.config.rounds,
        "search": rounds.config.to_mapping(),
        "counts": outcome.counts(),
        "trials": [t.to_json(outcome.seeds, points) for t in outcome.trials] if trials is None else trials,
        "curve_points": points,
        "best": None if best is None else best.to_json(outcome.seeds, points),
        "best_run": None,
        "winner": None,
        "trained_again": None if final is None else final.get("trained_again", True),
        "test": None if final is None else final["test"],
        "final": final,
        "samples": rounds.samples,
        "guessing": None if outcome.guessing is None else outcome.guessing.to_json(outcome.no_better()),
        "warnings": [] if result is None else result.warnings,
        "conclusion": None if result is None else _conclusion(search, outcome, result),
        "workers": [] if result is not None else _workers(search, outcome),
        "device": search.backend.device,
        "interrupted": None if result is None else result.interrupted,
        "seconds": None if result is None else result.seconds,
        "environment": dict(environment),
    }


def _workers(search: Search, outcome: Outcome) -> list[Any]:
    """Return the leases of the workers at work: name, device, and the process, by which others see whether it runs."""
    if not outcome.workers:
        return []
    attributes = search.queue.storage.get_study_user_attrs(search.queue.id)
    leases = (attributes.get(f"lease:{name}") for name in outcome.workers)
    kept = ("worker", "device", "place", "pid", "born")
    return [{name: lease[name] for name in kept if name in lease} for lease in leases if lease is not None]


def _conclusion(search: Search, outcome: Outcome, result: SearchResult) -> dict[str, Any] | None:
    """Return what a search says, in the form for files; its warnings come first."""
    if result.warnings or result.interrupted or outcome.best is None:
        return None
    tried = [trial.point for trial in outcome.trials if trial.score is not None]
    ranked, best = outcome.longest(), None if outcome.none_better else outcome.best.point
    scores, stds = [trial.score or 0.0 for trial in ranked], [trial.std for trial in ranked]
    close = close_trials(scores, stds, len(outcome.seeds), search.rounds.samples)
    near = [trial.point for trial in ranked[: close.count if close else 1]]
    budget = search.rounds.config.budget is not None
    found = search_conclusion(
        search.rounds.space, best, tried, near, close, result.final, budget=budget, cycle=search.rounds.cycle
    )
    return None if found is None else found.to_json()


def curve_points(outcome: Outcome) -> int | None:
    """Return the number of points of each trial's curve in ``search.json``; None for all of them."""
    longest = max((len(trial.curve) for trial in outcome.trials), default=0)
    points = max(2, MOST_POINTS // max(1, len(outcome.trials)))
    return None if longest <= points else points


class OutcomeFiles:
    """The files with the outcome of a search, written during the search and at its end.

    Workers that share a folder write the same content.  The line of a finished trial is made only once.

    Args:
        folder: The search's folder.
        search: This worker's part in the search.
        environment: Describes this worker's machine.
    """

    def __init__(self, folder: Path, search: Search, environment: Mapping[str, Any]) -> None:
        self._folder, self._search, self._environment = folder, search, environment
        self._lines: dict[int, tuple[Trial, int | None, str, str]] = {}
        self._next_write = 0.0
        self._outcome: Outcome | None = None

    def show(self, outcome: Outcome) -> None:
        """Write the outcome so far, unless it was written a moment ago: writing must not slow down a long search.

        Raises:
            RunError: A file cannot be written.
        """
        self._outcome = outcome
        if time.monotonic() >= self._next_write:
            self.write_last()

    def write_last(self) -> None:
        """Write the last outcome that was passed to :meth:`show`, before a step that takes long.

        Raises:
            RunError: A file cannot be written.
        """
        if self._outcome is not None:
            self.write(self._outcome, result_json(self._search, self._outcome, self._environment, None, ()))

    def write(self, outcome: Outcome, result: Mapping[str, Any]) -> None:
        """Write the trials, the `result` that :func:`result_json` returned, and the winner's settings.

        Raises:
            RunError: A file cannot be written.
        """
        begin = time.monotonic()
        lines = [self._line(trial, outcome, result["curve_points"]) for trial in outcome.trials]
        rewrite(self._folder / TRIALS, (csv_lines([outcome.columns()]) + "".join(row for _, row in lines)).encode())
        # A line for each trial, so that the file can be read trial by trial.
        trials = "[\n" + ",\n".join(f"  {line}" for line, _ in lines) + "\n ]"
        parts = [f' "{key}": {trials if key == "trials" else json.dumps(value)}' for key, value in result.items()]
        rewrite(self._folder / RESULT, ("{\n" + ",\n".join(parts) + "\n}\n").encode())
        winner, best = winner_settings(self._search.rounds, outcome), outcome.best
        if winner is not None:
            which = "" if best is None or best.score is None else f", trial {best.number}: {100 * best.score:.2f} %"
            path = self._folder / BEST
            head = f"The winner of a search of xpnet{which}.  Train it again: xpnet train --config THIS_FILE"
            rewrite(path, toml_bytes(winner, str(path), RunError, head=head))
        seconds = time.monotonic() - begin
        self._next_write = begin + seconds + max(_PAUSE, _PAUSES * seconds)

    def _line(self, trial: Trial, outcome: Outcome, points: int | None) -> tuple[str, str]:
        """Return a trial as a line of ``search.json`` and as a line of ``trials.csv``."""
        known = self._lines.get(trial.number)
        if known is not None and known[0] is trial and known[1] == points:
            return known[2:]
        line = json.dumps(trial.to_json(outcome.seeds, points)), csv_lines([outcome.row(trial)])
        if trial.score is not None:
            self._lines[trial.number] = trial, points, *line
        return line
