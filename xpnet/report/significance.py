"""Runs in a comparison, and the significance of the difference between two runs."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from typing import Any

import numpy as np

from xpnet.report.inspection import Inspection, inspect
from xpnet.report.page import Block, Cell, Text, table
from xpnet.report.records import RunRecord
from xpnet.report.statistics import Difference, holm, mcnemar, one_against_many, paired, two_shares, welch

# Most pairs of runs with a sentence each; a table has all pairs.
_SENTENCES = 6


@dataclass(frozen=True)
class Contender:
    """A run in a comparison, represented by its best combination of settings.

    Attributes:
        record: The run.
        data: The present location of its data; None takes the location in the run's settings.
    """

    record: RunRecord
    data: str | None

    @functools.cached_property
    def settings(self) -> dict[str, Any]:
        """The best combination of settings; empty if none varies."""
        return self.record.best()[0]

    @functools.cached_property
    def members(self) -> list[int]:
        """The networks of the best combination of settings."""
        return self.record.best()[1]

    @functools.cached_property
    def accuracies(self) -> dict[int, float]:
        """Test accuracies of the networks that did not diverge, by seed."""
        accuracies = self.record.figures("test", "accuracy")
        return {
            self.record.replicas[r]["seed"]: float(accuracies[r]) for r in self.members if np.isfinite(accuracies[r])
        }

    @functools.cached_property
    def inspection(self) -> Inspection | str:
        """The results of the networks on the test set, or a sentence on why they cannot be tested."""
        return inspect(self.record, self.data, 0)

    def shares(self, other: Contender, *settings: str) -> bool:
        """Return whether two runs have equal values of the given settings."""
        return all(self.record.given.get(name) == other.record.given.get(name) for name in settings)


def differences(contenders: Sequence[Contender]) -> list[Block]:
    """Return a sentence and a row of a table for each pair of runs."""
    pairs = [(a, b) for a, b in combinations(contenders, 2) if a.accuracies and b.accuracies]
    if not pairs:
        return [Text("There are no final figures to compare.")]
    found = holm([difference(a, b) for a, b in pairs])
    blocks: list[Block] = [
        Text(_sentence(a, b, d, len(found))) for (a, b), d in list(zip(pairs, found, strict=True))[:_SENTENCES]
    ]
    rows = []
    for (a, b), d in zip(pairs, found, strict=True):
        points = Cell(f"{100 * d.difference:+.2f}", 100 * d.difference)
        rows.append([a.record.label, b.record.label, points, _interval(d) or "-", _p(d.p), _p(d.p_holm), d.method])
    head = ["first", "second", "second - first", "95 % interval", "p", "p, Holm", "how"]
    blocks.append(table(head, rows, "Differences of test accuracy in percentage points", tall=True))
    words = "Each interval stands for itself; the last p is corrected for all pairs (Holm, 1979). "
    if all(contenders[0].shares(other, "data") for other in contenders[1:]):
        words += "All networks are tested on the same samples, so an interval over seeds says what further seeds would "
        words += "give on this test set. A test set that settings were chosen on says less than these figures claim."
    else:
        warning = "The runs name different data: if their test sets differ, so do the questions that they answer."
        blocks.insert(0, Text(warning, "note"))
    return [*blocks, Text(words)]


def compared(contenders: Sequence[Contender]) -> str:
    """Return the conclusion of a comparison: which run is best, or that the best two do not differ beyond chance."""
    known = sorted((c for c in contenders if c.accuracies), key=lambda c: -_mean(c))
    same = all(known[0].shares(other, "data") for other in known[1:])
    if len(known) < 2 or not same or all(c.record.none_better for c in known):
        return ""
    pairs = list(combinations(known, 2))
    d = holm([difference(b, a) for a, b in pairs])[0]
    best, second = known[0].record.label, known[1].record.label
    points = f"{abs(100 * d.difference):.2f} points"
    if d.significant is None:
        return ""
    if not d.significant:
        chance = "beyond their seeds" if d.seeds else "by more than the test samples' chance"
        return f"{best} and {second} do not differ {chance}: {points} apart on the test set."
    scope = "" if d.seeds else ", for these two networks; more seeds would tell about the settings"
    return f"{best} is the best on the test set, {points} above {second}, which is more than chance{scope}."


def _mean(contender: Contender) -> float:
    return float(np.mean(list(contender.accuracies.values())))


def difference(a: Contender, b: Contender) -> Difference:
    """Return the difference of the test accuracies, second run minus first, with its significance over seeds."""
    first, second = list(a.accuracies.values()), list(b.accuracies.values())
    if len(first) > 1 and len(second) > 1:
        seeds = sorted(a.accuracies)
        if seeds == sorted(b.accuracies) and a.shares(b, "data", "split"):
            return paired([a.accuracies[s] for s in seeds], [b.accuracies[s] for s in seeds])
        return welch(first, second)
    if len(first) > 1:
        return one_against_many(second[0], first)
    if len(second) > 1:
        turned = one_against_many(first[0], second)
        low, high = (None if edge is None else -edge for edge in (turned.high, turned.low))
        return replace(turned, difference=-turned.difference, low=low, high=high)
    return _single(a, b, first[0], second[0])


def _single(a: Contender, b: Contender, first: float, second: float) -> Difference:
    """Return the difference of two single networks: sample by sample if the data is available, else by accuracy."""
    x, y = a.inspection, b.inspection
    if a.shares(b, "data") and not isinstance(x, str) and not isinstance(y, str) and not (x.note or y.note):
        return mcnemar(x.correct[0], y.correct[0])
    counts = [((one.record.metrics or {}).get("samples") or {}).get("test") for one in (a, b)]
    if all(counts):
        return two_shares(first, second, int(counts[0] or 0), int(counts[1] or 0))
    return Difference(second - first, None, None, None, "single networks on an unknown number of samples", False)


def _sentence(a: Contender, b: Contender, d: Difference, count: int) -> str:
    """Return a sentence on the comparison of two runs, one of `count` pairs."""
    first, second = a.record.label, b.record.label
    if a.record.none_better and b.record.none_better:
        return f"Neither {first} nor {second} is better than guessing, so none of the two is called the better one."
    better = f"{abs(100 * d.difference):.2f} percentage points {'better' if d.difference > 0 else 'worse'}"
    outcome = f"{second} is {better} than {first} on the test set"
    if abs(d.difference) < 1e-12:
        outcome = f"{second} and {first} have the same accuracy on the test set"
    p = d.p if d.p_holm is None else d.p_holm
    after = f" after Holm, {count} pairs" if count > 1 else ""
    interval = _interval(d)
    test = (f"95 % interval {interval}, " if interval else "") + (
        "no test is possible" if p is None else f"p {_p(p).text}{after}"
    )
    chance = "the seeds' chance" if d.seeds else "the test samples' chance"
    if d.significant is None:
        verdict = "whether that is chance cannot be told"
    elif d.significant:
        verdict = f"{'' if d.seeds else 'for these two networks '}that is more than {chance}"
    else:
        verdict = f"that can be {chance}"
    advice = "" if d.seeds else " One seed each says nothing about the spread over seeds: train with --runs 5 or more."
    return f"{outcome} ({test}; {d.method}): {verdict}.{advice}"


def _interval(d: Difference) -> str:
    """Return the confidence interval of a difference in percentage points, as text; empty if there is none."""
    return "" if d.low is None or d.high is None else f"{100 * d.low:+.2f} to {100 * d.high:+.2f}"


def _p(p: float | None) -> Cell:
    if p is None:
        return Cell("-")
    return Cell("< 0.0001" if p < 1e-4 else f"{p:.4f}" if p < 0.1 else f"{p:.2f}", p)
