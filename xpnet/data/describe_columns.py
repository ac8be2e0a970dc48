"""Description of the columns of a table: what each is, and what becomes of it."""

from __future__ import annotations

from typing import Any

import numpy as np

from xpnet.config.definitions import DataConfig
from xpnet.data.dataset import RawDataset
from xpnet.data.encoder import Encoder, are_encoded
from xpnet.data.splits import parse_split
from xpnet.errors import DataError, printable

_SHOWN = 4
_WORDS = {
    "standard": "standardised",
    "robust": "by median and quartiles, clipped smoothly",
    "quantile": "by quantiles, to a normal distribution",
    "ple": "piecewise linear between quantiles",
}


def describe_columns(raw: RawDataset, config: DataConfig) -> list[dict[str, Any]]:
    """Return a description of each column of a table, in types that JSON has; empty for other data.

    What becomes of a column depends on the training rows, which are those of the settings' split.
    """
    if not raw.columns:
        return []
    training, _ = parse_split(raw.default_split if config.split is None else config.split)
    encoder, why = None, "" if are_encoded(raw.columns, config.numeric) else f"1 input: {_WORDS['standard']}"
    if not why and not any(column.problem for column in raw.columns):
        try:
            encoder = Encoder.fit(raw.x[:training], raw.columns, config.numeric, config.max_categories)
        except DataError as error:
            why = f"refused: {error}"
    names = raw.feature_names or tuple(map(str, range(len(raw.columns))))
    outputs = {} if encoder is None else encoder.outputs_of(names)
    described = []
    for j, (name, column) in enumerate(zip(names, raw.columns, strict=True)):
        codes = np.concatenate([raw.x[:, j], raw.x_test[:, j]])
        if column.kind == "category":
            empty = column.categories[:1] == ("",)
            missing = int((codes == 0).sum()) if empty else 0
        else:
            missing = int(np.isnan(codes).sum()) if codes.dtype.kind == "f" else 0
        becomes = f"refused: {column.problem}" if column.problem else why or "undecided: another column is refused"
        if encoder is not None:
            becomes = _becomes(column.kind, outputs[j], encoder, j)
        described.append(
            {
                "column": name,
                "kind": column.kind,
                "categories": sum(map(bool, column.categories)) if column.kind == "category" else None,
                "missing": missing,
                "inputs": list(outputs.get(j, ())),
                "becomes": becomes,
            }
        )
    return described


def _becomes(kind: str, outputs: tuple[str, ...], encoder: Encoder, column: int) -> str:
    """Return in words what becomes of a column."""
    if not outputs:
        return "left out: one value in all training rows"
    inputs = f"{len(outputs):,} input{'s' if len(outputs) > 1 else ''}"
    if kind == "category":
        shown = [printable(name.partition(" = ")[2]) for name in outputs]
        shown = shown if len(shown) <= _SHOWN else [*shown[: _SHOWN - 1], "...", shown[-1]]
        return f"{inputs}: {', '.join(shown)}"
    scale = _WORDS[encoder.numeric] if kind == "number" else "0 or 1, standardised"
    if outputs[-1].endswith(" missing"):
        return f"{inputs}: {scale}, {encoder.fill[column]:.4g} where missing; and whether it is missing"
    return f"{inputs}: {scale}"
