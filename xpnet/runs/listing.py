"""The runs in a folder at a glance: when, on what, with which settings, how far, and how good.

Only small files are read, and of ``history.csv`` only its end, so hundreds of runs take a second or two.
"""

from __future__ import annotations

import dataclasses
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from xpnet.config.arguments import path as a_path
from xpnet.config.arguments import takes
from xpnet.config.settings import CONFIG, VARYING, read_config
from xpnet.errors import RunError, XpnetError
from xpnet.runs.folder import CHECKPOINTS, ENVIRONMENT, HISTORY, LOCK, METRICS
from xpnet.runs.records import read_environment, read_metrics
from xpnet.training.history import COLUMNS, FIGURES
from xpnet.utils.file_system import open_regular
from xpnet.utils.locks import try_lock

# Folders below the named one that are searched for runs; a run's own folders are not.
_DEPTH = 3
# Most runs that are listed.
MOST_RUNS = 10_000
# Bytes of a row of history.csv, more than any has.
_ROW = 400
# Names of files and folders that CIFAR is published in, and its built-in names.
_CIFAR = re.compile(r"cifar-?(100?)(-batches-py|-batches-bin|-python|-binary)?(\.tar|\.tar\.gz|\.bin)?")
_SETS = ("train", "validation", "test")
# Columns that a table has anyway, and settings that say nothing about the outcome.
_ELSEWHERE = ("data", "split", "hidden", "batch_norm", "device", "in_memory", "keep", "save_every", "max_replicas")


@dataclass(frozen=True)
class RunEntry:
    """A run in a list.

    Attributes:
        path: Its folder.
        name: Its folder, relative to the listed one.
        when: When it was begun, as ``environment.json`` says; empty if that is missing.
        state: ``"finished"``, ``"stopped"``, ``"training"``, ``"unfinished"`` (nobody trains it), or ``"damaged"``.
        epochs: Epochs trained.
        of: Epochs that its settings ask for; None if the number depends on the data.
        settings: Its settings, as ``config.toml`` has them.
        networks: Number of its networks.
        figures: ``"test"``, ``"validation"`` and ``"train"`` accuracy, ``"test_loss"``, ... of the combination of
            settings with the best validation accuracy, means over its seeds; missing where unknown.
        members: The networks that `figures` are of; None if unknown.
        best: Their values of the settings that vary; empty if none does.
        samples: Number of samples, by set; empty if unknown.
        seconds: Seconds of training; None if unknown.
        conclusion: What it says, as ``metrics.json`` has it; None if nothing.
        note: Why it is damaged; else empty.
    """

    path: Path
    name: str
    when: str = ""
    state: str = "unfinished"
    epochs: int = 0
    of: int | None = None
    settings: Mapping[str, Any] = field(default_factory=dict)
    networks: int = 1
    figures: Mapping[str, float] = field(default_factory=dict)
    members: tuple[int, ...] | None = None
    best: Mapping[str, Any] = field(default_factory=dict)
    samples: Mapping[str, int] = field(default_factory=dict)
    seconds: float | None = None
    conclusion: Mapping[str, Any] | None = None
    note: str = ""

    @property
    def data(self) -> str:
        """The data set and its split."""
        name = self.data_set or "-"
        return f"{name} {self.settings['split']}" if self.settings.get("split") else name

    @property
    def data_set(self) -> str:
        """The data set, without its split; empty if unknown."""
        return data_set(str(self.settings.get("data", "")))

    @property
    def network(self) -> str:
        """The hidden layers, and whether they are normalised."""
        hidden = self.settings.get("hidden", ())
        sizes = "-".join(map(str, hidden)) if isinstance(hidden, list) else str(hidden)
        return (sizes or "linear") + (" BN" if sizes and self.settings.get("batch_norm", True) else "")

    @property
    def progress(self) -> str:
        """How far it is, in words."""
        if self.state in ("finished", "damaged"):
            return self.state
        of = "" if self.of is None else f" of {self.of}"
        return f"{self.state}, epoch {self.epochs}{of}"

    def value(self, name: str) -> Any:
        """Return a figure, a setting or another value by its name; None if the run has none."""
        if name in self.figures:
            return self.figures[name]
        if name == "rule":
            return (self.conclusion or {}).get("rule")
        if name in VALUES:
            return getattr(self, name)
        return self.settings.get(name)

    def to_json(self) -> dict[str, Any]:
        """Return the form of ``xpnet runs --json``."""
        return dataclasses.asdict(self) | {"path": str(self.path)}


def data_set(data: str) -> str:
    """Return a short name of a data set by its setting: ``CIFAR-10``, or the last part of its path."""
    name = data if data.startswith("patterns") else Path(data).name
    cifar = _CIFAR.fullmatch(name)
    return f"CIFAR-{cifar[1]}" if cifar else name


# Values of a run by name that are neither settings nor figures, except "rule", that of its conclusion.
VALUES = ("name", "when", "data", "network", "state", "epochs", "networks", "seconds")
OF_FIGURES = ("test", "validation", "train", *(f"{which}_{name}" for which in _SETS for name in ("loss", "cost")))


@takes(folder=a_path)
def list_runs(folder: str | os.PathLike[str] = "runs") -> list[RunEntry]:
    """Return the runs in a folder and up to three folders below it, the oldest first.

    A damaged run is listed as such.

    Args:
        folder: A folder of runs, or of a single one.

    Returns:
        An entry for each run, with ``settings``, ``figures``, ``state``, ...

    Raises:
        ConfigError: `folder` is no path.
        RunError: There is no such folder, or it has too many runs.
    """
    top = Path(folder)
    if not top.is_dir():
        raise RunError(f"{top}: there is no such folder; name one that holds run folders")
    entries: list[RunEntry] = []
    for path in _run_folders(top, _DEPTH):
        if len(entries) == MOST_RUNS:
            raise RunError(f"{top}: has more than {MOST_RUNS:,} runs, the most that are listed; name a folder in it")
        entries.append(read_entry(path, top))
    return sorted(entries, key=lambda entry: (entry.when, entry.name))


def holds_runs(folder: Path) -> bool:
    """Return whether there is a run in a folder, or up to three folders below it."""
    return next(_run_folders(folder, _DEPTH), None) is not None


def read_entry(path: Path, top: Path) -> RunEntry:
    """Return the run in the folder `path`, named relative to the folder `top`."""
    name = path.name if path == top else path.relative_to(top).as_posix()
    try:
        return _entry(path, name)
    except (XpnetError, OSError) as error:
        return RunEntry(path, name, state="damaged", note=str(error))


def differing(entries: Sequence[RunEntry]) -> list[str]:
    """Return the settings that have several values, the usual ones first, without those that have a column anyway."""
    known = [entry.settings for entry in entries if entry.state != "damaged"]
    names = dict.fromkeys(name for settings in known for name in settings if name not in _ELSEWHERE)
    # A setting that has one value or no effect, such as the rate of another schedule, follows from others.
    values = {name: {repr(settings[name]) for settings in known if name in settings} for name in names}
    first = [name for name in ("lambda", "eta_max", "eta", *VARYING) if name in names]
    return [name for name in dict.fromkeys([*first, *names]) if len(values[name]) > 1]


def _run_folders(folder: Path, depth: int) -> Iterator[Path]:
    """Yield the run folders in `folder`, by name; links are not followed."""
    if (folder / CONFIG).is_file():
        if not (folder / "lr_range.csv").exists():
            yield folder
        return
    if depth:
        with os.scandir(folder) as inside:
            names = sorted(one.name for one in inside if one.is_dir(follow_symlinks=False))
        for name in names:
            if not name.startswith(".") and name not in (CHECKPOINTS, "kept"):
                yield from _run_folders(folder / name, depth - 1)


def _entry(path: Path, name: str) -> RunEntry:
    settings = read_config(path)
    environment = read_environment(path / ENVIRONMENT) if (path / ENVIRONMENT).is_file() else {}
    entry = RunEntry(path, name, str(environment.get("date") or "")[:19], settings=settings, of=_length(settings))
    if (path / METRICS).is_file():
        metrics = read_metrics(path / METRICS)
        values = metrics["validation"]["accuracy"]
        figures, members, best = _figures(metrics)
        samples = metrics.get("samples")
        entry = dataclasses.replace(
            entry,
            state="stopped" if metrics["interrupted"] else "finished",
            epochs=metrics["epochs"],
            networks=len(values["values"]) if isinstance(values, dict) else 1,
            figures=figures,
            members=members,
            best=best,
            samples=samples if isinstance(samples, dict) else {},
            seconds=(metrics.get("seconds") or {}).get("training"),
            conclusion=metrics.get("conclusion"),
        )
    else:
        entry = _unfinished(entry)
    if entry.state != "finished" and _is_locked(path):
        entry = dataclasses.replace(entry, state="training")
    return entry


def _figures(metrics: Mapping[str, Any]) -> tuple[dict[str, float], tuple[int, ...], dict[str, Any]]:
    """Return the figures of the best combination of settings, as means over its seeds, its networks and settings."""
    rows = metrics.get("replicas") or [metrics]
    groups: dict[str, tuple[list[int], dict[str, Any]]] = {}
    for r, one in enumerate(rows):
        own = {key: value for key, value in one.items() if key not in ("seed", "cv", "test_views", *_SETS)}
        own = own if metrics.get("replicas") else {}
        groups.setdefault(repr(own), ([], own))[0].append(r)
    best: dict[str, float] = {}
    networks, settings = groups[next(iter(groups))]
    for numbers_of, own in groups.values():
        members, found = [rows[r] for r in numbers_of], {}
        for which in _SETS:
            for figure in FIGURES:
                values = [(one.get(which) or {}).get(figure) for one in members]
                numbers = [value for value in values if isinstance(value, (int, float))]
                if numbers and len(numbers) == len(values):
                    found[which if figure == "accuracy" else f"{which}_{figure}"] = float(np.mean(numbers))
        if not best or found.get("validation", -1.0) > best.get("validation", -1.0):
            best, networks, settings = found, numbers_of, own
    return best, tuple(networks), settings


def _unfinished(entry: RunEntry) -> RunEntry:
    """Return a run that has no final figures, with those of its last epoch."""
    path = entry.path / HISTORY
    networks = _count(entry.settings)
    if not path.is_file():
        return dataclasses.replace(entry, networks=networks)
    with open_regular(path, "rb") as file:
        size = file.seek(0, os.SEEK_END)
        file.seek(max(0, size - _ROW * (networks + 2)))
        lines = file.read().split(b"\n")[1:-1]  # the first may be cut off, and is the head of a short file
    rows = [line.decode(errors="replace").split(",") for line in lines[-networks:]]
    try:
        last = [dict(zip(COLUMNS, map(float, row), strict=True)) for row in rows]
    except ValueError:
        raise RunError(f"{path}: its last rows are damaged; take another copy of it") from None
    if not last:
        return dataclasses.replace(entry, networks=networks)
    best = max(last, key=lambda row: row["validation_accuracy"])
    figures = {which: best[f"{which}_accuracy"] for which in ("train", "validation")}
    figures = {which: value for which, value in figures.items() if np.isfinite(value)}
    return dataclasses.replace(entry, epochs=int(last[-1]["epoch"]), networks=networks, figures=figures)


def _count(settings: Mapping[str, Any]) -> int:
    """Return the number of networks of settings: the product of their lists, and of the runs."""
    lists = [len(value) for name, value in settings.items() if name in VARYING and isinstance(value, list)]
    runs = settings.get("runs", 1)
    return int(np.prod([1, *lists])) * (runs if isinstance(runs, int) else 1)


def _length(settings: Mapping[str, Any]) -> int | None:
    """Return the epochs that settings ask for, if this does not depend on the data."""
    epochs, n_s = settings.get("epochs"), settings.get("n_s")
    if isinstance(epochs, (int, float)):
        return int(-(-epochs // 1))
    if isinstance(n_s, str) and n_s.endswith("ep") and n_s[:-2].isdecimal() and "restart_factor" not in settings:
        return 2 * int(n_s[:-2]) * int(settings.get("cycles", 2))
    return 20 if "n_s" not in settings else None


def _is_locked(path: Path) -> bool:
    """Return whether a process trains in a run folder."""
    lock = path / CHECKPOINTS / LOCK
    try:
        if not lock.is_file():
            return False
        with open_regular(lock, "rb+") as file:
            return try_lock(file) is False
    except OSError:
        return False  # a folder that cannot be written to is not trained in from here
