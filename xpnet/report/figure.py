"""A figure of a page: one chart, its data, and its description."""

from __future__ import annotations

import functools
import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from xpnet.report import render
from xpnet.report.theme import PAGE_CONFIG, paper_config
from xpnet.training.history import csv_lines
from xpnet.utils.atomic_files import write_new

# Kinds of pictures.
KINDS = ("png", "svg")
_WIDTH = 430
# vl-convert contains this font, so the layout is the same everywhere; page.css takes fonts of the same widths.
_STATIC_FONT = "Liberation Sans"
# The half of an SVG that a page does not need: names of parts, the font (see page.css), decimals after the second.
_UNSEEN = re.compile(r'(?: (?:role|class|aria-[a-z]+|pointer-events|font-family)="[^"]*"|(?<=\.\d\d)\d+)(?=[^<>]*>)')
Row = Mapping[str, Any]
# All layers of a chart share this named data.
ROWS = {"name": "rows"}


@dataclass(frozen=True)
class Panel:
    """One chart, shown on a page and written as PNG, SVG and CSV.

    Attributes:
        name: The stem of its files, and its name on the page.
        title: Its heading.
        alt: Its description, as alternative text for screen readers.
        chart: An Altair chart of the data ``ROWS``, without size.
        rows: Its data.
        columns: Names of the fields of `rows` in the CSV, in their order.
        height: In pixels.
        wide: Whether the chart takes a full row of the page.
        zoom: Whether users can zoom its axes.
        note: What to know beside it, in a line below it.
    """

    name: str
    title: str
    alt: str
    chart: Any
    rows: Sequence[Row]
    columns: Mapping[str, str]
    height: int = 230
    wide: bool = False
    zoom: bool = True
    note: str = ""

    @functools.cached_property
    def _json(self) -> str:
        # No validation, which takes longer than drawing; vl-convert finds the same errors.
        return json.dumps(self.chart.to_dict(validate=False))

    def spec(self) -> dict[str, Any]:
        """Return the chart as Vega-Lite with its data, without width."""
        spec: dict[str, Any] = json.loads(self._json)
        spec.pop("config", None)
        return spec | {"data": {"values": list(self.rows)}, "height": self.height, "description": self.alt}

    def static_spec(self, width: int) -> dict[str, Any]:
        """Return the chart as Vega-Lite for a static picture, without the marks that appear only under a pointer."""
        spec = self.spec() | {"width": width}
        if spec.pop("params", None):
            spec["layer"] = [layer for layer in spec["layer"] if "opacity" not in layer["encoding"]]
        return spec


def page_spec(panel: Panel) -> dict[str, Any]:
    """Return the chart as Vega-Lite for the page: in the width of its container, with axes that zoom."""
    spec = panel.spec() | {"width": "container", "autosize": {"type": "fit-x", "contains": "padding"}}
    if panel.zoom:
        # Plain scrolling scrolls the page; with Ctrl or Shift it zooms the chart, and dragging pans.
        zoom = {
            "name": "zoom",
            "select": {
                "type": "interval",
                "zoom": "wheel![event.ctrlKey || event.shiftKey]",
                "translate": "[mousedown, window:mouseup] > window:mousemove!",
            },
            "bind": "scales",
        }
        target = spec["layer"][0] if "layer" in spec else spec
        target["params"] = [*target.get("params", ()), zoom]
    return spec


def static_svg(panel: Panel) -> str:
    """Return the chart as a small SVG in the colour of the text around it, for pages without scripts."""
    config = PAGE_CONFIG | {"font": _STATIC_FONT}
    return _UNSEEN.sub("", render.svg(panel.static_spec(_WIDTH * (2 if panel.wide else 1) - 60) | {"config": config}))


def panel_files(panel: Panel, kinds: Sequence[str] = KINDS) -> dict[str, bytes]:
    """Return the chart as pictures with its title, for papers, and its data as CSV, by the names of the files."""
    spec = panel.static_spec(_WIDTH - 60) | {"config": paper_config()}
    spec["title"] = {"text": panel.title, "anchor": "start", "fontSize": 14, "offset": 10}
    body = [[row.get(name) for name in panel.columns] for row in panel.rows]
    pictures = render.pictures(spec, kinds, 3)
    files = {f"{panel.name}.{kind}": content for kind, content in pictures.items()}
    return files | {f"{panel.name}.csv": csv_lines([list(panel.columns.values()), *body]).encode()}


def chart_files(chart: Any, stem: str, kinds: Sequence[str] = KINDS) -> dict[str, bytes]:
    """Return a chart or its specification as pictures, by the names of the files; a PNG has twice the SVG's pixels."""
    spec = chart if isinstance(chart, dict) else chart.to_dict()
    return {f"{stem}.{kind}": content for kind, content in render.pictures(spec, kinds, 2).items()}


def write_files(
    files: Mapping[str, bytes], folder: Path, write: Callable[[Path, bytes], None] = write_new
) -> list[Path]:
    """Write files by their names; return the paths.

    Raises:
        RunError: A file exists, unless `write` replaces files, or it cannot be written.
    """
    for name, content in files.items():
        write(folder / name, content)
    return [folder / name for name in files]


def side_by_side(panels: Sequence[Panel], title: str, subtitle: str) -> dict[str, Any]:
    """Return charts side by side as one specification, for papers."""
    specs = [panel.static_spec(280) for panel in panels]
    *_, schema = (spec.pop("$schema") for spec in specs)
    head = {"text": title, "subtitle": subtitle, "anchor": "start", "fontSize": 14, "offset": 10}
    return {"$schema": schema, "hconcat": specs, "title": head, "config": paper_config()}
