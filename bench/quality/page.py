"""The tables of ``docs/estimator.md``: accuracy and log-loss by set and classifier, mean ranks, and the bars."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from scipy.stats import rankdata

from bench.quality.classifiers import CLASSIFIERS, ENSEMBLE
from bench.results import BenchError, newest

PAGE, _OPENING, _CLOSING = Path("docs/estimator.md"), "<!-- quality -->", "<!-- /quality -->"
# Accuracy, in points, that the classifier may lie behind the other network.
_MOST_BEHIND = 1.0
PAIR = OURS, OTHER = "XpnetClassifier", "MLPClassifier"
Cases = dict[str, Any]


def write_page(root: Path, results: Path, *, check: bool = False) -> int:
    """Write the tables from the newest result; with `check`, change nothing, and return 1 if they would change.

    Raises:
        BenchError: There is no result, or the page has no place for the tables.
    """
    found = newest(results).get("quality")
    if found is None:
        raise BenchError(f"{results}: has no result of python -m bench quality")
    path = root / PAGE
    text = path.read_text(encoding="utf-8")
    if _OPENING not in text or _CLOSING not in text:
        raise BenchError(f"{path}: has no {_OPENING} with {_CLOSING}")
    head, rest = text.split(_OPENING, 1)
    new = f"{head}{_OPENING}\n{tables(*found)}\n{_CLOSING}{rest.split(_CLOSING, 1)[1]}"
    if check:
        print(f"{path}: {'is what this would write' if new == text else 'is not what this would write'}")
        return int(new != text)
    path.write_text(new, encoding="utf-8")
    print(f"written: {path}")
    return 0


def tables(path: Path, result: dict[str, Any]) -> str:
    """Return the text: the sets on which no default was chosen, the bars, and the sets on which they were."""
    cases = result["suites"]["quality"]["cases"]
    halves = {choosing: {n: c for n, c in cases.items() if c["choosing"] == choosing} for choosing in (False, True)}
    machine = result["machine"]
    versions = ", ".join(f"{name} {version}" for name, version in result["classifiers"].items())
    made = (
        f"[{path.name}](../bench/results/{path.name}): {machine['cores']} cores of an {machine['processor']}, "
        f"{versions}. The commands are in this file. All of the protocol, ten repeats of five folds on the sets below "
        "2,000 rows and five folds of the others, is measured in hours by"
    )
    parts = [
        f"Sets on which nothing was chosen, accuracy in % and log-loss on held-out folds{_protocol(halves[False])}:",
        _table(halves[False]),
        bars(halves[False]),
        f"The sets on which the defaults were chosen{_protocol(halves[True])}:",
        _table(halves[True]),
        *_of_both(cases),
        *_left_out(cases),
        made,
        "    python -m bench quality",
    ]
    return "\n\n".join(parts)


def _protocol(cases: Cases) -> str:
    """Return how many of the folds were held out, such as " (5 folds a set; hr 2)"."""
    counts = {name: len(_shared(case)) for name, case in cases.items()}
    usual = max(counts.values(), key=list(counts.values()).count)
    others = [f"{name} {count}" for name, count in counts.items() if count != usual]
    return f" ({usual} folds of a set{'; ' * bool(others)}{', '.join(others)})"


def _mean(case: dict[str, Any], name: str, figure: str, among: Sequence[str] = ()) -> float:
    """Return the mean of a classifier's figures over the folds that `among`, or all, have been scored on."""
    shared = _shared(case, among)
    row = case["rows"][name]
    return float(np.mean([value for split, value in zip(row["splits"], row[figure], strict=True) if split in shared]))


def _shared(case: dict[str, Any], among: Sequence[str] = ()) -> list[list[int]]:
    """Return the folds that some classifiers of a set, or all, have been scored on."""
    rows = [case["rows"][name] for name in among or case["rows"]]
    return [split for split in rows[0]["splits"] if all(split in row["splits"] for row in rows)]


def ranks(cases: Cases, figure: str, needed: Sequence[str] = ()) -> dict[str, float]:
    """Return mean ranks by classifier, of which the best is 1, over the sets that those `needed` have finished.

    Without `needed`, these are all.  In each set the classifiers that have finished it are ranked.
    """
    needed = needed or [name for name in CLASSIFIERS if any(name in case["rows"] for case in cases.values())]
    found = []
    for case in cases.values():
        if all(name in case["rows"] for name in needed):
            means = [_mean(case, name, figure) for name in case["rows"]]
            order = rankdata(np.round(means if figure == "losses" else np.negative(means), 6))
            found.append(dict(zip(case["rows"], order.tolist(), strict=True)))
    return {name: float(np.mean([one[name] for one in found])) for name in needed} if found else {}


def _table(cases: Cases) -> str:
    names = [name for name in CLASSIFIERS if any(name in case["rows"] for case in cases.values())]
    lines = [f"| | {' | '.join(names)} |", f"|:--|{':-:|' * len(names)}"]
    for data, case in cases.items():
        means = {n: [_mean(case, n, f) for f in ("accuracies", "losses")] for n in names if n in case["rows"]}
        best = [max(m[0] for m in means.values()), min(m[1] for m in means.values())]
        cells = []
        for name in names:
            if name not in means:
                cells.append("-")
                continue
            texts = f"{100 * means[name][0]:.1f}", f"{means[name][1]:.3f}"
            ideal = f"{100 * best[0]:.1f}", f"{best[1]:.3f}"
            cells.append(" / ".join(f"**{t}**" if t == i else t for t, i in zip(texts, ideal, strict=True)))
        lines.append(f"| {data} ({case['what']}) | {' | '.join(cells)} |")
    for words, figure in (("accuracy", "accuracies"), ("log-loss", "losses")):
        of_all = ranks(cases, figure)
        cells = [f"{of_all[name]:.2f}" if name in of_all else "-" for name in names]
        lines.append(f"| *mean rank, {words}, over the sets that all have finished* | {' | '.join(cells)} |")
    return "\n".join(lines)


def _of_both(cases: Cases) -> list[str]:
    """Return a table of the sets on which both networks have been scored on more folds than all classifiers have."""
    lines = []
    for data, case in cases.items():
        if {*PAIR} <= case["rows"].keys() and (folds := len(_shared(case, PAIR))) > len(_shared(case)):
            of_each = [
                f"{100 * _mean(case, name, 'accuracies', PAIR):.1f} / {_mean(case, name, 'losses', PAIR):.3f}"
                for name in PAIR
            ]
            lines.append(f"| {data} | {' | '.join(of_each)} | {folds} |")
    if not lines:
        return []
    head = [f"| | {' | '.join(PAIR)} | folds |", "|:--|:-:|:-:|:-:|"]
    return ["The two networks, over all folds that both have been scored on:", "\n".join(head + lines)]


def bars(cases: Cases) -> str:
    """Return what was aimed at, and whether it was reached."""
    accuracy, loss = ranks(cases, "accuracies"), ranks(cases, "losses")
    behind = {
        # Rounded, since the last bits of means of equal numbers may differ.
        name: round(100 * (_mean(case, OTHER, "accuracies", PAIR) - _mean(case, OURS, "accuracies", PAIR)), 6)
        for name, case in cases.items()
        if {*PAIR} <= case["rows"].keys()
    }
    lines = []
    for words, figure in (("accuracy", "accuracies"), ("log-loss", "losses")):
        if of_two := ranks(cases, figure, PAIR):
            lines.append(
                f"a better mean rank than `{OTHER}` in {words}, over the {len(behind)} sets that both have finished: "
                f"{of_two[OURS]:.2f} and {of_two[OTHER]:.2f}, {_verdict(of_two[OURS] < of_two[OTHER])}"
            )
    if behind:
        worst = max(behind, key=lambda name: behind[name])
        lines.append(
            f"never more than {_MOST_BEHIND:g} point of accuracy behind it, over all folds that both have: at most "
            f"{behind[worst]:.2f} ({worst}, {len(_shared(cases[worst], PAIR))} folds), "
            f"{_verdict(behind[worst] <= _MOST_BEHIND)}"
        )
    if ENSEMBLE in loss:
        for words, of_all, place in (
            ("log-loss, the best", loss, 1),
            ("accuracy, at least the second best", accuracy, 2),
        ):
            own = 1 + sum(rank < of_all[ENSEMBLE] for rank in of_all.values())
            equal = [name for name, rank in of_all.items() if rank == of_all[ENSEMBLE] and name != ENSEMBLE]
            beside = f" together with {', '.join(equal)}" if equal else ""
            lines.append(
                f"the mean rank of the ensemble in {words}, over the sets that all have finished: place {own}{beside}, "
                f"{_verdict(own <= place)}"
            )
    return "\n".join(["Aimed at:", "", *(f"- {line}" for line in lines)])


def _verdict(reached: bool) -> str:
    return "reached" if reached else "**missed**"


def _left_out(cases: Cases) -> list[str]:
    reasons: dict[str, list[str]] = {}
    for data, case in cases.items():
        for name, reason in case["left_out"].items():
            reasons.setdefault(f"{name} ({reason})", []).append(data)
    words = [f"{reason} on {', '.join(sets)}" for reason, sets in reasons.items()]
    return [f"Left out: {'; '.join(words)}."] if words else []
