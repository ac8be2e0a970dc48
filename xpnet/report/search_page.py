"""The page of a search: its trials, the effect of each setting, and the winner."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from xpnet.report.blocks import again_section, environment_section, settings_table, settings_text
from xpnet.report.charts import lines
from xpnet.report.format import is_number, percent
from xpnet.report.page import Block, Facts, Page, Panels, Section, Text
from xpnet.report.records import SEARCH, RunRecord, read_run
from xpnet.report.run_page import run_sections
from xpnet.report.search_chart import DRAWN, PAIRED, is_ended, search_panels
from xpnet.report.search_commands import search_commands
from xpnet.report.search_file import CURVES, read_search_result, winner_in
from xpnet.report.trial_kinds import (
    BEST,
    COMPLETE,
    DIVERGED,
    PRUNED,
    STATES,
    Trial,
    accuracy_of,
    budget_of,
    close_of,
    cycle_in,
    fate_of,
    kind_of,
    legend_of,
    marked,
    pruned_in_words,
    validation_of,
)
from xpnet.report.trials_table import ROWS, how_table, searched_table, shared_settings, trials_table
from xpnet.report.worse_ends import worse_ends
from xpnet.training.history import evenly
from xpnet.tuning.search_conclusion import of_winner, with_budget
from xpnet.utils.plural import counted

# Patterns of the curves of pruned trials and of others.
_DOTTED, _SOLID = (2, 2), (1, 0)
# Most points of a curve.
_POINTS = 200
# Standard errors to each side of an accuracy that hold it in 95 % of the cases.
_ERRORS = 1.96


def search_page(folder: Path, data: str | None, made: str) -> Page:
    """Return the page of a search folder.

    Raises:
        RunError: ``search.json`` is broken.
    """
    found = read_search_result(folder / SEARCH)
    best, budget, (close, near) = marked(found), budget_of(found), close_of(found)
    alike = close.conclusion() if close is not None and best else None
    notes = with_budget(found.get("warnings", ()), budget)
    inside = cycle.conclusion() if best and not notes and (cycle := cycle_in(found)) is not None else None
    known = inside or (None if notes else alike)
    conclusion = str((found.get("conclusion") or {}).get("text", ""))  # of an earlier version, it may be another
    conclusion = known.text if known is not None and (known is inside or not conclusion) else conclusion
    winner = winner_in(folder, found)
    record = None if winner is None else read_run(winner)
    sections = [
        Section("result", "Result", _result(found, best, record, "" if alike is None else alike.text, conclusion)),
        Section("searched", "What was searched", [searched_table(found, best)]),
        Section("settings-found", "What the settings do", _effects(found)),
        Section("trials", "Trials", _trials(found, best)),
    ]
    if curves := _curves(found, best):
        sections.append(Section("trial-curves", "Trials by epoch", curves))
    if record is not None:
        notes += [note for note in with_budget(record.notes, budget) if note not in notes]
        sections.append(Section("winner", "The winner", _winner(record, found, best, notes, conclusion)))
        of_run = run_sections(record, data, "winner-")
        sections += [Section(section.name, section.title, section.blocks, level=3) for section in of_run]
    seeds = close.more_seeds if alike is not None and close is not None else 3
    epochs = None if inside is None else int(inside.evidence["try"]["epochs"])
    commands = search_commands(folder, found, near, seeds, epochs)
    sections += [
        Section("space", "All settings", _settings(found)),
        environment_section(found.get("environment")),
        again_section(commands),
    ]
    sampler = str(found.get("sampler", "an unknown sampler"))
    drawn = "at random" if sampler == "random" else f"by {sampler}"
    subtitle = f"{counted(len(found['trials']), 'trial')} of {', '.join(found['space'])}, drawn {drawn}"
    notes = [note for note in notes if note != conclusion]
    return Page("search", folder.resolve().name, subtitle, sections, made, notes, conclusion)


def _test_detail(test: Any, record: RunRecord | None) -> str:
    """Return how exact the test accuracy of the winner is."""
    detail = "of new samples, looked at once"
    if record is None:
        return detail
    samples = ((record.metrics or {}).get("samples") or {}).get("test")
    if samples and is_number(test) and 0 < test < 1 and len(record.replicas) == 1:
        error = 100 * _ERRORS * (test * (1 - test) / samples) ** 0.5
        return f"one seed; ± {error:.1f} points (95 %) on {samples:,} samples, looked at once"
    return f"{detail}; {counted(len(record.replicas), 'seed')}"


def _result(
    found: Mapping[str, Any], best: Trial, record: RunRecord | None, alike: str, conclusion: str
) -> list[Block]:
    kinds = [kind_of(trial, {}) for trial in found["trials"]]
    names = {DIVERGED: "diverged", PRUNED: "pruned"}
    ended = [(kinds.count(kind), names.get(kind, kind)) for kind in ("complete", PRUNED, DIVERGED, *STATES[2:])]
    items = [("Trials", str(len(kinds)), ", ".join(f"{count} {name}" for count, name in ended if count))]
    if (accuracy := validation_of(best)) is not None:
        items.insert(0, ("Best validation accuracy", percent(accuracy), f"trial {best.get('trial')}"))
    if (test := (found.get("test") or {}).get("accuracy")) is not None:
        items.append(("Test accuracy of the winner", percent(test), _test_detail(test, record)))
    if (seconds := found.get("seconds")) is not None:
        items.append(("Time", f"{seconds:.1f} s", counted(found.get("rounds") or 1, "round")))
    words = "No trial ended with an accuracy, so there is no best."
    if best:
        words = f"Best settings: {settings_text(best.get('settings') or {})}."
    elif highest := found.get("best"):
        words = "No trial is better than guessing, so none is the best; the highest validation accuracy has "
        words += f"{settings_text(highest.get('settings') or {})}."
    return [Facts(items), Text(words), *([Text(alike)] if alike and alike != conclusion else [])]


def _effects(found: Mapping[str, Any]) -> list[Block]:
    """Return charts of accuracy against each setting, and over pairs of numeric settings."""
    panels, space = search_panels(found), found["space"]
    words = [text for text in (worse_ends(found), pruned_in_words(found)) if text]
    ended = sum(map(is_ended, found["trials"]))
    if not panels or ended < 2:
        none = (
            "One trial shows no effect of a setting; more trials do (--trials 20)."
            if ended == 1
            else ("No trial has figures, or no setting can be drawn; the table below has all trials.")
        )
        return [Text(" ".join([none, *words]))]
    if ended > DRAWN:
        words.append(f"Of {ended:,} trials {DRAWN:,} are drawn, evenly spaced by number, and the best.")
    if any(len(trial.get("seeds") or ()) > 1 for trial in found["trials"]):
        words.append("A point is the mean over a trial's seeds, its line one standard deviation to each side.")
    if any(kind_of(trial, {}) == DIVERGED for trial in found["trials"]):
        words.append("Trials that diverged have no accuracy; they are marked at the lower edge, at their settings.")
    if len(space) > 1:
        other = "The other setting varies" if len(space) == 2 else "The other settings vary"
        words.append(f"{other} too: trials side by side in a chart may differ for that reason.")
    if len(space) > PAIRED:
        words.append(f"Pairs of settings are not drawn, since more than {PAIRED} vary at once.")
    return [*map(Text, [" ".join(words)] if words else []), Panels(panels)]


def _trials(found: Mapping[str, Any], best: Trial) -> list[Block]:
    count = len(found["trials"])
    words = f"Shown are the {ROWS:,} best of {count:,} trials; trials.csv in the search's folder has all."
    return [*([Text(words, "note")] if count > ROWS else []), trials_table(found, best)]


def _winner(
    record: RunRecord, found: Mapping[str, Any], best: Trial, notes: Sequence[str], conclusion: str
) -> list[Block]:
    """Return what the winner's run is, and what its curves say."""
    which = "best settings" if best else "settings of the highest accuracy"
    origin = "trained again" if found.get("trained_again", True) else "as the search trained them"
    blocks: list[Block] = [Text(f"The {which}, {origin}: {record.title}. Its folder: {record.path}.")]
    said = (record.metrics or {}).get("conclusion")
    if said is not None and said["text"] not in record.notes:
        words = of_winner(said, list(found["space"]), budget=budget_of(found) is not None)
        blocks += [] if words[1:] in conclusion or words in notes else [Text(words)]
    return blocks


def _curves(found: Mapping[str, Any], best: Trial) -> list[Block]:
    """Return validation accuracy by epoch, a line for each trial; nothing if no trial has a curve."""
    trials = found["trials"]
    known = [t for t in trials if len(t.get("curve") or ()) > 1 and t.get("state") in ("complete", "pruned")]
    known = sorted(known, key=lambda t: (t.get("state") != "complete", -float(t["curve"][-1].get("accuracy") or 0)))
    if not known:
        return []
    rows: list[dict[str, Any]] = []
    for trial in known[:CURVES]:
        row = {"s": kind_of(trial, best), "d": f"trial {trial.get('trial')}, {fate_of(trial, found)}"}
        points = [trial["curve"][at] for at in evenly(len(trial["curve"]), _POINTS).tolist()]
        if (epochs := int(trial.get("epochs") or 0)) > points[-1]["epoch"]:  # where it was pruned
            points.append({"epoch": epochs, "accuracy": accuracy_of(trial)})
        known_points = [point for point in points if point.get("accuracy") is not None]
        rows += [row | {"x": float(point["epoch"]), "y": float(point["accuracy"])} for point in known_points]
    order = [PRUNED, COMPLETE, BEST]  # drawn last, above the others
    rows.sort(key=lambda row: order.index(row["s"]) if row["s"] in order else -1)
    series, colours, _ = legend_of([row["s"] for row in rows])
    title = "Validation accuracy by epoch, a line for each trial"
    title += f" (the {CURVES} best of {len(trials)})" if len(known) >= CURVES else ""
    panel = lines(
        "trial-curves",
        title,
        f"{title}; the highest is {percent(max(row['y'] for row in rows))}.",
        rows,
        x="epoch",
        y="validation accuracy",
        series=series,
        percent=True,
        wide=True,
        detail="trial",
        colours=colours,
        bold=BEST,
        dashes=[_DOTTED if kind == PRUNED else _SOLID for kind in series],
    )
    if found.get("curve_points") is None and all(len(trial["curve"]) <= _POINTS for trial in known):
        return [Panels([panel])]
    words = "Of long curves only some points are drawn, evenly spaced; the search's storage has every epoch."
    return [Text(words, "note"), Panels([panel])]


def _settings(found: Mapping[str, Any]) -> list[Block]:
    blocks: list[Block] = [*how_table(found)]
    if isinstance(found.get("settings"), dict):
        caption = "Settings that all trials share; bold where not the default"
        blocks.append(settings_table(shared_settings(found), caption))
    return blocks
