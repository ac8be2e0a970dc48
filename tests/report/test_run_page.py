"""Sentences on the page of a run, and settings in bold."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from report_cases import small

from xpnet.analysis.prediction import load_for
from xpnet.report import inspection
from xpnet.report.blocks import settings_table
from xpnet.report.inspection import Inspection
from xpnet.report.network_sections import classes
from xpnet.report.write import build_page

pytestmark = pytest.mark.pictures


def test_page_says_in_words_how_samples_are_split_and_how_the_rate_goes():
    begun, whole = (build_page([small("--n-s", n_s, out=n_s)]) for n_s in ("5ep", "1ep"))
    assert begun.subtitle.startswith("patterns:600/200, 540 training and 60 validation samples, ")
    assert " with batch normalisation (BN)" in begun.subtitle
    titles = [[panel.title for panel in page.panels() if "learning-rate" in panel.name] for page in (begun, whole)]
    assert titles == [["Learning rate (3 of the 10 epochs of a cycle)"], ["Learning rate"]]
    said = [text.words for section in whole.sections if section.name == "curves" for text in section.blocks[:-1]]
    assert "The learning rate rises and falls in cycles of 2 epochs; figures may dip while it is high." in said


def test_page_has_the_warnings_about_its_data(monkeypatch: pytest.MonkeyPatch):
    notes = ("warning: file: is not the published one", "one file was left out")
    monkeypatch.setattr(inspection, "load_for", lambda *given: dataclasses.replace(load_for(*given), notes=notes))
    section = next(one for one in build_page([small(out="run")]).sections if one.name == "classes")
    assert section.blocks[0].words == "file: is not the published one."


def test_classes_of_which_no_pair_stands_out_begin_with_the_two_most_frequent_mistakes():
    confusion = np.array([[80, 12, 8], [20, 180, 0], [5, 0, 95]])
    found = Inspection(("a", "b", "c"), [0], confusion, [], 35, 300, np.ones((1, 300), bool))
    words, *_ = classes(found, {}, "")
    assert words.words == ("Most frequent mistakes: b taken for a (10.00 % of b), then a taken for b (12.00 % of a).")


@pytest.mark.parametrize(
    ("data", "split", "bold"),
    [("/x/cifar-10-batches-py", "45k", False), ("cifar10", "9000/1000", True), ("a.csv", "90/10", False)],
)
def test_split_is_bold_where_the_data_has_another_one(data, split, bold):
    table = settings_table({"data": data, "split": split}, "")
    assert [row[1].strong for row in table.rows if row[0].text == "split"] == [bold]
