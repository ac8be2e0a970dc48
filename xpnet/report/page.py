"""A page as data, and its rendering as one self-contained HTML file."""

from __future__ import annotations

import base64
import functools
import gzip
import hashlib
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from importlib import resources
from typing import Any, ClassVar

import numpy as np

from xpnet.report.figure import Panel, page_spec, static_svg
from xpnet.report.format import metric
from xpnet.report.render import converted, drawable
from xpnet.report.theme import PAGE_CONFIG


@dataclass(frozen=True)
class Cell:
    """A cell of a table.

    Attributes:
        text: Its text.
        sort: The number that it is sorted by, if it has one.
        strong: Whether it is bold.
        link: A relative address that the text links to.
        curve: Accuracies that are drawn as a small curve in place of a text.
        scale: The accuracies at the lower and the upper edge of the curve; None for its own lowest and highest.
    """

    text: str
    sort: float | None = None
    strong: bool = False
    link: str = ""
    curve: tuple[float, ...] = ()
    scale: tuple[float, float] | None = None

    @property
    def points(self) -> str:
        """The small curve as points of an SVG of 120 by 28 pixels."""
        low, high = self.scale or (min(self.curve), max(self.curve))
        step, rise = 116 / max(1, len(self.curve) - 1), 24 / ((high - low) or 1.0)
        return " ".join(f"{2 + i * step:.1f},{26 - rise * (y - low):.1f}" for i, y in enumerate(self.curve))

    @property
    def description(self) -> str:
        """The small curve in words."""
        ends, best = (f"{100 * value:.1f} %" for value in (self.curve[-1], max(self.curve)))
        return f"Curve of the accuracy from {100 * self.curve[0]:.1f} % to {ends}, at most {best}"


@dataclass(frozen=True)
class Table:
    """A table that sorts.

    Attributes:
        head: Titles of the columns.
        rows: Its cells.
        caption: Its title.
        folded: The text to click to unfold the table; None shows the table at once.
        tall: Whether a table with many rows scrolls in a box of its own.
    """

    head: Sequence[str]
    rows: Sequence[Sequence[Cell]]
    caption: str
    folded: str | None = None
    tall: bool = False
    kind: ClassVar[str] = "table"

    def numeric(self) -> list[bool]:
        """Return whether each column holds numbers."""
        return [any(row[column].sort is not None for row in self.rows) for column in range(len(self.head))]


def cell(value: Any, *, strong: bool = False) -> Cell:
    """Return a cell of a text or a setting: numbers sort as numbers, lists as text."""
    sort = None
    if isinstance(value, bool):
        text = "yes" if value else "no"
    elif isinstance(value, (int, float)):
        text, sort = f"{value:.6g}" if isinstance(value, float) else str(value), float(value)
    elif isinstance(value, (list, tuple)):
        text = ", ".join(cell(item).text for item in value) or "none"
    else:
        text = "" if value is None else str(value)
    return Cell(text, sort, strong)


def metric_cell(name: str, value: Any) -> Cell:
    """Return a cell of an accuracy, a loss or a cost, of one network or several."""
    mean = value.get("mean") if isinstance(value, dict) else value
    sort = None if mean is None or not np.isfinite(mean) else float(mean)
    return Cell("-" if value is None else metric(name, value), sort)


def seconds_cell(seconds: float | None, digits: int) -> Cell:
    """Return a cell of a time with `digits` digits after the point."""
    return Cell("-") if seconds is None else Cell(f"{seconds:.{digits}f} s", seconds)


def table(
    head: Sequence[str], rows: Iterable[Iterable[Any]], caption: str, folded: str | None = None, *, tall: bool = False
) -> Table:
    """Return a table; values that are not cells yet are converted by :func:`cell`."""
    cells = [[value if isinstance(value, Cell) else cell(value) for value in row] for row in rows]
    return Table(head, cells, caption, folded, tall)


@dataclass(frozen=True)
class Text:
    """A paragraph, which may be a highlighted ``note``, or ``code`` to type."""

    words: str
    role: str = "plain"
    kind: ClassVar[str] = "text"


@dataclass(frozen=True)
class Facts:
    """The most important figures, each with its name and a detail."""

    items: Sequence[tuple[str, str, str]]
    kind: ClassVar[str] = "facts"


@dataclass(frozen=True)
class Panels:
    """Charts side by side, with one table of their data beneath."""

    panels: Sequence[Panel]
    data: Table | None = None
    kind: ClassVar[str] = "panels"


@dataclass(frozen=True)
class Picture:
    """A small picture as a data URI, with its description and the text below it."""

    source: str
    alt: str
    caption: str


@dataclass(frozen=True)
class Gallery:
    """Small pictures side by side."""

    pictures: Sequence[Picture]
    label: str
    kind: ClassVar[str] = "gallery"


Block = Table | Text | Facts | Panels | Gallery


@dataclass(frozen=True)
class Section:
    """A section of a page; a section of `level` 3 belongs to the section above it."""

    name: str
    title: str
    blocks: Sequence[Block]
    level: int = 2


@dataclass(frozen=True)
class Page:
    """A page.

    Attributes:
        kind: run, comparison, search, reproduction or runs.
        title: Its heading.
        subtitle: The line below that.
        sections: Its sections.
        made: Which version of xpnet made it, and when.
        notes: Notes at the top of the page.
        conclusion: What it all says, in one sentence above everything; empty if nothing can be said.
    """

    kind: str
    title: str
    subtitle: str
    sections: Sequence[Section]
    made: str
    notes: Sequence[str] = field(default_factory=list)
    conclusion: str = ""

    def panels(self) -> list[Panel]:
        """Return all charts, in their order."""
        return [
            panel
            for section in self.sections
            for block in section.blocks
            if isinstance(block, Panels)
            for panel in block.panels
        ]


def render(page: Page) -> str:
    """Return the page as HTML that includes its style, scripts, charts and pictures.

    All text from data is escaped.  In addition, the page's content security policy allows only its own script, and no
    requests.
    """
    from jinja2 import Environment, PackageLoader, StrictUndefined
    from markupsafe import Markup

    panels = page.panels()
    names = [panel.name for panel in panels]
    if len(set(names)) < len(names):
        raise ValueError(f"two charts have one name: {sorted(n for n in names if names.count(n) > 1)[0]}")
    files = resources.files("xpnet.report") / "templates"
    script = (files / "page.js").read_text(encoding="utf-8").strip()
    specs = {panel.name: page_spec(panel) for panel in panels}
    charts = json.dumps({"config": PAGE_CONFIG, "specs": specs}, separators=(",", ":"))
    environment = Environment(
        loader=PackageLoader("xpnet.report"),
        autoescape=True,
        finalize=lambda value: value if isinstance(value, Markup) else drawable(value),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    template = environment.get_template("page.html")
    return template.render(
        page=page,
        once=_Once(),
        style=Markup((files / "page.css").read_text(encoding="utf-8")),
        script=Markup(script),
        digest=base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
        vega=_bundle() if panels else "",
        charts=_packed(charts),
        static={panel.name: Markup(static_svg(panel)) for panel in panels},
    )


class _Once:
    """Numbers the repetitions of a label, since a screen reader lists regions by their labels."""

    def __init__(self) -> None:
        self._seen: dict[str, int] = {}

    def __call__(self, label: str) -> str:
        self._seen[label] = count = self._seen.get(label, 0) + 1
        return label if count == 1 else f"{label} ({count})"


@functools.cache
def _bundle() -> str:
    """Return the compressed Vega, Vega-Lite and Vega-Embed, as in Altair's own inline pages."""
    import altair as alt

    version = alt.SCHEMA_VERSION.lstrip("v").rpartition(".")[0]
    return _packed(converted("javascript_bundle", "window.vegaEmbed = vegaEmbed;", vl_version=version).decode())


def _packed(text: str) -> str:
    """Return text compressed by gzip, in base64, which has no special characters of HTML."""
    return base64.b64encode(gzip.compress(text.encode(), 9, mtime=0)).decode()
