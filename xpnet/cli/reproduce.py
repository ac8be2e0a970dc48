"""``xpnet reproduce``."""

from __future__ import annotations

import json as jsonlib
import platform
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Group, Parameter

from xpnet.cli.console import Output
from xpnet.cli.options import FLAG, OUTPUT, Debug, Json, Quiet
from xpnet.errors import ConfigError
from xpnet.version import __version__

if TYPE_CHECKING:
    from collections.abc import Sequence

    from xpnet.backend import Backend
    from xpnet.reproduction import Experiment, Outcome, Runner

_WHAT = Group("Reproduction", sort_key=0)


def reproduce(
    *names: Annotated[str, Parameter(group=_WHAT, help="A.bn3, A for all of report A, or all.")],
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
    device: Annotated[str, Parameter(group=_WHAT, metavar="auto|cpu|gpu|gpu:N", help="Where to compute.")] = "auto",
    out: Annotated[
        Path | None, Parameter(group=OUTPUT, help="New folder of the figures. [default: runs/reproduce-TIME]")
    ] = None,
    json: Json = False,
    quiet: Quiet = False,
    debug: Debug = False,  # noqa: ARG001
) -> None:
    """Run experiments of the five reports again, and set the figures side by side.

    Writes a page with a table for each experiment, each of the report's figures as PNG, SVG and CSV, and all
    values as JSON; xpnet report makes an HTML page of them. Experiments are in xpnet/reproduction/*.toml.
    """
    from xpnet.reproduction import choose

    output = Output(as_json=json, quiet=quiet)
    if listed or not names:
        if not listed:
            raise ConfigError(
                "reproduce: name an experiment such as A.bn3, a report, or all; --list shows what there is"
            )
        _list(output, choose(names or ["all"]))
        return
    chosen = choose(names)
    _run(chosen, quick, data, device, out, output)


def _run(
    chosen: Sequence[Experiment], quick: bool, data: str | None, device: str, out: Path | None, output: Output
) -> None:
    from tqdm import tqdm

    from xpnet.backend import get_backend
    from xpnet.cli import command_line
    from xpnet.data import load_data
    from xpnet.report.reproduction_chart import write_figures
    from xpnet.report.reproduction_markdown import markdown_page
    from xpnet.reproduction import Runner, choose
    from xpnet.reproduction.compare import compare
    from xpnet.runs.environment import describe_environment
    from xpnet.runs.folder import create_run_folder, write_environment
    from xpnet.utils.file_system import check_utf8

    backend = get_backend(device)
    output.note(f"device: {backend.device} ({backend.reason})")
    # Found before the folder is made.
    where = load_data(data or "cifar10", "45k").location
    check_utf8(where, "data")
    folder = create_run_folder(out, prefix="reproduce-")
    write_environment(folder, describe_environment(backend, command_line()))
    runner = Runner(backend, data=where, quick=quick)
    figures: dict[str, list[str]] = {}
    begin = time.perf_counter()
    try:
        for experiment in chosen:
            needed = _needed(experiment, runner, choose)
            for one in (*needed, experiment):
                output.note(f"{one.name}: {one.what}" + (" (quick)" if quick else ""))
                with tqdm(unit=" steps", disable=not output.show_progress, dynamic_ncols=True, leave=False) as bar:
                    outcome = runner.run(one, bar.update)
            figures[experiment.name] = write_figures(experiment, outcome, folder)
            output.note(f"{experiment.name}: {outcome.seconds:.1f} s")
            _keep(folder, chosen, runner, backend, quick, time.perf_counter() - begin, figures, markdown_page)
    except KeyboardInterrupt:
        left = [experiment.name for experiment in chosen if experiment.name not in figures]
        output.note(f"{folder} has what is finished; what is left: xpnet reproduce {' '.join(left)}")
        raise
    result: dict[str, Any] = {
        "quick": quick,
        "device": backend.device,
        "seconds": time.perf_counter() - begin,
        "run": str(folder),
        "experiments": {
            experiment.name: [_row(row) for row in compare(experiment, runner.outcomes[experiment.name])]
            for experiment in chosen
        },
    }
    tables = [_table(experiment, runner.outcomes[experiment.name]) for experiment in chosen]
    output.result(
        result,
        *tables,
        f"{result['seconds']:.0f} s in all; page: {folder / 'README.md'}; as HTML: xpnet report {folder}",
    )


def _needed(experiment: Experiment, runner: Runner, choose: Any) -> list[Experiment]:
    """Return what an experiment's draws build on and has not been run yet."""
    of = (experiment.draw or {}).get("of")
    name = f"{experiment.report}.{of}"
    return [] if of is None or name in runner.outcomes else list(choose([name]))


def _keep(
    folder: Path,
    chosen: Sequence[Experiment],
    runner: Runner,
    backend: Backend,
    quick: bool,
    seconds: float,
    figures: dict[str, list[str]],
    page: Any,
) -> None:
    """Write what is known so far, so that an end in the middle loses nothing."""
    from xpnet.utils.atomic_files import rewrite

    outcomes: dict[str, Outcome] = runner.outcomes
    about = (
        f"`xpnet reproduce`, xpnet {__version__}, {time.strftime('%Y-%m-%d')}, on {backend.device} of a "
        f"{platform.machine()} machine with Python {platform.python_version()}: {seconds:.0f} s."
    )
    if quick:
        about += " **Quick**: a tenth of the steps and few seeds, so the figures mean nothing."
    text = page(chosen, outcomes, about, figures)
    content = jsonlib.dumps({name: outcome.to_json() for name, outcome in outcomes.items()}, separators=(",", ":"))
    for name, written in (("README.md", text), ("results.json", content + "\n")):
        rewrite(folder / name, written.encode())


def _list(output: Output, experiments: Sequence[Experiment]) -> None:
    from rich.table import Table

    from xpnet.reproduction import load

    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for column in ("experiment", "where in the report", "what"):
        table.add_column(column, no_wrap=True)
    titles = {report: load(report).title for report in dict.fromkeys(e.report for e in experiments)}
    for report, title in titles.items():
        table.add_row(report, "", title, style="bold")
        for e in experiments:
            if e.report == report:
                table.add_row(e.name, e.source, e.what)
    rows = [{"name": e.name, "source": e.source, "what": e.what, "kind": e.kind} for e in experiments]
    output.result({"reports": titles, "experiments": rows}, table)


def _row(row: Any) -> dict[str, Any]:
    return {
        "cell": row.cell,
        "figure": row.figure,
        "theirs": None if row.theirs is None else {"mean": row.theirs[0], "std": row.theirs[1]},
        "ours": None if row.ours is None else {"mean": row.ours[0], "std": row.ours[1], "runs": row.ours[2]},
        "within": row.within,
        "instead": row.instead,
        "note": row.note,
    }


def _table(experiment: Experiment, outcome: Outcome) -> Any:
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    from xpnet.report.reproduction_markdown import row_texts
    from xpnet.reproduction.compare import compare

    quick = " (quick)" if outcome.quick else ""
    table = Table(title=f"{experiment.name}: {experiment.what}{quick}", title_justify="left", box=SIMPLE_HEAD)
    for column, justify in (
        ("", "left"),
        ("figure", "left"),
        ("report", "right"),
        ("here", "right"),
        ("runs", "right"),
    ):
        table.add_column(column, justify=justify, no_wrap=True)  # type: ignore[arg-type]
    table.add_column("within our spread", no_wrap=True)
    for row in compare(experiment, outcome):
        theirs, ours, runs, within = row_texts(row, experiment.kind)
        table.add_row(row.cell, row.figure, theirs, ours, runs, within.replace("**", ""))
    return table
