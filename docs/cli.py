"""Writes docs/cli.md: every command, option, variable and exit code, from the parser.  ``python docs/cli.py``."""

from pathlib import Path

from xpnet.cli.manual import markdown

if __name__ == "__main__":
    (Path(__file__).parent / "cli.md").write_text(markdown())
