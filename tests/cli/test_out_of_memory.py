"""Memory that runs out while a population trains: it continues in chunks, from its checkpoints."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from command_line import code_of

from xpnet.runs.saver import Saver
from xpnet.training.trainer import Trainer

OPTIONS = ("--data", "patterns:600/100", "--hidden", "8", "--runs", "3", "--epochs", "4", "--dtype", "float64")
OPTIONS += ("--figures", "none")


def rows(run: Path) -> list[dict[str, str]]:
    with (run / "history.csv").open() as file:
        return list(csv.DictReader(file))


@pytest.fixture(scope="module", autouse=True)
def _no_numba() -> Iterator[None]:
    """Leave out Numba, which takes longer to import than these trainings."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XPNET_FAST", "0")
        yield


@pytest.fixture(scope="module")
def undisturbed(_no_numba: None, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a run whose memory sufficed."""
    run = tmp_path_factory.mktemp("undisturbed") / "run"
    assert code_of("train", *OPTIONS, "--out", str(run)) == 0
    return run


@pytest.fixture
def short_of_memory(undisturbed: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let memory run out in the third epoch of more than two networks at once."""

    def run_out(trainer, epoch):
        if trainer.network.replicas > 2 and epoch == 2:
            raise MemoryError
        train_epoch(trainer, epoch)

    train_epoch = Trainer._epoch
    monkeypatch.setattr(Trainer, "_epoch", run_out)


def check_same(run: Path, undisturbed: Path) -> None:
    """Compare all but the last bits, and wall times."""
    mine, expected = rows(run), rows(undisturbed)
    assert [(row["epoch"], row["replica"]) for row in mine] == [(str(e), str(r)) for e in range(1, 5) for r in range(3)]
    for name in ("step", "eta", "train_loss", "train_accuracy", "validation_cost"):
        np.testing.assert_allclose([float(r[name]) for r in mine], [float(r[name]) for r in expected], rtol=1e-9)
    values = [
        json.loads((folder / "metrics.json").read_text())["test"]["loss"]["values"] for folder in (run, undisturbed)
    ]
    np.testing.assert_allclose(*values, rtol=1e-9)


def chunks(run: Path) -> list[str]:
    return sorted(path.name for path in (run / "checkpoints").glob("*-*"))


@pytest.mark.slow
@pytest.mark.guarantee("memory", "resume")
@pytest.mark.usefixtures("short_of_memory")
def test_halves_continue_from_checkpoints_of_the_population(undisturbed, capsys, harm):
    assert code_of("train", *OPTIONS, "--out", "run") == 0
    harm.did("populations for which memory ran out")
    said = capsys.readouterr().err
    assert "3 networks train in 2 chunks, one after another: 1, 2" in said
    assert "could not be written" not in said
    check_same(Path("run"), undisturbed)
    assert chunks(Path("run")) == ["0-1", "1-3"]
    assert json.loads(Path("run/metrics.json").read_text())["chunks"] == [1, 2]
    # The first two epochs were not trained again: they took what the three took together.
    first = [row for row in rows(Path("run")) if row["epoch"] == "1"]
    assert len({row["seconds_training"] for row in first}) == 1


@pytest.mark.guarantee("memory", "full-disk")
@pytest.mark.usefixtures("short_of_memory")
def test_checkpoints_of_the_population_stay_where_halves_cannot_be_saved(undisturbed, capsys, monkeypatch, harm):
    save = Saver.save

    def full(self, chunk, network, state):
        if chunk != (0, 3):
            raise OSError(28, "No space left on device")
        save(self, chunk, network, state)

    monkeypatch.setattr(Saver, "save", full)
    assert code_of("train", *OPTIONS, "--out", "run") == 2
    harm.did("populations for which memory ran out")
    said = capsys.readouterr().err
    assert said.count("No space left on device") == 2  # when it happened, and at the end
    assert "results are complete" in said
    check_same(Path("run"), undisturbed)
    assert chunks(Path("run")) == ["0-3"]


@pytest.mark.usefixtures("short_of_memory")
def test_halves_start_again_without_checkpoints(undisturbed):
    assert code_of("train", *OPTIONS, "--save-every", "0", "--out", "run") == 0
    check_same(Path("run"), undisturbed)


@pytest.mark.slow
def test_resume_takes_smaller_chunks(undisturbed, capsys):
    """A run after its second epoch continues with one network at a time."""
    assert code_of("train", *OPTIONS, "--keep", "9", "--out", "run") == 0
    run = Path("run")
    later = [path for step in (18, 24) for path in run.glob(f"checkpoints/0-3/step-{step:09d}.*")]
    for path in (run / "model.safetensors", run / "metrics.json", *later):
        path.unlink()
    capsys.readouterr()
    assert code_of("train", "--resume", "run", "--max-replicas", "1") == 2
    assert "cannot be resumed with max_replicas = 1 (it has none)" in capsys.readouterr().err
    assert code_of("train", "--resume", "run", "--max-replicas", "1", "--allow-changes") == 0
    assert "going on from step 12 of 24, chunk 1 of 3" in capsys.readouterr().err
    check_same(run, undisturbed)
    assert chunks(run) == ["0-1", "1-2", "2-3"]
    assert "max_replicas = 1" in (run / "config.toml").read_text()
