"""What a search leaves in its folder.

search.toml    what is searched and where it is kept; ``xpnet search --resume`` goes on from it
study.journal  every trial, as workers share it, unless a database holds them
trials.csv     one row for each trial
search.json    all that is known, for programs
best.toml      the winner's settings; ``xpnet train --config`` trains it
winner/        the winner's run: network, history, test figures
accuracy-by-*  figures as PNG and SVG, and their data as CSV
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from xpnet import schema
from xpnet.errors import RunError
from xpnet.reading import read_toml, toml_bytes
from xpnet.runs import rewrite, write_new
from xpnet.search.about import SETTINGS_SHAPE
from xpnet.search.outcome import Outcome
from xpnet.search.session import SearchResult, Session
from xpnet.search.storage import JOURNAL, absolute, without_password

_SEARCH_SHAPE = schema.record(
    {"storage": schema.text, "study": schema.text},
    {"settings": SETTINGS_SHAPE, "search": SETTINGS_SHAPE, "space": schema.items(schema.text), "command": schema.text},
)
SEARCH, TRIALS, RESULT, BEST, WINNER = "search.toml", "trials.csv", "search.json", "best.toml", "winner"


def write_search(folder: Path, session: Session, storage: str | None, command: str) -> None:
    """Write what is searched, and where it is kept, into a new folder."""
    about = {
        "command": command,
        "storage": JOURNAL if storage is None else without_password(absolute(storage)),
        "study": session.board.name,
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
    session: Session, outcome: Outcome, environment: Mapping[str, Any], result: SearchResult | None
) -> dict[str, Any]:
    """Return all that is known of a search, as ``xpnet search --json`` prints it."""
    rounds, best = session.rounds, outcome.best
    trials = [trial.to_json(outcome.seeds) for trial in outcome.trials]
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
        "best": None if best is None else trials[best.number],
        "winner": None,
        "test": None if result is None or result.final is None else result.final["test"],
        "final": None if result is None else result.final,
        "guessing": None if outcome.guessing is None else outcome.guessing.to_json(outcome.no_better()),
        "warnings": [] if result is None else result.warnings,
        "device": session.backend.device,
        "interrupted": result.interrupted if result is not None else None,
        "seconds": None if result is None else result.seconds,
        "environment": dict(environment),
    }


def write_outcome(folder: Path, outcome: Outcome, known: Mapping[str, Any], winner: Mapping[str, Any] | None) -> None:
    """Write the trials and all that is known; workers that share a folder write the same."""
    rewrite(folder / TRIALS, outcome.to_csv().encode())
    rewrite(folder / RESULT, (json.dumps(known, indent=1) + "\n").encode())
    if winner is not None:
        path, head = folder / BEST, "The winner of a search of xpnet.  Train it: xpnet train --config THIS_FILE"
        rewrite(path, toml_bytes(winner, str(path), RunError, head=head))
