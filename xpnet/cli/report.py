"""``xpnet report``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from cyclopts import Group, Parameter

from xpnet.cli.completion import page_folders
from xpnet.cli.console import STANDARD, Output
from xpnet.cli.live_page import watch_folder
from xpnet.cli.options import FLAG, OUTPUT
from xpnet.errors import ConfigError

# Values of the option of the same name for trainings: a folder of this name would hardly be meant.
_OF_TRAINING = ("auto", "none", "png", "svg", "all")

_REPORT = Group("Report", sort_key=0)


def report(
    *paths: Annotated[
        Path,
        Parameter(
            group=_REPORT,
            completer=page_folders,
            help="Folder of a run, a search, a reproduction or many runs; or several runs to compare.",
        ),
    ],
    data: Annotated[
        str | None,
        Parameter(group=_REPORT, metavar="NAME|PATH", help="Where the data is now. [default: where the settings say]"),
    ] = None,
    figures: Annotated[
        Path | None,
        Parameter(group=OUTPUT, help="New folder for each figure as PNG and SVG, and its data as CSV.", metavar="DIR"),
    ] = None,
    out: Annotated[
        Path | None,
        Parameter(
            group=OUTPUT,
            metavar="FILE|DIR",
            help="New .html file, or a folder for report.html. [default: report.html in the folder, "
            "report-TIME.html here for several runs]",
        ),
    ] = None,
    zip: Annotated[
        bool,
        Parameter(
            group=OUTPUT,
            **FLAG,
            help="Write a ZIP file to share, with page, settings, figures and data fingerprints of runs; xpnet train "
            "--config FILE.zip repeats one.",
        ),
    ] = False,
    watch: Annotated[
        bool,
        Parameter(
            group=_REPORT,
            **FLAG,
            help="In place of a file, serve a live page that only this machine sees, until Ctrl-C: of a run or search "
            "that is being trained, wherever it was started, or of all in a folder.",
        ),
    ] = False,
    output: Output = STANDARD,
) -> None:
    """Write a run, a search, a reproduction or an index of runs as one offline HTML page, or compare runs.

    The page has settings, environment, curves, confusion matrix, worst mistakes, weights, timing and the command
    that makes it again. Nothing is overwritten: where report.html is taken, report_2.html is written.
    """
    if watch:
        if len(paths) != 1 or any((data, figures, out, zip)):
            raise ConfigError("watch = true: serves the page of one folder and writes no file; leave other options out")
        watch_folder(paths[0], output)
        return
    if str(figures) in _OF_TRAINING:
        raise ConfigError(f"figures = {figures}: names a new folder here; leave it out, or name another folder")
    from xpnet.report.write import write_report

    found = write_report(*paths, out=out, data=data, figures=figures, share=zip)
    for note in found.notes:
        output.note(note)
    result = {
        "kind": found.kind,
        "page": str(found.page),
        "figures": [str(path) for path in found.figures],
        "notes": found.notes,
    }
    lines = [f"{'archive' if zip else 'page'}: {found.page} ({found.page.stat().st_size / 1e6:.2f} MB)"]
    if figures is not None:
        lines.append(f"figures: {figures} ({len(found.figures)} files)")
    output.result(result, *lines)
