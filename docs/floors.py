"""Draws docs/images/floors.svg: the folders of xpnet from the top down, and their imports.  ``python docs/floors.py``.

The floors are the table in docs/design.md; the imports are read from the code.
"""

from __future__ import annotations

import ast
import functools
import re
from html import escape
from pathlib import Path

DOCS = Path(__file__).parent
PACKAGE = DOCS.parent / "xpnet"
PICTURE = DOCS / "images" / "floors.svg"
MODULES = {
    ".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts).removesuffix(".__init__"): path
    for path in sorted(PACKAGE.rglob("*.py"))
}
_ROW, _LEFT, _BOX, _WIDTH = 44, 130, 190, 1000
_STYLE = """
text { font: 13px system-ui, sans-serif; fill: #24292f }
.name { font: bold 13px ui-monospace, monospace }
.paper { fill: #fff } .floor { fill: #eaf1fb; stroke: #6f93c8 } .import { fill: none; stroke: #2f5ea8; opacity: .35 }
@media (prefers-color-scheme: dark) {
  text { fill: #e6edf3 } .paper { fill: #0d1117 } .floor { fill: #1b2a41; stroke: #4d76b3 } .import { stroke: #8ab4f8 }
}"""


def floors() -> list[tuple[list[str], str]]:
    """Return the floors from the top down: names of folders and modules, and their purpose."""
    table = (DOCS / "design.md").read_text().partition("<!-- floors -->")[2].partition("<!-- /floors -->")[0]
    rows = re.findall(r"^\| (`.*`) \| (.+) \|$", table, re.MULTILINE)
    return [(re.findall(r"`(\w+)`", names), purpose) for names, purpose in rows]


def part_of(module: str) -> str:
    """Return the folder, or the module beside the folders, that a module of xpnet belongs to."""
    return module.split(".")[1]


@functools.cache
def tree_of(path: Path) -> ast.Module:
    """Return the syntax tree of a module."""
    return ast.parse(path.read_text())


@functools.cache
def imports_of(path: Path) -> set[str]:
    """Return the modules of xpnet that a module imports, also within functions and for types alone."""
    found = set()
    for node in ast.walk(tree_of(path)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            names = {f"{node.module}.{alias.name}" for alias in node.names}
            found |= {name if name in MODULES else str(node.module) for name in names}
    return found & MODULES.keys() - {"xpnet"}


def picture() -> str:
    """Return the picture as SVG: a box for each floor, and a curve from a floor to each one that it imports from."""
    rows = floors()
    height = {name: number for number, (names, _) in enumerate(rows) for name in names}
    pairs = {
        (height[part_of(module)], height[part_of(other)])
        for module in MODULES.keys() - {"xpnet"}
        for other in imports_of(MODULES[module])
    }
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {_ROW * len(rows) + 16}" role="img">',
        "<title>The folders of xpnet from the top down; curves are imports, and all of them lead down</title>",
        f"<style>{_STYLE}</style>",
        '<rect class="paper" width="100%" height="100%"/>',
    ]
    for above, below in sorted(pairs):
        if above != below:
            start, end = _middle(above) + 6, _middle(below) - 6
            bulge = _LEFT - 12 - 7 * (below - above)
            lines.append(f'<path class="import" d="M{_LEFT} {start} C{bulge} {start} {bulge} {end} {_LEFT} {end}"/>')
    for number, (names, purpose) in enumerate(rows):
        y = _middle(number)
        lines += [
            f'<rect class="floor" x="{_LEFT}" y="{y - 15}" width="{_BOX}" height="30" rx="4"/>',
            f'<text class="name" x="{_LEFT + 12}" y="{y + 5}">{escape(", ".join(names))}</text>',
            f'<text x="{_LEFT + _BOX + 14}" y="{y + 5}">{escape(purpose.replace("`", ""))}</text>',
        ]
    return "\n".join([*lines, "</svg>", ""])


def _middle(number: int) -> int:
    return _ROW * number + 30


if __name__ == "__main__":
    PICTURE.write_text(picture())
