"""Samples of every class, as a picture."""

from __future__ import annotations

import base64
import io
from typing import Any

import numpy as np
from numpy.typing import NDArray

from xpnet.data import RawDataset
from xpnet.report import render

_EACH = 10
_SIDE = 44  # of an image in the picture
_MOST_CLASSES = 100
_MOST_FEATURES = 60


def samples_figure(source: RawDataset, title: str) -> Any:
    """Return the first samples of every class: images as they are, other features as cells coloured by value.

    A cell's colour is how many standard deviations its value lies from the feature's mean.
    """
    chosen = _chosen(source)
    return _images(source, chosen, title) if source.image_shape is not None else _cells(source, chosen, title)


def _chosen(source: RawDataset) -> list[tuple[int, NDArray[np.int64]]]:
    """Return the rows of the first samples of every class."""
    classes = range(min(len(source.class_names), _MOST_CLASSES))
    return [(c, np.flatnonzero(source.labels == c)[:_EACH]) for c in classes]


def _label(source: RawDataset, c: int) -> str:
    name = source.class_names[c]
    return name if len(name) <= 24 else f"{name[:23]}\N{HORIZONTAL ELLIPSIS}"


def _images(source: RawDataset, chosen: list[tuple[int, NDArray[np.int64]]], title: str) -> Any:
    import altair as alt

    rows = [
        {"class": f"{_label(source, c)}", "sample": place + 1, "image": _url(source, int(row))}
        for c, members in chosen
        for place, row in enumerate(members)
    ]
    return (
        alt.Chart({"values": rows})
        .mark_image(width=_SIDE, height=_SIDE, smooth=False)
        .encode(
            x=alt.X("sample:O", title=None, axis=None),
            y=alt.Y("class:N", title=None, sort=_order(source, chosen), axis=_AXIS()),
            url="image:N",
        )
        .properties(width=alt.Step(_SIDE + 4), height=alt.Step(_SIDE + 4), title=_title(title))
        .configure_view(strokeWidth=0)
    )


def _AXIS() -> Any:
    import altair as alt

    return alt.Axis(domain=False, ticks=False, labelFontSize=12, labelLimit=220, labelPadding=8)


def _title(title: str) -> Any:
    import altair as alt

    return alt.TitleParams(title, anchor="start", fontSize=15, offset=12)


def _order(source: RawDataset, chosen: list[tuple[int, NDArray[np.int64]]]) -> list[str]:
    return [_label(source, c) for c, _ in chosen]


def _url(source: RawDataset, row: int) -> str:
    """Return an image as a PNG that stands in the figure itself."""
    from PIL import Image

    channels, height, width = source.image_shape or (1, 1, 1)
    values = np.asarray(source.x[row : row + 1][0])
    if values.dtype != np.uint8:
        # Floating pixels: the darkest becomes black and the brightest white.
        low, high = float(values.min()), float(values.max())
        values = np.rint(255 * (values - low) / (high - low or 1)).astype(np.uint8)
    planes = values.reshape(channels, height, width).transpose(1, 2, 0)
    picture = Image.fromarray(planes[:, :, 0] if channels == 1 else np.ascontiguousarray(planes))
    factor = max(1, 2 * _SIDE // max(height, width))
    picture = picture.resize((width * factor, height * factor), Image.Resampling.NEAREST)
    picture.thumbnail((2 * _SIDE, 2 * _SIDE))
    content = io.BytesIO()
    picture.save(content, "PNG")
    return "data:image/png;base64," + base64.b64encode(content.getvalue()).decode()


def _cells(source: RawDataset, chosen: list[tuple[int, NDArray[np.int64]]], title: str) -> Any:
    import altair as alt

    count = min(int(source.x.shape[1]), _MOST_FEATURES)
    some = source.x[: min(len(source.labels), 10_000)][:, :count].astype(np.float64)
    mean, std = some.mean(axis=0), some.std(axis=0)
    names = source.feature_names[:count] or tuple(map(str, range(count)))
    rows = []
    for c, members in chosen:
        values = (source.x[members][:, :count] - mean) / np.where(std > 0, std, 1)
        rows += [
            {"class": _label(source, c), "sample": place, "feature": j, "value": float(np.clip(value, -3, 3))}
            for place, sample in enumerate(values)
            for j, value in enumerate(sample)
        ]
    step = 14 if count <= 30 else 9
    expression = "[" + ",".join(render.quoted(name[:24]) for name in names) + "][datum.value]"
    subtitle = f"{min(_EACH, len(source.labels))} samples of each class; colours: standard deviations from the mean"
    if count < source.x.shape[1]:
        subtitle += f"; the first {count} of {source.x.shape[1]:,} features"
    return (
        alt.Chart({"values": rows})
        .mark_rect()
        .encode(
            x=alt.X(
                "feature:O",
                title=None,
                axis=alt.Axis(labelExpr=expression, labelAngle=-90, labelLimit=140, ticks=False, domain=False),
            ),
            y=alt.Y("sample:O", title=None, axis=None),
            color=alt.Color(
                "value:Q",
                title=None,
                scale=alt.Scale(scheme="blueorange", domain=[-3, 3], domainMid=0),
                legend=alt.Legend(orient="right", gradientLength=110),
            ),
            row=alt.Row(
                "class:N",
                title=None,
                sort=_order(source, chosen),
                spacing=6,
                header=alt.Header(labelAngle=0, labelAlign="left", labelFontSize=12, labelLimit=220),
            ),
        )
        .properties(
            width=alt.Step(step),
            height=alt.Step(7),
            title=alt.TitleParams(title, subtitle=subtitle, anchor="start", fontSize=15, offset=12),
        )
        .configure_view(strokeWidth=0)
    )
