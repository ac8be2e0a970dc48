"""Folders and files from strangers: they run no code, lead nowhere else, and send no control characters."""

from __future__ import annotations

import ast
import contextlib
import io
import json
import os
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
from command_line import CommandLine
from harms import bounded, mutated
from harms_of_text import mutated_text, overwrite
from PIL import Image

import xpnet
from xpnet.analysis.prediction_inputs import read_inputs
from xpnet.cli import main
from xpnet.config.settings import MOST_NETWORKS, Settings, read_settings
from xpnet.config.training import TrainConfig
from xpnet.errors import ConfigError, RunError, XpnetError
from xpnet.report.records import read_run
from xpnet.report.search_file import winner_in
from xpnet.report.write import build_page
from xpnet.runs.records import read_environment, read_history, read_metrics
from xpnet.utils.atomic_files import replace_whole, write_new
from xpnet.utils.parsing import read_bytes

pytestmark = pytest.mark.guarantee("untrusted")
linux = pytest.mark.skipif(sys.platform != "linux", reason="limits of the address space are Linux's")
PACKAGE = Path(xpnet.__file__).parent
FILES = ("config.toml", "history.csv", "metrics.json", "environment.json", "model.safetensors")
ESCAPE = "\x1b]0;owned\x07\x1b[2J"


# -- code -------------------------------------------------------------------------------------------------

# Modules and functions that run what they read, and those that start programs.
RUNS = {"pickle", "cPickle", "_pickle", "dill", "cloudpickle", "joblib", "marshal", "shelve", "yaml", "code", "runpy"}
STARTS = {"subprocess", "pty", "multiprocessing"}
CALLS = {"eval", "exec", "compile", "__import__"}


def test_package_runs_nothing_that_it_reads():
    """No pickles but in the reader that runs none of their instructions, no eval, no arrays of objects.

    What Numba keeps is compiled code, which only this machine's user writes: running it is its purpose.  What draws a
    chart may be a process of its own, which runs a text of the package's, and gets the chart as JSON.  Joblib hashes
    steps of a Pipeline that are in memory, and reads nothing.  The process that draws figures gets a result through a
    pipe that nobody else can write to.  The file for PyTorch is written with the names of a pickle's opcodes.  Workers
    of a search are this program, and the cluster is asked by its own commands.
    """
    found = []
    for path in sorted(PACKAGE.rglob("*.py")):
        if path == PACKAGE / "ops" / "numba_cache.py":
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            names: list[str] = []
            if isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom) and not node.level:
                names = [node.module or "", *(f"{node.module}.{alias.name}" for alias in node.names)]
            elif isinstance(node, ast.Call):
                called = ast.unparse(node.func)
                if called in CALLS or called in ("os.system", "os.popen", "torch.load") or called.startswith("os.exec"):
                    found.append(f"{path.name}: {called}")
                if any(k.arg == "allow_pickle" and ast.unparse(k.value) != "False" for k in node.keywords):
                    found.append(f"{path.name}: allow_pickle")
                if called in ("np.load", "numpy.load") and not any(k.arg == "allow_pickle" for k in node.keywords):
                    found.append(f"{path.name}: {called}")
            found += [f"{path.name}: {name}" for name in names if name.split(".")[0] in RUNS | STARTS]
    assert found == [
        "cluster.py: subprocess",
        "workers.py: subprocess",
        "torch_file.py: pickle",
        "drawing_process.py: pickle",
        "drawing_process.py: subprocess",
        "render.py: subprocess",
        "fits_together.py: joblib",
        "jobs.py: joblib",
        "kept_scores.py: joblib",
    ]


# -- paths ------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def trained(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("trained")
    rng = np.random.default_rng(0)
    labels = np.arange(60) % 3
    data = folder / "mine.npz"
    np.savez(data, x=(rng.standard_normal((60, 4)) + labels[:, None]).astype(np.float32), y=labels)
    settings = ["--epochs", "2", "--hidden", "3", "--figures", "none", "--quiet"]
    main(["train", "--data", str(data), *settings, "--out", str(folder / "run")])
    return folder / "run"


@pytest.fixture
def run(trained) -> Path:
    shutil.copytree(trained, "run")
    return Path("run")


@pytest.mark.parametrize("name", ["../other", "/etc", "..", ".", "a/b", "a\\b", "c:x", "\0"])
def test_winner_outside_the_search_is_refused(name):
    Path("s").mkdir()
    with pytest.raises(RunError, match="must be the name of a folder in it"):
        winner_in(Path("s"), {"winner": name})


def test_winner_that_is_a_link_is_refused():
    Path("s").mkdir()
    Path("elsewhere").mkdir()
    Path("s/winner").symlink_to(Path("elsewhere").absolute())
    with pytest.raises(RunError, match="is a link"):
        winner_in(Path("s"), {"winner": "winner"})
    assert winner_in(Path("s"), {"winner": "winner-2"}) is None
    assert winner_in(Path("s"), {"winner": None}) is None


@pytest.mark.parametrize("write", [write_new, replace_whole])
def test_link_in_place_of_a_temporary_file_is_not_followed(write):
    Path("run").mkdir()
    Path("precious").write_text("mine")
    (Path("run") / f".report.html.{os.getpid()}.tmp").symlink_to(Path("precious").absolute())
    write(Path("run/report.html"), b"page")
    assert Path("precious").read_text() == "mine"
    assert Path("run/report.html").read_bytes() == b"page"
    assert not Path("run/report.html").is_symlink()


@linux
@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("kind", ["/dev/zero", "pipe", "secret"])
def test_page_shows_nothing_behind_links_and_pipes(run, name, kind):
    (run / name).unlink()
    if kind == "pipe":
        os.mkfifo(run / name)
    else:
        Path("secret").write_text("password = 'hunter2'\n")
        (run / name).symlink_to(kind if kind.startswith("/") else Path(kind).absolute())
    shown = ""
    with bounded(), contextlib.suppress(XpnetError):
        shown = repr(build_page([run]))
    assert "hunter2" not in shown


# -- sizes ------------------------------------------------------------------------------------------------


@linux
@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("runs = 1000000000", "line 1: runs = 1000000000: are 1,000,000,000 networks, and may be 20,000"),
        ("\nhidden = [1000000000000]", "line 2: hidden = .*must be the sizes"),
        (f"hidden = {[1] * 100_000}", "of at most 1,000 layers, and has 100,000"),
        ("hidden = {}", "hidden = .*must be the sizes of the hidden layers"),
        (f"seed = {list(range(MOST_NETWORKS + 1))}", "seed: has 20,001 values, and may have 20,000"),
        (f"lambda = {list(range(400))}\nmomentum = {[i / 500 for i in range(400)]}", "are 160,000 networks"),
        ("epochs = -1", "line 1: epochs = -1: must be a finite number above 0"),
        ("epochs = 1e300", "epochs = 1e\\+300: must be a number above 0 and at most 2^53".replace("^", "\\^")),
        ("lambda = " + "9" * 400, "lambda is a number of more than 300 digits"),
        ("eta_max = 1979-05-27", "eta_max = 1979-05-27: must be"),
        ("data = [1, 2]", "data = .1, 2.: must be a name or a path"),
        ('data = "a\\u0000b"', r"data = a\\x00b: must be a name or a path"),
        ('"a\\nb" = 1', r"a\\nb = 1: there is no such setting"),
        ('"\\u001b[2J" = 1', r"\\x1b\[2J = 1: there is no such setting"),
        ("[lambda]\nx = 1", "lambda = .*must be a finite number"),
    ],
)
def test_settings_beyond_the_limits_are_refused(text, words):
    Path("config.toml").write_text(text)
    with bounded(), pytest.raises(ConfigError, match=words) as caught:
        read_settings(Path("config.toml"))
    assert str(caught.value).startswith("config = config.toml")
    assert len(str(caught.value).splitlines()) == 1


@linux
def test_network_larger_than_memory_is_refused():
    config = xpnet.NetworkConfig(inputs=3072, hidden=(1_000_000, 1_000_000))
    with bounded(), pytest.raises(ConfigError, match=r"claims 8,0\d\d,[\d,]{11} bytes in memory, of which .* are free"):
        xpnet.Network(config)


def test_training_of_too_many_steps_is_refused():
    config = TrainConfig(schedule="constant", epochs=10**9)
    with pytest.raises(ConfigError, match="make 450,000,000,000 steps, and may make 100,000,000"):
        config.length(45_000)
    assert Settings.from_mapping({"runs": MOST_NETWORKS}).run.runs == MOST_NETWORKS


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda t: t.replace(",0,", ",7,", 1), "line 2, replica: is 7, and must be 0 of 1 networks"),
        (lambda t: t.replace("\n2,", "\n3,"), "line 3, epoch: is 3, and must be 2"),
        (lambda t: t.replace("\n2,", "\n-2,"), "line 3, epoch: must be a whole number of at least 0, and is '-2'"),
        (lambda t: t.replace("\n1,", "\nx,"), "line 2, epoch: must be a whole number of at least 0, and is 'x'"),
        (lambda t: t.replace("\n1,", "\n1,1,"), "line 2: has 13 columns, and must have 12"),
        (lambda t: t.replace("epoch,step", "step,epoch"), "line 1 must be epoch,step,replica"),
        (lambda t: t.replace("eta,", ""), "line 1 lacks the columns eta"),
        (lambda t: t[:-1] + "x\n", "line 3, seconds_evaluation: must be a number of at least 0"),
        (lambda t: t + "\0" * 100 + "\n", "line 4: has 1 columns"),
        (lambda t: "", "line 1 lacks the columns"),
    ],
)
def test_damaged_history_is_named_by_line_and_column(run, change, words):
    path = run / "history.csv"
    path.write_text(change(path.read_text()))
    with pytest.raises(RunError, match=f"history.csv: {words}"):
        read_history(path, 1)


def test_incomplete_line_of_a_history_does_not_count(run):
    path = run / "history.csv"
    whole = path.read_text()
    assert read_history(path, 1)["epoch"].tolist() == [1, 2]
    for cut in range(1, len(whole.splitlines()[-1])):
        path.write_text(whole[:-cut])  # a number that is cut off is another number
        assert read_history(path, 1)["epoch"].tolist() == [1]


SET = {"accuracy": 0.5, "loss": 1.5, "cost": {"mean": 1.6, "std": None, "values": [1.6]}}
METRICS = {"test": SET, "validation": SET, "train": SET, "epochs": 1, "steps": 9, "interrupted": False}


@pytest.mark.parametrize(
    ("read", "content", "words"),
    [
        (read_metrics, {}, "has no test"),
        (read_metrics, METRICS | {"test": 3}, "test: must be an object, and is 3"),
        (read_metrics, METRICS | {"test": SET | {"cost": "x"}}, "test.cost: must be a number, null, or an object"),
        (read_metrics, METRICS | {"epochs": -1}, "epochs: must be a whole number of at least 0"),
        (read_metrics, METRICS | {"interrupted": 0}, "interrupted: must be true or false, and is 0"),
        (read_environment, {"gpus": [{"name": "x"}]}, r"gpus\[0\]: has no memory_bytes"),
        (read_environment, {"date": 3}, "date: must be text, and is 3"),
        (read_environment, {"packages": []}, "packages: must be an object, and is a list"),
    ],
)
def test_metrics_and_environments_are_checked_by_key(read, content, words):
    Path("f.json").write_text(json.dumps(content))
    with pytest.raises(RunError, match=f"f.json: {words}"):
        read(Path("f.json"))


def test_model_of_more_networks_than_its_settings_is_refused(run):
    text = (run / "config.toml").read_text()
    network = xpnet.Network(xpnet.NetworkConfig(inputs=4, classes=3, hidden=(3,)), replicas=2)
    (run / "model.safetensors").unlink()
    network.save(run / "model.safetensors")
    with pytest.raises(RunError, match=r"has 2 networks, and config.toml beside it asks for 1"):
        read_run(run)
    assert "runs = 1" in text


# -- terminals --------------------------------------------------------------------------------------------


def named(run: Path, *names: str) -> None:
    network = xpnet.load(run)
    network.class_names = names
    (run / "model.safetensors").unlink()
    network.save(run / "model.safetensors")


@pytest.mark.parametrize("command", [["evaluate", "run"], ["predict", "run", "x.npy"]])
@pytest.mark.parametrize("more", [[], ["--json"]])
def test_class_names_reach_a_terminal_without_control_characters(run, command, more, capsys):
    named(run, f"a{ESCAPE}", "[bold]b[/bold]\r", "\u202ec")
    np.save("x.npy", np.zeros((2, 4), np.float32))
    main([*command, *more])
    out, err = capsys.readouterr()
    assert not any(sign in out + err for sign in "\x1b\x07\r\u202e")
    if not more:
        assert "[bold]b[/bold]" in out
        assert r"\x1b]0;owned\x07" in out


def test_csv_has_control_characters_but_on_a_terminal(run, capsys, monkeypatch):
    named(run, f"a{ESCAPE}", "b", "c")
    np.save("x.npy", np.zeros((2, 4), np.float32))
    main(["predict", "run", "x.npy", "--csv"])
    assert ESCAPE in capsys.readouterr().out

    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    monkeypatch.setattr(sys, "stdout", Terminal())
    main(["predict", "run", "x.npy", "--csv"])
    assert ESCAPE not in sys.stdout.getvalue()


def test_errors_name_files_without_control_characters(capsys):
    Path(f"x{ESCAPE}").mkdir()
    Path(f"x{ESCAPE}/config.toml").write_text("a = = 1")
    sentence = CommandLine(capsys).refused("report", f"x{ESCAPE}")
    assert "\x1b" not in sentence


def test_classes_without_a_name_are_named_by_number(run, capsys):
    named(run, "only")
    np.save("x.npy", np.zeros((2, 4), np.float32))
    main(["predict", "run", "x.npy", "--json"])
    assert json.loads(capsys.readouterr().out)["classes"] == ["only", "1", "2"]


# -- what a network is to predict ---------------------------------------------------------------------------


@linux
@pytest.mark.guarantee("fuzz")
@pytest.mark.parametrize("kind", ["csv", "npy", "npz", "png"])
def test_mutated_inputs_of_predictions_are_read_or_refused(kind, harm):
    network = xpnet.Network(xpnet.NetworkConfig(inputs=16, classes=3, hidden=()))
    network.image_shape = (1, 4, 4)
    x = np.arange(48.0).reshape(3, 16)
    path = Path(f"inputs.{kind}")
    if kind == "csv":
        path.write_text("\n".join(",".join(map(str, row)) for row in x) + "\n")
    elif kind == "png":
        Image.fromarray(np.arange(16, dtype=np.uint8).reshape(4, 4)).save(path)
    else:
        (np.save if kind == "npy" else np.savez)(path, x)
    whole = path.read_bytes()
    assert read_inputs([path], network).x.shape[1] == 16
    for number in range(harm.times(100, 3_000)):
        harm.did("mutated inputs of predictions")
        rng = np.random.default_rng([number, 9])
        overwrite(path, (mutated_text if kind == "csv" and number % 2 else mutated)(whole, rng))
        words = "nothing was wrong"
        with bounded():
            try:
                assert read_inputs([path], network).x.shape[1] == 16
            except XpnetError as error:
                words = str(error)
        assert len(words.splitlines()) == 1, number


def test_file_that_is_read_in_parts_is_complete(tmp_path, monkeypatch):
    """Linux reads 2 GiB at a time at most."""
    path = tmp_path / "large"
    path.write_bytes(bytes(range(256)) * 40)

    class Slow(io.FileIO):
        def read(self, size=-1):
            return super().read(min(size, 1000))

    monkeypatch.setattr("xpnet.utils.parsing.io.FileIO", Slow)
    assert read_bytes(path, 20_000, RunError) == path.read_bytes()
    with pytest.raises(RunError, match="is larger than 9,000 bytes"):
        read_bytes(path, 9_000, RunError)
