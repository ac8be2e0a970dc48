"""The figure of a diagnosis: small multiples by measure, a line for each layer."""

from __future__ import annotations

import warnings
from typing import Any

import altair as alt
import numpy as np

from xpnet.analysis.layer_history import LayerHistory
from xpnet.analysis.layer_statistics import MEASURES
from xpnet.analysis.layer_verdicts import LEGEND
from xpnet.report.theme import is_wide, log_axis, titled
from xpnet.training.population import Population

_PANELS = (
    *("s_std", "gradient_rms", "update_ratio"),
    *("y_std", "inactive", "dead"),
    *("effective_rank", "similarity", "relative_spread"),
)
_COLUMNS = 3
_SHARES = ("dead", "inactive")
_WIDTH, _HEIGHT, _LABELS = 230, 150, 38
# Axis end of shares: 1 lies a little below the frame, so that its label does not push the title up.
_TOP = 1.05
# Most combinations of settings with panels of their own.
_BLOCKS = 4


def diagnosis_figure(history: LayerHistory, population: Population, title: str, samples: int) -> Any:
    """Return nine measures by epoch, a line for each layer, from dark (the first) to light (the last).

    For several seeds a line is the median over the networks that have not diverged.  If settings vary, each of the
    first four combinations has panels of its own.
    """
    combinations = population.combinations()
    blocks = [_block(history, members, _heading(combination)) for combination, members in combinations[:_BLOCKS]]
    runs = max(len(members) for _, members in combinations)
    subtitle = f"on {samples:,} training samples" + (f"; medians of {runs} networks" if runs > 1 else "")
    if len(combinations) > _BLOCKS:
        subtitle += f"; the first {_BLOCKS} of {len(combinations)} combinations of settings"
    return titled(alt.vconcat(*blocks, spacing=26), title, subtitle, labelFontSize=11, symbolStrokeWidth=3)


def _block(history: LayerHistory, members: list[int], heading: str) -> Any:
    """Return the panels of the networks `members`."""
    panels = [_panel(history, members, name) for name in _PANELS]
    # Panels are aligned in rows and columns by their frames, not by the labels outside the frames.
    spacing = {"column": 2 * _LABELS, "row": 72}
    block = alt.concat(*panels, columns=_COLUMNS, bounds="flush", spacing=spacing).resolve_scale(color="shared")
    return block.properties(title=alt.TitleParams(heading, anchor="start", fontSize=13)) if heading else block


def _panel(history: LayerHistory, members: list[int], name: str) -> Any:
    """Return one measure against the epoch."""
    values = history[name][:, members]  # (epochs, members, layers)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # a median of NaN only gives no point
        medians = np.nanmedian(np.where(np.isfinite(values), values, np.nan), axis=1)
    scale, axis, is_log = _scale(name, medians[np.isfinite(medians)])
    layers, epochs = [str(layer + 1) for layer in range(medians.shape[1])], history["epoch"]
    rows = [
        {"epoch": int(epoch), "layer": layer, name: float(value)}
        for epoch, of_epoch in zip(epochs, medians, strict=True)
        for layer, value in zip(layers, of_epoch, strict=True)
        if np.isfinite(value) and (value > 0 or not is_log)  # a logarithmic axis has no 0
    ]
    below = f"{name}: {MEASURES[name]}"
    title = alt.TitleParams(LEGEND[name][0], subtitle=below, anchor="start", frame="group", fontSize=12, offset=6)
    chart = alt.Chart({"values": rows}, title=title)
    chart = chart.mark_line(strokeWidth=1.8, point=alt.OverlayMarkDef(size=16) if len(epochs) <= 12 else False)
    return chart.encode(
        x=alt.X(
            "epoch:Q",
            title="epoch" if name in _PANELS[-_COLUMNS:] else None,
            scale=alt.Scale(domain=[0, max(1, int(epochs[-1]))], nice=False),
            axis=alt.Axis(tickCount=min(int(epochs[-1]), 10), format="d", grid=False),
        ),
        y=alt.Y(f"{name}:Q", title=None, scale=scale, axis=axis),
        color=alt.Color(
            "layer:N",
            sort=layers,
            scale=alt.Scale(scheme="viridis", domain=layers),
            legend=alt.Legend(title="layer", symbolType="stroke"),
        ),
    ).properties(width=_WIDTH, height=_HEIGHT)


def _scale(name: str, drawn: Any) -> tuple[Any, Any, bool]:
    """Return scale and axis of a measure for the finite values that are drawn, and whether it is logarithmic."""
    extent: dict[str, Any] = {"minExtent": _LABELS, "maxExtent": _LABELS}  # so that panels stand in columns
    positive = drawn[drawn > 0]
    if name in _SHARES:
        return alt.Scale(domain=[0, _TOP]), alt.Axis(format="%", tickCount=4, **extent), False
    if name == "similarity":
        return alt.Scale(domain=[min([0.0, *drawn.tolist()]), _TOP]), alt.Axis(tickCount=4, **extent), False
    if is_wide(positive):
        axis = alt.Axis(**log_axis(positive.min(), positive.max()), **extent)
        return alt.Scale(type="log", nice=False, padding=6), axis, True
    return alt.Scale(zero=True, nice=True), alt.Axis(format=".3~g", tickCount=4, **extent), False


def _heading(combination: dict[str, Any]) -> str:
    return ", ".join(
        f"{name} {value:g}" if isinstance(value, float) else f"{name} {value}" for name, value in combination.items()
    )
