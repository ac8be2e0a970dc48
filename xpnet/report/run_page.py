"""The page of a run."""

from __future__ import annotations

from typing import Any

import numpy as np

from xpnet.report.blocks import (
    GREEK,
    again_section,
    curves,
    drawn,
    environment_section,
    figure,
    in_words,
    plain,
    repeat_command,
    settings_table,
    share,
    spread_of,
    thinned_note,
)
from xpnet.report.charts import dots, is_wide, lines, matrix
from xpnet.report.format import number, percent
from xpnet.report.inspection import Inspection, inspect
from xpnet.report.page import Block, Cell, Facts, Gallery, Page, Panels, Picture, Section, Table, Text
from xpnet.report.records import RunRecord
from xpnet.report.weights import weights
from xpnet.training.history import evenly
from xpnet.utils.plural import counted

# Pictures of mistakes.
_MISTAKES = 24
# Rows of a table, and points of a kind in a chart.
_ROWS, _POINTS = 1000, 2000
UNTESTED = "The test set was not looked at in this run."


def run_page(record: RunRecord, data: str | None, made: str) -> Page:
    """Return the page of a run; `data` is where its data is now, if not where the run says."""
    sections = run_sections(record, data)
    sections += [
        Section(
            "settings", "Settings", [settings_table(record.given, "Settings of the run; bold where not the default")]
        ),
        environment_section(record.environment),
        again_section(
            [
                ("From its settings, to the last bit on the same machine:", repeat_command(record.path)),
                ("The command that was given:", (record.environment or {}).get("command")),
                ("This page:", repeat_command(record.path, "report")),
            ]
        ),
    ]
    return Page("run", record.label, record.title, sections, made, record.notes)


def run_sections(record: RunRecord, data: str | None, prefix: str = "") -> list[Section]:
    """Return what there is to tell of a run's outcome; names begin with `prefix`, where a page has several."""
    best, members = record.best()
    sections = [Section(f"{prefix}result", "Result", _result(record, best, members))]
    shown = curves(record, members, prefix)
    why = "the highest validation accuracy, by chance" if record.none_better else "the best by validation accuracy"
    words = f"The curves are those of {in_words(best)}, {why}." if best else ""
    blocks: list[Block] = [*([Text(words)] if words else []), *thinned_note(record)]
    blocks += [shown] if shown else [Text("No epoch was recorded.")]
    sections.append(Section(f"{prefix}curves", "Curves", blocks))
    if len(record.replicas) > 1:
        sections.append(Section(f"{prefix}networks", "Networks", _networks(record, prefix)))
    untested = _is_untested(record)
    found = UNTESTED if untested else inspect(record, data, _MISTAKES)
    if isinstance(found, str):
        sections.append(Section(f"{prefix}classes", "Classes", [Text(found, "note")]))
    else:
        note: list[Block] = [Text(found.note, "note")] if found.note else []
        sections.append(Section(f"{prefix}classes", "Classes", [*note, *_classes(found, best, prefix)]))
        sections.append(Section(f"{prefix}mistakes", "Worst mistakes", _mistakes(found)))
    sections.append(Section(f"{prefix}weights", "First-layer weights", weights(record, members, prefix)))
    sections.append(Section(f"{prefix}timing", "Timing", _timing(record, prefix)))
    return sections


def _is_untested(record: RunRecord) -> bool:
    """Return whether a run has figures of its validation set, and none of its test set: nobody has looked at it."""
    validation, test = (record.figures(which, "accuracy") for which in ("validation", "test"))
    return bool(np.isfinite(validation).any() and not np.isfinite(test).any())


def _result(record: RunRecord, best: dict[str, Any], members: list[int]) -> list[Block]:
    if record.metrics is None:
        return [Text("There are no final figures, since the run did not end.")]
    figures = {
        which: {n: spread_of(record.figures(which, n)[members]) for n in ("accuracy", "loss", "cost")}
        for which in ("train", "validation", "test")
    }
    several = f"mean and standard deviation of {len(members)} seeds" if len(members) > 1 else ""
    metrics = record.metrics
    seconds = metrics.get("seconds") or {}
    facts = Facts(
        [
            ("Test accuracy", "-", UNTESTED)
            if _is_untested(record)
            else ("Test accuracy", percent(figures["test"]["accuracy"]), several),
            ("Validation accuracy", percent(figures["validation"]["accuracy"]), several),
            ("Training accuracy", percent(figures["train"]["accuracy"]), several),
            (
                "Training time",
                f"{seconds.get('training', 0.0):.1f} s",
                f"on {metrics.get('device', 'an unknown device')}",
            ),
            ("Epochs", str(metrics.get("epochs", "")), counted(metrics.get("steps", 0), "step")),
        ]
    )
    rows = [
        [
            Cell(words),
            share(figures[w]["accuracy"]),
            figure(figures[w]["loss"]),
            figure(figures[w]["cost"]),
            plain((metrics.get("samples") or {}).get(w)),
        ]
        for w, words in (("train", "training"), ("validation", "validation"), ("test", "test"))
    ]
    caption = "Final figures, by full passes with the running statistics"
    table = Table(["set", "accuracy", "loss", "cost", "samples"], rows, caption)
    told: list[Block] = []
    if best:
        words = f"Of {len(record.combinations())} combinations of settings the best by validation accuracy: "
        if record.none_better:
            words = (
                f"None of {len(record.combinations())} combinations of settings is better than guessing. Figures of "
            )
        told.append(Text(f"{words}{in_words(best)}."))
    return [*told, facts, table]


def _networks(record: RunRecord, prefix: str) -> list[Block]:
    """Return a table of combinations where settings vary, one of all networks, and the outcome as a chart."""
    combinations = record.combinations()
    varying = [name for name in record.replicas[0] if name != "seed"]
    blocks: list[Block] = []
    if varying:
        best = [] if record.none_better else record.best()[1]
        caption = "By combination of settings; the best by validation accuracy is bold"
        if record.none_better:
            caption = "By combination of settings; none is better than guessing"
        rows, validation = [], record.figures("validation", "accuracy")
        ranked = sorted(combinations, key=lambda item: -float(np.nan_to_num(validation[item[1]]).mean()))
        if len(combinations) > _ROWS:
            blocks.append(_fewer(len(combinations), "combinations of settings"))
        for values, members in combinations if len(combinations) <= _ROWS else ranked[:_ROWS]:
            cells = [Cell(plain(v).text, plain(v).sort, members == best) for v in values.values()]
            cells.append(plain(len(members)))
            for which, name in (("validation", "accuracy"), ("test", "accuracy"), ("test", "loss")):
                cells.append((share if name == "accuracy" else figure)(spread_of(record.figures(which, name)[members])))
            rows.append(cells)
        head = [*varying, "seeds", "validation accuracy", "test accuracy", "test loss"]
        blocks.append(Table(head, rows, caption, tall=True))
    blocks += _outcome(record, varying, prefix)
    accuracies = {which: record.figures(which, "accuracy") for which in ("train", "validation", "test")}
    losses, rows = record.figures("test", "loss"), []
    order = np.arange(len(record.replicas))
    if len(order) > _ROWS:
        order = np.argsort(-np.nan_to_num(accuracies["validation"], nan=-1.0), kind="stable")[:_ROWS]
        blocks.append(_fewer(len(record.replicas), "networks"))
    for r in order.tolist():
        cells = [plain(r), *(plain(value) for value in record.replicas[r].values())]
        for of_set in accuracies.values():
            nothing = Cell("diverged" if np.isfinite(of_set).any() else "-")
            cells.append(share(float(of_set[r])) if np.isfinite(of_set[r]) else nothing)
        cells.append(figure(float(losses[r]) if np.isfinite(losses[r]) else None))
        rows.append(cells)
    head = ["network", *record.replicas[0], "training accuracy", "validation accuracy", "test accuracy", "test loss"]
    mean = percent(spread_of(record.figures("test", "accuracy")))
    words = f"Test accuracy of all {len(record.replicas):,} networks: {mean}."
    means = [] if _is_untested(record) else [Text(words)]
    return [*blocks, *([] if varying else means), Table(head, rows, "Every network", tall=True)]


def _fewer(count: int, what: str) -> Text:
    """Say that a table shows the best alone."""
    words = f"Of {count:,} {what} the table shows the {_ROWS:,} best by validation accuracy; metrics.json has all."
    return Text(words, "note")


def _outcome(record: RunRecord, varying: list[str], prefix: str) -> list[Block]:
    """Return a chart of the final accuracies against each setting of numbers, or against the seed."""
    panels = []
    for name in varying or ["seed"]:
        numbers = [row[name] for row in record.replicas]
        if not all(isinstance(value, (int, float)) and not isinstance(value, bool) for value in numbers):
            continue
        label = GREEK.get(name, name)
        rows = [
            {"x": float(row[name]), "y": float(values[r]), "s": words, "seed": row["seed"]}
            for which, words in (("validation", "validation"), ("test", "test"))
            for values in [record.figures(which, "accuracy")]
            for r in evenly(len(record.replicas), _POINTS).tolist()
            if np.isfinite(values[r])
            for row in [record.replicas[r]]
        ]
        if not rows:
            continue
        low, high = min(r["y"] for r in rows), max(r["y"] for r in rows)
        count = len(record.replicas)
        some = f"{count} networks" if count <= _POINTS else f"{_POINTS} of {count} networks, evenly spaced,"
        alt = (
            f"Final accuracy of {some} against {name}, a point for each on the validation "
            f"and the test set: from {percent(low)} to {percent(high)}."
        )
        wide = is_wide([float(v) for v in numbers])
        tips = {"s:N": "set", "seed:Q": "seed"}
        series = ["validation", "test"]
        panels.append(
            dots(
                f"{prefix}accuracy-by-{name}",
                f"Accuracy by {label}",
                alt,
                rows,
                x=label,
                y="accuracy",
                series=series,
                log_x=wide,
                tips=tips,
            )
        )
    words = f"The chart shows {_POINTS:,} of {len(record.replicas):,} networks, evenly spaced."
    note = [Text(words, "note")] if len(record.replicas) > _POINTS else []
    return [*note, Panels(panels)] if panels else []


def _classes(found: Inspection, best: dict[str, Any], prefix: str) -> list[Block]:
    names = unique(found.names)
    totals = found.confusion.sum(axis=1)
    rows = [
        {"t": names[t], "p": names[p], "n": int(n), "v": float(n / totals[t]) if totals[t] else 0.0}
        for t, of_true in enumerate(found.confusion)
        for p, n in enumerate(of_true)
        if len(names) <= 12 or n
    ]
    off = found.confusion - np.diag(np.diag(found.confusion))
    t, p = np.unravel_index(int(off.argmax()), off.shape)
    alt = (
        f"Confusion matrix of {len(names)} classes on {found.samples:,} test samples. "
        f"Most frequent confusion: {names[t]} taken for {names[p]}, {int(off[t, p]):,} times."
    )
    several = f", sums over {len(found.members)} networks" if len(found.members) > 1 else ""
    panel = matrix(f"{prefix}confusion", f"Confusion matrix{several}", alt, rows, names)
    counts = [[Cell(names[t]), *(plain(int(n)) for n in of_true)] for t, of_true in enumerate(found.confusion)]
    full = Table(
        ["true \\ predicted", *names],
        counts,
        f"Samples by true class (row) and prediction (column){several}",
        folded="The matrix as a table",
    )
    columns = found.confusion.sum(axis=0)
    table = []
    for c, name in enumerate(names):
        hits, wrong = int(found.confusion[c, c]), int(off[c].argmax())
        taken = f"{names[wrong]} ({percent(off[c, wrong] / totals[c])})" if totals[c] and off[c, wrong] else ""
        table.append(
            [
                Cell(name),
                share(hits / totals[c] if totals[c] else None),
                share(hits / columns[c] if columns[c] else None),
                plain(int(totals[c]) // len(found.members)),
                Cell(taken),
            ]
        )
    head = ["class", "accuracy (recall)", "precision", "samples", "most often taken for"]
    words = [Text(f"Of {in_words(best)}.")] if best else []
    return [*words, Panels([panel], full), Table(head, table, "By class", tall=True)]


def unique(names: tuple[str, ...]) -> list[str]:
    """Return names as they are, numbered where two classes share one."""
    return [name if names.count(name) == 1 else f"{name} ({i})" for i, name in enumerate(names)]


def _mistakes(found: Inspection) -> list[Block]:
    if not found.mistakes:
        return [Text(f"None of the {found.samples:,} test samples is taken for another class.")]
    together = "the mean of the networks' probabilities gets" if len(found.members) > 1 else "the network gets"
    words = (
        f"Of {found.samples:,} test samples {together} {found.wrong:,} wrong. These have the smallest probability of "
        f"their true class."
    )
    names = found.names
    if found.mistakes[0].picture is not None:
        pictures = [
            Picture(
                m.picture or "",
                f"Test sample {m.index}: {names[m.true]}, taken for {names[m.predicted]} with {percent(m.confidence)}",
                f"{names[m.true]} →\n{names[m.predicted]} {100 * m.confidence:.0f} %",
            )
            for m in found.mistakes
        ]
        return [
            Text(f"{words} Below each: its true class → what it is taken for, and how surely."),
            Gallery(pictures, "The worst mistakes"),
        ]
    rows = [
        [
            plain(m.index),
            Cell(names[m.true]),
            Cell(names[m.predicted]),
            share(m.confidence),
            share(m.probability),
            Cell("; ".join(f"feature {i}: {value:.4g} ({z:+.1f} std)" for i, value, z in m.features)),
        ]
        for m in found.mistakes
    ]
    head = ["test row", "true", "predicted", "probability", "of the true class", "features farthest from their mean"]
    return [Text(words), Table(head, rows, "The worst mistakes; rows count from 0")]


def _timing(record: RunRecord, prefix: str) -> list[Block]:
    history = record.history
    if not len(history.get("epoch", ())):
        return [Text("No epoch was recorded.")]
    training, evaluation = history["seconds_training"], history["seconds_evaluation"]
    rows = [
        {"x": float(history["epoch"][at]), "y": float(values[at]), "s": s}
        for s, values in (("training", training), ("evaluation", evaluation))
        for at in drawn(record).tolist()
    ]
    median = float(np.median(training))
    alt = f"Seconds by epoch: training has a median of {median:.3g} s, evaluation of {np.median(evaluation):.3g} s."
    series = ["training", "evaluation"]
    panel = lines(f"{prefix}seconds", "Seconds by epoch", alt, rows, x="epoch", y="seconds", series=series, cut=False)
    samples = ((record.metrics or {}).get("samples") or {}).get("train")
    cells = [
        [Cell("training, all epochs"), Cell(f"{training.sum():.2f} s")],
        [Cell("evaluation between epochs"), Cell(f"{evaluation.sum():.2f} s")],
        [Cell("an epoch's training, median"), Cell(f"{median:.4f} s")],
        [Cell("fastest and slowest epoch"), Cell(f"{training.min():.4f} s, {training.max():.4f} s")],
    ]
    if samples and median > 0:
        count = len(record.replicas)
        each = f" by each of {count} networks" if count > 1 else ""
        cells.append([Cell("samples a second"), Cell(f"{number_of(samples / median)}{each}")])
    return [Panels([panel]), Table(["what", "time"], cells, "Wall time")]


def number_of(value: float) -> str:
    """Return a large number with its thousands set apart."""
    return f"{value:,.0f}" if value >= 100 else number(value)
