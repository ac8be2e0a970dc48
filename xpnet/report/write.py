"""Writes the HTML page of a folder of a run, a search, a reproduction or many runs, and its figures."""

from __future__ import annotations

import itertools
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from xpnet.config.arguments import path as a_path
from xpnet.config.arguments import takes
from xpnet.config.fields import flag, optional
from xpnet.errors import ConfigError, RunError
from xpnet.report.figure import panel_files, write_files
from xpnet.report.page import Page, render
from xpnet.report.records import kind_of, read_run
from xpnet.runs.folder import create_run_folder
from xpnet.utils.atomic_files import write_new
from xpnet.utils.extras import need
from xpnet.utils.file_system import unused
from xpnet.version import __version__

PAGE, SHARED = "report.html", "report.zip"
_PAGES = (".html", ".htm")


@dataclass(frozen=True)
class Report:
    """The files that were written.

    Attributes:
        kind: run, comparison, search, reproduction or runs.
        page: The HTML page, or the archive that holds it.
        figures: Files of figures; empty if none were asked for.
        notes: Notes for the reader, such as missing data.
    """

    kind: str
    page: Path
    figures: list[Path]
    notes: list[str]


def _paths(value: Any) -> tuple[Path, ...]:
    return tuple(a_path(item) for item in value)


@takes(paths=_paths, share=flag, **dict.fromkeys(("out", "data", "figures"), optional(a_path)))
def write_report(
    *paths: str | Path,
    out: str | Path | None = None,
    data: str | Path | None = None,
    figures: str | Path | None = None,
    share: bool = False,
) -> Report:
    """Write the page of a run, a search or a reproduction, or a page that lists or compares several runs.

    Args:
        paths: A folder, whose kind its files show; one that holds runs, for an index of them; or several run folders.
        out: A new ``.html`` file, or a folder for ``report.html``; None takes ``report.html`` in the run's folder
            (``report_2.html`` and so on if the name is taken), or ``report-TIME.html`` in the working folder for
            several runs.
        data: The present location of the data; None takes the location in the settings.
        figures: A new folder for every figure as PNG and SVG, and its data as CSV.
        share: Whether to write, in place of the page, a ZIP archive of the page and of the runs' settings, figures and
            data fingerprints, from which others can repeat the runs; `out` is then a ``.zip`` file.

    Returns:
        The files that were written, and notes for the reader, such as missing data.

    Raises:
        RunError: A folder is not of a run, a search or a reproduction; or a file is broken, or exists already.
        ConfigError: Settings are broken, or `paths` cannot be combined.
        MissingExtraError: The packages that draw are not installed.
    """
    need("figures", "a report")
    folders = [Path(path) for path in paths]
    if not folders:
        raise ConfigError(
            "report: name a folder of a run, a search, a reproduction or many runs, or several runs to compare"
        )
    target = _target(out, folders, SHARED if share else PAGE)
    if share and any(kind_of(folder) != "run" for folder in folders):
        raise ConfigError("share = true: an archive holds runs; name one, or several")
    if figures is not None and Path(figures).exists():
        taken = f"figures = {figures}: exists already, and nothing is overwritten"
        raise RunError(f"{taken}; name another folder, such as {unused(Path(figures))}")
    page = build_page(folders, None if data is None else str(data), target)
    html = render(page).encode(errors="backslashreplace")  # for folder names that are not UTF-8
    if share:
        from xpnet.runs.share import shared_archive

        html = shared_archive(folders, html)
    written: list[Path] = []
    if figures is not None:
        folder = create_run_folder(figures)
        written = [path for panel in page.panels() for path in write_files(panel_files(panel), folder)]
    target = _write(target, html, numbered=out is None)
    return Report(page.kind, target, written, list(page.notes))


def build_page(folders: Sequence[Path], data: str | None = None, target: Path | None = None) -> Page:
    """Return the page of these folders; see :func:`write_report`."""
    with np.errstate(over="ignore", invalid="ignore"):  # sums and squares of diverging losses
        return _page(folders, data, target)


def _page(folders: Sequence[Path], data: str | None, target: Path | None) -> Page:
    kinds = [kind_of(folder) for folder in folders]
    for folder, kind in zip(folders, kinds, strict=True):
        if kind != "run" and len(folders) > 1:
            what = "a folder of runs" if kind == "runs" else f"a {kind}"
            raise ConfigError(f"{folder}: is {what}; only runs are compared, name it alone")
    # Imported here, since the drawing packages take a while to load.
    from xpnet.report.compare_page import compare_page
    from xpnet.report.diagnosis_page import diagnosis_page
    from xpnet.report.reproduction_page import reproduction_page
    from xpnet.report.run_page import run_page
    from xpnet.report.runs_page import runs_page
    from xpnet.report.search_page import search_page

    made = f"Made by xpnet {__version__} on {time.strftime('%Y-%m-%d')}."
    if len(folders) > 1:
        return compare_page([read_run(folder) for folder in folders], data, made)
    (folder,) = folders
    if kinds == ["diagnosis"]:
        return diagnosis_page(folder, made)
    if kinds == ["runs"]:
        return runs_page(folder, PAGE, made, target)
    if kinds == ["run"]:
        return run_page(read_run(folder), data, made)
    return search_page(folder, data, made) if kinds == ["search"] else reproduction_page(folder, made)


def _target(out: str | Path | None, folders: Sequence[Path], name: str = PAGE) -> Path:
    """Return the file to write, by default `name`; refuse an existing file before anything is read."""
    suffix = Path(name).suffix
    if out is None:
        if len(folders) > 1:
            return Path(f"report-{time.strftime('%Y-%m-%d_%H-%M-%S')}{suffix}")
        return folders[0] / name
    path = Path(out)
    if path.suffix.lower() not in (_PAGES if name == PAGE else (suffix,)) or path.is_dir():
        path /= name
    if path.exists():
        raise RunError(f"out = {path}: exists already, and nothing is overwritten; type --out {unused(path)}")
    return path


def _write(target: Path, html: bytes, *, numbered: bool) -> Path:
    """Write the page and return its path; if the name is taken and `numbered` is True, take the next number."""
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise RunError(f"out = {target.parent}: cannot be made ({error.strerror}); name another folder") from None
    path = target
    for number in itertools.count(2):
        try:
            write_new(path, html)
            break
        except RunError:
            # Another process may have taken the name in the meantime.
            if not (numbered and path.exists()):
                raise
        path = target.with_name(f"{target.stem}_{number}{target.suffix}")
    return path
