"""``xpnet evaluate``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import numpy as np
from cyclopts import Parameter
from rich.table import Table
from rich.text import Text

from xpnet.cli.console import STANDARD, Output, percent, safe
from xpnet.cli.options import DATA, OUTPUT, Run, given, refuse_taken, with_settings
from xpnet.cli.tables import figures, plain, table
from xpnet.cli.variables import OF_A_RUN
from xpnet.config.definitions import DataConfig
from xpnet.config.settings import CONFIG, Settings, read_settings
from xpnet.errors import ConfigError, RunError
from xpnet.nn.model_file import model_path
from xpnet.runs.folder import CHECKPOINTS

if TYPE_CHECKING:
    from xpnet.data import Dataset
    from xpnet.nn.network import Network


# The network has its own transform.
_READ = tuple(name for name in DATA if name not in ("pool", "pca", "pca_eps", "numeric", "max_categories"))


@with_settings(*_READ, "device", "views", unset="the run's")
def evaluate(
    run: Run,
    /,
    options: Any = None,
    *,
    on: Annotated[
        Literal["test", "validation", "train", "all"],
        Parameter(group=OUTPUT, help="Which samples.", metavar="test|validation|train|all"),
    ] = "test",
    figure: Annotated[
        Path | None,
        Parameter(group=OUTPUT, metavar="STEM", help="Write matrix and accuracies to STEM.png and STEM.svg."),
    ] = None,
    output: Output = STANDARD,
) -> None:
    """Evaluate the network of a run: accuracy, overall and by class, and confusion matrix.

    Without --data, it is the test set of the run's own data. Other data is read as xpnet train reads it, except that
    the column of the labels and the size and colours of images are the run's.
    """
    from xpnet.analysis.prediction import evaluate_sets, evaluate_sets_in_views, names_of_classes
    from xpnet.training.confused_classes import confused

    refuse_taken(figure)
    network, data, settings = _load(run, given(options, OF_A_RUN))
    which = "all sets" if on == "all" else f"{on} set"
    output.notes(f"data: {data.name} from {data.location}, {which}; device: {network.backend.device}", *data.notes)

    # A run that was stopped between two chunks has fewer networks than its settings; a model may have others.
    rows = settings.replicas()[: network.replicas]
    if [row["seed"] for row in rows] != list(network.seeds):
        rows = []
    lam = [row.get("lambda", settings.train.lam) for row in rows] or settings.train.lam
    sets = ("train", "validation", "test") if on == "all" else (on,)
    metrics, matrices, samples = evaluate_sets(network, data, sets, np.asarray(lam))
    views = settings.train.views
    seen = evaluate_sets_in_views(network, data, sets, views) if views > 1 else None
    finite = np.isfinite(metrics.losses)
    networks = int(finite.sum())
    confusion = matrices[finite].sum(axis=0)  # (classes, classes), over the networks that have not diverged
    names = names_of_classes(network, data.class_names)
    accuracies = [float(row[c] / row.sum()) if row.sum() else None for c, row in enumerate(confusion)]
    result = dict(metrics) | {
        "samples": samples,
        "set": on,
        "per_class": dict(zip(names, accuracies, strict=True)),
        "confusion": confusion.tolist(),
        "device": network.backend.device,
        "run": str(run),
    }
    if seen is not None:
        result["views"] = {"views": views, "accuracy": seen.accuracy, "loss": seen.loss}
    if figure is not None:
        title = f"{data.name}, {which}: {percent(metrics['accuracy'])}"
        result["figure"] = _draw(figure, confusion, names, title, networks)
    tables: list[Any] = []
    if network.replicas > 1 and rows:
        each = [metrics.part([r]) for r in range(network.replicas)]
        result["replicas"] = [row | dict(of_one) for row, of_one in zip(rows, each, strict=True)]
        if settings.varying:
            cells = [[*map(plain, row.values()), *figures(of_one)] for row, of_one in zip(rows, each, strict=True)]
            tables.append(table(result["replicas"][0], cells, left=()))
    accuracy, loss, cost = figures(metrics)
    summary = f"accuracy {accuracy}, loss {loss}, cost {cost}, {samples:,} samples"
    if seen is not None:
        summary += f"; accuracy {percent(seen.accuracy)} averaged over {views} views"
    conclusion = confused(confusion, names)
    result["conclusion"] = None if conclusion is None else conclusion.to_json()
    lines = [] if conclusion is None else [f"conclusion: {conclusion.text}"]
    output.result(result, *tables, _matrix(names, confusion, accuracies, networks), summary, *lines)


def _load(run: Path, on_line: dict[str, Any]) -> tuple[Network, Dataset, Settings]:
    """Return the network of a run, the data as the network takes it, and the settings."""
    from xpnet.analysis.prediction import as_trained, load_for, read_like
    from xpnet.backend import get_backend
    from xpnet.runs.checkpoints import load_network

    model_path(run)  # before slow work begins
    settings, own = _settings(run, on_line)
    network = load_network(run, backend=get_backend(settings.run.device))
    if network.transform is None:
        raise RunError(f"{run}: does not say how its data was standardised; train it with xpnet train")
    config = read_like(network, own, settings.data) if "data" in on_line else settings.data
    return network, as_trained(network, load_for(network, config)), settings


def _settings(run: Path, on_line: dict[str, Any]) -> tuple[Settings, DataConfig]:
    """Return the settings of a run, replaced by those on the command line, and the settings of the run's own data."""
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


def _draw(stem: Path, confusion: Any, names: tuple[str, ...], title: str, networks: int) -> list[str]:
    from xpnet.report.confusion_chart import confusion_figure
    from xpnet.report.curves_chart import save_figure
    from xpnet.report.format import class_label

    labels = [class_label(name, c) for c, name in enumerate(names)]
    return [str(path) for path in save_figure(confusion_figure(confusion, labels, title, networks), stem)]


def _matrix(names: tuple[str, ...], confusion: Any, accuracies: list[float | None], networks: int) -> Table:
    title = "Confusion matrix: a row is a true class, a column a prediction"
    title += f"; sums over {networks} networks" if networks > 1 else ""
    rows = [
        [safe(f"{c} {name}"), "-" if accuracies[c] is None else percent(accuracies[c])]
        + [Text(str(count), "bold" if c == column else "") for column, count in enumerate(row)]
        for c, (name, row) in enumerate(zip(names, confusion, strict=True))
    ]
    return table(["", "accuracy", *map(str, range(len(names)))], rows, title=title, gap=1)
