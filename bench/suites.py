"""The suites that train: step, epoch and population, and scaling, which times them as problems grow."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from bench.contenders import OURS, PEERS, POPULATION_PEERS, missing
from bench.problem import Problem
from bench.turns import LEAD, REFERENCE, Worker, measure
from xpnet.analysis.step_benchmark import in_turn, summary

Say = Callable[[str], None]


def _ours(options: argparse.Namespace) -> list[str]:
    return [name for name in OURS if options.fast or name != "xpnet fast"]


def _tell(say: Say, name: str, case: dict[str, Any]) -> None:
    """Print a case as lines that end with the floor."""
    rows = case["rows"]
    ours = [row["median"] for who, row in rows.items() if who in ("xpnet numpy", "xpnet fast")]
    say(f"{name}  {case['what']}" + (f"; {case['steps']} steps timed, epochs scaled" if case["scaled"] else ""))
    for who, row in sorted(rows.items(), key=lambda item: item[1]["median"]):
        ratio = f"{row['median'] / min(ours):6.2f} x xpnet" if ours else ""
        share = f", floor reached {100 * row['floor_reached']:3.0f} %" if "floor_reached" in row else ""
        evaluation = f", evaluation {100 * row['evaluation_share']:.0f} %" if "evaluation_share" in row else ""
        each = f", {row['median'] / case['replicas']:.0f} us a network" if case.get("replicas", 1) > 1 else ""
        say(
            f"   {who:24} {row['median']:11.1f} us a step (min {row['min']:.1f}, {row['q1']:.1f} to {row['q3']:.1f}), "
            f"{row['epoch_seconds']:8.3f} s an epoch {ratio}{share}{evaluation}{each}"
        )
    for who, reason in case["left_out"].items():
        say(f"   {who:24} left out: {reason}")
    for who, found in case["agreement"].get("contenders", {}).items():
        if not found["agrees"]:
            say(f"   {who:24} DID NOT COMPUTE THE SAME: {found}")


def _by_network(
    options: argparse.Namespace, folder: Path, say: Say, names: list[str], most: int | None = None
) -> dict[str, Any]:
    """Time `names` and, if asked for, other libraries on every network, `most` steps a round or an epoch."""
    cases = {}
    for network in options.networks:
        problem = Problem.of(network, folder)
        steps = options.samples // problem.batch
        steps = steps if most is None else max(1, min(most, steps))
        contenders = [*names, *(PEERS if options.peers else [])]
        cases[network] = measure(contenders, problem, options.rounds, steps, options.pause)
        _tell(say, network, cases[network])
    return {"cases": cases}


def step(options: argparse.Namespace, folder: Path, say: Say) -> dict[str, Any]:
    """Time short runs of steps: the quick look."""
    return _by_network(options, folder, say, _ours(options), options.steps or 90)


def epoch(options: argparse.Namespace, folder: Path, say: Say) -> dict[str, Any]:
    """Time complete epochs, and those of ``xpnet.train`` with its evaluation."""
    train = "xpnet train" if options.fast else "xpnet train numpy"
    return _by_network(options, folder, say, [*_ours(options), train])


def population(options: argparse.Namespace, folder: Path, say: Say) -> dict[str, Any]:
    """Time R networks that train at once, some steps of an epoch, with the batches shared."""
    cases = {}
    for replicas in options.replicas:
        problem = Problem.of(options.networks[0], folder, replicas=replicas)
        # A turn of few networks needs more steps to get warm and to be measured.
        steps = min(options.steps or max(45, 900 // replicas), options.samples // problem.batch)
        names = _ours(options) + (list(POPULATION_PEERS) if options.peers else [])
        measured = measure(names, problem, options.rounds, steps, options.pause)
        cases[str(replicas)] = measured | {"replicas": replicas}
        _tell(say, f"R = {replicas}", cases[str(replicas)])
    return {"cases": cases, "network": options.networks[0]}


AXES: dict[str, tuple[int, ...]] = {
    "width": (32, 64, 128, 256, 512, 1024),
    "depth": (1, 2, 4, 8, 16),
    "batch": (25, 50, 100, 200, 400, 800, 1600),
    "samples": (2500, 5000, 10000, 20000, 40000),
    "replicas": (1, 2, 4, 8, 16, 32),
}


def _resized(axis: str, size: int, folder: Path) -> Problem:
    """Return the usual problem with one of its sizes changed."""
    hidden = {"width": (size, size), "depth": (50,) * size}
    return Problem.of("a", folder, **({"hidden": hidden[axis]} if axis in hidden else {axis: size}))


def exponent(sizes: list[int], seconds: list[float]) -> dict[str, float] | None:
    """Fit seconds = c * size**exponent by least squares in log-log; return the exponent and its standard error.

    None for fewer than three points, which tell nothing of an error.
    """
    x, y = np.log(sizes), np.log(seconds)
    if len(x) < 3:
        return None
    A = np.stack([x, np.ones_like(x)], axis=1)
    solution, *_ = np.linalg.lstsq(A, y, rcond=None)
    residual = y - A @ solution
    spread = np.sum((x - x.mean()) ** 2)
    error = np.sqrt(residual @ residual / (len(x) - 2) / spread)
    return {"exponent": float(solution[0]), "error": float(error)}


def words_of_fit(fit: dict[str, float] | None) -> str:
    """Return an exponent with its standard error."""
    return "too few sizes" if fit is None else f"{fit['exponent']:.2f} ± {fit['error']:.2f}"


def scaling(options: argparse.Namespace, folder: Path, say: Say) -> dict[str, Any]:
    """Time a step against width, depth, batch and replicas, and an epoch against samples; fit power laws."""
    fast = options.fast and missing(OURS["xpnet fast"]) is None
    who = "xpnet fast" if fast else "xpnet numpy"
    with Worker(fast) as ours, Worker(fast=False) as floor:
        cases = {
            axis: _axis(axis, sizes, options, folder, {who: ours, REFERENCE: floor}) for axis, sizes in AXES.items()
        }
    for axis, case in cases.items():
        shown = ", ".join(
            f"{size}: {row['median']:,.0f} ({100 * row['floor_reached']:.0f} %)" for size, row in case["rows"].items()
        )
        say(f"{axis:9} {case['unit']} (floor reached): {shown}")
        fits = [words_of_fit(case[key]) for key in ("fit", "fit_of_larger_half", "fit_of_floor")]
        say(f"{'':9} exponent {fits[0]}, of the larger half {fits[1]}, of the floor {fits[2]}")
    return {"cases": cases, "contender": who}


def _axis(
    axis: str, all_sizes: tuple[int, ...], options: argparse.Namespace, folder: Path, found: dict[str, Worker]
) -> dict[str, Any]:
    """Return the case of one axis: a row for each size, and the floor under each."""
    epochs = axis == "samples"
    sizes = [s for s in all_sizes if axis not in ("samples", "batch") or s <= options.samples]
    problems = {s: _resized(axis, s, folder) for s in sizes}
    steps = {
        s: s // p.batch if epochs else max(1, min(options.steps or 20, options.samples // p.batch))
        for s, p in problems.items()
    }
    turns = {}
    for who, worker in found.items():
        for size, problem in problems.items():
            key = f"{axis} {size}"
            worker.ask(build=key, contender=who, problem=problem.to_json())
            lead = 0 if epochs else min(LEAD, steps[size])

            def turn(
                number: int, worker: Worker = worker, key: str = key, steps: int = steps[size], lead: int = lead
            ) -> float:
                return float(worker.ask(run=key, number=number, steps=steps, lead=lead)["seconds"])

            turns[f"{who} {size}"] = turn
    times = in_turn(turns, options.rounds, options.pause)
    ours, floor = (
        {str(s): summary([1e6 * t / (1 if epochs else steps[s]) for t in times[f"{who} {s}"][1:]]) for s in sizes}
        for who in found
    )
    for size, row in ours.items():
        row["floor_reached"] = floor[size]["median"] / row["median"]
    medians = [row["median"] for row in ours.values()]
    # At least three sizes: two tell nothing of an error.
    larger = slice(max(0, min(len(sizes) // 2, len(sizes) - 3)), None)
    return {
        "what": f"{axis} of 3072-50-50-10 with BN, batch 100",
        "unit": f"us {'an epoch' if epochs else 'a step'}",
        "reference": None,
        "rows": ours,
        "floor": floor,
        "fit": exponent(sizes, medians),
        "fit_of_floor": exponent(sizes, [row["median"] for row in floor.values()]),
        "fit_of_larger_half": exponent(sizes[larger], medians[larger]),
    }
