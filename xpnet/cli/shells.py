"""``xpnet --install-completion`` and ``xpnet --man``."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter

from xpnet.cli.console import STANDARD
from xpnet.cli.parser import make_parser
from xpnet.errors import ConfigError
from xpnet.utils.file_system import open_regular, unused
from xpnet.utils.parsing import read_text

# The function that zsh looks for in a file of the same name.
_OF_ZSH = "_cyclopts_xpnet"
_COMPINIT = "autoload -Uz compinit && compinit"
_MOST_BYTES = 2**24
Shell = Literal["bash", "zsh", "fish"]


def install_completion(
    shell: Annotated[Shell | None, Parameter(help="Which shell. [default: the one that you use]")] = None,
    /,
    *,
    output: Annotated[
        Path | None,
        Parameter(metavar="FILE", help="Write the script to this file, and nothing else. [default: where shells look]"),
    ] = None,
) -> None:
    """Write the script that completes commands in a shell, and let the shell load it."""
    from cyclopts.completion.detect import ShellDetectionError, detect_shell

    try:
        chosen = shell or detect_shell()
    except ShellDetectionError:
        raise ConfigError("shell: cannot be told; name it: xpnet --install-completion bash") from None
    if chosen == "powershell":
        raise ConfigError("shell = powershell: is not supported; there are bash, zsh and fish")
    if output is not None and output.exists():
        raise ConfigError(
            f"output = {output}: exists already, and nothing is overwritten; type --output {unused(output)}"
        )
    if output is not None and chosen == "zsh" and output.name != _OF_ZSH:
        raise ConfigError(f"output = {output}: zsh asks for another name; type --output {output.with_name(_OF_ZSH)}")
    path = make_parser().install_completion(shell=chosen, output=output, add_to_startup=output is None)
    started = {"bash": ", and ~/.bashrc loads it", "zsh": ", and ~/.zshrc names its folder", "fish": ""}[chosen]
    STANDARD.result(
        {},
        f"completion for {chosen}: {path}{started if output is None else ''}",
        f"start a new shell: exec {chosen}",
        *(_completing() if chosen == "zsh" and output is None else []),
    )


def _completing() -> list[str]:
    """Let zsh complete words if nobody has configured it yet; return the sentence for those who have, without that."""
    path = Path.home() / ".zshrc"
    text = read_text(path, _MOST_BYTES, ConfigError, links=True)
    if "compinit" in text:
        return []
    others = [line for line in text.splitlines() if line.strip() and line[0] != "#" and not line.startswith("fpath=")]
    if others:
        return [f"if the TAB key does nothing there, add a line to ~/.zshrc: {_COMPINIT}"]
    with open_regular(path, "ab", links=True) as file:
        file.write(f"{_COMPINIT}\n".encode())
    return []


def man() -> None:
    """Print the manual page."""
    from xpnet.cli.manual import manual_page

    sys.stdout.write(manual_page())
