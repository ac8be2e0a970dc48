"""The ladder: every rung, seed after seed, by xpnet and by PyTorch in turn, kept after each training."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

from bench.contenders import PICTURES, missing
from bench.learn.rungs import RUNGS, in_words, tflop
from bench.learn.training import Rung, TrainingError, ours, peers
from xpnet.analysis.step_benchmark import summary

# Who trains, and how.
WAYS: Mapping[str, Callable[[Rung, int], dict[str, Any]]] = {
    "xpnet": ours,
    "PyTorch": peers,
    "PyTorch bfloat16": partial(peers, way="bfloat16"),
    "PyTorch compiled": partial(peers, way="compiled"),
}
# Epochs of a warm-up.
_FEW = 0.02
_BEST = {"xpnet": "`xpnet train --recipe`, evaluation apart", **{name: PICTURES[name].best for name in list(WAYS)[1:]}}


def climb(
    suite: dict[str, Any],
    rungs: Sequence[Rung],
    seeds: int,
    who: Sequence[str],
    session: int,
    keep: Callable[[], None],
    say: Callable[[str], None],
) -> None:
    """Train what `suite` lacks of `rungs`, seeds 0 to `seeds` - 1 and `who`, and fill it; call `keep` after each.

    All rungs have a seed before any has the next, and contenders of one rung and seed follow each other, so that a run
    that ends early is a whole ladder with fewer seeds.
    """
    _warm(suite, rungs, seeds, say)
    for seed in range(seeds):
        for rung in rungs:
            case = suite["cases"].setdefault(rung.name, _case(rung))
            for name in who:
                reason = missing(PICTURES[name]) if name != "xpnet" else None
                done = [run["seed"] for run in case["rows"].get(name, {}).get("runs", ())]
                if seed in done:
                    continue
                try:
                    if reason is not None:
                        raise TrainingError(reason)
                    run = WAYS[name](rung, seed)
                except TrainingError as error:
                    case["left_out"][name] = str(error)
                    say(f"{rung.name:8} seed {seed} {name:16} left out: {error}")
                    continue
                _add(case, name, run | {"seed": seed, "session": session})
                case["left_out"].pop(name, None)
                keep()
                say(_line(rung.name, name, case["rows"][name]["runs"][-1]))


def _warm(suite: dict[str, Any], rungs: Sequence[Rung], seeds: int, say: Callable[[str], None]) -> None:
    """Take a few steps with xpnet if it has anything to train: the first ones on a machine compile its loops."""
    cases = suite["cases"]
    done = [len(cases.get(rung.name, {}).get("rows", {}).get("xpnet", {}).get("runs", ())) for rung in rungs]
    if min(done) < seeds:
        try:
            ours(rungs[0]._replace(settings=rungs[0].settings | {"epochs": _FEW}), 0)
        except TrainingError as error:
            say(f"a warm-up failed: {error}")


def _case(rung: Rung) -> dict[str, Any]:
    return {
        "what": in_words(rung.settings),
        "unit": "s",
        "reference": None,
        "target": RUNGS[rung.name] / 100,
        "settings": rung.settings,
        "rows": {},
        "left_out": {},
    }


def _add(case: dict[str, Any], name: str, run: dict[str, Any]) -> None:
    """Add a training to its row, whose values are the seconds of all seeds."""
    before = case["rows"].get(name, {}).get("runs", [])
    runs = sorted([*before, run | {"seconds": run["transforms"] + run["training"]}], key=lambda one: one["seed"])
    case["rows"][name] = summary([one["seconds"] for one in runs]) | {
        "runs": runs,
        "accuracy": statistics.fmean(one["accuracy"] for one in runs),
        "accuracy_six_views": statistics.fmean(one["accuracy_six_views"] for one in runs),
        "best_practice": _BEST[name],
        "yardstick": name != "xpnet",
    }
    case["steps"], case["tflop"] = run["steps"], tflop(case["settings"], run["steps"])


def _line(rung: str, name: str, run: dict[str, Any]) -> str:
    return (
        f"{rung:8} seed {run['seed']} {name:16} {100 * run['accuracy']:5.2f} %, six views "
        f"{100 * run['accuracy_six_views']:5.2f} %; {run['transforms']:.2f} + {run['training']:.2f} s"
    )


def table(suite: dict[str, Any]) -> str:
    """Return the ladder for people."""
    lines = [
        f"{'':8} {'':16} {'seeds':>5} {'accuracy':>9} {'six views':>9} {'s, median':>10} {'min':>8} {'max':>8}  TFLOP"
    ]
    for rung, case in suite["cases"].items():
        for name, row in case["rows"].items():
            lines.append(
                f"{rung:8} {name:16} {len(row['runs']):5} {100 * row['accuracy']:7.2f} % "
                f"{100 * row['accuracy_six_views']:7.2f} % {row['median']:10.2f} {row['min']:8.2f} "
                f"{max(row['values']):8.2f}  {case['tflop']:.3g}"
            )
    return "\n".join(lines)
