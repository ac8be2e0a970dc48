"""The tables of ``docs/performance.md``: one for each suite, from its cases."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from bench.suites import words_of_fit

OURS = ("xpnet fast", "xpnet numpy", "xpnet train", "xpnet train numpy")
Cases = dict[str, Any]


def _table(header: list[str], rows: list[list[str]]) -> str:
    lines = [f"| {' | '.join(header)} |", f"|{'---|' * len(header)}"]
    return "\n".join([*lines, *(f"| {' | '.join(row)} |" for row in rows)])


def _contenders(cases: Cases) -> list[str]:
    """Return who is in any of the cases, ours first, the floor last."""
    names = list(dict.fromkeys(who for case in cases.values() for who in case["rows"]))
    return sorted(names, key=lambda who: (who == "floor", OURS.index(who) if who in OURS else len(OURS)))


def _share(case: Cases, who: str) -> str:
    row = case["rows"].get(who)
    return "" if row is None or "floor_reached" not in row else f"{100 * row['floor_reached']:.0f} %"


def _epochs(cases: Cases) -> str:
    """Return seconds an epoch, median and minimum, with a network in each column."""
    header = ["s an epoch: median (min)", *(short(case["what"]) for case in cases.values())]
    body = []
    for who in _contenders(cases):
        cells = []
        for case in cases.values():
            row = case["rows"].get(who)
            if row is None:
                cells.append("")
                continue
            per_us = row["epoch_seconds"] / row["median"]
            cells.append(f"{row['epoch_seconds']:.3g} ({row['min'] * per_us:.3g})")
        body.append([f"**{who}**" if who in OURS else who, *cells])
    for who in OURS[:2]:
        shares = [_share(case, who) for case in cases.values()]
        if any(shares):
            body.append([f"floor / {who}", *shares])
    trained = [
        next((row["evaluation_share"] for row in case["rows"].values() if "evaluation_share" in row), None)
        for case in cases.values()
    ]
    if any(share is not None for share in trained):
        body.append(["evaluation / training", *("" if s is None else f"{100 * s:.0f} %" for s in trained)])
    scaled = {case["steps"] for case in cases.values() if case.get("scaled")}
    note = f"\n\nTimed: {', '.join(map(str, sorted(scaled)))} steps a round, scaled to an epoch." if scaled else ""
    return _table(header, body) + note + _left_out(cases) + _disagreeing(cases)


def short(what: str) -> str:
    """Return what a column or a panel is called."""
    networks = re.match(r"(\d+) networks ", what)
    return f"R = {networks[1]}" if networks else what.replace("3072-50-30-20-20-10-10-10-10-10", "9 layers", 1)


def _left_out(cases: Cases) -> str:
    reasons = dict.fromkeys(
        f"{who} ({reason})"
        for case in cases.values()
        for who, reason in case.get("left_out", {}).items()
        if reason != "has no batch normalisation"
    )
    return f"\n\nLeft out: {', '.join(reasons)}." if reasons else ""


def _disagreeing(cases: Cases) -> str:
    checked = [
        (name, who, one["agrees"])
        for name, case in cases.items()
        for who, one in case.get("agreement", {}).get("contenders", {}).items()
    ]
    bad = [f"{who} ({name})" for name, who, agrees in checked if not agrees]
    if bad:
        return f"\n\nDid not compute the same: {', '.join(bad)}."
    return "\n\nLosses and weights of all agree with xpnet's, within rounding." if checked else ""


def _population(cases: Cases) -> str:
    # One network in the first column: R = 1 is called by its own name otherwise.
    named = {name: case | {"what": f"{name} networks "} for name, case in cases.items()}
    networks = dict.fromkeys(re.sub(r"^\d+ networks ", "", case["what"]) for case in cases.values())
    costs = [
        f"{who} {', '.join(_each(name, case, who) for name, case in cases.items() if who in case['rows'])}"
        for who in OURS[:2]
    ]
    return f"{_epochs(named)}\n\nA network costs, in µs a step, {'; '.join(costs)}.\n\nNetworks: {', '.join(networks)}."


def _each(replicas: str, case: dict[str, Any], who: str) -> str:
    """Return the time of a step divided by the networks that take it."""
    return f"{case['rows'][who]['median'] / int(replicas):,.0f} (R = {replicas})"


def _steps(cases: Cases) -> str:
    header = ["µs a step: median (min)", *(short(case["what"]) for case in cases.values())]
    body = [
        [
            f"**{who}**" if who in OURS else who,
            *(
                f"{case['rows'][who]['median']:,.0f} ({case['rows'][who]['min']:,.0f})" if who in case["rows"] else ""
                for case in cases.values()
            ),
        ]
        for who in _contenders(cases)
    ]
    body += [[f"floor / {who}", *(_share(case, who) for case in cases.values())] for who in OURS[:2]]
    return _table(header, [row for row in body if any(row[1:])])


def _scaling(cases: Cases) -> str:
    body = []
    for axis, case in cases.items():
        sizes, rows = list(case["rows"]), list(case["rows"].values())
        first, last = rows[0], rows[-1]
        body.append(
            [
                *(axis, f"{sizes[0]} to {sizes[-1]}", case["unit"].removeprefix("us ")),
                f"{first['median']:,.0f} to {last['median']:,.0f}",
                *(words_of_fit(case[key]) for key in ("fit", "fit_of_larger_half", "fit_of_floor")),
                f"{100 * first['floor_reached']:.0f} to {100 * last['floor_reached']:.0f} %",
            ]
        )
    header = ["", "sizes", "time of", "µs", "exponent", "of the larger half", "of the floor", "floor / xpnet"]
    return _table(header, body)


def _startup(cases: Cases) -> str:
    rows = cases["process"]["rows"]
    body = [[f"`{who}`", f"{1000 * r['median']:.0f}", f"{1000 * r['min']:.0f}"] for who, r in rows.items()]
    return _table(["process", "ms, median", "min"], body)


def _memory(cases: Cases) -> str:
    body = [
        [case["what"], *(f"{case['rows'][key]['median']:,.0f}" for key in ("interpreter", "data", "run"))]
        for case in cases.values()
    ]
    return _table(["MiB", "interpreter", "training set as float32", "run, above the interpreter"], body)


def _gradcheck(cases: Cases) -> str:
    body = []
    for case in cases.values():
        rows, detail = case["rows"], case["detail"]
        fast, naive = rows["fast"]["median"], rows["naive"]["median"]
        body.append(
            [
                case["what"],
                *(f"{detail['parameters']:,}", f"{fast:.2f}", f"{naive:.0f}", f"{naive / fast:.0f}"),
                *(f"{detail['peak_mb']:.0f}", f"{detail['largest_relative_error']:.1e}"),
            ]
        )
    return _table(["network", "parameters", "s", "naive, s", "ratio", "peak MiB", "largest error"], body)


def _search(cases: Cases) -> str:
    (case,) = cases.values()
    rows = case["rows"]
    body = [[f"`{who}`", f"{r['median']:.0f}", f"{r['min']:.0f}"] for who, r in rows.items()]
    ratio = rows["xpnet train, one after another"]["median"] / rows["xpnet search"]["median"]
    text = f"{case['what']}: the runs take {ratio:.1f} times as long as the search. Validation accuracies of the same "
    text += f"network differ by {case['apart']:.4f} at most: float32 rounds in another order."
    return _table(["command", "s, median", "min"], body) + f"\n\n{text}"


def _workers(cases: Cases) -> str:
    """Return the shares of their time that workers of a search lose, with a row for each search."""
    header = ["trials", "workers", "storage", "s", "in the storage", "ms a trial", "left for trials"]
    body = [
        [
            "wait" if row["waiting"] else "are trained",
            *(f"{row['workers']}", row["storage"], f"{row['wall']:.1f}", f"{100 * row['stored']:.1f} %"),
            *(f"{row['ms_a_trial']:.1f}", f"{100 * row['useful']:.1f} %"),
        ]
        for case in cases.values()
        for row in case["rows"].values()
    ]
    words = "; ".join(f"{next(iter(case['rows'].values()))['trials']} {case['what']}" for case in cases.values())
    return f"{_table(header, body)}\n\n{words[0].upper()}{words[1:]}."


TABLES: dict[str, Callable[[Cases], str]] = {
    "epoch": _epochs,
    "population": _population,
    "step": _steps,
    "scaling": _scaling,
    "startup": _startup,
    "memory": _memory,
    "gradcheck": _gradcheck,
    "search": _search,
    "workers": _workers,
}
