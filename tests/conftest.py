"""What all tests share."""

from __future__ import annotations

import json
import os
from pathlib import Path

import guarantees
import hypothesis
import numpy as np
import pytest

import xpnet
from xpnet.cli.variables import OF_TESTS, OTHERS, PREFIX
from xpnet.data import Dataset
from xpnet.report import drawing_process, render
from xpnet.utils import file_system

harm = guarantees.harm

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


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        guarantees.tell(item)


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
    """Draw nothing but where a test asks for it: drawing takes longer than most trainings here.

    With ``--pictures`` everything is drawn.
    """
    if request.config.getoption("--pictures") or request.node.get_closest_marker("pictures"):
        return
    monkeypatch.setattr(render, "png", lambda svg, scale: svg.encode())
    monkeypatch.setattr(render, "svg", lambda spec: json.dumps(render.drawable(spec)))
    monkeypatch.setattr(drawing_process, "started", lambda: None)


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
