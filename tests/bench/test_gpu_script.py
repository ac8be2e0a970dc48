"""The script for GPUs works, as far as that can be told on a pretended one."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import emulator
import pytest
from examples import thorough

from bench.gpu import PARTS, main, marked
from bench.gpu.page import slots
from bench.results import BenchError, write

ROOT = Path(__file__).parents[2]
pytestmark = pytest.mark.skipif(emulator.compiler() is None, reason="there is no C++ compiler")

# What the machine with the GPU need not have.
BLOCKED = ("cyclopts", "altair", "vl_convert", "safetensors", "platformdirs", "tomli_w", "PIL", "numba", "optuna")


def script(*arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    """Run the script and the processes of its parts, all of them without what need not be there."""
    blocks = cwd / "without"
    blocks.mkdir(exist_ok=True)
    (blocks / "sitecustomize.py").write_text(f"import sys\nfor name in {BLOCKED!r}: sys.modules[name] = None\n")
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(blocks), str(ROOT)])}
    return subprocess.run(
        [sys.executable, "-m", "bench", "gpu", *arguments],
        cwd=cwd, env=environment, capture_output=True, text=True, check=False,
    )  # fmt: skip


def test_all_limits_together_are_less_than_eight_minutes():
    assert sum(limit for limit, _ in PARTS.values()) < 480
    assert list(PARTS)[:5] == ["kernels", "epochs", "crossover", "curves", "accuracies"]
    assert list(PARTS)[-1] == "peers"


@pytest.mark.slow
def test_a_dry_run_goes_through_every_part(tmp_path):
    done = script("--dry-run", "--out", "out.json", cwd=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    result = json.loads((tmp_path / "out.json").read_text())
    parts = result["parts"]
    assert list(parts) == list(PARTS)
    skipped = {"start", "accuracies", "tests", "peers"}
    assert {name for name, part in parts.items() if "skipped" in part} == skipped
    for worst in (parts[name]["worst"] for name in ("curves", "multi", "persistent")):
        assert max(worst.values()) < 1e-3
        assert max(v for k, v in worst.items() if "float64" in k) < 1e-9
    rows, kinds = parts["epochs"]["rows"], ("small", "graph", "fused", "plain")
    assert set(rows["3072-50-50-10 with BN"]) == {f"xpnet {kind}" for kind in kinds}
    nesterov = rows["3072-50-50-10 with BN, Nesterov and smoothed labels"]
    assert all(nesterov[f"xpnet {kind}"]["median"] > 0 for kind in kinds[:2])
    assert all(row["median"] > 0 for row in parts["epochs"]["rows"]["300-1024-512-10 in views"].values())
    populations = parts["populations"]["rows"]
    assert set(populations) == {"1", "2", "2, own orders"}
    for row in populations.values():
        steppers = {kind: figures["stepper"] for kind, figures in row.items()}
        assert steppers == {"auto": "SmallStepper", "small": "SmallStepper", "graph": "GraphStepper"}
    both = {"multi", "multi-bf16"}
    assert {name: set(row) for name, row in parts["multi"]["rows"].items()} == {"1": both, "3": both}
    assert all(row[kind]["epochs_a_second"] > 0 for row in parts["multi"]["rows"].values() for kind in both)
    for row in parts["persistent"]["rows"].values():
        assert all(row[kind]["median"] > 0 for kind in ("persistent", "small"))
        assert row["persistent"]["clusters"] == 1
    assert result["gpu"]["name"] == "Pretended"
    assert "on a pretended" not in done.stdout
    assert "all  " in done.stdout
    page = slots(tmp_path)["gpu"]
    assert "| 3072-50-50-10 with BN: xpnet small | ≤ 15 |" in page
    assert "| 2 networks of the first kind: auto |" in page
    assert "| 2, own orders networks of the first kind: graph |" in page
    assert "| 3 networks of the first kind: multi |" in page
    assert "| 3 networks of the first kind: multi-bf16 |" in page
    assert "| one network, all blocks, few samples: persistent |" in page
    assert "Pretended" in page


def check_crashed(part, line):
    for one in (part, part["again"]):
        assert one["failed"] == "crashed: SIGSEGV"
        assert "Fatal Python error: Segmentation fault" in one["stderr"]
        assert "in _fail" in one["stderr"]
        assert one["lines"][0].strip().startswith(line)  # what it had found is kept
    assert part["again"]["environment"] == {"CUDA_LAUNCH_BLOCKING": "1"}


@pytest.mark.slow
def test_of_a_part_that_hangs_and_one_that_crashes_all_others_are_in_the_file(tmp_path):
    done = script(
        "--dry-run", "--fail", "kernels=crash,populations=hang", "--limits", "populations=15", "--out", "out.json",
        cwd=tmp_path,
    )  # fmt: skip
    # That it has ended at all shows that what the part that hung had started has ended too: it held our pipes.
    assert done.returncode == 1, done.stdout + done.stderr
    parts = json.loads((tmp_path / "out.json").read_text())["parts"]
    assert list(parts) == list(PARTS)
    assert {name for name, part in parts.items() if "failed" in part} == {"kernels", "populations"}
    check_crashed(parts["kernels"], "24 operations")
    for part in (parts["populations"], parts["populations"]["again"]):
        assert part["failed"] == "hung: it was ended after 15 s"
        assert "Timeout" in part["stderr"]
        assert "in _fail" in part["stderr"]
        assert part["rows"]["1"]["auto"]["median"] > 0
    assert parts["gradients"]["summary"].startswith("3 layers: 60 gradients")
    page = slots(tmp_path)["gpu"]
    assert "kernels: crashed: SIGSEGV" in page
    assert "populations: hung: it was ended after 15 s" in page
    assert "| 1 networks of the first kind: auto |" in page


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (("--parts", "all"), "all: must be of kernels, epochs"),
        (("--limits", "peers=long"), "peers=long: must be seconds by part"),
        (("--limits", "peers=0"), "peers=0.0: must be above 0 seconds"),
        (("--dry-run", "--fail", "peers=slow"), "peers=slow: must be crash or hang"),
        (("--fail", "peers=hang"), "--fail: is for a --dry-run"),
        (("--out", "without"), "without: exists already"),
    ],
)
def test_what_was_given_wrongly_is_said(tmp_path, monkeypatch, capsys, given, message):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "without").touch()
    with pytest.raises((SystemExit, BenchError)) as told:
        main(given)
    assert message in capsys.readouterr().err + str(told.value)


def test_a_result_is_written_anew_where_that_is_meant(tmp_path):
    path = tmp_path / "out.json"
    write(path, {"parts": {}})
    with pytest.raises(BenchError, match="takes a new file"):
        write(path, {"parts": {"a": 1}})
    write(path, {"parts": {"a": 1}}, replace=True)
    assert json.loads(path.read_text())["parts"] == {"a": 1}
    assert [p.name for p in tmp_path.iterdir()] == ["out.json"]


def test_the_page_says_what_is_open(tmp_path):
    page = slots(tmp_path)["gpu"]
    assert page.count("| open |") == 6
    assert "None of these has been measured yet" in page


def test_the_page_has_peers_and_marks_those_without_a_graph(tmp_path):
    network = "3072-50-50-10 with BN"
    row = {"median": 50.0, "min": 49.0}
    rows = {"PyTorch graph": row, "PyTorch reduce-overhead": row | {"graph_skips": 3}, "JAX scan": {"failed": "none"}}
    parts = {
        "epochs": {"rows": {network: {"xpnet small": row}}},
        "peers": {"rows": {network: rows}, "failed": "hung: it was ended after 70 s"},
    }
    machine = {"date": "2026-01-01", "packages": {}}
    write(tmp_path / "gpu.json", {"command": "", "machine": machine, "gpu": {}, "suites": {}, "parts": parts})
    page = slots(tmp_path)["gpu"]
    assert f"| {network}: xpnet small | ≤ 15 | 50.0 (min 49.0) |" in page
    assert f"| {network}: PyTorch graph |  | 50.0 (min 49.0) |" in page
    assert f"| {network}: PyTorch reduce-overhead |  | 50.0 (min 49.0), without a CUDA graph |" in page
    assert f"| {network}: JAX scan |  | none |" in page
    assert "peers: hung: it was ended after 70 s" in page


@pytest.mark.slow
def test_a_part_that_fails_is_told_and_the_others_go_on(tmp_path):
    done = script("--dry-run", "--parts", "accuracies,gradients", "--data", "nowhere", cwd=tmp_path)
    assert done.returncode == 1
    assert "FAILED DataError: data = nowhere" in done.stdout
    assert "3 layers: 60 gradients" in done.stdout
    assert "== accuracies, again with CUDA_LAUNCH_BLOCKING=1" in done.stdout
    assert "with CUDA_LAUNCH_BLOCKING=1: DataError: data = nowhere" in done.stdout


@pytest.mark.slow
def test_tests_of_a_gpu_that_fail_or_crash_are_told_one_by_one(tmp_path, monkeypatch):
    (tmp_path / "test_some.py").write_text(
        "import os, pytest\npytestmark = pytest.mark.gpu\ndef test_a(): pass\ndef test_b(): assert 1 == 2\n"
        "def test_c(): os.kill(os.getpid(), 11)\ndef test_d(): pass\n"
    )
    (tmp_path / "pytest.ini").write_text("[pytest]\nmarkers = gpu\n")
    monkeypatch.setattr(marked, "ROOT", tmp_path)
    told = []
    context = SimpleNamespace(found={}, tell=told.append, on_change=lambda: None)
    passed, failures = marked.run_tests(context, "test_some.py")
    assert passed == 1
    assert failures[0] == "FAILED test_some.py::test_b"
    assert failures[1].startswith("test_some.py: pytest ended with exit code -11, after it began test_some.py::test_c")
    assert told == ["FAILED test_some.py::test_b", "test_some.py: 1 passed, 2 failed"]


def test_without_a_gpu_it_says_why(tmp_path):
    done = script("--device", "gpu:7", cwd=tmp_path)
    assert done.returncode == 2
    assert "device = gpu:7: cannot be used" in done.stderr
    assert "Traceback" not in done.stderr


@thorough
def test_no_part_begins_after_its_time(tmp_path):
    done = script("--dry-run", "--parts", "populations,crossover", "--seconds", "0.001", cwd=tmp_path)
    assert done.returncode == 0
    assert (
        "== crossover: from which width and batch size on the GPU wins\n   skipped: the 0 seconds are over"
        in done.stdout
    )
