"""The first layer's weights on a page."""

from __future__ import annotations

from typing import Any

import numpy as np

from xpnet.report.blocks import figure, plain
from xpnet.report.charts import weights_matrix
from xpnet.report.inspection import first_layer, shape_of, weight_pictures
from xpnet.report.page import Block, Cell, Gallery, Panels, Picture, Table, Text
from xpnet.report.records import RunRecord

# Pictures of units; features and units that a heat map can show; features in the table.
_UNITS, _MAP, _LISTED = 60, (48, 64), 20


def weights(record: RunRecord, members: list[int], prefix: str) -> list[Block]:
    """Return the first layer's weights as pictures where features are an image, as a map or a table otherwise."""
    layer = first_layer(record, members)
    if layer is None:
        return [Text("There is no model in the folder.")]
    W, which = layer
    units = W.shape[1]
    norms = np.sqrt((W.astype(float) ** 2).sum(axis=0))
    if not np.isfinite(norms).all():
        return [Text("The network diverged: its weights are not finite.")]
    of = f" of network {which}" if len(record.replicas) > 1 else ""
    kind = "Hidden units" if record.settings.network_config(1, 2).hidden else "Classes"
    shape = shape_of(W.shape[0])
    if shape is not None:
        order = np.argsort(-norms, kind="stable")[:_UNITS]
        pictures = [
            Picture(source, f"First-layer weights of unit {u}, norm {norms[u]:.2f}", f"unit {u}, {norms[u]:.2f}")
            for u, source in zip(order, weight_pictures(W[:, order], shape), strict=True)
        ]
        words = (
            f"{kind}{of} by the norm of their weights, largest first"
            f"{f' ({_UNITS} of {units})' if units > _UNITS else ''}. Grey is zero; each picture has a scale of its own."
        )
        return [Text(words), Gallery(pictures, "First-layer weights by unit")]
    if W.shape[0] <= _MAP[0] and units <= _MAP[1]:
        rows = [{"x": d, "y": u, "v": float(W[d, u])} for u in range(units) for d in range(W.shape[0])]
        d, u = np.unravel_index(int(np.abs(W).argmax()), W.shape)
        alt = (
            f"Heat map of the first layer's weights{of}, {W.shape[0]} features by {units} units; the largest is "
            f"{W[d, u]:.3g}, of feature {d} in unit {u}."
        )
        return [Panels([weights_matrix(f"{prefix}weights-map", f"Weights{of}", alt, rows)], _features(W))]
    return [_features(W, folded=False)]


def _features(W: Any, folded: bool = True) -> Table:
    sizes = np.sqrt((W.astype(float) ** 2).sum(axis=1))
    rows = []
    for d in np.argsort(-sizes, kind="stable")[:_LISTED]:
        u = int(np.abs(W[d]).argmax())
        rows.append([Cell(f"feature {d}", float(d)), figure(float(sizes[d])), figure(float(W[d, u])), plain(u)])
    caption = f"The {len(rows)} features with the largest weights, features standardised"
    head = ["feature", "norm of its weights", "largest weight", "in unit"]
    return Table(head, rows, caption, folded="The largest weights as a table" if folded else None)
