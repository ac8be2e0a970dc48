"""The page of a diagnosis: a verdict on each layer, and its measures by epoch."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from xpnet.analysis.layer_verdicts import LEGEND, layer_verdicts
from xpnet.analysis.verdict_words import RULES, LayerVerdict, grouped, in_a_sentence, in_groups
from xpnet.errors import RunError
from xpnet.report.blocks import again_section, repeat_command, settings_table, settings_text
from xpnet.report.charts import lines
from xpnet.report.diagnosis_commands import diagnosis_commands
from xpnet.report.figure import Panel
from xpnet.report.format import is_number, percent
from xpnet.report.page import Block, Page, Panels, Section, Table, Text, table
from xpnet.report.theme import DASHES, is_wide
from xpnet.utils import schema
from xpnet.utils.parsing import read_json

DIAGNOSIS = "diagnosis.json"
# Most networks with sections of their own, and the least value of a logarithmic axis.
_SHOWN, _LEAST = 4, 1e-300
# Most epochs whose points are marked; how near a gradient of the weights is to that of the penalty alone.
_MARKED, _ALIKE = 12, 0.01
_FIGURES = ("accuracy", "loss", "predicted")
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
_EACH = schema.items(schema.items(schema.optional(schema.number())))
_SHAPE = schema.record(
    {"epoch": schema.items(schema.whole(0)), "measures": schema.record(dict.fromkeys(LEGEND, _VALUES))},
    {
        **dict.fromkeys(_FIGURES, _EACH),
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
    blocks: list[Block] = [_verdicts_table(verdicts, networks)]
    if networks > _SHOWN:
        blocks.append(Text(f"The first {_SHOWN} of {networks} networks; diagnosis.csv has all.", "note"))
    names: Sequence[Mapping[str, Any]] = found.get("replicas") or []
    sections = [Section("verdicts", "Verdicts", blocks)]
    for r in shown:
        title = "What happens inside" + (f" network {r}" if networks > 1 else "")
        words = [Text(f"{settings_text(names[r])}.")] if networks > 1 and r < len(names) else []
        own = {name: values[:, r] for name, values in measures.items()}
        lam = (names[r] if r < len(names) else {}).get("lambda", (found.get("settings") or {}).get("lambda"))
        panels = [_panel(name, own, epochs, f"{r}-" if networks > 1 else "", lam) for name in _DRAWN]
        drawn = [panel for panel in panels if panel is not None]
        sections.append(Section(f"inside-{r}", title, [*words, Panels(drawn)]))
    rows = [[LEGEND[name][0], name, LEGEND[name][1]] for name in _DRAWN]
    legend = table(["measure", "in files", "usual"], rows, "What is measured, on one batch in training mode")
    sections.append(Section("legend", "Legend", [legend]))
    if found.get("settings"):
        sections.append(
            Section("settings", "Settings", [settings_table(found["settings"], "Settings of the training")])
        )
    sections.append(
        again_section([*diagnosis_commands(found, verdicts), ("This page:", repeat_command(folder, "report"))])
    )
    subtitle = f"{found.get('title', '')}, measured on {found.get('samples', 0):,} training samples"
    conclusion = " ".join(filter(None, [_figures(found), in_a_sentence(verdicts, networks)]))
    return Page("diagnosis", folder.resolve().name, subtitle, sections, made, [], conclusion)


def _verdicts_table(verdicts: Sequence[LayerVerdict], networks: int) -> Table:
    """Return the verdicts, with one row for layers in a row of which the same is said."""
    rows: list[list[Any]] = [
        [
            *([one.replica] if networks > 1 else []),
            layers.partition(" ")[2],
            one.words,
            RULES[one.rule][1] if one.rule in RULES else "",
        ]
        for layers, one in grouped(verdicts)
    ]
    head = [*(["network"] if networks > 1 else []), "layers", "verdict after the last epoch", "what it means"]
    if not any(row[-1] for row in rows):
        head, rows = head[:-1], [row[:-1] for row in rows]
    return table(head, rows, "Layers from the input (1) to the logits (the last)")


def _figures(found: Mapping[str, Any]) -> str:
    """Return how the networks classify the samples at the end, in a sentence; empty if the file does not say."""
    known = [
        each
        for each in zip(*(found[name][-1] if found.get(name) else () for name in _FIGURES), strict=False)
        if None not in each
    ]
    if not known:
        return ""
    accuracies, losses, classes = zip(*known, strict=True)
    who = "the network is" if len(known) == 1 else f"{len(known)} networks are"
    text = f"After epoch {found['epoch'][-1]} {who} right for {_span(accuracies, percent)} of these training samples"
    text += f" (loss {_span(losses, '{:.4g}'.format)})"
    if max(classes) > 1:
        return f"{text}."
    return f"{text}, with the same class for every sample."


def _span(values: Sequence[float], form: Callable[[float], str]) -> str:
    low, high = form(min(values)), form(max(values))
    return low if low == high else f"{low} to {high}"


def _panel(name: str, own: Mapping[str, Any], epochs: Sequence[int], prefix: str, lam: Any) -> Panel | None:
    """Return the chart of a measure of a network, with a line for each layer; None if it has no values.

    Args:
        name: The measure.
        own: All measures of the network, each (epochs, L).
        epochs: The epochs.
        prefix: Begins the chart's name.
        lam: The network's lambda, if it is known.
    """
    words, usual = LEGEND[name]
    values = own[name]
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
    notes = [f"Usual: {usual}."] if usual else []
    if log and (zero := _since(values <= _LEAST, epochs)):
        notes.append(f"Zero, which this axis cannot show: {zero}.")
    if gone := _since(np.isnan(values) & np.isfinite(values).any(axis=0), epochs):
        notes.append(f"Without a value, since all outputs are zero: {gone}.")
    if name == "update_ratio" and is_number(lam) and lam > 0:
        penalty = 2 * lam * own["W_rms"]
        if alone := _since(np.abs(own["W_gradient_rms"] - penalty) <= _ALIKE * penalty, epochs):
            notes.append(f"All of it is the penalty, as these weights get no gradient: {alone}.")
    note = " ".join(notes)
    ends = "; ".join(f"{series[at]} {values[-1, at]:.3g}" for at in range(layers) if np.isfinite(values[-1, at]))
    alt = f"{words} by epoch, a line for each layer. After the last epoch: {ends}."
    options: dict[str, Any] = {"percent": name in _SHARES, "cut": False, "log": log, "note": note}
    options["colours"] = [_RAMP[round(at * (len(_RAMP) - 1) / max(1, layers - 1))] for at in range(layers)]
    options["dashes"] = () if layers <= len(DASHES) else [DASHES[0]] * layers  # repeated dashes would mislead
    options["marked"] = len(epochs) <= _MARKED or min(Counter(row["s"] for row in rows).values()) == 1
    return lines(
        f"{prefix}{name}", words, f"{alt} {note}".rstrip(), rows, x="epoch", y=_axis(name), series=series, **options
    )


def _since(holds: Any, epochs: Sequence[int]) -> str:
    """Return the layers for which something (epochs, L) holds until the end, and since when; empty for none."""
    layers: dict[int, list[int]] = {}
    for at in np.flatnonzero(holds[-1]).tolist():
        first = int(np.flatnonzero(np.append(True, ~holds[:-1, at]))[-1])
        layers.setdefault(int(epochs[first]), []).append(at + 1)
    return "; ".join(
        f"{in_groups(of)} {f'from epoch {epoch} on' if epoch else 'from the start'}"
        for epoch, of in sorted(layers.items())
    )


def _axis(name: str) -> str:
    return {"dead": "share of units", "inactive": "share of outputs"}.get(name, name.replace("_", " "))
