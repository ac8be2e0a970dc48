"""The ladder: seconds and TFLOP to test accuracies of CIFAR-10, for purely fully connected networks.

python -m bench learn --peers                 # all rungs, five seeds, xpnet and PyTorch in turn: hours
python -m bench learn --rungs fast-50,fast-60 --seeds 2
python -m bench learn --steps --peers         # the training step alone, minutes
python -m bench learn --ensemble RUN RUN ...  # finished runs, averaged
python -m bench learn --page                  # docs/learning.md and the figures of `xpnet recipes`, from the results
python -m bench learn --page --check          # exit code 1 if they are not what this would write

A rung is a recipe (`xpnet recipes`).  Each training has a process of its own, and the file is written anew after each;
the same command goes on where an earlier one ended.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from bench.learn.rungs import RUNGS, settings_of
from bench.results import FOLDER, BenchError, read, write
from bench.turns import PAUSE

SPLIT = "49k"


def main(arguments: Sequence[str]) -> int:
    """Measure the ladder or its steps, or write the page; return the exit code."""
    options = _parser().parse_args(arguments)
    if options.page or options.check:
        from bench.learn.page import write_pages

        return write_pages(options.root, options.results, check=options.check)
    kind = "-ensemble" if options.ensemble else "-gpu" * (options.device == "gpu")
    out = options.out or FOLDER / f"{time.strftime('%Y-%m-%d')}-learn{kind}.json"
    if options.out is None and options.epochs_scale != 1:
        raise BenchError("--epochs-scale: makes no ladder; name a file with --out")
    result = _begun(out, options)
    if options.ensemble:
        return _ensemble(options, result, out)
    return _steps(options, result, out) if options.steps else _ladder(options, result, out)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m bench learn",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--rungs", type=_rungs, default=list(RUNGS), metavar="NAME,...", help="[all]")
    parser.add_argument("--seeds", type=_whole, default=5, help="seeds 0, 1, ... of each rung [5]")
    parser.add_argument("--peers", action="store_true", help="measure PyTorch too, in turn")
    parser.add_argument("--compiled", action="store_true", help="with --peers: trainings with torch.compile, too")
    parser.add_argument("--device", choices=("cpu", "gpu"), default="cpu")
    parser.add_argument("--data", help="folder or archive with CIFAR-10 [where xpnet finds it; --steps: noise]")
    parser.add_argument(
        "--out",
        type=Path,
        metavar="FILE.json",
        help="the result, gone on with if there [bench/results/DATE-learn.json]",
    )
    parser.add_argument("--steps", action="store_true", help="measure the training step of two recipes alone")
    parser.add_argument("--rounds", type=_whole, default=15, help="with --steps: counted rounds [15]")
    parser.add_argument("--samples", type=_whole, default=45_000, help="with --steps: training samples [45000]")
    parser.add_argument("--steps-a-round", type=_whole, default=45, help="with --steps [45]")
    parser.add_argument("--pause", type=float, default=PAUSE, help=f"with --steps: seconds before each turn [{PAUSE}]")
    parser.add_argument(
        "--ensemble", type=Path, nargs="+", metavar="RUN", help="average the networks of finished runs of xpnet train"
    )
    parser.add_argument(
        "--shared",
        type=float,
        default=0.0,
        metavar="N",
        help="with --ensemble: epochs that all have from the first [0]",
    )
    parser.add_argument(
        "--page", action="store_true", help="write docs/learning.md, its chart and recipes_reached.toml"
    )
    parser.add_argument("--check", action="store_true", help="with --page: change nothing")
    # For tests: shorter trainings, on other data.
    parser.add_argument("--epochs-scale", type=float, default=1.0, help=argparse.SUPPRESS)
    parser.add_argument("--split", default=SPLIT, help=argparse.SUPPRESS)
    parser.add_argument("--results", type=Path, default=FOLDER, help=argparse.SUPPRESS)
    parser.add_argument("--root", type=Path, default=Path(__file__).parents[2], help=argparse.SUPPRESS)
    return parser


def _rungs(text: str) -> list[str]:
    names = text.split(",")
    if wrong := [name for name in names if name not in RUNGS]:
        raise argparse.ArgumentTypeError(f"{wrong[0]}: must be of {', '.join(RUNGS)}")
    return names


def _whole(text: str) -> int:
    if not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text}: must be a whole number of at least 1")
    return int(text)


def _command(options: argparse.Namespace) -> str:
    """Return the command that measures the same again."""
    words, defaults = ["python -m bench learn"], _parser().parse_args([])
    for name, value in vars(options).items():
        if value == getattr(defaults, name) or name in ("out", "results", "root"):
            continue
        flag = f"--{name.replace('_', '-')}"
        if name == "ensemble":
            words.append(f"{flag} {' '.join(path.name for path in value)}")
            continue
        shown = (
            "DATA"
            if name == "data"
            else ",".join(value)
            if isinstance(value, list)
            else f"{value:g}"
            if isinstance(value, float)
            else str(value)
        )
        words.append(flag if value is True else f"{flag} {shown}")
    return " ".join(words)


def _begun(out: Path, options: argparse.Namespace) -> dict[str, Any]:
    """Return the result to go on with, that of an earlier command or a new one, with a session for this command."""
    from bench.machine import describe, probe

    machine = describe()
    result = read(out) if out.exists() else {"command": _command(options), "machine": machine, "suites": {}}
    if "sessions" not in result and result["suites"]:
        raise BenchError(f"{out}: is not a ladder; --out takes a new file, or one that this command has written")
    before = result["machine"]
    for name in ("processor", "cores", "python", "packages", "environment"):
        if before.get(name) != machine[name]:
            raise BenchError(
                f"{out}: was measured with {name} = {before.get(name)}, and this would be {machine[name]}; "
                "--out takes a new file"
            )
    session = {"command": _command(options), "date": machine["date"], "time": machine["time"]}
    session |= {"commit": machine["commit"], "probe_before": probe()}
    result.setdefault("sessions", []).append(session)
    print(f"machine: {machine['processor']}, {machine['cores']} cores, {session['probe_before']}", flush=True)
    return result


def _keep(result: dict[str, Any], out: Path, begin: float) -> None:
    """Write the result in the place of what was written before."""
    result["sessions"][-1]["seconds"] = time.perf_counter() - begin
    write(out, result, replace=True)


def _ladder(options: argparse.Namespace, result: dict[str, Any], out: Path) -> int:
    from bench.learn.ladder import climb, table
    from bench.learn.training import Rung
    from bench.machine import probe

    data = _data(options)
    name = "learn" if options.device == "cpu" else "learn-gpu"
    given = {"split": options.split, "epochs_scale": options.epochs_scale, "device": options.device}
    suite = result["suites"].setdefault(name, given | {"cases": {}})
    if wrong := [key for key, value in given.items() if suite[key] != value]:
        raise BenchError(f"{out}: was measured with {wrong[0]} = {suite[wrong[0]]}; --out takes a new file")
    rungs = [
        Rung(rung, settings_of(rung, options.epochs_scale), data, options.split, options.device)
        for rung in options.rungs
    ]
    for rung in rungs:
        case = suite["cases"].get(rung.name)
        if case is not None and case["settings"] != rung.settings:
            raise BenchError(f"{out}: the recipe {rung.name} has changed since; --out takes a new file")
    who = ["xpnet"] + options.peers * [
        "PyTorch",
        *(["PyTorch bfloat16"] if options.device == "cpu" else []),
        *(["PyTorch compiled"] if options.compiled else []),
    ]
    begin = time.perf_counter()
    session = len(result["sessions"]) - 1
    climb(suite, rungs, options.seeds, who, session, lambda: _keep(result, out, begin), _say)
    # In the order of the ladder, however it was measured.
    suite["cases"] = {rung: suite["cases"][rung] for rung in RUNGS if rung in suite["cases"]}
    result["sessions"][-1]["probe_after"] = probe()
    _keep(result, out, begin)
    print(table(suite))
    print(f"written: {out}")
    return 1 if any(case["left_out"] for case in suite["cases"].values()) else 0


def _data(options: argparse.Namespace) -> str:
    """Return where CIFAR-10 is."""
    from xpnet.data import find_cifar10

    data = options.data or find_cifar10()
    if data is None:
        raise BenchError("--data: CIFAR-10 is not on this machine; name its folder or archive")
    return str(Path(data).resolve()) if Path(data).exists() else str(data)


def _ensemble(options: argparse.Namespace, result: dict[str, Any], out: Path) -> int:
    from bench.learn.ensemble import NAME, ensemble
    from bench.machine import probe

    begin = time.perf_counter()
    found = ensemble(options.ensemble, _data(options), options.shared, _say)
    result["suites"][NAME] = found | {"session": len(result["sessions"]) - 1}
    result["sessions"][-1]["probe_after"] = probe()
    _keep(result, out, begin)
    print(f"written: {out}")
    return 0


def _steps(options: argparse.Namespace, result: dict[str, Any], out: Path) -> int:
    from bench.learn.steps import steps
    from bench.machine import probe

    begin = time.perf_counter()
    with tempfile.TemporaryDirectory(prefix="xpnet-bench-") as folder:
        found = steps(options, Path(folder), _say)
    result["suites"]["learn-steps"] = found | {"session": len(result["sessions"]) - 1}
    result["sessions"][-1]["probe_after"] = probe()
    _keep(result, out, begin)
    print(f"written: {out}")
    checked = [one for case in found["cases"].values() for one in case["agreement"].get("contenders", {}).values()]
    return 0 if all(one["agrees"] for one in checked) else 1


def _say(text: str) -> None:
    print(text, flush=True)
