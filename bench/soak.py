"""Trains, kills, resumes, corrupts and searches at random for a while, and reports what was survived.

python -m bench soak --seconds 600 --seed 3

Every command is a process of its own, as users start them.  A run that was harmed must end as its twin that was not:
the same network, history and figures, to the last bit.  A file that was damaged must be read, or refused.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from bench.machine import describe
from bench.results import write

# No command here takes long; one that does has hung.
_PATIENCE = 120
_MOST_MEMORY = 2 * 2**20  # in KiB, resident


class SoakError(Exception):
    """Something did not hold; the text says what."""


class Soak:
    """Commands that are harmed, and counts of their outcomes.

    Attributes:
        counts: Events by name.
    """

    def __init__(self, folder: Path, seed: int) -> None:
        self.folder = folder
        self.rng = np.random.default_rng(seed)
        self.counts: Counter[str] = Counter()
        self.number = 0

    def command(self, *words: str, after: float | None = None, number: int = 0, file_bytes: int | None = None) -> int:
        """Run a command, send it a signal `after` so many seconds; return its exit code.

        Raises:
            SoakError: It hung, had a traceback, or ended with another code than it may.
        """
        self.counts["commands"] += 1

        def limits() -> None:
            if file_bytes is not None:
                resource.setrlimit(resource.RLIMIT_FSIZE, (file_bytes, file_bytes))

        process = subprocess.Popen(
            [sys.executable, "-m", "xpnet", *words],
            cwd=self.folder,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            preexec_fn=limits,
            env=os.environ | {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"},
        )
        called = f"xpnet {' '.join(words)}"
        try:
            if after is not None:
                try:
                    process.wait(after)
                except subprocess.TimeoutExpired:
                    process.send_signal(number)
            _, err = process.communicate(timeout=_PATIENCE)
        except subprocess.TimeoutExpired:
            process.kill()
            process.communicate()
            raise SoakError(f"{called}: has not ended after {_PATIENCE} s") from None
        if (most := resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss) > _MOST_MEMORY:
            raise SoakError(f"{called}: took {most / 2**20:.1f} GiB of memory")
        allowed = {0, 2, 130, 143, -signal.SIGKILL, -signal.SIGTERM, -signal.SIGINT}
        if process.returncode not in allowed or "Traceback" in err:
            raise SoakError(f"{called}: ended with {process.returncode}: {err[-2000:]}")
        if after is not None and process.returncode != 0:
            self.counts[f"{signal.Signals(number).name} sent"] += 1
        return process.returncode

    def complete(self, *words: str) -> float:
        """Run a command to its end; return the seconds that it took.

        Raises:
            SoakError: It did not succeed.
        """
        begun = time.monotonic()
        if self.command(*words):
            raise SoakError(f"xpnet {' '.join(words)}: does not end")
        return time.monotonic() - begun

    def name(self, what: str) -> str:
        """Return a name that is new."""
        self.number += 1
        return f"{what}-{self.number}"

    def chance(self, share: float) -> bool:
        """Return True in a share of the cases."""
        return bool(self.rng.random() < share)

    def one_of(self, items: Sequence[Any]) -> Any:
        """Return one of several."""
        return items[int(self.rng.integers(len(items)))]


def train(soak: Soak) -> None:
    """Train twice, once undisturbed and once through harm; both must end alike."""
    rng = soak.rng
    words = ["train", "--data", "patterns:3000/200", "--hidden", soak.one_of(["8", "20,10", "6,6,6"])]
    words += ["--epochs", str(rng.integers(3, 9)), "--seed", str(rng.integers(1000))]
    words += soak.one_of([[], ["--schedule", "cosine"], ["--schedule", "decay"], ["--n-s", "40"]])
    words += soak.one_of([[], ["--momentum", "0.9"], ["--momentum", "0.5", "--nesterov"]])
    words += soak.one_of(
        [[], ["--runs", "3"], ["--lambda", "0,.1", "--runs", "2"], ["--runs", "3", "--max-replicas", "2"]]
    )
    words += soak.one_of([[], ["--no-batch-norm"], ["--dtype", "float64"], ["--shuffle", "independent"]])
    words += soak.one_of([[], [], ["--save-every", "2"], ["--keep", "1"]])
    whole, run = soak.name("whole"), soak.name("run")
    seconds = soak.complete(*words, "--out", whole)
    start = ["--out", run]
    for _ in range(int(rng.integers(1, 5))):
        if soak.chance(0.2):
            soak.counts["quotas that were too small"] += 1
            code = soak.command(*words, *start, file_bytes=int(rng.integers(2000, 200_000)))
        else:
            number = soak.one_of([signal.SIGKILL, signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
            # What comes before training takes long: most moments should be after that.
            after = float(rng.uniform(0.3 * seconds, seconds))
            code = soak.command(*words, *start, after=after, number=number)
        if not (soak.folder / run / "config.toml").exists():
            shutil.rmtree(soak.folder / run, ignore_errors=True)
            continue
        words, start = ["train", "--resume", run], []
        if code == 0:
            break
        saved = sorted((soak.folder / run).glob("checkpoints/*/step-*"))
        if saved and soak.chance(0.4):
            damage(soak, soak.one_of(saved[-2:]))
    soak.complete(*words, *start)
    compare(soak.folder / whole, soak.folder / run)
    soak.counts["runs that ended as if undisturbed"] += 1


def damage(soak: Soak, path: Path) -> None:
    """Flip a bit of a file, cut it, put something in its middle, or take it away."""
    content = bytearray(path.read_bytes())
    place = int(soak.rng.integers(max(1, len(content))))
    kind = soak.one_of(["bit", "bit", "cut", "bytes", "gone"])
    if kind == "bit" and content:
        content[place] ^= 1 << int(soak.rng.integers(8))
    elif kind == "cut":
        del content[place:]
    elif kind == "bytes":
        content[place:place] = soak.rng.bytes(8)
    if kind == "gone":
        path.unlink()
    else:
        path.write_bytes(bytes(content))
    soak.counts["files damaged"] += 1


def compare(one: Path, other: Path) -> None:
    """Compare two runs to the last bit.

    Raises:
        SoakError: They differ.
    """
    if (one / "model.safetensors").read_bytes() != (other / "model.safetensors").read_bytes():
        raise SoakError(f"{one.name}, {other.name}: the networks differ")
    if history(one) != history(other):
        raise SoakError(f"{one.name}, {other.name}: the histories differ")
    figures = [json.loads((folder / "metrics.json").read_text()) for folder in (one, other)]
    for name in ("test", "validation", "train", "steps", "interrupted"):
        if figures[0][name] != figures[1][name]:
            raise SoakError(f"{one.name}, {other.name}: {name} is {figures[0][name]} and {figures[1][name]}")


def history(run: Path) -> list[dict[str, str]]:
    """Return the rows of a run's history, without the seconds."""
    with (run / "history.csv").open() as file:
        return [{n: v for n, v in row.items() if not n.startswith("seconds")} for row in csv.DictReader(file)]


def corrupt(soak: Soak) -> None:
    """Damage a file of a finished run, and let commands read it."""
    run = soak.name("damaged")
    soak.command("train", "--data", "patterns:300/100", "--hidden", "8", "--epochs", "2", "--runs", "2", "--out", run)
    for _ in range(2):
        files = sorted(path for path in (soak.folder / run).iterdir() if path.is_file() and path.suffix != ".svg")
        damage(soak, soak.one_of(files))
    command = soak.one_of(["evaluate", "report", "resume", "config", "predict"])
    if command == "resume":
        soak.command("train", "--resume", run)
    elif command == "config":
        soak.command("train", "--config", run, "--out", soak.name("again"))
    elif command == "predict":
        rows = soak.name("rows") + ".npy"
        np.save(soak.folder / rows, soak.rng.random((3, 3072)))
        soak.command("predict", run, rows)
    else:
        soak.command(command, run)
    soak.counts["damaged runs read or refused"] += 1


def search(soak: Soak) -> None:
    """Search twice, once undisturbed and once with workers that are killed; the figures must be the same."""
    seed = str(soak.rng.integers(1000))
    words = ["search", "lambda", "--data", "patterns:600/100", "--hidden", "8", "--epochs", "3", "--trials", "6"]
    words += ["--max-replicas", "2", "--seed", seed, "--dtype", "float64"]
    whole, run = soak.name("search"), soak.name("search")
    seconds = soak.complete(*words, "--out", whole)
    start = [*words, "--out", run]
    for _ in range(int(soak.rng.integers(1, 4))):
        number = soak.one_of([signal.SIGKILL, signal.SIGTERM])
        code = soak.command(*start, after=float(soak.rng.uniform(0.3 * seconds, seconds)), number=number)
        if not (soak.folder / run / "search.toml").exists():
            shutil.rmtree(soak.folder / run, ignore_errors=True)
            continue
        start = ["search", "--resume", run]
        if code == 0:
            break
    soak.complete(*start)
    if trials(soak.folder / whole) != trials(soak.folder / run):
        raise SoakError(f"{whole}, {run}: the trials differ")
    soak.counts["searches that found the same"] += 1


def trials(folder: Path) -> list[tuple[str, ...]]:
    """Return the settings and validation figures of a search's trials, in an order of their own."""
    with (folder / "trials.csv").open() as file:
        rows = list(csv.DictReader(file))
    names = [name for name in rows[0] if name == "lambda" or "accuracy" in name or name == "score"]
    return sorted(tuple(row[name] for name in names) for row in rows if row.get("state") in (None, "complete"))


SCENARIOS: dict[str, tuple[Callable[[Soak], None], float]] = {
    "train": (train, 0.6),
    "corrupt": (corrupt, 0.25),
    "search": (search, 0.15),
}


def soaked(seconds: float, seed: int, folder: Path, say: Callable[[str], None]) -> dict[str, Any]:
    """Do harm for so many seconds, every kind of it at least once; return what was done."""
    soak, begun = Soak(folder, seed), time.monotonic()
    pending = list(SCENARIOS)
    while pending or time.monotonic() - begun < seconds:
        shares = np.array([share for _, share in SCENARIOS.values()])
        name = pending.pop() if pending else str(soak.rng.choice(list(SCENARIOS), p=shares / shares.sum()))
        SCENARIOS[name][0](soak)
        soak.counts[f"scenarios: {name}"] += 1
        say(f"{time.monotonic() - begun:6.0f} s  {name}: all as it must be")
        for path in folder.iterdir():
            shutil.rmtree(path) if path.is_dir() else path.unlink()
    return {"seconds": time.monotonic() - begun, "seed": seed, "counts": dict(sorted(soak.counts.items()))}


def main(given: Sequence[str]) -> int:
    """Soak; return 1 if something did not hold."""
    parser = argparse.ArgumentParser(prog="python -m bench soak", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--seconds", type=float, default=300, help="how long new harm is begun [300]")
    parser.add_argument("--seed", type=int, default=0, help="of what is done; moments differ all the same [0]")
    parser.add_argument("--out", type=Path, metavar="FILE.json", help="write what was survived to a new file")
    options = parser.parse_args(given)
    folder = Path(tempfile.mkdtemp(prefix="xpnet-soak-"))
    try:
        survived = soaked(options.seconds, options.seed, folder, lambda text: print(text, flush=True))
    except SoakError as failure:
        print(f"did not hold: {failure}\nwhat is left of it: {folder}")
        return 1
    shutil.rmtree(folder)
    for what, times in survived["counts"].items():
        print(f"{times:6}  {what}")
    if options.out is not None:
        command = f"python -m bench soak --seconds {options.seconds:g} --seed {options.seed}"
        write(options.out, {"command": command, "machine": describe(), "soak": survived})
        print(f"written: {options.out}")
    return 0
