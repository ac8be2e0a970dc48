"""Draw charts: Vega-Lite becomes SVG and PNG."""

from __future__ import annotations

import base64
import contextlib
import importlib
import json
import re
import subprocess
import sys
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from xpnet.errors import XpnetError
from xpnet.utils.png import png as png_file

# XML cannot hold control characters, and vl-convert ends the process over them, so Unicode's pictures for control
# characters replace them.  Escapes would not work: Vega-Lite puts titles into expressions, which undo escapes.
_PICTURES = {code: 0x2400 + code for code in range(32) if chr(code) not in "\t\n\r"} | {
    0x7F: 0x2421,
    0xFFFE: 0xFFFD,
    0xFFFF: 0xFFFD,
}
# A chart of one point, with axes.
_SMALLEST: dict[str, Any] = {
    "data": {"values": [{"x": 1, "s": "a"}]},
    "mark": "line",
    "encoding": {"x": {"field": "x", "type": "quantitative"}, "color": {"field": "s", "type": "nominal"}},
}
# If fewer open files are allowed, vl-convert runs in a process of its own.
_FILES = 100

# The program of that process: it reads the name of a function and its arguments as JSON, and writes the result.
_DRAW = """
import json, sys, vl_convert
name, given, options = json.load(sys.stdin)
found = getattr(vl_convert, name)(*given, **options)
sys.stdout.buffer.write(found if isinstance(found, bytes) else found.encode())
"""


class DrawingError(XpnetError):
    """Charts cannot be drawn on this system."""


def load(*, warm: bool = False) -> None:
    """Load the modules that draw figures, before a training begins.

    Later, memory may be short, and imports ignore signals.  Errors are ignored here; they appear when a figure is
    drawn.

    Args:
        warm: Whether to draw something too: the first figure takes half a second longer than others.
    """
    with contextlib.suppress(Exception):
        import altair  # noqa: F401

        for name in ("curves", "population", "lr_range", "diagnosis"):
            importlib.import_module(f"xpnet.report.{name}_chart")
        if not _limited():
            import vl_convert  # noqa: F401

            if warm:
                png(svg(_SMALLEST), 1)


def svg(spec: dict[str, Any]) -> str:
    """Return a chart as SVG.

    Raises:
        DrawingError: Nothing can be drawn here.
    """
    return converted("vegalite_to_svg", drawable(spec)).decode()


def png(svg: str, scale: float) -> bytes:
    """Return an SVG as PNG, with `scale` times its pixels.

    Raises:
        DrawingError: Nothing can be drawn here.
    """
    return converted("svg_to_png", svg, scale=scale)


def pictures(spec: dict[str, Any], kinds: Sequence[str], scale: float) -> dict[str, bytes]:
    """Return a chart as pictures of some kinds, "png" or "svg", by kind; a PNG has `scale` times the SVG's pixels.

    Raises:
        DrawingError: Nothing can be drawn here.
    """
    drawn = svg(spec)
    return {kind: drawn.encode() if kind == "svg" else png(drawn, scale) for kind in kinds}


def converted(name: str, *given: Any, **options: Any) -> bytes:
    """Call a function of vl-convert and return its result.

    vl-convert reserves some hundred GB of address space, and ends the process if address space or open files are
    limited; in that case it gets a process of its own.

    Raises:
        DrawingError: The function failed, or its process ended.
    """
    if not _limited():
        import vl_convert

        found: bytes | str
        try:
            found = getattr(vl_convert, name)(*given, **options)
        except BaseException as error:
            if type(error).__name__ == "PanicException":  # from Rust; it is not a subclass of Exception
                raise DrawingError(f"a chart cannot be drawn ({error})") from None
            raise
        return found if isinstance(found, bytes) else found.encode()
    command = [sys.executable, "-P", "-c", _DRAW]
    asked = json.dumps((name, given, options)).encode()
    try:
        done = subprocess.run(command, input=asked, capture_output=True, check=False)
    except OSError as error:  # no memory, processes or open files left
        raise DrawingError(f"a chart cannot be drawn ({error.strerror})") from None
    if done.returncode > 0:
        said = done.stderr.decode(errors="replace").splitlines()
        why = next((line for line in said if re.match(r"[\w.]+(Error|PanicException)\b", line)), "".join(said[-1:]))
        raise DrawingError(f"a chart cannot be drawn ({why})")
    if done.returncode < 0:
        raise DrawingError(
            "charts cannot be drawn here: what draws them reserves some hundred GB of addresses, more than this "
            "process may (ulimit -v); allow it more, or draw elsewhere with xpnet report"
        )
    return done.stdout


def _limited() -> bool:
    """Return whether limits of this process deny vl-convert the address space or the open files that it needs."""
    try:
        import resource
    except ImportError:
        return False
    files = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    return resource.getrlimit(resource.RLIMIT_AS)[0] != resource.RLIM_INFINITY or 0 <= files < _FILES


def drawable(value: Any) -> Any:
    """Return a specification with control characters, such as those in names of classes, replaced by pictures."""
    if isinstance(value, dict):
        return {drawable(key): drawable(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [drawable(item) for item in value]
    return value.translate(_PICTURES) if isinstance(value, str) else value


def quoted(text: str) -> str:
    """Return text as a string literal for Vega expressions."""
    return json.dumps(drawable(text))


def data_uri(planes: NDArray[np.uint8]) -> str:
    """Return channel planes (channels, height, width), one or three, as a PNG in a data URI."""
    return "data:image/png;base64," + base64.b64encode(png_file(planes)).decode()
