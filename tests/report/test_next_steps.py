"""The command that follows a conclusion's advice."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
from report_cases import search, small

import xpnet
from xpnet.cli import main
from xpnet.report.next_steps import next_steps
from xpnet.report.records import read_run


@pytest.mark.parametrize(
    ("rule", "changed"),
    [
        ("overfits", "--lambda 0.015"),
        ("rate-too-small", "--eta-max 0.3"),
        ("rate-too-large", "--eta-max 0.03333"),
        ("still-learning", "--epochs 6"),
        ("settled", ""),
    ],
)
def test_next_step_is_the_command_with_what_the_conclusion_advises(rule, changed):
    record = read_run(small(out="run"))
    record = dataclasses.replace(record, metrics={**record.metrics, "conclusion": {"text": "", "rule": rule}})
    steps = next_steps(record)
    assert [command for _, command in steps] == ([f"xpnet train --config run {changed}"] if changed else [])


@pytest.mark.slow
def test_next_step_is_a_command_that_trains():
    record = read_run(small(out="run"))
    record = dataclasses.replace(record, metrics={**record.metrics, "conclusion": {"text": "", "rule": "overfits"}})
    ((_, command),) = next_steps(record)
    main([*command.split()[1:], "--out", "next", "--quiet", "--figures", "none"])
    assert xpnet.list_runs("next")[0].settings["lambda"] == pytest.approx(0.015)


def test_next_step_of_several_combinations_is_in_their_table():
    record = read_run(small("--lambda", "0.001,0.1", out="run"))
    record = dataclasses.replace(record, metrics={**record.metrics, "conclusion": {"text": "", "rule": "overfits"}})
    assert next_steps(record) == []


@pytest.mark.thorough
def test_page_of_a_search_has_the_command_for_its_best_settings():
    folder = search(Path("found"))
    (folder / "best.toml").write_text("")
    assert "xpnet train --config found/best.toml --runs 3" in xpnet.write_report(folder).page.read_text()
