"""``xpnet bench``, on the CPU and beside a stand-in for a GPU."""

from __future__ import annotations

import sys

import pytest
from strict import Module, pretended_cupy

from xpnet.analysis import device_benchmark

SMALL = ["--samples", "400", "--rounds", "2", "--hidden", "8"]


@pytest.fixture
def gpu(monkeypatch) -> Module:
    module = pretended_cupy(monkeypatch)
    monkeypatch.setattr(device_benchmark, "WIDTHS", (4, 8))
    monkeypatch.setattr(device_benchmark, "BATCHES", (20, 50))
    monkeypatch.setattr(device_benchmark, "SWEEP_STEPS", 2)
    return module


def test_bench_cpu_stands_beside_its_floor(command):
    result = command.json("bench", *SMALL, "--device", "cpu", "--quiet")
    assert result["network"] == "3072-8-10 with BN, batch 100"
    assert (result["samples"], result["rounds"], result["steps"]) == (400, 2, 4)
    assert set(result["devices"]) == {"cpu", "floor"}
    cpu, floor = result["devices"]["cpu"], result["devices"]["floor"]
    assert cpu["us_per_step"] == pytest.approx(cpu["median"] / 4 * 1e6)
    assert cpu["floor_reached"] == pytest.approx(floor["median"] / cpu["median"])
    assert len(cpu["values"]) == 2
    assert result["sweeps"] == {}


def test_bench_without_a_gpu_says_why_in_one_line(command, monkeypatch):
    monkeypatch.setitem(sys.modules, "cupy", None)
    done = command("bench", *SMALL, "--no-batch-norm", "--batch-size", "50")
    assert len(done.err.strip().splitlines()) == 1
    assert "no GPU, so the CPU alone: CuPy" in done.err
    assert "3072-8-10 without BN, batch 50" in done.out
    for words in ("cpu", "floor (gather and products)", "s an epoch", "µs a step", "%"):
        assert words in done.out
    assert command("bench", *SMALL, "--quiet") == (0, "", "")


@pytest.mark.slow
def test_bench_compares_devices_and_sweeps_sizes(command, gpu):
    result = command.json("bench", *SMALL)
    assert list(result["devices"]) == ["cpu", "gpu:0", "floor"]
    assert set(result["sweeps"]) == {"width", "batch_size"}
    assert [point["size"] for point in result["sweeps"]["width"]["points"]] == [4, 8]
    assert all(point["cpu_us"] > 0 < point["gpu_us"] for point in result["sweeps"]["batch_size"]["points"])
    assert gpu.launches > 100
    out = command("bench", *SMALL).out
    assert "gpu:0" in out
    assert out.count("wins from") + out.count("does not win") == 2


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--samples", "50"], "samples = 50: must be at least the batch size, which is 100"),
        (["--rounds", "0"], "rounds = 0"),
        (["--batch-size", "1"], "batch_size = 1"),
        (["--device", "cpu,"], "device = cpu,"),
        (["--device", "tpu"], "device = tpu: must be auto, cpu, gpu or gpu:N"),
        (["--hidden", "fifty"], "hidden"),
    ],
)
def test_bench_mistakes_get_one_sentence(command, arguments, sentence):
    assert sentence in command.refused("bench", *arguments)
