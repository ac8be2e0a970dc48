"""Contenders in processes of their own, one epoch each in turn, and whether they computed the same."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from bench.contenders import ALL, missing
from bench.problem import Problem
from bench.results import BenchError
from xpnet.analysis.step_benchmark import in_turn, summary

ROOT = Path(__file__).parents[1]
# Threads of a pool spin for up to 0.2 s after their last work (OpenMP's default) before they sleep.
PAUSE = 0.3
LEAD = 3
# Mean losses of the warm-up round differ by rounding alone; later ones by what rounding has grown to.
# Weights of deep networks go their own ways from the first rounding on; their losses stay together.
LOSS_TOLERANCE, LATER_TOLERANCE, WEIGHTS_TOLERANCE = 1e-3, 2e-2, 0.15
REFERENCE = "floor"


class Worker:
    """The parent's end of ``python -m bench.worker``."""

    def __init__(self, fast: bool | None = None) -> None:
        environment = dict(os.environ)
        if fast is not None:
            environment.pop("XPNET_FAST", None)
            if not fast:
                environment["XPNET_FAST"] = "0"
        self._process = subprocess.Popen(
            [sys.executable, "-m", "bench.worker"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=ROOT,
            env=environment,
        )

    def ask(self, **command: Any) -> dict[str, Any]:
        """Send a command, wait for the answer and return it."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        try:
            self._process.stdin.write(json.dumps(command) + "\n")
            self._process.stdin.flush()
            line = self._process.stdout.readline()
        except OSError:
            line = ""
        if not line:
            raise BenchError(f"a worker ended with code {self._process.wait()} on {command}")
        answer: dict[str, Any] = json.loads(line)
        if "error" in answer:
            raise BenchError(f"a worker failed: {answer['error']}")
        return answer

    def close(self) -> None:
        """End the process."""
        with contextlib.suppress(OSError):
            assert self._process.stdin is not None
            self._process.stdin.close()
        try:
            self._process.wait(timeout=20)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        if self._process.stdout is not None:
            self._process.stdout.close()

    def __enter__(self) -> Worker:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


@contextlib.contextmanager
def workers(names: list[str], problem: Problem, left_out: dict[str, str]) -> Iterator[dict[str, Worker]]:
    """Start a process for each contender and build it there; say in `left_out` who cannot be had, and why."""
    with contextlib.ExitStack() as stack:
        found: dict[str, Worker] = {}
        for name in names:
            entry = ALL[name]
            reason = missing(entry)
            if reason is None and problem.batch_norm and not entry.batch_norm:
                reason = "has no batch normalisation"
            if reason is None:
                worker = stack.enter_context(Worker(entry.fast))
                own = problem if not entry.single else Problem(**(vars(problem) | {"replicas": 1}))
                try:
                    answer = worker.ask(build="only", contender=name, problem=own.to_json())
                    reason = answer.get("missing")
                except BenchError as error:
                    reason = str(error)
                if reason is None:
                    found[name] = worker
                else:
                    worker.close()
            if reason is not None:
                left_out[name] = reason
        yield found


def measure(
    names: list[str],
    problem: Problem,
    rounds: int,
    steps: int,
    pause: float = PAUSE,
    reference: str = REFERENCE,
) -> dict[str, Any]:
    """Let `names` train `problem`, `steps` steps a round in turn; return the case with a row for each.

    `reference` is the contender that the others' speed is divided by.
    """
    left_out: dict[str, str] = {}
    answers: dict[str, list[dict[str, Any]]] = {}
    rows: dict[str, dict[str, Any]] = {}
    per_epoch = len(problem.labels()) // problem.batch
    with workers(names, problem, left_out) as found:
        failed: dict[str, str] = {}
        # Where few steps are timed, the first ones after a pause would count too much.
        lead = 0 if steps == per_epoch else min(LEAD, steps)

        def turn(name: str, number: int) -> float:
            if name in failed:
                return 0.0
            # One network that stands for R is given a whole epoch: in a few steps it would not get warm.
            own = per_epoch if ALL[name].single else steps
            try:
                answer = found[name].ask(run="only", number=number, steps=own, lead=0 if own == per_epoch else lead)
            except BenchError as error:
                # A peer that fails is left out; the others are still worth measuring.
                failed[name] = str(error)
                return 0.0
            answers.setdefault(name, []).append(answer)
            return float(answer["seconds"])

        in_turn({name: lambda number, name=name: turn(name, number) for name in found}, rounds, pause)
        for name, worker in found.items():
            if name not in failed:
                rows[name] = _row(name, answers[name], worker.ask(check="only"), problem.replicas, per_epoch)
    left_out |= failed
    case: dict[str, Any] = {
        "what": problem.words,
        "unit": "us a step",
        "reference": reference if reference in rows else None,
        "steps": steps,
        "steps_an_epoch": per_epoch,
        "scaled": steps != per_epoch,
        "rows": rows,
        "left_out": left_out,
    }
    if reference in rows:
        for row in rows.values():
            row["floor_reached"] = rows[reference]["median"] / row["median"]
    case["agreement"] = _agreement(rows)
    return case


def _row(
    name: str, answers: list[dict[str, Any]], check: dict[str, Any], replicas: int, per_epoch: int
) -> dict[str, Any]:
    times = replicas if ALL[name].single else 1
    counted = [1e6 * times * a["seconds"] / a["steps"] for a in answers[1:]]
    row = summary(counted) | {
        "epoch_seconds": float(np.median(counted)) * per_epoch / 1e6,
        "first_seconds": answers[0]["seconds"],
        "loss": [a["loss"] for a in answers],
        "best_practice": ALL[name].best,
        "yardstick": not name.startswith("xpnet"),
        **check,
    }
    if times > 1:
        row["multiplied_by"] = times
    if "evaluation" in answers[0]:
        # Of training's own time, which is what an epoch of xpnet.train costs more than its steps.
        shares = [a["evaluation"] / (a["seconds"] - a["evaluation"]) for a in answers[1:]]
        row["evaluation_share"] = float(np.median(shares))
    return row


def _agreement(rows: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """Compare every contender's losses and weights with those of the first of xpnet's.

    Returns:
        By contender, the relative differences of the mean loss of the warm-up round, the largest of
        later rounds, and of the sum of squared weights; ``"agrees"`` if all are within their tolerances.
    """
    base = next((name for name in rows if name.startswith("xpnet") and rows[name]["squares"]), None)
    if base is None:
        return {}
    found: dict[str, Any] = {}
    for name, row in rows.items():
        if name == base or not row["squares"] or "multiplied_by" in row:
            continue
        squares = abs(sum(row["squares"]) / sum(rows[base]["squares"]) - 1)
        pairs = zip(row["loss"], rows[base]["loss"], strict=True)
        losses = [abs(a / b - 1) for a, b in pairs if a is not None]
        first, later = (losses[0], max(losses[1:])) if losses else (None, None)
        agrees = squares <= WEIGHTS_TOLERANCE and (
            first is None or (first <= LOSS_TOLERANCE and later is not None and later <= LATER_TOLERANCE)
        )
        found[name] = {"first_loss": first, "later_loss": later, "squares": squares, "agrees": bool(agrees)}
    return {"with": base, "contenders": found}
