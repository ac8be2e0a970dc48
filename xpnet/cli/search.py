"""``xpnet search``."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeAlias

from cyclopts import Group, Parameter

from xpnet.backend import get_backend
from xpnet.cli import typed
from xpnet.cli.console import Interrupt, NotesOnly, Output, finish_on_interrupt, percent
from xpnet.cli.figures import kinds_of
from xpnet.cli.options import FLAG, OUTPUT, Debug, Json, Quiet, config_options, given, read_settings, settings_options
from xpnet.cli.progress import StopOnInterrupt
from xpnet.cli.search_display import SearchDisplay, concluded, counts_text, point_text, trials_table
from xpnet.cli.search_figures import draw_search
from xpnet.cli.train import train_anew
from xpnet.config.settings import Settings
from xpnet.data import load_data
from xpnet.errors import ConfigError, RunError
from xpnet.runs.experiment import about_data, resolved
from xpnet.runs.folder import METRICS, create_run_folder
from xpnet.runs.records import read_metrics
from xpnet.tuning import Outcome, Search, SearchConfig, SearchResult, Space, open_storage
from xpnet.tuning.folder import BEST, OutcomeFiles, read_search, result_json, write_search
from xpnet.tuning.kept_networks import BEST_RUN, FolderStore, free_winner
from xpnet.tuning.rounds import Rounds
from xpnet.tuning.search_identity import OWN
from xpnet.tuning.storage import JOURNAL, absolute, check_exists, close_storage, database_errors, without_password
from xpnet.tuning.winner import check_final
from xpnet.utils.extras import installed, need
from xpnet.utils.file_system import check_utf8
from xpnet.utils.plural import counted

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
            "save_every": "Epochs between checkpoints of the winner, if it is trained again; 0: none. [default: 1]",
            "keep": "Last checkpoints of the winner that are kept, beside the best. [default: 2]",
        },
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

    Trials that differ in lambda, learning rates, numbers of the optimiser, label smoothing, dropout or initial weights
    train as one population.
    Any number of workers, on any machines, share a search; one that is killed loses nothing: --resume goes on.
    """
    # Refuse text that the search's files cannot hold, before anything is created.
    check_utf8(resume or "", "resume")
    check_utf8(study or "", "study")
    if storage is not None:
        absolute(storage)
    output = Output(as_json=json, quiet=quiet)
    own, searched = ({} if group is None else given(group) for group in (options, how))
    if coarse_to_fine:
        searched.setdefault("rounds", 2)
    asked = _Asked(options, own, searched, config, storage, study, out, output)
    need("search", "xpnet search")
    with database_errors():
        if resume is not None or (not space and study is not None):
            if space:
                raise ConfigError(f"search {' '.join(space)}: --resume goes on with what was searched; leave it out")
            worker, folder = asked.join(resume)
        else:
            worker, folder = asked.start(space)
        try:
            with finish_on_interrupt(output, _STOPPING) as interrupt:
                result = _run(worker, folder, output, interrupt, asked.kinds)
        finally:
            close_storage(worker.queue.storage)
    if result.interrupted:
        output.note(f"xpnet search --resume {folder} goes on")
        sys.exit(interrupt.exit_code)


def _command() -> str:
    return typed("xpnet", *map(without_password, sys.argv[1:]))


@dataclass
class _Asked:
    """The command line: options of :func:`search`, and the given settings of the training and of the search."""

    options: Any
    own: dict[str, Any]
    searched: dict[str, Any]
    config: Path | None
    storage: str | None
    study: str | None
    out: Path | None
    output: Output
    kinds: tuple[str, ...] = ()

    def start(self, names: tuple[str, ...]) -> tuple[Search, Path]:
        """Begin a search in a new folder."""
        # Everything that can be wrong is found before the folder is made.
        space = Space.of(names)
        space.refuse(self.own)
        settings = read_settings(self.options, self.config, check=space.checked)
        self.kinds = kinds_of(settings.run.figures, self.output)
        how = SearchConfig(**self.searched)
        backend = get_backend(settings.run.device, tf32=settings.run.tf32)
        self.output.note(f"device: {backend.device} ({backend.reason})")
        data = load_data(space.data_settings(settings.data))
        self.output.note(about_data(data, settings))
        check_final(how, settings.data, data)
        rounds = Rounds(space, resolved(settings, data), how, data)
        rounds.check()
        points = counted(len(rounds.slots(0, space)), "point")
        storage = None if self.storage is None else open_storage(self.storage)
        folder = create_run_folder(self.out, prefix="search-")
        if storage is None:
            storage = open_storage(folder / JOURNAL, links=False)
        worker = Search.start(space, settings, how, data, backend, storage, self.study or folder.name)
        write_search(folder, worker, self.storage, _command())
        several = f"{how.rounds} rounds of " if how.rounds > 1 else ""
        self.output.note(f"search: {' '.join(space.texts())}, {several}{points}; folder {folder}")
        return worker, folder

    def join(self, folder: Path | None) -> tuple[Search, Path]:
        """Take part in an existing search."""
        own, allowed = self.own | self.searched, (*OWN, "lease")
        for name in own:
            if name not in allowed:
                raise ConfigError(
                    f"{name} = {own[name]}: cannot be changed in a search that is there already; "
                    f"only {', '.join(allowed)} are a worker's own"
                )
        if self.config is not None:
            raise ConfigError(f"config = {self.config}: the search has its settings already; leave it out")
        storage, study, stated = self.storage, self.study, {}
        if folder is not None:
            if self.out is not None:
                raise ConfigError(f"out = {self.out}: the search's folder is {folder} already; leave it out")
            kept, known, description = read_search(folder)
            storage, study, stated = storage or kept, study or known, description.get("settings", {})
            check_exists(storage)
        elif storage is None:
            raise ConfigError(
                f"study = {study}: needs the storage it is in; name it with --storage, or use --resume RUN"
            )
        run = Settings.from_mapping({name: value for name, value in own.items() if name in OWN}).run
        stated_figures = str(stated.get("figures", "auto")) if installed("figures") else "auto"
        self.kinds = kinds_of(own.get("figures", stated_figures), self.output)
        own["device"] = own.get("device", stated.get("device", "auto"))
        backend = get_backend(own["device"], tf32=run.tf32 or bool(stated.get("tf32", False)))
        self.output.note(f"device: {backend.device} ({backend.reason})")
        if "lease" in own:
            own["lease"] = SearchConfig(lease=own["lease"]).lease
        worker = Search.join(open_storage(storage, links=self.storage is not None), str(study), own, backend)
        if folder is None:
            folder = create_run_folder(self.out, prefix="search-")
            write_search(folder, worker, storage, _command())
        self.output.note(f"search: {' '.join(worker.rounds.space.texts())}; folder {folder}")
        return worker, folder


def _run(worker: Search, folder: Path, output: Output, interrupt: Interrupt, kinds: tuple[str, ...]) -> SearchResult:
    """Work on the search, fill the folder, print the result."""
    from xpnet.runs.environment import describe_environment

    environment = describe_environment(worker.backend, _command())
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
    of_winner = (result.final or {}).get("warnings", ())
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
