"""Training as ``xpnet train`` does it: into a run folder, from its beginning or from where it stands."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
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
from xpnet.cli.train import about_data, describe, resolved
from xpnet.config.settings import CONFIG, Settings
from xpnet.errors import DivergedError, RunError
from xpnet.nn.model_file import MODEL
from xpnet.runs.folder import CHECKPOINTS, METRICS, create_run_folder, write_config, write_environment, write_metrics
from xpnet.utils.atomic_files import rewrite
from xpnet.utils.file_system import open_regular
from xpnet.utils.locks import only_one
from xpnet.utils.plural import counted

if TYPE_CHECKING:
    from xpnet.backend import Backend
    from xpnet.data import Data
    from xpnet.nn.network import Network
    from xpnet.runs.resume import Stand
    from xpnet.runs.saver import Saver
    from xpnet.training.history import EpochRecord
    from xpnet.training.population import Population
    from xpnet.training.result import TrainResult
    from xpnet.training.state import Chunk, Snapshot


@dataclass(frozen=True)
class Training:
    """Everything that is known before a run has a folder; what can be wrong has been found."""

    settings: Settings
    backend: Backend
    data: Data
    fingerprint: dict[str, Any]
    population: Population

    @classmethod
    def of(cls, settings: Settings, output: Output, seen: Mapping[str, Any] = MappingProxyType({})) -> Training:
        """Load the data and look for everything that can be wrong.

        Args:
            settings: Those of the run.
            output: Where to tell what is computed on what.
            seen: The fingerprint of the data that the run has begun with, if it has.

        Raises:
            XpnetError: Something is.
        """
        from xpnet.backend import get_backend
        from xpnet.data import as_earlier, fingerprint, load_data
        from xpnet.nn.network import Network
        from xpnet.training.population import Population
        from xpnet.training.validate import check_fit, check_stepper

        backend = get_backend(settings.run.device, tf32=settings.run.tf32)
        output.note(f"device: {backend.device} ({backend.reason})")
        data = as_earlier(load_data(settings.data), seen)
        output.note(about_data(data, settings))
        population = Population.of(settings, data.features, data.classes)
        for first in population.of_each_init():
            check_fit(Network(first.network, dtype=settings.run.dtype, seed=first.seeds), data, first.train)
        if settings.train.stepper != "auto":
            whole = Network(population.network, backend=backend, dtype=settings.run.dtype, seed=population.seeds)
            check_stepper(whole, data, population.train)
        training = cls(settings, backend, data, fingerprint(data), population)
        training.check_files()
        return training

    @property
    def about(self) -> dict[str, Any]:
        """What every checkpoint says of the training."""
        length = self.settings.train.length(len(self.data.train))
        return {
            "settings": resolved(self.settings, self.data),
            "data": self.fingerprint,
            "length": {"steps": length.steps, "steps_per_epoch": length.steps_per_epoch},
        }

    def check_files(self) -> None:
        """Refuse a training whose files would be larger than what is read of them.

        Raises:
            ConfigError: They would.
        """
        from xpnet.nn.model_file import description
        from xpnet.runs.checkpoints import check_description
        from xpnet.training.population import check_metrics
        from xpnet.training.validate import check_names

        data, population = self.data, self.population
        check_names(population.network, population.seeds, data)
        names = data.class_names, data.image_shape, data.feature_names
        network = description(population.network, population.seeds, *names)
        check_description({**self.about, "network": network}, len(population))
        check_metrics(population, self.settings.train.length(len(data.train)).epochs)


def run_training(settings: Settings, out: Path | None, output: Output) -> int:
    """Train as `settings` say, fill a new run folder, print the result; return 0, or a signal's exit code.

    Raises:
        RunError: Not everything could be saved.
    """
    from xpnet.runs.environment import describe_environment
    from xpnet.runs.resume import Stand

    training = Training.of(settings, output)
    written = resolved(settings, training.data)
    folder = create_run_folder(out)
    try:
        write_config(folder, written)
    except RunError:
        with contextlib.suppress(OSError):
            folder.rmdir()  # it would be no run, and in the way of one
        raise
    with alone_in(folder):
        write_environment(folder, describe_environment(training.backend, command_line()))
        return train_in(training, folder, Stand(), output)


@contextlib.contextmanager
def alone_in(folder: Path) -> Iterator[None]:
    """Let no second process train in a folder."""
    from xpnet.runs.saver import LOCK

    lock = folder / CHECKPOINTS / LOCK
    try:
        lock.parent.mkdir(exist_ok=True)
        open_regular(lock, "ab").close()
    except OSError as error:
        raise RunError(f"{lock}: cannot be written ({error.strerror}); check the folder and the space left") from None
    with only_one(lock, f"{folder}: another process trains here; wait for it, or stop it first"):
        yield


def saver_of(training: Training, folder: Path, output: Output, stand: Stand) -> Saver:
    """Return what saves a run, with what every checkpoint says of it."""
    from xpnet.runs.saver import Saver

    run, saved = training.settings.run, stand.step if stand.starts else None
    return Saver(folder, training.about, every=run.save_every, count=run.keep, warn=output.note, saved=saved)


def save_in_chunks(training: Training, saver: Saver, starts: Mapping[Chunk, Snapshot]) -> None:
    """Save chunks as they stand, each in a folder of its own, and then forget those of other cuts.

    Raises:
        OSError: One cannot be written; nothing is forgotten.
    """
    from xpnet.nn.network import Network

    for chunk, start in starts.items():
        part = training.population.part(*chunk)
        network = Network(part.network, dtype=training.settings.run.dtype, seed=part.seeds)
        network.learn_about(training.data)
        saver.save(chunk, network, start)
    saver.forget_other_chunks()


def _in_halves(training: Training, folder: Path, saver: Saver, cuts: list[Chunk]) -> Mapping[Chunk, Snapshot]:
    """Return from where chunks go on when memory has run out and one was cut in halves.

    What was saved of the whole stays until the halves are saved.
    """
    from xpnet.runs.resume import where_it_stands

    settings, population = training.settings, training.population
    length = settings.train.length(len(training.data.train))
    starts: Mapping[Chunk, Snapshot] = {}
    saver.chunks(cuts)
    with saver.trying(f"{folder / CHECKPOINTS}: what was saved, in {len(cuts)} chunks"):
        stand = where_it_stands(folder, population, length, settings.run.dtype, cuts=cuts)
        starts = stand.starts
        save_in_chunks(training, saver, {chunk: starts[chunk] for chunk in stand.split})
    return starts


def train_in(training: Training, folder: Path, stand: Stand, output: Output) -> int:
    """Train from where it stands to the end, fill the folder, print the result."""
    from xpnet.report import render
    from xpnet.training.history import records_of
    from xpnet.training.population import train_population

    render.load()
    settings, data, population = training.settings, training.data, training.population
    length = settings.train.length(len(data.train))
    title = describe(settings, data)
    output.note(f"training: {title}, {counted(length.steps, 'step')}; run folder {folder}")
    alone = stand.starts.get((0, len(population)))  # of several chunks, epochs are told when all are done
    records = [] if alone is None else records_of(alone.history)
    chunks: list[Chunk] = []
    with finish_on_interrupt(output, "stopping after this step; press Ctrl-C again to leave at once") as interrupt:
        with (
            saver_of(training, folder, output, stand) as saver,
            ProgressBars(length, shown=output.show_progress) as bars,
        ):
            saver.begin(records)
            for record in records:
                bars.epoch(record)

            def on_epoch(record: EpochRecord) -> None:
                saver.epoch(record)
                bars.epoch(record)

            def on_chunks(cuts: list[Chunk]) -> Mapping[Chunk, Snapshot]:
                starts: Mapping[Chunk, Snapshot] = {}
                if chunks:  # memory has run out
                    starts = _in_halves(training, folder, saver, cuts)
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
                    backend=training.backend,
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
        metrics = _results(training, folder, network, result, chunks, saver, output)
    return _tell(training, folder, output, metrics, result, saver, interrupt)


def _tell(
    training: Training,
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

    varies = bool(training.settings.varying.keys() - {"seed"})
    table = combinations_table(training.population, result) if varies else _table(result)
    unheard: OSError | None = None
    try:
        title = describe(training.settings, training.data)
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
    training: Training,
    folder: Path,
    network: Network,
    result: TrainResult,
    chunks: list[Chunk],
    saver: Saver,
    output: Output,
) -> dict[str, Any]:
    """Write the network, the curves and the figures, each as far as the disk lets; return the figures."""
    from xpnet.training.population import replicas_json

    settings, population = training.settings, training.population
    metrics = result.to_json() | {"run": str(folder), "samples": training.data.counts}
    if len(population) > 1:
        metrics["replicas"] = list(replicas_json(population, result))
    if len(chunks) > 1:  # in float32 who is trained together shows in the last bits
        metrics["chunks"] = [stop - start for start, stop in chunks]
    if not (folder / CONFIG).is_file():  # gone meanwhile: what was learned is kept all the same
        with saver.trying(f"{folder}", results=True):
            folder.mkdir(parents=True, exist_ok=True)
            write_config(folder, resolved(settings, training.data))
    saver.finish()
    with saver.trying(f"{folder / MODEL}", results=True):
        network.save(folder / MODEL, replace=True)
    if len(result.history):
        with saver.trying(f"{folder / 'curves.png'}", results=True):
            _draw(training, folder, result, output)
    # The last: a run with these is finished, unless something is missing that --resume can make up for.
    with saver.trying(f"{folder / METRICS}", results=True):
        write_metrics(folder, metrics | ({"interrupted": True} if saver.missing else {}))
    return metrics


def _draw(training: Training, folder: Path, result: TrainResult, output: Output) -> None:
    """Draw the curves; where that cannot be done, the run is whole without them.

    Raises:
        OSError, RunError: They cannot be written.
    """
    from xpnet.report.curves_chart import curves, save_figure
    from xpnet.report.population_chart import population_figure

    title = describe(training.settings, training.data)
    varies = bool(training.settings.varying.keys() - {"seed"})
    with left_out_if_not_drawn(output):
        chart = population_figure(training.population, result, title) if varies else curves(result.history, title)
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
