"""What Numba compiled is kept on the disk: found again, and never mixed up by processes that compile at once."""

from __future__ import annotations

import importlib
import os
import subprocess
import sys
from pathlib import Path

import pytest

import xpnet
from xpnet.errors import ConfigError

numba = pytest.importorskip("numba")
numba_cache = pytest.importorskip("xpnet.ops.numba_cache")

MODULE = """
import sys
import numpy as np
from xpnet.ops.numba_intrinsics import compiled

@compiled
def total(x):
    found = x[0] * 0
    for value in x:
        found += value
    return found

def use(dtype):
    return total(np.arange(1, 6, dtype=dtype)), sum(total.stats.cache_hits.values())
"""
# Both processes compile, and only then is either let on to keep what it has compiled, as slowly as can be.
MEETING = """
import sys
from xpnet.ops import numba_cache
from numba.core import caching

def meet(save):
    def late(*given):
        print("compiled", flush=True)
        sys.stdin.readline()
        return save(*given)
    return late

numba_cache.CodeFiles.save = meet(numba_cache.CodeFiles.save)
caching.IndexDataCacheFile._save_index = meet(caching.IndexDataCacheFile._save_index)
caching.IndexDataCacheFile._save_data = meet(caching.IndexDataCacheFile._save_data)
import sums
print(sums.use(sys.argv[1])[0], flush=True)
"""


@pytest.fixture
def sums(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Write a module with a function that is compiled, and return the folder where its code is kept."""
    (tmp_path / "sums.py").write_text(MODULE)
    monkeypatch.setenv("NUMBA_CACHE_DIR", str(tmp_path / "kept"))
    monkeypatch.setattr(numba.config, "CACHE_DIR", str(tmp_path / "kept"))
    monkeypatch.setenv("PYTHONPATH", str(tmp_path), prepend=os.pathsep)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setitem(sys.modules, "sums", None)  # whatever is imported goes with the test
    return tmp_path / "kept"


def used(sums: Path, dtype: str) -> tuple[float, int]:
    """Return a sum, and how often code was found, with the module as a new process would import it."""
    sys.modules.pop("sums", None)
    importlib.invalidate_caches()
    value, hits = importlib.import_module("sums").use(dtype)
    return float(value), hits


class Compiling:
    """A process that stops before each of its writes."""

    def __init__(self, dtype: str) -> None:
        command = [sys.executable, "-c", MEETING, dtype]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.said = ""

    def until_it_stops(self) -> Compiling:
        self.said = self._process.stdout.readline().strip()
        return self

    def go_on(self) -> None:
        if self.said == "compiled":
            self._process.stdin.write("\n")
            self._process.stdin.flush()
            self.until_it_stops()

    def end(self) -> None:
        self._process.kill()
        self._process.communicate()


@pytest.mark.slow
@pytest.mark.guarantee("concurrency")
def test_processes_that_compile_one_function_at_once_mix_nothing(sums: Path, harm):
    both = [Compiling("float32"), Compiling("float64")]
    try:
        for process in both:
            process.until_it_stops()
        while any(process.said == "compiled" for process in both):
            for process in both:
                process.go_on()
        assert [process.said for process in both] == ["15.0", "15.0"]
    finally:
        for process in both:
            process.end()
    harm.did("compilations of one function kept at once", len(both))
    assert [used(sums, dtype) for dtype in ("float64", "float32")] == [(15.0, 1), (15.0, 1)]


def test_code_is_found_again_by_its_types_alone(sums: Path):
    assert [used(sums, dtype)[1] for dtype in ("float32", "float32", "int64", "int64", "float32")] == [0, 1, 0, 1, 1]
    assert len(list(sums.glob("*/sums.total*.code"))) == 2


def test_what_is_damaged_is_compiled_again(sums: Path):
    used(sums, "float32")
    (kept,) = sums.glob("*/sums.total*.code")
    whole = kept.read_bytes()
    for damaged in (b"", whole[:40], whole[:-1], whole[:-1] + bytes([whole[-1] ^ 1])):
        kept.write_bytes(damaged)
        assert used(sums, "float32") == (15.0, 0)
    assert used(sums, "float32") == (15.0, 1)


def test_code_of_an_older_source_is_not_used_and_goes(sums: Path):
    used(sums, "float32")
    (before,) = sums.glob("*/sums.total*.code")
    module = sums.parent / "sums.py"
    module.write_text(module.read_text().replace("found += value", "found += 2 * value"))
    assert used(sums, "float32") == (30.0, 0)
    (after,) = sums.glob("*/sums.total*.code")
    assert after != before
    assert used(sums, "float32") == (30.0, 1)


def test_code_is_made_anew_where_what_it_may_call_has_changed(sums: Path, monkeypatch: pytest.MonkeyPatch):
    assert [used(sums, "float32")[1] for _ in range(2)] == [0, 1]
    monkeypatch.setattr(numba_cache, "_sources_of_operations", lambda: b"of another version")
    assert [used(sums, "float32")[1] for _ in range(2)] == [0, 1]


def test_code_is_made_anew_where_a_file_beside_it_has_changed(sums: Path):
    assert [used(sums, "float32")[1] for _ in range(2)] == [0, 1]
    (sums.parent / "constants.py").write_text("SUMS = 64")
    numba_cache._sources_in.cache_clear()  # as in a new process
    assert [used(sums, "float32")[1] for _ in range(2)] == [0, 1]


def test_a_file_that_is_as_old_and_as_long_as_another_is_not_taken_for_it(sums: Path):
    used(sums, "float32")
    module = sums.parent / "sums.py"
    before = module.stat()
    module.write_text(module.read_text().replace("x[0] * 0", "x[0] * 1"))
    os.utime(module, ns=(before.st_atime_ns, before.st_mtime_ns))
    for cached in module.parent.glob("__pycache__/sums*"):  # Python's own, which looks at time and size
        cached.unlink()
    assert module.stat().st_size == before.st_size
    assert used(sums, "float32") == (16.0, 0)


def test_a_disk_that_fails_ends_nothing(sums: Path, monkeypatch: pytest.MonkeyPatch):
    def full(path: Path, content: bytes) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(numba_cache, "replace_whole", full)
    assert used(sums, "float32") == used(sums, "float32") == (15.0, 0)


@pytest.fixture
def not_loaded():
    numba_cache.load.cache_clear()
    yield
    numba_cache.load.cache_clear()


@pytest.mark.usefixtures("not_loaded")
def test_a_process_without_addresses_is_told_so_before_training(monkeypatch):
    data = xpnet.load_data("patterns:60/20")
    network = xpnet.Network(xpnet.NetworkConfig(inputs=data.features, hidden=(3,)))
    free = [100 * 2**20]
    monkeypatch.setattr(numba_cache, "free_addresses", lambda: free[0])
    words = "takes 100 MB of addresses, of which this process may have {} more .ulimit -v.; .*XPNET_FAST=0"
    assert xpnet.train(network, data, xpnet.TrainConfig(epochs=1, batch_size=20)).epochs == 1
    numba_cache.load.cache_clear()
    for free[0], shown in ((100 * 2**20 - 1, "100"), (-5, "0")):
        with pytest.raises(ConfigError, match=words.format(shown)):
            xpnet.train(network, data, xpnet.TrainConfig(epochs=1, batch_size=20))


@pytest.mark.usefixtures("not_loaded")
def test_whoever_calls_a_compiled_function_first_is_told_too(sums: Path, monkeypatch):
    monkeypatch.setattr(numba_cache, "free_addresses", lambda: 0)
    with pytest.raises(ConfigError, match="what Numba loads"):
        used(sums, "int64")


@pytest.mark.slow
def test_numba_loads_scipy_for_products_of_its_own_alone():
    code = (
        "import sys, numba, numpy as np\n"
        "from xpnet.ops import numba_cache, numba_kernels\n"
        "numba_cache.load()\n"
        "assert 'scipy.linalg' not in sys.modules\n"
        "product = numba.njit(lambda a, b: np.dot(a, b))\n"
        "print(product(2 * np.eye(2), np.eye(2)).sum(), 'scipy.linalg' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "4.0 True\n"
