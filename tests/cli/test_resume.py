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
from examples import every, pairs, thorough

from xpnet.cli import main
from xpnet.runs.checkpoints import last_complete

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="processes that are killed are forked")

FIXTURES = Path(__file__).parents[1] / "fixtures"
SMALL = ("--data", "patterns:600/100", "--hidden", "8", "--seed", "3")
FOUR = (*SMALL, "--epochs", "4")
CASES = {
    "one network": "",
    "population": "--lambda 0,.01,.1 --runs 2 --momentum .9 --shuffle shared",
    "chunks": "--runs 5 --max-replicas 2 --dtype float64 --patience 1 --restore best",
    "cosine, Nesterov": "--schedule cosine --momentum .5 --nesterov --batch-size 70 --no-batch-norm",
    "decay": "--schedule decay --save-every 2 --keep 1 --train-metrics full",
    "a cycle and a half": "--n-s 8",
    "AdamW": "--schedule cosine-restarts --n-s 1ep --restart-factor 1.5 --optimiser adamw --weight-decay 0,.1 "
    "--lr-first .5",
    "pictures": "--schedule one-cycle --runs 2 --momentum .9 --label-smoothing .1 --pool 2 --pca 12 "
    "--flip alternating --shift 2 --cutout 5 --dropout .2 --input-dropout .1",
}


class Commands:
    """Runs commands in children of one process, which has imported everything."""

    def __init__(self, folder: Path, process: subprocess.Popen[str]) -> None:
        self.folder, self._process = folder, process

    def __call__(self, *arguments: str, code: int | None = 0, **harm: Any) -> dict[str, Any]:
        """Run a command that must end with an exit code, any but a defect's if None; see commands.py."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        print(json.dumps({"arguments": arguments, **harm}), file=self._process.stdin, flush=True)
        done: dict[str, Any] = json.loads(self._process.stdout.readline())
        assert "Traceback" not in done["err"]
        assert done["code"] != 70 if code is None else done["code"] == code, done
        return done

    def train(self, out: Path, case: str = "one network", **harm: Any) -> dict[str, Any]:
        """Train in a new folder."""
        return self("train", *FOUR, *CASES[case].split(), "--out", out.name, **harm)

    def resume(self, run: Path | str, *options: str, **harm: Any) -> dict[str, Any]:
        """Continue a run."""
        return self("train", "--resume", run if isinstance(run, str) else run.name, *options, **harm)

    def finish(self, run: Path, case: str) -> None:
        """Continue a run to its end, from wherever it was killed."""
        if (run / "config.toml").exists():
            self.resume(run)
        else:  # killed before it was one
            shutil.rmtree(run, ignore_errors=True)
            self.train(run, case)


@pytest.fixture(scope="module")
def commands(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Commands]:
    folder = tmp_path_factory.mktemp("commands")
    command = [sys.executable, str(Path(__file__).parents[1] / "helpers" / "commands.py")]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen(command, **pipes, text=True, cwd=folder) as process:
        made = Commands(folder, process)
        made("info", "--quiet")  # so that no test waits for imports
        yield made


@pytest.fixture(scope="module")
def undisturbed(commands: Commands) -> Any:
    """Return a function that gives the finished run of a case."""

    def of(case: str = "one network") -> Path:
        folder = commands.folder / f"undisturbed-{list(CASES).index(case)}"
        if not folder.exists():
            commands.train(folder, case)
        return folder

    return of


@pytest.fixture
def run(commands: Commands) -> Iterator[Path]:
    """Return the path of a run that does not exist yet."""
    folder = commands.folder / "run"
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


def history(folder: Path) -> list[dict[str, str]]:
    """Return the rows of a history, without the seconds."""
    with (folder / "history.csv").open() as file:
        return [{n: v for n, v in row.items() if not n.startswith("seconds")} for row in csv.DictReader(file)]


def load_json(path: Path) -> Any:
    return json.loads(path.read_text())


def contents(folder: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def warned(done: dict[str, Any], words: str) -> int:
    """Return how many warnings have these words; others are of how few steps these runs have."""
    return sum(line.startswith("warning: ") and words in line for line in done["err"].splitlines())


def check_same(one: Path, other: Path) -> None:
    """Check that two runs have the same network, history and figures, to the last bit."""
    assert (one / "model.safetensors").read_bytes() == (other / "model.safetensors").read_bytes()
    assert history(one) == history(other)
    figures = [load_json(folder / "metrics.json") for folder in (one, other)]
    for name in ("test", "validation", "train", "epochs", "steps", "interrupted", "replicas", "stopped"):
        assert figures[0].get(name) == figures[1].get(name), name
    assert figures[0]["interrupted"] is False
    assert (one / "config.toml").read_text() == (other / "config.toml").read_text()
    assert list(other.rglob("*.tmp")) == []


def check_complete(run: Path) -> None:
    """Check that no checkpoint is damaged."""
    for folder in run.glob("checkpoints/*-*"):
        assert last_complete(folder)[2] == []


@pytest.mark.guarantee("kills")
def test_killed_at_random_moments(commands, undisturbed, run, harm):
    rng = np.random.default_rng(8)
    for number in range(harm.times(3, 18)):
        case = list(CASES)[number % len(CASES)]
        killed = commands.train(run, case, code=None, seconds=rng.uniform(0, 0.6), slow=0.02)
        harm.did("moments killed", killed["code"] == -9)
        if number % 3 == 2 and (run / "config.toml").exists():  # once more, on its way back
            killed = commands.resume(run, code=None, seconds=rng.uniform(0, 0.5), slow=0.02)
            harm.did("moments killed", killed["code"] == -9)
        check_complete(run)
        commands.finish(run, case)
        check_same(undisturbed(case), run)
        shutil.rmtree(run)


@pytest.mark.guarantee("kills")
def test_killed_at_calls_to_the_file_system(commands, undisturbed, run, harm):
    """In the middle of saves, of the history, and of the results."""
    number, ended = 0, False
    while not ended:
        ended = commands.train(run, "chunks", code=None, call=number)["code"] == 0
        harm.did("calls to the file system at which a run was killed", not ended)
        check_complete(run)
        commands.finish(run, "chunks")
        check_same(undisturbed("chunks"), run)
        shutil.rmtree(run)
        number += harm.times(131, 23)
    assert number > 250


@pytest.mark.guarantee("signals", "resume")
@pytest.mark.parametrize(
    ("case", "step"),
    [
        *(("population", 9), ("chunks", 28), ("pictures", 15)),
        *(pytest.param(*one, marks=thorough) for one in (("one network", 2), ("decay", 23))),
    ],
)
def test_stopped_within_an_epoch(commands, undisturbed, run, harm, case, step):
    number, code = (signal.SIGINT, 130) if step % 2 else (signal.SIGTERM, 143)
    stopped = commands.train(run, case, code=code, signals=[(step, number)])
    harm.did("signals sent")
    assert f"go on with: xpnet train --resume {run.name}" in stopped["err"]
    assert load_json(run / "metrics.json")["interrupted"]
    assert (run / "model.safetensors").exists() == (run / "curves.png").exists() == (run / "curves.svg").exists()
    again = commands.resume(run, "--json")
    assert f"going on from step {step % 24}" in again["err"]
    assert json.loads(again["out"]) == load_json(run / "metrics.json")
    check_same(undisturbed(case), run)
    (resumed,) = load_json(run / "environment.json")["resumed"]
    assert (resumed["step"], resumed["command"]) == (step % 24, f"xpnet train --resume {run.name} --json")
    assert "not as before" not in again["err"]


@pytest.mark.guarantee("signals")
def test_second_ctrl_c_leaves_at_once(commands, undisturbed, run, harm):
    commands.train(run, code=130, signals=[(8, signal.SIGINT), (8, signal.SIGINT)])
    harm.did("signals sent", 2)
    assert not (run / "model.safetensors").exists()
    state, _, wrong = last_complete(run / "checkpoints" / "0-1")
    assert (state.step, wrong) == (6, [])
    commands.resume(run)
    check_same(undisturbed(), run)


@pytest.mark.guarantee("signals")
def test_run_that_saves_nothing_says_so_when_it_is_stopped(commands, undisturbed, run):
    options = ("--out", run.name, "--save-every", "0")
    stopped = commands("train", *FOUR, *options, code=143, signals=[(8, signal.SIGTERM)])
    assert not (run / "checkpoints" / "0-1").exists()
    assert "save_every = 0: nothing was saved from which it could go on" in stopped["err"]
    assert "has no complete checkpoint: training starts again" in commands.resume(run)["err"]
    assert (run / "model.safetensors").read_bytes() == (undisturbed() / "model.safetensors").read_bytes()


as_another_user = pytest.mark.skipif(
    not hasattr(os, "getuid") or os.getuid() != 0, reason="only root can become another user"
)


class TestDisks:
    """Training goes on where it can, warns once, and the exit code says it."""

    pytestmark = pytest.mark.guarantee("full-disk")

    @pytest.mark.parametrize("bytes_", every(3, [2_600, 1_500, 40_000]))
    def test_results_that_are_missing_are_written_by_resume(self, commands, run, harm, bytes_):
        """Network, history or figures of an interrupted part must not pass for those of the end."""
        small = ["train", "--data", "patterns:300/100", "--hidden", "4", "--epochs", "12", "--save-every", "5", "--out"]
        if not (commands.folder / "made").exists():
            commands(*small, "made")
        commands(*small, run.name, code=143, signals=[(9, signal.SIGTERM)])
        done = commands.resume(run, code=2, file_bytes=bytes_)
        harm.did("quotas that were too small")
        assert "is finished" not in done["err"]
        assert "is finished" not in commands.resume(run)["err"]
        check_same(commands.folder / "made", run)

    def test_quota_that_is_too_small(self, commands, undisturbed, run, harm):
        done = commands.train(run, code=2, file_bytes=50_000)
        harm.did("quotas that were too small")
        assert warned(done, "training goes on") == 1
        assert "the checkpoint of step 6 could not be written (File too large); training goes on" in done["err"]
        assert "xpnet: run: was not saved 5 times" in done["err"]
        assert "missing are run/model.safetensors; make room, then: xpnet train --resume run" in done["err"]
        assert "test" in done["out"]
        assert history(run) == history(undisturbed())
        commands.resume(run)
        check_same(undisturbed(), run)

    @pytest.mark.parametrize("kibibytes", every(3, [330, 150, 460]))
    def test_full_disk(self, commands, undisturbed, harm, kibibytes):
        disk = commands.folder / "disk"
        disk.mkdir(exist_ok=True)
        mount = ["mount", "-t", "tmpfs", "-o", f"size={kibibytes}k", "tmpfs", str(disk)]
        if not shutil.which("mount") or subprocess.run(mount, capture_output=True).returncode:
            pytest.skip("no file system can be mounted here")
        try:
            done = commands("train", *FOUR, "--out", "disk/run", code=2)
            harm.did("file systems that were full")
            assert warned(done, "training goes on") == 1
            assert "could not be written (No space left on device); training goes on" in done["err"]
            check_complete(disk / "run")
            state = last_complete(disk / "run" / "checkpoints" / "0-1")[0]
            assert (state is not None) == (kibibytes > 150)
            assert history(disk / "run") == history(undisturbed())
            subprocess.run(["mount", "-o", "remount,size=4m", str(disk)], check=True)
            commands.resume("disk/run")
            check_same(undisturbed(), disk / "run")
        finally:
            subprocess.run(["umount", str(disk)], check=True)

    @as_another_user
    def test_folder_that_becomes_read_only(self, commands, undisturbed, harm):
        run = commands.folder / "theirs" / "run"
        run.parent.mkdir()
        for folder in (commands.folder.parent.parent, commands.folder.parent, commands.folder):
            folder.chmod(0o755)
        os.chown(run.parent, 65534, 65534)
        folders = "theirs/run theirs/run/checkpoints theirs/run/checkpoints/0-1"
        shut = {"user": 65534, "commands": [(14, f"chmod a-w {folders}")]}
        done = commands("train", *FOUR, "--out", "theirs/run", code=2, **shut)
        harm.did("folders that could only be read")
        assert warned(done, "training goes on") == 1
        assert "the checkpoint of step 18 could not be written (Permission denied)" in done["err"]
        assert "that of step 12 is complete" in done["err"]
        assert "model.safetensors" in done["err"].splitlines()[-1]
        assert "%" in done["out"]
        state, _, wrong = last_complete(run / "checkpoints" / "0-1")
        assert (state.step, wrong) == (12, [])
        subprocess.run(f"chmod u+w {folders}", shell=True, check=True, cwd=commands.folder)
        commands.resume("theirs/run", user=65534)
        check_same(undisturbed(), run)

    def test_folder_that_vanishes(self, commands, undisturbed, run, harm):
        done = commands.train(run, code=2, commands=[(14, f"rm -r {run}")])
        harm.did("folders that vanished")
        assert warned(done, "training goes on") == 1
        assert "the checkpoint of step 18 could not be written (No such file or directory)" in done["err"]
        assert "the results are complete" in done["err"]
        assert (run / "model.safetensors").read_bytes() == (undisturbed() / "model.safetensors").read_bytes()
        assert load_json(run / "metrics.json")["steps"] == 24
        assert history(run) == history(undisturbed())
        commands.resume(run)

    @as_another_user
    def test_folder_of_another_user(self, commands, run, harm):
        commands.train(run, code=143, signals=[(8, signal.SIGTERM)])
        before = contents(run)
        commands.folder.chmod(0o755)
        done = commands.resume(run, code=2, user=65534)
        harm.did("folders that could only be read")
        assert "cannot be" in done["err"]
        assert done["err"].count("\n") <= 3
        assert before == contents(run)

    def test_disk_is_full_at_calls_to_the_file_system(self, commands, undisturbed, run, harm):
        """From a call on all find the disk full, or it alone: it is reported, and resuming makes up for it."""
        number, ended = 0, False
        while not ended:
            for last in (10**9, number + 1):
                done = commands.train(run, code=None, fail=(number, last))
                harm.did("calls to the file system that failed")
                check_complete(run)
                if done["code"]:
                    assert done["code"] == 2
                    assert "No space left on device" in done["err"]
                    assert warned(done, "training goes on") <= 1
                elif last == 10**9:  # there are no more calls
                    ended = True
                commands.finish(run, "one network")
                check_same(undisturbed(), run)
                shutil.rmtree(run)
            number += harm.times(97, 7)
        assert number > 100


def damage(path: Path, how: str) -> None:
    """Flip a bit in the middle of a file, cut it, or delete it."""
    content = bytearray(path.read_bytes())
    if how == "bit":
        content[len(content) // 2] ^= 4
    path.write_bytes(bytes(content[: len(content) // 3] if how == "cut" else content))
    if how == "gone":
        path.unlink()


@pytest.mark.guarantee("corruption", "resume")
@pytest.mark.parametrize(("how", "suffix"), pairs(["bit", "cut", "gone"], ["safetensors", "json"]))
def test_last_complete_checkpoint_is_taken(commands, undisturbed, run, harm, suffix, how):
    stopped = commands.folder / "stopped-20"
    if not stopped.exists():
        commands.train(stopped, code=143, signals=[(20, signal.SIGTERM)])
    shutil.copytree(stopped, run)
    damage(run / "checkpoints" / "0-1" / f"step-000000020.{suffix}", how)
    harm.did("checkpoints damaged")
    again = commands.resume(run)
    assert "going on from step 18 of 24" in again["err"]
    # Without its description a checkpoint does not exist, as if the save had been cut short.
    exists = (suffix, how) != ("json", "gone")
    assert ("warning: run/checkpoints/0-1/step-000000020." in again["err"]) == exists
    assert warned(again, "it is skipped") == exists
    check_same(undisturbed(), run)


@pytest.mark.guarantee("corruption", "resume")
def test_without_a_complete_checkpoint_training_starts_again(commands, undisturbed, run, harm):
    commands.train(run, "chunks", code=143, signals=[(40, signal.SIGTERM)])
    for path in run.glob("checkpoints/*/*.safetensors"):
        damage(path, "bit")
        harm.did("checkpoints damaged")
    again = commands.resume(run)
    assert "training starts again" in again["err"]
    # Of the finished chunk the last two, which are not worse, and of the other.
    assert again["err"].count("; it is skipped") == 4
    check_same(undisturbed("chunks"), run)


@pytest.fixture(scope="module")
def stopped(commands: Commands) -> Path:
    """Return a run that was stopped."""
    commands.train(commands.folder / "stopped", code=143, signals=[(8, signal.SIGTERM)])
    return commands.folder / "stopped"


class TestRefusals:
    """Another run is refused with what differs; the run stays as it is."""

    @pytest.mark.parametrize(
        ("options", "sentence"),
        [
            ("--lambda 0.1", "stopped: cannot be resumed with lambda = 0.1 (it has 0.005); leave that out"),
            ("--epochs 6 --hidden 9", "cannot be resumed with epochs = 6 (it has 4), hidden = [9] (it has [8])"),
            ("--data patterns:600/200", "cannot be resumed with other data than it has seen (patterns:600/200): "),
            (
                "--allow-changes --hidden 9",
                "cannot go on from its checkpoints, parameters.W1 has the shape (1, 3072, 8), not (1, 3072, 9)",
            ),
            ("--allow-changes --runs 2", "its checkpoints are of 1 network, and there are 2"),
            ("--allow-changes --dtype float64", "is float32, not float64"),
            ("--out other", "out = other: a run that is resumed has its own; leave --out out"),
            ("--config a.toml", "config = a.toml: a run that is resumed has its own"),
            ("--hiden 3", "hiden"),
        ],
    )
    def test_other_settings(self, commands, stopped, options, sentence):
        before = contents(stopped)
        assert sentence in commands.resume(stopped, *options.split(), code=2)["err"]
        assert before == contents(stopped)

    @staticmethod
    def start(commands: Commands, run: Path, *data: str) -> None:
        options = ("--hidden", "4", "--epochs", "9", "--out", run.name)
        commands("train", *data, *options, code=143, signals=[(3, signal.SIGTERM)])

    def test_other_data_of_the_same_sizes(self, commands, run):
        rng = np.random.default_rng(1)
        for name in ("x.npy", "other.npy"):
            np.save(commands.folder / name, rng.standard_normal((90, 5)))
        for name, labels in (("y", np.arange(90) % 3), ("z", np.arange(90)[::-1] % 3)):
            np.save(commands.folder / f"{name}.npy", labels)
        self.start(commands, run, "--data", "x.npy", "--target", "y.npy")
        assert "other.npy): check sum = " in commands.resume(run, "--data", "other.npy", code=2)["err"]
        other = commands.resume(run, "--target", "z.npy", code=2)
        assert "cannot be resumed with other data than it has seen" in other["err"]
        for name in "xy":
            shutil.move(commands.folder / f"{name}.npy", commands.folder / f"moved-{name}.npy")
        assert "x.npy" in commands.resume(run, code=2)["err"]
        commands.resume(run, "--data", "moved-x.npy", "--target", "moved-y.npy")
        assert "moved-x.npy" in (run / "config.toml").read_text()

    def test_columns_of_other_names(self, commands, run):
        """A network predicts by the names of the columns that it was trained on."""
        rows = "".join(f"{a},{a * 7 % 5},{'xyz'[a % 3]}\n" for a in range(90))
        (commands.folder / "t.csv").write_text("a,b,label\n" + rows)
        self.start(commands, run, "--data", "t.csv", "--target", "label")
        (commands.folder / "t.csv").write_text("b,a,label\n" + rows)
        assert "t.csv): names of features = " in commands.resume(run, code=2)["err"]

    def test_rate_range_test_is_no_run(self, commands):
        commands("lr-range", "--data", "patterns:300/100", "--hidden", "4", "--steps", "30", "--out", "rates")
        assert (commands.folder / "rates" / "config.toml").exists()
        sentence = "resume = rates: is the folder of a learning rate range test; train with --config rates"
        assert sentence in commands.resume("rates", code=2)["err"]
        assert not (commands.folder / "rates" / "checkpoints").exists()

    @pytest.mark.parametrize("place", ["nowhere", "."])
    def test_folder_of_no_run(self, commands, place):
        sentence = f"resume = {place}: is not the folder of a run, it has no config.toml"
        assert sentence in commands.resume(place, code=2)["err"]

    def test_changes_of_a_new_run(self, commands):
        done = commands("train", *SMALL, "--allow-changes", code=2)
        assert "allow_changes = true: is for a run that is resumed" in done["err"]

    def test_second_process(self, commands, undisturbed, run, harm):
        python = f"{sys.executable} -m xpnet train --resume run > second.txt 2>&1; echo $? >> second.txt"
        commands.train(run, commands=[(8, python)])
        harm.did("second processes in a run's folder")
        sentence, code = (commands.folder / "second.txt").read_text().splitlines()[-2:]
        assert sentence == "xpnet: run: another process trains here; wait for it, or stop it first"
        assert code == "2"
        check_same(undisturbed(), run)


def test_finished_run_is_left_alone(commands, undisturbed):
    folder = undisturbed("decay")
    before = contents(folder)
    done = commands.resume(folder, "--json")
    assert "is finished" in done["err"]
    assert json.loads(done["out"]) == load_json(folder / "metrics.json")
    assert before == contents(folder)


def test_finished_run_without_checkpoints_is_not_trained_over(commands, undisturbed, run):
    shutil.copytree(undisturbed("decay"), run)
    shutil.rmtree(run / "checkpoints")
    model = (run / "model.safetensors").read_bytes()
    done = commands.resume(run, "--epochs", "9", "--allow-changes", code=2)
    assert "is finished, and has no checkpoint to go on from; train a new run with --config" in done["err"]
    assert (run / "model.safetensors").read_bytes() == model


class TestChanges:
    """Settings that are changed on the way, because that was asked for."""

    @pytest.mark.guarantee("kills")
    def test_more_epochs(self, commands, run, harm):
        """A finished run that is killed while it trains on is not finished."""
        longer, constant = commands.folder / "longer", ("--schedule", "constant")
        commands("train", *SMALL, *constant, "--epochs", "7", "--out", longer.name)
        commands("train", *FOUR, *constant, "--out", run.name)
        assert history(longer)[:4] == history(run)
        commands.resume(run, "--epochs", "7", "--allow-changes", code=-9, signals=[(8, signal.SIGKILL)])
        harm.did("moments killed")
        assert len(history(run)) in (5, 6)
        commands.resume(run)
        check_same(longer, run)

    @pytest.mark.parametrize(
        ("change", "reason"),
        [("--lambda 1", "nothing is left to train with"), ("--epochs 3", "it has trained 4 epochs already")],
    )
    def test_without_steps_nothing_changes(self, commands, undisturbed, change, reason):
        run = undisturbed()
        before = contents(run)
        assert reason in commands.resume(run, *change.split(), "--allow-changes", code=2)["err"]
        assert before == contents(run)

    def test_changes_hold_from_the_resumed_step_on(self, commands, run):
        commands.train(run, code=143, signals=[(12, signal.SIGTERM)])
        changes = ["--lambda", "1", "--batch-size", "45", "--save-every", "1", "--keep", "9", "--allow-changes"]
        commands.resume(run, *changes, code=143, signals=[(14, signal.SIGTERM)])
        commands.resume(run)
        rows = history(run)
        assert [int(row["step"]) for row in rows] == [6, 12, 36, 48]
        assert "lambda = 1.0" in (run / "config.toml").read_text()
        costs = [float(row["validation_cost"]) - float(row["validation_loss"]) for row in rows]
        assert costs[1] < 1 < 2 < costs[2]
        names = sorted(path.name for path in (run / "checkpoints" / "0-1").glob("*.json"))
        assert names == [f"step-{step:09d}.json" for step in (24, 36, 38, 48)]
        resumed = load_json(run / "environment.json")["resumed"]
        assert [entry["command"].split()[4:6] for entry in resumed] == [["--lambda", "1"], []]

    def test_chunks_keep_the_rates_that_they_were_trained_with(self, commands, run):
        options = ["--runs", "2", "--max-replicas", "1", "--batch-size", "90", "--schedule", "decay"]
        commands("train", *FOUR, *options, "--out", run.name)
        before = history(run)
        commands.resume(run, *["--epochs", "5", "--batch-size", "270", "--eta", ".5", "--allow-changes"])
        after = history(run)
        assert after[:8] == before
        assert [float(row["eta"]) for row in after[8:]] == pytest.approx([0.5 * 0.95**4] * 2)

    def test_other_length_of_an_epoch_begins_it_again(self, commands, stopped, run):
        shutil.copytree(stopped, run)
        done = commands.resume(run, "--batch-size", "50", "--allow-changes")
        assert "going on from step 11 of 44" in done["err"]  # the end of the first epoch of 11 steps

    def test_velocities_are_lost_without_momentum(self, commands, run):
        commands.train(run, "cosine, Nesterov", code=143, signals=[(10, signal.SIGTERM)])
        commands.resume(run, "--momentum", "0", "--no-nesterov", "--allow-changes")

    def test_moments_of_another_optimiser_are_refused(self, commands, run):
        commands.train(run, "cosine, Nesterov", code=143, signals=[(10, signal.SIGTERM)])
        options = ["--optimiser", "adamw", "--allow-changes"]
        done = commands("train", "--resume", run.name, *options, code=2)
        assert (
            "cannot be resumed with optimiser = adamw (it has sgd), whose moments it lacks; train a new" in done["err"]
        )


def test_checkpoints_are_kept_as_often_and_as_many_as_asked_for(commands, run):
    commands("train", *SMALL, *["--epochs", "9", "--save-every", "2", "--keep", "1", "--out"], run.name)
    accuracies = {int(row["step"]): float(row["validation_accuracy"]) for row in history(run)}
    best = max((12, 24, 36, 48, 54), key=lambda step: (accuracies[step], step))
    kept = {int(path.stem.removeprefix("step-")) for path in (run / "checkpoints" / "0-1").glob("*.json")}
    assert kept == {54, best}
    settings = (run / "config.toml").read_text()
    assert "save_every = 2" in settings
    assert "keep = 1" in settings


@pytest.mark.guarantee("checkpoints")
def test_run_of_an_earlier_version_goes_on(commands, run):
    """The fixture is a run of 0.1 that was stopped within an epoch; its end was known then."""
    shutil.copytree(FIXTURES / "run-0.1", run)
    done = commands.resume(run, "--data", str(FIXTURES / "rows.csv"), "--json")
    assert "going on from step 31 of 56" in done["err"]
    assert json.loads(done["out"])["test"]["loss"]["values"] == pytest.approx([1.13248346388, 0.82868775702], rel=1e-8)
    before, after = ((folder / "history.csv").read_text().splitlines() for folder in (FIXTURES / "run-0.1", run))
    assert after[:9] == before[:9]  # four complete epochs of two networks


def test_checkpoint_is_evaluated_and_predicts(commands, undisturbed):
    """The last one is the network of the run."""
    folder = undisturbed()
    last = f"{folder.name}/checkpoints/0-1/step-000000024.json"
    loss = load_json(folder / "metrics.json")["test"]["loss"]
    assert json.loads(commands("evaluate", last, "--json")["out"])["loss"] == pytest.approx(loss, rel=1e-6)
    np.save(commands.folder / "three.npy", np.random.default_rng(0).integers(0, 255, (3, 3072), np.uint8))
    outputs = {commands("predict", network, "three.npy", "--csv")["out"] for network in (last, folder.name)}
    assert len(outputs) == 1


@pytest.mark.slow
@pytest.mark.parametrize("name", ["NUMBA_CPU_NAME", "NUMBA_CPU_FEATURES", "NPY_DISABLE_CPU_FEATURES"])
def test_target_of_compiled_code_is_remembered(capsys, monkeypatch, name):
    monkeypatch.setenv("XPNET_FAST", "0")
    main(["train", *SMALL, "--epochs", "1", "--quiet", "--out", "run"])
    for file in ("metrics.json", "model.safetensors"):
        Path("run", file).unlink()
    monkeypatch.setenv(name, "generic")
    main(["train", "--resume", "run"])
    assert "not as before: variables (environment.json has both)" in capsys.readouterr().err
    assert load_json(Path("run/environment.json"))["resumed"][0]["variables"][name] == "generic"
