"""The figures of a search, for its page and its folder: accuracy against each setting, and over two of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import combinations
from typing import Any

import numpy as np

from xpnet.report.blocks import GREEK
from xpnet.report.charts import dots, is_wide, surface
from xpnet.report.figure import Panel
from xpnet.report.format import percent
from xpnet.training.guessing import none_better
from xpnet.training.history import evenly

Trial = Mapping[str, Any]
STATES = ("complete", "pruned", "failed")
WINNER = "the winner"
# Cells to each side of the field between trials, trials that make one, pairs of settings that get one.
_CELLS, _ENOUGH, _PAIRS = 26, 6, 6
# Trials that are drawn; more would take a chart's points on top of each other, and a page of many megabytes.
DRAWN = 2000


def search_panels(found: Mapping[str, Any]) -> list[Panel]:
    """Return the figures of a search; none where no setting of numbers varies.

    Args:
        found: What ``search.json`` holds.
    """
    space, best = found["space"], marked(found)
    trials = _drawn(found["trials"], best)
    numbers = [name for name in space if _numeric(trials, name)]
    rounds = int(found.get("rounds") or 1)
    panels = [_effect(trials, name, space[name], rounds, best) for name in numbers]
    panels += [_field(trials, pair, space) for pair in list(combinations(numbers, 2))[:_PAIRS]]
    return [panel for panel in panels if panel is not None]


def marked(found: Mapping[str, Any]) -> Trial:
    """Return the trial that stands out as the best; an empty one if no trial ended or is better than guessing."""
    ended = [t for t in found["trials"] if t.get("state") == "complete" and _mean(validation_of(t)) is not None]
    if none_better(found.get("guessing"), [trial["trial"] for trial in ended]):
        return {}
    return found.get("best") or {}


def _drawn(trials: Sequence[Trial], best: Mapping[str, Any]) -> Sequence[Trial]:
    """Return the trials that are drawn: of many those that are evenly spaced, and the best."""
    if len(trials) <= DRAWN:
        return trials
    ended = [trial for trial in trials if mean_of(trial) is not None]
    some = [ended[at] for at in evenly(len(ended), DRAWN).tolist()]
    number = best.get("trial")
    if any(trial.get("trial") == number for trial in some):
        return some
    return [*some, *(trial for trial in ended if best and trial.get("trial") == number)]


def validation_of(trial: Trial, name: str = "accuracy") -> Any:
    """Return a trial's figure as metrics have it, or None."""
    return ((trial.get("validation") or {}).get(name)) if isinstance(trial.get("validation"), dict) else None


def round_of(trial: Trial) -> int:
    """Return a trial's round, which people count from 1 and files from 0."""
    return int(trial.get("round") or 0) + 1


def mean_of(trial: Trial) -> float | None:
    """Return what a trial is judged by: its score, in which a seed that diverged counts as 0, or its mean."""
    if isinstance(trial.get("score"), (int, float)):
        return float(trial["score"])
    return _mean(validation_of(trial))


def _mean(value: Any) -> float | None:
    mean = value.get("mean") if isinstance(value, dict) else value
    return None if mean is None or not np.isfinite(mean) else float(mean)


def _numeric(trials: Sequence[Trial], name: str) -> bool:
    values = [trial["settings"].get(name) for trial in trials]
    return bool(values) and all(isinstance(v, (int, float)) and not isinstance(v, bool) for v in values)


def _effect(
    trials: Sequence[Trial], name: str, draw: Mapping[str, Any], rounds: int, best: Mapping[str, Any]
) -> Panel | None:
    """Return accuracy against one setting: trials by round, those that were pruned, and the winner."""
    rows: list[dict[str, Any]] = []
    for trial in trials:
        mean, value = mean_of(trial), validation_of(trial)
        if mean is None:
            continue
        std = value.get("std") if isinstance(value, dict) else None
        state = str(trial.get("state"))
        if rounds > 1 and trial.get("state") == "complete":
            state = f"round {round_of(trial)}"
        if best and trial.get("trial") == best.get("trial"):
            state = WINNER
        row: dict[str, Any] = {"x": float(trial["settings"][name]), "y": mean, "s": state, "trial": trial.get("trial")}
        rows.append(row | ({"l": mean - std, "h": mean + std} if std else {}))
    if not rows:
        return None
    rows.sort(key=lambda row: row["s"] == WINNER)  # drawn last, above the others
    top = max(rows, key=lambda row: (row["s"] == WINNER, float(row["y"])))
    label = GREEK.get(name, name)
    alt = (
        f"Validation accuracy of {len(rows)} trials against {name}, from {min(r['x'] for r in rows):.3g} to "
        f"{max(r['x'] for r in rows):.3g}; the highest, {percent(top['y'])}, is at {top['x']:.3g}."
    )
    found = {str(row["s"]) for row in rows}
    last = [state for state in (*STATES, WINNER) if state in found]
    series = [*sorted(found - set(last)), *last]
    tips = {"trial:Q": "trial", "s:N": "state"}
    log = _is_log(draw, [row["x"] for row in rows])
    stem = f"accuracy-by-{_safe(name)}"
    return dots(
        stem,
        f"Validation accuracy by {label}",
        alt,
        rows,
        x=label,
        y="validation accuracy",
        series=series,
        legend="state",
        log_x=log,
        tips=tips,
    )


def _is_log(draw: Mapping[str, Any], values: Sequence[float]) -> bool:
    if min(values) <= 0:
        return False
    return "log" in str(draw.get("draw", "")) or is_wide(values)


def _field(trials: Sequence[Trial], pair: tuple[str, str], space: Mapping[str, Mapping[str, Any]]) -> Panel | None:
    """Return the trials by two settings, with what lies between them interpolated on the axes as they are drawn."""
    from scipy.interpolate import griddata
    from scipy.spatial import QhullError

    points = [
        (float(t["settings"][pair[0]]), float(t["settings"][pair[1]]), mean)
        for t in trials
        if (mean := mean_of(t)) is not None
    ]
    if len({p[:2] for p in points}) < 3:
        return None
    at = np.array(points)
    log = (_is_log(space[pair[0]], at[:, 0].tolist()), _is_log(space[pair[1]], at[:, 1].tolist()))
    rows: list[dict[str, Any]] = [{"kind": "trial", "x": x, "y": y, "v": v} for x, y, v in points]
    if len(points) >= _ENOUGH:
        drawn = np.stack([np.log10(at[:, i]) if log[i] else at[:, i] for i in (0, 1)], axis=1)
        edges = [np.linspace(drawn[:, i].min(), drawn[:, i].max(), _CELLS + 1) for i in (0, 1)]
        middles = [(edge[1:] + edge[:-1]) / 2 for edge in edges]
        across, up = np.meshgrid(*middles, indexing="ij")
        try:
            between = griddata(drawn, at[:, 2], (across, up), method="linear", rescale=True)
        except (QhullError, ValueError):  # all on one line
            between = np.full(across.shape, np.nan)
        real = [10**edge if log[i] else edge for i, edge in enumerate(edges)]
        rows += [
            {
                "kind": "between",
                "x": float(real[0][i]),
                "x2": float(real[0][i + 1]),
                "y": float(real[1][j]),
                "y2": float(real[1][j + 1]),
                "v": float(between[i, j]),
            }
            for i, j in zip(*np.nonzero(np.isfinite(between)), strict=True)
        ]
    best = max(points, key=lambda p: p[2])
    labels = [GREEK.get(name, name) for name in pair]
    alt = (
        f"Validation accuracy of {len(points)} trials by {pair[0]} (across) and {pair[1]} (up), interpolated between "
        f"them; the highest, {percent(best[2])}, is at {pair[0]} {best[0]:.3g} and {pair[1]} {best[1]:.3g}."
    )
    title = f"Validation accuracy by {labels[0]} and {labels[1]}"
    return surface(
        f"accuracy-by-{_safe(pair[0])}-and-{_safe(pair[1])}",
        title,
        alt,
        rows,
        x=labels[0],
        y=labels[1],
        log=log,
        value="validation accuracy",
    )


def _safe(name: str) -> str:
    return "".join(c if c.isalnum() else "-" for c in name)
