"""The command line, run in this process."""

from __future__ import annotations

from xpnet.cli import main

SMALL = ["--data", "patterns:600/100", "--epochs", "2", "--hidden", "8"]


def code_of(*arguments: str) -> int:
    """Run the command line in this process and return its exit code."""
    try:
        main(arguments)
    except SystemExit as stop:
        return int(stop.code or 0)
    return 0


def run(capsys, *arguments: str) -> tuple[int, str, str]:
    """Run the command line in this process; return exit code, standard output and standard error."""
    code = code_of(*arguments)
    captured = capsys.readouterr()
    return code, captured.out, captured.err
