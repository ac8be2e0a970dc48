"""The kernels compile for the GPUs that people have, and none spills."""

from __future__ import annotations

import json
import subprocess

import emulator
import pytest

from bench import kernels
from bench.results import FOLDER
from xpnet.ops.cuda.kernels import REALS, source

pytestmark = pytest.mark.skipif(kernels.compiler() is None, reason="neither nvcc nor NVRTC is installed")


@pytest.mark.slow
@pytest.mark.parametrize("dtype", REALS)
def test_every_kernel_compiles_for_every_architecture_without_spills(dtype):
    found = kernels.parse(kernels.compiler()[1](dtype))
    assert set(found) == set(emulator.signatures(source()))
    for name, uses in found.items():
        assert set(uses) == {f"sm_{sm}" for sm in kernels.ARCHITECTURES}, name
        for architecture, use in uses.items():
            assert use["spilled"] == 0, f"{name} spills {use['spilled']} bytes on {architecture}"
            assert 0 < use["registers"] <= 255, (name, architecture)


def test_the_record_is_of_the_kernels_that_there_are():
    recorded = json.loads((FOLDER / "kernels.json").read_text())["kernels"]
    for dtype in REALS:
        assert set(recorded[dtype]) == set(emulator.signatures(source())), "run python -m bench kernels --out"


def test_kernels_are_checked_with_the_options_that_cupy_compiles_them_with(monkeypatch):
    seen = []

    def run(command, **_):
        seen.append(command)
        return subprocess.CompletedProcess(command, 0, "", "")

    monkeypatch.setattr(subprocess, "run", run)
    kernels.by_nvcc("nvcc", "float32")
    assert {"-ftz=true", "-std=c++17", "-DREAL=float"} <= set(seen[0])


def test_a_kernel_that_does_not_compile_is_shown(monkeypatch):
    monkeypatch.setattr(kernels, "source", lambda: '#line 1 "odd.cu"\nextern "C" __global__ void odd() { x = 1; }')
    with pytest.raises(kernels.CompileError, match=r"odd\.cu"):
        kernels.compiler()[1]("float32")
