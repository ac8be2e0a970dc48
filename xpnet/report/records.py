"""The kind of a folder (a run, a search, a reproduction, or runs), and the reader of run folders."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from xpnet.config.optimisers import defaults_of
from xpnet.config.settings import CONFIG, Settings, read_settings
from xpnet.data.splits import parse_split
from xpnet.errors import DataError, RunError, printable
from xpnet.nn.model_file import MODEL, read_model
from xpnet.runs.folder import ENVIRONMENT, HISTORY, METRICS
from xpnet.runs.listing import data_set, holds_runs
from xpnet.runs.records import read_environment, read_history, read_metrics
from xpnet.training.chance_level import none_better
from xpnet.training.history import evenly
from xpnet.training.result import stops_in_words
from xpnet.training.schedules import FIRST_RATE

SEARCH = "search.json"
RESULTS = "results.json"
# The file by which each kind of folder is known.  The order matters: a search's folder may have settings too.
_KINDS = {"diagnosis": "diagnosis.json", "search": SEARCH, "run": CONFIG, "reproduction": RESULTS}
_ACCEPTED = (
    "it can be the folder of a run (with config.toml), of a search (search.json), of a reproduction (results.json), of "
    "a diagnosis (diagnosis.json), or one that holds runs"
)
Values = NDArray[np.float64]
# Most values of a history column to keep; if there are more, only some networks are drawn.
MOST_FIGURES = 500_000
# Most settings that a title names.
_NAMED = 5
# Approximate size of a line of the history.
_ROW_BYTES = 100


@dataclass(frozen=True)
class RunRecord:
    """The content of a run folder.

    Attributes:
        path: The folder.
        label: Its name on a page.
        settings: Its settings.
        given: The settings as ``config.toml`` has them.
        replicas: Each network's seed, and its value of every setting that varies.
        metrics: Content of ``metrics.json``; None for a run that did not end.
        history: Columns by name: (epochs,), or (epochs, N) for the networks `kept`.
        environment: The machine and software of the run; None if they are not recorded.
        inputs: Number of features of its network; None if there is no model.
        classes: Number of classes of its network; None if there is no model.
        class_names: Names of the classes in the model; empty if there is no model.
        notes: Sentences about missing files.
        kept: Networks whose history was read; None for all networks.
        pictures: Whether its network takes pictures; False if there is no model.
    """

    path: Path
    label: str
    settings: Settings
    given: Mapping[str, Any]
    replicas: list[dict[str, Any]]
    metrics: Mapping[str, Any] | None
    history: Mapping[str, Values]
    environment: Mapping[str, Any] | None
    inputs: int | None
    classes: int | None
    class_names: tuple[str, ...]
    notes: list[str] = field(default_factory=list)
    kept: tuple[int, ...] | None = None
    pictures: bool = False

    @property
    def title(self) -> str:
        """The run in a few words."""
        name, split = data_set(str(self.given.get("data", ""))) or "data", _split_in_words(self.given)
        if self.inputs is None or self.classes is None:
            return f"{name}{split}, hidden {'-'.join(map(str, self.settings.network_config(1, 2).hidden)) or 'none'}"
        network = self.settings.network_config(self.inputs, self.classes).in_words()
        return ", ".join([f"{name}{split}, {network}", *self._changed()])

    def _changed(self) -> list[str]:
        """Return what the training's settings are that are not the default, in words, and the number of runs."""
        words = [f"{len(values)} values of {name}" for name, values in self.settings.varying.items()]
        usual = defaults_of(self.settings.train.optimiser)
        for name, (group, setting) in Settings.fields().items():
            value, default = self.given.get(name), usual.get(setting.name, setting.default)
            if group == "train" and value not in (None, default) and not isinstance(value, list):
                words.append(f"{name} = {f'{value:.4g}' if isinstance(value, float) else value}")
        more = [f"and {len(words) - _NAMED} more settings"] if len(words) > _NAMED else []
        runs = self.settings.run.runs
        return [*words[:_NAMED], *more, *([f"{runs} runs"] if runs > 1 else [])]

    @property
    def epochs(self) -> Values:
        """The numbers of the epochs in the history; empty if none was recorded."""
        return self.history.get("epoch", np.empty(0))

    def combinations(self) -> list[tuple[dict[str, Any], list[int]]]:
        """Return each combination of settings with the replicas, one for each seed, that have it."""
        found: dict[str, tuple[dict[str, Any], list[int]]] = {}
        for number, row in enumerate(self.replicas):
            values = {name: value for name, value in row.items() if name != "seed"}
            found.setdefault(repr(values), (values, []))[1].append(number)
        return list(found.values())

    def figures(self, which: str, figure: str) -> Values:
        """Return a final figure of every network (R,), NaN if it is missing."""
        value = ((self.metrics or {}).get(which) or {}).get(figure)
        values = value.get("values", []) if isinstance(value, dict) else [value]
        found = np.full(len(self.replicas), np.nan)
        known = [np.nan if v is None else float(v) for v in values][: len(found)]
        found[: len(known)] = known
        return found

    def best(self) -> tuple[dict[str, Any], list[int]]:
        """Return the combination with the best mean validation accuracy; the test set has no influence.

        If :attr:`none_better` is True, the combination still represents the run, but no page calls it the best.
        """
        accuracies = np.nan_to_num(self.figures("validation", "accuracy"), nan=-1.0)
        return max(self.combinations(), key=lambda item: float(accuracies[item[1]].mean()))

    @property
    def none_better(self) -> bool:
        """Whether no network is better than guessing; False for runs of earlier versions, which did not record it."""
        known = np.flatnonzero(np.isfinite(self.figures("validation", "accuracy")))
        return none_better((self.metrics or {}).get("guessing"), known.tolist())

    @property
    def conclusion(self) -> str:
        """What the run says, in one sentence; empty if nothing, and for runs of earlier versions."""
        return str(((self.metrics or {}).get("conclusion") or {}).get("text", ""))

    @property
    def tied(self) -> list[Mapping[str, Any]]:
        """The combinations of settings that chance does not tell from the best, as the conclusion has them."""
        evidence = ((self.metrics or {}).get("conclusion") or {}).get("evidence")
        tied = evidence.get("tied") if isinstance(evidence, Mapping) else None
        return [one for one in tied if isinstance(one, Mapping)] if isinstance(tied, list) else []

    def known(self, members: Sequence[int]) -> list[int]:
        """Return those of the networks `members` whose history was read."""
        kept = None if self.kept is None else set(self.kept)
        return [member for member in members if kept is None or member in kept]

    def curve(self, column: str, members: Sequence[int]) -> Values:
        """Return a column of the history for those `members` whose history was read, as (epochs, N)."""
        if not len(self.epochs):
            return np.empty((0, len(self.known(members))))
        places = range(len(self.replicas)) if self.kept is None else self.kept
        column_of = {member: at for at, member in enumerate(places)}
        return self.history[column][:, [column_of[member] for member in self.known(members)]]

    @property
    def initial_eta(self) -> Values:
        """The learning rate of every network's first step (R,)."""
        name = FIRST_RATE[self.settings.train.schedule]
        if name is None:
            return np.zeros(len(self.replicas))
        return np.array([float(row.get(name, getattr(self.settings.train, name))) for row in self.replicas])


def _split_in_words(given: Mapping[str, Any]) -> str:
    """Return the sizes of the training and the validation set after a comma; empty if they are unknown."""
    try:
        training, validation = parse_split(given["split"])
    except (KeyError, DataError):
        return ""
    return f", {training:,} training and {validation:,} validation samples"


def kind_of(path: Path) -> str:
    """Return a folder's kind, by its files: ``"run"``, ``"search"``, ``"reproduction"``, ``"diagnosis"`` or ``"runs"``.

    Raises:
        RunError: The folder is of none of these kinds.
    """
    if path.is_file():
        raise RunError(f"{path}: is a file; name the folder that it lies in")
    if not path.is_dir():
        raise RunError(f"{path}: there is no such folder; {_ACCEPTED}")
    for kind, name in _KINDS.items():
        if (path / name).is_file():
            return kind
    if holds_runs(path):
        return "runs"
    raise RunError(f"{path}: has neither {CONFIG} nor {SEARCH} nor {RESULTS}; {_ACCEPTED}")


def read_run(path: Path, label: str | None = None) -> RunRecord:
    """Return the record of a run folder; for a run that did not end, as far as it goes.

    Raises:
        RunError: A file in it is broken.
        ConfigError: Its settings are broken.
    """
    given, settings = read_settings(path)
    metrics = read_metrics(path / METRICS) if (path / METRICS).is_file() else None
    notes = _notes(metrics)
    inputs = classes = None
    names: tuple[str, ...] = ()
    pictures = False
    replicas = settings.replicas()
    if (path / MODEL).is_file():
        model = read_model(path / MODEL)
        inputs, classes, names = model.config.inputs, model.config.classes, model.class_names
        pictures, trained = model.image_shape is not None, model.replicas
        if trained > len(replicas):
            raise RunError(f"{path / MODEL}: has {trained} networks, and {CONFIG} beside it asks for {len(replicas)}")
        if trained < len(replicas):
            notes.append(f"{trained} of its {len(replicas)} networks were trained before it was stopped.")
            replicas = replicas[:trained]
    environment = read_environment(path / ENVIRONMENT) if (path / ENVIRONMENT).is_file() else None
    name = label or printable(path.resolve().name)
    record = RunRecord(path, name, settings, given, replicas, metrics, {}, environment, inputs, classes, names, notes)
    record = replace(record, pictures=pictures)
    if not (path / HISTORY).is_file():
        return record
    epochs = max(1, (path / HISTORY).stat().st_size // (_ROW_BYTES * len(replicas)))
    kept = None
    if epochs * len(replicas) > MOST_FIGURES:  # only the networks of the best settings are drawn
        best = record.best()[1]
        kept = tuple(best[at] for at in evenly(len(best), max(2, MOST_FIGURES // epochs)).tolist())
        if len(kept) < len(best):
            notes.append(f"Curves are drawn of {len(kept):,} of the {len(best):,} best networks, evenly spaced.")
    return replace(record, history=read_history(path / HISTORY, len(replicas), kept), kept=kept)


def _notes(metrics: Mapping[str, Any] | None) -> list[str]:
    """Return notes for readers of a run's figures."""
    if metrics is None:
        return [f"The run did not end: it has no {METRICS}, so there are no final figures."]
    notes = ["The run was stopped before its end."] if metrics.get("interrupted") else []
    if stopped := metrics.get("stopped"):
        words = stops_in_words(stopped)
        notes.append(f"{words[0].upper()}{words[1:]}.")
    if diverged := metrics.get("diverged"):
        notes.append(f"{diverged} of its networks diverged, and are left out of all figures from there on.")
    return [*notes, *metrics.get("warnings", [])]
