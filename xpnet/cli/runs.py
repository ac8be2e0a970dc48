"""``xpnet runs``."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Group, Parameter

from xpnet.cli.console import STANDARD, Output, number, percent, safe
from xpnet.cli.options import FLAG, OUTPUT
from xpnet.cli.tables import plain, table
from xpnet.errors import ConfigError
from xpnet.utils.plural import counted

if TYPE_CHECKING:
    from xpnet.runs.listing import RunEntry

_RUNS = Group("Runs", sort_key=0)
_LEFT = ("run", "when", "data", "network", "state")
# Columns of settings in a table for people; --csv and --json have all.
_SETTINGS = 6
# Seconds between two looks at runs that train.
_EVERY = 1.0


def runs(
    folder: Annotated[Path, Parameter(group=_RUNS, help="Folder that holds run folders.")] = Path("runs"),
    /,
    *,
    where: Annotated[
        tuple[str, ...],
        Parameter(
            group=_RUNS,
            metavar="NAME<VALUE",
            negative="",
            help="Only runs with this: a setting, a figure (test, validation, train, test_loss), state, data, network, "
            "name, when, epochs, networks, seconds or rule (of the conclusion); < <= > >= = != or ~ (contains). "
            "Several must all hold.",
        ),
    ] = (),
    sort: Annotated[
        str | None,
        Parameter(
            group=_RUNS,
            metavar="NAME",
            allow_leading_hyphen=True,
            help="Order by such a value; -NAME is the largest first. [default: when]",
        ),
    ] = None,
    watch: Annotated[
        bool, Parameter(group=_RUNS, **FLAG, help="Follow the runs that train, until none does (or Ctrl-C).")
    ] = False,
    csv: Annotated[bool, Parameter(group=OUTPUT, **FLAG, help="Print CSV, with every setting that differs.")] = False,
    output: Output = STANDARD,
) -> None:
    """List runs: when, data, network, the settings that differ, figures, and how far each is.

    The figures of several networks are those of the combination of settings with the best validation accuracy.
    """
    from xpnet.runs.conditions import selected
    from xpnet.runs.listing import list_runs

    if csv and (output.as_json or watch):
        raise ConfigError("csv = true: prints a table once; leave --json and --watch out")
    found = selected(list_runs(folder), where, sort)
    if watch:
        found = _watch(found, folder, where, output)
        found = selected(found, (), sort)
    if csv:
        output.text(_csv(found))
        return
    result = {"folder": str(folder), "runs": [entry.to_json() for entry in found]}
    lines = [counted(len(found), "run") + ("" if found else f" in {folder}"), *_damaged(found)]
    output.result(result, *([_table(found)] if found else []), *lines)


def _watch(found: list[RunEntry], folder: Path, where: Sequence[str], output: Output) -> list[RunEntry]:
    """Show the runs that train until none does; return those that were followed, as they are then."""
    from rich.console import Console
    from rich.live import Live

    from xpnet.runs.listing import read_entry

    followed = [entry for entry in found if entry.state == "training"]
    if not followed:
        output.note(f"no run in {folder} is being trained" + (" of those asked for" if where else ""))
        return found
    shown = Console(stderr=True, highlight=False, markup=False, quiet=not output.show_progress)
    with Live(_table(followed), console=shown, auto_refresh=False, transient=True) as live:
        try:
            while any(entry.state == "training" for entry in followed):
                time.sleep(_EVERY)
                followed = [read_entry(entry.path, folder) for entry in followed]
                live.update(_table(followed), refresh=True)
        except KeyboardInterrupt:
            output.note("the runs go on without being watched")
    return followed


def _table(entries: Sequence[RunEntry]) -> Any:
    """Return a table for people."""
    from xpnet.runs.listing import differing

    settings = differing(entries)[:_SETTINGS]
    heads = ["run", "when", "data", "network", *settings, "validation", "test", "test loss", "state"]
    rows = []
    for entry in entries:
        own = [safe(_value(entry.settings.get(name))) for name in settings]
        accuracies = [_figure(entry, which, percent) for which in ("validation", "test")]
        words = [safe(text) for text in (entry.name, entry.when[:16], entry.data, entry.network)]
        rows.append([*words, *own, *accuracies, _figure(entry, "test_loss", number), entry.progress])
    return table(heads, rows, left=_LEFT, gap=2)


def _figure(entry: RunEntry, name: str, shown: Any) -> str:
    return shown(entry.figures[name]) if name in entry.figures else "-"


def _value(value: Any) -> str:
    if isinstance(value, list):
        values = [plain(item) for item in value]
        return ",".join(values) if len(values) <= 3 else f"{values[0]}..{values[-1]} ({len(values)})"
    return "-" if value is None else plain(value)


def _damaged(entries: Sequence[RunEntry]) -> list[str]:
    return [f"damaged: {entry.note}" for entry in entries if entry.note]


def _csv(entries: Sequence[RunEntry]) -> str:
    from xpnet.runs.listing import OF_FIGURES, VALUES, differing
    from xpnet.training.history import csv_lines

    names = [*VALUES, *differing(entries), "lambda", *OF_FIGURES, "rule"]
    names = list(dict.fromkeys(names))
    rows: list[list[Any]] = [names]
    for entry in entries:
        values = [entry.value(name) for name in names]
        rows.append([",".join(map(str, v)) if isinstance(v, list) else v for v in values])
    return csv_lines(rows)
