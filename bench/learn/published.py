"""The parts of the page that ``published.toml`` holds: what others reached, and what was tried."""

from __future__ import annotations

import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from bench.learn import ensemble

_KNOWN = {"read": "read at the source", "cited": "cited by others"}


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a table in Markdown, with an empty line after it."""
    lines = [f"| {' | '.join(header)} |", f"|{'---|' * len(header)}", *(f"| {' | '.join(row)} |" for row in rows)]
    return "\n".join(lines) + "\n\n"


def _published() -> dict[str, Any]:
    return tomllib.loads(Path(__file__).with_name("published.toml").read_text(encoding="utf-8"))


def members() -> tuple[dict[str, str], str, str]:
    """Return what trained the runs of the ensemble, by their names, and what is said above and below its table."""
    found = _published()
    options = {one["name"]: one["options"] for one in found["member"]}
    return options, found["ensemble"]["before"].strip(), found["ensemble"]["after"].strip()


def others(results: dict[str, tuple[Path, dict[str, Any]]]) -> str:
    """Return the section about records of others, with those of this page."""
    rows = [[one["accuracy"], one["what"], one["source"], _KNOWN[one["known"]]] for one in _published()["result"]]
    if "learn" in results:
        best = [case for case in results["learn"][1]["suites"]["learn"]["cases"].values() if "xpnet" in case["rows"]]
        case = max(best, key=lambda one: float(one["rows"]["xpnet"]["accuracy"]))
        row = case["rows"]["xpnet"]
        shown = f"**{100 * row['accuracy']:.1f}; {100 * row['accuracy_six_views']:.1f}**"
        rows.append([shown, f"xpnet, {case['what']}: one view; six views", "this page", "measured"])
    if ensemble.NAME in results:
        suite = results[ensemble.NAME][1]["suites"][ensemble.NAME]
        what = f"xpnet, {suite['cases']['ensemble']['what']}: one view; six views"
        rows.append([f"**{ensemble.reached(suite)}**", what, "this page", "measured"])
    text = "## What others reached\n\nPurely fully connected networks on CIFAR-10, in % of the test set.\n\n"
    return text + table(["%", "network and training", "source", "this figure was"], rows)


def tried() -> str:
    """Return the section about what does not pay."""
    rows = [[one["what"], one["points"].replace("-", "−", 1)] for one in _published()["tried"]]
    text = (
        "## What was tried and does not pay\n\nDifferences in validation accuracy, in points, of a prototype "
        "in PyTorch at 1.2 TFLOP (512-256 on 200 components, 16 epochs). Single runs of one setting differ by "
        "0.3 to 1 points.\n\n"
    )
    text += table(["in place of the recipe", "points"], rows)
    measured = [[one["what"], one["points"].replace("-", "−", 1)] for one in _published()["measured"]]
    text += (
        "The same of xpnet's own settings at 0.30 TFLOP: `fast-60` on the split of 45,000 and 5,000, whose mean over "
        "three seeds is 61.65 ± 0.20 %. Differences of less than 0.4 points are noise. A row is "
        "`xpnet train --recipe fast-60 --epochs 6.3 --no-bf16 --split 45k --runs 3` with its options, AdamW and Lion "
        "also `--lambda 0`.\n\n"
    )
    text += table(["`xpnet train --recipe fast-60` with", "points"], measured)
    text += (
        "Long trainings are another matter: there networks of 1024-512 on 300 components fit the training set much "
        "better than other pictures, and what keeps gamma from growing pays most. Rows without a number of seeds have "
        "one.\n\n"
    )
    rows = [[one["what"], one["points"]] for one in _published()["long"]]
    text += table(["1024-512 on 300 components", "validation; test, %"], rows)
    variants = [[one["what"], one["points"].replace("-", "−", 1)] for one in _published().get("variant", ())]
    if variants:
        text += (
            "Variants of `fast-65` on the split of 45,000 and 5,000, in PyTorch, which with the recipe itself reaches "
            "65.9 ± 0.7 % over three seeds (1.4 TFLOP). Differences of less than a point are noise for one run, of "
            "less than 0.8 points for two.\n\n"
        )
        text += table(["`fast-65` with", "points (runs)"], variants)
    text += (
        "A [search](learning-search.html) over widths, components, rates, penalties, shifts, smoothing and dropout at "
        "0.33 TFLOP a trial (`xpnet search --budget`) finds the optimum flat: 171 to 386 units a layer reach "
        "59 to 60 %.\n\nWhat measured nothing and would need code of its own was not built: averages of weights, batch "
        "normalisation after the activation, residual connections, max-norm, mixup, linear bottlenecks, inputs that "
        "grow, β-lasso. Distillation makes a network of a given size better; but with its teachers it takes 7.6 TFLOP, "
        "with which a longer training gains more (`fast-67` takes 2.8, `fast-70` 11.9). Whitening without a "
        "projection (ZCA) differs from all components by a rotation, which Gaussian weights and SGD with L2 do not "
        "see; without all components it would leave as many inputs as there are means of pixels.\n"
    )
    return text
