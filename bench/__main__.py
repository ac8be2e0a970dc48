"""Benchmarks: ``python -m bench epoch population --peers``; ``compare`` and ``page`` read what they write."""

from __future__ import annotations

import argparse
import importlib
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from bench.problem import NETWORKS
from bench.results import BenchError, write
from bench.turns import PAUSE

SUITES = {
    "step": ("bench.suites", "short runs of training steps: the quick look"),
    "epoch": ("bench.suites", "complete epochs, and those of xpnet.train with its evaluation"),
    "population": ("bench.suites", "R networks that train at once"),
    "scaling": ("bench.suites", "times against width, depth, batch, samples and replicas, with exponents"),
    "gradcheck": ("bench.gradcheck", "the gradient check of complete networks, fast and naive"),
    "startup": ("bench.startup", "imports, xpnet --help, and the time to a first step"),
    "memory": ("bench.memory", "peak memory of a training run"),
    "search": ("bench.search", "a search of 50 values of lambda, and 50 runs one after another"),
    "sklearn": ("bench.scikit_learn", "cross-validated searches and fits, beside those of scikit-learn"),
}
TOOLS = {
    "compare": "compare OLD.json NEW.json: exit code 1 if NEW is slower beyond the noise",
    "gpu": "everything that needs a GPU: are its results right, and how fast is it",
    "guarantees": "write docs/guarantees.md, the promises and how they were tested, from a record of the tests",
    "kernels": "compile the CUDA kernels for several GPUs: registers, shared memory, spills, loads in flight",
    "learn": "seconds and TFLOP to test accuracies on CIFAR-10, recipe by recipe, and docs/learning.md",
    "quality": "accuracy and log-loss of the scikit-learn estimator, beside other classifiers, on sets of packages",
    "soak": "train, kill, resume, corrupt and search at random for a while",
    "workers": "the share of their time that workers of a search lose to the storage",
    "page": "write the figures of docs/performance.md and the README from the newest results",
}


def _parser() -> argparse.ArgumentParser:
    lines = [f"  {name:11} {text}" for name, (_, text) in SUITES.items()]
    lines += ["", *(f"  {name:11} {text}" for name, text in TOOLS.items())]
    parser = argparse.ArgumentParser(
        prog="python -m bench",
        description="Measure xpnet, in turn with others.\n\n" + "\n".join(lines),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("suites", nargs="+", metavar="SUITE", choices=SUITES, help="one or more of the above")
    parser.add_argument("--peers", action="store_true", help="measure other libraries too, those that are installed")
    parser.add_argument(
        "--networks", default="abcde", type=_networks, help="which of abcde [abcde; gradcheck has its own]"
    )
    parser.add_argument("--rounds", type=_positive, default=7, help="counted rounds; one more warms up [7]")
    parser.add_argument("--samples", type=_positive, default=45_000, help="training samples [45000]")
    parser.add_argument("--data", help="a data set in place of noise of CIFAR-10's shape")
    parser.add_argument("--replicas", type=_replicas, default=_replicas("1,2,5,10,50,200"), help="[1,2,5,10,50,200]")
    parser.add_argument("--steps", type=_positive, help="steps a round [step 90, population 45 to 450, scaling 20]")
    parser.add_argument(
        "--pause", type=float, default=PAUSE, help=f"seconds before each turn, for threads to sleep [{PAUSE}]"
    )
    parser.add_argument(
        "--fast", action=argparse.BooleanOptionalAction, default=True, help="with the extra `fast` [on if installed]"
    )
    parser.add_argument("--out", type=Path, metavar="FILE.json", help="write the result to a new file")
    return parser


def _networks(text: str) -> str:
    if not text or set(text) - set(NETWORKS):
        raise argparse.ArgumentTypeError(f"{text}: must be letters of {''.join(NETWORKS)}")
    return text


def _positive(text: str) -> int:
    if not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text}: must be a whole number of at least 1")
    return int(text)


def _replicas(text: str) -> list[int]:
    return [_positive(part) for part in text.split(",")]


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """Run the suites that `options` name and return the result."""
    from bench.machine import describe, probe
    from bench.problem import write_data

    smallest = max(NETWORKS[name][2] for name in options.networks)
    if options.samples < smallest:
        raise BenchError(
            f"--samples {options.samples}: must be at least {smallest}, the batch of the networks asked for"
        )
    result: dict[str, Any] = {"command": _command(options), "machine": describe(), "probe_before": probe()}
    print("machine:", result["machine"]["processor"], result["probe_before"], flush=True)
    with tempfile.TemporaryDirectory(prefix="xpnet-bench-") as name:
        folder = Path(name)
        if set(options.suites) - {"gradcheck", "startup", "search", "sklearn"}:
            result["data"] = write_data(folder, options.samples, options.data)
        result |= {"samples": options.samples, "rounds": options.rounds, "suites": {}}
        for suite in dict.fromkeys(options.suites):
            run = getattr(importlib.import_module(SUITES[suite][0]), suite)
            print(f"== {suite}", flush=True)
            begin = time.perf_counter()
            found = run(options, folder, lambda text: print(text, flush=True))
            result["suites"][suite] = found | {"seconds": time.perf_counter() - begin}
    result["probe_after"] = probe()
    print("after:", result["probe_after"])
    return result


def _command(options: argparse.Namespace) -> str:
    """Return the command that measures the same again."""
    parser, words = _parser(), ["python -m bench", *options.suites]
    for action in parser._actions:
        value = getattr(options, action.dest, None)
        if action.dest in ("suites", "out", "help") or value == action.default:
            continue
        if action.dest == "fast":
            words.append("--no-fast")
        elif value is True:
            words.append(f"--{action.dest}")
        else:
            shown = ",".join(map(str, value)) if isinstance(value, list) else value
            words.append(f"--{action.dest} {shown}" if action.dest != "data" else "--data DATA")
    return " ".join(words)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command and return its exit code: 0 done, 1 slower than before, 2 the user can put it right."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    try:
        if given[:1] and given[0] in TOOLS:
            return int(importlib.import_module(f"bench.{given[0]}").main(given[1:]))
        options = _parser().parse_args(given)
        if options.out is not None and options.out.exists():
            raise BenchError(f"{options.out}: exists already; --out takes a new file")
        result = measure(options)
        if options.out is not None:
            write(options.out, result)
            print(f"written: {options.out}")
    except BenchError as error:
        print(f"bench: {error}", file=sys.stderr)
        return 2
    disagreeing = [
        f"{who} ({suite} {name})"
        for suite, found in result["suites"].items()
        for name, case in found["cases"].items()
        for who, one in case.get("agreement", {}).get("contenders", {}).items()
        if not one["agrees"]
    ]
    if disagreeing:
        print(f"bench: did not compute the same as xpnet: {', '.join(disagreeing)}", file=sys.stderr)
    return 1 if disagreeing else 0


if __name__ == "__main__":
    sys.exit(main())
