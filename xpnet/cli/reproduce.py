"""``xpnet reproduce``."""

from __future__ import annotations

import dataclasses
import json as jsonlib
import platform
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Group, Parameter

from xpnet.cli.completion import devices, experiments
from xpnet.cli.console import STANDARD, Output
from xpnet.cli.figures import drawer, write_figures
from xpnet.cli.options import FLAG, OUTPUT, given, with_settings
from xpnet.config.settings import Settings
from xpnet.errors import ConfigError
from xpnet.version import __version__

if TYPE_CHECKING:
    from collections.abc import Sequence

    from xpnet.backend import Backend
    from xpnet.report.drawing_process import Drawer
    from xpnet.reproduction import Experiment, Outcome
    from xpnet.reproduction.compare import Row

_WHAT = Group("Reproduction", sort_key=0)


@with_settings("figures")
def reproduce(
    *names: Annotated[str, Parameter(group=_WHAT, completer=experiments, help="A.bn3, A for all of report A, or all.")],
    options: Any = None,
    listed: Annotated[
        bool, Parameter(name="--list", group=_WHAT, **FLAG, help="List the experiments and leave.")
    ] = False,
    quick: Annotated[
        bool, Parameter(group=_WHAT, **FLAG, help="A tenth of the steps, few cells and seeds: does everything run?")
    ] = False,
    data: Annotated[
        str | None,
        Parameter(group=_WHAT, metavar="NAME|PATH", help="Where CIFAR-10 is. [default: where it is found]"),
    ] = None,
    device: Annotated[
        str,
        Parameter(
            group=_WHAT,
            metavar="auto|cpu|gpu|gpu:N",
            completer=devices,
            help="Where to compute.",
            env_var="XPNET_DEVICE",
            show_env_var=False,
        ),
    ] = "auto",
    out: Annotated[
        Path | None, Parameter(group=OUTPUT, help="New folder of the figures. [default: runs/reproduce-TIME]")
    ] = None,
    output: Output = STANDARD,
) -> None:
    """Run experiments of the five reports again, and set the figures side by side.

    Writes a page with a table for each experiment, each of the report's figures as PNG, SVG and CSV, and all
    values as JSON; xpnet report makes an HTML page of them. Experiments are in xpnet/reproduction/*.toml.
    """
    from xpnet.reproduction import choose

    if listed or not names:
        if not listed:
            raise ConfigError(
                "reproduce: name an experiment such as A.bn3, a report, or all; --list shows what there is"
            )
        _list(output, choose(names or ["all"]))
        return
    chosen = choose(names)
    with drawer(Settings.from_mapping(given(options)).run.figures, output) as draws:
        _run(chosen, quick, data, device, out, output, draws)


def _run(
    chosen: Sequence[Experiment],
    quick: bool,
    data: str | None,
    device: str,
    out: Path | None,
    output: Output,
    draws: Drawer,
) -> None:
    from tqdm import tqdm

    from xpnet.backend import get_backend
    from xpnet.cli import command_line
    from xpnet.cli.progress import StepBar
    from xpnet.data import load_data
    from xpnet.report.reproduction_markdown import markdown_page
    from xpnet.reproduction import Runner
    from xpnet.reproduction.compare import compare
    from xpnet.runs.environment import describe_environment
    from xpnet.runs.folder import create_run_folder, write_environment
    from xpnet.utils.file_system import check_utf8

    backend = get_backend(device)
    output.device(backend)
    # Before the folder is made, so that wrong data leaves none.
    location = load_data(data or "cifar10", "45k").location
    check_utf8(location, "data")
    folder = create_run_folder(out, prefix="reproduce-")
    write_environment(folder, describe_environment(backend, command_line()))
    runner = Runner(backend, data=location, quick=quick)
    figures: dict[str, list[str]] = {}
    begin = time.perf_counter()
    try:
        for experiment in chosen:
            for one in (*_needed(experiment, runner.outcomes), experiment):
                output.note(f"{one.name}: {one.what}" + (" (quick)" if quick else ""))
                with tqdm(unit=" steps", disable=not output.show_progress, dynamic_ncols=True, leave=False) as bar:
                    outcome = runner.run(one, [StepBar(bar)])
            figures[experiment.name] = _figures(experiment, outcome, folder, output, draws)
            output.note(f"{experiment.name}: {outcome.seconds:.1f} s")
            about = _about(backend, quick, time.perf_counter() - begin)
            # All results so far, so that an early end loses nothing.
            _write(folder, runner.outcomes, markdown_page(chosen, runner.outcomes, about, figures))
    except KeyboardInterrupt:
        left = [experiment.name for experiment in chosen if experiment.name not in figures]
        output.note(f"{folder} has what is finished; what is left: xpnet reproduce {' '.join(left)}")
        raise
    rows = {experiment.name: compare(experiment, runner.outcomes[experiment.name]) for experiment in chosen}
    result: dict[str, Any] = {
        "quick": quick,
        "device": backend.device,
        "seconds": time.perf_counter() - begin,
        "run": str(folder),
        "experiments": {name: [_row(row) for row in of_one] for name, of_one in rows.items()},
    }
    tables = [_table(experiment, rows[experiment.name], quick) for experiment in chosen]
    output.result(
        result,
        *tables,
        f"{result['seconds']:.0f} s in all; page: {folder / 'README.md'}; as HTML: xpnet report {folder}",
    )


def _figures(experiment: Experiment, outcome: Outcome, folder: Path, output: Output, draws: Drawer) -> list[str]:
    """Write the figures of an experiment; return the names of the pictures that its page shows."""
    if not draws.kinds:
        return []
    paths = write_figures(draws.draw("reproduction", experiment, outcome), folder, output)
    return [path.name for path in paths if path.suffix == f".{draws.kinds[0]}"]


def _needed(experiment: Experiment, outcomes: dict[str, Outcome]) -> list[Experiment]:
    """Return the experiment that another one's draws build on, if it has not been run yet."""
    from xpnet.reproduction import choose

    base = (experiment.draw or {}).get("of")
    name = f"{experiment.report}.{base}"
    return [] if base is None or name in outcomes else choose([name])


def _about(backend: Backend, quick: bool, seconds: float) -> str:
    """Return how a reproduction was made, for its page."""
    about = (
        f"`xpnet reproduce`, xpnet {__version__}, {time.strftime('%Y-%m-%d')}, on {backend.device} of a "
        f"{platform.machine()} machine with Python {platform.python_version()}: {seconds:.0f} s."
    )
    return about + (" **Quick**: a tenth of the steps and few seeds, so the figures mean nothing." if quick else "")


def _write(folder: Path, outcomes: dict[str, Outcome], page: str) -> None:
    from xpnet.utils.atomic_files import rewrite

    content = jsonlib.dumps({name: outcome.to_json() for name, outcome in outcomes.items()}, separators=(",", ":"))
    rewrite(folder / "README.md", page.encode())
    rewrite(folder / "results.json", f"{content}\n".encode())


def _list(output: Output, experiments: Sequence[Experiment]) -> None:
    from xpnet.cli.tables import table
    from xpnet.reproduction import load

    heads = ("experiment", "where in the report", "what")
    made = table(heads, left=heads, rule=False, gap=2)
    titles = {report: load(report).title for report in dict.fromkeys(e.report for e in experiments)}
    for report, title in titles.items():
        made.add_row(report, "", title, style="bold")
        for e in experiments:
            if e.report == report:
                made.add_row(e.name, e.source, e.what)
    rows = [{"name": e.name, "source": e.source, "what": e.what, "kind": e.kind} for e in experiments]
    output.result({"reports": titles, "experiments": rows}, made)


def _row(row: Row) -> dict[str, Any]:
    """Return a row of a comparison as JSON has it."""
    return dataclasses.asdict(row) | {
        "theirs": None if row.theirs is None else dict(zip(("mean", "std"), row.theirs, strict=True)),
        "ours": None if row.ours is None else dict(zip(("mean", "std", "runs"), row.ours, strict=True)),
    }


def _table(experiment: Experiment, rows: Sequence[Row], quick: bool) -> Any:
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    from xpnet.report.reproduction_markdown import row_texts

    title = f"{experiment.name}: {experiment.what}{' (quick)' if quick else ''}"
    table = Table(title=title, title_justify="left", box=SIMPLE_HEAD)
    for column in ("", "figure", "report", "here", "runs", "within our spread"):
        table.add_column(column, justify="right" if column in ("report", "here", "runs") else "left", no_wrap=True)
    for row in rows:
        theirs, ours, runs, within = row_texts(row, experiment.kind)
        table.add_row(row.cell, row.figure, theirs, ours, runs, within.replace("**", ""))
    return table
