"""The page of a run."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from xpnet.report import network_sections, score_sections, theme
from xpnet.report.blocks import (
    again_section,
    curves,
    cycle_of,
    drawn_epochs,
    environment_section,
    repeat_command,
    settings_table,
    settings_text,
    spread_of,
    thinned_note,
)
from xpnet.report.charts import dots, lines
from xpnet.report.folds_section import folds
from xpnet.report.format import SET_NAMES, is_number, number, percent
from xpnet.report.inspection import inspect
from xpnet.report.next_steps import next_steps
from xpnet.report.page import Block, Cell, Page, Panels, Section, Table, Text, cell, metric_cell, table
from xpnet.report.records import RunRecord
from xpnet.report.result_section import UNTESTED, is_untested, result
from xpnet.report.theme import is_wide
from xpnet.training.history import evenly

# Most pictures of mistakes.
_MISTAKES = 24
# Most rows of a table, and most networks in a chart.
MOST_ROWS, MOST_POINTS = 1000, 2000
# Columns of networks that may be stopped by patience, by their key in metrics.json.
_STOPS = {"epochs": "stopped after epoch", "weights": "weights of epoch"}
# What makes the training figures of an epoch worse, in words.
_HARDER = {
    "dropout": "dropout",
    "input_dropout": "dropout",
    "label_smoothing": "smoothed labels",
    "flip": "changed pictures",
    "shift": "changed pictures",
    "cutout": "changed pictures",
}


def run_page(record: RunRecord, data: str | None, made: str) -> Page:
    """Return the page of a run; `data` is the present location of its data, if it differs from the settings."""
    caption, pictures = "Settings of the run; bold where not the default", record.pictures or record.inputs is None
    settings = settings_table(record.given, caption, pictures=pictures)
    command = (record.environment or {}).get("command")
    elsewhere = f"--out {shlex.quote(str(record.path))}" not in str(command)
    given = f"The command that was given{', with paths from where it was given' if elsewhere else ''}:"
    commands = [
        *next_steps(record),
        *_to_classify(record),
        ("From its settings, to the last bit on the same machine:", repeat_command(record.path)),
        (given, command),
        ("This page:", repeat_command(record.path, "report")),
    ]
    sections = [
        *run_sections(record, data),
        Section("settings", "Settings", [settings]),
        environment_section(record.environment),
        again_section(commands),
    ]
    conclusion = record.conclusion
    notes = [note for note in record.notes if note != conclusion]
    title = record.title.replace(" BN", " batch normalisation (BN)", 1)
    return Page("run", record.label, title, sections, made, notes, conclusion)


def _to_classify(record: RunRecord) -> list[tuple[str, str | None]]:
    """Return the command that classifies new samples; nothing if there is no model, or none for its kind of data."""
    suffix = Path(str(record.given.get("data", ""))).suffix
    if record.pictures:
        return [("To classify a picture:", f"{repeat_command(record.path, 'predict')} picture.png")]
    if record.inputs is None or suffix not in (".csv", ".parquet", ".npz", ".npy"):
        return []
    return [("To classify new rows:", f"{repeat_command(record.path, 'predict')} new{suffix}")]


def run_sections(record: RunRecord, data: str | None, prefix: str = "") -> list[Section]:
    """Return the sections on a run's outcome; `prefix` makes names of charts unique on a page with several runs."""
    best, members = record.best()
    found = UNTESTED if is_untested(record) else inspect(record, data, _MISTAKES)
    known = None if isinstance(found, str) else found
    contents: list[tuple[str, str, Sequence[Block]]] = [
        ("result", "Result", result(record, best, members, known)),
        ("curves", "Curves", _curves(record, best, members, prefix)),
    ]
    if of_folds := folds(record, prefix):
        contents.append(("cross-validation", "Cross-validation", of_folds))
    if len(record.replicas) > 1:
        contents.append(("networks", "Networks", _networks(record, prefix)))
    if isinstance(found, str):
        contents.append(("classes", "Classes", [Text(found, "note")]))
    else:
        note = [Text(found.note, "note")] if found.note else []
        contents.append(("classes", "Classes", [*note, *network_sections.classes(found, best, prefix)]))
        contents.append(("probabilities", "Probabilities", score_sections.probabilities(found, prefix)))
        if features := score_sections.importance(found):
            contents.append(("importance", "Importance of features", features))
        contents.append(("mistakes", "Worst mistakes", network_sections.mistakes(found)))
    contents.append(("weights", "First-layer weights", network_sections.weights(record, members, prefix)))
    contents.append(("timing", "Timing", _timing(record, prefix)))
    return [Section(f"{prefix}{name}", title, blocks) for name, title, blocks in contents]


def _curves(record: RunRecord, best: dict[str, Any], members: list[int], prefix: str) -> list[Block]:
    why = "the highest validation accuracy" + (", by chance" if record.none_better or record.tied else "")
    words = [Text(f"The curves are those of {settings_text(best)}, {why}.")] if best else []
    if record.given.get("train_metrics", "running") == "running" and record.metrics is not None:
        words.append(Text(_as_they_train(record, members), "note"))
    if record.metrics is not None and _cost_falls(record, members):
        text = "The training cost ended below, and the training loss above, its first value, because the penalty "
        words.append(Text(f"{text}shrinks the weights: look at the loss.", "note"))
    if len(record.epochs) > (cycle := cycle_of(record)) > 0:
        again = "rises and falls in cycles" if record.settings.train.schedule == "triangular" else "falls in cycles"
        if record.settings.train.restart_factor == 1:
            again += f" of {cycle:.4g} epochs"
        words.append(Text(f"The learning rate {again}; figures may dip while it is high."))
    if len(record.known(members)) > 1:
        words.append(Text("Lines are means over the seeds, bands one standard deviation to each side."))
    return [*words, *thinned_note(record), curves(record, members, prefix) or Text("No epoch was recorded.")]


def _cost_falls(record: RunRecord, members: list[int]) -> bool:
    """Return whether the training ends with a lower cost and a higher loss than those of its first epoch."""
    loss, cost = (record.curve(f"train_{name}", members) for name in ("loss", "cost"))
    if len(loss) < 2 or not loss.shape[1]:
        return False
    return bool(cost[-1].mean() < cost[0].mean() and loss[-1].mean() > loss[0].mean())


def _as_they_train(record: RunRecord, members: list[int]) -> str:
    """Return what training figures of the curves are, and by how much they differ from those of a full pass."""
    on = dict.fromkeys(words for name, words in _HARDER.items() if record.given.get(name) not in (None, 0, "none"))
    text = "Training curves are measured during each epoch, while the network changes"
    text += f" (with {' and '.join(on)})" if on else ""
    curve, final = record.curve("train_accuracy", members), record.figures("train", "accuracy")[members]
    known = len(curve) and np.isfinite(final).any() and np.isfinite(curve[-1]).any()
    if not known or record.given.get("restore") == "best":  # the weights at the end are of another epoch
        return f"{text}."
    met, whole = (percent(float(np.nanmean(values))) for values in (curve[-1], final))
    return f"{text}, so they end at {met}, not {whole}." if met != whole else f"{text}."


def _networks(record: RunRecord, prefix: str) -> list[Block]:
    """Return a table of combinations if settings vary, a table of all networks, and a chart of the outcome."""
    varying = [name for name in record.replicas[0] if name != "seed"]
    blocks = _combinations(record, varying) if varying else []
    blocks += _outcome(record, varying, prefix)
    count = len(record.replicas)
    if varying and len(record.combinations()) == count:
        blocks.append(Text(_alone(record), "note"))
    if count > MOST_ROWS:
        blocks.append(_fewer(count, "networks"))
    if not varying and not is_untested(record):
        mean = percent(spread_of(record.figures("test", "accuracy")))
        blocks.append(Text(f"Test accuracy of all {count:,} networks: {mean}."))
    return [*blocks, _every_network(record)]


def _alone(record: RunRecord) -> str:
    """Return what to think of differences between settings that were trained once each."""
    words = "Each setting was trained once, so chance has a part in every difference: another seed gives other figures"
    samples = ((record.metrics or {}).get("samples") or {}).get("validation")
    accuracy = float(np.nanmean(record.figures("validation", "accuracy"))) if samples else float("nan")
    if np.isfinite(accuracy) and samples:
        error = percent((accuracy * (1 - accuracy) / samples) ** 0.5).removesuffix(" %")
        words += f", and the validation set alone gives an accuracy a standard error of {error} points"
    return f"{words}. --runs 3 trains each setting three times."


def _combinations(record: RunRecord, varying: list[str]) -> list[Block]:
    """Return a table of the combinations of settings, or of the best ones if there are many."""
    combinations, note = record.combinations(), []
    best = [] if record.none_better else record.best()[1]
    if len(combinations) > MOST_ROWS:
        note = [_fewer(len(combinations), "combinations of settings")]
        validation = np.nan_to_num(record.figures("validation", "accuracy"))
        combinations = sorted(combinations, key=lambda item: -float(validation[item[1]].mean()))[:MOST_ROWS]
    columns = [(which, name) for which in ("validation", "test") for name in ("accuracy", "loss")]
    rows = []
    for values, members in combinations:
        figures = [metric_cell(name, spread_of(record.figures(which, name)[members])) for which, name in columns]
        rows.append([*(cell(value, strong=members == best) for value in values.values()), len(members), *figures])
    caption = "By combination of settings; the highest validation accuracy is bold"
    if record.none_better:
        caption = "By combination of settings; none is better than guessing"
    head = [*varying, "seeds", *(f"{which} {name}" for which, name in columns)]
    return [*note, table(head, rows, caption, tall=True)]


def _every_network(record: RunRecord) -> Table:
    """Return a table with a line for each network, or for the best ones if there are many."""
    accuracies = {which: record.figures(which, "accuracy") for which in SET_NAMES}
    losses = [record.figures(which, "loss") for which in ("validation", "test")]
    order = np.arange(len(record.replicas))
    if len(order) > MOST_ROWS:
        order = np.argsort(-np.nan_to_num(accuracies["validation"], nan=-1.0), kind="stable")[:MOST_ROWS]
    # A set without any figures was not evaluated; its missing figures do not mean divergence.
    missing = {which: Cell("diverged" if np.isfinite(of_set).any() else "-") for which, of_set in accuracies.items()}
    stops = {} if record.metrics is None else dict(record.metrics.get("stopped") or {})
    stops = {name: epochs for name, epochs in stops.items() if len(epochs) == len(record.replicas)}
    rows = []
    for r in order.tolist():
        shares = [
            metric_cell("accuracy", float(of_set[r])) if np.isfinite(of_set[r]) else missing[which]
            for which, of_set in accuracies.items()
        ]
        shares += [metric_cell("loss", float(of[r]) if np.isfinite(of[r]) else None) for of in losses]
        rows.append([r, *record.replicas[r].values(), *shares, *(stops[name][r] for name in _STOPS if name in stops)])
    head = ["network", *record.replicas[0], *(f"{words} accuracy" for words in SET_NAMES.values())]
    head += ["validation loss", "test loss"]
    head += [words for name, words in _STOPS.items() if name in stops]
    return table(head, rows, "Every network", tall=True)


def _fewer(count: int, what: str) -> Text:
    """Return a note that a table shows only the best rows."""
    words = f"Of {count:,} {what} the table shows the {MOST_ROWS:,} best by validation accuracy; metrics.json has all."
    return Text(words, "note")


def _outcome(record: RunRecord, varying: list[str], prefix: str) -> list[Block]:
    """Return charts of the final accuracies against each numeric setting that varies, or against the seed."""
    sets, count = ("validation", "test"), len(record.replicas)
    some = f"{count} networks" if count <= MOST_POINTS else f"{MOST_POINTS} of {count} networks, evenly spaced,"
    panels = []
    for name in varying or ["seed"]:
        values = [row[name] for row in record.replicas]
        if not all(map(is_number, values)):
            continue
        rows = [
            {"x": float(values[r]), "y": float(accuracies[r]), "s": which, "seed": record.replicas[r]["seed"]}
            for which in sets
            for accuracies in [record.figures(which, "accuracy")]
            for r in evenly(count, MOST_POINTS).tolist()
            if np.isfinite(accuracies[r])
        ]
        if not rows:
            continue
        low, high = (percent(edge(row["y"] for row in rows)) for edge in (min, max))
        alt = (
            f"Final accuracy of {some} against {name}, a point for each on the validation "
            f"and the test set: from {low} to {high}."
        )
        label, stem = name, f"{prefix}accuracy-by-{name}"
        tips, log = {"s:N": "set", "seed:Q": "seed"}, is_wide(values)
        title = f"Accuracy by {label}"
        panels.append(dots(stem, title, alt, rows, x=label, y="accuracy", series=sets, log_x=log, tips=tips))
    words = f"The chart shows {MOST_POINTS:,} of {count:,} networks, evenly spaced."
    note = [Text(words, "note")] if count > MOST_POINTS else []
    return [*note, Panels(panels)] if panels else []


def _timing(record: RunRecord, prefix: str) -> list[Block]:
    """Return the wall time of training and evaluation by epoch."""
    if not len(record.epochs):
        return [Text("No epoch was recorded.")]
    training, evaluation = record.history["seconds_training"], record.history["seconds_evaluation"]
    series = ["training", "evaluation"]
    rows = [
        {"x": float(record.epochs[at]), "y": float(values[at]), "s": name}
        for name, values in zip(series, (training, evaluation), strict=True)
        for at in drawn_epochs(record).tolist()
    ]
    median, title = float(np.median(training)), "Seconds by epoch"
    alt = f"{title}: training has a median of {median:.3g} s, evaluation of {np.median(evaluation):.3g} s."
    # One colour and two dashes: other charts have the second colour for the validation set.
    one = theme.COLOURS[:1]
    panel = lines(f"{prefix}seconds", title, alt, rows, x="epoch", y="seconds", series=series, cut=False, colours=one)
    samples = ((record.metrics or {}).get("samples") or {}).get("train")
    times = [
        ("training time, all epochs", f"{training.sum():.2f} s"),
        ("evaluation time between epochs", f"{evaluation.sum():.2f} s"),
        ("training time of an epoch, median", f"{median:.4f} s"),
        ("training time of the fastest and the slowest epoch", f"{training.min():.4f} s, {training.max():.4f} s"),
    ]
    if samples and median > 0:
        each = f" by each of {len(record.replicas)} networks" if len(record.replicas) > 1 else ""
        speed = samples / median
        times.append(("samples a second", f"{f'{speed:,.0f}' if speed >= 100 else number(speed)}{each}"))
    return [Panels([panel]), table(["what", "time"], times, "Wall time")]
