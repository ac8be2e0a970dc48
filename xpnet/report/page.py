"""A page: its parts as data, and their rendering as one HTML file that needs nothing else."""

from __future__ import annotations

import base64
import functools
import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from importlib import resources
from typing import ClassVar

from xpnet.report.figure import CONFIG, Panel, page_spec, static_svg
from xpnet.report.packing import pack
from xpnet.report.render import converted, drawable


@dataclass(frozen=True)
class Cell:
    """A cell of a table: its text, and what it is sorted by where that is a number."""

    text: str
    sort: float | None = None
    strong: bool = False


@dataclass(frozen=True)
class Table:
    """A table that sorts.

    Attributes:
        head: Titles of the columns.
        rows: Its cells.
        caption: What it shows.
        folded: What to press to unfold it; None shows it at once.
        tall: Whether it scrolls in a box of its own where it has many rows.
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


@dataclass(frozen=True)
class Text:
    """A paragraph; a ``note`` is set off, ``code`` is to be typed."""

    words: str
    role: str = "plain"
    kind: ClassVar[str] = "text"


@dataclass(frozen=True)
class Facts:
    """A few figures that matter most, each with its name and a detail."""

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
    """A small picture as a data URI, with what it shows and what stands below it."""

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
    """A part of a page; `level` 3 is a part of the part above it."""

    name: str
    title: str
    blocks: Sequence[Block]
    level: int = 2


@dataclass(frozen=True)
class Page:
    """A page.

    Attributes:
        kind: What it tells of: run, comparison, search or reproduction.
        title: Its head.
        subtitle: What stands below that.
        sections: Its parts.
        made: When and by what it was made.
        notes: What a reader should know first.
    """

    kind: str
    title: str
    subtitle: str
    sections: Sequence[Section]
    made: str
    notes: Sequence[str] = field(default_factory=list)

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
    """Return the page as HTML: style, scripts, charts and pictures are all inside.

    Whatever comes from data is escaped; beside that, the page's policy lets only its own script run and
    nothing be fetched.
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
    charts = json.dumps({"config": CONFIG, "specs": specs}, separators=(",", ":"))
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
        style=Markup((files / "page.css").read_text(encoding="utf-8")),
        script=Markup(script),
        digest=base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
        vega=_bundle() if panels else "",
        charts=pack(charts),
        static={panel.name: Markup(static_svg(panel)) for panel in panels},
    )


@functools.cache
def _bundle() -> str:
    """Return Vega, Vega-Lite and Vega-Embed as Altair's own inline pages have them, compressed."""
    import altair as alt

    version = alt.SCHEMA_VERSION.lstrip("v").rpartition(".")[0]
    return pack(converted("javascript_bundle", "window.vegaEmbed = vegaEmbed;", vl_version=version).decode())
