"""Every file that a run, a search or a reproduction leaves, mutated: it is read, or refused in one sentence."""

from __future__ import annotations

import csv
import dataclasses
import functools
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
from examples import every
from harms import bounded, mutated
from harms_of_text import mutated_text, mutated_values, overwrite

import xpnet
from xpnet.config.settings import read_settings
from xpnet.errors import XpnetError
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


def is_refused(read: Callable[[], Any], number: int) -> bool:
    """Read, and return whether that was refused in one sentence."""
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


def refusals(victim: Path, read: Callable[[], Any], count: int, mutate: Callable[[bytes, int], bytes]) -> int:
    """Mutate a file so often; return how many mutations were refused."""
    assert not is_refused(read, -1)
    content, refused = victim.read_bytes(), 0
    for number in range(count):
        overwrite(victim, mutate(content, number))
        refused += is_refused(read, number)
    return refused


# How often a file is mutated and shown; of a history little that is changed can be shown.
SHOWN = {
    "config.toml": 30,
    "history.csv": 40,
    "metrics.json": 12,
    "environment.json": 8,
    "search.json": 15,
    "results.json": 10,
}
FILES = {"config.toml": read_settings, "search.toml": read_search}
FILES |= dict.fromkeys(("history.csv", "metrics.json", "environment.json"), read_run)


@linux
@pytest.mark.guarantee("fuzz")
@pytest.mark.parametrize("name", FILES)
def test_mutated_files_of_text(victim, name, harm):
    count = harm.times(100, 2_000)
    harm.did("mutated files of runs and searches", count)
    read = functools.partial(FILES[name], victim.parent)
    refused = refusals(victim, read, count, functools.partial(one_of_three, suffix=victim.suffix))
    assert count / 4 < refused < count, "the mutations hardly reach what is checked"


@linux
@pytest.mark.guarantee("fuzz", "untrusted")
@pytest.mark.parametrize("name", every(2, SHOWN))
def test_pages_of_folders_with_a_mutated_file(victim, name, harm):
    """A folder that is read makes a page; only its charts are not drawn here."""

    def mutate(content: bytes, number: int) -> bytes:  # bytes and tokens rarely leave anything to be shown
        return one_of_three(content, 4 * number + 2 + number % 2, victim.suffix)

    count = harm.times(max(20, SHOWN[name]), 5 * SHOWN[name])  # few mutations may all be refused
    harm.did("folders with a mutated file shown as a page", count)
    refused = refusals(victim, lambda: build_page([victim.parent]), count, mutate)
    assert refused < count, "the mutations hardly reach the page"


def of_bytes(stream: int) -> Callable[[bytes, int], bytes]:
    return lambda content, number: mutated(content, np.random.default_rng([number, stream]))


@linux
@pytest.mark.guarantee("fuzz", "corruption")
def test_mutated_models_are_refused(tmp_path, harm):
    path = Path(shutil.copy(FIXTURES / "xpnet-model-2.safetensors", tmp_path / "m.safetensors"))
    content, count = path.read_bytes(), harm.times(40, 2_000)
    harm.did("mutated models", count)

    def read() -> None:
        xpnet.load(path)
        assert path.read_bytes() == content, "a mutation was read"

    assert refusals(path, read, count, of_bytes(1)) > count / 2


@linux
@pytest.mark.guarantee("fuzz")
def test_mutated_models_without_a_check_sum_predict_or_are_refused(tmp_path, harm):
    path = Path(shutil.copy(FIXTURES / "xpnet-model-1.safetensors", tmp_path / "m.safetensors"))
    x, count = np.zeros((1, 4), np.float32), harm.times(40, 2_000)
    harm.did("mutated models", count)

    def use() -> None:
        network = xpnet.load(path)
        with np.errstate(all="ignore"):
            assert network.predict_proba(x).shape[1:] == (1, network.config.classes)

    refusals(path, use, count, of_bytes(2))


@linux
@pytest.mark.guarantee("fuzz", "corruption", "checkpoints")
@pytest.mark.parametrize("suffix", [".json", ".safetensors"])
def test_mutated_checkpoints_are_refused_or_mean_the_same(tmp_path, suffix, harm):
    shutil.copytree(FIXTURES / "xpnet-checkpoint-1", tmp_path, dirs_exist_ok=True)
    path = tmp_path / "step-000000045.json"
    expected, count = repr(content_of(path)), harm.times(40, 2_000)
    harm.did("mutated checkpoints", count)

    def read() -> None:
        assert repr(content_of(path)) == expected

    mutate = functools.partial(one_of_three, suffix=suffix) if suffix == ".json" else of_bytes(3)
    assert refusals(path.with_suffix(suffix), read, count, mutate) > count / 2


def content_of(path: Path) -> Any:
    """Return the content of a checkpoint, tensors as their bytes."""
    state, about = read_checkpoint(path)
    found = {field.name: getattr(state, field.name) for field in dataclasses.fields(state)}
    for group in ("parameters", "running", "velocities"):
        found[group] = {name: tensor.tobytes() for name, tensor in sorted(found[group].items())}
    return found, sorted(about.items())
