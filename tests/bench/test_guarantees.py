"""Tests tell what they did for a promise, from one process or several, and the page is held to it."""

from __future__ import annotations

import copy
import json
import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from bench import guarantees
from bench.__main__ import main

TESTS = Path(__file__).parents[1]
SUITE = """
import pytest

@pytest.mark.guarantee("kept")
@pytest.mark.parametrize("case", [1, 2, 3])
def test_harm(harm, case):
    harm.did("bits flipped", harm.times(10, 1000))
    harm.did("files cut")

@pytest.mark.guarantee("kept", "other")
def test_several():
    pass

@pytest.mark.guarantee("other")
class TestSkipped:
    def test_in_its_body(self):
        pytest.skip("not here")

    @pytest.mark.skip(reason="not here")
    def test_before_it(self):
        pass

@pytest.mark.guarantee("other")
def test_failing(harm):
    harm.did("files cut", 2)
    raise AssertionError

@pytest.fixture
def broken():
    raise AssertionError

@pytest.mark.guarantee("other")
def test_without_its_fixture(broken):
    pass

def test_of_no_promise(harm):
    harm.did("files cut", 100)
"""


def entry(passed: int = 0, failed: int = 0, skipped: int = 0, **harm: int) -> dict:
    counted = {what.replace("_", " "): times for what, times in harm.items()}
    return {"passed": passed, "failed": failed, "skipped": skipped, "harm": counted}


OTHER = {
    "test_suite.py::TestSkipped::test_before_it": entry(skipped=1),
    "test_suite.py::TestSkipped::test_in_its_body": entry(skipped=1),
    "test_suite.py::test_failing": entry(failed=1, files_cut=2),
    "test_suite.py::test_several": entry(passed=1),
    "test_suite.py::test_without_its_fixture": entry(failed=1),
}


@pytest.fixture
def suite(tmp_path: Path) -> Path:
    """Write tests that say what they do, to be run with what our own tests share."""
    (tmp_path / "conftest.py").write_text((TESTS / "conftest.py").read_text())
    (tmp_path / "test_suite.py").write_text(SUITE)
    (tmp_path / "pytest.ini").write_text(f"[pytest]\nmarkers = guarantee\npythonpath = {TESTS / 'helpers'}\n")
    return tmp_path


def run(suite: Path, *options: str) -> dict:
    """Run the tests and return the record."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--guarantees", "record.json", *options]
    done = subprocess.run(command, cwd=suite, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode in (0, 1), done.stdout + done.stderr
    return json.loads((suite / "record.json").read_text())


@pytest.mark.slow
def test_a_run_is_recorded_by_promise_and_test(suite: Path):
    assert run(suite) == {
        "kept": {
            "test_suite.py::test_harm": entry(passed=3, bits_flipped=30, files_cut=3),
            "test_suite.py::test_several": entry(passed=1),
        },
        "other": OTHER,
    }


@pytest.mark.slow
def test_several_processes_record_as_one_does_and_runs_add_up(suite: Path):
    assert run(suite, "-k", "test_failing or Skipped") == {
        "other": {name: OTHER[name] for name in OTHER if "failing" in name or "Skipped" in name}
    }
    assert run(suite, "-n", "2", "--thorough", "-k", "not Skipped") == {
        "kept": {
            "test_suite.py::test_harm": entry(passed=3, bits_flipped=3000, files_cut=3),
            "test_suite.py::test_several": entry(passed=1),
        },
        "other": OTHER,
    }


PROMISES = """
[kept]
title = "What is kept"
kept = "by writing it down"

[other]
title = "Another"
kept = "somehow"
"""
RECORD = {
    "kept": {"tests/test_a.py::test_harm": entry(passed=3, bits_flipped=3000, files_cut=1)},
    "other": {"tests/b/test_b.py::test_b": entry(passed=1), "tests/test_a.py::test_c": entry(passed=1, files_cut=2)},
}


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a project with two promises and the page of a record."""
    for name in ("tests", "docs"):
        (tmp_path / name).mkdir()
    (tmp_path / "tests" / "guarantees.toml").write_text(PROMISES)
    monkeypatch.setattr(guarantees, "ROOT", tmp_path)
    (tmp_path / "record.json").write_text(json.dumps(RECORD))
    assert guarantees.main([str(tmp_path / "record.json")]) == 0
    return tmp_path


def checked(root: Path, record: dict, capsys: pytest.CaptureFixture[str]) -> list[str]:
    """Return what is wrong with a run of the tests."""
    (root / "seen.json").write_text(json.dumps(record))
    capsys.readouterr()
    code = guarantees.main(["--check", str(root / "seen.json")])
    said = capsys.readouterr().out.splitlines()
    assert code == (1 if said else 0)
    return said


def test_the_page_says_what_was_tried(root: Path):
    page, a = (root / "docs" / "guarantees.md").read_text(), "[test_a.py](../tests/test_a.py)"
    assert page.splitlines()[-2:] == [
        f"| What is kept | by writing it down | 3 tests<br>bits flipped: 3,000<br>files cut: 1 | {a} |",
        f"| Another | somehow | 2 tests<br>files cut: 2 | [b/test_b.py](../tests/b/test_b.py)<br>{a} |",
    ]
    assert json.loads((root / "docs" / "guarantees.json").read_text()) == RECORD


def test_a_run_that_shows_as_much_is_as_promised(root: Path, capsys):
    assert checked(root, RECORD, capsys) == []
    more = copy.deepcopy(RECORD)
    more["kept"]["tests/test_a.py::test_new"] = entry(passed=1, bits_flipped=1)
    assert checked(root, more, capsys) == []
    assert guarantees.main(["--check"]) == 0


HARM = "tests/test_a.py::test_harm"
B, C = "tests/b/test_b.py::test_b", "tests/test_a.py::test_c"
NOT_TESTED = "kept: no test has passed that puts it to the test"


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (
            lambda record: record.update(third={"tests/test_a.py::test_d": entry(passed=1)}),
            ["third: is tested, but is no promise of tests/guarantees.toml"],
        ),
        (lambda record: record["kept"][HARM].update(passed=0), [NOT_TESTED]),
        (lambda record: record["other"][B].update(failed=1), [f"other: {B} failed"]),
        (lambda record: record["other"].pop(B), [f"other: {B} was not run"]),
        (
            lambda record: record["kept"][HARM]["harm"].update({"bits flipped": 1499}),
            [f"kept: {HARM}: 1,499 bits flipped, where the page counts 3,000"],
        ),
        (lambda record: record.pop("kept"), [NOT_TESTED, f"kept: {HARM} was not run"]),
        # A test that cannot run here, such as without a browser, is no reason to fail.
        (lambda record: record["other"][C].update(passed=0, skipped=1, harm={}), []),
    ],
)
def test_what_stays_behind_the_page_is_named(root: Path, capsys, change, said: list[str]):
    record = copy.deepcopy(RECORD)
    change(record)
    assert checked(root, record, capsys) == said


def test_the_page_has_the_newest_soak(root: Path):
    results = root / "bench" / "results"
    results.mkdir(parents=True)
    for day, times in (("2026-01-02", 3), ("2026-01-10", 1234)):
        soak = {"seconds": 61.2, "seed": 5, "counts": {"SIGKILL sent": times}}
        (results / f"{day}-soak.json").write_text(
            json.dumps({"command": "soak", "machine": {"date": day}, "soak": soak})
        )
    assert guarantees.main(["--check"]) == 1
    assert guarantees.main([]) == 0
    page = (root / "docs" / "guarantees.md").read_text()
    assert "`soak` (61 s, 2026-01-10) survived:\n\n- SIGKILL sent: 1,234\n" in page
    assert guarantees.main(["--check"]) == 0


def test_a_page_that_was_edited_is_noticed(root: Path, capsys):
    path = root / "docs" / "guarantees.md"
    path.write_text(path.read_text().replace("3,000", "4,000"))
    said = "docs/guarantees.md: is not what docs/guarantees.json says; write it with: python -m bench guarantees"
    assert checked(root, RECORD, capsys) == [said]
    assert guarantees.main([]) == 0
    assert checked(root, RECORD, capsys) == []


def test_a_promise_that_is_not_kept_is_not_written(root: Path, capsys):
    before = (root / "docs" / "guarantees.json").read_bytes()
    record = copy.deepcopy(RECORD)
    record["other"]["tests/b/test_b.py::test_b"]["failed"] = 1
    (root / "bad.json").write_text(json.dumps(record))
    assert guarantees.main([str(root / "bad.json")]) == 1
    assert "other: tests/b/test_b.py::test_b failed" in capsys.readouterr().out
    assert (root / "docs" / "guarantees.json").read_bytes() == before


@pytest.mark.parametrize("content", [None, "{", "[1]"])
def test_a_record_that_cannot_be_read_is_one_sentence(root: Path, capsys, content: str | None):
    if content is not None:
        (root / "bad.json").write_text(content)
    with pytest.raises(SystemExit) as left:
        sys.exit(main(["guarantees", "--check", str(root / "bad.json")]))
    assert left.value.code == 2
    assert "bad.json: cannot be read" in capsys.readouterr().err


def test_the_page_of_the_project_is_what_its_record_says(capsys):
    assert guarantees.main(["--check"]) == 0, capsys.readouterr().out


def test_the_promises_of_the_project_are_all_titled():
    promises = tomllib.loads((TESTS / "guarantees.toml").read_text())
    assert all(set(promise) == {"title", "kept"} for promise in promises.values())
    marks = {
        name
        for path in TESTS.rglob("test_*.py")
        if path != Path(__file__)
        for name in re.findall(r'\.guarantee\("([^"]+)"', path.read_text())
    }
    assert marks <= set(promises)
