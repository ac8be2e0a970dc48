"""``xpnet train``."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter

from xpnet.cli import command_line
from xpnet.cli.console import (
    STANDARD,
    Interrupt,
    Output,
    finish_on_interrupt,
    left_out_if_not_drawn,
)
from xpnet.cli.options import FLAG, OUTPUT, read_settings, with_settings
from xpnet.cli.recipes import recipe_hint
from xpnet.cli.tables import combinations_table, folds_in_words, in_words, result_table
from xpnet.config.settings import CONFIG, Settings, read_config
from xpnet.errors import ConfigError, RunError
from xpnet.utils.atomic_files import rewrite
from xpnet.utils.file_system import check_utf8
from xpnet.utils.plural import counted

if TYPE_CHECKING:
    from xpnet.runs.experiment import Experiment
    from xpnet.runs.resume import ResumePoint
    from xpnet.runs.saver import Saver
    from xpnet.training.result import TrainResult


@with_settings(lists=True)
def train(
    options: Any = None,
    *,
    config: Annotated[
        Path | None,
        Parameter(group=OUTPUT, help="Settings from a TOML file or a run folder; options on the line go first."),
    ] = None,
    recipe: Annotated[
        str | None,
        Parameter(
            group=OUTPUT, metavar="NAME", help="Settings of a recipe (xpnet recipes); options on the line go first."
        ),
    ] = None,
    out: Annotated[Path | None, Parameter(group=OUTPUT, help="New folder of the run. [default: runs/TIME]")] = None,
    resume: Annotated[
        Path | None,
        Parameter(group=OUTPUT, metavar="RUN", help="Go on with the run in this folder, to the end it would have had."),
    ] = None,
    allow_changes: Annotated[
        bool,
        Parameter(group=OUTPUT, **FLAG, help="With --resume: go on although settings or data differ."),
    ] = False,
    output: Output = STANDARD,
) -> None:
    """Train a network and keep everything about it in a run folder.

    Without --data, CIFAR-10 is used if it is on this machine, and the built-in set `patterns`
    otherwise; nothing is downloaded.
    """
    if resume is None:
        if allow_changes:
            raise ConfigError("allow_changes = true: is for a run that is resumed; name it with --resume RUN")
        exit_code = train_anew(read_settings(options, config, recipe), out, output)
    else:
        for name, value in (("config", config), ("recipe", recipe), ("out", out)):
            if value is not None:
                raise ConfigError(f"{name} = {value}: a run that is resumed has its own; leave --{name} out")
        exit_code = _resume(resume, options, output, allow_changes=allow_changes)
    if exit_code:
        sys.exit(exit_code)


def train_anew(settings: Settings, out: Path | None, output: Output) -> int:
    """Train in a new run folder; return 0, or the exit code of a signal.

    Raises:
        RunError: Not everything could be saved.
    """
    from xpnet.runs.environment import describe_environment
    from xpnet.runs.experiment import Experiment, alone_in
    from xpnet.runs.folder import create_run_folder, write_config, write_environment
    from xpnet.runs.resume import ResumePoint

    experiment = Experiment.of(settings, output.note)
    output.notes(*recipe_hint(settings, experiment.data.name))
    folder = create_run_folder(out)
    try:
        write_config(folder, experiment.config)
    except RunError:
        with contextlib.suppress(OSError):
            folder.rmdir()  # a folder without settings is not a run
        raise
    with alone_in(folder):
        write_environment(folder, describe_environment(experiment.backend, command_line()))
        return _train_in(experiment, folder, ResumePoint(), output)


def _resume(run: Path, options: Any, output: Output, *, allow_changes: bool) -> int:
    """Continue the run in a folder to its end; return 0, or the exit code of a signal.

    Raises:
        RunError: The folder is not a run, the run is being trained, settings or data differ, or a file could not be
            saved.
    """
    from xpnet.runs.environment import describe_environment, remember_environment
    from xpnet.runs.experiment import Experiment, alone_in
    from xpnet.runs.folder import refuse_links, write_config, write_metrics
    from xpnet.runs.resume import ResumePoint, data_seen, differences, finished, validate_resume
    from xpnet.runs.saver import prepare_to_resume

    _check_is_run(run)
    settings, before = read_settings(options, run), read_settings(None, run)
    changes = differences(before.to_mapping(), settings.to_mapping())
    if not allow_changes:
        _refuse(validate_resume(run, ResumePoint(), changes))
    metrics = finished(run)
    if metrics is not None and not changes:
        output.note(f"{run}: is finished; train on with more epochs and --allow-changes, or a new run with --config")
        output.result(metrics, f"run folder: {run}")
        _warn(metrics, output)
        return 0
    refuse_links(run)
    with alone_in(run):
        experiment = Experiment.of(settings, output.note, data_seen(run))
        point, changed = _resume_point(run, experiment, output, allow_changes)
        if point.starts:
            output.note(f"going on from step {point.step} of {experiment.length.steps}" + point.next_chunk())
        elif metrics is not None:
            raise RunError(
                f"{run}: is finished, and has no checkpoint to go on from; train a new run with --config {run}"
            )
        else:
            output.note(f"{run} has no complete checkpoint: training starts again")
        prepare_to_resume(experiment, run, point, changed=changed)
        if metrics is not None:
            write_metrics(run, metrics | {"interrupted": True})
        if experiment.config != read_config(run):
            write_config(run, experiment.config)
        environment = describe_environment(experiment.backend, command_line())
        output.notes(*remember_environment(run, environment, point.step))
        return _train_in(experiment, run, point, output)


def _check_is_run(run: Path) -> None:
    check_utf8(run, "resume")
    if not (run / CONFIG).is_file():
        hint = f"; a search goes on with xpnet search --resume {run}" if (run / "search.toml").is_file() else ""
        raise RunError(f"resume = {run}: is not the folder of a run, it has no {CONFIG}{hint}")
    if (run / "lr_range.csv").is_file():
        raise RunError(f"resume = {run}: is the folder of a learning rate range test; train with --config {run}")


def _refuse(reasons: list[str]) -> None:
    if reasons:
        raise RunError(reasons[0])


def _resume_point(run: Path, experiment: Experiment, output: Output, allow_changes: bool) -> tuple[ResumePoint, bool]:
    """Return the point from which a run continues, and whether its settings or data have changed since."""
    from xpnet.runs.resume import differences, find_resume_point, validate_resume

    options, data = experiment.settings.run, experiment.data
    now = {"settings": experiment.config, "data": experiment.fingerprint}
    population, length = experiment.population, experiment.length
    point = find_resume_point(run, population, length, options.dtype, most=options.max_replicas, now=now)
    changes: list[str] = []
    if point.starts:
        changes = differences(point.settings, now["settings"])
        of_data = differences(point.data, {name: now["data"].get(name) for name in point.data})
        _refuse(validate_resume(run, point, changes, of_data, location=data.location, allow_changes=allow_changes))
        changes += of_data
    if changes:
        # Costs with another lambda, or figures on other samples, are not valid for the end of this training.
        point.starts = {chunk: replace(start, validated=False) for chunk, start in point.starts.items()}
    output.notes(*(f"warning: {sentence}; it is skipped" for sentence in point.skipped))
    return point, bool(changes)


def _train_in(experiment: Experiment, folder: Path, point: ResumePoint, output: Output) -> int:
    """Train from a point to the end, fill the folder, print the result; return 0, or the exit code of a signal."""
    from xpnet.cli.cross_validation import cross_validation
    from xpnet.cli.progress import ChunkNotes, ProgressBars, StopOnInterrupt
    from xpnet.report import render
    from xpnet.runs.saver import Saver

    render.load()
    population, folds = experiment.population, cross_validation(experiment, folder, output)
    if isinstance(folds, int):
        return folds
    of_folds = None if folds is None else folds.to_json
    output.note(f"training: {experiment.title}, {counted(experiment.length.steps, 'step')}; run folder {folder}")
    with finish_on_interrupt(output, "stopping after this step; press Ctrl-C again to leave at once") as interrupt:
        with (
            contextlib.closing(Saver(experiment, folder, output.note, point.step if point.starts else None)) as saver,
            ProgressBars(shown=output.show_progress) as bars,
        ):
            callbacks = [saver, ChunkNotes(output.note, len(population)), bars, StopOnInterrupt(interrupt)]
            network, result = experiment.train(folder, point, callbacks)
        interrupt.message = "writing the results; press Ctrl-C again to leave at once"
        for replica, divergence in sorted(result.diverged.items()):
            settings = ", ".join(f"{name} {value}" for name, value in population.rows[replica].items())
            sentence = divergence.sentence(population.train, replica)
            output.note(f"warning: {sentence} ({settings}); it was left out from there on")
        metrics = saver.write_results(network, result, lambda: _draw(experiment, folder, result, output), of_folds)
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
        output.result(metrics, experiment.title, table, *by_fold, in_words(result), f"run folder: {folder}")
    except OSError as error:
        not_printed = error
    _warn(metrics, output)
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


def _warn(metrics: Mapping[str, Any], output: Output) -> None:
    """Print the warnings of a run below its table."""
    output.notes(*(f"warning: {sentence}" for sentence in metrics.get("warnings", ())))


def _draw(experiment: Experiment, folder: Path, result: TrainResult, output: Output) -> None:
    """Draw the curves; continue without them if drawing fails.

    Raises:
        OSError, RunError: The curves cannot be written.
    """
    from xpnet.report.curves_chart import curves, save_figure
    from xpnet.report.population_chart import population_figure

    with left_out_if_not_drawn(output):
        compares, title = experiment.compares, experiment.title
        chart = population_figure(experiment.population, result, title) if compares else curves(result.history, title)
        save_figure(chart, folder / "curves", rewrite)
