"""The lines of a file that the rows of its table are on."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import xpnet

# Lines that are no rows, cells of several lines, and a header; a row is its number in its first column.
_FILES = {
    "plain": lambda n: "".join(f"{i},{i % 2}\n" for i in range(n)),
    "header": lambda n: "value,label\n" + "".join(f"{i},{i % 2}\n" for i in range(n)),
    "blank": lambda n: "value,label\n\n" + "".join(f"{i},{i % 2}\n" + "\n" * (i % 7 == 3) for i in range(n)),
    "quoted": lambda n: "value,text,label\n" + "".join(f'{i},"a\nb{i % 3}",{i % 2}\n' for i in range(n)),
}


@pytest.mark.parametrize("kind", _FILES)
def test_lines_of_the_test_samples_are_those_of_the_file(kind):
    text = _FILES[kind](200)
    Path("some.csv").write_text(text)
    data = xpnet.load_data(xpnet.DataConfig(data="some.csv", target="-1"))
    lines = text.splitlines()
    rows = data.test.x[:, 0].astype(int).tolist()
    assert data.test.lines is not None
    of_rows = [lines[line - 1] for line in data.test.lines]
    if kind == "quoted":  # the last line of the cell
        assert [line.split('"')[0] for line in of_rows] == [f"b{row % 3}" for row in rows]
        assert [lines[line - 2].split(",")[0] for line in data.test.lines] == list(map(str, rows))
    else:
        assert [line.split(",")[0] for line in of_rows] == list(map(str, rows))
    assert data.train.lines is None


def test_lines_of_a_test_table_are_in_its_order():
    Path("train.csv").write_text("".join(f"{i},{i % 2}\n" for i in range(40)))
    Path("test.csv").write_text("\n\n" + "".join(f"{i},{i % 2}\n" for i in range(10)))
    assert xpnet.load_data(xpnet.DataConfig(data="train.csv", target="1")).test.lines.tolist() == list(range(3, 13))


def test_lines_of_data_that_is_no_text_are_unknown():
    data = xpnet.data_from_arrays(np.random.default_rng(0).standard_normal((40, 2)), np.arange(40) % 2)
    assert data.test.lines is None
