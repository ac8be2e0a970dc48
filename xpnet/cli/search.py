"""``xpnet search``."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeAlias

from cyclopts import Group, Parameter

from xpnet.cli import typed
from xpnet.cli.console import Interrupt, NotesOnly, Output, finish_on_interrupt, left_out_if_not_drawn, percent
from xpnet.cli.options import FLAG, OUTPUT, Debug, Json, Quiet, config_options, given, read_settings, settings_options
from xpnet.cli.train import train_anew
from xpnet.config.settings import Settings
from xpnet.errors import ConfigError, RunError
from xpnet.runs.experiment import about_data, resolved
from xpnet.runs.folder import create_run_folder
from xpnet.tuning.config import SearchConfig
from xpnet.utils.atomic_files import rewrite
from xpnet.utils.file_system import check_utf8
from xpnet.utils.plural import counted

_SEARCH, _SHARED = Group("Search", sort_key=0), Group("Workers", sort_key=4.5)

if TYPE_CHECKING:
    from xpnet.tuning.study import Search, SearchResult
    from xpnet.tuning.trials import Outcome

    TrainOptions: TypeAlias = Any
    HowOptions: TypeAlias = Any
else:
    TrainOptions = settings_options(
        help={
            "max_replicas": "Most networks trained at once. [default: what fits in memory, at most 20 on the CPU and "
            "200 on a GPU]",
            "save_every": "Epochs between checkpoints of the winner, if it is trained again (trials have none); 0: "
            "none. [default: 1]",
            "keep": "Last checkpoints of the winner that are kept, beside the best. [default: 2]",
        }
    )
    HowOptions = config_options(SearchConfig, _SEARCH)


def search(
    *space: Annotated[
        str,
        Parameter(
            help="What is searched: lambda, eta, lambda-eta, momentum, sigma, width, depth, batch_size, n_s, cycles, "
            "...; lambda=1e-5..1e-1 gives a range (log:LOW..HIGH or lin:LOW..HIGH, how it is drawn), lambda=1e-4,1e-3 "
            "a list."
        ),
    ],
    how: Annotated[HowOptions | None, Parameter(name="*")] = None,
    options: Annotated[TrainOptions | None, Parameter(name="*")] = None,
    coarse_to_fine: Annotated[
        bool,
        Parameter(group=_SEARCH, **FLAG, help="Two rounds, if --rounds does not say how many."),
    ] = False,
    storage: Annotated[
        str | None,
        Parameter(
            group=_SHARED,
            metavar="URL",
            help="A database that workers share, such as postgresql://... [default: a file in the folder]",
        ),
    ] = None,
    study: Annotated[
        str | None,
        Parameter(
            group=_SHARED,
            metavar="NAME",
            help="The search's name there; without SPACE, the one to help with. [default: the folder's name]",
        ),
    ] = None,
    resume: Annotated[
        Path | None,
        Parameter(
            group=_SHARED,
            metavar="FOLDER",
            help="Go on with the search in this folder, or help with it while others are at work.",
        ),
    ] = None,
    config: Annotated[
        Path | None,
        Parameter(group=OUTPUT, help="Settings from a TOML file or a run folder; options on the line go first."),
    ] = None,
    out: Annotated[
        Path | None, Parameter(group=OUTPUT, help="New folder of the search. [default: runs/search-TIME]")
    ] = None,
    json: Json = False,
    quiet: Quiet = False,
    debug: Debug = False,  # noqa: ARG001 - looked for before parsing, since parsing can fail too
) -> None:
    """Search settings: train many networks at once, choose by validation accuracy, and test the winner.

    Trials that differ in lambda, learning rates, momentum or initial weights train as one population. Any number of
    workers, on any machines, share a search; one that is killed loses nothing: --resume goes on.
    """
    from xpnet.tuning.storage import absolute, close_storage, database_errors

    # What the files of the search could not hold is refused before anything is made.
    check_utf8(resume or "", "resume")
    check_utf8(study or "", "study")
    if storage is not None:
        absolute(storage)
    output = Output(as_json=json, quiet=quiet)
    on_line = {} if options is None else given(options)
    asked = {} if how is None else given(how)
    if coarse_to_fine:
        asked.setdefault("rounds", 2)
    with database_errors():
        if resume is not None or (not space and study is not None):
            if space:
                raise ConfigError(f"search {' '.join(space)}: --resume goes on with what was searched; leave it out")
            session, folder = _joined(resume, storage, study, {**on_line, **asked}, config, out, output)
        else:
            session, folder = _started(space, asked, options, on_line, config, storage, study, out, output)
        stopping = "stopping after this step; press Ctrl-C again to leave at once"
        try:
            with finish_on_interrupt(output, stopping) as interrupt:
                result = _run(session, folder, output, interrupt)
        finally:
            close_storage(session.queue.storage)
    if result.interrupted:
        output.note(f"xpnet search --resume {folder} goes on")
        sys.exit(interrupt.exit_code)


def _command() -> str:
    from xpnet.tuning.storage import without_password

    return typed("xpnet", *map(without_password, sys.argv[1:]))


def _started(
    space: tuple[str, ...],
    asked: dict[str, Any],
    options: Any,
    on_line: dict[str, Any],
    config: Path | None,
    storage: str | None,
    study: str | None,
    out: Path | None,
    output: Output,
) -> tuple[Search, Path]:
    """Begin a search in a new folder."""
    from xpnet.backend import get_backend
    from xpnet.data import load_data
    from xpnet.tuning import Search, Space, open_storage
    from xpnet.tuning.folder import write_search
    from xpnet.tuning.rounds import Rounds
    from xpnet.tuning.storage import JOURNAL
    from xpnet.tuning.study import check, check_final

    # Everything that can be wrong is found before the folder is made.
    where = Space.of(space)
    where.refuse(on_line)
    settings = read_settings(options, config)
    how = SearchConfig(**asked)
    backend = get_backend(settings.run.device, tf32=settings.run.tf32)
    output.note(f"device: {backend.device} ({backend.reason})")
    data = load_data(settings.data)
    output.note(about_data(data, settings))
    check_final(how, settings.data, data)
    rounds = Rounds(where, resolved(settings, data), how)
    check(rounds, data)
    points = len(rounds.slots(0, where))
    there = open_storage(storage) if storage is not None else None
    folder = create_run_folder(out, prefix="search-")
    if there is None:
        there = open_storage(folder / JOURNAL, links=False)
    session = Search.start(where, settings, how, data, backend, there, study or folder.name)
    write_search(folder, session, storage, _command())
    several = f"{how.rounds} rounds of " if how.rounds > 1 else ""
    output.note(f"search: {' '.join(where.texts())}, {several}{counted(points, 'point')}; folder {folder}")
    return session, folder


def _joined(
    folder: Path | None,
    storage: str | None,
    study: str | None,
    own: dict[str, Any],
    config: Path | None,
    out: Path | None,
    output: Output,
) -> tuple[Search, Path]:
    """Take part in a search that is there."""
    from xpnet.backend import get_backend
    from xpnet.tuning import Search, open_storage
    from xpnet.tuning.folder import read_search, write_search
    from xpnet.tuning.identity import OWN
    from xpnet.tuning.storage import check_there

    allowed = (*OWN, "lease")
    for name in own:
        if name not in allowed:
            raise ConfigError(
                f"{name} = {own[name]}: cannot be changed in a search that is there already; "
                f"only {', '.join(allowed)} are a worker's own"
            )
    if config is not None:
        raise ConfigError(f"config = {config}: the search has its settings already; leave it out")
    if folder is not None:
        if out is not None:
            raise ConfigError(f"out = {out}: the search's folder is {folder} already; leave it out")
        kept, known, about = read_search(folder)
        there, study = storage or kept, study or known
        check_there(there)
        stated = about.get("settings", {})
    elif storage is None:
        raise ConfigError(f"study = {study}: needs the storage it is in; name it with --storage, or use --resume RUN")
    else:
        there, stated = storage, {}
    own_settings = Settings.from_mapping({name: value for name, value in own.items() if name in OWN})
    device = own.get("device", stated.get("device", "auto"))
    backend = get_backend(device, tf32=own_settings.run.tf32 or bool(stated.get("tf32", False)))
    output.note(f"device: {backend.device} ({backend.reason})")
    lease = {"lease": SearchConfig(lease=own["lease"]).lease} if "lease" in own else {}
    session = Search.join(
        open_storage(there, links=storage is not None), str(study), {**own, **lease, "device": device}, backend
    )
    if folder is None:
        folder = create_run_folder(out, prefix="search-")
        write_search(folder, session, storage, _command())
    output.note(f"search: {' '.join(session.rounds.space.texts())}; folder {folder}")
    return session, folder


def _run(session: Search, folder: Path, output: Output, interrupt: Interrupt) -> SearchResult:
    """Work on the search, fill the folder, print the result."""
    from xpnet.cli.progress import StopOnInterrupt
    from xpnet.cli.search_display import SearchDisplay
    from xpnet.runs.environment import describe_environment
    from xpnet.tuning.folder import OutcomeFiles, result_json
    from xpnet.tuning.kept_networks import BEST_RUN, InFolder, free_winner

    environment = describe_environment(session.backend, _command())
    files = OutcomeFiles(folder, session, environment)
    keeper = InFolder(folder, session.data, lambda settings: resolved(settings, session.data), environment, output.note)

    trained: list[Path] = []

    def train(settings: Settings) -> dict[str, Any] | None:
        from xpnet.runs.folder import METRICS
        from xpnet.runs.records import read_metrics

        where = free_winner(folder)
        display.stop()
        files.write_last()
        output.note(f"the winner is trained again, on {settings.data.split}: {where}")
        if train_anew(settings, where, NotesOnly(as_json=False, quiet=output.quiet)):
            return None
        trained.append(where)
        return read_metrics(where / METRICS) | {"winner": where.name}

    with SearchDisplay(session.rounds, output) as display:

        def on_change(outcome: Outcome) -> None:
            display.show(outcome)
            files.show(outcome)

        result = session.run(
            on_change=on_change,
            callbacks=[display, StopOnInterrupt(interrupt)],
            train=train,
            keeper=keeper,
            tell=output.note,
        )
        known = result_json(session, result.outcome, environment, result)
        name = (result.final or {}).get("winner")
        known["winner"] = name if name is not None and (folder / name).is_dir() else None
        if result.best is not None and not isinstance(keeper.get(result.best, session.backend), str):
            known["best_run"] = BEST_RUN
        known["run"] = str(folder)
        files.write(result.outcome, known)
    if result.best is None and not result.interrupted:
        raise RunError(f"{folder}: no trial came to an accuracy; trials.csv there says how they stand")
    if any(trial.score is not None for trial in result.trials):
        from xpnet.report.figure import write_panel
        from xpnet.report.search_chart import search_panels
        from xpnet.report.search_file import winner_in

        with left_out_if_not_drawn(output):
            for panel in search_panels(known):
                write_panel(panel, folder, rewrite)
            best = None if known["best_run"] is None else folder / known["best_run"]
            for run in (best, winner_in(folder, known)):
                if run is not None and not (run / "curves.png").exists():
                    _draw_curves(run)
    output.result(known, *_tables(result, known, folder))
    own = (result.final or {}).get("warnings", ())
    told = own if trained else ()  # by the training itself
    sentences = dict.fromkeys((*result.warnings, *own))
    output.notes(*(f"warning: {sentence}" for sentence in sentences if sentence not in told))
    return result


def _draw_curves(run: Path) -> None:
    """Draw the curves of a run that came out of the search's population, as those of other runs are."""
    from xpnet.report.curves_chart import curves, save_figure
    from xpnet.report.records import read_run
    from xpnet.runs.folder import HISTORY
    from xpnet.runs.records import read_history
    from xpnet.training.history import History, columns_of

    record = read_run(run)
    found = read_history(run / HISTORY, len(record.replicas))
    if len(found["epoch"]):
        save_figure(curves(History(record.initial_eta, columns_of(found)), record.title), run / "curves", rewrite)


def _tables(result: SearchResult, known: dict[str, Any], folder: Path) -> list[Any]:
    from xpnet.cli.search_display import point_text, trials_table
    from xpnet.tuning.folder import BEST

    counts = result.outcome.counts()
    words = ", ".join(f"{count} {state}" for state, count in counts.items() if count)
    lines: list[Any] = [trials_table(result.outcome, 10), f"{words}; {result.seconds:.1f} s"]
    if result.best is not None:
        word = "no better than guessing, the highest" if result.outcome.none_better else "best"
        kept = f", its networks as the search trained them: {folder / known['best_run']}" if known["best_run"] else ""
        lines.append(f"{word}: {point_text(result.best)}; its settings: {folder / BEST}{kept}")
    if result.final is not None:
        split, again = (result.settings or {}).get("split"), " again" if known["trained_again"] else ""
        accuracy = percent(result.final["test"]["accuracy"])
        lines.append(f"test accuracy of the winner, trained{again} on {split}: {accuracy}")
    lines.append(f"folder: {folder}")
    return lines
