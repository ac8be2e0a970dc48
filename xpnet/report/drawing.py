"""Where Vega-Lite becomes SVG and PNG."""

from __future__ import annotations

import json
from typing import Any

# What XML cannot hold, over which vl-convert ends the whole process, as Unicode's pictures of it.  Escapes will not do:
# Vega-Lite puts titles into expressions, where they become what they stand for.
_PICTURES = {code: 0x2400 + code for code in range(32) if chr(code) not in "\t\n\r"} | {
    0x7F: 0x2421,
    0xFFFE: 0xFFFD,
    0xFFFF: 0xFFFD,
}


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
    """Return a specification in which control characters, such as those in names of classes, are pictures."""
    if isinstance(value, dict):
        return {drawable(key): drawable(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [drawable(item) for item in value]
    return value.translate(_PICTURES) if isinstance(value, str) else value


def quoted(text: str) -> str:
    """Return text as a literal of Vega's expressions."""
    return json.dumps(drawable(text))
