"""Workers of a search that one command starts: as processes here, and as jobs of a cluster."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from command_line import CommandLine, code_of

from xpnet.cli import cluster
from xpnet.cli.cluster import job_options, submit
from xpnet.cli.workers import devices_of, joining, shares, without
from xpnet.errors import ConfigError
from xpnet.tuning.storage import open_storage
from xpnet.tuning.trial_queue import TrialQueue

TINY = ["--data", "patterns:300/100", "--device", "cpu", "--max-replicas", "1"]
SHORT = [*TINY, "--hidden", "4", "--n-s", "6", "--cycles", "1", "--final", "none"]
# Seconds each on one core: there is time to do something to a worker.
LONG = [*TINY, "--hidden", "50,50", "--batch-size", "10", "--n-s", "27", "--cycles", "15", "--final", "none"]


@pytest.mark.parametrize(
    ("device", "workers", "expected"),
    [
        (None, None, [None]),
        (None, 3, [None] * 3),
        ("cpu", 2, ["cpu", "cpu"]),
        ("gpu:0, gpu:1", None, ["gpu:0", "gpu:1"]),
        ("gpu:0,gpu:1", 3, ["gpu:0", "gpu:1", "gpu:0"]),
    ],
)
def test_devices_of_deals_devices_out_to_workers(device, workers, expected):
    assert devices_of(device, workers) == expected


@pytest.mark.parametrize(
    ("line", "sentence"),
    [
        (["--workers", "0"], "workers = 0: must be a whole number of at least 1 and at most 1024"),
        (["--workers", "1", "--device", "gpu:0,gpu:1"], "workers = 1, device = gpu:0,gpu:1: leaves a device without"),
        (["--device", "gpu:0,"], "device = gpu:0,: must be auto, cpu, gpu or gpu:N, or several, such as gpu:0,gpu:1"),
        (["--workers", "x"], "--workers x: must be a whole number"),
        (["--slurm", "time=3"], "slurm = time=3: has no effect without --launcher slurm"),
        (["--launcher", "slurm", "--slurm", "time"], "slurm = time: must be names and values"),
        (["--workers", "2", "--out", "."], "out = .: exists already"),
    ],
)
def test_search_refuses_workers_that_cannot_be(command: CommandLine, line, sentence):
    assert command.refused("search", "lambda", *line).startswith(sentence)


def test_mistake_of_the_search_is_told_by_the_first_worker_alone(capfd: pytest.CaptureFixture[str]):
    assert code_of("search", "lambdah", "--workers", "2", "--out", "s") == 2
    out, err = capfd.readouterr()
    assert out == ""
    assert err.startswith("xpnet: ")
    assert err.count("\n") == 1
    assert not Path("s").exists()


def test_lines_of_workers_keep_what_is_their_own():
    line = ["search", "lambda", "--workers", "3", "--device=gpu:0,gpu:1", "--out", "x", "--trials", "4"]
    assert without(line, "--workers", "--device", "--out") == ["search", "lambda", "--trials", "4"]
    own = {"device": "cpu", "max_replicas": "2", "tf32": True, "lambda": "1", "stepper": "plain"}
    assert joining(Path("f"), own, "5", "sqlite:///x") == [
        *("search", "--resume", "f", "--max-replicas=2", "--tf32", "--stepper=plain", "--lease=5"),
        "--storage=sqlite:///x",
    ]


def test_each_device_gets_a_worker_with_its_own_line_and_cores(monkeypatch, capfd):
    """A script stands in for Python, so that no GPU is needed: it notes how it was started, and makes the folder."""
    script = Path("python").absolute()
    note = 'echo "$OPENBLAS_NUM_THREADS $@" >> lines.txt; echo said; mkdir -p s && : > s/search.toml'
    note += "; while [ $(wc -l < lines.txt) -lt 3 ]; do sleep 0.05; done"
    script.write_text(f"#!/bin/sh\n{note}\n")
    script.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(script))
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 1, 2, 3, 4, 5}, raising=False)
    monkeypatch.setattr(os, "sched_setaffinity", lambda *_: None, raising=False)
    for name in ("OPENBLAS_NUM_THREADS", "XPNET_DEVICE"):
        monkeypatch.delenv(name, raising=False)
    assert code_of("search", "lambda", "--device", "gpu:0,gpu:1", "--workers", "3", "--lease=5", "--out", "s") == 0
    first, *others = Path("lines.txt").read_text().splitlines()
    assert first == "2 -m xpnet search lambda --lease=5 --out=s --device gpu:0"
    assert sorted(others) == [f"2 -m xpnet search --resume s --lease=5 --device gpu:{n}" for n in (0, 1)]
    assert [Path(f"s/workers/{n}.txt").read_text() for n in (2, 3)] == ["said\n"] * 2
    assert "3 workers; what the others say is in s/workers" in capfd.readouterr().err


@pytest.mark.parametrize("count", [1, 2, 3, 5, 100])
def test_shares_deal_out_all_cores(monkeypatch, count):
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 1, 2, 3, 6}, raising=False)
    dealt = shares(count)
    assert len(dealt) == count
    assert set().union(*dealt) == {0, 1, 2, 3, 6}
    if count <= 5:
        assert sum(map(len, dealt)) == 5


def test_job_options_have_the_names_of_submitit():
    assert job_options(None) == {"slurm_time": 60}
    expected = {"slurm_partition": "gpu", "slurm_time": 90, "slurm_gpus_per_node": 1}
    assert job_options("partition=gpu,time=90,gpus_per_node=1") == expected
    with pytest.raises(ConfigError, match="must be names and values"):
        job_options("partition gpu")


def test_launcher_without_submitit_says_what_to_install_before_there_is_a_folder(command, monkeypatch):
    monkeypatch.setitem(sys.modules, "submitit", None)
    sentence = command.refused("search", "lambda", *SHORT, "--launcher", "slurm", "--out", "s")
    assert sentence == "launcher = slurm needs submitit, which is not installed: pip install 'xpnet[cluster]'"
    assert not Path("s").exists()


def test_launcher_without_slurm_says_so_before_there_is_a_folder(command, monkeypatch):
    pytest.importorskip("submitit")
    monkeypatch.setenv("PATH", "nothing")
    sentence = command.refused("search", "lambda", *SHORT, "--launcher", "slurm", "--out", "s")
    assert sentence == "launcher = slurm: there is no srun on this machine; begin the search on one that has Slurm"
    assert not Path("s").exists()


def test_slurm_jobs_get_their_lines_and_the_search_is_begun(command: CommandLine, monkeypatch):
    pytest.importorskip("submitit")
    submitted = []

    class Job:
        job_id = "7_0"

    def take(lines, folder, options):
        submitted.append((lines, folder, options))
        return [Job()] * len(lines)

    monkeypatch.setattr("xpnet.cli.search_workers.check_slurm", lambda: None)
    monkeypatch.setattr("xpnet.cli.search_workers.submit", take)
    line = ["search", "lambda", *SHORT, "--trials", "3", "--launcher", "slurm", "--workers", "2", "--out", "s"]
    found = command.json(*line, "--slurm", "partition=gpu")
    assert (found["jobs"], found["study"]) == (["7_0", "7_0"], "s")
    ((lines, folder, options),) = submitted
    own = ["--data=patterns:300/100", "--max-replicas=1", "--device", "cpu"]
    assert lines == [["search", "--resume", str(Path("s").absolute()), *own]] * 2
    assert (folder, options["slurm_partition"]) == (Path("s").absolute(), "gpu")
    assert Path("s/search.toml").is_file()
    # Its trials are planned, so that workers that begin at once do not all plan them.
    attempts = TrialQueue(open_storage("s/study.journal"), "s").trials()
    assert [attempt.state.name for attempt in attempts] == ["WAITING"] * 3


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::ResourceWarning")
def test_jobs_of_submitit_work_on_one_study_with_their_logs_beside_it(command: CommandLine, monkeypatch):
    pytest.importorskip("submitit")
    jobs = []

    def take(lines, folder, options):
        jobs.extend(submit(lines, folder, options, cluster="local"))
        return jobs

    monkeypatch.setattr("xpnet.cli.search_workers.check_slurm", lambda: None)
    monkeypatch.setattr("xpnet.cli.search_workers.submit", take)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(sys.path))
    monkeypatch.setenv("XPNET_FAST", "0")
    command("search", "lambda", *SHORT, "--trials", "6", "--launcher", "slurm", "--workers", "2", "--out", "s")
    assert [job.result() for job in jobs] == [0, 0]
    counts = json.loads(Path("s/search.json").read_text())["counts"]
    assert counts["complete"] == 6
    logs = [log.read_text() for log in Path("s/workers").glob("*_log.out")]
    assert len(logs) == 2
    assert all("complete" in log for log in logs)
    with pytest.raises(ConfigError, match=r"slurm: .*such as partition=gpu"):
        submit([["info"]], Path("s").absolute(), {"slurm_nonsense": 3}, cluster="local")
    monkeypatch.setattr(cluster.subprocess, "call", lambda _: 2)
    with pytest.raises(RuntimeError, match="exit code 2"):
        cluster.work(["info"])


@pytest.fixture
def search() -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """Start searches; what is left of them at the end is killed."""
    started: list[subprocess.Popen[str]] = []

    def start(*arguments: str) -> subprocess.Popen[str]:
        line = [sys.executable, "-m", "xpnet", "search", *arguments]
        environment = os.environ | {"XPNET_FAST": "0", "OPENBLAS_NUM_THREADS": "1"}
        started.append(
            subprocess.Popen(line, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment)
        )
        return started[-1]

    yield start
    for process in started:
        if process.poll() is None:
            process.terminate()
        process.communicate()


def wait_until(process: subprocess.Popen[str], true: Callable[[], object], seconds: float = 120.0) -> None:
    """Wait until something holds, while a process runs."""
    end = time.monotonic() + seconds
    while not true():
        assert process.poll() is None, process.communicate()[1]
        assert time.monotonic() < end
        time.sleep(0.05)


def workers_of(folder: str) -> list[int]:
    """Return the processes that work on a search, the first worker last."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            words = path.read_bytes().decode().split("\0")
            parent = int((path.parent / "stat").read_text().rpartition(")")[2].split()[1])
        except OSError:
            continue
        if "search" in words and folder in " ".join(words) and os.getpid() != parent:
            found.append(("--resume" not in words, int(path.parent.name)))
    return [number for _, number in sorted(found)]


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/cmdline").exists(), reason="finds workers by /proc")
@pytest.mark.parametrize("first", [False, True], ids=["another", "the-first"])
def test_search_goes_on_when_a_worker_is_killed_and_says_so(search, first: bool):
    folder = str(Path("killed").absolute())
    process = search("lambda", *LONG, "--trials", "3", "--workers", "2", "--out", folder)
    leases = Path(folder, "study.journal")
    # Both have claimed a trial.
    wait_until(
        process, lambda: leases.is_file() and leases.read_text().count('"lease:') >= 2 and len(workers_of(folder)) == 2
    )
    time.sleep(0.5)
    os.kill(workers_of(folder)[-1 if first else 0], signal.SIGKILL)
    out, err = process.communicate(timeout=240)
    assert process.returncode == 0, err
    number = 1 if first else 2
    assert (
        f"warning: worker {number} (cpu) was ended by SIGKILL; the other one goes on, and trains its trials again"
        in err
    )
    assert "3 complete" in out
    counts = json.loads(Path(folder, "search.json").read_text())["counts"]
    assert counts["complete"] == 3


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/cmdline").exists(), reason="finds workers by /proc")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_signal_ends_all_workers_and_the_search_can_go_on(search, number: int):
    folder = str(Path("stopped").absolute())
    process = search("lambda", *LONG, "--trials", "40", "--workers", "2", "--out", folder)
    wait_until(process, lambda: len(workers_of(folder)) == 2 and Path(folder, "search.json").is_file())
    process.send_signal(number)
    _, err = process.communicate(timeout=120)
    assert process.returncode == 128 + number, err
    assert workers_of(folder) == []
    assert "warning: worker" not in err
    assert f"xpnet search --resume {folder} goes on" in err
    counts = json.loads(Path(folder, "search.json").read_text())["counts"]
    assert counts["complete"] < 40
