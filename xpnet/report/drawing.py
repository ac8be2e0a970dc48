"""Where Vega-Lite becomes SVG and PNG."""

from __future__ import annotations

import json
from typing import Any

from xpnet.errors import printable

# What XML cannot hold: vl-convert ends the whole process over it.
_UNWRITABLE = {*map(chr, range(32)), "\x7f", "\ufffe", "\uffff"} - {"\t", "\n", "\r"}


def svg(spec: dict[str, Any]) -> str:
    """Return a chart as SVG."""
    import vl_convert

    found: str = vl_convert.vegalite_to_svg(drawable(spec))
    return found


def png(spec: dict[str, Any], scale: float) -> bytes:
    """Return a chart as PNG, with `scale` times the pixels of its SVG."""
    import vl_convert

    found: bytes = vl_convert.vegalite_to_png(drawable(spec), scale=scale)
    return found


def drawable(value: Any) -> Any:
    """Return a specification in which control characters, such as those in names of classes, stand as their escapes."""
    if isinstance(value, dict):
        return {drawable(key): drawable(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [drawable(item) for item in value]
    if isinstance(value, str) and not (value.isprintable() or _UNWRITABLE.isdisjoint(value)):
        return printable(value, "\t\n\r")
    return value


def quoted(text: str) -> str:
    """Return text as a literal of Vega's expressions, where escapes would become what they stand for."""
    return json.dumps(drawable(text))
