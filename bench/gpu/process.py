"""The process of one part: starting, limiting and ending it, and the work within it."""

from __future__ import annotations

import argparse
import contextlib
import faulthandler
import importlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from bench.gpu.context import Context

ROOT = Path(__file__).parents[2]
# Lets every launch be waited for, so that its error is raised where it was launched.
BLOCKING = "CUDA_LAUNCH_BLOCKING"
# The modules that have the parts, as functions of their names.
_MODULES = ("correct", "speed", "multi", "persistent", "marked")
# Of what a part that failed wrote to standard error, so many characters are kept.
_KEPT = 4000


def run(name: str, given: list[str], limit: float, environment: dict[str, str] | None = None) -> dict[str, Any]:
    """Run a part in a process of its own and return what it found, with why it failed if it did.

    After `limit` seconds the process is ended, with all that it has started; what it had found until then is kept.
    """
    begin = time.perf_counter()
    with tempfile.TemporaryDirectory(prefix="xpnet-bench-") as folder:
        into, said = Path(folder, "found.json"), Path(folder, "stderr.txt")
        words = ["gpu", *given, f"--only={name}", f"--into={into}", f"--limit={limit}"]
        code = "import sys; from bench.__main__ import main; sys.exit(main())"
        path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
        with said.open("w") as stderr:
            process = subprocess.Popen(
                [sys.executable, "-c", code, *words],
                stdin=subprocess.DEVNULL,
                stderr=stderr,
                start_new_session=True,
                env=os.environ | {"PYTHONPATH": path} | (environment or {}),
            )
            try:
                why = _outcome(process, limit)
            finally:
                _end(process)
        found: dict[str, Any] = json.loads(into.read_text(encoding="utf-8")) if into.exists() else {}
        if why is not None:
            found.setdefault("failed", why)
            if text := said.read_text(encoding="utf-8", errors="replace")[-_KEPT:].strip():
                found["stderr"] = text
    return found | {"part_seconds": time.perf_counter() - begin}


def _outcome(process: subprocess.Popen[bytes], limit: float) -> str | None:
    """Wait for a process; return why it failed, or None."""
    try:
        code = process.wait(timeout=limit)
    except subprocess.TimeoutExpired:
        return f"hung: it was ended after {limit:.0f} s"
    if code < 0:
        with contextlib.suppress(ValueError):
            return f"crashed: {signal.Signals(-code).name}"
    return f"ended with exit code {code}" if code else None


def _end(process: subprocess.Popen[bytes]) -> None:
    """End a process, and those that it has started."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        if hasattr(os, "killpg"):
            os.killpg(process.pid, signal.SIGKILL)
        else:
            process.kill()
    with contextlib.suppress(subprocess.TimeoutExpired):  # one that waits for its driver cannot be ended
        process.wait(timeout=10)


def work(options: argparse.Namespace) -> int:
    """Do the work of a part in its own process; return its exit code."""
    faulthandler.enable()
    # A part that hangs shows where, before it is ended.
    faulthandler.dump_traceback_later(0.8 * float(options.limit))
    into, name = Path(options.into), options.only
    context, error = _context(options)
    if context is None:
        _write(into, {"failed": error, "refused": error})
        return 2
    if name == "device":
        _write(into, {"gpu": context.describe()})
        return 0

    def part() -> dict[str, Any]:
        return context.found | {"lines": context.lines}

    def save() -> None:
        _write(into, part())
        _fail(options.fail.get(name))

    context.on_change = save
    functions = {key: value for module in _MODULES for key, value in vars(_module(module)).items()}
    try:
        context.found |= functions[name](context)
    except Exception as failure:
        traceback.print_exc()
        context.found |= {"failed": f"{type(failure).__name__}: {failure}", "traceback": traceback.format_exc()}
    _write(into, part())
    return 1 if "failed" in context.found else 0


def _module(name: str) -> Any:
    return importlib.import_module(f"bench.gpu.{name}")


def _context(options: argparse.Namespace) -> tuple[Context | None, str]:
    """Return what the part is given, or why there is none."""
    from bench.gpu.context import Context, pretended
    from xpnet.backend import get_backend
    from xpnet.errors import DeviceError

    if options.dry_run:
        return pretended(options.data), ""
    try:
        return Context(get_backend(options.device), data=options.data), ""
    except DeviceError as error:
        return None, str(error)


def _fail(how: str | None) -> None:
    """Crash or hang on purpose, as ``--fail`` asks of a dry run, after the first line of a part."""
    if how == "crash":
        os.kill(os.getpid(), signal.SIGSEGV)
    elif how == "hang":  # in a process that would live on alone
        subprocess.run([sys.executable, "-c", "import time; time.sleep(3600)"], check=False)


def _write(path: Path, found: dict[str, Any]) -> None:
    """Write what was found; a process that is ended meanwhile leaves what was there before."""
    beside = path.with_suffix(".new")
    beside.write_text(json.dumps(found), encoding="utf-8")
    beside.replace(path)
