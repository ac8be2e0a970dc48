"""``xpnet train``."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter

from xpnet.cli import command_line
from xpnet.cli.completion import recipe_names, run_folders
from xpnet.cli.console import STANDARD, Output
from xpnet.cli.figures import drawer
from xpnet.cli.options import FLAG, OUTPUT, Config, read_settings, with_settings
from xpnet.cli.recipes import recipe_hint
from xpnet.cli.tables import concluded
from xpnet.cli.train_in_folder import print_warnings, train_in
from xpnet.cli.variables import OF_A_RUN
from xpnet.config.settings import CONFIG, Settings, read_config
from xpnet.config.shared import is_shared, shared_data
from xpnet.errors import ConfigError, RunError
from xpnet.utils.file_system import check_utf8

if TYPE_CHECKING:
    from xpnet.report.drawing_process import Drawer
    from xpnet.runs.experiment import Experiment
    from xpnet.runs.resume import ResumePoint


@with_settings(lists=True)
def train(
    options: Any = None,
    *,
    config: Config = None,
    recipe: Annotated[
        str | None,
        Parameter(
            group=OUTPUT,
            metavar="NAME",
            completer=recipe_names,
            help="Settings of a recipe (xpnet recipes); options on the line go first.",
        ),
    ] = None,
    out: Annotated[Path | None, Parameter(group=OUTPUT, help="New folder of the run. [default: runs/TIME]")] = None,
    resume: Annotated[
        Path | None,
        Parameter(
            group=OUTPUT,
            metavar="RUN",
            completer=run_folders,
            help="Go on with the run in this folder, to the end it would have had.",
        ),
    ] = None,
    allow_changes: Annotated[
        bool,
        Parameter(group=OUTPUT, **FLAG, help="With --resume: go on although settings or data differ."),
    ] = False,
    watch: Annotated[
        bool, Parameter(group=OUTPUT, **FLAG, help="Draw the run as it trains, on a page that only this machine sees.")
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
        settings = read_settings(options, config, recipe)
        expected = shared_data(config) if config is not None and is_shared(config) else {}
        exit_code = train_anew(settings, out, output, watch=watch, expected=expected)
    else:
        for name, value in (("config", config), ("recipe", recipe), ("out", out)):
            if value is not None:
                raise ConfigError(f"{name} = {value}: a run that is resumed has its own; leave --{name} out")
        exit_code = _resume(resume, options, output, allow_changes=allow_changes, watch=watch)
    if exit_code:
        sys.exit(exit_code)


def train_anew(
    settings: Settings,
    out: Path | None,
    output: Output,
    *,
    kinds: tuple[str, ...] | None = None,
    watch: bool = False,
    expected: Mapping[str, Any] = MappingProxyType({}),
) -> int:
    """Train in a new run folder; return 0, or the exit code of a signal.

    Args:
        settings: The settings of the run.
        out: Its folder; None makes one below ``runs/``.
        output: Where notes and the result are printed.
        kinds: Kinds of pictures to draw; those that the settings ask for if not given.
        watch: Draw the run as it trains, on a page of its own.
        expected: The fingerprint of the data of a shared run; a warning says if the data has another.

    Raises:
        RunError: Not everything could be saved.
    """
    from xpnet.report.drawing_process import Drawer

    with drawer(settings.run.figures, output) if kinds is None else Drawer(kinds) as draws:
        return _train_anew(settings, out, output, draws, watch=watch, expected=expected)


def _train_anew(
    settings: Settings, out: Path | None, output: Output, draws: Drawer, *, watch: bool, expected: Mapping[str, Any]
) -> int:
    from xpnet.runs.environment import describe_environment
    from xpnet.runs.experiment import Experiment, alone_in
    from xpnet.runs.folder import create_run_folder, write_config, write_environment
    from xpnet.runs.resume import ResumePoint, differences

    experiment = Experiment.of(settings, output.note)
    output.how(experiment.backend)
    output.notes(*recipe_hint(settings, experiment.data.name))
    if expected and (others := differences(expected, experiment.fingerprint)):
        output.note(f"warning: the data is not that of the shared run: {'; '.join(others)}")
    folder = create_run_folder(out)
    try:
        write_config(folder, experiment.config)
    except RunError:
        with contextlib.suppress(OSError):
            folder.rmdir()  # a folder without settings is not a run
        raise
    with alone_in(folder):
        write_environment(folder, describe_environment(experiment.backend, command_line()))
        return train_in(experiment, folder, ResumePoint(), output, draws, watch=watch)


def _resume(run: Path, options: Any, output: Output, *, allow_changes: bool, watch: bool) -> int:
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
    settings, before = read_settings(options, run, variables=OF_A_RUN), read_settings(None, run)
    changes = differences(before.to_mapping(), settings.to_mapping())
    if not allow_changes:
        _refuse(validate_resume(run, ResumePoint(), changes))
    metrics = finished(run)
    if metrics is not None and not changes:
        output.note(f"{run}: is finished; train on with more epochs and --allow-changes, or a new run with --config")
        output.result(metrics, f"run folder: {run}", *concluded(metrics))
        print_warnings(metrics, output)
        return 0
    refuse_links(run)
    with drawer(settings.run.figures, output) as draws, alone_in(run):
        experiment = Experiment.of(settings, output.note, data_seen(run))
        output.how(experiment.backend)
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
        return train_in(experiment, run, point, output, draws, watch=watch)


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
