"""The figure of a diagnosis: small multiples by measure, a line for each layer."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np

from xpnet.analysis.layer_history import LayerHistory
from xpnet.analysis.layer_statistics import MEASURES
from xpnet.report.charts import log_ticks
from xpnet.training.population import Population

_PANELS = (
    ("s_std", "gradient_rms", "update_ratio"),
    ("y_std", "inactive", "dead"),
    ("effective_rank", "similarity", "relative_spread"),
)
_SHARES = ("dead", "inactive")
_WIDTH, _HEIGHT, _LABELS = 230, 150, 38
# A share of 1 is drawn a little below the frame, where its label does not push the title up.
_TOP = 1.05
# From this ratio of largest to smallest on, an axis is logarithmic.
_WIDE = 30.0
# Combinations of settings that get panels of their own.
_BLOCKS = 4


def diagnosis_figure(history: LayerHistory, population: Population, title: str, samples: int) -> Any:
    """Return nine measures by epoch, a line for each layer, from dark (the first) to light (the last).

    For several seeds a line is the median over the networks that have not diverged.  Settings that vary have
    panels of their own, the first four combinations of them.
    """
    import altair as alt

    combinations = population.combinations()
    blocks = [_block(history, members, _named(combination)) for combination, members in combinations[:_BLOCKS]]
    runs = max(len(members) for _, members in combinations)
    subtitle = f"on {samples:,} training samples" + (f"; medians of {runs} networks" if runs > 1 else "")
    if len(combinations) > _BLOCKS:
        subtitle += f"; the first {_BLOCKS} of {len(combinations)} combinations of settings"
    return (
        alt.vconcat(*blocks, spacing=26)
        .properties(title=alt.TitleParams(title, subtitle=subtitle, anchor="start", fontSize=15, offset=12))
        .configure_view(strokeWidth=0)
        .configure_axis(gridColor="#e6e6e6", domainColor="#888", tickColor="#888", titleFontWeight="normal")
        .configure_legend(labelFontSize=11, symbolStrokeWidth=3)
    )


def _block(history: LayerHistory, members: list[int], head: str) -> Any:
    """Return the panels of the networks `members`."""
    import altair as alt

    panels = [_panel(history, members, name) for names in _PANELS for name in names]
    # By their frames, not by what labels stick out of them: panels stand in rows and columns.
    spacing = {"column": 2 * _LABELS, "row": 72}
    block = alt.concat(*panels, columns=3, bounds="flush", spacing=spacing).resolve_scale(color="shared")
    return block.properties(title=alt.TitleParams(head, anchor="start", fontSize=13)) if head else block


def _panel(history: LayerHistory, members: list[int], name: str) -> Any:
    """Return one measure against the epoch."""
    import altair as alt

    values = history[name][:, members]  # (epochs, members, layers)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # nothing but what is not a number: no point
        medians = np.nanmedian(np.where(np.isfinite(values), values, np.nan), axis=1)
    layers = [str(layer + 1) for layer in range(medians.shape[1])]
    drawn = medians[np.isfinite(medians)]
    above = drawn[drawn > 0]
    wide = name not in (*_SHARES, "similarity") and above.size > 0 and above.max() > _WIDE * above.min()
    if wide:
        medians = np.where(medians > 0, medians, np.nan)  # a logarithmic axis has no 0
    epochs = history["epoch"]
    extent: dict[str, Any] = {"minExtent": _LABELS, "maxExtent": _LABELS}  # so that panels stand in columns
    rows = [
        {"epoch": int(epoch), "layer": layer, name: float(value)}
        for epoch, of_epoch in zip(epochs, medians, strict=True)
        for layer, value in zip(layers, of_epoch, strict=True)
        if np.isfinite(value)
    ]
    if wide:
        scale = alt.Scale(type="log", nice=False, padding=6)
        plain = above.min() >= 1e-3 and above.max() < 1e4
        axis = alt.Axis(format=".3~g" if plain else ".0e", values=log_ticks(above.min(), above.max()), **extent)
    elif name in _SHARES:
        scale, axis = alt.Scale(domain=[0, _TOP]), alt.Axis(format="%", tickCount=4, **extent)
    elif name == "similarity":
        lowest = float(drawn.min()) if drawn.size else 0.0
        scale, axis = alt.Scale(domain=[min(0.0, lowest), _TOP]), alt.Axis(tickCount=4, **extent)
    else:
        scale, axis = alt.Scale(zero=True, nice=True), alt.Axis(format=".3~g", tickCount=4, **extent)
    return (
        alt.Chart(
            {"values": rows},
            title=alt.TitleParams(name, subtitle=MEASURES[name], anchor="start", frame="group", fontSize=12, offset=6),
        )
        .mark_line(strokeWidth=1.8, point=alt.OverlayMarkDef(size=16) if len(epochs) <= 12 else False)
        .encode(
            x=alt.X(
                "epoch:Q",
                title="epoch" if name in _PANELS[-1] else None,
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
        )
        .properties(width=_WIDTH, height=_HEIGHT)
    )


def _named(combination: dict[str, Any]) -> str:
    return ", ".join(
        f"{name} {value:g}" if isinstance(value, float) else f"{name} {value}" for name, value in combination.items()
    )
