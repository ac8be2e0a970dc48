"""``xpnet train``."""

from __future__ import annotations

import dataclasses
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeAlias

from cyclopts import Parameter

from xpnet.cli import command_line
from xpnet.cli.console import Output, ProgressBars, finish_on_interrupt, number, percent
from xpnet.cli.options import OUTPUT, Debug, Json, Quiet, given, settings_options
from xpnet.errors import DivergedError
from xpnet.runs import (
    MODEL,
    HistoryFile,
    create_run_folder,
    write_config,
    write_environment,
    write_metrics,
)
from xpnet.settings import Settings, settings_without_effect
from xpnet.settings import read_settings as settings_in

if TYPE_CHECKING:
    from xpnet.data import Data
    from xpnet.history import EpochRecord
    from xpnet.results import TrainResult

    TrainOptions: TypeAlias = Any
else:
    TrainOptions = settings_options()


def train(
    options: Annotated[TrainOptions | None, Parameter(name="*")] = None,
    *,
    config: Annotated[
        Path | None,
        Parameter(group=OUTPUT, help="Settings from a TOML file or a run folder; options on the line go first."),
    ] = None,
    out: Annotated[Path | None, Parameter(group=OUTPUT, help="Folder of the run, new [default: runs/TIME]")] = None,
    json: Json = False,
    quiet: Quiet = False,
    debug: Debug = False,  # noqa: ARG001 - looked for before parsing, since parsing can fail too
) -> None:
    """Train a network and keep everything about it in a run folder.

    Without --data, CIFAR-10 is used if it is on this machine, and the built-in set `patterns`
    otherwise; nothing is downloaded.
    """
    settings = read_settings(options, config)
    output = Output(as_json=json, quiet=quiet)
    exit_code = run_training(settings, out, output)
    if exit_code:
        sys.exit(exit_code)


def read_settings(options: Any, config: Path | None) -> Settings:
    """Return the settings of the options, of the configuration file, and the defaults, in this order."""
    on_file = {} if config is None else settings_in(config)[0]
    on_line = {} if options is None else given(options)
    # What the file says about another schedule or another length gives way to the command line.
    replaced = settings_without_effect(on_line["schedule"]) if "schedule" in on_line else []
    replaced += [other for name, other in (("cycles", "epochs"), ("epochs", "cycles")) if name in on_line]
    on_file = {name: value for name, value in on_file.items() if name not in replaced}
    return Settings.from_mapping(on_file | on_line)


def run_training(settings: Settings, out: Path | None, output: Output) -> int:
    """Train as `settings` say, fill the run folder, print the result; return 0, or a signal's exit code."""
    from xpnet.backend import get_backend
    from xpnet.cli.tables import combinations_table
    from xpnet.data import load_data
    from xpnet.environment import describe_environment
    from xpnet.fitting import check_fit, check_stepper
    from xpnet.network import Network
    from xpnet.population import Population, replicas_json, train_population

    # Everything that can be wrong is found before the folder is made.
    backend = get_backend(settings.run.device, tf32=settings.run.tf32)
    output.note(f"device: {backend.device} ({backend.reason})")
    data = load_data(settings.data)
    output.note(about_data(data, settings))
    population = Population.of(settings, data.features, data.classes)
    first = population.part(0, 1)
    check_fit(Network(first.network, dtype=settings.run.dtype, seed=first.seeds), data, first.train)
    if settings.train.stepper != "auto":
        whole = Network(population.network, backend=backend, dtype=settings.run.dtype, seed=population.seeds)
        check_stepper(whole, data, population.train)
    folder = create_run_folder(out)
    write_config(folder, resolved(settings, data))
    write_environment(folder, describe_environment(backend, command_line()))
    length = settings.train.length(len(data.train))
    title = describe(settings, data)
    output.note(f"training: {title}, {length.steps} steps; run folder {folder}")

    with (
        finish_on_interrupt(output, "stopping after this step; press Ctrl-C again to leave at once") as interrupt,
        HistoryFile(folder) as history,
        ProgressBars(length, shown=output.show_progress) as bars,
    ):

        def on_epoch(record: EpochRecord) -> None:
            history.append(record)
            bars.epoch(record)

        def on_chunks(cuts: list[tuple[int, int]]) -> None:
            if len(cuts) > 1:
                sizes = ", ".join(str(stop - start) for start, stop in cuts)
                output.note(f"{len(population)} networks train in {len(cuts)} chunks, one after another: {sizes}")
                bars.chunks(len(cuts))

        try:
            network, result = train_population(
                population,
                data,
                backend=backend,
                dtype=settings.run.dtype,
                max_replicas=settings.run.max_replicas,
                on_epoch=on_epoch,
                on_steps=bars.steps,
                on_chunks=on_chunks,
                should_stop=interrupt,
            )
        except DivergedError as error:
            raise DivergedError(f"{error}; {folder} holds the epochs before it") from None

    for replica, divergence in sorted(result.diverged.items()):
        which = ", ".join(f"{name} {value}" for name, value in population.rows[replica].items())
        output.note(f"warning: {divergence.sentence(settings.train, replica)} ({which}); it was left out from there on")
    network.save(folder / MODEL)
    metrics = result.to_json() | {"run": str(folder), "samples": data.counts}
    if len(population) > 1:
        metrics["replicas"] = list(replicas_json(population, result))
    write_metrics(folder, metrics)
    if len(result.history):
        from xpnet.report.figures import curves, save_figure
        from xpnet.report.populations import population_figure

        varies = bool(settings.varying.keys() - {"seed"})
        chart = population_figure(population, result, title) if varies else curves(result.history, title)
        save_figure(chart, folder / "curves")
    tables = [combinations_table(population, result)] if settings.varying.keys() - {"seed"} else [_table(result)]
    output.result(metrics, title, *tables, _summary(result), f"run folder: {folder}")
    return interrupt.exit_code if result.interrupted else 0


def describe(settings: Settings, data: Data) -> str:
    """Return a run in a few words: data, split, sizes, normalisation, lambda, what varies, runs."""
    return f"{data.name} {data.split}, {settings.in_words(data.features, data.classes)}"


def about_data(data: Data, settings: Settings) -> str:
    """Say which data is used, and how to get CIFAR-10 where the embedded default took its place."""
    built_in = data.location.startswith("patterns")
    about = f"data: {data.name}, {'built in' if built_in else f'from {data.location}'}, split {data.split}"
    if settings.data.data is None and data.name == "patterns":
        from xpnet.data import CIFAR10_HINT

        about += f"\nCIFAR-10 is not on this machine: {CIFAR10_HINT}"
    return "\n".join((about, *data.notes))


def resolved(settings: Settings, data: Data) -> dict[str, Any]:
    """Return the settings with the data that was found, so that they mean the same tomorrow."""
    target = settings.data.target
    if target is not None and data.location.endswith(".npy"):
        target = str(Path(target).expanduser().resolve())  # the labels' file
    found = dataclasses.replace(settings.data, data=data.location, split=data.split, target=target)
    return dataclasses.replace(settings, data=found).to_mapping()


def _summary(result: TrainResult) -> str:
    epochs = result.seconds_training
    median = f" ({sorted(epochs)[len(epochs) // 2]:.3f} s an epoch)" if epochs else ""
    return (
        f"{result.epochs} epochs, {result.steps} steps on {result.device}; training {sum(epochs):.2f} s{median}, "
        f"evaluation {result.seconds_evaluation:.2f} s"
    )


def _table(result: TrainResult) -> Any:
    from rich.table import Table

    table = Table()
    for column in ("", "accuracy", "loss", "cost"):
        table.add_column(column, justify="left" if not column else "right")
    for name, metrics in (
        ("training", result.train),
        ("validation", result.validation),
        ("test", result.test),
    ):
        table.add_row(name, percent(metrics["accuracy"]), number(metrics["loss"]), number(metrics["cost"]))
    return table
