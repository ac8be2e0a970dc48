"""What tests of commands share."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import data_files
import pytest
from command_line import CommandLine, code_of
from pictures import draw_nothing


@pytest.fixture
def command(capsys: pytest.CaptureFixture[str]) -> CommandLine:
    """Return what runs commands and checks how they end."""
    return CommandLine(capsys)


@pytest.fixture(scope="session")
def shared_run(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """Return a function that trains with some arguments once in the session, and gives the folder of the run."""
    folder = tmp_path_factory.mktemp("runs")
    made: dict[tuple[str, ...], Path] = {}

    def train(*arguments: str) -> Path:
        if arguments not in made:
            made[arguments] = folder / str(len(made))
            with pytest.MonkeyPatch.context() as patch:
                draw_nothing(patch)
                assert code_of("train", *arguments, "--quiet", "--out", str(made[arguments])) == 0
        return made[arguments]

    return train


@pytest.fixture
def trained(shared_run: Callable[..., Path]) -> Callable[..., Path]:
    """Return a function that gives a test its own copy of a run."""

    def copy(*arguments: str, out: str = "run") -> Path:
        return Path(shutil.copytree(shared_run(*arguments), out))

    return copy


@pytest.fixture(scope="session")
def shared_pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder of red and blue images of 8 x 6."""
    return data_files.write_images(tmp_path_factory.mktemp("data") / "pictures", 30)


@pytest.fixture(scope="session")
def shared_pets(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a table of three classes."""
    return data_files.write_csv(tmp_path_factory.mktemp("data") / "pets.csv", 150)


@pytest.fixture
def pictures(trained: Callable[..., Path], shared_pictures: Path) -> list[str]:
    """Train on red and blue images, copy them to the folder "pictures", and return two of them."""
    sizes = ["--epochs", "10", "--batch-size", "7", "--drop-last", "--hidden", "4"]
    trained("--data", str(shared_pictures), *sizes)
    shutil.copytree(shared_pictures, "pictures")
    return ["pictures/red/0.png", "pictures/blue/1.png"]


@pytest.fixture
def pets(trained: Callable[..., Path], shared_pets: Path) -> str:
    """Train three networks on a table and return the name of its copy."""
    sizes = ["--epochs", "10", "--batch-size", "8", "--drop-last", "--hidden", "8", "--runs", "3"]
    trained("--data", str(shared_pets), "--target", "animal", *sizes)
    return str(shutil.copy(shared_pets, "pets.csv"))
