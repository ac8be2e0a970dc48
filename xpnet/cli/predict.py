"""``xpnet predict``."""

from __future__ import annotations

import csv
import io
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeAlias

import numpy as np
from cyclopts import Parameter

from xpnet.cli.console import Output, safe
from xpnet.cli.options import FLAG, OUTPUT, Debug, Json, Quiet, given, settings_options
from xpnet.config.settings import Settings
from xpnet.errors import ConfigError, DataError, RunError
from xpnet.nn.model_file import model_path

if TYPE_CHECKING:
    PredictOptions: TypeAlias = Any
else:
    PredictOptions = settings_options("target", "header", "device")

# A table for people has a column for each class up to so many, and the likeliest classes of more.
_COLUMNS, _LIKELIEST = 12, 3


def predict(
    run: Annotated[Path, Parameter(help="Run folder, model file, or checkpoint (its .json).")],
    inputs: Annotated[list[Path], Parameter(help="Images, or one .csv, .parquet, .npz or .npy file.")],
    /,
    options: Annotated[PredictOptions | None, Parameter(name="*")] = None,
    *,
    csv: Annotated[bool, Parameter(group=OUTPUT, **FLAG, help="Print CSV: a row for each input.")] = False,
    json: Json = False,
    quiet: Quiet = False,
    debug: Debug = False,  # noqa: ARG001 - looked for before parsing, since parsing can fail too
) -> None:
    """Predict classes and their probabilities with the network of a run.

    Images of any size are brought to the network's; of a table, the columns that it was trained on are taken by name.
    Several networks of a run predict together: their mean probabilities.
    """
    from xpnet.analysis.prediction import names_of_classes
    from xpnet.analysis.prediction import predict as probabilities_of
    from xpnet.analysis.prediction_inputs import read_inputs
    from xpnet.backend import get_backend
    from xpnet.runs.checkpoints import load_network

    if csv and json:
        raise ConfigError("csv, json: ask for one of them")
    output = Output(as_json=json, quiet=quiet)
    model_path(run)  # before anything long
    settings = Settings.from_mapping({} if options is None else given(options))
    network = load_network(run, backend=get_backend(settings.run.device))
    if network.standardiser is None:
        raise RunError(f"{run}: does not say how its data was standardised; train it with xpnet train")
    read = read_inputs(inputs, network, settings.data)
    output.notes(*read.notes)
    if network.replicas > 1:
        output.note(f"mean probabilities of the {network.replicas} networks of {run}")
    try:
        probabilities = probabilities_of(network, read.x)
    except DataError as error:
        raise DataError(f"{inputs[0]}: {error}") from None
    names = names_of_classes(network)
    best = probabilities.argmax(axis=1)
    if csv:
        if not quiet:
            output.text(_csv(read.names, names, best, probabilities))
        return
    result = {
        "classes": list(names),
        "predictions": [
            {
                "input": name,
                "class": names[c],
                "label": int(c),
                "probability": float(row[c]),
                "probabilities": {n: float(p) for n, p in zip(names, row, strict=True)},
            }
            for name, c, row in zip(read.names, best, probabilities, strict=True)
        ],
        "networks": network.replicas,
        "notes": read.notes,
        "device": network.backend.device,
        "run": str(run),
    }
    output.result(result, _table(read.names, names, best, probabilities))


def _csv(inputs: list[str], names: tuple[str, ...], best: Any, probabilities: Any) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["input", "class", "probability", *(f"p({name})" for name in names)])
    for name, c, row in zip(inputs, best, probabilities, strict=True):
        writer.writerow([name, names[c], f"{row[c]:.6g}", *(f"{p:.6g}" for p in row)])
    return text.getvalue()


def _table(inputs: list[str], names: tuple[str, ...], best: Any, probabilities: Any) -> Any:
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    all_classes = len(names) <= _COLUMNS
    table = Table(box=SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0))
    table.add_column("input", no_wrap=True)
    table.add_column("class", no_wrap=True)
    table.add_column("probability", justify="right", no_wrap=True)
    for name in names if all_classes else ("then", "then"):
        table.add_column(safe(name), justify="right" if all_classes else "left", no_wrap=True)
    for name, c, row in zip(inputs, best, probabilities, strict=True):
        cells: list[Any] = [safe(name), safe(names[c], "bold"), f"{100 * row[c]:.1f} %"]
        if all_classes:
            cells += [f"{100 * p:.1f}" for p in row]
        else:
            cells += [safe(f"{names[k]} {100 * row[k]:.1f}") for k in np.argsort(-row, kind="stable")[1:_LIKELIEST]]
        table.add_row(*cells)
    return table
