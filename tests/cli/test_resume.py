"""``xpnet train --resume``: whatever ended a run, it ends as one that was never broken, to the last bit."""

from __future__ import annotations

import csv
import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from xpnet.cli import main
from xpnet.runs.checkpoints import last_complete

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="processes that are killed are forked")

SMALL = ("--data", "patterns:600/100", "--hidden", "8", "--seed", "3")
FOUR = ("--epochs", "4")
CASES: dict[str, tuple[str, ...]] = {
    "one network": (),
    "population": ("--lambda", "0,.01,.1", "--runs", "2", "--momentum", ".9", "--shuffle", "shared"),
    "chunks": ("--runs", "5", "--max-replicas", "2", "--dtype", "float64"),
    "cosine, Nesterov": (
        "--schedule",
        "cosine",
        "--momentum",
        ".5",
        "--nesterov",
        "--batch-size",
        "70",
        "--no-batch-norm",
    ),
    "decay": ("--schedule", "decay", "--save-every", "2", "--keep", "1", "--train-metrics", "full"),
    "a cycle and a half": ("--n-s", "8"),
}


class Commands:
    """Runs commands in children of one process, which has imported everything."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._process = subprocess.Popen(
            [sys.executable, str(Path(__file__).parents[1] / "helpers" / "commands.py")],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=folder,
        )

    def __call__(self, *arguments: str, **what: Any) -> dict[str, Any]:
        """Run a command; see commands.py."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        print(json.dumps({"arguments": arguments, **what}), file=self._process.stdin, flush=True)
        done: dict[str, Any] = json.loads(self._process.stdout.readline())
        assert "Traceback" not in done["err"]
        assert done["code"] != 70, done["err"]
        return done

    def train(self, out: str, case: str = "one network", **what: Any) -> dict[str, Any]:
        """Train in a new folder."""
        return self("train", *SMALL, *FOUR, *CASES[case], "--out", out, **what)

    def resume(self, run: str, *options: str, **what: Any) -> dict[str, Any]:
        """Go on with a run."""
        return self("train", "--resume", run, *options, **what)

    def close(self) -> None:
        """End the process."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        self._process.wait(timeout=60)
        self._process.stdout.close()


@pytest.fixture(scope="module")
def commands(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Commands]:
    started = Commands(tmp_path_factory.mktemp("commands"))
    yield started
    started.close()


@pytest.fixture(scope="module")
def whole(commands: Commands) -> Any:
    """Return what gives the run of a case that was never broken."""

    def of(case: str) -> Path:
        folder = commands.folder / f"whole-{list(CASES).index(case)}"
        if not folder.exists():
            assert commands.train(folder.name, case)["code"] == 0
        return folder

    return of


@pytest.fixture
def run(commands: Commands) -> Iterator[Path]:
    """Return the path of a run that is not there yet."""
    folder = commands.folder / "run"
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


def history(folder: Path) -> list[dict[str, str]]:
    """Return the rows of a history, without the seconds."""
    with (folder / "history.csv").open() as file:
        return [{n: v for n, v in row.items() if not n.startswith("seconds")} for row in csv.DictReader(file)]


def check_same(one: Path, other: Path) -> None:
    """Check that two runs have the same network, history and figures, to the last bit."""
    assert (one / "model.safetensors").read_bytes() == (other / "model.safetensors").read_bytes()
    assert history(one) == history(other)
    figures = [json.loads((folder / "metrics.json").read_text()) for folder in (one, other)]
    for name in ("test", "validation", "train", "epochs", "steps", "interrupted", "replicas"):
        assert figures[0].get(name) == figures[1].get(name), name
    assert figures[0]["interrupted"] is False
    settings = [(folder / "config.toml").read_text() for folder in (one, other)]
    assert settings[0] == settings[1]
    assert list(other.rglob("*.tmp")) == []


def finish(commands: Commands, run: Path, case: str) -> dict[str, Any]:
    """Go on with a run to its end, from wherever it was killed."""
    if not (run / "config.toml").exists():  # killed before it was one
        shutil.rmtree(run, ignore_errors=True)
        return commands.train(run.name, case)
    return commands.resume(run.name)


@pytest.mark.guarantee("kills")
def test_killed_at_random_moments(commands: Commands, whole: Any, run: Path, harm: Any):
    rng = np.random.default_rng(8)
    for number in range(harm.times(4, 18)):
        case = list(CASES)[number % len(CASES)]
        expected = whole(case)
        slow = {"slow": 0.02}
        killed = commands.train(run.name, case, seconds=rng.uniform(0, 0.6), **slow)
        harm.did("moments killed", killed["code"] == -9)
        if number % 3 == 2 and (run / "config.toml").exists():  # once more, on its way back
            killed = commands.resume(run.name, seconds=rng.uniform(0, 0.5), **slow)
            harm.did("moments killed", killed["code"] == -9)
        assert last_complete(run / "checkpoints" / "0-1")[2] == []
        assert finish(commands, run, case)["code"] == 0
        check_same(expected, run)
        shutil.rmtree(run)


@pytest.mark.guarantee("kills")
def test_killed_at_calls_to_the_file_system(commands: Commands, whole: Any, run: Path, harm: Any):
    """In the middle of saves, of the history, and of the results."""
    expected = whole("chunks")
    number, ended = 0, False
    while not ended:
        killed = commands.train(run.name, "chunks", call=number)
        ended = killed["code"] == 0
        harm.did("calls to the file system at which a run was killed", not ended)
        for folder in run.glob("checkpoints/*-*"):
            assert last_complete(folder)[2] == []
        assert finish(commands, run, "chunks")["code"] == 0
        check_same(expected, run)
        shutil.rmtree(run)
        number += harm.times(131, 23)
    assert number > 100


@pytest.mark.guarantee("signals", "resume")
@pytest.mark.parametrize(("case", "step"), [("one network", 2), ("population", 9), ("chunks", 28), ("decay", 23)])
def test_stopped_within_an_epoch(commands: Commands, whole: Any, run: Path, harm: Any, case: str, step: int):
    number, code = (signal.SIGINT, 130) if step % 2 else (signal.SIGTERM, 143)
    stopped = commands.train(run.name, case, signals=[(step, number)])
    harm.did("signals sent")
    assert stopped["code"] == code
    assert f"go on with: xpnet train --resume {run.name}" in stopped["err"]
    figures = json.loads((run / "metrics.json").read_text())
    assert figures["interrupted"]
    assert (run / "model.safetensors").exists() == (run / "curves.png").exists() == (run / "curves.svg").exists()
    again = commands.resume(run.name, "--json")
    assert again["code"] == 0
    assert f"going on from step {step % 24}" in again["err"]
    assert json.loads(again["out"]) == json.loads((run / "metrics.json").read_text())
    check_same(whole(case), run)
    (resumed,) = json.loads((run / "environment.json").read_text())["resumed"]
    assert resumed["step"] == step % 24
    assert resumed["command"] == f"xpnet train --resume {run.name} --json"
    assert "not as before" not in again["err"]


@pytest.mark.guarantee("signals")
def test_the_second_ctrl_c_leaves_at_once(commands: Commands, whole: Any, run: Path, harm: Any):
    left = commands.train(run.name, signals=[(8, signal.SIGINT), (8, signal.SIGINT)])
    harm.did("signals sent", 2)
    assert left["code"] == 130
    assert not (run / "model.safetensors").exists()
    snapshot, _, wrong = last_complete(run / "checkpoints" / "0-1")
    assert (snapshot.step, wrong) == (6, [])
    assert commands.resume(run.name)["code"] == 0
    check_same(whole("one network"), run)


@pytest.mark.guarantee("signals")
def test_a_run_that_saves_nothing_says_so_when_it_is_stopped(commands: Commands, whole: Any, run: Path):
    stopped = commands.train(run.name, "one network", signals=[(8, signal.SIGTERM)])
    saved = sorted((run / "checkpoints" / "0-1").iterdir())
    shutil.rmtree(run)
    nothing = commands("train", *SMALL, *FOUR, "--out", run.name, "--save-every", "0", signals=[(8, signal.SIGTERM)])
    assert (stopped["code"], nothing["code"]) == (143, 143)
    assert len(saved) == 4
    assert not (run / "checkpoints" / "0-1").exists()
    assert "save_every = 0: nothing was saved from which it could go on" in nothing["err"]
    again = commands.resume(run.name)
    assert "has no complete checkpoint: training starts again" in again["err"]
    assert (run / "model.safetensors").read_bytes() == (whole("one network") / "model.safetensors").read_bytes()


somebody_else = pytest.mark.skipif(
    not hasattr(os, "getuid") or os.getuid() != 0, reason="only root can become somebody else"
)


def warned(done: dict[str, Any], words: str) -> int:
    """Return how many warnings have these words; others are of how few steps these runs have."""
    return sum(line.startswith("warning: ") and words in line for line in done["err"].splitlines())


class TestDisks:
    """Training goes on where it can, is told once, and the exit code says it."""

    pytestmark = pytest.mark.guarantee("full-disk")

    @pytest.mark.parametrize("bytes_", [1_500, 2_600, 40_000])
    def test_what_is_missing_is_made_up_for(self, commands: Commands, run: Path, harm: Any, bytes_: int):
        """Network, history or figures of an interrupted part must not pass for those of the end."""
        small = ("train", "--data", "patterns:300/100", "--hidden", "4", "--epochs", "12", "--save-every", "5")
        if not (commands.folder / "made").exists():
            assert commands(*small, "--out", "made")["code"] == 0
        assert commands(*small, "--out", run.name, signals=[(9, signal.SIGTERM)])["code"] == 143
        done = commands.resume(run.name, file_bytes=bytes_)
        harm.did("quotas that were too small")
        assert done["code"] == 2
        assert "is finished" not in done["err"]
        again = commands.resume(run.name)
        assert again["code"] == 0
        assert "is finished" not in again["err"]
        check_same(commands.folder / "made", run)

    def test_files_that_may_not_be_that_large(self, commands: Commands, whole: Any, run: Path, harm: Any):
        done = commands.train(run.name, file_bytes=50_000)
        harm.did("quotas that were too small")
        assert done["code"] == 2
        assert warned(done, "training goes on") == 1
        assert "the checkpoint of step 6 could not be written (File too large); training goes on" in done["err"]
        assert "xpnet: run: was not saved 5 times" in done["err"]
        assert "missing are run/model.safetensors; make room, then: xpnet train --resume run" in done["err"]
        assert "test" in done["out"]
        assert history(run) == history(whole("one network"))
        assert commands.resume(run.name)["code"] == 0
        check_same(whole("one network"), run)

    @pytest.mark.parametrize("kibibytes", [150, 330, 460])
    def test_a_disk_that_is_full(self, commands: Commands, whole: Any, run: Path, harm: Any, kibibytes: int):
        disk = commands.folder / "disk"
        disk.mkdir(exist_ok=True)
        mount = ["mount", "-t", "tmpfs", "-o", f"size={kibibytes}k", "tmpfs", str(disk)]
        if not shutil.which("mount") or subprocess.run(mount, capture_output=True).returncode:
            pytest.skip("no file system can be mounted here")
        try:
            done = commands("train", *SMALL, *FOUR, "--out", "disk/run")
            harm.did("file systems that were full")
            assert done["code"] == 2
            assert warned(done, "training goes on") == 1
            assert "could not be written (No space left on device); training goes on" in done["err"]
            snapshot, _, wrong = last_complete(disk / "run" / "checkpoints" / "0-1")
            assert wrong == []
            assert (snapshot is not None) == (kibibytes > 150)
            assert history(disk / "run") == history(whole("one network"))
            subprocess.run(["mount", "-o", "remount,size=4m", str(disk)], check=True)
            assert commands.resume("disk/run")["code"] == 0
            check_same(whole("one network"), disk / "run")
        finally:
            subprocess.run(["umount", str(disk)], check=True)

    @somebody_else
    def test_a_folder_that_can_only_be_read_from_some_moment_on(self, commands: Commands, whole: Any, harm: Any):
        theirs = commands.folder / "theirs"
        theirs.mkdir()
        for folder in (commands.folder.parent.parent, commands.folder.parent, commands.folder):
            folder.chmod(0o755)
        os.chown(theirs, 65534, 65534)
        folders = "theirs/run theirs/run/checkpoints theirs/run/checkpoints/0-1"
        done = commands(
            "train", *SMALL, *FOUR, "--out", "theirs/run", user=65534, commands=[(14, f"chmod a-w {folders}")]
        )
        harm.did("folders that could only be read")
        assert done["code"] == 2
        assert warned(done, "training goes on") == 1
        assert "the checkpoint of step 18 could not be written (Permission denied)" in done["err"]
        assert "that of step 12 is complete" in done["err"]
        assert "model.safetensors" in done["err"].splitlines()[-1]
        assert "%" in done["out"]
        snapshot, _, wrong = last_complete(theirs / "run" / "checkpoints" / "0-1")
        assert (snapshot.step, wrong) == (12, [])
        subprocess.run(f"chmod u+w {folders}", shell=True, check=True, cwd=commands.folder)
        assert commands.resume("theirs/run", user=65534)["code"] == 0
        check_same(whole("one network"), theirs / "run")

    def test_a_folder_that_vanishes(self, commands: Commands, whole: Any, run: Path, harm: Any):
        done = commands.train(run.name, commands=[(14, f"rm -r {run}")])
        harm.did("folders that vanished")
        assert done["code"] == 2
        assert warned(done, "training goes on") == 1
        assert "the checkpoint of step 18 could not be written (No such file or directory)" in done["err"]
        assert "the results are complete" in done["err"]
        assert (run / "model.safetensors").read_bytes() == (whole("one network") / "model.safetensors").read_bytes()
        assert json.loads((run / "metrics.json").read_text())["steps"] == 24
        assert history(run) == history(whole("one network"))
        assert commands.resume(run.name)["code"] == 0

    @somebody_else
    def test_a_folder_of_somebody_else(self, commands: Commands, whole: Any, run: Path, harm: Any):
        commands.train(run.name, signals=[(8, signal.SIGTERM)])
        before = {path: path.read_bytes() for path in run.rglob("*") if path.is_file()}
        commands.folder.chmod(0o755)
        done = commands.resume(run.name, user=65534)
        harm.did("folders that could only be read")
        assert done["code"] == 2
        assert "cannot be" in done["err"]
        assert done["err"].count("\n") <= 3
        assert before == {path: path.read_bytes() for path in run.rglob("*") if path.is_file()}

    def test_every_call_in_turn(self, commands: Commands, whole: Any, run: Path, harm: Any):
        """From a call on all find the disk full, or it alone: what could not be saved is told, and is made up for."""
        number, ended = 0, False
        while not ended:
            for last in (10**9, number + 1):
                done = commands.train(run.name, fail=(number, last))
                harm.did("calls to the file system that failed")
                for folder in run.glob("checkpoints/*-*"):
                    assert last_complete(folder)[2] == []
                if done["code"]:
                    assert done["code"] == 2
                    assert "No space left on device" in done["err"]
                    assert warned(done, "training goes on") <= 1
                elif last == 10**9:  # there are no more calls
                    ended = True
                assert finish(commands, run, "one network")["code"] == 0
                check_same(whole("one network"), run)
                shutil.rmtree(run)
            number += harm.times(131, 11)
        assert number > 100


def damage(path: Path, how: str) -> None:
    """Flip a bit in the middle of a file, cut it, or take it away."""
    content = bytearray(path.read_bytes())
    if how == "bit":
        content[len(content) // 2] ^= 4
    path.write_bytes(bytes(content[: len(content) // 3] if how == "cut" else content))
    if how == "gone":
        path.unlink()


@pytest.mark.guarantee("corruption", "resume")
@pytest.mark.parametrize("which", ["safetensors", "json"])
@pytest.mark.parametrize("how", ["bit", "cut", "gone"])
def test_the_last_whole_checkpoint_is_taken(commands: Commands, whole: Any, run: Path, harm: Any, which: str, how: str):
    commands.train(run.name, signals=[(20, signal.SIGTERM)])
    victim = run / "checkpoints" / "0-1" / f"step-000000020.{which}"
    damage(victim, how)
    harm.did("checkpoints damaged")
    again = commands.resume(run.name)
    assert again["code"] == 0
    assert "going on from step 18 of 24" in again["err"]
    # Without its description a checkpoint does not exist, as if the save had been cut short.
    assert ("warning: run/checkpoints/0-1/step-000000020." in again["err"]) == ((which, how) != ("json", "gone"))
    assert warned(again, "it is skipped") == ((which, how) != ("json", "gone"))
    check_same(whole("one network"), run)


@pytest.mark.guarantee("corruption", "resume")
def test_without_a_whole_checkpoint_training_starts_again(commands: Commands, whole: Any, run: Path, harm: Any):
    commands.train(run.name, "chunks", signals=[(40, signal.SIGTERM)])
    for path in run.glob("checkpoints/*/*.safetensors"):
        damage(path, "bit")
        harm.did("checkpoints damaged")
    again = commands.resume(run.name)
    assert "training starts again" in again["err"]
    assert (
        again["err"].count("; it is skipped") == 4
    )  # of the finished chunk the last two, which are not worse, and of the other
    check_same(whole("chunks"), run)


@pytest.fixture(scope="module")
def stopped(commands: Commands) -> str:
    """Return the name of a run that was stopped."""
    commands.train("stopped", signals=[(8, signal.SIGTERM)])
    return "stopped"


class TestRefusals:
    """What is not the run is refused with what differs; the run stays as it is."""

    @pytest.mark.parametrize(
        ("options", "sentence"),
        [
            (["--lambda", "0.1"], "stopped: cannot be resumed with lambda = 0.1 (it has 0.005); leave that out"),
            (
                ["--epochs", "6", "--hidden", "9"],
                "cannot be resumed with epochs = 6 (it has 4), hidden = [9] (it has [8])",
            ),
            (
                ["--data", "patterns:600/200"],
                "cannot be resumed with other data than it has seen (patterns:600/200): ",
            ),
            (
                ["--allow-changes", "--hidden", "9"],
                "cannot go on from its checkpoints, parameters.W1 has the shape (1, 3072, 8), not (1, 3072, 9)",
            ),
            (["--allow-changes", "--runs", "2"], "its checkpoints are of 1 network, and there are 2"),
            (["--allow-changes", "--dtype", "float64"], "is float32, not float64"),
            (["--out", "other"], "out = other: a run that is resumed has its own; leave --out out"),
            (["--config", "a.toml"], "config = a.toml: a run that is resumed has its own"),
            (["--hiden", "3"], "hiden"),
        ],
    )
    def test_other_settings(self, commands: Commands, stopped: str, options: list[str], sentence: str):
        folder = commands.folder / stopped
        before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
        done = commands.resume(stopped, *options)
        assert done["code"] == 2
        assert sentence in done["err"]
        assert before == {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}

    def test_other_data_of_the_same_sizes(self, commands: Commands, run: Path):
        rng = np.random.default_rng(1)
        for name in ("x.npy", "other.npy"):
            np.save(commands.folder / name, rng.standard_normal((90, 5)))
        np.save(commands.folder / "y.npy", np.arange(90) % 3)
        data = ("--data", "x.npy", "--target", "y.npy", "--hidden", "4", "--epochs", "9")
        commands("train", *data, "--out", run.name, signals=[(3, signal.SIGTERM)])
        done = commands.resume(run.name, "--data", "other.npy")
        assert done["code"] == 2
        assert "other.npy): check sum = " in done["err"]
        shutil.move(commands.folder / "x.npy", commands.folder / "moved.npy")
        assert "x.npy" in commands.resume(run.name)["err"]
        assert commands.resume(run.name, "--data", "moved.npy")["code"] == 0
        assert "moved.npy" in (run / "config.toml").read_text()

    def test_columns_of_other_names(self, commands: Commands, run: Path):
        """A network predicts by the names of the columns that it was trained on."""
        rows = "".join(f"{a},{a * 7 % 5},{'xyz'[a % 3]}\n" for a in range(90))
        (commands.folder / "t.csv").write_text("a,b,label\n" + rows)
        data = ("--data", "t.csv", "--target", "label", "--hidden", "4", "--epochs", "9")
        commands("train", *data, "--out", run.name, signals=[(3, signal.SIGTERM)])
        (commands.folder / "t.csv").write_text("b,a,label\n" + rows)
        other = commands.resume(run.name)
        assert other["code"] == 2
        assert "t.csv): names of features = " in other["err"]

    def test_labels_of_their_own_may_move(self, commands: Commands, run: Path):
        rng = np.random.default_rng(1)
        np.save(commands.folder / "a.npy", rng.standard_normal((90, 5)))
        np.save(commands.folder / "b.npy", np.arange(90) % 3)
        np.save(commands.folder / "c.npy", np.arange(90)[::-1] % 3)
        data = ("--data", "a.npy", "--target", "b.npy", "--hidden", "4", "--epochs", "9")
        commands("train", *data, "--out", run.name, signals=[(3, signal.SIGTERM)])
        other = commands.resume(run.name, "--target", "c.npy")
        assert other["code"] == 2
        assert "cannot be resumed with other data than it has seen" in other["err"]
        shutil.move(commands.folder / "b.npy", commands.folder / "d.npy")
        assert commands.resume(run.name, "--target", "d.npy")["code"] == 0

    def test_a_rate_range_test_is_no_run(self, commands: Commands):
        commands("lr-range", "--data", "patterns:300/100", "--hidden", "4", "--steps", "30", "--out", "rates")
        assert (commands.folder / "rates" / "config.toml").exists()
        done = commands.resume("rates")
        assert done["code"] == 2
        assert "resume = rates: is the folder of a learning rate range test; train with --config rates" in done["err"]
        assert not (commands.folder / "rates" / "checkpoints").exists()

    @pytest.mark.parametrize("place", ["nowhere", "."])
    def test_what_is_no_run(self, commands: Commands, place: str):
        done = commands.resume(place)
        assert done["code"] == 2
        assert f"resume = {place}: is not the folder of a run, it has no config.toml" in done["err"]

    def test_changes_are_for_a_run_that_is_resumed(self, commands: Commands):
        done = commands("train", *SMALL, "--allow-changes")
        assert done["code"] == 2
        assert "allow_changes = true: is for a run that is resumed" in done["err"]

    def test_a_second_process(self, commands: Commands, whole: Any, run: Path, harm: Any):
        python = f"{sys.executable} -m xpnet train --resume run > second.txt 2>&1; echo $? >> second.txt"
        done = commands.train(run.name, commands=[(8, python)])
        harm.did("second processes in a run's folder")
        assert done["code"] == 0
        sentence, code = (commands.folder / "second.txt").read_text().splitlines()[-2:]
        assert sentence == "xpnet: run: another process trains here; wait for it, or stop it first"
        assert code == "2"
        check_same(whole("one network"), run)


def test_a_finished_run_is_left_alone(commands: Commands, whole: Any):
    folder = whole("decay")
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    done = commands.resume(folder.name, "--json")
    assert done["code"] == 0
    assert "is finished" in done["err"]
    assert json.loads(done["out"]) == json.loads((folder / "metrics.json").read_text())
    assert before == {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_a_finished_run_without_checkpoints_is_not_trained_over(commands: Commands, whole: Any, run: Path):
    folder = Path(shutil.copytree(whole("decay"), run))
    shutil.rmtree(folder / "checkpoints")
    model = (folder / "model.safetensors").read_bytes()
    done = commands.resume(folder.name, "--epochs", "9", "--allow-changes")
    assert done["code"] == 2
    assert "is finished, and has no checkpoint to go on from; train a new run with --config" in done["err"]
    assert (folder / "model.safetensors").read_bytes() == model


class TestChanges:
    """Settings that are changed on the way, because that was asked for."""

    def test_more_epochs(self, commands: Commands, run: Path):
        commands("train", *SMALL, *FOUR, "--schedule", "constant", "--out", run.name)
        first = history(run)
        assert commands.resume(run.name, "--epochs", "7", "--allow-changes")["code"] == 0
        shutil.copytree(run, commands.folder / "longer")
        shutil.rmtree(run)
        commands("train", *SMALL, "--schedule", "constant", "--epochs", "7", "--out", run.name)
        assert history(commands.folder / "longer")[:4] == first
        check_same(run, commands.folder / "longer")

    def test_without_steps_nothing_changes(self, commands: Commands, run: Path):
        commands("train", *SMALL, *FOUR, "--out", run.name)
        before = {path: path.read_bytes() for path in run.rglob("*") if path.is_file()}
        for change in (("--lambda", "1"), ("--epochs", "3")):
            done = commands.resume(run.name, *change, "--allow-changes")
            assert done["code"] == 2
            why = "it has trained 4 epochs already" if change[0] == "--epochs" else "nothing is left to train with"
            assert why in done["err"]
        assert before == {path: path.read_bytes() for path in run.rglob("*") if path.is_file()}

    @pytest.mark.guarantee("kills")
    def test_a_finished_run_that_is_killed_while_it_trains_on_is_not_finished(self, commands, whole, run, harm):
        commands("train", *SMALL, *FOUR, "--schedule", "constant", "--out", run.name)
        killed = commands.resume(run.name, "--epochs", "7", "--allow-changes", signals=[(8, signal.SIGKILL)])
        assert killed["code"] == -9
        harm.did("moments killed")
        assert len(history(run)) in (5, 6)
        assert commands.resume(run.name)["code"] == 0
        assert len(history(run)) == 7

    def test_what_was_changed_is_what_the_run_has_from_there_on(self, commands: Commands, run: Path):
        commands.train(run.name, signals=[(12, signal.SIGTERM)])
        changes = ("--lambda", "1", "--batch-size", "45", "--save-every", "1", "--keep", "9", "--allow-changes")
        assert commands.resume(run.name, *changes, signals=[(14, signal.SIGTERM)])["code"] == 143
        assert commands.resume(run.name)["code"] == 0
        rows = history(run)
        assert [int(row["step"]) for row in rows] == [6, 12, 36, 48]
        assert "lambda = 1.0" in (run / "config.toml").read_text()
        costs = [float(row["validation_cost"]) - float(row["validation_loss"]) for row in rows]
        assert costs[1] < 1 < 2 < costs[2]
        names = sorted(path.name for path in (run / "checkpoints" / "0-1").glob("*.json"))
        assert names == [f"step-{step:09d}.json" for step in (24, 36, 38, 48)]
        resumed = json.loads((run / "environment.json").read_text())["resumed"]
        assert [entry["command"].split()[4:6] for entry in resumed] == [["--lambda", "1"], []]

    def test_chunks_keep_the_rates_that_they_were_trained_with(self, commands: Commands, run: Path):
        options = ("--runs", "2", "--max-replicas", "1", "--batch-size", "90", "--schedule", "decay")
        commands("train", *SMALL, *FOUR, *options, "--out", run.name)
        before = history(run)
        done = commands.resume(run.name, "--epochs", "5", "--batch-size", "270", "--eta", ".5", "--allow-changes")
        assert done["code"] == 0, done["err"]
        after = history(run)
        assert after[:8] == before
        assert [float(row["eta"]) for row in after[8:]] == pytest.approx([0.5 * 0.95**4] * 2)

    def test_within_an_epoch_its_length_cannot_change(self, commands: Commands, run: Path):
        commands.train(run.name, signals=[(8, signal.SIGTERM)])
        done = commands.resume(run.name, "--batch-size", "50", "--allow-changes")
        assert done["code"] == 0
        assert "going on from step 11 of 44" in done["err"]  # the end of the first epoch of 11 steps

    def test_without_momentum_velocities_are_lost(self, commands: Commands, run: Path):
        commands.train(run.name, "cosine, Nesterov", signals=[(10, signal.SIGTERM)])
        assert commands.resume(run.name, "--momentum", "0", "--no-nesterov", "--allow-changes")["code"] == 0


def test_checkpoints_are_kept_as_often_and_as_many_as_asked_for(commands: Commands, run: Path):
    options = ("--epochs", "9", "--save-every", "2", "--keep", "1")
    assert commands("train", *SMALL, *options, "--out", run.name)["code"] == 0
    rows = history(run)
    accuracies = {int(row["step"]): float(row["validation_accuracy"]) for row in rows}
    saved = {step: accuracies[step] for step in (12, 24, 36, 48, 54)}
    best = max(saved, key=lambda step: (saved[step], step))
    kept = {int(path.stem.removeprefix("step-")) for path in (run / "checkpoints" / "0-1").glob("*.json")}
    assert kept == {54, best}
    settings = (run / "config.toml").read_text()
    assert "save_every = 2" in settings
    assert "keep = 1" in settings


@pytest.mark.guarantee("checkpoints")
def test_a_run_of_an_earlier_version_goes_on(commands: Commands, run: Path):
    """The fixture is a run of 0.1 that was stopped within an epoch; its end was known then."""
    fixtures = Path(__file__).parents[1] / "fixtures"
    shutil.copytree(fixtures / "run-0.1", run)
    done = commands.resume(run.name, "--data", str(fixtures / "rows.csv"), "--json")
    assert done["code"] == 0, done["err"]
    assert "going on from step 31 of 56" in done["err"]
    assert json.loads(done["out"])["test"]["loss"]["values"] == pytest.approx([1.13248346388, 0.82868775702], rel=1e-8)
    before = (fixtures / "run-0.1" / "history.csv").read_text().splitlines()
    after = (run / "history.csv").read_text().splitlines()
    assert after[:9] == before[:9]  # four whole epochs of two networks


def test_a_checkpoint_is_evaluated_and_predicts(commands: Commands, whole: Any):
    """The last one is the network of the run."""
    folder = whole("one network")
    last = f"{folder.name}/checkpoints/0-1/step-000000024.json"
    done = commands("evaluate", last, "--json")
    assert done["code"] == 0, done["err"]
    figures = json.loads((folder / "metrics.json").read_text())
    assert json.loads(done["out"])["loss"] == pytest.approx(figures["test"]["loss"], rel=1e-6)
    np.save(commands.folder / "three.npy", np.random.default_rng(0).integers(0, 255, (3, 3072), np.uint8))
    there, here = (commands("predict", which, "three.npy", "--csv") for which in (last, folder.name))
    assert there["code"] == 0, there["err"]
    assert there["out"] == here["out"]


@pytest.mark.parametrize("name", ["NUMBA_CPU_NAME", "NUMBA_CPU_FEATURES", "NPY_DISABLE_CPU_FEATURES"])
def test_what_compiled_code_is_for_is_remembered(capsys, monkeypatch, name: str):
    monkeypatch.setenv("XPNET_FAST", "0")
    main(["train", *SMALL, "--epochs", "1", "--quiet", "--out", "run"])
    for file in ("metrics.json", "model.safetensors"):
        Path("run", file).unlink()
    monkeypatch.setenv(name, "generic")
    main(["train", "--resume", "run"])
    assert "not as before: variables (environment.json has both)" in capsys.readouterr().err
    assert json.loads(Path("run/environment.json").read_text())["resumed"][0]["variables"][name] == "generic"
