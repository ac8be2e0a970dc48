"""``xpnet evaluate``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeAlias

import numpy as np
from cyclopts import Parameter

from xpnet.cli.console import Output, number, percent, safe
from xpnet.cli.options import DATA, OUTPUT, Debug, Json, Quiet, given, refuse_taken, settings_options
from xpnet.config.definitions import DataConfig
from xpnet.config.settings import CONFIG, Settings, read_settings
from xpnet.errors import ConfigError, RunError
from xpnet.nn.model_file import model_path
from xpnet.runs.folder import CHECKPOINTS
from xpnet.training.history import FIGURES

if TYPE_CHECKING:
    EvaluateOptions: TypeAlias = Any
else:
    EvaluateOptions = settings_options(*DATA, "device", unset="the run's")


def evaluate(
    run: Annotated[Path, Parameter(help="Run folder, model file, or checkpoint (its .json).")],
    /,
    options: Annotated[EvaluateOptions | None, Parameter(name="*")] = None,
    *,
    on: Annotated[
        Literal["test", "validation", "train", "all"],
        Parameter(group=OUTPUT, help="Which samples.", metavar="test|validation|train|all", show_choices=False),
    ] = "test",
    figure: Annotated[
        Path | None,
        Parameter(group=OUTPUT, metavar="STEM", help="Write matrix and accuracies to STEM.png and STEM.svg."),
    ] = None,
    json: Json = False,
    quiet: Quiet = False,
    debug: Debug = False,  # noqa: ARG001 - looked for before parsing, since parsing can fail too
) -> None:
    """Evaluate the network of a run: accuracy, by class too, and confusion matrix.

    The run's own data is used, and its test set, unless others are named. Other data is read as xpnet train reads it,
    but for the columns of its labels and the size and colours of its images, which are the run's.
    """
    from xpnet.analysis.prediction import as_trained, evaluate_sets, names_of_classes, read_like
    from xpnet.backend import get_backend
    from xpnet.data import load_data
    from xpnet.runs.checkpoints import load_network

    output = Output(as_json=json, quiet=quiet)
    refuse_taken(figure)
    model_path(run)  # before anything long
    on_line = {} if options is None else given(options)
    settings, own = _settings(run, on_line)
    network = load_network(run, backend=get_backend(settings.run.device))
    if network.standardiser is None:
        raise RunError(f"{run}: does not say how its data was standardised; train it with xpnet train")
    where = read_like(network, own, settings.data) if "data" in on_line else settings.data
    data = as_trained(network, load_data(where))
    which = "all sets" if on == "all" else f"{on} set"
    output.notes(f"data: {data.name} from {data.location}, {which}; device: {network.backend.device}", *data.notes)

    # A run that was stopped between two chunks has the first of its networks; other settings tell nothing of them.
    rows = settings.replicas()[: network.replicas]
    if [row["seed"] for row in rows] != list(network.seeds):
        rows = []
    lam = [row.get("lambda", settings.train.lam) for row in rows] or settings.train.lam
    sets = ("train", "validation", "test") if on == "all" else (on,)
    metrics, every, samples = evaluate_sets(network, data, sets, np.asarray(lam))
    # (classes, classes), summed over the replicas that have not diverged.
    good = np.isfinite(metrics.losses)
    confusion = every[good].sum(axis=0)
    names = names_of_classes(network, data.class_names)
    per_class = {
        name: (float(row[number] / row.sum()) if row.sum() else None)
        for number, (name, row) in enumerate(zip(names, confusion, strict=True))
    }
    tables: list[Any] = []
    result = dict(metrics) | {
        "samples": samples,
        "set": on,
        "per_class": per_class,
        "confusion": confusion.tolist(),
        "device": network.backend.device,
        "run": str(run),
    }
    if figure is not None:
        title = f"{data.name}, {which}: {percent(metrics['accuracy'])}"
        result["figure"] = _figure(figure, confusion, names, title, int(good.sum()))
    if network.replicas > 1 and rows:
        of_each = zip(metrics.accuracies, metrics.losses, metrics.costs, strict=True)
        result["replicas"] = [
            row | {name: float(v) if np.isfinite(v) else None for name, v in zip(metrics, values, strict=True)}
            for row, values in zip(rows, of_each, strict=True)
        ]
        if settings.varying:
            tables.append(_replicas(result["replicas"]))
    output.result(result, *tables, _classes(names, confusion, per_class, int(good.sum())), _summary(metrics, samples))


def _figure(stem: Path, confusion: Any, names: tuple[str, ...], title: str, networks: int) -> list[str]:
    from xpnet.report.confusion_chart import confusion_figure
    from xpnet.report.curves_chart import save_figure
    from xpnet.report.format import class_label

    labels = [class_label(name, number) for number, name in enumerate(names)]
    return [str(path) for path in save_figure(confusion_figure(confusion, labels, title, networks), stem)]


def _replicas(rows: list[dict[str, Any]]) -> Any:
    """Return a table with the settings and the figures of each network."""
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    table = Table(box=SIMPLE_HEAD, pad_edge=False)
    for name in rows[0]:
        table.add_column(name, justify="right", no_wrap=True)
    for row in rows:
        own = [f"{v:g}" if isinstance(v, float) else str(v) for n, v in row.items() if n not in FIGURES]
        table.add_row(*own, percent(row["accuracy"]), number(row["loss"]), number(row["cost"]))
    return table


def _settings(run: Path, on_line: dict[str, Any]) -> tuple[Settings, DataConfig]:
    """Return the settings of a run, with those on the command line in their place, and those of its own data."""
    on_file: dict[str, Any] = {}
    own = DataConfig()
    if run.suffix == ".json" and run.parent.parent.name == CHECKPOINTS:
        run = run.parent.parent.parent
    if run.is_dir() and (run / CONFIG).is_file():
        on_file, settings = read_settings(run)
        own = settings.data
        if "data" in on_line:
            on_file = {name: value for name, value in on_file.items() if name not in DATA or name == "in_memory"}
    elif "data" not in on_line:
        raise ConfigError(f"{run}: has no {CONFIG} beside it that names its data; pass --data")
    return Settings.from_mapping(on_file | on_line), own


def _classes(names: tuple[str, ...], confusion: Any, per_class: dict[str, float | None], replicas: int) -> Any:
    from rich.box import SIMPLE_HEAD
    from rich.table import Table
    from rich.text import Text

    title = "Confusion matrix: a row is a true class, a column a prediction"
    if replicas > 1:
        title += f"; sums over {replicas} networks"
    table = Table(title=title, title_justify="left", box=SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0))
    table.add_column("", no_wrap=True)
    table.add_column("accuracy", justify="right", no_wrap=True)
    for column in range(len(confusion)):
        table.add_column(str(column), justify="right", no_wrap=True)
    for true, (name, row) in enumerate(zip(names, confusion, strict=True)):
        share = per_class[name]
        cells = [Text(str(count), "bold" if true == column else "") for column, count in enumerate(row)]
        table.add_row(safe(f"{true} {name}"), "-" if share is None else percent(share), *cells)
    return table


def _summary(metrics: Any, samples: int) -> str:
    return (
        f"accuracy {percent(metrics['accuracy'])}, loss {number(metrics['loss'])}, "
        f"cost {number(metrics['cost'])}, {samples:,} samples"
    )
