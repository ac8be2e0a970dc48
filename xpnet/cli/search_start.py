"""Beginning a search, or taking part in one, as a command line asks for it."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from xpnet.backend import get_backend
from xpnet.cli import typed
from xpnet.cli.console import Output
from xpnet.cli.figures import kinds_of
from xpnet.cli.options import read_settings
from xpnet.config.settings import Settings
from xpnet.data import load_data
from xpnet.errors import ConfigError
from xpnet.runs.experiment import about_data, resolved
from xpnet.runs.folder import create_run_folder
from xpnet.tuning import Search, SearchConfig, Space, open_storage
from xpnet.tuning.folder import read_search, write_search
from xpnet.tuning.rounds import Rounds
from xpnet.tuning.search_identity import OWN
from xpnet.tuning.storage import JOURNAL, check_exists, without_password
from xpnet.tuning.winner import check_final
from xpnet.utils.extras import installed
from xpnet.utils.plural import counted


def command() -> str:
    """Return the command line of this call, without the password of its database."""
    return typed("xpnet", *map(without_password, sys.argv[1:]))


@dataclass
class SearchRequest:
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
        self.output.device(backend)
        data = load_data(space.data_settings(settings.data))
        self.output.note(about_data(data, settings))
        check_final(how, settings.data, data)
        rounds = Rounds(space, resolved(settings, data), how, data)
        rounds.check()
        slots = rounds.slots(0, space)
        storage = None if self.storage is None else open_storage(self.storage)
        folder = create_run_folder(self.out, prefix="search-")
        if storage is None:
            storage = open_storage(folder / JOURNAL, links=False)
        worker = Search.start(space, settings, how, data, backend, storage, self.study or folder.name)
        # Before other workers can come: each of those that begin together would plan all trials.
        worker.queue.plan(slots)
        write_search(folder, worker, self.storage, command())
        several = f"{how.rounds} rounds of " if how.rounds > 1 else ""
        self.output.note(f"search: {' '.join(space.texts())}, {several}{counted(len(slots), 'point')}; folder {folder}")
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
        self.output.device(backend)
        if "lease" in own:
            own["lease"] = SearchConfig(lease=own["lease"]).lease
        worker = Search.join(open_storage(storage, links=self.storage is not None), str(study), own, backend)
        if folder is None:
            folder = create_run_folder(self.out, prefix="search-")
            write_search(folder, worker, storage, command())
        self.output.note(f"search: {' '.join(worker.rounds.space.texts())}; folder {folder}")
        return worker, folder
