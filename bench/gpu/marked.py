"""The part that runs the tests marked ``gpu``."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections import deque
from typing import Any

from bench.gpu.context import Context
from bench.gpu.correct import WrongResultError
from bench.gpu.process import ROOT

# Lines about errors of tests that are kept, of each file.
_ERRORS = 40


def tests(context: Context) -> dict[str, Any]:
    """Run the tests marked gpu."""
    if context.small:
        return {"skipped": "a dry run"}
    # By name: other files import what such a machine need not have.
    files = ["tests/test_gpu.py", "tests/analysis/gradcheck/test_devices.py"]
    files += ["tests/test_gpu_multi.py", "tests/test_gpu_persistent.py"]
    context.found["failures"] = failures = []
    passed = 0
    for file in files:  # a process each, as an error of a kernel takes the GPU from all that follows in the process
        count, wrong = run_tests(context, file)
        passed += count
        failures += wrong
    if failures or not passed:
        raise WrongResultError("\n".join([f"{passed} passed, {len(failures)} failed", *failures[:5]]))
    return {"summary": f"{passed} passed"}


def run_tests(context: Context, file: str) -> tuple[int, list[str]]:
    """Run the tests of a file; return how many pass and what fails, and tell both as they end."""
    options = ["-v", "--tb=short", "-m", "gpu", "-p", "no:cacheprovider"]
    passed, failures, begun = 0, list[str](), "no test"
    errors, tail = list[str](), deque[str](maxlen=25)
    with subprocess.Popen(
        [sys.executable, "-m", "pytest", *options, file],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env=os.environ | {"PYTHONUNBUFFERED": "1"},
    ) as process:
        for line in process.stdout or ():
            (errors if line.startswith("E ") and len(errors) < _ERRORS else tail).append(line.rstrip())
            if "::" in line.partition(" ")[0]:
                # It is printed before the test runs, so that one that hangs is known.
                begun = context.found["begun"] = line.strip()
                context.on_change()
            ended = re.match(r"(\S+::.*?) (PASSED|FAILED|ERROR|SKIPPED)", line)
            if ended is None:
                continue
            if ended[2] == "PASSED":
                passed += 1
                continue
            failures.append(f"{ended[2]} {ended[1]}")
            context.tell(failures[-1])
        code = process.wait()
    # Codes 0 and 1 say whether tests failed, and the lines have said which.
    if code not in (0, 1) or (code == 1 and not failures):
        failures.append(f"{file}: pytest ended with exit code {code}, after it began {begun}")
    if failures:
        context.found.setdefault("output", {})[file] = [*errors, *tail]
    context.tell(f"{file}: {passed} passed, {len(failures)} failed")
    return passed, failures
