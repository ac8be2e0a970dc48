"""The page that compares runs."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import combinations
from typing import Any

import numpy as np

from xpnet.report.blocks import (
    again_section,
    drawn,
    figure,
    in_words,
    plain,
    repeat_command,
    share,
    spread_of,
    thinned_note,
)
from xpnet.report.charts import band_rows, by_group, lines
from xpnet.report.format import number, percent
from xpnet.report.inspection import Inspection, inspect
from xpnet.report.page import Block, Cell, Page, Panels, Section, Table, Text
from xpnet.report.records import RunRecord
from xpnet.report.statistics import (
    Difference,
    holm,
    mcnemar,
    one_against_many,
    paired,
    two_shares,
    welch,
)

_CURVES = (("validation", "accuracy"), ("validation", "loss"), ("train", "loss"), ("train", "cost"))


def compare_page(records: Sequence[RunRecord], data: str | None, made: str) -> Page:
    """Return the page that sets runs side by side, each by its best combination of settings."""
    records = _labelled(records)
    labels = [record.label for record in records]
    best = [record.best() for record in records]
    notes = [f"{record.label}: {note}" for record in records for note in record.notes]
    told = [
        f"{record.label} has {len(record.combinations())} combinations of settings; it is represented by "
        f"{in_words(values)}, "
        + ("of which none is better than guessing." if record.none_better else "its best by validation accuracy.")
        for record, (values, _) in zip(records, best, strict=True)
        if values
    ]
    if all(record.none_better for record in records):
        told.insert(0, "None of these runs is better than guessing, so none is called the best.")
    sections = [
        Section("result", "Result", [*(Text(words, "note") for words in told), *_result(records, best)]),
        Section("significance", "Is the difference real?", _significance(records, best, data)),
        Section("curves", "Curves", _curves(records, best)),
        Section("settings", "Settings that differ", [_settings(records)]),
        Section("environment", "Environments", [_environments(records)]),
        again_section(
            [(f"{r.label}:", repeat_command(r.path)) for r in records]
            + [("This page:", shlex.join(["xpnet", "report", *(str(record.path) for record in records)]))]
        ),
    ]
    title = " and ".join(labels) if len(labels) == 2 else f"{len(labels)} runs: {', '.join(labels)}"
    return Page("comparison", title, f"{len(labels)} runs side by side", sections, made, notes)


def _labelled(records: Sequence[RunRecord]) -> list[RunRecord]:
    """Return the runs with labels that tell them apart: the folder's name, its path where that is not enough."""
    names = [record.label for record in records]
    longer = [r.label if names.count(r.label) == 1 else str(r.path) for r in records]
    return [
        replace(record, label=name if longer.count(name) == 1 else f"{name} ({number})")
        for number, (record, name) in enumerate(zip(records, longer, strict=True), start=1)
    ]


Best = Sequence[tuple[dict[str, Any], list[int]]]


def _result(records: Sequence[RunRecord], best: Best) -> list[Block]:
    rows, points = [], []
    for record, (_, members) in zip(records, best, strict=True):
        values = {
            (w, n): spread_of(record.figures(w, n)[members])
            for w in ("train", "validation", "test")
            for n in ("accuracy", "loss")
        }
        seconds = ((record.metrics or {}).get("seconds") or {}).get("training")
        rows.append(
            [
                Cell(record.label),
                Cell(record.title),
                plain(len(members)),
                *(share(values[w, "accuracy"]) for w in ("train", "validation", "test")),
                figure(values["test", "loss"]),
                Cell("-" if seconds is None else f"{seconds:.1f} s", seconds),
            ]
        )
        points += [
            {"s": record.label, "seed": record.replicas[r]["seed"], "y": float(value)}
            for r in members
            if np.isfinite(value := record.figures("test", "accuracy")[r])
        ]
    head = [
        "run",
        "what",
        "seeds",
        "training accuracy",
        "validation accuracy",
        "test accuracy",
        "test loss",
        "training",
    ]
    table = Table(head, rows, "Final figures; mean and standard deviation where there are several seeds")
    if not points:
        return [table]
    panel = by_group(
        "test-accuracy",
        "Test accuracy by run",
        "Test accuracy of every network: " + "; ".join(f"{row[0].text} {row[5].text}" for row in rows) + ".",
        points,
        [record.label for record in records],
        x="run",
        y="test accuracy",
    )
    return [table, Panels([panel])]


def _significance(records: Sequence[RunRecord], best: Best, data: str | None) -> list[Block]:
    """Return a sentence and a row for each pair of runs."""
    inspections: dict[int, Inspection | str] = {}
    pairs, found = [], []
    for a, b in combinations(range(len(records)), 2):
        one = _difference(records, best, a, b, data, inspections)
        if one is not None:
            pairs.append((a, b))
            found.append(one)
    if not found:
        return [Text("There are no final figures to compare.")]
    found = holm(found)
    blocks: list[Block] = []
    blocks += [Text(_sentence(records, a, b, d, len(found))) for (a, b), d in zip(pairs, found, strict=True)][:6]
    rows = []
    for (a, b), d in zip(pairs, found, strict=True):
        interval = "-" if d.low is None or d.high is None else f"{100 * d.low:+.2f} to {100 * d.high:+.2f}"
        rows.append(
            [
                Cell(records[a].label),
                Cell(records[b].label),
                Cell(f"{100 * d.difference:+.2f}", 100 * d.difference),
                Cell(interval),
                _p(d.p),
                _p(d.p_holm),
                Cell(d.method),
            ]
        )
    head = ["first", "second", "second - first", "95 % interval", "p", "p, Holm", "how"]
    caption = "Differences of test accuracy in percentage points"
    blocks.append(Table(head, rows, caption, tall=True))
    words = "Each interval stands for itself; the last p is corrected for all pairs (Holm, 1979). "
    if all(_alike(records[0], other, "data") for other in records[1:]):
        words += "All networks are tested on the same samples, so an interval over seeds says what further seeds would "
        words += "give on this test set. A test set that settings were chosen on says less than these figures claim."
    else:
        told = "The runs name different data: if their test sets differ, so do the questions that they answer."
        blocks.insert(0, Text(told, "note"))
    blocks.append(Text(words))
    return blocks


def _difference(
    records: Sequence[RunRecord], best: Best, a: int, b: int, data: str | None, cache: dict[int, Inspection | str]
) -> Difference | None:
    """Return how much better the second run's test accuracy is, as far as its seeds can tell."""
    values, seeds = [], []
    for place in (a, b):
        record, members = records[place], best[place][1]
        accuracies = record.figures("test", "accuracy")[members]
        own = [record.replicas[r]["seed"] for r in members]
        good = np.isfinite(accuracies)
        values.append(dict(zip(np.asarray(own)[good].tolist(), accuracies[good].tolist(), strict=True)))
        seeds.append(set(values[-1]))
    if not values[0] or not values[1]:
        return None
    first, second = (list(v.values()) for v in values)
    if len(first) > 1 and len(second) > 1:
        both = sorted(seeds[0] & seeds[1])
        if seeds[0] == seeds[1] and _alike(records[a], records[b], "data", "split"):
            return paired([values[0][s] for s in both], [values[1][s] for s in both])
        return welch(first, second)
    if len(second) == 1 and len(first) > 1:
        return one_against_many(second[0], first)
    if len(first) == 1 and len(second) > 1:
        turned = one_against_many(first[0], second)
        low, high = (None, None) if turned.low is None or turned.high is None else (-turned.high, -turned.low)
        return replace(turned, difference=-turned.difference, low=low, high=high)
    return _single(records, a, b, data, cache, first[0], second[0])


def _single(
    records: Sequence[RunRecord],
    a: int,
    b: int,
    data: str | None,
    cache: dict[int, Inspection | str],
    first: float,
    second: float,
) -> Difference:
    """Compare two single networks: sample by sample where the data is there, by their accuracies otherwise."""
    found = []
    for place in (a, b):
        if place not in cache:
            cache[place] = inspect(records[place], data, 0)
        found.append(cache[place])
    x, y = found
    same = _alike(records[a], records[b], "data")
    if same and not isinstance(x, str) and not isinstance(y, str) and not (x.note or y.note):
        return mcnemar(x.correct[0], y.correct[0])
    counts = [((records[place].metrics or {}).get("samples") or {}).get("test") for place in (a, b)]
    if all(counts):
        return two_shares(first, second, int(counts[0] or 0), int(counts[1] or 0))
    return Difference(second - first, None, None, None, "single networks on an unknown number of samples", False)


def _alike(a: RunRecord, b: RunRecord, *names: str) -> bool:
    return all(a.given.get(name) == b.given.get(name) for name in names)


def _sentence(records: Sequence[RunRecord], a: int, b: int, d: Difference, count: int) -> str:
    """Say what is known about a pair of runs."""
    first, second = records[a].label, records[b].label
    if records[a].none_better and records[b].none_better:
        return f"Neither {first} nor {second} is better than guessing, so none of the two is called the better one."
    points = f"{abs(100 * d.difference):.2f} percentage points"
    better = f"{second} is {points} {'better' if d.difference > 0 else 'worse'} than {first} on the test set"
    if abs(d.difference) < 1e-12:
        better = f"{second} and {first} have the same accuracy on the test set"
    p = d.p if d.p_holm is None else d.p_holm
    within = (
        f" (95 % interval {100 * d.low:+.2f} to {100 * d.high:+.2f}"
        if d.low is not None and d.high is not None
        else " ("
    )
    told = "no test is possible" if p is None else f"p {_p(p).text}{f' after Holm, {count} pairs' if count > 1 else ''}"
    within += (", " if d.low is not None else "") + f"{told}; {d.method})"
    if d.significant is None:
        verdict = "whether that is chance cannot be told"
    elif not d.seeds:
        verdict = (
            "for these two networks that is more than the test samples' chance"
            if d.significant
            else "that can be the test samples' chance"
        )
    else:
        verdict = "that is more than the seeds' chance" if d.significant else "that can be the seeds' chance"
    plainly = "" if d.seeds else " One seed each says nothing about the spread over seeds: train with --runs 5 or more."
    return f"{better}{within}: {verdict}.{plainly}"


def _p(p: float | None) -> Cell:
    if p is None:
        return Cell("-")
    return Cell("< 0.0001" if p < 1e-4 else f"{p:.4f}" if p < 0.1 else f"{p:.2f}", p)


def _curves(records: Sequence[RunRecord], best: Best) -> list[Block]:
    panels = []
    labels = [record.label for record in records]
    for which, name in _CURVES:
        rows, said = [], []
        for record, (_, members) in zip(records, best, strict=True):
            if not len(record.history.get("epoch", ())):
                continue
            own = band_rows(
                [float(e) for e in record.history["epoch"][drawn(record)]],
                record.curve(f"{which}_{name}", members)[drawn(record)],
                record.label,
            )
            rows += own
            if own:
                said.append(f"{record.label} ends at {(percent if name == 'accuracy' else number)(own[-1]['y'])}")
        if rows:
            words = {"train": "training", "validation": "validation"}[which]
            alt = f"{words.capitalize()} {name} by epoch, a line for each run: {'; '.join(said)}."
            panels.append(
                lines(
                    f"{words}-{name}",
                    f"{words.capitalize()} {name}",
                    alt,
                    rows,
                    x="epoch",
                    y=f"{words} {name}",
                    series=labels,
                    percent=name == "accuracy",
                )
            )
    if not panels:
        return [Text("No epoch was recorded.")]
    head = ["run", "epoch", *(panel.title.lower() for panel in panels)]
    rows_of_table = []
    for record, (_, members) in zip(records, best, strict=True):
        if not len(record.history.get("epoch", ())):
            continue
        columns = [(name, record.curve(f"{which}_{name}", members)) for which, name in _CURVES]
        for at in drawn(record).tolist():
            epoch = record.history["epoch"][at]
            cells = [Cell(record.label), Cell(f"{epoch:.0f}", float(epoch))]
            cells += [(share if name == "accuracy" else figure)(spread_of(values[at])) for name, values in columns]
            rows_of_table.append(cells)
    table = Table(
        head, rows_of_table, "Figures by run and epoch", folded="The figures of these charts as a table", tall=True
    )
    return [*thinned_note(*records), Panels(panels, table)]


def _settings(records: Sequence[RunRecord]) -> Table:
    names = list(dict.fromkeys(name for record in records for name in record.given))
    rows = []
    for name in names:
        values: list[Any] = [record.given.get(name) for record in records]
        if any(value != values[0] for value in values[1:]):
            rows.append([Cell(name), *(plain(value) if value is not None else Cell("-") for value in values)])
    if not rows:
        rows = [[Cell("none: all settings are the same"), *(Cell("") for _ in records)]]
    return Table(["setting", *(record.label for record in records)], rows, "Settings that are not the same in all runs")


def _environments(records: Sequence[RunRecord]) -> Table:
    keys = ("date", "xpnet", "python", "cpu", "cores", "device")
    known = [record.environment or {} for record in records]
    rows = [[Cell(key), *(Cell(str(own.get(key) or "-")) for own in known)] for key in keys]
    packages: list[Mapping[str, Any]] = [own.get("packages") or {} for own in known]
    names = dict.fromkeys(name for own in packages for name in own)
    rows += [[Cell(name), *(Cell(str(own.get(name, "-"))) for own in packages)] for name in names]
    return Table(["what", *(record.label for record in records)], rows, "What the runs were made on")
