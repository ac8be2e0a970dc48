"""Extension of Griffe, which reads the docstrings of the reference: reStructuredText's marks become Markdown's."""

from __future__ import annotations

import re
from typing import Any

import griffe

_ROLE = re.compile(r":(?:func|class|meth|mod|attr|data|exc|obj):`~?(?:[\w.]+ <)?([\w.]+)>?`")
_CODE = re.compile(r"``(.+?)``", re.DOTALL)
# An entry of a section that describes several names, with the lines that continue it.
_SEVERAL = re.compile(r"^    (\w+(?:, \w+)+): (.*(?:\n {5,}.*)*)", re.MULTILINE)
# The colon of a sentence on what is returned, which would be taken for the end of a type.
_COLON = re.compile(r"(^Returns:\n[^\n]*?): ", re.MULTILINE)
# Functions that make the field of a setting; their first argument is its default.
_SETTINGS = ("setting", "chosen")


def to_markdown(text: str, public: set[str]) -> str:
    """Return a docstring in which names that the reference describes are links, and other code is code."""

    def linked(match: re.Match[str]) -> str:
        name = match[1]
        short = name.rpartition(".")[2]
        found = next((full for full in (name, f"xpnet.{name}", f"xpnet.{short}") if full in public), None)
        return f"[`{short}`][{found}]" if found else f"`{name}`"

    text = _SEVERAL.sub(lambda found: "\n".join(f"    {name}: {found[2]}" for name in found[1].split(", ")), text)
    return _COLON.sub(r"\1&#58; ", _CODE.sub(r"`\1`", _ROLE.sub(linked, text)))


class Docstrings(griffe.Extension):
    """Convert the docstring of every object."""

    def __init__(self) -> None:
        import xpnet

        self._public = {f"xpnet.{name}" for name in xpnet.__all__}

    def on_object(self, *, obj: griffe.Object, **_: Any) -> None:
        """Convert one docstring."""
        if obj.docstring is not None:
            obj.docstring.value = to_markdown(obj.docstring.value, self._public)

    def on_attribute_instance(self, *, attr: griffe.Attribute, **_: Any) -> None:
        """Show the default of a setting, not the call with its check and its help."""
        call = attr.value
        if isinstance(call, griffe.ExprCall) and str(call.function) in _SETTINGS and call.arguments:
            attr.value = call.arguments[0]
