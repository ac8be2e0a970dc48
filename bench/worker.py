"""A process that builds contenders and runs their epochs when it is asked to, and sleeps in between.

    python -m bench.worker

Every contender has a process of its own, so that the thread pools of OpenBLAS, OpenMP and XLA never
spin against each other.  Commands and answers are lines of JSON:

    {"build": KEY, "contender": NAME, "problem": {...}}  ->  {"built": KEY} or {"missing": REASON}
    {"run": KEY, "number": ROUND, "steps": K, "lead": L} ->  {"seconds": S, "loss": MEAN, ...}
    {"check": KEY}                                       ->  {"squares": SUM OF W**2, "pools": [...], "versions": {...}}
"""

from __future__ import annotations

import json
import os
import sys
import time
from typing import Any

import numpy as np

from bench.contenders import ALL, Contender, make
from bench.machine import pools, versions
from bench.problem import Problem


class Worker:
    """What the process holds: contenders with their problems, by key."""

    def __init__(self) -> None:
        self._built: dict[str, tuple[str, Contender, Problem]] = {}

    def answer(self, command: dict[str, Any]) -> dict[str, Any]:
        """Do what a command says and return the answer."""
        if "build" in command:
            return self._build(command["build"], command["contender"], Problem.from_json(command["problem"]))
        if "run" in command:
            return self._run(command["run"], command["number"], command["steps"], command.get("lead", 0))
        return self._check(command["check"])

    def _build(self, key: str, name: str, problem: Problem) -> dict[str, Any]:
        try:
            self._built[key] = (name, make(name, problem), problem)
        except ImportError as error:
            return {"missing": f"{type(error).__name__}: {error}"}
        return {"built": key}

    def _run(self, key: str, number: int, steps: int, lead: int) -> dict[str, Any]:
        _, contender, problem = self._built[key]
        perm, eta = problem.turn(number, steps)
        if lead:
            # Untimed: they wake the threads and fill the caches.
            contender.epoch(perm[:lead], eta[:lead])
        begin = time.perf_counter()
        loss = contender.epoch(perm, eta)
        seconds = time.perf_counter() - begin
        return {"seconds": seconds, "loss": None if loss is None else float(loss), "steps": steps} | getattr(
            contender, "figures", {}
        )

    def _check(self, key: str) -> dict[str, Any]:
        name, contender, _ = self._built[key]
        squares = [float(np.sum(np.asarray(W, np.float64) ** 2)) for W in contender.weights()]
        return {"squares": squares or None, "pools": pools(), "versions": versions(ALL[name].needs)}


def main() -> None:
    """Answer commands until there are no more."""
    # Libraries print as they like; what they print goes to standard error, and answers go out alone.
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    worker = Worker()
    for line in sys.stdin:
        try:
            answer = worker.answer(json.loads(line))
        except Exception as error:  # whatever fails in a peer must reach the parent
            answer = {"error": f"{type(error).__name__}: {error}"}
        print(json.dumps(answer), file=answers, flush=True)


if __name__ == "__main__":
    main()
