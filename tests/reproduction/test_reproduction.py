"""The reports as data: what is read from their files, what is drawn, run, and set side by side."""

from __future__ import annotations

import dataclasses
import json
import re
from pathlib import Path

import numpy as np
import pytest
from calls import Calls

import xpnet
from xpnet.errors import ConfigError
from xpnet.nn.network import Network
from xpnet.report.reproduction_chart import drawings, reproduction_files
from xpnet.report.reproduction_markdown import grids, markdown, markdown_page
from xpnet.reproduction import REPORTS, CellOutcome, Experiment, Outcome, Reported, Runner, choose, load
from xpnet.reproduction.compare import compare, plateau, spread, words_of
from xpnet.reproduction.runner import shortened
from xpnet.reproduction.sampling import cells_of, matches

EVERY = choose(["all"])
SMALL = {"hidden": [6], "n_s": 8, "cycles": 1, "batch_size": 50}


def experiment(**changes) -> Experiment:
    return Experiment(
        **{"report": "A", "id": "x", "source": "here", "what": "a test", "settings": SMALL, "runs": 2} | changes
    )


@pytest.fixture
def runner(blobs) -> Runner:
    return Runner(xpnet.get_backend("cpu"), load=lambda source, split: blobs)


@pytest.mark.parametrize("one", EVERY, ids=lambda e: e.name)
def test_every_experiment_is_a_valid_setting_and_every_figure_has_a_cell(one):
    cells = one.cells or cells_of(one, [CellOutcome({"lambda": v}, [0]) for v in (0.01, 0.001)])
    for cell in cells:
        both = {k: v for k, v in {**one.settings, **cell}.items() if k != "choose"}
        xpnet.Settings.from_mapping(both)
    if one.draw is None:
        for at in [*(r.at for r in one.reported), *(f.get("at", {}) for f in one.figures)]:
            assert sum(matches(cell, at) for cell in cells) == 1 or not at, f"{one.name}: {at}"
    assert one.what
    assert one.source


@pytest.mark.parametrize("one", [one for one in EVERY if one.kind == "gradcheck"], ids=lambda e: e.name)
def test_a_checked_network_has_every_parameter_that_the_report_has_errors_of(one):
    for cell in one.cells:
        both = {k: v for k, v in {**one.settings, **cell}.items() if k != "choose"}
        network = Network(xpnet.Settings.from_mapping(both).network_config(30, 10))
        told = {r.figure for r in one.reported if matches(cell, r.at)} - {"worst"}
        assert told <= set(network.parameters)


def test_titles_of_figures_can_be_printed():
    titles = [entry.get("title", f"figure {entry['name']}") for one in EVERY for entry in one.figures]
    assert len(titles) > 50
    assert [t for t in titles if not re.fullmatch(r"figure \d+( [ab])?|exercise \d(, costs|, loss)?", t)] == []
    one = experiment(figures=({"name": "with, 1e-1", "title": "exercise 5", "at": {}, "show": ["loss"]},))
    cell = CellOutcome({"batch_norm": True, "init": 0.1}, [0], history={"train_loss": np.ones((2, 1))})
    cell.history["validation_loss"] = np.ones((2, 1))
    (drawing,) = drawings(one, Outcome("A.x", [cell], 1.0))
    assert drawing.stem == "A-x-with-1e-1"
    assert drawing.title == "Report A, exercise 5: with BN, σ = 0.1"
    assert drawing.short == "Exercise 5: with BN, σ = 0.1"


def test_the_committed_tables_are_those_of_the_results():
    folder = Path(__file__).parents[2] / "docs" / "reproduction"
    text = (folder / "README.md").read_text(encoding="utf-8")
    outcomes = {name: Outcome.from_json(o) for name, o in json.loads((folder / "results.json").read_text()).items()}
    assert set(outcomes) == {one.name for one in EVERY}
    about = next(line for line in text.splitlines() if line.startswith("`xpnet reproduce all`"))
    figures: dict[str, list[str]] = {}
    for name, path in re.findall(r"!\[([\w.-]+)\]\(([^)]*)\)", text):
        figures.setdefault(name, []).append(path)
    assert text == markdown_page(EVERY, outcomes, about, figures)


def test_the_reports_main_figures_are_there():
    named = {one.name: one for one in EVERY}
    assert len(load("B").experiments) == 10
    assert len(named["B.coarse"].reported) == 90
    assert Reported({"batch_norm": True}, "test_accuracy", 0.5355) in named["C.bn3"].reported
    assert Reported({"batch_norm": True}, "test_accuracy", 0.31762, 0.01128) in named["B.bn6"].reported
    assert named["E.bn3"].reported[0].figure == "validation_accuracy@25"
    assert [len(named[name].cells) for name in ("A.bn3", "A.sigma", "E.rates", "A.gradcheck")] == [2, 6, 6, 4]
    assert {one.report for one in EVERY} == set(REPORTS)


def test_names_choose():
    assert [one.name for one in choose(["D.model2", "D.model1"])] == ["D.model1", "D.model2"]
    assert len(choose(["A", "A.bn3"])) == 7
    with pytest.raises(ConfigError, match=r"A\.bn33: is neither a report nor an experiment; did you mean A\.bn3\?"):
        choose(["A.bn33"])


def test_a_file_with_an_unknown_key_is_refused(tmp_path):
    (tmp_path / "A.toml").write_text(
        'title = "t"\n[[experiment]]\nid = "x"\nsource = "s"\nwhat = "w"\nseetings = {}\n', encoding="utf-8"
    )
    with pytest.raises(ConfigError, match=r"A\.toml, experiment x: seetings: there is no such key"):
        load("A", tmp_path)


def test_draws_are_a_function_of_their_seed():
    uniform = experiment(draw={"name": "lambda", "how": "uniform", "low": 1.0, "high": 2.0, "count": 50, "seed": 3})
    cells = cells_of(uniform)
    assert cells == cells_of(uniform)
    assert len(cells) == 50
    assert all(1 <= cell["lambda"] <= 2 for cell in cells)
    both = {"name": ["eta", "lambda"], "how": "log-uniform", "low": [1e-3, 1e-5], "high": [1e-2, 1e-4], "count": 9}
    assert all(1e-3 <= c["eta"] <= 1e-2 and 1e-5 <= c["lambda"] <= 1e-4 for c in cells_of(experiment(draw=both)))
    grid = experiment(draw={"name": "lambda", "how": "logspace", "low": 1e-5, "high": 1e-1, "count": 5})
    np.testing.assert_allclose([c["lambda"] for c in cells_of(grid)], [1e-5, 1e-4, 1e-3, 1e-2, 1e-1])
    with pytest.raises(ConfigError, match=r"how = odd: must be log10"):
        cells_of(experiment(draw={"name": "lambda", "how": "odd", "low": 1, "high": 2}))


def test_the_rule_around_takes_the_distance_of_the_two_best():
    coarse = [
        CellOutcome({"lambda": 10.0**e}, [0], {"validation_accuracy": [a]})
        for e, a in ((-4.0, 0.1), (-3.0, 0.5), (-2.5, 0.6), (-1.0, 0.2))
    ]
    rule = experiment(draw={"name": "lambda", "how": "around", "of": "coarse", "count": 200})
    exponents = np.log10([cell["lambda"] for cell in cells_of(rule, coarse)])
    assert -3.0 <= exponents.min() < -2.95
    assert -2.05 < exponents.max() <= -2.0


def test_cells_that_stack_train_together_and_equal_their_solo_runs(runner, blobs):
    cells = [{"batch_norm": norm, "lambda": lam} for norm in (True, False) for lam in (0.0, 0.1)]
    outcome = runner.run(experiment(cells=tuple(cells), settings={**SMALL, "dtype": "float64"}))
    for cell, found in zip(cells, outcome.cells, strict=True):
        assert found.values == cell
        assert found.seeds == [0, 1]
        for seed in (0, 1):
            own = xpnet.Settings.from_mapping({**SMALL, **cell, "seed": seed})
            net = Network(own.network_config(blobs.features, blobs.classes), dtype="float64", seed=seed)
            alone = xpnet.train(net, blobs, own.train)
            assert found.figures["test_cost"][seed] == pytest.approx(alone.test.cost, rel=1e-9)
            np.testing.assert_allclose(found.history["train_loss"][:, seed], alone.history["train_loss"], rtol=1e-9)


def test_a_search_gives_its_best_more_seeds_and_adds_the_reports_own_cells(runner):
    one = experiment(
        runs=3,
        top=2,
        draw={"name": "lambda", "how": "log10", "values": [-4.0, -3.0, -2.0, 0.0]},
        reported=(
            Reported({"lambda": 1e-3}, "validation_accuracy", 0.5),
            Reported({"lambda": 0.02}, "validation_accuracy", 0.5),
        ),
    )
    outcome = runner.run(one)
    drawn, own = outcome.cells[:4], outcome.cells[4:]
    assert sorted(len(cell.seeds) for cell in drawn) == [1, 1, 3, 3]
    first = [cell.figures["validation_accuracy"][0] for cell in drawn]
    worst_of_best = min(f for f, cell in zip(first, drawn, strict=True) if len(cell.seeds) == 3)
    assert worst_of_best >= max(f for f, cell in zip(first, drawn, strict=True) if len(cell.seeds) == 1)
    assert [cell.values for cell in own] == [{"lambda": 0.02}]
    assert own[0].seeds == [0, 1, 2]
    assert own[0].note == "not drawn here: the report's"
    assert drawn[0].history["train_loss"].shape[1] == len(drawn[0].seeds)


def test_what_diverges_is_told(runner):
    cells = ({"eta_max": 0.1}, {"eta_max": 1e30})
    outcome = runner.run(experiment(cells=cells, settings={**SMALL, "batch_norm": False}))
    assert np.isfinite(outcome.cells[0].mean("test_accuracy"))
    assert outcome.cells[1].note == "diverged with seeds 0, 1"
    assert np.isnan(outcome.cells[1].runs("test_accuracy")).all()
    assert "diverged" in markdown(compare(experiment(cells=cells), outcome), "train")


def test_gradient_checks_are_of_the_asked_samples(runner):
    one = experiment(
        kind="gradcheck",
        settings={"hidden": [4], "bias_before_bn": True, "lambda": 0.0},
        check={"features": 5, "samples": 20},
        cells=({"seed": 1, "choose": "first"}, {"seed": 1, "choose": "random"}),
        reported=(Reported({"choose": "first"}, "W1", 1e-7),),
    )
    outcome = runner.run(one)
    assert [cell.note for cell in outcome.cells] == ["passed", "passed"]
    assert set(outcome.cells[0].parameters) == {"W1", "b1", "gamma1", "beta1", "W2", "b2"}
    assert outcome.cells[0].parameters["W1"] != outcome.cells[1].parameters["W1"]
    text = markdown(compare(one, outcome), "gradcheck")
    assert "| seed = 1, choose = first: passed | layer 1 | layer 2 |" in text
    assert "| W | 1.0e-07 / " in text
    assert "| b | - / zero | - / " in text
    assert "Zero: BN subtracts this bias again" in text


def test_a_gradient_that_is_no_error_is_told_by_the_verdict():
    cell = CellOutcome({}, [0], note="passed")
    cell.parameters = {"W1": 1e-7, "b1": 2e-5, "gamma1": 3e-6, "W2": 1e-9}
    cell.verdicts = {"W1": "passed", "b1": "zero by construction", "gamma1": "vanishing", "W2": "failed"}
    reported = tuple(Reported({}, name, 1e-8) for name in ("W1", "b1", "b2"))
    one = experiment(kind="gradcheck", reported=reported)

    def table(found: CellOutcome, of: Experiment = one) -> list:
        again = Outcome.from_json(json.loads(json.dumps(Outcome("A.x", [found], 1.0).to_json())))
        return grids(compare(of, again), "gradcheck")[0].body

    assert table(cell) == [
        ["W", "1.0e-08 / 1.0e-07", "- / 1.0e-09"],
        ["b", "1.0e-08 / zero", "1.0e-08 / no such parameter here"],
        ["gamma", "- / vanishing", ""],
    ]
    legend = grids(compare(one, Outcome("A.x", [cell], 1.0)), "gradcheck")[0].legend
    assert "Zero: BN" in legend
    assert "Vanishing: both sides" in legend
    worst = dataclasses.replace(one, reported=(Reported({}, "worst", 1e-8),))
    assert table(cell, worst) == [["worst", "1.0e-08 / 1.0e-07"]]
    cell.verdicts = {}  # of earlier versions
    assert table(cell)[1][1] == "1.0e-08 / 2.0e-05"


def test_a_quick_run_is_shorter_and_says_so(blobs):
    one = experiment(settings={**SMALL, "n_s": 40}, runs=5)
    assert shortened(one).settings["n_s"] == 4
    assert shortened(one).runs == 2
    outcome = Runner(xpnet.get_backend("cpu"), quick=True, load=lambda source, split: blobs).run(one)
    assert outcome.quick
    assert "a tenth of the steps" in markdown_page([one], {one.name: outcome}, "about", {})


@pytest.mark.parametrize(
    ("theirs", "std", "within"), [(0.50, None, True), (0.53, None, True), (0.56, None, False), (0.53, 0.01, False)]
)
def test_within_is_a_prediction_interval_or_one_of_means(theirs, std, within):
    ours = np.array([0.49, 0.50, 0.51, 0.50, 0.50])  # s = .00707: one more run within ± t(4) s sqrt(1.2) = .0215
    ours = np.concatenate([ours, ours + 0.02, ours - 0.02])
    assert spread(ours, theirs, std, 10) is within
    assert spread(ours[:1], theirs, std, 10) is None


def test_the_plateau_is_what_is_as_good_as_the_best():
    def cell(lam, *values):
        return CellOutcome({"lambda": lam}, list(range(len(values))), {"validation_accuracy": list(values)})

    outcome = Outcome("A.x", [cell(1e-4, 0.50), cell(1e-3, 0.53, 0.54, 0.535), cell(1e-2, 0.529), cell(0.1, 0.4)], 1.0)
    search = experiment(draw={"name": "lambda", "how": "log10", "values": []}, top=1)
    assert plateau(search, outcome) == (1e-3, 1e-2)
    assert plateau(experiment(), outcome) is None


def test_pages_have_tables_notes_and_pictures(runner, tmp_path):
    one = experiment(
        cells=({"batch_norm": True}, {"batch_norm": False}),
        reported=(Reported({"batch_norm": True}, "test_accuracy", 0.9, 0.01),),
        figures=({"name": "3 a", "at": {"batch_norm": False}, "show": ["loss", "accuracy"]},),
        claim="it works",
        note="Something was assumed.",
    )
    outcome = runner.run(one)
    names = list(reproduction_files(one, outcome))
    assert names == ["A-x-3-a.png", "A-x-3-a.svg", "A-x-3-a.csv"]
    assert list(reproduction_files(one, outcome, ["svg"])) == names[1:]
    names = names[:1]
    again = Outcome.from_json(json.loads(json.dumps(outcome.to_json())))
    text = markdown_page([one], {one.name: again}, "about this", {one.name: names})
    assert text == markdown_page([one], {one.name: outcome}, "about this", {one.name: names})
    parts = ["# The five reports", "about this", "### A.x: a test", "0.9000 ± 0.0100", "with BN", "![A.x](A-x-3-a.png)"]
    parts += ["The report concludes: it works.", "Something was assumed."]
    assert [part for part in parts if part not in text] == []
    search = dataclasses.replace(
        one, draw={"name": "lambda", "how": "log10", "values": [-3.0, -2.0]}, figures=(), cells=(), reported=()
    )
    assert next(iter(reproduction_files(search, runner.run(search)))) == "A-x-search.png"


def test_a_figure_after_an_epoch_stands_beside_the_final_one():
    cell = CellOutcome({}, [0, 1], {"validation_accuracy": [0.6, 0.7]})
    cell.history["validation_accuracy"] = np.array([[0.1, 0.2], [0.3, 0.5]])
    one = experiment(reported=(Reported({}, "validation_accuracy@2", 0.4),))
    rows = {row.figure: row for row in compare(one, Outcome("A.x", [cell], 1.0))}
    assert rows["validation_accuracy@2"].ours == (0.4, pytest.approx(0.1414, abs=1e-4), 2)
    assert rows["validation_accuracy"].ours[0] == pytest.approx(0.65)
    assert rows["validation_accuracy"].theirs is None


def test_steps_are_told_while_they_are_taken(runner):
    steps = []
    runner.run(experiment(), [Calls(on_steps=steps.append)])
    assert sum(steps) == 16  # two cycle halves of eight, two seeds at once


def test_words():
    assert words_of({"batch_norm": True, "init": 0.001, "hidden": [5, 4]}) == "with BN, σ = 0.001, 5-4"
    assert words_of({}) == "all"
