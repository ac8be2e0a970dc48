"""A figure of a page: one chart, its data, and what it shows in words."""

from __future__ import annotations

import functools
import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from xpnet.report import render
from xpnet.training.history import csv_lines
from xpnet.utils.atomic_files import write_new

# Okabe and Ito's colours where they have a contrast of 3:1 to both white and the dark page; the others darkened.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#BC6A94", "#7A7A7A", "#8A7A00")
DASHES: tuple[list[int], ...] = ([1, 0], [7, 3], [2, 2], [9, 3, 2, 3])
_INK = "currentColor"
_WIDTH = 430
# vl-convert brings it along, so that a chart is laid out alike everywhere; page.css asks for fonts of its widths.
_STATIC_FONT = "Liberation Sans"
Row = Mapping[str, Any]
# Charts name their data, and share it between their layers.
ROWS = {"name": "rows"}


@dataclass(frozen=True)
class Panel:
    """One chart, drawn on a page and written as PNG, SVG and CSV.

    Attributes:
        name: The stem of its files, and its name on the page.
        title: What stands above it.
        alt: What it shows, for those who cannot see it.
        chart: An Altair chart of the data ``ROWS``, without size.
        rows: Its data.
        columns: What the fields of `rows` are called in the CSV, in their order.
        height: In pixels.
        wide: Whether it takes a whole row of the page.
        zoom: Whether its axes can be zoomed.
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

    @functools.cached_property
    def written(self) -> str:
        """The chart as Vega-Lite in JSON, without data and size."""
        # What Altair checks here, vl-convert finds too when it draws; checking takes longer than drawing.
        return json.dumps(self.chart.to_dict(validate=False))


def page_spec(panel: Panel) -> dict[str, Any]:
    """Return the chart as Vega-Lite for the page: as wide as there is room, with axes that zoom."""
    spec = _spec(panel) | {"width": "container", "autosize": {"type": "fit-x", "contains": "padding"}}
    if panel.zoom:
        # Plain scrolling stays the page's; with Ctrl or Shift it zooms, and a mouse pans.
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
    spec = _spec(panel) | {"width": _WIDTH * (2 if panel.wide else 1) - 60, "config": CONFIG | {"font": _STATIC_FONT}}
    return smaller(render.svg(spec))


def write_panel(panel: Panel, folder: Path, write: Callable[[Path, bytes], None] = write_new) -> list[Path]:
    """Write the chart as PNG and SVG with its title, for papers, and its data as CSV; return the paths.

    Raises:
        RunError: A file exists, unless `write` is one that replaces it, or cannot be written.
    """
    spec = _spec(panel) | {"width": _WIDTH - 60, "config": paper_config()}
    spec["title"] = {"text": panel.title, "anchor": "start", "fontSize": 14, "offset": 10}
    paths = [folder / f"{panel.name}.{kind}" for kind in ("png", "svg", "csv")]
    write(paths[0], render.png(spec, 3))
    write(paths[1], render.svg(spec).encode())
    write(paths[2], to_csv(panel).encode())
    return paths


def to_csv(panel: Panel) -> str:
    """Return the data of a chart as CSV."""
    body = [[row.get(name) for name in panel.columns] for row in panel.rows]
    return csv_lines([list(panel.columns.values()), *body])


def _spec(panel: Panel) -> dict[str, Any]:
    spec: dict[str, Any] = json.loads(panel.written)
    spec.pop("config", None)
    spec["datasets"] = {ROWS["name"]: [_lean(row) for row in panel.rows]}
    return spec | {"height": panel.height, "description": panel.alt}


def _lean(row: Row) -> dict[str, Any]:
    """Return a row without the digits that no pixel shows, and without nothing."""
    return {
        name: float(f"{value:.6g}") if isinstance(value, float) else value
        for name, value in row.items()
        if value is not None
    }


def joined(panels: Sequence[Panel], title: str, subtitle: str) -> dict[str, Any]:
    """Return charts side by side as one specification, for papers."""
    specs = [_spec(panel) | {"width": 280} for panel in panels]
    for number, (spec, panel) in enumerate(zip(specs, panels, strict=True)):
        own = f"{ROWS['name']}{number}"
        written = json.dumps({k: v for k, v in spec.items() if k != "datasets"})
        # Names are shared by all charts of a specification; so are parameters, which paper does not need.
        renamed = written.replace(json.dumps({"name": ROWS["name"]}), json.dumps({"name": own}))
        renamed = renamed.replace('"hover"', f'"hover{number}"')
        specs[number] = json.loads(renamed) | {"datasets": {own: spec["datasets"][ROWS["name"]]}, "name": panel.name}
    schema = specs[0]["$schema"]
    data: dict[str, Any] = {}
    for spec in specs:
        data |= spec.pop("datasets")
        spec.pop("$schema")
    head = {"text": title, "subtitle": subtitle, "anchor": "start", "fontSize": 14, "offset": 10}
    return {"$schema": schema, "hconcat": specs, "datasets": data, "title": head}


_AXIS = {
    "labelColor": _INK,
    "titleColor": _INK,
    "gridColor": _INK,
    "gridOpacity": 0.13,
    "domainColor": _INK,
    "domainOpacity": 0.5,
    "tickColor": _INK,
    "tickOpacity": 0.5,
    "titleFontWeight": "normal",
    "labelFontSize": 12,
    "titleFontSize": 12,
    "aria": False,
}
CONFIG: dict[str, Any] = {
    "background": None,
    "font": "system-ui, sans-serif",
    "view": {"stroke": None},
    "axis": _AXIS,
    "legend": {
        "orient": "top",
        "titleColor": _INK,
        "labelColor": _INK,
        "labelFontSize": 12,
        "titleFontSize": 12,
        "titleFontWeight": "normal",
        "symbolOpacity": 1,
        "labelLimit": 260,
        "aria": False,
    },
    "mark": {"aria": False},
    "text": {"color": _INK},
    "rule": {"color": _INK},
}


def paper_config() -> dict[str, Any]:
    """Return the page's style with ink on white."""
    written = json.dumps(CONFIG | {"background": "white", "font": "sans-serif"})
    found: dict[str, Any] = json.loads(written.replace(_INK, "#222222"))
    return found


_TAG = re.compile(r"<[^>]*>")
_PLACES = re.compile(r'\b(d|transform|x|y|x2|y2|width|height|viewBox)="([^"]*)"')
_DROPPED = re.compile(
    r' (?:role|aria-[a-z]+|class|stroke-miterlimit|pointer-events|xmlns:xlink|version|font-family)="[^"]*"'
    r'| (?:opacity="1"|stroke-width="1"|font-size="12px"|font-weight="normal"|text-anchor="start"|[xy]2="0")'
    r'| transform="translate\(0,0\)"'
)
_UNSEEN = re.compile(
    r'<path [^>]*(?:\bopacity="0"|d="M0,0h0v0h0Z"|class="(?:background|foreground)")[^>]*(?:/>|></path>)'
)


def smaller(svg: str) -> str:
    """Return an SVG of Vega's without what nobody sees: digits, empty groups, marks that wait for a pointer.

    The page's style says what is left out: the font, and the colour of lines that have none.
    """
    svg = _TAG.sub(_lean_tag, _UNSEEN.sub("", svg))
    before = ""
    while before != svg:
        before = svg
        svg = re.sub(r"<g[^>]*/>|<g[^>]*></g>", "", svg)
        svg = re.sub(r"<g>((?:<(?!/?g\b)[^>]*>|[^<])*)</g>", r"\1", svg)
    return svg


def _lean_tag(found: re.Match[str]) -> str:
    tag = _PLACES.sub(lambda part: f'{part[1]}="{_rounded(part[2])}"', found[0])
    tag = _DROPPED.sub("", tag)
    return tag.replace(f' stroke="{_INK}"', "") if tag.startswith("<line") else tag


def _rounded(places: str) -> str:
    return re.sub(r"\d+\.\d\d+", lambda number: f"{float(number[0]):.1f}".removesuffix(".0"), places)
