"""``xpnet diagnose``."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
from cyclopts import Group, Parameter

from xpnet.cli.completion import run_folders
from xpnet.cli.console import STANDARD, Output, finish_on_interrupt
from xpnet.cli.diagnosis_tables import (
    networks_in_words,
    no_dead_units,
    repetition,
    statistics_tables,
    verdicts_in_words,
)
from xpnet.cli.figures import drawer, write_figures
from xpnet.cli.live_page import live_page
from xpnet.cli.options import DATA, FLAG, OUTPUT, given, number, with_settings
from xpnet.config.settings import CONFIG, Settings, read_settings
from xpnet.errors import ConfigError, DivergedError, RunError
from xpnet.nn.model_file import MODEL, read_model
from xpnet.runs.folder import METRICS, create_run_folder, is_taken
from xpnet.runs.records import read_metrics
from xpnet.utils.atomic_files import write_new
from xpnet.utils.file_system import check_utf8
from xpnet.utils.plural import counted

if TYPE_CHECKING:
    from collections.abc import Sequence

    from xpnet.backend import Backend
    from xpnet.data import Dataset
    from xpnet.nn.network import Network
    from xpnet.training.callback import Callback
    from xpnet.training.population import Population

_DIAGNOSIS = Group("Diagnosis", sort_key=0)
# The settings that may differ from those of the repeated run.
_WITH_RUN = (*DATA, "figures", "device")


@with_settings(*(name for name in Settings.fields() if name not in ("cv", "stratify", "log")), lists=True)
def diagnose(
    run: Annotated[
        Path | None,
        Parameter(group=_DIAGNOSIS, completer=run_folders, help="Run that is trained again. [default: as options say]"),
    ] = None,
    /,
    options: Any = None,
    *,
    samples: Annotated[int | None, number(_DIAGNOSIS, "N", "Training samples to measure. [default: 1000]")] = None,
    every: Annotated[int, number(_DIAGNOSIS, "N", "Epochs between two diagnoses.")] = 1,
    replicas: Annotated[int | None, number(_DIAGNOSIS, "R", "Only the first R networks. [default: all]")] = None,
    out: Annotated[
        Path | None,
        Parameter(
            group=OUTPUT,
            help="New folder of the diagnosis. [default: RUN-diagnosis-TIME beside the run, "
            "runs/diagnosis-TIME without one]",
        ),
    ] = None,
    watch: Annotated[
        bool,
        Parameter(
            group=OUTPUT, **FLAG, help="Draw run and layers as it trains, on a page that only this machine sees."
        ),
    ] = False,
    output: Output = STANDARD,
) -> None:
    """Show what happens inside a network: scales, gradients, dead units and ranks, by layer and by epoch.

    The training of a run is repeated from its settings and measured before its first step and after its epochs. Without
    a run, options describe a training as those of xpnet train do.
    """
    from xpnet.analysis.layer_history import Recorder
    from xpnet.analysis.layer_verdicts import layer_verdicts
    from xpnet.nn.network import Network
    from xpnet.runs.experiment import describe
    from xpnet.training.batches import order_seeds

    settings = _settings(run, given(options, None if run is None else ("device",)))
    if out is not None and out.exists():
        raise is_taken(out)
    with drawer(settings.run.figures, output) as draws:
        everything, data, backend = _load(settings, run, output)
        population = _first(everything, replicas, data, backend, settings.run.dtype)
        # The chosen networks keep the sample orders that they have in the full population.
        orders = order_seeds(everything.train, everything.seeds)[: len(population)]
        network = Network(population.network, backend=backend, dtype=settings.run.dtype, seed=population.seeds)
        recorder = Recorder(network, data, population.train, samples=samples, every=every)
        folder = create_run_folder(out, stem=_stem(run))
        title = describe(settings, data)
        if "init" not in settings.varying:
            title += f", init {population.network.init}"
        epochs = counted(population.train.length(len(data.train), population.network).epochs, "epoch")
        output.note(f"diagnosis: {title}, {recorder.samples} samples, {epochs}; folder {folder}")

        with live_page(title, population.rows, output, watch=watch, layers=recorder.history) as pages:
            exit_code, diverged = _train(network, data, population, orders, [recorder, *pages], output)
        complete = exit_code == 0 and diverged is None
        history = recorder.history
        repeated = _compare(run, network) if run is not None and complete else None
        verdicts = layer_verdicts(history, settings=settings.to_mapping())
        found = {
            "run": None if run is None else str(run),
            "folder": str(folder),
            "title": title,
            "samples": recorder.samples,
            "dtype": settings.run.dtype,
            "device": backend.device,
            "repeats_run": repeated,
            "interrupted": exit_code != 0,
            "replicas": [dict(row) for row in population.rows],
            "settings": settings.to_mapping(),
            "verdicts": [verdict.to_json() for verdict in verdicts],
        } | history.to_json()
        write_new(folder / "diagnosis.csv", history.to_csv().encode())
        write_new(folder / "diagnosis.json", (json.dumps(found) + "\n").encode())
        if draws.kinds:
            pending = draws.draw("diagnosis", history, population, title, recorder.samples)
            write_figures(pending, folder, output)
        lines = [
            *verdicts_in_words(verdicts, network.replicas),
            *networks_in_words(history),
            *no_dead_units(network),
            *repetition(repeated),
            f"folder: {folder}",
        ]
        output.result(found, title, *statistics_tables(history, population), *lines)
        if diverged is not None:
            raise DivergedError(f"{diverged}; {folder} holds the diagnosis of the epochs before it")
        if exit_code:
            sys.exit(exit_code)


def _train(
    network: Network, data: Dataset, population: Population, orders: Any, own: Sequence[Callback], output: Output
) -> tuple[int, DivergedError | None]:
    """Train; return the exit code of an interruption, or 0, and the error of a training that diverged."""
    from xpnet.cli.progress import ProgressBars, StopOnInterrupt
    from xpnet.training.train import train

    with (
        finish_on_interrupt(output, "stopping after this step; press Ctrl-C again to leave at once") as interrupt,
        ProgressBars(shown=output.show_progress) as bars,
    ):
        callbacks = [*own, bars, StopOnInterrupt(interrupt)]
        try:
            result = train(network, data, population.train, callbacks=callbacks, orders=orders)
        except DivergedError as error:
            return 0, error
    return interrupt.exit_code if result.interrupted else 0, None


def _load(settings: Settings, run: Path | None, output: Output) -> tuple[Population, Dataset, Backend]:
    """Return all networks of the settings, the data and the device."""
    from xpnet.backend import get_backend
    from xpnet.data import as_earlier, load_data
    from xpnet.runs.experiment import about_data
    from xpnet.runs.resume import data_seen
    from xpnet.training.population import Population

    backend = get_backend(settings.run.device, tf32=settings.run.tf32)
    output.device(backend)
    data = as_earlier(load_data(settings.data), {} if run is None else data_seen(run))
    output.note(about_data(data, settings))
    return Population.of(settings, data.inputs, data.classes), data, backend


def _first(population: Population, replicas: int | None, data: Dataset, backend: Backend, dtype: str) -> Population:
    """Return the first networks of a population; they must fit in memory, as they are measured together."""
    from xpnet.training.chunks import most_in_memory

    if replicas is not None and not 1 <= replicas <= len(population):
        raise ConfigError(f"replicas = {replicas}: must be from 1 to {len(population)}, the networks that there are")
    first = population.part(0, replicas or len(population))
    most = most_in_memory(first, data, backend, dtype)
    if most is not None and most < len(first):
        raise ConfigError(
            f"replicas = {len(first)}: so many networks do not fit on {backend.device} together, but {most} do; "
            f"take --replicas {most}"
        )
    return first


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
    """Return the path of a diagnosis's folder without the time that its name ends in."""
    if run is None:
        return Path("runs", "diagnosis")
    run = run if run.name not in ("", "..") else run.resolve()
    return run.with_name(f"{run.name}-diagnosis")


def _compare(run: Path, network: Network) -> dict[str, Any] | None:
    """Return how the network compares with the run's network; None if the run has no complete network."""
    try:
        if read_metrics(run / METRICS)["interrupted"]:
            return None
        tensors = read_model(run / MODEL).tensors
    except RunError:
        return None  # a broken file is no reason to lose the measurements
    largest = 0.0
    identical = True
    for name, p in network.parameters.items():
        ours = network.backend.to_numpy(p)
        theirs = tensors.get(f"parameters.{name}", ours[:0])[: network.replicas]
        if theirs.shape != ours.shape:
            return None
        identical &= bool(np.array_equal(theirs, ours, equal_nan=True))
        largest = max(largest, float(np.nan_to_num(np.max(np.abs(theirs.astype(float) - ours)))))
    return {"identical": identical, "largest_difference": largest}
