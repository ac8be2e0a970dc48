"""The benchmark of accuracy and log-loss, on few rows, and its tables."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from bench_cases import MACHINE, PROBE

from bench import machine
from bench.__main__ import main
from bench.quality import classifiers, measure, page
from bench.quality.classifiers import CLASSIFIERS, ENSEMBLE
from bench.quality.fits import FailedError, Process, Task, TooLongError, scores
from bench.quality.sets import SETS, DataSet, Loaded
from bench.results import BenchError, read, write

pd = pytest.importorskip("pandas")
pytest.importorskip("sklearn")


@pytest.fixture(autouse=True)
def _no_probe(monkeypatch):
    monkeypatch.setattr(machine, "probe", lambda: PROBE)


def mixed(rows: int = 60) -> Loaded:
    """Return a table of numbers, some of them missing, and categories."""
    rng = np.random.default_rng(0)
    y = np.arange(rows) % 2
    colour = pd.Categorical(np.where(rng.random(rows) < 0.2, "grey", np.where(y == 1, "red", "blue")))
    frame = pd.DataFrame({"x": rng.normal(size=rows) + y, "colour": colour})
    frame.loc[::7, "x"] = np.nan
    frame.loc[5, "colour"] = np.nan
    return Loaded(frame, np.array(["no", "yes"])[y])


FAST = ("XpnetClassifier", "LogisticRegression")


@pytest.mark.filterwarnings("ignore:Stochastic Optimizer")  # scikit-learn's network has not converged
@pytest.mark.parametrize(
    "name", [*FAST, *(pytest.param(name, marks=pytest.mark.slow) for name in CLASSIFIERS if name not in FAST)]
)
def test_every_classifier_takes_a_table_with_categories_and_missing_cells(name):
    if (reason := classifiers.missing(name)) is not None:
        pytest.skip(reason)
    found = scores(name, mixed(), Task("mixed", 1, 2))
    assert found["accuracy"] > 0.6
    assert 0 < found["loss"] < 2
    assert found["seconds"] > 0


class Fake:
    """Fits nothing: accuracies by classifier and set."""

    asked: list[tuple[str, Task]] = []  # noqa: RUF012 - shared by all

    def __init__(self, name, limit):
        self._name, self._limit = name, limit

    def __call__(self, task):
        Fake.asked.append((self._name, task))
        if (self._name, task.data) == ("LogisticRegression", "hr"):
            raise TooLongError(self._limit)
        place = list(CLASSIFIERS).index(self._name)
        accuracy = 0.9 - 0.02 * place + 0.001 * task.repeat
        return {"accuracy": accuracy, "loss": 0.1 + 0.01 * place, "seconds": 1.0 + task.fold}

    def close(self):
        pass


@pytest.fixture
def fakes(monkeypatch):
    Fake.asked = []
    few = {
        name: DataSet("none", choosing, lambda rows=rows: mixed(rows))
        for name, choosing, rows in (("iris", True, 40), ("hr", False, 50), ("hpc", False, 60))
    }
    for module in (measure, page):
        monkeypatch.setattr(module, "SETS", few, raising=False)
    monkeypatch.setattr(measure, "Process", Fake)
    monkeypatch.setattr(measure, "missing", lambda name: None)


SOME = ["--sets", "hr,iris,hpc", "--classifiers", f"LogisticRegression,XpnetClassifier,{ENSEMBLE},MLPClassifier"]


def test_small_sets_are_repeated_and_a_later_command_adds_what_is_missing(fakes):
    assert main(["quality", *SOME, "--repeats", "2", "--small", "55", "--out", "found.json"]) == 0
    cases = read(Path("found.json"))["suites"]["quality"]["cases"]
    assert list(cases) == ["iris", "hr", "hpc"]
    assert list(cases["iris"]["rows"]) == ["XpnetClassifier", ENSEMBLE, "MLPClassifier", "LogisticRegression"]
    assert [len(case["rows"]["MLPClassifier"]["values"]) for case in cases.values()] == [10, 10, 5]
    assert cases["hr"]["left_out"] == {"LogisticRegression": "took more than 600 s"}
    assert cases["hr"]["what"] == "50 x 2, 2 classes, 1 of categories, 9 missing cells"
    before = len(Fake.asked)
    assert main(["quality", *SOME, "--repeats", "3", "--small", "55", "--out", "found.json"]) == 0
    new = Fake.asked[before:]
    assert {(name, task.data, task.repeat) for name, task in new} == {
        (name, data, 2) for name in ("XpnetClassifier", ENSEMBLE, "MLPClassifier") for data in ("iris", "hr")
    } | {("LogisticRegression", "iris", 2)}
    sessions = read(Path("found.json"))["sessions"]
    assert sessions[1]["command"].startswith("python -m bench quality --sets 'hr,iris,hpc' --classifiers 'Logistic")
    assert sessions[1]["command"].endswith("--repeats 3 --small 55")


def test_tables_tell_ranks_and_bars_of_the_sets_on_which_nothing_was_chosen(fakes, tmp_path):
    Path("results").mkdir()
    main(
        [
            *("quality", *SOME, "--sets", "iris", "--repeats", "3", "--out", "results/found.json"),
            *("--classifiers", f"XpnetClassifier,MLPClassifier,{ENSEMBLE}"),
        ]
    )
    main(["quality", *SOME, "--repeats", "1", "--out", "results/found.json"])
    Path("docs").mkdir()
    Path("docs/estimator.md").write_text("Before\n<!-- quality -->\n<!-- /quality -->\nafter\n")
    options = ["quality", "--page", "--results", "results", "--root", "."]
    assert main([*options, "--check"]) == 1
    assert main(options) == 0
    assert main([*options, "--check"]) == 0
    text = Path("docs/estimator.md").read_text()
    assert text.startswith("Before\n<!-- quality -->\nSets on which")
    assert "on held-out folds (5 folds of a set):" in text  # of fifteen that some classifiers have on iris, five count
    assert text.endswith("<!-- /quality -->\nafter\n")
    # On hr one classifier was left out, so that hpc alone counts.
    assert "| *mean rank, log-loss, over the sets that all have finished* | 1.00 | 2.00 | 3.00 | 4.00 |" in text
    lines = [
        "a better mean rank than `MLPClassifier` in accuracy, over the 2 sets that both have finished: 1.00 and 3.00",
        "never more than 1 point of accuracy behind it, over all folds that both have: at most -4.00 (hr, 5 folds)",
        "accuracy, at least the second best, over the sets that all have finished: place 2",
    ]
    for line in lines:
        assert f"{line}, reached\n" in text
    assert "in log-loss, the best, over the sets that all have finished: place 2, **missed**\n" in text
    assert (
        "| hpc (60 x 2, 2 classes, 1 of categories, 10 missing cells) | **90.0** / **0.100** | 88.0 / 0.110 |" in text
    )
    assert "| iris | 90.1 / 0.100 | 86.1 / 0.120 | 15 |\n\n" in text
    assert "Left out: LogisticRegression (took more than 600 s) on hr." in text


def test_what_cannot_be_measured_is_told_in_a_sentence(capsys):
    assert main(["quality", "--page", "--results", ".", "--root", "."]) == 2
    assert "has no result of python -m bench quality" in capsys.readouterr().err
    write(Path("other.json"), {"machine": MACHINE, "suites": {}})
    assert main(["quality", "--out", "other.json"]) == 2
    assert "is a result of other suites" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        main(["quality", "--sets", "iris,nothing"])
    assert "nothing: must begin with one of" in capsys.readouterr().err


@pytest.mark.slow
def test_a_fit_that_takes_too_long_is_ended_and_one_that_fails_is_told():
    process = Process("LogisticRegression", 60)
    try:
        found = process(Task("iris", 0, 0))
        assert found["accuracy"] > 0.8
        with pytest.raises(FailedError, match="IndexError"):
            process(Task("iris", 0, 9))
        process._limit = 0.001
        with pytest.raises(TooLongError, match=r"took more than 0\.001 s"):
            process(Task("digits", 0, 0))
        process._limit = 60
        assert process(Task("wine", 0, 0))["accuracy"] > 0.8
    finally:
        process.close()


@pytest.mark.parametrize("name", SETS)
def test_every_set_whose_package_is_installed_can_be_read(name):
    try:
        X, y = SETS[name].load()
    except (BenchError, ImportError) as error:
        pytest.skip(str(error))
    assert len(X) == len(y) >= 100
    assert 2 <= len(np.unique(y)) <= 10
    assert json.dumps(measure._case(name))
