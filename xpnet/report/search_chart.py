"""The figures of a search, for its page and its folder: accuracy against each setting, and over two of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import combinations
from typing import Any

import numpy as np

from xpnet.report.figure import Panel
from xpnet.report.format import file_stem, is_number, percent
from xpnet.report.theme import is_wide
from xpnet.report.trial_charts import by_setting, surface
from xpnet.report.trial_kinds import (
    BEST,
    COMPLETE,
    DIVERGED,
    PRUNED,
    Trial,
    accuracy_of,
    fate_of,
    is_same,
    kind_of,
    labels_of,
    marked,
    mean_of,
    validation_of,
)
from xpnet.training.history import evenly

# Cells along each side of an interpolated field; fewest complete trials for a field; most settings whose pairs are
# drawn; most values of a setting that is no number.
_CELLS, _ENOUGH, PAIRED, _VALUES = 26, 6, 4, 12
# Most trials to draw: more points would cover each other, and make a page of many megabytes.
DRAWN = 2000


def search_panels(found: Mapping[str, Any]) -> list[Panel]:
    """Return the figures of a search; empty if no trial has figures.

    Args:
        found: The content of ``search.json``.
    """
    space, best = found["space"], marked(found)
    trials = _drawn(found["trials"], best)
    if not trials:
        return []
    known = {name: [trial["settings"].get(name) for trial in trials] for name in space}
    known = {name: values for name, values in known.items() if len(trials) == 1 or len(set(map(str, values))) > 1}
    numbers = [name for name, values in known.items() if all(map(is_number, values))]
    texts = [name for name, values in known.items() if _are_names(values)]
    panels = [_effect(trials, name, found, best) for name in space if name in (*numbers, *texts)]
    pairs = list(combinations(numbers, 2)) if len(numbers) <= PAIRED else []
    fields = [_field(trials, pair, found, best) for pair in pairs]
    return panels + [panel for panel in fields if panel is not None]


def is_ended(trial: Trial) -> bool:
    """Return whether a trial is drawn: it has an accuracy, or its networks diverged."""
    return trial.get("state") in ("complete", "pruned")


def _are_names(values: Sequence[Any]) -> bool:
    return all(isinstance(value, str) for value in values) and len(set(values)) <= _VALUES


def _drawn(trials: Sequence[Trial], best: Trial) -> Sequence[Trial]:
    """Return the trials to draw: all that ended, or an evenly spaced sample of many, with the best."""
    ended = [trial for trial in trials if is_ended(trial)]
    if len(ended) <= DRAWN:
        return ended
    some = [ended[at] for at in evenly(len(ended), DRAWN).tolist()]
    if any(is_same(trial, best) for trial in some):
        return some
    return [*some, *(trial for trial in ended if is_same(trial, best))]


def _effect(trials: Sequence[Trial], name: str, found: Mapping[str, Any], best: Trial) -> Panel:
    """Return a chart of accuracy against one setting, with a mark for each kind of trials."""
    rows: list[dict[str, Any]] = []
    for trial, label in zip(trials, labels_of(trials, best, int(found.get("rounds") or 1)), strict=True):
        mean, value = (None if accuracy_of(trial) is None else mean_of(trial)), validation_of(trial)
        std = value.get("std") if isinstance(value, dict) else None
        row = {"x": trial["settings"][name], "y": mean, "s": label, "trial": trial.get("trial")}
        row |= {"fate": fate_of(trial, found)}
        rows.append(row | ({"l": mean - std, "h": mean + std} if std and mean is not None else {}))
    rows.sort(key=lambda row: (row["s"] == BEST, row["s"] != PRUNED))  # drawn last, above the others
    xs = [row["x"] for row in rows]
    is_text = not all(map(is_number, xs))
    between = ", ".join(dict.fromkeys(map(str, xs))) if is_text else f"from {min(xs):.3g} to {max(xs):.3g}"
    alt = f"Validation accuracy of {len(rows)} trials against {name}, {between}"
    if full := [row for row in rows if row["s"] == BEST or row["s"].startswith(COMPLETE)]:
        top = max(full, key=lambda row: (row["s"] == BEST, row["y"]))
        value = top["x"] if is_text else f"{top['x']:.3g}"
        alt += f"; the highest of {len(full)} complete trials, {percent(top['y'])}, is at {value}"
    return by_setting(
        f"accuracy-by-{file_stem(name)}",
        f"Validation accuracy by {name}",
        f"{alt}.",
        rows,
        x=name,
        y="validation accuracy",
        log_x=not is_text and _is_log(found["space"][name], xs),
        order=found["space"][name].get("values") or sorted(set(map(str, xs))),
    )


def _is_log(draw: Mapping[str, Any], values: Sequence[float]) -> bool:
    return min(values) > 0 and ("log" in str(draw.get("draw", "")) or is_wide(values))


def _field(trials: Sequence[Trial], pair: tuple[str, str], found: Mapping[str, Any], best: Trial) -> Panel | None:
    """Return a chart of the trials by two settings; complete ones are coloured by accuracy, others only marked.

    If these are the only settings that vary, the field between complete trials is interpolated.
    """
    space = found["space"]
    places = np.array([[float(trial["settings"][name]) for name in pair] for trial in trials])
    log = (_is_log(space[pair[0]], places[:, 0].tolist()), _is_log(space[pair[1]], places[:, 1].tolist()))
    rows: list[dict[str, Any]] = []
    for trial, (x, y) in zip(trials, places.tolist(), strict=True):
        kind = kind_of(trial, best)
        is_full = kind in (BEST, COMPLETE)
        row = {"x": x, "y": y, "v": mean_of(trial) if is_full else None, "trial": trial.get("trial")}
        row |= {"fate": fate_of(trial, found)}
        rows += [row | {"kind": "trial"}] if is_full else []
        rows += [row | {"kind": kind}] if kind in (BEST, PRUNED, DIVERGED) else []
    full = [row for row in rows if row["kind"] == "trial"]
    if not full or len({(x, y) for x, y in places.tolist()}) < 3:
        return None
    if len(full) >= _ENOUGH and len(space) == 2:
        rows += _between(np.array([[row["x"], row["y"], row["v"]] for row in full]), log)
    top = max(full, key=lambda row: float(row["v"]))
    alt = (
        f"Validation accuracy of {len(full)} complete trials by {pair[0]} (across) and {pair[1]} (up); the highest, "
        f"{percent(top['v'])}, is at {pair[0]} {top['x']:.3g} and {pair[1]} {top['y']:.3g}."
    )
    name, title = "-and-".join(map(file_stem, pair)), f"Validation accuracy by {pair[0]} and {pair[1]}"
    return surface(f"accuracy-by-{name}", title, alt, rows, x=pair[0], y=pair[1], log=log, value="validation accuracy")


def _between(points: Any, log: tuple[bool, bool]) -> list[dict[str, Any]]:
    """Return the cells between points (n, 3) of x, y and value, linear on the axes as they are drawn."""
    from scipy.interpolate import griddata
    from scipy.spatial import QhullError

    drawn = np.stack([np.log10(points[:, i]) if log[i] else points[:, i] for i in (0, 1)], axis=1)
    edges = [np.linspace(column.min(), column.max(), _CELLS + 1) for column in drawn.T]
    across, up = np.meshgrid(*((edge[1:] + edge[:-1]) / 2 for edge in edges), indexing="ij")
    try:
        values = griddata(drawn, points[:, 2], (across, up), method="linear", rescale=True)
    except (QhullError, ValueError):  # all on one line
        return []
    x, y = ((10**edge if is_log else edge).tolist() for edge, is_log in zip(edges, log, strict=True))
    return [
        {"kind": "between", "x": x[i], "x2": x[i + 1], "y": y[j], "y2": y[j + 1], "v": float(values[i, j])}
        for i, j in zip(*np.nonzero(np.isfinite(values)), strict=True)
    ]
