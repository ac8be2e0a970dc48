"""Runs of many networks and epochs: their history is read line by line, and their page stays a page."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from report_cases import small

from xpnet.errors import RunError
from xpnet.report import blocks, inspection, records, run_page
from xpnet.report.compare_page import compare_page
from xpnet.report.records import read_run
from xpnet.report.run_page import run_page as page_of
from xpnet.runs import records as run_records
from xpnet.runs.records import read_history


def longer(folder: Path, epochs: int) -> Path:
    """Let the history of a run have many epochs, each of its own."""
    head, *rows = (folder / "history.csv").read_text().splitlines()
    rows = rows[: len(rows) // 3]
    lines = [head]
    for epoch in range(1, epochs + 1):
        for row in rows:
            cells = row.split(",")
            cells[0], cells[4] = str(epoch), str(float(cells[4]) / epoch)
            lines.append(",".join(cells))
    (folder / "history.csv").write_text("\n".join(lines) + "\n")
    return folder


@pytest.mark.parametrize("lines", [1, 7, 20_000])
@pytest.mark.parametrize("members", [[0], [2, 0], [1, 2, 3], None])
def test_a_history_of_some_networks_is_that_of_all(members, lines, monkeypatch):
    folder = longer(small("--runs", "4", out="run"), 5)
    whole = read_history(folder / "history.csv", 4)
    monkeypatch.setattr(run_records, "_LINES", lines)
    found = read_history(folder / "history.csv", 4, members)
    assert found.keys() == whole.keys()
    assert found["epoch"].tolist() == [1, 2, 3, 4, 5]
    for column, values in whole.items():
        of = values if values.ndim == 1 or members is None else values[:, members]
        np.testing.assert_array_equal(found[column], of)


@pytest.mark.thorough
def test_a_history_is_kept_as_numbers_of_the_networks_that_are_wanted(tmp_path):
    import tracemalloc

    row = "1,9,{},0.001,2.3,2.3,0.1,2.3,2.3,0.1,0.5,0.25"
    text = "\n".join([",".join(run_records.COLUMNS), *(row.format(r) for r in range(60_000))]) + "\n"
    (tmp_path / "history.csv").write_text(text)
    tracemalloc.start()
    found = read_history(tmp_path / "history.csv", 60_000, [7])
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert found["validation_loss"].tolist() == [[2.3]]
    assert peak < 3 * len(text)  # some lines at a time, whatever there are


def test_a_history_of_more_epochs_than_are_read_is_a_sentence(monkeypatch):
    folder = longer(small(out="run"), 9)
    monkeypatch.setattr(run_records, "MOST_EPOCHS", 8)
    with pytest.raises(RunError, match="has more than 8 epochs, the most that are read"):
        read_history(folder / "history.csv", 1)
    (folder / "history.csv").write_text("x" * 5000)
    with pytest.raises(RunError, match="line 1 lacks the columns"):
        read_history(folder / "history.csv", 1)
    (folder / "history.csv").write_text(",".join(run_records.COLUMNS) + "\n" + "1" * 5000)
    with pytest.raises(RunError, match="line 2: is longer than 1,024 bytes"):
        read_history(folder / "history.csv", 1)


def test_the_page_of_a_large_run_shows_some_and_says_so(monkeypatch):
    folder = longer(small("--runs", "6", "--lambda", "0.001,0.1", out="run"), 50)
    everything = read_run(folder)
    monkeypatch.setattr(records, "MOST_FIGURES", 200)
    monkeypatch.setattr(blocks, "EPOCHS", 10)
    monkeypatch.setattr(run_page, "MOST_ROWS", 5)
    monkeypatch.setattr(run_page, "MOST_POINTS", 4)
    monkeypatch.setattr(inspection, "MOST_NETWORKS", 3)
    record = read_run(folder)
    best = record.best()[1]
    assert set(record.kept) < set(best)
    np.testing.assert_array_equal(record.curve("train_loss", best), everything.curve("train_loss", record.known(best)))
    assert any(f"of {len(record.kept)} of the 6 best networks" in note for note in record.notes)
    sections = {section.name: section.blocks for section in page_of(record, None, "").sections}
    compared = compare_page([record, everything], None, "").sections
    for page, words in (
        (sections.values(), "Of 50 epochs 10 are shown"),
        (sections.values(), "Of 12 networks the table shows the 5 best"),
        (sections.values(), "The chart shows 4 of 12 networks"),
        (sections.values(), "These are 3 of the 6 best networks"),
        ([section.blocks for section in compared], "Of 50 epochs 10 are shown"),
    ):
        assert any(words in block.words for blocks in page for block in blocks if block.kind == "text"), words
    panels = {panel.name: panel for block in sections["curves"] if block.kind == "panels" for panel in block.panels}
    assert [row["x"] for row in panels["loss"].rows if row["s"] == "training"][::9] == [1, 50]
    assert len(sections["networks"][-1].rows) == 5


def test_figures_that_nobody_has_found_are_not_called_diverged():
    import json

    folder = small("--runs", "2", out="run")
    metrics = json.loads((folder / "metrics.json").read_text())
    nothing = {"mean": None, "std": None, "values": [None, None]}
    metrics["test"] = dict.fromkeys(("accuracy", "loss", "cost"), nothing)
    (folder / "metrics.json").write_text(json.dumps(metrics))
    sections = page_of(read_run(folder), None, "").sections
    text = repr([section.blocks for section in sections])
    assert "The test set was not looked at in this run." in text
    assert "diverged" not in text
    assert not [section for section in sections if section.name == "mistakes"]
