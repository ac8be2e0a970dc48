"""Commands of several processes that meet in a folder at the same moment: nothing is mixed or incomplete."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import together
from together import REPRODUCE, Caller, ready

from xpnet.config.settings import read_config
from xpnet.report.records import read_run

pytestmark = [pytest.mark.slow, pytest.mark.guarantee("concurrency")]

TINY = ["--data", "patterns:300/100", "--hidden", "4", "--device", "cpu", "--quiet", "--json"]
SMALL = [*TINY, "--epochs", "2"]
RUN_FILES = {"config.toml", "environment.json", "history.csv", "metrics.json", "model.safetensors"}
RUN_FILES |= {"curves.png", "curves.svg", "checkpoints"}


@pytest.fixture(scope="module")
def callers(tmp_path_factory) -> Iterator[list[Caller]]:
    """Yield three processes that have trained."""
    with ready("train", *SMALL, "--out", folder=tmp_path_factory.mktemp("warm")) as made:
        yield made


@pytest.fixture
def run(callers: list[Caller]) -> Path:
    """Return the folder of a run."""
    assert callers[0].call("train", *SMALL, "--out", "run").code == 0
    return Path("run")


def test_trainings_into_one_folder_one_gets_it(callers: list[Caller], harm):
    for seed, caller in enumerate(callers):
        assert caller.call("train", *SMALL, "--seed", seed, "--out", f"alone-{seed}").code == 0
    rounds, met = harm.times(2, 6), 0
    for number in range(rounds):
        out = Path("deep", str(number), "same")
        done = together.at_once(
            callers, *(["train", *SMALL, "--seed", seed, "--out", out] for seed in range(len(callers)))
        )
        (winner,) = (seed for seed, one in enumerate(done) if one.code == 0)
        met += len(done) - 1
        for seed, one in enumerate(done):
            if seed != winner:
                assert one.err.startswith(f"xpnet: out = {out}: exists already, and nothing is overwritten; type --out")
                assert one.out == ""
        assert {path.name for path in out.iterdir()} == RUN_FILES
        assert read_config(out)["seed"] == winner
        assert json.loads((out / "metrics.json").read_text()) == json.loads(done[winner].out)
        assert (out / "model.safetensors").read_bytes() == Path(f"alone-{winner}", "model.safetensors").read_bytes()
        assert len(read_run(out).history["epoch"]) == 2
    harm.did("trainings begun at once in a folder that another got", met)


def test_trainings_without_a_name_get_their_own_folders(callers: list[Caller], harm):
    rounds = harm.times(2, 6)
    for number in range(rounds):
        done = together.at_once(callers, *(["train", *SMALL, "--seed", seed] for seed in range(len(callers))))
        folders = [Path(json.loads(one.out)["run"]) for one in done]
        assert len({*Path("runs").iterdir()}) == len(callers) * (number + 1)
        for seed, folder in enumerate(folders):
            assert read_config(folder)["seed"] == seed
            assert {path.name for path in folder.iterdir()} == RUN_FILES
    harm.did("trainings begun in the same second without a name", rounds * len(callers))


def words(svg: Path) -> list[str]:
    """Return the texts of a figure; the names of its gradients differ from one drawing to the next."""
    return re.findall(r">([^<>]+)</text>", svg.read_text())


def test_figures_of_one_name_one_is_written(callers: list[Caller], run: Path, harm):
    sets = ("train", "validation", "test")
    for which in sets:
        callers[0].call("evaluate", run, "--on", which, "--figure", which)
    rounds = harm.times(2, 6)
    for number in range(rounds):
        stem = Path(f"figure-{number}")
        done = together.at_once(callers, *(["evaluate", run, "--on", which, "--figure", stem] for which in sets))
        (winner,) = (which for which, one in zip(sets, done, strict=True) if one.code == 0)
        for one in done:
            assert one.code == 0 or "exists already" in one.sentence
        assert stem.with_suffix(".png").read_bytes() == Path(winner + ".png").read_bytes()
        assert words(stem.with_suffix(".svg")) == words(Path(winner + ".svg"))
    harm.did("figures drawn at once under a name that another got", rounds * (len(callers) - 1))


def test_reports_of_a_run_are_numbered_and_of_one_name_one_is_written(callers: list[Caller], run: Path, harm):
    rounds = harm.times(1, 3)
    for number in range(1, rounds + 1):
        done = together.at_once(callers, *(["report", run, "--json"] for _ in callers))
        pages = {json.loads(one.out)["page"] for one in done}
        assert len(pages) == len({*run.glob("report*.html")}) / number == len(callers)
        done = together.at_once(callers, *(["report", run, "--out", f"new-{number}/page.html"] for _ in callers))
        assert sorted(one.code for one in done) == [0, 2, 2]
        assert all(one.code == 0 or "page.html: exists already" in one.sentence for one in done)
    for page in (*run.glob("report*.html"), *Path().glob("new-*/page.html")):
        assert page.read_text().rstrip().endswith("</html>")
    harm.did("reports of one run written at once", rounds * 2 * len(callers))


def test_reproductions_into_one_folder_one_gets_it(callers: list[Caller], harm):
    done = together.at_once(callers[:2], *(["--out", "same", "--quiet"] for _ in range(2)), python=REPRODUCE)
    assert sorted(one.code for one in done) == [0, 2], done
    assert any("out = same: exists already" in one.sentence for one in done)
    kept = json.loads(Path("same", "results.json").read_text())
    assert list(kept) == ["D.model1"]
    assert {path.name for path in Path("same").iterdir()} >= {"README.md", "environment.json", "D-model1-1.png"}
    assert not list(Path("same").glob(".*"))
    harm.did("reproductions begun at once in a folder that another got")


def test_reading_a_run_while_it_is_written_gives_complete_epochs(callers: list[Caller], harm):
    trainer, *readers = callers
    assert readers[1].call("train", *SMALL, "--out", "before").code == 0
    # So many that the rows of an epoch are more than what is written at once.
    trainer.ask("train", *TINY, "--epochs", harm.times(24, 48), "--runs", "60", "--out", "run")
    while not Path("run", "config.toml").is_file():
        assert not trainer.has_ended()
    readers[0].ask("report", "run", "--quiet", "--out", "early.html")
    readers[1].ask("evaluate", "run", "--quiet")
    answers, seen = [readers[1].answer()], []
    readers[1].ask("report", "before", "run", "--quiet", "--out", "both.html")
    while not trainer.has_ended():
        seen.append(read_run(Path("run")).history)
    answers += [reader.answer() for reader in readers]
    assert trainer.answer().code == 0
    assert all(one.code == 0 or one.sentence.startswith("run") for one in answers), answers
    complete = read_run(Path("run")).history
    lengths = []
    for history in filter(None, seen):
        lengths.append(len(history["epoch"]))
        for name, values in history.items():
            np.testing.assert_array_equal(values, complete[name][: lengths[-1]])
    assert lengths == sorted(lengths)
    assert len(set(lengths)) > 3
    harm.did("readings of a run while it was written", len(seen) + len(answers))
