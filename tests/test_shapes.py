"""Sizes that keep code readable; a module that needs more says why at its top."""

from __future__ import annotations

import ast
from pathlib import Path

import xpnet

MOST_OF_A_FILE, MOST_OF_A_CLASS, MOST_OF_A_FUNCTION = 300, 250, 60
PACKAGE = Path(xpnet.__file__).parent


def too_long(tree: ast.Module, text: str) -> list[str]:
    """Return what is longer than it may be: the file, classes, and functions without signature and docstring."""
    found = ["the file"] if len(text.splitlines()) > MOST_OF_A_FILE else []
    for node in ast.walk(tree):
        if isinstance(node, ast.ClassDef) and node.end_lineno - node.lineno >= MOST_OF_A_CLASS:
            found.append(node.name)
        if isinstance(node, ast.FunctionDef):
            body = node.body[1:] if ast.get_docstring(node) is not None else node.body
            if body and body[-1].end_lineno - body[0].lineno >= MOST_OF_A_FUNCTION:
                found.append(node.name)
    return found


def test_modules_are_of_a_readable_size_or_say_why_not():
    wrong = {}
    for path in sorted(PACKAGE.rglob("*.py")):
        text = path.read_text(encoding="utf-8")
        tree = ast.parse(text)
        found = too_long(tree, text)
        if found and f"more than {MOST_OF_A_CLASS} lines" not in (ast.get_docstring(tree) or ""):
            wrong[str(path.relative_to(PACKAGE))] = found
    assert wrong == {}
