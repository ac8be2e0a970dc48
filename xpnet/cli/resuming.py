"""``xpnet train --resume``: going on with a run from where it stands."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from xpnet.cli import command_line
from xpnet.cli.console import Output
from xpnet.cli.options import read_settings
from xpnet.cli.running import tell_warnings, train_in
from xpnet.config.settings import CONFIG, read_config
from xpnet.errors import RunError
from xpnet.runs.experiment import Experiment, alone_in, resolved, save_in_chunks, saver_of
from xpnet.runs.folder import ENVIRONMENT, write_config, write_environment, write_metrics
from xpnet.runs.records import read_environment
from xpnet.utils.file_system import check_utf8

if TYPE_CHECKING:
    from xpnet.backend import Backend
    from xpnet.runs.resume import ResumePoint

# How often a run is resumed and remembers all of it; the first part of it is always remembered.
_MOST_RESUMED = 1_000
# What the last bits depend on, of what a run remembers.
_SAME = ("xpnet", "device", "cpu", "packages", "blas", "variables")


def resume_training(run: Path, options: Any, output: Output, *, allow_changes: bool) -> int:
    """Go on with the run in a folder, to the end that it would have had; return 0, or a signal's exit code.

    Raises:
        RunError: It is no run, it is at work, or settings or data differ; or not everything could be saved.
    """
    from xpnet.runs.resume import data_seen, differences, finished, refuse, refuse_links

    check_utf8(run, "resume")
    if not (run / CONFIG).is_file():
        hint = f"; a search goes on with xpnet search --resume {run}" if (run / "search.toml").is_file() else ""
        raise RunError(f"resume = {run}: is not the folder of a run, it has no {CONFIG}{hint}")
    if (run / "lr_range.csv").is_file():
        raise RunError(f"resume = {run}: is the folder of a learning rate range test; train with --config {run}")
    settings, before = read_settings(options, run), read_settings(None, run)
    asked = differences(before.to_mapping(), settings.to_mapping())
    if not allow_changes:
        refuse(run, asked)
    figures = finished(run)
    if figures is not None and not asked:
        output.note(f"{run}: is finished; train on with more epochs and --allow-changes, or a new run with --config")
        output.result(figures, f"run folder: {run}")
        tell_warnings(figures, output)
        return 0
    refuse_links(run)
    with alone_in(run):
        experiment = Experiment.of(settings, output.note, data_seen(run))
        stand, changed = _stand(run, experiment, output, allow_changes, figures is not None)
        here = resolved(settings, experiment.data)
        _save_again(experiment, run, stand, changed)
        if figures is not None:
            write_metrics(run, figures | {"interrupted": True})
        if here != read_config(run):
            write_config(run, here)
        _remember(run, experiment.backend, stand.step, output)
        return train_in(experiment, run, stand, output)


def _stand(
    run: Path, experiment: Experiment, output: Output, allow_changes: bool, done: bool
) -> tuple[ResumePoint, bool]:
    """Return from where a run goes on, and whether it does so with other settings or data than before."""
    from xpnet.runs.resume import differences, refuse, refuse_changes, refuse_data, refuse_nothing, where_it_stands

    settings, data = experiment.settings, experiment.data
    length = settings.train.length(len(data.train))
    most = settings.run.max_replicas
    now = {"settings": resolved(settings, data), "data": experiment.fingerprint}
    stand = where_it_stands(run, experiment.population, length, settings.run.dtype, most=most, now=now)
    found: list[str] = []
    if stand.starts:
        found = differences(stand.settings, now["settings"])
        other = differences(stand.data, {name: now["data"].get(name) for name in stand.data})
        if other and not allow_changes:
            refuse_data(run, data.location, found + other)
        found += other
    if not allow_changes:
        refuse(run, found)
    elif found:
        refuse_changes(run, stand, found)
        refuse_nothing(run, stand, found)
        # Costs of another lambda, or figures of other samples, are not those of the end.
        stand.starts = {chunk: replace(start, validated=False) for chunk, start in stand.starts.items()}
    for sentence in stand.wrong:
        output.note(f"warning: {sentence}; it is passed over")
    if done and not stand.starts:
        raise RunError(f"{run}: is finished, and has no checkpoint to go on from; train a new run with --config {run}")
    if stand.starts:
        output.note(f"going on from step {stand.step} of {length.steps}" + stand.of_chunks())
    else:
        output.note(f"{run} has no whole checkpoint: training starts again")
    return stand, bool(found)


def _save_again(experiment: Experiment, run: Path, stand: ResumePoint, changed: bool) -> None:
    """Leave no checkpoint that is later than where the run goes on, and none of other settings or chunks."""
    from xpnet.runs.saver import discard

    again = list(stand.starts) if changed else stand.split
    if again and stand.cuts is not None:
        saver = saver_of(experiment, run, lambda _: None, stand)
        saver.chunks(stand.cuts)
        save_in_chunks(experiment, saver, {chunk: stand.starts[chunk] for chunk in again})
    discard(run, stand.starts, earlier=changed)


def _remember(run: Path, backend: Backend, step: int, output: Output) -> None:
    """Add to what a run was made on, and say what is not as before."""
    from xpnet.runs.environment import describe_environment

    now = describe_environment(backend, command_line())
    if not (run / ENVIRONMENT).exists():  # killed before it had one
        write_environment(run, now)
        return
    try:
        first = read_environment(run / ENVIRONMENT)
        earlier = [first, *first.get("resumed", [])]
        differ = [name for name in _SAME if earlier[-1].get(name) != now[name]]
    except RunError as error:
        output.note(f"warning: {error}; it is written anew")
        first, earlier, differ = {}, [{}], []
    if differ:
        output.note(f"not as before: {', '.join(differ)} ({ENVIRONMENT} has both); the last bits may differ")
    write_environment(run, first | {"resumed": [*earlier[1:], {"step": step, **now}][-_MOST_RESUMED:]})
