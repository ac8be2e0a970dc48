"""The live page of a search: its trials as they come in, the best so far, and the workers, read from its folder."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from xpnet.errors import RunError
from xpnet.report.format import is_number, percent, setting_label
from xpnet.report.live_charts import chart, live_page
from xpnet.report.search_file import read_search_result
from xpnet.report.theme import is_wide
from xpnet.report.trial_kinds import Trial, accuracy_of, mean_of, validation_of
from xpnet.training.chance_level import none_better
from xpnet.training.history import evenly
from xpnet.tuning.leases import LeaseWatch, has_ended
from xpnet.utils.plural import counted

RESULT = "search.json"
# Most trials that are drawn, and in the table; most settings with a chart.
_DRAWN, _ROWS, _CHARTS = 1000, 100, 6
_ENDED = ("complete", "pruned", "failed")
Once = Callable[[str, Path, Callable[[Path], Any]], Any]


def search_figures(folder: Path, once: Once) -> dict[str, Any]:
    """Return what the page of a search draws.

    Args:
        folder: The search's folder.
        once: Calls a function of the folder, if files in it have changed since, and returns its result.

    Raises:
        RunError: ``search.json`` is damaged.
    """
    title = folder.resolve().name
    if not (folder / RESULT).is_file():
        return live_page("search", title, "no trial has begun yet")
    shown = once("search", folder, _shown)
    found, workers = shown["found"], _workers(shown["found"])
    ended = found.get("interrupted") is False
    return live_page(
        "search",
        f"{title}: {', '.join(map(setting_label, found['space']))}",
        _state(folder, found, workers),
        ended=ended,
        done=shown["done"],
        of=len(found["trials"]),
        conclusion=(found.get("conclusion") or {}).get("text", ""),
        charts=shown["charts"],
        tables=[*([] if ended else [_workers_table(found, workers)]), *shown["tables"]],
    )


def search_summary(folder: Path, once: Once) -> dict[str, str]:
    """Return state, trials and best accuracy of a search, for an index of many; see :func:`search_figures`."""
    if not (folder / RESULT).is_file():
        return {"state": "no trial has begun yet", "trials": "-", "best": "-"}
    try:
        shown = once("search", folder, _shown)
    except RunError as error:
        return {"state": f"cannot be read: {error}", "trials": "-", "best": "-"}
    found, best = shown["found"], _best(shown["found"])
    return {
        "state": _state(folder, found, _workers(found)).partition(",")[0],
        "trials": f"{shown['done']} of {len(found['trials'])}",
        "best": "-" if best is None else percent(validation_of(best)),
    }


def _shown(folder: Path) -> dict[str, Any]:
    """Return all that depends on ``search.json`` alone."""
    found = read_search_result(folder / RESULT)
    trials, best = found["trials"], _best(found)
    scored = [trial for trial in trials if accuracy_of(trial) is not None]
    drawn = [scored[at] for at in evenly(len(scored), _DRAWN).tolist()]
    return {
        "found": found,
        "done": sum(trial["state"] in _ENDED for trial in trials),
        "charts": _charts(drawn, list(found["space"])),
        "tables": [_trials_table(trials, list(found["space"]), best)],
    }


def _best(found: Mapping[str, Any]) -> Trial | None:
    """Return the best trial so far; None if there is none, or none is better than guessing."""
    ended = [trial["trial"] for trial in found["trials"] if trial["state"] == "complete"]
    return None if none_better(found.get("guessing"), ended) else found.get("best")


def _charts(trials: Sequence[Trial], names: Sequence[str]) -> list[dict[str, Any]]:
    """Return charts of the accuracy of trials with one: by their number, and by each setting that is a number."""
    if not trials:
        return []
    scores = [mean_of(trial) or 0.0 for trial in trials]
    numbers = [trial["trial"] for trial in trials]
    complete = [score if trial["state"] == "complete" else 0.0 for trial, score in zip(trials, scores, strict=True)]
    so_far = [float(value) or None for value in np.maximum.accumulate(complete)]
    curves = {**_by_state(trials, scores), "best so far": so_far}
    title = "Validation accuracy of each trial, and the best so far"
    charts = [chart(title, numbers, curves, across="trial", joined=["best so far"], percent=True)]
    for name in names:
        values = [trial["settings"].get(name) for trial in trials]
        if not all(map(is_number, values)) or len(charts) > _CHARTS:
            continue
        title = f"Validation accuracy by {setting_label(name)}"
        how: dict[str, Any] = {"joined": [], "percent": True, "log_x": is_wide(values)}
        charts.append(chart(title, values, _by_state(trials, scores), across=setting_label(name), **how))
    return charts


def _by_state(trials: Sequence[Trial], scores: Sequence[float]) -> dict[str, list[float | None]]:
    states = [state for state in _ENDED if any(trial["state"] == state for trial in trials)]
    return {
        state: [score if trial["state"] == state else None for trial, score in zip(trials, scores, strict=True)]
        for state in states
    }


def _trials_table(trials: Sequence[Trial], names: Sequence[str], best: Trial | None) -> dict[str, Any]:
    """Return the trials as a table: those that are trained, then the others, the best first."""
    order = {"running": 0, "complete": 1, "pruned": 2, "waiting": 3}
    ranked = sorted(trials, key=lambda t: (order.get(t["state"], 4), -(mean_of(t) or 0.0), t["trial"]))[:_ROWS]
    rows = []
    for trial in ranked:
        is_best = best is not None and trial["trial"] == best["trial"]
        accuracy = validation_of(trial)
        values = [_value(trial["settings"].get(name)) for name in names]
        state = "best so far" if is_best else trial["state"]
        rows.append([str(trial["trial"]), state, "-" if accuracy is None else percent(accuracy), *values])
    head = ["trial", "state", "validation accuracy", *map(setting_label, names)]
    shown = "Trials" if len(ranked) == len(trials) else f"{len(ranked)} of {len(trials):,} trials"
    caption = f"{shown}: those that are trained, then the others, the best first"
    return {"caption": caption, "head": head, "rows": [[{"text": text} for text in row] for row in rows]}


def _value(value: Any) -> str:
    if value is None:
        return "-"
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _workers(found: Mapping[str, Any]) -> list[tuple[Mapping[str, Any], bool | None]]:
    """Return the workers of ``search.json``, each with whether it runs; None on another machine, where nobody sees."""
    here = LeaseWatch().place
    known = []
    for worker in found.get("workers", ()):
        seen = bool(here) and worker.get("place") == here
        known.append((worker, not has_ended(worker, here) if seen else None))
    return known


def _state(folder: Path, found: Mapping[str, Any], workers: Sequence[tuple[Any, bool | None]]) -> str:
    trials = found["trials"]
    counts = {state: sum(trial["state"] == state for trial in trials) for state in (*_ENDED, "running", "waiting")}
    words = ", ".join(f"{count} {state}" for state, count in counts.items() if count)
    if (interrupted := found.get("interrupted")) is not None:
        return f"{'stopped' if interrupted else 'ended'}, {words}"
    if workers and all(runs is False for _, runs in workers):
        return f"nobody is at work, {words}; xpnet search --resume {folder} goes on"
    last = max((trial.get("round", 0) for trial in trials), default=0) + 1 >= (found.get("rounds") or 1)
    if last and not (counts["running"] or counts["waiting"]):
        words += "; the winner is being tested"
    return f"searching, {words}; {counted(sum(runs is not False for _, runs in workers), 'worker')}"


def _workers_table(found: Mapping[str, Any], workers: Sequence[tuple[Any, bool | None]]) -> dict[str, Any]:
    trials: dict[str, list[str]] = {}
    for trial in found["trials"]:
        if trial["state"] == "running":
            trials.setdefault(str(trial.get("worker") or ""), []).append(str(trial["trial"]))
    rows = []
    for worker, runs in workers:
        own = trials.get(str(worker["worker"]), [])
        if runs is None:
            words = "on another machine, from where only its results are seen"
        else:
            words = ("at work" if own else "waits") if runs else "has ended; others train its trials again"
        listed = ", ".join(own[:10]) + (f" and {len(own) - 10} more" if len(own) > 10 else "")
        rows.append([{"text": text} for text in (str(worker["worker"]), str(worker.get("device", "")), words, listed)])
    return {"caption": "Workers", "head": ["worker", "device", "state", "trains trials"], "rows": rows}
