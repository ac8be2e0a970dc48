"""Files that are written can be read: the largest one comes back, one beyond a limit is refused early."""

from __future__ import annotations

import itertools
import json
import re
from pathlib import Path

import numpy as np
import pytest
from calls import Calls
from command_line import code_of

import xpnet
from xpnet.analysis.lr_range import check_range
from xpnet.config.definitions import MOST_NETWORKS
from xpnet.config.length import MOST_STEPS, Length
from xpnet.config.settings import read_config
from xpnet.errors import ConfigError, DataError, RunError
from xpnet.nn import tensor_file
from xpnet.runs.checkpoints import check_description
from xpnet.runs.environment import MOST_RESUMED, describe_environment
from xpnet.runs.folder import write_config, write_environment, write_metrics
from xpnet.runs.records import read_environment, read_metrics
from xpnet.training.history import History, Metrics
from xpnet.training.population import Population, check_metrics, replicas_json
from xpnet.training.result import Divergence, TrainResult
from xpnet.tuning import SearchConfig
from xpnet.tuning.journal import journal_backend, operations
from xpnet.utils import parsing

pytestmark = pytest.mark.guarantee("limits")
TRAIN = xpnet.TrainConfig(epochs=1, batch_size=20)


def data_with(names):
    """Return 60 samples of as many classes as there are names."""
    labels = np.arange(60) % len(names)
    x = np.random.default_rng(0).standard_normal((60, 4)).astype(np.float32)
    return xpnet.data_from_arrays(x, labels, class_names=names)


def network_for(data, **options):
    return xpnet.Network(xpnet.NetworkConfig(inputs=4, hidden=(3,), classes=data.classes), **options)


def largest(of, low, high):
    """Return the largest number from `low` to `high` for which `of` raises nothing."""
    while low < high:
        middle = (low + high + 1) // 2
        try:
            of(middle)
            low = middle
        except (ConfigError, RunError):
            high = middle - 1
    return low


# -- the description of a model ---------------------------------------------------------------------------


def test_names_beyond_the_header_of_a_model_are_refused_before_training(monkeypatch, harm):
    """A training that begins can be saved and read; one that is refused takes no step."""
    monkeypatch.setattr(tensor_file, "MOST_HEADER", 6_000)
    steps = []

    def begins(length):
        data = data_with(["a" * length, "é" * length])
        network = network_for(data, seed=(1, 2))
        xpnet.train(network, data, TRAIN, callbacks=[Calls(on_steps=steps.append)])
        return network, data

    most = largest(begins, 1, 4_000)
    assert 100 < most < 1_000
    network, data = begins(most)
    network.save("model.safetensors")
    assert xpnet.load("model.safetensors").class_names == data.class_names
    assert int.from_bytes(Path("model.safetensors").read_bytes()[:8], "little") > 5_000
    steps.clear()
    with pytest.raises(ConfigError, match="the model that this training would write: its description, of which names"):
        begins(most + 1)
    assert steps == []
    harm.did("files at a limit of reading")


def test_model_beyond_the_header_is_not_written(monkeypatch):
    network = network_for(data_with(["a", "b"]))
    network.class_names = ("a" * 10_000, "b")
    network.save("fits.safetensors")
    monkeypatch.setattr(tensor_file, "MOST_HEADER", 10_000)
    with pytest.raises(RunError, match=r"beyond.safetensors: its description, .* has 1\d,\d\d\d bytes, and 10,000 are"):
        network.save("beyond.safetensors")
    assert not Path("beyond.safetensors").exists()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"class_names": ("a", "b", "c")}, "class_names has 3 names for 2 classes"),
        ({"feature_names": ("a",)}, "feature_names has 1 names for 4 features"),
        ({"class_names": ("\ud800", "b")}, r"class_names\[0\] holds text that is none: half of a character"),
        ({"class_names": (1, 2)}, r"class_names\[0\]: must be text, and is 1"),
        ({"class_names": ({1}, 2)}, "its description cannot be written"),
        ({"image_shape": (2, 2, 1)}, "are not 4 features in 1 or 3 channels"),
    ],
)
def test_model_that_the_reader_would_refuse_is_not_written(change, words, harm):
    network = network_for(data_with(["a", "b"]))
    for name, value in change.items():
        setattr(network, name, value)
    with pytest.raises(RunError, match=words):
        network.save("model.safetensors")
    assert not Path("model.safetensors").exists()
    harm.did("files beyond a limit refused")


def test_names_that_no_file_can_hold_are_refused_with_the_data():
    with pytest.raises(DataError, match=r"class_names has '\\ud800', which cannot be written"):
        data_with(["\ud800", "b"])


def test_most_values_of_a_description(monkeypatch):
    """The description stands in the header as text, whose commas count as those of values."""
    network = network_for(data_with(["a", "b"]))

    def begins(commas):
        data = data_with(["a" + "," * commas, "b"])
        xpnet.train(network, data, TRAIN)
        return data

    begins(0)
    network.save("first.safetensors")
    content = Path("first.safetensors").read_bytes()
    header = content[8 : 8 + int.from_bytes(content[:8], "little")]
    monkeypatch.setattr(parsing, "MOST_VALUES", sum(map(header.count, (b",", b"[", b"{"))) + 5)
    data = begins(5)
    network.save("model.safetensors")
    assert xpnet.load("model.safetensors").class_names == data.class_names
    with pytest.raises(ConfigError, match="the model that this training would write: its description: holds more than"):
        begins(6)


# -- the files of a run -----------------------------------------------------------------------------------


def run(*options):
    """Train with a command; return its exit code."""
    np.savez("d.npz", x=np.random.default_rng(0).standard_normal((60, 4)), y=np.arange(60) % 2)
    return code_of("train", "--data", "d.npz", "--hidden", "3", "--epochs", "1", "--out", "run", "--quiet", *options)


@pytest.mark.parametrize(
    ("name", "limit", "words"),
    [
        ("MOST_JSON", 1_900, "a checkpoint that this training would write: has 2,"),
        ("MOST_JSON", 20_500, "make a metrics.json of up to"),
        ("MOST_VALUES", 30, "the model that this training would write: its description: holds more than 30"),
        ("MOST_VALUES", 225, "make a metrics.json of up to"),
        ("MOST_TOML", 400, r"config.toml: has [\d,]+ bytes, and 400 are the most that is read"),
    ],
)
def test_run_beyond_a_limit_leaves_no_folder(monkeypatch, capsys, harm, name, limit, words):
    monkeypatch.setattr(parsing, name, limit)
    monkeypatch.setattr("xpnet.training.trainer.Trainer._epoch", lambda *_: pytest.fail("a step was taken"))
    assert run() == 2
    said = capsys.readouterr().err
    assert re.search(words, said), said
    assert not Path("run").exists()
    harm.did("files beyond a limit refused")


def test_smallest_limits_of_a_run_are_those_of_reading_it(monkeypatch, harm):
    """A run of several networks in chunks of one, whose files are the largest for their limits."""
    monkeypatch.setenv("XPNET_FAST", "0")
    options = ("--runs", "3", "--max-replicas", "1")
    assert run(*options) == 0
    size = max(path.stat().st_size for path in Path("run").rglob("*.json"))
    values = max(sum(map(path.read_text().count, ",[{")) for path in Path("run").rglob("*.json"))
    written = {str(path.relative_to("run")) for path in Path("run").rglob("*")}
    Path("run").rename("first")
    # Bounds before training are above what is written, and not by much.
    monkeypatch.setattr("xpnet.utils.parsing.MOST_JSON", size + 25_000)
    monkeypatch.setattr("xpnet.utils.parsing.MOST_VALUES", values + 300)
    assert run(*options) == 0
    assert {str(path.relative_to("run")) for path in Path("run").rglob("*")} == written
    read_metrics(Path("run/metrics.json"))
    read_environment(Path("run/environment.json"))
    for path in Path("run/checkpoints").glob("*/*.json"):
        assert xpnet.load(path).class_names == ("0", "1")
    harm.did("files at a limit of reading")


@pytest.mark.parametrize("write", [write_metrics, write_environment])
def test_json_beyond_a_limit_is_not_written(monkeypatch, write):
    value = {"values": [0.5] * 100}
    content = json.dumps(value, indent=2) + "\n"
    monkeypatch.setattr(parsing, "MOST_JSON", len(content))
    write(Path(), value)
    (path,) = Path().glob("*.json")
    assert parsing.read_json(path, RunError) == value
    before = path.read_bytes()
    monkeypatch.setattr(parsing, "MOST_JSON", len(content) - 1)
    with pytest.raises(RunError, match=f"{path}: has {len(content):,} bytes, and {len(content) - 1:,} are the most"):
        write(Path(), value)
    monkeypatch.setattr(parsing, "MOST_JSON", len(content))
    monkeypatch.setattr(parsing, "MOST_VALUES", 100)
    with pytest.raises(RunError, match="holds more than 100 values"):
        write(Path(), value)
    assert path.read_bytes() == before


def test_settings_of_the_largest_population_are_within_a_file_of_settings():
    longest = [float(f"1.{10**15 + i}e-100") for i in range(MOST_NETWORKS)]
    settings = {"lambda": longest, "hidden": [1_000_000] * 1_000}
    write_config(Path(), settings)
    assert read_config(Path("config.toml")) == settings


def test_settings_beyond_a_file_are_not_written():
    with pytest.raises(RunError, match=r"config.toml: has 1,0\d\d,\d\d\d bytes, and 1,048,576 are the most"):
        write_config(Path(), {"target": "x" * 2**20})
    assert not Path("config.toml").exists()


@pytest.mark.parametrize(("runs", "varying", "epochs"), [(1, {}, 3), (2, {"lambda": [1e-300, 0.2]}, 2)])
def test_bound_of_metrics_is_above_their_size(monkeypatch, runs, varying, epochs):
    settings = xpnet.Settings.from_mapping({"runs": runs, **varying})
    population = Population.of(settings, 4, 3)
    replicas = len(population)
    long = np.full(replicas, -1.2345678901234567e-300)
    figures = Metrics(long, long, long)
    seconds = [12345.678901234567] * epochs
    lost = {r: Divergence(MOST_STEPS, 0.1, np.nan) for r in range(replicas)}
    result = TrainResult(History(long), figures, figures, figures, epochs, 3, seconds, 1.0, "gpu:0", False, lost)
    metrics = result.to_json() | {"run": "r" * 1000, "chunks": [1] * replicas}
    metrics["replicas"] = list(replicas_json(population, result))
    write_metrics(Path(), metrics)
    text = Path("metrics.json").read_text()
    values = sum(map(text.count, ",[{"))
    read_metrics(Path("metrics.json"))
    for name, limit in (("MOST_JSON", len(text)), ("MOST_VALUES", values)):
        with monkeypatch.context() as patch:
            patch.setattr(parsing, name, limit - 1)
            with pytest.raises(ConfigError, match="make a metrics"):
                check_metrics(population, epochs)


def test_metrics_of_the_largest_population_are_read():
    population = Population.of(xpnet.Settings.from_mapping({"runs": MOST_NETWORKS}), 4, 3)
    check_metrics(population, 300_000)
    with pytest.raises(ConfigError, match="epochs: 1,000,000 epochs of 20,000 networks make a metrics"):
        check_metrics(population, 1_000_000)


@pytest.mark.thorough
def test_checkpoints_of_the_largest_population_are_within_their_limits():
    about = {"network": {"seeds": [2**53] * MOST_NETWORKS, "class_names": ["x"] * 1000}, "settings": {}}
    check_description(about, MOST_NETWORKS)
    with pytest.raises(ConfigError, match="a checkpoint that this training would write: holds more than 1,000,000"):
        check_description({"network": {"feature_names": ["x"] * 990_000}}, MOST_NETWORKS)
    with pytest.raises(ConfigError, match="a checkpoint that this training would write: has 40,160,"):
        check_description({"network": {"feature_names": ["x" * 2_000] * 20_000}}, 1)


def test_environments_of_a_run_are_limited():
    now = describe_environment(xpnet.get_backend("cpu"), "x" * 1_000_000)
    assert len(now["command"]) < 10_010
    write_environment(Path(), now | {"resumed": [{"step": 2**53, **now}] * MOST_RESUMED})
    assert len(read_environment(Path("environment.json"))["resumed"]) == MOST_RESUMED


# -- numbers ----------------------------------------------------------------------------------------------


def test_most_networks(monkeypatch):
    drawn = {"W1": np.ones((1, 2)), "b1": np.ones((1, 2))}  # drawing them takes seconds
    monkeypatch.setattr("xpnet.nn.initialisers.initial_parameters", lambda *_: drawn)
    config = xpnet.NetworkConfig(inputs=1, hidden=(), classes=2)
    xpnet.Network(config, replicas=MOST_NETWORKS).save("model.safetensors")
    assert xpnet.load("model.safetensors").replicas == MOST_NETWORKS
    for beyond in ({"replicas": MOST_NETWORKS + 1}, {"seed": range(MOST_NETWORKS + 1)}):
        with pytest.raises(ConfigError, match=r"20,?000"):
            xpnet.Network(config, **beyond)
    with pytest.raises(ConfigError, match="final_runs = 20001"):
        SearchConfig(final_runs=MOST_NETWORKS + 1)


def test_most_digits_of_seeds():
    config = xpnet.NetworkConfig(inputs=1, hidden=(), classes=2)
    largest_seed = 10**parsing.DIGITS - 1
    xpnet.Network(config, seed=largest_seed).save("model.safetensors")
    assert xpnet.load("model.safetensors").seeds == (largest_seed,)
    with pytest.raises(ConfigError, match="at most 300 digits"):
        xpnet.Network(config, seed=largest_seed + 1)
    with pytest.raises(ConfigError, match="that of the last of 2 replicas would have more than 300 digits"):
        xpnet.Network(config, seed=largest_seed, replicas=2)


def test_most_steps():
    config = xpnet.TrainConfig(schedule="constant", batch_size=1, epochs=MOST_STEPS)
    assert config.length(1) == Length(MOST_STEPS, 1, 5)
    with pytest.raises(ConfigError, match="make 200,000,000 steps, and may make 100,000,000"):
        config.length(2)
    assert check_range(1e-6, 1, MOST_STEPS, "log")[2] == MOST_STEPS
    with pytest.raises(ConfigError, match="steps = 100000001"):
        check_range(1e-6, 1, MOST_STEPS + 1, "log")


def test_most_layers():
    config = xpnet.NetworkConfig(inputs=1, hidden=(1,) * 1_000, classes=2, batch_norm=True)
    xpnet.Network(config).save("model.safetensors")
    assert xpnet.load("model.safetensors").config == config
    with pytest.raises(ConfigError, match="of at most 1,000 layers, and has 1,001"):
        xpnet.NetworkConfig(inputs=1, hidden=(1,) * 1_001)


# -- the journal of a search ------------------------------------------------------------------------------


def test_longest_line_of_a_journal_is_read(monkeypatch):
    monkeypatch.setattr("xpnet.tuning.journal.MOST_LINE", 200)
    pytest.importorskip("optuna")
    journal = journal_backend(Path("study.journal"))

    def log(size):
        entry = {"op_code": 0, "worker_id": "", "study_name": "", "directions": [1]}
        return entry | {"study_name": "n" * (size - 1 - len(json.dumps(entry)))}

    journal.append_logs([log(200)])
    kept = Path("study.journal").read_bytes()
    with pytest.raises(RunError, match=r"study\.journal: what is to be added: has 200 bytes, and 199 are the most"):
        journal.append_logs([log(201)])
    assert Path("study.journal").read_bytes() == kept
    assert len(list(itertools.chain(operations(Path("study.journal"), 0, 1)))) == 1
