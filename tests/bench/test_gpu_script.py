"""The script for GPUs works, as far as that can be told on a pretended one."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import emulator
import pytest

from bench.gpu.page import slots

ROOT = Path(__file__).parents[2]
pytestmark = pytest.mark.skipif(emulator.compiler() is None, reason="there is no C++ compiler")

# What the machine with the GPU need not have.
BLOCKED = ("cyclopts", "altair", "vl_convert", "safetensors", "platformdirs", "tomli_w", "PIL", "numba", "optuna")


def script(*arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    code = (
        f"import sys; sys.path.insert(0, {str(ROOT)!r})\n"
        f"for name in {BLOCKED!r}: sys.modules[name] = None\n"
        f"from bench.__main__ import main; sys.exit(main({['gpu', *arguments]!r}))"
    )
    return subprocess.run([sys.executable, "-c", code], cwd=cwd, capture_output=True, text=True, check=False)


@pytest.mark.slow
def test_a_dry_run_goes_through_every_part(tmp_path):
    done = script("--dry-run", "--out", "out.json", cwd=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    result = json.loads((tmp_path / "out.json").read_text())
    parts = result["parts"]
    assert set(parts) == {
        *("kernels", "curves", "gradients", "epochs", "populations"),
        *("start", "memory", "accuracies", "crossover", "tests"),
    }
    assert {name for name, part in parts.items() if "skipped" in part} == {"start", "memory", "accuracies", "tests"}
    assert max(parts["curves"]["worst"].values()) < 1e-3
    assert max(v for k, v in parts["curves"]["worst"].items() if "float64" in k) < 1e-9
    assert set(parts["epochs"]["rows"]["3072-50-50-10 with BN"]) == {
        f"xpnet {kind}" for kind in ("small", "graph", "fused", "plain")
    }
    assert result["gpu"]["name"] == "Pretended"
    assert "on a pretended" not in done.stdout
    assert "all  " in done.stdout
    page = slots(tmp_path)["gpu"]
    assert "| 3072-50-50-10 with BN: xpnet small | ≤ 15 |" in page
    assert "| 2 networks of the first kind |" in page
    assert "Pretended" in page


def test_the_page_says_what_is_open(tmp_path):
    page = slots(tmp_path)["gpu"]
    assert page.count("| open |") == 6
    assert "None of these has been measured yet" in page


def test_a_part_that_fails_is_told_and_the_others_go_on(tmp_path):
    done = script("--dry-run", "--parts", "accuracies,populations", "--data", "nowhere", cwd=tmp_path)
    assert done.returncode == 1
    assert "FAILED: DataError: data = nowhere" in done.stdout
    assert "R =    2" in done.stdout


def test_without_a_gpu_it_says_why(tmp_path):
    done = script("--device", "gpu:7", cwd=tmp_path)
    assert done.returncode == 2
    assert "device = gpu:7: cannot be used" in done.stderr
    assert "Traceback" not in done.stderr


def test_no_part_begins_after_its_time(tmp_path):
    done = script("--dry-run", "--parts", "populations,crossover", "--seconds", "0.001", cwd=tmp_path)
    assert done.returncode == 0
    assert "== crossover: skipped, the 0 seconds are over" in done.stdout
