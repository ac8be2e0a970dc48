"""No network but for ``xpnet data fetch``: in processes that cannot reach one, and are killed where they try."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from examples import thorough
from together import REPRODUCE, Caller

HELPERS = Path(__file__).parent / "helpers"
FORBID = f"""
import sys
sys.path.insert(0, {str(HELPERS)!r})
import offline
print(offline.forbid_in_the_kernel())
offline.forbid_in_python()
"""
IMPATIENT = "from xpnet.data import download; download._PAUSES = (0, 0, 0, 0)"
ATTEMPTS = "import json, offline; print(json.dumps([offline.attempts, offline.started]))"
IMPORT_ALL = """
import importlib, pkgutil
import xpnet
found = [module.name for module in pkgutil.walk_packages(xpnet.__path__, "xpnet.") if "__main__" not in module.name]
for name in found:
    importlib.import_module(name)
print(len(found))
"""
TINY = "--data patterns:300/100 --hidden 4 --device cpu --quiet"
COMMANDS = (
    f"train {TINY} --epochs 2 --runs 2 --out run",
    "train --resume run --quiet",
    "evaluate run --figure confusion --quiet",
    "predict run rows.npy",
    "export run --quiet",
    f"gradcheck {TINY} --features 20 --figure check",
    f"lr-range {TINY} --out rates",
    "diagnose run --out diagnosis --quiet",
    f"search lambda {TINY} --n-s 4 --cycles 1 --trials 3 --out search",
    "report run --figures figures --quiet",
    "report search --quiet",
    "data info patterns:300/100 --figure samples --quiet",
    "info --quiet",
)


@pytest.fixture(scope="module")
def caller() -> Iterator[Caller]:
    """Yield a process without a network."""
    made = Caller(XPNET_FAST="1")
    try:
        made.call(python=FORBID)
        yield made
    finally:
        made.kill()


def attempts(caller: Caller) -> tuple[list[str], list[str]]:
    """Return what was tried, and the programs that were started."""
    found = json.loads(caller.call(python=ATTEMPTS).out)
    return found[0], found[1]


@thorough
@pytest.mark.guarantee("supply-chain")
def test_importing_every_module_reaches_no_network(caller: Caller, harm):
    done = caller.call(python=IMPORT_ALL)
    assert int(done.out) > 100, done
    assert attempts(caller) == ([], [])
    harm.did("modules imported without a network", int(done.out))


@pytest.mark.slow
@pytest.mark.guarantee("supply-chain")
def test_no_command_reaches_a_network(caller: Caller, harm):
    np.save("rows.npy", np.zeros((3, 3072), np.uint8))
    for command in COMMANDS:
        done = caller.call(*command.split())
        assert done.code == 0, (command, done.err)
    assert caller.call("--out", "reproduction", "--quiet", python=REPRODUCE).code == 0
    assert caller.call("report", "reproduction", "--quiet").code == 0
    connections, programs = attempts(caller)
    assert connections == []
    # The process that draws is a Python without a network too: the kernel forbids it to all children.
    assert set(programs) <= {sys.executable}
    harm.did("commands carried out without a network", len(COMMANDS) + 2)


@pytest.mark.guarantee("supply-chain")
def test_only_fetching_connects_and_says_so_where_it_cannot():
    caller = Caller()
    try:
        caller.call(python=FORBID.replace("print(offline.forbid_in_the_kernel())", IMPATIENT))
        done = caller.call("data", "fetch", "cifar10", "--quiet", "--from", "http://127.0.0.1:9/x.tar.gz")
        assert "http://127.0.0.1:9/x.tar.gz: could not be fetched in 4 attempts" in done.sentence
        tried, _ = attempts(caller)
        assert len(tried) >= 4
        assert all("urllib.Request" in one for one in tried)
    finally:
        caller.kill()


def test_the_kernel_kills_what_python_does_not_see():
    code = "import offline, ctypes; print(offline.forbid_in_the_kernel(), flush=True); {}"
    for call, ends in (
        ("ctypes.CDLL(None).socket(2, 1, 0)", -signal.SIGSYS),
        ("ctypes.CDLL(None).socket(10, 2, 0)", -signal.SIGSYS),
        ("ctypes.CDLL(None).socket(1, 1, 0)", 0),
    ):
        done = subprocess.run(
            [sys.executable, "-c", code.format(call)], cwd=HELPERS, capture_output=True, text=True, check=False
        )
        if done.stdout == "False\n":
            pytest.skip("needs Linux's seccomp")
        assert done.returncode == ends, (call, done)
