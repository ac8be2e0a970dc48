"""The figures of a search, for its page and its folder: accuracy against each setting, and over two of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import combinations
from typing import Any

import numpy as np

from xpnet.report.charts import dots, surface
from xpnet.report.figure import Panel
from xpnet.report.format import file_stem, is_number, percent, setting_label
from xpnet.report.theme import is_wide
from xpnet.training.chance_level import none_better
from xpnet.training.history import evenly

Trial = Mapping[str, Any]
STATES = ("complete", "pruned", "failed")
_WINNER = "the winner"
# Cells along each side of an interpolated field; fewest trials for a field; most pairs of settings with a field.
_CELLS, _ENOUGH, _PAIRS = 26, 6, 6
# Most trials to draw: more points would cover each other, and make a page of many megabytes.
DRAWN = 2000


def search_panels(found: Mapping[str, Any]) -> list[Panel]:
    """Return the figures of a search; empty if no numeric setting varies.

    Args:
        found: The content of ``search.json``.
    """
    space, best = found["space"], marked(found)
    trials = _drawn(found["trials"], best)
    numbers = [name for name in space if trials and all(is_number(trial["settings"].get(name)) for trial in trials)]
    trials = [trial for trial in trials if mean_of(trial) is not None]
    if not trials:
        return []
    rounds = int(found.get("rounds") or 1)
    panels = [_effect(trials, name, space[name], rounds, best) for name in numbers]
    fields = [_field(trials, pair, space) for pair in list(combinations(numbers, 2))[:_PAIRS]]
    return panels + [panel for panel in fields if panel is not None]


def marked(found: Mapping[str, Any]) -> Trial:
    """Return the trial to highlight as the best; an empty one if no trial ended or none is better than guessing."""
    ended = [t for t in found["trials"] if t.get("state") == "complete" and _mean(validation_of(t)) is not None]
    if none_better(found.get("guessing"), [trial["trial"] for trial in ended]):
        return {}
    return found.get("best") or {}


def is_same(trial: Trial, best: Trial) -> bool:
    """Return whether a trial is the highlighted one; never True if `best` is empty."""
    return bool(best) and trial.get("trial") == best.get("trial")


def _drawn(trials: Sequence[Trial], best: Trial) -> Sequence[Trial]:
    """Return the trials to draw: all, or an evenly spaced sample of many, with the best."""
    if len(trials) <= DRAWN:
        return trials
    ended = [trial for trial in trials if mean_of(trial) is not None]
    some = [ended[at] for at in evenly(len(ended), DRAWN).tolist()]
    if any(is_same(trial, best) for trial in some):
        return some
    return [*some, *(trial for trial in ended if is_same(trial, best))]


def validation_of(trial: Trial, name: str = "accuracy") -> Any:
    """Return a trial's validation figure in the form of the metrics, or None."""
    return (trial.get("validation") or {}).get(name)


def round_of(trial: Trial) -> int:
    """Return a trial's round, counted from 1 for readers; files count from 0."""
    return int(trial.get("round") or 0) + 1


def mean_of(trial: Trial) -> float | None:
    """Return the accuracy that ranks a trial: its score, in which a seed that diverged counts as 0, or its mean."""
    score = trial.get("score")
    return _mean(score if is_number(score) else validation_of(trial))


def _mean(value: Any) -> float | None:
    mean = value.get("mean") if isinstance(value, dict) else value
    return None if mean is None or not np.isfinite(mean) else float(mean)


def _effect(trials: Sequence[Trial], name: str, draw: Mapping[str, Any], rounds: int, best: Trial) -> Panel:
    """Return a chart of accuracy against one setting: trials by round, pruned trials, and the winner."""
    rows: list[dict[str, Any]] = []
    for trial in trials:
        mean, value, state = mean_of(trial) or 0.0, validation_of(trial), str(trial.get("state"))
        std = value.get("std") if isinstance(value, dict) else None
        if is_same(trial, best):
            state = _WINNER
        elif rounds > 1 and state == "complete":
            state = f"round {round_of(trial)}"
        row: dict[str, Any] = {"x": float(trial["settings"][name]), "y": mean, "s": state, "trial": trial.get("trial")}
        rows.append(row | ({"l": mean - std, "h": mean + std} if std else {}))
    rows.sort(key=lambda row: row["s"] == _WINNER)  # drawn last, above the others
    top = max(rows, key=lambda row: (row["s"] == _WINNER, float(row["y"])))
    label, xs = setting_label(name), [row["x"] for row in rows]
    alt = (
        f"Validation accuracy of {len(rows)} trials against {name}, from {min(xs):.3g} to {max(xs):.3g}; the highest, "
        f"{percent(top['y'])}, is at {top['x']:.3g}."
    )
    states = {str(row["s"]) for row in rows}
    last = [state for state in (*STATES, _WINNER) if state in states]
    return dots(
        f"accuracy-by-{file_stem(name)}",
        f"Validation accuracy by {label}",
        alt,
        rows,
        x=label,
        y="validation accuracy",
        series=[*sorted(states - set(last)), *last],
        legend="state",
        log_x=_is_log(draw, xs),
        tips={"trial:Q": "trial", "s:N": "state"},
    )


def _is_log(draw: Mapping[str, Any], values: Sequence[float]) -> bool:
    return min(values) > 0 and ("log" in str(draw.get("draw", "")) or is_wide(values))


def _field(trials: Sequence[Trial], pair: tuple[str, str], space: Mapping[str, Mapping[str, Any]]) -> Panel | None:
    """Return a chart of the trials by two settings, over a field that is interpolated between them."""
    points = np.array([[*(t["settings"][name] for name in pair), mean_of(t)] for t in trials], float)
    if len({(x, y) for x, y, _ in points.tolist()}) < 3:
        return None
    log = (_is_log(space[pair[0]], points[:, 0].tolist()), _is_log(space[pair[1]], points[:, 1].tolist()))
    rows: list[dict[str, Any]] = [{"kind": "trial", "x": x, "y": y, "v": v} for x, y, v in points.tolist()]
    if len(points) >= _ENOUGH:
        rows += _between(points, log)
    x, y, accuracy = points[points[:, 2].argmax()]
    alt = (
        f"Validation accuracy of {len(points)} trials by {pair[0]} (across) and {pair[1]} (up), interpolated between "
        f"them; the highest, {percent(accuracy)}, is at {pair[0]} {x:.3g} and {pair[1]} {y:.3g}."
    )
    across, up = map(setting_label, pair)
    name, title = "-and-".join(map(file_stem, pair)), f"Validation accuracy by {across} and {up}"
    return surface(f"accuracy-by-{name}", title, alt, rows, x=across, y=up, log=log, value="validation accuracy")


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
