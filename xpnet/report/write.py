"""Writes the HTML page of run, search or reproduction folders, and its figures."""

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
from xpnet.config.fields import optional
from xpnet.errors import ConfigError, RunError
from xpnet.report.figure import write_panel
from xpnet.report.page import Page, render
from xpnet.report.records import kind_of, read_run
from xpnet.runs.folder import create_run_folder
from xpnet.utils.atomic_files import write_new
from xpnet.utils.file_system import unused
from xpnet.version import __version__

PAGE = "report.html"
_PAGES = (".html", ".htm")


@dataclass(frozen=True)
class Report:
    """The files that were written.

    Attributes:
        kind: run, comparison, search or reproduction.
        page: The HTML page.
        figures: Files of figures; empty if none were asked for.
        notes: Notes for the reader, such as missing data.
    """

    kind: str
    page: Path
    figures: list[Path]
    notes: list[str]


def _paths(value: Any) -> tuple[Path, ...]:
    return tuple(a_path(item) for item in value)


@takes(paths=_paths, **dict.fromkeys(("out", "data", "figures"), optional(a_path)))
def write_report(
    *paths: str | Path,
    out: str | Path | None = None,
    data: str | Path | None = None,
    figures: str | Path | None = None,
) -> Report:
    """Write the page of a run, a search or a reproduction, or a page that compares several runs.

    Args:
        paths: A folder, whose kind its files show, or several run folders.
        out: A new ``.html`` file, or a folder for ``report.html``; None takes ``report.html`` in the run's folder
            (``report_2.html`` and so on if the name is taken), or ``report-TIME.html`` in the working folder for
            several runs.
        data: The present location of the data; None takes the location in the settings.
        figures: A new folder for every figure as PNG and SVG, and its data as CSV.

    Returns:
        The files that were written, and notes for the reader, such as missing data.

    Raises:
        RunError: A folder is not of a run, a search or a reproduction; or a file is broken, or exists already.
        ConfigError: Settings are broken, or `paths` cannot be combined.
    """
    folders = [Path(path) for path in paths]
    if not folders:
        raise ConfigError("report: name a folder of a run, a search or a reproduction, or several runs to compare")
    target = _target(out, folders)
    if figures is not None and Path(figures).exists():
        taken = f"figures = {figures}: exists already, and nothing is overwritten"
        raise RunError(f"{taken}; name another folder, such as {unused(Path(figures))}")
    page = build_page(folders, None if data is None else str(data))
    html = render(page).encode(errors="backslashreplace")  # for folder names that are not UTF-8
    written: list[Path] = []
    if figures is not None:
        folder = create_run_folder(figures)
        written = [path for panel in page.panels() for path in write_panel(panel, folder)]
    target = _write(target, html, numbered=out is None)
    return Report(page.kind, target, written, list(page.notes))


def build_page(folders: Sequence[Path], data: str | None = None) -> Page:
    """Return the page of these folders; see :func:`write_report`."""
    with np.errstate(over="ignore", invalid="ignore"):  # sums and squares of diverging losses
        return _page(folders, data)


def _page(folders: Sequence[Path], data: str | None) -> Page:
    kinds = [kind_of(folder) for folder in folders]
    for folder, kind in zip(folders, kinds, strict=True):
        if kind != "run" and len(folders) > 1:
            raise ConfigError(f"{folder}: is a {kind}; only runs are compared, name it alone")
    # Imported here, since the drawing packages take a while to load.
    from xpnet.report.compare_page import compare_page
    from xpnet.report.reproduction_page import reproduction_page
    from xpnet.report.run_page import run_page
    from xpnet.report.search_page import search_page

    made = f"Made by xpnet {__version__} on {time.strftime('%Y-%m-%d')}."
    if len(folders) > 1:
        return compare_page([read_run(folder) for folder in folders], data, made)
    (folder,) = folders
    if kinds == ["run"]:
        return run_page(read_run(folder), data, made)
    return search_page(folder, data, made) if kinds == ["search"] else reproduction_page(folder, made)


def _target(out: str | Path | None, folders: Sequence[Path]) -> Path:
    """Return the file to write; refuse an existing file before anything is read."""
    if out is None:
        if len(folders) > 1:
            return Path(f"report-{time.strftime('%Y-%m-%d_%H-%M-%S')}.html")
        return folders[0] / PAGE
    path = Path(out)
    if path.suffix.lower() not in _PAGES or path.is_dir():
        path /= PAGE
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
