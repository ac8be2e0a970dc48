"""The Python of README.md and of the pages in docs/ runs as it stands, and their links lead somewhere."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[1]
PAGES = ["README.md", "CONTRIBUTING.md", "SECURITY.md", *(f"docs/{path.name}" for path in (ROOT / "docs").glob("*.md"))]


def run_python_of(page: str) -> dict[str, Any]:
    """Run the blocks of Python of a page, one after another, and return their names."""
    block = "\n".join(re.findall(r"```python\n(.*?)```", (ROOT / page).read_text(encoding="utf-8"), re.DOTALL))
    assert block
    names: dict[str, Any] = {}
    exec(compile(block, page, "exec"), names)
    return names


@pytest.mark.slow
def test_readme_python_runs():
    names = run_python_of("README.md")
    assert names["probabilities"].shape == (3, 2000, 10)
    assert names["result"].test.accuracy["mean"] > 0.75


@pytest.mark.slow
@pytest.mark.parametrize(
    ("page", "output"),
    [
        (
            "estimator",
            (
                r"cross-validated: 0\.9\d*\nbest: {.*}\n\['grower 0', 'grower 0'\] .*\n"
                r"8 networks, 36 epochs, .* 0\.\d+\nas it is: [01]\.[089]\n\(2,\)\n{.*} 0\.[89]\d? 8\n"
                r"\[8, 4, 2, 1\] \[1, 1, 1, 1, 1, 1, 1, 1, 2, 2, 2, 2, 4, 4, 8\]\n"
            ),
        ),
        ("exporting", r"True\n"),
        ("populations", r"({.*'lambda'.*\n){4}"),
        ("learning-rate", r"[^$]*Suggestion\(eta_min=[^$]*"),
        ("resuming", r"True\n"),
        ("search", r".*'lambda'.*\n0\.[2-5]\d*\n"),
        ("training", r"0\.[89]\d* 0\.\d+\n3072 \d\.\d+e-0[5-7]\n\[0\.\d+ *0\.\d+\]\n"),
    ],
    ids=["estimator", "exporting", "populations", "learning-rate", "resuming", "search", "training"],
)
def test_page_python_runs(capsys, page, output):
    run_python_of(f"docs/{page}.md")
    printed = capsys.readouterr().out
    assert re.fullmatch(output, printed), printed


@pytest.mark.parametrize("page", PAGES)
def test_page_links_lead_somewhere(page):
    path = ROOT / page
    for target in re.findall(r"\]\(([^)#]+?)(?:#[^)]*)?\)", path.read_text(encoding="utf-8")):
        if not target.startswith("http"):
            assert (path.parent / target).exists(), target
