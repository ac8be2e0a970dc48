"""axe-core, Deque's rules of accessible pages, for tests of pages in a browser.

The rules are a package of Python's that carries them (``requirements/axe.txt``), or the ``axe.min.js`` that
``XPNET_TEST_AXE`` names.
"""

from __future__ import annotations

import functools
import importlib.util
import os
from pathlib import Path
from typing import Any

import pytest

_CARRIERS = ("axe_playwright_python", "axe_core_python")
# A picture behind a text, such as the shadow at the edge of a table, keeps axe from judging its contrast.
_PLAIN = """
const style = document.createElement('style');
style.textContent = '*{background-image:none!important}';
document.head.append(style);
"""
_OPEN = "document.querySelectorAll('details').forEach(one => { one.open = true; });"
_RUN = """
const told = arguments[arguments.length - 1];
axe.run(document, {resultTypes: ['violations']}).then(
    found => told(found.violations.map(one => [one.id, one.help, one.nodes.map(node => node.target.join(' '))])),
    error => told([[String(error), '', []]]),
);
"""


@functools.cache
def axe() -> str:
    """Return the script; empty if it is not installed."""
    named = os.environ.get("XPNET_TEST_AXE")
    found = [Path(named)] if named else []
    for name in _CARRIERS:  # found, not imported: what else they need is not installed
        spec = importlib.util.find_spec(name)
        found += [Path(place) / "axe.min.js" for place in (spec.submodule_search_locations or ())] if spec else []
    return found[0].read_text(encoding="utf-8") if found else ""


NEEDS_AXE = pytest.mark.skipif(not axe(), reason="needs axe-core, of requirements/axe.txt or named by XPNET_TEST_AXE")


def violations(browser: Any, *, opened: bool = True) -> list[Any]:
    """Return the rules that the page in the browser violates, each with the places; tables are opened before."""
    browser.set_script_timeout(110)
    browser.execute_script(_PLAIN + _OPEN * opened)
    browser.execute_script(axe())
    return list(browser.execute_async_script(_RUN))
