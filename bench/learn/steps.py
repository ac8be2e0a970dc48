"""The training step of two recipes: xpnet, PyTorch and the matrix products alone, in turn."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any

from bench.contenders import PICTURES
from bench.learn.pictures import PictureProblem, write_pictures
from bench.turns import measure

# 300 components, 1024-512, batches of 500; and 200 components, 512-256, batches of 250.
RECIPES = ("fast-70", "fast-65")
FLOOR = "products"
# xpnet is to be this much as fast as the faster PyTorch, and to take this share of its time for products.
TIMES, SHARE = 1.5, 0.8


def steps(options: argparse.Namespace, folder: Path, say: Callable[[str], None]) -> dict[str, Any]:
    """Time the steps of `RECIPES`."""
    name = write_pictures(folder, options.samples, options.data, RECIPES)
    cases = {}
    who = [each for each in PICTURES if options.peers or not each.startswith("PyTorch")]
    for recipe in RECIPES:
        problem = PictureProblem.of(recipe, folder)
        count = max(1, min(options.steps_a_round, options.samples // problem.batch))
        case = measure(who, problem, options.rounds, count, options.pause, FLOOR)
        cases[recipe] = case
        tell(case, say)
    return {"data": name, "samples": options.samples, "rounds": options.rounds, "cases": cases}


def ratios(case: dict[str, Any]) -> tuple[float | None, float | None]:
    """Return how many times as fast as the faster PyTorch xpnet is, and the products' share of its time."""
    medians = {name: row["median"] for name, row in case["rows"].items()}
    ours = [value for name, value in medians.items() if name.startswith("xpnet")]
    if not ours:
        return None, None
    theirs = [value for name, value in medians.items() if name.startswith("PyTorch")]
    times = min(theirs) / min(ours) if theirs else None
    # The products are float32's, and so is what they are compared with.
    rounded = "xpnet" if "xpnet float32" in medians else None
    exact = [value for name, value in medians.items() if name.startswith("xpnet") and name != rounded]
    return times, medians[FLOOR] / min(exact) if FLOOR in medians else None


def tell(case: dict[str, Any], say: Callable[[str], None]) -> None:
    """Print a case, with its ratios and their bars."""
    say(case["what"])
    for who, row in sorted(case["rows"].items(), key=lambda item: item[1]["median"]):
        spread = f"(min {row['min']:.0f}, {row['q1']:.0f} to {row['q3']:.0f})"
        say(f"   {who:20} {row['median']:9.0f} us a step {spread}")
    for who, reason in case["left_out"].items():
        say(f"   {who:20} left out: {reason}")
    times, share = ratios(case)
    if times is not None:
        say(f"   xpnet is {times:.2f} times as fast as PyTorch (bar: {TIMES})")
    if share is not None:
        say(f"   products take {100 * share:.0f} % of xpnet's time (bar: {100 * SHARE:.0f} %)")
    for who, found in case["agreement"].get("contenders", {}).items():
        if not found["agrees"]:
            say(f"   {who:20} DID NOT COMPUTE THE SAME: {found}")
