"""Compiles the CUDA kernels for several GPUs, without one, and reports registers, shared memory and loads.

python -m bench kernels                # nvcc where it is installed, else NVRTC
python -m bench kernels --out FILE.json

The loads are read from the machine code, where nvdisasm is installed (pip install nvidia-cuda-nvdisasm).  Exit code 1
if a kernel does not compile, or uses local memory, as one does that spills registers.
"""

from __future__ import annotations

import argparse
import ctypes
import json
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from functools import partial
from itertools import combinations
from pathlib import Path
from typing import Any

from bench.sass import disassembled, disassembler, read
from xpnet.ops.cuda.kernels import ADDED, CHANGED, CLUSTERS, MACROS, REALS, Macros, defined, options, source

ARCHITECTURES = (75, 80, 90, 100)
# Kernels that are never launched on the first architectures.
SINCE = {"multi_steps_bf16": 80, **dict.fromkeys(CLUSTERS, 90)}
WORDS = (
    "Registers of a thread, float32 / float64; then, for float32 on sm_90, the most loads from device memory that are "
    "on their way where the code waits for some, and the number of places where it waits."
)
# What the kernels of small networks are compiled for, and what the rows say of it.
VARIANTS: tuple[Macros, ...] = tuple(some for count in range(len(MACROS) + 1) for some in combinations(MACROS, count))
_SAID = {"MOMENTUM": "momentum", "MODIFIED_LOSS": "loss"}
_NEVER_CHANGED = ("small_sum",)
_ENTRY = re.compile(r"Compiling entry function '(\w+)' for 'sm_(\d+)a?'")
_SPILLS = re.compile(r"(\d+) bytes stack frame, (\d+) bytes spill stores, (\d+) bytes spill loads")
_USED = re.compile(r"Used (\d+) registers(?:.*?(\d+) bytes smem)?")


class CompileError(Exception):
    """The compiler's message."""


def _text(macros: Macros) -> str:
    """Return the source of all kernels, or of those that macros change."""
    return source(CHANGED) if macros else source()


def by_nvcc(nvcc: str, dtype: str, keep: Path | None = None, macros: Macros = ()) -> str:
    """Compile kernels for `dtype` and every architecture; return what the assembler says.

    They are all kernels, or those that `macros` change.  The machine code is written to the folder `keep`, one file an
    architecture, if there is one.
    """
    codes = [f"-gencode=arch=compute_{sm},code=sm_{sm}" for sm in ARCHITECTURES]
    with tempfile.TemporaryDirectory() as folder:
        text = Path(folder, "kernels.cu")
        text.write_text(_text(macros))
        given = [*codes, *options(dtype), *defined(macros), *ADDED, "-Xptxas", "-v"]
        kept = ["--keep", "--keep-dir", folder]
        command = [nvcc, "-fatbin", *given, *kept, "-o", str(Path(folder, "k")), str(text)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if keep is not None:
            for sm in ARCHITECTURES:
                for made in Path(folder).glob(f"kernels*_{sm}.cubin"):
                    shutil.copy(made, keep / f"sm_{sm}.cubin")
    if done.returncode:
        raise CompileError(done.stderr)
    return done.stderr


def by_nvrtc(library: Any, dtype: str, keep: Path | None = None, macros: Macros = ()) -> str:
    """Do the same by NVRTC."""
    said = []
    for sm in ARCHITECTURES:
        program = ctypes.c_void_p()
        text = _text(macros).encode()
        library.nvrtcCreateProgram(ctypes.byref(program), text, b"kernels.cu", 0, None, None)
        # As CuPy does; nvcc has no such option as the last.
        kinds = (*options(dtype), *defined(macros))
        words = (f"-arch=sm_{sm}", *kinds, *ADDED, "--device-as-default-execution-space")
        given = [word.encode() for word in (*words, "--ptxas-options=-v")]
        status = library.nvrtcCompileProgram(program, len(given), (ctypes.c_char_p * len(given))(*given))
        size = ctypes.c_size_t()
        library.nvrtcGetProgramLogSize(program, ctypes.byref(size))
        log = ctypes.create_string_buffer(size.value)
        library.nvrtcGetProgramLog(program, log)
        if status:
            raise CompileError(log.value.decode())
        if keep is not None:
            library.nvrtcGetCUBINSize(program, ctypes.byref(size))
            code = ctypes.create_string_buffer(size.value)
            library.nvrtcGetCUBIN(program, code)
            Path(keep, f"sm_{sm}.cubin").write_bytes(code.raw)
        library.nvrtcDestroyProgram(ctypes.byref(program))
        said.append(log.value.decode())
    return "\n".join(said)


def nvrtc() -> Any:
    """Return NVRTC from its wheel or the system, or None."""
    try:
        from cuda.pathfinder import load_nvidia_dynamic_lib

        return ctypes.CDLL(load_nvidia_dynamic_lib("nvrtc").abs_path)
    except (ImportError, RuntimeError, OSError):
        pass
    for place in map(Path, sys.path):
        for found in sorted(place.glob("nvidia/*/lib/libnvrtc.so.*")):
            return ctypes.CDLL(str(found))
    return None


def compiler() -> tuple[str, Any] | None:
    """Return the compiler's name and a function of the dtype, `keep` and `macros`, or None where there is none."""
    nvcc = shutil.which("nvcc")
    if nvcc is not None:
        return "nvcc", partial(by_nvcc, nvcc)
    library = nvrtc()
    return None if library is None else ("NVRTC", partial(by_nvrtc, library))


def examine(compile_for: Any, dtype: str) -> dict[str, dict[str, dict[str, int]]]:
    """Compile all variants for `dtype`; return what :func:`parse` does, with the loads if there is a disassembler."""
    rows: dict[str, dict[str, dict[str, int]]] = {}
    for macros in VARIANTS:
        with tempfile.TemporaryDirectory() as folder:
            found = parse(compile_for(dtype, Path(folder), macros))
            add_loads(found, Path(folder))
        rows |= labelled(found, macros)
    return rows


def add_loads(found: dict[str, dict[str, dict[str, int]]], folder: Path) -> None:
    """Add the loads that the machine code in `folder` has, where there is a disassembler."""
    program = disassembler()
    for code in folder.glob("*.cubin") if program is not None else ():
        loads = read(disassembled(program, code))
        for kernel, uses in found.items():
            if code.stem in uses:
                uses[code.stem] |= loads[kernel]._asdict()


def labelled(found: dict[str, Any], macros: Macros) -> dict[str, Any]:
    """Return the kernels that `macros` change, with names that say so."""
    said = "".join(f", {_SAID[macro]}" for macro in macros)
    return {f"{name}{said}": uses for name, uses in found.items() if not (macros and name in _NEVER_CHANGED)}


def parse(said: str) -> dict[str, dict[str, dict[str, int]]]:
    """Return registers, shared memory and spilled bytes by kernel and architecture."""
    found: dict[str, dict[str, dict[str, int]]] = {}
    kernel = architecture = None
    for line in said.splitlines():
        if match := _ENTRY.search(line):
            kernel, architecture = match[1], f"sm_{match[2]}"
            if int(match[2]) < SINCE.get(kernel, 0):
                kernel = None
            else:
                found.setdefault(kernel, {})[architecture] = {}
        elif kernel is None or architecture is None:
            continue
        elif match := _SPILLS.search(line):
            found[kernel][architecture] |= {"stack": int(match[1]), "spilled": int(match[2]) + int(match[3])}
        elif match := _USED.search(line):
            found[kernel][architecture] |= {"registers": int(match[1]), "shared": int(match[2] or 0)}
            kernel = None
    return found


def table(found: dict[str, Any]) -> str:
    """Return registers by kernel and architecture as Markdown, float32 / float64."""
    lines = [
        "| kernel | " + " | ".join(f"sm_{sm}" for sm in ARCHITECTURES) + " | shared bytes | loads in flight, waits |",
        "|---|" + "---|" * (len(ARCHITECTURES) + 2),
    ]
    for kernel in found["float32"]:
        cells = [
            " / ".join(str(found[dtype][kernel].get(f"sm_{sm}", {}).get("registers", "-")) for dtype in REALS)
            for sm in ARCHITECTURES
        ]
        shared = max(found[dtype][kernel]["sm_90"].get("shared", 0) for dtype in REALS)
        use = found["float32"][kernel]["sm_90"]
        loads = f"{use['in_flight']}, {use['waits']}" if "waits" in use else "?"
        lines.append(f"| `{kernel}` | {' | '.join(cells)} | {shared:,} | {loads} |")
    return "\n".join(lines)


def main(arguments: Sequence[str]) -> int:
    """Compile, print the table, and return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m bench kernels", description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, metavar="FILE.json", help="write what was found to a file")
    given = parser.parse_args(arguments)
    made = compiler()
    if made is None:
        print("kernels: neither nvcc nor NVRTC is installed; pip install nvidia-cuda-nvrtc", file=sys.stderr)
        return 2
    name, compile_for = made
    try:
        found = {dtype: examine(compile_for, dtype) for dtype in REALS}
    except CompileError as error:
        print(error, file=sys.stderr)
        return 1
    print(f"{WORDS} Compiled by {name}.\n\n{table(found)}")
    if given.out is not None:
        given.out.write_text(json.dumps({"compiler": name, "kernels": found}, indent=1) + "\n")
    spilled = [
        f"{kernel} ({dtype}, {sm}): spills {use['spilled']} bytes, and uses local memory {use.get('local', '?')} times"
        for dtype, kernels in found.items()
        for kernel, uses in kernels.items()
        for sm, use in uses.items()
        if use.get("spilled") or use.get("local")
    ]
    print("\n".join(spilled) or "\nno kernel spills registers or uses local memory")
    return 1 if spilled else 0
