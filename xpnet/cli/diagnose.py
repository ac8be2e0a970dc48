"""``xpnet diagnose``."""

from __future__ import annotations

import json as json_module
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeAlias

import numpy as np
from cyclopts import Group, Parameter

from xpnet.cli.console import Output, ProgressBars, finish_on_interrupt, left_out_if_not_drawn, number, percent
from xpnet.cli.options import DATA, OUTPUT, Debug, Json, Quiet, given, settings_options
from xpnet.config.settings import CONFIG, Settings, read_settings
from xpnet.errors import ConfigError, DivergedError, RunError
from xpnet.nn.model_file import MODEL, read_model
from xpnet.runs.folder import METRICS, create_run_folder
from xpnet.runs.records import read_metrics
from xpnet.utils.atomic_files import write_new
from xpnet.utils.file_system import check_utf8
from xpnet.utils.plural import counted

if TYPE_CHECKING:
    from xpnet.analysis.layer_history import LayerHistory
    from xpnet.nn.network import Network
    from xpnet.training.population import Population

    DiagnoseOptions: TypeAlias = Any
else:
    DiagnoseOptions = settings_options(lists=True)

_DIAGNOSIS = Group("Diagnosis", sort_key=0)
# What may differ from the run that is repeated: where its data lies now, and what computes.
_WITH_RUN = (*DATA, "device")
# Networks that have a table of their own; of more, the file tells.
_TABLES = 4
_COLUMNS = {
    "s_std": "s std",
    "s_spread": "s spread",
    "y_mean": "y mean",
    "y_std": "y std",
    "gradient_rms": "dJ/ds",
    "W_rms": "W",
    "W_gradient_rms": "dJ/dW",
    "update_ratio": "\N{GREEK SMALL LETTER ETA}|dJ/dW|/|W|",
    "dead": "dead",
    "inactive": "inactive",
    "effective_rank": "rank",
    "similarity": "cosine",
    "relative_spread": "spread/mean",
}


def diagnose(
    run: Annotated[
        Path | None, Parameter(group=_DIAGNOSIS, help="Run folder, whose training is repeated; else by options.")
    ] = None,
    /,
    options: Annotated[DiagnoseOptions | None, Parameter(name="*")] = None,
    *,
    samples: Annotated[
        int | None,
        Parameter(
            group=_DIAGNOSIS,
            metavar="N",
            allow_leading_hyphen=True,
            show_default=False,
            help="Training samples that are measured. [default: 1000]",
        ),
    ] = None,
    every: Annotated[
        int,
        Parameter(group=_DIAGNOSIS, metavar="N", allow_leading_hyphen=True, help="Epochs between two diagnoses."),
    ] = 1,
    replicas: Annotated[
        int | None,
        Parameter(
            group=_DIAGNOSIS,
            metavar="R",
            allow_leading_hyphen=True,
            show_default=False,
            help="Only the first R networks of several. [default: all]",
        ),
    ] = None,
    out: Annotated[
        Path | None,
        Parameter(
            group=OUTPUT,
            help="New folder of the diagnosis. [default: RUN-diagnosis-TIME beside the run, "
            "runs/diagnosis-TIME without one]",
        ),
    ] = None,
    json: Json = False,
    quiet: Quiet = False,
    debug: Debug = False,  # noqa: ARG001 - looked for before parsing, since parsing can fail too
) -> None:
    """Show what happens inside a network: scales, gradients, dead units and ranks, by layer and by epoch.

    A run is repeated from its settings and measured before its training and after its epochs. Without a run, the
    options describe the training as those of xpnet train do.
    """
    from xpnet.analysis.layer_history import Recorder
    from xpnet.backend import get_backend
    from xpnet.data import as_earlier, load_data
    from xpnet.nn.network import Network
    from xpnet.report import render
    from xpnet.runs.experiment import about_data, describe
    from xpnet.runs.resume import data_seen
    from xpnet.training.chunks import most_in_memory
    from xpnet.training.population import Population
    from xpnet.training.train import train
    from xpnet.training.validate import order_seeds

    output = Output(as_json=json, quiet=quiet)
    settings = _settings(run, {} if options is None else given(options))
    if out is not None and out.exists():
        raise RunError(f"out = {out}: exists already; name a folder that does not, nothing is overwritten")
    backend = get_backend(settings.run.device, tf32=settings.run.tf32)
    output.note(f"device: {backend.device} ({backend.reason})")
    data = as_earlier(load_data(settings.data), {} if run is None else data_seen(run))
    output.note(about_data(data, settings))
    whole = Population.of(settings, data.features, data.classes)
    if replicas is not None and not 1 <= replicas <= len(whole):
        raise ConfigError(f"replicas = {replicas}: must be from 1 to {len(whole)}, the networks that there are")
    population = whole.part(0, replicas or len(whole))
    # A part of several networks keeps the orders of samples that it had among all of them.
    orders = order_seeds(whole.train, whole.seeds)[: len(population)]
    # Measures are of networks side by side: what does not fit is not cut into chunks.
    most = most_in_memory(population, data, backend, settings.run.dtype)
    if most is not None and most < len(population):
        raise ConfigError(
            f"replicas = {len(population)}: so many networks do not fit on {backend.device} together, but {most} do; "
            f"take --replicas {most}"
        )
    network = Network(population.network, backend=backend, dtype=settings.run.dtype, seed=population.seeds)
    recorder = Recorder(network, data, population.train, samples=samples, every=every)
    folder = create_run_folder(out, stem=_stem(run))
    title = describe(settings, data)
    if "init" not in settings.varying:
        title += f", init {population.network.init}"
    length = population.train.length(len(data.train))
    output.note(f"diagnosis: {title}, {recorder.samples} samples, {counted(length.epochs, 'epoch')}; folder {folder}")

    render.load()
    diverged: DivergedError | None = None
    interrupted = False
    with (
        finish_on_interrupt(output, "stopping after this step; press Ctrl-C again to leave at once") as interrupt,
        ProgressBars(length, shown=output.show_progress) as bars,
    ):

        def on_epoch(record: Any) -> None:
            recorder(record)
            bars.epoch(record)

        try:
            result = train(
                network,
                data,
                population.train,
                on_epoch=on_epoch,
                on_steps=bars.steps,
                should_stop=interrupt,
                orders=orders,
            )
            interrupted = result.interrupted
        except DivergedError as error:
            diverged = DivergedError(f"{error}; {folder} holds the diagnosis of the epochs before it")

    history = recorder.history
    repeated = None if run is None or interrupted or diverged is not None else _repeated(run, network)
    about = {
        "run": None if run is None else str(run),
        "folder": str(folder),
        "title": title,
        "samples": recorder.samples,
        "dtype": settings.run.dtype,
        "device": backend.device,
        "repeats_run": repeated,
        "interrupted": interrupted,
        "replicas": [dict(row) for row in population.rows],
        "settings": settings.to_mapping(),
    } | history.to_json()
    _write(folder, about, history)
    with left_out_if_not_drawn(output):
        _draw(folder, history, population, title, recorder.samples)
    output.result(about, title, *_tables(history, population), *_words(history, repeated), f"folder: {folder}")
    if diverged is not None:
        raise diverged
    if interrupted:
        sys.exit(interrupt.exit_code)


def _settings(run: Path | None, on_line: dict[str, Any]) -> Settings:
    """Return the settings of a run, or those on the command line."""
    if run is None:
        return Settings.from_mapping(on_line)
    check_utf8(run, "run")
    if not run.exists():
        raise RunError(f"{run}: there is no such run folder; without one, options such as --hidden describe a training")
    if not (run / CONFIG).is_file():
        raise RunError(f"{run}: is not a run folder, it has no {CONFIG}; name a folder that xpnet train has made")
    for name in on_line:
        if name not in _WITH_RUN:
            raise ConfigError(
                f"{name} = {on_line[name]}: a run is repeated with its own settings, only "
                f"{', '.join(_WITH_RUN)} may be others; leave out {run} to describe a training by options"
            )
    on_file, _ = read_settings(run)
    return Settings.from_mapping(on_file | on_line)


def _stem(run: Path | None) -> Path:
    """Return what the folder of a diagnosis is called, but for the time."""
    if run is None:
        return Path("runs", "diagnosis")
    run = run if run.name not in ("", "..") else run.resolve()
    return run.with_name(f"{run.name}-diagnosis")


def _repeated(run: Path, network: Network) -> dict[str, Any] | None:
    """Compare the network with the run's own; None if there is none of a whole run."""
    try:
        if read_metrics(run / METRICS)["interrupted"]:
            return None
        tensors = read_model(run / MODEL).tensors
    except RunError:
        return None  # a broken file is no reason to lose what was measured
    largest = 0.0
    identical = True
    for name, p in network.parameters.items():
        ours = network.backend.to_numpy(p)
        of_run = tensors.get(f"parameters.{name}", ours[:0])[: network.replicas]
        if of_run.shape != ours.shape:
            return None
        identical &= bool(np.array_equal(of_run, ours, equal_nan=True))
        largest = max(largest, float(np.nan_to_num(np.max(np.abs(of_run.astype(float) - ours)))))
    return {"identical": identical, "largest_difference": largest}


def _write(folder: Path, about: dict[str, Any], history: LayerHistory) -> None:
    write_new(folder / "diagnosis.csv", history.to_csv().encode())
    write_new(folder / "diagnosis.json", (json_module.dumps(about) + "\n").encode())


def _draw(folder: Path, history: LayerHistory, population: Population, title: str, samples: int) -> None:
    from xpnet.report.curves_chart import save_figure
    from xpnet.report.diagnosis_chart import diagnosis_figure

    save_figure(diagnosis_figure(history, population, title, samples), folder / "diagnosis")


def _tables(history: LayerHistory, population: Population) -> list[Any]:
    """Return the last diagnosis, a table with a row for each layer of each of the first networks."""
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    last = history.statistics[-1]
    tables: list[Any] = []
    for r, row in enumerate(population.rows[:_TABLES]):
        which = "" if len(population) == 1 else ", ".join(f"{name} {value}" for name, value in row.items()) + ", "
        table = Table(title=f"{which}epoch {last.epoch}", title_justify="left", box=SIMPLE_HEAD, pad_edge=False)
        table.add_column("layer", justify="right")
        for head in _COLUMNS.values():
            table.add_column(head, justify="right", no_wrap=True)
        for layer in range(last.diagnosis.s_std.shape[1]):
            cells = [_cell(name, float(getattr(last.diagnosis, name)[r, layer])) for name in _COLUMNS]
            table.add_row(str(layer + 1), *cells)
        tables.append(table)
    return tables


def _cell(name: str, value: float) -> str:
    if np.isnan(value):
        return "-"
    if name in ("dead", "inactive"):
        return f"{100 * value:.0f} %"
    if name == "effective_rank":
        return f"{value:.2f}"
    return f"{value:.4f}" if name == "similarity" else f"{value:.1e}"


def _words(history: LayerHistory, repeated: dict[str, Any] | None) -> list[str]:
    """Return what the networks make of the samples, and whether a run was repeated."""
    found, lines = history.statistics[-1].diagnosis, []
    for r in range(min(_TABLES, len(found.loss))):
        if np.isnan(found.loss[r]):
            lines.append(f"network {r}: diverged")
            continue
        classes = int(found.predicted[r])
        says = "every sample gets the same class" if classes == 1 else f"{classes} different classes are predicted"
        which = f"network {r}: " if len(found.loss) > 1 else ""
        lines.append(f"{which}loss {number(found.loss[r])}, accuracy {percent(found.accuracy[r])}; {says}")
    if len(found.loss) > _TABLES:
        lines.append(f"diagnosis.csv has {counted(len(found.loss) - _TABLES, 'network')} more")
    if repeated is not None:
        lines.append(
            "the repeated network is that of the run, bit for bit"
            if repeated["identical"]
            else f"the repeated network differs from the run's by up to {repeated['largest_difference']:.1e}: another "
            "machine, other libraries or other networks beside it round otherwise, or the data is another, or settings "
            "were changed when the run was resumed"
        )
    return lines
