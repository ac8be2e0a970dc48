"""Parts that pages share: settings, environment, curves, commands."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from xpnet.config.fields import shown
from xpnet.config.settings import Settings
from xpnet.report.charts import SETS, band_rows, lines
from xpnet.report.figure import Panel
from xpnet.report.format import number, percent
from xpnet.report.page import Block, Cell, Panels, Section, Table, Text
from xpnet.report.records import RunRecord
from xpnet.training.history import FIGURES, evenly

# Epochs that a chart and its table show: on a page there are fewer pixels, and a table of more is not read.
EPOCHS = 1000
GREEK = {"lambda": "\N{GREEK SMALL LETTER LAMDA}", "eta": "\N{GREEK SMALL LETTER ETA}"}


def plain(value: Any) -> Cell:
    """Return a cell of a setting: numbers sort as numbers, lists as text."""
    if isinstance(value, bool):
        return Cell("yes" if value else "no")
    if isinstance(value, (int, float)):
        return Cell(f"{value:.6g}" if isinstance(value, float) else str(value), float(value))
    if isinstance(value, (list, tuple)):
        return Cell(", ".join(plain(item).text for item in value) or "none")
    return Cell("" if value is None else str(value))


def share(value: Any) -> Cell:
    """Return a cell of an accuracy, of one network or several."""
    return Cell("-" if value is None else percent(value), _middle(value))


def figure(value: Any) -> Cell:
    """Return a cell of a loss or cost, of one network or several."""
    return Cell(number(value), _middle(value))


def _middle(value: Any) -> float | None:
    middle = value.get("mean") if isinstance(value, dict) else value
    return None if middle is None or not np.isfinite(middle) else float(middle)


def in_words(values: Mapping[str, Any]) -> str:
    """Return settings in a few words."""
    words = {n: f"{value:.4g}" if isinstance(value, float) else plain(value).text for n, value in values.items()}
    return ", ".join(f"{GREEK.get(name, name)} = {value}" for name, value in words.items())


def settings_table(given: Mapping[str, Any], caption: str) -> Table:
    """Return settings with their defaults and what they mean."""
    rows = []
    for name, (_, field) in Settings.fields().items():
        if name not in given:
            continue
        value, default = given[name], field.default
        differs = value != (list(default) if isinstance(default, tuple) else default)
        usual = field.metadata["unset"] if default is None else plain(default).text
        rows.append([Cell(name), Cell(plain(value).text, strong=differs), Cell(usual), Cell(field.metadata["help"])])
    known = Settings.fields()
    rows += [[Cell(str(n)), Cell(shown(v)), Cell(""), Cell("")] for n, v in given.items() if n not in known]
    return Table(["setting", "value", "default", "what it is"], rows, caption)


def environment_section(environment: Mapping[str, Any] | None) -> Section:
    """Return what a run was made on."""
    if not environment:
        words = "Nobody wrote down what it was made on: runs of earlier versions of xpnet did not."
        return Section("environment", "Environment", [Text(words)])
    rows = [[Cell(name), Cell(text)] for name, text in _environment(environment) if text]
    return Section("environment", "Environment", [Table(["what", "value"], rows, "What it was made on")])


def _environment(found: Mapping[str, Any]) -> list[tuple[str, str]]:
    packages, variables = found.get("packages"), found.get("variables")
    memory = found.get("memory_gib")
    rows = [
        ("date", str(found.get("date") or "")),
        ("processor", str(found.get("cpu") or "")),
        ("cores", str(found.get("cores") or "")),
        ("memory", f"{memory} GiB" if memory else ""),
        ("device", str(found.get("device") or "")),
    ]
    rows += [
        (str(gpu.get("device")), f"{gpu.get('name')}, {gpu.get('memory_bytes', 0) / 2**30:.0f} GiB")
        for gpu in _mappings(found.get("gpus"))
    ]
    rows += [
        ("system", str(found.get("system") or "")),
        ("Python", str(found.get("python") or "")),
        ("xpnet", str(found.get("xpnet") or "")),
    ]
    rows += [
        ("BLAS", f"{b.get('library')} {b.get('version')} ({b.get('architecture')}), {b.get('threads')} threads")
        for b in _mappings(found.get("blas"))
    ]
    for pairs in (packages, variables):
        rows += [(str(n), str(v)) for n, v in pairs.items()] if isinstance(pairs, Mapping) else []
    return [*rows, ("note", str(found.get("note") or ""))]


def _mappings(values: Any) -> list[Mapping[str, Any]]:
    return [value for value in values if isinstance(value, Mapping)] if isinstance(values, list) else []


def again_section(commands: Sequence[tuple[str, str | None]]) -> Section:
    """Return the commands that make something again, each with what it is."""
    blocks: list[Block] = []
    for words, command in commands:
        blocks += [Text(words), Text(command, "code")] if command else []
    return Section("again", "Make it again", blocks)


def repeat_command(path: Path, command: str = "train --config") -> str:
    """Return the command that repeats a run."""
    return f"xpnet {command} {shlex.quote(str(path))}"


def drawn(record: RunRecord) -> NDArray[np.int64]:
    """Return the places of the epochs that are drawn and listed: of many those that are evenly spaced."""
    return evenly(len(record.history.get("epoch", ())), EPOCHS)


def thinned_note(*records: RunRecord) -> list[Block]:
    """Say which epochs are left out, where some are."""
    most = max(len(record.history.get("epoch", ())) for record in records)
    words = f"Of {most:,} epochs {EPOCHS:,} are shown, evenly spaced; history.csv in the run's folder has all."
    return [Text(words, "note")] if most > EPOCHS else []


def curves(record: RunRecord, members: Sequence[int], prefix: str = "") -> Panels | None:
    """Return loss, cost, accuracy and learning rate by epoch, means with their spread for several networks."""
    members = record.known(members)
    if not len(record.history.get("epoch", ())):
        return None
    epochs = record.history["epoch"][drawn(record)]
    several = len(members) > 1
    spread = f", mean of {len(members)} networks with one standard deviation to each side" if several else ""
    panels = [_curve(record, list(members), name, prefix, spread) for name in FIGURES]
    panels = [panel for panel in panels if panel.rows]  # of a run that diverged at once there is nothing to draw
    # From before the first step, as in the run's own curves.
    rates = np.concatenate([record.initial_eta[np.newaxis, members], record.curve("eta", members)[drawn(record)]])
    places = [0.0, *(float(e) for e in epochs)]
    rows = band_rows(places, rates[:, :1] if not np.ptp(rates, axis=1).any() else rates, "eta")
    low, high = float(rates.min()), float(rates.max())
    panels.append(
        lines(
            f"{prefix}learning-rate",
            "Learning rate",
            f"Learning rate of the first step and of the last of each of {epochs[-1]:.0f} epochs, "
            f"from {low:.3g} to {high:.3g}.",
            rows,
            x="epoch",
            y="learning rate",
            series=["eta"],
        )
    )
    return Panels(panels, _curve_table(record, list(members)))


def _curve(record: RunRecord, members: list[int], name: str, prefix: str, spread: str) -> Panel:
    epochs = [float(e) for e in record.history["epoch"][drawn(record)]]
    rows, said = [], []
    for which, series in zip(("train", "validation"), SETS, strict=True):
        values = record.curve(f"{which}_{name}", members)[drawn(record)]
        own = band_rows(epochs, values, series)
        rows += own
        if own:
            show = percent if name == "accuracy" else number
            best = (max if name == "accuracy" else min)(own, key=lambda row: float(row["y"]))
            said.append(f"{series} ends at {show(own[-1]['y'])}, best {show(best['y'])} in epoch {best['x']:.0f}")
    words = f"{name.capitalize()} over {epochs[-1]:.0f} epochs{spread}: {'; '.join(said)}."
    return lines(
        f"{prefix}{name}", name.capitalize(), words, rows, x="epoch", y=name, series=SETS, percent=name == "accuracy"
    )


def _curve_table(record: RunRecord, members: list[int]) -> Table:
    columns = [
        (name, record.curve(f"{which}_{name}", members)) for name in FIGURES for which in ("train", "validation")
    ]
    rates, rows = record.curve("eta", members), []
    for at in drawn(record).tolist():
        epoch, step = record.history["epoch"][at], record.history["step"][at]
        cells = [Cell(f"{epoch:.0f}", float(epoch)), Cell(f"{step:.0f}", float(step))]
        cells += [(share if name == "accuracy" else figure)(spread_of(values[at])) for name, values in columns]
        rate = float(np.mean(rates[at]))
        rows.append([*cells, Cell(f"{rate:.4g}", rate)])
    head = ["epoch", "step", *(f"{w} {n}" for n in FIGURES for w in SETS), "learning rate"]
    return Table(head, rows, "Figures by epoch", folded="The figures of these charts as a table", tall=True)


def spread_of(values: Any) -> Any:
    """Return one value as a number, several as mean and standard deviation (ddof = 1) of those that are finite."""
    values = np.asarray(values, float).ravel()
    good = values[np.isfinite(values)]
    if not good.size:
        return None
    if values.size == 1:
        return float(good[0])
    with np.errstate(over="ignore"):
        return {"mean": float(good.mean()), "std": float(good.std(ddof=1)) if good.size > 1 else None}
