"""``xpnet predict``."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from cyclopts import Parameter

from xpnet.cli.console import STANDARD, Output, safe
from xpnet.cli.options import FLAG, OUTPUT, Run, given, with_settings
from xpnet.cli.tables import table
from xpnet.config.settings import Settings
from xpnet.errors import ConfigError, DataError, RunError
from xpnet.nn.model_file import model_path

# The table has a column for each class up to this number; with more classes, it has the likeliest ones.
_COLUMNS, _LIKELIEST = 12, 3


@with_settings("target", "header", "drop_columns", "device", "views")
def predict(
    run: Run,
    inputs: Annotated[list[Path], Parameter(help="Images, or one .csv, .parquet, .npz or .npy file.")],
    /,
    options: Any = None,
    *,
    csv: Annotated[bool, Parameter(group=OUTPUT, **FLAG, help="Print CSV: a row for each input.")] = False,
    output: Output = STANDARD,
) -> None:
    """Predict classes and their probabilities with the network of a run.

    Images are resized to what the network takes; from a table, the columns that it was trained on are taken by name.
    Several networks of a run predict together: their mean probabilities.
    """
    from xpnet.analysis.prediction import names_of_classes
    from xpnet.analysis.prediction import predict as probabilities_of
    from xpnet.analysis.prediction_inputs import read_inputs
    from xpnet.backend import get_backend
    from xpnet.runs.checkpoints import load_network

    if csv and output.as_json:
        raise ConfigError("csv, json: ask for one of them")
    model_path(run)  # before slow work begins
    settings = Settings.from_mapping(given(options))
    network = load_network(run, backend=get_backend(settings.run.device))
    if network.transform is None:
        raise RunError(f"{run}: does not say how its data was standardised; train it with xpnet train")
    read = read_inputs(inputs, network, settings.data)
    output.notes(*read.notes)
    if network.replicas > 1:
        output.note(f"mean probabilities of the {network.replicas} networks of {run}")
    try:
        probabilities = probabilities_of(network, read.x, settings.train.views)
    except DataError as error:
        raise DataError(f"{inputs[0]}: {error}") from None
    classes = names_of_classes(network)
    predictions = [_prediction(name, classes, row) for name, row in zip(read.names, probabilities, strict=True)]
    if csv:
        if not output.quiet:
            output.text(_csv(classes, predictions, probabilities))
        return
    result = {
        "classes": list(classes),
        "predictions": predictions,
        "networks": network.replicas,
        "notes": read.notes,
        "device": network.backend.device,
        "run": str(run),
    }
    heads = [safe(name) for name in classes] if len(classes) <= _COLUMNS else ["then"] * (_LIKELIEST - 1)
    rows = _rows(classes, predictions, probabilities)
    output.result(
        result, table(["input", "class", "probability", *heads], rows, left=("input", "class", "then"), gap=1)
    )


def _prediction(name: str, classes: tuple[str, ...], probabilities: Any) -> dict[str, Any]:
    best = int(probabilities.argmax())
    return {
        "input": name,
        "class": classes[best],
        "label": best,
        "probability": float(probabilities[best]),
        "probabilities": dict(zip(classes, map(float, probabilities), strict=True)),
    }


def _csv(classes: tuple[str, ...], predictions: list[dict[str, Any]], probabilities: Any) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["input", "class", "probability", *(f"p({name})" for name in classes)])
    for one, row in zip(predictions, probabilities, strict=True):
        writer.writerow([one["input"], one["class"], f"{one['probability']:.6g}", *(f"{p:.6g}" for p in row)])
    return text.getvalue()


def _rows(classes: tuple[str, ...], predictions: list[dict[str, Any]], probabilities: Any) -> Iterator[list[Any]]:
    """Yield the cells of each input: all probabilities in percent, or only the likeliest classes if there are many."""
    for one, row in zip(predictions, 100 * probabilities, strict=True):
        cells = [safe(one["input"]), safe(one["class"], "bold"), f"{100 * one['probability']:.1f} %"]
        if len(classes) <= _COLUMNS:
            yield cells + [f"{p:.1f}" for p in row]
        else:
            likeliest = np.argsort(-row, kind="stable")[1:_LIKELIEST]
            yield cells + [safe(f"{classes[c]} {row[c]:.1f}") for c in likeliest]
