"""Samples of every class, as a picture."""

from __future__ import annotations

from typing import Any

import altair as alt
import numpy as np
from numpy.typing import NDArray

from xpnet.data import RawDataset
from xpnet.report import render
from xpnet.report.theme import titled

_EACH = 10
_SIDE = 44  # pixels of an image in the figure
_MOST_CLASSES = 100
_MOST_FEATURES = 60
# Number of rows for means and deviations.
_ROWS = 10_000
Chosen = dict[str, NDArray[np.int64]]


def samples_figure(source: RawDataset, title: str) -> Any:
    """Return the first samples of every class: images as they are, other features as cells coloured by value.

    A cell's colour is how many standard deviations its value lies from the feature's mean.
    """
    # Rows of the first samples of each class, by class name.
    chosen = {
        name if len(name) <= 24 else f"{name[:23]}\N{HORIZONTAL ELLIPSIS}": np.flatnonzero(source.labels == c)[:_EACH]
        for c, name in enumerate(source.class_names[:_MOST_CLASSES])
    }
    return _images(source, chosen, title) if source.image_shape is not None else _cells(source, chosen, title)


def _images(source: RawDataset, chosen: Chosen, title: str) -> Any:
    rows = [
        {"class": name, "sample": place, "image": _picture(source, int(row))}
        for name, members in chosen.items()
        for place, row in enumerate(members)
    ]
    axis = alt.Axis(domain=False, ticks=False, labelFontSize=12, labelLimit=220, labelPadding=8)
    chart = alt.Chart({"values": rows}).mark_image(width=_SIDE, height=_SIDE, smooth=False)
    chart = chart.encode(
        x=alt.X("sample:O", title=None, axis=None),
        y=alt.Y("class:N", title=None, sort=list(chosen), axis=axis),
        url="image:N",
    )
    return titled(chart.properties(width=alt.Step(_SIDE + 4), height=alt.Step(_SIDE + 4)), title)


def _picture(source: RawDataset, row: int) -> str:
    """Return an image as a PNG in a data URI."""
    channels, height, width = source.image_shape or (1, 1, 1)
    values = np.asarray(source.x[row : row + 1][0])
    if values.dtype != np.uint8:
        # Floating pixels: the darkest becomes black and the brightest white.
        low, high = float(values.min()), float(values.max())
        values = np.rint(255 * (values - low) / (high - low or 1)).astype(np.uint8)
    return render.data_uri(_of_size(values.reshape(channels, height, width)))


def _of_size(planes: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return a picture with each pixel repeated, or with means of squares of pixels, so that it fits the figure."""
    _, height, width = planes.shape
    factor = 2 * _SIDE // max(height, width)
    if factor >= 1:
        return planes.repeat(factor, axis=1).repeat(factor, axis=2)
    side = -(-max(height, width) // (2 * _SIDE))
    edges = ((0, 0), (0, -height % side), (0, -width % side))
    squares = np.pad(planes, edges, mode="edge").reshape(len(planes), -(-height // side), side, -(-width // side), side)
    means: NDArray[np.uint8] = np.rint(squares.mean(axis=(2, 4))).astype(np.uint8)
    return means


def _cells(source: RawDataset, chosen: Chosen, title: str) -> Any:
    features = int(source.x.shape[1])
    count = min(features, _MOST_FEATURES)
    some = source.x[: min(len(source.labels), _ROWS)][:, :count].astype(np.float64)
    gaps = np.isnan(some)
    mean = np.where(gaps, 0, some).sum(axis=0) / np.maximum((~gaps).sum(axis=0), 1)
    std = np.where(gaps, mean, some).std(axis=0)
    rows = [
        {"class": name, "sample": place, "feature": j, "value": float(np.clip(np.nan_to_num(value), -3, 3))}
        for name, members in chosen.items()
        for place, sample in enumerate((source.x[members][:, :count] - mean) / np.where(std > 0, std, 1))
        for j, value in enumerate(sample)
    ]
    subtitle = f"{min(_EACH, len(source.labels))} samples of each class; colours: standard deviations from the mean"
    if count < features:
        subtitle += f"; the first {count} of {features:,} features"
    names = source.feature_names[:count] or tuple(map(str, range(count)))
    labels = "[" + ",".join(render.quoted(name[:24]) for name in names) + "][datum.value]"
    axis = alt.Axis(labelExpr=labels, labelAngle=-90, labelLimit=140, ticks=False, domain=False)
    scale = alt.Scale(scheme="blueorange", domain=[-3, 3], domainMid=0)
    header = alt.Header(labelAngle=0, labelAlign="left", labelFontSize=12, labelLimit=220)
    chart = alt.Chart({"values": rows}).mark_rect()
    chart = chart.encode(
        x=alt.X("feature:O", title=None, axis=axis),
        y=alt.Y("sample:O", title=None, axis=None),
        color=alt.Color("value:Q", title=None, scale=scale, legend=alt.Legend(orient="right", gradientLength=110)),
        row=alt.Row("class:N", title=None, sort=list(chosen), spacing=6, header=header),
    )
    return titled(chart.properties(width=alt.Step(14 if count <= 30 else 9), height=alt.Step(7)), title, subtitle)
