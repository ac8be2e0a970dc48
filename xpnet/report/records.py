"""What a folder holds: a run, a search or a reproduction, read back."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from xpnet.errors import ConfigError, RunError
from xpnet.history import COLUMNS
from xpnet.runs import CONFIG, ENVIRONMENT, HISTORY, METRICS, MODEL, read_config, read_model
from xpnet.settings import Settings

SEARCH = "search.json"
RESULTS = "results.json"
KINDS = ("run", "search", "reproduction")
_ACCEPTED = (
    "it can be the folder of a run (with config.toml), of a search (search.json) or of a reproduction (results.json)"
)
Values = NDArray[np.float64]


@dataclass(frozen=True)
class RunRecord:
    """A run folder.

    Attributes:
        path: The folder.
        label: What it is called on a page.
        settings: Its settings.
        given: The settings as ``config.toml`` has them.
        replicas: What sets each network apart: its seed, and its value of every setting that varies.
        metrics: ``metrics.json``; None of a run that did not end.
        history: By column: (epochs,) or (epochs, R).
        environment: What it was made on; None where nobody wrote it down.
        inputs, classes: Of its network; None where there is no model.
        class_names: Names of the classes, by the model; empty where there is none.
        notes: What is missing, in sentences.
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

    @property
    def title(self) -> str:
        """The run in a few words."""
        data = str(self.given.get("data", "")) or "data"
        name = data if data.startswith("patterns") else Path(data).name
        split = f" {self.given['split']}" if "split" in self.given else ""
        if self.inputs is None or self.classes is None:
            return f"{name}{split}, hidden {'-'.join(map(str, self.settings.network_config(1, 2).hidden)) or 'none'}"
        return f"{name}{split}, {self.settings.in_words(self.inputs, self.classes)}"

    def combinations(self) -> list[tuple[dict[str, Any], list[int]]]:
        """Return each combination of settings with the replicas, one for each seed, that have it."""
        found: dict[str, tuple[dict[str, Any], list[int]]] = {}
        for number, row in enumerate(self.replicas):
            values = {name: value for name, value in row.items() if name != "seed"}
            found.setdefault(repr(values), (values, []))[1].append(number)
        return list(found.values())

    def figures(self, which: str, figure: str) -> Values:
        """Return a final figure of every network (R,), nan where there is none."""
        value = ((self.metrics or {}).get(which) or {}).get(figure)
        values = value.get("values", []) if isinstance(value, dict) else [value]
        found = np.full(len(self.replicas), np.nan)
        known = [np.nan if v is None else float(v) for v in values][: len(found)]
        found[: len(known)] = known
        return found

    def best(self) -> tuple[dict[str, Any], list[int]]:
        """Return the combination with the best mean validation accuracy; the test set has no say in it."""
        accuracies = np.nan_to_num(self.figures("validation", "accuracy"), nan=-1.0)
        return max(self.combinations(), key=lambda item: float(accuracies[item[1]].mean()))

    def curve(self, column: str) -> Values:
        """Return a column of the history as (epochs, R)."""
        values = self.history[column]
        return values if values.ndim == 2 else np.repeat(values[:, None], len(self.replicas), axis=1)


def kind_of(path: Path) -> str:
    """Return what a folder is, by what is in it: one of ``KINDS``.

    Raises:
        RunError: It is none of them.
    """
    if path.is_file():
        raise RunError(f"{path}: is a file; name the folder that it lies in")
    if not path.is_dir():
        raise RunError(f"{path}: there is no such folder; {_ACCEPTED}")
    if (path / SEARCH).is_file():
        return "search"
    if (path / CONFIG).is_file():
        return "run"
    if (path / RESULTS).is_file():
        return "reproduction"
    raise RunError(f"{path}: has neither {CONFIG} nor {SEARCH} nor {RESULTS}; {_ACCEPTED}")


def read_json(path: Path) -> dict[str, Any]:
    """Return the object in a JSON file.

    Raises:
        RunError: The file cannot be read, or holds something else.
    """
    try:
        found = json.loads(path.read_bytes())
    except OSError as error:
        raise RunError(f"{path}: cannot be read ({error.strerror})") from None
    except (ValueError, RecursionError) as error:
        raise RunError(f"{path}: is not JSON ({error}); take another copy of it") from None
    if not isinstance(found, dict):
        raise RunError(f"{path}: holds a {type(found).__name__}, not an object; take another copy of it")
    return found


def read_run(path: Path, label: str | None = None) -> RunRecord:
    """Read a run folder; of a run that did not end, what there is.

    Raises:
        RunError: A file in it is broken.
        ConfigError: Its settings are.
    """
    given = read_config(path)
    try:
        settings = Settings.from_mapping(given)
    except ConfigError as error:
        raise ConfigError(f"{path / CONFIG}: {error}") from None
    notes: list[str] = []
    metrics = read_json(path / METRICS) if (path / METRICS).is_file() else None
    if metrics is None:
        notes.append(f"The run did not end: it has no {METRICS}, so there are no final figures.")
    elif metrics.get("interrupted"):
        notes.append("The run was stopped before its end.")
    if metrics is not None and metrics.get("diverged"):
        notes.append(f"{metrics['diverged']} of its networks diverged, and count from there on in nothing.")
    inputs = classes = None
    names: tuple[str, ...] = ()
    replicas = settings.replicas()
    if (path / MODEL).is_file():
        tensors, about = read_model(path / MODEL)
        try:
            inputs, classes = int(about["config"]["inputs"]), int(about["config"]["classes"])
            names = tuple(map(str, about["class_names"]))
            trained = len(tensors["parameters.W1"])
        except (KeyError, TypeError, ValueError) as error:
            raise RunError(f"{path / MODEL}: does not describe a network ({error}); take another copy of it") from None
        if trained < len(replicas):
            notes.append(f"{trained} of its {len(replicas)} networks were trained before it was stopped.")
            replicas = replicas[:trained]
    history = _history(path / HISTORY, len(replicas)) if (path / HISTORY).is_file() else {}
    environment = read_json(path / ENVIRONMENT) if (path / ENVIRONMENT).is_file() else None
    name = label or path.resolve().name
    return RunRecord(
        path, name, settings, given, replicas, metrics, history, environment, inputs, classes, names, notes
    )


def _history(path: Path, replicas: int) -> dict[str, Values]:
    """Return the columns of ``history.csv``; an epoch that is cut off, or is being written, does not count."""
    try:
        text = path.read_text(encoding="utf-8")
        # A number that is cut reads as another number: only a line with its end is one.
        rows = list(csv.DictReader(io.StringIO(text[: text.rfind("\n") + 1])))
        if rows and set(COLUMNS) - set(rows[0]):
            raise RunError(f"{path}: lacks the columns {', '.join(sorted(set(COLUMNS) - set(rows[0])))}")
        # How many rows an epoch has is seen where the second begins; a first one without it has to be of all networks.
        of_epoch = next((number for number, row in enumerate(rows) if row["epoch"] != rows[0]["epoch"]), replicas)
        rows = rows[: len(rows) - len(rows) % of_epoch]
        found = {
            name: np.array([float(row[name]) for row in rows]).reshape(-1, of_epoch)
            for name in COLUMNS
            if name != "replica"
        }
    except (OSError, UnicodeDecodeError, ValueError, TypeError) as error:
        raise RunError(f"{path}: is not a history of xpnet ({error}); take another copy of it") from None
    for name in ("epoch", "step", "seconds_training", "seconds_evaluation"):
        found[name] = found[name][:, 0]
    return found
