"""What live pages draw, as data for their script: curves of a run, statistics of its layers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from xpnet.analysis.layer_verdicts import LEGEND
from xpnet.report.theme import is_wide
from xpnet.training.history import evenly

# Most points of a curve, and most networks or layers with a curve of their own.
POINTS, _CURVES = 500, 6
# Measures of layers that are drawn, the most telling first; shares are in percent.
_MEASURES = ("relative_spread", "gradient_rms", "update_ratio", "dead", "effective_rank", "s_std")
_SHARES = ("dead",)
Columns = Mapping[str, NDArray[Any]]


def live_page(kind: str, title: str, state: str, *, ended: bool = False, **more: Any) -> dict[str, Any]:
    """Return a page for the script.

    Args:
        kind: ``"run"``, ``"search"`` or ``"runs"``.
        title: Its heading.
        state: How far it is, in words.
        ended: Whether nothing will change any more.
        more: ``done`` and ``of``: what the bar shows; ``conclusion``; ``note``; ``charts``; ``tables``, each with its
            ``caption``, ``head`` and ``rows`` of cells, a ``text`` and perhaps a ``link`` each; ``home``: whether it
            has a link to the first page.
    """
    page = {"kind": kind, "title": title, "state": state, "ended": ended, "done": 0, "of": 0, "home": False}
    return {**page, "conclusion": "", "note": "", "charts": [], "tables": [], **more}


def chart(
    title: str,
    x: Sequence[float],
    curves: Mapping[str, Sequence[float | None]],
    *,
    across: str = "epoch",
    joined: Sequence[str] | None = None,
    **how: bool,
) -> dict[str, Any]:
    """Return a chart for the script: curves of values at `x`, None where there is none.

    Args:
        title: Its heading.
        x: Places of the values.
        curves: The values of each curve, by its name.
        across: What `x` is.
        joined: Names of the curves that are lines; the others are points.  None joins all.
        how: ``percent``: whether the values are shares; ``log_x``, ``log_y``: whether an axis is logarithmic.
    """
    joined = list(curves) if joined is None else list(joined)
    return {"title": title, "x": list(x), "across": across, "curves": dict(curves), "joined": joined, **how}


def run_charts(columns: Columns, names: Sequence[str]) -> list[dict[str, Any]]:
    """Return the charts of a run: loss, accuracy and learning rate by epoch.

    Args:
        columns: The history: ``epoch`` (epochs,), and as (epochs, R) ``eta``, ``train_loss``, ``train_accuracy``,
            ``validation_loss`` and ``validation_accuracy``.
        names: Names of the networks; empty for a single one.
    """
    at = evenly(len(columns["epoch"]), POINTS)
    some = {name: values[at] for name, values in columns.items()}
    epochs, charts = [int(epoch) for epoch in some["epoch"]], []
    for figure in ("loss", "accuracy"):
        curves = {
            words: means(some[f"{which}_{figure}"])
            for which, words in (("train", "training"), ("validation", "validation"))
        }
        title = figure.capitalize() + (f", mean of {len(names)} networks" if len(names) > 1 else "")
        charts.append(chart(title, epochs, curves, percent=figure == "accuracy"))
    values = some["validation_accuracy"]
    if 1 < len(names) <= _CURVES:
        curves = {name: listed(values[:, r]) for r, name in enumerate(names) if r < values.shape[1]}
        charts.append(chart("Validation accuracy by network", epochs, curves, percent=True))
    return [*charts, chart("Learning rate", epochs, {"rate": means(some["eta"])})]


def layer_charts(epochs: Sequence[int], measures: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return charts of the statistics of layers, (epochs, R, L) by name; means over the networks."""
    charts: list[dict[str, Any]] = []
    at = evenly(len(epochs), POINTS)
    for name in _MEASURES:
        values = np.asarray(measures[name], float)[at]
        if not np.isfinite(values).any():
            continue
        layers = evenly(values.shape[2], _CURVES).tolist()
        curves = {f"layer {layer + 1}": means(values[:, :, layer]) for layer in layers}
        known = [value for curve in curves.values() for value in curve if value]
        of = f", {len(layers)} of {values.shape[2]} layers" if len(layers) < values.shape[2] else ""
        log = name not in _SHARES and is_wide(known)
        places = [int(epochs[place]) for place in at]
        charts.append(chart(LEGEND[name][0] + of, places, curves, percent=name in _SHARES, log_y=log))
    return charts


def means(values: Any) -> list[float | None]:
    """Return the mean of the finite values of each row, None if there are none."""
    known = [row[np.isfinite(row)] for row in map(np.atleast_1d, np.asarray(values, float))]
    return [float(row.mean()) if row.size else None for row in known]


def listed(values: Any) -> list[float | None]:
    """Return values, None for those that are not finite."""
    return [float(value) if np.isfinite(value) else None for value in values]


def settings_words(values: Mapping[str, Any]) -> str:
    """Return settings in a few words, such as ``seed 1, lambda 0.001``."""
    shown = {name: f"{value:.4g}" if isinstance(value, float) else str(value) for name, value in values.items()}
    return ", ".join(f"{name} {value}" for name, value in shown.items())
