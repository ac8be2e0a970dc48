"""Parts that pages share: tables, settings, environment, curves, commands."""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from xpnet.config.cycles import CYCLIC, cycle_epochs
from xpnet.config.fields import shown
from xpnet.config.optimisers import defaults_of
from xpnet.config.settings import Settings
from xpnet.data.splits import nine_tenths, parse_split
from xpnet.errors import ConfigError, DataError
from xpnet.report.charts import lines, metric_curves
from xpnet.report.format import SET_NAMES
from xpnet.report.page import Block, Cell, Panels, Section, Table, Text, cell, metric_cell, table
from xpnet.report.records import RunRecord
from xpnet.report.theme import SETS, band_rows, mean_and_std
from xpnet.runs.listing import data_set
from xpnet.training.history import FIGURES, evenly

# Most epochs in a chart and its table: a page has fewer pixels, and a longer table is of no use.
EPOCHS = 1000
# A cost that exceeds the loss by at most this share has no chart of its own.
_ALIKE = 0.03
# Settings that only pictures have, with their defaults.
_OF_PICTURES = {"flip": "none", "shift": 0, "cutout": 0, "views": 1, "pool": 1}


def spread_of(values: Any) -> Any:
    """Return a single value as a number, several as the mean and standard deviation (ddof = 1) of finite values."""
    values = np.asarray(values, float).ravel()
    found = mean_and_std(values)
    if found is None or values.size == 1:
        return found and found[0]
    return {"mean": found[0], "std": found[1]}


def settings_text(values: Mapping[str, Any]) -> str:
    """Return settings in a few words."""
    words = {n: f"{value:.4g}" if isinstance(value, float) else cell(value).text for n, value in values.items()}
    return ", ".join(f"{name} = {value}" for name, value in words.items())


def settings_table(given: Mapping[str, Any], caption: str, *, pictures: bool = True) -> Table:
    """Return a table of settings with their defaults and meanings, also of those that nobody set.

    Without `pictures`, the defaults of settings that only pictures have are left out.
    """
    rows, known = [], Settings.fields()
    if not pictures:
        known = {name: one for name, one in known.items() if name not in _OF_PICTURES}
        given = {n: v for n, v in given.items() if n in known or n not in _OF_PICTURES or v != _OF_PICTURES[n]}
    of_optimiser = defaults_of(str(given.get("optimiser", "sgd")))
    unset = _unset(given)
    for name, (_, field) in known.items():
        if name in unset and name not in given:
            rows.append([name, field.metadata["unset"], field.metadata["unset"], field.metadata["help"]])
        elif name in given:
            value, default = given[name], field.default
            default = of_optimiser.get(field.name, default)
            differs = value != (list(default) if isinstance(default, tuple) else default)
            differs = differs and not (name == "split" and _usual_split(str(given.get("data", "")), str(value)))
            usual = field.metadata["unset"] if default is None else cell(default).text
            rows.append([name, Cell(cell(value).text, strong=differs), usual, field.metadata["help"]])
    rows += [[name, shown(value), "", ""] for name, value in given.items() if name not in known]
    return table(["setting", "value", "default", "what it is"], rows, caption)


def _usual_split(data: str, split: str) -> bool:
    """Return whether a split is what data gets that has no other one."""
    if data_set(data).startswith("CIFAR"):
        return split == "45k"
    try:
        return split == nine_tenths(sum(parse_split(split)))
    except DataError:
        return False


def _unset(given: Mapping[str, Any]) -> list[str]:
    try:
        return Settings.from_mapping(given).unset()
    except ConfigError:  # settings of another version of xpnet, or of a damaged file
        return []


def environment_section(environment: Mapping[str, Any] | None) -> Section:
    """Return a section on the machine and the software of a run."""
    if environment:
        rows = [(name, str(value)) for name, value in _environment(environment) if value]
        block: Block = table(["what", "value"], rows, "What it was made on")
    else:
        block = Text("Unknown: runs of earlier versions of xpnet have no record of what they were made on.")
    return Section("environment", "Environment", [block])


def _environment(found: Mapping[str, Any]) -> list[tuple[str, Any]]:
    memory = found.get("memory_gib")
    rows = [("date", found.get("date")), ("processor", found.get("cpu")), ("cores", found.get("cores"))]
    rows += [("memory", f"{memory} GiB" if memory else ""), ("device", found.get("device"))]
    rows += [
        (str(gpu.get("device")), f"{gpu.get('name')}, {gpu.get('memory_bytes', 0) / 2**30:.0f} GiB")
        for gpu in _mappings(found.get("gpus"))
    ]
    rows += [("system", found.get("system")), ("Python", found.get("python")), ("xpnet", found.get("xpnet"))]
    rows += [
        ("BLAS", f"{b.get('library')} {b.get('version')} ({b.get('architecture')}), {b.get('threads')} threads")
        for b in _mappings(found.get("blas"))
    ]
    for pairs in (found.get("packages"), found.get("variables")):
        rows += [(str(n), str(v)) for n, v in pairs.items()] if isinstance(pairs, Mapping) else []
    return [*rows, ("note", found.get("note"))]


def _mappings(values: Any) -> list[Mapping[str, Any]]:
    return [value for value in values if isinstance(value, Mapping)] if isinstance(values, list) else []


def again_section(commands: Sequence[tuple[str, str | None]]) -> Section:
    """Return a section with the commands that repeat the page's results, each with a description."""
    blocks: list[Block] = []
    for words, command in commands:
        blocks += [Text(words), Text(command, "code")] if command else []
    return Section("again", "Make it again", blocks)


def repeat_command(path: Path, command: str = "train --config") -> str:
    """Return the command that repeats a run."""
    return f"xpnet {command} {shlex.quote(str(path))}"


def drawn_epochs(record: RunRecord) -> NDArray[np.int64]:
    """Return the positions of the epochs to draw and list: all, or an evenly spaced sample of many."""
    return evenly(len(record.epochs), EPOCHS)


def thinned_note(*records: RunRecord) -> list[Block]:
    """Return a note that some epochs are left out, if this is the case."""
    most = max(len(record.epochs) for record in records)
    words = f"Of {most:,} epochs {EPOCHS:,} are shown, evenly spaced; history.csv in the run's folder has all."
    return [Text(words, "note")] if most > EPOCHS else []


def curve_points(record: RunRecord, members: Sequence[int], column: str) -> tuple[Any, Any]:
    """Return the epochs to draw (n,), and a column of the history of some networks at these epochs (n, N)."""
    at = drawn_epochs(record)
    return record.epochs[at], record.curve(column, members)[at]


def curves(record: RunRecord, members: Sequence[int], prefix: str = "") -> Panels | None:
    """Return loss, cost, accuracy and learning rate by epoch, means with their spread for several networks."""
    members = record.known(members)
    if not len(record.epochs):
        return None
    at = drawn_epochs(record)
    last = f"{record.epochs[-1]:.0f} epochs"
    spread = f", mean of {len(members)} networks with one standard deviation to each side" if len(members) > 1 else ""
    panels = []
    apart = _cost_above_loss(record, members)
    for name in FIGURES:
        if name == "cost" and apart is not None:
            continue
        points = [
            (SET_NAMES[which], *curve_points(record, members, f"{which}_{name}")) for which in ("train", "validation")
        ]
        words = f"{name} over {last}{spread}"
        title = name.capitalize()
        if name == "loss" and apart is not None:
            title += f" (the cost is at most {100 * apart:.2g} % above it)" if apart else " (which is also the cost)"
        panels.append(metric_curves(f"{prefix}{name}", title, words, name, points))
    panels = [panel for panel in panels if panel.rows]  # a run that diverged at once has nothing to draw
    # The learning rate is drawn from the first step on, as in the run's own curves.
    rates = np.concatenate([record.initial_eta[np.newaxis, members], record.curve("eta", members)[at]])
    rows = band_rows([0, *record.epochs[at]], rates[:, :1] if not np.ptp(rates, axis=1).any() else rates, "eta")
    alt = (
        f"Learning rate of the first step and of the last of each of {last}, "
        f"from {rates.min():.3g} to {rates.max():.3g}."
    )
    title, cycle = "Learning rate", cycle_of(record)
    if len(record.epochs) < cycle:
        title += f" ({record.epochs[-1]:.0f} of the {cycle:.4g} epochs of a cycle)"
    panels.append(lines(f"{prefix}learning-rate", title, alt, rows, x="epoch", y="learning rate", series=["eta"]))
    return Panels(panels, _curve_table(record, members))


def cycle_of(record: RunRecord) -> float:
    """Return the epochs of the first cycle of a run's learning rate; 0 if it has none."""
    train = record.settings.train
    if train.schedule not in CYCLIC or not len(record.epochs):
        return 0.0
    return cycle_epochs(train.n_s, float(record.history["step"][0] / record.epochs[0]))


def _cost_above_loss(record: RunRecord, members: Sequence[int]) -> float | None:
    """Return the largest share by which the cost exceeds the loss, if they hardly differ; else None."""
    largest = 0.0
    for which in ("train", "validation"):
        loss, cost = (record.curve(f"{which}_{name}", members) for name in ("loss", "cost"))
        known = np.isfinite(loss) & np.isfinite(cost) & (loss > 0)
        if not known.any():
            return None
        largest = max(largest, float(np.abs(cost[known] / loss[known] - 1).max()))
    return largest if largest <= _ALIKE else None


def _curve_table(record: RunRecord, members: Sequence[int]) -> Table:
    columns = [f"{which}_{name}" for name in FIGURES for which in ("train", "validation")]
    rates = record.curve("eta", members).mean(axis=1)
    rows = [
        [epoch, int(record.history["step"][at]), *cells, Cell(f"{rates[at]:.4g}", float(rates[at]))]
        for at, epoch, cells in curve_cells(record, members, columns)
    ]
    head = ["epoch", "step", *(f"{which} {name}" for name in FIGURES for which in SETS), "learning rate"]
    return table(head, rows, "Figures by epoch", "The figures of these charts as a table", tall=True)


def curve_cells(
    record: RunRecord, members: Sequence[int], columns: Sequence[str]
) -> Iterable[tuple[int, int, list[Cell]]]:
    """Yield the position and number of each epoch to draw, with cells for some columns of the history."""
    values = {column: record.curve(column, members) for column in columns}
    for at in drawn_epochs(record).tolist():
        cells = [metric_cell(name, spread_of(of_all[at])) for name, of_all in values.items()]
        yield at, int(record.epochs[at]), cells
