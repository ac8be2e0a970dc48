"""Commands where Python, Numba or the system are set up as few are: they work, or say in a sentence why they do not."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path

import pytest
from examples import thorough
from together import Caller

TRAIN = ("train", "--data", "patterns:60/20", "--batch-size", "10", "--hidden", "2", "--epochs", "1", "--out", "run")
linux = pytest.mark.skipif(sys.platform != "linux", reason="limits of open files differ")
numba = pytest.mark.skipif(find_spec("numba") is None, reason="needs Numba")


@pytest.fixture
def python() -> Iterator[Callable[..., Caller]]:
    """Return a function that starts a process with environment variables, which carries out commands."""
    started: list[Caller] = []

    def start(**variables: str) -> Caller:
        started.append(Caller(**variables))
        return started[-1]

    yield start
    for one in started:
        one.kill()


@pytest.mark.slow
def test_python_without_docstrings_trains_and_shows_help(python):
    process = python(PYTHONOPTIMIZE="2")
    done = process.call(*TRAIN)
    assert (done.code, Path("run/model.safetensors").is_file()) == (0, True), done.err
    assert "warning: the figures cannot be drawn" in done.err
    done = process.call("search", "--help")
    assert done.code == 0
    assert "Search settings" in done.out
    done = process.call("report", "run")
    assert done.code == 2
    assert done.err == "xpnet: figures: cannot be drawn by a Python that leaves docstrings out; run it without -OO\n"


@pytest.mark.slow
@numba
def test_numba_that_may_not_compile_is_not_used(python):
    process = python(XPNET_FAST="1", NUMBA_DISABLE_JIT="1")
    done = process.call(*TRAIN)
    assert done.code == 0, done.err
    assert '"NumPy (the extra fast adds compiled ones)"' in process.call("info", "--json").out


@thorough
@numba
def test_numba_that_cannot_be_loaded_is_named_with_what_helps(python):
    done = python(XPNET_FAST="1", NUMBA_NUM_THREADS="0").call(*TRAIN)
    assert done.code == 2
    assert "Numba: cannot be loaded (Number of threads specified must be > 0); " in done.err
    assert done.err.endswith("mend that, or go without it: XPNET_FAST=0\n")
    assert not Path("run").exists()
    # As llvmlite raises it where memory is limited: what the system said is within.
    Path("llvmlite").mkdir()
    raised = "try: raise OSError('failed to map segment')\nexcept OSError: raise OSError('perhaps it is not there.')"
    Path("llvmlite/__init__.py").write_text(raised)
    done = python(XPNET_FAST="1", PYTHONPATH=str(Path.cwd())).call(*TRAIN)
    assert done.code == 2
    assert "xpnet: Numba: cannot be loaded (failed to map segment); mend that, or go" in done.err


@pytest.mark.thorough
@linux
def test_few_open_files_cost_the_figures_and_nothing_else():
    command = ["sh", "-c", 'ulimit -n 8; exec "$@"', "sh", sys.executable, "-m", "xpnet", *TRAIN]
    environment = {**os.environ, "XPNET_FAST": "0"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    warning = "warning: the figures cannot be drawn (a chart cannot be drawn (Too many open files))"
    assert f"{warning}; everything else is complete" in done.stderr
    assert Path("run/metrics.json").is_file()
    assert "panicked" not in done.stderr
