"""The manual, made from the parser: docs/cli.md and the page for man."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest
from command_line import CommandLine

from xpnet.cli.commands import COMMANDS, DATA_COMMANDS, EXIT_CODES
from xpnet.cli.manual import manual_page, markdown
from xpnet.cli.variables import OTHERS, variable
from xpnet.config.settings import Settings

PAGE = Path(__file__).parents[2] / "docs" / "cli.md"


@pytest.fixture(scope="module")
def page() -> str:
    return markdown()


def test_page_in_the_documentation_is_what_the_parser_says(page):
    assert PAGE.read_text(encoding="utf-8") == page, "write it again: python docs/cli.py"


def test_page_names_every_command_setting_variable_and_exit_code(page):
    for name in (*COMMANDS, *(f"data {name}" for name in DATA_COMMANDS)):
        assert f"\n## xpnet {name}\n\n    xpnet {name} " in page
    for name in Settings.fields():
        assert f"`--{name.replace('_', '-')}" in page
        assert f"| `{variable(name)}` |" in page
    assert all(f"| `{name}` |" in page for name in OTHERS)
    assert all(f"| {code} | " in page for code in EXIT_CODES)
    # Every line of a table has as many cells as its head.
    for table in re.findall(r"(?:^\|.*\n)+", page, re.MULTILINE):
        assert len({len(re.findall(r"(?<!\\)\|", line)) for line in table.splitlines()}) == 1, table


def test_page_of_a_command_names_its_arguments_and_defaults(page):
    of_gradcheck = page.partition("## xpnet gradcheck")[2].partition("\n## ")[0]
    assert "| `--samples N` | Samples of the training set. | 100 |" in of_gradcheck
    assert "| `--seed N` | Seed of the initial weights, and of what is drawn for the check. | 0 |" in of_gradcheck
    assert "    xpnet predict [OPTIONS] RUN INPUTS..." in page


def test_man_prints_a_page_with_every_option(command: CommandLine):
    out = command("--man").out
    assert out == manual_page()
    for name in Settings.fields():
        assert f"\\-\\-{name.replace('_', chr(92) + '-')}" in out
    assert not re.search(r"^'|^\.(?!TH|SH|SS|PP|TP|B |br)", out, re.MULTILINE)


@pytest.mark.skipif(shutil.which("groff") is None, reason="needs groff")
def test_man_page_is_set_without_warnings():
    done = subprocess.run(
        ["groff", "-man", "-Tascii", "-ww"], input=manual_page(), capture_output=True, text=True, check=True
    )
    assert done.stderr == ""
    assert "--batch-size N" in re.sub(r"\x1b\[\d*m|.\x08", "", done.stdout)
