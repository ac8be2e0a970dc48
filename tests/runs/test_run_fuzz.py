"""Every file that a run, a search or a reproduction leaves, mutated: it is read, or refused in one sentence."""

from __future__ import annotations

import csv
import dataclasses
import io
import json
import shutil
import sys
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tomli_w
from command_line import code_of
from harms import bounded, mutated
from harms_of_text import mutated_text, mutated_values, overwrite

import xpnet
from xpnet.config.settings import read_settings
from xpnet.errors import XpnetError
from xpnet.nn.network import Network
from xpnet.report.records import read_run
from xpnet.report.write import build_page
from xpnet.runs.checkpoints import read_checkpoint
from xpnet.runs.folder import write_environment
from xpnet.tuning.folder import read_search

FIXTURES = Path(__file__).parents[1] / "fixtures"
linux = pytest.mark.skipif(sys.platform != "linux", reason="limits of the address space are Linux's")
ENVIRONMENT = {
    "date": "2026-11-21 10:00:00 +0000",
    "command": "xpnet train --data mine.npz",
    "cpu": "a processor",
    "cores": 2,
    "memory_gib": 7.5,
    "gpus": [{"device": "gpu:0", "name": "a GPU", "memory_bytes": 2**34}],
    "packages": {"numpy": "2.0"},
    "blas": [{"library": "openblas", "version": "1", "threads": 2, "architecture": None}],
    "variables": {"OMP_NUM_THREADS": "2"},
}
SEARCH_TOML = {
    "command": "xpnet search lambda",
    "storage": "study.journal",
    "study": "s",
    "space": ["lambda=log:1e-05..0.1"],
    "search": {"trials": 4, "rounds": 2, "round_cycles": [1, 2]},
    "settings": {"hidden": [5], "seed": 0, "lambda": 0.1},
}


SEARCH_JSON = {
    "kind": "search",
    "command": "xpnet search lambda",
    "settings": {"hidden": [3], "epochs": 2},
    "space": {"lambda": {"draw": "log-uniform", "low": 1e-4, "high": 1.0}, "eta": {"draw": "uniform"}},
    "sampler": "tpe",
    "rounds": 2,
    "winner": "winner",
    "test": {"accuracy": 0.5, "loss": 1.5},
    "environment": ENVIRONMENT,
    "seconds": 3.5,
}
TRIAL = {
    "round": 0,
    "seeds": [0, 1],
    "score": 0.5,
    "validation": {"accuracy": {"mean": 0.5, "std": 0.1, "values": [0.4, 0.6]}, "loss": 1.5},
    "epochs": 2,
    "seconds": 1.5,
    "curve": [{"epoch": 1, "accuracy": 0.3}, {"epoch": 2, "accuracy": 0.5}],
}


@pytest.fixture(scope="module")
def originals(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of a run of two networks, a search and a reproduction."""
    home = tmp_path_factory.mktemp("originals")
    for name in ("search", "reproduction"):
        (home / name).mkdir()
    rng = np.random.default_rng(3)
    labels = np.arange(60) % 3
    x = (rng.standard_normal((60, 4)) + 2 * rng.standard_normal((3, 4))[labels]).astype(np.float32)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(home)
        np.savez("mine.npz", x=x, y=labels)
        options = (
            "--split 40/10 --hidden 3 --lambda 0.001,0.1 --epochs 2 --batch-size 20 --save-every 0 --quiet --out run"
        )
        assert code_of("train", "--data", "mine.npz", *options.split()) == 0
    write_environment(home / "run", ENVIRONMENT)
    (home / "run" / "search.toml").write_text(tomli_w.dumps(SEARCH_TOML))
    (home / "run" / "model.safetensors").unlink()  # reading it takes longer than all the rest
    states = ("complete", "complete", "pruned", "complete")
    trials = [
        {"trial": n, "state": state, "settings": {"lambda": 10.0**-n, "eta": 0.1 + n / 7}, **TRIAL}
        for n, state in enumerate(states)
    ]
    (home / "search" / "search.json").write_text(json.dumps(SEARCH_JSON | {"trials": trials, "best": trials[0]}))
    # A comparison, a search over pairs, a gradient check, and another one.
    every = json.loads((Path(__file__).parents[2] / "docs" / "reproduction" / "results.json").read_text())
    names = list(dict.fromkeys(name for name in ("A.bn3", "A.coarse", "A.check", *every) if name in every))[:4]
    results = {name: every[name] | {"cells": every[name]["cells"][:3]} for name in names}
    (home / "reproduction" / "results.json").write_text(json.dumps(results))
    return home


@pytest.fixture
def victim(originals: Path, name: str, tmp_path: Path) -> Path:
    """Return a file in a copy of its folder."""
    (found,) = originals.rglob(name)
    return shutil.copytree(found.parent, tmp_path / "copy") / name


def without_null(found: Any) -> Any:
    """Return what TOML can hold."""
    if isinstance(found, dict):
        return {key: without_null(value) for key, value in found.items() if value is not None}
    return [without_null(value) for value in found if value is not None] if isinstance(found, list) else found


def rows_of(text: str) -> list[Any]:
    return list(csv.reader(io.StringIO(text)))


def csv_of(rows: list[Any]) -> bytes:
    return "".join((",".join(map(str, r)) if isinstance(r, list) else str(r)) + "\n" for r in rows).encode()


# How a format is parsed and written again, where its values are mutated.
SYNTAX: dict[str, tuple[Callable[[str], Any], Callable[[Any], bytes]]] = {
    ".json": (json.loads, lambda found: json.dumps(found, indent=1).encode()),
    ".toml": (tomllib.loads, lambda found: tomli_w.dumps(without_null(found)).encode()),
    ".csv": (rows_of, csv_of),
}


def one_of_three(content: bytes, number: int, suffix: str) -> bytes:
    """Return a mutation of a text file: of its bytes, of its tokens, or of what it says."""
    rng = np.random.default_rng([number, len(content)])
    if number % 4 == 0:
        return mutated(content, rng)
    if number % 4 == 1:
        return mutated_text(content, rng)
    parse, write = SYNTAX[suffix]
    return write(mutated_values(parse(content.decode()), rng))


def survives(read: Callable[[], Any], number: int) -> bool:
    """Read, and return whether that was refused, in one sentence."""
    with bounded():
        try:
            read()
        except XpnetError as error:
            words = str(error)
        else:
            return False
    assert len(words.splitlines()) == 1, number
    assert len(words) > 20, number
    return True


# How often a file is mutated and shown; of a history little that is changed can be shown.
SHOWN = {
    "config.toml": 20,
    "history.csv": 40,
    "metrics.json": 12,
    "environment.json": 8,
    "search.json": 15,
    "results.json": 10,
}
FILES = {
    "config.toml": read_settings,
    "history.csv": read_run,
    "metrics.json": read_run,
    "environment.json": read_run,
    "search.toml": read_search,
}


@linux
@pytest.mark.guarantee("fuzz")
@pytest.mark.parametrize("name", FILES)
def test_mutated_files_of_text(victim, name, harm):
    def read() -> None:
        FILES[name](victim.parent)

    assert not survives(read, -1)
    content = victim.read_bytes()
    count = harm.times(100, 2_000)
    refused = 0
    for number in range(count):
        harm.did("mutated files of runs and searches")
        overwrite(victim, one_of_three(content, number, victim.suffix))
        refused += survives(read, number)
    assert count / 4 < refused < count, "the mutations hardly reach what is checked"


@linux
@pytest.mark.guarantee("fuzz", "untrusted")
@pytest.mark.parametrize("name", SHOWN)
def test_pages_of_folders_with_a_mutated_file(victim, name, harm):
    """What is read makes a page; only its charts are not drawn here."""

    def show() -> None:
        build_page([victim.parent])

    assert not survives(show, -1)
    content = victim.read_bytes()
    count = harm.times(SHOWN[name], 5 * SHOWN[name])
    refused = 0
    for number in range(count):
        harm.did("folders with a mutated file shown as a page")
        # Bytes and tokens rarely leave anything to be shown.
        overwrite(victim, one_of_three(content, 4 * number + 2 + number % 2, victim.suffix))
        refused += survives(show, number)
    assert refused < count, "the mutations hardly reach the page"


def check_same(network: Network, other: Network) -> None:
    for name in ("seeds", "class_names", "feature_names", "image_shape", "config"):
        assert getattr(network, name) == getattr(other, name)
    for mine, theirs in ((network.parameters, other.parameters), (network.running, other.running)):
        assert mine.keys() == theirs.keys()
        assert all(np.array_equal(mine[key], theirs[key]) for key in mine)


@linux
@pytest.mark.guarantee("fuzz", "corruption")
def test_mutated_models(tmp_path, harm):
    """A mutation that is read has changed nothing."""
    whole = (FIXTURES / "xpnet-model-2.safetensors").read_bytes()
    network = xpnet.load(FIXTURES / "xpnet-model-2.safetensors")
    path = tmp_path / "m.safetensors"
    refused, count = 0, harm.times(100, 2_000)
    for number in range(count):
        harm.did("mutated models")
        content = mutated(whole, np.random.default_rng([number, 1]))
        overwrite(path, content)
        if survives(lambda: check_same(network, xpnet.load(path)), number):
            refused += 1
        else:
            assert content == whole, number
    assert refused > count / 2


@linux
@pytest.mark.guarantee("fuzz")
def test_mutated_models_of_the_format_without_a_check_sum(tmp_path, harm):
    """They cannot be known to be what was written, but what is read is a network that predicts."""
    whole = (FIXTURES / "xpnet-model-1.safetensors").read_bytes()
    path = tmp_path / "m.safetensors"
    x = np.zeros((1, 4), np.float32)

    def use() -> None:
        network = xpnet.load(path)
        with np.errstate(all="ignore"):
            assert network.predict_proba(x).shape[1:] == (1, network.config.classes)

    for number in range(harm.times(100, 2_000)):
        harm.did("mutated models")
        overwrite(path, mutated(whole, np.random.default_rng([number, 2])))
        survives(use, number)


@linux
@pytest.mark.guarantee("fuzz", "corruption", "checkpoints")
@pytest.mark.parametrize("suffix", [".json", ".safetensors"])
def test_mutated_checkpoints(tmp_path, suffix, harm):
    """A mutation that is read has changed nothing."""
    for source in (FIXTURES / "xpnet-checkpoint-1").iterdir():
        (tmp_path / source.name).write_bytes(source.read_bytes())
    path = tmp_path / "step-000000045.json"
    victim = path.with_suffix(suffix)
    whole = victim.read_bytes()
    expected = repr(content_of(path))
    refused, count = 0, harm.times(100, 2_000)
    for number in range(count):
        harm.did("mutated checkpoints")
        rng = np.random.default_rng([number, 3])
        overwrite(victim, mutated(whole, rng) if suffix != ".json" else one_of_three(whole, number, suffix))
        found: list[str] = []
        if survives(lambda found=found: found.append(repr(content_of(path))), number):
            refused += 1
        else:
            assert found == [expected], number
    assert refused > count / 2


def content_of(path: Path) -> Any:
    """Return all that a checkpoint says, tensors by their bytes."""
    snapshot, about = read_checkpoint(path)
    found = {field.name: getattr(snapshot, field.name) for field in dataclasses.fields(snapshot)}
    for group in ("parameters", "running", "velocities"):
        found[group] = {name: tensor.tobytes() for name, tensor in sorted(found[group].items())}
    return found, sorted(about.items())
