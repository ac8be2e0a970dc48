"""Reads the machine code of kernels: loads in flight, and whether any is spent on local memory.

A load from a GPU's memory takes as long as hundreds of multiplications, so a kernel is to begin many before it waits
for the first.  The code is read as it stands, from its first line to its last: branches are not followed.
"""

from __future__ import annotations

import importlib.util
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

_SECTION = re.compile(r"^\.text\.(\w+):")
_INSTRUCTION = re.compile(r"/\*[0-9a-f]{4,}\*/\s+(?:@!?U?P\w+\s+)?([A-Z0-9_.]+)\s*([^;]*);")
_REGISTER = re.compile(r"\bR(\d+)")
_SHARED = -1  # in place of a register, for copies to shared memory


class Loads(NamedTuple):
    """What the machine code of a kernel says.

    Attributes:
        loads: Loads from device memory.
        waits: Places where the code waits for some.
        in_flight: The most that are on their way where it waits.
        local: Instructions that read or write local memory, which is a part of device memory.
    """

    loads: int
    waits: int
    in_flight: int
    local: int


def disassembler() -> str | None:
    """Return the path of NVIDIA's nvdisasm, from the system or a wheel, or None."""
    found = shutil.which("nvdisasm")
    if found is not None:
        return found
    places = [path for folder in map(Path, sys.path) for path in sorted(folder.glob("nvidia/*/bin/nvdisasm"))]
    triton = importlib.util.find_spec("triton")
    if triton is not None and triton.origin is not None:
        places.append(Path(triton.origin).parent / "backends" / "nvidia" / "bin" / "nvdisasm")
    return next((str(path) for path in places if path.exists()), None)


def disassembled(program: str, cubin: Path) -> str:
    """Return the machine code in a file as text."""
    return subprocess.run([program, "-c", str(cubin)], capture_output=True, text=True, check=True).stdout


def read(text: str) -> dict[str, Loads]:
    """Return the loads of every kernel."""
    code: dict[str, list[tuple[str, str]]] = {}
    kernel = None
    for line in text.splitlines():
        if match := _SECTION.match(line):
            kernel = code.setdefault(match[1], [])
        elif kernel is not None and (match := _INSTRUCTION.search(line)):
            kernel.append((match[1], match[2]))
    return {name: _loads(instructions) for name, instructions in code.items()}


def _loads(instructions: list[tuple[str, str]]) -> Loads:
    loads = waits = most = local = 0
    flying: list[int] = []  # the registers that loads will fill, in their order
    for operation, operands in instructions:
        kind = operation.partition(".")[0]
        local += kind in ("LDL", "STL")
        registers = [int(number) for number in _REGISTER.findall(operands)]
        # It waits for copies to shared memory, or it reads registers, or gives one a new value.
        touched = {_SHARED} if kind == "DEPBAR" else set(registers)
        # A wait for one is a wait for all that were begun before it.
        needed = max((place for place, register in enumerate(flying) if register in touched), default=-1)
        if needed >= 0:
            waits, most = waits + 1, max(most, len(flying))
            del flying[: needed + 1]
        if kind in ("LDG", "LDGSTS"):
            loads += 1
            flying.append(registers[0] if kind == "LDG" else _SHARED)
    return Loads(loads, waits, max(most, len(flying)), local)
