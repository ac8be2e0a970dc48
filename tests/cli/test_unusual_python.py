"""Commands where Python, Numba or the system are set up as few are: they work, or say in a sentence why they do not."""

from __future__ import annotations

import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

TRAIN = ("train", "--data", "patterns:60/20", "--batch-size", "10", "--hidden", "2", "--epochs", "1", "--out", "run")
linux = pytest.mark.skipif(sys.platform != "linux", reason="limits of open files differ")
numba = pytest.mark.skipif(find_spec("numba") is None, reason="needs Numba")


def run(*arguments, files=None, **variables):
    """Run a command with variables, and at most so many files that may be open; return code and errors."""
    command = [sys.executable, "-m", "xpnet", *arguments]
    if files is not None:
        command = ["sh", "-c", f'ulimit -n {files}; exec "$@"', "sh", *command]
    environment = {**os.environ, "XPNET_FAST": "0", **variables}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    return done.returncode, done.stdout, done.stderr


def test_python_without_docstrings_trains_and_shows_help():
    code, _, said = run(*TRAIN, PYTHONOPTIMIZE="2")
    assert (code, Path("run/model.safetensors").is_file()) == (0, True), said
    assert "warning: the figures cannot be drawn" in said
    code, out, _ = run("search", "--help", PYTHONOPTIMIZE="2")
    assert code == 0
    assert "Search settings" in out
    code, _, said = run("report", "run", PYTHONOPTIMIZE="2")
    assert code == 2
    assert said == "xpnet: figures: cannot be drawn by a Python that leaves docstrings out; run it without -OO\n"


@numba
def test_numba_that_may_not_compile_is_not_used():
    code, _, said = run(*TRAIN, XPNET_FAST="1", NUMBA_DISABLE_JIT="1")
    assert code == 0, said
    code, out, _ = run("info", "--json", XPNET_FAST="1", NUMBA_DISABLE_JIT="1")
    assert '"NumPy (the extra fast adds compiled ones)"' in out


@numba
def test_a_numba_that_cannot_be_loaded_is_named_with_what_helps():
    code, _, said = run(*TRAIN, XPNET_FAST="1", NUMBA_NUM_THREADS="0")
    assert code == 2
    assert "Numba: cannot be loaded (Number of threads specified must be > 0); " in said
    assert said.endswith("mend that, or go without it: XPNET_FAST=0\n")
    assert not Path("run").exists()
    # As llvmlite raises it where memory is limited: what the system said is within.
    Path("llvmlite").mkdir()
    raised = "try: raise OSError('failed to map segment')\nexcept OSError: raise OSError('perhaps it is not there.')"
    Path("llvmlite/__init__.py").write_text(raised)
    code, _, said = run(*TRAIN, XPNET_FAST="1", PYTHONPATH=str(Path.cwd()))
    assert code == 2
    assert "xpnet: Numba: cannot be loaded (failed to map segment); mend that, or go" in said


@linux
def test_few_open_files_cost_the_figures_and_nothing_else():
    code, _, said = run(*TRAIN, files=8)
    assert code == 0, said
    assert (
        "warning: the figures cannot be drawn (a chart cannot be drawn (Too many open files)); all else is whole"
        in said
    )
    assert Path("run/metrics.json").is_file()
    assert "panicked" not in said
