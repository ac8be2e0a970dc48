"""What all tests share."""

from __future__ import annotations

import contextlib
import functools
import gc
import importlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import guarantees
import hypothesis
import numpy as np
import pytest
from parsed_once import keep_arguments
from pictures import CHARTS, draw_nothing

import xpnet
from xpnet.cli.variables import OF_TESTS, OTHERS, PREFIX
from xpnet.data import Dataset
from xpnet.ops import blas
from xpnet.ops.blas import one_blas_thread
from xpnet.report import figure_files
from xpnet.utils import file_system

harm = guarantees.harm
_FEW = 1000  # images of the built-in set that are kept, for each size

# The settings of whoever runs the tests have no influence on them.
for _name in [name for name in os.environ if name.startswith(PREFIX) and not name.startswith((*OTHERS, OF_TESTS))]:
    del os.environ[_name]

# CI draws the same examples every time: a change is judged by what it changed.
hypothesis.settings.register_profile("ci", derandomize=True)
if os.environ.get("CI"):
    hypothesis.settings.load_profile("ci")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--thorough",
        action="store_true",
        help="do more harm, such as 4,000 mutations of a format for 200",
    )
    parser.addoption("--pictures", action="store_true", help="draw every picture, not only those that a test looks at")
    parser.addoption("--guarantees", type=Path, metavar="FILE", help="add what tests of guarantees did to FILE")


def pytest_configure(config: pytest.Config) -> None:
    if config.getoption("--thorough"):
        os.environ["XPNET_TEST_THOROUGH"] = "1"  # for modules that have no fixtures, here and in other processes
    path = config.getoption("--guarantees")
    # With several processes, the one that starts them hears of all tests.
    if path is not None and not hasattr(config, "workerinput"):
        config.pluginmanager.register(guarantees.Recorder(path.absolute()))


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Iterator[None]:
    """Import and list all tests without looking for unreachable objects, now or later: these stay."""
    gc.disable()
    try:
        return (yield)
    finally:
        gc.freeze()
        gc.enable()


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    for item in items:
        guarantees.tell(item)
    if not config.getoption("--thorough"):
        left_out = [item for item in items if item.get_closest_marker("thorough")]
        config.hook.pytest_deselected(items=left_out)
        items[:] = [item for item in items if not item.get_closest_marker("thorough")]


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Give each process files that lie together: it imports what they need, and makes what they share, once."""
    from xdist.scheduler import WorkStealingScheduling

    return WorkStealingScheduling(config, log) if config.getoption("dist") == "load" else None


@pytest.fixture(autouse=True)
def _own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Run every test in a folder of its own, where no CIFAR-10 is found by chance."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XPNET_DATA", str(tmp_path / "no-data"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "no-cache"))


@pytest.fixture(autouse=True)
def _nothing_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let every test hear of features that a file system lacks, which are reported once."""
    monkeypatch.setattr(file_system, "reported", set())


@pytest.fixture(autouse=True)
def _pictures(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Draw nothing but where a test asks for it.

    With ``--pictures`` everything is drawn.
    """
    if request.config.getoption("--pictures") or request.node.get_closest_marker("pictures"):
        return
    draw_nothing(monkeypatch)


@pytest.fixture
def charts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let trainings make their charts, whose specifications stand in the files."""
    for name, function in CHARTS.items():
        monkeypatch.setattr(figure_files, name, function)


@pytest.fixture(scope="session", autouse=True)
def _work_of_all_commands_done_once() -> Iterator[None]:
    """Draw the built-in images, and work out what commands take, once: most commands here would do it again."""
    module = importlib.import_module("xpnet.data.patterns")
    draw = module._draw
    drawn = functools.lru_cache(8)(draw)

    def copied(n: int, seed: int, subset: int) -> tuple[np.ndarray, np.ndarray]:
        x, labels = (drawn if n <= _FEW else draw)(n, seed, subset)
        return x.copy(), labels.copy()

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "_draw", copied)
        keep_arguments(patch.setattr)
        yield


@pytest.fixture(scope="session", autouse=True)
def _a_core_for_each_process() -> Iterator[None]:
    """Where processes of pytest-xdist share the cores, keep BLAS's own threads asleep.

    They wait for each other's products, and for the next one, without giving up their core.  xpnet's threads are as
    many as ever.
    """
    with one_blas_thread() if "PYTEST_XDIST_WORKER" in os.environ else contextlib.nullcontext():
        yield


@pytest.fixture
def blas_as_usual() -> Iterator[None]:
    """Give BLAS back its threads, for a test of them."""
    if not blas._inside:
        yield
        return
    own, held = blas.numpy_blas(), blas._inside
    assert own is not None
    own.threads, blas._inside = blas._before, 0
    yield
    own.threads, blas._inside = 1, held


@pytest.fixture(scope="session")
def cifar() -> Path:
    """Return the folder of the real CIFAR-10, or skip."""
    folder = os.environ.get("XPNET_TEST_CIFAR")
    if not folder:
        pytest.skip("needs the real CIFAR-10: set XPNET_TEST_CIFAR to its folder")
    return Path(folder).resolve()


@pytest.fixture(scope="session")
def blobs() -> Dataset:
    """Return 600 samples of 12 features in 4 overlapping classes: small, and quick to learn."""
    rng = np.random.default_rng(5)
    labels = np.arange(600) % 4
    x = rng.standard_normal((600, 12)) + 1.5 * rng.standard_normal((4, 12))[labels]
    return xpnet.data_from_arrays(x.astype(np.float32), labels, split="400/100")
