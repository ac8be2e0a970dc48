"""Runs commands in processes that are killed, stopped or starved: one process imports xpnet and forks for each.

``python commands.py``, which reads a JSON list of what to do from standard input, one after another, and writes what
became of each to standard output.  Each is a dictionary:

arguments   the command line
seconds     kill the process with SIGKILL after so many
call        kill it with SIGKILL just before this call to the file system, counted from 0
file_bytes  most bytes that a file may have, as a quota would have it
fail        pair: calls to the file system from the first number up to the second one find the disk full
signals     pairs (after this many steps, signal): sent by the process to itself
commands    pairs (after this many steps, command of the shell)
user        the user it becomes
slow        seconds that every call of the stepper takes longer
"""

from __future__ import annotations

import contextlib
import errno
import functools
import importlib
import itertools
import json
import os
import resource
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

# One thread, so that the process may fork.
os.environ |= {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1", "XPNET_FAST": "0"}


def run(what: dict[str, Any], folder: Path) -> dict[str, Any]:
    """Do one thing in a child; return its exit code (or minus its signal), its output, and how long it took."""
    out, err = folder / "out.txt", folder / "err.txt"
    begun = time.monotonic()
    child = os.fork()
    if child == 0:
        for descriptor, path in ((1, out), (2, err)):
            os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), descriptor)
        _child(what)
    if "seconds" in what:
        time.sleep(what["seconds"])
        os.kill(child, signal.SIGKILL)
    _, status = os.waitpid(child, 0)
    code = os.waitstatus_to_exitcode(status)
    text = {"out": out.read_text(), "err": err.read_text()}
    return {"code": code, "seconds": time.monotonic() - begun, **text}


def _child(what: dict[str, Any]) -> None:
    import xpnet.training.trainer
    from xpnet.cli import main

    code = 70
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background process would ignore it
    try:
        if "file_bytes" in what:
            resource.setrlimit(resource.RLIMIT_FSIZE, (what["file_bytes"],) * 2)
        if "user" in what:
            os.setgroups([])
            os.setgid(what["user"])
            os.setuid(what["user"])
        _patch(xpnet.training.active_replicas.ActiveReplicas, "take_steps", _watched(what))
        if what.keys() & {"signals", "commands"}:
            xpnet.training.trainer._SECONDS_A_CALL = 0  # one step a call: exact moments
        if "call" in what:
            _at_calls(range(what["call"], what["call"] + 1), _die)
        if "fail" in what:
            _at_calls(range(*what["fail"]), _no_space)
        main(what["arguments"])
        code = 0
    except SystemExit as end:
        code = int(end.code or 0)
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def _patch(owner: Any, name: str, wrap: Callable[[Any], Any]) -> None:
    setattr(owner, name, wrap(getattr(owner, name)))


def _watched(what: dict[str, Any]) -> Callable[[Any], Any]:
    """Return what lets the steps of a training send signals, and take longer."""
    pending = sorted([*map(tuple, what.get("signals", ())), *map(tuple, what.get("commands", ()))])

    steps = 0

    def wrap(real: Any) -> Any:
        def take(active: Any, stepper: Any, batches: Any, *arguments: Any) -> None:
            nonlocal steps
            real(active, stepper, batches, *arguments)
            steps += len(batches)
            while pending and steps >= pending[0][0]:
                _, act = pending.pop(0)
                os.kill(os.getpid(), act) if isinstance(act, int) else subprocess.run(act, shell=True, check=True)
                time.sleep(0.01)  # two signals at once may pass for one
            time.sleep(what.get("slow", 0))

        return take

    return wrap


def _at_calls(numbers: range, harm: Callable[[], None]) -> None:
    """Do harm just before the calls to the file system with these numbers."""
    counted = itertools.count()

    def wrap(real: Any) -> Any:
        def call(*arguments: Any, **options: Any) -> Any:
            if next(counted) in numbers:
                harm()
            return real(*arguments, **options)

        return call

    for name in ("fsync", "link"):
        _patch(os, name, wrap)
    for name in ("open", "replace", "unlink", "mkdir", "write_bytes", "touch"):
        _patch(Path, name, wrap)


def _die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def _no_space() -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def _import_what_runs_import() -> None:
    """Import what a run imports on its way: somebody else may not be able to read it."""
    with tempfile.TemporaryDirectory() as name:
        told, run = Path(name, "modules"), str(Path(name, "run"))
        child = os.fork()
        if child == 0:
            from xpnet.cli import main

            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, 1)
            os.dup2(nowhere, 2)
            main(["train", "--data", "patterns:300/100", "--hidden", "2", "--epochs", "1", "--out", run])
            main(["train", "--resume", run])
            told.write_text("\n".join(sys.modules))
            os._exit(0)
        os.waitpid(child, 0)
        for module in told.read_text().splitlines():
            if module not in sys.modules and not module.startswith("_"):
                with contextlib.suppress(ImportError):
                    importlib.import_module(module)


def main() -> None:
    """Do what standard input says."""
    import altair  # noqa: F401 - what takes long is imported once
    import numpy  # noqa: F401
    import scipy.linalg  # noqa: F401
    import vl_convert
    from parsed_once import keep_arguments

    import xpnet
    import xpnet.cli.progress
    import xpnet.ops.blas
    import xpnet.report.curves_chart
    import xpnet.report.drawing_process
    import xpnet.report.population_chart
    import xpnet.runs.saver
    from xpnet.cli.parser import make_parser

    # Drawing takes most of a short run, and is tested elsewhere; so are the samples.
    xpnet.report.drawing_process.started = lambda: None
    vl_convert.svg_to_png = lambda *_, **__: b"png"
    vl_convert.vegalite_to_svg = lambda *_, **__: "svg"
    xpnet.report.curves_chart.curves = lambda *_: {}
    xpnet.report.population_chart.population_figure = lambda *_: {}
    _patch(importlib.import_module("xpnet.data.patterns"), "_draw", functools.cache)
    for samples in ("600/100", "300/100"):
        xpnet.load_data(f"patterns:{samples}")
    _import_what_runs_import()
    keep_arguments(setattr)
    make_parser(["train"])["train"].assemble_argument_collection()
    xpnet.ops.blas.numpy_blas()  # found while its file can be read: without it, the last bits are others
    folder = Path.cwd()
    for line in sys.stdin:
        sys.stdout.write(json.dumps(run(json.loads(line), folder)) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
