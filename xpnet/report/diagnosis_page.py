"""The page of a diagnosis: a verdict on each layer, and its measures by epoch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from xpnet.analysis.layer_verdicts import LEGEND, in_a_sentence, layer_verdicts
from xpnet.errors import RunError
from xpnet.report.blocks import again_section, repeat_command, settings_table, settings_text
from xpnet.report.charts import lines
from xpnet.report.page import Block, Page, Panels, Section, Text, table
from xpnet.report.theme import is_wide
from xpnet.utils import schema
from xpnet.utils.parsing import read_json

DIAGNOSIS = "diagnosis.json"
# Most networks with sections of their own, and the least value of a logarithmic axis.
_SHOWN, _LEAST = 4, 1e-300
# Measures with a chart, the most telling first, and those that are shares.
_DRAWN = (
    *("relative_spread", "s_std", "gradient_rms"),
    *("update_ratio", "dead", "inactive"),
    *("effective_rank", "similarity", "W_rms"),
)
_SHARES = ("dead", "inactive")
# Colours of layers, from the first to the last; each has a contrast of 3:1 to the white and to the dark page.
_RAMP = ("#8353B8", "#4A68C9", "#0F7FA8", "#178A66", "#5C8A14", "#A07A00", "#C2610C", "#C94A5E")
_VALUES = schema.items(schema.items(schema.items(schema.optional(schema.number()))))
_SHAPE = schema.record(
    {"epoch": schema.items(schema.whole(0)), "measures": schema.record(dict.fromkeys(LEGEND, _VALUES))},
    {
        "title": schema.text,
        "samples": schema.whole(0),
        "settings": schema.mapping(schema.anything),
        "replicas": schema.items(schema.mapping(schema.anything)),
        "run": schema.optional(schema.text),
    },
)


def read_diagnosis(path: Path) -> dict[str, Any]:
    """Return the content of ``diagnosis.json``, with measures as arrays (epochs, R, L).

    Raises:
        RunError: The file is damaged; the message names the line or the key.
    """
    found = read_json(path, RunError)
    schema.check(found, _SHAPE, str(path), RunError)
    shapes = set()
    for name, values in found["measures"].items():
        try:
            found["measures"][name] = np.array(values, float)
        except ValueError:
            raise RunError(f"{path}: measures.{name}: must have a number for each epoch, network and layer") from None
        shapes.add(found["measures"][name].shape)
    if len(shapes) > 1 or len(next(iter(shapes))) != 3 or next(iter(shapes))[0] != len(found["epoch"]):
        raise RunError(f"{path}: measures: must all have a number for each epoch, network and layer")
    return found


def diagnosis_page(folder: Path, made: str) -> Page:
    """Return the page of a diagnosis.

    Raises:
        RunError: ``diagnosis.json`` is broken.
    """
    found = read_diagnosis(folder / DIAGNOSIS)
    measures, epochs = found["measures"], found["epoch"]
    networks = measures["s_std"].shape[1]
    shown = list(range(min(networks, _SHOWN)))
    verdicts = layer_verdicts({"epoch": epochs, **measures}, shown, found.get("settings"))
    rows: list[list[Any]] = [
        [*([one.replica] if networks > 1 else []), one.layer, one.text, f"docs/{one.see}" if one.see else ""]
        for one in verdicts
    ]
    head = [*(["network"] if networks > 1 else []), "layer", "verdict after the last epoch", "explained in"]
    if not any(one.see for one in verdicts):
        head, rows = head[:-1], [row[:-1] for row in rows]
    blocks: list[Block] = [table(head, rows, "Layers from the input (1) to the logits (the last)")]
    if networks > _SHOWN:
        blocks.append(Text(f"The first {_SHOWN} of {networks} networks; diagnosis.csv has all.", "note"))
    names: Sequence[Mapping[str, Any]] = found.get("replicas") or []
    sections = [Section("verdicts", "Verdicts", blocks)]
    for r in shown:
        title = "What happens inside" + (f" network {r}" if networks > 1 else "")
        words = [Text(f"{settings_text(names[r])}.")] if networks > 1 and r < len(names) else []
        panels = [_panel(name, measures[name][:, r], epochs, f"{r}-" if networks > 1 else "") for name in _DRAWN]
        drawn = [panel for panel in panels if panel is not None]
        sections.append(Section(f"inside-{r}", title, [*words, Panels(drawn)]))
    legend = table(["measure", "in files", "usual"], _legend(), "What is measured, on one batch in training mode")
    sections.append(Section("legend", "Legend", [legend]))
    if found.get("settings"):
        sections.append(
            Section("settings", "Settings", [settings_table(found["settings"], "Settings of the training")])
        )
    commands = [("This page:", repeat_command(folder, "report"))]
    if found.get("run"):
        commands.insert(0, ("The diagnosis:", repeat_command(Path(found["run"]), "diagnose")))
    sections.append(again_section(commands))
    subtitle = f"{found.get('title', '')}, on {found.get('samples', 0):,} training samples"
    conclusion = in_a_sentence(verdicts, networks)
    return Page("diagnosis", folder.resolve().name, subtitle, sections, made, [], conclusion)


def _legend() -> list[list[str]]:
    return [[words, name, usual] for name, (words, usual) in LEGEND.items()]


def _panel(name: str, values: Any, epochs: Sequence[int], prefix: str) -> Any:
    """Return the chart of a measure (epochs, L), with a line for each layer; None if it has no values."""
    words, usual = LEGEND[name]
    layers = values.shape[1]
    known = values[np.isfinite(values)]
    if not known.size:
        return None
    log = name not in (*_SHARES, "similarity") and is_wide(known[known > _LEAST].tolist())
    series = [f"layer {layer + 1}" for layer in range(layers)]
    rows = [
        {"x": float(epoch), "y": float(value), "s": series[layer]}
        for epoch, of_epoch in zip(epochs, values, strict=True)
        for layer, value in enumerate(of_epoch)
        if np.isfinite(value) and (not log or value > _LEAST)
    ]
    ends = "; ".join(f"{series[at]} {values[-1, at]:.3g}" for at in range(layers) if np.isfinite(values[-1, at]))
    alt = f"{words} by epoch, a line for each layer. After the last epoch: {ends}."
    alt += f" Usual: {usual}." if usual else ""
    colours = [_RAMP[round(at * (len(_RAMP) - 1) / max(1, layers - 1))] for at in range(layers)]
    stem, share = f"{prefix}{name}", name in _SHARES
    options: dict[str, Any] = {"percent": share, "cut": False, "log": log, "colours": colours}
    return lines(stem, words, alt, rows, x="epoch", y=_axis(name), series=series, **options)


def _axis(name: str) -> str:
    return {"dead": "share of units", "inactive": "share of outputs"}.get(name, name.replace("_", " "))
