"""What the README shows in Python runs as it stands."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

README = Path(__file__).parents[1] / "README.md"


def test_the_readmes_python_runs(capsys):
    blocks = re.findall(r"```python\n(.*?)```", README.read_text(encoding="utf-8"), re.DOTALL)
    assert len(blocks) == 1
    names: dict = {}
    exec(compile(blocks[0], str(README), "exec"), names)
    assert names["probabilities"].shape == (3, 2000, 10)
    assert names["result"].test.accuracy["mean"] > 0.75


def test_the_python_of_the_page_on_populations_runs(capsys):
    page = README.parent / "docs" / "populations.md"
    (block,) = re.findall(r"```python\n(.*?)```", page.read_text(encoding="utf-8"), re.DOTALL)
    exec(compile(block, str(page), "exec"), {})
    assert capsys.readouterr().out.count("'lambda'") == 4


def test_the_python_of_the_page_on_learning_rates_runs(capsys):
    page = README.parent / "docs" / "learning-rate.md"
    (block,) = re.findall(r"```python\n(.*?)```", page.read_text(encoding="utf-8"), re.DOTALL)
    exec(compile(block, str(page), "exec"), {})
    assert "Suggestion(eta_min=" in capsys.readouterr().out


def test_the_python_of_the_page_on_searches_runs(capsys):
    page = README.parent / "docs" / "search.md"
    (block,) = re.findall(r"```python\n(.*?)```", page.read_text(encoding="utf-8"), re.DOTALL)
    exec(compile(block, str(page), "exec"), {})
    point, accuracy = capsys.readouterr().out.splitlines()
    assert "'lambda'" in point
    assert 0.2 < float(accuracy) < 0.6


def test_the_python_of_the_page_on_resuming_runs(capsys):
    page = README.parent / "docs" / "resuming.md"
    (block,) = re.findall(r"```python\n(.*?)```", page.read_text(encoding="utf-8"), re.DOTALL)
    exec(compile(block, str(page), "exec"), {})
    assert capsys.readouterr().out.strip() == "True"


@pytest.mark.parametrize(
    "page",
    ["README.md", "CONTRIBUTING.md", "SECURITY.md", *(f"docs/{p.name}" for p in (README.parent / "docs").glob("*.md"))],
)
def test_links_between_pages_lead_somewhere(page):
    path = README.parent / page
    for target in re.findall(r"\]\(([^)#]+?)(?:#[^)]*)?\)", path.read_text(encoding="utf-8")):
        if not target.startswith("http"):
            assert (path.parent / target).exists(), target
