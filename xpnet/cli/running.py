"""Training as ``xpnet train`` does it: into a run folder, from its beginning or from where it stands."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from xpnet.cli import command_line
from xpnet.cli.console import (
    Interrupt,
    Output,
    ProgressBars,
    finish_on_interrupt,
    left_out_if_not_drawn,
    number,
    percent,
)
from xpnet.config.settings import CONFIG, Settings
from xpnet.errors import DivergedError, RunError
from xpnet.nn.model_file import MODEL
from xpnet.runs.experiment import Experiment, alone_in, describe, resolved, save_in_chunks, saver_of
from xpnet.runs.folder import CHECKPOINTS, METRICS, create_run_folder, write_config, write_environment, write_metrics
from xpnet.utils.atomic_files import rewrite
from xpnet.utils.plural import counted

if TYPE_CHECKING:
    from xpnet.nn.network import Network
    from xpnet.runs.resume import ResumePoint
    from xpnet.runs.saver import Saver
    from xpnet.training.history import EpochRecord
    from xpnet.training.result import TrainResult
    from xpnet.training.state import Chunk, TrainState


def run_training(settings: Settings, out: Path | None, output: Output) -> int:
    """Train as `settings` say, fill a new run folder, print the result; return 0, or a signal's exit code.

    Raises:
        RunError: Not everything could be saved.
    """
    from xpnet.runs.environment import describe_environment
    from xpnet.runs.resume import ResumePoint

    experiment = Experiment.of(settings, output.note)
    written = resolved(settings, experiment.data)
    folder = create_run_folder(out)
    try:
        write_config(folder, written)
    except RunError:
        with contextlib.suppress(OSError):
            folder.rmdir()  # it would be no run, and in the way of one
        raise
    with alone_in(folder):
        write_environment(folder, describe_environment(experiment.backend, command_line()))
        return train_in(experiment, folder, ResumePoint(), output)


def _in_halves(experiment: Experiment, folder: Path, saver: Saver, cuts: list[Chunk]) -> Mapping[Chunk, TrainState]:
    """Return from where chunks go on when memory has run out and one was cut in halves.

    What was saved of the whole stays until the halves are saved.
    """
    from xpnet.runs.resume import where_it_stands

    settings, population = experiment.settings, experiment.population
    length = settings.train.length(len(experiment.data.train))
    starts: Mapping[Chunk, TrainState] = {}
    saver.chunks(cuts)
    with saver.trying(f"{folder / CHECKPOINTS}: what was saved, in {len(cuts)} chunks"):
        stand = where_it_stands(folder, population, length, settings.run.dtype, cuts=cuts)
        starts = stand.starts
        save_in_chunks(experiment, saver, {chunk: starts[chunk] for chunk in stand.split})
    return starts


def train_in(experiment: Experiment, folder: Path, stand: ResumePoint, output: Output) -> int:
    """Train from where it stands to the end, fill the folder, print the result."""
    from xpnet.report import render
    from xpnet.training.history import records_of
    from xpnet.training.train_population import train_population

    render.load()
    settings, data, population = experiment.settings, experiment.data, experiment.population
    length = settings.train.length(len(data.train))
    title = describe(settings, data)
    output.note(f"training: {title}, {counted(length.steps, 'step')}; run folder {folder}")
    alone = stand.starts.get((0, len(population)))  # of several chunks, epochs are told when all are done
    records = [] if alone is None else records_of(alone.history)
    chunks: list[Chunk] = []
    with finish_on_interrupt(output, "stopping after this step; press Ctrl-C again to leave at once") as interrupt:
        with (
            saver_of(experiment, folder, output.note, stand) as saver,
            ProgressBars(length, shown=output.show_progress) as bars,
        ):
            saver.begin(records)
            for record in records:
                bars.epoch(record)

            def on_epoch(record: EpochRecord) -> None:
                saver.epoch(record)
                bars.epoch(record)

            def on_chunks(cuts: list[Chunk]) -> Mapping[Chunk, TrainState]:
                starts: Mapping[Chunk, TrainState] = {}
                if chunks:  # memory has run out
                    starts = _in_halves(experiment, folder, saver, cuts)
                else:
                    saver.chunks(cuts)
                    saver.forget_other_chunks()
                chunks[:] = cuts
                if len(cuts) > 1:
                    sizes = ", ".join(str(stop - start) for start, stop in cuts)
                    output.note(f"{len(population)} networks train in {len(cuts)} chunks, one after another: {sizes}")
                    bars.chunks(len(cuts))
                return starts

            try:
                network, result = train_population(
                    population,
                    data,
                    backend=experiment.backend,
                    dtype=settings.run.dtype,
                    max_replicas=settings.run.max_replicas,
                    on_epoch=on_epoch,
                    on_steps=bars.steps,
                    on_chunks=on_chunks,
                    should_stop=interrupt,
                    cuts=stand.cuts,
                    starts=stand.starts,
                    on_checkpoint=saver.checkpoint,
                )
            except DivergedError as error:
                raise DivergedError(f"{error}; {folder} holds the epochs before it") from None
        interrupt.message = "writing the results; press Ctrl-C again to leave at once"
        for replica, divergence in sorted(result.diverged.items()):
            which = ", ".join(f"{name} {value}" for name, value in population.rows[replica].items())
            output.note(
                f"warning: {divergence.sentence(population.train, replica)} ({which}); it was left out from there on"
            )
        metrics = _results(experiment, folder, network, result, chunks, saver, output)
    return _tell(experiment, folder, output, metrics, result, saver, interrupt)


def _tell(
    experiment: Experiment,
    folder: Path,
    output: Output,
    metrics: dict[str, Any],
    result: TrainResult,
    saver: Saver,
    interrupt: Interrupt,
) -> int:
    """Print the result, and say what comes next; return the exit code.

    Raises:
        RunError: Not everything could be saved.
        OSError: Nobody takes the result, and there is nothing worse to say.
    """
    from xpnet.cli.tables import combinations_table

    varies = bool(experiment.settings.varying.keys() - {"seed"})
    table = combinations_table(experiment.population, result) if varies else _table(result)
    unheard: OSError | None = None
    try:
        title = describe(experiment.settings, experiment.data)
        output.result(metrics, title, table, _summary(result), f"run folder: {folder}")
    except OSError as error:
        unheard = error
    tell_warnings(metrics, output)
    if result.interrupted:
        goes_on = f"go on with: xpnet train --resume {folder}"
        nothing = f"save_every = 0: nothing was saved from which it could go on; run folder {folder}"
        output.note(nothing if saver.saved is None else goes_on)
    elif interrupt.pressed:
        output.note("training was over: nothing is left to go on with")
    saver.tell()
    if result.interrupted:
        return interrupt.exit_code
    if unheard is not None:
        raise unheard
    return 0


def tell_warnings(metrics: Mapping[str, Any], output: Output) -> None:
    """Say what speaks against a run's outcome, below its table."""
    output.notes(*(f"warning: {sentence}" for sentence in metrics.get("warnings", ())))


def _results(
    experiment: Experiment,
    folder: Path,
    network: Network,
    result: TrainResult,
    chunks: list[Chunk],
    saver: Saver,
    output: Output,
) -> dict[str, Any]:
    """Write the network, the curves and the figures, each as far as the disk lets; return the figures."""
    from xpnet.training.population import replicas_json

    settings, population = experiment.settings, experiment.population
    metrics = result.to_json() | {"run": str(folder), "samples": experiment.data.counts}
    if len(population) > 1:
        metrics["replicas"] = list(replicas_json(population, result))
    if len(chunks) > 1:  # in float32 who is trained together shows in the last bits
        metrics["chunks"] = [stop - start for start, stop in chunks]
    if not (folder / CONFIG).is_file():  # gone meanwhile: what was learned is kept all the same
        with saver.trying(f"{folder}", results=True):
            folder.mkdir(parents=True, exist_ok=True)
            write_config(folder, resolved(settings, experiment.data))
    saver.finish()
    with saver.trying(f"{folder / MODEL}", results=True):
        network.save(folder / MODEL, replace=True)
    if len(result.history):
        with saver.trying(f"{folder / 'curves.png'}", results=True):
            _draw(experiment, folder, result, output)
    # The last: a run with these is finished, unless something is missing that --resume can make up for.
    with saver.trying(f"{folder / METRICS}", results=True):
        write_metrics(folder, metrics | ({"interrupted": True} if saver.missing else {}))
    return metrics


def _draw(experiment: Experiment, folder: Path, result: TrainResult, output: Output) -> None:
    """Draw the curves; where that cannot be done, the run is whole without them.

    Raises:
        OSError, RunError: They cannot be written.
    """
    from xpnet.report.curves_chart import curves, save_figure
    from xpnet.report.population_chart import population_figure

    title = describe(experiment.settings, experiment.data)
    varies = bool(experiment.settings.varying.keys() - {"seed"})
    with left_out_if_not_drawn(output):
        chart = population_figure(experiment.population, result, title) if varies else curves(result.history, title)
        save_figure(chart, folder / "curves", rewrite)


def _summary(result: TrainResult) -> str:
    epochs = result.seconds_training
    median = f" ({sorted(epochs)[len(epochs) // 2]:.3f} s an epoch)" if epochs else ""
    return (
        f"{counted(result.epochs, 'epoch')}, {counted(result.steps, 'step')} on {result.device}; "
        f"training {sum(epochs):.2f} s{median}, evaluation {result.seconds_evaluation:.2f} s"
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
