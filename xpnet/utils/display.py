"""Objects in one line of text, and in notebooks as small, self-contained pieces of HTML with curves in SVG."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from html import escape

_WIDTH, _HEIGHT, _MARGIN = 360, 120, 8
_COLOURS = ("#2f5ea8", "#c2571a", "#2e7d32", "#7b4ea3")
_MOST_POINTS = 400


class Displayed:
    """Base of classes that Python shows as one line, and notebooks as a table with curves.

    Subclasses define `_facts`, and `_curves` if they have any.
    """

    def _facts(self) -> Mapping[str, str]:
        """Return what is to be shown, by name; a fact whose name is empty comes first, without a name."""
        return {}

    def _curves(self) -> Mapping[str, Sequence[float]]:
        """Return values by epoch, by name."""
        return {}

    def __repr__(self) -> str:
        facts = (f"{name}={text}" if name else text for name, text in self._facts().items())
        return f"{type(self).__name__}({', '.join(facts)})"

    def _repr_html_(self) -> str:
        facts = self._facts()
        title = " ".join([type(self).__name__, *(text for name, text in facts.items() if not name)])
        return box(title, {name: text for name, text in facts.items() if name}, self._curves())


def box(title: str, facts: Mapping[str, str], curves: Mapping[str, Sequence[float]]) -> str:
    """Return a title, a table of facts, and a chart of curves if there are any, as HTML."""
    rows = "".join(
        f'<tr><th style="text-align:left">{escape(name)}</th><td style="text-align:left">{escape(text)}</td></tr>'
        for name, text in facts.items()
    )
    return f"<div><strong>{escape(title)}</strong><table>{rows}</table>{chart(curves)}</div>"


def chart(curves: Mapping[str, Sequence[float]]) -> str:
    """Return curves over common axes as SVG, with a legend below; an empty text if no value is finite."""
    thinned = {name: list(values)[:: max(1, len(values) // _MOST_POINTS)] for name, values in curves.items()}
    finite = [value for values in thinned.values() for value in values if math.isfinite(value)]
    if not finite:
        return ""
    low, high = min(finite), max(finite)
    lines, names, drawn = [], [], []
    for (name, values), colour in zip(thinned.items(), _COLOURS * len(thinned), strict=False):
        points = " ".join(
            f"{_place(i / max(1, len(values) - 1), _WIDTH):.1f},"
            f"{_place((high - value) / ((high - low) or 1.0), _HEIGHT):.1f}"
            for i, value in enumerate(values)
            if math.isfinite(value)
        )
        if points:
            lines.append(f'<polyline points="{points}" fill="none" stroke="{colour}" stroke-width="2"/>')
            names.append(f"{_swatch(colour)} {escape(name)}")
            drawn.append(name)
    words = escape(f"Curves of {', '.join(drawn)}, from {low:.4g} to {high:.4g}")
    return (
        f'<svg viewBox="0 0 {_WIDTH} {_HEIGHT}" width="{_WIDTH}" height="{_HEIGHT}" role="img" aria-label="{words}">'
        f'<rect width="100%" height="100%" fill="none" stroke="#888"/>{"".join(lines)}</svg>'
        f"<div>{' &middot; '.join(names)}, from {low:.4g} to {high:.4g}</div>"
    )


def _swatch(colour: str) -> str:
    """Return the colour of a line as a small square; names have the colour of the text, which can be read anywhere."""
    return f'<svg width="10" height="10" aria-hidden="true"><rect width="10" height="10" fill="{colour}"/></svg>'


def _place(share: float, size: int) -> float:
    return _MARGIN + share * (size - 2 * _MARGIN)


def mean_and_spread(values: Sequence[float]) -> str:
    """Return a figure of several networks, such as ``0.5315 +- 0.0037 (3 networks)``; NaN is left out."""
    known = [float(value) for value in values if math.isfinite(value)]
    if not known:
        return "unknown"
    mean = math.fsum(known) / len(known)
    if len(values) == 1:
        return f"{mean:.4f}"
    spread = math.sqrt(math.fsum((value - mean) ** 2 for value in known) / max(1, len(known) - 1))
    return f"{mean:.4f} ± {spread:.4f} ({len(values)} networks)"
