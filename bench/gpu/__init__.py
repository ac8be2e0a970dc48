"""Everything that needs a GPU, by one command: whether its results are right, and how long they take.

python -m bench gpu --out FILE.json          # all parts, under eight minutes
python -m bench gpu --parts kernels,epochs   # some of them
python -m bench gpu --dry-run                # on a pretended GPU, with small sizes: does the script itself work?

Each part is a process of its own, with a limit: one that crashes or hangs costs no other part its GPU, and the file
is written anew after each.  A part that fails runs once more at the end, with CUDA_LAUNCH_BLOCKING=1, so that the error
comes from the line that launched it.  Exit code 1 if one failed.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from bench.gpu.process import BLOCKING, run, work
from bench.results import BenchError, write

# Name, seconds that it may take, and what it does, in the order of what is to be known first: whether operations are
# right, how long epochs take on GPU and CPU, whether trainings are right, and then all the rest.
PARTS = {
    "kernels": (35, "every operation against its definition, on the device"),
    "epochs": (50, "epoch times of every stepper"),
    "crossover": (40, "from which width and batch size on the GPU wins"),
    "curves": (40, "training on CPU and GPU from one seed"),
    "accuracies": (25, "three and nine layers: CIFAR-10 (with --data), or CPU and GPU from one seed"),
    "populations": (40, "R networks at once"),
    "multi": (25, "one network on each multiprocessor"),
    "persistent": (15, "one network in one kernel, whose blocks wait for each other"),
    "tests": (90, "the tests marked gpu"),
    "gradients": (25, "the gradient check of the GPU's gradients"),
    "start": (30, "from the command to the first step"),
    "memory": (15, "memory on the device"),
    "peers": (45, "epoch times of PyTorch and JAX, where they are installed"),
}
_DEVICE = 60  # seconds to find out which it is


def main(arguments: Sequence[str]) -> int:
    """Run the parts, print a table, and return the exit code."""
    options = _parser().parse_args(arguments)
    if options.only is not None:
        return work(options)
    if options.fail and not options.dry_run:
        raise BenchError("--fail: is for a --dry-run")
    given = [f"--device={options.device}", *(["--dry-run"] if options.dry_run else [])]
    if options.data is not None:
        given.append(f"--data={options.data}")
    if options.out is not None and options.out.exists():
        raise BenchError(f"{options.out}: exists already; --out takes a new file")
    begin = time.perf_counter()
    device = run("device", given, _DEVICE)
    if "failed" in device:
        said = device.get("stderr", "nothing was said").splitlines()[-1]
        raise BenchError(device.get("refused") or f"--device {options.device}: {device['failed']}; {said}")
    print(f"device: {device['gpu'].get('name')}", flush=True)
    result = _result(options, device["gpu"])
    found: dict[str, Any] = result["parts"]
    if options.out is not None:
        write(options.out, result)
    deadline = begin + options.seconds
    for name in options.parts:
        print(f"== {name}: {PARTS[name][1]}", flush=True)
        found[name] = _run_part(options, given, name, deadline)
        if options.out is not None:
            write(options.out, result, replace=True)
    # Parts that failed run once more, each launch waited for, after all others have had their turn.
    for name in [name for name, part in found.items() if "failed" in part]:
        print(f"== {name}, again with {BLOCKING}=1", flush=True)
        environment = {BLOCKING: "1"}
        found[name]["again"] = {"environment": environment} | _run_part(options, given, name, deadline, environment)
        if options.out is not None:
            write(options.out, result, replace=True)
    print(_summary(found, time.perf_counter() - begin))
    return 1 if any("failed" in part for part in found.values()) else 0


def _run_part(
    options: argparse.Namespace, given: list[str], name: str, deadline: float, environment: dict[str, str] | None = None
) -> dict[str, Any]:
    """Run a part, within its limit and the time that is left, and print how it ended."""
    left = deadline - time.perf_counter()
    if left < 1:
        part: dict[str, Any] = {"skipped": f"the {options.seconds:.0f} seconds are over"}
    else:
        limit = min(options.limits.get(name, PARTS[name][0]), left)
        failing = [f"--fail={name}={options.fail[name]}"] if name in options.fail else []
        part = run(name, [*given, *failing], limit, environment)
    _tell(part)
    return part


def _tell(part: dict[str, Any]) -> None:
    """Print why a part failed or was skipped, after the lines that it has printed."""
    if "failed" in part:
        print("\n".join([f"   FAILED {part['failed']}", *part.get("stderr", "").splitlines()[-5:]]), flush=True)
    elif "skipped" in part:
        print(f"   skipped: {part['skipped']}", flush=True)


def _parser() -> argparse.ArgumentParser:
    lines = [f"  {name:12} {text}; at most {limit} s" for name, (limit, text) in PARTS.items()]
    parser = argparse.ArgumentParser(
        prog="python -m bench gpu",
        description="Check and measure what a GPU computes.\n\n" + "\n".join(lines),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--parts", type=_parts, default=list(PARTS), help="a list such as kernels,epochs [all]")
    parser.add_argument("--device", default="gpu", help="gpu or gpu:N [gpu]")
    parser.add_argument("--data", help="images for the accuracies: a folder or archive with CIFAR-10, or fewer")
    parser.add_argument("--seconds", type=float, default=480, help="no part goes on after so many [480]")
    parser.add_argument(
        "--limits", type=_limits, default={}, metavar="PART=S,...", help="other seconds that parts may take"
    )
    parser.add_argument("--dry-run", action="store_true", help="on a pretended GPU, with small sizes")
    parser.add_argument(
        "--fail",
        type=_failures,
        default={},
        metavar="PART=crash|hang,...",
        help="in a dry run: how parts shall fail, after a line",
    )
    parser.add_argument("--out", type=Path, metavar="FILE.json", help="write the result to a new file")
    # For the process of one part, which the script starts itself: the part, its result's file, its limit in seconds.
    for name in ("--only", "--into", "--limit"):
        parser.add_argument(name, help=argparse.SUPPRESS)
    return parser


def _parts(text: str) -> list[str]:
    names = text.split(",")
    if wrong := [name for name in names if name not in PARTS]:
        raise argparse.ArgumentTypeError(f"{wrong[0]}: must be of {', '.join(PARTS)}")
    return names


def _by_part(text: str) -> dict[str, str]:
    pairs = [pair.partition("=") for pair in text.split(",")]
    _parts(",".join(name for name, _, _ in pairs))
    return {name: value for name, _, value in pairs}


def _limits(text: str) -> dict[str, float]:
    try:
        limits = {name: float(value) for name, value in _by_part(text).items()}
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text}: must be seconds by part, such as epochs=90,peers=200") from None
    if wrong := [name for name, limit in limits.items() if not limit > 0]:
        raise argparse.ArgumentTypeError(f"{wrong[0]}={limits[wrong[0]]}: must be above 0 seconds")
    return limits


def _failures(text: str) -> dict[str, str]:
    failures = _by_part(text)
    if wrong := [name for name, how in failures.items() if how not in ("crash", "hang")]:
        raise argparse.ArgumentTypeError(f"{wrong[0]}={failures[wrong[0]]}: must be crash or hang")
    return failures


def _result(options: argparse.Namespace, gpu: dict[str, Any]) -> dict[str, Any]:
    from bench.machine import describe

    words = ["python -m bench gpu", *(["--dry-run"] if options.dry_run else [])]
    if options.parts != list(PARTS):
        words.append(f"--parts {','.join(options.parts)}")
    # The parts are no suites of rows: what compares those skips files without them.
    return {"command": " ".join(words), "machine": describe(), "gpu": gpu, "suites": {}, "parts": {}}


def _summary(found: dict[str, Any], seconds: float) -> str:
    lines = ["", f"{'part':12} {'seconds':>8}  outcome"]
    for name, part in found.items():
        outcome = part.get("failed") or part.get("skipped") or part.get("summary", "done")
        mark = "FAILED: " if "failed" in part else "skipped: " if "skipped" in part else ""
        lines.append(f"{name:12} {part.get('part_seconds', 0):8.1f}  {mark}{outcome}")
        if "again" in part:
            again = part["again"]
            what = again.get("failed") or again.get("skipped") or "done this time"
            lines.append(f"{'':12} {again.get('part_seconds', 0):8.1f}  with {BLOCKING}=1: {what}")
    return "\n".join([*lines, f"{'all':12} {seconds:8.1f}"])


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
