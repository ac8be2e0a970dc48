"""Regression check: are xpnet's figures in one result worse than in another, beyond the noise?

    python -m bench compare bench/results/OLD.json NEW.json

Times are divided by those of the floor (or of the bare interpreter), measured in the same run in turn,
so that a machine that is slower that day, or another one, is not taken for a slower xpnet.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from bench.results import BenchError, read
from xpnet.analysis.step_benchmark import summary

# A median of n values has 1.25 times the standard error of a mean; a quartile lies 0.674 sigma from it.
_ERROR_OF_MEDIAN, _SIGMA_OF_QUARTILES = 1.2533, 1 / (2 * 0.6745)
_SIGMAS = 3


def _relative(row: dict[str, Any], base: dict[str, Any] | None) -> dict[str, Any]:
    """Return the summary of a row's values, each divided by what `base` took in the same round."""
    if base is None:
        return summary(row["values"])
    if len(row["values"]) == len(base["values"]):
        return summary([value / floor for value, floor in zip(row["values"], base["values"], strict=True)])
    return summary([value / base["median"] for value in row["values"]])


def _error(row: dict[str, Any]) -> float:
    """Return the relative standard error of a median, told by its quartiles."""
    sigma = (row["q3"] - row["q1"]) * _SIGMA_OF_QUARTILES / row["median"]
    return float(_ERROR_OF_MEDIAN * sigma / math.sqrt(len(row["values"])))


def compare(old: dict[str, Any], new: dict[str, Any], allowed: float) -> list[dict[str, Any]]:
    """Compare what two results have in common.

    Args:
        old: The result that the other is held against.
        new: The result that is judged.
        allowed: Relative slow-down that is never reported; what the spread explains is added to it.

    Returns:
        For every suite, case and contender: the ratio new / old, the largest that noise explains, and
        whether it is xpnet and slower than that.

    Raises:
        BenchError: They have nothing in common, or call different things by one name.
    """
    found = []
    for suite in (name for name in old["suites"] if name in new["suites"]):
        for name, before in old["suites"][suite]["cases"].items():
            after = new["suites"][suite]["cases"].get(name)
            if after is None:
                continue
            for key in ("what", "unit", "steps", "samples"):
                if before.get(key) != after.get(key):
                    raise BenchError(
                        f"{suite} {name}: {key} = {before.get(key)} in the one and {after.get(key)} in the other; "
                        "compare results of the same command"
                    )
            found += [{"suite": suite, "case": name} | row for row in _rows(before, after, allowed)]
    if not found:
        raise BenchError("the two results have no suite, case and contender in common")
    return found


def _base(case: dict[str, Any], who: str) -> dict[str, Any] | None:
    """Return what was measured beside a row to hold it against: the floor at its size, or the case's reference."""
    found = case["floor"].get(who) if "floor" in case else case["rows"].get(case.get("reference"))
    return found if isinstance(found, dict) else None


def _rows(before: dict[str, Any], after: dict[str, Any], allowed: float) -> list[dict[str, Any]]:
    found = []
    for who, old in before["rows"].items():
        new = after["rows"].get(who)
        if new is None or who == before.get("reference") or min(old["median"], new["median"]) <= 0:
            continue
        bases = [_base(case, who) for case in (before, after)]
        if None in bases:
            bases = [None, None]
        a, b = (_relative(row, base) for row, base in zip((old, new), bases, strict=True))
        ratio = b["median"] / a["median"]
        limit = 1 + allowed + _SIGMAS * math.hypot(_error(a), _error(b))
        # Other libraries are yardsticks: that one of them became slower is no regression of ours.
        ours = not new.get("yardstick")
        found.append({"who": who, "ratio": ratio, "limit": limit, "worse": ours and ratio > limit})
    return found


def main(arguments: Sequence[str]) -> int:
    """Print the comparison; return 1 if anything of xpnet became worse, else 0."""
    parser = argparse.ArgumentParser(prog="python -m bench compare", description=__doc__.splitlines()[0])
    parser.add_argument("old", type=Path)
    parser.add_argument("new", type=Path)
    parser.add_argument("--allow", type=float, default=0.05, help="slow-down that is never reported [0.05]")
    options = parser.parse_args(arguments)
    rows = compare(read(options.old), read(options.new), options.allow)
    for row in rows:
        verdict = "SLOWER" if row["worse"] else ""
        print(
            f"{row['suite']:10} {row['case']:12} {row['who']:24} {row['ratio']:6.3f} "
            f"(noise and allowance explain {row['limit']:.3f}) {verdict}".rstrip()
        )
    worse = [row for row in rows if row["worse"]]
    print(f"{len(worse)} of {len(rows)} became worse" if worse else f"none of {len(rows)} became worse")
    return 1 if worse else 0
