"""Event files hold the history, and are those that TensorFlow's format says."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from command_line import SMALL, CommandLine
from event_files import events
from training_cases import network

import xpnet
from xpnet.errors import ConfigError
from xpnet.runs.loggers import names_of
from xpnet.runs.records import read_history
from xpnet.training.population import Population


@pytest.fixture
def command(capsys) -> CommandLine:
    return CommandLine(capsys)


def assert_logged(folder: Path, result, r: int | None = None) -> None:
    """Compare the events of a folder with the history of network r, and its figures of the test set."""
    found, history, at = events(folder), result.history, slice(None) if r is None else (slice(None), r)
    for tag, column in (("loss/train", "train_loss"), ("accuracy/validation", "validation_accuracy"), ("eta", "eta")):
        assert list(found[tag]) == history["step"].tolist()
        np.testing.assert_allclose(list(found[tag].values()), history[column][at], rtol=1e-6)
    assert list(found["accuracy/test"]) == [result.steps]
    np.testing.assert_allclose(found["accuracy/test"][result.steps], result.test.accuracies[r or 0], rtol=1e-6)


def test_events_are_the_history_of_each_network(blobs):
    config = xpnet.TrainConfig(epochs=3)
    assert_logged(Path("one"), xpnet.train(network(), blobs, config, callbacks=[xpnet.TensorBoard("one")]))
    result = xpnet.train(network(3), blobs, config, callbacks=[xpnet.TensorBoard("many")])
    for r in range(3):
        assert_logged(Path("many", f"network-{r}"), result, r)


def test_values_of_networks_that_diverged_are_left_out(blobs):
    net = network(2, batch_norm=False, hidden=(30,))
    config = xpnet.TrainConfig(schedule="constant", eta=(0.1, 1e12), epochs=2)
    result = xpnet.train(net, blobs, config, callbacks=[xpnet.TensorBoard("log")])
    assert list(result.diverged) == [1]
    assert_logged(Path("log", "network-0"), result, 0)
    assert set(events(Path("log", "network-1"))) <= {"eta"}


@pytest.mark.filterwarnings("error")
def test_log_that_cannot_be_written_does_not_end_the_training(blobs):
    Path("log").touch()
    told: list[str] = []
    log = xpnet.TensorBoard("log", warn=told.append)
    assert xpnet.train(network(), blobs, xpnet.TrainConfig(epochs=2), callbacks=[log]).epochs == 2
    assert told == ["warning: log: cannot be written (File exists); training goes on without the log of TensorBoard"]
    with pytest.warns(UserWarning, match="training goes on without the log"):
        xpnet.train(network(), blobs, xpnet.TrainConfig(epochs=1), callbacks=[xpnet.TensorBoard("log")])
    for names in ("a", ["../b"], [""]):
        with pytest.raises(ConfigError, match=r"names = .*: must be a sequence of names of folders"):
            xpnet.TensorBoard("log", names)
    with pytest.raises(ConfigError, match="names: has 1 names for 2 networks; give one for each"):
        xpnet.train(network(2), blobs, xpnet.TrainConfig(epochs=1), callbacks=[xpnet.TensorBoard("new", ["a"])])


def test_names_of_folders_say_what_differs():
    settings = xpnet.Settings.from_mapping({"lambda": [0.001, 0.1], "runs": 2})
    assert names_of(Population.of(settings, 12, 4))[:2] == ("0_seed-0_lambda-0.001", "1_seed-0_lambda-0.1")


def test_log_of_a_run_is_its_history_also_after_it_was_resumed(command):
    command("train", *SMALL, "--lambda", "0.001,0.1", "--log", "tensorboard", "--out", "run", "--quiet")
    command("train", "--resume", "run", "--epochs", "3", "--allow-changes", "--quiet")
    history = read_history(Path("run", "history.csv"), 2)
    for r, name in enumerate(("0_seed-0_lambda-0.001", "1_seed-0_lambda-0.1")):
        found = events(Path("run", "tensorboard", name))
        assert list(found["loss/train"]) == history["step"].tolist()
        np.testing.assert_allclose(list(found["loss/train"].values()), history["train_loss"][:, r], rtol=1e-6)
        assert list(found["accuracy/test"]) == [history["step"][-1]]
    command("train", *SMALL, "--out", "other", "--quiet")
    assert not Path("other", "tensorboard").exists()
    sentence = command.refused("train", *SMALL, "--log", "mlflow")
    assert sentence == "log = mlflow: must be tensorboard"
