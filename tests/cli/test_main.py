"""The command line as such: its commands, and how it ends when something goes wrong."""

from __future__ import annotations

import subprocess
import sys

import pytest

import xpnet
from xpnet.cli import main


def test_main_lists_its_commands_and_names_the_one_that_was_meant(command):
    out = command("--help").out
    assert all(name in out for name in ("train", "evaluate", "info"))
    assert command("--version").out.strip() == xpnet.__version__
    assert "train" in command.refused("trian")


def test_python_m_xpnet_runs_the_command_line():
    done = subprocess.run([sys.executable, "-m", "xpnet", "--version"], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == xpnet.__version__


class CUDARuntimeError(RuntimeError):
    """As CuPy has it."""

    status = 2


@pytest.mark.parametrize(
    ("error", "code", "message"),
    [
        (OSError(28, "No space left on device", "run/history.csv"), 2, "run/history.csv: No space left on device"),
        (MemoryError("1 TiB"), 2, "out of memory (1 TiB)"),
        (MemoryError(), 2, "out of memory; take a smaller"),
        (CUDARuntimeError("cudaErrorMemoryAllocation: out of memory"), 2, "out of memory (cudaErrorMemoryAllocation"),
        (ValueError("surprise"), 70, "internal error, ValueError: surprise"),
        (KeyboardInterrupt(), 130, "interrupted"),
    ],
)
def test_main_ends_with_one_sentence_and_a_traceback_with_debug_alone(command, monkeypatch, error, code, message):
    def fail(*_):
        raise error

    monkeypatch.setattr("xpnet.cli.parse", fail)
    err = command("info", code=code).err
    assert message in err
    assert len(err.strip().splitlines()) == 1
    if isinstance(error, Exception):
        with pytest.raises(type(error)):
            main(["info", "--debug"])


def test_main_leaves_the_objects_of_a_process_that_ends_alone():
    said = "atexit.register(lambda: print(gc.get_freeze_count() > 0))"  # called last
    program = f"import atexit, gc; {said}; from xpnet.cli import main; main(['--version'])"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.split() == [xpnet.__version__, "True"]
