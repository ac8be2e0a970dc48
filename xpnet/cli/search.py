"""``xpnet search``."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeAlias

from cyclopts import Group, Parameter

from xpnet.cli.completion import search_folders, searchable
from xpnet.cli.console import Interrupt, NotesOnly, Output, finish_on_interrupt, percent
from xpnet.cli.live_page import folder_page
from xpnet.cli.options import (
    FLAG,
    OUTPUT,
    Config,
    Debug,
    Json,
    Quiet,
    Verbose,
    config_options,
    given,
    number,
    settings_options,
)
from xpnet.cli.progress import StopOnInterrupt
from xpnet.cli.search_display import SearchDisplay, concluded, counts_text, point_text, trials_table
from xpnet.cli.search_figures import draw_search
from xpnet.cli.search_start import SearchRequest, command
from xpnet.cli.search_workers import WorkersTogether
from xpnet.cli.train import train_anew
from xpnet.cli.variables import OF_A_RUN
from xpnet.config.settings import Settings
from xpnet.errors import ConfigError, RunError
from xpnet.runs.experiment import resolved
from xpnet.runs.folder import METRICS
from xpnet.runs.records import read_metrics
from xpnet.tuning import Outcome, Search, SearchConfig, SearchResult
from xpnet.tuning.folder import BEST, OutcomeFiles, result_json
from xpnet.tuning.kept_networks import BEST_RUN, FolderStore, free_winner
from xpnet.tuning.search_conclusion import with_budget
from xpnet.tuning.search_identity import OWN
from xpnet.tuning.storage import absolute, close_storage, database_errors
from xpnet.utils.extras import need
from xpnet.utils.file_system import check_utf8

_SEARCH, _SHARED = Group("Search", sort_key=0), Group("Workers", sort_key=4.5)
_STOPPING = "stopping after this step; press Ctrl-C again to leave at once"

if TYPE_CHECKING:
    TrainOptions: TypeAlias = Any
    HowOptions: TypeAlias = Any
else:
    TrainOptions = settings_options(
        *(name for name in Settings.fields() if name != "log"),
        help={
            "max_replicas": "Most networks trained at once. [default: what fits in memory, at most 20 on the CPU and "
            "200 on a GPU]",
            "device": "Where to compute; several, such as gpu:0,gpu:1: with a worker on each. [default: auto]",
            "save_every": "Epochs between checkpoints of the winner, if it is trained again; 0: none. [default: 1]",
            "keep": "Last checkpoints of the winner that are kept, beside the best. [default: 2]",
        },
    )
    HowOptions = config_options(SearchConfig, _SEARCH)


def search(
    *space: Annotated[
        str,
        Parameter(
            completer=searchable,
            help="What is searched: lambda, eta, lambda-eta, momentum, sigma, width, depth, batch_size, n_s, cycles, "
            "...; lambda=1e-5..1e-1 gives a range (log:LOW..HIGH or lin:LOW..HIGH, how it is drawn), lambda=1e-4,1e-3 "
            "a list.",
        ),
    ],
    how: Annotated[HowOptions | None, Parameter(name="*")] = None,
    options: Annotated[TrainOptions | None, Parameter(name="*")] = None,
    coarse_to_fine: Annotated[
        bool, Parameter(group=_SEARCH, **FLAG, help="Two rounds, if --rounds does not say how many.")
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
            completer=search_folders,
            help="Go on with the search in this folder, or help with it while others are at work.",
        ),
    ] = None,
    workers: Annotated[
        int | None,
        number(_SHARED, "N", "Workers that begin together. [default: one for each device]"),
    ] = None,
    launcher: Annotated[
        Literal["local", "slurm"],
        Parameter(group=_SHARED, metavar="local|slurm", help="Workers as processes here, or as jobs of a cluster."),
    ] = "local",
    slurm: Annotated[
        str | None,
        Parameter(
            group=_SHARED,
            metavar="NAME=VALUE,...",
            help="Options of the jobs, such as partition=gpu,time=60,gpus_per_node=1. [default: time=60]",
        ),
    ] = None,
    watch: Annotated[
        bool,
        Parameter(group=OUTPUT, **FLAG, help="Draw the search as it runs, on a page that only this machine sees."),
    ] = False,
    config: Config = None,
    out: Annotated[
        Path | None, Parameter(group=OUTPUT, help="New folder of the search. [default: runs/search-TIME]")
    ] = None,
    json: Json = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
    debug: Debug = False,  # noqa: ARG001 - looked for before parsing, since parsing can fail too
) -> None:
    """Search settings: train many networks at once, choose by validation accuracy, and test the winner.

    Trials that differ in lambda, learning rates, numbers of the optimiser, label smoothing, dropout or initial weights
    train as one population.
    Any number of workers, on any machines, share a search; one that is killed loses nothing: --resume goes on.
    """
    # Refuse text that the search's files cannot hold, before anything is created.
    check_utf8(resume or "", "resume")
    check_utf8(study or "", "study")
    if storage is not None:
        absolute(storage)
    output = Output(as_json=json, quiet=quiet, verbose=verbose)
    joins = resume is not None or (not space and study is not None)
    # Of a search that exists, variables replace a worker's own settings alone.
    own, searched = given(options, set(OF_A_RUN) & set(OWN) if joins else None), given(how)
    if coarse_to_fine:
        searched.setdefault("rounds", 2)
    need("search", "xpnet search")
    if joins and space:
        raise ConfigError(f"search {' '.join(space)}: --resume goes on with what was searched; leave it out")
    request = SearchRequest(options, own, searched, config, storage, study, out, output)
    together = WorkersTogether(request, workers, launcher, slurm)
    if watch and launcher == "slurm":
        raise ConfigError("watch = true: jobs of a cluster have no page here; xpnet report FOLDER --watch has one")
    if together.wanted:
        if exit_code := together.run(space, resume):
            sys.exit(exit_code)
        return
    with database_errors():
        worker, folder = request.join(resume) if joins else request.start(space)
        try:
            with finish_on_interrupt(output, _STOPPING) as interrupt, folder_page(folder, output, watch=watch):
                result = _run(worker, folder, output, interrupt, request.kinds)
        finally:
            close_storage(worker.queue.storage)
    if result.interrupted:
        output.note(f"xpnet search --resume {folder} goes on")
        sys.exit(interrupt.exit_code)


def _run(worker: Search, folder: Path, output: Output, interrupt: Interrupt, kinds: tuple[str, ...]) -> SearchResult:
    """Work on the search, fill the folder, print the result."""
    from xpnet.runs.environment import describe_environment

    environment = describe_environment(worker.backend, command())
    files = OutcomeFiles(folder, worker, environment)
    store = FolderStore(folder, worker.data, lambda settings: resolved(settings, worker.data), environment, output.note)
    trained_again = False

    def train(settings: Settings) -> dict[str, Any] | None:
        nonlocal trained_again
        run = free_winner(folder)
        display.stop()
        files.write_last()
        output.note(f"the winner is trained again, on {settings.data.split}: {run}")
        if train_anew(settings, run, NotesOnly(as_json=False, quiet=output.quiet), kinds=kinds):
            return None
        trained_again = True
        return read_metrics(run / METRICS) | {"winner": run.name}

    with SearchDisplay(worker.rounds, output) as display:

        def on_change(outcome: Outcome) -> None:
            display.show(outcome)
            files.show(outcome)

        result = worker.run(
            on_change=on_change,
            callbacks=[display, StopOnInterrupt(interrupt)],
            train=train,
            store=store,
            warn=output.note,
        )
        found = result_json(worker, result.outcome, environment, result)
        name = (result.final or {}).get("winner")
        found["winner"] = name if name is not None and (folder / name).is_dir() else None
        if result.best is not None and not isinstance(store.get(result.best, worker.backend), str):
            found["best_run"] = BEST_RUN
        found["run"] = str(folder)
        files.write(result.outcome, found)
    if result.best is None and not result.interrupted:
        raise RunError(f"{folder}: no trial came to an accuracy; trials.csv there says how they stand")
    if kinds and any(trial.score is not None for trial in result.trials):
        draw_search(found, folder, output, kinds)
    output.result(found, *_tables(result, found, folder))
    of_winner = with_budget((result.final or {}).get("warnings", ()), worker.rounds.config.budget)
    printed = of_winner if trained_again else ()  # by the training itself
    output.notes(*(f"warning: {w}" for w in dict.fromkeys((*result.warnings, *of_winner)) if w not in printed))
    return result


def _tables(result: SearchResult, found: dict[str, Any], folder: Path) -> list[Any]:
    """Return the table and the sentences that are printed at the end."""
    lines: list[Any] = [trials_table(result.outcome, 10), f"{counts_text(result.outcome)}; {result.seconds:.1f} s"]
    if result.best is not None:
        word = "no better than guessing, the highest" if result.outcome.none_better else "best"
        kept = f", its networks as the search trained them: {folder / found['best_run']}" if found["best_run"] else ""
        lines.append(f"{word}: {point_text(result.best)}; its settings: {folder / BEST}{kept}")
    if result.final is not None:
        split, again = (result.settings or {}).get("split"), " again" if found["trained_again"] else ""
        accuracy = percent(result.final["test"]["accuracy"])
        lines.append(f"test accuracy of the winner, trained{again} on {split}: {accuracy}")
    return [*lines, f"folder: {folder}", *concluded(found)]
