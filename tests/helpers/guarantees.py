"""What tests tell of the promises they put to the test, and of the harm they do.

A test says ``@pytest.mark.guarantee("resume")`` and counts with the fixture `harm`; ``pytest --guarantees=FILE`` adds
what was seen to a file, from which ``python -m bench guarantees FILE`` makes the page.
"""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

KEY = "guarantee"


class Harm:
    """Counts what a test does to xpnet."""

    def __init__(self, thorough: bool) -> None:
        self._thorough = thorough
        self.counts: Counter[str] = Counter()

    def times(self, usually: int, thoroughly: int) -> int:
        """Return how often a test does its harm: more often with ``--thorough``."""
        return thoroughly if self._thorough else usually

    def did(self, what: str, times: int = 1) -> None:
        """Count a harm, in words of the page such as ``"moments killed"``."""
        self.counts[what] += times


@pytest.fixture
def harm(request: pytest.FixtureRequest) -> Any:
    """Count the harm that a test does, and say how often it does it."""
    counted = Harm(request.config.getoption("--thorough"))
    yield counted
    request.node.user_properties.append(("harm", dict(counted.counts)))


class Recorder:
    """Collects what tests of guarantees did, from all processes."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._seen: dict[str, dict[str, dict[str, Any]]] = {}

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Take note of a test's outcome: its call's, or what ended it before."""
        told = dict(report.user_properties)
        if KEY not in told or (report.when == "setup" and report.passed):
            return
        # Those of a test's parameters that are slow come in a run of their own.
        test = report.nodeid.split("[")[0] + (" (slow)" if "slow" in report.keywords else "")
        for name in told[KEY]:
            entry = self._seen.setdefault(name, {}).setdefault(
                test, {"passed": 0, "failed": 0, "skipped": 0, "harm": {}}
            )
            if report.when == "call" or not report.passed:
                entry[report.outcome] += 1
            if report.when == "teardown":
                for what, times in told.get("harm", {}).items():
                    entry["harm"][what] = entry["harm"].get(what, 0) + times

    def pytest_sessionfinish(self) -> None:
        """Add what was seen to the file."""
        old = json.loads(self._path.read_text()) if self._path.exists() else {}
        for name, tests in self._seen.items():
            old.setdefault(name, {}).update(tests)
        self._path.write_text(json.dumps(old, indent=1, sort_keys=True) + "\n")


def tell(item: pytest.Item) -> None:
    """Let a test's reports say which promises it puts to the test."""
    names = [name for mark in item.iter_markers(KEY) for name in mark.args]
    if names:
        item.user_properties.append((KEY, names))
