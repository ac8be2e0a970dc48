"""The command that follows a conclusion's advice."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest
from report_cases import search, small

import xpnet
from xpnet.cli import main
from xpnet.report.next_steps import next_steps
from xpnet.report.records import RunRecord, read_run


def with_evidence(record: RunRecord, **evidence: Any) -> RunRecord:
    """Return a run whose conclusion has this evidence."""
    conclusion = {"text": "", "rule": "overfits", "evidence": evidence}
    return dataclasses.replace(record, metrics={**(record.metrics or {}), "conclusion": conclusion})


@pytest.mark.parametrize(
    ("evidence", "changed"),
    [
        ({"try": {"lambda": 0.015}}, "--lambda 0.015"),
        ({"try": {"cv": 5}}, "--cv 5"),
        ({"try": {"flip": "random", "shift": 2}}, "--flip random --shift 2"),
        ({"try": {"lambda": [0.01, 0.1], "runs": 3}}, "--lambda 0.01,0.1 --runs 3"),
        ({"try": {"hidden": [12]}}, "--hidden 12"),
        ({"also": {"rule": "still-learning", "try": {"epochs": 6.0}}}, "--epochs 6"),
        ({"try": {}}, ""),
        ({"gap": 0.1}, ""),
        ({"try": {"lambda": -1}}, ""),
        ({"try": {"lambda; rm -rf ~": 1}}, ""),
        ({"try": {"nesterov": True}}, ""),  # without momentum
        ({"try": {"batch_norm": False}}, "--no-batch-norm"),
        ({"try": {"lambda": True}}, ""),
        ({"try": "lambda"}, ""),
        ({"try": {"data": "; echo"}}, "--data '; echo'"),
    ],
)
def test_next_step_is_the_command_with_what_the_conclusion_advises(evidence, changed):
    steps = next_steps(with_evidence(read_run(small(out="run")), **evidence))
    assert [command for _, command in steps] == ([f"xpnet train --config run {changed}"] if changed else [])


def test_next_step_of_a_learning_rate_has_the_test_of_rates():
    steps = next_steps(with_evidence(read_run(small(out="run")), **{"try": {"eta_max": 0.3}}))
    assert [command for _, command in steps] == [
        "xpnet train --config run --eta-max 0.3",
        "xpnet lr-range --config run",
    ]


def test_next_step_that_the_run_has_taken_is_none():
    assert next_steps(with_evidence(read_run(small("--cv", "3", out="run")), **{"try": {"cv": 3}})) == []


def test_next_step_of_several_settings_is_a_command_with_their_new_values():
    record = read_run(small("--lambda", "0.001,0.1", out="run"))
    ((_, command),) = next_steps(with_evidence(record, **{"try": {"lambda": [0.1, 1.0], "runs": 3}}))
    assert command == "xpnet train --config run --lambda 0.1,1 --runs 3"


def test_next_step_of_a_list_of_seeds_is_runs_from_its_first():
    record = read_run(small("--seed", "4,7", "--lambda", "0.001,0.1", out="run"))
    ((_, command),) = next_steps(with_evidence(record, **{"try": {"lambda": 0.1, "runs": 4}}))
    assert command == "xpnet train --config run --seed 4 --lambda 0.1 --runs 4"


@pytest.mark.slow
def test_next_step_is_a_command_that_trains():
    record = with_evidence(read_run(small(out="run")), **{"try": {"lambda": [0.015, 0.15], "flip": "random"}})
    ((_, command),) = next_steps(record)
    main([*command.split()[1:], "--out", "next", "--quiet", "--figures", "none"])
    (entry,) = xpnet.list_runs("next")
    assert (entry.settings["lambda"], entry.settings["flip"]) == ([0.015, 0.15], "random")


@pytest.mark.thorough
def test_page_of_a_search_has_the_command_for_its_best_settings():
    """Three seeds did not tell its best trials apart: twice as many may."""
    folder = search(Path("found"))
    (folder / "best.toml").write_text("")
    assert "xpnet train --config found/best.toml --runs 6" in xpnet.write_report(folder).page.read_text()
