"""The worked examples of docs/extending.md: every patch applies to the source, and the test that it adds passes."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs" / "extending.md").read_text(encoding="utf-8")
PATCHES = dict(re.findall(r"^## An? ([\w ]+)\n(?:(?!^## ).)*?```diff\n(.*?)```", PAGE, re.DOTALL | re.MULTILINE))


def test_patches_of_all_examples_are_found():
    assert list(PATCHES) == ["schedule", "initialisation", "data format", "activation"]


def test_callback_example_stops_early(capsys):
    (block,) = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    exec(compile(block, "extending.md", "exec"), {})
    interrupted, epochs, best = capsys.readouterr().out.split()
    assert interrupted == "True"
    assert 4 <= int(epochs) < 100
    assert float(best) > 0.5


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("git") is None, reason="patches are applied by git")
@pytest.mark.parametrize("name", PATCHES)
def test_patch_applies_and_its_test_passes(tmp_path, name):
    for part in ("xpnet", "tests/helpers"):
        shutil.copytree(ROOT / part, tmp_path / part, ignore=shutil.ignore_patterns("__pycache__"))
    for file in ("pyproject.toml", "tests/conftest.py", "tests/guarantees.toml"):
        shutil.copy(ROOT / file, tmp_path / file)
    for folder in re.findall(r"^\+\+\+ b/(tests/.*)/\w+\.py$", PATCHES[name], re.MULTILINE):
        (tmp_path / folder).mkdir(parents=True, exist_ok=True)
    subprocess.run(["git", "apply", "-"], input=PATCHES[name], text=True, cwd=tmp_path, check=True)
    added = re.findall(r"^\+\+\+ b/(tests/.*\.py)$", PATCHES[name], re.MULTILINE)
    environment = os.environ | {"PYTHONPATH": str(tmp_path), "XPNET_FAST": "0"}
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *added]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-3000:]
    assert len(added) == 1
    assert " passed" in done.stdout
