"""The display of a search while it runs and at its end."""

from __future__ import annotations

import io
from types import SimpleNamespace

import pytest
from rich.console import Console

from xpnet.cli.console import Output
from xpnet.cli.search_display import SearchDisplay, trials_table
from xpnet.tuning.trials import Outcome, Trial


def outcome(workers=("me",)):
    known = {"accuracies": (0.5,), "losses": (1.5,), "epochs": 4}
    trials = (
        Trial(0, 0, "complete", {"lambda": 0.1}, 0.5, **known),
        Trial(1, 1, "complete", {"lambda": 0.2}, 0.6, **known),
        Trial(2, 1, "pruned", {"lambda": 0.3}, 0.4, **known, cycle=2),
    )
    return Outcome(("lambda",), (0,), trials, (None, None), workers)


def test_trials_table_counts_rounds_from_1_and_says_pruned():
    console = Console(file=io.StringIO(), width=200)
    console.print(trials_table(outcome(), 10))
    rows = [line.split() for line in console.file.getvalue().splitlines()]
    rows = {row[0]: row for row in rows if row and row[0].isdigit()}
    assert {trial: row[1] for trial, row in rows.items()} == {"0": "1", "1": "2", "2": "2"}
    assert rows["2"][-2:] == ["4", "pruned"]
    assert "pruned" not in rows["1"]


@pytest.mark.parametrize(
    ("workers", "words"), [(("me",), "0.2"), (("me", "you"), "; 1 other worker"), (tuple("abc"), "; 2 other workers")]
)
def test_display_prints_a_line_for_each_change_without_a_terminal(capsys, workers, words):
    rounds = SimpleNamespace(config=SimpleNamespace(rounds=2))
    SearchDisplay(rounds, Output()).show(outcome(workers))
    line = capsys.readouterr().err.strip()
    assert line.startswith("round 2 of 2: 2 complete, 1 pruned; best 60.00 % with lambda 0.2")
    assert line.endswith(words)
