"""What a search leaves in its folder.

search.toml    what is searched and where it is kept; ``xpnet search --resume`` goes on from it
study.journal  every trial, as workers share it, unless a database holds them
trials.csv     one row for each trial
search.json    all that is known, for programs; long curves are thinned out, the storage has every epoch
best.toml      the winner's settings; ``xpnet train --config`` trains it
kept/          while the search goes on, the networks of the best trial so far; see :mod:`xpnet.tuning.kept_networks`
best/          the winner's run as the search trained it, without test figures
winner/        the same with test figures, or the winner's run as it was trained again
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
from xpnet.tuning.identity import SETTINGS_SHAPE
from xpnet.tuning.storage import JOURNAL, absolute, without_password
from xpnet.tuning.study import Search, SearchResult
from xpnet.tuning.trials import Outcome, Trial
from xpnet.utils import schema
from xpnet.utils.atomic_files import rewrite, write_new
from xpnet.utils.parsing import read_toml, toml_bytes

# Points of all curves in search.json together: the rest of it grows with the trials alone.
MOST_POINTS = 100_000
# Seconds between two writes of how a search stands, and at least so many times as long as a write takes.
_PAUSE, _PAUSES = 2.0, 20
_SEARCH_SHAPE = schema.record(
    {"storage": schema.text, "study": schema.text},
    {"settings": SETTINGS_SHAPE, "search": SETTINGS_SHAPE, "space": schema.items(schema.text), "command": schema.text},
)
SEARCH, TRIALS, RESULT, BEST = "search.toml", "trials.csv", "search.json", "best.toml"


def write_search(folder: Path, session: Search, storage: str | None, command: str) -> None:
    """Write what is searched, and where it is kept, into a new folder."""
    about = {
        "command": command,
        "storage": JOURNAL if storage is None else without_password(absolute(storage)),
        "study": session.queue.name,
        "space": session.rounds.space.texts(),
        "search": session.rounds.config.to_mapping(),
        "settings": session.rounds.base,
    }
    path = folder / SEARCH
    head = "A search of xpnet.  Go on with it, or help with it: xpnet search --resume THIS_FOLDER"
    write_new(path, toml_bytes(about, str(path), RunError, head=head))


def read_search(folder: Path) -> tuple[str, str, dict[str, Any]]:
    """Return the storage (a path or a URL), the study and the settings of the search in `folder`.

    Raises:
        RunError: It is not the folder of a search, or what it says of it is damaged.
    """
    path = folder / SEARCH
    if not path.is_file():
        raise RunError(f"{folder}: is not the folder of a search, it has no {SEARCH}")
    about = read_toml(path, RunError)
    schema.check(about, _SEARCH_SHAPE, f"{path}: does not describe a search", RunError)
    storage, study = about["storage"], about["study"]
    if "://" not in storage:
        storage = str(folder / storage)  # a path of its own stays what it is
    return storage, study, about


def result_json(
    session: Search,
    outcome: Outcome,
    environment: Mapping[str, Any],
    result: SearchResult | None,
    trials: Sequence[Any] | None = None,
) -> dict[str, Any]:
    """Return all that is known of a search, as ``xpnet search --json`` prints it; `trials` take the trials' place."""
    rounds, best, points = session.rounds, outcome.best, curve_points(outcome)
    if trials is None:
        trials = [trial.to_json(outcome.seeds, points) for trial in outcome.trials]
    return {
        "kind": "search",
        "command": environment["command"],
        "settings": rounds.base,
        "space": {dimension.name: dimension.to_json() for dimension in rounds.space.dimensions},
        "sampler": rounds.config.draw,
        "rounds": rounds.config.rounds,
        "search": rounds.config.to_mapping(),
        "counts": outcome.counts(),
        "trials": trials,
        "curve_points": points,
        "best": None if best is None else best.to_json(outcome.seeds, points),
        "best_run": None,
        "winner": None,
        "trained_again": None if result is None or result.final is None else result.final.get("trained_again", True),
        "test": None if result is None or result.final is None else result.final["test"],
        "final": None if result is None else result.final,
        "guessing": None if outcome.guessing is None else outcome.guessing.to_json(outcome.no_better()),
        "warnings": [] if result is None else result.warnings,
        "device": session.backend.device,
        "interrupted": result.interrupted if result is not None else None,
        "seconds": None if result is None else result.seconds,
        "environment": dict(environment),
    }


def curve_points(outcome: Outcome) -> int | None:
    """Return how many points of each trial's curve ``search.json`` holds; None if it holds all of them."""
    longest = max((len(trial.curve) for trial in outcome.trials), default=0)
    points = max(2, MOST_POINTS // max(1, len(outcome.trials)))
    return None if longest <= points else points


class OutcomeFiles:
    """The files of a search that tell how it stands, written while it goes on and at its end.

    Workers that share a folder write the same.  What is known of a trial that has ended is put into words once.

    Args:
        folder: The search's folder.
        session: This worker's part in the search.
        environment: What this worker computes on.

    Attributes:
        outcome: What was shown last; None before that.
    """

    def __init__(self, folder: Path, session: Search, environment: Mapping[str, Any]) -> None:
        self._folder, self._session, self._environment = folder, session, environment
        self._lines: dict[int, tuple[Trial, int | None, str, str]] = {}
        self._next = 0.0
        self.outcome: Outcome | None = None

    def show(self, outcome: Outcome) -> None:
        """Write how the search stands, unless that was done a moment ago: a long search is not to wait for its files.

        Raises:
            RunError: A file cannot be written.
        """
        self.outcome = outcome
        if time.monotonic() >= self._next:
            self.write_last()

    def write_last(self) -> None:
        """Write what was shown last: something that takes long comes next.

        Raises:
            RunError: A file cannot be written.
        """
        if self.outcome is not None:
            self.write(self.outcome, result_json(self._session, self.outcome, self._environment, None, ()))

    def write(self, outcome: Outcome, known: Mapping[str, Any]) -> None:
        """Write the trials, all that is `known`, as :func:`result_json` returns it, and the winner's settings.

        Raises:
            RunError: A file cannot be written.
        """
        begin = time.monotonic()
        trials = [self._words(trial, outcome, known["curve_points"]) for trial in outcome.trials]
        rewrite(self._folder / TRIALS, (csv_lines([outcome.head()]) + "".join(row for _, row in trials)).encode())
        # A line for each trial, so that the file can be read without room for all of it.
        parts = [f' "{name}": {json.dumps(value)}' for name, value in known.items()]
        place = list(known).index("trials")
        parts[place] = ' "trials": [\n' + ",\n".join(f"  {line}" for line, _ in trials) + "\n ]"
        rewrite(self._folder / RESULT, ("{\n" + ",\n".join(parts) + "\n}\n").encode())
        winner = self._session.winner(outcome)
        if winner is not None:
            best = outcome.best
            said = "" if best is None or best.score is None else f", trial {best.number}: {100 * best.score:.2f} %"
            path = self._folder / BEST
            head = f"The winner of a search of xpnet{said}.  Train it again: xpnet train --config THIS_FILE"
            rewrite(path, toml_bytes(winner, str(path), RunError, head=head))
        took = time.monotonic() - begin
        self._next = begin + took + max(_PAUSE, _PAUSES * took)

    def _words(self, trial: Trial, outcome: Outcome, points: int | None) -> tuple[str, str]:
        """Return a trial as a line of ``search.json`` and as one of ``trials.csv``."""
        known = self._lines.get(trial.number)
        if known is not None and known[0] is trial and known[1] == points:
            return known[2:]
        words = json.dumps(trial.to_json(outcome.seeds, points)), csv_lines([outcome.row(trial)])
        if trial.score is not None:
            self._lines[trial.number] = trial, points, *words
        return words
