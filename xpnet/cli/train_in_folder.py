"""Train in a run folder, from the beginning or a checkpoint to the end, and print what has come out."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from xpnet.cli.console import Interrupt, Output, finish_on_interrupt
from xpnet.cli.figures import write_figures
from xpnet.cli.tables import combinations_table, concluded, folds_in_words, in_words, result_table
from xpnet.utils.atomic_files import rewrite
from xpnet.utils.plural import counted

if TYPE_CHECKING:
    from xpnet.report.drawing_process import Drawer
    from xpnet.runs.experiment import Experiment
    from xpnet.runs.resume import ResumePoint
    from xpnet.runs.saver import Saver
    from xpnet.training.result import TrainResult


def train_in(
    experiment: Experiment, folder: Path, point: ResumePoint, output: Output, draws: Drawer, *, watch: bool
) -> int:
    """Train from a point to the end, fill the folder, print the result; return 0, or the exit code of a signal."""
    from xpnet.cli.live_page import live_page
    from xpnet.cli.progress import ChunkNotes, ProgressBars, StopOnInterrupt
    from xpnet.runs.loggers import loggers
    from xpnet.runs.saver import Saver

    population, of_folds = experiment.population, None
    if experiment.settings.run.cv is not None:
        from xpnet.cli.cross_validation import cross_validation

        folds = cross_validation(experiment, folder, output)
        if isinstance(folds, int):
            return folds
        of_folds = None if folds is None else folds.to_json
    output.note(f"training: {experiment.title}, {counted(experiment.length.steps, 'step')}; run folder {folder}")
    with finish_on_interrupt(output, "stopping after this step; press Ctrl-C again to leave at once") as interrupt:
        with (
            contextlib.closing(Saver(experiment, folder, output.note, point.step if point.starts else None)) as saver,
            ProgressBars(shown=output.show_progress) as bars,
            live_page(experiment.title, population.rows, output, watch=watch) as pages,
        ):
            callbacks = [saver, ChunkNotes(output.note, len(population)), bars, StopOnInterrupt(interrupt), *pages]
            callbacks += loggers(experiment, folder, output.note)
            network, result = experiment.train(folder, point, callbacks)
            write = _draw(experiment, folder, result, output, draws)
        interrupt.message = "writing the results; press Ctrl-C again to leave at once"
        for replica, divergence in sorted(result.diverged.items()):
            settings = ", ".join(f"{name} {value}" for name, value in population.rows[replica].items())
            sentence = divergence.sentence(population.train, replica, normalised=population.network.normalises)
            output.note(f"warning: {sentence} ({settings}); it was left out from there on")
        if of_folds is not None:
            from xpnet.training.conclusions import after_folds

            result = dataclasses.replace(result, conclusion=after_folds(result.conclusion))
        metrics = saver.write_results(network, result, write, of_folds)
    return _print_result(experiment, output, metrics, result, saver, interrupt)


def _print_result(
    experiment: Experiment,
    output: Output,
    metrics: dict[str, Any],
    result: TrainResult,
    saver: Saver,
    interrupt: Interrupt,
) -> int:
    """Print the result and advice on the next step; return the exit code.

    Raises:
        RunError: Not everything could be saved.
        OSError: The result cannot be printed; everything is saved.
    """
    folds = metrics.get("cv")
    by_network = None if folds is None else [entry["cv"] for entry in metrics.get("replicas", ())]
    table = (
        combinations_table(experiment.population, result, by_network)
        if experiment.compares
        else result_table(result, folds)
    )
    by_fold = [] if folds is None or experiment.compares else [folds_in_words(folds)]
    folder = saver.folder
    not_printed: OSError | None = None
    try:
        words = [*by_fold, in_words(result), f"run folder: {folder}", *concluded(metrics)]
        output.result(metrics, experiment.title, table, *words)
    except OSError as error:
        not_printed = error
    print_warnings(metrics, output)
    if result.interrupted and saver.saved is None:
        output.note(f"save_every = 0: nothing was saved from which it could go on; run folder {folder}")
    elif result.interrupted:
        output.note(f"go on with: xpnet train --resume {folder}")
    elif interrupt.pressed:
        output.note("training was over: nothing is left to go on with")
    saver.raise_failures()
    if result.interrupted:
        return interrupt.exit_code
    if not_printed is not None:
        raise not_printed
    return 0


def print_warnings(metrics: Mapping[str, Any], output: Output) -> None:
    """Print the warnings of a run below its table."""
    output.notes(*(f"warning: {sentence}" for sentence in metrics.get("warnings", ())))


def _draw(
    experiment: Experiment, folder: Path, result: TrainResult, output: Output, draws: Drawer
) -> Callable[[], None]:
    """Begin to draw the curves, and return a function that writes them; without them if drawing fails.

    It raises OSError or RunError if they cannot be written.
    """
    from xpnet.report.figure import KINDS
    from xpnet.report.figure_files import CURVES

    title, pending = experiment.title, None
    if len(result.history) and draws.kinds:
        if experiment.compares:
            pending = draws.draw("population", experiment.population, result, title)
        else:
            pending = draws.draw("curves", result.history, title)

    def write() -> None:
        for kind in set(KINDS) - set(draws.kinds):  # of the part of this training that was drawn before
            (folder / f"{CURVES}.{kind}").unlink(missing_ok=True)
        if pending is not None:
            write_figures(pending, folder, output, rewrite)

    return write
