"""Everything that needs a GPU, by one command: what is computed there is right, and how long it takes.

python -m bench gpu --out FILE.json          # all parts, under eight minutes
python -m bench gpu --parts kernels,epochs   # some of them
python -m bench gpu --dry-run                # on a pretended GPU, with small sizes: does the script itself work?

A part that fails is told and the others go on; exit code 1 if one failed.
"""

from __future__ import annotations

import argparse
import sys
import time
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from bench.gpu.context import Context, pretended
from bench.gpu.correct import accuracies, curves, gradients, kernels, tests
from bench.gpu.speed import crossover, epochs, memory, populations, start
from bench.results import BenchError, write

PARTS = {
    "kernels": (kernels, "every operation against its definition, on the device"),
    "curves": (curves, "training on CPU and GPU from one seed"),
    "gradients": (gradients, "the gradient check of the GPU's gradients"),
    "epochs": (epochs, "epoch times of every stepper, beside PyTorch and JAX"),
    "populations": (populations, "R networks at once"),
    "start": (start, "from the command to the first step"),
    "memory": (memory, "memory on the device"),
    "accuracies": (accuracies, "three and nine layers on CIFAR-10 (with --data)"),
    "crossover": (crossover, "from which width and batch size on the GPU wins"),
    "tests": (tests, "the tests marked gpu"),
}


def main(arguments: Sequence[str]) -> int:
    """Run the parts, print a table, and return the exit code."""
    options = _parser().parse_args(arguments)
    if options.out is not None and options.out.exists():
        raise BenchError(f"{options.out}: exists already; --out takes a new file")
    context = _context(options)
    print(f"device: {context.name}", flush=True)
    begin = time.perf_counter()
    found: dict[str, Any] = {}
    for name in options.parts:
        left = options.seconds - (time.perf_counter() - begin)
        if left < 0:
            found[name] = {"skipped": f"the {options.seconds:.0f} seconds are over"}
            print(f"== {name}: skipped, {found[name]['skipped']}", flush=True)
            continue
        print(f"== {name}: {PARTS[name][1]}", flush=True)
        at = time.perf_counter()
        try:
            found[name] = PARTS[name][0](context)
        except Exception as error:
            found[name] = {"failed": f"{type(error).__name__}: {error}", "traceback": traceback.format_exc()}
        found[name]["part_seconds"] = time.perf_counter() - at
        part = found[name]
        odd = f"   FAILED {part['failed']}" if "failed" in part else f"   skipped: {part.get('skipped')}"
        print("\n".join(part.get("lines", [])) or odd, flush=True)
    failed = [name for name, part in found.items() if "failed" in part]
    if options.out is not None:
        _write(options.out, context, found)
    print(_summary(found, time.perf_counter() - begin))
    return 1 if failed else 0


def _parser() -> argparse.ArgumentParser:
    lines = [f"  {name:12} {text}" for name, (_, text) in PARTS.items()]
    parser = argparse.ArgumentParser(
        prog="python -m bench gpu",
        description="Check and measure what a GPU computes.\n\n" + "\n".join(lines),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--parts", type=_parts, default=list(PARTS), help="a list such as kernels,epochs [all]")
    parser.add_argument("--device", default="gpu", help="gpu or gpu:N [gpu]")
    parser.add_argument("--data", help="folder with CIFAR-10, for the accuracies")
    parser.add_argument("--seconds", type=float, default=480, help="no part is begun after so many [480]")
    parser.add_argument("--dry-run", action="store_true", help="on a pretended GPU, with small sizes")
    parser.add_argument("--out", type=Path, metavar="FILE.json", help="write the result to a new file")
    return parser


def _parts(text: str) -> list[str]:
    names = text.split(",")
    if wrong := [name for name in names if name not in PARTS]:
        raise argparse.ArgumentTypeError(f"{wrong[0]}: must be of {', '.join(PARTS)}")
    return names


def _context(options: argparse.Namespace) -> Context:
    if options.dry_run:
        return pretended(options.data)
    from xpnet.backend import get_backend
    from xpnet.errors import DeviceError

    try:
        return Context(get_backend(options.device), data=options.data)
    except DeviceError as error:
        raise BenchError(str(error)) from None


def _write(path: Path, context: Context, found: dict[str, Any]) -> None:
    from bench.machine import describe

    # The parts are no suites of rows: what compares those skips files without them.
    result = {"command": f"python -m bench gpu {'--dry-run' if context.small else ''}".strip(), "machine": describe()}
    write(path, result | {"gpu": context.describe(), "suites": {}, "parts": found})


def _summary(found: dict[str, Any], seconds: float) -> str:
    lines = ["", f"{'part':12} {'seconds':>8}  outcome"]
    for name, part in found.items():
        outcome = part.get("failed") or part.get("skipped") or part.get("summary", "done")
        mark = "FAILED: " if "failed" in part else "skipped: " if "skipped" in part else ""
        lines.append(f"{name:12} {part.get('part_seconds', 0):8.1f}  {mark}{outcome}")
    return "\n".join([*lines, f"{'all':12} {seconds:8.1f}"])


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
